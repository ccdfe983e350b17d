/*
 * segment_stats.h - what the manifest says of a segment's attributes, for planning.
 *
 * Statistics of every column (attr/column_stats.h) are taken when a segment is written,
 * stored in the manifest beside its name, and attached to it when it is opened; so what
 * a filter would leave of it is known before any of its columns is read. They take at
 * most SEGMENT_STATS_MAX bytes: of the attributes that come last there may be a short
 * form without estimates, or none.
 *
 * Threads  immutable and counted; any thread may ask.
 */
#ifndef SEGMENT_SEGMENT_STATS_H
#define SEGMENT_SEGMENT_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "attr/column_stats.h"
#include "base/buf.h"
#include "base/err.h"
#include "doc/schema.h"

struct op;
struct segment;
struct segment_stats;

enum { SEGMENT_STATS_MAX = 8 << 10 };

/* Of a segment that lies in memory as a whole: what segment_merge appended. */
enum err segment_stats_make(struct op *op, struct slice object,
                            struct segment_stats **out);
/* Of stored bytes, whatever they are, copied: ERR_CORRUPT. The schema is the
 * namespace's, which may have more attributes. */
enum err segment_stats_decode(struct op *op, struct slice bytes,
                              const struct schema *schema, uint32_t row_count,
                              struct segment_stats **out);
struct segment_stats *segment_stats_ref(struct segment_stats *s); /* NULL is fine */
void segment_stats_unref(struct segment_stats *s);                /* NULL is fine */
/* The stored form (docs/formats.md "statistics"); valid as long as they are. */
struct slice segment_stats_bytes(const struct segment_stats *s);

/* Gives an open segment its statistics, before it is shared. NULL: none. */
void segment_stats_attach(struct segment *segment, struct segment_stats *s);

/*
 * What a filter says of all rows of the segment, dead ones too: nothing where it has no
 * statistics. Facts are sure, parts are estimates: conditions are taken to be
 * independent, but for two that bound the same attribute. No I/O.
 */
void segment_stats_ask(const struct segment *segment, const struct filter *f,
                       struct stats_answer *out);
/* What finding the rows would cost, in rows of a scan, about. */
uint64_t segment_stats_scan_rows(const struct segment *segment,
                                 const struct schema *schema, const struct filter *f);

/* Reads the segment's columns and compares what they hold with what its statistics, if
 * it has any, say for sure. ERR_CORRUPT names the attribute. */
enum err segment_stats_verify(struct op *op, struct segment *segment);
/* A line for each attribute, appended. */
void segment_stats_describe(const struct segment_stats *s, const struct schema *schema,
                            struct buf *out);

#endif
