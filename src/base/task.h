/*
 * task.h - threads, locks, time and chance, behind one wall.
 *
 * Everything above base/ uses these instead of pthreads and clocks, so that the
 * simulator (tests/sim) can run a whole cluster on one thread, with virtual time and a
 * seed. Nothing installed: plain pthreads, CLOCK_BOOTTIME, getrandom.
 *
 * Time is in milliseconds unless a name says otherwise; clock_ms never goes back and
 * counts while the machine sleeps. clock_wall_ms is the calendar's and may jump.
 */
#ifndef BASE_TASK_H
#define BASE_TASK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mutex {
    pthread_mutex_t lock;
    void *sim; /* the simulator's own state */
};

struct cond {
    pthread_cond_t cond;
    void *sim;
};

struct thread;

int64_t clock_ms(void);
int64_t clock_us(void);
/* Processor time of the calling thread; the simulator has only clock_us. */
int64_t clock_thread_us(void);
int64_t clock_wall_ms(void);
void task_sleep_ms(int64_t ms);

void mutex_init(struct mutex *m);
void mutex_release(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

void cond_init(struct cond *c);
void cond_release(struct cond *c);
/* Waits until signalled (or woken for nothing), at most until deadline_ms of clock_ms
 * (INT64_MAX: for ever). False when the deadline passed. */
bool cond_wait(struct cond *c, struct mutex *m, int64_t deadline_ms);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* Starts a thread; name (at most 15 bytes) shows in ps and gdb. Join it, once. */
struct thread *thread_start(const char *name, void (*run)(void *), void *arg);
void thread_join(struct thread *t);
/* The calling thread gets less of the processor than others that want it: nice, 0 to
 * 19, as of nice(2). It stays so. */
void thread_be_nice(int nice);
/* The same, for short turns and never as soon as it wakes up: for work that nobody
 * waits for. */
void thread_yield_to_others(int nice);
/* The calling thread works for somebody who waits: it has the processor for short
 * turns, but soon, even where a thread of low priority has just begun one. Its share
 * stays the same. Linux from 6.12 on; elsewhere turns are what they are. */
void thread_take_short_turns(void);
/* Lets threads that wait for this processor have it first. Kernels that do not preempt
 * would have them wait for a tick or two, up to eight milliseconds. */
void thread_yield(void);

/* Bytes nobody can guess: ids, put-ids, jitter. Under the simulator: from its seed. */
void random_bytes(void *out, size_t size);
uint64_t random_u64(void);
/* Uniform in [0, below); below > 0. */
uint64_t random_below(uint64_t below);

/*
 * The simulator's replacements; NULL puts the real ones back. Set before anything
 * else runs and never while threads exist.
 */
struct task_hooks {
    int64_t (*clock_us)(void);
    int64_t (*clock_wall_ms)(void);
    void (*thread_yield)(void); /* NULL: no matter */
    void (*sleep_ms)(int64_t ms);
    void (*mutex_lock)(struct mutex *m);
    void (*mutex_unlock)(struct mutex *m);
    bool (*cond_wait)(struct cond *c, struct mutex *m, int64_t deadline_ms);
    void (*cond_signal)(struct cond *c);
    void (*cond_broadcast)(struct cond *c);
    struct thread *(*thread_start)(const char *name, void (*run)(void *), void *arg);
    void (*thread_join)(struct thread *t);
    void (*random_bytes)(void *out, size_t size);
};
void task_install(const struct task_hooks *hooks);

#endif
