/*
 * upkeep.h - what one namespace needs done behind its requests: a put settled, its tail
 * indexed, segments merged, what is obsolete deleted; when each is due, and how long to
 * leave it alone after a failure. Who does it, and on which thread, is background.h's.
 *
 * One at a time indexes or collects (ns->maintaining), one merges (ns->merging).
 *
 * Threads  any; takes the lock of the namespace, never during I/O.
 */
#ifndef NS_UPKEEP_H
#define NS_UPKEEP_H

#include <stdbool.h>

#include "base/err.h"

struct namespace;
struct op;

/* What is asked of it. */
enum work {
    WORK_IF_DUE,
    WORK_INDEX,  /* write the tail as a segment now, … */
    WORK_COMPACT /* … and join all segments that could be fewer */
};

/* How long it may take with merges of many GiB, on a busy machine. */
enum { MERGE_TIMEOUT_MS = 24 * 3600 * 1000 };

/* First looks, for most namespaces need nothing: is upkeep_maintain, or upkeep_merge,
 * to be called at all? */
bool upkeep_maintenance_due(struct namespace *ns);
bool upkeep_merge_due(struct namespace *ns);
/* Nothing is due, nothing in progress, and time alone will not bring anything about. */
bool upkeep_at_rest(struct namespace *ns);

/*
 * Settles, indexes and collects; merges. WORK_IF_DUE: does nothing where nothing is
 * due, another does it, or a failure was a moment ago. Otherwise waits for who does it
 * (ERR_TIMEOUT). A failure is counted and logged here, too.
 */
enum err upkeep_maintain(struct op *op, struct namespace *ns, enum work work);
enum err upkeep_merge(struct op *op, struct namespace *ns, enum work work);
/* All of it, opened for writing first unless it is only if due. Never ERR_UNKNOWN: no
 * request of the caller's is in doubt. */
enum err upkeep_run(struct op *op, struct namespace *ns, enum work work);

#endif
