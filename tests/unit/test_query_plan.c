/*
 * How filtered queries are planned over stored segments: by the manifest's statistics
 * where there are some, by samples else; and that a segment which is passed over is not
 * read.
 */
#include "base/rowset.h"
#include "cache/cache.h"
#include "segment/segment_stats.h"
#include "store/store_mem.h"
#include "unit/query_model.h"

enum { ATTR_TITLE, ATTR_QUARTER, ATTR_YEAR, ATTR_HALF, ATTRS, DIM = 3, LONG = 100000 };

static const char *const keys[] = {"segment-0", "segment-1"};

struct stored {
    struct op op;
    struct store *store;
    struct cache *cache;
    struct world w;
};

static const struct attr attrs[ATTRS] = {
    {.name = "title",
     .type = ATTR_STRING,
     .full_text = true,
     .analysis = {LANG_ENGLISH, true, true, false, false}},
    {.name = "quarter", .type = ATTR_INT},
    {.name = "year", .type = ATTR_INT, .indexed = true},
    {.name = "half", .type = ATTR_BOOL},
};

/* Documents lie on a line, number n at (n, 1, 1), and the texts of the first score
 * best; half of them, the far ones, have `half`; quarter is n % 4, year is n. */
static struct doc line_doc(struct op *op, uint32_t n)
{
    struct value *values = op_new_array(op, struct value, ATTRS);
    float *vector = op_new_array(op, float, DIM);
    vector[0] = (float)n;
    vector[1] = vector[2] = 1;
    values[ATTR_TITLE].one.s = slice_str(n < LONG / 2 ? "tree" : "tree house");
    values[ATTR_QUARTER].one.i = n % 4;
    values[ATTR_YEAR].one.i = n;
    values[ATTR_HALF].one.b = n >= LONG / 2;
    return (struct doc){.id = number_id(n), .vector = vector, .values = values};
}

/* A stored segment of documents [first, end), with statistics or not. */
static void add_segment(struct stored *s, uint32_t index, uint32_t first, uint32_t end,
                        bool stated)
{
    struct segment_options options = {.zstd_level = 0, .index_from = 2048};
    struct segment_builder *b = segment_builder_new(s->w.schema, &options);
    struct source *source = &s->w.snapshot->sources[index];
    struct segment_stats *stats = NULL;
    struct buf bytes = BUF_INIT;

    for (uint32_t n = first; n < end; n++) {
        struct doc d = line_doc(&s->op, n);
        segment_builder_add(b, &d);
    }
    assert_int_equal(segment_builder_finish(&s->op, b, &bytes), ERR_OK);
    struct slice whole = buf_slice(&bytes);
    assert_int_equal(store_put(&s->op, s->store, keys[index], &whole, 1), ERR_OK);
    assert_int_equal(segment_open(&s->op, s->cache, keys[index], bytes.size,
                                  &source->segment),
                     ERR_OK);
    assert_int_equal(segment_stats_make(&s->op, whole, &stats), ERR_OK);
    if (stated) segment_stats_attach(source->segment, stats);
    segment_stats_unref(stats);
    buf_release(&bytes);
    source->stored = true;
    s->w.snapshot->row_count += end - first;
}

static void stored_make(struct stored *s, uint32_t sources)
{
    *s = (struct stored){.store = store_mem_new()};
    op_init(&s->op, OP_NO_DEADLINE, 0);
    s->cache = cache_new(s->store, 256 << 20);
    s->w = (struct world){.op = &s->op, .rng = 1};
    s->w.schema = schema_new(DIM, METRIC_L2, attrs, ATTRS);
    s->w.snapshot =
        mem_calloc(1, sizeof *s->w.snapshot + sources * sizeof(struct source));
    atomic_init(&s->w.snapshot->refs, 1);
    s->w.snapshot->schema = schema_ref(s->w.schema);
    s->w.snapshot->id_kind = ID_U64;
    s->w.snapshot->source_count = sources;
}

static void stored_free(struct stored *s)
{
    snapshot_unref(s->w.snapshot);
    schema_unref(s->w.schema);
    cache_free(s->cache);
    store_free(s->store);
    op_release(&s->op);
}

static const struct filter quarter = {.op = FILTER_EQ,
                                      .attr = ATTR_QUARTER,
                                      .type = ATTR_INT,
                                      .values = &(const union scalar){.i = 1},
                                      .value_count = 1};
/* Half of all documents, and none of the best. */
static const struct filter far = {.op = FILTER_EQ,
                                  .attr = ATTR_HALF,
                                  .type = ATTR_BOOL,
                                  .values = &(const union scalar){.b = true},
                                  .value_count = 1};
static const struct filter narrow = {.op = FILTER_LT,
                                     .attr = ATTR_YEAR,
                                     .type = ATTR_INT,
                                     .values = &(const union scalar){.i = 400},
                                     .value_count = 1};
static const struct filter tenth = {.op = FILTER_LT,
                                    .attr = ATTR_YEAR,
                                    .type = ATTR_INT,
                                    .values =
                                        &(const union scalar){.i = LONG * 11 / 100},
                                    .value_count = 1};
/* A year that only documents from 10000 on have. */
static const struct filter late = {.op = FILTER_GTE,
                                   .attr = ATTR_YEAR,
                                   .type = ATTR_INT,
                                   .values = &(const union scalar){.i = 10000},
                                   .value_count = 1};

static const float origin[DIM] = {0, 1, 1};
static const struct rank_field field = {ATTR_TITLE, 1};
static const struct rank by_vector = {.kind = RANK_VECTOR, .vector = origin};
static const struct rank by_text = {.kind = RANK_TEXT,
                                    .text = {(const uint8_t *)"tree", 4},
                                    .fields = &field,
                                    .field_count = 1};

/* The 20 hits are documents first, first + step, ... */
static struct query_explain expect_hits(struct stored *s, const struct rank *rank,
                                        const struct filter *filter, uint32_t first,
                                        uint32_t step)
{
    struct query q = {
        .ranks = rank, .rank_count = 1, .top_k = 20, .filter = filter, .explain = true};
    struct query_result r = run_ok(&s->w, &q);
    assert_int_equal(r.count, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(r.hits[i].doc.id.u64, first + i * step);
    return r.explain;
}

static void expect_plan(const struct query_explain *x, const char *plan,
                        enum plan_basis basis, double share)
{
    assert_int_equal(x->filtered_count, 1);
    assert_string_equal(x->filtered[0].plan, plan);
    assert_int_equal(x->filtered[0].basis, basis);
    double off = (double)x->filtered[0].estimate - share * LONG;
    assert_true(fabs(off) < 0.02 * LONG);
    assert_non_null(x->filtered[0].why);
}

/* All documents in one segment, which the first tests share. */
static struct stored line;

static int line_setup(void **state)
{
    (void)state;
    stored_make(&line, 1);
    add_segment(&line, 0, 0, LONG, true);
    return 0;
}

static int line_teardown(void **state)
{
    (void)state;
    stored_free(&line);
    return 0;
}

static void an_indexed_segment_is_planned_by_its_statistics(void **state)
{
    (void)state;
    enum plan_basis basis = PLANNED_BY_STATISTICS;
    assert_true(segment_indexed(line.w.snapshot->sources[0].segment));
    struct query_explain x = expect_hits(&line, &by_text, &quarter, 1, 4);
    expect_plan(&x, "search_first", basis, 0.25);
    assert_int_equal(x.retried, 0);
    assert_int_equal(x.filter.scanned, 0);
    x = expect_hits(&line, &by_text, &far, LONG / 2, 1);
    expect_plan(&x, "filter_first", basis, 0.5);
    assert_int_equal(x.retried, 1);
    for (int i = 0; i < 2; i++) {
        x = expect_hits(&line, i ? &by_text : &by_vector, &narrow, 0, 1);
        expect_plan(&x, "exact", basis, 400.0 / LONG);
        assert_int_equal(x.filtered[0].matching_rows, 400);
    }
}

/* Each of those that are looked for in vain is a vector to read. */
static void many_neighbours_are_looked_for_among_the_rows_of_a_filter(void **state)
{
    (void)state;
    struct query_explain x = expect_hits(&line, &by_vector, &quarter, 1, 4);
    expect_plan(&x, "filter_first", PLANNED_BY_STATISTICS, 0.25);
    assert_int_equal(x.retried, 0);
}

static void neighbours_that_a_filter_leaves_too_few_of_are_filtered(void **state)
{
    (void)state;
    struct query q = {.ranks = &by_vector,
                      .rank_count = 1,
                      .top_k = 1,
                      .filter = &far,
                      .explain = true};
    struct query_result r = run_ok(&line.w, &q);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.hits[0].doc.id.u64, LONG / 2);
    expect_plan(&r.explain, "filter_first", PLANNED_BY_STATISTICS, 0.5);
    assert_int_equal(r.explain.retried, 1);
}

/* All pages of the listing are what the filter leaves, in order; *x of the last one. */
static void expect_pages(const struct query *query, uint64_t count, uint32_t first,
                         int32_t step, struct query_explain *x)
{
    struct query q = *query;
    struct query_place place;
    uint64_t seen = 0;
    for (bool more = true; more;) {
        struct query_result r = run_ok(&line.w, &q);
        for (size_t i = 0; i < r.count; i++, seen++)
            assert_int_equal(r.hits[i].doc.id.u64,
                             (int64_t)first + (int64_t)seen * step);
        if (seen <= q.top_k) *x = r.explain;
        more = r.more;
        place = r.last;
        q.after = &place;
    }
    assert_int_equal(seen, count);
}

static void
a_listing_takes_its_order_from_the_index_and_filters_what_it_takes(void **state)
{
    (void)state;
    struct query_explain x;
    struct query q = {.ordered = true,
                      .order_attr = ATTR_YEAR,
                      .top_k = 50,
                      .filter = &quarter};
    expect_pages(&q, LONG / 4, 1, 4, &x);
    assert_true(x.search_first == 1 && x.walked == 1 && x.retried == 0);
    q.descending = true;
    expect_pages(&q, LONG / 4, LONG - 3, -4, &x);
    assert_true(x.search_first == 1 && x.walked == 1 && x.retried == 0);
    q.ordered = q.descending = false; /* by id */
    expect_pages(&q, LONG / 4, 1, 4, &x);
    assert_true(x.search_first == 1 && x.walked == 0 && x.retried == 0);

    q.ordered = true; /* the half that comes last */
    q.filter = &far;
    expect_pages(&q, LONG / 2, LONG / 2, 1, &x);
    assert_true(x.filter_first == 1 && x.retried == 1);
    q.filter = &narrow;
    expect_pages(&q, 400, 0, 1, &x);
    assert_true(x.filter_first == 1 && x.walked == 0 && x.retried == 0);
    q.filter = NULL;
    expect_pages(&q, LONG, 0, 1, &x);
    assert_true(x.unfiltered == 1 && x.walked == 1);
}

static void lists_are_as_deep_as_it_takes_that_nobody_outside_them_can_win(void **state)
{
    (void)state;
    const struct rank ranks[] = {by_vector, by_text};
    struct score leaves[] = {{.op = SCORE_RECIPROCAL, .weight = 1, .k = 60},
                             {.op = SCORE_RECIPROCAL, .weight = 1, .rank = 1, .k = 60}};
    struct score sum = {.op = SCORE_SUM,
                        .weight = 1,
                        .children = leaves,
                        .child_count = 2};
    struct query q = {.ranks = ranks, .rank_count = 2, .score = &sum, .top_k = 10};
    assert_int_equal(run_ok(&line.w, &q).explain.depth, 100);

    /* One list is about nothing: half of what two could give is what the best have. */
    struct filter nobody = narrow;
    const union scalar before = {.i = 10};
    struct rank few[] = {by_vector, by_text};
    nobody.values = &before;
    few[1].filter = &nobody;
    leaves[0].k = leaves[1].k = 1000;
    q.ranks = few;
    assert_int_equal(run_ok(&line.w, &q).explain.depth, 100); /* that list ends */

    struct rank away[] = {by_vector, by_text};
    away[1].filter = &far;
    q.ranks = away;
    struct query_result r = run_ok(&line.w, &q);
    double bar = r.hits[9].score;
    assert_true(r.explain.depth > 100 && 2.0 / (1001 + (double)r.explain.depth) < bar);
    assert_true(2.0 / (1001 + (double)r.explain.depth / 2) >= bar);

    leaves[0].op = leaves[1].op = SCORE_MINMAX; /* its scale ends with the list */
    assert_int_equal(run_ok(&line.w, &q).explain.depth, 100);
}

static void samples_stand_in_for_statistics(void **state)
{
    (void)state;
    struct segment *segment = line.w.snapshot->sources[0].segment;
    struct segment_stats *stats = NULL;
    struct buf bytes = BUF_INIT;
    assert_int_equal(store_get(&line.op, line.store, keys[0], SIZE_MAX, &bytes),
                     ERR_OK);
    assert_int_equal(segment_stats_make(&line.op, buf_slice(&bytes), &stats), ERR_OK);
    segment_stats_attach(segment, NULL);
    struct query_explain x = expect_hits(&line, &by_text, &quarter, 1, 4);
    expect_plan(&x, "search_first", PLANNED_BY_SAMPLES, 0.25);
    segment_stats_attach(segment, stats);
    segment_stats_unref(stats);
    buf_release(&bytes);
}

/* Whoever needs every match asks the filter first, and an exact search of vectors is
 * the shorter the fewer rows are left. */
static void searching_first_is_for_the_best_only(void **state)
{
    (void)state;
    struct query q = {.ranks = &by_vector,
                      .rank_count = 1,
                      .top_k = 1,
                      .filter = &quarter};
    assert_int_equal(run_ok(&line.w, &q).explain.search_first, 1);
    q.recall = 1;
    assert_int_equal(run_ok(&line.w, &q).explain.filter_first, 1);
    q.recall = 0;
    q.count = true;
    struct query_result r = run_ok(&line.w, &q);
    assert_int_equal(r.explain.filter_first, 1);
    assert_int_equal(r.match_count, LONG / 4);
}

/* Neither a search before the filter nor one by the index, which would look at most of
 * the codes of short vectors, costs less than comparing the rows. */
static void a_tenth_of_short_vectors_is_compared_row_by_row(void **state)
{
    (void)state;
    struct query_explain x = expect_hits(&line, &by_vector, &tenth, 0, 1);
    expect_plan(&x, "exact", PLANNED_BY_STATISTICS, 0.11);
    assert_int_equal(x.vectors.clusters, 0);
}

static void a_segment_where_no_row_can_match_is_not_read(void **state)
{
    (void)state;
    const char *const gone[] = {keys[0]};
    struct stored s;
    stored_make(&s, 2);
    add_segment(&s, 0, 0, 10000, true);
    add_segment(&s, 1, 10000, 16000, true);
    struct query whole = {.top_k = 20, .filter = &late, .count = true};
    assert_int_equal(store_delete(&s.op, s.store, gone, 1), ERR_OK);

    struct query_explain x = expect_hits(&s, &by_vector, &late, 10000, 1);
    assert_int_equal(x.skipped, 1);
    assert_int_equal(x.unfiltered, 1); /* every row of the other one matches */
    struct query_result r = run_ok(&s.w, &whole);
    assert_int_equal(r.match_count, 6000);
    assert_int_equal(r.hits[0].doc.id.u64, 10000);
    assert_int_equal(r.explain.filter.indexed + r.explain.filter.scanned, 0);
    stored_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_indexed_segment_is_planned_by_its_statistics),
        cmocka_unit_test(many_neighbours_are_looked_for_among_the_rows_of_a_filter),
        cmocka_unit_test(neighbours_that_a_filter_leaves_too_few_of_are_filtered),
        cmocka_unit_test(
            a_listing_takes_its_order_from_the_index_and_filters_what_it_takes),
        cmocka_unit_test(
            lists_are_as_deep_as_it_takes_that_nobody_outside_them_can_win),
        cmocka_unit_test(samples_stand_in_for_statistics),
        cmocka_unit_test(searching_first_is_for_the_best_only),
        cmocka_unit_test(a_tenth_of_short_vectors_is_compared_row_by_row),
        cmocka_unit_test(a_segment_where_no_row_can_match_is_not_read),
    };
    return cmocka_run_group_tests(tests, line_setup, line_teardown);
}
