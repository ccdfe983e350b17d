/*
 * Segments against the documents they were made of: every answer is compared with one
 * computed from the documents alone, for a segment in memory, a stored one, and a
 * stored one that is opened by so small a read that nothing but its end is held.
 */
#include "segment/segment.h"

#include <float.h>
#include <math.h>

#include "base/task.h"
#include "segment/segment_format.h"
#include "store/store_fault.h"
#include "unit/segment_world.h"

enum { CACHE_SIZE = 64 << 20, ROUNDS = BY_FLAVOUR(60, 20) };

/* ---- each answer from the documents ---- */

static void expect_ids(struct segment *s, const struct world *w)
{
    assert_int_equal(segment_row_count(s), w->shape.row_count);
    for (uint32_t row = 0; row < w->shape.row_count; row++) {
        struct doc_id id = segment_id(s, row);
        uint32_t found;
        assert_int_equal(doc_id_compare(&id, &w->docs[row].id), 0);
        segment_find(s, &w->docs[row].id, 1, &found);
        assert_int_equal(found, row);
    }
    struct doc_id absent[] = {number_id(UINT64_MAX), string_id("~"), string_id(""),
                              string_id("9999999"), number_id(w->docs[0].id.u64 ^ 1)};
    uint32_t rows[COUNT_OF(absent)];
    segment_find(s, absent, COUNT_OF(absent), rows);
    for (size_t i = 0; i < COUNT_OF(absent); i++)
        assert_int_equal(rows[i], UINT32_MAX);
}

static double naive_score(enum metric_kind metric, const float *a, const float *b,
                          uint32_t dim)
{
    double dot = 0, squares = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double x = (double)a[i], y = (double)b[i];
        dot += x * y;
        squares += (x - y) * (x - y);
        aa += x * x;
        bb += y * y;
    }
    if (metric == METRIC_L2) return -squares;
    if (metric == METRIC_DOT) return dot;
    return aa > 0 && bb > 0 ? dot / sqrt(aa) / sqrt(bb) : 0;
}

/* All rows are asked for, so each score can be compared; then fewer, which must be the
 * first of all. */
static void expect_vectors(struct op *op, struct segment *s, struct world *w)
{
    enum metric_kind metric = w->schema->metric;
    uint32_t dim = w->shape.vector_dim, rows = w->shape.row_count;
    struct hit *hits = mem_new_array(struct hit, rows);
    float *query = mem_new_array(float, dim);
    const struct rowset *allowed = random_index(&w->rng, 2) ? w->some : NULL;
    uint32_t expected = 0;
    struct topk all, few;
    struct hit few_hits[3];

    for (uint32_t i = 0; i < dim; i++)
        query[i] = (float)random_index(&w->rng, 2000) / 1000 - 1;
    for (uint32_t row = 0; row < rows; row++)
        expected += w->docs[row].vector && (!allowed || rowset_has(allowed, row));

    topk_init(&all, hits, rows, hits_by_row, NULL);
    assert_int_equal(segment_vector_search(op, s, metric, query, allowed, 7, &all),
                     ERR_OK);
    topk_finish(&all);
    assert_int_equal(all.count, expected);
    for (size_t i = 0; i < all.count; i++) {
        const struct hit *hit = &hits[i];
        const struct doc *d = &w->docs[hit->row];
        assert_non_null(d->vector);
        assert_true(!allowed || rowset_has(allowed, hit->row));
        assert_int_equal(hit->source, 7);
        double exact = naive_score(metric, query, d->vector, dim);
        double error = metric == METRIC_COSINE ? 1e-6 : 1e-6 * (1 + (double)dim);
        assert_true(fabs((double)hit->score - exact) <= error);
        assert_true(i == 0 || hits[i - 1].score > hit->score ||
                    (hits[i - 1].score == hit->score && hits[i - 1].row < hit->row));
    }

    topk_init(&few, few_hits, COUNT_OF(few_hits), hits_by_row, NULL);
    assert_int_equal(segment_vector_search(op, s, metric, query, allowed, 7, &few),
                     ERR_OK);
    topk_finish(&few);
    assert_int_equal(few.count, expected < 3 ? expected : 3);
    for (size_t i = 0; i < few.count; i++) {
        assert_int_equal(few_hits[i].row, hits[i].row);
        assert_true(few_hits[i].score == hits[i].score);
    }
    mem_free(hits);
    mem_free(query);
}

static void expect_filter(struct op *op, struct segment *s, const struct world *w,
                          const struct filter *f)
{
    struct rowset *rows;
    assert_int_equal(segment_filter(op, s, f, NULL, NULL, &rows), ERR_OK);
    for (uint32_t row = 0; row < w->shape.row_count; row++)
        assert_int_equal(rowset_has(rows, row),
                         filter_matches(f, w->schema, &w->docs[row]));
    assert_true(rowset_count(rows) <= w->shape.row_count);
    rowset_unref(rows);
}

/* Terms of a document's text, counted by the analyzer itself. */
static void count_terms(const struct attr *attr, const struct value *v,
                        struct slice term, uint32_t *length, uint32_t *frequency)
{
    struct analyzer *a = analyzer_get(&attr->analysis);
    uint32_t items = attr->array ? v->count : 1;
    *length = *frequency = 0;
    for (uint32_t i = 0; i < items && !v->null; i++) {
        struct token token;
        analyzer_start(a, attr->array ? v->items[i].s : v->one.s);
        while (analyzer_next(a, &token)) {
            ++*length;
            *frequency += slice_equal(token.term, term);
        }
    }
}

static void expect_term(struct op *op, const struct text_index *index, struct world *w,
                        uint32_t attr_index, struct slice term)
{
    const struct attr *attr = &w->schema->attrs[attr_index];
    uint32_t rows = w->shape.row_count, matches = 0, length, frequency;
    uint64_t documents = 0, total = 0, scored = 0;
    struct hit *hits = mem_new_array(struct hit, rows);
    float inverse[256];
    struct topk best;

    for (uint32_t row = 0; row < rows; row++) {
        count_terms(attr, &w->docs[row].values[attr_index], term, &length, &frequency);
        documents += length > 0;
        total += length;
        matches += frequency > 0;
    }
    assert_true(text_index_document_count(index) == documents);
    assert_true(text_index_total_length(index) == total);
    assert_true(text_index_frequency(index, term) == matches);

    float weight = bm25_idf(documents, matches);
    bm25_norms(documents ? (double)total / (double)documents : 1, inverse);
    struct text_clause clause = {.index = index,
                                 .term = term,
                                 .weight = weight,
                                 .inverse = inverse};
    struct text_search search = {.clauses = &clause,
                                 .clause_count = 1,
                                 .group_count = 1,
                                 .source = 2,
                                 .row_count = rows};
    topk_init(&best, hits, rows, hits_by_row, NULL);
    assert_int_equal(text_index_search(op, &search, &best, &scored), ERR_OK);
    topk_finish(&best);
    assert_int_equal(best.count, matches);
    for (size_t i = 0; i < best.count; i++) {
        const struct doc *d = &w->docs[hits[i].row];
        count_terms(attr, &d->values[attr_index], term, &length, &frequency);
        assert_true(hits[i].score ==
                    bm25_score(weight, frequency, inverse[bm25_length_encode(length)]));
    }
    mem_free(hits);
}

static void expect_views(struct op *op, struct segment *s, struct world *w)
{
    struct segment_view *view;
    struct everything all;
    uint32_t count = w->schema->attr_count;

    want_everything(&all, count);
    assert_int_equal(segment_view_open(op, s, &all.want, &view), ERR_OK);
    for (uint32_t i = 0; i < count; i++) {
        const struct attr *attr = &w->schema->attrs[i];
        const struct column *column = segment_view_column(view, (int)i);
        bool any = false;
        struct buf wanted = BUF_INIT, got = BUF_INIT;
        for (uint32_t row = 0; row < w->shape.row_count; row++) {
            const struct value *v = &w->docs[row].values[i];
            struct value from = VALUE_NULL;
            any = any || !v->null;
            if (column) assert_int_equal(column_value(op, column, row, &from), ERR_OK);
            buf_clear(&wanted);
            buf_clear(&got);
            value_encode(attr->type, attr->array, v, &wanted);
            value_encode(attr->type, attr->array, &from, &got);
            /* -0 and 0 are one value to a column. */
            if (attr->type != ATTR_FLOAT)
                assert_true(slice_equal(buf_slice(&wanted), buf_slice(&got)));
        }
        buf_release(&wanted);
        buf_release(&got);
        const struct text_index *text = segment_view_text(view, (int)i);
        assert_int_equal(column != NULL, any);
        assert_int_equal(text != NULL, any && attr->full_text);
        if (text) expect_term(op, text, w, i, SLICE_LITERAL("word0"));
        if (text) expect_term(op, text, w, i, SLICE_LITERAL("word5"));
        if (text) expect_term(op, text, w, i, SLICE_LITERAL("absent"));
    }
    segment_view_close(view);
}

static void expect_fetch(struct op *op, struct segment *s, struct world *w,
                         struct segment_fetch what, uint32_t n)
{
    uint32_t *rows = mem_new_array(uint32_t, n);
    struct doc *docs = mem_new_array(struct doc, n);
    struct value *nulls = mem_new_array(struct value, w->schema->attr_count);
    struct buf wanted = BUF_INIT, got = BUF_INIT;

    for (uint32_t i = 0; i < w->schema->attr_count; i++)
        nulls[i] = VALUE_NULL;
    for (uint32_t i = 0; i < n; i++) /* repeats too */
        rows[i] = random_index(&w->rng, w->shape.row_count);
    assert_int_equal(segment_fetch(op, s, w->schema, rows, n, what, docs), ERR_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct doc d = w->docs[rows[i]];
        if (!what.vector) d.vector = NULL;
        if (!what.attributes) d.values = nulls;
        buf_clear(&wanted);
        buf_clear(&got);
        doc_encode(&d, w->schema, &wanted);
        doc_encode(&docs[i], w->schema, &got);
        assert_true(slice_equal(buf_slice(&wanted), buf_slice(&got)));
    }
    buf_release(&wanted);
    buf_release(&got);
    mem_free(nulls);
    mem_free(rows);
    mem_free(docs);
}

static void expect_all(struct op *op, struct segment *s, struct world *w)
{
    uint32_t rows = w->shape.row_count;
    expect_ids(s, w);
    expect_vectors(op, s, w);
    for (size_t i = 0; i < WORLD_FILTERS; i++)
        expect_filter(op, s, w, w->filters[i]);
    expect_views(op, s, w);
    expect_fetch(op, s, w, (struct segment_fetch){false, false}, 5);
    expect_fetch(op, s, w, (struct segment_fetch){true, false}, 5);
    expect_fetch(op, s, w, (struct segment_fetch){false, true}, 1 + rows / 3);
    expect_fetch(op, s, w, (struct segment_fetch){true, true}, rows);
}

static void a_segment_answers_what_its_documents_say(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        struct world *w = open_world(f, random_shape(&f->rng));
        for (enum guise i = IN_MEMORY; i < GUISES; i++)
            expect_all(&w->op, f->guises.segments[i], w);
    }
}

static void a_segment_answers_the_same_from_memory_and_from_the_store(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        struct world *w = open_world(f, random_shape(&f->rng));
        for (size_t q = 0; q < COUNT_OF(questions); q++) {
            struct buf answers[GUISES] = {BUF_INIT};
            for (enum guise i = IN_MEMORY; i < GUISES; i++) {
                assert_int_equal(questions[q](&w->op, f->guises.segments[i], w,
                                              &answers[i]),
                                 ERR_OK);
                assert_true(
                    slice_equal(buf_slice(&answers[i]), buf_slice(&answers[0])));
            }
            for (enum guise i = IN_MEMORY; i < GUISES; i++)
                buf_release(&answers[i]);
        }
    }
}

/* ---- large enough for many blocks, units and windows ---- */

static void many_blocks_are_read_by_windows(void **state)
{
    struct fixture *f = *state;
    static const uint32_t percents[] = {100, 40};
    for (size_t round = 0; round < COUNT_OF(percents); round++) {
        struct world_shape shape = {.row_count = 16000,
                                    .vector_dim = 100,
                                    .attr_count = 4,
                                    .vector_percent = percents[round],
                                    .zstd_level = 1};
        struct world *w = open_world(f, shape);
        struct segment *s = f->guises.segments[STORED_SMALL_TAIL];
        expect_vectors(&w->op, s, w);
        expect_vectors(&w->op, s, w);
        expect_fetch(&w->op, s, w, (struct segment_fetch){true, true}, 10000);

        struct buf merged = BUF_INIT;
        assert_int_equal(ask_merge(&w->op, s, w, &merged), ERR_OK);
        assert_true(slice_equal(buf_slice(&merged), buf_slice(&w->bytes)));
        buf_release(&merged);
    }
}

static void blocks_without_allowed_rows_are_not_read(void **state)
{
    struct fixture *f = *state;
    struct hit hits[3];
    struct topk best;
    float query[100] = {1};

    struct world *w = open_world(f, (struct world_shape){.row_count = 8000,
                                                         .vector_dim = 100,
                                                         .attr_count = 1,
                                                         .vector_percent = 100});
    const uint32_t rows[] = {2, 7999};
    struct rowset *allowed = rowset_from(rows, COUNT_OF(rows));
    topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
    w->op.counters = (struct op_counters){0};
    assert_int_equal(segment_vector_search(&w->op,
                                           f->guises.segments[STORED_SMALL_TAIL],
                                           w->schema->metric, query, allowed, 0, &best),
                     ERR_OK);
    assert_int_equal(best.count, 2);
    assert_int_equal(w->op.counters.rows_scored, 2);
    assert_int_equal(w->op.counters.rounds, 1);
    /* Two units of a quarter MiB at most, and the norms. */
    assert_true(w->op.counters.store_bytes < 600 << 10);
    rowset_unref(allowed);
}

static void each_question_takes_one_round(void **state)
{
    struct fixture *f = *state;
    struct segment *s;

    struct world *w = open_world(f, (struct world_shape){.row_count = 500,
                                                         .vector_dim = 30,
                                                         .attr_count = 6,
                                                         .vector_percent = 100});
    static const question once[] = {ask_vectors, ask_views, ask_documents};
    for (size_t i = 0; i < COUNT_OF(once); i++) {
        struct cache *cold = cache_new(f->guises.store, CACHE_SIZE);
        struct buf answer = BUF_INIT;
        w->op.counters = (struct op_counters){0};
        assert_int_equal(segment_open(&w->op, cold, "segment", w->bytes.size, &s),
                         ERR_OK);
        assert_int_equal(w->op.counters.rounds, 1);
        assert_int_equal(once[i](&w->op, s, w, &answer), ERR_OK);
        assert_true(w->op.counters.rounds <= 2);
        buf_release(&answer);
        segment_unref(s);
        cache_free(cold);
    }
}

/* ---- vectors at the edges of float ---- */

static struct segment *segment_of_vectors(struct op *op, enum metric_kind metric,
                                          const float *vectors, uint32_t count,
                                          uint32_t dim)
{
    struct schema *schema = schema_new(dim, metric, NULL, 0);
    struct segment_builder *b =
        segment_builder_new(schema, &(struct segment_options){0});
    struct buf bytes = BUF_INIT;
    struct segment *s;

    for (uint32_t i = 0; i < count; i++)
        segment_builder_add(b, &(struct doc){.id = number_id(i),
                                             .vector = vectors + i * dim});
    assert_int_equal(segment_builder_finish(op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(op, &bytes, &s), ERR_OK);
    schema_unref(schema);
    return s;
}

static void extreme_vectors_score_as_in_double(void **state)
{
    (void)state;
    static const float vectors[][2] = {{3e38f, 3e38f},   {3e38f, -3e38f},
                                       {-3e38f, 3e38f},  {1e-45f, 0},
                                       {1e-45f, 1e-45f}, {1e-30f, 2e-30f},
                                       {1e30f, -2e30f},  {1e-20f, 1e-22f},
                                       {0, 0},           {1, 2},
                                       {-0.0f, -1},      {FLT_MAX, FLT_MIN}};
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (enum metric_kind metric = METRIC_COSINE; metric <= METRIC_DOT; metric++) {
        struct segment *s =
            segment_of_vectors(&op, metric, vectors[0], COUNT_OF(vectors), 2);
        for (size_t q = 0; q < COUNT_OF(vectors); q++) {
            struct hit hits[COUNT_OF(vectors)];
            struct topk best;
            topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
            assert_int_equal(segment_vector_search(&op, s, metric, vectors[q], NULL, 0,
                                                   &best),
                             ERR_OK);
            assert_int_equal(best.count, COUNT_OF(vectors));
            for (size_t i = 0; i < best.count; i++) {
                double exact = naive_score(metric, vectors[q], vectors[hits[i].row], 2);
                if (exact > (double)FLT_MAX) exact = (double)FLT_MAX;
                if (exact < (double)-FLT_MAX) exact = (double)-FLT_MAX;
                double error = metric == METRIC_COSINE ? 1e-6 : fabs(exact) * 1e-6;
                assert_true(fabs((double)hits[i].score - exact) <= error + 1e-37);
            }
        }
        segment_unref(s);
    }
    op_release(&op);
}

static void a_stored_vector_that_is_not_finite_is_corrupt(void **state)
{
    (void)state;
    static const float vectors[] = {1, 2, NAN, 4};
    struct op op;
    struct hit hits[4];
    struct topk best;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (enum metric_kind metric = METRIC_COSINE; metric <= METRIC_DOT; metric++) {
        struct segment *s = segment_of_vectors(&op, metric, vectors, 2, 2);
        topk_init(&best, hits, COUNT_OF(hits), hits_by_row, NULL);
        assert_int_equal(segment_vector_search(&op, s, metric, vectors, NULL, 0, &best),
                         ERR_CORRUPT);
        op_clear_error(&op);
        segment_unref(s);
    }
    op_release(&op);
}

/* ---- merging ---- */

struct pieces {
    struct segment *segments[5];
    struct rowset *dead[5];
    struct schema *schemas[5]; /* older or the newest */
};

/* The first attributes of a schema, as it was before the others were added. */
static struct schema *older_schema(const struct schema *schema, uint32_t attr_count)
{
    return schema_new(schema->vector_dim, schema->metric, schema->attrs, attr_count);
}

/* Deals the documents out to segments, some of an older schema; those marked dead are
 * kept out of `live`. */
static void deal(struct world *w, struct guises *g, struct pieces *p, struct doc *live,
                 uint32_t *live_count)
{
    struct doc *hands[5];
    uint32_t counts[5] = {0}, attr_count = w->schema->attr_count;
    bool *alive[5];

    for (size_t i = 0; i < 5; i++) {
        hands[i] = mem_new_array(struct doc, w->shape.row_count);
        alive[i] = mem_new_array(bool, w->shape.row_count);
        p->schemas[i] = older_schema(w->schema, random_index(&w->rng, attr_count + 1));
        p->dead[i] = random_index(&w->rng, 3) ? rowset_new() : NULL;
    }
    *live_count = 0;
    for (uint32_t row = 0; row < w->shape.row_count; row++) {
        uint32_t to = random_index(&w->rng, 5);
        struct doc d = w->docs[row];
        struct value *values = op_new_array(&w->op, struct value, attr_count);
        for (uint32_t i = 0; i < attr_count; i++)
            values[i] = i < p->schemas[to]->attr_count ? d.values[i] : VALUE_NULL;
        d.values = values;
        bool dead = p->dead[to] && random_index(&w->rng, 3) == 0;
        if (dead)
            rowset_add(p->dead[to], counts[to]);
        else
            live[(*live_count)++] = d;
        hands[to][counts[to]++] = d;
    }
    for (uint32_t i = 0; i < 5; i++) {
        struct buf bytes = BUF_INIT;
        char key[16];
        p->segments[i] = NULL;
        (void)snprintf(key, sizeof key, "piece%u", i);
        if (counts[i] > 0) {
            world_build(w, p->schemas[i], hands[i], counts[i], &bytes);
            struct slice all = buf_slice(&bytes);
            assert_int_equal(store_put(&w->op, g->store, key, &all, 1), ERR_OK);
            assert_int_equal(guise_open(&w->op, (enum guise)(i % GUISES), all, g->cache,
                                        key, &p->segments[i]),
                             ERR_OK);
        }
        buf_release(&bytes);
        mem_free(hands[i]);
        mem_free(alive[i]);
    }
}

static void merging_equals_building_from_the_live_documents(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        struct pieces p;
        struct segment_input inputs[5];
        size_t n = 0;
        struct buf merged = BUF_INIT, built = BUF_INIT;
        uint32_t live_count, row_count;

        struct world *w = open_world(f, random_shape(&f->rng));
        struct doc *live = mem_new_array(struct doc, w->shape.row_count);
        deal(w, &f->guises, &p, live, &live_count);
        for (size_t i = 0; i < 5; i++)
            if (p.segments[i])
                inputs[n++] = (struct segment_input){p.segments[i], p.dead[i]};

        struct segment_options options = {.zstd_level = w->shape.zstd_level};
        w->shape.index_from = 0; /* a merge may make another index */
        buf_append_str(&merged, "what was in front stays");
        struct buf before = BUF_INIT;
        buf_append_slice(&before, buf_slice(&merged));
        assert_int_equal(segment_merge(&w->op, w->schema, &options, inputs, n, &merged,
                                       &row_count),
                         ERR_OK);
        assert_int_equal(row_count, live_count);
        buf_append_slice(&built, buf_slice(&before));
        if (live_count > 0) world_build(w, w->schema, live, live_count, &built);
        assert_true(slice_equal(buf_slice(&merged), buf_slice(&built)));

        for (size_t i = 0; i < 5; i++) {
            segment_unref(p.segments[i]);
            rowset_unref(p.dead[i]);
            schema_unref(p.schemas[i]);
        }
        buf_release(&before);
        buf_release(&merged);
        buf_release(&built);
        mem_free(live);
    }
}

static void merging_only_dead_rows_leaves_out_unchanged(void **state)
{
    struct fixture *f = *state;
    uint32_t row_count = 42;
    struct buf out = BUF_INIT;

    struct world *w =
        open_world(f, (struct world_shape){.row_count = 10, .attr_count = 2});
    struct rowset *dead = rowset_range(0, 10);
    struct segment_input input = {f->guises.segments[0], dead};
    struct segment_options options = {0};
    assert_int_equal(segment_merge(&w->op, w->schema, &options, &input, 1, &out,
                                   &row_count),
                     ERR_OK);
    assert_int_equal(row_count, 0);
    assert_int_equal(out.size, 0);
    row_count = 42;
    assert_int_equal(segment_merge(&w->op, w->schema, &options, NULL, 0, &out,
                                   &row_count),
                     ERR_OK);
    assert_int_equal(row_count, 0);
    rowset_unref(dead);
}

/* ---- schemas that grew, and others ---- */

static void later_attributes_are_null_in_older_segments(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        struct buf bytes = BUF_INIT;

        struct world *w = new_world(f, random_shape(&f->rng));
        struct schema *old =
            older_schema(w->schema, random_index(&w->rng, w->schema->attr_count));
        for (uint32_t row = 0; row < w->shape.row_count; row++) {
            struct value *values =
                op_new_array(&w->op, struct value, w->schema->attr_count);
            for (uint32_t i = 0; i < w->schema->attr_count; i++)
                values[i] = i < old->attr_count ? w->docs[row].values[i] : VALUE_NULL;
            w->docs[row].values = values;
        }
        world_build(w, old, w->docs, w->shape.row_count, &bytes);
        guises_open(&w->op, &f->guises, buf_slice(&bytes), CACHE_SIZE);
        for (enum guise i = IN_MEMORY; i < GUISES; i++)
            expect_all(&w->op, f->guises.segments[i], w);
        buf_release(&bytes);
        schema_unref(old);
    }
}

static void another_schema_is_refused(void **state)
{
    (void)state;
    static const struct attr one[] = {{.name = "a", .type = ATTR_INT}};
    static const struct attr other[] = {{.name = "a", .type = ATTR_UINT}};
    struct op op;
    struct buf bytes = BUF_INIT, out = BUF_INIT;
    struct segment *s;
    struct value value = {.one.i = 5};
    struct doc doc = {.id = number_id(1), .values = &value};
    uint32_t row = 0, row_count;
    struct rowset *rows;
    union scalar five = {.u = 5};
    struct filter f = {.op = FILTER_EQ,
                       .type = ATTR_UINT,
                       .values = &five,
                       .value_count = 1};

    op_init(&op, OP_NO_DEADLINE, 0);
    struct schema *right = schema_new(0, METRIC_L2, one, 1);
    struct schema *wrong = schema_new(0, METRIC_L2, other, 1);
    struct segment_options options = {0};
    struct segment_builder *b = segment_builder_new(right, &options);
    segment_builder_add(b, &doc);
    assert_int_equal(segment_builder_finish(&op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(&op, &bytes, &s), ERR_OK);
    struct segment_input input = {.segment = s};
    assert_int_equal(segment_fetch(&op, s, wrong, &row, 1,
                                   (struct segment_fetch){false, true}, &doc),
                     ERR_CORRUPT);
    assert_int_equal(segment_merge(&op, wrong, &options, &input, 1, &out, &row_count),
                     ERR_CORRUPT);
    assert_int_equal(segment_filter(&op, s, &f, NULL, NULL, &rows), ERR_CORRUPT);
    segment_unref(s);
    schema_unref(right);
    schema_unref(wrong);
    op_release(&op);
}

/* ---- ids ---- */

static void id_conditions_on_strings_equal_filter_matches(void **state)
{
    struct fixture *f = *state;
    static const enum filter_op ops[] = {FILTER_EQ,     FILTER_NE,  FILTER_IN,
                                         FILTER_NOT_IN, FILTER_GT,  FILTER_GTE,
                                         FILTER_LT,     FILTER_LTE, FILTER_PREFIX};

    struct world *w = open_world(f, (struct world_shape){.row_count = 300,
                                                         .attr_count = 1,
                                                         .string_ids = true});
    for (int round = 0; round < 400; round++) {
        struct doc_id id = w->docs[random_index(&w->rng, 300)].id;
        if (random_index(&w->rng, 2))
            id.string.size = 1 + random_index(&w->rng, id.string.size);
        if (random_index(&w->rng, 20) == 0) id = number_id(7);
        struct filter condition = {.op = ops[random_index(&w->rng, COUNT_OF(ops))],
                                   .attr = FILTER_ATTR_ID,
                                   .ids = &id,
                                   .id_count = 1};
        expect_filter(&w->op, f->guises.segments[STORED], w, &condition);
    }
}

/* ---- failures ---- */

/* Call n of the store fails, for n = 1, 2, … until a run meets no failure. */
static void failing_reads_come_back_and_leave_nothing_pinned(void **state)
{
    struct fixture *f = *state;
    struct world *w = new_world(f, (struct world_shape){.row_count = 6000,
                                                        .vector_dim = 100,
                                                        .attr_count = 5,
                                                        .vector_percent = 80});
    struct store *store = store_fault_new(store_mem_new(), &(struct fault_plan){0});
    struct slice bytes = buf_slice(&w->bytes);
    assert_int_equal(store_put(&w->op, store, "segment", &bytes, 1), ERR_OK);
    for (size_t q = 0; q < COUNT_OF(questions); q++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            struct cache *cache = cache_new(store, CACHE_SIZE);
            struct segment *s = NULL;
            struct buf answer = BUF_INIT;
            uint64_t calls = store_fault_calls(store);
            store_fault_plan(store, &(struct fault_plan){.at_call = calls + n,
                                                         .at_fault = FAULT_FAIL});
            enum err e = segment_open_tail(&w->op, cache, "segment", bytes.size,
                                           SEGMENT_FOOTER_SIZE, &s);
            if (!e) e = questions[q](&w->op, s, w, &answer);
            failed = store_fault_calls(store) >= calls + n;
            assert_int_equal(e, failed ? ERR_IO : ERR_OK);
            op_clear_error(&w->op);
            buf_release(&answer);
            segment_unref(s);
            assert_true(cache_usage(cache).pinned_bytes == 0);
            cache_free(cache);
            assert_true(n < 100);
        }
    }
    store_free(store);
}

static void a_canceled_op_stops_scans_and_merges(void **state)
{
    struct fixture *f = *state;
    struct world *w = open_world(f, (struct world_shape){.row_count = 300,
                                                         .vector_dim = 16,
                                                         .attr_count = 2,
                                                         .vector_percent = 100});
    static const question stopped[] = {ask_vectors, ask_documents, ask_merge};
    for (size_t i = 0; i < COUNT_OF(stopped); i++) {
        struct buf answer = BUF_INIT;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        op_cancel(&op);
        assert_int_equal(stopped[i](&op, f->guises.segments[STORED_SMALL_TAIL], w,
                                    &answer),
                         ERR_CANCELED);
        assert_int_equal(answer.size, 0);
        buf_release(&answer);
        op_release(&op);
    }
}

static void a_small_arena_is_a_limit_not_a_crash(void **state)
{
    struct fixture *f = *state;
    struct world *w = open_world(f, (struct world_shape){.row_count = 500,
                                                         .vector_dim = 100,
                                                         .attr_count = 6,
                                                         .vector_percent = 100});
    enum err e = ERR_LIMIT;
    for (size_t arena = 16 << 10; e == ERR_LIMIT; arena += 16 << 10) {
        struct buf answer = BUF_INIT;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, arena);
        e = ask_documents(&op, f->guises.segments[STORED], w, &answer);
        assert_true(e == ERR_OK || e == ERR_LIMIT);
        assert_true(arena > 100 << 10 || e == ERR_LIMIT);
        buf_release(&answer);
        op_release(&op);
    }
}

/* ---- threads ---- */

struct asker {
    struct world *w;
    struct segment *segment;
    const struct buf *wanted; /* by question */
    int failures;
};

static void ask_often(void *arg)
{
    struct asker *a = arg;
    for (int round = 0; round < 6; round++) {
        for (size_t q = 0; q < COUNT_OF(questions); q++) {
            struct buf answer = BUF_INIT;
            struct op op;
            op_init(&op, OP_NO_DEADLINE, 0);
            enum err e = questions[q](&op, a->segment, a->w, &answer);
            bool same = slice_equal(buf_slice(&answer), buf_slice(&a->wanted[q]));
            a->failures += e != ERR_OK || !same;
            buf_release(&answer);
            op_release(&op);
        }
    }
}

static void threads_that_share_a_segment_get_the_same_answers(void **state)
{
    struct fixture *f = *state;
    struct buf wanted[COUNT_OF(questions)] = {BUF_INIT};
    struct asker askers[4];
    struct thread *threads[4];

    struct world *w = new_world(f, (struct world_shape){.row_count = 1500,
                                                        .vector_dim = 100,
                                                        .attr_count = 5,
                                                        .vector_percent = 70});
    /* Room for what four threads pin, hardly more: ranges come and go. */
    guises_open(&w->op, &f->guises, buf_slice(&w->bytes), 5 * w->bytes.size);
    for (size_t q = 0; q < COUNT_OF(questions); q++)
        assert_int_equal(questions[q](&w->op, f->guises.segments[IN_MEMORY], w,
                                      &wanted[q]),
                         ERR_OK);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        askers[i] = (struct asker){
            .w = w,
            .segment = f->guises.segments[i % 2 ? STORED_SMALL_TAIL : IN_MEMORY],
            .wanted = wanted};
        threads[i] = thread_start("asker", ask_often, &askers[i]);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        thread_join(threads[i]);
        assert_int_equal(askers[i].failures, 0);
    }
    for (size_t q = 0; q < COUNT_OF(questions); q++)
        buf_release(&wanted[q]);
}

/* ---- what others rely on ---- */

static void a_reference_outlives_its_first_owner(void **state)
{
    (void)state;
    static const float vectors[] = {1, 2};
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct segment *s = segment_of_vectors(&op, METRIC_DOT, vectors, 2, 1);
    struct segment *again = segment_ref(s);
    segment_unref(s);
    assert_int_equal(segment_row_count(again), 2);
    assert_string_equal(segment_key(again), "memory");
    assert_int_equal(segment_id(again, 0).kind, ID_U64);
    assert_true(segment_memory(again) >= segment_size(again));
    segment_unref(again);
    segment_unref(NULL);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_segment_answers_what_its_documents_say),
        WORLD_TEST(a_segment_answers_the_same_from_memory_and_from_the_store),
        WORLD_TEST(many_blocks_are_read_by_windows),
        WORLD_TEST(blocks_without_allowed_rows_are_not_read),
        WORLD_TEST(each_question_takes_one_round),
        cmocka_unit_test(extreme_vectors_score_as_in_double),
        cmocka_unit_test(a_stored_vector_that_is_not_finite_is_corrupt),
        WORLD_TEST(merging_equals_building_from_the_live_documents),
        WORLD_TEST(merging_only_dead_rows_leaves_out_unchanged),
        WORLD_TEST(later_attributes_are_null_in_older_segments),
        cmocka_unit_test(another_schema_is_refused),
        WORLD_TEST(id_conditions_on_strings_equal_filter_matches),
        WORLD_TEST(failing_reads_come_back_and_leave_nothing_pinned),
        WORLD_TEST(a_canceled_op_stops_scans_and_merges),
        WORLD_TEST(a_small_arena_is_a_limit_not_a_crash),
        WORLD_TEST(threads_that_share_a_segment_get_the_same_answers),
        cmocka_unit_test(a_reference_outlives_its_first_owner),
    };
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
