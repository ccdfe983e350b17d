/*
 * tests/golden/seahash-4.bin holds what the crate `seahash` 4.1.0 said of 12,000
 * inputs, eight bytes each, little endian. The inputs come from test_random with seed
 * 1: a length (modulo 301), then a number a byte, of which the lowest byte counts.
 */
#include "node/seahash.h"
#include "unit/test.h"

enum { VECTORS = 12000, SIZE_MAX_OF_ONE = 300 };

static void equals_the_reference_crate_on_twelve_thousand_inputs(void **state)
{
    uint8_t bytes[SIZE_MAX_OF_ONE], word[8];
    uint64_t seed = 1;
    bool sizes[SIZE_MAX_OF_ONE + 1] = {false};
    FILE *file = fopen("tests/golden/seahash-4.bin", "rb");
    (void)state;

    assert_non_null(file);
    for (int i = 0; i < VECTORS; i++) {
        uint64_t wanted = 0;
        size_t size = test_random(&seed) % (SIZE_MAX_OF_ONE + 1);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)test_random(&seed);
        assert_int_equal(fread(word, 1, sizeof word, file), sizeof word);
        for (int k = 0; k < 8; k++)
            wanted |= (uint64_t)word[k] << 8 * k;
        assert_true(seahash(slice_of(bytes, size)) == wanted);
        sizes[size] = true;
    }
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    for (size_t size = 0; size <= SIZE_MAX_OF_ONE; size++)
        assert_true(sizes[size]);
}

static void every_byte_counts(void **state)
{
    uint8_t bytes[40] = {0};
    (void)state;
    for (size_t size = 0; size < sizeof bytes; size++) {
        uint64_t before = seahash(slice_of(bytes, size));
        assert_true(before != seahash(slice_of(bytes, size + 1)));
        for (size_t at = 0; at < size; at++) {
            bytes[at] ^= 1;
            assert_true(before != seahash(slice_of(bytes, size)));
            bytes[at] ^= 1;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference_crate_on_twelve_thousand_inputs),
        cmocka_unit_test(every_byte_counts),
    };
    return cmocka_run_group_tests_name("seahash", tests, NULL, NULL);
}
