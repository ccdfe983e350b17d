#include "vec/ivf_calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/topk.h"
#include "vec/distance.h"

enum {
    TRUE_MAX = 64,    /* true neighbours kept, for rows that tie with the last */
    RERANKED_MAX = 15 /* ivf_rerank(IVF_DEEP) */
};

/* Neighbours that are looked for, and rows that a rerank decides between: those of a
 * search of its own, and an index's part of a search among five. */
struct depth {
    uint32_t k, reranked;
};

static const struct depth deep = {IVF_DEEP, RERANKED_MAX};
static const struct depth shallow = {IVF_SHALLOW, 3};

/* Quantiles of the required cosines, at which recall is measured. */
static const double quantiles[] = {0.5,  0.7,  0.8,   0.87,  0.91,  0.94,
                                   0.96, 0.98, 0.987, 0.993, 0.998, 1};
/* Standard errors that the recall kept is below the recall seen. */
static const double CONFIDENCE = 2.5;
/* Of 20 queries so many take at most the clusters that are kept. */
static const double MOST = 0.95;

struct calibration {
    uint32_t count;
    size_t dim, padded;
    bool product;
    const uint32_t *vectors;
    const float *raw, *coded;
    struct hit *hits;
    struct topk *truth; /* by minus distance */
};

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

struct calibration *calibration_new(const struct ivf *ivf, const uint32_t *vectors,
                                    const float *raw, const float *coded,
                                    uint32_t count)
{
    struct calibration *c = mem_new(struct calibration);
    *c = (struct calibration){.count = count,
                              .dim = ivf->dim,
                              .padded = ivf->padded,
                              .product = ivf_kind(ivf->metric) == RABITQ_PRODUCT,
                              .vectors = vectors,
                              .raw = raw,
                              .coded = coded};
    c->hits = mem_new_array(struct hit, count * TRUE_MAX);
    c->truth = mem_new_array(struct topk, count);
    for (uint32_t q = 0; q < count; q++)
        topk_init(c->truth + q, c->hits + q * TRUE_MAX, TRUE_MAX, by_row, NULL);
    return c;
}

void calibration_free(struct calibration *c)
{
    if (!c) return;
    mem_free(c->hits);
    mem_free(c->truth);
    mem_free(c);
}

static void see_row(struct calibration *c, uint32_t query, uint32_t vector,
                    float distance)
{
    struct topk *truth = c->truth + query;
    if (-distance >= topk_floor(truth) && c->vectors[query] != vector)
        topk_push(truth, (struct hit){-distance, 0, vector});
}

/* Up to four rows that pass by, next to each other. */
struct passing {
    const float *rows[TILE];
    float norms[TILE]; /* dot: 0 */
    uint32_t first, count;
};

static void see_tile(struct calibration *c, const struct passing *p, uint32_t query)
{
    const float *queries[TILE];
    float dots[TILE * TILE];
    uint32_t width = c->count - query < TILE ? c->count - query : TILE;
    for (uint32_t j = 0; j < TILE; j++)
        queries[j] = c->coded + (query + (j < width ? j : 0)) * c->padded;
    vec_kernels()->tile(p->rows, queries, c->padded, dots);
    for (uint32_t i = 0; i < p->count; i++)
        for (uint32_t j = 0; j < width; j++)
            see_row(c, query + j, p->first + i, p->norms[i] - 2 * dots[TILE * i + j]);
}

void calibration_see(struct calibration *c, const float *rows, uint32_t first,
                     uint32_t count)
{
    for (uint32_t r = 0; r < count; r += TILE) {
        struct passing p = {.first = first + r};
        p.count = count - r < TILE ? count - r : TILE;
        for (uint32_t i = 0; i < TILE; i++) {
            p.rows[i] = rows + (r + (i < p.count ? i : 0)) * c->padded;
            p.norms[i] = c->product ? 0 : distance_dot(p.rows[i], p.rows[i], c->padded);
        }
        for (uint32_t q = 0; q < c->count; q += TILE)
            see_tile(c, &p, q);
    }
}

/* Distances of duplicates come out equal but for rounding. */
static float tie_limit(const struct topk *truth, size_t k)
{
    float kth = -truth->hits[k - 1].score;
    return kth + 1e-5f * fabsf(kth);
}

static bool is_true(const struct topk *truth, size_t k, uint32_t vector)
{
    float limit = tie_limit(truth, k);
    for (size_t i = 0; i < truth->count && -truth->hits[i].score <= limit; i++)
        if (truth->hits[i].row == vector) return true;
    return false;
}

/* Recalls of all queries of one kind. */
struct recalls {
    double sum, squares;
    uint32_t count;
};

static void add_recall(struct recalls *r, uint32_t found, size_t k)
{
    double recall = (double)(found < k ? found : k) / (double)k;
    r->sum += recall;
    r->squares += recall * recall;
    r->count++;
}

/* Below the true mean but for a small chance. One more query, half right, is thought to
 * be there: a sample without misses does not prove that there are none. */
static float lower_bound(const struct recalls *r)
{
    double n = r->count + 1.0, sum = r->sum + 0.5, squares = r->squares + 0.25;
    double mean = sum / n, variance = fmax(squares / n - mean * mean, 0);
    if (r->count == 0) return 1; /* any answer would do */
    return (float)(r->sum / r->count - CONFIDENCE * sqrt(variance / n));
}

struct found {
    struct recalls by_codes, reranked;
    uint32_t *clusters; /* looked at by each query */
};

/* Any answer would do where more rows tie than were kept. */
static bool is_telling(const struct topk *truth, size_t k)
{
    return k > 0 && (truth->count < TRUE_MAX ||
                     -truth->hits[TRUE_MAX - 1].score > tie_limit(truth, k));
}

static uint32_t vector_of(const uint32_t *rows, uint32_t count, uint32_t row)
{
    uint32_t low = 0, high = count;
    if (!rows) return row;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t neighbours(const struct calibration *c, uint32_t query,
                         const struct depth *depth)
{
    size_t count = c->truth[query].count;
    return count < depth->k ? count : depth->k;
}

static void count_true(const struct calibration *c, uint32_t query,
                       const struct depth *depth, const uint32_t *vectors, size_t n,
                       struct found *f)
{
    const struct topk *truth = c->truth + query;
    size_t k = neighbours(c, query, depth), place = 0;
    uint32_t by_codes = 0, reranked = 0;
    for (size_t i = 0; i < n; i++) {
        if (vectors[i] == c->vectors[query]) continue;
        bool hit = place < depth->reranked && is_true(truth, k, vectors[i]);
        reranked += hit;
        by_codes += hit && place < k;
        place++;
    }
    add_recall(&f->by_codes, by_codes, k);
    add_recall(&f->reranked, reranked, k);
}

/* ---- what is measured ---- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int by_count(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static uint32_t cluster_of(const struct ivf *ivf, struct slice slots, uint32_t row)
{
    uint32_t slot = load_u32(slots.data + (size_t)row * sizeof slot);
    uint32_t low = 0, high = ivf->clusters.count - 1;
    while (low < high) { /* the last cluster whose first slot is not behind */
        uint32_t middle = low + (high - low + 1) / 2;
        if (ivf_entry_at(&ivf->clusters, middle).first <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* The cosine that the cluster of a neighbour required of this query. */
static double required(const struct ivf *ivf, struct slice records, uint32_t cluster,
                       const float *query, double limit)
{
    enum rabitq_kind kind = ivf_kind(ivf->metric);
    const void *centroid = records.data + ivf->offsets[cluster];
    double distance = kind == RABITQ_PRODUCT
                          ? -(double)distance_dot(query, centroid, ivf->padded)
                          : (double)distance_l2(query, centroid, ivf->padded);
    double norm = sqrt((double)distance_dot(query, query, ivf->padded));
    return ivf_required_cosine(kind, distance, (double)ivf->radii[cluster], limit,
                               norm);
}

/* What the neighbours of all queries required, ascending; the count. */
static size_t find_required(const struct calibration *c, const struct ivf *ivf,
                            const struct depth *depth, struct slice records,
                            struct slice slots, const uint32_t *rows, double *out)
{
    size_t count = 0;
    for (uint32_t q = 0; q < c->count; q++) {
        const struct topk *truth = c->truth + q;
        const float *query = c->coded + q * c->padded;
        size_t k = neighbours(c, q, depth);
        if (k == 0) continue;
        /* see_row left out what all rows of a query share. */
        double kth = -(double)truth->hits[k - 1].score;
        double limit =
            c->product ? kth / 2 : kth + distance_dot_f64(query, query, c->padded);
        for (size_t i = 0; i < k; i++) {
            uint32_t row = truth->hits[i].row;
            uint32_t cluster = cluster_of(ivf, slots, rows ? rows[row] : row);
            out[count++] = required(ivf, records, cluster, query, limit);
        }
    }
    qsort(out, count, sizeof *out, by_value);
    return count;
}

static enum err try_query(struct op *op, const struct calibration *c, uint32_t q,
                          const struct ivf *ivf, const struct depth *depth,
                          struct slice records, const uint32_t *rows, float cut,
                          struct found *f)
{
    uint32_t keep = depth->reranked + 1; /* the query finds itself */
    struct ivf_options options = {.k = depth->k, .rerank = keep, .cut = cut};
    struct hit hits[RERANKED_MAX + 1];
    uint32_t vectors[RERANKED_MAX + 1];
    struct ivf_counters counters = {0};
    struct topk best;
    struct op search;
    topk_init(&best, hits, keep, by_row, NULL);
    op_init(&search, op->deadline_ms, 0);
    enum err e = ivf_search(&search, ivf, records, c->raw + q * c->dim, &options, NULL,
                            NULL, 0, &best, &counters);
    op_release(&search);
    if (!e) e = op_check(op);
    if (e) return op_fail(op, e, "calibrate a vector index");
    topk_finish(&best);
    for (size_t i = 0; i < best.count; i++)
        vectors[i] = vector_of(rows, ivf->count, hits[i].row);
    f->clusters[f->by_codes.count] = counters.clusters;
    count_true(c, q, depth, vectors, best.count, f);
    return ERR_OK;
}

static enum err try_cut(struct op *op, const struct calibration *c,
                        const struct ivf *ivf, const struct depth *depth,
                        struct slice records, const uint32_t *rows,
                        struct ivf_calibration *out)
{
    struct found f = {.clusters = mem_new_array(uint32_t, c->count + 1)};
    enum err e = ERR_OK;
    for (uint32_t q = 0; q < c->count && !e; q++)
        if (is_telling(c->truth + q, neighbours(c, q, depth)))
            e = try_query(op, c, q, ivf, depth, records, rows, out->cut, &f);
    uint32_t count = f.by_codes.count;
    qsort(f.clusters, count, sizeof *f.clusters, by_count);
    out->clusters = f.clusters[(uint32_t)(MOST * count)];
    if (out->clusters == 0) out->clusters = 1;
    out->recall = lower_bound(&f.by_codes);
    out->recall_reranked = lower_bound(&f.reranked);
    mem_free(f.clusters);
    return e;
}

/* Searches at the cuts that the neighbours' cosines, ascending, suggest. */
static enum err fill(struct op *op, const struct calibration *c, const struct ivf *ivf,
                     const struct depth *depth, struct slice records,
                     const uint32_t *rows, const double *cosines, size_t count,
                     struct ivf_table *table)
{
    float before = -1;
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles && count > 0; i++) {
        size_t index = (size_t)(quantiles[i] * (double)(count - 1));
        struct ivf_calibration entry = {.cut = (float)cosines[index]};
        if (!(entry.cut > before)) continue;
        enum err e = try_cut(op, c, ivf, depth, records, rows, &entry);
        if (e) return e;
        table->entries[table->count++] = entry;
        before = entry.cut;
    }
    return ERR_OK;
}

enum err calibration_measure(struct op *op, struct calibration *c, struct ivf *ivf,
                             struct slice records, struct slice slots,
                             const uint32_t *rows)
{
    double *cosines = mem_new_array(double, (size_t)c->count *IVF_DEEP);
    for (uint32_t q = 0; q < c->count; q++)
        topk_finish(c->truth + q);
    size_t count = find_required(c, ivf, &deep, records, slots, rows, cosines);
    enum err e = fill(op, c, ivf, &deep, records, rows, cosines, count, &ivf->deep);
    count = find_required(c, ivf, &shallow, records, slots, rows, cosines);
    if (!e)
        e = fill(op, c, ivf, &shallow, records, rows, cosines, count, &ivf->shallow);
    mem_free(cosines);
    return e;
}
