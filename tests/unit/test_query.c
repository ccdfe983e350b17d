/*
 * Queries against an array and a loop: random documents, versions and deletes, spread
 * over several sources, ranked, filtered, fused and ordered the slow way.
 */
#include "query/query.h"

#include "base/rowset.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/state.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "unit/query_model.h"

enum { DIM = 3 };
enum {
    ATTR_TITLE,
    ATTR_N,
    ATTR_TAGS,
    ATTR_BODY,
    ATTR_WHEN,
    ATTR_F,
    ATTR_U,
    ATTR_FLAG,
    ATTRS
};

static const char *const words[] = {"red",  "blue",  "green", "fast", "slow", "car",
                                    "cars", "house", "the",   "and",  "tree", "trees"};

static struct value random_text(struct op *op, uint64_t *rng)
{
    struct buf b = BUF_INIT;
    if (random_index(rng, 6) == 0) return VALUE_NULL;
    for (uint32_t n = random_index(rng, 9); n > 0; n--) {
        buf_append_str(&b, words[random_index(rng, COUNT_OF(words))]);
        buf_append_byte(&b, ' ');
    }
    struct value v = {.one.s = op_copy(op, buf_slice(&b))};
    buf_release(&b);
    return v;
}

static struct schema *world_schema(uint64_t *rng)
{
    struct attr attrs[ATTRS] = {
        [ATTR_TITLE] = {.name = "title",
                        .type = ATTR_STRING,
                        .full_text = true,
                        .analysis = ANALYSIS_DEFAULT},
        [ATTR_N] = {.name = "n", .type = ATTR_INT, .indexed = true},
        [ATTR_TAGS] = {.name = "tags", .type = ATTR_STRING, .array = true},
        [ATTR_BODY] = {.name = "body",
                       .type = ATTR_STRING,
                       .full_text = true,
                       .analysis = {LANG_GERMAN, false, false, false}},
        [ATTR_WHEN] = {.name = "when", .type = ATTR_DATETIME},
        [ATTR_F] = {.name = "f", .type = ATTR_FLOAT},
        [ATTR_U] = {.name = "u", .type = ATTR_UINT, .indexed = true},
        [ATTR_FLAG] = {.name = "flag", .type = ATTR_BOOL},
    };
    return schema_new(DIM, (enum metric_kind)(1 + random_index(rng, 3)), attrs, ATTRS);
}

static struct doc world_doc(struct world *w, uint64_t id)
{
    struct doc d = {.id = number_id(id)};
    struct value *values = op_new_array(w->op, struct value, ATTRS);
    float *vector = op_new_array(w->op, float, DIM);
    for (uint32_t i = 0; i < ATTRS; i++) {
        const struct attr *a = &w->schema->attrs[i];
        values[i] = a->full_text ? random_text(w->op, &w->rng)
                                 : random_value(w->op, &w->rng, a->type, a->array);
    }
    for (uint32_t i = 0; i < DIM; i++)
        vector[i] = (float)random_index(&w->rng, 7) - 2.5f; /* many ties, never zero */
    d.values = values;
    d.vector = random_index(&w->rng, 5) ? vector : NULL;
    return d;
}

static void apply(struct world *w, struct batch *batch)
{
    struct prepared prepared;
    struct applied applied;
    struct snapshot *next = NULL, *joined = NULL;
    assert_int_equal(batch_unique(w->op, batch), ERR_OK);
    assert_int_equal(prepared_make(w->op, batch, w->schema, &prepared), ERR_OK);
    assert_int_equal(state_apply(w->op, w->snapshot, &prepared, 1,
                                 w->snapshot->slot + 1, 1, &next, &applied),
                     ERR_OK);
    prepared_release(&prepared);
    snapshot_unref(w->snapshot);
    w->snapshot = next;
    if (random_index(&w->rng, 3)) return;
    assert_int_equal(state_join_tail(w->op, next, 0, &joined), ERR_OK);
    if (!joined) return;
    snapshot_unref(next);
    w->snapshot = joined;
}

/* The model's view is read back row by row, dead rows too: statistics count them. */
static void read_versions(struct world *w)
{
    w->count = 0;
    for (uint32_t i = 0; i < w->snapshot->source_count; i++)
        w->count += segment_row_count(w->snapshot->sources[i].segment);
    w->versions = op_new_array(w->op, struct version, w->count);
    size_t at = 0;
    for (uint32_t i = 0; i < w->snapshot->source_count; i++) {
        const struct source *s = &w->snapshot->sources[i];
        for (uint32_t row = 0; row < segment_row_count(s->segment); row++, at++) {
            struct segment_fetch all = {.vector = true, .attributes = true};
            assert_int_equal(segment_fetch(w->op, s->segment, w->schema, &row, 1, all,
                                           &w->versions[at].doc),
                             ERR_OK);
            w->versions[at].live = !s->dead || !rowset_has(s->dead, row);
        }
    }
}

static struct world world_new(struct op *op, uint64_t seed)
{
    struct world w = {.op = op, .rng = seed};
    struct keys keys;
    keys_init(&keys, "", "w", (const uint8_t[16]){1});
    w.schema = world_schema(&w.rng);
    w.snapshot = state_empty(&keys, w.schema);
    for (uint32_t steps = 1 + random_index(&w.rng, 12); steps > 0; steps--) {
        struct batch batch = {0};
        uint32_t n = random_index(&w.rng, 25);
        batch.docs = op_new_array(op, struct doc, n);
        batch.deletes = op_new_array(op, struct doc_id, n);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t id = random_index(&w.rng, 120);
            if (random_index(&w.rng, 8))
                batch.docs[batch.doc_count++] = world_doc(&w, id);
            else
                batch.deletes[batch.delete_count++] = number_id(id);
        }
        apply(&w, &batch);
    }
    read_versions(&w);
    return w;
}

static void world_free(struct world *w)
{
    snapshot_unref(w->snapshot);
    schema_unref(w->schema);
}

/* ---- the slow way ---- */

static double naive_vector(const struct world *w, const float *q, const float *v)
{
    double dot = 0, l2 = 0, qq = 0, vv = 0;
    for (int i = 0; i < DIM; i++) {
        dot += (double)q[i] * (double)v[i];
        l2 += ((double)q[i] - (double)v[i]) * ((double)q[i] - (double)v[i]);
        qq += (double)q[i] * (double)q[i];
        vv += (double)v[i] * (double)v[i];
    }
    if (w->schema->metric == METRIC_DOT) return dot;
    return w->schema->metric == METRIC_L2 ? -l2 : dot / sqrt(qq * vv);
}

/* How often term occurs in a document's field, and how many terms that has. */
static uint32_t naive_count(const struct world *w, const struct doc *d, int attr,
                            struct slice term, uint32_t *length)
{
    uint32_t count = 0;
    struct token token;
    *length = 0;
    if (d->values[attr].null) return 0;
    struct analyzer *a = analyzer_get(&w->schema->attrs[attr].analysis);
    analyzer_start(a, d->values[attr].one.s);
    while (analyzer_next(a, &token)) {
        (*length)++;
        count += slice_equal(token.term, term);
    }
    return count;
}

struct query_word {
    int attr;
    float weight;
    uint32_t position;
    struct slice term;
    double idf, average;
};

static size_t naive_words(const struct world *w, const struct rank *rank,
                          struct query_word *out)
{
    size_t n = 0;
    for (size_t f = 0; f < rank->field_count; f++) {
        int attr = rank->fields[f].attr;
        struct analyzer *a = analyzer_get(&w->schema->attrs[attr].analysis);
        struct token token;
        size_t first = n;
        analyzer_start(a, rank->text);
        while (analyzer_next(a, &token))
            out[n++] = (struct query_word){.attr = attr,
                                           .weight = rank->fields[f].weight,
                                           .position = token.position,
                                           .term = op_copy(w->op, token.term)};
        for (size_t i = first; i < n; i++) {
            uint64_t documents = 0, total = 0, frequency = 0;
            for (size_t d = 0; d < w->count; d++) {
                uint32_t length;
                uint32_t count =
                    naive_count(w, &w->versions[d].doc, attr, out[i].term, &length);
                documents += length > 0;
                total += length;
                frequency += count > 0;
            }
            out[i].average = documents ? (double)total / (double)documents : 1;
            out[i].idf = log(1 + ((double)documents - (double)frequency + 0.5) /
                                     ((double)frequency + 0.5));
        }
    }
    return n;
}

/* False when the document does not match. */
static bool naive_text(const struct world *w, const struct rank *rank,
                       const struct query_word *qw, size_t n, const struct doc *d,
                       double *score)
{
    bool any = false, all = true;
    *score = 0;
    for (size_t i = 0; i < n; i++) {
        bool position_met = false;
        for (size_t k = 0; k < n; k++) {
            uint32_t ignored;
            if (qw[k].position == qw[i].position)
                position_met |= naive_count(w, d, qw[k].attr, qw[k].term, &ignored) > 0;
        }
        all &= position_met;
        uint32_t length;
        uint32_t f = naive_count(w, d, qw[i].attr, qw[i].term, &length);
        if (f == 0) continue;
        any = true;
        double dl = bm25_length_decode(bm25_length_encode(length));
        double k = 1.2 * (1 - 0.75 + 0.75 * dl / qw[i].average);
        *score += (double)qw[i].weight * qw[i].idf * f / (f + k);
    }
    return any && (all || !rank->all_words);
}

static size_t naive_rank(const struct world *w, const struct query *q,
                         const struct rank *rank, struct scored *out)
{
    struct query_word qw[64];
    size_t n = 0, terms = rank->kind == RANK_TEXT ? naive_words(w, rank, qw) : 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct doc *d = &w->versions[i].doc;
        double score;
        if (!w->versions[i].live) continue;
        if (q->filter && !filter_matches(q->filter, w->schema, d)) continue;
        if (rank->filter && !filter_matches(rank->filter, w->schema, d)) continue;
        if (rank->kind == RANK_VECTOR) {
            if (!d->vector) continue;
            score = naive_vector(w, rank->vector, d->vector);
        } else if (!naive_text(w, rank, qw, terms, d, &score)) {
            continue;
        }
        out[n++] = (struct scored){.score = score, .doc = d};
    }
    qsort(out, n, sizeof *out, by_score);
    return n;
}

/* ---- comparing ---- */

/* Same scores in the same order; where neighbours' scores differ by rounding only,
 * their order may too, so ids are compared as sets of equal-ish scores by looking them
 * up. */
static void expect_ranking(const struct query_result *r, const struct scored *naive,
                           size_t n, uint32_t top_k)
{
    size_t wanted = n < top_k ? n : top_k;
    assert_int_equal(r->count, wanted);
    for (size_t i = 0; i < wanted; i++) {
        double tolerance = 1e-4 * (1 + fabs(naive[i].score));
        if (fabs(r->hits[i].score - naive[i].score) > tolerance)
            fail_msg("place %zu: score %g instead of %g", i, r->hits[i].score,
                     naive[i].score);
        bool found = false;
        for (size_t k = 0; k < n && !found; k++)
            found = doc_id_compare(&naive[k].doc->id, &r->hits[i].doc.id) == 0 &&
                    fabs(naive[k].score - r->hits[i].score) <= tolerance;
        if (!found) fail_msg("place %zu: a document that does not belong there", i);
        if (i == 0) continue;
        assert_true(r->hits[i - 1].score >= r->hits[i].score);
        if (r->hits[i - 1].score == r->hits[i].score)
            assert_true(doc_id_compare(&r->hits[i - 1].doc.id, &r->hits[i].doc.id) < 0);
    }
}

static struct rank random_rank(struct world *w, enum rank_kind kind,
                               struct rank_field *fields)
{
    struct rank rank = {.kind = kind};
    if (random_index(&w->rng, 4) == 0)
        rank.filter = random_filter(w->op, &w->rng, w->schema, 120, 2);
    if (kind == RANK_VECTOR) {
        float *v = op_new_array(w->op, float, DIM);
        for (int i = 0; i < DIM; i++)
            v[i] = (float)random_index(&w->rng, 7) - 2.5f;
        rank.vector = v;
        return rank;
    }
    struct value text = random_text(w->op, &w->rng);
    rank.text = text.null ? SLICE_LITERAL("red house") : text.one.s;
    fields[0] = (struct rank_field){ATTR_TITLE, 1.5f};
    fields[1] = (struct rank_field){ATTR_BODY, 0.5f};
    rank.field_count = 1 + random_index(&w->rng, 2);
    rank.fields = fields + (rank.field_count == 1 ? random_index(&w->rng, 2) : 0);
    rank.all_words = random_index(&w->rng, 2);
    return rank;
}

static struct query random_query(struct world *w)
{
    struct query q = {.top_k = 1 + random_index(&w->rng, 40),
                      .include_attributes = random_index(&w->rng, 2),
                      .include_vector = random_index(&w->rng, 2)};
    if (random_index(&w->rng, 2))
        q.filter = random_filter(w->op, &w->rng, w->schema, 120, 3);
    return q;
}

typedef void (*experiment)(struct world *w);

static void in_random_worlds(int worlds, int queries, experiment run)
{
    uint64_t seed = test_seed();
    for (int i = 0; i < worlds; i++) {
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        struct world w = world_new(&op, test_random(&seed));
        for (int k = 0; k < queries; k++)
            run(&w);
        world_free(&w);
        op_release(&op);
    }
}

static void one_rank(struct world *w, enum rank_kind kind)
{
    struct rank_field fields[2];
    struct rank rank = random_rank(w, kind, fields);
    struct query q = random_query(w);
    q.ranks = &rank;
    q.rank_count = 1;
    struct scored *naive = op_new_array(w->op, struct scored, w->count + 1);
    size_t n = naive_rank(w, &q, &rank, naive);
    struct query_result r = run_ok(w, &q);
    expect_ranking(&r, naive, n, q.top_k);
    for (size_t i = 0; i < r.count; i++)
        assert_true(q.include_vector || !r.hits[i].doc.vector);
}

static void one_vector_rank(struct world *w)
{
    one_rank(w, RANK_VECTOR);
}

static void one_text_rank(struct world *w)
{
    one_rank(w, RANK_TEXT);
}

static void vector_queries_equal_a_loop(void **state)
{
    (void)state;
    in_random_worlds(150, 10, one_vector_rank);
}

static void text_queries_equal_a_loop(void **state)
{
    (void)state;
    in_random_worlds(100, 8, one_text_rank);
}

/* ---- scores of several ranks ---- */

static struct lists lists_of(struct world *w, const struct query *q)
{
    struct lists l = {.q = q};
    for (size_t i = 0; i < q->rank_count; i++) {
        struct query single = *q;
        single.ranks = &q->ranks[i];
        single.rank_count = 1;
        single.score = NULL;
        single.top_k = q->top_k * 10 < 100 ? 100 : q->top_k * 10;
        l.results[i] = run_ok(w, &single);
    }
    return l;
}

static void expect_score(struct world *w, struct query *q)
{
    struct lists l = lists_of(w, q);
    expect_joined(w, q, &l);
}

/* As v1 joins them: a weighted sum of one share per rank. */
static void one_fusion(struct world *w)
{
    struct rank_field fields[2];
    struct rank ranks[2] = {random_rank(w, RANK_VECTOR, NULL),
                            random_rank(w, RANK_TEXT, fields)};
    enum score_op op = random_index(&w->rng, 2) ? SCORE_RECIPROCAL : SCORE_MINMAX;
    struct score shares[2] = {
        {.op = op, .weight = random_index(&w->rng, 3), .rank = 0, .k = 60},
        {.op = op, .weight = random_index(&w->rng, 3), .rank = 1, .k = 60}};
    struct score sum = {.op = SCORE_SUM,
                        .weight = 1,
                        .children = shares,
                        .child_count = 2};
    struct query q = random_query(w);
    q.ranks = ranks;
    q.rank_count = 2;
    q.score = &sum;
    expect_score(w, &q);
}

static void hybrid_queries_fuse_ranks_and_scores(void **state)
{
    (void)state;
    in_random_worlds(100, 8, one_fusion);
}

/* Several vectors and several texts, each with a filter of its own or none, under any
 * tree of sums, products and boosts. */
static void one_score(struct world *w)
{
    struct rank_field fields[RANKS_MAX][2];
    struct rank ranks[RANKS_MAX];
    struct query q = random_query(w);
    q.rank_count = 1 + random_index(&w->rng, RANKS_MAX);
    for (size_t i = 0; i < q.rank_count; i++)
        ranks[i] = random_rank(w, random_index(&w->rng, 2) ? RANK_VECTOR : RANK_TEXT,
                               fields[i]);
    struct score score = random_score(w, q.rank_count, 3);
    q.ranks = ranks;
    q.score = &score;
    expect_score(w, &q);
}

static void any_tree_of_scores_equals_a_loop(void **state)
{
    (void)state;
    in_random_worlds(100, 6, one_score);
}

/* ---- listings ---- */

static struct query random_listing(struct world *w)
{
    struct query q = random_query(w);
    static const int orders[] = {FILTER_ATTR_ID, ATTR_N, ATTR_WHEN, ATTR_TITLE, ATTR_F};
    q.ordered = random_index(&w->rng, 4);
    q.order_attr = orders[random_index(&w->rng, COUNT_OF(orders))];
    q.descending = q.ordered && random_index(&w->rng, 2);
    q.count = random_index(&w->rng, 2);
    return q;
}

static void one_listing(struct world *w)
{
    struct query q = random_listing(w);
    size_t n;
    struct scored *naive = naive_listing(w, &q, &n);
    struct query_result r = run_ok(w, &q);
    assert_int_equal(r.count, n < q.top_k ? n : q.top_k);
    assert_int_equal(r.match_count, n);
    assert_int_equal(r.more, n > q.top_k);
    for (size_t i = 0; i < r.count; i++)
        assert_int_equal(r.hits[i].doc.id.u64, naive[i].doc->id.u64);
}

static void listings_are_in_the_order_that_was_asked_for(void **state)
{
    (void)state;
    in_random_worlds(150, 20, one_listing);
}

/* Pages of random sizes, one behind the other, are the listing cut in pieces. */
static void one_walk(struct world *w)
{
    struct query q = random_listing(w);
    struct query_place place;
    size_t n, at = 0;
    struct scored *naive = naive_listing(w, &q, &n);
    for (bool more = true; more;) {
        q.top_k = 1 + random_index(&w->rng, 9);
        struct query_result r = run_ok(w, &q);
        for (size_t i = 0; i < r.count; i++, at++)
            assert_int_equal(r.hits[i].doc.id.u64, naive[at].doc->id.u64);
        more = r.more;
        place = r.last;
        q.after = &place;
    }
    assert_int_equal(at, n);
}

static void pages_of_a_listing_are_the_listing(void **state)
{
    (void)state;
    in_random_worlds(60, 8, one_walk);
}

/* Documents with ids from 1000 on are written between the pages, as often as not in
 * front of the page; the others come exactly once, in their order. */
static void one_walk_under_writes(struct world *w)
{
    struct query q = random_listing(w);
    struct query_place place;
    size_t n, at = 0;
    struct scored *naive = naive_listing(w, &q, &n);
    q.top_k = 1 + random_index(&w->rng, 5);
    for (bool more = true; more;) {
        struct query_result r = run_ok(w, &q);
        for (size_t i = 0; i < r.count; i++) {
            if (r.hits[i].doc.id.u64 >= 1000) continue;
            assert_true(at < n);
            assert_int_equal(r.hits[i].doc.id.u64, naive[at++].doc->id.u64);
        }
        more = r.more && w->snapshot->slot < 100;
        place = r.last;
        q.after = &place;
        struct doc added = world_doc(w, 1000 + random_index(&w->rng, 50));
        struct batch batch = {.docs = &added, .doc_count = 1};
        apply(w, &batch);
        if (!more && r.more) return; /* enough; what is left was not looked at */
    }
    assert_int_equal(at, n);
}

static void
paging_meets_every_document_that_stays_once_whatever_is_written(void **state)
{
    (void)state;
    in_random_worlds(150, 1, one_walk_under_writes);
}

/* ---- aggregates ---- */

static const int numbers[] = {ATTR_N, ATTR_F, ATTR_U};
static const int scalars[] = {ATTR_N, ATTR_F, ATTR_U, ATTR_TITLE, ATTR_WHEN, ATTR_FLAG};

static size_t random_attrs(struct world *w, const int *from, size_t count, int *out)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (random_index(&w->rng, 2)) out[n++] = from[i];
    return n;
}

static void one_aggregate(struct world *w)
{
    int sums[COUNT_OF(numbers)], mins[COUNT_OF(scalars)], maxs[COUNT_OF(scalars)];
    struct aggregate a = {.sums = sums, .mins = mins, .maxs = maxs};
    a.sum_count = random_attrs(w, numbers, COUNT_OF(numbers), sums);
    a.min_count = random_attrs(w, scalars, COUNT_OF(scalars), mins);
    a.max_count = random_attrs(w, scalars, COUNT_OF(scalars), maxs);
    a.group_by = random_index(&w->rng, 3)
                     ? scalars[random_index(&w->rng, COUNT_OF(scalars))]
                     : QUERY_UNGROUPED;
    struct query q = random_listing(w);
    q.aggregate = &a;
    size_t n;
    struct scored *naive = naive_listing(w, &q, &n);
    struct query_result r = run_ok(w, &q);
    uint64_t total = 0;
    for (size_t i = 0; i < r.group_count; i++) {
        expect_group(w, &q, &r.groups[i], naive, n);
        total += r.groups[i].count;
        if (i == 0) continue;
        const struct value *before = &r.groups[i - 1].key, *key = &r.groups[i].key;
        assert_false(before->null);
        enum attr_type type = w->schema->attrs[a.group_by].type;
        assert_true(key->null || scalar_compare(type, &before->one, &key->one) < 0);
    }
    assert_int_equal(total, n);
}

static void aggregates_equal_a_loop(void **state)
{
    (void)state;
    in_random_worlds(150, 20, one_aggregate);
}

/* A namespace of `count` documents with numbers from 0 on. */
static struct world numbered_world(struct op *op, uint32_t count)
{
    struct world w = {.op = op, .rng = 1};
    struct keys keys;
    keys_init(&keys, "", "w", (const uint8_t[16]){1});
    w.schema = world_schema(&w.rng);
    w.snapshot = state_empty(&keys, w.schema);
    struct batch batch = {.doc_count = count};
    batch.docs = op_new_array(op, struct doc, count);
    for (uint32_t i = 0; i < count; i++) {
        batch.docs[i] = world_doc(&w, i);
        struct value *values = op_new_array(op, struct value, ATTRS);
        memcpy(values, batch.docs[i].values, ATTRS * sizeof *values);
        values[ATTR_N] = (struct value){.one.i = i};
        values[ATTR_U] = (struct value){.one.u = UINT64_MAX};
        batch.docs[i].values = values;
    }
    apply(&w, &batch);
    return w;
}

/* ---- plans ---- */

/* Documents lie on a line, number n at (n, 1, 1); every text says "tree" and some more,
 * so that the first ones score best. */
static struct world long_world(struct op *op, uint32_t count)
{
    struct world w = {.op = op, .rng = 1};
    struct keys keys;
    keys_init(&keys, "", "w", (const uint8_t[16]){1});
    do { /* of l2 */
        schema_unref(w.schema);
        w.schema = world_schema(&w.rng);
    } while (w.schema->metric != METRIC_L2);
    w.snapshot = state_empty(&keys, w.schema);
    struct batch batch = {.doc_count = count};
    batch.docs = op_new_array(op, struct doc, count);
    for (uint32_t i = 0; i < count; i++) {
        struct value *values = op_new_array(op, struct value, ATTRS);
        float *vector = op_new_array(op, float, DIM);
        vector[0] = (float)i;
        vector[1] = vector[2] = 1;
        for (uint32_t k = 0; k < ATTRS; k++)
            values[k] = VALUE_NULL;
        values[ATTR_TITLE].null = false;
        values[ATTR_TITLE].one.s = slice_str(i < 30000 ? "tree" : "tree house");
        values[ATTR_F] = (struct value){.one.f = i % 4};
        values[ATTR_U] = (struct value){.one.u = i / 2};
        batch.docs[i] =
            (struct doc){.id = number_id(i), .vector = vector, .values = values};
    }
    apply(&w, &batch);
    return w;
}

enum { LONG = 60000 };

/* Hits are documents first, first + step, ...; the plans are as expected. */
static void expect_plan(struct world *w, const struct rank *rank,
                        const struct filter *filter, uint32_t first, uint32_t step,
                        uint64_t search_first, uint64_t retried, uint64_t exact)
{
    struct query q = {.ranks = rank, .rank_count = 1, .top_k = 20, .filter = filter};
    struct query_result r = run_ok(w, &q);
    assert_int_equal(r.count, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(r.hits[i].doc.id.u64, first + i * step);
    assert_int_equal(r.explain.search_first, search_first);
    assert_int_equal(r.explain.retried, retried);
    assert_int_equal(r.explain.exact, exact);
    assert_int_equal(r.explain.filter_first, !search_first && !exact);
}

static void
a_dear_filter_that_leaves_much_is_asked_last_and_a_narrow_one_first(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct world w = long_world(&op, LONG);
    static const float origin[DIM] = {0, 1, 1};
    struct rank_field field = {ATTR_TITLE, 1};
    struct rank ranks[2] = {{.kind = RANK_VECTOR, .vector = origin},
                            {.kind = RANK_TEXT,
                             .text = SLICE_LITERAL("tree"),
                             .fields = &field,
                             .field_count = 1}};
    union scalar one = {.f = 1}, house = {.s = SLICE_LITERAL("*house")},
                 few = {.u = 200};
    struct filter quarter = {.op = FILTER_EQ,
                             .attr = ATTR_F,
                             .type = ATTR_FLOAT,
                             .values = &one,
                             .value_count = 1};
    /* Half of all documents, and none of the best. */
    struct filter far = {.op = FILTER_GLOB,
                         .attr = ATTR_TITLE,
                         .type = ATTR_STRING,
                         .values = &house,
                         .value_count = 1};
    struct filter narrow = {.op = FILTER_LT,
                            .attr = ATTR_U,
                            .type = ATTR_UINT,
                            .values = &few,
                            .value_count = 1};
    for (int i = 0; i < 2; i++) {
        bool text = ranks[i].kind == RANK_TEXT; /* a scan of vectors gains by filters */
        expect_plan(&w, &ranks[i], &quarter, 1, 4, text, 0, 0);
        expect_plan(&w, &ranks[i], &far, 30000, 1, 0, text, 0);
        expect_plan(&w, &ranks[i], &narrow, 0, 1, 0, 0, 1);
    }
    /* What needs all rows of the filter asks it first. */
    struct query q = {
        .ranks = ranks, .rank_count = 1, .top_k = 1, .filter = &quarter, .count = true};
    struct query_result r = run_ok(&w, &q);
    assert_int_equal(r.match_count, LONG / 4);
    assert_true(r.explain.filter_first == 1 && r.explain.filter.scanned == 1);
    q.filter = &narrow;
    r = run_ok(&w, &q);
    assert_true(r.match_count == 400 && r.explain.filter.indexed == 1);
    world_free(&w);
    op_release(&op);
}

static void more_groups_than_the_limit_are_refused_by_name(void **state)
{
    (void)state;
    for (uint32_t more = 0; more < 2; more++) {
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        struct world w = numbered_world(&op, QUERY_GROUPS_MAX + more);
        struct aggregate a = {.group_by = ATTR_N};
        struct query q = {.top_k = 1, .aggregate = &a};
        struct query_result r;
        enum err e = query_run(&op, w.snapshot, &q, &r);
        assert_int_equal(e, more ? ERR_INVALID : ERR_OK);
        if (e)
            assert_string_equal(op.error, "aggregate.group_by: \"n\" has more than "
                                          "10000 values here: filter for fewer");
        else
            assert_int_equal(r.group_count, QUERY_GROUPS_MAX);
        world_free(&w);
        op_release(&op);
    }
}

static void sums_of_integers_are_exact_as_far_as_64_bits_hold_them(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 2; count++) {
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        struct world w = numbered_world(&op, count);
        struct aggregate a = {.sums = (const int[]){ATTR_U},
                              .sum_count = 1,
                              .group_by = QUERY_UNGROUPED};
        struct query q = {.top_k = 1, .aggregate = &a};
        struct query_result r = run_ok(&w, &q);
        const struct aggregate_sum *sum = &r.groups[0].sums[0];
        assert_int_equal(sum->kind, count == 1 ? SUM_UNSIGNED : SUM_FLOATING);
        if (count == 1)
            assert_true(sum->u == UINT64_MAX);
        else
            assert_true(sum->f == 0x1p65);
        world_free(&w);
        op_release(&op);
    }
}

static void expect_refusal(struct query *q, const char *words_expected)
{
    struct op op;
    struct query_result r;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct attr attr = {.name = "list", .type = ATTR_STRING, .array = true};
    struct keys keys;
    keys_init(&keys, "", "w", (const uint8_t[16]){1});
    struct schema *schema = schema_new(0, METRIC_L2, &attr, 1);
    struct snapshot *s = state_empty(&keys, schema);
    assert_int_equal(query_run(&op, s, q, &r), ERR_INVALID);
    assert_non_null(strstr(op.error, words_expected));
    snapshot_unref(s);
    schema_unref(schema);
    op_release(&op);
}

static void what_the_schema_forbids_is_refused_by_name(void **state)
{
    (void)state;
    struct rank_field field = {0, 1};
    struct rank vector = {.kind = RANK_VECTOR}, text = {.kind = RANK_TEXT,
                                                        .text = SLICE_LITERAL("x"),
                                                        .fields = &field,
                                                        .field_count = 1};
    expect_refusal(&(struct query){.ranks = &vector, .rank_count = 1, .top_k = 1},
                   "no vectors");
    expect_refusal(&(struct query){.ranks = &text, .rank_count = 1, .top_k = 1},
                   "\"list\" was not declared with full_text");
    expect_refusal(&(struct query){.ordered = true, .top_k = 1},
                   "order_by.field: attribute \"list\" is an array");
    static const int list = 0;
    expect_refusal(&(struct query){.aggregate = &(struct aggregate){.sums = &list,
                                                                    .sum_count = 1},
                                   .top_k = 1},
                   "aggregate.sum: attribute \"list\" is an array");
    expect_refusal(&(struct query){.aggregate = &(struct aggregate){.group_by = 0},
                                   .top_k = 1},
                   "aggregate.group_by: attribute \"list\" is an array");
}

/* levels of sums around a constant */
static struct score *deep_score(struct score *nodes, int levels)
{
    for (int i = 0; i < levels; i++)
        nodes[i] = (struct score){.op = SCORE_SUM,
                                  .weight = 1,
                                  .children = &nodes[i + 1],
                                  .child_count = 1};
    nodes[levels] = (struct score){.op = SCORE_CONSTANT, .weight = 1};
    return nodes;
}

static void scores_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct score nodes[QUERY_SCORE_DEPTH_MAX + 1];
    struct score unknown = {.op = SCORE_RANK, .rank = 1}, childless = {.op = SCORE_SUM};
    expect_refusal(&(struct query){.score = deep_score(nodes, QUERY_SCORE_DEPTH_MAX),
                                   .top_k = 1},
                   "at most 16 levels");
    expect_refusal(&(struct query){.score = &unknown, .top_k = 1},
                   "score: there is no rank 1");
    expect_refusal(&(struct query){.score = &childless, .top_k = 1}, "have children");
    struct op op;
    struct query_result r;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct world w = numbered_world(&op, 1);
    struct rank second = {.kind = RANK_VECTOR, .vector_field = 1};
    struct query q = {.ranks = &second, .rank_count = 1, .top_k = 1};
    assert_int_equal(query_run(&op, w.snapshot, &q, &r), ERR_INVALID);
    assert_string_equal(op.error, "vector: there is no vector field 1");
    world_free(&w);
    op_release(&op);
}

static void too_many_words_are_refused(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct world w = world_new(&op, 1);
    struct buf text = BUF_INIT;
    for (int i = 0; i <= QUERY_TERMS_MAX; i++)
        buf_printf(&text, "w%d ", i);
    struct rank_field field = {ATTR_TITLE, 1};
    struct rank rank = {.kind = RANK_TEXT,
                        .text = buf_slice(&text),
                        .fields = &field,
                        .field_count = 1};
    struct query q = {.ranks = &rank, .rank_count = 1, .top_k = 1};
    struct query_result r;
    assert_int_equal(query_run(&op, w.snapshot, &q, &r), ERR_INVALID);
    buf_release(&text);
    world_free(&w);
    op_release(&op);
}

static void an_empty_namespace_answers_nothing(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    uint64_t rng = 1;
    struct keys keys;
    keys_init(&keys, "", "w", (const uint8_t[16]){1});
    struct schema *schema = world_schema(&rng);
    struct snapshot *s = state_empty(&keys, schema);
    struct query q = {.top_k = 10};
    struct query_result r;
    assert_int_equal(query_run(&op, s, &q, &r), ERR_OK);
    assert_int_equal(r.count, 0);
    snapshot_unref(s);
    schema_unref(schema);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_queries_equal_a_loop),
        cmocka_unit_test(text_queries_equal_a_loop),
        cmocka_unit_test(hybrid_queries_fuse_ranks_and_scores),
        cmocka_unit_test(any_tree_of_scores_equals_a_loop),
        cmocka_unit_test(listings_are_in_the_order_that_was_asked_for),
        cmocka_unit_test(pages_of_a_listing_are_the_listing),
        cmocka_unit_test(
            paging_meets_every_document_that_stays_once_whatever_is_written),
        cmocka_unit_test(aggregates_equal_a_loop),
        cmocka_unit_test(
            a_dear_filter_that_leaves_much_is_asked_last_and_a_narrow_one_first),
        cmocka_unit_test(more_groups_than_the_limit_are_refused_by_name),
        cmocka_unit_test(sums_of_integers_are_exact_as_far_as_64_bits_hold_them),
        cmocka_unit_test(scores_that_make_no_sense_are_refused),
        cmocka_unit_test(what_the_schema_forbids_is_refused_by_name),
        cmocka_unit_test(too_many_words_are_refused),
        cmocka_unit_test(an_empty_namespace_answers_nothing),
    };
    return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}
