/* The parser alone: bytes in, events out. */
#include "test.h"

#include <ctype.h>

#include "base/mem.h"
#include "http/http_head.h"
#include "http/http_parse.h"

/* ---- a trace of what the parser says ---- */

/* One request from the front of text, fed in pieces whose sizes next tells; what the
 * parser told is written down. Returns how many bytes it took. */
static size_t trace(const void *bytes, size_t size, size_t (*next)(void *),
                    void *context, struct buf *out)
{
    struct http_parse p;
    enum http_event event = HTTP_MORE;
    struct buf body = BUF_INIT;
    size_t taken = 0;
    http_parse_init(&p);
    while (event != HTTP_END && event != HTTP_BAD && taken < size) {
        size_t step = next(context);
        if (step > size - taken) step = size - taken;
        /* On the heap, so that ASan sees a look beyond the piece. */
        uint8_t *copy = mem_dup((const uint8_t *)bytes + taken, step);
        struct slice in = slice_of(copy, step), piece = SLICE_EMPTY;
        while ((event = http_parse(&p, &in, &piece)) == HTTP_HEAD ||
               event == HTTP_BODY) {
            if (event == HTTP_BODY) {
                assert_true(piece.size > 0);
                buf_append_slice(&body, piece);
                continue;
            }
            buf_printf(out, "%s %s %d", http_parse_method(&p), http_parse_target(&p),
                       p.minor);
            assert_int_equal(strlen(http_parse_target(&p)), p.target_size);
            if (p.body_size == HTTP_BODY_UNKNOWN)
                buf_append_str(out, " chunked");
            else
                buf_printf(out, " %llu", (unsigned long long)p.body_size);
            for (size_t i = 0; i < p.field_count; i++)
                buf_printf(out, " %s=%s.", (const char *)p.text.data + p.fields[i].name,
                           (const char *)p.text.data + p.fields[i].value);
        }
        taken += step - in.size;
        if (event == HTTP_MORE) assert_int_equal(0, in.size);
        mem_free(copy);
    }
    buf_append_str(out, " |");
    buf_append_slice(out, buf_slice(&body));
    buf_append_str(out, "| ");
    if (event == HTTP_BAD)
        buf_printf(out, "%d %s", p.status, p.why);
    else
        buf_append_str(out, event == HTTP_END ? "end" : "more");
    /* What is over stays over. */
    struct slice more = SLICE_LITERAL("GET / HTTP/1.1\r\n\r\n"), piece;
    if (event != HTTP_MORE) {
        assert_int_equal(event, http_parse(&p, &more, &piece));
        assert_int_equal(18, more.size);
    }
    buf_release(&body);
    http_parse_release(&p);
    return taken;
}

static size_t all_at_once(void *context)
{
    (void)context;
    return SIZE_MAX;
}

static size_t fixed(void *context)
{
    return *(size_t *)context;
}

static const char *terminated(struct buf *b)
{
    buf_append_byte(b, '\0');
    b->size--;
    return (const char *)b->data;
}

static void expect_bytes(const void *bytes, size_t size, const char *want)
{
    struct buf told = BUF_INIT;
    (void)trace(bytes, size, all_at_once, NULL, &told);
    assert_string_equal(want, terminated(&told));
    for (size_t step = 1; step < 8; step++) {
        buf_clear(&told);
        (void)trace(bytes, size, fixed, &step, &told);
        assert_string_equal(want, terminated(&told));
    }
    buf_release(&told);
}

static void expect(const char *text, const char *want)
{
    print_message("%.70s\n", text);
    expect_bytes(text, strlen(text), want);
}

/* It is refused with that status, whatever the words. */
static void expect_bad_bytes(const void *bytes, size_t size, int status)
{
    struct buf told = BUF_INIT;
    char want[16];
    for (size_t step = 1; step <= size; step += size - 1) {
        buf_clear(&told);
        (void)trace(bytes, size, fixed, &step, &told);
        (void)snprintf(want, sizeof want, "| %d ", status);
        if (!strstr(terminated(&told), want))
            fail_msg("%.*s\n%s", (int)size, (const char *)bytes, terminated(&told));
    }
    buf_release(&told);
}

static void expect_bad(const char *text, int status)
{
    expect_bad_bytes(text, strlen(text), status);
}

#define HOST         "Host: h\r\n"
#define CHUNKED      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
#define CHUNKED_HEAD "POST / 1 chunked Host=h. Transfer-Encoding=chunked."

/* ---- requests ---- */

static void a_head_becomes_method_target_version_and_fields(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / 1 0 Host=h. || end");
    expect("GET /a?b=c&%20 HTTP/1.0\r\n\r\n", "GET /a?b=c&%20 0 0 || end");
    expect("M-SEARCH /* HTTP/1.1\r\nHost:[::1]:80\r\nA:\r\nB: \t \r\n\r\n",
           "M-SEARCH /* 1 0 Host=[::1]:80. A=. B=. || end");
    expect("GET / HTTP/1.1\r\nHost: h\r\nX: \t a  b\t \r\n\r\n",
           "GET / 1 0 Host=h. X=a  b. || end");
    expect("GET / HTTP/1.1\r\nhost:h\r\nX: \x80\xff\r\n\r\n",
           "GET / 1 0 host=h. X=\x80\xff. || end");
}

static void of_an_absolute_target_the_path_is_left(void **state)
{
    (void)state;
    static const char *const targets[][2] = {{"http://h/a?b", "/a?b"},
                                             {"http://h", "/"},
                                             {"http://h?q", "/?q"},
                                             {"HTTPS://H.example:8/x//y", "/x//y"},
                                             {"http://[::1]:80/a", "/a"},
                                             {"http://h/", "/"},
                                             {"http://h/http://i/", "/http://i/"}};
    static const char *const refused[] = {"h",
                                          "http:/h/",
                                          "http:///a",
                                          "http://:80/a",
                                          "http://u@h/a",
                                          "ftp://h/a",
                                          "http://h#/a",
                                          "http://h\\a",
                                          "httpx://h/a",
                                          "hello/a",
                                          "http://",
                                          "http://h@i/a",
                                          "h:80",
                                          "*",
                                          "example.com:80"};
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        struct buf in = BUF_INIT, out = BUF_INIT;
        buf_printf(&in, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n%c", targets[i][0], 0);
        buf_printf(&out, "GET %s 1 0 Host=h. || end%c", targets[i][1], 0);
        expect((const char *)in.data, (const char *)out.data);
        buf_release(&in);
        buf_release(&out);
    }
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct buf in = BUF_INIT;
        buf_printf(&in, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", refused[i]);
        expect_bad_bytes(in.data, in.size, 400);
        buf_release(&in);
    }
}

static void one_empty_line_before_a_request_is_forgiven(void **state)
{
    (void)state;
    expect("\r\nGET / HTTP/1.0\r\n\r\n", "GET / 0 0 || end");
    expect_bad("\r\n\r\nGET / HTTP/1.0\r\n\r\n", 400);
    expect_bad("\nGET / HTTP/1.0\r\n\r\n", 400);
    expect_bad("\rGET / HTTP/1.0\r\n\r\n", 400);
}

static void a_body_has_the_length_that_was_told(void **state)
{
    (void)state;
    expect("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhelloGET",
           "POST / 0 5 Content-Length=5. |hello| end");
    expect("POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\nhello",
           "POST / 0 0 Content-Length=0. || end");
    expect("POST / HTTP/1.0\r\nContent-Length: 0005 \r\n\r\nhello",
           "POST / 0 5 Content-Length=0005. |hello| end");
    expect("POST / HTTP/1.0\r\nContent-Length: 6\r\n\r\nhello",
           "POST / 0 6 Content-Length=6. |hello| more");
    expect("POST / HTTP/1.0\r\nContent-Length: 1844674407370955160\r\n\r\n",
           "POST / 0 1844674407370955160 Content-Length=1844674407370955160. || more");
}

static void chunks_are_put_together(void **state)
{
    (void)state;
    expect(CHUNKED "0\r\n\r\nGET", CHUNKED_HEAD " || end");
    expect(CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
           CHUNKED_HEAD " |hello world| end");
    expect(CHUNKED "00000A\r\n0123456789\r\n000\r\n\r\n",
           CHUNKED_HEAD " |0123456789| end");
    expect(CHUNKED "a;b\r\n0123456789\r\n0;x=\"y;\t\"\r\n\r\n",
           CHUNKED_HEAD " |0123456789| end");
    expect(CHUNKED "1\r\na\r\n0\r\nTrailer: t\r\nContent-Length: 9\r\n\r\n",
           CHUNKED_HEAD " |a| end");
    expect(CHUNKED "ffffffffffffffff\r\nabc", CHUNKED_HEAD " |abc| more");
}

static void what_follows_a_request_is_not_touched(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "GET /1 HTTP/1.0\r\n\r\n", "POST /2 HTTP/1.0\r\nContent-Length: 2\r\n\r\nab",
        CHUNKED "2\r\nab\r\n0\r\nT: t\r\n\r\n", "\r\nGET /4 HTTP/1.0\r\n\r\n"};
    struct buf all = BUF_INIT, told = BUF_INIT;
    for (size_t i = 0; i < COUNT_OF(requests); i++)
        buf_append_str(&all, requests[i]);
    size_t offset = 0;
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        size_t taken =
            trace(all.data + offset, all.size - offset, all_at_once, NULL, &told);
        assert_int_equal(strlen(requests[i]), taken);
        offset += taken;
    }
    buf_release(&all);
    buf_release(&told);
}

/* ---- refusals ---- */

static void lengths_that_could_be_read_twice_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        int status;
    } cases[] = {
        {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400},
        {"transfer-encoding: identity\r\ncontent-length: 3\r\n", 400},
        {"Content-Length: 3\r\nContent-Length: 3\r\n", 400},
        {"Content-Length: 3, 3\r\n", 400},
        {"Content-Length: 3 3\r\n", 400},
        {"Content-Length:\r\n", 400},
        {"Content-Length: -3\r\n", 400},
        {"Content-Length: +3\r\n", 400},
        {"Content-Length: 0x3\r\n", 400},
        {"Content-Length: 3.0\r\n", 400},
        {"Content-Length: 18446744073709551615\r\n", 400},
        {"Content-Length: 18446744073709551616\r\n", 400},
        {"Content-Length: 99999999999999999999999999\r\n", 400},
        {"Transfer-Encoding:\r\n", 501},
        {"Transfer-Encoding: gzip\r\n", 501},
        {"Transfer-Encoding: gzip, chunked\r\n", 501},
        {"Transfer-Encoding: chunked, chunked\r\n", 501},
        {"Transfer-Encoding: chunked, identity\r\n", 501},
        {"Transfer-Encoding: chunked;q=1\r\n", 501},
        {"Transfer-Encoding: xchunked\r\n", 501},
        {"Transfer-Encoding: \"chunked\"\r\n", 501},
        {"Transfer-Encoding: \x0b"
         "chunked\r\n",
         400},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501},
        {"Transfer-Encoding : chunked\r\n", 400},
        {"Transfer-Encoding\t: chunked\r\n", 400},
        {" Transfer-Encoding: chunked\r\n", 400},
        {"X: y\r\n Transfer-Encoding: chunked\r\n", 400},
        {"Transfer: chunked\r\n -Encoding\r\n", 400},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = BUF_INIT;
        buf_printf(&b, "POST / HTTP/1.1\r\nHost: h\r\n%s\r\n", cases[i].fields);
        expect_bad_bytes(b.data, b.size, cases[i].status);
        buf_release(&b);
    }
    expect_bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

static void malformed_request_lines_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {{" GET / HTTP/1.1\r\n", 400},
                 {"GET  / HTTP/1.1\r\n", 400},
                 {"GET\t/ HTTP/1.1\r\n", 400},
                 {"GET /  HTTP/1.1\r\n", 400},
                 {"GET / HTTP/1.1 \r\n", 400},
                 {"GET / HTTP/1.1\n", 400},
                 {"GET / HTTP/1.1\r\r\n", 400},
                 {"GET / HTTP/1.1\rX", 400},
                 {"GET /\r\n", 400},
                 {"GET /\n", 400},
                 {"GET\r\n", 400},
                 {"GET / http/1.1\r\n", 400},
                 {"GET / HTTP/1\r\n", 400},
                 {"GET / HTTP/1.\r\n", 400},
                 {"GET / HTTP/1.10\r\n", 400},
                 {"GET / HTTP/11.1\r\n", 400},
                 {"GET / HTTP/x.1\r\n", 400},
                 {"GET / HTTPS/1.1\r\n", 400},
                 {"GET / HTTP/1.2\r\n", 505},
                 {"GET / HTTP/0.9\r\n", 505},
                 {"GET / HTTP/2.0\r\n", 505},
                 {"PRI * HTTP/2.0\r\n", 400},
                 {"GET * HTTP/1.1\r\n", 400},
                 {"CONNECT h:80 HTTP/1.1\r\n", 400},
                 {"GET /\x7f HTTP/1.1\r\n", 400},
                 {"GET /\x80 HTTP/1.1\r\n", 400},
                 {"GET /\x01 HTTP/1.1\r\n", 400},
                 {"G(T / HTTP/1.1\r\n", 400},
                 {"G\xc3\x89T / HTTP/1.1\r\n", 400},
                 {"\x16\x03\x01\x02", 400}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_bad(cases[i].text, cases[i].status);
}

static void malformed_fields_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"Host h\r\n",
                                        ": h\r\n",
                                        "Host : h\r\n",
                                        "Ho st: h\r\n",
                                        "Host\r\n",
                                        "Ho\x01st: h\r\n",
                                        "X: a\nY: b\r\n",
                                        "X: a\rY: b\r\n",
                                        "X: a\r\r\n",
                                        "X: a\x01\r\n",
                                        "X: \x7f\r\n",
                                        "X: a\r\n b\r\n",
                                        "X: a\r\n\tb\r\n",
                                        "\n",
                                        "\r\r",
                                        "X\xc3\xa9: a\r\n",
                                        "\"X\": a\r\n",
                                        "X[0]: a\r\n",
                                        "Host: a b\r\n\r\n",
                                        "Host: u@h\r\n\r\n",
                                        "Host: h/\r\n\r\n",
                                        "Host: h\r\nHost: h\r\n\r\n",
                                        "Host: h, h\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = BUF_INIT;
        buf_printf(&b, "GET / HTTP/1.1\r\n%s", cases[i]);
        expect_bad_bytes(b.data, b.size, 400);
        buf_release(&b);
    }
    expect_bad("GET / HTTP/1.1\r\n\r\n", 400);
    expect_bad("GET / HTTP/1.1\r\nX: y\r\n\r\n", 400);
}

static void a_nul_anywhere_in_a_head_is_refused(void **state)
{
    (void)state;
    static const char request[] = "GET /abc HTTP/1.1\r\nHost: h\r\nX: yz\r\n\r\n";
    for (size_t i = 0; i < sizeof request - 1; i++) {
        char broken[sizeof request];
        memcpy(broken, request, sizeof request);
        broken[i] = '\0';
        expect_bad_bytes(broken, sizeof request - 1, 400);
    }
}

static void malformed_chunks_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"\r\n",
                                        "xyz\r\n",
                                        "-1\r\na\r\n",
                                        "+1\r\na\r\n",
                                        "0x1\r\na\r\n",
                                        " 1\r\na\r\n",
                                        "1 \r\na\r\n",
                                        "1 ;x\r\na\r\n",
                                        "1\na\r\n",
                                        "1\ra\r\n",
                                        "1\r\nab\r\n",
                                        "1\r\na\n0\r\n",
                                        "1\r\na\r0\r\n",
                                        "1\r\na0\r\n",
                                        "1;\n",
                                        "1;a\x01\r\n",
                                        ";a\r\n",
                                        "1,\r\na\r\n",
                                        "00000000000000001\r\n",
                                        "fffffffffffffffff\r\n",
                                        "10000000000000000\r\n",
                                        "0\r\nT\r\n\r\n",
                                        "0\r\nT : t\r\n",
                                        "0\r\n t: t\r\n",
                                        "0\r\nT: t\n\r\n",
                                        "0\r\nT: t\r\n\n",
                                        "0\r\n\n",
                                        "0\r\n: t\r\n",
                                        "0\r\nT: \x01\r\n"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = BUF_INIT;
        buf_printf(&b, CHUNKED "%s", cases[i]);
        expect_bad_bytes(b.data, b.size, 400);
        buf_release(&b);
    }
}

/* ---- ceilings: the largest passes, one byte more does not ---- */

static void fill(struct buf *b, size_t size, const char *with)
{
    while (b->size < size)
        buf_append_str(b, with);
    b->size = size;
}

static int status_of(const struct buf *b, size_t step)
{
    struct buf told = BUF_INIT;
    (void)trace(b->data, b->size, fixed, &step, &told);
    const char *end = strrchr(terminated(&told), '|') + 2;
    int status = isdigit((unsigned char)*end) ? atoi(end) : 200;
    buf_release(&told);
    return status;
}

static void expect_ceiling(const char *before, const char *filler, size_t most,
                           const char *after, int status)
{
    for (size_t more = 0; more < 2; more++) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, before);
        fill(&b, most + more, filler);
        buf_append_str(&b, after);
        size_t steps[] = {1, 7, 4096, SIZE_MAX};
        for (size_t i = 0; i < COUNT_OF(steps); i++)
            assert_int_equal(more ? status : 200, status_of(&b, steps[i]));
        buf_release(&b);
    }
}

static void each_part_of_a_request_has_a_ceiling(void **state)
{
    (void)state;
    static const char end[] = "\r\n\r\n";
    expect_ceiling("GET /", "a", HTTP_REQUEST_LINE_MAX - strlen(" HTTP/1.0"),
                   " HTTP/1.0\r\n\r\n", 414);
    expect_ceiling("", "A", HTTP_REQUEST_LINE_MAX - strlen(" / HTTP/1.0"),
                   " / HTTP/1.0\r\n\r\n", 414);
    expect_ceiling("GET / HTTP/1.0\r\nX: ", "x", HTTP_HEAD_BYTES_MAX - strlen(end), end,
                   431);
    expect_ceiling("GET / HTTP/1.0\r\n", "x", HTTP_HEAD_BYTES_MAX - strlen(":\r\n\r\n"),
                   ":\r\n\r\n", 431);
    expect_ceiling("GET / HTTP/1.0\r\nX:", " ", HTTP_HEAD_BYTES_MAX - strlen(end), end,
                   431);
    size_t head = strlen(CHUNKED);
    expect_ceiling(CHUNKED "0;", "x", head + 2 + HTTP_CHUNK_EXTENSIONS_MAX - 1,
                   "\r\n\r\n", 400);
    expect_ceiling(CHUNKED "0\r\nX: ", "x",
                   head + 3 + HTTP_TRAILER_BYTES_MAX - strlen(end), end, 431);
}

static void extensions_are_counted_over_all_chunks(void **state)
{
    (void)state;
    for (int count = 1000; count < 3000; count += 1000) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, CHUNKED);
        for (int i = 0; i < count; i++)
            buf_append_str(&b, "1;x\r\na\r\n");
        buf_append_str(&b, "0\r\n\r\n");
        int want = count * 2 > HTTP_CHUNK_EXTENSIONS_MAX ? 400 : 200;
        assert_int_equal(count == 1000 ? 200 : want, status_of(&b, SIZE_MAX));
        assert_int_equal(count == 1000 ? 200 : want, status_of(&b, 5));
        buf_release(&b);
    }
}

static void expect_fields(const char *before, int most)
{
    for (int count = most; count <= most + 1; count++) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, before);
        for (int i = 0; i < count; i++)
            buf_append_str(&b, "a:\r\n");
        buf_append_str(&b, "\r\n");
        assert_int_equal(count == most ? 200 : 431, status_of(&b, SIZE_MAX));
        assert_int_equal(count == most ? 200 : 431, status_of(&b, 1));
        buf_release(&b);
    }
}

static void a_hundred_fields_are_taken(void **state)
{
    (void)state;
    expect_fields("GET / HTTP/1.0\r\n", HTTP_FIELDS_MAX);
    expect_fields(CHUNKED "0\r\n", HTTP_FIELDS_MAX);
}

/* ---- sets of bytes ---- */

static void names_are_tokens_and_values_have_no_control_characters(void **state)
{
    (void)state;
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (int c = 0; c < 256; c++) {
        bool token = (c < 128 && isalnum(c)) || (c && strchr(marks, c));
        bool value = c == '\t' || (c >= ' ' && c != 0x7f);
        const struct {
            const char *pattern;
            bool fine;
        } places[] = {{"G@T / HTTP/1.0\r\n\r\n", token},
                      {"GET / HTTP/1.0\r\na@b: c\r\n\r\n", token || c == ':'},
                      {"GET / HTTP/1.0\r\na: b@c\r\n\r\n", value},
                      {"GET /a@b HTTP/1.0\r\n\r\n", c > ' ' && c < 0x7f}};
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            struct buf b = BUF_INIT;
            buf_append_str(&b, places[i].pattern);
            *(uint8_t *)memchr(b.data, '@', b.size) = (uint8_t)c;
            if ((status_of(&b, SIZE_MAX) == 200) != places[i].fine)
                fail_msg("byte %d in %s", c, places[i].pattern);
            buf_release(&b);
        }
    }
}

/* ---- terms ---- */

static int terms_of(const char *fields, struct http_terms *terms)
{
    struct http_parse p;
    struct buf b = BUF_INIT;
    struct slice piece;
    const char *why;
    buf_printf(&b, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);
    struct slice in = buf_slice(&b);
    http_parse_init(&p);
    assert_int_equal(HTTP_HEAD, http_parse(&p, &in, &piece));
    int status = http_head_terms(&p, terms, &why);
    http_parse_release(&p);
    buf_release(&b);
    return status;
}

static void connection_options_are_words_of_a_list(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        bool keep_alive;
    } cases[] = {{"", true},
                 {"Connection: close\r\n", false},
                 {"Connection: CLOSE\r\n", false},
                 {"Connection: keep-alive, close\r\n", false},
                 {"Connection: ,,close,\r\n", false},
                 {"Connection: x\r\nConnection: close\r\n", false},
                 {"Connection: closed\r\n", true},
                 {"Connection: x-close\r\n", true},
                 {"Connection: close-not\r\n", true},
                 {"Connection: \r\n", true}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_terms terms;
        assert_int_equal(0, terms_of(cases[i].fields, &terms));
        assert_int_equal(cases[i].keep_alive, terms.keep_alive);
    }
}

/* ---- chance ---- */

static const char *const seeds[] = {
    "GET /echo?a=b&c HTTP/1.1\r\nHost: localhost:3000\r\nAccept: */*\r\n\r\n",
    "POST /v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world",
    "\r\nPUT / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    CHUNKED "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nT: t\r\nU:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
    "\r\n0\r\n\r\n"};

static size_t random_step(void *context)
{
    return 1 + test_random(context) % 9;
}

/* Changes, drops, doubles and swaps a few bytes; those that mean something are likely.
 */
static void mutate(struct buf *b, uint64_t *seed)
{
    static const char meaningful[] = "\r\n \t:;,/.0123456789aAfF\0\x7f\x80\xff";
    for (uint64_t i = test_random(seed) % 4 + 1; i > 0 && b->size > 1; i--) {
        size_t at = test_random(seed) % b->size;
        size_t span = test_random(seed) % 8;
        if (span > b->size - at) span = b->size - at;
        switch (test_random(seed) % 4) {
        case 0:
            b->data[at] = (uint8_t)meaningful[test_random(seed) % sizeof meaningful];
            break;
        case 1: b->data[at] ^= (uint8_t)(1 << test_random(seed) % 8); break;
        case 2:
            memmove(b->data + at, b->data + at + span, b->size - at - span);
            b->size -= span;
            break;
        default: {
            uint8_t copy[8];
            memcpy(copy, b->data + at, span);
            buf_append(b, copy, span);
            break;
        }
        }
    }
}

static void any_bytes_mean_the_same_however_they_are_cut(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    int taken = 0;
    for (int i = 0; i < 60000; i++) {
        const char *text = seeds[test_random(&seed) % COUNT_OF(seeds)];
        struct buf b = BUF_INIT, whole = BUF_INIT, cut = BUF_INIT;
        buf_append_str(&b, text);
        mutate(&b, &seed);
        size_t size = trace(b.data, b.size, all_at_once, NULL, &whole);
        uint64_t steps = test_random(&seed);
        assert_true(trace(b.data, b.size, random_step, &steps, &cut) <= b.size);
        if (!slice_equal(buf_slice(&whole), buf_slice(&cut)))
            fail_msg("%.*s\n%s\n%s", (int)b.size, (const char *)b.data,
                     terminated(&whole), terminated(&cut));
        taken += strstr(terminated(&whole), "| end") != NULL;
        assert_true(size <= b.size);
        buf_release(&b);
        buf_release(&whole);
        buf_release(&cut);
    }
    print_message("%d of 60000 were requests\n", taken);
    assert_true(taken > 0);
}

/* Every pair of places to cut the seeds at. */
static size_t cut_size(void *context)
{
    size_t **next = context;
    return *(*next)++;
}

static void a_request_may_be_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(seeds); i++) {
        size_t size = strlen(seeds[i]);
        struct buf whole = BUF_INIT;
        (void)trace(seeds[i], size, all_at_once, NULL, &whole);
        for (size_t first = 1; first < size; first++)
            for (size_t second = first + 1; second <= size; second++) {
                size_t sizes[] = {first, second - first, SIZE_MAX}, *next = sizes;
                struct buf cut = BUF_INIT;
                (void)trace(seeds[i], size, cut_size, &next, &cut);
                assert_true(slice_equal(buf_slice(&whole), buf_slice(&cut)));
                buf_release(&cut);
            }
        buf_release(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_becomes_method_target_version_and_fields),
        cmocka_unit_test(of_an_absolute_target_the_path_is_left),
        cmocka_unit_test(one_empty_line_before_a_request_is_forgiven),
        cmocka_unit_test(a_body_has_the_length_that_was_told),
        cmocka_unit_test(chunks_are_put_together),
        cmocka_unit_test(what_follows_a_request_is_not_touched),
        cmocka_unit_test(lengths_that_could_be_read_twice_are_refused),
        cmocka_unit_test(malformed_request_lines_are_refused),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(a_nul_anywhere_in_a_head_is_refused),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(each_part_of_a_request_has_a_ceiling),
        cmocka_unit_test(extensions_are_counted_over_all_chunks),
        cmocka_unit_test(a_hundred_fields_are_taken),
        cmocka_unit_test(names_are_tokens_and_values_have_no_control_characters),
        cmocka_unit_test(connection_options_are_words_of_a_list),
        cmocka_unit_test(any_bytes_mean_the_same_however_they_are_cut),
        cmocka_unit_test(a_request_may_be_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
