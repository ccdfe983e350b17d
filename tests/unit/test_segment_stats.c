/* Statistics of segments: what they say for sure is true of every row, what they guess
 * is near, they stay small, and any bytes can be read as some or are refused. */
#include "segment/segment_stats.h"

#include <math.h>

#include "unit/segment_world.h"

/* Documents, their segment and what is known of it: one after the other in a test. */
struct stated {
    uint64_t rng;
    struct world w;
    struct segment *segment; /* NULL: there is none yet */
    struct segment_stats *stats;
};

static void stated_release(struct stated *s)
{
    if (!s->segment) return;
    segment_unref(s->segment);
    segment_stats_unref(s->stats);
    world_release(&s->w);
    s->segment = NULL;
}

static void stated_make(struct stated *s, struct world_shape shape)
{
    stated_release(s);
    world_make(&s->w, &s->rng, shape);
    struct buf copy = BUF_INIT;
    buf_append_slice(&copy, buf_slice(&s->w.bytes));
    assert_int_equal(segment_stats_make(&s->w.op, buf_slice(&s->w.bytes), &s->stats),
                     ERR_OK);
    assert_int_equal(segment_open_memory(&s->w.op, &copy, &s->segment), ERR_OK);
    segment_stats_attach(s->segment, s->stats);
}

static int stated_setup(void **state)
{
    static struct stated stated;
    stated = (struct stated){.rng = test_seed()};
    *state = &stated;
    return 0;
}

static int stated_teardown(void **state)
{
    stated_release(*state);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, stated_setup, stated_teardown)

static uint64_t count_matches(const struct stated *s, const struct filter *f)
{
    uint64_t n = 0;
    for (uint32_t row = 0; row < s->w.shape.row_count; row++)
        n += filter_matches(f, s->w.schema, &s->w.docs[row]);
    return n;
}

/* What is said for sure holds of every row. */
static void expect_sound(const struct stated *s, struct filter *f)
{
    struct filter opposite = {.op = FILTER_NOT, .children = &f, .child_count = 1};
    uint64_t rows = s->w.shape.row_count;
    uint64_t true_rows = count_matches(s, f), false_rows = count_matches(s, &opposite);
    struct stats_answer a;

    segment_stats_ask(s->segment, f, &a);
    if (!a.may_be_true) assert_int_equal(true_rows, 0);
    if (!a.may_be_false) assert_int_equal(false_rows, 0);
    if (!a.may_be_unknown) assert_int_equal(true_rows + false_rows, rows);
    assert_true(a.part_true >= 0 && a.part_true <= 1 + 1e-9);
    assert_true(a.part_unknown >= 0 && a.part_unknown <= 1 + 1e-9);
}

static void what_is_said_for_sure_holds_of_every_row(void **state)
{
    struct stated *s = *state;
    uint64_t sure = 0;
    for (int round = 0; round < 60; round++) {
        bool large = round % 12 == 0;
        struct world_shape shape = {
            .row_count = large ? 4500 : 1 + random_index(&s->rng, round % 2 ? 8 : 200),
            .attr_count = 1 + random_index(&s->rng, 8)};
        stated_make(s, shape);
        for (int i = 0; i < (large ? 20 : 100); i++) {
            struct stats_answer a;
            struct filter *f = random_filter(&s->w.op, &s->rng, s->w.schema,
                                             shape.row_count, random_index(&s->rng, 4));
            expect_sound(s, f);
            segment_stats_ask(s->segment, f, &a);
            sure += !a.may_be_true;
        }
    }
    assert_true(sure > 100);
}

static void statistics_read_back_as_they_were_written(void **state)
{
    struct stated *s = *state;
    for (int round = 0; round < 30; round++) {
        struct segment_stats *back = NULL;
        stated_make(s,
                    (struct world_shape){.row_count = 1 + random_index(&s->rng, 300),
                                         .attr_count = 1 + random_index(&s->rng, 12)});
        struct slice bytes = segment_stats_bytes(s->stats);
        assert_int_equal(segment_stats_decode(&s->w.op, bytes, s->w.schema,
                                              s->w.shape.row_count, &back),
                         ERR_OK);
        segment_stats_attach(s->segment, back);
        assert_int_equal(segment_stats_verify(&s->w.op, s->segment), ERR_OK);
        for (int i = 0; i < 20; i++)
            expect_sound(s, random_filter(&s->w.op, &s->rng, s->w.schema,
                                          s->w.shape.row_count, 2));
        segment_stats_unref(back);
    }
}

/* Every change of a byte is refused or says something else; none is fatal. */
static void damaged_statistics_are_refused_or_read(void **state)
{
    struct stated *s = *state;
    stated_make(s, (struct world_shape){.row_count = 100, .attr_count = 10});
    struct slice bytes = segment_stats_bytes(s->stats);
    for (uint32_t i = 0; i < 20000; i++) {
        struct buf damaged = BUF_INIT;
        struct segment_stats *back = NULL;
        buf_append_slice(&damaged, bytes);
        for (uint32_t k = 1 + random_index(&s->rng, 3); k > 0; k--)
            damaged.data[random_index(&s->rng, bytes.size)] =
                (uint8_t)test_random(&s->rng);
        damaged.size -=
            random_index(&s->rng, 3) ? 0 : random_index(&s->rng, bytes.size);
        enum err e = segment_stats_decode(&s->w.op, buf_slice(&damaged), s->w.schema,
                                          s->w.shape.row_count, &back);
        assert_true(e == ERR_CORRUPT || !e);
        op_clear_error(&s->w.op);
        if (!e) {
            struct buf text = BUF_INIT;
            struct stats_answer a;
            segment_stats_attach(s->segment, back);
            segment_stats_ask(s->segment, s->w.filters[i % WORLD_FILTERS], &a);
            segment_stats_describe(back, s->w.schema, &text);
            buf_release(&text);
        }
        segment_stats_unref(back);
        buf_release(&damaged);
    }
}

static void statistics_of_another_segment_are_found_out(void **state)
{
    (void)state;
    static const struct attr attr = {.name = "n", .type = ATTR_INT};
    struct op op;
    struct segment *segments[2];
    struct segment_stats *stats[2];
    op_init(&op, OP_NO_DEADLINE, 0);
    struct schema *schema = schema_new(0, METRIC_L2, &attr, 1);
    for (uint32_t i = 0; i < 2; i++) {
        struct segment_options options = {.zstd_level = 0};
        struct segment_builder *b = segment_builder_new(schema, &options);
        struct buf bytes = BUF_INIT;
        for (uint32_t row = 0; row < 20; row++) {
            struct value v = {.one.i = row + i};
            struct doc d = {.id = number_id(row), .values = &v};
            segment_builder_add(b, &d);
        }
        assert_int_equal(segment_builder_finish(&op, b, &bytes), ERR_OK);
        assert_int_equal(segment_stats_make(&op, buf_slice(&bytes), &stats[i]), ERR_OK);
        assert_int_equal(segment_open_memory(&op, &bytes, &segments[i]), ERR_OK);
    }
    for (int i = 0; i < 2; i++) {
        segment_stats_attach(segments[i], stats[i]);
        assert_int_equal(segment_stats_verify(&op, segments[i]), ERR_OK);
        segment_stats_attach(segments[i], stats[!i]);
        assert_int_equal(segment_stats_verify(&op, segments[i]), ERR_CORRUPT);
        assert_non_null(strstr(op.error, "attribute 0"));
        op_clear_error(&op);
    }
    for (int i = 0; i < 2; i++) {
        segment_unref(segments[i]);
        segment_stats_unref(stats[i]);
    }
    schema_unref(schema);
    op_release(&op);
}

static void statistics_of_very_many_attributes_stay_within_their_ceiling(void **state)
{
    struct stated *s = *state;
    stated_make(s,
                (struct world_shape){.row_count = 400, .attr_count = SCHEMA_ATTRS_MAX});
    assert_true(segment_stats_bytes(s->stats).size <= SEGMENT_STATS_MAX);
    assert_int_equal(segment_stats_verify(&s->w.op, s->segment), ERR_OK);
    for (int i = 0; i < 200; i++)
        expect_sound(s, random_filter(&s->w.op, &s->rng, s->w.schema, 400, 1));
}

static void a_segment_without_statistics_says_nothing_for_sure(void **state)
{
    struct stated *s = *state;
    stated_make(s, (struct world_shape){.row_count = 50, .attr_count = 4});
    segment_stats_attach(s->segment, NULL);
    assert_int_equal(segment_stats_verify(&s->w.op, s->segment), ERR_OK);
    for (int i = 0; i < 50; i++)
        expect_sound(s, random_condition(&s->w.op, &s->rng, s->w.schema));
}

/* ---- estimates ---- */

enum { MANY = 100000 };

struct column_world {
    struct op op;
    struct schema *schema;
    struct segment *segment;
};

static union scalar numbered_text(struct op *op, const char *start, uint32_t n)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s%05u", start, n);
    return (union scalar){.s = op_copy(op, slice_str(text))};
}

/* n: 0 to MANY - 1, each once; label: 100 of them, indexed or not; skewed: half of the
 * rows have 7; text: a long one; every tenth row has no m. */
static int column_world_setup(void **state)
{
    static struct column_world world;
    struct column_world *w = *state = &world;
    static const struct attr attrs[] = {
        {.name = "n", .type = ATTR_INT},
        {.name = "indexed", .type = ATTR_INT, .indexed = true},
        {.name = "label", .type = ATTR_STRING},
        {.name = "skewed", .type = ATTR_UINT, .indexed = true},
        {.name = "text", .type = ATTR_STRING, .indexed = true},
        {.name = "m", .type = ATTR_FLOAT},
        {.name = "tags", .type = ATTR_INT, .array = true},
    };
    struct segment_options options = {.zstd_level = 0};
    struct buf bytes = BUF_INIT;
    struct segment_stats *stats = NULL;

    op_init(&w->op, OP_NO_DEADLINE, 0);
    w->schema = schema_new(0, METRIC_L2, attrs, COUNT_OF(attrs));
    struct segment_builder *b = segment_builder_new(w->schema, &options);
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t n = (uint32_t)((uint64_t)i * 7919 % MANY); /* a permutation */
        union scalar tags[2] = {{.i = n % 50}, {.i = 50 + n % 50}};
        struct value values[] = {
            {.one.i = n},
            {.one.i = n},
            {.one = numbered_text(&w->op, "label ", n % 100)},
            {.one.u = n % 2 ? 7 : n},
            {.one = numbered_text(&w->op, "the same twenty-four bytes ", n)},
            {.null = n % 10 == 0, .one.f = n},
            {.count = 2, .items = tags},
        };
        struct doc d = {.id = number_id(i), .values = values};
        segment_builder_add(b, &d);
    }
    assert_int_equal(segment_builder_finish(&w->op, b, &bytes), ERR_OK);
    assert_int_equal(segment_stats_make(&w->op, buf_slice(&bytes), &stats), ERR_OK);
    assert_int_equal(segment_open_memory(&w->op, &bytes, &w->segment), ERR_OK);
    segment_stats_attach(w->segment, stats);
    segment_stats_unref(stats);
    return 0;
}

static int column_world_teardown(void **state)
{
    struct column_world *w = *state;
    segment_unref(w->segment);
    schema_unref(w->schema);
    op_release(&w->op);
    return 0;
}

#define COLUMN_TEST(f)                                                                 \
    cmocka_unit_test_setup_teardown(f, column_world_setup, column_world_teardown)

static double part_of(struct column_world *w, const struct filter *f)
{
    struct stats_answer a;
    segment_stats_ask(w->segment, f, &a);
    assert_false(a.blind);
    return a.part_true;
}

static void guesses_lie_near_the_truth(void **state)
{
    struct column_world *w = *state;
    union scalar quarter = {.i = MANY / 4}, label = {.s = SLICE_LITERAL("label 00042")},
                 seven = {.u = 7}, half = {.f = MANY / 2.0}, three = {.i = 3},
                 beginning = {.s = SLICE_LITERAL("label 0001")};
    struct filter below = {.op = FILTER_LT,
                           .type = ATTR_INT,
                           .values = &quarter,
                           .value_count = 1};
    struct filter is_label = {.op = FILTER_EQ,
                              .attr = 2,
                              .type = ATTR_STRING,
                              .values = &label,
                              .value_count = 1};
    struct filter begins = {.op = FILTER_PREFIX,
                            .attr = 2,
                            .type = ATTR_STRING,
                            .values = &beginning,
                            .value_count = 1};
    struct filter is_seven = {.op = FILTER_EQ,
                              .attr = 3,
                              .type = ATTR_UINT,
                              .values = &seven,
                              .value_count = 1};
    struct filter above = {.op = FILTER_GTE,
                           .attr = 5,
                           .type = ATTR_FLOAT,
                           .values = &half,
                           .value_count = 1};
    struct filter tagged = {.op = FILTER_CONTAINS,
                            .attr = 6,
                            .type = ATTR_INT,
                            .array = true,
                            .values = &three,
                            .value_count = 1};

    assert_true(fabs(part_of(w, &below) - 0.25) < 0.02);
    below.attr = 1;
    assert_true(fabs(part_of(w, &below) - 0.25) < 0.02);
    assert_true(fabs(part_of(w, &is_label) - 0.01) < 0.005);
    assert_true(fabs(part_of(w, &begins) - 0.1) < 0.08);
    assert_true(fabs(part_of(w, &is_seven) - 0.5) < 0.02);
    assert_true(fabs(part_of(w, &above) - 0.45) < 0.03);
    assert_true(fabs(part_of(w, &tagged) - 0.02) < 0.01);
    below.op = FILTER_EQ; /* one of a hundred thousand */
    below.attr = 0;
    assert_true(part_of(w, &below) < 0.0001);

    /* From a fifth to a quarter: both bounds of one attribute are no accident. */
    union scalar fifth = {.i = MANY / 5};
    struct filter from = {.op = FILTER_GTE,
                          .type = ATTR_INT,
                          .values = &fifth,
                          .value_count = 1};
    struct filter to = {.op = FILTER_LT,
                        .type = ATTR_INT,
                        .values = &quarter,
                        .value_count = 1};
    struct filter *both[] = {&to, &from};
    struct filter between = {.op = FILTER_AND, .children = both, .child_count = 2};
    assert_true(fabs(part_of(w, &between) - 0.05) < 0.02);
}

static void long_texts_are_cut_and_still_bound_the_values(void **state)
{
    struct column_world *w = *state;
    struct stats_answer a;
    union scalar inside = {.s = SLICE_LITERAL("the same twenty-four bytes 99999")},
                 beyond = {.s = SLICE_LITERAL("the same twenty-four cats")},
                 before = {.s = SLICE_LITERAL("the same twenty-four ants")};
    struct filter f = {.op = FILTER_EQ,
                       .attr = 4,
                       .type = ATTR_STRING,
                       .values = &inside,
                       .value_count = 1};
    segment_stats_ask(w->segment, &f, &a);
    assert_true(a.may_be_true);
    f.values = &beyond;
    segment_stats_ask(w->segment, &f, &a);
    assert_false(a.may_be_true);
    f.values = &before;
    segment_stats_ask(w->segment, &f, &a);
    assert_false(a.may_be_true);
    f.op = FILTER_GT;
    segment_stats_ask(w->segment, &f, &a);
    assert_false(a.may_be_false || a.may_be_unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_said_for_sure_holds_of_every_row),
        TEST(statistics_read_back_as_they_were_written),
        TEST(damaged_statistics_are_refused_or_read),
        cmocka_unit_test(statistics_of_another_segment_are_found_out),
        TEST(statistics_of_very_many_attributes_stay_within_their_ceiling),
        TEST(a_segment_without_statistics_says_nothing_for_sure),
        COLUMN_TEST(guesses_lie_near_the_truth),
        COLUMN_TEST(long_texts_are_cut_and_still_bound_the_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
