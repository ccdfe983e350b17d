/*
 * orders.h - compactions that were asked for. They outlive the request: one that takes
 * longer than a request may is not in vain, and asking again waits for the rest of it.
 *
 * One order a namespace runs at a time, each on a thread of its own, at most ORDERS_MAX
 * of them. Who asks while one runs waits for its end and then for an order of his own,
 * since the running one need not have seen the newest writes.
 *
 * Threads  any.
 */
#ifndef NS_ORDERS_H
#define NS_ORDERS_H

#include "base/err.h"
#include "base/task.h"

enum { ORDERS_MAX = 16 };

struct op;
struct order;

struct orders {
    enum err (*run)(struct op *op, void *context, const char *name);
    void *context;
    struct mutex lock; /* guards what follows */
    struct cond changed;
    struct order *first;
};

void orders_init(struct orders *o,
                 enum err (*run)(struct op *op, void *context, const char *name),
                 void *context);
/* What runs is to end soon. */
void orders_cancel(struct orders *o);
/* Waits for the end of what runs. Nobody may be in orders_carry_out. */
void orders_release(struct orders *o);

/*
 * Has run carried out for the namespace, on a thread of its own and with an op without
 * a deadline, and returns what it returned. ERR_TIMEOUT: the deadline of op has passed,
 * the order goes on. ERR_BUSY: too many run.
 */
enum err orders_carry_out(struct op *op, struct orders *o, const char *name);

#endif
