/*
 * api_fake.h - a registry and a query engine that write down what reaches them.
 *
 * Tests of api/ include this once: it defines the functions of ns/, query/ and http/
 * that api/ calls, so the linker takes these instead of the library's. A test asks like
 * a client (ask) and reads the answer and, in fake.seen, what was asked of the
 * database.
 */
#ifndef TESTS_UNIT_API_FAKE_H
#define TESTS_UNIT_API_FAKE_H

#include "api/api.h"
#include "api/api_v1_namespace.h"
#include "api/router.h"
#include "base/json.h"
#include "base/op.h"
#include "ns/registry.h"
#include "query/query.h"
#include "unit/test.h"

static struct {
    /* what the world is like */
    struct schema *schema;
    enum id_kind id_kind;
    bool reborn; /* the namespace has another incarnation */
    const char *content_type, *idempotency_key, *min_commit;
    enum err fail[8]; /* of the next calls that can fail, 0 for success */
    int64_t retry_after_ms;
    const char *names[8]; /* for registry_list */
    size_t name_count;
    const struct doc *docs; /* what a query or a look-up finds */
    size_t doc_count;
    double score;
    bool more; /* a listing goes on */
    struct aggregate_group *groups;
    size_t group_count;
    bool not_ready, crowded;
    int64_t query_us;
    bool routed_elsewhere;   /* by the router's hint */
    const char *routed_body; /* another node's answer, with status 418 */
    enum err routed_error;
    /* what came out */
    int calls;
    struct buf seen;
    uint8_t digest[16];
    struct commit_token min_seen;
    enum consistency consistency;
    int routed; /* requests that the router was asked about */
    bool routed_write;
    char routed_name[129];
    bool gone_seen; /* the last snapshot was asked for in place of another */
    struct http_response response;
    enum http_lane lane;
    size_t body_max;
    bool streams;
    char *text; /* the answer's body, terminated */
} fake;

static const struct commit_token fake_token = {.incarnation = {1, 2, 3},
                                               .epoch = 7,
                                               .slot = 42};

static inline enum err fake_result(struct op *op)
{
    enum err e = fake.calls < 8 ? fake.fail[fake.calls] : ERR_OK;
    fake.calls++;
    op->retry_after_ms = fake.retry_after_ms;
    return e ? op_fail(op, e, "as the test wants it") : ERR_OK;
}

/* ---- printing ---- */

static inline void print_slice(struct slice s)
{
    buf_append_byte(&fake.seen, '"');
    buf_append_slice(&fake.seen, s);
    buf_append_byte(&fake.seen, '"');
}

static inline void print_id(const struct doc_id *id)
{
    if (id->kind == ID_U64)
        buf_printf(&fake.seen, "%llu", (unsigned long long)id->u64);
    else
        print_slice(id->string);
}

static inline void print_scalar(enum attr_type type, const union scalar *s)
{
    char text[40];
    switch (type) {
    case ATTR_STRING: print_slice(s->s); break;
    case ATTR_INT: buf_printf(&fake.seen, "%lld", (long long)s->i); break;
    case ATTR_UINT: buf_printf(&fake.seen, "%llu", (unsigned long long)s->u); break;
    case ATTR_FLOAT: buf_printf(&fake.seen, "%.17g", s->f); break;
    case ATTR_BOOL: buf_append_str(&fake.seen, s->b ? "true" : "false"); break;
    case ATTR_DATETIME:
        (void)datetime_text(s->i, text);
        buf_append_str(&fake.seen, text);
        break;
    case ATTR_UUID:
        uuid_text(s->uuid, text);
        buf_append_str(&fake.seen, text);
        break;
    }
}

static inline void print_value(const struct attr *attr, const struct value *v)
{
    if (!attr->array) {
        print_scalar(attr->type, &v->one);
        return;
    }
    buf_append_byte(&fake.seen, '[');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i) buf_append_byte(&fake.seen, ' ');
        print_scalar(attr->type, &v->items[i]);
    }
    buf_append_byte(&fake.seen, ']');
}

static inline void print_vector(const float *v, size_t n)
{
    buf_append_byte(&fake.seen, '<');
    for (size_t i = 0; i < n; i++)
        buf_printf(&fake.seen, "%s%g", i ? " " : "", (double)v[i]);
    buf_append_byte(&fake.seen, '>');
}

/* 1 <0.5 1> title="x" year=1999; */
static inline void print_doc(const struct doc *d, const struct schema *schema)
{
    print_id(&d->id);
    if (d->vector) {
        buf_append_byte(&fake.seen, ' ');
        print_vector(d->vector, schema->vector_dim);
    }
    for (uint32_t i = 0; i < schema->attr_count; i++) {
        if (d->values[i].null) continue;
        buf_printf(&fake.seen, " %s=", schema->attrs[i].name);
        print_value(&schema->attrs[i], &d->values[i]);
    }
    buf_append_str(&fake.seen, "; ");
}

/* (and (eq title "x") (in year 1 2 null) (exists tags true)) */
static inline void print_filter(const struct filter *f, const struct schema *schema)
{
    buf_printf(&fake.seen, "(%s", filter_op_name(f->op));
    for (size_t i = 0; i < f->child_count; i++) {
        buf_append_byte(&fake.seen, ' ');
        print_filter(f->children[i], schema);
    }
    if (f->op > FILTER_NOT)
        buf_printf(&fake.seen, " %s",
                   f->attr == FILTER_ATTR_ID ? "id" : schema->attrs[f->attr].name);
    for (size_t i = 0; i < f->value_count; i++) {
        buf_append_byte(&fake.seen, ' ');
        print_scalar(f->type, &f->values[i]);
    }
    for (size_t i = 0; i < f->id_count; i++) {
        buf_append_byte(&fake.seen, ' ');
        print_id(&f->ids[i]);
    }
    if (f->with_null) buf_append_str(&fake.seen, " null");
    if (f->op == FILTER_EXISTS)
        buf_append_str(&fake.seen, f->exists ? " true" : " false");
    buf_append_byte(&fake.seen, ')');
}

static inline void print_rank(const struct rank *r, const struct schema *schema)
{
    if (r->kind == RANK_VECTOR) {
        print_vector(r->vector, schema->vector_dim);
    } else {
        print_slice(r->text);
        for (size_t i = 0; i < r->field_count; i++)
            buf_printf(&fake.seen, " %s*%g", schema->attrs[r->fields[i].attr].name,
                       (double)r->fields[i].weight);
        if (r->all_words) buf_append_str(&fake.seen, " and");
    }
    buf_append_str(&fake.seen, "; ");
}

static inline void print_score(const struct score *s)
{
    for (size_t i = 0; i < s->child_count; i++) {
        const struct score *share = &s->children[i];
        if (share->op == SCORE_MINMAX)
            buf_printf(&fake.seen, "+%g*minmax", share->weight);
        else
            buf_printf(&fake.seen, "+%g/(%g+rank)", share->weight, share->k);
    }
    buf_append_str(&fake.seen, "; ");
}

static inline void print_attrs(const char *name, const int *attrs, size_t count,
                               const struct schema *schema)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(&fake.seen, "%s %s; ", name, schema->attrs[attrs[i]].name);
}

static inline void print_survey(const struct query *q, const struct schema *schema)
{
    const struct aggregate *a = q->aggregate;
    if (q->count) buf_append_str(&fake.seen, "count; ");
    if (!a) return;
    buf_append_str(&fake.seen, "aggregate; ");
    print_attrs("sum", a->sums, a->sum_count, schema);
    print_attrs("min", a->mins, a->min_count, schema);
    print_attrs("max", a->maxs, a->max_count, schema);
    if (a->group_by != QUERY_UNGROUPED)
        print_attrs("group by", &a->group_by, 1, schema);
}

static inline void print_query(const struct query *q, const struct schema *schema)
{
    for (size_t i = 0; i < q->rank_count; i++)
        print_rank(&q->ranks[i], schema);
    if (q->score) print_score(q->score);
    if (q->filter) {
        print_filter(q->filter, schema);
        buf_append_str(&fake.seen, "; ");
    }
    if (q->ordered)
        buf_printf(&fake.seen, "by %s %s; ",
                   q->order_attr == FILTER_ATTR_ID ? "id"
                                                   : schema->attrs[q->order_attr].name,
                   q->descending ? "desc" : "asc");
    if (q->after)
        buf_printf(&fake.seen, "after %llu; ", (unsigned long long)q->after->id.u64);
    print_survey(q, schema);
    buf_printf(&fake.seen, "top %u%s%s%s", q->top_k, q->include_vector ? " vector" : "",
               q->include_attributes ? " attributes" : "",
               q->explain ? " explain" : "");
}

/* ---- the registry ---- */

enum err namespace_name_check(struct op *op, struct slice name)
{
    size_t i = 0;
    while (i < name.size && name.data[i] &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-",
                  name.data[i]))
        i++;
    if (name.size > 0 && name.size <= 128 && name.data[0] != '.' && i == name.size)
        return ERR_OK;
    return op_fail(op, ERR_INVALID, "bad name");
}

enum err registry_create(struct op *op, struct registry *r, const char *name,
                         const struct schema *schema, bool *created,
                         struct commit_token *token)
{
    struct json_writer w;
    (void)r;
    buf_printf(&fake.seen, "create %s ", name);
    json_writer_init(&w, &fake.seen);
    v1_schema_write(&w, schema);
    *created = true;
    *token = fake_token;
    return fake_result(op);
}

enum err registry_drop(struct op *op, struct registry *r, const char *name)
{
    (void)r;
    buf_printf(&fake.seen, "drop %s", name);
    return fake_result(op);
}

enum err registry_list(struct op *op, struct registry *r, const char *prefix,
                       const char *after, const char **names, size_t *n)
{
    (void)r;
    buf_printf(&fake.seen, "list prefix=%s after=%s n=%zu", prefix, after, *n);
    if (*n > fake.name_count) *n = fake.name_count;
    for (size_t i = 0; i < *n; i++)
        names[i] = fake.names[i];
    return fake_result(op);
}

uint64_t registry_count(struct registry *r)
{
    (void)r;
    return 3;
}

enum err registry_schema(struct op *op, struct registry *r, const char *name,
                         struct schema **schema)
{
    (void)r;
    (void)name;
    enum err e = fake_result(op);
    if (!e) *schema = schema_ref(fake.schema);
    return e;
}

enum err registry_write(struct op *op, struct registry *r, const char *name,
                        const struct write_request *request,
                        struct write_result *result)
{
    const struct batch *batch = request->batch;
    (void)r;
    buf_printf(&fake.seen, "write %s: ", name);
    for (size_t i = 0; i < batch->doc_count; i++)
        print_doc(&batch->docs[i], request->schema);
    for (size_t i = 0; i < batch->delete_count; i++) {
        buf_append_str(&fake.seen, i ? " -" : "-");
        print_id(&batch->deletes[i]);
    }
    if (request->delete_filter) {
        buf_append_byte(&fake.seen, ' ');
        print_filter(request->delete_filter, request->schema);
    }
    memcpy(fake.digest, request->digest, sizeof fake.digest);
    *result = (struct write_result){.upserted = batch->doc_count,
                                    .deleted = batch->delete_count,
                                    .token = fake_token};
    return fake_result(op);
}

enum err registry_query_begin(struct op *op, struct registry *r, const char *name)
{
    (void)r;
    (void)name;
    return fake.crowded ? op_fail(op, ERR_BUSY, "as many queries as may run") : ERR_OK;
}

void registry_query_end(struct registry *r, const char *name)
{
    (void)r;
    (void)name;
}

enum err registry_snapshot(struct op *op, struct registry *r, const char *name,
                           const struct read_options *options, struct snapshot **out)
{
    (void)r;
    (void)name;
    enum err e = fake_result(op);
    if (e) return e;
    fake.consistency = options->consistency;
    fake.gone_seen = options->gone != NULL;
    if (options->min_commit) fake.min_seen = *options->min_commit;
    struct snapshot *s = calloc(1, sizeof *s + sizeof s->sources[0]);
    assert_non_null(s);
    s->schema = fake.schema;
    s->id_kind = fake.id_kind;
    s->epoch = fake_token.epoch;
    s->slot = fake_token.slot;
    memcpy(s->incarnation, fake_token.incarnation, sizeof s->incarnation);
    s->incarnation[0] ^= fake.reborn;
    s->source_count = 1;
    *out = s;
    return ERR_OK;
}

void snapshot_unref(struct snapshot *s)
{
    free(s);
}

enum err snapshot_find(struct op *op, const struct snapshot *s,
                       const struct doc_id *ids, size_t n, struct location *out)
{
    (void)s;
    assert_int_equal(n, 1);
    *out = (struct location){UINT32_MAX, 0};
    for (size_t i = 0; i < fake.doc_count; i++)
        if (doc_id_compare(&fake.docs[i].id, ids) == 0)
            *out = (struct location){0, (uint32_t)i};
    return fake_result(op);
}

enum err segment_fetch(struct op *op, struct segment *s, const struct schema *schema,
                       const uint32_t *rows, size_t n, struct segment_fetch what,
                       struct doc *out)
{
    (void)s;
    (void)schema;
    (void)n;
    (void)what;
    *out = fake.docs[rows[0]];
    return fake_result(op);
}

enum err registry_info(struct op *op, struct registry *r, const char *name,
                       struct namespace_info *out)
{
    (void)r;
    (void)name;
    enum err e = fake_result(op);
    if (e) return e;
    *out = (struct namespace_info){.schema = schema_ref(fake.schema),
                                   .documents = 5,
                                   .segments = 2,
                                   .segment_bytes = 1000,
                                   .tail_rows = 1,
                                   .tail_bytes = 24,
                                   .wal_first_slot = 8,
                                   .wal_next_slot = 9,
                                   .manifest_version = 4,
                                   .epoch = 7,
                                   .state = "ready"};
    return ERR_OK;
}

enum err registry_maintain(struct op *op, struct registry *r, const char *name,
                           bool force)
{
    (void)r;
    buf_printf(&fake.seen, "maintain %s %s", name, force ? "force" : "");
    return fake_result(op);
}

/* A group without documents, unless the test set some. */
static inline struct aggregate_group *fake_groups(struct op *op)
{
    if (fake.groups) return fake.groups;
    struct aggregate_group *g = op_new(op, struct aggregate_group);
    g->sums = op_new_array(op, struct aggregate_sum, QUERY_AGGREGATES_MAX);
    g->mins = g->maxs = op_new_array(op, struct value, QUERY_AGGREGATES_MAX);
    return g;
}

enum err query_run(struct op *op, struct snapshot *snapshot, const struct query *query,
                   struct query_result *result)
{
    print_query(query, snapshot->schema);
    struct query_hit *hits = op_new_array(op, struct query_hit, fake.doc_count);
    for (size_t i = 0; i < fake.doc_count; i++) {
        hits[i] = (struct query_hit){.score = fake.score, .doc = fake.docs[i]};
        if (!query->include_vector) hits[i].doc.vector = NULL;
    }
    struct query_place last = {.value = VALUE_NULL};
    if (fake.doc_count > 0) {
        const struct doc *d = &fake.docs[fake.doc_count - 1];
        last.id = d->id;
        if (query->ordered && query->order_attr >= 0)
            last.value = d->values[query->order_attr];
    }
    *result = (struct query_result){.hits = hits,
                                    .last = last,
                                    .count = fake.doc_count,
                                    .match_count = 77,
                                    .more = fake.more,
                                    .groups = fake_groups(op),
                                    .group_count = fake.group_count,
                                    .explain = {.plan = "vector",
                                                .sources = 3,
                                                .stored_sources = 2,
                                                .vector_us = 1500}};
    return fake_result(op);
}

/* ---- the http server ---- */

const char *http_header(const struct http_request *request, const char *name)
{
    static char size[32];
    if (strcmp(name, "Content-Type") == 0) return fake.content_type;
    if (strcmp(name, "Idempotency-Key") == 0) return fake.idempotency_key;
    if (strcmp(name, "X-Elacsym-Min-Commit") == 0) return fake.min_commit;
    (void)snprintf(size, sizeof size, "%zu", request->body.size);
    if (strcmp(name, "Content-Length") == 0) return size;
    return NULL;
}

void http_response_header(struct http_response *response, const char *name,
                          const char *format, ...)
{
    va_list args;
    assert_true(response->header_count < COUNT_OF(response->headers));
    response->headers[response->header_count].name = name;
    va_start(args, format);
    (void)vsnprintf(response->headers[response->header_count].value,
                    sizeof response->headers[0].value, format, args);
    va_end(args);
    response->header_count++;
}

/* ---- asking ---- */

static inline const char *answer_header(const char *name)
{
    for (size_t i = 0; i < fake.response.header_count; i++)
        if (strcmp(fake.response.headers[i].name, name) == 0)
            return fake.response.headers[i].value;
    return NULL;
}

static inline bool fake_ready(void *context, const char **why)
{
    (void)context;
    *why = "the store does not answer";
    return !fake.not_ready;
}

static inline void fake_routed(const struct router_request *request)
{
    fake.routed_write = request->write;
    (void)snprintf(fake.routed_name, sizeof fake.routed_name, "%s", request->name);
}

static inline bool fake_elsewhere(void *context, const struct router_request *request)
{
    assert_ptr_equal(context, &fake);
    fake_routed(request);
    return fake.routed_elsewhere;
}

static inline enum err fake_pass(void *context, struct op *op,
                                 const struct router_request *request,
                                 struct http_response *response, bool *answered)
{
    assert_ptr_equal(context, &fake);
    fake_routed(request);
    fake.routed++;
    *answered = fake.routed_body != NULL;
    if (*answered) {
        response->status = 418;
        buf_append_str(&response->body, fake.routed_body);
    }
    op->retry_after_ms = fake.routed_error ? fake.retry_after_ms : 0;
    return fake.routed_error ? op_fail(op, fake.routed_error, "the owner is away")
                             : ERR_OK;
}

static inline void fake_health(void *context, struct http_response *response)
{
    assert_ptr_equal(context, &fake);
    http_response_header(response, "X-For-Nodes", "7");
}

static inline struct api *fake_api(void)
{
    static const struct router router = {.context = &fake,
                                         .elsewhere = fake_elsewhere,
                                         .pass = fake_pass,
                                         .health = fake_health};
    static struct api *api;
    struct api_options options = {.node_id = "node-1",
                                  .role = "indexer",
                                  .body_bytes_max = 64 << 20,
                                  .slow_query_ms = 1000,
                                  .ready = fake_ready,
                                  .version = "1.2.3",
                                  .router = &router};
    if (!api) api = api_new(&options);
    return api;
}

/* One request, as the server would pass it on; returns the status. target: path and
 * query string. */
static inline int ask_bytes(const char *method, const char *target, struct slice body)
{
    struct http_handler handler = api_handler(fake_api());
    struct http_request request = {.method = method};
    struct op op;
    char *path = strdup(target);
    char *query = strchr(path, '?');
    if (query) *query++ = '\0';
    request.path = path;
    request.query_string = query ? query : "";
    uint8_t *padded = malloc(body.size + JSON_PADDING);
    assert_non_null(padded);
    memset(padded, 'x', body.size + JSON_PADDING);
    if (body.size) memcpy(padded, body.data, body.size);
    request.body = slice_of(padded, body.size);

    buf_release(&fake.response.body);
    memset(&fake.response, 0, sizeof fake.response);
    buf_clear(&fake.seen);
    fake.calls = 0;
    op_init(&op, OP_NO_DEADLINE, 256 << 20);
    struct http_admission admission = {.lane = HTTP_LANE_ADMIN};
    bool admitted =
        handler.admit(handler.context, &request, &admission, &fake.response);
    fake.lane = admission.lane;
    fake.body_max = admission.body_max;
    fake.streams = admission.streams;
    if (admitted) handler.handle(handler.context, &op, &request, &fake.response);
    op_release(&op);
    buf_append_byte(&fake.seen, '\0');
    free(fake.text);
    fake.text = malloc(fake.response.body.size + 1);
    assert_non_null(fake.text);
    if (fake.response.body.size)
        memcpy(fake.text, fake.response.body.data, fake.response.body.size);
    fake.text[fake.response.body.size] = '\0';
    free(padded);
    free(path);
    return fake.response.status;
}

static inline int ask(const char *method, const char *target, const char *body)
{
    return ask_bytes(method, target, slice_str(body));
}

#define SEEN ((const char *)fake.seen.data)

/* The answer is exactly this error. */
#define assert_error(words)                                                            \
    do {                                                                               \
        struct buf wanted_ = BUF_INIT;                                                 \
        struct json_writer writer_;                                                    \
        json_writer_init(&writer_, &wanted_);                                          \
        json_begin_object(&writer_);                                                   \
        json_key(&writer_, "error");                                                   \
        json_put_str(&writer_, words);                                                 \
        json_end_object(&writer_);                                                     \
        buf_append_byte(&wanted_, '\0');                                               \
        assert_string_equal(fake.text, (const char *)wanted_.data);                    \
        buf_release(&wanted_);                                                         \
    } while (0)

/* A namespace with vectors of two numbers and an attribute of every type. */
static const char fake_schema_text[] =
    "{\"vector_dim\":2,\"vector_metric\":\"cosine\",\"attributes\":{"
    "\"title\":{\"type\":\"string\",\"full_text\":true},"
    "\"body\":{\"type\":\"string\",\"full_text\":{\"language\":\"german\"}},"
    "\"year\":\"int\",\"size\":\"uint\",\"price\":\"float\",\"sold\":\"bool\","
    "\"at\":\"datetime\",\"key\":\"uuid\",\"tags\":\"array_string\","
    "\"numbers\":\"array_int\",\"name\":{\"type\":\"string\",\"indexed\":true}}}";

static inline struct schema *schema_from(const char *text)
{
    struct op op;
    struct json *json = NULL;
    struct json_value root;
    struct schema *schema = NULL;
    char *padded = calloc(1, strlen(text) + JSON_PADDING);
    assert_non_null(padded);
    memcpy(padded, text, strlen(text));
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(json_open(&op, slice_str(padded), &json, &root), ERR_OK);
    assert_int_equal(v1_schema_parse(&op, &root, &schema), ERR_OK);
    json_close(json);
    op_release(&op);
    free(padded);
    return schema;
}

/* Before each test: the world is well. */
static inline int fake_setup(void **state)
{
    (void)state;
    schema_unref(fake.schema);
    buf_release(&fake.response.body);
    buf_release(&fake.seen);
    free(fake.text);
    memset(&fake, 0, sizeof fake);
    fake.schema = schema_from(fake_schema_text);
    fake.content_type = "application/json";
    fake.id_kind = ID_U64;
    return 0;
}

static inline int fake_teardown(void **state)
{
    (void)state;
    schema_unref(fake.schema);
    buf_release(&fake.response.body);
    buf_release(&fake.seen);
    free(fake.text);
    memset(&fake, 0, sizeof fake);
    api_free(fake_api());
    return 0;
}

#endif
