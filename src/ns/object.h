/*
 * object.h - the envelope of every small object the protocol decides by.
 *
 * Log entries, manifests, catalog records and their side tables share one frame. Little
 * endian:
 *     0   8  magic "elacsym1"
 *     8   2  format version, 1
 *    10   2  kind
 *    12   4  header size, 96
 *    16  16  incarnation
 *    32   8  number: slot, manifest version or catalog number (0 for side tables)
 *    40   8  epoch
 *    48  16  put-id: random, new for every object, the same in every attempt at it
 *    64   8  payload size
 *    72  20  zero
 *    92   4  CRC32C of bytes 0..91
 *    96      payload
 *            CRC32C of each 64 KiB of payload, 4 bytes each
 *            XXH3-128 of the payload, 16 bytes
 *            magic again, 8 bytes
 * A reader refuses an object whose incarnation or number is not the one of its key, so
 * an object that was moved or swapped is damage, not data.
 */
#ifndef NS_OBJECT_H
#define NS_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct store;

enum object_kind {
    OBJECT_DATA = 1, /* log entry: writes */
    OBJECT_FENCE,    /* log entry: a new owner */
    OBJECT_DROP,     /* log entry: the namespace ends here */
    OBJECT_MANIFEST,
    OBJECT_CATALOG,
    OBJECT_DELETES, /* dead rows of one segment */
    OBJECT_IDEMPOTENCY,
    OBJECT_KIND_LAST = OBJECT_IDEMPOTENCY
};

enum { OBJECT_HEADER_SIZE = 96, OBJECT_INCARNATION_OFFSET = 16 };

/* Nothing larger is read; WAL_BATCH_SIZE_MAX (wal.h) keeps log entries below. */
#define OBJECT_SIZE_MAX ((size_t)256 << 20)

struct put_id {
    uint8_t bytes[16];
};

struct object {
    enum object_kind kind;
    uint8_t incarnation[16];
    uint64_t number;
    uint64_t epoch;
    struct put_id put_id;
    struct slice payload;
};

struct put_id put_id_new(void);
bool put_id_equal(const struct put_id *a, const struct put_id *b);

void object_encode(const struct object *o, struct buf *out);
/*
 * payload borrows from bytes. ERR_CORRUPT names the key and what is wrong; also when
 * incarnation or number differ from the wanted ones.
 */
enum err object_decode(struct op *op, const char *key, struct slice bytes,
                       const uint8_t incarnation[16], uint64_t number,
                       struct object *out);
/* The put-id of an object's bytes; false when their header is not whole. */
bool object_put_id(struct slice bytes, struct put_id *out);
/*
 * Whose is the object at key? Appends its bytes to out. Bytes that were damaged on the
 * way say nothing about it, so they are read again. ERR_CORRUPT: each time; a failure
 * of store_get.
 */
enum err object_identify(struct op *op, struct store *store, const char *key,
                         size_t size_max, struct buf *out, struct put_id *id);

#endif
