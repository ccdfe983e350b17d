/* Packed ids: what was packed comes back, and any bytes are answered. */
#include "segment/segment_ids.h"

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "doc/batch.h"
#include "unit/test.h"

struct list {
    struct buf ids, bytes; /* as ids_pack wants them */
    enum id_kind kind;
    uint32_t count;
};

static void list_release(struct list *l)
{
    buf_release(&l->ids);
    buf_release(&l->bytes);
}

static void list_string(struct list *l, const char *id, size_t size)
{
    l->kind = ID_STRING;
    l->count++;
    buf_append(&l->bytes, id, size);
    put_u32(&l->ids, (uint32_t)l->bytes.size);
}

static void list_number(struct list *l, uint64_t id)
{
    l->kind = ID_U64;
    l->count++;
    put_u64(&l->ids, id);
}

/* Packs and unpacks; how many bytes it took. */
static size_t expect_back(const struct list *l)
{
    struct op op;
    struct buf packed = BUF_INIT, back = BUF_INIT;
    op_init(&op, OP_NO_DEADLINE, 0);
    ids_pack(l->kind, l->count, buf_slice(&l->ids), buf_slice(&l->bytes), 3, &packed);
    assert_int_equal(ids_unpack(&op, l->kind, l->count, buf_slice(&packed), &back),
                     ERR_OK);
    assert_int_equal(back.size, l->ids.size + l->bytes.size);
    assert_memory_equal(back.data, l->ids.data, l->ids.size);
    if (l->bytes.size)
        assert_memory_equal(back.data + l->ids.size, l->bytes.data, l->bytes.size);
    size_t size = packed.size;
    buf_release(&packed);
    buf_release(&back);
    op_release(&op);
    return size;
}

static void ids_to_pack_may_lie_at_any_address(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct list l = {.count = 0};
        struct buf shifted = BUF_INIT, plain = BUF_INIT, moved = BUF_INIT;
        for (uint64_t i = 0; i < 100; i++)
            if (kind == 0)
                list_number(&l, i * 3);
            else
                list_string(&l, "abcdefgh", i % 8 + 1);
        put_u8(&shifted, 0);
        buf_append_slice(&shifted, buf_slice(&l.ids));
        ids_pack(l.kind, l.count, buf_slice(&l.ids), buf_slice(&l.bytes), 3, &plain);
        ids_pack(l.kind, l.count, slice_of(shifted.data + 1, l.ids.size),
                 buf_slice(&l.bytes), 3, &moved);
        assert_int_equal(moved.size, plain.size);
        assert_memory_equal(moved.data, plain.data, plain.size);
        buf_release(&shifted);
        buf_release(&plain);
        buf_release(&moved);
        list_release(&l);
    }
}

static void numbers_in_a_row_take_next_to_nothing(void **state)
{
    (void)state;
    struct list l = {.count = 0};
    for (uint64_t i = 0; i < 100000; i++)
        list_number(&l, 77 + i);
    assert_true(expect_back(&l) < 1000);
    list_release(&l);
}

static void the_largest_gap_and_the_largest_number_come_back(void **state)
{
    (void)state;
    struct list l = {.count = 0};
    list_number(&l, 0);
    (void)expect_back(&l);
    list_number(&l, UINT64_MAX - 1);
    (void)expect_back(&l);
    list_number(&l, UINT64_MAX);
    (void)expect_back(&l);
    list_release(&l);
}

static void gaps_of_every_width_come_back(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (unsigned bits = 0; bits <= 52; bits++) {
        struct list l = {.count = 0};
        uint32_t count = 1 + (uint32_t)(test_random(&rng) % 2100);
        for (uint64_t i = 0, id = test_random(&rng) >> 16; i < count; i++) {
            list_number(&l, id);
            id += 1 + (bits ? test_random(&rng) >> (64 - bits) : 0);
        }
        (void)expect_back(&l);
        list_release(&l);
    }
}

static void strings_leave_out_what_they_share(void **state)
{
    (void)state;
    struct list l = {.count = 0};
    char id[ID_STRING_MAX + 1];
    for (int i = 0; i < 5000; i++)
        list_string(&l, id,
                    (size_t)snprintf(id, sizeof id, "a-long-common-beginning-%08d", i));
    assert_true(expect_back(&l) < (l.ids.size + l.bytes.size) / 10);
    memset(id, 'b', sizeof id);
    for (size_t size = 1; size <= ID_STRING_MAX; size++)
        list_string(&l, id, size);
    (void)expect_back(&l);
    list_release(&l);
}

/* Whatever is made of packed bytes: unpacked in bounds or refused. */
static void damage(const struct list *l)
{
    uint64_t rng = test_seed();
    struct buf packed = BUF_INIT;
    ids_pack(l->kind, l->count, buf_slice(&l->ids), buf_slice(&l->bytes), 3, &packed);
    for (int i = 0; i < 3000; i++) {
        struct op op;
        struct buf back = BUF_INIT;
        size_t size = test_random(&rng) % (packed.size + 1);
        if (i % 2) size = packed.size;
        uint8_t *copy = mem_dup(packed.data, size);
        uint32_t count = i % 3 ? l->count : 1 + (uint32_t)(test_random(&rng) % 9999);
        for (uint64_t k = test_random(&rng) % 3; k > 0 && size > 0; k--)
            copy[test_random(&rng) % size] = (uint8_t)test_random(&rng);
        op_init(&op, OP_NO_DEADLINE, 0);
        enum err e = ids_unpack(&op, l->kind, count, slice_of(copy, size), &back);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        assert_true((e == ERR_OK) == (back.size > 0));
        buf_release(&back);
        op_release(&op);
        mem_free(copy);
    }
    buf_release(&packed);
}

static void damaged_ids_are_refused_or_within_bounds(void **state)
{
    (void)state;
    struct list numbers = {.count = 0}, strings = {.count = 0};
    char id[ID_STRING_MAX];
    for (uint64_t i = 0; i < 2500; i++) {
        list_number(&numbers, i * i);
        list_string(&strings, id,
                    (size_t)snprintf(id, sizeof id, "%05llu", (unsigned long long)i));
    }
    damage(&numbers);
    damage(&strings);
    list_release(&numbers);
    list_release(&strings);
}

static void numbers_that_do_not_ascend_are_refused(void **state)
{
    (void)state;
    struct op op;
    struct buf back = BUF_INIT;
    uint8_t packed[9 + 8] = {[0] = 5, [8] = 64};
    op_init(&op, OP_NO_DEADLINE, 0);
    memset(packed + 9, 0xff, 8); /* the id before, plus 2^64 */
    assert_int_equal(ids_unpack(&op, ID_U64, 2, slice_of(packed, 17), &back),
                     ERR_CORRUPT);
    packed[9] = 0xfe;
    memset(packed, 0, 8);
    assert_int_equal(ids_unpack(&op, ID_U64, 2, slice_of(packed, 17), &back), ERR_OK);
    buf_release(&back);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_to_pack_may_lie_at_any_address),
        cmocka_unit_test(numbers_in_a_row_take_next_to_nothing),
        cmocka_unit_test(the_largest_gap_and_the_largest_number_come_back),
        cmocka_unit_test(gaps_of_every_width_come_back),
        cmocka_unit_test(strings_leave_out_what_they_share),
        cmocka_unit_test(damaged_ids_are_refused_or_within_bounds),
        cmocka_unit_test(numbers_that_do_not_ascend_are_refused),
    };
    return cmocka_run_group_tests_name("segment ids", tests, NULL, NULL);
}
