#include "ns/admission.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/ns_metrics.h"

enum { RETRY_MS = 1000 };

struct crowd {
    struct crowd *next;
    char *name;
    unsigned count;
};

struct admission {
    struct mutex lock; /* guards crowds and waiting, and changes of count */
    struct cond none;
    struct crowd *crowds;
    atomic_uint count;
    unsigned waiting; /* for none */
    unsigned each_max;
};

struct admission *admission_new(unsigned each_max)
{
    assert(each_max > 0);
    struct admission *a = mem_new(struct admission);
    mutex_init(&a->lock);
    cond_init(&a->none);
    a->each_max = each_max;
    return a;
}

void admission_free(struct admission *a)
{
    if (!a) return;
    assert(!a->crowds);
    cond_release(&a->none);
    mutex_release(&a->lock);
    mem_free(a);
}

/* Where the crowd of that name hangs, or where it would. */
static struct crowd **find(struct admission *a, const char *name)
{
    struct crowd **at = &a->crowds;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static enum err refuse(struct op *op, const struct admission *a, const char *name)
{
    ns_count(NS_QUERIES_REFUSED);
    op->retry_after_ms = RETRY_MS;
    return op_fail(op, ERR_BUSY,
                   "%u queries of namespace \"%s\" are running, as many as may run at "
                   "once",
                   a->each_max, name);
}

enum err admission_enter(struct op *op, struct admission *a, const char *name)
{
    mutex_lock(&a->lock);
    struct crowd **at = find(a, name);
    if (!*at) {
        *at = mem_new(struct crowd);
        (*at)->name = mem_strdup(name);
    }
    bool full = (*at)->count == a->each_max;
    (*at)->count += !full;
    atomic_fetch_add_explicit(&a->count, !full, memory_order_relaxed);
    mutex_unlock(&a->lock);
    return full ? refuse(op, a, name) : ERR_OK;
}

void admission_leave(struct admission *a, const char *name)
{
    mutex_lock(&a->lock);
    struct crowd **at = find(a, name);
    struct crowd *crowd = *at;
    assert(crowd);
    if (--crowd->count == 0) {
        *at = crowd->next;
        mem_free(crowd->name);
        mem_free(crowd);
    }
    bool last = atomic_fetch_sub_explicit(&a->count, 1, memory_order_relaxed) == 1;
    if (last && a->waiting) cond_broadcast(&a->none);
    mutex_unlock(&a->lock);
}

unsigned admission_count(const struct admission *a)
{
    return atomic_load_explicit(&a->count, memory_order_relaxed);
}

void admission_await_none(struct admission *a, int64_t until_ms)
{
    mutex_lock(&a->lock);
    a->waiting++;
    while (a->crowds && cond_wait(&a->none, &a->lock, until_ms))
        ;
    a->waiting--;
    mutex_unlock(&a->lock);
}
