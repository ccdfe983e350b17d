/*
 * The nearest vectors of segments that have an index: recall against a search that is
 * exact, several segments and their merge, distant ones, and what an index cannot
 * answer.
 */
#include "segment/segment.h"

#include <math.h>

#include "unit/segment_world.h"

/* ---- several segments with indexes ---- */

enum { NEAR_DIM = 24, NEAR_ROWS = 20000, NEAR_K = 10, NEAR_SEGMENTS = 20 };

/* Documents around centres; the same for a seed. */
struct crowd {
    struct op op;
    struct schema *schema;
    struct doc *docs;
    uint64_t rng;
};

static float small_random(uint64_t *rng)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)random_index(rng, 2001) / 1000 - 1;
    return sum;
}

static int crowd_around(void **state, uint32_t count, float spread)
{
    enum { CENTRES_MAX = 300 };
    static struct crowd crowd;
    struct crowd *c = *state = &crowd;
    float centres[CENTRES_MAX * NEAR_DIM];
    crowd = (struct crowd){.rng = 20261122}; /* recall is asserted of this data set */
    op_init(&c->op, OP_NO_DEADLINE, 0);
    c->schema = schema_new(NEAR_DIM, METRIC_L2, NULL, 0);
    c->docs = op_new_array(&c->op, struct doc, NEAR_ROWS);
    for (size_t i = 0; i < COUNT_OF(centres); i++)
        centres[i] = small_random(&c->rng);
    for (uint32_t i = 0; i < NEAR_ROWS; i++) {
        float *vector = op_new_array(&c->op, float, NEAR_DIM);
        const float *centre = centres + random_index(&c->rng, count) * NEAR_DIM;
        for (uint32_t d = 0; d < NEAR_DIM; d++)
            vector[d] = centre[d] + spread * small_random(&c->rng);
        c->docs[i] = (struct doc){.id = number_id(i), .vector = vector};
    }
    return 0;
}

static int crowd_make(void **state)
{
    return crowd_around(state, 300, 0.5f);
}

/* Far apart: beyond one centre's documents all others are about as far. */
static int groups_make(void **state)
{
    return crowd_around(state, 100, 0.1f);
}

static int crowd_release(void **state)
{
    struct crowd *c = *state;
    schema_unref(c->schema);
    op_release(&c->op);
    return 0;
}

#define CROWD_TEST(f) cmocka_unit_test_setup_teardown(f, crowd_make, crowd_release)

static const struct segment_options indexed = {.index_from = 500, .index_seed = 3};
static const struct segment_options flat = {.index_from = 500,
                                            .index_seed = 3,
                                            .index_flat = true};

/* What was added, as an indexed segment in memory. */
static struct segment *built(struct op *op, struct segment_builder *b)
{
    struct buf bytes = BUF_INIT;
    struct segment *s;
    assert_int_equal(segment_builder_finish(op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(op, &bytes, &s), ERR_OK);
    assert_true(segment_indexed(s));
    return s;
}

/* Every step-th document from the first on. */
static struct segment_builder *crowd_builder(struct crowd *c,
                                             const struct segment_options *options,
                                             uint32_t first, uint32_t step)
{
    struct segment_builder *b = segment_builder_new(c->schema, options);
    for (uint32_t i = first; i < NEAR_ROWS; i += step)
        segment_builder_add(b, &c->docs[i]);
    return b;
}

static struct segment *crowd_segment(struct crowd *c, uint32_t first, uint32_t step)
{
    return built(&c->op, crowd_builder(c, &indexed, first, step));
}

/* Recall of queries beside rows, against a search that is exact. */
static double crowd_recall(struct crowd *c, const struct segment_target *targets,
                           size_t n, struct segment_work *work)
{
    enum { QUERIES = 300 };
    uint32_t found = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct hit hits[2][NEAR_K];
        struct topk best[2];
        float query[NEAR_DIM];
        struct op op;
        const float *beside = c->docs[random_index(&c->rng, NEAR_ROWS)].vector;
        for (uint32_t d = 0; d < NEAR_DIM; d++)
            query[d] = beside[d] + 0.1f * small_random(&c->rng);
        op_init(&op, OP_NO_DEADLINE, 0);
        for (int exact = 0; exact < 2; exact++) {
            struct segment_work ignored = {0};
            struct segment_near near = {.metric = METRIC_L2,
                                        .query = query,
                                        .recall = exact ? 1 : 0.95f};
            topk_init(&best[exact], hits[exact], NEAR_K, hits_by_row, NULL);
            assert_int_equal(segment_nearest(&op, targets, n, &near, &best[exact],
                                             exact ? &ignored : work),
                             ERR_OK);
            assert_int_equal(ignored.clusters, 0);
            topk_finish(&best[exact]);
            assert_int_equal(best[exact].count, NEAR_K);
        }
        for (size_t i = 0; i < NEAR_K; i++)
            found += hits[0][i].score >= hits[1][NEAR_K - 1].score;
        op_release(&op);
    }
    return (double)found / QUERIES / NEAR_K;
}

static void
segments_and_their_merge_find_what_they_should(struct crowd *c,
                                               const struct segment_options *options)
{
    struct segment_target targets[NEAR_SEGMENTS];
    struct segment_input inputs[NEAR_SEGMENTS];
    struct segment_work apart = {0}, together = {0};
    struct buf bytes = BUF_INIT;
    struct segment *merged;
    uint32_t row_count;
    for (uint32_t i = 0; i < NEAR_SEGMENTS; i++) {
        struct segment *s = built(&c->op, crowd_builder(c, options, i, NEAR_SEGMENTS));
        targets[i] = (struct segment_target){s, NULL, i};
        inputs[i] = (struct segment_input){s, NULL};
    }
    double before = crowd_recall(c, targets, NEAR_SEGMENTS, &apart);
    assert_int_equal(segment_merge(&c->op, c->schema, &indexed, inputs, NEAR_SEGMENTS,
                                   &bytes, &row_count),
                     ERR_OK);
    assert_int_equal(segment_open_memory(&c->op, &bytes, &merged), ERR_OK);
    struct segment_target one = {merged, NULL, 0};
    double after = crowd_recall(c, &one, 1, &together);
    print_message("recall of %d segments %.4f, of their merge %.4f; clusters %.1f, "
                  "%.1f\n",
                  NEAR_SEGMENTS, before, after, (double)apart.clusters / 300,
                  (double)together.clusters / 300);
    assert_true(before >= 0.95);
    assert_true(after >= 0.95);
    assert_true(together.clusters * 5 < apart.clusters);
    for (uint32_t i = 0; i < NEAR_SEGMENTS; i++)
        segment_unref(targets[i].segment);
    segment_unref(merged);
}

static void many_segments_and_their_merge_find_what_they_should(void **state)
{
    segments_and_their_merge_find_what_they_should(*state, &indexed);
}

/* Of their runs the merge takes none for clusters. */
static void flat_segments_and_their_merge_find_what_they_should(void **state)
{
    segments_and_their_merge_find_what_they_should(*state, &flat);
}

static void dead_rows_are_not_found_by_an_index(void **state)
{
    struct crowd *c = *state;
    struct segment *s = crowd_segment(c, 0, 2);
    struct rowset *allowed = rowset_new();
    for (uint32_t row = 0; row < segment_row_count(s); row++)
        if (row % 3) rowset_add(allowed, row);
    for (uint32_t q = 0; q < 100; q++) {
        struct hit hits[NEAR_K];
        struct topk best;
        struct op op;
        struct segment_work work = {0};
        struct segment_target target = {s, allowed, 4};
        struct segment_near near = {.metric = METRIC_L2,
                                    .query = c->docs[q].vector,
                                    .recall = 0.95f};
        op_init(&op, OP_NO_DEADLINE, 0);
        topk_init(&best, hits, NEAR_K, hits_by_row, NULL);
        assert_int_equal(segment_nearest(&op, &target, 1, &near, &best, &work), ERR_OK);
        assert_int_equal(best.count, NEAR_K);
        assert_int_equal(work.indexed, 1);
        for (size_t i = 0; i < NEAR_K; i++)
            assert_true(hits[i].row % 3 != 0 && hits[i].source == 4);
        op_release(&op);
    }
    rowset_unref(allowed);
    segment_unref(s);
}

static void vectors_that_no_index_takes_are_scanned(void **state)
{
    struct crowd *c = *state;
    struct segment_options options = {.index_from = 1};
    struct segment_builder *b = segment_builder_new(c->schema, &options);
    float far[NEAR_DIM] = {1e20f};
    struct buf bytes = BUF_INIT;
    struct segment *s;
    struct hit hit;
    struct topk best;
    struct segment_work work = {0};
    c->docs[7].vector = far;
    for (uint32_t i = 0; i < 100; i++)
        segment_builder_add(b, &c->docs[i]);
    assert_int_equal(segment_builder_finish(&c->op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(&c->op, &bytes, &s), ERR_OK);
    assert_false(segment_indexed(s));
    struct segment_target target = {s, NULL, 0};
    struct segment_near near = {.metric = METRIC_L2, .query = far, .recall = 0.95f};
    topk_init(&best, &hit, 1, hits_by_row, NULL);
    assert_int_equal(segment_nearest(&c->op, &target, 1, &near, &best, &work), ERR_OK);
    assert_int_equal(hit.row, 7);
    segment_unref(s);

    s = crowd_segment(c, 1, 20); /* a query that the index does not take */
    target.segment = s;
    topk_init(&best, &hit, 1, hits_by_row, NULL);
    assert_int_equal(segment_nearest(&c->op, &target, 1, &near, &best, &work), ERR_OK);
    assert_int_equal(best.count, 1);
    assert_int_equal(work.indexed, 0);
    segment_unref(s);
}

/* Stores the segment where requests are dear. */
struct far_segment {
    struct store *store;
    struct cache *cache;
    struct segment *segment;
};

static struct far_segment far_open(struct op *op, struct slice bytes)
{
    struct far_segment f = {.store = store_mem_new()};
    f.cache = cache_new(f.store, 256 << 20);
    cache_gather(f.cache);
    assert_int_equal(store_put(op, f.store, "segment", &bytes, 1), ERR_OK);
    assert_int_equal(segment_open(op, f.cache, "segment", bytes.size, &f.segment),
                     ERR_OK);
    return f;
}

static void far_close(struct far_segment *f)
{
    segment_unref(f->segment);
    assert_true(cache_usage(f->cache).pinned_bytes == 0);
    cache_free(f->cache);
    store_free(f->store);
}

static struct buf crowd_bytes(struct crowd *c)
{
    struct buf bytes = BUF_INIT;
    assert_int_equal(segment_builder_finish(&c->op, crowd_builder(c, &indexed, 0, 1),
                                            &bytes),
                     ERR_OK);
    return bytes;
}

static void of_a_distant_segment_only_the_vectors_of_results_are_read(void **state)
{
    struct crowd *c = *state;
    struct segment_work work = {0};
    struct buf bytes = crowd_bytes(c);
    struct far_segment far = far_open(&c->op, buf_slice(&bytes));
    struct segment_target target = {far.segment, NULL, 0};
    double recall = crowd_recall(c, &target, 1, &work);
    print_message("recall %.4f, clusters %.1f, vectors %.1f\n", recall,
                  (double)work.clusters / 300, (double)work.exact / 300);
    assert_true(recall >= 0.95);
    assert_int_equal(work.exact, 300 * NEAR_K);
    far_close(&far);
    buf_release(&bytes);
}

static void of_a_list_by_places_the_best_are_compared_by_their_vectors(void **state)
{
    enum { LIST = 100, EXACT = 5 };
    struct crowd *c = *state;
    struct segment *s = crowd_segment(c, 0, 1);
    struct segment_target target = {s, NULL, 0};
    struct segment_work work[2] = {{0}};
    struct hit hits[2][LIST];
    struct topk best[2];
    uint32_t both = 0;
    for (int i = 0; i < 2; i++) {
        struct segment_near near = {.metric = METRIC_L2,
                                    .query = c->docs[77].vector,
                                    .recall = 0.99f,
                                    .exact = i ? EXACT : 0};
        topk_init(&best[i], hits[i], LIST, hits_by_row, NULL);
        assert_int_equal(segment_nearest(&c->op, &target, 1, &near, &best[i], &work[i]),
                         ERR_OK);
        topk_finish(&best[i]);
        assert_int_equal(best[i].count, LIST);
    }
    assert_int_equal(work[0].exact, ivf_rerank(LIST));
    assert_int_equal(work[1].exact, ivf_rerank(EXACT));
    assert_memory_equal(hits[0], hits[1], EXACT * sizeof hits[0][0]);
    for (size_t i = 0; i < LIST; i++)
        for (size_t j = 0; j < LIST; j++)
            both += hits[0][i].row == hits[1][j].row;
    assert_in_range(both, LIST - 3, LIST);
    segment_unref(s);
}

/* ---- filters ---- */

enum { GROUPS = 5, EVERY = 5, ASKED = 40 };

/* A few segments, of which every fifth row is allowed. */
struct filtered {
    struct segment_target targets[GROUPS];
    struct rowset *allowed;
};

static struct filtered filtered_segments(struct crowd *c)
{
    struct filtered f = {.allowed = rowset_new()};
    for (uint32_t row = 0; row < NEAR_ROWS / GROUPS; row += EVERY)
        rowset_add(f.allowed, row);
    for (uint32_t i = 0; i < GROUPS; i++)
        f.targets[i] =
            (struct segment_target){crowd_segment(c, i, GROUPS), f.allowed, i};
    return f;
}

static void filtered_release(struct filtered *f)
{
    for (uint32_t i = 0; i < GROUPS; i++)
        segment_unref(f->targets[i].segment);
    rowset_unref(f->allowed);
}

/* Asks for the nearest of some documents, in n targets at a time; each time what was
 * found before is known only if told. */
static struct segment_work ask_by(struct crowd *c, const struct filtered *f, size_t n,
                                  bool told)
{
    struct segment_work work = {0};
    for (uint32_t q = 0; q < ASKED; q++) {
        struct segment_near near = {.metric = METRIC_L2,
                                    .query = c->docs[q * 100].vector,
                                    .recall = 0.95f};
        struct hit hits[NEAR_K];
        struct topk best;
        topk_init(&best, hits, NEAR_K, hits_by_row, NULL);
        for (size_t at = 0; at < GROUPS; at += n) {
            if (!told) best.count = 0;
            assert_int_equal(segment_nearest_from(&c->op, f->targets + at, n, &near,
                                                  false, &best, &work),
                             ERR_OK);
        }
        assert_int_equal(best.count, NEAR_K);
    }
    return work;
}

static void segments_that_are_searched_together_spare_each_other_clusters(void **state)
{
    struct crowd *c = *state;
    struct filtered f = filtered_segments(c);
    struct segment_work apart = ask_by(c, &f, 1, false);
    struct segment_work together = ask_by(c, &f, GROUPS, false);
    print_message("clusters apart %.1f, together %.1f\n",
                  (double)apart.clusters / ASKED, (double)together.clusters / ASKED);
    assert_true(together.clusters * 3 < apart.clusters * 2);
    filtered_release(&f);
}

static void what_was_found_before_spares_clusters(void **state)
{
    struct crowd *c = *state;
    struct filtered f = filtered_segments(c);
    struct segment_work apart = ask_by(c, &f, 1, false);
    struct segment_work told = ask_by(c, &f, 1, true);
    print_message("clusters apart %.1f, told %.1f\n", (double)apart.clusters / ASKED,
                  (double)told.clusters / ASKED);
    assert_true(told.clusters * 3 < apart.clusters * 2);
    filtered_release(&f);
}

struct last_filter {
    const struct rowset *allowed;
    size_t asked;
    enum err err;
};

static enum err allow_some(struct op *op, void *context, struct hit *hits,
                           size_t *count)
{
    struct last_filter *filter = context;
    size_t kept = 0;
    filter->asked += *count;
    for (size_t i = 0; i < *count; i++)
        if (rowset_has(filter->allowed, hits[i].row)) hits[kept++] = hits[i];
    *count = kept;
    return filter->err ? op_fail(op, filter->err, "a column") : ERR_OK;
}

static void of_what_a_last_filter_leaves_the_best_are_compared(void **state)
{
    struct crowd *c = *state;
    struct filtered f = filtered_segments(c);
    struct segment_target all = {f.targets[0].segment, NULL, 0};
    struct segment_work work = {0}, ignored = {0};
    struct last_filter filter = {.allowed = f.allowed};
    uint32_t both = 0;
    for (uint32_t q = 0; q < ASKED; q++) {
        struct segment_near near = {.metric = METRIC_L2,
                                    .query = c->docs[q * 100].vector,
                                    .recall = 0.95f,
                                    .check = allow_some,
                                    .context = &filter,
                                    .sought = NEAR_K * EVERY * 2};
        struct hit hits[2][NEAR_K];
        struct topk best[2];
        for (int exact = 0; exact < 2; exact++) {
            struct segment_target *target = exact ? &f.targets[0] : &all;
            topk_init(&best[exact], hits[exact], NEAR_K, hits_by_row, NULL);
            assert_int_equal(segment_nearest(&c->op, target, 1, &near, &best[exact],
                                             exact ? &ignored : &work),
                             ERR_OK);
            topk_finish(&best[exact]);
            near.check = NULL;
            near.recall = 1;
        }
        for (size_t i = 0; i < best[0].count; i++) {
            assert_true(rowset_has(f.allowed, hits[0][i].row));
            for (size_t j = 0; j < NEAR_K; j++) {
                if (hits[0][i].row != hits[1][j].row) continue;
                assert_true(hits[0][i].score == hits[1][j].score);
                both++;
            }
        }
    }
    assert_true(both >= ASKED * NEAR_K * 95 / 100);
    assert_true(filter.asked >= (size_t)ASKED * NEAR_K * EVERY * 2);
    assert_in_range(work.exact, ASKED * NEAR_K, 2 * ASKED * ivf_rerank(NEAR_K));
    filtered_release(&f);
}

/* Also of rows that no index knows. */
static void a_last_filter_may_fail(void **state)
{
    struct crowd *c = *state;
    struct filtered f = filtered_segments(c);
    struct last_filter filter = {.allowed = f.allowed};
    struct segment_near near = {.metric = METRIC_L2,
                                .query = c->docs[0].vector,
                                .check = allow_some,
                                .context = &filter,
                                .sought = NEAR_K * EVERY * 2};
    struct segment_target all = {f.targets[0].segment, NULL, 0};
    for (int i = 0; i < 4; i++) {
        struct segment_work work = {0};
        struct hit hits[NEAR_K];
        struct topk best;
        near.recall = i % 2 ? 1 : 0.95f;
        filter.err = i / 2 ? ERR_IO : ERR_OK;
        topk_init(&best, hits, NEAR_K, hits_by_row, NULL);
        assert_int_equal(segment_nearest(&c->op, &all, 1, &near, &best, &work),
                         filter.err);
        assert_int_equal(work.clusters > 0, i % 2 == 0);
        for (size_t h = 0; h < best.count; h++)
            assert_true(rowset_has(f.allowed, hits[h].row));
        assert_true(filter.err || best.count == NEAR_K);
    }
    filtered_release(&f);
}

/* ---- what an index cannot answer ---- */

enum { SHELL_ROWS = 2000, SHELL_DIM = 64, SHELL_K = 10 };

/* A segment whose even rows lie around the origin, at the distances that are given, in
 * directions of chance, and odd ones nearer. */
static struct segment *shell_segment(struct op *op, double (*distance)(uint32_t i))
{
    struct schema *schema = schema_new(SHELL_DIM, METRIC_L2, NULL, 0);
    struct segment_builder *b = segment_builder_new(schema, &indexed);
    uint64_t rng = 20261123;
    for (uint32_t row = 0; row < SHELL_ROWS; row++) {
        float vector[SHELL_DIM];
        double norm = 0, wanted = row % 2 ? 1 : distance(row / 2);
        for (size_t d = 0; d < SHELL_DIM; d++) {
            vector[d] = small_random(&rng);
            norm += (double)vector[d] * (double)vector[d];
        }
        for (size_t d = 0; d < SHELL_DIM; d++)
            vector[d] = (float)((double)vector[d] * wanted / sqrt(norm));
        segment_builder_add(b, &(struct doc){.id = number_id(row), .vector = vector});
    }
    schema_unref(schema);
    return built(op, b);
}

/* Far below what 8 bits a coordinate tell. */
static double distance_alike(uint32_t i)
{
    return 10 + 1e-5 * (i * 7919 % (SHELL_ROWS / 2));
}

static double distance_apart(uint32_t i)
{
    return 10 + 0.1 * (i * 7919 % (SHELL_ROWS / 2));
}

/* About what 8 bits a coordinate tell. */
static double distance_close(uint32_t i)
{
    return 10 + 5e-4 * (i * 7919 % (SHELL_ROWS / 2));
}

static struct rowset *even_rows(void)
{
    struct rowset *even = rowset_new();
    for (uint32_t row = 0; row < SHELL_ROWS; row += 2)
        rowset_add(even, row);
    return even;
}

/* Asks for the nearest even rows, beside a hit that was found before, by the index and
 * by a scan, which must agree. How many rows were scored beyond those of the clusters;
 * *exact: and how many of what was found. */
static uint64_t shell_compared(double (*distance)(uint32_t i), uint64_t *exact)
{
    const struct hit before = {-4, 9, 77}; /* nearer than any even row */
    const float query[SHELL_DIM] = {0};
    struct segment_near near = {.metric = METRIC_L2, .query = query, .recall = 0.95f};
    struct rowset *even = even_rows();
    struct hit hits[2][SHELL_K];
    struct topk best[2];
    struct segment_work work = {0};
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct segment *s = shell_segment(&op, distance);
    struct segment_target target = {s, even, 4};
    for (int i = 0; i < 2; i++) {
        topk_init(&best[i], hits[i], SHELL_K, hits_by_row, NULL);
        topk_push(&best[i], before);
    }
    uint64_t scored = op.counters.rows_scored;
    assert_int_equal(segment_nearest_from(&op, &target, 1, &near, false, &best[0],
                                          &work),
                     ERR_OK);
    scored = op.counters.rows_scored - scored;
    *exact = work.exact;
    assert_int_equal(segment_vector_search(&op, s, METRIC_L2, query, even, 4, &best[1]),
                     ERR_OK);
    for (int i = 0; i < 2; i++) {
        topk_finish(&best[i]);
        assert_int_equal(best[i].count, SHELL_K);
    }
    for (size_t i = 0; i < SHELL_K; i++) {
        assert_int_equal(hits[0][i].row, hits[1][i].row);
        assert_int_equal(hits[0][i].source, hits[1][i].source);
        assert_true(hits[0][i].score == hits[1][i].score);
    }
    assert_int_equal(hits[0][0].source, before.source);
    assert_true(scored >= work.rows);
    segment_unref(s);
    rowset_unref(even);
    op_release(&op);
    return scored - work.rows;
}

static void allowed_rows_that_the_codes_cannot_tell_apart_are_all_compared(void **state)
{
    (void)state;
    uint64_t exact;
    assert_true(shell_compared(distance_alike, &exact) >= SHELL_ROWS / 2);
}

static void allowed_rows_that_the_codes_tell_apart_are_not_compared_again(void **state)
{
    (void)state;
    uint64_t exact;
    assert_int_equal(shell_compared(distance_apart, &exact), 0);
    assert_int_equal(exact, ivf_rerank(SHELL_K));
}

static void
of_allowed_rows_that_the_codes_hardly_tell_apart_more_are_compared(void **state)
{
    (void)state;
    uint64_t exact;
    assert_int_equal(shell_compared(distance_close, &exact), 0);
    assert_true(exact > ivf_rerank(SHELL_K));
    assert_true(exact < SHELL_ROWS / 4);
}

static void vectors_too_short_for_the_codes_are_scanned(void **state)
{
    (void)state;
    enum { ROWS = 5000 };
    struct schema *schema = schema_new(1, METRIC_L2, NULL, 0);
    struct segment_builder *b = segment_builder_new(schema, &indexed);
    uint64_t rng = 20261123;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; i < ROWS; i++) {
        float vector = (float)random_index(&rng, 1u << 24) / (1 << 24);
        segment_builder_add(b, &(struct doc){.id = number_id(i), .vector = &vector});
    }
    struct segment *s = built(&op, b);
    const float query = 0.5f;
    struct hit hits[2][NEAR_K];
    struct topk best[2];
    struct segment_work work = {0};
    struct segment_target target = {s, NULL, 0};
    struct segment_near near = {.metric = METRIC_L2, .query = &query, .recall = 0.95f};
    for (int i = 0; i < 2; i++)
        topk_init(&best[i], hits[i], NEAR_K, hits_by_row, NULL);
    assert_int_equal(segment_nearest(&op, &target, 1, &near, &best[0], &work), ERR_OK);
    assert_int_equal(work.indexed, 0);
    assert_int_equal(segment_vector_search(&op, s, METRIC_L2, &query, NULL, 0,
                                           &best[1]),
                     ERR_OK);
    for (int i = 0; i < 2; i++)
        topk_finish(&best[i]);
    assert_memory_equal(hits[0], hits[1], sizeof hits[0]);
    segment_unref(s);
    schema_unref(schema);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CROWD_TEST(many_segments_and_their_merge_find_what_they_should),
        CROWD_TEST(flat_segments_and_their_merge_find_what_they_should),
        CROWD_TEST(dead_rows_are_not_found_by_an_index),
        CROWD_TEST(vectors_that_no_index_takes_are_scanned),
        CROWD_TEST(of_a_distant_segment_only_the_vectors_of_results_are_read),
        CROWD_TEST(of_a_list_by_places_the_best_are_compared_by_their_vectors),
        cmocka_unit_test_setup_teardown(
            segments_that_are_searched_together_spare_each_other_clusters, groups_make,
            crowd_release),
        cmocka_unit_test_setup_teardown(what_was_found_before_spares_clusters,
                                        groups_make, crowd_release),
        CROWD_TEST(of_what_a_last_filter_leaves_the_best_are_compared),
        CROWD_TEST(a_last_filter_may_fail),
        cmocka_unit_test(
            allowed_rows_that_the_codes_cannot_tell_apart_are_all_compared),
        cmocka_unit_test(allowed_rows_that_the_codes_tell_apart_are_not_compared_again),
        cmocka_unit_test(
            of_allowed_rows_that_the_codes_hardly_tell_apart_more_are_compared),
        cmocka_unit_test(vectors_too_short_for_the_codes_are_scanned),
    };
    return cmocka_run_group_tests_name("nearest vectors of segments", tests, NULL,
                                       NULL);
}
