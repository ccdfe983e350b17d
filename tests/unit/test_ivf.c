#include "vec/ivf.h"

#include <math.h>

#include "base/codec.h"
#include "base/op.h"
#include "base/rowset.h"
#include "base/simd.h"
#include "unit/test.h"
#include "unit/vectors.h"
#include "vec/distance.h"

enum { K = 10, ROWS_APART = 3 };

/* Where thousands of rows are indexed for each metric. Those of few rows take them all.
 */
enum { LAST_METRIC = BY_FLAVOUR(IVF_DOT, IVF_COSINE) };
/* And where hundreds are, again and again. */
enum { LAST_OF_FEW = BY_VALGRIND(IVF_DOT, IVF_COSINE) };

/*
 * What is asserted of recall is asserted of these data sets, which formulas make from a
 * number, as others are read from a file. Recall over a few dozen queries of data of
 * chance has a deviation of some percent: a bound that holds for every seed would say
 * nothing, and one that says something would fail now and then.
 */
static const uint64_t DATA_SET = 20261122;

/* Vectors, their index, and what a scan of them says. */
struct world {
    enum ivf_metric metric;
    uint32_t count, dim;
    float *vectors;
    uint32_t *rows; /* row of vector i: ROWS_APART * i + 1 */
    struct ivf_bytes bytes;
    struct ivf *ivf;
    const float *query;
    uint32_t cluster_size;
    const uint32_t *clusters; /* of the vectors already, or NULL */
    uint32_t cluster_count;
    bool flat;
};

static void read_vectors(const void *context, uint32_t first, uint32_t count,
                         float *out)
{
    const struct world *w = context;
    memcpy(out, w->vectors + (size_t)first * w->dim,
           (size_t)count * w->dim * sizeof *out);
}

static enum err try_build(struct world *w)
{
    struct op op;
    w->rows = mem_new_array(uint32_t, w->count);
    for (uint32_t i = 0; i < w->count; i++)
        w->rows[i] = ROWS_APART * i + 1;
    struct ivf_source source = {.read = read_vectors,
                                .context = w,
                                .count = w->count,
                                .dim = w->dim,
                                .rows = w->rows,
                                .row_count = ROWS_APART * w->count,
                                .clusters = w->clusters,
                                .cluster_count = w->cluster_count};
    struct ivf_build_options options = {.metric = w->metric,
                                        .seed = 42,
                                        .cluster_size = w->cluster_size,
                                        .flat = w->flat};
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = ivf_build(&op, &source, &options, &w->bytes);
    if (!e) e = ivf_open(&op, buf_slice(&w->bytes.head), &w->ivf);
    op_release(&op);
    return e;
}

static void build(struct world *w)
{
    assert_int_equal(try_build(w), ERR_OK);
    assert_int_equal(ivf_count(w->ivf), w->count);
    assert_in_range(ivf_largest_cluster(w->ivf), 1, 512);
    assert_int_equal(ivf_slots_size(w->ivf), w->bytes.slots.size);
    assert_int_equal(ivf_records_size(w->ivf), w->bytes.records.size);
}

static void release(struct world *w)
{
    ivf_close(w->ivf);
    ivf_bytes_release(&w->bytes);
    mem_free(w->vectors);
    mem_free(w->rows);
}

/* Points around centres, as real data are: count / 40 centres, their own spread. */
static float *clustered(uint32_t count, uint32_t dim, uint64_t *seed)
{
    uint32_t centres = count / 40 + 1;
    float *centre = gaussians((size_t)centres * dim, seed);
    float *p = gaussians((size_t)count * dim, seed);
    for (uint32_t i = 0; i < count; i++) {
        const float *c = centre + test_random(seed) % centres * dim;
        for (uint32_t d = 0; d < dim; d++)
            p[(size_t)i * dim + d] = c[d] + 0.6f * p[(size_t)i * dim + d];
    }
    mem_free(centre);
    return p;
}

static float exact_score(const void *context, uint32_t row)
{
    const struct world *w = context;
    const float *v = w->vectors + (size_t)(row / ROWS_APART) * w->dim;
    assert_int_equal(row % ROWS_APART, 1);
    if (w->metric == IVF_L2) return -distance_l2(v, w->query, w->dim);
    double dot = distance_dot_f64(v, w->query, w->dim);
    if (w->metric == IVF_DOT) return (float)dot;
    double norms = distance_norm(v, w->dim) * distance_norm(w->query, w->dim);
    return norms > 0 ? (float)(dot / norms) : 0;
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

/* The score of the k-th best allowed row; *k shrinks to the number of such rows. */
static float true_kth(const struct world *w, const struct rowset *allowed, size_t *k)
{
    struct hit hits[100];
    struct topk best;
    topk_init(&best, hits, *k, by_row, NULL);
    for (uint32_t i = 0; i < w->count; i++)
        if (!allowed || rowset_has(allowed, w->rows[i]))
            topk_push(&best, (struct hit){exact_score(w, w->rows[i]), 0, w->rows[i]});
    *k = best.count;
    return best.count ? hits[0].score : 0;
}

static enum err search(const struct world *w, const struct ivf_options *options,
                       struct topk *best, struct ivf_counters *counters)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = ivf_search(&op, w->ivf, buf_slice(&w->bytes.records), w->query,
                            options, exact_score, w, 7, best, counters);
    op_release(&op);
    return e;
}

/* Part of the k best that one search finds; checks all that must hold of any search. */
static double recall_of(const struct world *w, const struct ivf_options *options)
{
    struct hit hits[100];
    struct topk best;
    size_t k = options->k, found = 0;
    float kth = true_kth(w, options->allowed, &k);
    topk_init(&best, hits, options->k, by_row, NULL);
    assert_int_equal(search(w, options, &best, NULL), ERR_OK);
    topk_finish(&best);
    assert_true(best.count <= k);
    for (size_t i = 0; i < best.count; i++) {
        assert_int_equal(hits[i].source, 7);
        if (options->allowed) assert_true(rowset_has(options->allowed, hits[i].row));
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(hits[i].row, hits[j].row);
        found += exact_score(w, hits[i].row) >= kth - 1e-5f * fabsf(kth) - 1e-6f;
    }
    return k ? (double)found / (double)k : 1;
}

/* Mean recall of queries near to the data. */
static double mean_recall(struct world *w, struct ivf_options options, int queries,
                          uint64_t *seed)
{
    double sum = 0;
    options.slots = buf_slice(&w->bytes.slots);
    for (int q = 0; q < queries; q++) {
        float *query = gaussians(w->dim, seed);
        const float *near = w->vectors + test_random(seed) % w->count * w->dim;
        for (uint32_t d = 0; d < w->dim; d++)
            query[d] = near[d] + 0.3f * query[d];
        w->query = query;
        sum += recall_of(w, &options) / queries;
        mem_free(query);
    }
    w->query = NULL;
    return sum;
}

/* ---- recall ---- */

static void recall_is_what_was_wanted(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_METRIC; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric,
                          .count = BY_VALGRIND(8000, 3000),
                          .dim = 96};
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        double normal =
            mean_recall(&w, (struct ivf_options){.k = K, .recall = 0.95f, .rerank = 30},
                        200, &seed);
        double high =
            mean_recall(&w, (struct ivf_options){.k = K, .recall = 0.99f, .rerank = 30},
                        200, &seed);
        print_message("metric %d: recall %.3f, %.3f; %u and %u of %u clusters\n",
                      metric, normal, high, ivf_probes(w.ivf, 0.95f, true),
                      ivf_probes(w.ivf, 0.99f, true), ivf_clusters(w.ivf));
        assert_true(normal >= 0.95);
        assert_true(high >= 0.99);
        release(&w);
    }
}

/* Everything looked at and the best decided exactly: nothing is left to chance but the
 * bound. */
static void all_clusters_and_a_rerank_find_nearly_all(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1,  2,  3,  4,  5,  7,  8,   15,  16, 17,
                                    31, 33, 63, 64, 65, 70, 127, 128, 129};
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++)
        for (size_t i = 0; i < COUNT_OF(dims); i += BY_VALGRIND(1, 3)) {
            struct world w = {.metric = (enum ivf_metric)metric,
                              .count = 700,
                              .dim = dims[i]};
            w.vectors = clustered(w.count, w.dim, &seed);
            build(&w);
            double recall =
                mean_recall(&w,
                            (struct ivf_options){.k = K, .probes = 10000, .rerank = 50},
                            30, &seed);
            if (recall < 0.98)
                print_message("metric %d dim %u: %.3f\n", metric, dims[i], recall);
            assert_true(recall >= 0.98);
            release(&w);
        }
}

static void scores_without_rerank_are_nearly_exact(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric, .count = 2000, .dim = 200};
        struct hit hits[K];
        struct topk best;
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        w.query = w.vectors + 5 * w.dim;
        double spread = 0;
        for (uint32_t i = 0; i < w.count; i++)
            spread += fabs((double)exact_score(&w, w.rows[i])) / w.count;
        topk_init(&best, hits, K, by_row, NULL);
        assert_int_equal(search(&w, &(struct ivf_options){.k = K, .recall = 0.9f},
                                &best, NULL),
                         0);
        /* Errors of products grow with the lengths, not with the products. */
        double length = distance_norm(w.query, w.dim);
        double tolerance =
            metric == IVF_DOT ? 0.005 * length * length : 0.02 * spread + 0.002;
        for (size_t i = 0; i < best.count; i++) {
            double error = fabs((double)(hits[i].score - exact_score(&w, hits[i].row)));
            assert_true(error < tolerance);
        }
        release(&w);
    }
}

static struct rowset *random_filter(const struct world *w, double part, uint64_t *seed)
{
    struct rowset *set = rowset_new();
    for (uint32_t i = 0; i < w->count; i++)
        if ((double)(test_random(seed) >> 11) * 0x1p-53 < part)
            rowset_add(set, w->rows[i]);
    return set;
}

/* Small clusters make many of them: found through super clusters, trained as a tree. */
static void many_clusters_keep_recall(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric,
                          .count = BY_VALGRIND(12000, 10000),
                          /* so long that they are found by super clusters */
                          .dim = metric == IVF_L2 ? 700 : 30,
                          .cluster_size = 8};
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        assert_true(ivf_clusters(w.ivf) > 1024);
        struct ivf_options options = {.k = K, .recall = 0.95f, .rerank = 30};
        double recall = mean_recall(&w, options, 100, &seed);
        struct rowset *allowed = random_filter(&w, 0.5, &seed);
        options.allowed = allowed;
        double filtered = mean_recall(&w, options, 100, &seed);
        print_message("metric %d: recall %.3f, filtered %.3f; %u of %u clusters\n",
                      metric, recall, filtered, ivf_probes(w.ivf, 0.95f, true),
                      ivf_clusters(w.ivf));
        /* These queries lie farther out than the rows that the limits were measured
         * with: that matters where clusters hold less than the neighbours wanted. */
        assert_true(recall >= (metric == IVF_COSINE ? 0.95 : 0.9));
        assert_true(filtered >= 0.95);
        rowset_unref(allowed);
        release(&w);
    }
}

/* Of one row in eight the clusters are known, as of a segment that others are merged
 * with, and then of all: both times the index is as good as one that starts anew. */
static void clusters_that_are_taken_over_keep_recall(void **state)
{
    enum { ROWS = BY_VALGRIND(8000, 4000) };
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_METRIC; metric++) {
        struct world part = {.metric = (enum ivf_metric)metric, .count = 1000};
        struct world w = {.metric = part.metric, .count = ROWS};
        uint32_t *clusters = mem_new_array(uint32_t, w.count);
        part.dim = w.dim = 96;
        w.vectors = clustered(w.count, w.dim, &seed);
        part.vectors =
            mem_dup(w.vectors, (size_t)part.count * w.dim * sizeof *w.vectors);
        build(&part);
        for (uint32_t i = 0; i < w.count; i++)
            clusters[i] = i < part.count
                              ? ivf_row_cluster(part.ivf, buf_slice(&part.bytes.slots),
                                                part.rows[i])
                              : IVF_NO_CLUSTER;
        w.clusters = clusters;
        w.cluster_count = ivf_clusters(part.ivf);
        build(&w);
        struct ivf_options options = {.k = K, .recall = 0.95f, .rerank = 15};
        double recall = mean_recall(&w, options, 200, &seed);
        print_message("metric %d: recall %.3f; %u of %u clusters, from %u\n", metric,
                      recall, ivf_probes(w.ivf, 0.95f, true), ivf_clusters(w.ivf),
                      w.cluster_count);
        assert_true(recall >= 0.95);
        assert_in_range(ivf_clusters(w.ivf), ROWS / 333, ROWS / 166);
        release(&part);
        release(&w);
        mem_free(clusters);
    }
}

static void a_flat_index_finds_nearly_all_by_codes_alone(void **state)
{
    (void)state;
    static const uint32_t dims[] = {65, 96, 128, 300};
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++)
        for (size_t i = 0; i < COUNT_OF(dims); i++) {
            struct world w = {.metric = (enum ivf_metric)metric,
                              .count = 1500,
                              .dim = dims[i],
                              .flat = true};
            w.vectors = clustered(w.count, w.dim, &seed);
            build(&w);
            double recall =
                mean_recall(&w,
                            (struct ivf_options){.k = K, .recall = 0.99f, .rerank = 15},
                            100, &seed);
            if (recall < 0.99)
                print_message("metric %d dim %u: %.3f\n", metric, dims[i], recall);
            assert_true(recall >= 0.99);
            release(&w);
        }
}

static void a_flat_index_keeps_recall_under_filters(void **state)
{
    (void)state;
    static const double parts[] = {0.5, 0.1, 0.01};
    uint64_t seed = DATA_SET;
    struct world w = {.metric = IVF_L2, .count = 4000, .dim = 128, .flat = true};
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        struct rowset *allowed = random_filter(&w, parts[i], &seed);
        struct ivf_options options = {.k = K,
                                      .recall = 0.99f,
                                      .rerank = 15,
                                      .allowed = allowed};
        double recall = mean_recall(&w, options, 100, &seed);
        assert_true(recall >= 0.99);
        rowset_unref(allowed);
    }
    release(&w);
}

static void a_flat_index_says_that_it_is_and_what_it_reaches(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int flat = 0; flat < 2; flat++) {
        struct world w = {.metric = IVF_L2, .count = 3000, .dim = 96, .flat = flat};
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        assert_int_equal(ivf_is_flat(w.ivf), flat);
        assert_true(ivf_reaches(w.ivf, 0.99f));
        assert_int_equal(ivf_reaches(w.ivf, 0.999f), !flat);
        release(&w);
    }
}

/* Along a line the nearest of many lie closer together than their codes are precise. */
static void an_index_whose_codes_are_too_rough_says_so(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 96};
    uint64_t seed = DATA_SET;
    for (size_t i = 0; i < COUNT_OF(dims); i++) {
        struct world w = {.metric = IVF_L2,
                          .count = BY_VALGRIND(20000, 5000) / dims[i] + 3000};
        w.dim = dims[i];
        w.vectors = gaussians((size_t)w.count * w.dim, &seed);
        build(&w);
        assert_int_equal(ivf_reaches(w.ivf, 0.95f), dims[i] > 1);
        assert_int_equal(ivf_reaches(w.ivf, 0.999f), dims[i] > 1);
        release(&w);
    }
}

/*
 * Of products in two or three dimensions the few longest rows are everybody's
 * neighbours: many require the very same cosine, so recall jumps where a cut reaches it
 * and says nothing of cuts before.
 */
static void the_same_few_neighbours_of_all_keep_recall(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        uint32_t dim;
        float wanted;
    } sets[] = {{8479986987551406356U, 2, 0.95f},
                {10966759489792393338U, 3, 0.95f},
                {8055195530795046028U, 2, 0.99f}};
    for (size_t i = 0; i < BY_VALGRIND(COUNT_OF(sets), 1); i++) {
        uint64_t seed = sets[i].seed;
        struct world w = {.metric = IVF_DOT, .count = 6000, .dim = sets[i].dim};
        struct ivf_options options = {.k = K,
                                      .recall = sets[i].wanted,
                                      .rerank = ivf_rerank(K)};
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        assert_true(mean_recall(&w, options, 500, &seed) >= (double)options.recall);
        release(&w);
    }
}

/* ---- odd data ---- */

static void few_vectors_are_found(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= IVF_DOT; metric++)
        for (uint32_t count = 1; count <= 70; count += count < 5 ? 1 : 13) {
            struct world w = {.metric = (enum ivf_metric)metric,
                              .count = count,
                              .dim = 9};
            w.vectors = gaussians((size_t)count * 9, &seed);
            build(&w);
            assert_true(
                mean_recall(&w, (struct ivf_options){.k = K, .recall = 1, .rerank = 70},
                            5, &seed) > 0.99);
            release(&w);
        }
}

static void equal_vectors_are_all_found_and_told_apart_by_row(void **state)
{
    (void)state;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric, .count = 3000, .dim = 20};
        w.vectors = mem_new_array(float, (size_t)w.count *w.dim);
        for (size_t i = 0; i < (size_t)w.count * w.dim; i++)
            w.vectors[i] = 0.25f;
        build(&w);
        uint64_t seed = DATA_SET;
        assert_true(mean_recall(&w, (struct ivf_options){.k = K, .recall = 0.95f}, 5,
                                &seed) > 0.99);
        release(&w);
    }
}

static void vectors_of_zeros_have_their_score(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= IVF_DOT; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric, .count = 600, .dim = 64};
        w.vectors = clustered(w.count, w.dim, &seed);
        memset(w.vectors, 0, 300 * w.dim * sizeof(float));
        build(&w);
        assert_true(
            mean_recall(&w, (struct ivf_options){.k = K, .probes = 1000, .rerank = 30},
                        60, &seed) >= 0.98);
        float zeros[64] = {0};
        struct hit hits[K];
        struct topk best;
        w.query = zeros;
        topk_init(&best, hits, K, by_row, NULL);
        assert_int_equal(search(&w, &(struct ivf_options){.k = K, .recall = 0.9f},
                                &best, NULL),
                         0);
        assert_int_equal(best.count, K);
        release(&w);
    }
}

static void one_far_outlier_leaves_recall_to_the_others(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_OF_FEW; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric, .count = 4000, .dim = 48};
        w.vectors = clustered(w.count, w.dim, &seed);
        for (uint32_t d = 0; d < w.dim; d++)
            w.vectors[123 * w.dim + d] = 1e6f;
        build(&w);
        assert_true(ivf_reaches(w.ivf, 0.95f));
        assert_true(
            mean_recall(&w, (struct ivf_options){.k = K, .recall = 0.95f, .rerank = 30},
                        200, &seed) >= 0.95);
        release(&w);
    }
}

static void two_groups_and_sorted_rows_keep_recall(void **state)
{
    (void)state;
    uint64_t seed = DATA_SET;
    struct world w = {.metric = IVF_L2, .count = 4000, .dim = 32};
    w.vectors = gaussians((size_t)w.count * w.dim, &seed);
    for (uint32_t i = w.count / 2; i < w.count; i++)
        w.vectors[(size_t)i * w.dim] += 100;
    build(&w);
    assert_true(mean_recall(&w,
                            (struct ivf_options){.k = K, .recall = 0.95f, .rerank = 30},
                            200, &seed) >= 0.95);
    release(&w);
}

static void vectors_too_long_are_refused(void **state)
{
    (void)state;
    struct world w = {.metric = IVF_L2, .count = 10, .dim = 4};
    w.vectors = mem_new_array(float, 40);
    w.vectors[17] = 1e30f;
    assert_int_equal(try_build(&w), ERR_LIMIT);
    release(&w);
}

static void a_query_too_long_is_refused(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_L2, .count = 10, .dim = 4};
    struct hit hits[1];
    struct topk best;
    float query[4] = {1e30f, 0, 0, 0};
    w.vectors = gaussians(40, &seed);
    build(&w);
    w.query = query;
    topk_init(&best, hits, 1, by_row, NULL);
    assert_int_equal(search(&w, &(struct ivf_options){.k = 1, .recall = 0.9f}, &best,
                            NULL),
                     ERR_LIMIT);
    release(&w);
}

static void the_same_vectors_give_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world a = {.metric = IVF_COSINE, .count = 900, .dim = 40}, b = a;
    a.vectors = clustered(a.count, a.dim, &seed);
    b.vectors = gaussians((size_t)b.count * b.dim, &seed);
    memcpy(b.vectors, a.vectors, (size_t)a.count * a.dim * sizeof(float));
    build(&a);
    build(&b);
    assert_true(slice_equal(buf_slice(&a.bytes.head), buf_slice(&b.bytes.head)));
    assert_true(slice_equal(buf_slice(&a.bytes.slots), buf_slice(&b.bytes.slots)));
    assert_true(slice_equal(buf_slice(&a.bytes.records), buf_slice(&b.bytes.records)));
    release(&a);
    release(&b);
}

/* ---- filters ---- */

static void filters_keep_recall(void **state)
{
    (void)state;
    static const double parts[] = {0.999, 0.5, 0.1, 0.01, 0.001, 0};
    uint64_t seed = DATA_SET;
    for (int metric = IVF_COSINE; metric <= LAST_METRIC; metric++) {
        struct world w = {.metric = (enum ivf_metric)metric,
                          .count = BY_VALGRIND(20000, 5000),
                          .dim = 64};
        w.vectors = clustered(w.count, w.dim, &seed);
        build(&w);
        for (size_t i = 0; i < COUNT_OF(parts); i++)
            for (int by_slots = 0; by_slots < 2; by_slots++) {
                struct rowset *allowed = random_filter(&w, parts[i], &seed);
                struct ivf_options options = {.k = K,
                                              .recall = 0.95f,
                                              .rerank = 30,
                                              .allowed = allowed};
                if (by_slots) options.slots = buf_slice(&w.bytes.slots);
                double recall = mean_recall(&w, options, 40, &seed);
                print_message("metric %d filter %.3f: recall %.3f\n", metric, parts[i],
                              recall);
                assert_true(recall >= 0.95);
                rowset_unref(allowed);
            }
        release(&w);
    }
}

/* Only rows of the far half are allowed: the search has to walk away from the query. A
 * thousand rows lie just behind the border, so near to each other that their 8-bit
 * codes cannot rank them: some more are decided exactly. */
static void a_filter_against_the_query_keeps_recall(void **state)
{
    enum { QUERIES = BY_VALGRIND(60, 20) };
    (void)state;
    uint64_t seed = DATA_SET;
    struct world w = {.metric = IVF_L2, .count = BY_VALGRIND(20000, 5000), .dim = 64};
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    double sum = 0;
    for (int q = 0; q < QUERIES; q++) {
        struct rowset *far = rowset_new();
        w.query = w.vectors + test_random(&seed) % w.count * w.dim;
        for (uint32_t i = 0; i < w.count; i++)
            if (exact_score(&w, w.rows[i]) < -140) rowset_add(far, w.rows[i]);
        sum += recall_of(&w, &(struct ivf_options){.k = K,
                                                   .recall = 0.95f,
                                                   .rerank = 400,
                                                   .allowed = far});
        rowset_unref(far);
    }
    print_message("recall %.3f\n", sum / QUERIES);
    assert_true(sum / QUERIES >= 0.95);
    release(&w);
}

/* ---- what others have found ---- */

static void rows_worse_than_the_shared_best_are_left_out_early(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_L2, .count = 5000, .dim = 80};
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    w.query = w.vectors;
    struct hit hits[1];
    struct topk best;
    struct ivf_counters alone, shared;
    struct ivf_options options = {.k = 1, .recall = 0.95f};
    topk_init(&best, hits, 1, by_row, NULL);
    assert_int_equal(search(&w, &options, &best, &alone), ERR_OK);
    topk_init(&best, hits, 1, by_row, NULL);
    topk_push(&best, (struct hit){1e6f, 0, 0}); /* nearer than near */
    assert_int_equal(search(&w, &options, &best, &shared), ERR_OK);
    assert_true(alone.rows > 0);
    assert_int_equal(shared.rows, 0);
    assert_int_equal(hits[0].source, 0);
    release(&w);
}

/* ---- damage ---- */

static void search_whatever(const struct ivf *ivf, struct slice records,
                            struct slice slots, const float *query)
{
    struct rowset *allowed = rowset_range(0, 200);
    for (int filtered = 0; filtered < 2; filtered++) {
        struct op op;
        struct hit hits[K];
        struct topk best;
        struct ivf_options options = {.k = K, .recall = 0.9f};
        if (filtered) options.allowed = allowed;
        if (filtered) options.slots = slots;
        op_init(&op, OP_NO_DEADLINE, 0);
        topk_init(&best, hits, K, by_row, NULL);
        enum err e =
            ivf_search(&op, ivf, records, query, &options, NULL, NULL, 0, &best, NULL);
        assert_true(e == ERR_OK || e == ERR_CORRUPT || e == ERR_LIMIT);
        op_release(&op);
    }
    rowset_unref(allowed);
}

static enum err open_copy(const uint8_t *bytes, size_t size, struct ivf **ivf)
{
    struct op op;
    uint8_t *copy = mem_alloc(size + 1); /* exactly size, for the sanitizer */
    memcpy(copy, bytes, size);
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = ivf_open(&op, slice_of(copy, size), ivf);
    op_release(&op);
    ivf_close(*ivf);
    *ivf = NULL;
    mem_free(copy);
    return e;
}

static void damaged_heads_are_refused(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_L2, .count = 300, .dim = 3};
    struct ivf *ivf = NULL;
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    struct buf *head = &w.bytes.head;
    for (size_t size = 0; size < head->size; size++)
        assert_int_equal(open_copy(head->data, size, &ivf), ERR_CORRUPT);
    for (size_t bit = 0; bit < head->size * 8; bit++) {
        head->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(open_copy(head->data, head->size, &ivf), ERR_CORRUPT);
        head->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(open_copy(head->data, head->size, &ivf), ERR_OK);
    release(&w);
}

/* Lies with a right checksum: whatever opens must be safe to search. */
static void lying_heads_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_L2, .count = 300, .dim = 3};
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    struct buf *head = &w.bytes.head;
    for (size_t byte = 8; byte < head->size; byte++)
        for (int change = 0; change < 3; change++) {
            static const uint8_t changes[] = {1, 0x80, 0xff};
            struct op op;
            struct ivf *ivf;
            uint32_t crc = 0;
            head->data[byte] ^= changes[change];
            memcpy(head->data + 60, &crc, sizeof crc);
            crc = crc32c(0, head->data, head->size);
            memcpy(head->data + 60, &crc, sizeof crc);
            op_init(&op, OP_NO_DEADLINE, 0);
            if (ivf_open(&op, buf_slice(head), &ivf) == ERR_OK)
                search_whatever(ivf, buf_slice(&w.bytes.records),
                                buf_slice(&w.bytes.slots), w.vectors);
            ivf_close(ivf);
            op_release(&op);
            if (byte < 60 || byte > 63) head->data[byte] ^= changes[change];
        }
    release(&w);
}

static void damaged_records_and_slots_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_DOT, .count = 300, .dim = 5};
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    struct buf *damaged[] = {&w.bytes.records, &w.bytes.slots};
    for (int which = 0; which < 2; which++)
        for (int n = 0; n < BY_VALGRIND(3000, 300); n++) {
            size_t at = test_random(&seed) % damaged[which]->size;
            uint8_t before = damaged[which]->data[at];
            damaged[which]->data[at] = (uint8_t)test_random(&seed);
            search_whatever(w.ivf, buf_slice(&w.bytes.records),
                            buf_slice(&w.bytes.slots), w.vectors);
            damaged[which]->data[at] = before;
        }
    memset(w.bytes.records.data, 0xff, w.bytes.records.size); /* NaN and rows behind */
    memset(w.bytes.slots.data, 0x7f, w.bytes.slots.size);
    search_whatever(w.ivf, buf_slice(&w.bytes.records), buf_slice(&w.bytes.slots),
                    w.vectors);
    search_whatever(w.ivf, slice_of(w.bytes.records.data, 100), SLICE_EMPTY, w.vectors);
    release(&w);
}

/* ---- levels ---- */

static void every_level_finds_the_same(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w = {.metric = IVF_COSINE, .count = 3000, .dim = 100};
    struct hit expected[K], hits[K];
    struct topk best;
    w.vectors = clustered(w.count, w.dim, &seed);
    build(&w);
    for (int q = 0; q < 10; q++) {
        struct ivf_options options = {.k = K, .recall = 0.95f, .rerank = 20};
        w.query = w.vectors + test_random(&seed) % w.count * w.dim;
        for (enum simd_level level = SIMD_PLAIN; level <= simd_detect(); level++) {
#if defined(__x86_64__)
            if (level == SIMD_NEON) continue;
#endif
            simd_force(level);
            topk_init(&best, level == SIMD_PLAIN ? expected : hits, K, by_row, NULL);
            assert_int_equal(search(&w, &options, &best, NULL), ERR_OK);
            topk_finish(&best);
            for (size_t i = 0; i < K && level != SIMD_PLAIN; i++)
                assert_int_equal(hits[i].row, expected[i].row);
        }
    }
    simd_force(simd_detect());
    release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_is_what_was_wanted),
        cmocka_unit_test(all_clusters_and_a_rerank_find_nearly_all),
        cmocka_unit_test(many_clusters_keep_recall),
        cmocka_unit_test(clusters_that_are_taken_over_keep_recall),
        cmocka_unit_test(a_flat_index_finds_nearly_all_by_codes_alone),
        cmocka_unit_test(a_flat_index_keeps_recall_under_filters),
        cmocka_unit_test(a_flat_index_says_that_it_is_and_what_it_reaches),
        cmocka_unit_test(the_same_few_neighbours_of_all_keep_recall),
        cmocka_unit_test(an_index_whose_codes_are_too_rough_says_so),
        cmocka_unit_test(scores_without_rerank_are_nearly_exact),
        cmocka_unit_test(few_vectors_are_found),
        cmocka_unit_test(equal_vectors_are_all_found_and_told_apart_by_row),
        cmocka_unit_test(vectors_of_zeros_have_their_score),
        cmocka_unit_test(one_far_outlier_leaves_recall_to_the_others),
        cmocka_unit_test(two_groups_and_sorted_rows_keep_recall),
        cmocka_unit_test(vectors_too_long_are_refused),
        cmocka_unit_test(a_query_too_long_is_refused),
        cmocka_unit_test(the_same_vectors_give_the_same_bytes),
        cmocka_unit_test(filters_keep_recall),
        cmocka_unit_test(a_filter_against_the_query_keeps_recall),
        cmocka_unit_test(rows_worse_than_the_shared_best_are_left_out_early),
        cmocka_unit_test(damaged_heads_are_refused),
        cmocka_unit_test(lying_heads_do_no_harm),
        cmocka_unit_test(damaged_records_and_slots_do_no_harm),
        cmocka_unit_test(every_level_finds_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
