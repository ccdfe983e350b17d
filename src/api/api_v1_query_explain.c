#include "api/api_v1_query_explain.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/metrics.h"

enum { STAGES = 7 };
static const char *const stages[STAGES] = {"filter", "vector",    "full_text", "order",
                                           "fuse",   "aggregate", "fetch"};

static uint64_t stage_us(const struct query_explain *x, size_t stage)
{
    const uint64_t took_us[STAGES] = {x->filter_us, x->vector_us, x->text_us,
                                      x->order_us,  x->fuse_us,   x->aggregate_us,
                                      x->fetch_us};
    return took_us[stage];
}

static struct metric *stage_metric(size_t stage)
{
    static struct metric *_Atomic known[STAGES];
    struct metric *m = atomic_load_explicit(&known[stage], memory_order_acquire);
    if (!m) { /* any thread may be first: all are given the same */
        char labels[32];
        (void)snprintf(labels, sizeof labels, "stage=\"%s\"", stages[stage]);
        m = metric_histogram("elacsym_query_stage_seconds",
                             "Time of the stages of queries; those that a query does "
                             "not have are not counted.",
                             labels, metric_seconds, metric_seconds_count);
        atomic_store_explicit(&known[stage], m, memory_order_release);
    }
    return m;
}

void v1_explain_metrics_init(void)
{
    for (size_t i = 0; i < STAGES; i++)
        (void)stage_metric(i);
}

void v1_explain_count(const struct query_explain *x)
{
    for (size_t i = 0; i < STAGES; i++)
        if (stage_us(x, i))
            metric_observe(stage_metric(i), (double)stage_us(x, i) / 1e6);
}

static const char *basis_name(enum plan_basis basis)
{
    return basis == PLANNED_BY_STATISTICS ? "statistics"
           : basis == PLANNED_BY_SAMPLES  ? "samples"
                                          : "nothing";
}

static void put_plan(struct json_writer *w, const struct source_explain *source)
{
    json_begin_object(w);
    json_key(w, "segment");
    json_put_str(w, source->segment);
    json_member_u64(w, "rows", source->rows);
    json_member_u64(w, "live_rows", source->live_rows);
    json_key(w, "plan");
    json_put_str(w, source->plan);
    json_key(w, "why");
    json_put_str(w, source->why);
    json_key(w, "estimated_by");
    json_put_str(w, basis_name(source->basis));
    if (source->basis != PLANNED_BLINDLY)
        json_member_u64(w, "estimate", source->estimate);
    if (source->counted) json_member_u64(w, "matching_rows", source->matching_rows);
    json_end_object(w);
}

static void plans_write(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "filter");
    json_begin_object(w);
    json_member_u64(w, "skipped", x->skipped);
    json_member_u64(w, "unfiltered", x->unfiltered);
    json_member_u64(w, "filter_first", x->filter_first);
    json_member_u64(w, "search_first", x->search_first);
    json_member_u64(w, "exact", x->exact);
    json_member_u64(w, "retried", x->retried);
    json_member_u64(w, "indexed", x->filter.indexed);
    json_member_u64(w, "scanned", x->filter.scanned);
    json_member_u64(w, "checked", x->filter.checked);
    json_key(w, "plans");
    json_begin_array(w);
    for (size_t i = 0; i < x->filtered_count; i++)
        put_plan(w, &x->filtered[i]);
    json_end_array(w);
    json_end_object(w);
}

static void explain_vectors(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "vector_index");
    json_begin_object(w);
    json_member_u64(w, "segments", x->vectors.indexed);
    json_member_u64(w, "clusters", x->vectors.clusters);
    json_member_u64(w, "bytes", x->vectors.bytes);
    json_member_u64(w, "codes_1bit", x->vectors.codes);
    json_member_u64(w, "codes_8bit", x->vectors.rows);
    json_member_u64(w, "exact", x->vectors.exact);
    json_end_object(w);
}

static void explain_cost(struct json_writer *w, const struct op_counters *cost)
{
    json_member_u64(w, "rounds", cost->rounds);
    json_member_u64(w, "store_requests", cost->store_requests);
    json_member_u64(w, "store_bytes", cost->store_bytes);
    json_member_u64(w, "cache_hits", cost->cache_hits);
    json_member_u64(w, "cache_bytes", cost->cache_bytes);
    json_member_u64(w, "disk_hits", cost->disk_hits);
    json_member_u64(w, "disk_bytes", cost->disk_bytes);
    json_member_u64(w, "cache_misses", cost->cache_misses);
}

static void explain_stages(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "stages_ms");
    json_begin_object(w);
    for (size_t i = 0; i < STAGES; i++)
        json_member_f64(w, stages[i], (double)stage_us(x, i) / 1000);
    json_member_f64(w, "total", (double)x->total_us / 1000);
    json_end_object(w);
}

void v1_explain_write(struct json_writer *w, const struct op_counters *cost,
                      const struct query_explain *x)
{
    json_key(w, "explain");
    json_begin_object(w);
    json_key(w, "plan");
    json_put_str(w, x->plan);
    json_member_u64(w, "segments", x->stored_sources);
    json_member_u64(w, "tail_segments", x->sources - x->stored_sources);
    json_member_u64(w, "rows", x->rows);
    json_member_u64(w, "live_rows", x->live_rows);
    json_member_u64(w, "filtered_rows", x->filtered_rows);
    plans_write(w, x);
    json_member_u64(w, "depth", x->depth);
    json_member_u64(w, "ordered_by_index", x->walked);
    json_member_u64(w, "rows_scored", cost->rows_scored);
    explain_vectors(w, x);
    explain_cost(w, cost);
    explain_stages(w, x);
    json_end_object(w);
}
