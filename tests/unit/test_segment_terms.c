/*
 * Text indexes read by ranges: the same answers as of whole ones, for fewer bytes, and
 * whole ones once the ranges have cost as much.
 */
#include "segment/segment_ahead.h"
#include "segment/segment_terms.h"
#include "unit/segment_world.h"
#include "unit/test.h"

/* Words of which there is one only make a large dictionary of few rows. */
enum {
    ROWS = 3000,
    VOCABULARY = 20000,
    WORDS_MAX = 20,
    UNIQUE = 60,
    CACHE_SIZE = 64 << 20,
    TERMS_MAX = 6
};

static const struct attr body = {.name = "body",
                                 .type = ATTR_STRING,
                                 .full_text = true,
                                 .analysis = {LANG_ENGLISH, false, false, false,
                                              false}};

struct library {
    struct op op;
    uint64_t rng;
    struct store *store;
    struct cache *far, *near;
    struct segment *by_ranges, *whole;
    uint64_t size;
};

/* A frequent word, and others that get the rarer the higher their number. */
static uint32_t random_word(uint64_t *rng)
{
    return random_index(rng, 1 + random_index(rng, VOCABULARY));
}

static void build(struct library *l, struct buf *out)
{
    struct schema *schema = schema_new(0, METRIC_COSINE, &body, 1);
    struct segment_options options = {.zstd_level = 1};
    struct segment_builder *b = segment_builder_new(schema, &options);
    for (uint32_t row = 0; row < ROWS; row++) {
        struct buf text = BUF_INIT;
        bool any = random_index(&l->rng, 9) > 0;
        for (uint32_t n = any ? random_index(&l->rng, WORDS_MAX) : 0; n > 0; n--)
            buf_printf(&text, "word%05u ", random_word(&l->rng));
        for (uint32_t n = 0; any && n < UNIQUE; n++)
            buf_printf(&text, "%c%07u ", 'a' + n % 26, row * UNIQUE + n);
        struct value v = {.null = text.size == 0, .one.s = buf_slice(&text)};
        struct doc doc = {.id = number_id(row), .values = &v};
        segment_builder_add(b, &doc);
        buf_release(&text);
    }
    assert_int_equal(segment_builder_finish(&l->op, b, out), ERR_OK);
    schema_unref(schema);
}

static struct segment *open_small(struct library *l, struct cache *cache)
{
    struct segment *s;
    assert_int_equal(segment_open_tail(&l->op, cache, "s", l->size, SEGMENT_FOOTER_SIZE,
                                       &s),
                     ERR_OK);
    return s;
}

static int library_make(void **state)
{
    static struct library library;
    struct library *l = *state = &library;
    struct buf bytes = BUF_INIT;
    library = (struct library){.rng = test_seed(), .store = store_mem_new()};
    op_init(&l->op, OP_NO_DEADLINE, 0);
    build(l, &bytes);
    struct slice all = buf_slice(&bytes);
    l->size = all.size;
    assert_int_equal(store_put(&l->op, l->store, "s", &all, 1), ERR_OK);
    buf_release(&bytes);
    l->far = cache_new(l->store, CACHE_SIZE);
    cache_gather(l->far);
    l->near = cache_new(l->store, CACHE_SIZE);
    l->by_ranges = open_small(l, l->far);
    l->whole = open_small(l, l->near);
    l->op.counters = (struct op_counters){0};
    return 0;
}

static int library_release(void **state)
{
    struct library *l = *state;
    segment_unref(l->by_ranges);
    segment_unref(l->whole);
    assert_true(cache_usage(l->far).pinned_bytes == 0);
    cache_free(l->far);
    cache_free(l->near);
    store_free(l->store);
    op_release(&l->op);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, library_make, library_release)

struct asked {
    char words[TERMS_MAX][16];
    struct slice terms[TERMS_MAX];
    struct segment_text text;
    struct segment_want want;
};

static void ask_random(struct library *l, struct asked *a, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bool absent = random_index(&l->rng, 4) == 0;
        (void)snprintf(a->words[i], sizeof a->words[i], "%s%05u",
                       absent ? "wor" : "word", random_word(&l->rng));
        a->terms[i] = slice_str(a->words[i]);
    }
    a->text = (struct segment_text){.terms = a->terms, .term_count = count};
    a->want = (struct segment_want){.texts = &a->text, .text_count = 1};
}

/* Counts, frequencies and the best rows, as bytes. */
static void answer(struct op *op, struct segment *s, const struct asked *a,
                   struct buf *out)
{
    struct segment_view *view;
    struct text_clause clauses[TERMS_MAX];
    struct hit hits[20];
    struct topk best;
    float inverse[256];
    uint64_t scored;

    assert_int_equal(segment_view_open(op, s, &a->want, &view), ERR_OK);
    const struct text_index *t = segment_view_text(view, 0);
    put_u64(out, text_index_document_count(t));
    put_u64(out, text_index_total_length(t));
    bm25_norms(20, inverse);
    for (uint32_t i = 0; i < a->text.term_count; i++) {
        put_u64(out, text_index_frequency(t, a->terms[i]));
        clauses[i] = (struct text_clause){.index = t,
                                          .term = a->terms[i],
                                          .group = i,
                                          .weight = 1 + (float)i,
                                          .inverse = inverse};
    }
    struct text_search search = {.clauses = clauses,
                                 .clause_count = a->text.term_count,
                                 .group_count = (uint32_t)a->text.term_count,
                                 .row_count = ROWS};
    topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
    assert_int_equal(text_index_search(op, &search, &best, &scored), ERR_OK);
    put_hits(out, &best);
    segment_view_close(view);
}

static void expect_same(struct library *l, const struct asked *a)
{
    struct buf one = BUF_INIT, other = BUF_INIT;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    answer(&l->op, l->by_ranges, a, &one);
    answer(&op, l->whole, a, &other);
    assert_true(slice_equal(buf_slice(&one), buf_slice(&other)));
    buf_release(&one);
    buf_release(&other);
    op_release(&op);
}

static uint64_t text_size(const struct library *l)
{
    return layout_section(&l->by_ranges->layout, SECTION_TEXT, 0)->size;
}

static void a_few_terms_cost_one_round_and_a_part_of_the_index(void **state)
{
    struct library *l = *state;
    struct asked a;
    ask_random(l, &a, 3);
    assert_true(terms_by_ranges(l->by_ranges, &a.text));
    assert_false(terms_by_ranges(l->whole, &a.text));
    expect_same(l, &a);
    assert_int_equal(l->op.counters.rounds, 1);
    assert_true(l->op.counters.store_bytes > 0);
    assert_true(l->op.counters.store_bytes < text_size(l));
}

static void ranges_answer_like_the_whole_until_it_is_read(void **state)
{
    struct library *l = *state;
    struct asked a;
    uint64_t before = 0, ranged = 0;
    for (int i = 0; i < 200; i++) {
        ask_random(l, &a, random_index(&l->rng, TERMS_MAX + 1));
        ranged += terms_by_ranges(l->by_ranges, &a.text);
        before = l->op.counters.store_bytes;
        expect_same(l, &a);
    }
    assert_true(ranged > 0 && ranged < 100);
    assert_int_equal(l->op.counters.store_bytes, before); /* all of it is in memory */
    assert_true(before <= 3 * text_size(l));
}

static void nothing_is_read_by_ranges_that_memory_has_whole(void **state)
{
    struct library *l = *state;
    struct asked a;
    ask_random(l, &a, 2);
    a.text.terms = NULL; /* anything */
    a.text.term_count = 0;
    struct segment_view *view;
    assert_int_equal(segment_view_open(&l->op, l->by_ranges, &a.want, &view), ERR_OK);
    segment_view_close(view);
    ask_random(l, &a, 2);
    assert_false(terms_by_ranges(l->by_ranges, &a.text));
    uint64_t before = l->op.counters.store_bytes;
    expect_same(l, &a);
    assert_int_equal(l->op.counters.store_bytes, before);
}

static void what_is_read_ahead_is_what_the_view_reads(void **state)
{
    struct library *l = *state;
    struct asked a;
    struct segment *second;
    second = open_small(l, l->far);
    ask_random(l, &a, 4);
    struct segment_ahead *ahead = segment_ahead_new();
    struct segment_want twice = a.want; /* a single call would not be read ahead */
    segment_ahead_view(ahead, l->by_ranges, &twice);
    uint32_t row = 7;
    segment_ahead_fetch(ahead, second, &row, 1, (struct segment_fetch){false, true});
    l->op.counters = (struct op_counters){0};
    assert_int_equal(segment_ahead_read(&l->op, ahead), ERR_OK);
    assert_int_equal(l->op.counters.rounds, 1);
    uint64_t bytes = l->op.counters.store_bytes;
    assert_true(bytes < text_size(l));
    expect_same(l, &a);
    assert_int_equal(l->op.counters.rounds, 1);
    assert_int_equal(l->op.counters.store_bytes, bytes);
    segment_ahead_free(ahead);
    segment_unref(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_few_terms_cost_one_round_and_a_part_of_the_index),
        TEST(ranges_answer_like_the_whole_until_it_is_read),
        TEST(nothing_is_read_by_ranges_that_memory_has_whole),
        TEST(what_is_read_ahead_is_what_the_view_reads),
    };
    return cmocka_run_group_tests_name("segment terms", tests, NULL, NULL);
}
