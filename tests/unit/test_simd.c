#include "base/simd.h"

#include "base/op.h"
#include "unit/test.h"

static enum err init_with(const char *value, char *error)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (value)
        assert_int_equal(setenv("ELACSYM_SIMD", value, 1), 0);
    else
        assert_int_equal(unsetenv("ELACSYM_SIMD"), 0);
    enum err e = simd_init(&op);
    strcpy(error, op.error);
    op_release(&op);
    return e;
}

static void without_the_variable_the_machines_best_is_used(void **state)
{
    (void)state;
    char error[OP_ERROR_MAX];
    assert_int_equal(init_with(NULL, error), ERR_OK);
    assert_int_equal(simd_level(), simd_detect());
    assert_int_equal(init_with("", error), ERR_OK);
    assert_int_equal(simd_level(), simd_detect());
}

static void the_variable_lowers_the_level(void **state)
{
    (void)state;
    char error[OP_ERROR_MAX];
    assert_int_equal(init_with("plain", error), ERR_OK);
    assert_int_equal(simd_level(), SIMD_PLAIN);
    assert_int_equal(init_with(simd_name(simd_detect()), error), ERR_OK);
    assert_int_equal(simd_level(), simd_detect());
}

static void what_the_machine_lacks_is_refused_with_what_it_has(void **state)
{
    (void)state;
    char error[OP_ERROR_MAX];
    const char *foreign = simd_detect() == SIMD_NEON ? "avx2" : "neon";
    simd_force(SIMD_PLAIN);
    assert_int_equal(init_with(foreign, error), ERR_INVALID);
    assert_non_null(strstr(error, foreign));
    assert_non_null(strstr(error, ": this machine allows plain"));
    assert_int_equal(init_with("fast", error), ERR_INVALID);
    assert_non_null(strstr(error, "ELACSYM_SIMD=fast: "));
    assert_int_equal(simd_level(), SIMD_PLAIN); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_variable_the_machines_best_is_used),
        cmocka_unit_test(the_variable_lowers_the_level),
        cmocka_unit_test(what_the_machine_lacks_is_refused_with_what_it_has),
    };
    return cmocka_run_group_tests_name("simd", tests, NULL, NULL);
}
