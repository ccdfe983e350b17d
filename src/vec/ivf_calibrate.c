#include "vec/ivf_calibrate.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/topk.h"
#include "vec/distance.h"

enum {
    K = 10,
    TRUE_MAX = 64, /* true neighbours kept, for rows that tie with the tenth */
    RERANKED = 18  /* rows that a rerank would decide between */
};

static const float STEP = 1.5f, ENOUGH = 0.9995f;

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

struct found {
    uint32_t true_by_codes, true_reranked, wanted;
    double reach, kth; /* sums of squared distances */
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

static void count_true(const struct calibration *c, uint32_t query,
                       const uint32_t *vectors, size_t n, struct found *f)
{
    const struct topk *truth = c->truth + query;
    size_t k = truth->count < K ? truth->count : K, place = 0;
    uint32_t by_codes = 0, reranked = 0;
    for (size_t i = 0; i < n; i++) {
        if (vectors[i] == c->vectors[query]) continue;
        bool hit = place < RERANKED && is_true(truth, k, vectors[i]);
        reranked += hit;
        by_codes += hit && place < k;
        place++;
    }
    f->wanted += (uint32_t)k;
    f->true_by_codes += by_codes < k ? by_codes : (uint32_t)k;
    f->true_reranked += reranked < k ? reranked : (uint32_t)k;
}

/* The true squared distance of the last neighbour. */
static double kth_distance(const struct calibration *c, uint32_t query)
{
    const struct topk *truth = c->truth + query;
    const float *coded = c->coded + query * c->padded;
    size_t k = truth->count < K ? truth->count : K;
    if (c->product || k == 0) return 0;
    return fmax(distance_dot_f64(coded, coded, c->padded) -
                    (double)truth->hits[k - 1].score,
                0);
}

static enum err try_probes(struct op *op, const struct calibration *c,
                           const struct ivf *ivf, struct slice records,
                           const uint32_t *rows, struct ivf_calibration *out)
{
    struct found f = {0, 0, 0, 0, 0};
    struct ivf_options options = {.k = RERANKED + 1, .probes = out->probes};
    for (uint32_t q = 0; q < c->count; q++) {
        struct hit hits[RERANKED + 1];
        uint32_t vectors[RERANKED + 1];
        struct ivf_counters counters = {0};
        struct topk best;
        struct op search;
        if (!is_telling(c->truth + q, c->truth[q].count < K ? c->truth[q].count : K))
            continue;
        topk_init(&best, hits, RERANKED + 1, by_row, NULL);
        op_init(&search, op->deadline_ms, 0);
        enum err e = ivf_search(&search, ivf, records, c->raw + q * c->dim, &options,
                                NULL, NULL, 0, &best, &counters);
        op_release(&search);
        if (!e) e = op_check(op);
        if (e) return op_fail(op, e, "calibrate a vector index");
        topk_finish(&best);
        for (size_t i = 0; i < best.count; i++)
            vectors[i] = vector_of(rows, ivf->count, hits[i].row);
        count_true(c, q, vectors, best.count, &f);
        f.reach += (double)counters.reach;
        f.kth += kth_distance(c, q);
    }
    out->recall = f.wanted ? (float)f.true_by_codes / (float)f.wanted : 1;
    out->reach = f.kth > 0 ? (float)(f.reach / f.kth) : 0;
    out->recall_reranked = f.wanted ? (float)f.true_reranked / (float)f.wanted : 1;
    return ERR_OK;
}

enum err calibration_measure(struct op *op, struct calibration *c, struct ivf *ivf,
                             struct slice records, const uint32_t *rows)
{
    uint32_t clusters = ivf->clusters.count;
    uint32_t probes = clusters / 512 > 1 ? clusters / 512 : 1;
    for (uint32_t q = 0; q < c->count; q++)
        topk_finish(c->truth + q);
    for (uint32_t i = 0; i < IVF_CALIBRATION_MAX; i++) {
        struct ivf_calibration *entry = ivf->calibration + i;
        entry->probes = probes < clusters ? probes : clusters;
        enum err e = try_probes(op, c, ivf, records, rows, entry);
        if (e) return e;
        ivf->calibrations = i + 1;
        /* All neighbours lie in these clusters: what the codes still miss, more
         * clusters do not find. */
        if (probes >= clusters || entry->recall_reranked >= ENOUGH) break;
        uint32_t more = (uint32_t)((float)probes * STEP);
        probes = more > probes ? more : probes + 1;
    }
    return ERR_OK;
}
