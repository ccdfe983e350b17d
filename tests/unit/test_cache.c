#include "cache/cache.h"

#include <malloc.h>
#include <stdatomic.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store.h"
#include "unit/metric_value.h"
#include "unit/scratch.h"
#include "unit/test.h"

/*
 * A store whose objects exist by their name: byte i of any object is a function of key
 * and i. It counts reads, may be slow, and fails a given number of them.
 */
struct made_up {
    struct store base;
    struct mutex lock; /* guards the rest */
    int reads, ranges;
    int failures_left;
    int64_t delay_ms;
    atomic_bool begun, hold; /* a read was asked for; it waits while this is true */
    struct cache *watched;   /* NULL: none; what it uses during reads, at most: */
    uint64_t most_used, most_reserved;
};

static uint8_t byte_of(const char *key, uint64_t offset)
{
    return (uint8_t)((uint64_t)key[strlen(key) - 1] * 31 + offset * 7 + strlen(key));
}

static void watch(struct made_up *m)
{
    struct cache_usage usage = cache_usage(m->watched);
    uint64_t used = usage.bytes + usage.reserved_bytes;
    if (used > m->most_used) m->most_used = used;
    if (usage.reserved_bytes > m->most_reserved)
        m->most_reserved = usage.reserved_bytes;
}

static enum err made_up_read(struct op *op, struct store *s, struct store_range *ranges,
                             size_t n)
{
    struct made_up *m = (struct made_up *)s;
    enum err first = ERR_OK;

    mutex_lock(&m->lock);
    m->reads++;
    m->ranges += (int)n;
    int64_t delay_ms = m->delay_ms;
    bool fail = m->failures_left > 0 && m->failures_left-- > 0;
    if (m->watched) watch(m);
    mutex_unlock(&m->lock);
    if (delay_ms) task_sleep_ms(delay_ms);
    atomic_store(&m->begun, true);
    while (atomic_load(&m->hold))
        task_sleep_ms(1);

    for (size_t i = 0; i < n; i++) {
        ranges[i].err = ERR_OK;
        if (fail)
            ranges[i].err = op_fail(op, ERR_IO, "made up");
        else if (ranges[i].key[0] == '-')
            ranges[i].err = op_fail(op, ERR_NOT_FOUND, "made up");
        else
            for (size_t b = 0; b < ranges[i].size; b++)
                ranges[i].data[b] = byte_of(ranges[i].key, ranges[i].offset + b);
        if (!first) first = ranges[i].err;
    }
    return first;
}

static const struct store_ops made_up_ops = {.name = "made up", .read = made_up_read};

struct fixture {
    struct made_up store;
    struct cache *cache;
    struct op op;
};

/* Of a cache's two tables, while its budget is below 16 MiB. */
enum { TABLES = 16 << 10 };

/* A cache with so much room for ranges and reservations. */
static void fixture_init(struct fixture *f, uint64_t memory_max)
{
    memset(f, 0, sizeof *f);
    f->store.base.ops = &made_up_ops;
    mutex_init(&f->store.lock);
    f->cache = cache_new(&f->store.base, memory_max + TABLES);
    op_init(&f->op, OP_NO_DEADLINE, 0);
}

static void fixture_release(struct fixture *f)
{
    cache_free(f->cache);
    mutex_release(&f->store.lock);
    op_release(&f->op);
}

static struct cache_pin pin_of(const char *key, uint64_t offset, size_t size)
{
    return (struct cache_pin){.key = key, .offset = offset, .size = size};
}

static bool right(const struct cache_pin *pin)
{
    if (pin->data.size != pin->size) return false;
    for (size_t i = 0; i < pin->size; i++)
        if (pin->data.data[i] != byte_of(pin->key, pin->offset + i)) return false;
    return true;
}

static enum err touch(struct fixture *f, const char *key, uint64_t offset, size_t size)
{
    struct cache_pin pin = pin_of(key, offset, size);
    enum err e = cache_pin(&f->op, f->cache, &pin, 1);
    if (!e) assert_true(right(&pin));
    cache_unpin(f->cache, &pin, 1);
    return e;
}

static void a_range_is_read_once_and_then_comes_from_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1 << 20);
    for (int i = 0; i < 5; i++)
        assert_int_equal(touch(&f, "a", 100, 1000), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(touch(&f, "a", 100, 999), ERR_OK);
    assert_int_equal(touch(&f, "a", 101, 1000), ERR_OK);
    assert_int_equal(touch(&f, "b", 100, 1000), ERR_OK);
    assert_int_equal(touch(&f, "b", 0, 0), ERR_OK);
    assert_int_equal(f.store.reads, 5);
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.hits, 4);
    assert_int_equal(usage.misses, 5);
    assert_int_equal(usage.entries, 5);
    assert_int_equal(usage.pinned_bytes, 0);
    assert_int_equal(f.op.counters.cache_hits, 4);
    assert_int_equal(f.op.counters.cache_misses, 5);
    assert_int_equal(f.op.counters.rounds, 5);
    fixture_release(&f);
}

static void all_misses_of_a_call_are_one_read(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin pins[6] = {pin_of("a", 0, 10), pin_of("b", 0, 10),
                                pin_of("c", 0, 10), pin_of("b", 0, 10),
                                pin_of("d", 5, 10), pin_of("d", 5, 10)};
    fixture_init(&f, 1 << 20);
    assert_int_equal(touch(&f, "c", 0, 10), ERR_OK);
    assert_int_equal(cache_pin(&f.op, f.cache, pins, 6), ERR_OK);
    assert_int_equal(f.store.reads, 2);
    assert_int_equal(f.store.ranges, 1 + 3);
    for (size_t i = 0; i < 6; i++)
        assert_true(right(&pins[i]));
    cache_unpin(f.cache, pins, 6);
    cache_unpin(f.cache, pins, 6);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    assert_int_equal(cache_pin(&f.op, f.cache, NULL, 0), ERR_OK);
    fixture_release(&f);
}

static void pinned_bytes_are_aligned_for_vectors(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin pin = pin_of("a", 3, 17);
    fixture_init(&f, 1 << 20);
    assert_int_equal(cache_pin(&f.op, f.cache, &pin, 1), ERR_OK);
    assert_int_equal((uintptr_t)pin.data.data % 64, 0);
    cache_unpin(f.cache, &pin, 1);
    fixture_release(&f);
}

static void the_budget_counts_what_the_allocator_gives(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 8 << 20);
    for (size_t size = 1; size < 1 << 20; size += size / 3 + 1) {
        struct cache_pin pin = pin_of("a", size, size);
        uint64_t before = cache_usage(f.cache).bytes;
        assert_int_equal(cache_pin(&f.op, f.cache, &pin, 1), ERR_OK);
        uint64_t counted = cache_usage(f.cache).bytes - before;
        assert_true(counted > malloc_usable_size((void *)(uintptr_t)pin.data.data));
        assert_in_range(counted, size, size + size / 4 + 8192);
        cache_unpin(f.cache, &pin, 1);
    }
    fixture_release(&f);
}

static void what_is_put_is_there_without_a_read(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[1000];
    fixture_init(&f, 1 << 20);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_of("a", 50 + i);
    cache_put(f.cache, "a", 50, slice_of(bytes, sizeof bytes));
    cache_put(f.cache, "a", 50, slice_of(bytes, sizeof bytes)); /* as good as once */
    assert_int_equal(touch(&f, "a", 50, sizeof bytes), ERR_OK);
    assert_int_equal(f.store.reads, 0);
    assert_int_equal(f.op.counters.cache_hits, 1);
    assert_int_equal(cache_usage(f.cache).entries, 1);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    fixture_release(&f);
}

static void what_has_no_room_is_not_put(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[4000] = {0};
    fixture_init(&f, 10000);
    assert_true(cache_reserve(f.cache, 8000));
    cache_put(f.cache, "a", 0, slice_of(bytes, sizeof bytes));
    assert_int_equal(cache_usage(f.cache).entries, 0);
    cache_unreserve(f.cache, 8000);
    fixture_release(&f);
}

/* Put ranges are not those that a scan drives out first. */
static void what_is_put_outlives_what_is_read_once(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[1000];
    fixture_init(&f, 256 << 10);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_of("a", i);
    cache_put(f.cache, "a", 0, slice_of(bytes, sizeof bytes));
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(touch(&f, "b", i * 1000, 1000), ERR_OK);
    assert_true(cache_usage(f.cache).evictions > 0);
    f.store.reads = 0;
    assert_int_equal(touch(&f, "a", 0, sizeof bytes), ERR_OK);
    assert_int_equal(f.store.reads, 0);
    fixture_release(&f);
}

static void a_call_pins_all_or_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin pins[3] = {pin_of("a", 0, 10), pin_of("-gone", 0, 10),
                                pin_of("b", 0, 10)};
    fixture_init(&f, 1 << 20);
    assert_int_equal(cache_pin(&f.op, f.cache, pins, 3), ERR_NOT_FOUND);
    for (size_t i = 0; i < 3; i++) {
        assert_null(pins[i].entry);
        assert_null(pins[i].data.data);
    }
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.pinned_bytes, 0);
    assert_int_equal(usage.entries, 2);
    /* What did arrive stays. */
    assert_int_equal(touch(&f, "a", 0, 10), ERR_OK);
    assert_int_equal(touch(&f, "b", 0, 10), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    fixture_release(&f);
}

static void pins_that_fill_the_budget_are_refused_until_released(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin first = pin_of("a", 0, 6000), second = pin_of("b", 0, 6000);
    struct cache_pin huge = pin_of("c", 0, 10001);
    fixture_init(&f, 10000);
    assert_int_equal(cache_pin(&f.op, f.cache, &first, 1), ERR_OK);
    assert_int_equal(cache_pin(&f.op, f.cache, &second, 1), ERR_BUSY);
    assert_int_equal(f.store.reads, 1);
    cache_unpin(f.cache, &first, 1);
    assert_int_equal(cache_pin(&f.op, f.cache, &second, 1), ERR_OK);
    assert_int_equal(cache_usage(f.cache).evictions, 1);
    cache_unpin(f.cache, &second, 1);
    assert_int_equal(cache_pin(&f.op, f.cache, &huge, 1), ERR_LIMIT);
    assert_int_equal(cache_usage(f.cache).evictions, 1);
    fixture_release(&f);
}

static void making_room_does_not_evict_what_the_call_hits(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin pins[2] = {pin_of("b", 0, 5000), pin_of("a", 0, 3000)};
    fixture_init(&f, 10000);
    assert_int_equal(touch(&f, "a", 0, 3000), ERR_OK);
    assert_int_equal(touch(&f, "c", 0, 3000), ERR_OK);
    assert_int_equal(cache_pin(&f.op, f.cache, pins, 2), ERR_OK);
    assert_int_equal(f.store.ranges, 3);
    assert_true(right(&pins[0]) && right(&pins[1]));
    cache_unpin(f.cache, pins, 2);
    fixture_release(&f);
}

static void reservations_take_from_the_same_budget(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin pin = pin_of("a", 0, 2000);
    fixture_init(&f, 10000);
    assert_int_equal(touch(&f, "b", 0, 4000), ERR_OK);
    assert_int_equal(cache_pin(&f.op, f.cache, &pin, 1), ERR_OK);
    assert_false(cache_reserve(f.cache, 8000));
    assert_int_equal(cache_usage(f.cache).evictions, 0);
    assert_true(cache_reserve(f.cache, 7000));
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.reserved_bytes, 7000);
    assert_int_equal(usage.evictions, 1);
    assert_true(usage.bytes + usage.reserved_bytes <= usage.memory_max);
    assert_int_equal(touch(&f, "b", 0, 4000), ERR_BUSY);
    assert_true(cache_reserve(f.cache, 0));
    assert_false(cache_reserve(f.cache, UINT64_MAX));
    cache_unreserve(f.cache, 7000);
    assert_int_equal(touch(&f, "b", 0, 4000), ERR_OK);
    cache_unpin(f.cache, &pin, 1);
    assert_true(cache_reserve(f.cache, 10000));
    assert_int_equal(cache_usage(f.cache).bytes, 0);
    cache_unreserve(f.cache, 10000);
    fixture_release(&f);
}

/* What the gauge of used memory says. */
static uint64_t memory_shown(void)
{
    double shown = metric_value("elacsym_cache_memory_bytes", -1);
    assert_true(shown >= 0);
    return (uint64_t)shown;
}

static void the_tables_are_a_part_of_the_budget(void **state)
{
    (void)state;
    static const uint64_t budgets[] = {1 << 20, 16 << 20, (16 << 20) + 1, 1 << 30};
    static const uint64_t slots[] = {1024, 1024, 1024, 65536};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        struct cache *c = cache_new(NULL, budgets[i]);
        uint64_t rest = budgets[i] - slots[i] * 16;
        assert_int_equal(cache_usage(c).memory_max, rest);
        assert_int_equal(memory_shown(), slots[i] * 16);
        assert_false(cache_reserve(c, rest + 1));
        assert_true(cache_reserve(c, rest));
        assert_int_equal(memory_shown(), budgets[i]);
        cache_unreserve(c, rest - 5);
        assert_int_equal(memory_shown(), slots[i] * 16 + 5);
        cache_unreserve(c, 5);
        cache_free(c);
    }
}

static void a_scan_does_not_evict_what_is_used_often(void **state)
{
    (void)state;
    struct fixture f;
    enum { HOT = 40, SIZE = 10000 };
    fixture_init(&f, 100 * SIZE);
    /* The hot ranges are half of what fits; the scan is thirty times what fits. */
    for (uint64_t round = 0; round < 4; round++)
        for (uint64_t i = 0; i < HOT; i++)
            assert_int_equal(touch(&f, "hot", i * SIZE, SIZE), ERR_OK);
    for (uint64_t i = 0; i < 3000; i++)
        assert_int_equal(touch(&f, "scan", i * SIZE, SIZE), ERR_OK);
    int before = f.store.reads;
    for (uint64_t i = 0; i < HOT; i++)
        assert_int_equal(touch(&f, "hot", i * SIZE, SIZE), ERR_OK);
    assert_int_equal(f.store.reads, before);
    fixture_release(&f);
}

static void what_is_no_longer_used_makes_way_at_last(void **state)
{
    (void)state;
    struct fixture f;
    enum { SIZE = 10000 };
    fixture_init(&f, 100 * SIZE);
    for (int round = 0; round < 4; round++)
        for (uint64_t i = 0; i < 80; i++)
            assert_int_equal(touch(&f, "old", i * SIZE, SIZE), ERR_OK);
    for (int round = 0; round < 20; round++)
        for (uint64_t i = 0; i < 80; i++)
            assert_int_equal(touch(&f, "new", i * SIZE, SIZE), ERR_OK);
    int before = f.store.reads;
    for (uint64_t i = 0; i < 80; i++)
        assert_int_equal(touch(&f, "new", i * SIZE, SIZE), ERR_OK);
    assert_in_range(f.store.reads - before, 0, 8);
    fixture_release(&f);
}

static void a_scan_of_ten_times_the_budget_stays_inside_it(void **state)
{
    (void)state;
    struct fixture f;
    enum { SIZE = 10000, BUDGET = 300000 };
    uint64_t most = 0;
    fixture_init(&f, BUDGET);
    assert_true(cache_reserve(f.cache, 50000));
    for (uint64_t i = 0; i < 10 * BUDGET / SIZE; i++) {
        assert_int_equal(touch(&f, "scan", i * SIZE, SIZE), ERR_OK);
        struct cache_usage usage = cache_usage(f.cache);
        assert_true(usage.bytes + usage.reserved_bytes <= BUDGET);
        if (usage.bytes > most) most = usage.bytes;
    }
    assert_true(most > BUDGET - 50000 - 2 * SIZE);
    cache_unreserve(f.cache, 50000);
    fixture_release(&f);
}

static void what_is_fetched_ahead_is_there_and_counted_once(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin ahead[2] = {pin_of("a", 0, 100), pin_of("b", 0, 100)};
    fixture_init(&f, 1 << 20);
    assert_int_equal(cache_pin_ahead(&f.op, f.cache, ahead, 2), ERR_OK);
    assert_true(right(&ahead[0]) && right(&ahead[1]));
    assert_int_equal(touch(&f, "a", 0, 100), ERR_OK);
    assert_int_equal(f.op.counters.cache_misses, 2);
    assert_int_equal(f.op.counters.cache_hits, 0);
    assert_int_equal(touch(&f, "a", 0, 100), ERR_OK);
    assert_int_equal(f.op.counters.cache_hits, 1);
    assert_int_equal(f.op.counters.cache_bytes, 100);
    assert_int_equal(f.op.counters.rounds, 1);
    cache_unpin(f.cache, ahead, 2);
    /* What is there already is pinned and not counted. */
    assert_int_equal(cache_pin_ahead(&f.op, f.cache, ahead, 2), ERR_OK);
    assert_int_equal(f.op.counters.cache_hits, 1);
    assert_int_equal(f.op.counters.cache_misses, 2);
    cache_unpin(f.cache, ahead, 2);
    fixture_release(&f);
}

/* As touch, for one who reads once. */
static enum err pass(struct fixture *f, const char *key, uint64_t offset, size_t size)
{
    f->op.reads_once = true;
    enum err e = touch(f, key, offset, size);
    f->op.reads_once = false;
    return e;
}

static void what_is_read_once_leaves_the_cache_as_it_was(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1 << 20);
    /* As much as fits, each asked for but once: any other scan would push it out. */
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(touch(&f, "used", i * 16384, 16384), ERR_OK);
    struct cache_usage before = cache_usage(f.cache);
    for (uint64_t i = 0; i < 500; i++)
        assert_int_equal(pass(&f, "passing", i * 16384, 16384), ERR_OK);
    assert_int_equal(f.store.reads, 540);
    struct cache_usage after = cache_usage(f.cache);
    assert_int_equal(after.entries, before.entries);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.evictions, 0);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(touch(&f, "used", i * 16384, 16384), ERR_OK);
    assert_int_equal(f.store.reads, 540);
    fixture_release(&f);
}

static void who_reads_once_is_served_from_memory_and_counts_as_no_use(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 64 << 10);
    assert_int_equal(touch(&f, "a", 0, 10000), ERR_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pass(&f, "a", 0, 10000), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(cache_usage(f.cache).hits, 5);
    /* Five uses would have kept it. */
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(touch(&f, "b", i * 10000, 10000), ERR_OK);
    assert_int_equal(touch(&f, "a", 0, 10000), ERR_OK);
    assert_int_equal(f.store.reads, 12);
    fixture_release(&f);
}

static void what_is_read_once_is_kept_if_others_want_it_meanwhile(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin passing[2] = {pin_of("a", 0, 1000), pin_of("b", 0, 1000)};
    fixture_init(&f, 1 << 20);
    f.op.reads_once = true;
    assert_int_equal(cache_pin(&f.op, f.cache, passing, 2), ERR_OK);
    f.op.reads_once = false;
    assert_int_equal(touch(&f, "a", 0, 1000), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    cache_unpin(f.cache, passing, 2);
    assert_int_equal(cache_usage(f.cache).entries, 1);
    assert_int_equal(touch(&f, "a", 0, 1000), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(touch(&f, "b", 0, 1000), ERR_OK);
    assert_int_equal(f.store.reads, 2);
    /* Forgotten while it passes: it goes all the same. */
    f.op.reads_once = true;
    assert_int_equal(cache_pin(&f.op, f.cache, passing, 2), ERR_OK);
    cache_forget(f.cache, "a", 0, 1000);
    struct cache_pin more = pin_of("c", 0, 1000);
    assert_int_equal(cache_pin(&f.op, f.cache, &more, 1), ERR_OK);
    cache_forget(f.cache, "c", 0, 1000);
    assert_true(right(&more));
    cache_unpin(f.cache, &more, 1);
    cache_unpin(f.cache, passing, 2);
    assert_int_equal(cache_usage(f.cache).entries, 1);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    fixture_release(&f);
}

static void a_failed_fetch_of_what_is_read_once_leaves_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1 << 20);
    assert_int_equal(pass(&f, "-gone", 0, 1000), ERR_NOT_FOUND);
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.entries, 0);
    assert_int_equal(usage.bytes, 0);
    fixture_release(&f);
}

static void ranges_of_a_forgotten_object_make_room_but_for_what_is_pinned(void **state)
{
    (void)state;
    const char *const gone[] = {"a", "c"};
    struct fixture f;
    struct cache_pin held = pin_of("a", 0, 100);
    fixture_init(&f, 1 << 20);
    assert_int_equal(cache_pin(&f.op, f.cache, &held, 1), ERR_OK);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(touch(&f, "a", 100 + i * 100, 100), ERR_OK);
        assert_int_equal(touch(&f, "b", i * 100, 100), ERR_OK);
        assert_int_equal(touch(&f, "c", i * 100, 100), ERR_OK);
    }
    cache_forget_objects(f.cache, gone, 2);
    assert_int_equal(cache_usage(f.cache).entries, 50);
    assert_true(right(&held));
    cache_unpin(f.cache, &held, 1);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    f.store.reads = 0;
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(touch(&f, "b", i * 100, 100), ERR_OK);
    assert_int_equal(f.store.reads, 0);
    assert_int_equal(touch(&f, "a", 0, 100), ERR_OK);
    assert_int_equal(f.store.reads, 1);
    fixture_release(&f);
}

static void a_forgotten_range_is_read_again_and_pins_keep_theirs(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin old = pin_of("a", 0, 100);
    fixture_init(&f, 1 << 20);
    cache_forget(f.cache, "a", 0, 100);
    assert_int_equal(cache_pin(&f.op, f.cache, &old, 1), ERR_OK);
    cache_forget(f.cache, "a", 0, 100);
    cache_forget(f.cache, "a", 0, 100);
    assert_int_equal(touch(&f, "a", 0, 100), ERR_OK);
    assert_int_equal(f.store.reads, 2);
    assert_true(right(&old));
    cache_unpin(f.cache, &old, 1);
    assert_int_equal(touch(&f, "a", 0, 100), ERR_OK);
    assert_int_equal(f.store.reads, 2);
    cache_forget(f.cache, "a", 0, 100);
    assert_int_equal(cache_usage(f.cache).bytes, 0);
    fixture_release(&f);
}

/* ---- with a disk below ---- */

enum { DISK_SIZE = 4 << 20, DISK_MEMORY = 8 << 20, PATIENCE_MS = 20000 };

static void disk_init(struct fixture *f, const struct scratch *s)
{
    log_init(LOG_ERROR, LOG_TEXT);
    fixture_init(f, DISK_MEMORY);
    cache_add_disk(f->cache, s->path, DISK_SIZE);
}

static void settled(struct fixture *f)
{
    int64_t deadline_ms = clock_ms() + PATIENCE_MS;
    while (cache_usage(f->cache).disk.queued_bytes > 0 && clock_ms() < deadline_ms)
        task_sleep_ms(2);
    assert_int_equal(cache_usage(f->cache).disk.queued_bytes, 0);
}

static void after_a_restart_ranges_come_from_the_disk(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    scratch_make_roomy(&s);
    disk_init(&f, &s);
    for (uint64_t i = 0; i < 30; i++) {
        assert_int_equal(touch(&f, "some/key", i * 30000, 30000), ERR_OK);
        if (i % 8 == 0) settled(&f);
    }
    assert_int_equal(f.op.counters.cache_misses, 30);
    fixture_release(&f);

    disk_init(&f, &s);
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(touch(&f, "some/key", i * 30000, 30000), ERR_OK);
    assert_int_equal(f.store.reads, 0);
    assert_int_equal(f.op.counters.disk_hits, 30);
    assert_int_equal(f.op.counters.disk_bytes, 30 * 30000);
    assert_int_equal(f.op.counters.cache_misses, 0);
    assert_int_equal(f.op.counters.rounds, 0);
    /* Half of a round from there, half from the store. */
    struct cache_pin pins[2] = {pin_of("new", 0, 10), pin_of("some/key", 0, 30000)};
    cache_forget(f.cache, "some/key", 30000, 30000);
    pins[1].offset = 30000;
    assert_int_equal(cache_pin(&f.op, f.cache, pins, 2), ERR_OK);
    assert_true(right(&pins[0]) && right(&pins[1]));
    assert_int_equal(f.store.ranges, 2);
    assert_int_equal(f.store.reads, 1);
    cache_unpin(f.cache, pins, 2);
    fixture_release(&f);
    scratch_remove(&s);
}

static enum err refuse_once(struct op *op, const void *context, uint64_t offset,
                            struct slice data)
{
    bool *refuse = *(bool *const *)context;
    (void)offset;
    (void)data;
    if (!*refuse) return ERR_OK;
    *refuse = false;
    return op_fail(op, ERR_CORRUPT, "made up");
}

static void what_the_check_refuses_of_the_disk_is_read_from_the_store(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    bool refuse = false, *const context = &refuse;
    struct cache_pin pin = pin_of("k", 0, 5000);
    pin.check = refuse_once;
    pin.context = (const void *)&context;
    scratch_make_roomy(&s);
    disk_init(&f, &s);
    assert_int_equal(cache_pin(&f.op, f.cache, &pin, 1), ERR_OK);
    cache_unpin(f.cache, &pin, 1);
    fixture_release(&f);

    disk_init(&f, &s);
    refuse = true;
    assert_int_equal(cache_pin(&f.op, f.cache, &pin, 1), ERR_OK);
    assert_true(right(&pin));
    assert_false(refuse);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(f.op.counters.disk_hits, 0);
    assert_string_equal(f.op.error, "");
    cache_unpin(f.cache, &pin, 1);
    fixture_release(&f);
    scratch_remove(&s);
}

static void what_memory_is_asked_for_twice_gets_onto_a_full_disk(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    scratch_make_roomy(&s);
    disk_init(&f, &s);
    for (uint64_t i = 0; i < 1000; i++) { /* five times the disk */
        assert_int_equal(touch(&f, "scan", i * 20000, 20000), ERR_OK);
        if (i % 8 == 0) settled(&f);
    }
    settled(&f);
    uint64_t before = cache_usage(f.cache).disk.written_bytes;
    assert_true(before <= DISK_SIZE);
    assert_int_equal(touch(&f, "late", 0, 20000), ERR_OK);
    settled(&f);
    assert_int_equal(cache_usage(f.cache).disk.written_bytes, before);
    assert_int_equal(touch(&f, "late", 0, 20000), ERR_OK);
    settled(&f);
    assert_int_equal(cache_usage(f.cache).disk.written_bytes, before + 20000);
    fixture_release(&f);
    scratch_remove(&s);
}

static void what_is_read_once_is_not_written_to_the_disk(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    scratch_make_roomy(&s);
    disk_init(&f, &s);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pass(&f, "a", 0, 20000), ERR_OK);
    settled(&f);
    assert_int_equal(f.store.reads, 3);
    assert_int_equal(cache_usage(f.cache).disk.written_bytes, 0);
    /* What the disk has already serves, and stays. */
    assert_int_equal(touch(&f, "b", 0, 20000), ERR_OK);
    settled(&f);
    fixture_release(&f);
    disk_init(&f, &s);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pass(&f, "b", 0, 20000), ERR_OK);
    assert_int_equal(f.store.reads, 0);
    assert_int_equal(cache_usage(f.cache).entries, 0);
    fixture_release(&f);
    scratch_remove(&s);
}

static void the_budget_of_memory_includes_the_disks_index(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    scratch_make_roomy(&s);
    disk_init(&f, &s);
    assert_int_equal(cache_usage(f.cache).reserved_bytes, DISK_MEMORY / 8);
    assert_true(cache_usage(f.cache).disk.index_bytes <= DISK_MEMORY / 8);
    assert_false(cache_reserve(f.cache, DISK_MEMORY));
    fixture_release(&f);
    scratch_remove(&s);
}

/* ---- buffers of merged requests ---- */

/* Ranges side by side, so that they are asked for at once. */
static enum err touch_neighbours(struct fixture *f, const char *key)
{
    struct cache_pin pins[4];
    for (size_t i = 0; i < 4; i++)
        pins[i] = pin_of(key, i * 1000, 1000);
    enum err e = cache_pin(&f->op, f->cache, pins, 4);
    for (size_t i = 0; i < 4 && !e; i++)
        assert_true(right(&pins[i]));
    cache_unpin(f->cache, pins, 4);
    return e;
}

static void buffers_of_merged_requests_are_inside_the_budget(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 16 * 4000);
    cache_gather(f.cache);
    f.store.watched = f.cache;
    assert_int_equal(touch_neighbours(&f, "a"), ERR_OK);
    assert_int_equal(f.store.ranges, 1);
    assert_int_equal(f.store.most_reserved, 4000);
    assert_int_equal(cache_usage(f.cache).reserved_bytes, 0);
    for (uint64_t i = 0; i < 200; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%llu", (unsigned long long)i);
        assert_int_equal(touch_neighbours(&f, key), ERR_OK);
    }
    assert_true(f.store.most_used <= cache_usage(f.cache).memory_max);
    assert_int_equal(f.store.ranges, 201);
    fixture_release(&f);
}

static void without_room_for_a_buffer_each_range_is_a_request(void **state)
{
    (void)state;
    struct fixture f;
    struct cache_pin most = pin_of("b", 0, 16 * 4000 - 10000);
    fixture_init(&f, 16 * 4000);
    cache_gather(f.cache);
    f.store.watched = f.cache;
    assert_int_equal(cache_pin(&f.op, f.cache, &most, 1), ERR_OK);
    assert_int_equal(touch_neighbours(&f, "a"), ERR_OK);
    assert_int_equal(f.store.most_reserved, 0);
    assert_int_equal(f.store.ranges, 1 + 4);
    cache_unpin(f.cache, &most, 1);
    fixture_release(&f);
}

/* ---- random use ---- */

enum { HELD = 12, HELD_PINS = 3, RANDOM_STEPS = 20000 };

struct holder {
    struct fixture f;
    struct cache_pin held[HELD][HELD_PINS];
    size_t counts[HELD];
    uint64_t random, reserved;
    int refused, failed;
};

static void reserve_anew(struct holder *h)
{
    cache_unreserve(h->f.cache, h->reserved);
    h->reserved = test_random(&h->random) % 50000;
    if (!cache_reserve(h->f.cache, h->reserved)) h->reserved = 0;
}

static void drop(struct holder *h, size_t at)
{
    cache_unpin(h->f.cache, h->held[at], h->counts[at]);
    h->counts[at] = 0;
}

/* Some of the ranges do not exist, and now and then the store fails. */
static void hold_some(struct holder *h, size_t at)
{
    static const char *const keys[] = {"a", "b", "c", "d", "-x"};
    size_t n = 1 + test_random(&h->random) % HELD_PINS;

    h->f.store.failures_left = test_random(&h->random) % 20 == 0;
    for (size_t i = 0; i < n; i++) {
        bool gone = test_random(&h->random) % 50 == 0;
        h->held[at][i] = pin_of(keys[gone ? 4 : test_random(&h->random) % 4],
                                test_random(&h->random) % 8 * 1000,
                                1 + test_random(&h->random) % 4 * 1700);
    }
    op_clear_error(&h->f.op);
    h->f.op.reads_once = test_random(&h->random) % 4 == 0;
    enum err e = cache_pin(&h->f.op, h->f.cache, h->held[at], n);
    assert_true(e == ERR_OK || e == ERR_BUSY || e == ERR_IO || e == ERR_NOT_FOUND);
    h->refused += e == ERR_BUSY;
    h->failed += e && e != ERR_BUSY;
    h->counts[at] = e ? 0 : n;
}

static void check_held(struct holder *h)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < HELD; i++)
        for (size_t k = 0; k < h->counts[i]; k++) {
            assert_true(right(&h->held[i][k]));
            if (h->held[i][k].size > largest) largest = h->held[i][k].size;
        }
    struct cache_usage usage = cache_usage(h->f.cache);
    assert_true(usage.bytes + usage.reserved_bytes <= usage.memory_max);
    assert_true(usage.pinned_bytes <= usage.bytes && usage.pinned_bytes >= largest);
    assert_int_equal(usage.reserved_bytes, h->reserved);
}

static void check_empties(struct fixture *f)
{
    assert_int_equal(cache_usage(f->cache).pinned_bytes, 0);
    assert_true(cache_reserve(f->cache, 60000));
    struct cache_usage usage = cache_usage(f->cache);
    assert_int_equal(usage.bytes, 0);
    assert_int_equal(usage.entries, 0);
    cache_unreserve(f->cache, 60000);
}

static void the_budget_is_kept_through_random_use(void **state)
{
    (void)state;
    struct holder h = {.random = test_seed()};

    fixture_init(&h.f, 60000);
    for (int step = 0; step < RANDOM_STEPS; step++) {
        size_t at = test_random(&h.random) % HELD;
        drop(&h, at);
        if (test_random(&h.random) % 10 == 0) reserve_anew(&h);
        if (test_random(&h.random) % 3) hold_some(&h, at);
        check_held(&h);
    }
    for (size_t i = 0; i < HELD; i++)
        drop(&h, i);
    assert_true(h.refused > 100 && h.failed > 100);
    cache_unreserve(h.f.cache, h.reserved);
    check_empties(&h.f);
    fixture_release(&h.f);
}

enum { THREADS = 8 };

struct visitor {
    struct fixture *fixture;
    uint64_t seed;
    int64_t deadline_ms;
    enum err err;
    bool right;
};

static void visit(void *arg)
{
    struct visitor *v = arg;
    struct op op;
    struct cache_pin pin = pin_of("shared", 0, 500);
    op_init(&op, v->deadline_ms, 0);
    v->err = cache_pin(&op, v->fixture->cache, &pin, 1);
    v->right = !v->err && right(&pin);
    cache_unpin(v->fixture->cache, &pin, 1);
    op_release(&op);
}

static void visit_all(struct fixture *f, struct visitor visitors[THREADS])
{
    struct thread *threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        visitors[i] = (struct visitor){.fixture = f, .deadline_ms = OP_NO_DEADLINE};
        threads[i] = thread_start("visitor", visit, &visitors[i]);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
}

static void a_range_being_fetched_is_fetched_once(void **state)
{
    (void)state;
    struct fixture f;
    struct visitor visitors[THREADS];
    fixture_init(&f, 1 << 20);
    f.store.delay_ms = 100;
    visit_all(&f, visitors);
    for (int i = 0; i < THREADS; i++)
        assert_true(visitors[i].right);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    fixture_release(&f);
}

static void a_range_on_its_way_from_the_disk_is_fetched_once_too(void **state)
{
    (void)state;
    struct fixture f;
    struct scratch s;
    struct visitor visitors[THREADS];
    scratch_make_roomy(&s);
    for (int times = 0; times < 2; times++) {
        disk_init(&f, &s);
        f.store.delay_ms = 50;
        visit_all(&f, visitors);
        for (int i = 0; i < THREADS; i++)
            assert_true(visitors[i].right);
        assert_int_equal(f.store.reads, times == 0);
        fixture_release(&f);
    }
    scratch_remove(&s);
}

static void after_a_failed_fetch_the_waiters_try_themselves(void **state)
{
    (void)state;
    struct fixture f;
    struct visitor visitors[THREADS];
    int failed = 0;
    fixture_init(&f, 1 << 20);
    f.store.delay_ms = 100;
    f.store.failures_left = 2;
    visit_all(&f, visitors);
    for (int i = 0; i < THREADS; i++) {
        if (visitors[i].err) assert_int_equal(visitors[i].err, ERR_IO);
        if (visitors[i].err) failed++;
    }
    assert_int_equal(failed, 2);
    assert_int_equal(f.store.reads, 3);
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.pinned_bytes, 0);
    assert_int_equal(usage.entries, 1);
    fixture_release(&f);
}

static void a_waiter_leaves_at_its_deadline_and_the_fetch_goes_on(void **state)
{
    (void)state;
    struct fixture f;
    struct visitor slow, hasty;
    fixture_init(&f, 1 << 20);
    atomic_store(&f.store.hold, true);
    slow = (struct visitor){.fixture = &f, .deadline_ms = OP_NO_DEADLINE};
    struct thread *thread = thread_start("visitor", visit, &slow);
    while (!atomic_load(&f.store.begun))
        task_sleep_ms(1);
    hasty = (struct visitor){.fixture = &f, .deadline_ms = clock_ms() + 30};
    visit(&hasty);
    assert_int_equal(hasty.err, ERR_TIMEOUT);
    atomic_store(&f.store.hold, false);
    thread_join(thread);
    assert_true(slow.right);
    assert_int_equal(f.store.reads, 1);
    assert_int_equal(cache_usage(f.cache).pinned_bytes, 0);
    fixture_release(&f);
}

static void roam(void *arg)
{
    struct visitor *v = arg;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (int i = 0; i < 3000 && !v->err; i++) {
        struct cache_pin pins[4];
        for (size_t k = 0; k < 4; k++)
            pins[k] = pin_of("roam", test_random(&v->seed) % 60 * 100, 1000);
        op_clear_error(&op);
        op.reads_once = test_random(&v->seed) % 4 == 0;
        enum err e = cache_pin(&op, v->fixture->cache, pins, 4);
        for (size_t k = 0; k < 4 && !e; k++)
            if (!right(&pins[k])) e = ERR_CORRUPT;
        if (e != ERR_BUSY && e != ERR_IO) v->err = e;
        cache_unpin(v->fixture->cache, pins, 4);
        if (cache_reserve(v->fixture->cache, 3000)) {
            struct cache_usage usage = cache_usage(v->fixture->cache);
            if (usage.bytes + usage.reserved_bytes > usage.memory_max)
                v->err = ERR_LIMIT;
            cache_unreserve(v->fixture->cache, 3000);
        }
    }
    op_release(&op);
}

static void many_threads_share_a_cache_too_small_for_them(void **state)
{
    (void)state;
    struct fixture f;
    struct visitor visitors[THREADS];
    struct thread *threads[THREADS];
    uint64_t seed = test_seed();

    fixture_init(&f, 25000);
    f.store.failures_left = 50;
    for (int i = 0; i < THREADS; i++) {
        visitors[i] = (struct visitor){.fixture = &f, .seed = seed + (uint64_t)i};
        threads[i] = thread_start("roamer", roam, &visitors[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
        assert_int_equal(visitors[i].err, ERR_OK);
    }
    struct cache_usage usage = cache_usage(f.cache);
    assert_int_equal(usage.pinned_bytes, 0);
    assert_int_equal(usage.reserved_bytes, 0);
    assert_true(usage.hits > 0 && usage.evictions > 0);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_read_once_and_then_comes_from_memory),
        cmocka_unit_test(all_misses_of_a_call_are_one_read),
        cmocka_unit_test(pinned_bytes_are_aligned_for_vectors),
        cmocka_unit_test(the_budget_counts_what_the_allocator_gives),
        cmocka_unit_test(what_is_put_is_there_without_a_read),
        cmocka_unit_test(what_has_no_room_is_not_put),
        cmocka_unit_test(what_is_put_outlives_what_is_read_once),
        cmocka_unit_test(a_call_pins_all_or_nothing),
        cmocka_unit_test(pins_that_fill_the_budget_are_refused_until_released),
        cmocka_unit_test(making_room_does_not_evict_what_the_call_hits),
        cmocka_unit_test(reservations_take_from_the_same_budget),
        cmocka_unit_test(the_tables_are_a_part_of_the_budget),
        cmocka_unit_test(a_scan_does_not_evict_what_is_used_often),
        cmocka_unit_test(what_is_no_longer_used_makes_way_at_last),
        cmocka_unit_test(a_scan_of_ten_times_the_budget_stays_inside_it),
        cmocka_unit_test(what_is_fetched_ahead_is_there_and_counted_once),
        cmocka_unit_test(what_is_read_once_leaves_the_cache_as_it_was),
        cmocka_unit_test(who_reads_once_is_served_from_memory_and_counts_as_no_use),
        cmocka_unit_test(what_is_read_once_is_kept_if_others_want_it_meanwhile),
        cmocka_unit_test(a_failed_fetch_of_what_is_read_once_leaves_nothing),
        cmocka_unit_test(a_forgotten_range_is_read_again_and_pins_keep_theirs),
        cmocka_unit_test(ranges_of_a_forgotten_object_make_room_but_for_what_is_pinned),
        cmocka_unit_test(after_a_restart_ranges_come_from_the_disk),
        cmocka_unit_test(what_the_check_refuses_of_the_disk_is_read_from_the_store),
        cmocka_unit_test(what_memory_is_asked_for_twice_gets_onto_a_full_disk),
        cmocka_unit_test(what_is_read_once_is_not_written_to_the_disk),
        cmocka_unit_test(the_budget_of_memory_includes_the_disks_index),
        cmocka_unit_test(buffers_of_merged_requests_are_inside_the_budget),
        cmocka_unit_test(without_room_for_a_buffer_each_range_is_a_request),
        cmocka_unit_test(the_budget_is_kept_through_random_use),
        cmocka_unit_test(a_range_being_fetched_is_fetched_once),
        cmocka_unit_test(a_range_on_its_way_from_the_disk_is_fetched_once_too),
        cmocka_unit_test(after_a_failed_fetch_the_waiters_try_themselves),
        cmocka_unit_test(a_waiter_leaves_at_its_deadline_and_the_fetch_goes_on),
        cmocka_unit_test(many_threads_share_a_cache_too_small_for_them),
    };
    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
