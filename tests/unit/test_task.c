#include "base/task.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit/test.h"

static void clocks_move_forward_and_agree(void **state)
{
    (void)state;
    int64_t us = clock_us(), ms = clock_ms();
    assert_true(ms >= us / 1000 && ms - us / 1000 < 1000);
    task_sleep_ms(5);
    assert_true(clock_us() - us >= 5000);
    assert_true(clock_wall_ms() > INT64_C(1700000000000)); /* after 2023 */
}

struct shared {
    struct mutex lock; /* guards value */
    struct cond changed;
    int value;
};

static void shared_init(struct shared *s)
{
    mutex_init(&s->lock);
    cond_init(&s->changed);
    s->value = 0;
}

static void shared_release(struct shared *s)
{
    cond_release(&s->changed);
    mutex_release(&s->lock);
}

static void count_up(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < 20000; i++) {
        mutex_lock(&s->lock);
        s->value++;
        mutex_unlock(&s->lock);
    }
}

static void mutex_lets_one_thread_in_at_a_time(void **state)
{
    (void)state;
    struct shared s;
    struct thread *threads[4];
    shared_init(&s);
    for (int i = 0; i < 4; i++)
        threads[i] = thread_start("a name that is too long", count_up, &s);
    for (int i = 0; i < 4; i++)
        thread_join(threads[i]);
    assert_int_equal(s.value, 80000);
    shared_release(&s);
}

static void wait_gives_up_at_its_deadline(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    mutex_lock(&s.lock);
    int64_t start = clock_us();
    assert_false(cond_wait(&s.changed, &s.lock, clock_ms() - 1));
    bool woken = true; /* it may wake for nothing, but not for ever */
    while (woken)
        woken = cond_wait(&s.changed, &s.lock, start / 1000 + 30);
    assert_true(clock_us() - start >= 29000);
    mutex_unlock(&s.lock);
    shared_release(&s);
}

static void answer(void *arg)
{
    struct shared *s = arg;
    mutex_lock(&s->lock);
    while (s->value != 1)
        (void)cond_wait(&s->changed, &s->lock, INT64_MAX);
    s->value = 2;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void signal_wakes_who_waits(void **state)
{
    (void)state;
    struct shared s;
    shared_init(&s);
    struct thread *t = thread_start("answer", answer, &s);
    mutex_lock(&s.lock);
    s.value = 1;
    cond_signal(&s.changed);
    while (s.value != 2)
        assert_true(cond_wait(&s.changed, &s.lock, clock_ms() + 60000));
    mutex_unlock(&s.lock);
    thread_join(t);
    shared_release(&s);
}

static void random_bytes_differ_and_fill_everything(void **state)
{
    (void)state;
    uint8_t bytes[1000] = {0}, seen[256] = {0};
    random_bytes(bytes, sizeof bytes);
    size_t kinds = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        kinds += !seen[bytes[i]]++;
    assert_true(kinds > 200); /* 251 are expected; 200 happens never */
    assert_true(random_u64() != random_u64());
}

static void random_below_stays_below_and_reaches_all(void **state)
{
    (void)state;
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++)
        seen[random_below(7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 800, 1200); /* 1000, standard deviation 29 */
    assert_int_equal(random_below(1), 0);
}

/* ---- the simulator's hooks ---- */

static int64_t hooked_us;
static int hooked_locks;

static int64_t virtual_us(void)
{
    return hooked_us;
}

static void virtual_sleep(int64_t ms)
{
    hooked_us += ms * 1000;
}

static void count_lock(struct mutex *m)
{
    (void)m;
    hooked_locks++;
}

static void zero_bytes(void *out, size_t size)
{
    memset(out, 0, size);
}

static void hooks_replace_clocks_locks_and_chance(void **state)
{
    (void)state;
    static const struct task_hooks hooks = {.clock_us = virtual_us,
                                            .clock_wall_ms = virtual_us,
                                            .sleep_ms = virtual_sleep,
                                            .mutex_lock = count_lock,
                                            .mutex_unlock = count_lock,
                                            .random_bytes = zero_bytes};
    struct mutex m;
    mutex_init(&m);
    hooked_us = 5000;
    task_install(&hooks);
    task_sleep_ms(1000000);
    assert_int_equal(clock_ms(), 1000005);
    assert_int_equal(clock_wall_ms(), 1000005000);
    mutex_lock(&m);
    mutex_lock(&m); /* would block if it were real */
    mutex_unlock(&m);
    assert_int_equal(hooked_locks, 3);
    assert_int_equal(random_u64(), 0);
    task_install(NULL);
    assert_true(clock_wall_ms() > INT64_C(1700000000000));
    mutex_release(&m);
}

struct priority {
    int nice, policy;
};

static struct priority own_priority(void)
{
    return (struct priority){getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)),
                             sched_getscheduler(0)};
}

static void yield_and_tell(void *arg)
{
    thread_yield_to_others(3);
    *(struct priority *)arg = own_priority();
}

static void a_thread_that_yields_does_so_alone(void **state)
{
    (void)state;
    struct priority before = own_priority(), yielding = {0};
    thread_join(thread_start("yielding", yield_and_tell, &yielding));
    assert_int_equal(yielding.nice, before.nice + 3 < 19 ? before.nice + 3 : 19);
    assert_int_equal(yielding.policy, SCHED_BATCH);
    assert_int_equal(own_priority().nice, before.nice);
    assert_int_equal(own_priority().policy, before.policy);
}

static void hurry_and_tell(void *arg)
{
    thread_take_short_turns();
    *(struct priority *)arg = own_priority();
}

static void short_turns_leave_a_thread_its_share(void **state)
{
    (void)state;
    struct priority before = own_priority(), hurrying = {0};
    thread_join(thread_start("hurrying", hurry_and_tell, &hurrying));
    assert_int_equal(hurrying.nice, before.nice);
    assert_int_equal(hurrying.policy, before.policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_move_forward_and_agree),
        cmocka_unit_test(mutex_lets_one_thread_in_at_a_time),
        cmocka_unit_test(wait_gives_up_at_its_deadline),
        cmocka_unit_test(signal_wakes_who_waits),
        cmocka_unit_test(random_bytes_differ_and_fill_everything),
        cmocka_unit_test(random_below_stays_below_and_reaches_all),
        cmocka_unit_test(hooks_replace_clocks_locks_and_chance),
        cmocka_unit_test(a_thread_that_yields_does_so_alone),
        cmocka_unit_test(short_turns_leave_a_thread_its_share),
    };
    return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
