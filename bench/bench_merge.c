/*
 * What a merge of stored segments takes: memory by its size, bytes a second.
 *
 *   bench_merge [MiB of all inputs [dim [words [index from [mapped]]]]]
 *
 * By default 512 768 40 2048 224; mapped: MiB of its file that stay in memory, and 32
 * more.
 *
 * Eight segments of documents with a vector (dim 0: none), a text of so many words, a
 * string and two numbers, their ids mixed, become one, as the background does it: with
 * a file for what is large. Printed: the largest heap and the largest resident set
 * while the merge ran, beyond what was there before it, looked at every 10 ms.
 */
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "namespaces.h"
#include "ns/spool.h"
#include "segment/segment.h"
#include "store/store.h"

enum { SEGMENTS = 8, CACHE_MIB = 64, WORDS_KNOWN = 50000, TEXT_MAX = 1 << 16 };

static const struct attr attrs[] = {
    {.name = "text",
     .type = ATTR_STRING,
     .full_text = true,
     .analysis = {LANG_ENGLISH, true, true, false, false}},
    {.name = "source", .type = ATTR_STRING, .indexed = true},
    {.name = "year", .type = ATTR_INT, .indexed = true},
    {.name = "price", .type = ATTR_FLOAT}};
enum { ATTRS = sizeof attrs / sizeof *attrs };

static uint64_t state = 1;

/* ---- memory ---- */

struct memory {
    unsigned long heap, all; /* KiB: private pages, and those of files too */
};

static struct memory memory_now(void)
{
    struct memory m = {0};
    char line[128];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "RssAnon:", 8) == 0) m.heap = strtoul(line + 8, NULL, 10);
        if (strncmp(line, "VmRSS:", 6) == 0) m.all = strtoul(line + 6, NULL, 10);
    }
    if (f) (void)fclose(f);
    return m;
}

static struct memory most;
static atomic_bool watching;

static void watch(void *arg)
{
    (void)arg;
    while (atomic_load(&watching)) {
        struct memory now = memory_now();
        if (now.heap > most.heap) most.heap = now.heap;
        if (now.all > most.all) most.all = now.all;
        task_sleep_ms(10);
    }
}

/* ---- inputs ---- */

static size_t text_make(char *text, unsigned long words)
{
    size_t size = 0;
    for (unsigned long i = 0; i < words && size < TEXT_MAX - 16; i++) {
        uint64_t r = bench_random(&state);
        uint64_t word = r % (1 + (r >> 20) % WORDS_KNOWN); /* few are frequent */
        size += (size_t)snprintf(text + size, TEXT_MAX - size, "w%llu ",
                                 (unsigned long long)word);
    }
    return size;
}

static void doc_add(struct segment_builder *b, uint64_t id, uint32_t dim,
                    unsigned long words, float *vector, char *text)
{
    char source[24];
    struct value values[ATTRS] = {{0}};
    uint64_t center = bench_random(&state) % 256;
    for (uint32_t k = 0; k < dim; k++) {
        uint64_t mixed = (center * 2654435761U + k) * 0x9e3779b97f4a7c15U;
        vector[k] = (float)(mixed >> 40 & 1023) / 1024 +
                    (float)(bench_random(&state) % 1000) / 1500;
    }
    values[0].one.s = slice_of(text, text_make(text, words));
    int size = snprintf(source, sizeof source, "source-%llu",
                        (unsigned long long)(bench_random(&state) % 5000));
    values[1].one.s = slice_of(source, (size_t)size);
    values[2].one.i = (int64_t)(1900 + bench_random(&state) % 120);
    values[3].one.f = (double)(bench_random(&state) % 100000) / 100;
    struct doc d = {{.kind = ID_U64, .u64 = id}, dim ? vector : NULL, values};
    segment_builder_add(b, &d);
}

static void must(struct op *op, enum err e)
{
    if (e) bench_fail("merge", op->error);
}

static struct segment *input_make(struct op *op, struct bench_node *n,
                                  struct schema *schema, unsigned number, uint64_t rows,
                                  unsigned long words)
{
    struct segment_options options = {.zstd_level = 3};
    struct segment_builder *b = segment_builder_new(schema, &options);
    float *vector = mem_new_array(float, schema->vector_dim + 1);
    char *text = mem_alloc(TEXT_MAX), key[64];
    struct buf bytes = BUF_INIT;
    struct segment *s = NULL;

    for (uint64_t i = 0; i < rows; i++)
        doc_add(b, i * SEGMENTS + number, schema->vector_dim, words, vector, text);
    must(op, segment_builder_finish(op, b, &bytes));
    (void)snprintf(key, sizeof key, "merge/input-%u", number);
    struct slice part = buf_slice(&bytes);
    must(op, store_put(op, n->store, key, &part, 1));
    must(op, segment_open(op, n->cache, key, bytes.size, &s));
    buf_release(&bytes);
    mem_free(vector);
    mem_free(text);
    return s;
}

/* ---- the merge ---- */

static void rest(void *context)
{
    static double rested;
    double now = bench_seconds();
    if (now - rested < 0.01) return;
    rested = now;
    spool_rest(context);
}

static void merge(struct op *op, struct bench_node *n, struct schema *schema,
                  const struct segment_options *options, struct segment_input *inputs,
                  uint64_t bytes, uint64_t mapped)
{
    struct spool spool = {.buf = BUF_INIT};
    struct memory before = memory_now();
    uint32_t rows = 0;

    atomic_store(&watching, true);
    struct thread *watcher = thread_start("watch", watch, NULL);
    double began = bench_seconds(), cpu = bench_cpu_seconds();
    struct segment_needs needs = segment_merge_needs(options, inputs, SEGMENTS);
    struct segment_options with_room = *options;
    must(op, spool_open(op, n->folder, needs.result + needs.result / 8 + (16 << 20),
                        needs.room, mapped, &spool));
    with_room.room = &spool.room;
    op->rest = rest;
    op->rest_context = &spool;
    must(op,
         segment_merge(op, schema, &with_room, inputs, SEGMENTS, &spool.buf, &rows));
    double merged = bench_seconds(), merged_cpu = bench_cpu_seconds();
    struct slice part = buf_slice(&spool.buf);
    atomic_store(&watching, false);
    thread_join(watcher);
    (void)printf("%6.0f MiB in, %6.0f MiB out, %8u rows: heap +%5.0f MiB, resident "
                 "+%5.0f MiB; %6.1f s (%6.1f s CPU), %5.1f MiB/s (%5.1f of CPU time)\n",
                 (double)bytes / (1 << 20), (double)part.size / (1 << 20), rows,
                 (double)(most.heap - before.heap) / 1024,
                 (double)(most.all - before.all) / 1024, merged - began,
                 merged_cpu - cpu, (double)bytes / (1 << 20) / (merged - began),
                 (double)bytes / (1 << 20) / (merged_cpu - cpu));
    spool_close(&spool);
}

static unsigned long number(int argc, char **argv, int at, unsigned long otherwise)
{
    return argc > at ? strtoul(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    unsigned long mib = number(argc, argv, 1, 512), words = number(argc, argv, 3, 40);
    uint32_t dim = (uint32_t)number(argc, argv, 2, 768);
    struct segment_options options = {.zstd_level = 3,
                                      .index_from =
                                          (uint32_t)number(argc, argv, 4, 2048)};
    struct schema *schema = schema_new(dim, METRIC_COSINE, attrs, ATTRS);
    uint64_t row_bytes = dim * sizeof(float) + words * 14 + 40, bytes = 0;
    struct segment_input inputs[SEGMENTS];
    struct bench_node n;
    struct op op;

    log_init(LOG_ERROR, LOG_TEXT);
    op_init(&op, OP_NO_DEADLINE, 0);
    bench_node_new(&n);
    n.cache = cache_new(n.store, (uint64_t)CACHE_MIB << 20);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint64_t rows = ((uint64_t)mib << 20) / row_bytes / SEGMENTS;
        inputs[i] = (struct segment_input){
            .segment = input_make(&op, &n, schema, i, rows, words)};
        bytes += segment_size(inputs[i].segment);
    }
    (void)malloc_trim(0);
    merge(&op, &n, schema, &options, inputs, bytes,
          (uint64_t)number(argc, argv, 5, 224) << 20);
    for (unsigned i = 0; i < SEGMENTS; i++)
        segment_unref(inputs[i].segment);
    cache_free(n.cache);
    bench_node_free(&n);
    schema_unref(schema);
    op_release(&op);
    return 0;
}
