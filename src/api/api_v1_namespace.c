#include "api/api_v1_namespace.h"

#include "api/api_route.h"
#include "api/api_token.h"
#include "api/api_v1_value.h"
#include "base/op.h"
#include "ns/registry.h"

/* ---- schemas ---- */

struct declaration {
    uint32_t vector_dim;
    bool has_metric;
    enum metric_kind metric;
    struct attr *attrs;
    uint32_t attr_count;
};

static enum err read_dim(struct op *op, struct json_value *v, struct declaration *out)
{
    uint64_t dim;
    enum err e = json_u64_range(op, v, 1, VECTOR_DIM_MAX, &dim);
    if (!e) out->vector_dim = (uint32_t)dim;
    return e;
}

static enum err read_metric(struct op *op, struct json_value *v,
                            struct declaration *out)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    out->has_metric = true;
    if (!metric_kind_parse(name, &out->metric))
        return json_fail(op, v, "expected one of cosine, l2, dot");
    return ERR_OK;
}

static enum err read_type(struct op *op, struct json_value *v, struct attr *out)
{
    struct slice name;
    enum err e = json_string(op, v, &name);
    if (e) return e;
    if (!attr_type_parse(name, &out->type, &out->array))
        return json_fail(op, v,
                         "expected one of string, int, uint, float, bool, "
                         "datetime, uuid, or one of them as an array: "
                         "array_string, ...");
    return ERR_OK;
}

static enum err read_language(struct op *op, struct json_value *v, enum language *out)
{
    struct slice name;
    struct buf known = BUF_INIT;
    enum err e = json_string(op, v, &name);
    if (e || language_parse(name, out)) return e;
    for (int i = 1; i <= LANG_LAST; i++)
        buf_printf(&known, "%s%s", i > 1 ? ", " : "", language_name((enum language)i));
    e = json_fail(op, v, "expected one of %.*s", (int)known.size,
                  (const char *)known.data);
    buf_release(&known);
    return e;
}

enum { LANGUAGE, STEMMING, STOPWORDS, CASE, ASCII, ANALYSIS_NAMES };
static const char *const analysis_names[ANALYSIS_NAMES] = {"language", "stemming",
                                                           "remove_stopwords",
                                                           "case_sensitive",
                                                           "ascii_folding"};

static enum err read_analysis(struct op *op, struct json_value *v, struct analysis *out)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    enum err e = json_object(op, v, &walk);
    while (
        !e &&
        !(e = json_field(op, &walk, analysis_names, ANALYSIS_NAMES, &name, &member)) &&
        name >= 0) {
        switch (name) {
        case LANGUAGE: e = read_language(op, &member, &out->language); break;
        case STEMMING: e = json_bool(op, &member, &out->stemming); break;
        case STOPWORDS: e = json_bool(op, &member, &out->remove_stopwords); break;
        case CASE: e = json_bool(op, &member, &out->case_sensitive); break;
        default: e = json_bool(op, &member, &out->ascii_folding);
        }
    }
    return e;
}

static enum err read_full_text(struct op *op, struct json_value *v, struct attr *out)
{
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind == JSON_BOOL) return json_bool(op, v, &out->full_text);
    if (kind != JSON_OBJECT)
        return json_fail(op, v,
                         "expected true, false or an object with language, "
                         "stemming, remove_stopwords, case_sensitive, ascii_folding");
    out->full_text = true;
    return read_analysis(op, v, &out->analysis);
}

enum { TYPE, INDEXED, FULL_TEXT, ATTR_NAMES };
static const char *const attr_names[ATTR_NAMES] = {"type", "indexed", "full_text"};

static enum err read_attr(struct op *op, struct json_value *v, struct attr *out)
{
    struct json_walk walk;
    struct json_value member;
    enum json_kind kind;
    int name = 0;

    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind == JSON_STRING) return read_type(op, v, out);
    if (kind != JSON_OBJECT)
        return json_fail(op, v, "expected a type (\"string\") or an object with type");
    e = json_object(op, v, &walk);
    while (!e && !(e = json_field(op, &walk, attr_names, ATTR_NAMES, &name, &member)) &&
           name >= 0) {
        switch (name) {
        case TYPE: e = read_type(op, &member, out); break;
        case INDEXED: e = json_bool(op, &member, &out->indexed); break;
        default: e = read_full_text(op, &member, out);
        }
    }
    if (!e && !(walk.seen & 1u << TYPE))
        return json_walk_fail(op, &walk, "type is missing");
    return e;
}

/* A name as the schema keeps it: terminated, so it must not hold a NUL. */
static enum err read_attr_name(struct op *op, struct json_value *v, struct slice name,
                               struct attr *out)
{
    if (name.size && memchr(name.data, '\0', name.size))
        return json_fail(op, v, "an attribute's name holds no control characters");
    struct slice copy = op_copy(op, name);
    out->name = (const char *)copy.data;
    return copy.data ? ERR_OK : ERR_LIMIT;
}

static enum err read_attrs(struct op *op, struct json_value *v, struct declaration *out)
{
    struct json_walk walk;
    struct json_value member;
    struct slice name;
    bool more;

    out->attrs = op_new_array(op, struct attr, SCHEMA_ATTRS_MAX);
    if (!out->attrs) return ERR_LIMIT;
    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_next(op, &walk, &more, &name, &member)) && more) {
        if (out->attr_count == SCHEMA_ATTRS_MAX)
            return json_walk_fail(op, &walk, "at most %d attributes", SCHEMA_ATTRS_MAX);
        struct attr *attr = &out->attrs[out->attr_count++];
        attr->analysis = ANALYSIS_DEFAULT;
        e = read_attr_name(op, &member, name, attr);
        if (!e) e = read_attr(op, &member, attr);
    }
    return e;
}

enum { DIM, METRIC, ATTRS, WRAPPED, SCHEMA_NAMES };
static const char *const schema_names[SCHEMA_NAMES] = {"vector_dim", "vector_metric",
                                                       "attributes", "schema"};

/* names: with WRAPPED at the outer level, without it inside. */
static enum err read_declaration(struct op *op, struct json_value *v, bool outer,
                                 struct declaration *out)
{
    struct json_walk walk;
    struct json_value member;
    bool present = false;
    int name = 0;
    size_t names = outer ? SCHEMA_NAMES : WRAPPED;

    enum err e = json_object(op, v, &walk);
    while (!e && !(e = json_field(op, &walk, schema_names, names, &name, &member)) &&
           name >= 0) {
        if ((walk.seen & 1u << WRAPPED) && walk.seen != 1u << WRAPPED)
            return json_walk_fail(op, &walk,
                                  "schema stands alone: move the other fields "
                                  "into it");
        e = v1_present(op, &member, &present);
        if (e || !present) continue;
        switch (name) {
        case DIM: e = read_dim(op, &member, out); break;
        case METRIC: e = read_metric(op, &member, out); break;
        case ATTRS: e = read_attrs(op, &member, out); break;
        default: e = read_declaration(op, &member, false, out);
        }
    }
    return e;
}

enum err v1_schema_parse(struct op *op, struct json_value *root, struct schema **out)
{
    struct declaration d = {.metric = METRIC_COSINE};
    enum err e = read_declaration(op, root, true, &d);
    if (e) return e;
    if (d.has_metric && d.vector_dim == 0)
        return op_fail(op, ERR_INVALID, "vector_metric: needs a vector_dim");

    struct schema *schema = schema_new(d.vector_dim, d.metric, d.attrs, d.attr_count);
    e = schema_check(op, schema);
    if (e)
        schema_unref(schema);
    else
        *out = schema;
    return e;
}

static void analysis_write(struct json_writer *w, const struct analysis *analysis)
{
    json_begin_object(w);
    json_key(w, "language");
    json_put_str(w, language_name(analysis->language));
    json_key(w, "stemming");
    json_put_bool(w, analysis->stemming);
    json_key(w, "remove_stopwords");
    json_put_bool(w, analysis->remove_stopwords);
    json_key(w, "case_sensitive");
    json_put_bool(w, analysis->case_sensitive);
    json_key(w, "ascii_folding");
    json_put_bool(w, analysis->ascii_folding);
    json_end_object(w);
}

static void attr_write(struct json_writer *w, const struct attr *attr)
{
    json_key(w, attr->name);
    json_begin_object(w);
    json_key(w, "type");
    json_put_str(w, attr_type_name(attr->type, attr->array));
    json_key(w, "indexed");
    json_put_bool(w, attr->indexed);
    json_key(w, "full_text");
    if (attr->full_text)
        analysis_write(w, &attr->analysis);
    else
        json_put_bool(w, false);
    json_end_object(w);
}

void v1_schema_write(struct json_writer *w, const struct schema *schema)
{
    json_begin_object(w);
    if (schema->vector_dim) {
        json_key(w, "vector_dim");
        json_put_u64(w, schema->vector_dim);
        json_key(w, "vector_metric");
        json_put_str(w, metric_kind_name(schema->metric));
    }
    json_key(w, "attributes");
    json_begin_object(w);
    for (uint32_t i = 0; i < schema->attr_count; i++)
        attr_write(w, &schema->attrs[i]);
    json_end_object(w);
    json_end_object(w);
}

/* ---- requests ---- */

enum { PREFIX, CURSOR, PAGE_SIZE, LIST_PARAMS };
static const char *const list_params[LIST_PARAMS] = {"prefix", "cursor", "page_size"};

/* Part of a name: empty, or what a name may be, so that nothing else gets near a key.
 */
static enum err check_part(struct op *op, const char *param, struct slice value)
{
    if (value.size == 0) return ERR_OK;
    enum err e = namespace_name_check(op, value);
    return e ? op_fail(op, e, "query parameter \"%s\"", param) : ERR_OK;
}

static enum err read_page_size(struct op *op, struct slice value, size_t *out)
{
    uint64_t size = PAGE_SIZE_DEFAULT;
    if (value.data && (!route_u64(value, &size) || size < 1 || size > PAGE_SIZE_MAX))
        return op_fail(op, ERR_INVALID,
                       "query parameter \"page_size\": expected 1 to %d",
                       PAGE_SIZE_MAX);
    *out = (size_t)size;
    return ERR_OK;
}

static void list_write(struct buf *body, const char *const *names, size_t count,
                       const char *next_cursor)
{
    struct json_writer w;
    json_writer_init(&w, body);
    json_begin_object(&w);
    json_key(&w, "namespaces");
    json_begin_array(&w);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&w);
        json_key(&w, "name");
        json_put_str(&w, names[i]);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_key(&w, "next_cursor");
    if (next_cursor)
        json_put_str(&w, next_cursor);
    else
        json_put_null(&w);
    json_end_object(&w);
}

static const char *or_empty(struct slice terminated)
{
    return terminated.data ? (const char *)terminated.data : "";
}

/* The cursor is the last name of the page before. */
enum err v1_list(struct op *op, struct api_call *call)
{
    struct slice values[LIST_PARAMS];
    size_t page_size = 0;

    enum err e =
        route_params(op, call->request->query_string, list_params, LIST_PARAMS, values);
    if (!e) e = check_part(op, "prefix", values[PREFIX]);
    if (!e) e = check_part(op, "cursor", values[CURSOR]);
    if (!e) e = read_page_size(op, values[PAGE_SIZE], &page_size);
    if (e) return e;

    size_t count = page_size + 1; /* the one more tells whether there is a next page */
    const char **names = op_new_array(op, const char *, count);
    if (!names) return ERR_LIMIT;
    e = registry_list(op, call->registry, or_empty(values[PREFIX]),
                      or_empty(values[CURSOR]), names, &count);
    if (e) return e;
    bool more = count > page_size;
    if (more) count = page_size;
    list_write(&call->response->body, names, count, more ? names[count - 1] : NULL);
    return ERR_OK;
}

enum err v1_create(struct op *op, struct api_call *call)
{
    struct json *json = NULL;
    struct json_value root;
    struct schema *schema = NULL;
    struct commit_token token;
    struct json_writer w;
    char text[TOKEN_TEXT_SIZE];
    bool created = false;

    enum err e = api_call_json(op, call, &json, &root);
    if (!e) e = v1_schema_parse(op, &root, &schema);
    if (!e) e = json_end(op, json);
    if (!e)
        e = registry_create(op, call->registry, call->name, schema, &created, &token);
    if (e) goto done;

    json_writer_init(&w, &call->response->body);
    json_begin_object(&w);
    json_key(&w, "namespace");
    json_put_str(&w, call->name);
    json_key(&w, "created");
    json_put_bool(&w, created);
    json_end_object(&w);
    token_text(&token, text);
    http_response_header(call->response, "X-Elacsym-Commit", "%s", text);
done:
    schema_unref(schema);
    json_close(json);
    return e;
}

static void info_write(struct buf *body, const char *name,
                       const struct namespace_info *info)
{
    struct json_writer w;
    bool indexed = info->tail_rows == 0 && !info->indexing;

    json_writer_init(&w, body);
    json_begin_object(&w);
    json_key(&w, "namespace");
    json_put_str(&w, name);
    json_key(&w, "schema");
    v1_schema_write(&w, info->schema);
    json_member_u64(&w, "document_count", info->documents);
    json_member_u64(&w, "bytes", info->segment_bytes + info->tail_bytes);
    json_member_u64(&w, "segments", info->segments);
    json_key(&w, "wal");
    json_begin_object(&w);
    json_key(&w, "state");
    json_put_str(&w, info->state);
    json_member_u64(&w, "first_slot", info->wal_first_slot);
    json_member_u64(&w, "next_slot", info->wal_next_slot);
    json_member_u64(&w, "unindexed_rows", info->tail_rows);
    json_member_u64(&w, "unindexed_bytes", info->tail_bytes);
    json_end_object(&w);
    json_key(&w, "index");
    json_begin_object(&w);
    json_key(&w, "status");
    json_put_str(&w, indexed ? "up-to-date" : "indexing");
    json_member_u64(&w, "unindexed_rows", info->tail_rows);
    json_member_u64(&w, "segments", info->segments);
    json_end_object(&w);
    json_member_u64(&w, "manifest_version", info->manifest_version);
    json_member_u64(&w, "epoch", info->epoch);
    json_end_object(&w);
}

enum err v1_info(struct op *op, struct api_call *call)
{
    struct namespace_info info = {.schema = NULL};
    enum err e = registry_info(op, call->registry, call->name, &info);
    if (e) return e;
    info_write(&call->response->body, call->name, &info);
    schema_unref(info.schema);
    return ERR_OK;
}

static void done_write(struct buf *body, const char *name, const char *what)
{
    struct json_writer w;
    json_writer_init(&w, body);
    json_begin_object(&w);
    json_key(&w, "namespace");
    json_put_str(&w, name);
    json_key(&w, what);
    json_put_bool(&w, true);
    json_end_object(&w);
}

enum err v1_drop(struct op *op, struct api_call *call)
{
    enum err e = registry_drop(op, call->registry, call->name);
    if (!e) done_write(&call->response->body, call->name, "dropped");
    return e;
}

enum err v1_compact(struct op *op, struct api_call *call)
{
    enum err e = registry_maintain(op, call->registry, call->name, true);
    if (!e) done_write(&call->response->body, call->name, "compacted");
    return e;
}
