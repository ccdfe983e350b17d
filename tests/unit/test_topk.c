#include "base/topk.h"

#include "unit/test.h"

static int ask_count;

/* Ties: the smaller row first; context holds a factor so that it must be passed on. */
static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    ask_count++;
    int factor = *(const int *)context;
    return factor * ((a->row > b->row) - (a->row < b->row));
}
static const int forward = 1, backward = -1;

static int in_order(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->score > y->score) return -1;
    if (x->score < y->score) return 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void nothing_pushed_leaves_nothing(void **state)
{
    (void)state;
    struct hit hits[3];
    struct topk t;
    topk_init(&t, hits, 3, by_row, &forward);
    assert_true(topk_floor(&t) == -__builtin_inff());
    topk_finish(&t);
    assert_int_equal(t.count, 0);
}

static void ties_are_ordered_by_compare_whatever_the_order_of_arrival(void **state)
{
    (void)state;
    static const uint32_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}};
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        struct hit hits[2];
        struct topk t;
        topk_init(&t, hits, 2, by_row, i == 2 ? &backward : &forward);
        for (size_t k = 0; k < 4; k++)
            topk_push(&t, (struct hit){.score = 1, .row = orders[i][k]});
        topk_finish(&t);
        assert_int_equal(t.count, 2);
        assert_int_equal(hits[0].row, i == 2 ? 3 : 0);
        assert_int_equal(hits[1].row, i == 2 ? 2 : 1);
    }
}

static void compare_is_asked_only_on_a_tie(void **state)
{
    (void)state;
    struct hit hits[10];
    struct topk t;
    ask_count = 0;
    topk_init(&t, hits, 10, by_row, &forward);
    for (uint32_t i = 0; i < 100; i++)
        topk_push(&t, (struct hit){.score = (float)(i * 37 % 100), .row = i});
    topk_finish(&t);
    assert_int_equal(ask_count, 0);
}

static void needed_is_the_floor_until_ties_are_lost(void **state)
{
    (void)state;
    struct hit hits[2];
    struct topk t;
    topk_init(&t, hits, 2, by_row, &forward);
    topk_push(&t, (struct hit){.score = 5, .row = 1});
    assert_true(topk_needed(&t, &(struct hit){.row = 0}) == -__builtin_inff());
    topk_push(&t, (struct hit){.score = 3, .row = 4});
    for (uint32_t row = 0; row < 8; row++) {
        float needed = topk_needed(&t, &(struct hit){.row = row});
        assert_true(row < 4 ? needed == 3 : needed > 3 && needed < 3.000001F);
    }
}

static void floor_is_the_worst_kept_score_once_full(void **state)
{
    (void)state;
    struct hit hits[2];
    struct topk t;
    topk_init(&t, hits, 2, by_row, &forward);
    topk_push(&t, (struct hit){.score = 5});
    assert_true(topk_floor(&t) == -__builtin_inff());
    topk_push(&t, (struct hit){.score = 3, .row = 1});
    assert_true(topk_floor(&t) == 3);
    topk_push(&t, (struct hit){.score = 4, .row = 2});
    assert_true(topk_floor(&t) == 4);
    topk_push(&t, (struct hit){.score = __builtin_inff(), .row = 3});
    assert_true(topk_floor(&t) == 5);
}

static void random_hits_come_out_as_sorting_would_have_it(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    enum { HITS_MAX = 300 };
    for (int round = 0; round < 2000; round++) {
        struct hit all[HITS_MAX], hits[HITS_MAX];
        size_t n = test_random(&seed) % HITS_MAX;
        size_t k = 1 + test_random(&seed) % (round % 2 ? 10 : HITS_MAX);
        struct topk t;
        topk_init(&t, hits, k, by_row, &forward);
        for (size_t i = 0; i < n; i++) {
            all[i] = (struct hit){.score = (float)(test_random(&seed) % 20) - 10,
                                  .source = (uint32_t)i,
                                  .row = (uint32_t)i};
            size_t other = test_random(&seed) % (i + 1);
            struct hit swap = all[i];
            all[i] = all[other];
            all[other] = swap;
        }
        for (size_t i = 0; i < n; i++)
            topk_push(&t, all[i]);
        topk_finish(&t);
        qsort(all, n, sizeof *all, in_order);
        assert_int_equal(t.count, n < k ? n : k);
        for (size_t i = 0; i < t.count; i++) {
            assert_true(hits[i].score == all[i].score);
            assert_int_equal(hits[i].row, all[i].row);
            assert_int_equal(hits[i].source, all[i].source);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_pushed_leaves_nothing),
        cmocka_unit_test(ties_are_ordered_by_compare_whatever_the_order_of_arrival),
        cmocka_unit_test(compare_is_asked_only_on_a_tie),
        cmocka_unit_test(needed_is_the_floor_until_ties_are_lost),
        cmocka_unit_test(floor_is_the_worst_kept_score_once_full),
        cmocka_unit_test(random_hits_come_out_as_sorting_would_have_it),
    };
    return cmocka_run_group_tests_name("topk", tests, NULL, NULL);
}
