/*
 * bench_vector_merge - what taking over clusters saves when segments are merged.
 *
 * Fashion-MNIST, 60000 x 784: a part of the rows has an index, the others join it.
 * CPU seconds of the build and recall of the 10 nearest at the same wanted recall and
 * at the same number of clusters, beside an index that starts anew. The last line of
 * each kind adds the rows in twenty steps, each an index of its own. bench_vector_merge
 * [queries [part]]      part: only 1 of so many rows known
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/topk.h"
#include "unit/cpu_time.h"
#include "unit/fashion.h"
#include "vec/distance.h"
#include "vec/ivf.h"

enum { ROWS = FASHION_ROWS, DIM = FASHION_DIM, K = 10, STEPS = 20, RERANK = 15 };

struct world {
    struct fashion f;
    uint32_t *order; /* row i is order[i] of the base: parts are samples of all */
};

struct index {
    struct ivf_bytes bytes;
    struct ivf *ivf;
    double seconds;
};

static const float *vector_of(const struct world *w, uint32_t row)
{
    return w->f.base + (size_t)w->order[row] * DIM;
}

static void read_rows(const void *context, uint32_t first, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i++)
        memcpy(out + (size_t)i * DIM, vector_of(context, first + i), DIM * sizeof *out);
}

/* Of the first count rows; before: the index of some of them, or NULL. */
static struct index build(const struct world *w, uint32_t count,
                          const struct index *before)
{
    struct index out = {.ivf = NULL};
    struct op op;
    uint32_t *clusters = before ? mem_new_array(uint32_t, count) : NULL;
    op_init(&op, OP_NO_DEADLINE, 0);
    double start = cpu_seconds();
    for (uint32_t i = 0; i < count && before; i++)
        clusters[i] =
            i < ivf_count(before->ivf)
                ? ivf_row_cluster(before->ivf, buf_slice(&before->bytes.slots), i)
                : IVF_NO_CLUSTER;
    struct ivf_source source = {.read = read_rows,
                                .context = w,
                                .count = count,
                                .dim = DIM,
                                .row_count = count,
                                .clusters = clusters,
                                .cluster_count =
                                    before ? ivf_clusters(before->ivf) : 0};
    struct ivf_build_options options = {.metric = IVF_L2, .seed = 1};
    enum err e = ivf_build(&op, &source, &options, &out.bytes);
    if (!e) e = ivf_open(&op, buf_slice(&out.bytes.head), &out.ivf);
    if (e) {
        (void)printf("build failed: %s\n", op.error);
        exit(1);
    }
    out.seconds = cpu_seconds() - start;
    op_release(&op);
    mem_free(clusters);
    return out;
}

static void release(struct index *i)
{
    ivf_close(i->ivf);
    ivf_bytes_release(&i->bytes);
}

struct asking {
    const struct world *world;
    const float *query;
};

static float exact_score(const void *context, uint32_t row)
{
    const struct asking *a = context;
    return -distance_l2(a->query, vector_of(a->world, row), DIM);
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

static void measure(const struct world *w, const struct index *index,
                    const struct ivf_options *options, double *recall, double *codes)
{
    uint64_t found = 0, scanned = 0;
    for (uint32_t q = 0; q < w->f.query_count; q++) {
        struct asking a = {w, fashion_query(&w->f, q)};
        struct hit hits[K];
        struct topk best;
        struct op op;
        struct ivf_counters counters = {0};
        op_init(&op, OP_NO_DEADLINE, 0);
        topk_init(&best, hits, K, by_row, NULL);
        if (ivf_search(&op, index->ivf, buf_slice(&index->bytes.records), a.query,
                       options, exact_score, &a, 0, &best, &counters))
            (void)printf("search failed: %s\n", op.error);
        op_release(&op);
        for (size_t i = 0; i < best.count; i++)
            found += fashion_is_near(&w->f, q, K, -hits[i].score);
        scanned += counters.codes;
    }
    *recall = (double)found / K / w->f.query_count;
    *codes = (double)scanned / w->f.query_count;
}

static void print(const char *name, const struct world *w, const struct index *index,
                  double seconds)
{
    static const float wanted[] = {0.95f, 0.99f};
    static const uint32_t probes[] = {5, 10};
    double recall, codes;
    (void)printf("%-22s %5.1f CPU s, %4u clusters;", name, seconds,
                 ivf_clusters(index->ivf));
    for (size_t i = 0; i < 2; i++) {
        struct ivf_options o = {.k = K, .rerank = RERANK, .recall = wanted[i]};
        measure(w, index, &o, &recall, &codes);
        (void)printf(" wants %.2f: %.4f, %.0f codes;", (double)wanted[i], recall,
                     codes);
    }
    for (size_t i = 0; i < 2; i++) {
        struct ivf_options o = {.k = K, .rerank = RERANK, .probes = probes[i]};
        measure(w, index, &o, &recall, &codes);
        (void)printf(" %u clusters: %.4f, %.0f codes;", probes[i], recall, codes);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

static void merge_from(const struct world *w, uint32_t part)
{
    char name[64];
    struct index before = build(w, ROWS / part, NULL);
    struct index after = build(w, ROWS, &before);
    (void)snprintf(name, sizeof name, "1 of %u rows known", part);
    print(name, w, &after, after.seconds);
    release(&before);
    release(&after);
}

static void merge_in_steps(const struct world *w)
{
    struct index index = build(w, ROWS / STEPS, NULL);
    double seconds = 0;
    for (uint32_t step = 2; step <= STEPS; step++) {
        struct index next = build(w, ROWS / STEPS * step, &index);
        seconds += next.seconds;
        release(&index);
        index = next;
    }
    print("in 20 steps", w, &index, seconds);
    release(&index);
    seconds = 0;
    for (uint32_t step = 2; step <= STEPS; step++) {
        struct index alone = build(w, ROWS / STEPS * step, NULL);
        seconds += alone.seconds;
        release(&alone);
    }
    (void)printf("%-22s %5.1f CPU s\n", "20 times anew", seconds);
}

static uint32_t *shuffled(void)
{
    uint32_t *order = mem_new_array(uint32_t, ROWS);
    uint64_t state = 1;
    for (uint32_t i = 0; i < ROWS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t other = (uint32_t)((state >> 33) % (i + 1));
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

int main(int argc, char **argv)
{
    static const uint32_t parts[] = {2, 4, 10, 20};
    struct world w;
    uint32_t queries = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;
    uint32_t part = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    if (queries == 0 || queries > FASHION_QUERIES_MAX) return 2;
    if (!fashion_load(&w.f, queries)) return 0;
    w.order = shuffled();
    if (part) {
        merge_from(&w, part);
    } else {
        struct index anew = build(&w, ROWS, NULL);
        print("anew", &w, &anew, anew.seconds);
        release(&anew);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            merge_from(&w, parts[i]);
        merge_in_steps(&w);
    }
    fashion_release(&w.f);
    mem_free(w.order);
    return 0;
}
