/* The formats of ns/ and doc/, version 1, byte for byte. Run from the repository's
 * root. */
#include "unit/golden.h"

#include "base/codec.h"
#include "base/op.h"
#include "base/rowset.h"
#include "doc/batch.h"
#include "ns/catalog.h"
#include "ns/idempotency.h"
#include "ns/manifest.h"
#include "ns/wal.h"
#include "segment/segment_stats.h"

static const uint8_t incarnation[16] = {1, 2,  3,  4,  5,  6,  7,  8,
                                        9, 10, 11, 12, 13, 14, 15, 16};

static struct keys golden_keys(void)
{
    struct keys keys;
    keys_init(&keys, "production", "books", incarnation);
    return keys;
}

static struct schema *golden_schema(void)
{
    static const struct attr attrs[] = {
        {.name = "title",
         .type = ATTR_STRING,
         .full_text = true,
         .analysis = {LANG_GERMAN, true, false, true, false}},
        {.name = "year", .type = ATTR_INT, .indexed = true},
        {.name = "tags", .type = ATTR_STRING, .array = true},
        {.name = "seen", .type = ATTR_DATETIME},
        {.name = "key", .type = ATTR_UUID},
        {.name = "price", .type = ATTR_FLOAT},
        {.name = "stock", .type = ATTR_UINT},
        {.name = "open", .type = ATTR_BOOL},
    };
    return schema_new(3, METRIC_COSINE, attrs, COUNT_OF(attrs));
}

static struct buf golden_batch(struct schema *schema)
{
    static const float vector[3] = {1.5f, -2.25f, 0.125f};
    static const union scalar tags[] = {{.s = {(const uint8_t *)"a", 1}},
                                        {.s = {(const uint8_t *)"b\xc3\xbc", 3}}};
    static const struct value values[8] = {
        {.one.s = {(const uint8_t *)"Der Name", 8}},
        {.one.i = -1980},
        {.count = 2, .items = tags},
        {.one.i = 1795370786000001},
        {.one.uuid = {0x12, 0x34, 0x56}},
        {.one.f = 12.5},
        {.one.u = UINT64_MAX},
        {.null = true},
    };
    struct doc doc = {.id = {.kind = ID_STRING, .string = SLICE_LITERAL("doc-1")},
                      .vector = vector,
                      .values = values};
    struct doc_id gone = {.kind = ID_STRING, .string = SLICE_LITERAL("doc-2")};
    struct batch batch = {.docs = &doc,
                          .doc_count = 1,
                          .deletes = &gone,
                          .delete_count = 1};
    struct buf out = BUF_INIT;
    batch_encode(&batch, schema, &out);
    return out;
}

static void log_entries_of_version_1_stay_readable(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct keys keys = golden_keys();
    struct schema *schema = golden_schema();
    struct buf batch = golden_batch(schema), bytes = BUF_INIT;
    struct wal_request request = {.batch = buf_slice(&batch),
                                  .idempotency_key = SLICE_LITERAL("key-1"),
                                  .digest = {7, 7, 7}};
    struct wal_entry in = {.kind = OBJECT_DATA,
                           .slot = 5,
                           .epoch = 2,
                           .put_id = {{1}},
                           .prev = {{2}},
                           .wall_ms = 1795370786000,
                           .requests = &request,
                           .request_count = 1};
    struct wal_entry out;
    struct batch decoded;

    wal_entry_encode(&in, incarnation, &bytes);
    struct buf file = golden_expect("log-data-v1.bin", buf_slice(&bytes));
    assert_int_equal(wal_entry_decode(&op, &keys, 5, buf_slice(&file), &out), ERR_OK);
    assert_int_equal(batch_decode(&op, out.requests[0].batch, schema, &decoded),
                     ERR_OK);
    assert_int_equal(decoded.docs[0].values[1].one.i, -1980);
    assert_true(decoded.docs[0].vector[1] == -2.25f);
    assert_true(slice_equal(decoded.deletes[0].string, SLICE_LITERAL("doc-2")));
    buf_release(&file);

    struct wal_entry fence = {.kind = OBJECT_FENCE,
                              .slot = 6,
                              .epoch = 3,
                              .put_id = {{3}},
                              .prev = {{1}},
                              .wall_ms = 1795370787000,
                              .node_id = SLICE_LITERAL("indexer-1"),
                              .fingerprint = 0x1122334455667788};
    buf_clear(&bytes);
    wal_entry_encode(&fence, incarnation, &bytes);
    file = golden_expect("log-fence-v1.bin", buf_slice(&bytes));
    assert_int_equal(wal_entry_decode(&op, &keys, 6, buf_slice(&file), &out), ERR_OK);
    assert_true(slice_equal(out.node_id, SLICE_LITERAL("indexer-1")));
    buf_release(&file);

    fence.kind = OBJECT_DROP;
    fence.slot = 7;
    buf_clear(&bytes);
    wal_entry_encode(&fence, incarnation, &bytes);
    file = golden_expect("log-drop-v1.bin", buf_slice(&bytes));
    assert_int_equal(wal_entry_decode(&op, &keys, 7, buf_slice(&file), &out), ERR_OK);
    assert_int_equal(out.kind, OBJECT_DROP);
    buf_release(&file);
    buf_release(&bytes);
    buf_release(&batch);
    schema_unref(schema);
    op_release(&op);
}

/* Of some of the attributes of golden_schema, which the first 24 letters of a title
 * and all years are among. */
static struct segment_stats *golden_stats(struct op *op, const struct schema *schema)
{
    union scalar years[] = {{.i = 1999}, {.i = -5}, {.i = 2026}};
    uint32_t rows[] = {30, 10, 8};
    union scalar titles[] = {{.s = SLICE_LITERAL("an")}, {.s = SLICE_LITERAL("b")}};
    uint32_t title_rows[] = {20};
    struct column_stats title = {.type = ATTR_STRING,
                                 .row_count = 50,
                                 .value_count = 50,
                                 .item_count = 50,
                                 .distinct = 31,
                                 .cut = true,
                                 .least = {.s = SLICE_LITERAL("a")},
                                 .greatest = {.s = SLICE_LITERAL(
                                                  "zzzzzzzzzzzzzzzzzzzzzzzz")},
                                 .common_count = 1,
                                 .bound_count = 1,
                                 .values = titles,
                                 .common_rows = title_rows};
    struct column_stats year = {.type = ATTR_INT,
                                .row_count = 50,
                                .value_count = 48,
                                .item_count = 48,
                                .distinct = 3,
                                .complete = true,
                                .least = years[1],
                                .greatest = years[2],
                                .common_count = 3,
                                .values = years,
                                .common_rows = rows};
    struct column_stats tags = {.type = ATTR_STRING, .array = true, .value_count = 7};
    struct segment_stats *stats = NULL;
    struct buf bytes = BUF_INIT;
    put_varint(&bytes, 4);
    put_u8(&bytes, 1);
    column_stats_encode(&title, false, &bytes);
    put_u8(&bytes, 1);
    column_stats_encode(&year, false, &bytes);
    put_u8(&bytes, 1);
    column_stats_encode(&tags, false, &bytes);
    put_u8(&bytes, 0);
    assert_int_equal(segment_stats_decode(op, buf_slice(&bytes), schema, 50, &stats),
                     ERR_OK);
    buf_release(&bytes);
    return stats;
}

static struct manifest *golden_manifest(void)
{
    struct manifest *m = manifest_new();
    m->version = 9;
    m->epoch = 4;
    m->wm = 100;
    m->anchor = (struct put_id){{77}};
    m->floor = 99;
    m->id_kind = ID_STRING;
    m->schema = golden_schema();
    mem_free(m->holder_node);
    m->holder_node = mem_strdup("indexer-1");
    m->holder_fingerprint = 12345;
    manifest_add_fence(m, 5, 1795370786000);
    manifest_add_removed(m, "ns/books/old.seg", 8, 1795370787000);
    m->idempotency_key = mem_strdup("ns/books/k.idem");
    m->idempotency_size = 300;
    return m;
}

static struct manifest_segment golden_segment(void)
{
    return (struct manifest_segment){.key = mem_strdup("ns/books/k.seg"),
                                     .size = 4096,
                                     .tail_hash = {9, 9},
                                     .row_count = 50,
                                     .dead_count = 2,
                                     .deletes_key = mem_strdup("ns/books/k.del"),
                                     .deletes_size = 200};
}

static struct manifest *decode_golden_manifest(struct op *op, struct slice file)
{
    struct object object;
    struct manifest *back = NULL;
    assert_int_equal(object_decode(op, "k", file, incarnation, 9, &object), ERR_OK);
    assert_int_equal(manifest_decode(op, "k", &object, &back), ERR_OK);
    return back;
}

static void manifests_of_version_1_stay_readable(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct buf file = golden_read("manifest-v1.bin");
    struct manifest *m = golden_manifest();
    struct manifest *back = decode_golden_manifest(&op, buf_slice(&file));
    assert_int_equal(back->segment_count, 1);
    assert_string_equal(back->segments[0].deletes_key, "ns/books/k.del");
    assert_null(back->segments[0].stats);
    assert_true(schema_equal(back->schema, m->schema));
    assert_string_equal(back->holder_node, "indexer-1");
    assert_string_equal(back->removed[0].key, "ns/books/old.seg");
    assert_string_equal(back->idempotency_key, "ns/books/k.idem");
    manifest_unref(m);
    manifest_unref(back);
    buf_release(&file);
    op_release(&op);
}

/* What the second version says, and all later ones. */
static void expect_stats(const struct manifest *back)
{
    struct buf text = BUF_INIT;
    assert_int_equal(back->segment_count, 2);
    assert_null(back->segments[1].stats);
    segment_stats_describe(back->segments[0].stats, back->schema, &text);
    buf_append_byte(&text, 0);
    assert_string_equal((const char *)text.data,
                        "  statistics  title: 50 of 50 rows, about 31 distinct, \"a\" "
                        "to \"zzzzzzzzzzzzzzzzzzzzzzzz\"...; \"an\" in 20\n"
                        "  statistics  year: 48 of 50 rows, 3 distinct, -5 to 2026; "
                        "1999 in 30, -5 in 10, 2026 in 8\n"
                        "  statistics  tags: 7 of 50 rows\n"
                        "  statistics  seen: none\n");
    buf_release(&text);
}

static void manifests_of_version_2_stay_readable(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct buf file = golden_read("manifest-v2.bin");
    struct manifest *back = decode_golden_manifest(&op, buf_slice(&file));
    expect_stats(back);
    assert_int_equal(back->segments[0].end_size, 0);
    manifest_unref(back);
    buf_release(&file);
    op_release(&op);
}

static void manifests_of_version_3_stay_readable(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct manifest *m = golden_manifest();
    struct manifest_segment with = golden_segment(), without = golden_segment();
    struct buf payload = BUF_INIT, bytes = BUF_INIT;

    with.stats = golden_stats(&op, m->schema);
    with.end_size = 1234;
    manifest_add_segment(m, with);
    manifest_add_segment(m, without);
    manifest_encode(m, &payload);
    struct object object = {.kind = OBJECT_MANIFEST,
                            .number = 9,
                            .epoch = 4,
                            .put_id = {{4}},
                            .payload = buf_slice(&payload)};
    memcpy(object.incarnation, incarnation, sizeof incarnation);
    object_encode(&object, &bytes);
    struct buf file = golden_expect("manifest-v3.bin", buf_slice(&bytes));
    struct manifest *back = decode_golden_manifest(&op, buf_slice(&file));
    expect_stats(back);
    assert_int_equal(back->segments[0].end_size, 1234);
    assert_int_equal(back->segments[1].end_size, 0);
    manifest_unref(m);
    manifest_unref(back);
    buf_release(&file);
    buf_release(&bytes);
    buf_release(&payload);
    op_release(&op);
}

static void side_tables_of_version_1_stay_readable(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    struct idempotency *t = idempotency_new(), *back = NULL;
    struct idempotency_entry e = {.key = SLICE_LITERAL("key-1"),
                                  .digest = {1, 2, 3},
                                  .slot = 5,
                                  .wall_ms = 1795370786000,
                                  .upserted = 10,
                                  .deleted = 2};
    struct buf bytes = BUF_INIT;
    idempotency_add(t, &e);
    idempotency_encode(t, 6, &bytes);
    struct buf file = golden_expect("idempotency-v1.bin", buf_slice(&bytes));
    assert_int_equal(idempotency_decode(&op, buf_slice(&file), &back), ERR_OK);
    assert_int_equal(idempotency_find(back, e.key)->deleted, 2);
    idempotency_free(t);
    idempotency_free(back);
    buf_release(&file);

    uint32_t rows[] = {1, 5, 1000, 70000};
    struct rowset *dead = rowset_from(rows, COUNT_OF(rows)), *again = NULL;
    buf_clear(&bytes);
    rowset_encode(dead, &bytes);
    file = golden_expect("deletes-v1.bin", buf_slice(&bytes));
    assert_int_equal(rowset_decode(&op, buf_slice(&file), 70001, &again), ERR_OK);
    assert_int_equal(rowset_count(again), 4);
    assert_true(rowset_has(again, 70000));
    rowset_unref(dead);
    rowset_unref(again);
    buf_release(&file);
    buf_release(&bytes);
    op_release(&op);
}

static struct catalog_record golden_record(uint64_t n)
{
    struct catalog_record in = {.n = n,
                                .wal_prefix = "production",
                                .wall_ms = 1795370786000 + n};
    memcpy(in.incarnation, incarnation, sizeof in.incarnation);
    return in;
}

static void expect_record(struct slice file, uint64_t n, bool live)
{
    struct op op;
    struct key key = key_catalog("books", n);
    struct catalog_record out;
    struct schema *schema = golden_schema();

    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(catalog_decode(&op, "books", key.text, file, &out), ERR_OK);
    assert_int_equal(out.n, n);
    assert_int_equal(out.deleted, !live);
    assert_int_equal(out.wall_ms, 1795370786000 + n);
    assert_memory_equal(out.incarnation, incarnation, sizeof incarnation);
    assert_string_equal(out.wal_prefix, "production");
    assert_true(live ? schema_equal(out.schema, schema) : out.schema == NULL);
    catalog_release(&out);
    schema_unref(schema);
    op_release(&op);
}

/* Its incarnation is what a reader comes to learn; the head's sum has it. */
static void expect_every_bit_counts(struct buf *file, uint64_t n)
{
    struct op op;
    struct key key = key_catalog("books", n);
    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t bit = 0; bit < 8 * file->size; bit++) {
        struct catalog_record damaged = {.schema = NULL};
        file->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(catalog_decode(&op, "books", key.text, buf_slice(file),
                                        &damaged),
                         ERR_CORRUPT);
        file->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    op_release(&op);
}

static void catalog_records_of_version_1_stay_readable(void **state)
{
    (void)state;
    for (uint64_t n = 3; n <= 4; n++) {
        struct buf file =
            golden_read(n == 3 ? "catalog-create-v1.bin" : "catalog-delete-v1.bin");
        expect_record(buf_slice(&file), n, n == 3);
        expect_every_bit_counts(&file, n);
        buf_release(&file);
    }
}

static void catalog_records_of_version_2_stay_as_they_are(void **state)
{
    (void)state;
    struct schema *schema = golden_schema();
    for (uint64_t n = 3; n <= 4; n++) {
        struct catalog_record in = golden_record(n);
        struct buf bytes = BUF_INIT;
        catalog_encode("books", &in, n == 3 ? schema : NULL, "indexer-1",
                       (struct put_id){{(uint8_t)n}}, &bytes);
        struct buf file =
            golden_expect(n == 3 ? "catalog-create-v2.bin" : "catalog-delete-v2.bin",
                          buf_slice(&bytes));
        expect_record(buf_slice(&file), n, n == 3);
        expect_every_bit_counts(&file, n);
        buf_release(&file);
        buf_release(&bytes);
    }
    schema_unref(schema);
}

static void the_catalog_record_of_another_namespace_is_corrupt(void **state)
{
    (void)state;
    struct op op;
    struct key key = key_catalog("books", 3);
    struct catalog_record in = golden_record(3), out = {.schema = NULL};
    struct schema *schema = golden_schema();
    struct buf bytes = BUF_INIT;

    op_init(&op, OP_NO_DEADLINE, 0);
    catalog_encode("films", &in, schema, "indexer-1", (struct put_id){{3}}, &bytes);
    assert_int_equal(catalog_decode(&op, "books", key.text, buf_slice(&bytes), &out),
                     ERR_CORRUPT);
    assert_non_null(strstr(op.error, "another namespace's"));
    buf_release(&bytes);
    schema_unref(schema);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(catalog_records_of_version_1_stay_readable),
        cmocka_unit_test(catalog_records_of_version_2_stay_as_they_are),
        cmocka_unit_test(the_catalog_record_of_another_namespace_is_corrupt),
        cmocka_unit_test(log_entries_of_version_1_stay_readable),
        cmocka_unit_test(manifests_of_version_1_stay_readable),
        cmocka_unit_test(manifests_of_version_2_stay_readable),
        cmocka_unit_test(manifests_of_version_3_stay_readable),
        cmocka_unit_test(side_tables_of_version_1_stay_readable),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
