#include "api/api_v1_filter.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/op.h"

/* ---- from JSON ---- */

struct counts {
    size_t nodes;
    size_t values;
};

static enum err parse_node(struct op *op, struct counts *counts, uint32_t depth,
                           struct json_value *v, struct v1_filter *out);

static enum err parse_children(struct op *op, struct counts *counts, uint32_t depth,
                               struct json_value *v, struct v1_filter *out)
{
    struct json_walk walk;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    if (depth == V1_FILTER_LEVELS_MAX)
        return json_fail(op, v, "a filter has at most %d levels", V1_FILTER_LEVELS_MAX);
    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        out->children = v1_grow(op, out->children, out->child_count, &capacity,
                                sizeof *out->children);
        if (!out->children) return ERR_LIMIT;
        e = parse_node(op, counts, depth + 1, &item,
                       &out->children[out->child_count++]);
    }
    return e;
}

static enum err parse_literal(struct op *op, struct counts *counts,
                              struct json_value *v, struct v1_literal *out)
{
    if (++counts->values > FILTER_VALUES_MAX)
        return json_fail(op, v, "a filter has at most %d values", FILTER_VALUES_MAX);
    return v1_literal_read(op, v, out);
}

static enum err parse_values(struct op *op, struct counts *counts, struct json_value *v,
                             struct v1_filter *out)
{
    struct v1_literal *values = NULL;
    struct v1_items items;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    enum err e = v1_items_begin(op, v, &items);
    while (!e && !(e = v1_items_next(op, &items, &more, &item)) && more) {
        values = v1_grow(op, values, out->value_count, &capacity, sizeof *values);
        if (!values) return ERR_LIMIT;
        e = parse_literal(op, counts, &item, &values[out->value_count++]);
    }
    out->list = !e && items.array;
    out->values = values;
    return e;
}

static enum err parse_group_type(struct op *op, struct json_value *v,
                                 enum filter_op *out)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    if (!filter_op_parse(name, out) || *out > FILTER_NOT)
        return json_fail(op, v, "expected \"and\", \"or\" or \"not\"");
    return ERR_OK;
}

static enum err parse_condition_op(struct op *op, struct json_value *v,
                                   enum filter_op *out)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    if (filter_op_parse(name, out) && *out > FILTER_NOT) return ERR_OK;
    struct buf allowed = BUF_INIT;
    for (int i = FILTER_EQ; i <= FILTER_EXISTS; i++)
        buf_printf(&allowed, "%s%s", i > FILTER_EQ ? ", " : "",
                   filter_op_name((enum filter_op)i));
    e = json_fail(op, v, "expected one of %.*s", (int)allowed.size,
                  (const char *)allowed.data);
    buf_release(&allowed);
    return e;
}

enum { FIELD, OP, VALUE, TYPE, CONDITIONS, NODE_NAMES };
static const char *const node_names[NODE_NAMES] = {"field", "op", "value", "type",
                                                   "conditions"};

/* Exactly the fields of a condition, or exactly those of a group. */
static enum err check_shape(struct op *op, const struct json_walk *walk,
                            const struct v1_filter *out)
{
    uint64_t condition = 1u << FIELD | 1u << OP | 1u << VALUE;
    uint64_t group = 1u << TYPE | 1u << CONDITIONS;
    if (walk->seen != condition && walk->seen != group)
        return json_walk_fail(
            op, walk,
            "a condition has exactly field, op and value; a group has "
            "exactly type and conditions");
    if (out->op == FILTER_NOT && out->child_count != 1)
        return json_walk_fail(op, walk, "not takes exactly one condition, got %zu",
                              out->child_count);
    return ERR_OK;
}

static enum err parse_node(struct op *op, struct counts *counts, uint32_t depth,
                           struct json_value *v, struct v1_filter *out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    if (++counts->nodes > FILTER_NODES_MAX)
        return json_fail(op, v, "a filter has at most %d conditions", FILTER_NODES_MAX);
    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_field(op, &walk, node_names, NODE_NAMES, &name, &member)) &&
           name >= 0) {
        switch (name) {
        case FIELD: e = json_string(op, &member, &out->field); break;
        case OP: e = parse_condition_op(op, &member, &out->op); break;
        case VALUE: e = parse_values(op, counts, &member, out); break;
        case TYPE: e = parse_group_type(op, &member, &out->op); break;
        default: e = parse_children(op, counts, depth, &member, out);
        }
    }
    return e ? e : check_shape(op, &walk, out);
}

enum err v1_filter_parse(struct op *op, struct json_value *v, struct v1_filter **out)
{
    struct counts counts = {0, 0};
    struct v1_filter *filter = op_new(op, struct v1_filter);
    if (!filter) return ERR_LIMIT;
    enum err e = parse_node(op, &counts, 1, v, filter);
    if (e) return e;
    *out = filter;
    return ERR_OK;
}

/* ---- bound to a schema ---- */

/* Where binding stands: filter, or one condition of the group above. */
struct place {
    const struct place *above; /* NULL at the root */
    size_t index;
};

struct binding {
    struct op *op;
    const struct schema *schema;
    enum id_kind id_kind;
};

static void append_place(struct buf *path, const struct place *at)
{
    if (!at->above) {
        buf_append_str(path, "filter");
        return;
    }
    append_place(path, at->above);
    buf_printf(path, ".conditions[%zu]", at->index);
}

/* member: ".value", ".value[3]" or another field of the condition. */
static enum err bind_fail(struct op *op, const struct place *at, const char *member,
                          const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static enum err bind_fail(struct op *op, const struct place *at, const char *member,
                          const char *format, ...)
{
    struct buf text = BUF_INIT;
    append_place(&text, at);
    buf_printf(&text, "%s: ", member);
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    (void)op_fail(op, ERR_INVALID, "%.*s", (int)text.size, (const char *)text.data);
    buf_release(&text);
    return ERR_INVALID;
}

static enum err value_fail(struct op *op, const struct place *at,
                           const struct v1_filter *f, size_t index, const char *words)
{
    char member[40] = ".value";
    if (f->list) (void)snprintf(member, sizeof member, ".value[%zu]", index);
    return bind_fail(op, at, member, "%s", words);
}

static int compare_scalars(const void *a, const void *b, void *type)
{
    return scalar_compare(*(const enum attr_type *)type, a, b);
}

static int compare_ids(const void *a, const void *b)
{
    return doc_id_compare(a, b);
}

static size_t sort_scalars(enum attr_type type, union scalar *values, size_t count)
{
    size_t kept = 0;
    if (count) qsort_r(values, count, sizeof *values, compare_scalars, &type);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || scalar_compare(type, &values[kept - 1], &values[i]) != 0)
            values[kept++] = values[i];
    return kept;
}

static size_t sort_ids(struct doc_id *ids, size_t count)
{
    size_t kept = 0;
    if (count) qsort(ids, count, sizeof *ids, compare_ids);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || doc_id_compare(&ids[kept - 1], &ids[i]) != 0)
            ids[kept++] = ids[i];
    return kept;
}

/* Null may be asked for by equality, and nowhere else. */
static bool null_allowed(enum filter_op op)
{
    return op == FILTER_EQ || op == FILTER_NE || op == FILTER_IN || op == FILTER_NOT_IN;
}

static enum err bind_values(const struct binding *b, const struct place *at,
                            const struct v1_filter *parsed, struct filter *out)
{
    struct v1_complaint why;
    size_t count = 0;
    union scalar *values = op_new_array(b->op, union scalar, parsed->value_count);
    if (!values) return ERR_LIMIT;

    for (size_t i = 0; i < parsed->value_count; i++) {
        const struct v1_literal *literal = &parsed->values[i];
        if (literal->kind == JSON_NULL && null_allowed(parsed->op)) {
            out->with_null = true;
            continue;
        }
        if (!v1_scalar(literal, out->type, &values[count++], &why))
            return value_fail(b->op, at, parsed, i, why.text);
    }
    const char *wrong = parsed->op == FILTER_GLOB ? glob_check(values[0].s) : NULL;
    if (wrong) return value_fail(b->op, at, parsed, 0, wrong);
    out->values = values;
    out->value_count = sort_scalars(out->type, values, count);
    return ERR_OK;
}

static const char *id_kind_words(enum id_kind kind)
{
    return kind == ID_U64 ? "unsigned integers" : "strings";
}

static enum err bind_ids(const struct binding *b, const struct place *at,
                         const struct v1_filter *parsed, struct filter *out)
{
    struct v1_complaint why;
    enum id_kind kind = b->id_kind;
    struct doc_id *ids = op_new_array(b->op, struct doc_id, parsed->value_count);
    if (!ids) return ERR_LIMIT;

    for (size_t i = 0; i < parsed->value_count; i++) {
        if (!v1_id(&parsed->values[i], &ids[i], &why))
            return value_fail(b->op, at, parsed, i, why.text);
        if (kind == ID_NONE) kind = ids[i].kind;
        if (ids[i].kind == kind) continue;
        (void)snprintf(why.text, sizeof why.text, "the ids here are %s",
                       id_kind_words(kind));
        return value_fail(b->op, at, parsed, i, why.text);
    }
    if (parsed->op == FILTER_PREFIX && kind != ID_STRING)
        return value_fail(b->op, at, parsed, 0, "prefix needs ids that are strings");
    out->ids = ids;
    out->id_count = sort_ids(ids, parsed->value_count);
    return ERR_OK;
}

static bool id_op_allowed(enum filter_op op)
{
    switch (op) {
    case FILTER_EQ:
    case FILTER_NE:
    case FILTER_IN:
    case FILTER_NOT_IN:
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
    case FILTER_PREFIX: return true;
    default: return false;
    }
}

/* A value for ops that take one, a list for those that take a list. */
static enum err check_list(const struct binding *b, const struct place *at,
                           const struct v1_filter *parsed)
{
    bool wanted = filter_op_takes_list(parsed->op);
    if (parsed->list == wanted) return ERR_OK;
    return bind_fail(b->op, at, ".value", "%s takes %s", filter_op_name(parsed->op),
                     wanted ? "an array of values" : "one value, not an array");
}

static enum err bind_id_condition(const struct binding *b, const struct place *at,
                                  const struct v1_filter *parsed, struct filter *out)
{
    out->attr = FILTER_ATTR_ID;
    if (!id_op_allowed(parsed->op))
        return bind_fail(
            b->op, at, ".op",
            "%s does not work on ids: use eq, ne, in, not_in, gt, gte, lt, "
            "lte or prefix",
            filter_op_name(parsed->op));
    enum err e = check_list(b, at, parsed);
    return e ? e : bind_ids(b, at, parsed, out);
}

static enum err bind_exists(const struct binding *b, const struct place *at,
                            const struct v1_filter *parsed, struct filter *out)
{
    if (parsed->values[0].kind != JSON_BOOL)
        return bind_fail(b->op, at, ".value", "exists takes true or false");
    out->exists = parsed->values[0].boolean;
    return ERR_OK;
}

static enum err bind_condition(const struct binding *b, const struct place *at,
                               const struct v1_filter *parsed, struct filter *out)
{
    if (slice_equal(parsed->field, SLICE_LITERAL("id")))
        return bind_id_condition(b, at, parsed, out);

    out->attr = schema_find(b->schema, parsed->field);
    if (out->attr < 0)
        return bind_fail(b->op, at, ".field", "no attribute \"%.*s\" is declared",
                         v1_shown_size(parsed->field),
                         (const char *)parsed->field.data);
    const struct attr *attr = &b->schema->attrs[out->attr];
    out->type = attr->type;
    out->array = attr->array;
    if (!filter_op_allowed(parsed->op, attr->type, attr->array))
        return bind_fail(b->op, at, ".op", "%s does not work on %s, which is %s",
                         filter_op_name(parsed->op), attr->name,
                         attr_type_name(attr->type, attr->array));
    enum err e = check_list(b, at, parsed);
    if (e) return e;
    return parsed->op == FILTER_EXISTS ? bind_exists(b, at, parsed, out)
                                       : bind_values(b, at, parsed, out);
}

static enum err bind_node(const struct binding *b, const struct place *at,
                          const struct v1_filter *parsed, struct filter **out);

static enum err bind_children(const struct binding *b, const struct place *at,
                              const struct v1_filter *parsed, struct filter *out)
{
    struct filter **children =
        op_new_array(b->op, struct filter *, parsed->child_count);
    if (!children) return ERR_LIMIT;
    for (size_t i = 0; i < parsed->child_count; i++) {
        struct place below = {at, i};
        enum err e = bind_node(b, &below, &parsed->children[i], &children[i]);
        if (e) return e;
    }
    out->children = children;
    out->child_count = parsed->child_count;
    return ERR_OK;
}

static enum err bind_node(const struct binding *b, const struct place *at,
                          const struct v1_filter *parsed, struct filter **out)
{
    struct filter *f = op_new(b->op, struct filter);
    if (!f) return ERR_LIMIT;
    f->op = parsed->op;
    enum err e = parsed->op <= FILTER_NOT ? bind_children(b, at, parsed, f)
                                          : bind_condition(b, at, parsed, f);
    if (e) return e;
    *out = f;
    return ERR_OK;
}

enum err v1_filter_bind(struct op *op, const struct v1_filter *parsed,
                        const struct schema *schema, enum id_kind id_kind,
                        struct filter **out)
{
    struct binding binding = {op, schema, id_kind};
    struct place root = {NULL, 0};
    return bind_node(&binding, &root, parsed, out);
}
