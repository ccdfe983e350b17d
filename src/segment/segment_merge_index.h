/*
 * segment_merge_index.h - columns and text indexes of a merge, from those of its
 * inputs. Private to segment/.
 *
 * One attribute after the other: the sections of all inputs are read, through the cache
 * but not kept pinned in it, into the writer's room; what becomes of them lies there
 * until the writer puts it in its place.
 */
#ifndef SEGMENT_SEGMENT_MERGE_INDEX_H
#define SEGMENT_SEGMENT_MERGE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/segment.h"

struct op;
struct segment_writer;

/* Gives the writer every column, and the text indexes but those with an input that
 * cannot be merged. rows: by input and row the new one, ascending, or UINT32_MAX.
 * ERR_CORRUPT and errors of reading name the segment. */
enum err merge_indexes(struct op *op, const struct segment_input *inputs, size_t n,
                       uint32_t *const *rows, struct segment_writer *w);

/* How much of the room that takes, and of the heap but for what goes by rows. */
uint64_t merge_indexes_room(const struct segment_input *inputs, size_t n);
uint64_t merge_indexes_heap(const struct segment_input *inputs, size_t n);

#endif
