/*
 * http_answer.h - the bytes in front of an answer's body. RFC 9110, RFC 9112.
 */
#ifndef HTTP_HTTP_ANSWER_H
#define HTTP_HTTP_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct http_response;

/* "HTTP/1.1 100 Continue" and an empty line. */
extern const struct slice http_continue;

struct http_answer_options {
    const char *request_id;
    bool keep_alive;
    bool old_client; /* HTTP/1.0: closes unless told otherwise */
    uint64_t body_size;
    int64_t wall_ms; /* now */
};

/* Status line to empty line. */
void http_answer_head(const struct http_response *a,
                      const struct http_answer_options *options, struct buf *out);

/* May an answer of that status have a body? */
bool http_answer_has_body(int status);

#endif
