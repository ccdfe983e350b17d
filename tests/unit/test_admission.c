#include <stdatomic.h>

#include "base/op.h"
#include "base/task.h"
#include "ns/admission.h"
#include "unit/test.h"

static enum err enter(struct admission *a, const char *name)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = admission_enter(&op, a, name);
    if (e) {
        assert_non_null(strstr(op.error, name));
        assert_true(op.retry_after_ms > 0);
    }
    op_release(&op);
    return e;
}

static void beyond_the_limit_a_name_is_refused_and_others_are_not(void **state)
{
    (void)state;
    struct admission *a = admission_new(3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(enter(a, "x"), ERR_OK);
    assert_int_equal(enter(a, "x"), ERR_BUSY);
    assert_int_equal(enter(a, "y"), ERR_OK);
    assert_int_equal(enter(a, "x"), ERR_BUSY);
    admission_leave(a, "x");
    assert_int_equal(enter(a, "x"), ERR_OK);
    for (int i = 0; i < 3; i++)
        admission_leave(a, "x");
    admission_leave(a, "y");
    admission_free(a);
}

static void random_comers_and_goers_are_counted_like_in_an_array(void **state)
{
    enum { NAMES = 5, MAX = 4 };
    static const char *const names[NAMES] = {"a", "b", "ab", "c.d", "e"};
    (void)state;
    uint64_t random = test_seed();
    struct admission *a = admission_new(MAX);
    unsigned in[NAMES] = {0};
    for (int i = 0; i < 20000; i++) {
        uint64_t k = test_random(&random) % NAMES;
        if (test_random(&random) % 2) {
            assert_int_equal(enter(a, names[k]), in[k] < MAX ? ERR_OK : ERR_BUSY);
            in[k] += in[k] < MAX;
        } else if (in[k]) {
            admission_leave(a, names[k]);
            in[k]--;
        }
    }
    for (int k = 0; k < NAMES; k++)
        while (in[k]--)
            admission_leave(a, names[k]);
    admission_free(a);
}

struct waiter {
    struct admission *admission;
    int64_t until_ms;
    atomic_bool over;
};

static void wait_for_none(void *arg)
{
    struct waiter *w = arg;
    admission_await_none(w->admission, w->until_ms);
    atomic_store(&w->over, true);
}

static void who_waits_for_none_goes_on_when_the_last_one_leaves(void **state)
{
    (void)state;
    struct admission *a = admission_new(3);
    struct waiter w = {.admission = a, .until_ms = INT64_MAX};
    admission_await_none(a, INT64_MAX); /* nobody is in */
    assert_int_equal(enter(a, "x"), ERR_OK);
    assert_int_equal(enter(a, "y"), ERR_OK);
    assert_int_equal(admission_count(a), 2);
    struct thread *thread = thread_start("waiter", wait_for_none, &w);
    task_sleep_ms(5);
    admission_leave(a, "x");
    task_sleep_ms(5);
    assert_false(atomic_load(&w.over));
    admission_leave(a, "y");
    thread_join(thread);
    assert_int_equal(admission_count(a), 0);
    admission_free(a);
}

static void who_waits_for_none_does_so_until_its_time_only(void **state)
{
    (void)state;
    struct admission *a = admission_new(3);
    assert_int_equal(enter(a, "x"), ERR_OK);
    int64_t until_ms = clock_ms() + 20;
    admission_await_none(a, until_ms);
    assert_true(clock_ms() >= until_ms);
    admission_await_none(a, until_ms); /* which is past */
    admission_leave(a, "x");
    admission_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beyond_the_limit_a_name_is_refused_and_others_are_not),
        cmocka_unit_test(random_comers_and_goers_are_counted_like_in_an_array),
        cmocka_unit_test(who_waits_for_none_goes_on_when_the_last_one_leaves),
        cmocka_unit_test(who_waits_for_none_does_so_until_its_time_only),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
