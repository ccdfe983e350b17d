/*
 * verify.h - reads everything in a store and says whether it is whole.
 *
 * Of each namespace: every catalog record, every manifest, every segment with its
 * deleted rows, byte by byte against the checksums and the counts in the manifest, and
 * document by document against what it says of them; that
 * no id lives twice; the log from the manifest on, whose entries must follow one
 * another by number and put-id and hold requests that can be applied; and which objects
 * nobody names. Writes nothing. A node may work on the same store meanwhile: what it
 * collects between two of our reads is looked up in the next manifest.
 */
#ifndef INSPECT_VERIFY_H
#define INSPECT_VERIFY_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct op;
struct store;

struct verify_options {
    const char *name; /* one namespace only, or NULL */
    FILE *out;        /* the table, and a line for each thing that is wrong */
    FILE *progress;   /* a line that is written over and over, or NULL */
    uint64_t memory;  /* of segments that are read, bytes */
};

struct verify_totals {
    uint64_t namespaces, damaged; /* namespaces with anything wrong */
    uint64_t objects, bytes;      /* read */
    uint64_t problems;
};

/* ERR_OK also when something is damaged: totals tell. ERR_NOT_FOUND: no namespace of
 * that name was ever made. Otherwise the store itself could not be asked. */
enum err verify_store(struct op *op, struct store *store,
                      const struct verify_options *options,
                      struct verify_totals *totals);

#endif
