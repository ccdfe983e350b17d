#include "model/explore.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"

struct fingerprint {
    uint64_t low, high;
};

/* How a state was reached, in order of discovery; the first state is number 0. */
struct arrival {
    uint32_t parent;
    uint32_t action;
};

struct level {
    uint8_t *states;
    uint64_t count, capacity;
    uint64_t first; /* number of its first state */
};

struct explorer {
    const struct explore_model *model;
    struct explore_result *result;
    struct fingerprint *seen; /* open addressing; low and high 0: empty */
    uint64_t seen_capacity;
    struct arrival *arrivals;
    uint64_t arrivals_capacity;
    struct level now, next;
    uint32_t expanding;  /* number of the state being expanded */
    struct arrival last; /* the step into the violation */
};

static struct fingerprint fingerprint_of(const struct explorer *x, const void *state)
{
    XXH128_hash_t hash = XXH3_128bits(state, x->model->state_size);
    return (struct fingerprint){hash.low64 | 1, hash.high64}; /* never the empty one */
}

static bool insert(struct fingerprint *table, uint64_t capacity, struct fingerprint f)
{
    uint64_t i = f.high & (capacity - 1);
    for (; table[i].low; i = (i + 1) & (capacity - 1))
        if (table[i].low == f.low && table[i].high == f.high) return false;
    table[i] = f;
    return true;
}

static void grow_seen(struct explorer *x)
{
    uint64_t capacity = x->seen_capacity * 2;
    struct fingerprint *table = mem_new_array(struct fingerprint, capacity);
    for (uint64_t i = 0; i < x->seen_capacity; i++)
        if (x->seen[i].low) (void)insert(table, capacity, x->seen[i]);
    mem_free(x->seen);
    x->seen = table;
    x->seen_capacity = capacity;
}

static void append_state(struct explorer *x, const void *state)
{
    struct level *l = &x->next;
    size_t size = x->model->state_size;
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? l->capacity * 2 : 1024;
        l->states = mem_realloc(l->states, l->capacity * size);
    }
    memcpy(l->states + l->count++ * size, state, size);
}

static void append_arrival(struct explorer *x, uint64_t number, struct arrival a)
{
    if (number == x->arrivals_capacity) {
        x->arrivals_capacity *= 2;
        x->arrivals =
            mem_realloc(x->arrivals, x->arrivals_capacity * sizeof(struct arrival));
    }
    x->arrivals[number] = a;
}

void explore_offer(struct explorer *x, const void *state, uint32_t action,
                   const char *violation)
{
    struct explore_result *r = x->result;
    struct arrival arrival = {x->expanding, action};

    if (r->violation) return;
    r->transitions++;
    if (violation) {
        r->violation = violation;
        x->last = arrival;
        return;
    }
    if (!insert(x->seen, x->seen_capacity, fingerprint_of(x, state))) return;
    append_arrival(x, r->states, arrival);
    append_state(x, state);
    r->states++;
    assert(r->states < UINT32_MAX);
    if (r->states > x->seen_capacity / 4 * 3) grow_seen(x);
}

static void expand_level(struct explorer *x)
{
    for (uint64_t i = 0; i < x->now.count && !x->result->violation; i++) {
        x->expanding = (uint32_t)(x->now.first + i);
        x->model->expand(x->model->context, x->now.states + i * x->model->state_size,
                         x);
        if (x->result->states >= x->model->states_max) return;
    }
}

static void advance_level(struct explorer *x)
{
    struct level done = x->now;
    x->now = x->next;
    x->now.first = x->result->states - x->now.count;
    x->next = done;
    x->next.count = 0;
}

static void derive_trace(struct explorer *x)
{
    struct explore_result *r = x->result;
    r->trace_count = 1;
    for (uint32_t n = x->last.parent; n; n = x->arrivals[n].parent)
        r->trace_count++;
    r->trace = mem_new_array(uint32_t, r->trace_count);
    uint32_t i = r->trace_count - 1;
    r->trace[i] = x->last.action;
    for (uint32_t n = x->last.parent; n; n = x->arrivals[n].parent)
        r->trace[--i] = x->arrivals[n].action;
}

void explore(const struct explore_model *model, const void *first,
             struct explore_result *result)
{
    struct explorer x = {.model = model,
                         .result = result,
                         .seen_capacity = 1 << 16,
                         .arrivals_capacity = 1 << 16};
    *result = (struct explore_result){.states = 1};
    x.seen = mem_new_array(struct fingerprint, x.seen_capacity);
    x.arrivals = mem_new_array(struct arrival, x.arrivals_capacity);

    (void)insert(x.seen, x.seen_capacity, fingerprint_of(&x, first));
    append_state(&x, first);
    advance_level(&x);
    while (x.now.count && !result->violation && result->states < model->states_max) {
        expand_level(&x);
        if (x.next.count) result->depth++;
        advance_level(&x);
    }
    result->exhaustive = !result->violation && result->states < model->states_max;
    if (result->violation) derive_trace(&x);

    mem_free(x.seen);
    mem_free(x.arrivals);
    mem_free(x.now.states);
    mem_free(x.next.states);
}

void explore_free(struct explore_result *result)
{
    mem_free(result->trace);
    result->trace = NULL;
}
