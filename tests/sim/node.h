/*
 * node.h - one node's engine on a store, and the calls a client makes to it.
 *
 * Every call goes to the registry as a client's request would, and its answer to the
 * ledger. Used by the simulation (a node per process) and by the crash sweep.
 */
#ifndef TESTS_SIM_NODE_H
#define TESTS_SIM_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "ns/registry.h"
#include "sim/ledger.h"

struct node {
    struct ledger *ledger; /* borrowed */
    const char *name;      /* of the namespace */
    struct store *store;   /* borrowed */
    struct cache *cache;
    struct registry *registry;
};

/* Fills in n->cache and n->registry; options->store, cache are set here. */
void node_open(struct node *n, struct ledger *ledger, const char *name,
               struct store *store, const struct registry_options *options);
void node_close(struct node *n, int64_t deadline_ms);

/* Each returns what the engine answered. deadline_ms is of clock_ms. */
enum err node_create(struct node *n, int64_t deadline_ms);
enum err node_drop(struct node *n, int64_t deadline_ms);
/* One attempt at a write of the ledger. */
enum err node_write(struct node *n, uint32_t number, int64_t deadline_ms,
                    struct write_result *result);
/* Reads everything. token, if not NULL, gets the snapshot's position. */
enum err node_read(struct node *n, bool strong, const struct commit_token *min_commit,
                   int64_t deadline_ms, struct commit_token *token);
enum err node_maintain(struct node *n, bool force, int64_t deadline_ms);

#endif
