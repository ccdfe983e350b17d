#include "node/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "node/config_toml.h"

enum {
    VALUE_SHOWN_MAX = 120,
    LIST_MAX = 1024,
    SUGGESTIONS_MAX = 4,
    SOURCE_COLUMN = 40
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)
#define TiB (INT64_C(1) << 40)

static const char PREFIX[] = "ELACSYM_";

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

/* ---- what single values must be ---- */

static bool only_of(const char *value, const char *extra)
{
    for (const char *p = value; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(extra, *p)) return false;
    return true;
}

static bool filled(const char *value)
{
    return *value != '\0';
}

/* Letters as S3 has them; an unset bucket is found by config_check. */
static bool bucket_like(const char *value)
{
    size_t size = strlen(value);
    if (size == 0) return true;
    for (const char *p = value; *p; p++)
        if (isupper((unsigned char)*p)) return false;
    return size >= 3 && size <= 63 && only_of(value, ".-") &&
           isalnum((unsigned char)value[0]) && isalnum((unsigned char)value[size - 1]);
}

static bool region_like(const char *value)
{
    return strlen(value) <= 64 && only_of(value, "-");
}

/* http(s)://host[:port][/path]; no user, password, query or fragment. */
static bool url_like(const char *value)
{
    const char *host = strncmp(value, "http://", 7) == 0    ? value + 7
                       : strncmp(value, "https://", 8) == 0 ? value + 8
                                                            : NULL;
    if (!host || !*host || *host == ':' || *host == '/') return false;
    return only_of(host, ".-_:/[]{}");
}

static bool endpoint_like(const char *value)
{
    return *value == '\0' || (url_like(value) && !strpbrk(value, "{}"));
}

static bool template_like(const char *value)
{
    return url_like(value) && strstr(value, "{node_id}");
}

static bool prefix_like(const char *value)
{
    size_t size = strlen(value);
    if (size == 0) return true;
    if (size > 64 || !only_of(value, "_.-/") || value[size - 1] == '/') return false;
    for (const char *part = value; part; part = strchr(part, '/')) {
        if (part != value) part++;
        if (*part == '/' || *part == '.' || *part == '\0') return false;
    }
    return true;
}

static bool node_id_like(const char *value)
{
    return strlen(value) <= 63 && only_of(value, "_.-");
}

/* ---- the table ---- */

static const char *const backends[] = {"local", "s3", NULL};
static const char *const roles[] = {"", "indexer", "query", NULL};
static const char *const levels[] = {"trace", "debug", "info", "warn", "error", NULL};
static const char *const formats[] = {"json", "text", NULL};

#define AT(field) offsetof(struct config, field)
#define STRING(key, field, preset, check, words)                                       \
    {                                                                                  \
        .name = (key), .type = KEY_STRING, .offset = AT(field), .text = (preset),      \
        .valid = (check), .allowed = (words)                                           \
    }
#define INT(key, field, preset, low, high)                                             \
    {                                                                                  \
        .name = (key), .type = KEY_INT, .offset = AT(field), .number = (preset),       \
        .min = (low), .max = (high)                                                    \
    }
#define BOOL(key, field, preset)                                                       \
    {                                                                                  \
        .name = (key), .type = KEY_BOOL, .offset = AT(field), .number = (preset)       \
    }
#define CHOICE(key, field, preset, names)                                              \
    {                                                                                  \
        .name = (key), .type = KEY_CHOICE, .offset = AT(field), .number = (preset),    \
        .choices = (names)                                                             \
    }

static const struct config_key keys[] = {
    STRING("server.host", server.host, "0.0.0.0", filled, "an address or a host name"),
    INT("server.port", server.port, 3000, 0, 65535),
    INT("server.shutdown_timeout_secs", server.shutdown_timeout_secs, 30, 1, 3600),
    INT("server.drain_wait_secs", server.drain_wait_secs, 5, 0, 600),
    INT("server.max_connections", server.max_connections, 12288, 8, 1000000),
    INT("server.max_body_bytes", server.max_body_bytes, 64 * MiB, 64 * KiB, 512 * MiB),
    INT("server.max_body_memory", server.max_body_memory, 512 * MiB, MiB, TiB),

    CHOICE("storage.backend", storage.backend, STORAGE_LOCAL, backends),
    STRING("storage.local.root_path", storage.local_root_path, "./data", filled,
           "a directory"),
    BOOL("storage.local.allow_unsafe_fs", storage.local_allow_unsafe_fs, false),
    STRING("storage.s3.bucket", storage.s3_bucket, "", bucket_like,
           "3 to 63 of a-z, 0-9, '.' and '-'"),
    STRING("storage.s3.region", storage.s3_region, "", region_like,
           "a region such as us-west-2"),
    STRING("storage.s3.endpoint", storage.s3_endpoint, "", endpoint_like,
           "http(s)://host[:port] without user and password"),
    BOOL("storage.s3.content_md5", storage.s3_content_md5, false),
    STRING("storage.s3.wal_prefix", storage.s3_wal_prefix, "", prefix_like,
           "names of [A-Za-z0-9_.-] parted by '/', none starting with a dot, at most "
           "64 bytes"),

    INT("cache.memory_size", cache.memory_size, 4 * GiB, 16 * MiB, 64 * TiB),
    INT("cache.disk_size", cache.disk_size, 100 * GiB, 0, 1024 * TiB),
    STRING("cache.disk_path", cache.disk_path, "./cache", filled, "a directory"),

    BOOL("compaction.enabled", compaction.enabled, true),
    INT("compaction.interval_secs", compaction.interval_secs, 3600, 1, 30 * 86400),
    INT("compaction.max_segments", compaction.max_segments, 100, 1, 10000),
    INT("compaction.max_total_docs", compaction.max_total_docs, 1000000, 1000,
        100000000),

    INT("commit.interval_ms", commit.interval_ms, 0, 0, 10000),
    INT("commit.max_bytes", commit.max_bytes, 16 * MiB, MiB, 256 * MiB),

    INT("tail.max_bytes", tail.max_bytes, GiB, 16 * MiB, TiB),
    INT("tail.index_bytes", tail.index_bytes, 64 * MiB, MiB, TiB),
    INT("tail.index_rows", tail.index_rows, 50000, 100, 10000000),
    INT("tail.index_idle_secs", tail.index_idle_secs, 60, 1, 86400),

    INT("gc.grace_secs", gc_grace_secs, 600, 0, 30 * 86400),
    INT("consistency.max_staleness_ms", consistency_max_staleness_ms, 10000, 0,
        3600000),

    INT("query.timeout_secs", query.timeout_secs, 60, 1, 3600),
    INT("query.slow_ms", query.slow_ms, 1000, 0, 3600000),
    INT("query.threads", query.threads, 0, 0, 1024),

    CHOICE("logging.level", logging.level, LOG_INFO, levels),
    CHOICE("logging.format", logging.format, LOG_JSON, formats),

    BOOL("distributed.enabled", distributed.enabled, false),
    STRING("distributed.node_id", distributed.node_id, "", node_id_like,
           "at most 63 of [A-Za-z0-9_.-]"),
    CHOICE("distributed.role", distributed.role, ROLE_NONE, roles),
    BOOL("distributed.forward_writes", distributed.forward_writes, false),
    {.name = "distributed.indexer_cluster.nodes",
     .type = KEY_LIST,
     .offset = AT(distributed.nodes),
     .valid = node_id_like,
     .allowed = "a list of node ids, each at most 63 of [A-Za-z0-9_.-]"},
    STRING("distributed.indexer_cluster.address_template", distributed.address_template,
           "http://{node_id}:{port}", template_like,
           "http(s)://… with {node_id} in it, without user and password"),
    {.name = "distributed.indexer_cluster.addresses",
     .type = KEY_PAIRS,
     .offset = AT(distributed.addresses),
     .valid = endpoint_like,
     .allowed = "a table of node id = \"http(s)://host[:port]\""},
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

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

static void *field_of(const struct config *c, const struct config_key *key)
{
    return (char *)(uintptr_t)c + key->offset;
}

/* The part behind the last dot; the part before it has size bytes. */
static const char *leaf_name(const char *name, size_t *table_size)
{
    const char *dot = strrchr(name, '.');
    assert(dot);
    *table_size = (size_t)(dot - name);
    return dot + 1;
}

static void append_variable(struct buf *out, const char *key_name)
{
    buf_append_str(out, PREFIX);
    for (const char *p = key_name; *p; p++)
        buf_append_byte(out, *p == '.' ? '_' : (uint8_t)toupper((unsigned char)*p));
}

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

static void set_source(struct config *c, const struct config_key *key,
                       const char *source)
{
    char **slot = &c->sources[key - keys];
    mem_free(*slot);
    *slot = mem_strdup(source);
}

static void list_release(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->items[i]);
    mem_free(list->items);
    *list = (struct config_list){NULL, 0};
}

static void pairs_release(struct config_pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        mem_free(pairs->items[i].name);
        mem_free(pairs->items[i].value);
    }
    mem_free(pairs->items);
    *pairs = (struct config_pairs){NULL, 0};
}

static enum err set_string(struct op *op, struct config *c,
                           const struct config_key *key, const char *value,
                           const char *source)
{
    char **field = field_of(c, key);
    if (!key->valid(value)) return refuse(op, key, value, source);
    mem_free(*field);
    *field = mem_strdup(value);
    return ERR_OK;
}

static enum err set_int(struct op *op, struct config *c, const struct config_key *key,
                        int64_t value, const char *text, const char *source)
{
    if (value < key->min || value > key->max) return refuse(op, key, text, source);
    *(int64_t *)field_of(c, key) = value;
    return ERR_OK;
}

static enum err set_choice(struct op *op, struct config *c,
                           const struct config_key *key, const char *value,
                           const char *source)
{
    for (size_t i = 0; key->choices[i]; i++) {
        if (strcmp(key->choices[i], value) != 0) continue;
        *(int64_t *)field_of(c, key) = (int64_t)i;
        return ERR_OK;
    }
    return refuse(op, key, value, source);
}

static enum err list_add(struct op *op, struct config *c, const struct config_key *key,
                         const char *item, const char *source)
{
    struct config_list *list = field_of(c, key);
    if (!*item || !key->valid(item) || list->count == LIST_MAX)
        return refuse(op, key, item, source);
    list->items = mem_realloc(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mem_strdup(item);
    return ERR_OK;
}

static enum err pairs_add(struct op *op, struct config *c, const struct config_key *key,
                          const char *name, const char *value, const char *source)
{
    struct config_pairs *pairs = field_of(c, key);
    if (!*name || !node_id_like(name) || !*value || !key->valid(value) ||
        pairs->count == LIST_MAX)
        return refuse(op, key, op_printf(op, "%s = %s", name, value), source);
    pairs->items = mem_realloc(pairs->items, (pairs->count + 1) * sizeof *pairs->items);
    pairs->items[pairs->count++] =
        (struct config_pair){mem_strdup(name), mem_strdup(value)};
    return ERR_OK;
}

static void set_default(const struct config *c, const struct config_key *key)
{
    switch (key->type) {
    case KEY_STRING: *(char **)field_of(c, key) = mem_strdup(key->text); break;
    case KEY_INT:
    case KEY_CHOICE: *(int64_t *)field_of(c, key) = key->number; break;
    case KEY_BOOL: *(bool *)field_of(c, key) = key->number != 0; break;
    case KEY_LIST:
    case KEY_PAIRS: break; /* empty */
    }
}

/* ---- the file ---- */

struct file_walk {
    struct op *op;
    struct config *config;
};

static const struct config_key *key_named(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].name, name) == 0) return &keys[i];
    return NULL;
}

static const struct config_key *find_key(const char *table, const char *leaf)
{
    size_t table_size = strlen(table);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        size_t size;
        const char *name = leaf_name(keys[i].name, &size);
        if (size == table_size && strncmp(keys[i].name, table, size) == 0 &&
            strcmp(name, leaf) == 0)
            return &keys[i];
    }
    return NULL;
}

/* The key whose values are a table of this name:
 * [distributed.indexer_cluster.addresses] */
static const struct config_key *find_pairs(const char *table)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (keys[i].type == KEY_PAIRS && strcmp(keys[i].name, table) == 0)
            return &keys[i];
    return NULL;
}

static bool table_known(const char *table)
{
    size_t size = strlen(table);
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strncmp(keys[i].name, table, size) == 0 && keys[i].name[size] == '.')
            return true;
    return find_pairs(table) != NULL;
}

/* Names that may stand where the unknown one stood. */
static char *known_names(struct op *op, const char *table)
{
    size_t table_size = strlen(table);
    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; i < KEY_COUNT && words; i++) {
        size_t size;
        const char *name = leaf_name(keys[i].name, &size);
        if (size == table_size && strncmp(keys[i].name, table, size) == 0)
            words = op_printf(op, "%s%s%s", words, *words ? ", " : "", name);
    }
    return words;
}

static char *known_tables(struct op *op)
{
    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; i < KEY_COUNT && words; i++) {
        size_t size, before;
        (void)leaf_name(keys[i].name, &size);
        if (i > 0) {
            (void)leaf_name(keys[i - 1].name, &before);
            if (before == size && strncmp(keys[i].name, keys[i - 1].name, size) == 0)
                continue;
        }
        words = op_printf(op, "%s%s[%.*s]", words, *words ? ", " : "", (int)size,
                          keys[i].name);
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
    case KEY_BOOL: *(bool *)field_of(c, key) = leaf->boolean; return ERR_OK;
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
    if (key->type == KEY_LIST) list_release(field_of(c, key));
    if (key->type == KEY_PAIRS) pairs_release(field_of(c, key));
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
        *(bool *)field_of(c, key) = strcmp(text, "true") == 0;
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
    for (size_t i = 0; i < KEY_COUNT && !found; i++) {
        buf_clear(&name);
        append_variable(&name, keys[i].name);
        if (slice_equal(buf_slice(&name), slice_str(variable))) found = &keys[i];
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

/* The variables that begin most like the unknown one. */
static char *similar_variables(struct op *op, const char *variable)
{
    struct buf names[KEY_COUNT] = {{0}};
    size_t best = 0, taken = 0;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        append_variable(&names[i], keys[i].name);
        buf_append_byte(&names[i], '\0');
        size_t shared = common_prefix((const char *)names[i].data, variable);
        if (shared > best) best = shared;
    }

    char *words = op_printf(op, "%s", "");
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const char *name = (const char *)names[i].data;
        if (words && common_prefix(name, variable) == best && taken < SUGGESTIONS_MAX) {
            words = op_printf(op, "%s%s%s", words, taken ? ", " : "", name);
            taken++;
        }
        buf_release(&names[i]);
    }
    return words;
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
        "unknown variable %s = %s (environment): similar ones are %s; all keys "
        "are in docs/configuration.md",
        shown(op, variable), secret_name(variable) ? "***" : shown(op, value),
        similar_variables(op, variable));
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
                   roles[file_role], c->file, variable, roles[c->distributed.role]);
}

static enum err load_variable(struct op *op, struct config *c, const char *variable,
                              const char *value)
{
    const struct config_key *key = find_variable(variable);
    if (!key && other_variable(variable)) return ERR_OK;
    if (!key) return unknown_variable(op, variable, value);

    const char *before = c->sources[key - keys];
    if (strncmp(before, PREFIX, strlen(PREFIX)) == 0)
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
        if (strncmp(environment[i], PREFIX, strlen(PREFIX)) != 0 || !equals) continue;
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
    return op_fail(op, ERR_INVALID, "%s = %s (%s): %s", name, value,
                   c->sources[key - keys], words);
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
        return clash(op, c, "storage.backend", backends[c->storage.backend],
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
            id, c->sources[key_named("distributed.node_id") - keys],
            c->distributed.nodes.count, c->sources[key - keys]);
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
    return strcmp(c->sources[key - keys], "default") == 0;
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
    c->sources = mem_new_array(char *, KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        set_default(c, &keys[i]);
        set_source(c, &keys[i], "default");
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
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].type == KEY_STRING) mem_free(*(char **)field_of(c, &keys[i]));
        if (keys[i].type == KEY_LIST) list_release(field_of(c, &keys[i]));
        if (keys[i].type == KEY_PAIRS) pairs_release(field_of(c, &keys[i]));
        mem_free(c->sources[i]);
    }
    mem_free(c->sources);
    mem_free(c->file);
    mem_free(c);
}

/* ---- printing ---- */

/* Strings are paths and names: what TOML must escape is escaped, nothing else. */
static void print_string(struct buf *out, const char *value)
{
    buf_append_byte(out, '"');
    for (const char *p = value; *p; p++) {
        if (iscntrl((unsigned char)*p)) {
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*p);
            continue;
        }
        if (*p == '"' || *p == '\\') buf_append_byte(out, '\\');
        buf_append_byte(out, (uint8_t)*p);
    }
    buf_append_byte(out, '"');
}

static void print_list(struct buf *out, const struct config_list *list)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i) buf_append_str(out, ", ");
        print_string(out, list->items[i]);
    }
    buf_append_byte(out, ']');
}

static void print_pairs(struct buf *out, const struct config_pairs *pairs)
{
    buf_append_str(out, pairs->count ? "{ " : "{}");
    for (size_t i = 0; i < pairs->count; i++) {
        if (i) buf_append_str(out, ", ");
        print_string(out, pairs->items[i].name);
        buf_append_str(out, " = ");
        print_string(out, pairs->items[i].value);
    }
    if (pairs->count) buf_append_str(out, " }");
}

static void print_value(struct buf *out, const struct config *c,
                        const struct config_key *key)
{
    const void *field = field_of(c, key);
    switch (key->type) {
    case KEY_STRING: print_string(out, *(char *const *)field); break;
    case KEY_INT: buf_printf(out, "%lld", (long long)*(const int64_t *)field); break;
    case KEY_BOOL: buf_append_str(out, *(const bool *)field ? "true" : "false"); break;
    case KEY_CHOICE: print_string(out, key->choices[*(const int64_t *)field]); break;
    case KEY_LIST: print_list(out, field); break;
    case KEY_PAIRS: print_pairs(out, field); break;
    }
}

void config_print(const struct config *c, struct buf *out)
{
    const char *table = "";
    size_t table_size = 0;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        size_t size;
        const char *leaf = leaf_name(keys[i].name, &size);
        if (size != table_size || strncmp(table, keys[i].name, size) != 0)
            buf_printf(out, "%s[%.*s]\n", i ? "\n" : "", (int)size, keys[i].name);
        table = keys[i].name;
        table_size = size;

        size_t start = out->size;
        buf_printf(out, "%s = ", leaf);
        print_value(out, c, &keys[i]);
        int pad = (int)(SOURCE_COLUMN > out->size - start
                            ? SOURCE_COLUMN - (out->size - start)
                            : 0);
        buf_printf(out, "%*s # ", pad, "");
        for (const char *p = c->sources[i]; *p; p++)
            buf_append_byte(out, iscntrl((unsigned char)*p) ? '?' : (uint8_t)*p);
        buf_append_byte(out, '\n');
    }
}

const char *config_key_name(size_t index)
{
    return index < KEY_COUNT ? keys[index].name : NULL;
}

void config_key_default(size_t index, struct buf *out)
{
    assert(index < KEY_COUNT);
    struct config c = {0};
    set_default(&c, &keys[index]);
    print_value(out, &c, &keys[index]);
    if (keys[index].type == KEY_STRING) mem_free(*(char **)field_of(&c, &keys[index]));
}

void config_key_variable(size_t index, struct buf *out)
{
    assert(index < KEY_COUNT);
    append_variable(out, keys[index].name);
}
