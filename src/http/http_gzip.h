/*
 * http_gzip.h - gzip bodies (RFC 1952, zlib behind one file).
 */
#ifndef HTTP_HTTP_GZIP_H
#define HTTP_HTTP_GZIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;

/*
 * Appends what the gzip members in data hold, at most size_max bytes. Before out grows,
 * reserve is asked for the additional bytes; what was granted stays granted, also on
 * failure (out->capacity says how much). ERR_LIMIT: more than size_max bytes.
 * ERR_BUSY: reserve said no. ERR_INVALID: not gzip, cut short, or damaged.
 */
enum err http_gunzip(struct op *op, struct slice data, size_t size_max,
                     bool (*reserve)(void *context, size_t bytes), void *context,
                     struct buf *out);

/* Appends data as one gzip member. */
void http_gzip(struct slice data, struct buf *out);

#endif
