/*
 * What one call costs on a real S3 server, one caller at a time:
 *     eval "$(tools/s3_server.sh minio)" && make bench-s3
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store_s3.h"

enum { CALLS = 300, OBJECT_SIZE = 64 << 10, RANGES = 32, RANGE_SIZE = 64 << 10 };
enum { LARGE_SIZE = 64 << 20, LARGE_CALLS = 4, LARGE_RANGES = 8 };

struct bench {
    struct op op;
    struct store *store;
    uint8_t *bytes;
};

static enum err one_create(struct bench *b, int i)
{
    char key[64];
    (void)snprintf(key, sizeof key, "bench/small/%06d", i);
    return store_create(&b->op, b->store, key, slice_of(b->bytes, OBJECT_SIZE));
}

static enum err one_get(struct bench *b, int i)
{
    char key[64];
    struct buf out = BUF_INIT;
    (void)snprintf(key, sizeof key, "bench/small/%06d", i);
    enum err e = store_get(&b->op, b->store, key, OBJECT_SIZE, &out);
    buf_release(&out);
    return e;
}

static enum err one_missing_get(struct bench *b, int i)
{
    struct buf out = BUF_INIT;
    (void)i;
    enum err e = store_get(&b->op, b->store, "bench/small/none", OBJECT_SIZE, &out);
    op_clear_error(&b->op);
    buf_release(&out);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err one_list(struct bench *b, int i)
{
    const char *keys[10];
    size_t n = 10;
    char after[64];
    (void)snprintf(after, sizeof after, "bench/small/%06d", i % (CALLS - 20));
    return store_list(&b->op, b->store, "bench/small/", after, 0, keys, &n);
}

static enum err one_put(struct bench *b, int i)
{
    char key[64];
    const struct slice part = slice_of(b->bytes, LARGE_SIZE);
    (void)snprintf(key, sizeof key, "bench/large/%06d", i);
    return store_put(&b->op, b->store, key, &part, 1);
}

static enum err one_read(struct bench *b, int i)
{
    struct store_range ranges[RANGES];
    for (size_t k = 0; k < RANGES; k++)
        ranges[k] = (struct store_range){.key = "bench/large/000000",
                                         .offset = ((size_t)i * 7919 + k * 104729) %
                                                   1000 * RANGE_SIZE,
                                         .size = RANGE_SIZE,
                                         .data = b->bytes + k * RANGE_SIZE};
    return store_read(&b->op, b->store, ranges, RANGES);
}

static enum err one_large_read(struct bench *b, int i)
{
    enum { SIZE = LARGE_SIZE / LARGE_RANGES };
    struct store_range ranges[LARGE_RANGES];
    (void)i;
    for (size_t k = 0; k < LARGE_RANGES; k++)
        ranges[k] = (struct store_range){.key = "bench/large/000000",
                                         .offset = k * SIZE,
                                         .size = SIZE,
                                         .data = b->bytes + k * SIZE};
    return store_read(&b->op, b->store, ranges, LARGE_RANGES);
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, const char *name, int calls, double megabytes,
                    enum err (*call)(struct bench *, int))
{
    int64_t us[CALLS], all_us = clock_us();
    for (int i = 0; i < calls; i++) {
        int64_t from_us = clock_us();
        enum err e = call(b, i);
        us[i] = clock_us() - from_us;
        if (e) {
            (void)printf("%s: %s\n", name, b->op.error);
            exit(1);
        }
    }
    all_us = clock_us() - all_us;
    qsort(us, (size_t)calls, sizeof *us, compare_us);
    (void)printf("%-26s p50 %8.2f ms   p99 %8.2f ms   %8.1f MB/s\n", name,
                 (double)us[calls / 2] / 1000, (double)us[calls * 99 / 100] / 1000,
                 megabytes * calls * 1e6 / (double)all_us);
}

static void clean(struct bench *b)
{
    const char *keys[1000];
    size_t n = 1000;
    if (!store_list(&b->op, b->store, "bench/", "", 0, keys, &n))
        (void)store_delete(&b->op, b->store, keys, n);
}

int main(void)
{
    struct bench b = {.bytes = mem_calloc(1, LARGE_SIZE)};
    const char *endpoint = getenv("S3_TEST_ENDPOINT");
    if (!endpoint) {
        (void)printf("not run: no S3_TEST_ENDPOINT (tools/s3_server.sh)\n");
        return 0;
    }
    const struct store_s3_options options = {.endpoint = endpoint,
                                             .bucket = getenv("S3_TEST_BUCKET"),
                                             .region = "",
                                             .environment =
                                                 (const char *const *)environ};
    log_init(LOG_WARN, LOG_TEXT);
    op_init(&b.op, OP_NO_DEADLINE, 0);
    random_bytes(b.bytes, OBJECT_SIZE);
    if (store_s3_open(&b.op, &options, &b.store)) return 1;
    clean(&b);
    measure(&b, "create 64 KiB", CALLS, 0.065536, one_create);
    measure(&b, "get 64 KiB", CALLS, 0.065536, one_get);
    measure(&b, "get what is not there", CALLS, 0, one_missing_get);
    measure(&b, "list 10 after a key", CALLS, 0, one_list);
    measure(&b, "put 64 MiB in parts", LARGE_CALLS, 67.108864, one_put);
    measure(&b, "read 32 ranges of 64 KiB", CALLS, 2.097152, one_read);
    measure(&b, "read 64 MiB in 8 ranges", LARGE_CALLS, 67.108864, one_large_read);
    clean(&b);
    store_free(b.store);
    op_release(&b.op);
    mem_free(b.bytes);
    return 0;
}
