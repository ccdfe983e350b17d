/*
 * ticket.h - one look at the store serves everybody who asked before it began.
 *
 * A reader needs a check that started after the reader arrived. Readers that arrive
 * while one runs wait and share the next (ReadIndex batching). The caller's mutex
 * guards it.
 */
#ifndef NS_TICKET_H
#define NS_TICKET_H

#include <stdbool.h>
#include <stdint.h>

struct tickets {
    uint64_t started; /* number of the last check that was started */
    uint64_t done;    /* the newest check that succeeded */
    bool running;
};

/* What a reader that arrives now needs to see done. */
static inline uint64_t ticket_take(const struct tickets *t)
{
    return t->started + 1;
}

static inline bool ticket_served(const struct tickets *t, uint64_t ticket)
{
    return t->done >= ticket;
}

static inline uint64_t ticket_start(struct tickets *t)
{
    return ++t->started;
}

static inline void ticket_finish(struct tickets *t, uint64_t number)
{
    if (number > t->done) t->done = number;
}

#endif
