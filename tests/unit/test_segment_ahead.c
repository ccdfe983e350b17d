#include "segment/segment_ahead.h"

#include "unit/segment_world.h"
#include "unit/test.h"

enum { SEGMENTS = 5, CACHE_SIZE = 64 << 20 };

/* The same segment under several names, larger than what opening it reads at once. */
struct objects {
    struct world world;
    struct store *store;
    struct cache *cache;
    char names[SEGMENTS][16];
    struct segment_object list[SEGMENTS];
    struct segment *segments[SEGMENTS];
    struct op op;
};

static void cold_cache(struct objects *o, uint64_t size)
{
    cache_free(o->cache);
    o->cache = cache_new(o->store, size);
    o->op.counters = (struct op_counters){0};
}

static int objects_make(void **state)
{
    static struct objects objects;
    struct objects *o = *state = &objects;
    uint64_t rng = test_seed();
    objects = (struct objects){0};
    op_init(&o->op, OP_NO_DEADLINE, 0);
    world_make(&o->world, &rng,
               (struct world_shape){.row_count = 3000,
                                    .vector_dim = 30,
                                    .attr_count = 6,
                                    .string_ids = true,
                                    .vector_percent = 90});
    o->store = store_mem_new();
    struct slice bytes = buf_slice(&o->world.bytes);
    for (size_t i = 0; i < SEGMENTS; i++) {
        (void)snprintf(o->names[i], sizeof o->names[i], "segment-%zu", i);
        assert_int_equal(store_put(&o->op, o->store, o->names[i], &bytes, 1), ERR_OK);
        o->list[i] = (struct segment_object){.key = o->names[i], .size = bytes.size};
    }
    cold_cache(o, CACHE_SIZE);
    return 0;
}

static void open_all(struct objects *o)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_open(&o->op, o->cache, o->list[i].key, o->list[i].size,
                                      &o->segments[i]),
                         ERR_OK);
    o->op.counters = (struct op_counters){0};
}

static void close_all(struct objects *o)
{
    for (size_t i = 0; i < SEGMENTS; i++) {
        segment_unref(o->segments[i]);
        o->segments[i] = NULL;
    }
}

static int objects_release(void **state)
{
    struct objects *o = *state;
    close_all(o);
    assert_true(cache_usage(o->cache).pinned_bytes == 0);
    cache_free(o->cache);
    store_free(o->store);
    op_release(&o->op);
    world_release(&o->world);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, objects_make, objects_release)

static void segments_are_opened_in_two_rounds_however_many(void **state)
{
    struct objects *o = *state;
    segment_open_ahead(&o->op, o->cache, o->list, SEGMENTS, NULL, 0);
    assert_int_equal(o->op.counters.rounds, 2);
    uint64_t bytes = o->op.counters.store_bytes;
    open_all(o);
    close_all(o);
    cold_cache(o, CACHE_SIZE);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_open(&o->op, o->cache, o->list[i].key, o->list[i].size,
                                      &o->segments[i]),
                         ERR_OK);
    assert_int_equal(o->op.counters.rounds, 2 * SEGMENTS); /* what it saves */
    assert_int_equal(o->op.counters.store_bytes, bytes);
}

static void with_rows_known_segments_and_other_ranges_come_in_one_round(void **state)
{
    struct objects *o = *state;
    struct cache_pin more = {.key = o->names[1], .offset = 100, .size = 50};
    for (size_t i = 0; i < SEGMENTS; i++)
        o->list[i].rows = 20000; /* what string ids take, in rows with numbers */
    segment_open_ahead(&o->op, o->cache, o->list, SEGMENTS, &more, 1);
    assert_int_equal(o->op.counters.rounds, 1);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_open_object(&o->op, o->cache, &o->list[i],
                                             &o->segments[i]),
                         ERR_OK);
    assert_int_equal(cache_pin(&o->op, o->cache, &more, 1), ERR_OK);
    assert_int_equal(o->op.counters.rounds, 1);
    cache_unpin(o->cache, &more, 1);
}

static void a_known_end_is_read_in_one_round_and_nothing_else_is(void **state)
{
    struct objects *o = *state;
    struct cache_pin none = CACHE_PIN_INIT;
    uint64_t ends = 0;
    open_all(o);
    for (size_t i = 0; i < SEGMENTS; i++) {
        o->list[i].end_size = segment_end_size(o->segments[i]);
        o->list[i].rows = 20000; /* less is known by them */
        assert_true(o->list[i].end_size > SEGMENT_OPEN_TAIL);
        ends += o->list[i].end_size;
    }
    close_all(o);
    cold_cache(o, CACHE_SIZE);
    segment_open_ahead(&o->op, o->cache, o->list, SEGMENTS, &none, 0);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_open_object(&o->op, o->cache, &o->list[i],
                                             &o->segments[i]),
                         ERR_OK);
    assert_int_equal(o->op.counters.rounds, 1);
    assert_int_equal(o->op.counters.store_bytes, ends);
}

static void however_much_is_expected_at_its_end_a_segment_is_the_same(void **state)
{
    struct objects *o = *state;
    static const uint32_t rows[] = {1, 3000, 7000, 7500, 12000, 50000, UINT32_MAX};
    struct buf expected = BUF_INIT, described = BUF_INIT;
    open_all(o);
    segment_describe(o->segments[0], &expected);
    close_all(o);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct segment *s;
        cold_cache(o, CACHE_SIZE);
        o->list[0].rows = rows[i];
        o->list[0].end_size = i % 2 ? rows[i] % o->list[0].size : 0;
        assert_int_equal(segment_open_object(&o->op, o->cache, &o->list[0], &s),
                         ERR_OK);
        buf_clear(&described);
        segment_describe(s, &described);
        assert_true(slice_equal(buf_slice(&described), buf_slice(&expected)));
        assert_int_equal(segment_verify(&o->op, s), ERR_OK);
        segment_unref(s);
    }
    buf_release(&expected);
    buf_release(&described);
}

static void opening_ahead_leaves_failures_to_those_who_open(void **state)
{
    struct objects *o = *state;
    const char *gone = o->names[2];
    assert_int_equal(store_delete(&o->op, o->store, &gone, 1), ERR_OK);
    segment_open_ahead(&o->op, o->cache, o->list, SEGMENTS, NULL, 0);
    assert_string_equal(o->op.error, "");
    assert_int_equal(segment_open(&o->op, o->cache, o->list[0].key, o->list[0].size,
                                  &o->segments[0]),
                     ERR_OK);
    assert_int_equal(segment_open(&o->op, o->cache, gone, o->list[2].size,
                                  &o->segments[2]),
                     ERR_NOT_FOUND);
    close_all(o);
    cold_cache(o, 1 << 16); /* and lack of room too */
    op_clear_error(&o->op);
    segment_open_ahead(&o->op, o->cache, o->list, SEGMENTS, NULL, 0);
    assert_string_equal(o->op.error, "");
    segment_open_ahead(&o->op, o->cache, o->list, 0, NULL, 0);
}

static void a_filter_over_many_segments_takes_one_round(void **state)
{
    struct objects *o = *state;
    open_all(o);
    int rounds_spent = 0;
    for (size_t f = 0; f < WORLD_FILTERS; f++) {
        struct segment_ahead *ahead = segment_ahead_new();
        uint64_t before = o->op.counters.rounds;
        for (size_t i = 0; i < SEGMENTS; i++)
            segment_ahead_filter(ahead, o->segments[i], o->world.filters[f]);
        assert_int_equal(segment_ahead_read(&o->op, ahead), ERR_OK);
        assert_true(o->op.counters.rounds <= before + 1);
        rounds_spent += o->op.counters.rounds > before;
        before = o->op.counters.rounds;
        for (size_t i = 0; i < SEGMENTS; i++) {
            struct rowset *rows;
            assert_int_equal(segment_filter(&o->op, o->segments[i], o->world.filters[f],
                                            NULL, NULL, &rows),
                             ERR_OK);
            rowset_unref(rows);
        }
        assert_int_equal(o->op.counters.rounds, before);
        segment_ahead_free(ahead);
    }
    assert_int_equal(o->op.counters.cache_misses, o->op.counters.store_requests);
    assert_true(rounds_spent > 0);
}

static void views_and_documents_of_many_segments_take_one_round_each(void **state)
{
    struct objects *o = *state;
    struct everything all;
    uint32_t rows[] = {2999, 7, 8, 1500};
    struct segment_fetch what = {.vector = true, .attributes = true};
    struct segment_view *views[SEGMENTS];
    struct doc docs[COUNT_OF(rows)];
    want_everything(&all, 6);
    open_all(o);

    struct segment_ahead *ahead = segment_ahead_new();
    for (size_t i = 0; i < SEGMENTS; i++)
        segment_ahead_view(ahead, o->segments[i], &all.want);
    assert_int_equal(segment_ahead_read(&o->op, ahead), ERR_OK);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_view_open(&o->op, o->segments[i], &all.want,
                                           &views[i]),
                         ERR_OK);
    segment_ahead_free(ahead);
    assert_int_equal(o->op.counters.rounds, 1);
    for (size_t i = 0; i < SEGMENTS; i++)
        segment_view_close(views[i]);

    ahead = segment_ahead_new();
    for (size_t i = 0; i < SEGMENTS; i++)
        segment_ahead_fetch(ahead, o->segments[i], rows, COUNT_OF(rows), what);
    assert_int_equal(segment_ahead_read(&o->op, ahead), ERR_OK);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(segment_fetch(&o->op, o->segments[i], o->world.schema, rows,
                                       COUNT_OF(rows), what, docs),
                         ERR_OK);
    segment_ahead_free(ahead);
    assert_int_equal(o->op.counters.rounds, 2);
    assert_int_equal(o->op.counters.cache_hits, 0);
}

static void one_segment_needs_no_planning_and_no_room_is_no_failure(void **state)
{
    struct objects *o = *state;
    uint32_t rows[] = {1, 2, 3};
    struct segment_fetch what = {.vector = true, .attributes = true};
    open_all(o);
    struct segment_ahead *ahead = segment_ahead_new();
    segment_ahead_fetch(ahead, o->segments[0], rows, 3, what);
    assert_int_equal(segment_ahead_read(&o->op, ahead), ERR_OK);
    assert_int_equal(o->op.counters.rounds, 0);
    segment_ahead_free(ahead);

    struct cache_usage usage = cache_usage(o->cache);
    uint64_t rest = usage.memory_max - usage.reserved_bytes;
    assert_true(cache_reserve(o->cache, rest));
    ahead = segment_ahead_new();
    for (size_t i = 0; i < SEGMENTS; i++)
        segment_ahead_fetch(ahead, o->segments[i], rows, 3, what);
    assert_int_equal(segment_ahead_read(&o->op, ahead), ERR_OK);
    assert_string_equal(o->op.error, "");
    segment_ahead_free(ahead);
    segment_ahead_free(NULL);
    cache_unreserve(o->cache, rest);
}

static void what_segments_hold_counts_in_the_budget(void **state)
{
    struct objects *o = *state;
    uint64_t held = 0;
    open_all(o);
    for (size_t i = 0; i < SEGMENTS; i++)
        held += segment_memory(o->segments[i]);
    assert_int_equal(cache_usage(o->cache).reserved_bytes, held);
    close_all(o);
    assert_int_equal(cache_usage(o->cache).reserved_bytes, 0);

    cold_cache(o, held / SEGMENTS * 2);
    struct segment *s, *none;
    assert_int_equal(segment_open(&o->op, o->cache, o->list[0].key, o->list[0].size,
                                  &s),
                     ERR_OK);
    uint64_t rest = cache_usage(o->cache).memory_max - segment_memory(s);
    assert_true(cache_reserve(o->cache, rest));
    assert_int_equal(segment_open(&o->op, o->cache, o->list[1].key, o->list[1].size,
                                  &none),
                     ERR_BUSY);
    cache_unreserve(o->cache, rest);
    segment_unref(s);
}

/* A store that answers with damaged bytes until it is told to stop. */
struct liar {
    struct store base;
    struct store *inner;
    bool lies;
};

static enum err liar_read(struct op *op, struct store *s, struct store_range *ranges,
                          size_t n)
{
    struct liar *liar = (struct liar *)s;
    enum err e = store_read(op, liar->inner, ranges, n);
    for (size_t i = 0; i < n && liar->lies; i++)
        ranges[i].data[ranges[i].size / 2] ^= 1;
    return e;
}

static const struct store_ops liar_ops = {.name = "liar", .read = liar_read};

static void a_damaged_answer_is_not_kept(void **state)
{
    struct objects *o = *state;
    struct liar liar = {.base.ops = &liar_ops, .inner = o->store, .lies = true};
    struct cache *cache = cache_new(&liar.base, CACHE_SIZE);
    struct segment *s;
    for (int times = 0; times < 2; times++)
        assert_int_equal(segment_open(&o->op, cache, o->list[0].key, o->list[0].size,
                                      &s),
                         ERR_CORRUPT);
    liar.lies = false;
    op_clear_error(&o->op);
    assert_int_equal(segment_open(&o->op, cache, o->list[0].key, o->list[0].size, &s),
                     ERR_OK);
    segment_unref(s);
    cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(segments_are_opened_in_two_rounds_however_many),
        TEST(with_rows_known_segments_and_other_ranges_come_in_one_round),
        TEST(a_known_end_is_read_in_one_round_and_nothing_else_is),
        TEST(however_much_is_expected_at_its_end_a_segment_is_the_same),
        TEST(opening_ahead_leaves_failures_to_those_who_open),
        TEST(a_filter_over_many_segments_takes_one_round),
        TEST(views_and_documents_of_many_segments_take_one_round_each),
        TEST(one_segment_needs_no_planning_and_no_room_is_no_failure),
        TEST(what_segments_hold_counts_in_the_budget),
        TEST(a_damaged_answer_is_not_kept),
    };
    return cmocka_run_group_tests_name("segment ahead", tests, NULL, NULL);
}
