/*
 * The index against a naive one: documents as lists of term counts, every row scored.
 */
#include "text/text_index.h"

#include <assert.h>

#include "base/buf.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/expand.h"
#include "text/text_layout.h"
#include "text/text_list.h"
#include "text/text_merge.h"
#include "unit/test.h"

/* Words as they are: what is tested here is not the analysis. */
static const struct analysis plain = {LANG_ENGLISH, false, false, false, false};

static struct value text_value(const char *text)
{
    return (struct value){.one.s = slice_str(text)};
}

/* ---- a corpus of numbered words, and its naive index ---- */

struct naive_posting {
    uint32_t row, frequency;
};

struct naive_term {
    struct naive_posting *postings;
    uint32_t count;
};

struct corpus {
    uint32_t row_count, word_count;
    struct naive_term *terms; /* by number of the word */
    uint8_t *lengths;
    uint32_t document_count;
    uint64_t total_length;
    struct buf bytes, positions;
    struct text_index *index;
};

static struct slice word_text(uint32_t word, char out[16])
{
    return slice_of(out, (size_t)snprintf(out, 16, "w%u", word));
}

static void naive_count(struct corpus *c, uint32_t word, uint32_t row)
{
    struct naive_term *t = &c->terms[word];
    if (t->count && t->postings[t->count - 1].row == row) {
        t->postings[t->count - 1].frequency++;
        return;
    }
    t->postings = mem_realloc(t->postings, (t->count + 1) * sizeof *t->postings);
    t->postings[t->count++] = (struct naive_posting){row, 1};
}

/* Zipf-like: word w with a chance falling like 1 / w. */
static uint32_t random_word(uint64_t *seed, uint32_t word_count)
{
    uint32_t bits = 1;
    while ((1u << bits) < word_count)
        bits++;
    uint32_t span = 1u << test_random(seed) % (bits + 1);
    return (uint32_t)(test_random(seed) % span) % word_count;
}

static void corpus_add_row(struct corpus *c, struct text_builder *b, uint64_t *seed,
                           uint32_t row, uint32_t length)
{
    struct buf text = BUF_INIT;
    char word_bytes[16];

    for (uint32_t i = 0; i < length; i++) {
        uint32_t word = random_word(seed, c->word_count);
        if (test_random(seed) % 7 == 0 && i) word = word / 3; /* repeats */
        naive_count(c, word, row);
        buf_append_slice(&text, word_text(word, word_bytes));
        buf_append_byte(&text, ' ');
    }
    c->lengths[row] = bm25_length_encode(length);
    c->document_count += length > 0;
    c->total_length += length;
    struct value v = {.one.s = buf_slice(&text)};
    text_builder_add(b, row, false, &v);
    buf_release(&text);
}

static void corpus_make(struct corpus *c, struct op *op, uint64_t *seed,
                        uint32_t row_count, uint32_t word_count, uint32_t length_max)
{
    *c = (struct corpus){.row_count = row_count, .word_count = word_count};
    c->terms = mem_new_array(struct naive_term, word_count);
    c->lengths = mem_new_array(uint8_t, row_count);
    struct text_builder *b = text_builder_new(&plain);

    for (uint32_t row = 0; row < row_count; row++) {
        if (test_random(seed) % 50 == 0) continue; /* no text */
        corpus_add_row(c, b, seed, row, (uint32_t)(test_random(seed) % length_max));
    }
    text_builder_finish(b, row_count, &c->bytes, &c->positions);
    assert_int_equal(text_index_open(op, buf_slice(&c->bytes), row_count, &c->index),
                     0);
    text_index_attach(c->index, buf_slice(&c->positions));
}

static void corpus_release(struct corpus *c)
{
    for (uint32_t w = 0; w < c->word_count; w++)
        mem_free(c->terms[w].postings);
    mem_free(c->terms);
    mem_free(c->lengths);
    text_index_close(c->index);
    buf_release(&c->bytes);
    buf_release(&c->positions);
}

/* ---- a query, both ways ---- */

enum { CLAUSES_MAX = 40, K_MAX = 1000 };

struct query {
    struct text_clause clauses[CLAUSES_MAX];
    char words[CLAUSES_MAX][16];
    uint32_t numbers[CLAUSES_MAX];
    size_t corpus[CLAUSES_MAX]; /* which of two fields */
    size_t count;
    uint32_t groups;
    bool all;
    struct rowset *allowed;
    size_t k;
};

/* The same rows are asked as two sources, so that many hits tie across sources. */
static const uint32_t SOURCES[] = {3, 7};

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    /* As ids do, keys ascend with the rows of a source, and the ones of two sources lie
     * between each other: a pair of equal hits is decided either way. */
    const uint32_t *shift = context;
    uint64_t x = 2ull * a->row + (a->source == SOURCES[1] ? 2ull * *shift + 1 : 0);
    uint64_t y = 2ull * b->row + (b->source == SOURCES[1] ? 2ull * *shift + 1 : 0);
    return x < y ? -1 : x > y;
}

/* The definition in text_index.h, word by word. */
static void naive_search(const struct corpus *fields, const struct query *q,
                         uint32_t source, struct topk *best)
{
    uint32_t row_count = fields[0].row_count;
    float *scores = mem_new_array(float, row_count);
    uint64_t *groups = mem_new_array(uint64_t, row_count);

    for (size_t i = 0; i < q->count; i++) {
        const struct corpus *c = &fields[q->corpus[i]];
        const struct naive_term *t = &c->terms[q->numbers[i]];
        for (uint32_t p = 0; p < t->count; p++) {
            uint32_t row = t->postings[p].row;
            scores[row] += bm25_score(q->clauses[i].weight, t->postings[p].frequency,
                                      q->clauses[i].inverse[c->lengths[row]]);
            groups[row] |= 1ull << q->clauses[i].group;
        }
    }
    uint64_t wanted = q->groups == 64 ? UINT64_MAX : (1ull << q->groups) - 1;
    for (uint32_t row = 0; row < row_count; row++) {
        bool matches = q->all ? groups[row] == wanted : groups[row] != 0;
        if (!matches || (q->allowed && !rowset_has(q->allowed, row))) continue;
        topk_push(best, (struct hit){scores[row], source, row});
    }
    mem_free(scores);
    mem_free(groups);
}

static void query_check(struct op *op, const struct corpus *fields,
                        const struct query *q)
{
    struct hit got_hits[K_MAX], wanted_hits[K_MAX];
    struct topk got, wanted;
    uint32_t row_count = fields[0].row_count, shift = row_count / (uint32_t)q->count;
    uint64_t scored = 0;
    struct text_search search = {.clauses = q->clauses,
                                 .clause_count = q->count,
                                 .group_count = q->groups,
                                 .all_groups = q->all,
                                 .allowed = q->allowed,
                                 .row_count = row_count};

    topk_init(&got, got_hits, q->k, by_row, &shift);
    topk_init(&wanted, wanted_hits, q->k, by_row, &shift);
    for (size_t i = 0; i < COUNT_OF(SOURCES); i++) {
        search.source = SOURCES[i];
        assert_int_equal(text_index_search(op, &search, &got, &scored), ERR_OK);
        naive_search(fields, q, SOURCES[i], &wanted);
    }
    topk_finish(&got);
    topk_finish(&wanted);
    assert_int_equal(got.count, wanted.count);
    for (size_t i = 0; i < wanted.count; i++) {
        assert_int_equal(got_hits[i].row, wanted_hits[i].row);
        assert_memory_equal(&got_hits[i].score, &wanted_hits[i].score, sizeof(float));
        assert_int_equal(got_hits[i].source, wanted_hits[i].source);
    }
}

static struct rowset *random_rows(uint64_t *seed, uint32_t row_count)
{
    static const uint32_t one_in[] = {1, 2, 10, 100, 1000};
    uint32_t n = one_in[test_random(seed) % COUNT_OF(one_in)];
    struct rowset *set = rowset_new();
    for (uint32_t row = 0; row < row_count; row++)
        if (test_random(seed) % n == 0) rowset_add(set, row);
    return set;
}

static void query_make(struct query *q, const struct corpus *fields,
                       const float (*inverse)[256], uint64_t *seed)
{
    static const size_t ks[] = {1, 2, 10, 10, 10, 100, 1000};
    size_t longest = test_random(seed) % 10 == 0 ? CLAUSES_MAX : 8;

    q->count = 1 + test_random(seed) % longest;
    q->groups = (uint32_t)q->count;
    q->all = test_random(seed) % 3 == 0;
    q->k = ks[test_random(seed) % COUNT_OF(ks)];
    bool two = test_random(seed) % 3 == 0;
    if (two) q->groups = (q->groups + 1) / 2;
    for (size_t i = 0; i < q->count; i++) {
        q->corpus[i] = two ? i % 2 : 0;
        const struct corpus *c = &fields[q->corpus[i]];
        uint32_t word =
            i % 2 && two ? q->numbers[i - 1] : random_word(seed, c->word_count);
        uint32_t df = c->terms[word].count;
        q->numbers[i] = word;
        q->clauses[i] =
            (struct text_clause){.index = c->index,
                                 .term = word_text(word, q->words[i]),
                                 .group = two ? (uint32_t)i / 2 : (uint32_t)i,
                                 .weight = bm25_idf(c->document_count, df) *
                                           (test_random(seed) % 4 ? 1.0f : 2.5f),
                                 .inverse = inverse[q->corpus[i]]};
    }
    q->allowed =
        test_random(seed) % 3 == 0 ? random_rows(seed, fields[0].row_count) : NULL;
}

static void random_queries(uint32_t row_count, uint32_t word_count, uint32_t length_max,
                           size_t queries)
{
    uint64_t seed = test_seed();
    struct op op;
    struct corpus fields[2];
    float inverse[2][256];

    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t f = 0; f < 2; f++) {
        corpus_make(&fields[f], &op, &seed, row_count, word_count, length_max + 1);
        assert_true(text_index_document_count(fields[f].index) ==
                    fields[f].document_count);
        assert_true(text_index_total_length(fields[f].index) == fields[f].total_length);
        bm25_norms((double)fields[f].total_length / (fields[f].document_count + 1e-9),
                   inverse[f]);
    }
    for (size_t i = 0; i < queries; i++) {
        struct query q;
        query_make(&q, fields, (const float(*)[256])inverse, &seed);
        query_check(&op, fields, &q);
        rowset_unref(q.allowed);
    }
    corpus_release(&fields[0]);
    corpus_release(&fields[1]);
    op_release(&op);
}

static void ten_thousand_queries_equal_scoring_every_row(void **state)
{
    (void)state;
    random_queries(1, 3, 5, 300);
    random_queries(40, 20, 10, 2000);
    random_queries(1000, 300, 12, 3000);
    random_queries(3000, 30, 40, 2500);
    random_queries(20000, 5000, 12, 2200);
}

static void frequencies_are_those_of_the_documents(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct op op;
    struct corpus c;
    char word[16];
    op_init(&op, OP_NO_DEADLINE, 0);
    corpus_make(&c, &op, &seed, 5000, 20000, 30);
    for (uint32_t w = 0; w < c.word_count; w++)
        assert_int_equal(text_index_frequency(c.index, word_text(w, word)),
                         c.terms[w].count);
    assert_int_equal(text_index_frequency(c.index, SLICE_LITERAL("")), 0);
    assert_int_equal(text_index_frequency(c.index, SLICE_LITERAL("a")), 0);
    assert_int_equal(text_index_frequency(c.index, SLICE_LITERAL("w1x")), 0);
    assert_int_equal(text_index_frequency(c.index, SLICE_LITERAL("zzz")), 0);
    corpus_release(&c);
    op_release(&op);
}

/* ---- small cases ---- */

static struct text_index *open_texts(struct op *op, struct buf *bytes,
                                     const char **texts, uint32_t count)
{
    struct text_builder *b = text_builder_new(&plain);
    struct text_index *t;
    for (uint32_t row = 0; row < count; row++) {
        struct value v = texts[row] ? text_value(texts[row]) : VALUE_NULL;
        text_builder_add(b, row, false, &v);
    }
    struct buf positions = BUF_INIT;
    text_builder_finish(b, count, bytes, &positions);
    buf_release(&positions);
    assert_int_equal(text_index_open(op, buf_slice(bytes), count, &t), ERR_OK);
    return t;
}

static void rows_without_terms_are_no_documents(void **state)
{
    (void)state;
    struct op op;
    struct buf bytes = BUF_INIT;
    const char *texts[] = {"a b", NULL, "", "... !", "b"};
    op_init(&op, OP_NO_DEADLINE, 0);
    struct text_index *t = open_texts(&op, &bytes, texts, COUNT_OF(texts));
    assert_int_equal(text_index_document_count(t), 2);
    assert_int_equal(text_index_total_length(t), 3);
    assert_int_equal(text_index_frequency(t, SLICE_LITERAL("b")), 2);
    text_index_close(t);
    buf_release(&bytes);
    op_release(&op);
}

static void an_index_without_rows_or_terms_opens_and_finds_nothing(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t rows = 0; rows < 3; rows++) {
        struct buf bytes = BUF_INIT;
        const char *texts[3] = {NULL, NULL, NULL};
        struct text_index *t = open_texts(&op, &bytes, texts, rows);
        assert_int_equal(text_index_document_count(t), 0);
        assert_int_equal(text_index_frequency(t, SLICE_LITERAL("a")), 0);
        text_index_close(t);
        buf_release(&bytes);
    }
    op_release(&op);
}

static void the_items_of_an_array_count_as_one_text(void **state)
{
    (void)state;
    struct op op;
    struct buf bytes = BUF_INIT;
    struct text_index *t;
    union scalar items[] = {{.s = SLICE_LITERAL("red car")},
                            {.s = SLICE_LITERAL("car")}};
    struct value two = {.count = 2, .items = items}, none = {.count = 0};
    op_init(&op, OP_NO_DEADLINE, 0);
    struct text_builder *b = text_builder_new(&plain);
    text_builder_add(b, 0, true, &two);
    text_builder_add(b, 1, true, &none);
    struct buf positions = BUF_INIT;
    text_builder_finish(b, 2, &bytes, &positions);
    buf_release(&positions);
    assert_int_equal(text_index_open(&op, buf_slice(&bytes), 2, &t), ERR_OK);
    assert_int_equal(text_index_document_count(t), 1);
    assert_int_equal(text_index_total_length(t), 3);
    assert_int_equal(text_index_frequency(t, SLICE_LITERAL("car")), 1);
    text_index_close(t);
    buf_release(&bytes);
    op_release(&op);
}

static void clauses_of_absent_fields_and_terms_match_nothing(void **state)
{
    (void)state;
    struct op op;
    struct buf bytes = BUF_INIT;
    const char *texts[] = {"a", "a b"};
    float inverse[256];
    struct hit hits[10];
    uint64_t scored = 0;
    op_init(&op, OP_NO_DEADLINE, 0);
    bm25_norms(1.5, inverse);
    struct text_index *t = open_texts(&op, &bytes, texts, 2);
    struct text_clause clauses[] = {{NULL, SLICE_LITERAL("a"), NULL, 0, 1, inverse},
                                    {t, SLICE_LITERAL("zz"), NULL, 1, 1, inverse},
                                    {t, SLICE_LITERAL("b"), NULL, 2, 1, inverse}};
    struct text_search search = {.clauses = clauses,
                                 .clause_count = 3,
                                 .group_count = 3,
                                 .row_count = 2};
    struct topk best;
    topk_init(&best, hits, 10, by_row, &(uint32_t){0});
    assert_int_equal(text_index_search(&op, &search, &best, &scored), ERR_OK);
    assert_int_equal(best.count, 1);
    assert_int_equal(hits[0].row, 1);
    assert_int_equal(scored, 1);

    search.all_groups = true;
    topk_init(&best, hits, 10, by_row, &(uint32_t){0});
    assert_int_equal(text_index_search(&op, &search, &best, &scored), ERR_OK);
    assert_int_equal(best.count, 0);

    search.clause_count = 0;
    assert_int_equal(text_index_search(&op, &search, &best, &scored), ERR_OK);
    assert_int_equal(best.count, 0);
    text_index_close(t);
    buf_release(&bytes);
    op_release(&op);
}

static void a_canceled_search_stops(void **state)
{
    (void)state;
    uint64_t seed = 1;
    struct op op;
    struct corpus c;
    float inverse[256];
    struct hit hits[10];
    struct topk best;
    uint64_t scored = 0;
    op_init(&op, OP_NO_DEADLINE, 0);
    corpus_make(&c, &op, &seed, 2000, 10, 10);
    bm25_norms(5, inverse);
    struct text_clause clauses[] = {{c.index, SLICE_LITERAL("w1"), NULL, 0, 1, inverse},
                                    {c.index, SLICE_LITERAL("w2"), NULL, 1, 1,
                                     inverse}};
    struct text_search search = {.clauses = clauses,
                                 .clause_count = 2,
                                 .group_count = 2,
                                 .row_count = 2000};
    topk_init(&best, hits, 10, by_row, &(uint32_t){0});
    op_cancel(&op);
    for (int all = 0; all < 2; all++) {
        search.all_groups = all;
        assert_int_equal(text_index_search(&op, &search, &best, &scored), ERR_CANCELED);
    }
    corpus_release(&c);
    op_release(&op);
}

static void frequencies_and_gaps_of_any_size_come_back(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    enum { COUNT = 300, LENGTHS = 1 << 16 };
    uint8_t *lengths = mem_new_array(uint8_t, LENGTHS);

    for (uint32_t bits = 0; bits <= 32; bits++) {
        struct posting postings[COUNT];
        struct postings list;
        struct postings_block block;
        struct buf bytes = BUF_INIT;
        uint32_t row = 0;
        for (size_t i = 0; i < COUNT; i++) {
            uint64_t f = test_random(&seed) & ((1ull << bits) - 1);
            postings[i].frequency = f < UINT32_MAX ? (uint32_t)f + 1 : UINT32_MAX;
            postings[i].row = row;
            row += 1 + (uint32_t)(test_random(&seed) % 200);
        }
        postings_encode(postings, COUNT, lengths, &bytes);
        assert_true(postings_open(buf_slice(&bytes), COUNT, LENGTHS, &list));
        for (uint32_t i = 0; i < COUNT; i++) {
            if (i % 128 == 0) assert_true(postings_decode(&list, i / 128, &block));
            assert_int_equal(block.rows[i % 128], postings[i].row);
            assert_int_equal(block.frequencies[i % 128], postings[i].frequency);
        }
        buf_release(&bytes);
    }
    mem_free(lengths);
}

/* One gap of 27 bits makes all of them 27 bits wide, where a sum could wrap around. */
static void rows_far_apart_come_back(void **state)
{
    (void)state;
    enum { ROWS = 80 << 20 };
    struct posting postings[128];
    struct buf bytes = BUF_INIT;
    struct postings list;
    struct postings_block block;
    uint8_t *lengths = mem_new_array(uint8_t, ROWS);
    for (uint32_t i = 0; i < 128; i++)
        postings[i] = (struct posting){i < 64 ? i : ROWS - 128 + i, 1};
    postings_encode(postings, 128, lengths, &bytes);
    assert_int_equal(bytes.data[16], 27);
    assert_true(postings_open(buf_slice(&bytes), 128, ROWS, &list));
    assert_true(postings_decode(&list, 0, &block));
    for (uint32_t i = 0; i < 128; i++)
        assert_int_equal(block.rows[i], postings[i].row);

    assert_true(postings_open(buf_slice(&bytes), 128, ROWS - 1, &list));
    assert_false(postings_decode(&list, 0, &block));

    /* A gap that wraps around: the last row is right, but the rows go back once. */
    buf_clear(&bytes);
    postings[70].row = 7;
    postings_encode(postings, 128, lengths, &bytes);
    assert_true(postings_open(buf_slice(&bytes), 128, ROWS, &list));
    assert_false(postings_decode(&list, 0, &block));
    mem_free(lengths);
    buf_release(&bytes);
}

/* Each row with a chance of one in `sparse`; how many of its 5 blocks are bits. */
static uint32_t dense_list_comes_back(uint64_t *seed, uint32_t sparse,
                                      const uint8_t *lengths, uint32_t row_count)
{
    enum { COUNT = 5 * POSTINGS_BLOCK };
    struct posting postings[COUNT];
    struct postings list;
    struct postings_block lazy, whole;
    struct buf bytes = BUF_INIT;
    uint32_t row = (uint32_t)(test_random(seed) % 300), bits = 0;

    for (size_t i = 0; i < COUNT; i++) {
        postings[i] = (struct posting){row, 1 + (uint32_t)(test_random(seed) % 4)};
        do {
            row++;
        } while (test_random(seed) % sparse);
    }
    postings_encode(postings, COUNT, lengths, &bytes);
    assert_true(postings_open(buf_slice(&bytes), COUNT, row_count, &list));
    for (uint32_t block = 0; block < list.block_count; block++) {
        const struct posting *wanted = postings + block * POSTINGS_BLOCK;
        uint32_t index, at = 0;
        assert_true(postings_load(&list, block, &lazy));
        assert_true(postings_decode(&list, block, &whole));
        assert_null(whole.bits);
        bits += lazy.bits != NULL;
        for (uint32_t i = 0; i < POSTINGS_BLOCK; i++) {
            assert_int_equal(whole.rows[i], wanted[i].row);
            assert_int_equal(whole.frequencies[i], wanted[i].frequency);
            assert_int_equal(postings_frequency(&lazy, i), wanted[i].frequency);
        }
        uint32_t end = wanted[POSTINGS_BLOCK - 1].row + 70;
        for (uint32_t r = 0; lazy.bits && r < end; r++) {
            bool has = at < POSTINGS_BLOCK && wanted[at].row == r;
            assert_int_equal(postings_has(&lazy, r, &index), has);
            if (has) assert_int_equal(index, at++);
        }
    }
    buf_release(&bytes);
    return bits;
}

static void dense_blocks_are_bits_and_say_the_same(void **state)
{
    (void)state;
    enum { ROWS = 1 << 16 };
    uint64_t seed = test_seed();
    uint8_t *lengths = mem_new_array(uint8_t, ROWS);
    /* Gaps of no bits, but for where the first block begins. */
    assert_true(dense_list_comes_back(&seed, 1, lengths, ROWS) <= 1);
    for (uint32_t sparse = 2; sparse < 60; sparse++) {
        uint32_t bits = dense_list_comes_back(&seed, sparse, lengths, ROWS);
        assert_true(sparse > 3 || bits > 0);
        assert_true(sparse < 30 || bits == 0);
    }
    mem_free(lengths);
}

static void bits_that_are_not_128_up_to_the_last_row_are_damage(void **state)
{
    (void)state;
    enum { ROWS = 4096, HEAD = 16 + 2 }; /* a table of one block; two widths */
    struct posting postings[POSTINGS_BLOCK];
    struct postings list;
    struct postings_block block;
    struct buf bytes = BUF_INIT;
    uint8_t lengths[ROWS] = {0};

    for (uint32_t i = 0; i < POSTINGS_BLOCK; i++)
        postings[i] = (struct posting){2 * i + (i == POSTINGS_BLOCK - 1), 1};
    postings_encode(postings, POSTINGS_BLOCK, lengths, &bytes);
    assert_int_equal(bytes.data[16], POSTINGS_BITS);
    assert_int_equal(bytes.size, HEAD + 4 * 8);
    for (size_t bit = 0; bit < 4 * 64; bit++) {
        bytes.data[HEAD + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(postings_open(buf_slice(&bytes), POSTINGS_BLOCK, ROWS, &list));
        assert_false(postings_decode(&list, 0, &block));
        bytes.data[HEAD + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t size = 16; size <= bytes.size; size++) {
        struct slice cut = slice_of(bytes.data, size);
        assert_true(postings_open(cut, POSTINGS_BLOCK, ROWS, &list));
        assert_int_equal(postings_decode(&list, 0, &block), size == bytes.size);
    }
    /* 128 bits, but a row behind the last one instead of the last. */
    bytes.data[HEAD + 255 / 8] ^= 0x80;
    bytes.data[HEAD + 1 / 8] ^= 2;
    assert_true(postings_open(buf_slice(&bytes), POSTINGS_BLOCK, ROWS, &list));
    assert_false(postings_decode(&list, 0, &block));
    buf_release(&bytes);
}

/* ---- damage ---- */

/* Lists made of damaged bytes are refused, or hold rows of the index. */
static void lists_damaged(struct op *op, const struct text_index *t, uint32_t row_count)
{
    char words[2][16];
    const struct slice terms[] = {word_text(0, words[0]), word_text(1, words[1])};
    const struct phrase_term phrase[] = {{terms[0], 0}, {terms[1], 1}};
    struct expansions found = {.items = BUF_INIT};
    struct text_list list;
    uint32_t *rows = mem_new_array(uint32_t, row_count);

    for (size_t i = 0; i < 2; i++) {
        enum err e = i ? text_list_union(op, t, terms, 2, &list)
                       : text_list_phrase(op, t, phrase, 2, &list);
        assert_true(e == ERR_OK || e == ERR_CORRUPT || e == ERR_INVALID);
        if (e) continue;
        assert_true(list.count <= row_count);
        text_list_release(&list);
    }
    enum err e = expand_fuzzy(op, t, SLICE_LITERAL("w10"), 2, &found);
    assert_true(e == ERR_OK || e == ERR_CORRUPT);
    e = expand_prefix(op, t, SLICE_LITERAL("w1"), &found);
    assert_true(e == ERR_OK || e == ERR_CORRUPT);
    expansions_release(&found);

    struct text_merge_input input = {t, rows};
    struct buf bytes = BUF_INIT, positions = BUF_INIT;
    for (uint32_t i = 0; i < row_count; i++)
        rows[i] = i;
    if (text_merge_takes(t, &plain)) {
        e = text_merge(op, &plain, &input, 1, row_count, NULL, &bytes, &positions);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
    }
    buf_release(&bytes);
    buf_release(&positions);
    mem_free(rows);
}

static void query_damaged(struct text_index *t, uint32_t row_count)
{
    struct op op;
    float inverse[256];
    struct hit hits[20];
    char words[6][16];
    struct text_clause clauses[6];
    uint64_t scored = 0;
    op_init(&op, OP_NO_DEADLINE, 0);
    bm25_norms(5, inverse);
    for (uint32_t i = 0; i < 6; i++) {
        struct slice term = word_text(i * i, words[i]);
        uint64_t df = text_index_frequency(t, term);
        float weight = bm25_idf(text_index_document_count(t), df);
        clauses[i] = (struct text_clause){t, term, NULL, i, weight, inverse};
    }
    for (int all = 0; all < 2; all++) {
        struct text_search search = {.clauses = clauses,
                                     .clause_count = all ? 2 : 6,
                                     .group_count = 6,
                                     .all_groups = all,
                                     .row_count = row_count};
        struct topk best;
        if (all) search.group_count = 2;
        topk_init(&best, hits, 20, by_row, &(uint32_t){0});
        enum err e = text_index_search(&op, &search, &best, &scored);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        for (size_t i = 0; i < best.count; i++)
            assert_true(hits[i].row < row_count);
    }
    lists_damaged(&op, t, row_count);
    op_release(&op);
}

static void damaged_bytes_are_refused_or_searched_without_harm(void **state)
{
    (void)state;
    enum { ROWS = 300 };
    uint64_t seed = test_seed();
    struct op op;
    struct corpus c;
    struct text_index *t;
    op_init(&op, OP_NO_DEADLINE, 0);
    corpus_make(&c, &op, &seed, ROWS, 40, 12);
    size_t size = c.bytes.size;
    assert(size > 0);

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = mem_dup(c.bytes.data, cut); /* so that ASan sees its end */
        op_clear_error(&op);
        assert_int_equal(text_index_open(&op, slice_of(copy, cut), ROWS, &t),
                         ERR_CORRUPT);
        assert_null(t);
        mem_free(copy);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t *copy = mem_dup(c.bytes.data, size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        op_clear_error(&op);
        if (text_index_open(&op, slice_of(copy, size), ROWS, &t) == ERR_OK) {
            query_damaged(t, ROWS);
            text_index_close(t);
        }
        mem_free(copy);
    }
    for (size_t round = 0; round < 3000; round++) {
        uint8_t *copy = mem_dup(c.bytes.data, size);
        for (size_t i = 0; i < 1 + round % 20; i++)
            copy[test_random(&seed) % size] = (uint8_t)test_random(&seed);
        op_clear_error(&op);
        if (text_index_open(&op, slice_of(copy, size), ROWS, &t) == ERR_OK) {
            text_index_attach(t, buf_slice(&c.positions));
            query_damaged(t, ROWS);
            text_index_close(t);
        }
        mem_free(copy);
    }
    corpus_release(&c);
    op_release(&op);
}

static void damaged_positions_are_refused_or_searched_without_harm(void **state)
{
    (void)state;
    enum { ROWS = 300 };
    uint64_t seed = test_seed();
    struct op op;
    struct corpus c;
    op_init(&op, OP_NO_DEADLINE, 0);
    corpus_make(&c, &op, &seed, ROWS, 40, 12);
    size_t size = c.positions.size;
    assert_true(size > 100);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = mem_dup(c.positions.data, cut);
        text_index_attach(c.index, slice_of(copy, cut));
        op_clear_error(&op);
        lists_damaged(&op, c.index, ROWS);
        mem_free(copy);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t *copy = mem_dup(c.positions.data, size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        text_index_attach(c.index, slice_of(copy, size));
        op_clear_error(&op);
        lists_damaged(&op, c.index, ROWS);
        mem_free(copy);
    }
    corpus_release(&c);
    op_release(&op);
}

/* ---- merging ---- */

/* Some documents as one index, and as several with rows that are left out. */
static void merge_random(uint64_t *seed, struct op *op, uint32_t row_count,
                         uint32_t parts, uint32_t dead_every)
{
    struct text_builder *whole = text_builder_new(&plain), *builders[8];
    struct text_merge_input inputs[8];
    uint32_t *maps[8], counts[8] = {0}, kept = 0;
    struct buf bytes[8], positions[8], text = BUF_INIT;
    char word_bytes[16];

    assert_true(parts <= 8);
    for (uint32_t p = 0; p < parts; p++) {
        builders[p] = text_builder_new(&plain);
        maps[p] = mem_new_array(uint32_t, row_count);
        bytes[p] = positions[p] = BUF_INIT;
    }
    for (uint32_t i = 0; i < row_count; i++) {
        union scalar items[3];
        size_t ends[4] = {0};
        buf_clear(&text);
        for (size_t k = 0; k < 3; k++) {
            for (uint64_t n = test_random(seed) % 30; n > 0; n--) {
                buf_append_slice(&text, word_text(random_word(seed, 300), word_bytes));
                buf_append_byte(&text, ' ');
            }
            ends[k + 1] = text.size;
        }
        for (size_t k = 0; k < 3; k++)
            items[k].s = slice_of(text.data + ends[k], ends[k + 1] - ends[k]);
        struct value v = {.count = (uint32_t)(test_random(seed) % 4), .items = items};
        uint32_t p = (uint32_t)(test_random(seed) % parts);
        bool dead = dead_every && test_random(seed) % dead_every == 0;
        text_builder_add(builders[p], counts[p], true, &v);
        maps[p][counts[p]++] = dead ? TEXT_ROW_GONE : kept;
        if (!dead) text_builder_add(whole, kept++, true, &v);
    }
    for (uint32_t p = 0; p < parts; p++) {
        struct text_index *t;
        text_builder_finish(builders[p], counts[p], &bytes[p], &positions[p]);
        assert_int_equal(text_index_open(op, buf_slice(&bytes[p]), counts[p], &t), 0);
        text_index_attach(t, buf_slice(&positions[p]));
        inputs[p] = (struct text_merge_input){t, maps[p]};
        assert_true(text_merge_takes(t, &plain));
    }
    struct buf built = BUF_INIT, built_positions = BUF_INIT;
    struct buf merged = BUF_INIT, merged_positions = BUF_INIT;
    static uint8_t memory[1 << 20];
    struct buf_room room = {.data = memory, .size = sizeof memory};
    text_builder_finish(whole, kept, &built, &built_positions);
    assert_int_equal(text_merge(op, &plain, inputs, parts, kept, &room, &merged,
                                &merged_positions),
                     0);
    assert_true(slice_equal(buf_slice(&built), buf_slice(&merged)));
    assert_true(slice_equal(buf_slice(&built_positions), buf_slice(&merged_positions)));
    for (uint32_t p = 0; p < parts; p++) {
        text_index_close((struct text_index *)(uintptr_t)inputs[p].index);
        mem_free(maps[p]);
        buf_release(&bytes[p]);
        buf_release(&positions[p]);
    }
    buf_release(&text);
    buf_release(&built);
    buf_release(&built_positions);
    buf_release(&merged);
    buf_release(&merged_positions);
}

static void a_merged_index_has_the_bytes_of_one_built_from_the_rows(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; i < 60; i++)
        merge_random(&seed, &op, (uint32_t)(test_random(&seed) % 50), 1 + i % 8, i % 5);
    merge_random(&seed, &op, 3000, 1, 0);
    merge_random(&seed, &op, 3000, 5, 3);
    merge_random(&seed, &op, 100, 3, 1);
    op_release(&op);
}

static void an_index_of_another_analysis_is_not_taken(void **state)
{
    (void)state;
    struct op op;
    struct buf bytes = BUF_INIT;
    const char *texts[] = {"a"};
    const struct analysis full = ANALYSIS_DEFAULT;
    struct text_index *t;
    op_init(&op, OP_NO_DEADLINE, 0);
    t = open_texts(&op, &bytes, texts, 1);
    assert_true(text_merge_takes(t, &plain));
    assert_false(text_merge_takes(t, &full));
    text_index_close(t);
    bytes.data[4] = 1; /* the version before positions */
    assert_int_equal(text_index_open(&op, buf_slice(&bytes), 1, &t), ERR_OK);
    assert_false(text_merge_takes(t, &plain));
    text_index_close(t);
    buf_release(&bytes);
    op_release(&op);
}

/* ---- terms that a word stands for ---- */

static void terms_that_begin_alike_come_in_order(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct op op;
    struct corpus c;
    char word[16];
    op_init(&op, OP_NO_DEADLINE, 0);
    corpus_make(&c, &op, &seed, 4000, 30000, 30);
    for (uint32_t w = 0; w < 2000; w += 1 + (uint32_t)(test_random(&seed) % 40)) {
        struct slice prefix = word_text(w, word);
        struct expansions found = {.items = BUF_INIT};
        size_t wanted = 0;
        for (uint32_t i = 0; i < c.word_count; i++) {
            char other[16];
            wanted +=
                c.terms[i].count && slice_starts_with(word_text(i, other), prefix);
        }
        assert_int_equal(expand_prefix(&op, c.index, prefix, &found), ERR_OK);
        const struct expansion *x = (const void *)found.items.data;
        assert_int_equal(found.items.size / sizeof *x, wanted);
        for (size_t i = 0; i < wanted; i++) {
            struct slice term = slice_of(found.bytes.data + x[i].term, x[i].term_size);
            assert_int_equal(x[i].frequency, text_index_frequency(c.index, term));
            if (i == 0) continue;
            struct slice before =
                slice_of(found.bytes.data + x[i - 1].term, x[i - 1].term_size);
            assert_true(slice_compare(before, term) < 0);
        }
        expansions_release(&found);
    }
    corpus_release(&c);
    op_release(&op);
}

static void another_number_of_rows_or_version_is_corrupt(void **state)
{
    (void)state;
    struct op op;
    struct buf bytes = BUF_INIT;
    const char *texts[] = {"a", "b"};
    struct text_index *t;
    op_init(&op, OP_NO_DEADLINE, 0);
    text_index_close(open_texts(&op, &bytes, texts, 2));
    assert_int_equal(text_index_open(&op, buf_slice(&bytes), 3, &t), ERR_CORRUPT);
    for (size_t at = 4; at < 8; at += 2) {
        uint8_t right = bytes.data[at];
        bytes.data[at] = 9;
        assert_int_equal(text_index_open(&op, buf_slice(&bytes), 2, &t), ERR_CORRUPT);
        bytes.data[at] = right;
    }
    assert_int_equal(text_index_open(&op, buf_slice(&bytes), 2, &t), ERR_OK);
    text_index_close(t);
    buf_release(&bytes);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_without_terms_are_no_documents),
        cmocka_unit_test(an_index_without_rows_or_terms_opens_and_finds_nothing),
        cmocka_unit_test(the_items_of_an_array_count_as_one_text),
        cmocka_unit_test(clauses_of_absent_fields_and_terms_match_nothing),
        cmocka_unit_test(frequencies_are_those_of_the_documents),
        cmocka_unit_test(frequencies_and_gaps_of_any_size_come_back),
        cmocka_unit_test(rows_far_apart_come_back),
        cmocka_unit_test(dense_blocks_are_bits_and_say_the_same),
        cmocka_unit_test(bits_that_are_not_128_up_to_the_last_row_are_damage),
        cmocka_unit_test(ten_thousand_queries_equal_scoring_every_row),
        cmocka_unit_test(a_canceled_search_stops),
        cmocka_unit_test(damaged_bytes_are_refused_or_searched_without_harm),
        cmocka_unit_test(damaged_positions_are_refused_or_searched_without_harm),
        cmocka_unit_test(a_merged_index_has_the_bytes_of_one_built_from_the_rows),
        cmocka_unit_test(an_index_of_another_analysis_is_not_taken),
        cmocka_unit_test(terms_that_begin_alike_come_in_order),
        cmocka_unit_test(another_number_of_rows_or_version_is_corrupt),
    };
    return cmocka_run_group_tests_name("text_index", tests, NULL, NULL);
}
