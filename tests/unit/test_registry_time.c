/* What a node does while nobody asks: whole days, in the simulator's virtual time. */
#include <sys/stat.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/registry.h"
#include "sim/sim.h"
#include "store/store_fault.h"
#include "store/store_mem.h"
#include "unit/metric_value.h"
#include "unit/scratch.h"
#include "unit/test.h"

enum { SECOND_MS = 1000, SOON_MS = 5 * SECOND_MS, HOUR_MS = 3600 * SECOND_MS };
#define DAY_MS ((int64_t)24 * HOUR_MS)

/* A world of one store and one node, and what a scenario has found; cmocka is asked
 * outside of the simulation, since it leaves by longjmp. */
struct world {
    struct store *store; /* counts calls */
    struct cache *cache;
    struct registry *registry;
    uint64_t found[8];
    enum err err;
};

enum { MEMORY = 16 << 20 };

static void node_with(struct world *w, uint64_t memory, struct registry_options o)
{
    w->cache = cache_new(w->store, memory);
    o.store = w->store;
    o.cache = w->cache;
    w->registry = registry_new(&o);
}

static void node_start(struct world *w, bool background)
{
    struct registry_options o = registry_options_default();
    o.background = background;
    node_with(w, MEMORY, o);
}

static void node_stop(struct world *w)
{
    registry_free(w->registry, clock_ms() + 1000);
    cache_free(w->cache);
}

static void note(struct world *w, enum err e)
{
    if (!w->err) w->err = e;
}

static int64_t soon_ms = SOON_MS;

static struct op op_soon(void)
{
    struct op op;
    op_init(&op, clock_ms() + soon_ms, 0);
    return op;
}

static void create(struct world *w, const char *name)
{
    struct op op = op_soon();
    struct schema *schema = schema_new(0, METRIC_L2, NULL, 0);
    struct commit_token token;
    bool created;
    note(w, registry_create(&op, w->registry, name, schema, &created, &token));
    schema_unref(schema);
    op_release(&op);
}

static void write_id(struct world *w, const char *name, uint64_t id)
{
    struct op op = op_soon();
    struct schema *schema = NULL;
    struct doc doc = {.id = {.kind = ID_U64, .u64 = id}};
    struct batch batch = {.docs = &doc, .doc_count = 1};
    struct write_request request = {.batch = &batch};
    struct write_result result;
    note(w, registry_schema(&op, w->registry, name, &schema));
    request.schema = schema;
    if (schema) note(w, registry_write(&op, w->registry, name, &request, &result));
    schema_unref(schema);
    op_release(&op);
}

static void write_one(struct world *w, const char *name)
{
    write_id(w, name, 7);
}

static enum err maintain(struct world *w, bool force)
{
    struct op op = op_soon();
    enum err e = registry_maintain(&op, w->registry, "x", force);
    op_release(&op);
    return e;
}

static struct namespace_info info_of(struct world *w)
{
    struct namespace_info info = {0};
    struct op op = op_soon();
    note(w, registry_info(&op, w->registry, "x", &info));
    op_release(&op);
    schema_unref(info.schema);
    info.schema = NULL;
    return info;
}

static uint64_t objects(struct world *w, const char *prefix, const char *part)
{
    struct op op = op_soon();
    const char *keys[1000];
    size_t n = 1000;
    uint64_t found = 0;
    note(w, store_list(&op, w->store, prefix, "", 0, keys, &n));
    for (size_t i = 0; i < n; i++)
        found += strstr(keys[i], part) != NULL;
    op_release(&op);
    return found;
}

/* Plays the scenario in a world of its own; what it has found, until the next. */
static const uint64_t *play(void (*scenario)(void *))
{
    static struct world w;
    struct fault_plan calm = {0};
    struct sim_options options = {.seed = 1, .stickiness = 64, .steps_max = 100000000};
    struct sim_result result;
    w = (struct world){.store = store_fault_new(store_mem_new(), &calm)};
    sim_run(&options, scenario, &w, &result);
    if (result.end != SIM_FINISHED) fail_msg("%s", result.words);
    assert_int_equal(w.err, ERR_OK);
    store_free(w.store);
    return w.found;
}

/* ---- tests ---- */

static void restart_untouched(void *arg)
{
    struct world *w = arg;
    node_start(w, false);
    create(w, "x");
    write_one(w, "x");
    write_one(w, "x");
    node_stop(w);
    w->found[0] = objects(w, "ns/", "/segment/");
    node_start(w, true);
    task_sleep_ms(10 * SECOND_MS);
    w->found[1] = objects(w, "ns/", "/segment/");
    w->found[2] = registry_count(w->registry);
    node_stop(w);
}

static void after_a_restart_what_waits_is_indexed_though_nobody_asks(void **state)
{
    const uint64_t *found = play(restart_untouched);
    (void)state;
    assert_int_equal(found[0], 0);
    assert_int_equal(found[1], 1);
    assert_int_equal(found[2], 1);
}

static void stay_idle(void *arg)
{
    struct world *w = arg;
    char name[16];
    node_start(w, false);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "n%02d", i);
        create(w, name);
        write_one(w, name);
    }
    node_stop(w);
    node_start(w, true);
    task_sleep_ms(100 * SECOND_MS); /* all are indexed */
    node_stop(w);
    node_start(w, true);
    task_sleep_ms(60 * SECOND_MS); /* the first survey looks at all, opens none */
    uint64_t calls = store_fault_calls(w->store);
    task_sleep_ms(HOUR_MS * 4);
    w->found[0] = store_fault_calls(w->store) - calls;
    w->found[1] = registry_count(w->registry);
    node_stop(w);
}

static void idle_namespaces_cost_two_listings_an_hour_together(void **state)
{
    const uint64_t *found = play(stay_idle);
    (void)state;
    assert_in_range(found[0], 2 * 3, 2 * 5);
    assert_int_equal(found[1], 40);
}

static uint64_t open_now(void)
{
    return (uint64_t)metric_value("elacsym_open_namespaces", -1);
}

enum { NAMES = 40, MINUTE_MS = 60 * SECOND_MS };

/* What many namespaces cost in memory, open and closed, and in calls while closed. */
static void open_and_leave(void *arg)
{
    struct world *w = arg;
    char name[16];
    node_start(w, true);
    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%02d", i);
        create(w, name);
        for (int k = 0; k < 3; k++)
            write_one(w, name);
    }
    task_sleep_ms(10 * SECOND_MS);
    w->found[0] = open_now();
    w->found[1] = cache_usage(w->cache).reserved_bytes;
    write_one(w, "n07");
    task_sleep_ms(14 * MINUTE_MS);
    w->found[2] = open_now(); /* all are indexed */
    write_one(w, "n07");
    task_sleep_ms(3 * MINUTE_MS);
    w->found[3] = open_now();
    task_sleep_ms(16 * MINUTE_MS);
    w->found[4] = open_now();
    w->found[5] = cache_usage(w->cache).reserved_bytes;
    uint64_t calls = store_fault_calls(w->store);
    task_sleep_ms(MINUTE_MS);
    w->found[6] = store_fault_calls(w->store) - calls;
    write_one(w, "n23"); /* and it is there again */
    task_sleep_ms(10 * SECOND_MS);
    w->found[7] = open_now();
    node_stop(w);
}

static void namespaces_that_nobody_asks_for_are_closed(void **state)
{
    const uint64_t *found = play(open_and_leave);
    (void)state;
    assert_int_equal(found[0], NAMES);
    assert_true(found[1] > 0);
    assert_int_equal(found[2], NAMES);
    assert_int_equal(found[3], 1); /* the one that was asked for */
    assert_int_equal(found[4], 0);
    assert_int_equal(found[5], 0);
    assert_int_equal(found[6], 0);
    assert_int_equal(found[7], 1);
}

/* Segments that are to be merged by the background, while the store goes away for ten
 * minutes from the storm_after-th call on. */
static uint64_t storm_after;

static void lose_the_store(void *arg)
{
    struct world *w = arg;
    struct fault_plan calm = {0}, storm = {.probability[FAULT_FAIL] = 1};
    uint64_t calls = store_fault_calls(w->store);
    while (store_fault_calls(w->store) < calls + storm_after)
        task_sleep_ms(1);
    store_fault_plan(w->store, &storm);
    task_sleep_ms(10 * MINUTE_MS);
    store_fault_plan(w->store, &calm);
}

static void merge_in_a_storm(void *arg)
{
    struct world *w = arg;
    struct fault_plan slow = {.delay_ms_max = 20};
    node_start(w, false);
    create(w, "x");
    for (int i = 0; i < 5; i++) {
        write_one(w, "x");
        note(w, maintain(w, i == 0));
    }
    node_stop(w);
    store_fault_plan(w->store, &slow);
    struct thread *thief = thread_start("thief", lose_the_store, w);
    node_start(w, true); /* whose survey opens it, indexes and merges */
    thread_join(thief);
    task_sleep_ms(5 * MINUTE_MS); /* the longest pause between attempts is one */
    struct namespace_info info = info_of(w);
    w->found[0] = info.documents;
    w->found[1] = info.segments;
    w->found[2] = info.tail_rows;
    task_sleep_ms(15 * MINUTE_MS);
    w->found[3] = objects(w, "ns/", "/segment/");
    node_stop(w);
}

static void
a_store_that_is_away_for_ten_minutes_delays_a_merge_and_no_more(void **state)
{
    (void)state;
    for (uint64_t after = 1; after < 40; after += 3) {
        storm_after = after;
        const uint64_t *found = play(merge_in_a_storm);
        assert_int_equal(found[0], 1);
        assert_int_equal(found[1], 1);
        assert_int_equal(found[2], 0);
        assert_in_range(found[3], 1, 2); /* and what the storm left of an attempt */
    }
}

/* Two segments that no rule of sizes joins. */
static void look_in_time(void *arg)
{
    struct world *w = arg;
    node_start(w, true);
    create(w, "x");
    for (uint64_t i = 0; i < 2; i++) {
        write_id(w, "x", i);
        task_sleep_ms(3 * MINUTE_MS);
    }
    w->found[0] = objects(w, "ns/", ".seg");
    task_sleep_ms(45 * MINUTE_MS);
    w->found[1] = objects(w, "ns/", ".seg");
    task_sleep_ms(2 * HOUR_MS);
    w->found[2] = objects(w, "ns/", ".seg");
    node_stop(w);
}

static void after_the_interval_what_could_be_fewer_is_joined(void **state)
{
    const uint64_t *found = play(look_in_time);
    (void)state;
    assert_int_equal(found[0], 2);
    assert_int_equal(found[1], 2);
    assert_int_equal(found[2], 1);
}

/* Removes objects in a collection's own millisecond, and after the calendar was set
 * back: nothing sleeps in between, so no virtual time passes. */
static void remove_and_set_back(void *arg)
{
    struct world *w = arg;
    struct registry_options o = registry_options_default();
    o.gc_grace_ms = 0;
    o.tail_index_rows = 1;
    node_with(w, MEMORY, o);
    create(w, "x");
    for (uint64_t i = 0; i < 3; i++) {
        if (i == 2) sim_set_calendar(-HOUR_MS);
        for (uint64_t id = 0; id < 2; id++) {
            write_id(w, "x", 2 * i + id);
            note(w, maintain(w, false));
        }
        note(w, maintain(w, true));
        w->found[i] = objects(w, "ns/", ".seg");
    }
    node_stop(w);
}

static void what_is_removed_is_deleted_whatever_the_calendar_said_before(void **state)
{
    const uint64_t *found = play(remove_and_set_back);
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(found[i], 1);
}

/* Merges at a time far ahead, and then goes back to today. */
static void remove_tomorrow(void *arg)
{
    struct world *w = arg;
    struct registry_options o = registry_options_default();
    o.tail_index_rows = 1;
    node_with(w, MEMORY, o);
    create(w, "x");
    sim_set_calendar(1000 * DAY_MS);
    for (uint64_t id = 0; id < 2; id++) {
        write_id(w, "x", id);
        note(w, maintain(w, false));
    }
    note(w, maintain(w, true));
    w->found[0] = objects(w, "ns/", ".seg");
    sim_set_calendar(-1000 * DAY_MS);
    task_sleep_ms(HOUR_MS);
    note(w, maintain(w, false));
    w->found[1] = objects(w, "ns/", ".seg");
    node_stop(w);
}

static void what_was_removed_in_the_future_is_deleted_today(void **state)
{
    const uint64_t *found = play(remove_tomorrow);
    (void)state;
    assert_int_equal(found[0], 3);
    assert_int_equal(found[1], 1);
}

static void wait_to_be_indexed(void *arg)
{
    struct world *w = arg;
    node_start(w, true);
    create(w, "x");
    for (int i = 0; i < 3; i++)
        write_one(w, "x");
    task_sleep_ms(10 * SECOND_MS);
    w->found[0] = (uint64_t)metric_value("elacsym_segments", -1);
    w->found[1] = (uint64_t)metric_value("elacsym_unindexed_rows", -1);
    w->found[2] = (uint64_t)metric_value("elacsym_tail_bytes", -1) > 0;
    w->found[3] = (uint64_t)metric_value("elacsym_wal_objects", -1);
    task_sleep_ms(2 * MINUTE_MS);
    w->found[4] = (uint64_t)metric_value("elacsym_segments", -1);
    w->found[5] = (uint64_t)metric_value("elacsym_unindexed_rows", -1);
    w->found[6] = (uint64_t)metric_value("elacsym_tail_bytes", -1);
    w->found[7] = (uint64_t)metric_value("elacsym_wal_objects", -1);
    node_stop(w);
}

static void gauges_tell_what_waits_to_be_indexed(void **state)
{
    static const uint64_t wanted[] = {0, 1, 1, 4,
                                      1, 0, 0, 1}; /* a fence, three writes */
    const uint64_t *found = play(wait_to_be_indexed);
    (void)state;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_int_equal(found[i], wanted[i]);
}

/* ---- merges that need a file ---- */

enum { WIDE_DIM = 80, WIDE_ROWS = 500, WIDE_WRITES = 4 };
static struct scratch scratch;

static void write_wide(struct world *w, uint64_t first)
{
    static float vectors[WIDE_ROWS * WIDE_DIM];
    static struct doc docs[WIDE_ROWS];
    struct op op = op_soon();
    struct schema *schema = NULL;
    struct batch batch = {.docs = docs, .doc_count = WIDE_ROWS};
    struct write_request request = {.batch = &batch};
    struct write_result result;
    for (size_t i = 0; i < WIDE_ROWS * WIDE_DIM; i++)
        vectors[i] = (float)(random_below(2000)) / 1000 - 1;
    for (size_t i = 0; i < WIDE_ROWS; i++)
        docs[i] = (struct doc){.id = {.kind = ID_U64, .u64 = first + i},
                               .vector = vectors + i * WIDE_DIM};
    note(w, registry_schema(&op, w->registry, "x", &schema));
    request.schema = schema;
    if (schema) note(w, registry_write(&op, w->registry, "x", &request, &result));
    schema_unref(schema);
    op_release(&op);
}

/* A look at what is due; how many segments there are then. */
static uint64_t tick(struct world *w, enum err *e)
{
    *e = maintain(w, false);
    return info_of(w).segments;
}

/* Four segments are due, too large for memory together, and their file has no place. */
static void merge_without_a_file(void *arg)
{
    struct world *w = arg;
    struct registry_options o = registry_options_default();
    char parent[sizeof scratch.path + 8], folder[sizeof parent + 8];
    enum err e = ERR_OK;

    (void)snprintf(parent, sizeof parent, "%s/away", scratch.path);
    (void)snprintf(folder, sizeof folder, "%s/work", parent);
    o.background = false;
    o.tail_index_rows = 1;
    o.scratch = folder;
    o.spool_from = 500 << 10;
    node_with(w, 2 << 20, o);
    struct op op = op_soon();
    struct schema *schema = schema_new(WIDE_DIM, METRIC_L2, NULL, 0);
    struct commit_token token;
    bool created;
    note(w, registry_create(&op, w->registry, "x", schema, &created, &token));
    schema_unref(schema);
    op_release(&op);

    for (uint64_t i = 0; i < WIDE_WRITES; i++) {
        if (i > 0) (void)tick(w, &e);
        write_wide(w, i * WIDE_ROWS);
    }
    w->found[0] = tick(w, &e);
    w->found[1] = e;
    task_sleep_ms(5 * SECOND_MS);
    w->found[2] = tick(w, &e);
    w->found[3] = e;
    task_sleep_ms(MINUTE_MS);
    (void)tick(w, &e);
    w->found[4] = e;
    (void)mkdir(parent, 0700);
    w->found[5] = tick(w, &e);
    task_sleep_ms(MINUTE_MS);
    w->found[6] = tick(w, &e);
    w->found[7] = e;
    node_stop(w);
}

static void after_a_minute_without_a_file_merges_may_be_large_again(void **state)
{
    (void)state;
    scratch_make(&scratch);
    const uint64_t *found = play(merge_without_a_file);
    scratch_remove(&scratch);
    assert_int_equal(found[0], WIDE_WRITES);
    assert_int_equal(found[1], ERR_IO);
    assert_int_equal(found[2], WIDE_WRITES); /* in memory they have no room */
    assert_int_equal(found[3], ERR_OK);
    assert_int_equal(found[4], ERR_IO); /* tried again, the folder is still missing */
    assert_int_equal(found[5], WIDE_WRITES);
    assert_int_equal(found[6], 1);
    assert_int_equal(found[7], ERR_OK);
}

/* ---- writers that are faster than the indexer ---- */

enum { SEGMENT_ROWS = 4 };

/* A node that is told when to index, and what that took with such a store. */
static int64_t node_start_slow(struct world *w, int64_t delay_ms_max)
{
    struct registry_options o = registry_options_default();
    struct fault_plan slow = {.seed = 1, .delay_ms_max = delay_ms_max}, calm = {0};
    struct op op;

    o.background = false;
    o.tail_index_rows = SEGMENT_ROWS;
    node_with(w, MEMORY, o);
    create(w, "x");
    for (uint64_t id = 0; id < SEGMENT_ROWS; id++)
        write_id(w, "x", id);
    store_fault_plan(w->store, &slow);
    int64_t began_ms = clock_ms();
    op_init(&op, OP_NO_DEADLINE, 0);
    note(w, registry_maintain(&op, w->registry, "x", false));
    op_release(&op);
    store_fault_plan(w->store, &calm);
    return clock_ms() - began_ms;
}

static uint64_t write_takes_ms(struct world *w, uint64_t id)
{
    int64_t began_ms = clock_ms();
    write_id(w, "x", id);
    return (uint64_t)(clock_ms() - began_ms);
}

/* Until two segments wait: the last of these writes is held back already. */
static uint64_t fall_behind(struct world *w)
{
    for (uint64_t i = 1; i < 2 * SEGMENT_ROWS; i++)
        w->found[7] += write_takes_ms(w, i);
    return write_takes_ms(w, 0);
}

static void outrun(void *arg)
{
    struct world *w = arg;
    w->found[0] = (uint64_t)node_start_slow(w, 200);
    w->found[1] = fall_behind(w);
    w->found[2] = write_takes_ms(w, 1);
    node_stop(w);
}

static void while_two_segments_wait_a_write_takes_as_long_as_indexing_it(void **state)
{
    const uint64_t *found = play(outrun);
    (void)state;
    assert_true(found[7] <= 2); /* before: nothing, but for turns of threads */
    assert_true(found[0] > SEGMENT_ROWS);
    for (size_t i = 1; i <= 2; i++) {
        /* Of the maintenance indexing is a part. */
        assert_true(found[i] <= found[0] / SEGMENT_ROWS + 1);
        assert_true(found[i] >= found[0] / SEGMENT_ROWS / 4);
    }
}

static void outrun_by_far(void *arg)
{
    struct world *w = arg;
    (void)node_start_slow(w, 200000);
    w->found[0] = fall_behind(w);
    soon_ms = 600;
    w->found[1] = write_takes_ms(w, 1);
    soon_ms = SOON_MS;
    node_stop(w);
}

static void a_write_is_held_back_for_a_second_or_half_its_time_at_most(void **state)
{
    const uint64_t *found = play(outrun_by_far);
    (void)state;
    assert_int_equal(found[0], 1000);
    assert_int_equal(found[1], 300);
}

static void outrun_beside(void *arg)
{
    struct world *w = arg;
    w->found[1] = write_takes_ms(w, 1);
}

static void catch_up(void *arg)
{
    struct world *w = arg;
    (void)node_start_slow(w, 200000);
    (void)fall_behind(w);
    struct thread *writer = thread_start("writer", outrun_beside, w);
    task_sleep_ms(100);
    note(w, maintain(w, false));
    thread_join(writer);
    node_stop(w);
}

static void once_the_tail_is_indexed_a_write_waits_no_longer(void **state)
{
    const uint64_t *found = play(catch_up);
    (void)state;
    assert_in_range(found[1], 100, 110);
}

static void stay_silent(void *arg)
{
    struct world *w = arg;
    node_start(w, false);
    create(w, "x");
    write_one(w, "x");
    write_one(w, "x");
    note(w, maintain(w, true));
    task_sleep_ms(2 * DAY_MS);
    write_one(w, "x"); /* which asks first whether the tenure still stands */
    node_stop(w);
}

static void after_days_of_silence_an_owner_writes_on(void **state)
{
    (void)play(stay_silent);
    (void)state;
}

static void drop_and_wait(void *arg)
{
    struct world *w = arg;
    struct op op;
    node_start(w, false);
    create(w, "x");
    write_one(w, "x");
    op = op_soon();
    note(w, registry_drop(&op, w->registry, "x"));
    op_release(&op);
    node_stop(w);
    task_sleep_ms(29 * DAY_MS);
    for (int i = 0; i < 2; i++) {
        node_start(w, true);
        task_sleep_ms(60 * SECOND_MS);
        w->found[i] = objects(w, "wal/", ".wal");
        w->found[2] = registry_count(w->registry);
        node_stop(w);
        task_sleep_ms(2 * DAY_MS);
    }
    w->found[3] = objects(w, "ns/", "/catalog/");
}

static void the_log_of_a_dropped_namespace_goes_after_a_month(void **state)
{
    const uint64_t *found = play(drop_and_wait);
    (void)state;
    assert_int_equal(found[0], 2); /* its fence and its DROP */
    assert_int_equal(found[1], 0);
    assert_int_equal(found[2], 0);
    assert_int_equal(found[3], 2); /* the catalog stays for ever */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_restart_what_waits_is_indexed_though_nobody_asks),
        cmocka_unit_test(idle_namespaces_cost_two_listings_an_hour_together),
        cmocka_unit_test(namespaces_that_nobody_asks_for_are_closed),
        cmocka_unit_test(
            a_store_that_is_away_for_ten_minutes_delays_a_merge_and_no_more),
        cmocka_unit_test(after_the_interval_what_could_be_fewer_is_joined),
        cmocka_unit_test(what_is_removed_is_deleted_whatever_the_calendar_said_before),
        cmocka_unit_test(what_was_removed_in_the_future_is_deleted_today),
        cmocka_unit_test(gauges_tell_what_waits_to_be_indexed),
        cmocka_unit_test(after_a_minute_without_a_file_merges_may_be_large_again),
        cmocka_unit_test(while_two_segments_wait_a_write_takes_as_long_as_indexing_it),
        cmocka_unit_test(a_write_is_held_back_for_a_second_or_half_its_time_at_most),
        cmocka_unit_test(once_the_tail_is_indexed_a_write_waits_no_longer),
        cmocka_unit_test(after_days_of_silence_an_owner_writes_on),
        cmocka_unit_test(the_log_of_a_dropped_namespace_goes_after_a_month),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry over time", tests, NULL, NULL);
}
