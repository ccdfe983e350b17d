/*
 * registry.h - all namespaces of a store, as one node sees and serves them.
 *
 * The node that owns a namespace opens it (PROTOCOL: OPEN) at its first write or read,
 * commits writes in groups, answers strong reads after one probe of the log, and
 * indexes and collects garbage in the background. Any node can read without owning: it
 * follows manifest and log.
 *
 * Threads  any. Time: a write blocks until it is durable or op's deadline passes.
 */
#ifndef NS_REGISTRY_H
#define NS_REGISTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "doc/batch.h"
#include "ns/snapshot.h"

struct admission;
struct cache;
struct op;
struct registry;
struct store;

struct registry_options {
    struct store *store;         /* borrowed */
    struct cache *cache;         /* borrowed */
    const char *node_id;         /* goes into fences and manifests */
    const char *wal_prefix;      /* "" or "production" */
    uint64_t config_fingerprint; /* of the indexer list */
    bool read_only;              /* query node: never open for writing */
    /* Does this node own the namespace? NULL: it owns all. */
    bool (*owns)(void *context, const char *name);
    /* A node was seen to open the namespace for writing while it is followed here:
     * which, and under which list of indexers. NULL: nobody asks. Must not block. */
    void (*opened_by)(void *context, const char *name, struct slice node_id,
                      uint64_t fingerprint);
    void *context;              /* of both */
    int64_t commit_interval_ms; /* pacing of log puts; 0 on a local directory */
    uint64_t commit_bytes_max;  /* of one log object */
    uint64_t request_bytes_max; /* of one write in the log, and of the ids that a
                                   delete by filter may match; above: ERR_LIMIT */
    uint64_t tail_bytes_max;    /* above: ERR_BUSY */
    uint64_t tail_index_bytes;  /* the tail becomes a segment at so many bytes, … */
    uint64_t tail_index_rows;   /* … rows, … */
    int64_t tail_index_idle_ms; /* … or after so long without writes */
    bool compaction;
    int64_t interval_ms;       /* latest time of the next look at a namespace */
    uint32_t segments_max;     /* compaction.max_segments */
    uint64_t segment_docs_max; /* compaction.max_total_docs */
    int64_t gc_grace_ms;       /* removed segments stay readable so long */
    int64_t staleness_max_ms;  /* consistency.max_staleness_ms */
    uint32_t open_max;         /* namespaces kept open; beyond, idle ones are closed */
    int64_t idle_close_ms; /* … and those that nobody has asked for for so long and
                              that need no work; the background does that */
    const char *scratch;   /* folder for the results of large merges while they are
                              written, or NULL: in memory, so merges stay small */
    uint64_t spool_from;   /* such results have at least about so many bytes */
    uint32_t open_threads; /* that open namespaces, each one at a time */
    bool background;       /* start the maintenance thread; false: the caller
                              calls registry_maintain (tests, simulator) */
    struct admission *queries; /* the registry's own: its background work steps aside
                                  for them */
    atomic_uint_fast64_t *tails_held; /* likewise: bytes of the cache's budget */
};
/* The defaults of docs/configuration.md, without store, cache and node_id. */
struct registry_options registry_options_default(void);

struct registry *registry_new(const struct registry_options *options);
/* Settles what is in flight (at most until deadline_ms of clock_ms), stops. */
void registry_free(struct registry *r, int64_t deadline_ms);

/* 1 to 128 of [A-Za-z0-9_.-], not starting with a dot. ERR_INVALID. */
enum err namespace_name_check(struct op *op, struct slice name);

/*
 * Creates it, or adds attributes. *created false: it was there with this schema (or was
 * widened). ERR_CONFLICT names the difference. token: the commit that did it.
 */
struct commit_token {
    uint8_t incarnation[16];
    uint64_t epoch;
    uint64_t slot;
};
enum err registry_create(struct op *op, struct registry *r, const char *name,
                         const struct schema *schema, bool *created,
                         struct commit_token *token);
/* ERR_NOT_FOUND. Durable when it returns; objects go in the background. */
enum err registry_drop(struct op *op, struct registry *r, const char *name);

/* Names after `after` with prefix, in order, at most *n; out: *n. In op's arena. */
enum err registry_list(struct op *op, struct registry *r, const char *prefix,
                       const char *after, const char **names, size_t *n);
/* Number of namespaces as last counted (health); never waits for the store. */
uint64_t registry_count(struct registry *r);

/* The current schema (a reference for the caller), for parsing a request. */
enum err registry_schema(struct op *op, struct registry *r, const char *name,
                         struct schema **schema);

struct write_request {
    struct batch *batch;                /* unique ids; decoded under schema */
    struct schema *schema;              /* what registry_schema gave */
    const struct filter *delete_filter; /* also delete what matches at commit, or NULL;
                                           the batch then holds deletes only */
    enum id_kind filter_ids;            /* the kind of the ids it names, if it does */
    struct slice idempotency_key;       /* empty: none; at most 255 bytes */
    uint8_t digest[16]; /* of the request, compared when the key comes back */
};
struct write_result {
    uint64_t upserted;
    uint64_t deleted; /* documents that existed */
    bool repeated;    /* the key was seen: this is the first answer again */
    struct commit_token token;
};
/*
 * Durable and visible when ERR_OK. ERR_UNKNOWN: applied whole or not at all, repeat
 * with the key. ERR_REUSED: the key came with another digest. ERR_BUSY: tail full.
 * ERR_FENCED: another node took over. ERR_DENIED: not the owner. ERR_CONFLICT: the
 * schema changed meanwhile in a way that matters (parse again).
 */
enum err registry_write(struct op *op, struct registry *r, const char *name,
                        const struct write_request *request,
                        struct write_result *result);

enum consistency { CONSISTENCY_STRONG, CONSISTENCY_EVENTUAL };
struct read_options {
    enum consistency consistency;
    const struct commit_token *min_commit; /* or NULL */
    /* A snapshot that could not be read to its end, since an object of it is gone
     * (ERR_NOT_FOUND): look for a newer manifest. Or NULL. */
    const struct snapshot *gone;
    /* Where the store is distant, do not wait for the namespace to be opened for
     * writing: that takes longer than reading it as another node would. */
    bool early;
};
/* A snapshot fresh enough; the caller's reference. Its objects may be replaced by
 * compaction and collected while it is used: then ask again, with `gone`. */
enum err registry_snapshot(struct op *op, struct registry *r, const char *name,
                           const struct read_options *options, struct snapshot **out);

/* Around all of a query, from its first snapshot to the end of the last. ERR_BUSY:
 * REGISTRY_QUERIES_MAX of that namespace are running. */
enum { REGISTRY_QUERIES_MAX = 16 };
enum err registry_query_begin(struct op *op, struct registry *r, const char *name);
void registry_query_end(struct registry *r, const char *name);

struct namespace_info {
    struct schema *schema; /* the caller's reference */
    uint64_t documents, segments, segment_bytes, tail_rows, tail_bytes;
    uint64_t wal_first_slot, wal_next_slot, manifest_version, epoch;
    uint8_t incarnation[16];
    bool indexing;
    const char *state; /* static: "ready", "opening", "wedged", "fenced", "reader" */
};
enum err registry_info(struct op *op, struct registry *r, const char *name,
                       struct namespace_info *out);

/* One round of background work for one namespace: settle, index, compact, collect.
 * force: index and compact regardless of thresholds; with background threads on one of
 * its own, which goes on after ERR_TIMEOUT (orders.h). */
enum err registry_maintain(struct op *op, struct registry *r, const char *name,
                           bool force);

#endif
