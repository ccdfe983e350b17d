#include "segment/segment_vectors.h"

#include <assert.h>
#include <float.h>
#include <math.h>

#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment.h"
#include "segment/segment_parts.h"
#include "vec/distance.h"

enum {
    WINDOW_UNITS = 16, /* pinned at once: about 4 MiB */
    SCAN_ROWS = 1024,  /* scored at once; candidates listed at once */
    CLOSE = 3,         /* a row skipped costs as much as three read in a row */
    PREFETCH_MAX = 4096
};

struct scan {
    const struct segment *segment;
    const struct vector_query *query;
    const float *norms;              /* cosine: of each vector 1 / length, or 0 */
    const struct rowset *candidates; /* rows to score; NULL: all, each has a vector */
    uint32_t source;
    struct topk *best;
};

/* ---- scores ---- */

/* In double precision: for what floats overflowed on, or are too extreme for. */
static float extreme_score(const struct vector_query *q, const float *vector)
{
    double score;
    if (q->metric == METRIC_L2) {
        score = -distance_l2_f64(q->values, vector, q->dim);
    } else {
        score = distance_dot_f64(q->values, vector, q->dim);
        double norms =
            q->metric == METRIC_COSINE ? q->norm * distance_norm(vector, q->dim) : 1;
        score = norms == 0 ? 0 : score / norms; /* not a number stays none */
    }
    if (score > (double)FLT_MAX) return FLT_MAX;
    if (score < (double)-FLT_MAX) return -FLT_MAX;
    return (float)score;
}

/* raw: what the kernel said; inverse: cosine, 1 / length or 0. */
static float finish_score(const struct vector_query *q, const float *vector, float raw,
                          float inverse)
{
    float score = q->metric == METRIC_L2 ? -raw : raw;
    bool extreme = false;
    if (q->metric == METRIC_COSINE) {
        extreme = inverse == 0;
        score *= inverse;
    }
    return extreme || !isfinite(score) ? extreme_score(q, vector) : score;
}

static float raw_score(const struct vector_query *q, const float *vector)
{
    return q->metric == METRIC_L2 ? distance_l2(q->probe, vector, q->dim)
                                  : distance_dot(q->probe, vector, q->dim);
}

/* Lengths whose inverse, and whose products with a query of length 1, floats hold. */
static const double norm_min = 1e-30, norm_max = 1e30;

float vector_inverse_norm(const float *vector, uint32_t dim)
{
    double norm = distance_norm(vector, dim);
    return norm >= norm_min && norm <= norm_max ? (float)(1 / norm) : 0;
}

float vector_score(const struct vector_query *q, const float *vector)
{
    float inverse =
        q->metric == METRIC_COSINE ? vector_inverse_norm(vector, q->dim) : 0;
    return finish_score(q, vector, raw_score(q, vector), inverse);
}

enum err vector_query_make(struct op *op, enum metric_kind metric, uint32_t dim,
                           const float *values, struct vector_query *out)
{
    *out = (struct vector_query){.metric = metric,
                                 .dim = dim,
                                 .values = values,
                                 .norm = distance_norm(values, dim),
                                 .probe = values};
    if (metric != METRIC_COSINE) return ERR_OK;
    float *probe = op_new_array(op, float, dim);
    if (!probe) return ERR_LIMIT;
    double inverse = out->norm > 0 ? 1 / out->norm : 0;
    for (uint32_t i = 0; i < dim; i++)
        probe[i] = (float)((double)values[i] * inverse);
    out->probe = probe;
    return ERR_OK;
}

/* ---- the scan ---- */

/* raw: what the kernel said of the vector. */
static enum err push(struct op *op, const struct scan *scan, struct slice data,
                     uint32_t slot, float raw)
{
    const float *vector = segment_unit_vector(scan->segment, data, slot);
    float inverse = scan->query->metric == METRIC_COSINE ? scan->norms[slot] : 0;
    float score = finish_score(scan->query, vector, raw, inverse);
    if (score < topk_floor(scan->best)) return ERR_OK;

    uint32_t row = segment_slot_row(scan->segment, slot);
    if (isnan(score))
        return op_fail(op, ERR_CORRUPT, "the vector of row %u is not finite", row);
    topk_push(scan->best,
              (struct hit){.score = score, .source = scan->source, .row = row});
    return ERR_OK;
}

/* Raw scores of slots [slot, slot + count) of the unit in data. */
static void score_rows(const struct scan *scan, struct slice data, uint32_t slot,
                       size_t count, float *out)
{
    const float *vectors = segment_unit_vector(scan->segment, data, slot);
    const struct vector_query *q = scan->query;
    if (q->metric == METRIC_L2)
        distance_l2_rows(q->probe, vectors, count, q->dim, out);
    else
        distance_dot_rows(q->probe, vectors, count, q->dim, out);
}

/* Scores slots [first, end) of the unit in data. */
static enum err scan_run(struct op *op, const struct scan *scan, struct slice data,
                         uint32_t first, uint32_t end)
{
    float scores[SCAN_ROWS];
    for (uint32_t slot = first; slot < end;) {
        uint32_t count = end - slot < SCAN_ROWS ? end - slot : SCAN_ROWS;
        score_rows(scan, data, slot, count, scores);
        for (uint32_t i = 0; i < count; i++) {
            enum err e = push(op, scan, data, slot + i, scores[i]);
            if (e) return e;
        }
        slot += count;
    }
    return ERR_OK;
}

/* Candidates that lie close: reading over the rows between them is faster than
 * skipping them. Those are scored too, but not pushed. */
static enum err scan_close(struct op *op, const struct scan *scan, struct slice data,
                           const uint32_t *slots, size_t count)
{
    float scores[SCAN_ROWS * CLOSE];
    uint32_t first = slots[0];
    score_rows(scan, data, first, slots[count - 1] - first + 1, scores);
    for (size_t i = 0; i < count; i++) {
        enum err e = push(op, scan, data, slots[i], scores[slots[i] - first]);
        if (e) return e;
    }
    return ERR_OK;
}

static void prefetch_vector(const struct scan *scan, struct slice data, uint32_t slot)
{
    const char *vector = (const void *)segment_unit_vector(scan->segment, data, slot);
    size_t size = scan->query->dim * sizeof(float);
    for (size_t at = 0; at < size && at < PREFETCH_MAX; at += 64)
        __builtin_prefetch(vector + at);
}

/* Candidates far apart, one by one; the next one is on its way meanwhile. */
static enum err scan_far(struct op *op, const struct scan *scan, struct slice data,
                         const uint32_t *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float *vector = segment_unit_vector(scan->segment, data, slots[i]);
        if (i + 1 < count) prefetch_vector(scan, data, slots[i + 1]);
        enum err e = push(op, scan, data, slots[i], raw_score(scan->query, vector));
        if (e) return e;
    }
    return ERR_OK;
}

/* Scores the candidates among slots [first, end). */
static enum err scan_candidates(struct op *op, const struct scan *scan,
                                struct slice data, uint32_t first, uint32_t end)
{
    const struct segment *s = scan->segment;
    uint32_t rows[SCAN_ROWS], slots[SCAN_ROWS];
    uint32_t from = segment_slot_row(s, first), last = segment_slot_row(s, end - 1);

    while (from <= last) {
        size_t room = last - from < SCAN_ROWS ? last - from + 1 : SCAN_ROWS, count = 0;
        size_t listed = rowset_read(scan->candidates, from, rows, room);
        for (; count < listed && rows[count] <= last; count++)
            slots[count] = segment_slot(s, rows[count]);
        if (count == 0) break;
        bool close = slots[count - 1] - slots[0] < CLOSE * count;
        enum err e = close ? scan_close(op, scan, data, slots, count)
                           : scan_far(op, scan, data, slots, count);
        if (e) return e;
        from = rows[count - 1] + 1;
    }
    return ERR_OK;
}

static enum err scan_unit(struct op *op, const struct scan *scan, uint32_t unit,
                          struct slice data)
{
    uint32_t slots = scan->segment->unit_slots;
    uint32_t vectors = scan->segment->layout.vector_count;
    uint32_t first = unit * slots;
    uint32_t end = vectors - first < slots ? vectors : first + slots;

    enum err e = op_check(op);
    if (e) return e;
    return scan->candidates ? scan_candidates(op, scan, data, first, end)
                            : scan_run(op, scan, data, first, end);
}

/* The first unit from `unit` on that holds a candidate; false at the end. */
static bool next_unit(const struct scan *scan, uint32_t *unit)
{
    const struct segment *s = scan->segment;
    uint64_t first = (uint64_t)*unit * s->unit_slots;
    uint32_t row;

    if (first >= s->layout.vector_count) return false;
    if (!scan->candidates) return true;
    uint32_t from = segment_slot_row(s, (uint32_t)first);
    if (rowset_read(scan->candidates, from, &row, 1) == 0) return false;
    assert(row < s->layout.row_count);
    *unit = segment_slot(s, row) / s->unit_slots;
    return true;
}

/*
 * Walks over the units window by window. pins[0] is the section of norms, read in the
 * round of the first window and kept to the end.
 */
static enum err scan_all(struct op *op, struct scan *scan)
{
    const struct segment *s = scan->segment;
    const struct section *norms = layout_section(&s->layout, SECTION_NORMS, 0);
    struct cache_pin pins[1 + WINDOW_UNITS] = {CACHE_PIN_INIT};
    uint32_t units[WINDOW_UNITS], unit = 0;
    size_t first = norms ? 0 : 1, count = 0;
    enum err e = ERR_OK;

    if (norms) pins[0] = segment_section_range(s, norms);
    while (!e && next_unit(scan, &unit)) {
        for (count = 0; count < WINDOW_UNITS && next_unit(scan, &unit); count++) {
            pins[1 + count] = segment_unit_range(s, unit);
            units[count] = unit++;
        }
        e = segment_pin(op, s, pins + first, 1 + count - first);
        if (e) break;
        first = 1;
        scan->norms = (const void *)pins[0].data.data;
        for (size_t i = 0; i < count && !e; i++)
            e = scan_unit(op, scan, units[i], pins[1 + i].data);
        segment_unpin(s, pins + 1, count);
    }
    segment_unpin(s, pins, 1);
    return e;
}

enum err segment_vector_search(struct op *op, struct segment *s,
                               enum metric_kind metric, const float *query,
                               const struct rowset *allowed, uint32_t source,
                               struct topk *best)
{
    const struct segment_layout *l = &s->layout;
    struct vector_query q;
    struct scan scan = {.segment = s,
                        .query = &q,
                        .candidates = allowed,
                        .source = source,
                        .best = best};
    struct rowset *both = NULL;
    enum err e = ERR_OK;

    if (l->vector_count == 0) return ERR_OK;
    if (metric != l->metric) e = op_fail(op, ERR_CORRUPT, "written for another metric");
    if (!e) e = vector_query_make(op, metric, l->vector_dim, query, &q);
    if (s->present && allowed) {
        both = rowset_copy(allowed);
        rowset_and(both, s->present);
        scan.candidates = both;
    } else if (s->present) {
        scan.candidates = s->present;
    }
    uint64_t scored = scan.candidates
                          ? rowset_count_range(scan.candidates, 0, l->row_count)
                          : l->vector_count;
    if (!e && scored > 0) e = scan_all(op, &scan);
    op->counters.rows_scored += scored;
    rowset_unref(both);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}
