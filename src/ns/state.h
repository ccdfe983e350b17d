/*
 * state.h - how one snapshot becomes the next.
 *
 * Pure steps over immutable snapshots: load what a manifest names, apply a log entry,
 * put a stored segment in the place of the sources it was made from. Who may take which
 * step, and when, is decided by those who call; here nothing is decided and nothing
 * locked.
 */
#ifndef NS_STATE_H
#define NS_STATE_H

#include "doc/batch.h"
#include "ns/idempotency.h"
#include "ns/keys.h"
#include "ns/manifest.h"
#include "ns/snapshot.h"
#include "ns/wal.h"

struct cache;
struct registry_options;
struct store;

/* A write request whose documents are already a small segment: made before the commit,
 * by the thread that parsed it, so that applying is cheap. */
struct prepared {
    struct segment *segment; /* the documents, NULL if there are none */
    struct doc_id *deletes;  /* on the heap, strings behind them */
    size_t delete_count;
    enum id_kind id_kind;
    struct schema *schema; /* the wider schema it brings, or NULL */
};

enum err prepared_make(struct op *op, const struct batch *batch, struct schema *schema,
                       struct prepared *out);
void prepared_release(struct prepared *p);

/* What a request did. */
struct applied {
    uint64_t upserted;
    uint64_t deleted; /* documents that existed */
};

/* The namespace before its first entry: no sources, slot UINT64_MAX (none). */
struct snapshot *state_empty(const struct keys *keys, struct schema *schema);

/*
 * What the manifest names, at slot wm - 1. Segments that old has open are shared. Reads
 * through the cache, all in one round unless a segment keeps more in memory than was to
 * be expected; each segment's tail hash is compared. *table gets the idempotency keys.
 */
enum err state_load(struct op *op, struct cache *cache, const struct keys *keys,
                    const struct manifest *m, const struct snapshot *old,
                    struct snapshot **out, struct idempotency **table);

/* One segment of a manifest, compared with what the manifest says of it; *dead is NULL
 * when nothing of it was deleted. Both are the caller's. old may be NULL. */
enum err state_load_segment(struct op *op, struct cache *cache, const struct keys *keys,
                            const struct schema *schema,
                            const struct manifest_segment *ms,
                            const struct snapshot *old, struct segment **segment,
                            struct rowset **dead);
/* The table of keys that a manifest names, an empty one if it names none. */
enum err state_load_table(struct op *op, struct cache *cache, const struct keys *keys,
                          const struct manifest *m, struct idempotency **table);

/* base and n requests, in order, as one step: the state at slot. applied has n items.
 */
enum err state_apply(struct op *op, const struct snapshot *base,
                     const struct prepared *requests, size_t n, uint64_t slot,
                     uint64_t epoch, struct snapshot **out, struct applied *applied);

/* *s becomes what it is behind an entry read from the log, its tail joined; the keys of
 * the entry are noted in table. FENCE and DROP entries only advance slot and epoch.
 * With an error *s stays. */
enum err state_replay(struct op *op, struct snapshot **s, const struct wal_entry *entry,
                      struct idempotency *table);

/*
 * Joins the youngest small segments of the tail into one where that keeps their number
 * logarithmic; sources before first_source are left alone. *out is NULL if there is
 * nothing to do. The logical content does not change.
 */
enum err state_join_tail(struct op *op, const struct snapshot *base,
                         uint32_t first_source, struct snapshot **out);

/*
 * now, with made (NULL: nothing, all their rows were dead) in the place of the sources
 * of frozen that taken marks (one bool per source of frozen), behind the other stored
 * ones. Those sources are in now too, in the same order, with perhaps more dead rows;
 * what else frozen and now hold does not matter. Rows that died since frozen die in
 * made too.
 */
struct snapshot *state_replace(const struct snapshot *frozen,
                               const struct snapshot *now, const bool *taken,
                               struct segment *made, uint64_t manifest_version);

/* Makes *held, bytes of the cache's budget, so many for a tail. False: there is no room
 * for more, and *held stays. All tails together get half of the budget: what indexes
 * them, and so makes room, needs the rest. */
bool tail_hold(const struct registry_options *env, uint64_t *held, uint64_t bytes);

#endif
