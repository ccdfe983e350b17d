/*
 * collection.h - JSON Lines of documents or queries, indexed and asked: for the
 * relevance test and the benchmark of texts.
 */
#ifndef TESTS_UNIT_COLLECTION_H
#define TESTS_UNIT_COLLECTION_H

#include "base/buf.h"
#include "base/codec.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/text_index.h"
#include "unit/data.h"

/* Lines with their "id" (a string) and their "title" and "text" as one. */
struct collection {
    struct buf bytes; /* of all ids and texts */
    size_t count, room;
    struct {
        size_t id, id_size, text, text_size;
    } * items;
};

static inline struct slice collection_id(const struct collection *c, size_t i)
{
    return slice_of(c->bytes.data + c->items[i].id, c->items[i].id_size);
}

static inline struct slice collection_text(const struct collection *c, size_t i)
{
    return slice_of(c->bytes.data + c->items[i].text, c->items[i].text_size);
}

static inline bool collection_add(struct collection *c, struct slice line)
{
    struct op op;
    struct json *json = NULL;
    struct json_value root, value;
    struct json_walk walk;
    struct slice key, id = SLICE_EMPTY, title = SLICE_EMPTY, text = SLICE_EMPTY;
    bool more = true;

    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = json_open(&op, line, &json, &root);
    if (!e) e = json_object(&op, &root, &walk);
    while (!e) {
        e = json_next(&op, &walk, &more, &key, &value);
        if (e || !more) break;
        enum json_kind kind;
        e = json_kind_of(&op, &value, &kind);
        if (e || kind != JSON_STRING) continue;
        struct slice *out = slice_equal(key, SLICE_LITERAL("id"))      ? &id
                            : slice_equal(key, SLICE_LITERAL("title")) ? &title
                            : slice_equal(key, SLICE_LITERAL("text"))  ? &text
                                                                       : &key;
        e = json_string(&op, &value, out);
    }
    if (!e) {
        if (c->count == c->room) {
            c->room = c->room ? 2 * c->room : 1024;
            c->items = mem_realloc(c->items, c->room * sizeof *c->items);
        }
        c->items[c->count].id = c->bytes.size;
        c->items[c->count].id_size = id.size;
        buf_append_slice(&c->bytes, id);
        c->items[c->count].text = c->bytes.size;
        buf_append_slice(&c->bytes, title);
        buf_append_byte(&c->bytes, '\n');
        buf_append_slice(&c->bytes, text);
        c->items[c->count].text_size = c->bytes.size - c->items[c->count].text;
        c->count++;
    }
    json_close(json);
    op_release(&op);
    return !e;
}

/* False if the file is not there; otherwise every line must be a JSON object. */
static inline bool collection_read(const char *name, struct collection *c)
{
    struct buf file = BUF_INIT, plain = BUF_INIT;
    struct slice line, rest;

    *c = (struct collection){0};
    if (!data_read(name, &file)) return false;
    size_t size = strlen(name);
    if (size > 4 && strcmp(name + size - 4, ".zst") == 0) {
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        if (zstd_expand(&op, buf_slice(&file), SIZE_MAX / 2, &plain)) abort();
        op_release(&op);
        buf_release(&file);
        file = plain;
    }
    buf_reserve(&file, JSON_PADDING);
    memset(file.data + file.size, 0, JSON_PADDING);
    rest = buf_slice(&file);
    while (data_line(&rest, &line))
        if (!collection_add(c, line)) abort();
    buf_release(&file);
    return true;
}

static inline void collection_release(struct collection *c)
{
    buf_release(&c->bytes);
    mem_free(c->items);
}

/* Appends the bytes of an index of all texts, and its positions. */
static inline void collection_index(const struct collection *c,
                                    const struct analysis *analysis, struct buf *out,
                                    struct buf *positions)
{
    struct text_builder *b = text_builder_new(analysis);
    for (size_t i = 0; i < c->count; i++) {
        struct value v = {.one.s = collection_text(c, i)};
        text_builder_add(b, (uint32_t)i, false, &v);
    }
    text_builder_finish(b, (uint32_t)c->count, out, positions);
}

/* The clauses of a text's terms: a repeated one has its weight as often. */
enum { TEXT_CLAUSES_MAX = 256 };
struct text_query {
    struct text_clause clauses[TEXT_CLAUSES_MAX];
    uint32_t repeats[TEXT_CLAUSES_MAX];
    size_t count;
    struct buf terms;
};

static inline void text_query_add(struct text_query *q, struct slice term)
{
    for (size_t i = 0; i < q->count; i++)
        if (slice_equal(q->clauses[i].term, term)) {
            q->repeats[i]++;
            return;
        }
    if (q->count == TEXT_CLAUSES_MAX) return;
    if (!q->terms.data)
        buf_reserve(&q->terms, TEXT_CLAUSES_MAX * (size_t)TERM_SIZE_MAX);
    size_t at = q->terms.size;
    buf_append_slice(&q->terms, term);
    q->clauses[q->count] =
        (struct text_clause){.term = slice_of(q->terms.data + at, term.size),
                             .group = (uint32_t)q->count};
    q->repeats[q->count++] = 1;
}

static inline void text_query_weigh(struct text_query *q, const struct text_index *t,
                                    const float *inverse)
{
    for (size_t i = 0; i < q->count; i++) {
        uint64_t df = text_index_frequency(t, q->clauses[i].term);
        q->clauses[i].index = t;
        q->clauses[i].inverse = inverse;
        q->clauses[i].weight =
            (float)q->repeats[i] * bm25_idf(text_index_document_count(t), df);
    }
}

static inline void text_query_make(struct text_query *q,
                                   const struct analysis *analysis,
                                   const struct text_index *t, const float *inverse,
                                   struct slice text)
{
    struct analyzer *a = analyzer_get(analysis);
    struct token token;
    q->count = 0;
    buf_clear(&q->terms);
    analyzer_start(a, text);
    while (analyzer_next(a, &token))
        text_query_add(q, token.term);
    text_query_weigh(q, t, inverse);
}

static inline int collection_by_row(const void *context, const struct hit *a,
                                    const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

#endif
