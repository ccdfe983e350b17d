#include "ns/round.h"

#include <assert.h>

#include "base/op.h"
#include "base/task.h"

struct runner {
    struct round_call *call;
    struct op op;
    struct thread *thread;
};

static void run(void *arg)
{
    struct runner *r = arg;
    r->call->err = r->call->run(&r->op, r->call->arg);
}

/* The round cost as many sequential waits as its longest call. */
static void count(struct op *op, const struct runner *runners, size_t n)
{
    uint64_t rounds = 0;
    for (size_t i = 0; i < n; i++) {
        const struct op_counters *c = &runners[i].op.counters;
        if (c->rounds > rounds) rounds = c->rounds;
        op->counters.store_requests += c->store_requests;
        op->counters.store_bytes += c->store_bytes;
        op->counters.cache_hits += c->cache_hits;
        op->counters.cache_misses += c->cache_misses;
    }
    op->counters.rounds += rounds;
}

enum err round_run(struct op *op, struct round_call *calls, size_t n)
{
    struct runner runners[ROUND_CALLS_MAX];
    enum err e = op_check(op);

    assert(n <= ROUND_CALLS_MAX);
    if (e || n == 0) return e;
    for (size_t i = 0; i < n; i++) {
        runners[i].call = &calls[i];
        op_init(&runners[i].op, op->deadline_ms, 0);
        runners[i].thread = i ? thread_start("round", run, &runners[i]) : NULL;
    }
    run(&runners[0]);
    for (size_t i = 1; i < n; i++)
        thread_join(runners[i].thread);

    count(op, runners, n);
    for (size_t i = 0; i < n; i++) {
        if (calls[i].err && !e) {
            e = op_fail(op, calls[i].err, "%s", runners[i].op.error);
            op->retry_after_ms = runners[i].op.retry_after_ms;
        }
        op_release(&runners[i].op);
    }
    return e;
}
