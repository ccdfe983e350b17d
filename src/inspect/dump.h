/*
 * dump.h - one stored object in words, for a person who wants to know what happened.
 */
#ifndef INSPECT_DUMP_H
#define INSPECT_DUMP_H

#include "base/buf.h"
#include "base/err.h"

struct op;
struct store;

/*
 * Reads the object whole, checks its checksums and that it is what its key says, and
 * appends what it holds: a line each, schemas and documents as JSON. The schema of a
 * log entry is that of the namespace's newest manifest, so entries of every age are
 * readable. ERR_INVALID: no object of ours has such a key. ERR_NOT_FOUND, ERR_CORRUPT.
 */
enum err dump_object(struct op *op, struct store *store, const char *key,
                     struct buf *out);

#endif
