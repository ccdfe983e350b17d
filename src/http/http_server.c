/*
 * LOOPS threads own the connections (http_connection), a lane of workers per kind of
 * request handles them (http_exchange, http_lane). The first loop accepts, and deals
 * the connections out in turn. When there is no place for one more it pauses, until a
 * place is freed; meanwhile idle connections have to go soon.
 */
#include "http/http_server.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "http/http_connection.h"
#include "http/http_exchange.h"
#include "http/http_loop.h"
#include "http/http_shared.h"

enum {
    LOOPS = 2,
    BACKLOG = 1024,
    ACCEPTS_MAX = 64,    /* at once, before others get their turn */
    FULL_IDLE_MS = 1000, /* idle time-out while there is no free place */
    PAUSE_MS = 1000,     /* after a failure to accept */
    WARN_EVERY_MS = 10000
};

/* A batch takes a long time to parse, and a query that shares a processor with it half
 * as long again or more. */
enum { WRITE_NICE = 5 };

static const char *const lane_threads[HTTP_LANES] = {[HTTP_LANE_ADMIN] = "http-admin",
                                                     [HTTP_LANE_WRITE] = "http-write",
                                                     [HTTP_LANE_QUERY] = "http-query",
                                                     [HTTP_LANE_FORWARD] =
                                                         "http-forward"};
static const char *const loop_threads[LOOPS] = {"http-loop-0", "http-loop-1"};

struct http_server {
    struct http_shared shared; /* first */
    struct loop_client listener;
    struct loop *loops[LOOPS];
    uint16_t port;
    atomic_bool paused; /* a place that gets free is to be told, */
    atomic_bool told;   /* and was: resume is on its way */
    struct loop_message resume;
    bool listening; /* this and what follows is the first loop's own */
    unsigned next_loop;
    int64_t quiet_until_ms;
};

static struct http_server *server_of(struct loop_client *listener)
{
    return (struct http_server *)(void *)((char *)listener -
                                          offsetof(struct http_server, listener));
}

/* ---- accepting ---- */

/* At most one line in WARN_EVERY_MS, or a full table would fill the log as well. */
static void warn(struct http_server *s, const char *event, const char *why)
{
    int64_t now_ms = loop_now_ms(s->loops[0]);
    if (now_ms < s->quiet_until_ms) return;
    s->quiet_until_ms = now_ms + WARN_EVERY_MS;
    log_warn(NULL, event, "why=%s connections_max=%zu", why,
             s->shared.options.connections_max);
}

/* Draining wins, whichever of two threads comes last. */
static void set_idle_wait(struct http_server *s, int64_t ms)
{
    for (int i = 0; i < LOOPS; i++) {
        loop_set_wait(s->loops[i], LOOP_IDLE, ms);
        if (atomic_load(&s->shared.draining)) loop_set_wait(s->loops[i], LOOP_IDLE, 0);
    }
}

static bool full(const struct http_server *s)
{
    return atomic_load(&s->shared.connections) >= s->shared.options.connections_max;
}

static void listen_again(struct http_server *s)
{
    if (s->listening || full(s) || atomic_load(&s->shared.draining)) return;
    s->listening = loop_watch(&s->listener, EPOLLIN);
    if (!s->listening) return;
    atomic_store(&s->paused, false);
    loop_remove(&s->listener);
    set_idle_wait(s, s->shared.options.idle_timeout_ms);
}

static void pause_accepting(struct http_server *s)
{
    loop_unwatch(&s->listener);
    s->listening = false;
    loop_wait(&s->listener, LOOP_PAUSE);
    atomic_store(&s->paused, true);
}

static void make_room(struct http_server *s)
{
    int64_t ms = s->shared.options.idle_timeout_ms;
    warn(s, "http connections full", "no free place");
    pause_accepting(s);
    set_idle_wait(s, ms < FULL_IDLE_MS ? ms : FULL_IDLE_MS);
    listen_again(s); /* if a place was freed before we said that it matters */
}

static bool passing_error(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EPROTO ||
           error == ENETDOWN || error == EHOSTUNREACH || error == ENETUNREACH;
}

/* A connection on its way to another loop. */
struct newcomer {
    struct loop_message message; /* first */
    struct http_server *server;
    struct loop *loop;
    int fd;
};

static void arrive(struct loop_message *m)
{
    struct newcomer *n = (struct newcomer *)(void *)m;
    connection_new(&n->server->shared, n->loop, n->fd);
    mem_free(n);
}

static void deal_out(struct http_server *s, int fd)
{
    unsigned index = s->next_loop++ % LOOPS;
    if (index == 0) {
        connection_new(&s->shared, s->loops[0], fd);
        return;
    }
    struct newcomer *n = mem_new(struct newcomer);
    *n = (struct newcomer){{.arrived = arrive}, s, s->loops[index], fd};
    loop_post(n->loop, &n->message);
}

/* False: nothing more to accept, or no room for it. */
static bool accept_one(struct http_server *s)
{
    if (full(s)) {
        make_room(s);
        return false;
    }
    int fd = accept4(s->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        atomic_fetch_add(&s->shared.connections, 1);
        deal_out(s, fd);
        return true;
    }
    int error = errno;
    if (passing_error(error)) return true;
    if (error != EAGAIN && !atomic_load(&s->shared.draining)) {
        warn(s, "http accept failed", strerror(error));
        pause_accepting(s);
    }
    return false;
}

static void listener_ready(struct loop_client *listener, uint32_t events)
{
    struct http_server *s = server_of(listener);
    (void)events;
    if (atomic_load(&s->shared.draining)) {
        loop_unwatch(listener);
        return;
    }
    for (int i = 0; i < ACCEPTS_MAX && accept_one(s); i++)
        ;
}

static void listener_expired(struct loop_client *listener)
{
    listen_again(server_of(listener));
}

static void listener_stopped(struct loop_client *listener)
{
    loop_remove(listener);
}

static void place_freed(struct http_shared *shared)
{
    struct http_server *s = (struct http_server *)(void *)shared;
    if (atomic_load(&s->paused) && !atomic_exchange(&s->told, true))
        loop_post(s->loops[0], &s->resume);
}

static void resume_arrived(struct loop_message *m)
{
    struct http_server *s =
        (struct http_server *)(void *)((char *)m -
                                       offsetof(struct http_server, resume));
    atomic_store(&s->told, false);
    listen_again(s);
}

/* ---- start and end ---- */

static int listen_on(const struct addrinfo *a)
{
    int one = 1, zero = 0;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    a->ai_protocol);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Accepted sockets inherit it: an answer is sent whole, nothing is to be waited
     * for.
     */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

static enum err socket_error(int error)
{
    if (error == EADDRINUSE) return ERR_BUSY;
    if (error == EACCES || error == EPERM) return ERR_DENIED;
    return error == EADDRNOTAVAIL ? ERR_INVALID : ERR_IO;
}

static enum err open_listener(struct op *op, const char *host, uint16_t port, int *fd)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed)
        return op_fail(op, ERR_INVALID, "listen on %s: %s", host, gai_strerror(failed));
    *fd = -1;
    for (struct addrinfo *a = found; a && *fd < 0; a = a->ai_next)
        *fd = listen_on(a);
    int error = errno;
    freeaddrinfo(found);
    if (*fd >= 0) return ERR_OK;
    return op_fail(op, socket_error(error), "listen on %s port %u: %s", host, port,
                   error == EADDRINUSE ? "another program has this port"
                                       : strerror(error));
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    int failed = getsockname(fd, (struct sockaddr *)&address, &size);
    assert(!failed);
    if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, &address, sizeof six);
        return ntohs(six.sin6_port);
    }
    struct sockaddr_in four;
    memcpy(&four, &address, sizeof four);
    return ntohs(four.sin_port);
}

static void make_lanes(struct http_server *s)
{
    const struct http_server_options *o = &s->shared.options;
    for (int lane = 0; lane < HTTP_LANES; lane++) {
        if (o->lane_threads[lane] == 0) continue;
        struct lane_options options = {.name = lane_threads[lane],
                                       .short_turns = lane == HTTP_LANE_QUERY ||
                                                      lane == HTTP_LANE_FORWARD,
                                       .nice = lane == HTTP_LANE_WRITE ? WRITE_NICE : 0,
                                       .threads = o->lane_threads[lane],
                                       .queue_max = o->lane_queue_max[lane],
                                       .delay_max_ms = o->lane_delay_max_ms[lane],
                                       .run = exchange_run,
                                       .shed = exchange_shed};
        s->shared.lanes[lane] = lane_new(&options);
    }
}

static void make_loops(struct http_server *s)
{
    const struct http_server_options *o = &s->shared.options;
    const int64_t waits_ms[LOOP_WAITS] = {
        [LOOP_IDLE] = o->idle_timeout_ms,     [LOOP_HEAD] = o->head_timeout_ms,
        [LOOP_MOVING] = o->rate_window_ms,    [LOOP_FLOW] = o->rate_window_ms,
        [LOOP_LINGER] = CONNECTION_LINGER_MS, [LOOP_PAUSE] = PAUSE_MS};
    for (int i = 0; i < LOOPS; i++)
        s->loops[i] = loop_new(loop_threads[i], waits_ms);
}

enum err http_server_start(struct op *op, const struct http_server_options *options,
                           struct http_server **out)
{
    static const struct loop_calls listener_calls = {listener_ready, listener_expired,
                                                     listener_stopped};
    int fd;
    *out = NULL;
    enum err e = open_listener(op, options->host, options->port, &fd);
    if (e) return e;

    struct http_server *s = mem_new(struct http_server);
    shared_init(&s->shared, options);
    s->shared.place_freed = place_freed;
    s->port = port_of(fd);
    s->resume.arrived = resume_arrived;
    make_lanes(s);
    make_loops(s);
    loop_client_init(&s->listener, s->loops[0], fd, &listener_calls);
    s->listening = loop_watch(&s->listener, EPOLLIN);
    assert(s->listening);
    for (int i = 0; i < LOOPS; i++)
        loop_start(s->loops[i]);
    *out = s;
    return ERR_OK;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

/* Shut down, a listening socket refuses at once, whatever its loop does just now. */
void http_server_drain(struct http_server *s)
{
    atomic_store(&s->shared.draining, true);
    (void)shutdown(s->listener.fd, SHUT_RD);
    set_idle_wait(s, 0);
}

size_t http_server_in_flight(const struct http_server *s)
{
    return atomic_load(&s->shared.in_flight);
}

/* A loop ends when no worker has anything of it; the first one before the others, since
 * it deals out to them. A worker may still be ringing its loop's bell after that, so
 * the loops are freed last. */
void http_server_free(struct http_server *s)
{
    if (!s) return;
    http_server_drain(s);
    for (int i = 0; i < LOOPS; i++) {
        loop_stop(s->loops[i]);
        loop_join(s->loops[i]);
    }
    for (int lane = 0; lane < HTTP_LANES; lane++)
        lane_free(s->shared.lanes[lane]);
    for (int i = 0; i < LOOPS; i++)
        loop_free(s->loops[i]);
    (void)close(s->listener.fd);
    mem_free(s);
}
