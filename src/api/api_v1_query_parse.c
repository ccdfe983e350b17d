#include "api/api_v1_query_parse.h"

#include <math.h>

#include "api/api.h"
#include "base/op.h"
#include "text/expand.h"

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

/* One of two words; *is_second: it is the latter. */
static enum err read_either(struct op *op, struct json_value *v, const char *first,
                            const char *second, bool *is_second)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    *is_second = slice_equal(name, slice_str(second));
    if (!*is_second && !slice_equal(name, slice_str(first)))
        return json_fail(op, v, "expected \"%s\" or \"%s\"", first, second);
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
        default: e = read_either(op, &member, "or", "and", &out->all_words);
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
            e = read_either(op, &member, "rrf", "sum", &out->sum_fusion);
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
        e = name == ORDER_FIELD
                ? json_string(op, &member, &out->order_field)
                : read_either(op, &member, "asc", "desc", &out->descending);
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
    bool eventual;
    enum err e = read_either(op, v, "strong", "eventual", &eventual);
    if (!e) *out = eventual ? CONSISTENCY_EVENTUAL : CONSISTENCY_STRONG;
    return e;
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
