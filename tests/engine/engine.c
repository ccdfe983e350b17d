#include "engine/engine.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/registry.h"

enum {
    REQUEST_MS = 20000,
    OP_MEMORY_MAX = 64 << 20,
    BODY_MAX = 1 << 20,
    CACHE_MEMORY = 16 << 20
};

struct engine {
    int64_t request_ms;
    struct cache *cache;
    struct registry *registry;
    struct api *api;
};

/* What http_request.connection points at. */
struct fields {
    bool json;
    const char *key;
};

const char *http_header(const struct http_request *request, const char *name)
{
    const struct fields *fields = request->connection;
    if (strcasecmp(name, "Idempotency-Key") == 0) return fields->key;
    if (strcasecmp(name, "Content-Type") == 0)
        return fields->json ? "application/json" : NULL;
    return NULL;
}

void http_response_header(struct http_response *response, const char *name,
                          const char *format, ...)
{
    (void)response;
    (void)name;
    (void)format;
}

struct engine *engine_new(const struct engine_options *options)
{
    struct engine *e = mem_new(struct engine);
    struct registry_options o = registry_options_default();
    struct api_options api = {.body_bytes_max = BODY_MAX, .version = "test"};

    e->request_ms = options->request_ms ? options->request_ms : REQUEST_MS;
    e->cache = cache_new(options->store, CACHE_MEMORY);
    if (options->cache_folder)
        cache_add_disk(e->cache, options->cache_folder, ENGINE_DISK_SIZE);
    o.store = options->store;
    o.cache = e->cache;
    o.node_id = "engine";
    o.read_only = options->read_only;
    o.background = false;
    o.gc_grace_ms = 0;
    e->registry = api.registry = registry_new(&o);
    e->api = api_new(&api);
    return e;
}

void engine_free(struct engine *e)
{
    if (!e) return;
    api_free(e->api);
    registry_free(e->registry, clock_ms() + e->request_ms);
    cache_free(e->cache);
    mem_free(e);
}

int engine_ask(struct engine *e, const char *method, const char *path, const char *body,
               const char *key, struct buf *answer)
{
    struct fields fields = {.json = body != NULL, .key = key};
    size_t size = body ? strlen(body) : 0;
    char *copy = mem_calloc(1, size + JSON_PADDING);
    if (body) memcpy(copy, body, size);
    struct http_request request = {.method = method,
                                   .path = path,
                                   .query_string = "",
                                   .body = slice_of(copy, size),
                                   .connection = &fields};
    struct http_response response = {.status = 200};
    struct op op;

    op_init(&op, clock_ms() + e->request_ms, OP_MEMORY_MAX);
    struct http_handler handler = api_handler(e->api);
    handler.handle(handler.context, &op, &request, &response);
    buf_append_slice(answer, buf_slice(&response.body));
    buf_release(&response.body);
    op_release(&op);
    mem_free(copy);
    return response.status;
}
