/*
 * sweep.h - what programs that do something in every place have in common: options, the
 * seed that repeats a run, and the last line.
 */
#ifndef TESTS_ENGINE_SWEEP_H
#define TESTS_ENGINE_SWEEP_H

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/op.h"
#include "base/simd.h"

struct sweep_options {
    uint64_t stride; /* one place of so many */
    uint64_t seed;
    const char *only; /* this kind of places; NULL: all */
    const char *one;  /* this case alone */
    bool memory, verbose;
};

/* known: of --stride t, --seed s, --only o, --case c, --memory m, --verbose v those
 * that the program has. Exits with 2 where it cannot go on. */
static inline struct sweep_options sweep_begin(int argc, char **argv,
                                               const struct option *known)
{
    struct sweep_options o = {.stride = 1, .seed = (uint64_t)time(NULL)};
    struct op op;
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 't': o.stride = strtoull(optarg, NULL, 10); break;
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'o': o.only = optarg; break;
        case 'c': o.one = optarg; break;
        case 'm': o.memory = true; break;
        case 'v': o.verbose = true; break;
        default: exit(2);
        }
    }
    if (o.stride == 0) o.stride = 1;
    (void)printf("seed %" PRIu64 " (--seed %" PRIu64 " repeats)\n", o.seed, o.seed);
    op_init(&op, OP_NO_DEADLINE, 0);
    if (simd_init(&op)) {
        (void)printf("%s\n", op.error);
        exit(2);
    }
    op_release(&op);
    return o;
}

/* Prints the last line; the program's status. */
static inline int sweep_end(unsigned failures)
{
    (void)printf("%u passed, %u failed\n", failures ? 0 : 1, failures);
    return failures ? 1 : 0;
}

#endif
