/*
 * store_sim.h - one process's link to a shared store, over a network that misbehaves.
 *
 * Every call takes virtual time, during which other fibers run and its caller may be
 * killed. Writes travel on their own: once sent they may land although the caller is
 * dead, has given up at its deadline, or was told that they failed; some land minutes
 * later or twice. What happens is drawn from the simulation's seed.
 *
 * All links of a simulation share one struct store_net around one store in memory.
 */
#ifndef TESTS_SIM_STORE_SIM_H
#define TESTS_SIM_STORE_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

enum sim_fault {
    SIM_OK,
    SIM_FAIL,      /* not applied: ERR_IO */
    SIM_DROP,      /* a create is not applied: ERR_UNKNOWN. Others: ERR_IO */
    SIM_LOSE,      /* applied, but the answer is lost: ERR_UNKNOWN or ERR_IO */
    SIM_LATE,      /* the answer is lost, and it is applied up to late_ms_max later */
    SIM_DUPLICATE, /* applied, answered, and applied again later */
    SIM_FULL,      /* not applied: ERR_FULL (create, put) */
    SIM_TORN,      /* a list in small pages with time between them; a delete or read
                      of several that fails in the middle */
    SIM_SLOW,      /* takes up to slow_ms_max */
    SIM_FAULTS
};

enum sim_call {
    SIM_READ,
    SIM_GET,
    SIM_CREATE,
    SIM_PUT,
    SIM_LIST,
    SIM_DELETE,
    SIM_CALLS
};

/* What the key says the call is about. */
enum sim_place {
    SIM_WAL,
    SIM_MANIFEST,
    SIM_CATALOG,
    SIM_SEGMENT,
    SIM_ELSEWHERE,
    SIM_PLACES
};

/* Sees every change of the store at the moment it happens. */
struct store_witness {
    void (*stored)(void *context, const char *key, struct slice bytes);
    void (*deleting)(void *context, const char *key);
    void *context;
};

struct store_net_options {
    struct store_witness witness;           /* or zeros */
    int64_t latency_us_min, latency_us_max; /* one way */
    int64_t late_ms_max, slow_ms_max;
    unsigned weather[SIM_FAULTS]; /* chances in 10,000 calls; SIM_OK's is not used */
};

struct store_net_hits {
    uint64_t calls;
    uint64_t hits[SIM_FAULTS][SIM_CALLS][SIM_PLACES];
};

struct store_net;

/* inner is borrowed, hits are added to. */
struct store_net *store_net_new(struct store *inner,
                                const struct store_net_options *options,
                                struct store_net_hits *hits);
/* After the simulation, once no link is used any more. */
void store_net_free(struct store_net *net);
/* From now on nothing goes wrong any more; what is on its way still lands. */
void store_net_calm(struct store_net *net);

/* A link of the calling fiber's process; freed like any store, without the net. */
struct store *store_sim_new(struct store_net *net);

#endif
