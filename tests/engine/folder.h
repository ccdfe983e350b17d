/*
 * folder.h - a folder that was made for one run, and goes with all that is in it.
 */
#ifndef TESTS_ENGINE_FOLDER_H
#define TESTS_ENGINE_FOLDER_H

#include <ftw.h>
#include <stdio.h>

static inline int folder_remove_one(const char *path, const struct stat *about,
                                    int kind, struct FTW *place)
{
    (void)about;
    (void)kind;
    (void)place;
    return remove(path);
}

/* Follows no link; what cannot be removed stays. */
static inline void folder_remove(const char *path)
{
    enum { DESCRIPTORS = 32 };
    (void)nftw(path, folder_remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

#endif
