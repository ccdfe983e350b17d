/*
 * api_call.h - what the handlers of one request share. Private to api/.
 *
 * A handler reads call, answers by writing call->response and returns ERR_OK; or it
 * returns an error with words in op and leaves the response alone: api.c answers all
 * errors in one place.
 */
#ifndef API_API_CALL_H
#define API_API_CALL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "http/http_server.h"

struct api_options;
struct json;
struct json_value;
struct op;
struct registry;

/* A query of 4 MiB holds a vector of 10752 numbers and a filter of 65536 values. */
enum { BODY_QUERY_MAX = 4 << 20, BODY_SCHEMA_MAX = 1 << 20, BODY_NONE_MAX = 4 << 10 };

struct api_call {
    const struct api_options *options;
    struct registry *registry; /* options->registry */
    const struct http_request *request;
    struct http_response *response;
    const char *name;      /* the namespace, checked; NULL where the route has none */
    struct slice document; /* the document id of the path, decoded once, UTF-8 */
};

typedef enum err api_call_handler(struct op *op, struct api_call *call);

/* Opens the body as JSON; an empty body is ERR_INVALID. Close with json_close. */
enum err api_call_json(struct op *op, const struct api_call *call, struct json **json,
                       struct json_value *root);

#endif
