/*
 * http_canned.h - a small HTTP server for one test: answers by a table of method and
 * path, remembers what it was asked.
 */
#ifndef TESTS_UNIT_HTTP_CANNED_H
#define TESTS_UNIT_HTTP_CANNED_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/task.h"
#include "unit/test.h"

enum { CANNED_MAX = 8, CANNED_REQUEST_MAX = 8192 };

struct canned_answer {
    const char *request; /* "GET /path", the beginning of the first line */
    const char *needs;   /* must stand somewhere in the request; NULL: nothing */
    int status;
    const char *body;
    int delay_ms;
};

struct canned {
    int socket;
    int port;
    struct thread *thread;
    struct mutex lock; /* guards the rest */
    struct canned_answer answers[CANNED_MAX];
    int asked[CANNED_MAX];
    bool stopping;
};

static inline void canned_answer(struct canned *c, int connection)
{
    char request[CANNED_REQUEST_MAX + 1];
    char head[256];
    size_t size = 0;
    struct canned_answer answer = {NULL, NULL, 404, "nothing", 0};

    for (;;) {
        ssize_t got = recv(connection, request + size, CANNED_REQUEST_MAX - size, 0);
        if (got <= 0) return;
        size += (size_t)got;
        request[size] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        if (!end) continue;
        const char *length = strstr(request, "Content-Length: ");
        size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
        if (size >= (size_t)(end - request) + 4 + body) break;
    }
    mutex_lock(&c->lock);
    for (int i = 0; i < CANNED_MAX && c->answers[i].request; i++) {
        const struct canned_answer *a = &c->answers[i];
        if (strncmp(request, a->request, strlen(a->request)) != 0) continue;
        c->asked[i]++;
        if (!a->needs || strstr(request, a->needs)) answer = *a;
        break;
    }
    mutex_unlock(&c->lock);
    if (answer.delay_ms) task_sleep_ms(answer.delay_ms);
    int head_size = snprintf(head, sizeof head,
                             "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n"
                             "Connection: close\r\n\r\n",
                             answer.status, strlen(answer.body));
    (void)send(connection, head, (size_t)head_size, MSG_NOSIGNAL);
    (void)send(connection, answer.body, strlen(answer.body), MSG_NOSIGNAL);
}

static inline void canned_run(void *arg)
{
    struct canned *c = arg;
    for (;;) {
        int connection = accept(c->socket, NULL, NULL);
        mutex_lock(&c->lock);
        bool stopping = c->stopping;
        mutex_unlock(&c->lock);
        if (connection >= 0 && !stopping) canned_answer(c, connection);
        if (connection >= 0) close(connection);
        if (stopping) return;
    }
}

static inline void canned_start(struct canned *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *c = (struct canned){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(c->socket, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(c->socket, 16), 0);
    assert_int_equal(getsockname(c->socket, (struct sockaddr *)&address, &size), 0);
    c->port = ntohs(address.sin_port);
    mutex_init(&c->lock);
    c->thread = thread_start("canned", canned_run, c);
}

static inline void canned_set(struct canned *c, int i, struct canned_answer answer)
{
    mutex_lock(&c->lock);
    c->answers[i] = answer;
    mutex_unlock(&c->lock);
}

static inline int canned_asked(struct canned *c, int i)
{
    mutex_lock(&c->lock);
    int asked = c->asked[i];
    mutex_unlock(&c->lock);
    return asked;
}

static inline void canned_stop(struct canned *c)
{
    mutex_lock(&c->lock);
    c->stopping = true;
    mutex_unlock(&c->lock);
    shutdown(c->socket, SHUT_RDWR);
    thread_join(c->thread);
    close(c->socket);
    mutex_release(&c->lock);
}

#endif
