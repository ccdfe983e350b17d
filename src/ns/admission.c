#include "ns/admission.h"

#include <assert.h>
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
    struct mutex lock; /* guards crowds */
    struct crowd *crowds;
    unsigned each_max;
};

struct admission *admission_new(unsigned each_max)
{
    assert(each_max > 0);
    struct admission *a = mem_new(struct admission);
    mutex_init(&a->lock);
    a->each_max = each_max;
    return a;
}

void admission_free(struct admission *a)
{
    if (!a) return;
    assert(!a->crowds);
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
    mutex_unlock(&a->lock);
}
