/*
 * sim.h - runs threaded code on one thread, in virtual time, the same way for a seed.
 *
 * Every thread that is started through base/task.h becomes a fiber. Locking, waiting,
 * sleeping and sim_yield are the points where another fiber may go on; which one is
 * drawn from the seed. Time stands still while anybody can run (but for a microsecond a
 * step) and jumps to the next timer when nobody can. Random bytes come from the seed.
 *
 * A fiber belongs to a process. A killed process never runs again, at whatever point
 * its fibers stand; a paused one not for a while. What a killed process held in memory
 * stays allocated until the real process ends, as nobody is left to free it.
 *
 * Threads  one simulation at a time, in one real thread.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

struct thread;

enum sim_end {
    SIM_FINISHED,   /* the scenario returned */
    SIM_DEADLOCKED, /* nobody could ever run again */
    SIM_TOO_LONG    /* steps_max passed */
};

struct sim_options {
    uint64_t seed;
    uint64_t steps_max;  /* 0: no limit */
    unsigned stickiness; /* chance in 256 that a fiber that can go on does */
    bool verbose;        /* print what sim_note says */
};

struct sim_result {
    enum sim_end end;
    uint64_t trace_hash; /* of every choice, its time, and every note */
    uint64_t steps;
    int64_t virtual_ms;
    char words[2048]; /* after a deadlock: who waits for what */
};

/* Runs scenario in process 0 until it returns, then drops all other fibers. */
void sim_run(const struct sim_options *options, void (*scenario)(void *), void *arg,
             struct sim_result *result);

/* ---- from inside a fiber ---- */

unsigned sim_process_new(void);
unsigned sim_process(void); /* of the caller */
/* As thread_start, in another process. A join returns also when it was killed. */
struct thread *sim_spawn(unsigned process, const char *name, void (*run)(void *),
                         void *arg);
/* Does not return when it is the caller's own process. */
void sim_kill(unsigned process);
bool sim_alive(unsigned process);
/* No fiber of it runs for ms; a caller of that process goes on after that. */
void sim_pause(unsigned process, int64_t ms);

void sim_yield(void);
/* Between hold and unhold no other fiber runs, and nothing may block. */
void sim_hold(void);
void sim_unhold(void);

/* Sets the calendar of all processes forward, or back: clock_wall_ms, not clock_ms. */
void sim_set_calendar(int64_t ms);

/* Calls run(arg) once after us of virtual time, in no fiber: it must not block. */
void sim_after(int64_t us, void (*run)(void *), void *arg);

/* Uniform in [0, below), from the seed, apart from the stream of random_bytes. */
uint64_t sim_random(uint64_t below);
/* True once in n times on average; never when n is 0. */
bool sim_chance(uint64_t n);

/* Goes into the trace hash, and is printed with time and fiber if verbose. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
