#include "base/metrics.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/mem.h"

enum { METRICS_MAX = 4096 };

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct metric {
    enum kind kind;
    char *name;
    char *help;
    char *labels; /* "" for none */

    atomic_uint_fast64_t count; /* counter */
    _Atomic double value;       /* gauge; histogram: sum of all observations */

    double *bounds; /* histogram */
    size_t bound_count;
    atomic_uint_fast64_t *buckets; /* bound_count + 1, not cumulative */
};

/* Guards the two below. Not a mutex of task.h: callers may keep what they were given,
 * so that a second run in one process asks less often, which must not be another
 * schedule to the simulator. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct metric *metrics[METRICS_MAX];
static size_t metric_count;

const double metric_seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                 0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                 1,      2.5,     5,      10,    30,     60};
const size_t metric_seconds_count = sizeof metric_seconds / sizeof metric_seconds[0];

static struct metric *make(enum kind kind, const char *name, const char *help,
                           const char *labels)
{
    struct metric *m = mem_new(struct metric);
    m->kind = kind;
    m->name = mem_strdup(name);
    m->help = mem_strdup(help);
    m->labels = mem_strdup(labels);
    return m;
}

static void make_buckets(struct metric *m, const double *bounds, size_t count)
{
    for (size_t i = 1; i < count; i++)
        assert(bounds[i - 1] < bounds[i]);
    m->bounds = mem_dup(bounds, count * sizeof *bounds);
    m->bound_count = count;
    m->buckets = mem_new_array(atomic_uint_fast64_t, count + 1);
}

static struct metric *find_or_make(enum kind kind, const char *name, const char *help,
                                   const char *labels, const double *bounds,
                                   size_t count)
{
    struct metric *found = NULL;
    if (!labels) labels = "";

    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < metric_count && !found; i++) {
        struct metric *m = metrics[i];
        if (strcmp(m->name, name) != 0) continue;
        assert(m->kind == kind && strcmp(m->help, help) == 0);
        if (strcmp(m->labels, labels) == 0) found = m;
    }
    if (!found) {
        assert(metric_count < METRICS_MAX);
        found = make(kind, name, help, labels);
        if (kind == HISTOGRAM) make_buckets(found, bounds, count);
        metrics[metric_count++] = found;
    }
    (void)pthread_mutex_unlock(&lock);
    return found;
}

struct metric *metric_counter(const char *name, const char *help, const char *labels)
{
    return find_or_make(COUNTER, name, help, labels, NULL, 0);
}

struct metric *metric_gauge(const char *name, const char *help, const char *labels)
{
    return find_or_make(GAUGE, name, help, labels, NULL, 0);
}

struct metric *metric_histogram(const char *name, const char *help, const char *labels,
                                const double *bounds, size_t count)
{
    return find_or_make(HISTOGRAM, name, help, labels, bounds, count);
}

static void add_double(_Atomic double *to, double by)
{
    double old = atomic_load_explicit(to, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(to, &old, old + by,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void metric_add(struct metric *m, uint64_t n)
{
    assert(m->kind == COUNTER);
    (void)atomic_fetch_add_explicit(&m->count, n, memory_order_relaxed);
}

void metric_set(struct metric *m, double value)
{
    assert(m->kind == GAUGE);
    atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

void metric_change(struct metric *m, double by)
{
    assert(m->kind == GAUGE);
    add_double(&m->value, by);
}

void metric_observe(struct metric *m, double value)
{
    assert(m->kind == HISTOGRAM);
    size_t bucket = 0;
    while (bucket < m->bound_count && value > m->bounds[bucket])
        bucket++;
    (void)atomic_fetch_add_explicit(&m->buckets[bucket], 1, memory_order_relaxed);
    add_double(&m->value, value);
}

static int compare(const void *a, const void *b)
{
    const struct metric *const *x = a;
    const struct metric *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);
    return order ? order : strcmp((*x)->labels, (*y)->labels);
}

static void append_double(struct buf *out, double v)
{
    if (isnan(v)) {
        buf_append_str(out, "NaN");
    } else if (isinf(v)) {
        buf_append_str(out, v < 0 ? "-Inf" : "+Inf");
    } else {
        struct json_writer w;
        json_writer_init(&w, out);
        json_put_f64(&w, v);
    }
}

static void write_head(struct buf *out, const struct metric *m)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    buf_printf(out, "# HELP %s ", m->name);
    for (const char *p = m->help; *p; p++) {
        if (*p == '\\')
            buf_append_str(out, "\\\\");
        else if (*p == '\n')
            buf_append_str(out, "\\n");
        else
            buf_append_byte(out, (uint8_t)*p);
    }
    buf_printf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
}

/* name, suffix and labels, ready for the value */
static void write_name(struct buf *out, const struct metric *m, const char *suffix)
{
    buf_printf(out, "%s%s", m->name, suffix);
    if (*m->labels) buf_printf(out, "{%s}", m->labels);
    buf_append_byte(out, ' ');
}

static void write_histogram(struct buf *out, const struct metric *m)
{
    const char *comma = *m->labels ? "," : "";
    uint64_t count = 0;
    for (size_t i = 0; i <= m->bound_count; i++) {
        count += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"", m->name, m->labels, comma);
        append_double(out, i < m->bound_count ? m->bounds[i] : (double)INFINITY);
        buf_printf(out, "\"} %llu\n", (unsigned long long)count);
    }
    write_name(out, m, "_sum");
    append_double(out, atomic_load_explicit(&m->value, memory_order_relaxed));
    buf_append_byte(out, '\n');
    write_name(out, m, "_count");
    buf_printf(out, "%llu\n", (unsigned long long)count);
}

static void write_metric(struct buf *out, const struct metric *m)
{
    switch (m->kind) {
    case COUNTER:
        write_name(out, m, "");
        buf_printf(out, "%llu\n",
                   (unsigned long long)atomic_load_explicit(&m->count,
                                                            memory_order_relaxed));
        break;
    case GAUGE:
        write_name(out, m, "");
        append_double(out, atomic_load_explicit(&m->value, memory_order_relaxed));
        buf_append_byte(out, '\n');
        break;
    case HISTOGRAM: write_histogram(out, m); break;
    }
}

void metrics_write(struct buf *out)
{
    (void)pthread_mutex_lock(&lock);
    size_t count = metric_count;
    struct metric **sorted = mem_dup(metrics, count * sizeof(struct metric *));
    (void)pthread_mutex_unlock(&lock);

    qsort(sorted, count, sizeof(struct metric *), compare);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(sorted[i - 1]->name, sorted[i]->name) != 0)
            write_head(out, sorted[i]);
        write_metric(out, sorted[i]);
    }
    mem_free(sorted);
}
