/*
 * A node among others, of which one is a scripted server (http_peer.h) and one is down.
 * http_header and http_response_header are the test's own, in place of the server's.
 */
#include "node/cluster.h"

#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "http/http_stream.h"
#include "unit/http_peer.h"

/* ---- a request from outside ---- */

struct header {
    const char *name, *value;
};

static const struct header *headers;

const char *http_header(const struct http_request *request, const char *name)
{
    (void)request;
    for (const struct header *h = headers; h && h->name; h++)
        if (strcasecmp(h->name, name) == 0) return h->value;
    return NULL;
}

void http_response_header(struct http_response *response, const char *name,
                          const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(response->headers[response->header_count].value,
                    sizeof response->headers[0].value, format, args);
    va_end(args);
    response->headers[response->header_count++].name = name;
}

/* What streams comes out of, and goes into, the test's own memory. */
static struct {
    struct buf body; /* of the request */
    size_t taken;
    uint64_t size;    /* announced */
    bool stalls;      /* the body never ends */
    bool no_place;    /* answers must be held */
    uint64_t answer;  /* announced size; 0: no answer streams */
    struct buf bytes; /* of it */
    bool gone;        /* the client has left */
} stream;

uint64_t http_stream_size(const struct http_request *request)
{
    assert_true(request->streams);
    return stream.size;
}

int64_t http_stream_timeout_ms(const struct http_request *request)
{
    assert_true(request->streams);
    return 7000;
}

bool http_stream_wait(const struct http_request *request, int64_t wait_ms)
{
    assert_true(request->streams);
    if (stream.stalls && stream.taken == stream.body.size) task_sleep_ms(wait_ms);
    return !stream.stalls || stream.taken < stream.body.size;
}

size_t http_stream_read(struct op *op, const struct http_request *request, void *into,
                        size_t room, bool *ended)
{
    size_t left = stream.body.size - stream.taken;
    size_t size = room < left ? room : left;
    assert_true(request->streams);
    if (size) memcpy(into, stream.body.data + stream.taken, size);
    stream.taken += size;
    *ended = !stream.stalls && stream.taken == stream.body.size;
    if (*ended) op->deadline_ms = clock_ms() + 7000;
    return size;
}

bool http_stream_begin(const struct http_request *request,
                       struct http_response *response, uint64_t size)
{
    (void)request;
    assert_int_equal(response->status, 200);
    if (!stream.no_place) stream.answer = size;
    return !stream.no_place;
}

enum err http_stream_write(struct op *op, const struct http_request *request,
                           struct slice piece)
{
    (void)request;
    if (stream.gone) return op_fail(op, ERR_CANCELED, "the client went away");
    buf_append_slice(&stream.bytes, piece);
    return ERR_OK;
}

/* ---- the world ---- */

enum { SELF, LIVE, DOWN, NODES };
static const char *const ids[NODES] = {"indexer-1", "indexer-2", "indexer-3"};

struct world {
    struct http_peer *peer; /* indexer-2 */
    int down_fd;
    struct cluster *cluster;
    struct router router;
    struct op op;
    char urls[NODES][64];
    char names[NODES][32]; /* a namespace of each */
    struct http_response response;
    bool answered;
    char body[4096];
};

static void name_namespaces(struct world *w, const struct ring *ring)
{
    for (int n = 0; n < NODES; n++)
        for (int i = 0; !*w->names[n]; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "ns-%d", i);
            if (ring_owner(ring, name) == (size_t)n)
                memcpy(w->names[n], name, sizeof name);
        }
}

static int setup_as(void **state, const char *node_id, bool query, bool forward_writes)
{
    struct world *w = calloc(1, sizeof *w);
    struct ring ring = {ids, NODES};
    w->peer = peer_start();
    int ports[NODES] = {1, w->peer->port, peer_closed_port(&w->down_fd)};
    const char *urls[NODES];
    for (int n = 0; n < NODES; n++) {
        (void)snprintf(w->urls[n], sizeof w->urls[n], "http://127.0.0.1:%d", ports[n]);
        urls[n] = w->urls[n];
    }
    struct cluster_options options = {.node_id = node_id,
                                      .query_node = query,
                                      .forward_writes = forward_writes,
                                      .ring = ring,
                                      .urls = urls,
                                      .forwards_max = 8,
                                      .answer_max = 1 << 20};
    w->cluster = cluster_new(&options);
    w->router = cluster_router(w->cluster);
    w->peer->fields = "Content-Type: application/json\r\nX-Elacsym-Node: indexer-2\r\n";
    op_init(&w->op, clock_ms() + 20000, 0);
    name_namespaces(w, &ring);
    headers = NULL;
    *state = w;
    return 0;
}

static int indexer(void **state)
{
    return setup_as(state, "indexer-1", false, false);
}

static int query_node(void **state)
{
    return setup_as(state, "query-1", true, false);
}

static int forwarding_query_node(void **state)
{
    return setup_as(state, "query-1", true, true);
}

static int teardown(void **state)
{
    struct world *w = *state;
    buf_release(&w->response.body);
    cluster_free(w->cluster);
    peer_stop(w->peer);
    (void)close(w->down_fd);
    op_release(&w->op);
    free(w);
    return 0;
}

static enum err ask(struct world *w, const char *name, bool write)
{
    const char *text = "{\"top_k\":1}";
    char path[128];
    (void)snprintf(path, sizeof path, "/v1/namespaces/%s/%s", name,
                   write ? "upsert" : "query");
    struct http_request http = {.method = "POST",
                                .path = path,
                                .query_string = "",
                                .body = slice_str(text)};
    struct router_request request = {.name = name, .write = write, .http = &http};
    buf_release(&w->response.body);
    w->response = (struct http_response){.status = 200};
    op_clear_error(&w->op);
    enum err e =
        w->router.pass(w->router.context, &w->op, &request, &w->response, &w->answered);
    (void)snprintf(w->body, sizeof w->body, "%.*s", (int)w->response.body.size,
                   (const char *)w->response.body.data);
    return e;
}

static enum err get(struct world *w, const char *path, const char *query)
{
    struct http_request http = {.method = "GET", .path = path, .query_string = query};
    struct router_request request = {.name = w->names[LIVE], .http = &http};
    buf_release(&w->response.body);
    w->response = (struct http_response){.status = 200};
    return w->router.pass(w->router.context, &w->op, &request, &w->response,
                          &w->answered);
}

static bool elsewhere(struct world *w, const char *name, bool write)
{
    struct http_request http = {.method = "POST", .path = "", .query_string = ""};
    struct router_request request = {.name = name, .write = write, .http = &http};
    return w->router.elsewhere(w->router.context, &request);
}

static const char *field(const struct world *w, const char *name)
{
    for (size_t i = 0; i < w->response.header_count; i++)
        if (strcmp(w->response.headers[i].name, name) == 0)
            return w->response.headers[i].value;
    return "";
}

static bool sent(const struct world *w, const char *text)
{
    return strstr(w->peer->last, text) != NULL;
}

#define assert_in_body(w, text) assert_non_null(strstr((w)->body, text))

/* ---- who answers ---- */

static void an_indexer_answers_for_what_it_owns(void **state)
{
    struct world *w = *state;
    for (int write = 0; write < 2; write++) {
        assert_int_equal(ask(w, w->names[SELF], write), ERR_OK);
        assert_false(w->answered);
        assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-1");
    }
    assert_true(cluster_owns(w->cluster, w->names[SELF]));
    assert_false(cluster_owns(w->cluster, w->names[LIVE]));
    assert_int_equal(w->peer->requests, 0);
}

static void a_query_node_owns_nothing(void **state)
{
    struct world *w = *state;
    for (int n = 0; n < NODES; n++)
        assert_false(cluster_owns(w->cluster, w->names[n]));
}

static void other_namespaces_are_passed_on_to_their_owner(void **state)
{
    struct world *w = *state;
    static const struct header given[] = {{"Idempotency-Key", "k-1"},
                                          {"X-Elacsym-Min-Commit", "0102"},
                                          {"Cookie", "secret"},
                                          {"Accept-Encoding", "gzip, br"},
                                          {"Content-Encoding", "gzip"}, /* unpacked */
                                          {NULL, NULL}};
    headers = given;
    memcpy(w->op.request_id, "request-7", 10);
    w->peer->status = 404;
    w->peer->body = "{\"error\":\"there is none\"}";
    w->peer->fields = "Content-Type: application/json\r\nX-Elacsym-Commit: abcd\r\n"
                      "Retry-After: 3\r\nSet-Cookie: no\r\n";
    for (int write = 0; write < 2; write++) {
        assert_int_equal(ask(w, w->names[LIVE], write), ERR_OK);
        assert_true(w->answered);
        assert_int_equal(w->response.status, 404);
        assert_string_equal(w->body, w->peer->body);
        assert_string_equal(field(w, "X-Elacsym-Commit"), "abcd");
        assert_string_equal(field(w, "Retry-After"), "3");
        assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-2");
        assert_int_equal(w->response.header_count, 3);
        assert_true(sent(w, "\r\nX-Elacsym-Hop: 1\r\n"));
        assert_true(sent(w, "; indexer-1; indexer-1,indexer-2,indexer-3\r\n"));
        assert_true(sent(w, "\r\nX-Elacsym-Deadline-Ms: 19"));
        assert_true(sent(w, "\r\nX-Request-Id: request-7\r\n"));
        assert_true(sent(w, "\r\nIdempotency-Key: k-1\r\n"));
        assert_true(sent(w, "\r\nX-Elacsym-Min-Commit: 0102\r\n"));
        assert_true(sent(w, "\r\nContent-Type: application/json\r\n"));
        assert_true(sent(w, "\r\n\r\n{\"top_k\":1}"));
        assert_false(sent(w, "secret"));
        assert_true(sent(w, "\r\nAccept-Encoding: gzip, br\r\n"));
        assert_false(sent(w, "Content-Encoding"));
    }
    assert_int_equal(w->peer->connections, 1);
}

static void paths_arrive_as_they_were_sent(void **state)
{
    struct world *w = *state;
    assert_int_equal(get(w, "/v1/namespaces/x/documents/a%2Fb", "q=1"), ERR_OK);
    assert_int_equal(strncmp(w->peer->last,
                             "GET /v1/namespaces/x/documents/a%2Fb?q=1 HTTP", 45),
                     0);
    /* libcurl would take '#' for the end; raw bytes are sent as what they mean */
    assert_int_equal(get(w, "/v1/namespaces/x/documents/a#b\xc3\xa9", ""), ERR_OK);
    assert_int_equal(strncmp(w->peer->last,
                             "GET /v1/namespaces/x/documents/a%23b%C3%A9 HTTP", 47),
                     0);
    assert_int_equal(get(w, "/v1/namespaces/x/../y", ""), ERR_OK);
    assert_int_equal(strncmp(w->peer->last, "GET /v1/namespaces/x/../y HTTP", 30), 0);
}

/* ---- an owner that does not answer ---- */

static void a_read_whose_owner_is_down_is_answered_here(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(w, w->names[DOWN], false), ERR_OK);
        assert_false(w->answered);
        assert_string_equal(field(w, "X-Elacsym-Node"), "query-1");
        assert_string_equal(w->op.error, "");
    }
}

static void an_owner_without_room_or_storage_is_relieved_of_the_read(void **state)
{
    struct world *w = *state;
    static const int statuses[] = {429, 502, 503, 504};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        w->peer->status = statuses[i];
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        assert_false(w->answered);
        assert_int_equal(w->response.body.size, 0);
    }
    /* but its other errors are the answer */
    static const int final[] = {400, 404, 409, 413, 500, 508};
    for (size_t i = 0; i < COUNT_OF(final); i++) {
        w->peer->status = final[i];
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        assert_true(w->answered);
        assert_int_equal(w->response.status, final[i]);
    }
}

static void an_owner_that_hangs_is_asked_once_and_then_left_alone(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    atomic_store(&w->peer->sick, true);
    assert_true(elsewhere(w, w->names[LIVE], false));
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_false(w->answered);
    assert_false(elsewhere(w, w->names[LIVE], false));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        assert_false(w->answered);
    }
    assert_true(w->peer->requests <= 1); /* it may not have come to read it */

    /* When it answers again it is asked again. */
    atomic_store(&w->peer->mode, PEER_ANSWER);
    atomic_store(&w->peer->sick, false);
    while (!w->answered) {
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        task_sleep_ms(10);
    }
    assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-2");
}

static void an_owner_that_is_alive_but_slow_is_relieved_of_the_read_later(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_false(w->answered);
    atomic_store(&w->peer->mode, PEER_ANSWER);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_true(w->answered); /* once is no reason to leave it alone */
}

static void an_owner_cut_off_from_the_store_is_relieved_of_reads(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    atomic_store(&w->peer->silent_ms, 400);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_false(w->answered);
    assert_false(elsewhere(w, w->names[LIVE], false));
    for (int i = 0; i < 5; i++) {
        task_sleep_ms(30); /* long enough for another look */
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        assert_false(w->answered);
    }
    assert_true(w->peer->requests <= 1);

    atomic_store(&w->peer->mode, PEER_ANSWER);
    atomic_store(&w->peer->silent_ms, 399); /* a store may take so long */
    while (!w->answered) {
        assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        task_sleep_ms(10);
    }
    assert_true(elsewhere(w, w->names[LIVE], false));
}

static void an_owner_cut_off_from_the_store_still_gets_its_writes(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    atomic_store(&w->peer->silent_ms, 5000);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_false(w->answered);
    atomic_store(&w->peer->mode, PEER_ANSWER);
    for (int i = 0; i < 3; i++) {
        assert_true(elsewhere(w, w->names[LIVE], true));
        enum err e;
        do /* a look may take too long on a busy machine */
            e = ask(w, w->names[LIVE], true);
        while (e == ERR_IO);
        assert_int_equal(e, ERR_OK);
        assert_true(w->answered);
        /* which says nothing about reads */
        assert_false(elsewhere(w, w->names[LIVE], false));
    }
}

static int64_t silence(void *store)
{
    return *(const int64_t *)store;
}

static void other_nodes_are_told_how_long_the_store_has_been_silent(void **state)
{
    struct world *w = *state;
    const struct ring ring = {ids, NODES};
    const char *const urls[NODES] = {w->urls[0], w->urls[1], w->urls[2]};
    int64_t silent_ms = 1234;
    struct cluster_options options = {.node_id = "indexer-1",
                                      .ring = ring,
                                      .urls = urls,
                                      .forwards_max = 8,
                                      .store_silent_ms = silence,
                                      .store = &silent_ms};
    struct cluster *cluster = cluster_new(&options);
    struct router router = cluster_router(cluster);
    w->response = (struct http_response){.status = 200};
    router.health(router.context, &w->response);
    assert_string_equal(field(w, "X-Elacsym-Store-Silent-Ms"), "1234");
    cluster_free(cluster);
}

static void a_write_to_an_owner_that_is_down_was_not_applied(void **state)
{
    struct world *w = *state;
    assert_int_equal(ask(w, w->names[DOWN], true), ERR_IO);
    assert_false(w->answered);
    assert_non_null(strstr(w->op.error, "\"indexer-3\" at http://127.0.0.1:"));
    assert_non_null(strstr(w->op.error, "nothing was applied"));
    assert_int_equal(w->op.retry_after_ms, 1000);
    /* and the next one is refused without asking */
    assert_int_equal(ask(w, w->names[DOWN], true), ERR_IO);
}

static void a_write_without_an_answer_is_unknown_and_not_sent_again(void **state)
{
    struct world *w = *state;
    static const int modes[] = {PEER_CLOSE, PEER_HALF};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        atomic_store(&w->peer->mode, modes[i]);
        int before = w->peer->requests;
        assert_int_equal(ask(w, w->names[LIVE], true), ERR_UNKNOWN);
        assert_non_null(strstr(w->op.error, "may or may not"));
        assert_int_equal(w->peer->requests, before + 1);
    }
}

static void a_write_whose_deadline_passes_is_unknown(void **state)
{
    struct world *w = *state;
    atomic_store(&w->peer->mode, PEER_HANG);
    w->op.deadline_ms = clock_ms() + 500;
    assert_int_equal(ask(w, w->names[LIVE], true), ERR_UNKNOWN);
}

static void a_write_with_a_key_survives_a_dead_kept_connection(void **state)
{
    struct world *w = *state;
    static const struct header key[] = {{"Idempotency-Key", "k"}, {NULL, NULL}};
    headers = key;
    atomic_store(&w->peer->mode, PEER_FIRST_CLOSE);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ask(w, w->names[LIVE], true), ERR_OK);
        assert_int_equal(w->response.status, 200);
    }
}

static void only_the_owner_itself_can_acknowledge(void **state)
{
    struct world *w = *state;
    static const char *const fields[] = {
        "Content-Type: application/json\r\n", "Content-Type: text/html\r\n",
        "Content-Type: application/json\r\nX-Elacsym-Node: indexer-3\r\n"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        w->peer->fields = fields[i];
        assert_int_equal(ask(w, w->names[LIVE], true), ERR_UNKNOWN);
        assert_false(w->answered);
        while (ask(w, w->names[LIVE], false) == ERR_OK && w->peer->requests == (int)i)
            task_sleep_ms(10);
        assert_false(w->answered);
        w->peer->fields =
            "Content-Type: application/json\r\nX-Elacsym-Node: indexer-2\r\n";
        do
            assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
        while (!w->answered);
    }
}

/* ---- writes at a query node ---- */

static void a_query_node_refuses_writes_and_names_the_owner(void **state)
{
    struct world *w = *state;
    char address[128];
    for (int n = 0; n < NODES; n++) {
        assert_false(elsewhere(w, w->names[n], true));
        assert_int_equal(ask(w, w->names[n], true), ERR_OK);
        assert_true(w->answered);
        assert_int_equal(w->response.status, 403);
        (void)snprintf(address, sizeof address,
                       "\"owner\":{\"node_id\":\"%s\",\"address\":\"%s\"}", ids[n],
                       w->urls[n]);
        assert_in_body(w, address);
    }
    assert_int_equal(w->peer->requests, 0);
}

static void a_query_node_told_to_forward_writes_does(void **state)
{
    struct world *w = *state;
    assert_true(elsewhere(w, w->names[LIVE], true));
    assert_int_equal(ask(w, w->names[LIVE], true), ERR_OK);
    assert_int_equal(w->response.status, 200);
    assert_int_equal(w->peer->requests, 1);
}

/* ---- what was forwarded to us, or says so ---- */

static char *our_nodes(struct world *w)
{
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    char *at = strstr(w->peer->last, "X-Elacsym-Nodes: ");
    assert_non_null(at);
    return strndup(at + 17, strcspn(at + 17, "\r"));
}

static void a_forwarded_request_of_ours_is_answered_here(void **state)
{
    struct world *w = *state;
    char *nodes = our_nodes(w);
    const struct header given[] = {{"X-Elacsym-Hop", "1"},
                                   {"X-Elacsym-Nodes", nodes},
                                   {"X-Elacsym-Deadline-Ms", "5000"},
                                   {NULL, NULL}};
    headers = given;
    int64_t now_ms = clock_ms();
    assert_int_equal(ask(w, w->names[SELF], true), ERR_OK);
    assert_false(w->answered);
    assert_in_range(w->op.deadline_ms - now_ms, 5000, 10000);
    free(nodes);
}

static void a_deadline_can_only_become_shorter(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = {
        "99999999", "-5", "", "1e3", "0x10", " 7", "99999999999999999999999"};
    int64_t before_ms = w->op.deadline_ms;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const struct header given[] = {{"X-Elacsym-Hop", "1"},
                                       {"X-Elacsym-Deadline-Ms", texts[i]},
                                       {NULL, NULL}};
        headers = given;
        assert_int_equal(ask(w, w->names[SELF], false), ERR_OK);
        assert_false(w->answered);
        assert_true(w->op.deadline_ms == before_ms);
    }
}

static void a_request_is_passed_on_once_only(void **state)
{
    struct world *w = *state;
    char *nodes = our_nodes(w);
    const struct header honest[] = {{"X-Elacsym-Hop", "1"},
                                    {"X-Elacsym-Nodes", nodes},
                                    {NULL, NULL}};
    static const struct header forged[] = {{"x-elacsym-hop", "0"}, {NULL, NULL}};
    static const struct header empty[] = {{"X-Elacsym-Hop", ""}, {NULL, NULL}};
    const struct header *cases[] = {honest, forged, empty};
    int before = w->peer->requests;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int write = 0; write < 2; write++) {
            headers = cases[i];
            assert_false(elsewhere(w, w->names[LIVE], write));
            assert_int_equal(ask(w, w->names[LIVE], write), ERR_OK);
            assert_true(w->answered);
            assert_int_equal(w->response.status, 508);
            assert_in_body(w, "\"code\":\"forward_loop\"");
            assert_in_body(w, "indexer-2");
        }
    assert_int_equal(w->peer->requests, before);
    free(nodes);
}

static void another_list_is_409_with_both_lists(void **state)
{
    struct world *w = *state;
    static const struct header given[] = {
        {"X-Elacsym-Hop", "1"},
        {"X-Elacsym-Nodes", "0123456789abcdef; query-9; indexer-1,indexer-3"},
        {NULL, NULL}};
    headers = given;
    for (int n = 0; n < NODES; n++) {
        assert_int_equal(ask(w, w->names[n], n == SELF), ERR_OK);
        assert_true(w->answered);
        assert_int_equal(w->response.status, 409);
        assert_in_body(w, "\"code\":\"indexer_list_mismatch\"");
        assert_in_body(w,
                       "\"lists\":[{\"node\":\"indexer-1\",\"nodes\":[\"indexer-1\","
                       "\"indexer-2\",\"indexer-3\"]},{\"node\":\"query-9\",\"nodes\":["
                       "\"indexer-1\",\"indexer-3\"]}]");
        assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-1");
    }
}

static void a_forged_list_is_shown_and_harms_nobody(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = {"",           ";",
                                        ";;",         "x",
                                        "; ; ",       "f; \"}]\\; a\",\x01\xff,,b",
                                        "0; a; ,,,,", "0;a;b;c"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct json *json = NULL;
        struct json_value root;
        const struct header with_hop[] = {{"X-Elacsym-Hop", "1"},
                                          {"X-Elacsym-Nodes", texts[i]},
                                          {NULL, NULL}};
        headers = with_hop;
        assert_int_equal(ask(w, w->names[SELF], false), ERR_OK);
        assert_int_equal(w->response.status, 409);
        buf_append_zeros(&w->response.body, JSON_PADDING);
        assert_int_equal(json_open(&w->op,
                                   slice_of(w->response.body.data,
                                            w->response.body.size - JSON_PADDING),
                                   &json, &root),
                         ERR_OK);
        assert_int_equal(json_end(&w->op, json), ERR_OK);
        json_close(json);
        /* without a hop nobody looks at it */
        const struct header alone[] = {{"X-Elacsym-Nodes", texts[i]}, {NULL, NULL}};
        headers = alone;
        assert_int_equal(ask(w, w->names[SELF], false), ERR_OK);
        assert_false(w->answered);
    }
}

/* ---- bodies that stream ---- */

static enum err stream_write_to(struct world *w, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/v1/namespaces/%s/upsert", name);
    struct http_request http = {.method = "POST",
                                .path = path,
                                .query_string = "",
                                .streams = true};
    struct router_request request = {.name = name, .write = true, .http = &http};
    buf_release(&w->response.body);
    w->response = (struct http_response){.status = 200};
    op_clear_error(&w->op);
    w->op.deadline_ms = OP_NO_DEADLINE;
    stream.taken = 0;
    return w->router.pass(w->router.context, &w->op, &request, &w->response,
                          &w->answered);
}

static int streaming_indexer(void **state)
{
    memset(&stream, 0, sizeof stream);
    return indexer(state);
}

static int streaming_query_node(void **state)
{
    memset(&stream, 0, sizeof stream);
    return query_node(state);
}

static int end_streaming(void **state)
{
    buf_release(&stream.body);
    buf_release(&stream.bytes);
    return teardown(state);
}

static void a_write_that_streams_reaches_its_owner(void **state)
{
    struct world *w = *state;
    static const struct header given[] = {{"Idempotency-Key", "k-1"},
                                          {"Content-Encoding", "gzip"},
                                          {NULL, NULL}};
    char *text = long_text(200000);
    headers = given;
    memcpy(w->op.request_id, "request-8", 10);
    buf_append_str(&stream.body, text);
    stream.size = 200000;
    assert_int_equal(stream_write_to(w, w->names[LIVE]), ERR_OK);
    assert_true(w->answered);
    assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-2");
    assert_true(sent(w, "\r\nX-Elacsym-Hop: 1\r\n"));
    assert_true(sent(w, "\r\nX-Request-Id: request-8\r\n"));
    assert_true(sent(w, "\r\nIdempotency-Key: k-1\r\n"));
    assert_true(sent(w, "\r\nContent-Encoding: gzip\r\n"));
    assert_true(sent(w, "\r\nContent-Type: application/json\r\n"));
    assert_true(sent(w, "\r\nContent-Length: 200000\r\n"));
    /* The owner's time begins with the end of the body, as ours does. */
    assert_true(sent(w, "\r\nX-Elacsym-Deadline-Ms: 6900\r\n"));
    assert_string_equal(strstr(w->peer->last, "\r\n\r\n") + 4, text);
    free(text);
}

static void an_owner_that_refuses_before_the_end_is_heard(void **state)
{
    struct world *w = *state;
    buf_append_str(&stream.body, "{\"documents\":[");
    stream.size = HTTP_STREAM_UNKNOWN;
    stream.stalls = true;
    w->peer->status = 413;
    w->peer->body = "{\"error\":\"too large\"}";
    atomic_store(&w->peer->mode, PEER_THEN_CLOSE);
    assert_int_equal(stream_write_to(w, w->names[LIVE]), ERR_OK);
    assert_true(w->answered);
    assert_int_equal(w->response.status, 413);
}

static void a_write_whose_owner_leaves_before_its_end_was_not_applied(void **state)
{
    struct world *w = *state;
    char *text = long_text(16 << 20);
    buf_append_str(&stream.body, text);
    free(text);
    stream.size = HTTP_STREAM_UNKNOWN;
    atomic_store(&w->peer->mode, PEER_RESET); /* as soon as it has the head */
    assert_int_equal(stream_write_to(w, w->names[LIVE]), ERR_IO);
    assert_non_null(strstr(w->op.error, "nothing was applied"));
    assert_int_equal(stream_write_to(w, w->names[DOWN]), ERR_IO);
    stream.size = stream.body.size = 2;
    assert_int_equal(stream_write_to(w, w->names[LIVE]), ERR_UNKNOWN);
    assert_int_equal(w->peer->requests, 2);
}

static void a_large_answer_streams_to_its_client(void **state)
{
    struct world *w = *state;
    char *text = long_text(3 << 20);
    peer_keep(w->peer, text);
    w->peer->fields = "Content-Type: application/json\r\nX-Elacsym-Node: indexer-2\r\n"
                      "Content-Encoding: gzip\r\nX-Elacsym-Commit: abcd\r\n";
    w->op.deadline_ms = clock_ms() + 20000;
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_true(w->answered);
    assert_int_equal(stream.answer, 3 << 20);
    assert_true(slice_equal(buf_slice(&stream.bytes), slice_str(text)));
    assert_string_equal(field(w, "Content-Encoding"), "gzip");
    assert_string_equal(field(w, "X-Elacsym-Commit"), "abcd");
    assert_string_equal(field(w, "X-Elacsym-Node"), "indexer-2");
    assert_int_equal(w->response.body.size, 0);
}

static void an_answer_that_cannot_stream_is_held_up_to_the_ceiling(void **state)
{
    struct world *w = *state;
    char *text = long_text((1 << 20) - 1);
    stream.no_place = true;
    peer_keep(w->peer, text);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_true(slice_equal(buf_slice(&w->response.body), slice_str(text)));
    text = long_text((1 << 20) + 1);
    peer_keep(w->peer, text);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_LIMIT);
    assert_int_equal(w->response.header_count, 1); /* who says so */
    assert_string_equal(field(w, "X-Elacsym-Node"), "query-1");
}

static void an_owner_that_dies_amid_a_streamed_answer_is_not_replaced(void **state)
{
    struct world *w = *state;
    char *text = long_text(3 << 20);
    peer_keep(w->peer, text);
    atomic_store(&w->peer->mode, PEER_HALF);
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_IO);
    assert_true(stream.bytes.size > 0);
    assert_true(stream.bytes.size < 3 << 20);

    /* A small one is held until it is whole, and so can be. */
    buf_clear(&stream.bytes);
    w->peer->body = "{\"results\":[]}";
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_OK);
    assert_false(w->answered);
    assert_int_equal(stream.bytes.size, 0);
}

static void a_client_that_leaves_amid_a_streamed_answer_ends_it(void **state)
{
    struct world *w = *state;
    char *text = long_text(3 << 20);
    peer_keep(w->peer, text);
    stream.gone = true;
    assert_int_equal(ask(w, w->names[LIVE], false), ERR_CANCELED);
}

static void a_strangers_large_answer_is_not_passed_on(void **state)
{
    struct world *w = *state;
    char *text = long_text((1 << 20) + 1);
    peer_keep(w->peer, text);
    w->peer->fields = "Content-Type: application/json\r\n";
    (void)ask(w, w->names[LIVE], false);
    assert_int_equal(stream.answer, 0);
    assert_int_equal(stream.bytes.size, 0);
    assert_false(w->answered);
}

static void addresses_come_from_the_template(void **state)
{
    static const struct {
        const char *form, *address;
    } cases[] = {{"http://{node_id}:{port}", "http://a-1:3000"},
                 {"https://{node_id}.indexers.svc:{port}/",
                  "https://a-1.indexers.svc:3000"},
                 {"http://{node_id}", "http://a-1"},
                 {"http://x/{node_id}/{node_id}//", "http://x/a-1/a-1"},
                 {"http://{node_id}{{port}", "http://a-1{3000"}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *address = cluster_address(cases[i].form, "a-1", 3000);
        assert_string_equal(address, cases[i].address);
        mem_free(address);
    }
}

#define INDEXER(test)       cmocka_unit_test_setup_teardown(test, indexer, teardown)
#define QUERY(test)         cmocka_unit_test_setup_teardown(test, query_node, teardown)
#define STREAMING(as, test) cmocka_unit_test_setup_teardown(test, as, end_streaming)

int main(void)
{
    const struct CMUnitTest tests[] = {
        INDEXER(an_indexer_answers_for_what_it_owns),
        QUERY(a_query_node_owns_nothing),
        INDEXER(other_namespaces_are_passed_on_to_their_owner),
        QUERY(paths_arrive_as_they_were_sent),
        QUERY(a_read_whose_owner_is_down_is_answered_here),
        QUERY(an_owner_without_room_or_storage_is_relieved_of_the_read),
        QUERY(an_owner_that_hangs_is_asked_once_and_then_left_alone),
        QUERY(an_owner_that_is_alive_but_slow_is_relieved_of_the_read_later),
        QUERY(an_owner_cut_off_from_the_store_is_relieved_of_reads),
        INDEXER(an_owner_cut_off_from_the_store_still_gets_its_writes),
        INDEXER(other_nodes_are_told_how_long_the_store_has_been_silent),
        INDEXER(a_write_to_an_owner_that_is_down_was_not_applied),
        INDEXER(a_write_without_an_answer_is_unknown_and_not_sent_again),
        INDEXER(a_write_whose_deadline_passes_is_unknown),
        INDEXER(a_write_with_a_key_survives_a_dead_kept_connection),
        INDEXER(only_the_owner_itself_can_acknowledge),
        QUERY(a_query_node_refuses_writes_and_names_the_owner),
        cmocka_unit_test_setup_teardown(a_query_node_told_to_forward_writes_does,
                                        forwarding_query_node, teardown),
        INDEXER(a_forwarded_request_of_ours_is_answered_here),
        INDEXER(a_deadline_can_only_become_shorter),
        INDEXER(a_request_is_passed_on_once_only),
        INDEXER(another_list_is_409_with_both_lists),
        INDEXER(a_forged_list_is_shown_and_harms_nobody),
        STREAMING(streaming_indexer, a_write_that_streams_reaches_its_owner),
        STREAMING(streaming_indexer, an_owner_that_refuses_before_the_end_is_heard),
        STREAMING(streaming_indexer,
                  a_write_whose_owner_leaves_before_its_end_was_not_applied),
        STREAMING(streaming_query_node, a_large_answer_streams_to_its_client),
        STREAMING(streaming_query_node,
                  an_answer_that_cannot_stream_is_held_up_to_the_ceiling),
        STREAMING(streaming_query_node,
                  an_owner_that_dies_amid_a_streamed_answer_is_not_replaced),
        STREAMING(streaming_query_node,
                  a_client_that_leaves_amid_a_streamed_answer_ends_it),
        STREAMING(streaming_query_node, a_strangers_large_answer_is_not_passed_on),
        cmocka_unit_test(addresses_come_from_the_template),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
