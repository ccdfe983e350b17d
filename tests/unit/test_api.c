#include "api/api_token.h"
#include "base/codec.h"
#include "unit/api_fake.h"

/* ---- routes ---- */

static void each_path_takes_its_own_methods_and_names_them(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *allow;
    } cases[] = {
        {"POST", "/health", "GET, HEAD"},
        {"PUT", "/ready", "GET, HEAD"},
        {"DELETE", "/metrics", "GET, HEAD"},
        {"POST", "/v1/namespaces", "GET, HEAD"},
        {"POST", "/v1/namespaces/x", "PUT, GET, HEAD, DELETE"},
        {"PATCH", "/v1/namespaces/x", "PUT, GET, HEAD, DELETE"},
        {"GET", "/v1/namespaces/x/upsert", "POST"},
        {"PUT", "/v1/namespaces/x/delete", "POST"},
        {"GET", "/v1/namespaces/x/query", "POST"},
        {"GET", "/v1/namespaces/x/compact", "POST"},
        {"DELETE", "/v1/namespaces/x/documents/1", "GET, HEAD"},
        {"get", "/health", "GET, HEAD"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask(cases[i].method, cases[i].path, ""), 405);
        assert_string_equal(answer_header("Allow"), cases[i].allow);
    }
    assert_error("this path takes GET, HEAD");
}

static void unknown_paths_are_404(void **state)
{
    (void)state;
    static const char *const paths[] = {"/",
                                        "",
                                        "/v1",
                                        "/v2/namespaces",
                                        "/health/",
                                        "/v1/namespaces/x/",
                                        "/v1/namespaces/x/search",
                                        "/v1/namespaces/x/documents",
                                        "/v1/namespaces/x/documents/1/2",
                                        "/v1//namespaces",
                                        "//health",
                                        "health"};
    for (size_t i = 0; i < COUNT_OF(paths); i++)
        assert_int_equal(ask("GET", paths[i], ""), 404);
    assert_error("there is nothing at this path");
}

static void liveness_waits_in_a_lane_of_its_own(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body;
        enum http_lane lane;
        size_t body_max;
    } cases[] = {
        {"GET", "/health", "", HTTP_LANE_ADMIN, 4096},
        {"GET", "/ready", "", HTTP_LANE_ADMIN, 4096},
        {"GET", "/metrics", "", HTTP_LANE_ADMIN, 4096},
        {"GET", "/v1/namespaces", "", HTTP_LANE_QUERY, 4096},
        {"GET", "/v1/namespaces/x", "", HTTP_LANE_QUERY, 4096},
        {"GET", "/v1/namespaces/x/documents/1", "", HTTP_LANE_QUERY, 4096},
        {"POST", "/v1/namespaces/x/query", "{}", HTTP_LANE_QUERY, 4 << 20},
        {"POST", "/v1/namespaces/x/upsert", "{}", HTTP_LANE_WRITE, 64 << 20},
        {"POST", "/v1/namespaces/x/delete", "{}", HTTP_LANE_WRITE, 64 << 20},
        {"PUT", "/v1/namespaces/x", "{}", HTTP_LANE_WRITE, 1 << 20},
        {"DELETE", "/v1/namespaces/x", "", HTTP_LANE_WRITE, 4096},
        {"POST", "/v1/namespaces/x/compact", "", HTTP_LANE_WRITE, 4096},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        (void)ask(cases[i].method, cases[i].path, cases[i].body);
        assert_int_equal(fake.lane, cases[i].lane);
        assert_int_equal(fake.body_max, cases[i].body_max);
    }
}

static void a_body_that_is_not_json_by_its_type_is_415(void **state)
{
    (void)state;
    static const char *const wrong[] = {NULL, "", "text/plain", "application/jsonp",
                                        "application/x-ndjson"};
    static const char *const right[] = {"application/json", "Application/JSON",
                                        "application/json; charset=utf-8",
                                        "application/json ;charset=utf-8"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        fake.content_type = wrong[i];
        assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}"),
                         415);
        assert_error("Content-Type must be application/json");
    }
    for (size_t i = 0; i < COUNT_OF(right); i++) {
        fake.content_type = right[i];
        assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}"),
                         200);
    }
    fake.content_type = NULL;
    assert_int_equal(ask("GET", "/health", ""), 200);
}

static void a_namespace_name_is_decoded_once_and_then_checked(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "/v1/namespaces/",          "/v1/namespaces/..",       "/v1/namespaces/%2e%2e",
        "/v1/namespaces/%2e%2e%2f", "/v1/namespaces/a%2fb",    "/v1/namespaces/%00",
        "/v1/namespaces/a%00",      "/v1/namespaces/%",        "/v1/namespaces/a%2",
        "/v1/namespaces/a%zz",      "/v1/namespaces/%252e",    "/v1/namespaces/.a",
        "/v1/namespaces/%c3%28",    "/v1/namespaces/%d0%b0bc", /* Cyrillic a */
        "/v1/namespaces/%ef%bd%81", "/v1/namespaces/a+b",      "/v1/namespaces/a%20b",
        "/v1/namespaces/%ed%a0%80",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(ask("DELETE", wrong[i], ""), 400);
        assert_string_equal(SEEN, "");
    }
    char longest[200] = "/v1/namespaces/";
    memset(longest + 15, 'n', 128);
    assert_int_equal(ask("DELETE", longest, ""), 200);
    longest[15 + 128] = 'n';
    assert_int_equal(ask("DELETE", longest, ""), 400);
    assert_int_equal(ask("DELETE", "/v1/namespaces/%41b%2Dc", ""), 200);
    assert_string_equal(SEEN, "drop Ab-c");
}

static void query_parameters_that_nobody_asked_for_are_refused(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/health?verbose=1", ""), 400);
    assert_error("query parameter \"verbose\": none is allowed here");
    assert_int_equal(ask("GET", "/health?", ""), 200);
    assert_int_equal(ask("GET", "/v1/namespaces?limit=3", ""), 400);
    assert_error("query parameter \"limit\": allowed are prefix, cursor, page_size");
    assert_int_equal(ask("GET", "/v1/namespaces?prefix=a&prefix=b", ""), 400);
    assert_error("query parameter \"prefix\" is given twice");
    assert_int_equal(ask("GET", "/v1/namespaces?prefix=%4", ""), 400);
    assert_error("query parameter \"prefix\": % must be followed by two hex digits");
}

static void a_request_without_body_takes_an_empty_object_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(ask("POST", "/v1/namespaces/x/compact", ""), 200);
    assert_string_equal(SEEN, "maintain x force");
    assert_int_equal(ask("POST", "/v1/namespaces/x/compact", " {} "), 200);
    assert_int_equal(ask("POST", "/v1/namespaces/x/compact", "{\"a\":1}"), 400);
    assert_string_equal(SEEN, "");
    assert_int_equal(ask("POST", "/v1/namespaces/x/compact", "[]"), 400);
    assert_error("this request takes no body: expected an object, got an array");
}

static void a_missing_body_is_said_to_be_missing(void **state)
{
    (void)state;
    static const char *const paths[] = {"/v1/namespaces/x/upsert",
                                        "/v1/namespaces/x/delete",
                                        "/v1/namespaces/x/query"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        assert_int_equal(ask("POST", paths[i], ""), 400);
        assert_error("this request needs a JSON object as its body");
    }
    assert_int_equal(ask("PUT", "/v1/namespaces/x", ""), 400);
}

/* ---- the node ---- */

static void health_says_who_we_are(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/health", ""), 200);
    assert_string_equal(fake.text, "{\"status\":\"healthy\",\"version\":\"1.2.3\","
                                   "\"namespaces\":3,\"node_id\":\"node-1\","
                                   "\"role\":\"indexer\"}");
    assert_string_equal(fake.response.content_type, "application/json");
    assert_string_equal(answer_header("X-For-Nodes"), "7");
}

static void ready_says_why_it_is_not(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/ready", ""), 200);
    fake.not_ready = true;
    assert_int_equal(ask("GET", "/ready", ""), 503);
    assert_error("not ready: the store does not answer");
    assert_string_equal(answer_header("Retry-After"), "1");
    assert_int_equal(ask("GET", "/health", ""), 200);
}

static void metrics_count_answers_by_route_and_status(void **state)
{
    (void)state;
    (void)ask("POST", "/v1/namespaces/x/query", "{]");
    (void)ask("GET", "/metrics", "");
    assert_string_equal(fake.response.content_type,
                        "text/plain; version=0.0.4; charset=utf-8");
    assert_non_null(
        strstr(fake.text, "elacsym_requests_total{route=\"query\",status=\"4xx\"} "));
    assert_non_null(
        strstr(fake.text, "elacsym_request_seconds_count{route=\"query\"} "));
}

/* ---- errors ---- */

static void each_kind_of_error_has_its_status(void **state)
{
    (void)state;
    static const struct {
        enum err e;
        int status;
    } cases[] = {
        {ERR_INVALID, 400},  {ERR_DENIED, 403},   {ERR_NOT_FOUND, 404},
        {ERR_CONFLICT, 409}, {ERR_LIMIT, 413},    {ERR_REUSED, 422},
        {ERR_BUSY, 429},     {ERR_CANCELED, 499}, {ERR_CORRUPT, 500},
        {ERR_IO, 503},       {ERR_UNKNOWN, 503},  {ERR_FENCED, 503},
        {ERR_TIMEOUT, 504},  {ERR_FULL, 507},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        fake.fail[0] = cases[i].e;
        assert_int_equal(ask("DELETE", "/v1/namespaces/x", ""), cases[i].status);
        assert_non_null(strstr(fake.text, "{\"error\":\"as the test wants it\""));
    }
}

static void an_unknown_outcome_says_so_and_repeats_the_key(void **state)
{
    (void)state;
    fake.fail[1] = ERR_UNKNOWN;
    assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}"), 503);
    assert_string_equal(fake.text,
                        "{\"error\":\"as the test wants it\",\"outcome\":\"unknown\"}");
    fake.idempotency_key = "abc";
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}");
    assert_string_equal(fake.text,
                        "{\"error\":\"as the test wants it\",\"outcome\":\"unknown\","
                        "\"idempotency_key\":\"abc\"}");
}

static void a_fenced_node_says_that_ownership_is_the_trouble(void **state)
{
    (void)state;
    fake.fail[0] = ERR_FENCED;
    fake.retry_after_ms = 5001;
    (void)ask("DELETE", "/v1/namespaces/x", "");
    assert_string_equal(
        fake.text,
        "{\"error\":\"as the test wants it\",\"code\":\"ownership_conflict\"}");
    assert_string_equal(answer_header("Retry-After"), "6");
}

static void too_many_requests_always_say_when_to_come_back(void **state)
{
    (void)state;
    fake.fail[0] = ERR_BUSY;
    (void)ask("DELETE", "/v1/namespaces/x", "");
    assert_string_equal(answer_header("Retry-After"), "1");
    fake.fail[0] = ERR_NOT_FOUND;
    (void)ask("DELETE", "/v1/namespaces/x", "");
    assert_null(answer_header("Retry-After"));
}

static void what_the_server_refuses_is_worded_like_every_error(void **state)
{
    (void)state;
    struct http_handler handler = api_handler(fake_api());
    struct http_response response = {0};
    handler.refuse(handler.context, 429, "busy \xff", &response);
    assert_int_equal(response.status, 429);
    assert_true(slice_equal(buf_slice(&response.body),
                            slice_str("{\"error\":\"busy \xef\xbf\xbd\"}")));
    assert_int_equal(response.header_count, 0); /* the server adds Retry-After itself */
    buf_release(&response.body);
}

/* ---- tokens ---- */

static void a_write_gives_a_token_that_a_query_takes(void **state)
{
    (void)state;
    char token[256];
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}");
    (void)snprintf(token, sizeof token, "%s", answer_header("X-Elacsym-Commit"));
    fake.min_commit = token;
    assert_int_equal(ask("POST", "/v1/namespaces/x/query", "{\"vector\":[1,2]}"), 200);
    assert_memory_equal(fake.min_seen.incarnation, fake_token.incarnation, 16);
    assert_int_equal(fake.min_seen.epoch, 7);
    assert_int_equal(fake.min_seen.slot, 42);
    assert_string_equal(answer_header("X-Elacsym-Commit"), token);
}

static void a_garbled_token_is_refused_whatever_digit_changed(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_SIZE], good[TOKEN_TEXT_SIZE];
    token_text(&fake_token, good);
    fake.min_commit = token;
    for (size_t i = 0; i < sizeof good - 1; i++) {
        memcpy(token, good, sizeof good);
        token[i] = good[i] == 'a' ? 'b' : 'a';
        assert_int_equal(ask("POST", "/v1/namespaces/x/query", "{\"vector\":[1,2]}"),
                         400);
        memcpy(token, good, sizeof good);
        token[i] = '\0';
        assert_int_equal(ask("POST", "/v1/namespaces/x/query", "{\"vector\":[1,2]}"),
                         400);
    }
    assert_error("X-Elacsym-Min-Commit is not a token of this service: send the "
                 "X-Elacsym-Commit of an earlier answer unchanged");
}

/* ---- idempotency ---- */

static void the_digest_differs_with_body_and_path_and_only_with_them(void **state)
{
    (void)state;
    uint8_t first[16];
    fake.idempotency_key = "k";
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}");
    memcpy(first, fake.digest, 16);
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}");
    assert_memory_equal(first, fake.digest, 16);
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\": []}");
    assert_memory_not_equal(first, fake.digest, 16);
    (void)ask("POST", "/v1/namespaces/y/upsert", "{\"documents\":[]}");
    assert_memory_not_equal(first, fake.digest, 16);
}

static void an_idempotency_key_is_1_to_255_visible_characters(void **state)
{
    (void)state;
    char key[257];
    memset(key, 'k', sizeof key);
    key[255] = '\0';
    fake.idempotency_key = key;
    assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}"), 200);
    key[255] = 'k';
    key[256] = '\0';
    assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}"), 400);
    static const char *const wrong[] = {"", "a b", "a\tb", "\x7f", "caf\xc3\xa9"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        fake.idempotency_key = wrong[i];
        assert_int_equal(ask("POST", "/v1/namespaces/x/delete", "{\"ids\":[]}"), 400);
        assert_error("Idempotency-Key: expected 1 to 255 visible ASCII characters");
    }
}

/* ---- other nodes ---- */

static void what_another_node_answered_is_the_answer(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body;
        bool write;
    } cases[] = {
        {"PUT", "/v1/namespaces/x", "{}", true},
        {"GET", "/v1/namespaces/x", "", false},
        {"DELETE", "/v1/namespaces/x", "", true},
        {"POST", "/v1/namespaces/%78/upsert", "not even JSON", true},
        {"POST", "/v1/namespaces/x/delete", "{}", true},
        {"POST", "/v1/namespaces/x/compact", "", true},
        {"POST", "/v1/namespaces/x/query", "{}", false},
        {"GET", "/v1/namespaces/x/documents/1", "", false},
    };
    fake.routed_body = "{\"from\":\"afar\"}";
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask(cases[i].method, cases[i].path, cases[i].body), 418);
        assert_string_equal(fake.text, "{\"from\":\"afar\"}");
        assert_int_equal(fake.routed_write, cases[i].write);
        assert_string_equal(fake.routed_name, "x");
        assert_int_equal(fake.calls, 0);
    }
    assert_int_equal(fake.routed, COUNT_OF(cases));
}

static void what_is_about_no_namespace_is_answered_here(void **state)
{
    (void)state;
    static const char *const paths[] = {"/health", "/ready", "/metrics",
                                        "/v1/namespaces"};
    fake.routed_body = "{}";
    fake.routed_elsewhere = true;
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        assert_int_equal(ask("GET", paths[i], ""), 200);
        assert_true(fake.lane != HTTP_LANE_FORWARD);
    }
    assert_int_equal(ask("GET", "/v1/namespaces/.x", ""), 400);
    assert_int_equal(fake.routed, 0);
}

static void what_waits_for_another_node_waits_in_a_lane_of_its_own(void **state)
{
    (void)state;
    fake.routed_elsewhere = true;
    (void)ask("POST", "/v1/namespaces/x/upsert", "{\"documents\":[]}");
    assert_int_equal(fake.lane, HTTP_LANE_FORWARD);
    (void)ask("GET", "/v1/namespaces/%78", "");
    assert_int_equal(fake.lane, HTTP_LANE_FORWARD);
    assert_string_equal(fake.routed_name, "x");
    (void)ask("GET", "/v1/namespaces/%zz", "");
    assert_int_equal(fake.lane, HTTP_LANE_QUERY);
    fake.routed_elsewhere = false;
    (void)ask("GET", "/v1/namespaces/x", "");
    assert_int_equal(fake.lane, HTTP_LANE_QUERY);
}

static void an_owner_that_is_away_is_an_error_like_any_other(void **state)
{
    (void)state;
    fake.routed_error = ERR_IO;
    fake.retry_after_ms = 1000;
    assert_int_equal(ask("POST", "/v1/namespaces/x/upsert", "{}"), 503);
    assert_error("the owner is away");
    assert_string_equal(answer_header("Retry-After"), "1");
    assert_int_equal(fake.calls, 0);
}

#define T(f) cmocka_unit_test_setup(f, fake_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_path_takes_its_own_methods_and_names_them),
        T(unknown_paths_are_404),
        T(liveness_waits_in_a_lane_of_its_own),
        T(a_body_that_is_not_json_by_its_type_is_415),
        T(a_namespace_name_is_decoded_once_and_then_checked),
        T(query_parameters_that_nobody_asked_for_are_refused),
        T(a_request_without_body_takes_an_empty_object_and_nothing_else),
        T(a_missing_body_is_said_to_be_missing),
        T(health_says_who_we_are),
        T(ready_says_why_it_is_not),
        T(metrics_count_answers_by_route_and_status),
        T(each_kind_of_error_has_its_status),
        T(an_unknown_outcome_says_so_and_repeats_the_key),
        T(a_fenced_node_says_that_ownership_is_the_trouble),
        T(too_many_requests_always_say_when_to_come_back),
        T(what_the_server_refuses_is_worded_like_every_error),
        T(a_write_gives_a_token_that_a_query_takes),
        T(a_garbled_token_is_refused_whatever_digit_changed),
        T(the_digest_differs_with_body_and_path_and_only_with_them),
        T(an_idempotency_key_is_1_to_255_visible_characters),
        T(what_another_node_answered_is_the_answer),
        T(what_is_about_no_namespace_is_answered_here),
        T(what_waits_for_another_node_waits_in_a_lane_of_its_own),
        T(an_owner_that_is_away_is_an_error_like_any_other),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, fake_teardown);
}
