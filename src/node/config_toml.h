/*
 * config_toml.h - reads a TOML file (toml++ behind one file) as a flat list of leaves.
 */
#ifndef NODE_CONFIG_TOML_H
#define NODE_CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct op;

enum { CONFIG_FILE_BYTES_MAX = 1 << 20 };

enum toml_kind {
    TOML_STRING,
    TOML_INTEGER,
    TOML_BOOL,
    TOML_LIST,
    TOML_TABLE,
    TOML_OTHER
};

/* One leaf (or an empty table); everything in it lives until visit returns. */
struct toml_leaf {
    const char *table; /* "storage.s3", "" at the top; odd names are quoted */
    const char *key;   /* "bucket", as it is */
    enum toml_kind kind;
    const char *text; /* the value as TOML, for messages; a string's own characters */
    int64_t integer;
    bool boolean;
    const char *const *list; /* TOML_LIST: strings only */
    size_t list_count;
    unsigned line;
};

/*
 * Calls visit for each leaf in the order of the table, until one returns an error,
 * which is passed on. ERR_NOT_FOUND: no such file. ERR_IO: it cannot be read.
 * ERR_INVALID: not TOML, with the line, or larger than CONFIG_FILE_BYTES_MAX.
 */
enum err config_toml_read(struct op *op, const char *file,
                          enum err (*visit)(void *context,
                                            const struct toml_leaf *leaf),
                          void *context);

#ifdef __cplusplus
}
#endif

#endif
