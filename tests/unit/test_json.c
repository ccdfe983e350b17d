#include "base/json.h"

#include <math.h>

#include "base/mem.h"
#include "base/op.h"
#include "unit/test.h"

/* A text with exactly JSON_PADDING bytes behind it, so that ASan sees any read past
 * them; the padding is digits, which would lengthen a number that ran over. */
static struct slice padded(struct slice text)
{
    uint8_t *copy = mem_alloc(text.size + JSON_PADDING);
    if (text.size) memcpy(copy, text.data, text.size);
    memset(copy + text.size, '7', JSON_PADDING);
    return slice_of(copy, text.size);
}

static void free_padded(struct slice text)
{
    mem_free((void *)(uintptr_t)text.data);
}

/* Reads nothing: everything has to be checked while it is skipped. */
static enum err check(struct slice text, char *error)
{
    struct op op;
    struct json *json;
    struct json_value root;
    struct slice copy = padded(text);
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = json_open(&op, copy, &json, &root);
    if (!e) e = json_end(&op, json);
    if (error) strcpy(error, op.error);
    json_close(json);
    op_release(&op);
    free_padded(copy);
    return e;
}

static bool accepted(const char *text)
{
    return check(slice_str(text), NULL) == ERR_OK;
}

static void refused(struct slice text, const char *words)
{
    char error[OP_ERROR_MAX];
    assert_int_equal(check(text, error), ERR_INVALID);
    assert_string_equal(error, words);
}

/* One text with its cursor at the root, for tests that read values. */
struct reading {
    struct op op;
    struct slice text;
    struct json *json;
    struct json_value root;
};

static struct reading *open_text(const char *text)
{
    struct reading *r = mem_new(struct reading);
    r->text = padded(slice_str(text));
    op_init(&r->op, OP_NO_DEADLINE, 0);
    assert_int_equal(json_open(&r->op, r->text, &r->json, &r->root), ERR_OK);
    return r;
}

static void close_text(struct reading *r)
{
    json_close(r->json);
    op_release(&r->op);
    free_padded(r->text);
    mem_free(r);
}

/* The last call failed with these words. */
static void said(struct reading *r, enum err e, const char *words)
{
    assert_int_equal(e, ERR_INVALID);
    assert_string_equal(r->op.error, words);
    op_clear_error(&r->op);
}

static void every_kind_of_value_is_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_kind kind;
        const char *name;
    } cases[] = {
        {"null", JSON_NULL, "null"},
        {"true", JSON_BOOL, "a boolean"},
        {"false", JSON_BOOL, "a boolean"},
        {"-0.5e+3", JSON_NUMBER, "a number"},
        {"\"\"", JSON_STRING, "a string"},
        {"[]", JSON_ARRAY, "an array"},
        {" \t\r\n{ } ", JSON_OBJECT, "an object"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        enum json_kind kind;
        struct reading *r = open_text(cases[i].text);
        assert_int_equal(json_kind_of(&r->op, &r->root, &kind), ERR_OK);
        assert_int_equal(kind, cases[i].kind);
        assert_string_equal(json_kind_name(kind), cases[i].name);
        assert_int_equal(json_end(&r->op, r->json), ERR_OK);
        close_text(r);
    }
}

static void malformed_text_is_refused_where_it_is_wrong(void **state)
{
    (void)state;
    const struct {
        struct slice text;
        const char *words;
    } cases[] = {
        {SLICE_LITERAL(""), "no JSON value: empty"},
        {SLICE_LITERAL(" \n\t\r "), "no JSON value: empty"},
        {SLICE_LITERAL("\xef\xbb\xbf{}"), "no JSON value at byte 0"},
        {SLICE_LITERAL("nul"), "no JSON value at byte 0"},
        {SLICE_LITERAL("nullx"), "no JSON value at byte 0"},
        {SLICE_LITERAL("tru"), "no JSON value at byte 0"},
        {SLICE_LITERAL("falsey"), "no JSON value at byte 0"},
        {SLICE_LITERAL("True"), "no JSON value at byte 0"},
        {SLICE_LITERAL("NaN"), "no JSON value at byte 0"},
        {SLICE_LITERAL("Infinity"), "no JSON value at byte 0"},
        {SLICE_LITERAL("-Infinity"), "no JSON number at byte 0"},
        {SLICE_LITERAL("'a'"), "no JSON value at byte 0"},
        {SLICE_LITERAL("]"), "no JSON value at byte 0"},
        {SLICE_LITERAL("[1,NaN]"), "[1]: no JSON value at byte 3"},
        {SLICE_LITERAL("[1,]"), "[1]: no JSON value at byte 3"},
        {SLICE_LITERAL("[,1]"), "[0]: no JSON value at byte 1"},
        {SLICE_LITERAL("[1 2]"), "expected ',' or ']' at byte 3"},
        {SLICE_LITERAL("[1:2]"), "expected ',' or ']' at byte 2"},
        {SLICE_LITERAL("[1}"), "expected ',' or ']' at byte 2"},
        {SLICE_LITERAL("[1,[2,3}]"), "[1]: expected ',' or ']' at byte 7"},
        {SLICE_LITERAL("[1\f,2]"), "[0]: no JSON number at byte 1"},
        {SLICE_LITERAL("[\v1]"), "[0]: no JSON value at byte 1"},
        {SLICE_LITERAL("[\0]"), "[0]: no JSON value at byte 1"},
        {SLICE_LITERAL("[\"a\"b]"), "expected ',' or ']' at byte 4"},
        {SLICE_LITERAL("[1\"a\"]"), "[0]: no JSON number at byte 1"},
        {SLICE_LITERAL("[true\"a\"]"), "[0]: no JSON value at byte 1"},
        {SLICE_LITERAL("{,}"), "expected a field's name at byte 1"},
        {SLICE_LITERAL("{\"a\":1,}"), "expected a field's name at byte 7"},
        {SLICE_LITERAL("{1:2}"), "expected a field's name at byte 1"},
        {SLICE_LITERAL("{a:2}"), "expected a field's name at byte 1"},
        {SLICE_LITERAL("{\"a\" 1}"), "expected ':' at byte 5"},
        {SLICE_LITERAL("{\"a\",1}"), "expected ':' at byte 4"},
        {SLICE_LITERAL("{\"a\":}"), "a: no JSON value at byte 5"},
        {SLICE_LITERAL("{\"a\":1]"), "expected ',' or '}' at byte 6"},
        {SLICE_LITERAL("{\"a\":{\"b\":1 \"c\":2}}"),
         "a: expected ',' or '}' at byte 12"},
        {SLICE_LITERAL("{\"a\\q\":1}"), "bad escape in the field's name at byte 1"},
        {SLICE_LITERAL("{} {}"), "the text goes on behind its value, at byte 3"},
        {SLICE_LITERAL("[1]]"), "the text goes on behind its value, at byte 3"},
        {SLICE_LITERAL("1,"), "the text goes on behind its value, at byte 1"},
        {SLICE_LITERAL("\"a\""
                       "\"b\""),
         "the text goes on behind its value, at byte 3"},
        {SLICE_LITERAL("[1"), "the text ends where ',' or ']' is expected"},
        {SLICE_LITERAL("[1,"), "[1]: the text ends where a value is expected"},
        {SLICE_LITERAL("{"), "the text ends where a field's name is expected"},
        {SLICE_LITERAL("{\"a\":[{\"b\""), "a[0]: the text ends where ':' is expected"},
        {SLICE_LITERAL("{\"a\":[{\"b\":"),
         "a[0].b: the text ends where a value is expected"},
        {SLICE_LITERAL("[\"abc]"), "the string at byte 1 has no end"},
        {SLICE_LITERAL("[\"abc\\\"]"), "the string at byte 1 has no end"},
        {SLICE_LITERAL("[\"\", \"a\nb\"]"),
         "a control character in a string must be escaped, at byte 7"},
        {SLICE_LITERAL("[\"a\\\nb\"]"),
         "a control character in a string must be escaped, at byte 4"},
        {SLICE_LITERAL("[\"a\0b\"]"),
         "a control character in a string must be escaped, at byte 3"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        refused(cases[i].text, cases[i].words);
}

static void numbers_follow_the_grammar_of_rfc_8259(void **state)
{
    (void)state;
    static const char *const good[] = {"0",      "-0",     "10",   "1.0",
                                       "-0.0e0", "1e5",    "1E+5", "1e-05",
                                       "0e999",  "1e-999", "1e308"};
    static const char *const bad[] = {"01",   "-",     "-01", "+1",    ".5",
                                      "1.",   "1.e5",  "1e",  "1e+",   "1-",
                                      "0x10", "1_000", "--1", "1.2.3", "1e5.5"};
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(accepted(good[i]));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(accepted(bad[i]));
}

static void number_beyond_doubles_range_is_refused(void **state)
{
    (void)state;
    refused(SLICE_LITERAL("{\"a\":[0,1e999]}"),
            "a[1]: 1e999 is beyond the range of a double");
    refused(SLICE_LITERAL("-1.8e308"), "-1.8e308 is beyond the range of a double");
    refused(
        SLICE_LITERAL("1000000000000000000000000000000000000000000e300"),
        "1000000000000000000000000000000000000000... is beyond the range of a double");
}

static void doubles_are_rounded_correctly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"9007199254740993", 9007199254740992.0}, /* 2^53 + 1: a tie, to even */
        {"-0", -0.0},
        {"-0.0", -0.0},
        {"1e-999", 0.0},
        {"4.9e-324", 4.9e-324},
        {"2.2250738585072011e-308", 2.2250738585072011e-308},
        {"1.7976931348623157e308", 1.7976931348623157e308},
        {"123456789012345678901234567890", 123456789012345678901234567890.0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        double value = 42;
        struct reading *r = open_text(cases[i].text);
        assert_int_equal(json_f64(&r->op, &r->root, &value), ERR_OK);
        assert_memory_equal(&value, &cases[i].value, sizeof value);
        assert_int_equal(json_end(&r->op, r->json), ERR_OK);
        close_text(r);
    }
}

static void unsigned_integers_keep_all_64_bits(void **state)
{
    (void)state;
    uint64_t value = 42;
    struct reading *r = open_text("18446744073709551615");
    assert_int_equal(json_u64_range(&r->op, &r->root, 0, UINT64_MAX, &value), ERR_OK);
    assert_true(value == UINT64_MAX);
    close_text(r);
    r = open_text("-0");
    assert_int_equal(json_u64_range(&r->op, &r->root, 0, UINT64_MAX, &value), ERR_OK);
    assert_true(value == 0);
    close_text(r);
}

static void integer_out_of_range_or_with_a_fraction_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *as_u64;
        const char *as_port;
    } cases[] = {
        {"1.0", "expected an integer, got 1.0", "expected an integer, got 1.0"},
        {"1e3", "expected an integer, got 1e3", "expected an integer, got 1e3"},
        {"-0.0", "expected an integer, got -0.0", "expected an integer, got -0.0"},
        {"-1", "must be between 0 and 18446744073709551615, got -1",
         "must be between 1 and 65535, got -1"},
        {"0", NULL, "must be between 1 and 65535, got 0"},
        {"65536", NULL, "must be between 1 and 65535, got 65536"},
        {"18446744073709551616",
         "must be between 0 and 18446744073709551615, got 18446744073709551616",
         "must be between 1 and 65535, got 18446744073709551616"},
        {"true", "expected a number, got a boolean",
         "expected a number, got a boolean"},
        {"\"1\"", "expected a number, got a string", "expected a number, got a string"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading *r = open_text(cases[i].text);
        uint64_t value;
        enum err e = json_u64_range(&r->op, &r->root, 0, UINT64_MAX, &value);
        if (cases[i].as_u64)
            said(r, e, cases[i].as_u64);
        else
            assert_int_equal(e, ERR_OK);
        said(r, json_u64_range(&r->op, &r->root, 1, 65535, &value), cases[i].as_port);
        close_text(r);
    }
}

static void number_of_unknown_kind_keeps_what_was_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct json_number number;
    } cases[] = {
        {"-0", {JSON_UNSIGNED, {.u64 = 0}}},
        {"18446744073709551615", {JSON_UNSIGNED, {.u64 = UINT64_MAX}}},
        {"9007199254740993", {JSON_UNSIGNED, {.u64 = 9007199254740993}}},
        {"-9223372036854775808", {JSON_SIGNED, {.i64 = INT64_MIN}}},
        {"18446744073709551616", {JSON_FLOATING, {.f64 = 18446744073709551616.0}}},
        {"-9223372036854775809", {JSON_FLOATING, {.f64 = -9223372036854775808.0}}},
        {"1.0", {JSON_FLOATING, {.f64 = 1}}},
        {"-1e3", {JSON_FLOATING, {.f64 = -1000}}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_number number = {0};
        struct reading *r = open_text(cases[i].text);
        assert_int_equal(json_number_of(&r->op, &r->root, &number), ERR_OK);
        assert_int_equal(number.kind, cases[i].number.kind);
        assert_true(number.u64 == cases[i].number.u64); /* the same bits */
        close_text(r);
    }
    struct json_number number;
    struct reading *r = open_text("1e999");
    said(r, json_number_of(&r->op, &r->root, &number),
         "1e999 is beyond the range of a double");
    close_text(r);
}

static void strings_are_unescaped(void **state)
{
    (void)state;
    const struct {
        const char *text;
        struct slice value;
    } cases[] = {
        {"\"\"", SLICE_LITERAL("")},
        {"\"plain\"", SLICE_LITERAL("plain")},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", SLICE_LITERAL("\"\\/\b\f\n\r\t")},
        {"\"a\\u0000b\"", SLICE_LITERAL("a\0b")},
        {"\"\\u00e9\\u20ac\\ud83d\\ude00\"",
         SLICE_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")},
        {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
         SLICE_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")},
        {"\"\\udbff\\udfff\"", SLICE_LITERAL("\xf4\x8f\xbf\xbf")},
        {"\"\x7f\"", SLICE_LITERAL("\x7f")},
        {"\"ends in a backslash\\\\\"   ", SLICE_LITERAL("ends in a backslash\\")},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice value;
        struct reading *r = open_text(cases[i].text);
        assert_int_equal(json_string(&r->op, &r->root, &value), ERR_OK);
        assert_true(slice_equal(value, cases[i].value));
        assert_int_equal(json_end(&r->op, r->json), ERR_OK);
        close_text(r);
    }
}

static void bad_escapes_and_lone_surrogates_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"[\"\\ud800\"]",
                                        "[\"\\udc00\"]",
                                        "[\"\\ud800x\"]",
                                        "[\"\\ud800\\n\"]",
                                        "[\"\\ud800\\u0041\"]",
                                        "[\"\\ud800\\ud800\"]",
                                        "[\"\\udc00\\ud800\"]",
                                        "[\"\\udfff\"]",
                                        "[\"\\u12\"]",
                                        "[\"\\u12g4\"]",
                                        "[\"\\x41\"]",
                                        "[\"\\'\"]",
                                        "[\"\\u\"]",
                                        "[\"\\ud83d\\u\"]",
                                        "[\"\\U0041\"]"};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        refused(slice_str(cases[i]), "[0]: bad escape or lone surrogate in the string");
}

static void text_that_is_not_utf8_is_refused_at_its_first_bad_byte(void **state)
{
    (void)state;
    const struct slice bad[] = {
        SLICE_LITERAL("\xff"),             /* never occurs */
        SLICE_LITERAL("\x80"),             /* stray continuation */
        SLICE_LITERAL("\xc3"),             /* cut off */
        SLICE_LITERAL("\xc0\x80"),         /* overlong NUL */
        SLICE_LITERAL("\xe0\x80\xaf"),     /* overlong slash */
        SLICE_LITERAL("\xed\xa0\x80"),     /* surrogate */
        SLICE_LITERAL("\xf0\x8f\xbf\xbf"), /* overlong */
        SLICE_LITERAL("\xf4\x90\x80\x80"), /* above U+10FFFF */
        SLICE_LITERAL("\xf8\x88\x80\x80\x80"),
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf text = BUF_INIT;
        buf_append_str(&text, "[\"\xc3\xa9");
        buf_append_slice(&text, bad[i]);
        buf_append_str(&text, "\"]");
        refused(buf_slice(&text), "not UTF-8 at byte 4");
        buf_release(&text);
    }
}

static void repeated_field_is_refused_however_it_is_read(void **state)
{
    (void)state;
    refused(SLICE_LITERAL("{\"a\":1,\"b\":2,\"a\":3}"), "a: the field occurs twice");
    refused(SLICE_LITERAL("[{\"x\":{\"k\":1,\"k\":1}}]"),
            "[0].x.k: the field occurs twice");
    refused(SLICE_LITERAL("{\"a\":1,\"\\u0061\":2}"), "a: the field occurs twice");
    refused(SLICE_LITERAL("{\"\":1,\"\":2}"), "[\"\"]: the field occurs twice");
    assert_true(accepted("{\"a\":{\"a\":{\"a\":1}},\"A\":[{\"a\":1},{\"a\":1}]}"));

    static const char *const names[] = {"a", "b"};
    struct reading *r = open_text("{\"a\":1,\"a\":2}");
    struct json_walk walk;
    struct json_value value;
    int name;
    assert_int_equal(json_object(&r->op, &r->root, &walk), ERR_OK);
    assert_int_equal(json_field(&r->op, &walk, names, 2, &name, &value), ERR_OK);
    assert_int_equal(name, 0);
    said(r, json_field(&r->op, &walk, names, 2, &name, &value),
         "a: the field occurs twice");
    close_text(r);
}

static void
a_thousand_different_fields_are_fine_and_one_more_of_them_is_not(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    char error[OP_ERROR_MAX];
    buf_append_str(&text, "{");
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "%s\"k%d\":{\"k1\":%d}", i ? "," : "", i, i);
    size_t size = text.size;
    buf_append_str(&text, "}");
    assert_int_equal(check(buf_slice(&text), error), ERR_OK);
    text.size = size;
    buf_append_str(&text, ",\"k500\":0}");
    refused(buf_slice(&text), "k500: the field occurs twice");
    buf_release(&text);
}

static void depth_of_64_is_allowed_and_65_is_a_limit(void **state)
{
    (void)state;
    char text[1000] = "", error[OP_ERROR_MAX];
    for (int i = 0; i < JSON_DEPTH_MAX; i++)
        strcat(text, i % 2 ? "[" : "{\"a\":");
    strcat(text, "1");
    for (int i = JSON_DEPTH_MAX - 1; i >= 0; i--)
        strcat(text, i % 2 ? "]" : "}");
    assert_true(accepted(text));

    char deeper[1010];
    (void)snprintf(deeper, sizeof deeper, "[%s]", text);
    assert_int_equal(check(slice_str(deeper), error), ERR_LIMIT);
    assert_non_null(strstr(error, "[0].a: more than 64 levels"));

    struct buf deepest = BUF_INIT;
    for (int i = 0; i < 100000; i++)
        buf_append_str(&deepest, "[");
    assert_int_equal(check(buf_slice(&deepest), error), ERR_LIMIT);
    buf_release(&deepest);
}

static void error_names_the_path_of_the_value_that_is_wrong(void **state)
{
    (void)state;
    struct reading *r = open_text(
        "{\"documents\":[{},{\"attributes\":{\"title\":5,\"we ird\\n\":[true]}}]}");
    struct json_walk body, list, doc, attributes;
    struct json_value documents, item, field, value, bad;
    struct slice key, text;
    bool more;
    struct op *op = &r->op;

    assert_int_equal(json_object(op, &r->root, &body), ERR_OK);
    assert_int_equal(json_next(op, &body, &more, &key, &documents), ERR_OK);
    assert_int_equal(json_array(op, &documents, &list), ERR_OK);
    assert_int_equal(json_item(op, &list, &more, &item), ERR_OK);
    assert_int_equal(json_item(op, &list, &more, &item), ERR_OK);
    assert_int_equal(json_object(op, &item, &doc), ERR_OK);
    assert_int_equal(json_next(op, &doc, &more, &key, &field), ERR_OK);
    assert_int_equal(json_object(op, &field, &attributes), ERR_OK);
    assert_int_equal(json_next(op, &attributes, &more, &key, &value), ERR_OK);
    said(r, json_string(op, &value, &text),
         "documents[1].attributes.title: expected a string, got a number");
    said(r, json_fail(op, &value, "is %d", 5), "documents[1].attributes.title: is 5");
    said(r, json_walk_fail(op, &attributes, "too few"),
         "documents[1].attributes: too few");
    said(r, json_walk_fail(op, &body, "no ids"), "no ids");
    said(r, json_fail(op, &r->root, "is wrong"), "is wrong");

    assert_int_equal(json_next(op, &attributes, &more, &key, &bad), ERR_OK);
    struct json_walk flags;
    struct json_value flag;
    assert_int_equal(json_array(op, &bad, &flags), ERR_OK);
    assert_int_equal(json_item(op, &flags, &more, &flag), ERR_OK);
    said(r, json_string(op, &flag, &text),
         "documents[1].attributes[\"we ird\\n\"][0]: expected a string, got a boolean");
    /* the value before it keeps its own name */
    said(r, json_fail(op, &value, "again"), "documents[1].attributes.title: again");
    assert_int_equal(json_end(op, r->json), ERR_OK);
    close_text(r);
}

static void very_long_names_are_cut_in_messages(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    char error[OP_ERROR_MAX];
    for (int i = 0; i < 20; i++) {
        buf_append_str(&text, "{\"");
        for (int k = 0; k < 5000; k++)
            buf_append_str(&text, "\xc3\xa9");
        buf_append_str(&text, "\":");
    }
    buf_append_str(&text, "x");
    assert_int_equal(check(buf_slice(&text), error), ERR_INVALID);
    assert_true(strlen(error) < 600);
    assert_true(strncmp(error, "...", 3) == 0);
    assert_non_null(strstr(error, "\"]: no JSON value at byte"));
    buf_release(&text);
}

static void unknown_field_is_refused_with_the_allowed_ones(void **state)
{
    (void)state;
    static const char *const names[] = {"id", "vector"};
    struct reading *r = open_text("[{\"id\":1,\"vectr\":2}]");
    struct json_walk list, doc;
    struct json_value item, value;
    bool more;
    int name;
    assert_int_equal(json_array(&r->op, &r->root, &list), ERR_OK);
    assert_int_equal(json_item(&r->op, &list, &more, &item), ERR_OK);
    assert_int_equal(json_object(&r->op, &item, &doc), ERR_OK);
    assert_int_equal(json_field(&r->op, &doc, names, 2, &name, &value), ERR_OK);
    assert_int_equal(name, 0);
    assert_int_equal(doc.seen, 1);
    said(r, json_field(&r->op, &doc, names, 2, &name, &value),
         "[0].vectr: unknown field; allowed: id, vector");
    close_text(r);
}

static void values_left_unread_or_half_read_are_skipped_with_all_checks(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *words; /* NULL: fine */
    } cases[] = {
        {"{\"a\":[1,{\"x\":[2,3]},4],\"b\":7}", NULL},
        {"{\"a\":[1,{\"x\":[2,3]},4,nul],\"b\":7}", "a[3]: no JSON value at byte 22"},
        {"{\"a\":[1,{\"x\":[2,3],\"x\":1}],\"b\":7}", "a[1].x: the field occurs twice"},
        {"{\"a\":[1,{\"x\":[2,1e999]}],\"b\":7}",
         "a[1].x[1]: 1e999 is beyond the range of a double"},
    };
    static const char *const names[] = {"a", "b"};
    /* how far value a is read before b is asked for */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int progress = 0; progress < 5; progress++) {
            struct reading *r = open_text(cases[i].text);
            struct op *op = &r->op;
            struct json_walk body, list, object, inner;
            struct json_value a, b, item, x, number;
            struct slice key;
            bool more;
            int name;
            assert_int_equal(json_object(op, &r->root, &body), ERR_OK);
            assert_int_equal(json_field(op, &body, names, 2, &name, &a), ERR_OK);
            if (progress > 0) assert_int_equal(json_array(op, &a, &list), ERR_OK);
            if (progress > 1)
                assert_int_equal(json_item(op, &list, &more, &item), ERR_OK);
            if (progress > 2) {
                assert_int_equal(json_item(op, &list, &more, &item), ERR_OK);
                assert_int_equal(json_object(op, &item, &object), ERR_OK);
                assert_int_equal(json_next(op, &object, &more, &key, &x), ERR_OK);
            }
            if (progress > 3) {
                assert_int_equal(json_array(op, &x, &inner), ERR_OK);
                assert_int_equal(json_item(op, &inner, &more, &number), ERR_OK);
            }
            enum err e = json_field(op, &body, names, 2, &name, &b);
            if (cases[i].words) {
                said(r, e, cases[i].words);
            } else {
                uint64_t seven;
                assert_int_equal(e, ERR_OK);
                assert_int_equal(json_u64_range(op, &b, 7, 7, &seven), ERR_OK);
                assert_int_equal(seven, 7);
                assert_int_equal(json_field(op, &body, names, 2, &name, &b), ERR_OK);
                assert_int_equal(name, -1);
                assert_int_equal(json_end(op, r->json), ERR_OK);
            }
            close_text(r);
        }
    }
}

static void every_prefix_of_a_document_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"documents\": [{\"id\": 1, \"vector\": [0.5, -1e-3, 2], \"ok\": true},"
        " {\"id\": \"\\u00e9\\ud83d\\ude00x\", \"attributes\": {\"\": null, \"f\": "
        "[false]}}], \"n\": -12.5E+7}";
    assert_true(accepted(text));
    for (size_t size = 0; size < sizeof text - 1; size++)
        assert_int_equal(check(slice_of(text, size), NULL), ERR_INVALID);
}

static void random_bytes_never_crash(void **state)
{
    (void)state;
    static const char alphabet[] = "{}[]:,\"\\\"\"  09.-eEtrufalsn\n\x80\xc3\xa9";
    static const char seed_text[] =
        "{\"a\":[1,-2.5e3,\"x\\u00e9\\n\",true,null,{\"b\":{}}],\"c\":\"\xc3\xa9\"}";
    uint64_t seed = test_seed();
    int good = 0;
    for (int i = 0; i < 100000; i++) {
        uint8_t text[200];
        size_t size = test_random(&seed) % sizeof text;
        if (i % 2) { /* one or two bytes of a good text changed */
            size = sizeof seed_text - 1;
            memcpy(text, seed_text, size);
            for (int k = 0; k < 2; k++)
                text[test_random(&seed) % size] =
                    (uint8_t)alphabet[test_random(&seed) % (sizeof alphabet - 1)];
        } else {
            for (size_t k = 0; k < size; k++)
                text[k] =
                    i % 4
                        ? (uint8_t)test_random(&seed)
                        : (uint8_t)alphabet[test_random(&seed) % (sizeof alphabet - 1)];
        }
        enum err e = check(slice_of(text, size), NULL);
        assert_true(e == ERR_OK || e == ERR_INVALID || e == ERR_LIMIT);
        good += e == ERR_OK;
    }
    assert_true(good > 0); /* some changes hit a letter of a string */
}

static void text_larger_than_the_arena_is_a_limit_not_a_crash(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct op op;
    struct json *json;
    struct json_value root;
    struct slice value;
    buf_append_str(&text, "\"\\n");
    for (int i = 0; i < 100000; i++)
        buf_append_byte(&text, 'x');
    buf_append_str(&text, "\"");
    struct slice copy = padded(buf_slice(&text));
    op_init(&op, OP_NO_DEADLINE, 1000);
    assert_int_equal(json_open(&op, copy, &json, &root), ERR_OK);
    assert_int_equal(json_string(&op, &root, &value), ERR_LIMIT);
    json_close(json);
    op_release(&op);
    free_padded(copy);
    buf_release(&text);
}

static void two_texts_can_be_open_at_once(void **state)
{
    (void)state;
    struct reading *a = open_text("[1]");
    struct reading *b = open_text("{\"x\":2}");
    assert_int_equal(json_end(&a->op, a->json), ERR_OK);
    assert_int_equal(json_end(&b->op, b->json), ERR_OK);
    close_text(a);
    close_text(b);
}

/* ---- floats ---- */

static enum err read_floats(const char *text, float *out, size_t max, size_t *count,
                            char *error)
{
    struct reading *r = open_text(text);
    enum err e = json_floats(&r->op, &r->root, out, max, count);
    if (!e) e = json_end(&r->op, r->json);
    strcpy(error, r->op.error);
    close_text(r);
    return e;
}

static void floats_are_read_in_every_spelling(void **state)
{
    (void)state;
    char error[OP_ERROR_MAX];
    float out[16];
    size_t count = 42;
    assert_int_equal(read_floats("[]", out, 16, &count, error), ERR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(read_floats(" [ ] ", out, 0, &count, error), ERR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(
        read_floats("[0, -0 ,\n1,-1.5,1e3\t,1E-3,0.125,3.4028235e38,1e-46,"
                    "0.10000000149011612,12345678901234567890123,0.5e0,-0.000000001,"
                    "16777217]",
                    out, 16, &count, error),
        ERR_OK);
    static const float wanted[] = {0,
                                   -0.0f,
                                   1,
                                   -1.5f,
                                   1e3f,
                                   1e-3f,
                                   0.125f,
                                   3.4028235e38f,
                                   0,
                                   0.1f,
                                   1.2345678901234567890123e22f,
                                   0.5f,
                                   -1e-9f,
                                   16777216};
    assert_int_equal(count, COUNT_OF(wanted));
    assert_memory_equal(out, wanted, sizeof wanted);
}

static void floats_that_are_wrong_are_refused_with_their_index(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"[0,null]", "[1]: expected a number, got null"},
        {"[0,\"1\"]", "[1]: expected a number, got a string"},
        {"[[0]]", "[0]: expected a number, got an array"},
        {"[0.5,NaN]", "[1]: no JSON value at byte 5"},
        {"[0.5,-Infinity]", "[1]: no JSON number at byte 5"},
        {"[0,1e39]", "[1]: 1e39 is beyond the range of a 32-bit float"},
        {"[-3.5e38]", "[0]: -3.5e38 is beyond the range of a 32-bit float"},
        {"[1e999]", "[0]: 1e999 is beyond the range of a 32-bit float"},
        {"[0.5,01]", "[1]: no JSON number at byte 5"},
        {"[0.5,1.]", "[1]: no JSON number at byte 5"},
        {"[0.5,.5]", "[1]: no JSON value at byte 5"},
        {"[0.5,-]", "[1]: no JSON number at byte 5"},
        {"[0.5,1e]", "[1]: no JSON number at byte 5"},
        {"[0.5,0.5x]", "[1]: no JSON number at byte 5"},
        {"[0.5,0.5\"]\"]", "[1]: no JSON number at byte 5"},
        {"[0.1234567890123456789012,0.12345x78]", "[1]: no JSON number at byte 26"},
        {"[0.1234567890123456789012,00.1234567]", "[1]: no JSON number at byte 26"},
        {"[0.1234567890123456789012,-.12345678]", "[1]: no JSON number at byte 26"},
        {"[0.1234567890123456789012,0.]", "[1]: no JSON number at byte 26"},
        {"[1,]", "[1]: no JSON value at byte 3"},
        {"[1 2]", "expected ',' or ']' at byte 3"},
        {"[1:2]", "expected ',' or ']' at byte 2"},
        {"[0.5", "the text ends where ',' or ']' is expected"},
        {"[0.5,", "[1]: the text ends where a value is expected"},
        {"[", "[0]: the text ends where a value is expected"},
        {"{}", "expected an array, got an object"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char error[OP_ERROR_MAX];
        float out[4];
        size_t count;
        assert_int_equal(read_floats(cases[i].text, out, 4, &count, error),
                         ERR_INVALID);
        assert_string_equal(error, cases[i].words);
    }
}

static void floats_beyond_max_are_checked_and_counted_as_one_more(void **state)
{
    (void)state;
    char error[OP_ERROR_MAX];
    float out[3] = {0, 0, 77};
    size_t count;
    assert_int_equal(read_floats("[1,2]", out, 2, &count, error), ERR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(read_floats("[1,2,3,4,5]", out, 2, &count, error), ERR_OK);
    assert_int_equal(count, 3);
    assert_true(out[2] == 77);
    assert_int_equal(read_floats("[1,2,3,x]", out, 2, &count, error), ERR_INVALID);
    assert_string_equal(error, "[3]: no JSON value at byte 7");
}

/* A number in one of the ways that clients print them. */
static void print_random_number(struct buf *out, uint64_t *seed)
{
    uint32_t bits = (uint32_t)test_random(seed);
    float f;
    memcpy(&f, &bits, sizeof f);
    if (!isfinite(f)) f = 0.5f;
    double unit = (double)(int64_t)test_random(seed) / 9223372036854775808.0;
    int digits = (int)(test_random(seed) % 20) + 1;
    switch (test_random(seed) % 7) {
    case 0: buf_printf(out, "%.9g", (double)f); break;
    case 1: buf_printf(out, "%.*g", digits, (double)f); break;
    case 2: buf_printf(out, "%.*f", digits, unit); break;
    case 3: buf_printf(out, "%.17g", unit * 1000); break;
    case 4: buf_printf(out, "%.17g", (double)(float)unit); break;
    case 5: buf_printf(out, "%lld", (long long)test_random(seed)); break;
    default: { /* near the middle between two floats: the hard cases */
        float next = nextafterf((float)unit, 2.0f);
        double middle = ((double)(float)unit + (double)next) / 2;
        middle = nextafter(middle, (double)(int64_t)test_random(seed));
        buf_printf(out, "%.*g", 16 + digits % 12, middle);
    }
    }
}

static void random_floats_equal_strtof(void **state)
{
    (void)state;
    enum { COUNT = 1000, ROUNDS = 300 };
    static float out[COUNT], wanted[COUNT];
    uint64_t seed = test_seed();
    for (int round = 0; round < ROUNDS; round++) {
        struct buf text = BUF_INIT;
        char error[OP_ERROR_MAX];
        size_t count;
        buf_append_str(&text, "[");
        for (int i = 0; i < COUNT; i++) {
            if (i) buf_append_str(&text, test_random(&seed) % 8 ? "," : " , ");
            size_t start = text.size;
            print_random_number(&text, &seed);
            buf_append_byte(&text, '\0');
            wanted[i] = strtof((const char *)text.data + start, NULL);
            text.size--;
        }
        buf_append(&text, "]", 2);
        assert_int_equal(read_floats((const char *)text.data, out, COUNT, &count,
                                     error),
                         ERR_OK);
        assert_int_equal(count, COUNT);
        assert_memory_equal(out, wanted, sizeof wanted);
        buf_release(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_recognised),
        cmocka_unit_test(malformed_text_is_refused_where_it_is_wrong),
        cmocka_unit_test(numbers_follow_the_grammar_of_rfc_8259),
        cmocka_unit_test(number_beyond_doubles_range_is_refused),
        cmocka_unit_test(doubles_are_rounded_correctly),
        cmocka_unit_test(unsigned_integers_keep_all_64_bits),
        cmocka_unit_test(integer_out_of_range_or_with_a_fraction_is_refused),
        cmocka_unit_test(number_of_unknown_kind_keeps_what_was_written),
        cmocka_unit_test(strings_are_unescaped),
        cmocka_unit_test(bad_escapes_and_lone_surrogates_are_refused),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_at_its_first_bad_byte),
        cmocka_unit_test(repeated_field_is_refused_however_it_is_read),
        cmocka_unit_test(
            a_thousand_different_fields_are_fine_and_one_more_of_them_is_not),
        cmocka_unit_test(depth_of_64_is_allowed_and_65_is_a_limit),
        cmocka_unit_test(error_names_the_path_of_the_value_that_is_wrong),
        cmocka_unit_test(very_long_names_are_cut_in_messages),
        cmocka_unit_test(unknown_field_is_refused_with_the_allowed_ones),
        cmocka_unit_test(values_left_unread_or_half_read_are_skipped_with_all_checks),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
        cmocka_unit_test(random_bytes_never_crash),
        cmocka_unit_test(text_larger_than_the_arena_is_a_limit_not_a_crash),
        cmocka_unit_test(two_texts_can_be_open_at_once),
        cmocka_unit_test(floats_are_read_in_every_spelling),
        cmocka_unit_test(floats_that_are_wrong_are_refused_with_their_index),
        cmocka_unit_test(floats_beyond_max_are_checked_and_counted_as_one_more),
        cmocka_unit_test(random_floats_equal_strtof),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
