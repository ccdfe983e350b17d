/*
 * segment_ahead.h - what the next calls are about to read of segments, in one round.
 *
 * The functions of segment.h read one segment each, and each of them waits for what it
 * reads. Whoever calls one of them on many segments says first what that will be: it is
 * fetched in one round and stays pinned, so that the calls find it in memory. Answers
 * do not depend on it. What is left out costs a round where it is needed: held segments
 * (nothing to read), more than AHEAD_BYTES_MAX, and all of it when there is no room, or
 * when it is for one call only, which would read it in one round itself.
 *
 * Threads  one at a time. Memory: the cache's budget; the pins are the ahead's.
 */
#ifndef SEGMENT_SEGMENT_AHEAD_H
#define SEGMENT_SEGMENT_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/segment.h"

struct op;
struct cache;
struct cache_pin;
struct filter;
struct segment_ahead;

enum { AHEAD_BYTES_MAX = 64 << 20, AHEAD_PINS_MAX = 4096 };

struct segment_ahead *segment_ahead_new(void);
void segment_ahead_free(struct segment_ahead *a); /* unpins; NULL is fine */

/* The columns that segment_filter will read. */
void segment_ahead_filter(struct segment_ahead *a, const struct segment *s,
                          const struct filter *filter);
/* What segment_view_open will read. */
void segment_ahead_view(struct segment_ahead *a, const struct segment *s,
                        const struct segment_want *want);
/* What segment_fetch will read. */
void segment_ahead_fetch(struct segment_ahead *a, const struct segment *s,
                         const uint32_t *rows, size_t n, struct segment_fetch what);

/* One round. Lack of room is no error; others are store_read's. */
enum err segment_ahead_read(struct op *op, struct segment_ahead *a);

/*
 * Brings into the cache what segment_open_object will look for in n segments, and the
 * ranges `more` beside it: one round, and one more for what was not to be expected.
 * Failures are left for those who ask to find.
 */
void segment_open_ahead(struct op *op, struct cache *cache,
                        const struct segment_object *objects, size_t n,
                        const struct cache_pin *more, size_t more_count);

#endif
