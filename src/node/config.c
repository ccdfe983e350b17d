#include "node/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "node/config_keys.h"
#include "node/config_toml.h"

enum {
    VALUE_SHOWN_MAX = 120,
    LIST_MAX = 1024,
    SUGGESTIONS_MAX = 4,
    SOURCE_COLUMN = 40
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Variables of ours that are no keys: where the file is, tests, the instruction set. */
static const char *const other_variables[] = {"ELACSYM_CONFIG", "ELACSYM_SIMD",
                                              "ELACSYM_SEED", "ELACSYM_DATA"};

static const struct {
    const char *variable;
    const char *key;
} short_variables[] = {
    {"ELACSYM_NODE_ID", "distributed.node_id"},
    {"ELACSYM_NODE_ROLE", "distributed.role"},
};

/* ---- messages ---- */

/* A value as one short line: control characters and what is too long are left out. */
static const char *shown(struct op *op, const char *value)
{
    char *copy = op_printf(op, "%.*s%s", VALUE_SHOWN_MAX, value,
                           strlen(value) > VALUE_SHOWN_MAX ? "…" : "");
    if (!copy) return "";
    for (char *p = copy; *p; p++)
        if (iscntrl((unsigned char)*p)) *p = '?';
    return copy;
}

static const char *expected(struct op *op, const struct config_key *key)
{
    if (key->type == KEY_INT)
        return op_printf(op, "an integer from %lld to %lld", (long long)key->min,
                         (long long)key->max);
    if (key->type == KEY_BOOL) return "true or false";
    if (key->type != KEY_CHOICE) return key->allowed;

    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; key->choices[i] && words; i++)
        if (*key->choices[i])
            words = op_printf(op, "%s%s%s", words, *words ? ", " : "one of ",
                              key->choices[i]);
    return words;
}

static enum err refuse(struct op *op, const struct config_key *key, const char *value,
                       const char *source)
{
    return op_fail(op, ERR_INVALID, "%s = %s (%s): expected %s", key->name,
                   shown(op, value), source, expected(op, key));
}

/* ---- setting values ---- */

static char **source_of(const struct config *c, const struct config_key *key)
{
    return &c->sources[key - config_keys];
}

static void set_source(struct config *c, const struct config_key *key,
                       const char *source)
{
    char **slot = source_of(c, key);
    mem_free(*slot);
    *slot = mem_strdup(source);
}

static enum err set_string(struct op *op, struct config *c,
                           const struct config_key *key, const char *value,
                           const char *source)
{
    char **field = key_field(c, key);
    if (!key->valid(value)) return refuse(op, key, value, source);
    mem_free(*field);
    *field = mem_strdup(value);
    return ERR_OK;
}

static enum err set_int(struct op *op, struct config *c, const struct config_key *key,
                        int64_t value, const char *text, const char *source)
{
    if (value < key->min || value > key->max) return refuse(op, key, text, source);
    *(int64_t *)key_field(c, key) = value;
    return ERR_OK;
}

static enum err set_choice(struct op *op, struct config *c,
                           const struct config_key *key, const char *value,
                           const char *source)
{
    for (size_t i = 0; key->choices[i]; i++) {
        if (strcmp(key->choices[i], value) != 0) continue;
        *(int64_t *)key_field(c, key) = (int64_t)i;
        return ERR_OK;
    }
    return refuse(op, key, value, source);
}

static enum err list_add(struct op *op, struct config *c, const struct config_key *key,
                         const char *item, const char *source)
{
    struct config_list *list = key_field(c, key);
    if (!*item || !key->valid(item) || list->count == LIST_MAX)
        return refuse(op, key, item, source);
    list->items = mem_realloc(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mem_strdup(item);
    return ERR_OK;
}

static enum err pairs_add(struct op *op, struct config *c, const struct config_key *key,
                          const char *name, const char *value, const char *source)
{
    struct config_pairs *pairs = key_field(c, key);
    if (!*name || !node_id_valid(name) || !*value || !key->valid(value) ||
        pairs->count == LIST_MAX)
        return refuse(op, key, op_printf(op, "%s = %s", name, value), source);
    pairs->items = mem_realloc(pairs->items, (pairs->count + 1) * sizeof *pairs->items);
    pairs->items[pairs->count++] =
        (struct config_pair){mem_strdup(name), mem_strdup(value)};
    return ERR_OK;
}

/* ---- the file ---- */

struct file_walk {
    struct op *op;
    struct config *config;
};

static const struct config_key *find_key(const char *table, const char *leaf)
{
    size_t table_size = strlen(table);
    for (size_t i = 0; i < config_key_count; i++) {
        size_t size;
        const char *name = key_leaf(config_keys[i].name, &size);
        if (size == table_size && strncmp(config_keys[i].name, table, size) == 0 &&
            strcmp(name, leaf) == 0)
            return &config_keys[i];
    }
    return NULL;
}

/* The key whose values are a table of this name:
 * [distributed.indexer_cluster.addresses] */
static const struct config_key *find_pairs(const char *table)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (config_keys[i].type == KEY_PAIRS && strcmp(config_keys[i].name, table) == 0)
            return &config_keys[i];
    return NULL;
}

static bool table_known(const char *table)
{
    size_t size = strlen(table);
    for (size_t i = 0; i < config_key_count; i++)
        if (strncmp(config_keys[i].name, table, size) == 0 &&
            config_keys[i].name[size] == '.')
            return true;
    return find_pairs(table) != NULL;
}

/* Names that may stand where the unknown one stood. */
static char *known_names(struct op *op, const char *table)
{
    size_t table_size = strlen(table);
    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; i < config_key_count && words; i++) {
        size_t size;
        const char *name = key_leaf(config_keys[i].name, &size);
        if (size == table_size && strncmp(config_keys[i].name, table, size) == 0)
            words = op_printf(op, "%s%s%s", words, *words ? ", " : "", name);
    }
    return words;
}

static char *known_tables(struct op *op)
{
    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; i < config_key_count && words; i++) {
        size_t size, before;
        (void)key_leaf(config_keys[i].name, &size);
        if (i > 0) {
            (void)key_leaf(config_keys[i - 1].name, &before);
            if (before == size &&
                strncmp(config_keys[i].name, config_keys[i - 1].name, size) == 0)
                continue;
        }
        words = op_printf(op, "%s%s[%.*s]", words, *words ? ", " : "", (int)size,
                          config_keys[i].name);
    }
    return words;
}

static enum err unknown_leaf(struct file_walk *w, const struct toml_leaf *leaf,
                             const char *source)
{
    const char *dot = *leaf->table ? "." : "";
    if (table_known(leaf->table) && *known_names(w->op, leaf->table))
        return op_fail(w->op, ERR_INVALID, "unknown key %s.%s = %s (%s): [%s] knows %s",
                       leaf->table, shown(w->op, leaf->key), shown(w->op, leaf->text),
                       source, leaf->table, known_names(w->op, leaf->table));
    return op_fail(w->op, ERR_INVALID,
                   "unknown key %s%s%s = %s (%s): the tables are %s",
                   shown(w->op, leaf->table), dot, shown(w->op, leaf->key),
                   shown(w->op, leaf->text), source, known_tables(w->op));
}

static enum err set_leaf(struct file_walk *w, const struct config_key *key,
                         const struct toml_leaf *leaf, const char *source)
{
    struct op *op = w->op;
    struct config *c = w->config;
    static const enum toml_kind kinds[] = {
        [KEY_STRING] = TOML_STRING, [KEY_INT] = TOML_INTEGER, [KEY_BOOL] = TOML_BOOL,
        [KEY_CHOICE] = TOML_STRING, [KEY_LIST] = TOML_LIST,   [KEY_PAIRS] = TOML_TABLE};

    if (leaf->kind != kinds[key->type]) return refuse(op, key, leaf->text, source);
    switch (key->type) {
    case KEY_STRING: return set_string(op, c, key, leaf->text, source);
    case KEY_INT: return set_int(op, c, key, leaf->integer, leaf->text, source);
    case KEY_CHOICE: return set_choice(op, c, key, leaf->text, source);
    case KEY_BOOL: *(bool *)key_field(c, key) = leaf->boolean; return ERR_OK;
    case KEY_PAIRS: return ERR_OK; /* an empty table */
    case KEY_LIST: break;
    }
    for (size_t i = 0; i < leaf->list_count; i++) {
        enum err e = list_add(op, c, key, leaf->list[i], source);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err visit_leaf(void *context, const struct toml_leaf *leaf)
{
    struct file_walk *w = context;
    const char *source = op_printf(w->op, "%s line %u", w->config->file, leaf->line);
    const struct config_key *key = find_key(leaf->table, leaf->key);
    const struct config_key *pairs = find_pairs(leaf->table);
    enum err e;

    if (pairs && leaf->kind == TOML_STRING) {
        key = pairs;
        e = pairs_add(w->op, w->config, key, leaf->key, leaf->text, source);
    } else if (pairs) {
        return refuse(w->op, pairs, leaf->text, source);
    } else if (key) {
        e = set_leaf(w, key, leaf, source);
    } else if (leaf->kind == TOML_TABLE) {
        const char *name =
            op_printf(w->op, "%s%s%s", leaf->table, *leaf->table ? "." : "", leaf->key);
        return table_known(name) ? ERR_OK : unknown_leaf(w, leaf, source);
    } else {
        return unknown_leaf(w, leaf, source);
    }
    if (!e) set_source(w->config, key, source);
    return e;
}

static const char *variable_value(const char *const *environment, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; environment[i]; i++)
        if (strncmp(environment[i], name, size) == 0 && environment[i][size] == '=')
            return environment[i] + size + 1;
    return NULL;
}

/* The file that applies; *named: somebody asked for it, so it must be there. */
static const char *choose_file(const char *file, const char *const *environment,
                               bool *named)
{
    const char *variable = variable_value(environment, "ELACSYM_CONFIG");
    *named = true;
    if (file) return file;
    if (variable && *variable) return variable;
    *named = false;
    if (access("config.toml", F_OK) == 0) return "config.toml";
    return "/etc/elacsym/config.toml";
}

static enum err load_file(struct op *op, struct config *c, const char *file,
                          const char *const *environment)
{
    bool named;
    struct file_walk walk = {op, c};
    c->file = mem_strdup(choose_file(file, environment, &named));
    enum err e = config_toml_read(op, c->file, visit_leaf, &walk);
    if (e != ERR_NOT_FOUND || named)
        return e == ERR_NOT_FOUND ? op_fail(op, ERR_INVALID, "configuration file") : e;
    op_clear_error(op);
    mem_free(c->file);
    c->file = NULL;
    return ERR_OK;
}

/* ---- the environment ---- */

static enum err set_items(struct op *op, struct config *c, const struct config_key *key,
                          const char *text, const char *source)
{
    enum err e = ERR_OK;
    char *rest = op_printf(op, "%s", text);
    key_release(c, key);
    while (rest && *rest && !e) {
        char *item = strsep(&rest, ",");
        if (key->type == KEY_LIST) {
            e = list_add(op, c, key, item, source);
            continue;
        }
        char *name = strsep(&item, "=");
        e = pairs_add(op, c, key, name, item ? item : "", source);
    }
    return e;
}

static enum err set_text(struct op *op, struct config *c, const struct config_key *key,
                         const char *text, const char *source)
{
    char *end;
    long long number;
    switch (key->type) {
    case KEY_STRING: return set_string(op, c, key, text, source);
    case KEY_CHOICE: return set_choice(op, c, key, text, source);
    case KEY_LIST:
    case KEY_PAIRS: return set_items(op, c, key, text, source);
    case KEY_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return refuse(op, key, text, source);
        *(bool *)key_field(c, key) = strcmp(text, "true") == 0;
        return ERR_OK;
    case KEY_INT: break;
    }
    errno = 0;
    number = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || *text == '+')
        return refuse(op, key, text, source);
    return set_int(op, c, key, number, text, source);
}

/* The key that a variable sets; NULL: none. */
static const struct config_key *find_variable(const char *variable)
{
    for (size_t i = 0; i < COUNT_OF(short_variables); i++)
        if (strcmp(short_variables[i].variable, variable) == 0)
            return key_named(short_variables[i].key);

    const struct config_key *found = NULL;
    struct buf name = BUF_INIT;
    for (size_t i = 0; i < config_key_count && !found; i++) {
        buf_clear(&name);
        key_variable(&name, config_keys[i].name);
        if (slice_equal(buf_slice(&name), slice_str(variable))) found = &config_keys[i];
    }
    buf_release(&name);
    return found;
}

static bool other_variable(const char *variable)
{
    for (size_t i = 0; i < COUNT_OF(other_variables); i++)
        if (strcmp(other_variables[i], variable) == 0) return true;
    return false;
}

static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* How much of a variable's beginning is that of the key's own. */
static size_t likeness(const struct config_key *key, const char *variable)
{
    struct buf name = BUF_INIT;
    key_variable(&name, key->name);
    buf_append_byte(&name, '\0');
    size_t shared = common_prefix((const char *)name.data, variable);
    buf_release(&name);
    return shared;
}

/* The variables that begin most like the unknown one. */
static char *similar_variables(struct op *op, const char *variable)
{
    size_t best = 0, taken = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        size_t shared = likeness(&config_keys[i], variable);
        if (shared > best) best = shared;
    }

    struct buf words = BUF_INIT;
    for (size_t i = 0; i < config_key_count && taken < SUGGESTIONS_MAX; i++) {
        if (likeness(&config_keys[i], variable) < best) continue;
        buf_append_str(&words, taken++ ? ", " : "");
        key_variable(&words, config_keys[i].name);
    }
    char *copy = op_printf(op, "%.*s", (int)words.size, (const char *)words.data);
    buf_release(&words);
    return copy;
}

/* A variable we do not know may hold a secret that was meant for somebody else. */
static bool secret_name(const char *variable)
{
    static const char *const words[] = {"KEY", "SECRET", "TOKEN", "PASSWORD"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strstr(variable, words[i])) return true;
    return false;
}

static enum err unknown_variable(struct op *op, const char *variable, const char *value)
{
    return op_fail(
        op, ERR_INVALID,
        "unknown variable %s = %s (environment): similar ones are %s; all config_keys "
        "are in docs/configuration.md",
        shown(op, variable), secret_name(variable) ? "***" : shown(op, value),
        similar_variables(op, variable));
}

static const char *choice_text(const char *key, int64_t choice)
{
    return key_named(key)->choices[choice];
}

static const char *role_title(int64_t role)
{
    return role == ROLE_INDEXER ? "Indexer" : "Query";
}

/* A role is what a node is, not a knob: file and environment must agree on it. */
static enum err check_role_override(struct op *op, const struct config *c,
                                    int64_t file_role, const char *variable)
{
    if (file_role == ROLE_NONE || file_role == c->distributed.role) return ERR_OK;
    return op_fail(op, ERR_INVALID,
                   "Role mismatch: node configured as %s but processing as %s "
                   "(distributed.role = %s in %s, %s = %s): let both say the same, or "
                   "remove one",
                   role_title(file_role), role_title(c->distributed.role),
                   choice_text("distributed.role", file_role), c->file, variable,
                   choice_text("distributed.role", c->distributed.role));
}

static enum err load_variable(struct op *op, struct config *c, const char *variable,
                              const char *value)
{
    const struct config_key *key = find_variable(variable);
    if (!key && other_variable(variable)) return ERR_OK;
    if (!key) return unknown_variable(op, variable, value);

    const char *before = *source_of(c, key);
    if (strncmp(before, CONFIG_VARIABLE_PREFIX, strlen(CONFIG_VARIABLE_PREFIX)) == 0)
        return op_fail(op, ERR_INVALID, "%s and %s both set %s: remove one", before,
                       variable, key->name);
    int64_t role = c->distributed.role;
    enum err e = set_text(op, c, key, value, variable);
    if (!e && strcmp(key->name, "distributed.role") == 0)
        e = check_role_override(op, c, role, variable);
    if (!e) set_source(c, key, variable);
    return e;
}

static enum err load_environment(struct op *op, struct config *c,
                                 const char *const *environment)
{
    for (size_t i = 0; environment[i]; i++) {
        const char *equals = strchr(environment[i], '=');
        if (strncmp(environment[i], CONFIG_VARIABLE_PREFIX,
                    strlen(CONFIG_VARIABLE_PREFIX)) != 0 ||
            !equals)
            continue;
        char *variable =
            op_printf(op, "%.*s", (int)(equals - environment[i]), environment[i]);
        enum err e = load_variable(op, c, variable, equals + 1);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- what must fit together ---- */

static enum err clash(struct op *op, const struct config *c, const char *name,
                      const char *value, const char *words)
{
    const struct config_key *key = key_named(name);
    return op_fail(op, ERR_INVALID, "%s = %s (%s): %s", name, value, *source_of(c, key),
                   words);
}

static bool list_has(const struct config_list *list, const char *item)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], item) == 0) return true;
    return false;
}

static enum err check_nodes(struct op *op, const struct config *c)
{
    const struct config_list *nodes = &c->distributed.nodes;
    const struct config_pairs *addresses = &c->distributed.addresses;
    const char *nodes_name = "distributed.indexer_cluster.nodes";

    if (nodes->count == 0)
        return clash(op, c, nodes_name, "[]",
                     "expected the ids of all indexers, the same list on every node");
    for (size_t i = 0; i < nodes->count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(nodes->items[i], nodes->items[j]) == 0)
                return clash(op, c, nodes_name, nodes->items[i],
                             "an id stands there twice");
    for (size_t i = 0; i < addresses->count; i++)
        if (!list_has(nodes, addresses->items[i].name))
            return clash(op, c, "distributed.indexer_cluster.addresses",
                         addresses->items[i].name,
                         "not an id of distributed.indexer_cluster.nodes");
    return ERR_OK;
}

static enum err check_distributed(struct op *op, const struct config *c)
{
    const char *id = c->distributed.node_id;
    if (!c->distributed.enabled) return ERR_OK;
    if (c->storage.backend != STORAGE_S3)
        return clash(op, c, "storage.backend",
                     choice_text("storage.backend", c->storage.backend),
                     "distributed.enabled needs s3, a store that all nodes share");
    if (!*id)
        return clash(op, c, "distributed.node_id", "\"\"",
                     "expected this node's id (or ELACSYM_NODE_ID), for "
                     "distributed.enabled");
    if (c->distributed.role == ROLE_NONE)
        return clash(op, c, "distributed.role", "\"\"",
                     "expected indexer or query (or ELACSYM_NODE_ROLE), for "
                     "distributed.enabled");
    enum err e = check_nodes(op, c);
    if (e) return e;
    if (c->distributed.role == ROLE_QUERY && list_has(&c->distributed.nodes, id))
        return clash(op, c, "distributed.node_id", id,
                     "it stands in distributed.indexer_cluster.nodes, but "
                     "distributed.role is query");
    if (c->distributed.role == ROLE_INDEXER && !list_has(&c->distributed.nodes, id)) {
        const struct config_key *key = key_named("distributed.indexer_cluster.nodes");
        return op_fail(
            op, ERR_INVALID,
            "node_id not found in indexer_cluster.nodes: %s (%s) is not in the "
            "list of %zu (%s)",
            id, *source_of(c, key_named("distributed.node_id")),
            c->distributed.nodes.count, *source_of(c, key));
    }
    return ERR_OK;
}

static enum err check_together(struct op *op, const struct config *c)
{
    if (c->storage.backend == STORAGE_S3 && !*c->storage.s3_bucket)
        return clash(op, c, "storage.s3.bucket", "\"\"",
                     "expected a bucket, for storage.backend = s3");
    if (c->server.max_body_memory < c->server.max_body_bytes)
        return clash(op, c, "server.max_body_memory",
                     op_printf(op, "%lld", (long long)c->server.max_body_memory),
                     "expected at least server.max_body_bytes");
    if (c->server.drain_wait_secs >= c->server.shutdown_timeout_secs)
        return clash(op, c, "server.drain_wait_secs",
                     op_printf(op, "%lld", (long long)c->server.drain_wait_secs),
                     "expected less than server.shutdown_timeout_secs");
    if (c->tail.index_bytes > c->tail.max_bytes)
        return clash(op, c, "tail.index_bytes",
                     op_printf(op, "%lld", (long long)c->tail.index_bytes),
                     "expected at most tail.max_bytes");
    return check_distributed(op, c);
}

static bool at_default(const struct config *c, const struct config_key *key)
{
    return strcmp(*source_of(c, key), "default") == 0;
}

/* A log object costs a request, and on S3 a round trip of tens of milliseconds: there,
 * writes of a tenth of a second share one unless somebody says otherwise. */
static void fit_commit_interval(struct config *c)
{
    enum { S3_COMMIT_INTERVAL_MS = 100 };
    const struct config_key *interval = key_named("commit.interval_ms");
    if (c->storage.backend != STORAGE_S3 || !at_default(c, interval)) return;
    c->commit.interval_ms = S3_COMMIT_INTERVAL_MS;
    set_source(c, interval, "default for s3");
}

/* Objects that are local files already gain nothing from a second copy. A path says
 * where it would be, not that it is wanted. */
static void fit_disk_cache(struct config *c)
{
    const struct config_key *size = key_named("cache.disk_size");
    if (c->storage.backend != STORAGE_LOCAL || !at_default(c, size)) return;
    c->cache.disk_size = 0;
    set_source(c, size, "default for local");
}

enum err config_load(struct op *op, const char *file, const char *const *environment,
                     struct config **out)
{
    struct config *c = mem_new(struct config);
    c->sources = mem_new_array(char *, config_key_count);
    for (size_t i = 0; i < config_key_count; i++) {
        key_set_default(c, &config_keys[i]);
        set_source(c, &config_keys[i], "default");
    }

    enum err e = load_file(op, c, file, environment);
    if (!e) e = load_environment(op, c, environment);
    fit_commit_interval(c);
    fit_disk_cache(c);
    if (!e) e = check_together(op, c);
    if (e) {
        config_free(c);
        c = NULL;
    }
    *out = c;
    return e;
}

void config_free(struct config *c)
{
    if (!c) return;
    for (size_t i = 0; i < config_key_count; i++) {
        key_release(c, &config_keys[i]);
        mem_free(c->sources[i]);
    }
    mem_free(c->sources);
    mem_free(c->file);
    mem_free(c);
}

/* ---- printing ---- */

void config_print(const struct config *c, struct buf *out)
{
    const char *table = "";
    size_t table_size = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        size_t size;
        const char *leaf = key_leaf(config_keys[i].name, &size);
        if (size != table_size || strncmp(table, config_keys[i].name, size) != 0)
            buf_printf(out, "%s[%.*s]\n", i ? "\n" : "", (int)size,
                       config_keys[i].name);
        table = config_keys[i].name;
        table_size = size;

        size_t start = out->size;
        buf_printf(out, "%s = ", leaf);
        key_print(out, c, &config_keys[i]);
        int pad = (int)(SOURCE_COLUMN > out->size - start
                            ? SOURCE_COLUMN - (out->size - start)
                            : 0);
        buf_printf(out, "%*s # ", pad, "");
        for (const char *p = c->sources[i]; *p; p++)
            buf_append_byte(out, iscntrl((unsigned char)*p) ? '?' : (uint8_t)*p);
        buf_append_byte(out, '\n');
    }
}
