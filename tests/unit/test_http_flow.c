#include "test.h"

#include <stdatomic.h>

#include "base/task.h"
#include "http/http_flow.h"

static void count_tell(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static struct slice letters(size_t size)
{
    static const char text[] = "abcdefghijklmnopqrstuvwxyz";
    assert_true(size < sizeof text);
    return slice_of(text, size);
}

static void what_is_put_is_taken_in_order_around_the_end_of_the_ring(void **state)
{
    (void)state;
    atomic_int tells = 0;
    struct flow *f = flow_new(10, count_tell, &tells);
    char out[16] = "";
    bool ended = true;
    for (int round = 0; round < 7; round++) {
        assert_int_equal(flow_room(f), 10);
        flow_put(f, letters(7));
        assert_int_equal(flow_take(f, out, 3, &ended), 3);
        assert_memory_equal(out, "abc", 3);
        assert_int_equal(flow_take(f, out, sizeof out, &ended), 4);
        assert_memory_equal(out, "defg", 4);
        assert_false(ended);
    }
    assert_int_equal(atomic_load(&tells), 0);
    flow_free(f);
}

static void the_end_comes_after_the_last_byte(void **state)
{
    (void)state;
    atomic_int tells = 0;
    struct flow *f = flow_new(10, count_tell, &tells);
    char out[16];
    bool ended = true;
    assert_false(flow_wait(f, clock_ms()));
    assert_int_equal(flow_take(f, out, sizeof out, &ended), 0);
    assert_false(ended);
    assert_false(flow_is_ended(f));
    flow_put(f, letters(2));
    flow_end(f);
    assert_true(flow_is_ended(f));
    assert_true(flow_wait(f, clock_ms()));
    assert_int_equal(flow_take(f, out, 1, &ended), 1);
    assert_false(ended);
    assert_int_equal(flow_take(f, out, sizeof out, &ended), 1);
    assert_true(ended);
    assert_true(flow_wait(f, clock_ms()));
    flow_free(f);
}

static void a_loop_that_found_it_full_is_told_once_when_half_is_free(void **state)
{
    (void)state;
    atomic_int tells = 0;
    struct flow *f = flow_new(10, count_tell, &tells);
    char out[16];
    bool ended;
    flow_put(f, letters(10));
    (void)flow_take(f, out, 9, &ended);
    assert_int_equal(atomic_load(&tells), 0); /* nobody had asked */
    flow_put(f, letters(9));
    assert_int_equal(flow_room(f), 0);
    (void)flow_take(f, out, 4, &ended);
    assert_int_equal(atomic_load(&tells), 0);
    (void)flow_take(f, out, 1, &ended);
    assert_int_equal(atomic_load(&tells), 1);
    (void)flow_take(f, out, 5, &ended);
    assert_int_equal(atomic_load(&tells), 1);
    flow_free(f);
}

static void a_loop_that_found_it_empty_is_told_once_when_bytes_come(void **state)
{
    (void)state;
    atomic_int tells = 0;
    struct flow *f = flow_new(10, count_tell, &tells);
    assert_int_equal(flow_write(f, letters(1), clock_ms()), 1);
    assert_int_equal(atomic_load(&tells), 0);
    assert_int_equal(flow_look(f).size, 1);
    flow_skip(f, 1);
    assert_int_equal(flow_look(f).size, 0);
    assert_int_equal(flow_write(f, letters(3), clock_ms()), 3);
    assert_int_equal(flow_write(f, letters(3), clock_ms()), 3);
    assert_int_equal(atomic_load(&tells), 1);
    flow_free(f);
}

static void a_full_one_takes_what_fits_and_then_nothing(void **state)
{
    (void)state;
    atomic_int tells = 0;
    struct flow *f = flow_new(10, count_tell, &tells);
    assert_int_equal(flow_write(f, letters(12), clock_ms()), 10);
    assert_int_equal(flow_write(f, letters(1), clock_ms()), 0);
    flow_skip(f, 4);
    assert_int_equal(flow_write(f, letters(12), clock_ms()), 4);
    assert_int_equal(flow_look(f).size, 6); /* up to the end of the ring */
    flow_skip(f, 6);
    assert_true(slice_equal(flow_look(f), letters(4)));
    flow_free(f);
}

/* ---- two threads ---- */

enum { TOTAL = 3 << 20 };

struct pair {
    struct flow *flow;
    struct mutex lock; /* guards what follows */
    struct cond wake;
    bool told;
    uint64_t seed;
};

static void wake_loop(void *context)
{
    struct pair *p = context;
    mutex_lock(&p->lock);
    p->told = true;
    cond_signal(&p->wake);
    mutex_unlock(&p->lock);
}

static void await_tell(struct pair *p)
{
    mutex_lock(&p->lock);
    while (!p->told)
        (void)cond_wait(&p->wake, &p->lock, INT64_MAX);
    p->told = false;
    mutex_unlock(&p->lock);
}

static uint8_t byte_at(size_t offset)
{
    return (uint8_t)(offset * 2654435761u >> 13);
}

static struct slice fill(uint8_t *bytes, size_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(offset + i);
    return slice_of(bytes, size);
}

static size_t some(uint64_t *seed, size_t most)
{
    return 1 + (size_t)(test_random(seed) % most);
}

static void taking_worker(void *arg)
{
    struct pair *p = arg;
    uint8_t bytes[3000];
    uint64_t seed = p->seed + 1;
    size_t offset = 0;
    for (bool ended = false; !ended;) {
        (void)flow_wait(p->flow, clock_ms() + 1000);
        size_t n = flow_take(p->flow, bytes, some(&seed, sizeof bytes), &ended);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(bytes[i], byte_at(offset + i));
        offset += n;
    }
    assert_int_equal(offset, TOTAL);
}

static void writing_worker(void *arg)
{
    struct pair *p = arg;
    uint8_t bytes[3000];
    uint64_t seed = p->seed + 1;
    for (size_t offset = 0; offset < TOTAL;) {
        size_t size = some(&seed, sizeof bytes);
        if (size > TOTAL - offset) size = TOTAL - offset;
        offset += flow_write(p->flow, fill(bytes, offset, size), clock_ms() + 1000);
    }
}

static void setup_pair(struct pair *p, void (*work)(void *), struct thread **thread)
{
    *p = (struct pair){.seed = test_seed()};
    uint64_t seed = p->seed;
    mutex_init(&p->lock);
    cond_init(&p->wake);
    p->flow = flow_new(2 + some(&seed, 5000), wake_loop, p);
    *thread = thread_start("worker", work, p);
}

static void end_pair(struct pair *p, struct thread *thread)
{
    thread_join(thread);
    flow_free(p->flow);
    cond_release(&p->wake);
    mutex_release(&p->lock);
}

static void
a_loop_that_only_waits_when_it_is_full_gets_everything_to_a_worker(void **state)
{
    (void)state;
    struct pair p;
    struct thread *thread;
    setup_pair(&p, taking_worker, &thread);
    uint8_t bytes[3000];
    uint64_t seed = p.seed;
    for (size_t offset = 0; offset < TOTAL;) {
        size_t size = some(&seed, sizeof bytes), room;
        if (size > TOTAL - offset) size = TOTAL - offset;
        while ((room = flow_room(p.flow)) == 0)
            await_tell(&p);
        if (size > room) size = room;
        flow_put(p.flow, fill(bytes, offset, size));
        offset += size;
    }
    flow_end(p.flow);
    end_pair(&p, thread);
}

static void
a_loop_that_only_waits_when_it_is_empty_gets_everything_from_a_worker(void **state)
{
    (void)state;
    struct pair p;
    struct thread *thread;
    setup_pair(&p, writing_worker, &thread);
    uint64_t seed = p.seed;
    for (size_t offset = 0; offset < TOTAL;) {
        struct slice piece;
        while ((piece = flow_look(p.flow)).size == 0)
            await_tell(&p);
        size_t size = some(&seed, piece.size);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(piece.data[i], byte_at(offset + i));
        flow_skip(p.flow, size);
        offset += size;
    }
    end_pair(&p, thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_taken_in_order_around_the_end_of_the_ring),
        cmocka_unit_test(the_end_comes_after_the_last_byte),
        cmocka_unit_test(a_loop_that_found_it_full_is_told_once_when_half_is_free),
        cmocka_unit_test(a_loop_that_found_it_empty_is_told_once_when_bytes_come),
        cmocka_unit_test(a_full_one_takes_what_fits_and_then_nothing),
        cmocka_unit_test(
            a_loop_that_only_waits_when_it_is_full_gets_everything_to_a_worker),
        cmocka_unit_test(
            a_loop_that_only_waits_when_it_is_empty_gets_everything_from_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
