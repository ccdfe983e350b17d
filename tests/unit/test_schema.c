#include "doc/schema.h"

#include "base/codec.h"
#include "base/op.h"
#include "unit/random_docs.h"
#include "unit/test.h"

static struct op op;

static int setup(void **state)
{
    (void)state;
    op_init(&op, OP_NO_DEADLINE, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    op_release(&op);
    return 0;
}

static struct attr plain(const char *name, enum attr_type type)
{
    return (struct attr){.name = name, .type = type};
}

static enum err check(uint32_t vector_dim, enum metric_kind metric,
                      const struct attr *attrs, uint32_t count)
{
    struct schema *s = schema_new(vector_dim, metric, attrs, count);
    op_clear_error(&op);
    enum err e = schema_check(&op, s);
    schema_unref(s);
    return e;
}

static enum err check_one(struct attr a)
{
    return check(3, METRIC_L2, &a, 1);
}

static void names_of_types_metrics_and_languages_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(all_types); i++)
        for (int array = 0; array < 2; array++) {
            enum attr_type type;
            bool is_array;
            const char *name = attr_type_name(all_types[i], array);
            assert_true(attr_type_parse(slice_str(name), &type, &is_array));
            assert_int_equal(type, all_types[i]);
            assert_int_equal(is_array, array);
            assert_int_equal(strncmp(name, "array_", 6) == 0, array);
        }
    for (int i = 1; i <= LANG_LAST; i++) {
        enum language language;
        assert_true(
            language_parse(slice_str(language_name((enum language)i)), &language));
        assert_int_equal(language, i);
    }
    for (int i = METRIC_COSINE; i <= METRIC_DOT; i++) {
        enum metric_kind metric;
        const char *name = metric_kind_name((enum metric_kind)i);
        assert_true(metric_kind_parse(slice_str(name), &metric));
        assert_int_equal(metric, i);
    }
    enum attr_type type;
    enum language language;
    enum metric_kind metric;
    bool array;
    assert_false(attr_type_parse(slice_str("String"), &type, &array));
    assert_false(attr_type_parse(slice_str("array_"), &type, &array));
    assert_false(attr_type_parse(SLICE_EMPTY, &type, &array));
    assert_false(language_parse(slice_str("klingon"), &language));
    assert_false(metric_kind_parse(slice_str("L2"), &metric));
}

static void a_schema_within_its_limits_passes(void **state)
{
    (void)state;
    char longest[ATTR_NAME_MAX + 1] = {0};
    memset(longest, 'n', ATTR_NAME_MAX);
    assert_int_equal(check(0, METRIC_COSINE, NULL, 0), ERR_OK);
    assert_int_equal(check(VECTOR_DIM_MAX, METRIC_DOT, NULL, 0), ERR_OK);
    assert_int_equal(check_one(plain(longest, ATTR_UUID)), ERR_OK);
    assert_int_equal(check_one(plain("Straße 5 \"é\"", ATTR_BOOL)), ERR_OK);
    struct attr text = plain("t", ATTR_STRING);
    text.full_text = true;
    text.analysis = ANALYSIS_DEFAULT;
    assert_int_equal(check_one(text), ERR_OK);
    text.array = true;
    assert_int_equal(check_one(text), ERR_OK);
    uint64_t rng = 1;
    struct schema *s = random_schema(&rng, 1, SCHEMA_ATTRS_MAX);
    assert_int_equal(schema_check(&op, s), ERR_OK);
    schema_unref(s);
}

static void assert_refused(enum err e, const char *words)
{
    assert_int_equal(e, ERR_INVALID);
    if (!strstr(op.error, words))
        fail_msg("\"%s\" does not say \"%s\"", op.error, words);
}

static void what_is_not_allowed_is_named(void **state)
{
    (void)state;
    char too_long[ATTR_NAME_MAX + 2] = {0};
    memset(too_long, 'n', ATTR_NAME_MAX + 1);
    assert_refused(check(VECTOR_DIM_MAX + 1, METRIC_L2, NULL, 0), "1 to 10752");
    assert_refused(check(3, (enum metric_kind)0, NULL, 0), "cosine, l2 or dot");
    assert_refused(check_one(plain("", ATTR_INT)), "1 to 128");
    assert_refused(check_one(plain(too_long, ATTR_INT)), "1 to 128");
    assert_refused(check_one(plain("id", ATTR_INT)), "reserved");
    assert_refused(check_one(plain("vector", ATTR_INT)), "reserved");
    assert_refused(check_one(plain("a\nb", ATTR_INT)), "control");
    assert_refused(check_one(plain("a\x7f", ATTR_INT)), "control");
    assert_refused(check_one(plain("a\xc2\x85", ATTR_INT)), "control");
    assert_refused(check_one(plain("a\xff", ATTR_INT)), "UTF-8");
    assert_refused(check_one(plain("year", (enum attr_type)0)), "\"year\"");
    assert_refused(check_one(plain("year", (enum attr_type)8)), "array_");

    struct attr text = plain("year", ATTR_INT);
    text.full_text = true;
    text.analysis = ANALYSIS_DEFAULT;
    assert_refused(check_one(text), "not on int");
    text.type = ATTR_STRING;
    text.analysis.language = (enum language)(LANG_LAST + 1);
    assert_refused(check_one(text), "turkish");

    struct attr twice[] = {plain("a", ATTR_INT), plain("b", ATTR_INT),
                           plain("a", ATTR_BOOL)};
    assert_refused(check(3, METRIC_L2, twice, 3), "\"a\" is declared twice");

    struct attr many[SCHEMA_ATTRS_MAX + 1];
    char names[SCHEMA_ATTRS_MAX + 1][8];
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        (void)snprintf(names[i], sizeof names[i], "n%zu", i);
        many[i] = plain(names[i], ATTR_INT);
    }
    assert_refused(check(3, METRIC_L2, many, SCHEMA_ATTRS_MAX + 1), "at most 256");
}

static void attributes_are_found_by_their_whole_name(void **state)
{
    (void)state;
    struct attr attrs[] = {plain("ab", ATTR_INT), plain("a", ATTR_INT)};
    struct schema *s = schema_new(0, METRIC_L2, attrs, 2);
    assert_int_equal(schema_find(s, slice_str("ab")), 0);
    assert_int_equal(schema_find(s, slice_str("a")), 1);
    assert_int_equal(schema_find(s, slice_str("abc")), -1);
    assert_int_equal(schema_find(s, SLICE_EMPTY), -1);
    schema_unref(s);
}

static void a_schema_lives_until_its_last_reference_goes(void **state)
{
    (void)state;
    char name[] = "name";
    struct attr a = plain(name, ATTR_INT);
    struct schema *s = schema_new(0, METRIC_L2, &a, 1);
    name[0] = 'x'; /* it owns a copy */
    assert_ptr_equal(schema_ref(s), s);
    schema_unref(s);
    assert_string_equal(s->attrs[0].name, "name");
    schema_unref(s);
    schema_unref(NULL);
}

/* ---- widening ---- */

struct extension {
    enum err e;
    bool same;
    bool is_current;
    uint32_t attr_count;
};

static struct extension extend(const struct schema *current,
                               const struct schema *wanted)
{
    struct schema *copy = schema_new(current->vector_dim, current->metric,
                                     current->attrs, current->attr_count);
    struct schema *out = NULL;
    struct extension x = {.e = ERR_OK};
    op_clear_error(&op);
    x.e = schema_extend(&op, copy, wanted, &x.same, &out);
    if (x.e) {
        assert_null(out);
    } else {
        x.is_current = out == copy;
        x.attr_count = out->attr_count;
        /* What was there keeps its number. */
        for (uint32_t i = 0; i < copy->attr_count; i++)
            assert_string_equal(out->attrs[i].name, copy->attrs[i].name);
        schema_unref(out);
    }
    schema_unref(copy);
    return x;
}

static void widening_keeps_adds_or_refuses(void **state)
{
    (void)state;
    struct attr attrs[] = {plain("a", ATTR_INT), plain("b", ATTR_STRING),
                           plain("c", ATTR_BOOL)};
    struct attr turned[] = {attrs[1], attrs[0]};
    struct attr mixed[] = {attrs[2], attrs[0]};
    struct schema *ab = schema_new(3, METRIC_L2, attrs, 2);
    struct schema *ba = schema_new(3, METRIC_L2, turned, 2);
    struct schema *ca = schema_new(3, METRIC_L2, mixed, 2);
    struct schema *abc = schema_new(3, METRIC_L2, attrs, 3);

    struct extension x = extend(ab, ba);
    assert_true(x.e == ERR_OK && x.same && x.is_current);
    x = extend(ab, abc);
    assert_true(x.e == ERR_OK && !x.same && !x.is_current && x.attr_count == 3);
    x = extend(ab, ca);
    assert_true(x.e == ERR_OK && !x.same && !x.is_current && x.attr_count == 3);
    x = extend(abc, ab);
    assert_true(x.e == ERR_OK && !x.same && x.is_current && x.attr_count == 3);
    schema_unref(ab);
    schema_unref(ba);
    schema_unref(ca);
    schema_unref(abc);
}

static void widening_names_what_it_would_change(void **state)
{
    (void)state;
    struct attr a = plain("a", ATTR_STRING);
    a.full_text = true;
    a.analysis = ANALYSIS_DEFAULT;
    struct schema *current = schema_new(3, METRIC_L2, &a, 1);
    struct attr changed[] = {a, a, a, a, a, a, a, a, a};
    static const char *const words[] = {
        "type",         "type",     "indexed",          "full_text",
        "language",     "stemming", "remove_stopwords", "case_sensitive",
        "ascii_folding"};
    changed[0].type = ATTR_INT;
    changed[1].array = true;
    changed[2].indexed = true;
    changed[3].full_text = false;
    changed[4].analysis.language = LANG_TAMIL;
    changed[5].analysis.stemming = false;
    changed[6].analysis.remove_stopwords = false;
    changed[7].analysis.case_sensitive = true;
    changed[8].analysis.ascii_folding = true;
    for (size_t i = 0; i < COUNT_OF(changed); i++) {
        struct schema *wanted = schema_new(3, METRIC_L2, &changed[i], 1);
        assert_int_equal(extend(current, wanted).e, ERR_CONFLICT);
        assert_non_null(strstr(op.error, "\"a\""));
        assert_non_null(strstr(op.error, words[i]));
        assert_false(schema_equal(current, wanted));
        schema_unref(wanted);
    }
    struct schema *longer = schema_new(4, METRIC_L2, &a, 1);
    assert_int_equal(extend(current, longer).e, ERR_CONFLICT);
    assert_non_null(strstr(op.error, "vector_dim is 3, not 4"));
    struct schema *other = schema_new(3, METRIC_DOT, &a, 1);
    assert_int_equal(extend(current, other).e, ERR_CONFLICT);
    assert_non_null(strstr(op.error, "vector_metric is l2, not dot"));
    schema_unref(longer);
    schema_unref(other);
    schema_unref(current);
}

static void a_namespace_has_at_most_256_attributes(void **state)
{
    (void)state;
    uint64_t rng = 1;
    struct schema *full = random_schema(&rng, 0, SCHEMA_ATTRS_MAX);
    struct attr a = plain("one more", ATTR_INT);
    struct schema *wanted = schema_new(0, full->metric, &a, 1);
    assert_int_equal(extend(full, wanted).e, ERR_INVALID);
    assert_non_null(strstr(op.error, "\"one more\""));
    schema_unref(wanted);
    schema_unref(full);
}

static void the_metric_counts_only_where_there_are_vectors(void **state)
{
    (void)state;
    struct schema *l2 = schema_new(0, METRIC_L2, NULL, 0);
    struct schema *dot = schema_new(0, METRIC_DOT, NULL, 0);
    assert_true(schema_equal(l2, dot));
    assert_true(extend(l2, dot).same);
    schema_unref(l2);
    schema_unref(dot);
}

/* ---- stored form ---- */

static enum err decode(struct slice bytes, struct schema **out)
{
    struct reader r = reader_of(bytes);
    op_clear_error(&op);
    enum err e = schema_decode(&op, &r, out);
    if (!e && !reader_done(&r)) {
        schema_unref(*out);
        return ERR_CORRUPT;
    }
    return e;
}

static void schemas_read_back_and_damage_is_noticed_or_harmless(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 200; round++) {
        struct schema *s =
            random_schema(&rng, random_index(&rng, 3) * 5376, random_index(&rng, 12));
        struct schema *back = NULL;
        struct buf b = BUF_INIT;
        schema_encode(s, &b);
        assert_int_equal(decode(buf_slice(&b), &back), ERR_OK);
        assert_true(schema_equal(s, back));
        schema_unref(back);
        for (size_t size = 0; size < b.size; size++) {
            uint8_t *cut = mem_dup(b.data, size);
            assert_int_equal(decode(slice_of(cut, size), &back), ERR_CORRUPT);
            mem_free(cut);
        }
        for (size_t bit = 0; bit < 8 * b.size; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum err e = decode(buf_slice(&b), &back);
            assert_true(e == ERR_OK || e == ERR_CORRUPT);
            if (!e) {
                struct buf again = BUF_INIT; /* what it took, it took as it stands */
                assert_int_equal(schema_check(&op, back), ERR_OK);
                schema_encode(back, &again);
                assert_true(slice_equal(buf_slice(&again), buf_slice(&b)));
                buf_release(&again);
                schema_unref(back);
            }
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        buf_release(&b);
        schema_unref(s);
    }
}

/* Version 1, for ever. */
static void the_stored_form_of_version_1_is_this(void **state)
{
    (void)state;
    static const char bytes[] = "\x01\x02\x80\x06\x02"
                                "\x04year\x02\x02"
                                "\x04tags\x01\x05\x04\x05";
    struct attr attrs[] = {plain("year", ATTR_INT), plain("tags", ATTR_STRING)};
    attrs[0].indexed = true;
    attrs[1].array = true;
    attrs[1].full_text = true;
    attrs[1].analysis = (struct analysis){LANG_ENGLISH, true, false, true, false};
    struct schema *s = schema_new(768, METRIC_L2, attrs, 2), *back = NULL;
    struct buf b = BUF_INIT;
    schema_encode(s, &b);
    assert_int_equal(b.size, sizeof bytes - 1);
    assert_memory_equal(b.data, bytes, b.size);
    assert_int_equal(decode(buf_slice(&b), &back), ERR_OK);
    assert_true(schema_equal(s, back));
    schema_unref(back);
    schema_unref(s);
    buf_release(&b);
}

static void a_stored_name_that_no_request_could_bring_is_corrupt(void **state)
{
    (void)state;
    static const char *const names[] = {"ye\0r", "\0ear", "id\0\0",
                                        "y\xff"
                                        "ar",
                                        "ye\nr"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char bytes[] = "\x01\x02\x80\x06\x01"
                       "\x04year\x02\x02";
        struct schema *back = NULL;
        assert_int_equal(decode(slice_of(bytes, sizeof bytes - 1), &back), ERR_OK);
        schema_unref(back);
        memcpy(bytes + 6, names[i], 4);
        assert_int_equal(decode(slice_of(bytes, sizeof bytes - 1), &back), ERR_CORRUPT);
    }
}

static void a_schema_continues_what_it_grew_from_and_nothing_else(void **state)
{
    (void)state;
    static const struct attr attrs[] = {{.name = "a", .type = ATTR_INT},
                                        {.name = "b", .type = ATTR_INT}};
    static const struct attr typed = {.name = "a", .type = ATTR_STRING};
    struct schema *none = schema_new(3, METRIC_L2, NULL, 0);
    struct schema *a = schema_new(3, METRIC_L2, attrs, 1);
    struct schema *ab = schema_new(3, METRIC_L2, attrs, 2);
    struct schema *others[] = {schema_new(3, METRIC_L2, attrs + 1, 1),
                               schema_new(4, METRIC_L2, attrs, 1),
                               schema_new(3, METRIC_DOT, attrs, 1),
                               schema_new(3, METRIC_L2, &typed, 1)};
    assert_true(schema_continues(ab, ab));
    assert_true(schema_continues(ab, a));
    assert_true(schema_continues(ab, none));
    assert_false(schema_continues(a, ab));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(schema_continues(ab, others[i]));
        schema_unref(others[i]);
    }
    schema_unref(none);
    schema_unref(a);
    schema_unref(ab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_types_metrics_and_languages_read_back),
        cmocka_unit_test(a_schema_within_its_limits_passes),
        cmocka_unit_test(a_schema_continues_what_it_grew_from_and_nothing_else),
        cmocka_unit_test(what_is_not_allowed_is_named),
        cmocka_unit_test(attributes_are_found_by_their_whole_name),
        cmocka_unit_test(a_schema_lives_until_its_last_reference_goes),
        cmocka_unit_test(widening_keeps_adds_or_refuses),
        cmocka_unit_test(widening_names_what_it_would_change),
        cmocka_unit_test(a_namespace_has_at_most_256_attributes),
        cmocka_unit_test(the_metric_counts_only_where_there_are_vectors),
        cmocka_unit_test(schemas_read_back_and_damage_is_noticed_or_harmless),
        cmocka_unit_test(the_stored_form_of_version_1_is_this),
        cmocka_unit_test(a_stored_name_that_no_request_could_bring_is_corrupt),
    };
    return cmocka_run_group_tests_name("schema", tests, setup, teardown);
}
