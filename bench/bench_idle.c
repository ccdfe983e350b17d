/*
 * Many small namespaces on one node: what they take in memory, processor and requests
 * while nobody asks, open and closed.
 *
 *   bench_idle [namespaces [documents of each]]     default 10000 100
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/task.h"
#include "namespaces.h"
#include "store/store_fault.h"

enum { IDLE_SECONDS = 5 };

static void idle(struct bench_node *n, const char *when)
{
    task_sleep_ms(1000);
    uint64_t calls = store_fault_calls(n->store);
    double cpu = bench_cpu_seconds();
    task_sleep_ms(IDLE_SECONDS * 1000);
    (void)printf("%-34s %8.0f MiB  %6.1f ms CPU a second  %llu store calls in %d s\n",
                 when, bench_rss_mib(),
                 (bench_cpu_seconds() - cpu) * 1000 / IDLE_SECONDS,
                 (unsigned long long)(store_fault_calls(n->store) - calls),
                 IDLE_SECONDS);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    unsigned long names = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    unsigned long documents = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;
    struct registry_options o = registry_options_default();
    struct bench_node n;
    uint64_t random = 1;
    char name[32];

    log_init(LOG_ERROR, LOG_TEXT);
    o.tail_index_idle_ms = 3600000;
    bench_node_new(&n);
    bench_node_start(&n, o, (uint64_t)1 << 30);
    idle(&n, "empty");
    double began = bench_seconds(), cpu = bench_cpu_seconds();
    for (unsigned long i = 0; i < names; i++) {
        (void)snprintf(name, sizeof name, "n%06lu", i);
        bench_create(&n, name, 8);
        bench_write(&n, name, 8, 0, documents, false, &random);
    }
    (void)printf("%lu namespaces of %lu documents made in %.1f s (%.1f s CPU)\n", names,
                 documents, bench_seconds() - began, bench_cpu_seconds() - cpu);
    idle(&n, "open, writes in the tail");
    bench_node_stop(&n);

    uint64_t calls = store_fault_calls(n.store);
    began = bench_seconds();
    bench_node_start(&n, o, (uint64_t)1 << 30);
    for (uint64_t before = 0, now = 1; now != before;) {
        before = store_fault_calls(n.store);
        task_sleep_ms(2000);
        now = store_fault_calls(n.store);
    }
    (void)
        printf("after a restart all are opened and indexed in %.1f s, %.1f store calls "
               "each\n",
               bench_seconds() - began - 2,
               (double)(store_fault_calls(n.store) - calls) / (double)names);
    idle(&n, "open, indexed");
    bench_node_stop(&n);

    calls = store_fault_calls(n.store);
    bench_node_start(&n, o, (uint64_t)1 << 30);
    while (registry_count(n.registry) < names)
        task_sleep_ms(100);
    (void)printf("a survey that finds nothing to do: %.1f store calls each\n",
                 (double)(store_fault_calls(n.store) - calls) / (double)names);
    idle(&n, "closed, indexed");
    bench_node_stop(&n);
    bench_node_free(&n);
    return 0;
}
