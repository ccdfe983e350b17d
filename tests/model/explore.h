/*
 * explore.h - visits every state that a model can reach, breadth first.
 *
 * A model is a first state and a function that offers every successor of a state.
 * States are plain bytes of one size, equal exactly when their bytes are equal. Of a
 * visited state only a 128-bit fingerprint (XXH3) and the way back are kept, so a run
 * costs about 40 bytes a state; two states with one fingerprint would be taken for one,
 * which at 10^8 states happens with a chance below 10^-22.
 *
 * Breadth first: the first violation found is one of the shortest.
 */
#ifndef TESTS_MODEL_EXPLORE_H
#define TESTS_MODEL_EXPLORE_H

#include <stddef.h>
#include <stdint.h>

struct explorer;

struct explore_model {
    size_t state_size;
    /* Calls explore_offer for every successor of state. */
    void (*expand)(void *context, const void *state, struct explorer *x);
    void *context;
    uint64_t states_max; /* stop there; the result is then not exhaustive */
};

struct explore_result {
    uint64_t states, transitions;
    uint32_t depth;        /* of the deepest state */
    const char *violation; /* NULL: none */
    uint32_t *trace;       /* actions from the first state to the violation */
    uint32_t trace_count;
    int exhaustive; /* every reachable state was expanded */
};

/* explore_free releases what *result holds. */
void explore(const struct explore_model *model, const void *first,
             struct explore_result *result);
void explore_free(struct explore_result *result);

/* For expand: a successor, how it is reached, and what is wrong in it (or NULL). */
void explore_offer(struct explorer *x, const void *state, uint32_t action,
                   const char *violation);

#endif
