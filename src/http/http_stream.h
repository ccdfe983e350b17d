/*
 * http_stream.h - bodies that are passed on while they arrive.
 *
 * A handler that does not look at bodies need not hold them: a large request is given
 * to it while its body still arrives, if it was admitted so (request->streams), and a
 * large answer can be written piece by piece. Between a client and the handler lies a
 * ring of HTTP_STREAM_BYTES each way, so whichever side is slow slows the other down.
 *
 * A slow client is broken off as ever (408; an answer that is not read). It keeps its
 * worker until then, so at most half of a lane's workers stream at a time; the others'
 * bodies are held whole, and within the memory that all bodies have together.
 *
 * Threads  the worker that handles the request.
 */
#ifndef HTTP_HTTP_STREAM_H
#define HTTP_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "http/http_server.h"

enum {
    HTTP_STREAM_FROM = 256 << 10, /* a body is held until it has so many bytes */
    HTTP_STREAM_BYTES = 512 << 10 /* at once, each way */
};

#define HTTP_STREAM_UNKNOWN UINT64_MAX

/* ---- a request that streams: its body as sent, not gunzipped ---- */

/* Of the whole body; HTTP_STREAM_UNKNOWN: it comes in chunks. */
uint64_t http_stream_size(const struct http_request *request);
/* Once the body has ended, so much is left until op's deadline; there is none before.
 */
int64_t http_stream_timeout_ms(const struct http_request *request);
/* Waits at most wait_ms for more of the body, or its end; false when none came. */
bool http_stream_wait(const struct http_request *request, int64_t wait_ms);
/* The next bytes, at most room, none if there are none just now. *ended: that was all;
 * op has got its deadline. A body that breaks off cancels op instead. */
size_t http_stream_read(struct op *op, const struct http_request *request, void *into,
                        size_t room, bool *ended);

/* ---- an answer that streams ---- */

/*
 * Sends response, without a body, as the head of an answer of size bytes, which
 * http_stream_write gives. What response says afterwards is only counted. False: this
 * answer must be held whole; nothing has happened.
 */
bool http_stream_begin(const struct http_request *request,
                       struct http_response *response, uint64_t size);
/*
 * Waits for the client, whatever op's deadline. ERR_CANCELED: it went away. A handler
 * that returns before size bytes were written breaks the connection off, which tells
 * the client that its answer is not whole. ERR_LIMIT: that is more than size.
 */
enum err http_stream_write(struct op *op, const struct http_request *request,
                           struct slice piece);

#endif
