/*
 * http_head.h - is a request's head one that we want to answer? RFC 9112.
 *
 * Pure functions over the fields that the library parsed. A head that two servers in a
 * row could read differently (request smuggling) is refused, not repaired: two lengths,
 * a length and a transfer coding, a space before a colon, folded lines, bare LF or CR.
 */
#ifndef HTTP_HTTP_HEAD_H
#define HTTP_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_HEAD_BYTES_MAX = 16 << 10,
    HTTP_REQUEST_LINE_MAX = 8 << 10,
    HTTP_FIELDS_MAX = 100,
    HTTP_REQUEST_ID_MAX = 64
};

#define HTTP_BODY_UNKNOWN UINT64_MAX

struct http_field {
    const char *name;
    size_t name_size;
    const char *value;
    size_t value_size;
};

/* Everything points into the bytes of the head, where the library left it. */
struct http_head {
    const char *method;
    const char *target; /* as sent: path and query */
    size_t target_size;
    const char *version;
    size_t size; /* from the method up to the body */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t field_count; /* all of them, may exceed HTTP_FIELDS_MAX */
};

/* What the head says about the rest. */
struct http_framing {
    uint64_t body_size; /* HTTP_BODY_UNKNOWN: chunked */
    bool expects_continue;
    bool gzip_body;
    bool gzip_answer; /* the client takes gzip */
};

/*
 * 0, or the status to refuse with and why (static). A refusal because of the framing
 * means that nothing behind this head can be trusted: close the connection.
 */
int http_head_check(const struct http_head *head, struct http_framing *framing,
                    const char **why);

/*
 * Were the lines ended and parted as RFC 9112 wants? The library accepts a bare LF and
 * folded lines and says nothing, but leaves the head in place, with a NUL over each
 * CR, LF and colon; so where the fields lie tells how they were parted. True for
 * libmicrohttpd 0.9.75; others must check it themselves.
 */
bool http_head_layout_strict(const struct http_head *head);

/* 1 to HTTP_REQUEST_ID_MAX of [A-Za-z0-9._-]. */
bool http_request_id_sane(const char *id);

#endif
