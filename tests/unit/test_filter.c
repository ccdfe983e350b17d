#include "doc/filter.h"

#include "base/op.h"
#include "unit/random_docs.h"
#include "unit/test.h"

/* ---- names and what goes with what ---- */

static void operator_names_read_back(void **state)
{
    (void)state;
    for (int i = FILTER_AND; i <= FILTER_EXISTS; i++) {
        enum filter_op op;
        assert_true(filter_op_parse(slice_str(filter_op_name((enum filter_op)i)), &op));
        assert_int_equal(op, i);
    }
    enum filter_op op;
    assert_false(filter_op_parse(slice_str("EQ"), &op));
    assert_false(filter_op_parse(SLICE_EMPTY, &op));
}

static void operators_are_allowed_as_the_table_says(void **state)
{
    (void)state;
    /* Columns: string, int, uint, float, bool, datetime, uuid; then their arrays. */
    static const struct {
        enum filter_op op;
        const char *allowed;
        bool list;
    } table[] = {
        {FILTER_EQ, "yyyyyyy-------", false},
        {FILTER_NE, "yyyyyyy-------", false},
        {FILTER_GT, "yyyy-yy-------", false},
        {FILTER_GTE, "yyyy-yy-------", false},
        {FILTER_LT, "yyyy-yy-------", false},
        {FILTER_LTE, "yyyy-yy-------", false},
        {FILTER_IN, "yyyyyyy-------", true},
        {FILTER_NOT_IN, "yyyyyyy-------", true},
        {FILTER_CONTAINS, "y------yyyyyyy", false},
        {FILTER_CONTAINS_ANY, "-------yyyyyyy", true},
        {FILTER_CONTAINS_ALL, "-------yyyyyyy", true},
        {FILTER_PREFIX, "y------y------", false},
        {FILTER_GLOB, "y------y------", false},
        {FILTER_EXISTS, "yyyyyyyyyyyyyy", false},
        {FILTER_AND, "--------------", false},
        {FILTER_OR, "--------------", false},
        {FILTER_NOT, "--------------", false},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        assert_int_equal(filter_op_takes_list(table[i].op), table[i].list);
        for (size_t t = 0; t < 2 * COUNT_OF(all_types); t++) {
            bool array = t >= COUNT_OF(all_types);
            bool allowed = filter_op_allowed(table[i].op,
                                             all_types[t % COUNT_OF(all_types)], array);
            if (allowed != (table[i].allowed[t] == 'y'))
                fail_msg("%s on type %zu", filter_op_name(table[i].op), t);
        }
    }
}

/* ---- one condition on one attribute ---- */

static bool matches(struct filter f, struct value v)
{
    struct attr a = {.name = "a", .type = f.type, .array = f.array};
    struct schema *schema = schema_new(0, METRIC_L2, &a, 1);
    struct doc d = {.id = number_id(1), .values = &v};
    bool yes = filter_matches(&f, schema, &d);
    schema_unref(schema);
    return yes;
}

static bool not_matches(struct filter f, struct value v)
{
    struct filter *child = &f;
    struct filter not = {.op = FILTER_NOT,
                         .children = &child,
                         .child_count = 1,
                         .type = f.type,
                         .array = f.array};
    return matches(not, v);
}

static void assert_truth(struct filter f, struct value v, enum truth expected)
{
    enum truth found = matches(f, v)       ? TRUTH_TRUE
                       : not_matches(f, v) ? TRUTH_FALSE
                                           : TRUTH_UNKNOWN;
    if (found != expected)
        fail_msg("%s on type %d: %d, not %d", filter_op_name(f.op), f.type, found,
                 expected);
}

/* low < middle < high of each type. */
static const union scalar low_middle_high[][3] = {
    [ATTR_STRING] = {{.s = {(const uint8_t *)"a", 1}},
                     {.s = {(const uint8_t *)"ab", 2}},
                     {.s = {(const uint8_t *)"b", 1}}},
    [ATTR_INT] = {{.i = INT64_MIN}, {.i = -1}, {.i = 0}},
    [ATTR_UINT] = {{.u = 0}, {.u = 1}, {.u = UINT64_MAX}},
    [ATTR_FLOAT] = {{.f = -1e300}, {.f = -0.0}, {.f = 1e-300}},
    [ATTR_BOOL] = {{.b = false}, {.b = true}, {.b = true}},
    [ATTR_DATETIME] = {{.i = -5}, {.i = 5}, {.i = 6}},
    [ATTR_UUID] = {{.uuid = {0, 1}}, {.uuid = {0, 2}}, {.uuid = {0xff}}},
};

static void comparisons_hold_on_every_scalar_type(void **state)
{
    (void)state;
    static const struct {
        enum filter_op op;
        bool low, middle, high; /* value compared with the middle one */
    } table[] = {
        {FILTER_EQ, false, true, false}, {FILTER_NE, true, false, true},
        {FILTER_GT, false, false, true}, {FILTER_GTE, false, true, true},
        {FILTER_LT, true, false, false}, {FILTER_LTE, true, true, false},
        {FILTER_IN, false, true, false}, {FILTER_NOT_IN, true, false, true},
    };
    for (size_t t = 0; t < COUNT_OF(all_types); t++)
        for (size_t i = 0; i < COUNT_OF(table); i++) {
            enum attr_type type = all_types[t];
            if (!filter_op_allowed(table[i].op, type, false)) continue;
            const union scalar *v = low_middle_high[type];
            struct filter f = {.op = table[i].op,
                               .type = type,
                               .values = &v[1],
                               .value_count = 1};
            assert_truth(f, (struct value){.one = v[0]},
                         (enum truth)(2 * table[i].low));
            assert_truth(f, (struct value){.one = v[1]},
                         (enum truth)(2 * table[i].middle));
            if (type != ATTR_BOOL)
                assert_truth(f, (struct value){.one = v[2]},
                             (enum truth)(2 * table[i].high));
        }
}

static void minus_zero_equals_zero(void **state)
{
    (void)state;
    union scalar zero = {.f = 0.0};
    struct filter f = {.op = FILTER_EQ,
                       .type = ATTR_FLOAT,
                       .values = &zero,
                       .value_count = 1};
    assert_truth(f, (struct value){.one = {.f = -0.0}}, TRUTH_TRUE);
    f.op = FILTER_LT;
    assert_truth(f, (struct value){.one = {.f = -0.0}}, TRUTH_FALSE);
}

static void null_follows_the_rules_of_the_header(void **state)
{
    (void)state;
    static const struct {
        enum filter_op op;
        bool with_null, exists;
        enum truth of_null;
    } table[] = {
        {FILTER_EQ, false, false, TRUTH_UNKNOWN},
        {FILTER_EQ, true, false, TRUTH_TRUE},
        {FILTER_NE, false, false, TRUTH_TRUE},
        {FILTER_NE, true, false, TRUTH_FALSE},
        {FILTER_IN, false, false, TRUTH_UNKNOWN},
        {FILTER_IN, true, false, TRUTH_TRUE},
        {FILTER_NOT_IN, false, false, TRUTH_TRUE},
        {FILTER_NOT_IN, true, false, TRUTH_FALSE},
        {FILTER_GT, false, false, TRUTH_UNKNOWN},
        {FILTER_GTE, false, false, TRUTH_UNKNOWN},
        {FILTER_LT, false, false, TRUTH_UNKNOWN},
        {FILTER_LTE, false, false, TRUTH_UNKNOWN},
        {FILTER_CONTAINS, false, false, TRUTH_UNKNOWN},
        {FILTER_CONTAINS_ANY, false, false, TRUTH_UNKNOWN},
        {FILTER_CONTAINS_ALL, false, false, TRUTH_UNKNOWN},
        {FILTER_PREFIX, false, false, TRUTH_UNKNOWN},
        {FILTER_GLOB, false, false, TRUTH_UNKNOWN},
        {FILTER_EXISTS, false, true, TRUTH_FALSE},
        {FILTER_EXISTS, false, false, TRUTH_TRUE},
    };
    uint64_t rng = test_seed(), asked = 0;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < COUNT_OF(table) * COUNT_OF(all_types) * 2; i++) {
        size_t row = i / 2 % COUNT_OF(table);
        enum attr_type type = all_types[i / 2 / COUNT_OF(table)];
        union scalar a = random_scalar(&op, &rng, type);
        struct filter f = {.op = table[row].op,
                           .type = type,
                           .array = i % 2,
                           .with_null = table[row].with_null,
                           .exists = table[row].exists,
                           .values = &a,
                           .value_count = 1};
        bool about_null = f.with_null && (f.op == FILTER_EQ || f.op == FILTER_NE);
        if (about_null) f.value_count = 0;
        if (!about_null && !filter_op_allowed(f.op, type, f.array)) continue;
        asked++;
        assert_int_equal(filter_null(&f), table[row].of_null);
        assert_truth(f, VALUE_NULL, table[row].of_null);
    }
    assert_true(asked > 100);
    op_release(&op);
}

static void conditions_about_null_alone_tell_what_is_there(void **state)
{
    (void)state;
    struct value one = {.one = {.i = 0}}, empty = {.count = 0};
    for (int array = 0; array < 2; array++) {
        struct value v = array ? empty : one;
        struct filter f = {.op = FILTER_EQ,
                           .type = ATTR_INT,
                           .array = array,
                           .with_null = true};
        assert_truth(f, v, TRUTH_FALSE);
        f.op = FILTER_NE;
        assert_truth(f, v, TRUTH_TRUE);
        f = (struct filter){.op = FILTER_EXISTS,
                            .type = ATTR_INT,
                            .array = array,
                            .exists = true};
        assert_truth(f, v, TRUTH_TRUE);
        f.exists = false;
        assert_truth(f, v, TRUTH_FALSE);
    }
}

static void lists_are_searched_whole(void **state)
{
    (void)state;
    static const union scalar list[] = {
        {.i = -7}, {.i = 0}, {.i = 3}, {.i = 9}, {.i = 11}};
    for (size_t count = 0; count <= COUNT_OF(list); count++)
        for (int64_t i = -10; i < 15; i++) {
            bool in = false;
            for (size_t k = 0; k < count; k++)
                in |= list[k].i == i;
            struct filter f = {.op = FILTER_IN,
                               .type = ATTR_INT,
                               .values = list,
                               .value_count = count};
            assert_truth(f, (struct value){.one = {.i = i}},
                         in ? TRUTH_TRUE : TRUTH_FALSE);
            f.op = FILTER_NOT_IN;
            assert_truth(f, (struct value){.one = {.i = i}},
                         in ? TRUTH_FALSE : TRUTH_TRUE);
        }
}

static void arrays_contain_one_any_or_all(void **state)
{
    (void)state;
    static const union scalar items[] = {{.i = 3}, {.i = 1}, {.i = 3}};
    static const union scalar one_three[] = {{.i = 1}, {.i = 3}},
                              two_three[] = {{.i = 2}, {.i = 3}};
    struct value v = {.count = 3, .items = items}, empty = {.count = 0};
    struct filter f = {.type = ATTR_INT, .array = true};
    static const struct {
        enum filter_op op;
        const union scalar *values;
        size_t count;
        bool filled, empty;
    } table[] = {
        {FILTER_CONTAINS, one_three, 1, true, false},
        {FILTER_CONTAINS, two_three, 1, false, false},
        {FILTER_CONTAINS_ANY, one_three, 2, true, false},
        {FILTER_CONTAINS_ANY, two_three, 2, true, false},
        {FILTER_CONTAINS_ANY, two_three, 1, false, false},
        {FILTER_CONTAINS_ANY, NULL, 0, false, false},
        {FILTER_CONTAINS_ALL, one_three, 2, true, false},
        {FILTER_CONTAINS_ALL, two_three, 2, false, false},
        {FILTER_CONTAINS_ALL, NULL, 0, true, true},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        f.op = table[i].op;
        f.values = table[i].values;
        f.value_count = table[i].count;
        assert_truth(f, v, (enum truth)(2 * table[i].filled));
        assert_truth(f, empty, (enum truth)(2 * table[i].empty));
    }
}

static void strings_are_searched_by_part_prefix_and_glob(void **state)
{
    (void)state;
    static const struct {
        enum filter_op op;
        const char *pattern, *text;
        bool expected;
    } table[] = {
        {FILTER_CONTAINS, "", "", true},        {FILTER_CONTAINS, "", "x", true},
        {FILTER_CONTAINS, "x", "", false},      {FILTER_CONTAINS, "bc", "abcd", true},
        {FILTER_CONTAINS, "bd", "abcd", false}, {FILTER_CONTAINS, "B", "abcd", false},
        {FILTER_PREFIX, "", "", true},          {FILTER_PREFIX, "ab", "abc", true},
        {FILTER_PREFIX, "abc", "ab", false},    {FILTER_PREFIX, "b", "ab", false},
        {FILTER_GLOB, "a*c", "abc", true},      {FILTER_GLOB, "a*", "bac", false},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        union scalar pattern = {.s = slice_str(table[i].pattern)};
        struct value v = {.one = {.s = slice_str(table[i].text)}};
        struct filter f = {.op = table[i].op,
                           .type = ATTR_STRING,
                           .values = &pattern,
                           .value_count = 1};
        assert_truth(f, v, (enum truth)(2 * table[i].expected));

        /* On an array any item will do; contains asks for a whole item. */
        union scalar items[] = {{.s = slice_str("\x01")}, v.one};
        struct value many = {.count = 2, .items = items};
        f.array = true;
        bool whole = strcmp(table[i].pattern, table[i].text) == 0;
        bool expected = f.op == FILTER_CONTAINS ? whole
                        : pattern.s.size == 0   ? true
                                                : table[i].expected;
        assert_truth(f, many, (enum truth)(2 * expected));
    }
}

/* ---- and, or, not ---- */

static void and_or_not_follow_kleene(void **state)
{
    (void)state;
    union scalar one = {.i = 1}, two = {.i = 2};
    struct value values[] = {{.one = {.i = 1}}, VALUE_NULL};
    struct attr attrs[] = {{.name = "a", .type = ATTR_INT},
                           {.name = "b", .type = ATTR_INT}};
    struct schema *schema = schema_new(0, METRIC_L2, attrs, 2);
    struct doc d = {.id = number_id(1), .values = values};
    /* By truth: false, unknown, true. */
    struct filter leaves[] = {
        {.op = FILTER_EQ,
         .attr = 0,
         .type = ATTR_INT,
         .values = &two,
         .value_count = 1},
        {.op = FILTER_EQ,
         .attr = 1,
         .type = ATTR_INT,
         .values = &one,
         .value_count = 1},
        {.op = FILTER_EQ,
         .attr = 0,
         .type = ATTR_INT,
         .values = &one,
         .value_count = 1},
    };
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            for (int op = FILTER_AND; op <= FILTER_OR; op++) {
                struct filter *children[] = {&leaves[a], &leaves[b]};
                struct filter both = {.op = (enum filter_op)op,
                                      .children = children,
                                      .child_count = 2};
                struct filter *child = &both;
                struct filter not = {.op = FILTER_NOT,
                                     .children = &child,
                                     .child_count = 1};
                int least = a < b ? a : b, most = a < b ? b : a;
                int expected = op == FILTER_AND ? least : most;
                assert_int_equal(filter_matches(&both, schema, &d),
                                 expected == TRUTH_TRUE);
                assert_int_equal(filter_matches(&not, schema, &d),
                                 expected == TRUTH_FALSE);
            }
    struct filter empty = {.op = FILTER_AND};
    assert_true(filter_matches(&empty, schema, &d));
    empty.op = FILTER_OR;
    assert_false(filter_matches(&empty, schema, &d));
    schema_unref(schema);
}

/* ---- ids ---- */

static void ids_are_compared_within_their_kind(void **state)
{
    (void)state;
    struct doc_id numbers[] = {number_id(5), number_id(9)};
    struct doc_id strings[] = {string_id("b"), string_id("d")};
    const struct {
        enum filter_op op;
        const struct doc_id *ids;
        size_t count;
        struct doc_id id;
        bool expected;
    } table[] = {
        {FILTER_EQ, numbers, 1, number_id(5), true},
        {FILTER_EQ, numbers, 1, number_id(9), false},
        {FILTER_EQ, numbers, 0, number_id(5), false},
        {FILTER_EQ, numbers, 1, string_id("5"), false},
        {FILTER_NE, numbers, 1, number_id(5), false},
        {FILTER_NE, numbers, 1, string_id("5"), true},
        {FILTER_IN, numbers, 2, number_id(9), true},
        {FILTER_IN, numbers, 2, number_id(7), false},
        {FILTER_NOT_IN, numbers, 2, number_id(9), false},
        {FILTER_NOT_IN, numbers, 0, number_id(9), true},
        {FILTER_GT, numbers, 1, number_id(6), true},
        {FILTER_GT, numbers, 1, number_id(5), false},
        {FILTER_GTE, numbers, 1, number_id(5), true},
        {FILTER_LT, numbers, 1, number_id(4), true},
        {FILTER_LTE, numbers, 1, number_id(6), false},
        {FILTER_LTE, numbers, 1, string_id("1"), false},
        {FILTER_GT, strings, 1, string_id("ba"), true},
        {FILTER_LT, strings, 1, string_id("ba"), false},
        {FILTER_IN, strings, 2, string_id("d"), true},
        {FILTER_PREFIX, strings, 1, string_id("bcd"), true},
        {FILTER_PREFIX, strings, 1, string_id("cb"), false},
        {FILTER_PREFIX, strings, 1, number_id(1), false},
    };
    struct schema *schema = schema_new(0, METRIC_L2, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct filter f = {.op = table[i].op,
                           .attr = FILTER_ATTR_ID,
                           .ids = table[i].ids,
                           .id_count = table[i].count};
        struct doc d = {.id = table[i].id};
        if (filter_matches(&f, schema, &d) != table[i].expected)
            fail_msg("case %zu", i);
    }
    schema_unref(schema);
}

/* ---- glob ---- */

static void globs_match_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool expected;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"abc", "abc", true},
        {"abc", "ab", false},
        {"ab", "abc", false},
        {"a", "A", false},
        {"*", "", true},
        {"*", "anything", true},
        {"**", "", true},
        {"a*", "a", true},
        {"*a", "ba", true},
        {"*a", "ab", false},
        {"a*b*c", "a1b2c", true},
        {"a*b*c", "a1c2b", false},
        {"*ab", "aab", true},
        {"*aab", "aaaab", true},
        {"*a*a*", "a", false},
        {"*.txt", "a.txt.txt", true},
        {"*.txt", "a.txt.tx", false},
        {"?", "", false},
        {"?", "a", true},
        {"?", "ab", false},
        {"??", "ab", true},
        {"?", "ü", true},
        {"??", "ü", false},
        {"?", "€", true},
        {"?", "😀", true},
        {"*?", "ü", true},
        {"*??", "ü", false},
        {"?*", "", false},
        {"a?c", "aüc", true},
        {"[abc]", "b", true},
        {"[abc]", "d", false},
        {"[abc]", "", false},
        {"[abc]", "ab", false},
        {"[a-c]", "b", true},
        {"[a-c]", "d", false},
        {"[!a-c]", "d", true},
        {"[!a-c]", "b", false},
        {"[!a-c]", "", false},
        {"[!a]", "ü", true},
        {"[ä-ü]", "ö", true},
        {"[ä-ü]", "z", false},
        {"[a-]", "-", true},
        {"[a-]", "b", false},
        {"[-a]", "-", true},
        {"[a-c-e]", "-", true},
        {"[a-c-e]", "d", false},
        {"[\\]]", "]", true},
        {"[\\!a]", "!", true},
        {"[a!]", "!", true},
        {"[\\-z]", "-", true},
        {"[\\a-c]", "b", true},
        {"[*?]", "*", true},
        {"[*?]", "x", false},
        {"[[]", "[", true},
        {"]", "]", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"\\?", "?", true},
        {"\\[a]", "[a]", true},
        {"\\\\", "\\", true},
        {"\\ü", "ü", true},
        {"*[0-9]?", "ab7ü", true},
        {"*[0-9]?", "ab7", false},
        {"-", "-", true},
        {"!", "!", true},
        {"ü*", "üx", true},
        {"[!!]", "!", false},
        {"[!!]", "a", true},
        {"a*[!x]", "ax", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice pattern = slice_str(cases[i].pattern);
        if (glob_check(pattern)) fail_msg("%s is refused", cases[i].pattern);
        if (glob_match(pattern, slice_str(cases[i].text)) != cases[i].expected)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
    }
}

static void bad_globs_are_named_and_match_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
    } cases[] = {
        {"[", "["},     {"[a", "a"},   {"a[", "a"},      {"*[", "x"},
        {"[!", "x"},    {"\\", "\\"},  {"\\", ""},       {"a\\", "a"},
        {"a\\", "a\\"}, {"*\\", ""},   {"[\\", "x"},     {"[a-", "a"},
        {"[a-\\", "a"}, {"[]", "a"},   {"[]a]", "a"},    {"[!]", "a"},
        {"[c-a]", "b"}, {"[\\]", "]"}, {"*[a", "a"},     {"[c-a]*", ""},
        {"x[c-a]", ""}, {"*a[", "a["}, {"[a-b", "a-b["},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice pattern = slice_str(cases[i].pattern);
        if (!glob_check(pattern)) fail_msg("%s is taken", cases[i].pattern);
        if (glob_match(pattern, slice_str(cases[i].text)))
            fail_msg("%s", cases[i].pattern);
    }
}

/* The textbook definition: exponential, and too simple to be wrong. */
static bool naive_glob(const char *p, const char *t)
{
    if (*p == '\0') return *t == '\0';
    if (*p == '*') return naive_glob(p + 1, t) || (*t && naive_glob(p, t + 1));
    if (*t == '\0') return false;
    if (*p == '[') {
        bool hit = (p[1] == '!') != (strchr("ab", *t) != NULL);
        return hit && naive_glob(strchr(p, ']') + 1, t + 1);
    }
    return (*p == '?' || *p == *t) && naive_glob(p + 1, t + 1);
}

static void random_globs_match_as_the_definition_says(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", "*", "?", "[ab]", "[!ab]", "*"};
    uint64_t rng = test_seed();
    for (int round = 0; round < 50000; round++) {
        char pattern[64] = "", text[16] = "";
        for (uint32_t n = random_index(&rng, 8); n > 0; n--)
            strcat(pattern, pieces[random_index(&rng, COUNT_OF(pieces))]);
        for (uint32_t n = random_index(&rng, 10); n > 0; n--)
            strcat(text, pieces[random_index(&rng, 3)]);
        if (glob_match(slice_str(pattern), slice_str(text)) !=
            naive_glob(pattern, text))
            fail_msg("%s on %s", pattern, text);
    }
}

static void any_bytes_are_a_pattern_and_a_text(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {'*', '?', '[',  ']',  '!',  '-',  '\\',
                                    'a', 0,   0xc3, 0xbc, 0xff, 0xe2, 0x80};
    uint64_t rng = test_seed();
    for (int round = 0; round < 100000; round++) {
        size_t pattern_size = random_index(&rng, 8), text_size = random_index(&rng, 8);
        uint8_t *pattern = mem_alloc(pattern_size), *text = mem_alloc(text_size);
        for (size_t i = 0; i < pattern_size; i++)
            pattern[i] = bytes[random_index(&rng, sizeof bytes)];
        for (size_t i = 0; i < text_size; i++)
            text[i] = bytes[random_index(&rng, sizeof bytes)];
        bool hit =
            glob_match(slice_of(pattern, pattern_size), slice_of(text, text_size));
        if (hit) assert_null(glob_check(slice_of(pattern, pattern_size)));
        mem_free(pattern);
        mem_free(text);
    }
}

/* Exponential matchers would need longer than the universe has been there. */
static void many_stars_cost_no_more_than_text_times_pattern(void **state)
{
    (void)state;
    char pattern[201], text[20001];
    for (size_t i = 0; i + 1 < sizeof pattern; i += 2)
        memcpy(pattern + i, "a*", 2);
    pattern[199] = 'b';
    pattern[200] = '\0';
    memset(text, 'a', sizeof text - 1);
    text[20000] = '\0';
    assert_false(glob_match(slice_str(pattern), slice_str(text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operator_names_read_back),
        cmocka_unit_test(operators_are_allowed_as_the_table_says),
        cmocka_unit_test(comparisons_hold_on_every_scalar_type),
        cmocka_unit_test(minus_zero_equals_zero),
        cmocka_unit_test(null_follows_the_rules_of_the_header),
        cmocka_unit_test(conditions_about_null_alone_tell_what_is_there),
        cmocka_unit_test(lists_are_searched_whole),
        cmocka_unit_test(arrays_contain_one_any_or_all),
        cmocka_unit_test(strings_are_searched_by_part_prefix_and_glob),
        cmocka_unit_test(and_or_not_follow_kleene),
        cmocka_unit_test(ids_are_compared_within_their_kind),
        cmocka_unit_test(globs_match_as_documented),
        cmocka_unit_test(bad_globs_are_named_and_match_nothing),
        cmocka_unit_test(random_globs_match_as_the_definition_says),
        cmocka_unit_test(any_bytes_are_a_pattern_and_a_text),
        cmocka_unit_test(many_stars_cost_no_more_than_text_times_pattern),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
