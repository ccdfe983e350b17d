/*
 * catalog.h - whether a namespace exists, and as which incarnation.
 *
 * The catalog of a name is a chain of numbered records, never deleted: CREATE with a
 * new random incarnation and the schema, or DELETE of one. The newest record is the
 * truth. Record payload: u8 version 2 | u8 deleted | sized name | sized wal_prefix |
 * sized node id | u64 wall milliseconds | schema (CREATE only). Version 1 had no name.
 */
#ifndef NS_CATALOG_H
#define NS_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "doc/schema.h"
#include "ns/keys.h"
#include "ns/object.h"
#include "ns/settle.h"

struct catalog_record {
    uint64_t n;
    bool deleted;
    uint8_t incarnation[INCARNATION_SIZE];
    uint64_t wall_ms;       /* when it was written */
    const char *wal_prefix; /* in op's arena */
    struct schema
        *schema; /* a reference, released by catalog_release; NULL if deleted */
};

void catalog_release(struct catalog_record *record);

/* A record as it is stored, with n, incarnation, wall_ms and wal_prefix of record; a
 * DELETE where schema is NULL. */
void catalog_encode(const char *name, const struct catalog_record *record,
                    const struct schema *schema, const char *node_id,
                    struct put_id put_id, struct buf *out);
/* What lies under this key of the name's catalog. ERR_CORRUPT, also for a record of
 * another name. */
enum err catalog_decode(struct op *op, const char *name, const char *key,
                        struct slice bytes, struct catalog_record *out);

/* The newest record. ERR_NOT_FOUND: the name was never used. */
enum err catalog_newest(struct op *op, struct store *store, const char *name,
                        struct catalog_record *out);

/* The record under this key of the name's catalog. ERR_CORRUPT, ERR_NOT_FOUND. */
enum err catalog_read(struct op *op, struct store *store, const char *name,
                      const char *key, struct catalog_record *out);

/*
 * Is this incarnation the one that exists now? *next: in, the number behind a record
 * that is known to be its CREATE, or 0; out, if it is current, the number that the next
 * record would have. One LIST when nothing is newer than what is known, else a GET too.
 */
enum err catalog_is_current(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], uint64_t *next,
                            bool *current);
/* Does a DELETE record of this incarnation stand in the catalog, so that its objects
 * may go, and since when? Reads the chain from its newest record on. */
enum err catalog_is_deleted(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], bool *deleted,
                            uint64_t *wall_ms);
/* The log of this incarnation ends with a DROP: whoever sees it makes sure that the
 * catalog says so too, with a DELETE record, unless it does already. */
enum err catalog_help_drop(struct op *op, struct store *store, const struct keys *keys,
                           const char *wal_prefix, const char *node_id);

/*
 * Adds record n: a CREATE of the incarnation with its schema, or (schema NULL) a
 * DELETE. *outcome TAKEN: somebody else wrote record n.
 */
enum err catalog_append(struct op *op, struct store *store, const char *name,
                        uint64_t n, const uint8_t incarnation[INCARNATION_SIZE],
                        const char *wal_prefix, const char *node_id,
                        const struct schema *schema, enum settled *outcome);

#endif
