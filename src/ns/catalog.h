/*
 * catalog.h - whether a namespace exists, and as which incarnation.
 *
 * The catalog of a name is a chain of numbered records, never deleted: CREATE with a
 * new random incarnation and the schema, or DELETE of one. The newest record is the
 * truth. Record payload: u8 version 1 | u8 deleted | sized wal_prefix | sized node id |
 * u64 wall milliseconds | schema (CREATE only).
 */
#ifndef NS_CATALOG_H
#define NS_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "doc/schema.h"
#include "ns/keys.h"
#include "ns/settle.h"

struct catalog_record {
    uint64_t n;
    bool deleted;
    uint8_t incarnation[INCARNATION_SIZE];
    const char *wal_prefix; /* in op's arena */
    struct schema
        *schema; /* a reference, released by catalog_release; NULL if deleted */
};

void catalog_release(struct catalog_record *record);

/* The newest record. ERR_NOT_FOUND: the name was never used. */
enum err catalog_newest(struct op *op, struct store *store, const char *name,
                        struct catalog_record *out);

/* The record under this key of the name's catalog. ERR_CORRUPT, ERR_NOT_FOUND. */
enum err catalog_read(struct op *op, struct store *store, const char *name,
                      const char *key, struct catalog_record *out);

/* Is this incarnation the one that exists now? */
enum err catalog_is_current(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], bool *current);
/* Does a DELETE record of this incarnation stand in the catalog, so that its objects
 * may go? Reads the chain from its newest record on. */
enum err catalog_is_deleted(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], bool *deleted);

/*
 * Adds record n: a CREATE of the incarnation with its schema, or (schema NULL) a
 * DELETE. *outcome TAKEN: somebody else wrote record n.
 */
enum err catalog_append(struct op *op, struct store *store, const char *name,
                        uint64_t n, const uint8_t incarnation[INCARNATION_SIZE],
                        const char *wal_prefix, const char *node_id,
                        const struct schema *schema, enum settled *outcome);

#endif
