#include "text/text_kernels.h"

#include <stdbool.h>

#include "base/simd.h"
#include "unit/test.h"

enum { ROWS = 64 };

static float random_sum(uint64_t *seed)
{
    uint64_t kind = test_random(seed) % 4;
    if (kind == 0) return -0.0F;
    if (kind == 1) return 0;
    return (float)(test_random(seed) % 1000) * 0.01F;
}

static void every_instruction_set_finds_the_same_rows(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    _Alignas(64) float sums[ROWS];
    _Alignas(64) int32_t bits[ROWS];

    for (size_t i = 0; i < 2000; i++) {
        uint64_t wanted = 0;
        float need = random_sum(&seed);
        int32_t least = 0;
        if (need > 0) memcpy(&least, &need, sizeof least);
        for (uint32_t row = 0; row < ROWS; row++) {
            sums[row] = random_sum(&seed);
            bool there = !__builtin_signbit(sums[row]);
            wanted |= (uint64_t)(there && sums[row] >= need) << row;
        }
        memcpy(bits, sums, sizeof bits);
        simd_force(SIMD_PLAIN);
        assert_true(text_kernels()->reach(bits, least) == wanted);
        simd_force(simd_detect());
        assert_true(text_kernels()->reach(bits, least) == wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_set_finds_the_same_rows),
    };
    return cmocka_run_group_tests_name("text kernels", tests, NULL, NULL);
}
