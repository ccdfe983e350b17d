/* What namespaces may hold in memory: tails, open namespaces, requests; and what
 * happens at each ceiling. */
#include "base/log.h"
#include "unit/registry_fixture.h"

static void tails_stay_inside_the_budget_and_indexing_makes_room(void **state)
{
    struct fixture *f = *state;
    enum { BUDGET = BY_FLAVOUR(4 << 20, 1 << 20), ROWS = 500 };
    struct node *n = node_with(f, BUDGET, options_of("a"));
    struct write_result r;
    uint64_t written = 0;
    enum err e = ERR_OK;
    create(n, "x");
    create(n, "y");
    for (; !e && written < 1000; written++)
        e = write_try(n, written % 2 ? "x" : "y",
                      (struct write){.first = written * ROWS, .count = ROWS}, &r);
    assert_int_equal(e, ERR_BUSY);
    struct snapshot *x = read_strong(n, "x"), *y = read_strong(n, "y");
    assert_in_range(x->tail_bytes + y->tail_bytes, BUDGET / 4, BUDGET / 2);
    snapshot_unref(x);
    snapshot_unref(y);
    tick(n, "x"); /* full is reason enough */
    tick(n, "y");
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 1, .value = 1});
    (void)write_ok(n, "y", (struct write){.first = 0, .count = 1, .value = 1});
}

static void
a_tail_as_large_as_it_may_be_refuses_writes_until_it_is_indexed(void **state)
{
    struct fixture *f = *state;
    enum { TAIL = 256 << 10, ROWS = 500 };
    struct registry_options o = options_of("a");
    o.tail_bytes_max = TAIL;
    struct node *n = owner_with(f, o);
    struct write_result r;
    uint64_t written = 0;
    create(n, "y");
    while (
        !write_try(n, "x", (struct write){.first = written * ROWS, .count = ROWS}, &r))
        assert_true(++written < 1000);
    assert_int_equal(count_of(n, "x"), written * ROWS); /* nothing of the last */
    assert_int_equal(write_try(n, "x",
                               (struct write){.first = written * ROWS, .count = ROWS},
                               &r),
                     ERR_BUSY);
    (void)write_ok(n, "y", (struct write){.first = 0, .count = 1}); /* is its own */
    struct snapshot *x = read_strong(n, "x");
    assert_in_range(x->tail_bytes, TAIL / 2, TAIL);
    snapshot_unref(x);
    tick(n, "x"); /* full is reason enough */
    (void)write_ok(n, "x", (struct write){.first = written * ROWS, .count = ROWS});
}

static void a_reader_refuses_a_tail_beyond_its_budget_and_recovers(void **state)
{
    struct fixture *f = *state;
    enum { BUDGET = 1 << 20, ROWS = 500 };
    struct node *a = owner(f), *q = reader_with(f, BUDGET);
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    (void)write_ok(a, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    assert_int_equal(count_of(q, "x"), ROWS);
    assert_true(cache_usage(q->cache).reserved_bytes > 0);
    for (uint64_t i = 1; i < 100; i++)
        (void)write_ok(
            a, "x",
            (struct write){.first = i * ROWS, .count = ROWS, .value = 1, .bare = true});
    assert_int_equal(registry_snapshot(&f->op, q->registry, "x", &strong, &s),
                     ERR_BUSY);
    assert_int_equal(cache_usage(q->cache).reserved_bytes, 0);
    assert_int_equal(maintain(a, "x"), ERR_OK);
    task_sleep_ms(1100);
    assert_int_equal(count_of(q, "x"), 100 * ROWS);
}

static void idle_namespaces_make_room_for_others(void **state)
{
    struct fixture *f = *state;
    enum { OPEN_MAX = 8, NAMES = 30 };
    struct registry_options o = options_of("a");
    o.open_max = OPEN_MAX;
    struct node *n = node_with(f, NODE_MEMORY, o);
    char name[16];
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < NAMES; i++) {
            (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
            if (round == 0) create(n, name);
            (void)write_ok(n, name,
                           (struct write){.first = (uint64_t)round,
                                          .count = 1,
                                          .value = (int64_t)i});
        }
    }
    for (uint64_t i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
        assert_int_equal(count_of(n, name), 2);
        assert_int_equal(value_of(n, name, 1), (int64_t)i);
    }
}

static void namespaces_that_fill_the_memory_make_room_for_each_other(void **state)
{
    struct fixture *f = *state;
    enum { BUDGET = 1 << 20, NAMES = 30, ROWS = 5000 };
    struct node *a = node_start(f, "a"), *q = reader_with(f, BUDGET);
    uint64_t all = 0;
    char name[16];
    for (uint64_t i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
        create(a, name);
        (void)write_ok(a, name, (struct write){.count = ROWS, .bare = true});
        assert_int_equal(maintain(a, name), ERR_OK);
        struct snapshot *s = read_strong(a, name);
        all += segment_memory(s->sources[0].segment);
        snapshot_unref(s);
    }
    assert_true(all > BUDGET);
    for (uint64_t i = 0; i < 3 * (uint64_t)NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i % NAMES);
        assert_int_equal(count_of(q, name), ROWS);
        struct cache_usage usage = cache_usage(q->cache);
        assert_true(usage.reserved_bytes + usage.bytes <= BUDGET);
    }
}

static void writes_go_on_while_a_merge_has_most_of_the_memory(void **state)
{
    struct fixture *f = *state;
    struct node *n = node_with(f, 1 << 20, options_of("a"));
    create(n, "x");
    uint64_t merge = cache_usage(n->cache).memory_max / 4 * 3;
    assert_true(cache_reserve(n->cache, merge));
    (void)write_ok(n, "x", (struct write){.count = 5});
    cache_unreserve(n->cache, merge);
}

/* A namespace that was just opened is let go by the thread that did it a moment after
 * those who waited go on. */
static void write_when_not_busy(struct node *n, const char *name, struct write w)
{
    struct write_result r;
    enum err e = write_try(n, name, w, &r);
    for (int i = 0; e == ERR_BUSY && i < 5000; i++) {
        task_sleep_ms(1);
        e = write_try(n, name, w, &r);
    }
    assert_int_equal(e, ERR_OK);
}

static void a_namespace_with_an_unsettled_put_is_kept_open(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.open_max = 1;
    struct node *n = owner_with(f, o);
    struct write w = {.first = 0, .count = 1, .value = 1, .key = "k", .timeout_ms = 50};
    struct write_result r;
    atomic_store(&f->deaf->deaf, true);
    assert_int_equal(write_try(n, "x", w, &r), ERR_UNKNOWN);
    atomic_store(&f->deaf->deaf, false);
    assert_int_equal(write_try(n, "y", w, &r), ERR_NOT_FOUND);
    struct schema *schema = schema_with(1);
    assert_int_equal(create_as(&f->op, n, "y", schema), ERR_OK);
    assert_int_equal(write_try(n, "y", w, &r), ERR_BUSY);
    tick(n, "x"); /* settles it */
    w.timeout_ms = 0;
    write_when_not_busy(n, "y", w);
    write_when_not_busy(n, "x", w);
    assert_int_equal(count_of(n, "x"), 1);
    schema_unref(schema);
}

static void a_request_without_memory_left_says_so(void **state)
{
    struct fixture *f = *state;
    struct node *n = node_start(f, "a");
    char name[16];
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "n%02d", i);
        create(n, name);
        (void)write_ok(n, name, (struct write){.first = 1, .count = 1, .value = 1});
    }
    for (size_t memory = 64; memory < 40000; memory += memory / 8) {
        const char *names[32];
        size_t count = 32;
        struct schema *schema = NULL;
        struct op op;
        node_restart(n);
        op_init(&op, clock_ms() + 5000, memory);
        enum err e = registry_list(&op, n->registry, "n", "", names, &count);
        assert_true(e == ERR_LIMIT || (!e && count == 20));
        op_clear_error(&op);
        e = registry_schema(&op, n->registry, "n07", &schema);
        assert_true(!e || e == ERR_LIMIT);
        schema_unref(schema);
        op_clear_error(&op);
        e = registry_maintain(&op, n->registry, "n07", true);
        assert_true(!e || e == ERR_LIMIT);
        op_release(&op);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tails_stay_inside_the_budget_and_indexing_makes_room),
        TEST(a_tail_as_large_as_it_may_be_refuses_writes_until_it_is_indexed),
        TEST(a_reader_refuses_a_tail_beyond_its_budget_and_recovers),
        TEST(idle_namespaces_make_room_for_others),
        TEST(writes_go_on_while_a_merge_has_most_of_the_memory),
        TEST(namespaces_that_fill_the_memory_make_room_for_each_other),
        TEST(a_namespace_with_an_unsettled_put_is_kept_open),
        TEST(a_request_without_memory_left_says_so),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry memory", tests, NULL, NULL);
}
