/*
 * snapshot.h - all a query sees of a namespace: immutable, shared, counted.
 *
 * A snapshot is the effect of a prefix of the log, slots 0 to slot: the segments that a
 * manifest names, the tail as small segments in memory, and for each of them the rows
 * that a later write replaced or deleted. A write makes a new snapshot that shares all
 * it did not touch; readers keep theirs as long as they like and take no locks.
 */
#ifndef NS_SNAPSHOT_H
#define NS_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "doc/schema.h"
#include "segment/segment.h"

struct rowset;

/* What can be searched: a segment without its dead rows. */
struct source {
    struct segment *segment;
    struct rowset *dead; /* NULL: all rows live */
    uint32_t dead_count;
    bool stored; /* false: part of the tail */
};

struct snapshot {
    atomic_uint refs;
    struct schema *schema;
    enum id_kind id_kind; /* ID_NONE until the first document */
    uint8_t incarnation[16];
    uint64_t epoch;
    uint64_t slot; /* last slot applied */
    uint64_t manifest_version;
    uint64_t row_count; /* live documents */
    uint64_t tail_rows; /* rows of the tail, dead ones too */
    uint64_t tail_bytes;
    uint32_t source_count;
    struct source sources[]; /* stored ones first, then the tail, oldest first */
};

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); /* NULL is fine */

/* Where the live version of each id is; source is UINT32_MAX where there is none. */
struct location {
    uint32_t source;
    uint32_t row;
};
enum err snapshot_find(struct op *op, const struct snapshot *s,
                       const struct doc_id *ids, size_t n, struct location *out);

#endif
