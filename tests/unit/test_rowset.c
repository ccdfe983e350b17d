#include "base/rowset.h"

#include "base/mem.h"
#include "base/op.h"
#include "unit/test.h"

static enum err decode(struct slice bytes, uint32_t row_count, struct rowset **out)
{
    struct op op;
    uint8_t *copy = mem_dup(bytes.data, bytes.size); /* exact, so that ASan sees */
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = rowset_decode(&op, slice_of(copy, bytes.size), row_count, out);
    op_release(&op);
    mem_free(copy);
    return e;
}

/* A set that has all three kinds of containers inside, in rows 0 to 400000. */
static struct rowset *mixed_set(uint64_t *seed)
{
    struct rowset *set = rowset_range(1000, 70000);
    for (int i = 0; i < 500; i++)
        rowset_add(set, 140000 + (uint32_t)(test_random(seed) % 60000));
    for (int i = 0; i < 30000; i++)
        rowset_add(set, 262144 + (uint32_t)(test_random(seed) % 65536));
    rowset_add(set, 399999);
    return set;
}

static void empty_sets_and_ranges_hold_nothing(void **state)
{
    (void)state;
    uint32_t row;
    uint64_t bits[2] = {1, 1};
    struct rowset *set = rowset_new();
    rowset_add_range(set, 5, 5);
    rowset_add_range(set, 6, 5);
    assert_int_equal(rowset_count(set), 0);
    assert_int_equal(rowset_read(set, 0, &row, 1), 0);
    rowset_bits(set, 0, bits, 2);
    assert_true(bits[0] == 0 && bits[1] == 0);
    assert_false(rowset_has(set, 0));
    rowset_unref(set);
    set = rowset_range(0, 0);
    assert_int_equal(rowset_count(set), 0);
    rowset_unref(set);
    set = rowset_from(NULL, 0);
    assert_int_equal(rowset_count(set), 0);
    rowset_unref(set);
}

static void a_shared_set_lives_until_its_last_reference_goes(void **state)
{
    (void)state;
    assert_null(rowset_ref(NULL));
    rowset_unref(NULL);
    struct rowset *set = rowset_range(0, 10);
    struct rowset *again = rowset_ref(set);
    assert_ptr_equal(again, set);
    rowset_unref(set);
    assert_int_equal(rowset_count(again), 10);
    rowset_unref(again);
}

static void a_copy_changes_alone(void **state)
{
    (void)state;
    struct rowset *set = rowset_range(0, 10);
    struct rowset *copy = rowset_copy(set);
    rowset_add(copy, 100);
    rowset_add_range(set, 20, 25);
    assert_int_equal(rowset_count(copy), 11);
    assert_int_equal(rowset_count(set), 15);
    rowset_unref(set);
    rowset_unref(copy);
}

static void the_last_rows_of_32_bits_are_rows_like_others(void **state)
{
    (void)state;
    uint32_t rows[4];
    uint64_t bits;
    struct rowset *set = rowset_range(UINT32_MAX - 2, UINT32_MAX);
    rowset_add(set, UINT32_MAX);
    assert_int_equal(rowset_count(set), 3);
    assert_int_equal(rowset_count_range(set, UINT32_MAX - 1, UINT32_MAX), 1);
    assert_int_equal(rowset_read(set, UINT32_MAX, rows, 4), 1);
    assert_true(rows[0] == UINT32_MAX);
    rowset_bits(set, UINT32_MAX - 63, &bits, 1);
    assert_true(bits == UINT64_C(7) << 61);
    rowset_flip(set, UINT32_MAX);
    assert_int_equal(rowset_count(set), UINT32_MAX - 2u);
    rowset_unref(set);
}

static void a_set_combined_with_itself_is_itself_or_nothing(void **state)
{
    (void)state;
    struct rowset *set = rowset_range(3, 9);
    rowset_and(set, set);
    rowset_or(set, set);
    assert_int_equal(rowset_count(set), 6);
    rowset_andnot(set, set);
    assert_int_equal(rowset_count(set), 0);
    rowset_unref(set);
}

/* ---- against an array of flags ---- */

enum { UNIVERSE = 200000 };

struct pair {
    struct rowset *set;
    bool *flags;
};

static void take_rows(struct pair *p, uint32_t first, uint32_t size, uint64_t *seed)
{
    struct rowset *gone = rowset_new();
    for (uint32_t k = 0; k < 3000; k++) {
        uint32_t row = first + (uint32_t)(test_random(seed) % size);
        rowset_add(gone, row);
        p->flags[row] = false;
    }
    rowset_andnot(p->set, gone);
    rowset_unref(gone);
}

static struct pair random_pair(uint64_t *seed)
{
    struct pair p = {rowset_new(), mem_new_array(bool, UNIVERSE)};
    size_t steps = test_random(seed) % 12;
    for (size_t i = 0; i < steps; i++) {
        uint32_t first = (uint32_t)(test_random(seed) % UNIVERSE);
        uint32_t room = UNIVERSE - first;
        uint32_t size = 1 + (uint32_t)(test_random(seed) % room);
        switch (test_random(seed) % 4) {
        case 0:
            rowset_add_range(p.set, first, first + size);
            memset(p.flags + first, 1, size);
            break;
        case 1: take_rows(&p, first, size, seed); break;
        default:
            for (uint32_t k = 0; k < 5000; k++) {
                uint32_t row = first + (uint32_t)(test_random(seed) % size);
                rowset_add(p.set, row);
                p.flags[row] = true;
            }
        }
    }
    return p;
}

static void free_pair(struct pair *p)
{
    rowset_unref(p->set);
    mem_free(p->flags);
}

static void check_count_and_has(const struct pair *p, uint64_t *seed)
{
    uint64_t count = 0, in_range = 0;
    uint32_t first = (uint32_t)(test_random(seed) % UNIVERSE);
    uint32_t end = (uint32_t)(test_random(seed) % UNIVERSE);
    for (uint32_t row = 0; row < UNIVERSE; row++) {
        count += p->flags[row];
        in_range += p->flags[row] && row >= first && row < end;
    }
    assert_int_equal(rowset_count(p->set), count);
    assert_int_equal(rowset_count_range(p->set, first, end), in_range);
    for (int i = 0; i < 1000; i++) {
        uint32_t row = (uint32_t)(test_random(seed) % UNIVERSE);
        assert_int_equal(rowset_has(p->set, row), p->flags[row]);
    }
}

static void check_read(const struct pair *p, uint64_t *seed)
{
    uint32_t rows[700];
    uint32_t next = 0; /* all before it were seen */
    for (;;) {
        size_t max = 1 + test_random(seed) % COUNT_OF(rows);
        size_t n = rowset_read(p->set, next, rows, max);
        for (size_t i = 0; i < n; i++) {
            while (next < rows[i])
                assert_false(p->flags[next++]);
            assert_true(p->flags[next++]);
        }
        if (n < max) break;
    }
    while (next < UNIVERSE)
        assert_false(p->flags[next++]);
}

static void check_bits(const struct pair *p, uint64_t *seed)
{
    uint64_t bits[100];
    uint32_t first = (uint32_t)(test_random(seed) % UNIVERSE);
    size_t words = test_random(seed) % COUNT_OF(bits);
    rowset_bits(p->set, first, bits, words);
    for (uint32_t i = 0; i < words * 64; i++) {
        bool wanted = first + i < UNIVERSE && p->flags[first + i];
        assert_int_equal(bits[i / 64] >> i % 64 & 1, wanted);
    }
}

static void check_stored(const struct pair *p, uint64_t *seed)
{
    struct buf bytes = BUF_INIT;
    struct pair back = {.flags = p->flags};
    rowset_encode(p->set, &bytes);
    assert_int_equal(decode(buf_slice(&bytes), UNIVERSE, &back.set), ERR_OK);
    check_count_and_has(&back, seed);
    check_read(&back, seed);
    rowset_unref(back.set);
    buf_release(&bytes);
}

static void check_all(const struct pair *p, uint64_t *seed)
{
    check_count_and_has(p, seed);
    check_read(p, seed);
    check_bits(p, seed);
    check_stored(p, seed);
}

static void random_sets_equal_arrays_of_flags(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < BY_FLAVOUR(60, 15); round++) {
        struct pair a = random_pair(&seed), b = random_pair(&seed);
        check_all(&a, &seed);
        int operation = round % 4;
        uint32_t end = (uint32_t)(test_random(&seed) % UNIVERSE);
        if (operation == 0) rowset_and(a.set, b.set);
        if (operation == 1) rowset_or(a.set, b.set);
        if (operation == 2) rowset_andnot(a.set, b.set);
        if (operation == 3) rowset_flip(a.set, end);
        for (uint32_t i = 0; i < UNIVERSE; i++) {
            bool x = a.flags[i], y = b.flags[i];
            const bool wanted[] = {x && y, x || y, x && !y, i < end && !x};
            a.flags[i] = wanted[operation];
        }
        check_all(&a, &seed);
        check_all(&b, &seed);
        free_pair(&a);
        free_pair(&b);
    }
}

static void rows_given_in_any_order_make_the_same_set(void **state)
{
    (void)state;
    static const uint32_t rows[] = {70000, 3, 3, 199999, 0, 65536, 65535};
    uint32_t read[10];
    struct rowset *set = rowset_from(rows, COUNT_OF(rows));
    assert_int_equal(rowset_read(set, 0, read, 10), 6);
    static const uint32_t wanted[] = {0, 3, 65535, 65536, 70000, 199999};
    assert_memory_equal(read, wanted, sizeof wanted);
    rowset_unref(set);
}

/* ---- damaged bytes ---- */

static void a_row_beyond_the_segment_is_corrupt(void **state)
{
    (void)state;
    struct buf bytes = BUF_INIT;
    struct rowset *set = rowset_range(0, 100), *out;
    rowset_encode(set, &bytes);
    assert_int_equal(decode(buf_slice(&bytes), 99, &out), ERR_CORRUPT);
    assert_null(out);
    assert_int_equal(decode(buf_slice(&bytes), 100, &out), ERR_OK);
    rowset_unref(out);
    rowset_unref(set);
    buf_release(&bytes);
}

static void bytes_cut_short_or_lengthened_are_corrupt(void **state)
{
    (void)state;
    uint64_t seed = 1;
    struct buf bytes = BUF_INIT;
    struct rowset *set = mixed_set(&seed), *out;
    rowset_encode(set, &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        struct slice cut = slice_of(bytes.data, size);
        assert_int_equal(decode(cut, UINT32_MAX, &out), ERR_CORRUPT);
    }
    buf_append_byte(&bytes, 0);
    assert_int_equal(decode(buf_slice(&bytes), UINT32_MAX, &out), ERR_CORRUPT);
    rowset_unref(set);
    buf_release(&bytes);
}

/* Whatever is accepted must be a set like any other: its count is right, its rows
 * ascend, and it can be stored again. */
static void use_if_accepted(struct slice bytes)
{
    enum { ROWS = 400000 };
    static uint32_t rows[ROWS];
    struct rowset *set;
    enum err e = decode(bytes, ROWS, &set);
    assert_true(e == ERR_OK || e == ERR_CORRUPT);
    if (e) return;
    size_t n = rowset_read(set, 0, rows, ROWS);
    assert_int_equal(n, rowset_count(set));
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i] < ROWS);
        if (i > 0) assert_true(rows[i - 1] < rows[i]);
    }
    struct buf again = BUF_INIT;
    rowset_encode(set, &again);
    struct rowset *back;
    assert_int_equal(decode(buf_slice(&again), ROWS, &back), ERR_OK);
    assert_int_equal(rowset_count(back), n);
    rowset_unref(back);
    rowset_unref(set);
    buf_release(&again);
}

static void every_flipped_bit_is_corrupt_or_another_sound_set(void **state)
{
    (void)state;
    uint64_t seed = 2;
    struct buf bytes = BUF_INIT;
    struct rowset *set = rowset_from((const uint32_t[]){1, 5, 9, 70000, 70001}, 5);
    rowset_add_range(set, 131072, 131972);
    rowset_add_range(set, 132000, 132002);
    rowset_encode(set, &bytes);
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        use_if_accepted(buf_slice(&bytes));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    rowset_unref(set);
    buf_clear(&bytes);
    set = mixed_set(&seed);
    rowset_encode(set, &bytes);
    for (int i = 0; i < 300; i++) {
        size_t bit = test_random(&seed) % (bytes.size * 8);
        if (i < 200) bit %= 800; /* mostly the head */
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        use_if_accepted(buf_slice(&bytes));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    rowset_unref(set);
    buf_release(&bytes);
}

static void random_bytes_are_never_trusted(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[64];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)(test_random(&seed) % (i % 2 ? 256 : 3));
        bytes[0] = i % 3 ? 0x3a : 0x3b;
        bytes[1] = 0x30;
        bytes[2] = bytes[3] = 0;
        use_if_accepted(slice_of(bytes, test_random(&seed) % (sizeof bytes + 1)));
    }
}

/* A chunk of each of the library's kinds, in any order: few rows, many, runs. */
static struct rowset *random_chunks(uint64_t *rng, uint32_t rows)
{
    struct rowset *set = rowset_new();
    for (uint32_t base = 0; base < rows; base += 65536) {
        uint32_t kind = (uint32_t)(test_random(rng) % 5);
        uint32_t n = kind == 0 ? 0 : kind == 1 ? 300 : kind == 2 ? 60000 : 40;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t row = base + (uint32_t)(test_random(rng) % 65536);
            if (kind <= 2)
                rowset_add(set, row);
            else
                rowset_add_range(set, row, row + (uint32_t)(test_random(rng) % 3000));
        }
        if (kind == 4) rowset_add_range(set, base, base + 65536);
    }
    return set;
}

static void any_window_of_any_kind_of_chunk_is_read_as_bits(void **state)
{
    (void)state;
    enum { ROWS = 5 * 65536, WORDS = 3000 };
    uint64_t rng = test_seed(), bits[WORDS];
    for (int round = 0; round < BY_FLAVOUR(40, 10); round++) {
        struct rowset *set = random_chunks(&rng, ROWS);
        for (int i = 0; i < 10; i++) {
            uint32_t first = (uint32_t)(test_random(&rng) % ROWS);
            if (i % 2) first &= ~63u;
            size_t words = 1 + test_random(&rng) % (i < 5 ? 3 : WORDS);
            rowset_bits(set, first, bits, words);
            for (size_t k = 0; k < words * 64; k++)
                assert_int_equal(bits[k / 64] >> k % 64 & 1,
                                 rowset_has(set, first + (uint32_t)k));
        }
        rowset_unref(set);
    }
}

static void a_set_of_bits_has_the_rows_of_the_bits(void **state)
{
    (void)state;
    enum { WORDS = 3 * 1024 + 17 };
    uint64_t rng = test_seed();
    uint64_t *bits = calloc(WORDS, sizeof *bits), *back = calloc(WORDS, sizeof *bits);
    for (int round = 0; round < BY_FLAVOUR(40, 10); round++) {
        struct rowset *source = random_chunks(&rng, 4 * 65536);
        size_t words = round == 0 ? 0 : 1 + test_random(&rng) % WORDS;
        rowset_bits(source, 0, bits, words);
        struct rowset *set = rowset_from_bits(bits, words);
        uint64_t count = 0;
        for (size_t i = 0; i < words; i++)
            count += (uint64_t)__builtin_popcountll(bits[i]);
        assert_true(rowset_count(set) == count);
        rowset_bits(set, 0, back, words);
        assert_memory_equal(back, bits, words * sizeof *bits);
        rowset_add(set, 5); /* it is a set like any other */
        assert_true(rowset_has(set, 5));
        rowset_unref(set);
        rowset_unref(source);
    }
    free(bits);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_window_of_any_kind_of_chunk_is_read_as_bits),
        cmocka_unit_test(a_set_of_bits_has_the_rows_of_the_bits),
        cmocka_unit_test(empty_sets_and_ranges_hold_nothing),
        cmocka_unit_test(a_shared_set_lives_until_its_last_reference_goes),
        cmocka_unit_test(a_copy_changes_alone),
        cmocka_unit_test(the_last_rows_of_32_bits_are_rows_like_others),
        cmocka_unit_test(a_set_combined_with_itself_is_itself_or_nothing),
        cmocka_unit_test(random_sets_equal_arrays_of_flags),
        cmocka_unit_test(rows_given_in_any_order_make_the_same_set),
        cmocka_unit_test(a_row_beyond_the_segment_is_corrupt),
        cmocka_unit_test(bytes_cut_short_or_lengthened_are_corrupt),
        cmocka_unit_test(every_flipped_bit_is_corrupt_or_another_sound_set),
        cmocka_unit_test(random_bytes_are_never_trusted),
    };
    return cmocka_run_group_tests_name("rowset", tests, NULL, NULL);
}
