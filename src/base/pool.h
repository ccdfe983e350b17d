/*
 * pool.h - a fixed number of threads that run jobs from a bounded queue.
 *
 * Jobs start in the order they were submitted. A full queue refuses (the caller answers
 * ERR_BUSY). pool_free runs what is queued, then joins the threads.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

struct pool *pool_new(const char *name, size_t threads, size_t queue_max);
/* False when queue_max jobs are waiting. */
bool pool_submit(struct pool *p, void (*run)(void *), void *arg);
void pool_free(struct pool *p); /* NULL is fine */

#endif
