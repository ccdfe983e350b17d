/*
 * ring.h - the ordered list of indexers and which of them owns a namespace.
 *
 * nodes[seahash(namespace) % count]: a function of the list alone, so nodes that have
 * the same list agree without a word. It decides who is asked first and nothing else;
 * what is true is decided in the store.
 */
#ifndef NODE_RING_H
#define NODE_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct ring {
    const char *const *ids; /* borrowed, in the configured order */
    size_t count;           /* at least 1 */
};

/* The index of the namespace's owner. */
size_t ring_owner(const struct ring *r, const char *name);
/* The list as one number: lists of other ids or of another order have another one. 0
 * for an empty list. */
uint64_t ring_fingerprint(const struct ring *r);
/* SIZE_MAX: no such id. */
size_t ring_find(const struct ring *r, const char *id);
/* Appends "id,id,…". */
void ring_print(const struct ring *r, struct buf *out);

#endif
