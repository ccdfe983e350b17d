/*
 * random_docs.h - random schemas, values and documents for the tests of doc/ and attr/.
 *
 * Values are drawn from small sets with the extremes in them, so that equal values,
 * neighbours and limits all occur often. Everything lives in the op's arena.
 */
#ifndef TESTS_UNIT_RANDOM_DOCS_H
#define TESTS_UNIT_RANDOM_DOCS_H

#include <float.h>

#include "base/op.h"
#include "doc/batch.h"
#include "unit/test.h"

static const enum attr_type all_types[] = {ATTR_STRING, ATTR_INT,  ATTR_UINT,
                                           ATTR_FLOAT,  ATTR_BOOL, ATTR_DATETIME,
                                           ATTR_UUID};

/* Below n. */
static inline uint32_t random_index(uint64_t *rng, size_t n)
{
    return (uint32_t)(test_random(rng) % n);
}

static inline struct slice random_string(struct op *op, uint64_t *rng)
{
    static const char *const letters[] = {"a", "b", "ab", "ü", "*", "", "b", "€"};
    struct buf b = BUF_INIT;
    for (uint32_t n = random_index(rng, 5); n > 0; n--)
        buf_append_str(&b, letters[random_index(rng, COUNT_OF(letters))]);
    struct slice s = op_copy(op, buf_slice(&b));
    buf_release(&b);
    return s;
}

static inline union scalar random_scalar(struct op *op, uint64_t *rng,
                                         enum attr_type type)
{
    static const int64_t ints[] = {INT64_MIN, INT64_MAX, -1,    0,        1,
                                   255,       256,       65536, 1LL << 40};
    static const double floats[] = {-DBL_MAX, DBL_MAX, -0.0, 0.0,
                                    DBL_MIN,  -1.5,    1.5,  1e-310};
    union scalar v = {.u = 0};
    bool narrow = random_index(rng, 2);
    switch (type) {
    case ATTR_STRING: v.s = random_string(op, rng); break;
    case ATTR_INT:
        v.i = narrow ? (int64_t)random_index(rng, 10) - 5
                     : ints[random_index(rng, COUNT_OF(ints))];
        break;
    case ATTR_DATETIME:
        v.i = ((int64_t)random_index(rng, 10) - 5) * (narrow ? 1 : 10000000000000000);
        break;
    case ATTR_UINT:
        v.u = narrow ? random_index(rng, 10)
                     : (uint64_t)ints[random_index(rng, COUNT_OF(ints))];
        break;
    case ATTR_FLOAT:
        v.f = narrow ? (double)random_index(rng, 10) / 2 - 2
                     : floats[random_index(rng, COUNT_OF(floats))];
        break;
    case ATTR_BOOL: v.b = narrow; break;
    case ATTR_UUID:
        memset(v.uuid, 7, sizeof v.uuid);
        v.uuid[random_index(rng, 16)] = (uint8_t)random_index(rng, 3);
        break;
    }
    return v;
}

static inline struct value random_value(struct op *op, uint64_t *rng,
                                        enum attr_type type, bool array)
{
    struct value v = {.null = random_index(rng, 5) == 0};
    if (v.null) return v;
    if (!array) {
        v.one = random_scalar(op, rng, type);
        return v;
    }
    v.count = random_index(rng, 5);
    union scalar *items = op_new_array(op, union scalar, v.count);
    for (uint32_t i = 0; i < v.count; i++)
        items[i] = random_scalar(op, rng, type);
    v.items = items;
    return v;
}

/* attr_count attributes "a0", "a1", ...; the caller unrefs it. */
static inline struct schema *random_schema(uint64_t *rng, uint32_t vector_dim,
                                           uint32_t attr_count)
{
    struct attr attrs[SCHEMA_ATTRS_MAX];
    static char names[SCHEMA_ATTRS_MAX][16];
    for (uint32_t i = 0; i < attr_count; i++) {
        (void)snprintf(names[i], sizeof names[i], "a%u", i);
        attrs[i] = (struct attr){
            .name = names[i],
            .type = all_types[random_index(rng, COUNT_OF(all_types))],
            .array = random_index(rng, 3) == 0,
            .indexed = random_index(rng, 2),
        };
        attrs[i].full_text = attrs[i].type == ATTR_STRING && random_index(rng, 2);
        attrs[i].analysis = ANALYSIS_DEFAULT;
        attrs[i].analysis.language = (enum language)(1 + random_index(rng, LANG_LAST));
        attrs[i].analysis.stemming = random_index(rng, 2);
    }
    enum metric_kind metric = (enum metric_kind)(1 + random_index(rng, 3));
    return schema_new(vector_dim, metric, attrs, attr_count);
}

static inline struct doc random_doc(struct op *op, uint64_t *rng, struct doc_id id,
                                    const struct schema *schema)
{
    struct doc d = {.id = id};
    struct value *values = op_new_array(op, struct value, schema->attr_count);
    for (uint32_t i = 0; i < schema->attr_count; i++)
        values[i] =
            random_value(op, rng, schema->attrs[i].type, schema->attrs[i].array);
    d.values = values;
    if (schema->vector_dim == 0 || random_index(rng, 4) == 0) return d;
    float *vector = op_new_array(op, float, schema->vector_dim);
    for (uint32_t i = 0; i < schema->vector_dim; i++)
        vector[i] = (float)random_index(rng, 1000) / 7;
    d.vector = vector;
    return d;
}

static inline struct doc_id number_id(uint64_t n)
{
    return (struct doc_id){.kind = ID_U64, .u64 = n};
}

static inline struct doc_id string_id(const char *text)
{
    return (struct doc_id){.kind = ID_STRING, .string = slice_str(text)};
}

#endif
