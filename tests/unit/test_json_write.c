#include "base/json_write.h"

#include <float.h>
#include <math.h>

#include "base/json.h"
#include "base/op.h"
#include "unit/test.h"

static void assert_text(const struct buf *b, const char *wanted)
{
    assert_int_equal(b->size, strlen(wanted));
    assert_memory_equal(b->data, wanted, b->size);
}

static void commas_and_colons_come_by_themselves(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct json_writer w;
    json_writer_init(&w, &b);
    json_begin_object(&w);
    json_key(&w, "a");
    json_begin_array(&w);
    json_put_i64(&w, -1);
    json_begin_object(&w);
    json_end_object(&w);
    json_begin_array(&w);
    json_end_array(&w);
    json_put_null(&w);
    json_end_array(&w);
    json_key(&w, "b");
    json_put_bool(&w, true);
    json_key(&w, "c");
    json_begin_object(&w);
    json_key(&w, "d");
    json_put_bool(&w, false);
    json_end_object(&w);
    json_key(&w, "e");
    json_put_floats(&w, (const float[]){0.5f, -1}, 2);
    json_key(&w, "f");
    json_put_floats(&w, NULL, 0);
    json_end_object(&w);
    assert_text(&b, "{\"a\":[-1,{},[],null],\"b\":true,\"c\":{\"d\":false},"
                    "\"e\":[0.5,-1],\"f\":[]}");
    buf_release(&b);
}

static void sixty_four_levels_can_be_open(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct json_writer w;
    json_writer_init(&w, &b);
    for (int i = 0; i < 64; i++) {
        json_begin_array(&w);
        if (i % 2) json_put_i64(&w, i);
    }
    for (int i = 0; i < 64; i++)
        json_end_array(&w);
    assert_memory_equal(b.data, "[[1,[[3,[[5,", 12);
    buf_release(&b);
}

static void strings_escape_only_what_they_must(void **state)
{
    (void)state;
    const struct {
        struct slice value;
        const char *text;
    } cases[] = {
        {SLICE_EMPTY, "\"\""},
        {SLICE_LITERAL("a/b\x7f\xc3\xa9\xf0\x9f\x98\x80"),
         "\"a/b\x7f\xc3\xa9\xf0\x9f\x98\x80\""},
        {SLICE_LITERAL("\"\\"), "\"\\\"\\\\\""},
        {SLICE_LITERAL("\n\r\t\b\f"), "\"\\n\\r\\t\\u0008\\u000c\""},
        {SLICE_LITERAL("\0x\x1f"), "\"\\u0000x\\u001f\""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = BUF_INIT;
        struct json_writer w;
        json_writer_init(&w, &b);
        json_put_string(&w, cases[i].value);
        assert_text(&b, cases[i].text);
        buf_release(&b);
    }
    struct buf b = BUF_INIT;
    struct json_writer w;
    json_writer_init(&w, &b);
    json_put_str(&w, "z\"");
    assert_text(&b, "\"z\\\"\"");
    buf_release(&b);
}

static void numbers_print_their_shortest_digits(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct json_writer w;
    json_writer_init(&w, &b);
    json_begin_array(&w);
    json_put_i64(&w, INT64_MIN);
    json_put_u64(&w, UINT64_MAX);
    json_put_f32(&w, 0.1f);
    json_put_f64(&w, 0.1);
    json_put_f64(&w, 0.1f);
    json_put_f64(&w, 1);
    json_put_f64(&w, -0.0);
    json_put_f64(&w, 5e-324);
    json_put_f64(&w, DBL_MAX);
    json_put_f32(&w, FLT_MAX);
    json_end_array(&w);
    assert_text(&b, "[-9223372036854775808,18446744073709551615,0.1,0.1,"
                    "0.10000000149011612,1,-0,5e-324,1.7976931348623157e+308,"
                    "3.4028235e+38]");
    buf_release(&b);
}

/* Writes a value of each kind and reads it back with our own reader. */
static void random_values_read_back_the_same(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 20000; round++) {
        uint64_t bits = test_random(&seed);
        double number;
        memcpy(&number, &bits, sizeof number);
        if (!isfinite(number)) number = 0;
        float floats[7];
        for (size_t i = 0; i < COUNT_OF(floats); i++) {
            uint32_t half = (uint32_t)test_random(&seed);
            memcpy(&floats[i], &half, sizeof half);
            if (!isfinite(floats[i])) floats[i] = 0;
        }
        uint8_t text[50];
        size_t size = test_random(&seed) % sizeof text;
        for (size_t i = 0; i < size; i++)
            text[i] = (uint8_t)(test_random(&seed) % 128);

        struct buf b = BUF_INIT;
        struct json_writer w;
        json_writer_init(&w, &b);
        json_begin_array(&w);
        json_put_f64(&w, number);
        json_put_i64(&w, (int64_t)bits);
        json_put_u64(&w, bits);
        json_put_floats(&w, floats, COUNT_OF(floats));
        json_put_string(&w, slice_of(text, size));
        json_end_array(&w);
        buf_reserve(&b, JSON_PADDING);

        struct op op;
        struct json *json;
        struct json_value root, item;
        struct json_walk walk;
        bool more;
        double number_back;
        struct json_number signed_back, unsigned_back;
        float floats_back[COUNT_OF(floats)];
        size_t count;
        struct slice text_back;
        op_init(&op, OP_NO_DEADLINE, 0);
        assert_int_equal(json_open(&op, buf_slice(&b), &json, &root), ERR_OK);
        assert_int_equal(json_array(&op, &root, &walk), ERR_OK);
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_int_equal(json_f64(&op, &item, &number_back), ERR_OK);
        assert_memory_equal(&number_back, &number, sizeof number);
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_int_equal(json_number_of(&op, &item, &signed_back), ERR_OK);
        assert_true(signed_back.i64 == (int64_t)bits);
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_int_equal(json_number_of(&op, &item, &unsigned_back), ERR_OK);
        assert_true(unsigned_back.u64 == bits);
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_int_equal(json_floats(&op, &item, floats_back, COUNT_OF(floats), &count),
                         ERR_OK);
        assert_int_equal(count, COUNT_OF(floats));
        assert_memory_equal(floats_back, floats, sizeof floats);
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_int_equal(json_string(&op, &item, &text_back), ERR_OK);
        assert_true(slice_equal(text_back, slice_of(text, size)));
        assert_int_equal(json_item(&op, &walk, &more, &item), ERR_OK);
        assert_false(more);
        assert_int_equal(json_end(&op, json), ERR_OK);
        json_close(json);
        op_release(&op);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_and_colons_come_by_themselves),
        cmocka_unit_test(sixty_four_levels_can_be_open),
        cmocka_unit_test(strings_escape_only_what_they_must),
        cmocka_unit_test(numbers_print_their_shortest_digits),
        cmocka_unit_test(random_values_read_back_the_same),
    };
    return cmocka_run_group_tests_name("json_write", tests, NULL, NULL);
}
