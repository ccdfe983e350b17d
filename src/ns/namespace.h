/*
 * namespace.h - one incarnation of a namespace on this node: writer, reader, or both.
 *
 * As owner it holds a tenure (tenure.h). Whoever needs the log advanced and finds
 * nobody doing it becomes the leader: opens, settles, or commits everything that is
 * queued as one log entry, for all who wait. So there is no thread per namespace, and
 * writes that arrive during a put share the next one (group commit). As reader it
 * follows the log.
 *
 * This header is for ns/ only; others use registry.h.
 */
#ifndef NS_NAMESPACE_H
#define NS_NAMESPACE_H

#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/follower.h"
#include "ns/opener.h"
#include "ns/registry.h"
#include "ns/settle.h"
#include "ns/slowdown.h"
#include "ns/state.h"
#include "ns/tenure.h"
#include "ns/ticket.h"

enum namespace_state {
    NS_CLOSED, /* not open for writing (yet, or after an error) */
    NS_READY,  /* we hold a tenure */
    NS_FENCED, /* another node holds it; not before fenced_until_ms again */
    NS_DROPPED /* this incarnation is over */
};

/* After failures in a row, when the next attempt may be. */
struct pause {
    unsigned times;
    int64_t until_ms;
};

struct pending; /* a write in the queue or in a group (commit.c) */
struct group;   /* a log entry that was sent and is not settled yet */

struct namespace
{
    atomic_uint refs;
    const struct registry_options *env; /* the registry's, outlives us */
    struct opener *opener;              /* likewise */
    struct keys keys;
    struct schema *first_schema; /* of the catalog record … */
    uint64_t next_record;        /* … and the number behind it */

    struct mutex lock;   /* guards all below but follower; never held during I/O */
    struct cond changed; /* leading, running or a pending's state changed */
    enum namespace_state state;
    struct tenure tenure;    /* while NS_READY */
    bool leading;            /* somebody advances the log */
    bool opening;            /* … by an OPEN, which runs on the opener's threads */
    int64_t opening_ms;      /* when that was submitted */
    uint64_t opening_ticket; /* of the readers whose check it is */
    unsigned open_failures;  /* OPENs that failed, ever; what the last one said … */
    enum err open_err;
    char open_words[OP_ERROR_MAX];
    unsigned open_failed_times; /* … how many in a row, and when the next may be */
    int64_t open_after_ms;
    struct pending *queue, **queue_end;
    uint64_t queue_bytes;
    struct group *group;
    uint64_t groups;         /* put together so far: the number of the last */
    struct tickets probes;   /* strong reads at the owner */
    bool maintaining;        /* somebody indexes the tail or collects */
    bool merging;            /* somebody merges segments */
    bool publishing;         /* one of them publishes a manifest */
    struct snapshot *frozen; /* what the tail's job works on, or NULL, … */
    uint32_t frozen_tail;    /* … and how many sources of the tail, the oldest */
    uint64_t merged_version, merged_epoch; /* this manifest needs no merge */
    int64_t commit_started_ms, committed_ms, written_ms, maintained_ms;
    struct pause work_pause, merge_pause; /* of background work that failed */
    struct segment **damaged; /* found out by merges, which leave them alone */
    uint32_t damaged_count;
    int64_t confirmed_ms; /* when we were last surely the owner */
    int64_t fenced_until_ms;
    unsigned fenced_times;
    char fenced_words[TENURE_WORDS_MAX];
    struct slowdown slowdown;
    uint64_t reserved; /* bytes of the cache's budget held for the tail */
    bool tail_full;    /* a write was refused since there was no room for it */
    uint64_t collected_floor, collected_version; /* how far the log, manifests, … */
    uint64_t collected_removed; /* … and what manifests up to this one removed, went */
    uint64_t
        gc_version; /* of the manifest after which nothing was left to be deleted, … */
    int64_t gc_again_ms;    /* … but for what has to wait until then */
    uint64_t orphans_epoch; /* the epoch in which orphans were last looked for */
    /* A large merge had no file: until then the others do without. */
    atomic_int_fast64_t scratch_after_ms;
    char **leftovers; /* objects of jobs that failed */
    uint32_t leftover_count;

    struct tickets refreshes;  /* strong reads as follower; guarded by lock */
    struct follower follower;  /* of the one that runs a refresh */
    struct snapshot *followed; /* what the last refresh found, and when it began */
    int64_t followed_ms;
    int64_t follow_after_ms; /* not before, since the tail did not fit */
    bool followed_gone;      /* its manifest names objects that were collected */
};

/* record: its catalog record (copied from). One reference. */
struct namespace *namespace_new(const struct registry_options *env,
                                struct opener *opener, const char *name,
                                const struct catalog_record *record);
struct namespace *namespace_ref(struct namespace *ns);
void namespace_unref(struct namespace *ns);

/* As registry.h says of the calls with the same names. */
enum err namespace_write(struct op *op, struct namespace *ns,
                         const struct write_request *request,
                         struct write_result *result);
/* Adds attributes: base is the schema that wider was made from. ERR_CONFLICT: base is
 * no longer the newest. */
enum err namespace_widen(struct op *op, struct namespace *ns, struct schema *base,
                         struct schema *wider, struct commit_token *token);
enum err namespace_drop(struct op *op, struct namespace *ns);
enum err namespace_snapshot(struct op *op, struct namespace *ns,
                            const struct read_options *options, struct snapshot **out);
enum err namespace_info(struct op *op, struct namespace *ns,
                        struct namespace_info *out);
/* Opens it for writing if this node may. */
enum err namespace_open(struct op *op, struct namespace *ns,
                        struct commit_token *token);
/* Settles a group whose outcome is unknown, if there is one. */
enum err namespace_settle(struct op *op, struct namespace *ns);
bool namespace_dropped(struct namespace *ns);
/* Has nobody but the caller a reference, and is nothing left to be settled? The caller
 * sees to it that nobody takes one meanwhile. */
bool namespace_idle(struct namespace *ns);

/* ---- between the files of ns/; the lock is held ---- */

/* Our tenure is over: another node took the namespace. Queued writes fail. */
void namespace_fenced_locked(struct namespace *ns, const char *words);
/* Something went wrong that only a new OPEN can put right. */
void namespace_close_locked(struct namespace *ns);
/* The log ends with a DROP. */
void namespace_dropped_locked(struct namespace *ns);
/* We hold a tenure: what was followed before would only take memory. Nothing while a
 * refresh runs, which has it. */
void namespace_unfollow_locked(struct namespace *ns);
/* Takes over next (a reference) as the current snapshot. */
void namespace_set_snapshot_locked(struct namespace *ns, struct snapshot *next);
/* Advances the log by one step: settle, begin to open, or commit; nobody leads. The
 * lock is released inside. An error is the leader's own; those of requests are told to
 * them. After an OPEN was begun somebody leads: the OPEN. */
enum err commit_lead(struct op *op, struct namespace *ns);
void commit_fail_queue(struct namespace *ns, enum err e, const char *words);

/* ---- namespace_open.c; the lock is held ---- */

/* Leads or waits until the namespace is open for writing, at most until until_ms.
 * ERR_IO: it is still being opened, and that goes on; otherwise what the OPEN said. */
enum err namespace_ensure_open(struct op *op, struct namespace *ns, int64_t until_ms);
/* Why the last OPEN failed, and that the one in progress goes on after our deadline. */
enum err namespace_open_failed(struct op *op, struct namespace *ns);
enum err namespace_still_opening(struct op *op, struct namespace *ns);
/* Begins an OPEN, which leads until it ends; nobody leads. ERR_NOT_FOUND, ERR_FENCED,
 * and what the last OPEN said, too early for the next. ERR_BUSY: too many wait. */
enum err namespace_begin_open(struct op *op, struct namespace *ns);

/* ---- between the files of ns/; the lock is not held ---- */

/* How long to wait after so many failures in a row: first_ms, doubled with each more,
 * at most max_ms, and up to a quarter longer by chance. */
int64_t backoff_ms(unsigned times, int64_t first_ms, int64_t max_ms);
/* The log ends with a DROP: sees to it that the catalog says so, too. */
void namespace_help_drop(struct namespace *ns, int64_t deadline_ms);
/* ERR_DENIED unless this node may write the namespace. */
enum err namespace_check_writable(struct op *op, const struct namespace *ns);
struct commit_token namespace_token(const struct namespace *ns, uint64_t epoch,
                                    uint64_t slot);
/* Frees a group that was never settled; the namespace goes away. */
void commit_abandon(struct namespace *ns);

/* indexer.c: the tail becomes a segment and the log below it obsolete, with one new
 * manifest; nothing if there is no tail. ns->maintaining is the caller's. */
enum err indexer_tail(struct op *op, struct namespace *ns);
/* Some segments become one, with one new manifest; nothing if none should. eager:
 * whatever fits into segment_docs_max, whatever the cost. ns->merging is the caller's.
 */
enum err indexer_merge(struct op *op, struct namespace *ns, bool eager);
bool indexer_merge_due(struct namespace *ns, bool eager);
/* gc.c: deletes what no manifest needs any more. */
enum err gc_run(struct op *op, struct namespace *ns);
/* gc.c: deletes what index jobs that failed have written. */
enum err gc_leftovers(struct op *op, struct namespace *ns);
/* gc.c: deletes the objects of an incarnation whose DELETE is in the catalog, but for
 * its DROP and fences, which stay 30 days; nothing if it is not deleted. */
enum err gc_purge(struct op *op, const struct registry_options *env,
                  const struct keys *keys);

#endif
