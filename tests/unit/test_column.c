#include "attr/column.h"

#include "attr/cells.h"
#include "base/codec.h"
#include "base/op.h"
#include "base/rowset.h"
#include "unit/golden.h"
#include "unit/random_filters.h"
#include "unit/test.h"

static struct op op;

static int setup(void **state)
{
    (void)state;
    op_init(&op, OP_NO_DEADLINE, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    op_release(&op);
    return 0;
}

static struct slice build_as(bool indexed, enum attr_type type, bool array,
                             const struct value *values, uint32_t row_count)
{
    struct column_builder *b = column_builder_new(type, array, indexed);
    struct buf bytes = BUF_INIT;
    for (uint32_t row = 0; row < row_count; row++)
        column_builder_add(b, &values[row]);
    column_builder_finish(b, &bytes);
    struct slice kept = op_copy(&op, buf_slice(&bytes));
    buf_release(&bytes);
    return kept;
}

static struct slice build(enum attr_type type, bool array, const struct value *values,
                          uint32_t row_count)
{
    return build_as(false, type, array, values, row_count);
}

static struct column *open_or_fail(struct slice bytes, enum attr_type type, bool array,
                                   uint32_t row_count)
{
    struct column *c = NULL;
    assert_int_equal(column_open(&op, bytes, type, array, row_count, &c), ERR_OK);
    return c;
}

/* Bit for bit: a column keeps -0. */
static bool scalars_identical(enum attr_type type, const union scalar *a,
                              const union scalar *b)
{
    if (type == ATTR_FLOAT) return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    return scalar_compare(type, a, b) == 0;
}

static void assert_identical(enum attr_type type, bool array, const struct value *a,
                             const struct value *b)
{
    assert_int_equal(a->null, b->null);
    if (a->null) return;
    if (!array) {
        assert_true(scalars_identical(type, &a->one, &b->one));
        return;
    }
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++)
        assert_true(scalars_identical(type, &a->items[i], &b->items[i]));
}

/* ---- building and reading ---- */

static void every_value_reads_back(void **state)
{
    (void)state;
    static const uint32_t row_counts[] = {0,   1,   2,    63,   64,   65,   127,
                                          128, 200, 4095, 4096, 4097, 8192, 9000};
    uint64_t rng = test_seed();
    for (size_t t = 0; t < 2 * COUNT_OF(all_types); t++)
        for (size_t n = 0; n < COUNT_OF(row_counts); n++) {
            enum attr_type type = all_types[t / 2];
            bool array = t % 2;
            uint32_t row_count = row_counts[n];
            struct value *values = op_new_array(&op, struct value, row_count);
            for (uint32_t row = 0; row < row_count; row++)
                values[row] = random_value(&op, &rng, type, array);
            struct slice bytes = build_as(n % 2, type, array, values, row_count);
            struct column *c = open_or_fail(bytes, type, array, row_count);
            for (uint32_t row = 0; row < row_count; row++) {
                struct value v;
                assert_int_equal(column_value(&op, c, row, &v), ERR_OK);
                assert_identical(type, array, &values[row], &v);
            }
        }
}

static void columns_of_nothing_but_nulls_work(void **state)
{
    (void)state;
    static struct value values[5000];
    for (size_t i = 0; i < COUNT_OF(values); i++)
        values[i] = VALUE_NULL;
    for (size_t t = 0; t < 2 * COUNT_OF(all_types); t++) {
        struct slice bytes = build_as(t / 2 % 2, all_types[t / 2], t % 2, values, 5000);
        struct column *c = open_or_fail(bytes, all_types[t / 2], t % 2, 5000);
        struct rowset *nulls = rowset_new();
        struct value v;
        assert_int_equal(column_value(&op, c, 4999, &v), ERR_OK);
        assert_true(v.null);
        column_nulls(c, nulls);
        assert_true(rowset_count(nulls) == 5000);
        rowset_unref(nulls);
    }
}

static void nulls_are_found_and_only_they(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    struct value values[700];
    uint64_t expected = 0;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        values[i] = random_value(&op, &rng, ATTR_INT, false);
        expected += values[i].null;
    }
    struct column *c =
        open_or_fail(build(ATTR_INT, false, values, 700), ATTR_INT, false, 700);
    struct rowset *nulls = rowset_new();
    column_nulls(c, nulls);
    assert_true(rowset_count(nulls) == expected);
    for (uint32_t row = 0; row < 700; row++)
        assert_int_equal(rowset_has(nulls, row), values[row].null);
    rowset_unref(nulls);
}

/* Keys stand for their values, lie in their block's bounds, and any value, there or
 * not, has its place among them. */
static void expect_keys(const struct column *c, enum attr_type type,
                        const struct value *values, uint32_t count)
{
    uint64_t rng = 1, least, most;
    column_block_keys(c, 0, &least, &most);
    for (uint32_t row = 0; row < count; row++) {
        union scalar other = random_scalar(&op, &rng, type);
        uint64_t key;
        bool equal;
        if (!column_key_at(c, row, &key)) continue;
        union scalar back = column_key_scalar(c, key);
        assert_int_equal(scalar_compare(type, &back, &values[row].one), 0);
        assert_true(key >= least && key <= most);
        uint64_t from = column_key_from(c, &other, &equal);
        int order = scalar_compare(type, &values[row].one, &other);
        assert_int_equal(order < 0, key < from);
        assert_int_equal(order == 0, key == from && equal);
    }
}

static void rows_are_ordered_by_value_with_nulls_last(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (size_t t = 0; t < COUNT_OF(all_types); t++) {
        struct value values[100];
        for (size_t i = 0; i < COUNT_OF(values); i++)
            values[i] = random_value(&op, &rng, all_types[t], false);
        struct slice bytes = build(all_types[t], false, values, 100);
        struct column *c = open_or_fail(bytes, all_types[t], false, 100);
        for (uint32_t a = 0; a < 100; a++)
            for (uint32_t b = 0; b < 100; b++) {
                int expected =
                    values[a].null || values[b].null
                        ? values[a].null - values[b].null
                        : scalar_compare(all_types[t], &values[a].one, &values[b].one);
                uint64_t x = 0, y = 0;
                bool x_null = !column_key_at(c, a, &x),
                     y_null = !column_key_at(c, b, &y);
                int found = x_null || y_null ? x_null - y_null : (x > y) - (x < y);
                assert_int_equal(found, (expected > 0) - (expected < 0));
            }
        expect_keys(c, all_types[t], values, 100);
    }
}

static void a_column_can_outlive_the_op(void **state)
{
    (void)state;
    struct value one = {.one = {.i = 7}}, v;
    struct slice bytes = build(ATTR_INT, false, &one, 1);
    struct column *c = NULL;
    assert_int_equal(column_open(NULL, bytes, ATTR_INT, false, 1, &c), ERR_OK);
    assert_int_equal(column_value(&op, c, 0, &v), ERR_OK);
    assert_true(v.one.i == 7);
    column_close(c);
    column_close(NULL);
    column_close(open_or_fail(bytes, ATTR_INT, false, 1)); /* the op's: harmless */
    assert_int_equal(column_open(NULL, slice_of(bytes.data, 3), ATTR_INT, false, 1, &c),
                     ERR_CORRUPT);
    column_builder_free(column_builder_new(ATTR_STRING, true, true));
    column_builder_free(NULL);
}

/* ---- filters ---- */

static void assert_filter_equals_scalars(const struct column *c, const struct filter *f,
                                         const struct value *values, uint32_t row_count)
{
    struct rowset *rows = rowset_new();
    assert_int_equal(column_filter(&op, c, f, rows), ERR_OK);
    for (uint32_t row = 0; row < row_count; row++) {
        bool expected = values[row].null ? filter_null(f) == TRUTH_TRUE
                                         : filter_scalar(f, &values[row].one);
        if (rowset_has(rows, row) != expected)
            fail_msg("%s: row %u should %smatch", filter_op_name(f->op), row,
                     expected ? "" : "not ");
    }
    rowset_unref(rows);
}

/* Blocks of 0, 1, 2, 4 and 8 bytes per row, and operands in, at and outside of them. */
static void integers_of_every_width_are_filtered(void **state)
{
    (void)state;
    static const uint64_t ranges[] = {1,     2,     256,        257,
                                      65536, 65537, 1ULL << 32, UINT64_MAX};
    enum { ROWS = 9000 };
    uint64_t rng = test_seed();
    struct value *values = op_new_array(&op, struct value, ROWS);
    for (size_t r = 0; r < COUNT_OF(ranges); r++) {
        uint64_t base = test_random(&rng) >> random_index(&rng, 64);
        for (uint32_t row = 0; row < ROWS; row++)
            values[row].one.u = base + test_random(&rng) % ranges[r];
        struct column *c = open_or_fail(build_as(r % 2, ATTR_UINT, false, values, ROWS),
                                        ATTR_UINT, false, ROWS);
        for (int round = 0; round < 40; round++) {
            union scalar operands[3];
            operands[0].u =
                values[random_index(&rng, ROWS)].one.u + random_index(&rng, 3) - 1;
            operands[1].u = operands[0].u + random_index(&rng, 2);
            operands[2].u = values[random_index(&rng, ROWS)].one.u;
            struct filter f = {.op = (enum filter_op)(FILTER_EQ + round % 8),
                               .type = ATTR_UINT,
                               .values = operands,
                               .value_count = 1};
            bool list = filter_op_takes_list(f.op);
            bool ascending =
                operands[0].u < operands[1].u && operands[1].u < operands[2].u;
            if (list && ascending) f.value_count = 3;
            assert_filter_equals_scalars(c, &f, values, ROWS);
        }
    }
}

/* A dictionary whose places need 1, 2 and 4 bytes. */
static void dictionaries_of_every_width_are_filtered(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {200, 60000, 70000};
    uint64_t rng = test_seed();
    for (size_t i = 0; i < 2 * COUNT_OF(sizes); i++) {
        size_t s = i / 2;
        uint32_t row_count = sizes[s] + 5000;
        struct value *values = op_new_array(&op, struct value, row_count);
        for (uint32_t row = 0; row < row_count; row++) {
            uint64_t n = row < sizes[s] ? row : random_index(&rng, sizes[s]);
            values[row].one.s =
                slice_str(op_printf(&op, "%llx", (unsigned long long)n * 7919));
        }
        struct column *c =
            open_or_fail(build_as(i % 2, ATTR_STRING, false, values, row_count),
                         ATTR_STRING, false, row_count);
        for (uint32_t row = 0; row < row_count; row += 97) {
            struct value v;
            assert_int_equal(column_value(&op, c, row, &v), ERR_OK);
            assert_true(slice_equal(v.one.s, values[row].one.s));
        }
        static const struct {
            enum filter_op op;
            const char *operand;
        } cases[] = {
            {FILTER_EQ, "1eef"},     {FILTER_EQ, "none"},       {FILTER_GT, "8"},
            {FILTER_LT, "8"},        {FILTER_GTE, "1eef"},      {FILTER_LTE, "1eef"},
            {FILTER_LT, ""},         {FILTER_GT, "zz"},         {FILTER_PREFIX, "1e"},
            {FILTER_PREFIX, ""},     {FILTER_PREFIX, "z"},      {FILTER_GLOB, "1*e?f"},
            {FILTER_GLOB, "*[ab]"},  {FILTER_GLOB, "1ee\\f"},   {FILTER_GLOB, "z*"},
            {FILTER_CONTAINS, "ee"}, {FILTER_CONTAINS, "none"}, {FILTER_NE, "1eef"},
            {FILTER_NE, "none"},
        };
        for (size_t k = 0; k < COUNT_OF(cases); k++) {
            union scalar operand = {.s = slice_str(cases[k].operand)};
            struct filter f = {.op = cases[k].op,
                               .type = ATTR_STRING,
                               .values = &operand,
                               .value_count = 1};
            assert_filter_equals_scalars(c, &f, values, row_count);
        }
    }
}

static bool naive_has(const struct value *v, int64_t n)
{
    for (uint32_t i = 0; i < v->count; i++)
        if (v->items[i].i == n) return true;
    return false;
}

/* Arrays from empty to longer than a block, the same item repeated or not. */
static void arrays_of_any_length_are_filtered(void **state)
{
    (void)state;
    enum { ROWS = 400 };
    uint64_t rng = test_seed();
    struct value *values = op_new_array(&op, struct value, ROWS);
    for (uint32_t row = 0; row < ROWS; row++) {
        uint32_t count =
            random_index(&rng, 20) ? random_index(&rng, 40) : random_index(&rng, 12000);
        union scalar *items = op_new_array(&op, union scalar, count);
        for (uint32_t i = 0; i < count; i++)
            items[i].i = random_index(&rng, 4) ? (int64_t)random_index(&rng, 50)
                                               : (int64_t)random_index(&rng, 5000);
        values[row] = (struct value){.count = count, .items = items};
        if (random_index(&rng, 9) == 0) values[row] = VALUE_NULL;
    }
    struct column *plain =
        open_or_fail(build(ATTR_INT, true, values, ROWS), ATTR_INT, true, ROWS);
    struct column *indexed = open_or_fail(build_as(true, ATTR_INT, true, values, ROWS),
                                          ATTR_INT, true, ROWS);
    for (int round = 0; round < 400; round++) {
        struct column *c = round % 2 ? indexed : plain;
        union scalar operands[40];
        struct filter f = {.type = ATTR_INT, .array = true, .values = operands};
        f.op = (enum filter_op)(FILTER_CONTAINS + round % 3);
        size_t wanted = f.op == FILTER_CONTAINS ? 1 : random_index(&rng, 40);
        for (int64_t next = 0; f.value_count < wanted; f.value_count++)
            operands[f.value_count].i = next += 1 + random_index(&rng, 3);
        struct rowset *rows = rowset_new();
        assert_int_equal(column_filter(&op, c, &f, rows), ERR_OK);
        for (uint32_t row = 0; row < ROWS; row++) {
            size_t met = 0;
            for (size_t i = 0; i < f.value_count; i++)
                met += naive_has(&values[row], operands[i].i);
            bool expected =
                !values[row].null &&
                (f.op == FILTER_CONTAINS_ALL ? met == f.value_count : met > 0);
            assert_int_equal(rowset_has(rows, row), expected);
        }
        rowset_unref(rows);
    }
}

/* ---- stored bytes ---- */

static void another_type_or_row_count_is_corrupt(void **state)
{
    (void)state;
    struct value values[] = {{.one = {.i = 1}}, VALUE_NULL};
    struct slice bytes = build(ATTR_INT, false, values, 2);
    struct column *c = NULL;
    assert_int_equal(column_open(&op, bytes, ATTR_INT, false, 2, &c), ERR_OK);
    assert_int_equal(column_open(&op, bytes, ATTR_UINT, false, 2, &c), ERR_CORRUPT);
    assert_int_equal(column_open(&op, bytes, ATTR_INT, true, 2, &c), ERR_CORRUPT);
    assert_int_equal(column_open(&op, bytes, ATTR_INT, false, 1, &c), ERR_CORRUPT);
    assert_int_equal(column_open(&op, bytes, ATTR_INT, false, 3, &c), ERR_CORRUPT);
    assert_int_equal(column_open(&op, SLICE_EMPTY, ATTR_INT, false, 2, &c),
                     ERR_CORRUPT);
}

static void an_array_column_of_another_row_count_is_corrupt(void **state)
{
    (void)state;
    struct value arrays[] = {{.count = 0}, {.count = 0}};
    struct slice bytes = build(ATTR_INT, true, arrays, 2);
    struct column *c = NULL;
    assert_int_equal(column_open(&op, bytes, ATTR_INT, true, 2, &c), ERR_OK);
    assert_int_equal(column_open(&op, bytes, ATTR_INT, true, 3, &c), ERR_CORRUPT);
}

/* Starts of 0, 1, 3 become 2, 1, 3: the first row's items end before they start. */
static void items_that_end_before_they_start_are_none(void **state)
{
    (void)state;
    static const union scalar items[] = {{.i = 5}, {.i = 7}, {.i = 9}};
    struct value values[] = {{.count = 1, .items = items},
                             {.count = 2, .items = items + 1}};
    struct slice bytes = build(ATTR_INT, true, values, 2);
    uint8_t *copy = mem_dup(bytes.data, bytes.size);
    assert_int_equal(copy[64], 0);
    copy[64] = 2;
    struct column *c = open_or_fail(slice_of(copy, bytes.size), ATTR_INT, true, 2);
    struct value v;
    assert_int_equal(column_value(&op, c, 0, &v), ERR_OK);
    assert_int_equal(v.count, 0);
    struct filter f = {.op = FILTER_CONTAINS_ALL,
                       .type = ATTR_INT,
                       .array = true,
                       .values = items,
                       .value_count = 1};
    struct rowset *rows = rowset_new();
    assert_int_equal(column_filter(&op, c, &f, rows), ERR_OK);
    assert_false(rowset_has(rows, 0));
    rowset_unref(rows);
    mem_free(copy);
}

/* A row that damage made present, in a column without any value to give it. */
static void a_place_behind_the_dictionary_reads_as_empty(void **state)
{
    (void)state;
    static const enum attr_type types[] = {ATTR_STRING, ATTR_UUID};
    struct value null = VALUE_NULL, v;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        struct slice bytes = build(types[t], false, &null, 1);
        uint8_t *copy = mem_dup(bytes.data, bytes.size);
        assert_int_equal(copy[32], 1);
        copy[32] = 0;
        struct column *c = open_or_fail(slice_of(copy, bytes.size), types[t], false, 1);
        assert_int_equal(column_value(&op, c, 0, &v), ERR_OK);
        assert_false(v.null);
        if (types[t] == ATTR_STRING) assert_int_equal(v.one.s.size, 0);
        mem_free(copy);
    }
}

static void assert_value_sound(enum attr_type type, const union scalar *v)
{
    if (type == ATTR_FLOAT) assert_true(v->f >= -DBL_MAX && v->f <= DBL_MAX);
    if (type == ATTR_DATETIME)
        assert_in_range(v->i - DATETIME_MIN, 0, DATETIME_MAX - DATETIME_MIN);
    /* For the sanitizer: every byte of a string can be read. */
    if (type == ATTR_STRING) (void)xxh3_64(v->s.data, v->s.size);
}

/* Everything that can be asked of a column, for the sanitizers to watch. */
static void exercise(const struct column *c, enum attr_type type, bool array,
                     uint32_t row_count, uint64_t *rng)
{
    struct attr a = {.name = "a", .type = type, .array = array};
    struct schema *schema = schema_new(0, METRIC_L2, &a, 1);
    struct op inner;
    op_init(&inner, OP_NO_DEADLINE, 64 << 20);
    for (uint32_t row = 0; row < row_count; row++) {
        struct value v;
        enum err e = column_value(&inner, c, row, &v);
        assert_true(e == ERR_OK || e == ERR_LIMIT);
        if (!e && !v.null && !array) assert_value_sound(type, &v.one);
        for (uint32_t i = 0; !e && array && i < v.count; i++)
            assert_value_sound(type, &v.items[i]);
        uint64_t key;
        if (!array && column_key_at(c, row, &key)) (void)column_key_scalar(c, key);
    }
    for (int i = 0; i < 6; i++) {
        struct rowset *rows = rowset_new();
        struct filter *f = random_condition(&inner, rng, schema);
        enum err e = column_filter(&inner, c, f, rows);
        assert_true(e == ERR_OK || e == ERR_CORRUPT); /* a damaged set of rows */
        assert_true(rowset_count_range(rows, 0, row_count) == rowset_count(rows));
        rowset_unref(rows);
        struct column_estimate estimate;
        e = column_estimate(&inner, c, f, 64, &estimate);
        assert_true(e == ERR_OK || e == ERR_LIMIT);
    }
    op_release(&inner);
    schema_unref(schema);
}

static void damaged_columns_are_corrupt_or_harmless(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    size_t opened = 0, refused = 0;
    for (size_t t = 0; t < 2 * COUNT_OF(all_types); t++) {
        enum attr_type type = all_types[t / 2];
        bool array = t % 2;
        uint32_t row_count = 1 + random_index(&rng, 70);
        struct value values[70];
        for (uint32_t row = 0; row < row_count; row++)
            values[row] = random_value(&op, &rng, type, array);
        struct slice bytes =
            build_as(random_index(&rng, 2), type, array, values, row_count);
        struct column *c = NULL;
        for (size_t size = 0; size < bytes.size; size++) {
            uint8_t *cut = mem_dup(bytes.data, size);
            enum err e =
                column_open(NULL, slice_of(cut, size), type, array, row_count, &c);
            assert_int_equal(e, ERR_CORRUPT);
            mem_free(cut);
        }
        uint8_t *flipped = mem_dup(bytes.data, bytes.size);
        for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
            flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum err e = column_open(NULL, slice_of(flipped, bytes.size), type, array,
                                     row_count, &c);
            assert_true(e == ERR_OK || e == ERR_CORRUPT);
            opened += !e;
            refused += e != ERR_OK;
            if (!e) {
                exercise(c, type, array, row_count, &rng);
                column_close(c);
            }
            flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        mem_free(flipped);
    }
    assert_true(opened > 0 && refused > 0);
}

/* Several bytes at a time, and more than one block. */
static void scribbled_columns_are_corrupt_or_harmless(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 300; round++) {
        enum attr_type type = all_types[random_index(&rng, COUNT_OF(all_types))];
        bool array = random_index(&rng, 2);
        uint32_t row_count = random_index(&rng, 3) ? 50 : 4100 + random_index(&rng, 10);
        struct value *values = op_new_array(&op, struct value, row_count);
        for (uint32_t row = 0; row < row_count; row++)
            values[row] = random_value(&op, &rng, type, array);
        struct slice bytes =
            build_as(random_index(&rng, 2), type, array, values, row_count);
        uint8_t *copy = mem_dup(bytes.data, bytes.size);
        for (int i = 0; i < 10; i++) {
            size_t hits = 1 + random_index(&rng, 4);
            memcpy(copy, bytes.data, bytes.size);
            /* Heads lie at the front; damage there does most. */
            for (size_t k = 0; k < hits; k++)
                copy[random_index(&rng, random_index(&rng, 2) ? bytes.size
                                        : bytes.size < 200    ? bytes.size
                                                              : 200)] =
                    (uint8_t)test_random(&rng);
            struct column *c = NULL;
            if (column_open(NULL, slice_of(copy, bytes.size), type, array, row_count,
                            &c))
                continue;
            exercise(c, type, array, row_count, &rng);
            column_close(c);
        }
        mem_free(copy);
    }
}

/* ---- the index ---- */

/* Few values or many, some of them so frequent that their rows become sets. */
static struct value *skewed_values(uint64_t *rng, enum attr_type type, bool array,
                                   uint32_t row_count)
{
    struct value *values = op_new_array(&op, struct value, row_count);
    union scalar frequent = random_scalar(&op, rng, type);
    uint32_t part = 1 + random_index(rng, 20);
    for (uint32_t row = 0; row < row_count; row++) {
        values[row] = random_value(&op, rng, type, array);
        if (array || values[row].null) continue;
        if (random_index(rng, part) == 0) values[row].one = frequent;
        if (type == ATTR_INT && part < 4) values[row].one.i = random_index(rng, 9999);
    }
    return values;
}

static void expect_rows(const struct filter *f, const struct value *values,
                        uint32_t row_count, const struct rowset *rows)
{
    for (uint32_t row = 0; row < row_count; row++) {
        bool expected = filter_value(f, &values[row]) == TRUTH_TRUE;
        if (rowset_has(rows, row) != expected)
            fail_msg("op %d, row %u: expected %d", f->op, row, expected);
    }
    assert_true(rowset_count_range(rows, 0, row_count) == rowset_count(rows));
}

static void expect_among(const struct column *c, const struct filter *f,
                         const struct value *values, uint32_t row_count, uint64_t *rng)
{
    struct rowset *among = rowset_new(), *rows = rowset_new();
    uint64_t expected = 0;
    for (uint32_t i = 0; i < 20; i++)
        rowset_add(among, random_index(rng, row_count));
    assert_int_equal(column_filter_among(&op, c, f, TRUTH_TRUE, among, rows), ERR_OK);
    for (uint32_t row = 0; row < row_count; row++) {
        bool meets =
            rowset_has(among, row) && filter_value(f, &values[row]) == TRUTH_TRUE;
        assert_int_equal(rowset_has(rows, row), meets);
        expected += meets;
    }
    assert_true(rowset_count(rows) == expected);
    rowset_unref(among);
    rowset_unref(rows);
}

/* Filters of every operator on every type: index, scan and row by row agree. */
static void filters_are_answered_alike_with_and_without_an_index(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (size_t t = 0; t < 8 * COUNT_OF(all_types); t++) {
        struct attr a = {.name = "a", .type = all_types[t / 8], .array = t % 2};
        struct schema *schema = schema_new(0, METRIC_L2, &a, 1);
        uint32_t row_count = 1 + random_index(&rng, t % 3 ? 700 : 9000);
        struct value *values = skewed_values(&rng, a.type, a.array, row_count);
        for (int indexed = 0; indexed < 2; indexed++) {
            struct column *c =
                open_or_fail(build_as(indexed, a.type, a.array, values, row_count),
                             a.type, a.array, row_count);
            for (int i = 0; i < 20; i++) {
                struct filter *f = random_condition(&op, &rng, schema);
                struct rowset *rows = rowset_new();
                struct column_estimate estimate;
                assert_int_equal(column_filter(&op, c, f, rows), ERR_OK);
                expect_rows(f, values, row_count, rows);
                expect_among(c, f, values, row_count, &rng);
                assert_int_equal(column_estimate(&op, c, f, i % 2 ? 64 : 0, &estimate),
                                 ERR_OK);
                assert_true(estimate.rows <= row_count);
                assert_false(estimate.indexed && !indexed);
                if (estimate.exact && f->op != FILTER_NE && f->op != FILTER_NOT_IN)
                    assert_true(estimate.rows == rowset_count(rows));
                rowset_unref(rows);
            }
        }
        schema_unref(schema);
    }
}

/* Numbers far apart, so that neither their span nor a dictionary allows a bitmap. */
static void long_lists_of_numbers_are_found(void **state)
{
    (void)state;
    enum { ROWS = 6000, LIST = 3000 };
    uint64_t rng = test_seed();
    for (int round = 0; round < 6; round++) {
        struct value *values = op_new_array(&op, struct value, ROWS);
        union scalar *list = op_new_array(&op, union scalar, LIST);
        struct filter f = {.op = round % 2 ? FILTER_IN : FILTER_NOT_IN,
                           .type = ATTR_UINT,
                           .values = list,
                           .value_count = LIST};
        for (uint32_t i = 0; i < LIST; i++) {
            uint64_t step = round < 2 ? 1 : 1 + (test_random(&rng) >> (20 + 8 * round));
            list[i].u = (i ? list[i - 1].u : 0) + step;
        }
        for (uint32_t row = 0; row < ROWS; row++)
            values[row].one.u =
                list[random_index(&rng, LIST)].u + (random_index(&rng, 3) == 0);
        for (int indexed = 0; indexed < 2; indexed++) {
            struct column *c =
                open_or_fail(build_as(indexed, ATTR_UINT, false, values, ROWS),
                             ATTR_UINT, false, ROWS);
            struct rowset *rows = rowset_new();
            assert_int_equal(column_filter(&op, c, &f, rows), ERR_OK);
            expect_rows(&f, values, ROWS, rows);
            rowset_unref(rows);
        }
    }
}

/* Golden columns: strings in arrays with one frequent value, and numbers with nulls. */
static struct slice golden_column(enum attr_type type, bool array, struct value *values)
{
    static union scalar items[60][2];
    static char texts[60][8];
    for (uint32_t row = 0; row < 60; row++) {
        (void)snprintf(texts[row], sizeof texts[row], "v%u", row * 7 % 13);
        items[row][0].s = slice_str(row % 3 ? "often" : texts[row]);
        items[row][1].s = slice_str(texts[row]);
        values[row] = array ? (struct value){.count = row % 4 % 3, .items = items[row]}
                            : (struct value){.one.i = (int64_t)(row * row % 17) - 5};
        if (row % 11 == 10) values[row] = VALUE_NULL;
    }
    return build_as(true, type, array, values, 60);
}

static void the_stored_form_of_version_2_is_that_of_the_golden_files(void **state)
{
    (void)state;
    for (int array = 0; array < 2; array++) {
        enum attr_type type = array ? ATTR_STRING : ATTR_INT;
        struct value values[60];
        union scalar operand;
        struct buf file =
            golden_expect(array ? "column-v2-strings.bin" : "column-v2-ints.bin",
                          golden_column(type, array, values));
        struct column *c = open_or_fail(buf_slice(&file), type, array, 60);
        for (int n = 0; n < 17; n++) {
            if (array)
                operand.s = slice_str(n ? op_printf(&op, "v%d", n) : "often");
            else
                operand.i = n - 5;
            struct filter f = {.op = array ? FILTER_CONTAINS : FILTER_EQ,
                               .type = type,
                               .array = array,
                               .values = &operand,
                               .value_count = 1};
            struct rowset *rows = rowset_new();
            assert_int_equal(column_filter(&op, c, &f, rows), ERR_OK);
            expect_rows(&f, values, 60, rows);
            rowset_unref(rows);
        }
        buf_release(&file);
    }
}

/* Version 1, for ever: an array of strings, a null, and a float with a null. */
static void the_stored_form_of_version_1_is_this(void **state)
{
    (void)state;
    static const uint8_t strings[] = {
        1,   1,   3,   0, 3, 0, 0, 0,
        3,   0,   0,   0, 0, 0, 0, 0, /* rows 3, items 3 */
        2,   0,   0,   0, 0, 0, 0, 0,
        3,   0,   0,   0, 0, 0, 0, 0, /* two values, 3 bytes */
        2,   0,   0,   0, 0, 0, 0, 0, /* row 1 is null */
        0,   0,   0,   0, 0, 0, 0, 0,
        3,   0,   0,   0, 0, 0, 0, 0, /* starts: 0 to 3 */
        0,   0,   0,   0, 0, 0, 0, 0,
        1,   0,   0,   0, 0, 0, 0, 0, /* at 0, 1 byte each */
        0,   2,   2,   3, 0, 0, 0, 0, /* 0 2 2 3 */
        0,   0,   0,   0, 0, 0, 0, 0,
        1,   0,   0,   0, 0, 0, 0, 0, /* keys: 0 to 1 */
        0,   0,   0,   0, 0, 0, 0, 0,
        1,   0,   0,   0, 0, 0, 0, 0, /* */
        1,   0,   1,   0, 0, 0, 0, 0, /* b a b */
        0,   0,   0,   0, 0, 0, 0, 0,
        3,   0,   0,   0, 0, 0, 0, 0, /* ends of values: 0 to 3 */
        0,   0,   0,   0, 0, 0, 0, 0,
        1,   0,   0,   0, 0, 0, 0, 0, /* */
        0,   1,   3,   0, 0, 0, 0, 0, /* 0 1 3 */
        'a', 'b', 'b',
    };
    union scalar items[] = {{.s = SLICE_LITERAL("bb")}, {.s = SLICE_LITERAL("a")}};
    struct value values[] = {{.count = 2, .items = items},
                             VALUE_NULL,
                             {.count = 1, .items = items}};
    struct slice bytes = build(ATTR_STRING, true, values, 3);
    assert_int_equal(bytes.size, sizeof strings);
    assert_memory_equal(bytes.data, strings, sizeof strings);

    static const uint8_t floats[] = {
        1,   4,   2,   0,   2,   0,   0,   0,
        2,   0,   0,   0,   0,   0,   0,   0, /* rows 2, items 2 */
        0,   0,   0,   0,   0,   0,   0,   0,
        0,   0,   0,   0,   0,   0,   0,   0,  /* no dictionary */
        1,   0,   0,   0,   0,   0,   0,   0,  /* row 0 is null */
        255, 255, 255, 255, 255, 255, 247, 63, /* -3 is c008000000000000 */
        255, 255, 255, 255, 255, 255, 247, 63, /* all bits turned */
        0,   0,   0,   0,   0,   0,   0,   0,
        0,   0,   0,   0,   0,   0,   0,   0, /* no cells */
    };
    struct value numbers[] = {VALUE_NULL, {.one = {.f = -3}}};
    bytes = build(ATTR_FLOAT, false, numbers, 2);
    assert_int_equal(bytes.size, sizeof floats);
    assert_memory_equal(bytes.data, floats, sizeof floats);
}

/* ---- cells ---- */

static void cells_read_back_whatever_their_range(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    uint64_t rng = test_seed();
    uint64_t *keys = op_new_array(&op, uint64_t, COUNT);
    for (int shift = 0; shift <= 64; shift++) {
        for (size_t i = 0; i < COUNT; i++)
            keys[i] = shift == 64 ? 5 : test_random(&rng) >> shift;
        struct buf bytes = BUF_INIT;
        struct cells c;
        cells_encode(keys, COUNT, NULL, &bytes);
        struct reader r = reader_of(buf_slice(&bytes));
        assert_true(cells_open(&r, COUNT, 0, UINT64_MAX, &c));
        assert_true(reader_done(&r));
        for (size_t i = 0; i < COUNT; i++)
            assert_true(cells_get(&c, i) == keys[i]);
        /* 32 bytes a block, and as many bytes a cell as the range needs. */
        size_t width = shift >= 64   ? 0
                       : shift >= 56 ? 1
                       : shift >= 48 ? 2
                       : shift >= 32 ? 4
                                     : 8;
        assert_in_range(bytes.size, 96 + COUNT * width, 96 + COUNT * width + 21);
        buf_release(&bytes);
    }
}

static void cells_outside_the_promised_bounds_do_not_open(void **state)
{
    (void)state;
    static const uint64_t keys[] = {10, 20};
    struct buf bytes = BUF_INIT;
    struct cells c;
    cells_encode(keys, 2, NULL, &bytes);
    struct reader r = reader_of(buf_slice(&bytes));
    assert_true(cells_open(&r, 2, 10, 20, &c));
    r = reader_of(buf_slice(&bytes));
    assert_false(cells_open(&r, 2, 11, 20, &c));
    r = reader_of(buf_slice(&bytes));
    assert_false(cells_open(&r, 2, 10, 19, &c));
    r = reader_of(buf_slice(&bytes));
    assert_false(cells_open(&r, UINT64_MAX, 10, 20, &c));
    bytes.data[9] = 1; /* greatest is 276: more than one byte can hold above 10 */
    r = reader_of(buf_slice(&bytes));
    assert_false(cells_open(&r, 2, 0, UINT64_MAX, &c));
    buf_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_reads_back),
        cmocka_unit_test(columns_of_nothing_but_nulls_work),
        cmocka_unit_test(nulls_are_found_and_only_they),
        cmocka_unit_test(rows_are_ordered_by_value_with_nulls_last),
        cmocka_unit_test(a_column_can_outlive_the_op),
        cmocka_unit_test(integers_of_every_width_are_filtered),
        cmocka_unit_test(dictionaries_of_every_width_are_filtered),
        cmocka_unit_test(arrays_of_any_length_are_filtered),
        cmocka_unit_test(another_type_or_row_count_is_corrupt),
        cmocka_unit_test(an_array_column_of_another_row_count_is_corrupt),
        cmocka_unit_test(items_that_end_before_they_start_are_none),
        cmocka_unit_test(a_place_behind_the_dictionary_reads_as_empty),
        cmocka_unit_test(damaged_columns_are_corrupt_or_harmless),
        cmocka_unit_test(scribbled_columns_are_corrupt_or_harmless),
        cmocka_unit_test(filters_are_answered_alike_with_and_without_an_index),
        cmocka_unit_test(long_lists_of_numbers_are_found),
        cmocka_unit_test(the_stored_form_of_version_2_is_that_of_the_golden_files),
        cmocka_unit_test(the_stored_form_of_version_1_is_this),
        cmocka_unit_test(cells_read_back_whatever_their_range),
        cmocka_unit_test(cells_outside_the_promised_bounds_do_not_open),
    };
    return cmocka_run_group_tests_name("column", tests, setup, teardown);
}
