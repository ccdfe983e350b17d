/*
 * config.h - what a node is told at start: one table, three sources.
 *
 * Every key stands once in a table (config_keys.h) that drives parsing, environment
 * names, defaults, ranges, --check-config and the check of docs/configuration.md.
 * Environment beats file beats default. Anything unknown, of a wrong type or out of
 * range is ERR_INVALID; the op's words are one line that names the key, the value,
 * where it came from and what is allowed.
 *
 * No key holds a secret: credentials come from where every AWS program finds them, and
 * an endpoint with a user and password in it is refused.
 */
#ifndef NODE_CONFIG_H
#define NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;

enum storage_backend { STORAGE_LOCAL, STORAGE_S3 };
enum node_role { ROLE_NONE, ROLE_INDEXER, ROLE_QUERY };

struct config_list {
    char **items;
    size_t count;
};

struct config_pair {
    char *name;
    char *value;
};
struct config_pairs {
    struct config_pair *items;
    size_t count;
};

/* Sizes are bytes, times what the name ends in; an unset string is "". */
struct config {
    struct {
        char *host;
        int64_t port;
        int64_t shutdown_timeout_secs;
        int64_t drain_wait_secs;
        int64_t max_connections;
        int64_t max_body_bytes;
        int64_t max_body_memory;
    } server;
    struct {
        int64_t backend; /* enum storage_backend */
        char *local_root_path;
        bool local_allow_unsafe_fs;
        char *s3_bucket;
        char *s3_region;
        char *s3_endpoint;
        char *s3_wal_prefix;
        bool s3_content_md5;
    } storage;
    struct {
        int64_t memory_size;
        int64_t disk_size;
        char *disk_path;
    } cache;
    struct {
        bool enabled;
        int64_t interval_secs;
        int64_t max_segments;
        int64_t max_total_docs;
    } compaction;
    struct {
        int64_t interval_ms; /* 100 on s3 unless set */
        int64_t max_bytes;
    } commit;
    struct {
        int64_t max_bytes;
        int64_t index_bytes;
        int64_t index_rows;
        int64_t index_idle_secs;
    } tail;
    int64_t gc_grace_secs;
    int64_t consistency_max_staleness_ms;
    struct {
        int64_t timeout_secs;
        int64_t slow_ms;
        int64_t threads;
    } query;
    struct {
        int64_t level;  /* enum log_level */
        int64_t format; /* enum log_format */
    } logging;
    struct {
        bool enabled;
        char *node_id;
        int64_t role; /* enum node_role */
        bool forward_writes;
        struct config_list nodes;
        char *address_template;
        struct config_pairs addresses;
    } distributed;

    char *file;     /* the file that was read, or NULL */
    char **sources; /* per key of the table: where its value came from */
};

/*
 * Reads the file that applies (file, else $ELACSYM_CONFIG, else ./config.toml, else
 * /etc/elacsym/config.toml; a named one must exist) and environment, a NULL-terminated
 * list of NAME=value, then checks everything, also what must fit together.
 */
enum err config_load(struct op *op, const char *file, const char *const *environment,
                     struct config **out);
void config_free(struct config *c); /* NULL is fine */

/* The effective configuration as TOML, each line with its source as a comment. */
void config_print(const struct config *c, struct buf *out);

/* The table, for the test that holds docs/configuration.md to it. NULL past the end. */
const char *config_key_name(size_t index);
/* Its default as TOML, "" when there is none. */
void config_key_default(size_t index, struct buf *out);
/* ELACSYM_SERVER_PORT for server.port. */
void config_key_variable(size_t index, struct buf *out);

#endif
