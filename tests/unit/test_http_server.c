/* Real sockets on loopback, raw bytes: what a client sees is what is tested. */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "http/http_gzip.h"
#include "http/http_server.h"
#include "unit/http_dial.h"
#include "unit/metric_value.h"

/* ---- a small application ---- */

struct app {
    atomic_int handled;
    atomic_int canceled;
    atomic_int timed_out;
    atomic_bool hold; /* /hold waits until this is false */
    atomic_int holding;
    size_t body_max;
};

static bool app_admit(void *context, const struct http_request *head,
                      struct http_admission *admission, struct http_response *response)
{
    struct app *app = context;
    bool hold = strncmp(head->path, "/hold", 5) == 0;
    admission->lane = hold ? HTTP_LANE_QUERY : HTTP_LANE_WRITE;
    if (strcmp(head->path, "/admin") == 0) admission->lane = HTTP_LANE_ADMIN;
    admission->body_max = app->body_max;
    if (strcmp(head->path, "/missing") != 0) return true;
    response->status = 404;
    buf_append_str(&response->body, "{\"error\":\"no such path\"}");
    return false;
}

static void app_hold(struct app *app, struct op *op, bool check)
{
    atomic_fetch_add(&app->holding, 1);
    while (atomic_load(&app->hold)) {
        enum err e = check ? op_check(op) : ERR_OK;
        if (e == ERR_CANCELED) atomic_fetch_add(&app->canceled, 1);
        if (e == ERR_TIMEOUT) atomic_fetch_add(&app->timed_out, 1);
        if (e) break;
        task_sleep_ms(2);
    }
    atomic_fetch_sub(&app->holding, 1);
}

/* /echo answers "method path?query|body"; /size the body's size; /big so many bytes. */
static void app_handle(void *context, struct op *op, const struct http_request *request,
                       struct http_response *response)
{
    struct app *app = context;
    atomic_fetch_add(&app->handled, 1);
    for (size_t i = 0; i < JSON_PADDING; i++)
        assert_int_equal(0, request->body.data[request->body.size + i]);
    if (strncmp(request->path, "/hold", 5) == 0)
        app_hold(app, op, strcmp(request->path, "/hold-deaf") != 0);
    if (op->canceled ||
        (op->deadline_ms != OP_NO_DEADLINE && clock_ms() >= op->deadline_ms))
        response->status = 504;
    response->content_type = "text/plain";
    if (strcmp(request->path, "/size") == 0) {
        buf_printf(&response->body, "%zu", request->body.size);
    } else if (strcmp(request->path, "/big") == 0) {
        for (int i = atoi(request->query_string); i > 0; i -= 10)
            buf_append_str(&response->body, "abcdefghi\n");
    } else if (strcmp(request->path, "/header") == 0) {
        const char *value = http_header(request, "x-test");
        buf_append_str(&response->body, value ? value : "(none)");
        http_response_header(response, "X-Answer", "%d", 42);
    } else {
        buf_printf(&response->body, "%s %s?%s|", request->method, request->path,
                   request->query_string);
        buf_append_slice(&response->body, request->body);
    }
}

static void app_refuse(void *context, int status, const char *why,
                       struct http_response *response)
{
    (void)context;
    buf_printf(&response->body, "{\"error\":\"%d %s\"}", status, why);
}

struct fixture {
    struct app app;
    struct http_server_options options;
    struct http_server *server;
};

static struct fixture *fixture_new(void)
{
    struct fixture *f = mem_new(struct fixture);
    f->app.body_max = 1 << 20;
    f->options = (struct http_server_options){.host = "127.0.0.1",
                                              .connections_max = 64,
                                              .lane_threads = {1, 2, 2},
                                              .lane_queue_max = {8, 8, 2},
                                              .body_memory_max = 8 << 20,
                                              .request_timeout_ms = 20000,
                                              .idle_timeout_ms = 20000,
                                              .handler = {&f->app, app_admit,
                                                          app_handle, app_refuse}};
    return f;
}

static void fixture_start(struct fixture *f)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(ERR_OK, http_server_start(&op, &f->options, &f->server));
    op_release(&op);
}

static struct fixture *fixture_started(void)
{
    struct fixture *f = fixture_new();
    fixture_start(f);
    return f;
}

static void fixture_free(struct fixture *f)
{
    atomic_store(&f->app.hold, false);
    http_server_free(f->server);
    mem_free(f);
}

/* ---- a raw client ---- */

static int dial(struct fixture *f)
{
    return dial_port(http_server_port(f->server));
}

struct answer {
    int status; /* 0: the connection ended without an answer */
    struct buf head;
    struct buf body;
};

static void answer_release(struct answer *a)
{
    buf_release(&a->head);
    buf_release(&a->body);
}

static const char *text_of(struct buf *b)
{
    buf_reserve(b, 1);
    b->data[b->size] = '\0';
    return (const char *)b->data;
}

static bool head_has(struct answer *a, const char *line)
{
    return strcasestr(text_of(&a->head), line) != NULL;
}

static bool read_byte(int fd, struct buf *into)
{
    uint8_t byte;
    if (recv(fd, &byte, 1, 0) != 1) return false;
    buf_append_byte(into, byte);
    return true;
}

/* One answer; with_body is false for HEAD. */
static struct answer receive_part(int fd, bool with_body)
{
    struct answer a = {0};
    while (!head_has(&a, "\r\n\r\n"))
        if (!read_byte(fd, &a.head)) return a;
    a.status = atoi(text_of(&a.head) + strlen("HTTP/1.1 "));
    const char *length = strcasestr(text_of(&a.head), "\r\nContent-Length: ");
    size_t size =
        length ? strtoul(length + strlen("\r\nContent-Length: "), NULL, 10) : 0;
    if (!with_body) return a;
    buf_reserve(&a.body, size);
    while (a.body.size < size) {
        ssize_t n = recv(fd, a.body.data + a.body.size, size - a.body.size, 0);
        if (n <= 0) break;
        a.body.size += (size_t)n;
    }
    return a;
}

static struct answer receive(int fd)
{
    return receive_part(fd, true);
}

/* Has the server closed its side? Waits for it. */
static bool closed(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void expect(int fd, int status, const char *body)
{
    struct answer a = receive(fd);
    assert_int_equal(status, a.status);
    if (body) assert_string_equal(body, text_of(&a.body));
    answer_release(&a);
}

/* A refusal in our words, and the connection's end. */
static void expect_refusal_of(struct fixture *f, struct slice request, int status)
{
    int fd = dial(f);
    assert_true(send_all(fd, request.data, request.size));
    struct answer a = receive(fd);
    assert_int_equal(status, a.status);
    assert_true(head_has(&a, "\r\nConnection: close\r\n"));
    assert_true(head_has(&a, "\r\nX-Request-Id: "));
    assert_true(head_has(&a, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(text_of(&a.body), "{\"error\":"));
    answer_release(&a);
    assert_true(closed(fd));
    (void)close(fd);
    assert_int_equal(0, atomic_load(&f->app.handled));
}

static void expect_refusal(struct fixture *f, const char *request, int status)
{
    expect_refusal_of(f, slice_str(request), status);
}

static void wait_for(atomic_int *counter, int value)
{
    int64_t until_ms = clock_ms() + 20000;
    while (atomic_load(counter) != value && clock_ms() < until_ms)
        task_sleep_ms(1);
    assert_int_equal(value, atomic_load(counter));
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST_HEAD(path, length)                                                        \
    "POST " path " HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n"
#define CHUNKED_HEAD                                                                   \
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

struct flood {
    int fd;
    struct slice bytes;
};

static void run_flood(void *arg)
{
    struct flood *flood = arg;
    (void)send_all(flood->fd, flood->bytes.data, flood->bytes.size);
}

/* ---- what a request is ---- */

static void a_get_is_answered_with_path_and_query_as_sent(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, GET("/echo/%61%2Fb?x=%20&y"));
    expect(fd, 200, "GET /echo/%61%2Fb?x=%20&y|");
    (void)close(fd);
}

static void a_post_body_arrives_whole_however_it_was_cut(void **state)
{
    struct fixture *f = *state;
    static const char request[] = POST_HEAD("/echo", "11") "\r\nhello world";
    for (size_t cut = 1; cut < sizeof request - 1; cut += 7) {
        int fd = dial(f);
        assert_true(send_all(fd, request, cut));
        task_sleep_ms(2);
        send_text(fd, request + cut);
        expect(fd, 200, "POST /echo?|hello world");
        (void)close(fd);
    }
}

static void a_request_sent_byte_by_byte_is_understood(void **state)
{
    struct fixture *f = *state;
    static const char request[] =
        POST_HEAD("/echo", "3") "X-A:b\r\nX-B:  c \r\n\r\nabc";
    int fd = dial(f);
    for (size_t i = 0; i < sizeof request - 1; i++)
        assert_true(send_all(fd, request + i, 1));
    expect(fd, 200, "POST /echo?|abc");
    (void)close(fd);
}

static void a_large_body_arrives_whole(void **state)
{
    struct fixture *f = *state;
    struct buf body = BUF_INIT;
    uint64_t seed = test_seed();
    for (size_t i = 0; i < 1 << 20; i++)
        buf_append_byte(&body, (uint8_t)('a' + test_random(&seed) % 26));
    int fd = dial(f);
    send_text(fd, POST_HEAD("/echo", "1048576") "\r\n");
    assert_true(send_all(fd, body.data, body.size));
    struct answer a = receive(fd);
    assert_int_equal(200, a.status);
    size_t prefix = strlen("POST /echo?|");
    assert_int_equal(body.size + prefix, a.body.size);
    assert_memory_equal(body.data, a.body.data + prefix, body.size);
    answer_release(&a);
    buf_release(&body);
    (void)close(fd);
}

static void a_chunked_body_arrives_whole(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: t\r\n\r\n");
    expect(fd, 200, "POST /echo?|hello world");
    send_text(fd, GET("/echo"));
    expect(fd, 200, "GET /echo?|");
    (void)close(fd);
}

static void headers_reach_the_handler_and_its_own_the_client(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "GET /header HTTP/1.1\r\nHost: h\r\nX-TEST: a b\r\n\r\n");
    struct answer a = receive(fd);
    assert_int_equal(200, a.status);
    assert_true(head_has(&a, "\r\nX-Answer: 42\r\n"));
    assert_true(head_has(&a, "\r\nContent-Type: text/plain\r\n"));
    assert_string_equal("a b", text_of(&a.body));
    answer_release(&a);
    (void)close(fd);
}

static void head_is_answered_like_get_without_the_body(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\n" GET("/echo"));
    struct answer a = receive_part(fd, false);
    assert_int_equal(200, a.status);
    assert_true(head_has(&a, "\r\nContent-Length: 11\r\n"));
    answer_release(&a);
    expect(fd, 200, "GET /echo?|");
    (void)close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, GET("/echo/1") POST_HEAD("/echo/2", "2") "\r\nab" GET("/missing")
                      GET("/echo/3"));
    expect(fd, 200, "GET /echo/1?|");
    expect(fd, 200, "POST /echo/2?|ab");
    expect(fd, 404, NULL);
    expect(fd, 200, "GET /echo/3?|");
    (void)close(fd);
}

static void an_http_1_0_client_gets_its_answer_and_the_end(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "GET /echo HTTP/1.0\r\n\r\n");
    expect(fd, 200, "GET /echo?|");
    assert_true(closed(fd));
    (void)close(fd);
}

static void an_http_1_0_client_that_asks_keeps_its_connection(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    for (int i = 0; i < 3; i++) {
        send_text(fd, "GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        struct answer a = receive(fd);
        assert_int_equal(200, a.status);
        assert_true(head_has(&a, "\r\nConnection: keep-alive\r\n"));
        answer_release(&a);
    }
    (void)close(fd);
}

static void a_client_that_asks_for_the_end_gets_it(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" GET(
                      "/never"));
    struct answer a = receive(fd);
    assert_int_equal(200, a.status);
    assert_true(head_has(&a, "\r\nConnection: close\r\n"));
    answer_release(&a);
    assert_true(closed(fd));
    assert_int_equal(1, atomic_load(&f->app.handled));
    (void)close(fd);
}

/* More than is received at once, and bodies between them that end anywhere. */
static void a_thousand_pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 1000 };
    struct buf all = BUF_INIT;
    for (int i = 0; i < COUNT; i++) {
        if (i % 3 == 0)
            buf_printf(&all, GET("/echo/%d"), i);
        else if (i % 3 == 1)
            buf_printf(&all, POST_HEAD("/echo/%d", "5") "\r\nhello", i);
        else
            buf_printf(&all, CHUNKED_HEAD "%x\r\n%*s\r\n0\r\n\r\n", i, i, "");
    }
    int fd = dial(f);
    struct flood flood = {fd, buf_slice(&all)};
    struct thread *sender = thread_start("flood", run_flood, &flood);
    for (int i = 0; i < COUNT; i++) {
        char want[64];
        struct answer a = receive(fd);
        assert_int_equal(200, a.status);
        (void)snprintf(want, sizeof want, "%s /echo/%d?|%s", i % 3 ? "POST" : "GET", i,
                       i % 3 ? "hello" : "");
        if (i % 3 == 2)
            assert_int_equal(strlen("POST /echo?|") + (size_t)i, a.body.size);
        else
            assert_string_equal(want, text_of(&a.body));
        answer_release(&a);
    }
    thread_join(sender);
    (void)close(fd);
    buf_release(&all);
}

static void expect_100_continue_is_answered_before_the_body(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, POST_HEAD("/echo", "2") "Expect: 100-continue\r\n\r\n");
    struct answer a = receive_part(fd, false);
    assert_int_equal(100, a.status);
    answer_release(&a);
    send_text(fd, "ok");
    expect(fd, 200, "POST /echo?|ok");
    (void)close(fd);
}

/* ---- request ids ---- */

static void a_sane_request_id_comes_back(void **state)
{
    struct fixture *f = *state;
    static const char *const ids[] = {
        "a", "AZaz09._-",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    int fd = dial(f);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "GET /echo HTTP/1.1\r\nHost: h\r\nX-Request-Id: %s\r\n\r\n",
                       ids[i]);
        send_text(fd, text);
        struct answer a = receive(fd);
        (void)snprintf(text, sizeof text, "\r\nX-Request-Id: %s\r\n", ids[i]);
        assert_true(head_has(&a, text));
        answer_release(&a);
    }
    (void)close(fd);
}

static void other_request_ids_are_replaced_by_new_ones(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {
        "", "X-Request-Id: \r\n", "X-Request-Id: a b\r\n", "X-Request-Id: \"\r\n",
        "X-Request-Id: "
        "01234567890123456789012345678901234567890123456789012345678901234\r\n"};
    char last[64] = "";
    int fd = dial(f);
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "GET /echo HTTP/1.1\r\nHost: h\r\n%s\r\n",
                       lines[i]);
        send_text(fd, text);
        struct answer a = receive(fd);
        const char *id = strstr(text_of(&a.head), "\r\nX-Request-Id: ");
        assert_non_null(id);
        id += strlen("\r\nX-Request-Id: ");
        assert_int_equal(32, strspn(id, "0123456789abcdef"));
        assert_memory_not_equal(last, id, 32);
        memcpy(last, id, 32);
        answer_release(&a);
    }
    (void)close(fd);
}

/* ---- heads that are refused ---- */

static void heads_two_servers_could_read_differently_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
         "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {POST_HEAD("/echo", "3") "Content-Length: 3\r\n\r\nabc", 400},
        {POST_HEAD("/echo", "3") "Content-Length: 4\r\n\r\nabcd", 400},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
         501},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
         "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         501},
        {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A : b\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A\t: b\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\tc\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer: chunked\r\n -Encoding\r\n"
         "Content-Length: 0\r\n\r\n",
         400},
        {"GET /echo HTTP/1.1\nHost: h\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: b\nX-B: c\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\n\n", 400},
        {"GET /echo HTTP/1.1\nHost: h\n\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: b\rc\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: b\x01\r\n\r\n", 400},
        {"GET  /echo HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /echo  HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /ec ho HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"G(T /echo HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400},
        {"GET /echo HTTP/1.7\r\nHost: h\r\n\r\n", 505},
        {POST_HEAD("/echo", "3") "Expect: 200-maybe\r\n\r\nabc", 417},
        {POST_HEAD("/echo", "3") "Content-Encoding: br\r\n\r\nabc", 415},
        {POST_HEAD("/echo", "99999999") "\r\n", 413},
        {POST_HEAD("/missing", "99999999") "\r\n", 404},
        {POST_HEAD("/missing", "5") "Expect: 100-continue\r\n\r\n", 404},
        {"POST /missing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
         404},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        print_message("%zu: %.60s\n", i, cases[i].request);
        expect_refusal(f, cases[i].request, cases[i].status);
    }
}

/* A NUL cannot stand in a C string. */
static void a_nul_in_the_head_is_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const patterns[] = {
        "GET /e@ho HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHo@st: h\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: h@h\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: h\r\nX: @@\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        char request[128];
        size_t size = strlen(patterns[i]);
        memcpy(request, patterns[i], size);
        for (size_t j = 0; j < size; j++)
            if (request[j] == '@') request[j] = '\0';
        expect_refusal_of(f, slice_of(request, size), 400);
    }
}

static void bytes_that_are_no_request_are_refused_in_our_words(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /echo\r\n\r\n", 400},
        {"GET\r\n\r\n", 400},
        {"\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x01\x01 \r\n\r\n", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"GET /echo HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"GET /echo http/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\nHost h\r\n\r\n", 400},
        {POST_HEAD("/echo", "-1") "\r\n", 400},
        {POST_HEAD("/echo", "+1") "\r\na", 400},
        {POST_HEAD("/echo", "0x1") "\r\na", 400},
        {POST_HEAD("/echo", "1,1") "\r\na", 400},
        {POST_HEAD("/echo", "") "\r\n", 400},
        {POST_HEAD("/echo", "18446744073709551616") "\r\n", 400},
        {CHUNKED_HEAD "xyz\r\n", 400},
        {CHUNKED_HEAD "ffffffffffffffffff\r\n", 400},
        {CHUNKED_HEAD "ffffffffffffffff\r\nabc", 413},
        {CHUNKED_HEAD "-1\r\na\r\n", 400},
        {CHUNKED_HEAD "2\r\nabc\r\n0\r\n\r\n", 400},
        {CHUNKED_HEAD "1\na\r\n0\r\n\r\n", 400},
        {CHUNKED_HEAD "1\r\na\n0\r\n\r\n", 400},
        {CHUNKED_HEAD "1\r\na\r\n0\r\nX: y\n\r\n", 400},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        print_message("%zu\n", i);
        expect_refusal(f, cases[i].request, cases[i].status);
    }
}

/* A refusal ends the connection, but is not lost to a reset although we go on sending.
 */
static void a_refusal_reaches_a_client_that_goes_on_sending(void **state)
{
    struct fixture *f = *state;
    struct buf flood = BUF_INIT;
    buf_append_zeros(&flood, 4 << 20);
    static const char *const beginnings[] = {"GET /echo HTTP/1.1\nHost: h\r\n\r\n",
                                             "\x16\x03", CHUNKED_HEAD "xyz"};
    for (size_t i = 0; i < COUNT_OF(beginnings); i++) {
        int fd = dial(f);
        send_text(fd, beginnings[i]);
        (void)send_all(fd, flood.data, flood.size);
        expect(fd, 400, NULL);
        assert_true(closed(fd));
        (void)close(fd);
    }
    buf_release(&flood);
}

static void a_refusal_carries_the_id_that_was_sent_before_the_fault(void **state)
{
    struct fixture *f = *state;
    static const char *const requests[] = {
        "GET /echo HTTP/1.1\r\nX-Request-Id: me\r\nHost: h\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: h\r\nX-Request-Id: me\r\nHost: h\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: h\r\nX-Request-Id: me\r\n"
        "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"};
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        int fd = dial(f);
        send_text(fd, requests[i]);
        struct answer a = receive(fd);
        assert_int_equal(400, a.status);
        assert_true(head_has(&a, "\r\nX-Request-Id: me\r\n"));
        answer_release(&a);
        (void)close(fd);
    }
}

static void request_with_target(struct buf *b, size_t size)
{
    buf_append_str(b, "GET /");
    for (size_t i = 1; i < size; i++)
        buf_append_byte(b, 'a');
    buf_append_str(b, " HTTP/1.1\r\nHost: h\r\n\r\n");
}

static int status_of(struct fixture *f, struct slice request)
{
    int fd = dial(f);
    (void)send_all(fd, request.data, request.size);
    struct answer a = receive(fd);
    int status = a.status;
    answer_release(&a);
    (void)close(fd);
    return status;
}

static void a_request_line_above_8_kib_is_414(void **state)
{
    struct fixture *f = *state;
    size_t most = 8192 - strlen("GET  HTTP/1.1");
    struct buf b = BUF_INIT;
    request_with_target(&b, most);
    assert_int_equal(200, status_of(f, buf_slice(&b)));
    buf_clear(&b);
    request_with_target(&b, most + 1);
    assert_int_equal(414, status_of(f, buf_slice(&b)));
    buf_clear(&b);
    request_with_target(&b, 300000);
    assert_int_equal(414, status_of(f, buf_slice(&b)));
    buf_release(&b);
}

static void a_head_above_16_kib_is_431(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {16384, 16385, 100000, 300000};
    static const int statuses[] = {200, 431, 431, 431};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, "GET /echo HTTP/1.1\r\nHost: h\r\nX-Long: ");
        while (b.size < sizes[i] - 4)
            buf_append_byte(&b, 'x');
        buf_append_str(&b, "\r\n\r\n");
        assert_int_equal(statuses[i], status_of(f, buf_slice(&b)));
        buf_release(&b);
    }
}

static void more_than_100_fields_are_431(void **state)
{
    struct fixture *f = *state;
    for (int count = 99; count <= 5000; count = count == 99 ? 100 : count * 7) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, "GET /echo HTTP/1.1\r\nHost: h\r\n");
        for (int i = 0; i < count; i++)
            buf_append_str(&b, "a:\r\n");
        buf_append_str(&b, "\r\n");
        assert_int_equal(count < 100 ? 200 : 431, status_of(f, buf_slice(&b)));
        buf_release(&b);
    }
}

static void a_query_of_more_than_64_parts_is_414(void **state)
{
    struct fixture *f = *state;
    static const int counts[] = {63, 64, 500, 4000};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct buf b = BUF_INIT;
        buf_append_str(&b, "GET /echo?");
        for (int j = 0; j < counts[i]; j++)
            buf_append_str(&b, "a&");
        buf_append_str(&b, " HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(counts[i] < 64 ? 200 : 414, status_of(f, buf_slice(&b)));
        buf_release(&b);
    }
}

/* ---- bodies that are refused ---- */

static void a_small_refused_body_leaves_the_connection_open(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, POST_HEAD("/missing", "5") "\r\nhello" GET("/echo"));
    expect(fd, 404, "{\"error\":\"no such path\"}");
    expect(fd, 200, "GET /echo?|");
    (void)close(fd);
}

/* Answered at once, and the answer is not lost to a reset although we go on sending. */
static void a_large_refused_body_is_answered_before_it_is_sent(void **state)
{
    struct fixture *f = *state;
    struct buf body = BUF_INIT;
    buf_append_zeros(&body, 4 << 20);
    for (int i = 0; i < 20; i++) {
        int fd = dial(f);
        send_text(fd, POST_HEAD("/echo", "4194304") "\r\n");
        (void)send_all(fd, body.data, body.size);
        expect(fd, 413, NULL);
        (void)close(fd);
    }
    buf_release(&body);
    assert_int_equal(0, atomic_load(&f->app.handled));
}

static void a_chunked_body_above_the_limit_is_413_in_the_middle(void **state)
{
    struct fixture *f = *state;
    struct buf chunk = BUF_INIT;
    buf_append_str(&chunk, "10000\r\n");
    buf_append_zeros(&chunk, 0x10000);
    buf_append_str(&chunk, "\r\n");
    int fd = dial(f);
    send_text(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nX-Request-Id: me\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 17; i++)
        (void)send_all(fd, chunk.data, chunk.size);
    struct answer a = receive(fd);
    assert_int_equal(413, a.status);
    assert_true(head_has(&a, "\r\nX-Request-Id: me\r\n"));
    answer_release(&a);
    assert_true(closed(fd));
    (void)close(fd);
    buf_release(&chunk);
    assert_int_equal(0, atomic_load(&f->app.handled));
}

static void bodies_beyond_the_shared_memory_are_429(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    f->options.body_memory_max = 300 << 10;
    fixture_start(f);
    atomic_store(&f->app.hold, true);
    struct buf body = BUF_INIT;
    buf_append_zeros(&body, 256 << 10);

    int first = dial(f);
    send_text(first, POST_HEAD("/hold", "262144") "\r\n");
    assert_true(send_all(first, body.data, body.size));
    wait_for(&f->app.holding, 1);
    int second = dial(f);
    send_text(second, POST_HEAD("/size", "262144") "\r\n");
    (void)send_all(second, body.data, body.size);
    struct answer a = receive(second);
    assert_int_equal(429, a.status);
    assert_true(head_has(&a, "\r\nRetry-After: 1\r\n"));
    answer_release(&a);
    (void)close(second);

    atomic_store(&f->app.hold, false);
    struct answer b = receive(first);
    assert_int_equal(200, b.status);
    answer_release(&b);
    (void)close(first);
    while (http_server_in_flight(f->server))
        task_sleep_ms(1);
    second = dial(f);
    send_text(second, POST_HEAD("/size", "262144") "\r\n");
    assert_true(send_all(second, body.data, body.size));
    expect(second, 200, "262144");
    (void)close(second);
    buf_release(&body);
    fixture_free(f);
}

/* ---- gzip ---- */

static void post_gzip(int fd, struct slice packed)
{
    char head[256];
    (void)snprintf(head, sizeof head,
                   "POST /size HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   packed.size);
    send_text(fd, head);
    assert_true(send_all(fd, packed.data, packed.size));
}

static struct buf zeros_packed(size_t size)
{
    struct buf plain = BUF_INIT, packed = BUF_INIT;
    buf_append_zeros(&plain, size);
    http_gzip(buf_slice(&plain), &packed);
    buf_release(&plain);
    return packed;
}

static void a_gzip_body_is_unpacked_up_to_the_limit(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1 << 20};
    int fd = dial(f);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf packed = zeros_packed(sizes[i]);
        char size[32];
        (void)snprintf(size, sizeof size, "%zu", sizes[i]);
        post_gzip(fd, buf_slice(&packed));
        expect(fd, 200, size);
        buf_release(&packed);
    }
    (void)close(fd);
}

static void a_gzip_bomb_is_413(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {(1 << 20) + 1, 128 << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf packed = zeros_packed(sizes[i]);
        assert_true(packed.size < f->app.body_max);
        int fd = dial(f);
        post_gzip(fd, buf_slice(&packed));
        expect(fd, 413, NULL);
        (void)close(fd);
        buf_release(&packed);
    }
}

static void a_damaged_gzip_body_is_400(void **state)
{
    struct fixture *f = *state;
    struct buf packed = zeros_packed(1000);
    int fd = dial(f);
    for (size_t size = 0; size < packed.size; size++) {
        post_gzip(fd, slice_of(packed.data, size));
        expect(fd, 400, NULL);
    }
    for (size_t bit = 0; bit < packed.size * 8; bit++) {
        packed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        post_gzip(fd, buf_slice(&packed));
        struct answer a = receive(fd);
        /* A bit that means nothing (a time, padding) changes nothing. */
        if (a.status == 200)
            assert_string_equal("1000", text_of(&a.body));
        else
            assert_int_equal(400, a.status);
        answer_release(&a);
        packed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_release(&packed);
    (void)close(fd);
}

static size_t unpack(struct slice packed, uint8_t *plain, size_t room)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)packed.data,
                  .avail_in = (uInt)packed.size,
                  .next_out = plain,
                  .avail_out = (uInt)room};
    assert_int_equal(Z_OK, inflateInit2(&z, 31));
    assert_int_equal(Z_STREAM_END, inflate(&z, Z_FINISH));
    assert_int_equal(Z_OK, inflateEnd(&z));
    return room - z.avail_out;
}

static void large_answers_are_packed_for_those_who_take_gzip(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *accept;
        bool packed;
    } cases[] = {{"Accept-Encoding: gzip\r\n", true},
                 {"Accept-Encoding: deflate, GZIP;q=0.5\r\n", true},
                 {"Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true},
                 {"Accept-Encoding: gzip;q=0\r\n", false},
                 {"Accept-Encoding: gzip; q=0.000\r\n", false},
                 {"Accept-Encoding: xgzip\r\n", false},
                 {"Accept-Encoding: gzipx\r\n", false},
                 {"Accept-Encoding: \r\n", false},
                 {"", false}};
    int fd = dial(f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char request[256];
        (void)snprintf(request, sizeof request,
                       "GET /big?100000 HTTP/1.1\r\nHost: h\r\n%s\r\n",
                       cases[i].accept);
        send_text(fd, request);
        struct answer a = receive(fd);
        assert_int_equal(200, a.status);
        assert_true(head_has(&a, "\r\nVary: Accept-Encoding\r\n"));
        assert_int_equal(cases[i].packed,
                         head_has(&a, "\r\nContent-Encoding: gzip\r\n"));
        if (cases[i].packed) {
            static uint8_t plain[200000];
            assert_true(a.body.size < 10000);
            assert_int_equal(100000, unpack(buf_slice(&a.body), plain, sizeof plain));
            assert_memory_equal("abcdefghi\n", plain + 99990, 10);
        } else {
            assert_int_equal(100000, a.body.size);
        }
        answer_release(&a);
    }
    (void)close(fd);
}

static void small_answers_are_not_packed(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, "GET /big?1020 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    struct answer a = receive(fd);
    assert_int_equal(1020, a.body.size);
    assert_false(head_has(&a, "\r\nContent-Encoding"));
    answer_release(&a);
    (void)close(fd);
}

/* ---- time ---- */

static struct fixture *hasty(void)
{
    struct fixture *f = fixture_new();
    f->options.idle_timeout_ms = 400;
    f->options.head_timeout_ms = 200;
    f->options.rate_window_ms = 200;
    f->options.request_timeout_ms = 200;
    fixture_start(f);
    return f;
}

/* Sends text a byte at a time, each after ms, until the server ends it. */
static struct answer drip(int fd, const char *text, int ms)
{
    while (*text && send_all(fd, text, 1)) {
        uint8_t byte;
        if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) break;
        task_sleep_ms(ms);
        text++;
    }
    return receive(fd);
}

static void a_head_that_drips_is_408(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    static const char *const before[] = {"", GET("/echo")};
    for (size_t i = 0; i < COUNT_OF(before); i++) {
        int fd = dial(f);
        if (*before[i]) {
            send_text(fd, before[i]);
            expect(fd, 200, NULL);
        }
        int64_t start_ms = clock_ms();
        struct answer a =
            drip(fd, "GET /echo HTTP/1.1\r\nHost: hhhhhhhhhhhhhhhhhhh", 20);
        assert_int_equal(408, a.status);
        assert_non_null(strstr(text_of(&a.body), "{\"error\":"));
        assert_true(clock_ms() - start_ms >= 200);
        assert_true(clock_ms() - start_ms < 10000);
        answer_release(&a);
        assert_true(closed(fd));
        (void)close(fd);
    }
    fixture_free(f);
}

static void a_request_line_that_drips_is_408(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    int fd = dial(f);
    struct answer a =
        drip(fd, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 20);
    assert_int_equal(408, a.status);
    answer_release(&a);
    (void)close(fd);
    fixture_free(f);
}

static void a_body_that_stalls_or_drips_is_408(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    int fd = dial(f);
    send_text(fd, POST_HEAD("/echo", "100") "\r\nabc");
    expect(fd, 408, NULL);
    assert_true(closed(fd));
    (void)close(fd);

    fd = dial(f);
    send_text(fd, POST_HEAD("/echo", "10000") "\r\n");
    struct answer a = drip(fd, "0123456789012345678901234567890123456789012345678", 20);
    assert_int_equal(408, a.status);
    answer_release(&a);
    (void)close(fd);
    assert_int_equal(0, atomic_load(&f->app.handled));
    fixture_free(f);
}

/* 4 KiB in each 20 ms is 200 KiB/s: long, but never slow. */
static void a_long_body_at_a_fair_rate_is_taken(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    char piece[4096];
    memset(piece, 'x', sizeof piece);
    int fd = dial(f);
    send_text(fd, POST_HEAD("/size", "131072") "\r\n");
    for (int i = 0; i < 32; i++) {
        assert_true(send_all(fd, piece, sizeof piece));
        task_sleep_ms(20);
    }
    expect(fd, 200, "131072");
    (void)close(fd);
    fixture_free(f);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    int fresh = dial(f);
    int used = dial(f);
    send_text(used, GET("/echo"));
    expect(used, 200, NULL);
    int64_t start_ms = clock_ms();
    assert_true(closed(fresh));
    assert_true(closed(used));
    assert_true(clock_ms() - start_ms >= 300);
    (void)close(fresh);
    (void)close(used);
    fixture_free(f);
}

static void an_empty_line_and_no_request_is_closed_without_a_word(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    int fd = dial(f);
    send_text(fd, GET("/echo") "\r\n");
    expect(fd, 200, NULL);
    assert_true(closed(fd));
    (void)close(fd);
    fixture_free(f);
}

static void a_reader_that_does_not_read_is_cut_off(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    int small = 4096;
    int fd = dial(f);
    assert_int_equal(0, setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    send_text(fd, GET("/big?40000000"));
    int64_t until_ms = clock_ms() + 20000;
    while (http_server_in_flight(f->server) == 0 && clock_ms() < until_ms)
        task_sleep_ms(1);
    while (http_server_in_flight(f->server) > 0 && clock_ms() < until_ms)
        task_sleep_ms(10);
    assert_int_equal(0, http_server_in_flight(f->server));
    (void)close(fd);
    fixture_free(f);
}

static void a_handler_sees_its_deadline(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    atomic_store(&f->app.hold, true);
    int fd = dial(f);
    send_text(fd, GET("/hold"));
    expect(fd, 504, NULL);
    assert_int_equal(1, atomic_load(&f->app.timed_out));
    (void)close(fd);
    fixture_free(f);
}

static void a_request_that_waited_past_its_deadline_is_504_unhandled(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    atomic_store(&f->app.hold, true);
    int held[2];
    for (int i = 0; i < 2; i++) {
        held[i] = dial(f);
        send_text(held[i], GET("/hold-deaf"));
    }
    wait_for(&f->app.holding, 2);
    int fd = dial(f);
    send_text(fd, GET("/hold-late"));
    task_sleep_ms(300);
    atomic_store(&f->app.hold, false);
    expect(fd, 504, NULL);
    assert_int_equal(2, atomic_load(&f->app.handled));
    (void)close(fd);
    for (int i = 0; i < 2; i++)
        (void)close(held[i]);
    fixture_free(f);
}

/* ---- many at once ---- */

static void a_full_lane_is_429_and_other_lanes_go_on(void **state)
{
    struct fixture *f = *state;
    int held[4];
    atomic_store(&f->app.hold, true);
    for (int i = 0; i < 4; i++) {
        held[i] = dial(f);
        send_text(held[i], GET("/hold"));
        if (i == 1) wait_for(&f->app.holding, 2);
    }
    int64_t until_ms = clock_ms() + 10000;
    while (http_server_in_flight(f->server) < 4 && clock_ms() < until_ms)
        task_sleep_ms(1);
    task_sleep_ms(20);

    int fd = dial(f);
    send_text(fd, GET("/hold"));
    struct answer a = receive(fd);
    assert_int_equal(429, a.status);
    assert_true(head_has(&a, "\r\nRetry-After: 1\r\n"));
    answer_release(&a);
    send_text(fd, GET("/echo") GET("/admin"));
    expect(fd, 200, NULL);
    expect(fd, 200, NULL);
    (void)close(fd);

    atomic_store(&f->app.hold, false);
    for (int i = 0; i < 4; i++) {
        expect(held[i], 200, NULL);
        (void)close(held[i]);
    }
}

/* Two at work, the others wait: late at each look for 100 ms, so the next request's
 * look finds a queue that stands. */
static void what_waits_too_long_in_a_standing_queue_is_shed(void **state)
{
    (void)state;
    static const char counter[] = "elacsym_http_shed_total{lane=\"query\"}";
    struct fixture *f = fixture_new();
    f->options.lane_delay_max_ms[HTTP_LANE_QUERY] = 10;
    f->options.lane_queue_max[HTTP_LANE_QUERY] = 8;
    fixture_start(f);
    atomic_store(&f->app.hold, true);
    double before = metric_value(counter, 0);
    int fds[8];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(f);
        send_text(fds[i], GET("/hold"));
        if (i == 1) wait_for(&f->app.holding, 2);
    }
    task_sleep_ms(20);
    for (int i = 4; i < 8; i++) {
        fds[i] = dial(f);
        send_text(fds[i], GET("/hold"));
        task_sleep_ms(i < 7 ? 60 : 0);
    }
    for (int i = 2; i < 4; i++) {
        struct answer a = receive(fds[i]);
        assert_int_equal(429, a.status);
        assert_true(head_has(&a, "\r\nRetry-After: 1\r\n"));
        assert_false(head_has(&a, "\r\nConnection: close\r\n"));
        answer_release(&a);
        send_text(fds[i], GET("/admin"));
        expect(fds[i], 200, NULL);
    }
    assert_true(metric_value(counter, 0) >= before + 2);
    atomic_store(&f->app.hold, false);
    expect(fds[0], 200, NULL);
    expect(fds[1], 200, NULL);
    for (int i = 0; i < 8; i++)
        (void)close(fds[i]);
    fixture_free(f);
}

static void a_burst_is_worked_off_and_nothing_of_it_shed(void **state)
{
    struct fixture *f = *state;
    static const char counter[] = "elacsym_http_shed_total{lane=\"query\"}";
    double before = metric_value(counter, 0);
    atomic_store(&f->app.hold, true);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(f);
        send_text(fds[i], GET("/hold"));
        if (i == 1) wait_for(&f->app.holding, 2);
    }
    task_sleep_ms(150);
    atomic_store(&f->app.hold, false);
    for (int i = 0; i < 4; i++) {
        expect(fds[i], 200, NULL);
        (void)close(fds[i]);
    }
    assert_true(metric_value(counter, 0) == before);
}

static void a_client_that_goes_away_cancels_its_op(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->app.hold, true);
    for (int i = 0; i < 3; i++) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        int fd = dial(f);
        send_text(fd, GET("/hold"));
        wait_for(&f->app.holding, 1);
        if (i == 1) (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (i == 2) (void)shutdown(fd, SHUT_WR);
        if (i < 2) (void)close(fd);
        wait_for(&f->app.canceled, i + 1);
        wait_for(&f->app.holding, 0);
        if (i == 2) (void)close(fd);
    }
}

static void a_client_that_pipelines_and_goes_away_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        int fd = dial(f);
        send_text(fd, GET("/echo") GET("/echo") POST_HEAD("/echo", "10") "\r\nabc");
        if (i % 2) task_sleep_ms(1);
        (void)close(fd);
    }
    int64_t until_ms = clock_ms() + 10000;
    while (http_server_in_flight(f->server) > 0 && clock_ms() < until_ms)
        task_sleep_ms(1);
    assert_int_equal(0, http_server_in_flight(f->server));
}

struct client {
    struct fixture *fixture;
    int id;
    int errors;
};

/* Keep-alive requests of all kinds; each answer must be the one to its request. */
static void run_client(void *arg)
{
    struct client *c = arg;
    uint64_t seed = (uint64_t)c->id * 7919 + 1;
    int fd = dial(c->fixture);
    for (int i = 0; i < 200; i++) {
        char request[512], want[128];
        int kind = (int)(test_random(&seed) % 4);
        (void)snprintf(want, sizeof want, "%s /echo/%d/%d?|%s",
                       kind == 1 ? "POST" : "GET", c->id, i, kind == 1 ? "body" : "");
        if (kind == 1)
            (void)snprintf(request, sizeof request,
                           POST_HEAD("/echo/%d/%d", "4") "\r\nbody", c->id, i);
        else
            (void)snprintf(request, sizeof request, GET("/echo/%d/%d"), c->id, i);
        send_text(fd, request);
        if (kind == 2) { /* gone before the answer */
            (void)close(fd);
            fd = dial(c->fixture);
            continue;
        }
        struct answer a = receive(fd);
        /* 429 is fine: the lane's queue is short */
        if (a.status != 429 && (a.status != 200 || strcmp(want, text_of(&a.body)) != 0))
            c->errors++;
        answer_release(&a);
    }
    (void)close(fd);
}

static void many_clients_get_their_own_answers(void **state)
{
    struct fixture *f = *state;
    struct client clients[16];
    struct thread *threads[16];
    for (int i = 0; i < 16; i++) {
        clients[i] = (struct client){f, i, 0};
        threads[i] = thread_start("client", run_client, &clients[i]);
    }
    for (int i = 0; i < 16; i++) {
        thread_join(threads[i]);
        assert_int_equal(0, clients[i].errors);
    }
}

static void connections_beyond_the_limit_wait_for_a_place(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    f->options.connections_max = 4;
    fixture_start(f);
    int idle[4];
    for (int i = 0; i < 4; i++) {
        idle[i] = dial(f);
        send_text(idle[i], GET("/echo"));
        expect(idle[i], 200, NULL);
    }
    int fd = dial(f);
    send_text(fd, GET("/echo"));
    (void)close(idle[0]);
    expect(fd, 200, NULL);

    /* Nobody leaves: then the idle ones have to, soon. */
    int64_t start_ms = clock_ms();
    int next = dial(f);
    send_text(next, GET("/echo"));
    expect(next, 200, NULL);
    assert_true(clock_ms() - start_ms < 10000);
    (void)close(next);
    (void)close(fd);
    for (int i = 1; i < 4; i++)
        (void)close(idle[i]);
    fixture_free(f);
}

static int most_connections(int wanted)
{
    struct rlimit files = {0};
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &files));
    int most = files.rlim_cur > 1 << 20 ? 1 << 19 : (int)(files.rlim_cur / 2) - 100;
    return most < wanted ? most : wanted;
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2(); /* zeros under the sanitizers */
    return info.uordblks + info.hblkhd;
}

/* Each has asked once, so that whatever a request needs was there and is gone. */
static void ten_thousand_idle_connections_cost_less_than_a_kib_each(void **state)
{
    (void)state;
    int count = most_connections(BY_VALGRIND(10000, 1000));
    struct fixture *f = fixture_new();
    f->options.connections_max = (size_t)count + 100;
    fixture_start(f);
    int *idle = mem_new_array(int, (size_t)count);
    int warm = dial(f);
    for (int i = 0; i < 100; i++) {
        send_text(warm, GET("/admin"));
        expect(warm, 200, NULL);
    }
    size_t before = heap_bytes();
    for (int i = 0; i < count; i++) {
        idle[i] = dial(f);
        send_text(idle[i], i % 2 ? GET("/admin") : POST_HEAD("/echo", "3") "\r\nabc");
        expect(idle[i], 200, NULL);
    }
    size_t after = heap_bytes();
    size_t each = after > before ? (after - before) / (size_t)count : 0;
    print_message("%d idle connections, %zu bytes each\n", count, each);
    assert_true(each < 1024);
    for (int i = 0; i < 50; i++) {
        int fd = dial(f);
        send_text(fd, GET("/admin"));
        expect(fd, 200, NULL);
        (void)close(fd);
        send_text(idle[i * 7 % count], GET("/admin"));
        expect(idle[i * 7 % count], 200, NULL);
    }
    for (int i = 0; i < count; i++)
        (void)close(idle[i]);
    (void)close(warm);
    mem_free(idle);
    fixture_free(f);
}

/* ---- start and end ---- */

static void a_taken_port_is_busy_and_says_so(void **state)
{
    struct fixture *f = *state;
    struct http_server_options options = f->options;
    struct http_server *second = NULL;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    options.port = http_server_port(f->server);
    assert_int_equal(ERR_BUSY, http_server_start(&op, &options, &second));
    assert_null(second);
    assert_non_null(strstr(op.error, "another program has this port"));
    op_clear_error(&op);
    options.port = 0;
    options.host = "no such host";
    assert_int_equal(ERR_INVALID, http_server_start(&op, &options, &second));
    op_release(&op);
}

static void draining_answers_what_is_in_flight_and_takes_nothing_new(void **state)
{
    (void)state;
    struct fixture *f = fixture_started();
    atomic_store(&f->app.hold, true);
    int idle = dial(f), held = dial(f), kept = dial(f);
    send_text(kept, GET("/echo"));
    expect(kept, 200, NULL);
    send_text(kept, "GET /ec");
    task_sleep_ms(50);
    send_text(held, GET("/hold"));
    wait_for(&f->app.holding, 1);

    http_server_drain(f->server);
    assert_true(closed(idle));
    send_text(kept, "ho HTTP/1.1\r\nHost: h\r\n\r\n");
    struct answer a = receive(kept);
    if (a.status) {
        assert_int_equal(503, a.status);
        assert_true(head_has(&a, "\r\nRetry-After: 1\r\n"));
    }
    answer_release(&a);
    assert_true(closed(kept));
    assert_int_equal(1, http_server_in_flight(f->server));

    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_server_port(f->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(-1, connect(fresh, (struct sockaddr *)&address, sizeof address));
    (void)close(fresh);

    atomic_store(&f->app.hold, false);
    struct answer b = receive(held);
    assert_int_equal(200, b.status);
    assert_true(head_has(&b, "\r\nConnection: close\r\n"));
    answer_release(&b);
    (void)close(idle);
    (void)close(kept);
    (void)close(held);
    fixture_free(f);
}

static void freeing_waits_for_handlers(void **state)
{
    (void)state;
    struct fixture *f = hasty();
    atomic_store(&f->app.hold, true);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(f);
        send_text(fds[i], GET("/hold"));
    }
    wait_for(&f->app.holding, 2);
    http_server_free(f->server);
    assert_int_equal(0, atomic_load(&f->app.holding));
    for (int i = 0; i < 4; i++)
        (void)close(fds[i]);
    mem_free(f);
}

static void a_server_can_be_started_and_freed_again_and_again(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct fixture *f = fixture_started();
        int fd = dial(f);
        if (i % 2) send_text(fd, GET("/echo"));
        fixture_free(f);
        (void)close(fd);
    }
}

static void requests_are_counted_by_lane_and_status(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    send_text(fd, GET("/admin") GET("/missing"));
    expect(fd, 200, NULL);
    expect(fd, 404, NULL);
    (void)close(fd);
    while (http_server_in_flight(f->server))
        task_sleep_ms(1);
    struct buf text = BUF_INIT;
    metrics_write(&text);
    assert_non_null(strstr(text_of(&text), "elacsym_http_requests_total{lane=\"admin\","
                                           "status=\"200\"} "));
    assert_non_null(
        strstr(text_of(&text),
               "elacsym_http_requests_total{lane=\"write\",status=\"404\"} "));
    assert_non_null(strstr(text_of(&text), "\nelacsym_http_in_flight 0\n"));
    buf_release(&text);
}

static int setup(void **state)
{
    *state = fixture_started();
    return 0;
}

static int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(a_get_is_answered_with_path_and_query_as_sent),
        SERVED(a_post_body_arrives_whole_however_it_was_cut),
        SERVED(a_request_sent_byte_by_byte_is_understood),
        SERVED(a_large_body_arrives_whole),
        SERVED(a_chunked_body_arrives_whole),
        SERVED(headers_reach_the_handler_and_its_own_the_client),
        SERVED(head_is_answered_like_get_without_the_body),
        SERVED(pipelined_requests_are_answered_in_order),
        SERVED(an_http_1_0_client_gets_its_answer_and_the_end),
        SERVED(an_http_1_0_client_that_asks_keeps_its_connection),
        SERVED(a_client_that_asks_for_the_end_gets_it),
        SERVED(a_thousand_pipelined_requests_are_answered_in_order),
        SERVED(expect_100_continue_is_answered_before_the_body),
        SERVED(a_sane_request_id_comes_back),
        SERVED(other_request_ids_are_replaced_by_new_ones),
        SERVED(heads_two_servers_could_read_differently_are_refused),
        SERVED(a_nul_in_the_head_is_refused),
        SERVED(bytes_that_are_no_request_are_refused_in_our_words),
        SERVED(a_refusal_reaches_a_client_that_goes_on_sending),
        SERVED(a_refusal_carries_the_id_that_was_sent_before_the_fault),
        SERVED(a_request_line_above_8_kib_is_414),
        SERVED(a_head_above_16_kib_is_431),
        SERVED(more_than_100_fields_are_431),
        SERVED(a_query_of_more_than_64_parts_is_414),
        SERVED(a_small_refused_body_leaves_the_connection_open),
        SERVED(a_large_refused_body_is_answered_before_it_is_sent),
        SERVED(a_chunked_body_above_the_limit_is_413_in_the_middle),
        cmocka_unit_test(bodies_beyond_the_shared_memory_are_429),
        SERVED(a_gzip_body_is_unpacked_up_to_the_limit),
        SERVED(a_gzip_bomb_is_413),
        SERVED(a_damaged_gzip_body_is_400),
        SERVED(large_answers_are_packed_for_those_who_take_gzip),
        SERVED(small_answers_are_not_packed),
        cmocka_unit_test(a_head_that_drips_is_408),
        cmocka_unit_test(a_request_line_that_drips_is_408),
        cmocka_unit_test(a_body_that_stalls_or_drips_is_408),
        cmocka_unit_test(a_long_body_at_a_fair_rate_is_taken),
        cmocka_unit_test(an_idle_connection_is_closed_without_a_word),
        cmocka_unit_test(an_empty_line_and_no_request_is_closed_without_a_word),
        cmocka_unit_test(a_reader_that_does_not_read_is_cut_off),
        cmocka_unit_test(a_handler_sees_its_deadline),
        cmocka_unit_test(a_request_that_waited_past_its_deadline_is_504_unhandled),
        SERVED(a_full_lane_is_429_and_other_lanes_go_on),
        cmocka_unit_test(what_waits_too_long_in_a_standing_queue_is_shed),
        SERVED(a_burst_is_worked_off_and_nothing_of_it_shed),
        SERVED(a_client_that_goes_away_cancels_its_op),
        SERVED(a_client_that_pipelines_and_goes_away_leaves_nothing_behind),
        SERVED(many_clients_get_their_own_answers),
        cmocka_unit_test(connections_beyond_the_limit_wait_for_a_place),
        cmocka_unit_test(ten_thousand_idle_connections_cost_less_than_a_kib_each),
        SERVED(a_taken_port_is_busy_and_says_so),
        cmocka_unit_test(draining_answers_what_is_in_flight_and_takes_nothing_new),
        cmocka_unit_test(freeing_waits_for_handlers),
        cmocka_unit_test(a_server_can_be_started_and_freed_again_and_again),
        SERVED(requests_are_counted_by_lane_and_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
