#include "base/op.h"

#include "base/task.h"
#include "unit/test.h"

static void error_text_grows_in_front(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_string_equal(op.error, "");
    assert_int_equal(op_fail(&op, ERR_CORRUPT, "checksum of block %d", 3), ERR_CORRUPT);
    assert_int_equal(op_fail(&op, ERR_IO, "open segment %s", "k"), ERR_IO);
    assert_string_equal(op.error, "open segment k: checksum of block 3");
    op_clear_error(&op);
    assert_string_equal(op.error, "");
    (void)op_fail(&op, ERR_IO, "again");
    assert_string_equal(op.error, "again");
    op_release(&op);
}

static void error_text_that_is_too_long_loses_its_end(void **state)
{
    (void)state;
    char words[OP_ERROR_MAX * 2];
    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    (void)op_fail(&op, ERR_IO, "%s", words);
    assert_int_equal(strlen(op.error), OP_ERROR_MAX - 1);
    (void)op_fail(&op, ERR_IO, "front");
    assert_int_equal(strlen(op.error), OP_ERROR_MAX - 1);
    assert_memory_equal(op.error, "front: www", 10);
    /* every length around the brim */
    for (size_t size = OP_ERROR_MAX - 6; size < OP_ERROR_MAX + 3; size++) {
        op_clear_error(&op);
        (void)op_fail(&op, ERR_IO, "inner");
        (void)op_fail(&op, ERR_IO, "%.*s", (int)size, words);
        assert_true(strlen(op.error) < OP_ERROR_MAX);
        assert_int_equal(op.error[0], 'w');
    }
    op_release(&op);
}

static void op_stops_when_canceled_or_late(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(op_check(&op), ERR_OK);
    op_cancel(&op);
    assert_int_equal(op_check(&op), ERR_CANCELED);
    op_release(&op);

    op_init(&op, clock_ms() + 100000, 0);
    assert_int_equal(op_check(&op), ERR_OK);
    op.deadline_ms = clock_ms();
    assert_int_equal(op_check(&op), ERR_TIMEOUT);
    op_release(&op);
}

static void memory_is_zeroed_aligned_and_separate(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct op op;
    uint8_t *blocks[500];
    size_t sizes[500];
    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        sizes[i] = test_random(&seed) % (i % 50 ? 200 : 100000);
        blocks[i] = op_alloc(&op, sizes[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(blocks[i][k], 0);
        memset(blocks[i], (int)(i % 251), sizes[i]);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(blocks[i][k], i % 251);
    op_release(&op);
}

static void memory_above_the_ceiling_is_refused_with_words(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 100000);
    assert_non_null(op_alloc(&op, 50000));
    assert_null(op_alloc(&op, 60000));
    assert_string_equal(op.error, "request needs more than its 100000 bytes of memory");
    assert_non_null(op_alloc(&op, 20000)); /* what still fits is given */
    op_clear_error(&op);
    assert_null(op_alloc_array(&op, SIZE_MAX / 2, 16));
    assert_non_null(strstr(op.error, "request needs"));
    assert_null(op_alloc(&op, SIZE_MAX));
    assert_null(op_copy(&op, slice_of(op.error, 99999)).data);
    assert_null(op_printf(&op, "%*d", 99999, 1));
    op_release(&op);
}

static void copies_and_printed_text_end_in_a_terminator(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct slice copy = op_copy(&op, SLICE_LITERAL("a\0b"));
    assert_int_equal(copy.size, 3);
    assert_memory_equal(copy.data, "a\0b", 4);
    assert_non_null(op_copy(&op, SLICE_EMPTY).data);
    assert_string_equal(op_printf(&op, "%s-%d", "x", 7), "x-7");
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_grows_in_front),
        cmocka_unit_test(error_text_that_is_too_long_loses_its_end),
        cmocka_unit_test(op_stops_when_canceled_or_late),
        cmocka_unit_test(memory_is_zeroed_aligned_and_separate),
        cmocka_unit_test(memory_above_the_ceiling_is_refused_with_words),
        cmocka_unit_test(copies_and_printed_text_end_in_a_terminator),
    };
    return cmocka_run_group_tests_name("op", tests, NULL, NULL);
}
