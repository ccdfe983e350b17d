#include "api/api_v1_query_cursor.h"
#include "unit/api_fake.h"

#define T(f)  cmocka_unit_test_setup(f, fake_setup)
#define QUERY "/v1/namespaces/x/query"
#define F     "\"filter\":{\"type\":\"and\",\"conditions\":[]}"

static void queries_reach_the_engine_as_they_were_written(void **state)
{
    (void)state;
    static const struct {
        const char *body, *seen;
    } cases[] = {
        {"{\"vector\":[1,2]}", "<1 2>; top 10 attributes"},
        {"{\"vector\":\"AACAPwAAAEA=\",\"top_k\":1}", "<1 2>; top 1 attributes"},
        {"{\"top_k\":10000," F "}", "(and); top 10000 attributes"},
        {"{\"full_text\":{\"field\":\"title\",\"query\":\"hi\"}}",
         "\"hi\" title*1; top 10 attributes"},
        {"{\"full_text\":{\"query\":\"\",\"operator\":\"and\",\"weights\":{\"body\":2."
         "5},"
         "\"fields\":[\"body\",\"title\"]}}",
         "\"\" body*2.5 title*1 and; top 10 attributes"},
        {"{\"full_text\":{\"field\":\"title\",\"query\":\"a\",\"operator\":\"or\","
         "\"weights\":{}},\"vector\":[3,4]}",
         "<3 4>; \"a\" title*1; +1/(60+rank)+1/(60+rank); top 10 attributes"},
        {"{\"fusion\":{\"method\":\"rrf\",\"k\":1.5,\"weights\":{\"full_text\":0,"
         "\"vector\":3}},\"vector\":[3,4],\"full_text\":{\"field\":\"title\","
         "\"query\":\"a\"}}",
         "<3 4>; \"a\" title*1; +3/(1.5+rank)+0/(1.5+rank); top 10 attributes"},
        {"{\"fusion\":{\"method\":\"sum\",\"normalize\":\"minmax\",\"weights\":{"
         "\"full_text\":2}},\"vector\":[3,4],\"full_text\":{\"field\":\"title\","
         "\"query\":\"a\"}}",
         "<3 4>; \"a\" title*1; +1*minmax+2*minmax; top 10 attributes"},
        {"{\"count\":true}", "count; top 10 attributes"},
        {"{\"vector\":[1,2],\"count\":false,\"aggregate\":{\"count\":true}}",
         "<1 2>; aggregate; top 10 attributes"},
        {"{\"aggregate\":{\"sum\":\"year\",\"min\":[\"name\",\"year\"],\"max\":[],"
         "\"group_by\":\"name\"}}",
         "aggregate; sum year; min name; min year; group by name; top 10 attributes"},
        {"{\"vector\":[1,2],\"include_vector\":true,\"include_attributes\":false}",
         "<1 2>; top 10 vector"},
        {"{\"vector\":[1,2],\"include_attributes\":[]}", "<1 2>; top 10"},
        {"{\"vector\":[1,2],\"include_attributes\":[\"year\"],\"explain\":true}",
         "<1 2>; top 10 attributes explain"},
        {"{\"vector\":[1,2],\"search\":{\"recall\":0.95}}", "<1 2>; top 10 attributes"},
        {"{\"vector\":[1,2],\"search\":{\"exact\":true}}", "<1 2>; top 10 attributes"},
        {"{\"order_by\":{\"field\":\"year\",\"direction\":\"desc\"}," F "}",
         "(and); by year desc; top 10 attributes"},
        {"{\"order_by\":{\"field\":\"id\"}}", "by id asc; top 10 attributes"},
        {"{\"vector\":[1,2],\"full_text\":null,\"filter\":null,\"top_k\":null,"
         "\"include_vector\":null,\"include_attributes\":null,\"fusion\":null,"
         "\"order_by\":null,\"consistency\":null,\"search\":null,\"explain\":null}",
         "<1 2>; top 10 attributes"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("POST", QUERY, cases[i].body), 200);
        assert_string_equal(SEEN, cases[i].seen);
    }
}

static void a_query_is_strong_unless_it_says_eventual(void **state)
{
    (void)state;
    fake.consistency = CONSISTENCY_EVENTUAL;
    (void)ask("POST", QUERY, "{\"vector\":[1,2]}");
    assert_int_equal(fake.consistency, CONSISTENCY_STRONG);
    (void)ask("POST", QUERY, "{\"vector\":[1,2],\"consistency\":\"eventual\"}");
    assert_int_equal(fake.consistency, CONSISTENCY_EVENTUAL);
    (void)ask("POST", QUERY, "{\"vector\":[1,2],\"consistency\":\"strong\"}");
    assert_int_equal(fake.consistency, CONSISTENCY_STRONG);
}

static void a_wrong_query_is_refused_and_its_place_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"[]", "expected an object, got an array"},
        {"{}",
         "a query needs a vector, full_text, a filter, order_by, count or aggregate"},
        {"{\"vector\":null}",
         "a query needs a vector, full_text, a filter, order_by, count or aggregate"},
        {"{\"vectors\":[1,2]}",
         "vectors: unknown field; allowed: vector, full_text, filter, top_k, "
         "include_vector, include_attributes, fusion, order_by, cursor, count, "
         "aggregate, consistency, search, explain"},
        {"{\"top_k\":1,\"top_k\":1}", "top_k: the field occurs twice"},
        {"{\"vector\":[1,2],\"top_k\":0}", "top_k: must be between 1 and 10000, got 0"},
        {"{\"vector\":[1,2],\"top_k\":10001}",
         "top_k: must be between 1 and 10000, got 10001"},
        {"{\"vector\":[1,2],\"top_k\":1000000000}",
         "top_k: must be between 1 and 10000, got 1000000000"},
        {"{\"vector\":[1,2],\"top_k\":-1}",
         "top_k: must be between 1 and 10000, got -1"},
        {"{\"vector\":[1,2],\"top_k\":10.0}", "top_k: expected an integer, got 10.0"},
        {"{\"vector\":[1,2],\"top_k\":\"10\"}",
         "top_k: expected a number, got a string"},
        {"{\"vector\":[1]}", "vector: expected 2 numbers, got 1"},
        {"{\"vector\":[]}", "vector: expected 2 numbers, got 0"},
        {"{\"vector\":[1,2,3]}", "vector: expected 2 numbers, got more"},
        {"{\"vector\":[0,0]}",
         "vector: a zero vector has no direction, which cosine needs"},
        {"{\"vector\":[1,1e39]}",
         "vector[1]: 1e39 is beyond the range of a 32-bit float"},
        {"{\"vector\":\"AACAPwAAwH8=\"}", "vector: number 1 is NaN"},
        {"{\"vector\":1}", "vector: a vector is an array of numbers or base64, not a "
                           "number"},
        {"{\"vector\":[1,2],\"include_vector\":1}",
         "include_vector: expected a boolean, got a number"},
        {"{\"vector\":[1,2],\"include_attributes\":\"all\"}",
         "include_attributes: expected true, false or an array of attribute names"},
        {"{\"vector\":[1,2],\"include_attributes\":[1]}",
         "include_attributes[0]: expected a string, got a number"},
        {"{\"vector\":[1,2],\"include_attributes\":[\"color\"]}",
         "include_attributes[0]: no attribute \"color\" is declared"},
        {"{\"vector\":[1,2],\"consistency\":\"weak\"}",
         "consistency: expected \"strong\" or \"eventual\""},
        {"{\"vector\":[1,2],\"explain\":\"yes\"}",
         "explain: expected a boolean, got a string"},
        {"{\"vector\":[1,2],\"search\":{\"recall\":0}}",
         "search.recall: recall is a number above 0 and at most 1"},
        {"{\"vector\":[1,2],\"search\":{\"recall\":1.01}}",
         "search.recall: recall is a number above 0 and at most 1"},
        {"{\"vector\":[1,2],\"search\":{\"probes\":3}}",
         "search.probes: unknown field; allowed: recall, exact"},
        {"{\"vector\":[1,2],\"order_by\":{\"field\":\"year\"}}",
         "order_by: a query with vector or full_text is ordered by its score"},
        {"{" F ",\"order_by\":{}}", "order_by: field is missing"},
        {"{" F ",\"order_by\":{\"field\":\"color\"}}",
         "order_by.field: no attribute \"color\" is declared"},
        {"{" F ",\"order_by\":{\"field\":\"tags\"}}",
         "order_by.field: tags is array_string, and arrays have no order"},
        {"{" F ",\"order_by\":{\"field\":\"year\",\"direction\":\"down\"}}",
         "order_by.direction: expected \"asc\" or \"desc\""},
        {"{\"vector\":[1,2],\"fusion\":{}}", "fusion: needs both vector and full_text"},
        {"{\"fusion\":{\"method\":\"max\"}}",
         "fusion.method: expected \"rrf\" or \"sum\""},
        {"{\"fusion\":{\"method\":\"sum\",\"normalize\":\"l2\"}}",
         "fusion.normalize: expected \"minmax\""},
        {"{\"fusion\":{\"method\":\"sum\",\"k\":60}}",
         "fusion.k: belongs to the method \"rrf\""},
        {"{\"fusion\":{\"normalize\":\"minmax\"}}",
         "fusion.normalize: belongs to the method \"sum\""},
        {"{\"vector\":[1,2],\"cursor\":\"00\"}",
         "cursor: only listings have pages, not a query with vector or full_text"},
        {"{" F ",\"cursor\":1}", "cursor: expected a string, got a number"},
        {"{\"count\":1}", "count: expected a boolean, got a number"},
        {"{\"aggregate\":{}}",
         "aggregate: at least one of count, sum, min and max is needed"},
        {"{\"aggregate\":{\"group_by\":\"year\"}}",
         "aggregate: at least one of count, sum, min and max is needed"},
        {"{\"aggregate\":{\"avg\":\"year\"}}",
         "aggregate.avg: unknown field; allowed: count, sum, min, max, group_by"},
        {"{\"aggregate\":{\"sum\":[\"year\",\"year\"]}}",
         "aggregate.sum[1]: this attribute is already in the list"},
        {"{\"aggregate\":{\"sum\":[1]}}",
         "aggregate.sum[0]: expected a string, got a number"},
        {"{\"aggregate\":{\"min\":\"color\"}}",
         "aggregate.min: no attribute \"color\" is declared"},
        {"{\"aggregate\":{\"sum\":[\"year\",\"name\"]}}",
         "aggregate.sum[1]: name is string; sums are of int, uint and float"},
        {"{\"aggregate\":{\"max\":[\"year\",\"color\"]}}",
         "aggregate.max[1]: no attribute \"color\" is declared"},
        {"{\"aggregate\":{\"max\":\"tags\"}}",
         "aggregate.max: tags is array_string, and arrays are not aggregated"},
        {"{\"aggregate\":{\"sum\":\"name\"}}",
         "aggregate.sum: name is string; sums are of int, uint and float"},
        {"{\"aggregate\":{\"count\":true,\"group_by\":\"tags\"}}",
         "aggregate.group_by: tags is array_string, and arrays are not aggregated"},
        {"{\"fusion\":{\"k\":-1}}", "fusion.k: k is a number from 0 to 1e6"},
        {"{\"fusion\":{\"k\":1e7}}", "fusion.k: k is a number from 0 to 1e6"},
        {"{\"fusion\":{\"weights\":{\"vector\":-1}}}",
         "fusion.weights.vector: a weight is a number from 0 and at most 1e6"},
        {"{\"fusion\":{\"weights\":{\"text\":1}}}",
         "fusion.weights.text: unknown field; allowed: vector, full_text"},
        {"{\"full_text\":{}}", "full_text: field (or fields) and query are needed"},
        {"{\"full_text\":{\"field\":\"title\"}}",
         "full_text: field (or fields) and query are needed"},
        {"{\"full_text\":{\"query\":\"a\"}}",
         "full_text: field (or fields) and query are needed"},
        {"{\"full_text\":{\"query\":\"a\",\"fields\":[]}}",
         "full_text.fields: at least one field is needed"},
        {"{\"full_text\":{\"query\":\"a\",\"fields\":[\"title\",\"title\"]}}",
         "full_text.fields[1]: this field is already in the list"},
        {"{\"full_text\":{\"query\":\"a\",\"fields\":[\"title\"],\"field\":\"title\"}}",
         "full_text: give field or fields, not both"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"color\"}}",
         "full_text.field: no attribute \"color\" is declared"},
        {"{\"full_text\":{\"query\":\"a\",\"fields\":[\"title\",\"color\"]}}",
         "full_text.fields[1]: no attribute \"color\" is declared"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"name\"}}",
         "full_text.field: attribute \"name\" was declared without full_text"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"operator\":\"AND\"}}",
         "full_text.operator: expected \"or\" or \"and\""},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"weights\":{\"body\":1}}"
         "}",
         "full_text.weights: \"body\" is not a field of this query"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"weights\":{\"title\":0}"
         "}}",
         "full_text.weights.title: a weight is a number above 0 and at most 1e6"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\","
         "\"weights\":{\"title\":1,\"title\":1}}}",
         "full_text.weights.title: the field occurs twice"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"prefix\":1}}",
         "full_text.prefix: expected a boolean, got a number"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"fuzzy\":3}}",
         "full_text.fuzzy: must be between 1 and 2, got 3"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"fuzzy\":0}}",
         "full_text.fuzzy: must be between 1 and 2, got 0"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"highlight\":true}}",
         "full_text.highlight: expected an array, got a boolean"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"highlight\":[\"body\"]}"
         "}",
         "full_text.highlight[0]: \"body\" is not a field of this query"},
        {"{\"full_text\":{\"query\":\"a\",\"field\":\"title\",\"highlight\":[\"title\","
         "\"title\"]}}",
         "full_text.highlight[1]: this field is already in the list"},
        {"{\"full_text\":\"a\"}", "full_text: expected an object, got a string"},
        {"{\"vector\":[1,2]} {}", "the text goes on behind its value, at byte 17"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask("POST", QUERY, cases[i].body), 400);
        assert_error(cases[i].words);
        assert_string_equal(SEEN, "");
    }
}

static void a_query_text_has_at_most_64_kib(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    for (size_t more = 0; more <= 1; more++) {
        buf_clear(&body);
        buf_append_str(&body, "{\"full_text\":{\"field\":\"title\",\"query\":\"");
        for (size_t i = 0; i < (64 << 10) + more; i++)
            buf_append_byte(&body, 'x');
        buf_append_str(&body, "\"}}");
        assert_int_equal(ask_bytes("POST", QUERY, buf_slice(&body)), more ? 413 : 200);
    }
    assert_error(
        "full_text.query: a query text has at most 65536 bytes, this one 65537");
    buf_release(&body);
}

static void the_longest_vector_and_the_largest_filter_fit_one_body(void **state)
{
    (void)state;
    struct buf body = BUF_INIT;
    schema_unref(fake.schema);
    fake.schema =
        schema_from("{\"vector_dim\":10752,\"attributes\":{\"key\":\"uuid\"}}");
    buf_append_str(&body, "{\"vector\":[");
    for (int i = 0; i < 10752; i++)
        buf_printf(&body, "%s-0.12345678901234567", i ? "," : "");
    buf_append_str(&body, "],\"filter\":{\"field\":\"key\",\"op\":\"in\",\"value\":[");
    for (int i = 0; i < 65536; i++)
        buf_printf(&body, "%s\"67e55044-10b1-426f-9247-%012x\"", i ? ", " : "", i);
    buf_append_str(&body, "]}}");
    assert_int_equal(ask_bytes("POST", QUERY, buf_slice(&body)), 200);
    assert_true(body.size <= fake.body_max);
    buf_release(&body);
}

/* ---- answers ---- */

static const union scalar tags[] = {{.s = {(const uint8_t *)"a\"b", 3}},
                                    {.s = {(const uint8_t *)"", 0}}};
static const float vector[] = {0.1F, -2.0F};

/* title year size price sold at key tags name of the schema below */
static const char answer_schema[] =
    "{\"vector_dim\":2,\"attributes\":{\"title\":\"string\",\"year\":\"int\","
    "\"size\":\"uint\",\"price\":\"float\",\"sold\":\"bool\",\"at\":\"datetime\","
    "\"key\":\"uuid\",\"tags\":\"array_string\",\"none\":\"array_int\"}}";
static const struct value values[] = {
    {.one = {.s = {(const uint8_t *)"x\ny", 3}}},
    {.one = {.i = -3}},
    {.one = {.u = UINT64_MAX}},
    {.one = {.f = 0.1}},
    {.one = {.b = true}},
    {.one = {.i = 1700000000500000}},
    {.one = {.uuid = {0x67, 0xe5, 0x50, 0x44}}},
    {.count = 2, .items = tags},
    {.null = true},
};

static void answer_world(struct doc *docs, size_t count)
{
    schema_unref(fake.schema);
    fake.schema = schema_from(answer_schema);
    for (size_t i = 0; i < count; i++)
        docs[i] = (struct doc){.id = {.kind = ID_U64, .u64 = i},
                               .vector = i ? NULL : vector,
                               .values = values};
    fake.docs = docs;
    fake.doc_count = count;
}

#define ATTRIBUTES                                                                     \
    "\"attributes\":{\"title\":\"x\\ny\",\"year\":-3,\"size\":18446744073709551615,"   \
    "\"price\":0.1,\"sold\":true,\"at\":\"2023-11-14T22:13:20.5Z\","                   \
    "\"key\":\"67e55044-0000-0000-0000-000000000000\",\"tags\":[\"a\\\"b\",\"\"]}"

/* Everything up to took_ms, which no test can know. */
static void assert_results(const char *wanted)
{
    char *took = strstr(fake.text, ",\"took_ms\":");
    assert_non_null(took);
    *took = '\0';
    assert_string_equal(fake.text, wanted);
}

static void results_hold_score_vector_and_attributes_as_asked(void **state)
{
    (void)state;
    struct doc docs[2];
    answer_world(docs, 2);
    fake.score = (double)0.9F;
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2],\"include_vector\":true}"),
                     200);
    assert_results(
        "{\"results\":[{\"id\":0,\"score\":0.9,\"vector\":[0.1,-2]," ATTRIBUTES
        "},{\"id\":1,\"score\":0.9," ATTRIBUTES "}]");
    fake.score = 1.0 / 61 + 1.0 / 62;
    (void)ask("POST", QUERY, "{\"vector\":[1,2],\"include_attributes\":false}");
    assert_results("{\"results\":[{\"id\":0,\"score\":0.03252247488101534},"
                   "{\"id\":1,\"score\":0.03252247488101534}]");
    (void)ask("POST", QUERY,
              "{\"vector\":[1,2],\"include_attributes\":[\"none\",\"price\",\"year\","
              "\"price\"]}");
    assert_non_null(strstr(fake.text, "\"attributes\":{\"year\":-3,\"price\":0.1}}"));
}

static void a_query_without_hits_answers_an_empty_list(void **state)
{
    (void)state;
    assert_int_equal(ask("POST", QUERY, "{" F "}"), 200);
    assert_results("{\"results\":[],\"next_cursor\":null");
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 200);
    assert_results("{\"results\":[]");
}

static void one_query_too_many_of_a_namespace_is_told_to_come_back(void **state)
{
    (void)state;
    fake.crowded = true;
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 429);
    assert_int_equal(fake.calls, 0);
}

static void count_and_aggregates_stand_behind_the_results(void **state)
{
    (void)state;
    schema_unref(fake.schema);
    fake.schema = schema_from(answer_schema);
    struct aggregate_sum sums[2] = {{.kind = SUM_SIGNED, .i = -5},
                                    {.kind = SUM_UNSIGNED, .u = UINT64_MAX}};
    struct aggregate_sum rounded[2] = {{.kind = SUM_FLOATING, .f = 0.5},
                                       {.kind = SUM_FLOATING, .f = 0x1p65}};
    struct value mins[1] = {{.one.i = -3}}, maxs[1] = {VALUE_NULL};
    struct aggregate_group groups[2] = {{{.one.b = false}, 3, sums, mins, maxs},
                                        {VALUE_NULL, 1, rounded, maxs, mins}};
    fake.groups = groups;
    fake.group_count = 1;
    assert_int_equal(
        ask("POST", QUERY,
            "{\"count\":true,\"aggregate\":{\"count\":true,\"sum\":[\"year\","
            "\"size\"],\"min\":\"year\",\"max\":[\"year\"]}}"),
        200);
    assert_results("{\"results\":[],\"next_cursor\":null,\"count\":77,\"aggregate\":{"
                   "\"count\":3,\"sum\":{\"year\":-5,\"size\":18446744073709551615},"
                   "\"min\":{\"year\":-3},\"max\":{\"year\":null}}");
    fake.group_count = 2;
    assert_int_equal(
        ask("POST", QUERY,
            "{\"vector\":[1,2],\"aggregate\":{\"sum\":[\"price\",\"year\"],"
            "\"group_by\":\"sold\"}}"),
        200);
    assert_results("{\"results\":[],\"aggregate\":{\"groups\":[{\"key\":false,"
                   "\"sum\":{\"price\":-5,\"year\":18446744073709551615}},"
                   "{\"key\":null,\"sum\":{\"price\":0.5,"
                   "\"year\":36893488147419103232}}]}");
}

/* The next_cursor of the answer, or NULL. */
static const char *next_cursor(void)
{
    static char cursor[512];
    const char *at = strstr(fake.text, "\"next_cursor\":\"");
    if (!at || sscanf(at, "\"next_cursor\":\"%511[0-9a-f]", cursor) != 1) return NULL;
    return cursor;
}

static int ask_cursor(const char *order, const char *cursor)
{
    char body[1024];
    (void)snprintf(body, sizeof body, "{\"order_by\":%s,\"cursor\":\"%s\"}", order,
                   cursor);
    return ask("POST", QUERY, body);
}

#define BY_YEAR "{\"field\":\"year\"}"

static void a_cursor_names_the_last_document_and_goes_back_as_it_came(void **state)
{
    (void)state;
    static const char *const orders[] = {
        BY_YEAR,
        "{\"field\":\"year\",\"direction\":\"desc\"}",
        "{\"field\":\"id\"}",
        "{\"field\":\"title\"}",
        "{\"field\":\"key\"}",
        "{\"field\":\"price\"}",
    };
    struct doc docs[2];
    answer_world(docs, 2);
    fake.more = true;
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        char body[200], cursor[512];
        (void)snprintf(body, sizeof body, "{\"order_by\":%s}", orders[i]);
        assert_int_equal(ask("POST", QUERY, body), 200);
        assert_non_null(next_cursor());
        (void)snprintf(cursor, sizeof cursor, "%s", next_cursor());
        assert_int_equal(ask_cursor(orders[i], cursor), 200);
        assert_non_null(strstr(SEEN, "after 1; "));
        size_t other = (i + 1) % COUNT_OF(orders);
        assert_int_equal(ask_cursor(orders[other], cursor), 400);
        assert_error("cursor: it comes from a query with another order_by");
    }
    fake.more = false;
    assert_int_equal(ask("POST", QUERY, "{\"order_by\":" BY_YEAR "}"), 200);
    assert_null(next_cursor());
}

static void a_cursor_that_is_not_ours_is_refused(void **state)
{
    (void)state;
    static const char *const strange[] = {"", "00", "xyz",
                                          "0102030405060708090a0b0c0d0e0f"};
    struct doc docs[1];
    char cursor[512], cut[512];
    answer_world(docs, 1);
    for (size_t i = 0; i < COUNT_OF(strange); i++) {
        assert_int_equal(ask_cursor(BY_YEAR, strange[i]), 400);
        assert_error("cursor: not a cursor of this service: send the next_cursor of an "
                     "earlier answer unchanged");
    }
    fake.more = true;
    (void)ask("POST", QUERY, "{\"order_by\":" BY_YEAR "}");
    (void)snprintf(cursor, sizeof cursor, "%s", next_cursor());
    size_t size = strlen(cursor);
    for (size_t i = 0; i < size; i++) {
        (void)snprintf(cut, sizeof cut, "%s", cursor);
        cut[i] = cut[i] == '0' ? '1' : '0';
        assert_int_equal(ask_cursor(BY_YEAR, cut), 400);
        cut[i] = '\0';
        assert_int_equal(ask_cursor(BY_YEAR, cut), 400);
    }
    fake.id_kind = ID_STRING;
    assert_int_equal(ask_cursor(BY_YEAR, cursor), 400);
    assert_error("cursor: it does not fit this namespace");
    fake.reborn = true;
    assert_int_equal(ask_cursor(BY_YEAR, cursor), 400);
    assert_error("cursor: it comes from another namespace");
}

static void a_value_too_long_for_a_cursor_is_named(void **state)
{
    (void)state;
    struct doc docs[1];
    struct value many[COUNT_OF(values)];
    struct buf text = BUF_INIT;
    answer_world(docs, 1);
    for (size_t i = 0; i <= CURSOR_VALUE_MAX; i++)
        buf_append_byte(&text, 'x');
    memcpy(many, values, sizeof many);
    many[0].one.s = buf_slice(&text);
    docs[0].values = many;
    fake.more = true;
    assert_int_equal(ask("POST", QUERY, "{\"order_by\":{\"field\":\"title\"}}"), 413);
    assert_error("order_by: a value of \"title\" has more than 1048576 bytes, too many "
                 "for a next_cursor");
    buf_release(&text);
}

static void explain_tells_what_was_read(void **state)
{
    (void)state;
    (void)ask("POST", QUERY, "{\"vector\":[1,2]}");
    assert_null(strstr(fake.text, "explain"));
    (void)ask("POST", QUERY, "{\"vector\":[1,2],\"explain\":true}");
    assert_non_null(strstr(fake.text, "\"explain\":{\"plan\":\"vector\",\"segments\":2,"
                                      "\"tail_segments\":1,"));
    assert_non_null(strstr(fake.text, "\"stages_ms\":{\"filter\":0,\"vector\":1.5,"));
}

static void a_document_is_answered_whole(void **state)
{
    (void)state;
    struct doc docs[2];
    answer_world(docs, 2);
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/0", ""), 200);
    assert_string_equal(fake.text, "{\"id\":0,\"vector\":[0.1,-2]," ATTRIBUTES "}");
    assert_non_null(answer_header("X-Elacsym-Commit"));
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/1", ""), 200);
    assert_string_equal(fake.text, "{\"id\":1," ATTRIBUTES "}");
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/2", ""), 404);
    assert_error("there is no document 2");
}

static void a_document_id_in_a_path_is_of_the_namespace_s_kind(void **state)
{
    (void)state;
    static const char *const not_numbers[] = {
        "", "a", "-1", "1.0", "01", "+1", "1%20", "18446744073709551616", "%ff", "%"};
    char path[80];
    struct doc docs[1];
    answer_world(docs, 1);
    for (size_t i = 0; i < COUNT_OF(not_numbers); i++) {
        (void)snprintf(path, sizeof path, "/v1/namespaces/x/documents/%s",
                       not_numbers[i]);
        assert_int_equal(ask("GET", path, ""), 400);
    }
    docs[0].id =
        (struct doc_id){.kind = ID_STRING, .string = slice_str("a/b \xc3\xa9%")};
    fake.id_kind = ID_STRING;
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/a%2Fb%20%c3%a9%25", ""),
                     200);
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/7", ""), 404);
    assert_error("there is no document \"7\"");
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/", ""), 400);
    assert_error("a document's id has 1 to 64 bytes");
    fake.id_kind = ID_NONE;
    fake.doc_count = 0;
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/7", ""), 404);
}

static void a_failing_query_answers_its_error(void **state)
{
    (void)state;
    fake.fail[0] = ERR_NOT_FOUND;
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 404);
    fake.fail[0] = ERR_OK;
    fake.fail[1] = ERR_CORRUPT;
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 500);
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/1", ""), 500);
}

static void every_cut_of_a_query_is_refused(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"vector\":[1.5,-2e-3],\"full_text\":{\"fields\":[\"title\",\"body\"],"
        "\"query\":"
        "\"a \\u00e9\",\"weights\":{\"title\":2}},\"fusion\":{\"k\":3},\"filter\":{"
        "\"type\":\"or\",\"conditions\":[{\"field\":\"year\",\"op\":\"in\",\"value\":["
        "1,"
        "null]}]},\"top_k\":3,\"include_attributes\":[\"year\"]}";
    for (size_t size = 0; size < sizeof whole - 1; size++)
        assert_int_equal(ask_bytes("POST", QUERY, slice_of(whole, size)), 400);
    assert_int_equal(ask("POST", QUERY, whole), 200);
}

static void no_changed_byte_of_a_query_is_more_than_an_answer(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"vector\":[1.5,2],\"full_text\":{\"field\":\"title\",\"query\":\"a\"},"
        "\"filter\":{\"type\":\"not\",\"conditions\":[{\"field\":\"tags\",\"op\":"
        "\"glob\","
        "\"value\":\"[a-z]*\"}]},\"top_k\":3}";
    char body[sizeof whole];
    for (size_t i = 0; i < sizeof whole - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            memcpy(body, whole, sizeof whole);
            body[i] = (char)byte;
            int status = ask_bytes("POST", QUERY, slice_of(body, sizeof whole - 1));
            assert_true(status == 200 || status == 400);
        }
    }
}

static void
what_was_collected_under_a_read_is_read_again_on_a_fresh_snapshot(void **state)
{
    (void)state;
    struct doc docs[1];
    answer_world(docs, 1);
    fake.fail[1] = fake.fail[3] = ERR_NOT_FOUND; /* query_run, twice */
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 200);
    assert_true(fake.gone_seen);
    assert_int_equal(fake.response.header_count, 1);
    fake.fail[1] = ERR_OK;
    fake.fail[2] = ERR_NOT_FOUND; /* segment_fetch */
    fake.fail[3] = ERR_OK;
    assert_int_equal(ask("GET", "/v1/namespaces/x/documents/0", ""), 200);
    assert_true(fake.gone_seen);
}

static void what_a_fresh_snapshot_names_and_is_not_there_is_damage(void **state)
{
    (void)state;
    struct doc docs[1];
    answer_world(docs, 1);
    for (size_t i = 1; i < COUNT_OF(fake.fail); i += 2)
        fake.fail[i] = ERR_NOT_FOUND;
    assert_int_equal(ask("POST", QUERY, "{\"vector\":[1,2]}"), 500);
    assert_int_equal(fake.calls, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(queries_reach_the_engine_as_they_were_written),
        T(a_query_is_strong_unless_it_says_eventual),
        T(a_wrong_query_is_refused_and_its_place_is_named),
        T(a_query_text_has_at_most_64_kib),
        T(the_longest_vector_and_the_largest_filter_fit_one_body),
        T(results_hold_score_vector_and_attributes_as_asked),
        T(a_query_without_hits_answers_an_empty_list),
        T(one_query_too_many_of_a_namespace_is_told_to_come_back),
        T(count_and_aggregates_stand_behind_the_results),
        T(a_cursor_names_the_last_document_and_goes_back_as_it_came),
        T(a_cursor_that_is_not_ours_is_refused),
        T(a_value_too_long_for_a_cursor_is_named),
        T(explain_tells_what_was_read),
        T(a_document_is_answered_whole),
        T(what_was_collected_under_a_read_is_read_again_on_a_fresh_snapshot),
        T(what_a_fresh_snapshot_names_and_is_not_there_is_damage),
        T(a_document_id_in_a_path_is_of_the_namespace_s_kind),
        T(a_failing_query_answers_its_error),
        T(every_cut_of_a_query_is_refused),
        T(no_changed_byte_of_a_query_is_more_than_an_answer),
    };
    return cmocka_run_group_tests_name("api_v1_query", tests, NULL, fake_teardown);
}
