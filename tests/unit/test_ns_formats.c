/* Envelope, log entries, manifests, idempotency tables: what was put comes back, and
 * any damage is seen. */
#include "base/op.h"
#include "ns/idempotency.h"
#include "ns/manifest.h"
#include "ns/object.h"
#include "ns/wal.h"
#include "segment/segment_stats.h"
#include "unit/test.h"

static const uint8_t incarnation[16] = {1, 2,  3,  4,  5,  6,  7,  8,
                                        9, 10, 11, 12, 13, 14, 15, 16};

static struct keys test_keys(void)
{
    struct keys keys;
    keys_init(&keys, "", "books", incarnation);
    return keys;
}

static struct op *new_op(void)
{
    static struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    return &op;
}

static struct buf encoded_object(size_t payload_size)
{
    struct buf payload = BUF_INIT, out = BUF_INIT;
    for (size_t i = 0; i < payload_size; i++)
        buf_append_byte(&payload, (uint8_t)(i * 7));
    struct object o = {.kind = OBJECT_DATA,
                       .number = 42,
                       .epoch = 7,
                       .put_id = {{9, 8, 7}},
                       .payload = buf_slice(&payload)};
    memcpy(o.incarnation, incarnation, 16);
    object_encode(&o, &out);
    buf_release(&payload);
    return out;
}

static void object_reads_back_what_was_written(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 200000};
    struct op *op = new_op();
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buf bytes = encoded_object(sizes[i]);
        struct object o;
        assert_int_equal(object_decode(op, "k", buf_slice(&bytes), incarnation, 42, &o),
                         ERR_OK);
        assert_int_equal(o.payload.size, sizes[i]);
        assert_int_equal(o.epoch, 7);
        assert_int_equal(o.kind, OBJECT_DATA);
        for (size_t k = 0; k < sizes[i]; k++)
            if (o.payload.data[k] != (uint8_t)(k * 7)) fail_msg("byte %zu differs", k);
        buf_release(&bytes);
    }
    op_release(op);
}

static void every_flipped_bit_of_an_object_is_detected(void **state)
{
    (void)state;
    struct buf bytes = encoded_object(1000);
    struct op *op = new_op();
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        struct object o;
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (object_decode(op, "k", buf_slice(&bytes), incarnation, 42, &o) !=
            ERR_CORRUPT)
            fail_msg("bit %zu went unnoticed", bit);
        op_clear_error(op);
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_release(&bytes);
    op_release(op);
}

static void object_cut_at_any_length_is_detected(void **state)
{
    (void)state;
    struct buf bytes = encoded_object(300);
    struct op *op = new_op();
    for (size_t size = 0; size < bytes.size; size++) {
        struct object o;
        uint8_t *cut =
            mem_dup(bytes.data, size); /* exact, so that ASan sees overreads */
        if (object_decode(op, "k", slice_of(cut, size), incarnation, 42, &o) !=
            ERR_CORRUPT)
            fail_msg("length %zu went unnoticed", size);
        op_clear_error(op);
        mem_free(cut);
    }
    buf_release(&bytes);
    op_release(op);
}

static void object_under_another_name_is_refused(void **state)
{
    (void)state;
    struct buf bytes = encoded_object(10);
    struct op *op = new_op();
    uint8_t other[16] = {0};
    struct object o;
    assert_int_equal(object_decode(op, "k", buf_slice(&bytes), incarnation, 43, &o),
                     ERR_CORRUPT);
    assert_non_null(strstr(op->error, "another number"));
    op_clear_error(op);
    assert_int_equal(object_decode(op, "k", buf_slice(&bytes), other, 42, &o),
                     ERR_CORRUPT);
    assert_non_null(strstr(op->error, "another incarnation"));
    buf_release(&bytes);
    op_release(op);
}

static void log_entry_reads_back_with_its_requests(void **state)
{
    (void)state;
    struct op *op = new_op();
    struct keys keys = test_keys();
    struct wal_request requests[2] = {
        {.batch = SLICE_LITERAL("first")},
        {.batch = SLICE_LITERAL("second"),
         .idempotency_key = SLICE_LITERAL("key-1"),
         .digest = {5, 5, 5}},
    };
    struct wal_entry in = {.kind = OBJECT_DATA,
                           .slot = 3,
                           .epoch = 2,
                           .put_id = {{1}},
                           .prev = {{2}},
                           .wall_ms = 1234567,
                           .requests = requests,
                           .request_count = 2};
    struct wal_entry out;
    struct buf bytes = BUF_INIT;
    wal_entry_encode(&in, incarnation, &bytes);
    assert_int_equal(wal_entry_decode(op, &keys, 3, buf_slice(&bytes), &out), ERR_OK);
    assert_int_equal(out.request_count, 2);
    assert_true(slice_equal(out.requests[1].batch, requests[1].batch));
    assert_true(
        slice_equal(out.requests[1].idempotency_key, requests[1].idempotency_key));
    assert_memory_equal(out.requests[1].digest, requests[1].digest, 16);
    assert_int_equal(out.requests[0].idempotency_key.size, 0);
    assert_true(put_id_equal(&out.prev, &in.prev));
    assert_int_equal(out.wall_ms, 1234567);
    buf_release(&bytes);
    op_release(op);
}

static struct manifest *test_manifest(void)
{
    struct attr attr = {.name = "title", .type = ATTR_STRING};
    struct manifest *m = manifest_new();
    m->version = 9;
    m->epoch = 4;
    m->wm = 100;
    m->anchor = (struct put_id){{77}};
    m->floor = 99;
    m->id_kind = ID_STRING;
    m->schema = schema_new(3, METRIC_L2, &attr, 1);
    for (uint32_t i = 0; i < 5; i++) {
        struct manifest_segment s = {.key = mem_strdup("ns/books/aa/segment/1-x.seg"),
                                     .size = 1000 + i,
                                     .row_count = 50,
                                     .dead_count = i};
        if (i) s.deletes_key = mem_strdup("ns/books/aa/segment/1-y.del");
        s.deletes_size = i;
        manifest_add_segment(m, s);
    }
    manifest_add_fence(m, 5, 1000);
    manifest_add_fence(m, 50, 2000);
    manifest_add_removed(m, "ns/books/aa/segment/1-z.seg", 8, 3000);
    m->idempotency_key = mem_strdup("ns/books/aa/segment/1-i.idem");
    m->idempotency_size = 12;
    return m;
}

static struct object manifest_object(const struct manifest *m, struct buf *payload)
{
    manifest_encode(m, payload);
    return (struct object){.kind = OBJECT_MANIFEST,
                           .number = m->version,
                           .epoch = m->epoch,
                           .payload = buf_slice(payload)};
}

static void manifest_reads_back_what_was_written(void **state)
{
    (void)state;
    struct op *op = new_op();
    struct manifest *m = test_manifest(), *copy = manifest_copy(m), *back = NULL;
    struct buf payload = BUF_INIT, again = BUF_INIT;
    struct object object = manifest_object(copy, &payload);

    assert_int_equal(manifest_decode(op, "k", &object, &back), ERR_OK);
    assert_int_equal(back->version, 9);
    assert_int_equal(back->epoch, 4);
    assert_int_equal(back->segment_count, 5);
    assert_string_equal(back->segments[4].deletes_key, m->segments[4].deletes_key);
    assert_int_equal(back->fences[1].slot, 50);
    assert_int_equal(back->removed[0].version, 8);
    manifest_encode(back, &again);
    assert_true(slice_equal(buf_slice(&payload), buf_slice(&again)));
    buf_release(&payload);
    buf_release(&again);
    manifest_unref(m);
    manifest_unref(copy);
    manifest_unref(back);
    op_release(op);
}

static void dropping_segments_keeps_the_others_in_order(void **state)
{
    (void)state;
    struct manifest *m = test_manifest();
    manifest_drop_segment(m, 1);
    manifest_drop_segment(m, 3);
    assert_int_equal(m->segment_count, 3);
    assert_int_equal(m->segments[0].size, 1000);
    assert_int_equal(m->segments[1].size, 1002);
    assert_int_equal(m->segments[2].size, 1003);
    struct manifest_segment s = {.key = mem_strdup("k"), .size = 7};
    manifest_add_segment(m, s);
    assert_int_equal(m->segments[3].size, 7);
    manifest_unref(m);
}

/* Of a column of which nothing is known but that it is there, padded to its ceiling by
 * nothing: the least statistics that there can be. */
static struct segment_stats *some_stats(struct op *op, const struct schema *schema)
{
    struct segment_stats *stats = NULL;
    struct slice bytes = SLICE_LITERAL("\1\0");
    assert_int_equal(segment_stats_decode(op, slice_of(bytes.data, 2), schema, 50,
                                          &stats),
                     ERR_OK);
    return stats;
}

static void statistics_come_and_go_with_their_segment(void **state)
{
    (void)state;
    struct op *op = new_op();
    struct manifest *m = test_manifest(), *back = NULL;
    struct buf payload = BUF_INIT;
    struct manifest_segment s = {.key = mem_strdup("k"),
                                 .size = 7,
                                 .row_count = 50,
                                 .stats = some_stats(op, m->schema)};
    manifest_add_segment(m, s);
    assert_int_equal(m->stats_bytes, 2);
    struct object object = manifest_object(m, &payload);
    assert_int_equal(manifest_decode(op, "k", &object, &back), ERR_OK);
    assert_null(back->segments[0].stats);
    assert_non_null(back->segments[5].stats);
    assert_int_equal(back->stats_bytes, 2);
    manifest_drop_segment(back, 5);
    assert_int_equal(back->stats_bytes, 0);
    buf_release(&payload);
    manifest_unref(m);
    manifest_unref(back);
    op_release(op);
}

static void a_trimmed_manifest_can_be_read_whatever_was_added(void **state)
{
    const uint64_t day_ms = (uint64_t)24 * 3600 * 1000, now_ms = 100 * day_ms;
    struct buf payload = BUF_INIT;
    struct manifest *m = manifest_new(), *back = NULL;
    struct op *op = new_op();
    (void)state;
    m->schema = schema_new(0, METRIC_L2, NULL, 0);
    for (uint32_t i = 0; i < MANIFEST_FENCES_MAX + 10; i++)
        manifest_add_fence(m, i, now_ms);
    for (uint32_t i = 0; i < MANIFEST_REMOVED_MAX + 10; i++)
        manifest_add_removed(m, "ns/books/aa/segment/1-z.seg", i, 1000 + i);
    manifest_trim(m, 19, now_ms);
    assert_int_equal(m->fence_count, MANIFEST_FENCES_MAX);
    assert_int_equal(m->fences[0].slot, 10);
    assert_int_equal(m->removed_count, MANIFEST_REMOVED_MAX - 10);
    assert_int_equal(m->removed[0].version, 20);
    struct object object = manifest_object(m, &payload);
    assert_int_equal(manifest_decode(op, "k", &object, &back), ERR_OK);
    assert_int_equal(back->fence_count, m->fence_count);
    op_release(op);
    manifest_unref(back);
    manifest_unref(m);
    buf_release(&payload);
}

static void
a_trimmed_manifest_keeps_fences_that_are_young_or_among_the_newest(void **state)
{
    (void)state;
    const uint64_t day_ms = (uint64_t)24 * 3600 * 1000, now_ms = 100 * day_ms;
    struct manifest *m = manifest_new();
    for (uint64_t i = 0; i < 300; i++) /* 200 of them are old */
        manifest_add_fence(m, i, i < 200 ? day_ms : 90 * day_ms);
    manifest_trim(m, 0, now_ms);
    assert_int_equal(m->fence_count, 128);
    assert_int_equal(m->fences[0].slot, 172);
    manifest_add_fence(m, 300, now_ms);
    assert_int_equal(m->fences[128].slot, 300);
    manifest_trim(m, 0, now_ms + 31 * day_ms);
    assert_int_equal(m->fence_count, 128);
    manifest_unref(m);
}

static void manifest_with_any_byte_changed_never_crashes(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct op *op = new_op();
    struct manifest *m = test_manifest();
    struct buf payload = BUF_INIT;
    (void)manifest_object(m, &payload);

    for (int i = 0; i < 20000; i++) {
        size_t size = test_random(&random) % (payload.size + 1);
        uint8_t *bytes = mem_dup(payload.data, size);
        if (size) bytes[test_random(&random) % size] = (uint8_t)test_random(&random);
        struct object o = {.kind = OBJECT_MANIFEST, .payload = slice_of(bytes, size)};
        struct manifest *back = NULL;
        enum err e = manifest_decode(op, "k", &o, &back);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        assert_true((e == ERR_OK) == (back != NULL));
        manifest_unref(back);
        mem_free(bytes);
        op_release(op);
        op = new_op();
    }
    buf_release(&payload);
    manifest_unref(m);
    op_release(op);
}

static struct idempotency_entry entry_of(char *key, uint64_t n)
{
    (void)snprintf(key, 32, "key-%llu", (unsigned long long)n);
    return (struct idempotency_entry){.key = slice_str(key),
                                      .digest = {(uint8_t)n},
                                      .slot = n / 10,
                                      .wall_ms = n,
                                      .upserted = n};
}

static void idempotency_table_finds_each_key_and_survives_storage(void **state)
{
    (void)state;
    struct op *op = new_op();
    struct idempotency *t = idempotency_new(), *back = NULL;
    struct buf bytes = BUF_INIT;
    char key[32];
    for (uint64_t n = 0; n < 5000; n++) {
        struct idempotency_entry e = entry_of(key, n);
        idempotency_add(t, &e);
    }
    idempotency_encode(t, 100, &bytes); /* slots below 100: entries 0 to 999 */
    assert_int_equal(idempotency_decode(op, buf_slice(&bytes), &back), ERR_OK);
    assert_int_equal(idempotency_count(back), 1000);
    for (uint64_t n = 0; n < 6000; n++) {
        (void)entry_of(key, n);
        const struct idempotency_entry *e = idempotency_find(t, slice_str(key));
        assert_true((e != NULL) == (n < 5000));
        if (e) assert_int_equal(e->upserted, n);
        assert_true((idempotency_find(back, slice_str(key)) != NULL) == (n < 1000));
    }
    idempotency_free(t);
    idempotency_free(back);
    buf_release(&bytes);
    op_release(op);
}

static void idempotency_table_forgets_the_oldest_beyond_its_size(void **state)
{
    (void)state;
    struct idempotency *t = idempotency_new();
    char key[32];
    for (uint64_t n = 0; n < IDEMPOTENCY_COUNT_MAX + 10; n++) {
        struct idempotency_entry e = entry_of(key, n);
        idempotency_add(t, &e);
    }
    assert_int_equal(idempotency_count(t), IDEMPOTENCY_COUNT_MAX);
    assert_null(idempotency_find(t, SLICE_LITERAL("key-9")));
    assert_non_null(idempotency_find(t, SLICE_LITERAL("key-10")));
    idempotency_free(t);
}

static void idempotency_table_forgets_what_is_older_than_a_day(void **state)
{
    (void)state;
    struct idempotency *t = idempotency_new();
    char key[32];
    struct idempotency_entry e = entry_of(key, 1);
    idempotency_add(t, &e);
    e = entry_of(key, 2);
    e.wall_ms = 1 + IDEMPOTENCY_AGE_MAX_MS + 1;
    idempotency_add(t, &e);
    assert_null(idempotency_find(t, SLICE_LITERAL("key-1")));
    assert_non_null(idempotency_find(t, SLICE_LITERAL("key-2")));
    idempotency_free(t);
}

static void keys_give_back_their_numbers(void **state)
{
    (void)state;
    struct keys keys = test_keys();
    static const uint64_t numbers[] = {0, 1, 999, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint64_t n;
        struct key k = key_wal(&keys, numbers[i]);
        assert_true(key_wal_slot(&keys, k.text, &n) && n == numbers[i]);
        k = key_manifest(&keys, numbers[i]);
        assert_true(key_manifest_version(&keys, k.text, &n) && n == numbers[i]);
        k = key_catalog("books", numbers[i]);
        assert_true(key_catalog_number("books", k.text, &n) && n == numbers[i]);
        k = key_segment_new(&keys, numbers[i], "seg");
        assert_true(key_segment_epoch(&keys, k.text, &n) && n == numbers[i]);
    }
    assert_true(strcmp(key_manifest(&keys, 8).text, key_manifest(&keys, 7).text) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(object_reads_back_what_was_written),
        cmocka_unit_test(every_flipped_bit_of_an_object_is_detected),
        cmocka_unit_test(object_cut_at_any_length_is_detected),
        cmocka_unit_test(object_under_another_name_is_refused),
        cmocka_unit_test(log_entry_reads_back_with_its_requests),
        cmocka_unit_test(manifest_reads_back_what_was_written),
        cmocka_unit_test(dropping_segments_keeps_the_others_in_order),
        cmocka_unit_test(statistics_come_and_go_with_their_segment),
        cmocka_unit_test(a_trimmed_manifest_can_be_read_whatever_was_added),
        cmocka_unit_test(
            a_trimmed_manifest_keeps_fences_that_are_young_or_among_the_newest),
        cmocka_unit_test(manifest_with_any_byte_changed_never_crashes),
        cmocka_unit_test(idempotency_table_finds_each_key_and_survives_storage),
        cmocka_unit_test(idempotency_table_forgets_the_oldest_beyond_its_size),
        cmocka_unit_test(idempotency_table_forgets_what_is_older_than_a_day),
        cmocka_unit_test(keys_give_back_their_numbers),
    };
    return cmocka_run_group_tests_name("ns formats", tests, NULL, NULL);
}
