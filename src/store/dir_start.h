/*
 * dir_start.h - private to store_dir: what must hold before a folder is used as a
 * store.
 *
 * All functions put words into op on failure: the path and the reason.
 */
#ifndef STORE_DIR_START_H
#define STORE_DIR_START_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct op;

/* Makes root and its parents durably, and opens it. */
enum err dir_make_root(struct op *op, const char *root, int *fd);

/* Takes the exclusive lock, held until *lock is closed. ERR_BUSY names the holder's
 * pid.
 */
enum err dir_lock(struct op *op, int root, int *lock);

/* ERR_INVALID on file systems known to break a promise, unless allowed; warns about
 * those that do not outlive the machine. */
enum err dir_check_kind(struct op *op, int root, bool allow_unsafe);

/* Proves with real files in tmp that link refuses a taken name, fsync works on files
 * and folders, names of 255 bytes fit and case matters. ERR_INVALID if not, ERR_FULL.
 */
enum err dir_self_test(struct op *op, int tmp);

/* Names of temporaries tell whose they are, so that those of dead processes can be
 * swept: boot id, pid, start time of the process, a number. */
enum { DIR_TEMP_NAME_MAX = 128 };
void dir_temp_name(char name[DIR_TEMP_NAME_MAX]);

/* Deletes the temporaries of processes that are gone. */
enum err dir_sweep(struct op *op, int tmp);

#endif
