/*
 * store_fault.h - a store that fails on purpose, the same way for the same seed.
 *
 * Two ways of use. A script: before call number n of a kind (or of any kind) do X. A
 * weather: each call fails by probability, drawn from the seed. X is one of the faults
 * below. Calls are numbered from 1 in the order they arrive.
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
    FAULT_LATE,        /* a create: ERR_UNKNOWN now, applied at a later call or at
                          store_fault_flush */
    FAULT_FULL,        /* ERR_FULL, not applied */
    FAULT_DIE_BEFORE,  /* not applied; calls on_death */
    FAULT_DIE_LOST,    /* applied; calls on_death instead of answering */
    FAULT_DIE_AFTER,   /* applied and answered; on_death at the next call */
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
    uint64_t late_calls_max;         /* FAULT_LATE lands within so many later calls */
    int64_t delay_ms_max; /* each call sleeps up to so long (task_sleep_ms) */
    /* Death: does not return in a real process (abort) or in the sweep (longjmp). When
     * it does return, every later call answers ERR_IO. */
    void (*on_death)(void *context);
    void *context;
};

/* plan is copied. inner is owned. */
struct store *store_fault_new(struct store *inner, const struct fault_plan *plan);
/* Replaces the plan's script and weather; the call counter goes on. */
void store_fault_plan(struct store *fault, const struct fault_plan *plan);
uint64_t store_fault_calls(struct store *fault); /* calls so far */
uint64_t store_fault_hits(struct store *fault, enum fault kind, enum store_call call);
/* Applies every late create that has not landed yet. */
void store_fault_flush(struct store *fault);

#endif
