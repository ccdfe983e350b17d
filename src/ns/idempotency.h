/*
 * idempotency.h - the keys of writes that were applied, so that a repeat is a no-op.
 *
 * A table belongs to a namespace's state at one slot: it is filled by applying log
 * entries in order, and stored beside a manifest. It remembers the newest
 * IDEMPOTENCY_COUNT_MAX keys, none older than a day before the newest. Not thread safe.
 */
#ifndef NS_IDEMPOTENCY_H
#define NS_IDEMPOTENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct idempotency;

enum { IDEMPOTENCY_COUNT_MAX = 100000 };
#define IDEMPOTENCY_AGE_MAX_MS ((uint64_t)24 * 3600 * 1000)

struct idempotency_entry {
    struct slice key; /* borrowed from the table */
    uint8_t digest[16];
    uint64_t slot;
    uint64_t wall_ms;
    uint64_t upserted, deleted; /* the first answer */
};

struct idempotency *idempotency_new(void);
void idempotency_free(struct idempotency *t); /* NULL is fine */

/* Copies the key. Of several with one key the first stays (a repeat is never applied).
 */
void idempotency_add(struct idempotency *t, const struct idempotency_entry *entry);
/* NULL if the key is unknown; valid until the next add. */
const struct idempotency_entry *idempotency_find(const struct idempotency *t,
                                                 struct slice key);
uint64_t idempotency_count(const struct idempotency *t);
/* All of them, oldest first. */
void idempotency_each(const struct idempotency *t,
                      void (*visit)(void *context, const struct idempotency_entry *e),
                      void *context);
/* Changes at every add; says whether a stored copy is still the newest. */
uint64_t idempotency_version(const struct idempotency *t);

/* Stored form: docs/formats.md "idempotency table". Only entries below slot_end. */
void idempotency_encode(const struct idempotency *t, uint64_t slot_end,
                        struct buf *out);
enum err idempotency_decode(struct op *op, struct slice bytes,
                            struct idempotency **out);

#endif
