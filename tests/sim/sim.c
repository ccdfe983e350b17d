#include "sim/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/task.h"
#include "sim/fiber_switch.h"

enum {
    STACK_SIZE = 1 << 20, /* touched pages only are real */
    GUARD_SIZE = 1 << 16,
    SPURIOUS_WAKES = 256, /* a condition wakes for nothing once in so many steps */
    WALL_START_MS = 1700000000
};
#define NEVER INT64_MAX

enum state { READY, SLEEPING, LOCKING, WAITING, JOINING, ENDED, KILLED };

struct fiber {
    ucontext_t context;
    struct fiber_switch sanitizer;
    uint8_t *stack; /* NULL once given back */
    char name[24];
    unsigned number, process;
    void (*run)(void *);
    void *arg;

    enum state state;
    struct mutex *mutex;  /* LOCKING, WAITING */
    struct cond *cond;    /* WAITING */
    struct fiber *joined; /* JOINING */
    int64_t wake_us;      /* SLEEPING, WAITING; NEVER: only others can wake it */
    bool timed_out;
};

struct process {
    bool killed;
    int64_t paused_until_us;
};

struct timer {
    int64_t at_us;
    uint64_t number; /* equal times run in the order they were asked for */
    void (*run)(void *);
    void *arg;
};

static struct simulation {
    struct sim_options options;
    struct sim_result *result;
    ucontext_t outside;
    struct fiber_switch outside_sanitizer;
    struct fiber **fibers;
    unsigned fiber_count;
    struct fiber **runnable; /* room for fiber_count */
    struct process *processes;
    unsigned process_count;
    struct timer *timers; /* a heap, the next one first */
    size_t timer_count, timer_room;
    uint64_t timers_made;
    uint8_t **stacks; /* given back */
    unsigned stack_count;
    struct fiber *current; /* NULL outside and in a timer */
    struct fiber *scenario;
    unsigned held;
    int64_t now_us;
    int64_t calendar_ms;     /* was set forward by so much */
    uint64_t choices, bytes; /* states of the two random streams */
    bool active;
} sim;

/* ---- chance and trace ---- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The bias of the remainder is below 2^-32 for any number of fibers or faults. */
uint64_t sim_random(uint64_t below)
{
    assert(below > 0);
    return next_random(&sim.choices) % below;
}

bool sim_chance(uint64_t n)
{
    return n && sim_random(n) == 0;
}

static void trace(uint64_t x)
{
    uint64_t *hash = &sim.result->trace_hash;
    *hash = (*hash ^ x) * 0x9e3779b97f4a7c15u;
    *hash ^= *hash >> 29;
}

void sim_note(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    trace(xxh3_64(text, strlen(text)));
    if (sim.options.verbose)
        (void)fprintf(stderr, "%12.6f  p%-2u %-14s %s\n", (double)sim.now_us * 1e-6,
                      sim.current ? sim.current->process : 0,
                      sim.current ? sim.current->name : "-", text);
}

/* ---- timers ---- */

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

void sim_after(int64_t us, void (*run)(void *), void *arg)
{
    if (sim.timer_count == sim.timer_room) {
        sim.timer_room = sim.timer_room ? 2 * sim.timer_room : 64;
        sim.timers = mem_realloc(sim.timers, sim.timer_room * sizeof *sim.timers);
    }
    struct timer timer = {sim.now_us + us, sim.timers_made++, run, arg};
    size_t i = sim.timer_count++;
    for (; i && earlier(&timer, &sim.timers[(i - 1) / 2]); i = (i - 1) / 2)
        sim.timers[i] = sim.timers[(i - 1) / 2];
    sim.timers[i] = timer;
}

static struct timer pop_timer(void)
{
    struct timer first = sim.timers[0], last = sim.timers[--sim.timer_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < sim.timer_count) {
        if (child + 1 < sim.timer_count &&
            earlier(&sim.timers[child + 1], &sim.timers[child]))
            child++;
        if (!earlier(&sim.timers[child], &last)) break;
        sim.timers[i] = sim.timers[child];
        i = child;
    }
    sim.timers[i] = last;
    return first;
}

static void run_due_timers(void)
{
    struct fiber *caller = sim.current;
    sim.current = NULL;
    while (sim.timer_count && sim.timers[0].at_us <= sim.now_us) {
        struct timer timer = pop_timer();
        trace(timer.number);
        timer.run(timer.arg);
    }
    sim.current = caller;
}

/* ---- choosing who runs ---- */

static bool over(const struct fiber *f)
{
    return f->state == ENDED || f->state == KILLED;
}

/* Could f run if its process were not paused? */
static bool able(const struct fiber *f)
{
    switch (f->state) {
    case READY: return true;
    case SLEEPING: return f->wake_us <= sim.now_us;
    case LOCKING: return !f->mutex->sim;
    case JOINING: return over(f->joined);
    case WAITING:
    case ENDED:
    case KILLED: break;
    }
    return false;
}

static void wake(struct fiber *f, bool timed_out)
{
    f->state = LOCKING;
    f->cond = NULL;
    f->timed_out = timed_out;
}

static unsigned collect_runnable(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sim.fiber_count; i++) {
        struct fiber *f = sim.fibers[i];
        if (f->state == WAITING && f->wake_us <= sim.now_us) wake(f, true);
        if (sim.processes[f->process].paused_until_us <= sim.now_us && able(f))
            sim.runnable[n++] = f;
    }
    return n;
}

static int64_t min_us(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_event_us(void)
{
    int64_t next_us = sim.timer_count ? sim.timers[0].at_us : NEVER;
    for (unsigned i = 0; i < sim.fiber_count; i++) {
        const struct fiber *f = sim.fibers[i];
        int64_t paused_us = sim.processes[f->process].paused_until_us;
        if (able(f))
            next_us = min_us(next_us, paused_us);
        else if (f->state == SLEEPING || f->state == WAITING)
            next_us = min_us(next_us, f->wake_us);
    }
    return next_us;
}

static void wake_somebody_for_nothing(void)
{
    if (!sim_chance(SPURIOUS_WAKES)) return;
    struct fiber *f = sim.fibers[sim_random(sim.fiber_count)];
    if (f->state == WAITING) wake(f, false);
}

static bool among(const struct fiber *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (sim.runnable[i] == f) return true;
    return false;
}

/* NULL: nobody can ever run again. */
static struct fiber *choose(void)
{
    wake_somebody_for_nothing();
    for (;;) {
        run_due_timers();
        unsigned n = collect_runnable();
        if (n) {
            bool stay =
                sim_random(256) < sim.options.stickiness && among(sim.current, n);
            return stay ? sim.current : sim.runnable[sim_random(n)];
        }
        int64_t next_us = next_event_us();
        if (next_us == NEVER) return NULL;
        sim.now_us = next_us;
    }
}

/* ---- stopping ---- */

static const char *fiber_name(const struct fiber *f)
{
    return f ? f->name : "somebody outside";
}

static void describe(const struct fiber *f, char *text, size_t size)
{
    if (f->state == LOCKING)
        (void)snprintf(text, size, "wants a lock that %s holds",
                       fiber_name(f->mutex->sim));
    else if (f->state == JOINING)
        (void)snprintf(text, size, "joins %s", f->joined->name);
    else
        (void)snprintf(text, size, "waits for a condition");
}

static void describe_deadlock(void)
{
    char text[128];
    char *words = sim.result->words;
    size_t used = 0, room = sizeof sim.result->words;

    for (unsigned i = 0; i < sim.fiber_count && used < room; i++) {
        const struct fiber *f = sim.fibers[i];
        if (over(f)) continue;
        describe(f, text, sizeof text);
        used += (size_t)snprintf(words + used, room - used, "%s (process %u) %s\n",
                                 f->name, f->process, text);
    }
    (void)fprintf(stderr, "deadlock:\n%s", words);
}

static void switch_to(struct fiber *from, struct fiber *to)
{
    sim.current = to;
    fiber_switch_leave(from ? &from->sanitizer : &sim.outside_sanitizer,
                       to ? &to->sanitizer : &sim.outside_sanitizer,
                       from && over(from));
    int failed = swapcontext(from ? &from->context : &sim.outside,
                             to ? &to->context : &sim.outside);
    assert(!failed);
    fiber_switch_enter(from ? &from->sanitizer : &sim.outside_sanitizer);
}

/* Lets the seed decide who goes on. Comes back when it is the caller's turn again. */
static void reschedule(void)
{
    struct fiber *from = sim.current, *to = NULL;

    assert(!sim.held);
    sim.now_us++;
    sim.result->steps++;
    if (sim.options.steps_max && sim.result->steps > sim.options.steps_max) {
        sim.result->end = SIM_TOO_LONG;
    } else if (!over(sim.scenario)) {
        to = choose();
        if (!to) {
            sim.result->end = SIM_DEADLOCKED;
            describe_deadlock();
        }
    }
    trace(to ? to->number : UINT64_MAX);
    trace((uint64_t)sim.now_us);
    if (to != from) switch_to(from, to);
}

void sim_yield(void)
{
    if (!sim.current || sim.held) return;
    sim.current->state = READY;
    reschedule();
    sim.current->state = READY;
}

void sim_hold(void)
{
    sim.held++;
}

void sim_unhold(void)
{
    assert(sim.held);
    sim.held--;
}

static void block(enum state state)
{
    sim.current->state = state;
    reschedule();
    sim.current->state = READY;
}

/* ---- fibers and processes ---- */

static uint8_t *take_stack(void)
{
    if (sim.stack_count) return sim.stacks[--sim.stack_count];
    void *stack = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(stack != MAP_FAILED);
    int failed = mprotect(stack, GUARD_SIZE, PROT_NONE);
    assert(!failed);
    return stack;
}

/* A fiber cannot give back the stack it stands on; the next one to start does it. */
static void reclaim_stacks(void)
{
    for (unsigned i = 0; i < sim.fiber_count; i++) {
        struct fiber *f = sim.fibers[i];
        if (!over(f) || !f->stack || f == sim.current) continue;
        fiber_switch_forget(&f->sanitizer);
        sim.stacks =
            mem_realloc(sim.stacks, (sim.stack_count + 1) * sizeof *sim.stacks);
        sim.stacks[sim.stack_count++] = f->stack;
        f->stack = NULL;
    }
}

static void fiber_main(void)
{
    struct fiber *self = sim.current;
    fiber_switch_enter(&self->sanitizer);
    self->run(self->arg);
    self->state = ENDED;
    reschedule();
    abort(); /* nobody switches to a fiber that ended */
}

static struct fiber *fiber_new(unsigned process, const char *name, void (*run)(void *),
                               void *arg)
{
    reclaim_stacks();
    struct fiber *f = mem_new(struct fiber);
    f->stack = take_stack();
    f->number = sim.fiber_count;
    f->process = process;
    f->run = run;
    f->arg = arg;
    (void)snprintf(f->name, sizeof f->name, "%s-%u", name, f->number);

    int failed = getcontext(&f->context);
    assert(!failed);
    f->context.uc_stack.ss_sp = f->stack + GUARD_SIZE;
    f->context.uc_stack.ss_size = STACK_SIZE;
    makecontext(&f->context, fiber_main, 0);
    fiber_switch_init(&f->sanitizer, f->stack + GUARD_SIZE, STACK_SIZE);

    size_t count = ++sim.fiber_count;
    sim.fibers = mem_realloc(sim.fibers, count * sizeof(struct fiber *));
    sim.runnable = mem_realloc(sim.runnable, count * sizeof(struct fiber *));
    sim.fibers[f->number] = f;
    return f;
}

unsigned sim_process_new(void)
{
    unsigned process = sim.process_count++;
    sim.processes =
        mem_realloc(sim.processes, sim.process_count * sizeof *sim.processes);
    sim.processes[process] = (struct process){false, 0};
    return process;
}

unsigned sim_process(void)
{
    return sim.current ? sim.current->process : 0;
}

struct thread *sim_spawn(unsigned process, const char *name, void (*run)(void *),
                         void *arg)
{
    assert(process < sim.process_count && !sim.processes[process].killed);
    return (struct thread *)fiber_new(process, name, run, arg);
}

void sim_kill(unsigned process)
{
    assert(process < sim.process_count && process != sim.scenario->process);
    sim_note("process %u is killed", process);
    sim.processes[process].killed = true;
    for (unsigned i = 0; i < sim.fiber_count; i++) {
        struct fiber *f = sim.fibers[i];
        if (f->process == process && !over(f)) f->state = KILLED;
    }
    if (sim_process() == process) reschedule();
}

bool sim_alive(unsigned process)
{
    return !sim.processes[process].killed;
}

void sim_pause(unsigned process, int64_t ms)
{
    assert(process < sim.process_count);
    sim_note("process %u pauses for %lld ms", process, (long long)ms);
    sim.processes[process].paused_until_us = sim.now_us + ms * 1000;
    if (sim_process() == process) sim_yield();
}

/* ---- what base/task.h asks for ---- */

static int64_t hook_clock_us(void)
{
    return sim.now_us;
}

static int64_t hook_clock_wall_ms(void)
{
    return (int64_t)WALL_START_MS * 1000 + sim.calendar_ms + sim.now_us / 1000;
}

void sim_set_calendar(int64_t ms)
{
    sim.calendar_ms += ms;
}

static void hook_sleep_ms(int64_t ms)
{
    assert(sim.current);
    sim.current->wake_us = sim.now_us + (ms > 0 ? ms : 0) * 1000;
    block(SLEEPING);
}

static void refuse_dead_owner(const struct mutex *m)
{
    const struct fiber *owner = m->sim;
    if (!owner || owner == (void *)&sim || owner->state != KILLED) return;
    (void)fprintf(stderr, "%s wants a lock that %s held when it was killed\n",
                  fiber_name(sim.current), owner->name);
    abort(); /* a lock of one process was shared with another */
}

/* Taken outside of any fiber a lock is marked with the simulation's own address. */
static void take_lock(struct mutex *m)
{
    refuse_dead_owner(m);
    if (!sim.current) {
        assert(!m->sim);
        m->sim = &sim;
        return;
    }
    if (m->sim) {
        sim.current->mutex = m;
        block(LOCKING);
    }
    assert(!m->sim);
    m->sim = sim.current;
}

static void hook_mutex_lock(struct mutex *m)
{
    sim_yield();
    take_lock(m);
}

static void drop_lock(struct mutex *m)
{
    assert(m->sim == (sim.current ? (void *)sim.current : (void *)&sim));
    m->sim = NULL;
}

static void hook_mutex_unlock(struct mutex *m)
{
    drop_lock(m);
    sim_yield();
}

static bool hook_cond_wait(struct cond *c, struct mutex *m, int64_t deadline_ms)
{
    struct fiber *self = sim.current;
    assert(self);
    self->mutex = m;
    self->cond = c;
    self->wake_us = deadline_ms >= NEVER / 1000 ? NEVER : deadline_ms * 1000;
    self->timed_out = false;
    drop_lock(m);
    block(WAITING);
    take_lock(m);
    return !self->timed_out;
}

static void hook_cond_signal(struct cond *c)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < sim.fiber_count; i++)
        waiting += sim.fibers[i]->state == WAITING && sim.fibers[i]->cond == c;
    if (!waiting) return;

    uint64_t chosen = sim_random(waiting);
    for (unsigned i = 0; i < sim.fiber_count; i++)
        if (sim.fibers[i]->state == WAITING && sim.fibers[i]->cond == c &&
            chosen-- == 0) {
            wake(sim.fibers[i], false);
            return;
        }
}

static void hook_cond_broadcast(struct cond *c)
{
    for (unsigned i = 0; i < sim.fiber_count; i++)
        if (sim.fibers[i]->state == WAITING && sim.fibers[i]->cond == c)
            wake(sim.fibers[i], false);
}

static struct thread *hook_thread_start(const char *name, void (*run)(void *),
                                        void *arg)
{
    struct fiber *f = fiber_new(sim_process(), name, run, arg);
    sim_yield();
    return (struct thread *)f;
}

static void hook_thread_join(struct thread *t)
{
    struct fiber *f = (struct fiber *)t;
    assert(sim.current && f != sim.current);
    sim.current->joined = f;
    if (!over(f)) block(JOINING);
}

static void hook_random_bytes(void *out, size_t size)
{
    uint8_t *p = out;
    while (size) {
        uint64_t x = next_random(&sim.bytes);
        size_t n = size < sizeof x ? size : sizeof x;
        memcpy(p, &x, n);
        p += n;
        size -= n;
    }
}

static const struct task_hooks hooks = {
    .clock_us = hook_clock_us,
    .clock_wall_ms = hook_clock_wall_ms,
    .sleep_ms = hook_sleep_ms,
    .mutex_lock = hook_mutex_lock,
    .mutex_unlock = hook_mutex_unlock,
    .cond_wait = hook_cond_wait,
    .cond_signal = hook_cond_signal,
    .cond_broadcast = hook_cond_broadcast,
    .thread_start = hook_thread_start,
    .thread_join = hook_thread_join,
    .random_bytes = hook_random_bytes,
};

/* ---- a run ---- */

static void release_everything(void)
{
    for (unsigned i = 0; i < sim.fiber_count; i++) {
        if (!over(sim.fibers[i])) sim.fibers[i]->state = KILLED;
    }
    reclaim_stacks();
    for (unsigned i = 0; i < sim.stack_count; i++)
        (void)munmap(sim.stacks[i], GUARD_SIZE + STACK_SIZE);
    for (unsigned i = 0; i < sim.fiber_count; i++)
        mem_free(sim.fibers[i]);
    mem_free(sim.stacks);
    mem_free(sim.fibers);
    mem_free(sim.runnable);
    mem_free(sim.processes);
    mem_free(sim.timers);
}

void sim_run(const struct sim_options *options, void (*scenario)(void *), void *arg,
             struct sim_result *result)
{
    assert(!sim.active);
    *result = (struct sim_result){.end = SIM_FINISHED};
    sim = (struct simulation){.options = *options,
                              .result = result,
                              .choices = options->seed,
                              .bytes = ~options->seed,
                              .active = true};
    fiber_switch_outside(&sim.outside_sanitizer);
    task_install(&hooks);
    sim.scenario = fiber_new(sim_process_new(), "scenario", scenario, arg);
    switch_to(NULL, sim.scenario);

    result->virtual_ms = sim.now_us / 1000;
    task_install(NULL);
    release_everything();
    sim.active = false;
}
