/*
 * The stores that need no server: memory, a folder, and the fault decorator when it has
 * nothing to do.
 */
#include "unit/store_contract.h"

#include "base/log.h"
#include "store/store_dir.h"
#include "store/store_fault.h"
#include "store/store_mem.h"

static int with_mem(void **state)
{
    fixture_new(state)->store = store_mem_new();
    return 0;
}

static int with_fault(void **state)
{
    static const struct fault_plan calm = {.seed = 1};
    fixture_new(state)->store = store_fault_new(store_mem_new(), &calm);
    return 0;
}

static int with_dir(void **state)
{
    struct fixture *f = fixture_new(state);
    scratch_make(&f->scratch);
    const struct store_dir_options options = {.root = f->scratch.path,
                                              .allow_unsafe_fs = true};
    return store_dir_open(&f->op, &options, &f->store);
}

static void keys_that_break_the_rule_are_not_valid(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "/",   "/a",   "a/",
                                      "a//b",   ".",   "..",   "a/..",
                                      "a/../b", ".a",  "a/.b", "a b",
                                      "a\nb",   "a%b", "a\\b", "caf\xc3\xa9",
                                      "a:b"};
    char large[STORE_KEY_MAX + 2];

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(store_key_valid(bad[i]));
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = i % 2 ? '/' : 'a';
    large[STORE_KEY_MAX + 1] = '\0';
    assert_false(store_key_valid(large));
    memset(large, 'a', STORE_SEGMENT_MAX + 1);
    large[STORE_SEGMENT_MAX + 1] = '\0';
    assert_false(store_key_valid(large));
}

int main(void)
{
    const struct CMUnitTest mem[] = {cmocka_unit_test(
                                         keys_that_break_the_rule_are_not_valid),
                                     CONTRACT(with_mem)};
    const struct CMUnitTest dir[] = {CONTRACT(with_dir)};
    const struct CMUnitTest fault[] = {CONTRACT(with_fault)};

    log_init(LOG_ERROR, LOG_TEXT);
    int failed = cmocka_run_group_tests_name("store in memory", mem, NULL, NULL);
    failed += cmocka_run_group_tests_name("store in a folder", dir, NULL, NULL);
    failed +=
        cmocka_run_group_tests_name("store behind calm weather", fault, NULL, NULL);
    return failed;
}
