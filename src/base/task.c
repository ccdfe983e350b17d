#include "base/task.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

static const struct task_hooks *hooks;

struct thread {
    pthread_t id;
    void (*run)(void *);
    void *arg;
    char name[16];
};

void task_install(const struct task_hooks *new_hooks)
{
    hooks = new_hooks;
}

int64_t clock_us(void)
{
    if (hooks) return hooks->clock_us();
    struct timespec now;
    int failed = clock_gettime(CLOCK_BOOTTIME, &now);
    assert(!failed);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_thread_us(void)
{
    struct timespec t;
    if (hooks) return hooks->clock_us();
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_ms(void)
{
    return clock_us() / 1000;
}

int64_t clock_wall_ms(void)
{
    if (hooks) return hooks->clock_wall_ms();
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    assert(!failed);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void task_sleep_ms(int64_t ms)
{
    if (hooks) {
        hooks->sleep_ms(ms);
        return;
    }
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        ;
}

void mutex_init(struct mutex *m)
{
    int failed = pthread_mutex_init(&m->lock, NULL);
    assert(!failed);
    m->sim = NULL;
}

void mutex_release(struct mutex *m)
{
    int failed = pthread_mutex_destroy(&m->lock);
    assert(!failed);
}

void mutex_lock(struct mutex *m)
{
    if (hooks) {
        hooks->mutex_lock(m);
        return;
    }
    int failed = pthread_mutex_lock(&m->lock);
    assert(!failed);
}

void mutex_unlock(struct mutex *m)
{
    if (hooks) {
        hooks->mutex_unlock(m);
        return;
    }
    int failed = pthread_mutex_unlock(&m->lock);
    assert(!failed);
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    int failed = pthread_condattr_init(&attr);
    /* pthread_cond_timedwait knows only these two clocks; the monotonic one stands
     * still while the machine sleeps, which only makes a wait longer. */
    failed |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    failed |= pthread_cond_init(&c->cond, &attr);
    failed |= pthread_condattr_destroy(&attr);
    assert(!failed);
    c->sim = NULL;
}

void cond_release(struct cond *c)
{
    int failed = pthread_cond_destroy(&c->cond);
    assert(!failed);
}

bool cond_wait(struct cond *c, struct mutex *m, int64_t deadline_ms)
{
    if (hooks) return hooks->cond_wait(c, m, deadline_ms);
    if (deadline_ms == INT64_MAX) {
        int failed = pthread_cond_wait(&c->cond, &m->lock);
        assert(!failed);
        return true;
    }

    int64_t left_ms = deadline_ms - clock_ms();
    if (left_ms <= 0) return false;
    struct timespec until;
    int failed = clock_gettime(CLOCK_MONOTONIC, &until);
    assert(!failed);
    int64_t ns = until.tv_nsec + left_ms % 1000 * 1000000;
    until.tv_sec += left_ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    failed = pthread_cond_timedwait(&c->cond, &m->lock, &until);
    assert(failed == 0 || failed == ETIMEDOUT);
    return failed == 0;
}

void cond_signal(struct cond *c)
{
    if (hooks)
        hooks->cond_signal(c);
    else
        (void)pthread_cond_signal(&c->cond);
}

void cond_broadcast(struct cond *c)
{
    if (hooks)
        hooks->cond_broadcast(c);
    else
        (void)pthread_cond_broadcast(&c->cond);
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    (void)pthread_setname_np(pthread_self(), t->name);
    t->run(t->arg);
    return NULL;
}

struct thread *thread_start(const char *name, void (*run)(void *), void *arg)
{
    if (hooks) return hooks->thread_start(name, run, arg);
    struct thread *t = mem_new(struct thread);
    t->run = run;
    t->arg = arg;
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    int failed = pthread_create(&t->id, NULL, thread_main, t);
    if (failed) {
        (void)fprintf(stderr, "cannot start thread %s: error %d\n", name, failed);
        abort();
    }
    return t;
}

void thread_join(struct thread *t)
{
    if (hooks) {
        hooks->thread_join(t);
        return;
    }
    int failed = pthread_join(t->id, NULL);
    assert(!failed);
    mem_free(t);
}

void thread_be_nice(int nice)
{
    if (hooks) return;
    /* On Linux a thread has a niceness of its own. Refused: then it stays as it is. */
    id_t self = (id_t)syscall(SYS_gettid);
    (void)setpriority(PRIO_PROCESS, self, getpriority(PRIO_PROCESS, self) + nice);
}

void thread_yield(void)
{
    if (!hooks)
        (void)sched_yield();
    else if (hooks->thread_yield)
        hooks->thread_yield();
}

/* What sched_setattr(2) takes, in its first version. */
struct sched_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void thread_take_short_turns(void)
{
    enum { TURN_NS = 100000 }; /* the least that Linux knows */
    struct sched_attributes attr = {.size = sizeof attr};
    if (hooks) return;
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0)) return;
    attr.runtime_ns = TURN_NS;
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

void thread_yield_to_others(int nice)
{
    if (hooks) return;
    thread_be_nice(nice);
    (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    /* thread_yield gives away what is left of a turn, counted by the niceness. */
    thread_take_short_turns();
}

void random_bytes(void *out, size_t size)
{
    if (hooks) {
        hooks->random_bytes(out, size);
        return;
    }
    unsigned char *p = out;
    while (size) {
        ssize_t n = getrandom(p, size, 0);
        if (n < 0 && errno == EINTR) continue;
        assert(n > 0);
        p += n;
        size -= (size_t)n;
    }
}

uint64_t random_u64(void)
{
    uint64_t x;
    random_bytes(&x, sizeof x);
    return x;
}

uint64_t random_below(uint64_t below)
{
    assert(below > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % below;
    uint64_t x;
    do
        x = random_u64();
    while (x >= limit);
    return x % below;
}
