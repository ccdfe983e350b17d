/*
 * Deleting what no manifest needs (PROTOCOL: GC). Every delete is justified by a
 * manifest that this tenure published and post-checked (I6): log slots below its floor
 * that are not fences, objects it lists as removed, manifests far behind it, and
 * segment objects of an older epoch that it does not name (their maker can never
 * publish again, so no clock is needed). What a job of our own epoch wrote before it
 * failed, surely without a manifest, is deleted before the next one begins, so it
 * cannot gather. A failure is counted and logged, and tried again the next time.
 */
#include "ns/namespace.h"

#include "base/log.h"
#include "base/op.h"
#include "ns/catalog.h"
#include "ns/ns_metrics.h"
#include "ns/wal.h"
#include "store/store.h"

enum { PAGE = 1000, MANIFESTS_KEPT = 32, MANIFESTS_STEP = 8, GC_PAUSE_MS = 1000 };
/* So long a writer of a dropped incarnation may sleep and still meets its DROP. After a
 * day it asks for its tenure before it writes (commit.c), so this is ample. */
#define DROPPED_LOG_KEPT_MS ((uint64_t)30 * 24 * 3600 * 1000)

static void count_failure(struct op *op, const char *what, const char *name)
{
    ns_count(NS_GC_FAILURES);
    log_warn(op, "obsolete objects were not deleted, will try again",
             "what=%s namespace=%s error=%s", what, name, op->error);
}

static bool is_fence(const struct manifest *m, uint64_t slot)
{
    uint32_t low = 0, high = m->fence_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->fences[middle].slot < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->fence_count && m->fences[low].slot == slot;
}

/* (a) Log slots below the floor, except fences. */
static enum err collect_log(struct op *op, struct namespace *ns,
                            const struct manifest *m)
{
    const char *keys[PAGE];
    uint64_t *slots;
    size_t count, n = 0;

    enum err e = wal_list(op, ns->env->store, &ns->keys, 0, &slots, &count);
    for (size_t i = 0; !e && i < count && slots[i] < m->floor; i++) {
        if (is_fence(m, slots[i])) continue;
        struct key key = key_wal(&ns->keys, slots[i]);
        keys[n] = (const char *)op_copy(op, slice_str(key.text)).data;
        if (!keys[n]) return ERR_LIMIT;
        if (++n < PAGE) continue;
        e = store_delete(op, ns->env->store, keys, n);
        n = 0;
    }
    if (!e && n) e = store_delete(op, ns->env->store, keys, n);
    return e;
}

/* Is it to stay a while yet? Who removed it may have had another calendar than we: what
 * seems to come from afar in the future does not wait for that day. */
static bool is_young(const struct manifest_removed *removed, int64_t grace_ms)
{
    int64_t age_ms = clock_wall_ms() - (int64_t)removed->wall_ms;
    return age_ms < grace_ms && age_ms >= -grace_ms;
}

/* (b) Objects that manifests stopped naming long enough ago. How far it came is told by
 * the manifests' versions, which no calendar sets back. */
static enum err collect_removed(struct op *op, struct namespace *ns,
                                const struct manifest *m, uint64_t *done_version)
{
    const char *keys[PAGE];
    size_t n = 0;
    uint64_t version = *done_version;
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < m->removed_count && !e; i++) {
        const struct manifest_removed *removed = &m->removed[i];
        if (removed->version <= *done_version) continue;
        if (is_young(removed, ns->env->gc_grace_ms)) {
            version = removed->version - 1;
            break;
        }
        version = removed->version;
        keys[n++] = removed->key;
        if (n < PAGE) continue;
        e = store_delete(op, ns->env->store, keys, n);
        n = 0;
    }
    if (!e && n) e = store_delete(op, ns->env->store, keys, n);
    if (!e) *done_version = version;
    return e;
}

/* (c) Manifests behind the newest few. The listing begins with the newest. */
static enum err collect_manifests(struct op *op, struct namespace *ns)
{
    const char *keys[PAGE];
    size_t n = PAGE;

    enum err e = store_list(op, ns->env->store, ns->keys.manifest, "", 0, keys, &n);
    if (e || n <= MANIFESTS_KEPT) return e;
    return store_delete(op, ns->env->store, keys + MANIFESTS_KEPT, n - MANIFESTS_KEPT);
}

/* (d) Segment objects of older epochs that the manifest does not name. */
static enum err collect_orphans(struct op *op, struct namespace *ns,
                                const struct manifest *m, uint64_t epoch)
{
    const char *after = "";
    size_t n = PAGE;

    while (n == PAGE) {
        const char *page[PAGE], *orphans[PAGE];
        size_t orphan_count = 0;
        enum err e =
            store_list(op, ns->env->store, ns->keys.segment, after, 0, page, &n);
        if (e) return e;
        for (size_t i = 0; i < n; i++) {
            uint64_t made;
            if (!key_segment_epoch(&ns->keys, page[i], &made)) continue;
            if (made < epoch && !manifest_mentions(m, page[i]))
                orphans[orphan_count++] = page[i];
        }
        if (orphan_count) e = store_delete(op, ns->env->store, orphans, orphan_count);
        if (e) return e;
        if (n) after = page[n - 1];
    }
    return ERR_OK;
}

/* Puts keys that are left over (taken over) back. */
static void keep_leftovers(struct namespace *ns, char **keys, uint32_t count)
{
    mutex_lock(&ns->lock);
    uint32_t total = ns->leftover_count + count;
    ns->leftovers = mem_realloc(ns->leftovers, total * sizeof *ns->leftovers);
    memcpy(ns->leftovers + ns->leftover_count, keys, count * sizeof *keys);
    ns->leftover_count = total;
    mutex_unlock(&ns->lock);
}

enum err gc_leftovers(struct op *op, struct namespace *ns)
{
    mutex_lock(&ns->lock);
    char **keys = ns->leftovers;
    uint32_t count = ns->leftover_count;
    ns->leftovers = NULL;
    ns->leftover_count = 0;
    mutex_unlock(&ns->lock);

    enum err e = store_delete(op, ns->env->store, (const char *const *)keys, count);
    if (e) {
        count_failure(op, "what a failed job left", ns->keys.name);
        keep_leftovers(ns, keys, count);
    } else {
        for (uint32_t i = 0; i < count; i++)
            mem_free(keys[i]);
    }
    mem_free(keys);
    return e;
}

/* Does the manifest list removed objects that are to stay a while yet? */
static bool removed_remain(const struct manifest *m, uint64_t done_version)
{
    for (uint32_t i = 0; i < m->removed_count; i++)
        if (m->removed[i].version > done_version) return true;
    return false;
}

/* One collection: what it is justified by, and how far it and those before it came. */
struct collection {
    struct manifest *manifest; /* a reference */
    uint64_t epoch;
    uint64_t floor, version, removed, orphans_epoch;
    enum err last_err;
};

/* False: the namespace is not ours. */
static bool begin(struct namespace *ns, struct collection *c)
{
    mutex_lock(&ns->lock);
    bool ours = ns->state == NS_READY;
    if (ours)
        *c = (struct collection){.manifest = manifest_ref(ns->tenure.manifest),
                                 .epoch = ns->tenure.epoch,
                                 .floor = ns->collected_floor,
                                 .version = ns->collected_version,
                                 .removed = ns->collected_removed,
                                 .orphans_epoch = ns->orphans_epoch};
    mutex_unlock(&ns->lock);
    return ours;
}

/* Takes down how far it came, unless the tenure is another one by now. */
static void finish(struct namespace *ns, struct collection *c)
{
    mutex_lock(&ns->lock);
    if (ns->state == NS_READY && ns->tenure.epoch == c->epoch) {
        ns->collected_floor = c->floor;
        ns->collected_version = c->version;
        ns->collected_removed = c->removed;
        ns->orphans_epoch = c->orphans_epoch;
        if (!c->last_err) ns->gc_version = c->manifest->version;
        ns->gc_again_ms = removed_remain(c->manifest, c->removed)
                              ? clock_ms() + GC_PAUSE_MS
                              : INT64_MAX;
    }
    mutex_unlock(&ns->lock);
    manifest_unref(c->manifest);
}

/* One kind of objects was collected, with e: what fails does not hold up the others. */
static bool done(struct op *op, const struct namespace *ns, struct collection *c,
                 const char *what, enum err e)
{
    if (!e) return true;
    count_failure(op, what, ns->keys.name);
    c->last_err = e;
    return false;
}

enum err gc_run(struct op *op, struct namespace *ns)
{
    struct collection c;

    if (!begin(ns, &c)) return ERR_OK;
    const struct manifest *m = c.manifest;
    if (m->floor > c.floor && done(op, ns, &c, "log entries", collect_log(op, ns, m)))
        c.floor = m->floor;
    (void)done(op, ns, &c, "segments", collect_removed(op, ns, m, &c.removed));
    if (m->version >= c.version + MANIFESTS_STEP &&
        done(op, ns, &c, "manifests", collect_manifests(op, ns)))
        c.version = m->version;
    if (c.orphans_epoch != c.epoch &&
        done(op, ns, &c, "orphans", collect_orphans(op, ns, m, c.epoch)))
        c.orphans_epoch = c.epoch;
    finish(ns, &c);
    return c.last_err;
}

/* ---- dropped incarnations ---- */

static enum err purge_dir(struct op *op, struct store *store, const char *dir)
{
    size_t n = PAGE;
    while (n == PAGE) {
        const char *page[PAGE];
        enum err e = store_list(op, store, dir, "", 0, page, &n);
        if (!e && n) e = store_delete(op, store, page, n);
        if (e) return e;
    }
    return ERR_OK;
}

/* DATA entries go; DROP and fences stay for a month, so that a writer of this
 * incarnation that wakes up late still meets them. */
static enum err purge_log(struct op *op, const struct registry_options *env,
                          const struct keys *keys)
{
    uint64_t *slots;
    size_t count;

    enum err e = wal_list(op, env->store, keys, 0, &slots, &count);
    for (size_t i = 0; !e && i < count; i++) {
        struct buf bytes = BUF_INIT;
        struct wal_entry entry;
        e = wal_read(op, env->store, keys, slots[i], &bytes, &entry);
        bool damaged = e == ERR_CORRUPT;
        if (e == ERR_NOT_FOUND || damaged) {
            op_clear_error(op);
            e = ERR_OK;
        } else if (!e && entry.kind == OBJECT_DATA) {
            struct key key = key_wal(keys, slots[i]);
            const char *name = key.text;
            e = store_delete(op, env->store, &name, 1);
        }
        buf_release(&bytes);
    }
    return e;
}

enum err gc_purge(struct op *op, const struct registry_options *env,
                  const struct keys *keys)
{
    uint64_t deleted_ms = 0;
    bool deleted;

    enum err e = catalog_is_deleted(op, env->store, keys->name, keys->incarnation,
                                    &deleted, &deleted_ms);
    if (!e && !deleted) return ERR_OK;
    bool old = (uint64_t)clock_wall_ms() > deleted_ms + DROPPED_LOG_KEPT_MS;
    if (!e) e = purge_dir(op, env->store, keys->segment);
    if (!e) e = purge_dir(op, env->store, keys->manifest);
    /* Last, since the survey finds what is to be purged by its log. */
    if (!e) e = old ? purge_dir(op, env->store, keys->wal) : purge_log(op, env, keys);
    if (e) count_failure(op, "a dropped namespace", keys->name);
    return e;
}
