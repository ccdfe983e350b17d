#include "base/buf.h"

#include "unit/test.h"

static void slices_compare_by_bytes_then_by_length(void **state)
{
    (void)state;
    const struct {
        struct slice a, b;
        int sign;
    } cases[] = {
        {SLICE_EMPTY, SLICE_EMPTY, 0},
        {SLICE_EMPTY, SLICE_LITERAL("a"), -1},
        {SLICE_LITERAL("a"), SLICE_LITERAL("ab"), -1},
        {SLICE_LITERAL("b"), SLICE_LITERAL("ab"), 1},
        {SLICE_LITERAL("\xff"), SLICE_LITERAL("\x01"), 1},
        {SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0c"), -1},
        {SLICE_LITERAL("same"), SLICE_LITERAL("same"), 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int there = slice_compare(cases[i].a, cases[i].b);
        int back = slice_compare(cases[i].b, cases[i].a);
        assert_int_equal((there > 0) - (there < 0), cases[i].sign);
        assert_int_equal((back > 0) - (back < 0), -cases[i].sign);
        assert_int_equal(slice_equal(cases[i].a, cases[i].b), cases[i].sign == 0);
    }
}

static void every_slice_starts_with_the_empty_one(void **state)
{
    (void)state;
    assert_true(slice_starts_with(SLICE_EMPTY, SLICE_EMPTY));
    assert_true(slice_starts_with(SLICE_LITERAL("abc"), SLICE_EMPTY));
    assert_true(slice_starts_with(SLICE_LITERAL("abc"), SLICE_LITERAL("abc")));
    assert_false(slice_starts_with(SLICE_LITERAL("ab"), SLICE_LITERAL("abc")));
    assert_false(slice_starts_with(SLICE_LITERAL("abc"), SLICE_LITERAL("b")));
}

static void slices_share_the_bytes_in_front_of_the_first_that_differs(void **state)
{
    (void)state;
    const struct {
        struct slice a, b;
        size_t shared;
    } cases[] = {
        {SLICE_EMPTY, SLICE_EMPTY, 0},
        {SLICE_EMPTY, SLICE_LITERAL("a"), 0},
        {SLICE_LITERAL("a"), SLICE_LITERAL("b"), 0},
        {SLICE_LITERAL("ab"), SLICE_LITERAL("abc"), 2},
        {SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0c"), 2},
        {SLICE_LITERAL("abcx"), SLICE_LITERAL("abdx"), 2},
        {SLICE_LITERAL("same"), SLICE_LITERAL("same"), 4},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(slice_shared(cases[i].a, cases[i].b), cases[i].shared);
        assert_int_equal(slice_shared(cases[i].b, cases[i].a), cases[i].shared);
    }
}

static void appended_bytes_come_back_in_order(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    buf_append(&b, NULL, 0);
    buf_append_slice(&b, SLICE_EMPTY);
    assert_null(b.data);
    for (int i = 0; i < 1000; i++) {
        buf_append_byte(&b, (uint8_t)i);
        buf_append_str(&b, "xy");
        buf_append_zeros(&b, 1);
    }
    assert_int_equal(b.size, 4000);
    for (size_t i = 0; i < 1000; i++) {
        const uint8_t wanted[] = {(uint8_t)i, 'x', 'y', 0};
        assert_memory_equal(b.data + 4 * i, wanted, 4);
    }
    buf_release(&b);
    assert_null(b.data);
    assert_int_equal(b.capacity, 0);
    buf_release(&b);
}

static void reserve_keeps_the_content_and_clear_keeps_the_memory(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    buf_append_str(&b, "content");
    buf_reserve(&b, 100000);
    assert_true(b.capacity >= 100007);
    assert_true(slice_equal(buf_slice(&b), SLICE_LITERAL("content")));
    uint8_t *data = b.data;
    buf_append_zeros(&b, 100000);
    assert_ptr_equal(b.data, data);
    buf_clear(&b);
    assert_int_equal(b.size, 0);
    assert_ptr_equal(b.data, data);
    buf_release(&b);
}

static void printf_appends_text_of_any_length_without_its_terminator(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct buf b = BUF_INIT;
    buf_printf(&b, "%d:", 42);
    buf_printf(&b, "%s", text);
    buf_printf(&b, "%s", "");
    assert_int_equal(b.size, 3 + sizeof text - 1);
    assert_memory_equal(b.data, "42:xxx", 6);
    buf_release(&b);
}

static void a_lent_buf_moves_to_the_heap_when_it_outgrows_its_memory(void **state)
{
    (void)state;
    uint8_t memory[8];
    struct buf b = buf_lent(memory, sizeof memory);
    buf_append_str(&b, "12345678");
    assert_ptr_equal(b.data, memory);
    buf_append_str(&b, "9");
    assert_ptr_not_equal(b.data, memory);
    assert_true(slice_equal(buf_slice(&b), SLICE_LITERAL("123456789")));
    assert_memory_equal(memory, "12345678", 8);
    buf_release(&b);
    b = buf_lent(memory, sizeof memory);
    buf_append_str(&b, "x");
    buf_release(&b);
    assert_null(b.data);
}

static void bufs_are_cut_from_a_room_while_it_lasts(void **state)
{
    (void)state;
    _Alignas(64) uint8_t memory[256];
    struct buf_room room = {.data = memory, .size = sizeof memory};
    struct buf first = buf_cut(&room, 10), second = buf_cut(&room, 100);
    size_t mark = room.used;
    struct buf third = buf_cut(&room, 64), fourth = buf_cut(&room, 1);

    assert_ptr_equal(first.data, memory);
    assert_ptr_equal(second.data, memory + 64);
    assert_ptr_equal(third.data, memory + 192);
    assert_null(fourth.data); /* the heap's, once it holds something */
    room.used = mark;
    assert_ptr_equal(buf_cut(&room, 1).data, memory + 192);
    assert_null(buf_cut(NULL, 1).data);
    assert_null(buf_cut(&room, SIZE_MAX).data);
    buf_append_str(&first, "longer than ten bytes");
    assert_ptr_not_equal(first.data, memory);
    buf_release(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_by_bytes_then_by_length),
        cmocka_unit_test(every_slice_starts_with_the_empty_one),
        cmocka_unit_test(slices_share_the_bytes_in_front_of_the_first_that_differs),
        cmocka_unit_test(appended_bytes_come_back_in_order),
        cmocka_unit_test(reserve_keeps_the_content_and_clear_keeps_the_memory),
        cmocka_unit_test(printf_appends_text_of_any_length_without_its_terminator),
        cmocka_unit_test(a_lent_buf_moves_to_the_heap_when_it_outgrows_its_memory),
        cmocka_unit_test(bufs_are_cut_from_a_room_while_it_lasts),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
