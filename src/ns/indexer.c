/*
 * Two kinds of jobs, which may run beside each other on one namespace:
 *
 *   the tail becomes a segment, and the manifest's wm moves behind it;
 *   some stored segments become one, and wm stays.
 *
 * Each writes its segment first, however long that takes, and then publishes one
 * manifest made of the newest one and of what the job changed. Only this last step is
 * one at a time. Three snapshots are kept in step with it: base, the effect of the log
 * below wm, which is what the manifest's segments are; frozen, what the tail job works
 * on; and the live one. A merge works on base, so that the manifest's segments stay
 * exactly the effect of the log below its wm, also when the tail job moves wm
 * meanwhile: rows that died since die in the merged segment too.
 *
 * Which segments merge (choose_merge): the smallest ones, as many as fit into
 * segment_docs_max rows, provided that together they have TIER_FANOUT times the rows of
 * the largest among them. So with each merge the segment a row lies in grows at least
 * fourfold, and a row is written at most 1 + log4(segment_docs_max / rows of its first
 * segment) times; at most three segments of about one size are left, about
 * 3 log4(rows / rows of the smallest) in all. Beyond that: when there are more than
 * segments_max, the smallest become one, however large; a round that is asked for, or
 * that comes after interval_ms, merges whatever fits (at most segment_docs_max rows an
 * interval); a segment of which most rows are dead is rewritten.
 */
#include "ns/namespace.h"

#include <assert.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "ns/ns_metrics.h"
#include "ns/pace.h"
#include "ns/slowdown.h"
#include "ns/spool.h"
#include "segment/segment_stats.h"
#include "store/store.h"

enum {
    TIER_FANOUT = 4,
    ZSTD_LEVEL = 3,
    VECTOR_INDEX_FROM = 2048, /* vectors; fewer are scanned in half a millisecond */
    DISCARD_TIMEOUT_MS = 10000,
    SCRATCH_PAUSE_MS = 60000,
    LEFTOVERS_MAX = 64,
    /* While queries run, tails and merges get a fifth of their time. */
    PATIENCE = 4,
    PATIENCE_BEHIND = 1
};
/* Of what a merge reads: when its result may go to a file, and at most otherwise. */
#define MERGE_SPOOLED_MAX ((uint64_t)64 << 30)
#define MERGE_HEAP_MAX    ((uint64_t)1 << 30)

struct job {
    bool merge; /* else the tail's */
    int64_t began_us;
    struct snapshot *frozen; /* what the job was given, … */
    bool *taken;             /* … and what of it becomes one segment */
    uint32_t taken_count;
    struct tenure tenure; /* tenure_mark of it */
    /* of a tail's job */
    struct put_id anchor; /* put-id of frozen->slot */
    struct manifest_fence *fences;
    uint32_t fence_count;
    struct buf table; /* encoded idempotency table, empty: unchanged */
    uint64_t table_version;
    uint64_t collected; /* what manifests up to this one removed is deleted */

    uint64_t reserved;  /* of the budget, for the merge, … */
    uint64_t result;    /* … and of that for its result */
    struct spool spool; /* of the merge, if it is large */
    int64_t rested_us;  /* when that was let go of last */
    struct pace pace;
    struct segment *made;          /* NULL: nothing lived */
    struct manifest_segment entry; /* of made */
    char **written;                /* keys of the objects of this job */
    uint32_t written_count;
    /* while it publishes */
    struct manifest *manifest; /* the newest, and … */
    struct snapshot *base;     /* … what its successor's segments are */
    struct manifest *next;
};

static void job_release(struct job *j)
{
    snapshot_unref(j->frozen);
    snapshot_unref(j->base);
    manifest_unref(j->manifest);
    manifest_unref(j->next);
    segment_unref(j->made);
    mem_free(j->fences);
    mem_free(j->taken);
    mem_free(j->entry.key);
    segment_stats_unref(j->entry.stats);
    buf_release(&j->table);
    for (uint32_t i = 0; i < j->written_count; i++)
        mem_free(j->written[i]);
    mem_free(j->written);
}

/* A new key, noted as written: whatever becomes of its put, it is to be deleted if the
 * job fails. */
static struct key new_key(struct namespace *ns, struct job *j, const char *kind)
{
    struct key key = key_segment_new(&ns->keys, j->tenure.epoch, kind);
    j->written = mem_realloc(j->written, (j->written_count + 1) * sizeof *j->written);
    j->written[j->written_count++] = mem_strdup(key.text);
    return key;
}

/* ---- choosing ---- */

static uint64_t live_rows(const struct source *s)
{
    return segment_row_count(s->segment) - s->dead_count;
}

/* Is there a folder for files that merges work in, as far as we know? */
static bool has_scratch(const struct namespace *ns)
{
    return ns->env->scratch && clock_ms() >= ns->scratch_after_ms;
}

/* How much a merge may read: what its result and its indexes take must fit a quarter of
 * the memory that all share. */
static uint64_t merge_bytes_max(const struct namespace *ns)
{
    if (has_scratch(ns)) return MERGE_SPOOLED_MAX;
    uint64_t quarter = cache_usage(ns->env->cache).memory_max / 4;
    return quarter < MERGE_HEAP_MAX ? quarter : MERGE_HEAP_MAX;
}

static bool is_damaged(const struct namespace *ns, const struct segment *segment)
{
    for (uint32_t i = 0; i < ns->damaged_count; i++)
        if (ns->damaged[i] == segment) return true;
    return false;
}

static bool decayed(const struct source *s)
{
    return s->dead_count > segment_row_count(s->segment) / 2;
}

struct candidate {
    uint32_t index;
    uint64_t rows, bytes;
};

static int by_rows(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->rows != y->rows) return x->rows < y->rows ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* How many of the candidates, smallest first, are worth becoming one segment. */
static uint32_t worth_merging(const struct registry_options *env,
                              const struct candidate *candidates, uint32_t count,
                              uint64_t bytes_max, bool eager)
{
    uint32_t surplus = count > env->segments_max ? count + 1 - env->segments_max : 0;
    uint32_t best = 0;
    uint64_t rows = 0, bytes = 0;

    for (uint32_t i = 0; i < count; i++) {
        rows += candidates[i].rows;
        bytes += candidates[i].bytes;
        bool fits = rows <= env->segment_docs_max || i < surplus;
        if (!fits || bytes > bytes_max) break;
        if (eager || i < surplus || rows >= TIER_FANOUT * candidates[i].rows)
            best = i + 1;
    }
    return best;
}

/* Marks the stored sources of s that should become one; how many. taken may be NULL. */
static uint32_t choose_merge(const struct namespace *ns, const struct snapshot *s,
                             bool eager, bool *taken)
{
    uint64_t bytes_max = merge_bytes_max(ns);
    struct candidate *candidates = mem_new_array(struct candidate, s->source_count + 1);
    uint32_t count = 0, chosen = 0, first = 0;

    for (uint32_t i = 0; i < s->source_count && s->sources[i].stored; i++) {
        const struct source *source = &s->sources[i];
        if (is_damaged(ns, source->segment)) continue;
        candidates[count++] =
            (struct candidate){i, live_rows(source), segment_size(source->segment)};
    }
    if (count) qsort(candidates, count, sizeof *candidates, by_rows);
    chosen = worth_merging(ns->env, candidates, count, bytes_max, eager);
    if (chosen < 2) {
        /* Alone a segment is as good as it can be, unless it is mostly dead. */
        chosen = 0;
        for (uint32_t i = 0; i < count && !chosen; i++) {
            if (!decayed(&s->sources[candidates[i].index])) continue;
            if (candidates[i].bytes > bytes_max) continue;
            first = i;
            chosen = 1;
        }
    }
    for (uint32_t i = 0; taken && i < chosen; i++)
        taken[candidates[first + i].index] = true;
    mem_free(candidates);
    return chosen;
}

/* Without compaction a namespace still has to fit its manifest. */
static bool may_merge(const struct registry_options *env, const struct snapshot *base,
                      bool eager)
{
    return env->compaction || eager || base->source_count >= MANIFEST_SEGMENTS_MAX / 2;
}

bool indexer_merge_due(struct namespace *ns, bool eager)
{
    bool due = false;

    mutex_lock(&ns->lock);
    const struct snapshot *base = ns->state == NS_READY ? ns->tenure.base : NULL;
    /* A manifest that was found to need no merge goes on needing none. */
    bool known = !eager && base && ns->merged_version == base->manifest_version &&
                 ns->merged_epoch == ns->tenure.epoch;
    if (base && !known && may_merge(ns->env, base, eager))
        due = choose_merge(ns, base, eager, NULL) > 0;
    /* Unless with a file more could be merged. */
    if (base && !due && !eager && (has_scratch(ns) || !ns->env->scratch)) {
        ns->merged_version = base->manifest_version;
        ns->merged_epoch = ns->tenure.epoch;
    }
    mutex_unlock(&ns->lock);
    return due;
}

/* ---- beginning ---- */

static void take_tail(struct job *j)
{
    for (uint32_t i = 0; i < j->frozen->source_count; i++) {
        if (j->frozen->sources[i].stored) continue;
        j->taken[i] = true;
        j->taken_count++;
    }
}

/* Takes hold of the tail at this moment. Lock held. */
static void freeze_tail(struct namespace *ns, struct job *j)
{
    struct tenure *t = &ns->tenure;

    j->frozen = snapshot_ref(t->snapshot);
    j->taken = mem_new_array(bool, j->frozen->source_count);
    take_tail(j);
    j->anchor = t->last;
    j->fence_count = t->fence_count;
    j->fences =
        t->fence_count ? mem_dup(t->fences, t->fence_count * sizeof *t->fences) : NULL;
    j->table_version = idempotency_version(t->table);
    if (j->table_version != t->table_stored)
        idempotency_encode(t->table, j->frozen->slot + 1, &j->table);
    j->collected = ns->collected_removed;
    ns->frozen = snapshot_ref(j->frozen);
    ns->frozen_tail = j->taken_count;
}

static void freeze_base(struct namespace *ns, struct job *j, bool eager)
{
    j->frozen = snapshot_ref(ns->tenure.base);
    j->taken = mem_new_array(bool, j->frozen->source_count);
    if (may_merge(ns->env, j->frozen, eager))
        j->taken_count = choose_merge(ns, j->frozen, eager, j->taken);
}

/* False: there is nothing to be done. */
static bool freeze(struct namespace *ns, struct job *j, bool eager)
{
    mutex_lock(&ns->lock);
    const struct tenure *t = &ns->tenure;
    bool begun = ns->state == NS_READY && t->snapshot->slot != UINT64_MAX;
    if (begun) {
        j->tenure = tenure_mark(t);
        if (j->merge)
            freeze_base(ns, j, eager);
        else if (t->snapshot->slot + 1 > t->manifest->wm)
            freeze_tail(ns, j);
    }
    begun = j->merge ? j->taken_count > 0 : j->frozen != NULL;
    mutex_unlock(&ns->lock);
    return begun;
}

/* ---- writing ---- */

/* Puts the new segment, of which there are rows. */
static enum err store_segment(struct op *op, struct namespace *ns, struct job *j,
                              struct slice bytes, uint32_t rows)
{
    struct key key = new_key(ns, j, "seg");
    struct segment_stats *stats = NULL;

    enum err e = segment_stats_make(op, bytes, &stats);
    if (!e) e = store_put(op, ns->env->store, key.text, &bytes, 1);
    if (e) {
        segment_stats_unref(stats);
        return e;
    }
    j->entry = (struct manifest_segment){.key = mem_strdup(key.text),
                                         .size = bytes.size,
                                         .row_count = rows,
                                         .stats = stats};
    segment_tail_hash(bytes, j->entry.tail_hash);
    e = segment_open(op, ns->env->cache, j->entry.key, j->entry.size, &j->made);
    if (e) return e;
    segment_stats_attach(j->made, stats);
    j->entry.end_size = segment_end_size(j->made);
    return ERR_OK;
}

/* Takes what the merge needs from the memory that all share. The tail's job goes on
 * without it: it is what makes room. */
static enum err reserve(struct op *op, struct namespace *ns, struct job *j,
                        uint64_t bytes)
{
    if (cache_reserve(ns->env->cache, bytes)) {
        j->reserved = bytes;
        return ERR_OK;
    }
    if (!j->merge) return ERR_OK;
    return op_fail(op, ERR_BUSY,
                   "there is no memory for a merge, which needs %llu bytes",
                   (unsigned long long)bytes);
}

static void unreserve(struct namespace *ns, struct job *j, uint64_t left)
{
    if (j->reserved <= left) return;
    cache_unreserve(ns->env->cache, j->reserved - left);
    j->reserved = left;
}

/* The part of the budget that pages of a spool may have: the codes of some hundred
 * thousand vectors, which a vector index is built to and fro in. */
static uint64_t mapped_share(const struct namespace *ns)
{
    const uint64_t mapped_max = 224 << 20;
    uint64_t share = cache_usage(ns->env->cache).memory_max / 8;
    return share < mapped_max ? share : mapped_max;
}

/* A file for what a merge writes and works on. Without one, merges are kept small
 * enough for memory for a while. */
static enum err open_spool(struct op *op, struct namespace *ns,
                           const struct segment_needs *needs, uint64_t mapped,
                           struct spool *spool)
{
    enum { SPARE = 16 << 20 };
    size_t result = (size_t)(needs->result + needs->result / 8 + SPARE);
    enum err e =
        spool_open(op, ns->env->scratch, result, (size_t)needs->room, mapped, spool);
    if (e) ns->scratch_after_ms = clock_ms() + SCRATCH_PAUSE_MS;
    return e;
}

/* op.rest: queries come first, and the spool's pages are the kernel's, and on their way
 * to the disk, as soon as they have been worked on. */
static void rest(void *context)
{
    enum { REST_US = 10000 };
    struct job *j = context;

    pace_rest(&j->pace);
    int64_t now_us = clock_us();
    if (now_us - j->rested_us < REST_US) return;
    j->rested_us = now_us;
    spool_write(&j->spool);
    while (spool_rest(&j->spool))
        pace_rest(&j->pace);
}

/* What a merge reads queries need not find in the cache; of what it makes they do. */
static enum err merge_inputs(struct op *op, struct namespace *ns, struct job *j,
                             const struct segment_options *options,
                             const struct segment_input *inputs, size_t n)
{
    uint32_t rows = 0;
    op->reads_once = true;
    enum err e =
        segment_merge(op, j->frozen->schema, options, inputs, n, &j->spool.buf, &rows);
    op->reads_once = false;
    /* Or what is offered would take the place of what queries look at until then. */
    unreserve(ns, j, j->result);
    struct slice object = buf_slice(&j->spool.buf);
    if (!e && rows) e = store_segment(op, ns, j, object, rows);
    if (!e && rows) segment_offer(op, j->made, object, inputs, n);
    return e ? e : spool_check(op, &j->spool);
}

/* A tail so long that another should have been indexed before it makes each query look
 * at all its rows: it gets a half. */
static unsigned patience_of(const struct namespace *ns, const struct job *j)
{
    return !j->merge && tail_behind(ns->env, j->frozen) ? PATIENCE_BEHIND : PATIENCE;
}

static enum err write_inputs(struct op *op, struct namespace *ns, struct job *j,
                             const struct segment_input *inputs, size_t n)
{
    struct segment_options options = {.zstd_level = ZSTD_LEVEL,
                                      .index_from = VECTOR_INDEX_FROM};
    struct segment_needs needs = segment_merge_needs(&options, inputs, n);
    bool spooled = needs.result >= ns->env->spool_from && has_scratch(ns);
    uint64_t mapped = spooled ? mapped_share(ns) : 0;
    uint64_t memory = needs.heap + (spooled ? mapped : needs.room + needs.result);

    memcpy(&options.index_seed, j->frozen->incarnation, sizeof options.index_seed);
    enum err e = reserve(op, ns, j, memory);
    if (!e && spooled) e = open_spool(op, ns, &needs, mapped, &j->spool);
    if (!e && spooled) options.room = &j->spool.room;
    j->result = spooled ? mapped : needs.result;
    j->pace = pace_start(ns->env->queries, patience_of(ns, j), 0);
    op->rest = rest;
    op->rest_context = j;
    if (!e) e = merge_inputs(op, ns, j, &options, inputs, n);
    op->rest = NULL;
    spool_close(&j->spool);
    unreserve(ns, j, 0);
    return e;
}

static enum err write_segment(struct op *op, struct namespace *ns, struct job *j)
{
    struct segment_input *inputs = mem_new_array(struct segment_input, j->taken_count);
    size_t n = 0;

    for (uint32_t i = 0; i < j->frozen->source_count; i++) {
        const struct source *source = &j->frozen->sources[i];
        if (!j->taken[i]) continue;
        inputs[n++] = (struct segment_input){source->segment, source->dead};
    }
    enum err e = write_inputs(op, ns, j, inputs, n);
    mem_free(inputs);
    return e;
}

/* Writes a side table; its key on the heap and its size. */
static enum err write_side_table(struct op *op, struct namespace *ns, struct job *j,
                                 enum object_kind kind, const char *suffix,
                                 struct slice payload, char **key, uint64_t *size)
{
    struct key name = new_key(ns, j, suffix);
    struct object object = {.kind = kind,
                            .epoch = j->tenure.epoch,
                            .put_id = put_id_new(),
                            .payload = payload};
    struct buf bytes = BUF_INIT;

    memcpy(object.incarnation, ns->keys.incarnation, INCARNATION_SIZE);
    object_encode(&object, &bytes);
    struct slice part = buf_slice(&bytes);
    enum err e = store_put(op, ns->env->store, name.text, &part, 1);
    if (!e) {
        *key = mem_strdup(name.text);
        *size = bytes.size;
    }
    buf_release(&bytes);
    return e;
}

/* ---- the manifest ---- */

/* Makes ms, the manifest's entry of a stored source, say which of its rows are dead. */
static enum err store_dead(struct op *op, struct namespace *ns, struct job *j,
                           struct manifest_segment *ms, const struct source *source)
{
    struct buf rows = BUF_INIT;

    if (ms->dead_count == source->dead_count) return ERR_OK; /* the dead only grow */
    uint64_t wall_ms = (uint64_t)clock_wall_ms();
    if (ms->deletes_key)
        manifest_add_removed(j->next, ms->deletes_key, j->next->version, wall_ms);
    rowset_encode(source->dead, &rows);
    char *key = NULL;
    enum err e = write_side_table(op, ns, j, OBJECT_DELETES, "del", buf_slice(&rows),
                                  &key, &ms->deletes_size);
    buf_release(&rows);
    if (e) return e;
    mem_free(ms->deletes_key);
    ms->deletes_key = key;
    ms->dead_count = source->dead_count;
    return ERR_OK;
}

static void remove_segment(struct job *j, uint32_t index)
{
    const struct manifest_segment *ms = &j->next->segments[index];
    uint64_t wall_ms = (uint64_t)clock_wall_ms();

    manifest_add_removed(j->next, ms->key, j->next->version, wall_ms);
    if (ms->deletes_key)
        manifest_add_removed(j->next, ms->deletes_key, j->next->version, wall_ms);
    manifest_drop_segment(j->next, index);
}

/* Makes the segments of the manifest those of j->base: what is no longer there goes,
 * made comes last, and all know their dead. Both lists are in the same order. */
static enum err list_segments(struct op *op, struct namespace *ns, struct job *j)
{
    const struct snapshot *base = j->base;
    uint32_t at = 0;

    if (j->made) {
        struct manifest_segment entry = j->entry;
        entry.key = mem_strdup(entry.key);
        entry.stats = segment_stats_ref(entry.stats);
        manifest_add_segment(j->next, entry);
    }
    for (uint32_t i = 0; i < base->source_count && base->sources[i].stored; i++, at++) {
        const char *key = segment_key(base->sources[i].segment);
        while (strcmp(j->next->segments[at].key, key) != 0) {
            remove_segment(j, at);
            assert(at < j->next->segment_count);
        }
        enum err e = store_dead(op, ns, j, &j->next->segments[at], &base->sources[i]);
        if (e) return e;
    }
    while (at < j->next->segment_count)
        remove_segment(j, at);
    return ERR_OK;
}

/* The table of idempotency keys, if it changed. */
static enum err store_table(struct op *op, struct namespace *ns, struct job *j)
{
    struct manifest *m = j->next;
    char *key = NULL;

    if (j->table.size == 0) return ERR_OK;
    enum err e = write_side_table(op, ns, j, OBJECT_IDEMPOTENCY, "idem",
                                  buf_slice(&j->table), &key, &m->idempotency_size);
    if (e) return e;
    if (m->idempotency_key)
        manifest_add_removed(m, m->idempotency_key, m->version,
                             (uint64_t)clock_wall_ms());
    mem_free(m->idempotency_key);
    m->idempotency_key = key;
    return ERR_OK;
}

/* The log below the frozen slot is in the segments now. */
static void move_wm(struct job *j)
{
    struct manifest *m = j->next;

    m->wm = j->frozen->slot + 1;
    m->anchor = j->anchor;
    m->floor = m->wm ? m->wm - 1 : 0;
    m->id_kind = j->frozen->id_kind;
    schema_unref(m->schema);
    m->schema = schema_ref(j->frozen->schema);
    for (uint32_t i = 0; i < j->fence_count; i++)
        if (j->fences[i].slot < m->wm)
            manifest_add_fence(m, j->fences[i].slot, j->fences[i].wall_ms);
    manifest_trim(m, j->collected, (uint64_t)clock_wall_ms());
}

static enum err build_manifest(struct op *op, struct namespace *ns, struct job *j)
{
    j->next = manifest_copy(j->manifest);
    j->next->version++;
    if (!j->merge) move_wm(j);
    enum err e = list_segments(op, ns, j);
    return e ? e : store_table(op, ns, j);
}

/* ---- publishing ---- */

static bool ours(const struct namespace *ns, const struct job *j)
{
    return ns->state == NS_READY && ns->tenure.epoch == j->tenure.epoch;
}

/* Waits for the other job's manifest, and takes hold of what ours is to change. */
static enum err begin_publish(struct op *op, struct namespace *ns, struct job *j)
{
    enum err e = ERR_OK;

    mutex_lock(&ns->lock);
    while (!e && ns->publishing)
        if (!cond_wait(&ns->changed, &ns->lock, op->deadline_ms))
            e = op_fail(op, ERR_TIMEOUT, "the deadline of this job has passed");
    if (!e && !ours(ns, j))
        e = op_fail(op, ERR_IO, "the namespace was closed meanwhile, try again");
    if (!e) {
        const struct snapshot *now = j->merge ? ns->tenure.base : ns->frozen;
        ns->publishing = true;
        j->manifest = manifest_ref(ns->tenure.manifest);
        j->base =
            state_replace(j->frozen, now, j->taken, j->made, j->manifest->version + 1);
    }
    mutex_unlock(&ns->lock);
    return e;
}

/* Our manifest is the newest: the snapshots follow it. Lock held. */
static void adopt(struct namespace *ns, struct job *j)
{
    struct tenure *t = &ns->tenure;
    uint64_t version = j->next->version;
    uint32_t kept = 0;

    manifest_unref(t->manifest);
    t->manifest = manifest_ref(j->next);
    snapshot_unref(t->base);
    t->base = snapshot_ref(j->base);
    namespace_set_snapshot_locked(ns, state_replace(j->frozen, t->snapshot, j->taken,
                                                    j->made, version));
    if (j->merge) {
        if (!ns->frozen) return;
        struct snapshot *frozen = ns->frozen;
        ns->frozen = state_replace(j->frozen, frozen, j->taken, j->made, version);
        snapshot_unref(frozen);
        return;
    }
    ns->tail_full = false;
    if (j->frozen->tail_rows)
        slowdown_learn(&ns->slowdown, j->frozen->tail_rows, clock_us() - j->began_us);
    for (uint32_t i = 0; i < t->fence_count; i++)
        if (t->fences[i].slot >= j->next->wm) t->fences[kept++] = t->fences[i];
    t->fence_count = kept;
    t->table_stored = j->table_version;
}

/* What became of the manifest decides what becomes of us. True if it was published. */
static bool conclude(struct namespace *ns, struct job *j, enum err e,
                     enum published outcome)
{
    bool published = !e && outcome == PUBLISHED;

    mutex_lock(&ns->lock);
    if (j->manifest) ns->publishing = false;
    if (ours(ns, j) && e == ERR_UNKNOWN) {
        namespace_close_locked(ns);
    } else if (ours(ns, j) && published) {
        adopt(ns, j);
    } else if (ours(ns, j) && !e) {
        namespace_fenced_locked(ns,
                                "ownership conflict: another node published a newer "
                                "manifest");
    }
    if (!j->merge && ours(ns, j)) {
        snapshot_unref(ns->frozen);
        ns->frozen = NULL;
        ns->frozen_tail = 0;
    }
    cond_broadcast(&ns->changed);
    mutex_unlock(&ns->lock);
    return published;
}

/* Hands over the objects that no manifest will ever name, and tries to delete them. */
static void discard(struct namespace *ns, struct job *j)
{
    struct op op;

    mutex_lock(&ns->lock);
    uint32_t count = ns->leftover_count + j->written_count;
    ns->leftovers = mem_realloc(ns->leftovers, count * sizeof *ns->leftovers);
    for (uint32_t i = 0; i < j->written_count; i++)
        ns->leftovers[ns->leftover_count++] = j->written[i];
    j->written_count = 0;
    mutex_unlock(&ns->lock);
    op_init(&op, clock_ms() + DISCARD_TIMEOUT_MS, 0);
    (void)gc_leftovers(&op, ns); /* or before the next job */
    op_release(&op);
}

/* A segment cannot be read: it is left alone from now on, so that the others merge. */
static void note_damage(struct op *op, struct namespace *ns, const struct job *j,
                        struct segment *segment)
{
    log_error(op, "a segment is damaged", "namespace=%s key=%s error=%s", ns->keys.name,
              segment_key(segment), op->error);
    ns_count(NS_DAMAGED_SEGMENTS);
    mutex_lock(&ns->lock);
    if (ours(ns, j) && !is_damaged(ns, segment)) {
        uint32_t count = ns->damaged_count + 1;
        ns->damaged = mem_realloc(ns->damaged, count * sizeof(struct segment *));
        ns->damaged[ns->damaged_count++] = segment_ref(segment);
    }
    mutex_unlock(&ns->lock);
}

/* A merge met damage: finds out which of its segments it is in, by reading them. */
static void find_damage(struct op *op, struct namespace *ns, const struct job *j)
{
    for (uint32_t i = 0; i < j->frozen->source_count; i++) {
        struct segment *segment = j->frozen->sources[i].segment;
        struct op look;
        if (!j->taken[i]) continue;
        op_init(&look, op->deadline_ms, 0);
        look.reads_once = true;
        enum err e = segment_verify(&look, segment);
        if (e == ERR_CORRUPT || e == ERR_NOT_FOUND) note_damage(&look, ns, j, segment);
        op_release(&look);
    }
}

static enum err execute(struct op *op, struct namespace *ns, struct job *j,
                        enum published *outcome)
{
    enum err e = j->taken_count ? write_segment(op, ns, j) : ERR_OK;
    if (e == ERR_NOT_FOUND) e = tenure_missing(op, ns->env, &ns->keys, &j->tenure);
    if (e == ERR_CORRUPT && j->merge) find_damage(op, ns, j);
    if (!e) e = begin_publish(op, ns, j);
    if (!e) e = build_manifest(op, ns, j);
    if (e) return e;
    return manifest_publish(op, ns->env->store, &ns->keys, j->manifest, j->next,
                            outcome);
}

static bool too_many_leftovers(struct namespace *ns)
{
    mutex_lock(&ns->lock);
    bool many = ns->leftover_count >= LEFTOVERS_MAX;
    mutex_unlock(&ns->lock);
    return many;
}

/* Nobody asks for the merged segments any more but queries that began before: their
 * ranges make room for what is read of the new one. */
static void forget_merged(const struct namespace *ns, const struct job *j)
{
    enum { WORTH_PART = 64 }; /* of the cache: less is not worth the look */
    struct cache *cache = ns->env->cache;
    const char **keys = mem_new_array(const char *, j->taken_count);
    uint64_t bytes = 0;
    size_t n = 0;

    for (uint32_t i = 0; i < j->frozen->source_count; i++) {
        const struct source *source = &j->frozen->sources[i];
        if (!j->taken[i] || !source->stored) continue;
        bytes += segment_size(source->segment);
        keys[n++] = segment_key(source->segment);
    }
    if (bytes > cache_usage(cache).memory_max / WORTH_PART)
        cache_forget_objects(cache, keys, n);
    mem_free(keys);
}

static enum err run(struct op *op, struct namespace *ns, struct job *j, bool eager)
{
    enum published outcome = PUBLISH_TAKEN;

    j->began_us = clock_us();
    enum err e = gc_leftovers(op, ns);
    if (e && too_many_leftovers(ns)) return e;
    op_clear_error(op);
    if (!freeze(ns, j, eager)) return ERR_OK;
    e = execute(op, ns, j, &outcome);
    if (conclude(ns, j, e, outcome)) {
        forget_merged(ns, j);
        int64_t took_us = clock_us() - j->began_us;
        ns_count_index(j->merge, j->entry.size, took_us);
        log_info(op, j->merge ? "segments merged" : "namespace indexed",
                 "namespace=%s manifest=%llu sources=%u rows=%u bytes=%llu ms=%lld",
                 ns->keys.name, (unsigned long long)j->next->version, j->taken_count,
                 j->entry.row_count, (unsigned long long)j->entry.size,
                 (long long)took_us / 1000);
    }
    if (e && e != ERR_UNKNOWN) discard(ns, j);
    return e;
}

enum err indexer_tail(struct op *op, struct namespace *ns)
{
    struct job j = {.merge = false};
    enum err e = run(op, ns, &j, false);
    job_release(&j);
    return e ? op_fail(op, e, "index namespace \"%s\"", ns->keys.name) : ERR_OK;
}

enum err indexer_merge(struct op *op, struct namespace *ns, bool eager)
{
    struct job j = {.merge = true};
    enum err e = run(op, ns, &j, eager);
    job_release(&j);
    return e ? op_fail(op, e, "merge segments of namespace \"%s\"", ns->keys.name)
             : ERR_OK;
}
