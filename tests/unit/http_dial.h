/*
 * http_dial.h - raw clients of a server on loopback: connections that give up after
 * half a minute, and bytes sent as they are.
 */
#ifndef TESTS_UNIT_HTTP_DIAL_H
#define TESTS_UNIT_HTTP_DIAL_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "unit/test.h"

static inline int dial_port(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(0, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
                                   sizeof patience));
    assert_int_equal(0, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
                                   sizeof patience));
    assert_int_equal(0, connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

/* False: the server does not take all of it. */
static inline bool send_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static inline void send_text(int fd, const char *text)
{
    assert_true(send_all(fd, text, strlen(text)));
}

#endif
