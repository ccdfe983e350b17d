#include "http/http_client.h"

#include "base/op.h"
#include "unit/http_peer.h"

struct world {
    struct http_peer *peer;
    struct http_client *client;
    struct op op;
    struct http_client_exchange x;
    char url[128];
};

static const struct http_client_options usual = {.exchanges_max = 8,
                                                 .idle_max = 8,
                                                 .idle_secs = 30,
                                                 .connect_ms = 2000};

static int setup_with(void **state, const struct http_client_options *options)
{
    struct world *w = calloc(1, sizeof *w);
    w->peer = peer_start();
    w->client = http_client_new(options);
    op_init(&w->op, clock_ms() + 20000, 0);
    (void)snprintf(w->url, sizeof w->url, "http://127.0.0.1:%d/path?a=b",
                   w->peer->port);
    w->x = (struct http_client_exchange){.method = "GET",
                                         .url = w->url,
                                         .repeatable = true,
                                         .answer_max = 1 << 20};
    *state = w;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, &usual);
}

static int teardown(void **state)
{
    struct world *w = *state;
    buf_release(&w->x.answer);
    http_client_free(w->client);
    peer_stop(w->peer);
    op_release(&w->op);
    free(w);
    return 0;
}

static enum err run(struct world *w)
{
    buf_release(&w->x.answer);
    op_clear_error(&w->op);
    return http_client_run(&w->op, w->client, &w->x);
}

static void post(struct world *w, const char *body, bool repeatable)
{
    w->x.method = "POST";
    w->x.body = slice_str(body);
    w->x.repeatable = repeatable;
}

static bool answer_is(const struct world *w, const char *text)
{
    return slice_equal(buf_slice(&w->x.answer), slice_str(text));
}

static void an_answer_comes_with_status_body_and_the_wanted_headers(void **state)
{
    struct world *w = *state;
    struct http_client_wanted wanted[] = {{.name = "X-One"}, {.name = "X-Two"}};
    w->peer->status = 409;
    w->peer->fields = "x-one:  a value \r\nX-One-More: no\r\n";
    w->peer->body = "{\"error\":\"no\"}";
    w->x.wanted = wanted;
    w->x.wanted_count = 2;
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(w->x.status, 409);
    assert_true(answer_is(w, w->peer->body));
    assert_string_equal(wanted[0].value, "a value");
    assert_string_equal(wanted[1].value, "");
}

static void method_target_fields_and_body_arrive_as_they_are(void **state)
{
    struct world *w = *state;
    const struct http_client_field fields[] = {{"X-Request-Id", "r-1"},
                                               {"X-Elacsym-Hop", "1"}};
    w->x.fields = fields;
    w->x.field_count = 2;
    static const char *const methods[] = {"POST", "PUT", "DELETE"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        char line[64];
        post(w, "{\"a\":1}", false);
        w->x.method = methods[i];
        (void)snprintf(line, sizeof line, "%s /path?a=b HTTP/1.1\r\n", methods[i]);
        assert_int_equal(run(w), ERR_OK);
        assert_int_equal(strncmp(w->peer->last, line, strlen(line)), 0);
        assert_non_null(strstr(w->peer->last, "\r\nX-Request-Id: r-1\r\n"));
        assert_non_null(strstr(w->peer->last, "\r\nX-Elacsym-Hop: 1\r\n"));
        assert_non_null(strstr(w->peer->last, "\r\nContent-Length: 7\r\n"));
        assert_null(strstr(w->peer->last, "Expect"));
        assert_non_null(strstr(w->peer->last, "\r\n\r\n{\"a\":1}"));
    }
    w->x.body = SLICE_EMPTY;
    w->x.method = "DELETE";
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(strncmp(w->peer->last, "DELETE /path?a=b HTTP", 21), 0);
    w->x.method = "PUT";
    assert_int_equal(run(w), ERR_OK);
    assert_non_null(strstr(w->peer->last, "\r\nContent-Length: 0\r\n"));
}

static void one_connection_serves_one_exchange_after_the_other(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 20; i++) {
        post(w, i % 2 ? "{}" : "{\"b\":2}", false);
        assert_int_equal(run(w), ERR_OK);
    }
    assert_int_equal(w->peer->connections, 1);
    assert_int_equal(w->peer->requests, 20);
}

static void what_is_not_repeatable_is_never_sent_twice(void **state)
{
    struct world *w = *state;
    static const char *const bodies[] = {"{\"write\":1}", ""};
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        atomic_store(&w->peer->mode, PEER_ANSWER);
        post(w, bodies[i], false);
        assert_int_equal(run(w), ERR_OK); /* there is an idle connection now */
        atomic_store(&w->peer->mode, PEER_CLOSE);
        int before = w->peer->requests;
        assert_int_equal(run(w), ERR_IO);
        assert_true(w->x.sent);
        assert_int_equal(w->x.status, 0);
        assert_int_equal(w->peer->requests, before + 1);
    }
}

static void what_is_repeatable_survives_a_dead_kept_connection(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_FIRST_CLOSE);
    for (int i = 0; i < 6; i++) {
        post(w, "{\"read\":1}", true);
        assert_int_equal(run(w), ERR_OK);
        assert_int_equal(w->x.status, 200);
    }
}

static void a_connection_that_the_peer_closed_is_not_used_again(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_THEN_CLOSE);
    for (int i = 0; i < 5; i++) {
        post(w, "{}", false);
        assert_int_equal(run(w), ERR_OK);
        task_sleep_ms(20); /* for its FIN; libcurl copes if it comes later */
    }
    assert_int_equal(w->peer->requests, 5);
}

static void nobody_listening_is_an_error_with_nothing_sent(void **state)
{
    struct world *w = *state;
    int fd;
    (void)snprintf(w->url, sizeof w->url, "http://127.0.0.1:%d/",
                   peer_closed_port(&fd));
    post(w, "{}", false);
    assert_int_equal(run(w), ERR_IO);
    assert_false(w->x.sent);
    assert_non_null(strstr(w->x.words, "onnect"));
    assert_string_equal(w->op.error, w->x.words);
    (void)close(fd);
}

static void a_name_that_does_not_resolve_is_an_error_with_nothing_sent(void **state)
{
    struct world *w = *state;
    w->x.url = "http://no-such-host.invalid:3000/";
    assert_int_equal(run(w), ERR_IO);
    assert_false(w->x.sent);
}

static void half_an_answer_is_an_error(void **state)
{
    struct world *w = *state;
    w->peer->body = "{\"results\":[1,2,3]}";
    atomic_store(&w->peer->mode, PEER_HALF);
    assert_int_equal(run(w), ERR_IO);
    assert_true(w->x.sent);
    assert_int_equal(w->x.status, 0);
}

static void an_answer_above_the_ceiling_is_refused(void **state)
{
    struct world *w = *state;
    w->peer->body = "0123456789";
    w->x.answer_max = 10;
    assert_int_equal(run(w), ERR_OK);
    w->x.answer_max = 9;
    assert_int_equal(run(w), ERR_LIMIT);
    assert_non_null(strstr(w->op.error, "9 bytes"));
}

static void a_redirect_is_an_answer_like_any_other(void **state)
{
    struct world *w = *state;
    w->peer->status = 307;
    w->peer->fields = "Location: http://127.0.0.1:1/\r\n";
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(w->x.status, 307);
    assert_int_equal(w->peer->requests, 1);
}

static void proxies_of_the_environment_are_not_asked(void **state)
{
    struct world *w = *state;
    (void)setenv("http_proxy", "http://127.0.0.1:1/", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
    assert_int_equal(run(w), ERR_OK);
    (void)unsetenv("http_proxy");
    (void)unsetenv("ALL_PROXY");
}

static void the_deadline_ends_the_wait_for_a_peer_that_never_answers(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    w->op.deadline_ms = clock_ms() + 60;
    assert_int_equal(run(w), ERR_TIMEOUT);
    assert_true(w->x.sent);
    assert_int_equal(run(w), ERR_TIMEOUT);
    assert_false(w->x.sent); /* it had passed before anything was done */
    /* and the connection that was left in the middle is not used again */
    w->op.deadline_ms = OP_NO_DEADLINE;
    atomic_store(&w->peer->mode, PEER_ANSWER);
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(w->peer->connections, 2);
}

static void cancel_soon(void *arg)
{
    struct world *w = arg;
    while (atomic_load(&w->peer->requests) == 0)
        task_sleep_ms(1);
    op_cancel(&w->op);
}

static void canceling_the_op_breaks_the_exchange_off(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    struct thread *t = thread_start("cancel", cancel_soon, w);
    assert_int_equal(run(w), ERR_CANCELED);
    thread_join(t);
}

struct patience {
    int asked, until;
    int64_t waited_ms;
};

static bool be_patient(void *context, int64_t waited_ms)
{
    struct patience *p = context;
    assert_true(waited_ms >= p->waited_ms);
    p->waited_ms = waited_ms;
    return ++p->asked < p->until;
}

static void waiting_ends_when_the_caller_has_had_enough(void **state)
{
    struct world *w = *state;
    struct patience p = {.until = 3};
    atomic_store(&w->peer->mode, PEER_HANG);
    w->x.wait_on = be_patient;
    w->x.context = &p;
    w->x.wait_step_ms = 10;
    assert_int_equal(run(w), ERR_IO);
    assert_int_equal(p.asked, 3);
    assert_true(w->x.sent);
    assert_non_null(strstr(w->op.error, "no answer within"));
    /* a peer that answers is not asked about */
    p = (struct patience){.until = 1};
    atomic_store(&w->peer->mode, PEER_ANSWER);
    w->x.wait_step_ms = 10000;
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(p.asked, 0);
}

/* ---- many at once ---- */

struct runner {
    struct world *world;
    struct op op;
    struct http_client_exchange x;
    enum err e;
};

static void run_many(void *arg)
{
    struct runner *r = arg;
    for (int i = 0; i < 50 && !r->e; i++) {
        buf_release(&r->x.answer);
        r->e = http_client_run(&r->op, r->world->client, &r->x);
    }
}

static void threads_share_the_pool(void **state)
{
    struct world *w = *state;
    struct runner runners[4];
    struct thread *threads[4];
    for (int i = 0; i < 4; i++) {
        runners[i] = (struct runner){.world = w, .x = w->x};
        op_init(&runners[i].op, clock_ms() + 30000, 0);
        threads[i] = thread_start("runner", run_many, &runners[i]);
    }
    for (int i = 0; i < 4; i++) {
        thread_join(threads[i]);
        assert_int_equal(runners[i].e, ERR_OK);
        buf_release(&runners[i].x.answer);
        op_release(&runners[i].op);
    }
    assert_int_equal(w->peer->requests, 200);
    assert_in_range(w->peer->connections, 1, 4);
}

static int setup_narrow(void **state)
{
    const struct http_client_options narrow = {.exchanges_max = 1,
                                               .idle_max = 1,
                                               .idle_secs = 30,
                                               .connect_ms = 2000};
    return setup_with(state, &narrow);
}

static void one_exchange_too_many_is_busy(void **state)
{
    struct world *w = *state;
    struct runner r = {.world = w, .x = w->x};
    op_init(&r.op, OP_NO_DEADLINE, 0);
    atomic_store(&w->peer->mode, PEER_HANG);
    struct thread *t = thread_start("hanging", run_many, &r);
    while (atomic_load(&w->peer->requests) == 0)
        task_sleep_ms(1);
    assert_int_equal(run(w), ERR_BUSY);
    op_cancel(&r.op);
    thread_join(t);
    buf_release(&r.x.answer);
    op_release(&r.op);
    atomic_store(&w->peer->mode, PEER_ANSWER);
    assert_int_equal(run(w), ERR_OK);
}

static void the_oldest_idle_connection_makes_room(void **state)
{
    struct world *w = *state;
    struct http_peer *other = peer_start();
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", other->port);
    for (int i = 0; i < 3; i++) {
        w->x.url = w->url;
        assert_int_equal(run(w), ERR_OK);
        w->x.url = url;
        assert_int_equal(run(w), ERR_OK);
    }
    assert_int_equal(w->peer->connections, 3); /* room is for one */
    assert_int_equal(other->connections, 3);
    peer_stop(other);
}

/* ---- bodies and answers that stream ---- */

struct stream {
    struct slice body;
    size_t offset;
    size_t step; /* bytes at once */
    int pauses;  /* how often there is nothing for now, before each piece */
    int paused;
    bool stalls;      /* the end never comes */
    uint64_t size;    /* announced by the answer */
    struct buf taken; /* of it */
    size_t refuse_at; /* the answer is broken off there; 0: never */
    bool hold;        /* the answer is to be gathered */
    int begun;
};

static size_t stream_read(void *context, void *into, size_t room, bool *ended)
{
    struct stream *s = context;
    size_t left = s->body.size - s->offset;
    if (s->paused < s->pauses && left) {
        s->paused++;
        return 0;
    }
    size_t size = left < s->step ? left : s->step;
    if (size > room) size = room;
    if (size) memcpy(into, s->body.data + s->offset, size);
    s->offset += size;
    s->paused = 0;
    *ended = s->offset == s->body.size && !s->stalls;
    return size;
}

static void stream_wait(void *context, int64_t wait_ms)
{
    struct stream *s = context;
    if (s->stalls && s->offset == s->body.size) task_sleep_ms(wait_ms);
}

static bool stream_begin(void *context, uint64_t size)
{
    struct stream *s = context;
    s->begun++;
    s->size = size;
    return !s->hold;
}

static enum err stream_write(void *context, struct slice piece)
{
    struct stream *s = context;
    buf_append_slice(&s->taken, piece);
    return s->refuse_at && s->taken.size >= s->refuse_at ? ERR_CANCELED : ERR_OK;
}

static void a_source_is_sent_as_its_bytes_come(void **state)
{
    struct world *w = *state;
    char *text = long_text(200000);
    struct stream s = {.body = slice_str(text), .step = 30011, .pauses = 2};
    struct http_client_source source = {&s, s.body.size, stream_read, stream_wait};
    w->x.method = "POST";
    w->x.repeatable = true; /* not with a source */
    w->x.source = &source;
    for (int i = 1; i <= 3; i++) {
        s.offset = 0;
        assert_int_equal(run(w), ERR_OK);
        assert_true(w->x.sent);
        assert_non_null(strstr(w->peer->last, "\r\nContent-Length: 200000\r\n"));
        assert_null(strstr(w->peer->last, "Expect"));
        assert_string_equal(strstr(w->peer->last, "\r\n\r\n") + 4, text);
        assert_int_equal(w->peer->connections, i); /* never one that may be dead */
    }
    free(text);
}

static void a_source_of_unknown_size_is_sent_in_chunks(void **state)
{
    struct world *w = *state;
    struct stream s = {.body = slice_str("{\"a\":1}"), .step = 100};
    struct http_client_source source = {&s, HTTP_CLIENT_UNKNOWN, stream_read,
                                        stream_wait};
    w->x.method = "POST";
    w->x.source = &source;
    assert_int_equal(run(w), ERR_OK);
    assert_non_null(strstr(w->peer->last, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(w->peer->last, "\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n"));
    assert_null(strstr(w->peer->last, "Content-Length"));
}

static void an_answer_that_comes_before_the_end_of_the_source_counts(void **state)
{
    struct world *w = *state;
    struct stream s = {.body = slice_str("{\"a\":"), .step = 100, .stalls = true};
    struct http_client_source source = {&s, HTTP_CLIENT_UNKNOWN, stream_read,
                                        stream_wait};
    w->peer->status = 413;
    atomic_store(&w->peer->mode, PEER_THEN_CLOSE);
    w->x.method = "POST";
    w->x.source = &source;
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(w->x.status, 413);
    assert_false(w->x.sent);
}

static void a_peer_that_leaves_before_the_end_cannot_have_served(void **state)
{
    struct world *w = *state;
    char *text = long_text(16 << 20);
    struct stream s = {.body = slice_str(text), .step = 50000, .pauses = 1};
    struct http_client_source source = {&s, HTTP_CLIENT_UNKNOWN, stream_read,
                                        stream_wait};
    atomic_store(&w->peer->mode, PEER_RESET); /* as soon as it has the head */
    w->x.method = "POST";
    w->x.source = &source;
    assert_int_equal(run(w), ERR_IO);
    assert_false(w->x.sent);
    s = (struct stream){.body = slice_str("{}"), .step = 100};
    source.size = 2;
    assert_int_equal(run(w), ERR_IO);
    assert_true(w->x.sent); /* it had everything, and may have */
    free(text);
}

static void who_cancels_while_the_source_stalls_is_heard(void **state)
{
    struct world *w = *state;
    struct stream s = {.body = slice_str("{"), .step = 100, .stalls = true};
    struct http_client_source source = {&s, 100, stream_read, stream_wait};
    w->op.deadline_ms = clock_ms() + 200;
    w->x.method = "POST";
    w->x.source = &source;
    assert_int_equal(run(w), ERR_TIMEOUT);
    assert_false(w->x.sent);
}

static void a_sink_gets_the_answer_piece_by_piece(void **state)
{
    struct world *w = *state;
    char *text = long_text(3 << 20);
    struct stream s = {0};
    struct http_client_sink sink = {&s, stream_begin, stream_write};
    peer_keep(w->peer, text);
    w->x.sink = &sink;
    for (int i = 0; i < 2; i++) {
        buf_clear(&s.taken);
        assert_int_equal(run(w), ERR_OK);
        assert_true(w->x.begun);
        assert_int_equal(w->x.status, 200);
        assert_int_equal(s.size, 3 << 20); /* and above answer_max */
        assert_true(slice_equal(buf_slice(&s.taken), slice_str(text)));
        assert_int_equal(w->x.answer.size, 0);
    }
    assert_int_equal(s.begun, 2);
    assert_int_equal(w->peer->connections, 1);
    buf_release(&s.taken);
}

static void a_sink_may_leave_the_answer_to_be_gathered(void **state)
{
    struct world *w = *state;
    struct stream s = {.hold = true};
    struct http_client_sink sink = {&s, stream_begin, stream_write};
    w->x.sink = &sink;
    assert_int_equal(run(w), ERR_OK);
    assert_int_equal(s.begun, 1);
    assert_false(w->x.begun);
    assert_true(answer_is(w, "{}"));
}

static void what_breaks_off_after_a_sink_began_is_an_error_that_says_so(void **state)
{
    struct world *w = *state;
    char *text = long_text(1 << 20);
    struct stream s = {0};
    struct http_client_sink sink = {&s, stream_begin, stream_write};
    peer_keep(w->peer, text);
    w->x.sink = &sink;
    atomic_store(&w->peer->mode, PEER_HALF);
    assert_int_equal(run(w), ERR_IO);
    assert_true(w->x.begun);
    assert_int_equal(s.taken.size, 1 << 19);

    atomic_store(&w->peer->mode, PEER_ANSWER);
    buf_clear(&s.taken);
    s.refuse_at = 1000;
    assert_int_equal(run(w), ERR_CANCELED);
    assert_true(s.taken.size < 1 << 20);
    buf_release(&s.taken);
}

#define T(test)      cmocka_unit_test_setup_teardown(test, setup, teardown)
#define NARROW(test) cmocka_unit_test_setup_teardown(test, setup_narrow, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_answer_comes_with_status_body_and_the_wanted_headers),
        T(method_target_fields_and_body_arrive_as_they_are),
        T(one_connection_serves_one_exchange_after_the_other),
        T(what_is_not_repeatable_is_never_sent_twice),
        T(what_is_repeatable_survives_a_dead_kept_connection),
        T(a_connection_that_the_peer_closed_is_not_used_again),
        T(nobody_listening_is_an_error_with_nothing_sent),
        T(a_name_that_does_not_resolve_is_an_error_with_nothing_sent),
        T(half_an_answer_is_an_error),
        T(an_answer_above_the_ceiling_is_refused),
        T(a_redirect_is_an_answer_like_any_other),
        T(proxies_of_the_environment_are_not_asked),
        T(the_deadline_ends_the_wait_for_a_peer_that_never_answers),
        T(canceling_the_op_breaks_the_exchange_off),
        T(waiting_ends_when_the_caller_has_had_enough),
        T(threads_share_the_pool),
        T(a_source_is_sent_as_its_bytes_come),
        T(a_source_of_unknown_size_is_sent_in_chunks),
        T(an_answer_that_comes_before_the_end_of_the_source_counts),
        T(a_peer_that_leaves_before_the_end_cannot_have_served),
        T(who_cancels_while_the_source_stalls_is_heard),
        T(a_sink_gets_the_answer_piece_by_piece),
        T(a_sink_may_leave_the_answer_to_be_gathered),
        T(what_breaks_off_after_a_sink_began_is_an_error_that_says_so),
        NARROW(one_exchange_too_many_is_busy),
        NARROW(the_oldest_idle_connection_makes_room),
    };
    return cmocka_run_group_tests_name("http_client", tests, NULL, NULL);
}
