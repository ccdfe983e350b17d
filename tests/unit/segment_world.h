/*
 * segment_world.h - random documents, the segment made of them in several guises, and
 * questions whose answers are bytes, so that two guises can be compared.
 */
#ifndef TESTS_UNIT_SEGMENT_WORLD_H
#define TESTS_UNIT_SEGMENT_WORLD_H

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "segment/segment.h"
#include "segment/segment_parts.h"
#include "store/store_mem.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/text_index.h"
#include "unit/doc_bytes.h"
#include "unit/random_filters.h"

enum { WORLD_FILTERS = 12, WORLD_WORDS = 40 };

struct world_shape {
    uint32_t row_count, vector_dim, attr_count;
    bool string_ids;
    uint32_t vector_percent;
    int zstd_level;
    uint32_t index_from;
};

struct world {
    struct op op; /* holds documents and filters */
    uint64_t rng;
    struct world_shape shape;
    struct schema *schema;
    struct doc *docs; /* ascending by id */
    struct filter *filters[WORLD_FILTERS];
    struct rowset *some; /* about half of the rows */
    struct buf bytes;    /* the segment */
};

/* The texts and columns of the first `count` attributes. */
struct everything {
    struct segment_want want;
    struct segment_text texts[SCHEMA_ATTRS_MAX];
    int columns[SCHEMA_ATTRS_MAX];
};
static inline void want_everything(struct everything *all, size_t count)
{
    all->want = (struct segment_want){.texts = all->texts,
                                      .text_count = count,
                                      .columns = all->columns,
                                      .column_count = count,
                                      .positions = true};
    for (size_t i = 0; i < count; i++) {
        all->texts[i] = (struct segment_text){.attr = (int)i};
        all->columns[i] = (int)i;
    }
}

static inline struct slice random_sentence(struct op *op, uint64_t *rng)
{
    struct buf b = BUF_INIT;
    for (uint32_t n = random_index(rng, 30); n > 0; n--)
        buf_printf(&b, "word%u ",
                   random_index(rng, 1 + random_index(rng, WORLD_WORDS)));
    struct slice s = op_copy(op, buf_slice(&b));
    buf_release(&b);
    return s;
}

/* Sentences in full-text attributes; a third of all attributes is mostly null. */
static inline void world_values(struct world *w, struct doc *d)
{
    struct value *values = op_new_array(&w->op, struct value, w->schema->attr_count);
    for (uint32_t i = 0; i < w->schema->attr_count; i++) {
        values[i] = d->values[i];
        if (i % 3 == 2 && random_index(&w->rng, 20) > 0) values[i] = VALUE_NULL;
        if (values[i].null || !w->schema->attrs[i].full_text) continue;
        union scalar *items = op_new_array(&w->op, union scalar, values[i].count + 1);
        for (uint32_t k = 0; k <= values[i].count; k++)
            items[k].s = random_sentence(&w->op, &w->rng);
        if (w->schema->attrs[i].array)
            values[i].items = items;
        else
            values[i].one = items[0];
    }
    d->values = values;
}

static inline struct doc_id world_id(struct world *w, uint32_t row)
{
    if (!w->shape.string_ids)
        return number_id((uint64_t)row * 2 + random_index(&w->rng, 2));
    char text[64];
    (void)snprintf(text, sizeof text, "%06u%.*s", row, (int)random_index(&w->rng, 50),
                   "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghij");
    struct doc_id id = string_id(text);
    id.string = op_copy(&w->op, id.string);
    return id;
}

static inline struct filter *world_filter(struct world *w)
{
    uint32_t rows = w->shape.row_count;
    struct filter *f =
        random_filter(&w->op, &w->rng, w->schema, rows, random_index(&w->rng, 4));
    return f;
}

/* Builds the segment of docs, given in an order of chance. */
static inline void world_build(struct world *w, struct schema *schema,
                               const struct doc *docs, uint32_t count, struct buf *out)
{
    struct segment_options options = {.zstd_level = w->shape.zstd_level,
                                      .index_from = w->shape.index_from,
                                      .index_seed = 7};
    struct segment_builder *b = segment_builder_new(schema, &options);
    uint32_t *order = mem_new_array(uint32_t, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = random_index(&w->rng, i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (uint32_t i = 0; i < count; i++)
        segment_builder_add(b, &docs[order[i]]);
    mem_free(order);
    assert_int_equal(segment_builder_finish(&w->op, b, out), ERR_OK);
}

static inline void world_make(struct world *w, uint64_t *rng, struct world_shape shape)
{
    *w = (struct world){.rng = test_random(rng), .shape = shape};
    op_init(&w->op, OP_NO_DEADLINE, 0);
    w->schema = random_schema(&w->rng, shape.vector_dim, shape.attr_count);
    w->docs = op_new_array(&w->op, struct doc, shape.row_count);
    w->some = rowset_new();
    for (uint32_t row = 0; row < shape.row_count; row++) {
        struct doc d = random_doc(&w->op, &w->rng, world_id(w, row), w->schema);
        world_values(w, &d);
        d.vector = NULL;
        if (shape.vector_dim && random_index(&w->rng, 100) < shape.vector_percent) {
            float *vector = op_new_array(&w->op, float, shape.vector_dim);
            for (uint32_t i = 0; i < shape.vector_dim; i++)
                vector[i] = (float)random_index(&w->rng, 2000) / 1000 - 1 + 1e-4f;
            d.vector = vector;
        }
        w->docs[row] = d;
        if (random_index(&w->rng, 2)) rowset_add(w->some, row);
    }
    for (size_t i = 0; i < WORLD_FILTERS; i++)
        w->filters[i] = world_filter(w);
    world_build(w, w->schema, w->docs, shape.row_count, &w->bytes);
}

static inline void world_release(struct world *w)
{
    schema_unref(w->schema);
    rowset_unref(w->some);
    buf_release(&w->bytes);
    op_release(&w->op);
}

static inline struct world_shape random_shape(uint64_t *rng)
{
    static const uint32_t dims[] = {0, 1, 3, 16, 17, 100};
    static const uint32_t percents[] = {0, 10, 60, 100};
    return (struct world_shape){.row_count = 1 + (random_index(rng, 4)
                                                      ? random_index(rng, 150)
                                                      : random_index(rng, 3000)),
                                .vector_dim = dims[random_index(rng, COUNT_OF(dims))],
                                .attr_count = 1 + random_index(rng, 8),
                                .string_ids = random_index(rng, 2),
                                .vector_percent =
                                    percents[random_index(rng, COUNT_OF(percents))],
                                .zstd_level = (int)random_index(rng, 2) * 3,
                                .index_from = random_index(rng, 2)};
}

/* ---- guises ---- */

enum guise { IN_MEMORY, STORED, STORED_SMALL_TAIL, GUISES };

struct guises {
    struct store *store;
    struct cache *cache;
    struct segment *segments[GUISES];
};

static inline enum err guise_open(struct op *op, enum guise guise, struct slice bytes,
                                  struct cache *cache, const char *key,
                                  struct segment **out)
{
    if (guise == STORED) return segment_open(op, cache, key, bytes.size, out);
    if (guise == STORED_SMALL_TAIL)
        return segment_open_tail(op, cache, key, bytes.size, SEGMENT_FOOTER_SIZE, out);
    struct buf copy = BUF_INIT;
    buf_append_slice(&copy, bytes);
    return segment_open_memory(op, &copy, out);
}

static inline void guises_open(struct op *op, struct guises *g, struct slice bytes,
                               uint64_t cache_size)
{
    g->store = store_mem_new();
    g->cache = cache_new(g->store, cache_size);
    assert_int_equal(store_put(op, g->store, "segment", &bytes, 1), ERR_OK);
    for (enum guise i = IN_MEMORY; i < GUISES; i++)
        assert_int_equal(guise_open(op, i, bytes, g->cache, "segment", &g->segments[i]),
                         ERR_OK);
}

static inline void guises_close(struct guises *g)
{
    for (enum guise i = IN_MEMORY; i < GUISES; i++)
        segment_unref(g->segments[i]);
    assert_true(cache_usage(g->cache).pinned_bytes == 0);
    cache_free(g->cache);
    store_free(g->store);
}

/* ---- a fixture of one world after the other, the last of which cmocka releases ----
 */

struct fixture {
    uint64_t rng;
    struct world world;
    struct guises guises;
};

static inline void fixture_clear(struct fixture *f)
{
    if (f->guises.store) guises_close(&f->guises);
    if (f->world.schema) world_release(&f->world);
    f->world = (struct world){0};
    f->guises = (struct guises){0};
}

static inline int fixture_setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.rng = test_seed()};
    *state = &fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    fixture_clear(*state);
    return 0;
}

#define WORLD_TEST(f)                                                                  \
    cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

/* Documents, and nothing opened. */
static inline struct world *new_world(struct fixture *f, struct world_shape shape)
{
    fixture_clear(f);
    world_make(&f->world, &f->rng, shape);
    return &f->world;
}

/* Documents, and their segment in all guises. */
static inline struct world *open_world(struct fixture *f, struct world_shape shape)
{
    enum { CACHE = 64 << 20 };
    struct world *w = new_world(f, shape);
    guises_open(&w->op, &f->guises, buf_slice(&w->bytes), CACHE);
    return w;
}

/* ---- questions ---- */

static inline int hits_by_row(const void *context, const struct hit *a,
                              const struct hit *b)
{
    (void)context;
    return a->row < b->row ? -1 : a->row > b->row;
}

static inline void put_hits(struct buf *out, struct topk *best)
{
    topk_finish(best);
    put_u64(out, best->count);
    for (size_t i = 0; i < best->count; i++) {
        put_u32(out, best->hits[i].row);
        put_u32(out, best->hits[i].source);
        put_f32(out, best->hits[i].score);
    }
}

static inline enum err ask_ids(struct op *op, struct segment *s, struct world *w,
                               struct buf *out)
{
    (void)op;
    put_u32(out, segment_row_count(s));
    put_u32(out, segment_vector_count(s));
    for (uint32_t row = 0; row < segment_row_count(s); row++) {
        struct doc_id id = segment_id(s, row);
        doc_id_encode(&id, out);
    }
    for (uint32_t row = 0; row < w->shape.row_count; row++) {
        uint32_t found;
        segment_find(s, &w->docs[row].id, 1, &found);
        put_u32(out, found);
    }
    return ERR_OK;
}

static inline enum err ask_vectors(struct op *op, struct segment *s, struct world *w,
                                   struct buf *out)
{
    size_t k = w->shape.row_count;
    struct hit *hits = mem_new_array(struct hit, k);
    float query[128];
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < COUNT_OF(query); i++)
        query[i] = (float)(i % 7) - 2.5f;
    for (int allowed = 0; allowed < 2 && !e; allowed++) {
        struct topk best;
        topk_init(&best, hits, k, hits_by_row, NULL);
        e = segment_vector_search(op, s, w->schema->metric, query,
                                  allowed ? w->some : NULL, 5, &best);
        if (!e) put_hits(out, &best);
    }
    mem_free(hits);
    return e;
}

/* By the index, where there is one: of all rows, of half of them, and of so few that
 * they are looked up by their slots. */
static inline enum err ask_nearest(struct op *op, struct segment *s, struct world *w,
                                   struct buf *out)
{
    float query[128];
    enum err e = ERR_OK;

    struct rowset *few = rowset_new();
    const struct rowset *allowed[] = {NULL, w->some, few};

    for (uint32_t row = 3; row < w->shape.row_count; row += 40)
        rowset_add(few, row);
    for (uint32_t i = 0; i < COUNT_OF(query); i++)
        query[i] = (float)(i % 5) - 1.5f;
    for (size_t i = 0; i < COUNT_OF(allowed) && !e; i++) {
        struct hit hits[10];
        struct topk best;
        struct segment_work work = {0};
        struct segment_target target = {s, allowed[i], 5};
        struct segment_near near = {.metric = w->schema->metric,
                                    .query = query,
                                    .recall = 0.95f};
        topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
        e = segment_nearest_from(op, &target, 1, &near, false, &best, &work);
        if (e) break;
        put_hits(out, &best);
        put_u64(out, work.clusters);
        put_u64(out, work.rows);
    }
    rowset_unref(few);
    return e;
}

static inline enum err ask_filters(struct op *op, struct segment *s, struct world *w,
                                   struct buf *out)
{
    for (size_t i = 0; i < WORLD_FILTERS; i++) {
        struct rowset *rows;
        enum err e = segment_filter(op, s, w->filters[i], NULL, NULL, &rows);
        if (e) return e;
        for (uint32_t row = 0; row < w->shape.row_count; row++)
            put_u8(out, rowset_has(rows, row));
        rowset_unref(rows);
    }
    return ERR_OK;
}

static inline enum err ask_text(struct op *op, const struct segment_view *v, int attr,
                                struct world *w, struct buf *out)
{
    const struct text_index *index = segment_view_text(v, attr);
    float inverse[256];
    struct text_clause clauses[4];
    struct hit hits[20];
    struct topk best;
    uint64_t scored;

    put_u8(out, index != NULL);
    if (!index) return ERR_OK;
    uint64_t documents = text_index_document_count(index);
    bm25_norms(documents ? (double)text_index_total_length(index) / (double)documents
                         : 1,
               inverse);
    for (uint32_t i = 0; i < COUNT_OF(clauses); i++) {
        struct slice term = slice_str(i % 2 ? "word1" : "word3");
        clauses[i] = (struct text_clause){.index = index,
                                          .term = term,
                                          .group = i,
                                          .weight = (float)(i + 1),
                                          .inverse = inverse};
    }
    struct text_search search = {.clauses = clauses,
                                 .clause_count = COUNT_OF(clauses),
                                 .group_count = COUNT_OF(clauses),
                                 .allowed = w->some,
                                 .source = 3,
                                 .row_count = w->shape.row_count};
    topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
    enum err e = text_index_search(op, &search, &best, &scored);
    if (!e) put_hits(out, &best);
    return e;
}

static inline enum err ask_column(struct op *op, const struct segment_view *v, int attr,
                                  struct world *w, struct buf *out)
{
    const struct column *column = segment_view_column(v, attr);
    const struct attr *a = &w->schema->attrs[attr];
    struct value value = VALUE_NULL;

    put_u8(out, column != NULL);
    for (uint32_t row = 0; row < w->shape.row_count && column; row++) {
        enum err e = column_value(op, column, row, &value);
        if (e) return e;
        value_encode(a->type, a->array, &value, out);
    }
    return ERR_OK;
}

static inline enum err ask_views(struct op *op, struct segment *s, struct world *w,
                                 struct buf *out)
{
    struct segment_view *v;
    struct everything all;
    int count = (int)w->schema->attr_count;
    want_everything(&all, (size_t)count);
    enum err e = segment_view_open(op, s, &all.want, &v);
    for (int i = 0; i < count && !e; i++) {
        e = ask_text(op, v, i, w, out);
        if (!e) e = ask_column(op, v, i, w, out);
    }
    segment_view_close(v);
    return e;
}

static inline enum err ask_documents(struct op *op, struct segment *s, struct world *w,
                                     struct buf *out)
{
    uint32_t count = w->shape.row_count;
    uint32_t *rows = mem_new_array(uint32_t, count);
    struct doc *docs = mem_new_array(struct doc, count);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = count - 1 - i;
    struct segment_fetch what = {.vector = true, .attributes = true};
    enum err e = segment_fetch(op, s, w->schema, rows, count, what, docs);
    for (uint32_t i = 0; i < count && !e; i++)
        doc_encode(&docs[i], w->schema, out);
    mem_free(rows);
    mem_free(docs);
    return e;
}

static inline enum err ask_merge(struct op *op, struct segment *s, struct world *w,
                                 struct buf *out)
{
    struct segment_options options = {.zstd_level = w->shape.zstd_level};
    struct segment_input input = {.segment = s};
    uint32_t row_count;
    return segment_merge(op, w->schema, &options, &input, 1, out, &row_count);
}

typedef enum err (*question)(struct op *, struct segment *, struct world *,
                             struct buf *);
static const question questions[] = {ask_ids,   ask_vectors,   ask_nearest, ask_filters,
                                     ask_views, ask_documents, ask_merge};

#endif
