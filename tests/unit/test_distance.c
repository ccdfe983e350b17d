#include "vec/distance.h"

#include <math.h>

#include "base/mem.h"
#include "base/simd.h"
#include "unit/test.h"

enum { DIM_MAX = 10752, ROWS_MAX = 9 };

static const size_t large_dims[] = {127, 128, 129, 768, 784, 1000, DIM_MAX};

/* Runs a check at every level of this machine and puts the best one back. */
static void at_each_level(void (*check)(uint64_t *seed))
{
    uint64_t seed = test_seed();
    for (enum simd_level level = SIMD_PLAIN; level <= simd_detect(); level++) {
#if defined(__x86_64__)
        if (level == SIMD_NEON) continue;
#endif
        simd_force(level);
        check(&seed);
    }
    simd_force(simd_detect());
}

static float random_float(uint64_t *seed)
{
    return (float)((double)test_random(seed) / 0x1p63 - 1.0);
}

static void fill(float *p, size_t count, uint64_t *seed)
{
    for (size_t i = 0; i < count; i++) {
        float v = random_float(seed);
        memcpy(p + i, &v, sizeof v);
    }
}

/*
 * A float sum of n terms over at least eight lanes: each term passes n / 8 additions of
 * its lane and three between lanes, and was rounded twice itself; the errors are at
 * most 2^-24 of the sum of magnitudes each.
 */
static double error_bound(double magnitudes, size_t dim)
{
    return magnitudes * ((double)dim / 8 + 6) * 0x1p-24;
}

static double get(const float *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return (double)v;
}

static void expect_dot(float got, const float *a, const float *b, size_t dim)
{
    double sum = 0, magnitudes = 0;
    for (size_t i = 0; i < dim; i++) {
        sum += get(a + i) * get(b + i);
        magnitudes += fabs(get(a + i) * get(b + i));
    }
    assert_true(fabs((double)got - sum) <= error_bound(magnitudes, dim));
}

static void expect_l2(float got, const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (get(a + i) - get(b + i)) * (get(a + i) - get(b + i));
    assert_true(fabs((double)got - sum) <= error_bound(sum, dim));
}

/* offset in bytes from an aligned address: 0 to 3 make floats that lie across words. */
static void check_dim(size_t dim, size_t offset, uint64_t *seed)
{
    size_t bytes = dim * sizeof(float);
    char *memory = mem_alloc(offset + bytes);
    char *rows_memory = mem_alloc(offset + ROWS_MAX * bytes);
    float *query = (void *)(memory + offset), *rows = (void *)(rows_memory + offset);
    float dots[ROWS_MAX + 1], squares[ROWS_MAX + 1];
    size_t count = test_random(seed) % (ROWS_MAX + 1);

    fill(query, dim, seed);
    fill(rows, ROWS_MAX * dim, seed);
    dots[count] = squares[count] = 42;
    distance_dot_rows(query, rows, count, dim, dots);
    distance_l2_rows(query, rows, count, dim, squares);
    assert_true(dots[count] == 42 && squares[count] == 42);
    for (size_t r = 0; r < count; r++) {
        const float *row = (void *)((char *)rows + r * bytes);
        expect_dot(dots[r], query, row, dim);
        expect_l2(squares[r], query, row, dim);
        expect_dot(distance_dot(query, row, dim), query, row, dim);
        expect_l2(distance_l2(query, row, dim), query, row, dim);
    }
    mem_free(memory);
    mem_free(rows_memory);
}

static void check_all_dims(uint64_t *seed)
{
    for (size_t dim = 0; dim <= 70; dim++)
        for (size_t offset = 0; offset < 8; offset++)
            check_dim(dim, offset, seed);
    for (size_t i = 0; i < COUNT_OF(large_dims); i++)
        for (size_t offset = 0; offset < 4; offset++)
            check_dim(large_dims[i], offset, seed);
}

static void every_level_equals_a_sum_in_double(void **state)
{
    (void)state;
    at_each_level(check_all_dims);
}

static void check_small_integers(uint64_t *seed)
{
    float a[200], b[200];
    for (size_t i = 0; i < COUNT_OF(a); i++) {
        a[i] = (float)(test_random(seed) % 16);
        b[i] = (float)(test_random(seed) % 16);
    }
    for (size_t dim = 0; dim <= COUNT_OF(a); dim++) {
        assert_true(distance_dot(a, b, dim) == (float)distance_dot_f64(a, b, dim));
        assert_true(distance_l2(a, b, dim) == (float)distance_l2_f64(a, b, dim));
    }
}

/* Sums of small integers are exact in any order, so here every lane must be right. */
static void small_integers_give_exact_results_at_every_level(void **state)
{
    (void)state;
    at_each_level(check_small_integers);
}

static void check_repeats(uint64_t *seed)
{
    float query[129], rows[5 * 129], first[5], second[5];
    fill(query, 129, seed);
    fill(rows, COUNT_OF(rows), seed);
    distance_dot_rows(query, rows, 5, 129, first);
    distance_dot_rows(query, rows, 5, 129, second);
    assert_memory_equal(first, second, sizeof first);
    for (size_t r = 0; r < 5; r++)
        assert_true(first[r] == distance_dot(query, rows + r * 129, 129));
}

static void one_row_alone_scores_as_it_does_in_a_scan(void **state)
{
    (void)state;
    at_each_level(check_repeats);
}

static void doubles_hold_what_a_float_sum_cannot(void **state)
{
    (void)state;
    static const float huge[] = {3e38f, -3e38f}, tiny[] = {1e-45f, 0};
    assert_true(isfinite(distance_dot_f64(huge, huge, 2)));
    assert_true(isfinite(distance_l2_f64(huge, tiny, 2)));
    assert_true(distance_norm(tiny, 2) == (double)tiny[0]);
    assert_true(fabs(distance_norm(huge, 2) / (3e38 * sqrt(2.0)) - 1) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_equals_a_sum_in_double),
        cmocka_unit_test(small_integers_give_exact_results_at_every_level),
        cmocka_unit_test(one_row_alone_scores_as_it_does_in_a_scan),
        cmocka_unit_test(doubles_hold_what_a_float_sum_cannot),
    };
    return cmocka_run_group_tests_name("distance", tests, NULL, NULL);
}
