#include "api/api.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>

#include "api/api_call.h"
#include "api/api_route.h"
#include "api/api_v1_namespace.h"
#include "api/api_v1_query.h"
#include "api/api_v1_query_explain.h"
#include "api/api_v1_recall.h"
#include "api/api_v1_write.h"
#include "api/router.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/metrics_process.h"
#include "base/op.h"
#include "base/task.h"
#include "base/utf8.h"
#include "ns/registry.h"

static enum err health(struct op *op, struct api_call *call);
static enum err ready(struct op *op, struct api_call *call);
static enum err metrics(struct op *op, struct api_call *call);

/* ---- routes ---- */

enum body_rule { BODY_NONE, BODY_SCHEMA, BODY_WRITE, BODY_QUERY };

struct route {
    const char *method;
    const char *pattern; /* the first {} is the namespace, the second a document */
    const char *label;   /* in metrics and logs */
    enum http_lane lane;
    enum body_rule body;
    bool params; /* takes query parameters, and checks them itself */
    api_call_handler *handle;
};

/* What waits for the store never shares a lane with what tells that we are alive. */
static const struct route routes[] = {
    {"GET", "/health", "health", HTTP_LANE_ADMIN, BODY_NONE, false, health},
    {"GET", "/ready", "ready", HTTP_LANE_ADMIN, BODY_NONE, false, ready},
    {"GET", "/metrics", "metrics", HTTP_LANE_ADMIN, BODY_NONE, false, metrics},
    {"GET", "/v1/namespaces", "list", HTTP_LANE_QUERY, BODY_NONE, true, v1_list},
    {"PUT", "/v1/namespaces/{}", "create", HTTP_LANE_WRITE, BODY_SCHEMA, false,
     v1_create},
    {"GET", "/v1/namespaces/{}", "info", HTTP_LANE_QUERY, BODY_NONE, false, v1_info},
    {"DELETE", "/v1/namespaces/{}", "drop", HTTP_LANE_WRITE, BODY_NONE, false, v1_drop},
    {"POST", "/v1/namespaces/{}/upsert", "upsert", HTTP_LANE_WRITE, BODY_WRITE, false,
     v1_upsert},
    {"POST", "/v1/namespaces/{}/delete", "delete", HTTP_LANE_WRITE, BODY_WRITE, false,
     v1_delete},
    {"POST", "/v1/namespaces/{}/query", "query", HTTP_LANE_QUERY, BODY_QUERY, false,
     v1_query},
    {"POST", "/v1/namespaces/{}/recall", "recall", HTTP_LANE_QUERY, BODY_QUERY, false,
     v1_recall},
    {"POST", "/v1/namespaces/{}/compact", "compact", HTTP_LANE_WRITE, BODY_NONE, false,
     v1_compact},
    {"GET", "/v1/namespaces/{}/documents/{}", "document", HTTP_LANE_QUERY, BODY_NONE,
     false, v1_document},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

/* NULL: no such path, or (allow is not empty) not with this method. */
static const struct route *find_route(const struct http_request *request,
                                      struct slice parts[ROUTE_PARTS_MAX],
                                      struct buf *allow)
{
    for (size_t i = 0; i < ROUTES; i++) {
        if (!route_match(routes[i].pattern, request->path, parts)) continue;
        if (strcmp(routes[i].method, request->method) == 0) return &routes[i];
        const char *head = strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "";
        buf_printf(allow, "%s%s%s", allow->size ? ", " : "", routes[i].method, head);
    }
    return NULL;
}

/* ---- the object ---- */

/* Answers are counted by status / 100: 2xx to 5xx. */
enum { CLASSES = 4 };

struct api {
    struct api_options options;
    char *node_id, *role, *version; /* what options points at */
    struct {
        struct metric *seconds;
        struct metric *answers[CLASSES];
    } metrics[ROUTES];
    struct metric *refused;
};

static char *copy_or_null(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

static void make_metrics(struct api *api)
{
    char labels[80];
    for (size_t i = 0; i < ROUTES; i++) {
        (void)snprintf(labels, sizeof labels, "route=\"%s\"", routes[i].label);
        api->metrics[i].seconds =
            metric_histogram("elacsym_request_seconds",
                             "Time from a request's body to its answer.", labels,
                             metric_seconds, metric_seconds_count);
        for (int class = 0; class < CLASSES; class ++) {
            (void)snprintf(labels, sizeof labels, "route=\"%s\",status=\"%dxx\"",
                           routes[i].label, class + 2);
            api->metrics[i].answers[class] =
                metric_counter("elacsym_requests_total", "Requests answered.", labels);
        }
    }
    v1_explain_metrics_init();
    (void)snprintf(labels, sizeof labels, "version=\"%s\"", api->version);
    metric_set(metric_gauge("elacsym_build_info",
                            "1; the version of the program is its label.", labels),
               1);
    api->refused =
        metric_counter("elacsym_requests_refused_total",
                       "Requests refused before they reached a handler.", NULL);
}

struct api *api_new(const struct api_options *options)
{
    struct api *api = mem_new(struct api);
    api->options = *options;
    api->options.node_id = api->node_id = copy_or_null(options->node_id);
    api->options.role = api->role = copy_or_null(options->role);
    api->options.version = api->version = mem_strdup(options->version);
    make_metrics(api);
    return api;
}

void api_free(struct api *api)
{
    if (!api) return;
    mem_free(api->node_id);
    mem_free(api->role);
    mem_free(api->version);
    mem_free(api);
}

/* ---- error answers ---- */

static int error_status(enum err e)
{
    switch (e) {
    case ERR_OK: return 200;
    case ERR_INVALID: return 400;
    case ERR_DENIED: return 403;
    case ERR_NOT_FOUND: return 404;
    case ERR_CONFLICT: return 409;
    case ERR_LIMIT: return 413;
    case ERR_REUSED: return 422;
    case ERR_BUSY: return 429;
    case ERR_CANCELED: return 499;
    case ERR_CORRUPT: return 500;
    case ERR_IO:
    case ERR_UNKNOWN:
    case ERR_FENCED: return 503;
    case ERR_TIMEOUT: return 504;
    case ERR_FULL: return 507;
    }
    return 500;
}

/* Error words may hold cut or foreign bytes; an answer is UTF-8 whatever happens. */
static void put_repaired(struct json_writer *w, const char *text)
{
    struct buf whole = BUF_INIT;
    struct slice rest = slice_str(text);
    while (rest.size) {
        size_t step = utf8_step(rest.data, rest.size);
        if (step)
            buf_append(&whole, rest.data, step);
        else
            buf_append_str(&whole, "\xef\xbf\xbd");
        if (step == 0) step = 1;
        rest = slice_of(rest.data + step, rest.size - step);
    }
    json_put_string(w, buf_slice(&whole));
    buf_release(&whole);
}

/* Starts {"error": words; the caller may add fields and must end the object. */
static void begin_error(struct json_writer *w, struct http_response *response,
                        int status, const char *words)
{
    buf_clear(&response->body);
    response->status = status;
    response->content_type = "application/json";
    json_writer_init(w, &response->body);
    json_begin_object(w);
    json_key(w, "error");
    put_repaired(w, words);
}

static void answer_error(struct http_response *response, int status, const char *words)
{
    struct json_writer w;
    begin_error(&w, response, status, words);
    json_end_object(&w);
}

static void retry_after(struct http_response *response, int64_t ms)
{
    if (ms > 0)
        http_response_header(response, "Retry-After", "%lld",
                             (long long)(ms + 999) / 1000);
}

/* What the client can act on, beside the words. */
static void put_outcome(struct json_writer *w, enum err e, const struct api_call *call)
{
    if (e == ERR_FENCED) {
        json_key(w, "code");
        json_put_str(w, "ownership_conflict");
    }
    if (e != ERR_UNKNOWN) return;
    json_key(w, "outcome");
    json_put_str(w, "unknown");
    const char *key = http_header(call->request, "Idempotency-Key");
    if (!key) return;
    json_key(w, "idempotency_key");
    put_repaired(w, key);
}

static void log_failure(struct op *op, enum err e, const char *label)
{
    if (e == ERR_CORRUPT)
        log_error(op, "request failed", "route=%s kind=%s error=%s", label, err_name(e),
                  op->error);
    else if (error_status(e) >= 500)
        log_warn(op, "request failed", "route=%s kind=%s error=%s", label, err_name(e),
                 op->error);
}

static void answer_failure(struct op *op, enum err e, const struct api_call *call)
{
    struct json_writer w;
    int64_t wait_ms = op->retry_after_ms;
    begin_error(&w, call->response, error_status(e),
                op->error[0] ? op->error : err_name(e));
    put_outcome(&w, e, call);
    json_end_object(&w);
    if (e == ERR_BUSY && wait_ms <= 0) wait_ms = 1000;
    retry_after(call->response, wait_ms);
}

/* ---- what every handler needs ---- */

enum err api_call_json(struct op *op, const struct api_call *call, struct json **json,
                       struct json_value *root)
{
    if (call->request->body.size == 0)
        return op_fail(op, ERR_INVALID, "this request needs a JSON object as its body");
    return json_open(op, call->request->body, json, root);
}

/* ERR_INVALID unless the body is empty or an empty object. */
static enum err expect_no_body(struct op *op, const struct api_call *call)
{
    struct json *json = NULL;
    struct json_value root, member;
    struct json_walk walk;
    int name = 0;

    if (call->request->body.size == 0) return ERR_OK;
    enum err e = api_call_json(op, call, &json, &root);
    if (!e) e = json_object(op, &root, &walk);
    if (!e) e = json_field(op, &walk, NULL, 0, &name, &member);
    if (!e) e = json_end(op, json);
    json_close(json);
    return e ? op_fail(op, e, "this request takes no body") : ERR_OK;
}

/* ---- the node itself ---- */

static void put_str_or_null(struct json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    if (value)
        json_put_str(w, value);
    else
        json_put_null(w);
}

static enum err health(struct op *op, struct api_call *call)
{
    struct json_writer w;
    (void)op;
    json_writer_init(&w, &call->response->body);
    json_begin_object(&w);
    json_key(&w, "status");
    json_put_str(&w, "healthy");
    json_key(&w, "version");
    json_put_str(&w, call->options->version);
    json_key(&w, "namespaces");
    json_put_u64(&w, registry_count(call->registry));
    put_str_or_null(&w, "node_id", call->options->node_id);
    put_str_or_null(&w, "role", call->options->role);
    json_end_object(&w);
    const struct router *router = call->options->router;
    if (router) router->health(router->context, call->response);
    return ERR_OK;
}

/* Not being ready is a state and no failure, so it is not logged at every probe. */
static enum err ready(struct op *op, struct api_call *call)
{
    const struct api_options *options = call->options;
    const char *why = "starting";
    (void)op;
    if (options->ready && !options->ready(options->ready_context, &why)) {
        char words[256];
        (void)snprintf(words, sizeof words, "not ready: %s", why);
        answer_error(call->response, 503, words);
        retry_after(call->response, 1000);
    } else {
        buf_append_str(&call->response->body, "{\"status\":\"ready\"}");
    }
    return ERR_OK;
}

static enum err metrics(struct op *op, struct api_call *call)
{
    (void)op;
    call->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(&call->response->body);
    metrics_write_process(&call->response->body);
    return ERR_OK;
}

/* ---- the http server's three questions ---- */

static bool says_length(const struct http_request *head)
{
    return http_header(head, "Content-Length") ||
           http_header(head, "Transfer-Encoding");
}

static bool has_body(const struct http_request *head)
{
    const char *size = http_header(head, "Content-Length");
    return http_header(head, "Transfer-Encoding") || (size && strcmp(size, "0") != 0);
}

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    if (!content_type || strncasecmp(content_type, json, sizeof json - 1) != 0)
        return false;
    char next = content_type[sizeof json - 1];
    return next == '\0' || next == ';' || next == ' ';
}

static size_t body_limit(const struct api *api, enum body_rule rule)
{
    switch (rule) {
    case BODY_NONE: return BODY_NONE_MAX;
    case BODY_SCHEMA: return BODY_SCHEMA_MAX;
    case BODY_QUERY: return BODY_QUERY_MAX;
    case BODY_WRITE: break;
    }
    return api->options.body_bytes_max;
}

static void refuse_path(struct http_response *response, const struct buf *allow)
{
    if (allow->size == 0) {
        answer_error(response, 404, "there is nothing at this path");
        return;
    }
    char words[128];
    (void)snprintf(words, sizeof words, "this path takes %.*s", (int)allow->size,
                   (const char *)allow->data);
    answer_error(response, 405, words);
    http_response_header(response, "Allow", "%.*s", (int)allow->size,
                         (const char *)allow->data);
}

/* Will this request wait for another node? By its name alone; what is wrong with that
 * is for prepare to say. */
static bool waits_elsewhere(const struct api *api, const struct route *route,
                            const struct http_request *head, struct slice part)
{
    const struct router *router = api->options.router;
    struct slice name;
    struct op op;
    if (!router || !part.data) return false;
    op_init(&op, OP_NO_DEADLINE, 0);
    bool there = false;
    if (!route_decode(&op, part, &name) && !namespace_name_check(&op, name)) {
        struct router_request request = {.name = (const char *)name.data,
                                         .write = route->lane == HTTP_LANE_WRITE,
                                         .http = head};
        there = router->elsewhere(router->context, &request);
    }
    op_release(&op);
    return there;
}

static bool admit(void *context, const struct http_request *head,
                  struct http_admission *admission, struct http_response *response)
{
    struct api *api = context;
    struct slice parts[ROUTE_PARTS_MAX];
    struct buf allow = BUF_INIT;

    const struct route *route = find_route(head, parts, &allow);
    bool typed = !has_body(head) || is_json(http_header(head, "Content-Type"));
    bool framed = !route || route->body == BODY_NONE || says_length(head);
    if (!route)
        refuse_path(response, &allow);
    else if (!framed)
        answer_error(response, 411,
                     "this request needs a JSON object as its body, with a "
                     "Content-Length or in chunks");
    else if (!typed)
        answer_error(response, 415, "Content-Type must be application/json");
    buf_release(&allow);
    if (!route || !framed || !typed) {
        metric_add(api->refused, 1);
        return false;
    }
    bool elsewhere = waits_elsewhere(api, route, head, parts[0]);
    admission->lane = elsewhere ? HTTP_LANE_FORWARD : route->lane;
    admission->body_max = body_limit(api, route->body);
    /* A read is held: should its owner not answer it, this node does. */
    admission->streams = elsewhere && route->lane == HTTP_LANE_WRITE;
    return true;
}

/* Everything about a request that does not depend on what its handler does. */
static enum err prepare(struct op *op, const struct route *route,
                        const struct slice parts[ROUTE_PARTS_MAX],
                        struct api_call *call)
{
    struct slice name = SLICE_EMPTY;
    enum err e = ERR_OK;
    if (!route->params)
        e = route_params(op, call->request->query_string, NULL, 0, NULL);
    if (!e && route->body == BODY_NONE) e = expect_no_body(op, call);
    if (!e && parts[0].data) {
        e = route_decode(op, parts[0], &name);
        if (e) return op_fail(op, e, "namespace name");
        e = namespace_name_check(op, name);
        call->name = (const char *)name.data;
    }
    if (!e && parts[1].data) {
        e = route_decode(op, parts[1], &call->document);
        if (e) return op_fail(op, e, "document id");
    }
    return e;
}

/* *answered: another node did. */
static enum err ask_router(struct op *op, const struct api *api,
                           const struct route *route, struct api_call *call,
                           bool *answered)
{
    const struct router *router = api->options.router;
    struct router_request request = {.name = call->name,
                                     .write = route->lane == HTTP_LANE_WRITE,
                                     .http = call->request};
    *answered = false;
    if (!router || !call->name) return ERR_OK;
    return router->pass(router->context, op, &request, call->response, answered);
}

static void count_answer(const struct api *api, const struct route *route, int status,
                         int64_t took_us)
{
    size_t index = (size_t)(route - routes);
    int class = status / 100 - 2;
    metric_observe(api->metrics[index].seconds, (double)took_us / 1e6);
    if (class >= 0 && class < CLASSES)
        metric_add(api->metrics[index].answers[class], 1);
}

static void handle(void *context, struct op *op, const struct http_request *request,
                   struct http_response *response)
{
    struct api *api = context;
    struct slice parts[ROUTE_PARTS_MAX] = {SLICE_EMPTY, SLICE_EMPTY};
    struct buf allow = BUF_INIT;
    struct api_call call = {.options = &api->options,
                            .registry = api->options.registry,
                            .request = request,
                            .response = response};

    int64_t start_us = clock_us();
    const struct route *route = find_route(request, parts, &allow);
    if (!route) {
        refuse_path(response, &allow);
        buf_release(&allow);
        return;
    }
    buf_release(&allow);
    response->status = 200;
    response->content_type = "application/json";
    bool answered = false;
    enum err e = prepare(op, route, parts, &call);
    if (!e) e = ask_router(op, api, route, &call, &answered);
    assert(e || answered || !request->streams);
    if (!e && !answered) e = route->handle(op, &call);
    if (e) {
        log_failure(op, e, route->label);
        answer_failure(op, e, &call);
    }
    count_answer(api, route, response->status, clock_us() - start_us);
}

static void refuse(void *context, int status, const char *why,
                   struct http_response *response)
{
    struct api *api = context;
    metric_add(api->refused, 1);
    answer_error(response, status, why);
}

struct http_handler api_handler(struct api *api)
{
    return (struct http_handler){.context = api,
                                 .admit = admit,
                                 .handle = handle,
                                 .refuse = refuse};
}
