/*
 * Random questions to random worlds: schemas, documents with nulls and arrays, segments
 * stored and in memory, with an index and without, dead rows; filters, listings and
 * their pages, counts, aggregates, ranks and their fusions. The model is an array and a
 * loop. ELACSYM_QUERIES=n asks n questions instead of a few thousand (make
 * query-random).
 */
#include "base/mem.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "ns/snapshot.h"
#include "segment/segment_stats.h"
#include "store/store_mem.h"
#include "unit/query_model.h"

enum {
    QUERIES_DEFAULT = 4000,
    SOURCES_MAX = 6,
    ATTRS_MAX = 8,
    LIST_MAX = 10000,
    LARGE_FROM = 50000, /* rows, from which on a search may come before the filter */
    LARGE_EVERY = 5000  /* questions, after which one world is large */
};

struct backing {
    struct store *store;
    struct cache *cache;
    uint32_t objects;
};

/* What was asked, so that the run can say so. */
static struct {
    uint64_t worlds, rows, questions[4], filtered, plans[6], conditions[3], walked,
        deepened;
} asked;

/* ---- worlds ---- */

static struct segment *segment_of(struct op *op, struct backing *b,
                                  struct schema *schema, const struct doc *docs,
                                  uint32_t count, bool stored)
{
    struct segment_options options = {.zstd_level = stored ? 3 : 0};
    struct segment_builder *builder = segment_builder_new(schema, &options);
    struct buf bytes = BUF_INIT;
    struct segment *s = NULL;
    char key[32];
    for (uint32_t i = 0; i < count; i++)
        segment_builder_add(builder, &docs[i]);
    assert_int_equal(segment_builder_finish(op, builder, &bytes), ERR_OK);
    if (stored) {
        (void)snprintf(key, sizeof key, "segment-%u", b->objects++);
        struct slice whole = buf_slice(&bytes);
        struct segment_stats *stats = NULL;
        assert_int_equal(store_put(op, b->store, key, &whole, 1), ERR_OK);
        assert_int_equal(segment_open(op, b->cache, key, bytes.size, &s), ERR_OK);
        assert_int_equal(segment_stats_make(op, whole, &stats), ERR_OK);
        if (b->objects % 4) segment_stats_attach(s, stats);
        segment_stats_unref(stats);
    } else {
        assert_int_equal(segment_open_memory(op, &bytes, &s), ERR_OK);
    }
    buf_release(&bytes);
    return s;
}

/* Ids of source i are i modulo SOURCES_MAX, but that dead rows have any. */
static void add_source(struct world *w, struct backing *b, uint32_t index,
                       uint32_t count)
{
    struct doc *docs = op_new_array(w->op, struct doc, count);
    struct source *source = &w->snapshot->sources[index];
    struct rowset *dead = rowset_new();
    bool kills = random_index(&w->rng, 3);
    for (uint32_t i = 0; i < count; i++) {
        struct doc_id id = number_id((uint64_t)i * SOURCES_MAX + index);
        bool dies = kills && random_index(&w->rng, 5) == 0;
        if (dies) id.u64 += random_index(&w->rng, SOURCES_MAX - index);
        docs[i] = random_doc(w->op, &w->rng, id, w->schema);
        w->versions[w->count++] = (struct version){docs[i], !dies};
        if (dies) rowset_add(dead, i); /* ids ascend, so do rows */
        w->snapshot->row_count += !dies;
    }
    source->stored = random_index(&w->rng, 2);
    source->segment = segment_of(w->op, b, w->schema, docs, count, source->stored);
    source->dead_count = (uint32_t)rowset_count(dead);
    if (source->dead_count > 0)
        source->dead = dead;
    else
        rowset_unref(dead);
}

static uint32_t random_count(uint64_t *rng, bool first, bool large)
{
    if (first && large) return LARGE_FROM + random_index(rng, 2000);
    if (first && random_index(rng, 6) == 0) return 4096 + random_index(rng, 2000);
    return 1 + random_index(rng, random_index(rng, 3) ? 40 : 300);
}

static struct world random_world(struct op *op, struct backing *b, uint64_t seed,
                                 bool large)
{
    struct world w = {.op = op, .rng = seed};
    uint32_t counts[SOURCES_MAX], total = 0;
    uint32_t sources = random_index(&w.rng, SOURCES_MAX) + large;
    if (sources > SOURCES_MAX) sources = SOURCES_MAX;
    for (uint32_t i = 0; i < sources; i++) {
        counts[i] = random_count(&w.rng, i == 0, large);
        total += counts[i];
    }
    w.schema = random_schema(&w.rng, random_index(&w.rng, 3) ? 4 : 0,
                             1 + random_index(&w.rng, ATTRS_MAX));
    w.snapshot = mem_calloc(1, sizeof *w.snapshot + sources * sizeof(struct source));
    atomic_init(&w.snapshot->refs, 1);
    w.snapshot->schema = schema_ref(w.schema);
    w.snapshot->id_kind = sources ? ID_U64 : ID_NONE;
    w.snapshot->source_count = sources;
    w.versions = op_new_array(op, struct version, total);
    for (uint32_t i = 0; i < sources; i++)
        add_source(&w, b, i, counts[i]);
    asked.worlds++;
    asked.rows += total;
    return w;
}

/* ---- questions ---- */

static struct query random_question(struct world *w)
{
    struct query q = {.top_k = 1 + random_index(&w->rng, 50),
                      .count = random_index(&w->rng, 2)};
    uint32_t ids = (uint32_t)w->count;
    if (random_index(&w->rng, 8))
        q.filter =
            random_filter(w->op, &w->rng, w->schema, ids, random_index(&w->rng, 5));
    asked.filtered += q.filter != NULL;
    return q;
}

static void note_plans(const struct query_result *r)
{
    asked.plans[0] += r->explain.filter_first;
    asked.plans[1] += r->explain.exact;
    asked.plans[2] += r->explain.skipped;
    asked.plans[3] += r->explain.unfiltered;
    asked.plans[4] += r->explain.search_first;
    asked.plans[5] += r->explain.retried;
    asked.walked += r->explain.walked;
    asked.conditions[0] += r->explain.filter.indexed;
    asked.conditions[1] += r->explain.filter.scanned;
    asked.conditions[2] += r->explain.filter.checked;
}

static void choose_order(struct world *w, struct query *q)
{
    int attr = (int)random_index(&w->rng, w->schema->attr_count + 1) - 1;
    q->ordered = random_index(&w->rng, 5);
    q->descending = q->ordered && random_index(&w->rng, 2);
    q->order_attr = attr >= 0 && w->schema->attrs[attr].array ? FILTER_ATTR_ID : attr;
}

/* All pages of a listing, or its first ones. */
static void ask_listing(struct world *w)
{
    struct query q = random_question(w);
    struct query_place place;
    size_t n, at = 0;
    choose_order(w, &q);
    struct scored *naive = naive_listing(w, &q, &n);
    bool more = true;
    for (int page = 0; page < 6 && more; page++) {
        struct query_result r = run_ok(w, &q);
        note_plans(&r);
        size_t left = n - at;
        assert_int_equal(r.count, left < q.top_k ? left : q.top_k);
        assert_true(!q.count || r.match_count == n);
        for (size_t i = 0; i < r.count; i++, at++)
            assert_int_equal(r.hits[i].doc.id.u64, naive[at].doc->id.u64);
        assert_int_equal(r.more, at < n);
        more = r.more;
        place = r.last;
        q.after = &place;
    }
}

static size_t choose_attrs(struct world *w, bool numbers, int *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < w->schema->attr_count; i++) {
        const struct attr *a = &w->schema->attrs[i];
        bool number =
            a->type == ATTR_INT || a->type == ATTR_UINT || a->type == ATTR_FLOAT;
        if (a->array || (numbers && !number)) continue;
        if (random_index(&w->rng, 2)) out[n++] = (int)i;
    }
    return n;
}

static void ask_aggregate(struct world *w)
{
    int sums[ATTRS_MAX], mins[ATTRS_MAX], maxs[ATTRS_MAX], groups[ATTRS_MAX];
    struct aggregate a = {.sums = sums,
                          .mins = mins,
                          .maxs = maxs,
                          .group_by = QUERY_UNGROUPED};
    struct query q = random_question(w);
    size_t n, group_count = choose_attrs(w, false, groups);
    uint64_t total = 0;
    a.sum_count = choose_attrs(w, true, sums);
    a.min_count = choose_attrs(w, false, mins);
    a.max_count = choose_attrs(w, false, maxs);
    if (group_count) a.group_by = groups[random_index(&w->rng, group_count)];
    q.aggregate = &a;
    struct scored *naive = naive_listing(w, &q, &n);
    struct query_result r = run_ok(w, &q);
    for (size_t i = 0; i < r.group_count; i++) {
        expect_group(w, &q, &r.groups[i], naive, n);
        total += r.groups[i].count;
    }
    assert_true(total == n);
}

/* ---- ranks ---- */

static bool random_rank(struct world *w, struct rank *rank, struct rank_field *field)
{
    static const char *const texts[] = {"a", "b", "ab ü", "a b ab", "aa bb"};
    *rank = (struct rank){.all_words = random_index(&w->rng, 2)};
    field->attr = (int)random_index(&w->rng, w->schema->attr_count);
    field->weight = 1 + (float)random_index(&w->rng, 3);
    if (random_index(&w->rng, 4) == 0)
        rank->filter = random_filter(w->op, &w->rng, w->schema, (uint32_t)w->count, 2);
    if (w->schema->attrs[field->attr].full_text) {
        rank->kind = RANK_TEXT;
        rank->text = slice_str(texts[random_index(&w->rng, COUNT_OF(texts))]);
        rank->fields = field;
        rank->field_count = 1;
        return true;
    }
    float *vector = op_new_array(w->op, float, w->schema->vector_dim + 1);
    for (uint32_t i = 0; i < w->schema->vector_dim; i++)
        vector[i] = (float)random_index(&w->rng, 9) - 3.5f;
    rank->vector = vector;
    return w->schema->vector_dim > 0;
}

static bool allowed(const struct world *w, const struct query *q,
                    const struct rank *rank, const struct doc *d)
{
    return (!q->filter || filter_matches(q->filter, w->schema, d)) &&
           (!rank->filter || filter_matches(rank->filter, w->schema, d));
}

/* The rank's whole list without any filter, then filtered by the loop: filters change
 * no score, and what they leave stays in its order. False: the list has too many for a
 * query to tell. */
static bool filtered_list(struct world *w, const struct query *q,
                          const struct rank *rank, size_t depth,
                          struct query_result *out)
{
    struct rank bare = *rank;
    struct query whole = {.ranks = &bare, .rank_count = 1, .top_k = LIST_MAX};
    bare.filter = NULL;
    *out = run_ok(w, &whole);
    size_t kept = 0;
    bool whole_list = out->count < LIST_MAX;
    for (size_t i = 0; i < out->count && kept < depth; i++)
        if (allowed(w, q, rank, version_of(w, &out->hits[i].doc.id)))
            out->hits[kept++] = out->hits[i];
    out->count = kept;
    return whole_list || kept == depth;
}

static void ask_rank(struct world *w)
{
    struct rank rank;
    struct rank_field field;
    struct query q = random_question(w);
    struct query_result expected;
    if (!random_rank(w, &rank, &field)) return;
    q.ranks = &rank;
    q.rank_count = 1;
    if (!filtered_list(w, &q, &rank, q.top_k, &expected)) return;
    struct query_result r = run_ok(w, &q);
    note_plans(&r);
    assert_int_equal(r.count, expected.count);
    for (size_t i = 0; i < r.count; i++) {
        assert_int_equal(r.hits[i].doc.id.u64, expected.hits[i].doc.id.u64);
        assert_true(r.hits[i].score == expected.hits[i].score);
    }
}

/* Reciprocal ranks, as the JSON front end asks for them. */
static struct score reciprocal_ranks(struct world *w, size_t ranks)
{
    struct score *leaves = op_new_array(w->op, struct score, ranks);
    double k = random_index(&w->rng, 3) ? 60 : random_index(&w->rng, 3000);
    for (size_t i = 0; i < ranks; i++)
        leaves[i] = (struct score){.op = SCORE_RECIPROCAL,
                                   .weight = (double)random_index(&w->rng, 4),
                                   .rank = (uint32_t)i,
                                   .k = k};
    return (struct score){.op = SCORE_SUM,
                          .weight = 1,
                          .children = leaves,
                          .child_count = ranks};
}

/* The whole lists of all ranks, and how they would be joined. No document that none of
 * the lists holds to their depth is worth more than the last one of the answer. */
static void expect_threshold(struct world *w, const struct query *q,
                             const struct lists *whole, const struct query_result *r)
{
    if (r->count < q->top_k || r->explain.depth == QUERY_DEPTH_MAX) return;
    double bar = r->hits[r->count - 1].score;
    for (size_t i = 0; i < q->rank_count; i++)
        for (size_t k = r->explain.depth; k < whole->results[i].count; k++) {
            const struct doc *d = version_of(w, &whole->results[i].hits[k].doc.id);
            struct lists cut = *whole;
            double seen = 0;
            for (size_t n = 0; n < q->rank_count; n++) {
                struct query_result *list = &cut.results[n];
                if (list->count > r->explain.depth) list->count = r->explain.depth;
                struct score place = {.op = SCORE_RECIPROCAL, .weight = 1};
                seen += naive_leaf(list, &place, d);
            }
            if (seen > 0) continue;
            double score = naive_score(w, whole, q->score, d);
            assert_true(score <= bar + 1e-12);
        }
}

static void ask_fusion(struct world *w)
{
    struct rank ranks[RANKS_MAX];
    struct rank_field fields[RANKS_MAX];
    struct query q = random_question(w);
    struct lists l = {.q = &q};
    size_t wanted = 1 + random_index(&w->rng, RANKS_MAX);
    bool places = random_index(&w->rng, 2);
    q.top_k = 1 + random_index(&w->rng, 20);
    size_t least = q.top_k * 10 < 100 ? 100 : q.top_k * 10;
    while (q.rank_count < wanted &&
           random_rank(w, &ranks[q.rank_count], &fields[q.rank_count])) {
        if (!filtered_list(w, &q, &ranks[q.rank_count], LIST_MAX,
                           &l.results[q.rank_count]))
            return;
        q.rank_count++;
    }
    if (q.rank_count == 0) return;
    struct score score =
        places ? reciprocal_ranks(w, q.rank_count) : random_score(w, q.rank_count, 3);
    q.ranks = ranks;
    q.score = &score;
    struct query_result r = run_ok(w, &q);
    assert_true(r.explain.depth >= least);
    asked.deepened += r.explain.depth > least;
    if (places) expect_threshold(w, &q, &l, &r);
    for (size_t i = 0; i < q.rank_count; i++)
        if (l.results[i].count > r.explain.depth) l.results[i].count = r.explain.depth;
    expect_joined(w, &q, &l);
}

/* ---- runs ---- */

static void ask_world(struct world *w, uint64_t questions)
{
    static void (*const kinds[4])(struct world *) = {ask_listing, ask_aggregate,
                                                     ask_rank, ask_fusion};
    for (uint64_t i = 0; i < questions; i++) {
        uint32_t kind = random_index(&w->rng, COUNT_OF(kinds));
        kinds[kind](w);
        asked.questions[kind]++;
    }
}

static void random_questions_to_random_worlds_equal_a_loop(void **state)
{
    (void)state;
    enum { A_WORLD = 40 };
    const char *given = getenv("ELACSYM_QUERIES");
    uint64_t wanted = given ? strtoull(given, NULL, 10)
                            : BY_VALGRIND(QUERIES_DEFAULT, QUERIES_DEFAULT / 4);
    uint64_t seed = test_seed();
    for (uint64_t done = 0; done < wanted; done += A_WORLD) {
        struct backing b = {.store = store_mem_new()};
        struct op op;
        b.cache = cache_new(b.store, 64 << 20);
        op_init(&op, OP_NO_DEADLINE, 0);
        bool large = given && done % LARGE_EVERY == 0;
        struct world w = random_world(&op, &b, test_random(&seed), large);
        ask_world(&w, A_WORLD);
        snapshot_unref(w.snapshot);
        schema_unref(w.schema);
        op_release(&op);
        cache_free(b.cache);
        store_free(b.store);
    }
    print_message("%llu worlds, %llu rows; %llu listings, %llu aggregates, %llu ranks, "
                  "%llu fusions; %llu filters\n",
                  (unsigned long long)asked.worlds, (unsigned long long)asked.rows,
                  (unsigned long long)asked.questions[0],
                  (unsigned long long)asked.questions[1],
                  (unsigned long long)asked.questions[2],
                  (unsigned long long)asked.questions[3],
                  (unsigned long long)asked.filtered);
    print_message(
        "sources: %llu filter first, %llu exact, %llu skipped, %llu unfiltered, "
        "%llu search first, %llu of them in vain, %llu in the order of an index; "
        "%llu fusions of deeper lists; "
        "conditions: %llu indexed, %llu scanned, %llu checked\n",
        (unsigned long long)asked.plans[0], (unsigned long long)asked.plans[1],
        (unsigned long long)asked.plans[2], (unsigned long long)asked.plans[3],
        (unsigned long long)asked.plans[4], (unsigned long long)asked.plans[5],
        (unsigned long long)asked.walked, (unsigned long long)asked.deepened,
        (unsigned long long)asked.conditions[0],
        (unsigned long long)asked.conditions[1],
        (unsigned long long)asked.conditions[2]);
    if (wanted < QUERIES_DEFAULT) return;
    assert_true(asked.plans[2] && asked.plans[3] && asked.walked);
    assert_true(asked.conditions[0] && asked.conditions[1] && asked.conditions[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_questions_to_random_worlds_equal_a_loop),
    };
    return cmocka_run_group_tests_name("query_random", tests, NULL, NULL);
}
