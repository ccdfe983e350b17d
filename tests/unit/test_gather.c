#include "cache/gather.h"

#include "base/mem.h"
#include "base/op.h"
#include "store/store_mem.h"
#include "unit/test.h"

enum { OBJECTS = 3, OBJECT_SIZE = 3 << 20, RANGES_MAX = 60 };

struct fixture {
    struct op op;
    struct store *store;
    uint8_t *bytes[OBJECTS];
};

static const char *const names[] = {"a", "a.b", "b/c"};

static void fixture_init(struct fixture *f)
{
    uint64_t random = 5;
    op_init(&f->op, OP_NO_DEADLINE, 0);
    f->store = store_mem_new();
    for (size_t i = 0; i < OBJECTS; i++) {
        f->bytes[i] = mem_alloc(OBJECT_SIZE);
        for (size_t k = 0; k < OBJECT_SIZE; k++)
            f->bytes[i][k] = (uint8_t)(test_random(&random) >> 32);
        struct slice all = slice_of(f->bytes[i], OBJECT_SIZE);
        assert_int_equal(store_put(&f->op, f->store, names[i], &all, 1), ERR_OK);
    }
    f->op.counters = (struct op_counters){0};
}

static void fixture_release(struct fixture *f)
{
    for (size_t i = 0; i < OBJECTS; i++)
        mem_free(f->bytes[i]);
    store_free(f->store);
    op_release(&f->op);
}

static struct store_range range_of(size_t object, uint64_t offset, size_t size)
{
    return (struct store_range){.key = names[object],
                                .offset = offset,
                                .size = size,
                                .data = mem_calloc(1, size + 1)};
}

/* Compares what came and frees it. */
static void right(const struct fixture *f, struct store_range *r, size_t object)
{
    assert_int_equal(r->err, ERR_OK);
    assert_memory_equal(r->data, f->bytes[object] + r->offset, r->size);
    assert_int_equal(r->data[r->size], 0);
    mem_free(r->data);
}

static void ranges_side_by_side_are_one_request(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct store_range ranges[] = {range_of(1, 1000, 50),   range_of(0, 3000, 100),
                                   range_of(0, 1000, 2000), range_of(1, 1050, 1),
                                   range_of(0, 1000, 2000), range_of(0, 1500, 10)};
    static const size_t objects[] = {1, 0, 0, 1, 0, 0};
    assert_int_equal(gather_read(&f.op, f.store, ranges, COUNT_OF(ranges),
                                 GATHER_BUFFER_MAX),
                     ERR_OK);
    assert_int_equal(f.op.counters.store_requests, 2);
    assert_int_equal(f.op.counters.store_bytes, 2100 + 51);
    assert_int_equal(f.op.counters.rounds, 1);
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        right(&f, &ranges[i], objects[i]);
    fixture_release(&f);
}

static void small_gaps_are_read_over_and_large_ones_not(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct store_range ranges[] = {range_of(0, 0, 10),
                                   range_of(0, 10 + GATHER_GAP_MAX, 10),
                                   range_of(0, 21 + 2 * GATHER_GAP_MAX, 10)};
    assert_int_equal(gather_read(&f.op, f.store, ranges, 3, GATHER_BUFFER_MAX), ERR_OK);
    assert_int_equal(f.op.counters.store_requests, 2);
    for (size_t i = 0; i < 3; i++)
        right(&f, &ranges[i], 0);
    fixture_release(&f);
}

static void requests_and_buffers_have_a_size(void **state)
{
    (void)state;
    struct fixture f;
    struct store_range ranges[36];
    fixture_init(&f);
    for (size_t i = 0; i < 36; i++) /* nine MiB in all */
        ranges[i] = range_of(i / 12, (i % 12) * (256 << 10), 256 << 10);
    assert_int_equal(gather_read(&f.op, f.store, ranges, 36, GATHER_BUFFER_MAX),
                     ERR_OK);
    assert_int_equal(f.op.counters.store_requests, 8 + 4);
    for (size_t i = 0; i < 36; i++)
        right(&f, &ranges[i], i / 12);
    fixture_release(&f);
}

static void nothing_is_read_for_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(gather_read(&f.op, f.store, NULL, 0, GATHER_BUFFER_MAX), ERR_OK);
    assert_int_equal(f.op.counters.rounds, 0);
    struct store_range empty[] = {range_of(0, 5, 0), range_of(0, 5, 0)};
    assert_int_equal(gather_read(&f.op, f.store, empty, 2, GATHER_BUFFER_MAX), ERR_OK);
    for (size_t i = 0; i < 2; i++)
        right(&f, &empty[i], 0);
    fixture_release(&f);
}

static void a_failure_is_that_of_its_request_alone(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    const char *gone = names[1];
    assert_int_equal(store_delete(&f.op, f.store, &gone, 1), ERR_OK);
    struct store_range ranges[] = {range_of(0, 0, 10), range_of(1, 0, 10),
                                   range_of(0, 10, 10), range_of(1, 10, 10),
                                   range_of(2, OBJECT_SIZE - 5, 10)};
    assert_int_not_equal(gather_read(&f.op, f.store, ranges, 5, GATHER_BUFFER_MAX),
                         ERR_OK);
    assert_int_equal(ranges[1].err, ERR_NOT_FOUND);
    assert_int_equal(ranges[3].err, ERR_NOT_FOUND);
    assert_int_equal(ranges[4].err, ERR_CORRUPT);
    right(&f, &ranges[0], 0);
    right(&f, &ranges[2], 0);
    mem_free(ranges[1].data);
    mem_free(ranges[3].data);
    mem_free(ranges[4].data);
    fixture_release(&f);
}

static void random_ranges_arrive_as_if_read_one_by_one(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct fixture f;
    fixture_init(&f);
    for (int times = 0; times < 200; times++) {
        struct store_range ranges[RANGES_MAX];
        size_t objects[RANGES_MAX], n = test_random(&random) % RANGES_MAX;
        uint64_t near = test_random(&random) % 2 ? OBJECT_SIZE : 200000;
        for (size_t i = 0; i < n; i++) {
            uint64_t offset = test_random(&random) % near;
            size_t size = test_random(&random) % 50000;
            if (size > OBJECT_SIZE - offset) size = OBJECT_SIZE - (size_t)offset;
            objects[i] = test_random(&random) % OBJECTS;
            ranges[i] = range_of(objects[i], offset, size);
        }
        f.op.counters = (struct op_counters){0};
        assert_int_equal(gather_read(&f.op, f.store, ranges, n, GATHER_BUFFER_MAX),
                         ERR_OK);
        assert_true(f.op.counters.store_requests <= n);
        for (size_t i = 0; i < n; i++)
            right(&f, &ranges[i], objects[i]);
    }
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_side_by_side_are_one_request),
        cmocka_unit_test(small_gaps_are_read_over_and_large_ones_not),
        cmocka_unit_test(requests_and_buffers_have_a_size),
        cmocka_unit_test(nothing_is_read_for_nothing),
        cmocka_unit_test(a_failure_is_that_of_its_request_alone),
        cmocka_unit_test(random_ranges_arrive_as_if_read_one_by_one),
    };
    return cmocka_run_group_tests_name("gather", tests, NULL, NULL);
}
