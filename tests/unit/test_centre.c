#include "vec/centre.h"

#include <math.h>

#include "base/mem.h"
#include "unit/test.h"
#include "unit/vectors.h"

enum { DIM = 24, ROWS = 600 };

/* Of the rows, the first of which serve as the sample. */
static void centre_of(const float *rows, uint32_t count, uint32_t sample, double scale,
                      float *mean)
{
    struct centre *c = centre_new(rows, sample, DIM);
    for (uint32_t i = 0; i < count; i++)
        centre_add(c, rows + (size_t)i * DIM, scale);
    centre_get(c, mean);
    centre_free(c);
}

static void plain_mean(const float *rows, uint32_t count, float *mean)
{
    for (uint32_t d = 0; d < DIM; d++) {
        double sum = 0;
        for (uint32_t i = 0; i < count; i++)
            sum += (double)rows[(size_t)i * DIM + d];
        mean[d] = (float)(sum / count);
    }
}

static void without_far_rows_it_is_the_mean(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    float *rows = gaussians(ROWS * DIM, &seed), got[DIM], plain[DIM];
    for (size_t i = 0; i < ROWS * DIM; i++)
        rows[i] += 100;
    plain_mean(rows, ROWS, plain);
    centre_of(rows, ROWS, CENTRE_SAMPLE, 1, got);
    assert_memory_equal(got, plain, sizeof got);
    mem_free(rows);
}

static void without_a_sample_every_row_counts_whole(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    float *rows = gaussians(ROWS * DIM, &seed), got[DIM], plain[DIM];
    rows[5] = 1e9f;
    plain_mean(rows, ROWS, plain);
    centre_of(rows, ROWS, 0, 1, got);
    assert_memory_equal(got, plain, sizeof got);
    centre_of(rows, ROWS, 0, 0.5, got);
    for (size_t d = 0; d < DIM; d++)
        assert_true(fabsf(got[d] - plain[d] / 2) <= 1e-6f * fabsf(plain[d]));
    mem_free(rows);
}

/* In the sample or not, one or one in twenty. */
static void far_rows_hardly_move_it(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (uint32_t every = 20; every <= ROWS; every += ROWS - 20) {
        float *rows = gaussians(ROWS * DIM, &seed), got[DIM];
        for (uint32_t i = 7; i < ROWS; i += every)
            for (size_t d = 0; d < DIM; d++)
                rows[i * DIM + d] = 1e12f;
        centre_of(rows, ROWS, CENTRE_SAMPLE, 1, got);
        /* Of 30 far rows each counts as if it lay about 5 times as far off as others:
         * a twentieth of that, in each coordinate. */
        for (size_t d = 0; d < DIM; d++)
            assert_true(fabsf(got[d]) < 1);
        mem_free(rows);
    }
}

static void equal_rows_have_their_place_as_centre(void **state)
{
    (void)state;
    float rows[3 * DIM], got[DIM];
    for (size_t i = 0; i < 3 * DIM; i++)
        rows[i] = 0.25f;
    centre_of(rows, 3, 3, 1, got);
    assert_memory_equal(got, rows, sizeof got);
    centre_of(rows, 1, 1, 1, got);
    assert_memory_equal(got, rows, sizeof got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_far_rows_it_is_the_mean),
        cmocka_unit_test(without_a_sample_every_row_counts_whole),
        cmocka_unit_test(far_rows_hardly_move_it),
        cmocka_unit_test(equal_rows_have_their_place_as_centre),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
