/*
 * cluster.h - this node among the others: who owns what, and passing requests on.
 *
 * A request about a namespace of another indexer is passed on to it, once: what arrives
 * with X-Elacsym-Hop is answered here or refused, so no list of nodes, however wrong,
 * makes a request go round. A read whose owner is down, busy, slow or cut off from the
 * store is answered here, from the store. docs/deployment.md is the page for operators.
 *
 * Trust  The headers of a forwarded request say nothing that its client could not do
 *        anyway. X-Elacsym-Hop only keeps a request from being passed on, the deadline
 *        can only become shorter, the list of nodes is compared and shown. So they need
 *        no signature; a client that forges them harms its own request only.
 */
#ifndef NODE_CLUSTER_H
#define NODE_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/router.h"
#include "node/ring.h"

struct cluster;

struct cluster_options {
    const char *node_id;
    bool query_node;         /* owns nothing, takes no writes, … */
    bool forward_writes;     /* … but passes them on */
    struct ring ring;        /* copied */
    const char *const *urls; /* per node of the ring, without a slash at the end */
    size_t forwards_max;     /* at once */
    size_t answer_max;       /* bytes of another node's answer */
    /* For how long our store has said nothing to what it was asked; NULL: never. */
    int64_t (*store_silent_ms)(void *store);
    void *store;
};

/* "http://{node_id}:{port}" with both filled in, without slashes at the end. The
 * caller's to free. */
char *cluster_address(const char *address_template, const char *node_id, uint16_t port);

/* An indexer's node_id must be in the ring, a query node's must not: asserted. */
struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *c); /* no request is under way; NULL is fine */

/* Fits registry_options.owns; context is the cluster. */
bool cluster_owns(void *context, const char *name);
/* Fits registry_options.opened_by: tells operators when it was not the owner of our
 * list that opened the namespace. */
void cluster_opened_by(void *context, const char *name, struct slice node_id,
                       uint64_t fingerprint);
/* Valid until cluster_free. */
struct router cluster_router(struct cluster *c);

#endif
