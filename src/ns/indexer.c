/*
 * One job: freeze the state at some slot, write the tail and the small segments beside
 * it as one new segment, publish one manifest that says so, and put the segment in the
 * place of its sources. Since every job publishes at the slot it froze, the segments of
 * a manifest are exactly the effect of the log below its wm.
 *
 * Which segments join: starting from the tail, the next larger segment is taken as long
 * as it has at most JOIN_FACTOR times as many live rows as what was gathered so far. So
 * sizes grow geometrically and a row is rewritten about log2(rows / tail) times; an
 * eager job (asked for, or after interval_ms) joins whatever fits, however different in
 * size. A segment of which most rows are dead is rewritten; no result exceeds
 * segment_docs_max rows, unless there are more than segments_max segments: then the
 * smallest become one. A job that would change nothing publishes nothing.
 */
#include "ns/namespace.h"

#include <assert.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/rowset.h"
#include "store/store.h"

enum {
    JOIN_FACTOR = 2,
    ZSTD_LEVEL = 3,
    DISCARD_TIMEOUT_MS = 10000,
    LEFTOVERS_MAX = 64
};
/* A merge holds its result in memory. */
#define MERGE_BYTES_MAX ((uint64_t)1 << 30)

struct job {
    struct snapshot *frozen;
    struct manifest *manifest; /* the one we build on */
    struct put_id anchor;      /* put-id of frozen->slot */
    struct tenure tenure;      /* tenure_mark of it */
    struct manifest_fence *fences;
    uint32_t fence_count;
    struct buf table; /* encoded idempotency table, empty: unchanged */
    uint64_t table_version;
    int64_t collected_wall_ms; /* removed objects up to then are deleted */
    bool *taken;               /* per source of frozen */
    uint32_t taken_count;
    bool eager; /* join whatever fits, however different in size */
    struct segment *made;
    struct manifest_segment entry; /* of made */
    struct manifest *next;
    char **written; /* keys of the objects of this job */
    uint32_t written_count;
};

static void job_release(struct job *j)
{
    snapshot_unref(j->frozen);
    manifest_unref(j->manifest);
    manifest_unref(j->next);
    segment_unref(j->made);
    mem_free(j->fences);
    mem_free(j->taken);
    mem_free(j->entry.key);
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

struct candidate {
    uint32_t index;
    uint64_t rows;
};

static int by_rows(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->rows != y->rows) return x->rows < y->rows ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool decayed(const struct source *s)
{
    return s->dead_count > segment_row_count(s->segment) / 2;
}

/* What has been gathered for the new segment. */
struct gathered {
    uint32_t count;
    uint64_t rows, bytes;
};

static void take(struct job *j, uint32_t index, struct gathered *g)
{
    const struct source *source = &j->frozen->sources[index];
    j->taken[index] = true;
    g->count++;
    g->rows += live_rows(source);
    g->bytes += segment_size(source->segment);
}

/* Marks the stored segments to join what is gathered, smallest first. */
static void choose_stored(const struct registry_options *env, struct job *j,
                          const struct candidate *stored, uint32_t count,
                          struct gathered *g)
{
    const struct snapshot *s = j->frozen;
    uint32_t alone = UINT32_MAX;
    /* So many must become one to leave segments_max. */
    uint32_t surplus =
        count + (g->count > 0) > env->segments_max ? count + 1 - env->segments_max : 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct source *source = &s->sources[stored[i].index];
        uint64_t rows = stored[i].rows;
        uint64_t next = i + 1 < count ? stored[i + 1].rows : UINT64_MAX;
        bool fits = g->rows + rows <= env->segment_docs_max;
        bool near = j->eager || (g->count ? rows <= JOIN_FACTOR * g->rows
                                          : next <= JOIN_FACTOR * rows);
        bool paired =
            g->count || (next != UINT64_MAX && rows + next <= env->segment_docs_max);
        bool wanted = decayed(source) || (near && paired);
        if (g->bytes + segment_size(source->segment) > MERGE_BYTES_MAX) break;
        if (i >= surplus && !(wanted && (fits || g->count == 0))) continue;
        if (g->count == 0 && !decayed(source)) alone = stored[i].index;
        take(j, stored[i].index, g);
    }
    /* Nothing joined it after all, and by itself it is as good as it can be. */
    if (g->count == 1 && alone != UINT32_MAX) {
        j->taken[alone] = false;
        g->count = 0;
    }
}

/* Marks what becomes one segment: the tail and what joins it. */
static enum err choose(struct op *op, const struct registry_options *env, struct job *j,
                       bool merge, uint32_t *taken)
{
    const struct snapshot *s = j->frozen;
    struct candidate *stored = op_new_array(op, struct candidate, s->source_count + 1);
    struct gathered g = {0};
    uint32_t stored_count = 0;

    if (!stored) return ERR_LIMIT;
    for (uint32_t i = 0; i < s->source_count; i++) {
        if (s->sources[i].stored)
            stored[stored_count++] = (struct candidate){i, live_rows(&s->sources[i])};
        else
            take(j, i, &g);
    }
    /* Without compaction a namespace still has to fit its manifest. */
    if (stored_count >= MANIFEST_SEGMENTS_MAX / 2) merge = true;
    qsort(stored, stored_count, sizeof *stored, by_rows);
    if (merge) choose_stored(env, j, stored, stored_count, &g);
    *taken = g.count;
    return ERR_OK;
}

/* ---- writing ---- */

static enum err write_segment(struct op *op, struct namespace *ns, struct job *j)
{
    static const struct segment_options options = {.zstd_level = ZSTD_LEVEL};
    struct segment_input *inputs =
        mem_new_array(struct segment_input, j->frozen->source_count);
    struct buf bytes = BUF_INIT;
    uint32_t rows = 0;
    size_t n = 0;

    for (uint32_t i = 0; i < j->frozen->source_count; i++)
        if (j->taken[i])
            inputs[n++] = (struct segment_input){j->frozen->sources[i].segment,
                                                 j->frozen->sources[i].dead};
    enum err e =
        segment_merge(op, j->frozen->schema, &options, inputs, n, &bytes, &rows);
    mem_free(inputs);
    if (!e && rows) {
        struct key key = new_key(ns, j, "seg");
        struct slice part = buf_slice(&bytes);
        e = store_put(op, ns->env->store, key.text, &part, 1);
        j->entry = (struct manifest_segment){.key = mem_strdup(key.text),
                                             .size = bytes.size,
                                             .row_count = rows};
        segment_tail_hash(part, j->entry.tail_hash);
    }
    buf_release(&bytes);
    if (!e && rows)
        e = segment_open(op, ns->env->cache, j->entry.key, j->entry.size, &j->made);
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

/* The manifest's entry of a stored source that stays: with its dead rows of now. */
static enum err keep_segment(struct op *op, struct namespace *ns, struct job *j,
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

/* Stored sources stand first in a snapshot, in the manifest's order. */
static enum err list_segments(struct op *op, struct namespace *ns, struct job *j)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < j->frozen->source_count; i++) {
        const struct source *source = &j->frozen->sources[i];
        if (!source->stored) break;
        assert(strcmp(j->next->segments[at].key, segment_key(source->segment)) == 0);
        if (j->taken[i]) {
            remove_segment(j, at);
            continue;
        }
        enum err e = keep_segment(op, ns, j, &j->next->segments[at], source);
        if (e) return e;
        at++;
    }
    assert(at == j->next->segment_count);
    if (!j->made) return ERR_OK;
    manifest_add_segment(j->next, j->entry);
    j->next->segments[at].key = mem_strdup(j->entry.key);
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

static enum err build_manifest(struct op *op, struct namespace *ns, struct job *j)
{
    struct manifest *m = j->next = manifest_copy(j->manifest);

    m->version++;
    m->wm = j->frozen->slot + 1;
    m->anchor = j->anchor;
    m->floor = m->wm ? m->wm - 1 : 0;
    m->id_kind = j->frozen->id_kind;
    schema_unref(m->schema);
    m->schema = schema_ref(j->frozen->schema);
    for (uint32_t i = 0; i < j->fence_count; i++)
        if (j->fences[i].slot < m->wm)
            manifest_add_fence(m, j->fences[i].slot, j->fences[i].wall_ms);
    enum err e = list_segments(op, ns, j);
    if (!e) e = store_table(op, ns, j);
    manifest_trim(m, (uint64_t)j->collected_wall_ms, (uint64_t)clock_wall_ms());
    return e;
}

/* ---- the job ---- */

/* Takes hold of the state at this moment. Lock held. */
static void freeze(struct namespace *ns, struct job *j)
{
    struct tenure *t = &ns->tenure;

    j->frozen = snapshot_ref(t->snapshot);
    j->manifest = manifest_ref(t->manifest);
    j->anchor = t->last;
    j->tenure = tenure_mark(t);
    j->taken = mem_new_array(bool, j->frozen->source_count);
    j->fence_count = t->fence_count;
    j->fences =
        t->fence_count ? mem_dup(t->fences, t->fence_count * sizeof *t->fences) : NULL;
    j->table_version = idempotency_version(t->table);
    if (j->table_version != t->table_stored)
        idempotency_encode(t->table, j->frozen->slot + 1, &j->table);
    ns->frozen_sources = j->frozen->source_count;
    j->collected_wall_ms = ns->collected_wall_ms;
}

/* Our manifest is the newest: the live state follows it. Lock held. */
static void adopt(struct namespace *ns, struct job *j)
{
    struct tenure *t = &ns->tenure;
    uint32_t kept = 0;

    manifest_unref(t->manifest);
    t->manifest = manifest_ref(j->next);
    ns->tail_full = false;
    namespace_set_snapshot_locked(ns, state_replace(j->frozen, t->snapshot, j->taken,
                                                    j->made, j->next->version));
    for (uint32_t i = 0; i < t->fence_count; i++)
        if (t->fences[i].slot >= j->next->wm) t->fences[kept++] = t->fences[i];
    t->fence_count = kept;
    t->table_stored = j->table_version;
}

/* Hands over the objects that no manifest will ever name, and tries to delete them. */
static void discard(struct namespace *ns, struct job *j)
{
    struct op op;
    uint32_t count = ns->leftover_count + j->written_count;

    ns->leftovers = mem_realloc(ns->leftovers, count * sizeof *ns->leftovers);
    for (uint32_t i = 0; i < j->written_count; i++)
        ns->leftovers[ns->leftover_count++] = j->written[i];
    j->written_count = 0;
    op_init(&op, clock_ms() + DISCARD_TIMEOUT_MS, 0);
    (void)gc_leftovers(&op, ns); /* or before the next job */
    op_release(&op);
}

/* Writes the segment and the manifest. *changes false: the newest manifest says it all.
 */
static enum err execute(struct op *op, struct namespace *ns, struct job *j, bool merge,
                        bool *changes, enum published *outcome)
{
    enum err e = choose(op, ns->env, j, merge, &j->taken_count);
    *changes = j->taken_count || j->frozen->slot + 1 > j->manifest->wm;
    if (!e && j->taken_count) e = write_segment(op, ns, j);
    if (e == ERR_NOT_FOUND) e = tenure_missing(op, ns->env, &ns->keys, &j->tenure);
    if (e || !*changes) return e;
    e = build_manifest(op, ns, j);
    if (e) return e;
    return manifest_publish(op, ns->env->store, &ns->keys, j->manifest, j->next,
                            outcome);
}

/* What became of the manifest decides what becomes of us. True if it was published. */
static bool conclude(struct namespace *ns, struct job *j, enum err e, bool changes,
                     enum published outcome)
{
    bool published = !e && changes && outcome == PUBLISHED;

    mutex_lock(&ns->lock);
    bool ours = ns->state == NS_READY && ns->tenure.epoch == j->tenure.epoch;
    if (ours) ns->frozen_sources = 0;
    if (ours && e == ERR_UNKNOWN) {
        namespace_close_locked(ns);
    } else if (ours && published) {
        adopt(ns, j);
    } else if (ours && !e && changes) {
        namespace_fenced_locked(ns,
                                "ownership conflict: another node published a newer "
                                "manifest");
    }
    mutex_unlock(&ns->lock);
    return published;
}

enum err indexer_run(struct op *op, struct namespace *ns, bool eager)
{
    struct job j = {.eager = eager};
    enum published outcome = PUBLISH_TAKEN;
    int64_t began_us = clock_us();
    bool changes;

    enum err e = gc_leftovers(op, ns);
    if (e && ns->leftover_count >= LEFTOVERS_MAX)
        return op_fail(op, e, "index namespace \"%s\"", ns->keys.name);
    op_clear_error(op);
    mutex_lock(&ns->lock);
    bool idle = ns->state != NS_READY || ns->tenure.snapshot->slot == UINT64_MAX;
    if (!idle) freeze(ns, &j);
    mutex_unlock(&ns->lock);
    if (idle) return ERR_OK;

    e = execute(op, ns, &j, eager || ns->env->compaction, &changes, &outcome);
    if (conclude(ns, &j, e, changes, outcome))
        log_info(op, "namespace indexed",
                 "namespace=%s manifest=%llu sources=%u rows=%u bytes=%llu ms=%lld",
                 ns->keys.name, (unsigned long long)j.next->version, j.taken_count,
                 j.entry.row_count, (unsigned long long)j.entry.size,
                 (long long)(clock_us() - began_us) / 1000);
    if (e && e != ERR_UNKNOWN) discard(ns, &j);
    job_release(&j);
    return e ? op_fail(op, e, "index namespace \"%s\"", ns->keys.name) : ERR_OK;
}
