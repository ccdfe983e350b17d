#include "vec/clusters.h"

#include <math.h>

#include "base/op.h"
#include "unit/test.h"
#include "unit/vectors.h"
#include "vec/distance.h"
#include "vec/kmeans.h"

static struct op op; /* zeros: it never rests */

struct points {
    float *values;
    size_t dim;
};

static void read_points(const void *context, uint32_t first, uint32_t count, float *out)
{
    const struct points *p = context;
    memcpy(out, p->values + first * p->dim, count * p->dim * sizeof *out);
}

static struct clusters find(const struct points *p, uint32_t count, uint32_t size)
{
    struct clusters c;
    struct row_source source = {read_points, p, count, p->dim, &op};
    struct clusters_options options = {.size = size,
                                       .size_min = size / 4,
                                       .size_max = 2 * size,
                                       .seed = 1};
    clusters_find(&source, &options, &c);
    return c;
}

/* Every row in one cluster, sizes right and bounded, centroids the means. */
static void expect_sound(const struct points *p, uint32_t count, uint32_t size_max,
                         const struct clusters *c)
{
    uint32_t *sizes = mem_new_array(uint32_t, c->count);
    double *means = mem_new_array(double, c->count * p->dim);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(c->of_row[i] < c->count);
        sizes[c->of_row[i]]++;
        for (size_t d = 0; d < p->dim; d++)
            means[c->of_row[i] * p->dim + d] += (double)p->values[i * p->dim + d];
    }
    for (uint32_t k = 0; k < c->count; k++) {
        assert_int_equal(sizes[k], c->sizes[k]);
        assert_in_range(sizes[k], 1, size_max);
        for (size_t d = 0; d < p->dim; d++) {
            double mean = means[k * p->dim + d] / sizes[k];
            double got = (double)c->centroids[k * p->dim + d];
            assert_true(fabs(mean - got) <= 1e-4 * (1 + fabs(mean)));
        }
    }
    mem_free(sizes);
    mem_free(means);
}

static void clusters_of_random_points_are_sound(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 15, 16, 17, 100, 1000, 5003};
    uint64_t seed = test_seed();
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct points p = {gaussians((size_t)counts[i] * 32, &seed), 32};
        struct clusters c = find(&p, counts[i], 16);
        expect_sound(&p, counts[i], 32, &c);
        clusters_release(&c);
        mem_free(p.values);
    }
}

static void points_that_are_all_equal_are_divided_evenly(void **state)
{
    (void)state;
    struct points p = {mem_new_array(float, 10000 * 16), 16};
    for (size_t i = 0; i < 10000 * 16; i++)
        p.values[i] = 0.1f;
    struct clusters c = find(&p, 10000, 100);
    expect_sound(&p, 10000, 200, &c);
    assert_true(c.count < 160);
    clusters_release(&c);
    mem_free(p.values);
}

static void one_far_outlier_does_not_upset_the_others(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct points p = {gaussians(2000 * 16, &seed), 16};
    p.values[777 * 16] = 1e9f;
    struct clusters c = find(&p, 2000, 50);
    for (uint32_t k = 0; k < c.count; k++)
        assert_in_range(c.sizes[k], 1, 100);
    assert_true(c.count > 20);
    clusters_release(&c);
    mem_free(p.values);
}

/* Groups far from each other and as large as wished for come out as they are. */
static void separate_groups_are_found(void **state)
{
    (void)state;
    enum { GROUPS = 8, SIZE = 128, DIM = 16 };
    uint64_t seed = test_seed();
    struct points p = {gaussians((size_t)GROUPS * SIZE * DIM, &seed), DIM};
    for (size_t i = 0; i < GROUPS * SIZE; i++)
        p.values[i * DIM + i % GROUPS] += 1e5f;
    struct clusters c = find(&p, GROUPS * SIZE, SIZE);
    for (uint32_t i = 0; i < GROUPS * SIZE; i++)
        for (uint32_t j = 0; j < i; j++)
            if (c.of_row[i] == c.of_row[j]) assert_int_equal(i % GROUPS, j % GROUPS);
    clusters_release(&c);
    mem_free(p.values);
}

/* ---- clusters that are taken over ---- */

static struct clusters take_over(const struct points *p, uint32_t count, uint32_t size,
                                 const uint32_t *known, uint32_t known_count)
{
    struct clusters c;
    struct row_source source = {read_points, p, count, p->dim, &op};
    struct clusters_options options = {.size = size,
                                       .size_min = size / 4,
                                       .size_max = 2 * size,
                                       .seed = 1,
                                       .known = known,
                                       .known_count = known_count};
    clusters_find(&source, &options, &c);
    return c;
}

/* Numbers of chance are as bad a start as there is: few and many clusters, empty ones,
 * one row that is known and all of them. */
static void clusters_from_any_start_are_sound(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 17, 100, 1000, 5003};
    uint64_t seed = test_seed();
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (int n = 0; n < 6; n++) {
            uint32_t count = counts[i];
            struct points p = {gaussians((size_t)count * 16, &seed), 16};
            uint32_t *known = mem_new_array(uint32_t, count);
            uint32_t clusters = (uint32_t)(test_random(&seed) % (count + 3)) + 1;
            uint64_t one_in = test_random(&seed) % 40 + 1;
            for (uint32_t row = 0; row < count; row++)
                known[row] = test_random(&seed) % one_in
                                 ? CLUSTER_UNKNOWN
                                 : (uint32_t)(test_random(&seed) % clusters);
            known[test_random(&seed) % count] = clusters - 1;
            struct clusters c = take_over(&p, count, 16, known, clusters);
            expect_sound(&p, count, 32, &c);
            clusters_release(&c);
            mem_free(known);
            mem_free(p.values);
        }
}

/* Where the clusters are right for all rows, none of them changes. */
static void rows_stay_where_they_are_and_others_join_them(void **state)
{
    (void)state;
    enum { GROUPS = 8, SIZE = 128, DIM = 16 };
    uint64_t seed = test_seed();
    struct points p = {gaussians((size_t)GROUPS * SIZE * DIM, &seed), DIM};
    uint32_t known[GROUPS * SIZE];
    for (uint32_t i = 0; i < GROUPS * SIZE; i++) {
        p.values[i * DIM + i % GROUPS] += 1e5f;
        known[i] = i < GROUPS * SIZE / 4 ? i % GROUPS : CLUSTER_UNKNOWN;
    }
    struct clusters c = take_over(&p, GROUPS * SIZE, SIZE, known, GROUPS);
    assert_int_equal(c.count, GROUPS);
    for (uint32_t i = 0; i < GROUPS * SIZE; i++)
        assert_int_equal(c.of_row[i], i % GROUPS);
    clusters_release(&c);
    mem_free(p.values);
}

static void count_rest(void *context)
{
    ++*(size_t *)context;
}

/* Training compares at most 512 points with 64 centroids between two rests, and passes
 * over rows in memory look at no more than 256. */
static void clusters_are_found_in_small_steps(void **state)
{
    enum { COUNT = 5003, DIM = 16, SIZE = 16, ROUNDS = 10 };
    (void)state;
    uint64_t seed = test_seed();
    struct points p = {gaussians((size_t)COUNT * DIM, &seed), DIM};
    size_t rests = 0;
    op.rest = count_rest;
    op.rest_context = &rests;
    struct clusters c = find(&p, COUNT, SIZE);
    assert_true(rests >= (size_t)ROUNDS * (COUNT / 512) * (COUNT / SIZE / 64));
    rests = 0;
    struct clusters again = take_over(&p, COUNT, SIZE, c.of_row, c.count);
    assert_true(rests >= 4 * COUNT / 256); /* two means, distances, what is far */
    op.rest = NULL;
    clusters_release(&c);
    clusters_release(&again);
    mem_free(p.values);
}

static double squared_error(const struct kmeans *m, const float *points, size_t n)
{
    uint32_t *nearest = mem_new_array(uint32_t, n);
    double sum = 0;
    kmeans_nearest(&op, m, points, n, nearest);
    for (size_t i = 0; i < n; i++)
        sum += (double)distance_l2(points + i * m->dim,
                                   m->centroids + nearest[i] * m->dim, m->dim);
    mem_free(nearest);
    return sum;
}

static void more_rounds_come_nearer(void **state)
{
    (void)state;
    uint64_t seed = test_seed(), same = 5;
    float *points = gaussians(3000 * 16, &seed);
    double before = INFINITY;
    for (unsigned rounds = 0; rounds <= 4; rounds += 2) {
        same = 5;
        struct kmeans *m = kmeans_train(&op, points, 3000, 16, 40, rounds, &same);
        double error = squared_error(m, points, 3000);
        assert_true(error < before);
        before = error;
        kmeans_free(m);
    }
    mem_free(points);
}

static void the_nearest_centroid_is_the_nearest(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    float *points = gaussians(777 * 32, &seed);
    struct kmeans *m = kmeans_of(&op, gaussians(131 * 32, &seed), 131, 32);
    uint32_t nearest[777];
    kmeans_nearest(&op, m, points, 777, nearest);
    for (size_t i = 0; i < 777; i++) {
        float got = distance_l2(points + i * 32, m->centroids + nearest[i] * 32, 32);
        for (size_t c = 0; c < 131; c++)
            assert_true(got <= distance_l2(points + i * 32, m->centroids + c * 32, 32) *
                                   (1 + 1e-5f));
    }
    kmeans_free(m);
    mem_free(points);
}

/* A tree may miss the nearest, but hardly ever by much. */
static void a_tree_of_centroids_is_nearly_as_good_as_all(void **state)
{
    (void)state;
    enum { N = 9000, COUNT = 1500, DIM = 16 };
    uint64_t seed = test_seed();
    float *points = gaussians((size_t)N * DIM, &seed);
    struct kmeans *m = kmeans_train(&op, points, N, DIM, COUNT, 5, &seed);
    uint32_t *nearest = mem_new_array(uint32_t, N), missed = 0;
    assert_non_null(m->groups);
    assert_in_range(m->count, COUNT * 9 / 10, COUNT * 11 / 10);
    kmeans_nearest(&op, m, points, N, nearest);
    for (size_t i = 0; i < N; i += 10) {
        float got = distance_l2(points + i * DIM, m->centroids + nearest[i] * DIM, DIM);
        float best = INFINITY;
        for (size_t c = 0; c < m->count; c++)
            best =
                fminf(best, distance_l2(points + i * DIM, m->centroids + c * DIM, DIM));
        missed += got > best * 1.2f;
    }
    assert_true(missed < N / 10 / 20);
    mem_free(nearest);
    mem_free(points);
    kmeans_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_of_random_points_are_sound),
        cmocka_unit_test(points_that_are_all_equal_are_divided_evenly),
        cmocka_unit_test(one_far_outlier_does_not_upset_the_others),
        cmocka_unit_test(separate_groups_are_found),
        cmocka_unit_test(clusters_from_any_start_are_sound),
        cmocka_unit_test(rows_stay_where_they_are_and_others_join_them),
        cmocka_unit_test(clusters_are_found_in_small_steps),
        cmocka_unit_test(more_rounds_come_nearer),
        cmocka_unit_test(the_nearest_centroid_is_the_nearest),
        cmocka_unit_test(a_tree_of_centroids_is_nearly_as_good_as_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
