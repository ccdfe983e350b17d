/*
 * Reading. The owner answers from memory once a look at the log's end, begun after the
 * request arrived, has shown nothing newer; everybody else follows the log, and so
 * does an owner of a distant store until it has opened the namespace.
 * Requests that wait share the next look (ticket.h).
 */
#include "ns/namespace.h"

#include <stdio.h>

#include "base/op.h"
#include "cache/cache.h"
#include "ns/object.h"
#include "store/store.h"

/* Something is in the slot we would write next, and it is not ours in flight. */
static void probe_found(struct op *op, struct namespace *ns, uint64_t slot,
                        struct slice bytes)
{
    char words[TENURE_WORDS_MAX];

    enum err e = tenure_lost_to(op, ns->env, &ns->keys, slot, bytes, words);
    if (e == ERR_NOT_FOUND)
        namespace_dropped_locked(ns);
    else
        namespace_fenced_locked(ns, words);
}

/* A read of a slot ended with e: was nothing there? That is no error. */
static enum err check_empty(struct op *op, enum err e, bool *empty)
{
    *empty = e == ERR_NOT_FOUND;
    if (!*empty) return e;
    op_clear_error(op);
    return ERR_OK;
}

/* Is nothing in this slot of the log? */
static enum err look(struct op *op, struct namespace *ns, uint64_t slot, bool *empty)
{
    uint8_t byte;
    struct key key = key_wal(&ns->keys, slot);
    struct store_range first = {.key = key.text, .size = 1, .data = &byte};

    return check_empty(op, store_read(op, ns->env->store, &first, 1), empty);
}

/* A put of ours is out for this slot. Nothing there, and then nothing behind it: the
 * put had not landed at the first look, nor had anybody stepped over it. */
static enum err look_beside_put(struct op *op, struct namespace *ns, uint64_t slot,
                                bool *current)
{
    enum err e = look(op, ns, slot, current);
    if (!e && *current) e = look(op, ns, slot + 1, current);
    return e;
}

/* No put of ours is out: nothing in the slot, or what lies there in *found. */
static enum err look_at_end(struct op *op, struct namespace *ns, uint64_t slot,
                            bool *current, struct buf *found)
{
    struct key key = key_wal(&ns->keys, slot);
    enum err e = store_get(op, ns->env->store, key.text, OBJECT_SIZE_MAX, found);
    return check_empty(op, e, current);
}

/*
 * Looks whether memory is current: whether the slot behind the log's end is empty.
 * While a put of ours is out that alone proves nothing: it may have landed there, been
 * stepped over by a new owner's fence and been collected, all before the look. That
 * fence stays in the slot behind, and a look there, begun after the first, tells.
 * *blocked: a put of ours is where only its end can tell. Lock held; released inside.
 */
static enum err probe(struct op *op, struct namespace *ns, bool *blocked)
{
    struct buf found = BUF_INIT;
    uint64_t slot = ns->tenure.next, epoch = ns->tenure.epoch, groups = ns->groups;
    uint64_t ticket = ticket_start(&ns->probes);
    int64_t began_ms = clock_ms();
    bool beside = ns->group != NULL, current = false;

    ns->probes.running = true;
    mutex_unlock(&ns->lock);
    enum err e = beside ? look_beside_put(op, ns, slot, &current)
                        : look_at_end(op, ns, slot, &current, &found);
    mutex_lock(&ns->lock);
    ns->probes.running = false;
    cond_broadcast(&ns->changed);

    bool conclusive = ns->state == NS_READY && ns->tenure.epoch == epoch &&
                      ns->tenure.next == slot && ns->groups == groups &&
                      (ns->group != NULL) == beside;
    *blocked = !e && conclusive && !current && beside;
    if (!e && conclusive && current) {
        ticket_finish(&ns->probes, ticket);
        ns->confirmed_ms = began_ms;
    } else if (!e && conclusive && !beside) {
        probe_found(op, ns, slot, buf_slice(&found));
    }
    buf_release(&found);
    return e;
}

/*
 * Lets the put that is out come to its end, which tells what a probe cannot. *wedged:
 * it does not, so the log itself must be read. Lock held; released inside.
 */
static enum err await_put(struct op *op, struct namespace *ns, bool *wedged)
{
    enum { PATIENCE_MS = 2000 };
    uint64_t out = ns->groups; /* a new group may lie where the last one did */
    int64_t until_ms = clock_ms() + PATIENCE_MS;

    if (until_ms > op->deadline_ms) until_ms = op->deadline_ms;
    *wedged = !ns->leading;
    while (ns->group && ns->groups == out && ns->leading && !*wedged)
        *wedged = !cond_wait(&ns->changed, &ns->lock, until_ms);
    return op_check(op);
}

/*
 * The owner's read: what is in memory, once the log has nothing newer; without a look
 * at the log while the last look is recent enough for an eventual read. *wedged: a put
 * whose outcome is unknown stands in the way.
 */
static enum err owner_snapshot(struct op *op, struct namespace *ns, bool strong,
                               struct snapshot **out, bool *wedged)
{
    enum { OPEN_PATIENCE_MS = 5000 };
    int64_t until_ms = clock_ms() + OPEN_PATIENCE_MS;

    if (until_ms > op->deadline_ms) until_ms = op->deadline_ms;
    mutex_lock(&ns->lock);
    uint64_t ticket = ticket_take(&ns->probes);
    /* Not even OPEN may pass it; writes and maintenance settle it. */
    *wedged = ns->group && ns->state != NS_READY;
    enum err e = *wedged ? ERR_OK : namespace_ensure_open(op, ns, until_ms);
    bool look = strong || clock_ms() - ns->confirmed_ms > ns->env->staleness_max_ms;

    while (!e && look && !*wedged && !ticket_served(&ns->probes, ticket)) {
        e = op_check(op);
        if (e) break;
        if (ns->probes.running) {
            if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
                e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
        } else {
            bool blocked = false;
            e = probe(op, ns, &blocked);
            if (!e && blocked) e = await_put(op, ns, wedged);
        }
        if (!e && !*wedged) e = namespace_ensure_open(op, ns, until_ms);
    }
    if (!e && !*wedged) *out = snapshot_ref(ns->tenure.snapshot);
    mutex_unlock(&ns->lock);
    return e;
}

/* Reading a whole log only to find that it does not fit is not done at once again. */
enum { FOLLOW_PAUSE_MS = 1000 };

static enum err check_pause(struct op *op, const struct namespace *ns)
{
    op->retry_after_ms = ns->follow_after_ms - clock_ms();
    if (op->retry_after_ms > 0)
        return op_fail(op, ERR_BUSY,
                       "there is no memory for the writes of namespace \"%s\" that "
                       "wait to be indexed",
                       ns->keys.name);
    op->retry_after_ms = 0;
    return ERR_OK;
}

/* One refresh of the follower, whose snapshot everybody who waits gets. Lock held. */
static enum err refresh(struct op *op, struct namespace *ns, uint64_t behind_max)
{
    uint64_t number = ticket_start(&ns->refreshes);
    bool reload = ns->followed_gone;
    struct snapshot *old =
        ns->state == NS_READY ? snapshot_ref(ns->tenure.snapshot) : NULL;
    struct refresh how = {.old = old, .gone = reload, .behind_max = behind_max};

    ns->refreshes.running = true;
    ns->followed_gone = false;
    mutex_unlock(&ns->lock);
    enum err e =
        follower_refresh(op, ns->env, &ns->keys, ns->first_schema, &how, &ns->follower);
    mutex_lock(&ns->lock);
    ns->refreshes.running = false;
    if (e && reload) ns->followed_gone = true;
    snapshot_unref(old);
    if (!e) {
        snapshot_unref(ns->followed);
        ns->followed = snapshot_ref(ns->follower.snapshot);
        ns->followed_ms = ns->follower.validated_ms;
        ticket_finish(&ns->refreshes, number);
    } else if (e == ERR_NOT_FOUND) {
        namespace_dropped_locked(ns);
    } else if (e == ERR_BUSY) {
        snapshot_unref(ns->followed);
        ns->followed = NULL;
        ns->follow_after_ms = clock_ms() + FOLLOW_PAUSE_MS;
        op->retry_after_ms = FOLLOW_PAUSE_MS;
    }
    cond_broadcast(&ns->changed);
    return e;
}

/* Is what we follow no newer than the snapshot that cannot be read any more? */
static bool is_gone(const struct snapshot *followed, const struct snapshot *gone)
{
    return gone && followed && followed->manifest_version <= gone->manifest_version;
}

/* The reader's: list the log behind what we know. behind_max: as in struct refresh. */
static enum err follower_snapshot(struct op *op, struct namespace *ns, bool strong,
                                  const struct snapshot *gone, uint64_t behind_max,
                                  struct snapshot **out)
{
    enum err e = ERR_OK;

    mutex_lock(&ns->lock);
    if (is_gone(ns->followed, gone)) ns->followed_gone = true;
    uint64_t ticket = ticket_take(&ns->refreshes);
    bool fresh =
        ns->followed && clock_ms() - ns->followed_ms <= ns->env->staleness_max_ms;
    if (strong || !fresh) e = check_pause(op, ns);
    /* What served the ticket may be gone again: an OPEN ended meanwhile. */
    while (!e && (strong || !fresh) &&
           (!ns->followed || !ticket_served(&ns->refreshes, ticket))) {
        if (!ns->refreshes.running)
            e = refresh(op, ns, behind_max);
        else if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
            e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
    }
    if (!e) *out = snapshot_ref(ns->followed);
    mutex_unlock(&ns->lock);
    return e;
}

static bool reaches(const struct snapshot *s, const struct commit_token *token)
{
    /* Of another incarnation: an earlier one that is over, or a later one that we have
     * not heard of. Only the store can tell. */
    return memcmp(s->incarnation, token->incarnation, sizeof s->incarnation) == 0 &&
           s->slot != UINT64_MAX && s->slot >= token->slot;
}

/* Can the namespace still be read when the owner's way ends like this? It takes a store
 * that accepts writes, and time for the OPEN; following takes neither. */
static bool can_follow(struct op *op, enum err e)
{
    bool other = e == ERR_FENCED || e == ERR_IO || e == ERR_DENIED || e == ERR_FULL ||
                 e == ERR_BUSY;
    if (!other || clock_ms() >= op->deadline_ms) return false;
    op_clear_error(op);
    op->retry_after_ms = 0;
    return true;
}

/*
 * Is the namespace being opened here, now if not before, and is that worth following
 * its log meanwhile, as others do? An OPEN claims the epoch and the log's end, one
 * behind the other; of a distant store a first read that waits for that takes half as
 * long again.
 */
static bool opens_slowly(struct op *op, struct namespace *ns)
{
    if (!cache_is_far(ns->env->cache)) return false;
    mutex_lock(&ns->lock);
    bool closed = ns->state != NS_READY && !ns->group;
    if (closed && !ns->leading && commit_lead(op, ns)) {
        op_clear_error(op); /* the owner's way has the words */
        op->retry_after_ms = 0;
    }
    bool opens = closed && ns->opening;
    mutex_unlock(&ns->lock);
    return opens;
}

/* A read of the owner's that need not wait for the OPEN. False: it has to; also where
 * the log is long, which the OPEN is reading already. */
static bool read_meanwhile(struct op *op, struct namespace *ns, bool strong,
                           const struct snapshot *gone, struct snapshot **out)
{
    enum { BEHIND_MAX = 16 };
    if (!opens_slowly(op, ns)) return false;
    if (follower_snapshot(op, ns, strong, gone, BEHIND_MAX, out)) {
        op_clear_error(op);
        op->retry_after_ms = 0;
        return false;
    }
    mutex_lock(&ns->lock);
    if (ns->state == NS_READY) namespace_unfollow_locked(ns);
    mutex_unlock(&ns->lock);
    return true;
}

static enum err read_once(struct op *op, struct namespace *ns,
                          const struct read_options *options, struct snapshot **out)
{
    const struct registry_options *env = ns->env;
    bool strong = options->consistency == CONSISTENCY_STRONG || options->gone;
    bool owner =
        !env->read_only && (!env->owns || env->owns(env->context, ns->keys.name));

    if (owner) {
        bool wedged;
        if (options->early && read_meanwhile(op, ns, strong, options->gone, out))
            return ERR_OK;
        enum err e = owner_snapshot(op, ns, strong, out, &wedged);
        bool follow = e ? can_follow(op, e) : wedged;
        if (!follow) return e;
    }
    return follower_snapshot(op, ns, strong, options->gone, 0, out);
}

enum err namespace_snapshot(struct op *op, struct namespace *ns,
                            const struct read_options *options, struct snapshot **out)
{
    struct read_options strong = {.early = options->early};
    struct snapshot *s = NULL;

    enum err e = read_once(op, ns, options, &s);
    bool eventual = options->consistency == CONSISTENCY_EVENTUAL && !options->gone;
    if (!e && options->min_commit && eventual && !reaches(s, options->min_commit)) {
        snapshot_unref(s);
        e = read_once(op, ns, &strong, &s);
    }
    if (e) return e;
    *out = s;
    return ERR_OK;
}
