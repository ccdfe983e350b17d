/*
 * pace.h - background work that steps aside while queries run.
 *
 * A thread of low priority still shares caches and memory with queries, and now and
 * then has a turn on the processor that one of them waits for. So between two pieces of
 * its work it waits until no query runs, but no longer than `patience` times as long as
 * it has worked since it last waited: whatever the queries, it gets one part in
 * 1 + patience of its time. Short work may wait for longer than that at first, as if it
 * had come with credit_us of waiting earned. Work is processor time: where others have
 * the processor meanwhile, that is as good as a wait, so a full machine does not slow
 * it down twice. While no query runs it lets other threads in now and then: a request
 * that has just arrived, or an answer on its way out, is no query yet, or no longer.
 *
 * Threads  a pace belongs to one.
 */
#ifndef NS_PACE_H
#define NS_PACE_H

#include <stdint.h>

struct admission;

struct pace {
    struct admission *queries; /* borrowed */
    unsigned patience;
    int64_t credit_us; /* what is left of it */
    int64_t resumed_us;
    int64_t worked_us; /* of the thread, when it resumed */
    int64_t let_in_us; /* when it last gave others the processor though no query ran */
};

struct pace pace_start(struct admission *queries, unsigned patience, int64_t credit_us);
/* Between two pieces; a look at the clock, if the last one was short. */
void pace_rest(struct pace *p);

#endif
