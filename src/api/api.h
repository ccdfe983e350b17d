/*
 * api.h - HTTP requests in, database calls out: routes, limits, error answers.
 *
 * One struct api serves one node. api_handler gives the http server its three
 * callbacks: admit looks at the head alone (route, method, content type, size of the
 * body), handle runs the request on a worker thread, refuse words what the server
 * itself turns away. docs/api.md is the page for users; every answer of theirs is made
 * in this folder.
 *
 * Threads  any number of requests at once; an api never changes after api_new.
 * Memory   a request's memory is its op's arena and the answer's buffer.
 */
#ifndef API_API_H
#define API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http_server.h"

struct api;
struct registry;
struct router;

struct api_options {
    struct registry *registry; /* borrowed, outlives the api */
    const char *node_id;       /* NULL: none configured */
    const char *role;          /* NULL: a single node */
    size_t body_bytes_max;     /* of a write; other bodies have smaller limits */
    int64_t slow_query_ms;     /* a query that took longer is logged; 0: never */
    /* Can requests be served now? If not, *why (static) says it. Must not block.
     * NULL: always. */
    bool (*ready)(void *context, const char **why);
    void *ready_context;
    const char *version;
    const struct router *router; /* borrowed; NULL: this node answers everything */
};

/* options is copied, with its strings. */
struct api *api_new(const struct api_options *options);
/* Valid until api_free. */
struct http_handler api_handler(struct api *api);
void api_free(struct api *api); /* NULL is fine */

#endif
