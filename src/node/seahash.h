/*
 * seahash.h - SeaHash with the default seeds, as the Rust crate `seahash` 4 computes
 * it.
 *
 * It places namespaces on indexers, so its values must never change: a cluster may be
 * upgraded node by node. Algorithm: Ticki, "SeaHash: a bizarrely fast hash function"
 * (2016). Not for untrusted keys in hash tables: it has no secret.
 */
#ifndef NODE_SEAHASH_H
#define NODE_SEAHASH_H

#include <stdint.h>

#include "base/buf.h"

uint64_t seahash(struct slice bytes);

#endif
