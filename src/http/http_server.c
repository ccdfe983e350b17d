/*
 * libmicrohttpd parses and writes on LOOPS threads of its own; http_watch accepts and
 * keeps time; a pool per lane runs the handlers.
 *
 * A request's way: on_target (its line) → on_head (checked, admitted) → on_body, bytes
 * into memory → dispatch: the connection is suspended, a worker gets the request →
 * finish: the connection is resumed → send_answer on its socket thread → on_completed.
 * Between dispatch and finish the request is the worker's alone; before and after, the
 * socket thread's. The hand-over goes through the pool's lock and the library's.
 *
 * An answer that is queued while body bytes are missing makes the library close the
 * connection. So a refused small body is read and dropped first (the connection lives
 * on), and a refused large one is answered at once, with a lingering close. In the
 * middle of a body the library takes no answer at all: those go past it (watch_answer).
 *
 * What the library refuses itself (a header line without a colon, a malformed chunk, a
 * head larger than its memory, a malformed Content-Length) it words itself, in HTML.
 */
#include "http/http_server.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/pool.h"
#include "base/task.h"
#include "http/http_gzip.h"
#include "http/http_head.h"
#include "http/http_watch.h"

enum {
    LOOPS = 2,
    /* Per connection that ever sent a request, since the library zeroes all of it each
     * time. A head of 16 KiB, what its fields need and the answer's head fit. */
    CONNECTION_MEMORY = 40 << 10,
    /* Of a query string. The library stores each part, and hangs when it cannot. */
    QUERY_PARTS_MAX = 64,
    BACKLOG = 1024,
    DISCARD_MAX = 64 << 10, /* a refused body up to this is read and dropped */
    BODY_GROWTH_MIN = 16 << 10,
    GZIP_ANSWER_MIN = 1 << 10,
    STATUS_MAX = 600,
    STATUS_BROKEN_OFF = 499, /* the client went, or sent what the library refused */
    DEFAULT_WINDOW_MS = 10000,
    DEFAULT_HEAD_TIMEOUT_MS = 10000,
    DEFAULT_RATE_MIN = 10 << 10
};

/* What a worker could not be found for has no lane yet. */
enum { LANE_NONE = HTTP_LANES, LANE_NAMES };
static const char *const lane_names[LANE_NAMES] = {[HTTP_LANE_ADMIN] = "admin",
                                                   [HTTP_LANE_WRITE] = "write",
                                                   [HTTP_LANE_QUERY] = "query",
                                                   [HTTP_LANE_FORWARD] = "forward",
                                                   [LANE_NONE] = "none"};
static const char *const pool_names[HTTP_LANES] = {[HTTP_LANE_ADMIN] = "http-admin",
                                                   [HTTP_LANE_WRITE] = "http-write",
                                                   [HTTP_LANE_QUERY] = "http-query",
                                                   [HTTP_LANE_FORWARD] =
                                                       "http-forward"};

enum stage {
    STAGE_HEAD,     /* the request line is there */
    STAGE_BODY,     /* admitted, collecting the body */
    STAGE_REFUSED,  /* response holds the refusal, the body is dropped */
    STAGE_WORKING,  /* a worker has it */
    STAGE_ANSWERED, /* response waits to be sent, or is being sent */
};

/* Only the connection's socket thread looks at it. */
struct connection {
    struct watched *watched;
    struct request *request; /* from on_target to end_request, or NULL */
};

struct request {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct watched *watched;
    _Atomic enum stage stage;
    int64_t start_us; /* the head was whole; 0: it never was */
    char *target;     /* as sent, cut in two at '?' */
    size_t target_size;
    struct http_request head;
    struct http_framing framing;
    int lane; /* enum http_lane or LANE_NONE */
    size_t body_max;
    struct buf body;
    size_t reserved; /* of the server's body memory */
    size_t answer_size;
    struct http_response response;
    struct op op;
    char id[HTTP_REQUEST_ID_MAX + 1];
};

struct http_server {
    struct http_server_options options;
    struct watch *watch;
    struct MHD_Daemon *loops[LOOPS];
    struct pool *lanes[HTTP_LANES];
    uint16_t port;
    bool strict_layout; /* the library is the one whose traces we can read */
    atomic_uint next_loop;
    atomic_size_t in_flight;
    atomic_uint_fast64_t body_memory;
    struct mutex lock; /* guards draining, working */
    struct cond idle;  /* working became 0 */
    size_t working;    /* requests that a worker has, or will get */
    bool draining;
    struct {
        _Atomic(struct metric *) requests[LANE_NAMES][STATUS_MAX];
        struct metric *seconds[LANE_NAMES];
        struct metric *in_flight, *connections, *bytes_in, *bytes_out, *canceled;
    } metrics;
};

/* ---- memory that all bodies share ---- */

static bool reserve(void *context, size_t bytes)
{
    struct request *r = context;
    struct http_server *s = r->server;
    uint_fast64_t used = atomic_load(&s->body_memory);
    do {
        if (used + bytes > s->options.body_memory_max) return false;
    } while (!atomic_compare_exchange_weak(&s->body_memory, &used, used + bytes));
    r->reserved += bytes;
    return true;
}

static void unreserve(struct request *r, size_t bytes)
{
    atomic_fetch_sub(&r->server->body_memory, bytes);
    r->reserved -= bytes;
}

/* An answer that is there is sent: it may pass the ceiling, but then holds up others.
 */
static void reserve_anyway(struct request *r, size_t bytes)
{
    atomic_fetch_add(&r->server->body_memory, bytes);
    r->reserved += bytes;
}

static void release_body(struct request *r)
{
    buf_release(&r->body);
    unreserve(r, r->reserved);
}

/* ---- what the handlers see ---- */

const char *http_header(const struct http_request *request, const char *name)
{
    const struct request *r = request->connection;
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

void http_response_header(struct http_response *response, const char *name,
                          const char *format, ...)
{
    size_t room = sizeof response->headers / sizeof response->headers[0];
    assert(response->header_count < room);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(response->headers[response->header_count].value,
                    sizeof response->headers[0].value, format, args);
    va_end(args);
    response->headers[response->header_count++].name = name;
}

static struct http_response empty_response(void)
{
    return (struct http_response){.status = 200, .content_type = "application/json"};
}

static void word_refusal(struct http_server *s, int status, const char *why,
                         struct http_response *response)
{
    const struct http_handler *h = &s->options.handler;
    buf_release(&response->body);
    *response = empty_response();
    h->refuse(h->context, status, why, response);
    response->status = status;
    if (status == 429 || status == 503)
        http_response_header(response, "Retry-After", "1");
}

static void refuse(struct request *r, int status, const char *why)
{
    word_refusal(r->server, status, why, &r->response);
}

static void make_id(char id[HTTP_REQUEST_ID_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[16];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = digits[bytes[i] >> 4];
        id[2 * i + 1] = digits[bytes[i] & 15];
    }
    id[2 * sizeof bytes] = '\0';
}

/* ---- counting ---- */

static void count_request(struct http_server *s, int lane, int status)
{
    assert(status >= 100 && status < STATUS_MAX);
    struct metric *m = atomic_load(&s->metrics.requests[lane][status]);
    if (!m) {
        char labels[64];
        (void)snprintf(labels, sizeof labels, "lane=\"%s\",status=\"%d\"",
                       lane_names[lane], status);
        m = metric_counter("elacsym_http_requests_total", "Requests answered.", labels);
        atomic_store(&s->metrics.requests[lane][status], m);
    }
    metric_add(m, 1);
}

static void make_metrics(struct http_server *s)
{
    for (int lane = 0; lane < LANE_NAMES; lane++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "lane=\"%s\"", lane_names[lane]);
        s->metrics.seconds[lane] =
            metric_histogram("elacsym_http_request_seconds",
                             "From a request's whole head to its last answered byte.",
                             labels, metric_seconds, metric_seconds_count);
    }
    s->metrics.in_flight =
        metric_gauge("elacsym_http_in_flight", "Requests not yet answered.", NULL);
    s->metrics.connections =
        metric_gauge("elacsym_http_connections", "Open connections.", NULL);
    s->metrics.bytes_in = metric_counter("elacsym_http_received_bytes_total",
                                         "Bytes of request bodies, as sent.", NULL);
    s->metrics.bytes_out = metric_counter("elacsym_http_sent_bytes_total",
                                          "Bytes of answer bodies, as sent.", NULL);
    s->metrics.canceled =
        metric_counter("elacsym_http_canceled_total",
                       "Requests whose client went away while a worker had them.",
                       NULL);
}

static void head_is_whole(struct request *r)
{
    r->start_us = clock_us();
    atomic_fetch_add(&r->server->in_flight, 1);
    metric_change(r->server->metrics.in_flight, 1);
}

/* told: it was answered past the library, and that was counted. */
static void count_end(struct request *r, bool told)
{
    struct http_server *s = r->server;
    if (!r->start_us) return;
    double seconds = (double)(clock_us() - r->start_us) / 1e6;
    int status = r->response.status ? r->response.status : STATUS_BROKEN_OFF;
    metric_change(s->metrics.in_flight, -1);
    if (!told) count_request(s, r->lane, status);
    metric_observe(s->metrics.seconds[r->lane], seconds);
    metric_add(s->metrics.bytes_out, r->answer_size);
    log_debug(NULL, "request",
              "method=%s path=%s status=%d ms=%.3f bytes=%zu request_id=%s",
              r->head.method, r->head.path, status, seconds * 1e3, r->answer_size,
              r->id);
    atomic_fetch_sub(&s->in_flight, 1);
}

/* ---- answers ---- */

static bool body_allowed(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void compress_answer(struct request *r)
{
    struct http_response *a = &r->response;
    if (a->body.size <= GZIP_ANSWER_MIN || !body_allowed(a->status)) return;
    http_response_header(a, "Vary", "Accept-Encoding");
    if (!r->framing.gzip_answer) return;

    struct buf packed = BUF_INIT;
    http_gzip(buf_slice(&a->body), &packed);
    buf_release(&a->body);
    a->body = packed;
    http_response_header(a, "Content-Encoding", "gzip");
}

static bool is_draining(struct http_server *s)
{
    mutex_lock(&s->lock);
    bool draining = s->draining;
    mutex_unlock(&s->lock);
    return draining;
}

/* The body's memory goes to the library, which frees it when it was sent. */
static struct MHD_Response *library_response(struct request *r)
{
    struct http_response *a = &r->response;
    struct MHD_Response *m;
    r->answer_size = a->body.size;
    if (a->body.size)
        m = MHD_create_response_from_buffer_with_free_callback(a->body.size,
                                                               a->body.data, &mem_free);
    else
        m = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    assert(m);
    if (!a->body.size) buf_release(&a->body);
    a->body = BUF_INIT;

    if (body_allowed(a->status) && r->answer_size)
        (void)MHD_add_response_header(m, "Content-Type", a->content_type);
    (void)MHD_add_response_header(m, "X-Request-Id", r->id);
    for (size_t i = 0; i < a->header_count; i++)
        (void)MHD_add_response_header(m, a->headers[i].name, a->headers[i].value);
    if (is_draining(r->server)) (void)MHD_add_response_header(m, "Connection", "close");
    return m;
}

static enum MHD_Result send_answer(struct request *r)
{
    watch_answer_begins(r->watched);
    atomic_store(&r->stage, STAGE_ANSWERED);
    struct MHD_Response *m = library_response(r);
    enum MHD_Result queued =
        MHD_queue_response(r->connection, (unsigned)r->response.status, m);
    MHD_destroy_response(m);
    return queued;
}

static void write_answer(const struct http_response *a, const char *id, struct buf *out)
{
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Connection: close\r\nX-Request-Id: %s\r\n",
               a->status, MHD_get_reason_phrase_for((unsigned)a->status),
               a->content_type, a->body.size, id);
    for (size_t i = 0; i < a->header_count; i++)
        buf_printf(out, "%s: %s\r\n", a->headers[i].name, a->headers[i].value);
    buf_append_str(out, "\r\n");
    buf_append_slice(out, buf_slice(&a->body));
}

/* In the middle of a head or a body: the library would take no answer now. */
static void refuse_past_library(struct request *r, int status, const char *why)
{
    struct buf answer = BUF_INIT;
    refuse(r, status, why);
    count_request(r->server, r->lane, status);
    write_answer(&r->response, r->id, &answer);
    watch_answer(r->watched, buf_slice(&answer));
    buf_release(&answer);
}

/* For http_watch: a head or a body came too slowly. */
static void refuse_slow(void *context, int status, const char *why, struct buf *answer)
{
    struct http_server *s = context;
    struct http_response response = empty_response();
    char id[HTTP_REQUEST_ID_MAX + 1];
    make_id(id);
    word_refusal(s, status, why, &response);
    write_answer(&response, id, answer);
    buf_release(&response.body);
    count_request(s, LANE_NONE, status);
}

/* ---- work ---- */

static bool unpack_body(struct request *r)
{
    struct buf plain = BUF_INIT;
    size_t packed = r->reserved;
    if (!r->framing.gzip_body) return true;
    enum err e =
        http_gunzip(&r->op, buf_slice(&r->body), r->body_max, reserve, r, &plain);
    buf_release(&r->body);
    unreserve(r, packed);
    r->body = plain;
    if (!e) return true;
    refuse(r, e == ERR_LIMIT ? 413 : e == ERR_BUSY ? 429 : 400, r->op.error);
    return false;
}

/* Readers of JSON may look a little past the end. */
static void pad_body(struct request *r)
{
    static const uint8_t nothing[JSON_PADDING];
    size_t size = r->body.size;
    r->head.body = slice_of(nothing, 0);
    if (size == 0) return;
    if (r->body.capacity - size < JSON_PADDING) {
        size_t capacity = size + JSON_PADDING;
        reserve_anyway(r, capacity - r->body.capacity);
        r->body.data = mem_realloc(r->body.data, capacity);
        r->body.capacity = capacity;
    }
    memset(r->body.data + size, 0, JSON_PADDING);
    r->head.body = buf_slice(&r->body);
}

static void handle(struct request *r)
{
    const struct http_handler *h = &r->server->options.handler;
    enum err e = op_check(&r->op);
    if (e) {
        refuse(r, e == ERR_TIMEOUT ? 504 : STATUS_BROKEN_OFF, r->op.error);
        return;
    }
    if (!unpack_body(r)) return;
    pad_body(r);
    r->response = empty_response();
    h->handle(h->context, &r->op, &r->head, &r->response);
}

/*
 * Gives the request back to its socket thread, which may have sent and freed it by the
 * time MHD_resume_connection returns; only the server is touched after that.
 */
static void finish(struct request *r)
{
    struct http_server *s = r->server;
    struct MHD_Connection *connection = r->connection;
    watch_answer_begins(r->watched);
    if (atomic_load(&r->op.canceled)) metric_add(s->metrics.canceled, 1);
    op_release(&r->op);
    release_body(r);
    reserve_anyway(r, r->response.body.capacity);
    atomic_store(&r->stage, STAGE_ANSWERED);
    MHD_resume_connection(connection);

    mutex_lock(&s->lock);
    s->working--;
    if (s->working == 0) cond_broadcast(&s->idle);
    mutex_unlock(&s->lock);
}

static void work(void *arg)
{
    struct request *r = arg;
    handle(r);
    compress_answer(r);
    finish(r);
}

static bool begin_work(struct http_server *s)
{
    mutex_lock(&s->lock);
    bool open = !s->draining;
    if (open) s->working++;
    mutex_unlock(&s->lock);
    return open;
}

/* The whole request is there. The connection is suspended first, since the worker may
 * be done before pool_submit returns. */
static enum MHD_Result dispatch(struct request *r)
{
    struct http_server *s = r->server;
    int64_t now_ms = clock_ms();
    metric_add(s->metrics.bytes_in, r->body.size);
    if (!begin_work(s)) {
        refuse(r, 503, "the server is shutting down");
        return send_answer(r);
    }
    op_init(&r->op, now_ms + s->options.request_timeout_ms, s->options.op_memory_max);
    static_assert(sizeof r->op.request_id == sizeof r->id, "an id fits into an op");
    memcpy(r->op.request_id, r->id, sizeof r->id);
    atomic_store(&r->stage, STAGE_WORKING);
    watch_work_begins(r->watched, &r->op);
    MHD_suspend_connection(r->connection);
    if (pool_submit(s->lanes[r->lane], work, r)) return MHD_YES;
    refuse(r, 429, "too many requests are waiting, try again later");
    finish(r);
    return MHD_YES;
}

/* ---- the head ---- */

static enum MHD_Result add_field(void *context, enum MHD_ValueKind kind,
                                 const char *name, size_t name_size, const char *value,
                                 size_t value_size)
{
    struct http_head *head = context;
    (void)kind;
    if (head->field_count < HTTP_FIELDS_MAX)
        head->fields[head->field_count] =
            (struct http_field){name, name_size, value ? value : "",
                                value ? value_size : 0};
    head->field_count++;
    return MHD_YES;
}

static int check_head(struct request *r, const char *url, const char *method,
                      const char *version, const char **why)
{
    struct http_head head = {.method = method,
                             .target = url,
                             .target_size = r->target_size,
                             .version = version};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    head.size = info ? info->header_size : 0;
    (void)MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, add_field, &head);

    bool layout = !r->server->strict_layout || head.field_count > HTTP_FIELDS_MAX ||
                  http_head_layout_strict(&head);
    /* From here on the target is our copy: the library has unpicked its own. */
    head.target = r->target;
    int status = http_head_check(&head, &r->framing, why);
    if (status || layout) return status;
    *why = "the head has a bare LF, a folded line, a NUL or spaces too many";
    return 400;
}

static void take_id(struct request *r)
{
    const char *id = http_header(&r->head, "X-Request-Id");
    if (id && http_request_id_sane(id))
        memcpy(r->id, id, strlen(id) + 1);
    else
        make_id(r->id);
}

static void cut_target(struct request *r, const char *method)
{
    char *query = strchr(r->target, '?');
    if (query) *query++ = '\0';
    r->head.method = strcmp(method, "HEAD") == 0 ? "GET" : method;
    r->head.path = r->target;
    r->head.query_string = query ? query : "";
}

/* False: r->response holds the refusal. */
static bool admit(struct request *r)
{
    struct http_server *s = r->server;
    const struct http_handler *h = &s->options.handler;
    enum http_lane lane = HTTP_LANE_ADMIN;
    if (is_draining(s)) {
        refuse(r, 503, "the server is shutting down");
        return false;
    }
    r->response = empty_response();
    bool admitted = h->admit(h->context, &r->head, &lane, &r->body_max, &r->response);
    r->lane = (int)lane;
    if (!admitted) return false;
    r->response.status = 0;
    if (r->framing.body_size != HTTP_BODY_UNKNOWN &&
        r->framing.body_size > r->body_max) {
        char why[96];
        (void)snprintf(why, sizeof why,
                       "the body has %llu bytes, at most %zu are taken",
                       (unsigned long long)r->framing.body_size, r->body_max);
        refuse(r, 413, why);
        return false;
    }
    return true;
}

/* The refusal is sent now, ahead of the body; the connection cannot live on. */
static enum MHD_Result refuse_at_once(struct request *r)
{
    watch_linger(r->watched);
    return send_answer(r);
}

static enum MHD_Result on_head(struct request *r, const char *url, const char *method,
                               const char *version)
{
    const char *why = NULL;
    if (!watch_body_begins(r->watched)) return MHD_NO;
    head_is_whole(r);
    int status = check_head(r, url, method, version, &why);
    cut_target(r, method);
    take_id(r);
    if (status) {
        refuse(r, status, why);
        return refuse_at_once(r);
    }
    if (admit(r)) {
        atomic_store(&r->stage, STAGE_BODY);
        return MHD_YES;
    }
    if (r->framing.body_size > DISCARD_MAX || r->framing.expects_continue)
        return refuse_at_once(r);
    atomic_store(&r->stage, STAGE_REFUSED);
    return MHD_YES;
}

/* ---- the body ---- */

/* Room for size more bytes. Grows by doubling, so that a client that promises much and
 * sends little holds little. */
static bool grow_body(struct request *r, size_t size)
{
    struct buf *b = &r->body;
    size_t needed = b->size + size;
    if (needed <= b->capacity) return true;
    size_t capacity = b->capacity ? b->capacity * 2 : BODY_GROWTH_MIN;
    size_t most =
        r->framing.body_size < r->body_max ? (size_t)r->framing.body_size : r->body_max;
    if (capacity > most) capacity = most;
    if (capacity < needed) capacity = needed;
    capacity += JSON_PADDING;
    if (!reserve(r, capacity - b->capacity)) return false;
    b->data = mem_realloc(b->data, capacity);
    b->capacity = capacity;
    return true;
}

static enum MHD_Result on_body(struct request *r, const char *data, size_t size)
{
    watch_body_bytes(r->watched, size);
    if (atomic_load(&r->stage) == STAGE_REFUSED) return MHD_YES;
    if (size > r->body_max - r->body.size) {
        refuse_past_library(r, 413, "the body is larger than what is taken here");
        return MHD_NO;
    }
    if (!grow_body(r, size)) {
        refuse_past_library(r, 429, "too many bodies are in memory, try again later");
        return MHD_NO;
    }
    buf_append(&r->body, data, size);
    return MHD_YES;
}

/* ---- what the library calls ---- */

static size_t query_parts(const char *target)
{
    size_t parts = 1;
    for (; *target; target++)
        parts += *target == '&';
    return parts;
}

static void end_request(struct request *r)
{
    count_end(r, watch_request_ends(r->watched));
    release_body(r);
    buf_release(&r->response.body);
    mem_free(r->target);
    mem_free(r);
}

static void *on_target(void *context, const char *target,
                       struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *c = info->socket_context;
    struct request *r = mem_new(struct request);
    if (c->request) end_request(c->request);
    c->request = r;
    r->server = context;
    r->connection = connection;
    r->watched = c->watched;
    atomic_init(&r->stage, STAGE_HEAD);
    r->lane = LANE_NONE;
    r->target = mem_strdup(target ? target : "");
    r->target_size = strlen(r->target);
    r->head.connection = r;
    watch_head_begins(r->watched);
    if (query_parts(r->target) > QUERY_PARTS_MAX) {
        make_id(r->id);
        refuse_past_library(r, 414, "the query string has more than 64 parts");
    }
    return r;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *connection,
                                 const char *url, const char *method,
                                 const char *version, const char *data, size_t *size,
                                 void **request)
{
    struct request *r = *request;
    (void)context;
    (void)connection;
    if (atomic_load(&r->stage) == STAGE_HEAD) return on_head(r, url, method, version);
    if (*size) {
        enum MHD_Result result = on_body(r, data, *size);
        *size = 0;
        return result;
    }
    switch (atomic_load(&r->stage)) {
    case STAGE_BODY: return dispatch(r);
    case STAGE_REFUSED:
    case STAGE_ANSWERED: return send_answer(r);
    case STAGE_HEAD:
    case STAGE_WORKING: break;
    }
    return MHD_NO;
}

static void on_completed(void *context, struct MHD_Connection *connection,
                         void **request, enum MHD_RequestTerminationCode why)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *c = info->socket_context;
    (void)context;
    (void)why;
    if (!*request) return;
    assert(c->request == *request);
    end_request(c->request);
    c->request = NULL;
    *request = NULL;
}

static void connection_begins(struct http_server *s, struct MHD_Connection *connection,
                              struct connection **c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *c = mem_new(struct connection);
    (*c)->watched = watch_add(s->watch, info->connect_fd);
    metric_change(s->metrics.connections, 1);
}

/* After some of its own refusals the library forgets to say that a request is over. */
static void connection_ends(struct http_server *s, struct connection *c)
{
    if (c->request) end_request(c->request);
    watch_remove(c->watched);
    mem_free(c);
    metric_change(s->metrics.connections, -1);
}

static void on_connection(void *context, struct MHD_Connection *connection,
                          void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_CLOSED)
        connection_ends(context, *socket_context);
    else
        connection_begins(context, connection, (struct connection **)socket_context);
}

/* Paths stay percent-encoded: whoever routes decodes once. */
static size_t keep_encoded(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static bool accepted(void *context, int fd, const struct sockaddr *address,
                     socklen_t size)
{
    struct http_server *s = context;
    unsigned loop = atomic_fetch_add(&s->next_loop, 1) % LOOPS;
    return MHD_add_connection(s->loops[loop], fd, address, size) == MHD_YES;
}

/* ---- start and end ---- */

static int listen_on(const struct addrinfo *a)
{
    int one = 1, zero = 0;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    a->ai_protocol);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

static enum err socket_error(int error)
{
    if (error == EADDRINUSE) return ERR_BUSY;
    if (error == EACCES || error == EPERM) return ERR_DENIED;
    return error == EADDRNOTAVAIL ? ERR_INVALID : ERR_IO;
}

static enum err open_listener(struct op *op, const char *host, uint16_t port, int *fd)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed)
        return op_fail(op, ERR_INVALID, "listen on %s: %s", host, gai_strerror(failed));
    *fd = -1;
    for (struct addrinfo *a = found; a && *fd < 0; a = a->ai_next)
        *fd = listen_on(a);
    int error = errno;
    freeaddrinfo(found);
    if (*fd >= 0) return ERR_OK;
    return op_fail(op, socket_error(error), "listen on %s port %u: %s", host, port,
                   error == EADDRINUSE ? "another program has this port"
                                       : strerror(error));
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    int failed = getsockname(fd, (struct sockaddr *)&address, &size);
    assert(!failed);
    if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, &address, sizeof six);
        return ntohs(six.sin6_port);
    }
    struct sockaddr_in four;
    memcpy(&four, &address, sizeof four);
    return ntohs(four.sin_port);
}

/* Time-outs are http_watch's; the library's own stay off (0 is its default). */
static struct MHD_Daemon *start_loop(struct http_server *s)
{
    return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                                MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET,
                            0, NULL, NULL, on_access, s, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)s->options.connections_max,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)CONNECTION_MEMORY, MHD_OPTION_URI_LOG_CALLBACK,
                            on_target, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, s,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                            MHD_OPTION_END);
}

static bool start_loops(struct http_server *s)
{
    for (int i = 0; i < LOOPS; i++)
        if (!(s->loops[i] = start_loop(s))) return false;
    return true;
}

static void stop_loops(struct http_server *s)
{
    for (int i = 0; i < LOOPS; i++)
        if (s->loops[i]) MHD_stop_daemon(s->loops[i]);
}

static void start_watch(struct http_server *s, int fd)
{
    const struct http_server_options *o = &s->options;
    struct watch_options options = {
        .listen_fd = fd,
        .connections_max = o->connections_max,
        .idle_timeout_ms = o->idle_timeout_ms,
        .head_timeout_ms =
            o->head_timeout_ms ? o->head_timeout_ms : DEFAULT_HEAD_TIMEOUT_MS,
        .window_ms = o->rate_window_ms ? o->rate_window_ms : DEFAULT_WINDOW_MS,
        .rate_min = o->rate_min ? o->rate_min : DEFAULT_RATE_MIN,
        .context = s,
        .accepted = accepted,
        .refuse = refuse_slow};
    s->watch = watch_new(&options);
    watch_start(s->watch);
}

enum err http_server_start(struct op *op, const struct http_server_options *options,
                           struct http_server **out)
{
    int fd;
    *out = NULL;
    enum err e = open_listener(op, options->host, options->port, &fd);
    if (e) return e;

    struct http_server *s = mem_new(struct http_server);
    s->options = *options;
    s->port = port_of(fd);
    s->strict_layout = strncmp(MHD_get_version(), "0.9.75", 6) == 0;
    if (!s->strict_layout)
        log_warn(op, "http heads not fully checked", "libmicrohttpd=%s known=0.9.75",
                 MHD_get_version());
    mutex_init(&s->lock);
    cond_init(&s->idle);
    make_metrics(s);
    if (!start_loops(s)) {
        stop_loops(s);
        (void)close(fd);
        mem_free(s);
        return op_fail(op, ERR_IO, "start the HTTP threads: %s", strerror(errno));
    }
    for (int lane = 0; lane < HTTP_LANES; lane++)
        if (options->lane_threads[lane])
            s->lanes[lane] = pool_new(pool_names[lane], options->lane_threads[lane],
                                      options->lane_queue_max[lane]);
    start_watch(s, fd);
    *out = s;
    return ERR_OK;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_drain(struct http_server *s)
{
    mutex_lock(&s->lock);
    s->draining = true;
    mutex_unlock(&s->lock);
    watch_drain(s->watch);
}

size_t http_server_in_flight(const struct http_server *s)
{
    return atomic_load(&s->in_flight);
}

/* Once nothing new can be submitted and no worker has a request, no connection is
 * suspended any more, which is what stopping the library asks for. */
void http_server_free(struct http_server *s)
{
    if (!s) return;
    http_server_drain(s);
    mutex_lock(&s->lock);
    while (s->working > 0)
        (void)cond_wait(&s->idle, &s->lock, INT64_MAX);
    mutex_unlock(&s->lock);

    watch_stop(s->watch);
    stop_loops(s);
    for (int lane = 0; lane < HTTP_LANES; lane++)
        pool_free(s->lanes[lane]);
    watch_free(s->watch);
    cond_release(&s->idle);
    mutex_release(&s->lock);
    mem_free(s);
}
