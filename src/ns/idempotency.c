/*
 * A ring of entries in the order they were applied, and an open-addressing index over
 * it (linear probing, rebuilt when it is three quarters full).
 *
 * Stored: u8 version 1 | count, then per entry: sized key, digest 16, slot, wall ms,
 * upserted, deleted; numbers are varints.
 */
#include "ns/idempotency.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "ns/wal.h"

enum { VERSION = 1, INDEX_MIN = 64, EMPTY = -1 };

struct idempotency {
    struct idempotency_entry *entries; /* ring; entry n lies at n % capacity */
    size_t capacity;                   /* a power of two */
    uint64_t first, end;               /* entries first .. end - 1 are remembered */
    int64_t *index;    /* entry numbers, EMPTY, may be stale (< first) */
    size_t index_size; /* a power of two */
    size_t index_used;
};

static struct idempotency_entry *entry_at(const struct idempotency *t, uint64_t n)
{
    return &t->entries[n & (t->capacity - 1)];
}

struct idempotency *idempotency_new(void)
{
    struct idempotency *t = mem_new(struct idempotency);
    t->capacity = INDEX_MIN;
    t->entries = mem_new_array(struct idempotency_entry, t->capacity);
    t->index_size = 2 * INDEX_MIN;
    t->index = mem_alloc(t->index_size * sizeof *t->index);
    for (size_t i = 0; i < t->index_size; i++)
        t->index[i] = EMPTY;
    return t;
}

static void forget_first(struct idempotency *t)
{
    mem_free((void *)(uintptr_t)entry_at(t, t->first)->key.data);
    t->first++;
}

void idempotency_free(struct idempotency *t)
{
    if (!t) return;
    while (t->first < t->end)
        forget_first(t);
    mem_free(t->entries);
    mem_free(t->index);
    mem_free(t);
}

uint64_t idempotency_count(const struct idempotency *t)
{
    return t->end - t->first;
}

void idempotency_each(const struct idempotency *t,
                      void (*visit)(void *context, const struct idempotency_entry *e),
                      void *context)
{
    for (uint64_t n = t->first; n < t->end; n++)
        visit(context, entry_at(t, n));
}

uint64_t idempotency_version(const struct idempotency *t)
{
    return t->end;
}

static void index_put(struct idempotency *t, uint64_t n)
{
    struct slice key = entry_at(t, n)->key;
    size_t i = xxh3_64(key.data, key.size) & (t->index_size - 1);
    while (t->index[i] != EMPTY)
        i = (i + 1) & (t->index_size - 1);
    t->index[i] = (int64_t)n;
    t->index_used++;
}

static void index_rebuild(struct idempotency *t)
{
    size_t size = 2 * INDEX_MIN;
    while (size < 4 * (size_t)idempotency_count(t))
        size *= 2;
    t->index = mem_realloc(t->index, size * sizeof *t->index);
    t->index_size = size;
    t->index_used = 0;
    for (size_t i = 0; i < size; i++)
        t->index[i] = EMPTY;
    for (uint64_t n = t->first; n < t->end; n++)
        index_put(t, n);
}

static void ring_grow(struct idempotency *t)
{
    struct idempotency_entry *larger =
        mem_new_array(struct idempotency_entry, 2 * t->capacity);
    for (uint64_t n = t->first; n < t->end; n++)
        larger[n & (2 * t->capacity - 1)] = *entry_at(t, n);
    mem_free(t->entries);
    t->entries = larger;
    t->capacity *= 2;
}

void idempotency_add(struct idempotency *t, const struct idempotency_entry *entry)
{
    if (idempotency_find(t, entry->key)) return;

    while (t->first < t->end &&
           (idempotency_count(t) >= IDEMPOTENCY_COUNT_MAX ||
            entry_at(t, t->first)->wall_ms + IDEMPOTENCY_AGE_MAX_MS < entry->wall_ms))
        forget_first(t);
    if (idempotency_count(t) == t->capacity) ring_grow(t);

    struct idempotency_entry *slot = entry_at(t, t->end);
    *slot = *entry;
    slot->key = slice_of(mem_dup(entry->key.data, entry->key.size), entry->key.size);
    t->end++;
    if (4 * (t->index_used + 1) > 3 * t->index_size)
        index_rebuild(t);
    else
        index_put(t, t->end - 1);
}

const struct idempotency_entry *idempotency_find(const struct idempotency *t,
                                                 struct slice key)
{
    size_t i = xxh3_64(key.data, key.size) & (t->index_size - 1);
    for (; t->index[i] != EMPTY; i = (i + 1) & (t->index_size - 1)) {
        uint64_t n = (uint64_t)t->index[i];
        if (n < t->first) continue;
        if (slice_equal(entry_at(t, n)->key, key)) return entry_at(t, n);
    }
    return NULL;
}

void idempotency_encode(const struct idempotency *t, uint64_t slot_end, struct buf *out)
{
    uint64_t end = t->end;
    while (end > t->first && entry_at(t, end - 1)->slot >= slot_end)
        end--;

    put_u8(out, VERSION);
    put_varint(out, end - t->first);
    for (uint64_t n = t->first; n < end; n++) {
        const struct idempotency_entry *e = entry_at(t, n);
        put_sized(out, e->key);
        buf_append(out, e->digest, sizeof e->digest);
        put_varint(out, e->slot);
        put_varint(out, e->wall_ms);
        put_varint(out, e->upserted);
        put_varint(out, e->deleted);
    }
}

enum err idempotency_decode(struct op *op, struct slice bytes, struct idempotency **out)
{
    struct reader r = reader_of(bytes);
    struct idempotency *t = idempotency_new();

    if (get_u8(&r) != VERSION) r.failed = true;
    uint64_t count = get_varint_max(&r, IDEMPOTENCY_COUNT_MAX);
    for (uint64_t i = 0; i < count && !r.failed; i++) {
        struct idempotency_entry e = {.key = get_sized(&r)};
        struct slice digest = get_bytes(&r, sizeof e.digest);
        if (digest.size) memcpy(e.digest, digest.data, digest.size);
        e.slot = get_varint(&r);
        e.wall_ms = get_varint(&r);
        e.upserted = get_varint(&r);
        e.deleted = get_varint(&r);
        if (e.key.size == 0 || e.key.size > IDEMPOTENCY_KEY_MAX) r.failed = true;
        if (!r.failed) idempotency_add(t, &e);
    }
    if (!reader_done(&r)) {
        idempotency_free(t);
        return op_fail(op, ERR_CORRUPT, "table of idempotency keys cannot be read");
    }
    *out = t;
    return ERR_OK;
}
