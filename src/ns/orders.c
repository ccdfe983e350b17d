#include "ns/orders.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "ns/keys.h"

struct order {
    struct order *next;
    struct orders *all;
    struct thread *thread;
    struct op op; /* the thread's until done */
    char name[NAMESPACE_NAME_MAX + 1];
    enum err err;
    bool awaited, done;
};

void orders_init(struct orders *o,
                 enum err (*run)(struct op *op, void *context, const char *name),
                 void *context)
{
    *o = (struct orders){.run = run, .context = context};
    mutex_init(&o->lock);
    cond_init(&o->changed);
}

static void carry_out(void *arg)
{
    struct order *order = arg;
    struct orders *o = order->all;

    enum err e = o->run(&order->op, o->context, order->name);
    mutex_lock(&o->lock);
    if (e && !order->awaited && e != ERR_CANCELED)
        log_warn(&order->op, "a compaction that nobody waited for any more failed",
                 "namespace=%s error=%s", order->name, order->op.error);
    order->err = e;
    order->done = true;
    cond_broadcast(&o->changed);
    mutex_unlock(&o->lock);
}

/* Of a thread at its very end. Lock held, given back meanwhile. */
static void order_free(struct orders *o, struct order *order)
{
    struct order **at = &o->first;
    while (*at != order)
        at = &(*at)->next;
    *at = order->next;
    mutex_unlock(&o->lock);
    thread_join(order->thread);
    op_release(&order->op);
    mem_free(order);
    mutex_lock(&o->lock);
}

static struct order *first_abandoned(const struct orders *o)
{
    struct order *order = o->first;
    while (order && !(order->done && !order->awaited))
        order = order->next;
    return order;
}

/* The one for that name that is not over; *count: of all names. */
static struct order *first_running(const struct orders *o, const char *name,
                                   size_t *count)
{
    struct order *found = NULL;
    *count = 0;
    for (struct order *order = o->first; order; order = order->next) {
        if (order->done) continue;
        ++*count;
        if (strcmp(order->name, name) == 0) found = order;
    }
    return found;
}

static enum err wait_for_change(struct op *op, struct orders *o)
{
    if (cond_wait(&o->changed, &o->lock, op->deadline_ms)) return ERR_OK;
    return op_fail(op, ERR_TIMEOUT,
                   "the deadline of this request has passed; the compaction goes on");
}

static struct order *order_start(struct op *op, struct orders *o, const char *name)
{
    struct order *order = mem_new(struct order);
    order->all = o;
    order->awaited = true;
    (void)stpncpy(order->name, name, NAMESPACE_NAME_MAX);
    op_init(&order->op, OP_NO_DEADLINE, 0);
    memcpy(order->op.request_id, op->request_id, sizeof op->request_id);
    order->next = o->first;
    o->first = order;
    order->thread = thread_start("compaction", carry_out, order);
    return order;
}

/* What became of it, or ERR_TIMEOUT. */
static enum err order_await(struct op *op, struct orders *o, struct order *order)
{
    enum err e = ERR_OK;
    while (!e && !order->done)
        e = wait_for_change(op, o);
    order->awaited = false;
    if (!order->done) return e;
    e = order->err;
    if (e) (void)op_fail(op, e, "%s", order->op.error);
    op->retry_after_ms = order->op.retry_after_ms;
    return e;
}

enum err orders_carry_out(struct op *op, struct orders *o, const char *name)
{
    struct order *order;
    size_t count;
    enum err e = ERR_OK;

    mutex_lock(&o->lock);
    while (!e && first_running(o, name, &count))
        e = wait_for_change(op, o);
    if (!e && count >= ORDERS_MAX) {
        op->retry_after_ms = 1000;
        e = op_fail(op, ERR_BUSY, "%d compactions that were asked for run on this node",
                    ORDERS_MAX);
    }
    if (!e) e = order_await(op, o, order_start(op, o, name));
    while ((order = first_abandoned(o)))
        order_free(o, order);
    mutex_unlock(&o->lock);
    return e;
}

void orders_cancel(struct orders *o)
{
    mutex_lock(&o->lock);
    for (struct order *order = o->first; order; order = order->next)
        op_cancel(&order->op);
    mutex_unlock(&o->lock);
}

void orders_release(struct orders *o)
{
    mutex_lock(&o->lock);
    while (o->first)
        order_free(o, o->first);
    mutex_unlock(&o->lock);
    cond_release(&o->changed);
    mutex_release(&o->lock);
}
