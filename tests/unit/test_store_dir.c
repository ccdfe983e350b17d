/*
 * What the contract (test_store.c) does not say: the lock, the sweep, links, full
 * disks, failing system calls and killed processes. System calls are replaced through
 * dir_calls.
 */
#include "store/store_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/dir_calls.h"
#include "store/dir_start.h"
#include "unit/scratch.h"
#include "unit/test.h"

struct fixture {
    struct scratch scratch;
    struct store *store;
    struct op op;
    int poisoned;
};

static void count_poison(void *context, const char *why)
{
    struct fixture *f = context;
    assert_true(*why);
    f->poisoned++;
}

static enum err open_store(struct fixture *f, struct store **out)
{
    const struct store_dir_options options = {.root = f->scratch.path,
                                              .allow_unsafe_fs = true,
                                              .on_poison = count_poison,
                                              .poison_context = f};
    return store_dir_open(&f->op, &options, out);
}

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    op_init(&f->op, OP_NO_DEADLINE, 0);
    scratch_make(&f->scratch);
    *state = f;
    return open_store(f, &f->store);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    dir_calls = &dir_calls_libc;
    store_free(f->store);
    scratch_remove(&f->scratch);
    op_release(&f->op);
    mem_free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    store_free(f->store);
    f->store = NULL;
    assert_int_equal(open_store(f, &f->store), ERR_OK);
}

static const char *path_of(struct fixture *f, const char *name)
{
    return op_printf(&f->op, "%s/%s", f->scratch.path, name);
}

static bool there(struct fixture *f, const char *name)
{
    struct stat about;
    return lstat(path_of(f, name), &about) == 0;
}

static void make_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static size_t count_files(struct fixture *f, const char *name)
{
    DIR *folder = opendir(path_of(f, name));
    size_t count = 0;
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    assert_int_equal(closedir(folder), 0);
    return count;
}

static enum err create(struct fixture *f, const char *key, const char *text)
{
    op_clear_error(&f->op);
    return store_create(&f->op, f->store, key, slice_str(text));
}

static enum err get(struct fixture *f, const char *key, const char *expected)
{
    struct buf out = BUF_INIT;
    op_clear_error(&f->op);
    enum err e = store_get(&f->op, f->store, key, 1 << 20, &out);
    if (!e) assert_true(slice_equal(buf_slice(&out), slice_str(expected)));
    buf_release(&out);
    return e;
}

static enum err put_large(struct fixture *f, const char *key, size_t size)
{
    uint8_t *bytes = mem_calloc(1, size);
    struct slice part = slice_of(bytes, size);
    op_clear_error(&f->op);
    enum err e = store_put(&f->op, f->store, key, &part, 1);
    mem_free(bytes);
    return e;
}

/* Replaced system calls: they count, and misbehave as `trouble` says. */

static struct {
    int fsyncs, opens, calls;
    int fail_call, fail_errno; /* the how many-th call of any kind fails */
    bool fail_on;              /* and every later one too */
    int fail_fsync;            /* the how many-th fsync fails */
    int waits, fail_wait;      /* for the disk; the how many-th of them … */
    int wait_error;            /* … fails so */
    bool no_openat2, short_writes, careless_link;
    const char *no_space_while; /* pwrite finds no space while this path exists */
    void (*after_link)(void *);
    void *context;
} trouble;

static bool fails(void)
{
    trouble.calls++;
    if (!trouble.fail_call) return false;
    if (trouble.fail_on ? trouble.calls < trouble.fail_call
                        : trouble.calls != trouble.fail_call)
        return false;
    errno = trouble.fail_errno;
    return true;
}

static ssize_t troubled_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct stat about;
    if (fails()) return -1;
    if (trouble.no_space_while && stat(trouble.no_space_while, &about) == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (trouble.short_writes && trouble.calls % 2) {
        errno = EINTR;
        return -1;
    }
    return pwrite(fd, data, trouble.short_writes && size > 3 ? 3 : size, offset);
}

static int troubled_fsync(int fd)
{
    if (++trouble.fsyncs == trouble.fail_fsync) {
        errno = EIO;
        return -1;
    }
    return fails() ? -1 : fsync(fd);
}

static int troubled_linkat(int from, const char *old_name, int to, const char *name,
                           int flags)
{
    if (fails()) return -1;
    if (trouble.careless_link) return 0;
    int failed = linkat(from, old_name, to, name, flags);
    if (!failed && trouble.after_link) trouble.after_link(trouble.context);
    return failed;
}

static int troubled_unlinkat(int folder, const char *name, int flags)
{
    return fails() ? -1 : unlinkat(folder, name, flags);
}

static int troubled_mkdirat(int folder, const char *name, mode_t mode)
{
    return fails() ? -1 : mkdirat(folder, name, mode);
}

static int troubled_open(int root, const char *path, int flags)
{
    trouble.opens++;
    if (trouble.no_openat2) {
        errno = ENOSYS;
        return -1;
    }
    return dir_calls_libc.open_beneath(root, path, flags);
}

/* A write to the disk fails, of which the kernel tells but once. */
static int troubled_sync(int fd, off_t offset, off_t size, unsigned flags)
{
    if (flags & SYNC_FILE_RANGE_WAIT_BEFORE && ++trouble.waits == trouble.fail_wait) {
        errno = trouble.wait_error;
        return -1;
    }
    return sync_file_range(fd, offset, size, flags);
}

static void begin_trouble(void)
{
    static const struct dir_calls calls = {troubled_pwrite,  troubled_fsync,
                                           troubled_linkat,  troubled_unlinkat,
                                           troubled_mkdirat, troubled_open,
                                           troubled_sync};
    memset(&trouble, 0, sizeof trouble);
    dir_calls = &calls;
}

/* Opening. */

static void a_second_process_on_a_root_is_refused_by_pid(void **state)
{
    struct fixture *f = *state;
    struct store *second = NULL;
    assert_int_equal(open_store(f, &second), ERR_BUSY);
    assert_null(second);
    assert_non_null(strstr(f->op.error, op_printf(&f->op, "pid %ld", (long)getpid())));
    assert_non_null(strstr(f->op.error, f->scratch.path));
    reopen(f);
}

static void a_missing_root_is_made_with_its_parents(void **state)
{
    struct fixture *f = *state;
    struct store *store = NULL;
    const struct store_dir_options options = {.root = path_of(f, "x//y/z/"),
                                              .allow_unsafe_fs = true};
    assert_int_equal(store_dir_open(&f->op, &options, &store), ERR_OK);
    assert_int_equal(store_create(&f->op, store, "a/b", slice_str("1")), ERR_OK);
    assert_true(there(f, "x/y/z/a/b"));
    store_free(store);
}

static void a_root_that_is_no_folder_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *store = NULL;
    const struct store_dir_options options = {.root = path_of(f, "file")};
    make_file(path_of(f, "file"), "x");
    assert_int_not_equal(store_dir_open(&f->op, &options, &store), ERR_OK);
    assert_non_null(strstr(f->op.error, "file"));
}

static void a_file_system_that_fails_the_self_test_is_refused(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    begin_trouble();
    trouble.careless_link = true;
    assert_int_equal(open_store(f, &f->store), ERR_INVALID);
    assert_non_null(strstr(f->op.error, "link"));
    for (int i = 1; i <= 2; i++) {
        begin_trouble();
        trouble.fail_fsync = i;
        assert_int_equal(open_store(f, &f->store), ERR_INVALID);
    }
    assert_int_equal(count_files(f, ".tmp"), 0);
    dir_calls = &dir_calls_libc;
    assert_int_equal(open_store(f, &f->store), ERR_OK);
}

static void temporaries_of_dead_processes_are_swept(void **state)
{
    struct fixture *f = *state;
    char ours[DIR_TEMP_NAME_MAX], boot[64] = "";

    pid_t child = fork();
    if (child == 0) _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    dir_temp_name(ours);
    memcpy(boot, ours, strcspn(ours, "-"));

    const char *dead = op_printf(&f->op, ".tmp/%s-%ld-1-0", boot, (long)child);
    const char *reused = op_printf(&f->op, ".tmp/%s-%ld-1-0", boot, (long)getpid());
    const char *rebooted = ".tmp/00ff-1-1-7";
    const char *alive = op_printf(&f->op, ".tmp/%s", ours);
    const char *stranger = ".tmp/notes";
    make_file(path_of(f, dead), "x");
    make_file(path_of(f, reused), "x");
    make_file(path_of(f, rebooted), "x");
    make_file(path_of(f, alive), "x");
    make_file(path_of(f, stranger), "x");
    reopen(f);
    assert_false(there(f, dead) || there(f, reused) || there(f, rebooted));
    assert_true(there(f, alive) && there(f, stranger));
}

/* Paths. */

/* By openat2 a link is DENIED; step by step it looks like a file where a folder should
 * be, so that there is nothing behind it. */
static bool refused(enum err e)
{
    return e == ERR_DENIED || e == ERR_NOT_FOUND;
}

static void try_to_escape(struct fixture *f)
{
    uint8_t byte;
    struct store_range range = {.key = "out/secret", .size = 1, .data = &byte};
    const char *keys[8] = {"out/secret"};
    size_t n = 8;

    assert_true(refused(get(f, "out/secret", "s")));
    assert_true(refused(get(f, "file", "s")));
    assert_true(refused(store_read(&f->op, f->store, &range, 1)));
    assert_int_equal(create(f, "out/new", "x"), ERR_DENIED);
    assert_int_equal(create(f, "file", "x"), ERR_CONFLICT);
    (void)store_delete(&f->op, f->store, keys, 1);
    assert_true(there(f, "outside/secret"));
    assert_false(there(f, "outside/new"));
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    for (size_t i = 0; i < n; i++)
        assert_null(strstr(keys[i], "secret"));
    n = 8;
    assert_int_equal(store_list(&f->op, f->store, "out/", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 0);
}

static void symbolic_links_lead_nowhere(void **state)
{
    struct fixture *f = *state;
    struct fixture inner = {.poisoned = 0};

    /* The store is a folder inside the scratch folder, so there is an outside. */
    op_init(&inner.op, OP_NO_DEADLINE, 0);
    inner.scratch = f->scratch;
    const struct store_dir_options options = {.root = path_of(f, "root"),
                                              .allow_unsafe_fs = true};
    assert_int_equal(mkdir(path_of(f, "outside"), 0700), 0);
    make_file(path_of(f, "outside/secret"), "s");
    assert_int_equal(store_dir_open(&f->op, &options, &inner.store), ERR_OK);
    assert_int_equal(symlink("../outside", path_of(f, "root/out")), 0);
    assert_int_equal(symlink("../outside/secret", path_of(f, "root/file")), 0);

    try_to_escape(&inner);
    begin_trouble();
    trouble.no_openat2 = true;
    try_to_escape(&inner);
    assert_true(trouble.opens > 0);
    store_free(inner.store);
    op_release(&inner.op);
}

static void kernels_without_openat2_work_too(void **state)
{
    struct fixture *f = *state;
    const char *keys[4];
    size_t n = 4;

    begin_trouble();
    trouble.no_openat2 = true;
    reopen(f);
    assert_int_equal(create(f, "a/b/c/1", "one"), ERR_OK);
    assert_int_equal(create(f, "a/b/c/1", "two"), ERR_CONFLICT);
    assert_int_equal(get(f, "a/b/c/1", "one"), ERR_OK);
    assert_int_equal(get(f, "a/x/c/1", ""), ERR_NOT_FOUND);
    assert_int_equal(create(f, "2", "two"), ERR_OK);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(store_delete(&f->op, f->store, keys, 2), ERR_OK);
    assert_false(there(f, "a"));
}

static void what_others_put_into_the_folder_is_not_listed(void **state)
{
    struct fixture *f = *state;
    const char *keys[8];
    size_t n = 8;

    assert_int_equal(create(f, "a/1", "x"), ERR_OK);
    make_file(path_of(f, "a/.hidden"), "x");
    make_file(path_of(f, "a/with space"), "x");
    make_file(path_of(f, "a/back~"), "x");
    assert_int_equal(mkfifo(path_of(f, "a/pipe"), 0600), 0);
    assert_int_equal(store_list(&f->op, f->store, "", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 1);
    assert_string_equal(keys[0], "a/1");
    n = 8;
    assert_int_equal(store_list(&f->op, f->store, ".tmp/", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(get(f, "a/pipe", ""), ERR_NOT_FOUND);
    assert_int_equal(store_delete(&f->op, f->store, (const char *[]){"a/1"}, 1),
                     ERR_OK);
    assert_true(there(f, "a/.hidden"));
}

static void folders_left_empty_are_removed(void **state)
{
    struct fixture *f = *state;
    const char *const keys[] = {"a/b/c/1", "a/b/c/2", "a/x/3"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(create(f, keys[i], "x"), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, 1), ERR_OK);
    assert_true(there(f, "a/b/c"));
    assert_int_equal(store_delete(&f->op, f->store, keys + 1, 1), ERR_OK);
    assert_true(!there(f, "a/b") && there(f, "a/x"));
    assert_int_equal(create(f, "a/b/c/1", "x"), ERR_OK);
    assert_int_equal(store_delete(&f->op, f->store, keys, 3), ERR_OK);
    assert_false(there(f, "a"));
}

static void a_list_opens_only_folders_that_may_hold_what_it_wants(void **state)
{
    struct fixture *f = *state;
    const char *keys[200];
    size_t n = 1;

    for (int i = 0; i < 50; i++)
        assert_int_equal(create(f, op_printf(&f->op, "ns/%02d/wal/1", i), "x"), ERR_OK);
    begin_trouble();
    assert_int_equal(store_list(&f->op, f->store, "ns/10/", "", 0, keys, &n), ERR_OK);
    assert_string_equal(keys[0], "ns/10/wal/1");
    assert_int_equal(trouble.opens, 2); /* ns/10, wal */
    trouble.opens = 0;
    n = 1;
    assert_int_equal(store_list(&f->op, f->store, "", "ns/30/wal/1", 0, keys, &n),
                     ERR_OK);
    assert_string_equal(keys[0], "ns/31/wal/1");
    assert_int_equal(trouble.opens, 6); /* root, ns, 30, its wal, 31, its wal */
    trouble.opens = 0;
    n = 200;
    assert_int_equal(store_list(&f->op, f->store, "ns/4", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, 10);
    assert_int_equal(trouble.opens, 1 + 2 * 10);
}

/* Durability. */

static void a_create_costs_two_fsyncs(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/b/1", "x"), ERR_OK);
    begin_trouble();
    assert_int_equal(create(f, "a/b/2", "x"), ERR_OK);
    assert_int_equal(trouble.fsyncs, 2);
}

static void a_new_folder_is_made_durable_up_to_the_root(void **state)
{
    struct fixture *f = *state;
    begin_trouble();
    assert_int_equal(create(f, "a/b/1", "x"), ERR_OK);
    assert_int_equal(trouble.fsyncs, 4); /* the file; root and a; then a/b */
}

static void a_reader_makes_what_it_meets_first_durable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/b/1", "x"), ERR_OK);
    begin_trouble();
    assert_int_equal(get(f, "a/b/1", "x"), ERR_OK);
    assert_int_equal(trouble.fsyncs, 0); /* our own create has done it */

    reopen(f);
    trouble.fsyncs = 0;
    assert_int_equal(get(f, "a/b/1", "x"), ERR_OK);
    assert_int_equal(trouble.fsyncs, 3); /* root, a, a/b */
    assert_int_equal(get(f, "a/b/1", "x"), ERR_OK);
    assert_int_equal(get(f, "a/b/none", ""), ERR_NOT_FOUND);
    assert_int_equal(trouble.fsyncs, 3);
}

static void reading_an_object_does_not_note_when(void **state)
{
    struct fixture *f = *state;
    const struct timespec long_ago[] = {{1000000, 0}, {2000000, 0}};
    char path[4096];
    struct stat about;
    assert_int_equal(create(f, "a/1", "x"), ERR_OK);
    (void)snprintf(path, sizeof path, "%s/a/1", f->scratch.path);
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    assert_int_equal(get(f, "a/1", "x"), ERR_OK);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_atim.tv_sec, 1000000);
}

static void a_reader_that_cannot_make_it_durable_does_not_answer(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/1", "x"), ERR_OK);
    reopen(f);
    begin_trouble();
    trouble.fail_fsync = 1;
    assert_int_equal(get(f, "a/1", "x"), ERR_IO);
    assert_int_equal(f->poisoned, 1);
}

static int fsyncs_of_the_reader;

static void read_between_link_and_fsync(void *context)
{
    struct fixture *f = context;
    int before = trouble.fsyncs;
    trouble.after_link = NULL;
    assert_int_equal(get(f, "a/2", "x"), ERR_OK);
    fsyncs_of_the_reader = trouble.fsyncs - before;
}

static void a_reader_between_link_and_fsync_does_the_fsync_itself(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a/1", "x"), ERR_OK);
    begin_trouble();
    trouble.after_link = read_between_link_and_fsync;
    trouble.context = f;
    assert_int_equal(create(f, "a/2", "x"), ERR_OK);
    assert_int_equal(fsyncs_of_the_reader, 1);
}

static void a_failed_fsync_poisons_the_store(void **state)
{
    struct fixture *f = *state;
    const char *keys[1] = {"a/1"};
    assert_int_equal(create(f, "a/1", "x"), ERR_OK);

    for (int nth = 1; nth <= 2; nth++) {
        reopen(f);
        assert_int_equal(create(f, op_printf(&f->op, "a/warm%d", nth), "x"), ERR_OK);
        f->poisoned = 0;
        begin_trouble();
        trouble.fail_fsync = nth; /* the file's, then the folder's */
        assert_int_equal(create(f, "a/2", "x"), nth == 1 ? ERR_IO : ERR_UNKNOWN);
        assert_int_equal(f->poisoned, 1);
        assert_int_equal(there(f, "a/2"), nth == 2);
        assert_int_equal(create(f, "a/3", "x"), ERR_IO);
        assert_int_equal(put_large(f, "a/4", 10), ERR_IO);
        assert_int_equal(store_delete(&f->op, f->store, keys, 1), ERR_IO);
        assert_int_equal(f->poisoned, 1);
        assert_true(there(f, "a/1") && !there(f, "a/3") && !there(f, "a/4"));
        assert_int_equal(count_files(f, ".tmp"), 0);
        dir_calls = &dir_calls_libc;
    }
}

/* Some MiB of it are on their way to the disk at once. */
static void a_large_object_that_the_disk_refuses_poisons_the_store(void **state)
{
    struct fixture *f = *state;
    enum { LARGE = 8 << 20 };
    static const struct {
        int error;
        enum err err;
        int poisoned;
    } cases[] = {{EIO, ERR_IO, 1}, {ENOSPC, ERR_FULL, 0}, {ENOSYS, ERR_OK, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *key = op_printf(&f->op, "a/%zu", i);
        reopen(f);
        f->poisoned = 0;
        begin_trouble();
        trouble.fail_wait = 2;
        trouble.wait_error = cases[i].error;
        assert_int_equal(put_large(f, key, LARGE), cases[i].err);
        assert_int_equal(f->poisoned, cases[i].poisoned);
        assert_int_equal(there(f, key), cases[i].err == ERR_OK);
        assert_int_equal(count_files(f, ".tmp"), 0);
        dir_calls = &dir_calls_libc;
    }
}

static void a_failed_fsync_of_a_delete_poisons_too(void **state)
{
    struct fixture *f = *state;
    const char *keys[1] = {"a/1"};
    assert_int_equal(create(f, "a/1", "x"), ERR_OK);
    begin_trouble();
    trouble.fail_fsync = 1;
    assert_int_equal(store_delete(&f->op, f->store, keys, 1), ERR_IO);
    assert_int_equal(f->poisoned, 1);
}

/* Space. */

static void short_and_interrupted_writes_are_finished(void **state)
{
    struct fixture *f = *state;
    begin_trouble();
    trouble.short_writes = true;
    assert_int_equal(create(f, "a/1", "twenty-three characters"), ERR_OK);
    assert_int_equal(get(f, "a/1", "twenty-three characters"), ERR_OK);
    assert_true(trouble.calls > 16);
}

static void the_ballast_gives_small_objects_room(void **state)
{
    struct fixture *f = *state;
    if (!there(f, ".ballast")) SKIP("less than 1 GiB free, so there is no ballast");
    if (!file_system_is_roomy(f->scratch.path, UINT64_MAX))
        SKIP("less than 5 % of the file system are free, so no ballast comes back");
    begin_trouble();
    trouble.no_space_while = path_of(f, ".ballast");
    assert_int_equal(put_large(f, "s/large", 1 << 20), ERR_FULL);
    assert_true(there(f, ".ballast"));
    assert_int_equal(create(f, "m/small", "manifest"), ERR_OK);
    assert_int_equal(get(f, "m/small", "manifest"), ERR_OK);

    /* The file system has 5 % free, so soon a write takes the ballast back. */
    trouble.no_space_while = NULL;
    assert_int_equal(put_large(f, "s/large", 1 << 20), ERR_FULL);
    task_sleep_ms(600);
    assert_int_equal(put_large(f, "s/large", 1 << 20), ERR_OK);
    assert_true(there(f, ".ballast"));
    assert_int_equal(count_files(f, ".tmp"), 0);
    assert_int_equal(f->poisoned, 0);
}

static void a_full_file_system_refuses_cleanly_and_recovers(void **state)
{
    struct fixture *f = *state;
    struct scratch disk;
    struct fixture small = {.poisoned = 0};
    const char *keys[64], *key = NULL;
    size_t n = 64, made = 0;

    scratch_make(&disk);
    if (mount("none", disk.path, "tmpfs", 0, "size=4m,mode=700") != 0) {
        scratch_remove(&disk);
        SKIP("mounting a small tmpfs is not permitted");
    }
    small.scratch = disk;
    op_init(&small.op, OP_NO_DEADLINE, 0);
    assert_int_equal(open_store(&small, &small.store), ERR_OK);
    assert_false(there(&small, ".ballast"));
    enum err e;
    do {
        key = op_printf(&f->op, "s/%zu", made);
        e = put_large(&small, key, 100000);
        if (!e) made++;
    } while (!e && made < 64);
    assert_int_equal(e, ERR_FULL);
    assert_true(made > 30);
    assert_false(there(&small, key));
    assert_int_equal(count_files(&small, ".tmp"), 0);
    assert_int_equal(store_list(&small.op, small.store, "s/", "", 0, keys, &n), ERR_OK);
    assert_int_equal(n, made);

    /* Large ones stay refused until 5 % are free; small ones go on while they fit. */
    assert_int_equal(put_large(&small, "s/x", 66000), ERR_FULL);
    while (!(e = create(&small, op_printf(&f->op, "m/%zu", made), "small")))
        made++;
    assert_int_equal(e, ERR_FULL);
    assert_int_equal(small.poisoned, 0);
    assert_int_equal(store_delete(&small.op, small.store, keys, 4), ERR_OK);
    task_sleep_ms(600);
    assert_int_equal(put_large(&small, key, 100000), ERR_OK);

    store_free(small.store);
    op_release(&small.op);
    assert_int_equal(umount(disk.path), 0);
    scratch_remove(&disk);
}

/* Every call failing in turn. */

static enum err script(struct fixture *f, enum err answers[5])
{
    static const char *const keys[] = {"w/a/1"};
    size_t at = 0;
    answers[at++] = create(f, "w/a/1", "one");
    answers[at++] = create(f, "w/b/2", "two");
    answers[at++] = put_large(f, "s/3", 100000);
    answers[at++] = store_delete(&f->op, f->store, keys, 1);
    answers[at++] = create(f, "w/b/4", "four");
    for (size_t i = 0; i < at; i++)
        if (answers[i]) return answers[i];
    return ERR_OK;
}

static void check_answers(struct fixture *f, const enum err answers[5])
{
    static const char *const keys[] = {"w/a/1", "w/b/2", "s/3", NULL, "w/b/4"};
    for (size_t i = 0; i < 5; i++) {
        enum err e = answers[i];
        assert_true(e == ERR_OK || e == ERR_IO || e == ERR_FULL || e == ERR_UNKNOWN);
        if (!keys[i]) continue;
        bool deleted = i == 0 && answers[3] == ERR_OK;
        bool unsure = e == ERR_UNKNOWN || (i == 0 && answers[3]) || (i == 2 && e);
        if (!unsure) assert_int_equal(there(f, keys[i]), e == ERR_OK && !deleted);
    }
}

static void fail_each_call(struct fixture *f, int error, bool on)
{
    enum err answers[5], e = ERR_IO;
    int n = 0;
    do {
        dir_calls = &dir_calls_libc;
        store_free(f->store);
        f->store = NULL;
        scratch_remove(&f->scratch);
        assert_int_equal(open_store(f, &f->store), ERR_OK);
        begin_trouble();
        trouble.fail_call = ++n;
        trouble.fail_on = on;
        trouble.fail_errno = error;
        e = script(f, answers);
        check_answers(f, answers);
        assert_true(n < 200);
    } while (trouble.calls >= n);
    assert_int_equal(e, ERR_OK);
    assert_true(n > 20);
}

static void any_call_may_fail_once_or_from_then_on(void **state)
{
    struct fixture *f = *state;
    fail_each_call(f, EIO, false);
    fail_each_call(f, EIO, true);
    fail_each_call(f, ENOSPC, false);
    fail_each_call(f, ENOSPC, true);
}

/* Killed processes. */

enum { KILLS = 8 };

static _Noreturn void write_until_killed(struct fixture *f, int round, int report)
{
    char bytes[5000];
    for (int i = 0;; i++) {
        char key[64];
        snprintf(key, sizeof key, "k/%d/%d/%d", round, i / 10, i);
        memset(bytes, 'a' + i % 26, sizeof bytes);
        if (store_create(&f->op, f->store, key, slice_of(bytes, sizeof bytes)))
            _exit(1);
        if (write(report, &i, sizeof i) != sizeof i) _exit(1);
    }
}

static void a_killed_process_leaves_whole_objects_and_no_temporaries(void **state)
{
    struct fixture *f = *state;
    uint64_t random = test_seed();

    for (int round = 0; round < KILLS; round++) {
        int pipes[2], acked = -1, last;
        assert_int_equal(pipe(pipes), 0);
        store_free(f->store);
        f->store = NULL;
        pid_t child = fork();
        if (child == 0) {
            if (open_store(f, &f->store)) _exit(1);
            write_until_killed(f, round, pipes[1]);
        }
        (void)close(pipes[1]);
        assert_int_equal(read(pipes[0], &acked, sizeof acked), sizeof acked);
        (void)usleep((useconds_t)(test_random(&random) % 20000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(pipes[0], &last, sizeof last) == sizeof last)
            acked = last;
        (void)close(pipes[0]);

        assert_int_equal(open_store(f, &f->store), ERR_OK);
        assert_int_equal(count_files(f, ".tmp"), 0);
        for (int i = 0; i <= acked + 1; i++) {
            struct buf out = BUF_INIT;
            char *key = op_printf(&f->op, "k/%d/%d/%d", round, i / 10, i);
            enum err e = store_get(&f->op, f->store, key, 5000, &out);
            assert_true(e == ERR_OK || (e == ERR_NOT_FOUND && i == acked + 1));
            if (!e) assert_int_equal(out.size, 5000);
            for (size_t b = 0; b < out.size; b++)
                assert_int_equal(out.data[b], 'a' + i % 26);
            buf_release(&out);
        }
    }
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_second_process_on_a_root_is_refused_by_pid),
        CASE(a_missing_root_is_made_with_its_parents),
        CASE(a_root_that_is_no_folder_is_refused),
        CASE(a_file_system_that_fails_the_self_test_is_refused),
        CASE(temporaries_of_dead_processes_are_swept),
        CASE(symbolic_links_lead_nowhere),
        CASE(kernels_without_openat2_work_too),
        CASE(what_others_put_into_the_folder_is_not_listed),
        CASE(folders_left_empty_are_removed),
        CASE(a_list_opens_only_folders_that_may_hold_what_it_wants),
        CASE(a_create_costs_two_fsyncs),
        CASE(a_new_folder_is_made_durable_up_to_the_root),
        CASE(a_reader_makes_what_it_meets_first_durable),
        CASE(reading_an_object_does_not_note_when),
        CASE(a_reader_that_cannot_make_it_durable_does_not_answer),
        CASE(a_reader_between_link_and_fsync_does_the_fsync_itself),
        CASE(a_failed_fsync_poisons_the_store),
        CASE(a_large_object_that_the_disk_refuses_poisons_the_store),
        CASE(a_failed_fsync_of_a_delete_poisons_too),
        CASE(short_and_interrupted_writes_are_finished),
        CASE(the_ballast_gives_small_objects_room),
        CASE(a_full_file_system_refuses_cleanly_and_recovers),
        CASE(any_call_may_fail_once_or_from_then_on),
        CASE(a_killed_process_leaves_whole_objects_and_no_temporaries),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("store_dir", tests, NULL, NULL);
}
