/*
 * s3_client.h - signed requests to one bucket, repeated as far as that is safe.
 *
 * A request ends in one of four outcomes (PROTOCOL.md section 7), never in a bare
 * error. Reads and repeatable writes get three attempts with full jitter, paid from one
 * token bucket per client, which is filled by successes; while it is empty a request is
 * attempted once. A create gets one attempt, since only its caller can settle it. What
 * merely was our own state being old (expired keys, the clock, the region) is repaired
 * and sent again once; a redirect is never followed, only the region that it names is
 * taken over. "Slow down" makes the whole client pause, as long as Retry-After says.
 *
 * Threads  any. Time: reads heed op, writes do not.
 */
#ifndef STORE_S3_CLIENT_H
#define STORE_S3_CLIENT_H

#include "store/s3_http.h"

struct s3_client;

struct s3_client_options {
    const char *endpoint; /* "": AWS, by the bucket's own host name; else path style */
    const char *bucket;
    const char *region;             /* "": AWS_REGION, AWS_DEFAULT_REGION, us-east-1 */
    const char *const *environment; /* NAME=value, NULL at the end; outlives it */
};

enum s3_kind { S3_READ, S3_WRITE, S3_CREATE };

enum s3_class {
    S3_APPLIED,
    S3_NOT_APPLIED, /* the store said no: see answer.status and code */
    S3_RETRY_SAFE,  /* no byte of it was sent */
    S3_UNKNOWN      /* it may have been applied, or may be yet */
};

enum { S3_ARGUMENTS_MAX = 8, S3_HEADERS_MAX = 6 };

/* Start with zeros and what is needed; release after the run. */
struct s3_request {
    enum s3_kind kind;
    const char *method;
    const char *key; /* "": the bucket itself */
    struct s3_field query[S3_ARGUMENTS_MAX];
    size_t query_count;
    struct s3_field headers[S3_HEADERS_MAX]; /* further ones, all signed */
    size_t header_count;
    const struct slice *parts;
    size_t part_count;
    bool unsigned_payload; /* over TLS only: otherwise it is signed all the same */
    uint8_t *room;         /* as in struct s3_exchange */
    size_t room_size;
    size_t body_max;
    bool hedge;
    /* Whether a success is well formed; NULL: it is. A false is garbled: UNKNOWN. */
    bool (*check)(const struct s3_request *r, void *context);
    void *context;

    enum s3_class class;
    bool too_large;            /* the body was above body_max: NOT_APPLIED */
    bool ambiguous;            /* an attempt may have been applied */
    bool starved;              /* no token was left for another attempt */
    char code[S3_WORD_MAX];    /* of the store's error, or "" */
    char message[S3_WORD_MAX]; /* its words */
    struct s3_answer answer;

    /* the client's own */
    unsigned attempts, folder_attempts, repairs;
    char hash[S3_HASH_SIZE];
};

/* ERR_INVALID: an endpoint that is no http(s)://host[:port]. ERR_IO. */
enum err s3_client_new(struct op *op, const struct s3_client_options *options,
                       struct s3_client **out);
void s3_client_free(struct s3_client *c);

/* Runs all n at once until each has its class. Another error than ERR_OK: no class is
 * worth anything (op stopped, or there are no credentials: ERR_IO). */
enum err s3_client_run(struct op *op, struct s3_client *c, struct s3_request *requests,
                       size_t n);
void s3_request_release(struct s3_request *r);

/* What the store's clock said when it answered; 0: it did not say. */
int64_t s3_answer_ms(const struct s3_answer *a);

/* The error that store.h names for the outcome; its words say what to change. */
enum err s3_client_result(struct op *op, struct s3_client *c,
                          const struct s3_request *r);

/* Whether connections are encrypted. */
bool s3_client_tls(const struct s3_client *c);
/* As s3_http_silent_ms. */
int64_t s3_client_silent_ms(struct s3_client *c);

#endif
