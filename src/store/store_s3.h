/*
 * store_s3.h - objects in a bucket of an S3-compatible store (PROTOCOL.md sections 7 to
 * 12).
 *
 * A create is one PUT with If-None-Match: *, sent again within a call only when the
 * store said no for a reason that passes; a put is the same with retries, in parts
 * above 16 MiB, and compares the bytes when something is there. Reads of one call
 * travel side by side; slow ones are hedged. A missing object is ERR_NOT_FOUND, a
 * missing bucket or right ERR_IO. Every upload carries its CRC32C, and its SHA-256 in
 * the signature unless it is a large one over TLS.
 *
 * Credentials come from where every AWS program finds them (s3_credentials.h).
 */
#ifndef STORE_STORE_S3_H
#define STORE_STORE_S3_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct store_s3_options {
    const char *endpoint; /* "": AWS; else http(s)://host[:port], path style */
    const char *bucket;
    const char *region; /* "": AWS_REGION, else us-east-1 */
    bool content_md5;   /* for stores that ignore checksum headers */
    const char *const
        *environment; /* NAME=value, NULL at the end; outlives the store */
};

enum s3_known { S3_NOT_KNOWN, S3_NO, S3_YES };
enum { S3_SERVER_MAX = 128 };

/* What a store may do either way. */
struct store_s3_quirks {
    char server[S3_SERVER_MAX];  /* as it calls itself, or "" */
    enum s3_known checks_crc32c; /* a body that x-amz-checksum-crc32c does not fit */
    enum s3_known echoes_crc32c; /* in the answer to a PUT */
    enum s3_known tells_crc32c;  /* with a GET that asks for it */
    enum s3_known checks_md5;    /* a body that Content-MD5 does not fit */
    enum s3_known refuses_early; /* before it has the body: 412 instead of 100 */
};

/* Asks the store nothing yet. ERR_INVALID: the endpoint is none. */
enum err store_s3_open(struct op *op, const struct store_s3_options *options,
                       struct store **out);

/*
 * Proves that the store does what everything here rests on: a create where something is
 * fails and leaves it alone, of 8 creates at once exactly one wins, a list sees a put
 * at once and goes on in byte order, ranges are exact, a delete is seen. Uses and
 * removes keys under probe/. ERR_DENIED, ERR_IO: what is wrong, in one sentence. Any
 * store.
 */
enum err store_s3_probe(struct op *op, struct store *s);

/* The first of that alone: two creates of one key, of which the second must fail and
 * change nothing. ERR_DENIED: it did. Any other error says nothing. Any store. */
enum err store_s3_probe_again(struct op *op, struct store *s);

/*
 * Learns the quirks of a store of store_s3_open, records them in the log and in
 * metrics, and removes what it wrote under probe/. What cannot be learnt stays
 * S3_NOT_KNOWN: not knowing is no reason not to start.
 */
void store_s3_learn(struct op *op, struct store *base, struct store_s3_quirks *out);

/* Repeats store_s3_probe_again on a store of store_s3_open, as often as s3_watch.h
 * says, until store_free. broken is called at most once, from another thread, when the
 * store would lose writes from now on; why lives until it returns. */
void store_s3_watch(struct store *s, void (*broken)(void *context, const char *why),
                    void *context);

/* For how long the store of store_s3_open has said nothing to what it was asked
 * (s3_http_silent_ms); context is the store. */
int64_t store_s3_silent_ms(void *context);

#endif
