#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "doc/batch.h"
#include "fuzz/fuzz.h"
#include "ns/catalog.h"
#include "ns/idempotency.h"
#include "ns/manifest.h"
#include "ns/wal.h"
#include "segment/segment.h"
#include "segment/segment_stats.h"

enum { OP_MEMORY = 32 << 20, ROWS = 100000 };

static const uint8_t incarnation[INCARNATION_SIZE] = {1, 2, 3};

static struct keys our_keys(void)
{
    struct keys keys;
    keys_init(&keys, "", "films", incarnation);
    return keys;
}

/* ---- values, ids, schemas, batches ---- */

static bool run_value(struct slice input)
{
    struct op op;
    struct value v, again;
    enum attr_type type = (enum attr_type)(1 + fuzz_byte(input, 0) % ATTR_UUID);
    bool array = fuzz_byte(input, 1) & 1;
    struct reader r = reader_of(fuzz_rest(input, 2));

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = value_decode(&op, type, array, &r, &v);
    if (!e) {
        struct buf bytes = BUF_INIT, twice = BUF_INIT;
        value_encode(type, array, &v, &bytes);
        struct reader back = reader_of(buf_slice(&bytes));
        REQUIRE(value_decode(&op, type, array, &back, &again) == ERR_OK);
        REQUIRE(reader_done(&back));
        value_encode(type, array, &again, &twice);
        REQUIRE(slice_equal(buf_slice(&bytes), buf_slice(&twice)));
        buf_release(&bytes);
        buf_release(&twice);
    }
    op_release(&op);
    return !e;
}

static void seeds_value(fuzz_emit *emit, void *context)
{
    static const uint8_t string[] = {0, 0, 1, 3, 'a', 'b', 'c'};
    static const uint8_t ints[] = {1, 1, 3, 1, 0xfe, 0x7f};
    static const uint8_t floats[] = {3, 1, 2, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f};
    static const uint8_t uuid[] = {6, 0, 1,  1,  2,  3,  4,  5,  6, 7,
                                   8, 9, 10, 11, 12, 13, 14, 15, 16};
    emit(context, slice_of(string, sizeof string));
    emit(context, slice_of(ints, sizeof ints));
    emit(context, slice_of(floats, sizeof floats));
    emit(context, slice_of(uuid, sizeof uuid));
}

static bool run_schema(struct slice input)
{
    struct op op;
    struct schema *schema = NULL, *again = NULL;
    struct reader r = reader_of(input);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = schema_decode(&op, &r, &schema);
    if (!e) {
        struct buf bytes = BUF_INIT;
        REQUIRE(schema_check(&op, schema) == ERR_OK);
        schema_encode(schema, &bytes);
        struct reader back = reader_of(buf_slice(&bytes));
        REQUIRE(schema_decode(&op, &back, &again) == ERR_OK);
        REQUIRE(schema_equal(schema, again));
        buf_release(&bytes);
    }
    schema_unref(schema);
    schema_unref(again);
    op_release(&op);
    return !e;
}

static void seeds_schema(fuzz_emit *emit, void *context)
{
    struct schema *schema = fuzz_schema();
    struct buf bytes = BUF_INIT;
    schema_encode(schema, &bytes);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
    schema_unref(schema);
}

static bool run_batch(struct slice input)
{
    struct op op;
    struct batch batch = {.schema = NULL};
    struct schema *schema = fuzz_schema(), *wider = NULL;
    bool same;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = batch_decode(&op, input, schema, &batch);
    if (!e && batch.schema) e = schema_extend(&op, schema, batch.schema, &same, &wider);
    if (!e) {
        const struct schema *under = wider ? wider : schema;
        struct buf bytes = BUF_INIT;
        struct batch again;
        batch_encode(&batch, under, &bytes);
        REQUIRE(batch_decode(&op, buf_slice(&bytes), schema, &again) == ERR_OK);
        REQUIRE(again.doc_count == batch.doc_count);
        REQUIRE(again.delete_count == batch.delete_count);
        schema_unref(again.schema);
        buf_release(&bytes);
    }
    schema_unref(batch.schema);
    schema_unref(wider);
    schema_unref(schema);
    op_release(&op);
    return !e;
}

static struct buf batch_of_all_types(void)
{
    struct schema *schema = fuzz_schema();
    union scalar items[2] = {{.u = 7}, {.u = 9}};
    struct value values[2][15];
    const float vector[3] = {1, -2, 0.5f};
    struct doc_id deletes[1] = {{.kind = ID_U64, .u64 = 77}};
    struct doc docs[2];
    struct buf out = BUF_INIT;

    for (uint32_t d = 0; d < 2; d++) {
        for (uint32_t i = 0; i < schema->attr_count; i++) {
            struct value *v = &values[d][i];
            *v = VALUE_NULL;
            /* A string's items would need strings. */
            if (d == 0 && schema->attrs[i].array &&
                schema->attrs[i].type != ATTR_STRING &&
                schema->attrs[i].type != ATTR_UUID &&
                schema->attrs[i].type != ATTR_BOOL)
                *v = (struct value){.count = 2, .items = items};
            else if (!schema->attrs[i].array)
                *v = (struct value){.one = {.u = 1}};
            if (!v->null && !schema->attrs[i].array &&
                schema->attrs[i].type == ATTR_STRING)
                v->one.s = SLICE_LITERAL("a string");
        }
        docs[d] = (struct doc){.id = {.kind = ID_U64, .u64 = d + 1},
                               .vector = d == 0 ? vector : NULL,
                               .values = values[d]};
    }
    struct batch batch = {.docs = docs,
                          .doc_count = 2,
                          .deletes = deletes,
                          .delete_count = 1};
    batch_encode(&batch, schema, &out);
    schema_unref(schema);
    return out;
}

static void seeds_batch(fuzz_emit *emit, void *context)
{
    struct buf bytes = batch_of_all_types();
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
}

/* ---- the envelope, whole objects as they come from the store ---- */

static bool run_object(struct slice input)
{
    struct op op;
    struct object object;
    struct put_id put_id;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    (void)object_put_id(input, &put_id);
    enum err e = object_decode(&op, "key", input, incarnation, 5, &object);
    if (!e) {
        struct buf again = BUF_INIT;
        object_encode(&object, &again);
        REQUIRE(slice_equal(input, buf_slice(&again)));
        buf_release(&again);
    }
    REQUIRE(!e || e == ERR_CORRUPT);
    op_release(&op);
    return !e;
}

static struct object object_of(enum object_kind kind, struct slice payload)
{
    struct object object = {.kind = kind, .number = 5, .epoch = 2, .payload = payload};
    memcpy(object.incarnation, incarnation, sizeof incarnation);
    return object;
}

static void seeds_object(fuzz_emit *emit, void *context)
{
    struct buf bytes = BUF_INIT;
    struct object object = object_of(OBJECT_FENCE, SLICE_LITERAL("payload"));
    object_encode(&object, &bytes);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
}

/* ---- payloads, under an envelope that is always right ---- */

static bool run_wal(struct slice input)
{
    struct op op;
    struct keys keys = our_keys();
    struct wal_entry entry, again;
    struct buf bytes = BUF_INIT, twice = BUF_INIT;
    enum object_kind kind = (enum object_kind)(1 + fuzz_byte(input, 0) % OBJECT_DROP);
    struct object object = object_of(kind, fuzz_rest(input, 1));

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    object_encode(&object, &bytes);
    enum err e = wal_entry_decode(&op, &keys, 5, buf_slice(&bytes), &entry);
    REQUIRE(!e || e == ERR_CORRUPT || e == ERR_LIMIT);
    if (!e) {
        wal_entry_encode(&entry, incarnation, &twice);
        REQUIRE(wal_entry_decode(&op, &keys, 5, buf_slice(&twice), &again) == ERR_OK);
        REQUIRE(again.request_count == entry.request_count);
    }
    buf_release(&bytes);
    buf_release(&twice);
    op_release(&op);
    return !e;
}

static void emit_payload(fuzz_emit *emit, void *context, uint8_t first,
                         struct slice object)
{
    enum { AROUND = 4 + 16 + 8 }; /* behind a payload of at most 64 KiB */
    struct buf input = BUF_INIT;
    buf_append_byte(&input, first);
    buf_append(&input, object.data + OBJECT_HEADER_SIZE,
               object.size - OBJECT_HEADER_SIZE - AROUND);
    emit(context, buf_slice(&input));
    buf_release(&input);
}

static void seeds_wal(fuzz_emit *emit, void *context)
{
    struct buf batch = batch_of_all_types(), bytes = BUF_INIT;
    struct wal_request requests[2] = {{.batch = buf_slice(&batch),
                                       .idempotency_key = SLICE_LITERAL("key")},
                                      {.batch = buf_slice(&batch)}};
    struct wal_entry data = {.kind = OBJECT_DATA,
                             .slot = 5,
                             .requests = requests,
                             .request_count = 2};
    struct wal_entry fence = {.kind = OBJECT_FENCE,
                              .slot = 5,
                              .node_id = SLICE_LITERAL("indexer-0")};
    wal_entry_encode(&data, incarnation, &bytes);
    emit_payload(emit, context, OBJECT_DATA - 1, buf_slice(&bytes));
    buf_clear(&bytes);
    wal_entry_encode(&fence, incarnation, &bytes);
    emit_payload(emit, context, OBJECT_FENCE - 1, buf_slice(&bytes));
    buf_release(&bytes);
    buf_release(&batch);
}

static bool run_manifest(struct slice input)
{
    struct op op;
    struct manifest *m = NULL, *again = NULL;
    struct object object = object_of(OBJECT_MANIFEST, input);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = manifest_decode(&op, "key", &object, &m);
    REQUIRE(!e || e == ERR_CORRUPT || e == ERR_LIMIT);
    if (!e) {
        struct buf bytes = BUF_INIT, twice = BUF_INIT;
        manifest_encode(m, &bytes);
        struct object copy = object_of(OBJECT_MANIFEST, buf_slice(&bytes));
        REQUIRE(manifest_decode(&op, "key", &copy, &again) == ERR_OK);
        manifest_encode(again, &twice);
        REQUIRE(slice_equal(buf_slice(&bytes), buf_slice(&twice)));
        buf_release(&bytes);
        buf_release(&twice);
    }
    manifest_unref(m);
    manifest_unref(again);
    op_release(&op);
    return !e;
}

/* Of a segment whose rows have a value of each attribute, and an empty one. */
static struct segment_stats *fuzz_stats(struct op *op, struct schema *schema)
{
    struct segment_options options = {.zstd_level = 0};
    struct segment_builder *b = segment_builder_new(schema, &options);
    struct value *values = op_new_array(op, struct value, schema->attr_count);
    struct segment_stats *stats = NULL;
    struct buf bytes = BUF_INIT;
    for (uint64_t id = 0; id < 10; id++) {
        for (uint32_t i = 0; i < schema->attr_count; i++)
            values[i] = schema->attrs[i].array ? (struct value){.count = 0}
                                               : (struct value){.null = id < i};
        struct doc doc = {.id = {.kind = ID_U64, .u64 = id}, .values = values};
        segment_builder_add(b, &doc);
    }
    REQUIRE(segment_builder_finish(op, b, &bytes) == ERR_OK);
    REQUIRE(segment_stats_make(op, buf_slice(&bytes), &stats) == ERR_OK);
    buf_release(&bytes);
    return stats;
}

static void seeds_manifest(fuzz_emit *emit, void *context)
{
    struct op op;
    struct manifest *m = manifest_new();
    struct buf bytes = BUF_INIT;

    m->schema = fuzz_schema();
    m->wm = 9;
    m->floor = 5;
    m->id_kind = ID_U64;
    op_init(&op, OP_NO_DEADLINE, 0);
    manifest_add_segment(
        m, (struct manifest_segment){.key = mem_strdup("ns/a/b/segment/c"),
                                     .size = 12345,
                                     .row_count = 10,
                                     .stats = fuzz_stats(&op, m->schema)});
    manifest_add_segment(m, (struct manifest_segment){.key = mem_strdup(
                                                          "ns/a/b/segment/d"),
                                                      .size = 12345,
                                                      .row_count = 10,
                                                      .dead_count = 3,
                                                      .deletes_key = mem_strdup("e"),
                                                      .deletes_size = 99});
    manifest_add_fence(m, 1, 1000);
    manifest_add_removed(m, "ns/a/b/segment/f", 3, 1000);
    m->idempotency_key = mem_strdup("g");
    m->idempotency_size = 77;
    manifest_encode(m, &bytes);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
    manifest_unref(m);
    op_release(&op);
}

static bool run_catalog(struct slice input)
{
    struct op op;
    struct key key = key_catalog("films", 5);
    struct catalog_record record, again;
    struct buf bytes = BUF_INIT, twice = BUF_INIT;
    struct object object = object_of(OBJECT_CATALOG, input);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    object_encode(&object, &bytes);
    enum err e = catalog_decode(&op, "films", key.text, buf_slice(&bytes), &record);
    REQUIRE(!e || e == ERR_CORRUPT || e == ERR_LIMIT);
    if (!e) {
        catalog_encode("films", &record, record.schema, "", object.put_id, &twice);
        REQUIRE(catalog_decode(&op, "films", key.text, buf_slice(&twice), &again) ==
                ERR_OK);
        REQUIRE(again.deleted == record.deleted && again.wall_ms == record.wall_ms);
        REQUIRE(!record.schema || schema_equal(record.schema, again.schema));
        catalog_release(&again);
        catalog_release(&record);
    }
    buf_release(&bytes);
    buf_release(&twice);
    op_release(&op);
    return !e;
}

static void seeds_catalog(fuzz_emit *emit, void *context)
{
    enum { AROUND = 4 + 16 + 8 };
    struct catalog_record record = {.n = 5, .wal_prefix = "p", .wall_ms = 1};
    struct schema *schema = fuzz_schema();
    for (int live = 0; live < 2; live++) {
        struct buf bytes = BUF_INIT;
        catalog_encode("films", &record, live ? schema : NULL, "a",
                       (struct put_id){{0}}, &bytes);
        emit(context, slice_of(bytes.data + OBJECT_HEADER_SIZE,
                               bytes.size - OBJECT_HEADER_SIZE - AROUND));
        buf_release(&bytes);
    }
    schema_unref(schema);
}

static bool run_idempotency(struct slice input)
{
    struct op op;
    struct idempotency *table = NULL, *again = NULL;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = idempotency_decode(&op, input, &table);
    if (!e) {
        struct buf bytes = BUF_INIT;
        idempotency_encode(table, UINT64_MAX, &bytes);
        REQUIRE(idempotency_decode(&op, buf_slice(&bytes), &again) == ERR_OK);
        REQUIRE(idempotency_count(again) <= idempotency_count(table));
        idempotency_free(again);
        idempotency_free(table);
        buf_release(&bytes);
    }
    op_release(&op);
    return !e;
}

static void seeds_idempotency(fuzz_emit *emit, void *context)
{
    struct idempotency *table = idempotency_new();
    struct buf bytes = BUF_INIT;
    for (unsigned i = 0; i < 5; i++) {
        char key[] = "key-0";
        key[4] = (char)('0' + i);
        struct idempotency_entry entry = {.key = slice_str(key),
                                          .slot = i,
                                          .wall_ms = 1000 + i,
                                          .upserted = 3};
        idempotency_add(table, &entry);
    }
    idempotency_encode(table, UINT64_MAX, &bytes);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
    idempotency_free(table);
}

static bool run_rowset(struct slice input)
{
    struct op op;
    struct rowset *set = NULL, *again = NULL;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = rowset_decode(&op, input, ROWS, &set);
    if (!e) {
        struct buf bytes = BUF_INIT;
        uint64_t bits[2];
        uint32_t rows[64], from = 0;
        uint64_t count = 0;
        for (size_t n = 64; n == 64; count += n) {
            n = rowset_read(set, from, rows, 64);
            for (size_t i = 0; i < n; i++)
                REQUIRE(rows[i] >= from && rows[i] < ROWS);
            if (n) from = rows[n - 1] + 1;
        }
        REQUIRE(count == rowset_count(set));
        rowset_bits(set, 64, bits, 2);
        rowset_encode(set, &bytes);
        REQUIRE(rowset_decode(&op, buf_slice(&bytes), ROWS, &again) == ERR_OK);
        REQUIRE(rowset_count(again) == count);
        buf_release(&bytes);
        rowset_unref(again);
        rowset_unref(set);
    }
    op_release(&op);
    return !e;
}

static void seeds_rowset(fuzz_emit *emit, void *context)
{
    struct rowset *set = rowset_range(1000, 70000);
    struct buf bytes = BUF_INIT;
    for (uint32_t i = 0; i < 900; i += 7)
        rowset_add(set, i);
    rowset_add_range(set, 70001, 80000);
    rowset_encode(set, &bytes);
    emit(context, buf_slice(&bytes));
    buf_release(&bytes);
    rowset_unref(set);
}

const struct fuzz_target fuzz_objects[] = {{"value", run_value, seeds_value},
                                           {"schema", run_schema, seeds_schema},
                                           {"batch", run_batch, seeds_batch},
                                           {"object", run_object, seeds_object},
                                           {"wal", run_wal, seeds_wal},
                                           {"manifest", run_manifest, seeds_manifest},
                                           {"catalog", run_catalog, seeds_catalog},
                                           {"idempotency", run_idempotency,
                                            seeds_idempotency},
                                           {"rowset", run_rowset, seeds_rowset},
                                           {NULL, NULL, NULL}};
