/*
 * http_connection.h - one client's socket: requests in, answers out, one at a time.
 *
 * Between two requests a connection holds no buffers. While a request is on its way it
 * has an exchange; bytes that came too early wait until the answer is sent. Every
 * answer that ends a connection is followed by a lingering close: our side is shut, and
 * what the client still sends is read off for a while, or a reset would take the answer
 * from it.
 *
 * Threads  its loop's.
 */
#ifndef HTTP_HTTP_CONNECTION_H
#define HTTP_HTTP_CONNECTION_H

#include "http/http_loop.h"
#include "http/http_shared.h"

enum { CONNECTION_LINGER_MS = 2000 };

/* Owns fd, a non-blocking socket, from now on; it was counted in shared->connections.
 */
void connection_new(struct http_shared *shared, struct loop *loop, int fd);

#endif
