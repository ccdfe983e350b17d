#include "unit/api_fake.h"

#define T(f)   cmocka_unit_test_setup(f, fake_setup)
#define UPSERT "/v1/namespaces/x/upsert"
#define DELETE "/v1/namespaces/x/delete"

static void documents_reach_the_registry_as_they_were_written(void **state)
{
    (void)state;
    static const struct {
        const char *docs, *seen;
    } cases[] = {
        {"", ""},
        {"{\"id\":1}", "1; "},
        {"{\"id\":18446744073709551615}", "18446744073709551615; "},
        {"{\"id\":-0}", "0; "},
        {"{\"id\":1,\"vector\":null,\"attributes\":null}", "1; "},
        {"{\"id\":1,\"vector\":[1,-2.5e0]}", "1 <1 -2.5>; "},
        {"{\"vector\":\"AACAPwAAAEA=\",\"id\":2}", "2 <1 2>; "},
        {"{\"id\":1,\"vector\":[1,2]},{\"id\":2},{\"id\":3,\"vector\":[3,4]}",
         "1 <1 2>; 2; 3 <3 4>; "},
        {"{\"id\":\"a\\u00e9\\ud83d\\ude00\\u0000\"}", "\"a\xc3\xa9\xf0\x9f\x98\x80"},
        {"{\"id\":1,\"attributes\":{}}", "1; "},
        {"{\"id\":1,\"attributes\":{\"title\":\"x\\\"y\",\"year\":-9223372036854775808,"
         "\"size\":18446744073709551615,\"price\":0.1,\"sold\":true}}",
         "1 title=\"x\"y\" year=-9223372036854775808 size=18446744073709551615 "
         "price=0.10000000000000001 sold=true; "},
        {"{\"id\":1,\"attributes\":{\"at\":\"2026-11-22T10:00:00.5+01:00\","
         "\"key\":\"67E55044-10b1-426f-9247-bb680e5fe0c8\"}}",
         "1 at=2026-11-22T09:00:00.5Z key=67e55044-10b1-426f-9247-bb680e5fe0c8; "},
        {"{\"id\":1,\"attributes\":{\"tags\":[\"b\",\"a\",\"b\"],\"numbers\":[]}}",
         "1 tags=[\"b\" \"a\" \"b\"] numbers=[]; "},
        {"{\"id\":1,\"attributes\":{\"title\":null,\"tags\":null}}", "1; "},
        /* an integer is a float; one beyond 2^53 is rounded, one beyond 2^64 fine */
        {"{\"id\":1,\"attributes\":{\"price\":3}}", "1 price=3; "},
        {"{\"id\":1,\"attributes\":{\"price\":9007199254740993}}",
         "1 price=9007199254740992; "},
        {"{\"id\":1,\"attributes\":{\"price\":-100000000000000000000}}",
         "1 price=-1e+20; "},
        {"{\"id\":1,\"attributes\":{\"price\":-0}}", "1 price=0; "},
        /* and an int keeps every digit */
        {"{\"id\":9007199254740993,\"attributes\":{\"year\":9007199254740993}}",
         "9007199254740993 year=9007199254740993; "},
        /* the last of several with one id */
        {"{\"id\":1,\"attributes\":{\"year\":1}},{\"id\":2},{\"id\":1}", "2; 1; "},
    };
    char body[512], seen[512];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        (void)snprintf(body, sizeof body, "{\"documents\":[%s]}", cases[i].docs);
        assert_int_equal(ask("POST", UPSERT, body), 200);
        (void)snprintf(seen, sizeof seen, "write x: %s", cases[i].seen);
        assert_string_equal(SEEN, seen);
    }
    assert_string_equal(fake.text, "{\"upserted\":2}");
}

static void a_wrong_upsert_is_refused_and_names_document_and_place(void **state)
{
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"[]", "expected an object, got an array"},
        {"{}", "documents is missing: an array of documents"},
        {"{\"documents\":{}}", "documents: expected an array, got an object"},
        {"{\"documents\":null}", "documents: expected an array, got null"},
        {"{\"docs\":[]}", "docs: unknown field; allowed: documents"},
        {"{\"documents\":[],\"documents\":[]}", "documents: the field occurs twice"},
        {"{\"documents\":[3]}", "documents[0]: expected an object, got a number"},
        {"{\"documents\":[{}]}", "documents[0]: id is missing"},
        {"{\"documents\":[{\"id\":-1}]}", "documents[0].id: a number as id is an "
                                          "integer from 0 to 18446744073709551615"},
        {"{\"documents\":[{\"id\":1.0}]}", "documents[0].id: a number as id is an "
                                           "integer from 0 to 18446744073709551615"},
        {"{\"documents\":[{\"id\":18446744073709551616}]}",
         "documents[0].id: a number as id is an integer from 0 to "
         "18446744073709551615"},
        {"{\"documents\":[{\"id\":\"\"}]}",
         "documents[0].id: a string as id has 1 to 64 bytes, this one has 0"},
        {"{\"documents\":[{\"id\":null}]}",
         "documents[0].id: an id is an unsigned integer or a string, not null"},
        {"{\"documents\":[{\"id\":[1]}]}",
         "documents[0].id: expected a single value, got an array"},
        {"{\"documents\":[{\"id\":1},{\"id\":\"a\"}]}",
         "document \"a\": documents[1]: its id is a string, that of documents[0] is "
         "not: "
         "the ids of a namespace are all unsigned integers or all strings"},
        {"{\"documents\":[{\"id\":1},{\"id\":2,\"text\":\"x\"}]}",
         "document 2: documents[1].text: unknown field; allowed: id, vector, "
         "attributes"},
        {"{\"documents\":[{\"id\":7,\"id\":8}]}",
         "document 7: documents[0].id: the field occurs twice"},
        /* vectors */
        {"{\"documents\":[{\"id\":7,\"vector\":[1]}]}",
         "document 7: documents[0].vector: expected 2 numbers, got 1"},
        {"{\"documents\":[{\"vector\":[],\"id\":\"late\"}]}",
         "document \"late\": documents[0].vector: expected 2 numbers, got 0"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1,2,3]}]}",
         "document 7: documents[0].vector: expected 2 numbers, got more"},
        {"{\"documents\":[{\"id\":7,\"vector\":[0,0]}]}",
         "document 7: documents[0].vector: a zero vector has no direction, which "
         "cosine "
         "needs"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1e-46,0]}]}",
         "document 7: documents[0].vector: a zero vector has no direction, which "
         "cosine "
         "needs"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1,1e39]}]}",
         "document 7: documents[0].vector[1]: 1e39 is beyond the range of a 32-bit "
         "float"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1,1e999]}]}",
         "document 7: documents[0].vector[1]: 1e999 is beyond the range of a 32-bit "
         "float"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1,null]}]}",
         "document 7: documents[0].vector[1]: expected a number, got null"},
        {"{\"documents\":[{\"id\":7,\"vector\":[1,NaN]}]}",
         "document 7: documents[0].vector[1]: no JSON value at byte 34"},
        {"{\"documents\":[{\"id\":7,\"vector\":{}}]}",
         "document 7: documents[0].vector: a vector is an array of numbers or base64, "
         "not "
         "an object"},
        /* base64 of 1, NaN; of 1, +inf; of one float; of three; of three bytes */
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACAPwAAwH8=\"}]}",
         "document 7: documents[0].vector: number 1 is NaN"},
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACAPwAAgH8=\"}]}",
         "document 7: documents[0].vector: number 1 is infinite"},
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACAPw==\"}]}",
         "document 7: documents[0].vector: expected 2 numbers, got 1"},
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACAPwAAgD8AAIA/\"}]}",
         "document 7: documents[0].vector: expected 2 numbers, got more"},
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACA\"}]}",
         "document 7: documents[0].vector: 3 bytes of base64 are not a whole number of "
         "32-bit floats"},
        {"{\"documents\":[{\"id\":7,\"vector\":\"AACAPwAAgD8\"}]}",
         "document 7: documents[0].vector: a vector as a string is base64 (RFC 4648, "
         "with "
         "padding) of little-endian 32-bit floats"},
        /* attributes */
        {"{\"documents\":[{\"id\":7,\"attributes\":[]}]}",
         "document 7: documents[0].attributes: expected an object, got an array"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"color\":1}}]}",
         "document 7: documents[0].attributes.color: this attribute is not declared in "
         "the "
         "namespace's schema"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"year\":1,\"year\":2}}]}",
         "document 7: documents[0].attributes.year: the field occurs twice"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"title\":1}}]}",
         "document 7: documents[0].attributes.title: expected string (a string), got a "
         "number"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"year\":1.0}}]}",
         "document 7: documents[0].attributes.year: expected an int, which has no "
         "fraction "
         "and no exponent"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"year\":9223372036854775808}}]}",
         "document 7: documents[0].attributes.year: an int is from "
         "-9223372036854775808 to "
         "9223372036854775807"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"size\":-1}}]}",
         "document 7: documents[0].attributes.size: a uint is from 0 to "
         "18446744073709551615"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"size\":1e3}}]}",
         "document 7: documents[0].attributes.size: expected a uint, which has no "
         "fraction "
         "and no exponent"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"price\":1e999}}]}",
         "document 7: documents[0].attributes.price: 1e999 is beyond the range of a "
         "double"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"price\":\"1\"}}]}",
         "document 7: documents[0].attributes.price: expected float (a number), got a "
         "string"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"sold\":0}}]}",
         "document 7: documents[0].attributes.sold: expected bool (a boolean), got a "
         "number"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"at\":\"2026-11-22\"}}]}",
         "document 7: documents[0].attributes.at: expected an RFC 3339 datetime like "
         "\"2026-11-22T10:00:00Z\""},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"at\":1700000000}}]}",
         "document 7: documents[0].attributes.at: expected datetime (a string), got a "
         "number"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"key\":\"67e55044\"}}]}",
         "document 7: documents[0].attributes.key: expected a uuid like "
         "\"67e55044-10b1-426f-9247-bb680e5fe0c8\""},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"tags\":\"a\"}}]}",
         "document 7: documents[0].attributes.tags: expected array_string, got a "
         "string"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"title\":[\"a\"]}}]}",
         "document 7: documents[0].attributes.title: expected string, got an array"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"title\":{}}}]}",
         "document 7: documents[0].attributes.title: expected string, got an object"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"tags\":[\"a\",null]}}]}",
         "document 7: documents[0].attributes.tags[1]: expected string (a string), got "
         "null"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"tags\":[[\"a\"]]}}]}",
         "document 7: documents[0].attributes.tags[0]: expected a single value, got an "
         "array"},
        {"{\"documents\":[{\"id\":7,\"attributes\":{\"numbers\":[1,2.5]}}]}",
         "document 7: documents[0].attributes.numbers[1]: expected an int, which has "
         "no "
         "fraction and no exponent"},
        /* JSON itself */
        {"{\"documents\":[{\"id\":1}]} x",
         "the text goes on behind its value, at byte 25"},
        {"{\"documents\":[{\"id\":1},]}", "documents[1]: no JSON value at byte 23"},
        {"{\"documents\":[{\"id\":1}", "documents: the text ends where ',' or ']' is "
                                       "expected"},
        {"{\"documents\":[{\"id\":\"\\ud800\"}]}",
         "documents[0].id: bad escape or lone surrogate in the string"},
        {"{\"documents\":[{\"id\":\"\xff\"}]}", "not UTF-8 at byte 21"},
        {"{\"documents\":[{\"id\":\"\xed\xa0\x80\"}]}", "not UTF-8 at byte 21"},
        {"{\"documents\":[{\"id\":01}]}", "documents[0].id: no JSON number at byte 20"},
        {"{\"documents\":[{\"id\":+1}]}", "documents[0].id: no JSON value at byte 20"},
        {"{'documents':[]}", "expected a field's name at byte 1"},
        {"\xef\xbb\xbf{}", "no JSON value at byte 0"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("POST", UPSERT, cases[i].body), 400);
        assert_error(cases[i].words);
        assert_string_equal(SEEN, "");
    }
}

static void a_namespace_without_vectors_refuses_one(void **state)
{
    (void)state;
    schema_unref(fake.schema);
    fake.schema = schema_from("{}");
    assert_int_equal(ask("POST", UPSERT,
                         "{\"documents\":[{\"id\":1,\"vector\":null}]}"),
                     200);
    assert_int_equal(ask("POST", UPSERT, "{\"documents\":[{\"id\":1,\"vector\":[]}]}"),
                     400);
    assert_error("document 1: documents[0].vector: this namespace was created without "
                 "vector_dim and has no vectors");
}

static void a_string_id_has_at_most_64_bytes(void **state)
{
    (void)state;
    char body[160];
    for (int size = 63; size <= 65; size++) {
        (void)snprintf(body, sizeof body, "{\"documents\":[{\"id\":\"%0*d\"}]}", size,
                       0);
        assert_int_equal(ask("POST", UPSERT, body), size <= 64 ? 200 : 400);
    }
    assert_error("documents[0].id: a string as id has 1 to 64 bytes, this one has 65");
}

static void append_run(struct buf *b, size_t size)
{
    buf_reserve(b, size);
    memset(b->data + b->size, 'x', size);
    b->size += size;
}

static void a_string_has_at_most_8_mib(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    for (size_t more = 0; more <= 1; more++) {
        buf_clear(&body);
        buf_append_str(&body, "{\"documents\":[{\"id\":1,\"attributes\":{\"title\":\"");
        append_run(&body, (8 << 20) + more);
        buf_append_str(&body, "\"}}]}");
        assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), more ? 400 : 200);
    }
    assert_error(
        "document 1: documents[0].attributes.title: a string has at most 8388608 "
        "bytes, this one 8388609");
    buf_release(&body);
}

static void a_document_has_at_most_64_mib(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[{\"id\":1,\"attributes\":{\"tags\":[\"\"");
    for (int i = 0; i < 8; i++) {
        buf_append_str(&body, ",\"");
        append_run(&body, 8 << 20);
        buf_append_byte(&body, '"');
    }
    buf_append_str(&body, "]}}]}");
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 413);
    assert_error(
        "document 1: documents[0]: a document has at most 67108864 bytes, this "
        "one 67108872");
    buf_release(&body);
}

static void deep_json_is_refused_before_it_hurts(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"documents\":");
    for (int i = 0; i < 10000; i++)
        buf_append_byte(&body, '[');
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 400);
    buf_clear(&body);
    buf_append_str(&body, "{\"documents\":[{\"id\":1,\"attributes\":");
    for (int i = 0; i < 10000; i++)
        buf_append_str(&body, "{\"a\":");
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 400);
    buf_release(&body);
}

static void a_million_keys_are_refused_at_the_first(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[{\"id\":1,\"attributes\":{");
    for (int i = 0; i < 1000000; i++)
        buf_printf(&body, "%s\"k%d\":1", i ? "," : "", i);
    buf_append_str(&body, "}}]}");
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 400);
    assert_error(
        "document 1: documents[0].attributes.k0: this attribute is not declared "
        "in the namespace's schema");
    buf_release(&body);
}

static void more_documents_than_memory_holds_are_413(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[{\"id\":0}");
    for (int i = 1; i < 1500000; i++)
        buf_printf(&body, ",{\"id\":%d,\"attributes\":{}}", i);
    buf_append_str(&body, "]}");
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 413);
    assert_non_null(strstr(fake.text, "bytes of memory"));
    buf_release(&body);
}

static void many_vectors_keep_their_places(void **state)
{
    (void)state;
    struct buf body = BUF_INIT, seen = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[");
    buf_append_str(&seen, "write x: ");
    for (int i = 0; i < 70000; i++) {
        buf_printf(&body, "%s{\"id\":%d,\"vector\":[%d,1]}", i ? "," : "", i, i % 1000);
        buf_printf(&seen, "%d <%d 1>; ", i, i % 1000);
    }
    buf_append_str(&body, "]}");
    buf_append_byte(&seen, '\0');
    assert_int_equal(ask_bytes("POST", UPSERT, buf_slice(&body)), 200);
    assert_true(strcmp(SEEN, (const char *)seen.data) == 0);
    buf_release(&body);
    buf_release(&seen);
}

static void every_cut_of_a_request_is_refused(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"documents\":[{\"id\":\"a\\u00e9\",\"vector\":[1.5,-2e-3],\"attributes\":{"
        "\"title\":\"t\",\"tags\":[\"a\",\"b\"],\"sold\":true,\"year\":null}}]}";
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        assert_int_equal(ask_bytes("POST", UPSERT, slice_of(whole, size)), 400);
        assert_string_equal(SEEN, "");
    }
    assert_int_equal(ask("POST", UPSERT, whole), 200);
}

static void no_changed_byte_of_a_request_is_more_than_an_answer(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"documents\":[{\"id\":1,\"vector\":\"AACAPwAAAEA=\",\"attributes\":{"
        "\"title\":\"\\ud83d\\ude00\",\"tags\":[\"a\"],\"price\":1e3,\"key\":null}}]}";
    char body[sizeof whole];
    for (size_t i = 0; i < sizeof whole - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            memcpy(body, whole, sizeof whole);
            body[i] = (char)byte;
            int status = ask_bytes("POST", UPSERT, slice_of(body, sizeof whole - 1));
            assert_true(status == 200 || status == 400);
        }
    }
}

static void a_request_is_read_again_when_the_schema_changed_meanwhile(void **state)
{
    (void)state;
    fake.fail[1] = ERR_CONFLICT;
    assert_int_equal(ask("POST", UPSERT, "{\"documents\":[{\"id\":1}]}"), 200);
    assert_int_equal(fake.calls, 4); /* schema, write, schema, write */
    assert_string_equal(SEEN, "write x: 1; write x: 1; ");
    assert_string_equal(fake.text, "{\"upserted\":1}");
}

static void a_missing_namespace_is_404_before_the_body_is_read(void **state)
{
    (void)state;
    fake.fail[0] = ERR_NOT_FOUND;
    assert_int_equal(ask("POST", UPSERT, "{]"), 404);
    assert_int_equal(ask("POST", DELETE, "{]"), 404);
}

static void deletes_reach_the_registry_as_they_were_written(void **state)
{
    (void)state;
    static const struct {
        const char *body, *seen;
    } cases[] = {
        {"{\"ids\":[]}", "write x: "},
        {"{\"ids\":[3,1,3]}", "write x: -1 -3"},
        {"{\"ids\":[\"a\"],\"filter\":null}", "write x: -\"a\""},
        {"{\"filter\":{\"field\":\"year\",\"op\":\"lt\",\"value\":2000}}",
         "write x:  (lt year 2000)"},
        {"{\"filter\":{\"type\":\"and\",\"conditions\":[]},\"ids\":[1]}",
         "write x: -1 (and)"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("POST", DELETE, cases[i].body), 200);
        assert_string_equal(SEEN, cases[i].seen);
    }
    assert_string_equal(fake.text, "{\"deleted\":1}");
    assert_non_null(answer_header("X-Elacsym-Commit"));
}

static void a_wrong_delete_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"{}", "a delete needs ids, a filter or both"},
        {"{\"ids\":null,\"filter\":null}", "a delete needs ids, a filter or both"},
        {"{\"id\":[1]}", "id: unknown field; allowed: ids, filter"},
        {"{\"ids\":1}", "ids: expected an array, got a number"},
        {"{\"ids\":[1,-1]}",
         "ids[1]: a number as id is an integer from 0 to 18446744073709551615"},
        {"{\"ids\":[1,\"1\"]}",
         "ids[1]: the ids of a namespace are all unsigned integers "
         "or all strings"},
        {"{\"filter\":{}}",
         "filter: a condition has exactly field, op and value; a group "
         "has exactly type and conditions"},
        {"{\"filter\":{\"field\":\"id\",\"op\":\"ne\",\"value\":\"1\"}}",
         "filter.value: the ids here are unsigned integers"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("POST", DELETE, cases[i].body), 400);
        assert_error(cases[i].words);
        assert_string_equal(SEEN, "");
    }
}

static void a_delete_by_filter_in_an_empty_namespace_never_meets_other_ids(void **state)
{
    (void)state;
    fake.id_kind = ID_NONE;
    assert_int_equal(
        ask("POST", DELETE,
            "{\"filter\":{\"field\":\"id\",\"op\":\"ne\",\"value\":\"1\"}}"),
        200);
    assert_string_equal(SEEN, "write x: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(documents_reach_the_registry_as_they_were_written),
        T(a_wrong_upsert_is_refused_and_names_document_and_place),
        T(a_namespace_without_vectors_refuses_one),
        T(a_string_id_has_at_most_64_bytes),
        T(a_string_has_at_most_8_mib),
        T(a_document_has_at_most_64_mib),
        T(deep_json_is_refused_before_it_hurts),
        T(a_million_keys_are_refused_at_the_first),
        T(more_documents_than_memory_holds_are_413),
        T(many_vectors_keep_their_places),
        T(every_cut_of_a_request_is_refused),
        T(no_changed_byte_of_a_request_is_more_than_an_answer),
        T(a_request_is_read_again_when_the_schema_changed_meanwhile),
        T(a_missing_namespace_is_404_before_the_body_is_read),
        T(deletes_reach_the_registry_as_they_were_written),
        T(a_wrong_delete_is_refused),
        T(a_delete_by_filter_in_an_empty_namespace_never_meets_other_ids),
    };
    return cmocka_run_group_tests_name("api_v1_write", tests, NULL, fake_teardown);
}
