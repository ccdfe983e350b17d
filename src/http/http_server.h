/*
 * http_server.h - an HTTP/1.1 server that knows no database.
 *
 * Sockets, parsing, limits, gzip and time-outs live behind this header. A request is
 * first admitted by its head alone, before any of its body is read; then, with the
 * whole body in memory, handled on a worker thread, where blocking is fine. RFC 9110,
 * RFC 9112. What is only passed on need not be in memory whole: see http_stream.h.
 *
 * Bodies are bounded (413), also after gunzip; heads too (431, 414). Slow senders get
 * 408. The client's going away cancels the op (shutting down its sending side counts as
 * going). Every answer, also to bytes that are no HTTP, is worded by the handler and
 * carries X-Request-Id (the client's own if it sent a sane one).
 *
 * Overload: a full work queue is 429 with Retry-After. So is, without having been
 * handled, what has waited for a worker longer than lane_delay_max_ms, once the lane's
 * queue was that late at every look for ten times as long: such a queue is no burst,
 * and whoever waited in it has mostly given up. Bursts are worked off. (http_queue.h)
 *
 * Threads  admit and refuse run on socket threads (refuse on workers too), handle on a
 *          lane's workers.
 * Memory   a body lives until handle returns; the answer's body is the server's then. A
 *          connection between two requests holds some hundred bytes.
 */
#ifndef HTTP_HTTP_SERVER_H
#define HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct http_server;

struct http_request {
    const char *method;       /* "GET", also for a HEAD request */
    const char *path;         /* as sent, up to '?', still percent-encoded */
    const char *query_string; /* behind '?', or "" */
    struct slice body;        /* gunzipped; JSON_PADDING readable bytes follow */
    bool streams;             /* the body still arrives: http_stream.h */
    void *connection;         /* for http_header and http_stream */
};

/* A request header's value, NULL if absent; valid until the handler returns. */
const char *http_header(const struct http_request *request, const char *name);

struct http_response {
    int status; /* 200 */
    const char *content_type;
    struct buf body;
    struct {
        const char *name; /* static */
        char value[256];
    } headers[8];
    size_t header_count;
};
void http_response_header(struct http_response *response, const char *name,
                          const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Which queue a request waits in; queries and writes do not starve each other,
 * liveness answers never wait behind either, and what waits for another node keeps
 * nobody from answering that node. */
enum http_lane {
    HTTP_LANE_ADMIN,
    HTTP_LANE_WRITE,
    HTTP_LANE_QUERY,
    HTTP_LANE_FORWARD,
    HTTP_LANES
};

struct http_admission {
    enum http_lane lane;
    size_t body_max; /* bytes */
    bool streams;    /* handle may get it while a large body still arrives */
};

struct http_handler {
    void *context;
    /*
     * The head has arrived. Say how it is to be taken, or refuse by filling response
     * (status >= 400) and returning false. Must not block.
     */
    bool (*admit)(void *context, const struct http_request *head,
                  struct http_admission *admission, struct http_response *response);
    /* On a worker thread. op has the request's deadline and id. */
    void (*handle)(void *context, struct op *op, const struct http_request *request,
                   struct http_response *response);
    /* Fills an error answer for what the server itself refuses. Any thread; must not
     * block. */
    void (*refuse)(void *context, int status, const char *why,
                   struct http_response *response);
};

struct http_server_options {
    const char *host;
    uint16_t port; /* 0: any free one, see http_server_port */
    size_t connections_max;
    size_t lane_threads[HTTP_LANES]; /* 0: no request is admitted to that lane */
    size_t lane_queue_max[HTTP_LANES];
    int64_t lane_delay_max_ms[HTTP_LANES]; /* in a standing queue; 0: 100 ms */
    uint64_t body_memory_max;   /* all bodies in memory together; above: 429 */
    size_t op_memory_max;       /* ceiling of one op's arena; 0: none */
    int64_t request_timeout_ms; /* from the last byte of a request to its answer */
    int64_t idle_timeout_ms;
    int64_t head_timeout_ms; /* from a head's first byte to its last; 0: 10 s */
    int64_t rate_window_ms;  /* bodies and answers must move rate_min bytes a second */
    uint64_t rate_min;       /* in each such window; 0: 10 s, 10 KiB/s */
    struct http_handler handler;
};

/* host and what handler points at must outlive the server. ERR_BUSY: the port is taken.
 * ERR_INVALID: no such host. ERR_DENIED, ERR_IO: it cannot be listened on. */
enum err http_server_start(struct op *op, const struct http_server_options *options,
                           struct http_server **out);
uint16_t http_server_port(const struct http_server *s);
/* Stops accepting; answers to requests in flight are still sent, then their connections
 * are closed. New requests on old connections get 503. */
void http_server_drain(struct http_server *s);
/* Requests whose head has arrived and whose answer has not yet been sent. */
size_t http_server_in_flight(const struct http_server *s);
void http_server_free(struct http_server *s); /* waits for handlers; NULL is fine */

#endif
