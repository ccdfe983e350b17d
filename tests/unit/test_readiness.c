#include "test.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "base/task.h"
#include "node/readiness.h"
#include "store/store.h"

/* A store that lists nothing, or fails, or takes its time. */
struct moody {
    struct store store;
    atomic_bool failing;
    atomic_int slow_ms;
    atomic_int asked;
};

static enum err moody_list(struct op *op, struct store *s, const char *prefix,
                           const char *after, char delimiter, const char **found,
                           size_t *n)
{
    struct moody *m = (struct moody *)s;
    (void)op, (void)prefix, (void)after, (void)delimiter, (void)found;
    atomic_fetch_add(&m->asked, 1);
    task_sleep_ms(atomic_load(&m->slow_ms));
    *n = 0;
    return atomic_load(&m->failing) ? ERR_IO : ERR_OK;
}

static const struct store_ops moody_ops = {.name = "moody", .list = moody_list};

enum { PROBE_MS = 5, SILENCE_MS = 100 };

static bool becomes(struct readiness *r, bool wanted, const char **why)
{
    int64_t until_ms = clock_ms() + 20000;
    while (readiness_ready(r, why) != wanted && clock_ms() < until_ms)
        task_sleep_ms(1);
    return readiness_ready(r, why) == wanted;
}

static void a_node_is_ready_once_the_store_answered(void **state)
{
    (void)state;
    const char *why;
    struct moody m = {.store = {&moody_ops}, .slow_ms = 200};
    struct readiness *r = readiness_new(&m.store, PROBE_MS, SILENCE_MS * 100);
    assert_false(readiness_ready(r, &why));
    assert_string_equal("the node is starting", why);
    assert_true(becomes(r, true, &why));
    assert_null(why);
    readiness_free(r);
}

static void a_store_that_fails_for_long_makes_it_unready_until_it_answers(void **state)
{
    (void)state;
    const char *why;
    struct moody m = {.store = {&moody_ops}};
    struct readiness *r = readiness_new(&m.store, PROBE_MS, SILENCE_MS);
    assert_true(becomes(r, true, &why));
    atomic_store(&m.failing, true);
    assert_true(becomes(r, false, &why));
    assert_string_equal("the storage backend does not answer", why);
    atomic_store(&m.failing, false);
    assert_true(becomes(r, true, &why));
    readiness_free(r);
}

static void asking_does_not_wait_for_a_store_that_hangs(void **state)
{
    (void)state;
    const char *why;
    struct moody m = {.store = {&moody_ops}};
    struct readiness *r = readiness_new(&m.store, PROBE_MS, SILENCE_MS);
    assert_true(becomes(r, true, &why));
    atomic_store(&m.slow_ms, 1000);
    int64_t start_ms = clock_ms();
    assert_true(becomes(r, false, &why));
    assert_true(clock_ms() - start_ms < 900);
    atomic_store(&m.slow_ms, 0);
    readiness_free(r);
}

static void a_draining_node_is_not_ready(void **state)
{
    (void)state;
    const char *why;
    struct moody m = {.store = {&moody_ops}};
    struct readiness *r = readiness_new(&m.store, PROBE_MS, SILENCE_MS);
    assert_true(becomes(r, true, &why));
    readiness_drain(r);
    assert_false(readiness_ready(r, &why));
    assert_string_equal("the node is shutting down", why);
    readiness_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_ready_once_the_store_answered),
        cmocka_unit_test(a_store_that_fails_for_long_makes_it_unready_until_it_answers),
        cmocka_unit_test(asking_does_not_wait_for_a_store_that_hangs),
        cmocka_unit_test(a_draining_node_is_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
