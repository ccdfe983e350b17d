/*
 * router.h - which node answers a request about a namespace?
 *
 * The API asks and does not know why: one node has no router, a cluster's is made by
 * node/cluster. Names that come with a call were checked.
 */
#ifndef API_ROUTER_H
#define API_ROUTER_H

#include <stdbool.h>

#include "base/err.h"
#include "http/http_server.h"

struct op;

struct router_request {
    const char *name; /* of the namespace */
    bool write;
    const struct http_request *http;
};

struct router {
    void *context;
    /*
     * Will answering it mean waiting for another node? Then it waits in a lane of its
     * own: were all workers of two nodes to wait for each other, none would answer.
     * Must not block; only the head of the request is there. A hint: pass decides, but
     * a write that is said to be elsewhere is never for this node: its body may be
     * streaming (http_stream.h).
     */
    bool (*elsewhere)(void *context, const struct router_request *request);
    /*
     * ERR_OK and *answered: response is the answer, another node's or a refusal; or it
     * has been streamed.
     * ERR_OK otherwise: this node is to answer it; response may have got headers.
     * ERR_IO: the node that should do it cannot be reached, nothing was applied.
     * ERR_UNKNOWN: it may have applied the write.
     */
    enum err (*pass)(void *context, struct op *op, const struct router_request *request,
                     struct http_response *response, bool *answered);
    /* Adds to the answer of GET /health what other nodes want to know. Never blocks. */
    void (*health)(void *context, struct http_response *response);
};

#endif
