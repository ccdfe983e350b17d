/*
 * namespaces.h - a node on a folder, for benchmarks of whole namespaces.
 */
#ifndef BENCH_NAMESPACES_H
#define BENCH_NAMESPACES_H

#include <stdint.h>

#include "ns/registry.h"

struct cache;
struct store;

struct bench_node {
    char folder[64];
    struct store *store; /* counts calls: store_fault.h */
    struct cache *cache;
    struct registry *registry;
};

/* On a new folder below the current one. */
void bench_node_new(struct bench_node *n);
/* options: without store and cache. */
void bench_node_start(struct bench_node *n, struct registry_options options,
                      uint64_t cache_bytes);
void bench_node_stop(struct bench_node *n);
void bench_node_free(struct bench_node *n); /* and the folder */

/* dim 0: no vectors. One attribute, an int. */
void bench_create(struct bench_node *n, const char *name, uint32_t dim);
/* Documents first .. first + count - 1, their values drawn from *random; or deletes
 * them. Waits as long as it is told to come back. */
void bench_write(struct bench_node *n, const char *name, uint32_t dim, uint64_t first,
                 uint64_t count, bool remove, uint64_t *random);

double bench_seconds(void); /* of the wall, of the process's processors */
double bench_cpu_seconds(void);
double bench_rss_mib(void);
uint64_t bench_random(uint64_t *state);
void bench_fail(const char *what, const char *words);

#endif
