/*
 * slowdown.h - writes that wait for the indexer.
 *
 * A query looks at all rows of the tail, one by one. So while as much waits there as
 * makes two segments, a write is answered no sooner than its rows could have been
 * indexed at the pace of the last segment: the tail grows no further, the writer slows
 * down, and nothing is refused. All writers of a namespace share that pace, each as if
 * its rows were indexed behind those of the others.
 *
 * What waits is stored and visible by then; only its answer is late, by a second and by
 * half of the time that its request has left at most, and no more than 16 answers of a
 * namespace at once, so that the threads that write are there for other namespaces too.
 * Who writes faster than that meets tail.max_bytes.
 */
#ifndef NS_SLOWDOWN_H
#define NS_SLOWDOWN_H

#include <stdbool.h>
#include <stdint.h>

struct namespace;
struct op;
struct registry_options;
struct snapshot;

struct slowdown {
    int64_t row_ns; /* what the last segment took, divided by its rows; 0: none yet */
    int64_t indexed_us; /* when the rows written so far would be indexed at that pace */
    unsigned waiting;
};

/*
 * Is the tail long enough to become a segment? It is at the wanted size, or at twice
 * that while stored segments are many, if an eighth of tail.max_bytes is enough for it:
 * each query looks into every segment, so where merges do not keep up with writers,
 * fewer and larger ones are quicker than a short tail.
 */
bool tail_long(const struct registry_options *env, const struct snapshot *s);
/* Should another segment have been made of this tail before? */
bool tail_behind(const struct registry_options *env, const struct snapshot *s);
/* A segment was made of so many rows, above 0. */
void slowdown_learn(struct slowdown *s, uint64_t rows, int64_t took_us);
/* Behind a write of so many rows; ns->lock is not held. */
void slowdown_wait(const struct op *op, struct namespace *ns, uint64_t rows);

#endif
