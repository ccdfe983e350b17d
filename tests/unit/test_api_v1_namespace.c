#include "unit/api_fake.h"

#define T(f) cmocka_unit_test_setup(f, fake_setup)

static void a_schema_is_read_with_all_its_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *body, *schema;
    } cases[] = {
        {"{}", "{\"attributes\":{}}"},
        {"{\"vector_dim\":3}",
         "{\"vector_dim\":3,\"vector_metric\":\"cosine\",\"attributes\":{}}"},
        {"{\"attributes\":null,\"vector_dim\":null,\"vector_metric\":null}",
         "{\"attributes\":{}}"},
        {"{\"vector_metric\":\"l2\",\"vector_dim\":10752}",
         "{\"vector_dim\":10752,\"vector_metric\":\"l2\",\"attributes\":{}}"},
        {"{\"schema\":{\"vector_dim\":1,\"vector_metric\":\"dot\"}}",
         "{\"vector_dim\":1,\"vector_metric\":\"dot\",\"attributes\":{}}"},
        {"{\"attributes\":{\"a\":\"array_uuid\",\"b\":{\"indexed\":true,\"type\":"
         "\"int\"}}}",
         "{\"attributes\":{\"a\":{\"type\":\"array_uuid\",\"indexed\":false,"
         "\"full_text\":false},\"b\":{\"type\":\"int\",\"indexed\":true,"
         "\"full_text\":false}}}"},
        {"{\"attributes\":{\"t\":{\"full_text\":true,\"type\":\"string\"}}}",
         "{\"attributes\":{\"t\":{\"type\":\"string\",\"indexed\":false,\"full_text\":{"
         "\"language\":\"english\",\"stemming\":true,\"remove_stopwords\":true,"
         "\"case_sensitive\":false,\"ascii_folding\":false}}}}"},
        {"{\"attributes\":{\"t\":{\"type\":\"array_string\",\"full_text\":{"
         "\"language\":\"tamil\",\"stemming\":false,\"remove_stopwords\":false,"
         "\"case_sensitive\":true,\"ascii_folding\":true}}}}",
         "{\"attributes\":{\"t\":{\"type\":\"array_string\",\"indexed\":false,"
         "\"full_text\":{\"language\":\"tamil\",\"stemming\":false,"
         "\"remove_stopwords\":false,\"case_sensitive\":true,"
         "\"ascii_folding\":true}}}}"},
    };
    char wanted[1024];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("PUT", "/v1/namespaces/x", cases[i].body), 200);
        (void)snprintf(wanted, sizeof wanted, "create x %s", cases[i].schema);
        assert_string_equal(SEEN, wanted);
        assert_string_equal(fake.text, "{\"namespace\":\"x\",\"created\":true}");
        assert_non_null(answer_header("X-Elacsym-Commit"));
    }
}

static void a_schema_that_was_written_reads_back_as_itself(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct json_writer w;
    json_writer_init(&w, &text);
    v1_schema_write(&w, fake.schema);
    buf_append_byte(&text, '\0');
    struct schema *again = schema_from((const char *)text.data);
    assert_true(schema_equal(again, fake.schema));
    schema_unref(again);
    buf_release(&text);
}

static void a_wrong_schema_is_refused_and_its_place_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"[]", "expected an object, got an array"},
        {"{\"vector_dim\":0}", "vector_dim: must be between 1 and 10752, got 0"},
        {"{\"vector_dim\":10753}",
         "vector_dim: must be between 1 and 10752, got 10753"},
        {"{\"vector_dim\":16385}",
         "vector_dim: must be between 1 and 10752, got 16385"},
        {"{\"vector_dim\":-1}", "vector_dim: must be between 1 and 10752, got -1"},
        {"{\"vector_dim\":2.0}", "vector_dim: expected an integer, got 2.0"},
        {"{\"vector_dim\":\"2\"}", "vector_dim: expected a number, got a string"},
        {"{\"vector_dim\":2,\"vector_metric\":\"L2\"}",
         "vector_metric: expected one of cosine, l2, dot"},
        {"{\"vector_metric\":\"l2\"}", "vector_metric: needs a vector_dim"},
        {"{\"dim\":2}",
         "dim: unknown field; allowed: vector_dim, vector_metric, attributes, schema"},
        {"{\"schema\":{\"schema\":{}}}", "schema.schema: unknown field; allowed: "
                                         "vector_dim, vector_metric, attributes"},
        {"{\"vector_dim\":2,\"schema\":{}}",
         "schema stands alone: move the other fields into it"},
        {"{\"schema\":{},\"vector_dim\":2}",
         "schema stands alone: move the other fields into it"},
        {"{\"vector_dim\":2,\"vector_dim\":2}", "vector_dim: the field occurs twice"},
        {"{\"attributes\":[]}", "attributes: expected an object, got an array"},
        {"{\"attributes\":{\"a\":\"text\"}}",
         "attributes.a: expected one of string, int, uint, float, bool, datetime, "
         "uuid, or "
         "one of them as an array: array_string, ..."},
        {"{\"attributes\":{\"a\":{\"type\":\"array_array_int\"}}}",
         "attributes.a.type: expected one of string, int, uint, float, bool, datetime, "
         "uuid, or one of them as an array: array_string, ..."},
        {"{\"attributes\":{\"a\":{}}}", "attributes.a: type is missing"},
        {"{\"attributes\":{\"a\":3}}",
         "attributes.a: expected a type (\"string\") or an object with type"},
        {"{\"attributes\":{\"a\":{\"type\":\"int\",\"index\":true}}}",
         "attributes.a.index: unknown field; allowed: type, indexed, full_text"},
        {"{\"attributes\":{\"a\":{\"type\":\"int\",\"indexed\":1}}}",
         "attributes.a.indexed: expected a boolean, got a number"},
        {"{\"attributes\":{\"a\":\"int\",\"a\":\"int\"}}",
         "attributes.a: the field occurs twice"},
        {"{\"attributes\":{\"a\":{\"type\":\"string\",\"full_text\":\"english\"}}}",
         "attributes.a.full_text: expected true, false or an object with language, "
         "stemming, remove_stopwords, case_sensitive, ascii_folding"},
        {"{\"attributes\":{\"a\":{\"type\":\"string\",\"full_text\":{\"language\":"
         "\"en\"}}}}",
         "attributes.a.full_text.language: expected one of arabic, danish, dutch, "
         "english, "
         "finnish, french, german, greek, hungarian, italian, norwegian, portuguese, "
         "romanian, russian, spanish, swedish, tamil, turkish"},
        {"{\"attributes\":{\"a\\u0000b\":\"int\"}}",
         "attributes[\"a\\u0000b\"]: an attribute's name holds no control characters"},
        {"{} {}", "the text goes on behind its value, at byte 3"},
        {"{\"vector_dim\":2", "the text ends where ',' or '}' is expected"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("PUT", "/v1/namespaces/x", cases[i].body), 400);
        assert_error(cases[i].words);
        assert_string_equal(SEEN, "");
    }
}

static void what_only_a_whole_schema_shows_is_refused_too(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{\"attributes\":{\"id\":\"int\"}}", "{\"attributes\":{\"vector\":\"int\"}}",
        "{\"attributes\":{\"\":\"int\"}}", "{\"attributes\":{\"a\\nb\":\"int\"}}",
        "{\"attributes\":{\"a\":{\"type\":\"int\",\"full_text\":true}}}"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(ask("PUT", "/v1/namespaces/x", wrong[i]), 400);
        assert_string_equal(SEEN, "");
    }
}

static void a_schema_has_at_most_256_attributes(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    for (int count = 256; count <= 257; count++) {
        buf_clear(&body);
        buf_append_str(&body, "{\"attributes\":{");
        for (int i = 0; i < count; i++)
            buf_printf(&body, "%s\"a%d\":\"int\"", i ? "," : "", i);
        buf_append_str(&body, "}}");
        int status = ask_bytes("PUT", "/v1/namespaces/x", buf_slice(&body));
        assert_int_equal(status, count == 256 ? 200 : 400);
    }
    assert_error("attributes: at most 256 attributes");
    buf_release(&body);
}

static void a_list_has_a_cursor_while_there_is_more(void **state)
{
    (void)state;
    fake.names[0] = "a";
    fake.names[1] = "b";
    fake.names[2] = "c";
    fake.name_count = 3;
    assert_int_equal(ask("GET", "/v1/namespaces?page_size=2&prefix=p&cursor=q", ""),
                     200);
    assert_string_equal(SEEN, "list prefix=p after=q n=3");
    assert_string_equal(fake.text,
                        "{\"namespaces\":[{\"name\":\"a\"},{\"name\":\"b\"}],"
                        "\"next_cursor\":\"b\"}");
    assert_int_equal(ask("GET", "/v1/namespaces?page_size=3", ""), 200);
    assert_string_equal(fake.text, "{\"namespaces\":[{\"name\":\"a\"},{\"name\":\"b\"},"
                                   "{\"name\":\"c\"}],\"next_cursor\":null}");
    assert_int_equal(ask("GET", "/v1/namespaces", ""), 200);
    assert_string_equal(SEEN, "list prefix= after= n=101");
    assert_int_equal(ask("GET", "/v1/namespaces?page_size=1000", ""), 200);
    fake.name_count = 0;
    assert_int_equal(ask("GET", "/v1/namespaces?prefix=", ""), 200);
    assert_string_equal(fake.text, "{\"namespaces\":[],\"next_cursor\":null}");
}

static void list_parameters_are_checked_before_they_become_a_key(void **state)
{
    (void)state;
    static const char *const wrong[] = {"?page_size=0",
                                        "?page_size=1001",
                                        "?page_size=",
                                        "?page_size=-1",
                                        "?page_size=1e2",
                                        "?page_size=01",
                                        "?prefix=..",
                                        "?prefix=../x",
                                        "?prefix=%2e%2e%2f",
                                        "?cursor=%00",
                                        "?cursor=a%2Fb",
                                        "?prefix=%ff",
                                        "?page_size=99999999999999999999",
                                        "?page_size"};
    char target[80];
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        (void)snprintf(target, sizeof target, "/v1/namespaces%s", wrong[i]);
        assert_int_equal(ask("GET", target, ""), 400);
        assert_string_equal(SEEN, "");
    }
    assert_error("query parameter \"page_size\": expected 1 to 1000");
}

static void info_tells_schema_counts_and_index(void **state)
{
    (void)state;
    schema_unref(fake.schema);
    fake.schema = schema_from("{\"vector_dim\":2}");
    assert_int_equal(ask("GET", "/v1/namespaces/x", ""), 200);
    assert_string_equal(
        fake.text,
        "{\"namespace\":\"x\",\"schema\":{\"vector_dim\":2,\"vector_metric\":"
        "\"cosine\","
        "\"attributes\":{}},\"document_count\":5,\"bytes\":1024,\"segments\":2,\"wal\":"
        "{"
        "\"state\":\"ready\",\"first_slot\":8,\"next_slot\":9,\"unindexed_rows\":1,"
        "\"unindexed_bytes\":24},\"index\":{\"status\":\"indexing\",\"unindexed_rows\":"
        "1,"
        "\"segments\":2},\"manifest_version\":4,\"epoch\":7}");
}

static void drop_and_compact_say_what_they_did(void **state)
{
    (void)state;
    assert_int_equal(ask("DELETE", "/v1/namespaces/x", ""), 200);
    assert_string_equal(fake.text, "{\"namespace\":\"x\",\"dropped\":true}");
    assert_int_equal(ask("POST", "/v1/namespaces/x/compact", ""), 200);
    assert_string_equal(fake.text, "{\"namespace\":\"x\",\"compacted\":true}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_schema_is_read_with_all_its_defaults),
        T(a_schema_that_was_written_reads_back_as_itself),
        T(a_wrong_schema_is_refused_and_its_place_is_named),
        T(what_only_a_whole_schema_shows_is_refused_too),
        T(a_schema_has_at_most_256_attributes),
        T(a_list_has_a_cursor_while_there_is_more),
        T(list_parameters_are_checked_before_they_become_a_key),
        T(info_tells_schema_counts_and_index),
        T(drop_and_compact_say_what_they_did),
    };
    return cmocka_run_group_tests_name("api_v1_namespace", tests, NULL, fake_teardown);
}
