#include "ns/follower.h"

#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/registry.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "store/store.h"

enum {
    RELOADS_MAX = 5,
    TAIL_ROWS_MAX = 200000,
    LOOK_INTERVAL_MS = 1000,
    HELP_TIMEOUT_MS = 2000
};

void follower_release(struct follower *f, struct cache *cache)
{
    (void)tail_hold(cache, &f->reserved, 0);
    manifest_unref(f->manifest);
    snapshot_unref(f->snapshot);
    idempotency_free(f->table);
    *f = (struct follower){0};
}

static enum err absent(struct op *op, const struct keys *keys)
{
    return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", keys->name);
}

/* Starts again from the newest manifest; without one, from nothing. */
static enum err reload(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct schema *schema,
                       const struct snapshot *old, struct follower *f)
{
    struct manifest *m = NULL;
    struct snapshot *snapshot = NULL;
    struct idempotency *table = NULL;

    enum err e = manifest_newest(op, env->store, keys, &m);
    if (!e && m)
        e = state_load(op, env->cache, keys, m, f->snapshot ? f->snapshot : old,
                       &snapshot, &table);
    if (e) {
        manifest_unref(m);
        return e;
    }
    if (!m) {
        snapshot = state_empty(keys, schema);
        table = idempotency_new();
    }
    uint64_t next_record = f->next_record;
    follower_release(f, env->cache);
    *f = (struct follower){.manifest = m,
                           .snapshot = snapshot,
                           .table = table,
                           .last = m ? m->anchor : (struct put_id){{0}},
                           .next_record = next_record,
                           .looked_ms = clock_ms()};
    return ERR_OK;
}

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

/* Reads slot and applies it if it chains. *chained false: it does not, or is gone. */
static enum err follow(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct follower *f, uint64_t slot,
                       bool *chained)
{
    struct op step;
    struct buf bytes = BUF_INIT;
    struct wal_entry entry;
    struct snapshot *next = NULL, *joined = NULL;

    *chained = false;
    op_init(&step, op->deadline_ms, 0);
    enum err e = wal_read(&step, env->store, keys, slot, &bytes, &entry);
    if (e == ERR_NOT_FOUND) {
        e = ERR_OK;
        goto done;
    }
    if (e) goto done;
    if (slot && !put_id_equal(&entry.prev, &f->last)) goto done;
    if (entry.kind == OBJECT_DROP) {
        help_drop(env, keys, op->deadline_ms);
        e = absent(&step, keys);
        goto done;
    }
    /* Not the fences of times before we followed: lists change, and that is fine. */
    if (entry.kind == OBJECT_FENCE && f->validated_ms && env->opened_by)
        env->opened_by(env->context, keys->name, entry.node_id, entry.fingerprint);
    e = state_replay(&step, f->snapshot, &entry, f->table, &next);
    if (!e) e = state_join_tail(&step, next, 0, &joined);
    if (e) goto done;
    snapshot_unref(f->snapshot);
    f->snapshot = joined ? joined : next;
    if (joined) snapshot_unref(next);
    next = NULL;
    f->last = entry.put_id;
    *chained = true;
    if (!tail_hold(env->cache, &f->reserved, f->snapshot->tail_bytes))
        e = op_fail(&step, ERR_BUSY,
                    "there is no memory for the writes of namespace \"%s\" that wait "
                    "to be indexed",
                    keys->name);
done:
    if (e) {
        snapshot_unref(next);
        (void)op_fail(op, e, "%s", step.error);
    }
    buf_release(&bytes);
    op_release(&step);
    return e;
}

/* The anchor itself must be the entry the manifest means, not a late stranger. */
static enum err check_anchor(struct op *op, const struct registry_options *env,
                             const struct keys *keys, const struct manifest *m,
                             bool *same)
{
    struct buf bytes = BUF_INIT;
    struct wal_entry entry;

    enum err e = wal_read(op, env->store, keys, m->wm - 1, &bytes, &entry);
    *same = !e && put_id_equal(&entry.put_id, &m->anchor);
    buf_release(&bytes);
    if (e != ERR_NOT_FOUND) return e;
    op_clear_error(op);
    return ERR_OK;
}

/* Applies what the log holds behind the prefix. *complete false: it is broken at slot
 * *broken, so start again. */
static enum err catch_up(struct op *op, const struct registry_options *env,
                         const struct keys *keys, struct follower *f, bool *complete,
                         uint64_t *broken)
{
    uint64_t wm = f->manifest ? f->manifest->wm : 0;
    uint64_t first = wm ? wm - 1 : 0;
    bool fresh = f->snapshot->slot + 1 == wm;
    uint64_t *slots;
    size_t count;

    *complete = false;
    enum err e = wal_list(op, env->store, keys, first, &slots, &count);
    if (e) return e;
    if (wal_gap(slots, count, first, f->snapshot->slot + 1, broken)) return ERR_OK;
    if (wm && fresh) {
        bool same;
        *broken = first;
        e = check_anchor(op, env, keys, f->manifest, &same);
        if (e || !same) return e;
    }
    for (uint64_t slot = f->snapshot->slot + 1; slot < first + count; slot++) {
        bool chained;
        *broken = slot;
        e = follow(op, env, keys, f, slot, &chained);
        if (e || !chained) return e;
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
    bool again = last->slot == now.slot && last->version == now.version, current;
    uint64_t next = 0;
    *last = now;
    if (!again) return ERR_OK;
    enum err e = catalog_is_current(op, env->store, keys->name, keys->incarnation,
                                    &next, &current);
    if (e) return e;
    return current ? wal_broken(op, keys, slot) : absent(op, keys);
}

enum err follower_refresh(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct schema *schema,
                          const struct snapshot *old, bool gone, struct follower *f)
{
    int64_t began_ms = clock_ms();
    struct breach breach = {.slot = UINT64_MAX};

    for (int i = 0; i <= RELOADS_MAX; i++) {
        bool current, complete = false, stale = i > 0 || gone || !f->snapshot;
        uint64_t broken = UINT64_MAX;

        enum err e = catalog_is_current(op, env->store, keys->name, keys->incarnation,
                                        &f->next_record, &current);
        if (!e && !current) e = absent(op, keys);
        if (!e && !stale) e = look_for_newer(op, env, keys, f, &stale);
        if (e) return op_fail(op, e, "read namespace \"%s\"", keys->name);
        if (stale) e = reload(op, env, keys, schema, old, f);
        if (e == ERR_NOT_FOUND) {
            op_clear_error(op); /* collected between manifest and segment */
            continue;
        }
        if (!e) e = catch_up(op, env, keys, f, &complete, &broken);
        if (!e && !complete) e = judge(op, env, keys, f, broken, &breach);
        if (e == ERR_BUSY) follower_release(f, env->cache);
        if (e) return op_fail(op, e, "read namespace \"%s\"", keys->name);
        if (!complete) continue;
        f->validated_ms = began_ms;
        return ERR_OK;
    }
    return op_fail(op, ERR_IO, "namespace \"%s\" changes faster than it can be read",
                   keys->name);
}
