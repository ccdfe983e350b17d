/*
 * follower.h - reading a namespace without owning it (PROTOCOL: strong read elsewhere).
 *
 * A follower keeps the newest prefix of the log it has validated. To refresh it lists
 * the log behind its manifest's anchor and applies the entries that chain on; a gap, a
 * missing anchor or a broken chain means that the log was collected below it, and it
 * starts again from the newest manifest. One LIST when nothing is new.
 *
 * Threads  not thread safe; namespace_read.c lets one refresh run at a time.
 */
#ifndef NS_FOLLOWER_H
#define NS_FOLLOWER_H

#include "ns/idempotency.h"
#include "ns/keys.h"
#include "ns/manifest.h"
#include "ns/snapshot.h"

struct op;
struct registry_options;

struct follower {
    struct manifest *manifest;
    struct snapshot *snapshot; /* validated prefix; NULL before the first refresh */
    struct put_id last;        /* put-id of snapshot->slot */
    struct idempotency *table;
    uint64_t next_record; /* of the catalog when last looked, 0: never */
    int64_t looked_ms;    /* when the newest manifest was last asked for */
    int64_t validated_ms; /* clock_ms when the last refresh began */
    uint64_t reserved;    /* bytes of the cache's budget held for the tail */
};

void follower_release(struct follower *f, const struct registry_options *env);

struct refresh {
    const struct snapshot
        *old;  /* another, whose open segments may be shared, or NULL */
    bool gone; /* an object that the manifest names was collected, so look for a
                * newer one even if the log goes on */
    uint64_t behind_max; /* entries to apply at most; 0: as many as there are */
};

/*
 * Brings the prefix up to every write acknowledged before the call. ERR_NOT_FOUND: the
 * incarnation was dropped. ERR_LIMIT: there is more to apply than behind_max.
 * ERR_CORRUPT: an entry of the log is missing or damaged. ERR_IO: the log moved too
 * fast, or the store failed.
 */
enum err follower_refresh(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct schema *schema,
                          const struct refresh *how, struct follower *f);

#endif
