/*
 * err.h - what went wrong, named by what happens next.
 *
 * Functions that can fail return enum err; zero is success. The words that go with
 * an error live in the op (op.h); the kind decides who acts. api/ maps each kind to
 * one HTTP status, in one table.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

enum err {
    ERR_OK = 0,
    ERR_INVALID,   /* the request is wrong: fix it                              400 */
    ERR_DENIED,    /* right request, wrong place or right: ask elsewhere        403 */
    ERR_NOT_FOUND, /* no such namespace, document or object                     404 */
    ERR_CONFLICT,  /* somebody else was first: reload and decide again          409 */
    ERR_LIMIT,     /* larger than a stated limit: make it smaller               413 */
    ERR_REUSED,    /* an idempotency key came back with another request         422 */
    ERR_BUSY,      /* a queue, quota or budget is full: come back later         429 */
    ERR_CORRUPT,   /* stored bytes are not what was written: somebody must look 500 */
    ERR_IO,        /* the store or a peer failed, nothing was applied: retry    503 */
    ERR_UNKNOWN,   /* it may or may not have been applied: retry with the key   503 */
    ERR_FENCED,    /* another process owns this namespace now: retry elsewhere  503 */
    ERR_TIMEOUT,   /* the deadline passed                                       504 */
    ERR_CANCELED,  /* the client went away: nobody reads this                   499 */
    ERR_FULL       /* no space left in the store, nothing was applied           507 */
};

/* The kind's name in lower case, for logs and metrics: "not_found". Static. */
const char *err_name(enum err e);

#ifdef __cplusplus
}
#endif

#endif
