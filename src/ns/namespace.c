#include "ns/namespace.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/op.h"
#include "cache/cache.h"
#include "ns/ns_metrics.h"

enum { FENCED_PAUSE_MS = 5000, FENCED_PAUSE_MAX_MS = 60000 };

/* ---- life ---- */

struct namespace *namespace_new(const struct registry_options *env,
                                struct opener *opener, const char *name,
                                const struct catalog_record *record)
{
    struct namespace *ns = mem_new(struct namespace);
    atomic_init(&ns->refs, 1);
    ns->env = env;
    ns->opener = opener;
    keys_init(&ns->keys, env->wal_prefix, name, record->incarnation);
    ns->first_schema = schema_ref(record->schema);
    ns->next_record = record->n + 1;
    mutex_init(&ns->lock);
    cond_init(&ns->changed);
    ns->queue_end = &ns->queue;
    ns->maintained_ms = clock_ms();
    return ns;
}

struct namespace *namespace_ref(struct namespace *ns)
{
    atomic_fetch_add(&ns->refs, 1);
    return ns;
}

void namespace_unref(struct namespace *ns)
{
    if (atomic_fetch_sub(&ns->refs, 1) != 1) return;
    assert(!ns->queue);
    commit_abandon(ns);
    (void)tail_hold(ns->env, &ns->reserved, 0);
    tenure_release(&ns->tenure);
    snapshot_unref(ns->frozen);
    for (uint32_t i = 0; i < ns->damaged_count; i++)
        segment_unref(ns->damaged[i]);
    mem_free(ns->damaged);
    for (uint32_t i = 0; i < ns->leftover_count; i++)
        mem_free(ns->leftovers[i]);
    mem_free(ns->leftovers);
    follower_release(&ns->follower, ns->env);
    snapshot_unref(ns->followed);
    schema_unref(ns->first_schema);
    cond_release(&ns->changed);
    mutex_release(&ns->lock);
    mem_free(ns);
}

int64_t backoff_ms(unsigned times, int64_t first_ms, int64_t max_ms)
{
    int64_t pause_ms = first_ms;
    for (; times > 1 && pause_ms < max_ms; times--)
        pause_ms *= 2;
    if (pause_ms > max_ms) pause_ms = max_ms;
    return pause_ms + (int64_t)random_below((uint64_t)pause_ms / 4 + 1);
}

/* ---- state changes, lock held ---- */

void namespace_unfollow_locked(struct namespace *ns)
{
    if (ns->refreshes.running) return;
    follower_release(&ns->follower, ns->env);
    snapshot_unref(ns->followed);
    ns->followed = NULL;
}

void namespace_set_snapshot_locked(struct namespace *ns, struct snapshot *next)
{
    snapshot_unref(ns->tenure.snapshot);
    ns->tenure.snapshot = next;
    /* Room was made before the write was sent (commit.c); what a replay brings back is
     * there whether it fits or not, and then nothing is accepted until it is indexed.
     */
    (void)tail_hold(ns->env, &ns->reserved, next->tail_bytes);
}

static void end_tenure(struct namespace *ns, enum namespace_state state)
{
    for (uint32_t i = 0; i < ns->damaged_count; i++)
        segment_unref(ns->damaged[i]);
    ns->damaged_count = 0;
    tenure_release(&ns->tenure);
    (void)tail_hold(ns->env, &ns->reserved, 0);
    ns->tail_full = false;
    snapshot_unref(ns->frozen);
    ns->frozen = NULL;
    ns->frozen_tail = 0;
    ns->state = state;
    cond_broadcast(&ns->changed);
}

void namespace_close_locked(struct namespace *ns)
{
    if (ns->state == NS_READY) end_tenure(ns, NS_CLOSED);
}

void namespace_fenced_locked(struct namespace *ns, const char *words)
{
    int64_t pause_ms =
        backoff_ms(ns->fenced_times + 1, FENCED_PAUSE_MS, FENCED_PAUSE_MAX_MS);

    ns_count(NS_FENCINGS);
    log_warn(NULL, "another node took the namespace",
             "namespace=%s words=%s pause_ms=%lld", ns->keys.name, words,
             (long long)pause_ms);
    end_tenure(ns, NS_FENCED);
    ns->fenced_times++;
    ns->fenced_until_ms = clock_ms() + pause_ms;
    (void)snprintf(ns->fenced_words, sizeof ns->fenced_words, "%s", words);
    commit_fail_queue(ns, ERR_FENCED, words);
}

void namespace_dropped_locked(struct namespace *ns)
{
    char words[NAMESPACE_NAME_MAX + 64];
    (void)snprintf(words, sizeof words, "there is no namespace \"%s\"", ns->keys.name);
    end_tenure(ns, NS_DROPPED);
    commit_fail_queue(ns, ERR_NOT_FOUND, words);
}

bool namespace_dropped(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool dropped = ns->state == NS_DROPPED;
    mutex_unlock(&ns->lock);
    return dropped;
}

bool namespace_idle(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool idle = atomic_load(&ns->refs) == 1 && !ns->group;
    mutex_unlock(&ns->lock);
    return idle;
}

enum err namespace_check_writable(struct op *op, const struct namespace *ns)
{
    const struct registry_options *env = ns->env;
    if (!env->read_only && (!env->owns || env->owns(env->context, ns->keys.name)))
        return ERR_OK;
    return op_fail(op, ERR_DENIED, "this node does not own namespace \"%s\"",
                   ns->keys.name);
}

void namespace_help_drop(struct namespace *ns, int64_t deadline_ms)
{
    struct op op;
    op_init(&op, deadline_ms, 0);
    (void)catalog_help_drop(&op, ns->env->store, &ns->keys, ns->env->wal_prefix,
                            ns->env->node_id); /* logged there */
    op_release(&op);
}

struct commit_token namespace_token(const struct namespace *ns, uint64_t epoch,
                                    uint64_t slot)
{
    struct commit_token token = {.epoch = epoch, .slot = slot};
    memcpy(token.incarnation, ns->keys.incarnation, sizeof token.incarnation);
    return token;
}

/* ---- asking ---- */

enum err namespace_info(struct op *op, struct namespace *ns, struct namespace_info *out)
{
    static const char *const names[] = {"closed", "ready", "fenced", "dropped"};
    struct read_options options = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;

    enum err e = namespace_snapshot(op, ns, &options, &s);
    if (e) return e;
    *out = (struct namespace_info){.schema = schema_ref(s->schema),
                                   .documents = s->row_count,
                                   .tail_rows = s->tail_rows,
                                   .tail_bytes = s->tail_bytes,
                                   .epoch = s->epoch,
                                   .manifest_version = s->manifest_version,
                                   .wal_next_slot = s->slot + 1};
    memcpy(out->incarnation, s->incarnation, sizeof out->incarnation);
    for (uint32_t i = 0; i < s->source_count; i++) {
        if (!s->sources[i].stored) continue;
        out->segments++;
        out->segment_bytes += segment_size(s->sources[i].segment);
    }
    snapshot_unref(s);

    mutex_lock(&ns->lock);
    out->state = ns->group && !ns->leading ? "wedged" : names[ns->state];
    if (ns->opening) out->state = "opening";
    if (ns->state == NS_READY) {
        out->wal_first_slot = ns->tenure.manifest->floor;
        out->indexing = ns->frozen || ns->merging;
    } else {
        if (ns->state == NS_CLOSED && !ns->opening) out->state = "reader";
    }
    mutex_unlock(&ns->lock);
    return ERR_OK;
}
