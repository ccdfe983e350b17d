/*
 * segment_terms.h - text indexes read by ranges. Private to segment/.
 *
 * Where the store is far, a first query that names its terms need not wait for a whole
 * text index: its head is held, so the ranges that the terms need are known at once
 * (text/text_index.h). They are asked for until they have cost as much as the whole,
 * each as much as its bytes and a request (cache/gather.h); then that is read and
 * serves all later queries from memory: so not much more than twice its bytes are read,
 * and a busy segment is as fast as one read whole.
 */
#ifndef SEGMENT_SEGMENT_TERMS_H
#define SEGMENT_SEGMENT_TERMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "segment/segment.h"

struct cache_pin;
struct op;
struct text_chunk;
struct text_index;

/* Opens the heads that the held bytes have. ERR_CORRUPT. */
enum err terms_open_heads(struct op *op, struct segment *s);
void terms_close_heads(struct segment *s);

/* Is the index read by the ranges of these terms, rather than whole? */
bool terms_by_ranges(const struct segment *s, const struct segment_text *text);
/* The ranges: first the lengths, then the chunks, each once. Room for a pin more than
 * there are terms. How many chunks. */
size_t terms_plan(const struct segment *s, const struct segment_text *text,
                  struct cache_pin *pins, struct text_chunk *chunks);
/* The index, once the n + 1 pins of the plan hold their bytes. */
struct text_index *terms_open(const struct segment *s, int attr,
                              const struct cache_pin *pins, struct text_chunk *chunks,
                              size_t n);

#endif
