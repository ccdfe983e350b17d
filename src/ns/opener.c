#include "ns/opener.h"

#include "base/mem.h"
#include "base/op.h"
#include "base/pool.h"
#include "base/task.h"

/* A store that is silent for so long will not answer this OPEN any more. */
enum { OPEN_TIMEOUT_MS = 600000 };

struct job {
    struct opener *opener;
    void (*run)(struct op *op, void *arg);
    void *arg;
    struct op op;
    struct job *next, **back; /* among those that run */
};

struct opener {
    struct pool *pool;
    struct mutex lock; /* guards running, canceled */
    struct job *running;
    bool canceled;
};

struct opener *opener_new(size_t threads, size_t queue_max)
{
    struct opener *o = mem_new(struct opener);
    mutex_init(&o->lock);
    o->pool = pool_new("opener", threads, queue_max);
    return o;
}

static void job_begin(struct opener *o, struct job *job)
{
    op_init(&job->op, clock_ms() + OPEN_TIMEOUT_MS, 0);
    mutex_lock(&o->lock);
    if (o->canceled) op_cancel(&job->op);
    job->next = o->running;
    job->back = &o->running;
    if (job->next) job->next->back = &job->next;
    o->running = job;
    mutex_unlock(&o->lock);
}

static void job_end(struct opener *o, struct job *job)
{
    mutex_lock(&o->lock);
    *job->back = job->next;
    if (job->next) job->next->back = job->back;
    mutex_unlock(&o->lock);
    op_release(&job->op);
    mem_free(job);
}

static void work(void *arg)
{
    struct job *job = arg;
    struct opener *o = job->opener;

    job_begin(o, job);
    job->run(&job->op, job->arg);
    job_end(o, job);
}

bool opener_submit(struct opener *o, void (*run)(struct op *op, void *arg), void *arg)
{
    struct job *job = mem_new(struct job);
    job->opener = o;
    job->run = run;
    job->arg = arg;
    if (pool_submit(o->pool, work, job)) return true;
    mem_free(job);
    return false;
}

void opener_cancel(struct opener *o)
{
    mutex_lock(&o->lock);
    o->canceled = true;
    for (struct job *job = o->running; job; job = job->next)
        op_cancel(&job->op);
    mutex_unlock(&o->lock);
}

void opener_free(struct opener *o)
{
    if (!o) return;
    pool_free(o->pool);
    mutex_release(&o->lock);
    mem_free(o);
}
