#include <math.h>
#include <string.h>

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "fuzz/fuzz.h"
#include "segment/segment.h"
#include "segment/segment_format.h"
#include "text/bm25.h"
#include "text/dictionary.h"
#include "text/expand.h"
#include "text/postings.h"
#include "text/text_index.h"
#include "text/text_list.h"

enum { OP_MEMORY = 64 << 20, ROWS_MAX = 1 << 16 };

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return a->row < b->row ? -1 : a->row > b->row;
}

static void require_hits(struct topk *best, uint32_t row_count)
{
    topk_finish(best);
    for (size_t i = 0; i < best->count; i++)
        REQUIRE(best->hits[i].row < row_count && isfinite(best->hits[i].score));
}

/* ---- columns ---- */

static void ask_filter(struct op *op, const struct column *c, const struct filter *f,
                       uint32_t row_count)
{
    struct rowset *rows = rowset_new();
    struct column_estimate estimate;
    (void)column_filter(op, c, f, rows);
    (void)column_estimate(op, c, f, 4, &estimate);
    REQUIRE(rowset_count_range(rows, row_count, UINT32_MAX) == 0);
    rowset_unref(rows);
}

static void ask_column(struct op *op, const struct column *c, enum attr_type type,
                       bool array, uint32_t row_count)
{
    union scalar three = {.u = 3};
    struct filter filter = {.op = array ? FILTER_CONTAINS : FILTER_EQ,
                            .type = type,
                            .array = array};
    struct rowset *nulls = rowset_new();
    struct value v;

    if (type == ATTR_STRING) three.s = SLICE_LITERAL("ab");
    if (type == ATTR_FLOAT) three.f = 1.5;
    if (type == ATTR_BOOL) three.b = true;
    filter.values = &three;
    filter.value_count = 1;
    for (uint32_t row = 0; row < row_count; row++)
        if (column_value(op, c, row, &v) != ERR_OK) break;
    column_nulls(c, nulls);
    REQUIRE(rowset_count_range(nulls, row_count, UINT32_MAX) == 0);
    rowset_unref(nulls);
    ask_filter(op, c, &filter, row_count);
    if (type != ATTR_STRING) return;
    filter.op = FILTER_PREFIX;
    ask_filter(op, c, &filter, row_count);
}

/* Steered by type, array and the number of rows. */
static bool run_column(struct slice input)
{
    struct op op;
    struct column *c = NULL;
    enum attr_type type = (enum attr_type)(1 + fuzz_byte(input, 0) % ATTR_UUID);
    bool array = fuzz_byte(input, 1) & 1;
    uint32_t rows = fuzz_byte(input, 2) | fuzz_byte(input, 3) << 8;
    struct slice rest = fuzz_rest(input, 8);
    uint8_t *aligned = mem_dup(rest.data, rest.size);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    bool opened =
        rows && !column_open(&op, slice_of(aligned, rest.size), type, array, rows, &c);
    if (opened) ask_column(&op, c, type, array, rows);
    op_release(&op);
    mem_free(aligned);
    return opened;
}

static void emit_column_as(bool indexed, fuzz_emit *emit, void *context,
                           enum attr_type type, bool array, const struct value *values,
                           uint32_t count)
{
    struct column_builder *b = column_builder_new(type, array, indexed);
    struct buf input = BUF_INIT;

    put_u8(&input, (uint8_t)(type - 1));
    put_u8(&input, array);
    put_u16(&input, (uint16_t)count);
    put_u32(&input, 0);
    for (uint32_t i = 0; i < count; i++)
        column_builder_add(b, &values[i]);
    column_builder_finish(b, &input);
    emit(context, buf_slice(&input));
    buf_release(&input);
}

static void emit_column(fuzz_emit *emit, void *context, enum attr_type type, bool array,
                        const struct value *values, uint32_t count)
{
    emit_column_as(false, emit, context, type, array, values, count);
    emit_column_as(true, emit, context, type, array, values, count);
}

static void seeds_column(fuzz_emit *emit, void *context)
{
    enum { COUNT = 40 };
    static const char *const words[] = {"", "a", "ab", "abc", "b", "ba"};
    struct value values[COUNT];
    union scalar items[COUNT];

    for (uint32_t i = 0; i < COUNT; i++) {
        values[i] =
            i % 9 == 8 ? VALUE_NULL : (struct value){.one = {.i = (int)i * 300}};
        items[i].i = (int)i;
    }
    emit_column(emit, context, ATTR_INT, false, values, COUNT);
    emit_column(emit, context, ATTR_UINT, false, values, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        values[i].one.f = (double)i / 2;
    emit_column(emit, context, ATTR_FLOAT, false, values, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        values[i].one.s = slice_str(words[i % 6]);
    emit_column(emit, context, ATTR_STRING, false, values, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        values[i] = (struct value){.count = i % 5, .items = items + i % 30};
    emit_column(emit, context, ATTR_INT, true, values, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        items[i].s = slice_str(words[i % 6]);
    emit_column(emit, context, ATTR_STRING, true, values, COUNT);
}

/* ---- text indexes ---- */

static void ask_text(struct op *op, const struct text_index *index, uint32_t row_count)
{
    static const char *const terms[] = {"film", "seven", "word1", "zebra"};
    struct text_clause clauses[4];
    struct hit hits[10];
    struct topk best;
    float inverse[256];
    uint64_t scored;

    bm25_norms(3.5, inverse);
    for (uint32_t i = 0; i < 4; i++) {
        (void)text_index_frequency(index, slice_str(terms[i]));
        clauses[i] = (struct text_clause){.index = index,
                                          .term = slice_str(terms[i]),
                                          .group = i,
                                          .weight = 1 + (float)i,
                                          .inverse = inverse};
    }
    for (uint32_t all = 0; all < 2; all++) {
        struct text_search search = {.clauses = clauses,
                                     .clause_count = all ? 2 : 4,
                                     .group_count = all ? 2 : 4,
                                     .all_groups = all,
                                     .row_count = row_count};
        topk_init(&best, hits, 10, by_row, NULL);
        enum err e = text_index_search(op, &search, &best, &scored);
        if (!e) require_hits(&best, row_count);
    }
}

/* Lists made for a query; those that come to be hold rows of the index. */
static void ask_lists(struct op *op, const struct text_index *index, uint32_t row_count)
{
    const struct phrase_term phrase[] = {{SLICE_LITERAL("seven"), 0},
                                         {SLICE_LITERAL("film"), 2}};
    const struct slice terms[] = {SLICE_LITERAL("film"), SLICE_LITERAL("word1")};
    struct expansions found = {.items = {NULL, 0, 0}};
    struct text_list list;

    if (!text_list_phrase(op, index, phrase, 2, &list)) {
        REQUIRE(list.count <= row_count);
        text_list_release(&list);
    }
    if (!text_list_union(op, index, terms, 2, &list)) {
        REQUIRE(list.count <= row_count);
        text_list_release(&list);
    }
    (void)expand_prefix(op, index, SLICE_LITERAL("wo"), &found);
    (void)expand_fuzzy(op, index, SLICE_LITERAL("flm"), 2, &found);
    expansions_release(&found);
}

/* The same index by its head and the chunks of some terms: they lie in its bytes. */
static void ask_ranges(struct op *op, struct slice text, uint32_t rows)
{
    static const char *const terms[] = {"film", "seven", "word1", "zebra"};
    struct text_chunk chunks[4];
    struct text_index *head = NULL;
    struct buf bytes = BUF_INIT;
    size_t n = 0, index = text.size < 64 ? 0 : (size_t)load_u32(text.data + 48);

    if (text.size < 64 || index > text.size - 64) return;
    buf_append(&bytes, text.data, 64);
    buf_append(&bytes, text.data + text.size - index, index);
    if (!text_index_open_head(op, buf_slice(&bytes), rows, text.size, &head)) {
        for (size_t i = 0; i < 4; i++) {
            struct text_chunk *c = &chunks[n];
            if (!text_index_chunk(head, slice_str(terms[i]), c)) continue;
            REQUIRE(c->offset <= text.size && c->size <= text.size - c->offset);
            c->bytes = slice_of(text.data + c->offset, c->size);
            n++;
        }
        struct text_index *t = text_index_of_chunks(head, text, chunks, n);
        ask_text(op, t, rows);
        text_index_close(t);
        text_index_close(head);
    }
    buf_release(&bytes);
}

static bool run_text_index(struct slice input)
{
    struct op op;
    struct text_index *index = NULL;
    uint32_t rows = fuzz_byte(input, 0) | fuzz_byte(input, 1) << 8;
    uint32_t size = fuzz_byte(input, 4) | fuzz_byte(input, 5) << 8 |
                    fuzz_byte(input, 6) << 16 | fuzz_byte(input, 7) << 24;
    struct slice rest = fuzz_rest(input, 8);
    uint8_t *aligned = mem_dup(rest.data, rest.size);

    if (size > rest.size) size = (uint32_t)rest.size;
    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    bool opened = rows && !text_index_open(&op, slice_of(aligned, size), rows, &index);
    if (opened) {
        text_index_attach(index, slice_of(aligned + size, rest.size - size));
        ask_text(&op, index, rows);
        ask_lists(&op, index, rows);
        text_index_close(index);
    }
    if (rows) ask_ranges(&op, slice_of(aligned, size), rows);
    op_release(&op);
    mem_free(aligned);
    return opened;
}

/* ---- lists ---- */

/* Any bytes as a list: rows ascend, and bits say the same as the rows made of them. */
static bool run_postings(struct slice input)
{
    struct postings list;
    struct postings_block lazy, whole;
    uint32_t count = fuzz_byte(input, 0) | fuzz_byte(input, 1) << 8;
    uint32_t rows = (fuzz_byte(input, 2) | fuzz_byte(input, 3) << 8) + 1;
    struct slice bytes = fuzz_rest(input, 4);
    int64_t before = -1;

    if (!postings_open(bytes, count, rows, &list)) return false;
    for (uint32_t block = 0; block < list.block_count; block++) {
        bool good = postings_load(&list, block, &lazy);
        REQUIRE(postings_decode(&list, block, &whole) == good);
        if (!good) return false;
        if (block && !list.small) before = postings_last_row(&list, block - 1);
        for (uint32_t i = 0; i < whole.count; i++) {
            uint32_t index = 0, row = whole.rows[i];
            REQUIRE((int64_t)row > before && row < rows);
            REQUIRE(postings_frequency(&lazy, i) == whole.frequencies[i]);
            if (lazy.bits) REQUIRE(postings_has(&lazy, row, &index) && index == i);
            before = row;
        }
    }
    return true;
}

static void seeds_postings(fuzz_emit *emit, void *context)
{
    static const uint32_t gaps[] = {1, 3, 8, 40}, counts[] = {9, 128, 300};
    uint8_t lengths[UINT16_MAX + 1] = {0};
    struct posting postings[300];

    for (size_t i = 0; i < 12; i++) {
        struct buf input = BUF_INIT;
        uint32_t count = counts[i % 3], gap = gaps[i / 3];
        for (uint32_t k = 0; k < count; k++)
            postings[k] = (struct posting){k * gap + k % 2, 1 + k % 3 * (k % 5)};
        if (gap == 1)
            for (uint32_t k = 0; k < count; k++)
                postings[k].row = k;
        put_u16(&input, (uint16_t)count);
        put_u16(&input, UINT16_MAX);
        postings_encode(postings, count, lengths, &input);
        emit(context, buf_slice(&input));
        buf_release(&input);
    }
}

/* ---- dictionaries ---- */

/* Any bytes as a dictionary: walks end, and stay within terms' bounds. */
static bool run_dictionary(struct slice input)
{
    uint32_t page_count = fuzz_byte(input, 0);
    size_t pages_size = fuzz_byte(input, 1) | fuzz_byte(input, 2) << 8;
    struct slice rest = fuzz_rest(input, 4);
    struct dictionary d;
    struct dictionary_walk walk;
    struct dictionary_entry entry = {SLICE_EMPTY, SLICE_EMPTY};
    bool chunked = fuzz_byte(input, 3) & 1;
    size_t terms = 0;

    if (pages_size > rest.size) pages_size = rest.size;
    struct slice pages = slice_of(rest.data, pages_size);
    struct slice index = slice_of(rest.data + pages_size, rest.size - pages_size);
    if (!dictionary_open(pages, index, page_count, chunked, &d)) return false;
    (void)dictionary_find(&d, SLICE_LITERAL("film"), &entry);
    dictionary_walk_seek(&d, SLICE_LITERAL("g"), &walk);
    while (dictionary_walk_next(&walk))
        REQUIRE(walk.size <= DICTIONARY_TERM_MAX);
    dictionary_walk_seek(&d, SLICE_EMPTY, &walk);
    while (dictionary_walk_next(&walk)) {
        struct slice term = slice_of(walk.term, walk.size);
        (void)dictionary_find(&d, term, &entry);
        REQUIRE(entry.body.size <= DICTIONARY_BODY_MAX);
        REQUIRE(entry.lists.size <= pages.size);
        terms++;
    }
    return terms > 0 && !walk.damaged;
}

static void seeds_dictionary(fuzz_emit *emit, void *context)
{
    static const uint32_t counts[] = {1, 40, 3000};
    for (size_t i = 0; i < 3; i++) {
        struct dictionary_writer w = DICTIONARY_WRITER_INIT;
        struct buf pages = BUF_INIT, index = BUF_INIT, input = BUF_INIT;
        uint32_t page_count;
        for (uint32_t k = 0; k < counts[i]; k++) {
            char term[32];
            (void)snprintf(term, sizeof term, "film%06u", k * 7);
            size_t begin;
            buf_append(dictionary_lists(&w, &begin), term, k % 3);
            dictionary_put(&w, slice_str(term), slice_of(term, k % 9));
        }
        dictionary_finish(&w, &pages, &index, &page_count);
        put_u8(&input, (uint8_t)page_count);
        put_u16(&input, (uint16_t)pages.size);
        put_u8(&input, 1);
        buf_append_slice(&input, buf_slice(&pages));
        buf_append_slice(&input, buf_slice(&index));
        emit(context, buf_slice(&input));
        buf_release(&pages);
        buf_release(&index);
        buf_release(&input);
    }
}

static struct slice sentence(struct op *op, uint32_t row)
{
    return slice_str(op_printf(op, "the film word%u of seven%s %s", row % 7,
                               row % 3 ? " zebra film" : "", row % 5 ? "" : "unique"));
}

static void seeds_text_index(fuzz_emit *emit, void *context)
{
    static const uint16_t counts[] = {1, 6, 400};
    struct analysis analysis = ANALYSIS_DEFAULT;
    struct op op;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    for (size_t i = 0; i < 3; i++) {
        struct text_builder *b = text_builder_new(&analysis);
        struct buf input = BUF_INIT;
        struct buf text = BUF_INIT, positions = BUF_INIT;
        for (uint32_t row = 0; row < counts[i]; row++) {
            struct value v = {.one = {.s = sentence(&op, row)}};
            text_builder_add(b, row, false, &v);
        }
        text_builder_finish(b, counts[i], &text, &positions);
        put_u16(&input, counts[i]);
        put_u16(&input, 0);
        put_u32(&input, (uint32_t)text.size);
        buf_append_slice(&input, buf_slice(&text));
        buf_append_slice(&input, buf_slice(&positions));
        emit(context, buf_slice(&input));
        buf_release(&text);
        buf_release(&positions);
        buf_release(&input);
    }
    op_release(&op);
}

/* ---- segments ---- */

/*
 * Makes the checksums of a damaged segment right again, from the outside in: footer,
 * directory, then the blocks of each section that the directory names. What is behind
 * them is then what the decoders must cope with.
 */
static void reseal(struct buf *bytes)
{
    struct segment_layout layout = {.sections = NULL};
    struct segment_footer footer;
    struct op op;
    uint8_t *end = bytes->data + bytes->size - SEGMENT_FOOTER_SIZE;
    uint64_t directory_offset = load_u64(end + 8);
    uint32_t check;

    if (directory_offset > bytes->size - SEGMENT_FOOTER_SIZE) return;
    uint64_t directory_size = bytes->size - SEGMENT_FOOTER_SIZE - directory_offset;
    uint8_t *directory = bytes->data + directory_offset;
    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    for (int pass = 0; pass < 2; pass++) {
        xxh3_128(directory, directory_size, end + 24);
        check = crc32c(0, end, 52);
        memcpy(end + 52, &check, sizeof check);
        if (pass == 1) break;
        enum err e = segment_footer_decode(&op, slice_of(end, SEGMENT_FOOTER_SIZE),
                                           bytes->size, &footer);
        if (!e)
            e = segment_directory_decode(&op, slice_of(directory, directory_size),
                                         &footer, &layout);
        for (uint32_t i = 0; !e && i < layout.section_count; i++) {
            const struct section *s = &layout.sections[i];
            uint8_t *checks = directory + (s->checks.data - directory);
            for (uint64_t b = 0; s->block_size && b < section_block_count(s); b++) {
                uint64_t at = s->offset + b * s->block_size;
                uint64_t left = section_end(s) - at;
                bool last = b + 1 == section_block_count(s);
                check = crc32c(0, bytes->data + at, last ? left : s->block_size);
                memcpy(checks + b * sizeof check, &check, sizeof check);
            }
        }
        segment_layout_release(&layout);
    }
    op_release(&op);
}

static void ask_views(struct op *op, struct segment *s, const struct schema *schema,
                      uint32_t row_count)
{
    struct segment_view *view = NULL;
    int columns[15], text = 14;

    for (int i = 0; i < 15; i++)
        columns[i] = i;
    struct segment_text whole = {.attr = text};
    struct segment_want want = {.texts = &whole,
                                .text_count = 1,
                                .columns = columns,
                                .column_count = 15,
                                .positions = true};
    if (segment_view_open(op, s, &want, &view)) return;
    for (int i = 0; i < 15; i++) {
        const struct column *c = segment_view_column(view, i);
        if (c)
            ask_column(op, c, schema->attrs[i].type, schema->attrs[i].array, row_count);
    }
    if (segment_view_text(view, text)) {
        ask_text(op, segment_view_text(view, text), row_count);
        ask_lists(op, segment_view_text(view, text), row_count);
    }
    segment_view_close(view);
}

static void ask_segment(struct op *op, struct segment *s, struct schema *schema)
{
    uint32_t row_count = segment_row_count(s), rows[16];
    float query[3] = {1, 2, 3};
    struct doc docs[16];
    struct hit hits[10];
    struct topk best;
    struct buf words = BUF_INIT, merged = BUF_INIT;
    size_t n = row_count < 16 ? row_count : 16;

    segment_describe(s, &words);
    for (uint32_t i = 0; i < n; i++) {
        struct doc_id id = segment_id(s, row_count - 1 - i);
        segment_find(s, &id, 1, &rows[i]);
        REQUIRE(rows[i] == row_count - 1 - i);
    }
    (void)segment_fetch(op, s, schema, rows, n, (struct segment_fetch){true, true},
                        docs);
    topk_init(&best, hits, 10, by_row, NULL);
    if (segment_vector_count(s) &&
        !segment_vector_search(op, s, METRIC_L2, query, NULL, 0, &best))
        require_hits(&best, row_count);
    ask_views(op, s, schema, row_count);
    (void)segment_verify(op, s);
    struct segment_options options = {.zstd_level = 0};
    struct segment_input in = {.segment = s};
    (void)segment_merge(op, schema, &options, &in, 1, &merged, &row_count);
    buf_release(&words);
    buf_release(&merged);
}

static bool run_segment(struct slice input)
{
    struct op op;
    struct segment *s = NULL;
    struct buf bytes = BUF_INIT;
    struct schema *schema = fuzz_schema();

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    buf_append_slice(&bytes, input);
    if (bytes.size >= SEGMENT_HEADER_SIZE + SEGMENT_FOOTER_SIZE) reseal(&bytes);
    enum err e = segment_open_memory(&op, &bytes, &s);
    REQUIRE(!e || op.error[0]);
    if (!e && segment_row_count(s) <= ROWS_MAX) ask_segment(&op, s, schema);
    segment_unref(s);
    schema_unref(schema);
    op_release(&op);
    return !e;
}

static void emit_segment(fuzz_emit *emit, void *context, uint32_t rows, bool strings,
                         int zstd_level)
{
    struct segment_options options = {.zstd_level = zstd_level};
    struct schema *schema = fuzz_schema();
    struct segment_builder *b = segment_builder_new(schema, &options);
    struct buf bytes = BUF_INIT;
    struct op op;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    for (uint32_t row = 0; row < rows; row++) {
        struct value values[15];
        float vector[3] = {(float)row, 1, -1};
        for (uint32_t i = 0; i < 15; i++)
            values[i] = VALUE_NULL;
        values[0].null = values[1].null = values[14].null = false;
        values[0].one.s = sentence(&op, row % 4);
        values[1].one.i = (int64_t)row * 1000;
        values[14].one.s = sentence(&op, row);
        struct doc_id id = {.kind = ID_U64, .u64 = row};
        if (strings) {
            id.kind = ID_STRING;
            id.string = slice_str(op_printf(&op, "id-%u", row));
        }
        struct doc doc = {.id = id,
                          .vector = row % 4 ? vector : NULL,
                          .values = values};
        segment_builder_add(b, &doc);
    }
    REQUIRE(segment_builder_finish(&op, b, &bytes) == ERR_OK);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
    schema_unref(schema);
    op_release(&op);
}

static void seeds_segment(fuzz_emit *emit, void *context)
{
    emit_segment(emit, context, 1, false, 0);
    emit_segment(emit, context, 3, true, 0);
    emit_segment(emit, context, 200, false, 3);
    emit_segment(emit, context, 40, true, 3);
}

const struct fuzz_target fuzz_segments[] = {{"column", run_column, seeds_column},
                                            {"postings", run_postings, seeds_postings},
                                            {"dictionary", run_dictionary,
                                             seeds_dictionary},
                                            {"text_index", run_text_index,
                                             seeds_text_index},
                                            {"segment", run_segment, seeds_segment},
                                            {NULL, NULL, NULL}};
