/*
 * disk_cache.h - the tier below memory: ranges of immutable objects on a local disk.
 *
 * It may always say no. A folder that cannot be used, vanishes, fills up or holds
 * damaged bytes means misses, one log line now and then, and a metric; it is tried
 * again later, and no call here ever fails. Reads come from the slab (slab.h); writes
 * are copied into a bounded queue that one thread empties, and dropped when it is full.
 *
 * Admission: while the file may still grow, everything offered is written. Once it is
 * full, only what is offered again or was asked for before, so that a scan does not
 * wear out the disk or push out what is in use.
 *
 * A second process on the same folder goes without until the first one ends.
 *
 * Threads  any, but for new and free. Time: reads of the local disk; disk_cache_new
 *          waits some seconds at most for the index, which is then completed behind it.
 * Memory   memory_max bounds index and queue together.
 */
#ifndef CACHE_DISK_CACHE_H
#define CACHE_DISK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct disk_cache;

struct disk_cache_options {
    const char *folder; /* made if missing */
    uint64_t size_max;  /* of the file system, in bytes */
    uint64_t memory_max;
    int64_t retry_ms; /* how often a folder that failed is tried again; 0: 10 s */
};

struct disk_cache *disk_cache_new(const struct disk_cache_options *options);
/* Writes what is queued, for a second at most. NULL is fine. */
void disk_cache_free(struct disk_cache *d);

struct disk_range {
    const char *key;
    uint64_t offset;
    size_t size;
    uint8_t *data; /* in: room for size bytes; undefined afterwards unless found */
    bool found;    /* out */
};
/* Reads those of n ranges that are there, all asked for at once. */
void disk_cache_read(struct disk_cache *d, struct disk_range *ranges, size_t n);

/* Is the range believed to be there? */
bool disk_cache_has(struct disk_cache *d, const char *key, uint64_t offset,
                    size_t size);

/* Offers a range in hand. again: it was asked for more than once. */
void disk_cache_offer(struct disk_cache *d, const char *key, uint64_t offset,
                      struct slice data, bool again);

/* The range is not what it should be: never answer with it again. */
void disk_cache_forget(struct disk_cache *d, const char *key, uint64_t offset,
                       size_t size);

struct disk_cache_usage {
    bool open; /* false: all the rest but the counters is 0 */
    uint64_t size_max, bytes, index_bytes;
    uint64_t recovered; /* pieces found when it was opened */
    uint64_t queued_bytes;
    uint64_t written_bytes, dropped_bytes; /* since the start */
    uint64_t damaged, failures;
};
struct disk_cache_usage disk_cache_usage(struct disk_cache *d);
/* Waits until nothing is queued or deadline_ms of clock_ms: for tests and benchmarks.
 */
bool disk_cache_settle(struct disk_cache *d, int64_t deadline_ms);

#endif
