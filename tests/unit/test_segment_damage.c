/*
 * Damaged segments: whatever happens to the bytes in the store, an answer is either the
 * right one or ERR_CORRUPT. Nonsense whose checksums are right may answer anything, but
 * harms nothing (run under ASan and UBSan).
 */
#include "segment/segment.h"
#include "segment/segment_format.h"
#include "segment/segment_parts.h"
#include "unit/segment_world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE = 47 }; /* of bits, from a place of chance: slower by as much */
#else
enum { STRIDE = 3 };
#endif

enum { CACHE_SIZE = 4 << 20 };

/* A segment of 8 to 24 KiB with everything in it, and its right answers. */
struct victim {
    uint64_t rng;
    struct world w;
    struct buf answers[COUNT_OF(questions)];
    struct store *store;
    uint64_t detected, harmless;
};

static const struct attr victim_attrs[] = {
    {.name = "title",
     .type = ATTR_STRING,
     .full_text = true,
     .analysis = {LANG_ENGLISH, true, true, false, false}},
    {.name = "tags", .type = ATTR_STRING, .array = true},
    {.name = "number", .type = ATTR_INT},
    {.name = "price", .type = ATTR_FLOAT},
    {.name = "uuid", .type = ATTR_UUID},
    {.name = "flags", .type = ATTR_BOOL, .array = true}};

static void victim_make(struct victim *v, uint64_t rng)
{
    struct world *w = &v->w;
    struct segment *s;
    struct buf copy = BUF_INIT;
    *v = (struct victim){.rng = rng, .store = store_mem_new()};
    struct world_shape shape = {.row_count = 40,
                                .vector_dim = 16,
                                .attr_count = COUNT_OF(victim_attrs),
                                .string_ids = random_index(&v->rng, 2),
                                .vector_percent = 80,
                                .zstd_level = (int)random_index(&v->rng, 2),
                                .index_from = 1};

    world_make(w, &v->rng, shape);
    schema_unref(w->schema);
    w->schema = schema_new(16, METRIC_COSINE, victim_attrs, COUNT_OF(victim_attrs));
    for (uint32_t row = 0; row < shape.row_count; row++) {
        const float *vector = w->docs[row].vector;
        w->docs[row] = random_doc(&w->op, &w->rng, w->docs[row].id, w->schema);
        w->docs[row].vector = vector;
        world_values(w, &w->docs[row]);
    }
    for (size_t i = 0; i < WORLD_FILTERS; i++)
        w->filters[i] = world_filter(w);
    buf_clear(&w->bytes);
    world_build(w, w->schema, w->docs, shape.row_count, &w->bytes);
    assert_in_range(w->bytes.size, 8 << 10, 24 << 10);

    buf_append_slice(&copy, buf_slice(&w->bytes));
    assert_int_equal(segment_open_memory(&w->op, &copy, &s), ERR_OK);
    for (size_t q = 0; q < COUNT_OF(questions); q++)
        assert_int_equal(questions[q](&w->op, s, w, &v->answers[q]), ERR_OK);
    segment_unref(s);
    struct slice bytes = buf_slice(&w->bytes);
    assert_int_equal(store_put(&w->op, v->store, "segment", &bytes, 1), ERR_OK);
}

static void victim_release(struct victim *v)
{
    for (size_t q = 0; q < COUNT_OF(questions); q++)
        buf_release(&v->answers[q]);
    store_free(v->store);
    world_release(&v->w);
}

static void victim_renew(struct victim *v)
{
    victim_release(v);
    victim_make(v, v->rng);
}

static int victim_setup(void **state)
{
    static struct victim victim;
    victim_make(&victim, test_seed());
    *state = &victim;
    return 0;
}

static int victim_teardown(void **state)
{
    victim_release(*state);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, victim_setup, victim_teardown)

/* Asks everything; each answer must be right or ERR_CORRUPT with the object's name. */
static void expect_no_wrong_answer(struct victim *v, struct segment *s)
{
    bool detected = false;
    for (size_t q = 0; q < COUNT_OF(questions); q++) {
        struct buf answer = BUF_INIT;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        enum err e = questions[q](&op, s, &v->w, &answer);
        if (e) {
            assert_int_equal(e, ERR_CORRUPT);
            assert_non_null(strstr(op.error, "segment"));
            detected = true;
        } else {
            assert_true(slice_equal(buf_slice(&answer), buf_slice(&v->answers[q])));
        }
        buf_release(&answer);
        op_release(&op);
    }
    if (detected)
        v->detected++;
    else
        v->harmless++;
}

static void expect_detected_or_right(struct victim *v, enum guise guise,
                                     struct slice bytes)
{
    struct cache *cache = cache_new(v->store, CACHE_SIZE);
    struct segment *s = NULL;
    struct op op;

    op_init(&op, OP_NO_DEADLINE, 0);
    assert_true(store_mem_overwrite(v->store, "segment", bytes));
    enum err e = guise_open(&op, guise, bytes, cache, "segment", &s);
    if (e) {
        assert_int_equal(e, ERR_CORRUPT);
        assert_non_null(strstr(op.error, guise == IN_MEMORY ? "memory" : "segment"));
        v->detected++;
    } else {
        expect_no_wrong_answer(v, s);
    }
    segment_unref(s);
    assert_true(cache_usage(cache).pinned_bytes == 0);
    cache_free(cache);
    op_release(&op);
}

static void flip_every_bit(struct victim *v, enum guise guise, bool header_counts)
{
    uint8_t *bytes = v->w.bytes.data;
    for (size_t bit = random_index(&v->rng, STRIDE); bit < 8 * v->w.bytes.size;
         bit += STRIDE) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        uint64_t harmless = v->harmless;
        expect_detected_or_right(v, guise, buf_slice(&v->w.bytes));
        if (header_counts || bit / 8 >= SEGMENT_HEADER_SIZE)
            assert_true(v->harmless == harmless);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void every_flipped_bit_is_found_when_all_is_held(void **state)
{
    struct victim *v = *state;
    flip_every_bit(v, IN_MEMORY, true);
    victim_renew(v);
    flip_every_bit(v, STORED, true);
}

/* Nothing but its end is held: sections are checked as they arrive. The header is not
 * read at all, so nothing can follow from it. */
static void every_flipped_bit_is_found_before_it_is_used(void **state)
{
    struct victim *v = *state;
    flip_every_bit(v, STORED_SMALL_TAIL, false);
}

/* The header too, which nothing else reads. */
static void verifying_finds_every_flipped_byte(void **state)
{
    struct victim *v = *state;
    for (size_t at = 0; at <= v->w.bytes.size; at++) {
        bool damaged = at < v->w.bytes.size;
        struct cache *cache = cache_new(v->store, CACHE_SIZE);
        struct segment *s = NULL;
        struct op op;
        uint8_t mask = (uint8_t)(1 + random_index(&v->rng, 255));
        op_init(&op, OP_NO_DEADLINE, 0);
        if (damaged) v->w.bytes.data[at] ^= mask;
        assert_true(store_mem_overwrite(v->store, "segment", buf_slice(&v->w.bytes)));
        enum err e = guise_open(&op, STORED_SMALL_TAIL, buf_slice(&v->w.bytes), cache,
                                "segment", &s);
        if (!e) e = segment_verify(&op, s);
        assert_int_equal(e, damaged ? ERR_CORRUPT : ERR_OK);
        if (damaged) v->w.bytes.data[at] ^= mask;
        segment_unref(s);
        op_release(&op);
        cache_free(cache);
    }
}

/* What a segment says of its documents, with every checksum right. */
static void verifying_finds_every_count_that_is_not_so(void **state)
{
    struct victim *v = *state;
    struct segment *s = NULL;
    struct op op;

    struct buf copy = BUF_INIT;
    buf_append_slice(&copy, buf_slice(&v->w.bytes));
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(segment_open_memory(&op, &copy, &s), ERR_OK);
    assert_int_equal(segment_verify_counts(&op, s, v->w.schema), ERR_OK);
    for (uint32_t i = 0; i <= s->layout.attr_count; i++) {
        uint32_t *count = i < s->layout.attr_count ? &s->layout.attrs[i].value_count
                                                   : &s->layout.vector_count;
        ++*count;
        assert_int_equal(segment_verify_counts(&op, s, v->w.schema), ERR_CORRUPT);
        assert_non_null(strstr(op.error, "it says"));
        op_clear_error(&op);
        --*count;
    }
    segment_unref(s);
    op_release(&op);
}

static void an_object_cut_at_any_length_is_corrupt(void **state)
{
    struct victim *v = *state;
    for (enum guise guise = IN_MEMORY; guise < GUISES; guise++) {
        for (size_t size = 0; size < v->w.bytes.size; size += 1 + size / 64) {
            uint64_t detected = v->detected;
            expect_detected_or_right(v, guise, slice_of(v->w.bytes.data, size));
            assert_true(v->detected == detected + 1);
        }
    }
}

/* The manifest remembers another size than the object has. */
static void an_object_of_another_size_is_corrupt(void **state)
{
    struct victim *v = *state;
    size_t size = v->w.bytes.size;
    for (size_t claimed = size - 200; claimed < size + 200; claimed++) {
        struct cache *cache = cache_new(v->store, CACHE_SIZE);
        struct segment *s = NULL;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        assert_int_equal(segment_open(&op, cache, "segment", claimed, &s),
                         claimed == size ? ERR_OK : ERR_CORRUPT);
        segment_unref(s);
        op_release(&op);
        cache_free(cache);
    }
}

static void swapped_pieces_are_found(void **state)
{
    struct victim *v = *state;
    enum { PIECE = SECTION_ALIGNMENT };
    uint8_t *bytes = v->w.bytes.data;
    size_t pieces = v->w.bytes.size / PIECE;
    for (size_t i = 0; i < 100 + 6000 / STRIDE; i++) {
        uint8_t kept[PIECE];
        uint8_t *a = bytes + random_index(&v->rng, pieces) * PIECE;
        uint8_t *b = bytes + random_index(&v->rng, pieces) * PIECE;
        memcpy(kept, a, PIECE);
        memmove(a, b, PIECE);
        memcpy(b, kept, PIECE);
        expect_detected_or_right(v, i % 2 ? STORED_SMALL_TAIL : STORED,
                                 buf_slice(&v->w.bytes));
        memcpy(kept, a, PIECE);
        memmove(a, b, PIECE);
        memcpy(b, kept, PIECE);
    }
    assert_true(v->detected > v->harmless);
}

/* A damaged answer of the store is not kept: the next read may be better. */
static void what_was_damaged_on_its_way_is_read_again(void **state)
{
    struct victim *v = *state;
    struct segment *s;
    struct buf answer = BUF_INIT;
    struct op *op = &v->w.op;
    struct cache *cache = cache_new(v->store, CACHE_SIZE);
    struct slice bytes = buf_slice(&v->w.bytes);
    assert_int_equal(guise_open(op, STORED_SMALL_TAIL, bytes, cache, "segment", &s),
                     ERR_OK);
    v->w.bytes.data[SEGMENT_HEADER_SIZE] ^= 1;
    assert_true(store_mem_overwrite(v->store, "segment", bytes));
    assert_int_equal(ask_vectors(op, s, &v->w, &answer), ERR_CORRUPT);
    v->w.bytes.data[SEGMENT_HEADER_SIZE] ^= 1;
    assert_true(store_mem_overwrite(v->store, "segment", bytes));
    assert_int_equal(ask_vectors(op, s, &v->w, &answer), ERR_OK);
    assert_true(slice_equal(buf_slice(&answer), buf_slice(&v->answers[1])));
    buf_release(&answer);
    segment_unref(s);
    cache_free(cache);
}

/* ---- nonsense with right checksums ---- */

/* The checks in the document index, for blocks as they were before the damage. */
static void reseal_documents(uint8_t *bytes, const struct segment_layout *l,
                             const uint8_t *base)
{
    const struct section *documents = layout_section(l, SECTION_DOCUMENTS, 0);
    const struct section *index = layout_section(l, SECTION_DOCUMENT_INDEX, 0);
    struct reader r = reader_of(slice_of(base + index->offset, (size_t)index->size));
    uint64_t at = documents->offset;
    while (reader_left(&r) > 0) {
        (void)get_u64(&r); /* first row, size of the records */
        uint64_t end = at + get_u32(&r);
        size_t check_at = r.offset;
        (void)get_u32(&r);
        if (reader_left(&r) == 0) end = section_end(documents);
        uint32_t check = crc32c(0, bytes + at, (size_t)(end - at));
        memcpy(bytes + index->offset + check_at, &check, sizeof check);
        at = end;
    }
}

/* The checks in the vector index: of its records, and of itself. */
static void reseal_index(uint8_t *bytes, const struct segment_layout *l,
                         const uint8_t *base)
{
    const struct section *index = layout_section(l, SECTION_INDEX, 0);
    const struct section *records = layout_section(l, SECTION_RECORDS, 0);
    uint8_t *head = bytes + index->offset;
    struct op op;
    struct ivf *ivf;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(ivf_open(&op, slice_of(base + index->offset, (size_t)index->size),
                              &ivf),
                     ERR_OK);
    uint32_t clusters = ivf_clusters(ivf);
    uint8_t *checks = head + index->size - clusters * sizeof(uint32_t);
    for (uint32_t i = 0; i < clusters; i++) {
        struct ivf_record r = ivf_record_of(ivf, i);
        uint32_t check = crc32c(0, bytes + records->offset + r.offset, r.size);
        memcpy(checks + i * sizeof check, &check, sizeof check);
    }
    memset(head + 60, 0, sizeof(uint32_t));
    uint32_t check = crc32c(0, head, (size_t)index->size);
    memcpy(head + 60, &check, sizeof check);
    ivf_close(ivf);
    op_release(&op);
}

/* Makes all checksums of the object right again; its layout is that of the segment. */
static void reseal(uint8_t *bytes, size_t size, const struct segment_layout *l,
                   uint64_t directory_offset, const uint8_t *base)
{
    reseal_documents(bytes, l, base);
    reseal_index(bytes, l, base);
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct section *s = &l->sections[i];
        struct buf copy = BUF_INIT, checks = BUF_INIT;
        struct section sealed = *s;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        buf_append(&copy, bytes, (size_t)(s->offset + s->size));
        section_seal(&op, &sealed, 0, &copy, &checks);
        op_release(&op);
        memcpy(bytes + s->offset, copy.data + s->offset,
               (size_t)(section_end(s) - s->offset));
        if (checks.size)
            memcpy(bytes + (s->checks.data - base), checks.data, checks.size);
        buf_release(&copy);
        buf_release(&checks);
    }
    uint8_t *footer = bytes + size - SEGMENT_FOOTER_SIZE;
    xxh3_128(bytes + directory_offset,
             size - SEGMENT_FOOTER_SIZE - (size_t)directory_offset, footer + 24);
    uint32_t check = crc32c(0, footer, 52);
    memcpy(footer + 52, &check, sizeof check);
}

static void ask_everything(struct victim *v, struct segment *s)
{
    for (size_t q = 0; q < COUNT_OF(questions); q++) {
        struct buf answer = BUF_INIT;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 64 << 20);
        /* Rows and attributes are those of the victim unless the counts are damaged. */
        bool same_shape = segment_row_count(s) == v->w.shape.row_count;
        if (same_shape) (void)questions[q](&op, s, &v->w, &answer);
        buf_release(&answer);
        op_release(&op);
    }
}

static void nonsense_with_right_checksums_does_no_harm(void **state)
{
    struct victim *v = *state;
    struct segment_footer footer;
    struct segment_layout layout;
    size_t size = v->w.bytes.size;
    const uint8_t *base = v->w.bytes.data;
    assert_int_equal(segment_footer_decode(&v->w.op,
                                           slice_of(base + size - SEGMENT_FOOTER_SIZE,
                                                    SEGMENT_FOOTER_SIZE),
                                           size, &footer),
                     ERR_OK);
    uint64_t at = footer.directory_offset;
    assert_int_equal(segment_directory_decode(&v->w.op,
                                              slice_of(base + at,
                                                       size - SEGMENT_FOOTER_SIZE - at),
                                              &footer, &layout),
                     ERR_OK);
    unsigned opened = 0;
    for (int round = 0; round < 20000 / (STRIDE > 1 ? 4 : 1); round++) {
        struct buf bytes = BUF_INIT;
        struct segment *s = NULL;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 64 << 20);
        buf_append_slice(&bytes, buf_slice(&v->w.bytes));
        /* Half of the damage goes where a flip says most: ids and everything behind. */
        uint64_t from = round % 2 ? layout.resident_offset : SEGMENT_HEADER_SIZE;
        for (uint32_t n = 1 + random_index(&v->rng, 3); n > 0; n--) {
            uint64_t where = from + random_index(&v->rng, size - from);
            if (random_index(&v->rng, 3))
                bytes.data[where] ^= (uint8_t)(1 << random_index(&v->rng, 8));
            else
                bytes.data[where] = (uint8_t)random_index(&v->rng, 256);
        }
        reseal(bytes.data, size, &layout, at, base);
        if (segment_open_memory(&op, &bytes, &s) == ERR_OK) {
            opened++;
            ask_everything(v, s);
        }
        segment_unref(s);
        op_release(&op);
    }
    assert_true(opened > 100);
    segment_layout_release(&layout);
}

static void random_bytes_are_no_segment(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 2000; round++) {
        struct buf bytes = BUF_INIT;
        struct segment *s;
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        for (uint32_t n = random_index(&rng, 400); n > 0; n--)
            put_u8(&bytes, (uint8_t)random_index(&rng, 256));
        assert_int_equal(segment_open_memory(&op, &bytes, &s), ERR_CORRUPT);
        assert_null(s);
        assert_null(bytes.data);
        op_release(&op);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_bit_is_found_when_all_is_held),
        TEST(every_flipped_bit_is_found_before_it_is_used),
        TEST(verifying_finds_every_flipped_byte),
        TEST(verifying_finds_every_count_that_is_not_so),
        TEST(an_object_cut_at_any_length_is_corrupt),
        TEST(an_object_of_another_size_is_corrupt),
        TEST(swapped_pieces_are_found),
        TEST(what_was_damaged_on_its_way_is_read_again),
        TEST(nonsense_with_right_checksums_does_no_harm),
        cmocka_unit_test(random_bytes_are_no_segment),
    };
    return cmocka_run_group_tests_name("segment damage", tests, NULL, NULL);
}
