/*
 * The best rows of a text query, without scoring all rows that match.
 *
 * Each clause has a cursor over its list. The lists' tables bound what a block can add
 * to a score, so whatever cannot reach the k-th best score so far (the floor) is passed
 * over undecoded:
 *
 *   or   window-at-a-time MAXSCORE (Turtle and Flood 1995; windows and block bounds as
 * in Lucene's MaxScoreBulkScorer). In each window the clauses with the least bounds
 *        that together stay below the floor are spare: a row with none but those has no
 *        chance. The other, essential ones are walked, and only rows that could still
 *        reach the floor are looked up in the spare ones.
 *   and  the group of clauses with the fewest postings leads; windows whose bounds stay
 *        below the floor are passed over (block-max AND).
 *   few allowed rows: each of them is looked up in every list.
 *
 * A score is the float sum in clause order, to the bit: each clause's score has a place
 * of its own until a row is complete, and a clause that does not match adds zero, which
 * changes no float sum. Bounds are added in double and widened by `slack`, which covers
 * the rounding of the float sum. The floor is the least score that can still be kept:
 * the k-th best, or the next float once the rows at hand lose a tie with it, as rows
 * behind an equal one of the same source do.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "text/text_cursor.h"
#include "text/text_layout.h"
#include "text/text_list.h"
#include "text/text_window.h"

enum {
    CROWD = 32, /* windows grow while they hold fewer candidates a clause */
    ALLOWED_BATCH = 256,
    ALLOWED_COST = 16, /* a look-up costs as much as walking so many postings */
    BOUND_BLOCKS = 16  /* of a group's list under one block of the leading group's */
};

struct group {
    struct cursor **cursors;
    size_t count;
    uint64_t postings;
    double rest; /* bounds of this group and the ones after it, widened */
};

struct search {
    struct op *op;
    const struct text_search *query;
    struct topk *best;
    double slack;
    float floor;
    struct cursor *cursors; /* of the clauses that occur here, in clause order */
    size_t cursor_count;
    float *places; /* scores of the row at hand, a cursor each; zero between rows */
    struct cursor **refs; /* room for cursor_count */

    /* or */
    struct cursor **live; /* cursors that are not at their end, in clause order */
    size_t live_count;
    struct cursor **ranked; /* the same: the spare ones first */
    size_t spare_count;
    double *sums;     /* sums[i]: bounds of ranked[0..i) together, widened */
    float next_floor; /* at this floor one more would be spare */
    size_t essential_count;
    struct text_window *window;
    struct cursor
        *probes; /* for rows that a cursor has passed; NULL, then as cursors */
    uint64_t windows, candidates;

    /* and: by rising number of postings */
    struct group *groups;
    size_t group_count;
};

static double floor_of(const struct search *s)
{
    return (double)s->floor;
}

/* For the rows from `row` on. */
static void floor_update(struct search *s, uint32_t row)
{
    s->floor = topk_needed(s->best, &(struct hit){0, s->query->source, row});
}

/* A float that no sum is below which, with `others` at most to come, reaches the floor.
 */
static float needed(const struct search *s, double others)
{
    return nextafterf((float)((floor_of(s) - others) / s->slack), -INFINITY);
}

static bool is_allowed(const struct search *s, uint32_t row)
{
    return !s->query->allowed || rowset_has(s->query->allowed, row);
}

static float *place_of(const struct search *s, const struct cursor *c)
{
    return &s->places[c - s->cursors];
}

/* ---- a row ---- */

static void row_keep(struct search *s, uint32_t row, float score)
{
    if (score < s->floor) return;
    topk_push(s->best, (struct hit){score, s->query->source, row});
    floor_update(s, row);
}

/* Adds up the places in clause order and keeps the row. */
static void row_finish(struct search *s, uint32_t row)
{
    float score = 0;
    for (size_t i = 0; i < s->cursor_count; i++) {
        score += s->places[i];
        s->places[i] = 0;
    }
    row_keep(s, row, score);
}

static void row_drop(struct search *s)
{
    memset(s->places, 0, s->cursor_count * sizeof *s->places);
}

/* Puts a cursor's score of the row, if it has one, into its place and into *sum. */
static enum err row_look_up(struct search *s, struct cursor *c, uint32_t row,
                            bool *found, double *sum)
{
    bool has;
    enum err e = cursor_find(s->op, c, row, &has);
    if (e || !has) return e;

    float score = cursor_score(c, row);
    *found = true;
    *place_of(s, c) = score;
    *sum += (double)score;
    return ERR_OK;
}

/* ---- or ---- */

/* The score that an essential clause gave a row of the window, once more. */
static enum err essential_score(struct search *s, struct cursor *c, uint32_t row,
                                float *score)
{
    enum err e = ERR_OK;
    bool has;

    if (!cursor_covers(c, row)) {
        struct cursor *probe = &s->probes[c - s->cursors];
        if (!probe->clause) e = cursor_open(s->op, probe, c->clause, &c->list);
        if (e) return e;
        c = probe;
    }
    c->at = 0;
    e = cursor_find(s->op, c, row, &has);
    *score = !e && has ? cursor_score(c, row) : 0;
    return e;
}

/* Puts what the essential clauses gave a row, `sum` together, into its places. */
static enum err essential_places(struct search *s, uint32_t row, float sum)
{
    if (s->essential_count == 1) {
        *place_of(s, s->refs[0]) = sum;
        return ERR_OK;
    }
    if (!s->probes) {
        s->probes = mem_aligned(64, s->cursor_count * sizeof *s->probes);
        for (size_t i = 0; i < s->cursor_count; i++)
            s->probes[i].clause = NULL;
    }
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < s->essential_count; i++)
        e = essential_score(s, s->refs[i], row, place_of(s, s->refs[i]));
    return e;
}

/*
 * A row whose essential scores sum to `sum` in clause order: looks it up in the spare
 * clauses, dearest first, for as long as it can reach the floor.
 */
static enum err candidate(struct search *s, uint32_t row, float sum)
{
    double total = (double)sum;
    bool found = false;

    s->candidates++;
    for (size_t i = s->spare_count; i > 0; i--) {
        if (total * s->slack + s->sums[i] < floor_of(s)) break;
        struct cursor *c = s->ranked[i - 1];
        if (!cursor_skip(c, row)) continue;
        double best = (total + (double)cursor_block_bound(c)) * s->slack;
        if (best + s->sums[i - 1] < floor_of(s)) break;
        enum err e = row_look_up(s, c, row, &found, &total);
        if (e) return e;
    }
    if (total * s->slack < floor_of(s)) {
        if (found) row_drop(s);
        return ERR_OK;
    }
    if (!found) {
        row_keep(s, row, sum);
        return ERR_OK;
    }
    enum err e = essential_places(s, row, sum);
    if (!e) row_finish(s, row);
    return e;
}

/* Rows [lo, end) of the one essential cursor's block. */
static enum err scan_block(struct search *s, struct cursor *c, uint32_t lo,
                           uint32_t end)
{
    double others = s->sums[s->spare_count];

    enum err e = cursor_load(s->op, c);
    if (e) return e;
    cursor_rate(c);
    c->at = cursor_lower(c, lo);
    float floor = s->floor, need = needed(s, others);
    for (uint32_t i = c->at; i < c->rows.count && c->rows.rows[i] < end; i++) {
        if (c->scores[i] < need) continue;
        if (!is_allowed(s, c->rows.rows[i])) continue;
        e = candidate(s, c->rows.rows[i], c->scores[i]);
        if (e) return e;
        if (!(s->floor > floor)) continue;
        floor = s->floor;
        need = needed(s, others);
    }
    return ERR_OK;
}

/* Walks the one essential cursor through [lo, hi). *next: where to go on. */
static enum err scan_one(struct search *s, struct cursor *c, uint32_t lo, uint32_t hi,
                         uint32_t *next)
{
    *next = hi;
    while (lo < hi && cursor_skip(c, lo)) {
        uint32_t end = c->block_last < hi ? c->block_last + 1 : hi;
        double bound = (double)cursor_block_bound(c) * s->slack;
        if (bound + s->sums[s->spare_count] >= floor_of(s)) {
            enum err e = scan_block(s, c, lo, end);
            if (e) return e;
        }
        lo = end;
        if (s->floor < s->next_floor) continue;
        *next = lo;
        break;
    }
    return ERR_OK;
}

/* The rows of a group that the bits name. */
static enum err group_rows(struct search *s, uint32_t group, uint64_t bits,
                           double others)
{
    const struct text_window *w = s->window;
    float floor = s->floor;

    while (bits) {
        uint32_t at = group * WINDOW_GROUP + (uint32_t)__builtin_ctzll(bits);
        bits &= bits - 1;
        enum err e = candidate(s, w->base + at, w->sums[at]);
        if (e) return e;
        if (!(s->floor > floor)) continue;
        floor = s->floor;
        bits &= window_reach(w, group, needed(s, others));
    }
    return ERR_OK;
}

static enum err window_scan(struct search *s)
{
    struct text_window *w = s->window;
    const struct rowset *allowed = s->query->allowed;
    uint64_t allowed_bits[WINDOW_GROUPS];
    double others = s->sums[s->spare_count];
    enum err e = ERR_OK;

    if (allowed) {
        size_t groups = (w->end - w->base + WINDOW_GROUP - 1) / WINDOW_GROUP;
        rowset_bits(allowed, w->base, allowed_bits, groups);
    }
    float floor = s->floor, need = needed(s, others);
    for (uint64_t left = w->touched; left; left &= left - 1) {
        uint32_t group = (uint32_t)__builtin_ctzll(left);
        uint64_t bits = window_reach(w, group, need);
        if (allowed) bits &= allowed_bits[group];
        if (!e && bits) e = group_rows(s, group, bits, others);
        window_clear(w, group);
        if (!(s->floor > floor)) continue;
        floor = s->floor;
        need = needed(s, others);
    }
    return e;
}

/* The first row at or behind lo of any of the cursors; UINT32_MAX if there is none. */
static enum err first_row(struct search *s, struct cursor **cursors, size_t count,
                          uint32_t lo, uint32_t *out)
{
    *out = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        uint32_t row;
        enum err e = cursor_seek(s->op, cursors[i], lo, &row);
        if (e) return e;
        if (row < *out) *out = row;
    }
    return ERR_OK;
}

/* Walks several essential cursors through [lo, hi). *next: where to go on. */
static enum err scan_many(struct search *s, uint32_t lo, uint32_t hi, uint32_t *next)
{
    struct text_window *w = s->window;

    *next = hi;
    for (;;) {
        enum err e = op_check(s->op);
        if (!e) e = first_row(s, s->refs, s->essential_count, lo, &w->base);
        if (e || w->base >= hi) return e;

        w->end = hi - w->base > WINDOW_ROWS ? w->base + WINDOW_ROWS : hi;
        for (size_t i = 0; !e && i < s->essential_count; i++)
            e = window_add(s->op, w, s->refs[i]);
        if (!e) e = window_scan(s);
        if (e) return e;
        lo = w->end;
        if (s->floor < s->next_floor) continue;
        *next = lo;
        return ERR_OK;
    }
}

/* Moves all cursors to lo and forgets those that end before. */
static void live_update(struct search *s, uint32_t lo)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->live_count; i++)
        if (cursor_skip(s->live[i], lo)) s->live[kept++] = s->live[i];
    s->live_count = kept;
}

/* Makes all clauses essential where none was: their blocks shape the next window. */
static size_t essential_number(struct search *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->live_count; i++)
        count += s->live[i]->essential;
    if (count > 0) return count;
    for (size_t i = 0; i < s->live_count; i++)
        s->live[i]->essential = true;
    return s->live_count;
}

/*
 * Where the window that begins at lo ends: with the first block end of what was
 * essential before, so that bounds are tight, but not before rows_min rows.
 */
static uint32_t window_end(struct search *s, uint32_t lo, uint32_t rows_min)
{
    uint32_t row_count = s->query->row_count, end = row_count;
    bool one = essential_number(s) == 1;

    for (size_t i = 0; i < s->live_count; i++) {
        const struct cursor *c = s->live[i];
        if (c->essential && c->block_last < end) end = c->block_last + 1;
    }
    if (one || end - lo >= rows_min) return end;
    return row_count - lo > rows_min ? lo + rows_min : row_count;
}

/* Spare first: what promises little for the postings that it makes us walk. */
static int by_worth(const void *a, const void *b)
{
    const struct cursor *x = *(struct cursor *const *)a;
    const struct cursor *y = *(struct cursor *const *)b;
    double left = x->bound * y->list.count, right = y->bound * x->list.count;
    if (left != right) return left < right ? -1 : 1;
    return (x > y) - (x < y);
}

/* Bounds the window that ends at hi and decides which clauses are essential in it. */
static void partition(struct search *s, uint32_t hi)
{
    double floor = floor_of(s), sum = 0;

    for (size_t i = 0; i < s->live_count; i++) {
        s->live[i]->bound = (double)cursor_bound(s->live[i], hi, UINT32_MAX);
        s->ranked[i] = s->live[i];
    }
    qsort(s->ranked, s->live_count, sizeof(struct cursor *), by_worth);

    s->sums[0] = 0;
    s->spare_count = 0;
    for (size_t i = 0; i < s->live_count; i++) {
        sum += s->ranked[i]->bound;
        s->sums[i + 1] = sum * s->slack;
        if (s->spare_count == i && s->sums[i + 1] < floor) s->spare_count++;
        s->ranked[i]->essential = s->spare_count <= i;
    }
    s->next_floor = s->spare_count == s->live_count
                        ? INFINITY
                        : nextafterf((float)s->sums[s->spare_count + 1], INFINITY);
}

static enum err scan(struct search *s, uint32_t lo, uint32_t hi, uint32_t *next)
{
    s->essential_count = 0;
    for (size_t i = 0; i < s->live_count; i++)
        if (s->live[i]->essential) s->refs[s->essential_count++] = s->live[i];

    s->windows++;
    *next = hi;
    if (s->essential_count == 0) return ERR_OK;
    if (s->essential_count == 1) return scan_one(s, s->refs[0], lo, hi, next);
    return scan_many(s, lo, hi, next);
}

static enum err search_or(struct search *s)
{
    uint32_t rows_min = 1;

    for (uint32_t lo = 0, next; lo < s->query->row_count; lo = next) {
        enum err e = op_check(s->op);
        if (e) return e;
        floor_update(s, lo);
        live_update(s, lo);
        if (s->live_count == 0) break;

        uint32_t hi = window_end(s, lo, rows_min);
        partition(s, hi);
        e = scan(s, lo, hi, &next);
        if (e) return e;
        bool crowded = s->candidates >= CROWD * s->live_count * s->windows;
        if (crowded)
            rows_min = 1;
        else if (rows_min < WINDOW_ROWS)
            rows_min *= 2;
    }
    return ERR_OK;
}

/* ---- and ---- */

/* Looks a row up in the groups from `first` on; keeps it if each has it. */
static enum err row_in_groups(struct search *s, size_t first, uint32_t row, double sum)
{
    for (size_t g = first; g < s->group_count; g++) {
        const struct group *group = &s->groups[g];
        bool found = false;
        if (sum * s->slack + group->rest < floor_of(s)) {
            row_drop(s);
            return ERR_OK;
        }
        for (size_t i = 0; i < group->count; i++) {
            enum err e = row_look_up(s, group->cursors[i], row, &found, &sum);
            if (e) return e;
        }
        if (!found) {
            row_drop(s);
            return ERR_OK;
        }
    }
    row_finish(s, row);
    return ERR_OK;
}

/* Moves the leading group to lo; *hi is where its first block ends. False at the end.
 */
static bool lead_window(struct search *s, uint32_t lo, uint32_t *hi)
{
    const struct group *lead = &s->groups[0];
    bool any = false;

    *hi = s->query->row_count;
    for (size_t i = 0; i < lead->count; i++) {
        struct cursor *c = lead->cursors[i];
        if (!cursor_skip(c, lo)) continue;
        any = true;
        if (c->block_last < *hi) *hi = c->block_last + 1;
    }
    return any;
}

/* Is there no score yet that a row must reach? */
static bool all_welcome(const struct search *s)
{
    return floor_of(s) <= 0;
}

/* Bounds [lo, hi) for each group and those after it, by infinity while all rows are
 * welcome. False: some group has ended. */
static bool groups_bound(struct search *s, uint32_t lo, uint32_t hi)
{
    double sum = all_welcome(s) ? INFINITY : 0;

    for (size_t g = s->group_count; g-- > 0;) {
        struct group *group = &s->groups[g];
        bool any = false;
        for (size_t i = 0; i < group->count; i++) {
            struct cursor *c = group->cursors[i];
            if (!cursor_skip(c, lo)) continue;
            any = true;
            if (!isinf(sum)) sum += (double)cursor_bound(c, hi, BOUND_BLOCKS);
        }
        if (!any) return false;
        group->rest = sum * s->slack;
    }
    return true;
}

/* The rows [lo, hi) of a leading group of several cursors. */
static enum err lead_walk(struct search *s, uint32_t lo, uint32_t hi)
{
    const struct group *lead = &s->groups[0];

    for (;; lo++) {
        uint32_t row;
        enum err e = first_row(s, lead->cursors, lead->count, lo, &row);
        if (e || row >= hi) return e;
        lo = row;
        if (!is_allowed(s, row)) continue;

        bool found;
        double sum = 0;
        for (size_t i = 0; !e && i < lead->count; i++)
            e = row_look_up(s, lead->cursors[i], row, &found, &sum);
        if (!e) e = row_in_groups(s, 1, row, sum);
        if (e) return e;
    }
}

/* Has each group but the leading one the row? */
static enum err row_everywhere(struct search *s, uint32_t row, bool *everywhere)
{
    *everywhere = true;
    for (size_t g = 1; g < s->group_count && *everywhere; g++) {
        const struct group *group = &s->groups[g];
        *everywhere = false;
        for (size_t i = 0; i < group->count && !*everywhere; i++) {
            enum err e = cursor_find(s->op, group->cursors[i], row, everywhere);
            if (e) return e;
        }
    }
    return ERR_OK;
}

/* lead_block while all rows are welcome: only those that all groups have are scored. */
static enum err lead_match(struct search *s, uint32_t hi, uint32_t *i)
{
    struct cursor *c = s->groups[0].cursors[0];

    for (; *i < c->rows.count && c->rows.rows[*i] < hi && all_welcome(s); ++*i) {
        uint32_t row = c->rows.rows[*i];
        bool everywhere;
        if (!is_allowed(s, row)) continue;
        enum err e = row_everywhere(s, row, &everywhere);
        if (e) return e;
        if (!everywhere) continue;
        c->at = *i;
        float score = cursor_score(c, row);
        *place_of(s, c) = score;
        e = row_in_groups(s, 1, row, (double)score);
        if (e) return e;
    }
    return ERR_OK;
}

/* The rows [lo, hi) of a leading group of one cursor; they lie in one block. */
static enum err lead_block(struct search *s, uint32_t lo, uint32_t hi)
{
    struct cursor *c = s->groups[0].cursors[0];

    enum err e = cursor_load(s->op, c);
    if (e) return e;
    uint32_t i = cursor_lower(c, lo);
    e = lead_match(s, hi, &i);
    if (e || i == c->rows.count || c->rows.rows[i] >= hi) return e;

    if (isinf(s->groups[0].rest) && !groups_bound(s, c->rows.rows[i], hi))
        return ERR_OK;
    double others = s->group_count > 1 ? s->groups[1].rest : 0;
    cursor_rate(c);
    float need = needed(s, others);
    for (; i < c->rows.count && c->rows.rows[i] < hi; i++) {
        if (c->scores[i] < need) continue;
        if (!is_allowed(s, c->rows.rows[i])) continue;
        *place_of(s, c) = c->scores[i];
        e = row_in_groups(s, 1, c->rows.rows[i], (double)c->scores[i]);
        if (e) return e;
        need = needed(s, others);
    }
    return ERR_OK;
}

static enum err search_and(struct search *s)
{
    for (uint32_t lo = 0, hi; lo < s->query->row_count && lead_window(s, lo, &hi);
         lo = hi) {
        enum err e = op_check(s->op);
        if (e) return e;
        floor_update(s, lo);
        if (!groups_bound(s, lo, hi)) break;
        if (s->groups[0].rest < floor_of(s)) continue;
        e = s->groups[0].count == 1 ? lead_block(s, lo, hi) : lead_walk(s, lo, hi);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- few allowed rows ---- */

static enum err look_up_allowed(struct search *s, uint32_t row)
{
    if (s->groups) return row_in_groups(s, 0, row, 0);

    bool found = false;
    double sum = 0;
    for (size_t i = 0; i < s->cursor_count; i++) {
        enum err e = row_look_up(s, &s->cursors[i], row, &found, &sum);
        if (e) return e;
    }
    if (found) row_finish(s, row);
    return ERR_OK;
}

static enum err search_allowed(struct search *s)
{
    uint32_t rows[ALLOWED_BATCH];
    size_t count;

    for (size_t g = 0; g < s->group_count; g++)
        s->groups[g].rest = INFINITY;
    for (uint32_t from = 0;; from = rows[count - 1] + 1) {
        enum err e = op_check(s->op);
        count = rowset_read(s->query->allowed, from, rows, ALLOWED_BATCH);
        for (size_t i = 0; !e && i < count && rows[i] < s->query->row_count; i++)
            e = look_up_allowed(s, rows[i]);
        if (e || count < ALLOWED_BATCH) return e;
    }
}

/* ---- the whole ---- */

static int by_postings(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return (x->postings > y->postings) - (x->postings < y->postings);
}

/* Sorts the cursors into their groups; false if a group has none: nothing matches. */
static bool groups_make(struct search *s)
{
    s->group_count = s->query->group_count;
    s->groups = mem_new_array(struct group, s->group_count);
    for (size_t i = 0; i < s->cursor_count; i++) {
        struct group *g = &s->groups[s->cursors[i].clause->group];
        g->count++;
        g->postings += s->cursors[i].list.count;
    }
    struct cursor **next = s->refs;
    for (size_t g = 0; g < s->group_count; g++) {
        if (s->groups[g].count == 0) return false;
        s->groups[g].cursors = next;
        next += s->groups[g].count;
        s->groups[g].count = 0;
    }
    for (size_t i = 0; i < s->cursor_count; i++) {
        struct group *g = &s->groups[s->cursors[i].clause->group];
        g->cursors[g->count++] = &s->cursors[i];
    }
    qsort(s->groups, s->group_count, sizeof *s->groups, by_postings);
    return true;
}

/* Postings that a walk would look at, about. */
static uint64_t walk_cost(const struct search *s)
{
    assert(s->cursor_count > 0);
    if (s->groups) return s->groups[0].postings;
    uint64_t sum = 0;
    for (size_t i = 0; i < s->cursor_count; i++)
        sum += s->cursors[i].list.count;
    return sum / s->cursor_count;
}

/* The clause's list; *found is false if it has none here. */
static enum err clause_list(struct op *op, const struct text_clause *clause,
                            bool *found, struct postings *list)
{
    const struct text_index *t = clause->index;
    const struct text_list *made = clause->made;

    if (!made) return text_index_list(op, t, clause->term, found, list);
    *found = made->count > 0;
    bool good = !*found ||
                postings_open(buf_slice(&made->bytes), made->count, t->row_count, list);
    assert(good);
    return ERR_OK;
}

static enum err cursors_open(struct search *s)
{
    for (size_t i = 0; i < s->query->clause_count; i++) {
        const struct text_clause *clause = &s->query->clauses[i];
        struct postings list;
        bool found;

        assert(clause->weight >= 0 && clause->weight < INFINITY);
        assert(!s->query->all_groups || clause->group < s->query->group_count);
        if (!clause->index) continue;
        assert(clause->index->row_count == s->query->row_count);
        enum err e = clause_list(s->op, clause, &found, &list);
        if (!e && found)
            e = cursor_open(s->op, &s->cursors[s->cursor_count++], clause, &list);
        if (e) return e;
    }
    return ERR_OK;
}

static void or_prepare(struct search *s)
{
    size_t n = s->cursor_count;

    s->live = mem_new_array(struct cursor *, n);
    s->ranked = mem_new_array(struct cursor *, n);
    s->sums = mem_new_array(double, n + 1);
    s->window = mem_aligned(64, sizeof *s->window);
    window_init(s->window);
    s->live_count = n;
    for (size_t i = 0; i < n; i++)
        s->live[i] = &s->cursors[i];
}

static enum err run(struct search *s)
{
    s->places = mem_new_array(float, s->cursor_count);
    s->refs = mem_new_array(struct cursor *, s->cursor_count);
    if (s->query->all_groups && !groups_make(s)) return ERR_OK;

    const struct rowset *allowed = s->query->allowed;
    if (allowed && rowset_count(allowed) * ALLOWED_COST < walk_cost(s))
        return search_allowed(s);
    if (s->groups) return search_and(s);
    or_prepare(s);
    return search_or(s);
}

enum err text_index_search(struct op *op, const struct text_search *search,
                           struct topk *best, uint64_t *scored)
{
    struct search s = {.op = op, .query = search, .best = best, .floor = -INFINITY};

    s.cursors = mem_aligned(64, search->clause_count * sizeof *s.cursors);
    enum err e = cursors_open(&s);
    /* Adding n floats rounds each step by at most 2^-24 of the sum; one is not added.
     */
    s.slack = s.cursor_count > 1 ? 1.0 + 1.2e-7 * (double)(s.cursor_count + 2) : 1.0;
    if (!e && s.cursor_count) e = run(&s);

    for (size_t i = 0; i < s.cursor_count; i++)
        *scored += s.cursors[i].scored;
    mem_free(s.cursors);
    mem_free(s.places);
    mem_free(s.refs);
    mem_free(s.live);
    mem_free(s.ranked);
    mem_free(s.sums);
    mem_free(s.window);
    mem_free(s.probes);
    mem_free(s.groups);
    return e;
}
