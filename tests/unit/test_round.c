#include "base/op.h"
#include "base/task.h"
#include "ns/round.h"
#include "unit/test.h"

struct wait {
    uint64_t rounds;
    enum err err;
    const char *words;
    bool ran;
};

static enum err wait_some(struct op *op, void *arg)
{
    struct wait *w = arg;
    w->ran = true;
    op->counters.rounds += w->rounds;
    op->counters.store_requests += w->rounds;
    return w->err ? op_fail(op, w->err, "%s", w->words) : ERR_OK;
}

static void a_round_waits_as_long_as_its_longest_call(void **state)
{
    (void)state;
    struct wait waits[ROUND_CALLS_MAX];
    struct round_call calls[ROUND_CALLS_MAX];
    for (size_t n = 0; n <= ROUND_CALLS_MAX; n++) {
        struct op op;
        op_init(&op, OP_NO_DEADLINE, 0);
        for (size_t i = 0; i < n; i++) {
            waits[i] = (struct wait){.rounds = (i * 5) % 7};
            calls[i] = (struct round_call){.run = wait_some, .arg = &waits[i]};
        }
        assert_int_equal(round_run(&op, calls, n), ERR_OK);
        uint64_t longest = 0, sum = 0;
        for (size_t i = 0; i < n; i++) {
            assert_true(waits[i].ran);
            if (waits[i].rounds > longest) longest = waits[i].rounds;
            sum += waits[i].rounds;
        }
        assert_int_equal(op.counters.rounds, longest);
        assert_int_equal(op.counters.store_requests, sum);
        op_release(&op);
    }
}

static void the_first_failure_in_order_is_the_round_s(void **state)
{
    (void)state;
    struct wait waits[] = {{.rounds = 1},
                           {.err = ERR_CORRUPT, .words = "damage"},
                           {.err = ERR_IO, .words = "silence"}};
    struct round_call calls[COUNT_OF(waits)];
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < COUNT_OF(waits); i++)
        calls[i] = (struct round_call){.run = wait_some, .arg = &waits[i]};
    assert_int_equal(round_run(&op, calls, COUNT_OF(waits)), ERR_CORRUPT);
    assert_non_null(strstr(op.error, "damage"));
    assert_int_equal(calls[0].err, ERR_OK);
    assert_int_equal(calls[2].err, ERR_IO);
    op_release(&op);
}

static void a_canceled_round_does_not_begin(void **state)
{
    (void)state;
    struct wait w = {.rounds = 1};
    struct round_call call = {.run = wait_some, .arg = &w};
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    op_cancel(&op);
    assert_int_equal(round_run(&op, &call, 1), ERR_CANCELED);
    assert_false(w.ran);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_waits_as_long_as_its_longest_call),
        cmocka_unit_test(the_first_failure_in_order_is_the_round_s),
        cmocka_unit_test(a_canceled_round_does_not_begin),
    };
    return cmocka_run_group_tests_name("round", tests, NULL, NULL);
}
