/*
 * s3_sign.h - AWS Signature Version 4, as S3 wants it (PROTOCOL.md section 10).
 *
 * Pure functions: the same input gives the same bytes. What goes over the wire is what
 * was signed: s3_sign_target writes the one encoding of path and query that both use.
 *
 * Threads  any.
 */
#ifndef STORE_S3_SIGN_H
#define STORE_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* A header (its name in lower case) or an argument of a query (not yet encoded). */
struct s3_field {
    const char *name;
    const char *value;
};

enum {
    S3_DATE_SIZE = sizeof "20130524T000000Z",
    S3_HASH_SIZE = 2 * 32 + 1, /* SHA-256 in hex, with its terminator */
    S3_KEY_SIZE = 32
};

struct s3_signing {
    const char *method;
    const char *path; /* plain, from the first '/' */
    const struct s3_field *query;
    size_t query_count;
    const struct s3_field *headers; /* exactly those that are signed, host among them */
    size_t header_count;
    const char *payload_hash; /* value of x-amz-content-sha256 */
    const char *date;         /* value of x-amz-date */
    const char *region;
    const char *service; /* "s3", "sts" */
    const char *access_key;
    const char *secret_key;
    const uint8_t *key; /* what s3_sign_key gave; NULL: derived again */
};

/* The signing key: good for one day of date, region, service and secret key. Deriving
 * it is half the work of a signature. */
void s3_sign_key(const struct s3_signing *s, uint8_t key[S3_KEY_SIZE]);

/* Appends the value of the Authorization header. At most S3_FIELDS_MAX headers and as
 * many arguments (asserted). */
enum { S3_FIELDS_MAX = 32 };
void s3_sign(const struct s3_signing *s, struct buf *authorization);

/* Appends the canonical request, for s3_sign and for those who look for a mistake. */
void s3_sign_canonical(const struct s3_signing *s, struct buf *out);

/* Appends path?query encoded as signed: each byte outside A-Za-z0-9-_.~ as %XX, '/' of
 * the path kept, arguments sorted. */
void s3_sign_target(const char *path, const struct s3_field *query, size_t query_count,
                    struct buf *out);

/* x-amz-date of a moment of clock_wall_ms. */
void s3_sign_date(int64_t wall_ms, char out[S3_DATE_SIZE]);

/* SHA-256 of the parts in order, in hex. */
void s3_sign_hash(const struct slice *parts, size_t n, char out[S3_HASH_SIZE]);

#endif
