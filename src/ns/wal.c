/*
 * Payload of a log entry, inside the envelope of object.h; numbers are varints unless a
 * size is given. All kinds: u8 version 1 | prev put-id 16 | u64 wall milliseconds.
 *   DATA   count, then per request: sized batch, sized idempotency key, and, where that
 *          is not empty, digest 16
 *   FENCE  sized node id, u64 fingerprint of its configuration
 *   DROP   the same
 */
#include "ns/wal.h"

#include "base/codec.h"
#include "base/op.h"
#include "store/store.h"

enum { VERSION = 1, LIST_PAGE = 1000 };

void wal_entry_encode(const struct wal_entry *entry,
                      const uint8_t incarnation[INCARNATION_SIZE], struct buf *out)
{
    struct buf payload = BUF_INIT;

    put_u8(&payload, VERSION);
    buf_append(&payload, entry->prev.bytes, sizeof entry->prev.bytes);
    put_u64(&payload, entry->wall_ms);
    if (entry->kind == OBJECT_DATA) {
        put_varint(&payload, entry->request_count);
        for (size_t i = 0; i < entry->request_count; i++) {
            const struct wal_request *r = &entry->requests[i];
            put_sized(&payload, r->batch);
            put_sized(&payload, r->idempotency_key);
            if (r->idempotency_key.size)
                buf_append(&payload, r->digest, sizeof r->digest);
        }
    } else {
        put_sized(&payload, entry->node_id);
        put_u64(&payload, entry->fingerprint);
    }

    struct object object = {.kind = entry->kind,
                            .number = entry->slot,
                            .epoch = entry->epoch,
                            .put_id = entry->put_id,
                            .payload = buf_slice(&payload)};
    memcpy(object.incarnation, incarnation, INCARNATION_SIZE);
    object_encode(&object, out);
    buf_release(&payload);
}

static enum err decode_requests(struct op *op, struct reader *r,
                                struct wal_entry *entry)
{
    entry->request_count = get_varint_max(r, WAL_REQUESTS_MAX);
    entry->requests = op_new_array(op, struct wal_request, entry->request_count);
    if (!entry->requests) return ERR_LIMIT;
    for (size_t i = 0; i < entry->request_count; i++) {
        struct wal_request *request = &entry->requests[i];
        request->batch = get_sized(r);
        request->idempotency_key = get_sized(r);
        if (request->idempotency_key.size == 0) continue;
        if (request->idempotency_key.size > IDEMPOTENCY_KEY_MAX) r->failed = true;
        struct slice digest = get_bytes(r, sizeof request->digest);
        if (digest.size) memcpy(request->digest, digest.data, digest.size);
    }
    return ERR_OK;
}

enum err wal_entry_decode(struct op *op, const struct keys *keys, uint64_t slot,
                          struct slice bytes, struct wal_entry *out)
{
    struct key key = key_wal(keys, slot);
    struct object object;

    enum err e = object_decode(op, key.text, bytes, keys->incarnation, slot, &object);
    if (e) return e;

    struct reader r = reader_of(object.payload);
    struct wal_entry entry = {.kind = object.kind,
                              .slot = slot,
                              .epoch = object.epoch,
                              .put_id = object.put_id};
    bool known = get_u8(&r) == VERSION && object.kind <= OBJECT_DROP;
    struct slice prev = get_bytes(&r, sizeof entry.prev.bytes);
    if (prev.size) memcpy(entry.prev.bytes, prev.data, prev.size);
    entry.wall_ms = get_u64(&r);
    if (known && entry.kind == OBJECT_DATA) {
        e = decode_requests(op, &r, &entry);
        if (e) return e;
    } else {
        entry.node_id = get_sized(&r);
        entry.fingerprint = get_u64(&r);
    }
    if (!known || !reader_done(&r))
        return op_fail(op, ERR_CORRUPT, "log entry %s cannot be read", key.text);
    *out = entry;
    return ERR_OK;
}

enum err wal_read(struct op *op, struct store *store, const struct keys *keys,
                  uint64_t slot, struct buf *bytes, struct wal_entry *out)
{
    struct key key = key_wal(keys, slot);
    size_t start = bytes->size;

    enum err e = store_get(op, store, key.text, OBJECT_SIZE_MAX, bytes);
    if (e) return e;
    return wal_entry_decode(op, keys, slot,
                            slice_of(bytes->data + start, bytes->size - start), out);
}

enum err wal_list(struct op *op, struct store *store, const struct keys *keys,
                  uint64_t first, uint64_t **slots, size_t *count)
{
    struct key after = {""};
    uint64_t *found = NULL;
    size_t total = 0, capacity = 0;

    if (first) after = key_wal(keys, first - 1);
    for (size_t n = LIST_PAGE; n == LIST_PAGE;) {
        const char *page[LIST_PAGE];
        enum err e = store_list(op, store, keys->wal, after.text, 0, page, &n);
        if (e) return op_fail(op, e, "list the log of %s", keys->name);
        if (total + n > capacity) {
            capacity = 2 * (total + n);
            if (capacity > 2 * (size_t)WAL_SLOTS_MAX)
                return op_fail(op, ERR_LIMIT, "the log of %s has too many entries",
                               keys->name);
            uint64_t *larger = op_new_array(op, uint64_t, capacity);
            if (!larger) return ERR_LIMIT;
            if (total) memcpy(larger, found, total * sizeof *found);
            found = larger;
        }
        for (size_t i = 0; i < n; i++)
            if (!key_wal_slot(keys, page[i], &found[total++]))
                return op_fail(op, ERR_CORRUPT, "%s is no name of a log entry",
                               page[i]);
        if (n) memcpy(after.text, page[n - 1], strlen(page[n - 1]) + 1);
    }
    *slots = found;
    *count = total;
    return ERR_OK;
}

bool wal_gap(const uint64_t *slots, size_t count, uint64_t first, uint64_t end,
             uint64_t *slot)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i] == first + i) continue;
        *slot = first + i;
        return true;
    }
    *slot = first + count;
    return *slot < end;
}

enum err wal_broken(struct op *op, const struct keys *keys, uint64_t slot)
{
    struct key key = key_wal(keys, slot);
    return op_fail(op, ERR_CORRUPT,
                   "the log of namespace \"%s\" is broken: object %s is missing or not "
                   "the one that belongs there",
                   keys->name, key.text);
}
