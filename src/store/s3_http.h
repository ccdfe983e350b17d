/*
 * s3_http.h - HTTP requests to one S3 store: libcurl behind one I/O thread.
 *
 * The thread owns every connection (kept alive, TCP_NODELAY, TLS verified). A caller
 * hands over a round of exchanges and sleeps until all of them have ended; each is
 * attempted once. Nothing here knows S3: what an answer means is s3_client's business.
 *
 * Time-outs  connecting, the first byte of the answer after the request was sent, and
 *            the whole exchange. Redirects are never followed.
 * Hedging    an exchange that allows it gets a second request when it has no first byte
 *            after the running 95th percentile (at least 20 ms); the first complete
 *            answer wins. At most one extra request in twenty.
 * Threads    any thread may call; a caller that stops waiting (its op's deadline) takes
 *            its exchanges back before it returns.
 */
#ifndef STORE_S3_HTTP_H
#define STORE_S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/s3_sign.h"

struct op;
struct s3_http;

enum { S3_WORD_MAX = 128, S3_ERROR_MAX = 256 };

/* How far an exchange came. */
enum s3_end {
    S3_END_ANSWERED, /* a whole, cleanly delimited answer: see status */
    S3_END_UNSENT,   /* no byte of the request left this machine */
    S3_END_BROKEN    /* it may have been served: reset, timed out, cut short */
};

struct s3_answer {
    enum s3_end end;
    unsigned sent;     /* how often, hedges too: libcurl repeats by itself what an idle
                          connection swallowed */
    int status;        /* of HTTP; 0: none arrived */
    int64_t size;      /* Content-Length, -1: none */
    uint64_t received; /* bytes of the body */
    struct buf body;   /* empty when the body went to room; release it */
    char etag[S3_WORD_MAX];
    char content_range[S3_WORD_MAX];
    char crc32c[S3_WORD_MAX]; /* x-amz-checksum-crc32c */
    char region[S3_WORD_MAX]; /* x-amz-bucket-region */
    char date[S3_WORD_MAX];
    char server[S3_WORD_MAX];
    char retry_after[S3_WORD_MAX];
    bool early;               /* it came before the whole body was sent */
    char error[S3_ERROR_MAX]; /* words, unless ANSWERED */
};

/* One request. The caller keeps everything alive until s3_http_run returns. */
struct s3_exchange {
    const char *method; /* GET, HEAD, PUT, POST, DELETE */
    const char *url;
    const struct s3_field *headers;
    size_t header_count;
    const struct slice *parts; /* of the body, in order */
    size_t part_count;
    uint8_t *room;    /* where a 206's body goes if it has exactly room_size bytes; */
    size_t room_size; /* NULL: every body goes to answer.body, */
    size_t body_max;  /* BROKEN above this, with received larger than it */
    int64_t first_byte_ms;
    int64_t whole_ms;
    bool hedge;  /* only for a GET */
    bool direct; /* not through a proxy that the environment names */
    struct s3_answer answer;
};

struct s3_http_options {
    const char *ca_file; /* NULL: the system's */
    size_t connections_max;
    int64_t connect_ms;
};

/* ERR_IO: libcurl cannot be set up. */
enum err s3_http_new(struct op *op, const struct s3_http_options *options,
                     struct s3_http **out);
void s3_http_free(struct s3_http *h); /* nobody may be in s3_http_run; NULL is fine */

/*
 * Runs all n at once. ERR_OK: each answer tells its own story. heed_op: ERR_TIMEOUT or
 * ERR_CANCELED as soon as op should stop; then no answer is worth anything. Release
 * every answer in any case.
 */
enum err s3_http_run(struct op *op, struct s3_http *h, struct s3_exchange *exchanges,
                     size_t n, bool heed_op);
void s3_answer_release(struct s3_answer *a);

/*
 * For how many milliseconds the store has given no sign of life although something was
 * asked of it; 0: nothing is waited for. It goes on when those who asked give up, until
 * an answer comes. Any thread.
 */
int64_t s3_http_silent_ms(struct s3_http *h);

#endif
