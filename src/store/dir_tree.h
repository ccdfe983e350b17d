/*
 * dir_tree.h - private to store_dir: which folders, and which names in them, would
 * survive a power failure.
 *
 * A name is durable when its folder was fsynced after the name was linked, and the
 * folder's own name is durable in its parent, up to the root. The tree remembers the
 * folders for which all of that holds (a bounded number; one that is forgotten is
 * fsynced again when it is met next), so the answer is usually free.
 *
 * Functions return 0 or an errno. After a failed fsync the answer is EIO for ever and
 * dir_tree_broken tells why: nothing may be believed any more.
 *
 * Threads  any.
 */
#ifndef STORE_DIR_TREE_H
#define STORE_DIR_TREE_H

#include <stdbool.h>

struct dir_tree;

struct dir_tree *dir_tree_new(int root); /* root is borrowed */
void dir_tree_free(struct dir_tree *t);

/* A folder open for a new name. While it is, dir_tree_prune leaves it alone. */
struct dir_entry {
    int fd;
    struct folder *folder;
};

/* Opens the folder, making it and its parents durably if they are missing. */
int dir_tree_enter(struct dir_tree *t, const char *path, struct dir_entry *out);
/* Closes it; linked: a name was added, which is durable if this returns 0. */
int dir_tree_leave(struct dir_tree *t, struct dir_entry *entry, bool linked);

/* For a reader that has seen a name in the folder: 0 when every name visible there is
 * durable. A folder that is gone again has none. */
int dir_tree_meet(struct dir_tree *t, const char *path);

/* Removes the folder if it is empty and nobody is inside, then its parents likewise. */
void dir_tree_prune(struct dir_tree *t, const char *path);

/* The errno of the fsync that failed, 0 if none has. */
int dir_tree_broken(struct dir_tree *t);

#endif
