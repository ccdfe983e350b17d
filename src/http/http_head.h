/*
 * http_head.h - what a well-formed head asks for. RFC 9110.
 *
 * Pure functions over a head that http_parse has accepted.
 */
#ifndef HTTP_HTTP_HEAD_H
#define HTTP_HTTP_HEAD_H

#include <stdbool.h>

#include "http/http_parse.h"

enum {
    HTTP_REQUEST_ID_MAX = 64,
    HTTP_QUERY_PARTS_MAX = 64 /* of a query string, parted by '&' */
};

struct http_terms {
    bool keep_alive;
    bool expects_continue;
    bool gzip_body;
    bool gzip_answer; /* the client takes gzip */
};

/* 0, or the status to refuse with and why (static). */
int http_head_terms(struct http_parse *head, struct http_terms *terms,
                    const char **why);

/* The client's X-Request-Id if it is 1 to HTTP_REQUEST_ID_MAX of [A-Za-z0-9._-], else
 * NULL. Heads that were found bad may be asked too. */
const char *http_head_id(const struct http_parse *head);

#endif
