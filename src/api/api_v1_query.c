#include "api/api_v1_query.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "api/api.h"
#include "api/api_route.h"
#include "api/api_token.h"
#include "api/api_v1_query_cursor.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "text/expand.h"

/* ---- from JSON ---- */

static enum err read_weight(struct op *op, struct json_value *v, double above,
                            float *out)
{
    double weight;
    enum err e = json_f64(op, v, &weight);
    if (e) return e;
    if (!(weight > above && weight <= WEIGHT_MAX))
        return json_fail(op, v, "a weight is a number %s and at most 1e6",
                         above < 0 ? "from 0" : "above 0");
    *out = (float)weight;
    return ERR_OK;
}

/* Above any negative number: 0 is allowed. */
#define FROM_ZERO (-1e-300)

static enum err read_vector(struct op *op, struct json_value *v, struct v1_query *out)
{
    float *vector = op_new_array(op, float, VECTOR_DIM_MAX);
    if (!vector) return ERR_LIMIT;
    out->vector = vector;
    return v1_vector_read(op, v, vector, VECTOR_DIM_MAX, &out->vector_count);
}

static enum err add_field(struct op *op, struct v1_query *out, struct slice name,
                          size_t *capacity)
{
    out->fields =
        v1_grow(op, out->fields, out->field_count, capacity, sizeof *out->fields);
    if (!out->fields) return ERR_LIMIT;
    out->fields[out->field_count++] = (struct v1_text_weight){name, 1.0F};
    return ERR_OK;
}

static enum err read_field(struct op *op, struct json_value *v, struct v1_query *out)
{
    struct slice name;
    size_t capacity = 0;
    enum err e = json_string(op, v, &name);
    return e ? e : add_field(op, out, name, &capacity);
}

static enum err read_fields(struct op *op, struct json_value *v, struct v1_query *out)
{
    struct json_walk walk;
    struct json_value item;
    struct slice name;
    size_t capacity = 0;
    bool more;

    out->fields_listed = true;
    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        if (out->field_count == SCHEMA_ATTRS_MAX)
            return json_fail(op, &item, "at most %d fields", SCHEMA_ATTRS_MAX);
        e = json_string(op, &item, &name);
        for (size_t i = 0; !e && i < out->field_count; i++)
            if (slice_equal(out->fields[i].field, name))
                e = json_fail(op, &item, "this field is already in the list");
        if (!e) e = add_field(op, out, name, &capacity);
    }
    if (!e && out->field_count == 0)
        return json_walk_fail(op, &walk, "at least one field is needed");
    return e;
}

struct weights {
    struct v1_text_weight *items;
    size_t count;
};

static enum err read_weights(struct op *op, struct json_value *v, struct weights *out)
{
    struct json_walk walk;
    struct json_value member;
    struct slice name;
    size_t capacity = 0;
    bool more;

    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_next(op, &walk, &more, &name, &member)) && more) {
        if (out->count == SCHEMA_ATTRS_MAX)
            return json_fail(op, &member, "at most %d weights", SCHEMA_ATTRS_MAX);
        out->items = v1_grow(op, out->items, out->count, &capacity, sizeof *out->items);
        if (!out->items) return ERR_LIMIT;
        out->items[out->count].field = name;
        e = read_weight(op, &member, 0.0, &out->items[out->count++].weight);
    }
    return e;
}

static enum err read_operator(struct op *op, struct json_value *v, bool *all_words)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    *all_words = slice_equal(name, SLICE_LITERAL("and"));
    if (!*all_words && !slice_equal(name, SLICE_LITERAL("or")))
        return json_fail(op, v, "expected \"or\" or \"and\"");
    return ERR_OK;
}

static enum err read_text(struct op *op, struct json_value *v, struct slice *out)
{
    enum err e = json_string(op, v, out);
    if (e || out->size <= QUERY_TEXT_SIZE_MAX) return e;
    (void)json_fail(op, v, "a query text has at most %d bytes, this one %zu",
                    QUERY_TEXT_SIZE_MAX, out->size);
    return ERR_LIMIT;
}

static enum err apply_weights(struct op *op, const struct weights *weights,
                              struct v1_query *out)
{
    for (size_t i = 0; i < weights->count; i++) {
        size_t j = 0;
        while (j < out->field_count &&
               !slice_equal(out->fields[j].field, weights->items[i].field))
            j++;
        if (j == out->field_count)
            return op_fail(op, ERR_INVALID,
                           "full_text.weights: \"%.*s\" is not a field of this query",
                           v1_shown_size(weights->items[i].field),
                           (const char *)weights->items[i].field.data);
        out->fields[j].weight = weights->items[i].weight;
    }
    return ERR_OK;
}

static enum err read_fuzzy(struct op *op, struct json_value *v, uint8_t *out)
{
    uint64_t edits;
    enum err e = json_u64_range(op, v, 1, FUZZY_EDITS_MAX, &edits);
    if (!e) *out = (uint8_t)edits;
    return e;
}

static enum err read_highlight(struct op *op, struct json_value *v,
                               struct v1_query *out)
{
    struct json_walk walk;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        struct slice name;
        if (out->highlight_count == SCHEMA_ATTRS_MAX)
            return json_fail(op, &item, "at most %d fields", SCHEMA_ATTRS_MAX);
        e = json_string(op, &item, &name);
        for (size_t i = 0; !e && i < out->highlight_count; i++)
            if (slice_equal(out->highlights[i], name))
                e = json_fail(op, &item, "this field is already in the list");
        if (e) return e;
        out->highlights = v1_grow(op, out->highlights, out->highlight_count, &capacity,
                                  sizeof *out->highlights);
        if (!out->highlights) return ERR_LIMIT;
        out->highlights[out->highlight_count++] = name;
    }
    return e;
}

/* Only what is searched can be marked. */
static enum err check_highlights(struct op *op, const struct v1_query *q)
{
    for (size_t i = 0; i < q->highlight_count; i++) {
        struct slice name = q->highlights[i];
        size_t j = 0;
        while (j < q->field_count && !slice_equal(q->fields[j].field, name))
            j++;
        if (j == q->field_count)
            return op_fail(
                op, ERR_INVALID,
                "full_text.highlight[%zu]: \"%.*s\" is not a field of this query", i,
                v1_shown_size(name), (const char *)name.data);
    }
    return ERR_OK;
}

enum {
    TEXT_FIELD,
    TEXT_FIELDS,
    TEXT_QUERY,
    TEXT_WEIGHTS,
    TEXT_OPERATOR,
    TEXT_PREFIX,
    TEXT_FUZZY,
    TEXT_HIGHLIGHT,
    TEXT_NAMES
};
static const char *const text_names[TEXT_NAMES] = {"field",   "fields",   "query",
                                                   "weights", "operator", "prefix",
                                                   "fuzzy",   "highlight"};

static enum err read_full_text(struct op *op, struct json_value *v,
                               struct v1_query *out)
{
    struct json_walk walk;
    struct json_value member;
    struct weights weights = {NULL, 0};
    int name = 0;

    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_field(op, &walk, text_names, TEXT_NAMES, &name, &member)) &&
           name >= 0) {
        uint64_t both = 1u << TEXT_FIELD | 1u << TEXT_FIELDS;
        if ((walk.seen & both) == both)
            return json_walk_fail(op, &walk, "give field or fields, not both");
        switch (name) {
        case TEXT_FIELD: e = read_field(op, &member, out); break;
        case TEXT_FIELDS: e = read_fields(op, &member, out); break;
        case TEXT_QUERY: e = read_text(op, &member, &out->text); break;
        case TEXT_WEIGHTS: e = read_weights(op, &member, &weights); break;
        case TEXT_PREFIX: e = json_bool(op, &member, &out->prefix); break;
        case TEXT_FUZZY: e = read_fuzzy(op, &member, &out->fuzzy); break;
        case TEXT_HIGHLIGHT: e = read_highlight(op, &member, out); break;
        default: e = read_operator(op, &member, &out->all_words);
        }
    }
    if (e) return e;
    if (out->field_count == 0 || !(walk.seen & 1u << TEXT_QUERY))
        return json_walk_fail(op, &walk, "field (or fields) and query are needed");
    e = apply_weights(op, &weights, out);
    return e ? e : check_highlights(op, out);
}

enum { WEIGHT_VECTOR, WEIGHT_TEXT, WEIGHT_NAMES };
static const char *const weight_names[WEIGHT_NAMES] = {"vector", "full_text"};

static enum err read_fusion_weights(struct op *op, struct json_value *v,
                                    struct v1_query *out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    enum err e = json_object(op, v, &walk);
    while (!e &&
           !(e = json_field(op, &walk, weight_names, WEIGHT_NAMES, &name, &member)) &&
           name >= 0)
        e = read_weight(op, &member, FROM_ZERO,
                        name == WEIGHT_VECTOR ? &out->vector_weight
                                              : &out->text_weight);
    return e;
}

static enum err read_fusion_method(struct op *op, struct json_value *v, bool *sum)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    *sum = slice_equal(name, SLICE_LITERAL("sum"));
    if (!*sum && !slice_equal(name, SLICE_LITERAL("rrf")))
        return json_fail(op, v, "expected \"rrf\" or \"sum\"");
    return ERR_OK;
}

static enum err read_normalize(struct op *op, struct json_value *v)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    return slice_equal(name, SLICE_LITERAL("minmax"))
               ? ERR_OK
               : json_fail(op, v, "expected \"minmax\"");
}

static enum err read_rrf_k(struct op *op, struct json_value *v, double *out)
{
    enum err e = json_f64(op, v, out);
    if (e) return e;
    if (!(*out >= 0.0 && *out <= 1e6))
        return json_fail(op, v, "k is a number from 0 to 1e6");
    return ERR_OK;
}

enum { FUSION_METHOD, FUSION_K, FUSION_NORMALIZE, FUSION_WEIGHTS, FUSION_NAMES };
static const char *const fusion_names[FUSION_NAMES] = {"method", "k", "normalize",
                                                       "weights"};

static enum err read_fusion(struct op *op, struct json_value *v, struct v1_query *out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    out->has_fusion = true;
    enum err e = json_object(op, v, &walk);
    while (!e &&
           !(e = json_field(op, &walk, fusion_names, FUSION_NAMES, &name, &member)) &&
           name >= 0) {
        switch (name) {
        case FUSION_METHOD:
            e = read_fusion_method(op, &member, &out->sum_fusion);
            break;
        case FUSION_K: e = read_rrf_k(op, &member, &out->rrf_k); break;
        case FUSION_NORMALIZE: e = read_normalize(op, &member); break;
        default: e = read_fusion_weights(op, &member, out);
        }
    }
    if (e) return e;
    if (out->sum_fusion && (walk.seen & 1u << FUSION_K))
        return op_fail(op, ERR_INVALID, "fusion.k: belongs to the method \"rrf\"");
    if (!out->sum_fusion && (walk.seen & 1u << FUSION_NORMALIZE))
        return op_fail(op, ERR_INVALID,
                       "fusion.normalize: belongs to the method \"sum\"");
    return ERR_OK;
}

static enum err read_direction(struct op *op, struct json_value *v, bool *descending)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    *descending = slice_equal(name, SLICE_LITERAL("desc"));
    if (!*descending && !slice_equal(name, SLICE_LITERAL("asc")))
        return json_fail(op, v, "expected \"asc\" or \"desc\"");
    return ERR_OK;
}

enum { ORDER_FIELD, ORDER_DIRECTION, ORDER_NAMES };
static const char *const order_names[ORDER_NAMES] = {"field", "direction"};

static enum err read_order(struct op *op, struct json_value *v, struct v1_query *out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    enum err e = json_object(op, v, &walk);
    while (!e &&
           !(e = json_field(op, &walk, order_names, ORDER_NAMES, &name, &member)) &&
           name >= 0)
        e = name == ORDER_FIELD ? json_string(op, &member, &out->order_field)
                                : read_direction(op, &member, &out->descending);
    if (e) return e;
    if (!(walk.seen & 1u << ORDER_FIELD))
        return json_walk_fail(op, &walk, "field is missing");
    return ERR_OK;
}

static enum err read_recall(struct op *op, struct json_value *v, float *out)
{
    double recall;
    enum err e = json_f64(op, v, &recall);
    if (e) return e;
    if (!(recall > 0.0 && recall <= 1.0))
        return json_fail(op, v, "recall is a number above 0 and at most 1");
    *out = (float)recall;
    return ERR_OK;
}

enum { SEARCH_RECALL, SEARCH_EXACT, SEARCH_NAMES };
static const char *const search_names[SEARCH_NAMES] = {"recall", "exact"};

enum err v1_search_parse(struct op *op, struct json_value *v, float *recall)
{
    struct json_walk walk;
    struct json_value member;
    bool exact = false;
    int name = 0;

    enum err e = json_object(op, v, &walk);
    while (!e &&
           !(e = json_field(op, &walk, search_names, SEARCH_NAMES, &name, &member)) &&
           name >= 0)
        e = name == SEARCH_RECALL ? read_recall(op, &member, recall)
                                  : json_bool(op, &member, &exact);
    if (exact) *recall = 1.0F;
    return e;
}

static enum err read_consistency(struct op *op, struct json_value *v,
                                 enum consistency *out)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    bool strong = slice_equal(name, SLICE_LITERAL("strong"));
    if (!strong && !slice_equal(name, SLICE_LITERAL("eventual")))
        return json_fail(op, v, "expected \"strong\" or \"eventual\"");
    *out = strong ? CONSISTENCY_STRONG : CONSISTENCY_EVENTUAL;
    return ERR_OK;
}

static enum err read_include_names(struct op *op, struct json_value *v,
                                   struct v1_include *out)
{
    struct json_walk walk;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    out->all = false;
    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        if (out->name_count == SCHEMA_ATTRS_MAX)
            return json_fail(op, &item, "at most %d attributes", SCHEMA_ATTRS_MAX);
        out->names =
            v1_grow(op, out->names, out->name_count, &capacity, sizeof *out->names);
        if (!out->names) return ERR_LIMIT;
        e = json_string(op, &item, &out->names[out->name_count++]);
    }
    return e;
}

static enum err read_include(struct op *op, struct json_value *v,
                             struct v1_include *out)
{
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind == JSON_BOOL) return json_bool(op, v, &out->all);
    if (kind == JSON_ARRAY) return read_include_names(op, v, out);
    return json_fail(op, v, "expected true, false or an array of attribute names");
}

static enum err read_top_k(struct op *op, struct json_value *v, uint32_t *out)
{
    uint64_t top_k;
    enum err e = json_u64_range(op, v, 1, QUERY_TOP_K_MAX, &top_k);
    if (!e) *out = (uint32_t)top_k;
    return e;
}

enum {
    QUERY_VECTOR,
    QUERY_FULL_TEXT,
    QUERY_FILTER,
    QUERY_TOP_K,
    QUERY_INCLUDE_VECTOR,
    QUERY_INCLUDE_ATTRIBUTES,
    QUERY_FUSION,
    QUERY_ORDER_BY,
    QUERY_CURSOR,
    QUERY_COUNT,
    QUERY_AGGREGATE,
    QUERY_CONSISTENCY,
    QUERY_SEARCH,
    QUERY_EXPLAIN,
    QUERY_NAMES
};
static const char *const query_names[QUERY_NAMES] = {
    "vector", "full_text", "filter", "top_k", "include_vector", "include_attributes",
    "fusion", "order_by",  "cursor", "count", "aggregate",      "consistency",
    "search", "explain"};

static enum err read_member(struct op *op, int name, struct json_value *v,
                            struct v1_query *out)
{
    switch (name) {
    case QUERY_VECTOR: return read_vector(op, v, out);
    case QUERY_FULL_TEXT: return read_full_text(op, v, out);
    case QUERY_FILTER: return v1_filter_parse(op, v, &out->filter);
    case QUERY_TOP_K: return read_top_k(op, v, &out->top_k);
    case QUERY_INCLUDE_VECTOR: return json_bool(op, v, &out->include.vector);
    case QUERY_INCLUDE_ATTRIBUTES: return read_include(op, v, &out->include);
    case QUERY_FUSION: return read_fusion(op, v, out);
    case QUERY_ORDER_BY: return read_order(op, v, out);
    case QUERY_CURSOR: return json_string(op, v, &out->cursor);
    case QUERY_COUNT: return json_bool(op, v, &out->count);
    case QUERY_AGGREGATE: return v1_aggregate_parse(op, v, &out->aggregate);
    case QUERY_CONSISTENCY: return read_consistency(op, v, &out->consistency);
    case QUERY_SEARCH: return v1_search_parse(op, v, &out->recall);
    default: return json_bool(op, v, &out->explain);
    }
}

/* Fields that could have no effect together are refused: one of them is a mistake. */
static enum err check_query(struct op *op, const struct v1_query *q)
{
    bool ranked = q->vector || q->field_count;
    bool asks = ranked || q->filter || q->order_field.data || q->count || q->aggregate;
    if (!asks)
        return op_fail(
            op, ERR_INVALID,
            "a query needs a vector, full_text, a filter, order_by, count or "
            "aggregate");
    if (ranked && q->cursor.data)
        return op_fail(op, ERR_INVALID,
                       "cursor: only listings have pages, not a query with vector or "
                       "full_text");
    if (ranked && q->order_field.data)
        return op_fail(op, ERR_INVALID,
                       "order_by: a query with vector or full_text is "
                       "ordered by its score");
    if (q->has_fusion && !(q->vector && q->field_count))
        return op_fail(op, ERR_INVALID, "fusion: needs both vector and full_text");
    return ERR_OK;
}

enum err v1_query_parse(struct op *op, struct json_value *root, struct v1_query *out)
{
    struct json_walk walk;
    struct json_value member;
    bool present = false;
    int name = 0;

    *out = (struct v1_query){.rrf_k = RRF_K_DEFAULT,
                             .vector_weight = 1.0F,
                             .text_weight = 1.0F,
                             .top_k = TOP_K_DEFAULT,
                             .include = {.all = true},
                             .consistency = CONSISTENCY_STRONG};
    enum err e = json_object(op, root, &walk);
    while (!e &&
           !(e = json_field(op, &walk, query_names, QUERY_NAMES, &name, &member)) &&
           name >= 0) {
        e = v1_present(op, &member, &present);
        if (!e && present) e = read_member(op, name, &member, out);
    }
    return e ? e : check_query(op, out);
}

/* ---- bound to a schema ---- */

static enum err bind_vector(struct op *op, const struct v1_query *parsed,
                            const struct schema *schema, struct rank *out)
{
    struct v1_complaint why;
    if (!v1_vector_check(parsed->vector, parsed->vector_count, schema->vector_dim,
                         schema->metric, &why))
        return op_fail(op, ERR_INVALID, "vector: %s", why.text);
    *out = (struct rank){.kind = RANK_VECTOR, .vector = parsed->vector};
    return ERR_OK;
}

static enum err bind_field(struct op *op, const struct v1_query *parsed, size_t index,
                           const struct schema *schema, struct rank_field *out)
{
    const struct v1_text_weight *field = &parsed->fields[index];
    struct v1_path path =
        v1_item_path(parsed->fields_listed ? "full_text.fields" : "full_text.field",
                     parsed->fields_listed, index);
    int attr = v1_find_attr(op, schema, field->field, path.text);
    if (attr < 0) return ERR_INVALID;
    if (!schema->attrs[attr].full_text)
        return op_fail(op, ERR_INVALID,
                       "%s: attribute \"%s\" was declared without full_text", path.text,
                       schema->attrs[attr].name);
    *out = (struct rank_field){attr, field->weight};
    return ERR_OK;
}

static enum err bind_text(struct op *op, const struct v1_query *parsed,
                          const struct schema *schema, struct rank *out)
{
    struct rank_field *fields =
        op_new_array(op, struct rank_field, parsed->field_count);
    int *highlights = op_new_array(op, int, parsed->highlight_count);
    if (!fields || !highlights) return ERR_LIMIT;
    for (size_t i = 0; i < parsed->field_count; i++) {
        enum err e = bind_field(op, parsed, i, schema, &fields[i]);
        if (e) return e;
    }
    *out = (struct rank){.kind = RANK_TEXT,
                         .text = parsed->text,
                         .fields = fields,
                         .field_count = parsed->field_count,
                         .all_words = parsed->all_words,
                         .prefix = parsed->prefix,
                         .fuzzy = parsed->fuzzy,
                         .highlights = highlights,
                         .highlight_count = parsed->highlight_count};
    for (size_t i = 0; i < parsed->highlight_count; i++)
        highlights[i] = schema_find(schema, parsed->highlights[i]);
    return ERR_OK;
}

static enum err bind_order(struct op *op, const struct v1_query *parsed,
                           const struct schema *schema, struct query *out)
{
    out->ordered = parsed->order_field.data != NULL;
    out->order_attr = FILTER_ATTR_ID;
    out->descending = parsed->descending;
    if (!out->ordered || slice_equal(parsed->order_field, SLICE_LITERAL("id")))
        return ERR_OK;
    int attr = v1_find_attr(op, schema, parsed->order_field, "order_by.field");
    if (attr < 0) return ERR_INVALID;
    if (schema->attrs[attr].array)
        return op_fail(op, ERR_INVALID,
                       "order_by.field: %s is %s, and arrays have no order",
                       schema->attrs[attr].name,
                       attr_type_name(schema->attrs[attr].type, true));
    out->order_attr = attr;
    return ERR_OK;
}

/* The schema's order, each once, whatever order they were asked in. */
static enum err bind_picks(struct op *op, const struct v1_include *include,
                           const struct schema *schema, struct v1_picks *out)
{
    bool *wanted = op_new_array(op, bool, schema->attr_count);
    out->attrs = op_new_array(op, int, schema->attr_count);
    out->count = 0;
    if (!wanted || !out->attrs) return ERR_LIMIT;
    for (size_t i = 0; i < include->name_count; i++) {
        struct v1_path path = v1_item_path("include_attributes", true, i);
        int attr = v1_find_attr(op, schema, include->names[i], path.text);
        if (attr < 0) return ERR_INVALID;
        wanted[attr] = true;
    }
    for (uint32_t i = 0; i < schema->attr_count; i++)
        if (include->all || wanted[i]) out->attrs[out->count++] = (int)i;
    return ERR_OK;
}

/* Both rankings as one: the sum of weighted shares. */
static enum err bind_fusion(struct op *op, const struct v1_query *parsed,
                            struct query *out)
{
    struct score *sum = op_new(op, struct score);
    struct score *shares = op_new_array(op, struct score, 2);
    if (!sum || !shares) return ERR_LIMIT;
    for (uint32_t i = 0; i < 2; i++)
        shares[i] = (struct score){
            .op = parsed->sum_fusion ? SCORE_MINMAX : SCORE_RECIPROCAL,
            .weight = (double)(i == 0 ? parsed->vector_weight : parsed->text_weight),
            .rank = i,
            .k = parsed->rrf_k,
        };
    *sum = (struct score){.op = SCORE_SUM,
                          .weight = 1,
                          .children = shares,
                          .child_count = 2};
    out->score = sum;
    return ERR_OK;
}

static enum err bind_cursor(struct op *op, const struct v1_query *parsed,
                            const struct snapshot *snapshot, struct query *out)
{
    struct query_place *place = op_new(op, struct query_place);
    if (!place) return ERR_LIMIT;
    out->after = place;
    return v1_cursor_parse(op, parsed->cursor, snapshot, out, place);
}

static enum err bind_aggregate(struct op *op, const struct v1_query *parsed,
                               const struct schema *schema, struct query *out)
{
    struct aggregate *aggregate = op_new(op, struct aggregate);
    if (!aggregate) return ERR_LIMIT;
    out->aggregate = aggregate;
    return v1_aggregate_bind(op, parsed->aggregate, schema, aggregate);
}

static enum err bind_ranks(struct op *op, const struct v1_query *parsed,
                           const struct schema *schema, struct query *out)
{
    struct rank *ranks = op_new_array(op, struct rank, 2);
    enum err e = ranks ? ERR_OK : ERR_LIMIT;

    out->ranks = ranks;
    if (!e && parsed->vector)
        e = bind_vector(op, parsed, schema, &ranks[out->rank_count++]);
    if (!e && parsed->field_count)
        e = bind_text(op, parsed, schema, &ranks[out->rank_count++]);
    if (!e && out->rank_count == 2) e = bind_fusion(op, parsed, out);
    return e;
}

enum err v1_query_bind(struct op *op, const struct v1_query *parsed,
                       const struct snapshot *snapshot, struct query *out,
                       struct v1_picks *picks)
{
    const struct schema *schema = snapshot->schema;
    struct filter *filter = NULL;

    *out = (struct query){
        .count = parsed->count,
        .top_k = parsed->top_k,
        .recall = parsed->recall,
        .include_vector = parsed->include.vector,
        .include_attributes = parsed->include.all || parsed->include.name_count > 0,
        .explain = parsed->explain,
    };
    enum err e = bind_ranks(op, parsed, schema, out);
    if (!e && parsed->filter)
        e = v1_filter_bind(op, parsed->filter, schema, snapshot->id_kind, &filter);
    out->filter = filter;
    if (!e) e = bind_order(op, parsed, schema, out);
    if (!e && parsed->cursor.data) e = bind_cursor(op, parsed, snapshot, out);
    if (!e && parsed->aggregate) e = bind_aggregate(op, parsed, schema, out);
    return e ? e : bind_picks(op, &parsed->include, schema, picks);
}

/* ---- answers ---- */

/* A score that was a float is printed with a float's digits: 0.9, not 0.8999999762. */
static void score_write(struct json_writer *w, double score)
{
    if ((double)(float)score == score)
        json_put_f32(w, (float)score);
    else
        json_put_f64(w, score);
}

/* A document's fields, without the braces: id, score (NULL: none), vector, attributes.
 * Null attributes are left out. */
static void document_write(struct json_writer *w, const struct schema *schema,
                           const struct doc *doc, const double *score,
                           const struct v1_picks *picks, bool attributes)
{
    json_key(w, "id");
    v1_id_write(w, &doc->id);
    if (score) {
        json_key(w, "score");
        score_write(w, *score);
    }
    if (doc->vector) {
        json_key(w, "vector");
        json_put_floats(w, doc->vector, schema->vector_dim);
    }
    if (!attributes) return;
    json_key(w, "attributes");
    json_begin_object(w);
    for (size_t i = 0; i < picks->count; i++) {
        const struct value *value = &doc->values[picks->attrs[i]];
        if (value->null) continue;
        json_key(w, schema->attrs[picks->attrs[i]].name);
        v1_value_write(w, &schema->attrs[picks->attrs[i]], value);
    }
    json_end_object(w);
}

/* An object of the fields in which something is marked. */
static void highlights_write(struct json_writer *w, const struct schema *schema,
                             const struct query_hit *hit)
{
    json_key(w, "highlights");
    json_begin_object(w);
    for (size_t i = 0; i < hit->highlight_count; i++) {
        const struct query_highlight *h = &hit->highlights[i];
        json_key(w, schema->attrs[h->attr].name);
        json_begin_array(w);
        for (size_t j = 0; j < h->fragment_count; j++)
            json_put_string(w, h->fragments[j]);
        json_end_array(w);
    }
    json_end_object(w);
}

static void put_count(struct json_writer *w, const char *key, uint64_t count)
{
    json_key(w, key);
    json_put_u64(w, count);
}

static void put_ms(struct json_writer *w, const char *key, uint64_t us)
{
    json_key(w, key);
    json_put_f64(w, (double)us / 1000.0);
}

/* ---- the stages of a query, for explain and /metrics ---- */

enum { STAGES = 7 };
static const char *const stages[STAGES] = {"filter", "vector",    "full_text", "order",
                                           "fuse",   "aggregate", "fetch"};

static uint64_t stage_us(const struct query_explain *x, size_t stage)
{
    const uint64_t took_us[STAGES] = {x->filter_us, x->vector_us, x->text_us,
                                      x->order_us,  x->fuse_us,   x->aggregate_us,
                                      x->fetch_us};
    return took_us[stage];
}

static struct metric *stage_metric(size_t stage)
{
    static struct metric *_Atomic known[STAGES];
    struct metric *m = atomic_load_explicit(&known[stage], memory_order_acquire);
    if (!m) { /* any thread may be first: all are given the same */
        char labels[32];
        (void)snprintf(labels, sizeof labels, "stage=\"%s\"", stages[stage]);
        m = metric_histogram("elacsym_query_stage_seconds",
                             "Time of the stages of queries; those that a query does "
                             "not have are not counted.",
                             labels, metric_seconds, metric_seconds_count);
        atomic_store_explicit(&known[stage], m, memory_order_release);
    }
    return m;
}

void v1_query_metrics_init(void)
{
    for (size_t i = 0; i < STAGES; i++)
        (void)stage_metric(i);
}

static void count_stages(const struct query_explain *x)
{
    for (size_t i = 0; i < STAGES; i++)
        if (stage_us(x, i))
            metric_observe(stage_metric(i), (double)stage_us(x, i) / 1e6);
}

static const char *basis_name(enum plan_basis basis)
{
    return basis == PLANNED_BY_STATISTICS ? "statistics"
           : basis == PLANNED_BY_SAMPLES  ? "samples"
                                          : "nothing";
}

static void put_plan(struct json_writer *w, const struct source_explain *source)
{
    json_begin_object(w);
    json_key(w, "segment");
    json_put_str(w, source->segment);
    put_count(w, "rows", source->rows);
    put_count(w, "live_rows", source->live_rows);
    json_key(w, "plan");
    json_put_str(w, source->plan);
    json_key(w, "why");
    json_put_str(w, source->why);
    json_key(w, "estimated_by");
    json_put_str(w, basis_name(source->basis));
    if (source->basis != PLANNED_BLINDLY) put_count(w, "estimate", source->estimate);
    if (source->counted) put_count(w, "matching_rows", source->matching_rows);
    json_end_object(w);
}

static void plans_write(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "filter");
    json_begin_object(w);
    put_count(w, "skipped", x->skipped);
    put_count(w, "unfiltered", x->unfiltered);
    put_count(w, "filter_first", x->filter_first);
    put_count(w, "search_first", x->search_first);
    put_count(w, "exact", x->exact);
    put_count(w, "retried", x->retried);
    put_count(w, "indexed", x->filter.indexed);
    put_count(w, "scanned", x->filter.scanned);
    put_count(w, "checked", x->filter.checked);
    json_key(w, "plans");
    json_begin_array(w);
    for (size_t i = 0; i < x->filtered_count; i++)
        put_plan(w, &x->filtered[i]);
    json_end_array(w);
    json_end_object(w);
}

static void explain_vectors(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "vector_index");
    json_begin_object(w);
    put_count(w, "segments", x->vectors.indexed);
    put_count(w, "clusters", x->vectors.clusters);
    put_count(w, "bytes", x->vectors.bytes);
    put_count(w, "codes_1bit", x->vectors.codes);
    put_count(w, "codes_8bit", x->vectors.rows);
    put_count(w, "exact", x->vectors.exact);
    json_end_object(w);
}

static void explain_cost(struct json_writer *w, const struct op_counters *cost)
{
    put_count(w, "rounds", cost->rounds);
    put_count(w, "store_requests", cost->store_requests);
    put_count(w, "store_bytes", cost->store_bytes);
    put_count(w, "cache_hits", cost->cache_hits);
    put_count(w, "cache_bytes", cost->cache_bytes);
    put_count(w, "disk_hits", cost->disk_hits);
    put_count(w, "disk_bytes", cost->disk_bytes);
    put_count(w, "cache_misses", cost->cache_misses);
}

static void explain_stages(struct json_writer *w, const struct query_explain *x)
{
    json_key(w, "stages_ms");
    json_begin_object(w);
    for (size_t i = 0; i < STAGES; i++)
        put_ms(w, stages[i], stage_us(x, i));
    put_ms(w, "total", x->total_us);
    json_end_object(w);
}

static void explain_write(struct json_writer *w, const struct op_counters *cost,
                          const struct query_explain *x)
{
    json_key(w, "explain");
    json_begin_object(w);
    json_key(w, "plan");
    json_put_str(w, x->plan);
    put_count(w, "segments", x->stored_sources);
    put_count(w, "tail_segments", x->sources - x->stored_sources);
    put_count(w, "rows", x->rows);
    put_count(w, "live_rows", x->live_rows);
    put_count(w, "filtered_rows", x->filtered_rows);
    plans_write(w, x);
    put_count(w, "depth", x->depth);
    put_count(w, "ordered_by_index", x->walked);
    put_count(w, "rows_scored", cost->rows_scored);
    explain_vectors(w, x);
    explain_cost(w, cost);
    explain_stages(w, x);
    json_end_object(w);
}

/* All that was decided about one query, from its text to its hits. */
struct run {
    struct v1_query parsed;
    struct snapshot *snapshot;
    struct query query;
    struct v1_picks picks;
    struct query_result result;
    struct buf next_cursor; /* empty: the listing ends here */
};

static void survey_write(struct json_writer *w, const struct run *run)
{
    if (run->query.rank_count == 0) {
        json_key(w, "next_cursor");
        if (run->result.more)
            json_put_string(w, buf_slice(&run->next_cursor));
        else
            json_put_null(w);
    }
    if (run->query.count) put_count(w, "count", run->result.match_count);
    if (run->query.aggregate)
        v1_aggregate_write(w, run->parsed.aggregate, run->query.aggregate,
                           run->snapshot->schema, &run->result);
}

static void results_write(struct buf *body, const struct op *op, const struct run *run,
                          uint64_t took_us)
{
    struct json_writer w;
    json_writer_init(&w, body);
    json_begin_object(&w);
    json_key(&w, "results");
    json_begin_array(&w);
    for (size_t i = 0; i < run->result.count; i++) {
        const struct query_hit *hit = &run->result.hits[i];
        json_begin_object(&w);
        document_write(&w, run->snapshot->schema, &hit->doc, &hit->score, &run->picks,
                       run->query.include_attributes);
        if (run->parsed.highlight_count > 0)
            highlights_write(&w, run->snapshot->schema, hit);
        json_end_object(&w);
    }
    json_end_array(&w);
    survey_write(&w, run);
    put_ms(&w, "took_ms", took_us);
    if (run->query.explain) explain_write(&w, &op->counters, &run->result.explain);
    json_end_object(&w);
}

static void put_token(struct api_call *call, const struct snapshot *snapshot)
{
    struct commit_token seen = {.epoch = snapshot->epoch, .slot = snapshot->slot};
    char text[TOKEN_TEXT_SIZE];

    memcpy(seen.incarnation, snapshot->incarnation, sizeof seen.incarnation);
    token_text(&seen, text);
    http_response_header(call->response, "X-Elacsym-Commit", "%s", text);
}

enum { RERUNS_MAX = 3 };

enum err v1_on_snapshot(struct op *op, struct api_call *call,
                        enum consistency consistency, v1_snapshot_reader *reader,
                        void *context, struct snapshot **used)
{
    struct commit_token minimum;
    struct read_options options = {.consistency = consistency, .early = true};

    const char *header = http_header(call->request, "X-Elacsym-Min-Commit");
    enum err e = header ? token_parse(op, header, &minimum) : ERR_OK;
    if (e) return e;
    if (header) options.min_commit = &minimum;
    for (int i = 0; i <= RERUNS_MAX; i++) {
        struct snapshot *fresh = NULL;
        op_clear_error(op);
        options.gone = *used;
        e = registry_snapshot(op, call->registry, call->name, &options, &fresh);
        if (e) return e;
        snapshot_unref(*used);
        *used = fresh;
        e = reader(op, fresh, context);
        if (!e) put_token(call, fresh);
        if (e != ERR_NOT_FOUND) return e;
    }
    return op_fail(op, ERR_CORRUPT, "an object of namespace \"%s\" is missing",
                   call->name);
}

static void log_slow(struct op *op, const struct api_call *call, const struct run *run,
                     uint64_t took_us)
{
    int64_t slow_ms = call->options->slow_query_ms;
    if (slow_ms <= 0 || took_us / 1000 <= (uint64_t)slow_ms) return;
    log_warn(op, "slow query",
             "namespace=%s took_ms=%llu plan=%s top_k=%u results=%zu segments=%llu "
             "rows_scored=%llu rounds=%llu store_requests=%llu store_bytes=%llu",
             call->name, (unsigned long long)(took_us / 1000), run->result.explain.plan,
             run->query.top_k, run->result.count,
             (unsigned long long)run->result.explain.sources,
             (unsigned long long)op->counters.rows_scored,
             (unsigned long long)op->counters.rounds,
             (unsigned long long)op->counters.store_requests,
             (unsigned long long)op->counters.store_bytes);
}

static enum err read_query(struct op *op, struct snapshot *snapshot, void *context)
{
    struct run *run = context;
    enum err e = v1_query_bind(op, &run->parsed, snapshot, &run->query, &run->picks);
    if (!e) e = query_run(op, snapshot, &run->query, &run->result);
    if (e || !run->result.more) return e;
    buf_clear(&run->next_cursor);
    return v1_cursor_text(op, snapshot, &run->query, &run->result.last,
                          &run->next_cursor);
}

static enum err run_query(struct op *op, struct api_call *call, struct json_value *root,
                          struct json *json, struct run *run)
{
    enum err e = v1_query_parse(op, root, &run->parsed);
    if (!e) e = json_end(op, json);
    return e ? e
             : v1_on_snapshot(op, call, run->parsed.consistency, read_query, run,
                              &run->snapshot);
}

enum err v1_query(struct op *op, struct api_call *call)
{
    struct run run = {.next_cursor = BUF_INIT};
    struct json *json = NULL;
    struct json_value root;

    int64_t start_us = clock_us();
    enum err e = registry_query_begin(op, call->registry, call->name);
    if (e) return e;
    e = api_call_json(op, call, &json, &root);
    if (!e) e = run_query(op, call, &root, json, &run);
    if (!e) {
        uint64_t took_us = (uint64_t)(clock_us() - start_us);
        results_write(&call->response->body, op, &run, took_us);
        count_stages(&run.result.explain);
        log_slow(op, call, &run, took_us);
    }
    snapshot_unref(run.snapshot);
    buf_release(&run.next_cursor);
    json_close(json);
    registry_query_end(call->registry, call->name);
    return e;
}

/* ---- one document ---- */

/* One document by the id of the path. */
struct look_up {
    struct slice path_id;
    struct doc_id id;
    bool found;
    struct doc doc;
};

/* The id of the path, as one of the namespace's kind. */
static enum err path_id(struct op *op, struct slice text, enum id_kind kind,
                        struct doc_id *out)
{
    *out = (struct doc_id){.kind = ID_STRING, .string = text};
    if (kind == ID_U64) {
        out->kind = ID_U64;
        if (route_u64(text, &out->u64)) return ERR_OK;
        return op_fail(op, ERR_INVALID,
                       "the ids of this namespace are unsigned integers");
    }
    if (text.size == 0 || text.size > ID_STRING_MAX)
        return op_fail(op, ERR_INVALID, "a document's id has 1 to %d bytes",
                       ID_STRING_MAX);
    return ERR_OK;
}

static enum err read_document(struct op *op, struct snapshot *snapshot, void *context)
{
    struct look_up *l = context;
    struct location at = {UINT32_MAX, 0};
    struct segment_fetch what = {.vector = true, .attributes = true};

    enum err e = path_id(op, l->path_id, snapshot->id_kind, &l->id);
    if (!e && snapshot->id_kind == l->id.kind)
        e = snapshot_find(op, snapshot, &l->id, 1, &at);
    l->found = at.source != UINT32_MAX;
    if (e || !l->found) return e;
    return segment_fetch(op, snapshot->sources[at.source].segment, snapshot->schema,
                         &at.row, 1, what, &l->doc);
}

static enum err write_document(struct op *op, struct buf *body,
                               const struct schema *schema, const struct doc *doc)
{
    struct v1_include everything = {.all = true};
    struct v1_picks picks;
    struct json_writer w;
    enum err e = bind_picks(op, &everything, schema, &picks);
    if (e) return e;
    json_writer_init(&w, body);
    json_begin_object(&w);
    document_write(&w, schema, doc, NULL, &picks, true);
    json_end_object(&w);
    return ERR_OK;
}

enum err v1_document(struct op *op, struct api_call *call)
{
    struct look_up l = {.path_id = call->document};
    struct snapshot *snapshot = NULL;
    char text[80];

    enum err e =
        v1_on_snapshot(op, call, CONSISTENCY_STRONG, read_document, &l, &snapshot);
    if (!e && !l.found)
        e = op_fail(op, ERR_NOT_FOUND, "there is no document %s",
                    doc_id_text(&l.id, text));
    if (!e) e = write_document(op, &call->response->body, snapshot->schema, &l.doc);
    snapshot_unref(snapshot);
    return e;
}
