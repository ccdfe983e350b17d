/*
 * s3_watch.h - private to store_s3: asks a store again and again whether it keeps its
 * word.
 *
 * A running node's store can change: another version of it, another server behind the
 * same name. One that begins to ignore If-None-Match loses writes without a word, so
 * the short probe is repeated every S3_WATCH_MS (PROTOCOL.md section 12), and sooner
 * when the store could not be asked.
 *
 * Threads  one of its own, through base/task.h.
 */
#ifndef STORE_S3_WATCH_H
#define STORE_S3_WATCH_H

#include <stdint.h>

struct s3_watch;
struct store;

enum { S3_WATCH_MS = 24 * 3600 * 1000, S3_WATCH_RETRY_MS = 10 * 60 * 1000 };

/* store is borrowed. broken is called at most once; then the watch has ended. */
struct s3_watch *s3_watch_start(struct store *store,
                                void (*broken)(void *context, const char *why),
                                void *context);
/* Waits for a probe that is under way. NULL is fine. */
void s3_watch_stop(struct s3_watch *w);

#endif
