/*
 * http_flow.h - bytes on their way between a loop and a worker, so many at once.
 *
 * A ring of fixed size with a loop's thread, which never waits, at one end and a
 * worker, which may, at the other; which of them puts and which takes is up to them. A
 * loop that finds it full (or empty) is told once when that has changed, so neither end
 * runs ahead of the other by more than the ring holds.
 *
 * Threads  one at each end.
 */
#ifndef HTTP_HTTP_FLOW_H
#define HTTP_HTTP_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct flow;

/* tell: called on the worker's thread; must not block. */
struct flow *flow_new(size_t capacity, void (*tell)(void *context), void *context);
void flow_free(struct flow *f); /* NULL is fine */

/* ---- the loop's end ---- */

/* How many bytes fit; 0: tell is called when half of it is free. */
size_t flow_room(struct flow *f);
/* They must fit. */
void flow_put(struct flow *f, struct slice bytes);
/* No more are put. */
void flow_end(struct flow *f);
/* The next bytes, as many as lie in one piece; none: tell is called when there are
 * some. They stay until flow_skip. */
struct slice flow_look(struct flow *f);
void flow_skip(struct flow *f, size_t size);

/* ---- the worker's end ---- */

/* Waits for something to take; false when there is nothing by deadline_ms. The end is
 * something. */
bool flow_wait(struct flow *f, int64_t deadline_ms);
/* Takes at most room bytes, without waiting. *ended: there will never be more. */
size_t flow_take(struct flow *f, void *into, size_t room, bool *ended);
/* Are all bytes put? */
bool flow_is_ended(struct flow *f);
/* Puts as many bytes as fit, 1 at least unless none does by deadline_ms. */
size_t flow_write(struct flow *f, struct slice bytes, int64_t deadline_ms);

#endif
