/*
 * stored_key.h - what an object of the store is, by its key alone.
 *
 * The inverse of ns/keys.h for any key of any namespace: whoever walks through a store
 * meets keys before it knows whose they are.
 */
#ifndef INSPECT_STORED_KEY_H
#define INSPECT_STORED_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "ns/keys.h"

enum stored_kind {
    STORED_LOG_ENTRY,
    STORED_CATALOG_RECORD,
    STORED_MANIFEST,
    STORED_SEGMENT,
    STORED_DELETES,
    STORED_IDEMPOTENCY
};

struct stored_key {
    enum stored_kind kind;
    char name[NAMESPACE_NAME_MAX + 1];
    uint8_t incarnation[INCARNATION_SIZE]; /* zeros for a catalog record */
    uint64_t number; /* slot, catalog number, manifest version, or epoch of the maker */
    struct keys keys; /* of the incarnation; not for a catalog record */
};

/* False: no object of ours has such a key. Whatever WAL prefix it has is taken. */
bool stored_key_parse(const char *key, struct stored_key *out);

#endif
