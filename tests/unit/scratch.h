/*
 * scratch.h - a folder for one test, gone with all its contents afterwards.
 */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/folder.h"
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

/* Whether a test's files leave a twentieth of the file system to others, or `most`. */
static inline bool file_system_is_roomy(const char *path, uint64_t most)
{
    const uint64_t ours = 64 << 20;
    struct statvfs fs;
    assert_int_equal(statvfs(path, &fs), 0);
    uint64_t left = (uint64_t)fs.f_blocks * fs.f_frsize / 20;
    if (left > most) left = most;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= left + ours;
}

/* For a disk cache, which leaves 16 GiB at most. */
static inline void scratch_make_roomy(struct scratch *s)
{
    scratch_make(s);
    if (file_system_is_roomy(s->path, (uint64_t)16 << 30)) return;
    (void)rmdir(s->path);
    SKIP("the file system is too full for a disk cache (TMPDIR names another folder)");
}

static inline void scratch_remove(struct scratch *s)
{
    folder_remove(s->path);
}

#endif
