#include "api/api_v1_query_bind.h"

#include "api/api_v1_query_cursor.h"
#include "base/op.h"

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

enum err v1_include_bind(struct op *op, const struct v1_include *include,
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
    return e ? e : v1_include_bind(op, &parsed->include, schema, picks);
}
