/*
 * http_exchange.h - one request and its answer.
 *
 * exchange_new → exchange_head (or exchange_bad) → exchange_room and exchange_body →
 * exchange_submit → a worker fills in the response → exchange_write_head, and the
 * connection sends it → exchange_free. Whatever is refused on the way has a response
 * too, in the handler's words.
 *
 * Flowing (http_stream.h): exchange_submit comes early, after exchange_begin_flow, and
 * the rest of the body goes into `in` while the worker takes it out there. An answer
 * that flows has its head written by the worker and its body in `out`.
 *
 * Threads  the connection's loop owns it, except from a successful exchange_submit
 *          until answered arrives, when a worker does; exchange_cancel, the loop's ends
 *          of the flows and exchange_flow_* may be called then too.
 */
#ifndef HTTP_HTTP_EXCHANGE_H
#define HTTP_HTTP_EXCHANGE_H

#include "base/op.h"
#include "http/http_head.h"
#include "http/http_loop.h"
#include "http/http_parse.h"
#include "http/http_shared.h"

struct flow;

struct exchange {
    struct queued job;            /* in its lane */
    struct loop_message answered; /* to its loop */
    struct loop_message moved;    /* to its loop: a flow has room, bytes, or begun */
    atomic_bool told;             /* moved is on its way */
    struct http_shared *shared;
    struct loop *loop;
    const struct exchange_calls *calls;
    void *owner;

    struct http_parse parse;
    struct http_terms terms;
    struct http_request request;
    int lane; /* enum http_lane or LANE_NONE */
    size_t body_max;
    struct buf body;
    size_t reserved;   /* of the body memory */
    uint64_t received; /* bytes of the body, as sent */

    bool may_stream;  /* admitted so */
    bool has_stream;  /* one of its lane's places; the worker's, from submit on */
    struct flow *in;  /* NULL: the body is held whole */
    struct flow *out; /* NULL: so is the answer; for the loop once out_begun */
    atomic_bool out_begun;
    uint64_t out_size;      /* of the answer that flows */
    uint64_t out_left;      /* the worker's: bytes that are still to be written */
    int broken_status;      /* the loop's: what the body that flows came to, or 0 … */
    const char *broken_why; /* … static */

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

/* What is called on the loop's thread. */
struct exchange_calls {
    void (*answered)(void *owner); /* a worker is done */
    void (*moved)(void *owner);    /* a flow can be worked on */
};

struct exchange *exchange_new(struct http_shared *shared, struct loop *loop,
                              const struct exchange_calls *calls, void *owner);
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

/* Has enough of the body come to let the rest flow, and may it? Then it does from now
 * on, and the request is to be submitted. */
bool exchange_begin_flow(struct exchange *x);
/* The request is whole, or flows. False: refused, there is a response already. */
bool exchange_submit(struct exchange *x);
/* The body that flows has ended, or is broken: whoever has it is to stop, and the
 * client gets this status. */
void exchange_flow_ends(struct exchange *x);
void exchange_flow_breaks(struct exchange *x, int status, const char *why);
/* A worker was done with it before its body had ended, or it broke. */
void exchange_flow_settle(struct exchange *x, bool whole);
/* The client went away. */
void exchange_cancel(struct exchange *x);

/* The connection is closed after a refusal made here. */
void exchange_refuse(struct exchange *x, int status, const char *why);
/* Fills in head. */
void exchange_write_head(struct exchange *x, uint64_t body_size);
/* Wakes the loop for moved. */
void exchange_tell(void *exchange);

/* For the lanes. */
void exchange_run(struct queued *job);
void exchange_shed(struct queued *job);

#endif
