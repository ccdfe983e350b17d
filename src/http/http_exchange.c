#include "http/http_exchange.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/task.h"
#include "http/http_answer.h"
#include "http/http_flow.h"
#include "http/http_gzip.h"
#include "http/http_stream.h"

enum {
    DISCARD_MAX = 64 << 10, /* a refused body up to this is read and dropped */
    BODY_GROWTH_MIN = 16 << 10,
    GZIP_ANSWER_MIN = 1 << 10,
    STATUS_BROKEN_OFF = 499 /* the client went */
};

/* ---- memory that all bodies share ---- */

static bool reserve(void *context, size_t bytes)
{
    struct exchange *x = context;
    if (!shared_reserve(x->shared, bytes)) return false;
    x->reserved += bytes;
    return true;
}

static void unreserve(struct exchange *x, size_t bytes)
{
    shared_unreserve(x->shared, bytes);
    x->reserved -= bytes;
}

static void reserve_anyway(struct exchange *x, size_t bytes)
{
    shared_reserve_anyway(x->shared, bytes);
    x->reserved += bytes;
}

static void release_body(struct exchange *x)
{
    buf_release(&x->body);
    unreserve(x, x->reserved);
}

/* ---- what the handlers see ---- */

const char *http_header(const struct http_request *request, const char *name)
{
    const struct exchange *x = request->connection;
    return http_parse_find(&x->parse, name, NULL);
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

static void empty_response(struct http_response *response)
{
    buf_release(&response->body);
    response->status = 200;
    response->content_type = "application/json";
    response->header_count = 0;
}

/* The connection lives on if nothing else is against it. */
static void refuse(struct exchange *x, int status, const char *why)
{
    const struct http_handler *h = &x->shared->options.handler;
    empty_response(&x->response);
    h->refuse(h->context, status, why, &x->response);
    x->response.status = status;
    if (status == 429 || status == 503)
        http_response_header(&x->response, "Retry-After", "1");
}

/* ---- counting ---- */

static void begin(struct exchange *x)
{
    x->start_us = clock_us();
    atomic_fetch_add(&x->shared->in_flight, 1);
    metric_change(x->shared->metrics.in_flight, 1);
}

static void count_end(struct exchange *x)
{
    struct http_shared *s = x->shared;
    if (!x->start_us) return;
    double seconds = (double)(clock_us() - x->start_us) / 1e6;
    int status = x->response.status ? x->response.status : STATUS_BROKEN_OFF;
    uint64_t size = x->out ? x->out_size - x->out_left : x->response.body.size;
    if (x->head_only) size = 0;
    metric_add(s->metrics.bytes_in, x->received);
    metric_change(s->metrics.in_flight, -1);
    shared_count_request(s, x->lane, status);
    metric_observe(s->metrics.seconds[x->lane], seconds);
    metric_add(s->metrics.bytes_out, size);
    log_debug(NULL, "request",
              "method=%s path=%s status=%d ms=%.3f bytes=%" PRIu64 " request_id=%s",
              x->request.method, x->request.path, status, seconds * 1e3, size, x->id);
    atomic_fetch_sub(&s->in_flight, 1);
}

static void answered_arrived(struct loop_message *m)
{
    struct exchange *x =
        (struct exchange *)(void *)((char *)m - offsetof(struct exchange, answered));
    x->calls->answered(x->owner);
}

static void moved_arrived(struct loop_message *m)
{
    struct exchange *x =
        (struct exchange *)(void *)((char *)m - offsetof(struct exchange, moved));
    atomic_store(&x->told, false);
    x->calls->moved(x->owner);
}

void exchange_tell(void *exchange)
{
    struct exchange *x = exchange;
    if (!atomic_exchange(&x->told, true)) loop_post(x->loop, &x->moved);
}

struct exchange *exchange_new(struct http_shared *shared, struct loop *loop,
                              const struct exchange_calls *calls, void *owner)
{
    struct exchange *x = mem_new(struct exchange);
    x->shared = shared;
    x->loop = loop;
    x->calls = calls;
    x->owner = owner;
    x->answered.arrived = answered_arrived;
    x->moved.arrived = moved_arrived;
    x->lane = LANE_NONE;
    x->request = (struct http_request){.method = "",
                                       .path = "",
                                       .query_string = "",
                                       .connection = x};
    http_parse_init(&x->parse);
    return x;
}

static struct exchange *exchange_of_job(struct queued *job)
{
    return (struct exchange *)(void *)((char *)job - offsetof(struct exchange, job));
}

void exchange_free(struct exchange *x)
{
    count_end(x);
    release_body(x);
    flow_free(x->in);
    flow_free(x->out);
    if (x->has_stream) shared_give_stream(x->shared, x->lane);
    buf_release(&x->response.body);
    buf_release(&x->head);
    http_parse_release(&x->parse);
    mem_free(x);
}

/* ---- the head ---- */

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

static void take_id(struct exchange *x)
{
    const char *id = http_head_id(&x->parse);
    if (id)
        memcpy(x->id, id, strlen(id) + 1);
    else
        make_id(x->id);
}

static void take_target(struct exchange *x)
{
    const char *method = http_parse_method(&x->parse);
    char *target = http_parse_target(&x->parse);
    char *query = strchr(target, '?');
    if (query) *query++ = '\0';
    x->head_only = strcmp(method, "HEAD") == 0;
    x->request.method = x->head_only ? "GET" : method;
    x->request.path = target;
    x->request.query_string = query ? query : "";
}

/* False: there is a response. */
static bool admit(struct exchange *x)
{
    const struct http_handler *h = &x->shared->options.handler;
    struct http_admission admission = {.lane = HTTP_LANE_ADMIN};
    if (atomic_load(&x->shared->draining)) {
        refuse(x, 503, "the server is shutting down");
        return false;
    }
    empty_response(&x->response);
    bool admitted = h->admit(h->context, &x->request, &admission, &x->response);
    x->lane = (int)admission.lane;
    x->body_max = admission.body_max;
    x->may_stream = admission.streams;
    if (!admitted) return false;
    x->response.status = 0;
    if (x->parse.body_size != HTTP_BODY_UNKNOWN && x->parse.body_size > x->body_max) {
        char why[96];
        (void)snprintf(why, sizeof why,
                       "the body has %llu bytes, at most %zu are taken",
                       (unsigned long long)x->parse.body_size, x->body_max);
        refuse(x, 413, why);
        return false;
    }
    return true;
}

enum exchange_next exchange_head(struct exchange *x)
{
    const char *why = NULL;
    begin(x);
    take_id(x);
    int status = http_head_terms(&x->parse, &x->terms, &why);
    take_target(x);
    if (status) {
        exchange_refuse(x, status, why);
        return EXCHANGE_REFUSE;
    }
    if (admit(x)) return EXCHANGE_BODY;
    if (x->parse.body_size <= DISCARD_MAX && !x->terms.expects_continue)
        return EXCHANGE_DROP;
    x->terms.keep_alive = false;
    return EXCHANGE_REFUSE;
}

void exchange_refuse(struct exchange *x, int status, const char *why)
{
    if (!x->start_us) begin(x);
    if (!x->id[0]) take_id(x);
    refuse(x, status, why);
    x->terms.keep_alive = false;
}

void exchange_bad(struct exchange *x)
{
    exchange_refuse(x, x->parse.status, x->parse.why);
}

/* ---- the body ---- */

/* Room for size more bytes, and for readers of JSON to look a little past the end.
 * Grows by doubling, so that a client that promises much and sends little holds little.
 */
static bool grow_body(struct exchange *x, size_t size)
{
    struct buf *b = &x->body;
    size_t needed = b->size + size + JSON_PADDING;
    if (needed <= b->capacity) return true;
    size_t capacity = b->capacity ? b->capacity * 2 : BODY_GROWTH_MIN;
    size_t most =
        x->parse.body_size < x->body_max ? (size_t)x->parse.body_size : x->body_max;
    if (capacity > most + JSON_PADDING) capacity = most + JSON_PADDING;
    if (capacity < needed) capacity = needed;
    if (!reserve(x, capacity - b->capacity)) {
        exchange_refuse(x, 429, "too many bodies are in memory, try again later");
        return false;
    }
    b->data = mem_realloc(b->data, capacity);
    b->capacity = capacity;
    return true;
}

uint8_t *exchange_room(struct exchange *x, size_t *size)
{
    if (!grow_body(x, 1)) return NULL;
    *size = x->body.capacity - JSON_PADDING - x->body.size;
    return x->body.data + x->body.size;
}

static bool too_large(const struct exchange *x, size_t size)
{
    uint64_t room = x->body_max - x->received;
    /* A chunk that says that it will be too large is, already. */
    return size > room || x->parse.left > room - size;
}

static const char too_large_words[] = "the body is larger than what is taken here";

static bool flow_body(struct exchange *x, struct slice piece)
{
    if (too_large(x, piece.size)) {
        exchange_flow_breaks(x, 413, too_large_words);
        return false;
    }
    x->received += piece.size;
    flow_put(x->in, piece);
    return true;
}

bool exchange_body(struct exchange *x, struct slice piece)
{
    struct buf *b = &x->body;
    if (x->in) return flow_body(x, piece);
    if (too_large(x, piece.size)) {
        exchange_refuse(x, 413, too_large_words);
        return false;
    }
    x->received += piece.size;
    if (b->data && piece.data == b->data + b->size) {
        b->size += piece.size;
        return true;
    }
    if (!grow_body(x, piece.size)) return false;
    buf_append_slice(b, piece);
    return true;
}

/* ---- work ---- */

static bool unpack_body(struct exchange *x)
{
    struct buf plain = BUF_INIT;
    size_t packed = x->reserved;
    if (!x->terms.gzip_body) return true;
    enum err e =
        http_gunzip(&x->op, buf_slice(&x->body), x->body_max, reserve, x, &plain);
    buf_release(&x->body);
    unreserve(x, packed);
    x->body = plain;
    if (!e) return true;
    refuse(x, e == ERR_LIMIT ? 413 : e == ERR_BUSY ? 429 : 400, x->op.error);
    return false;
}

static void pad_body(struct exchange *x)
{
    static const uint8_t nothing[JSON_PADDING];
    size_t size = x->body.size;
    x->request.body = slice_of(nothing, 0);
    if (size == 0) return;
    if (x->body.capacity - size < JSON_PADDING) {
        size_t capacity = size + JSON_PADDING;
        reserve_anyway(x, capacity - x->body.capacity);
        x->body.data = mem_realloc(x->body.data, capacity);
        x->body.capacity = capacity;
    }
    memset(x->body.data + size, 0, JSON_PADDING);
    x->request.body = buf_slice(&x->body);
}

/* ---- bodies that flow ---- */

bool exchange_begin_flow(struct exchange *x)
{
    bool enough = x->body.size >= HTTP_STREAM_FROM && x->received != x->parse.body_size;
    if (!x->may_stream || !enough) return false;
    x->may_stream = false;
    x->has_stream = shared_take_stream(x->shared, x->lane);
    if (!x->has_stream) return false;
    x->in = flow_new(HTTP_STREAM_BYTES, exchange_tell, x);
    flow_put(x->in, buf_slice(&x->body));
    release_body(x);
    reserve_anyway(x, HTTP_STREAM_BYTES);
    return true;
}

void exchange_flow_ends(struct exchange *x)
{
    flow_end(x->in);
}

void exchange_flow_breaks(struct exchange *x, int status, const char *why)
{
    x->broken_status = status;
    x->broken_why = why;
    exchange_cancel(x);
}

void exchange_flow_settle(struct exchange *x, bool whole)
{
    if (x->broken_status) exchange_refuse(x, x->broken_status, x->broken_why);
    if (!whole) x->terms.keep_alive = false;
}

static void handle(struct exchange *x)
{
    const struct http_handler *h = &x->shared->options.handler;
    enum err e = op_check(&x->op);
    if (e) {
        refuse(x, e == ERR_TIMEOUT ? 504 : STATUS_BROKEN_OFF, x->op.error);
        return;
    }
    if (!x->in && !unpack_body(x)) return;
    pad_body(x);
    x->request.streams = x->in != NULL;
    empty_response(&x->response);
    h->handle(h->context, &x->op, &x->request, &x->response);
}

/* Another node may have done it. */
static bool is_compressed(const struct http_response *a)
{
    for (size_t i = 0; i < a->header_count; i++)
        if (strcmp(a->headers[i].name, "Content-Encoding") == 0) return true;
    return false;
}

static void compress_answer(struct exchange *x)
{
    struct http_response *a = &x->response;
    bool compressed = is_compressed(a);
    if (a->body.size <= GZIP_ANSWER_MIN && !compressed) return;
    if (x->out || !http_answer_has_body(a->status)) return;
    http_response_header(a, "Vary", "Accept-Encoding");
    if (compressed || !x->terms.gzip_answer) return;

    struct buf packed = BUF_INIT;
    http_gzip(buf_slice(&a->body), &packed);
    buf_release(&a->body);
    a->body = packed;
    http_response_header(a, "Content-Encoding", "gzip");
}

static void release_work(struct exchange *x)
{
    if (atomic_load(&x->op.canceled)) metric_add(x->shared->metrics.canceled, 1);
    op_release(&x->op);
    if (!x->in) release_body(x); /* else its loop may still be putting bytes there */
    reserve_anyway(x, x->response.body.capacity);
}

/* Back to its loop, which may have sent and freed it before this returns. */
static void finish(struct exchange *x)
{
    release_work(x);
    loop_post(x->loop, &x->answered);
}

void exchange_run(struct queued *job)
{
    struct exchange *x = exchange_of_job(job);
    handle(x);
    compress_answer(x);
    finish(x);
}

void exchange_shed(struct queued *job)
{
    struct exchange *x = exchange_of_job(job);
    metric_add(x->shared->metrics.shed[x->lane], 1);
    refuse(x, 429,
           "the server is overloaded, the request waited too long for its turn");
    finish(x);
}

/* The worker may be done before lane_submit returns. */
bool exchange_submit(struct exchange *x)
{
    struct http_shared *s = x->shared;
    if (x->response.status) return false;
    op_init(&x->op, x->in ? OP_NO_DEADLINE : clock_ms() + s->options.request_timeout_ms,
            s->options.op_memory_max);
    static_assert(sizeof x->op.request_id == sizeof x->id, "an id fits into an op");
    memcpy(x->op.request_id, x->id, sizeof x->id);
    if (lane_submit(s->lanes[x->lane], &x->job)) return true;
    refuse(x, 429, "too many requests are waiting, try again later");
    release_work(x);
    return false;
}

void exchange_cancel(struct exchange *x)
{
    op_cancel(&x->op);
}

void exchange_write_head(struct exchange *x, uint64_t body_size)
{
    if (atomic_load(&x->shared->draining)) x->terms.keep_alive = false;
    struct http_answer_options options = {.request_id = x->id,
                                          .keep_alive = x->terms.keep_alive,
                                          .old_client = x->parse.minor == 0,
                                          .body_size = body_size,
                                          .wall_ms = clock_wall_ms()};
    http_answer_head(&x->response, &options, &x->head);
}
