/*
 * A text index with a list of each form, byte for byte: in the dictionary, varints,
 * packed gaps, bits; words that repeat, items of arrays; whole, and by ranges. Run from
 * the repository's root.
 */
#include "unit/golden.h"

#include "base/codec.h"
#include "base/op.h"
#include "text/bm25.h"
#include "text/text_index.h"
#include "text/text_list.h"

enum { ROWS = 2000 };

static const struct analysis english = {LANG_ENGLISH, true, true, false, false};

/* "dense" is in two rows of three, "packed" in one of nine, "short" in one of 99. */
static struct buf row_text(uint32_t row)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "row%u %s", row, row % 3 ? "Dense denser " : "");
    if (row % 9 == 0) buf_append_str(&text, "packed, packed again ");
    if (row % 99 == 0) buf_append_str(&text, "short stories ");
    if (row == 700) buf_append_str(&text, "unique");
    return text;
}

static struct buf build(void)
{
    struct text_builder *b = text_builder_new(&english);
    struct buf out = BUF_INIT, text = BUF_INIT, positions = BUF_INIT;

    for (uint32_t row = 0; row < ROWS; row++) {
        struct buf bytes = row_text(row);
        union scalar items[2] = {{.s = buf_slice(&bytes)},
                                 {.s = slice_str("last item")}};
        struct value v = {.count = row % 2 ? 2 : 1, .items = items};
        text_builder_add(b, row, true, &v);
        buf_release(&bytes);
    }
    text_builder_finish(b, ROWS, &text, &positions);
    put_u32(&out, (uint32_t)text.size);
    put_u32(&out, 0);
    buf_append_slice(&out, buf_slice(&text));
    buf_append_slice(&out, buf_slice(&positions));
    buf_release(&text);
    buf_release(&positions);
    return out;
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Asks for all rows of a word. */
static size_t found(struct op *op, const struct text_index *t, const char *word,
                    uint32_t first)
{
    struct hit hits[ROWS];
    struct topk best;
    float inverse[256];
    uint64_t scored = 0;
    bm25_norms(4, inverse);
    struct text_clause clause = {.index = t,
                                 .term = slice_str(word),
                                 .weight = 1,
                                 .inverse = inverse};
    struct text_search search = {.clauses = &clause,
                                 .clause_count = 1,
                                 .group_count = 1,
                                 .row_count = ROWS};
    topk_init(&best, hits, ROWS, by_row, NULL);
    assert_int_equal(text_index_search(op, &search, &best, &scored), ERR_OK);
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < best.count; i++)
        if (hits[i].row < least) least = hits[i].row;
    assert_int_equal(least, first);
    assert_int_equal(best.count, text_index_frequency(t, slice_str(word)));
    return best.count;
}

static size_t phrase(struct op *op, const struct text_index *t, const char *first,
                     const char *second)
{
    const struct phrase_term terms[] = {{slice_str(first), 0}, {slice_str(second), 1}};
    struct text_list list;
    assert_int_equal(text_list_phrase(op, t, terms, 2, &list), ERR_OK);
    size_t count = list.count;
    text_list_release(&list);
    return count;
}

/* Of version 3 and later. */
static void expect_lists(struct op *op, const struct text_index *t)
{
    assert_int_equal(found(op, t, "dens", 1), 1333);
    assert_int_equal(found(op, t, "denser", 1), 1333);
    assert_int_equal(found(op, t, "pack", 0), 223);
    assert_int_equal(found(op, t, "short", 0), 21);
    assert_int_equal(found(op, t, "uniqu", 700), 1);
    assert_int_equal(found(op, t, "item", 1), 1000);
}

/* The same by the chunks of these terms alone. */
static void expect_ranges(struct op *op, struct slice text)
{
    static const char *const terms[] = {"dens",  "denser", "pack",
                                        "short", "uniqu",  "item"};
    struct text_chunk chunks[COUNT_OF(terms)];
    struct text_index *head;
    struct buf bytes = BUF_INIT;
    text_index_head(text, &bytes);
    assert_int_equal(text_index_open_head(op, buf_slice(&bytes), ROWS, text.size,
                                          &head),
                     ERR_OK);
    for (size_t i = 0; i < COUNT_OF(terms); i++) {
        assert_true(text_index_chunk(head, slice_str(terms[i]), &chunks[i]));
        chunks[i].bytes = slice_of(text.data + chunks[i].offset, chunks[i].size);
    }
    struct slice begin = slice_of(text.data, text_index_lengths_end(head));
    struct text_index *t = text_index_of_chunks(head, begin, chunks, COUNT_OF(terms));
    expect_lists(op, t);
    text_index_close(t);
    text_index_close(head);
    buf_release(&bytes);
}

static void expect_index(const struct buf *file, bool ranges)
{
    struct text_index *t;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    uint32_t size = load_u32(file->data);
    struct slice text = slice_of(file->data + 8, size);
    assert_int_equal(text_index_open(&op, text, ROWS, &t), ERR_OK);
    text_index_attach(t, slice_of(text.data + size, file->size - 8 - size));

    expect_lists(&op, t);
    if (ranges) expect_ranges(&op, text);
    assert_int_equal(phrase(&op, t, "dens", "denser"), 1333);
    assert_int_equal(phrase(&op, t, "pack", "pack"), 223);
    assert_int_equal(phrase(&op, t, "last", "item"), 1000);
    assert_int_equal(phrase(&op, t, "stori", "last"), 0);
    text_index_close(t);
    op_release(&op);
}

static void an_index_of_version_3_stays_readable(void **state)
{
    (void)state;
    struct buf file = golden_read("text-v3.bin");
    expect_index(&file, false);
    buf_release(&file);
}

static void an_index_with_every_kind_of_list_stays_what_it_is(void **state)
{
    (void)state;
    struct buf built = build();
    struct buf file = golden_expect("text-v4.bin", buf_slice(&built));
    expect_index(&file, true);
    buf_release(&file);
    buf_release(&built);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_of_version_3_stays_readable),
        cmocka_unit_test(an_index_with_every_kind_of_list_stays_what_it_is),
    };
    return cmocka_run_group_tests_name("golden text", tests, NULL, NULL);
}
