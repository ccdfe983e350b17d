#include "api/api_v1_write.h"

#include <assert.h>

#include "api/api_token.h"
#include "base/codec.h"
#include "base/op.h"
#include "ns/registry.h"

/* ---- documents ---- */

/* Vectors lie behind each other in blocks, so that a scan of the batch is one sweep. */
enum { VECTOR_BLOCK_SIZE = 256 << 10 };

struct upsert {
    struct op *op;
    const struct schema *schema;
    struct batch *batch;
    size_t capacity;
    float *vectors; /* room for the next ones */
    size_t vectors_left;
    const struct value *nulls; /* for documents without attributes; shared */
};

enum { ID, VECTOR, ATTRIBUTES, DOCUMENT_NAMES };
static const char *const document_names[DOCUMENT_NAMES] = {"id", "vector",
                                                           "attributes"};

static struct value *null_values(struct op *op, const struct schema *schema)
{
    struct value *values = op_new_array(op, struct value, schema->attr_count);
    for (uint32_t i = 0; values && i < schema->attr_count; i++)
        values[i] = VALUE_NULL;
    return values;
}

/* Room for one vector at u->vectors; it is taken by moving the pointer on. */
static enum err vector_room(struct upsert *u)
{
    if (u->vectors_left) return ERR_OK;
    size_t size = u->schema->vector_dim * sizeof(float);
    size_t count = size < VECTOR_BLOCK_SIZE ? VECTOR_BLOCK_SIZE / size : 1;
    u->vectors = op_alloc_array(u->op, count, size);
    if (!u->vectors) return ERR_LIMIT;
    u->vectors_left = count;
    return ERR_OK;
}

static enum err read_vector(struct upsert *u, struct json_value *v, struct doc *doc)
{
    struct v1_complaint why;
    size_t count = 0;
    bool present = false;
    uint32_t dim = u->schema->vector_dim;

    enum err e = v1_present(u->op, v, &present);
    if (e || !present) return e;
    if (dim == 0)
        return json_fail(u->op, v,
                         "this namespace was created without vector_dim and "
                         "has no vectors");
    e = vector_room(u);
    if (e) return e;
    e = v1_vector_read(u->op, v, u->vectors, dim, &count);
    if (e) return e;
    if (!v1_vector_check(u->vectors, count, dim, u->schema->metric, &why))
        return json_fail(u->op, v, "%s", why.text);
    doc->vector = u->vectors;
    u->vectors += dim;
    u->vectors_left--;
    return ERR_OK;
}

static enum err read_attributes(struct upsert *u, struct json_value *v, struct doc *doc,
                                size_t *bytes)
{
    struct json_walk walk;
    struct json_value member;
    struct slice name;
    bool present = false, more = false;

    enum err e = v1_present(u->op, v, &present);
    if (e || !present) return e;
    struct value *values = null_values(u->op, u->schema);
    if (!values) return ERR_LIMIT;
    e = json_object(u->op, v, &walk);
    while (!e && !(e = json_next(u->op, &walk, &more, &name, &member)) && more) {
        int attr = schema_find(u->schema, name);
        if (attr < 0)
            return json_fail(
                u->op, &member,
                "this attribute is not declared in the namespace's schema");
        e = v1_value_read(u->op, &member, &u->schema->attrs[attr], &values[attr],
                          bytes);
    }
    doc->values = values;
    return e;
}

static enum err check_size(struct upsert *u, const struct json_walk *walk, size_t bytes)
{
    if (bytes <= DOCUMENT_SIZE_MAX) return ERR_OK;
    (void)json_walk_fail(u->op, walk, "a document has at most %d bytes, this one %zu",
                         DOCUMENT_SIZE_MAX, bytes);
    return ERR_LIMIT;
}

/* Ids of one request are of one kind; the first document decides. */
static enum err check_id_kind(struct upsert *u, const struct json_walk *walk,
                              const struct doc *doc)
{
    if (doc->id.kind == u->batch->docs[0].id.kind) return ERR_OK;
    return json_walk_fail(u->op, walk,
                          "its id is %s, that of documents[0] is not: the ids of a "
                          "namespace are all unsigned integers or all strings",
                          doc->id.kind == ID_U64 ? "an integer" : "a string");
}

static enum err read_document(struct upsert *u, struct json_value *v, struct doc *doc)
{
    struct json_walk walk;
    struct json_value member;
    int name = 0;
    size_t bytes = u->schema->vector_dim * sizeof(float);

    doc->values = u->nulls;
    enum err e = json_object(u->op, v, &walk);
    while (!e &&
           !(e = json_field(u->op, &walk, document_names, DOCUMENT_NAMES, &name,
                            &member)) &&
           name >= 0) {
        switch (name) {
        case ID: e = v1_id_read(u->op, &member, &doc->id); break;
        case VECTOR: e = read_vector(u, &member, doc); break;
        default: e = read_attributes(u, &member, doc, &bytes);
        }
    }
    if (e) return e;
    if (doc->id.kind == ID_NONE) return json_walk_fail(u->op, &walk, "id is missing");
    e = check_id_kind(u, &walk, doc);
    return e ? e : check_size(u, &walk, bytes);
}

static enum err read_documents(struct upsert *u, struct json_value *v, size_t *index)
{
    struct batch *batch = u->batch;
    struct json_walk walk;
    struct json_value item;
    bool more;

    enum err e = json_array(u->op, v, &walk);
    while (!e && !(e = json_item(u->op, &walk, &more, &item)) && more) {
        batch->docs = v1_grow(u->op, batch->docs, batch->doc_count, &u->capacity,
                              sizeof *batch->docs);
        if (!batch->docs) return ERR_LIMIT;
        *index = batch->doc_count++;
        e = op_check(u->op);
        if (!e) e = read_document(u, &item, &batch->docs[*index]);
        if (!e) *index = SIZE_MAX;
    }
    return e;
}

static const char *const upsert_names[] = {"documents"};

enum err v1_upsert_parse(struct op *op, struct json_value *root,
                         const struct schema *schema, struct batch *out,
                         size_t *failed_index)
{
    struct upsert u = {.op = op, .schema = schema, .batch = out};
    struct json_walk walk;
    struct json_value member;
    int name = 0;

    *out = (struct batch){0};
    *failed_index = SIZE_MAX;
    u.nulls = null_values(op, schema);
    if (!u.nulls) return ERR_LIMIT;
    enum err e = json_object(op, root, &walk);
    while (!e && !(e = json_field(op, &walk, upsert_names, 1, &name, &member)) &&
           name >= 0)
        e = read_documents(&u, &member, failed_index);
    if (!e && !walk.seen)
        return json_walk_fail(op, &walk, "documents is missing: an array of documents");
    return e;
}

/* Walks to the id of documents[index]; *out stays ID_NONE where there is none. */
static enum err find_id(struct op *op, struct json_value *root, size_t index,
                        struct doc_id *out)
{
    struct json_walk walk;
    struct json_value v;
    bool more = true;
    int name = 0;

    enum err e = json_object(op, root, &walk);
    if (!e) e = json_field(op, &walk, upsert_names, 1, &name, &v);
    if (!e) e = json_array(op, &v, &walk);
    for (size_t i = 0; !e && more && i <= index; i++)
        e = json_item(op, &walk, &more, &v);
    if (!e && more) e = json_object(op, &v, &walk);
    while (!e && more && out->kind == ID_NONE) {
        struct slice key;
        e = json_next(op, &walk, &more, &key, &v);
        if (!e && more && slice_equal(key, SLICE_LITERAL("id")))
            e = v1_id_read(op, &v, out);
    }
    return e;
}

/* The id of documents[index], wherever in the document it stands. False if there is
 * none to be read. For the words of an error. */
static bool id_at(struct op *op, struct slice body, size_t index, struct doc_id *out)
{
    struct json *json = NULL;
    struct json_value root;
    struct doc_id id = {.kind = ID_NONE};

    enum err e = json_open(op, body, &json, &root);
    if (!e) e = find_id(op, &root, index, &id);
    bool found = !e && id.kind != ID_NONE;
    if (found && id.kind == ID_STRING) {
        id.string = op_copy(op, id.string);
        found = id.string.data != NULL;
    }
    json_close(json);
    if (found) *out = id;
    return found;
}

/* ---- deletes ---- */

static enum err read_ids(struct op *op, struct json_value *v, struct batch *batch)
{
    struct json_walk walk;
    struct json_value item;
    size_t capacity = 0;
    bool more;

    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        batch->deletes = v1_grow(op, batch->deletes, batch->delete_count, &capacity,
                                 sizeof *batch->deletes);
        if (!batch->deletes) return ERR_LIMIT;
        struct doc_id *id = &batch->deletes[batch->delete_count++];
        e = v1_id_read(op, &item, id);
        if (!e && id->kind != batch->deletes[0].kind)
            e = json_fail(op, &item,
                          "the ids of a namespace are all unsigned integers "
                          "or all strings");
    }
    return e;
}

enum { IDS, FILTER, DELETE_NAMES };
static const char *const delete_names[DELETE_NAMES] = {"ids", "filter"};

enum err v1_delete_parse(struct op *op, struct json_value *root, struct batch *out,
                         struct v1_filter **filter)
{
    struct json_walk walk;
    struct json_value member;
    bool present = false, any = false;
    int name = 0;

    *out = (struct batch){0};
    *filter = NULL;
    enum err e = json_object(op, root, &walk);
    while (!e &&
           !(e = json_field(op, &walk, delete_names, DELETE_NAMES, &name, &member)) &&
           name >= 0) {
        e = v1_present(op, &member, &present);
        if (e || !present) continue;
        any = true;
        e = name == IDS ? read_ids(op, &member, out)
                        : v1_filter_parse(op, &member, filter);
    }
    if (e) return e;
    if (!any) return json_walk_fail(op, &walk, "a delete needs ids, a filter or both");
    return ERR_OK;
}

/* ---- requests ---- */

/* 1 to 255 visible ASCII characters. */
static enum err read_idempotency(struct op *op, const struct api_call *call,
                                 struct write_request *out)
{
    const char *key = http_header(call->request, "Idempotency-Key");
    if (!key) return ERR_OK;
    size_t size = strlen(key);
    bool sound = size >= 1 && size <= 255;
    for (size_t i = 0; sound && i < size; i++)
        sound = key[i] > ' ' && key[i] < 0x7f;
    if (!sound)
        return op_fail(op, ERR_INVALID,
                       "Idempotency-Key: expected 1 to 255 visible ASCII characters");

    /* The digest tells a repeated request from another one that reuses its key. */
    struct buf parts = BUF_INIT;
    uint8_t body[16];
    xxh3_128(call->request->body.data, call->request->body.size, body);
    buf_append(&parts, call->request->method, strlen(call->request->method) + 1);
    buf_append(&parts, call->request->path, strlen(call->request->path) + 1);
    buf_append(&parts, body, sizeof body);
    xxh3_128(parts.data, parts.size, out->digest);
    buf_release(&parts);
    out->idempotency_key = slice_of(key, size);
    return ERR_OK;
}

static void answer_count(struct api_call *call, const char *key, uint64_t count,
                         const struct commit_token *token)
{
    struct json_writer w;
    char text[TOKEN_TEXT_SIZE];
    json_writer_init(&w, &call->response->body);
    json_begin_object(&w);
    json_key(&w, key);
    json_put_u64(&w, count);
    json_end_object(&w);
    token_text(token, text);
    http_response_header(call->response, "X-Elacsym-Commit", "%s", text);
}

/* Puts the document's id in front of what is wrong with it. */
static enum err name_document(struct op *op, enum err e, struct slice body,
                              size_t index)
{
    struct op search;
    struct doc_id id;
    char text[80];

    if (index == SIZE_MAX || (e != ERR_INVALID && e != ERR_LIMIT)) return e;
    op_init(&search, op->deadline_ms, op->arena.size_max);
    if (id_at(&search, body, index, &id))
        (void)op_fail(op, e, "document %s", doc_id_text(&id, text));
    op_release(&search);
    return e;
}

/* One attempt under one schema, from the body's text through request->batch to the
 * commit. */
typedef enum err write_attempt(struct op *op, struct api_call *call,
                               struct schema *schema, struct write_request *request,
                               struct write_result *result);

static enum err attempt_upsert(struct op *op, struct api_call *call,
                               struct schema *schema, struct write_request *request,
                               struct write_result *result)
{
    struct json *json = NULL;
    struct json_value root;
    size_t failed_index = SIZE_MAX;

    enum err e = api_call_json(op, call, &json, &root);
    if (!e) e = v1_upsert_parse(op, &root, schema, request->batch, &failed_index);
    if (!e) e = json_end(op, json);
    if (!e) e = batch_unique(op, request->batch);
    if (!e) e = registry_write(op, call->registry, call->name, request, result);
    json_close(json);
    return e ? name_document(op, e, call->request->body, failed_index) : ERR_OK;
}

/*
 * A filter on ids must be of the namespace's kind, which its first document decided and
 * nothing changes. Before there is a document, nothing can match: the filter is checked
 * and then left out, so that it never meets ids of another kind at the commit.
 */
static enum err bind_delete_filter(struct op *op, struct api_call *call,
                                   const struct v1_filter *parsed,
                                   const struct schema *schema,
                                   struct write_request *request)
{
    struct read_options options = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *snapshot = NULL;
    struct filter *filter = NULL;

    enum err e = registry_snapshot(op, call->registry, call->name, &options, &snapshot);
    if (e) return e;
    e = v1_filter_bind(op, parsed, schema, snapshot->id_kind, &filter);
    request->delete_filter = snapshot->id_kind == ID_NONE ? NULL : filter;
    request->filter_ids = snapshot->id_kind;
    snapshot_unref(snapshot);
    return e;
}

static enum err attempt_delete(struct op *op, struct api_call *call,
                               struct schema *schema, struct write_request *request,
                               struct write_result *result)
{
    struct json *json = NULL;
    struct json_value root;
    struct v1_filter *filter = NULL;

    enum err e = api_call_json(op, call, &json, &root);
    if (!e) e = v1_delete_parse(op, &root, request->batch, &filter);
    if (!e) e = json_end(op, json);
    if (!e && filter) e = bind_delete_filter(op, call, filter, schema, request);
    if (!e) e = batch_unique(op, request->batch);
    if (!e) e = registry_write(op, call->registry, call->name, request, result);
    json_close(json);
    return e;
}

enum { ATTEMPTS_MAX = 3 };

/*
 * The schema may grow, or the namespace be dropped and made anew, between reading the
 * request under it and the commit. The registry says ERR_CONFLICT then, with nothing
 * applied, and the request is read again under the new schema.
 */
static enum err write_request(struct op *op, struct api_call *call,
                              write_attempt *attempt, struct write_result *result)
{
    struct batch batch;
    struct write_request request = {.batch = &batch};
    enum err e = read_idempotency(op, call, &request);
    if (e) return e;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        op_clear_error(op);
        e = registry_schema(op, call->registry, call->name, &request.schema);
        if (e) return e;
        e = attempt(op, call, request.schema, &request, result);
        schema_unref(request.schema);
        if (e != ERR_CONFLICT) return e;
    }
    return op_fail(op, e, "the schema kept changing");
}

enum err v1_upsert(struct op *op, struct api_call *call)
{
    struct write_result result;
    enum err e = write_request(op, call, attempt_upsert, &result);
    if (!e) answer_count(call, "upserted", result.upserted, &result.token);
    return e;
}

enum err v1_delete(struct op *op, struct api_call *call)
{
    struct write_result result;
    enum err e = write_request(op, call, attempt_delete, &result);
    if (!e) answer_count(call, "deleted", result.deleted, &result.token);
    return e;
}
