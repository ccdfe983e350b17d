#include "ns/follower.h"

#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/registry.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "store/store.h"

enum { RELOADS_MAX = 5, TAIL_ROWS_MAX = 200000 };

void follower_release(struct follower *f, struct cache *cache)
{
    (void)tail_hold(cache, &f->reserved, 0);
    manifest_unref(f->manifest);
    snapshot_unref(f->snapshot);
    idempotency_free(f->table);
    *f = (struct follower){0};
}

static enum err gone(struct op *op, const struct keys *keys)
{
    return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", keys->name);
}

/* Is our incarnation still the newest of the catalog? One LIST when nothing is new. */
static enum err check_catalog(struct op *op, const struct registry_options *env,
                              const struct keys *keys, struct follower *f)
{
    struct key dir = key_catalog_dir(keys->name);
    struct catalog_record record;
    const char *key = NULL;
    size_t n = 1;
    uint64_t number;

    enum err e = store_list(op, env->store, dir.text, "", 0, &key, &n);
    if (e) return e;
    if (n == 0) return gone(op, keys);
    if (key_catalog_number(keys->name, key, &number) && number + 1 == f->catalog_number)
        return ERR_OK;

    e = catalog_newest(op, env->store, keys->name, &record);
    if (e) return e;
    bool same = !record.deleted &&
                memcmp(record.incarnation, keys->incarnation, INCARNATION_SIZE) == 0;
    if (same) f->catalog_number = record.n + 1;
    catalog_release(&record);
    return same ? ERR_OK : gone(op, keys);
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
        e = state_load(op, env->store, env->cache, keys, m,
                       f->snapshot ? f->snapshot : old, &snapshot, &table);
    if (e) {
        manifest_unref(m);
        return e;
    }
    if (!m) {
        snapshot = state_empty(keys, schema);
        table = idempotency_new();
    }
    uint64_t number = f->catalog_number;
    follower_release(f, env->cache);
    *f = (struct follower){.manifest = m,
                           .snapshot = snapshot,
                           .table = table,
                           .last = m ? m->anchor : (struct put_id){{0}},
                           .catalog_number = number};
    return ERR_OK;
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
        e = gone(&step, keys);
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

/* Applies what the log holds behind the prefix. *complete false: start again. */
static enum err catch_up(struct op *op, const struct registry_options *env,
                         const struct keys *keys, struct follower *f, bool *complete)
{
    uint64_t wm = f->manifest ? f->manifest->wm : 0;
    uint64_t first = wm ? wm - 1 : 0;
    bool fresh = f->snapshot->slot + 1 == wm;
    uint64_t *slots;
    size_t count;

    *complete = false;
    enum err e = wal_list(op, env->store, keys, first, &slots, &count);
    if (e) return e;
    for (size_t i = 0; i < count; i++)
        if (slots[i] != first + i) return ERR_OK;
    if (first + count < f->snapshot->slot + 1) return ERR_OK;
    if (wm && fresh) {
        bool same;
        e = check_anchor(op, env, keys, f->manifest, &same);
        if (e || !same) return e;
    }
    for (uint64_t slot = f->snapshot->slot + 1; slot < first + count; slot++) {
        bool chained;
        e = follow(op, env, keys, f, slot, &chained);
        if (e || !chained) return e;
    }
    *complete = true;
    return ERR_OK;
}

enum err follower_refresh(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct schema *schema,
                          const struct snapshot *old, bool gone, struct follower *f)
{
    int64_t began_ms = clock_ms();

    for (int i = 0; i <= RELOADS_MAX; i++) {
        bool stale =
            i > 0 || gone || !f->snapshot || f->snapshot->tail_rows > TAIL_ROWS_MAX;
        bool complete = false;

        enum err e = check_catalog(op, env, keys, f);
        if (e) return op_fail(op, e, "read namespace \"%s\"", keys->name);
        if (stale) e = reload(op, env, keys, schema, old, f);
        if (e == ERR_NOT_FOUND) {
            op_clear_error(op); /* collected between manifest and segment */
            continue;
        }
        if (!e) e = catch_up(op, env, keys, f, &complete);
        if (e == ERR_BUSY) follower_release(f, env->cache);
        if (e) return op_fail(op, e, "read namespace \"%s\"", keys->name);
        if (!complete) continue;
        f->validated_ms = began_ms;
        return ERR_OK;
    }
    return op_fail(op, ERR_IO, "namespace \"%s\" changes faster than it can be read",
                   keys->name);
}
