/*
 * engine.h - a node without sockets: store, caches, registry and API in this process,
 * asked in JSON as over HTTP.
 *
 * For tests that need thousands of fresh nodes a minute over real files: what damage,
 * failing system calls and failing allocations do to an answer.
 *
 * Replaces http_header and http_response_header, so it is linked where no HTTP server
 * is.
 */
#ifndef TESTS_ENGINE_ENGINE_H
#define TESTS_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "store/store.h"

struct engine;

enum { ENGINE_DISK_SIZE = 1 << 20 };

struct engine_options {
    struct store *store;      /* borrowed */
    const char *cache_folder; /* of a disk cache of ENGINE_DISK_SIZE, or NULL */
    bool read_only;           /* follows and never opens for writing */
    int64_t request_ms;       /* a request's time; 0: 20 s */
};

struct engine *engine_new(const struct engine_options *options);
void engine_free(struct engine *e);

/* Sends a request and appends the answer's body to *answer (not NULL). body may be
 * NULL, key (Idempotency-Key) too. Returns the status. */
int engine_ask(struct engine *e, const char *method, const char *path, const char *body,
               const char *key, struct buf *answer);

#endif
