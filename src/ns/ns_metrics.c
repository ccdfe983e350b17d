#include "ns/ns_metrics.h"

#include <stddef.h>

#include "base/metrics.h"

static const char *const from[] = {"from=\"tail\"", "from=\"segments\""};

static struct metric *counter_of(enum ns_count what)
{
    static const struct {
        const char *name, *help;
    } counts[NS_COUNTS] = {
        [NS_FENCINGS] = {"elacsym_namespace_fenced_total",
                         "Times another node took a namespace from this one."},
        [NS_OPEN_FAILURES] = {"elacsym_open_failures_total",
                              "Attempts to open a namespace for writing that failed."},
        [NS_WORK_FAILURES] = {"elacsym_maintenance_failures_total",
                              "Background work on a namespace (settling, indexing, "
                              "merging, deleting) that failed."},
        [NS_GC_FAILURES] = {"elacsym_gc_failures_total",
                            "Deletions of obsolete objects that failed."},
        [NS_DAMAGED_SEGMENTS] = {"elacsym_damaged_segments_total",
                                 "Segments that a merge found damaged or missing."},
        [NS_WRITES_SLOWED] = {"elacsym_writes_slowed_total",
                              "Writes answered late, since too much waited to be "
                              "indexed."},
        [NS_QUERIES_REFUSED] = {"elacsym_queries_refused_total",
                                "Queries refused since as many of their namespace ran "
                                "as may run at once."},
    };
    return metric_counter(counts[what].name, counts[what].help, NULL);
}

static struct metric *index_bytes(bool merge)
{
    return metric_counter("elacsym_index_bytes_total",
                          "Bytes of segments written, by what they were made of: their "
                          "sum by those of tails is the write amplification.",
                          from[merge]);
}

static struct metric *index_seconds(bool merge)
{
    return metric_histogram("elacsym_index_seconds",
                            "Time to make a segment and to publish it, by what it was "
                            "made of.",
                            from[merge], metric_seconds, metric_seconds_count);
}

void ns_count(enum ns_count what)
{
    metric_add(counter_of(what), 1);
}

void ns_count_index(bool merge, uint64_t bytes, int64_t took_us)
{
    metric_add(index_bytes(merge), bytes);
    metric_observe(index_seconds(merge), (double)took_us / 1e6);
}

void ns_metrics_set(const struct ns_totals *t)
{
    const struct {
        const char *name, *help;
        uint64_t value;
    } gauges[] = {
        {"elacsym_open_namespaces", "Namespaces open on this node.", t->namespaces},
        {"elacsym_segments", "Stored segments of the open namespaces.", t->segments},
        {"elacsym_tail_bytes", "Memory of writes that wait to be indexed.",
         t->tail_bytes},
        {"elacsym_unindexed_rows", "Rows that wait to be indexed.", t->tail_rows},
        {"elacsym_wal_objects", "Log objects that no segment has replaced.",
         t->wal_objects},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        metric_set(metric_gauge(gauges[i].name, gauges[i].help, NULL),
                   (double)gauges[i].value);
}

void ns_metrics_init(void)
{
    const struct ns_totals none = {0};
    for (int what = 0; what < NS_COUNTS; what++)
        (void)counter_of((enum ns_count)what);
    for (int merge = 0; merge < 2; merge++) {
        (void)index_bytes(merge);
        (void)index_seconds(merge);
    }
    ns_metrics_set(&none);
}
