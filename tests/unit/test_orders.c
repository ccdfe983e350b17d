/* Compactions that were asked for: one a namespace, and longer than a request may take.
 */
#include "ns/orders.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/op.h"
#include "base/task.h"
#include "unit/test.h"

struct works {
    struct orders orders;
    atomic_bool hold; /* runs go on until this is false */
    atomic_int running, most, runs;
    enum err err;
};

static enum err work(struct op *op, void *context, const char *name)
{
    struct works *w = context;
    int now = atomic_fetch_add(&w->running, 1) + 1;
    if (now > atomic_load(&w->most)) atomic_store(&w->most, now);
    atomic_fetch_add(&w->runs, 1);
    enum err e = ERR_OK;
    while (!e && atomic_load(&w->hold)) {
        task_sleep_ms(1);
        e = op_check(op);
    }
    if (!e && w->err) e = op_fail(op, w->err, "the work on %s went wrong", name);
    atomic_fetch_sub(&w->running, 1);
    return e;
}

static void works_init(struct works *w)
{
    memset(w, 0, sizeof *w);
    orders_init(&w->orders, work, w);
}

static enum err ask(struct works *w, const char *name, int64_t timeout_ms, char *words)
{
    struct op op;
    op_init(&op, timeout_ms ? clock_ms() + timeout_ms : OP_NO_DEADLINE, 0);
    enum err e = orders_carry_out(&op, &w->orders, name);
    if (words) (void)strcpy(words, op.error);
    op_release(&op);
    return e;
}

static void an_order_answers_what_its_work_answered(void **state)
{
    (void)state;
    struct works w;
    char words[OP_ERROR_MAX];
    works_init(&w);
    assert_int_equal(ask(&w, "x", 0, NULL), ERR_OK);
    w.err = ERR_CORRUPT;
    assert_int_equal(ask(&w, "x", 0, words), ERR_CORRUPT);
    assert_string_equal(words, "the work on x went wrong");
    assert_int_equal(atomic_load(&w.runs), 2);
    orders_release(&w.orders);
}

static void an_order_goes_on_when_its_request_has_left(void **state)
{
    (void)state;
    struct works w;
    char words[OP_ERROR_MAX];
    works_init(&w);
    atomic_store(&w.hold, true);
    assert_int_equal(ask(&w, "x", 20, words), ERR_TIMEOUT);
    assert_non_null(strstr(words, "the compaction goes on"));
    while (atomic_load(&w.running) == 0)
        task_sleep_ms(1);

    /* Whoever asks again waits for it, and has not started another. */
    assert_int_equal(ask(&w, "x", 20, NULL), ERR_TIMEOUT);
    assert_int_equal(atomic_load(&w.runs), 1);
    atomic_store(&w.hold, false);
    assert_int_equal(ask(&w, "x", 0, NULL), ERR_OK);
    assert_int_equal(atomic_load(&w.runs), 2);
    assert_int_equal(atomic_load(&w.most), 1);
    orders_release(&w.orders);
}

struct asker {
    struct works *works;
    const char *name;
    enum err err;
};

static void ask_thread(void *arg)
{
    struct asker *a = arg;
    a->err = ask(a->works, a->name, 0, NULL);
}

static void orders_for_one_namespace_run_one_after_the_other(void **state)
{
    enum { ASKERS = 8 };
    (void)state;
    struct works w;
    struct asker askers[ASKERS];
    struct thread *threads[ASKERS];
    works_init(&w);
    for (int i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){.works = &w, .name = "x"};
        threads[i] = thread_start("asker", ask_thread, &askers[i]);
    }
    for (int i = 0; i < ASKERS; i++) {
        thread_join(threads[i]);
        assert_int_equal(askers[i].err, ERR_OK);
    }
    assert_int_equal(atomic_load(&w.runs), ASKERS);
    assert_int_equal(atomic_load(&w.most), 1);
    orders_release(&w.orders);
}

static void more_orders_than_a_node_carries_out_are_refused(void **state)
{
    (void)state;
    struct works w;
    char name[16], words[OP_ERROR_MAX];
    works_init(&w);
    atomic_store(&w.hold, true);
    for (int i = 0; i < ORDERS_MAX; i++) {
        (void)snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(ask(&w, name, 1, NULL), ERR_TIMEOUT);
    }
    assert_int_equal(ask(&w, "other", 0, words), ERR_BUSY);
    assert_string_equal(words, "16 compactions that were asked for run on this node");
    atomic_store(&w.hold, false);
    assert_int_equal(ask(&w, "n0", 0, NULL), ERR_OK);
    orders_release(&w.orders);
}

static void orders_that_are_canceled_end(void **state)
{
    (void)state;
    struct works w;
    works_init(&w);
    atomic_store(&w.hold, true);
    assert_int_equal(ask(&w, "x", 1, NULL), ERR_TIMEOUT);
    assert_int_equal(ask(&w, "y", 1, NULL), ERR_TIMEOUT);
    orders_cancel(&w.orders);
    orders_release(&w.orders);
    assert_int_equal(atomic_load(&w.running), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_answers_what_its_work_answered),
        cmocka_unit_test(an_order_goes_on_when_its_request_has_left),
        cmocka_unit_test(orders_for_one_namespace_run_one_after_the_other),
        cmocka_unit_test(more_orders_than_a_node_carries_out_are_refused),
        cmocka_unit_test(orders_that_are_canceled_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
