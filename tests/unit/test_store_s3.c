/*
 * The contract of every store, over the simulator or, when S3_TEST_ENDPOINT
 * names one (and S3_TEST_BUCKET a bucket that may be emptied), a real server.
 */
#include "unit/store_contract.h"

#include <limits.h>
#include <signal.h>

#include "base/log.h"
#include "store/store_s3.h"
#include "unit/s3sim.h"

static struct s3sim sim;

static struct store *open_s3(struct op *op, const char *endpoint, const char *bucket,
                             const char *const *environment)
{
    const struct store_s3_options options = {.endpoint = endpoint,
                                             .bucket = bucket,
                                             .region = "",
                                             .environment = environment};
    struct store *store = NULL;
    assert_int_equal(store_s3_open(op, &options, &store), ERR_OK);
    return store;
}

static void empty(struct fixture *f)
{
    const char *keys[1000];
    size_t n;
    do {
        n = COUNT_OF(keys);
        assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
        assert_int_equal(store_delete(&f->op, f->store, keys, n), ERR_OK);
    } while (n == COUNT_OF(keys));
    f->op.counters = (struct op_counters){0};
}

static int with_sim(void **state)
{
    struct fixture *f = fixture_new(state);
    s3sim_do(&sim, "{\"do\": \"reset\"}");
    f->store = open_s3(&f->op, sim.endpoint, "bucket", s3sim_environment);
    return 0;
}

/* The first list costs one more request, for finding out. */
static int with_folders(void **state)
{
    int failed = with_sim(state);
    s3sim_do(&sim, "{\"do\": \"set\", \"by_folder\": true, \"server\": \"SeaweedFS\"}");
    empty(*state);
    return failed;
}

/* SeaweedFS keeps the folders of deleted objects for a while: it lists them, and
 * nothing can have their names. There each test has a bucket of its own, made
 * beforehand. */
static const char *fresh_bucket(void)
{
    static char name[64];
    static unsigned used, count;
    const char *several = getenv("S3_TEST_BUCKETS");
    if (!several) return getenv("S3_TEST_BUCKET");
    if (!count) count = (unsigned)strtoul(several, NULL, 10);
    assert_true(used < count);
    snprintf(name, sizeof name, "%.40s-%u", getenv("S3_TEST_BUCKET"), ++used);
    return name;
}

static const char *last_bucket;

static int with_server(void **state)
{
    struct fixture *f = fixture_new(state);
    last_bucket = fresh_bucket();
    f->store = open_s3(&f->op, getenv("S3_TEST_ENDPOINT"), last_bucket,
                       (const char *const *)environ);
    empty(f);
    return 0;
}

static void the_probe_accepts_it_and_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    if (store_s3_probe(&f->op, f->store) != ERR_OK) fail_msg("%s", f->op.error);
    assert_lists(f, "", "", 0, 9, "");
}

enum { MANY = 2100 };

static void a_list_longer_than_a_page_of_the_store_is_whole(void **state)
{
    struct fixture *f = *state;
    const char *keys[MANY + 1];
    size_t n = COUNT_OF(keys);

    for (int i = 0; i < MANY; i++)
        assert_int_equal(create(f, op_printf(&f->op, "m/%d/%04d", i / 100, i), "x"),
                         ERR_OK);
    assert_int_equal(store_list(&f->op, f->store, "m/", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, MANY);
    for (size_t i = 1; i < MANY; i++)
        assert_true(strcmp(keys[i - 1], keys[i]) < 0);
    n = 1200;
    assert_int_equal(store_list(&f->op, f->store, "m/", "m/1/0150", 0, keys, &n),
                     ERR_OK);
    assert_int_equal(n, 1200);
    assert_string_equal(keys[0], "m/1/0151");
    n = MANY;
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, n), ERR_OK);
    assert_lists(f, "", "", 0, 9, "");
}

enum { LARGE = (33 << 20) + 5 };

static void count_rest(void *context)
{
    ++*(unsigned *)context;
}

static void a_large_object_is_put_in_parts_and_read_back_by_ranges(void **state)
{
    struct fixture *f = *state;
    uint8_t *bytes = mem_alloc(LARGE), *back = mem_calloc(1, LARGE);
    uint64_t random = 7;
    for (size_t i = 0; i < LARGE; i += 8) {
        uint64_t word = test_random(&random);
        memcpy(bytes + i, &word, LARGE - i < 8 ? LARGE - i : 8);
    }
    const struct slice parts[] = {slice_of(bytes, 1000),
                                  slice_of(bytes + 1000, LARGE - 2000), SLICE_EMPTY,
                                  slice_of(bytes + LARGE - 1000, 1000)};
    struct store_range ranges[9];
    for (size_t i = 0; i < 9; i++) {
        size_t from = LARGE / 9 * i, to = i == 8 ? LARGE : LARGE / 9 * (i + 1);
        ranges[i] = (struct store_range){.key = "large",
                                         .offset = from,
                                         .size = to - from,
                                         .data = back + from};
    }
    if (sim.pid) s3sim_do(&sim, "{\"do\": \"set\", \"keep_checks\": false}");
    unsigned rests = 0;
    f->op.rest = count_rest;
    f->op.rest_context = &rests;
    enum err e = store_put(&f->op, f->store, "large", parts, 4);
    f->op.rest = NULL;
    if (e) fail_msg("%s", f->op.error);
    assert_true(rests > 0);
    assert_int_equal(store_read(&f->op, f->store, ranges, 9), ERR_OK);
    assert_memory_equal(bytes, back, LARGE);
    assert_int_equal(store_put(&f->op, f->store, "large", parts, 4), ERR_OK);
    assert_int_equal(store_put(&f->op, f->store, "large", parts, 3), ERR_CONFLICT);
    bytes[LARGE - 1] ^= 1;
    assert_int_equal(store_put(&f->op, f->store, "large", parts, 4), ERR_CONFLICT);
    mem_free(bytes);
    mem_free(back);
}

/* ---- killed within an upload ---- */

enum { HALFWAY = 192 << 20, KILLS_MAX = 20, KILL_STEP_MS = 60, BEGIN_LOOKS_MAX = 1500 };

/* This program once more, as a process that puts a large object and does nothing else:
 * where it is to store it stands in its environment. */
static int put_until_killed(void)
{
    struct op op;
    struct slice body = slice_of(mem_calloc(1, HALFWAY), HALFWAY);
    op_init(&op, OP_NO_DEADLINE, 0);
    struct store *s = open_s3(&op, getenv("S3_TEST_PUT_AT"), getenv("S3_TEST_PUT_IN"),
                              (const char *const *)environ);
    return store_put(&op, s, "ns/killed/halfway", &body, 1) ? 1 : 0;
}

static pid_t start_putting(const char *endpoint, const char *bucket)
{
    char program[PATH_MAX]; /* the link itself would be valgrind, under valgrind */
    char *const arguments[] = {program, NULL};
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    pid_t pid;
    assert_true(size > 0);
    program[size] = 0;
    setenv("S3_TEST_PUT_AT", endpoint, 1);
    setenv("S3_TEST_PUT_IN", bucket, 1);
    if (!getenv("AWS_ACCESS_KEY_ID")) {
        setenv("AWS_ACCESS_KEY_ID", "test-key", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "test-secret", 1);
    }
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, arguments, environ), 0);
    return pid;
}

/* The simulator tells when the upload has begun; a real store is given time. */
static void let_it_begin(int attempt)
{
    if (!sim.pid) task_sleep_ms((int64_t)attempt * KILL_STEP_MS);
    for (int i = 0; sim.pid && i < BEGIN_LOOKS_MAX; i++) {
        s3sim_do(&sim, "{\"do\": \"uploads\"}");
        if (strcmp(sim.line, "[]") != 0) return;
        task_sleep_ms(20);
    }
}

/* A store may be busy yet with a part that was on its way. */
static enum err sweep_all(struct fixture *f, uint64_t *ended)
{
    enum err e = ERR_IO;
    for (int i = 0; i < 5 && e == ERR_IO; i++) {
        op_clear_error(&f->op);
        e = store_sweep(&f->op, f->store, "ns/", 0, ended);
        if (e) print_message("%s\n", f->op.error);
    }
    return e;
}

/* Kills it ever later, until an upload is left. */
static void what_a_killed_process_left_of_an_upload_is_ended(void **state)
{
    struct fixture *f = *state;
    const char *endpoint = sim.pid ? sim.endpoint : getenv("S3_TEST_ENDPOINT");
    const char *bucket = sim.pid ? "bucket" : last_bucket;
    const char *keys[1];
    uint64_t ended = 0, later = 0;
    size_t n = 1;

    if (sim.pid)
        s3sim_do(&sim, "{\"do\": \"set\", \"keep_checks\": false, "
                       "\"bytes_per_s\": 1000000}");
    for (int i = 1; i < KILLS_MAX && !ended; i++) {
        pid_t pid = start_putting(endpoint, bucket);
        int status;
        let_it_begin(i);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        task_sleep_ms(KILL_STEP_MS); /* what was sent may still arrive */
        assert_int_equal(store_sweep(&f->op, f->store, "ns/", 3600 * 1000, &ended),
                         ERR_OK);
        assert_int_equal(ended, 0); /* too young */
        if (sweep_all(f, &ended)) fail_msg("%s", f->op.error);
    }
    assert_int_equal(ended, 1);
    assert_int_equal(store_sweep(&f->op, f->store, "ns/", 0, &later), ERR_OK);
    assert_int_equal(later, 0);
    assert_int_equal(store_list(&f->op, f->store, "ns/", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 0);
}

#define S3_CASES(with)                                                                 \
    CONTRACT(with), CASE(the_probe_accepts_it_and_leaves_nothing_behind, with),        \
        CASE(a_list_longer_than_a_page_of_the_store_is_whole, with),                   \
        CASE(a_large_object_is_put_in_parts_and_read_back_by_ranges, with),            \
        CASE(what_a_killed_process_left_of_an_upload_is_ended, with)

int main(void)
{
    const struct CMUnitTest over_sim[] = {S3_CASES(with_sim)};
    const struct CMUnitTest over_folders[] = {S3_CASES(with_folders)};
    const struct CMUnitTest over_server[] = {S3_CASES(with_server)};

    log_init(LOG_ERROR, LOG_TEXT);
    if (getenv("S3_TEST_PUT_AT")) return put_until_killed();
    if (getenv("S3_TEST_ENDPOINT"))
        return cmocka_run_group_tests_name("store on an S3 server", over_server, NULL,
                                           NULL);
    s3sim_start(&sim);
    int failed =
        cmocka_run_group_tests_name("store on the S3 simulator", over_sim, NULL, NULL);
    failed += cmocka_run_group_tests_name("store that lists folder by folder",
                                          over_folders, NULL, NULL);
    s3sim_stop(&sim);
    return failed;
}
