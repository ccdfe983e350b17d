#include "attr/attr_filter.h"

#include "attr/column.h"
#include "base/op.h"
#include "base/rowset.h"
#include "unit/random_filters.h"
#include "unit/test.h"

/* A segment as a filter sees it: documents, and a column per attribute or NULL. */
struct table {
    struct op op;
    struct schema *schema;
    uint32_t row_count;
    struct doc *docs;
    struct column *columns[SCHEMA_ATTRS_MAX];
    uint32_t asked; /* columns handed out */
};

static enum err table_column(struct op *op, void *context, int attr,
                             const struct column **out)
{
    (void)op;
    struct table *t = context;
    t->asked++;
    *out = t->columns[attr];
    return ERR_OK;
}

static enum err table_ids(struct op *op, void *context, const struct filter *f,
                          struct rowset *out)
{
    (void)op;
    struct table *t = context;
    for (uint32_t row = 0; row < t->row_count; row++)
        if (filter_id(f, &t->docs[row].id)) rowset_add(out, row);
    return ERR_OK;
}

static void build_column(struct table *t, uint32_t attr)
{
    const struct attr *a = &t->schema->attrs[attr];
    struct column_builder *b = column_builder_new(a->type, a->array, a->indexed);
    struct buf bytes = BUF_INIT;
    for (uint32_t row = 0; row < t->row_count; row++)
        column_builder_add(b, &t->docs[row].values[attr]);
    column_builder_finish(b, &bytes);
    struct slice kept = op_copy(&t->op, buf_slice(&bytes));
    buf_release(&bytes);
    assert_int_equal(column_open(&t->op, kept, a->type, a->array, t->row_count,
                                 &t->columns[attr]),
                     ERR_OK);
}

/* Values of an attribute: drawn anew for each row, or in runs so long that blocks hold
 * one value, or only nulls. */
static void fill_values(struct table *t, uint64_t *rng, struct value **values)
{
    for (uint32_t attr = 0; attr < t->schema->attr_count; attr++) {
        const struct attr *a = &t->schema->attrs[attr];
        uint32_t run = random_index(rng, 2) ? 1 : 1 + random_index(rng, 6000);
        struct value v = VALUE_NULL;
        for (uint32_t row = 0; row < t->row_count; row++) {
            if (row % run == 0) v = random_value(&t->op, rng, a->type, a->array);
            values[row][attr] = v;
        }
    }
}

static void table_init(struct table *t, uint64_t *rng, uint32_t attr_count,
                       uint32_t row_count)
{
    *t = (struct table){.row_count = row_count};
    op_init(&t->op, OP_NO_DEADLINE, 0);
    t->schema = random_schema(rng, 0, attr_count);
    t->docs = op_new_array(&t->op, struct doc, row_count);
    struct value **values = op_new_array(&t->op, struct value *, row_count);
    for (uint32_t row = 0; row < row_count; row++) {
        values[row] = op_new_array(&t->op, struct value, attr_count);
        t->docs[row] = (struct doc){.id = number_id(2 * row), .values = values[row]};
    }
    fill_values(t, rng, values);
    for (uint32_t attr = 0; attr < attr_count; attr++) {
        if (random_index(rng, 8) > 0) {
            build_column(t, attr);
            continue;
        }
        for (uint32_t row = 0; row < row_count; row++)
            values[row][attr] = VALUE_NULL;
    }
}

static void table_release(struct table *t)
{
    schema_unref(t->schema);
    op_release(&t->op);
}

static struct filter_input input_of(struct table *t)
{
    return (struct filter_input){.context = t,
                                 .row_count = t->row_count,
                                 .column = table_column,
                                 .ids = table_ids};
}

/* The same among some rows, few or many; and an estimate that makes sense. */
static void assert_equals_among(struct table *t, const struct filter *f,
                                const struct rowset *all)
{
    struct filter_work work = {0};
    struct filter_input input = input_of(t);
    struct filter_estimate estimate;
    struct rowset *among = rowset_new(), *rows = NULL;
    for (uint32_t row = t->row_count % 3; row < t->row_count; row += 1 + row % 97)
        rowset_add(among, row);
    input.work = &work;
    assert_int_equal(attr_filter(&t->op, f, &input, among, &rows), ERR_OK);
    rowset_and(among, all);
    assert_true(rowset_count(rows) == rowset_count(among));
    rowset_andnot(rows, among);
    assert_true(rowset_count(rows) == 0);
    assert_int_equal(attr_filter_estimate(&t->op, f, &input, &estimate), ERR_OK);
    assert_true(estimate.fraction >= 0 && estimate.fraction <= 1);
    rowset_unref(rows);
    rowset_unref(among);
}

/* How often it was true, so that the test can see that it tests something. */
static uint64_t assert_equals_truth(struct table *t, const struct filter *f)
{
    struct filter_input input = input_of(t);
    struct rowset *rows = NULL;
    assert_int_equal(attr_filter(&t->op, f, &input, NULL, &rows), ERR_OK);
    for (uint32_t row = 0; row < t->row_count; row++) {
        bool expected = filter_matches(f, t->schema, &t->docs[row]);
        if (rowset_has(rows, row) != expected)
            fail_msg("%s (attribute %d of %s): row %u of %u is %sa match",
                     filter_op_name(f->op), f->attr,
                     f->attr >= 0 && f->type ? attr_type_name(f->type, f->array) : "-",
                     row, t->row_count, expected ? "" : "not ");
    }
    uint64_t count = rowset_count(rows);
    assert_equals_among(t, f, rows);
    rowset_unref(rows);
    return count;
}

static void random_filters_equal_filter_matches(void **state)
{
    (void)state;
    uint64_t rng = test_seed(), some = 0, all = 0;
    for (int round = 0; round < 300; round++) {
        struct table t;
        uint32_t row_count = random_index(&rng, 10) ? random_index(&rng, 200)
                                                    : random_index(&rng, 13000);
        table_init(&t, &rng, random_index(&rng, 8), row_count);
        for (int i = 0; i < 40; i++) {
            struct filter *f =
                random_filter(&t.op, &rng, t.schema, row_count, random_index(&rng, 7));
            uint64_t count = assert_equals_truth(&t, f);
            some += count > 0 && count < row_count;
            all += row_count > 0;
        }
        table_release(&t);
    }
    /* Most random filters match everything or nothing, but not all of them do. */
    assert_true(some * 5 > all);
}

/* Conditions alone, so that a failure names the operator and the type. */
static void random_conditions_equal_filter_matches(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 200; round++) {
        struct table t;
        table_init(&t, &rng, 1 + random_index(&rng, 6), random_index(&rng, 400));
        for (int i = 0; i < 100; i++)
            (void)assert_equals_truth(&t, random_condition(&t.op, &rng, t.schema));
        table_release(&t);
    }
}

static void empty_and_is_all_rows_and_empty_or_is_none(void **state)
{
    (void)state;
    uint64_t rng = 1;
    struct table t;
    table_init(&t, &rng, 0, 10);
    struct filter f = {.op = FILTER_AND};
    assert_true(assert_equals_truth(&t, &f) == 10);
    f.op = FILTER_OR;
    assert_true(assert_equals_truth(&t, &f) == 0);
    table_release(&t);
}

static void and_stops_at_the_first_empty_set(void **state)
{
    (void)state;
    uint64_t rng = 1;
    struct table t;
    table_init(&t, &rng, 3, 100);
    struct filter never = {.op = FILTER_OR};
    struct filter asks = {.op = FILTER_EXISTS,
                          .attr = 0,
                          .type = t.schema->attrs[0].type,
                          .array = t.schema->attrs[0].array};
    struct filter *children[] = {&never, &asks};
    struct filter both = {.op = FILTER_AND, .children = children, .child_count = 2};
    struct filter_work work = {0};
    struct filter_input input = input_of(&t);
    struct rowset *rows = NULL;
    input.work = &work;
    assert_int_equal(attr_filter(&t.op, &both, &input, NULL, &rows), ERR_OK);
    assert_true(rowset_count(rows) == 0);
    assert_true(work.indexed + work.scanned + work.checked == 0);
    rowset_unref(rows);
    table_release(&t);
}

/* A long column that an index tells to be met by few rows: the other is asked about
 * these alone. */
static void and_begins_with_the_condition_that_leaves_the_fewest_rows(void **state)
{
    (void)state;
    enum { ROWS = 20000 };
    struct attr attrs[] = {{.name = "u", .type = ATTR_STRING},
                           {.name = "i", .type = ATTR_INT, .indexed = true}};
    struct table t = {.row_count = ROWS};
    op_init(&t.op, OP_NO_DEADLINE, 0);
    t.schema = schema_new(0, METRIC_L2, attrs, 2);
    t.docs = op_new_array(&t.op, struct doc, ROWS);
    for (uint32_t row = 0; row < ROWS; row++) {
        struct value *values = op_new_array(&t.op, struct value, 2);
        values[0].one.s = slice_str(row % 2 ? "odd" : "even");
        values[1].one.i = row / 7;
        t.docs[row] = (struct doc){.id = number_id(2 * row), .values = values};
    }
    build_column(&t, 0);
    build_column(&t, 1);
    union scalar odd = {.s = SLICE_LITERAL("od*")}, five = {.i = 5};
    struct filter text = {.op = FILTER_GLOB,
                          .type = ATTR_STRING,
                          .values = &odd,
                          .value_count = 1};
    struct filter number = {.op = FILTER_EQ,
                            .attr = 1,
                            .type = ATTR_INT,
                            .values = &five,
                            .value_count = 1};
    struct filter *children[] = {&text, &number};
    struct filter both = {.op = FILTER_AND, .children = children, .child_count = 2};
    struct filter_work work = {0};
    struct filter_input input = input_of(&t);
    struct rowset *rows = NULL;
    input.work = &work;
    assert_int_equal(attr_filter(&t.op, &both, &input, NULL, &rows), ERR_OK);
    assert_int_equal(rowset_count(rows), 4); /* of 35 to 41 */
    assert_true(work.indexed == 1 && work.checked == 1 && work.scanned == 0);
    rowset_unref(rows);
    struct filter_estimate estimate;
    assert_int_equal(attr_filter_estimate(&t.op, &number, &input, &estimate), ERR_OK);
    assert_true(estimate.known && estimate.fraction > 6.5 / ROWS &&
                estimate.fraction < 7.5 / ROWS);
    assert_int_equal(attr_filter_estimate(&t.op, &text, &input, &estimate), ERR_OK);
    assert_true(estimate.fraction > 0.3 && estimate.fraction < 0.7);
    table_release(&t);
}

static enum err failing_column(struct op *op, void *context, int attr,
                               const struct column **out)
{
    (void)context;
    *out = NULL;
    return attr == 1 ? op_fail(op, ERR_IO, "no such luck") : ERR_OK;
}

static void failures_of_the_input_come_back_and_leak_nothing(void **state)
{
    (void)state;
    uint64_t rng = 1;
    struct table t;
    table_init(&t, &rng, 2, 100);
    struct filter_input input = input_of(&t);
    input.column = failing_column;
    struct filter good = {.op = FILTER_NE, .attr = 0, .type = ATTR_INT};
    struct filter bad = {.op = FILTER_NE, .attr = 1, .type = ATTR_INT};
    struct filter *children[] = {&good, &bad};
    for (int op = FILTER_AND; op <= FILTER_OR; op++) {
        struct filter f = {.op = (enum filter_op)op,
                           .children = children,
                           .child_count = 2};
        good.op = op == FILTER_AND ? FILTER_NE : FILTER_EQ; /* so that it goes on */
        struct rowset *rows = NULL;
        assert_int_equal(attr_filter(&t.op, &f, &input, NULL, &rows), ERR_IO);
        assert_null(rows);
    }
    table_release(&t);
}

static void a_canceled_op_stops_a_scan(void **state)
{
    (void)state;
    uint64_t rng = 7;
    struct table t;
    table_init(&t, &rng, 8, 5000);
    struct filter_input input = input_of(&t);
    struct rowset *rows = NULL;
    op_cancel(&t.op);
    size_t stopped = 0;
    for (int attr = 0; attr < 8; attr++) {
        const struct attr *a = &t.schema->attrs[attr];
        if (!t.columns[attr] || a->type == ATTR_STRING || a->array) continue;
        union scalar one = random_scalar(&t.op, &rng, a->type);
        struct filter f = {.op = FILTER_IN,
                           .attr = attr,
                           .type = a->type,
                           .values = &one,
                           .value_count = 1};
        enum err e = attr_filter(&t.op, &f, &input, NULL, &rows);
        if (a->type == ATTR_UUID && !e)
            rowset_unref(rows); /* not in the dictionary: nothing was scanned */
        else
            assert_int_equal(e, ERR_CANCELED);
        stopped += e == ERR_CANCELED;
    }
    assert_true(stopped > 0);
    table_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_conditions_equal_filter_matches),
        cmocka_unit_test(random_filters_equal_filter_matches),
        cmocka_unit_test(empty_and_is_all_rows_and_empty_or_is_none),
        cmocka_unit_test(and_stops_at_the_first_empty_set),
        cmocka_unit_test(and_begins_with_the_condition_that_leaves_the_fewest_rows),
        cmocka_unit_test(failures_of_the_input_come_back_and_leak_nothing),
        cmocka_unit_test(a_canceled_op_stops_a_scan),
    };
    return cmocka_run_group_tests_name("attr_filter", tests, NULL, NULL);
}
