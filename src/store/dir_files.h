/*
 * dir_files.h - private to store_dir: objects open for reading, a bounded number of
 * them kept open between reads.
 *
 * Threads  any; pread does not move a shared descriptor.
 */
#ifndef STORE_DIR_FILES_H
#define STORE_DIR_FILES_H

struct dir_files;

struct dir_file {
    int fd;
    struct dir_slot *slot; /* NULL: not kept */
};

struct dir_files *dir_files_new(int root); /* root is borrowed */
void dir_files_free(struct dir_files *f);  /* nothing may be open */

/* Opens an object for reading: 0 or errno; ENOENT also for what is no regular file. */
int dir_files_open(struct dir_files *f, const char *key, struct dir_file *out);
void dir_files_close(struct dir_files *f, struct dir_file *file);

/* After key was unlinked: who opens it from now on does not find the old object. */
void dir_files_forget(struct dir_files *f, const char *key);

/* The same for one file, without keeping it open. */
int dir_files_open_once(int root, const char *key, int *out);

#endif
