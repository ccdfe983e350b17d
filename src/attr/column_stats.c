/*
 * Where there is an index, it lists the distinct values in order with their rows, and
 * everything is read off it. Otherwise the keys of all rows are read once: so few
 * distinct values that all of them can be listed are counted on the way; of more, up to
 * SAMPLE_MAX keys, evenly spread, are sorted, and the number of distinct ones is
 * guessed from how many occur once (GEE: Charikar, Chaudhuri, Motwani and Narasayya,
 * "Towards estimation error guarantees for distinct values", PODS 2000).
 */
#include "attr/column_stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "attr/column_format.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"

enum {
    SAMPLE_MAX = 1 << 16,
    COMMON_PART = 64, /* a value is common that has this part of the values' rows */
    LIST_MAX = 256,   /* values of a list that are looked at one by one */
    FLAG_COMPLETE = 1,
    FLAG_CUT = 2
};
static const double BLIND_PART = 0.1;

/* ---- making ---- */

/* Distinct keys in order with how many rows or items each has: counts[i] of keys[i]. */
struct tally {
    uint64_t *keys, *counts;
    size_t count;
    uint64_t total;
};

static void tally_release(struct tally *t)
{
    mem_free(t->keys);
    mem_free(t->counts);
}

static void tally_init(struct tally *t, size_t room)
{
    *t = (struct tally){.keys = mem_new_array(uint64_t, room),
                        .counts = mem_new_array(uint64_t, room)};
}

static void tally_add(struct tally *t, uint64_t key, uint64_t count)
{
    t->keys[t->count] = key;
    t->counts[t->count++] = count;
    t->total += count;
}

static struct slice cut_text(struct slice text, bool *cut)
{
    size_t size = COLUMN_STATS_TEXT_MAX;
    *cut = text.size > size;
    if (!*cut) return text;
    while (size > 0 && (text.data[size] & 0xc0) == 0x80)
        size--;
    return slice_of(text.data, size);
}

static union scalar cut_scalar(const struct column *c, uint64_t key, bool *cut)
{
    union scalar v = column_key_scalar(c, key);
    *cut = false;
    if (c->type == ATTR_STRING) v.s = cut_text(v.s, cut);
    return v;
}

/* The places of the greatest counts, at most COLUMN_STATS_COMMON_MAX, greatest first;
 * of equal ones the first. */
static uint32_t most_common(const struct tally *t, uint64_t at_least,
                            size_t places[COLUMN_STATS_COMMON_MAX])
{
    uint32_t n = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (t->counts[i] < at_least) continue;
        uint32_t at = n;
        while (at > 0 && t->counts[places[at - 1]] < t->counts[i])
            at--;
        if (at == COLUMN_STATS_COMMON_MAX) continue;
        if (n < COLUMN_STATS_COMMON_MAX) n++;
        for (uint32_t k = n - 1; k > at; k--)
            places[k] = places[k - 1];
        places[at] = i;
    }
    return n;
}

/* all: the tally has every value, else a sample of the items. */
static void put_common(const struct column *c, const struct tally *t, bool all,
                       struct column_stats *s)
{
    size_t places[COLUMN_STATS_COMMON_MAX];
    bool few = all && t->count <= COLUMN_STATS_COMMON_MAX;
    uint64_t at_least = few ? 0 : t->total / COMMON_PART + 2;
    uint32_t n = most_common(t, at_least, places);
    double scale = t->total ? (double)s->item_count / (double)t->total : 0;
    if (all) scale = 1;

    s->complete = few;
    for (uint32_t i = 0; i < n; i++) {
        bool cut;
        union scalar v = cut_scalar(c, t->keys[places[i]], &cut);
        double rows = (double)t->counts[places[i]] * scale;
        if (cut) {
            s->complete = false;
            continue;
        }
        if (rows > s->value_count) rows = s->value_count;
        s->values[s->common_count] = v;
        s->common_rows[s->common_count++] = (uint32_t)rows;
    }
}

/* Values that part the tally into as many equal parts as there is room for. */
static void put_bounds(const struct column *c, const struct tally *t,
                       struct column_stats *s)
{
    uint64_t before = 0;
    size_t i = 0;
    if (s->complete || t->total == 0) return;
    for (uint64_t k = 1; k <= COLUMN_STATS_BOUNDS_MAX; k++) {
        uint64_t wanted = t->total * k / (COLUMN_STATS_BOUNDS_MAX + 1);
        bool cut;
        while (i + 1 < t->count && before + t->counts[i] <= wanted)
            before += t->counts[i++];
        s->values[s->common_count + s->bound_count++] = cut_scalar(c, t->keys[i], &cut);
    }
}

static void put_ends(const struct column *c, uint64_t least, uint64_t greatest,
                     struct column_stats *s)
{
    bool cut;
    s->least = cut_scalar(c, least, &cut);
    s->greatest = cut_scalar(c, greatest, &s->cut);
}

/* ---- from the index ---- */

static void from_index(const struct column *c, struct column_stats *s)
{
    const struct column_index *x = &c->index;
    struct tally t;

    tally_init(&t, x->key_count);
    for (uint32_t i = 0, dense = 0; i < x->key_count; i++) {
        uint64_t first = cells_get(&x->starts, i), end = cells_get(&x->starts, i + 1);
        uint64_t rows = end > first ? end - first : 0;
        if (dense < x->dense_count && cells_get(&x->dense, dense) == i)
            rows += cells_get(&x->dense_rows, dense++);
        tally_add(&t, x->numbered ? i : cells_get(&x->keys, i), rows);
    }
    s->distinct = t.count;
    if (t.count > 0) {
        put_ends(c, t.keys[0], t.keys[t.count - 1], s);
        put_common(c, &t, true, s);
        put_bounds(c, &t, s);
    }
    tally_release(&t);
}

/* ---- from the rows ---- */

struct pass {
    const struct column *column;
    uint64_t least, greatest;
    struct tally few; /* in order of arrival */
    bool many;        /* there are more than it has room for */
    uint64_t *sample;
    size_t sampled;
    uint64_t step, seen; /* one of every step items is in the sample: */
    uint64_t next;       /* by chance, or rows of arrays would beat time with steps */
};

static void pass_count(struct pass *p, uint64_t key)
{
    struct tally *few = &p->few;
    size_t i = 0;
    while (i < few->count && few->keys[i] != key)
        i++;
    if (i < few->count) {
        few->counts[i]++;
        few->total++;
    } else if (few->count < COLUMN_STATS_COMMON_MAX) {
        tally_add(few, key, 1);
    } else {
        p->many = true;
    }
}

static void pass_add(struct pass *p, uint64_t key)
{
    if (p->seen == 0 || key < p->least) p->least = key;
    if (p->seen == 0 || key > p->greatest) p->greatest = key;
    if (!p->many) pass_count(p, key);
    if (p->seen == p->next && p->sampled < SAMPLE_MAX) {
        p->sample[p->sampled++] = key;
        uint64_t chance = p->sampled * 0x9e3779b97f4a7c15u >> 32;
        p->next = p->sampled * p->step + chance % p->step;
    }
    p->seen++;
}

static enum err pass_rows(struct op *op, struct pass *p)
{
    const struct column *c = p->column;
    for (uint32_t row = 0; row < c->row_count; row++) {
        enum err e = row % CELL_BLOCK == 0 ? op_check(op) : ERR_OK;
        if (e) return e;
        if (column_null_word(c, row / 64) >> row % 64 & 1) continue;
        uint64_t first = row, end = row + (uint64_t)1;
        if (c->array) column_items(c, row, &first, &end);
        for (uint64_t i = first; i < end; i++)
            pass_add(p, cells_get(&c->items, i));
    }
    return ERR_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The sorted sample as a tally; *once: keys that occur once in it. */
static void tally_sample(struct pass *p, struct tally *t, uint64_t *once)
{
    tally_init(t, p->sampled);
    qsort(p->sample, p->sampled, sizeof *p->sample, compare_keys);
    *once = 0;
    for (size_t first = 0, end; first < p->sampled; first = end) {
        for (end = first + 1; end < p->sampled && p->sample[end] == p->sample[first];)
            end++;
        tally_add(t, p->sample[first], end - first);
        *once += end - first == 1;
    }
}

static void from_sample(struct pass *p, struct column_stats *s)
{
    const struct column *c = p->column;
    struct tally t;
    uint64_t once;

    tally_sample(p, &t, &once);
    double scale = sqrt((double)s->item_count / (double)p->sampled);
    s->distinct = (uint64_t)(scale * (double)once) + (t.count - once);
    if (column_has_dict(c->type)) s->distinct = c->dict_count;
    put_common(c, &t, p->sampled == s->item_count, s);
    put_bounds(c, &t, s);
    tally_release(&t);
}

static enum err from_rows(struct op *op, const struct column *c, struct column_stats *s)
{
    struct pass p = {.column = c, .step = c->items.count / SAMPLE_MAX + 1};
    tally_init(&p.few, COLUMN_STATS_COMMON_MAX);
    p.sample = mem_new_array(uint64_t, SAMPLE_MAX);
    enum err e = pass_rows(op, &p);
    if (!e && p.seen > 0) {
        put_ends(c, p.least, p.greatest, s);
        if (p.many) {
            from_sample(&p, s);
        } else {
            s->distinct = p.few.count;
            put_common(c, &p.few, true, s);
            put_bounds(c, &p.few, s);
        }
    }
    mem_free(p.sample);
    tally_release(&p.few);
    return e;
}

static uint32_t count_values(const struct column *c)
{
    uint32_t nulls = 0;
    for (uint64_t word = 0; word < ((uint64_t)c->row_count + 63) / 64; word++)
        nulls += (uint32_t)__builtin_popcountll(column_null_word(c, word));
    return nulls < c->row_count ? c->row_count - nulls : 0;
}

static void stats_init(struct column_stats *s)
{
    s->values =
        mem_new_array(union scalar, COLUMN_STATS_COMMON_MAX + COLUMN_STATS_BOUNDS_MAX);
    s->common_rows = mem_new_array(uint32_t, COLUMN_STATS_COMMON_MAX);
}

enum err column_stats_make(struct op *op, const struct column *c,
                           struct column_stats *out)
{
    struct column_stats s = {.type = c->type,
                             .array = c->array,
                             .row_count = c->row_count,
                             .value_count = count_values(c)};
    enum err e = ERR_OK;

    s.item_count = c->array ? c->items.count : s.value_count;
    stats_init(&s);
    if (c->indexed)
        from_index(c, &s);
    else
        e = from_rows(op, c, &s);
    if (s.distinct > s.item_count) s.distinct = s.item_count;
    if (e)
        column_stats_release(&s);
    else
        *out = s;
    return e;
}

void column_stats_release(struct column_stats *s)
{
    mem_free(s->values);
    mem_free(s->common_rows);
    *s = (struct column_stats){.values = NULL};
}

/* ---- bytes ---- */

static void put_scalar(const struct column_stats *s, union scalar v, struct buf *out)
{
    value_encode(s->type, false, &(struct value){.one = v}, out);
}

void column_stats_encode(const struct column_stats *s, bool brief, struct buf *out)
{
    uint32_t common = brief ? 0 : s->common_count, bounds = brief ? 0 : s->bound_count;
    bool complete = s->complete && !brief;

    put_varint(out, s->value_count);
    if (s->array) put_varint(out, s->item_count);
    if (s->item_count == 0) return;
    put_varint(out, s->distinct);
    put_u8(out, (uint8_t)((complete ? FLAG_COMPLETE : 0) | (s->cut ? FLAG_CUT : 0)));
    put_scalar(s, s->least, out);
    put_scalar(s, s->greatest, out);
    put_varint(out, common);
    for (uint32_t i = 0; i < common; i++) {
        put_scalar(s, s->values[i], out);
        put_varint(out, s->common_rows[i]);
    }
    put_varint(out, bounds);
    for (uint32_t i = 0; i < bounds; i++)
        put_scalar(s, s->values[s->common_count + i], out);
}

static union scalar get_scalar(struct op *op, struct reader *r, enum attr_type type)
{
    struct value v = VALUE_NULL;
    if (value_decode(op, type, false, r, &v)) r->failed = true;
    bool text = !v.null && type == ATTR_STRING;
    if (v.null || (text && v.one.s.size > COLUMN_STATS_TEXT_MAX)) r->failed = true;
    return v.one;
}

static void get_items(struct op *op, struct reader *r, struct column_stats *s)
{
    uint32_t n = 0;

    s->distinct = get_varint_max(r, s->item_count);
    uint8_t flags = get_u8(r);
    if (flags > (FLAG_COMPLETE | FLAG_CUT)) r->failed = true;
    s->complete = flags & FLAG_COMPLETE;
    s->cut = flags & FLAG_CUT;
    s->least = get_scalar(op, r, s->type);
    s->greatest = get_scalar(op, r, s->type);
    s->common_count = (uint32_t)get_varint_max(r, COLUMN_STATS_COMMON_MAX);
    for (uint32_t i = 0; i < s->common_count && !r->failed; i++) {
        s->values[n++] = get_scalar(op, r, s->type);
        s->common_rows[i] = (uint32_t)get_varint_max(r, s->value_count);
    }
    s->bound_count = (uint32_t)get_varint_max(r, COLUMN_STATS_BOUNDS_MAX);
    for (uint32_t i = 0; i < s->bound_count && !r->failed; i++)
        s->values[n++] = get_scalar(op, r, s->type);
    bool empty = s->complete && s->common_count == 0;
    if (r->failed || empty || (s->cut && s->type != ATTR_STRING)) {
        r->failed = true;
        return;
    }
    /* Both were cut where a character ends: the greatest may be the shorter one. */
    bool within = s->cut && slice_starts_with(s->least.s, s->greatest.s);
    if (!within && scalar_compare(s->type, &s->least, &s->greatest) > 0)
        r->failed = true;
}

bool column_stats_decode(struct op *op, struct reader *r, enum attr_type type,
                         bool array, uint32_t row_count, struct column_stats *out)
{
    struct column_stats s = {.type = type, .array = array, .row_count = row_count};

    s.value_count = (uint32_t)get_varint_max(r, row_count);
    s.item_count = array ? get_varint(r) : s.value_count;
    if (s.value_count == 0 && s.item_count > 0) r->failed = true;
    if (r->failed) return false;
    if (s.item_count > 0) {
        stats_init(&s);
        get_items(op, r, &s);
    }
    if (r->failed)
        column_stats_release(&s);
    else
        *out = s;
    return !r->failed;
}

/* ---- asking: facts ---- */

/* What a condition says of the values, nulls left out. */
struct said {
    bool none, all;
    double part; /* of the items or, `of_rows`, of the rows with a value */
    bool of_rows, blind;
};

/* Does v lie above every value, for sure? */
static bool is_above(const struct column_stats *s, const union scalar *v)
{
    if (scalar_compare(s->type, v, &s->greatest) <= 0) return false;
    return !s->cut || !slice_starts_with(v->s, s->greatest.s);
}

static bool is_below(const struct column_stats *s, const union scalar *v)
{
    return scalar_compare(s->type, v, &s->least) < 0;
}

/* May there be such a value? */
static bool may_have(const struct column_stats *s, const union scalar *v)
{
    if (is_below(s, v) || is_above(s, v)) return false;
    for (uint32_t i = 0; i < s->common_count; i++)
        if (scalar_compare(s->type, v, &s->values[i]) == 0) return true;
    return !s->complete;
}

/* ---- asking: estimates ---- */

/* The part of the rows with a value that hold this one. */
static double part_equal(const struct column_stats *s, const union scalar *v)
{
    double rest = (double)s->item_count;
    if (!may_have(s, v)) return 0;
    for (uint32_t i = 0; i < s->common_count; i++) {
        if (scalar_compare(s->type, v, &s->values[i]) == 0)
            return (double)s->common_rows[i] / s->value_count;
        rest -= s->common_rows[i];
    }
    double others = (double)s->distinct - s->common_count;
    double rows = rest > 1 && others > 1 ? rest / others : 1;
    return rows < s->value_count ? rows / s->value_count : 1;
}

/* Values in order: least, the bounds, greatest. */
static const union scalar *edge(const struct column_stats *s, uint32_t i)
{
    if (i == 0) return &s->least;
    return i <= s->bound_count ? &s->values[s->common_count + i - 1] : &s->greatest;
}

/* False: the type's values are not on a line. */
static bool as_number(enum attr_type type, const union scalar *v, double *out)
{
    switch (type) {
    case ATTR_INT:
    case ATTR_DATETIME: *out = (double)v->i; return true;
    case ATTR_UINT: *out = (double)v->u; return true;
    case ATTR_FLOAT: *out = v->f; return true;
    case ATTR_BOOL: *out = v->b; return true;
    default: return false;
    }
}

/* How far v lies from one edge to the next, 0 to 1. */
static double way_between(enum attr_type type, const union scalar *from,
                          const union scalar *v, const union scalar *to)
{
    double a, b, c;
    if (!as_number(type, from, &a) || !as_number(type, v, &b) ||
        !as_number(type, to, &c))
        return 0.5;
    double way = (b / 2 - a / 2) / (c / 2 - a / 2); /* halves do not overflow */
    return way >= 0 && way <= 1 ? way : 0.5;
}

/* The part of the items below v, or not above it. */
static double part_below(const struct column_stats *s, const union scalar *v,
                         bool or_equal)
{
    uint32_t parts = s->bound_count + 1, passed = 0;
    for (uint32_t i = 0; i <= parts; i++) {
        int order = scalar_compare(s->type, edge(s, i), v);
        if (order < 0 || (or_equal && order == 0)) passed = i + 1;
    }
    if (passed == 0) return 0;
    if (passed > parts) return 1;
    double way = way_between(s->type, edge(s, passed - 1), v, edge(s, passed));
    return (passed - 1 + way) / parts;
}

/* The part of the items that begin with the text. */
static double part_beginning(const struct column_stats *s, struct slice text)
{
    uint32_t parts = s->bound_count + 1, inside = 0;
    for (uint32_t i = 0; i <= parts; i++)
        inside += slice_starts_with(edge(s, i)->s, text);
    double part = inside > 1 ? (inside - 1.0) / parts : 0;
    double few = (inside > 0 ? 0.5 : 0.25) / parts;
    for (uint32_t i = 0; i < s->common_count; i++)
        if (slice_starts_with(s->values[i].s, text))
            few += (double)s->common_rows[i] / (double)s->item_count;
    return part > few ? part : few;
}

/* ---- conditions ---- */

static struct said said_listed(const struct column_stats *s, const struct filter *f)
{
    struct said said = {.none = true, .of_rows = true};
    if (f->value_count == 0) return said;
    if (f->value_count > LIST_MAX) {
        bool apart =
            is_above(s, &f->values[0]) || is_below(s, &f->values[f->value_count - 1]);
        said.part = (double)f->value_count / ((double)s->distinct + 1);
        if (said.part > 1) said.part = 1;
        said.none = apart;
    }
    for (size_t i = 0; i < f->value_count && f->value_count <= LIST_MAX; i++) {
        if (!may_have(s, &f->values[i])) continue;
        said.none = false;
        said.part += part_equal(s, &f->values[i]);
    }
    if (said.none) said.part = 0;
    if (said.part > 1) said.part = 1;
    return said;
}

static struct said said_compared(const struct column_stats *s, const struct filter *f)
{
    const union scalar *v = &f->values[0];
    int to_least = scalar_compare(s->type, v, &s->least);
    int to_greatest = scalar_compare(s->type, v, &s->greatest);
    bool above = is_above(s, v), at_top = !s->cut && to_greatest >= 0;

    switch (f->op) {
    case FILTER_GT:
        return (struct said){.none = above || at_top,
                             .all = to_least < 0,
                             .part = 1 - part_below(s, v, true)};
    case FILTER_GTE:
        return (struct said){.none = above,
                             .all = to_least <= 0,
                             .part = 1 - part_below(s, v, false)};
    case FILTER_LT:
        return (struct said){.none = to_least <= 0,
                             .all = above,
                             .part = part_below(s, v, false)};
    default:
        return (struct said){.none = to_least < 0,
                             .all = above || at_top,
                             .part = part_below(s, v, true)};
    }
}

static struct said said_beginning(const struct column_stats *s, struct slice text)
{
    bool least = slice_starts_with(s->least.s, text);
    bool greatest = slice_starts_with(s->greatest.s, text);
    union scalar v = {.s = text};
    /* Texts that begin so lie between v and whatever is above all of them. */
    bool passed = is_above(s, &v);
    bool behind = slice_compare(s->least.s, text) > 0 && !least;
    struct said said = {.none = passed || behind, .all = least && greatest};
    said.part = said.all ? 1 : said.none ? 0 : part_beginning(s, text);
    return said;
}

static struct said said_glob(const struct column_stats *s, struct slice pattern)
{
    size_t size = 0;
    while (size < pattern.size && !strchr("*?[\\", pattern.data[size]))
        size++;
    if (size == 0) return (struct said){.blind = true, .part = BLIND_PART};
    struct said said = said_beginning(s, slice_of(pattern.data, size));
    said.all = false;
    return said;
}

static struct said said_every(const struct column_stats *s, const struct filter *f)
{
    struct said said = {.part = 1, .of_rows = true};
    for (size_t i = 0; i < f->value_count && i < LIST_MAX; i++) {
        said.part *= part_equal(s, &f->values[i]);
        said.none |= !may_have(s, &f->values[i]);
    }
    return said;
}

/* All values are listed: each of them is asked. */
static struct said said_of_each(const struct column_stats *s, const struct filter *f)
{
    struct said said = {.none = true, .all = !s->array, .of_rows = true};
    double rows = 0;
    for (uint32_t i = 0; i < s->common_count; i++) {
        bool met = filter_scalar(f, &s->values[i]);
        if (met) rows += s->common_rows[i];
        said.none &= !met;
        said.all &= met;
    }
    said.part = rows < s->value_count ? rows / s->value_count : 1;
    return said;
}

static struct said opposite(struct said said)
{
    return (struct said){.none = said.all,
                         .all = said.none,
                         .part = 1 - said.part,
                         .of_rows = said.of_rows,
                         .blind = said.blind};
}

static struct said said_of_items(const struct column_stats *s, const struct filter *f)
{
    if (f->op == FILTER_CONTAINS_ALL) return said_every(s, f);
    if (s->complete) return said_of_each(s, f);
    switch (f->op) {
    case FILTER_EQ:
    case FILTER_IN:
    case FILTER_CONTAINS_ANY: return said_listed(s, f);
    case FILTER_NE:
    case FILTER_NOT_IN: return opposite(said_listed(s, f));
    case FILTER_CONTAINS:
        if (s->array) return said_listed(s, f);
        return (struct said){.blind = true, .part = BLIND_PART};
    case FILTER_PREFIX: return said_beginning(s, f->values[0].s);
    case FILTER_GLOB: return said_glob(s, f->values[0].s);
    default: return said_compared(s, f);
    }
}

static struct said said_of_values(const struct column_stats *s, const struct filter *f)
{
    if (f->op == FILTER_EXISTS)
        return (struct said){.none = !f->exists, .all = f->exists, .part = f->exists};
    if (f->value_count == 0) { /* of null alone, or of an empty list */
        bool met = f->op == FILTER_NE || f->op == FILTER_NOT_IN ||
                   f->op == FILTER_CONTAINS_ALL;
        return (struct said){.none = !met, .all = met, .part = met};
    }
    if (s->item_count == 0) return (struct said){.none = true}; /* empty arrays */
    struct said said = said_of_items(s, f);
    if (s->array && !said.of_rows) {
        said.part *= (double)s->item_count / s->value_count;
        if (said.part > 1) said.part = 1;
    }
    if (s->array) said.all = false;
    if (said.all) said.part = 1;
    if (said.none) said.part = 0;
    return said;
}

void column_stats_ask(const struct column_stats *s, const struct filter *f,
                      struct stats_answer *out)
{
    enum truth null = filter_null(f);
    double rows = s->row_count ? s->row_count : 1, with = s->value_count / rows;
    bool nulls = s->value_count < s->row_count;

    assert(f->type == s->type && f->array == s->array);
    *out = (struct stats_answer){.may_be_true = nulls && null == TRUTH_TRUE,
                                 .may_be_false = nulls && null == TRUTH_FALSE,
                                 .may_be_unknown = nulls && null == TRUTH_UNKNOWN};
    if (out->may_be_true) out->part_true = 1 - with;
    if (out->may_be_unknown) out->part_unknown = 1 - with;
    if (s->value_count == 0) return;
    struct said said = said_of_values(s, f);
    out->may_be_true |= !said.none;
    out->may_be_false |= !said.all;
    out->part_true += with * said.part;
    out->blind = said.blind;
}

void stats_answer_blind(struct stats_answer *out)
{
    *out = (struct stats_answer){.may_be_true = true,
                                 .may_be_false = true,
                                 .may_be_unknown = true,
                                 .part_true = BLIND_PART,
                                 .blind = true};
}
