/*
 * Three tiers, asked in turn: memory (ranges.h), the disk (disk_cache.h), the store.
 * What one call misses is fetched by it, in one look at the disk and one read of the
 * store; what others are fetching it waits for.
 */
#include "cache/cache.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "cache/disk_cache.h"
#include "cache/gather.h"
#include "cache/ranges.h"
#include "store/store.h"

enum {
    DISK_MEMORY_SHARE = 32, /* one part of so many */
    DISK_MEMORY_MIN = 1 << 20,
    GATHER_SHARE = 16 /* one part of so many at most, for the buffers of one call */
};

enum tier { MEMORY, DISK, STORE, TIERS };

/* Ranges that a tier answered with, and their bytes. */
struct tier_count {
    uint64_t ranges, bytes;
};

struct cache {
    struct store *store;
    struct disk_cache *disk; /* NULL: none; set before anybody else knows the cache */
    bool gather;             /* so is this */
    struct {
        struct metric *ranges, *bytes;
    } metrics[TIERS];
    struct metric *memory_used;
    struct ranges ranges;
};

static void make_metrics(struct cache *c, uint64_t memory_max)
{
    static const char *const labels[TIERS] = {[MEMORY] = "tier=\"memory\"",
                                              [DISK] = "tier=\"disk\"",
                                              [STORE] = "tier=\"store\""};
    for (size_t i = 0; i < TIERS; i++) {
        c->metrics[i].ranges =
            metric_counter("elacsym_cache_ranges_total",
                           "Ranges of objects, by what answered.", labels[i]);
        c->metrics[i].bytes =
            metric_counter("elacsym_cache_bytes_total",
                           "Bytes of these ranges, by what answered.", labels[i]);
    }
    metric_set(metric_gauge("elacsym_cache_memory_limit_bytes",
                            "What it may have, as configured.", NULL),
               (double)memory_max);
    c->memory_used =
        metric_gauge("elacsym_cache_memory_bytes",
                     "Memory of cached ranges, their tables and reservations.", NULL);
}

static void tier_add(struct cache *c, enum tier tier, struct tier_count count)
{
    if (count.ranges) metric_add(c->metrics[tier].ranges, count.ranges);
    if (count.bytes) metric_add(c->metrics[tier].bytes, count.bytes);
}

static void show_memory(struct cache *c)
{
    uint64_t used = atomic_load_explicit(&c->ranges.used, memory_order_relaxed);
    metric_set(c->memory_used, (double)(ranges_table_bytes(&c->ranges) + used));
}

struct cache *cache_new(struct store *store, uint64_t memory_max)
{
    struct cache *c = mem_aligned(64, sizeof *c);
    memset(c, 0, sizeof *c);
    c->store = store;
    ranges_init(&c->ranges, memory_max);
    make_metrics(c, memory_max);
    show_memory(c);
    return c;
}

void cache_gather(struct cache *c)
{
    c->gather = true;
}

bool cache_is_far(const struct cache *c)
{
    return c->gather;
}

void cache_add_disk(struct cache *c, const char *folder, uint64_t size_max)
{
    uint64_t share = c->ranges.memory_max / DISK_MEMORY_SHARE;
    if (share < DISK_MEMORY_MIN) share = DISK_MEMORY_MIN;
    struct disk_cache_options options = {.folder = folder,
                                         .size_max = size_max,
                                         .memory_max = share};

    assert(!c->disk);
    bool fits = cache_reserve(c, share);
    assert(fits); /* nothing is in it yet, and it has room for that */
    c->disk = disk_cache_new(&options);
}

/* ---- pins ---- */

void cache_unpin(struct cache *c, struct cache_pin *pins, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (pins[i].entry) ranges_unpin(&c->ranges, pins[i].entry);
        pins[i].entry = NULL;
        pins[i].data = SLICE_EMPTY;
    }
}

bool cache_has(struct cache *c, const struct cache_pin *pin)
{
    return ranges_have(&c->ranges, pin) ||
           (c->disk && disk_cache_has(c->disk, pin->key, pin->offset, pin->size));
}

/* What one call asks for. */
struct asked {
    struct cache_pin *pins;
    size_t count;
    enum range_use use;
};

/* Pins what is there or on its way, first, so that making room for the rest cannot
 * evict it. Returns how many pins are without an entry. */
static size_t pin_present(struct op *op, struct cache *c, const struct asked *asked)
{
    struct tier_count memory = {0};
    size_t missing = 0;
    for (size_t i = 0; i < asked->count; i++) {
        struct cache_pin *pin = &asked->pins[i];
        struct range_found found;
        if (pin->entry) continue;
        pin->entry = ranges_pin(&c->ranges, pin, asked->use, &found);
        missing += !pin->entry;
        memory.ranges += found.hit;
        memory.bytes += found.hit ? pin->size : 0;
        op->counters.cache_misses += found.coming;
        pin->again |= found.again;
    }
    op->counters.cache_hits += memory.ranges;
    op->counters.cache_bytes += memory.bytes;
    tier_add(c, MEMORY, memory);
    return missing;
}

/* What one call has to fetch: for each range its entry, the pin that it is for, how it
 * fares. */
struct fetch {
    size_t count;
    struct cache_entry **entries;
    const struct cache_pin **pins;
    enum err *errs;
    bool *from_disk;
};

static struct fetch fetch_new(size_t room)
{
    return (struct fetch){.entries = mem_new_array(struct cache_entry *, room),
                          .pins = mem_new_array(const struct cache_pin *, room),
                          .errs = mem_new_array(enum err, room),
                          .from_disk = mem_new_array(bool, room)};
}

static void fetch_release(struct fetch *f)
{
    mem_free(f->entries);
    mem_free(f->pins);
    mem_free(f->errs);
    mem_free(f->from_disk);
}

/* Makes entries for what is missing, all in one decision about room. */
static enum err pin_missing(struct op *op, struct cache *c, const struct asked *asked,
                            struct fetch *fetch)
{
    uint64_t need = 0, memory_max = c->ranges.memory_max;
    for (size_t i = 0; i < asked->count; i++)
        if (!asked->pins[i].entry) need += range_cost(&asked->pins[i]);
    if (need > memory_max)
        return op_fail(op, ERR_LIMIT,
                       "%llu bytes of ranges are more than all %llu of the cache",
                       (unsigned long long)need, (unsigned long long)memory_max);
    if (!ranges_grant(&c->ranges, need))
        return op_fail(op, ERR_BUSY, "the memory budget of %llu bytes is in use",
                       (unsigned long long)memory_max);

    for (size_t i = 0; i < asked->count; i++) {
        struct cache_pin *pin = &asked->pins[i];
        bool mine;
        if (pin->entry) continue;
        pin->entry = ranges_add(&c->ranges, pin, asked->use, &mine);
        if (!mine) continue;
        fetch->entries[fetch->count] = pin->entry;
        fetch->pins[fetch->count++] = pin;
    }
    return ERR_OK;
}

/* ---- fetching ---- */

/* What came must pass the check of the pin it is for. */
static enum err check(struct op *op, const struct fetch *f, size_t i)
{
    const struct cache_pin *pin = f->pins[i];
    if (!pin->check) return ERR_OK;
    return pin->check(op, pin->context, pin->offset,
                      slice_of(f->entries[i]->data, pin->size));
}

/* Bytes of the disk that are refused count as not there. */
static void fetch_from_disk(struct op *op, struct cache *c, struct fetch *f)
{
    struct disk_range *ranges = mem_new_array(struct disk_range, f->count);

    for (size_t i = 0; i < f->count; i++)
        ranges[i] = (struct disk_range){.key = f->entries[i]->key,
                                        .offset = f->entries[i]->offset,
                                        .size = f->entries[i]->size,
                                        .data = f->entries[i]->data};
    disk_cache_read(c->disk, ranges, f->count);
    for (size_t i = 0; i < f->count; i++) {
        if (!ranges[i].found) continue;
        f->from_disk[i] = check(op, f, i) == ERR_OK;
        if (f->from_disk[i]) continue;
        op_clear_error(op);
        disk_cache_forget(c->disk, ranges[i].key, ranges[i].offset, ranges[i].size);
    }
    mem_free(ranges);
}

/* The buffers of merged requests count in the budget while they last; without room for
 * them each range is a request of its own. */
static enum err read_gathered(struct op *op, struct cache *c,
                              struct store_range *ranges, size_t n)
{
    uint64_t room = gather_room(ranges, n);
    if (room > c->ranges.memory_max / GATHER_SHARE)
        room = c->ranges.memory_max / GATHER_SHARE;
    if (!cache_reserve(c, room)) room = 0;
    enum err e = gather_read(op, c->store, ranges, n, room);
    cache_unreserve(c, room);
    return e;
}

/* One round for all that the disk did not have. */
static enum err fetch_from_store(struct op *op, struct cache *c, struct fetch *f)
{
    struct store_range *ranges = mem_new_array(struct store_range, f->count);
    size_t n = 0;

    for (size_t i = 0; i < f->count; i++)
        if (!f->from_disk[i])
            ranges[n++] = (struct store_range){.key = f->entries[i]->key,
                                               .offset = f->entries[i]->offset,
                                               .size = f->entries[i]->size,
                                               .data = f->entries[i]->data};
    enum err first = c->gather ? read_gathered(op, c, ranges, n)
                               : store_read(op, c->store, ranges, n);
    n = 0;
    for (size_t i = 0; i < f->count; i++) {
        if (f->from_disk[i]) continue;
        f->errs[i] = ranges[n++].err;
        if (!f->errs[i]) f->errs[i] = check(op, f, i);
        if (!first) first = f->errs[i];
    }
    mem_free(ranges);
    return first;
}

static void count_arrivals(struct op *op, struct cache *c, const struct fetch *f)
{
    struct tier_count disk = {0}, store = {0};

    for (size_t i = 0; i < f->count; i++) {
        struct tier_count *tier = f->from_disk[i] ? &disk : &store;
        tier->ranges++;
        if (!f->errs[i]) tier->bytes += f->entries[i]->size;
    }
    op->counters.disk_hits += disk.ranges;
    op->counters.disk_bytes += disk.bytes;
    op->counters.cache_misses += store.ranges;
    tier_add(c, DISK, disk);
    tier_add(c, STORE, store);
}

/*
 * Disk first, then one store_read: until it is settled nobody else touches an entry
 * that is being fetched. What came from the store is offered to the disk afterwards,
 * unless it is read once; the caller's pins hold it.
 */
static enum err fetch_all(struct op *op, struct cache *c, const struct asked *asked,
                          struct fetch *f)
{
    if (c->disk) fetch_from_disk(op, c, f);
    enum err e = fetch_from_store(op, c, f);
    count_arrivals(op, c, f);
    for (size_t i = 0; i < f->count; i++)
        ranges_settle(&c->ranges, f->entries[i], f->errs[i]);
    show_memory(c);
    for (size_t i = 0; c->disk && i < f->count; i++)
        if (!f->errs[i] && !f->from_disk[i] && asked->use != RANGE_ONCE)
            disk_cache_offer(c->disk, f->entries[i]->key, f->entries[i]->offset,
                             slice_of(f->entries[i]->data, f->entries[i]->size), false);
    return e;
}

/* Waits for what others fetch. Pins whose fetch failed lose their entry; true in *again
 * if there are any. */
static enum err await(struct op *op, struct cache *c, struct cache_pin *pins, size_t n,
                      bool *again)
{
    enum err e = ERR_OK;

    *again = false;
    for (size_t i = 0; i < n && !e; i++) {
        bool failed;
        e = ranges_await(op, &c->ranges, pins[i].entry, &failed);
        if (!failed) continue;
        pins[i].entry = NULL;
        *again = true;
    }
    return e;
}

/* One turn: what is missing is fetched, what is on its way waited for. */
static enum err pin_once(struct op *op, struct cache *c, const struct asked *asked,
                         bool *again)
{
    enum err e = ERR_OK;
    size_t missing = pin_present(op, c, asked);

    if (missing > 0) {
        struct fetch fetch = fetch_new(missing);
        e = pin_missing(op, c, asked, &fetch);
        if (fetch.count) e = fetch_all(op, c, asked, &fetch);
        fetch_release(&fetch);
    }
    return e ? e : await(op, c, asked->pins, asked->count, again);
}

static enum err pin_all(struct op *op, struct cache *c, const struct asked *asked)
{
    struct cache_pin *pins = asked->pins;
    size_t n = asked->count;
    enum err e = ERR_OK;
    bool again = n > 0;

    for (size_t i = 0; i < n; i++) {
        pins[i].entry = NULL;
        pins[i].data = SLICE_EMPTY;
        pins[i].again = false;
    }
    while (again && !e)
        e = pin_once(op, c, asked, &again);
    if (e) cache_unpin(c, pins, n);
    for (size_t i = 0; i < n && !e; i++)
        pins[i].data = slice_of(pins[i].entry->data, pins[i].size);
    return e;
}

enum err cache_pin(struct op *op, struct cache *c, struct cache_pin *pins, size_t n)
{
    struct asked asked = {pins, n, op->reads_once ? RANGE_ONCE : RANGE_NOW};
    enum err e = pin_all(op, c, &asked);
    for (size_t i = 0; i < n && !e && c->disk; i++)
        if (pins[i].again)
            disk_cache_offer(c->disk, pins[i].key, pins[i].offset, pins[i].data, true);
    return e;
}

enum err cache_pin_ahead(struct op *op, struct cache *c, struct cache_pin *pins,
                         size_t n)
{
    return pin_all(op, c, &(struct asked){pins, n, RANGE_AHEAD});
}

void cache_put(struct cache *c, const char *key, uint64_t offset, struct slice data)
{
    struct cache_pin range = {.key = key, .offset = offset, .size = data.size};
    bool mine;

    if (!ranges_grant(&c->ranges, range_cost(&range))) return;
    struct cache_entry *entry = ranges_add(&c->ranges, &range, RANGE_KNOWN, &mine);
    if (mine) {
        memcpy(entry->data, data.data, data.size);
        ranges_settle(&c->ranges, entry, ERR_OK);
    }
    ranges_unpin(&c->ranges, entry);
    show_memory(c);
}

void cache_forget(struct cache *c, const char *key, uint64_t offset, size_t size)
{
    struct cache_pin range = {.key = key, .offset = offset, .size = size};

    ranges_forget(&c->ranges, &range);
    show_memory(c);
    if (c->disk) disk_cache_forget(c->disk, key, offset, size);
}

void cache_forget_objects(struct cache *c, const char *const *keys, size_t n)
{
    ranges_forget_objects(&c->ranges, keys, n);
    show_memory(c);
}

/* ---- the rest of the budget ---- */

bool cache_reserve(struct cache *c, uint64_t bytes)
{
    bool fits = ranges_reserve(&c->ranges, bytes);
    show_memory(c);
    return fits;
}

void cache_unreserve(struct cache *c, uint64_t bytes)
{
    ranges_unreserve(&c->ranges, bytes);
    show_memory(c);
}

struct cache_usage cache_usage(struct cache *c)
{
    struct ranges_usage ranges = ranges_usage(&c->ranges);
    struct cache_usage usage = {.memory_max = c->ranges.memory_max,
                                .bytes = ranges.bytes,
                                .pinned_bytes = ranges.pinned_bytes,
                                .reserved_bytes = ranges.reserved_bytes,
                                .entries = ranges.entries,
                                .hits = ranges.hits,
                                .misses = ranges.misses,
                                .evictions = ranges.evictions};
    if (c->disk) usage.disk = disk_cache_usage(c->disk);
    return usage;
}

void cache_free(struct cache *c)
{
    if (!c) return;
    disk_cache_free(c->disk);
    ranges_release(&c->ranges);
    mem_free(c);
}
