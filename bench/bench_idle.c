/*
 * Many small namespaces on one node: what they take in memory, processor and requests
 * while nobody asks, open and closed.
 *
 *   bench_idle [namespaces [documents of each]]     default 10000 100
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/task.h"
#include "namespaces.h"
#include "store/store_fault.h"
#include "unit/metric_value.h"

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

static double open_now(void)
{
    return metric_value("elacsym_open_namespaces", 0);
}

/* All are asked for once, and then left alone. */
static void watch_closing(struct bench_node *n, struct registry_options o,
                          unsigned long names)
{
    enum { CLOSE_MS = 20000, MINUTE = 60 };
    uint64_t random = 2;
    char name[32];

    o.idle_close_ms = CLOSE_MS;
    o.tail_index_idle_ms = 1000;
    o.gc_grace_ms = 1000;
    bench_node_start(n, o, (uint64_t)1 << 30);
    for (unsigned long i = 0; i < names; i++) {
        (void)snprintf(name, sizeof name, "n%06lu", i);
        bench_write(n, name, 8, 0, 1, false, &random);
    }
    task_sleep_ms(6000);
    (void)printf("all were written to once more: %.0f open, %.0f MiB\n", open_now(),
                 bench_rss_mib());
    for (int i = 0; i < 300 && open_now() > 0; i++)
        task_sleep_ms(1000);
    uint64_t calls = store_fault_calls(n->store);
    double cpu = bench_cpu_seconds();
    task_sleep_ms(MINUTE * 1000);
    (void)printf("idle for long: %.0f open, %.0f MiB, %llu store calls and %.1f ms CPU "
                 "in a minute\n",
                 open_now(), bench_rss_mib(),
                 (unsigned long long)(store_fault_calls(n->store) - calls),
                 (bench_cpu_seconds() - cpu) * 1000);
    bench_node_stop(n);
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
    watch_closing(&n, o, names);

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
