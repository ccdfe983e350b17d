/*
 * ns_metrics.h - what /metrics tells of namespaces, all of it there from the start.
 *
 * Threads  any.
 */
#ifndef NS_NS_METRICS_H
#define NS_NS_METRICS_H

#include <stdbool.h>
#include <stdint.h>

enum ns_count {
    NS_FENCINGS,
    NS_OPEN_FAILURES,
    NS_WORK_FAILURES,
    NS_GC_FAILURES,
    NS_DAMAGED_SEGMENTS,
    NS_QUERIES_REFUSED,
    NS_WRITES_SLOWED,
    NS_COUNTS
};

/* Registers everything at 0. */
void ns_metrics_init(void);
void ns_count(enum ns_count what);
/* A segment was written out of the tail, or of segments (merge). */
void ns_count_index(bool merge, uint64_t bytes, int64_t took_us);

/* Of all namespaces open on this node, together. */
struct ns_totals {
    uint64_t namespaces, segments, tail_bytes, tail_rows, wal_objects;
};
void ns_metrics_set(const struct ns_totals *totals);

#endif
