/*
 * http_shared.h - what all requests of a server share: options, memory, counters.
 *
 * Threads  any.
 */
#ifndef HTTP_HTTP_SHARED_H
#define HTTP_HTTP_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http_lane.h"
#include "http/http_server.h"

struct metric;

/* What was refused before its lane was known has none. */
enum { LANE_NONE = HTTP_LANES, LANE_NAMES, STATUS_MAX = 600 };

struct http_shared {
    struct http_server_options options; /* defaults filled in */
    struct lane *lanes[HTTP_LANES];
    atomic_bool draining;
    atomic_size_t in_flight;
    atomic_size_t connections;
    atomic_uint_fast64_t body_memory;
    atomic_size_t streams[HTTP_LANES]; /* whose bodies or answers flow now */
    /* A connection is gone and its place is free; any loop's thread. */
    void (*place_freed)(struct http_shared *s);
    struct {
        _Atomic(struct metric *) requests[LANE_NAMES][STATUS_MAX];
        struct metric *seconds[LANE_NAMES];
        struct metric *shed[HTTP_LANES];
        struct metric *in_flight, *connections, *bytes_in, *bytes_out, *canceled;
        struct metric *body_memory;
    } metrics;
};

void shared_init(struct http_shared *s, const struct http_server_options *options);
void shared_count_request(struct http_shared *s, int lane, int status);

/* A place for a body that flows: it may keep a worker for as long as its client is
 * slow, so at most half of a lane's have one. False: there is none now. */
bool shared_take_stream(struct http_shared *s, int lane);
void shared_give_stream(struct http_shared *s, int lane);

/* Takes bytes of what all bodies may have together; false: they are not there. */
bool shared_reserve(struct http_shared *s, size_t bytes);
/* Takes them anyway: what is there is there, but it holds up others. */
void shared_reserve_anyway(struct http_shared *s, size_t bytes);
void shared_unreserve(struct http_shared *s, size_t bytes);

#endif
