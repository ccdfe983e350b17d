/*
 * Opening a namespace for writing. The OPEN itself (tenure.c) runs on a thread of the
 * opener's and leads the namespace meanwhile; requests wait for it, and go away without
 * harm to it. After failures it is tried again less and less often, and who comes too
 * early is told what the last one said.
 */
#include "ns/namespace.h"

#include <stdio.h>

#include "base/log.h"
#include "ns/ns_metrics.h"

enum {
    QUEUE_FULL_RETRY_MS = 1000,
    OPENING_RETRY_MS = 1000,
    OPEN_PAUSE_MS = 250,
    OPEN_PAUSE_MAX_MS = 30000
};

/* ---- the job ---- */

/* The namespace is ours. Lock held. */
static void begin_tenure(struct namespace *ns, const struct tenure *t, int64_t began_ms)
{
    ns->tenure = *t;
    ns->state = NS_READY;
    ns->committed_ms = ns->written_ms = clock_ms();
    ns->confirmed_ms = began_ms;
    /* Our fence was put behind all that was acknowledged before the OPEN began. */
    ticket_finish(&ns->probes, ns->opening_ticket);
    ns->collected_floor = 0;
    ns->collected_removed = 0;
    ns->gc_version = 0;
    ns->open_failed_times = 0;
    namespace_unfollow_locked(ns); /* its tail takes the memory that ours needs */
    namespace_set_snapshot_locked(ns, snapshot_ref(t->snapshot));
}

/* The OPEN failed: those who wait are told, and it is not tried again at once. Lock
 * held. */
static void open_failed(struct op *op, struct namespace *ns, enum err e)
{
    if (e == ERR_NOT_FOUND) namespace_dropped_locked(ns);
    if (e == ERR_FENCED) namespace_fenced_locked(ns, op->error);
    /* An epoch or a fence that may be there is nobody's request: the next OPEN takes
     * another one. Nor is the OPEN's deadline that of a request. */
    if (e == ERR_UNKNOWN || e == ERR_TIMEOUT || e == ERR_CANCELED) e = ERR_IO;
    ns->open_failures++;
    ns->open_err = e;
    (void)snprintf(ns->open_words, sizeof ns->open_words, "%s", op->error);
    if (e == ERR_NOT_FOUND || e == ERR_FENCED) return;
    ns->open_failed_times++;
    ns->open_after_ms = clock_ms() + backoff_ms(ns->open_failed_times, OPEN_PAUSE_MS,
                                                OPEN_PAUSE_MAX_MS);
    ns_count(NS_OPEN_FAILURES);
    log_warn(op, "a namespace could not be opened", "namespace=%s times=%u error=%s",
             ns->keys.name, ns->open_failed_times, op->error);
}

/* On a thread of the opener's; arg is a reference. */
static void open_namespace(struct op *op, void *arg)
{
    struct namespace *ns = arg;
    struct tenure t = {0};
    int64_t began_ms = clock_ms();

    enum err e = tenure_open(op, ns->env, &ns->keys, ns->first_schema, ns->next_record,
                             NULL, &t);
    if (e == ERR_NOT_FOUND) namespace_help_drop(ns, op->deadline_ms);
    mutex_lock(&ns->lock);
    if (e)
        open_failed(op, ns, e);
    else
        begin_tenure(ns, &t, began_ms);
    ns->opening = ns->leading = false;
    cond_broadcast(&ns->changed);
    mutex_unlock(&ns->lock);
    namespace_unref(ns);
}

/* ---- who wants it open ---- */

enum err namespace_open_failed(struct op *op, struct namespace *ns)
{
    op->retry_after_ms = ns->open_after_ms - clock_ms();
    return op_fail(op, ns->open_err, "%s", ns->open_words);
}

enum err namespace_still_opening(struct op *op, struct namespace *ns)
{
    op->retry_after_ms = OPENING_RETRY_MS;
    return op_fail(op, ERR_IO,
                   "namespace \"%s\" is being opened on this node since %lld ms, try "
                   "again later",
                   ns->keys.name, (long long)(clock_ms() - ns->opening_ms));
}

static enum err fenced_error(struct op *op, struct namespace *ns)
{
    op->retry_after_ms = ns->fenced_until_ms - clock_ms();
    return op_fail(op, ERR_FENCED, "%s", ns->fenced_words);
}

enum err namespace_begin_open(struct op *op, struct namespace *ns)
{
    if (ns->state == NS_DROPPED)
        return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"",
                       ns->keys.name);
    if (ns->state == NS_FENCED && clock_ms() < ns->fenced_until_ms)
        return fenced_error(op, ns);
    if (clock_ms() < ns->open_after_ms) return namespace_open_failed(op, ns);

    ns->opening = ns->leading = true;
    ns->opening_ms = clock_ms();
    ns->opening_ticket = ticket_start(&ns->probes);
    if (opener_submit(ns->opener, open_namespace, namespace_ref(ns))) return ERR_OK;
    ns->opening = ns->leading = false;
    namespace_unref(ns);
    op->retry_after_ms = QUEUE_FULL_RETRY_MS;
    return op_fail(op, ERR_BUSY, "too many namespaces are being opened on this node");
}

enum err namespace_ensure_open(struct op *op, struct namespace *ns, int64_t until_ms)
{
    unsigned failures = ns->open_failures;

    while (ns->state != NS_READY) {
        if (ns->state == NS_DROPPED)
            return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"",
                           ns->keys.name);
        if (ns->open_failures != failures) return namespace_open_failed(op, ns);
        if (!ns->leading) {
            enum err e = commit_lead(op, ns);
            if (e) return e;
        } else if (!cond_wait(&ns->changed, &ns->lock, until_ms)) {
            if (ns->opening) return namespace_still_opening(op, ns);
            return op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
        }
    }
    return ERR_OK;
}

enum err namespace_open(struct op *op, struct namespace *ns, struct commit_token *token)
{
    enum err e = namespace_check_writable(op, ns);
    if (e) return e;
    mutex_lock(&ns->lock);
    e = namespace_ensure_open(op, ns, op->deadline_ms);
    if (!e) *token = namespace_token(ns, ns->tenure.epoch, ns->tenure.snapshot->slot);
    mutex_unlock(&ns->lock);
    return e;
}
