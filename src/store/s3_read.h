/*
 * s3_read.h - private to store_s3: objects and stretches of objects.
 *
 * What arrives is checked as far as the answer allows: the range and its length, that
 * it comes from an S3 store at all (an ETag), and for a whole object the checksum that
 * it was stored with, where the store tells it. What fails is garbled: asked for again,
 * and never data.
 */
#ifndef STORE_S3_READ_H
#define STORE_S3_READ_H

#include "store/s3_client.h"
#include "store/store.h"

/* As store_read says, any number of ranges. kind: S3_READ, or S3_WRITE for a read that
 * belongs to a write and does not heed op. */
enum err s3_read_ranges(struct op *op, struct s3_client *client, enum s3_kind kind,
                        struct store_range *ranges, size_t n);

/* As store_get says. */
enum err s3_read_whole(struct op *op, struct s3_client *client, const char *key,
                       size_t size_max, struct buf *out);

#endif
