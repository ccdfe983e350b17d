/*
 * Eviction is S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for
 * cache eviction", SOSP 2023). A new range enters the small queue, a tenth of the
 * budget. At its end it moves to the main queue if it was asked for twice meanwhile,
 * otherwise it goes and only its hash is remembered; if it comes back soon it enters
 * the main queue at once. So a scan flows through the small queue and leaves the rest
 * alone. The remembered hashes are a table where a newer one overwrites an older one.
 *
 * Each shard has both queues. A range gets its place from one counter when it enters a
 * queue, and each queue shows the place of its oldest; so whoever makes room finds the
 * oldest of all without a lock, and takes only that shard's.
 *
 * A pinned range that eviction meets is taken off its queue and returns when unpinned,
 * so eviction never looks at one twice. What was fetched for one who comes by once is
 * on no queue; it goes when it is unpinned, unless somebody else wanted it meanwhile.
 */
#include "cache/ranges.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "cache/cache.h"

enum {
    TABLE_MIN = 1024,
    TABLE_MAX = 1 << 20,
    BYTES_PER_SLOT = 16 << 10, /* of the budget: about one range */
    SMALL_SHARE = 10,          /* one tenth */
    USES_TO_STAY = 2,
    USES_MAX = 3,
    DATA_ALIGNMENT = 64,
    CANCEL_POLL_MS = 100,
    SHARD_SHIFT = 60 /* of a hash */
};

enum queue_name { SMALL, MAIN };

static uint64_t load(_Atomic uint64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

static void add(_Atomic uint64_t *n, uint64_t by)
{
    (void)atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

static void subtract(_Atomic uint64_t *n, uint64_t by)
{
    (void)atomic_fetch_sub_explicit(n, by, memory_order_relaxed);
}

uint64_t ranges_table_bytes(const struct ranges *r)
{
    return RANGES_SHARDS * r->slots * (sizeof(void *) + sizeof(uint64_t));
}

void ranges_init(struct ranges *r, uint64_t memory_max)
{
    size_t slots = TABLE_MIN;
    while (slots < TABLE_MAX && slots < memory_max / BYTES_PER_SLOT)
        slots *= 2;
    *r = (struct ranges){.slots = slots / RANGES_SHARDS};
    assert(memory_max > ranges_table_bytes(r));
    r->memory_max = memory_max - ranges_table_bytes(r);
    mutex_init(&r->room);
    for (size_t i = 0; i < RANGES_SHARDS; i++) {
        struct range_shard *s = &r->shards[i];
        mutex_init(&s->lock);
        cond_init(&s->fetched);
        s->buckets = mem_new_array(struct cache_entry *, r->slots);
        s->ghosts = mem_new_array(uint64_t, r->slots);
        for (size_t q = 0; q < RANGES_QUEUES; q++)
            atomic_init(&s->queues[q].first, UINT64_MAX);
    }
}

/* ---- entries ---- */

static uint64_t range_hash(const struct cache_pin *pin)
{
    uint64_t parts[3] = {xxh3_64(pin->key, strlen(pin->key)), pin->offset, pin->size};
    return xxh3_64(parts, sizeof parts);
}

static uint64_t data_cost(size_t size)
{
    return mem_footprint(DATA_ALIGNMENT, size);
}

uint64_t range_cost(const struct cache_pin *pin)
{
    size_t entry_size = sizeof(struct cache_entry) + strlen(pin->key) + 1;
    return mem_footprint(alignof(struct cache_entry), entry_size) +
           data_cost(pin->size);
}

static struct range_shard *shard_of(struct ranges *r, uint64_t hash)
{
    return &r->shards[hash >> SHARD_SHIFT];
}

static struct cache_entry **bucket_of(const struct ranges *r, struct range_shard *s,
                                      uint64_t hash)
{
    return &s->buckets[hash & (r->slots - 1)];
}

static struct cache_entry *find(const struct ranges *r, struct range_shard *s,
                                const struct cache_pin *pin, uint64_t hash)
{
    struct cache_entry *entry = *bucket_of(r, s, hash);
    while (entry && !(entry->hash == hash && entry->offset == pin->offset &&
                      entry->size == pin->size && strcmp(entry->key, pin->key) == 0))
        entry = entry->next;
    return entry;
}

static void unlist(const struct ranges *r, struct range_shard *s,
                   struct cache_entry *entry)
{
    struct cache_entry **at = bucket_of(r, s, entry->hash);
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    s->entries--;
}

static void entry_free(struct ranges *r, struct cache_entry *entry)
{
    assert(entry->pins == 0 && !entry->queued);
    subtract(&r->used, entry->cost);
    mem_free(entry->data);
    mem_free(entry);
}

/* ---- queues; with the shard's lock ---- */

static void show_first(struct range_queue *q)
{
    atomic_store_explicit(&q->first, q->oldest ? q->oldest->place : UINT64_MAX,
                          memory_order_relaxed);
}

static void queue_add(struct ranges *r, struct range_shard *s,
                      struct cache_entry *entry)
{
    struct range_queue *q = &s->queues[entry->home];
    entry->place = atomic_fetch_add_explicit(&r->next_place, 1, memory_order_relaxed);
    entry->older = q->newest;
    entry->newer = NULL;
    if (q->newest)
        q->newest->newer = entry;
    else
        q->oldest = entry;
    q->newest = entry;
    add(&q->bytes, entry->cost);
    entry->queued = true;
    show_first(q);
}

static void queue_remove(struct range_shard *s, struct cache_entry *entry)
{
    struct range_queue *q = &s->queues[entry->home];
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        q->oldest = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        q->newest = entry->older;
    subtract(&q->bytes, entry->cost);
    entry->queued = false;
    show_first(q);
}

static uint64_t *ghost_of(const struct ranges *r, struct range_shard *s, uint64_t hash)
{
    /* Other bits than the bucket's, or all entries of a bucket would share one. */
    return &s->ghosts[hash >> 32 & (r->slots - 1)];
}

static void evict(struct ranges *r, struct range_shard *s, struct cache_entry *entry)
{
    if (entry->home == SMALL) *ghost_of(r, s, entry->hash) = entry->hash;
    unlist(r, s, entry);
    entry_free(r, entry);
    s->evictions++;
}

/* ---- room ---- */

/* The shard whose queue holds the oldest range of all; NULL if there is none. */
static struct range_shard *oldest_shard(struct ranges *r, enum queue_name name)
{
    struct range_shard *oldest = NULL;
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < RANGES_SHARDS; i++) {
        uint64_t place = load(&r->shards[i].queues[name].first);
        if (place >= first) continue;
        first = place;
        oldest = &r->shards[i];
    }
    return oldest;
}

static uint64_t small_bytes(struct ranges *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < RANGES_SHARDS; i++)
        bytes += load(&r->shards[i].queues[SMALL].bytes);
    return bytes;
}

/* The oldest of a shard's queue is evicted, moved on, or set aside as pinned. */
static void evict_oldest(struct ranges *r, struct range_shard *s, enum queue_name name)
{
    mutex_lock(&s->lock);
    struct cache_entry *entry = s->queues[name].oldest;
    if (entry) queue_remove(s, entry); /* none: others were quicker */
    if (!entry || entry->pins) {
        mutex_unlock(&s->lock);
        return;
    }
    if (name == SMALL && entry->uses >= USES_TO_STAY) {
        entry->home = MAIN;
        entry->uses = 0;
        queue_add(r, s, entry);
    } else if (name == MAIN && entry->uses > 0) {
        entry->uses--;
        queue_add(r, s, entry);
    } else {
        evict(r, s, entry);
    }
    mutex_unlock(&s->lock);
}

/* One step of making room; false if no range is left that could go. */
static bool evict_step(struct ranges *r)
{
    struct range_shard *small = oldest_shard(r, SMALL), *main = oldest_shard(r, MAIN);
    bool from_small = small && (!main || small_bytes(r) > r->memory_max / SMALL_SHARE);

    if (!small && !main) return false;
    evict_oldest(r, from_small ? small : main, from_small ? SMALL : MAIN);
    return true;
}

static uint64_t pinned_bytes(struct ranges *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < RANGES_SHARDS; i++)
        bytes += load(&r->shards[i].pinned_bytes);
    return bytes;
}

/* Evicts until need bytes are free, and takes them; false, and nothing is evicted, if
 * pins, grants and reservations leave no room. The room's lock is held. */
static bool take_room(struct ranges *r, uint64_t need)
{
    uint64_t held = pinned_bytes(r) + load(&r->granted) + r->reserved;

    if (held > r->memory_max || need > r->memory_max - held) return false;
    while (load(&r->used) > r->memory_max - need)
        if (!evict_step(r)) return false; /* pinned while we looked */
    add(&r->used, need);
    return true;
}

bool ranges_grant(struct ranges *r, uint64_t bytes)
{
    mutex_lock(&r->room);
    bool fits = take_room(r, bytes);
    if (fits) add(&r->granted, bytes);
    mutex_unlock(&r->room);
    return fits;
}

bool ranges_reserve(struct ranges *r, uint64_t bytes)
{
    mutex_lock(&r->room);
    bool fits = take_room(r, bytes);
    if (fits) r->reserved += bytes;
    mutex_unlock(&r->room);
    return fits;
}

void ranges_unreserve(struct ranges *r, uint64_t bytes)
{
    mutex_lock(&r->room);
    assert(bytes <= r->reserved);
    r->reserved -= bytes;
    subtract(&r->used, bytes);
    mutex_unlock(&r->room);
}

/* ---- pins ---- */

static void pin_entry(struct range_shard *s, struct cache_entry *entry)
{
    if (entry->pins++ == 0) add(&s->pinned_bytes, entry->cost);
}

/* Somebody wants what is there. The first to want what was fetched ahead is the one it
 * was fetched for: that was counted then. True if it is asked for again. */
static bool use_entry(struct cache_entry *entry)
{
    bool again = entry->uses == 0 && !entry->ahead;
    if (entry->uses < USES_MAX && !entry->ahead) entry->uses++;
    entry->ahead = false;
    return again;
}

struct cache_entry *ranges_pin(struct ranges *r, const struct cache_pin *pin,
                               enum range_use use, struct range_found *found)
{
    bool ahead = use == RANGE_AHEAD;
    uint64_t hash = range_hash(pin);
    struct range_shard *s = shard_of(r, hash);

    *found = (struct range_found){false, false, false};
    mutex_lock(&s->lock);
    struct cache_entry *entry = find(r, s, pin, hash);
    if (entry) {
        pin_entry(s, entry);
        found->coming = !ahead && entry->state != RANGE_READY;
        found->hit = !ahead && entry->state == RANGE_READY && !entry->ahead;
        /* To others what was fetched for one who comes by once is as if new. */
        found->again = use == RANGE_NOW && !entry->once && use_entry(entry);
        entry->once &= use == RANGE_ONCE;
        s->hits += found->hit;
        s->misses += found->coming;
    }
    mutex_unlock(&s->lock);
    return entry;
}

bool ranges_have(struct ranges *r, const struct cache_pin *pin)
{
    uint64_t hash = range_hash(pin);
    struct range_shard *s = shard_of(r, hash);

    mutex_lock(&s->lock);
    bool there = find(r, s, pin, hash) != NULL;
    mutex_unlock(&s->lock);
    return there;
}

static struct cache_entry *entry_new(const struct cache_pin *pin, uint64_t hash,
                                     enum range_use use)
{
    size_t key_size = strlen(pin->key) + 1;
    struct cache_entry *entry = mem_alloc(sizeof *entry + key_size);

    *entry = (struct cache_entry){.hash = hash,
                                  .offset = pin->offset,
                                  .size = pin->size,
                                  .cost = range_cost(pin),
                                  .data = mem_aligned(DATA_ALIGNMENT, pin->size),
                                  .state = RANGE_FETCHING,
                                  .home = use == RANGE_KNOWN ? MAIN : SMALL,
                                  .ahead = use == RANGE_AHEAD,
                                  .once = use == RANGE_ONCE};
    memcpy(entry->key, pin->key, key_size);
    return entry;
}

struct cache_entry *ranges_add(struct ranges *r, const struct cache_pin *pin,
                               enum range_use use, bool *mine)
{
    uint64_t hash = range_hash(pin);
    struct range_shard *s = shard_of(r, hash);
    struct cache_entry *fresh = entry_new(pin, hash, use);

    mutex_lock(&s->lock);
    struct cache_entry *entry = find(r, s, pin, hash);
    *mine = !entry;
    if (*mine) {
        entry = fresh;
        entry->next = *bucket_of(r, s, hash);
        *bucket_of(r, s, hash) = entry;
        s->entries++;
        s->misses++;
    }
    pin_entry(s, entry);
    entry->once &= use == RANGE_ONCE;
    mutex_unlock(&s->lock);
    subtract(&r->granted, fresh->cost);
    if (!*mine) entry_free(r, fresh);
    return entry;
}

/* A range comes to its first queue. */
static void queue_first(struct ranges *r, struct range_shard *s,
                        struct cache_entry *entry)
{
    uint64_t *ghost = ghost_of(r, s, entry->hash);
    if (*ghost == entry->hash) {
        entry->home = MAIN;
        *ghost = 0;
    }
    queue_add(r, s, entry);
}

void ranges_settle(struct ranges *r, struct cache_entry *entry, enum err e)
{
    struct range_shard *s = shard_of(r, entry->hash);

    mutex_lock(&s->lock);
    if (e) {
        entry->state = RANGE_FAILED; /* the last one to unpin it frees it */
        unlist(r, s, entry);
        mem_free(entry->data);
        entry->data = NULL;
        uint64_t freed = data_cost(entry->size);
        entry->cost -= freed;
        subtract(&s->pinned_bytes, freed);
        subtract(&r->used, freed);
    } else {
        entry->state = RANGE_READY;
        if (!entry->once) queue_first(r, s, entry);
    }
    cond_broadcast(&s->fetched);
    mutex_unlock(&s->lock);
}

static void unpin_locked(struct ranges *r, struct range_shard *s,
                         struct cache_entry *entry)
{
    assert(entry->pins > 0);
    if (--entry->pins > 0) return;
    subtract(&s->pinned_bytes, entry->cost);
    if (entry->once && entry->state != RANGE_FAILED) unlist(r, s, entry);
    if (entry->once || entry->state == RANGE_FAILED)
        entry_free(r, entry);
    else if (!entry->queued)
        queue_add(r, s, entry);
}

void ranges_unpin(struct ranges *r, struct cache_entry *entry)
{
    struct range_shard *s = shard_of(r, entry->hash);
    mutex_lock(&s->lock);
    unpin_locked(r, s, entry);
    mutex_unlock(&s->lock);
}

enum err ranges_await(struct op *op, struct ranges *r, struct cache_entry *entry,
                      bool *failed)
{
    struct range_shard *s = shard_of(r, entry->hash);
    enum err e = ERR_OK;

    mutex_lock(&s->lock);
    while (entry->state == RANGE_FETCHING && !(e = op_check_now(op))) {
        int64_t until = clock_ms() + CANCEL_POLL_MS;
        if (until > op->deadline_ms) until = op->deadline_ms;
        (void)cond_wait(&s->fetched, &s->lock, until);
    }
    *failed = entry->state == RANGE_FAILED;
    if (*failed) unpin_locked(r, s, entry);
    mutex_unlock(&s->lock);
    return e;
}

static void forget_entry(struct ranges *r, struct range_shard *s,
                         struct cache_entry *entry)
{
    unlist(r, s, entry);
    if (entry->queued) queue_remove(s, entry);
    entry->state = RANGE_FAILED; /* the last one to unpin it frees it */
    if (entry->pins == 0) entry_free(r, entry);
}

void ranges_forget(struct ranges *r, const struct cache_pin *pin)
{
    uint64_t hash = range_hash(pin);
    struct range_shard *s = shard_of(r, hash);

    mutex_lock(&s->lock);
    struct cache_entry *entry = find(r, s, pin, hash);
    if (entry && entry->state == RANGE_READY) forget_entry(r, s, entry);
    mutex_unlock(&s->lock);
}

static bool is_of(const struct cache_entry *entry, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entry->key, keys[i]) == 0) return true;
    return false;
}

void ranges_forget_objects(struct ranges *r, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < RANGES_SHARDS; i++) {
        struct range_shard *s = &r->shards[i];
        mutex_lock(&s->lock);
        for (size_t slot = 0; slot < r->slots; slot++) {
            struct cache_entry *entry = s->buckets[slot], *next;
            for (; entry; entry = next) {
                next = entry->next;
                if (entry->state == RANGE_READY && is_of(entry, keys, n))
                    forget_entry(r, s, entry);
            }
        }
        mutex_unlock(&s->lock);
    }
}

/* ---- the whole ---- */

struct ranges_usage ranges_usage(struct ranges *r)
{
    struct ranges_usage usage = {.pinned_bytes = pinned_bytes(r)};

    mutex_lock(&r->room); /* used may fall meanwhile, never below what is reserved */
    usage.reserved_bytes = r->reserved;
    usage.bytes = load(&r->used) - r->reserved;
    mutex_unlock(&r->room);
    for (size_t i = 0; i < RANGES_SHARDS; i++) {
        struct range_shard *s = &r->shards[i];
        mutex_lock(&s->lock);
        usage.entries += s->entries;
        usage.hits += s->hits;
        usage.misses += s->misses;
        usage.evictions += s->evictions;
        mutex_unlock(&s->lock);
    }
    return usage;
}

static void shard_release(struct ranges *r, struct range_shard *s)
{
    for (size_t i = 0; i < RANGES_QUEUES; i++) {
        while (s->queues[i].oldest) {
            struct cache_entry *entry = s->queues[i].oldest;
            queue_remove(s, entry);
            entry_free(r, entry);
        }
    }
    mem_free(s->buckets);
    mem_free(s->ghosts);
    cond_release(&s->fetched);
    mutex_release(&s->lock);
}

void ranges_release(struct ranges *r)
{
    assert(pinned_bytes(r) == 0);
    for (size_t i = 0; i < RANGES_SHARDS; i++)
        shard_release(r, &r->shards[i]);
    assert(load(&r->used) == r->reserved);
    mutex_release(&r->room);
}
