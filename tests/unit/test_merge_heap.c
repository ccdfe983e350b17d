#include "base/merge_heap.h"

#include "unit/test.h"

enum { LISTS_MAX = 40, LENGTH_MAX = 30 };

/* Ascending lists of numbers, and where the walk over each is. */
struct lists {
    unsigned numbers[LISTS_MAX][LENGTH_MAX];
    size_t lengths[LISTS_MAX], at[LISTS_MAX], count;
};

static unsigned number_at(const struct lists *l, size_t list)
{
    return l->numbers[list][l->at[list]];
}

/* Equal numbers by list. */
static bool is_before(const void *context, size_t a, size_t b)
{
    const struct lists *l = context;
    unsigned x = number_at(l, a), y = number_at(l, b);
    return x != y ? x < y : a < b;
}

static int by_number(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static size_t lists_make(struct lists *l, uint64_t *rng, unsigned *all)
{
    size_t total = 0;
    *l = (struct lists){.count = test_random(rng) % (LISTS_MAX + 1)};
    for (size_t i = 0; i < l->count; i++) {
        l->lengths[i] = test_random(rng) % (LENGTH_MAX + 1);
        for (size_t k = 0; k < l->lengths[i]; k++)
            all[total++] = l->numbers[i][k] = (unsigned)(test_random(rng) % 200);
        qsort(l->numbers[i], l->lengths[i], sizeof(unsigned), by_number);
    }
    qsort(all, total, sizeof *all, by_number);
    return total;
}

static void a_heap_without_walks_is_empty(void **state)
{
    (void)state;
    struct lists l = {.count = 0};
    struct merge_heap h;
    merge_heap_init(&h, 0, is_before, &l);
    assert_int_equal(h.count, 0);
    merge_heap_release(&h);
}

static void random_lists_come_out_as_one_in_order(void **state)
{
    (void)state;
    uint64_t rng = test_seed();
    for (int round = 0; round < 300; round++) {
        unsigned all[LISTS_MAX * LENGTH_MAX];
        struct lists l;
        struct merge_heap h;
        size_t total = lists_make(&l, &rng, all), taken = 0, before = 0;
        merge_heap_init(&h, l.count, is_before, &l);
        for (size_t i = 0; i < l.count; i++)
            if (l.lengths[i] > 0) merge_heap_add(&h, i);
        for (; h.count > 0; taken++) {
            size_t first = h.walks[0];
            assert_int_equal(number_at(&l, first), all[taken]);
            bool equal = taken > 0 && all[taken] == all[taken - 1];
            assert_true(!equal || first >= before); /* as is_before has it */
            before = first;
            merge_heap_next(&h, ++l.at[first] == l.lengths[first]);
        }
        assert_int_equal(taken, total);
        merge_heap_release(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_heap_without_walks_is_empty),
        cmocka_unit_test(random_lists_come_out_as_one_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
