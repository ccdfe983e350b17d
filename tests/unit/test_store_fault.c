#include "store/store_fault.h"

#include "base/op.h"
#include "base/task.h"
#include "store/store_mem.h"
#include "unit/test.h"

struct fixture {
    struct store *mem; /* owned by fault */
    struct store *fault;
    struct op op;
    int deaths;
    jmp_buf *escape;
};

static void fixture_init(struct fixture *f, const struct fault_plan *plan)
{
    memset(f, 0, sizeof *f);
    op_init(&f->op, OP_NO_DEADLINE, 0);
    f->mem = store_mem_new();
    f->fault = store_fault_new(f->mem, plan);
}

static void fixture_release(struct fixture *f)
{
    store_free(f->fault);
    op_release(&f->op);
}

static bool holds(struct fixture *f, const char *key, const char *text)
{
    struct buf out = BUF_INIT;
    enum err e = store_get(&f->op, f->mem, key, 1000, &out);
    bool same = !e && slice_equal(buf_slice(&out), slice_str(text));
    buf_release(&out);
    return same;
}

static enum err create(struct fixture *f, const char *key, const char *text)
{
    return store_create(&f->op, f->fault, key, slice_str(text));
}

/* One call of any kind on prepared objects; *done tells whether it took effect. */
static enum err call(struct fixture *f, enum store_call kind, bool *done)
{
    static const char *const old[] = {"old"};
    struct slice part = SLICE_LITERAL("new");
    const char *keys[4] = {"untouched"};
    size_t n = 4;
    uint8_t byte = 0;
    struct store_range range = {.key = "old", .size = 1, .data = &byte};
    struct buf out = BUF_INIT;
    enum err e = ERR_OK;

    assert_int_equal(store_delete(&f->op, f->mem, (const char *[]){"new"}, 1), ERR_OK);
    (void)store_create(&f->op, f->mem, "old", slice_str("old"));
    switch (kind) {
    case CALL_READ:
        e = store_read(&f->op, f->fault, &range, 1);
        assert_int_equal(range.err, e);
        *done = byte == 'o';
        break;
    case CALL_GET:
        e = store_get(&f->op, f->fault, "old", 10, &out);
        *done = out.size == 3;
        break;
    case CALL_CREATE:
        e = create(f, "new", "new");
        *done = holds(f, "new", "new");
        break;
    case CALL_PUT:
        e = store_put(&f->op, f->fault, "new", &part, 1);
        *done = holds(f, "new", "new");
        break;
    case CALL_LIST:
        e = store_list(&f->op, f->fault, "", "", 0, keys, &n);
        *done = n == 1 && strcmp(keys[0], "old") == 0;
        assert_true(*done || (n == 4 && strcmp(keys[0], "untouched") == 0));
        break;
    case CALL_DELETE:
        e = store_delete(&f->op, f->fault, old, 1);
        *done = !holds(f, "old", "old");
        break;
    case CALL_KINDS: break;
    }
    buf_release(&out);
    return e;
}

static void count_death(void *context)
{
    struct fixture *f = context;
    f->deaths++;
    if (f->escape) longjmp(*f->escape, 1);
}

static void each_fault_answers_and_applies_as_it_says(void **state)
{
    (void)state;
    static const struct {
        enum fault fault;
        enum err create, write, read;
        bool applied, read_done;
        int deaths;
    } cases[] = {
        {FAULT_NONE, ERR_OK, ERR_OK, ERR_OK, true, true, 0},
        {FAULT_FAIL, ERR_IO, ERR_IO, ERR_IO, false, false, 0},
        {FAULT_UNKNOWN, ERR_UNKNOWN, ERR_IO, ERR_IO, false, false, 0},
        {FAULT_LOST_ANSWER, ERR_UNKNOWN, ERR_IO, ERR_IO, true, false, 0},
        {FAULT_LATE, ERR_UNKNOWN, ERR_IO, ERR_IO, false, false, 0},
        {FAULT_FULL, ERR_FULL, ERR_FULL, ERR_IO, false, false, 0},
        {FAULT_DIE_BEFORE, ERR_UNKNOWN, ERR_IO, ERR_IO, false, false, 1},
        {FAULT_DIE_LOST, ERR_UNKNOWN, ERR_IO, ERR_IO, true, false, 1},
        {FAULT_DIE_AFTER, ERR_OK, ERR_OK, ERR_OK, true, true, 0},
    };

    assert_int_equal(COUNT_OF(cases), FAULT_COUNT);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int kind = 0; kind < CALL_KINDS; kind++) {
            bool writes =
                kind == CALL_CREATE || kind == CALL_PUT || kind == CALL_DELETE;
            struct fixture f;
            bool applied = false;
            fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                                  .at_fault = cases[i].fault,
                                                  .on_death = count_death,
                                                  .context = &f});
            enum err e = call(&f, (enum store_call)kind, &applied);
            assert_int_equal(e, kind == CALL_CREATE ? cases[i].create
                                : writes            ? cases[i].write
                                                    : cases[i].read);
            assert_int_equal(applied, writes ? cases[i].applied : cases[i].read_done);
            assert_int_equal(f.deaths, cases[i].deaths);
            assert_int_equal(store_fault_calls(f.fault), 1);
            assert_int_equal(store_fault_hits(f.fault, cases[i].fault,
                                              (enum store_call)kind),
                             1);
            fixture_release(&f);
        }
    }
}

static void a_late_create_lands_at_the_next_call(void **state)
{
    (void)state;
    struct fixture f;
    struct buf out = BUF_INIT;
    fixture_init(&f, &(struct fault_plan){.at_call = 1, .at_fault = FAULT_LATE});
    assert_int_equal(create(&f, "a", "1"), ERR_UNKNOWN);
    assert_false(holds(&f, "a", "1"));
    assert_int_equal(store_get(&f.op, f.fault, "a", 9, &out), ERR_OK);
    assert_true(holds(&f, "a", "1"));
    buf_release(&out);
    fixture_release(&f);
}

static void a_late_create_lands_only_where_nothing_is(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                          .at_fault = FAULT_LATE,
                                          .late_calls_max = 1000});
    assert_int_equal(create(&f, "a", "late"), ERR_UNKNOWN);
    assert_int_equal(create(&f, "a", "early"), ERR_OK);
    store_fault_flush(f.fault);
    assert_true(holds(&f, "a", "early"));
    fixture_release(&f);

    /* A name that was deleted meanwhile is free again: the old bytes come back. */
    fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                          .at_fault = FAULT_LATE,
                                          .late_calls_max = 1000});
    assert_int_equal(create(&f, "a", "late"), ERR_UNKNOWN);
    assert_int_equal(create(&f, "a", "early"), ERR_OK);
    assert_int_equal(store_delete(&f.op, f.fault, (const char *[]){"a"}, 1), ERR_OK);
    store_fault_flush(f.fault);
    assert_true(holds(&f, "a", "late"));
    store_fault_flush(f.fault);
    fixture_release(&f);
}

static void a_late_call_lands_within_its_limit(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 200; round++) {
        struct fixture f;
        const char *key = "a";
        fixture_init(&f, &(struct fault_plan){.seed = seed + (uint64_t)round,
                                              .at_call = 1,
                                              .at_fault = FAULT_LATE,
                                              .late_calls_max = 5});
        assert_int_equal(create(&f, "a", "1"), ERR_UNKNOWN);
        for (int i = 0; i < 5; i++)
            assert_int_equal(store_delete(&f.op, f.fault, (const char *[]){"b"}, 1),
                             ERR_OK);
        assert_true(holds(&f, key, "1"));
        fixture_release(&f);
    }
}

static void late_puts_and_deletes_land_too(void **state)
{
    (void)state;
    struct fixture f;
    const struct slice parts[] = {SLICE_LITERAL("1"), SLICE_LITERAL("2")};
    const char *const keys[] = {"b", "c"};
    struct fault_plan plan = {.late_calls_max = 1000};

    fixture_init(&f, &plan);
    assert_int_equal(create(&f, "b", "x"), ERR_OK);
    assert_int_equal(create(&f, "c", "y"), ERR_OK);
    plan.at_call = 3;
    plan.at_fault = FAULT_LATE;
    store_fault_plan(f.fault, &plan);
    assert_int_equal(store_put(&f.op, f.fault, "a", parts, 2), ERR_IO);
    plan.at_call = 4;
    store_fault_plan(f.fault, &plan);
    assert_int_equal(store_delete(&f.op, f.fault, keys, 2), ERR_IO);
    assert_true(holds(&f, "b", "x") && holds(&f, "c", "y") && !holds(&f, "a", "12"));
    store_fault_flush(f.fault);
    assert_true(!holds(&f, "b", "x") && !holds(&f, "c", "y") && holds(&f, "a", "12"));
    fixture_release(&f);
}

static void what_never_landed_is_freed_with_the_store(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                          .at_fault = FAULT_LATE,
                                          .late_calls_max = 1000});
    assert_int_equal(create(&f, "a", "1"), ERR_UNKNOWN);
    fixture_release(&f);
}

static void the_dead_answer_nothing_until_they_are_started_again(void **state)
{
    (void)state;
    struct fixture f;
    struct buf out = BUF_INIT;
    fixture_init(&f, &(struct fault_plan){.at_call = 2,
                                          .at_fault = FAULT_DIE_LOST,
                                          .on_death = count_death,
                                          .context = &f});
    assert_int_equal(create(&f, "a", "1"), ERR_OK);
    assert_int_equal(create(&f, "b", "2"), ERR_UNKNOWN);
    assert_int_equal(create(&f, "c", "3"), ERR_IO);
    assert_int_equal(store_get(&f.op, f.fault, "a", 9, &out), ERR_IO);
    assert_int_equal(f.deaths, 1);
    assert_int_equal(store_fault_calls(f.fault), 2);
    assert_true(holds(&f, "b", "2") && !holds(&f, "c", "3"));

    store_fault_plan(f.fault, &(struct fault_plan){0});
    assert_int_equal(create(&f, "c", "3"), ERR_OK);
    assert_int_equal(store_fault_calls(f.fault), 3);
    buf_release(&out);
    fixture_release(&f);
}

static void death_after_a_call_strikes_before_the_next(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                          .at_fault = FAULT_DIE_AFTER,
                                          .on_death = count_death,
                                          .context = &f});
    assert_int_equal(create(&f, "a", "1"), ERR_OK);
    assert_int_equal(f.deaths, 0);
    assert_int_equal(create(&f, "b", "2"), ERR_IO);
    assert_int_equal(f.deaths, 1);
    assert_int_equal(create(&f, "b", "2"), ERR_IO);
    assert_int_equal(f.deaths, 1);
    assert_false(holds(&f, "b", "2"));
    fixture_release(&f);
}

static void die_and_jump(enum fault death)
{
    struct fixture f;
    jmp_buf escape;
    fixture_init(&f, &(struct fault_plan){.at_call = 1,
                                          .at_fault = death,
                                          .on_death = count_death,
                                          .context = &f});
    f.escape = &escape;
    if (setjmp(escape) == 0) {
        (void)create(&f, "a", "1");
        (void)create(&f, "b", "2");
        fail_msg("survived");
    }
    assert_int_equal(f.deaths, 1);
    assert_int_equal(holds(&f, "a", "1"), death != FAULT_DIE_BEFORE);
    store_fault_plan(f.fault, &(struct fault_plan){0});
    assert_int_equal(create(&f, "b", "2"), ERR_OK);
    fixture_release(&f);
}

static void death_may_jump_out_of_the_call(void **state)
{
    (void)state;
    die_and_jump(FAULT_DIE_BEFORE);
    die_and_jump(FAULT_DIE_LOST);
    die_and_jump(FAULT_DIE_AFTER);
}

enum { STORM_CALLS = 3000 };

/* Every answer and the objects at the end, as one number. */
static uint64_t storm(uint64_t seed, uint64_t hits[FAULT_COUNT])
{
    struct fixture f;
    uint64_t random = 7, trace = 0;
    fixture_init(&f, &(struct fault_plan){.seed = seed,
                                          .late_calls_max = 9,
                                          .probability = {[FAULT_FAIL] = 0.1,
                                                          [FAULT_UNKNOWN] = 0.1,
                                                          [FAULT_LOST_ANSWER] = 0.1,
                                                          [FAULT_LATE] = 0.1,
                                                          [FAULT_FULL] = 0.1}});
    for (int i = 0; i < STORM_CALLS; i++) {
        char key[16];
        const char *keys[1] = {key};
        struct buf out = BUF_INIT;
        snprintf(key, sizeof key, "%d", (int)(test_random(&random) % 20));
        enum err e = ERR_OK;
        switch (test_random(&random) % 3) {
        case 0: e = create(&f, key, key); break;
        case 1: e = store_delete(&f.op, f.fault, keys, 1); break;
        default: e = store_get(&f.op, f.fault, key, 99, &out); break;
        }
        trace = trace * 31 + (uint64_t)e + out.size;
        buf_release(&out);
    }
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        for (int kind = 0; kind < CALL_KINDS; kind++)
            hits[fault] +=
                store_fault_hits(f.fault, (enum fault)fault, (enum store_call)kind);
    const char *left[32];
    size_t objects = COUNT_OF(left);
    assert_int_equal(store_list(&f.op, f.mem, "", "", 0, left, &objects), ERR_OK);
    fixture_release(&f);
    return trace * 31 + objects;
}

static void the_same_seed_is_the_same_weather(void **state)
{
    (void)state;
    uint64_t hits[FAULT_COUNT] = {0}, seed = test_seed();
    uint64_t first = storm(seed, hits);
    assert_true(storm(seed, hits) == first);
    assert_true(storm(seed + 1, hits) != first);
}

static void weather_strikes_as_often_as_it_should(void **state)
{
    (void)state;
    uint64_t hits[FAULT_COUNT] = {0};
    (void)storm(1, hits);
    assert_in_range(hits[FAULT_NONE], STORM_CALLS * 45 / 100, STORM_CALLS * 55 / 100);
    for (int fault = FAULT_FAIL; fault <= FAULT_FULL; fault++)
        assert_in_range(hits[fault], STORM_CALLS * 7 / 100, STORM_CALLS * 13 / 100);
    assert_int_equal(hits[FAULT_DIE_BEFORE], 0);
}

/* What a simulator would install; only sleeping differs from the real thing. */
static int64_t slept_ms, longest_ms;
static int64_t sim_clock_us(void)
{
    return slept_ms * 1000;
}
static void sim_sleep(int64_t ms)
{
    slept_ms += ms;
    if (ms > longest_ms) longest_ms = ms;
}
static void sim_lock(struct mutex *m)
{
    assert_int_equal(pthread_mutex_lock(&m->lock), 0);
}
static void sim_unlock(struct mutex *m)
{
    assert_int_equal(pthread_mutex_unlock(&m->lock), 0);
}

static void delays_sleep_in_simulated_time(void **state)
{
    (void)state;
    static const struct task_hooks hooks = {.clock_us = sim_clock_us,
                                            .clock_wall_ms = sim_clock_us,
                                            .sleep_ms = sim_sleep,
                                            .mutex_lock = sim_lock,
                                            .mutex_unlock = sim_unlock};
    struct fixture f;
    task_install(&hooks);
    fixture_init(&f, &(struct fault_plan){.seed = 3, .delay_ms_max = 500});
    for (int i = 0; i < 200; i++)
        assert_int_equal(store_delete(&f.op, f.fault, (const char *[]){"b"}, 1),
                         ERR_OK);
    fixture_release(&f);
    task_install(NULL);
    assert_in_range(slept_ms, 200 * 200, 200 * 300);
    assert_in_range(longest_ms, 450, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_answers_and_applies_as_it_says),
        cmocka_unit_test(a_late_create_lands_at_the_next_call),
        cmocka_unit_test(a_late_create_lands_only_where_nothing_is),
        cmocka_unit_test(a_late_call_lands_within_its_limit),
        cmocka_unit_test(late_puts_and_deletes_land_too),
        cmocka_unit_test(what_never_landed_is_freed_with_the_store),
        cmocka_unit_test(the_dead_answer_nothing_until_they_are_started_again),
        cmocka_unit_test(death_after_a_call_strikes_before_the_next),
        cmocka_unit_test(death_may_jump_out_of_the_call),
        cmocka_unit_test(the_same_seed_is_the_same_weather),
        cmocka_unit_test(weather_strikes_as_often_as_it_should),
        cmocka_unit_test(delays_sleep_in_simulated_time),
    };
    return cmocka_run_group_tests_name("store_fault", tests, NULL, NULL);
}
