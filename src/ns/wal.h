/*
 * wal.h - entries of the log: what they hold, how they are read, how they chain.
 *
 * Slot s of the log holds one entry, put where nothing was. Each entry carries the
 * put-id of the one before it, so a reader knows a contiguous, genuine prefix from one
 * with a hole or a late stranger in it. Payload layouts: head of wal.c.
 */
#ifndef NS_WAL_H
#define NS_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "ns/keys.h"
#include "ns/object.h"

struct op;
struct store;

enum { IDEMPOTENCY_KEY_MAX = 255, WAL_REQUESTS_MAX = 65536 };

/* Batches of an entry, together: leaves room for the keys of all requests and for the
 * checksums, so that whatever is written can be read back. */
#define WAL_BATCH_SIZE_MAX (OBJECT_SIZE_MAX - ((size_t)32 << 20))

/* One request inside a DATA entry. */
struct wal_request {
    struct slice batch;           /* batch_encode */
    struct slice idempotency_key; /* empty: none */
    uint8_t digest[16];
};

struct wal_entry {
    enum object_kind kind; /* OBJECT_DATA, OBJECT_FENCE, OBJECT_DROP */
    uint64_t slot;
    uint64_t epoch;
    struct put_id put_id;
    struct put_id prev; /* zeros for slot 0 */
    uint64_t wall_ms;
    /* DATA */
    struct wal_request *requests; /* in op's arena; slices borrow the entry's bytes */
    size_t request_count;
    /* FENCE, DROP */
    struct slice node_id;
    uint64_t fingerprint;
};

/* The whole object, envelope included. */
void wal_entry_encode(const struct wal_entry *entry,
                      const uint8_t incarnation[INCARNATION_SIZE], struct buf *out);
/* Borrows from bytes. ERR_CORRUPT names key. */
enum err wal_entry_decode(struct op *op, const struct keys *keys, uint64_t slot,
                          struct slice bytes, struct wal_entry *out);

/* Reads slot into bytes (appended) and decodes it. ERR_NOT_FOUND. */
enum err wal_read(struct op *op, struct store *store, const struct keys *keys,
                  uint64_t slot, struct buf *bytes, struct wal_entry *out);

/* Is a slot missing: below end, which the log must reach, or between those listed from
 * first on? *slot: the first one. */
bool wal_gap(const uint64_t *slots, size_t count, uint64_t first, uint64_t end,
             uint64_t *slot);
/* The log is broken at slot, and no newer manifest explains it: ERR_CORRUPT. */
enum err wal_broken(struct op *op, const struct keys *keys, uint64_t slot);

/*
 * Slots that are present, >= first, ascending, in op's arena; reads as many list pages
 * as it takes. ERR_LIMIT above WAL_SLOTS_MAX.
 */
enum { WAL_SLOTS_MAX = 1 << 20 };
enum err wal_list(struct op *op, struct store *store, const struct keys *keys,
                  uint64_t first, uint64_t **slots, size_t *count);

#endif
