/*
 * api_route.h - paths and query strings of requests: matching, decoding, strictness.
 *
 * A path is split at its slashes first and decoded afterwards, each part once, so that
 * an encoded slash is part of a name (and then refused by the name's own check).
 */
#ifndef API_API_ROUTE_H
#define API_API_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct op;

enum { ROUTE_PARTS_MAX = 2 };

/*
 * Does path look like pattern ("/v1/namespaces/{}/documents/{}")? Each {} takes one
 * part of any bytes, also none; parts gets them as sent, still encoded.
 */
bool route_match(const char *pattern, const char *path,
                 struct slice parts[ROUTE_PARTS_MAX]);

/* Decodes %XX once, into op's arena (with a terminator). ERR_INVALID: a % without two
 * hex digits, or bytes that are not UTF-8. */
enum err route_decode(struct op *op, struct slice text, struct slice *out);

/*
 * Reads "a=1&b=2" into values, one for each of count names; .data stays NULL where a
 * name is absent. ERR_INVALID names an unknown or repeated parameter.
 */
enum err route_params(struct op *op, const char *query_string, const char *const *names,
                      size_t count, struct slice *values);

/* A decimal number of digits only, without leading zeros; false above UINT64_MAX. */
bool route_u64(struct slice text, uint64_t *out);

#endif
