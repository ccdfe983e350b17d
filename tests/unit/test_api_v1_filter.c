#include "unit/api_fake.h"

#define T(f)  cmocka_unit_test_setup(f, fake_setup)
#define QUERY "/v1/namespaces/x/query"

/* A listing with this filter, as the client writes it. */
static int ask_filter(const char *filter)
{
    struct buf body = BUF_INIT;
    buf_printf(&body, "{\"filter\":%s}", filter);
    int status = ask_bytes("POST", QUERY, buf_slice(&body));
    buf_release(&body);
    return status;
}

static void assert_filter(const char *filter, const char *seen)
{
    char wanted[1024];
    assert_int_equal(ask_filter(filter), 200);
    (void)snprintf(wanted, sizeof wanted, "%s; top 10 attributes", seen);
    assert_string_equal(SEEN, wanted);
}

static void conditions_are_bound_to_the_type_of_their_attribute(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *seen;
    } cases[] = {
        {"{\"field\":\"title\",\"op\":\"eq\",\"value\":\"a\"}", "(eq title \"a\")"},
        {"{\"field\":\"year\",\"op\":\"ne\",\"value\":-1}", "(ne year -1)"},
        {"{\"field\":\"size\",\"op\":\"gt\",\"value\":18446744073709551615}",
         "(gt size 18446744073709551615)"},
        {"{\"field\":\"price\",\"op\":\"gte\",\"value\":1}", "(gte price 1)"},
        {"{\"field\":\"price\",\"op\":\"lt\",\"value\":1.5}", "(lt price 1.5)"},
        {"{\"field\":\"sold\",\"op\":\"eq\",\"value\":false}", "(eq sold false)"},
        {"{\"field\":\"at\",\"op\":\"lte\",\"value\":\"2026-01-01T00:00:00+01:00\"}",
         "(lte at 2025-12-31T23:00:00Z)"},
        {"{\"field\":\"key\",\"op\":\"eq\","
         "\"value\":\"67E55044-10B1-426F-9247-BB680E5FE0C8\"}",
         "(eq key 67e55044-10b1-426f-9247-bb680e5fe0c8)"},
        {"{\"field\":\"year\",\"op\":\"eq\",\"value\":null}", "(eq year null)"},
        {"{\"field\":\"year\",\"op\":\"ne\",\"value\":null}", "(ne year null)"},
        {"{\"field\":\"year\",\"op\":\"in\",\"value\":[3,1,null,2,1,3]}",
         "(in year 1 2 3 null)"},
        {"{\"field\":\"year\",\"op\":\"not_in\",\"value\":[]}", "(not_in year)"},
        {"{\"field\":\"title\",\"op\":\"in\",\"value\":[\"b\",\"a\",\"ab\",\"b\"]}",
         "(in title \"a\" \"ab\" \"b\")"},
        {"{\"field\":\"tags\",\"op\":\"contains\",\"value\":\"a\"}",
         "(contains tags \"a\")"},
        {"{\"field\":\"title\",\"op\":\"contains\",\"value\":\"a\"}",
         "(contains title \"a\")"},
        {"{\"field\":\"numbers\",\"op\":\"contains_any\",\"value\":[2,1]}",
         "(contains_any numbers 1 2)"},
        {"{\"field\":\"tags\",\"op\":\"contains_all\",\"value\":[\"b\",\"a\"]}",
         "(contains_all tags \"a\" \"b\")"},
        {"{\"field\":\"title\",\"op\":\"prefix\",\"value\":\"\"}",
         "(prefix title \"\")"},
        {"{\"field\":\"tags\",\"op\":\"glob\",\"value\":\"a*[b-d]?\"}",
         "(glob tags \"a*[b-d]?\")"},
        {"{\"field\":\"tags\",\"op\":\"exists\",\"value\":true}", "(exists tags true)"},
        {"{\"field\":\"at\",\"op\":\"exists\",\"value\":false}", "(exists at false)"},
        {"{\"field\":\"id\",\"op\":\"in\",\"value\":[3,1,3]}", "(in id 1 3)"},
        {"{\"field\":\"id\",\"op\":\"gte\",\"value\":0}", "(gte id 0)"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_filter(cases[i].filter, cases[i].seen);
}

static void the_fields_of_a_condition_come_in_any_order(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "{\"field\":\"year\",\"op\":\"in\",\"value\":[2,1]}",
        "{\"field\":\"year\",\"value\":[2,1],\"op\":\"in\"}",
        "{\"op\":\"in\",\"field\":\"year\",\"value\":[2,1]}",
        "{\"op\":\"in\",\"value\":[2,1],\"field\":\"year\"}",
        "{\"value\":[2,1],\"field\":\"year\",\"op\":\"in\"}",
        "{\"value\":[2,1],\"op\":\"in\",\"field\":\"year\"}",
    };
    for (size_t i = 0; i < COUNT_OF(orders); i++)
        assert_filter(orders[i], "(in year 1 2)");
}

static void groups_nest_and_may_be_empty(void **state)
{
    (void)state;
#define C "{\"field\":\"year\",\"op\":\"eq\",\"value\":1}"
    assert_filter("{\"type\":\"and\",\"conditions\":[]}", "(and)");
    assert_filter("{\"type\":\"or\",\"conditions\":[]}", "(or)");
    assert_filter("{\"conditions\":[" C "," C "],\"type\":\"or\"}",
                  "(or (eq year 1) (eq year 1))");
    assert_filter(
        "{\"type\":\"not\",\"conditions\":[{\"type\":\"and\",\"conditions\":[" C
        ",{\"type\":\"or\",\"conditions\":[" C "]}," C "]}]}",
        "(not (and (eq year 1) (or (eq year 1)) (eq year 1)))");
#undef C
}

static void ids_that_are_strings_have_prefixes(void **state)
{
    (void)state;
    fake.id_kind = ID_STRING;
    assert_filter("{\"field\":\"id\",\"op\":\"prefix\",\"value\":\"ab\"}",
                  "(prefix id \"ab\")");
    assert_filter("{\"field\":\"id\",\"op\":\"not_in\",\"value\":[\"b\",\"a\"]}",
                  "(not_in id \"a\" \"b\")");
    fake.id_kind = ID_NONE;
    assert_filter("{\"field\":\"id\",\"op\":\"eq\",\"value\":\"b\"}", "(eq id \"b\")");
    assert_filter("{\"field\":\"id\",\"op\":\"eq\",\"value\":1}", "(eq id 1)");
}

#define SHAPE                                                                          \
    "a condition has exactly field, op and value; a group has exactly type and "       \
    "conditions"

static void a_wrong_filter_is_refused_and_its_place_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *words;
    } cases[] = {
        /* shape */
        {"[]", "filter: expected an object, got an array"},
        {"{}", "filter: " SHAPE},
        {"{\"field\":\"year\",\"op\":\"eq\"}", "filter: " SHAPE},
        {"{\"field\":\"year\",\"value\":1}", "filter: " SHAPE},
        {"{\"op\":\"eq\",\"value\":1}", "filter: " SHAPE},
        {"{\"type\":\"and\"}", "filter: " SHAPE},
        {"{\"conditions\":[]}", "filter: " SHAPE},
        {"{\"type\":\"and\",\"conditions\":[],\"op\":\"eq\"}", "filter: " SHAPE},
        {"{\"type\":\"and\",\"conditions\":[{}]}", "filter.conditions[0]: " SHAPE},
        {"{\"type\":\"and\",\"conditions\":{}}",
         "filter.conditions: expected an array, got an object"},
        {"{\"type\":\"not\",\"conditions\":[]}",
         "filter: not takes exactly one condition, got 0"},
        {"{\"type\":\"xor\",\"conditions\":[]}",
         "filter.type: expected \"and\", \"or\" or \"not\""},
        {"{\"type\":\"eq\",\"conditions\":[]}",
         "filter.type: expected \"and\", \"or\" or \"not\""},
        {"{\"field\":\"year\",\"op\":\"and\",\"value\":1}",
         "filter.op: expected one of eq, ne, gt, gte, lt, lte, in, not_in, contains, "
         "contains_any, contains_all, prefix, glob, exists"},
        {"{\"field\":\"year\",\"op\":\"regex\",\"value\":1}",
         "filter.op: expected one of eq, ne, gt, gte, lt, lte, in, not_in, contains, "
         "contains_any, contains_all, prefix, glob, exists"},
        {"{\"field\":1,\"op\":\"eq\",\"value\":1}",
         "filter.field: expected a string, got a number"},
        {"{\"field\":\"year\",\"op\":\"eq\",\"value\":1,\"boost\":2}",
         "filter.boost: unknown field; allowed: field, op, value, type, conditions"},
        {"{\"field\":\"year\",\"op\":\"eq\",\"op\":\"eq\",\"value\":1}",
         "filter.op: the field occurs twice"},
        {"{\"field\":\"year\",\"op\":\"in\",\"value\":[[1]]}",
         "filter.value[0]: expected a single value, got an array"},
        {"{\"field\":\"year\",\"op\":\"eq\",\"value\":{}}",
         "filter.value: expected a single value, got an object"},
        /* names */
        {"{\"field\":\"color\",\"op\":\"eq\",\"value\":1}",
         "filter.field: no attribute \"color\" is declared"},
        {"{\"type\":\"or\",\"conditions\":[{\"type\":\"not\",\"conditions\":["
         "{\"field\":\"\",\"op\":\"eq\",\"value\":1}]}]}",
         "filter.conditions[0].conditions[0].field: no attribute \"\" is declared"},
        /* operators */
        {"{\"field\":\"sold\",\"op\":\"gt\",\"value\":true}",
         "filter.op: gt does not work on sold, which is bool"},
        {"{\"field\":\"tags\",\"op\":\"eq\",\"value\":\"a\"}",
         "filter.op: eq does not work on tags, which is array_string"},
        {"{\"field\":\"tags\",\"op\":\"in\",\"value\":[\"a\"]}",
         "filter.op: in does not work on tags, which is array_string"},
        {"{\"field\":\"year\",\"op\":\"contains\",\"value\":1}",
         "filter.op: contains does not work on year, which is int"},
        {"{\"field\":\"title\",\"op\":\"contains_any\",\"value\":[\"a\"]}",
         "filter.op: contains_any does not work on title, which is string"},
        {"{\"field\":\"key\",\"op\":\"prefix\",\"value\":\"a\"}",
         "filter.op: prefix does not work on key, which is uuid"},
        {"{\"field\":\"numbers\",\"op\":\"glob\",\"value\":\"1\"}",
         "filter.op: glob does not work on numbers, which is array_int"},
        {"{\"field\":\"id\",\"op\":\"exists\",\"value\":true}",
         "filter.op: exists does not work on ids: use eq, ne, in, not_in, gt, gte, lt, "
         "lte "
         "or prefix"},
        {"{\"field\":\"id\",\"op\":\"glob\",\"value\":\"a\"}",
         "filter.op: glob does not work on ids: use eq, ne, in, not_in, gt, gte, lt, "
         "lte "
         "or prefix"},
        /* values */
        {"{\"field\":\"year\",\"op\":\"eq\",\"value\":[1]}",
         "filter.value: eq takes one value, not an array"},
        {"{\"field\":\"year\",\"op\":\"in\",\"value\":1}",
         "filter.value: in takes an array of values"},
        {"{\"field\":\"id\",\"op\":\"in\",\"value\":1}",
         "filter.value: in takes an array of values"},
        {"{\"type\":\"and\",\"conditions\":["
         "{\"field\":\"year\",\"op\":\"eq\",\"value\":1},"
         "{\"field\":\"year\",\"op\":\"eq\",\"value\":\"1\"}]}",
         "filter.conditions[1].value: expected int (a number), got a string"},
        {"{\"field\":\"year\",\"op\":\"gt\",\"value\":1.5}",
         "filter.value: expected an int, which has no fraction and no exponent"},
        {"{\"field\":\"size\",\"op\":\"in\",\"value\":[1,-1]}",
         "filter.value[1]: a uint is from 0 to 18446744073709551615"},
        {"{\"field\":\"year\",\"op\":\"gt\",\"value\":null}",
         "filter.value: expected int (a number), got null"},
        {"{\"field\":\"tags\",\"op\":\"contains\",\"value\":null}",
         "filter.value: expected string (a string), got null"},
        {"{\"field\":\"tags\",\"op\":\"contains_any\",\"value\":[\"a\",null]}",
         "filter.value[1]: expected string (a string), got null"},
        {"{\"field\":\"at\",\"op\":\"gt\",\"value\":\"yesterday\"}",
         "filter.value: expected an RFC 3339 datetime like \"2026-11-22T10:00:00Z\""},
        {"{\"field\":\"key\",\"op\":\"eq\",\"value\":\"1\"}",
         "filter.value: expected a uuid like \"67e55044-10b1-426f-9247-bb680e5fe0c8\""},
        {"{\"field\":\"year\",\"op\":\"exists\",\"value\":null}",
         "filter.value: exists takes true or false"},
        {"{\"field\":\"year\",\"op\":\"exists\",\"value\":1}",
         "filter.value: exists takes true or false"},
        {"{\"field\":\"title\",\"op\":\"glob\",\"value\":\"a[\"}",
         "filter.value: a [ without its ]"},
        {"{\"field\":\"title\",\"op\":\"glob\",\"value\":\"a\\\\\"}",
         "filter.value: nothing behind the last \\"},
        {"{\"field\":\"price\",\"op\":\"eq\",\"value\":1e999}",
         "filter.value: 1e999 is beyond the range of a double"},
        {"{\"field\":\"id\",\"op\":\"eq\",\"value\":null}",
         "filter.value: an id is an unsigned integer or a string, not null"},
        {"{\"field\":\"id\",\"op\":\"eq\",\"value\":\"1\"}",
         "filter.value: the ids here are unsigned integers"},
        {"{\"field\":\"id\",\"op\":\"in\",\"value\":[1,\"1\"]}",
         "filter.value[1]: the ids here are unsigned integers"},
        {"{\"field\":\"id\",\"op\":\"prefix\",\"value\":1}",
         "filter.value: prefix needs ids that are strings"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(ask_filter(cases[i].filter), 400);
        assert_error(cases[i].words);
        assert_string_equal(SEEN, "");
    }
}

/* filter: count copies of item between the brackets of a group or list. */
static int ask_repeated(const char *front, const char *item, size_t count,
                        const char *back)
{
    struct buf body = BUF_INIT;
    buf_append_str(&body, front);
    for (size_t i = 0; i < count; i++)
        buf_printf(&body, "%s%s", i ? "," : "", item);
    buf_append_str(&body, back);
    buf_append_byte(&body, '\0');
    int status = ask_filter((const char *)body.data);
    buf_release(&body);
    return status;
}

static void a_filter_has_at_most_65536_values(void **state)
{
    (void)state;
    static const char front[] = "{\"field\":\"year\",\"op\":\"in\",\"value\":[";
    assert_int_equal(ask_repeated(front, "7", 65536, "]}"), 200);
    assert_string_equal(SEEN, "(in year 7); top 10 attributes");
    assert_int_equal(ask_repeated(front, "7", 65537, "]}"), 400);
    assert_error("filter.value[65536]: a filter has at most 65536 values");
    assert_int_equal(ask_repeated(front, "7", 1000000, "]}"), 400);
}

static void a_filter_has_at_most_65536_conditions(void **state)
{
    (void)state;
    static const char front[] = "{\"type\":\"or\",\"conditions\":[";
    static const char item[] = "{\"type\":\"or\",\"conditions\":[]}";
    assert_int_equal(ask_repeated(front, item, 65535, "]}"), 200);
    assert_int_equal(ask_repeated(front, item, 65536, "]}"), 400);
    assert_error("filter.conditions[65535]: a filter has at most 65536 conditions");
}

static void a_filter_nests_as_deep_as_json_may(void **state)
{
    (void)state;
    static const int depths[] = {32, 33, 10000};
    for (size_t n = 0; n < COUNT_OF(depths); n++) {
        int depth = depths[n];
        struct buf body = BUF_INIT;
        for (int i = 0; i < depth - 1; i++)
            buf_append_str(&body, "{\"type\":\"not\",\"conditions\":[");
        buf_append_str(&body, "{\"field\":\"color\",\"op\":\"eq\",\"value\":1}");
        for (int i = 0; i < depth - 1; i++)
            buf_append_str(&body, "]}");
        buf_append_byte(&body, '\0');
        assert_int_equal(ask_filter((const char *)body.data), 400);
        assert_non_null(strstr(fake.text, depth == 32
                                              ? "no attribute"
                                              : "a filter has at most 32 levels"));
        buf_release(&body);
    }
}

static void every_value_of_a_long_list_is_found_in_order(void **state)
{
    (void)state;
    struct buf filter = BUF_INIT, seen = BUF_INIT;
    uint64_t random = test_seed();
    int order[500];
    for (int i = 0; i < 500; i++)
        order[i] = i;
    for (int i = 499; i > 0; i--) {
        int j = (int)(test_random(&random) % (uint64_t)(i + 1));
        int held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
    buf_append_str(&filter, "{\"value\":[");
    buf_append_str(&seen, "(in year");
    for (int i = 0; i < 500; i++) {
        buf_printf(&filter, "%s%d", i ? "," : "", order[i]);
        buf_printf(&seen, " %d", i);
    }
    buf_append_str(&filter, "],\"field\":\"year\",\"op\":\"in\"}");
    buf_append_byte(&filter, '\0');
    buf_append_str(&seen, "); top 10 attributes");
    buf_append_byte(&seen, '\0');
    assert_int_equal(ask_filter((const char *)filter.data), 200);
    assert_string_equal(SEEN, (const char *)seen.data);
    buf_release(&filter);
    buf_release(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(conditions_are_bound_to_the_type_of_their_attribute),
        T(the_fields_of_a_condition_come_in_any_order),
        T(groups_nest_and_may_be_empty),
        T(ids_that_are_strings_have_prefixes),
        T(a_wrong_filter_is_refused_and_its_place_is_named),
        T(a_filter_has_at_most_65536_values),
        T(a_filter_has_at_most_65536_conditions),
        T(a_filter_nests_as_deep_as_json_may),
        T(every_value_of_a_long_list_is_found_in_order),
    };
    return cmocka_run_group_tests_name("api_v1_filter", tests, NULL, fake_teardown);
}
