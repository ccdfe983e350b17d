/*
 * http_lane.h - workers that handle one kind of request, and the queue before them.
 *
 * Jobs start in the order they were submitted; http_queue says which are shed instead.
 *
 * Threads  lane_submit from any; run on a worker, shed on a worker or a submitter.
 */
#ifndef HTTP_HTTP_LANE_H
#define HTTP_HTTP_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http_queue.h"

struct lane;

struct lane_options {
    const char *name; /* of the threads */
    bool short_turns; /* on the processor, but soon (task.h) */
    int nice;         /* to others that want the processor (task.h) */
    size_t threads;
    size_t queue_max;
    int64_t delay_max_ms;
    /* Each job gets exactly one of the two; both must not keep the thread for long when
     * they shed. */
    void (*run)(struct queued *job);
    void (*shed)(struct queued *job);
};

struct lane *lane_new(const struct lane_options *options);
/* False when queue_max jobs are waiting. */
bool lane_submit(struct lane *l, struct queued *job);
/* Runs what is queued, then joins the threads. NULL is fine. */
void lane_free(struct lane *l);

#endif
