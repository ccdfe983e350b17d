/*
 * failing.h - system calls and allocations of this process that fail when told to.
 *
 * The functions of libc that the engine reaches files and memory by are defined here
 * and pass on to the real ones, but for the n-th call of one kind: it fails, or that
 * and all later ones do. Whatever the process is linked with is counted too.
 *
 * Set up before threads start; counted from failing_arm to failing_disarm.
 */
#ifndef TESTS_IOERR_FAILING_H
#define TESTS_IOERR_FAILING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum failing_call {
    FAILING_OPEN, /* open, openat, openat2 */
    FAILING_READ, /* read, pread */
    FAILING_WRITE,
    FAILING_FSYNC,
    FAILING_LINK,
    FAILING_UNLINK,
    FAILING_MKDIR,
    FAILING_STAT,  /* fstat, fstatat, fstatvfs */
    FAILING_SPACE, /* ftruncate, fallocate */
    FAILING_MMAP,
    FAILING_LIST,   /* fdopendir, readdir */
    FAILING_THREAD, /* pthread_create */
    FAILING_MEMORY, /* malloc and what is like it */
    FAILING_CALLS
};

extern const char *const failing_names[FAILING_CALLS];

struct failing_plan {
    enum failing_call call;
    uint64_t n;    /* from 1; 0: none fails */
    bool for_ever; /* and all behind it */
    int error;     /* errno; 0: the transfer is cut to one byte (read, write) */
};

/* Once, before any process is forked: the counts are shared with children. */
bool failing_start(void);
/* False where a sanitizer has the function to itself. */
bool failing_can(enum failing_call call);

void failing_arm(const struct failing_plan *plan);
/* Nothing fails any more. */
void failing_disarm(void);
/* How many calls of the plan's kind there were, and how many of them failed. */
uint64_t failing_seen(void);
uint64_t failing_hits(void);
/* Of FAILING_MEMORY: the file name of the library that was refused memory last; "" if
 * it was the program itself. */
const char *failing_library(void);

#endif
