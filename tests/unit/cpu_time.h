/*
 * cpu_time.h - what this process took of the processors: other work on the machine
 * counts less than by the clock.
 */
#ifndef TESTS_UNIT_CPU_TIME_H
#define TESTS_UNIT_CPU_TIME_H

#include <time.h>

static inline double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
