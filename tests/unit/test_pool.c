#include "base/pool.h"

#include <stdatomic.h>

#include "base/task.h"
#include "unit/test.h"

/* A job that waits until it is let go, so that a test decides what is running. */
struct gate {
    struct mutex lock; /* guards the rest */
    struct cond changed;
    int started;
    bool open;
};

static void gate_init(struct gate *g)
{
    mutex_init(&g->lock);
    cond_init(&g->changed);
    g->started = 0;
    g->open = false;
}

static void gate_release(struct gate *g)
{
    cond_release(&g->changed);
    mutex_release(&g->lock);
}

static void wait_at(void *arg)
{
    struct gate *g = arg;
    mutex_lock(&g->lock);
    g->started++;
    cond_broadcast(&g->changed);
    while (!g->open)
        (void)cond_wait(&g->changed, &g->lock, INT64_MAX);
    mutex_unlock(&g->lock);
}

static void wait_until_started(struct gate *g, int count)
{
    mutex_lock(&g->lock);
    while (g->started < count)
        (void)cond_wait(&g->changed, &g->lock, INT64_MAX);
    mutex_unlock(&g->lock);
}

static void open_gate(struct gate *g)
{
    mutex_lock(&g->lock);
    g->open = true;
    cond_broadcast(&g->changed);
    mutex_unlock(&g->lock);
}

struct note {
    int *list;
    int *count;
    int value;
};

static void write_down(void *arg)
{
    struct note *note = arg;
    note->list[(*note->count)++] = note->value;
}

static void add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void jobs_of_one_thread_run_in_the_order_of_submission(void **state)
{
    (void)state;
    int list[100], count = 0;
    struct note notes[100];
    struct pool *p = pool_new("ordered", 1, 100);
    for (int i = 0; i < 100; i++) {
        notes[i] = (struct note){list, &count, i};
        assert_true(pool_submit(p, write_down, &notes[i]));
    }
    pool_free(p);
    assert_int_equal(count, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(list[i], i);
}

static void full_queue_refuses_and_takes_again_when_there_is_room(void **state)
{
    (void)state;
    struct gate gate;
    atomic_int done = 0;
    gate_init(&gate);
    struct pool *p = pool_new("full", 1, 2);
    assert_true(pool_submit(p, wait_at, &gate));
    wait_until_started(&gate, 1); /* runs, and waits no more */
    assert_true(pool_submit(p, add_one, &done));
    assert_true(pool_submit(p, add_one, &done));
    assert_false(pool_submit(p, add_one, &done));
    open_gate(&gate);
    while (!pool_submit(p, add_one, &done))
        task_sleep_ms(1);
    pool_free(p);
    assert_int_equal(done, 3);
    gate_release(&gate);
}

static void all_threads_work_at_once(void **state)
{
    (void)state;
    struct gate gate;
    gate_init(&gate);
    struct pool *p = pool_new("many", 4, 10);
    for (int i = 0; i < 4; i++)
        assert_true(pool_submit(p, wait_at, &gate));
    wait_until_started(&gate, 4);
    open_gate(&gate);
    pool_free(p);
    gate_release(&gate);
}

static void freeing_runs_what_is_queued(void **state)
{
    (void)state;
    pool_free(NULL);
    struct gate gate;
    atomic_int done = 0;
    gate_init(&gate);
    struct pool *p = pool_new("drained", 2, 1000);
    assert_true(pool_submit(p, wait_at, &gate));
    assert_true(pool_submit(p, wait_at, &gate));
    for (int i = 0; i < 998; i++)
        assert_true(pool_submit(p, add_one, &done));
    open_gate(&gate);
    pool_free(p);
    assert_int_equal(done, 998);
    gate_release(&gate);
}

struct submitter {
    struct pool *pool;
    atomic_int *done;
    int accepted;
};

static void submit_many(void *arg)
{
    struct submitter *s = arg;
    for (int i = 0; i < 5000; i++)
        s->accepted += pool_submit(s->pool, add_one, s->done);
}

static void every_accepted_job_of_many_submitters_runs_once(void **state)
{
    (void)state;
    atomic_int done = 0;
    struct submitter submitters[3];
    struct thread *threads[3];
    struct pool *p = pool_new("raced", 3, 16);
    for (int i = 0; i < 3; i++) {
        submitters[i] = (struct submitter){p, &done, 0};
        threads[i] = thread_start("submitter", submit_many, &submitters[i]);
    }
    int accepted = 0;
    for (int i = 0; i < 3; i++) {
        thread_join(threads[i]);
        accepted += submitters[i].accepted;
    }
    pool_free(p);
    assert_int_equal(done, accepted);
    assert_true(accepted > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_of_one_thread_run_in_the_order_of_submission),
        cmocka_unit_test(full_queue_refuses_and_takes_again_when_there_is_room),
        cmocka_unit_test(all_threads_work_at_once),
        cmocka_unit_test(freeing_runs_what_is_queued),
        cmocka_unit_test(every_accepted_job_of_many_submitters_runs_once),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
