#include "doc/batch.h"

#include "base/codec.h"
#include "base/op.h"
#include "unit/doc_bytes.h"
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

/* Stored bytes are the simplest way to compare documents. */
static void assert_docs_equal(const struct doc *a, const struct doc *b,
                              const struct schema *schema)
{
    struct buf one = BUF_INIT, two = BUF_INIT;
    doc_encode(a, schema, &one);
    doc_encode(b, schema, &two);
    assert_true(slice_equal(buf_slice(&one), buf_slice(&two)));
    buf_release(&one);
    buf_release(&two);
}

static void assert_batches_equal(const struct batch *a, const struct batch *b,
                                 const struct schema *schema)
{
    assert_int_equal(a->doc_count, b->doc_count);
    assert_int_equal(a->delete_count, b->delete_count);
    for (size_t i = 0; i < a->doc_count; i++)
        assert_docs_equal(&a->docs[i], &b->docs[i], schema);
    for (size_t i = 0; i < a->delete_count; i++)
        assert_int_equal(doc_id_compare(&a->deletes[i], &b->deletes[i]), 0);
}

/* ---- ids ---- */

static void the_last_of_several_documents_stays_and_order_is_kept(void **state)
{
    (void)state;
    static const uint64_t ids[] = {1, 2, 1, 3, 2, 4};
    struct doc docs[COUNT_OF(ids)];
    float vectors[COUNT_OF(ids)];
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        docs[i] = (struct doc){.id = number_id(ids[i]), .vector = &vectors[i]};
    struct batch b = {.docs = docs, .doc_count = COUNT_OF(docs)};
    assert_int_equal(batch_unique(&op, &b), ERR_OK);
    static const size_t kept[] = {2, 3, 4, 5};
    assert_int_equal(b.doc_count, COUNT_OF(kept));
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        assert_true(b.docs[i].id.u64 == ids[kept[i]]);
        assert_ptr_equal(b.docs[i].vector, &vectors[kept[i]]);
    }
}

static void a_document_wins_over_a_delete_of_its_id(void **state)
{
    (void)state;
    struct doc docs[] = {{.id = string_id("a")}, {.id = string_id("b")}};
    struct doc_id deletes[] = {string_id("c"), string_id("a"), string_id("c"),
                               string_id("d")};
    struct batch b = {docs, 2, deletes, 4, NULL};
    assert_int_equal(batch_unique(&op, &b), ERR_OK);
    assert_int_equal(b.doc_count, 2);
    assert_int_equal(b.delete_count, 2);
    assert_true(slice_equal(b.deletes[0].string, slice_str("c")));
    assert_true(slice_equal(b.deletes[1].string, slice_str("d")));
}

static void an_empty_batch_is_unique_and_of_no_kind(void **state)
{
    (void)state;
    struct batch b = {.docs = NULL};
    enum id_kind kind = ID_U64;
    assert_int_equal(batch_unique(&op, &b), ERR_OK);
    assert_int_equal(batch_id_kind(&op, &b, &kind), ERR_OK);
    assert_int_equal(kind, ID_NONE);
}

static void random_ids_are_made_unique_like_a_double_loop_does(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 500; round++) {
        struct doc docs[60];
        size_t count = random_index(&rng, 60), kept = 0;
        struct doc expected[60];
        char names[60][4];
        bool strings = random_index(&rng, 2);
        for (size_t i = 0; i < count; i++) {
            uint32_t n = random_index(&rng, 30);
            (void)snprintf(names[i], 4, "%u", n);
            docs[i] = (struct doc){.id = strings ? string_id(names[i]) : number_id(n)};
            docs[i].vector = (const float *)&docs[i];
        }
        for (size_t i = 0; i < count; i++) {
            bool again = false;
            for (size_t j = i + 1; j < count; j++)
                again |= doc_id_compare(&docs[i].id, &docs[j].id) == 0;
            if (!again) expected[kept++] = docs[i];
        }
        struct batch b = {.docs = docs, .doc_count = count};
        assert_int_equal(batch_unique(&op, &b), ERR_OK);
        assert_int_equal(b.doc_count, kept);
        for (size_t i = 0; i < kept; i++)
            assert_ptr_equal(b.docs[i].vector, expected[i].vector);
    }
}

static void mixed_ids_are_refused_by_name(void **state)
{
    (void)state;
    struct doc docs[] = {{.id = number_id(7)}, {.id = number_id(8)}};
    struct doc_id deletes[] = {number_id(9), string_id("x")};
    struct batch b = {docs, 2, deletes, 1, NULL};
    enum id_kind kind = ID_NONE;
    assert_int_equal(batch_id_kind(&op, &b, &kind), ERR_OK);
    assert_int_equal(kind, ID_U64);
    b.delete_count = 2;
    op_clear_error(&op);
    assert_int_equal(batch_id_kind(&op, &b, &kind), ERR_INVALID);
    assert_non_null(strstr(op.error, "delete 1 has the id \"x\""));
    docs[1].id = string_id("y");
    op_clear_error(&op);
    assert_int_equal(batch_id_kind(&op, &b, &kind), ERR_INVALID);
    assert_non_null(strstr(op.error, "document 1 has the id \"y\""));
}

/* ---- stored form ---- */

static struct batch random_batch(uint64_t *rng, const struct schema *schema)
{
    struct batch b = {.doc_count = random_index(rng, 5),
                      .delete_count = random_index(rng, 4)};
    bool strings = random_index(rng, 2);
    b.docs = op_new_array(&op, struct doc, b.doc_count);
    b.deletes = op_new_array(&op, struct doc_id, b.delete_count);
    for (size_t i = 0; i < b.doc_count + b.delete_count; i++) {
        struct doc_id id =
            strings ? string_id(op_printf(&op, "id %zu", i)) : number_id(i * i);
        if (i < b.doc_count)
            b.docs[i] = random_doc(&op, rng, id, schema);
        else
            b.deletes[i - b.doc_count] = id;
    }
    return b;
}

static void batches_read_back_from_any_alignment(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 500; round++) {
        struct schema *s =
            random_schema(&rng, random_index(&rng, 5), random_index(&rng, 6));
        struct batch b = random_batch(&rng, s), back;
        struct buf bytes = BUF_INIT;
        size_t shift = random_index(&rng, 9);
        buf_append_zeros(&bytes, shift);
        batch_encode(&b, s, &bytes);
        struct slice stored = slice_of(bytes.data + shift, bytes.size - shift);
        assert_int_equal(batch_decode(&op, stored, s, &back), ERR_OK);
        assert_batches_equal(&b, &back, s);
        assert_null(back.schema);
        for (size_t i = 0; i < back.doc_count; i++)
            assert_int_equal((uintptr_t)back.docs[i].vector % _Alignof(float), 0);
        buf_release(&bytes);
        schema_unref(s);
    }
}

static void vectors_are_borrowed_where_they_lie_aligned(void **state)
{
    (void)state;
    struct schema *s = schema_new(2, METRIC_L2, NULL, 0);
    static const float vector[] = {1.5F, -0.0F};
    struct doc d = {.id = number_id(1), .vector = vector};
    struct batch b = {.docs = &d, .doc_count = 1}, back;
    struct buf bytes = BUF_INIT;
    batch_encode(&b, s, &bytes);
    assert_int_equal(batch_decode(&op, buf_slice(&bytes), s, &back), ERR_OK);
    assert_ptr_equal(back.docs[0].vector, bytes.data + 24);
    assert_memory_equal(back.docs[0].vector, vector, sizeof vector);
    buf_release(&bytes);
    schema_unref(s);
}

static void damaged_batches_are_corrupt_or_harmless(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 60; round++) {
        struct schema *s =
            random_schema(&rng, random_index(&rng, 5), random_index(&rng, 6));
        struct op inner;
        op_init(&inner, OP_NO_DEADLINE, 0);
        struct batch b = random_batch(&rng, s), back;
        if (random_index(&rng, 2)) b.schema = s;
        struct buf bytes = BUF_INIT;
        batch_encode(&b, s, &bytes);
        for (size_t size = 0; size < bytes.size; size++) {
            uint8_t *cut = mem_dup(bytes.data, size);
            assert_int_equal(batch_decode(&inner, slice_of(cut, size), s, &back),
                             ERR_CORRUPT);
            mem_free(cut);
        }
        put_u8(&bytes, 0);
        assert_int_equal(batch_decode(&inner, buf_slice(&bytes), s, &back),
                         ERR_CORRUPT);
        bytes.size--;
        for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
            bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum err e = batch_decode(&inner, buf_slice(&bytes), s, &back);
            assert_true(e == ERR_OK || e == ERR_CORRUPT);
            if (!e) schema_unref(back.schema);
            bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        buf_release(&bytes);
        op_release(&inner);
        schema_unref(s);
    }
}

static void vectors_and_the_documents_that_have_one_must_agree(void **state)
{
    (void)state;
    struct schema *s = schema_new(1, METRIC_L2, NULL, 0);
    static const float number = 1;
    for (uint8_t has_vector = 0; has_vector < 2; has_vector++) {
        struct doc d = {.id = number_id(5), .vector = has_vector ? &number : NULL};
        struct batch b = {.docs = &d, .doc_count = 1}, back;
        struct buf bytes = BUF_INIT;
        batch_encode(&b, s, &bytes);
        assert_int_equal(batch_decode(&op, buf_slice(&bytes), s, &back), ERR_OK);
        assert_int_equal(bytes.data[bytes.size - 1], has_vector);
        bytes.data[bytes.size - 1] ^= 1;
        assert_int_equal(batch_decode(&op, buf_slice(&bytes), s, &back), ERR_CORRUPT);
        buf_release(&bytes);
    }
    schema_unref(s);
}

static void stored_batches_keep_what_the_engine_relies_on(void **state)
{
    (void)state;
    struct schema *s = schema_new(1, METRIC_L2, NULL, 0);
    static const float number = 1, nan = __builtin_nanf(""),
                       infinity = -__builtin_inff();
    struct doc twice[] = {{.id = number_id(5), .vector = &number},
                          {.id = number_id(5)}};
    struct doc mixed[] = {{.id = number_id(5)}, {.id = string_id("5")}};
    struct doc not_a_number = {.id = number_id(5), .vector = &nan};
    struct doc infinite = {.id = number_id(5), .vector = &infinity};
    struct doc_id same = number_id(5);
    struct batch cases[] = {{.docs = twice, .doc_count = 2},
                            {.docs = mixed, .doc_count = 2},
                            {.docs = &not_a_number, .doc_count = 1},
                            {.docs = &infinite, .doc_count = 1},
                            {.docs = twice, .doc_count = 1, .deletes = &same, 1, NULL}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf bytes = BUF_INIT;
        struct batch back;
        batch_encode(&cases[i], s, &bytes);
        assert_int_equal(batch_decode(&op, buf_slice(&bytes), s, &back), ERR_CORRUPT);
        buf_release(&bytes);
    }
    schema_unref(s);
}

static void a_batch_that_widens_the_schema_is_read_under_the_wider_one(void **state)
{
    (void)state;
    struct attr attrs[] = {{.name = "a", .type = ATTR_INT},
                           {.name = "b", .type = ATTR_BOOL}};
    struct schema *narrow = schema_new(0, METRIC_L2, attrs, 1);
    struct schema *wide = schema_new(0, METRIC_L2, attrs, 2);
    struct value values[] = {{.one = {.i = 4}}, {.one = {.b = true}}};
    struct doc d = {.id = number_id(1), .values = values};
    struct batch b = {.docs = &d, .doc_count = 1, .schema = wide}, back;
    struct buf bytes = BUF_INIT;
    batch_encode(&b, wide, &bytes);
    assert_int_equal(batch_decode(&op, buf_slice(&bytes), narrow, &back), ERR_OK);
    assert_true(schema_equal(back.schema, wide));
    assert_batches_equal(&b, &back, wide);
    schema_unref(back.schema);

    /* Replayed when the namespace has them already. */
    assert_int_equal(batch_decode(&op, buf_slice(&bytes), wide, &back), ERR_OK);
    assert_batches_equal(&b, &back, wide);
    schema_unref(back.schema);
    buf_release(&bytes);
    schema_unref(narrow);
    schema_unref(wide);
}

static void values_stored_under_fewer_attributes_are_null_in_later_ones(void **state)
{
    (void)state;
    struct attr attrs[] = {{.name = "a", .type = ATTR_INT},
                           {.name = "b", .type = ATTR_BOOL}};
    struct schema *narrow = schema_new(0, METRIC_L2, attrs, 1);
    struct schema *wide = schema_new(0, METRIC_L2, attrs, 2);
    struct value value = {.one = {.i = 4}};
    struct doc d = {.id = number_id(1), .values = &value};
    struct batch b = {.docs = &d, .doc_count = 1}, back;
    struct buf bytes = BUF_INIT;
    batch_encode(&b, narrow, &bytes);
    assert_int_equal(batch_decode(&op, buf_slice(&bytes), wide, &back), ERR_OK);
    assert_true(back.docs[0].values[0].one.i == 4);
    assert_true(back.docs[0].values[1].null);

    /* The other way round cannot be. */
    struct value values[] = {value, VALUE_NULL};
    d.values = values;
    buf_clear(&bytes);
    batch_encode(&b, wide, &bytes);
    assert_int_equal(batch_decode(&op, buf_slice(&bytes), narrow, &back), ERR_CORRUPT);
    buf_release(&bytes);
    schema_unref(narrow);
    schema_unref(wide);
}

static void a_batch_beyond_the_memory_of_its_op_is_a_limit(void **state)
{
    (void)state;
    struct schema *s = schema_new(0, METRIC_L2, NULL, 0);
    struct doc docs[1000];
    for (size_t i = 0; i < COUNT_OF(docs); i++)
        docs[i] = (struct doc){.id = number_id(i)};
    struct batch b = {.docs = docs, .doc_count = COUNT_OF(docs)}, back;
    struct buf bytes = BUF_INIT;
    batch_encode(&b, s, &bytes);
    struct op small;
    op_init(&small, OP_NO_DEADLINE, 20000);
    assert_int_equal(batch_decode(&small, buf_slice(&bytes), s, &back), ERR_LIMIT);
    assert_int_equal(batch_unique(&small, &b), ERR_LIMIT);
    op_release(&small);
    buf_release(&bytes);
    schema_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_several_documents_stays_and_order_is_kept),
        cmocka_unit_test(a_document_wins_over_a_delete_of_its_id),
        cmocka_unit_test(an_empty_batch_is_unique_and_of_no_kind),
        cmocka_unit_test(random_ids_are_made_unique_like_a_double_loop_does),
        cmocka_unit_test(mixed_ids_are_refused_by_name),
        cmocka_unit_test(batches_read_back_from_any_alignment),
        cmocka_unit_test(vectors_are_borrowed_where_they_lie_aligned),
        cmocka_unit_test(damaged_batches_are_corrupt_or_harmless),
        cmocka_unit_test(vectors_and_the_documents_that_have_one_must_agree),
        cmocka_unit_test(stored_batches_keep_what_the_engine_relies_on),
        cmocka_unit_test(a_batch_that_widens_the_schema_is_read_under_the_wider_one),
        cmocka_unit_test(values_stored_under_fewer_attributes_are_null_in_later_ones),
        cmocka_unit_test(a_batch_beyond_the_memory_of_its_op_is_a_limit),
    };
    return cmocka_run_group_tests_name("batch", tests, setup, teardown);
}
