#include "unit/test.h"

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "sim/sim.h"
#include "sim/store_sim.h"
#include "store/store_mem.h"

static struct sim_result run(uint64_t seed, void (*scenario)(void *), void *arg)
{
    struct sim_options options = {.seed = seed, .stickiness = 64, .steps_max = 1000000};
    struct sim_result result;
    sim_run(&options, scenario, arg, &result);
    return result;
}

/* ---- scheduling ---- */

struct counter {
    struct mutex lock;
    struct cond changed;
    unsigned value, waiters;
    bool go;
};

static void add_thousand(void *arg)
{
    struct counter *c = arg;
    for (int i = 0; i < 1000; i++) {
        mutex_lock(&c->lock);
        unsigned before = c->value;
        sim_yield();
        c->value = before + 1;
        mutex_unlock(&c->lock);
    }
}

static void four_add_under_a_lock(void *arg)
{
    struct thread *threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        threads[i] = thread_start("adder", add_thousand, arg);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        thread_join(threads[i]);
}

static void a_lock_excludes_other_fibers(void **state)
{
    (void)state;
    struct counter c = {.value = 0};
    mutex_init(&c.lock);
    struct sim_result r = run(test_seed(), four_add_under_a_lock, &c);
    assert_int_equal(r.end, SIM_FINISHED);
    assert_int_equal(c.value, 4000);
    mutex_release(&c.lock);
}

static void add_ten_unlocked(void *arg)
{
    unsigned *value = arg;
    for (int i = 0; i < 10; i++) {
        unsigned before = *value;
        sim_yield();
        *value = before + 1;
    }
}

static void two_add_without_a_lock(void *arg)
{
    struct thread *a = thread_start("a", add_ten_unlocked, arg);
    struct thread *b = thread_start("b", add_ten_unlocked, arg);
    thread_join(a);
    thread_join(b);
}

static void without_a_lock_seeds_lose_updates_in_many_ways(void **state)
{
    (void)state;
    bool seen[21] = {false};
    unsigned ways = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        unsigned value = 0;
        (void)run(seed, two_add_without_a_lock, &value);
        assert_in_range(value, 2, 20);
        seen[value] = true;
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        ways += seen[i];
    assert_true(ways >= 5);
}

static void same_seed_same_trace_other_seed_another(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    unsigned first = 0, second = 0, third = 0;
    struct sim_result a = run(seed, two_add_without_a_lock, &first);
    struct sim_result b = run(seed, two_add_without_a_lock, &second);
    struct sim_result c = run(seed + 1, two_add_without_a_lock, &third);
    assert_true(a.trace_hash == b.trace_hash);
    assert_int_equal(a.steps, b.steps);
    assert_int_equal(first, second);
    assert_true(a.trace_hash != c.trace_hash);
}

static void draw_bytes(void *arg)
{
    random_bytes(arg, 37);
}

static void random_bytes_come_from_the_seed(void **state)
{
    (void)state;
    uint8_t a[37], b[37], c[37];
    (void)run(5, draw_bytes, a);
    (void)run(5, draw_bytes, b);
    (void)run(6, draw_bytes, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
}

static void for_ever(void *arg)
{
    (void)arg;
    for (;;)
        sim_yield();
}

static void a_livelock_is_stopped_at_the_step_limit(void **state)
{
    (void)state;
    struct sim_result r = run(1, for_ever, NULL);
    assert_int_equal(r.end, SIM_TOO_LONG);
}

/* ---- time ---- */

static void sleep_an_hour_each(void *arg)
{
    int64_t *woke_ms = arg;
    task_sleep_ms(3600000);
    *woke_ms = clock_ms();
}

static void three_sleepers(void *arg)
{
    int64_t *woke_ms = arg;
    struct thread *threads[3];
    int64_t wall_ms = clock_wall_ms(), start_ms = clock_ms();
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start("sleeper", sleep_an_hour_each, &woke_ms[i]);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    assert_int_equal(clock_wall_ms() - wall_ms, clock_ms() - start_ms);
}

static void time_jumps_when_everybody_sleeps(void **state)
{
    (void)state;
    int64_t woke_ms[3] = {0};
    struct sim_result r = run(3, three_sleepers, woke_ms);
    assert_int_equal(r.end, SIM_FINISHED);
    assert_true(r.steps < 100);
    for (int i = 0; i < 3; i++)
        assert_in_range(woke_ms[i], 3600000, 3600001);
}

static void wait_in_vain(void *arg)
{
    struct counter *c = arg;
    mutex_lock(&c->lock);
    int64_t deadline_ms = clock_ms() + 500;
    while (cond_wait(&c->changed, &c->lock, deadline_ms))
        assert_true(clock_ms() < deadline_ms);
    assert_true(clock_ms() >= deadline_ms);
    mutex_unlock(&c->lock);
}

static void a_wait_ends_at_its_deadline(void **state)
{
    (void)state;
    struct counter c = {.value = 0};
    mutex_init(&c.lock);
    cond_init(&c.changed);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct sim_result r = run(seed, wait_in_vain, &c);
        assert_int_equal(r.end, SIM_FINISHED);
        assert_in_range(r.virtual_ms, 500, 501);
    }
    cond_release(&c.changed);
    mutex_release(&c.lock);
}

static void append_digit(void *arg)
{
    char **at = arg;
    *(*at)++ = (char)('0' + clock_ms() % 10);
}

static void ask_for_timers(void *arg)
{
    static const int64_t ms[] = {3, 1, 2, 2, 7, 1};
    for (size_t i = 0; i < COUNT_OF(ms); i++)
        sim_after(ms[i] * 1000, append_digit, arg);
    task_sleep_ms(5);
}

static void timers_fire_in_order_of_time_until_the_end(void **state)
{
    (void)state;
    char digits[8] = "", *at = digits;
    (void)run(1, ask_for_timers, &at);
    assert_string_equal(digits, "11223");
}

/* ---- waking ---- */

static void wait_for_go(void *arg)
{
    struct counter *c = arg;
    mutex_lock(&c->lock);
    c->waiters++;
    while (!c->go)
        (void)cond_wait(&c->changed, &c->lock, INT64_MAX);
    c->value++;
    mutex_unlock(&c->lock);
}

static void let_three_go(void *arg)
{
    struct counter *c = arg;
    struct thread *threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start("waiter", wait_for_go, c);
    while (c->waiters < 3)
        sim_yield();
    mutex_lock(&c->lock);
    assert_int_equal(c->value, 0);
    c->go = true;
    cond_broadcast(&c->changed);
    mutex_unlock(&c->lock);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
}

static void a_broadcast_wakes_all_who_wait(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct counter c = {.value = 0};
        mutex_init(&c.lock);
        cond_init(&c.changed);
        struct sim_result r = run(seed, let_three_go, &c);
        assert_int_equal(r.end, SIM_FINISHED);
        assert_int_equal(c.value, 3);
        cond_release(&c.changed);
        mutex_release(&c.lock);
    }
}

static void wait_once(void *arg)
{
    struct counter *c = arg;
    mutex_lock(&c->lock);
    c->waiters++;
    (void)cond_wait(&c->changed, &c->lock, INT64_MAX);
    c->value++;
    mutex_unlock(&c->lock);
}

static void signal_one_of_three(void *arg)
{
    struct counter *c = arg;
    for (int i = 0; i < 3; i++)
        (void)thread_start("waiter", wait_once, c);
    while (c->waiters < 3)
        sim_yield();
    mutex_lock(&c->lock); /* the last one waits now */
    cond_signal(&c->changed);
    mutex_unlock(&c->lock);
    for (int i = 0; i < 20; i++)
        sim_yield();
}

static void a_signal_wakes_one_and_sometimes_more_wake_for_nothing(void **state)
{
    (void)state;
    unsigned woken[4] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct counter c = {.value = 0};
        mutex_init(&c.lock);
        cond_init(&c.changed);
        (void)run(seed, signal_one_of_three, &c);
        woken[c.value]++;
        cond_release(&c.changed);
        mutex_release(&c.lock);
    }
    assert_true(woken[1] > 200);
    assert_true(woken[2] + woken[3] > 0);
}

/* ---- deadlock ---- */

struct two_locks {
    struct mutex a, b;
};

static void lock_b_then_a(void *arg)
{
    struct two_locks *l = arg;
    mutex_lock(&l->b);
    task_sleep_ms(1);
    mutex_lock(&l->a);
}

static void lock_a_then_b(void *arg)
{
    struct two_locks *l = arg;
    (void)thread_start("other", lock_b_then_a, l);
    mutex_lock(&l->a);
    task_sleep_ms(1);
    mutex_lock(&l->b);
}

static void a_deadlock_ends_the_run_and_names_who_waits(void **state)
{
    (void)state;
    struct two_locks l;
    mutex_init(&l.a);
    mutex_init(&l.b);
    struct sim_result r = run(7, lock_a_then_b, &l);
    assert_int_equal(r.end, SIM_DEADLOCKED);
    assert_non_null(
        strstr(r.words, "scenario-0 (process 0) wants a lock that other-1"));
    assert_non_null(
        strstr(r.words, "other-1 (process 0) wants a lock that scenario-0"));
    mutex_release(&l.a);
    mutex_release(&l.b);
}

/* ---- processes ---- */

static void count_up(void *arg)
{
    for (unsigned *value = arg;; ++*value)
        task_sleep_ms(1);
}

static void kill_after_ten_ms(void *arg)
{
    unsigned *value = arg, process = sim_process_new();
    struct thread *t = sim_spawn(process, "counter", count_up, value);
    assert_true(sim_alive(process));
    task_sleep_ms(10);
    sim_kill(process);
    assert_false(sim_alive(process));
    unsigned at_death = *value;
    task_sleep_ms(100);
    assert_int_equal(*value, at_death);
    thread_join(t);
}

static void a_killed_process_never_runs_again(void **state)
{
    (void)state;
    unsigned value = 0;
    struct sim_result r = run(2, kill_after_ten_ms, &value);
    assert_int_equal(r.end, SIM_FINISHED);
    assert_in_range(value, 8, 11);
}

static void kill_own_process(void *arg)
{
    unsigned *value = arg;
    ++*value;
    sim_kill(sim_process());
    ++*value;
}

static void watch_a_suicide(void *arg)
{
    thread_join(sim_spawn(sim_process_new(), "lemming", kill_own_process, arg));
}

static void a_fiber_may_kill_its_own_process(void **state)
{
    (void)state;
    unsigned value = 0;
    struct sim_result r = run(2, watch_a_suicide, &value);
    assert_int_equal(r.end, SIM_FINISHED);
    assert_int_equal(value, 1);
}

static void pause_for_a_second(void *arg)
{
    unsigned *value = arg, process = sim_process_new();
    (void)sim_spawn(process, "counter", count_up, value);
    task_sleep_ms(10);
    sim_pause(process, 1000);
    unsigned at_pause = *value;
    task_sleep_ms(990);
    assert_int_equal(*value, at_pause);
    task_sleep_ms(100);
    assert_true(*value > at_pause + 50);
}

static void a_paused_process_goes_on_later(void **state)
{
    (void)state;
    unsigned value = 0;
    struct sim_result r = run(2, pause_for_a_second, &value);
    assert_int_equal(r.end, SIM_FINISHED);
}

/* ---- the store behind a network ---- */

struct weather_case {
    unsigned weather[SIM_FAULTS];
    struct store *mem;
    struct store_net *net;
    struct store_net_hits hits;
    enum err err;
    int64_t deadline_ms;
    bool there_at_once, there_later;
};

static bool there(struct store *store)
{
    struct buf out = BUF_INIT;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = store_get(&op, store, "wal/x", 100, &out);
    op_release(&op);
    buf_release(&out);
    return e == ERR_OK;
}

static void create_once(void *arg)
{
    struct weather_case *c = arg;
    struct store_net_options options = {.latency_us_min = 1000,
                                        .latency_us_max = 5000,
                                        .late_ms_max = 60000,
                                        .slow_ms_max = 2000};
    memcpy(options.weather, c->weather, sizeof options.weather);
    c->net = store_net_new(c->mem, &options, &c->hits);
    struct store *link = store_sim_new(c->net);
    struct op op;

    op_init(&op, c->deadline_ms ? c->deadline_ms : OP_NO_DEADLINE, 0);
    c->err = store_create(&op, link, "wal/x", slice_str("bytes"));
    op_release(&op);
    c->there_at_once = there(c->mem);
    task_sleep_ms(60000);
    c->there_later = there(c->mem);
    store_free(link);
}

static void expect_create(enum sim_fault fault, int64_t deadline_ms, enum err err,
                          bool at_once, bool later)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct weather_case c = {.deadline_ms = deadline_ms};
        c.weather[fault] = 10000;
        c.mem = store_mem_new();
        struct sim_result r = run(seed, create_once, &c);
        assert_int_equal(r.end, SIM_FINISHED);
        assert_int_equal(c.err, err);
        assert_int_equal(c.there_later, later);
        /* A late one may, by chance, land before its caller heard that it is lost. */
        if (fault != SIM_LATE) assert_int_equal(c.there_at_once, at_once);
        assert_int_equal(c.hits.hits[fault][SIM_CREATE][SIM_WAL], 1);
        store_net_free(c.net);
        store_free(c.mem);
    }
}

static void a_create_suffers_each_fault_as_its_name_says(void **state)
{
    (void)state;
    expect_create(SIM_OK, 0, ERR_OK, true, true);
    expect_create(SIM_FAIL, 0, ERR_IO, false, false);
    expect_create(SIM_DROP, 0, ERR_UNKNOWN, false, false);
    expect_create(SIM_LOSE, 0, ERR_UNKNOWN, true, true);
    expect_create(SIM_LATE, 0, ERR_UNKNOWN, false, true);
    expect_create(SIM_DUPLICATE, 0, ERR_OK, true, true);
    expect_create(SIM_FULL, 0, ERR_FULL, false, false);
    expect_create(SIM_SLOW, 0, ERR_OK, true, true);
}

static void a_create_beyond_its_deadline_is_unknown_and_lands(void **state)
{
    (void)state;
    expect_create(SIM_OK, 1, ERR_UNKNOWN, false, true);
}

struct dead_sender {
    struct store *mem, *link;
    struct store_net *net;
    struct store_net_hits hits;
};

static void create_and_count_on_it(void *arg)
{
    struct dead_sender *d = arg;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    (void)store_create(&op, d->link, "wal/x", slice_str("bytes"));
    fail_msg("the sender was killed before its answer came");
}

static void kill_the_sender(void *arg)
{
    struct dead_sender *d = arg;
    struct store_net_options options = {.latency_us_min = 5000, .latency_us_max = 5000};
    d->net = store_net_new(d->mem, &options, &d->hits);
    d->link = store_sim_new(d->net);
    unsigned process = sim_process_new();
    (void)sim_spawn(process, "sender", create_and_count_on_it, d);
    task_sleep_ms(3);
    assert_false(there(d->mem));
    sim_kill(process);
    task_sleep_ms(10);
    assert_true(there(d->mem));
}

static void what_a_dead_process_sent_still_lands(void **state)
{
    (void)state;
    struct dead_sender d = {.mem = store_mem_new()};
    struct sim_result r = run(1, kill_the_sender, &d);
    assert_int_equal(r.end, SIM_FINISHED);
    store_free(d.link);
    store_net_free(d.net);
    store_free(d.mem);
}

static void bring_back_what_was_deleted(void *arg)
{
    struct weather_case *c = arg;
    struct store_net_options options = {.late_ms_max = 60000};
    options.weather[SIM_DUPLICATE] = 10000;
    c->net = store_net_new(c->mem, &options, &c->hits);
    struct store *link = store_sim_new(c->net);
    const char *key = "wal/x";
    struct op op;

    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(store_create(&op, link, key, slice_str("bytes")), ERR_OK);
    assert_int_equal(store_delete(&op, link, &key, 1), ERR_OK);
    c->there_at_once = there(c->mem);
    task_sleep_ms(60000);
    c->there_later = there(c->mem);
    op_release(&op);
    store_free(link);
}

static void a_duplicate_fills_a_deleted_name_again(void **state)
{
    (void)state;
    struct weather_case c = {.mem = store_mem_new()};
    (void)run(4, bring_back_what_was_deleted, &c);
    assert_false(c.there_at_once);
    assert_true(c.there_later);
    store_net_free(c.net);
    store_free(c.mem);
}

static void list_and_delete_torn(void *arg)
{
    struct weather_case *c = arg;
    struct store_net_options options = {.latency_us_max = 3000};
    options.weather[SIM_TORN] = 10000;
    c->net = store_net_new(c->mem, &options, &c->hits);
    struct store *link = store_sim_new(c->net);
    const char *keys[16], *listed[100];
    size_t n = COUNT_OF(listed);
    struct op op;

    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        keys[i] = op_printf(&op, "wal/%02zu", i);
        assert_int_equal(store_create(&op, c->mem, keys[i], SLICE_EMPTY), ERR_OK);
    }
    assert_int_equal(store_list(&op, link, "wal/", "", 0, listed, &n), ERR_OK);
    assert_int_equal(n, COUNT_OF(keys));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(listed[i], keys[i]);

    assert_int_equal(store_delete(&op, link, keys, COUNT_OF(keys)), ERR_IO);
    n = COUNT_OF(listed);
    assert_int_equal(store_list(&op, c->mem, "wal/", "", 0, listed, &n), ERR_OK);
    assert_in_range(n, 1, COUNT_OF(keys) - 1);
    op_release(&op);
    store_free(link);
}

static void a_torn_list_is_whole_and_a_torn_delete_is_partial(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct weather_case c = {.mem = store_mem_new()};
        struct sim_result r = run(seed, list_and_delete_torn, &c);
        assert_int_equal(r.end, SIM_FINISHED);
        store_net_free(c.net);
        store_free(c.mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_excludes_other_fibers),
        cmocka_unit_test(without_a_lock_seeds_lose_updates_in_many_ways),
        cmocka_unit_test(same_seed_same_trace_other_seed_another),
        cmocka_unit_test(random_bytes_come_from_the_seed),
        cmocka_unit_test(a_livelock_is_stopped_at_the_step_limit),
        cmocka_unit_test(time_jumps_when_everybody_sleeps),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
        cmocka_unit_test(timers_fire_in_order_of_time_until_the_end),
        cmocka_unit_test(a_broadcast_wakes_all_who_wait),
        cmocka_unit_test(a_signal_wakes_one_and_sometimes_more_wake_for_nothing),
        cmocka_unit_test(a_deadlock_ends_the_run_and_names_who_waits),
        cmocka_unit_test(a_killed_process_never_runs_again),
        cmocka_unit_test(a_fiber_may_kill_its_own_process),
        cmocka_unit_test(a_paused_process_goes_on_later),
        cmocka_unit_test(a_create_suffers_each_fault_as_its_name_says),
        cmocka_unit_test(a_create_beyond_its_deadline_is_unknown_and_lands),
        cmocka_unit_test(what_a_dead_process_sent_still_lands),
        cmocka_unit_test(a_duplicate_fills_a_deleted_name_again),
        cmocka_unit_test(a_torn_list_is_whole_and_a_torn_delete_is_partial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
