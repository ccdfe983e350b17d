/*
 * store.h - the object store, as this engine needs it.
 *
 * Everything durable passes through these calls. An implementation fills in a
 * struct store_ops; a decorator does the same around an inner store. A node stacks
 * them once, at start; a test stacks fault over mem.
 *
 * Keys are byte strings of 1 to STORE_KEY_MAX bytes: segments of [A-Za-z0-9_.-] parted
 * by '/', no empty segment, none longer than STORE_SEGMENT_MAX, none starting with a
 * dot (asserted: keys are ours, names from users are checked long before). No key is
 * the folder of another: "a" and "a/b" are never both in use. Objects never change once
 * they are there.
 *
 * Threads  any thread may call anything at any time.
 * Time     a call blocks until it knows the answer. Reads, gets and lists answer
 *          ERR_TIMEOUT or ERR_CANCELED when op should stop; writes never do.
 * Memory   bytes handed back live in op's arena unless a call says otherwise.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct store;

enum { STORE_KEY_MAX = 512, STORE_SEGMENT_MAX = 255 };

/* The rule above, as the calls below assert it. */
bool store_key_valid(const char *key);

/* One stretch of one object. store_read fills in err and the bytes at data. */
struct store_range {
    const char *key;
    uint64_t offset;
    size_t size;
    uint8_t *data; /* in: the caller's room for size bytes */
    enum err err;
};

/*
 * Reads all n ranges at once: one round. ERR_OK: every range holds exactly size bytes.
 * Otherwise the first failure; each range's err tells which of them arrived.
 * ERR_NOT_FOUND: no such object. ERR_CORRUPT: the object is shorter than the range.
 */
enum err store_read(struct op *op, struct store *s, struct store_range *ranges,
                    size_t n);

/* Reads a whole object, appending to out. ERR_LIMIT above size_max, ERR_NOT_FOUND. */
enum err store_get(struct op *op, struct store *s, const char *key, size_t size_max,
                   struct buf *out);

/*
 * Writes an object only where nothing is: the one step that decides anything.
 *   ERR_OK        it is durable and ours.
 *   ERR_CONFLICT  something is there already. After an earlier ERR_UNKNOWN for the same
 *                 key it may be our own bytes: compare (ns/settle.h does).
 *   ERR_UNKNOWN   it may be there, or may still appear later. Only sending the same
 *                 bytes again can settle it; a later "not found" proves nothing.
 *   ERR_IO        surely not applied, worth trying again. ERR_FULL: no space, surely
 *                 not applied. ERR_DENIED, ERR_LIMIT: surely not applied, and never
 *                 will be.
 */
enum err store_create(struct op *op, struct store *s, const char *key,
                      struct slice data);

/*
 * Writes an object whose name nobody else can use; safe to repeat. The bytes are the
 * parts in order. ERR_OK: durable. ERR_CONFLICT: other bytes have that name, which is
 * somebody's mistake; they stay. ERR_IO, ERR_FULL, ERR_DENIED, ERR_LIMIT as above, but
 * after ERR_IO the object may be there or appear later.
 */
enum err store_put(struct op *op, struct store *s, const char *key,
                   const struct slice *parts, size_t n);

/*
 * The next keys with prefix, strictly after `after` ("" from the start), in byte order.
 * prefix may end anywhere, even inside a segment.
 * delimiter '/': keys that have a '/' behind the prefix are folded into one entry that
 * ends with that '/' (pass it as `after` to go on behind all of them); 0: no folding.
 * In: *n is the room in keys; out: how many were found. Fewer than asked means the end.
 * Keys live in op's arena, NUL-terminated. Sees every create and put that was answered
 * before the call began.
 */
enum err store_list(struct op *op, struct store *s, const char *prefix,
                    const char *after, char delimiter, const char **keys, size_t *n);

/* Deletes n keys, durably. One that is already gone counts as deleted. On failure some
 * may be gone and others not, and a deletion may still take place later. */
enum err store_delete(struct op *op, struct store *s, const char *const *keys,
                      size_t n);

/*
 * Ends what writers that died began below prefix and left where no list shows it:
 * uploads in parts that are at least age_ms old. *ended: how many. A put that takes
 * longer than age_ms may fail of it with ERR_IO. Most stores leave nothing of the kind;
 * a directory sweeps its temporaries when it is opened.
 */
enum err store_sweep(struct op *op, struct store *s, const char *prefix, int64_t age_ms,
                     uint64_t *ended);

void store_free(struct store *s); /* and every store inside it; NULL is fine */

/* Registers what /metrics tells of these calls, at 0. */
void store_metrics_init(void);

/* What an implementation fills in; the functions above check their arguments, count in
 * op->counters and forward. */
struct store_ops {
    const char *name; /* for logs and metrics: "dir" */
    enum err (*read)(struct op *, struct store *, struct store_range *, size_t);
    enum err (*get)(struct op *, struct store *, const char *, size_t, struct buf *);
    enum err (*create)(struct op *, struct store *, const char *, struct slice);
    enum err (*put)(struct op *, struct store *, const char *, const struct slice *,
                    size_t);
    enum err (*list)(struct op *, struct store *, const char *, const char *, char,
                     const char **, size_t *);
    enum err (*delete)(struct op *, struct store *, const char *const *, size_t);
    enum err (*sweep)(struct op *, struct store *, const char *, int64_t,
                      uint64_t *); /* NULL: there is never anything to sweep */
    void (*free)(struct store *);
};

/* First member of every implementation. */
struct store {
    const struct store_ops *ops;
};

#endif
