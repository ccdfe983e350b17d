#include "base/codec.h"

#include "base/op.h"
#include "unit/test.h"

static void varint_reads_back_what_was_put(void **state)
{
    (void)state;
    static const uint64_t cases[] = {0,     1,     127,        128,
                                     16383, 16384, UINT32_MAX, UINT64_MAX};
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        put_varint(&b, cases[i]);
    struct reader r = reader_of(buf_slice(&b));
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_true(get_varint(&r) == cases[i]);
    assert_true(reader_done(&r));
    buf_release(&b);
}

static void varint_that_is_not_shortest_is_refused(void **state)
{
    (void)state;
    struct reader r = reader_of(SLICE_LITERAL("\x80\x00"));
    (void)get_varint(&r);
    assert_true(r.failed);
}

static void crc32c_matches_rfc_3720(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void hex_is_read_in_both_cases_and_written_in_the_lower_one(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdefABCDEF";
    for (int c = 0; c < 256; c++) {
        const char *at = c ? strchr(digits, c) : NULL;
        int worth = !at                ? -1
                    : at - digits < 16 ? (int)(at - digits)
                                       : (int)(at - digits) - 6;
        assert_int_equal(hex_digit((uint8_t)c), worth);
    }
    uint8_t bytes[3];
    char text[7];
    assert_true(hex_decode(SLICE_LITERAL("00fAcE"), bytes, sizeof bytes));
    hex_encode(bytes, sizeof bytes, text);
    assert_string_equal(text, "00face");
    assert_false(hex_decode(SLICE_LITERAL("00fac"), bytes, sizeof bytes));
    assert_false(hex_decode(SLICE_LITERAL("00facee"), bytes, sizeof bytes));
    assert_false(hex_decode(SLICE_LITERAL("00fag0"), bytes, sizeof bytes));
}

static void zstd_frame_larger_than_allowed_is_corrupt(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct buf frame = BUF_INIT, back = BUF_INIT;
    uint8_t data[1000] = {1};
    zstd_append(&frame, slice_of(data, sizeof data), 1);
    assert_int_equal(zstd_expand(&op, buf_slice(&frame), 999, &back), ERR_CORRUPT);
    assert_int_equal(zstd_expand(&op, buf_slice(&frame), 1000, &back), ERR_OK);
    assert_true(slice_equal(buf_slice(&back), slice_of(data, sizeof data)));
    buf_release(&frame);
    buf_release(&back);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varint_reads_back_what_was_put),
        cmocka_unit_test(varint_that_is_not_shortest_is_refused),
        cmocka_unit_test(crc32c_matches_rfc_3720),
        cmocka_unit_test(hex_is_read_in_both_cases_and_written_in_the_lower_one),
        cmocka_unit_test(zstd_frame_larger_than_allowed_is_corrupt),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
