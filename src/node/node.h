/*
 * node.h - one running server: store, cache, namespaces, API, HTTP.
 *
 * node_start builds them from the bottom up and returns once requests are answered;
 * node_stop takes them down again from the top.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct config;
struct node;
struct op;

/* c must outlive the node. The op's words say what is in the way: a taken port, a root
 * that cannot be written, another process's lock. A store that can no longer vouch for
 * what it wrote ends the process with status 1. */
enum err node_start(struct op *op, const struct config *c, struct node **out);

/* Readiness says no from now on; requests are still served. */
void node_drain(struct node *n);

/*
 * Takes no new connections, lets what is in flight end, settles what was written, frees
 * everything. False when requests were still running at deadline_ms (of clock_ms); then
 * nothing is freed and the process should end.
 */
bool node_stop(struct node *n, int64_t deadline_ms);

#endif
