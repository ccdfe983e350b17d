/*
 * bench_distance - the exact scan against what one core reads from memory.
 *
 * Both walk over the same gigabyte in the same run, alternating; the median of several
 * rounds is printed as GB/s, and the ratio is what counts (machines are noisy).
 * The read is a sum of 64-byte vectors, with and without prefetch: the better one.
 *   bench_distance [level ...]     plain avx2 avx512, all that the machine has by
 * default
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/simd.h"
#include "base/task.h"
#include "vec/distance.h"

enum { ROUNDS = 7 };
static const size_t BYTES = (size_t)5 << 28; /* 1.25 GiB */

typedef uint64_t lanes __attribute__((vector_size(64), aligned(1), may_alias));

static volatile uint64_t sink;

static void read_all(const uint8_t *p, size_t size, size_t ahead)
{
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 256 <= size; i += 256) {
        if (ahead)
            for (size_t line = 0; line < 256; line += 64)
                __builtin_prefetch(p + i + ahead + line);
        a += *(const lanes *)(const void *)(p + i);
        b += *(const lanes *)(const void *)(p + i + 64);
        c += *(const lanes *)(const void *)(p + i + 128);
        d += *(const lanes *)(const void *)(p + i + 192);
    }
    a += b + c + d;
    for (int k = 0; k < 8; k++)
        sink += a[k];
}

typedef void (*rows_fn)(const float *, const float *, size_t, size_t, float *);

static int compare_double(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare_double);
    return values[ROUNDS / 2];
}

static double gigabytes_per_second(size_t bytes, int64_t start_us)
{
    return (double)bytes / 1e3 / (double)(clock_us() - start_us);
}

static void bench(const float *memory, const float *query, float *out, size_t dim,
                  const char *name, rows_fn rows)
{
    size_t count = BYTES / (dim * sizeof(float));
    size_t block = (1 << 20) / (dim * sizeof(float));
    double read[ROUNDS], scan[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double best = 0;
        for (size_t ahead = 0; ahead <= 4096; ahead += 4096) {
            int64_t start = clock_us();
            read_all((const uint8_t *)memory, count * dim * sizeof(float), ahead);
            double got = gigabytes_per_second(count * dim * sizeof(float), start);
            if (got > best) best = got;
        }
        read[round] = best;
        int64_t start = clock_us();
        for (size_t done = 0; done < count; done += block) {
            size_t n = count - done < block ? count - done : block;
            rows(query, memory + done * dim, n, dim, out);
        }
        scan[round] = gigabytes_per_second(count * dim * sizeof(float), start);
    }
    double r = median(read), s = median(scan);
    printf("%-12s %-4s dim %5zu  read %6.2f GB/s  scan %6.2f GB/s  ratio %.2f\n",
           simd_name(simd_level()), name, dim, r, s, s / r);
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    static const size_t dims[] = {100, 128, 768, 784};
    float *memory = mem_aligned(4096, BYTES);
    float *query = mem_new_array(float, 1024);
    float *out = mem_new_array(float, 1 << 20);
    for (size_t i = 0; i < BYTES / sizeof(float); i++)
        memory[i] = (float)(i * 2654435761u % 1000) / 1000.0f;
    memcpy(query, memory, 1024 * sizeof(float));

    for (enum simd_level level = SIMD_PLAIN; level <= simd_detect(); level++) {
#if defined(__x86_64__)
        if (level == SIMD_NEON) continue;
#endif
        if (!wanted(simd_name(level), argc, argv)) continue;
        simd_force(level);
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            bench(memory, query, out, dims[i], "dot", distance_dot_rows);
            bench(memory, query, out, dims[i], "l2", distance_l2_rows);
        }
    }
    mem_free(memory);
    mem_free(query);
    mem_free(out);
    return 0;
}
