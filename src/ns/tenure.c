#include "ns/tenure.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/first_look.h"
#include "ns/registry.h"
#include "ns/round.h"
#include "ns/settle.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "store/store.h"

enum { TRIES_MAX = 32, LARGE_ENTRY_SIZE = 4 << 20 };

void tenure_release(struct tenure *t)
{
    manifest_unref(t->manifest);
    snapshot_unref(t->snapshot);
    snapshot_unref(t->base);
    idempotency_free(t->table);
    mem_free(t->fences);
    *t = (struct tenure){0};
}

static void add_fence(struct tenure *t, uint64_t slot, uint64_t wall_ms)
{
    t->fences = mem_realloc(t->fences, (t->fence_count + 1) * sizeof *t->fences);
    t->fences[t->fence_count++] = (struct manifest_fence){slot, wall_ms};
}

/* Who holds the namespace now, for operators: the node (empty: not known), the
 * fingerprint of its list of indexers, and of ours. */
static void holder_words(const struct registry_options *env, const struct keys *keys,
                         struct slice node, uint64_t fingerprint,
                         char out[TENURE_WORDS_MAX])
{
    if (node.size == 0)
        (void)snprintf(out, TENURE_WORDS_MAX,
                       "ownership conflict: namespace \"%s\" has a newer writer",
                       keys->name);
    else if (slice_equal(node, slice_str(env->node_id)))
        (void)
            snprintf(out, TENURE_WORDS_MAX,
                     "ownership conflict: namespace \"%s\" is held by another process "
                     "with this node's id, \"%s\"",
                     keys->name, env->node_id);
    else
        (void)snprintf(out, TENURE_WORDS_MAX,
                       "ownership conflict: namespace \"%s\" is held by node \"%.*s\" "
                       "(its list of indexers is %016llx, ours %016llx)",
                       keys->name, (int)node.size, (const char *)node.data,
                       (unsigned long long)fingerprint,
                       (unsigned long long)env->config_fingerprint);
}

enum err tenure_lost_to(struct op *op, const struct registry_options *env,
                        const struct keys *keys, uint64_t slot, struct slice bytes,
                        char words[TENURE_WORDS_MAX])
{
    struct wal_entry entry;

    enum err e = wal_entry_decode(op, keys, slot, bytes, &entry);
    op_clear_error(op);
    if (!e && entry.kind == OBJECT_DROP) {
        (void)snprintf(words, TENURE_WORDS_MAX, "the namespace was dropped");
        return ERR_NOT_FOUND;
    }
    bool told = !e && entry.kind == OBJECT_FENCE;
    holder_words(env, keys, told ? entry.node_id : SLICE_EMPTY,
                 told ? entry.fingerprint : 0, words);
    return ERR_FENCED;
}

static enum err fenced_by(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct slice node,
                          uint64_t fingerprint)
{
    char words[TENURE_WORDS_MAX];
    holder_words(env, keys, node, fingerprint, words);
    return op_fail(op, ERR_FENCED, "%s", words);
}

static enum err fenced_by_manifest(struct op *op, const struct registry_options *env,
                                   const struct keys *keys, const struct manifest *m)
{
    return fenced_by(op, env, keys, slice_str(m->holder_node), m->holder_fingerprint);
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

static enum err overtaken(struct op *op, const struct keys *keys)
{
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: another node opened namespace \"%s\" at the "
                   "same time",
                   keys->name);
}

/* The manifest by which this node takes the next epoch. */
static struct manifest *claim_of(const struct registry_options *env,
                                 const struct manifest *newest)
{
    struct manifest *mine = manifest_copy(newest);
    mine->version++;
    mine->epoch++;
    mem_free(mine->holder_node);
    mine->holder_node = mem_strdup(env->node_id);
    mine->holder_fingerprint = env->config_fingerprint;
    return mine;
}

/* Step 2: a manifest of a new epoch, stored but not confirmed. newest (taken over): the
 * newest one as of now, or NULL. */
static enum err claim_epoch(struct op *op, const struct registry_options *env,
                            const struct keys *keys, struct schema *schema,
                            struct manifest *newest, struct manifest **out)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        enum published published;
        enum err e = ERR_OK;

        if (!newest) e = create_first(op, env, keys, schema);
        if (!newest && !e) e = manifest_newest(op, env->store, keys, &newest);
        if (e) return e;
        if (!newest) continue;

        struct manifest *mine = claim_of(env, newest);
        e = manifest_create(op, env->store, keys, newest, mine, &published);
        manifest_unref(newest);
        newest = NULL;
        if (!e && published == PUBLISHED) {
            *out = mine;
            return ERR_OK;
        }
        manifest_unref(mine);
        if (!e && published == PUBLISH_OVERTAKEN) e = overtaken(op, keys);
        if (!e) e = manifest_newest(op, env->store, keys, &newest);
        if (e) return e;
    }
    manifest_unref(newest);
    return op_fail(op, ERR_FENCED,
                   "ownership conflict: namespace \"%s\" is opened by "
                   "several nodes at once",
                   keys->name);
}

/* The entry of a higher epoch says who, if it is a fence. */
static enum err newer_writer(struct op *op, const struct registry_options *env,
                             const struct keys *keys, const struct wal_entry *entry)
{
    struct slice node = entry->kind == OBJECT_FENCE ? entry->node_id : SLICE_EMPTY;
    return fenced_by(op, env, keys, node, entry->fingerprint);
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

/*
 * A slot is missing above our manifest's floor. We listed the log after we claimed our
 * epoch, so only two can have deleted it: a newer owner, whose manifest is there then,
 * or whoever purged the namespace after its DROP, as the catalog then says.
 */
static enum err explain_gap(struct op *op, const struct registry_options *env,
                            const struct keys *keys, const struct manifest *m,
                            uint64_t missing)
{
    struct manifest *newest = NULL;
    enum err e = check_not_dropped(op, env, keys, NULL);
    if (!e) e = manifest_newest(op, env->store, keys, &newest);
    if (!e && newest && newest->version == m->version)
        e = wal_broken(op, keys, missing);
    else if (!e && newest)
        e = fenced_by_manifest(op, env, keys, newest);
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
    if (entry.kind == OBJECT_DROP) return fail_dropped(op, keys);
    /* A fence behind a newer writer's entries would fence nobody but us. */
    if (entry.epoch > t->epoch) return newer_writer(op, env, keys, &entry);
    t->last = entry.put_id;
    return ERR_OK;
}

/* Another's entry is in the slot we wanted for our fence. ERR_OK: step over it. */
static enum err step_over(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct tenure *t, struct slice bytes)
{
    struct wal_entry other;
    enum err e = wal_entry_decode(op, keys, t->next, bytes, &other);
    if (e) return e;
    if (other.kind == OBJECT_DROP) return fail_dropped(op, keys);
    if (other.epoch > t->epoch) return newer_writer(op, env, keys, &other);
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

/* Step 5: our fence at the end of the log, which t knows if at_end. */
static enum err put_fence(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct tenure *t, bool at_end,
                          struct wal_entry *fence)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        struct buf bytes = BUF_INIT, other = BUF_INIT;
        enum settled outcome;

        enum err e = at_end ? ERR_OK : find_end(op, env, keys, t->manifest, t, &at_end);
        if (e) return e;
        if (!at_end) continue;
        encode_fence(env, keys, t, fence, &bytes);
        struct key key = key_wal(keys, t->next);
        struct settle settle = {.key = key.text, .bytes = buf_slice(&bytes)};
        e = settle_create(op, env->store, &settle, &outcome, &other);
        if (!e && outcome == SETTLED_TAKEN)
            e = step_over(op, env, keys, t, buf_slice(&other));
        if (!e && outcome == SETTLED_VANISHED) at_end = false;
        buf_release(&bytes);
        buf_release(&other);
        if (e) return e;
        if (outcome != SETTLED_APPLIED) continue;
        t->fence_slot = t->next++;
        t->last = fence->put_id;
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
    if (!newest || newest->epoch != t->epoch)
        e = newest
                ? fenced_by_manifest(op, env, keys, newest)
                : op_fail(op, ERR_FENCED, "namespace \"%s\" was removed", keys->name);
    manifest_unref(newest);
    return e;
}

enum err tenure_missing(struct op *op, const struct registry_options *env,
                        const struct keys *keys, const struct tenure *t)
{
    enum err e = check_not_dropped(op, env, keys, NULL);
    if (!e) e = tenure_validate(op, env, keys, t);
    return e ? e
             : op_fail(op, ERR_CORRUPT, "an object of namespace \"%s\" is missing",
                       keys->name);
}

/* ---- step 7: the entries behind the manifest, checked to chain, in order ---- */

/* One log entry on its way. */
struct fetch {
    struct store *store;
    struct key key;
    struct buf bytes;
};

static enum err fetch_entry(struct op *op, void *arg)
{
    struct fetch *f = arg;
    return store_get(op, f->store, f->key.text, OBJECT_SIZE_MAX, &f->bytes);
}

static enum err apply_entry(struct op *op, const struct keys *keys, struct tenure *t,
                            const struct wal_entry *entry, struct put_id *prev)
{
    if (entry->slot && !put_id_equal(&entry->prev, prev))
        return wal_broken(op, keys, entry->slot);
    enum err e = state_replay(op, &t->snapshot, entry, t->table);
    if (e) return e;
    *prev = entry->put_id;
    if (entry->kind == OBJECT_FENCE) add_fence(t, entry->slot, entry->wall_ms);
    return ERR_OK;
}

static enum err apply_fetched(struct op *op, const struct keys *keys, struct tenure *t,
                              uint64_t slot, struct slice bytes, struct put_id *prev)
{
    struct op step; /* an entry's documents are not needed behind it */
    struct wal_entry entry;

    op_init(&step, op->deadline_ms, 0);
    enum err e = wal_entry_decode(&step, keys, slot, bytes, &entry);
    if (!e) e = apply_entry(&step, keys, t, &entry, prev);
    if (e) (void)op_fail(op, e, "%s", step.error);
    op_release(&step);
    return e;
}

/* Fetches and applies n entries from slot on. *large: one of them is a large one. */
static enum err replay_some(struct op *op, const struct registry_options *env,
                            const struct keys *keys, struct tenure *t, uint64_t slot,
                            size_t n, struct put_id *prev, bool *large)
{
    struct fetch fetches[ROUND_CALLS_MAX] = {0};
    struct round_call calls[ROUND_CALLS_MAX];

    for (size_t i = 0; i < n; i++) {
        fetches[i] = (struct fetch){env->store, key_wal(keys, slot + i), BUF_INIT};
        calls[i] = (struct round_call){.run = fetch_entry, .arg = &fetches[i]};
    }
    enum err e = round_run(op, calls, n);
    for (size_t i = 0; i < n; i++) {
        if (!e)
            e = apply_fetched(op, keys, t, slot + i, buf_slice(&fetches[i].bytes),
                              prev);
        *large |= fetches[i].bytes.size > LARGE_ENTRY_SIZE;
        buf_release(&fetches[i].bytes);
    }
    return e;
}

/* The entries below our fence, more and more at once while they are small, and then
 * the fence. */
static enum err replay(struct op *op, const struct registry_options *env,
                       const struct keys *keys, struct tenure *t,
                       const struct wal_entry *fence)
{
    struct put_id prev = t->manifest->anchor;
    size_t window = 1;
    enum err e = ERR_OK;

    for (uint64_t slot = t->manifest->wm; slot < t->fence_slot && !e;) {
        uint64_t left = t->fence_slot - slot;
        size_t n = left < window ? (size_t)left : window;
        bool large = false;
        e = replay_some(op, env, keys, t, slot, n, &prev, &large);
        slot += n;
        window = large                          ? 1
                 : 2 * window < ROUND_CALLS_MAX ? 2 * window
                                                : ROUND_CALLS_MAX;
    }
    return e ? e : apply_entry(op, keys, t, fence, &prev);
}

/* ---- the whole ---- */

/*
 * What can be asked for as soon as the epoch's manifest is stored: whether it is the
 * newest (step 3), where the log ends (step 4), and what its segments hold. That steps
 * 3 and 4 may change places is no weaker than the protocol: a manifest that is the
 * newest at the later of two moments behind its making was the newest at the earlier
 * one.
 */
struct second_look {
    const struct registry_options *env;
    const struct keys *keys;
    const struct snapshot *old;
    struct tenure *t;
    enum published published;
    bool at_end;
};

static enum err confirm_epoch(struct op *op, void *arg)
{
    struct second_look *l = arg;
    return manifest_confirm(op, l->env->store, l->keys, l->t->manifest, &l->published);
}

static enum err look_at_end(struct op *op, void *arg)
{
    struct second_look *l = arg;
    return find_end(op, l->env, l->keys, l->t->manifest, l->t, &l->at_end);
}

static enum err load_segments(struct op *op, void *arg)
{
    struct second_look *l = arg;
    return state_load(op, l->env->cache, l->keys, l->t->manifest, l->old,
                      &l->t->snapshot, &l->t->table);
}

static enum err look_second(struct op *op, const struct registry_options *env,
                            const struct keys *keys, const struct snapshot *old,
                            struct tenure *t, bool *at_end)
{
    struct second_look look = {.env = env, .keys = keys, .old = old, .t = t};
    struct round_call calls[] = {{.run = confirm_epoch, .arg = &look},
                                 {.run = look_at_end, .arg = &look},
                                 {.run = load_segments, .arg = &look}};

    enum err e = round_run(op, calls, sizeof calls / sizeof calls[0]);
    if (!calls[0].err && look.published != PUBLISHED) {
        op_clear_error(op); /* whatever else went wrong, this is why */
        return overtaken(op, keys);
    }
    bool missing = !calls[0].err && !calls[1].err && calls[2].err == ERR_NOT_FOUND;
    if (missing) return tenure_missing(op, env, keys, t);
    *at_end = look.at_end;
    return e;
}

/* Step 6 for a tenure that has published nothing since its first manifest: that is the
 * newest still, so its epoch is ours and its floor below our fence. */
static enum err validate_first(struct op *op, const struct registry_options *env,
                               const struct keys *keys, const struct tenure *t)
{
    enum published published;
    enum err e = manifest_confirm(op, env->store, keys, t->manifest, &published);
    assert(t->manifest->floor <= t->fence_slot);
    if (e || published == PUBLISHED) return e;
    e = tenure_validate(op, env, keys, t); /* has the words */
    return e ? e : overtaken(op, keys);
}

/* What remains behind the fence: step 6, and the log's entries, which step 6 does not
 * depend on. */
struct last_look {
    const struct registry_options *env;
    const struct keys *keys;
    struct tenure *t;
    const struct wal_entry *fence;
};

static enum err validate_epoch(struct op *op, void *arg)
{
    const struct last_look *l = arg;
    return validate_first(op, l->env, l->keys, l->t);
}

static enum err replay_log(struct op *op, void *arg)
{
    const struct last_look *l = arg;
    return replay(op, l->env, l->keys, l->t, l->fence);
}

static enum err look_last(struct op *op, const struct registry_options *env,
                          const struct keys *keys, struct tenure *t,
                          const struct wal_entry *fence)
{
    struct last_look look = {.env = env, .keys = keys, .t = t, .fence = fence};
    struct round_call calls[] = {{.run = validate_epoch, .arg = &look},
                                 {.run = replay_log, .arg = &look}};
    return round_run(op, calls, sizeof calls / sizeof calls[0]);
}

enum err tenure_open(struct op *op, const struct registry_options *env,
                     const struct keys *keys, struct schema *schema,
                     uint64_t next_record, const struct snapshot *old,
                     struct tenure *out)
{
    struct tenure t = {0};
    struct manifest *newest = NULL;
    struct wal_entry fence;
    bool at_end = false;

    /* Steps 0 and 1. */
    enum err e = first_look(op, env, keys, &next_record, &newest);
    if (!e) e = claim_epoch(op, env, keys, schema, newest, &t.manifest);
    if (e) goto done;
    t.epoch = t.manifest->epoch;
    e = look_second(op, env, keys, old, &t, &at_end);
    if (e) goto done;
    t.base = snapshot_ref(t.snapshot);
    t.table_stored = idempotency_version(t.table);
    e = put_fence(op, env, keys, &t, at_end, &fence);
    if (!e) e = look_last(op, env, keys, &t, &fence);
    if (e == ERR_NOT_FOUND && t.fence_slot) e = tenure_missing(op, env, keys, &t);
    if (e) goto done;
    log_info(op, "namespace opened",
             "namespace=%s epoch=%llu slot=%llu documents=%llu rounds=%llu", keys->name,
             (unsigned long long)t.epoch, (unsigned long long)t.fence_slot,
             (unsigned long long)t.snapshot->row_count,
             (unsigned long long)op->counters.rounds);
    *out = t;
    t = (struct tenure){0};
done:
    tenure_release(&t);
    return e ? op_fail(op, e, "open namespace \"%s\"", keys->name) : ERR_OK;
}
