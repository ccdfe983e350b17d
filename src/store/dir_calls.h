/*
 * dir_calls.h - private to store_dir: how it reaches the file system.
 *
 * Every call that changes a file or a directory, or makes a change durable, goes
 * through one table, so that a test can make the n-th of them fail, or record all of
 * them and replay a power failure. Opening goes through dir_open, which never leaves
 * the root.
 *
 * Threads  replace the table only while no store is open.
 */
#ifndef STORE_DIR_CALLS_H
#define STORE_DIR_CALLS_H

#include <sys/types.h>

/* The signatures and answers of the calls they are named after. */
struct dir_calls {
    ssize_t (*pwrite)(int fd, const void *data, size_t size, off_t offset);
    int (*fsync)(int fd);
    int (*linkat)(int from, const char *old_name, int to, const char *name, int flags);
    int (*unlinkat)(int folder, const char *name, int flags);
    int (*mkdirat)(int folder, const char *name, mode_t mode);
    int (*open_beneath)(int root, const char *path, int flags); /* openat2 */
    int (*sync_file_range)(int fd, off_t offset, off_t size, unsigned flags);
};

extern const struct dir_calls dir_calls_libc;
extern const struct dir_calls
    *dir_calls; /* dir_calls_libc unless a test says otherwise */

enum { DIR_FOLDER_MODE = 0700, DIR_FILE_MODE = 0600 };

/*
 * Opens path ("" is root itself) below root, close-on-exec, without following any
 * symbolic link and without leaving root. -1 with errno: ELOOP or EXDEV when a link was
 * in the way.
 */
int dir_open(int root, const char *path, int flags);

/* The words for an errno; unlike strerror, for any thread. */
const char *dir_error(int error);

/* fsync that is repeated when a signal interrupts it: 0 or errno. */
int dir_fsync(int fd);

/* Cuts off the last segment: "a/b/c" is the name c in "a/b", "c"
 * is in "". parent has room for STORE_KEY_MAX + 1 bytes. Returns the name, inside path.
 */
const char *dir_split(const char *path, char *parent);

#endif
