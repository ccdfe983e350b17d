#include "ns/tenure.h"

#include <assert.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/registry.h"
#include "ns/settle.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "store/store.h"

enum { TRIES_MAX = 32 };

void tenure_release(struct tenure *t)
{
    manifest_unref(t->manifest);
    snapshot_unref(t->snapshot);
    idempotency_free(t->table);
    mem_free(t->fences);
    *t = (struct tenure){0};
}

void tenure_add_fence(struct tenure *t, uint64_t slot, uint64_t wall_ms)
{
    t->fences = mem_realloc(t->fences, (t->fence_count + 1) * sizeof *t->fences);
    t->fences[t->fence_count++] = (struct manifest_fence){slot, wall_ms};
}

static enum err fenced_by(struct op *op, const struct keys *keys, const char *node,
                          int node_size, uint64_t fingerprint)
{
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: namespace \"%s\" is held by node \"%.*s\" "
                   "(configuration %016llx)",
                   keys->name, node_size, node, (unsigned long long)fingerprint);
}

static enum err fenced_by_manifest(struct op *op, const struct keys *keys,
                                   const struct manifest *m)
{
    return fenced_by(op, keys, m->holder_node, (int)strlen(m->holder_node),
                     m->holder_fingerprint);
}

/* The very first manifest: nothing indexed, epoch 0. Who wins does not matter. */
static enum err create_first(struct op *op, const struct registry_options *env,
                             const struct keys *keys, struct schema *schema)
{
    struct manifest *m = manifest_new();
    enum published published;

    m->schema = schema_ref(schema);
    enum err e = manifest_publish(op, env->store, keys, NULL, m, &published);
    manifest_unref(m);
    return e;
}

/* Steps 1 to 3: a manifest of a new epoch that is ours. */
static enum err claim_epoch(struct op *op, const struct registry_options *env,
                            const struct keys *keys, struct schema *schema,
                            struct manifest **out)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        struct manifest *newest = NULL;
        enum published published;

        enum err e = manifest_newest(op, env->store, keys, &newest);
        if (!e && !newest) e = create_first(op, env, keys, schema);
        if (e) return e;
        if (!newest) continue;

        struct manifest *mine = manifest_copy(newest);
        mine->version++;
        mine->epoch++;
        mem_free(mine->holder_node);
        mine->holder_node = mem_strdup(env->node_id);
        mine->holder_fingerprint = env->config_fingerprint;
        e = manifest_publish(op, env->store, keys, newest, mine, &published);
        manifest_unref(newest);
        if (!e && published == PUBLISHED) {
            *out = mine;
            return ERR_OK;
        }
        if (!e && published == PUBLISH_OVERTAKEN)
            e = op_fail(
                op, ERR_FENCED,
                "ownership conflict: another node opened namespace \"%s\" at the "
                "same time",
                keys->name);
        manifest_unref(mine);
        if (e) return e;
    }
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: namespace \"%s\" is opened by "
                   "several nodes at once",
                   keys->name);
}

/* The entry of a higher epoch says who. */
static enum err newer_writer(struct op *op, const struct keys *keys,
                             const struct wal_entry *entry)
{
    if (entry->kind == OBJECT_FENCE)
        return fenced_by(op, keys, (const char *)entry->node_id.data,
                         (int)entry->node_id.size, entry->fingerprint);
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: namespace \"%s\" has a newer writer",
                   keys->name);
}

/* Reads one slot only for who wrote it: kind, epoch, put-id and node. */
static enum err peek(struct op *op, const struct registry_options *env,
                     const struct keys *keys, uint64_t slot, struct wal_entry *entry)
{
    struct buf bytes = BUF_INIT;
    enum err e = wal_read(op, env->store, keys, slot, &bytes, entry);
    if (!e && entry->node_id.size) entry->node_id = op_copy(op, entry->node_id);
    buf_release(&bytes);
    return e;
}

static enum err dropped(struct op *op, const struct keys *keys)
{
    return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", keys->name);
}

/*
 * A slot is missing above our manifest's floor. We listed the log after we claimed our
 * epoch, so only a newer owner can have deleted it; then its manifest is there.
 */
static enum err explain_gap(struct op *op, const struct registry_options *env,
                            const struct keys *keys, const struct manifest *m,
                            uint64_t missing)
{
    struct manifest *newest = NULL;
    enum err e = manifest_newest(op, env->store, keys, &newest);
    if (!e && newest && newest->version == m->version)
        e = wal_broken(op, keys, missing);
    else if (!e && newest)
        e = fenced_by_manifest(op, keys, newest);
    manifest_unref(newest);
    return e;
}

/*
 * Step 4: where the log ends. *found false: what the manifest promises is not there,
 * because a newer owner collected it meanwhile.
 */
static enum err find_end(struct op *op, const struct registry_options *env,
                         const struct keys *keys, const struct manifest *m,
                         struct tenure *t, bool *found)
{
    uint64_t first = m->wm ? m->wm - 1 : 0;
    uint64_t *slots;
    size_t count;
    uint64_t missing;

    *found = false;
    enum err e = wal_list(op, env->store, keys, first, &slots, &count);
    if (e) return e;
    if (wal_gap(slots, count, first, m->wm, &missing))
        return explain_gap(op, env, keys, m, missing);

    t->next = first + count;
    t->last = (struct put_id){{0}};
    *found = true;
    if (t->next == 0) return ERR_OK;

    struct wal_entry entry;
    e = peek(op, env, keys, t->next - 1, &entry);
    if (e == ERR_NOT_FOUND) {
        op_clear_error(op);
        *found = false;
        return ERR_OK;
    }
    if (e) return e;
    if (entry.kind == OBJECT_DROP) return dropped(op, keys);
    /* A fence behind a newer writer's entries would fence nobody but us. */
    if (entry.epoch > t->epoch) return newer_writer(op, keys, &entry);
    t->last = entry.put_id;
    return ERR_OK;
}

/* Another's entry is in the slot we wanted for our fence. ERR_OK: step over it. */
static enum err step_over(struct op *op, const struct keys *keys, struct tenure *t,
                          struct slice bytes)
{
    struct wal_entry other;
    enum err e = wal_entry_decode(op, keys, t->next, bytes, &other);
    if (e) return e;
    if (other.kind == OBJECT_DROP) return dropped(op, keys);
    if (other.epoch > t->epoch) return newer_writer(op, keys, &other);
    /* One epoch belongs to one process, which puts one fence: anything else means that
     * two processes hold our epoch, and nothing can be trusted any more. */
    assert(other.epoch < t->epoch);
    t->last = other.put_id;
    t->next++;
    return ERR_OK;
}

static void encode_fence(const struct registry_options *env, const struct keys *keys,
                         const struct tenure *t, struct wal_entry *fence,
                         struct buf *bytes)
{
    *fence = (struct wal_entry){.kind = OBJECT_FENCE,
                                .slot = t->next,
                                .epoch = t->epoch,
                                .put_id = put_id_new(),
                                .prev = t->last,
                                .wall_ms = (uint64_t)clock_wall_ms(),
                                .node_id = slice_str(env->node_id),
                                .fingerprint = env->config_fingerprint};
    wal_entry_encode(fence, keys->incarnation, bytes);
}

/* Steps 4 and 5: our fence at the end of the log. */
static enum err put_fence(struct op *op, const struct registry_options *env,
                          const struct keys *keys, const struct manifest *m,
                          struct tenure *t)
{
    bool at_end = false;

    for (int i = 0; i < TRIES_MAX; i++) {
        struct buf bytes = BUF_INIT, other = BUF_INIT;
        struct wal_entry fence;
        enum settled outcome;

        enum err e = at_end ? ERR_OK : find_end(op, env, keys, m, t, &at_end);
        if (e) return e;
        if (!at_end) continue;
        encode_fence(env, keys, t, &fence, &bytes);
        struct key key = key_wal(keys, t->next);
        struct settle settle = {.key = key.text, .bytes = buf_slice(&bytes)};
        e = settle_create(op, env->store, &settle, &outcome, &other);
        if (!e && outcome == SETTLED_TAKEN)
            e = step_over(op, keys, t, buf_slice(&other));
        if (!e && outcome == SETTLED_VANISHED) at_end = false;
        buf_release(&bytes);
        buf_release(&other);
        if (e) return e;
        if (outcome != SETTLED_APPLIED) continue;
        t->fence_slot = t->next++;
        t->last = fence.put_id;
        return ERR_OK;
    }
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: the log of namespace \"%s\" grows "
                   "faster than it can be fenced",
                   keys->name);
}

enum err tenure_validate(struct op *op, const struct registry_options *env,
                         const struct keys *keys, const struct tenure *t)
{
    struct manifest *newest = NULL;
    enum err e = manifest_newest(op, env->store, keys, &newest);
    if (e) return e;
    if (!newest || newest->epoch != t->epoch || newest->floor > t->fence_slot)
        e = newest
                ? fenced_by_manifest(op, keys, newest)
                : op_fail(op, ERR_FENCED, "namespace \"%s\" was removed", keys->name);
    manifest_unref(newest);
    return e;
}

enum err tenure_missing(struct op *op, const struct registry_options *env,
                        const struct keys *keys, const struct tenure *t)
{
    enum err e = tenure_validate(op, env, keys, t);
    return e ? e
             : op_fail(op, ERR_CORRUPT, "an object of namespace \"%s\" is missing",
                       keys->name);
}

/* Step 7: the entries behind the manifest, checked to chain, applied in order. */
static enum err replay(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct tenure *t)
{
    struct put_id prev = t->manifest->anchor;

    for (uint64_t slot = t->manifest->wm; slot < t->next; slot++) {
        struct op step;
        struct buf bytes = BUF_INIT;
        struct wal_entry entry;
        struct snapshot *next = NULL;

        op_init(&step, op->deadline_ms, 0);
        enum err e = wal_read(&step, env->store, keys, slot, &bytes, &entry);
        if (!e && slot && !put_id_equal(&entry.prev, &prev))
            e = op_fail(&step, ERR_CORRUPT,
                        "the log of namespace \"%s\" does not chain at "
                        "slot %llu",
                        keys->name, (unsigned long long)slot);
        if (!e) e = state_replay(&step, t->snapshot, &entry, t->table, &next);
        if (!e) {
            snapshot_unref(t->snapshot);
            t->snapshot = next;
            prev = entry.put_id;
            if (entry.kind == OBJECT_FENCE) tenure_add_fence(t, slot, entry.wall_ms);
            e = state_join_tail(&step, t->snapshot, 0, &next);
            if (!e && next) {
                snapshot_unref(t->snapshot);
                t->snapshot = next;
            }
        }
        buf_release(&bytes);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
        if (e) return e;
    }
    return ERR_OK;
}

enum err tenure_open(struct op *op, const struct registry_options *env,
                     const struct keys *keys, struct schema *schema,
                     const struct snapshot *old, struct tenure *out)
{
    struct tenure t = {0};
    uint64_t next_record = 0;
    bool current;

    enum err e = catalog_is_current(op, env->store, keys->name, keys->incarnation,
                                    &next_record, &current);
    if (!e && !current) e = dropped(op, keys);
    if (!e) e = claim_epoch(op, env, keys, schema, &t.manifest);
    if (e) goto done;
    t.epoch = t.manifest->epoch;
    e = put_fence(op, env, keys, t.manifest, &t);
    if (!e) e = tenure_validate(op, env, keys, &t);
    if (e) goto done;

    e = state_load(op, env->store, env->cache, keys, t.manifest, old, &t.snapshot,
                   &t.table);
    if (!e) t.table_stored = idempotency_version(t.table);
    if (!e) e = replay(op, env, keys, &t);
    if (e == ERR_NOT_FOUND) e = tenure_missing(op, env, keys, &t);
    if (e) goto done;
    log_info(op, "namespace opened", "namespace=%s epoch=%llu slot=%llu documents=%llu",
             keys->name, (unsigned long long)t.epoch, (unsigned long long)t.fence_slot,
             (unsigned long long)t.snapshot->row_count);
    *out = t;
    t = (struct tenure){0};
done:
    tenure_release(&t);
    return e ? op_fail(op, e, "open namespace \"%s\"", keys->name) : ERR_OK;
}
