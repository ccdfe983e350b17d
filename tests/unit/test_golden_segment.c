/*
 * Segments of every format version: they open and say what they said when they were
 * written, and the same documents still make the same bytes. Run from the repository's
 * root.
 */
#include "unit/golden.h"

#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment.h"
#include "text/text_index.h"
#include "text/text_list.h"
#include "unit/doc_bytes.h"

enum { ROWS = 24, DIM = 6, ATTRS = 8 };

static const struct attr attrs[ATTRS] = {
    {.name = "title",
     .type = ATTR_STRING,
     .full_text = true,
     .analysis = {LANG_ENGLISH, true, true, false, false}},
    {.name = "tags", .type = ATTR_STRING, .array = true},
    {.name = "int", .type = ATTR_INT, .indexed = true},
    {.name = "uint", .type = ATTR_UINT},
    {.name = "float", .type = ATTR_FLOAT},
    {.name = "bool", .type = ATTR_BOOL},
    {.name = "datetime", .type = ATTR_DATETIME},
    {.name = "uuid", .type = ATTR_UUID}};

static const char *const titles[] = {
    "The quick brown foxes jumped", "Running over lazy dogs", "",
    "Größe und Maß, naïve café",    "foxes fox foxed",        "日本語のテキスト"};

struct sample {
    struct doc doc;
    struct value values[ATTRS];
    union scalar tags[3];
    float vector[DIM];
    char id[16];
};

/* Document number i of the golden segments; rows are in the order of i. */
static void sample_make(struct sample *s, uint32_t i, bool strings)
{
    *s = (struct sample){.doc = {.values = s->values}};
    for (uint32_t k = 0; k < DIM; k++)
        s->vector[k] = (float)((i * 7 + k * 3) % 11) - 4.75f;
    for (uint32_t k = 0; k < 3; k++)
        s->tags[k].s = slice_str(titles[(i + k) % COUNT_OF(titles)]);
    s->values[0].one.s = slice_str(titles[i % COUNT_OF(titles)]);
    s->values[1] = (struct value){.count = i % 4, .items = s->tags};
    s->values[2].one.i = (int64_t)i - 10;
    s->values[3].one.u = UINT64_MAX - i;
    s->values[4].one.f = (double)i / 8 - 1;
    s->values[5].one.b = i % 3 == 0;
    s->values[6].one.i = 1700000000000000 + (int64_t)i;
    memset(s->values[7].one.uuid, (int)i, 16);
    for (uint32_t k = 0; k < ATTRS; k++)
        s->values[k].null = (i + k) % 5 == 4;
    if (i % 6 != 5) s->doc.vector = s->vector;
    (void)snprintf(s->id, sizeof s->id, "doc-%05u", i);
    s->doc.id = strings
                    ? (struct doc_id){.kind = ID_STRING, .string = slice_str(s->id)}
                    : (struct doc_id){.kind = ID_U64, .u64 = (uint64_t)i * i * 1000};
}

struct golden {
    const char *name;
    bool strings;
    enum metric_kind metric;
    int zstd_level; /* compressed bytes depend on the library: read, not compared */
    bool indexed;   /* so do the last bits of an index on the machine */
    bool positions; /* the others are from before positions */
    bool now;       /* as it is written now */
};

static const struct golden goldens[] = {
    {"segment-v1.bin", false, METRIC_COSINE, 0, false, false, false},
    {"segment-v1-zstd.bin", true, METRIC_L2, 3, false, false, false},
    {"segment-v1-index-cosine.bin", false, METRIC_COSINE, 0, true, false, false},
    {"segment-v1-index-dot.bin", true, METRIC_DOT, 0, true, false, false},
    {"segment-v1-index2-l2.bin", false, METRIC_L2, 0, true, true, false},
    {"segment-v1-positions.bin", false, METRIC_COSINE, 0, false, true, false},
    {"segment-v1-index2-l2.bin", false, METRIC_L2, 0, true, true, false},
    {"segment-v1-text3.bin", false, METRIC_COSINE, 0, false, true, false},
    {"segment-v1-packed-numbers.bin", false, METRIC_L2, 3, false, true, false},
    {"segment-v1-packed-strings.bin", true, METRIC_L2, 3, false, true, false},
    {"segment-v1-text4.bin", false, METRIC_COSINE, 0, false, true, false},
    {"segment-v1-blocks.bin", false, METRIC_COSINE, 0, false, true, true},
};

static struct schema *golden_schema(const struct golden *g)
{
    return schema_new(DIM, g->metric, attrs, ATTRS);
}

static void golden_build(struct op *op, const struct golden *g, struct buf *out)
{
    struct schema *schema = golden_schema(g);
    struct segment_options options = {.zstd_level = g->zstd_level,
                                      .index_from = g->indexed,
                                      .index_seed = 99};
    struct segment_builder *b = segment_builder_new(schema, &options);
    struct sample s;
    for (uint32_t i = ROWS; i > 0; i--) {
        sample_make(&s, i - 1, g->strings);
        segment_builder_add(b, &s.doc);
    }
    assert_int_equal(segment_builder_finish(op, b, out), ERR_OK);
    schema_unref(schema);
}

/* The committed file; what is not compressed is what is built today. */
static struct buf golden_segment(struct op *op, const struct golden *g)
{
    struct buf built = BUF_INIT, file;
    golden_build(op, g, &built);
    file = !g->now ? golden_read(g->name) : golden_expect(g->name, buf_slice(&built));
    buf_release(&built);
    return file;
}

static void expect_documents(struct op *op, struct segment *s, const struct golden *g,
                             const struct schema *schema)
{
    struct segment_fetch what = {.vector = true, .attributes = true};
    assert_int_equal(segment_row_count(s), ROWS);
    assert_int_equal(segment_vector_count(s), ROWS - ROWS / 6);
    for (uint32_t row = 0; row < ROWS; row++) {
        struct sample sample;
        struct doc got;
        uint32_t found;
        struct buf a = BUF_INIT, b = BUF_INIT;
        sample_make(&sample, row, g->strings);
        assert_int_equal(segment_fetch(op, s, schema, &row, 1, what, &got), ERR_OK);
        doc_encode(&sample.doc, schema, &a);
        doc_encode(&got, schema, &b);
        assert_true(slice_equal(buf_slice(&a), buf_slice(&b)));
        segment_find(s, &sample.doc.id, 1, &found);
        assert_int_equal(found, row);
        buf_release(&a);
        buf_release(&b);
    }
}

static void expect_filter(struct op *op, struct segment *s)
{
    union scalar two = {.i = 2};
    struct filter f = {
        .op = FILTER_LT, .attr = 2, .type = ATTR_INT, .values = &two, .value_count = 1};
    struct rowset *rows;
    assert_int_equal(segment_filter(op, s, &f, NULL, NULL, &rows), ERR_OK);
    for (uint32_t row = 0; row < ROWS; row++)
        assert_int_equal(rowset_has(rows, row), row < 12 && (row + 2) % 5 != 4);
    rowset_unref(rows);
}

/* "brown foxes" stands in the same rows as the quick brown foxes do. */
static void expect_phrase(struct op *op, const struct text_index *t,
                          const struct golden *g)
{
    const struct phrase_term terms[] = {{SLICE_LITERAL("brown"), 0},
                                        {SLICE_LITERAL("fox"), 1}};
    struct text_list list;
    enum err e = text_list_phrase(op, t, terms, COUNT_OF(terms), &list);
    assert_int_equal(e, g->positions ? ERR_OK : ERR_INVALID);
    if (e) return;
    assert_int_equal(list.count, text_index_frequency(t, SLICE_LITERAL("brown")));
    assert_true(list.count > 0);
    text_list_release(&list);
}

static void expect_text(struct op *op, struct segment *s, const struct golden *g)
{
    static const int title = 0;
    struct segment_view *view;
    const struct segment_text text = {.attr = title};
    const struct segment_want want = {.texts = &text,
                                      .text_count = 1,
                                      .positions = true};
    assert_int_equal(segment_view_open(op, s, &want, &view), ERR_OK);
    const struct text_index *t = segment_view_text(view, title);
    assert_non_null(t);
    /* Rows 0, 6, 12, 18 and 4, 10, 16, 22 speak of foxes; of those 4 is null. */
    assert_int_equal(text_index_frequency(t, SLICE_LITERAL("fox")), 7);
    assert_int_equal(text_index_frequency(t, SLICE_LITERAL("the")), 0);
    expect_phrase(op, t, g);
    segment_view_close(view);
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return a->row < b->row ? -1 : a->row > b->row;
}

static void expect_nearest(struct op *op, struct segment *s, const struct golden *g)
{
    struct segment_target target = {s, NULL, 0};
    struct hit exact[5], near[5];
    struct topk best;
    struct sample sample;
    struct segment_work work = {0};
    sample_make(&sample, 8, g->strings);
    struct segment_near what = {.metric = g->metric,
                                .query = sample.vector,
                                .recall = 0.95f};
    topk_init(&best, exact, 5, by_row, NULL);
    assert_int_equal(segment_vector_search(op, s, g->metric, sample.vector, NULL, 0,
                                           &best),
                     ERR_OK);
    topk_finish(&best);
    assert_int_equal(best.count, 5);
    if (g->metric != METRIC_DOT) assert_int_equal(exact[0].row, 8);
    assert_int_equal(segment_indexed(s), g->indexed);
    topk_init(&best, near, 5, by_row, NULL);
    assert_int_equal(segment_nearest(op, &target, 1, &what, &best, &work), ERR_OK);
    topk_finish(&best);
    assert_int_equal(work.indexed, g->indexed);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(near[i].row, exact[i].row);
}

static void segments_of_version_1_say_what_they_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        const struct golden *g = &goldens[i];
        struct schema *schema = golden_schema(g);
        struct segment *s;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        struct buf bytes = golden_segment(&op, g);
        assert_int_equal(segment_open_memory(&op, &bytes, &s), ERR_OK);
        expect_documents(&op, s, g, schema);
        expect_filter(&op, s);
        expect_text(&op, s, g);
        expect_nearest(&op, s, g);
        segment_unref(s);
        schema_unref(schema);
        op_release(&op);
    }
}

/* What an old segment lacks, its texts give when it is merged. */
static void merging_gives_an_old_segment_positions(void **state)
{
    (void)state;
    struct schema *schema = golden_schema(&goldens[0]);
    struct segment_options options = {.zstd_level = 0};
    struct segment_input input = {.segment = NULL};
    struct buf merged = BUF_INIT, now;
    uint32_t row_count;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct buf bytes = golden_segment(&op, &goldens[0]);
    assert_int_equal(segment_open_memory(&op, &bytes, &input.segment), ERR_OK);
    assert_int_equal(segment_merge(&op, schema, &options, &input, 1, &merged,
                                   &row_count),
                     ERR_OK);
    now = golden_segment(&op, &goldens[COUNT_OF(goldens) - 1]);
    assert_true(slice_equal(buf_slice(&merged), buf_slice(&now)));
    segment_unref(input.segment);
    schema_unref(schema);
    buf_release(&merged);
    buf_release(&now);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_of_version_1_say_what_they_said),
        cmocka_unit_test(merging_gives_an_old_segment_positions),
    };
    return cmocka_run_group_tests_name("golden segment", tests, NULL, NULL);
}
