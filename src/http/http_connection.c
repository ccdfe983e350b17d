/*
 *            first byte          head whole         body whole
 *   IDLE ───────────────→ HEAD ───────────→ BODY ─────────────→ WORK
 *    ↑                      │ bad, slow       │ too large, slow   │ answered
 *    │ keep-alive           ↓                 ↓                   ↓
 *    └────────────────────────────────────────────────────────── SEND ───→ LINGER
 *                                                                    close
 * Bodies that flow (http_stream.h), with a worker at their other end:
 *
 *   BODY ───→ FLOW ─ body whole, broken, or the client gone ─→ WORK, … ─ answered ─→
 * SEND WORK ───→ RELAY ─ all sent ─→ IDLE or LINGER, as after SEND
 *
 * A function that returns a step may have freed the connection when it says STEP_GONE.
 */
#include "http/http_connection.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <linux/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "http/http_answer.h"
#include "http/http_exchange.h"
#include "http/http_flow.h"

enum {
    /* Of heads and chunks at once; the rest waits in the socket. */
    RECEIVE_MAX = 16 << 10,
    STEPS_MAX = 16 /* before others get their turn */
};

enum phase {
    PHASE_IDLE,
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_FLOW,
    PHASE_WORK,
    PHASE_RELAY,
    PHASE_SEND,
    PHASE_LINGER
};

enum step {
    STEP_ON,    /* there may be more to do */
    STEP_WAITS, /* for the socket or a worker */
    STEP_GONE   /* freed */
};

struct connection {
    struct loop_client client; /* first */
    struct http_shared *shared;
    struct exchange *exchange; /* NULL: IDLE, LINGER */
    struct buf early;          /* received behind the request that is worked on */
    uint64_t moved; /* BODY, FLOW: bytes received; SEND, RELAY: sent, with the head */
    uint64_t mark;  /* bytes that had moved when the present window began */
    enum phase phase;
    bool readable; /* the socket may have bytes */
    bool gone;     /* the client shut its side */
    bool marked;   /* SEND, RELAY: mark is known */
    bool stuck;    /* FLOW, RELAY: it is the worker's turn … */
    bool excused;  /* … or was, at some time of the present window */
    bool done;     /* RELAY: the worker has written all that it will */
    bool lost;     /* WORK: nobody to answer any more */
};

static struct connection *connection_of(struct loop_client *client)
{
    return (struct connection *)(void *)client;
}

static void enter(struct connection *c, enum phase phase)
{
    static const enum loop_wait waits[] = {
        [PHASE_IDLE] = LOOP_IDLE,   [PHASE_HEAD] = LOOP_HEAD,
        [PHASE_BODY] = LOOP_MOVING, [PHASE_FLOW] = LOOP_FLOW,
        [PHASE_WORK] = LOOP_HELD,   [PHASE_RELAY] = LOOP_FLOW,
        [PHASE_SEND] = LOOP_MOVING, [PHASE_LINGER] = LOOP_LINGER};
    c->phase = phase;
    c->moved = c->mark = 0;
    c->marked = c->stuck = c->excused = c->done = false;
    loop_wait(&c->client, waits[phase]);
}

static bool worker_has_it(const struct connection *c)
{
    return c->phase == PHASE_WORK || c->phase == PHASE_FLOW ||
           (c->phase == PHASE_RELAY && !c->done);
}

static enum step leave(struct connection *c)
{
    struct http_shared *s = c->shared;
    assert(!worker_has_it(c));
    if (c->exchange) exchange_free(c->exchange);
    loop_remove(&c->client);
    (void)close(c->client.fd);
    buf_release(&c->early);
    mem_free(c);
    atomic_fetch_sub(&s->connections, 1);
    metric_change(s->metrics.connections, -1);
    s->place_freed(s);
    return STEP_GONE;
}

/* ---- answers ---- */

static enum step linger(struct connection *c)
{
    (void)shutdown(c->client.fd, SHUT_WR);
    buf_release(&c->early);
    enter(c, PHASE_LINGER);
    return STEP_ON;
}

static enum step answer_is_sent(struct connection *c)
{
    bool keep_alive = c->exchange->terms.keep_alive;
    exchange_free(c->exchange);
    c->exchange = NULL;
    if (!keep_alive) return linger(c);
    enter(c, PHASE_IDLE);
    return STEP_ON;
}

static int unsent(const struct connection *c, struct iovec parts[2])
{
    const struct exchange *x = c->exchange;
    const struct buf *bufs[2] = {&x->head, &x->response.body};
    int whole = x->head_only || !http_answer_has_body(x->response.status) ? 1 : 2;
    size_t skip = (size_t)c->moved;
    int count = 0;
    for (int i = 0; i < whole; i++) {
        if (skip < bufs[i]->size)
            parts[count++] = (struct iovec){bufs[i]->data + skip, bufs[i]->size - skip};
        skip -= skip < bufs[i]->size ? skip : bufs[i]->size;
    }
    return count;
}

static enum step send_more(struct connection *c)
{
    struct iovec parts[2];
    int count;
    while ((count = unsent(c, parts)) > 0) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(c->client.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return STEP_WAITS;
        if (n < 0 && errno != EINTR) return leave(c);
        if (n > 0) c->moved += (uint64_t)n;
    }
    return answer_is_sent(c);
}

static enum step begin_answer(struct connection *c)
{
    exchange_write_head(c->exchange, c->exchange->response.body.size);
    enter(c, PHASE_SEND);
    return send_more(c);
}

static enum step refuse(struct connection *c, int status, const char *why)
{
    exchange_refuse(c->exchange, status, why);
    return begin_answer(c);
}

/* Nothing can be sent any more: as soon as the worker has noticed, that was it. */
static enum step lose(struct connection *c)
{
    if (!worker_has_it(c)) return leave(c);
    exchange_cancel(c->exchange);
    enter(c, PHASE_WORK);
    c->lost = true;
    return STEP_WAITS;
}

static enum step wait_for_worker(struct connection *c)
{
    c->stuck = c->excused = true;
    return STEP_WAITS;
}

/* ---- answers that flow ---- */

static struct slice unsent_relay(const struct connection *c)
{
    const struct exchange *x = c->exchange;
    if (c->moved >= x->head.size) return flow_look(x->out);
    return slice_of(x->head.data + c->moved, x->head.size - (size_t)c->moved);
}

static enum step relay_is_sent(struct connection *c)
{
    if (!c->done) return wait_for_worker(c);
    return c->exchange->out_left == 0 ? answer_is_sent(c) : leave(c);
}

static enum step relay_more(struct connection *c)
{
    struct slice bytes;
    while ((bytes = unsent_relay(c)).size > 0) {
        ssize_t n =
            send(c->client.fd, bytes.data, bytes.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return STEP_WAITS;
        if (n < 0 && errno != EINTR) return lose(c);
        if (n <= 0) continue;
        if (c->moved >= c->exchange->head.size) flow_skip(c->exchange->out, (size_t)n);
        c->moved += (uint64_t)n;
    }
    return relay_is_sent(c);
}

static enum step begin_relay(struct connection *c)
{
    enter(c, PHASE_RELAY);
    return relay_more(c);
}

/* ---- requests ---- */

/* A few bytes on a connection that has sent nothing else yet: they fit. */
static void send_continue(struct connection *c)
{
    (void)send(c->client.fd, http_continue.data, http_continue.size,
               MSG_NOSIGNAL | MSG_DONTWAIT);
}

static enum step head_is_whole(struct connection *c, bool body_follows)
{
    switch (exchange_head(c->exchange)) {
    case EXCHANGE_BODY:
        if (c->exchange->terms.expects_continue && !body_follows) send_continue(c);
        break;
    case EXCHANGE_DROP: break;
    case EXCHANGE_REFUSE: return begin_answer(c);
    }
    enter(c, PHASE_BODY);
    return STEP_ON;
}

/* It broke, and the worker is to notice. */
static enum step end_flow(struct connection *c)
{
    enter(c, PHASE_WORK);
    return STEP_WAITS;
}

static enum step break_flow(struct connection *c, int status, const char *why)
{
    exchange_flow_breaks(c->exchange, status, why);
    return end_flow(c);
}

/* No worker took it. */
static enum step refused_flow(struct connection *c)
{
    exchange_flow_settle(c->exchange, false);
    return begin_answer(c);
}

static enum step body_has_come(struct connection *c, struct slice piece)
{
    struct exchange *x = c->exchange;
    bool flows = c->phase == PHASE_FLOW;
    if (!flows && x->response.status != 0) return STEP_ON; /* dropped */
    if (!exchange_body(x, piece)) return flows ? end_flow(c) : begin_answer(c);
    if (flows || !exchange_begin_flow(x)) return STEP_ON;
    enter(c, PHASE_FLOW);
    return exchange_submit(x) ? STEP_ON : refused_flow(c);
}

/* rest: the beginning of what follows, waits for its turn. */
static enum step request_is_whole(struct connection *c, struct slice rest)
{
    bool flows = c->phase == PHASE_FLOW;
    assert(c->early.size == 0);
    buf_append_slice(&c->early, rest);
    enter(c, PHASE_WORK);
    if (flows)
        exchange_flow_ends(c->exchange);
    else if (!exchange_submit(c->exchange))
        return begin_answer(c);
    if (c->gone) exchange_cancel(c->exchange);
    return STEP_WAITS;
}

static void work_is_done(void *owner);
static void flow_has_moved(void *owner);

static void request_begins(struct connection *c)
{
    static const struct exchange_calls calls = {work_is_done, flow_has_moved};
    c->exchange = exchange_new(c->shared, c->client.loop, &calls, c);
    enter(c, PHASE_HEAD);
}

static bool takes_bytes(const struct connection *c)
{
    return c->phase == PHASE_HEAD || c->phase == PHASE_BODY || c->phase == PHASE_FLOW;
}

static enum step request_is_bad(struct connection *c)
{
    struct http_parse *parse = &c->exchange->parse;
    if (c->phase == PHASE_FLOW) return break_flow(c, parse->status, parse->why);
    exchange_bad(c->exchange);
    return begin_answer(c);
}

/* An answer that is sent in between ends the request, and with it what in holds. */
static enum step parse(struct connection *c, struct slice in)
{
    enum step step = STEP_ON;
    struct slice piece = SLICE_EMPTY;
    if (c->phase == PHASE_IDLE) request_begins(c);
    c->moved += in.size;
    while (step == STEP_ON && takes_bytes(c)) {
        switch (http_parse(&c->exchange->parse, &in, &piece)) {
        case HTTP_MORE: return STEP_ON;
        case HTTP_HEAD: step = head_is_whole(c, in.size > 0); break;
        case HTTP_BODY: step = body_has_come(c, piece); break;
        case HTTP_END: return request_is_whole(c, in);
        case HTTP_BAD: return request_is_bad(c);
        }
    }
    return step;
}

/* ---- receiving ---- */

/* How many bytes came; 0: the client has shut its side, or the connection is broken;
 * -1: none for now. A short read has emptied the socket; more is a new event, except
 * the end, which may have been announced already. */
static ssize_t receive(struct connection *c, void *into, size_t size)
{
    ssize_t n;
    do {
        n = recv(c->client.fd, into, size, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) n = 0;
    if (n < 0 || (n > 0 && (size_t)n < size && !c->gone)) c->readable = false;
    return n;
}

static enum step read_early(struct connection *c)
{
    struct buf early = c->early;
    c->early = BUF_INIT;
    enum step step = parse(c, buf_slice(&early));
    buf_release(&early);
    return step;
}

/* Straight to where the body is gathered. */
static enum step read_body(struct connection *c)
{
    size_t size;
    uint8_t *room = exchange_room(c->exchange, &size);
    if (!room) return begin_answer(c);
    if (size > c->exchange->parse.left) size = (size_t)c->exchange->parse.left;
    ssize_t n = receive(c, room, size);
    if (n == 0) return leave(c);
    return n < 0 ? STEP_WAITS : parse(c, slice_of(room, (size_t)n));
}

static enum step read_bytes(struct connection *c)
{
    uint8_t bytes[RECEIVE_MAX];
    ssize_t n = receive(c, bytes, sizeof bytes);
    if (n == 0) return leave(c);
    if (n < 0) return STEP_WAITS;
    return c->phase == PHASE_LINGER ? STEP_ON : parse(c, slice_of(bytes, (size_t)n));
}

/* No more than the worker has room for. */
static enum step read_flow(struct connection *c)
{
    uint8_t bytes[RECEIVE_MAX];
    size_t room = flow_room(c->exchange->in);
    if (room == 0) return wait_for_worker(c);
    c->stuck = false; /* though nobody may have told us of the room */
    ssize_t n = receive(c, bytes, room < sizeof bytes ? room : sizeof bytes);
    if (n == 0) return lose(c);
    return n < 0 ? STEP_WAITS : parse(c, slice_of(bytes, (size_t)n));
}

/* A body whose size is known and that is kept. */
static bool gathers_body(const struct connection *c)
{
    const struct exchange *x = c->exchange;
    return c->phase == PHASE_BODY && x->response.status == 0 &&
           x->parse.body_size != HTTP_BODY_UNKNOWN;
}

static enum step go_on(struct connection *c)
{
    if (c->phase == PHASE_WORK || c->phase == PHASE_SEND || c->phase == PHASE_RELAY)
        return STEP_WAITS;
    if (c->early.size) return read_early(c);
    if (!c->readable) return STEP_WAITS;
    if (c->phase == PHASE_FLOW) return read_flow(c);
    return gathers_body(c) ? read_body(c) : read_bytes(c);
}

static void progress(struct connection *c)
{
    struct loop_client *client = &c->client;
    for (int i = 0; i < STEPS_MAX; i++)
        if (go_on(c) != STEP_ON) return;
    loop_again(client);
}

/* ---- what the loop calls ---- */

static void ready(struct loop_client *client, uint32_t events)
{
    struct connection *c = connection_of(client);
    uint32_t gone = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (gone) c->gone = true;
    if (gone || events & EPOLLIN) c->readable = true;
    if (gone && worker_has_it(c) && c->phase != PHASE_FLOW)
        exchange_cancel(c->exchange);
    if (c->phase == PHASE_SEND && send_more(c) != STEP_ON) return;
    if (c->phase == PHASE_RELAY && relay_more(c) != STEP_ON) return;
    progress(c);
}

static enum step answer(struct connection *c)
{
    bool whole = c->phase != PHASE_FLOW;
    if (c->phase == PHASE_RELAY) {
        c->done = true;
        return relay_more(c);
    }
    enter(c, PHASE_SEND);
    if (c->lost) return leave(c);
    exchange_flow_settle(c->exchange, whole);
    return begin_answer(c);
}

static void work_is_done(void *owner)
{
    struct connection *c = owner;
    assert(worker_has_it(c));
    if (answer(c) == STEP_ON) progress(c);
}

static void flow_has_moved(void *owner)
{
    struct connection *c = owner;
    enum step step = STEP_ON;
    c->stuck = false;
    if (c->phase == PHASE_WORK && atomic_load(&c->exchange->out_begun) && !c->lost)
        step = begin_relay(c);
    else if (c->phase == PHASE_RELAY)
        step = relay_more(c);
    if (step == STEP_ON) progress(c);
}

/* Closes a window; false when fewer bytes moved in it than must. */
static bool fast_enough(struct connection *c, uint64_t moved)
{
    const struct http_server_options *o = &c->shared->options;
    bool enough = moved - c->mark >= o->rate_min * (uint64_t)o->rate_window_ms / 1000;
    c->mark = moved;
    return enough;
}

/* Of all the connection's answers; what the kernel still has does not count. */
static uint64_t acknowledged_bytes(const struct connection *c)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(c->client.fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
    return info.tcpi_bytes_acked;
}

static void check_answer(struct connection *c)
{
    uint64_t acknowledged = acknowledged_bytes(c);
    bool fast = fast_enough(c, acknowledged);
    if (!fast && c->marked && !c->excused) {
        (void)lose(c);
        return;
    }
    c->marked = true;
    c->excused = c->stuck;
}

static void check_flow(struct connection *c)
{
    bool fast = fast_enough(c, c->moved);
    if (!fast && !c->excused)
        (void)break_flow(c, 408, "the body of the request came too slowly");
    else
        c->excused = c->stuck;
}

/* An empty line and nothing more asks for no answer. */
static enum step head_is_late(struct connection *c)
{
    if (!http_parse_begun(&c->exchange->parse)) return leave(c);
    return refuse(c, 408, "the head of the request took too long");
}

static void expired(struct loop_client *client)
{
    struct connection *c = connection_of(client);
    enum step step = STEP_WAITS;
    switch (c->phase) {
    case PHASE_IDLE:
    case PHASE_LINGER: (void)leave(c); break;
    case PHASE_HEAD: step = head_is_late(c); break;
    case PHASE_BODY:
        if (!fast_enough(c, c->moved))
            step = refuse(c, 408, "the body of the request came too slowly");
        break;
    case PHASE_FLOW: check_flow(c); break;
    case PHASE_RELAY:
    case PHASE_SEND: check_answer(c); break;
    case PHASE_WORK: assert(false); break;
    }
    if (step == STEP_ON) progress(c);
}

static void stopped(struct loop_client *client)
{
    (void)lose(connection_of(client));
}

void connection_new(struct http_shared *shared, struct loop *loop, int fd)
{
    static const struct loop_calls calls = {ready, expired, stopped};
    struct connection *c = mem_new(struct connection);
    c->shared = shared;
    metric_change(shared->metrics.connections, 1);
    loop_client_init(&c->client, loop, fd, &calls);
    enter(c, PHASE_IDLE);
    if (!loop_watch(&c->client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET))
        (void)leave(c);
}
