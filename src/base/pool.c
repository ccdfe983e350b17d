#include "base/pool.h"

#include <assert.h>

#include "base/mem.h"
#include "base/task.h"

struct job {
    void (*run)(void *);
    void *arg;
};

struct pool {
    struct mutex lock; /* guards first, queued, closing */
    struct cond wake;  /* a job was queued, or the pool closes */
    struct job *ring;
    size_t queue_max;
    size_t first;
    size_t queued;
    bool closing;
    struct thread **threads;
    size_t thread_count;
};

/* Waits for a job; false when the pool closes and none is left. */
static bool take(struct pool *p, struct job *job)
{
    mutex_lock(&p->lock);
    while (p->queued == 0 && !p->closing)
        (void)cond_wait(&p->wake, &p->lock, INT64_MAX);
    bool taken = p->queued > 0;
    if (taken) {
        *job = p->ring[p->first];
        p->first = (p->first + 1) % p->queue_max;
        p->queued--;
    }
    mutex_unlock(&p->lock);
    return taken;
}

static void work(void *arg)
{
    struct pool *p = arg;
    struct job job;
    while (take(p, &job))
        job.run(job.arg);
}

struct pool *pool_new(const char *name, size_t threads, size_t queue_max)
{
    assert(threads > 0);
    assert(queue_max > 0);
    struct pool *p = mem_new(struct pool);
    mutex_init(&p->lock);
    cond_init(&p->wake);
    p->ring = mem_new_array(struct job, queue_max);
    p->queue_max = queue_max;
    p->threads = mem_new_array(struct thread *, threads);
    p->thread_count = threads;
    for (size_t i = 0; i < threads; i++)
        p->threads[i] = thread_start(name, work, p);
    return p;
}

bool pool_submit(struct pool *p, void (*run)(void *), void *arg)
{
    mutex_lock(&p->lock);
    assert(!p->closing);
    bool room = p->queued < p->queue_max;
    if (room) {
        p->ring[(p->first + p->queued) % p->queue_max] = (struct job){run, arg};
        p->queued++;
        cond_signal(&p->wake);
    }
    mutex_unlock(&p->lock);
    return room;
}

void pool_free(struct pool *p)
{
    if (!p) return;
    mutex_lock(&p->lock);
    p->closing = true;
    cond_broadcast(&p->wake);
    mutex_unlock(&p->lock);

    for (size_t i = 0; i < p->thread_count; i++)
        thread_join(p->threads[i]);
    cond_release(&p->wake);
    mutex_release(&p->lock);
    mem_free(p->threads);
    mem_free(p->ring);
    mem_free(p);
}
