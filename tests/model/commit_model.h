/*
 * commit_model.h - the commit protocol of docs/protocol.md as a model to explore.
 *
 * Two or three processes open, write, index and collect garbage over one store; every
 * step between two answers of the store is its own step here, and any other process may
 * come in between. Requests travel through a network that may keep one for ever, lose
 * it, lose its answer, or carry the same bytes twice after a resend. A process may stop
 * at any point and open anew, leaving its requests on the way.
 *
 * In every state each reader that could exist reads: the owner's probe of every process
 * that thinks it owns, and a LIST reader with every manifest that ever was the newest.
 * All of them must see one and the same set of writes, and that set must hold
 * everything acknowledged or read before.
 */
#ifndef TESTS_MODEL_COMMIT_MODEL_H
#define TESTS_MODEL_COMMIT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct explorer;

enum {
    MODEL_PROCESSES = 3,
    MODEL_SLOTS = 6,
    MODEL_VERSIONS = 7,
    MODEL_IN_FLIGHT = 3,
    MODEL_WRITES = 8, /* of all processes together */
    MODEL_STATE_SIZE_MAX = 512
};

/* A rule left out, to see that the model notices. */
enum broken_rule {
    RULE_ALL_KEPT,
    RULE_412_FENCES,      /* a 412 by another's entry is taken as "try the next slot" */
    RULE_FENCE,           /* OPEN writes no fence record */
    RULE_FENCES_RETAINED, /* GC deletes fences too */
    RULE_VALIDATE,        /* OPEN 6 is skipped */
    RULE_POST_CHECK,      /* manifests are acted on without looking again */
    RULE_ANCHOR,          /* floor = wm: the anchor slot is deleted, readers miss it */
    RULE_CHAIN,           /* nobody compares prev or the anchor's put-id */
    RULE_RESEND_SETTLES,  /* a timeout and a 404 are taken as "not applied" */
    RULE_WEDGED_404,      /* a probe that finds nothing is believed while a put of ours
                             is on its way */
    RULE_WEDGED_OWN,      /* a probe that finds our own entry is believed without
                             probing the slot behind it */
    RULE_FOREIGN_BELOW_FLOOR, /* another's entry at our slot always means "not applied"
                               */
    RULE_LOOK_ORDER /* a read beside a put looks behind its slot first, then at it */
};

struct bounds {
    unsigned processes, slots, versions, in_flight;
    unsigned writes[MODEL_PROCESSES]; /* by each process */
    unsigned opens[MODEL_PROCESSES];  /* of each process, restarts included */
    unsigned indexers;   /* bit p: process p may publish manifests beyond its open */
    unsigned collectors; /* bit p: process p may delete */
    bool loss;           /* requests and answers get lost, and are sent again */
    bool beside;         /* a manifest may be on its way beside a log put */
};

struct commit_model {
    struct bounds bounds;
    enum broken_rule broken;
    /* Check what only the inside can see (I1, I2, I4, I5, I6) too. A run with a broken
     * rule is judged by what clients see alone. */
    bool inner_checks;
};

/* state: MODEL_STATE_SIZE_MAX bytes. */
void commit_model_first(const struct commit_model *m, void *state);
size_t commit_model_state_size(void);
/* struct explore_model's expand; context is a struct commit_model. */
void commit_model_expand(void *context, const void *state, struct explorer *x);
/* The action in words, for a trace. */
void commit_model_describe(uint32_t action, char *text, size_t size);

#endif
