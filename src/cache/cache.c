/*
 * Eviction is S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for
 * cache eviction", SOSP 2023). A new range enters the small queue, a tenth of the
 * budget. At its end it moves to the main queue if it was asked for twice meanwhile,
 * otherwise it goes and only its hash is remembered; if it comes back soon it enters
 * the main queue at once. So a scan flows through the small queue and leaves the rest
 * alone. The remembered hashes are a table where a newer one overwrites an older one.
 *
 * A pinned range that eviction meets is taken off its queue and returns when unpinned,
 * so eviction never looks at one twice.
 */
#include "cache/cache.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/disk_cache.h"
#include "cache/gather.h"
#include "store/store.h"

enum {
    TABLE_MIN = 1024,
    TABLE_MAX = 1 << 20,
    BYTES_PER_SLOT = 16 << 10, /* of the budget: about one range */
    SMALL_SHARE = 10,          /* one tenth */
    USES_TO_STAY = 2,
    USES_MAX = 3,
    DISK_MEMORY_SHARE = 32, /* one part of so many */
    DISK_MEMORY_MIN = 1 << 20,
    MALLOC_OVERHEAD = 64, /* of the two allocations an entry is made of */
    DATA_ALIGNMENT = 64,
    CANCEL_POLL_MS = 100
};

enum entry_state { FETCHING, READY, FAILED };
enum queue_name { SMALL, MAIN, QUEUES };

struct cache_entry {
    struct cache_entry *next;          /* in its bucket */
    struct cache_entry *older, *newer; /* in its queue; newer: in its fetch, before */
    uint64_t hash;
    uint64_t offset;
    size_t size;
    uint64_t cost; /* of the budget */
    uint8_t *data;
    enum entry_state state;
    enum queue_name home;
    bool queued;
    bool ahead; /* fetched by cache_pin_ahead, and nobody asked for it yet */
    unsigned pins;
    unsigned uses; /* since it entered its queue, up to USES_MAX */
    /* Of the pin it is fetched for; the call that fetches asks, nobody else. */
    enum err (*check)(struct op *op, const void *context, uint64_t offset,
                      struct slice data);
    const void *context;
    char key[];
};

struct queue {
    struct cache_entry *oldest, *newest;
    uint64_t bytes;
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
    uint64_t memory_max; /* of ranges and reservations: the budget without the tables */
    uint64_t disk_share; /* of it, reserved for the disk's index and queue */
    size_t slots;        /* in both tables; a power of two */

    struct mutex lock; /* guards everything below */
    struct cond fetched;
    struct cache_entry **buckets;
    uint64_t *ghosts; /* hashes of ranges that left the small queue */
    struct queue queues[QUEUES];
    uint64_t bytes, pinned_bytes, reserved_bytes, entries;
    uint64_t hits, misses, evictions;
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

static uint64_t table_bytes(const struct cache *c)
{
    return c->slots * (sizeof(void *) + sizeof(uint64_t));
}

/* Under the lock, or while nobody else knows the cache. */
static void show_memory(struct cache *c)
{
    metric_set(c->memory_used, (double)(table_bytes(c) + c->bytes + c->reserved_bytes));
}

struct cache *cache_new(struct store *store, uint64_t memory_max)
{
    struct cache *c = mem_new(struct cache);
    c->store = store;
    c->slots = TABLE_MIN;
    while (c->slots < TABLE_MAX && c->slots < memory_max / BYTES_PER_SLOT)
        c->slots *= 2;
    assert(memory_max > table_bytes(c));
    c->memory_max = memory_max - table_bytes(c);
    mutex_init(&c->lock);
    cond_init(&c->fetched);
    c->buckets = mem_new_array(struct cache_entry *, c->slots);
    c->ghosts = mem_new_array(uint64_t, c->slots);
    make_metrics(c, memory_max);
    show_memory(c);
    return c;
}

void cache_gather(struct cache *c)
{
    c->gather = true;
}

void cache_add_disk(struct cache *c, const char *folder, uint64_t size_max)
{
    uint64_t share = c->memory_max / DISK_MEMORY_SHARE;
    if (share < DISK_MEMORY_MIN) share = DISK_MEMORY_MIN;
    struct disk_cache_options options = {.folder = folder,
                                         .size_max = size_max,
                                         .memory_max = share};

    assert(!c->disk);
    bool fits = cache_reserve(c, share);
    assert(fits); /* nothing is in it yet, and it has room for that */
    c->disk = disk_cache_new(&options);
    c->disk_share = share;
}

/* Entries. */

static uint64_t hash_of(const struct cache_pin *pin)
{
    uint64_t parts[3] = {xxh3_64(pin->key, strlen(pin->key)), pin->offset, pin->size};
    return xxh3_64(parts, sizeof parts);
}

static struct cache_entry **bucket_of(struct cache *c, uint64_t hash)
{
    return &c->buckets[hash & (c->slots - 1)];
}

static struct cache_entry *find(struct cache *c, const struct cache_pin *pin,
                                uint64_t hash)
{
    struct cache_entry *entry = *bucket_of(c, hash);
    while (entry && !(entry->hash == hash && entry->offset == pin->offset &&
                      entry->size == pin->size && strcmp(entry->key, pin->key) == 0))
        entry = entry->next;
    return entry;
}

static uint64_t cost_of(const struct cache_pin *pin)
{
    return sizeof(struct cache_entry) + strlen(pin->key) + 1 + pin->size +
           MALLOC_OVERHEAD;
}

/* Already pinned, for the call that will fetch it. The budget has room for it. */
static struct cache_entry *entry_add(struct cache *c, const struct cache_pin *pin,
                                     uint64_t hash)
{
    size_t key_size = strlen(pin->key) + 1;
    struct cache_entry *entry = mem_alloc(sizeof *entry + key_size);

    *entry = (struct cache_entry){.next = *bucket_of(c, hash),
                                  .hash = hash,
                                  .offset = pin->offset,
                                  .size = pin->size,
                                  .cost = cost_of(pin),
                                  .data = mem_aligned(DATA_ALIGNMENT, pin->size),
                                  .state = FETCHING,
                                  .pins = 1,
                                  .check = pin->check,
                                  .context = pin->context};
    memcpy(entry->key, pin->key, key_size);
    *bucket_of(c, hash) = entry;
    c->bytes += entry->cost;
    c->pinned_bytes += entry->cost;
    c->entries++;
    return entry;
}

static void unlist(struct cache *c, struct cache_entry *entry)
{
    struct cache_entry **at = bucket_of(c, entry->hash);
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    c->entries--;
}

static void entry_free(struct cache *c, struct cache_entry *entry)
{
    assert(entry->pins == 0 && !entry->queued);
    c->bytes -= entry->cost;
    mem_free(entry->data);
    mem_free(entry);
}

/* Queues. */

static void queue_add(struct cache *c, struct cache_entry *entry)
{
    struct queue *q = &c->queues[entry->home];
    entry->older = q->newest;
    entry->newer = NULL;
    if (q->newest)
        q->newest->newer = entry;
    else
        q->oldest = entry;
    q->newest = entry;
    q->bytes += entry->cost;
    entry->queued = true;
}

static void queue_remove(struct cache *c, struct cache_entry *entry)
{
    struct queue *q = &c->queues[entry->home];
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        q->oldest = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        q->newest = entry->older;
    q->bytes -= entry->cost;
    entry->queued = false;
}

static uint64_t *ghost_of(struct cache *c, uint64_t hash)
{
    /* Other bits than the bucket's, or all entries of a bucket would share one. */
    return &c->ghosts[hash >> 32 & (c->slots - 1)];
}

static void evict(struct cache *c, struct cache_entry *entry)
{
    if (entry->home == SMALL) *ghost_of(c, entry->hash) = entry->hash;
    unlist(c, entry);
    entry_free(c, entry);
    c->evictions++;
}

/* One step of making room: an entry is evicted, moved on, or set aside as pinned. */
static void evict_step(struct cache *c)
{
    struct queue *small = &c->queues[SMALL], *main = &c->queues[MAIN];
    bool from_small =
        small->oldest && (!main->oldest || small->bytes > c->memory_max / SMALL_SHARE);
    struct cache_entry *entry = from_small ? small->oldest : main->oldest;

    assert(entry);
    queue_remove(c, entry);
    if (entry->pins) return;
    if (from_small && entry->uses >= USES_TO_STAY) {
        entry->home = MAIN;
        entry->uses = 0;
        queue_add(c, entry);
    } else if (!from_small && entry->uses > 0) {
        entry->uses--;
        queue_add(c, entry);
    } else {
        evict(c, entry);
    }
}

/* Evicts until need bytes are free; false, and nothing is evicted, if pins and
 * reservations leave no room. */
static bool make_room(struct cache *c, uint64_t need)
{
    if (c->pinned_bytes > c->memory_max ||
        c->reserved_bytes > c->memory_max - c->pinned_bytes ||
        need > c->memory_max - c->pinned_bytes - c->reserved_bytes)
        return false;
    while (c->bytes + c->reserved_bytes + need > c->memory_max)
        evict_step(c);
    return true;
}

/* Pins. */

static void pin_entry(struct cache *c, struct cache_pin *pin, struct cache_entry *entry)
{
    if (entry->pins++ == 0) c->pinned_bytes += entry->cost;
    pin->entry = entry;
}

static void unpin_entry(struct cache *c, struct cache_pin *pin)
{
    struct cache_entry *entry = pin->entry;
    pin->entry = NULL;
    pin->data = SLICE_EMPTY;
    if (!entry) return;

    assert(entry->pins > 0);
    if (--entry->pins > 0) return;
    c->pinned_bytes -= entry->cost;
    if (entry->state == FAILED)
        entry_free(c, entry);
    else if (!entry->queued)
        queue_add(c, entry);
}

void cache_unpin(struct cache *c, struct cache_pin *pins, size_t n)
{
    mutex_lock(&c->lock);
    for (size_t i = 0; i < n; i++)
        unpin_entry(c, &pins[i]);
    mutex_unlock(&c->lock);
}

/* What one call asks for. */
struct asked {
    struct cache_pin *pins;
    size_t count;
    bool ahead;
};

/* Somebody wants what is there. The first to want what was fetched ahead is the one it
 * was fetched for: that was counted then. True if it is asked for again. */
static bool use_entry(struct cache_entry *entry)
{
    bool again = entry->uses == 0 && !entry->ahead;
    if (entry->uses < USES_MAX && !entry->ahead) entry->uses++;
    entry->ahead = false;
    return again;
}

/* Pins what is there or on its way, first, so that making room for the rest cannot
 * evict it. Returns how many pins are without an entry. */
static size_t pin_present(struct op *op, struct cache *c, const struct asked *asked)
{
    struct tier_count memory = {0};
    size_t missing = 0, on_their_way = 0;
    for (size_t i = 0; i < asked->count; i++) {
        struct cache_pin *pin = &asked->pins[i];
        if (pin->entry) continue;
        struct cache_entry *entry = find(c, pin, hash_of(pin));
        if (!entry) {
            missing++;
            continue;
        }
        pin_entry(c, pin, entry);
        if (asked->ahead) continue;
        if (entry->state == READY && !entry->ahead) {
            memory.ranges++;
            memory.bytes += entry->size;
        } else if (entry->state != READY) {
            on_their_way++;
        }
        pin->again |= use_entry(entry);
    }
    op->counters.cache_hits += memory.ranges;
    op->counters.cache_bytes += memory.bytes;
    op->counters.cache_misses += on_their_way;
    c->hits += memory.ranges;
    c->misses += on_their_way;
    tier_add(c, MEMORY, memory);
    return missing;
}

/* The entries one call has to fetch, linked through newer. */
struct fetch {
    struct cache_entry *first;
    size_t count;
};

/* Makes entries for what is missing, all in one decision about room. */
static enum err pin_missing(struct op *op, struct cache *c, const struct asked *asked,
                            struct fetch *fetch)
{
    uint64_t need = 0;
    for (size_t i = 0; i < asked->count; i++)
        if (!asked->pins[i].entry) need += cost_of(&asked->pins[i]);
    if (need > c->memory_max)
        return op_fail(op, ERR_LIMIT,
                       "%llu bytes of ranges are more than all %llu of the cache",
                       (unsigned long long)need, (unsigned long long)c->memory_max);
    if (!make_room(c, need))
        return op_fail(op, ERR_BUSY, "the memory budget of %llu bytes is in use",
                       (unsigned long long)c->memory_max);

    for (size_t i = 0; i < asked->count; i++) {
        struct cache_pin *pin = &asked->pins[i];
        if (pin->entry) continue;
        uint64_t hash = hash_of(pin);
        struct cache_entry *twin = find(c, pin, hash); /* asked for twice at once */
        if (twin) {
            pin_entry(c, pin, twin);
            continue;
        }
        pin->entry = entry_add(c, pin, hash);
        pin->entry->ahead = asked->ahead;
        pin->entry->newer = fetch->first;
        fetch->first = pin->entry;
        fetch->count++;
    }
    c->misses += fetch->count;
    return ERR_OK;
}

/* Fetching. */

static void settle(struct cache *c, struct cache_entry *entry, enum err e)
{
    if (!e) {
        entry->state = READY;
        uint64_t *ghost = ghost_of(c, entry->hash);
        entry->home = *ghost == entry->hash ? MAIN : SMALL;
        if (*ghost == entry->hash) *ghost = 0;
        queue_add(c, entry);
        return;
    }
    entry->state = FAILED; /* the last one to unpin it frees it */
    unlist(c, entry);
    mem_free(entry->data);
    entry->data = NULL;
    c->bytes -= entry->size;
    c->pinned_bytes -= entry->size;
    entry->cost -= entry->size;
}

/* What one fetch is about: its entries, and how each of them fares. */
struct arrivals {
    size_t count;
    struct cache_entry **entries;
    enum err *errs;
    bool *from_disk;
};

static struct arrivals arrivals_of(const struct fetch *fetch)
{
    struct arrivals a = {.entries = mem_new_array(struct cache_entry *, fetch->count),
                         .errs = mem_new_array(enum err, fetch->count),
                         .from_disk = mem_new_array(bool, fetch->count)};
    for (struct cache_entry *at = fetch->first; at; at = at->newer)
        a.entries[a.count++] = at;
    return a;
}

static void arrivals_release(struct arrivals *a)
{
    mem_free(a->entries);
    mem_free(a->errs);
    mem_free(a->from_disk);
}

/* What came must pass the check of the pin it is for. */
static enum err check(struct op *op, const struct cache_entry *entry)
{
    if (!entry->check) return ERR_OK;
    return entry->check(op, entry->context, entry->offset,
                        slice_of(entry->data, entry->size));
}

/* Bytes of the disk that are refused count as not there. */
static void fetch_from_disk(struct op *op, struct cache *c, struct arrivals *a)
{
    struct disk_range *ranges = mem_new_array(struct disk_range, a->count);

    for (size_t i = 0; i < a->count; i++)
        ranges[i] = (struct disk_range){.key = a->entries[i]->key,
                                        .offset = a->entries[i]->offset,
                                        .size = a->entries[i]->size,
                                        .data = a->entries[i]->data};
    disk_cache_read(c->disk, ranges, a->count);
    for (size_t i = 0; i < a->count; i++) {
        if (!ranges[i].found) continue;
        a->from_disk[i] = check(op, a->entries[i]) == ERR_OK;
        if (a->from_disk[i]) continue;
        op_clear_error(op);
        disk_cache_forget(c->disk, ranges[i].key, ranges[i].offset, ranges[i].size);
    }
    mem_free(ranges);
}

/* One round for all that the disk did not have. */
static enum err fetch_from_store(struct op *op, struct cache *c, struct arrivals *a)
{
    struct store_range *ranges = mem_new_array(struct store_range, a->count);
    size_t n = 0;

    for (size_t i = 0; i < a->count; i++)
        if (!a->from_disk[i])
            ranges[n++] = (struct store_range){.key = a->entries[i]->key,
                                               .offset = a->entries[i]->offset,
                                               .size = a->entries[i]->size,
                                               .data = a->entries[i]->data};
    enum err first = c->gather ? gather_read(op, c->store, ranges, n)
                               : store_read(op, c->store, ranges, n);
    n = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (a->from_disk[i]) continue;
        a->errs[i] = ranges[n++].err;
        if (!a->errs[i]) a->errs[i] = check(op, a->entries[i]);
        if (!first) first = a->errs[i];
    }
    mem_free(ranges);
    return first;
}

static void count_arrivals(struct op *op, struct cache *c, const struct arrivals *a)
{
    struct tier_count disk = {0}, store = {0};

    for (size_t i = 0; i < a->count; i++) {
        struct tier_count *tier = a->from_disk[i] ? &disk : &store;
        tier->ranges++;
        if (!a->errs[i]) tier->bytes += a->entries[i]->size;
    }
    op->counters.disk_hits += disk.ranges;
    op->counters.disk_bytes += disk.bytes;
    op->counters.cache_misses += store.ranges;
    tier_add(c, DISK, disk);
    tier_add(c, STORE, store);
}

/*
 * Disk first, then one store_read, without the lock: until it is settled nobody else
 * writes to an entry that is being fetched. What came from the store is offered to the
 * disk afterwards; the caller's pins hold it.
 */
static enum err fetch_all(struct op *op, struct cache *c, const struct fetch *fetch)
{
    struct arrivals a = arrivals_of(fetch);

    if (c->disk) fetch_from_disk(op, c, &a);
    enum err e = fetch_from_store(op, c, &a);
    count_arrivals(op, c, &a);

    mutex_lock(&c->lock);
    for (size_t i = 0; i < a.count; i++)
        settle(c, a.entries[i], a.errs[i]);
    cond_broadcast(&c->fetched);
    show_memory(c);
    mutex_unlock(&c->lock);

    for (size_t i = 0; c->disk && i < a.count; i++)
        if (!a.errs[i] && !a.from_disk[i])
            disk_cache_offer(c->disk, a.entries[i]->key, a.entries[i]->offset,
                             slice_of(a.entries[i]->data, a.entries[i]->size), false);
    arrivals_release(&a);
    return e;
}

/* Waits for what others fetch. Pins whose fetch failed lose their entry; true in *again
 * if there are any. */
static enum err await(struct op *op, struct cache *c, struct cache_pin *pins, size_t n,
                      bool *again)
{
    enum err e = ERR_OK;

    *again = false;
    mutex_lock(&c->lock);
    for (size_t i = 0; i < n && !e; i++) {
        while (pins[i].entry->state == FETCHING && !(e = op_check(op))) {
            int64_t until = clock_ms() + CANCEL_POLL_MS;
            if (until > op->deadline_ms) until = op->deadline_ms;
            (void)cond_wait(&c->fetched, &c->lock, until);
        }
        if (pins[i].entry->state == FAILED) {
            unpin_entry(c, &pins[i]);
            *again = true;
        }
    }
    mutex_unlock(&c->lock);
    return e;
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
    while (again && !e) {
        struct fetch fetch = {NULL, 0};
        mutex_lock(&c->lock);
        if (pin_present(op, c, asked) > 0) e = pin_missing(op, c, asked, &fetch);
        mutex_unlock(&c->lock);
        if (fetch.count) e = fetch_all(op, c, &fetch);
        if (!e) e = await(op, c, pins, n, &again);
    }
    if (e) cache_unpin(c, pins, n);
    for (size_t i = 0; i < n && !e; i++)
        pins[i].data = slice_of(pins[i].entry->data, pins[i].size);
    return e;
}

enum err cache_pin(struct op *op, struct cache *c, struct cache_pin *pins, size_t n)
{
    enum err e = pin_all(op, c, &(struct asked){.pins = pins, .count = n});
    for (size_t i = 0; i < n && !e && c->disk; i++)
        if (pins[i].again)
            disk_cache_offer(c->disk, pins[i].key, pins[i].offset, pins[i].data, true);
    return e;
}

enum err cache_pin_ahead(struct op *op, struct cache *c, struct cache_pin *pins,
                         size_t n)
{
    return pin_all(op, c, &(struct asked){.pins = pins, .count = n, .ahead = true});
}

void cache_forget(struct cache *c, const char *key, uint64_t offset, size_t size)
{
    struct cache_pin range = {.key = key, .offset = offset, .size = size};

    mutex_lock(&c->lock);
    struct cache_entry *entry = find(c, &range, hash_of(&range));
    if (entry && entry->state == READY) {
        unlist(c, entry);
        if (entry->queued) queue_remove(c, entry);
        entry->state = FAILED; /* the last one to unpin it frees it */
        if (entry->pins == 0) entry_free(c, entry);
        show_memory(c);
    }
    mutex_unlock(&c->lock);
    if (c->disk) disk_cache_forget(c->disk, key, offset, size);
}

/* The rest of the budget. */

bool cache_reserve(struct cache *c, uint64_t bytes)
{
    mutex_lock(&c->lock);
    bool fits = make_room(c, bytes);
    if (fits) c->reserved_bytes += bytes;
    show_memory(c);
    mutex_unlock(&c->lock);
    return fits;
}

void cache_unreserve(struct cache *c, uint64_t bytes)
{
    mutex_lock(&c->lock);
    assert(bytes <= c->reserved_bytes);
    c->reserved_bytes -= bytes;
    show_memory(c);
    mutex_unlock(&c->lock);
}

struct cache_usage cache_usage(struct cache *c)
{
    mutex_lock(&c->lock);
    struct cache_usage usage = {.memory_max = c->memory_max,
                                .bytes = c->bytes,
                                .pinned_bytes = c->pinned_bytes,
                                .reserved_bytes = c->reserved_bytes,
                                .entries = c->entries,
                                .hits = c->hits,
                                .misses = c->misses,
                                .evictions = c->evictions};
    mutex_unlock(&c->lock);
    if (c->disk) usage.disk = disk_cache_usage(c->disk);
    return usage;
}

void cache_free(struct cache *c)
{
    if (!c) return;
    assert(c->pinned_bytes == 0);
    disk_cache_free(c->disk);
    for (size_t i = 0; i < QUEUES; i++) {
        while (c->queues[i].oldest) {
            struct cache_entry *entry = c->queues[i].oldest;
            queue_remove(c, entry);
            entry_free(c, entry);
        }
    }
    assert(c->bytes == 0);
    mem_free(c->buckets);
    mem_free(c->ghosts);
    cond_release(&c->fetched);
    mutex_release(&c->lock);
    mem_free(c);
}
