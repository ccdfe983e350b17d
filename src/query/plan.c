/*
 * How each source is searched under a filter, decided in two steps.
 *
 * Before any of its columns is read, by the statistics that the manifest keeps of it:
 * they may say for sure that no row or that every row matches, and about how many do.
 * Sources without statistics (the tail) and conditions of which they say nothing (a
 * text in the middle of another) are decided by a few sampled rows. What a search costs
 * grows with the number of hits it is asked for, what a filter costs with the rows that
 * it looks at.
 */
#include "base/op.h"
#include "base/rowset.h"
#include "query/exec.h"
#include "segment/segment_stats.h"

enum {
    /* A hit more to find and to check, in rows of a scan: … */
    CANDIDATE_COST = 64,
    NEIGHBOUR_COST = 4096, /* … one of the codes of farther clusters */
    SCAN_ROWS_MIN = 50000  /* below it a filter is not worth thinking about */
};
/* Searching first finds 1 / fraction times as many hits as are wanted, and half as many
 * again, since the best hits need not match as often as all rows do. */
static const double FRACTION_MIN = 0.1, MARGIN = 1.5;

size_t plan_trial_depth(size_t depth, double fraction)
{
    return (size_t)((double)depth / fraction * MARGIN) + 16;
}

static struct segment *segment_at(const struct exec *x, uint32_t source)
{
    return x->snapshot->sources[source].segment;
}

static void decide(struct exec *x, uint32_t source, enum plan plan, const char *why)
{
    x->plans[source].plan = plan;
    x->plans[source].why = why;
}

static bool needs_all(const struct query *q)
{
    return q->count || q->aggregate;
}

/* Is the order of a listing at hand: that of ids, or of an index? */
static bool has_order(const struct exec *x)
{
    const struct query *q = x->query;
    if (!q->ordered || q->order_attr == FILTER_ATTR_ID) return true;
    return x->snapshot->schema->attrs[q->order_attr].indexed;
}

/* Searches and pages want the best only; counts and whatever else the filter itself
 * decides need all of its rows. Without an index, a scan is the shorter the fewer rows
 * are left. */
static bool may_search_first(const struct exec *x, const struct segment *s)
{
    const struct query *q = x->query;
    if (needs_all(q) || (q->rank_count == 0 && !has_order(x))) return false;
    for (size_t i = 0; i < q->rank_count; i++) {
        if (q->ranks[i].filter) return false;
        if (q->ranks[i].kind == RANK_VECTOR && (!segment_indexed(s) || q->recall >= 1))
            return false;
    }
    return segment_row_count(s) >= SCAN_ROWS_MIN;
}

/* Would its rows, once filtered, be so few that a vector rank compares all of them? */
static bool would_scan(const struct query *q, const struct segment *s, double fraction)
{
    uint64_t rows = (uint64_t)(fraction * segment_row_count(s));
    for (size_t i = 0; i < q->rank_count; i++)
        if (q->ranks[i].kind == RANK_VECTOR)
            return segment_scans(s, rows, exec_recall(q));
    return false;
}

/* Of one hit more in all lists. */
static double candidate_cost(const struct query *q)
{
    double cost = q->rank_count ? 0 : CANDIDATE_COST;
    for (size_t i = 0; i < q->rank_count; i++)
        cost += q->ranks[i].kind == RANK_VECTOR ? NEIGHBOUR_COST : CANDIDATE_COST;
    return cost;
}

/* Does searching for more cost less than filtering? */
static bool is_cheaper(const struct query *q, const struct segment *s, double fraction,
                       uint64_t scan_rows)
{
    if (fraction < FRACTION_MIN || scan_rows < SCAN_ROWS_MIN) return false;
    if (would_scan(q, s, fraction)) return false;
    double hits = (double)plan_trial_depth(exec_depth(q), fraction);
    return hits * candidate_cost(q) < (double)scan_rows;
}

static const char WHY_ALL_NEEDED[] = "every match is needed, not only the best";
static const char WHY_SMALL[] = "so few rows that a filter costs next to nothing";
static const char WHY_SEARCH[] =
    "much matches: searching for more and checking it costs less than filtering";
static const char WHY_FILTER[] = "filtering costs less than searching for more";

static const char *why_not_first(const struct query *q, const struct segment *s)
{
    bool all = needs_all(q);
    if (!all && segment_row_count(s) < SCAN_ROWS_MIN) return WHY_SMALL;
    if (all) return WHY_ALL_NEEDED;
    return q->rank_count ? "the fewer rows are left, the shorter the search"
                         : "no index has the order, so every match is looked at";
}

/* ---- by the statistics ---- */

static void plan_by_statistics(struct exec *x, uint32_t source)
{
    const struct query *q = x->query;
    struct segment *s = segment_at(x, source);
    struct source_plan *plan = &x->plans[source];
    struct stats_answer answer;

    segment_stats_ask(s, q->filter, &answer);
    plan->basis = answer.blind ? PLANNED_BLINDLY : PLANNED_BY_STATISTICS;
    plan->fraction = answer.part_true < 1 ? answer.part_true : 1;
    if (!answer.may_be_true) {
        plan->basis = PLANNED_BY_STATISTICS;
        plan->fraction = 0;
        x->allowed.none[source] = true;
        decide(x, source, PLAN_SKIPPED, "no row can match");
    } else if (!answer.may_be_false && !answer.may_be_unknown) {
        plan->basis = PLANNED_BY_STATISTICS;
        plan->fraction = 1;
        decide(x, source, PLAN_UNFILTERED, "every row matches");
    } else if (!may_search_first(x, s)) {
        decide(x, source, PLAN_FILTER_FIRST, why_not_first(q, s));
    } else if (!answer.blind) {
        uint64_t cost = segment_stats_scan_rows(s, x->snapshot->schema, q->filter);
        bool search = is_cheaper(q, s, plan->fraction, cost);
        decide(x, source, search ? PLAN_SEARCH_FIRST : PLAN_FILTER_FIRST,
               search ? WHY_SEARCH : WHY_FILTER);
    }
}

/* ---- by samples ---- */

static enum err plan_by_samples(struct op *op, struct exec *x, uint32_t source)
{
    struct segment *s = segment_at(x, source);
    struct source_plan *plan = &x->plans[source];
    struct filter_estimate estimate;

    enum err e = segment_filter_estimate(op, s, x->query->filter, &estimate);
    if (e) return e;
    bool search = estimate.known &&
                  is_cheaper(x->query, s, estimate.fraction, estimate.scan_rows);
    if (estimate.known) {
        plan->basis = PLANNED_BY_SAMPLES;
        plan->fraction = estimate.fraction;
    }
    decide(x, source, search ? PLAN_SEARCH_FIRST : PLAN_FILTER_FIRST,
           search ? WHY_SEARCH : WHY_FILTER);
    return ERR_OK;
}

/* ---- rows ---- */

/* Are there so few rows that scoring each of them is the best that can be done? */
static bool are_few(const struct exec *x, uint32_t source, uint64_t rows)
{
    return x->query->rank_count > 0 &&
           segment_scans(segment_at(x, source), rows, exec_recall(x->query));
}

static enum err filter_now(struct op *op, struct exec *x, uint32_t index)
{
    const struct source *source = &x->snapshot->sources[index];
    struct rowset **rows = &x->allowed.rows[index];

    rowset_unref(*rows);
    *rows = NULL;
    enum err e =
        segment_filter(op, source->segment, x->query->filter, NULL, &x->work, rows);
    if (e) return e;
    if (source->dead) rowset_andnot(*rows, source->dead);
    uint64_t count = rowset_count(*rows);
    x->allowed.none[index] = count == 0;
    x->plans[index].plan = PLAN_FILTER_FIRST;
    if (are_few(x, index, count))
        decide(x, index, PLAN_EXACT, "so few rows match that each of them is scored");
    return ERR_OK;
}

static void allow_live(struct exec *x, uint32_t index)
{
    const struct source *source = &x->snapshot->sources[index];
    if (!source->dead) return;
    x->allowed.rows[index] = rowset_copy(source->dead);
    rowset_flip(x->allowed.rows[index], segment_row_count(source->segment));
    x->allowed.none[index] = rowset_count(x->allowed.rows[index]) == 0;
}

void plan_begin(struct exec *x)
{
    for (uint32_t i = 0; i < x->snapshot->source_count; i++)
        if (x->query->filter)
            plan_by_statistics(x, i);
        else
            decide(x, i, PLAN_UNFILTERED, "there is no filter");
}

static enum err plan_filtered(struct op *op, struct exec *x)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; !e && i < x->snapshot->source_count; i++) {
        if (x->plans[i].plan == PLAN_NONE) e = plan_by_samples(op, x, i);
        if (!e && x->plans[i].plan == PLAN_FILTER_FIRST) e = filter_now(op, x, i);
    }
    return e;
}

enum err plan_sources(struct op *op, struct exec *x)
{
    uint32_t count = x->snapshot->source_count;
    enum err e = ERR_OK;

    if (x->query->filter) e = plan_filtered(op, x);
    for (uint32_t i = 0; i < count && !e; i++)
        if (x->plans[i].plan == PLAN_UNFILTERED ||
            x->plans[i].plan == PLAN_SEARCH_FIRST)
            allow_live(x, i);
    return e;
}

/* ---- trials ---- */

bool plan_tries(const struct exec *x, const struct allowed *allowed, uint32_t source)
{
    return x->plans[source].plan == PLAN_SEARCH_FIRST && allowed == &x->allowed;
}

enum err plan_check(struct op *op, struct exec *x, uint32_t source, struct hit *hits,
                    size_t *count)
{
    struct rowset *among = rowset_new(), *rows = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++)
        if (hits[i].source == source) rowset_add(among, hits[i].row);
    enum err e = segment_filter(op, segment_at(x, source), x->query->filter, among,
                                &x->work, &rows);
    for (size_t i = 0; i < *count && !e; i++)
        if (hits[i].source != source || rowset_has(rows, hits[i].row))
            hits[kept++] = hits[i];
    if (!e) *count = kept;
    rowset_unref(among);
    rowset_unref(rows);
    return e;
}

enum err plan_again(struct op *op, struct exec *x, uint32_t source)
{
    x->retried++;
    decide(x, source, PLAN_FILTER_FIRST, "searched first, too few of the hits matched");
    return filter_now(op, x, source);
}
