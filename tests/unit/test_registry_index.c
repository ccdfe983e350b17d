/* What becomes of what was written: tails are indexed, segments merged, leftovers
 * deleted; at once, beside writes, and though the store fails. */
#include "base/log.h"
#include "unit/registry_fixture.h"

static void indexing_trims_the_log_and_keeps_segments_few(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    for (uint64_t i = 0; i < 200; i++) {
        (void)write_ok(
            n, "x", (struct write){.first = i * 10, .count = 10, .value = (int64_t)i});
        if (i % 10 == 9) assert_int_equal(maintain(n, "x"), ERR_OK);
    }
    assert_int_equal(count_of(n, "x"), 2000);
    struct snapshot *s = read_strong(n, "x");
    assert_in_range(s->source_count, 1, 12);
    snapshot_unref(s);
    assert_in_range(objects_under(f, "wal/x/"), 1, 3);
    /* Removed objects go one round after the manifest that removed them. */
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_in_range(objects_under(f, "ns/x/"), 2, 12 + 32 + 16);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(value_of(n, "x", i * 10 + i % 10), (int64_t)i);
}

static void a_thousand_small_writes_are_reason_enough_to_index(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    for (uint64_t i = 0; i < 1100; i++) {
        (void)write_ok(n, "x", (struct write){.first = i, .count = 1, .value = 1});
        if (i % 100 == 99) tick(n, "x");
    }
    assert_in_range(objects_under(f, "wal/x/"), 1, 202);
    assert_int_equal(count_of(n, "x"), 1100);
}

static void however_many_objects_were_removed_all_are_deleted(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.gc_grace_ms = 3600000;
    struct node *n = owner_with(f, o);
    for (uint64_t i = 0; i % 100 || segment_objects(f) < 2200; i++) {
        (void)write_ok(n, "x", (struct write){.first = i % 7, .count = 1, .value = 1});
        assert_int_equal(maintain(n, "x"), ERR_OK);
    }
    n->options.gc_grace_ms = 0;
    node_restart(n);
    for (int i = 0; i < 2; i++) {
        (void)write_ok(n, "x", (struct write){.first = 0, .count = 1, .value = 2});
        assert_int_equal(maintain(n, "x"), ERR_OK);
    }
    assert_in_range(segment_objects(f), 1, 10);
}

/* Segments of 8 rows of which no two fit together. */
static struct node *owner_of_large_segments(struct fixture *f, uint32_t count,
                                            uint32_t segments_max)
{
    struct registry_options o = options_of("a");
    o.segment_docs_max = 12;
    o.segments_max = segments_max;
    o.interval_ms = 0;
    o.tail_index_rows = 1;
    struct node *n = owner_with(f, o);
    for (uint64_t i = 0; i < count; i++) {
        (void)write_ok(n, "x", (struct write){.first = i * 8, .count = 8, .value = 1});
        tick(n, "x");
    }
    return n;
}

static void segments_that_do_not_fit_together_are_left_alone(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner_of_large_segments(f, 3, 100);
    uint64_t version = info_of(n, "x").manifest_version;
    assert_int_equal(info_of(n, "x").segments, 3);
    for (int i = 0; i < 3; i++)
        tick(n, "x");
    assert_int_equal(info_of(n, "x").manifest_version, version);
}

static void too_many_segments_become_fewer_even_if_they_do_not_fit(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner_of_large_segments(f, 5, 3);
    for (int i = 0; i < 3; i++)
        tick(n, "x");
    uint64_t version = info_of(n, "x").manifest_version;
    assert_in_range(info_of(n, "x").segments, 1, 3);
    assert_int_equal(count_of(n, "x"), 40);
    tick(n, "x");
    assert_int_equal(info_of(n, "x").manifest_version, version);
}

static void an_index_job_that_fails_waits_and_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    enum { TICKS = 200 };
    struct node *n = owner_that_indexes(f);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    atomic_store(&f->deaf->denied, true); /* the segment is put, no manifest */
    for (int i = 0; i < TICKS; i++) {
        (void)registry_maintain(&f->op, n->registry, "x", false);
        op_clear_error(&f->op);
    }
    assert_in_range(atomic_load(&f->deaf->refusals), 1, TICKS / 4);
    assert_int_equal(segment_objects(f), 0);
    assert_int_equal(maintain(n, "x"), ERR_DENIED); /* who asks is told at once */
    atomic_store(&f->deaf->denied, false);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(segment_objects(f), 1);
    assert_int_equal(count_of(n, "x"), 9);
}

static void maintain_thread(void *arg)
{
    struct node *n = arg;
    assert_int_equal(maintain(n, "x"), ERR_OK);
}

struct merge_call {
    struct node *node;
    struct op *op;
    enum err err;
};

static void merge_thread(void *arg)
{
    struct merge_call *call = arg;
    call->err = registry_maintain(call->op, call->node->registry, "x", true);
}

static void a_compaction_outlives_the_request_that_asked_for_it(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.background = true;
    struct node *n = owner_with(f, o);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 10, .value = 1});
    atomic_store(&f->deaf->hold, 1); /* the segment */
    f->op.deadline_ms = clock_ms() + 50;
    assert_int_equal(registry_maintain(&f->op, n->registry, "x", true), ERR_TIMEOUT);

    while (!atomic_load(&f->deaf->holding))
        task_sleep_ms(1);
    assert_int_equal(info_of(n, "x").segments, 0);
    atomic_store(&f->deaf->holding, false);
    while (info_of(n, "x").segments == 0)
        task_sleep_ms(1);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(count_of(n, "x"), 10);
}

static void writes_are_indexed_while_segments_merge(void **state)
{
    struct fixture *f = *state;
    enum { FIRST = 3, ROWS = 100 };
    struct node *n = owner_that_indexes(f), *q = reader(f);
    for (uint64_t i = 0; i < FIRST; i++) {
        (void)write_ok(n, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(n, "x");
    }
    assert_int_equal(info_of(n, "x").segments, FIRST);
    atomic_store(&f->deaf->hold, 1); /* the merge's segment */
    struct thread *merge = thread_start("merge", maintain_thread, n);
    while (!atomic_load(&f->deaf->holding))
        task_sleep_ms(1);

    /* Replaces, deletes and adds, in two manifests, while the merge has its rows. */
    uint64_t version = info_of(n, "x").manifest_version;
    (void)write_ok(n, "x", (struct write){.first = 50, .count = ROWS, .value = 2});
    tick(n, "x");
    (void)write_ok(n, "x", (struct write){.first = 200, .count = 7, .remove = true});
    (void)write_ok(n, "x", (struct write){.first = 900, .count = 2, .value = 3});
    tick(n, "x");
    assert_int_equal(info_of(n, "x").manifest_version, version + 2);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 1, .value = 4});
    atomic_store(&f->deaf->holding, false);
    thread_join(merge);

    for (int reader = 0; reader < 3; reader++) {
        struct node *at = reader == 1 ? q : n;
        if (reader == 2) node_restart(n);
        assert_int_equal(count_of(at, "x"), FIRST * ROWS - 7 + 2);
        assert_int_equal(value_of(at, "x", 0), 4);
        assert_int_equal(value_of(at, "x", 49), 1);
        assert_int_equal(value_of(at, "x", 50), 2);
        assert_int_equal(value_of(at, "x", 149), 2);
        assert_int_equal(value_of(at, "x", 150), 1);
        assert_int_equal(value_of(at, "x", 203), -1);
        assert_int_equal(value_of(at, "x", 901), 3);
    }
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(info_of(n, "x").segments, 1);
    assert_int_equal(segment_objects(f), 1);
}

static void a_namespace_dropped_during_its_merge_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner_that_indexes(f);
    for (uint64_t i = 0; i < 3; i++) {
        (void)write_ok(n, "x", (struct write){.first = i * 10, .count = 10});
        tick(n, "x");
    }
    atomic_store(&f->deaf->hold, 1); /* the merge's segment */
    struct merge_call call = {n, &f->op, ERR_OK};
    struct thread *merge = thread_start("merge", merge_thread, &call);
    while (!atomic_load(&f->deaf->holding))
        task_sleep_ms(1);
    struct op drop;
    init_op(&drop);
    assert_int_equal(registry_drop(&drop, n->registry, "x"), ERR_OK);
    op_release(&drop);
    create(n, "x"); /* another one of that name, at once */
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 4, .value = 5});
    atomic_store(&f->deaf->holding, false);
    thread_join(merge);

    assert_int_not_equal(call.err, ERR_OK);
    assert_int_equal(segment_objects(f), 0);
    assert_int_equal(count_of(n, "x"), 4);
    assert_int_equal(value_of(n, "x", 3), 5);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(segment_objects(f), 1);
}

/* Indexes, merges and collects while one call of the store fails, then without, then
 * after a restart. False: there were fewer calls. */
static bool merge_with_fault(struct fixture *f, enum fault fault, uint64_t at_call)
{
    struct fault_plan plan = {0};
    struct node *n = owner_that_indexes(f);
    for (uint64_t i = 0; i < 3; i++) {
        (void)write_ok(n, "x",
                       (struct write){.first = i * 10, .count = 15, .value = 1});
        tick(n, "x");
    }
    (void)write_ok(n, "x", (struct write){.first = 5, .count = 10, .remove = true});
    plan.at_call = store_fault_calls(f->faults) + at_call;
    plan.at_fault = fault;
    store_fault_plan(f->faults, &plan);
    (void)registry_maintain(&f->op, n->registry, "x", true);
    bool met = store_fault_calls(f->faults) >= plan.at_call;
    plan.at_call = 0;
    store_fault_plan(f->faults, &plan);

    assert_int_equal(count_of(n, "x"), 25);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(info_of(n, "x").segments, 1);
    assert_int_equal(count_of(n, "x"), 25);
    assert_int_equal(value_of(n, "x", 34), 1);
    node_restart(n); /* a new epoch collects orphans */
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(segment_objects(f), 1);
    assert_int_equal(count_of(n, "x"), 25);
    fixture_renew(f);
    return met;
}

static void the_store_may_be_full_or_fail_at_every_call_of_a_merge(void **state)
{
    static const enum fault faults[] = {FAULT_FULL, FAULT_FAIL, FAULT_UNKNOWN,
                                        FAULT_LOST_ANSWER};
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        uint64_t at_call = 1;
        while (merge_with_fault(*state, faults[i], at_call))
            at_call++;
        assert_true(at_call > 1);
    }
}

static void a_row_is_written_a_logarithmic_number_of_times(void **state)
{
    struct fixture *f = *state;
    enum { TAILS = 256, ROWS = 16 };
    static const char tail[] = "elacsym_index_bytes_total{from=\"tail\"}";
    static const char segments[] = "elacsym_index_bytes_total{from=\"segments\"}";
    struct node *n = owner_that_indexes(f);
    double first = metric_value(tail, 0), again = metric_value(segments, 0);
    uint64_t most = 0;
    for (uint64_t i = 0; i < TAILS; i++) {
        (void)write_ok(n, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(n, "x");
        if (i % 8 == 7 && info_of(n, "x").segments > most)
            most = info_of(n, "x").segments;
    }
    first = metric_value(tail, 0) - first;
    again = metric_value(segments, 0) - again;
    print_message("write amplification %.2f, at most %llu segments\n",
                  (first + again) / first, (unsigned long long)most);
    assert_true(first > 0 && again > 0);
    assert_true(first + again <= first * (1 + 4)); /* log4(256) */
    assert_in_range(most, 1, 3 * 4 + 1);
    assert_int_equal(count_of(n, "x"), TAILS * ROWS);
}

static void a_damaged_segment_is_named_and_the_others_merge(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    struct node *n = owner_that_indexes(f);
    const char *keys[1000], *damaged = NULL;
    size_t count = 1000;
    struct buf bytes = BUF_INIT;
    (void)write_ok(n, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    tick(n, "x");
    node_stop(n);
    assert_int_equal(store_list(&f->op, f->store, "ns/x/", "", 0, keys, &count),
                     ERR_OK);
    for (size_t i = 0; i < count; i++)
        if (strstr(keys[i], "/segment/")) damaged = keys[i];
    assert_non_null(damaged);
    assert_int_equal(store_get(&f->op, f->store, damaged, 1 << 30, &bytes), ERR_OK);
    bytes.data[1000] ^= 4;
    assert_int_equal(store_delete(&f->op, f->store, &damaged, 1), ERR_OK);
    assert_int_equal(store_create(&f->op, f->store, damaged, buf_slice(&bytes)),
                     ERR_OK);

    node_restart(n);
    for (uint64_t i = 0; i < 8; i++) {
        (void)write_ok(
            n, "x", (struct write){.first = (i + 1) * ROWS, .count = 100, .value = 2});
        tick(n, "x");
    }
    assert_int_equal(registry_maintain(&f->op, n->registry, "x", true), ERR_CORRUPT);
    assert_non_null(strstr(f->op.error, damaged));
    assert_int_equal(maintain(n, "x"), ERR_OK); /* the others */
    assert_int_equal(info_of(n, "x").segments, 2);
    assert_int_equal(count_of(n, "x"), ROWS + 800);
    buf_release(&bytes);
}

/* The three knobs of a namespace; the fourth, how often it is looked at, needs hours
 * (test_registry_time). */
static void without_compaction_segments_stay_until_it_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.segments_max = 3;
    o.compaction = false;
    struct node *n = owner_with(f, o);
    for (uint64_t i = 0; i < 20; i++) {
        (void)write_ok(n, "x", (struct write){.first = i * 10, .count = 10});
        tick(n, "x");
    }
    assert_int_equal(info_of(n, "x").segments, 20);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_int_equal(info_of(n, "x").segments, 1);
}

static void
while_segments_are_many_a_tail_becomes_twice_as_large_before_it_is_one(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = 10, MANY = 12 };
    struct registry_options o = options_of("a");
    o.tail_index_rows = ROWS;
    o.compaction = false;
    struct node *n = owner_with(f, o);
    for (uint64_t i = 0; i <= MANY; i++) {
        assert_int_equal(info_of(n, "x").segments, i);
        (void)write_ok(n, "x", (struct write){.first = i * ROWS, .count = ROWS});
        tick(n, "x");
    }
    assert_int_equal(info_of(n, "x").segments, MANY);
    assert_int_equal(info_of(n, "x").tail_rows, ROWS);
    (void)write_ok(n, "x", (struct write){.first = (MANY + 1) * ROWS, .count = ROWS});
    tick(n, "x");
    assert_int_equal(info_of(n, "x").segments, MANY + 1);
    assert_int_equal(info_of(n, "x").tail_rows, 0);
}

static void a_merge_makes_no_segment_above_the_largest_allowed(void **state)
{
    struct fixture *f = *state;
    enum { DOCS_MAX = 100, ROWS = 10, WRITES = 64 };
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.segment_docs_max = DOCS_MAX;
    struct node *n = owner_with(f, o);
    for (uint64_t i = 0; i < WRITES; i++) {
        (void)write_ok(n, "x", (struct write){.first = i * ROWS, .count = ROWS});
        tick(n, "x");
        struct snapshot *s = read_strong(n, "x");
        for (uint32_t k = 0; k < s->source_count; k++)
            assert_in_range(segment_row_count(s->sources[k].segment), 1, DOCS_MAX);
        snapshot_unref(s);
    }
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_in_range(info_of(n, "x").segments, WRITES * ROWS / DOCS_MAX,
                    2 * WRITES * ROWS / DOCS_MAX);
}

static void deletions_that_fail_are_counted_and_tried_again(void **state)
{
    struct fixture *f = *state;
    struct fault_plan plan = {0};
    struct node *n = owner_that_indexes(f);
    for (int i = 0; i < 10; i++)
        (void)write_ok(n, "x", (struct write){.first = 0, .count = 10});
    double failures = metric_value("elacsym_gc_failures_total", 0);
    size_t logs = objects_under(f, "wal/");
    uint64_t deletes = 0;
    for (uint64_t at = 1; deletes == 0 && at < 20; at++) {
        struct op op;
        plan.at_call = store_fault_calls(f->faults) + at;
        plan.at_fault = FAULT_FAIL;
        store_fault_plan(f->faults, &plan);
        init_op(&op);
        (void)registry_maintain(&op, n->registry, "x", true);
        op_release(&op);
        deletes = store_fault_hits(f->faults, FAULT_FAIL, CALL_DELETE);
        if (deletes == 0)
            (void)write_ok(n, "x", (struct write){.first = 0, .count = 10});
    }
    assert_int_equal(deletes, 1);
    assert_true(metric_value("elacsym_gc_failures_total", 0) > failures);
    plan.at_call = 0;
    store_fault_plan(f->faults, &plan);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_true(objects_under(f, "wal/") < logs);
    assert_int_equal(segment_objects(f), 1);
}

static void a_large_merge_goes_through_a_file_and_without_one_stays_small(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = BY_FLAVOUR(20000, 2000) };
    static const char *const folders[] = {"/tmp", "/no/such/folder"};
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        struct registry_options o = options_of("a");
        o.scratch = folders[i];
        o.spool_from = 1;
        struct node *n = owner_with(f, o);
        for (uint64_t k = 0; k < 3; k++) {
            (void)write_ok(n, "x",
                           (struct write){.first = k * ROWS / 2,
                                          .count = ROWS,
                                          .value = 1});
            enum err e = maintain(n, "x");
            if (e) e = maintain(n, "x"); /* now in memory */
            assert_int_equal(e, ERR_OK);
        }
        assert_int_equal(info_of(n, "x").segments, 1);
        assert_int_equal(count_of(n, "x"), 2 * ROWS);
        /* What is left is the ids of the one segment, not what merges took. */
        assert_in_range(cache_usage(n->cache).reserved_bytes,
                        2 * ROWS * sizeof(uint64_t), 4 * ROWS * sizeof(uint64_t));
        node_restart(n);
        assert_int_equal(count_of(n, "x"), 2 * ROWS);
        assert_int_equal(value_of(n, "x", 2 * ROWS - 1), 1);
        fixture_renew(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(indexing_trims_the_log_and_keeps_segments_few),
        TEST(a_thousand_small_writes_are_reason_enough_to_index),
        TEST(however_many_objects_were_removed_all_are_deleted),
        TEST(segments_that_do_not_fit_together_are_left_alone),
        TEST(too_many_segments_become_fewer_even_if_they_do_not_fit),
        TEST(an_index_job_that_fails_waits_and_leaves_nothing_behind),
        TEST(a_compaction_outlives_the_request_that_asked_for_it),
        TEST(writes_are_indexed_while_segments_merge),
        TEST(a_row_is_written_a_logarithmic_number_of_times),
        TEST(a_namespace_dropped_during_its_merge_leaves_nothing),
        TEST(the_store_may_be_full_or_fail_at_every_call_of_a_merge),
        TEST(without_compaction_segments_stay_until_it_is_asked_for),
        TEST(while_segments_are_many_a_tail_becomes_twice_as_large_before_it_is_one),
        TEST(a_merge_makes_no_segment_above_the_largest_allowed),
        TEST(deletions_that_fail_are_counted_and_tried_again),
        TEST(a_damaged_segment_is_named_and_the_others_merge),
        TEST(a_large_merge_goes_through_a_file_and_without_one_stays_small),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry index", tests, NULL, NULL);
}
