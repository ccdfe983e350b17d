#include "cache/disk_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "unit/scratch.h"
#include "unit/test.h"

enum { SIZE = 8 << 20, MEMORY = 4 << 20, RETRY_MS = 20, PATIENCE_MS = 20000 };

struct world {
    struct scratch scratch;
    char folder[300], file[400];
    struct disk_cache *disk;
    uint64_t size;
};

static void world_open(struct world *w)
{
    struct disk_cache_options options = {.folder = w->folder,
                                         .size_max = w->size,
                                         .memory_max = MEMORY,
                                         .retry_ms = RETRY_MS};
    w->disk = disk_cache_new(&options);
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    log_init(LOG_ERROR, LOG_TEXT);
    scratch_make_roomy(&w->scratch);
    (void)snprintf(w->folder, sizeof w->folder, "%s/deep/cache", w->scratch.path);
    (void)snprintf(w->file, sizeof w->file, "%s/ranges.slab", w->folder);
    w->size = SIZE;
    world_open(w);
    assert_true(disk_cache_usage(w->disk).open);
}

static void world_restart(struct world *w)
{
    disk_cache_free(w->disk);
    world_open(w);
}

static void world_release(struct world *w)
{
    disk_cache_free(w->disk);
    scratch_remove(&w->scratch);
}

static void settle(struct world *w)
{
    assert_true(disk_cache_settle(w->disk, clock_ms() + PATIENCE_MS));
}

static uint8_t *made_up(const char *key, uint64_t offset, size_t size)
{
    uint8_t *bytes = mem_alloc(size + 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(strlen(key) * 31 + (offset + i) * 7 + ((offset + i) >> 8));
    return bytes;
}

static void offer(struct world *w, const char *key, uint64_t offset, size_t size,
                  bool again)
{
    uint8_t *bytes = made_up(key, offset, size);
    disk_cache_offer(w->disk, key, offset, slice_of(bytes, size), again);
    mem_free(bytes);
}

/* Whether it is there; what is there is right. */
static bool has(struct world *w, const char *key, uint64_t offset, size_t size)
{
    uint8_t *want = made_up(key, offset, size), *got = mem_calloc(1, size + 1);
    struct disk_range range = {.key = key, .offset = offset, .size = size, .data = got};
    disk_cache_read(w->disk, &range, 1);
    if (range.found) assert_memory_equal(got, want, size);
    mem_free(want);
    mem_free(got);
    return range.found;
}

/* Offers until it is there: for what is tried again later. */
static void insist(struct world *w, const char *key)
{
    int64_t deadline_ms = clock_ms() + PATIENCE_MS;
    for (bool there = false; !there;) {
        assert_true(clock_ms() < deadline_ms);
        offer(w, key, 0, 1000, true);
        settle(w);
        there = has(w, key, 0, 1000);
        if (!there) task_sleep_ms(RETRY_MS / 2);
    }
}

static void ranges_of_every_size_come_back_also_after_a_restart(void **state)
{
    (void)state;
    struct world w;
    static const size_t sizes[] = {1,     63,    64,    4096,   32767,
                                   32768, 32769, 99999, 131072, 1000 * 1000};
    world_init(&w);
    for (int times = 0; times < 2; times++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            if (times == 0) offer(&w, "a/key", i << 32, sizes[i], false);
            settle(&w);
            assert_true(has(&w, "a/key", i << 32, sizes[i]));
            assert_false(has(&w, "a/key", i << 32, sizes[i] + 1));
        }
        assert_false(has(&w, "a/key", 0, 0));
        world_restart(&w);
    }
    assert_true(disk_cache_usage(w.disk).recovered >= COUNT_OF(sizes));
    world_release(&w);
}

static void a_round_reads_what_is_there_and_leaves_the_rest(void **state)
{
    (void)state;
    struct world w;
    struct disk_range ranges[40];
    uint8_t *room = mem_alloc(40 * 1000);
    world_init(&w);
    for (uint64_t i = 0; i < 40; i += 2)
        offer(&w, "k", i * 1000, 1000, false);
    settle(&w);
    for (uint64_t i = 0; i < 40; i++)
        ranges[i] = (struct disk_range){.key = "k",
                                        .offset = i * 1000,
                                        .size = 1000,
                                        .data = room + i * 1000};
    disk_cache_read(w.disk, ranges, 40);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(ranges[i].found, i % 2 == 0);
    disk_cache_read(w.disk, NULL, 0);
    mem_free(room);
    world_release(&w);
}

static void what_is_forgotten_is_a_miss(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    offer(&w, "k", 5, 100000, false);
    settle(&w);
    assert_true(has(&w, "k", 5, 100000));
    disk_cache_forget(w.disk, "k", 5, 100000);
    assert_false(has(&w, "k", 5, 100000));
    offer(&w, "k", 5, 100000, false);
    settle(&w);
    assert_true(has(&w, "k", 5, 100000));
    world_release(&w);
}

static void a_queue_without_room_drops_and_says_how_much(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    disk_cache_free(w.disk);
    struct disk_cache_options small = {.folder = w.folder,
                                       .size_max = SIZE,
                                       .memory_max = 32 << 10};
    w.disk = disk_cache_new(&small); /* 16 KiB of queue, pieces of 28 */
    offer(&w, "large", 0, 40 << 10, true);
    settle(&w);
    assert_false(has(&w, "large", 0, 40 << 10));
    assert_in_range(disk_cache_usage(w.disk).dropped_bytes, 28 << 10, 29 << 10);
    offer(&w, "small", 0, 10 << 10, true);
    settle(&w);
    assert_true(has(&w, "small", 0, 10 << 10));
    for (uint64_t i = 0; i < 200; i++) {
        offer(&w, "many", i << 32, 5 << 10, true);
        assert_true(disk_cache_usage(w.disk).queued_bytes <= 16 << 10);
    }
    settle(&w);
    assert_int_equal(disk_cache_usage(w.disk).queued_bytes, 0);
    world_release(&w);
}

static void a_scan_does_not_push_out_what_is_in_use(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    for (uint64_t i = 0; i < 20; i++)
        insist(&w, "hot");
    uint64_t before = 0;
    for (uint64_t i = 0; i < 10000; i++) { /* ten times the size, each once */
        offer(&w, "scan", i << 32, 8192, false);
        if (i % 16 == 0) settle(&w);
        if (i == 2000) before = disk_cache_usage(w.disk).written_bytes;
    }
    assert_true(has(&w, "hot", 0, 1000));
    assert_int_equal(disk_cache_usage(w.disk).written_bytes, before);
    world_release(&w);
}

static void a_folder_that_vanishes_is_made_again(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    insist(&w, "before");
    assert_int_equal(unlink(w.file), 0);
    assert_int_equal(rmdir(w.folder), 0);
    int64_t deadline_ms = clock_ms() + PATIENCE_MS;
    while (access(w.file, F_OK) != 0 && clock_ms() < deadline_ms)
        task_sleep_ms(5);
    assert_int_equal(access(w.file, F_OK), 0);
    insist(&w, "after");
    assert_true(disk_cache_usage(w.disk).failures >= 1);
    world_restart(&w);
    assert_true(has(&w, "after", 0, 1000));
    world_release(&w);
}

static void a_folder_that_cannot_be_made_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    char deep[300];
    world_init(&w);
    disk_cache_free(w.disk);
    (void)snprintf(deep, sizeof deep, "%s/deep", w.scratch.path);
    assert_int_equal(unlink(w.file), 0);
    assert_int_equal(rmdir(w.folder), 0);
    assert_int_equal(rmdir(deep), 0);
    int fd = open(deep, O_WRONLY | O_CREAT, 0600); /* a file where a folder is wanted */
    close(fd);
    world_open(&w);
    assert_false(disk_cache_usage(w.disk).open);
    assert_false(has(&w, "k", 0, 1000));
    offer(&w, "k", 0, 1000, true);
    settle(&w);
    disk_cache_forget(w.disk, "k", 0, 1000);
    assert_int_equal(unlink(deep), 0);
    insist(&w, "k");
    world_release(&w);
}

static void damage_under_a_running_process_is_a_miss(void **state)
{
    (void)state;
    struct world w;
    uint64_t random = test_seed();
    world_init(&w);
    for (uint64_t i = 0; i < 50; i++)
        offer(&w, "k", i << 32, 20000, true);
    settle(&w);
    int fd = open(w.file, O_WRONLY);
    for (int i = 0; i < 200; i++) {
        uint8_t byte = (uint8_t)test_random(&random);
        assert_int_equal(pwrite(fd, &byte, 1,
                                (off_t)(4096 + test_random(&random) % 1000000)),
                         1);
    }
    close(fd);
    int there = 0;
    for (uint64_t i = 0; i < 50; i++)
        there += has(&w, "k", i << 32, 20000);
    assert_in_range(there, 0, 40);
    assert_true(disk_cache_usage(w.disk).damaged > 0);
    for (uint64_t i = 0; i < 50; i++)
        offer(&w, "k", i << 32, 20000, true);
    settle(&w);
    for (uint64_t i = 0; i < 50; i++)
        assert_true(has(&w, "k", i << 32, 20000));
    world_release(&w);
}

static void a_file_cut_under_a_running_process_starts_anew(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    insist(&w, "k");
    assert_int_equal(truncate(w.file, 0), 0);
    assert_false(has(&w, "k", 0, 1000));
    insist(&w, "k");
    world_restart(&w);
    insist(&w, "k");
    world_release(&w);
}

static void a_second_one_goes_without_until_the_first_ends(void **state)
{
    (void)state;
    struct world first, second;
    world_init(&first);
    insist(&first, "k");
    second = first;
    world_open(&second);
    assert_false(disk_cache_usage(second.disk).open);
    assert_false(has(&second, "k", 0, 1000));
    disk_cache_free(first.disk);
    int64_t deadline_ms = clock_ms() + PATIENCE_MS;
    while (!has(&second, "k", 0, 1000)) {
        assert_true(clock_ms() < deadline_ms);
        task_sleep_ms(5);
    }
    world_release(&second);
}

/* A file system of four MiB, where this may be made. */
static void a_full_file_system_is_used_as_far_as_it_bears(void **state)
{
    (void)state;
    struct world w;
    char ballast[400];
    world_init(&w);
    disk_cache_free(w.disk);
    if (mount("none", w.folder, "tmpfs", 0, "size=4m") != 0) {
        scratch_remove(&w.scratch);
        SKIP("mounting a small tmpfs is not permitted");
    }
    world_open(&w);
    for (uint64_t i = 0; i < 2000; i++) {
        offer(&w, "k", i << 32, 8192, true);
        if (i % 16 == 0) settle(&w);
    }
    settle(&w);
    assert_true(has(&w, "k", (uint64_t)1999 << 32, 8192));
    uint64_t bytes = disk_cache_usage(w.disk).bytes;
    assert_in_range(bytes, 2 << 20, (4 << 20) * 95 / 100);

    /* Full before it starts: it goes without, and tries again. */
    disk_cache_free(w.disk);
    assert_int_equal(unlink(w.file), 0);
    (void)snprintf(ballast, sizeof ballast, "%s/ballast", w.folder);
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(posix_fallocate(fd, 0, (4 << 20) - 20000), 0);
    close(fd);
    world_open(&w);
    offer(&w, "k", 0, 8192, true);
    settle(&w);
    assert_false(has(&w, "k", 0, 8192));
    assert_true(disk_cache_usage(w.disk).failures > 0);
    assert_int_equal(unlink(ballast), 0);
    insist(&w, "k");
    disk_cache_free(w.disk);

    /* Read-only: the same. */
    assert_int_equal(mount("none", w.folder, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    world_open(&w);
    assert_false(disk_cache_usage(w.disk).open);
    assert_false(has(&w, "k", 0, 1000));
    assert_int_equal(mount("none", w.folder, "tmpfs", MS_REMOUNT, NULL), 0);
    insist(&w, "k");
    disk_cache_free(w.disk);
    assert_int_equal(umount(w.folder), 0);
    scratch_remove(&w.scratch);
}

/* ---- many threads ---- */

enum { THREADS = 6, TURNS = 1500 };

struct visitor {
    struct world *world;
    uint64_t seed;
};

static void visit(void *arg)
{
    struct visitor *v = arg;
    for (int i = 0; i < TURNS; i++) {
        uint64_t at = test_random(&v->seed) % 400;
        size_t size = 1 + at * 177 % 60000;
        switch (test_random(&v->seed) % 8) {
        case 0: disk_cache_forget(v->world->disk, "k", at << 32, size); break;
        case 1: (void)disk_cache_usage(v->world->disk); break;
        case 2:
        case 3: offer(v->world, "k", at << 32, size, at % 2); break;
        default: (void)has(v->world, "k", at << 32, size); break;
        }
    }
}

static void many_threads_share_it_while_its_folder_comes_and_goes(void **state)
{
    (void)state;
    struct world w;
    struct visitor visitors[THREADS];
    struct thread *threads[THREADS];
    uint64_t random = test_seed();
    world_init(&w);
    for (int i = 0; i < THREADS; i++) {
        visitors[i] = (struct visitor){.world = &w, .seed = random + (uint64_t)i};
        threads[i] = thread_start("visitor", visit, &visitors[i]);
    }
    for (int i = 0; i < 10; i++) {
        task_sleep_ms(30);
        int failed = i % 2 ? truncate(w.file, (off_t)(test_random(&random) % SIZE))
                           : unlink(w.file);
        (void)failed; /* it may not be there just now */
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    insist(&w, "k");
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_of_every_size_come_back_also_after_a_restart),
        cmocka_unit_test(a_round_reads_what_is_there_and_leaves_the_rest),
        cmocka_unit_test(what_is_forgotten_is_a_miss),
        cmocka_unit_test(a_queue_without_room_drops_and_says_how_much),
        cmocka_unit_test(a_scan_does_not_push_out_what_is_in_use),
        cmocka_unit_test(a_folder_that_vanishes_is_made_again),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_tried_again),
        cmocka_unit_test(damage_under_a_running_process_is_a_miss),
        cmocka_unit_test(a_file_cut_under_a_running_process_starts_anew),
        cmocka_unit_test(a_second_one_goes_without_until_the_first_ends),
        cmocka_unit_test(a_full_file_system_is_used_as_far_as_it_bears),
        cmocka_unit_test(many_threads_share_it_while_its_folder_comes_and_goes),
    };
    return cmocka_run_group_tests_name("disk cache", tests, NULL, NULL);
}
