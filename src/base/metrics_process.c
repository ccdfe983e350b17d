#include "base/metrics_process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/resource.h>

static void put(struct buf *out, const char *name, const char *kind, const char *help,
                double value)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, kind,
               name, value);
}

static double cpu_seconds(void)
{
    struct timespec used = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Pages in use, mapped and in memory, as proc(5) has them in statm. */
static void put_memory(struct buf *out)
{
    uint64_t mapped = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return;
    int found = fscanf(file, "%" SCNu64 " %" SCNu64, &mapped, &resident);
    (void)fclose(file);
    if (found != 2) return;
    double page = (double)sysconf(_SC_PAGESIZE);
    put(out, "process_virtual_memory_bytes", "gauge", "Memory that is mapped.",
        page * (double)mapped);
    put(out, "process_resident_memory_bytes", "gauge", "Memory that is in RAM.",
        page * (double)resident);
}

/* Field 22 of stat counts in ticks since the machine was started; fields are counted
 * behind the name's closing bracket, which may hold anything before it. */
static void put_start(struct buf *out)
{
    char text[1024] = "";
    unsigned long long ticks = 0;
    struct timespec up = {0}, now = {0};
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) return;
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at || sscanf(at, " %llu", &ticks) != 1) return;
    (void)clock_gettime(CLOCK_BOOTTIME, &up);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    double age = (double)up.tv_sec + (double)up.tv_nsec / 1e9 -
                 (double)ticks / (double)sysconf(_SC_CLK_TCK);
    put(out, "process_start_time_seconds", "gauge",
        "When the process was started, in seconds since 1970.",
        (double)now.tv_sec + (double)now.tv_nsec / 1e9 - age);
}

static void put_descriptors(struct buf *out)
{
    enum { DOTS = 2, OURS = 1 };
    struct rlimit limit;
    double count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder) {
        while (readdir(folder))
            count++;
        (void)closedir(folder);
        put(out, "process_open_fds", "gauge", "Open file descriptors.",
            count - DOTS - OURS);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        put(out, "process_max_fds", "gauge", "File descriptors that may be open.",
            (double)limit.rlim_cur);
}

void metrics_write_process(struct buf *out)
{
    put(out, "process_cpu_seconds_total", "counter",
        "Processor time used, of all threads.", cpu_seconds());
    put_memory(out);
    put_start(out);
    put_descriptors(out);
}
