/*
 * What a range costs from memory, from the disk cache and, beside them in the same run,
 * from a plain pread of as many bytes; what the disk cache adds to a scan that it
 * cannot serve; and how long a restart takes to find everything again.
 *
 *   bench_cache [MiB] [folder]     default: 1024 below the current folder
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "measure.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "engine/folder.h"
#include "store/store.h"

enum { ROUNDS = 2000, THREADS_MAX = 8 };
static const uint64_t MEMORY = 256 << 20;

/* A store that answers at once, with whatever is in the buffer: what is measured is
 * what lies above it. */
static enum err instant_read(struct op *op, struct store *s, struct store_range *ranges,
                             size_t n)
{
    (void)op;
    (void)s;
    for (size_t i = 0; i < n; i++) {
        memset(ranges[i].data, (int)ranges[i].offset & 0xff, ranges[i].size);
        ranges[i].err = ERR_OK;
    }
    return ERR_OK;
}

static const struct store_ops instant_ops = {.name = "instant", .read = instant_read};
static struct store instant = {.ops = &instant_ops};

static double cpu_s(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    return (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec / 1e6 +
           (double)used.ru_stime.tv_sec + (double)used.ru_stime.tv_usec / 1e6;
}

static void touch(struct cache *c, uint64_t index, size_t size)
{
    struct op op;
    struct cache_pin pin = {.key = "ns/bench/segment/object",
                            .offset = index * size,
                            .size = size};
    op_init(&op, OP_NO_DEADLINE, 0);
    if (cache_pin(&op, c, &pin, 1)) fail(op.error);
    cache_unpin(c, &pin, 1);
    op_release(&op);
}

static void settle(struct cache *c)
{
    while (cache_usage(c).disk.queued_bytes > 0)
        (void)usleep(50);
}

/* ---- memory ---- */

struct hitter {
    struct cache *cache;
    uint64_t ranges;
    size_t turns;
};

static void hit(void *arg)
{
    struct hitter *h = arg;
    for (size_t i = 0; i < h->turns; i++)
        touch(h->cache, i * 7919 % h->ranges, 4096);
}

static void bench_memory(void)
{
    struct cache *c = cache_new(&instant, MEMORY);
    struct hitter h = {.cache = c, .ranges = 4000, .turns = 4000};
    hit(&h);
    h.turns = 1000000;
    for (int threads = 1; threads <= THREADS_MAX; threads *= 2) {
        struct thread *running[THREADS_MAX];
        double start = now_us(), cpu = cpu_s();
        for (int i = 0; i < threads; i++)
            running[i] = thread_start("hitter", hit, &h);
        for (int i = 0; i < threads; i++)
            thread_join(running[i]);
        double turns = (double)(h.turns * (size_t)threads);
        printf("memory: %d threads, pin and unpin %.2f M/s, %.0f ns of CPU each\n",
               threads, turns / (now_us() - start), (cpu_s() - cpu) * 1e9 / turns);
    }
    cache_free(c);
}

/* ---- disk ---- */

static void forget_pages(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(path);
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

static void read_pages(const char *path)
{
    uint8_t *room = mem_alloc(1 << 20);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(path);
    while (read(fd, room, 1 << 20) > 0)
        ;
    (void)close(fd);
    mem_free(room);
}

/* One thread, ranges of one size in an order of chance, none of them twice; the cache's
 * turn and the plain pread's one after the other. */
static void bench_disk_reads(const char *folder, const char *slab, uint64_t bytes,
                             size_t size, bool cold)
{
    static double ours[ROUNDS], plain[ROUNDS];
    uint64_t half = bytes / size / 2;
    struct cache *c = cache_new(&instant, MEMORY);
    uint8_t *room = mem_aligned(4096, size);
    size_t n = half < ROUNDS ? (size_t)half : ROUNDS;
    double ours_us = 0, plain_us = 0;

    cache_add_disk(c, folder, bytes * 5 / 4);
    int fd = open(slab, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(slab);
    if (cold)
        forget_pages(slab);
    else
        read_pages(slab);
    for (size_t i = 0; i < n; i++) {
        uint64_t mine = i * 104729 % half, other = half + mine;
        double start = now_us();
        touch(c, mine, size);
        double middle = now_us();
        if (pread(fd, room, size, (off_t)(other * size)) != (ssize_t)size)
            fail("pread");
        ours[i] = middle - start;
        plain[i] = now_us() - middle;
        ours_us += ours[i];
        plain_us += plain[i];
    }
    uint64_t misses = cache_usage(c).disk.written_bytes / size;
    printf("disk: %zu KiB, %s: p50 %.0f us, p99 %.0f us, %.0f MB/s; pread p50 %.0f us, "
           "p99 %.0f us, %.0f MB/s; ratio of p50 %.2f; %llu of %zu missed\n",
           size >> 10, cold ? "cold" : "page cache", percentile(ours, n, 0.5),
           percentile(ours, n, 0.99), (double)(n * size) / ours_us,
           percentile(plain, n, 0.5), percentile(plain, n, 0.99),
           (double)(n * size) / plain_us,
           percentile(ours, n, 0.5) / percentile(plain, n, 0.5),
           (unsigned long long)misses, n);
    (void)close(fd);
    mem_free(room);
    cache_free(c);
}

static void fill(const char *folder, uint64_t bytes, size_t size)
{
    struct cache *c = cache_new(&instant, MEMORY);
    cache_add_disk(c, folder, bytes * 5 / 4);
    double start = now_us();
    for (uint64_t i = 0; i < bytes / size; i++) {
        touch(c, i, size);
        if (i % 8 == 0) settle(c);
    }
    settle(c);
    double took_us = now_us() - start;
    printf("fill: %llu MiB in ranges of %zu KiB: %.0f MB/s\n",
           (unsigned long long)(bytes >> 20), size >> 10, (double)bytes / took_us);
    cache_free(c);
}

static void bench_restart(const char *folder, const char *slab, uint64_t bytes,
                          size_t size)
{
    for (int cold = 0; cold < 2; cold++) {
        if (cold) forget_pages(slab);
        double start = now_us();
        struct cache *c = cache_new(&instant, MEMORY);
        cache_add_disk(c, folder, bytes * 5 / 4);
        double took_us = now_us() - start;
        struct cache_usage usage = cache_usage(c);
        printf("restart: %llu MiB, ranges of %zu KiB, %s: %.1f ms, %llu pieces\n",
               (unsigned long long)(usage.disk.bytes >> 20), size >> 10,
               cold ? "cold" : "page cache", took_us / 1e3,
               (unsigned long long)usage.disk.recovered);
        cache_free(c);
    }
}

/* A scan: each range once, from a store that costs nothing. CPU time. */
static double scan_s(struct cache *c, uint64_t from, uint64_t n, size_t size)
{
    double start = cpu_s();
    for (uint64_t i = from; i < from + n; i++)
        touch(c, i, size);
    return cpu_s() - start;
}

static void bench_scan(const char *folder, uint64_t bytes, size_t size)
{
    struct cache *without = cache_new(&instant, MEMORY);
    struct cache *with = cache_new(&instant, MEMORY);
    uint64_t n = (256 << 20) / size, from = 2 * bytes / size;
    double plain_s = 0, disk_s = 0;

    cache_add_disk(with, folder, 64 << 20);
    for (uint64_t i = from; i < from + n;
         i += 8) { /* full: what comes once stays out */
        (void)scan_s(with, i, 8, size);
        settle(with);
    }
    uint64_t written = cache_usage(with).disk.written_bytes;
    for (uint64_t turn = 0; turn < 6; turn++) {
        double plain = scan_s(without, from + turn * n, n, size);
        double disk = scan_s(with, from + (turn + 1) * n, n, size);
        if (turn == 0) continue; /* memory was empty */
        plain_s += plain;
        disk_s += disk;
    }
    settle(with);
    double ranges = 5 * (double)n;
    printf("scan: %zu KiB each once, disk full: %.2f us of CPU a range, without a disk "
           "%.2f, ratio %.2f; %llu bytes written\n",
           size >> 10, disk_s * 1e6 / ranges, plain_s * 1e6 / ranges, disk_s / plain_s,
           (unsigned long long)(cache_usage(with).disk.written_bytes - written));
    cache_free(without);
    cache_free(with);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {16 << 10, 256 << 10};
    uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) << 20;
    char folder[4096], slab[4200];

    (void)snprintf(folder, sizeof folder, "%s/bench-cache-XXXXXX",
                   argc > 2 ? argv[2] : ".");
    if (!mkdtemp(folder)) fail(folder);
    (void)snprintf(slab, sizeof slab, "%s/ranges.slab", folder);
    log_init(LOG_WARN, LOG_TEXT);
    bench_memory();
    for (size_t i = 0; i < 2; i++) {
        fill(folder, bytes, sizes[i]);
        bench_restart(folder, slab, bytes, sizes[i]);
        for (int cold = 0; cold < 2; cold++)
            bench_disk_reads(folder, slab, bytes, sizes[i], cold);
        if (unlink(slab) != 0) fail(slab);
        bench_scan(folder, bytes, sizes[i]);
        if (unlink(slab) != 0) fail(slab);
    }
    folder_remove(folder);
    return 0;
}
