/*
 * s3_list.h - private to store_s3: listing a bucket page by page, by ListObjectsV2.
 */
#ifndef STORE_S3_LIST_H
#define STORE_S3_LIST_H

#include <stdatomic.h>

#include "store/s3_client.h"

struct s3_list {
    struct s3_client *client;
    atomic_bool *by_folder; /* kept for the next list: the store walks its folders */
    const char *prefix;
    const char *after;
    char delimiter;
    const char **keys; /* room entries; on op's arena */
    size_t room;
    size_t count; /* out */
    size_t pages; /* out: asked for */
};

/* As store_list says. Objects whose names could not be ours are passed over.
 * ERR_CORRUPT: the store does not list in byte order. */
enum err s3_list_run(struct op *op, struct s3_list *list);

#endif
