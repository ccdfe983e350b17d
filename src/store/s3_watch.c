#include "store/s3_watch.h"

#include <stdbool.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store_s3.h"

enum { PROBE_MS = 60000 }; /* for its reads */

struct s3_watch {
    struct store *store;
    void (*broken)(void *context, const char *why);
    void *context;
    struct thread *thread;
    struct mutex lock; /* guards stopping */
    struct cond changed;
    bool stopping;
};

/* True when the time has passed, false when it is over. */
static bool wait_ms(struct s3_watch *w, int64_t ms)
{
    int64_t until_ms = clock_ms() + ms;
    mutex_lock(&w->lock);
    while (!w->stopping && clock_ms() < until_ms)
        (void)cond_wait(&w->changed, &w->lock, until_ms);
    bool stopping = w->stopping;
    mutex_unlock(&w->lock);
    return !stopping;
}

static void watch(void *arg)
{
    struct s3_watch *w = arg;
    enum err e = ERR_OK;
    while (e != ERR_DENIED && wait_ms(w, e ? S3_WATCH_RETRY_MS : S3_WATCH_MS)) {
        struct op op;
        op_init(&op, clock_ms() + PROBE_MS, 0);
        e = store_s3_probe_again(&op, w->store);
        if (e == ERR_DENIED)
            w->broken(w->context, op.error);
        else if (e)
            log_warn(&op, "the store could not be probed again", "error=%s", op.error);
        op_release(&op);
    }
}

struct s3_watch *s3_watch_start(struct store *store,
                                void (*broken)(void *context, const char *why),
                                void *context)
{
    struct s3_watch *w = mem_new(struct s3_watch);
    w->store = store;
    w->broken = broken;
    w->context = context;
    mutex_init(&w->lock);
    cond_init(&w->changed);
    w->thread = thread_start("s3 watch", watch, w);
    return w;
}

void s3_watch_stop(struct s3_watch *w)
{
    if (!w) return;
    mutex_lock(&w->lock);
    w->stopping = true;
    cond_signal(&w->changed);
    mutex_unlock(&w->lock);
    thread_join(w->thread);
    cond_release(&w->changed);
    mutex_release(&w->lock);
    mem_free(w);
}
