/*
 * http_watch.h - accepts connections and watches over them: time, rate, departure.
 *
 * The HTTP library parses and writes, but knows only one time-out and does not look at
 * a connection whose request is being worked on. One thread here does the rest: it
 * accepts (and stops accepting at connections_max), closes what is idle, answers 408 to
 * heads and bodies that come too slowly, cancels the op of a client that went away, and
 * reads off what a refused client still sends, so that the refusal reaches it.
 *
 * Threads  any; each connection has its own lock. The table never moves, and an fd is
 *          only touched between watch_add and watch_remove, while it is surely open.
 * Memory   one place per connection, connections_max of them.
 */
#ifndef HTTP_HTTP_WATCH_H
#define HTTP_HTTP_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"

struct op;
struct watch;
struct watched; /* one connection */

struct watch_options {
    int listen_fd; /* owned by the watch from now on; non-blocking */
    size_t connections_max;
    int64_t idle_timeout_ms;
    int64_t head_timeout_ms; /* from a head's first byte to its last */
    int64_t window_ms;       /* bodies and answers must move rate_min bytes a second, */
    uint64_t rate_min;       /* on average over each window */
    void *context;
    /* Takes the fd over and calls watch_add for it; false: it was closed instead. */
    bool (*accepted)(void *context, int fd, const struct sockaddr *address,
                     socklen_t size);
    /* Appends the whole answer to somebody who is too slow: status line to body. */
    void (*refuse)(void *context, int status, const char *why, struct buf *answer);
};

struct watch *watch_new(const struct watch_options *options);
/* Starts its thread: connections may come, and call accepted, before this returns. */
void watch_start(struct watch *w);
/* Stops listening, and closes connections as soon as they are idle. */
void watch_drain(struct watch *w);
/* Ends the thread, closes all connections and waits (not for ever) until the library
 * has let them go: stopped in the middle of a malformed head, 0.9.75 would crash.
 * watch_add and what follows may still be called. */
void watch_stop(struct watch *w);
void watch_free(struct watch *w); /* after watch_stop, when no connection is left */

/* A connection begins; it waits for a head. */
struct watched *watch_add(struct watch *w, int fd);
/* It ends; the fd is about to be closed. */
void watch_remove(struct watched *c);

/* The request line is there, so the head's time is running. */
void watch_head_begins(struct watched *c);
/* The head is whole. False: the client was already told that it is too slow. */
bool watch_body_begins(struct watched *c);
void watch_body_bytes(struct watched *c, size_t bytes);
/* op is canceled when the client goes, until watch_answer_begins. */
void watch_work_begins(struct watched *c, struct op *op);
/* The answer is being sent; op, if there was one, is let go. */
void watch_answer_begins(struct watched *c);
/* True when the client was answered past the library. */
bool watch_request_ends(struct watched *c);

/* Sends answer past the library, which must then close the connection. */
void watch_answer(struct watched *c, struct slice answer);
/* When the connection is closed, read off for a while what the client still sends. */
void watch_linger(struct watched *c);

#endif
