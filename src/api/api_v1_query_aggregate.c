#include "api/api_v1_query_aggregate.h"

#include "api/api_v1_value.h"
#include "base/op.h"

/* ---- from JSON ---- */

static enum err add_name(struct op *op, struct json_value *v, struct v1_names *out,
                         size_t *capacity)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    if (out->count == QUERY_AGGREGATES_MAX)
        return json_fail(op, v, "at most %d attributes", QUERY_AGGREGATES_MAX);
    for (size_t i = 0; i < out->count; i++)
        if (slice_equal(out->items[i], name))
            return json_fail(op, v, "this attribute is already in the list");
    out->items = v1_grow(op, out->items, out->count, capacity, sizeof *out->items);
    if (!out->items) return ERR_LIMIT;
    out->items[out->count++] = name;
    return ERR_OK;
}

static enum err read_names(struct op *op, struct json_value *v, struct v1_names *out)
{
    struct v1_items items;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    enum err e = v1_items_begin(op, v, &items);
    out->listed = !e && items.array;
    while (!e && !(e = v1_items_next(op, &items, &more, &item)) && more)
        e = add_name(op, &item, out, &capacity);
    return e;
}

enum { COUNT, SUM, MIN, MAX, GROUP_BY, NAMES };
static const char *const names[NAMES] = {"count", "sum", "min", "max", "group_by"};

enum err v1_aggregate_parse(struct op *op, struct json_value *v,
                            struct v1_aggregate **out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;
    struct v1_aggregate *a = op_new(op, struct v1_aggregate);
    if (!a) return ERR_LIMIT;

    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_field(op, &walk, names, NAMES, &name, &member)) &&
           name >= 0) {
        switch (name) {
        case COUNT: e = json_bool(op, &member, &a->count); break;
        case SUM: e = read_names(op, &member, &a->sum); break;
        case MIN: e = read_names(op, &member, &a->min); break;
        case MAX: e = read_names(op, &member, &a->max); break;
        default: e = json_string(op, &member, &a->group_by);
        }
    }
    if (e) return e;
    if (!a->count && a->sum.count + a->min.count + a->max.count == 0)
        return json_walk_fail(op, &walk,
                              "at least one of count, sum, min and max is "
                              "needed");
    *out = a;
    return ERR_OK;
}

/* ---- bound to a schema ---- */

static enum err bind_name(struct op *op, struct slice name, const struct schema *schema,
                          const char *where, int *out)
{
    *out = v1_find_attr(op, schema, name, where);
    if (*out < 0) return ERR_INVALID;
    const struct attr *attr = &schema->attrs[*out];
    if (!attr->array) return ERR_OK;
    return op_fail(op, ERR_INVALID, "%s: %s is %s, and arrays are not aggregated",
                   where, attr->name, attr_type_name(attr->type, true));
}

static enum err bind_names(struct op *op, const struct v1_names *parsed,
                           const struct schema *schema, const char *where,
                           const int **out, size_t *count)
{
    int *attrs = op_new_array(op, int, parsed->count + 1);
    if (!attrs) return ERR_LIMIT;
    for (size_t i = 0; i < parsed->count; i++) {
        struct v1_path path = v1_item_path(where, parsed->listed, i);
        enum err e = bind_name(op, parsed->items[i], schema, path.text, &attrs[i]);
        if (e) return e;
    }
    *out = attrs;
    *count = parsed->count;
    return ERR_OK;
}

static enum err check_sums(struct op *op, const struct v1_names *parsed,
                           const struct aggregate *a, const struct schema *schema)
{
    for (size_t i = 0; i < a->sum_count; i++) {
        const struct attr *attr = &schema->attrs[a->sums[i]];
        bool number = attr->type == ATTR_INT || attr->type == ATTR_UINT ||
                      attr->type == ATTR_FLOAT;
        if (!number)
            return op_fail(op, ERR_INVALID,
                           "%s: %s is %s; sums are of int, uint and float",
                           v1_item_path("aggregate.sum", parsed->listed, i).text,
                           attr->name, attr_type_name(attr->type, false));
    }
    return ERR_OK;
}

enum err v1_aggregate_bind(struct op *op, const struct v1_aggregate *parsed,
                           const struct schema *schema, struct aggregate *out)
{
    *out = (struct aggregate){.group_by = QUERY_UNGROUPED};
    enum err e = bind_names(op, &parsed->sum, schema, "aggregate.sum", &out->sums,
                            &out->sum_count);
    if (!e)
        e = bind_names(op, &parsed->min, schema, "aggregate.min", &out->mins,
                       &out->min_count);
    if (!e)
        e = bind_names(op, &parsed->max, schema, "aggregate.max", &out->maxs,
                       &out->max_count);
    if (!e) e = check_sums(op, &parsed->sum, out, schema);
    if (!e && parsed->group_by.data)
        e = bind_name(op, parsed->group_by, schema, "aggregate.group_by",
                      &out->group_by);
    return e;
}

/* ---- to JSON ---- */

static void sum_write(struct json_writer *w, const struct aggregate_sum *sum)
{
    switch (sum->kind) {
    case SUM_SIGNED: json_put_i64(w, sum->i); break;
    case SUM_UNSIGNED: json_put_u64(w, sum->u); break;
    default: json_put_f64(w, sum->f);
    }
}

static void sums_write(struct json_writer *w, const struct aggregate *a,
                       const struct schema *schema, const struct aggregate_sum *sums)
{
    if (a->sum_count == 0) return;
    json_key(w, "sum");
    json_begin_object(w);
    for (size_t i = 0; i < a->sum_count; i++) {
        json_key(w, schema->attrs[a->sums[i]].name);
        sum_write(w, &sums[i]);
    }
    json_end_object(w);
}

static void value_write(struct json_writer *w, const struct attr *attr,
                        const struct value *value)
{
    if (value->null)
        json_put_null(w);
    else
        v1_value_write(w, attr, value);
}

static void extremes_write(struct json_writer *w, const char *name, const int *attrs,
                           size_t count, const struct schema *schema,
                           const struct value *values)
{
    if (count == 0) return;
    json_key(w, name);
    json_begin_object(w);
    for (size_t i = 0; i < count; i++) {
        json_key(w, schema->attrs[attrs[i]].name);
        value_write(w, &schema->attrs[attrs[i]], &values[i]);
    }
    json_end_object(w);
}

static void group_write(struct json_writer *w, const struct v1_aggregate *parsed,
                        const struct aggregate *a, const struct schema *schema,
                        const struct aggregate_group *group)
{
    if (parsed->count) {
        json_key(w, "count");
        json_put_u64(w, group->count);
    }
    sums_write(w, a, schema, group->sums);
    extremes_write(w, "min", a->mins, a->min_count, schema, group->mins);
    extremes_write(w, "max", a->maxs, a->max_count, schema, group->maxs);
}

void v1_aggregate_write(struct json_writer *w, const struct v1_aggregate *parsed,
                        const struct aggregate *aggregate, const struct schema *schema,
                        const struct query_result *result)
{
    json_key(w, "aggregate");
    json_begin_object(w);
    if (aggregate->group_by == QUERY_UNGROUPED) {
        group_write(w, parsed, aggregate, schema, &result->groups[0]);
        json_end_object(w);
        return;
    }
    json_key(w, "groups");
    json_begin_array(w);
    for (size_t i = 0; i < result->group_count; i++) {
        json_begin_object(w);
        json_key(w, "key");
        value_write(w, &schema->attrs[aggregate->group_by], &result->groups[i].key);
        group_write(w, parsed, aggregate, schema, &result->groups[i]);
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
}
