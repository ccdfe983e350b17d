#include "node/node.h"

#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include "api/api.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "http/http_server.h"
#include "node/cluster.h"
#include "node/config.h"
#include "node/node_store.h"
#include "node/readiness.h"
#include "node/version.h"
#include "ns/registry.h"
#include "store/store.h"
#include "store/store_s3.h"

enum {
    ADMIN_THREADS = 2,
    ADMIN_QUEUE = 64,
    /* Writers mostly wait for the store; many of them share one log object. */
    WRITE_THREADS = 32,
    WRITE_QUEUE = 256,
    QUERY_QUEUE = 256,
    QUERY_THREADS_MIN = 4, /* some of them wait for the store */
    FORWARD_THREADS = 64,  /* all of them wait for other nodes */
    FORWARD_QUEUE = 256,
    OP_MEMORY_MAX = 256 << 20,
    /* A write mostly waits for the store, so waiting for a worker longer than a query
     * may is no sign of overload. */
    WRITE_DELAY_MAX_MS = 1000,
    ADMIN_DELAY_MAX_MS = 10000, /* overload is no reason to call a node dead */
    DESCRIPTORS_SPARE = 512,    /* for files and peers */
    CONNECTIONS_MIN = 8,
    STOP_POLL_MS = 5
};

/* What a node without an id calls itself in fences and manifests. */
static const char SINGLE_NODE[] = "single";

struct node {
    const struct config *config;
    struct store *store;
    struct cache *cache;
    struct cluster *cluster; /* NULL: a single node */
    struct router router;
    struct registry *registry;
    struct readiness *readiness;
    struct api *api;
    struct http_server *http;
};

static bool query_node(const struct config *c)
{
    return c->distributed.enabled && c->distributed.role == ROLE_QUERY;
}

/* Of the budget, for what nobody counts: requests and answers, stacks, what the
 * allocator keeps for itself. */
enum { UNCOUNTED_PART = 16 };

static struct cache *open_cache(const struct config *c, struct store *store)
{
    uint64_t budget = (uint64_t)c->cache.memory_size;
    struct cache *cache = cache_new(store, budget - budget / UNCOUNTED_PART);
    if (c->storage.backend == STORAGE_S3) cache_gather(cache);
    if (c->cache.disk_size > 0)
        cache_add_disk(cache, c->cache.disk_path, (uint64_t)c->cache.disk_size);
    return cache;
}

static const char *id_or(const struct config *c, const char *otherwise)
{
    return *c->distributed.node_id ? c->distributed.node_id : otherwise;
}

static struct ring ring_of(const struct config *c)
{
    return (struct ring){(const char *const *)c->distributed.nodes.items,
                         c->distributed.nodes.count};
}

/* The table of addresses beats the template. */
static char *address_of(const struct config *c, const char *id)
{
    const struct config_pairs *table = &c->distributed.addresses;
    const char *text = c->distributed.address_template;
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->items[i].name, id) == 0) text = table->items[i].value;
    return cluster_address(text, id, (uint16_t)c->server.port);
}

/* A cluster's store is S3: config.h. */
static struct cluster *open_cluster(const struct config *c, struct store *store)
{
    if (!c->distributed.enabled) return NULL;
    struct ring ring = ring_of(c);
    char **urls = mem_new_array(char *, ring.count);
    for (size_t i = 0; i < ring.count; i++)
        urls[i] = address_of(c, ring.ids[i]);
    struct cluster_options o = {.node_id = c->distributed.node_id,
                                .query_node = query_node(c),
                                .forward_writes = c->distributed.forward_writes,
                                .ring = ring,
                                .urls = (const char *const *)urls,
                                .store_silent_ms = store_s3_silent_ms,
                                .store = store,
                                /* beside its own lane's, those whose hint was wrong */
                                .forwards_max = FORWARD_THREADS + WRITE_THREADS,
                                .answer_max = (size_t)c->server.max_body_memory};
    struct cluster *cluster = cluster_new(&o);
    for (size_t i = 0; i < ring.count; i++)
        mem_free(urls[i]);
    mem_free(urls);
    return cluster;
}

static struct registry *open_registry(const struct config *c, struct node *n)
{
    struct registry_options o = registry_options_default();
    o.store = n->store;
    o.cache = n->cache;
    o.node_id = id_or(c, SINGLE_NODE);
    o.wal_prefix = c->storage.s3_wal_prefix;
    struct ring ring = ring_of(c);
    o.config_fingerprint = ring_fingerprint(&ring);
    o.read_only = query_node(c);
    o.owns = n->cluster ? cluster_owns : NULL;
    o.opened_by = n->cluster ? cluster_opened_by : NULL;
    o.context = n->cluster;
    o.commit_interval_ms = c->commit.interval_ms;
    o.commit_bytes_max = (uint64_t)c->commit.max_bytes;
    o.tail_bytes_max = (uint64_t)c->tail.max_bytes;
    o.tail_index_bytes = (uint64_t)c->tail.index_bytes;
    o.tail_index_rows = (uint64_t)c->tail.index_rows;
    o.tail_index_idle_ms = c->tail.index_idle_secs * 1000;
    o.compaction = c->compaction.enabled && !query_node(c);
    o.interval_ms = c->compaction.interval_secs * 1000;
    o.segments_max = (uint32_t)c->compaction.max_segments;
    o.segment_docs_max = (uint64_t)c->compaction.max_total_docs;
    o.gc_grace_ms = c->gc_grace_secs * 1000;
    o.staleness_max_ms = c->consistency_max_staleness_ms;
    o.scratch = c->cache.disk_path;
    o.background = true;
    return registry_new(&o);
}

static struct api *open_api(const struct config *c, struct node *n)
{
    static const char *const roles[] = {
        [ROLE_NONE] = NULL, [ROLE_INDEXER] = "indexer", [ROLE_QUERY] = "query"};
    struct api_options o = {.registry = n->registry,
                            .node_id = id_or(c, NULL),
                            .role = roles[c->distributed.role],
                            .body_bytes_max = (size_t)c->server.max_body_bytes,
                            .slow_query_ms = c->query.slow_ms,
                            .ready = readiness_ready,
                            .ready_context = n->readiness,
                            .version = ELACSYM_VERSION,
                            .router = n->cluster ? &n->router : NULL};
    return api_new(&o);
}

/* As many connections as configured, unless the process may not have so many files. */
static size_t connections_max(const struct config *c)
{
    struct rlimit files;
    size_t wanted = (size_t)c->server.max_connections;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
        return wanted;
    size_t room = files.rlim_cur > DESCRIPTORS_SPARE + CONNECTIONS_MIN
                      ? files.rlim_cur - DESCRIPTORS_SPARE
                      : CONNECTIONS_MIN;
    if (wanted <= room) return wanted;
    log_warn(NULL, "fewer connections than configured",
             "max_connections=%zu possible=%zu open_files=%llu", wanted, room,
             (unsigned long long)files.rlim_cur);
    return room;
}

static size_t query_threads(const struct config *c)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->query.threads) return (size_t)c->query.threads;
    return processors > QUERY_THREADS_MIN ? (size_t)processors : QUERY_THREADS_MIN;
}

static enum err open_http(struct op *op, const struct config *c, struct node *n)
{
    struct http_server_options o = {
        .host = c->server.host,
        .port = (uint16_t)c->server.port,
        .connections_max = connections_max(c),
        .lane_threads = {[HTTP_LANE_ADMIN] = ADMIN_THREADS,
                         [HTTP_LANE_WRITE] = WRITE_THREADS,
                         [HTTP_LANE_QUERY] = query_threads(c),
                         [HTTP_LANE_FORWARD] = n->cluster ? FORWARD_THREADS : 0},
        .lane_queue_max = {[HTTP_LANE_ADMIN] = ADMIN_QUEUE,
                           [HTTP_LANE_WRITE] = WRITE_QUEUE,
                           [HTTP_LANE_QUERY] = QUERY_QUEUE,
                           [HTTP_LANE_FORWARD] = FORWARD_QUEUE},
        .body_memory_max = (uint64_t)c->server.max_body_memory,
        .op_memory_max = OP_MEMORY_MAX,
        .request_timeout_ms = c->query.timeout_secs * 1000,
        .idle_timeout_ms = 60000,
        .handler = api_handler(n->api)};
    o.lane_delay_max_ms[HTTP_LANE_WRITE] = WRITE_DELAY_MAX_MS;
    o.lane_delay_max_ms[HTTP_LANE_ADMIN] = ADMIN_DELAY_MAX_MS;
    o.lane_delay_max_ms[HTTP_LANE_FORWARD] = WRITE_DELAY_MAX_MS;
    return http_server_start(op, &o, &n->http);
}

static void release(struct node *n, int64_t deadline_ms)
{
    http_server_free(n->http);
    api_free(n->api);
    readiness_free(n->readiness);
    if (n->registry) registry_free(n->registry, deadline_ms);
    cluster_free(n->cluster);
    if (n->cache) cache_free(n->cache);
    store_free(n->store);
    mem_free(n);
}

enum err node_start(struct op *op, const struct config *c, struct node **out)
{
    struct node *n = mem_new(struct node);
    bool s3 = c->storage.backend == STORAGE_S3;
    n->config = c;
    /* A node that only reads may hold credentials that only read. */
    enum store_use use = query_node(c) ? STORE_FOLLOW : STORE_WRITE;
    enum err e = node_store_open(op, c, use, &n->store);
    if (e) goto done;
    n->cache = open_cache(c, n->store);
    n->cluster = open_cluster(c, n->store);
    if (n->cluster) n->router = cluster_router(n->cluster);
    n->registry = open_registry(c, n);
    n->readiness =
        readiness_new(n->store, READINESS_PROBE_MS, READINESS_SILENCE_MAX_MS);
    n->api = open_api(c, n);
    e = open_http(op, c, n);
    if (e) goto done;

    log_info(op, "serving", "host=%s port=%u version=%s node_id=%s backend=%s root=%s",
             c->server.host, http_server_port(n->http), ELACSYM_VERSION,
             id_or(c, SINGLE_NODE), s3 ? "s3" : "local",
             s3 ? c->storage.s3_bucket : c->storage.local_root_path);
    *out = n;
    n = NULL;
done:
    if (n) release(n, clock_ms());
    return e;
}

void node_drain(struct node *n)
{
    readiness_drain(n->readiness);
}

bool node_stop(struct node *n, int64_t deadline_ms)
{
    node_drain(n);
    http_server_drain(n->http);
    while (http_server_in_flight(n->http) > 0) {
        if (clock_ms() >= deadline_ms) return false;
        task_sleep_ms(STOP_POLL_MS);
    }
    release(n, deadline_ms);
    return true;
}
