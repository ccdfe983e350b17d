#include "http/http_stream.h"

#include <assert.h>

#include "base/task.h"
#include "http/http_exchange.h"
#include "http/http_flow.h"

enum { LOOK_MS = 50 /* how often whoever waits looks at its op */ };

/* ---- requests ---- */

static struct exchange *exchange_of(const struct http_request *request)
{
    return request->connection;
}

uint64_t http_stream_size(const struct http_request *request)
{
    uint64_t size = exchange_of(request)->parse.body_size;
    return size == HTTP_BODY_UNKNOWN ? HTTP_STREAM_UNKNOWN : size;
}

int64_t http_stream_timeout_ms(const struct http_request *request)
{
    return exchange_of(request)->shared->options.request_timeout_ms;
}

bool http_stream_wait(const struct http_request *request, int64_t wait_ms)
{
    return flow_wait(exchange_of(request)->in, clock_ms() + wait_ms);
}

size_t http_stream_read(struct op *op, const struct http_request *request, void *into,
                        size_t room, bool *ended)
{
    struct exchange *x = exchange_of(request);
    size_t size = flow_take(x->in, into, room, ended);
    if (*ended && op->deadline_ms == OP_NO_DEADLINE)
        op->deadline_ms = clock_ms() + http_stream_timeout_ms(request);
    return size;
}

/* ---- answers ---- */

/* A body that still arrives may end in a refusal of ours. */
static bool can_stream(struct exchange *x)
{
    return !x->head_only && (!x->in || flow_is_ended(x->in));
}

bool http_stream_begin(const struct http_request *request,
                       struct http_response *response, uint64_t size)
{
    struct exchange *x = exchange_of(request);
    assert(!x->out);
    if (!can_stream(x)) return false;
    if (!x->has_stream) x->has_stream = shared_take_stream(x->shared, x->lane);
    if (!x->has_stream) return false;
    http_response_header(response, "Vary", "Accept-Encoding");
    exchange_write_head(x, size);
    x->out = flow_new(HTTP_STREAM_BYTES, exchange_tell, x);
    x->out_size = x->out_left = size;
    atomic_store(&x->out_begun, true);
    exchange_tell(x);
    return true;
}

enum err http_stream_write(struct op *op, const struct http_request *request,
                           struct slice piece)
{
    struct exchange *x = exchange_of(request);
    if (piece.size > x->out_left)
        return op_fail(op, ERR_LIMIT, "the answer is longer than it said");
    while (piece.size) {
        size_t size = flow_write(x->out, piece, clock_ms() + LOOK_MS);
        piece = slice_of(piece.data + size, piece.size - size);
        x->out_left -= size;
        if (atomic_load(&op->canceled))
            return op_fail(op, ERR_CANCELED, "the client went away");
    }
    return ERR_OK;
}
