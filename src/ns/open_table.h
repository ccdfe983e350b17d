/*
 * open_table.h - the namespaces that are open on this node, by name; which one is
 * opened when it is asked for, and which is closed to make room.
 *
 * What a namespace has in memory is in the store as well, so closing one costs no more
 * than opening it again.
 *
 * Threads  any, but for open_table_close_idle. The table's own lock is taken before
 * that of a namespace, and held for a moment only: no namespace is opened or freed, and
 * nothing asked of the store, under it.
 */
#ifndef NS_OPEN_TABLE_H
#define NS_OPEN_TABLE_H

#include <stddef.h>

#include "base/err.h"

struct namespace;
struct op;
struct open_table;
struct opener;
struct registry_options;

struct open_table *open_table_new(const struct registry_options *env,
                                  struct opener *opener); /* both borrowed */
/* Lets all namespaces go. Nobody else uses the table any more. */
void open_table_free(struct open_table *t);

/*
 * The namespace of that name, a reference. One that is not in the table is looked up in
 * the catalog and put there; it is not open for writing yet. ERR_INVALID (the name),
 * ERR_NOT_FOUND, ERR_DENIED: it has another log prefix than this node. ERR_BUSY: as
 * many as may be are open, and all in use.
 */
enum err open_table_find(struct op *op, struct open_table *t, const char *name,
                         struct namespace **out);

/* A place in the table; zeros are its beginning. */
struct walk {
    size_t bucket, index;
};

/*
 * The next open namespace, a reference, or NULL at the end. So background work keeps no
 * more than one from being closed; it may miss one, or meet one twice, when others come
 * and go meanwhile.
 */
struct namespace *open_table_next(struct open_table *t, struct walk *w);

/* Closes those in a part of the table that nobody has asked for for idle_close_ms and
 * that need no work; called again and again it comes round. One thread at a time. */
void open_table_close_idle(struct open_table *t);

#endif
