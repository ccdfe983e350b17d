/*
 * cache.h - ranges of immutable objects: in memory, in one budget, and below it on a
 * local disk, in another.
 *
 * Objects never change, so nothing is ever invalidated; a range of a deleted object
 * ages out. A pin holds bytes in place; unpinned ranges are evicted, scan-resistantly,
 * when the budget is full (ranges.h). A range being fetched is fetched once however
 * many ask. Other users of memory (tails) reserve from the same budget, so the sum
 * stays inside it. Pinned and reserved bytes can exceed the budget only by what
 * cache_pin refuses.
 *
 * The disk is optional and never a reason to fail (disk_cache.h). It is asked about
 * what is not in memory, in the same single flight; it is offered what came from the
 * store, and again what memory is asked for a second time.
 *
 * Threads  any. Time: cache_pin blocks for one round of store reads, more only when
 *          another's fetch that it waited for failed.
 * Memory   bytes are aligned to 64. The budget includes two tables of fixed size,
 *          together 16 KiB or up to a five-hundredth of it, at most 16 MiB, and the
 *          buffers of merged requests (cache_gather) while they last.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cache/disk_cache.h"

struct op;
struct store;
struct cache;
struct cache_entry;

/* A range wanted, and after cache_pin its bytes. */
struct cache_pin {
    const char *key;
    uint64_t offset;
    size_t size;
    struct slice data;         /* out */
    struct cache_entry *entry; /* out; NULL while nothing is pinned */
    bool again;                /* the cache's own */
    /* Asked once about bytes that came from disk or store, before anybody sees them.
     * What it refuses is not kept; refused bytes of the disk are read from the store
     * instead, for refused bytes of the store cache_pin fails with its error. NULL: no
     * questions. */
    enum err (*check)(struct op *op, const void *context, uint64_t offset,
                      struct slice data);
    const void *context;
};
#define CACHE_PIN_INIT ((struct cache_pin){0})

/* store is borrowed. memory_max is the budget, more than the 16 KiB of the tables. */
struct cache *cache_new(struct store *store, uint64_t memory_max);
void cache_free(struct cache *c); /* nothing may be pinned */
/* The store is far away: ranges close together are read by one request (gather.h).
 * Before anything else is done with the cache. */
void cache_gather(struct cache *c);
/* Was it said that the store is far away? Then a round costs more than bytes. */
bool cache_is_far(const struct cache *c);
/* Puts a disk cache of size_max bytes below the memory, before anything else is done
 * with the cache. Its index and queue take a thirty-second of the memory, at
 * least a MiB. */
void cache_add_disk(struct cache *c, const char *folder, uint64_t size_max);

/*
 * Pins all n ranges in one round: those not in memory are read from the store with one
 * store_read. Same key, offset and size are the same range; other overlaps are separate
 * (callers use fixed block bounds). All or none: on failure nothing is pinned.
 * ERR_BUSY when the budget is full of pins and reservations, ERR_LIMIT when the ranges
 * would not even fit alone; errors of store_read. A range that somebody else is
 * fetching is waited for, and fetched in one more round if that fetch fails. For an op
 * that reads once (op.h) what is there serves, and what is fetched is not kept, neither
 * in memory nor on disk.
 */
enum err cache_pin(struct op *op, struct cache *c, struct cache_pin *pins, size_t n);
/* As cache_pin, for what other calls will pin before these are unpinned: whoever plans
 * a round over several of them. Bytes are counted once, and one use of each range. */
enum err cache_pin_ahead(struct op *op, struct cache *c, struct cache_pin *pins,
                         size_t n);
/* Bytes of an object that was just written, in place of others that are asked for again
 * and again: who asks for the range finds it in memory, if there was room. Counts as no
 * use of it. */
void cache_put(struct cache *c, const char *key, uint64_t offset, struct slice data);
/* Would pinning the range need nothing of the store, as far as is known? Counts as no
 * use of it. */
bool cache_has(struct cache *c, const struct cache_pin *pin);
/* Harmless on pins that hold nothing. */
void cache_unpin(struct cache *c, struct cache_pin *pins, size_t n);

/* A range turned out to be damaged after it was pinned: the next one who asks for it
 * gets it from the store. Who has it pinned keeps his bytes. */
void cache_forget(struct cache *c, const char *key, uint64_t offset, size_t size);

/* n objects that nobody will ask for any more: their ranges in memory make room. (On
 * disk they age.) Time: a look at every range in memory, some milliseconds where they
 * are a hundred thousand, a sixteenth of it under a lock that others may wait for. */
void cache_forget_objects(struct cache *c, const char *const *keys, size_t n);

/* Takes bytes of the budget for something else, evicting ranges if needed; false when
 * pins and reservations leave no room. Give back with cache_unreserve. */
bool cache_reserve(struct cache *c, uint64_t bytes);
void cache_unreserve(struct cache *c, uint64_t bytes);

struct cache_usage {
    uint64_t memory_max; /* of bytes and reserved_bytes: the budget less the tables */
    uint64_t bytes, pinned_bytes, reserved_bytes, entries;
    uint64_t hits, misses, evictions;
    struct disk_cache_usage disk; /* all zero without one */
};
struct cache_usage cache_usage(struct cache *c);

#endif
