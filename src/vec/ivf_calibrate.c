#include "vec/ivf_calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/at_most.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/topk.h"
#include "vec/distance.h"

enum {
    TRUE_FEW = 16,      /* true neighbours looked for … */
    TRUE_MAX = 64,      /* … and at most, where rows tie or codes are rough */
    DEEPER_EACH = 8,    /* one query of so many looks for that many */
    LACKING_PART = 200, /* more than one neighbour of so many is too much */
    RERANKED_MAX = 15,  /* ivf_rerank(IVF_DEEP) */
    CUT_QUERIES = 256,  /* that measure cuts alone */
    TOGETHER = 32,      /* queries that read the records together … */
    NEAREST_FIRST = 8,  /* … but for their nearest clusters */
    CAPPED_FIRST = 2,   /* clusters that are looked at whatever they require */
    RUNGS = 8,          /* limits that are measured of each kind … */
    RUNGS_MAX = 12      /* … and of those that most queries go by */
};

/* Neighbours that are looked for, and rows that a rerank decides between: those of a
 * search of its own, and an index's part of a search among five. */
struct depth {
    uint32_t k, reranked;
};

static const struct depth deep = {IVF_DEEP, RERANKED_MAX};
static const struct depth shallow = {IVF_SHALLOW, 3};

/* What of the neighbours missed the number of clusters may miss: queries unlike the
 * data are found by the geometry of the cut sooner than by a count. */
static const double BY_COUNT = 0.3;
/* Where more are missed, fewer queries tell how many. */
static const double ROUGHLY = 0.13;
/* The part of the neighbours that the lowest limits would miss. */
static const double MISSED_MOST = 1, MISSED_CAPPED = 0.5;
/* Two measurements are near enough if one misses at most so much of what the other
 * does, give or take the part that nobody asks for. */
static const double NEAR = 0.7, UNASKED = 0.006;
/* A recall that is not worth knowing more closely. */
static const double POOR = 0.6;
/*
 * Standard errors that the recall kept is below the recall seen: the one margin of the
 * promise that a wanted recall is met. The queries are a sample, so one index in 700
 * may fall short of it. What it costs: about a thousandth of recall more than was
 * wanted for each standard error at 0.99, three thousandths at 0.95.
 */
static const double CONFIDENCE = 3;
/* Of 20 queries so many take at most the clusters that are kept. */
static const double MOST = 0.95;
/* Smaller cosines are as good as none: the first clusters are always looked at. */
static const float CUT_LEAST = 1e-6f;
/* Width of the bound that no row is beyond, as far as anybody will see. */
static const float TRUTH_EPS = 4;

/* What a query has to look at to find one of its neighbours. */
struct look {
    uint32_t place; /* of the cluster, nearest first */
    double cosine;  /* that the cluster requires */
};

struct calibration {
    const struct calibration_queries *queries;
    const struct ivf *ivf;
    struct slice records, slots;
    struct topk *truth; /* by minus distance, rows of the segment */
    struct hit *hits;   /* of truth, TRUE_MAX each */
};

/* What the neighbours of all queries take, at a depth; in the end by cosine. */
struct looks {
    const struct depth *depth;
    struct look *all;
    size_t count;
};

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

static uint32_t row_of(const struct calibration_queries *q, uint32_t vector)
{
    return q->source->rows ? q->source->rows[vector] : vector;
}

static uint32_t vector_of(const struct ivf_source *source, uint32_t row)
{
    uint32_t low = 0, high = source->count;
    if (!source->rows) return row;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (source->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- the true neighbours ---- */

struct asking {
    const struct calibration *calibration;
    const float *query; /* raw */
    double norm;
    float *vector; /* room for one */
};

/* Minus the distance as the index has it: squared, of vectors of length 1 for cosine,
 * or minus the product. */
static float exact(const void *context, uint32_t row)
{
    const struct asking *a = context;
    const struct ivf *ivf = a->calibration->ivf;
    const struct ivf_source *source = a->calibration->queries->source;
    source->read(source->context, vector_of(source, row), 1, a->vector);
    if (ivf->metric == IVF_L2) return -distance_l2(a->query, a->vector, ivf->dim);
    double dot = distance_dot_f64(a->query, a->vector, ivf->dim);
    if (ivf->metric == IVF_DOT) return (float)dot;
    double norms = a->norm * distance_norm(a->vector, ivf->dim);
    return norms > 0 ? (float)(2 * dot / norms - 2) : -2;
}

/* A search is a part of the work of op: it rests where that does. */
static void search_op_init(struct op *search, const struct op *op)
{
    op_init(search, op->deadline_ms, 0);
    search->rest = op->rest;
    search->rest_context = op->rest_context;
}

/* A query among those that look for their neighbours together. */
struct asker {
    uint32_t query;
    struct ivf_search *search;
    uint32_t seen[NEAREST_FIRST]; /* clusters it looked at alone */
    size_t seen_count;
};

static struct slice record_bytes(const struct calibration *c,
                                 const struct ivf_record *record)
{
    return slice_of(c->records.data + record->offset, record->size);
}

/* Looks at its nearest clusters: of the others few rows can be nearer then. */
static enum err ask_nearest(struct op *op, const struct calibration *c, struct asker *a)
{
    struct ivf_record records[NEAREST_FIRST];
    enum err e =
        ivf_search_next(op, a->search, NULL, records, NEAREST_FIRST, &a->seen_count);
    for (size_t i = 0; i < a->seen_count; i++) {
        records[i].bytes = record_bytes(c, &records[i]);
        a->seen[i] = records[i].cluster;
    }
    return e ? e : ivf_search_scan(op, a->search, records, a->seen_count, NULL);
}

static bool has_seen(const struct asker *a, uint32_t cluster)
{
    for (size_t i = 0; i < a->seen_count; i++)
        if (a->seen[i] == cluster) return true;
    return false;
}

/* One cluster after the other for all of them: where records are pages of a file that
 * come and go, each comes once. */
static enum err ask_all(struct op *op, const struct calibration *c,
                        struct asker *askers, size_t n)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < c->ivf->clusters.count; i++) {
        struct ivf_record record = ivf_record_of(c->ivf, i);
        record.bytes = record_bytes(c, &record);
        for (size_t a = 0; a < n && !e; a++)
            if (!has_seen(&askers[a], i))
                e = ivf_search_scan(op, askers[a].search, &record, 1, NULL);
    }
    return e;
}

/* Notes the count nearest of what was found, by exact distances. */
static void note_nearest(struct calibration *c, const struct asker *a, uint32_t count)
{
    const struct ivf *ivf = c->ivf;
    const float *raw = c->queries->raw + (size_t)a->query * ivf->dim;
    struct asking asking = {c, raw, distance_norm(raw, ivf->dim),
                            mem_new_array(float, ivf->dim)};
    uint32_t self = row_of(c->queries, c->queries->vectors[a->query]);
    struct topk *truth = c->truth + a->query;
    struct hit *hits;
    size_t found;
    ivf_search_found(a->search, &hits, &found);
    topk_init(truth, c->hits + (size_t)a->query * TRUE_MAX, count, by_row, NULL);
    for (size_t i = 0; i < found; i++)
        if (hits[i].row != self)
            topk_push(truth, (struct hit){exact(&asking, hits[i].row), 0, hits[i].row});
    topk_finish(truth);
    mem_free(asking.vector);
}

/* The count nearest of a few queries. */
static enum err find_together(struct op *op, struct calibration *c,
                              const uint32_t *queries, size_t n, uint32_t count)
{
    struct ivf_options options = {.k = count + 1, /* the query finds itself */
                                  .probes = UINT32_MAX,
                                  .eps = TRUTH_EPS};
    struct asker askers[TOGETHER];
    struct op search;
    enum err e = ERR_OK;
    search_op_init(&search, op);
    for (size_t i = 0; i < n && !e; i++) {
        const float *raw = c->queries->raw + (size_t)queries[i] * c->ivf->dim;
        askers[i] = (struct asker){.query = queries[i]};
        e = ivf_search_begin(&search, c->ivf, raw, &options, &askers[i].search);
        options.beside = askers[0].search;
        if (!e) e = ask_nearest(&search, c, &askers[i]);
    }
    if (!e) e = ask_all(&search, c, askers, n);
    for (size_t i = 0; i < n && !e; i++)
        note_nearest(c, &askers[i], count);
    op_release(&search);
    return e;
}

/* The count nearest of n queries. */
static enum err find_nearest(struct op *op, struct calibration *c,
                             const uint32_t *queries, size_t n, uint32_t count)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i += TOGETHER) {
        e = find_together(op, c, queries + i, n - i < TOGETHER ? n - i : TOGETHER,
                          count);
        if (!e) e = op_check(op);
    }
    return e ? op_fail(op, e, "calibrate a vector index") : ERR_OK;
}

/* Distances of duplicates come out equal but for rounding. */
static float tie_limit(const struct topk *truth, size_t k)
{
    float kth = -truth->hits[k - 1].score;
    return kth + 1e-5f * fabsf(kth);
}

static bool is_true(const struct topk *truth, size_t k, uint32_t row)
{
    float limit = tie_limit(truth, k);
    for (size_t i = 0; i < truth->count && -truth->hits[i].score <= limit; i++)
        if (truth->hits[i].row == row) return true;
    return false;
}

/* Any answer would do where more rows tie than were kept. */
static bool is_telling(const struct topk *truth, size_t k)
{
    return k > 0 && (truth->count < TRUE_MAX ||
                     -truth->hits[TRUE_MAX - 1].score > tie_limit(truth, k));
}

static size_t neighbours(const struct calibration *c, uint32_t query,
                         const struct depth *depth)
{
    size_t count = c->truth[query].count;
    return count < depth->k ? count : depth->k;
}

/* May there be more that tie than few? */
static bool may_tie(const struct topk *truth)
{
    return truth->count == TRUE_FEW &&
           -truth->hits[TRUE_FEW - 1].score <= tie_limit(truth, IVF_DEEP);
}

static bool has_row(const struct hit *hits, size_t count, uint32_t row)
{
    for (size_t i = 0; i < count; i++)
        if (hits[i].row == row) return true;
    return false;
}

/* What a query found before it looks deeper. */
struct few {
    struct hit hits[TRUE_MAX];
    size_t count, k; /* found, and of those the neighbours */
    float limit;     /* what is nearer was missed, rounding aside */
};

static struct few few_of(const struct calibration *c, uint32_t query)
{
    const struct topk *truth = c->truth + query;
    struct few few = {.count = truth->count, .k = neighbours(c, query, &deep)};
    memcpy(few.hits, truth->hits, few.count * sizeof *few.hits);
    if (few.k) few.limit = 2 * -truth->hits[few.k - 1].score - tie_limit(truth, few.k);
    return few;
}

static size_t lacked(const struct few *few, const struct topk *deeper)
{
    size_t lacking = 0;
    for (size_t i = 0; i < few->k; i++)
        lacking += -deeper->hits[i].score < few->limit &&
                   !has_row(few->hits, few->count, deeper->hits[i].row);
    return lacking;
}

/* Looks once more and deeper for n of the queries. *lack: did they lack more than a few
 * neighbours? */
static enum err look_deeper(struct op *op, struct calibration *c,
                            const uint32_t *queries, size_t n, bool *lack)
{
    size_t looked = 0, lacking = 0;
    struct few *few = mem_new_array(struct few, n);
    for (size_t i = 0; i < n; i++) {
        few[i] = few_of(c, queries[i]);
        looked += few[i].k;
    }
    enum err e = find_nearest(op, c, queries, n, TRUE_MAX);
    for (size_t i = 0; i < n && !e; i++)
        lacking += lacked(&few[i], c->truth + queries[i]);
    *lack = lacking * LACKING_PART > looked;
    mem_free(few);
    return e;
}

/*
 * Few neighbours are much less work than many, and enough unless there may be more that
 * tie. The codes choose the rows whose vectors decide: where neighbours are so close
 * that codes hardly tell them apart, few rows would agree with a search that is as
 * wrong, so some of the queries show whether a deeper look finds others.
 */
static enum err find_neighbours(struct op *op, struct calibration *c)
{
    uint32_t count = c->queries->count, ties = 0, some = 0;
    uint32_t *all = mem_new_array(uint32_t, count);
    uint32_t *picked = mem_new_array(uint32_t, count);
    bool lack = false;
    for (uint32_t q = 0; q < count; q++)
        all[q] = q;
    enum err e = find_nearest(op, c, all, count, TRUE_FEW);
    for (uint32_t q = 0; q < count && !e; q++)
        if (may_tie(c->truth + q)) picked[ties++] = q;
    if (!e) e = find_nearest(op, c, picked, ties, TRUE_MAX);
    for (uint32_t q = 0; q < count; q += DEEPER_EACH)
        picked[some++] = q;
    if (!e) e = look_deeper(op, c, picked, some, &lack);
    if (!e && lack) e = find_nearest(op, c, all, count, TRUE_MAX);
    mem_free(all);
    mem_free(picked);
    return e;
}

/* ---- what they take ---- */

static int by_cosine(const void *a, const void *b)
{
    const struct look *x = a, *y = b;
    return (x->cosine > y->cosine) - (x->cosine < y->cosine);
}

static int by_count(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Squared distances of the centroids from queries, or minus the products: those of all
 * clusters from one query after the other. Each record is looked at once. */
static void measure_clusters(const struct calibration *c, const float *queries,
                             uint32_t count, double *distances)
{
    const struct ivf *ivf = c->ivf;
    uint32_t clusters = ivf->clusters.count;
    for (uint32_t i = 0; i < clusters; i++) {
        const void *centroid = c->records.data + ivf->offsets[i];
        for (uint32_t q = 0; q < count; q++) {
            const float *query = queries + (size_t)q * ivf->padded;
            distances[(size_t)q * clusters + i] =
                ivf_kind(ivf->metric) == RABITQ_PRODUCT
                    ? -(double)distance_dot(query, centroid, ivf->padded)
                    : (double)distance_l2(query, centroid, ivf->padded);
        }
    }
}

static uint32_t place_of(const double *distances, uint32_t count, uint32_t cluster)
{
    uint32_t nearer = 0;
    for (uint32_t i = 0; i < count; i++)
        nearer += distances[i] < distances[cluster];
    return nearer;
}

/* The distance of the k-th neighbour as rows have it: those of products lack the
 * mean. */
static double limit_of(const struct calibration *c, uint32_t q, size_t k)
{
    const struct ivf *ivf = c->ivf;
    double kth = -(double)c->truth[q].hits[k - 1].score;
    if (ivf->metric != IVF_DOT) return kth;
    const float *query = c->queries->coded + (size_t)q * ivf->padded;
    return kth + distance_dot_f64(query, ivf->mean, ivf->padded);
}

/* distances: of the clusters from the query. */
static void look_for(const struct calibration *c, uint32_t q, const double *distances,
                     struct looks *looks)
{
    const struct ivf *ivf = c->ivf;
    const struct topk *truth = c->truth + q;
    const float *query = c->queries->coded + (size_t)q * ivf->padded;
    size_t k = neighbours(c, q, looks->depth);
    if (k == 0) return;
    double limit = limit_of(c, q, k);
    double norm = sqrt((double)distance_dot(query, query, ivf->padded));
    for (size_t i = 0; i < k; i++) {
        uint32_t cluster = ivf_row_cluster(ivf, c->slots, truth->hits[i].row);
        looks->all[looks->count++] = (struct look){
            .place = place_of(distances, ivf->clusters.count, cluster),
            .cosine = ivf_required_cosine(ivf_kind(ivf->metric), distances[cluster],
                                          (double)ivf->radii[cluster], limit, norm)};
    }
}

static struct looks looks_new(const struct calibration *c, const struct depth *depth)
{
    return (struct looks){.depth = depth,
                          .all = mem_new_array(struct look,
                                               (size_t)c->queries->count * depth->k)};
}

static void look_for_all(struct op *op, const struct calibration *c, struct looks *one,
                         struct looks *other)
{
    uint32_t clusters = c->ivf->clusters.count, count = c->queries->count;
    double *distances = mem_new_array(double, (size_t)TOGETHER *clusters);
    for (uint32_t first = 0; first < count; first += TOGETHER) {
        uint32_t n = at_most(count - first, TOGETHER);
        op_rest(op);
        measure_clusters(c, c->queries->coded + (size_t)first * c->ivf->padded, n,
                         distances);
        for (uint32_t i = 0; i < n; i++) {
            const double *mine = distances + (size_t)i * clusters;
            look_for(c, first + i, mine, one);
            look_for(c, first + i, mine, other);
        }
    }
    qsort(one->all, one->count, sizeof *one->all, by_cosine);
    qsort(other->all, other->count, sizeof *other->all, by_cosine);
    mem_free(distances);
}

/* ---- recall ---- */

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

/* What is tried on the queries, and what they found. */
struct trial {
    const struct depth *depth;
    struct recalls by_codes, reranked;
    uint32_t *clusters; /* looked at by each */
};

static void count_true(const struct calibration *c, uint32_t q, const struct topk *best,
                       struct trial *t)
{
    const struct topk *truth = c->truth + q;
    uint32_t self = row_of(c->queries, c->queries->vectors[q]);
    size_t k = neighbours(c, q, t->depth), place = 0;
    uint32_t by_codes = 0, reranked = 0;
    for (size_t i = 0; i < best->count; i++) {
        uint32_t row = best->hits[i].row;
        if (row == self) continue;
        bool hit = place < t->depth->reranked && is_true(truth, k, row);
        reranked += hit;
        by_codes += hit && place < k;
        place++;
    }
    add_recall(&t->by_codes, by_codes, k);
    add_recall(&t->reranked, reranked, k);
}

static enum err try_query(struct op *op, const struct calibration *c, uint32_t q,
                          const struct ivf_calibration *limits, bool capped,
                          struct trial *t)
{
    uint32_t keep = t->depth->reranked + 1; /* the query finds itself */
    struct ivf_options options = {.k = t->depth->k,
                                  .rerank = keep,
                                  .cut = limits->cut,
                                  .probes = capped ? limits->clusters : 0};
    struct hit hits[RERANKED_MAX + 1];
    struct ivf_counters counters = {0};
    struct topk best;
    struct op search;
    topk_init(&best, hits, keep, by_row, NULL);
    search_op_init(&search, op);
    enum err e = ivf_search(&search, c->ivf, c->records,
                            c->queries->raw + (size_t)q * c->ivf->dim, &options, NULL,
                            NULL, 0, &best, &counters);
    op_release(&search);
    if (!e) e = op_check(op);
    if (e) return op_fail(op, e, "calibrate a vector index");
    topk_finish(&best);
    t->clusters[t->by_codes.count] = counters.clusters;
    count_true(c, q, &best, t);
    return ERR_OK;
}

/* Searches at these limits and fills in the rest. capped: so many clusters at most;
 * otherwise the count comes out. *found: the mean recall seen. */
static enum err try_limits(struct op *op, const struct calibration *c,
                           const struct depth *depth, uint32_t queries, bool capped,
                           struct ivf_calibration *limits, double *found)
{
    struct trial t = {.depth = depth, .clusters = mem_new_array(uint32_t, queries + 1)};
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < queries && !e; i++) {
        uint32_t q = (uint32_t)((uint64_t)c->queries->count * i / queries);
        if (is_telling(c->truth + q, neighbours(c, q, depth)))
            e = try_query(op, c, q, limits, capped, &t);
    }
    uint32_t count = t.by_codes.count;
    qsort(t.clusters, count, sizeof *t.clusters, by_count);
    if (!capped) limits->clusters = t.clusters[(uint32_t)(MOST * count)];
    if (limits->clusters == 0) limits->clusters = 1;
    limits->recall = lower_bound(&t.by_codes);
    limits->recall_reranked = lower_bound(&t.reranked);
    *found = count ? t.reranked.sum / count : 1;
    mem_free(t.clusters);
    return e;
}

/* ---- tables ---- */

/* behind[p]: neighbours whose cluster comes at place p or later. */
static uint32_t *count_behind(const struct looks *looks, uint32_t clusters)
{
    uint32_t *behind = mem_new_array(uint32_t, clusters + 1);
    for (size_t i = 0; i < looks->count; i++)
        behind[looks->all[i].place]++;
    for (uint32_t p = clusters; p > 0; p--)
        behind[p - 1] += behind[p];
    return behind;
}

/* The cut that misses at most so many of the neighbours that the clusters hold. */
static float cut_for(const struct looks *looks, uint32_t clusters, double most)
{
    double left = most;
    for (size_t i = looks->count; i > 0; i--) {
        const struct look *look = looks->all + i - 1;
        bool counts = look->place >= CAPPED_FIRST && look->place < clusters;
        if (counts && --left < 0) return fmaxf((float)look->cosine, CUT_LEAST);
    }
    return CUT_LEAST; /* they all lie in the first */
}

/*
 * Limits from low to high, each named by the part of the neighbours that it would miss
 * if a query knew its last result from the start. It does not, so it misses fewer: how
 * many, only a search tells, and where between them the recalls lie that are asked for.
 */
struct ladder {
    const struct calibration *calibration;
    const struct looks *looks;
    uint32_t *behind; /* capped; or NULL */
};

struct rung {
    struct ivf_calibration entry;
    double missed; /* which names it */
    double found;  /* the recall seen */
    bool last;     /* there is none between it and the next */
};

/*
 * Capped, a part is missed by the number of clusters and the others by the cut. Where
 * both miss some, the work for a recall is much less than with either alone, and hardly
 * depends on the parts.
 */
static struct ivf_calibration limits_at(const struct ladder *l, double missed)
{
    const struct looks *looks = l->looks;
    struct ivf_calibration limits = {.cut = CUT_LEAST};
    double most = missed * (double)looks->count;
    if (l->behind) {
        uint32_t all = l->calibration->ivf->clusters.count;
        limits.clusters = 1;
        while (limits.clusters < all && l->behind[limits.clusters] > most * BY_COUNT)
            limits.clusters++;
        limits.cut = cut_for(looks, limits.clusters, most - l->behind[limits.clusters]);
    } else {
        size_t index = (size_t)((1 - missed) * (double)(looks->count - 1));
        limits.cut = fmaxf((float)looks->all[index].cosine, CUT_LEAST);
    }
    return limits;
}

static enum err try_rung(struct op *op, const struct ladder *l, struct rung *r)
{
    const struct calibration *c = l->calibration;
    bool fewer = !l->behind || r->missed > ROUGHLY;
    uint32_t queries = at_most(c->queries->count, fewer ? CUT_QUERIES : UINT32_MAX);
    return try_limits(op, c, l->looks->depth, queries, l->behind, &r->entry, &r->found);
}

/* How much worse a rung is than the next. */
static double gap(const struct rung *r)
{
    if (r->last || r[1].found < POOR) return 0;
    return log((1 - r->found + UNASKED) / (1 - r[1].found + UNASKED));
}

/* The rung behind which one lacks most, or NULL. */
static struct rung *find_gap(struct rung *rungs, size_t count)
{
    struct rung *widest = NULL;
    double width = -log(NEAR);
    for (size_t i = 0; i + 1 < count; i++) {
        if (gap(rungs + i) <= width) continue;
        width = gap(rungs + i);
        widest = rungs + i;
    }
    return widest;
}

/* Limits only ever rise. */
static struct ivf_calibration limits_between(const struct ladder *l, double missed,
                                             const struct ivf_calibration *low,
                                             const struct ivf_calibration *high)
{
    struct ivf_calibration limits = limits_at(l, missed);
    limits.cut = fminf(fmaxf(limits.cut, low->cut), high->cut);
    /* Then it is only the first that are looked at. */
    if (l->behind && limits.cut <= CUT_LEAST)
        limits.clusters = at_most(limits.clusters, CAPPED_FIRST);
    if (limits.clusters < low->clusters) limits.clusters = low->clusters;
    return limits;
}

static bool same_limits(const struct ladder *l, const struct ivf_calibration *a,
                        const struct ivf_calibration *b)
{
    bool cut_differs = a->cut < b->cut || a->cut > b->cut;
    return !cut_differs && (!l->behind || a->clusters == b->clusters);
}

/* Names a rung halfway between two that is neither; false: there is none. */
static bool find_between(const struct ladder *l, const struct rung *low,
                         const struct rung *high, struct rung *out)
{
    double below = low->missed, above = high->missed;
    const struct ivf_calibration *a = &low->entry, *b = &high->entry;
    while ((below - above) * (double)l->looks->count > 1) {
        double missed = (below + above) / 2;
        *out =
            (struct rung){.missed = missed, .entry = limits_between(l, missed, a, b)};
        if (same_limits(l, &out->entry, a))
            below = missed;
        else if (same_limits(l, &out->entry, b))
            above = missed;
        else
            return true;
    }
    return false;
}

/* Measures the lowest and the highest limits, and then always where most is missing. */
static enum err climb(struct op *op, const struct ladder *l, double first, size_t most,
                      struct ivf_table *table)
{
    struct rung rungs[RUNGS_MAX], *low;
    size_t count = 2;
    if (l->looks->count == 0) return ERR_OK;
    rungs[0] = (struct rung){.missed = first, .entry = limits_at(l, first)};
    rungs[1] = (struct rung){.missed = 0, .entry = limits_at(l, 0)};
    enum err e = try_rung(op, l, rungs);
    if (!e) e = try_rung(op, l, rungs + 1);
    while (!e && count < most && (low = find_gap(rungs, count))) {
        struct rung between;
        low->last = !find_between(l, low, low + 1, &between);
        if (low->last) continue;
        e = try_rung(op, l, &between);
        memmove(low + 2, low + 1, (size_t)(rungs + count++ - low - 1) * sizeof *low);
        low[1] = between;
    }
    for (size_t i = 0; i < count; i++)
        if (i == 0 || rungs[i].entry.cut > rungs[i - 1].entry.cut || l->behind)
            table->entries[table->count++] = rungs[i].entry;
    return e;
}

static enum err measure_cuts(struct op *op, const struct calibration *c,
                             const struct looks *looks, struct ivf_table *table)
{
    struct ladder l = {c, looks, NULL};
    return climb(op, &l, MISSED_MOST, RUNGS, table);
}

static enum err measure_capped(struct op *op, const struct calibration *c,
                               const struct looks *looks, struct ivf_table *table)
{
    struct ladder l = {c, looks, count_behind(looks, c->ivf->clusters.count)};
    enum err e = climb(op, &l, MISSED_CAPPED, RUNGS_MAX, table);
    mem_free(l.behind);
    return e;
}

static enum err fill_tables(struct op *op, const struct calibration *c, struct ivf *ivf)
{
    struct looks far = looks_new(c, &deep), near = looks_new(c, &shallow);
    look_for_all(op, c, &far, &near);
    enum err e = measure_cuts(op, c, &near, &ivf->shallow);
    if (!e) e = measure_cuts(op, c, &far, &ivf->deep);
    if (!e) e = measure_capped(op, c, &far, &ivf->capped);
    mem_free(far.all);
    mem_free(near.all);
    return e;
}

enum err calibration_measure(struct op *op, const struct calibration_queries *queries,
                             struct ivf *ivf, struct slice records, struct slice slots)
{
    struct calibration c = {.queries = queries,
                            .ivf = ivf,
                            .records = records,
                            .slots = slots,
                            .truth = mem_new_array(struct topk, queries->count)};
    c.hits = mem_new_array(struct hit, (size_t)queries->count * TRUE_MAX);
    enum err e = find_neighbours(op, &c);
    if (!e) e = fill_tables(op, &c, ivf);
    mem_free(c.hits);
    mem_free(c.truth);
    return e;
}
