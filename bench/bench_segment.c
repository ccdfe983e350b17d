/*
 * bench_segment - what a segment costs to build, open, ask and merge.
 *
 * CPU times, beside a reference of the same run where there is one: the kernel over the
 * same vectors in one piece. Memory: the largest resident set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "segment/segment.h"
#include "store/store_mem.h"
#include "vec/distance.h"

enum { ROWS = 50000, DIM = 784, K = 10, REPEATS = 15 };

static uint64_t state = 1;

/* CPU time of this thread: other work on the machine counts less. */
static int64_t cpu_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static uint32_t below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return a->row < b->row ? -1 : a->row > b->row;
}

static int compare_time(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *times)
{
    qsort(times, REPEATS, sizeof *times, compare_time);
    return times[REPEATS / 2];
}

static double resident_mb(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static void must(struct op *op, enum err e)
{
    if (!e) return;
    (void)fprintf(stderr, "%s\n", op->error);
    exit(1);
}

/* ---- documents ---- */

static const struct attr attrs[] = {
    {.name = "title",
     .type = ATTR_STRING,
     .full_text = true,
     .analysis = {LANG_ENGLISH, true, true, false, false}},
    {.name = "label", .type = ATTR_INT, .indexed = true},
    {.name = "price", .type = ATTR_FLOAT}};
enum { ATTRS = sizeof attrs / sizeof *attrs };

static void doc_make(uint64_t id, const float *vector, struct value *values,
                     char *title, struct doc *d)
{
    size_t size = 0;
    for (int i = 0; i < 12; i++)
        size +=
            (size_t)snprintf(title + size, 200 - size, "w%u ", below(1 + below(20000)));
    values[0] = (struct value){.one.s = slice_of(title, size)};
    values[1] = (struct value){.one.i = below(100)};
    values[2] = (struct value){.one.f = (double)below(10000) / 100};
    *d = (struct doc){.id = {.kind = ID_U64, .u64 = id},
                      .vector = vector,
                      .values = values};
}

static void build(struct op *op, struct schema *schema, const float *vectors,
                  uint32_t first, uint32_t count, int level, struct buf *out)
{
    struct segment_options options = {.zstd_level = level};
    struct segment_builder *b = segment_builder_new(schema, &options);
    struct value values[ATTRS];
    char title[200];
    struct doc d;
    for (uint32_t i = first; i < first + count; i++) {
        doc_make(i * 7, vectors + (size_t)i * DIM, values, title, &d);
        segment_builder_add(b, &d);
    }
    must(op, segment_builder_finish(op, b, out));
}

/* ---- one write ---- */

static void bench_one_row(struct op *op, struct schema *schema, const float *vectors)
{
    double times[REPEATS];
    enum { ROUNDS = 2000 };
    for (int r = 0; r < REPEATS; r++) {
        int64_t start = cpu_us();
        for (uint32_t i = 0; i < ROUNDS; i++) {
            struct buf bytes = BUF_INIT;
            struct segment *s;
            build(op, schema, vectors, i, 1, 0, &bytes);
            must(op, segment_open_memory(op, &bytes, &s));
            segment_unref(s);
        }
        times[r] = (double)(cpu_us() - start) / ROUNDS;
    }
    printf("one document, %d-d, 3 attributes, one of text: build and open %.1f us\n",
           DIM, median(times));
}

/* ---- asking ---- */

static void bench_find(const struct segment *s)
{
    enum { IDS = 1000 };
    struct doc_id ids[IDS];
    uint32_t rows[IDS];
    double times[REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        for (int i = 0; i < IDS; i++)
            ids[i] = (struct doc_id){.kind = ID_U64, .u64 = below(ROWS * 7)};
        int64_t start = cpu_us();
        segment_find(s, ids, IDS, rows);
        times[r] = (double)(cpu_us() - start);
    }
    printf("find 1000 random ids among %d: %.0f us\n", ROWS, median(times));
}

static void bench_scan(struct op *op, struct segment *s, const float *vectors,
                       const struct rowset *allowed, const char *what)
{
    double ours[REPEATS], kernel[REPEATS];
    struct hit hits[K];
    float *scores = mem_new_array(float, ROWS);
    for (int r = 0; r < REPEATS; r++) {
        const float *query = vectors + (size_t)below(ROWS) * DIM;
        struct topk best;
        topk_init(&best, hits, K, by_row, NULL);
        int64_t start = cpu_us();
        must(op, segment_vector_search(op, s, METRIC_COSINE, query, allowed, 0, &best));
        ours[r] = (double)(cpu_us() - start);
        start = cpu_us();
        distance_dot_rows(query, vectors, ROWS, DIM, scores);
        kernel[r] = (double)(cpu_us() - start);
    }
    double a = median(ours), b = median(kernel);
    printf("search, %-28s %8.0f us  kernel over all rows %8.0f us  ratio %.2f\n", what,
           a, b, a / b);
    mem_free(scores);
}

static void bench_fetch(struct op *op, struct segment *s, const struct schema *schema,
                        bool vector, const char *what)
{
    double times[REPEATS];
    for (int r = 0; r < REPEATS; r++) {
        struct doc docs[K];
        uint32_t rows[K];
        for (int i = 0; i < K; i++)
            rows[i] = below(ROWS);
        int64_t start = cpu_us();
        must(op, segment_fetch(op, s, schema, rows, K,
                               (struct segment_fetch){vector, true}, docs));
        times[r] = (double)(cpu_us() - start);
    }
    printf("fetch %d documents %-20s %.0f us\n", K, what, median(times));
}

static void bench_merge(struct op *op, struct schema *schema, struct segment *stored,
                        struct segment *other)
{
    struct rowset *dead = rowset_new();
    struct segment_options options = {.zstd_level = 1};
    struct buf out = BUF_INIT;
    uint32_t rows;
    for (uint32_t row = 0; row < ROWS; row += 10)
        rowset_add(dead, row);
    struct segment_input inputs[] = {{stored, dead}, {other, NULL}};
    int64_t start = cpu_us();
    must(op, segment_merge(op, schema, &options, inputs, 2, &out, &rows));
    double ms = (double)(cpu_us() - start) / 1000;
    printf("merge of %d and %u rows into %u: %.0f ms, %.1f us a row, %.0f MB\n", ROWS,
           segment_row_count(other), rows, ms, ms * 1000 / rows,
           (double)out.size / 1e6);
    buf_release(&out);
    rowset_unref(dead);
}

int main(void)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct schema *schema = schema_new(DIM, METRIC_COSINE, attrs, ATTRS);
    float *vectors = mem_alloc((size_t)ROWS * DIM * sizeof *vectors);
    for (size_t i = 0; i < (size_t)ROWS * DIM; i++)
        vectors[i] = (float)below(1000) / 1000;

    bench_one_row(&op, schema, vectors);

    double before = resident_mb();
    struct buf bytes = BUF_INIT;
    int64_t start = cpu_us();
    build(&op, schema, vectors, 0, ROWS, 1, &bytes);
    double ms = (double)(cpu_us() - start) / 1000;
    printf(
        "build %d x %d: %.0f ms, %.1f us a row; %.1f MB; resident set grew by %.2f of "
        "that\n",
        ROWS, DIM, ms, ms * 1000 / ROWS, (double)bytes.size / 1e6,
        (resident_mb() - before) * 1048576 / (double)bytes.size);

    struct store *store = store_mem_new();
    struct cache *cache = cache_new(store, (uint64_t)2 << 30);
    struct slice all = buf_slice(&bytes);
    must(&op, store_put(&op, store, "segment", &all, 1));
    struct segment *stored, *memory, *other;
    start = cpu_us();
    must(&op, segment_open(&op, cache, "segment", bytes.size, &stored));
    printf("open stored: %.0f us, holds %.0f KB\n", (double)(cpu_us() - start),
           (double)segment_memory(stored) / 1e3);
    start = cpu_us();
    must(&op, segment_open_memory(&op, &bytes, &memory));
    printf("open in memory, all checked: %.0f us\n", (double)(cpu_us() - start));

    struct rowset *tenth = rowset_new(), *hundredth = rowset_new();
    for (uint32_t row = 0; row < ROWS; row++) {
        if (below(10) == 0) rowset_add(tenth, row);
        if (below(100) == 0) rowset_add(hundredth, row);
    }
    bench_find(stored);
    bench_scan(&op, stored, vectors, NULL, "stored, warm");
    bench_scan(&op, memory, vectors, NULL, "in memory");
    bench_scan(&op, stored, vectors, tenth, "stored, a tenth allowed");
    bench_scan(&op, stored, vectors, hundredth, "stored, a hundredth allowed");
    bench_fetch(&op, stored, schema, false, "without vectors");
    bench_fetch(&op, stored, schema, true, "with vectors");

    struct buf more = BUF_INIT;
    struct segment_options options = {.zstd_level = 0};
    struct segment_builder *b = segment_builder_new(schema, &options);
    for (uint32_t i = 0; i < 1000; i++) {
        struct value values[ATTRS];
        char title[200];
        struct doc d;
        doc_make((uint64_t)i * 11 * 7 + 1, vectors + (size_t)i * DIM, values, title,
                 &d);
        segment_builder_add(b, &d);
    }
    must(&op, segment_builder_finish(&op, b, &more));
    must(&op, segment_open_memory(&op, &more, &other));
    bench_merge(&op, schema, stored, other);

    rowset_unref(tenth);
    rowset_unref(hundredth);
    segment_unref(stored);
    segment_unref(memory);
    segment_unref(other);
    cache_free(cache);
    store_free(store);
    mem_free(vectors);
    schema_unref(schema);
    op_release(&op);
    return 0;
}
