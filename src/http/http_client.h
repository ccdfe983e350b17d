/*
 * http_client.h - HTTP/1.1 requests to other nodes, over kept-alive connections.
 *
 * Behind it is libcurl. An exchange runs on the caller's own thread, so forwarding
 * costs no hand-over between threads; connections that are idle wait in a pool, by
 * origin. Redirects and proxies are never followed: a peer's address comes from
 * configuration.
 *
 * Deadline  op's. A canceled op (the client went away) breaks the exchange off, which
 *           the peer notices as its client going away.
 * Sent once A request that is not repeatable is never sent twice, not even when its
 *           kept-alive connection turns out to be dead: the peer may have served it.
 * Streams   A body may be sent, and an answer taken, while it arrives; then no more of
 *           it is in memory than libcurl's buffers hold, and who is slow slows the
 *           other down.
 * Threads   any number; each exchange is its caller's.
 */
#ifndef HTTP_HTTP_CLIENT_H
#define HTTP_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct http_client;

enum { HTTP_CLIENT_VALUE_MAX = 256, HTTP_CLIENT_WORDS_MAX = 256 };

struct http_client_options {
    size_t exchanges_max; /* at once; above: ERR_BUSY */
    size_t idle_max;      /* connections kept open between exchanges */
    int64_t idle_secs;    /* one that was idle for longer is not used again */
    int64_t connect_ms;   /* for the name, TCP and TLS together */
};

struct http_client_field {
    const char *name, *value; /* no CR, LF or NUL in them: asserted */
};

/* A header of the answer that the caller wants to see; value is "" when it is absent
 * or longer than fits. */
struct http_client_wanted {
    const char *name;
    char value[HTTP_CLIENT_VALUE_MAX];
};

#define HTTP_CLIENT_UNKNOWN UINT64_MAX

/* A body that arrives while it is sent. Such a request is never sent twice. */
struct http_client_source {
    void *context;
    uint64_t size; /* HTTP_CLIENT_UNKNOWN: until it ends, in chunks */
    /* The next bytes, at most room; none if there are none just now. *ended: that was
     * all. Must not block. */
    size_t (*read)(void *context, void *into, size_t room, bool *ended);
    /* Waits until read has something to tell, at most wait_ms. */
    void (*wait)(void *context, int64_t wait_ms);
};

/* Who may take an answer while it arrives. */
struct http_client_sink {
    void *context;
    /* Status and wanted are there, and a body of size bytes (or HTTP_CLIENT_UNKNOWN) is
     * coming. False: it is to be gathered in answer. */
    bool (*begin)(void *context, uint64_t size);
    /* May block. An error breaks the exchange off. */
    enum err (*write)(void *context, struct slice piece);
};

struct http_client_exchange {
    /* in; the caller keeps all of it alive */
    const char *method; /* GET, PUT, POST, DELETE */
    const char *url;    /* http(s)://host[:port]/path[?query] */
    const struct http_client_field *fields;
    size_t field_count;
    struct slice body;
    const struct http_client_source *source; /* in place of body; NULL: none */
    bool repeatable;
    size_t answer_max; /* bytes of an answer that is gathered; above: ERR_LIMIT */
    const struct http_client_sink *sink; /* NULL: answers are gathered */
    /* Asked again and again while no byte of the answer comes, unless it is the source
     * that is waited for: wait on? NULL: yes, until the deadline. It may block for a
     * little while. */
    bool (*wait_on)(void *context, int64_t waited_ms);
    void *context;
    int64_t wait_step_ms; /* between two such questions */
    struct http_client_wanted *wanted;
    size_t wanted_count;

    /* out */
    int status;        /* 0: no answer came */
    bool sent;         /* false: the whole request cannot have left this machine */
    bool begun;        /* sink got the beginning of the answer, or all of it */
    struct buf answer; /* its body, unless sink has got it */
    char words[HTTP_CLIENT_WORDS_MAX]; /* what went wrong */
};

struct http_client *http_client_new(const struct http_client_options *options);
void http_client_free(struct http_client *c); /* no exchange is running; NULL is fine */

/*
 * Runs x. ERR_OK: a whole answer arrived, whatever its status. ERR_IO: none did;
 * x->sent tells whether the peer may have served the request. ERR_TIMEOUT,
 * ERR_CANCELED: op says stop. ERR_LIMIT, ERR_BUSY: see above. op's words are x->words.
 * Release x->answer in any case.
 */
enum err http_client_run(struct op *op, struct http_client *c,
                         struct http_client_exchange *x);

#endif
