#include "node/ring.h"
#include "node/seahash.h"
#include "unit/test.h"

static const char *const three[] = {"indexer-1", "indexer-2", "indexer-3"};
static const char *const swapped[] = {"indexer-1", "indexer-3", "indexer-2"};
static const char *const joined[] = {"indexer-1,indexer-2", "indexer-3"};
static const char *const shifted[] = {"indexer-1i", "ndexer-2", "indexer-3"};

static struct ring ring_of(const char *const *ids, size_t count)
{
    return (struct ring){ids, count};
}

static void the_owner_is_seahash_modulo_the_number_of_nodes(void **state)
{
    struct ring r = ring_of(three, 3);
    /* what Rust says: nodes[(seahash::hash(name) % 3) as usize] */
    static const struct {
        const char *name;
        size_t owner;
    } cases[] = {{"my-docs", 2},  {"a", 2},   {"products", 0},
                 {"users.v2", 0}, {"N_0", 0}, {"0123456789abcdef0123456789abcdef", 0}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(ring_owner(&r, cases[i].name), cases[i].owner);
}

static void one_node_owns_everything(void **state)
{
    struct ring r = ring_of(three, 1);
    (void)state;
    assert_int_equal(ring_owner(&r, "a"), 0);
    assert_int_equal(ring_owner(&r, "b"), 0);
}

static void namespaces_spread_evenly(void **state)
{
    struct ring r = ring_of(three, 3);
    int owned[3] = {0};
    char name[32];
    (void)state;
    for (int i = 0; i < 30000; i++) {
        (void)snprintf(name, sizeof name, "namespace-%d", i);
        owned[ring_owner(&r, name)]++;
    }
    /* Six standard deviations of a fair draw. */
    for (int i = 0; i < 3; i++)
        assert_in_range(owned[i], 10000 - 490, 10000 + 490);
}

static void lists_of_other_ids_or_another_order_have_another_fingerprint(void **state)
{
    struct ring a = ring_of(three, 3), b = ring_of(swapped, 3), c = ring_of(joined, 2);
    struct ring d = ring_of(shifted, 3), e = ring_of(three, 2),
                none = ring_of(three, 0);
    uint64_t seen[] = {ring_fingerprint(&a), ring_fingerprint(&b),
                       ring_fingerprint(&c), ring_fingerprint(&d),
                       ring_fingerprint(&e), ring_fingerprint(&none)};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(seen); i++)
        for (size_t j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
    assert_true(ring_fingerprint(&a) == seen[0]);
}

static void ids_are_found_and_printed_in_order(void **state)
{
    struct ring r = ring_of(swapped, 3);
    struct buf out = BUF_INIT;
    (void)state;
    assert_int_equal(ring_find(&r, "indexer-3"), 1);
    assert_true(ring_find(&r, "indexer-4") == SIZE_MAX);
    assert_true(ring_find(&r, "indexer") == SIZE_MAX);
    ring_print(&r, &out);
    assert_true(
        slice_equal(buf_slice(&out), SLICE_LITERAL("indexer-1,indexer-3,indexer-2")));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_owner_is_seahash_modulo_the_number_of_nodes),
        cmocka_unit_test(one_node_owns_everything),
        cmocka_unit_test(namespaces_spread_evenly),
        cmocka_unit_test(lists_of_other_ids_or_another_order_have_another_fingerprint),
        cmocka_unit_test(ids_are_found_and_printed_in_order),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
