#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "http/http_head.h"
#include "http/http_parse.h"

/* One request as the parser told it. */
struct told {
    enum http_event last;
    int status;
    bool chunked;
    struct buf head; /* as we would write it */
    struct buf body;
};

static void told_release(struct told *told)
{
    buf_release(&told->head);
    buf_release(&told->body);
}

static const char *text_at(const struct http_parse *p, size_t offset)
{
    REQUIRE(offset < p->text.size);
    return (const char *)p->text.data + offset;
}

static void tell_head(struct http_parse *p, struct told *told)
{
    struct http_terms terms;
    const char *why = NULL;
    REQUIRE(strlen(http_parse_target(p)) == p->target_size);
    REQUIRE(http_parse_target(p)[0] == '/');
    REQUIRE(p->minor == 0 || p->minor == 1);
    told->chunked = p->body_size == HTTP_BODY_UNKNOWN;
    int status = http_head_terms(p, &terms, &why);
    REQUIRE((status == 0) == (why == NULL));
    const char *id = http_head_id(p);
    REQUIRE(!id || (strlen(id) > 0 && strlen(id) <= HTTP_REQUEST_ID_MAX));
    buf_printf(&told->head, "%s %s HTTP/1.%d\r\n", http_parse_method(p),
               http_parse_target(p), p->minor);
    for (size_t i = 0; i < p->field_count; i++)
        buf_printf(&told->head, "%s: %s\r\n", text_at(p, p->fields[i].name),
                   text_at(p, p->fields[i].value));
    buf_append_str(&told->head, "\r\n");
}

/* The first request of input, fed in pieces of step bytes; returns how many it has. */
static size_t read_request(struct slice input, size_t step, struct told *told)
{
    struct http_parse p;
    size_t taken = 0;
    *told = (struct told){.last = HTTP_MORE};
    http_parse_init(&p);
    while (taken < input.size && told->last == HTTP_MORE) {
        size_t size = step < input.size - taken ? step : input.size - taken;
        struct slice in = slice_of(input.data + taken, size), piece = SLICE_EMPTY;
        do {
            told->last = http_parse(&p, &in, &piece);
            if (told->last == HTTP_HEAD) tell_head(&p, told);
            if (told->last == HTTP_BODY) {
                REQUIRE(piece.size > 0);
                buf_append_slice(&told->body, piece);
            }
        } while (told->last == HTTP_HEAD || told->last == HTTP_BODY);
        REQUIRE(told->last != HTTP_MORE || in.size == 0);
        taken += size - in.size;
    }
    if (told->last == HTTP_BAD) {
        REQUIRE(p.status >= 400 && p.status < 600 && p.why);
        told->status = p.status;
    }
    REQUIRE(p.text.size <= HTTP_HEAD_BYTES_MAX);
    http_parse_release(&p);
    return taken;
}

static void require_same(const struct told *a, const struct told *b)
{
    REQUIRE(a->last == b->last && a->status == b->status);
    REQUIRE(slice_equal(buf_slice(&a->head), buf_slice(&b->head)));
    REQUIRE(slice_equal(buf_slice(&a->body), buf_slice(&b->body)));
}

/* Written anew it is the same request. A chunked body gets one chunk. */
static void require_survival(const struct told *told)
{
    struct buf written = BUF_INIT;
    struct told again;
    buf_append_slice(&written, buf_slice(&told->head));
    if (told->chunked) {
        if (told->body.size) {
            buf_printf(&written, "%zx\r\n", told->body.size);
            buf_append_slice(&written, buf_slice(&told->body));
            buf_append_str(&written, "\r\n");
        }
        buf_append_str(&written, "0\r\n\r\n");
    } else {
        buf_append_slice(&written, buf_slice(&told->body));
    }
    /* One that was at the limit may have grown by a space behind a colon. */
    bool grown = told->head.size > HTTP_HEAD_BYTES_MAX;
    (void)read_request(buf_slice(&written), SIZE_MAX, &again);
    if (!grown) require_same(told, &again);
    told_release(&again);
    buf_release(&written);
}

/* The first byte says how the rest is cut; it holds any number of requests. */
static bool run_http(struct slice input)
{
    size_t step = 1 + fuzz_byte(input, 0) % 32;
    struct slice rest = fuzz_rest(input, 1);
    bool accepted = false;
    enum http_event last = HTTP_END;
    while (rest.size && last == HTTP_END) {
        struct told whole, cut;
        size_t size = read_request(rest, SIZE_MAX, &whole);
        size_t cut_size = read_request(rest, step, &cut);
        require_same(&whole, &cut);
        last = whole.last;
        if (last == HTTP_END) {
            REQUIRE(size == cut_size);
            require_survival(&whole);
            accepted = true;
        }
        rest = slice_of(rest.data + size, rest.size - size);
        told_release(&whole);
        told_release(&cut);
    }
    return accepted;
}

static void seeds_http(fuzz_emit *emit, void *context)
{
    static const char *const requests[] = {
        "\x05GET /health HTTP/1.1\r\nHost: localhost:3000\r\n\r\n",
        "\x01POST /v1/namespaces/n/query?a=b&c HTTP/1.1\r\nhost:h\r\n"
        "Content-Length: 11\r\nContent-Encoding: gzip\r\nExpect: 100-continue\r\n"
        "\r\nhello world",
        "\x07\r\nPUT / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive, x\r\n"
        "\r\nabcGET / HTTP/1.0\r\nX-Request-Id: a.b\r\n\r\n",
        "\x03POST / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nT: t\r\nU:\r\n\r\n",
        "\x01GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br;q=1, gzip;q=0.5\r\n\r\n",
        NULL};
    for (size_t i = 0; requests[i]; i++)
        emit(context, slice_str(requests[i]));
}

const struct fuzz_target fuzz_http[] = {{"http", run_http, seeds_http},
                                        {NULL, NULL, NULL}};
