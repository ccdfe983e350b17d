/*
 * Aggregates over the allowed rows, source by source and column by column: a chunk's
 * rows are given their groups first, then each attribute is added up. Integers are
 * summed in 128 bits, floats in long double, which overflows for no number of doubles.
 */
#include <assert.h>
#include <float.h>
#include <stdlib.h>

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "query/exec.h"

enum { CHUNK = COLUMN_BLOCK, NO_GROUP = UINT32_MAX };

__extension__ typedef __int128 wide;

struct sum {
    wide integer;
    long double floating;
};

struct group {
    struct value key;
    uint64_t count;
};

struct table {
    struct op *op;
    const struct exec *x;
    const struct aggregate *a;
    enum attr_type key_type;
    uint64_t seed; /* group keys are the users': nobody may choose the collisions */

    /* By group: sum_count, min_count, max_count of them each. */
    struct group *groups;
    struct sum *sums;
    struct value *mins, *maxs;
    size_t count, capacity;
    uint32_t null_group;
    uint32_t *slots; /* group + 1, 0 is empty; at most half taken */
    size_t slot_count;

    /* of the source at hand */
    const struct column *key_column;
    uint32_t *code_groups; /* group + 1 of each entry of its dictionary */
};

/* ---- groups ---- */

static uint64_t key_hash(const struct table *t, const union scalar *key)
{
    struct slice text = slice_of(&key->u, sizeof key->u);
    union scalar zero = {.f = 0};

    if (t->key_type == ATTR_STRING) text = key->s;
    if (t->key_type == ATTR_UUID) text = slice_of(key->uuid, sizeof key->uuid);
    if (t->key_type == ATTR_BOOL) text = slice_of(&key->b, sizeof key->b);
    if (t->key_type == ATTR_FLOAT && scalar_compare(ATTR_FLOAT, key, &zero) == 0)
        text = slice_of(&zero.u, sizeof zero.u); /* -0 is 0 */
    return xxh3_64_seeded(text.data, text.size, t->seed);
}

/* The slot that holds key, or the free one where it belongs. */
static size_t find_slot(const struct table *t, const union scalar *key)
{
    size_t mask = t->slot_count - 1, slot = key_hash(t, key) & mask;
    for (; t->slots[slot]; slot = (slot + 1) & mask) {
        const struct group *g = &t->groups[t->slots[slot] - 1];
        if (scalar_compare(t->key_type, &g->key.one, key) == 0) break;
    }
    return slot;
}

static void *grown(void *old, size_t count, size_t more, size_t size)
{
    uint8_t *p = mem_realloc(old, (count + more) * size + 1);
    memset(p + count * size, 0, more * size);
    return p;
}

/* Room for twice as many groups. */
static void table_grow(struct table *t)
{
    size_t old = t->capacity, more = old ? old : 64;

    t->groups = grown(t->groups, old, more, sizeof *t->groups);
    t->sums =
        grown(t->sums, old * t->a->sum_count, more * t->a->sum_count, sizeof *t->sums);
    t->mins =
        grown(t->mins, old * t->a->min_count, more * t->a->min_count, sizeof *t->mins);
    t->maxs =
        grown(t->maxs, old * t->a->max_count, more * t->a->max_count, sizeof *t->maxs);
    t->capacity = old + more;
    mem_free(t->slots);
    t->slot_count = 2 * t->capacity;
    t->slots = mem_new_array(uint32_t, t->slot_count);
    for (size_t i = 0; i < t->count; i++)
        if (!t->groups[i].key.null)
            t->slots[find_slot(t, &t->groups[i].key.one)] = (uint32_t)i + 1;
}

static enum err add_group(struct table *t, struct value key, uint32_t *group)
{
    if (t->count == QUERY_GROUPS_MAX)
        return op_fail(
            t->op, ERR_INVALID,
            "aggregate.group_by: \"%s\" has more than %d values here: filter "
            "for fewer",
            t->x->snapshot->schema->attrs[t->a->group_by].name, QUERY_GROUPS_MAX);
    if (t->count == t->capacity) table_grow(t);
    if (!key.null && t->key_type == ATTR_STRING) {
        key.one.s = op_copy(t->op, key.one.s);
        if (!key.one.s.data) return ERR_LIMIT;
    }
    *group = (uint32_t)t->count++;
    t->groups[*group].key = key;
    for (size_t i = 0; i < t->a->min_count; i++)
        t->mins[*group * t->a->min_count + i] = VALUE_NULL;
    for (size_t i = 0; i < t->a->max_count; i++)
        t->maxs[*group * t->a->max_count + i] = VALUE_NULL;
    if (!key.null) t->slots[find_slot(t, &key.one)] = *group + 1;
    return ERR_OK;
}

static enum err find_or_add(struct table *t, union scalar key, uint32_t *group)
{
    size_t slot = t->slot_count ? find_slot(t, &key) : 0;
    if (t->slot_count && t->slots[slot]) {
        *group = t->slots[slot] - 1;
        return ERR_OK;
    }
    return add_group(t, (struct value){.one = key}, group);
}

static enum err null_group(struct table *t, uint32_t *group)
{
    enum err e = ERR_OK;
    if (t->null_group == NO_GROUP) e = add_group(t, VALUE_NULL, &t->null_group);
    *group = t->null_group;
    return e;
}

/* The group of a row; a value of a dictionary is looked up once per source. */
static enum err group_of(struct table *t, uint32_t row, uint32_t *group)
{
    uint64_t key;
    if (!t->key_column || !column_key_at(t->key_column, row, &key))
        return null_group(t, group);
    if (!t->code_groups)
        return find_or_add(t, column_key_scalar(t->key_column, key), group);

    uint32_t *known = &t->code_groups[key];
    enum err e = ERR_OK;
    if (*known == 0) {
        e = find_or_add(t, column_key_scalar(t->key_column, key), group);
        if (!e) *known = *group + 1;
    }
    *group = *known - 1;
    return e;
}

static enum err group_rows(struct table *t, const uint32_t *rows, size_t n,
                           uint32_t *groups)
{
    for (size_t i = 0; i < n; i++) {
        enum err e = group_of(t, rows[i], &groups[i]);
        if (e) return e;
        assert(t->groups && groups[i] < t->count);
        t->groups[groups[i]].count++;
    }
    return ERR_OK;
}

/* ---- adding up ---- */

static void sum_rows(struct table *t, size_t index, const struct column *c,
                     const uint32_t *rows, size_t n, const uint32_t *groups)
{
    enum attr_type type = t->x->snapshot->schema->attrs[t->a->sums[index]].type;
    for (size_t i = 0; i < n; i++) {
        struct sum *sum = &t->sums[groups[i] * t->a->sum_count + index];
        uint64_t key;
        if (!column_key_at(c, rows[i], &key)) continue;
        union scalar v = column_key_scalar(c, key);
        if (type == ATTR_FLOAT)
            sum->floating += (long double)v.f;
        else
            sum->integer += type == ATTR_INT ? (wide)v.i : (wide)v.u;
    }
}

/* sign 1: the greatest; -1: the least. `best` has `stride` values per group. */
static void extreme_rows(struct value *best, size_t stride, enum attr_type type,
                         int sign, const struct column *c, const uint32_t *rows,
                         size_t n, const uint32_t *groups)
{
    for (size_t i = 0; i < n; i++) {
        struct value *v = &best[groups[i] * stride];
        uint64_t key;
        if (!column_key_at(c, rows[i], &key)) continue;
        union scalar one = column_key_scalar(c, key);
        if (v->null || scalar_compare(type, &one, &v->one) * sign > 0)
            *v = (struct value){.one = one};
    }
}

static void add_rows(struct table *t, uint32_t source, const uint32_t *rows, size_t n,
                     const uint32_t *groups)
{
    const struct aggregate *a = t->a;
    const struct attr *attrs = t->x->snapshot->schema->attrs;

    for (size_t i = 0; i < a->sum_count; i++) {
        const struct column *c = exec_column(t->x, source, a->sums[i]);
        if (c) sum_rows(t, i, c, rows, n, groups);
    }
    for (size_t i = 0; i < a->min_count; i++) {
        const struct column *c = exec_column(t->x, source, a->mins[i]);
        if (c)
            extreme_rows(t->mins + i, a->min_count, attrs[a->mins[i]].type, -1, c, rows,
                         n, groups);
    }
    for (size_t i = 0; i < a->max_count; i++) {
        const struct column *c = exec_column(t->x, source, a->maxs[i]);
        if (c)
            extreme_rows(t->maxs + i, a->max_count, attrs[a->maxs[i]].type, 1, c, rows,
                         n, groups);
    }
}

static enum err add_source(struct op *op, struct table *t, uint32_t source)
{
    uint32_t rows[CHUNK], groups[CHUNK] = {0}, from = 0;
    bool grouped = t->a->group_by != QUERY_UNGROUPED;
    enum err e = ERR_OK;

    t->key_column = grouped ? exec_column(t->x, source, t->a->group_by) : NULL;
    uint32_t codes = t->key_column ? column_dict_count(t->key_column) : 0;
    if (codes) t->code_groups = mem_new_array(uint32_t, codes);
    for (size_t n; !e && (n = exec_rows(t->x, source, from, rows, CHUNK)) > 0;
         from = rows[n - 1] + 1) {
        e = op_check(op);
        if (!e && grouped) e = group_rows(t, rows, n, groups);
        if (e) break;
        if (!grouped) t->groups[0].count += n;
        add_rows(t, source, rows, n, groups);
    }
    mem_free(t->code_groups);
    t->code_groups = NULL;
    return e;
}

/* ---- the result ---- */

static struct aggregate_sum sum_finish(const struct sum *sum, enum attr_type type)
{
    wide i = sum->integer;
    if (type == ATTR_FLOAT) {
        long double f = sum->floating, most = (long double)DBL_MAX;
        if (f > most) f = most;
        if (f < -most) f = -most;
        return (struct aggregate_sum){.kind = SUM_FLOATING, .f = (double)f};
    }
    if (i >= INT64_MIN && i <= INT64_MAX)
        return (struct aggregate_sum){.kind = SUM_SIGNED, .i = (int64_t)i};
    if (i > 0 && i <= (wide)UINT64_MAX)
        return (struct aggregate_sum){.kind = SUM_UNSIGNED, .u = (uint64_t)i};
    return (struct aggregate_sum){.kind = SUM_FLOATING, .f = (double)i};
}

/* Out of the columns, which are about to be closed. */
static enum err copy_values(struct op *op, const struct value *from, size_t count,
                            const int *attrs, const struct schema *schema,
                            struct value **out)
{
    *out = op_new_array(op, struct value, count + 1);
    if (!*out) return ERR_LIMIT;
    for (size_t i = 0; i < count; i++) {
        struct value v = from[i];
        if (!v.null && schema->attrs[attrs[i]].type == ATTR_STRING) {
            v.one.s = op_copy(op, v.one.s);
            if (!v.one.s.data) return ERR_LIMIT;
        }
        (*out)[i] = v;
    }
    return ERR_OK;
}

static enum err group_finish(struct op *op, const struct table *t, size_t index,
                             struct aggregate_group *out)
{
    const struct aggregate *a = t->a;
    const struct schema *schema = t->x->snapshot->schema;

    *out = (struct aggregate_group){.key = t->groups[index].key,
                                    .count = t->groups[index].count};
    out->sums = op_new_array(op, struct aggregate_sum, a->sum_count + 1);
    if (!out->sums) return ERR_LIMIT;
    for (size_t i = 0; i < a->sum_count; i++)
        out->sums[i] = sum_finish(&t->sums[index * a->sum_count + i],
                                  schema->attrs[a->sums[i]].type);
    enum err e = copy_values(op, t->mins + index * a->min_count, a->min_count, a->mins,
                             schema, &out->mins);
    if (e) return e;
    return copy_values(op, t->maxs + index * a->max_count, a->max_count, a->maxs,
                       schema, &out->maxs);
}

static int compare_groups(const void *a, const void *b, void *table)
{
    const struct table *t = table;
    const struct aggregate_group *x = a, *y = b;
    if (x->key.null || y->key.null) return x->key.null - y->key.null;
    return scalar_compare(t->key_type, &x->key.one, &y->key.one);
}

static enum err table_finish(struct op *op, struct table *t, struct query_result *r)
{
    r->group_count = t->count;
    r->groups = op_new_array(op, struct aggregate_group, t->count + 1);
    if (!r->groups) return ERR_LIMIT;
    for (size_t i = 0; i < t->count; i++) {
        enum err e = group_finish(op, t, i, &r->groups[i]);
        if (e) return e;
    }
    if (t->count > 0)
        qsort_r(r->groups, t->count, sizeof *r->groups, compare_groups, t);
    return ERR_OK;
}

enum err aggregate_rows(struct op *op, const struct exec *x, struct query_result *r)
{
    const struct aggregate *a = x->query->aggregate;
    struct table t = {.op = op,
                      .x = x,
                      .a = a,
                      .key_type = ATTR_STRING,
                      .seed = random_u64(),
                      .null_group = NO_GROUP};
    uint32_t all;
    enum err e = ERR_OK;

    if (a->group_by != QUERY_UNGROUPED)
        t.key_type = x->snapshot->schema->attrs[a->group_by].type;
    else
        e = null_group(&t, &all);
    for (uint32_t i = 0; i < x->snapshot->source_count && !e; i++)
        if (!x->allowed.none[i]) e = add_source(op, &t, i);
    if (!e) e = table_finish(op, &t, r);
    mem_free(t.groups);
    mem_free(t.sums);
    mem_free(t.mins);
    mem_free(t.maxs);
    mem_free(t.slots);
    return e;
}
