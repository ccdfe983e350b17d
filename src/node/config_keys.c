#include "node/config_keys.h"

#include <assert.h>
#include <ctype.h>

#include "base/log.h"
#include "base/mem.h"

#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)
#define TiB (INT64_C(1) << 40)

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

/* Letters as S3 has them; an unset one is found where all must fit together. */
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

bool node_id_valid(const char *value)
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

const struct config_key config_keys[] = {
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
    STRING("distributed.node_id", distributed.node_id, "", node_id_valid,
           "at most 63 of [A-Za-z0-9_.-]"),
    CHOICE("distributed.role", distributed.role, ROLE_NONE, roles),
    BOOL("distributed.forward_writes", distributed.forward_writes, false),
    {.name = "distributed.indexer_cluster.nodes",
     .type = KEY_LIST,
     .offset = AT(distributed.nodes),
     .valid = node_id_valid,
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
const size_t config_key_count = sizeof config_keys / sizeof config_keys[0];

/* ---- names and places ---- */

void *key_field(const struct config *c, const struct config_key *key)
{
    return (char *)(uintptr_t)c + key->offset;
}

/* The part behind the last dot; the part before it has size bytes. */
const char *key_leaf(const char *name, size_t *table_size)
{
    const char *dot = strrchr(name, '.');
    assert(dot);
    *table_size = (size_t)(dot - name);
    return dot + 1;
}

void key_variable(struct buf *out, const char *key_name)
{
    buf_append_str(out, CONFIG_VARIABLE_PREFIX);
    for (const char *p = key_name; *p; p++)
        buf_append_byte(out, *p == '.' ? '_' : (uint8_t)toupper((unsigned char)*p));
}

const struct config_key *key_named(const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

/* ---- values ---- */

void key_set_default(const struct config *c, const struct config_key *key)
{
    switch (key->type) {
    case KEY_STRING: *(char **)key_field(c, key) = mem_strdup(key->text); break;
    case KEY_INT:
    case KEY_CHOICE: *(int64_t *)key_field(c, key) = key->number; break;
    case KEY_BOOL: *(bool *)key_field(c, key) = key->number != 0; break;
    case KEY_LIST:
    case KEY_PAIRS: break; /* empty */
    }
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

void key_release(struct config *c, const struct config_key *key)
{
    if (key->type == KEY_STRING) mem_free(*(char **)key_field(c, key));
    if (key->type == KEY_LIST) list_release(key_field(c, key));
    if (key->type == KEY_PAIRS) pairs_release(key_field(c, key));
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

void key_print(struct buf *out, const struct config *c, const struct config_key *key)
{
    const void *field = key_field(c, key);
    switch (key->type) {
    case KEY_STRING: print_string(out, *(char *const *)field); break;
    case KEY_INT: buf_printf(out, "%lld", (long long)*(const int64_t *)field); break;
    case KEY_BOOL: buf_append_str(out, *(const bool *)field ? "true" : "false"); break;
    case KEY_CHOICE: print_string(out, key->choices[*(const int64_t *)field]); break;
    case KEY_LIST: print_list(out, field); break;
    case KEY_PAIRS: print_pairs(out, field); break;
    }
}

const char *config_key_name(size_t index)
{
    return index < config_key_count ? config_keys[index].name : NULL;
}

void config_key_default(size_t index, struct buf *out)
{
    assert(index < config_key_count);
    struct config c = {0};
    key_set_default(&c, &config_keys[index]);
    key_print(out, &c, &config_keys[index]);
    key_release(&c, &config_keys[index]);
}

void config_key_variable(size_t index, struct buf *out)
{
    assert(index < config_key_count);
    key_variable(out, config_keys[index].name);
}
