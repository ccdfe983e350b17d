/*
 * Group commit. A write is a struct pending in the queue; whoever waits and finds
 * nobody leading leads: it gathers what is queued into one log entry (a struct group),
 * sends it until its outcome is known, applies it and answers everybody in it. A group
 * whose outcome stays unknown past the leader's deadline remains, and the next leader
 * goes on with the same bytes: nothing else is ever written to that slot.
 */
#include "ns/namespace.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/op.h"
#include "base/rowset.h"
#include "ns/ns_metrics.h"
#include "ns/pace.h"
#include "ns/slowdown.h"
#include "ns/wal.h"

enum {
    BUSY_RETRY_MS = 1000,
    CONFIRM_AGE_MAX_MS = 24 * 3600 * 1000,
    QUEUE_BYTES_MAX = 32 << 20,
    /* While queries run, a fifth of the time, once the first of them are over. */
    WRITE_PATIENCE = 4,
    WRITE_CREDIT_US = 20000
};

/* ---- between queries ---- */

static void rest(void *context)
{
    pace_rest(context);
}

/* Work on op is done between queries from now on, until pace_end. */
static void pace_begin(struct op *op, const struct namespace *ns, struct pace *p)
{
    *p = pace_start(ns->env->queries, WRITE_PATIENCE, WRITE_CREDIT_US);
    op->rest = rest;
    op->rest_context = p;
}

static void pace_end(struct op *op)
{
    op->rest = NULL;
}

/* A write that waits. The waiter and the queue or group hold one reference each. */
struct pending {
    unsigned refs;
    struct pending *next;
    enum object_kind kind; /* OBJECT_DATA or OBJECT_DROP */
    struct prepared prepared;
    struct buf batch;             /* encoded */
    struct schema *schema;        /* the one batch was encoded under */
    enum id_kind filter_ids;      /* what ids the filter names */
    const struct filter *filter;  /* delete what matches, … */
    const struct batch *extra;    /* … and these; both are the waiter's memory, … */
    bool lent;                    /* … which the leader reads right now */
    struct slice idempotency_key; /* a copy */
    uint8_t digest[16];
    bool exclusive; /* needs an entry of its own, seen by nothing beside it */
    bool done;
    enum err err;
    char words[OP_ERROR_MAX];
    int64_t retry_after_ms;
    struct write_result result;
};

/* One log entry on its way. */
struct group {
    struct pending *members;
    size_t count;
    struct wal_entry entry;
    struct key key;
    struct buf bytes;
    struct settle settle;
    uint64_t ticket;    /* of ns->probes, taken when it was first sent; 0: not yet */
    int64_t started_ms; /* when that was */
};

static void pending_unref(struct pending *p)
{
    if (--p->refs) return;
    prepared_release(&p->prepared);
    buf_release(&p->batch);
    schema_unref(p->schema);
    mem_free((void *)(uintptr_t)p->idempotency_key.data);
    mem_free(p);
}

static uint64_t pending_memory(const struct pending *p)
{
    return p->batch.size +
           (p->prepared.segment ? segment_memory(p->prepared.segment) : 0);
}

static void pending_finish(struct pending *p, enum err e, const char *words)
{
    p->done = true;
    p->err = e;
    (void)snprintf(p->words, sizeof p->words, "%s", words ? words : "");
    pending_unref(p); /* the queue's or group's */
}

static void group_free(struct group *g)
{
    buf_release(&g->bytes);
    mem_free(g->entry.requests);
    mem_free(g);
}

void commit_fail_queue(struct namespace *ns, enum err e, const char *words)
{
    while (ns->queue) {
        struct pending *p = ns->queue;
        ns->queue = p->next;
        pending_finish(p, e, words);
    }
    ns->queue_end = &ns->queue;
    ns->queue_bytes = 0;
    cond_broadcast(&ns->changed);
}

/* Ends the group: all its members get the same answer. */
static void fail_group(struct namespace *ns, enum err e, const char *words)
{
    struct group *g = ns->group;
    ns->group = NULL;
    while (g->members) {
        struct pending *p = g->members;
        g->members = p->next;
        pending_finish(p, e, words);
    }
    group_free(g);
    cond_broadcast(&ns->changed);
}

void commit_abandon(struct namespace *ns)
{
    if (!ns->group) return;
    while (ns->group->members) {
        struct pending *p = ns->group->members;
        ns->group->members = p->next;
        pending_unref(p);
    }
    group_free(ns->group);
    ns->group = NULL;
}

/* ---- leading: settling ---- */

static void remember_key(struct namespace *ns, const struct pending *p,
                         const struct applied *applied)
{
    if (p->idempotency_key.size == 0) return;
    struct idempotency_entry known = {.key = p->idempotency_key,
                                      .slot = ns->group->entry.slot,
                                      .wall_ms = ns->group->entry.wall_ms,
                                      .upserted = applied->upserted,
                                      .deleted = applied->deleted};
    memcpy(known.digest, p->digest, sizeof known.digest);
    idempotency_add(ns->tenure.table, &known);
}

/* The group's entry is in the log: make it visible, then answer. Lock held. */
static enum err apply_group(struct op *op, struct namespace *ns)
{
    struct group *g = ns->group;
    struct prepared *prepared = op_new_array(op, struct prepared, g->count);
    struct applied *applied = op_new_array(op, struct applied, g->count);
    struct snapshot *next = NULL;
    size_t i = 0;

    for (struct pending *p = g->members; p; p = p->next)
        prepared[i++] = p->prepared; /* borrowed */
    enum err e = state_apply(op, ns->tenure.snapshot, prepared, g->count, g->entry.slot,
                             g->entry.epoch, &next, applied);
    if (e) {
        /* It is durable but not in our memory: only a replay can put that right. */
        fail_group(ns, ERR_UNKNOWN, op->error);
        namespace_close_locked(ns);
        return e;
    }

    i = 0;
    for (struct pending *p = g->members; p; p = p->next, i++) {
        remember_key(ns, p, &applied[i]);
        p->result = (struct write_result){.upserted = applied[i].upserted,
                                          .deleted = applied[i].deleted,
                                          .token = namespace_token(ns, g->entry.epoch,
                                                                   g->entry.slot)};
    }
    ns->tenure.last = g->entry.put_id;
    ns->tenure.next++;
    ns->committed_ms = ns->written_ms = clock_ms();
    ns->fenced_times = 0;
    namespace_set_snapshot_locked(ns, next);
    fail_group(ns, ERR_OK, NULL);
    return ERR_OK;
}

/* Another's object is in our slot: our tenure is over, if it was not before. */
static void taken_group(struct op *op, struct namespace *ns, bool ours,
                        struct slice other)
{
    char words[TENURE_WORDS_MAX];

    enum err e =
        tenure_lost_to(op, ns->env, &ns->keys, ns->group->entry.slot, other, words);
    fail_group(ns, e, words);
    if (e == ERR_NOT_FOUND)
        namespace_dropped_locked(ns);
    else if (ours)
        namespace_fenced_locked(ns, words);
}

/*
 * Another's entry is in the slot, after an attempt of ours whose answer was lost. Ours
 * was surely not applied only while the log still reaches down to the slot: behind its
 * floor, ours may have been there, been indexed and collected, and a late duplicate of
 * another's may have taken the name since. Lock not held.
 */
static bool surely_not_applied(struct op *op, struct namespace *ns,
                               const struct group *g)
{
    struct manifest *newest = NULL;
    enum err e = manifest_newest(op, ns->env->store, &ns->keys, &newest);
    bool reaches = !e && newest && newest->floor <= g->entry.slot;
    manifest_unref(newest);
    op_clear_error(op);
    return reaches;
}

/* The outcome of the group's entry is known: applies it, or tells its members what
 * became of it. doubtful: it may have been applied all the same. Lock held. */
static enum err conclude(struct op *op, struct namespace *ns, enum settled outcome,
                         bool doubtful, struct slice other)
{
    struct group *g = ns->group;
    bool ours = ns->state == NS_READY && ns->tenure.epoch == g->entry.epoch;

    if (outcome == SETTLED_TAKEN && !doubtful) {
        taken_group(op, ns, ours, other);
    } else if (outcome == SETTLED_VANISHED || doubtful) {
        fail_group(ns, ERR_UNKNOWN,
                   "the namespace was taken over while this was written");
        if (ours)
            namespace_fenced_locked(ns,
                                    "ownership conflict: the log was collected by a "
                                    "newer owner");
    } else if (g->entry.kind == OBJECT_DROP) {
        fail_group(ns, ERR_OK, NULL);
        namespace_dropped_locked(ns);
    } else if (!ours) {
        /* Durable, but what it did will be known only after a replay. */
        fail_group(ns, ERR_UNKNOWN, "the namespace was closed while this was written");
    } else {
        /* A put that was started after a read arrived proves what a probe would. */
        ticket_finish(&ns->probes, g->ticket);
        ns->confirmed_ms = g->started_ms;
        return apply_group(op, ns);
    }
    return ERR_OK;
}

/* Sends the group's entry until its outcome is known. Lock held; released inside. */
static enum err lead_settle(struct op *op, struct namespace *ns)
{
    struct group *g = ns->group;
    struct buf other = BUF_INIT;
    enum settled outcome;

    if (!g->ticket) {
        g->ticket = ticket_start(&ns->probes);
        g->started_ms = clock_ms();
    }
    mutex_unlock(&ns->lock);
    enum err e = settle_create(op, ns->env->store, &g->settle, &outcome, &other);
    bool doubtful = !e && outcome == SETTLED_TAKEN && g->settle.ambiguous &&
                    !surely_not_applied(op, ns, g);
    mutex_lock(&ns->lock);

    /* While it is unknown it stays; whoever leads next goes on. */
    if (!e)
        e = conclude(op, ns, outcome, doubtful, buf_slice(&other));
    else if (e != ERR_UNKNOWN)
        fail_group(ns, e, op->error);
    buf_release(&other);
    return e;
}

/* ---- leading: sealing ---- */

/* Answers from the table of keys; true if the request needs no commit. */
static bool answer_repeat(struct namespace *ns, struct pending *p)
{
    if (p->idempotency_key.size == 0) return false;
    const struct idempotency_entry *known =
        idempotency_find(ns->tenure.table, p->idempotency_key);
    if (!known) return false;

    if (memcmp(known->digest, p->digest, sizeof p->digest) != 0) {
        pending_finish(p, ERR_REUSED,
                       "this Idempotency-Key was used with another request");
        return true;
    }
    p->result = (struct write_result){
        .upserted = known->upserted,
        .deleted = known->deleted,
        .repeated = true,
        .token = namespace_token(ns, ns->tenure.epoch, known->slot),
    };
    pending_finish(p, ERR_OK, NULL);
    return true;
}

/* Was p made under another schema than one that today's continues? Attributes are only
 * ever added, so a shorter one is fine unless the request itself adds some. Another one
 * belongs to a namespace of this name that is gone. */
static bool of_another_schema(const struct snapshot *s, const struct pending *p)
{
    return !schema_continues(s->schema, p->schema) ||
           (p->filter_ids != ID_NONE && p->filter_ids != s->id_kind) ||
           (p->prepared.schema && !schema_equal(p->schema, s->schema));
}

static void refuse_ids(const struct namespace *ns, struct pending *p)
{
    char words[NAMESPACE_NAME_MAX + 80];
    bool numbers = ns->tenure.snapshot->id_kind == ID_U64;
    (void)snprintf(words, sizeof words,
                   "namespace \"%s\" has %s ids, fixed by its first write",
                   ns->keys.name, numbers ? "integer" : "string");
    pending_finish(p, ERR_INVALID, words);
}

static void refuse_for_now(struct namespace *ns, struct pending *p)
{
    ns->tail_full = true;
    p->retry_after_ms = BUSY_RETRY_MS;
    pending_finish(p, ERR_BUSY, "too many writes wait to be indexed, try again later");
}

/* What stands against committing p now, behind so many bytes that others add to the
 * tail; answers it and says true. */
static bool refuse(struct namespace *ns, struct pending *p, uint64_t gathered_bytes)
{
    const struct snapshot *s = ns->tenure.snapshot;
    uint64_t tail_bytes = s->tail_bytes + gathered_bytes + pending_memory(p);

    if (answer_repeat(ns, p)) return true;
    if (p->kind == OBJECT_DROP) return false;
    if (of_another_schema(s, p))
        pending_finish(p, ERR_CONFLICT, "the schema changed meanwhile");
    else if (p->prepared.id_kind != ID_NONE && s->id_kind != ID_NONE &&
             p->prepared.id_kind != s->id_kind)
        refuse_ids(ns, p);
    else if (tail_bytes > ns->env->tail_bytes_max ||
             !tail_hold(ns->env, &ns->reserved, tail_bytes))
        refuse_for_now(ns, p);
    else
        return false;
    return true;
}

static struct pending *dequeue(struct namespace *ns)
{
    struct pending *p = ns->queue;
    ns->queue = p->next;
    if (!ns->queue) ns->queue_end = &ns->queue;
    ns->queue_bytes -= pending_memory(p);
    p->next = NULL;
    return p;
}

/* May p share the entry with those already taken? Same id kind and no repeated key,
 * which only the state after them could judge. */
static bool joins(const struct group *g, const struct pending *p, uint64_t bytes,
                  uint64_t bytes_max)
{
    if (g->count == 0) return true;
    if (p->exclusive || g->members->exclusive) return false;
    if (g->count == WAL_REQUESTS_MAX || bytes + p->batch.size > bytes_max) return false;
    for (const struct pending *m = g->members; m; m = m->next) {
        if (p->prepared.id_kind != ID_NONE && m->prepared.id_kind != ID_NONE &&
            p->prepared.id_kind != m->prepared.id_kind)
            return false;
        if (p->idempotency_key.size &&
            slice_equal(p->idempotency_key, m->idempotency_key))
            return false;
    }
    return true;
}

static void encode_group(struct namespace *ns, struct group *g)
{
    g->entry = (struct wal_entry){
        .kind = g->members->kind,
        .slot = ns->tenure.next,
        .epoch = ns->tenure.epoch,
        .put_id = put_id_new(),
        .prev = ns->tenure.last,
        .wall_ms = (uint64_t)clock_wall_ms(),
        .node_id = slice_str(ns->env->node_id),
        .fingerprint = ns->env->config_fingerprint,
        .request_count = g->count,
    };
    g->entry.requests = mem_new_array(struct wal_request, g->count);
    size_t i = 0;
    for (struct pending *p = g->members; p; p = p->next, i++) {
        g->entry.requests[i].batch = buf_slice(&p->batch);
        g->entry.requests[i].idempotency_key = p->idempotency_key;
        memcpy(g->entry.requests[i].digest, p->digest, sizeof p->digest);
    }
    wal_entry_encode(&g->entry, ns->keys.incarnation, &g->bytes);
    g->key = key_wal(&ns->keys, g->entry.slot);
    g->settle = (struct settle){.key = g->key.text, .bytes = buf_slice(&g->bytes)};
    for (struct pending *p = g->members; p; p = p->next)
        buf_release(&p->batch); /* its bytes are in the entry now */
}

/* Encodes a request for the log. ERR_LIMIT: an entry of that size could be written, but
 * not read back. */
static enum err encode_batch(struct op *op, const struct namespace *ns,
                             const struct batch *batch, const struct schema *schema,
                             struct buf *out)
{
    batch_encode(batch, schema, out);
    if (out->size <= ns->env->request_bytes_max) return ERR_OK;
    return op_fail(op, ERR_LIMIT,
                   "this write takes %zu bytes in the log, more than the %llu of one "
                   "request",
                   out->size, (unsigned long long)ns->env->request_bytes_max);
}

static enum err room_for_deletes(struct op *op, struct batch *batch, size_t count,
                                 size_t count_max, size_t *capacity)
{
    size_t wanted = batch->delete_count + count;
    if (wanted > count_max)
        return op_fail(op, ERR_LIMIT,
                       "the filter matches more than %zu documents, which is too many "
                       "for one request",
                       count_max);
    if (wanted <= *capacity) return ERR_OK;
    struct doc_id *larger = op_new_array(op, struct doc_id, 2 * wanted);
    if (!larger) return ERR_LIMIT;
    if (batch->delete_count)
        memcpy(larger, batch->deletes, batch->delete_count * sizeof *larger);
    batch->deletes = larger;
    *capacity = 2 * wanted;
    return ERR_OK;
}

/* Ids of the live documents that match, beside those that were named, as deletes of p.
 * Lock not held. */
static enum err resolve_filter(struct op *op, const struct namespace *ns,
                               const struct snapshot *s, struct pending *p)
{
    size_t deletes_max = ns->env->request_bytes_max / sizeof(struct doc_id);
    struct batch batch = *p->extra;
    size_t capacity = batch.delete_count; /* full, so what is the waiter's is copied */

    for (uint32_t i = 0; i < s->source_count; i++) {
        enum { CHUNK = 1024 };
        const struct source *source = &s->sources[i];
        uint32_t rows[CHUNK], from = 0;
        struct rowset *match = NULL;

        enum err e = segment_filter(op, source->segment, p->filter, NULL, NULL, &match);
        if (e) return e;
        if (source->dead) rowset_andnot(match, source->dead);
        e = room_for_deletes(op, &batch, rowset_count(match), deletes_max, &capacity);
        for (size_t n; !e && (n = rowset_read(match, from, rows, CHUNK)) > 0;
             from = rows[n - 1] + 1)
            for (size_t k = 0; k < n; k++)
                batch.deletes[batch.delete_count++] =
                    segment_id(source->segment, rows[k]);
        rowset_unref(match);
        if (e) return e;
    }
    enum err e = batch_unique(op, &batch);
    if (!e) e = prepared_make(op, &batch, s->schema, &p->prepared);
    if (!e) e = encode_batch(op, ns, &batch, s->schema, &p->batch);
    return e;
}

/* The group's only member deletes by filter: find out what, at the state before it. */
static enum err resolve_group(struct op *op, struct namespace *ns, struct group *g)
{
    struct pending *p = g->members;
    struct snapshot *s = snapshot_ref(ns->tenure.snapshot);
    struct tenure t = tenure_mark(&ns->tenure);

    p->lent = true;
    mutex_unlock(&ns->lock);
    enum err e = resolve_filter(op, ns, s, p);
    snapshot_unref(s);
    if (e == ERR_NOT_FOUND) e = tenure_missing(op, ns->env, &ns->keys, &t);
    mutex_lock(&ns->lock);
    p->lent = false;
    cond_broadcast(&ns->changed);
    return e;
}

/* Collects what can share one entry. NULL: nothing is left that needs a commit. */
static struct group *gather(struct namespace *ns)
{
    struct group *g = mem_new(struct group);
    struct pending **end = &g->members;
    uint64_t bytes = 0, bytes_max = ns->env->commit_bytes_max, memory = 0;

    if (bytes_max > WAL_BATCH_SIZE_MAX) bytes_max = WAL_BATCH_SIZE_MAX;

    while (ns->queue) {
        struct pending *p = ns->queue;
        if (!joins(g, p, bytes, bytes_max)) break;
        (void)dequeue(ns);
        if (refuse(ns, p, memory)) continue;
        *end = p;
        end = &p->next;
        g->count++;
        bytes += p->batch.size;
        memory += pending_memory(p);
    }
    cond_broadcast(&ns->changed);
    if (g->count) return g;
    group_free(g);
    return NULL;
}

/* Waits until the last commit is commit_interval_ms ago. Lock held. */
static void pace(struct op *op, struct namespace *ns)
{
    int64_t until_ms = ns->commit_started_ms + ns->env->commit_interval_ms;
    if (until_ms > op->deadline_ms) until_ms = op->deadline_ms;
    while (clock_ms() < until_ms)
        (void)cond_wait(&ns->changed, &ns->lock, until_ms);
}

/* After a day of silence, make sure that the tenure still stands. Lock held. */
static enum err reconfirm(struct op *op, struct namespace *ns)
{
    if (clock_ms() - ns->committed_ms < CONFIRM_AGE_MAX_MS) return ERR_OK;
    struct tenure t = tenure_mark(&ns->tenure);

    mutex_unlock(&ns->lock);
    enum err e = tenure_validate(op, ns->env, &ns->keys, &t);
    mutex_lock(&ns->lock);
    if (e == ERR_FENCED && ns->state == NS_READY)
        namespace_fenced_locked(ns, op->error);
    if (!e) ns->committed_ms = clock_ms();
    return e;
}

static enum err lead_commit(struct op *op, struct namespace *ns)
{
    enum err e = reconfirm(op, ns);
    if (e) return e;
    if (ns->env->commit_interval_ms) pace(op, ns);
    if (ns->state != NS_READY) return ERR_OK;
    struct group *g = gather(ns);
    if (!g) return ERR_OK;

    ns->group = g;
    ns->groups++;
    if (g->members->filter) {
        e = resolve_group(op, ns, g);
        if (!e && ns->state != NS_READY)
            e = op_fail(op, ERR_IO, "the namespace was closed meanwhile, try again");
        if (e) {
            fail_group(ns, e, op->error);
            if (e == ERR_FENCED && ns->state == NS_READY)
                namespace_fenced_locked(ns, op->error);
            return ERR_OK;
        }
    }
    encode_group(ns, g);
    ns->commit_started_ms = clock_ms();
    return lead_settle(op, ns);
}

/* Joins small tail segments outside the lock; only the leader does. */
static void lead_join(struct op *op, struct namespace *ns)
{
    if (ns->state != NS_READY) return;
    struct snapshot *base = snapshot_ref(ns->tenure.snapshot);
    struct snapshot *next = NULL;
    uint32_t frozen = ns->frozen_tail, first = frozen;
    struct pace pace;
    while (first - frozen < base->source_count && base->sources[first - frozen].stored)
        first++;

    mutex_unlock(&ns->lock);
    pace_begin(op, ns, &pace);
    enum err e = state_join_tail(op, base, first, &next);
    pace_end(op);
    mutex_lock(&ns->lock);
    if (e) log_warn(op, "tail segments were not joined", "error=%s", op->error);
    /* The indexer may have replaced or frozen them meanwhile; then the join is moot. */
    bool current = ns->state == NS_READY && ns->tenure.snapshot == base &&
                   ns->frozen_tail <= frozen;
    if (!e && next && current)
        namespace_set_snapshot_locked(ns, next);
    else
        snapshot_unref(next);
    snapshot_unref(base);
}

enum err commit_lead(struct op *op, struct namespace *ns)
{
    struct op step; /* the clients who share this must not suffer from one going away */
    enum err e;

    if (!ns->group && ns->state != NS_READY) return namespace_begin_open(op, ns);
    op_init(&step, op->deadline_ms, 0);
    ns->leading = true;
    if (ns->group)
        e = lead_settle(&step, ns);
    else
        e = lead_commit(&step, ns);
    if (!e) lead_join(&step, ns);
    ns->leading = false;
    cond_broadcast(&ns->changed);
    if (e) {
        op->retry_after_ms = step.retry_after_ms;
        (void)op_fail(op, e, "%s", step.error);
    }
    op->counters.store_requests += step.counters.store_requests;
    op->counters.store_bytes += step.counters.store_bytes;
    op->counters.rounds += step.counters.rounds;
    op_release(&step);
    return e;
}

/* ---- writing ---- */

static void enqueue(struct namespace *ns, struct pending *p)
{
    *ns->queue_end = p;
    ns->queue_end = &p->next;
    ns->queue_bytes += pending_memory(p);
}

/* True if p was still waiting in the queue and is out of it now. */
static bool withdraw(struct namespace *ns, struct pending *p)
{
    for (struct pending **at = &ns->queue; *at; at = &(*at)->next) {
        if (*at != p) continue;
        *at = p->next;
        if (ns->queue_end == &p->next) ns->queue_end = at;
        ns->queue_bytes -= pending_memory(p);
        p->next = NULL;
        pending_unref(p);
        return true;
    }
    return false;
}

/* Waits until p is done, leading whenever nobody does. An error: we stopped waiting.
 * Lock held. */
static enum err await(struct op *op, struct namespace *ns, struct pending *p)
{
    unsigned failures = ns->open_failures;

    while (!p->done) {
        if (ns->open_failures != failures) return namespace_open_failed(op, ns);
        if (!ns->leading) {
            enum err e = commit_lead(op, ns);
            if (e) return e;
            continue;
        }
        int64_t until_ms = p->lent ? INT64_MAX : op->deadline_ms;
        if (cond_wait(&ns->changed, &ns->lock, until_ms) || p->done || p->lent)
            continue;
        if (ns->opening) return namespace_still_opening(op, ns);
        return op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
    }
    return ERR_OK;
}

/* What the request of p is told, when we stopped waiting with e. Lock held. */
static enum err answer(struct op *op, struct namespace *ns, struct pending *p,
                       enum err e, struct write_result *result)
{
    if (p->done) {
        op_clear_error(op);
        if (!p->err) {
            *result = p->result;
            return ERR_OK;
        }
        op->retry_after_ms = p->retry_after_ms;
        return op_fail(op, p->err, "%s", p->words);
    }
    if (!withdraw(ns, p)) {
        op_clear_error(op);
        return op_fail(op, ERR_UNKNOWN,
                       "the store has not said yet whether this write is "
                       "stored; repeat it with the same Idempotency-Key");
    }
    if (e != ERR_UNKNOWN) return e;
    op_clear_error(op); /* of the write before it, not of this one */
    return op_fail(op, ERR_IO,
                   "the store has not settled an earlier write, so this "
                   "one was not applied");
}

/* Waits for p. Takes p over. */
static enum err commit(struct op *op, struct namespace *ns, struct pending *p,
                       struct write_result *result)
{
    mutex_lock(&ns->lock);
    if (ns->queue && ns->queue_bytes + pending_memory(p) > QUEUE_BYTES_MAX) {
        pending_unref(p);
        mutex_unlock(&ns->lock);
        op->retry_after_ms = BUSY_RETRY_MS;
        return op_fail(op, ERR_BUSY, "too many writes to namespace \"%s\" are waiting",
                       ns->keys.name);
    }
    p->refs = 2;
    enqueue(ns, p);
    enum err e = await(op, ns, p);
    e = answer(op, ns, p, e, result);
    pending_unref(p);
    mutex_unlock(&ns->lock);
    return e;
}

/* Makes of the request's documents what the log and the tail take, between queries. */
static enum err prepare(struct op *op, struct namespace *ns,
                        const struct write_request *request, struct pending *p)
{
    struct pace pace;
    pace_begin(op, ns, &pace);
    enum err e = prepared_make(op, request->batch, request->schema, &p->prepared);
    if (!e) e = encode_batch(op, ns, request->batch, request->schema, &p->batch);
    pace_end(op);
    return e;
}

enum err namespace_write(struct op *op, struct namespace *ns,
                         const struct write_request *request,
                         struct write_result *result)
{
    enum err e = namespace_check_writable(op, ns);
    if (e) return e;

    assert(!request->batch->schema); /* that is namespace_widen's */
    struct pending *p = mem_new(struct pending);
    p->refs = 1;
    p->kind = OBJECT_DATA;
    p->schema = schema_ref(request->schema);
    p->filter = request->delete_filter;
    p->extra = request->batch;
    p->exclusive = p->filter != NULL;
    p->idempotency_key =
        slice_of(mem_dup(request->idempotency_key.data, request->idempotency_key.size),
                 request->idempotency_key.size);
    memcpy(p->digest, request->digest, sizeof p->digest);
    if (p->filter) {
        p->filter_ids = request->filter_ids;
        e = batch_id_kind(op, request->batch, &p->prepared.id_kind);
    } else {
        e = prepare(op, ns, request, p);
    }
    if (e) {
        pending_unref(p);
        return e;
    }
    e = commit(op, ns, p, result);
    if (!e && !result->repeated) slowdown_wait(op, ns, request->batch->doc_count);
    return e;
}

enum err namespace_widen(struct op *op, struct namespace *ns, struct schema *base,
                         struct schema *wider, struct commit_token *token)
{
    struct batch batch = {.schema = wider};
    struct write_result result;

    enum err e = namespace_check_writable(op, ns);
    if (e) return e;
    struct pending *p = mem_new(struct pending);
    p->refs = 1;
    p->kind = OBJECT_DATA;
    p->schema = schema_ref(base);
    p->exclusive = true;
    p->prepared.schema = schema_ref(wider);
    batch_encode(&batch, base, &p->batch);
    e = commit(op, ns, p, &result);
    if (!e) *token = result.token;
    return e;
}

enum err namespace_drop(struct op *op, struct namespace *ns)
{
    struct write_result result;

    enum err e = namespace_check_writable(op, ns);
    if (e) return e;
    struct pending *p = mem_new(struct pending);
    p->refs = 1;
    p->kind = OBJECT_DROP;
    p->exclusive = true;
    e = commit(op, ns, p, &result);
    if (!e) namespace_help_drop(ns, op->deadline_ms);
    return e;
}

enum err namespace_settle(struct op *op, struct namespace *ns)
{
    enum err e = ERR_OK;
    mutex_lock(&ns->lock);
    if (ns->group && !ns->leading) e = commit_lead(op, ns);
    mutex_unlock(&ns->lock);
    return e;
}
