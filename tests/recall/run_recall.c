/*
 * run_recall.c - does vector search find what was wanted, on data of all kinds?
 *
 *   run_recall [--queries N] [--rows N] [--only NAME]
 *
 * Each collection becomes segments as a node writes them; queries that are no part of
 * it are searched for by the index and exactly, and a line tells recall and work. Real
 * collections (Fashion-MNIST, text embeddings) are read where they are, others follow
 * from formulas and always come out the same. A recall fails that is below the wanted
 * one by more than two standard errors: the queries are a sample.
 * --rows: of the large synthetic collection.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "base/topk.h"
#include "doc/schema.h"
#include "segment/segment.h"
#include "unit/cpu_time.h"
#include "unit/data.h"
#include "unit/fashion.h"
#include "unit/vectors.h"

enum {
    K = 10,
    PARTS_MAX = 20,
    INDEX_FROM = 2048, /* as a node has it */
    LABELS = 10,
    WANTED = 2
};

static const float wanted[WANTED] = {0.95f, 0.99f};

struct collection {
    const char *name;
    enum metric_kind metric;
    uint32_t count, dim, query_count;
    float *vectors, *queries;
    const uint8_t *labels; /* or NULL */
    struct schema *schema;
    struct segment *parts[PARTS_MAX]; /* vector i is in part i % part_count */
    uint32_t part_count;
    double build_seconds;
};

static struct {
    uint32_t queries, rows;
    const char *only;
    unsigned passed, failed;
} run = {.queries = 1000, .rows = 300000};

static void must(const struct op *op, enum err e)
{
    if (!e) return;
    (void)printf("FAILED: %s\n", op->error);
    exit(1);
}

/* ---- segments ---- */

static struct segment *build_part(struct collection *c, uint32_t part)
{
    struct segment_options options = {.index_from = INDEX_FROM, .index_seed = 7};
    struct segment_builder *b = segment_builder_new(c->schema, &options);
    struct buf bytes = BUF_INIT;
    struct segment *s;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = part; i < c->count; i += c->part_count) {
        struct doc d = {.id = {.kind = ID_U64, .u64 = i},
                        .vector = c->vectors + (size_t)i * c->dim};
        segment_builder_add(b, &d);
    }
    must(&op, segment_builder_finish(&op, b, &bytes));
    must(&op, segment_open_memory(&op, &bytes, &s));
    op_release(&op);
    return s;
}

static void build(struct collection *c, uint32_t parts)
{
    c->schema = schema_new(c->dim, c->metric, NULL, 0);
    c->part_count = parts;
    double start = cpu_seconds();
    for (uint32_t i = 0; i < parts; i++)
        c->parts[i] = build_part(c, i);
    c->build_seconds = cpu_seconds() - start;
}

/* The parts become one segment. */
static void merge(struct collection *c)
{
    struct segment_options options = {.index_from = INDEX_FROM, .index_seed = 7};
    struct segment_input inputs[PARTS_MAX];
    struct buf bytes = BUF_INIT;
    struct segment *merged;
    struct op op;
    uint32_t rows;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; i < c->part_count; i++)
        inputs[i] = (struct segment_input){c->parts[i], NULL};
    double start = cpu_seconds();
    must(&op,
         segment_merge(&op, c->schema, &options, inputs, c->part_count, &bytes, &rows));
    must(&op, segment_open_memory(&op, &bytes, &merged));
    c->build_seconds = cpu_seconds() - start;
    for (uint32_t i = 0; i < c->part_count; i++)
        segment_unref(c->parts[i]);
    c->parts[0] = merged;
    c->part_count = 1;
    op_release(&op);
}

static void release(struct collection *c)
{
    for (uint32_t i = 0; i < c->part_count; i++)
        segment_unref(c->parts[i]);
    schema_unref(c->schema);
    mem_free(c->vectors);
    mem_free(c->queries);
}

/* ---- recall ---- */

static int by_place(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

struct outcome {
    double found, wanted, seconds, exact_seconds;
    double recalls, squares; /* of the queries, summed */
    struct segment_work work;
};

/* allowed: of a collection in one part, or NULL. */
static void ask(const struct collection *c, const float *query, float recall,
                const struct rowset *allowed, struct topk *best, struct outcome *o)
{
    struct segment_target targets[PARTS_MAX];
    struct segment_near near = {.metric = c->metric, .query = query, .recall = recall};
    struct segment_work ignored = {0};
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; i < c->part_count; i++)
        targets[i] = (struct segment_target){c->parts[i], allowed, i};
    double start = cpu_seconds();
    must(&op, segment_nearest(&op, targets, c->part_count, &near, best,
                              recall < 1 ? &o->work : &ignored));
    *(recall < 1 ? &o->seconds : &o->exact_seconds) += cpu_seconds() - start;
    topk_finish(best);
    op_release(&op);
}

static void ask_both(const struct collection *c, const float *query, float recall,
                     const struct rowset *allowed, struct outcome *o)
{
    struct hit hits[2][K];
    struct topk best[2];
    for (int exact = 0; exact < 2; exact++) {
        topk_init(&best[exact], hits[exact], K, by_place, NULL);
        ask(c, query, exact ? 1 : recall, allowed, &best[exact], o);
    }
    if (best[1].count == 0) return;
    /* Equal ones are as good: a distance hardly farther is the same. */
    float kth = hits[1][best[1].count - 1].score;
    double found = 0;
    for (size_t i = 0; i < best[0].count; i++)
        found += hits[0][i].score >= kth - 1e-5f * fabsf(kth) - 1e-6f;
    o->found += found;
    o->wanted += (double)best[1].count;
    o->recalls += found / (double)best[1].count;
    o->squares += found / (double)best[1].count * found / (double)best[1].count;
}

static void report(const struct collection *c, const char *what, float recall,
                   const struct outcome *o)
{
    double n = c->query_count, got = o->wanted > 0 ? o->found / o->wanted : 1;
    double mean = o->recalls / n, variance = fmax(o->squares / n - mean * mean, 0);
    bool passed = got + 2 * sqrt(variance / n) >= (double)recall - 1e-6;
    (void)printf("%-30s %-22s wanted %.2f recall %.4f %8.1f us (exact %8.1f) clusters "
                 "%5.1f codes %6.0f rows %6.1f bytes %8.0f%s\n",
                 c->name, what, (double)recall, got, o->seconds / n * 1e6,
                 o->exact_seconds / n * 1e6, (double)o->work.clusters / n,
                 (double)o->work.codes / n, (double)o->work.rows / n,
                 (double)o->work.bytes / n, passed ? "" : "  FAILED");
    (void)fflush(stdout);
    *(passed ? &run.passed : &run.failed) += 1;
}

static const float *query_at(const struct collection *c, uint32_t q)
{
    return c->queries + (size_t)q * c->dim;
}

static void measure(const struct collection *c, const char *what)
{
    for (int w = 0; w < WANTED; w++) {
        struct outcome o = {0};
        for (uint32_t q = 0; q < c->query_count; q++)
            ask_both(c, query_at(c, q), wanted[w], NULL, &o);
        report(c, what, wanted[w], &o);
    }
}

static void measure_and_release(struct collection *c)
{
    if (run.only && !strstr(c->name, run.only)) {
        mem_free(c->vectors);
        mem_free(c->queries);
        return;
    }
    build(c, 1);
    measure(c, "");
    release(c);
}

/* ---- filters ---- */

struct place {
    float along;
    uint32_t row;
};

static int by_along(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->along > y->along) return -1;
    if (x->along < y->along) return 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* That part of the rows that lies farthest along the query and as much of chance, or
 * against it. */
static struct rowset *along_query(const struct collection *c, const float *query,
                                  double part, bool against, uint64_t *seed)
{
    struct place *places = mem_new_array(struct place, c->count);
    float *direction = gaussians(c->dim, seed);
    struct rowset *set = rowset_new();
    double norm = 0;
    for (uint32_t d = 0; d < c->dim; d++)
        norm += (double)query[d] * (double)query[d];
    for (uint32_t d = 0; d < c->dim; d++)
        direction[d] = query[d] + direction[d] * (float)sqrt(norm / (double)c->dim);
    for (uint32_t i = 0; i < c->count; i++) {
        float along = 0;
        for (uint32_t d = 0; d < c->dim; d++)
            along += direction[d] * c->vectors[(size_t)i * c->dim + d];
        places[i] = (struct place){against ? -along : along, i};
    }
    qsort(places, c->count, sizeof *places, by_along);
    for (uint32_t i = 0; i < c->count * part; i++)
        rowset_add(set, places[i].row);
    mem_free(direction);
    mem_free(places);
    return set;
}

static struct rowset *by_chance(const struct collection *c, double part, uint64_t *seed)
{
    struct rowset *set = rowset_new();
    for (uint32_t i = 0; i < c->count; i++)
        if ((double)(test_random(seed) >> 11) * 0x1p-53 < part) rowset_add(set, i);
    return set;
}

enum kind { CHANCE, ALONG, AGAINST };

static void measure_filters(struct collection *c)
{
    static const double parts[] = {0.5, 0.1, 0.01, 0.001};
    static const char *const names[] = {"by chance", "along the query",
                                        "against the query"};
    uint32_t queries = c->query_count;
    c->query_count = queries < 100 ? queries : 100; /* each has filters of its own */
    for (int kind = CHANCE; kind <= AGAINST; kind++)
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
            struct outcome o = {0};
            uint64_t seed = 5;
            char what[64];
            for (uint32_t q = 0; q < c->query_count; q++) {
                struct rowset *allowed = kind == CHANCE
                                             ? by_chance(c, parts[i], &seed)
                                             : along_query(c, query_at(c, q), parts[i],
                                                           kind == AGAINST, &seed);
                ask_both(c, query_at(c, q), wanted[0], allowed, &o);
                rowset_unref(allowed);
            }
            (void)snprintf(what, sizeof what, "%g %% %s", parts[i] * 100, names[kind]);
            report(c, what, wanted[0], &o);
        }
    c->query_count = queries;
}

/* Rows of the label that the query's nearest row has, or of all the others. */
static void measure_labels(struct collection *c)
{
    struct rowset *sets[2][LABELS];
    for (uint32_t label = 0; label < LABELS; label++) {
        sets[0][label] = rowset_new();
        sets[1][label] = rowset_new();
    }
    for (uint32_t i = 0; i < c->count; i++)
        for (uint32_t label = 0; label < LABELS; label++)
            rowset_add(sets[c->labels[i] != label][label], i);
    for (int others = 0; others < 2; others++) {
        struct outcome o = {0};
        for (uint32_t q = 0; q < c->query_count; q++) {
            struct hit hit;
            struct topk nearest;
            struct outcome ignored = {0};
            topk_init(&nearest, &hit, 1, by_place, NULL);
            ask(c, query_at(c, q), 1, NULL, &nearest, &ignored);
            ask_both(c, query_at(c, q), wanted[0], sets[others][c->labels[hit.row]],
                     &o);
        }
        report(c, others ? "all labels but its own" : "its own label", wanted[0], &o);
    }
    for (uint32_t label = 0; label < LABELS; label++) {
        rowset_unref(sets[0][label]);
        rowset_unref(sets[1][label]);
    }
}

/* ---- real collections ---- */

static void fashion(void)
{
    struct fashion f;
    if (run.only && !strstr("fashion-mnist", run.only)) return;
    if (!fashion_load(&f, run.queries)) return;
    struct collection c = {.name = "fashion-mnist 60k x 784 l2",
                           .metric = METRIC_L2,
                           .count = FASHION_ROWS,
                           .dim = FASHION_DIM,
                           .query_count = run.queries,
                           .labels = f.labels,
                           .vectors = f.base,
                           .queries = f.queries};
    f.base = f.queries = NULL; /* c's now */
    build(&c, 1);
    measure(&c, "");
    measure_labels(&c);
    measure_filters(&c);
    for (uint32_t i = 0; i < c.part_count; i++)
        segment_unref(c.parts[i]);
    schema_unref(c.schema);
    build(&c, PARTS_MAX);
    measure(&c, "20 segments");
    double apart = c.build_seconds;
    merge(&c);
    measure(&c, "and their merge");
    (void)printf("%-30s built in %.1f CPU s, merged in %.1f\n", c.name, apart,
                 c.build_seconds);
    release(&c);
    fashion_release(&f);
}

static float half_to_float(uint16_t h)
{
    int exponent = h >> 10 & 31;
    float fraction = (float)(h & 1023) / 1024;
    float value =
        exponent ? ldexpf(1 + fraction, exponent - 15) : ldexpf(fraction, -14);
    return h >> 15 ? -value : value;
}

/* Every some-th embedding is a query and no part of the collection. */
static void embeddings(void)
{
    enum { ROWS = 20000, DIM = 512 };
    struct buf raw = BUF_INIT;
    if (run.only && !strstr("text embeddings", run.only)) return;
    if (data_read("pkg200k/every10th.use512.f16.npy", &raw)) {
        uint32_t every = ROWS / run.queries;
        struct collection c = {.name = "text embeddings 20k x 512 cos",
                               .metric = METRIC_COSINE,
                               .dim = DIM};
        c.vectors = mem_new_array(float, (size_t)ROWS *DIM);
        c.queries = mem_new_array(float, (size_t)ROWS *DIM);
        for (uint32_t i = 0; i < ROWS; i++) {
            bool asks = i % every == 0 && c.query_count < run.queries;
            float *out = asks ? c.queries + (size_t)c.query_count++ * DIM
                              : c.vectors + (size_t)c.count++ * DIM;
            for (uint32_t d = 0; d < DIM; d++) {
                const uint8_t *p = npy_data(&raw) + ((size_t)i * DIM + d) * 2;
                out[d] = half_to_float((uint16_t)(p[0] | p[1] << 8));
            }
        }
        build(&c, 1);
        measure(&c, "");
        measure_filters(&c);
        release(&c);
    }
    buf_release(&raw);
}

/* ---- collections of formulas ---- */

/* Vectors around centres, as real ones lie, with queries of the same kind behind them.
 * spread: of a vector around its centre, whose coordinates have deviation 1. */
static struct collection around_centres(const char *name, enum metric_kind metric,
                                        uint32_t count, uint32_t dim, uint32_t centres,
                                        float spread)
{
    uint64_t seed = 20261122;
    struct collection c = {.name = name,
                           .metric = metric,
                           .count = count,
                           .dim = dim,
                           .query_count = run.queries};
    float *centre = gaussians((size_t)centres * dim, &seed);
    c.vectors = gaussians((size_t)count * dim, &seed);
    c.queries = gaussians((size_t)c.query_count * dim, &seed);
    for (uint32_t i = 0; i < count + c.query_count; i++) {
        float *v = i < count ? c.vectors + (size_t)i * dim
                             : c.queries + (size_t)(i - count) * dim;
        const float *near = centre + test_random(&seed) % centres * dim;
        for (uint32_t d = 0; d < dim; d++)
            v[d] = near[d] + spread * v[d];
    }
    mem_free(centre);
    return c;
}

static void large(void)
{
    char name[64];
    (void)snprintf(name, sizeof name, "synthetic %uk x 128 l2", run.rows / 1000);
    struct collection c =
        around_centres(name, METRIC_L2, run.rows, 128, run.rows / 300 + 1, 0.7f);
    measure_and_release(&c);
}

static void dimensions(void)
{
    static const uint32_t dims[] = {1, 2, 3, 8, 16, 32, 63, 64, 65, 96, 256};
    static const char *const metrics[] = {"cos", "l2", "dot"};
    static const enum metric_kind kinds[] = {METRIC_COSINE, METRIC_L2, METRIC_DOT};
    char name[64];
    for (size_t m = 0; m < COUNT_OF(kinds); m++)
        for (size_t i = 0; i < COUNT_OF(dims); i++) {
            (void)snprintf(name, sizeof name, "20k x %u %s", dims[i], metrics[m]);
            struct collection c =
                around_centres(name, kinds[m], 20000, dims[i], 300, 0.6f);
            measure_and_release(&c);
        }
    struct collection c =
        around_centres("3000 x 10752 cos", METRIC_COSINE, 3000, 10752, 30, 0.6f);
    c.query_count = c.query_count < 50 ? c.query_count : 50;
    measure_and_release(&c);
}

static void odd_data(void)
{
    struct collection c = around_centres("all equal", METRIC_L2, 10000, 48, 1, 0);
    measure_and_release(&c);

    c = around_centres("one far outlier", METRIC_L2, 20000, 48, 200, 0.6f);
    for (uint32_t d = 0; d < c.dim; d++)
        c.vectors[777 * c.dim + d] = 1e6f;
    measure_and_release(&c);

    c = around_centres("one far outlier dot", METRIC_DOT, 20000, 48, 200, 0.6f);
    for (uint32_t d = 0; d < c.dim; d++)
        c.vectors[777 * c.dim + d] = 1e6f;
    measure_and_release(&c);

    c = around_centres("two groups", METRIC_L2, 20000, 48, 2, 0.1f);
    measure_and_release(&c);

    c = around_centres("sorted", METRIC_L2, 20000, 48, 20000, 0.5f);
    for (uint32_t i = 0; i < c.count; i++)
        c.vectors[(size_t)i * c.dim] = (float)i / 1000;
    for (uint32_t i = 0; i < c.query_count; i++)
        c.queries[(size_t)i * c.dim] = (float)i / (float)c.query_count * 20;
    measure_and_release(&c);

    c = around_centres("each a hundred times", METRIC_COSINE, 20000, 96, 200, 0);
    measure_and_release(&c);

    c = around_centres("half of length 0", METRIC_L2, 20000, 96, 200, 0.6f);
    memset(c.vectors, 0, (size_t)c.count / 2 * c.dim * sizeof(float));
    measure_and_release(&c);

    c = around_centres("unbounded lengths dot", METRIC_DOT, 20000, 96, 200, 0.6f);
    uint64_t seed = 3;
    for (uint32_t i = 0; i < c.count; i++) {
        float length = expf(gaussian(&seed));
        for (uint32_t d = 0; d < c.dim; d++)
            c.vectors[(size_t)i * c.dim + d] *= length;
    }
    measure_and_release(&c);
}

static uint32_t number_after(int argc, char **argv, int i)
{
    return i + 1 < argc ? (uint32_t)strtoul(argv[i + 1], NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    bool understood = true;
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--queries") == 0)
            run.queries = number_after(argc, argv, i);
        else if (strcmp(argv[i], "--rows") == 0)
            run.rows = number_after(argc, argv, i);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            run.only = argv[i + 1];
        else
            understood = false;
    }
    if (!understood || run.queries == 0 || run.queries > 5000 || run.rows < 3000) {
        (void)fprintf(stderr,
                      "usage: run_recall [--queries N] [--rows N] [--only NAME]\n");
        return 2;
    }
    fashion();
    embeddings();
    dimensions();
    odd_data();
    large();
    (void)printf("%u passed, %u failed\n", run.passed, run.failed);
    return run.failed > 0;
}
