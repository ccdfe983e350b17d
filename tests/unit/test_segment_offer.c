#include <string.h>

#include "unit/segment_world.h"
#include "unit/test.h"

enum { CACHE_SIZE = 64 << 20 };

/* An object twice in the store: as it was before a merge, and as the merge's result;
 * and once more in memory. */
struct guest {
    struct world world;
    struct store *store;
    struct cache *cache;
    struct segment *held, *old, *made;
    struct op op;
};

static void open_all(struct guest *g, uint64_t cache_size)
{
    struct slice bytes = buf_slice(&g->world.bytes);
    g->cache = cache_new(g->store, cache_size);
    assert_int_equal(guise_open(&g->op, IN_MEMORY, bytes, NULL, NULL, &g->held),
                     ERR_OK);
    assert_int_equal(segment_open(&g->op, g->cache, "old", bytes.size, &g->old),
                     ERR_OK);
    assert_int_equal(segment_open(&g->op, g->cache, "made", bytes.size, &g->made),
                     ERR_OK);
}

static void close_all(struct guest *g)
{
    segment_unref(g->held);
    segment_unref(g->old);
    segment_unref(g->made);
    assert_int_equal(cache_usage(g->cache).pinned_bytes, 0);
    cache_free(g->cache);
}

static int guest_make(void **state)
{
    static struct guest guest;
    struct guest *g = *state = &guest;
    uint64_t rng = test_seed();
    guest = (struct guest){.store = store_mem_new()};
    op_init(&g->op, OP_NO_DEADLINE, 0);
    world_make(&g->world, &rng,
               (struct world_shape){.row_count = 3000,
                                    .vector_dim = 30,
                                    .attr_count = 6,
                                    .vector_percent = 90,
                                    .index_from = 1});
    struct slice bytes = buf_slice(&g->world.bytes);
    assert_int_equal(store_put(&g->op, g->store, "old", &bytes, 1), ERR_OK);
    assert_int_equal(store_put(&g->op, g->store, "made", &bytes, 1), ERR_OK);
    open_all(g, CACHE_SIZE);
    return 0;
}

static int guest_release(void **state)
{
    struct guest *g = *state;
    close_all(g);
    store_free(g->store);
    op_release(&g->op);
    world_release(&g->world);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, guest_make, guest_release)

static void offer(struct guest *g, struct segment *old)
{
    struct segment_input input = {.segment = old};
    segment_offer(&g->op, g->made, buf_slice(&g->world.bytes), &input, 1);
}

/* Reads all texts and columns; the bytes that came from the store. */
static uint64_t view(struct guest *g, struct segment *s)
{
    struct everything all;
    struct segment_view *v;
    uint64_t before = g->op.counters.store_bytes;
    want_everything(&all, g->world.schema->attr_count);
    all.want.positions = false;
    assert_int_equal(segment_view_open(&g->op, s, &all.want, &v), ERR_OK);
    segment_view_close(v);
    return g->op.counters.store_bytes - before;
}

/* Of the records of the vector index, how many are in memory; each as in the object. */
static uint32_t records_near(struct guest *g, struct segment *s)
{
    uint32_t near = 0;
    for (uint32_t i = 0; i < ivf_clusters(s->ivf); i++) {
        struct ivf_record r = ivf_record_of(s->ivf, i);
        struct cache_pin pin = segment_range(s, s->records->offset + r.offset, r.size);
        if (!cache_has(g->cache, &pin)) continue;
        near++;
        assert_int_equal(cache_pin(&g->op, g->cache, &pin, 1), ERR_OK);
        assert_memory_equal(pin.data.data, g->world.bytes.data + pin.offset, pin.size);
        cache_unpin(g->cache, &pin, 1);
    }
    return near;
}

static void of_what_was_made_from_memory_searches_read_nothing(void **state)
{
    struct guest *g = *state;
    assert_true(view(g, g->old) > 0); /* which it takes without an offer */
    offer(g, g->held);
    assert_int_equal(view(g, g->made), 0);
    assert_int_equal(records_near(g, g->made), ivf_clusters(g->made->ivf));
}

static void what_nobody_read_of_the_old_is_not_kept_of_the_new(void **state)
{
    struct guest *g = *state;
    uint64_t entries = cache_usage(g->cache).entries;
    offer(g, g->old);
    assert_int_equal(cache_usage(g->cache).entries, entries);
}

static void each_section_goes_by_what_was_read_of_it(void **state)
{
    struct guest *g = *state;
    (void)view(g, g->old);
    offer(g, g->old);
    assert_int_equal(records_near(g, g->made), 0);
    assert_int_equal(view(g, g->made), 0);
}

static void most_of_the_rows_decide(void **state)
{
    struct guest *g = *state;
    struct segment_input inputs[] = {{.segment = g->held},
                                     {.segment = g->old},
                                     {.segment = g->old},
                                     {.segment = g->held},
                                     {.segment = g->held}};
    struct slice bytes = buf_slice(&g->world.bytes);
    segment_offer(&g->op, g->made, bytes, inputs, 4);
    assert_int_equal(records_near(g, g->made), 0);
    segment_offer(&g->op, g->made, bytes, inputs, 5);
    assert_int_equal(records_near(g, g->made), ivf_clusters(g->made->ivf));
}

static void an_offer_takes_half_of_the_budget_at_most(void **state)
{
    struct guest *g = *state;
    close_all(g);
    open_all(g, g->world.bytes.size / 6);
    uint64_t before = cache_usage(g->cache).bytes;
    offer(g, g->held);
    uint64_t taken = cache_usage(g->cache).bytes - before;
    assert_in_range(taken, 1, cache_usage(g->cache).memory_max * 2 / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(of_what_was_made_from_memory_searches_read_nothing),
        TEST(what_nobody_read_of_the_old_is_not_kept_of_the_new),
        TEST(each_section_goes_by_what_was_read_of_it),
        TEST(most_of_the_rows_decide),
        TEST(an_offer_takes_half_of_the_budget_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
