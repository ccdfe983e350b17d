/*
 * Days of a store that keeps its word, does not answer, or begins to replace objects,
 * in the simulator's time.
 */
#include "store/s3_watch.h"

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "sim/sim.h"
#include "store/store_mem.h"
#include "unit/test.h"

enum { HOUR_MS = 3600 * 1000 };

/* A store in memory that can be told to forget its manners. */
struct fickle {
    struct store base;
    struct store *inner;
    bool replaces, silent;
    unsigned creates, calls_of_broken;
    char why[256];
};

static enum err fickle_create(struct op *op, struct store *s, const char *key,
                              struct slice data)
{
    struct fickle *f = (struct fickle *)s;
    f->creates++;
    if (f->silent) return op_fail(op, ERR_IO, "nobody answers");
    if (f->replaces) (void)store_delete(op, f->inner, &key, 1);
    return store_create(op, f->inner, key, data);
}

static enum err fickle_get(struct op *op, struct store *s, const char *key, size_t max,
                           struct buf *out)
{
    return store_get(op, ((struct fickle *)s)->inner, key, max, out);
}

static enum err fickle_list(struct op *op, struct store *s, const char *prefix,
                            const char *after, char delimiter, const char **keys,
                            size_t *n)
{
    return store_list(op, ((struct fickle *)s)->inner, prefix, after, delimiter, keys,
                      n);
}

static enum err fickle_delete(struct op *op, struct store *s, const char *const *keys,
                              size_t n)
{
    return store_delete(op, ((struct fickle *)s)->inner, keys, n);
}

static const struct store_ops fickle_ops = {.name = "fickle",
                                            .create = fickle_create,
                                            .get = fickle_get,
                                            .list = fickle_list,
                                            .delete = fickle_delete};

static void broken(void *context, const char *why)
{
    struct fickle *f = context;
    f->calls_of_broken++;
    snprintf(f->why, sizeof f->why, "%s", why);
}

static size_t objects(struct fickle *f)
{
    const char *keys[9];
    size_t n = COUNT_OF(keys);
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    assert_int_equal(store_list(&op, f->inner, "", "", 0, keys, &n), ERR_OK);
    op_release(&op);
    return n;
}

static void simulate(void (*scenario)(void *))
{
    struct fickle f = {.base.ops = &fickle_ops, .inner = store_mem_new()};
    struct sim_options options = {.seed = test_seed(), .stickiness = 64};
    struct sim_result result;
    sim_run(&options, scenario, &f, &result);
    assert_int_equal(result.end, SIM_FINISHED);
    store_free(f.inner);
}

static void three_good_days(void *arg)
{
    struct fickle *f = arg;
    struct s3_watch *w = s3_watch_start(&f->base, broken, f);
    task_sleep_ms(23 * HOUR_MS);
    assert_int_equal(f->creates, 0);
    task_sleep_ms(2 * HOUR_MS);
    assert_int_equal(f->creates, 2);
    task_sleep_ms(48 * HOUR_MS);
    assert_int_equal(f->creates, 6);
    assert_int_equal(f->calls_of_broken, 0);
    assert_int_equal(objects(f), 0);
    s3_watch_stop(w);
}

static void a_store_is_asked_once_a_day_and_nothing_is_left_in_it(void **state)
{
    (void)state;
    simulate(three_good_days);
}

static void a_day_that_ends_badly(void *arg)
{
    struct fickle *f = arg;
    struct s3_watch *w = s3_watch_start(&f->base, broken, f);
    task_sleep_ms(25 * HOUR_MS);
    f->replaces = true;
    task_sleep_ms(24 * HOUR_MS);
    assert_int_equal(f->calls_of_broken, 1);
    assert_non_null(strstr(f->why, "does not honour If-None-Match"));
    unsigned creates = f->creates;
    task_sleep_ms(72 * HOUR_MS);
    assert_int_equal(f->creates, creates);
    assert_int_equal(f->calls_of_broken, 1);
    s3_watch_stop(w);
}

static void a_store_that_begins_to_replace_objects_is_called_broken_once(void **state)
{
    (void)state;
    simulate(a_day_that_ends_badly);
}

static void an_outage_of_an_hour(void *arg)
{
    struct fickle *f = arg;
    struct s3_watch *w = s3_watch_start(&f->base, broken, f);
    f->silent = true;
    task_sleep_ms(25 * HOUR_MS);
    assert_in_range(f->creates, 5, 7);
    assert_int_equal(f->calls_of_broken, 0);
    f->silent = false;
    f->creates = 0;
    task_sleep_ms(HOUR_MS);
    assert_int_equal(f->creates, 2);
    s3_watch_stop(w);
}

static void
a_store_that_does_not_answer_is_asked_again_soon_and_not_called_broken(void **state)
{
    (void)state;
    simulate(an_outage_of_an_hour);
}

static void a_stop_at_once(void *arg)
{
    struct fickle *f = arg;
    int64_t before_ms = clock_ms();
    s3_watch_stop(s3_watch_start(&f->base, broken, f));
    assert_true(clock_ms() - before_ms < HOUR_MS);
    s3_watch_stop(NULL);
}

static void it_stops_without_waiting_for_the_day(void **state)
{
    (void)state;
    simulate(a_stop_at_once);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_is_asked_once_a_day_and_nothing_is_left_in_it),
        cmocka_unit_test(a_store_that_begins_to_replace_objects_is_called_broken_once),
        cmocka_unit_test(
            a_store_that_does_not_answer_is_asked_again_soon_and_not_called_broken),
        cmocka_unit_test(it_stops_without_waiting_for_the_day),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("watch over a store", tests, NULL, NULL);
}
