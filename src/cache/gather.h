/*
 * gather.h - ranges that lie close together, read with fewer requests.
 *
 * A request to a distant store costs as much time as some hundred KiB, and money:
 * reading over a small gap is cheaper than asking twice. Merged ranges pass through a
 * buffer of their own, for which the caller has room; where it ends ranges are read one
 * by one. A merged request is never larger than GATHER_SIZE_MAX, since a
 * single connection moves bytes more slowly than several.
 */
#ifndef CACHE_GATHER_H
#define CACHE_GATHER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

enum {
    GATHER_GAP_MAX = 16 << 10,
    GATHER_SIZE_MAX = 1 << 20,
    GATHER_BUFFER_MAX = 8 << 20
};

/* Bytes of the buffers that gather_read would like to have for these ranges, at most
 * GATHER_BUFFER_MAX. */
uint64_t gather_room(struct store_range *ranges, size_t n);

/* As store_read, with at most as many requests, and buffers of at most room bytes.
 * Ranges read by one request share its error. */
enum err gather_read(struct op *op, struct store *s, struct store_range *ranges,
                     size_t n, uint64_t room);

#endif
