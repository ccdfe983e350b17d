/*
 * Neighbours of a query among many segments, by their vector indexes.
 *
 * All segments with an index take part in one search: what one has found makes the
 * others leave out clusters and rows, and the records that all of them ask for first
 * are read in one round. Indexes give approximate scores; a few more rows than wanted
 * are kept, and their vectors decide. Under a filter it may turn out that they cannot:
 * then of what the search came across besides as many more are compared as that takes.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment.h"
#include "segment/segment_parts.h"
#include "segment/segment_vectors.h"
#include "vec/distance.h"

enum {
    ROUND_RANGES = 256,
    SEARCH_RECORDS = 64, /* of one search, asked for at once */
    ROUND_BYTES_MAX = 32 << 20,
    SPARE = 120 /* candidates under a filter, beyond those that are compared first */
};

/* ---- what is scanned ---- */

enum { SCAN_ROWS_ALWAYS = 512, SCAN_ROWS_IN_MEMORY = 64, SHORT_DIM = 64 };

/* Nanoseconds, about: a row compared by its vector; a code, of 1 bit a coordinate, or
 * of 8 where the index looks at no others. */
static double row_cost(double dim)
{
    return 100 + 0.6 * dim;
}

static double code_cost(double dim)
{
    return dim <= SHORT_DIM ? 14 : 10 + dim / 100;
}

/* Codes of an index that are looked at where one in `part` rows is allowed: clusters
 * farther away have to stand in for the rows that are left out of the near ones. */
static double codes_of(const struct segment *s, double part, float recall)
{
    const double spread = 2.5;
    double vectors = s->layout.vector_count, clusters = ivf_clusters(s->ivf);
    double probes = ivf_probes(s->ivf, recall, true) * part * spread;
    return probes < clusters ? vectors * probes / clusters : vectors;
}

bool segment_scans(const struct segment *s, uint64_t rows, float recall)
{
    const double dim = s->layout.vector_dim, row_count = s->layout.row_count;
    /* Of a stored one the blocks of so few vectors are read sooner than records. */
    bool at_hand = s->ivf && !s->cache;
    if (rows <= (at_hand ? SCAN_ROWS_IN_MEMORY : SCAN_ROWS_ALWAYS)) return true;
    if (!s->ivf) return false;
    if (ivf_walks(s->ivf, rows)) return dim <= SHORT_DIM; /* codes save nothing */
    double codes = codes_of(s, row_count / (double)rows, recall);
    return (double)rows * row_cost(dim) < codes * code_cost(dim);
}

/* ---- ranges of several segments, pinned together ---- */

struct range {
    const struct segment *segment;
    struct cache_pin pin;
};

struct round {
    struct range ranges[ROUND_RANGES];
    struct cache_pin pins[ROUND_RANGES]; /* those of stored segments, while pinned */
    size_t count, pin_count;
    uint64_t bytes;
    struct cache *cache;
};

/* The check of a range, which names its segment: a round has several. */
static enum err named_check(struct op *op, const void *context, uint64_t offset,
                            struct slice data)
{
    const struct segment *s = context;
    enum err e = segment_range(s, offset, data.size).check(op, s, offset, data);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}

static void round_add(struct round *r, const struct segment *s, struct cache_pin pin)
{
    assert(r->count < ROUND_RANGES);
    pin.check = named_check;
    r->ranges[r->count++] = (struct range){s, pin};
    r->bytes += pin.size;
}

static bool round_is_full(const struct round *r)
{
    return r->count == ROUND_RANGES || r->bytes >= ROUND_BYTES_MAX;
}

static enum err round_pin(struct op *op, struct round *r)
{
    r->pin_count = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct range *range = &r->ranges[i];
        if (range->segment->cache) {
            r->cache = range->segment->cache;
            r->pins[r->pin_count++] = range->pin;
        } else {
            (void)segment_pin(op, range->segment, &range->pin, 1); /* cannot fail */
        }
    }
    enum err e = r->pin_count ? cache_pin(op, r->cache, r->pins, r->pin_count) : ERR_OK;
    if (e) r->pin_count = 0;
    size_t next = 0;
    for (size_t i = 0; !e && i < r->count; i++)
        if (r->ranges[i].segment->cache) r->ranges[i].pin = r->pins[next++];
    return e;
}

/* Empties it too. */
static void round_unpin(struct round *r)
{
    if (r->pin_count) cache_unpin(r->cache, r->pins, r->pin_count);
    r->count = r->pin_count = 0;
    r->bytes = 0;
}

/* ---- one search by index ---- */

struct search {
    const struct segment_target *target;
    struct ivf_search *ivf;
    struct slice slots; /* where a filter needs them */
    struct ivf_record records[SEARCH_RECORDS];
    size_t record_count; /* asked for and not scanned yet */
    size_t first_range;  /* of the round, while it is pinned */
    size_t taken;        /* records in the round */
};

struct near {
    const struct segment_near *what;
    bool scans; /* few allowed rows, rather than looking for them by the index */
    struct vector_query query;
    /* Results; rows to look for, and with those between which their vectors decide; of
     * these so many are compared at first, … */
    uint32_t wanted, k, keep, decided;
    bool staged;      /* … and then as many more as that shows to be needed */
    uint64_t vectors; /* of all targets */
    struct search *searches;
    size_t count;
    bool filtered; /* a filter leaves out many rows of a target */
    /* By approximate scores, but for scanned rows. What is worse than what was found,
     * now and before, is left out; the vectors decide between the candidates. */
    struct topk found, candidates;
    double worst;      /* approximate score among those compared */
    double error_sum;  /* of approximate scores, over */
    uint64_t compared; /* so many */
    struct round *round;
    struct segment_work *work;
};

static int compare_rows(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static enum err fail_target(struct op *op, enum err e, const struct segment_target *t)
{
    return e ? op_fail(op, e, "segment %s", t->segment->key) : ERR_OK;
}

static void finish_search(struct op *op, struct near *n, struct search *s)
{
    struct hit *hits;
    size_t count;
    struct ivf_counters c = ivf_search_counters(s->ivf);
    ivf_search_found(s->ivf, &hits, &count);
    for (size_t i = 0; i < count; i++) {
        hits[i].source = s->target->source;
        topk_push(&n->candidates, hits[i]);
    }
    n->work->indexed++;
    n->work->clusters += c.clusters;
    n->work->codes += c.codes;
    n->work->rows += c.rows;
    op->counters.rows_scored += c.rows;
}

/* Asks for the next records; a search that wants none is over. */
static enum err advance(struct op *op, struct near *n, struct search *s)
{
    enum err e = ivf_search_next(op, s->ivf, &n->found, s->records, SEARCH_RECORDS,
                                 &s->record_count);
    if (!e && s->record_count == 0) finish_search(op, n, s);
    return fail_target(op, e, s->target);
}

static enum err begin(struct op *op, struct near *n, struct search *s)
{
    const struct segment *segment = s->target->segment;
    struct ivf_options options = {.k = n->k,
                                  .rerank = n->decided,
                                  .keep = n->keep,
                                  .spare = n->filtered ? SPARE : 0,
                                  .recall = n->what->recall,
                                  .share = (float)segment_vector_count(segment) /
                                           (float)n->vectors,
                                  .allowed = s->target->allowed,
                                  .slots = s->slots,
                                  .shares = true,
                                  .source = s->target->source,
                                  .beside = n->searches->ivf};
    enum err e = ivf_search_begin(op, segment->ivf, n->what->query, &options, &s->ivf);
    return fail_target(op, e, s->target);
}

/* Puts as many of its records into the round as fit. */
static void add_records(struct near *n, struct search *s)
{
    const struct segment *segment = s->target->segment;
    s->first_range = n->round->count;
    s->taken = 0;
    while (s->taken < s->record_count && !round_is_full(n->round)) {
        const struct ivf_record *r = &s->records[s->taken++];
        round_add(n->round, segment,
                  segment_range(segment, segment->records->offset + r->offset,
                                r->size));
    }
}

static enum err scan_records(struct op *op, struct near *n, struct search *s)
{
    for (size_t i = 0; i < s->taken; i++) {
        struct slice data = n->round->ranges[s->first_range + i].pin.data;
        s->records[i].bytes = slice_of(data.data, s->records[i].size);
        n->work->bytes += data.size;
    }
    enum err e = ivf_search_scan(op, s->ivf, s->records, s->taken, &n->found);
    s->record_count -= s->taken;
    for (size_t i = 0; i < s->record_count; i++)
        s->records[i] = s->records[s->taken + i];
    return fail_target(op, e, s->target);
}

/* One round for all searches that want records; *any: there was one. */
static enum err search_round(struct op *op, struct near *n, bool *any)
{
    for (size_t i = 0; i < n->count; i++)
        add_records(n, &n->searches[i]);
    *any = n->round->count > 0;
    enum err e = round_pin(op, n->round);
    for (size_t i = 0; i < n->count && !e; i++) {
        struct search *s = &n->searches[i];
        if (s->taken == 0) continue;
        e = scan_records(op, n, s);
        if (!e && s->record_count == 0) e = advance(op, n, s);
    }
    round_unpin(n->round);
    return e;
}

static enum err search_all(struct op *op, struct near *n)
{
    enum err e = ERR_OK;
    bool any = true;
    for (size_t i = 0; i < n->count && !e; i++)
        e = begin(op, n, &n->searches[i]);
    for (size_t i = 0; i < n->count && !e; i++)
        e = advance(op, n, &n->searches[i]);
    while (!e && any)
        e = search_round(op, n, &any);
    return e;
}

/* ---- slots, for filters that leave few rows ---- */

static uint64_t matches_of(const struct segment_target *t)
{
    uint32_t row_count = t->segment->layout.row_count;
    return t->allowed ? rowset_count_range(t->allowed, 0, row_count) : row_count;
}

/* Pins the slots of those that a filter makes look rows up, in one round of its own;
 * there are none if all do without. */
static enum err pin_slots(struct op *op, struct near *n, struct round **out)
{
    struct search *walkers[ROUND_RANGES];
    size_t count = 0;
    for (size_t i = 0; i < n->count && count < ROUND_RANGES; i++) {
        const struct segment_target *t = n->searches[i].target;
        if (t->allowed && ivf_walks(t->segment->ivf, matches_of(t)))
            walkers[count++] = &n->searches[i];
    }
    if (count == 0) return ERR_OK;
    struct round *round = op_new(op, struct round);
    if (!round) return ERR_LIMIT;
    for (size_t i = 0; i < count; i++) {
        const struct segment *s = walkers[i]->target->segment;
        const struct section *slots = layout_section(&s->layout, SECTION_SLOTS, 0);
        round_add(round, s, segment_section_range(s, slots));
    }
    enum err e = round_pin(op, round);
    for (size_t i = 0; i < count && !e; i++) {
        const struct range *range = &round->ranges[i];
        size_t size = (size_t)ivf_slots_size(range->segment->ivf);
        walkers[i]->slots = slice_of(range->pin.data.data, size);
    }
    *out = round;
    return e;
}

/* ---- exact scores ---- */

static const struct segment_target *target_of(const struct near *n, uint32_t source)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->searches[i].target->source == source) return n->searches[i].target;
    return NULL;
}

static int compare_hits(const void *a, const void *b)
{
    return compare_rows(NULL, a, b);
}

static enum err score_hit(struct op *op, struct near *n, struct hit hit,
                          const struct segment *s, struct slice data, struct topk *best)
{
    const float *vector = segment_range_vector(s, data, segment_slot(s, hit.row));
    float about = hit.score;
    hit.score = vector_score(&n->query, vector);
    n->error_sum += fabs((double)hit.score - (double)about);
    n->compared++;
    if (isnan(hit.score))
        return op_fail(op, ERR_CORRUPT, "the vector of row %u is not finite", hit.row);
    topk_push(best, hit);
    return ERR_OK;
}

/* Adds the documents of the hits, as far as the round has room for them: they stay in
 * the cache for who fetches them. */
static void add_documents(struct near *n, const struct hit *hits, size_t count)
{
    for (size_t i = 0; i < count && !round_is_full(n->round); i++) {
        const struct segment_target *t = target_of(n, hits[i].source);
        assert(t); /* whose vectors wait is a target's */
        const struct segment *s = t->segment;
        if (!s->cache || !s->blocks || !cache_is_far(s->cache)) continue;
        uint32_t block = segment_block_of(s, hits[i].row);
        round_add(n->round, s, segment_block_range(s, block));
    }
}

/* Scores the hits of one round, whose vectors' ranges are at their places in it. */
static enum err score_round(struct op *op, struct near *n, const struct hit *hits,
                            size_t count, const size_t *places, struct topk *best)
{
    if (n->what->documents) add_documents(n, hits, count);
    enum err e = round_pin(op, n->round);
    for (size_t i = 0; i < count && !e; i++) {
        const struct range *range = &n->round->ranges[places[i]];
        if (i + 1 < count)
            __builtin_prefetch(n->round->ranges[places[i + 1]].pin.data.data);
        e = score_hit(op, n, hits[i], range->segment, range->pin.data, best);
        if (e) e = op_fail(op, e, "segment %s", range->segment->key);
    }
    round_unpin(n->round);
    return e;
}

/* Adds the range of a hit's vector unless it is the last one; its place. */
static size_t add_vector(struct near *n, const struct segment *s, uint32_t row)
{
    struct round *r = n->round;
    struct cache_pin pin = segment_vector_range(s, segment_slot(s, row));
    const struct range *last = r->count ? &r->ranges[r->count - 1] : NULL;
    if (!last || last->segment != s || last->pin.offset != pin.offset)
        round_add(r, s, pin);
    return r->count - 1;
}

/* Compares the candidates from..to, which are in order, by their vectors. */
static enum err compare(struct op *op, struct near *n, size_t from, size_t to,
                        struct topk *best)
{
    struct hit *hits = n->candidates.hits + from;
    size_t count = to - from, pending = 0;
    size_t *places = op_new_array(op, size_t, count);
    struct hit *waiting = op_new_array(op, struct hit, count);
    enum err e = places && waiting ? ERR_OK : ERR_LIMIT;
    n->worst = (double)hits[count - 1].score;
    qsort(hits, count, sizeof *hits, compare_hits);
    for (size_t i = 0; i < count && !e; i++) {
        const struct segment_target *t = target_of(n, hits[i].source);
        if (!t) {
            topk_push(best, hits[i]); /* of a scan */
            continue;
        }
        if (round_is_full(n->round)) {
            e = score_round(op, n, waiting, pending, places, best);
            pending = 0;
            if (e) break;
        }
        waiting[pending] = hits[i];
        places[pending++] = add_vector(n, t->segment, hits[i].row);
        n->work->exact++;
    }
    return e ? e : score_round(op, n, waiting, pending, places, best);
}

/*
 * Can the codes tell the best from the rest, once so many candidates, down to the
 * approximate score `worst`, are compared exactly? A filter may leave rows that are all
 * about as far from the query, far more of them than are compared: then as many lie
 * within the error of the codes as there are within the distance from the last that is
 * wanted to the last that was compared, times the one over the other. Unless that
 * distance is so much longer than the error that nothing beyond it counts.
 */
static bool is_settled(const struct near *n, const struct topk *best, size_t compared,
                       double worst)
{
    const double part_max = 0.2; /* of the wanted; about a quarter of them is missed */
    const double beyond_error = 2;
    if (!n->staged || n->compared == 0 || best->count < best->k) return true;
    double error = 2 * n->error_sum / (double)n->compared;
    double distance = (double)topk_floor(best) - worst;
    double beyond = (double)compared - (double)best->k;
    return distance >= beyond_error * error ||
           beyond * error <= part_max * distance * (double)best->k;
}

/* How many candidates should be compared, by what those told that were. */
static size_t needed(const struct near *n, const struct topk *best, size_t compared)
{
    double worst = n->worst;
    size_t count = n->candidates.count, needed = compared;
    while (needed < count && !is_settled(n, best, needed, worst))
        worst = (double)n->candidates.hits[needed++].score;
    return needed;
}

/* Adds the best candidates by exact scores. *settled: no others should have been
 * compared. */
static enum err decide(struct op *op, struct near *n, struct topk *best, bool *settled)
{
    struct topk *c = &n->candidates;
    enum err e = ERR_OK;
    topk_finish(c);
    if (n->what->check) e = n->what->check(op, n->what->context, c->hits, &c->count);
    size_t compared = 0, next = c->count < n->decided ? c->count : n->decided;
    while (!e && next > compared) {
        e = compare(op, n, compared, next, best);
        compared = next;
        next = needed(n, best, compared);
    }
    for (size_t i = compared; i < c->count && i < n->wanted && !e; i++)
        topk_push(best, c->hits[i]);
    bool all = c->count < c->k || n->what->check;
    *settled = all || is_settled(n, best, compared, n->worst);
    return e;
}

/* ---- */

/* Is the index the way to search it? */
static bool by_index(const struct near *n, const struct segment_target *t)
{
    if (!t->segment->ivf || n->what->recall >= 1) return false;
    if (n->query.norm > IVF_LENGTH_MAX) return false;
    if (!ivf_reaches(t->segment->ivf, n->what->recall)) return false;
    if (!t->allowed || !n->scans) return true;
    return !segment_scans(t->segment, matches_of(t), n->what->recall);
}

static int larger_first(const void *a, const void *b)
{
    const struct search *x = a, *y = b;
    uint32_t p = segment_vector_count(x->target->segment);
    uint32_t q = segment_vector_count(y->target->segment);
    if (p != q) return p > q ? -1 : 1;
    return (x->target->source > y->target->source) -
           (x->target->source < y->target->source);
}

/* Scans the targets that are not searched by index. */
static enum err scan_others(struct op *op, const struct near *n,
                            const struct segment_target *targets, size_t count,
                            struct topk *best)
{
    for (size_t i = 0; i < count; i++) {
        if (by_index(n, &targets[i])) continue;
        enum err e = segment_vector_search(op, targets[i].segment, n->what->metric,
                                           n->what->query, targets[i].allowed,
                                           targets[i].source, best);
        if (e) return e;
    }
    return ERR_OK;
}

/* Some rows may be dead without a filter. */
static bool leaves_out_much(const struct segment_target *t)
{
    return t->allowed && matches_of(t) <= t->segment->layout.row_count / 4 * 3;
}

/* Compares all allowed rows of all targets. */
static enum err scan_all(struct op *op, const struct near *n,
                         const struct segment_target *targets, size_t count,
                         struct topk *best)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < count && !e; i++)
        e = segment_vector_search(op, targets[i].segment, n->what->metric,
                                  n->what->query, targets[i].allowed, targets[i].source,
                                  best);
    return e;
}

/* A vector of a distant store that lies in no cache is a request, and what lies near it
 * is of no use: there the codes decide, if they can, and only the results' vectors are
 * read, for their scores. Whether a vector is in the cache now is not asked, or answers
 * would depend on it. */
static bool is_dear(const struct near *n, const struct segment_target *t)
{
    const struct segment *s = t->segment;
    return s->cache && cache_is_far(s->cache) && ivf_decides(s->ivf, n->what->recall);
}

/* How many are compared by their vectors. Under a filter that leaves out much the codes
 * are not known to tell the best. */
static void plan_decision(struct near *n)
{
    bool dear = true;
    uint32_t exact = n->what->exact ? ivf_rerank(n->what->exact) : n->wanted;
    for (size_t i = 0; i < n->count && dear; i++)
        dear = is_dear(n, n->searches[i].target);
    n->decided = ivf_rerank(n->wanted);
    if (!n->filtered && exact < n->wanted)
        n->decided = exact;
    else if (n->filtered || n->what->check)
        n->staged = true;
    else if (dear)
        n->decided = n->wanted;
}

/* Lists the targets that are searched by index, and makes room for what they find. */
static enum err begin_indexes(struct op *op, struct near *n,
                              const struct segment_target *targets, size_t count,
                              size_t indexed)
{
    n->searches = op_new_array(op, struct search, indexed + 1);
    n->round = op_new(op, struct round);
    if (!n->searches || !n->round) return ERR_LIMIT;
    for (size_t i = 0; i < count; i++) {
        if (!by_index(n, &targets[i])) continue;
        if (n->what->metric != targets[i].segment->layout.metric)
            return op_fail(op, ERR_CORRUPT, "segment %s: written for another metric",
                           targets[i].segment->key);
        n->searches[n->count++].target = &targets[i];
        n->filtered |= leaves_out_much(&targets[i]);
    }
    plan_decision(n);
    size_t candidates = n->keep + (n->filtered ? SPARE : 0);
    struct hit *found = op_new_array(op, struct hit, n->keep);
    struct hit *hits = op_new_array(op, struct hit, candidates);
    if (!found || !hits) return ERR_LIMIT;
    topk_init(&n->found, found, n->keep, compare_rows, NULL);
    topk_init(&n->candidates, hits, candidates, compare_rows, NULL);
    return ERR_OK;
}

static enum err search_indexes(struct op *op, struct near *n)
{
    struct round *slots = NULL;
    qsort(n->searches, n->count, sizeof *n->searches, larger_first);
    enum err e = pin_slots(op, n, &slots);
    if (!e) e = search_all(op, n);
    if (slots) round_unpin(slots);
    return e;
}

static void push_all(struct topk *t, const struct hit *hits, size_t count)
{
    for (size_t i = 0; i < count; i++)
        topk_push(t, hits[i]);
}

/* By index where there is one and by scans elsewhere; where that does not tell which
 * are the best, by scans everywhere. */
static enum err search_mixed(struct op *op, struct near *n,
                             const struct segment_target *targets, size_t count,
                             size_t indexed, struct topk *best)
{
    bool settled = true;
    size_t before_count = best->count;
    struct hit *before = op_new_array(op, struct hit, before_count + 1);
    if (!before) return ERR_LIMIT;
    for (size_t i = 0; i < before_count; i++)
        before[i] = best->hits[i];
    enum err e = begin_indexes(op, n, targets, count, indexed);
    if (!e) e = scan_others(op, n, targets, count, &n->found);
    if (!e) push_all(&n->candidates, n->found.hits, n->found.count);
    if (!e) push_all(&n->found, before, before_count);
    if (!e) e = search_indexes(op, n);
    if (!e) e = decide(op, n, best, &settled);
    if (e || settled) return e;
    best->count = 0;
    push_all(best, before, before_count);
    return scan_all(op, n, targets, count, best);
}

enum err segment_nearest_from(struct op *op, const struct segment_target *targets,
                              size_t n, const struct segment_near *near, bool scans,
                              struct topk *best, struct segment_work *work)
{
    uint32_t k = near->check ? near->sought : (uint32_t)best->k;
    struct near x = {.what = near,
                     .scans = scans,
                     .wanted = (uint32_t)best->k,
                     .k = k,
                     .keep = ivf_rerank(k),
                     .work = work};
    size_t indexed = 0;

    if (n == 0) return ERR_OK;
    enum err e =
        vector_query_make(op, near->metric, targets[0].segment->layout.vector_dim,
                          near->query, &x.query);
    if (e) return e;
    for (size_t i = 0; i < n; i++) {
        indexed += by_index(&x, &targets[i]);
        x.vectors += segment_vector_count(targets[i].segment);
    }
    return indexed || near->check ? search_mixed(op, &x, targets, n, indexed, best)
                                  : scan_others(op, &x, targets, n, best);
}

enum err segment_nearest(struct op *op, const struct segment_target *targets, size_t n,
                         const struct segment_near *near, struct topk *best,
                         struct segment_work *work)
{
    return segment_nearest_from(op, targets, n, near, true, best, work);
}
