/*
 * What a durable create costs beside a plain write and fsync of as many bytes in the
 * same folder, in one run, turn by turn; and what a page of a large folder costs beside
 * reading its names.
 *
 *   bench_store [folder]     default: a temporary one below the current folder
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "measure.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "engine/folder.h"
#include "store/store.h"
#include "store/store_dir.h"

enum { CREATES = 500, LISTED = 100000, LISTS = 9 };

static void write_plainly(const char *path, struct slice bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) fail(path);
    if (write(fd, bytes.data, bytes.size) != (ssize_t)bytes.size || fsync(fd) != 0)
        fail(path);
    (void)close(fd);
}

static void bench_create(struct store *store, const char *root, size_t size)
{
    static double plain[CREATES], durable[CREATES];
    struct op op;
    uint8_t *zeros = mem_calloc(1, size);
    struct slice bytes = slice_of(zeros, size);

    for (size_t i = 0; i < CREATES; i++) {
        op_init(&op, OP_NO_DEADLINE, 0);
        const char *path = op_printf(&op, "%s/create/%zu/plain-%zu", root, size, i);
        const char *key = op_printf(&op, "create/%zu/durable-%zu", size, i);
        double start = now_us();
        if (store_create(&op, store, key, bytes)) fail(op.error);
        double middle = now_us();
        write_plainly(path, bytes);
        durable[i] = middle - start;
        plain[i] = now_us() - middle;
        op_release(&op);
    }
    double p50 = percentile(durable, CREATES, 0.5),
           base = percentile(plain, CREATES, 0.5);
    printf("create %6zu B: p50 %7.0f us, write+fsync %7.0f us, ratio %.2f, +%.0f us "
           "(p99 %.0f and %.0f us)\n",
           size, p50, base, p50 / base, p50 - base, percentile(durable, CREATES, 0.99),
           percentile(plain, CREATES, 0.99));
    mem_free(zeros);
}

static double read_names_us(const char *path)
{
    double start = now_us();
    DIR *names = opendir(path);
    size_t count = 0;
    if (!names) fail(path);
    while (readdir(names))
        count++;
    (void)closedir(names);
    if (count < LISTED) fail("names are missing");
    return now_us() - start;
}

static void bench_list(struct store *store, const char *root, size_t room)
{
    const char **keys = mem_new_array(const char *, room);
    double lists[LISTS], names[LISTS];
    struct op op;

    op_init(&op, OP_NO_DEADLINE, 0);
    const char *path = op_printf(&op, "%s/list", root);
    for (size_t i = 0; i < LISTS; i++) {
        size_t n = room;
        double start = now_us();
        if (store_list(&op, store, "list/", "", 0, keys, &n) || n != room)
            fail("store_list");
        lists[i] = now_us() - start;
        names[i] = read_names_us(path);
    }
    double p50 = percentile(lists, LISTS, 0.5), base = percentile(names, LISTS, 0.5);
    printf("list %6zu of %d keys: p50 %7.0f us, readdir %7.0f us, ratio %.2f\n", room,
           (int)LISTED, p50, base, p50 / base);
    op_release(&op);
    mem_free(keys);
}

static void make_names(const char *root)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/list", root);
    if (mkdir(path, 0700) != 0) fail(path);
    for (int i = 0; i < LISTED; i++) {
        (void)snprintf(path, sizeof path, "%s/list/%020d.wal", root, i);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) fail(path);
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    char temporary[] = "bench-store-XXXXXX";
    const char *root = argc > 1 ? argv[1] : mkdtemp(temporary);
    struct store *store = NULL;
    struct op op;

    if (!root) fail("mkdtemp");
    log_init(LOG_ERROR, LOG_TEXT);
    op_init(&op, OP_NO_DEADLINE, 0);
    const struct store_dir_options options = {.root = root, .allow_unsafe_fs = true};
    if (store_dir_open(&op, &options, &store)) fail(op.error);
    bench_create(store, root, 4096);
    bench_create(store, root, 65536);
    make_names(root);
    bench_list(store, root, 1);
    bench_list(store, root, 1000);
    bench_list(store, root, LISTED);
    store_free(store);
    op_release(&op);
    if (argc <= 1) folder_remove(root);
    return 0;
}
