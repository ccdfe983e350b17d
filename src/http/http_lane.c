#include "http/http_lane.h"

#include <assert.h>

#include "base/mem.h"
#include "base/task.h"

struct lane {
    struct lane_options options;
    struct mutex lock; /* guards queue, closing */
    struct cond wake;  /* a job was queued, or the lane closes */
    struct http_queue queue;
    bool closing;
    struct thread **threads;
};

static void shed_all(const struct lane *l, struct queued *shed)
{
    while (shed) {
        struct queued *next = shed->next; /* the job may be gone afterwards */
        l->options.shed(shed);
        shed = next;
    }
}

/* Waits for a job or for something to shed; false when the lane closes. */
static bool take(struct lane *l, struct queued **job, struct queued **shed)
{
    mutex_lock(&l->lock);
    for (;;) {
        *shed = queue_shed(&l->queue, clock_ms());
        *job = queue_pop(&l->queue);
        if (*job || *shed || l->closing) break;
        (void)cond_wait(&l->wake, &l->lock, INT64_MAX);
    }
    mutex_unlock(&l->lock);
    return *job || *shed;
}

static void work(void *arg)
{
    struct lane *l = arg;
    struct queued *job, *shed;
    if (l->options.short_turns) thread_take_short_turns();
    thread_be_nice(l->options.nice);
    while (take(l, &job, &shed)) {
        shed_all(l, shed);
        if (job) l->options.run(job);
    }
}

struct lane *lane_new(const struct lane_options *options)
{
    assert(options->threads > 0);
    assert(options->queue_max > 0);
    assert(options->delay_max_ms > 0);
    struct lane *l = mem_new(struct lane);
    l->options = *options;
    mutex_init(&l->lock);
    cond_init(&l->wake);
    queue_init(&l->queue, options->queue_max, options->delay_max_ms);
    l->threads = mem_new_array(struct thread *, options->threads);
    for (size_t i = 0; i < options->threads; i++)
        l->threads[i] = thread_start(options->name, work, l);
    return l;
}

bool lane_submit(struct lane *l, struct queued *job)
{
    int64_t now_ms = clock_ms();
    mutex_lock(&l->lock);
    assert(!l->closing);
    struct queued *shed = queue_shed(&l->queue, now_ms);
    bool room = queue_push(&l->queue, job, now_ms);
    mutex_unlock(&l->lock);
    /* Signalled without the lock, or the worker would wake up to wait for it. */
    if (room) cond_signal(&l->wake);
    shed_all(l, shed);
    return room;
}

void lane_free(struct lane *l)
{
    if (!l) return;
    mutex_lock(&l->lock);
    l->closing = true;
    cond_broadcast(&l->wake);
    mutex_unlock(&l->lock);

    for (size_t i = 0; i < l->options.threads; i++)
        thread_join(l->threads[i]);
    cond_release(&l->wake);
    mutex_release(&l->lock);
    mem_free(l->threads);
    mem_free(l);
}
