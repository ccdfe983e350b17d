#include "doc/value.h"

#include "base/codec.h"
#include "base/op.h"
#include "doc/utf8_text.h"
#include "unit/random_docs.h"
#include "unit/test.h"

static struct op op;

static int setup(void **state)
{
    (void)state;
    op_init(&op, OP_NO_DEADLINE, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    op_release(&op);
    return 0;
}

/* ---- datetime ---- */

static void datetime_reads_what_rfc_3339_allows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t microseconds;
        const char *back;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"},
        {"1970-01-01t00:00:00z", 0, "1970-01-01T00:00:00Z"},
        {"1970-01-01 00:00:00+00:00", 0, "1970-01-01T00:00:00Z"},
        {"1970-01-01T00:00:00-00:00", 0, "1970-01-01T00:00:00Z"},
        {"1970-01-01T01:30:00+01:30", 0, "1970-01-01T00:00:00Z"},
        {"1969-12-31T16:00:00-08:00", 0, "1970-01-01T00:00:00Z"},
        {"1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"},
        {"1985-04-12T23:20:50.52Z", 482196050520000, "1985-04-12T23:20:50.52Z"},
        {"1937-01-01T12:00:27.87+00:20", -1041337172130000, "1937-01-01T11:40:27.87Z"},
        {"2000-02-29T00:00:00Z", 951782400000000, "2000-02-29T00:00:00Z"},
        {"2026-11-22T10:00:00.1Z", 1795341600100000, "2026-11-22T10:00:00.1Z"},
        {"2026-11-22T10:00:00.123456789Z", 1795341600123456,
         "2026-11-22T10:00:00.123456Z"},
        {"2026-11-22T10:00:00.000000999Z", 1795341600000000, "2026-11-22T10:00:00Z"},
        {"2001-09-09T01:46:40+23:59", 999913660000000, "2001-09-08T01:47:40Z"},
        {"0000-01-01T00:00:00Z", -62167219200000000, "0000-01-01T00:00:00Z"},
        {"9999-12-31T23:59:59.999999Z", 253402300799999999,
         "9999-12-31T23:59:59.999999Z"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t t = 0;
        char back[40];
        if (!datetime_parse(slice_str(cases[i].text), &t))
            fail_msg("%s", cases[i].text);
        if (t != cases[i].microseconds)
            fail_msg("%s is %lld", cases[i].text, (long long)t);
        assert_int_equal(datetime_text(t, back), strlen(cases[i].back));
        assert_string_equal(back, cases[i].back);
    }
}

static void a_leap_second_is_the_next_second_where_one_can_be(void **state)
{
    (void)state;
    static const struct {
        const char *text, *same_as; /* NULL: refused */
    } cases[] = {
        {"1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"},
        {"1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"},
        {"2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"},
        {"2015-06-30T23:59:60Z", "2015-07-01T00:00:00Z"},
        {"2015-06-29T23:59:60Z", NULL},
        {"1990-12-31T23:58:60Z", NULL},
        {"1990-12-31T22:59:60Z", NULL},
        {"1990-12-31T23:59:60-08:00", NULL},
        {"1990-12-31T23:59:61Z", NULL},
        {"9999-12-31T23:59:60Z", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t t = 0, same = 0;
        bool taken = datetime_parse(slice_str(cases[i].text), &t);
        if (taken != (cases[i].same_as != NULL)) fail_msg("%s", cases[i].text);
        if (!taken) continue;
        assert_true(datetime_parse(slice_str(cases[i].same_as), &same));
        assert_true(t == same);
    }
}

static void datetime_refuses_everything_else(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "1970",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00Z",
        "1970-01-01T00:00:00Z ",
        " 1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00ZZ",
        "1970-1-01T00:00:00Z",
        "70-01-01T00:00:00Z",
        "+1970-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "1970-01-32T00:00:00Z",
        "1970-04-31T00:00:00Z",
        "1970-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2000-02-30T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00,5Z",
        "1970-01-01T00:00:00.1234567890Z",
        "1970-01-01T00:00:00+1:00",
        "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+00:60",
        "1970-01-01T00:00:00+01",
        "1970-01-01T00:00:00+01:0",
        "1970-01-01_00:00:00Z",
        "1970/01/01T00:00:00Z",
        "1970-01-01T00.00.00Z",
        "197a-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "now",
        "1970-01-01T00:00:00\xe2\x88\x92"
        "01:00",
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t t = 77;
        if (datetime_parse(slice_str(cases[i]), &t)) fail_msg("took %s", cases[i]);
        assert_true(t == 77);
    }
    int64_t t;
    assert_false(datetime_parse(slice_of("1970-01-01\0"
                                         "00:00:00Z",
                                         20),
                                &t));
}

/* Counting days one by one is too simple to be wrong. */
static void every_day_of_ten_thousand_years_reads_and_writes(void **state)
{
    (void)state;
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t microseconds = -62167219200000000;
    for (int year = 0; year < 10000; year++) {
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (int month = 1; month <= 12; month++) {
            int days = lengths[month - 1] + (month == 2 && leap);
            for (int day = 1; day <= days; day++, microseconds += 86400000000) {
                char text[64], back[40];
                int64_t t = 0;
                (void)snprintf(text, sizeof text, "%04d-%02d-%02dT00:00:00Z", year,
                               month, day);
                if (!datetime_parse(slice_str(text), &t) || t != microseconds)
                    fail_msg("%s read as %lld", text, (long long)t);
                (void)datetime_text(t, back);
                assert_string_equal(back, text);
            }
        }
    }
}

static void any_64_bits_can_be_written_as_a_datetime(void **state)
{
    (void)state;
    char text[40];
    assert_in_range(datetime_text(INT64_MIN, text), 20, 39);
    assert_in_range(datetime_text(INT64_MAX, text), 20, 39);
}

/* ---- uuid, ids ---- */

static void uuid_is_read_in_either_case_and_written_in_lower(void **state)
{
    (void)state;
    uint8_t uuid[16];
    char text[37];
    assert_true(uuid_parse(slice_str("F81D4FAE-7dec-11D0-a765-00A0C91E6BF6"), uuid));
    assert_int_equal(uuid[0], 0xf8);
    assert_int_equal(uuid[4], 0x7d);
    assert_int_equal(uuid[15], 0xf6);
    uuid_text(uuid, text);
    assert_string_equal(text, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
}

static void uuid_refuses_other_forms(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "f81d4fae7dec11d0a76500a0c91e6bf6",
        "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6a",
        "g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "f81d4fae-7dec-11d0-a765_00a0c91e6bf6",
        "f81d4fa-e7dec-11d0-a765-00a0c91e6bf6",
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t uuid[16] = {5};
        if (uuid_parse(slice_str(cases[i]), uuid)) fail_msg("took %s", cases[i]);
        assert_int_equal(uuid[0], 5);
    }
}

static void ids_are_ordered_and_shown(void **state)
{
    (void)state;
    struct doc_id small = number_id(9), large = number_id(UINT64_MAX);
    struct doc_id a = string_id("a"), ab = string_id("ab");
    char text[80];
    assert_true(doc_id_compare(&small, &large) < 0);
    assert_true(doc_id_compare(&large, &large) == 0);
    assert_true(doc_id_compare(&ab, &a) > 0);
    assert_string_equal(doc_id_text(&large, text), "18446744073709551615");
    assert_string_equal(doc_id_text(&ab, text), "\"ab\"");
    char long_id[ID_STRING_MAX + 1];
    memset(long_id, 'x', ID_STRING_MAX);
    long_id[ID_STRING_MAX] = '\0';
    struct doc_id longest = string_id(long_id);
    assert_int_equal(strlen(doc_id_text(&longest, text)), ID_STRING_MAX + 2);
}

static enum err id_reads_back(struct doc_id id)
{
    struct buf b = BUF_INIT;
    struct doc_id back;
    doc_id_encode(&id, &b);
    struct reader r = reader_of(buf_slice(&b));
    enum err e = doc_id_decode(&op, &r, &back);
    if (!e) {
        assert_true(reader_done(&r));
        assert_int_equal(back.kind, id.kind);
        assert_int_equal(doc_id_compare(&back, &id), 0);
    }
    buf_release(&b);
    return e;
}

static void ids_are_stored_and_bad_ones_refused(void **state)
{
    (void)state;
    char text[ID_STRING_MAX + 2];
    memset(text, 'x', sizeof text);
    struct doc_id id = {.kind = ID_STRING};
    assert_int_equal(id_reads_back(number_id(0)), ERR_OK);
    assert_int_equal(id_reads_back(number_id(UINT64_MAX)), ERR_OK);
    assert_int_equal(id_reads_back(string_id("ü")), ERR_OK);
    id.string = slice_of(text, ID_STRING_MAX);
    assert_int_equal(id_reads_back(id), ERR_OK);
    id.string = slice_of(text, ID_STRING_MAX + 1);
    assert_int_equal(id_reads_back(id), ERR_CORRUPT);
    id.string = SLICE_EMPTY;
    assert_int_equal(id_reads_back(id), ERR_CORRUPT);
    assert_int_equal(id_reads_back(string_id("\xff")), ERR_CORRUPT);
    assert_int_equal(id_reads_back(string_id("\xed\xa0\x80")), ERR_CORRUPT);

    static const char *const bytes[] = {"", "\x00", "\x03\x01", "\x01",
                                        "\x02\x05"
                                        "ab"};
    static const size_t sizes[] = {0, 1, 2, 1, 4};
    for (size_t i = 0; i < COUNT_OF(bytes); i++) {
        struct reader r = reader_of(slice_of(bytes[i], sizes[i]));
        assert_int_equal(doc_id_decode(&op, &r, &id), ERR_CORRUPT);
    }
}

/* ---- scalars and values ---- */

static void scalars_are_ordered_by_value(void **state)
{
    (void)state;
    static const double floats[] = {-DBL_MAX, -1, -1e-310, 0, 1e-310, 1, DBL_MAX};
    for (size_t i = 0; i + 1 < COUNT_OF(floats); i++) {
        union scalar a = {.f = floats[i]}, b = {.f = floats[i + 1]};
        assert_true(scalar_compare(ATTR_FLOAT, &a, &b) < 0);
        assert_true(scalar_compare(ATTR_FLOAT, &b, &a) > 0);
    }
    union scalar zero = {.f = 0.0}, minus_zero = {.f = -0.0};
    assert_int_equal(scalar_compare(ATTR_FLOAT, &zero, &minus_zero), 0);
    union scalar minus = {.i = -1}, one = {.i = 1};
    assert_true(scalar_compare(ATTR_INT, &minus, &one) < 0);
    assert_true(scalar_compare(ATTR_DATETIME, &minus, &one) < 0);
    assert_true(scalar_compare(ATTR_UINT, &minus, &one) > 0);
    union scalar no = {.b = false}, yes = {.b = true};
    assert_true(scalar_compare(ATTR_BOOL, &no, &yes) < 0);
    union scalar low = {.uuid = {0, 1}}, high = {.uuid = {0xff}};
    assert_true(scalar_compare(ATTR_UUID, &low, &high) < 0);
    union scalar a = {.s = SLICE_LITERAL("Z")}, b = {.s = SLICE_LITERAL("a")};
    assert_true(scalar_compare(ATTR_STRING, &a, &b) < 0);
}

static void assert_values_equal(enum attr_type type, bool array, const struct value *a,
                                const struct value *b)
{
    assert_int_equal(a->null, b->null);
    if (a->null) return;
    if (!array) {
        assert_int_equal(scalar_compare(type, &a->one, &b->one), 0);
        return;
    }
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++)
        assert_int_equal(scalar_compare(type, &a->items[i], &b->items[i]), 0);
}

static void values_read_back_and_damage_is_noticed_or_harmless(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 2000; round++) {
        enum attr_type type = all_types[random_index(&rng, COUNT_OF(all_types))];
        bool array = random_index(&rng, 2);
        struct value v = random_value(&op, &rng, type, array), back;
        struct buf b = BUF_INIT;
        value_encode(type, array, &v, &b);
        struct reader r = reader_of(buf_slice(&b));
        assert_int_equal(value_decode(&op, type, array, &r, &back), ERR_OK);
        assert_true(reader_done(&r));
        assert_values_equal(type, array, &v, &back);

        /* Copies of their own size, so that the sanitizer sees a read behind the end.
         */
        for (size_t size = 0; size < b.size; size++) {
            uint8_t *cut = mem_dup(b.data, size);
            r = reader_of(slice_of(cut, size));
            assert_int_equal(value_decode(&op, type, array, &r, &back), ERR_CORRUPT);
            mem_free(cut);
        }
        for (size_t bit = 0; bit < 8 * b.size; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            r = reader_of(buf_slice(&b));
            enum err e = value_decode(&op, type, array, &r, &back);
            assert_true(e == ERR_OK || e == ERR_CORRUPT);
            if (!e) {
                struct buf again = BUF_INIT; /* what it took, it took as it stands */
                value_encode(type, array, &back, &again);
                assert_true(slice_equal(buf_slice(&again), slice_of(b.data, r.offset)));
                buf_release(&again);
            }
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        op_clear_error(&op);
        buf_release(&b);
    }
}

static void stored_values_outside_their_type_are_corrupt(void **state)
{
    (void)state;
    const struct {
        enum attr_type type;
        struct slice bytes;
    } cases[] = {
        {ATTR_BOOL, SLICE_LITERAL("\x01\x02")},
        {ATTR_BOOL, SLICE_LITERAL("\x02\x01")},
        {ATTR_STRING, SLICE_LITERAL("\x01\x01\xff")},
        {ATTR_FLOAT, SLICE_LITERAL("\x01\0\0\0\0\0\0\xf0\x7f")},
        {ATTR_FLOAT, SLICE_LITERAL("\x01\0\0\0\0\0\0\xf8\x7f")},
        {ATTR_DATETIME, SLICE_LITERAL("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reader r = reader_of(cases[i].bytes);
        struct value v;
        assert_int_equal(value_decode(&op, cases[i].type, false, &r, &v), ERR_CORRUPT);
    }
}

static void an_array_longer_than_its_bytes_allocates_nothing(void **state)
{
    (void)state;
    struct reader r = reader_of(SLICE_LITERAL("\xff\xff\xff\xff\x0f"
                                              "\x00\x00"));
    struct value v;
    size_t before = op.arena.used;
    assert_int_equal(value_decode(&op, ATTR_BOOL, true, &r, &v), ERR_CORRUPT);
    assert_true(op.arena.used == before);
}

static void utf8_is_checked_as_rfc_3629_says(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"abc", true},
        {"abcdefghi\xc3\xbc", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\xf4\x90\x80\x80", false},
        {"\xc0\x80", false},
        {"\xe0\x80\x80", false},
        {"\xed\xa0\x80", false},
        {"\x80", false},
        {"abcdefgh\xc3", false},
        {"12345678\xff", false},
        {"\xf0\x9f\x98", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(utf8_text_valid(slice_str(cases[i].text)), cases[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datetime_reads_what_rfc_3339_allows),
        cmocka_unit_test(a_leap_second_is_the_next_second_where_one_can_be),
        cmocka_unit_test(datetime_refuses_everything_else),
        cmocka_unit_test(every_day_of_ten_thousand_years_reads_and_writes),
        cmocka_unit_test(any_64_bits_can_be_written_as_a_datetime),
        cmocka_unit_test(uuid_is_read_in_either_case_and_written_in_lower),
        cmocka_unit_test(uuid_refuses_other_forms),
        cmocka_unit_test(ids_are_ordered_and_shown),
        cmocka_unit_test(ids_are_stored_and_bad_ones_refused),
        cmocka_unit_test(scalars_are_ordered_by_value),
        cmocka_unit_test(values_read_back_and_damage_is_noticed_or_harmless),
        cmocka_unit_test(stored_values_outside_their_type_are_corrupt),
        cmocka_unit_test(an_array_longer_than_its_bytes_allocates_nothing),
        cmocka_unit_test(utf8_is_checked_as_rfc_3629_says),
    };
    return cmocka_run_group_tests_name("value", tests, setup, teardown);
}
