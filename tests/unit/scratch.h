/*
 * scratch.h - a folder for one test, gone with all its contents afterwards.
 */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/test.h"

struct scratch {
    char path[256];
};

static inline void scratch_make(struct scratch *s)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(s->path, sizeof s->path, "%s/elacsym-test-XXXXXX",
                   base ? base : "/tmp");
    assert_non_null(mkdtemp(s->path));
}

static inline int scratch_remove_one(const char *path, const struct stat *about,
                                     int kind, struct FTW *place)
{
    (void)about;
    (void)kind;
    (void)place;
    return remove(path);
}

static inline void scratch_remove(struct scratch *s)
{
    (void)nftw(s->path, scratch_remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

#endif
