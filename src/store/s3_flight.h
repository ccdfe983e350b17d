/*
 * s3_flight.h - one request under way over libcurl, and what has come of its answer.
 *
 * A wire is what flights share: connections, libcurl's handles, counts. How long to
 * wait for a flight, whether to send a second and who wants to know is s3_http.c's
 * business.
 *
 * Threads  all of it belongs to the thread that drives the wire, but for loads,
 *          s3_wire_silent_ms, and waking libcurl.
 */
#ifndef STORE_S3_FLIGHT_H
#define STORE_S3_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "store/s3_http.h"

enum { S3_WIRE_SPARES_MAX = 64 };

struct s3_wire {
    CURLM *multi;
    char *ca_file;
    int64_t connect_ms;
    int *sockets; /* of all connections */
    size_t socket_count, socket_room;
    CURL *spare[S3_WIRE_SPARES_MAX];
    size_t spare_count;
    atomic_int_least64_t silent_since_ms; /* 0: nothing is waited for */
    struct metric *requests, *hedges, *bytes_sent, *bytes_received;
};

/* ERR_IO: libcurl cannot be set up. */
enum err s3_wire_init(struct op *op, struct s3_wire *w,
                      const struct s3_http_options *options);
/* Its flights have landed. */
void s3_wire_release(struct s3_wire *w);
/* Since when something is waited for and nothing came. Any thread. */
int64_t s3_wire_silent_ms(struct s3_wire *w);
/* Nothing is waited for. */
void s3_wire_calm(struct s3_wire *w);

/* What is sent, as often as it is sent. */
struct s3_load {
    struct s3_exchange *x; /* borrowed */
    struct curl_slist *headers;
    uint64_t body_size;
};

void s3_load_init(struct s3_load *l, struct s3_exchange *x);
void s3_load_release(struct s3_load *l);

struct s3_job; /* of s3_http.c */

/* Zeros, but for the first four. */
struct s3_flight {
    struct s3_wire *wire;
    const struct s3_load *load;
    struct s3_job *job; /* whose flight it is */
    bool hedge;         /* the second of its job; its answer never goes to x->room */
    CURL *easy;         /* NULL: not in the air */
    struct s3_answer answer;
    size_t part, part_offset; /* of the body: what is sent next */
    size_t given;             /* of the body, to libcurl */
    int64_t started_ms;
    int64_t sent_ms; /* the whole request is out; 0: not yet */
    bool stale;      /* its connection had something to say before it was asked */
    bool head_whole; /* its blank line was there; libcurl does without */
    char error[CURL_ERROR_SIZE];
};

/* Also once more, after a stale connection: how often it was sent stays known. */
void s3_flight_start(struct s3_flight *f, int64_t now_ms);
/* Takes it out of the air, if it is there. Nothing is written to x->room any more. */
void s3_flight_land(struct s3_flight *f);
/* Notes in sent_ms when the request is out. */
void s3_flight_look(struct s3_flight *f, int64_t now_ms);
/* Milliseconds to the first byte; to now when there was none. */
int64_t s3_flight_waited_ms(const struct s3_flight *f, int64_t now_ms);
/* A flight in the air that libcurl is done with, NULL: none. Its answer is complete if
 * its end is S3_END_ANSWERED; if `stale`, nothing was sent and it is to be started
 * again. */
struct s3_flight *s3_wire_next(struct s3_wire *w);
/* It ends without an answer, for the reason that the words say. */
void s3_flight_fail(struct s3_flight *f, const char *words);

#endif
