#include "ns/upkeep.h"

#include "base/log.h"
#include "ns/namespace.h"
#include "ns/ns_metrics.h"
#include "ns/slowdown.h"

enum {
    MERGES_MAX = 64, /* of a namespace, before others have their turn */
    WORK_PAUSE_MS = 1000,
    WORK_PAUSE_MAX_MS = 60000,
    SETTLE_TIMEOUT_MS = 2000, /* so long one wedged namespace holds up the others */
    TAIL_ENTRIES_MAX = 1000   /* log entries that a restart may have to replay */
};

/* ---- when ---- */

/* At the latest after interval_ms, all segments that could be fewer are joined. */
static bool look_due(const struct namespace *ns)
{
    const struct registry_options *env = ns->env;
    return env->compaction && clock_ms() - ns->maintained_ms >= env->interval_ms;
}

/* Is it time to make the tail a segment? Lock held. */
static bool tail_due(struct namespace *ns)
{
    const struct registry_options *env = ns->env;
    const struct snapshot *s = ns->tenure.snapshot;

    if (ns->state != NS_READY) return false;
    if (s->slot + 1 <= ns->tenure.manifest->wm) return false;
    if (s->slot + 1 - ns->tenure.manifest->wm >= TAIL_ENTRIES_MAX) return true;
    return ns->tail_full || tail_long(env, s) ||
           clock_ms() - ns->written_ms >= env->tail_index_idle_ms;
}

bool upkeep_maintenance_due(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool ready = ns->state == NS_READY;
    bool collect = ready && (ns->gc_version != ns->tenure.manifest->version ||
                             clock_ms() >= ns->gc_again_ms);
    bool due = ns->group || collect || tail_due(ns);
    mutex_unlock(&ns->lock);
    return due;
}

bool upkeep_merge_due(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool look = look_due(ns);
    mutex_unlock(&ns->lock);
    return look || indexer_merge_due(ns, false);
}

bool upkeep_at_rest(struct namespace *ns)
{
    if (upkeep_maintenance_due(ns) || upkeep_merge_due(ns)) return false;
    mutex_lock(&ns->lock);
    bool done = ns->state != NS_READY ||
                (ns->gc_again_ms == INT64_MAX &&
                 ns->tenure.snapshot->slot + 1 <= ns->tenure.manifest->wm);
    done &= !ns->leading && !ns->maintaining && !ns->merging;
    mutex_unlock(&ns->lock);
    return done;
}

/* ---- pauses after failures ---- */

/* Background work on ns ended with e: after a failure the next of its kind waits,
 * longer each time. */
static void note_work(struct op *op, struct namespace *ns, struct pause *pause,
                      enum err e)
{
    if (e == ERR_CANCELED) return;
    mutex_lock(&ns->lock);
    pause->times = e ? pause->times + 1 : 0;
    int64_t pause_ms = backoff_ms(pause->times, WORK_PAUSE_MS, WORK_PAUSE_MAX_MS);
    pause->until_ms = e ? clock_ms() + pause_ms : 0;
    unsigned times = pause->times;
    mutex_unlock(&ns->lock);
    if (!e) return;
    ns_count(NS_WORK_FAILURES);
    log_warn(op, "background work failed, will try again",
             "namespace=%s times=%u pause_ms=%lld error=%s", ns->keys.name, times,
             (long long)pause_ms, op->error);
}

/* After a failure, is it too early for the next attempt? */
static bool pausing(struct namespace *ns, const struct pause *pause)
{
    mutex_lock(&ns->lock);
    bool pausing = clock_ms() < pause->until_ms;
    mutex_unlock(&ns->lock);
    return pausing;
}

/* ---- doing it, one at a time ---- */

/* May work that the flag stands for (one of ns->maintaining and ns->merging) begin?
 * Unless it is only if due: waits for the one in progress. *busy: no, there is nothing
 * to be done now. */
static enum err claim(struct op *op, struct namespace *ns, bool *flag, enum work work,
                      bool *busy)
{
    bool force = work != WORK_IF_DUE;
    enum err e = ERR_OK;

    mutex_lock(&ns->lock);
    while (force && *flag && !e)
        if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
            e = op_fail(op, ERR_TIMEOUT,
                        "the deadline of this request has passed while namespace "
                        "\"%s\" is being indexed",
                        ns->keys.name);
    if (!e && force && ns->state != NS_READY)
        e = op_fail(op, ERR_IO, "namespace \"%s\" was closed meanwhile, try again",
                    ns->keys.name);
    *busy = *flag || ns->state != NS_READY;
    if (!e && !*busy) *flag = true;
    mutex_unlock(&ns->lock);
    return e;
}

static void unclaim(struct namespace *ns, bool *flag)
{
    mutex_lock(&ns->lock);
    *flag = false;
    cond_broadcast(&ns->changed);
    mutex_unlock(&ns->lock);
}

/* Goes on with a put whose outcome is unknown, for a little while. */
static enum err settle(struct op *op, struct namespace *ns)
{
    struct op step;
    int64_t deadline_ms = clock_ms() + SETTLE_TIMEOUT_MS;

    if (deadline_ms > op->deadline_ms) deadline_ms = op->deadline_ms;
    op_init(&step, deadline_ms, 0);
    enum err e = namespace_settle(&step, ns);
    if (e) e = op_fail(op, e, "%s", step.error);
    op_release(&step);
    return e;
}

/* Makes the tail a segment if it is time. */
static enum err index_tail(struct op *op, struct namespace *ns, enum work work)
{
    bool busy;

    enum err e = claim(op, ns, &ns->maintaining, work, &busy);
    if (e || busy) return e;
    mutex_lock(&ns->lock);
    bool due = work != WORK_IF_DUE || tail_due(ns);
    mutex_unlock(&ns->lock);
    if (due) e = indexer_tail(op, ns);
    unclaim(ns, &ns->maintaining);
    return e;
}

/* Merges until no more segments should become one. */
static enum err merge_all(struct op *op, struct namespace *ns, enum work work)
{
    bool busy, eager;

    mutex_lock(&ns->lock);
    eager = work == WORK_COMPACT || look_due(ns);
    mutex_unlock(&ns->lock);
    if (!indexer_merge_due(ns, eager) && !eager) return ERR_OK;
    enum err e = claim(op, ns, &ns->merging, work, &busy);
    if (e || busy) return e;
    for (int i = 0; !e && i < MERGES_MAX && indexer_merge_due(ns, eager); i++)
        e = indexer_merge(op, ns, eager);
    mutex_lock(&ns->lock);
    if (eager && !e) ns->maintained_ms = clock_ms();
    mutex_unlock(&ns->lock);
    unclaim(ns, &ns->merging);
    return e;
}

/* Deletes what is obsolete. */
static enum err collect(struct op *op, struct namespace *ns, enum work work)
{
    bool busy;

    enum err e = claim(op, ns, &ns->maintaining, work, &busy);
    if (e || busy) return e;
    e = gc_run(op, ns);
    unclaim(ns, &ns->maintaining);
    return e;
}

enum err upkeep_maintain(struct op *op, struct namespace *ns, enum work work)
{
    if (work == WORK_IF_DUE && pausing(ns, &ns->work_pause)) return ERR_OK;
    enum err e = settle(op, ns);
    if (!e) e = index_tail(op, ns, work);
    if (!e) e = collect(op, ns, work);
    note_work(op, ns, &ns->work_pause, e);
    return e;
}

enum err upkeep_merge(struct op *op, struct namespace *ns, enum work work)
{
    if (work == WORK_IF_DUE && pausing(ns, &ns->merge_pause)) return ERR_OK;
    enum err e = merge_all(op, ns, work);
    note_work(op, ns, &ns->merge_pause, e);
    return e;
}

enum err upkeep_run(struct op *op, struct namespace *ns, enum work work)
{
    struct commit_token token;
    enum err e = ERR_OK;

    if (work != WORK_IF_DUE) e = namespace_open(op, ns, &token);
    if (!e) e = upkeep_maintain(op, ns, work);
    if (!e && work != WORK_INDEX) e = upkeep_merge(op, ns, work);
    if (!e && work == WORK_COMPACT) e = collect(op, ns, work);
    return e == ERR_UNKNOWN ? ERR_IO : e;
}
