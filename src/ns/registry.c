#include "ns/registry.h"

#include <assert.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/admission.h"
#include "ns/namespace.h"
#include "ns/ns_metrics.h"
#include "ns/orders.h"
#include "ns/survey.h"
#include "store/store.h"

enum {
    BUCKETS = 4096,
    CLOSE_BUCKETS = 32, /* looked at in one tick; divides their number */
    CREATE_TRIES = 16,
    TICK_MS = 200,
    MERGER_TICK_MS = 1000,
    /* Queries come first where all want the processor, but not before tails are
     * indexed: the longer these are, the more of it each query takes. */
    MAINTENANCE_NICE = 0,
    COMPACT_NICE = 5, /* somebody waits for it */
    MERGER_NICE = 10,
    MERGES_MAX = 64, /* of a namespace, before others have their turn */
    WORK_PAUSE_MS = 1000,
    WORK_PAUSE_MAX_MS = 60000,
    MAINTAIN_TIMEOUT_MS = 600000,
    MERGE_TIMEOUT_MS = 24 * 3600 * 1000, /* many GiB, on a busy machine */
    SETTLE_TIMEOUT_MS = 2000, /* so long one wedged namespace holds up the others */
    SURVEY_PAUSE_MIN_MS = 1000,
    SURVEY_AGAIN_MS = 60000, /* after one that failed, in whole or in part */
    TOTALS_PAUSE_MS = 5000,
    LIST_PAGE = 1000,
    TAIL_ENTRIES_MAX = 1000 /* log entries that a restart may have to replay */
};

struct slot {
    struct slot *next;
    struct namespace *ns;
    bool used;       /* since the hand last passed */
    int64_t used_ms; /* when it was asked for last */
};

/* A background thread. */
struct worker {
    struct thread *thread; /* or NULL */
    struct op *working;    /* what it is at, or NULL */
};

struct registry {
    struct registry_options options;
    char *node_id, *wal_prefix, *scratch;
    struct opener *opener;
    struct mutex lock; /* guards the table; taken before the lock of a namespace */
    struct slot *table[BUCKETS];
    size_t table_count;
    size_t hand; /* bucket at which the next search for an idle namespace begins */
    atomic_uint_fast64_t count; /* namespaces as last counted */
    atomic_uint_fast64_t tails_held;

    struct orders orders;
    struct worker maintenance, merger, surveyor;
    bool survey_failed;     /* of the surveyor: something is left to be done */
    int64_t totals_ms;      /* of maintenance: when the gauges are due, … */
    size_t close_hand;      /* … and where the next look for idle namespaces begins */
    struct mutex wake_lock; /* guards what follows, and what the workers are at */
    struct cond wake;
    bool stopping;
};

struct registry_options registry_options_default(void)
{
    return (struct registry_options){
        .node_id = "node",
        .wal_prefix = "",
        .commit_bytes_max = (uint64_t)16 << 20,
        .request_bytes_max = WAL_BATCH_SIZE_MAX,
        .tail_bytes_max = (uint64_t)1 << 30,
        .tail_index_bytes = (uint64_t)64 << 20,
        .tail_index_rows = 50000,
        .tail_index_idle_ms = 60000,
        .compaction = true,
        .interval_ms = 3600000,
        .segments_max = 100,
        .segment_docs_max = 1000000,
        .gc_grace_ms = 600000,
        .staleness_max_ms = 10000,
        .open_max = 16384,
        .idle_close_ms = 900000,
        .open_threads = 8,
        .spool_from = (uint64_t)64 << 20,
        .background = true,
    };
}

enum err namespace_name_check(struct op *op, struct slice name)
{
    bool good =
        name.size >= 1 && name.size <= NAMESPACE_NAME_MAX && name.data[0] != '.';
    for (size_t i = 0; good && i < name.size; i++) {
        uint8_t c = name.data[i];
        good = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
               (c >= 'a' && c <= 'z') || c == '_' || c == '.' || c == '-';
    }
    if (good) return ERR_OK;
    return op_fail(
        op, ERR_INVALID,
        "namespace name must be 1 to %d of A-Z a-z 0-9 _ . - and must not start "
        "with a dot",
        NAMESPACE_NAME_MAX);
}

/* ---- the table ---- */

static struct slot **bucket_of(struct registry *r, const char *name)
{
    return &r->table[xxh3_64(name, strlen(name)) % BUCKETS];
}

/* The open namespace of that name, a reference, or NULL. A dropped one is taken out. */
static struct namespace *table_get(struct registry *r, const char *name)
{
    struct namespace *found = NULL, *dead = NULL;

    mutex_lock(&r->lock);
    for (struct slot **at = bucket_of(r, name); *at; at = &(*at)->next) {
        struct slot *slot = *at;
        if (strcmp(slot->ns->keys.name, name) != 0) continue;
        if (namespace_dropped(slot->ns)) {
            *at = slot->next;
            dead = slot->ns;
            mem_free(slot);
            r->table_count--;
        } else {
            found = namespace_ref(slot->ns);
            slot->used = true;
            slot->used_ms = clock_ms();
        }
        break;
    }
    mutex_unlock(&r->lock);
    if (dead) namespace_unref(dead);
    return found;
}

/* Adds ns unless its name is there; the one that is in the table, a reference. Takes
 * ns over. */
static struct namespace *table_put(struct registry *r, struct namespace *ns)
{
    mutex_lock(&r->lock);
    struct slot **bucket = bucket_of(r, ns->keys.name);
    for (struct slot *slot = *bucket; slot; slot = slot->next) {
        if (strcmp(slot->ns->keys.name, ns->keys.name) != 0) continue;
        struct namespace *there = namespace_ref(slot->ns);
        mutex_unlock(&r->lock);
        namespace_unref(ns);
        return there;
    }
    struct slot *slot = mem_new(struct slot);
    slot->ns = ns;
    slot->used = true;
    slot->used_ms = clock_ms();
    slot->next = *bucket;
    *bucket = slot;
    r->table_count++;
    mutex_unlock(&r->lock);
    return namespace_ref(ns);
}

/* Takes the first namespace out of the bucket that nobody uses or has used since the
 * hand came by. */
static struct namespace *bucket_evict(struct registry *r, struct slot **bucket)
{
    for (struct slot **at = bucket; *at; at = &(*at)->next) {
        struct slot *slot = *at;
        bool used = slot->used;
        slot->used = false;
        if (used || !namespace_idle(slot->ns)) continue;
        struct namespace *ns = slot->ns;
        *at = slot->next;
        mem_free(slot);
        r->table_count--;
        return ns;
    }
    return NULL;
}

/* What is held by open namespaces leaves little of the memory to ranges. */
static bool memory_pressed(struct registry *r)
{
    struct cache_usage usage = cache_usage(r->options.cache);
    return usage.reserved_bytes > usage.memory_max / 4 * 3;
}

/*
 * Closes an idle namespace if as many are open as may be, or if they fill the memory;
 * true if there is room for another one then. What a namespace has in memory is in the
 * store as well, so closing costs no more than opening it again. The hand goes round
 * twice: in the first round it takes what was not used since it last came by (the clock
 * algorithm).
 */
static bool table_make_room(struct registry *r)
{
    struct namespace *idle = NULL;
    bool pressed = memory_pressed(r);

    mutex_lock(&r->lock);
    bool full = r->table_count >= r->options.open_max;
    for (size_t i = 0; (full || pressed) && !idle && i < 2 * (size_t)BUCKETS; i++) {
        idle = bucket_evict(r, &r->table[r->hand]);
        if (!idle) r->hand = (r->hand + 1) % BUCKETS;
    }
    mutex_unlock(&r->lock);
    if (idle) namespace_unref(idle);
    return !full || idle;
}

/* A place in the table; zeros are its beginning. */
struct walk {
    size_t bucket, index;
};

/*
 * The next open namespace, a reference, or NULL at the end. So background work keeps no
 * more than one from being closed; it may miss one, or meet one twice, when others come
 * and go meanwhile.
 */
static struct namespace *table_next(struct registry *r, struct walk *w)
{
    struct slot *slot = NULL;

    mutex_lock(&r->lock);
    for (; w->bucket < BUCKETS; w->bucket++, w->index = 0) {
        slot = r->table[w->bucket];
        for (size_t i = 0; slot && i < w->index; i++)
            slot = slot->next;
        if (slot) break;
    }
    w->index++;
    struct namespace *ns = slot ? namespace_ref(slot->ns) : NULL;
    mutex_unlock(&r->lock);
    return ns;
}

static enum err check_prefix(struct op *op, struct registry *r, const char *name,
                             const struct catalog_record *record)
{
    if (strcmp(record->wal_prefix, r->wal_prefix) == 0) return ERR_OK;
    return op_fail(
        op, ERR_DENIED,
        "namespace \"%s\" was created with storage.s3.wal_prefix \"%s\", but "
        "this node has \"%s\"",
        name, record->wal_prefix, r->wal_prefix);
}

/* The namespace, opened lazily; a reference. ERR_NOT_FOUND, ERR_DENIED. */
static enum err lookup(struct op *op, struct registry *r, const char *name,
                       struct namespace **out)
{
    struct catalog_record record;

    enum err e = namespace_name_check(op, slice_str(name));
    if (e) return e;
    *out = table_get(r, name);
    if (*out) return ERR_OK;

    e = catalog_newest(op, r->options.store, name, &record);
    if (e) return e;
    if (record.deleted)
        e = op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", name);
    if (!e) e = check_prefix(op, r, name, &record);
    if (!e && !table_make_room(r)) {
        op->retry_after_ms = 1000;
        e = op_fail(op, ERR_BUSY, "%u namespaces are busy on this node",
                    r->options.open_max);
    }
    if (!e) *out = table_put(r, namespace_new(&r->options, r->opener, name, &record));
    catalog_release(&record);
    return e;
}

/* ---- creating, dropping, listing ---- */

/* It is there: is it the same, or can it be widened? */
static enum err create_existing(struct op *op, struct registry *r, const char *name,
                                const struct schema *wanted, struct commit_token *token)
{
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct namespace *ns = NULL;
    struct snapshot *s = NULL;
    struct schema *wider = NULL;
    bool same;

    enum err e = lookup(op, r, name, &ns);
    if (!e) e = namespace_snapshot(op, ns, &strong, &s);
    if (!e) e = schema_extend(op, s->schema, wanted, &same, &wider);
    if (!e && !same && wider == s->schema)
        e = op_fail(
            op, ERR_CONFLICT,
            "namespace \"%s\" has %u attributes, the request declares only %u of "
            "them, and attributes cannot be taken away",
            name, s->schema->attr_count, wanted->attr_count);
    if (!e && same) {
        *token = (struct commit_token){.epoch = s->epoch, .slot = s->slot};
        memcpy(token->incarnation, s->incarnation, sizeof token->incarnation);
    } else if (!e) {
        e = namespace_widen(op, ns, s->schema, wider, token);
    }
    schema_unref(wider);
    snapshot_unref(s);
    if (ns) namespace_unref(ns);
    return e;
}

/* Writes the catalog record. *outcome TAKEN: somebody was faster. */
static enum err create_new(struct op *op, struct registry *r, const char *name,
                           uint64_t n, const struct schema *schema,
                           enum settled *outcome, struct commit_token *token)
{
    uint8_t incarnation[INCARNATION_SIZE];
    struct namespace *ns = NULL;

    random_bytes(incarnation, sizeof incarnation);
    enum err e = catalog_append(op, r->options.store, name, n, incarnation,
                                r->wal_prefix, r->node_id, schema, outcome);
    if (e || *outcome != SETTLED_APPLIED) return e;
    atomic_fetch_add(&r->count, 1);
    log_info(op, "namespace created", "namespace=%s", name);

    /* It exists from here on. Opening it now only spares the first write the wait. */
    *token = (struct commit_token){0};
    memcpy(token->incarnation, incarnation, sizeof incarnation);
    if (!lookup(op, r, name, &ns)) {
        (void)namespace_open(op, ns, token);
        namespace_unref(ns);
    }
    op_clear_error(op);
    return ERR_OK;
}

enum err registry_create(struct op *op, struct registry *r, const char *name,
                         const struct schema *schema, bool *created,
                         struct commit_token *token)
{
    enum err e = namespace_name_check(op, slice_str(name));
    if (e) return e;
    if (r->options.read_only)
        return op_fail(op, ERR_DENIED, "this node does not take writes");

    *created = false;
    for (int i = 0; i < CREATE_TRIES; i++) {
        struct catalog_record newest = {0};
        enum settled outcome = SETTLED_TAKEN;

        e = catalog_newest(op, r->options.store, name, &newest);
        bool absent = e == ERR_NOT_FOUND || (!e && newest.deleted);
        if (e == ERR_NOT_FOUND) op_clear_error(op);
        if (e && !absent) return e;
        uint64_t n = e == ERR_NOT_FOUND ? 0 : newest.n + 1;
        catalog_release(&newest);

        e = absent ? create_new(op, r, name, n, schema, &outcome, token)
                   : create_existing(op, r, name, schema, token);
        if (absent && !e && outcome == SETTLED_APPLIED) {
            *created = true;
            return ERR_OK;
        }
        bool again = absent ? !e : e == ERR_NOT_FOUND || e == ERR_CONFLICT;
        if (!again) return e;
        /* A difference that widening cannot mend stays; a lost race does not. */
        if (e == ERR_CONFLICT && i > 0) return e;
        op_clear_error(op);
    }
    return op_fail(op, ERR_CONFLICT,
                   "namespace \"%s\" is created and dropped by others at "
                   "the same time",
                   name);
}

/* The name in "ns/<name>/", in op's arena; NULL when the key is none. ERR_LIMIT. */
static enum err name_of(struct op *op, const char *key, const char **name)
{
    size_t size = strlen(key);
    *name = NULL;
    if (size < 5 || strncmp(key, "ns/", 3) != 0 || key[size - 1] != '/') return ERR_OK;
    *name = (const char *)op_copy(op, slice_of(key + 3, size - 4)).data;
    return *name ? ERR_OK : ERR_LIMIT;
}

/* The name, if a namespace of that name exists now; else NULL. */
static enum err living_name(struct op *op, struct registry *r, const char *key,
                            const char **out)
{
    struct catalog_record record;
    const char *name;

    *out = NULL;
    enum err e = name_of(op, key, &name);
    if (e || !name) return e;
    e = catalog_newest(op, r->options.store, name, &record);
    if (e == ERR_NOT_FOUND) {
        op_clear_error(op);
        return ERR_OK;
    }
    if (e) return e;
    if (!record.deleted) *out = name;
    catalog_release(&record);
    return ERR_OK;
}

enum err registry_list(struct op *op, struct registry *r, const char *prefix,
                       const char *after, const char **names, size_t *n)
{
    size_t wanted = *n, found = 0, page_size = LIST_PAGE;
    char *from = op_printf(op, "ns/%s", prefix);
    const char *behind = after[0] ? op_printf(op, "ns/%s/", after) : "";

    if (!from || !behind) return ERR_LIMIT;
    while (found < wanted && page_size == LIST_PAGE) {
        const char *page[LIST_PAGE];
        enum err e =
            store_list(op, r->options.store, from, behind, '/', page, &page_size);
        if (e) return op_fail(op, e, "list namespaces");
        for (size_t i = 0; i < page_size && found < wanted; i++) {
            e = living_name(op, r, page[i], &names[found]);
            if (e) return e;
            found += names[found] != NULL;
        }
        if (page_size) behind = page[page_size - 1];
    }
    *n = found;
    return ERR_OK;
}

uint64_t registry_count(struct registry *r)
{
    return atomic_load(&r->count);
}

/* ---- reading and writing ---- */

/* What is done with one namespace; request is the call's own. */
typedef enum err (*namespace_call)(struct op *op, struct namespace *ns, void *request);

/* Makes the call on the namespace of that name. One that turns out to be dropped under
 * our hands may be there again, as another one: then the call is made on that. */
static enum err on_namespace(struct op *op, struct registry *r, const char *name,
                             namespace_call call, void *request)
{
    for (bool again = true;; again = false) {
        struct namespace *ns = NULL;
        enum err e = lookup(op, r, name, &ns);
        if (e) return e;
        e = call(op, ns, request);
        again = again && e == ERR_NOT_FOUND && namespace_dropped(ns);
        namespace_unref(ns);
        if (!again) return e;
        op_clear_error(op);
    }
}

struct write_call {
    const struct write_request *request;
    struct write_result *result;
};

static enum err call_write(struct op *op, struct namespace *ns, void *request)
{
    struct write_call *call = request;
    return namespace_write(op, ns, call->request, call->result);
}

enum err registry_write(struct op *op, struct registry *r, const char *name,
                        const struct write_request *request,
                        struct write_result *result)
{
    struct write_call call = {request, result};
    return on_namespace(op, r, name, call_write, &call);
}

struct snapshot_call {
    const struct read_options *options;
    struct snapshot **out;
};

static enum err call_snapshot(struct op *op, struct namespace *ns, void *request)
{
    struct snapshot_call *call = request;
    return namespace_snapshot(op, ns, call->options, call->out);
}

enum err registry_snapshot(struct op *op, struct registry *r, const char *name,
                           const struct read_options *options, struct snapshot **out)
{
    struct snapshot_call call = {options, out};
    return on_namespace(op, r, name, call_snapshot, &call);
}

enum err registry_query_begin(struct op *op, struct registry *r, const char *name)
{
    return admission_enter(op, r->options.queries, name);
}

void registry_query_end(struct registry *r, const char *name)
{
    admission_leave(r->options.queries, name);
}

enum err registry_schema(struct op *op, struct registry *r, const char *name,
                         struct schema **schema)
{
    /* A write is checked against the newest schema again when it is committed, so this
     * may be as old as memory has it. */
    struct read_options eventual = {.consistency = CONSISTENCY_EVENTUAL};
    struct snapshot *s = NULL;

    enum err e = registry_snapshot(op, r, name, &eventual, &s);
    if (e) return e;
    *schema = schema_ref(s->schema);
    snapshot_unref(s);
    return ERR_OK;
}

static enum err call_info(struct op *op, struct namespace *ns, void *request)
{
    return namespace_info(op, ns, request);
}

enum err registry_info(struct op *op, struct registry *r, const char *name,
                       struct namespace_info *out)
{
    return on_namespace(op, r, name, call_info, out);
}

static enum err call_drop(struct op *op, struct namespace *ns, void *request)
{
    struct registry *r = request;
    struct op purge;

    enum err e = namespace_drop(op, ns);
    if (e) return e;
    if (atomic_load(&r->count)) atomic_fetch_sub(&r->count, 1);
    log_info(op, "namespace dropped", "namespace=%s", ns->keys.name);
    op_init(&purge, op->deadline_ms, 0);
    (void)gc_purge(&purge, &r->options, &ns->keys); /* or at the next survey */
    op_release(&purge);
    return ERR_OK;
}

enum err registry_drop(struct op *op, struct registry *r, const char *name)
{
    return on_namespace(op, r, name, call_drop, r);
}

/* ---- background ---- */

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
    return ns->tail_full || s->tail_bytes >= env->tail_index_bytes ||
           s->tail_rows >= env->tail_index_rows ||
           clock_ms() - ns->written_ms >= env->tail_index_idle_ms;
}

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

/* What is asked of background work. */
enum work {
    WORK_IF_DUE,
    WORK_INDEX,  /* write the tail as a segment now, … */
    WORK_COMPACT /* … and join all segments that could be fewer */
};

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

/* One round of background work but for merges. */
static enum err maintain(struct op *op, struct namespace *ns, enum work work)
{
    if (work == WORK_IF_DUE && pausing(ns, &ns->work_pause)) return ERR_OK;
    enum err e = settle(op, ns);
    if (!e) e = index_tail(op, ns, work);
    if (!e) e = collect(op, ns, work);
    note_work(op, ns, &ns->work_pause, e);
    return e;
}

static enum err merge(struct op *op, struct namespace *ns, enum work work)
{
    if (work == WORK_IF_DUE && pausing(ns, &ns->merge_pause)) return ERR_OK;
    enum err e = merge_all(op, ns, work);
    note_work(op, ns, &ns->merge_pause, e);
    return e;
}

static enum err work_now(struct op *op, struct registry *r, const char *name,
                         enum work work)
{
    struct commit_token token;
    struct namespace *ns = NULL;

    enum err e = lookup(op, r, name, &ns);
    if (!e && work != WORK_IF_DUE) e = namespace_open(op, ns, &token);
    if (!e) e = maintain(op, ns, work);
    if (!e && work != WORK_INDEX) e = merge(op, ns, work);
    if (!e && work == WORK_COMPACT) e = collect(op, ns, work);
    if (ns) namespace_unref(ns);
    return e == ERR_UNKNOWN ? ERR_IO : e; /* no request of the caller's is in doubt */
}

/* On a thread of its own: one that yields to others stays so. */
static enum err compact_now(struct op *op, void *context, const char *name)
{
    thread_yield_to_others(COMPACT_NICE);
    op->deadline_ms = clock_ms() + MERGE_TIMEOUT_MS;
    return work_now(op, context, name, WORK_COMPACT);
}

enum err registry_maintain(struct op *op, struct registry *r, const char *name,
                           bool force)
{
    if (force && r->options.background) return orders_carry_out(op, &r->orders, name);
    return work_now(op, r, name, force ? WORK_COMPACT : WORK_IF_DUE);
}

/* A background thread starts on op, which registry_free may cancel. False: stop. */
static bool work_begin(struct registry *r, struct worker *w, struct op *op)
{
    op_init(op, clock_ms() + (w == &r->merger ? MERGE_TIMEOUT_MS : MAINTAIN_TIMEOUT_MS),
            0);
    mutex_lock(&r->wake_lock);
    bool stopping = r->stopping;
    w->working = op;
    mutex_unlock(&r->wake_lock);
    return !stopping;
}

static void work_end(struct registry *r, struct worker *w, struct op *op)
{
    mutex_lock(&r->wake_lock);
    w->working = NULL;
    mutex_unlock(&r->wake_lock);
    op_release(op);
}

/* A first look, for many namespaces are idle: is there anything to be maintained? */
static bool maintenance_due(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool ready = ns->state == NS_READY;
    bool collect = ready && (ns->gc_version != ns->tenure.manifest->version ||
                             clock_ms() >= ns->gc_again_ms);
    bool due = ns->group || collect || tail_due(ns);
    mutex_unlock(&ns->lock);
    return due;
}

static bool merge_due(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool look = look_due(ns);
    mutex_unlock(&ns->lock);
    return look || indexer_merge_due(ns, false);
}

static void maintain_in_background(struct registry *r, struct worker *w,
                                   struct namespace *ns)
{
    if (w == &r->maintenance ? !maintenance_due(ns) : !merge_due(ns)) return;
    struct op op;
    bool go_on = work_begin(r, w, &op);

    /* What fails is counted and logged there. */
    if (go_on && w == &r->maintenance) (void)maintain(&op, ns, WORK_IF_DUE);
    if (go_on && w == &r->merger) (void)merge(&op, ns, WORK_IF_DUE);
    work_end(r, w, &op);
}

static void maintain_all(struct registry *r, struct worker *w)
{
    struct walk walk = {0};
    struct namespace *ns;

    while ((ns = table_next(r, &walk))) {
        maintain_in_background(r, w, ns);
        namespace_unref(ns);
    }
}

static bool stop_after(struct registry *r, int64_t ms)
{
    int64_t until_ms = clock_ms() + ms;
    mutex_lock(&r->wake_lock);
    while (!r->stopping && cond_wait(&r->wake, &r->wake_lock, until_ms))
        ;
    bool stopping = r->stopping;
    mutex_unlock(&r->wake_lock);
    return stopping;
}

/* ---- closing what is idle ---- */

/* Nobody has asked for it for long, and all that it needed was done. */
static bool slumbers(const struct registry *r, const struct slot *slot)
{
    struct namespace *ns = slot->ns;
    if (clock_ms() - slot->used_ms < r->options.idle_close_ms) return false;
    if (!namespace_idle(ns) || maintenance_due(ns) || merge_due(ns)) return false;

    mutex_lock(&ns->lock);
    bool done = ns->state != NS_READY ||
                (ns->gc_again_ms == INT64_MAX &&
                 ns->tenure.snapshot->slot + 1 <= ns->tenure.manifest->wm);
    done &= !ns->leading && !ns->maintaining && !ns->merging;
    mutex_unlock(&ns->lock);
    return done;
}

/* Takes idle namespaces out of a bucket; a list of their slots. */
static struct slot *bucket_take_idle(struct registry *r, struct slot **bucket)
{
    struct slot *taken = NULL;
    for (struct slot **at = bucket; *at;) {
        struct slot *slot = *at;
        if (!slumbers(r, slot)) {
            at = &slot->next;
            continue;
        }
        *at = slot->next;
        slot->next = taken;
        taken = slot;
        r->table_count--;
    }
    return taken;
}

/* Looks at some of the table, so that its lock is held for a moment only. */
static void close_idle(struct registry *r)
{
    struct slot *slots[CLOSE_BUCKETS];

    mutex_lock(&r->lock);
    for (size_t i = 0; i < CLOSE_BUCKETS; i++)
        slots[i] = bucket_take_idle(r, &r->table[r->close_hand + i]);
    mutex_unlock(&r->lock);
    r->close_hand = (r->close_hand + CLOSE_BUCKETS) % BUCKETS;
    for (size_t i = 0; i < CLOSE_BUCKETS; i++) {
        for (struct slot *slot = slots[i], *next; slot; slot = next) {
            next = slot->next;
            namespace_unref(slot->ns);
            mem_free(slot);
        }
    }
}

/* What the open namespaces have, all together, for /metrics. */
static void add_totals(struct namespace *ns, struct ns_totals *t)
{
    mutex_lock(&ns->lock);
    if (ns->state == NS_READY) {
        const struct snapshot *s = ns->tenure.snapshot;
        t->segments += ns->tenure.base->source_count;
        t->tail_bytes += s->tail_bytes;
        t->tail_rows += s->tail_rows;
        t->wal_objects += ns->tenure.next - ns->tenure.manifest->floor;
    }
    t->namespaces++;
    mutex_unlock(&ns->lock);
}

static void publish_totals(struct registry *r)
{
    struct walk walk = {0};
    struct ns_totals t = {0};
    struct namespace *ns;

    if (clock_ms() < r->totals_ms) return;
    r->totals_ms = clock_ms() + TOTALS_PAUSE_MS;
    while ((ns = table_next(r, &walk))) {
        add_totals(ns, &t);
        namespace_unref(ns);
    }
    ns_metrics_set(&t);
}

static void maintenance_main(void *arg)
{
    struct registry *r = arg;
    thread_yield_to_others(MAINTENANCE_NICE);
    do {
        maintain_all(r, &r->maintenance);
        close_idle(r);
        publish_totals(r);
    } while (!stop_after(r, TICK_MS));
}

/* A merge may take minutes, in which no tail may wait: so it has a thread to itself. */
static void merger_main(void *arg)
{
    struct registry *r = arg;
    thread_yield_to_others(MERGER_NICE);
    do {
        maintain_all(r, &r->merger);
    } while (!stop_after(r, MERGER_TICK_MS));
}

/* What the surveyor is at from now on; op is canceled when the registry stops. */
static struct op *surveyor_turn_to(struct registry *r, struct op *op)
{
    mutex_lock(&r->wake_lock);
    struct op *before = r->surveyor.working;
    r->surveyor.working = op;
    if (r->stopping) op_cancel(op);
    mutex_unlock(&r->wake_lock);
    return before;
}

/* The survey found that this namespace has work: opens it and does it at once, so that
 * the tails of many namespaces never wait in memory together. */
static void work_on(void *context, const char *name)
{
    struct registry *r = context;
    struct op op;

    op_init(&op, clock_ms() + MERGE_TIMEOUT_MS, 0);
    struct op *survey = surveyor_turn_to(r, &op);
    enum err e =
        work_now(&op, r, name, r->options.compaction ? WORK_COMPACT : WORK_INDEX);
    if (e && e != ERR_CANCELED)
        log_warn(&op, "an idle namespace was not indexed, will try again",
                 "namespace=%s error=%s", name, op.error);
    r->survey_failed |= e != ERR_OK;
    (void)surveyor_turn_to(r, survey);
    op_release(&op);
}

static void survey(struct registry *r, struct survey *s)
{
    struct op op;
    uint64_t count;
    bool all = false;

    op_init(&op, OP_NO_DEADLINE, 0);
    (void)surveyor_turn_to(r, &op);
    enum err e = survey_run(&op, s, work_on, r, &count, &all);
    if (!e) atomic_store(&r->count, count);
    r->survey_failed |= !all;
    if (e && e != ERR_CANCELED)
        log_warn(&op, "namespaces were not counted", "error=%s", op.error);
    work_end(r, &r->surveyor, &op);
}

static void surveyor_main(void *arg)
{
    struct registry *r = arg;
    struct survey *s = survey_new(&r->options);
    thread_yield_to_others(MERGER_NICE);
    int64_t pause_ms = r->options.interval_ms;

    if (pause_ms < SURVEY_PAUSE_MIN_MS) pause_ms = SURVEY_PAUSE_MIN_MS;
    int64_t again_ms = pause_ms < SURVEY_AGAIN_MS ? pause_ms : SURVEY_AGAIN_MS;
    do {
        r->survey_failed = false;
        survey(r, s);
    } while (!stop_after(r, r->survey_failed ? again_ms : pause_ms));
    survey_free(s);
}

/* ---- life ---- */

struct registry *registry_new(const struct registry_options *options)
{
    assert(options->request_bytes_max > 0 &&
           options->request_bytes_max <= WAL_BATCH_SIZE_MAX);
    struct registry *r = mem_new(struct registry);
    r->options = *options;
    r->options.node_id = r->node_id = mem_strdup(options->node_id);
    r->options.wal_prefix = r->wal_prefix = mem_strdup(options->wal_prefix);
    if (options->scratch)
        r->options.scratch = r->scratch = mem_strdup(options->scratch);
    mutex_init(&r->lock);
    mutex_init(&r->wake_lock);
    cond_init(&r->wake);
    orders_init(&r->orders, compact_now, r);
    atomic_init(&r->count, 0);
    atomic_init(&r->tails_held, 0);
    r->options.tails_held = &r->tails_held;
    ns_metrics_init();
    r->options.queries = admission_new(REGISTRY_QUERIES_MAX);
    r->opener = opener_new(options->open_threads, options->open_max);
    if (options->background) {
        r->maintenance.thread = thread_start("maintenance", maintenance_main, r);
        r->merger.thread = thread_start("merger", merger_main, r);
        r->surveyor.thread = thread_start("surveyor", surveyor_main, r);
    }
    return r;
}

static void settle_all(struct registry *r, int64_t deadline_ms)
{
    struct walk walk = {0};
    struct namespace *ns;
    struct op op;

    op_init(&op, deadline_ms, 0);
    while ((ns = table_next(r, &walk))) {
        if (namespace_settle(&op, ns))
            log_warn(&op, "a write was not settled before the end",
                     "namespace=%s error=%s", ns->keys.name, op.error);
        op_clear_error(&op);
        namespace_unref(ns);
    }
    op_release(&op);
}

void registry_free(struct registry *r, int64_t deadline_ms)
{
    if (!r) return;
    struct worker *workers[] = {&r->maintenance, &r->merger, &r->surveyor};
    mutex_lock(&r->wake_lock);
    r->stopping = true;
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++)
        if (workers[i]->working) op_cancel(workers[i]->working);
    cond_broadcast(&r->wake);
    mutex_unlock(&r->wake_lock);
    orders_cancel(&r->orders);
    opener_cancel(r->opener);
    orders_release(&r->orders);
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++)
        if (workers[i]->thread) thread_join(workers[i]->thread);
    opener_free(r->opener);
    admission_free(r->options.queries);
    settle_all(r, deadline_ms);

    for (size_t i = 0; i < BUCKETS; i++) {
        while (r->table[i]) {
            struct slot *slot = r->table[i];
            r->table[i] = slot->next;
            namespace_unref(slot->ns);
            mem_free(slot);
        }
    }
    cond_release(&r->wake);
    mutex_release(&r->wake_lock);
    mutex_release(&r->lock);
    mem_free(r->node_id);
    mem_free(r->wal_prefix);
    mem_free(r->scratch);
    mem_free(r);
}
