#include "ns/follower.h"

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/first_look.h"
#include "ns/registry.h"
#include "ns/round.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "store/store.h"

enum {
    RELOADS_MAX = 5,
    TAIL_ROWS_MAX = 200000,
    LOOK_INTERVAL_MS = 1000,
    HELP_TIMEOUT_MS = 2000,
    LARGE_ENTRY_SIZE = 4 << 20 /* not several of them at once */
};

void follower_release(struct follower *f, const struct registry_options *env)
{
    (void)tail_hold(env, &f->reserved, 0);
    manifest_unref(f->manifest);
    snapshot_unref(f->snapshot);
    idempotency_free(f->table);
    *f = (struct follower){0};
}

/* ---- starting again, in two rounds ---- */

/* The slots that the log has from `first` on, and whether the anchor is the entry that
 * the manifest means and not a late stranger. What is listed behind it must chain on
 * from the manifest's own word, so it does not matter which is asked first. */
struct log_look {
    uint64_t first;
    uint64_t *slots; /* the caller's to free */
    size_t count;
    bool anchored;
};

/* What the second one asks (the first is first_look.h): what the manifest's segments
 * hold, and the log. */
struct second_look {
    const struct registry_options *env;
    const struct keys *keys;
    const struct manifest *m;
    const struct snapshot *old;
    struct snapshot *snapshot;
    struct idempotency *table;
    struct log_look log;
};

static enum err load_segments(struct op *op, void *arg)
{
    struct second_look *l = arg;
    return state_load(op, l->env->cache, l->keys, l->m, l->old, &l->snapshot,
                      &l->table);
}

static enum err look_at_log(struct op *op, void *arg)
{
    struct second_look *l = arg;
    uint64_t *slots;
    enum err e =
        wal_list(op, l->env->store, l->keys, l->log.first, &slots, &l->log.count);
    if (!e) l->log.slots = mem_dup(slots, l->log.count * sizeof *slots);
    return e;
}

static enum err look_at_anchor(struct op *op, void *arg)
{
    struct second_look *l = arg;
    struct buf bytes = BUF_INIT;
    struct wal_entry entry;

    enum err e = wal_read(op, l->env->store, l->keys, l->m->wm - 1, &bytes, &entry);
    l->log.anchored = !e && put_id_equal(&entry.put_id, &l->m->anchor);
    buf_release(&bytes);
    if (e != ERR_NOT_FOUND) return e;
    op_clear_error(op);
    return ERR_OK;
}

/* The log behind the manifest, and its segments if load; the anchor if nothing behind
 * it is known. */
static enum err look_second(struct op *op, struct second_look *look, bool load,
                            bool anchor)
{
    struct round_call calls[3] = {{.run = look_at_log, .arg = look}};
    size_t n = 1;

    look->log = (struct log_look){.anchored = true};
    if (look->m && look->m->wm) look->log.first = look->m->wm - 1;
    if (load) calls[n++] = (struct round_call){.run = load_segments, .arg = look};
    if (anchor) calls[n++] = (struct round_call){.run = look_at_anchor, .arg = look};
    return round_run(op, calls, n);
}

/* A fence or a manifest is there: its epoch is news if we followed an older one. Not
 * what was before we followed: lists change, and that is fine. Manifests of old
 * versions do not name their holder. */
static void tell_opening(const struct registry_options *env, const struct keys *keys,
                         const struct follower *f, uint64_t epoch, struct slice node,
                         uint64_t fingerprint)
{
    if (!f->snapshot || !f->validated_ms || epoch <= f->snapshot->epoch) return;
    if (node.size > 0 && env->opened_by)
        env->opened_by(env->context, keys->name, node, fingerprint);
}

/* Starts again from the newest manifest, taken over; without one, from nothing. */
static enum err reload(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct schema *schema,
                       const struct snapshot *old, struct manifest *m,
                       struct follower *f, struct log_look *log)
{
    struct second_look look = {.env = env,
                               .keys = keys,
                               .m = m,
                               .old = f->snapshot ? f->snapshot : old};
    enum err e = look_second(op, &look, m != NULL, m && m->wm);
    if (e) {
        snapshot_unref(look.snapshot);
        idempotency_free(look.table);
        mem_free(look.log.slots);
        manifest_unref(m);
        return e;
    }
    if (!m) {
        look.snapshot = state_empty(keys, schema);
        look.table = idempotency_new();
    }
    /* The fence that says so may be collected, and is not told of again. */
    if (m)
        tell_opening(env, keys, f, m->epoch, slice_str(m->holder_node),
                     m->holder_fingerprint);
    uint64_t next_record = f->next_record;
    follower_release(f, env);
    *f = (struct follower){.manifest = m,
                           .snapshot = look.snapshot,
                           .table = look.table,
                           .last = m ? m->anchor : (struct put_id){{0}},
                           .next_record = next_record,
                           .looked_ms = clock_ms()};
    *log = look.log;
    return ERR_OK;
}

/* The log behind a prefix that is of use still. */
static enum err look_behind(struct op *op, const struct registry_options *env,
                            const struct keys *keys, const struct follower *f,
                            struct log_look *log)
{
    const struct manifest *m = f->manifest;
    struct second_look look = {.env = env, .keys = keys, .m = m};
    bool fresh = m && m->wm && f->snapshot->slot + 1 == m->wm;

    enum err e = look_second(op, &look, false, fresh);
    *log = look.log;
    return e;
}

/* ---- following ---- */

/* Whoever sees the DROP helps. A reader whose credentials do not let it write leaves it
 * to others, after one attempt. */
static void help_drop(const struct registry_options *env, const struct keys *keys,
                      int64_t deadline_ms)
{
    int64_t until_ms = clock_ms() + HELP_TIMEOUT_MS;
    struct op op;

    op_init(&op, until_ms < deadline_ms ? until_ms : deadline_ms, 0);
    (void)catalog_help_drop(&op, env->store, keys, env->wal_prefix, env->node_id);
    op_release(&op);
}

/* One log entry on its way. */
struct entry_fetch {
    struct store *store;
    struct key key;
    struct buf bytes;
    bool gone;
};

static enum err fetch_entry(struct op *op, void *arg)
{
    struct entry_fetch *f = arg;
    enum err e = store_get(op, f->store, f->key.text, OBJECT_SIZE_MAX, &f->bytes);
    f->gone = e == ERR_NOT_FOUND;
    if (!f->gone) return e;
    op_clear_error(op);
    return ERR_OK;
}

/* Applies the entry of a slot if it chains. *chained false: it does not. */
static enum err follow(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct follower *f, uint64_t slot,
                       struct slice bytes, bool *chained)
{
    struct op step;
    struct wal_entry entry;

    *chained = false;
    op_init(&step, op->deadline_ms, 0);
    enum err e = wal_entry_decode(&step, keys, slot, bytes, &entry);
    if (e) goto done;
    if (slot && !put_id_equal(&entry.prev, &f->last)) goto done;
    if (entry.kind == OBJECT_DROP) {
        help_drop(env, keys, op->deadline_ms);
        e = fail_dropped(&step, keys);
        goto done;
    }
    if (entry.kind == OBJECT_FENCE)
        tell_opening(env, keys, f, entry.epoch, entry.node_id, entry.fingerprint);
    e = state_replay(&step, &f->snapshot, &entry, f->table);
    if (e) goto done;
    f->last = entry.put_id;
    *chained = true;
    if (!tail_hold(env, &f->reserved, f->snapshot->tail_bytes))
        e = op_fail(&step, ERR_BUSY,
                    "there is no memory for the writes of namespace \"%s\" that wait "
                    "to be indexed",
                    keys->name);
done:
    if (e) (void)op_fail(op, e, "%s", step.error);
    op_release(&step);
    return e;
}

/* Fetches n entries at once and applies them in order. *chained false: the chain breaks
 * at slot *broken. *large: one of them is a large one. */
static enum err follow_some(struct op *op, const struct registry_options *env,
                            const struct keys *keys, struct follower *f, size_t n,
                            bool *chained, uint64_t *broken, bool *large)
{
    struct entry_fetch fetches[ROUND_CALLS_MAX] = {0};
    struct round_call calls[ROUND_CALLS_MAX];
    uint64_t first = f->snapshot->slot + 1;

    for (size_t i = 0; i < n; i++) {
        fetches[i] =
            (struct entry_fetch){.store = env->store, .key = key_wal(keys, first + i)};
        calls[i] = (struct round_call){.run = fetch_entry, .arg = &fetches[i]};
    }
    enum err e = round_run(op, calls, n);
    *chained = true;
    for (size_t i = 0; i < n; i++) {
        *large |= fetches[i].bytes.size > LARGE_ENTRY_SIZE;
        if (!e && *chained) {
            *broken = first + i;
            *chained = !fetches[i].gone;
            if (*chained)
                e = follow(op, env, keys, f, first + i, buf_slice(&fetches[i].bytes),
                           chained);
        }
        buf_release(&fetches[i].bytes);
    }
    return e;
}

/* Applies what the log holds behind the prefix. *complete false: it is broken at slot
 * *broken, so start again. */
static enum err catch_up(struct op *op, const struct registry_options *env,
                         const struct keys *keys, struct follower *f,
                         const struct log_look *log, bool *complete, uint64_t *broken)
{
    uint64_t end = log->first + log->count;
    size_t window = 1;

    *complete = false;
    if (wal_gap(log->slots, log->count, log->first, f->snapshot->slot + 1, broken))
        return ERR_OK;
    if (!log->anchored) {
        *broken = log->first;
        return ERR_OK;
    }
    while (f->snapshot->slot + 1 < end) {
        uint64_t left = end - (f->snapshot->slot + 1);
        bool chained, large = false;
        enum err e =
            follow_some(op, env, keys, f, left < window ? (size_t)left : window,
                        &chained, broken, &large);
        if (e || !chained) return e;
        window = large                          ? 1
                 : 2 * window < ROUND_CALLS_MAX ? 2 * window
                                                : ROUND_CALLS_MAX;
    }
    *complete = true;
    return ERR_OK;
}

/*
 * A tail that has become long is worth asking, now and then, whether a newer manifest
 * has it in segments.
 */
static enum err look_for_newer(struct op *op, const struct registry_options *env,
                               const struct keys *keys, struct follower *f, bool *newer)
{
    uint64_t version;
    bool found;

    *newer = false;
    if (f->snapshot->tail_rows <= TAIL_ROWS_MAX) return ERR_OK;
    if (clock_ms() - f->looked_ms < LOOK_INTERVAL_MS) return ERR_OK;
    enum err e = manifest_newest_version(op, env->store, keys, &found, &version);
    if (e) return e;
    f->looked_ms = clock_ms();
    *newer = found && version > f->snapshot->manifest_version;
    return ERR_OK;
}

/* Where the log did not go on, under which manifest. */
struct breach {
    uint64_t slot, version;
};

/*
 * The log is broken at a slot: normal once, when it was collected since we read the
 * manifest. At the same slot under the same, newest manifest again, it is damage,
 * unless the namespace was dropped and purged meanwhile, manifests and all.
 */
static enum err judge(struct op *op, const struct registry_options *env,
                      const struct keys *keys, const struct follower *f, uint64_t slot,
                      struct breach *last)
{
    struct breach now = {slot, f->snapshot->manifest_version};
    bool again = last->slot == now.slot && last->version == now.version;
    *last = now;
    if (!again) return ERR_OK;
    enum err e = check_not_dropped(op, env, keys, NULL);
    return e ? e : wal_broken(op, keys, slot);
}

/* Does the incarnation exist, and if the prefix is of no use any more: what is the
 * newest manifest? It is the caller's. */
static enum err look(struct op *op, const struct registry_options *env,
                     const struct keys *keys, struct follower *f, bool *stale,
                     struct manifest **newest)
{
    *newest = NULL;
    if (*stale) return first_look(op, env, keys, &f->next_record, newest);
    enum err e = check_not_dropped(op, env, keys, &f->next_record);
    if (!e) e = look_for_newer(op, env, keys, f, stale);
    if (!e && *stale) e = manifest_newest(op, env->store, keys, newest);
    return e;
}

static enum err check_length(struct op *op, const struct follower *f,
                             const struct log_look *log, uint64_t behind_max)
{
    uint64_t end = log->first + log->count, next = f->snapshot->slot + 1;
    if (!behind_max || end <= next || end - next <= behind_max) return ERR_OK;
    return op_fail(op, ERR_LIMIT,
                   "%llu entries of the log are to be applied, at most "
                   "%llu here",
                   (unsigned long long)(end - next), (unsigned long long)behind_max);
}

/* One attempt. *complete false: the log is broken at slot *broken, or (UINT64_MAX) an
 * object was collected between manifest and segment. */
static enum err refresh_once(struct op *op, const struct registry_options *env,
                             const struct keys *keys, struct schema *schema,
                             const struct refresh *how, bool stale, struct follower *f,
                             bool *complete, uint64_t *broken)
{
    struct log_look log = {.anchored = true};
    struct manifest *newest;

    *complete = false;
    *broken = UINT64_MAX;
    enum err e = look(op, env, keys, f, &stale, &newest);
    if (e) return e;
    if (stale) {
        e = reload(op, env, keys, schema, how->old, newest, f, &log);
        if (e == ERR_NOT_FOUND) {
            op_clear_error(op);
            return ERR_OK;
        }
    } else {
        e = look_behind(op, env, keys, f, &log);
    }
    if (!e) e = check_length(op, f, &log, how->behind_max);
    if (!e) e = catch_up(op, env, keys, f, &log, complete, broken);
    mem_free(log.slots);
    return e;
}

enum err follower_refresh(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct schema *schema,
                          const struct refresh *how, struct follower *f)
{
    int64_t began_ms = clock_ms();
    struct breach breach = {.slot = UINT64_MAX};

    for (int i = 0; i <= RELOADS_MAX; i++) {
        bool complete, stale = i > 0 || how->gone || !f->snapshot;
        uint64_t broken;

        enum err e =
            refresh_once(op, env, keys, schema, how, stale, f, &complete, &broken);
        if (!e && !complete && broken != UINT64_MAX)
            e = judge(op, env, keys, f, broken, &breach);
        if (e == ERR_BUSY) follower_release(f, env);
        if (e) return op_fail(op, e, "read namespace \"%s\"", keys->name);
        if (!complete) continue;
        f->validated_ms = began_ms;
        return ERR_OK;
    }
    return op_fail(op, ERR_IO, "namespace \"%s\" changes faster than it can be read",
                   keys->name);
}
