/*
 * opener.h - runs OPENs apart from the requests that wait for them.
 *
 * An OPEN may take longer than a request has time (a long log, a slow store), and one
 * that is given up leaves an epoch and a fence behind for nothing. So each runs on a
 * thread of its own kind, with a deadline of its own, and requests only wait for it.
 *
 * Threads  any may submit; jobs run on a few threads, in the order they came.
 */
#ifndef NS_OPENER_H
#define NS_OPENER_H

#include <stdbool.h>
#include <stddef.h>

struct op;
struct opener;

struct opener *opener_new(size_t threads, size_t queue_max);
/* Runs run(op, arg) soon, where op has its own deadline. False: queue_max jobs wait. */
bool opener_submit(struct opener *o, void (*run)(struct op *op, void *arg), void *arg);
/* Cancels the ops of all jobs, also of those that have not begun; these run still, but
 * will find at once that they should stop. */
void opener_cancel(struct opener *o);
void opener_free(struct opener *o); /* waits for the jobs */

#endif
