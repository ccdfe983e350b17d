/*
 * store_dir.h - objects as files below one root directory (PROTOCOL.md section 5).
 *
 * A create or put writes and fsyncs a temporary file below root/.tmp, links it to its
 * final name (EEXIST is the conflict) and fsyncs every directory it touched, so what is
 * visible is whole and what was answered is durable. A failed fsync poisons the store:
 * every later write is refused and on_poison is called once, from the failing thread;
 * the node then exits, since the kernel may have dropped the pages. ENOSPC and EDQUOT
 * are ERR_FULL and leave nothing behind; writes other than small ones (manifests,
 * fences) stay refused until 5 % of the file system is free; a 64 MiB ballast file
 * keeps room for those.
 *
 * One process per root: an exclusive lock on root/.lock. Opening proves link/EEXIST,
 * fsync of files and directories, case sensitivity and name length on this file system
 * and refuses one that fails (FAT, most FUSE and network file systems) unless
 * allow_unsafe_fs. Leftover temporaries of dead processes are swept.
 * Paths are resolved below root without following symbolic links.
 */
#ifndef STORE_STORE_DIR_H
#define STORE_STORE_DIR_H

#include <stdbool.h>

#include "store/store.h"

struct store_dir_options {
    const char *root; /* made if missing, with its parents */
    bool allow_unsafe_fs;
    bool shared;    /* tests only: take no lock, sweep nothing, keep no ballast */
    bool read_only; /* beside whoever holds the lock: make and write nothing */
    void (*on_poison)(void *context, const char *why); /* NULL: abort() */
    void *poison_context;
};

/* ERR_BUSY: another process holds the lock (its pid is named). ERR_DENIED, ERR_IO,
 * ERR_INVALID with the path and the reason. Writes to a store that was opened read_only
 * are ERR_DENIED. */
enum err store_dir_open(struct op *op, const struct store_dir_options *options,
                        struct store **out);

#endif
