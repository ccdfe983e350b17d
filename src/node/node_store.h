/*
 * node_store.h - the store that a configuration names.
 */
#ifndef NODE_NODE_STORE_H
#define NODE_NODE_STORE_H

#include "base/err.h"

struct config;
struct op;
struct store;

enum store_use {
    STORE_WRITE,  /* for a node: locked and proved */
    STORE_FOLLOW, /* for a node that only reads: S3 is not asked to take probes */
    STORE_INSPECT /* beside whoever uses it: nothing is made or written */
};

/* The op's words say what is in the way. A local store that can no longer vouch for
 * what it wrote ends the process with status 1. */
enum err node_store_open(struct op *op, const struct config *c, enum store_use use,
                         struct store **out);

#endif
