/*
 * s3_upload.h - private to store_s3: writing an object.
 */
#ifndef STORE_S3_UPLOAD_H
#define STORE_S3_UPLOAD_H

#include <stdbool.h>

#include "store/s3_client.h"

struct s3_upload {
    struct s3_client *client;
    bool content_md5;
    const char *key;
    const struct slice *parts;
    size_t part_count;
};

/* PUT where nothing is; kind S3_CREATE: one attempt, as store_create says; S3_WRITE:
 * repeated, then a conflict may be with our own bytes. */
enum err s3_upload_create(struct op *op, const struct s3_upload *u, enum s3_kind kind);

/* As store_put says: whole up to 16 MiB, else in parts of which several travel at once,
 * swept up when one fails for good. */
enum err s3_upload_put(struct op *op, const struct s3_upload *u);

#endif
