#include "api/api_v1_value.h"

#include <math.h>

#include "unit/api_fake.h"

static void base64_decodes_the_vectors_of_rfc_4648(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes;
    } cases[] = {{"", ""},
                 {"Zg==", "f"},
                 {"Zm8=", "fo"},
                 {"Zm9v", "foo"},
                 {"Zm9vYg==", "foob"},
                 {"Zm9vYmE=", "fooba"},
                 {"Zm9vYmFy", "foobar"},
                 {"+/+/", "\xfb\xff\xbf"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t out[16];
        size_t size = 0;
        assert_true(base64_decode(slice_str(cases[i].text), out, sizeof out, &size));
        assert_int_equal(size, strlen(cases[i].bytes));
        assert_memory_equal(out, cases[i].bytes, size);
    }
}

static void base64_takes_one_text_for_each_value(void **state)
{
    (void)state;
    static const char *const wrong[] = {"Z",    "Zg",       "Zg=",     "Zg==\n",
                                        "Zh==", "Zm9=",     "Z===",    "====",
                                        "=Zm8", "Zm 9v",    "Zm9v=",   "Zg==Zg==",
                                        "-_-_", "Zm8=Zm9v", "Zm\x80v", "Zm9vA=A="};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        uint8_t out[16];
        size_t size = 0;
        assert_false(base64_decode(slice_str(wrong[i]), out, sizeof out, &size));
    }
}

static void base64_decodes_what_a_plain_encoder_wrote(void **state)
{
    (void)state;
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t random = test_seed();
    for (int round = 0; round < 2000; round++) {
        uint8_t bytes[64], out[64];
        char text[96];
        size_t n = test_random(&random) % 60, size = 0, t = 0;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = i < n ? (uint8_t)test_random(&random) : 0;
        for (size_t i = 0; i < n; i += 3) {
            uint32_t bits =
                (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
            text[t++] = digits[bits >> 18];
            text[t++] = digits[bits >> 12 & 63];
            text[t++] = i + 1 < n ? digits[bits >> 6 & 63] : '=';
            text[t++] = i + 2 < n ? digits[bits & 63] : '=';
        }
        assert_true(base64_decode(slice_of(text, t), out, n, &size));
        assert_int_equal(size, n);
        assert_memory_equal(out, bytes, n);
        if (n) assert_false(base64_decode(slice_of(text, t), out, n - 1, &size));
    }
}

static void a_vector_has_a_norm_that_can_be_scored(void **state)
{
    (void)state;
    static const struct {
        float v[2];
        enum metric_kind metric;
        const char *words; /* NULL: fine */
    } cases[] = {
        {{0, 0}, METRIC_COSINE, "a zero vector has no direction, which cosine needs"},
        {{0, -0.0F},
         METRIC_COSINE,
         "a zero vector has no direction, which cosine needs"},
        {{0, 0}, METRIC_L2, NULL},
        {{0, 0}, METRIC_DOT, NULL},
        {{1e-40F, 0},
         METRIC_COSINE,
         "its length (norm) is 1e-40, cosine needs at least 1e-18"},
        {{1e-40F, 0}, METRIC_DOT, NULL},
        {{1e-40F, 1}, METRIC_COSINE, NULL},
        {{2e-18F, 0}, METRIC_COSINE, NULL},
        {{3e18F, 0},
         METRIC_L2,
         "its length (norm) is 3e+18, at most 1e18 can be scored"},
        {{3e38F, 3e38F},
         METRIC_DOT,
         "its length (norm) is 4.24e+38, at most 1e18 can be scored"},
        {{9e17F, 0}, METRIC_COSINE, NULL},
        {{1, NAN}, METRIC_L2, "number 1 is NaN"},
        {{INFINITY, NAN}, METRIC_DOT, "number 0 is infinite"},
        {{1, -INFINITY}, METRIC_COSINE, "number 1 is infinite"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct v1_complaint why = {""};
        bool fine = v1_vector_check(cases[i].v, 2, 2, cases[i].metric, &why);
        assert_int_equal(fine, cases[i].words == NULL);
        if (!fine) assert_string_equal(why.text, cases[i].words);
    }
}

static void every_number_of_a_long_vector_is_looked_at(void **state)
{
    (void)state;
    float v[67];
    struct v1_complaint why;
    for (uint32_t n = 1; n <= COUNT_OF(v); n++) {
        for (uint32_t bad = 0; bad < n; bad++) {
            char words[40];
            for (uint32_t i = 0; i < n; i++)
                v[i] = i == bad ? NAN : 1.0F;
            assert_false(v1_vector_check(v, n, n, METRIC_L2, &why));
            (void)snprintf(words, sizeof words, "number %u is NaN", bad);
            assert_string_equal(why.text, words);
        }
    }
}

static void a_growing_array_keeps_what_it_held(void **state)
{
    (void)state;
    struct op op;
    uint32_t *items = NULL;
    size_t capacity = 0;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        items = v1_grow(&op, items, i, &capacity, sizeof *items);
        items[i] = i;
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    op_release(&op);
    op_init(&op, OP_NO_DEADLINE, 64 << 10);
    capacity = 1 << 20;
    assert_null(v1_grow(&op, items, 1 << 20, &capacity, sizeof *items));
    op_release(&op);
}

#define T(f) cmocka_unit_test_setup(f, fake_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(base64_decodes_the_vectors_of_rfc_4648),
        T(base64_takes_one_text_for_each_value),
        T(base64_decodes_what_a_plain_encoder_wrote),
        T(a_vector_has_a_norm_that_can_be_scored),
        T(every_number_of_a_long_vector_is_looked_at),
        T(a_growing_array_keeps_what_it_held),
    };
    return cmocka_run_group_tests_name("api_v1_value", tests, NULL, fake_teardown);
}
