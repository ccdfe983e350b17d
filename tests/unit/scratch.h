/*
 * scratch.h - a folder for one test, gone with all its contents afterwards.
 */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
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

/* For a disk cache, which leaves a twentieth of the file system to others, and 16 GiB
 * at most. */
static inline void scratch_make_roomy(struct scratch *s)
{
    const uint64_t most = (uint64_t)16 << 30, ours = 64 << 20;
    struct statvfs fs;
    scratch_make(s);
    assert_int_equal(statvfs(s->path, &fs), 0);
    uint64_t left = (uint64_t)fs.f_blocks * fs.f_frsize / 20;
    if (left > most) left = most;
    if ((uint64_t)fs.f_bavail * fs.f_frsize >= left + ours) return;
    (void)rmdir(s->path);
    SKIP("the file system is too full for a disk cache (TMPDIR names another folder)");
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
