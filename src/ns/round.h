/*
 * round.h - several waits for the store at once.
 *
 * What does not depend on each other's answers is asked for together, so that latency
 * is that of the slowest. For the few, long steps of an OPEN; a query's reads are
 * ranges, which the store takes many at once.
 *
 * Threads  all calls but one run on threads of their own, made for the occasion.
 */
#ifndef NS_ROUND_H
#define NS_ROUND_H

#include <stddef.h>

#include "base/err.h"

struct op;

enum { ROUND_CALLS_MAX = 16 };

struct round_call {
    /* op is the call's own: what it allocates there is gone when the round is over. */
    enum err (*run)(struct op *op, void *arg);
    void *arg;
    enum err err; /* out */
};

/* Makes all n calls, at most ROUND_CALLS_MAX. ERR_OK: all succeeded. Otherwise the
 * first failure in their order, with its words; each call's err tells its own. */
enum err round_run(struct op *op, struct round_call *calls, size_t n);

#endif
