#include "store/store.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"

static bool key_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '.' || c == '-';
}

bool store_key_valid(const char *key)
{
    size_t segment = 0, size = 0;

    for (; key[size]; size++) {
        if (size == STORE_KEY_MAX) return false;
        if (key[size] == '/') {
            if (segment == 0) return false;
            segment = 0;
            continue;
        }
        if (!key_byte(key[size])) return false;
        if (segment == 0 && key[size] == '.') return false;
        if (++segment > STORE_SEGMENT_MAX) return false;
    }
    return segment > 0;
}

/* ---- counting ---- */

enum call { READ, GET, CREATE, PUT, LIST, DELETE, SWEEP, CALLS };
enum what { ROUNDS, REQUESTS, BYTES, WHATS };

static const char *const calls[CALLS] = {"read", "get",    "create", "put",
                                         "list", "delete", "sweep"};

static void count(enum call call, enum what what, uint64_t n)
{
    static const struct {
        const char *name, *help;
    } metrics[WHATS] = {
        {"elacsym_store_rounds_total", "Calls of the object store, waited for."},
        {"elacsym_store_requests_total", "Requests that these calls asked for."},
        {"elacsym_store_bytes_total", "Bytes of objects that these calls moved."}};
    static struct metric *_Atomic known[CALLS][WHATS];

    struct metric *m = atomic_load_explicit(&known[call][what], memory_order_acquire);
    if (!m) { /* any thread may be first: all are given the same */
        char labels[32];
        (void)snprintf(labels, sizeof labels, "call=\"%s\"", calls[call]);
        m = metric_counter(metrics[what].name, metrics[what].help, labels);
        atomic_store_explicit(&known[call][what], m, memory_order_release);
    }
    metric_add(m, n);
}

static struct metric *seconds_of(enum call call)
{
    static struct metric *_Atomic known[CALLS];
    struct metric *m = atomic_load_explicit(&known[call], memory_order_acquire);
    if (!m) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "call=\"%s\"", calls[call]);
        m = metric_histogram("elacsym_store_seconds",
                             "Time that a call of the object store was waited for.",
                             labels, metric_seconds, metric_seconds_count);
        atomic_store_explicit(&known[call], m, memory_order_release);
    }
    return m;
}

/* Passes on what a call that began then answered. */
static enum err timed(enum call call, int64_t began_us, enum err e)
{
    metric_observe(seconds_of(call), (double)(clock_us() - began_us) / 1e6);
    return e;
}

void store_metrics_init(void)
{
    for (int call = 0; call < CALLS; call++) {
        for (int what = 0; what < WHATS; what++)
            count((enum call)call, (enum what)what, 0);
        (void)seconds_of((enum call)call);
    }
}

static void count_call(struct op *op, enum call call, uint64_t requests)
{
    op->counters.rounds++;
    op->counters.store_requests += requests;
    count(call, ROUNDS, 1);
    count(call, REQUESTS, requests);
}

static void count_bytes(struct op *op, enum call call, uint64_t bytes)
{
    op->counters.store_bytes += bytes;
    count(call, BYTES, bytes);
}

/* ---- calls ---- */

/* Reads, gets and lists stop at the deadline before they begin. Writes do not ask: what
 * a caller may conclude from their answer must not depend on the clock. */
static enum err begin(struct op *op, enum call call, uint64_t requests)
{
    enum err e = op_check(op);
    if (!e) count_call(op, call, requests);
    return e;
}

static void begin_write(struct op *op, enum call call, uint64_t bytes)
{
    count_call(op, call, 1);
    count_bytes(op, call, bytes);
}

enum err store_read(struct op *op, struct store *s, struct store_range *ranges,
                    size_t n)
{
    if (n == 0) return ERR_OK;
    for (size_t i = 0; i < n; i++) {
        assert(store_key_valid(ranges[i].key));
        assert(ranges[i].data || ranges[i].size == 0);
    }

    enum err e = begin(op, READ, n);
    if (e) {
        for (size_t i = 0; i < n; i++)
            ranges[i].err = e;
        return e;
    }
    int64_t began_us = clock_us();
    e = timed(READ, began_us, s->ops->read(op, s, ranges, n));
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (!ranges[i].err) bytes += ranges[i].size;
    count_bytes(op, READ, bytes);
    return e;
}

enum err store_get(struct op *op, struct store *s, const char *key, size_t size_max,
                   struct buf *out)
{
    assert(store_key_valid(key));
    size_t before = out->size;

    enum err e = begin(op, GET, 1);
    if (e) return e;
    int64_t began_us = clock_us();
    e = timed(GET, began_us, s->ops->get(op, s, key, size_max, out));
    assert(!e || out->size == before);
    count_bytes(op, GET, out->size - before);
    return e;
}

enum err store_create(struct op *op, struct store *s, const char *key,
                      struct slice data)
{
    assert(store_key_valid(key));
    begin_write(op, CREATE, data.size);
    int64_t began_us = clock_us();
    return timed(CREATE, began_us, s->ops->create(op, s, key, data));
}

enum err store_put(struct op *op, struct store *s, const char *key,
                   const struct slice *parts, size_t n)
{
    assert(store_key_valid(key));
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    begin_write(op, PUT, size);
    int64_t began_us = clock_us();
    return timed(PUT, began_us, s->ops->put(op, s, key, parts, n));
}

enum err store_list(struct op *op, struct store *s, const char *prefix,
                    const char *after, char delimiter, const char **keys, size_t *n)
{
    assert(prefix && after);
    assert(delimiter == '/' || delimiter == 0);
    if (*n == 0) return ERR_OK;

    enum err e = begin(op, LIST, 1);
    if (e) return e;
    int64_t began_us = clock_us();
    return timed(LIST, began_us,
                 s->ops->list(op, s, prefix, after, delimiter, keys, n));
}

enum err store_delete(struct op *op, struct store *s, const char *const *keys, size_t n)
{
    if (n == 0) return ERR_OK;
    for (size_t i = 0; i < n; i++)
        assert(store_key_valid(keys[i]));
    begin_write(op, DELETE, 0);
    int64_t began_us = clock_us();
    return timed(DELETE, began_us, s->ops->delete (op, s, keys, n));
}

enum err store_sweep(struct op *op, struct store *s, const char *prefix, int64_t age_ms,
                     uint64_t *ended)
{
    assert(prefix && age_ms >= 0);
    *ended = 0;
    if (!s->ops->sweep) return ERR_OK;
    enum err e = begin(op, SWEEP, 1);
    int64_t began_us = clock_us();
    return e ? e : timed(SWEEP, began_us, s->ops->sweep(op, s, prefix, age_ms, ended));
}

void store_free(struct store *s)
{
    if (s) s->ops->free(s);
}
