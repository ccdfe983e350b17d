/* A server whose handler passes bodies on: raw clients on real sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "http/http_stream.h"
#include "unit/http_dial.h"

enum { PIECE = 64 << 10, LARGE = 24 << 20 };

/* ---- an application ---- */

struct world {
    atomic_bool hold; /* the handler neither reads nor writes */
    atomic_int handled, streamed, canceled;
    atomic_size_t taken, given; /* bytes */
    size_t body_max;
    struct http_server_options options;
    struct http_server *server;
};

static uint8_t byte_at(size_t offset)
{
    return (uint8_t)(offset * 2654435761u >> 13);
}

static void wait_while_held(struct world *w, struct op *op)
{
    while (atomic_load(&w->hold) && !op_check(op))
        task_sleep_ms(1);
}

static bool admit(void *context, const struct http_request *head,
                  struct http_admission *admission, struct http_response *response)
{
    struct world *w = context;
    (void)head;
    (void)response;
    *admission = (struct http_admission){HTTP_LANE_WRITE, w->body_max, true};
    return true;
}

/* Answers with what came of the body: its size if every byte is as byte_at says. */
static void take_body(struct world *w, struct op *op,
                      const struct http_request *request,
                      struct http_response *response)
{
    uint8_t bytes[PIECE];
    size_t offset = 0;
    bool wrong = false;
    for (bool ended = false; !ended && !op_check(op);) {
        wait_while_held(w, op);
        if (!http_stream_wait(request, 20)) continue;
        size_t n = http_stream_read(op, request, bytes, sizeof bytes, &ended);
        for (size_t i = 0; i < n; i++)
            wrong = wrong || bytes[i] != byte_at(offset + i);
        offset += n;
        atomic_fetch_add(&w->taken, n);
    }
    if (op_check(op)) atomic_fetch_add(&w->canceled, 1);
    buf_printf(&response->body, "%s %zu of %lld", wrong ? "wrong" : "right", offset,
               (long long)http_stream_size(request));
}

static void hold_body(struct slice body, struct http_response *response)
{
    bool wrong = false;
    for (size_t i = 0; i < body.size; i++)
        wrong = wrong || body.data[i] != byte_at(i);
    buf_printf(&response->body, "%s %zu held", wrong ? "wrong" : "right", body.size);
}

static void give(struct world *w, struct op *op, const struct http_request *request,
                 size_t total)
{
    uint8_t bytes[PIECE];
    for (size_t offset = 0; offset < total;) {
        size_t size = total - offset < PIECE ? total - offset : PIECE;
        wait_while_held(w, op);
        for (size_t i = 0; i < size; i++)
            bytes[i] = byte_at(offset + i);
        if (http_stream_write(op, request, slice_of(bytes, size))) {
            atomic_fetch_add(&w->canceled, 1);
            return;
        }
        offset += size;
        atomic_fetch_add(&w->given, size);
    }
}

/* /give?N gives N bytes, /short?N half of them, /early answers without looking. */
static void handle(void *context, struct op *op, const struct http_request *request,
                   struct http_response *response)
{
    struct world *w = context;
    size_t size = strtoul(request->query_string, NULL, 10);
    bool half = strcmp(request->path, "/short") == 0;
    atomic_fetch_add(&w->handled, 1);
    if (request->streams) atomic_fetch_add(&w->streamed, 1);
    response->content_type = "text/plain";
    if (strcmp(request->path, "/early") == 0) {
        response->status = 409;
        buf_append_str(&response->body, "no");
    } else if (size && http_stream_begin(request, response, size)) {
        atomic_fetch_add(&w->streamed, 1);
        give(w, op, request, half ? size / 2 : size);
    } else if (size) {
        for (size_t i = 0; i < size; i++)
            buf_append_byte(&response->body, byte_at(i));
    } else if (request->streams) {
        take_body(w, op, request, response);
    } else {
        hold_body(request->body, response);
    }
}

static void refuse(void *context, int status, const char *why,
                   struct http_response *response)
{
    (void)context;
    buf_printf(&response->body, "{\"error\":\"%d %s\"}", status, why);
}

static struct world *world_new(void)
{
    struct world *w = mem_new(struct world);
    w->body_max = 64 << 20;
    w->options =
        (struct http_server_options){.host = "127.0.0.1",
                                     .connections_max = 64,
                                     .lane_threads = {[HTTP_LANE_WRITE] = 4},
                                     .lane_queue_max = {[HTTP_LANE_WRITE] = 8},
                                     .body_memory_max = 128 << 20,
                                     .lane_delay_max_ms = {[HTTP_LANE_WRITE] = 20000},
                                     .request_timeout_ms = 20000,
                                     .idle_timeout_ms = 20000,
                                     .handler = {w, admit, handle, refuse}};
    return w;
}

static void world_start(struct world *w)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(ERR_OK, http_server_start(&op, &w->options, &w->server));
    op_release(&op);
}

static int setup(void **state)
{
    struct world *w = world_new();
    world_start(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    atomic_store(&w->hold, false);
    http_server_free(w->server);
    mem_free(w);
    return 0;
}

/* ---- a client ---- */

static int dial(struct world *w)
{
    return dial_port(http_server_port(w->server));
}

static void send_head(int fd, const char *path, size_t length)
{
    char head[128];
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", path,
                   length);
    send_text(fd, head);
}

/* The bytes [from, to) of the body; false when the server does not take them. */
static bool send_body(int fd, size_t from, size_t to)
{
    static uint8_t bytes[PIECE];
    while (from < to) {
        size_t size = to - from < PIECE ? to - from : PIECE;
        for (size_t i = 0; i < size; i++)
            bytes[i] = byte_at(from + i);
        if (!send_all(fd, bytes, size)) return false;
        from += size;
    }
    return true;
}

static void send_chunks(int fd, size_t from, size_t to, size_t size)
{
    for (; from < to; from += size) {
        char line[32];
        if (size > to - from) size = to - from;
        (void)snprintf(line, sizeof line, "%zx\r\n", size);
        send_text(fd, line);
        assert_true(send_body(fd, from, from + size));
        send_text(fd, "\r\n");
    }
}

#define CHUNKED "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

/* The head of an answer, terminated; its status. */
static int receive_head(int fd, char head[1024])
{
    size_t size = 0;
    head[0] = '\0';
    while (!strstr(head, "\r\n\r\n")) {
        assert_true(size < 1000);
        if (recv(fd, head + size, 1, 0) != 1) return 0;
        head[++size] = '\0';
    }
    return atoi(head + 9);
}

static size_t length_of(const char *head)
{
    const char *line = strcasestr(head, "\r\nContent-Length: ");
    return line ? strtoul(line + 18, NULL, 10) : 0;
}

/* The whole answer; body is cut to what fits. */
static void expect(int fd, int status, const char *text)
{
    char head[1024], body[256] = "";
    assert_int_equal(receive_head(fd, head), status);
    size_t size = length_of(head), got = 0;
    assert_true(size < sizeof body);
    while (got < size) {
        ssize_t n = recv(fd, body + got, size - got, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    if (text) assert_string_equal(body, text);
}

/* How many bytes of an answer's body come, all of them right. */
static size_t receive_body(int fd, size_t size)
{
    static uint8_t bytes[PIECE];
    size_t offset = 0;
    while (offset < size) {
        size_t most = size - offset < PIECE ? size - offset : PIECE;
        ssize_t n = recv(fd, bytes, most, 0);
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(bytes[i], byte_at(offset + (size_t)i));
        offset += (size_t)n;
    }
    return offset;
}

static bool closed(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void wait_for(const atomic_int *counter, int value)
{
    int64_t until_ms = clock_ms() + 20000;
    while (atomic_load(counter) < value && clock_ms() < until_ms)
        task_sleep_ms(1);
    assert_int_equal(atomic_load(counter), value);
}

static size_t settle(const atomic_size_t *counter)
{
    size_t before;
    do {
        before = atomic_load(counter);
        task_sleep_ms(100);
    } while (atomic_load(counter) != before);
    return before;
}

/* Sends without ever waiting for long; how much the server took. */
static size_t send_until_stuck(int fd, size_t most)
{
    struct timeval patience = {.tv_usec = 500000};
    static const uint8_t bytes[PIECE];
    size_t sent = 0;
    assert_int_equal(0, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
                                   sizeof patience));
    while (sent < most) {
        ssize_t n = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += (size_t)n;
    }
    return sent;
}

/* ---- requests ---- */

static void a_large_body_reaches_its_handler_while_it_arrives(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    for (int i = 1; i <= 2; i++) { /* on one connection */
        send_head(fd, "/x", LARGE);
        assert_true(send_body(fd, 0, HTTP_STREAM_FROM));
        wait_for(&w->streamed, i);
        assert_true(send_body(fd, HTTP_STREAM_FROM, LARGE));
        char text[64];
        (void)snprintf(text, sizeof text, "right %d of %d", LARGE, LARGE);
        expect(fd, 200, text);
    }
    (void)close(fd);
}

static void a_body_in_chunks_streams_too(void **state)
{
    struct world *w = *state;
    static const size_t sizes[] = {700, 64 << 10, 5 << 20};
    int fd = dial(w);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        send_text(fd, CHUNKED);
        send_chunks(fd, 0, 3 << 20, sizes[i]);
        send_text(fd, "0\r\nX-Trailer: of no use\r\n\r\n");
        expect(fd, 200, "right 3145728 of -1");
    }
    assert_int_equal(atomic_load(&w->streamed), 3);
    (void)close(fd);
}

static void a_small_body_is_held_whole(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    send_head(fd, "/x", HTTP_STREAM_FROM / 2);
    assert_true(send_body(fd, 0, HTTP_STREAM_FROM / 2));
    expect(fd, 200, "right 131072 held");
    assert_int_equal(atomic_load(&w->streamed), 0);
    (void)close(fd);
}

static void a_handler_that_does_not_read_slows_its_client_down(void **state)
{
    struct world *w = *state;
    atomic_store(&w->hold, true);
    int fd = dial(w);
    send_head(fd, "/x", 60 << 20);
    size_t sent = send_until_stuck(fd, 60 << 20);
    assert_true(sent < 40 << 20); /* what two sockets and the ring hold */
    atomic_store(&w->hold, false);
    (void)close(fd);
    wait_for(&w->canceled, 1);
}

static void a_client_that_leaves_amid_its_body_cancels_its_op(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    send_head(fd, "/x", LARGE);
    assert_true(send_body(fd, 0, LARGE / 2));
    wait_for(&w->streamed, 1);
    (void)close(fd);
    wait_for(&w->canceled, 1);
}

static void a_client_that_leaves_after_its_body_cancels_its_op(void **state)
{
    struct world *w = *state;
    atomic_store(&w->hold, true);
    int fd = dial(w);
    send_head(fd, "/x", HTTP_STREAM_BYTES);
    assert_true(send_body(fd, 0, HTTP_STREAM_BYTES));
    wait_for(&w->streamed, 1);
    (void)close(fd);
    wait_for(&w->canceled, 1);
}

static void an_answer_before_the_end_of_the_body_ends_the_connection(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    send_head(fd, "/early", LARGE);
    assert_true(send_body(fd, 0, LARGE / 4));
    expect(fd, 409, "no");
    assert_true(closed(fd));
    (void)close(fd);
}

static void a_body_that_stalls_is_408(void **state)
{
    struct world *w = world_new();
    *state = w;
    w->options.rate_window_ms = 100;
    world_start(w);
    int fd = dial(w);
    send_head(fd, "/x", LARGE);
    assert_true(send_body(fd, 0, LARGE / 2));
    expect(fd, 408, NULL);
    assert_true(closed(fd));
    (void)close(fd);
    assert_int_equal(atomic_load(&w->canceled), 1);
    (void)teardown(state);
}

static void who_waits_for_the_handler_is_not_too_slow(void **state)
{
    struct world *w = world_new();
    *state = w;
    w->options.rate_window_ms = 100;
    world_start(w);
    atomic_store(&w->hold, true);
    int fd = dial(w);
    send_head(fd, "/x", 2 << 20);
    assert_true(send_body(fd, 0, 1 << 20));
    task_sleep_ms(500);
    atomic_store(&w->hold, false);
    assert_true(send_body(fd, 1 << 20, 2 << 20));
    expect(fd, 200, "right 2097152 of 2097152");
    (void)close(fd);
    (void)teardown(state);
}

static void a_body_that_breaks_the_rules_amid_streaming_is_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *line;
        int status;
    } cases[] = {{"nonsense\r\n", 400}, {"7000000\r\nx", 413}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int fd = dial(w);
        send_text(fd, CHUNKED);
        send_chunks(fd, 0, 1 << 20, 64 << 10);
        wait_for(&w->streamed, (int)i + 1);
        send_text(fd, cases[i].line);
        expect(fd, cases[i].status, NULL);
        assert_true(closed(fd));
        (void)close(fd);
        wait_for(&w->canceled, (int)i + 1);
    }
}

/* ---- answers ---- */

static void a_large_answer_arrives_whole_and_the_connection_lives_on(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    for (int i = 0; i < 2; i++) {
        char head[1024];
        send_text(fd, "GET /give?20000001 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(receive_head(fd, head), 200);
        assert_int_equal(length_of(head), 20000001);
        assert_non_null(strcasestr(head, "\r\nContent-Type: text/plain\r\n"));
        assert_int_equal(receive_body(fd, 20000001), 20000001);
    }
    assert_int_equal(atomic_load(&w->streamed), 2);
    send_text(fd, "HEAD /give?5000 HTTP/1.1\r\nHost: h\r\n\r\n");
    char head[1024];
    assert_int_equal(receive_head(fd, head), 200);
    assert_int_equal(length_of(head), 5000);
    assert_int_equal(atomic_load(&w->streamed), 2);
    (void)close(fd);
}

static void body_and_answer_of_one_request_both_stream(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    char head[1024];
    send_head(fd, "/give?3000000", 300000);
    assert_true(send_body(fd, 0, 300000));
    assert_int_equal(receive_head(fd, head), 200);
    assert_int_equal(receive_body(fd, 3000000), 3000000);
    (void)close(fd);
}

static void a_client_that_does_not_read_slows_its_handler_down(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    char head[1024];
    send_text(fd, "GET /give?60000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(receive_head(fd, head), 200);
    assert_true(settle(&w->given) < 40000000);
    assert_int_equal(receive_body(fd, 60000000), 60000000);
    (void)close(fd);
}

static void a_client_that_never_reads_is_cut_off(void **state)
{
    struct world *w = world_new();
    *state = w;
    w->options.rate_window_ms = 100;
    world_start(w);
    int fd = dial(w);
    send_text(fd, "GET /give?60000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    wait_for(&w->canceled, 1);
    (void)close(fd);
    (void)teardown(state);
}

static void who_waits_for_a_slow_handler_is_not_cut_off(void **state)
{
    struct world *w = world_new();
    *state = w;
    w->options.rate_window_ms = 100;
    world_start(w);
    atomic_store(&w->hold, true);
    int fd = dial(w);
    char head[1024];
    send_text(fd, "GET /give?600000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(receive_head(fd, head), 200);
    task_sleep_ms(500);
    atomic_store(&w->hold, false);
    assert_int_equal(receive_body(fd, 600000), 600000);
    (void)close(fd);
    (void)teardown(state);
}

static void an_answer_that_ends_early_breaks_the_connection(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    char head[1024];
    send_text(fd, "GET /short?2000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(receive_head(fd, head), 200);
    assert_int_equal(length_of(head), 2000000);
    assert_int_equal(receive_body(fd, 2000000), 1000000);
    (void)close(fd);
}

static void a_client_that_leaves_amid_its_answer_cancels_its_op(void **state)
{
    struct world *w = *state;
    int fd = dial(w);
    char head[1024];
    send_text(fd, "GET /give?60000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(receive_head(fd, head), 200);
    (void)close(fd);
    wait_for(&w->canceled, 1);
}

/* ---- places ---- */

static void half_of_the_workers_stream_and_the_others_hold(void **state)
{
    struct world *w = *state;
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(w);
        send_head(fds[i], "/x", 1 << 20);
        assert_true(send_body(fds[i], 0, 1 << 19));
        wait_for(&w->streamed, i < 2 ? i + 1 : 2);
    }
    for (int i = 2; i >= 0; i--) {
        assert_true(send_body(fds[i], 1 << 19, 1 << 20));
        expect(fds[i], 200, i == 2 ? "right 1048576 held" : "right 1048576 of 1048576");
        (void)close(fds[i]);
    }
    int fd = dial(w); /* places come back */
    send_head(fd, "/x", 1 << 20);
    assert_true(send_body(fd, 0, 1 << 20));
    expect(fd, 200, "right 1048576 of 1048576");
    (void)close(fd);
}

static void freeing_the_server_breaks_off_what_streams(void **state)
{
    struct world *w = *state;
    int up = dial(w), down = dial(w);
    char head[1024];
    send_head(up, "/x", LARGE);
    assert_true(send_body(up, 0, LARGE / 2));
    send_text(down, "GET /give?60000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(receive_head(down, head), 200);
    wait_for(&w->streamed, 2);
    http_server_free(w->server);
    assert_int_equal(atomic_load(&w->canceled), 2);
    assert_true(receive_body(down, 60000000) < 60000000);
    (void)close(up);
    (void)close(down);
    world_start(w);
}

/* Clients that send and leave at random: nothing is left behind, nobody gets another's.
 */
struct client {
    struct world *w;
    uint64_t seed;
};

static void random_client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 12; i++) {
        size_t size = (size_t)(test_random(&c->seed) % (2 << 20));
        bool leaves = test_random(&c->seed) % 4 == 0;
        int fd = dial(c->w);
        char head[1024], text[64], line[64];
        if (test_random(&c->seed) % 2) {
            send_head(fd, "/x", size);
            size_t sent =
                leaves && size ? (size_t)(test_random(&c->seed) % size) : size;
            for (size_t at = 0, step; at < sent; at += step) {
                step = 1 + (size_t)(test_random(&c->seed) % (200 << 10));
                if (step > sent - at) step = sent - at;
                uint8_t *bytes = malloc(step);
                assert_non_null(bytes);
                for (size_t k = 0; k < step; k++)
                    bytes[k] = byte_at(at + k);
                assert_true(send_all(fd, bytes, step));
                free(bytes);
            }
            if (!leaves || size == 0) {
                assert_int_equal(receive_head(fd, head), 200);
                ssize_t n = recv(fd, text, sizeof text - 1, 0);
                assert_true(n > 0);
                text[n] = '\0';
                (void)snprintf(line, sizeof line, "right %zu ", size);
                assert_memory_equal(text, line, strlen(line));
            }
        } else {
            (void)snprintf(line, sizeof line,
                           "GET /give?%zu HTTP/1.1\r\nHost: h\r\n\r\n", size + 1);
            send_text(fd, line);
            assert_int_equal(receive_head(fd, head), 200);
            for (size_t at = 0, n = 1; at <= size && n && !leaves; at += n) {
                uint8_t bytes[1000];
                size_t most =
                    size + 1 - at < sizeof bytes ? size + 1 - at : sizeof bytes;
                n = (size_t)recv(fd, bytes, most, 0);
                assert_true(n > 0 && n <= sizeof bytes);
                for (size_t k = 0; k < n; k++)
                    assert_int_equal(bytes[k], byte_at(at + k));
            }
        }
        (void)close(fd);
    }
}

static void many_clients_stream_and_leave_at_random(void **state)
{
    struct world *w = *state;
    enum { CLIENTS = 6 };
    struct client clients[CLIENTS];
    struct thread *threads[CLIENTS];
    uint64_t seed = test_seed();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){w, test_random(&seed)};
        threads[i] = thread_start("client", random_client, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        thread_join(threads[i]);
    int64_t until_ms = clock_ms() + 20000;
    while (http_server_in_flight(w->server) && clock_ms() < until_ms)
        task_sleep_ms(1);
    assert_int_equal(http_server_in_flight(w->server), 0);
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(a_large_body_reaches_its_handler_while_it_arrives),
        SERVED(a_body_in_chunks_streams_too),
        SERVED(a_small_body_is_held_whole),
        SERVED(a_handler_that_does_not_read_slows_its_client_down),
        SERVED(a_client_that_leaves_amid_its_body_cancels_its_op),
        SERVED(a_client_that_leaves_after_its_body_cancels_its_op),
        SERVED(an_answer_before_the_end_of_the_body_ends_the_connection),
        cmocka_unit_test(a_body_that_stalls_is_408),
        cmocka_unit_test(who_waits_for_the_handler_is_not_too_slow),
        SERVED(a_body_that_breaks_the_rules_amid_streaming_is_refused),
        SERVED(a_large_answer_arrives_whole_and_the_connection_lives_on),
        SERVED(body_and_answer_of_one_request_both_stream),
        SERVED(a_client_that_does_not_read_slows_its_handler_down),
        cmocka_unit_test(a_client_that_never_reads_is_cut_off),
        cmocka_unit_test(who_waits_for_a_slow_handler_is_not_cut_off),
        SERVED(an_answer_that_ends_early_breaks_the_connection),
        SERVED(a_client_that_leaves_amid_its_answer_cancels_its_op),
        SERVED(half_of_the_workers_stream_and_the_others_hold),
        SERVED(freeing_the_server_breaks_off_what_streams),
        SERVED(many_clients_stream_and_leave_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
