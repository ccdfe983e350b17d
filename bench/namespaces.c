#include "namespaces.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "engine/folder.h"
#include "store/store_dir.h"
#include "store/store_fault.h"

void bench_fail(const char *what, const char *words)
{
    (void)fprintf(stderr, "%s: %s\n", what, words);
    exit(1);
}

void bench_node_new(struct bench_node *n)
{
    struct store_dir_options options = {.allow_unsafe_fs = true};
    struct fault_plan calm = {0};
    struct store *dir = NULL;
    struct op op;

    (void)snprintf(n->folder, sizeof n->folder, "bench-XXXXXX");
    if (!mkdtemp(n->folder)) bench_fail("mkdtemp", "a folder for the benchmark");
    options.root = n->folder;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (store_dir_open(&op, &options, &dir)) bench_fail("open the store", op.error);
    op_release(&op);
    n->store = store_fault_new(dir, &calm);
}

void bench_node_start(struct bench_node *n, struct registry_options options,
                      uint64_t cache_bytes)
{
    n->cache = cache_new(n->store, cache_bytes);
    options.store = n->store;
    options.cache = n->cache;
    n->registry = registry_new(&options);
}

void bench_node_stop(struct bench_node *n)
{
    registry_free(n->registry, clock_ms() + 60000);
    cache_free(n->cache);
}

void bench_node_free(struct bench_node *n)
{
    store_free(n->store);
    folder_remove(n->folder);
}

void bench_create(struct bench_node *n, const char *name, uint32_t dim)
{
    static const struct attr attr = {.name = "n", .type = ATTR_INT, .indexed = true};
    struct schema *schema = schema_new(dim, METRIC_L2, &attr, 1);
    struct commit_token token;
    struct op op;
    bool created;

    op_init(&op, clock_ms() + 60000, 0);
    if (registry_create(&op, n->registry, name, schema, &created, &token))
        bench_fail("create", op.error);
    schema_unref(schema);
    op_release(&op);
}

uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15U;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return x ^ x >> 31;
}

static void fill(struct op *op, struct batch *batch, uint32_t dim, uint64_t first,
                 uint64_t count, bool remove, uint64_t *random)
{
    batch->docs = op_new_array(op, struct doc, count);
    batch->deletes = op_new_array(op, struct doc_id, count);
    for (uint64_t i = 0; i < count; i++) {
        struct doc_id id = {.kind = ID_U64, .u64 = first + i};
        if (remove) {
            batch->deletes[batch->delete_count++] = id;
            continue;
        }
        float *vector = dim ? op_new_array(op, float, dim) : NULL;
        struct value *value = op_new(op, struct value);
        value->one.i = (int64_t)(bench_random(random) % 1000);
        for (uint32_t k = 0; k < dim; k++)
            vector[k] = (float)(bench_random(random) % 2000) / 1000 - 1;
        batch->docs[batch->doc_count++] = (struct doc){id, vector, value};
    }
}

void bench_write(struct bench_node *n, const char *name, uint32_t dim, uint64_t first,
                 uint64_t count, bool remove, uint64_t *random)
{
    enum err e = ERR_BUSY;
    while (e == ERR_BUSY) {
        struct schema *schema = NULL;
        struct batch batch = {0};
        struct write_request request = {.batch = &batch};
        struct write_result result;
        struct op op;
        op_init(&op, clock_ms() + 60000, 0);
        e = registry_schema(&op, n->registry, name, &schema);
        request.schema = schema;
        fill(&op, &batch, dim, first, count, remove, random);
        if (!e) e = registry_write(&op, n->registry, name, &request, &result);
        if (e && e != ERR_BUSY) bench_fail("write", op.error);
        schema_unref(schema);
        op_release(&op);
        if (e) task_sleep_ms(20);
    }
}

double bench_seconds(void)
{
    return (double)clock_us() / 1e6;
}

double bench_cpu_seconds(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

double bench_rss_mib(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%lu %lu", &total, &resident) != 2) resident = 0;
    if (f) (void)fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}
