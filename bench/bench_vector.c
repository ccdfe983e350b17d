/*
 * bench_vector - the vector index on a collection, in process, one thread.
 *
 * Builds the index of Fashion-MNIST, 60000 x 784, or of the vectors in a folder, then
 * answers queries at several numbers of clusters, without and with exact vectors for
 * the last step, then, on Fashion-MNIST, with filters. Rates are by CPU time, best of
 * several passes, and as a ratio to the exact scan of the same run (of the matches,
 * where there is a filter). Memory is what the process has more after the build, and at
 * most. bench_vector [queries [folder [simd level]]] The folder holds base.npy and
 * queries.npy, rows of float32, and kth.npy, the squared distance of each query's tenth
 * neighbour (bench_vector_peers.py writes it); "" is Fashion-MNIST.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "base/simd.h"
#include "base/topk.h"
#include "unit/cpu_time.h"
#include "unit/fashion.h"
#include "vec/distance.h"
#include "vec/ivf.h"

enum { K = 10, PASSES = 3, SCANNED = 50, FILTERED = 200 };

struct collection {
    uint32_t count, dim, query_count;
    const float *base, *queries, *kth; /* squared distance of the K-th neighbour */
    struct fashion fashion;            /* where they are of it */
    float *own_kth;
    struct buf raw[3]; /* where they are of a folder */
};

static bool load_fashion(struct collection *f)
{
    if (!fashion_load(&f->fashion, f->query_count)) return false;
    f->dim = FASHION_DIM;
    f->count = FASHION_ROWS;
    f->base = f->fashion.base;
    f->queries = f->fashion.queries;
    f->own_kth = mem_new_array(float, f->query_count);
    for (uint32_t q = 0; q < f->query_count; q++)
        f->own_kth[q] = fashion_kth(&f->fashion, q, K);
    f->kth = f->own_kth;
    return true;
}

/* Rows of float32, and how many and how long they are. */
static bool load_rows(const char *folder, const char *name, struct buf *raw,
                      const float **rows, uint32_t *count, uint32_t *dim)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    for (size_t got = 1; got > 0; raw->size += got) {
        buf_reserve(raw, 64 << 20);
        got = fread(raw->data + raw->size, 1, 64 << 20, file);
    }
    (void)fclose(file);
    const char *shape = strstr((const char *)raw->data + 10, "'shape': (");
    char *end;
    if (!shape) return false;
    *count = (uint32_t)strtoul(shape + 10, &end, 10);
    *dim = (uint32_t)strtoul(end + 1, NULL, 10);
    *rows = (const float *)(const void *)npy_data(raw);
    return true;
}

static bool load_folder(struct collection *f, const char *folder)
{
    uint32_t queries, one;
    return load_rows(folder, "base.npy", &f->raw[0], &f->base, &f->count, &f->dim) &&
           load_rows(folder, "queries.npy", &f->raw[1], &f->queries, &queries,
                     &f->dim) &&
           load_rows(folder, "kth.npy", &f->raw[2], &f->kth, &queries, &one) &&
           f->query_count <= queries;
}

/* Of this process in MB: now, or at most. */
static double resident_mb(const char *which)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, which, strlen(which)) == 0)
            kib = strtod(line + strlen(which), NULL);
    if (file) (void)fclose(file);
    return kib * 1024 / 1e6;
}

static void read_base(const void *context, uint32_t first, uint32_t count, float *out)
{
    const struct collection *f = context;
    memcpy(out, f->base + (size_t)first * f->dim, (size_t)count * f->dim * sizeof *out);
}

struct against {
    const struct collection *f;
    const float *query;
};

static float exact_score(const void *context, uint32_t row)
{
    const struct against *a = context;
    return -distance_l2(a->query, a->f->base + (size_t)row * a->f->dim, a->f->dim);
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

/* How many of the found are among the true nearest, ties included. */
static uint32_t count_true(const struct collection *f, uint32_t query,
                           const struct topk *found)
{
    float kth = f->kth[query];
    struct against a = {f, f->queries + (size_t)query * f->dim};
    uint32_t hits = 0;
    for (size_t i = 0; i < found->count; i++)
        hits += is_within(-exact_score(&a, found->hits[i].row), kth);
    return hits;
}

struct outcome {
    double seconds, recall;
    struct ivf_counters counters; /* of all queries */
};

static struct outcome search_all(const struct collection *f, const struct ivf *ivf,
                                 struct slice records,
                                 const struct ivf_options *options)
{
    struct outcome o = {.seconds = INFINITY};
    struct hit *hits = mem_new_array(struct hit, (size_t)f->query_count * K);
    struct topk *best = mem_new_array(struct topk, f->query_count);
    for (int pass = 0; pass < PASSES; pass++) {
        memset(&o.counters, 0, sizeof o.counters);
        double start = cpu_seconds();
        for (uint32_t q = 0; q < f->query_count; q++) {
            struct op op;
            struct ivf_counters counters = {0};
            struct against a = {f, f->queries + (size_t)q * f->dim};
            op_init(&op, OP_NO_DEADLINE, 0);
            topk_init(best + q, hits + (size_t)q * K, K, by_row, NULL);
            if (ivf_search(&op, ivf, records, a.query, options, exact_score, &a, 0,
                           best + q, &counters))
                (void)printf("search failed: %s\n", op.error);
            op_release(&op);
            o.counters.clusters += counters.clusters;
            o.counters.codes += counters.codes;
            o.counters.rows += counters.rows;
            o.counters.exact += counters.exact;
        }
        o.seconds = fmin(o.seconds, cpu_seconds() - start);
    }
    uint32_t found = 0;
    for (uint32_t q = 0; q < f->query_count; q++)
        found += count_true(f, q, best + q);
    o.recall = (double)found / K / f->query_count;
    mem_free(hits);
    mem_free(best);
    return o;
}

/* Queries a second of the exact scan. */
static double scan_rate(const struct collection *f)
{
    float *out = mem_new_array(float, f->count);
    double start = cpu_seconds();
    for (uint32_t q = 0; q < SCANNED; q++)
        distance_l2_rows(f->queries + (size_t)q * f->dim, f->base, f->count, f->dim,
                         out);
    double seconds = cpu_seconds() - start;
    mem_free(out);
    return SCANNED / seconds;
}

static void print(const char *name, const struct collection *f, struct outcome o,
                  double scan)
{
    double n = f->query_count, rate = n / o.seconds;
    (void)printf("%-14s recall %.4f  %8.0f q/s  %6.1f us  x%5.0f scan  clusters %5.1f "
                 "codes %6.0f rows %5.1f exact %4.1f\n",
                 name, o.recall, rate, 1e6 / rate, rate / scan,
                 (double)o.counters.clusters / n, (double)o.counters.codes / n,
                 (double)o.counters.rows / n, (double)o.counters.exact / n);
}

static void measure(const struct collection *f, const struct ivf *ivf,
                    struct slice records)
{
    static const uint32_t probes[] = {2,  3,  4,  5,  6,  8,   10,  12, 16,
                                      24, 32, 48, 64, 96, 128, 192, 256};
    static const float recalls[] = {0.9f, 0.92f, 0.95f, 0.97f, 0.98f, 0.99f};
    double scan = scan_rate(f);
    (void)printf("exact scan %.0f q/s\n", scan);
    for (uint32_t rerank = 0; rerank <= 15; rerank += 15) {
        char name[64];
        for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
            struct ivf_options o = {.k = K, .probes = probes[i], .rerank = rerank};
            (void)snprintf(name, sizeof name, "%u%s", probes[i], rerank ? "+15" : "");
            print(name, f, search_all(f, ivf, records, &o), scan);
        }
        for (size_t i = 0; i < sizeof recalls / sizeof *recalls; i++) {
            struct ivf_options o = {.k = K, .recall = recalls[i], .rerank = rerank};
            (void)snprintf(name, sizeof name, "wants %.2f%s", (double)recalls[i],
                           rerank ? "+15" : "");
            print(name, f, search_all(f, ivf, records, &o), scan);
        }
    }
}

/* ---- filters ---- */

/* Rows whose label is in the mask, thinned to one in `one_in`. */
static struct rowset *label_filter(const uint8_t *labels, uint32_t count, uint32_t mask,
                                   uint32_t one_in)
{
    struct rowset *set = rowset_new();
    for (uint32_t i = 0; i < count; i++)
        if ((mask >> labels[i] & 1) && i * 2654435761u % (1 << 20) < (1 << 20) / one_in)
            rowset_add(set, i);
    return set;
}

struct filtered {
    double seconds, scan_seconds;
    uint32_t found, wanted;
    struct ivf_counters counters;
};

static void scan_matches(const struct against *a, const struct rowset *allowed,
                         struct topk *best)
{
    uint32_t rows[1024];
    size_t got;
    for (uint32_t from = 0; (got = rowset_read(allowed, from, rows, 1024)) > 0;
         from = rows[got - 1] + 1)
        for (size_t i = 0; i < got; i++) {
            float score = exact_score(a, rows[i]);
            if (score >= topk_floor(best))
                topk_push(best, (struct hit){score, 0, rows[i]});
        }
}

static void search_filtered(const struct collection *f, const struct ivf *ivf,
                            const struct ivf_bytes *bytes, const struct rowset *allowed,
                            uint32_t query, const struct topk *truth,
                            struct filtered *out)
{
    struct against a = {f, f->queries + (size_t)query * f->dim};
    struct ivf_options options = {.k = K,
                                  .recall = 0.95f,
                                  .rerank = 15,
                                  .allowed = allowed,
                                  .slots = buf_slice(&bytes->slots)};
    struct hit hits[K];
    struct topk best;
    struct op op;
    struct ivf_counters counters = {0};
    topk_init(&best, hits, K, by_row, NULL);
    double start = cpu_seconds();
    op_init(&op, OP_NO_DEADLINE, 0);
    if (ivf_search(&op, ivf, buf_slice(&bytes->records), a.query, &options, exact_score,
                   &a, 0, &best, &counters))
        (void)printf("search failed: %s\n", op.error);
    op_release(&op);
    out->seconds += cpu_seconds() - start;
    out->counters.clusters += counters.clusters;
    out->counters.codes += counters.codes;
    out->counters.rows += counters.rows;
    float kth = topk_floor(truth);
    out->wanted += (uint32_t)truth->count;
    for (size_t i = 0; i < best.count; i++)
        out->found += hits[i].score >= kth;
}

static void measure_filters(const struct collection *f, const struct ivf *ivf,
                            const struct ivf_bytes *bytes)
{
    static const struct {
        const char *name;
        uint32_t labels, one_in;
    } filters[] = {{"one in 2", 1023, 2},     {"one in 10", 1023, 10},
                   {"one in 100", 1023, 100}, {"one in 1000", 1023, 1000},
                   {"label 3", 1 << 3, 1},    {"labels 0-4", 31, 1},
                   {"not label 9", 511, 1}};
    static struct hit hits[FILTERED * K];
    static struct topk truth[FILTERED];
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        struct rowset *allowed = label_filter(f->fashion.labels, f->count,
                                              filters[i].labels, filters[i].one_in);
        struct filtered o = {0};
        double n = f->query_count < FILTERED ? f->query_count : FILTERED;
        double start = cpu_seconds();
        for (uint32_t q = 0; q < (uint32_t)n; q++) {
            struct against a = {f, f->queries + (size_t)q * f->dim};
            topk_init(truth + q, hits + (size_t)q * K, K, by_row, NULL);
            scan_matches(&a, allowed, truth + q);
        }
        o.scan_seconds = cpu_seconds() - start;
        for (uint32_t q = 0; q < (uint32_t)n; q++)
            search_filtered(f, ivf, bytes, allowed, q, truth + q, &o);
        (void)printf("%-12s %6.0f match  recall %.4f  %7.1f us  scan of them %7.1f us  "
                     "clusters %5.1f codes %6.0f rows %6.1f\n",
                     filters[i].name, (double)rowset_count(allowed),
                     (double)o.found / o.wanted, o.seconds / n * 1e6,
                     o.scan_seconds / n * 1e6, (double)o.counters.clusters / n,
                     (double)o.counters.codes / n, (double)o.counters.rows / n);
        rowset_unref(allowed);
    }
}

static bool choose_level(const char *name)
{
    for (enum simd_level level = SIMD_PLAIN; level <= simd_detect(); level++)
        if (strcmp(name, simd_name(level)) == 0) {
            simd_force(level);
            return true;
        }
    return false;
}

static bool read_arguments(int argc, char **argv, struct collection *f)
{
    const char *folder = argc > 2 ? argv[2] : "";
    f->query_count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;
    if (f->query_count == 0 || f->query_count > FASHION_QUERIES_MAX ||
        (argc > 3 && !choose_level(argv[3]))) {
        (void)fprintf(stderr, "usage: bench_vector [queries [folder [simd level]]]\n");
        exit(2);
    }
    return *folder ? load_folder(f, folder) : load_fashion(f);
}

static void release(struct collection *f)
{
    fashion_release(&f->fashion);
    mem_free(f->own_kth);
    for (size_t i = 0; i < 3; i++)
        buf_release(&f->raw[i]);
}

int main(int argc, char **argv)
{
    static struct collection f;
    struct op op;
    struct ivf_bytes bytes;
    struct ivf *ivf = NULL;
    if (!read_arguments(argc, argv, &f)) return 0;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct ivf_source source = {.read = read_base,
                                .context = &f,
                                .count = f.count,
                                .dim = f.dim,
                                .row_count = f.count};
    struct ivf_build_options options = {.metric = IVF_L2, .seed = 1};
    double before_mb = resident_mb("VmRSS:"), start = cpu_seconds();
    enum err e = ivf_build(&op, &source, &options, &bytes);
    if (!e) e = ivf_open(&op, buf_slice(&bytes.head), &ivf);
    if (e) {
        (void)printf("build failed: %s\n", op.error);
        return 1;
    }
    double seconds = cpu_seconds() - start;
    (void)printf("%s: built in %.1f CPU s, %.3f ms a vector; %u clusters, at most %u; "
                 "head %zu records %zu slots %zu bytes; resident %.0f MB more, at most "
                 "%.0f\n",
                 simd_name(simd_level()), seconds, seconds * 1000 / f.count,
                 ivf_clusters(ivf), ivf_largest_cluster(ivf), bytes.head.size,
                 bytes.records.size, bytes.slots.size,
                 resident_mb("VmRSS:") - before_mb, resident_mb("VmHWM:") - before_mb);
    measure(&f, ivf, buf_slice(&bytes.records));
    if (f.fashion.labels) measure_filters(&f, ivf, &bytes);
    ivf_close(ivf);
    ivf_bytes_release(&bytes);
    op_release(&op);
    release(&f);
    return 0;
}
