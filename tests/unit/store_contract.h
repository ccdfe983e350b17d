/*
 * store_contract.h - one contract, run over every store: CONTRACT(with) are its cases,
 * with being a setup that makes a fixture of an empty store.
 */
#ifndef TESTS_UNIT_STORE_CONTRACT_H
#define TESTS_UNIT_STORE_CONTRACT_H

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store.h"
#include "unit/scratch.h"
#include "unit/test.h"

struct fixture {
    struct store *store;
    struct op op;
    struct scratch scratch;
};

static struct fixture *fixture_new(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    op_init(&f->op, OP_NO_DEADLINE, 0);
    *state = f;
    return f;
}

static int done(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    if (f->scratch.path[0]) scratch_remove(&f->scratch);
    op_release(&f->op);
    mem_free(f);
    return 0;
}

static enum err create(struct fixture *f, const char *key, const char *text)
{
    return store_create(&f->op, f->store, key, slice_str(text));
}

static void assert_holds(struct fixture *f, const char *key, struct slice bytes)
{
    struct buf out = BUF_INIT;
    assert_int_equal(store_get(&f->op, f->store, key, bytes.size, &out), ERR_OK);
    assert_true(slice_equal(buf_slice(&out), bytes));
    buf_release(&out);
}

/* The names a list gives, joined by spaces. */
static void assert_lists(struct fixture *f, const char *prefix, const char *after,
                         char delimiter, size_t room, const char *expected)
{
    const char *keys[64];
    struct buf names = BUF_INIT;

    assert_true(room <= COUNT_OF(keys));
    assert_int_equal(store_list(&f->op, f->store, prefix, after, delimiter, keys,
                                &room),
                     ERR_OK);
    for (size_t i = 0; i < room; i++)
        buf_printf(&names, "%s%s", i ? " " : "", keys[i]);
    buf_append_byte(&names, '\0');
    assert_string_equal((const char *)names.data, expected);
    buf_release(&names);
}

static void an_object_is_read_back_as_it_was_created(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[70000];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)test_random(&random);

    assert_int_equal(store_create(&f->op, f->store, "a/b/c",
                                  slice_of(bytes, sizeof bytes)),
                     ERR_OK);
    assert_holds(f, "a/b/c", slice_of(bytes, sizeof bytes));
}

static void an_empty_object_is_an_object(void **state)
{
    struct fixture *f = *state;
    struct store_range range = {.key = "empty"};

    assert_int_equal(store_create(&f->op, f->store, "empty", SLICE_EMPTY), ERR_OK);
    assert_int_equal(create(f, "empty", "x"), ERR_CONFLICT);
    assert_holds(f, "empty", SLICE_EMPTY);
    assert_lists(f, "", "", 0, 5, "empty");
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
}

static void a_taken_key_is_a_conflict_and_keeps_its_bytes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/1", "first"), ERR_OK);
    assert_int_equal(create(f, "a/1", "second"), ERR_CONFLICT);
    assert_int_equal(create(f, "a/1", "first"), ERR_CONFLICT);
    assert_holds(f, "a/1", SLICE_LITERAL("first"));
}

static void get_appends_and_a_failed_one_appends_nothing(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;

    assert_int_equal(create(f, "a/1", "12345"), ERR_OK);
    buf_append_str(&out, "x");
    assert_int_equal(store_get(&f->op, f->store, "a/1", 4, &out), ERR_LIMIT);
    assert_int_equal(store_get(&f->op, f->store, "a/2", 4, &out), ERR_NOT_FOUND);
    assert_int_equal(store_get(&f->op, f->store, "a", 4, &out), ERR_NOT_FOUND);
    assert_int_equal(store_get(&f->op, f->store, "a/1/b", 4, &out), ERR_NOT_FOUND);
    assert_int_equal(out.size, 1);
    assert_int_equal(store_get(&f->op, f->store, "a/1", 5, &out), ERR_OK);
    assert_true(slice_equal(buf_slice(&out), SLICE_LITERAL("x12345")));
    buf_release(&out);
}

static void one_read_fills_many_ranges_of_many_objects(void **state)
{
    struct fixture *f = *state;
    uint8_t room[4][8];
    struct store_range ranges[] = {
        {.key = "a/1", .offset = 2, .size = 3, .data = room[0]},
        {.key = "b", .offset = 0, .size = 6, .data = room[1]},
        {.key = "a/1", .offset = 0, .size = 5, .data = room[2]},
        {.key = "a/1", .offset = 5, .size = 0, .data = room[3]},
    };

    assert_int_equal(create(f, "a/1", "12345"), ERR_OK);
    assert_int_equal(create(f, "b", "abcdef"), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, ranges, COUNT_OF(ranges)), ERR_OK);
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        assert_int_equal(ranges[i].err, ERR_OK);
    assert_memory_equal(room[0], "345", 3);
    assert_memory_equal(room[1], "abcdef", 6);
    assert_memory_equal(room[2], "12345", 5);
    assert_int_equal(store_read(&f->op, f->store, NULL, 0), ERR_OK);
}

static void a_range_that_fails_does_not_harm_the_others(void **state)
{
    struct fixture *f = *state;
    uint8_t room[3][8];
    struct store_range ranges[] = {
        {.key = "gone", .offset = 0, .size = 1, .data = room[0]},
        {.key = "a", .offset = 1, .size = 4, .data = room[1]},
        {.key = "a", .offset = 3, .size = 3, .data = room[2]},
    };

    assert_int_equal(create(f, "a", "12345"), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, ranges, 3), ERR_NOT_FOUND);
    assert_int_equal(ranges[0].err, ERR_NOT_FOUND);
    assert_int_equal(ranges[1].err, ERR_OK);
    assert_int_equal(ranges[2].err, ERR_CORRUPT);
    assert_memory_equal(room[1], "2345", 4);
    assert_int_equal(store_read(&f->op, f->store, ranges + 1, 2), ERR_CORRUPT);
}

static void a_range_outside_the_object_is_corrupt(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t offset;
        size_t size;
    } cases[] = {{0, 6},          {5, 1},         {6, 0}, {UINT64_MAX, 0},
                 {UINT64_MAX, 2}, {INT64_MAX, 8}, {1, 5}};
    uint8_t room[8];

    assert_int_equal(create(f, "a", "12345"), ERR_OK);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct store_range range = {.key = "a",
                                    .offset = cases[i].offset,
                                    .size = cases[i].size,
                                    .data = room};
        assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_CORRUPT);
    }
}

static void put_joins_its_parts_and_may_be_repeated(void **state)
{
    struct fixture *f = *state;
    const struct slice parts[] = {SLICE_LITERAL("head"), SLICE_EMPTY,
                                  SLICE_LITERAL("body"), SLICE_LITERAL("tail")};

    assert_int_equal(store_put(&f->op, f->store, "s/1", parts, 4), ERR_OK);
    assert_holds(f, "s/1", SLICE_LITERAL("headbodytail"));
    assert_int_equal(store_put(&f->op, f->store, "s/1", parts, 4), ERR_OK);
    assert_int_equal(store_put(&f->op, f->store, "s/1", parts, 3), ERR_CONFLICT);
    assert_int_equal(store_put(&f->op, f->store, "s/1", parts + 2, 2), ERR_CONFLICT);
    assert_int_equal(create(f, "s/1", "other"), ERR_CONFLICT);
    assert_holds(f, "s/1", SLICE_LITERAL("headbodytail"));
    assert_int_equal(store_put(&f->op, f->store, "s/2", NULL, 0), ERR_OK);
    assert_holds(f, "s/2", SLICE_EMPTY);
}

static void create_all(struct fixture *f, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(create(f, keys[i], keys[i]), ERR_OK);
}

static void keys_are_listed_in_byte_order_of_the_whole_key(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a/x",   "a-b", "a.b",   "a0",   "Z",
                                       "a/A/q", "_",   "a-b-c", "aa/b", "a/x.y"};
    create_all(f, keys, COUNT_OF(keys));
    assert_lists(f, "", "", 0, 20, "Z _ a-b a-b-c a.b a/A/q a/x a/x.y a0 aa/b");
    assert_lists(f, "a/", "", 0, 20, "a/A/q a/x a/x.y");
    assert_lists(f, "a/x", "", 0, 20, "a/x a/x.y");
    assert_lists(f, "a", "", 0, 20, "a-b a-b-c a.b a/A/q a/x a/x.y a0 aa/b");
    assert_lists(f, "b", "", 0, 20, "");
    assert_lists(f, "a/x/", "", 0, 20, "");
    assert_lists(f, "nothing/here", "", 0, 20, "");
    assert_lists(f, "/", "", 0, 20, "");
}

static void a_list_goes_on_strictly_after_a_key(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"w/1", "w/2", "w/3", "x/1/a", "x/1/b", "x/2"};
    create_all(f, keys, COUNT_OF(keys));
    assert_lists(f, "w/", "w/1", 0, 9, "w/2 w/3");
    assert_lists(f, "w/", "w/15", 0, 1, "w/2");
    assert_lists(f, "w/2", "w/2", 0, 9, "");
    assert_lists(f, "w/", "w/3", 0, 9, "");
    assert_lists(f, "w/", "a", 0, 9, "w/1 w/2 w/3");
    assert_lists(f, "w/", "x", 0, 9, "");
    assert_lists(f, "", "w/3", 0, 2, "x/1/a x/1/b");
    assert_lists(f, "", "x/1", 0, 9, "x/1/a x/1/b x/2");
    assert_lists(f, "", "x/1/", 0, 9, "x/1/a x/1/b x/2");
    assert_lists(f, "", "x/1/a", 0, 9, "x/1/b x/2");
    assert_lists(f, "", "x/1/z", 0, 9, "x/2");
    assert_lists(f, "", "x/1/a/b", 0, 9, "x/1/b x/2");
}

static void a_delimiter_folds_what_is_behind_it(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"n/a/1", "n/a/2",   "n/a-b/1",
                                       "n/a.b", "n/b/c/1", "m/1"};
    create_all(f, keys, COUNT_OF(keys));
    assert_lists(f, "n/", "", '/', 9, "n/a-b/ n/a.b n/a/ n/b/");
    assert_lists(f, "", "", '/', 9, "m/ n/");
    assert_lists(f, "", "m/", '/', 9, "n/");
    assert_lists(f, "n", "", '/', 9, "n/");
    assert_lists(f, "n/", "n/a/", '/', 9, "n/b/");
    assert_lists(f, "n/", "n/a.b", '/', 1, "n/a/");
    assert_lists(f, "n/", "n/a/1", '/', 9, "n/b/");
    assert_lists(f, "n/a", "", '/', 9, "n/a-b/ n/a.b n/a/");
    assert_lists(f, "n/a/", "", '/', 9, "n/a/1 n/a/2");
}

static void a_list_without_room_finds_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", "1"), ERR_OK);
    assert_lists(f, "", "", 0, 0, "");
}

/* The slow, obvious list to compare with. */
static size_t list_plainly(char keys[][STORE_KEY_MAX + 1], size_t count,
                           const char *prefix, const char *after, char delimiter,
                           char out[][STORE_KEY_MAX + 1], size_t room)
{
    size_t found = 0;
    char last[STORE_KEY_MAX + 1];
    snprintf(last, sizeof last, "%s", after);
    while (found < room) {
        char best[STORE_KEY_MAX + 1] = "";
        for (size_t i = 0; i < count; i++) {
            char name[STORE_KEY_MAX + 1];
            if (strncmp(keys[i], prefix, strlen(prefix)) != 0) continue;
            strcpy(name, keys[i]);
            char *slash = delimiter ? strchr(name + strlen(prefix), delimiter) : NULL;
            if (slash) slash[1] = '\0';
            if (strcmp(name, last) > 0 && (!*best || strcmp(name, best) < 0))
                strcpy(best, name);
        }
        if (!*best) break;
        strcpy(out[found++], best);
        strcpy(last, best);
    }
    return found;
}

enum { RANDOM_KEYS = 150, RANDOM_LISTS = 1500 };

/* Folders are lower case and objects upper case, so that no key is another's folder. */
static void random_name(uint64_t *random, char *out)
{
    static const char letters[] = "ab-.0";
    static const char ends[] = "AB-.0";
    size_t depth = test_random(random) % 4, at = 0;
    for (size_t d = 0; d <= depth; d++) {
        bool last = d == depth;
        out[at++] = last ? 'F' : 'd';
        for (size_t size = test_random(random) % 3; size > 0; size--)
            out[at++] =
                last ? ends[test_random(random) % 5] : letters[test_random(random) % 5];
        if (!last) out[at++] = '/';
    }
    out[at] = '\0';
}

static void random_lists_agree_with_a_plain_one(void **state)
{
    struct fixture *f = *state;
    static char keys[RANDOM_KEYS][STORE_KEY_MAX + 1];
    static char expected[RANDOM_KEYS][STORE_KEY_MAX + 1];
    const char *found[RANDOM_KEYS];
    uint64_t random = test_seed();
    size_t count = 0;

    for (size_t i = 0; i < RANDOM_KEYS; i++) {
        random_name(&random, keys[count]);
        if (!create(f, keys[count], "x")) count++;
    }
    for (size_t i = 0; i < count; i += 7) {
        const char *gone = keys[i];
        assert_int_equal(store_delete(&f->op, f->store, &gone, 1), ERR_OK);
        memmove(keys[i], keys[--count], sizeof keys[0]);
    }
    for (size_t i = 0; i < RANDOM_LISTS; i++) {
        char prefix[STORE_KEY_MAX + 1], after[STORE_KEY_MAX + 1];
        random_name(&random, prefix);
        random_name(&random, after);
        prefix[test_random(&random) % (strlen(prefix) + 1)] = '\0';
        after[test_random(&random) % (strlen(after) + 1)] = '\0';
        char delimiter = test_random(&random) % 2 ? '/' : 0;
        size_t n = 1 + test_random(&random) % RANDOM_KEYS;
        if (test_random(&random) % 2) n = 1 + n % 4;

        size_t plain = list_plainly(keys, count, prefix, after, delimiter, expected, n);
        assert_int_equal(store_list(&f->op, f->store, prefix, after, delimiter, found,
                                    &n),
                         ERR_OK);
        assert_int_equal(n, plain);
        for (size_t k = 0; k < n; k++)
            assert_string_equal(found[k], expected[k]);
    }
}

static void a_thousand_keys_come_page_by_page_each_once(void **state)
{
    struct fixture *f = *state;
    const char *page[97];
    char after[STORE_KEY_MAX + 1] = "";
    size_t n, seen = 0;

    for (int i = 0; i < 1000; i++)
        assert_int_equal(create(f, op_printf(&f->op, "p/%03d", (i * 7919) % 1000), "x"),
                         ERR_OK);
    do {
        n = COUNT_OF(page);
        assert_int_equal(store_list(&f->op, f->store, "p/", after, 0, page, &n),
                         ERR_OK);
        for (size_t i = 0; i < n; i++)
            assert_string_equal(page[i], op_printf(&f->op, "p/%03zu", seen++));
        if (n) strcpy(after, page[n - 1]);
    } while (n == COUNT_OF(page));
    assert_int_equal(seen, 1000);
}

static void a_deleted_object_is_gone_and_its_name_free(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    struct store_range range = {.key = "a/b/1", .size = 1, .data = &byte};
    const char *const keys[] = {"a/b/1", "a/b/missing", "a/c/2", "never/was"};
    struct buf out = BUF_INIT;

    assert_int_equal(create(f, "a/b/1", "1"), ERR_OK);
    assert_int_equal(create(f, "a/c/2", "2"), ERR_OK);
    assert_int_equal(create(f, "a/d", "3"), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, 4), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, 4), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, NULL, 0), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_NOT_FOUND);
    assert_int_equal(store_get(&f->op, f->store, "a/c/2", 9, &out), ERR_NOT_FOUND);
    assert_lists(f, "", "", 0, 9, "a/d");
    assert_lists(f, "a/", "", '/', 9, "a/d");
    assert_int_equal(create(f, "a/b/1", "again"), ERR_OK);
    assert_holds(f, "a/b/1", SLICE_LITERAL("again"));
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
    assert_int_equal(byte, 'a');
    buf_release(&out);
}

static void the_longest_and_oddest_keys_work(void **state)
{
    struct fixture *f = *state;
    char longest[STORE_KEY_MAX + 1], segment[STORE_SEGMENT_MAX + 1];
    memset(longest, 'k', STORE_KEY_MAX);
    longest[STORE_KEY_MAX] = '\0';
    for (size_t i = 1; i < STORE_KEY_MAX; i += 2)
        if (i < 258) longest[i] = '/';
    memset(segment, 's', STORE_SEGMENT_MAX);
    segment[STORE_SEGMENT_MAX] = '\0';
    const char *const keys[] = {longest, segment, "-",     "_", "a..b",
                                "A",     "a",     "0.wal", "x."};

    for (size_t i = 0; i < COUNT_OF(keys); i++)
        assert_true(store_key_valid(keys[i]));
    create_all(f, keys, COUNT_OF(keys));
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        assert_holds(f, keys[i], slice_str(keys[i]));
    const char *page[20];
    size_t n = COUNT_OF(page);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, page, &n), ERR_OK);
    assert_int_equal(n, COUNT_OF(keys));
    assert_int_equal(store_delete(&f->op, f->store, keys, COUNT_OF(keys)), ERR_OK);
    n = COUNT_OF(page);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, page, &n), ERR_OK);
    assert_int_equal(n, 0);
}

static void every_call_is_counted_in_the_op(void **state)
{
    struct fixture *f = *state;
    uint8_t room[4];
    struct store_range ranges[] = {{.key = "a", .size = 4, .data = room},
                                   {.key = "b", .size = 1, .data = room}};
    const char *keys[4];
    size_t n = 4;
    struct buf out = BUF_INIT;

    assert_int_equal(create(f, "a", "12345"), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, ranges, 2), ERR_NOT_FOUND);
    assert_int_equal(store_get(&f->op, f->store, "a", 5, &out), ERR_OK);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    assert_int_equal(f->op.counters.rounds, 4);
    assert_int_equal(f->op.counters.store_requests, 5);
    assert_int_equal(f->op.counters.store_bytes, 5 + 4 + 5);
    buf_release(&out);
}

static void reads_stop_at_the_deadline_and_writes_do_not(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    struct store_range range = {.key = "a", .size = 1, .data = &byte};
    const char *keys[1] = {"a"};
    size_t n = 1;
    struct buf out = BUF_INIT;

    f->op.deadline_ms = 1;
    assert_int_equal(create(f, "a", "1"), ERR_OK);
    assert_int_equal(store_get(&f->op, f->store, "a", 5, &out), ERR_TIMEOUT);
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_TIMEOUT);
    assert_int_equal(range.err, ERR_TIMEOUT);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_TIMEOUT);
    assert_int_equal(store_delete(&f->op, f->store, keys, 1), ERR_OK);
    buf_release(&out);
}

enum { RACERS = 8, RACES = BY_VALGRIND(50, 10) };

struct racer {
    struct fixture *fixture;
    int number;
    int won[RACES];
    enum err worst;
};

/* Whether our bytes are what is there now; an unknown outcome is settled as in
 * ns/settle.h. */
static enum err create_settled(struct op *op, struct store *s, const char *key,
                               struct slice bytes, bool *ours)
{
    struct buf found = BUF_INIT;
    enum err e = store_create(op, s, key, bytes);
    bool unknown = e == ERR_UNKNOWN;
    while (e == ERR_UNKNOWN)
        e = store_create(op, s, key, bytes);
    *ours = e == ERR_OK;
    if (e == ERR_CONFLICT && unknown) {
        e = store_get(op, s, key, 64, &found);
        *ours = !e && slice_equal(buf_slice(&found), bytes);
        buf_release(&found);
    }
    return e == ERR_CONFLICT ? ERR_OK : e;
}

static void race(void *arg)
{
    struct racer *r = arg;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (int i = 0; i < RACES; i++) {
        char key[32], bytes[64];
        snprintf(key, sizeof key, "race/%d/%d", i % 5, i);
        int size = snprintf(bytes, sizeof bytes, "racer %d in race %d", r->number, i);
        bool won;
        enum err e = create_settled(&op, r->fixture->store, key,
                                    slice_of(bytes, (size_t)size), &won);
        r->won[i] = won;
        if (e) {
            print_message("%s\n", op.error);
            r->worst = e;
        }

        /* Whoever won, the object is whole as soon as it is there. */
        struct buf out = BUF_INIT;
        e = store_get(&op, r->fixture->store, key, 64, &out);
        if (e || out.size < 17) r->worst = e ? e : ERR_CORRUPT;
        buf_release(&out);
    }
    op_release(&op);
}

static void of_eight_racing_creates_one_wins_with_its_bytes(void **state)
{
    struct fixture *f = *state;
    struct racer racers[RACERS] = {0};
    struct thread *threads[RACERS];

    for (int i = 0; i < RACERS; i++) {
        racers[i].fixture = f;
        racers[i].number = i;
        threads[i] = thread_start("racer", race, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++)
        thread_join(threads[i]);
    for (int i = 0; i < RACES; i++) {
        int winner = -1;
        for (int k = 0; k < RACERS; k++) {
            assert_int_equal(racers[k].worst, ERR_OK);
            if (!racers[k].won[i]) continue;
            assert_int_equal(winner, -1);
            winner = k;
        }
        char *bytes = op_printf(&f->op, "racer %d in race %d", winner, i);
        char *key = op_printf(&f->op, "race/%d/%d", i % 5, i);
        assert_holds(f, key, slice_str(bytes));
    }
}

struct churner {
    struct store *store;
    int number;
    enum err worst;
};

/* Makes and deletes the only object of a folder, again and again. */
static void churn(void *arg)
{
    struct churner *c = arg;
    struct op op;
    char key[64];
    const char *keys[1] = {key};

    op_init(&op, OP_NO_DEADLINE, 0);
    snprintf(key, sizeof key, "churn/deep/er/%d", c->number);
    for (int i = 0; i < RACES && !c->worst; i++) {
        c->worst = store_create(&op, c->store, key, slice_str("x"));
        if (!c->worst) c->worst = store_delete(&op, c->store, keys, 1);
    }
    if (c->worst) print_message("%s\n", op.error);
    op_release(&op);
}

static void creates_do_not_fail_while_others_empty_their_folder(void **state)
{
    struct fixture *f = *state;
    struct churner churners[4] = {0};
    struct thread *threads[4];

    for (int i = 0; i < 4; i++) {
        churners[i] = (struct churner){f->store, i, ERR_OK};
        threads[i] = thread_start("churner", churn, &churners[i]);
    }
    for (int i = 0; i < 4; i++)
        thread_join(threads[i]);
    for (int i = 0; i < 4; i++)
        assert_int_equal(churners[i].worst, ERR_OK);
    assert_lists(f, "", "", 0, 9, "");
}

#define CASE(test, with) cmocka_unit_test_setup_teardown(test, with, done)
#define CONTRACT(with)                                                                 \
    CASE(an_object_is_read_back_as_it_was_created, with),                              \
        CASE(an_empty_object_is_an_object, with),                                      \
        CASE(a_taken_key_is_a_conflict_and_keeps_its_bytes, with),                     \
        CASE(get_appends_and_a_failed_one_appends_nothing, with),                      \
        CASE(one_read_fills_many_ranges_of_many_objects, with),                        \
        CASE(a_range_that_fails_does_not_harm_the_others, with),                       \
        CASE(a_range_outside_the_object_is_corrupt, with),                             \
        CASE(put_joins_its_parts_and_may_be_repeated, with),                           \
        CASE(keys_are_listed_in_byte_order_of_the_whole_key, with),                    \
        CASE(a_list_goes_on_strictly_after_a_key, with),                               \
        CASE(a_delimiter_folds_what_is_behind_it, with),                               \
        CASE(a_list_without_room_finds_nothing, with),                                 \
        CASE(random_lists_agree_with_a_plain_one, with),                               \
        CASE(a_thousand_keys_come_page_by_page_each_once, with),                       \
        CASE(a_deleted_object_is_gone_and_its_name_free, with),                        \
        CASE(the_longest_and_oddest_keys_work, with),                                  \
        CASE(every_call_is_counted_in_the_op, with),                                   \
        CASE(reads_stop_at_the_deadline_and_writes_do_not, with),                      \
        CASE(of_eight_racing_creates_one_wins_with_its_bytes, with),                   \
        CASE(creates_do_not_fail_while_others_empty_their_folder, with)

#endif
