/*
 * Payload of a manifest, version 3; numbers are varints unless a size is given:
 *   u8 version | wm | anchor 16 | floor | u8 id kind | sized holder node |
 *   u64 holder fingerprint | schema (doc/schema.h) |
 *   count, then per segment: sized key, size, tail hash 16, rows, dead rows, and for
 *     dead rows > 0: sized deletes key, deletes size; then its statistics, sized
 *     (segment/segment_stats.h; empty: none), and the size of its end (0: not known) |
 *   count, then per fence: slot, wall ms |
 *   count, then per removed object: sized key, version, wall ms |
 *   u8 has idempotency table; if 1: sized key, size
 * Versions 1 and 2 are read too: the former has no statistics, both have no sizes of
 * ends. Version, epoch, put-id and
 * incarnation are in the envelope (object.h).
 */
#include "ns/manifest.h"

#include <assert.h>

#include "base/codec.h"
#include "base/op.h"
#include "ns/round.h"
#include "segment/segment_stats.h"

enum {
    VERSION_PLAIN = 1,
    VERSION_STATS = 2,
    VERSION = 3,
    MANIFEST_SIZE_MAX = 64 << 20,
    NEWEST_TRIES = 5
};

struct manifest *manifest_new(void)
{
    struct manifest *m = mem_new(struct manifest);
    atomic_init(&m->refs, 1);
    m->holder_node = mem_strdup("");
    return m;
}

struct manifest *manifest_ref(struct manifest *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

static void segment_release(struct manifest_segment *s)
{
    mem_free(s->key);
    mem_free(s->deletes_key);
    segment_stats_unref(s->stats);
}

void manifest_unref(struct manifest *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1) return;
    for (uint32_t i = 0; i < m->segment_count; i++)
        segment_release(&m->segments[i]);
    for (uint32_t i = 0; i < m->removed_count; i++)
        mem_free(m->removed[i].key);
    mem_free(m->segments);
    mem_free(m->fences);
    mem_free(m->removed);
    mem_free(m->idempotency_key);
    mem_free(m->holder_node);
    schema_unref(m->schema);
    mem_free(m);
}

struct manifest *manifest_copy(const struct manifest *m)
{
    struct manifest *copy = manifest_new();
    mem_free(copy->holder_node);
    copy->version = m->version;
    copy->epoch = m->epoch;
    copy->put_id = m->put_id;
    copy->holder_node = mem_strdup(m->holder_node);
    copy->holder_fingerprint = m->holder_fingerprint;
    copy->wm = m->wm;
    copy->anchor = m->anchor;
    copy->floor = m->floor;
    copy->id_kind = m->id_kind;
    copy->schema = m->schema ? schema_ref(m->schema) : NULL;
    for (uint32_t i = 0; i < m->segment_count; i++) {
        struct manifest_segment s = m->segments[i];
        s.key = mem_strdup(s.key);
        if (s.deletes_key) s.deletes_key = mem_strdup(s.deletes_key);
        s.stats = segment_stats_ref(s.stats);
        manifest_add_segment(copy, s);
    }
    for (uint32_t i = 0; i < m->fence_count; i++)
        manifest_add_fence(copy, m->fences[i].slot, m->fences[i].wall_ms);
    for (uint32_t i = 0; i < m->removed_count; i++)
        manifest_add_removed(copy, m->removed[i].key, m->removed[i].version,
                             m->removed[i].wall_ms);
    if (m->idempotency_key) copy->idempotency_key = mem_strdup(m->idempotency_key);
    copy->idempotency_size = m->idempotency_size;
    return copy;
}

/* Room for one more in an array whose capacity is at least the next power of two. */
static void *grow(void *items, uint32_t count, size_t size)
{
    bool full = (count & (count - 1)) == 0;
    return full ? mem_realloc(items, (count ? 2 * (size_t)count : 1) * size) : items;
}

static uint64_t stats_size(const struct manifest_segment *s)
{
    return s->stats ? segment_stats_bytes(s->stats).size : 0;
}

void manifest_add_segment(struct manifest *m, struct manifest_segment segment)
{
    assert(m->segment_count < MANIFEST_SEGMENTS_MAX);
    if (m->stats_bytes + stats_size(&segment) > MANIFEST_STATS_MAX) {
        segment_stats_unref(segment.stats);
        segment.stats = NULL;
    }
    m->stats_bytes += stats_size(&segment);
    m->segments = grow(m->segments, m->segment_count, sizeof *m->segments);
    m->segments[m->segment_count++] = segment;
}

void manifest_drop_segment(struct manifest *m, uint32_t index)
{
    assert(index < m->segment_count);
    m->stats_bytes -= stats_size(&m->segments[index]);
    segment_release(&m->segments[index]);
    memmove(&m->segments[index], &m->segments[index + 1],
            (m->segment_count - index - 1) * sizeof *m->segments);
    m->segment_count--;
}

void manifest_add_fence(struct manifest *m, uint64_t slot, uint64_t wall_ms)
{
    assert(m->fence_count == 0 || m->fences[m->fence_count - 1].slot < slot);
    m->fences = grow(m->fences, m->fence_count, sizeof *m->fences);
    m->fences[m->fence_count++] = (struct manifest_fence){slot, wall_ms};
}

void manifest_add_removed(struct manifest *m, const char *key, uint64_t version,
                          uint64_t wall_ms)
{
    m->removed = grow(m->removed, m->removed_count, sizeof *m->removed);
    m->removed[m->removed_count++] =
        (struct manifest_removed){mem_strdup(key), version, wall_ms};
}

static void trim_removed(struct manifest *m, uint64_t collected)
{
    uint32_t kept = 0, surplus = 0;

    if (m->removed_count > MANIFEST_REMOVED_MAX)
        surplus = m->removed_count - MANIFEST_REMOVED_MAX;
    for (uint32_t i = 0; i < m->removed_count; i++) {
        if (i < surplus || m->removed[i].version <= collected)
            mem_free(m->removed[i].key);
        else
            m->removed[kept++] = m->removed[i];
    }
    m->removed_count = kept;
}

static void trim_fences(struct manifest *m, uint64_t now_ms)
{
    enum { FENCES_KEPT = 128 };
    const uint64_t age_max_ms = (uint64_t)30 * 24 * 3600 * 1000;
    uint32_t gone = 0;

    while (m->fence_count - gone > MANIFEST_FENCES_MAX ||
           (m->fence_count - gone > FENCES_KEPT &&
            m->fences[gone].wall_ms + age_max_ms < now_ms))
        gone++;
    if (gone == 0) return;
    m->fence_count -= gone;
    memmove(m->fences, m->fences + gone, m->fence_count * sizeof *m->fences);
}

void manifest_trim(struct manifest *m, uint64_t collected, uint64_t now_ms)
{
    trim_removed(m, collected);
    trim_fences(m, now_ms);
}

bool manifest_mentions(const struct manifest *m, const char *key)
{
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *s = &m->segments[i];
        if (strcmp(s->key, key) == 0) return true;
        if (s->deletes_key && strcmp(s->deletes_key, key) == 0) return true;
    }
    for (uint32_t i = 0; i < m->removed_count; i++)
        if (strcmp(m->removed[i].key, key) == 0) return true;
    return m->idempotency_key && strcmp(m->idempotency_key, key) == 0;
}

void manifest_encode(const struct manifest *m, struct buf *out)
{
    put_u8(out, VERSION);
    put_varint(out, m->wm);
    buf_append(out, m->anchor.bytes, sizeof m->anchor.bytes);
    put_varint(out, m->floor);
    put_u8(out, (uint8_t)m->id_kind);
    put_sized(out, slice_str(m->holder_node));
    put_u64(out, m->holder_fingerprint);
    schema_encode(m->schema, out);

    put_varint(out, m->segment_count);
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *s = &m->segments[i];
        put_sized(out, slice_str(s->key));
        put_varint(out, s->size);
        buf_append(out, s->tail_hash, sizeof s->tail_hash);
        put_varint(out, s->row_count);
        put_varint(out, s->dead_count);
        if (s->dead_count > 0) {
            put_sized(out, slice_str(s->deletes_key));
            put_varint(out, s->deletes_size);
        }
        put_sized(out, s->stats ? segment_stats_bytes(s->stats) : SLICE_EMPTY);
        put_varint(out, s->end_size);
    }
    put_varint(out, m->fence_count);
    for (uint32_t i = 0; i < m->fence_count; i++) {
        put_varint(out, m->fences[i].slot);
        put_varint(out, m->fences[i].wall_ms);
    }
    put_varint(out, m->removed_count);
    for (uint32_t i = 0; i < m->removed_count; i++) {
        put_sized(out, slice_str(m->removed[i].key));
        put_varint(out, m->removed[i].version);
        put_varint(out, m->removed[i].wall_ms);
    }
    put_u8(out, m->idempotency_key != NULL);
    if (!m->idempotency_key) return;
    put_sized(out, slice_str(m->idempotency_key));
    put_varint(out, m->idempotency_size);
}

/* A key of one of our own objects, as a string on the heap; NULL if it is none. */
static char *get_key(struct reader *r)
{
    struct slice s = get_sized(r);
    if (r->failed || s.size == 0 || s.size >= STORE_KEY_MAX ||
        memchr(s.data, 0, s.size)) {
        r->failed = true;
        return NULL;
    }
    char *key = mem_calloc(s.size + 1, 1);
    memcpy(key, s.data, s.size);
    return key;
}

static void decode_stats(struct op *op, struct reader *r, const struct manifest *m,
                         struct manifest_segment *s)
{
    struct slice bytes = get_sized(r);
    if (r->failed || bytes.size == 0) return;
    if (segment_stats_decode(op, bytes, m->schema, s->row_count, &s->stats))
        r->failed = true;
}

static void decode_segments(struct op *op, struct reader *r, uint8_t version,
                            struct manifest *m)
{
    uint64_t count = get_varint_max(r, MANIFEST_SEGMENTS_MAX);
    for (uint64_t i = 0; i < count && !r->failed; i++) {
        struct manifest_segment s = {.key = get_key(r)};
        s.size = get_varint(r);
        struct slice hash = get_bytes(r, sizeof s.tail_hash);
        if (hash.size) memcpy(s.tail_hash, hash.data, hash.size);
        s.row_count = (uint32_t)get_varint_max(r, UINT32_MAX);
        s.dead_count = (uint32_t)get_varint_max(r, s.row_count);
        if (s.dead_count) {
            s.deletes_key = get_key(r);
            s.deletes_size = get_varint(r);
        }
        if (version >= VERSION_STATS) decode_stats(op, r, m, &s);
        if (version > VERSION_STATS) s.end_size = get_varint_max(r, s.size);
        if (r->failed)
            segment_release(&s);
        else
            manifest_add_segment(m, s);
    }
}

static void decode_fences(struct reader *r, struct manifest *m)
{
    uint64_t count = get_varint_max(r, MANIFEST_FENCES_MAX);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t slot = get_varint(r);
        uint64_t wall_ms = get_varint(r);
        if (m->fence_count && slot <= m->fences[m->fence_count - 1].slot)
            r->failed = true;
        if (r->failed) return;
        manifest_add_fence(m, slot, wall_ms);
    }
}

static void decode_removed(struct reader *r, struct manifest *m)
{
    uint64_t count = get_varint_max(r, MANIFEST_REMOVED_MAX);
    for (uint64_t i = 0; i < count && !r->failed; i++) {
        char *key = get_key(r);
        uint64_t version = get_varint(r);
        uint64_t wall_ms = get_varint(r);
        if (!r->failed) manifest_add_removed(m, key, version, wall_ms);
        mem_free(key);
    }
}

/* r->failed says whether it could be read. */
static void decode_payload(struct op *op, struct reader *r, struct manifest *m)
{
    uint8_t version = get_u8(r);
    if (version < VERSION_PLAIN || version > VERSION) r->failed = true;
    m->wm = get_varint(r);
    struct slice anchor = get_bytes(r, sizeof m->anchor.bytes);
    if (anchor.size) memcpy(m->anchor.bytes, anchor.data, anchor.size);
    m->floor = get_varint(r);
    m->id_kind = (enum id_kind)get_u8(r);
    struct slice node = get_sized(r);
    m->holder_fingerprint = get_u64(r);
    if (m->id_kind > ID_STRING || m->floor > m->wm) r->failed = true;
    if (r->failed) return;
    mem_free(m->holder_node);
    m->holder_node = mem_calloc(node.size + 1, 1);
    if (node.size) memcpy(m->holder_node, node.data, node.size);
    if (schema_decode(op, r, &m->schema)) {
        r->failed = true;
        return;
    }
    decode_segments(op, r, version, m);
    decode_fences(r, m);
    decode_removed(r, m);
    uint8_t has_table = get_u8(r);
    if (has_table > 1) r->failed = true;
    if (r->failed || !has_table) return;
    m->idempotency_key = get_key(r);
    m->idempotency_size = get_varint(r);
}

enum err manifest_decode(struct op *op, const char *key, const struct object *object,
                         struct manifest **out)
{
    struct reader r = reader_of(object->payload);
    struct manifest *m = manifest_new();

    m->version = object->number;
    m->epoch = object->epoch;
    m->put_id = object->put_id;
    if (object->kind != OBJECT_MANIFEST) r.failed = true;
    if (!r.failed) decode_payload(op, &r, m);
    if (!reader_done(&r)) {
        manifest_unref(m);
        *out = NULL;
        return op_fail(op, ERR_CORRUPT, "manifest %s cannot be read", key);
    }
    *out = m;
    return ERR_OK;
}

static enum err newest_key(struct op *op, struct store *store, const struct keys *keys,
                           const char **key, uint64_t *version)
{
    size_t n = 1;
    *key = NULL;
    enum err e = store_list(op, store, keys->manifest, "", 0, key, &n);
    if (e || n == 0) {
        *key = NULL;
        return e;
    }
    if (!key_manifest_version(keys, *key, version))
        return op_fail(op, ERR_CORRUPT, "%s is no name of a manifest", *key);
    return ERR_OK;
}

enum err manifest_newest_version(struct op *op, struct store *store,
                                 const struct keys *keys, bool *found,
                                 uint64_t *version)
{
    const char *key;
    enum err e = newest_key(op, store, keys, &key, version);
    *found = key != NULL;
    return e ? op_fail(op, e, "find the manifest of %s", keys->name) : ERR_OK;
}

static enum err load(struct op *op, struct store *store, const struct keys *keys,
                     const char *key, uint64_t version, struct manifest **out)
{
    struct buf bytes = BUF_INIT;
    struct object object;

    enum err e = store_get(op, store, key, MANIFEST_SIZE_MAX, &bytes);
    if (!e)
        e = object_decode(op, key, buf_slice(&bytes), keys->incarnation, version,
                          &object);
    if (!e) e = manifest_decode(op, key, &object, out);
    buf_release(&bytes);
    return e;
}

enum err manifest_newest(struct op *op, struct store *store, const struct keys *keys,
                         struct manifest **out)
{
    *out = NULL;
    for (int i = 0; i < NEWEST_TRIES; i++) {
        const char *key;
        uint64_t version;
        enum err e = newest_key(op, store, keys, &key, &version);
        if (e) return op_fail(op, e, "find the manifest of %s", keys->name);
        if (!key) return ERR_OK;
        e = load(op, store, keys, key, version, out);
        if (e != ERR_NOT_FOUND) return e;
        op_clear_error(op); /* collected meanwhile: there is a newer one */
    }
    return op_fail(op, ERR_IO, "the manifest of %s changes faster than it can be read",
                   keys->name);
}

static void assert_successor(const struct manifest *previous, const struct manifest *m)
{
    assert(m->floor <= (m->wm ? m->wm - 1 : 0));
    if (!previous) return;
    assert(m->version == previous->version + 1);
    assert(m->epoch >= previous->epoch);
    assert(m->wm >= previous->wm);
    assert(m->floor >= previous->floor);
    assert(m->schema->attr_count >= previous->schema->attr_count);
    assert(previous->id_kind == ID_NONE || m->id_kind == previous->id_kind);
}

/* The manifest that is stored under m's name: is it m, by its put-id? */
struct own {
    struct store *store;
    const struct keys *keys;
    const struct manifest *m;
    bool same;
};

static enum err read_own(struct op *op, void *arg)
{
    struct own *own = arg;
    struct key key = key_manifest(own->keys, own->m->version);
    struct buf bytes = BUF_INIT;
    struct put_id id;

    enum err e =
        object_identify(op, own->store, key.text, MANIFEST_SIZE_MAX, &bytes, &id);
    own->same = !e && put_id_equal(&id, &own->m->put_id);
    buf_release(&bytes);
    if (e == ERR_NOT_FOUND) { /* collected: there are many newer ones */
        op_clear_error(op);
        e = ERR_OK;
    }
    return e;
}

struct newest {
    struct store *store;
    const struct keys *keys;
    uint64_t version;
    bool found;
};

static enum err find_newest(struct op *op, void *arg)
{
    struct newest *n = arg;
    return manifest_newest_version(op, n->store, n->keys, &n->found, &n->version);
}

enum err manifest_confirm(struct op *op, struct store *store, const struct keys *keys,
                          const struct manifest *m, enum published *published)
{
    /* A version's name can only be given away again after it was collected, when there
     * are newer ones; so the order in which the two are asked does not matter. */
    struct own own = {store, keys, m, false};
    struct newest newest = {.store = store, .keys = keys};
    struct round_call calls[] = {{.run = read_own, .arg = &own},
                                 {.run = find_newest, .arg = &newest}};

    enum err e = round_run(op, calls, sizeof calls / sizeof calls[0]);
    if (e) return e;
    bool ours = own.same && newest.found && newest.version == m->version;
    *published = ours ? PUBLISHED : PUBLISH_OVERTAKEN;
    return ERR_OK;
}

enum err manifest_create(struct op *op, struct store *store, const struct keys *keys,
                         const struct manifest *previous, struct manifest *m,
                         enum published *published)
{
    struct buf payload = BUF_INIT, bytes = BUF_INIT;
    struct key key = key_manifest(keys, m->version);
    enum settled outcome;

    assert_successor(previous, m);
    m->put_id = put_id_new();
    manifest_encode(m, &payload);
    struct object object = {.kind = OBJECT_MANIFEST,
                            .number = m->version,
                            .epoch = m->epoch,
                            .put_id = m->put_id,
                            .payload = buf_slice(&payload)};
    memcpy(object.incarnation, keys->incarnation, INCARNATION_SIZE);
    object_encode(&object, &bytes);

    struct settle settle = {.key = key.text, .bytes = buf_slice(&bytes)};
    enum err e = settle_create(op, store, &settle, &outcome, NULL);
    if (!e)
        *published = outcome == SETTLED_APPLIED ? PUBLISHED
                     : outcome == SETTLED_TAKEN ? PUBLISH_TAKEN
                                                : PUBLISH_OVERTAKEN;
    buf_release(&payload);
    buf_release(&bytes);
    return e ? op_fail(op, e, "publish manifest %s", key.text) : ERR_OK;
}

enum err manifest_publish(struct op *op, struct store *store, const struct keys *keys,
                          const struct manifest *previous, struct manifest *m,
                          enum published *published)
{
    enum err e = manifest_create(op, store, keys, previous, m, published);
    if (e || *published != PUBLISHED) return e;
    e = manifest_confirm(op, store, keys, m, published);
    /* It is stored, but we could not make sure that nobody was faster. */
    return e ? op_fail(op, ERR_UNKNOWN, "manifest %llu of %s was not confirmed",
                       (unsigned long long)m->version, keys->name)
             : ERR_OK;
}
