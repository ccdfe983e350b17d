/*
 * ranges.h - the memory tier of the cache: ranges in one budget, in shards.
 *
 * A range belongs to the shard that its hash names; a shard has its lock, its table and
 * its queues, so that pins of different ranges seldom meet. The budget is one: room for
 * new bytes is granted under a lock of its own, which hits never take, and what is
 * freed is given back at once, so bytes and reservations are never above it, at no
 * moment. Eviction takes the range that has waited longest over all shards, as if there
 * were but one queue.
 *
 * Threads  any. Time: never blocks but for ranges_await. Lock order: that of the room,
 *          then one shard's; never two shards'.
 * Memory   two tables of fixed size, in the budget; entries, in the budget too.
 */
#ifndef CACHE_RANGES_H
#define CACHE_RANGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/task.h"

struct op;
struct cache_pin;

enum { RANGES_SHARDS = 16, RANGES_QUEUES = 2 };

enum range_state { RANGE_FETCHING, RANGE_READY, RANGE_FAILED };

/* A range in memory or on its way. What is not said to be the fetcher's is the
 * shard's: its lock guards it. */
struct cache_entry {
    struct cache_entry *next;          /* in its bucket */
    struct cache_entry *older, *newer; /* in its queue */
    uint64_t hash;
    uint64_t offset; /* never change: key, offset, size and data while pinned */
    size_t size;
    uint64_t cost;  /* of the budget */
    uint64_t place; /* in its queue, over all shards */
    uint8_t *data;  /* the fetcher's until the range is settled */
    enum range_state state;
    uint8_t home; /* its queue */
    bool queued;
    bool ahead; /* fetched ahead, and nobody asked for it yet */
    bool once;  /* nobody asked for it who would come back */
    unsigned pins;
    unsigned uses; /* since it entered its queue, up to a few */
    char key[];
};

struct range_queue {
    struct cache_entry *oldest, *newest;
    _Atomic uint64_t first; /* place of the oldest; UINT64_MAX: empty */
    _Atomic uint64_t bytes;
};

struct range_shard {
    struct mutex lock; /* guards the rest; atomics are read without it */
    struct cond fetched;
    struct cache_entry **buckets;
    uint64_t *ghosts; /* hashes of ranges that left the small queue */
    struct range_queue queues[RANGES_QUEUES];
    _Atomic uint64_t pinned_bytes;
    uint64_t entries, hits, misses, evictions;
} __attribute__((aligned(64)));

struct ranges {
    uint64_t memory_max; /* of ranges and reservations: the budget without the tables */
    size_t slots;        /* of both tables in a shard; a power of two */
    _Atomic uint64_t next_place;
    struct mutex room;        /* guards what makes used grow, and: */
    uint64_t reserved;        /* by others than ranges */
    _Atomic uint64_t used;    /* ranges, grants and reservations; falls at any time */
    _Atomic uint64_t granted; /* room for ranges that are not there yet */
    struct range_shard shards[RANGES_SHARDS];
};

/* memory_max is more than the tables take: ranges_table_bytes. */
void ranges_init(struct ranges *r, uint64_t memory_max);
void ranges_release(struct ranges *r); /* nothing may be pinned */
uint64_t ranges_table_bytes(const struct ranges *r);

/* Of the budget, for a range of this key and size. */
uint64_t range_cost(const struct cache_pin *pin);

/* Why a range is wanted. */
enum range_use {
    RANGE_NOW,
    RANGE_KNOWN, /* it stands for others that were asked for again and again */
    RANGE_AHEAD, /* for others' sake, which counts as no use */
    RANGE_ONCE   /* by one who comes by once: counts as no use either, and what is not
                    there is not kept for it */
};

/* What a look found. */
struct range_found {
    bool hit;    /* ready, and counted as such */
    bool coming; /* another's fetch */
    bool again;  /* asked for before */
};
/* Pins the range if it is there or on its way; NULL if not. */
struct cache_entry *ranges_pin(struct ranges *r, const struct cache_pin *pin,
                               enum range_use use, struct range_found *found);

/* Room for ranges of so many bytes in all, evicting others, which ranges_add takes.
 * False if pins, grants and reservations leave none. */
bool ranges_grant(struct ranges *r, uint64_t bytes);
/* A pinned entry for a range, out of a grant of its cost. *mine: it is new, to be
 * fetched and settled by the caller; otherwise somebody was quicker, and the grant was
 * given back. */
struct cache_entry *ranges_add(struct ranges *r, const struct cache_pin *pin,
                               enum range_use use, bool *mine);
/* The fetch of an entry came to its end: its bytes are there, or it failed. */
void ranges_settle(struct ranges *r, struct cache_entry *entry, enum err e);
/* Waits for an entry that somebody fetches. *failed: it did not come, and is unpinned.
 * Errors of op_check. */
enum err ranges_await(struct op *op, struct ranges *r, struct cache_entry *entry,
                      bool *failed);
/* Is the range there, or on its way? */
bool ranges_have(struct ranges *r, const struct cache_pin *pin);
void ranges_unpin(struct ranges *r, struct cache_entry *entry);
/* Nobody who asks from now on gets this range from memory. */
void ranges_forget(struct ranges *r, const struct cache_pin *pin);
/* The same for all ranges of n objects. Looks at every range there is. */
void ranges_forget_objects(struct ranges *r, const char *const *keys, size_t n);

bool ranges_reserve(struct ranges *r, uint64_t bytes);
void ranges_unreserve(struct ranges *r, uint64_t bytes);

struct ranges_usage {
    uint64_t bytes, pinned_bytes, reserved_bytes, entries;
    uint64_t hits, misses, evictions;
};
struct ranges_usage ranges_usage(struct ranges *r);

#endif
