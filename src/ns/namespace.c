#include "ns/namespace.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "ns/wal.h"
#include "store/store.h"

enum {
    FENCED_PAUSE_MS = 5000,
    FENCED_PAUSE_MAX_MS = 60000,
    BUSY_RETRY_MS = 1000,
    CONFIRM_AGE_MAX_MS = 24 * 3600 * 1000,
    QUEUE_BYTES_MAX = 64 << 20
};

/* A write that waits. The waiter and the queue or group hold one reference each. */
struct pending {
    unsigned refs;
    struct pending *next;
    enum object_kind kind; /* OBJECT_DATA or OBJECT_DROP */
    struct prepared prepared;
    struct buf batch;             /* encoded */
    struct schema *schema;        /* the one batch was encoded under */
    const struct filter *filter;  /* delete what matches; the waiter's memory */
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

/* ---- life ---- */

struct namespace *namespace_new(const struct registry_options *env, const char *name,
                                const struct catalog_record *record)
{
    struct namespace *ns = mem_new(struct namespace);
    atomic_init(&ns->refs, 1);
    ns->env = env;
    keys_init(&ns->keys, env->wal_prefix, name, record->incarnation);
    ns->first_schema = schema_ref(record->schema);
    mutex_init(&ns->lock);
    cond_init(&ns->changed);
    ns->queue_end = &ns->queue;
    return ns;
}

struct namespace *namespace_ref(struct namespace *ns)
{
    atomic_fetch_add(&ns->refs, 1);
    return ns;
}

static void group_free(struct group *g)
{
    buf_release(&g->bytes);
    mem_free(g->entry.requests);
    mem_free(g);
}

void namespace_unref(struct namespace *ns)
{
    if (atomic_fetch_sub(&ns->refs, 1) != 1) return;
    assert(!ns->queue);
    if (ns->group) {
        while (ns->group->members) {
            struct pending *p = ns->group->members;
            ns->group->members = p->next;
            pending_unref(p);
        }
        group_free(ns->group);
    }
    cache_unreserve(ns->env->cache, ns->reserved);
    tenure_release(&ns->tenure);
    follower_release(&ns->follower);
    snapshot_unref(ns->followed);
    schema_unref(ns->first_schema);
    mem_free(ns->table_key);
    cond_release(&ns->changed);
    mutex_release(&ns->lock);
    mem_free(ns);
}

/* ---- state changes, lock held ---- */

void namespace_set_snapshot_locked(struct namespace *ns, struct snapshot *next)
{
    uint64_t bytes = next->tail_bytes;

    snapshot_unref(ns->tenure.snapshot);
    ns->tenure.snapshot = next;
    if (bytes < ns->reserved) {
        cache_unreserve(ns->env->cache, ns->reserved - bytes);
        ns->reserved = bytes;
    } else if (bytes > ns->reserved &&
               cache_reserve(ns->env->cache, bytes - ns->reserved)) {
        ns->reserved = bytes;
    }
}

static void fail_queue(struct namespace *ns, enum err e, const char *words)
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

static void end_tenure(struct namespace *ns, enum namespace_state state)
{
    tenure_release(&ns->tenure);
    cache_unreserve(ns->env->cache, ns->reserved);
    ns->reserved = 0;
    ns->frozen_sources = 0;
    ns->state = state;
    cond_broadcast(&ns->changed);
}

void namespace_close_locked(struct namespace *ns)
{
    if (ns->state == NS_READY) end_tenure(ns, NS_CLOSED);
}

void namespace_fenced_locked(struct namespace *ns, const char *words)
{
    int64_t pause_ms = (int64_t)FENCED_PAUSE_MS
                       << (ns->fenced_times < 4 ? ns->fenced_times : 4);
    if (pause_ms > FENCED_PAUSE_MAX_MS) pause_ms = FENCED_PAUSE_MAX_MS;
    pause_ms += (int64_t)random_below((uint64_t)pause_ms / 4 + 1);

    metric_add(metric_counter("elacsym_namespace_fenced_total",
                              "Times another node took a namespace from this one.",
                              NULL),
               1);
    log_warn(NULL, "another node took the namespace",
             "namespace=%s words=%s pause_ms=%lld", ns->keys.name, words,
             (long long)pause_ms);
    end_tenure(ns, NS_FENCED);
    ns->fenced_times++;
    ns->fenced_until_ms = clock_ms() + pause_ms;
    (void)snprintf(ns->fenced_words, sizeof ns->fenced_words, "%s", words);
    fail_queue(ns, ERR_FENCED, words);
}

static void dropped_locked(struct namespace *ns)
{
    char words[NAMESPACE_NAME_MAX + 64];
    (void)snprintf(words, sizeof words, "there is no namespace \"%s\"", ns->keys.name);
    end_tenure(ns, NS_DROPPED);
    fail_queue(ns, ERR_NOT_FOUND, words);
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

/* ---- leading: opening ---- */

static enum err fenced_error(struct op *op, struct namespace *ns)
{
    op->retry_after_ms = ns->fenced_until_ms - clock_ms();
    return op_fail(op, ERR_FENCED, "%s", ns->fenced_words);
}

/* Whoever sees the DROP makes sure that the catalog says so too. */
static void help_drop(struct op *op, struct namespace *ns)
{
    struct catalog_record record;
    enum settled outcome;

    enum err e = catalog_newest(op, ns->env->store, ns->keys.name, &record);
    if (!e) {
        bool current =
            !record.deleted &&
            memcmp(record.incarnation, ns->keys.incarnation, INCARNATION_SIZE) == 0;
        if (current)
            e = catalog_append(op, ns->env->store, ns->keys.name, record.n + 1,
                               ns->keys.incarnation, ns->env->wal_prefix,
                               ns->env->node_id, NULL, &outcome);
        catalog_release(&record);
    }
    if (e)
        log_warn(op, "the catalog does not know of the drop yet",
                 "namespace=%s error=%s", ns->keys.name, op->error);
    op_clear_error(op);
}

/* Lock held, leading; released and taken again inside. */
static enum err lead_open(struct op *op, struct namespace *ns)
{
    struct tenure t = {0};

    if (ns->state == NS_DROPPED)
        return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"",
                       ns->keys.name);
    if (ns->state == NS_FENCED && clock_ms() < ns->fenced_until_ms)
        return fenced_error(op, ns);

    mutex_unlock(&ns->lock);
    enum err e = tenure_open(op, ns->env, &ns->keys, ns->first_schema, NULL, &t);
    if (e == ERR_NOT_FOUND) {
        struct op helper;
        op_init(&helper, op->deadline_ms, 0);
        help_drop(&helper, ns);
        op_release(&helper);
    }
    mutex_lock(&ns->lock);
    if (e == ERR_NOT_FOUND) dropped_locked(ns);
    if (e == ERR_FENCED) namespace_fenced_locked(ns, op->error);
    if (e) return e;

    ns->tenure = t;
    ns->state = NS_READY;
    ns->committed_ms = ns->written_ms = clock_ms();
    ns->table_stored = t.manifest->idempotency_key ? idempotency_version(t.table) : 0;
    ns->collected_floor = 0;
    ns->collected_wall_ms = 0;
    namespace_set_snapshot_locked(ns, snapshot_ref(t.snapshot));
    cond_broadcast(&ns->changed);
    return ERR_OK;
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

static struct commit_token token_of(const struct namespace *ns, uint64_t epoch,
                                    uint64_t slot)
{
    struct commit_token token = {.epoch = epoch, .slot = slot};
    memcpy(token.incarnation, ns->keys.incarnation, sizeof token.incarnation);
    return token;
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
        p->result =
            (struct write_result){.upserted = applied[i].upserted,
                                  .deleted = applied[i].deleted,
                                  .token = token_of(ns, g->entry.epoch, g->entry.slot)};
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
    struct wal_entry entry;
    char words[512];

    enum err e = wal_entry_decode(op, &ns->keys, ns->group->entry.slot, other, &entry);
    op_clear_error(op);
    if (!e && entry.kind == OBJECT_DROP) {
        fail_group(ns, ERR_NOT_FOUND, "the namespace was dropped");
        dropped_locked(ns);
        return;
    }
    (void)
        snprintf(words, sizeof words,
                 "ownership conflict: namespace \"%s\" was taken over by node \"%.*s\"",
                 ns->keys.name, e ? 0 : (int)entry.node_id.size,
                 e ? "" : (const char *)entry.node_id.data);
    fail_group(ns, ERR_FENCED, words);
    if (ours) namespace_fenced_locked(ns, words);
}

/* Sends the group's entry until its outcome is known. Lock held; released inside. */
static enum err lead_settle(struct op *op, struct namespace *ns)
{
    struct group *g = ns->group;
    struct buf other = BUF_INIT;
    enum settled outcome;
    uint64_t ticket = ticket_start(&ns->probes);

    mutex_unlock(&ns->lock);
    enum err e = settle_create(op, ns->env->store, &g->settle, &outcome, &other);
    mutex_lock(&ns->lock);

    if (e == ERR_UNKNOWN) goto done; /* stays; whoever leads next goes on */
    bool ours = ns->state == NS_READY && ns->tenure.epoch == g->entry.epoch;
    if (e) {
        fail_group(ns, e, op->error);
    } else if (outcome == SETTLED_TAKEN) {
        taken_group(op, ns, ours, buf_slice(&other));
    } else if (outcome == SETTLED_VANISHED) {
        fail_group(ns, ERR_UNKNOWN,
                   "the namespace was taken over while this was written");
        if (ours)
            namespace_fenced_locked(ns,
                                    "ownership conflict: the log was collected by a "
                                    "newer owner");
    } else if (g->entry.kind == OBJECT_DROP) {
        fail_group(ns, ERR_OK, NULL);
        dropped_locked(ns);
    } else if (!ours) {
        /* Durable, but what it did will be known only after a replay. */
        fail_group(ns, ERR_UNKNOWN, "the namespace was closed while this was written");
    } else {
        ticket_finish(&ns->probes, ticket); /* our put proves what a probe would */
        e = apply_group(op, ns);
    }
done:
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
        .token = token_of(ns, ns->tenure.epoch, known->slot),
    };
    pending_finish(p, ERR_OK, NULL);
    return true;
}

/* What stands against committing p now, apart from others; answers it and says true. */
static bool refuse(struct namespace *ns, struct pending *p)
{
    const struct snapshot *s = ns->tenure.snapshot;
    char words[NAMESPACE_NAME_MAX + 80];

    if (answer_repeat(ns, p)) return true;
    if (p->kind == OBJECT_DROP) return false;
    /* Documents under a shorter schema are fine: attributes are only ever added. */
    if (p->prepared.schema && !schema_equal(p->schema, s->schema)) {
        pending_finish(p, ERR_CONFLICT, "the schema changed meanwhile");
        return true;
    }
    if (p->prepared.id_kind != ID_NONE && s->id_kind != ID_NONE &&
        p->prepared.id_kind != s->id_kind) {
        (void)snprintf(words, sizeof words,
                       "namespace \"%s\" has %s ids, fixed by its first write",
                       ns->keys.name, s->id_kind == ID_U64 ? "integer" : "string");
        pending_finish(p, ERR_INVALID, words);
        return true;
    }
    if (s->tail_bytes + pending_memory(p) > ns->env->tail_bytes_max) {
        p->retry_after_ms = BUSY_RETRY_MS;
        pending_finish(p, ERR_BUSY,
                       "too many writes wait to be indexed, try again later");
        return true;
    }
    return false;
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

/* Ids of the live documents that match, as deletes of p. Lock not held. */
static enum err resolve_filter(struct op *op, const struct snapshot *s,
                               struct pending *p)
{
    struct batch batch = {0};
    size_t capacity = 0;

    for (uint32_t i = 0; i < s->source_count; i++) {
        enum { CHUNK = 1024 };
        const struct source *source = &s->sources[i];
        uint32_t rows[CHUNK], from = 0;
        struct rowset *match = NULL;

        enum err e = segment_filter(op, source->segment, p->filter, &match);
        if (e) return e;
        if (source->dead) rowset_andnot(match, source->dead);
        size_t count = rowset_count(match);
        if (batch.delete_count + count > capacity) {
            capacity = 2 * (batch.delete_count + count);
            struct doc_id *larger = op_new_array(op, struct doc_id, capacity);
            if (!larger) {
                rowset_unref(match);
                return ERR_LIMIT;
            }
            if (batch.delete_count)
                memcpy(larger, batch.deletes, batch.delete_count * sizeof *larger);
            batch.deletes = larger;
        }
        for (size_t n; (n = rowset_read(match, from, rows, CHUNK)) > 0;
             from = rows[n - 1] + 1)
            for (size_t k = 0; k < n; k++)
                batch.deletes[batch.delete_count++] =
                    segment_id(source->segment, rows[k]);
        rowset_unref(match);
    }
    enum err e = prepared_make(op, &batch, s->schema, &p->prepared);
    if (!e) batch_encode(&batch, s->schema, &p->batch);
    return e;
}

/* The group's only member deletes by filter: find out what, at the state before it. */
static enum err resolve_group(struct op *op, struct namespace *ns, struct group *g)
{
    struct pending *p = g->members;
    struct snapshot *s = snapshot_ref(ns->tenure.snapshot);

    mutex_unlock(&ns->lock);
    enum err e = resolve_filter(op, s, p);
    snapshot_unref(s);
    mutex_lock(&ns->lock);
    return e;
}

/* Collects what can share one entry. NULL: nothing is left that needs a commit. */
static struct group *gather(struct namespace *ns)
{
    struct group *g = mem_new(struct group);
    struct pending **end = &g->members;
    uint64_t bytes = 0;

    while (ns->queue) {
        struct pending *p = ns->queue;
        if (!joins(g, p, bytes, ns->env->commit_bytes_max)) break;
        (void)dequeue(ns);
        if (refuse(ns, p)) continue;
        *end = p;
        end = &p->next;
        g->count++;
        bytes += p->batch.size;
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
    struct tenure t = {.epoch = ns->tenure.epoch, .fence_slot = ns->tenure.fence_slot};

    mutex_unlock(&ns->lock);
    enum err e = tenure_validate(op, ns->env, &ns->keys, &t);
    mutex_lock(&ns->lock);
    if (e == ERR_FENCED) namespace_fenced_locked(ns, op->error);
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
    if (g->members->filter) {
        e = resolve_group(op, ns, g);
        if (!e && ns->state != NS_READY)
            e = op_fail(op, ERR_IO, "the namespace was closed meanwhile, try again");
        if (e) {
            fail_group(ns, e, op->error);
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
    uint32_t frozen = ns->frozen_sources;

    mutex_unlock(&ns->lock);
    enum err e = state_join_tail(op, base, frozen, &next);
    mutex_lock(&ns->lock);
    if (e) log_warn(op, "tail segments were not joined", "error=%s", op->error);
    /* The indexer may have replaced or frozen them meanwhile; then the join is moot. */
    bool current = ns->state == NS_READY && ns->tenure.snapshot == base &&
                   ns->frozen_sources <= frozen;
    if (!e && next && current)
        namespace_set_snapshot_locked(ns, next);
    else
        snapshot_unref(next);
    snapshot_unref(base);
}

/*
 * Advances the log by one step: settle, open or commit. Lock held, nobody leads. An
 * error is the leader's own; those of requests are in their pendings.
 */
static enum err lead(struct op *op, struct namespace *ns)
{
    struct op step; /* the clients who share this must not suffer from one going away */
    enum err e;

    op_init(&step, op->deadline_ms, 0);
    ns->leading = true;
    if (ns->group)
        e = lead_settle(&step, ns);
    else if (ns->state != NS_READY)
        e = lead_open(&step, ns);
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

/* Waits for p, leading whenever nobody does. Takes p over. */
static enum err commit(struct op *op, struct namespace *ns, struct pending *p,
                       struct write_result *result)
{
    enum err e = ERR_OK;

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
    while (!p->done) {
        if (!ns->leading) {
            e = lead(op, ns);
            if (e && !p->done) break;
        } else if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms) && !p->done) {
            e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
            break;
        }
    }
    if (p->done) {
        e = p->err;
        op_clear_error(op);
        if (e) {
            op->retry_after_ms = p->retry_after_ms;
            (void)op_fail(op, e, "%s", p->words);
        } else {
            *result = p->result;
        }
    } else if (withdraw(ns, p)) {
        if (e == ERR_UNKNOWN) {
            op_clear_error(op); /* of the write before it, not of this one */
            e = op_fail(op, ERR_IO,
                        "the store has not settled an earlier write, so this "
                        "one was not applied");
        }
    } else {
        op_clear_error(op);
        e = op_fail(op, ERR_UNKNOWN,
                    "the store has not said yet whether this write is "
                    "stored; repeat it with the same Idempotency-Key");
    }
    pending_unref(p);
    mutex_unlock(&ns->lock);
    return e;
}

static enum err check_writable(struct op *op, const struct namespace *ns)
{
    const struct registry_options *env = ns->env;
    if (!env->read_only && (!env->owns || env->owns(env->context, ns->keys.name)))
        return ERR_OK;
    return op_fail(op, ERR_DENIED, "this node does not own namespace \"%s\"",
                   ns->keys.name);
}

enum err namespace_write(struct op *op, struct namespace *ns,
                         const struct write_request *request,
                         struct write_result *result)
{
    enum err e = check_writable(op, ns);
    if (e) return e;

    struct pending *p = mem_new(struct pending);
    p->refs = 1;
    p->kind = OBJECT_DATA;
    p->schema = schema_ref(request->schema);
    p->filter = request->delete_filter;
    p->exclusive = p->filter != NULL;
    p->idempotency_key =
        slice_of(mem_dup(request->idempotency_key.data, request->idempotency_key.size),
                 request->idempotency_key.size);
    memcpy(p->digest, request->digest, sizeof p->digest);
    if (!p->filter) {
        e = prepared_make(op, request->batch, request->schema, &p->prepared);
        if (e) {
            pending_unref(p);
            return e;
        }
        batch_encode(request->batch, request->schema, &p->batch);
    }
    return commit(op, ns, p, result);
}

enum err namespace_widen(struct op *op, struct namespace *ns, struct schema *base,
                         struct schema *wider, struct commit_token *token)
{
    struct batch batch = {.schema = wider};
    struct write_result result;

    enum err e = check_writable(op, ns);
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

    enum err e = check_writable(op, ns);
    if (e) return e;
    struct pending *p = mem_new(struct pending);
    p->refs = 1;
    p->kind = OBJECT_DROP;
    p->exclusive = true;
    e = commit(op, ns, p, &result);
    if (e) return e;
    struct op helper;
    op_init(&helper, op->deadline_ms, 0);
    help_drop(&helper, ns);
    op_release(&helper);
    return ERR_OK;
}

enum err namespace_settle(struct op *op, struct namespace *ns)
{
    enum err e = ERR_OK;
    mutex_lock(&ns->lock);
    if (ns->group && !ns->leading) e = lead(op, ns);
    mutex_unlock(&ns->lock);
    return e;
}

bool namespace_dropped(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool dropped = ns->state == NS_DROPPED;
    mutex_unlock(&ns->lock);
    return dropped;
}

/* ---- reading ---- */

/* Leads or waits until the namespace is open. Lock held. */
static enum err ensure_open(struct op *op, struct namespace *ns)
{
    while (ns->state != NS_READY) {
        if (ns->state == NS_DROPPED)
            return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"",
                           ns->keys.name);
        if (!ns->leading) {
            enum err e = lead(op, ns);
            if (e) return e;
        } else if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms)) {
            return op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
        }
    }
    return ERR_OK;
}

enum err namespace_open(struct op *op, struct namespace *ns, struct commit_token *token)
{
    enum err e = check_writable(op, ns);
    if (e) return e;
    mutex_lock(&ns->lock);
    e = ensure_open(op, ns);
    if (!e) *token = token_of(ns, ns->tenure.epoch, ns->tenure.snapshot->slot);
    mutex_unlock(&ns->lock);
    return e;
}

/* Something is in the slot we would write next, and it is not ours in flight. */
static void probe_found(struct op *op, struct namespace *ns, uint64_t slot,
                        struct slice bytes)
{
    struct wal_entry entry;
    char words[256];

    enum err e = wal_entry_decode(op, &ns->keys, slot, bytes, &entry);
    op_clear_error(op);
    if (!e && entry.kind == OBJECT_DROP) {
        dropped_locked(ns);
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
        bool own = ns->group && object_put_id(buf_slice(&bytes), &found) &&
                   put_id_equal(&found, &ns->group->entry.put_id);
        if (!own)
            probe_found(op, ns, slot, buf_slice(&bytes));
        else if (!ns->leading)
            e = lead(op, ns); /* it was applied after all: settle it */
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
    enum err e = ensure_open(op, ns);
    while (!e && strong && !ticket_served(&ns->probes, ticket)) {
        e = op_check(op);
        if (!e && ns->probes.running) {
            if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
                e = op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
        } else if (!e) {
            e = probe(op, ns);
        }
        if (!e) e = ensure_open(op, ns);
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
    if (ns->state == NS_READY) {
        out->wal_first_slot = ns->tenure.manifest->floor;
        out->indexing = ns->frozen_sources > 0;
    } else {
        out->state = ns->state == NS_CLOSED ? "reader" : out->state;
    }
    mutex_unlock(&ns->lock);
    return ERR_OK;
}
