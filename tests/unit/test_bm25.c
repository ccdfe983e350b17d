#include "text/bm25.h"

#include <math.h>

#include "unit/test.h"

static void lengths_up_to_39_are_kept_exactly(void **state)
{
    (void)state;
    for (uint32_t length = 0; length < 40; length++)
        assert_int_equal(bm25_length_decode(bm25_length_encode(length)), length);
}

/* What Lucene's SmallFloat.byte4ToInt says, worked out by hand from its definition. */
static void bytes_stand_for_the_lengths_that_lucene_gives_them(void **state)
{
    (void)state;
    static const struct {
        uint8_t byte;
        uint32_t length;
    } table[] = {{0, 0},      {23, 23},        {24, 24},         {31, 31},  {32, 32},
                 {39, 39},    {40, 40},        {41, 42},         {47, 54},  {48, 56},
                 {49, 60},    {55, 84},        {56, 88},         {57, 96},  {63, 144},
                 {64, 152},   {71, 264},       {72, 280},        {79, 504}, {80, 536},
                 {100, 3096}, {200, 16777240}, {255, 2013265944}};
    for (size_t i = 0; i < COUNT_OF(table); i++)
        assert_int_equal(bm25_length_decode(table[i].byte), table[i].length);
}

static void lengths_0_to_300_round_down_to_the_next_byte(void **state)
{
    (void)state;
    for (uint32_t length = 0; length <= 300; length++) {
        uint8_t byte = bm25_length_encode(length);
        assert_true(bm25_length_decode(byte) <= length);
        assert_true(bm25_length_decode((uint8_t)(byte + 1)) > length);
    }
}

static void every_byte_is_the_byte_of_its_own_length(void **state)
{
    (void)state;
    for (uint32_t byte = 0; byte < 256; byte++)
        assert_int_equal(bm25_length_encode(bm25_length_decode((uint8_t)byte)), byte);
}

static void lengths_beyond_the_last_byte_get_the_last_byte(void **state)
{
    (void)state;
    assert_int_equal(bm25_length_encode(2013265943), 254);
    assert_int_equal(bm25_length_encode(2013265944), 255);
    assert_int_equal(bm25_length_encode(INT32_MAX), 255);
    assert_int_equal(bm25_length_encode(UINT32_MAX), 255);
}

static void assert_near(double got, double wanted)
{
    if (fabs(got - wanted) > 1e-6 * fmax(1, fabs(wanted)))
        fail_msg("got %.9g, wanted %.9g", got, wanted);
}

static void idf_is_the_logarithm_by_hand(void **state)
{
    (void)state;
    assert_near((double)bm25_idf(1, 1), 0.2876820724517809);       /* ln(4/3) */
    assert_near((double)bm25_idf(2, 1), 0.6931471805599453);       /* ln 2 */
    assert_near((double)bm25_idf(10, 0), 3.0910424533583161);      /* ln 22 */
    assert_near((double)bm25_idf(1000000, 1), 13.410047399480845); /* ln(2000002/3) */
    assert_near((double)bm25_idf(1000000, 1000000), 4.999997500001e-07);
}

static void scores_are_the_formula_by_hand(void **state)
{
    (void)state;
    float inverse[256];
    bm25_norms(10.0, inverse);
    assert_near((double)inverse[10], 1 / 1.2);
    /* Average length: f / (f + 1.2). */
    assert_near((double)bm25_score(2.2f, 1, inverse[10]), 1.0);
    assert_near((double)bm25_score(1.0f, 3, inverse[10]), 3 / 4.2);
    /* Twice the average: f / (f + 1.2 * (0.25 + 1.5)). */
    assert_near((double)bm25_score(1.0f, 1, inverse[20]), 1 / 3.1);
    assert_near((double)bm25_score(0.0f, 7, inverse[20]), 0.0);
}

static void scores_rise_with_the_frequency_and_fall_with_the_length(void **state)
{
    (void)state;
    static const double averages[] = {0.5, 1, 7.3, 250, 1e6};
    for (size_t a = 0; a < COUNT_OF(averages); a++) {
        float inverse[256];
        bm25_norms(averages[a], inverse);
        for (uint32_t byte = 0; byte < 255; byte++) {
            assert_true(inverse[byte] >= inverse[byte + 1]);
            for (uint32_t f = 1; f < 300; f++)
                assert_true(bm25_score(3.7f, f + 1, inverse[byte]) >=
                            bm25_score(3.7f, f, inverse[byte]));
        }
    }
}

static void a_field_without_terms_has_finite_norms(void **state)
{
    (void)state;
    float inverse[256];
    bm25_norms(0, inverse);
    for (size_t i = 0; i < 256; i++)
        assert_true(isfinite(inverse[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_up_to_39_are_kept_exactly),
        cmocka_unit_test(bytes_stand_for_the_lengths_that_lucene_gives_them),
        cmocka_unit_test(lengths_0_to_300_round_down_to_the_next_byte),
        cmocka_unit_test(every_byte_is_the_byte_of_its_own_length),
        cmocka_unit_test(lengths_beyond_the_last_byte_get_the_last_byte),
        cmocka_unit_test(idf_is_the_logarithm_by_hand),
        cmocka_unit_test(scores_are_the_formula_by_hand),
        cmocka_unit_test(scores_rise_with_the_frequency_and_fall_with_the_length),
        cmocka_unit_test(a_field_without_terms_has_finite_norms),
    };
    return cmocka_run_group_tests_name("bm25", tests, NULL, NULL);
}
