/*
 * The same ids written and deleted over and over: what must stay flat stays flat.
 *
 *   bench_churn [rounds [ids [dim]]]     default 20 20000 64
 *
 * Each round writes all ids once, in random order of batches, and deletes a tenth.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "namespaces.h"
#include "store/store.h"
#include "unit/metric_value.h"

enum { BATCH = 500 };
static const char NAME[] = "churn";

static uint64_t count_objects(struct bench_node *n)
{
    enum { PAGE = 1000 };
    char after[STORE_KEY_MAX] = "";
    uint64_t found = 0;
    for (size_t page = PAGE; page == PAGE;) {
        const char *keys[PAGE];
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        if (store_list(&op, n->store, "", after, 0, keys, &page)) page = 0;
        found += page;
        if (page) (void)snprintf(after, sizeof after, "%s", keys[page - 1]);
        op_release(&op);
    }
    return found;
}

static void report(struct bench_node *n, unsigned long round, double seconds)
{
    struct namespace_info info;
    struct op op;
    op_init(&op, clock_ms() + 60000, 0);
    if (registry_info(&op, n->registry, NAME, &info)) bench_fail("info", op.error);
    (void)printf("%5lu %9.2f %10llu %8llu %10.1f %8llu %8.0f\n", round, seconds,
                 (unsigned long long)info.documents, (unsigned long long)info.segments,
                 (double)info.segment_bytes / (1 << 20),
                 (unsigned long long)count_objects(n), bench_rss_mib());
    (void)fflush(stdout);
    schema_unref(info.schema);
    op_release(&op);
}

static void print_amplification(void)
{
    double tail = metric_value("elacsym_index_bytes_total{from=\"tail\"}", 0);
    double merged = metric_value("elacsym_index_bytes_total{from=\"segments\"}", 0);
    (void)printf("write amplification of segments: %.2f\n",
                 tail > 0 ? (tail + merged) / tail : 0);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
    unsigned long ids = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
    uint32_t dim = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 64;
    struct registry_options o = registry_options_default();
    struct bench_node n;
    uint64_t random = 7;

    log_init(LOG_ERROR, LOG_TEXT);
    o.tail_index_rows = ids / 10;
    o.gc_grace_ms = 1000;
    bench_node_new(&n);
    bench_node_start(&n, o, (uint64_t)256 << 20);
    bench_create(&n, NAME, dim);
    (void)printf("round   seconds  documents segments stored MiB  objects  RSS MiB\n");
    for (unsigned long round = 1; round <= rounds; round++) {
        double began = bench_seconds();
        uint64_t batches = ids / BATCH, shift = bench_random(&random) % batches;
        for (uint64_t i = 0; i < batches; i++)
            bench_write(&n, NAME, dim, (i * 7 + shift) % batches * BATCH, BATCH, false,
                        &random);
        for (uint64_t i = 0; i < batches; i++)
            bench_write(&n, NAME, dim, i * BATCH, BATCH / 10, true, &random);
        report(&n, round, bench_seconds() - began);
    }
    task_sleep_ms(3000);
    report(&n, rounds, 3);
    print_amplification();
    bench_node_stop(&n);
    bench_node_free(&n);
    return 0;
}
