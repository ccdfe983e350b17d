/*
 * What S3 stores do to their clients, done by the simulator: each fault to each
 * operation, once and for ever, and the single promises of store_s3.h, s3_client.h and
 * s3_http.h.
 */
#include "store/store_s3.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "unit/metric_value.h"
#include "unit/s3sim.h"
#include "unit/test.h"

static struct s3sim sim;

struct fixture {
    struct op op;
    struct store *store;
};

static struct store *open_with(struct op *op, const char *endpoint, const char *bucket,
                               const char *region, const char *const *environment)
{
    const struct store_s3_options options = {.endpoint = endpoint,
                                             .bucket = bucket,
                                             .region = region,
                                             .environment = environment};
    struct store *store = NULL;
    assert_int_equal(store_s3_open(op, &options, &store), ERR_OK);
    return store;
}

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    op_init(&f->op, OP_NO_DEADLINE, 0);
    s3sim_do(&sim, "{\"do\": \"reset\"}");
    f->store = open_with(&f->op, sim.endpoint, "bucket", "", s3sim_environment);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    op_release(&f->op);
    mem_free(f);
    return 0;
}

static enum err create(struct fixture *f, const char *key, const char *text)
{
    return store_create(&f->op, f->store, key, slice_str(text));
}

static bool is_there(const char *key)
{
    char order[256];
    snprintf(order, sizeof order, "{\"do\": \"hold\", \"key\": \"%s\"}", key);
    s3sim_do(&sim, order);
    return strcmp(sim.line, "null") != 0;
}

static long count_of(const char *name)
{
    char field[64];
    snprintf(field, sizeof field, "\"%s\": ", name);
    s3sim_do(&sim, "{\"do\": \"counts\"}");
    const char *at = strstr(sim.line, field);
    return at ? strtol(at + strlen(field), NULL, 10) : 0;
}

/* ---- the matrix ---- */

struct fault {
    const char *rule;
    bool harmless; /* every operation succeeds under it for ever */
    bool slow;     /* the client pauses for it: not with each operation for ever */
};

static const struct fault faults[] = {
    {"\"fault\": \"status\", \"status\": 500", false, false},
    {"\"fault\": \"status\", \"status\": 502", false, false},
    {"\"fault\": \"status\", \"status\": 503, \"code\": \"SlowDown\"", false, true},
    {"\"fault\": \"status\", \"status\": 504", false, false},
    {"\"fault\": \"status\", \"status\": 408, \"code\": \"RequestTimeout\"", false,
     false},
    {"\"fault\": \"status\", \"status\": 409, \"code\": \"OperationAborted\"", false,
     false},
    {"\"fault\": \"status\", \"status\": 429, \"code\": \"TooManyRequests\"", false,
     true},
    {"\"fault\": \"status\", \"status\": 400, \"code\": \"RequestTimeout\"", false,
     false},
    {"\"fault\": \"after_status\", \"status\": 500", false, false},
    {"\"fault\": \"after_status\", \"status\": 408", false, false},
    {"\"fault\": \"after_status\", \"status\": 503, \"code\": \"SlowDown\"", false,
     true},
    {"\"fault\": \"reset_before\"", false, false},
    {"\"fault\": \"reset_after\"", false, false},
    {"\"fault\": \"reset_body\"", false, false},
    {"\"fault\": \"short\"", false, false},
    {"\"fault\": \"late\", \"ms\": 60", false, false},
    {"\"fault\": \"garble\"", false, false},
    {"\"fault\": \"page\"", false, false},
    {"\"fault\": \"torn\"", false, false},
    {"\"fault\": \"delay\", \"ms\": 30", true, false},
    {"\"fault\": \"twice\"", true, false},
};

static enum err do_create(struct fixture *f)
{
    enum err e = ERR_UNKNOWN;
    for (int i = 0; e == ERR_UNKNOWN && i < 3; i++)
        e = create(f, "made", "bytes of made");
    if (e == ERR_OK || e == ERR_CONFLICT) assert_true(is_there("made"));
    if (e == ERR_CONFLICT) e = ERR_OK; /* ours: nobody else writes */
    return e;
}

static enum err do_put(struct fixture *f)
{
    const struct slice part = SLICE_LITERAL("bytes of put");
    enum err e = store_put(&f->op, f->store, "put", &part, 1);
    if (!e) assert_true(is_there("put"));
    return e;
}

static enum err do_get(struct fixture *f)
{
    struct buf out = BUF_INIT;
    enum err e = store_get(&f->op, f->store, "a/1", 100, &out);
    if (!e) assert_true(slice_equal(buf_slice(&out), slice_str("0123456789")));
    assert_true(!e || out.size == 0);
    buf_release(&out);
    return e;
}

static enum err do_read(struct fixture *f)
{
    uint8_t room[2][4];
    struct store_range ranges[] = {
        {.key = "a/1", .offset = 2, .size = 4, .data = room[0]},
        {.key = "a/1", .offset = 6, .size = 4, .data = room[1]}};
    enum err e = store_read(&f->op, f->store, ranges, 2);
    if (!ranges[0].err) assert_memory_equal(room[0], "2345", 4);
    if (!ranges[1].err) assert_memory_equal(room[1], "6789", 4);
    return e;
}

static enum err do_list(struct fixture *f)
{
    const char *keys[9];
    size_t n = 9;
    enum err e = store_list(&f->op, f->store, "a/", "", 0, keys, &n);
    if (e) return e;
    assert_int_equal(n, 3);
    assert_string_equal(keys[2], "a/3");
    return e;
}

static enum err do_delete(struct fixture *f)
{
    const char *const keys[] = {"a/3"};
    enum err e = store_delete(&f->op, f->store, keys, 1);
    if (!e) assert_false(is_there("a/3"));
    return e;
}

static enum err do_deletes(struct fixture *f)
{
    const char *const keys[] = {"a/2", "a/3"};
    enum err e = store_delete(&f->op, f->store, keys, 2);
    if (!e) assert_false(is_there("a/2") || is_there("a/3"));
    return e;
}

static enum err do_empty_read(struct fixture *f)
{
    struct store_range range = {.key = "a/1", .offset = 10};
    return store_read(&f->op, f->store, &range, 1);
}

/* By pages of two, of which the rule that is meant for lists meets the second. */
static enum err do_second_page(struct fixture *f)
{
    s3sim_do(&sim, "{\"do\": \"set\", \"page_max\": 2}");
    enum err e = do_list(f);
    s3sim_do(&sim, "{\"do\": \"set\", \"page_max\": 1000}");
    return e;
}

static enum err do_sweep(struct fixture *f)
{
    uint64_t ended;
    s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/x\", \"age_s\": 100}");
    enum err e = store_sweep(&f->op, f->store, "ns/", 50000, &ended);
    s3sim_do(&sim, "{\"do\": \"uploads\"}");
    if (!e) assert_string_equal(sim.line, "[]");
    return e;
}

static const struct operation {
    const char *name;
    enum err (*run)(struct fixture *);
    int skip;         /* so many of its requests are well */
    bool has_no_body; /* there is nothing in the answer to cut off or to change */
} operations[] = {
    {"create", do_create, 0, true},     {"create", do_put, 0, true},
    {"get", do_get, 0, false},          {"get", do_read, 0, false},
    {"head", do_empty_read, 0, true},   {"list", do_list, 0, false},
    {"list", do_second_page, 1, false}, {"delete", do_delete, 0, true},
    {"deletes", do_deletes, 0, false},  {"uploads", do_sweep, 0, false},
    {"abort", do_sweep, 0, true},
};

/* An answer that came twice may still be on the way: then it is not believed. */
static void make(struct fixture *f, const char *key, const char *text)
{
    enum err e = create(f, key, text);
    if (e == ERR_UNKNOWN) e = create(f, key, text);
    assert_true(e == ERR_OK || e == ERR_CONFLICT);
    assert_true(is_there(key));
    op_clear_error(&f->op);
}

/* An empty bucket, and a client that has seen no failure yet. */
static void renew(struct fixture *f)
{
    store_free(f->store);
    s3sim_do(&sim, "{\"do\": \"reset\"}");
    f->store = open_with(&f->op, sim.endpoint, "bucket", "", s3sim_environment);
}

enum { LATE_MS = 60 }; /* as in the faults */

/* Every fault meets every STEP-th operation; each operation, every STEP-th fault. */
enum { STEP = BY_VALGRIND(1, 4) };

static bool meets(size_t fault, size_t operation)
{
    return (fault + operation) % STEP == 0;
}

/* What comes late from the operation before must not meet this one's objects. */
static void prepare(struct fixture *f, const struct fault *last)
{
    if (last && strstr(last->rule, "late")) task_sleep_ms(2 * LATE_MS);
    renew(f);
    make(f, "a/1", "0123456789");
    make(f, "a/2", "2");
    make(f, "a/3", "3");
}

static void order_fault(const char *op, const char *rule, int skip, int times)
{
    char order[512];
    snprintf(order, sizeof order,
             "{\"do\": \"fault\", \"op\": \"%s\", \"skip\": %d, \"times\": %d, %s}", op,
             skip, times, rule);
    s3sim_do(&sim, order);
}

/* The answer to HEAD is a head, and an end to an upload asks for no more than a 2xx. */
static bool unharmed(const struct fault *fault, const struct operation *o)
{
    if (fault->harmless) return true;
    if (strstr(fault->rule, "torn")) return o->has_no_body;
    if (strstr(fault->rule, "garble"))
        return strcmp(o->name, "head") == 0 || strcmp(o->name, "abort") == 0;
    return strstr(fault->rule, "page") && strcmp(o->name, "abort") == 0;
}

static void any_fault_that_passes_is_survived_by_any_operation(void **state)
{
    struct fixture *f = *state;
    const struct fault *last = NULL;
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        for (size_t k = 0; k < COUNT_OF(operations); k++) {
            const struct operation *o = &operations[k];
            if (!meets(i, k)) continue;
            prepare(f, last);
            last = &faults[i];
            order_fault(o->name, faults[i].rule, o->skip, 1);
            enum err e = o->run(f);
            if (e) fail_msg("%s under %s: %s", o->name, faults[i].rule, f->op.error);
        }
}

static void a_fault_that_stays_is_an_error_and_never_a_wrong_answer(void **state)
{
    struct fixture *f = *state;
    const struct fault *last = NULL;
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        for (size_t k = 0; k < COUNT_OF(operations); k++) {
            const struct operation *o = &operations[k];
            if (!meets(i, k)) continue;
            if (faults[i].slow && k > 2) continue; /* the same */
            prepare(f, last);
            last = &faults[i];
            order_fault(o->name, faults[i].rule, o->skip, 999);
            enum err e = o->run(f);
            s3sim_do(&sim, "{\"do\": \"set\", \"rules\": []}");
            enum err expected = o->run == do_create ? ERR_UNKNOWN : ERR_IO;
            if (unharmed(&faults[i], o)) expected = ERR_OK;
            if (e != expected)
                fail_msg("%s under %s: %d, not %d", o->name, faults[i].rule, (int)e,
                         (int)expected);
            op_clear_error(&f->op);
        }
}

/* The operations once more, on keys of their own and without asking the simulator, so
 * that all can wait for their answers side by side. */
static enum err delete_one(struct fixture *f)
{
    const char *const keys[] = {"d/1"};
    return store_delete(&f->op, f->store, keys, 1);
}

static enum err delete_two(struct fixture *f)
{
    const char *const keys[] = {"d/2", "d/3"};
    return store_delete(&f->op, f->store, keys, 2);
}

static enum err put_one(struct fixture *f)
{
    const struct slice part = SLICE_LITERAL("x");
    return store_put(&f->op, f->store, "put", &part, 1);
}

static enum err create_until_known(struct fixture *f)
{
    enum err e = create(f, "made", "x");
    if (e == ERR_UNKNOWN) e = create(f, "made", "x");
    return e;
}

struct waiter {
    enum err (*run)(struct fixture *);
    const char *op;
    struct fixture fixture;
    enum err e;
};

static void wait_for_it(void *arg)
{
    struct waiter *w = arg;
    op_init(&w->fixture.op, OP_NO_DEADLINE, 0);
    w->e = w->run(&w->fixture);
    if (w->e) print_message("%s: %s\n", w->op, w->fixture.op.error);
    op_release(&w->fixture.op);
}

static void an_answer_that_never_comes_is_survived_by_any_operation(void **state)
{
    struct fixture *f = *state;
    struct waiter waiters[] = {{.run = create_until_known, .op = "create"},
                               {.run = put_one, .op = "create"},
                               {.run = do_get, .op = "get"},
                               {.run = do_read, .op = "get"},
                               {.run = do_list, .op = "list"},
                               {.run = delete_one, .op = "delete"},
                               {.run = delete_two, .op = "deletes"}};
    struct thread *threads[COUNT_OF(waiters)];

    prepare(f, NULL);
    make(f, "d/1", "1");
    make(f, "d/2", "2");
    make(f, "d/3", "3");
    for (size_t i = 0; i < COUNT_OF(waiters); i++)
        order_fault(waiters[i].op, "\"fault\": \"hang\"", 0, 1);
    for (size_t i = 0; i < COUNT_OF(waiters); i++) {
        waiters[i].fixture.store = f->store;
        threads[i] = thread_start("waiter", wait_for_it, &waiters[i]);
    }
    for (size_t i = 0; i < COUNT_OF(waiters); i++) {
        thread_join(threads[i]);
        assert_int_equal(waiters[i].e, ERR_OK);
    }
    assert_true(is_there("made") && is_there("put"));
    assert_false(is_there("d/1") || is_there("d/2") || is_there("d/3"));
}

static void a_store_that_says_nothing_is_silent_until_it_answers(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    prepare(f, NULL);
    assert_int_equal(store_s3_silent_ms(f->store), 0);
    order_fault("get", "\"fault\": \"hang\"", 0, 1);
    int64_t began_ms = clock_ms();
    f->op.deadline_ms = began_ms + 100;
    assert_int_equal(store_get(&f->op, f->store, "a/1", 100, &out), ERR_TIMEOUT);
    /* Who asked has given up, but nothing was heard. */
    task_sleep_ms(50);
    int64_t silent_ms = store_s3_silent_ms(f->store);
    assert_in_range(silent_ms, 50, clock_ms() - began_ms);

    f->op.deadline_ms = OP_NO_DEADLINE;
    assert_int_equal(do_get(f), ERR_OK);
    assert_int_equal(store_s3_silent_ms(f->store), 0);

    /* A refusal is an answer too. */
    order_fault("create", "\"fault\": \"status\", \"status\": 500", 0, 1);
    assert_int_equal(create(f, "k", "x"), ERR_UNKNOWN);
    assert_int_equal(store_s3_silent_ms(f->store), 0);
    buf_release(&out);
}

/* ---- creates ---- */

static void a_create_that_may_have_landed_is_never_called_a_failure(void **state)
{
    struct fixture *f = *state;
    static const char *const ambiguous[] = {
        "\"fault\": \"after_status\", \"status\": 500",
        "\"fault\": \"after_status\", \"status\": 409", "\"fault\": \"reset_after\"",
        "\"fault\": \"short\"", "\"fault\": \"late\", \"ms\": 50"};
    for (size_t i = 0; i < COUNT_OF(ambiguous); i++) {
        s3sim_do(&sim, "{\"do\": \"reset\"}");
        order_fault("create", ambiguous[i], 0, 1);
        enum err e = create(f, "k", "mine");
        if (e != ERR_UNKNOWN && e != ERR_CONFLICT && e != ERR_OK)
            fail_msg("%s: %d", ambiguous[i], (int)e);
        op_clear_error(&f->op);
        e = create(f, "k", "mine");
        assert_true(e == ERR_OK || e == ERR_CONFLICT);
        task_sleep_ms(80);
        assert_int_equal(create(f, "k", "other"), ERR_CONFLICT);
    }
}

static void a_create_that_was_refused_is_not_called_unknown(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int status;
        enum err e;
    } cases[] = {{400, ERR_IO}, {401, ERR_IO},    {403, ERR_IO}, {405, ERR_IO},
                 {411, ERR_IO}, {413, ERR_LIMIT}, {501, ERR_IO}, {412, ERR_CONFLICT}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char rule[64];
        snprintf(rule, sizeof rule, "\"fault\": \"status\", \"status\": %d",
                 cases[i].status);
        order_fault("create", rule, 0, 1);
        assert_int_equal(create(f, "k", "x"), cases[i].e);
        op_clear_error(&f->op);
    }
    assert_int_equal(count_of("create"), COUNT_OF(cases));
    assert_false(is_there("k"));
}

static void a_create_is_attempted_once_per_call(void **state)
{
    struct fixture *f = *state;
    order_fault("create", "\"fault\": \"status\", \"status\": 500", 0, 9);
    assert_int_equal(create(f, "k", "x"), ERR_UNKNOWN);
    assert_int_equal(count_of("create"), 1);
}

static void a_create_without_an_answer_gives_up_after_two_seconds(void **state)
{
    struct fixture *f = *state;
    order_fault("create", "\"fault\": \"hang\"", 0, 1);
    int64_t before_ms = clock_ms();
    assert_int_equal(create(f, "k", "x"), ERR_UNKNOWN);
    assert_in_range(clock_ms() - before_ms, 1900, 3500);
    assert_int_equal(create(f, "k", "x"), ERR_OK);
}

/* Three idle connections: whichever end libcurl takes them from, the second is good and
 * the others have an answer too many. */
static void leave_stale_connections(struct fixture *f)
{
    static const char *const faults_slow[] = {
        "\"fault\": \"twice\", \"ms\": 300, \"apart\": 30",
        "\"fault\": \"delay\", \"ms\": 300"};
    struct waiter slow[2] = {{.run = do_get, .fixture.store = f->store},
                             {.run = do_get, .fixture.store = f->store}};
    struct thread *threads[2];
    struct buf out = BUF_INIT;
    for (int i = 0; i < 2; i++) {
        order_fault("get", faults_slow[i], 0, 1);
        threads[i] = thread_start("slow", wait_for_it, &slow[i]);
        while (count_of("get") <= i)
            task_sleep_ms(1);
    }
    order_fault("get", "\"fault\": \"twice\", \"apart\": 30", 0, 1);
    assert_int_equal(store_get(&f->op, f->store, "a/2", 9, &out), ERR_OK);
    for (int i = 0; i < 2; i++) {
        thread_join(threads[i]);
        assert_int_equal(slow[i].e, ERR_OK);
    }
    while (count_of("twice") < 2)
        task_sleep_ms(1);
    buf_release(&out);
}

static void a_create_sent_twice_is_remembered_beyond_a_stale_connection(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    leave_stale_connections(f);
    long creates = count_of("create");
    order_fault("create", "\"fault\": \"reset_after\"", 0, 1);
    order_fault("create", "\"fault\": \"status\", \"status\": 403", 0, 1);
    assert_int_equal(create(f, "k", "x"), ERR_UNKNOWN);
    assert_int_equal(count_of("create"), creates + 2);
    assert_true(is_there("k"));
}

static void a_put_whose_folder_was_removed_under_it_is_sent_again(void **state)
{
    struct fixture *f = *state;
    const struct slice part = SLICE_LITERAL("x");
    static const char *const refusals[] = {
        "\"fault\": \"status\", \"status\": 403, \"code\": \"AccessDenied\"",
        "\"fault\": \"status\", \"status\": 404, \"code\": \"NoSuchKey\""};
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        s3sim_do(&sim, "{\"do\": \"reset\"}");
        order_fault("create", refusals[i], 0, 3);
        assert_int_equal(create(f, "k", "x"), ERR_OK);
        assert_int_equal(count_of("create"), 4);
        order_fault("create", refusals[i], 0, 3);
        assert_int_equal(store_put(&f->op, f->store, "l", &part, 1), ERR_OK);
    }
    order_fault("create", refusals[0], 0, 99);
    assert_int_equal(create(f, "m", "x"), ERR_IO);
    assert_non_null(strstr(f->op.error, "s3:PutObject"));
}

static void nobody_there_is_a_failure_that_surely_changed_nothing(void **state)
{
    struct fixture *f = *state;
    struct store *s =
        open_with(&f->op, "http://127.0.0.1:1", "bucket", "", s3sim_environment);
    assert_int_equal(store_create(&f->op, s, "k", slice_str("x")), ERR_IO);
    assert_non_null(strstr(f->op.error, "127.0.0.1:1"));
    store_free(s);
}

/* ---- reads ---- */

static void a_read_stops_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    assert_int_equal(create(f, "k", "x"), ERR_OK);
    order_fault("get", "\"fault\": \"delay\", \"ms\": 3000", 0, 2);
    int64_t before_ms = clock_ms();
    f->op.deadline_ms = before_ms + 100;
    assert_int_equal(store_get(&f->op, f->store, "k", 9, &out), ERR_TIMEOUT);
    assert_in_range(clock_ms() - before_ms, 90, 1500);
    f->op.deadline_ms = OP_NO_DEADLINE;
    assert_int_equal(store_get(&f->op, f->store, "k", 9, &out), ERR_OK);
    buf_release(&out);
}

static void a_slow_read_is_overtaken_by_a_second_one(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    struct store_range range = {.key = "k", .size = 1, .data = &byte};
    assert_int_equal(create(f, "k", "x"), ERR_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
    long gets = count_of("get");
    order_fault("get", "\"fault\": \"delay\", \"ms\": 3000", 0, 1);
    int64_t before_ms = clock_ms();
    byte = 0;
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
    assert_int_equal(byte, 'x');
    assert_in_range(clock_ms() - before_ms, 10, 1500);
    assert_int_equal(count_of("get"), gets + 2);
}

static void hedges_are_at_most_one_request_in_twenty(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    assert_int_equal(create(f, "k", "x"), ERR_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(store_get(&f->op, f->store, "k", 9, &out), ERR_OK);
    order_fault("get", "\"fault\": \"delay\", \"ms\": 60", 0, 99);
    for (int i = 0; i < 40; i++)
        assert_int_equal(store_get(&f->op, f->store, "k", 9, &out), ERR_OK);
    assert_in_range(count_of("get"), 141, 147);
    buf_release(&out);
}

static void a_slow_line_is_not_given_up_as_long_as_bytes_come(void **state)
{
    enum { SIZE = 3 << 20 }; /* six seconds each way: longer than for a first byte */
    struct fixture *f = *state;
    uint8_t *bytes = mem_calloc(1, SIZE), *back = mem_alloc(SIZE);
    const struct slice part = slice_of(bytes, SIZE);
    struct store_range range = {.key = "slow", .size = SIZE, .data = back};

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 31 >> 7);
    s3sim_do(&sim, "{\"do\": \"set\", \"keep_checks\": false, "
                   "\"bytes_per_s\": 524288}");
    assert_int_equal(store_put(&f->op, f->store, "slow", &part, 1), ERR_OK);
    assert_int_equal(store_read(&f->op, f->store, &range, 1), ERR_OK);
    assert_memory_equal(bytes, back, SIZE);
    assert_int_equal(count_of("create"), 1);
    mem_free(bytes);
    mem_free(back);
}

static void a_missing_bucket_is_no_empty_one(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_with(&f->op, sim.endpoint, "absent", "", s3sim_environment);
    struct buf out = BUF_INIT;
    const char *key;
    size_t n = 1;
    assert_int_equal(store_get(&f->op, s, "k", 9, &out), ERR_IO);
    assert_int_equal(store_list(&f->op, s, "", "", 0, &key, &n), ERR_IO);
    assert_non_null(strstr(f->op.error, "storage.s3.bucket"));
    assert_int_equal(store_create(&f->op, s, "k", slice_str("x")), ERR_IO);
    store_free(s);
}

static void short_pages_are_joined(void **state)
{
    struct fixture *f = *state;
    const char *keys[40];
    s3sim_do(&sim, "{\"do\": \"set\", \"page_max\": 3}");
    for (int i = 0; i < 20; i++)
        assert_int_equal(create(f, op_printf(&f->op, "p/%d/x", i % 10 + 10 * (i > 9)),
                                "x"),
                         ERR_OK);
    size_t n = COUNT_OF(keys);
    uint64_t requests = f->op.counters.store_requests;
    assert_int_equal(store_list(&f->op, f->store, "p/", "p/12/", '/', keys, &n),
                     ERR_OK);
    assert_in_range(count_of("list"), 5, 40);
    assert_int_equal(f->op.counters.store_requests - requests, count_of("list"));
    assert_int_equal(n, 15);
    assert_string_equal(keys[0], "p/13/");
    n = 5;
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 5);
    assert_string_equal(keys[4], "p/12/x");
}

static void a_list_that_ends_too_early_is_walked_again(void **state)
{
    struct fixture *f = *state;
    const char *keys[9];
    size_t n = COUNT_OF(keys);
    s3sim_do(&sim, "{\"do\": \"set\", \"ends_early\": true, \"server\": \"a proxy\"}");
    for (int i = 1; i < 6; i++)
        assert_int_equal(create(f, op_printf(&f->op, "p/%d/x", i), "x"), ERR_OK);
    assert_int_equal(store_list(&f->op, f->store, "p/", "p/2/", '/', keys, &n), ERR_OK);
    assert_int_equal(n, 3);
    assert_string_equal(keys[2], "p/5/");
    n = COUNT_OF(keys);
    assert_int_equal(store_list(&f->op, f->store, "p/", "p/2/x", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 3);
    assert_string_equal(keys[2], "p/5/x");
}

static void an_unordered_list_is_corrupt(void **state)
{
    struct fixture *f = *state;
    const char *keys[9];
    size_t n = 9;
    prepare(f, NULL);
    s3sim_do(&sim, "{\"do\": \"set\", \"unordered\": true}");
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_CORRUPT);
}

/* ---- how much is asked ---- */

static uint64_t metric_of(const char *name)
{
    return (uint64_t)metric_value(name, 0);
}

static enum err get(struct fixture *f, const char *key)
{
    struct buf out = BUF_INIT;
    enum err e = store_get(&f->op, f->store, key, 100, &out);
    buf_release(&out);
    return e;
}

static void
after_too_many_failures_a_request_is_tried_once_until_others_succeed(void **state)
{
    struct fixture *f = *state;
    enum { RETRIES = 500 / 14, HEDGES_MAX = 5 };
    int requests = 0;

    prepare(f, NULL);
    long before = count_of("get");
    order_fault("get", "\"fault\": \"status\", \"status\": 500", 0, 9999);
    do {
        op_clear_error(&f->op);
        assert_int_equal(get(f, "a/1"), ERR_IO);
        requests++;
    } while (!strstr(f->op.error, "too much has failed of late") && requests < 99);
    assert_in_range(count_of("get") - before, requests + RETRIES,
                    requests + RETRIES + HEDGES_MAX);

    before = count_of("get");
    op_clear_error(&f->op);
    assert_int_equal(get(f, "a/1"), ERR_IO);
    assert_non_null(strstr(f->op.error, "500"));
    assert_non_null(strstr(f->op.error, "too much has failed of late"));
    assert_in_range(count_of("get") - before, 1, 2); /* one may be a hedge */
    op_clear_error(&f->op);

    s3sim_do(&sim, "{\"do\": \"set\", \"rules\": []}");
    for (int i = 0; i < 14; i++)
        assert_int_equal(get(f, "a/1"), ERR_OK);
    order_fault("get", "\"fault\": \"status\", \"status\": 500", 0, 1);
    assert_int_equal(get(f, "a/1"), ERR_OK);
}

static void a_store_that_says_slow_down_to_all_is_not_asked_for_ever(void **state)
{
    enum { READS = 64, RETRIES = 500 / 5, HEDGES_MAX = READS / 20 + 20 };
    struct fixture *f = *state;
    struct store_range ranges[READS];
    uint8_t room[READS];

    prepare(f, NULL);
    for (size_t i = 0; i < READS; i++)
        ranges[i] = (struct store_range){.key = "a/1", .size = 1, .data = &room[i]};
    long before = count_of("get");
    order_fault("get", "\"fault\": \"status\", \"status\": 503, \"code\": \"SlowDown\"",
                0, 9999);
    assert_int_equal(store_read(&f->op, f->store, ranges, READS), ERR_IO);
    assert_in_range(count_of("get") - before, READS + RETRIES,
                    READS + RETRIES + HEDGES_MAX);
    assert_non_null(strstr(f->op.error, "SlowDown"));
}

static void a_store_that_says_when_to_come_back_is_asked_again_then(void **state)
{
    struct fixture *f = *state;
    static const char *const answers[] = {
        "\"fault\": \"status\", \"status\": 429, \"code\": \"TooManyRequests\", "
        "\"headers\": [[\"Retry-After\", \"2\"]]",
        "\"fault\": \"status\", \"status\": 503, \"code\": \"SlowDown\", "
        "\"headers\": [[\"Retry-After\", \"99999\"]]"};
    prepare(f, NULL);
    order_fault("get", answers[0], 0, 1);
    int64_t before_ms = clock_ms();
    assert_int_equal(get(f, "a/1"), ERR_OK);
    assert_true(clock_ms() - before_ms >= 2000);

    order_fault("get", answers[1], 0, 1);
    f->op.deadline_ms = clock_ms() + 200;
    assert_int_equal(get(f, "a/1"), ERR_TIMEOUT);
    f->op.deadline_ms = OP_NO_DEADLINE;
}

/* On a kept connection that dies libcurl sends a request again by itself. */
static void every_sending_of_a_request_is_counted(void **state)
{
    struct fixture *f = *state;
    static const char *const rules[] = {"\"fault\": \"reset_before\"",
                                        "\"fault\": \"reset_after\"",
                                        "\"fault\": \"status\", \"status\": 500"};
    const struct slice nothing = SLICE_EMPTY;
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        for (size_t k = 0; k < COUNT_OF(operations); k++) {
            prepare(f, NULL);
            assert_int_equal(do_get(f), ERR_OK); /* its connection is kept */
            s3sim_do(&sim, "{\"do\": \"counts\"}");
            long before = count_of("total");
            uint64_t counted = metric_of("elacsym_s3_requests_total");
            order_fault(operations[k].name, rules[i], operations[k].skip, 1);
            assert_int_equal(operations[k].run(f), ERR_OK);
            assert_int_equal(metric_of("elacsym_s3_requests_total") - counted,
                             count_of("total") - before);
        }
    prepare(f, NULL);
    assert_int_equal(do_get(f), ERR_OK);
    order_fault("create", rules[0], 0, 1);
    assert_int_equal(store_put(&f->op, f->store, "empty", &nothing, 1), ERR_OK);
    assert_true(is_there("empty"));
}

static void the_bytes_of_bodies_are_counted_exactly(void **state)
{
    struct fixture *f = *state;
    s3sim_do(&sim, "{\"do\": \"reset\"}");
    uint64_t sent = metric_of("elacsym_s3_sent_bytes_total");
    uint64_t received = metric_of("elacsym_s3_received_bytes_total");
    make(f, "a/1", "0123456789");
    make(f, "a/2", "2");
    make(f, "a/3", "3");
    order_fault("get", "\"fault\": \"status\", \"status\": 500", 0, 1);
    order_fault("create", "\"fault\": \"after_status\", \"status\": 500", 0, 1);
    assert_int_equal(do_get(f), ERR_OK);
    assert_int_equal(do_read(f), ERR_OK);
    assert_int_equal(do_list(f), ERR_OK);
    assert_int_equal(do_put(f), ERR_OK);
    assert_int_equal(do_deletes(f), ERR_OK);
    assert_int_equal(metric_of("elacsym_s3_sent_bytes_total") - sent,
                     count_of("received"));
    assert_int_equal(metric_of("elacsym_s3_received_bytes_total") - received,
                     count_of("sent"));
}

/* ---- large objects and deletes ---- */

static enum err put_large(struct fixture *f)
{
    enum { SIZE = 17 << 20 };
    uint8_t *bytes = mem_calloc(1, SIZE);
    const struct slice part = slice_of(bytes, SIZE);
    s3sim_do(&sim, "{\"do\": \"set\", \"keep_checks\": false}");
    enum err e = store_put(&f->op, f->store, "large", &part, 1);
    mem_free(bytes);
    return e;
}

static void a_large_put_survives_any_fault_at_all_of_its_steps(void **state)
{
    struct fixture *f = *state;
    static const char *const steps[] = {"head", "begin", "part", "complete"};
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        if (!meets(i, 0)) continue;
        if (strstr(faults[i].rule, "late")) task_sleep_ms(2 * LATE_MS);
        renew(f);
        for (size_t k = 0; k < COUNT_OF(steps); k++)
            order_fault(steps[k], faults[i].rule, 0, 1);
        enum err e = put_large(f);
        if (e) fail_msg("under %s: %s", faults[i].rule, f->op.error);
        assert_true(is_there("large"));
    }
}

static void a_large_put_that_fails_leaves_no_parts(void **state)
{
    struct fixture *f = *state;
    static const char *const steps[] = {"part", "complete"};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        s3sim_do(&sim, "{\"do\": \"reset\"}");
        order_fault(steps[i], "\"fault\": \"status\", \"status\": 500", 0, 99);
        assert_int_equal(put_large(f), ERR_IO);
        assert_int_equal(count_of("abort"), 1);
        assert_int_equal(count_of("uploads"), 0);
        assert_false(is_there("large"));
        op_clear_error(&f->op);
    }
}

static void a_large_put_that_is_there_already_is_compared_piece_by_piece(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put_large(f), ERR_OK);
    assert_int_equal(count_of("get"), 0);
    assert_int_equal(put_large(f), ERR_OK);
    assert_int_equal(count_of("begin"), 1);
    assert_int_equal(count_of("get"), 17); /* of a MiB each */
}

static void only_old_uploads_below_the_prefix_are_ended(void **state)
{
    struct fixture *f = *state;
    uint64_t ended;
    static const int pages[] = {1, 2, 1000};
    for (size_t i = 0; i < COUNT_OF(pages); i++) {
        char order[96];
        s3sim_do(&sim, "{\"do\": \"reset\"}");
        snprintf(order, sizeof order, "{\"do\": \"set\", \"page_max\": %d}", pages[i]);
        s3sim_do(&sim, order);
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/a/old\", \"age_s\": 900}");
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/a/old\", \"age_s\": 800}");
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/b/new\", \"age_s\": 0}");
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/c/old\", \"age_s\": 700}");
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"nsx/old\", \"age_s\": 900}");
        s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"A/<&\", \"age_s\": 900}");
        assert_int_equal(store_sweep(&f->op, f->store, "ns/", 600 * 1000, &ended),
                         ERR_OK);
        assert_int_equal(ended, 3);
        s3sim_do(&sim, "{\"do\": \"uploads\"}");
        assert_string_equal(sim.line, "[\"A/<&\", \"ns/b/new\", \"nsx/old\"]");
    }
}

static void the_age_of_an_upload_is_measured_by_the_store_s_clock(void **state)
{
    struct fixture *f = *state;
    uint64_t ended;
    s3sim_do(&sim, "{\"do\": \"set\", \"skew_s\": -7200}");
    s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/new\", \"age_s\": 10}");
    assert_int_equal(store_sweep(&f->op, f->store, "ns/", 3600 * 1000, &ended), ERR_OK);
    assert_int_equal(ended, 0);
}

static void
keys_that_may_not_end_uploads_are_told_the_right_that_is_missing(void **state)
{
    struct fixture *f = *state;
    uint64_t ended;
    static const char denied[] =
        "\"fault\": \"status\", \"status\": 403, \"code\": \"AccessDenied\"";
    s3sim_do(&sim, "{\"do\": \"upload\", \"key\": \"ns/old\", \"age_s\": 900}");
    order_fault("abort", denied, 0, 1);
    assert_int_equal(store_sweep(&f->op, f->store, "ns/", 0, &ended), ERR_IO);
    assert_non_null(strstr(f->op.error, "s3:AbortMultipartUpload"));
    op_clear_error(&f->op);
    order_fault("uploads", denied, 0, 1);
    assert_int_equal(store_sweep(&f->op, f->store, "ns/", 0, &ended), ERR_IO);
    assert_non_null(strstr(f->op.error, "s3:ListBucketMultipartUploads"));
}

static void keys_that_are_not_deleted_are_an_error(void **state)
{
    struct fixture *f = *state;
    const char *const keys[] = {"a/1", "a/2", "a/3"};
    prepare(f, NULL);
    s3sim_do(&sim, "{\"do\": \"set\", \"fail_keys\": [\"a/2\"]}");
    assert_int_equal(store_delete(&f->op, f->store, keys, 3), ERR_IO);
    assert_non_null(strstr(f->op.error, "a/2"));
    assert_true(is_there("a/2"));
    assert_false(is_there("a/1") || is_there("a/3"));
}

static void a_store_without_bulk_deletes_gets_single_ones(void **state)
{
    struct fixture *f = *state;
    const char *const keys[] = {"a/1", "a/2", "a/3", "a/4"};
    prepare(f, NULL);
    s3sim_do(&sim, "{\"do\": \"set\", \"no_deletes\": true}");
    assert_int_equal(store_delete(&f->op, f->store, keys, 4), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, 4), ERR_OK);
    assert_int_equal(count_of("deletes"), 1);
    assert_int_equal(count_of("delete"), 8);
    assert_false(is_there("a/1") || is_there("a/2") || is_there("a/3"));
}

/* ---- who we are ---- */

static void a_clock_that_is_off_is_corrected_from_the_store(void **state)
{
    struct fixture *f = *state;
    s3sim_do(&sim, "{\"do\": \"set\", \"skew_s\": -7200}");
    assert_int_equal(create(f, "k", "x"), ERR_OK);
    assert_int_equal(create(f, "l", "x"), ERR_OK);
    assert_int_equal(count_of("create"), 3);
}

static void a_wrong_region_is_corrected_from_the_store(void **state)
{
    struct fixture *f = *state;
    struct store *s =
        open_with(&f->op, sim.endpoint, "bucket", "eu-west-1", s3sim_environment);
    assert_int_equal(store_create(&f->op, s, "k", slice_str("x")), ERR_OK);
    store_free(s);
}

static void a_bucket_that_is_elsewhere_is_an_error_that_names_its_region(void **state)
{
    struct fixture *f = *state;
    order_fault(
        "create",
        "\"fault\": \"status\", \"status\": 301, \"code\": \"PermanentRedirect\", "
        "\"headers\": [[\"x-amz-bucket-region\", \"eu-north-1\"]]",
        0, 9);
    assert_int_equal(create(f, "k", "x"), ERR_IO);
    assert_non_null(strstr(f->op.error, "storage.s3.region"));
    assert_non_null(strstr(f->op.error, "eu-north-1"));
    assert_int_equal(count_of("create"), 2); /* the second signed for that region */
}

static void a_store_that_names_ever_other_regions_is_not_followed_for_ever(void **state)
{
    struct fixture *f = *state;
    char rule[256];
    for (int i = 0; i < 40; i++) {
        snprintf(rule, sizeof rule,
                 "\"fault\": \"status\", \"status\": 307, \"code\": "
                 "\"TemporaryRedirect\", "
                 "\"headers\": [[\"x-amz-bucket-region\", \"somewhere-%d\"]]",
                 i);
        order_fault("create", rule, 0, 1);
        (void)create(f, "k", "x");
        op_clear_error(&f->op);
    }
    order_fault("create",
                "\"fault\": \"status\", \"status\": 301, \"headers\": "
                "[[\"x-amz-bucket-region\", \"evil.example/\"]]",
                0, 9);
    assert_int_equal(create(f, "k", "x"), ERR_IO);
    s3sim_do(&sim, "{\"do\": \"set\", \"rules\": []}");
    assert_in_range(count_of("create"), 41, 41 + 20);
}

static void wrong_keys_are_named_without_being_shown(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[][3] = {{"AWS_ACCESS_KEY_ID=test-key",
                                            "AWS_SECRET_ACCESS_KEY=not-this-one", NULL},
                                           {"AWS_ACCESS_KEY_ID=not-this-one",
                                            "AWS_SECRET_ACCESS_KEY=test-secret", NULL}};
    for (size_t i = 0; i < 2; i++) {
        struct store *s = open_with(&f->op, sim.endpoint, "bucket", "", wrong[i]);
        assert_int_equal(store_create(&f->op, s, "k", slice_str("x")), ERR_IO);
        assert_non_null(strstr(f->op.error, i ? "access key" : "secret key"));
        assert_null(strstr(f->op.error, "not-this-one"));
        op_clear_error(&f->op);
        store_free(s);
    }
}

/* ---- the probe ---- */

static void the_probe_refuses(struct fixture *f, const char *setting, const char *words)
{
    char order[128];
    s3sim_do(&sim, "{\"do\": \"reset\"}");
    snprintf(order, sizeof order, "{\"do\": \"set\", \"%s\": true}", setting);
    s3sim_do(&sim, order);
    enum err e = store_s3_probe(&f->op, f->store);
    assert_true(e == ERR_DENIED || e == ERR_CORRUPT);
    if (!strstr(f->op.error, words)) fail_msg("%s", f->op.error);
    op_clear_error(&f->op);
}

static void the_probe_refuses_a_store_that_would_lose_writes(void **state)
{
    struct fixture *f = *state;
    the_probe_refuses(f, "ignore_condition", "does not honour If-None-Match");
    the_probe_refuses(f, "racy_condition", "not atomic");
    the_probe_refuses(f, "unordered", "byte order");
}

/* ---- quirks ---- */

static void the_quirks_of_a_store_are_learnt_and_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    struct store_s3_quirks q;
    const char *key;
    size_t n = 1;

    store_s3_learn(&f->op, f->store, &q);
    assert_string_equal(q.server, "s3sim");
    assert_int_equal(q.checks_crc32c, S3_YES);
    assert_int_equal(q.echoes_crc32c, S3_YES);
    assert_int_equal(q.tells_crc32c, S3_YES);
    assert_int_equal(q.checks_md5, S3_YES);
    assert_int_equal(q.refuses_early, S3_NO);
    assert_int_equal(metric_of("elacsym_s3_quirk{quirk=\"checks_crc32c\"}"), 1);

    s3sim_do(&sim, "{\"do\": \"set\", \"keep_checks\": false, \"echoes\": false, "
                   "\"checks_md5\": false, \"early\": true}");
    store_s3_learn(&f->op, f->store, &q);
    assert_int_equal(q.checks_crc32c, S3_NO);
    assert_int_equal(q.echoes_crc32c, S3_NO);
    assert_int_equal(q.tells_crc32c, S3_NO);
    assert_int_equal(q.checks_md5, S3_NO);
    assert_int_equal(q.refuses_early, S3_YES);
    assert_int_equal(metric_of("elacsym_s3_quirk{quirk=\"checks_crc32c\"}"), 0);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, &key, &n), ERR_OK);
    assert_int_equal(n, 0);
}

static void a_store_that_fails_leaves_its_quirks_unknown(void **state)
{
    struct fixture *f = *state;
    struct store_s3_quirks q;
    order_fault("any", "\"fault\": \"status\", \"status\": 500", 0, 999);
    store_s3_learn(&f->op, f->store, &q);
    assert_int_equal(q.checks_crc32c, S3_NOT_KNOWN);
    assert_int_equal(q.tells_crc32c, S3_NOT_KNOWN);
    assert_int_equal(q.checks_md5, S3_NOT_KNOWN);
    assert_int_equal(q.refuses_early, S3_NOT_KNOWN);
    assert_int_equal(f->op.error[0], 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(any_fault_that_passes_is_survived_by_any_operation),
        CASE(a_fault_that_stays_is_an_error_and_never_a_wrong_answer),
        CASE(an_answer_that_never_comes_is_survived_by_any_operation),
        CASE(a_store_that_says_nothing_is_silent_until_it_answers),
        CASE(a_create_that_may_have_landed_is_never_called_a_failure),
        CASE(a_create_that_was_refused_is_not_called_unknown),
        CASE(a_create_is_attempted_once_per_call),
        CASE(a_create_without_an_answer_gives_up_after_two_seconds),
        CASE(a_create_sent_twice_is_remembered_beyond_a_stale_connection),
        CASE(a_put_whose_folder_was_removed_under_it_is_sent_again),
        CASE(nobody_there_is_a_failure_that_surely_changed_nothing),
        CASE(a_read_stops_at_its_deadline),
        CASE(a_slow_read_is_overtaken_by_a_second_one),
        CASE(hedges_are_at_most_one_request_in_twenty),
        CASE(a_slow_line_is_not_given_up_as_long_as_bytes_come),
        CASE(after_too_many_failures_a_request_is_tried_once_until_others_succeed),
        CASE(a_store_that_says_slow_down_to_all_is_not_asked_for_ever),
        CASE(a_store_that_says_when_to_come_back_is_asked_again_then),
        CASE(every_sending_of_a_request_is_counted),
        CASE(the_bytes_of_bodies_are_counted_exactly),
        CASE(a_large_put_that_is_there_already_is_compared_piece_by_piece),
        CASE(only_old_uploads_below_the_prefix_are_ended),
        CASE(the_age_of_an_upload_is_measured_by_the_store_s_clock),
        CASE(keys_that_may_not_end_uploads_are_told_the_right_that_is_missing),
        CASE(the_quirks_of_a_store_are_learnt_and_nothing_is_left),
        CASE(a_store_that_fails_leaves_its_quirks_unknown),
        CASE(a_store_that_names_ever_other_regions_is_not_followed_for_ever),
        CASE(a_missing_bucket_is_no_empty_one),
        CASE(short_pages_are_joined),
        CASE(a_list_that_ends_too_early_is_walked_again),
        CASE(an_unordered_list_is_corrupt),
        CASE(a_large_put_survives_any_fault_at_all_of_its_steps),
        CASE(a_large_put_that_fails_leaves_no_parts),
        CASE(keys_that_are_not_deleted_are_an_error),
        CASE(a_store_without_bulk_deletes_gets_single_ones),
        CASE(a_clock_that_is_off_is_corrected_from_the_store),
        CASE(a_wrong_region_is_corrected_from_the_store),
        CASE(a_bucket_that_is_elsewhere_is_an_error_that_names_its_region),
        CASE(wrong_keys_are_named_without_being_shown),
        CASE(the_probe_refuses_a_store_that_would_lose_writes),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    s3sim_start(&sim);
    int failed = cmocka_run_group_tests_name("S3 with faults", tests, NULL, NULL);
    s3sim_stop(&sim);
    return failed;
}
