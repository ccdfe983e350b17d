/*
 * dir_list.h - private to store_dir: keys below a folder, in byte order.
 *
 * Folders that cannot hold a wanted key are not opened; a folder's names are read once
 * for every page and only as many of them kept as the page has room for.
 */
#ifndef STORE_DIR_LIST_H
#define STORE_DIR_LIST_H

#include <stddef.h>

#include "base/err.h"

struct op;

/* As store_list. */
enum err dir_list(struct op *op, int root, const char *prefix, const char *after,
                  char delimiter, const char **keys, size_t *n);

#endif
