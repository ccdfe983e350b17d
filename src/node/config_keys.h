/*
 * config_keys.h - the table of configuration keys, which drives parsing, environment
 * names, defaults, ranges, --check-config and the check of docs/configuration.md.
 *
 * A new setting is a field of struct config and a line of the table. For config.c;
 * others see the table through config.h.
 */
#ifndef NODE_CONFIG_KEYS_H
#define NODE_CONFIG_KEYS_H

#include "base/buf.h"
#include "node/config.h"

#define CONFIG_VARIABLE_PREFIX "ELACSYM_"

enum key_type { KEY_STRING, KEY_INT, KEY_BOOL, KEY_CHOICE, KEY_LIST, KEY_PAIRS };

struct config_key {
    const char *name;
    enum key_type type;
    size_t offset;    /* of the field in struct config */
    const char *text; /* default of a string */
    int64_t number;   /* default of the others */
    int64_t min, max;
    const char *const *choices; /* in the order of their enum, NULL at the end */
    bool (*valid)(const char *value);
    const char *allowed; /* what valid asks for, in words */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* The key of that name, or NULL. */
const struct config_key *key_named(const char *name);
/* The part of a name behind its last dot; the table's, before it, has size bytes. */
const char *key_leaf(const char *name, size_t *table_size);
/* Appends ELACSYM_SERVER_PORT for server.port. */
void key_variable(struct buf *out, const char *key_name);

/* Its field: char *, int64_t (integers and choices), bool, config_list, config_pairs.
 */
void *key_field(const struct config *c, const struct config_key *key);
void key_set_default(const struct config *c, const struct config_key *key);
void key_release(struct config *c, const struct config_key *key);
/* Appends the value as TOML. */
void key_print(struct buf *out, const struct config *c, const struct config_key *key);

/* May a node be called that? "" may. */
bool node_id_valid(const char *value);

#endif
