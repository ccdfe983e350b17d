/*
 * manifest.h - which segments and which suffix of the log are the truth.
 *
 * A manifest is immutable once it is published; version v + 1 is put where nothing is.
 * Its payload (docs/formats.md "manifest") is described at the head of manifest.c.
 */
#ifndef NS_MANIFEST_H
#define NS_MANIFEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "doc/schema.h"
#include "ns/keys.h"
#include "ns/object.h"
#include "ns/settle.h"

/* A manifest beyond these cannot be read. */
enum {
    MANIFEST_SEGMENTS_MAX = 65536,
    MANIFEST_FENCES_MAX = 1 << 18,
    MANIFEST_REMOVED_MAX = 1 << 17,
    MANIFEST_STATS_MAX = 16 << 20 /* bytes of all statistics */
};

struct segment_stats;

struct manifest_segment {
    char *key;
    uint64_t size;
    uint8_t tail_hash[16]; /* XXH3-128 of the object's last bytes: tells two segments of
                              equal size apart (segment_tail_hash) */
    uint64_t end_size;     /* bytes at its end that opening it reads; 0: not known */
    uint32_t row_count;
    uint32_t dead_count;
    char *deletes_key; /* NULL when dead_count is 0 */
    uint64_t deletes_size;
    struct segment_stats *stats; /* of its attributes; NULL: none */
};

struct manifest_fence {
    uint64_t slot;
    uint64_t wall_ms;
};

struct manifest_removed {
    char *key;
    uint64_t version; /* the first manifest that no longer names it */
    uint64_t wall_ms;
};

struct manifest {
    atomic_uint refs;
    uint64_t version;
    uint64_t epoch;
    struct put_id put_id;
    char *holder_node;
    uint64_t holder_fingerprint;
    uint64_t wm;          /* slots below are in the segments */
    struct put_id anchor; /* put-id of slot wm - 1 */
    uint64_t floor;       /* slots below may be deleted */
    enum id_kind id_kind;
    struct schema *schema;
    struct manifest_segment *segments; /* in the order of their making */
    uint32_t segment_count;
    uint64_t stats_bytes;          /* of all segments */
    struct manifest_fence *fences; /* ascending slots */
    uint32_t fence_count;
    struct manifest_removed *removed;
    uint32_t removed_count;
    char *idempotency_key; /* side table of keys seen, or NULL */
    uint64_t idempotency_size;
};

/* An empty one with one reference. */
struct manifest *manifest_new(void);
/* A deep copy to be changed into the next version. */
struct manifest *manifest_copy(const struct manifest *m);
struct manifest *manifest_ref(struct manifest *m);
void manifest_unref(struct manifest *m); /* NULL is fine */

/* Ownership of key strings and of the reference to the statistics passes to the
 * manifest, which does without those that would be more than MANIFEST_STATS_MAX. */
void manifest_add_segment(struct manifest *m, struct manifest_segment segment);
void manifest_drop_segment(struct manifest *m, uint32_t index); /* frees its strings */
void manifest_add_fence(struct manifest *m, uint64_t slot, uint64_t wall_ms);
void manifest_add_removed(struct manifest *m, const char *key, uint64_t version,
                          uint64_t wall_ms);

/*
 * Drops what need not be listed any more: objects that manifests up to version
 * `collected` removed and that are deleted, and fences unless they are young or among
 * the newest (PROTOCOL: GC). Both lists stay readable: beyond their ceilings the oldest
 * go first. A removed object is then an orphan of the next epoch; a fence that goes
 * early is older than 2^18 others, which nodes that pause 5 s between their attempts do
 * not put within the day after which a writer asks for its tenure again (commit.c).
 */
void manifest_trim(struct manifest *m, uint64_t collected, uint64_t now_ms);

/* Does it mention this object: a segment, its deleted rows, the table of idempotency
 * keys, or one that it lists as removed? */
bool manifest_mentions(const struct manifest *m, const char *key);

void manifest_encode(const struct manifest *m, struct buf *out);
enum err manifest_decode(struct op *op, const char *key, const struct object *object,
                         struct manifest **out);

/* The newest manifest of the incarnation, *out NULL if there is none yet. */
enum err manifest_newest(struct op *op, struct store *store, const struct keys *keys,
                         struct manifest **out);

/* The version of the newest one, with one LIST. */
enum err manifest_newest_version(struct op *op, struct store *store,
                                 const struct keys *keys, bool *found,
                                 uint64_t *version);

enum published {
    PUBLISHED,        /* it is the newest manifest */
    PUBLISH_TAKEN,    /* another writer's manifest has this version */
    PUBLISH_OVERTAKEN /* it was stored, but a newer one is there, or it vanished */
};

/*
 * Publishes m as its version: create, then the post-check that the newest manifest is
 * exactly ours. ERR_UNKNOWN: it may be published; the caller must not go on with its
 * epoch. Other errors: surely not published. Asserts the invariants against the version
 * before it (PROTOCOL I5); previous may be NULL for version 0. Sets m->put_id.
 *
 * The same in two steps, so that other things can be asked for during the second: after
 * manifest_create's PUBLISHED it is stored, and manifest_confirm tells whether it is
 * the newest. Confirming can be repeated.
 */
enum err manifest_create(struct op *op, struct store *store, const struct keys *keys,
                         const struct manifest *previous, struct manifest *m,
                         enum published *published);
enum err manifest_confirm(struct op *op, struct store *store, const struct keys *keys,
                          const struct manifest *m, enum published *published);
enum err manifest_publish(struct op *op, struct store *store, const struct keys *keys,
                          const struct manifest *previous, struct manifest *m,
                          enum published *published);

#endif
