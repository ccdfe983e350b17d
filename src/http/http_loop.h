/*
 * http_loop.h - one thread that waits for sockets, for messages and for time.
 *
 * Sockets are watched edge-triggered for everything at once: a request costs no
 * epoll_ctl, and whoever is told that a socket is readable reads until it is not, or
 * asks to be called again. Each client waits in one of a few queues, and all in one
 * queue wait equally long, so the oldest is always next: a timer costs nothing but two
 * links, and ten thousand idle clients cost no time.
 *
 * Threads  loop_post, loop_set_wait and loop_stop from any. The others on
 *          the loop's own thread only; all calls to clients are made there.
 * Memory   clients are their owners'; they may remove themselves in any call.
 */
#ifndef HTTP_HTTP_LOOP_H
#define HTTP_HTTP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_client;

/* Queues to wait in. */
enum loop_wait {
    LOOP_IDLE,
    LOOP_HEAD,
    LOOP_MOVING,
    LOOP_LINGER,
    LOOP_PAUSE,
    LOOP_FLOW, /* somebody else has it too; told when the loop is to end, to be held */
    LOOP_HELD, /* for ever: somebody else has it, and the loop does not end before */
    LOOP_WAITS
};

struct loop_calls {
    /* Something happened to the socket; 0: loop_again was asked for. */
    void (*ready)(struct loop_client *c, uint32_t events);
    /* Its time is up; it waits once more, unless it does something else. */
    void (*expired)(struct loop_client *c);
    /* The loop ends: it must leave. */
    void (*stopped)(struct loop_client *c);
};

struct loop_link {
    struct loop_link *prev, *next;
};

/* Embedded in whoever has a socket. */
struct loop_client {
    struct loop_link waiting; /* in a queue */
    struct loop_link again;
    const struct loop_calls *calls;
    struct loop *loop;
    int64_t since_ms; /* it waits since then */
    int fd;
};

/* Embedded in what is handed over to the loop's thread. */
struct loop_message {
    struct loop_message *next;
    void (*arrived)(struct loop_message *m);
};

/* waits_ms: how long is waited in each queue. */
struct loop *loop_new(const char *name, const int64_t waits_ms[LOOP_WAITS]);
void loop_start(struct loop *l);
/* Ends the thread as soon as no client is held; the others are told and leave. */
void loop_stop(struct loop *l);
void loop_join(struct loop *l);
void loop_free(struct loop *l); /* after loop_join, or never started */

void loop_post(struct loop *l, struct loop_message *m);
/* Those who wait already are included. */
void loop_set_wait(struct loop *l, enum loop_wait queue, int64_t ms);

/* A new client, not waiting and not watched. */
void loop_client_init(struct loop_client *c, struct loop *l, int fd,
                      const struct loop_calls *calls);
/* events: of epoll. False: the kernel has no memory for it. */
bool loop_watch(struct loop_client *c, uint32_t events);
void loop_unwatch(struct loop_client *c);
/* Waits in that queue from now on, and in no other. */
void loop_wait(struct loop_client *c, enum loop_wait queue);
/* Calls ready once more, after the others had their turn. */
void loop_again(struct loop_client *c);
/* Out of all queues. The caller closes the descriptor. */
void loop_remove(struct loop_client *c);
/* The time when the loop last woke up, of clock_ms. */
int64_t loop_now_ms(const struct loop *l);

#endif
