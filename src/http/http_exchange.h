/*
 * http_exchange.h - one request and its answer.
 *
 * exchange_new → exchange_head (or exchange_bad) → exchange_room and exchange_body →
 * exchange_submit → a worker fills in the response → exchange_write_head, and the
 * connection sends it → exchange_free. Whatever is refused on the way has a response
 * too, in the handler's words.
 *
 * Threads  the connection's loop owns it, except from a successful exchange_submit
 *          until answered arrives, when a worker does; exchange_cancel may be called
 *          then too.
 */
#ifndef HTTP_HTTP_EXCHANGE_H
#define HTTP_HTTP_EXCHANGE_H

#include "base/op.h"
#include "http/http_head.h"
#include "http/http_loop.h"
#include "http/http_parse.h"
#include "http/http_shared.h"

struct exchange {
    struct queued job;            /* in its lane */
    struct loop_message answered; /* to its loop */
    struct http_shared *shared;
    struct loop *loop;
    void *owner; /* for who is told by answered */

    struct http_parse parse;
    struct http_terms terms;
    struct http_request request;
    int lane; /* enum http_lane or LANE_NONE */
    size_t body_max;
    struct buf body;
    size_t reserved; /* of the body memory */

    struct http_response response; /* status 0: none yet */
    struct buf head;               /* of the answer */
    bool head_only;                /* a HEAD request */
    int64_t start_us;              /* the head was whole, or found bad; 0: not yet */
    struct op op;
    char id[HTTP_REQUEST_ID_MAX + 1];
};

/* What to do once the head is there. */
enum exchange_next {
    EXCHANGE_BODY,  /* read the body */
    EXCHANGE_DROP,  /* read the body and drop it, then send the refusal */
    EXCHANGE_REFUSE /* send the refusal now and close */
};

/* answered: called on the loop's thread when a worker is done. */
struct exchange *exchange_new(struct http_shared *shared, struct loop *loop,
                              void (*answered)(struct loop_message *m), void *owner);
struct exchange *exchange_of(struct loop_message *m);
/* Counts it, if it ever began. */
void exchange_free(struct exchange *x);

/* The head is whole: checked and admitted. */
enum exchange_next exchange_head(struct exchange *x);
/* The parser says that it is bad. */
void exchange_bad(struct exchange *x);

/* Where size of the next bytes of a body may be put, 1 at least; then they are passed
 * to exchange_body from there, which copies nothing. NULL: refused, there is no memory.
 */
uint8_t *exchange_room(struct exchange *x, size_t *size);
/* The next bytes of the body. False: refused, it is too large, or there is no memory.
 */
bool exchange_body(struct exchange *x, struct slice piece);

/* The request is whole. False: refused, there is a response already. */
bool exchange_submit(struct exchange *x);
/* The client went away. */
void exchange_cancel(struct exchange *x);

/* The connection is closed after a refusal made here. */
void exchange_refuse(struct exchange *x, int status, const char *why);
/* Fills in head. */
void exchange_write_head(struct exchange *x);

/* For the lanes. */
void exchange_run(struct queued *job);
void exchange_shed(struct queued *job);

#endif
