/*
 * store_fault.h - a store that fails on purpose, the same way for the same seed.
 *
 * Two ways of use. A script: call number n suffers X. A weather: each call fails by
 * probability, drawn from the seed; where both apply the script wins. X is one of the
 * faults below. Calls are numbered from 1 in the order they arrive, of all kinds
 * together; the same calls in the same order meet the same faults, delays and landings.
 *
 * Reads, gets and lists change nothing, so for them FAIL, UNKNOWN, LOST_ANSWER, LATE
 * and FULL are all the same ERR_IO, with nothing handed back. A late call lands by the
 * rules of its kind on the day it lands: a create only if nothing is there then.
 */
#ifndef STORE_STORE_FAULT_H
#define STORE_STORE_FAULT_H

#include <stdbool.h>

#include "store/store.h"

enum fault {
    FAULT_NONE,
    FAULT_FAIL,        /* ERR_IO, not applied */
    FAULT_UNKNOWN,     /* ERR_UNKNOWN (a create) or ERR_IO (others), not applied */
    FAULT_LOST_ANSWER, /* applied, then ERR_UNKNOWN (create) or ERR_IO (others) */
    FAULT_LATE,        /* answered as FAULT_UNKNOWN, applied before a later call or at
                          store_fault_flush */
    FAULT_FULL,        /* ERR_FULL, not applied */
    FAULT_DIE_BEFORE,  /* not applied; calls on_death */
    FAULT_DIE_LOST,    /* applied; calls on_death instead of answering */
    FAULT_DIE_AFTER,   /* applied and answered; on_death before the next call */
    FAULT_COUNT
};

enum store_call {
    CALL_READ,
    CALL_GET,
    CALL_CREATE,
    CALL_PUT,
    CALL_LIST,
    CALL_DELETE,
    CALL_KINDS
};

struct fault_plan {
    uint64_t seed;
    double probability[FAULT_COUNT]; /* per call; for the weather */
    uint64_t at_call;                /* script: this call (0: none) … */
    enum fault at_fault;             /* … suffers this */
    uint64_t late_calls_max;         /* FAULT_LATE lands within so many later calls, at
                                        the next one if 0 */
    int64_t delay_ms_max; /* each call sleeps up to so long (task_sleep_ms) */
    /* Death: does not return in a real process (abort) or in the sweep (longjmp; no
     * lock is held, nothing of the call is left allocated). When it does return, or is
     * NULL, the call it struck answers as FAULT_UNKNOWN and every later call ERR_IO.
     * What is late stays in flight: store_fault_flush lands it. */
    void (*on_death)(void *context);
    void *context;
};

/* plan is copied. inner is owned. */
struct store *store_fault_new(struct store *inner, const struct fault_plan *plan);
/* Replaces the plan's script and weather and starts its seed anew, as for a process
 * that was started again: a dead store answers again. The call counter goes on and what
 * is in flight still lands. */
void store_fault_plan(struct store *fault, const struct fault_plan *plan);
uint64_t store_fault_calls(struct store *fault); /* calls so far */
uint64_t store_fault_hits(struct store *fault, enum fault kind, enum store_call call);
/* Applies every late call that has not landed yet, in the order they were made. */
void store_fault_flush(struct store *fault);

#endif
