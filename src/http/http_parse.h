/*
 * http_parse.h - HTTP/1.1 requests out of bytes, strictly. RFC 9112.
 *
 * A pure state machine: bytes go in, cut wherever they were cut, events come out, the
 * same for every way of cutting. No sockets, no time. What two servers in a row could
 * read differently (request smuggling) is refused and never repaired: a bare CR or LF,
 * a folded line, NUL, spaces where none belong, two lengths, a length and a transfer
 * coding, two Hosts. The first offending byte decides, so nothing is read behind it.
 *
 * Memory   a copy of the head, at most HTTP_HEAD_BYTES_MAX; bodies are lent, not kept.
 */
#ifndef HTTP_HTTP_PARSE_H
#define HTTP_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    HTTP_REQUEST_LINE_MAX = 8 << 10,  /* without its CRLF */
    HTTP_HEAD_BYTES_MAX = 16 << 10,   /* from the method up to the body */
    HTTP_FIELDS_MAX = 100,            /* of the head, and of the trailer */
    HTTP_CHUNK_EXTENSIONS_MAX = 4096, /* bytes, of all chunks of a body */
    HTTP_TRAILER_BYTES_MAX = 4096
};

#define HTTP_BODY_UNKNOWN UINT64_MAX

enum http_event {
    HTTP_MORE, /* all bytes are taken and more are needed */
    HTTP_HEAD, /* the head is whole */
    HTTP_BODY, /* piece holds the next bytes of the body */
    HTTP_END,  /* the request is whole; what is left of the input is the next one's */
    HTTP_BAD   /* status and why tell; nothing behind this can be trusted */
};

/* Offsets into text; both end in a NUL there. */
struct http_field {
    uint16_t name;
    uint16_t value;
};

struct http_parse {
    struct buf text; /* method, target, names and values, each with a NUL behind it */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
    size_t target; /* its offset in text */
    size_t target_size;
    int minor;          /* of HTTP/1.x: 0 or 1 */
    uint64_t body_size; /* from HTTP_HEAD on; HTTP_BODY_UNKNOWN: chunked */
    int status;         /* HTTP_BAD: what to answer */
    const char *why;    /* HTTP_BAD: static */

    int state;
    size_t allowance;  /* bytes that the present part may still have */
    size_t extensions; /* bytes of chunk extensions that are still allowed */
    size_t trailers;   /* fields of the trailer so far */
    size_t digits;     /* of the chunk's size so far; characters of the version */
    uint64_t left;     /* bytes of the body or the chunk to come */
};

void http_parse_init(struct http_parse *p);
void http_parse_release(struct http_parse *p);

/* Takes bytes off the front of in until there is something to tell. Call it again, also
 * with nothing left to read, until it says HTTP_MORE or one of the last two. */
enum http_event http_parse(struct http_parse *p, struct slice *in, struct slice *piece);

/* Has the request begun? An empty line before it is not its beginning. */
bool http_parse_begun(const struct http_parse *p);

/* Method and target: from HTTP_HEAD on. */
const char *http_parse_method(const struct http_parse *p);
char *http_parse_target(struct http_parse *p);

/* The value of the first field of that name, in any case; NULL without. After HTTP_BAD
 * those that were whole by then are found. count may be NULL. */
const char *http_parse_find(const struct http_parse *p, const char *name,
                            size_t *count);

#endif
