#include "http/http_gzip.h"

#include <assert.h>
#include <limits.h>

#include <zlib.h>

#include "base/mem.h"
#include "base/op.h"

enum {
    GZIP_WINDOW = 15 + 16, /* the largest window, gzip framing */
    GZIP_MEMORY = 8,
    GROWTH_MIN = 64 << 10
};

/* Room for at least one byte more, up to one byte beyond size_max (to see that there is
 * more). */
static enum err grow(struct op *op, size_t size_max,
                     bool (*reserve)(void *context, size_t bytes), void *context,
                     struct buf *out)
{
    size_t more = out->capacity > GROWTH_MIN ? out->capacity : GROWTH_MIN;
    if (out->capacity + more > size_max + 1) more = size_max + 1 - out->capacity;
    if (!reserve(context, more))
        return op_fail(op, ERR_BUSY, "no memory for the body's %zu unpacked bytes",
                       out->capacity + more);
    out->data = mem_realloc(out->data, out->capacity + more);
    out->capacity += more;
    return ERR_OK;
}

/* zlib counts in unsigned int. */
static uInt piece(size_t size)
{
    return size > INT_MAX ? INT_MAX : (uInt)size;
}

static enum err inflate_members(struct op *op, z_stream *z, struct slice data,
                                size_t size_max,
                                bool (*reserve)(void *context, size_t bytes),
                                void *context, struct buf *out)
{
    size_t offset = 0;
    int status = Z_OK;
    while (status != Z_STREAM_END || offset < data.size) {
        if (status == Z_STREAM_END && inflateReset(z) != Z_OK)
            return op_fail(op, ERR_INVALID, "body is not gzip");
        if (out->size == out->capacity) {
            enum err e = grow(op, size_max, reserve, context, out);
            if (e) return e;
        }
        uInt given = piece(data.size - offset);
        uInt room = piece(out->capacity - out->size);
        z->next_in = (Bytef *)(uintptr_t)(data.data + offset);
        z->avail_in = given;
        z->next_out = out->data + out->size;
        z->avail_out = room;
        status = inflate(z, Z_NO_FLUSH);
        offset += given - z->avail_in;
        out->size += room - z->avail_out;
        if (out->size > size_max)
            return op_fail(op, ERR_LIMIT, "body has more than %zu bytes once unpacked",
                           size_max);
        if (status == Z_STREAM_END) continue;
        if (status != Z_OK && !(status == Z_BUF_ERROR && z->avail_out == 0))
            return op_fail(op, ERR_INVALID, "body is not gzip, or was cut short");
    }
    return ERR_OK;
}

enum err http_gunzip(struct op *op, struct slice data, size_t size_max,
                     bool (*reserve)(void *context, size_t bytes), void *context,
                     struct buf *out)
{
    z_stream z = {0};
    int status = inflateInit2(&z, GZIP_WINDOW);
    assert(status == Z_OK);
    enum err e = inflate_members(op, &z, data, size_max, reserve, context, out);
    (void)inflateEnd(&z);
    return e;
}

/* The fastest level: a search answer shrinks to about a third with it, and a higher one
 * would cost more than the network it saves. */
void http_gzip(struct slice data, struct buf *out)
{
    z_stream z = {0};
    int status = deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
                              Z_DEFAULT_STRATEGY);
    assert(status == Z_OK);
    size_t offset = 0;
    do {
        buf_reserve(out, deflateBound(&z, piece(data.size - offset)));
        uInt given = piece(data.size - offset);
        uInt room = piece(out->capacity - out->size);
        z.next_in = (Bytef *)(uintptr_t)(data.data + offset);
        z.avail_in = given;
        z.next_out = out->data + out->size;
        z.avail_out = room;
        status = deflate(&z, offset + given == data.size ? Z_FINISH : Z_NO_FLUSH);
        assert(status == Z_OK || status == Z_STREAM_END);
        offset += given - z.avail_in;
        out->size += room - z.avail_out;
    } while (status != Z_STREAM_END);
    (void)deflateEnd(&z);
}
