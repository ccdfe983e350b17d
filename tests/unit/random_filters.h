/*
 * random_filters.h - random filters bound to a schema, of every operator that is
 * allowed.
 */
#ifndef TESTS_UNIT_RANDOM_FILTERS_H
#define TESTS_UNIT_RANDOM_FILTERS_H

#include "doc/filter.h"
#include "unit/random_docs.h"

static inline struct slice random_pattern(struct op *op, uint64_t *rng)
{
    static const char *const pieces[] = {"*",    "a", "?",   "[ab]",
                                         "[!b]", "ü", "\\*", "ab"};
    struct buf b = BUF_INIT;
    for (uint32_t n = random_index(rng, 4); n > 0; n--)
        buf_append_str(&b, pieces[random_index(rng, COUNT_OF(pieces))]);
    struct slice s = op_copy(op, buf_slice(&b));
    buf_release(&b);
    return s;
}

static inline int random_filters_compare(const void *a, const void *b, void *type)
{
    return scalar_compare(*(const enum attr_type *)type, a, b);
}

/* Sorted and unique, as a filter wants them. */
static inline void random_list(struct op *op, uint64_t *rng, struct filter *f,
                               size_t count)
{
    union scalar *values = op_new_array(op, union scalar, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        values[i] = random_scalar(op, rng, f->type);
    if (count) qsort_r(values, count, sizeof *values, random_filters_compare, &f->type);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || scalar_compare(f->type, &values[kept - 1], &values[i]) != 0)
            values[kept++] = values[i];
    f->values = values;
    f->value_count = kept;
}

static inline void random_operands(struct op *op, uint64_t *rng, struct filter *f)
{
    bool about_null = (f->op == FILTER_EQ || f->op == FILTER_NE) &&
                      (f->array || random_index(rng, 4) == 0);
    bool list = filter_op_takes_list(f->op);
    f->exists = random_index(rng, 2);
    f->with_null = about_null || ((f->op == FILTER_IN || f->op == FILTER_NOT_IN) &&
                                  random_index(rng, 3) == 0);
    if (f->op == FILTER_GLOB) {
        union scalar *pattern = op_new(op, union scalar);
        pattern->s = random_pattern(op, rng);
        f->values = pattern;
        f->value_count = 1;
    } else if (f->op != FILTER_EXISTS && !about_null) {
        random_list(op, rng, f, list ? random_index(rng, 6) : 1);
    }
}

static inline struct filter *random_condition(struct op *op, uint64_t *rng,
                                              const struct schema *schema)
{
    struct filter *f = op_new(op, struct filter);
    f->attr = (int)random_index(rng, schema->attr_count);
    f->type = schema->attrs[f->attr].type;
    f->array = schema->attrs[f->attr].array;
    do
        f->op =
            (enum filter_op)(FILTER_EQ + random_index(rng, FILTER_EXISTS - FILTER_NOT));
    while (!filter_op_allowed(f->op, f->type, f->array) && f->op != FILTER_EQ &&
           f->op != FILTER_NE);
    random_operands(op, rng, f);
    return f;
}

/* On number ids below 2 * id_count. */
static inline struct filter *random_id_condition(struct op *op, uint64_t *rng,
                                                 uint32_t id_count)
{
    static const enum filter_op ops[] = {FILTER_EQ,     FILTER_NE, FILTER_IN,
                                         FILTER_NOT_IN, FILTER_GT, FILTER_GTE,
                                         FILTER_LT,     FILTER_LTE};
    struct filter *f = op_new(op, struct filter);
    f->op = ops[random_index(rng, COUNT_OF(ops))];
    f->attr = FILTER_ATTR_ID;
    f->id_count = filter_op_takes_list(f->op) ? random_index(rng, 4) : 1;
    struct doc_id *ids = op_new_array(op, struct doc_id, f->id_count);
    uint64_t next = 0;
    for (size_t i = 0; i < f->id_count; i++) {
        next += 1 + random_index(rng, id_count + 1);
        ids[i] = number_id(next);
    }
    f->ids = ids;
    return f;
}

static inline struct filter *random_filter(struct op *op, uint64_t *rng,
                                           const struct schema *schema,
                                           uint32_t id_count, uint32_t depth)
{
    if (depth == 0 || random_index(rng, 4) == 0)
        return schema->attr_count == 0 || random_index(rng, 8) == 0
                   ? random_id_condition(op, rng, id_count)
                   : random_condition(op, rng, schema);
    struct filter *f = op_new(op, struct filter);
    f->op = (enum filter_op)(FILTER_AND + random_index(rng, 3));
    f->child_count = f->op == FILTER_NOT ? 1 : random_index(rng, 4);
    f->children = op_new_array(op, struct filter *, f->child_count);
    for (size_t i = 0; i < f->child_count; i++)
        f->children[i] = random_filter(op, rng, schema, id_count, depth - 1);
    return f;
}

#endif
