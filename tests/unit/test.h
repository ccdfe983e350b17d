/*
 * test.h - what every unit test includes: cmocka, a seed, small helpers.
 *
 * A test file is one binary with one group; its tests are named as sentences. Random
 * tests take their seed from test_seed(), which prints it; ELACSYM_SEED=n repeats a
 * run.
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Sizes of what takes minutes under the sanitizers and valgrind (make valgrind defines
 * UNDER_VALGRIND): they look for what a part of the work shows too. The release flavour
 * does all of it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                   \
    defined(UNDER_VALGRIND)
#define BY_FLAVOUR(release, small) (small)
#else
#define BY_FLAVOUR(release, small) (release)
#endif

/* Of what is quick under the sanitizers, and takes minutes under valgrind. */
#ifdef UNDER_VALGRIND
#define BY_VALGRIND(others, small) (small)
#else
#define BY_VALGRIND(others, small) (others)
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Ends a test that cannot be made here; tools/run_tests.py repeats why. */
#define SKIP(why)                                                                      \
    do {                                                                               \
        print_message("NOT RUN: %s: %s\n", __func__, why);                             \
        skip();                                                                        \
    } while (0)

static inline uint64_t test_seed(void)
{
    const char *given = getenv("ELACSYM_SEED");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given ? strtoull(given, NULL, 10)
                          : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    print_message("seed %llu (ELACSYM_SEED=%llu repeats)\n", (unsigned long long)seed,
                  (unsigned long long)seed);
    return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014): one state word, good enough for tests. */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
