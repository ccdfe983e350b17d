/*
 * readiness.h - can this node serve requests now? (GET /ready)
 *
 * Liveness is the HTTP server's answering at all and never looks at the store, or a
 * store's outage would restart every node. Readiness does: a thread asks the store for
 * one key now and then, so that asking here never blocks.
 */
#ifndef NODE_READINESS_H
#define NODE_READINESS_H

#include <stdbool.h>
#include <stdint.h>

struct readiness;
struct store;

enum { READINESS_PROBE_MS = 3000, READINESS_SILENCE_MAX_MS = 10000 };

/* store is borrowed. probe_ms: between two looks; silence_max_ms: the store is taken
 * for gone when no look succeeded for so long. Starts a thread. */
struct readiness *readiness_new(struct store *store, int64_t probe_ms,
                                int64_t silence_max_ms);
/* Waits for a look that is under way. NULL is fine. */
void readiness_free(struct readiness *r);

/* False from now on. */
void readiness_drain(struct readiness *r);

/* context is a struct readiness; fits api_options.ready. *why is static. */
bool readiness_ready(void *context, const char **why);

#endif
