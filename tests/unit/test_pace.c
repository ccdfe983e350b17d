#include "ns/pace.h"

#include "base/op.h"
#include "base/task.h"
#include "ns/admission.h"
#include "unit/test.h"

/* A clock that only moves when somebody waits or works, and who is in meanwhile. */
static struct {
    int64_t now_us;
    int64_t waited_us; /* in all */
    int64_t late_us;   /* so much later than asked for */
    int yields;
    struct admission *leaves; /* the query of it ends at … */
    int64_t leaves_us;
} world;

static int64_t fake_clock_us(void)
{
    return world.now_us;
}

static void fake_yield(void)
{
    world.yields++;
}

static void no_lock(struct mutex *m)
{
    (void)m;
}

static void no_signal(struct cond *c)
{
    (void)c;
}

static bool fake_wait(struct cond *c, struct mutex *m, int64_t deadline_ms)
{
    (void)c;
    (void)m;
    bool left = world.leaves && world.leaves_us <= deadline_ms * 1000;
    int64_t until_us = left ? world.leaves_us : deadline_ms * 1000 + world.late_us;
    if (until_us > world.now_us) {
        world.waited_us += until_us - world.now_us;
        world.now_us = until_us;
    }
    if (left) {
        struct admission *a = world.leaves;
        world.leaves = NULL;
        admission_leave(a, "x");
    }
    return left;
}

static const struct task_hooks hooks = {.clock_us = fake_clock_us,
                                        .thread_yield = fake_yield,
                                        .mutex_lock = no_lock,
                                        .mutex_unlock = no_lock,
                                        .cond_wait = fake_wait,
                                        .cond_signal = no_signal,
                                        .cond_broadcast = no_signal};

static int begin(void **state)
{
    memset(&world, 0, sizeof world);
    world.now_us = 5000000;
    task_install(&hooks);
    *state = admission_new(4);
    return 0;
}

static int end(void **state)
{
    admission_free(*state);
    task_install(NULL);
    return 0;
}

static void enter(struct admission *a)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(admission_enter(&op, a, "x"), ERR_OK);
    op_release(&op);
}

/* Works for so long, in pieces, and rests between them. */
static void work(struct pace *p, int64_t us, int64_t piece_us)
{
    for (int64_t done = 0; done < us; done += piece_us) {
        world.now_us += piece_us;
        pace_rest(p);
    }
}

static void nobody_waits_while_no_query_runs(void **state)
{
    struct pace p = pace_start(*state, 4, 0);
    work(&p, 1000000, 100);
    assert_int_equal(world.waited_us, 0);
}

static void others_are_let_in_now_and_then_while_no_query_runs(void **state)
{
    struct admission *a = *state;
    struct pace p = pace_start(a, 4, 0);
    work(&p, 100000, 50);
    assert_in_range(world.yields, 300, 400); /* a quarter of a millisecond each */
    enter(a);
    world.yields = 0;
    work(&p, 100000, 50);
    assert_int_equal(world.yields, 0);
    admission_leave(a, "x");
}

static void work_gets_its_part_of_the_time_whatever_the_queries(void **state)
{
    static const unsigned patiences[] = {0, 1, 4};
    enter(*state);
    for (size_t i = 0; i < 3; i++) {
        world.waited_us = 0;
        struct pace p = pace_start(*state, patiences[i], 0);
        work(&p, 1000000, 500);
        assert_true(world.waited_us <= 1000000 * patiences[i]);
        assert_true(world.waited_us >= 990000 * patiences[i]);
    }
    admission_leave(*state, "x");
}

static void work_goes_on_as_soon_as_the_query_is_over(void **state)
{
    struct pace p = pace_start(*state, 4, 0);
    enter(*state);
    world.now_us += 10000;
    world.leaves = *state;
    world.leaves_us = world.now_us + 3000;
    pace_rest(&p);
    assert_int_equal(world.waited_us, 3000);
    work(&p, 100000, 1000);
    assert_int_equal(world.waited_us, 3000);
}

static void a_long_piece_is_paid_for_by_a_tenth_of_a_second_at_most(void **state)
{
    struct pace p = pace_start(*state, 4, 0);
    enter(*state);
    world.now_us += 60000000;
    pace_rest(&p);
    assert_int_equal(world.waited_us, 100000);
    admission_leave(*state, "x");
}

static void what_others_took_of_its_time_is_a_wait_too(void **state)
{
    enum { WORK_US = 1000000, LATE_US = 40000 };
    struct pace p = pace_start(*state, 4, 0);
    enter(*state);
    world.late_us = LATE_US;
    work(&p, WORK_US, 1000);
    assert_true(world.waited_us >= 4 * WORK_US - LATE_US);
    assert_true(world.waited_us <= 4 * WORK_US + LATE_US);
    admission_leave(*state, "x");
}

static void short_work_waits_on_credit_but_once(void **state)
{
    enum { CREDIT_US = 20000 };
    struct pace p = pace_start(*state, 4, CREDIT_US);
    enter(*state);
    work(&p, 1000, 1000);
    assert_int_equal(world.waited_us, CREDIT_US + 4000);
    work(&p, 1000, 1000);
    assert_int_equal(world.waited_us, CREDIT_US + 8000);
    admission_leave(*state, "x");
}

static void credit_that_was_not_needed_is_there_for_the_next_query(void **state)
{
    struct pace p = pace_start(*state, 0, 20000);
    for (int i = 0; i < 4; i++) {
        enter(*state);
        world.now_us += 1000;
        world.leaves = *state;
        world.leaves_us = world.now_us + 6000;
        pace_rest(&p);
        if (world.leaves) break;
    }
    assert_int_equal(world.waited_us, 20000);
    admission_leave(*state, "x");
    world.leaves = NULL;
}

static void a_short_piece_is_not_worth_a_wait(void **state)
{
    struct pace p = pace_start(*state, 4, 0);
    enter(*state);
    world.now_us += 249;
    pace_rest(&p);
    assert_int_equal(world.waited_us, 0);
    world.now_us += 751;
    pace_rest(&p);
    assert_int_equal(world.waited_us, 4000);
    admission_leave(*state, "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_waits_while_no_query_runs, begin, end),
        cmocka_unit_test_setup_teardown(
            others_are_let_in_now_and_then_while_no_query_runs, begin, end),
        cmocka_unit_test_setup_teardown(
            work_gets_its_part_of_the_time_whatever_the_queries, begin, end),
        cmocka_unit_test_setup_teardown(work_goes_on_as_soon_as_the_query_is_over,
                                        begin, end),
        cmocka_unit_test_setup_teardown(
            a_long_piece_is_paid_for_by_a_tenth_of_a_second_at_most, begin, end),
        cmocka_unit_test_setup_teardown(what_others_took_of_its_time_is_a_wait_too,
                                        begin, end),
        cmocka_unit_test_setup_teardown(short_work_waits_on_credit_but_once, begin,
                                        end),
        cmocka_unit_test_setup_teardown(
            credit_that_was_not_needed_is_there_for_the_next_query, begin, end),
        cmocka_unit_test_setup_teardown(a_short_piece_is_not_worth_a_wait, begin, end),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
