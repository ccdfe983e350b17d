/* The queue alone, with times out of the air. */
#include "test.h"

#include "http/http_queue.h"

enum { DELAY_MAX = 100, INTERVAL = DELAY_MAX * HTTP_QUEUE_INTERVALS, START = 5000 };

static struct http_queue fresh(size_t count_max)
{
    struct http_queue q;
    queue_init(&q, count_max, DELAY_MAX);
    return q;
}

static size_t length(const struct queued *list)
{
    size_t count = 0;
    for (; list; list = list->next)
        count++;
    return count;
}

static void what_comes_first_goes_first(void **state)
{
    (void)state;
    struct http_queue q = fresh(3);
    struct queued items[4];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            assert_true(queue_push(&q, &items[i], START));
        assert_false(queue_push(&q, &items[3], START));
        for (int i = 0; i < 3; i++)
            assert_ptr_equal(&items[i], queue_pop(&q));
        assert_null(queue_pop(&q));
    }
}

static void a_burst_is_not_shed_however_late_its_last_is(void **state)
{
    (void)state;
    struct http_queue q = fresh(1000);
    struct queued items[1000];
    for (int i = 0; i < 1000; i++)
        assert_true(queue_push(&q, &items[i], START));
    /* One a millisecond: the last has waited for ten times the delay. */
    for (int i = 0; i < 1000; i++) {
        assert_null(queue_shed(&q, START + i));
        assert_ptr_equal(&items[i], queue_pop(&q));
    }
}

static void a_queue_that_is_late_for_an_interval_sheds_what_is_late(void **state)
{
    (void)state;
    struct http_queue q = fresh(1000);
    struct queued items[4];
    assert_true(queue_push(&q, &items[0], START));
    assert_true(queue_push(&q, &items[1], START + 1));
    assert_null(queue_shed(&q, START + DELAY_MAX));
    assert_null(queue_shed(&q, START + DELAY_MAX + 1)); /* late from here on */
    assert_null(queue_shed(&q, START + DELAY_MAX + INTERVAL));
    assert_true(queue_push(&q, &items[2], START + DELAY_MAX + INTERVAL - 50));
    struct queued *shed = queue_shed(&q, START + DELAY_MAX + 1 + INTERVAL);
    assert_ptr_equal(&items[0], shed);
    assert_ptr_equal(&items[1], shed->next);
    assert_null(shed->next->next);
    assert_int_equal(1, q.count);
    /* The queue stands until it was empty: no second interval of patience. */
    assert_null(queue_shed(&q, START + DELAY_MAX + INTERVAL + 50));
    assert_int_equal(1, length(queue_shed(&q, START + DELAY_MAX + INTERVAL + 51)));
    assert_true(queue_push(&q, &items[3], START + 2 * INTERVAL));
    assert_ptr_equal(&items[3], queue_pop(&q));
}

static void a_look_that_finds_it_in_time_begins_anew(void **state)
{
    (void)state;
    struct http_queue q = fresh(1000);
    struct queued items[2];
    assert_true(queue_push(&q, &items[0], START));
    assert_null(queue_shed(&q, START + DELAY_MAX + 1));
    assert_ptr_equal(&items[0], queue_pop(&q));
    assert_true(queue_push(&q, &items[1], START + INTERVAL));
    assert_null(queue_shed(&q, START + INTERVAL)); /* not late */
    assert_null(queue_shed(&q, START + 2 * INTERVAL));
    assert_null(queue_shed(&q, START + 3 * INTERVAL - 1));
    assert_int_equal(1, length(queue_shed(&q, START + 3 * INTERVAL)));
}

static void an_idle_worker_ends_the_standing(void **state)
{
    (void)state;
    struct http_queue q = fresh(1000);
    struct queued items[2];
    assert_true(queue_push(&q, &items[0], START));
    assert_null(queue_shed(&q, START + DELAY_MAX + 1));
    assert_int_equal(1, length(queue_shed(&q, START + DELAY_MAX + 1 + INTERVAL)));
    assert_true(q.standing);
    assert_null(queue_pop(&q));
    assert_false(q.standing);
    assert_true(queue_push(&q, &items[1], START + 2 * INTERVAL));
    assert_null(queue_shed(&q, START + 2 * INTERVAL + 5 * DELAY_MAX));
    assert_ptr_equal(&items[1], queue_pop(&q));
}

/* Twice as much comes as one worker can do, for a minute: whoever is served has waited
 * no longer than DELAY_MAX once the queue stands, and the worker is never idle. */
static void under_lasting_overload_the_served_have_waited_little(void **state)
{
    (void)state;
    enum { SERVICE = 20, STEPS = 6000 };
    struct http_queue q = fresh(256);
    static struct queued items[STEPS];
    int served = 0, shed = 0, refused = 0;
    int64_t free_at = START;
    for (int i = 0; i < STEPS; i++) { /* one each 10 ms */
        int64_t now = START + 10 * (int64_t)i;
        shed += (int)length(queue_shed(&q, now));
        refused += !queue_push(&q, &items[i], now);
        if (now < free_at) continue;
        shed += (int)length(queue_shed(&q, now));
        struct queued *job = queue_pop(&q);
        assert_non_null(job);
        if (q.standing) assert_true(now - job->since_ms <= DELAY_MAX);
        served++;
        free_at = now + SERVICE;
    }
    print_message("served %d, shed %d, full %d\n", served, shed, refused);
    assert_int_equal(0, refused);
    assert_true(served >= STEPS / 2);
    assert_true(shed > STEPS / 3);
}

/* The same with chance, against the definition. */
static void standing_is_what_the_header_says(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 2000; round++) {
        struct http_queue q = fresh(64);
        struct queued items[200];
        int pushed = 0;
        int64_t now = START, late_since = 0;
        bool standing = false;
        for (int i = 0; i < 200; i++) {
            now += (int64_t)(test_random(&seed) % (round % 2 ? 60 : 300));
            bool late = q.first && now - q.first->since_ms > DELAY_MAX;
            if (!late) late_since = 0;
            if (late && !late_since) late_since = now;
            if (late && now - late_since >= INTERVAL) standing = true;
            size_t before = q.count, want = 0;
            for (struct queued *item = q.first; item; item = item->next)
                want += standing && now - item->since_ms > DELAY_MAX;
            assert_int_equal(want, length(queue_shed(&q, now)));
            assert_int_equal(before - want, q.count);
            if (test_random(&seed) % 5 < 3 && q.count < 64) {
                assert_true(queue_push(&q, &items[pushed++], now));
            } else if (!queue_pop(&q)) {
                standing = false;
                late_since = 0;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_first_goes_first),
        cmocka_unit_test(a_burst_is_not_shed_however_late_its_last_is),
        cmocka_unit_test(a_queue_that_is_late_for_an_interval_sheds_what_is_late),
        cmocka_unit_test(a_look_that_finds_it_in_time_begins_anew),
        cmocka_unit_test(an_idle_worker_ends_the_standing),
        cmocka_unit_test(under_lasting_overload_the_served_have_waited_little),
        cmocka_unit_test(standing_is_what_the_header_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
