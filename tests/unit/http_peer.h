/*
 * http_peer.h - an HTTP server that behaves as badly as a test wants.
 *
 * One thread a connection. What it does to a request is decided by `mode` when the
 * request has arrived whole; /health is answered with 200 unless `sick`, and says for
 * how long the store has been silent.
 */
#ifndef TESTS_UNIT_HTTP_PEER_H
#define TESTS_UNIT_HTTP_PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/task.h"
#include "unit/test.h"

enum peer_mode {
    PEER_ANSWER,      /* status, fields and body */
    PEER_THEN_CLOSE,  /* the same, and closes the connection without a word */
    PEER_CLOSE,       /* closes instead of answering */
    PEER_RESET,       /* resets the connection instead: what is still sent is refused */
    PEER_FIRST_CLOSE, /* answers a connection's first request, closes at its second */
    PEER_HALF,        /* half of the body, then closes */
    PEER_HANG         /* never answers */
};

enum { PEER_CONNECTIONS = 64, PEER_REQUEST = 256 << 10, PEER_BODIES = 4 };

struct http_peer {
    int fd, port;
    struct thread *acceptor, *threads[PEER_CONNECTIONS];
    int fds[PEER_CONNECTIONS];
    atomic_int connections, requests, mode, silent_ms;
    atomic_bool sick, stopping;
    int status;
    const char *fields; /* "Name: value\r\n…" */
    const char *body;
    char *kept[PEER_BODIES]; /* bodies that may still be on their way */
    struct mutex lock;       /* guards last while several connections are busy */
    char last[PEER_REQUEST]; /* the request that came last, not to /health */
};

struct peer_connection {
    struct http_peer *peer;
    int fd;
};

static inline void peer_send(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0) return;
        text += sent;
        size -= (size_t)sent;
    }
}

/* One request, terminated; false when the connection ended before it was whole. One in
 * chunks is whole with its head, unless they are to be awaited. */
static inline bool peer_read(int fd, char *out, bool await_chunks)
{
    size_t size = 0, whole = 0;
    while (size < PEER_REQUEST - 1 && (whole == 0 || size < whole)) {
        ssize_t got = recv(fd, out + size, PEER_REQUEST - 1 - size, 0);
        if (got <= 0) return false;
        size += (size_t)got;
        out[size] = '\0';
        char *end = strstr(out, "\r\n\r\n"), *length = strstr(out, "Content-Length: ");
        if (end && whole == 0)
            whole = (size_t)(end - out) + 4 +
                    (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
        bool chunks = end && strstr(out, "Transfer-Encoding: chunked");
        if (chunks && await_chunks)
            whole = strcmp(out + size - 5, "0\r\n\r\n") == 0 ? size : PEER_REQUEST;
    }
    return true;
}

static inline void peer_answer(struct http_peer *p, int fd, bool half)
{
    char head[1024];
    int size =
        snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n",
                 p->status, strlen(p->body), p->fields);
    peer_send(fd, head, (size_t)size);
    peer_send(fd, p->body, half ? strlen(p->body) / 2 : strlen(p->body));
}

/* As close does with bytes unread, but the descriptor stays ours. */
static inline void peer_reset(int fd)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    assert_int_equal(connect(fd, &nobody, sizeof nobody), 0);
}

static inline bool peer_serve(struct http_peer *p, int fd, char *request, int nth)
{
    char healthy[128];
    if (!peer_read(fd, request, atomic_load(&p->mode) == PEER_ANSWER)) return false;
    if (strncmp(request, "GET /health ", 12) == 0) {
        if (!atomic_load(&p->sick)) {
            int size = snprintf(healthy, sizeof healthy,
                                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                                "X-Elacsym-Store-Silent-Ms: %d\r\n\r\n{}",
                                atomic_load(&p->silent_ms));
            peer_send(fd, healthy, (size_t)size);
            return true;
        }
    } else {
        atomic_fetch_add(&p->requests, 1);
        mutex_lock(&p->lock);
        memcpy(p->last, request, PEER_REQUEST);
        mutex_unlock(&p->lock);
    }
    switch (atomic_load(&p->mode)) {
    case PEER_ANSWER: peer_answer(p, fd, false); return true;
    case PEER_THEN_CLOSE: peer_answer(p, fd, false); return false;
    case PEER_FIRST_CLOSE:
        if (nth == 0) peer_answer(p, fd, false);
        return nth == 0;
    case PEER_HALF: peer_answer(p, fd, true); return false;
    case PEER_RESET: peer_reset(fd); return false;
    case PEER_HANG:
        while (recv(fd, request, 1, 0) > 0)
            ;
        return false;
    default: return false;
    }
}

static inline void peer_connection(void *arg)
{
    struct peer_connection *c = arg;
    char *request = malloc(PEER_REQUEST);
    int nth = 0;
    while (peer_serve(c->peer, c->fd, request, nth))
        nth++;
    (void)shutdown(c->fd, SHUT_RDWR);
    free(request);
    free(c);
}

static inline void peer_accept(void *arg)
{
    struct http_peer *p = arg;
    for (;;) {
        int fd = accept(p->fd, NULL, NULL);
        if (fd < 0 || atomic_load(&p->stopping)) {
            if (fd >= 0) (void)close(fd);
            return;
        }
        int n = atomic_load(&p->connections);
        assert_true(n < PEER_CONNECTIONS);
        struct peer_connection *c = malloc(sizeof *c);
        *c = (struct peer_connection){p, fd};
        p->fds[n] = fd;
        atomic_store(&p->connections, n + 1);
        p->threads[n] = thread_start("peer", peer_connection, c);
    }
}

static inline struct http_peer *peer_start(void)
{
    struct http_peer *p = calloc(1, sizeof *p);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    mutex_init(&p->lock);
    p->status = 200;
    p->fields = "Content-Type: application/json\r\n";
    p->body = "{}";
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(p->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(p->fd, 64), 0);
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)&address, &size), 0);
    p->port = ntohs(address.sin_port);
    p->acceptor = thread_start("peer accept", peer_accept, p);
    return p;
}

/* The caller's to free. */
static inline char *long_text(size_t size)
{
    char *text = malloc(size + 1);
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)('a' + i % 23);
    text[size] = '\0';
    return text;
}

/* Answers with text from now on, and frees it in the end. */
static inline void peer_keep(struct http_peer *p, char *text)
{
    size_t n = 0;
    while (p->kept[n])
        assert_true(++n < PEER_BODIES);
    p->kept[n] = text;
    p->body = text;
}

static inline void peer_stop(struct http_peer *p)
{
    atomic_store(&p->stopping, true);
    (void)shutdown(p->fd, SHUT_RDWR);
    thread_join(p->acceptor);
    (void)close(p->fd);
    for (int i = 0; i < atomic_load(&p->connections); i++) {
        (void)shutdown(p->fds[i], SHUT_RDWR);
        thread_join(p->threads[i]);
        (void)close(p->fds[i]);
    }
    for (size_t i = 0; i < PEER_BODIES; i++)
        free(p->kept[i]);
    mutex_release(&p->lock);
    free(p);
}

/* A port that nobody listens on: bound, so that nobody else takes it, and no more. */
static inline int peer_closed_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&address, &size), 0);
    return ntohs(address.sin_port);
}

#endif
