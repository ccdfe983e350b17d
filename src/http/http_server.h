/*
 * http_server.h - an HTTP/1.1 server that knows no database.
 *
 * Sockets, parsing, limits, gzip and time-outs live behind this header (libmicrohttpd
 * behind http_server.c). A request is first admitted by its head alone, before any of
 * its body is read; then, with the whole body in memory, handled on a worker thread,
 * where blocking is fine. RFC 9110, RFC 9112.
 *
 * Bodies are bounded (413), also after gunzip; heads too (431, 414). Slow senders get
 * 408. A full work queue is 429 with Retry-After. The client's going away cancels the
 * op. Every answer carries X-Request-Id (the client's own if it sent a sane one).
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
    const char *method;       /* "GET" */
    const char *path;         /* as sent, up to '?', still percent-encoded */
    const char *query_string; /* behind '?', or "" */
    struct slice body;        /* gunzipped; JSON_PADDING readable bytes follow */
    const void *connection;   /* for http_header */
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

/* Which queue a request waits in; queries and writes do not starve each other, and
 * liveness answers never wait behind either. */
enum http_lane { HTTP_LANE_ADMIN, HTTP_LANE_WRITE, HTTP_LANE_QUERY, HTTP_LANES };

struct http_handler {
    void *context;
    /*
     * The head has arrived. Choose the lane and the largest body (bytes), or refuse by
     * filling response (status >= 400) and returning false. Must not block.
     */
    bool (*admit)(void *context, const struct http_request *head, enum http_lane *lane,
                  size_t *body_max, struct http_response *response);
    /* On a worker thread. op has the request's deadline and id. */
    void (*handle)(void *context, struct op *op, const struct http_request *request,
                   struct http_response *response);
    /* Fills an error answer for what the server itself refuses. */
    void (*refuse)(void *context, int status, const char *why,
                   struct http_response *response);
};

struct http_server_options {
    const char *host;
    uint16_t port; /* 0: any free one, see http_server_port */
    size_t connections_max;
    size_t lane_threads[HTTP_LANES];
    size_t lane_queue_max[HTTP_LANES];
    uint64_t body_memory_max; /* all bodies in memory together; above: 429 */
    int64_t request_timeout_ms;
    int64_t idle_timeout_ms;
    struct http_handler handler;
};

enum err http_server_start(struct op *op, const struct http_server_options *options,
                           struct http_server **out);
uint16_t http_server_port(const struct http_server *s);
/* Stops accepting; answers to requests in flight are still sent. */
void http_server_drain(struct http_server *s);
/* Requests that have been accepted and not yet answered. */
size_t http_server_in_flight(const struct http_server *s);
void http_server_free(struct http_server *s); /* waits for handlers; NULL is fine */

#endif
