#include "ns/state.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "ns/registry.h"
#include "segment/segment_ahead.h"
#include "segment/segment_stats.h"

enum {
    JOIN_ROWS_MAX = 4096, /* larger tail segments wait for the indexer */
    SIDE_TABLE_SIZE_MAX = 64 << 20
};
#define JOIN_BYTES_MAX ((uint64_t)16 << 20)

/* Where its vectors are some MiB, so that a query would rather look at their codes, a
 * segment of the tail has a flat index. */
static struct segment_options tail_options(const struct schema *schema)
{
    enum { CODED_FROM = 4 << 20, CODED_DIM_MIN = 128 };
    struct segment_options options = {.zstd_level = 0};
    uint32_t dim = schema->vector_dim;
    if (dim >= CODED_DIM_MIN) {
        options.index_from = CODED_FROM / (dim * (uint32_t)sizeof(float)) + 1;
        options.index_flat = true;
    }
    return options;
}

/* ---- prepared requests ---- */

static void copy_deletes(const struct batch *batch, struct prepared *out)
{
    size_t bytes = 0;
    for (size_t i = 0; i < batch->delete_count; i++)
        bytes += batch->deletes[i].string.size;

    out->deletes = mem_alloc(batch->delete_count * sizeof *out->deletes + bytes);
    out->delete_count = batch->delete_count;
    uint8_t *strings = (uint8_t *)(out->deletes + batch->delete_count);
    for (size_t i = 0; i < batch->delete_count; i++) {
        out->deletes[i] = batch->deletes[i];
        struct slice s = batch->deletes[i].string;
        if (s.size == 0) continue;
        memcpy(strings, s.data, s.size);
        out->deletes[i].string = slice_of(strings, s.size);
        strings += s.size;
    }
}

enum err prepared_make(struct op *op, const struct batch *batch, struct schema *schema,
                       struct prepared *out)
{
    struct prepared p = {0};
    struct buf bytes = BUF_INIT;

    enum err e = batch_id_kind(op, batch, &p.id_kind);
    if (e) return e;
    if (batch->schema) p.schema = schema_ref(batch->schema);
    if (batch->delete_count) copy_deletes(batch, &p);
    if (batch->doc_count) {
        struct schema *newest = batch->schema ? batch->schema : schema;
        struct segment_options options = tail_options(newest);
        struct segment_builder *builder = segment_builder_new(newest, &options);
        for (size_t i = 0; i < batch->doc_count; i++)
            segment_builder_add(builder, &batch->docs[i]);
        e = segment_builder_finish(op, builder, &bytes);
        if (!e) e = segment_open_memory(op, &bytes, &p.segment);
    }
    if (e) {
        buf_release(&bytes);
        prepared_release(&p);
        return e;
    }
    *out = p;
    return ERR_OK;
}

void prepared_release(struct prepared *p)
{
    segment_unref(p->segment);
    schema_unref(p->schema);
    mem_free(p->deletes);
    *p = (struct prepared){0};
}

/* ---- drafts: a snapshot being made ---- */

struct draft {
    struct snapshot *s;
    uint32_t capacity;
    bool *owned; /* per source: its dead set is ours to change */
};

static struct draft draft_new(uint32_t capacity)
{
    struct draft d = {.capacity = capacity};
    d.s = mem_calloc(1, sizeof(struct snapshot) + capacity * sizeof(struct source));
    d.owned = mem_calloc(capacity, sizeof(bool));
    atomic_init(&d.s->refs, 1);
    return d;
}

static void draft_release(struct draft *d)
{
    snapshot_unref(d->s);
    mem_free(d->owned);
    *d = (struct draft){0};
}

/* Everything but the sources. */
static void draft_inherit(struct draft *d, const struct snapshot *base)
{
    d->s->schema = schema_ref(base->schema);
    d->s->id_kind = base->id_kind;
    memcpy(d->s->incarnation, base->incarnation, sizeof d->s->incarnation);
    d->s->epoch = base->epoch;
    d->s->slot = base->slot;
    d->s->manifest_version = base->manifest_version;
}

/* Takes references of segment and dead for the new source. */
static void draft_add(struct draft *d, struct segment *segment, struct rowset *dead,
                      uint32_t dead_count, bool stored)
{
    assert(d->s->source_count < d->capacity);
    d->s->sources[d->s->source_count++] =
        (struct source){segment_ref(segment), rowset_ref(dead), dead_count, stored};
}

static void draft_add_source(struct draft *d, const struct source *source)
{
    draft_add(d, source->segment, source->dead, source->dead_count, source->stored);
}

static void draft_kill_row(struct draft *d, uint32_t index, uint32_t row)
{
    struct source *source = &d->s->sources[index];
    if (!d->owned[index]) {
        struct rowset *copy = source->dead ? rowset_copy(source->dead) : rowset_new();
        rowset_unref(source->dead);
        source->dead = copy;
        d->owned[index] = true;
    }
    rowset_add(source->dead, row);
    source->dead_count++;
}

/* The live versions of ids die; *killed counts them. */
static enum err draft_kill(struct op *op, struct draft *d, const struct doc_id *ids,
                           size_t n, uint64_t *killed)
{
    *killed = 0;
    if (n == 0) return ERR_OK;
    struct location *found = op_new_array(op, struct location, n);
    if (!found) return ERR_LIMIT;
    enum err e = snapshot_find(op, d->s, ids, n, found);
    if (e) return e;

    for (size_t i = 0; i < n; i++) {
        if (found[i].source == UINT32_MAX) continue;
        draft_kill_row(d, found[i].source, found[i].row);
        (*killed)++;
    }
    return ERR_OK;
}

/* Counts what the sources hold and hands the snapshot out. */
static struct snapshot *draft_finish(struct draft *d)
{
    struct snapshot *s = d->s;
    s->row_count = s->tail_rows = s->tail_bytes = 0;
    for (uint32_t i = 0; i < s->source_count; i++) {
        const struct source *source = &s->sources[i];
        uint32_t rows = segment_row_count(source->segment);
        s->row_count += rows - source->dead_count;
        if (source->stored) continue;
        s->tail_rows += rows;
        s->tail_bytes += segment_memory(source->segment);
    }
    mem_free(d->owned);
    *d = (struct draft){0};
    return s;
}

struct snapshot *state_empty(const struct keys *keys, struct schema *schema)
{
    struct draft d = draft_new(0);
    d.s->schema = schema_ref(schema);
    memcpy(d.s->incarnation, keys->incarnation, sizeof d.s->incarnation);
    d.s->slot = UINT64_MAX;
    return draft_finish(&d);
}

/* ---- loading ---- */

static struct segment_object object_of(const struct manifest_segment *ms,
                                       const struct schema *schema)
{
    return (struct segment_object){.key = ms->key,
                                   .size = ms->size,
                                   .end_size = ms->end_size,
                                   .tail_hash = ms->tail_hash,
                                   .rows = ms->row_count,
                                   .vector_dim = schema->vector_dim};
}

static enum err open_segment(struct op *op, struct cache *cache,
                             const struct schema *schema,
                             const struct manifest_segment *ms,
                             const struct snapshot *old, struct segment **out)
{
    *out = NULL;
    for (uint32_t i = 0; old && i < old->source_count; i++) {
        const struct source *source = &old->sources[i];
        if (!source->stored || strcmp(segment_key(source->segment), ms->key) != 0)
            continue;
        *out = segment_ref(source->segment);
        return ERR_OK;
    }
    struct segment_object object = object_of(ms, schema);
    enum err e = segment_open_object(op, cache, &object, out);
    if (e) return e;
    segment_stats_attach(*out, ms->stats);
    if (segment_row_count(*out) == ms->row_count) return ERR_OK;
    segment_unref(*out);
    *out = NULL;
    return op_fail(op, ERR_CORRUPT,
                   "segment %s has another number of rows than its "
                   "manifest says",
                   ms->key);
}

/* A side table: an object with number 0, of the size that the manifest says. */
static struct cache_pin side_table(const char *key, uint64_t size)
{
    return (struct cache_pin){.key = key, .size = (size_t)size};
}

static enum err decode_side_table(struct op *op, const struct keys *keys,
                                  const struct cache_pin *pin, enum object_kind kind,
                                  struct slice *payload)
{
    struct object object;
    enum err e = object_decode(op, pin->key, pin->data, keys->incarnation, 0, &object);
    if (!e && object.kind != kind)
        e = op_fail(op, ERR_CORRUPT, "object %s is of another kind", pin->key);
    if (!e) *payload = object.payload;
    return e;
}

/* Pins it; whoever finds it damaged says so to unpin_side_table. */
static enum err pin_side_table(struct op *op, struct cache *cache,
                               const struct keys *keys, struct cache_pin *pin,
                               enum object_kind kind, struct slice *payload)
{
    if (pin->size > SIDE_TABLE_SIZE_MAX)
        return op_fail(op, ERR_CORRUPT, "object %s would have %zu bytes", pin->key,
                       pin->size);
    enum err e = cache_pin(op, cache, pin, 1);
    return e ? e : decode_side_table(op, keys, pin, kind, payload);
}

static void unpin_side_table(struct cache *cache, struct cache_pin *pin, enum err e)
{
    cache_unpin(cache, pin, 1);
    if (e == ERR_CORRUPT) cache_forget(cache, pin->key, 0, pin->size);
}

static enum err load_dead(struct op *op, struct cache *cache, const struct keys *keys,
                          const struct manifest_segment *ms, struct rowset **out)
{
    struct cache_pin pin = side_table(ms->deletes_key, ms->deletes_size);
    struct slice payload;

    *out = NULL;
    if (ms->dead_count == 0) return ERR_OK;
    enum err e = pin_side_table(op, cache, keys, &pin, OBJECT_DELETES, &payload);
    if (!e) e = rowset_decode(op, payload, ms->row_count, out);
    if (!e && rowset_count(*out) != ms->dead_count) {
        rowset_unref(*out);
        *out = NULL;
        e = op_fail(op, ERR_CORRUPT,
                    "%s has another number of rows than its manifest "
                    "says",
                    ms->deletes_key);
    }
    unpin_side_table(cache, &pin, e);
    return e;
}

enum err state_load_segment(struct op *op, struct cache *cache, const struct keys *keys,
                            const struct schema *schema,
                            const struct manifest_segment *ms,
                            const struct snapshot *old, struct segment **segment,
                            struct rowset **dead)
{
    *dead = NULL;
    enum err e = open_segment(op, cache, schema, ms, old, segment);
    if (!e) e = load_dead(op, cache, keys, ms, dead);
    if (!e) return ERR_OK;
    segment_unref(*segment);
    *segment = NULL;
    return e;
}

static enum err load_source(struct op *op, struct cache *cache, const struct keys *keys,
                            const struct manifest_segment *ms,
                            const struct snapshot *old, struct draft *d)
{
    struct segment *segment = NULL;
    struct rowset *dead = NULL;

    enum err e =
        state_load_segment(op, cache, keys, d->s->schema, ms, old, &segment, &dead);
    if (!e) draft_add(d, segment, dead, ms->dead_count, true);
    segment_unref(segment);
    rowset_unref(dead);
    return e;
}

enum err state_load_table(struct op *op, struct cache *cache, const struct keys *keys,
                          const struct manifest *m, struct idempotency **table)
{
    struct cache_pin pin = side_table(m->idempotency_key, m->idempotency_size);
    struct slice payload;

    if (!m->idempotency_key) {
        *table = idempotency_new();
        return ERR_OK;
    }
    enum err e = pin_side_table(op, cache, keys, &pin, OBJECT_IDEMPOTENCY, &payload);
    if (!e) e = idempotency_decode(op, payload, table);
    unpin_side_table(cache, &pin, e);
    return e;
}

static bool is_open(const struct snapshot *old, const char *key)
{
    for (uint32_t i = 0; old && i < old->source_count; i++)
        if (old->sources[i].stored &&
            strcmp(segment_key(old->sources[i].segment), key) == 0)
            return true;
    return false;
}

/* The ends of all segments and the side tables in one round, seldom two: one by one
 * they would take as many rounds as there are objects. */
static void open_ahead(struct op *op, struct cache *cache, const struct manifest *m,
                       const struct snapshot *old)
{
    size_t room = (size_t)m->segment_count + 1, n = 0, tables = 0;
    struct segment_object *objects = mem_new_array(struct segment_object, room);
    struct cache_pin *more = mem_new_array(struct cache_pin, room);

    if (m->idempotency_key && m->idempotency_size <= SIDE_TABLE_SIZE_MAX)
        more[tables++] = side_table(m->idempotency_key, m->idempotency_size);
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *ms = &m->segments[i];
        if (!is_open(old, ms->key)) objects[n++] = object_of(ms, m->schema);
        if (ms->dead_count && ms->deletes_size <= SIDE_TABLE_SIZE_MAX)
            more[tables++] = side_table(ms->deletes_key, ms->deletes_size);
    }
    segment_open_ahead(op, cache, objects, n, more, tables);
    mem_free(objects);
    mem_free(more);
}

enum err state_load(struct op *op, struct cache *cache, const struct keys *keys,
                    const struct manifest *m, const struct snapshot *old,
                    struct snapshot **out, struct idempotency **table)
{
    struct draft d = draft_new(m->segment_count);
    enum err e = ERR_OK;

    d.s->schema = schema_ref(m->schema);
    d.s->id_kind = m->id_kind;
    memcpy(d.s->incarnation, keys->incarnation, sizeof d.s->incarnation);
    d.s->epoch = m->epoch;
    d.s->slot = m->wm - 1; /* UINT64_MAX when nothing is indexed */
    d.s->manifest_version = m->version;
    open_ahead(op, cache, m, old);
    for (uint32_t i = 0; i < m->segment_count && !e; i++)
        e = load_source(op, cache, keys, &m->segments[i], old, &d);
    if (!e) e = state_load_table(op, cache, keys, m, table);
    if (e) {
        draft_release(&d);
        return op_fail(op, e, "load manifest %llu of %s",
                       (unsigned long long)m->version, keys->name);
    }
    *out = draft_finish(&d);
    return ERR_OK;
}

/* ---- applying ---- */

static enum err apply_request(struct op *op, struct draft *d, const struct prepared *p,
                              struct applied *applied)
{
    uint64_t killed = 0;
    *applied = (struct applied){0};

    if (p->schema) {
        schema_unref(d->s->schema);
        d->s->schema = schema_ref(p->schema);
    }
    if (p->id_kind != ID_NONE && d->s->id_kind == ID_NONE && p->segment)
        d->s->id_kind = p->id_kind;
    enum err e = draft_kill(op, d, p->deletes, p->delete_count, &applied->deleted);
    if (e || !p->segment) return e;

    uint32_t rows = segment_row_count(p->segment);
    struct doc_id *ids = op_new_array(op, struct doc_id, rows);
    if (!ids) return ERR_LIMIT;
    for (uint32_t row = 0; row < rows; row++)
        ids[row] = segment_id(p->segment, row);
    e = draft_kill(op, d, ids, rows, &killed);
    if (e) return e;
    draft_add(d, p->segment, NULL, 0, false);
    applied->upserted = rows;
    return ERR_OK;
}

enum err state_apply(struct op *op, const struct snapshot *base,
                     const struct prepared *requests, size_t n, uint64_t slot,
                     uint64_t epoch, struct snapshot **out, struct applied *applied)
{
    struct draft d = draft_new(base->source_count + (uint32_t)n);
    enum err e = ERR_OK;

    assert(slot == base->slot + 1);
    draft_inherit(&d, base);
    d.s->slot = slot;
    d.s->epoch = epoch;
    for (uint32_t i = 0; i < base->source_count; i++)
        draft_add_source(&d, &base->sources[i]);
    for (size_t i = 0; i < n && !e; i++)
        e = apply_request(op, &d, &requests[i], &applied[i]);
    if (e) {
        draft_release(&d);
        return e;
    }
    *out = draft_finish(&d);
    return ERR_OK;
}

/* Requests of one entry see the schema that those before them left. */
static enum err prepare_entry(struct op *op, const struct snapshot *base,
                              const struct wal_entry *entry, struct prepared *prepared)
{
    struct schema *schema = base->schema;
    for (size_t i = 0; i < entry->request_count; i++) {
        struct batch batch = {0};
        enum err e = batch_decode(op, entry->requests[i].batch, schema, &batch);
        if (!e) e = prepared_make(op, &batch, schema, &prepared[i]);
        schema_unref(batch.schema);
        if (e)
            return op_fail(op, e, "request %zu of log slot %llu", i,
                           (unsigned long long)entry->slot);
        if (prepared[i].schema) schema = prepared[i].schema;
    }
    return ERR_OK;
}

/* Decodes and applies an entry. */
static enum err replay(struct op *op, const struct snapshot *base,
                       const struct wal_entry *entry, struct idempotency *table,
                       struct snapshot **out)
{
    size_t n = entry->request_count;
    struct prepared *prepared = mem_new_array(struct prepared, n);
    struct applied *applied = mem_new_array(struct applied, n);

    enum err e = prepare_entry(op, base, entry, prepared);
    if (!e)
        e = state_apply(op, base, prepared, n, entry->slot, entry->epoch, out, applied);
    for (size_t i = 0; i < n; i++) {
        const struct wal_request *request = &entry->requests[i];
        prepared_release(&prepared[i]);
        if (e || request->idempotency_key.size == 0) continue;
        struct idempotency_entry known = {.key = request->idempotency_key,
                                          .slot = entry->slot,
                                          .wall_ms = entry->wall_ms,
                                          .upserted = applied[i].upserted,
                                          .deleted = applied[i].deleted};
        memcpy(known.digest, request->digest, sizeof known.digest);
        idempotency_add(table, &known);
    }
    mem_free(prepared);
    mem_free(applied);
    return e;
}

/* ---- joining the tail ---- */

/* First source of the run to be joined, or source_count for none: the youngest segments
 * are joined as long as the next older one is less than twice as large as all of them.
 */
static uint32_t join_start(const struct snapshot *s, uint32_t first_source)
{
    uint64_t rows = 0, bytes = 0;
    uint32_t start = s->source_count;

    while (start > first_source && !s->sources[start - 1].stored) {
        const struct segment *next = s->sources[start - 1].segment;
        bool youngest = start == s->source_count;
        if (!youngest && segment_row_count(next) >= 2 * rows) break;
        rows += segment_row_count(next);
        bytes += segment_memory(next);
        if (rows > JOIN_ROWS_MAX || bytes > JOIN_BYTES_MAX) break;
        start--;
    }
    return s->source_count - start >= 2 ? start : s->source_count;
}

/* Writes live rows of some sources as one segment in memory; *out NULL if none lives.
 */
static enum err join(struct op *op, const struct snapshot *base, uint32_t start,
                     struct segment **out)
{
    uint32_t n = base->source_count - start;
    struct segment_input *inputs = mem_new_array(struct segment_input, n);
    struct segment_options options = tail_options(base->schema);
    struct buf bytes = BUF_INIT;
    uint32_t rows = 0;

    for (uint32_t i = 0; i < n; i++)
        inputs[i] = (struct segment_input){base->sources[start + i].segment,
                                           base->sources[start + i].dead};
    enum err e = segment_merge(op, base->schema, &options, inputs, n, &bytes, &rows);
    if (!e && rows) e = segment_open_memory(op, &bytes, out);
    mem_free(inputs);
    buf_release(&bytes);
    return e;
}

enum err state_join_tail(struct op *op, const struct snapshot *base,
                         uint32_t first_source, struct snapshot **out)
{
    uint32_t start = join_start(base, first_source);
    struct segment *joined = NULL;

    *out = NULL;
    if (start == base->source_count) return ERR_OK;
    enum err e = join(op, base, start, &joined);
    if (e) return e;

    struct draft d = draft_new(start + 1);
    draft_inherit(&d, base);
    for (uint32_t i = 0; i < start; i++)
        draft_add_source(&d, &base->sources[i]);
    if (joined) draft_add(&d, joined, NULL, 0, false);
    segment_unref(joined);
    *out = draft_finish(&d);
    return ERR_OK;
}

enum err state_replay(struct op *op, struct snapshot **s, const struct wal_entry *entry,
                      struct idempotency *table)
{
    struct snapshot *next = NULL, *joined = NULL;

    enum err e = replay(op, *s, entry, table, &next);
    if (!e) e = state_join_tail(op, next, 0, &joined);
    if (e) {
        snapshot_unref(next);
        return e;
    }
    snapshot_unref(*s);
    *s = joined ? joined : next;
    if (joined) snapshot_unref(next);
    return ERR_OK;
}

bool tail_hold(const struct registry_options *env, uint64_t *held, uint64_t bytes)
{
    if (bytes <= *held) {
        cache_unreserve(env->cache, *held - bytes);
        atomic_fetch_sub(env->tails_held, *held - bytes);
    } else {
        uint64_t more = bytes - *held;
        uint64_t all = atomic_load(env->tails_held) + more;
        if (all > cache_usage(env->cache).memory_max / 2) return false;
        if (!cache_reserve(env->cache, more)) return false;
        atomic_fetch_add(env->tails_held, more);
    }
    *held = bytes;
    return true;
}

/* ---- replacing what was indexed ---- */

/* Rows of a source that died between frozen and now die in made, by id. */
static void carry_deaths(struct draft *d, const struct source *before,
                         const struct source *now, uint32_t made_index)
{
    enum { CHUNK = 1024 };
    struct segment *made = d->s->sources[made_index].segment;
    uint32_t rows[CHUNK], found[CHUNK];
    struct doc_id ids[CHUNK];

    if (now->dead_count == before->dead_count) return;
    struct rowset *died = rowset_copy(now->dead);
    if (before->dead) rowset_andnot(died, before->dead);
    uint32_t from = 0;
    for (size_t n; (n = rowset_read(died, from, rows, CHUNK)) > 0;) {
        for (size_t i = 0; i < n; i++)
            ids[i] = segment_id(now->segment, rows[i]);
        segment_find(made, ids, n, found);
        for (size_t i = 0; i < n; i++) {
            assert(found[i] != UINT32_MAX); /* it lived when made was written */
            draft_kill_row(d, made_index, found[i]);
        }
        from = rows[n - 1] + 1; /* rows are below a row count, so this cannot wrap */
    }
    rowset_unref(died);
}

/* Adds made behind the stored sources, with the rows dead that died in what it is made
 * of since frozen. */
static void draft_add_made(struct draft *d, const struct snapshot *frozen,
                           const struct snapshot *now, const bool *taken,
                           struct segment *made)
{
    uint32_t index = d->s->source_count, i = 0;

    if (!made) return;
    draft_add(d, made, NULL, 0, true);
    for (uint32_t k = 0; k < frozen->source_count; k++) {
        if (!taken[k]) continue;
        while (now->sources[i].segment != frozen->sources[k].segment)
            i++;
        carry_deaths(d, &frozen->sources[k], &now->sources[i], index);
    }
}

/* The next source of frozen, from index on, that is taken; its count if none is. */
static uint32_t next_taken(const struct snapshot *frozen, const bool *taken,
                           uint32_t index)
{
    while (index < frozen->source_count && !taken[index])
        index++;
    return index;
}

struct snapshot *state_replace(const struct snapshot *frozen,
                               const struct snapshot *now, const bool *taken,
                               struct segment *made, uint64_t manifest_version)
{
    struct draft d = draft_new(now->source_count + 1);
    uint32_t wanted = next_taken(frozen, taken, 0);
    bool added = false;

    draft_inherit(&d, now);
    d.s->manifest_version = manifest_version;
    for (uint32_t i = 0; i < now->source_count; i++) {
        const struct source *source = &now->sources[i];
        if (!source->stored && !added) {
            draft_add_made(&d, frozen, now, taken, made);
            added = true;
        }
        bool replaced = wanted < frozen->source_count &&
                        source->segment == frozen->sources[wanted].segment;
        if (replaced)
            wanted = next_taken(frozen, taken, wanted + 1);
        else
            draft_add_source(&d, source);
    }
    if (!added) draft_add_made(&d, frozen, now, taken, made);
    assert(wanted == frozen->source_count);
    return draft_finish(&d);
}
