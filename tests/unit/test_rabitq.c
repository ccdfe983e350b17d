#include "vec/rabitq.h"

#include <math.h>

#include "base/mem.h"
#include "base/simd.h"
#include "unit/test.h"
#include "unit/vectors.h"
#include "vec/distance.h"
#include "vec/rotate.h"

static uint8_t *random_bytes(size_t count, uint64_t *seed)
{
    uint8_t *p = mem_alloc(count + 1);
    for (size_t i = 0; i < count; i++)
        p[i] = (uint8_t)test_random(seed);
    return p;
}

static enum simd_level next_level(enum simd_level level)
{
#if defined(__x86_64__)
    if (level == SIMD_PLAIN) return SIMD_AVX2;
#endif
    return level + 1;
}

static const size_t dims[] = {64, 128, 192, 832, 1024, 1088, 4096, 10816};

/* Bytes anywhere, also at odd addresses: sums must be the plain twin's. */
static void scan_sums_are_equal_at_every_level(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (size_t i = 0; i < COUNT_OF(dims); i++)
        for (size_t count = 1; count <= 3; count++) {
            size_t dim = dims[i], size = rabitq_block_size(dim);
            uint8_t *blocks = random_bytes(count * size + 1, &seed);
            uint8_t *table = random_bytes(4 * dim, &seed);
            uint32_t expected[96], sums[96];
            if (count == 3) memset(table, 255, 4 * dim); /* the largest sums */
            vec_plain.scan(blocks + 1, count, size, table, dim, expected);
            if (count == 3) assert_int_equal(expected[0], 255 * dim / 4);
            for (enum simd_level level = SIMD_PLAIN; level <= simd_detect();
                 level = next_level(level)) {
                simd_force(level);
                memset(sums, 0, sizeof sums);
                vec_kernels()->scan(blocks + 1, count, size, table, dim, sums);
                assert_memory_equal(sums, expected, count * BLOCK_CODES * sizeof *sums);
            }
            mem_free(blocks);
            mem_free(table);
        }
    simd_force(simd_detect());
}

static void products_of_bytes_are_equal_at_every_level(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (size_t i = 0; i < COUNT_OF(dims); i++)
        for (size_t count = 1; count <= 9; count++) {
            size_t dim = dims[i];
            uint8_t *rows = random_bytes(count * dim + 1, &seed);
            uint8_t *query = random_bytes(dim, &seed);
            int8_t *q = (int8_t *)query;
            int32_t expected[9], out[9];
            if (count == 9) { /* the largest products */
                memset(rows, 255, count * dim + 1);
                memset(query, 0x80, dim);
            }
            for (size_t r = 0; r < count; r++) {
                expected[r] = 0;
                for (size_t d = 0; d < dim; d++)
                    expected[r] += rows[1 + r * dim + d] * q[d];
            }
            for (enum simd_level level = SIMD_PLAIN; level <= simd_detect();
                 level = next_level(level)) {
                simd_force(level);
                vec_kernels()->dot8(rows + 1, count, q, dim, out);
                assert_memory_equal(out, expected, count * sizeof *out);
            }
            mem_free(rows);
            mem_free(query);
        }
    simd_force(simd_detect());
}

static void prepared_queries_are_equal_at_every_level(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (size_t i = 0; i < COUNT_OF(dims); i++) {
        size_t dim = dims[i];
        float *values = gaussians(dim, &seed);
        uint8_t *tables = mem_alloc(8 * dim), *codes = mem_alloc(2 * dim);
        simd_force(SIMD_PLAIN);
        struct rabitq_query plain = {.values = values,
                                     .table = tables,
                                     .codes = (int8_t *)codes};
        rabitq_query_prepare(&plain, dim);
        for (enum simd_level level = SIMD_PLAIN; level <= simd_detect();
             level = next_level(level)) {
            simd_force(level);
            struct rabitq_query q = {.values = values,
                                     .table = tables + 4 * dim,
                                     .codes = (int8_t *)codes + dim};
            rabitq_query_prepare(&q, dim);
            assert_memory_equal(q.table, plain.table, 4 * dim);
            assert_memory_equal(q.codes, plain.codes, dim);
        }
        mem_free(values);
        mem_free(tables);
        mem_free(codes);
    }
    simd_force(simd_detect());
}

static void tiles_are_products(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (size_t dim = 64; dim <= 320; dim += 64)
        for (enum simd_level level = SIMD_PLAIN; level <= simd_detect();
             level = next_level(level)) {
            float *v = gaussians(8 * dim, &seed), out[16];
            const float *a[4], *b[4];
            for (size_t i = 0; i < 4; i++) {
                a[i] = v + i * dim;
                b[i] = v + (4 + i) * dim;
            }
            simd_force(level);
            vec_kernels()->tile(a, b, dim, out);
            for (size_t i = 0; i < 16; i++)
                assert_true(fabs((double)out[i] -
                                 distance_dot_f64(a[i / 4], b[i % 4], dim)) < 1e-3);
            mem_free(v);
        }
    simd_force(simd_detect());
}

/* ---- statistics of the estimates ---- */

struct world {
    size_t dim, count;
    enum rabitq_kind kind;
    float *centroid, *query, *rows; /* rotated */
    uint8_t *blocks, *codes, *factors;
    struct rabitq_query q;
};

static void world_init(struct world *w, size_t dim, size_t count, enum rabitq_kind kind,
                       uint64_t *seed)
{
    struct rotation *rotation = rotation_new(dim, test_random(seed));
    size_t padded = rotation_padded(dim);
    float *raw = gaussians((count + 2) * dim, seed);
    float *rotated = mem_new_array(float, (count + 2) * padded);
    float *residual = mem_new_array(float, padded);
    for (size_t i = 0; i < (count + 2) * dim; i++)
        raw[i] = raw[i] * (i % 7 == 0 ? 3.0f : 0.5f);
    for (size_t i = 0; i < count + 2; i++)
        rotation_apply(rotation, raw + i * dim, rotated + i * padded);
    *w = (struct world){.dim = padded,
                        .count = count,
                        .kind = kind,
                        .centroid = rotated};
    w->query = rotated + padded;
    w->rows = rotated + 2 * padded;
    w->blocks = mem_calloc(count / BLOCK_CODES, rabitq_block_size(padded));
    w->codes = mem_alloc(count * padded);
    w->factors = mem_alloc(count * RABITQ_FACTORS8_SIZE);
    for (size_t i = 0; i < count; i++) {
        const float *row = w->rows + i * padded;
        for (size_t d = 0; d < padded; d++)
            residual[d] = row[d] - w->centroid[d];
        rabitq_encode1(kind, residual, w->centroid, padded, (uint32_t)i,
                       i % BLOCK_CODES,
                       w->blocks + i / BLOCK_CODES * rabitq_block_size(padded));
        rabitq_encode8(kind, residual, w->centroid, padded, w->codes + i * padded,
                       w->factors + i * RABITQ_FACTORS8_SIZE);
    }
    w->q = (struct rabitq_query){.values = w->query,
                                 .table = mem_alloc(4 * padded),
                                 .codes = mem_alloc(padded)};
    rabitq_query_prepare(&w->q, padded);
    rotation_free(rotation);
    mem_free(raw);
    mem_free(residual);
}

static void world_release(struct world *w)
{
    mem_free(w->centroid);
    mem_free(w->blocks);
    mem_free(w->codes);
    mem_free(w->factors);
    mem_free(w->q.table);
    mem_free(w->q.codes);
}

static double truth(const struct world *w, size_t row)
{
    const float *r = w->rows + row * w->dim;
    return w->kind == RABITQ_L2 ? distance_l2_f64(r, w->query, w->dim)
                                : -distance_dot_f64(r, w->query, w->dim);
}

struct spread {
    double mean, deviation, below; /* of the error; part of bounds above the truth */
    double width;                  /* mean width of the bound */
};

static struct spread errors1(struct world *w, float eps)
{
    struct bound_terms terms = rabitq_terms(w->kind, &w->q, w->centroid, w->dim, eps);
    struct spread s = {0, 0, 0, 0};
    size_t size = rabitq_block_size(w->dim);
    for (size_t b = 0; b < w->count / BLOCK_CODES; b++) {
        const uint8_t *block = w->blocks + b * size;
        uint32_t sums[BLOCK_CODES];
        float estimates[BLOCK_CODES], lowers[BLOCK_CODES];
        vec_kernels()->scan(block, 1, size, w->q.table, w->dim, sums);
        vec_kernels()->bounds(block + rabitq_factors_offset(w->dim), sums, &terms,
                              estimates, lowers);
        for (size_t i = 0; i < BLOCK_CODES; i++) {
            double t = truth(w, b * BLOCK_CODES + i);
            double error = (double)estimates[i] - t;
            s.mean += error / (double)w->count;
            s.deviation += error * error / (double)w->count;
            s.below += ((double)lowers[i] > t ? 1.0 : 0.0) / (double)w->count;
            s.width += (double)(estimates[i] - lowers[i]) / (double)w->count;
        }
    }
    s.deviation = sqrt(s.deviation);
    return s;
}

static const size_t stat_dims[] = {64, 100, 127, 128, 129, 300, 784};

/* The mean error over many vectors is within five standard errors of zero (errors share
 * one rotation and query, so they are averaged over many worlds). */
static void one_bit_estimates_are_unbiased_and_bounds_hold(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < COUNT_OF(stat_dims); i++) {
            enum { WORLDS = 40 };
            double mean = 0, squares = 0, below = 0;
            for (int n = 0; n < WORLDS; n++) {
                struct world w;
                world_init(&w, stat_dims[i], 64, (enum rabitq_kind)kind, &seed);
                struct spread s = errors1(&w, 1.9f);
                mean += s.mean / WORLDS;
                squares += s.mean * s.mean / WORLDS;
                below += s.below / WORLDS;
                world_release(&w);
            }
            assert_true(fabs(mean) < 5 * sqrt(squares / WORLDS));
            assert_true(below < 0.06);
        }
}

/* A bound that always held would be worthless: it must be near the error. */
static void bounds_are_as_tight_as_promised(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct world w;
    world_init(&w, 784, 2048, RABITQ_L2, &seed);
    struct spread s = errors1(&w, 1.9f);
    assert_true(s.width < 4 * s.deviation);
    assert_true(s.width > s.deviation);
    world_release(&w);
}

static void eight_bit_distances_are_much_nearer(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < COUNT_OF(stat_dims); i++) {
            struct world w;
            world_init(&w, stat_dims[i], 256, (enum rabitq_kind)kind, &seed);
            struct bound_terms t = rabitq_terms(w.kind, &w.q, w.centroid, w.dim, 1);
            double deviation = 0;
            for (size_t r = 0; r < w.count; r++) {
                int32_t dot;
                vec_kernels()->dot8(w.codes + r * w.dim, 1, w.q.codes, w.dim, &dot);
                float got =
                    rabitq_distance8(&w.q, dot, w.factors + r * RABITQ_FACTORS8_SIZE,
                                     t.add);
                double error = (double)got - truth(&w, r);
                deviation += error * error / (double)w.count;
            }
            struct spread one_bit = errors1(&w, 1);
            assert_true(sqrt(deviation) < one_bit.deviation / 20);
            world_release(&w);
        }
}

static void a_vector_on_its_centroid_has_no_error(void **state)
{
    (void)state;
    enum { DIM = 64 };
    float zero[DIM] = {0}, values[DIM];
    uint8_t *block = mem_calloc(1, rabitq_block_size(DIM));
    uint8_t code[DIM], factors[RABITQ_FACTORS8_SIZE], table[4 * DIM];
    int8_t codes[DIM];
    for (size_t d = 0; d < DIM; d++)
        values[d] = (float)d - 20;
    struct rabitq_query q = {.values = values, .table = table, .codes = codes};
    rabitq_query_prepare(&q, DIM);
    for (int kind = 0; kind < 2; kind++) {
        struct bound_terms t =
            rabitq_terms((enum rabitq_kind)kind, &q, values, DIM, 1.9f);
        memset(block, 0, rabitq_block_size(DIM));
        rabitq_encode1((enum rabitq_kind)kind, zero, values, DIM, 9, 31, block);
        rabitq_encode8((enum rabitq_kind)kind, zero, values, DIM, code, factors);
        uint32_t sums[BLOCK_CODES] = {0}, row;
        float estimates[BLOCK_CODES], lowers[BLOCK_CODES];
        vec_kernels()->bounds(block + rabitq_factors_offset(DIM), sums, &t, estimates,
                              lowers);
        memcpy(&row, block + rabitq_rows_offset(DIM) + 31 * sizeof row, sizeof row);
        assert_int_equal(row, 9);
        float expected = kind == RABITQ_L2 ? 0 : -distance_dot(values, values, DIM);
        assert_true(estimates[31] == expected && lowers[31] == expected);
        assert_true(rabitq_distance8(&q, 12345, factors, t.add) == expected);
    }
    mem_free(block);
}

static void a_query_of_zeros_is_prepared(void **state)
{
    (void)state;
    float values[64] = {0};
    uint8_t table[256];
    int8_t codes[64];
    struct rabitq_query q = {.values = values, .table = table, .codes = codes};
    rabitq_query_prepare(&q, 64);
    assert_true(q.offset1 == 0 && q.offset8 == 0 && q.norm == 0);
    for (size_t i = 0; i < sizeof table; i++)
        assert_int_equal(table[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_sums_are_equal_at_every_level),
        cmocka_unit_test(products_of_bytes_are_equal_at_every_level),
        cmocka_unit_test(prepared_queries_are_equal_at_every_level),
        cmocka_unit_test(tiles_are_products),
        cmocka_unit_test(one_bit_estimates_are_unbiased_and_bounds_hold),
        cmocka_unit_test(bounds_are_as_tight_as_promised),
        cmocka_unit_test(eight_bit_distances_are_much_nearer),
        cmocka_unit_test(a_vector_on_its_centroid_has_no_error),
        cmocka_unit_test(a_query_of_zeros_is_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
