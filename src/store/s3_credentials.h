/*
 * s3_credentials.h - who we are to the store, found as every AWS program finds it
 * (PROTOCOL.md section 11), and renewed before it expires.
 *
 * The first of these that is set up is used, and its failure is the failure: the
 * environment (AWS_ACCESS_KEY_ID, with AWS_SESSION_TOKEN), web identity
 * (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN), the shared files (profile
 * AWS_PROFILE: keys or credential_process), the container endpoint, the instance's
 * metadata (IMDSv2).
 *
 * What expires is fetched again at 75 % of its life or 5 minutes before its end, by one
 * caller while the others go on with the old one for as long as it is good.
 *
 * Threads  any. Secrets never reach a log, an error's words or a core file of ours.
 */
#ifndef STORE_S3_CREDENTIALS_H
#define STORE_S3_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct op;
struct s3_http;
struct s3_credentials;

/* One set of keys; immutable, shared, unref it. */
struct s3_secret {
    char *access_key;
    char *secret_key;
    char *token;        /* "" when it is no session */
    int64_t expires_ms; /* of clock_wall_ms; INT64_MAX: never */
};

struct s3_credentials_options {
    struct s3_http *http;           /* outlives the credentials */
    const char *const *environment; /* NAME=value, NULL at the end; outlives them too */
    const char *region;             /* for STS; copied */
};

struct s3_credentials *s3_credentials_new(const struct s3_credentials_options *options);
void s3_credentials_free(struct s3_credentials *c); /* NULL is fine */

/* Keys that are good now. ERR_DENIED: none were found, or those set up could not be
 * had; the words say which and why. ERR_TIMEOUT, ERR_CANCELED: op stopped while
 * waiting. */
enum err s3_credentials_get(struct op *op, struct s3_credentials *c, bool heed_op,
                            const struct s3_secret **out);
void s3_secret_unref(const struct s3_secret *s); /* NULL is fine */

/* The store called them expired: the next get fetches new ones, unless it happened. */
void s3_credentials_expired(struct s3_credentials *c, const struct s3_secret *s);

/* The value of a name in the environment list, NULL when unset or empty. */
const char *s3_environment(const char *const *environment, const char *name);

#endif
