/*
 * Reading. The owner answers from memory once one look at the log's end, begun after
 * the request arrived, has shown nothing newer; everybody else follows the log.
 * Requests that wait share the next look (ticket.h).
 */
#include "ns/namespace.h"

#include <stdio.h>

#include "base/op.h"
#include "ns/wal.h"
#include "store/store.h"

/* Something is in the slot we would write next, and it is not ours in flight. */
static void probe_found(struct op *op, struct namespace *ns, uint64_t slot,
                        struct slice bytes)
{
    struct wal_entry entry;
    char words[256];

    enum err e = wal_entry_decode(op, &ns->keys, slot, bytes, &entry);
    op_clear_error(op);
    if (!e && entry.kind == OBJECT_DROP) {
        namespace_dropped_locked(ns);
        return;
    }
    (void)
        snprintf(words, sizeof words,
                 "ownership conflict: namespace \"%s\" was taken over by another node",
                 ns->keys.name);
    namespace_fenced_locked(ns, words);
}

/* One GET of the slot behind the log's end. Lock held; released inside. */
static enum err probe(struct op *op, struct namespace *ns)
{
    struct buf bytes = BUF_INIT;
    uint64_t slot = ns->tenure.next, epoch = ns->tenure.epoch;
    struct key key = key_wal(&ns->keys, slot);
    uint64_t ticket = ticket_start(&ns->probes);

    ns->probes.running = true;
    mutex_unlock(&ns->lock);
    enum err e = store_get(op, ns->env->store, key.text, OBJECT_SIZE_MAX, &bytes);
    mutex_lock(&ns->lock);
    ns->probes.running = false;
    cond_broadcast(&ns->changed);

    if (e == ERR_NOT_FOUND) {
        op_clear_error(op);
        ticket_finish(&ns->probes, ticket);
        e = ERR_OK;
    } else if (!e && ns->state == NS_READY && ns->tenure.epoch == epoch &&
               ns->tenure.next == slot) {
        struct put_id found;
        bool own =
            object_put_id(buf_slice(&bytes), &found) && commit_in_flight(ns, &found);
        if (!own)
            probe_found(op, ns, slot, buf_slice(&bytes));
        else if (!ns->leading)
            e = commit_lead(op, ns); /* it was applied after all: settle it */
        else
            (void)cond_wait(&ns->changed, &ns->lock, op->deadline_ms);
    }
    buf_release(&bytes);
    return e;
}

/* The owner's strong read: what is in memory, once the log has nothing newer. */
static enum err owner_snapshot(struct op *op, struct namespace *ns, bool strong,
                               struct snapshot **out)
{
    mutex_lock(&ns->lock);
    uint64_t ticket = ticket_take(&ns->probes);
    enum err e = namespace_ensure_open(op, ns);
    while (!e && strong && !ticket_served(&ns->probes, ticket)) {
        e = op_check(op);
        if (!e && ns->probes.running) {
            if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
                e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
        } else if (!e) {
            e = probe(op, ns);
        }
        if (!e) e = namespace_ensure_open(op, ns);
    }
    if (!e) *out = snapshot_ref(ns->tenure.snapshot);
    mutex_unlock(&ns->lock);
    return e;
}

/* One refresh of the follower, whose snapshot everybody who waits gets. Lock held. */
static enum err refresh(struct op *op, struct namespace *ns)
{
    uint64_t number = ticket_start(&ns->refreshes);
    struct snapshot *old =
        ns->state == NS_READY ? snapshot_ref(ns->tenure.snapshot) : NULL;

    ns->refreshes.running = true;
    mutex_unlock(&ns->lock);
    enum err e =
        follower_refresh(op, ns->env, &ns->keys, ns->first_schema, old, &ns->follower);
    mutex_lock(&ns->lock);
    ns->refreshes.running = false;
    snapshot_unref(old);
    if (!e) {
        snapshot_unref(ns->followed);
        ns->followed = snapshot_ref(ns->follower.snapshot);
        ns->followed_ms = ns->follower.validated_ms;
        ticket_finish(&ns->refreshes, number);
    } else if (e == ERR_NOT_FOUND && ns->state != NS_READY) {
        ns->state = NS_DROPPED;
    }
    cond_broadcast(&ns->changed);
    return e;
}

/* The reader's: list the log behind what we know. */
static enum err follower_snapshot(struct op *op, struct namespace *ns, bool strong,
                                  struct snapshot **out)
{
    enum err e = ERR_OK;

    mutex_lock(&ns->lock);
    uint64_t ticket = ticket_take(&ns->refreshes);
    bool fresh =
        ns->followed && clock_ms() - ns->followed_ms <= ns->env->staleness_max_ms;
    while (!e && (strong || !fresh) && !ticket_served(&ns->refreshes, ticket)) {
        if (!ns->refreshes.running)
            e = refresh(op, ns);
        else if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
            e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
    }
    if (!e) *out = snapshot_ref(ns->followed);
    mutex_unlock(&ns->lock);
    return e;
}

static bool reaches(const struct snapshot *s, const struct commit_token *token)
{
    if (memcmp(s->incarnation, token->incarnation, sizeof s->incarnation) != 0)
        return true;
    return s->slot != UINT64_MAX && s->slot >= token->slot;
}

static enum err read_once(struct op *op, struct namespace *ns, bool strong,
                          struct snapshot **out)
{
    const struct registry_options *env = ns->env;
    bool owner =
        !env->read_only && (!env->owns || env->owns(env->context, ns->keys.name));

    if (owner) {
        enum err e = owner_snapshot(op, ns, strong, out);
        if (e != ERR_FENCED) return e;
        op_clear_error(op); /* the other one writes, but we can still read */
    }
    return follower_snapshot(op, ns, strong, out);
}

enum err namespace_snapshot(struct op *op, struct namespace *ns,
                            const struct read_options *options, struct snapshot **out)
{
    bool strong = options->consistency == CONSISTENCY_STRONG;
    struct snapshot *s = NULL;

    enum err e = read_once(op, ns, strong, &s);
    if (!e && options->min_commit && !strong && !reaches(s, options->min_commit)) {
        snapshot_unref(s);
        e = read_once(op, ns, true, &s);
    }
    if (e) return e;
    *out = s;
    return ERR_OK;
}
