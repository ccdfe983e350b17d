#include "node/readiness.h"

#include <stdatomic.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store.h"

enum { PROBE_MEMORY_MAX = 1 << 20 };

struct readiness {
    struct store *store;
    int64_t probe_ms;
    int64_t silence_max_ms;
    atomic_bool draining;
    atomic_int_least64_t answered_ms; /* when the store last did; 0: never */
    struct mutex lock;                /* guards stopping */
    struct cond stop;
    bool stopping;
    struct thread *thread;
};

static bool probe(struct readiness *r, bool was_well)
{
    struct op op;
    const char *key;
    size_t n = 1;
    op_init(&op, clock_ms() + r->silence_max_ms, PROBE_MEMORY_MAX);
    enum err e = store_list(&op, r->store, "", "", '/', &key, &n);
    if (!e) atomic_store(&r->answered_ms, clock_ms());
    if (e && was_well) log_warn(&op, "store does not answer", "error=%s", op.error);
    if (!e && !was_well)
        log_info(&op, "store answers", "probe_ms=%lld", (long long)r->probe_ms);
    op_release(&op);
    return !e;
}

static bool wait_for_next(struct readiness *r)
{
    int64_t next_ms = clock_ms() + r->probe_ms;
    mutex_lock(&r->lock);
    while (!r->stopping && cond_wait(&r->stop, &r->lock, next_ms))
        ;
    bool stopping = r->stopping;
    mutex_unlock(&r->lock);
    return !stopping;
}

static void run(void *arg)
{
    struct readiness *r = arg;
    bool well = true;
    do
        well = probe(r, well);
    while (wait_for_next(r));
}

struct readiness *readiness_new(struct store *store, int64_t probe_ms,
                                int64_t silence_max_ms)
{
    struct readiness *r = mem_new(struct readiness);
    r->store = store;
    r->probe_ms = probe_ms;
    r->silence_max_ms = silence_max_ms;
    mutex_init(&r->lock);
    cond_init(&r->stop);
    r->thread = thread_start("readiness", run, r);
    return r;
}

void readiness_free(struct readiness *r)
{
    if (!r) return;
    mutex_lock(&r->lock);
    r->stopping = true;
    cond_signal(&r->stop);
    mutex_unlock(&r->lock);
    thread_join(r->thread);
    cond_release(&r->stop);
    mutex_release(&r->lock);
    mem_free(r);
}

void readiness_drain(struct readiness *r)
{
    atomic_store(&r->draining, true);
}

bool readiness_ready(void *context, const char **why)
{
    struct readiness *r = context;
    int64_t answered_ms = atomic_load(&r->answered_ms);
    *why = NULL;
    if (atomic_load(&r->draining))
        *why = "the node is shutting down";
    else if (!answered_ms)
        *why = "the node is starting";
    else if (clock_ms() - answered_ms > r->silence_max_ms)
        *why = "the storage backend does not answer";
    return !*why;
}
