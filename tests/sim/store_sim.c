#include "sim/store_sim.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "sim/sim.h"

enum { PAGE_MAX = 4 };

struct store_net {
    struct store *inner;
    struct store_net_options options;
    struct store_net_hits *hits;
    struct parcel *parcels; /* on their way */
    bool calm;
};

struct store_sim {
    struct store base;
    struct store_net *net;
};

/* A write on its way: owns copies of all it needs. */
struct parcel {
    struct parcel *next, **link; /* in net->parcels while it may still land */
    struct store_net *net;
    unsigned refs; /* of the caller and of each arrival to come */
    enum sim_call call;
    char **keys;
    size_t key_count;
    struct buf bytes;
    bool arrived;
    enum err err; /* of the first arrival */
};

/* ---- weather ---- */

static enum sim_place place_of(const char *key)
{
    if (strstr(key, "wal/")) return SIM_WAL;
    if (strstr(key, "/manifest/")) return SIM_MANIFEST;
    if (strstr(key, "/catalog/")) return SIM_CATALOG;
    if (strstr(key, "/segment/")) return SIM_SEGMENT;
    return SIM_ELSEWHERE;
}

/* Can this befall such a call? */
static bool sensible(enum sim_fault fault, enum sim_call call, size_t n)
{
    switch (fault) {
    case SIM_DUPLICATE: return call == SIM_CREATE;
    case SIM_LATE: return call == SIM_CREATE || call == SIM_PUT || call == SIM_DELETE;
    case SIM_FULL: return call == SIM_CREATE || call == SIM_PUT;
    case SIM_TORN:
        return call == SIM_LIST || ((call == SIM_DELETE || call == SIM_READ) && n > 1);
    case SIM_OK:
    case SIM_FAIL:
    case SIM_DROP:
    case SIM_LOSE:
    case SIM_SLOW:
    case SIM_FAULTS: break;
    }
    return true;
}

static enum sim_fault draw_fault(struct store_net *net, enum sim_call call,
                                 const char *key, size_t n)
{
    enum sim_fault drawn = SIM_OK;
    uint64_t x = sim_random(10000);

    for (enum sim_fault f = SIM_FAIL; f < SIM_FAULTS && drawn == SIM_OK; f++) {
        if (x < net->options.weather[f])
            drawn = f;
        else
            x -= net->options.weather[f];
    }
    if (net->calm || !sensible(drawn, call, n)) drawn = SIM_OK;
    net->hits->calls++;
    net->hits->hits[drawn][call][place_of(key)]++;
    return drawn;
}

static int64_t draw_latency_us(const struct store_net *net, enum sim_fault fault)
{
    const struct store_net_options *o = &net->options;
    int64_t us = o->latency_us_min;
    us += (int64_t)sim_random((uint64_t)(o->latency_us_max - o->latency_us_min) + 1);
    if (fault == SIM_SLOW)
        us += (int64_t)sim_random((uint64_t)o->slow_ms_max * 1000 + 1);
    return us;
}

static void sleep_us(int64_t us)
{
    task_sleep_ms((us + 999) / 1000);
}

static void note(enum sim_call call, enum sim_fault fault, const char *key, enum err e)
{
    static const char *const calls[] = {"read", "get",  "create",
                                        "put",  "list", "delete"};
    static const char *const faults[] = {"",       "fail ", "drop ", "lose ", "late ",
                                         "twice ", "full ", "torn ", "slow "};
    sim_note("%s%s %s: %s", faults[fault], calls[call], key, err_name(e));
}

/* ---- parcels ---- */

static void parcel_unref(struct parcel *p)
{
    if (--p->refs) return;
    if (p->link) {
        *p->link = p->next;
        if (p->next) p->next->link = p->link;
    }
    for (size_t i = 0; i < p->key_count; i++)
        mem_free(p->keys[i]);
    mem_free(p->keys);
    buf_release(&p->bytes);
    mem_free(p);
}

static struct parcel *parcel_new(struct store_net *net, enum sim_call call,
                                 const char *const *keys, size_t n,
                                 const struct slice *parts, size_t part_count)
{
    struct parcel *p = mem_new(struct parcel);
    p->net = net;
    p->refs = 1;
    p->call = call;
    p->keys = mem_new_array(char *, n);
    p->key_count = n;
    for (size_t i = 0; i < n; i++)
        p->keys[i] = mem_strdup(keys[i]);
    for (size_t i = 0; i < part_count; i++)
        buf_append_slice(&p->bytes, parts[i]);

    p->next = net->parcels;
    p->link = &net->parcels;
    if (p->next) p->next->link = &p->next;
    net->parcels = p;
    return p;
}

/* Does at the store what the parcel says. In no fiber, or in one that holds. */
static enum err parcel_apply(struct parcel *p)
{
    const struct store_witness *w = &p->net->options.witness;
    struct slice bytes = buf_slice(&p->bytes);
    struct store *inner = p->net->inner;
    struct op op;
    enum err e;

    op_init(&op, OP_NO_DEADLINE, 0);
    sim_hold();
    for (size_t i = 0; p->call == SIM_DELETE && w->deleting && i < p->key_count; i++)
        w->deleting(w->context, p->keys[i]);
    if (p->call == SIM_CREATE)
        e = store_create(&op, inner, p->keys[0], bytes);
    else if (p->call == SIM_PUT)
        e = store_put(&op, inner, p->keys[0], &bytes, 1);
    else
        e = store_delete(&op, inner, (const char *const *)p->keys, p->key_count);
    if (!e && p->call != SIM_DELETE && w->stored)
        w->stored(w->context, p->keys[0], bytes);
    sim_unhold();
    op_release(&op);
    sim_note("lands: %s: %s", p->keys[0], err_name(e));
    return e;
}

static void parcel_arrives(void *arg)
{
    struct parcel *p = arg;
    enum err e = parcel_apply(p);
    if (!p->arrived) p->err = e;
    p->arrived = true;
    parcel_unref(p);
}

static void parcel_send(struct parcel *p, int64_t us)
{
    p->refs++;
    sim_after(us, parcel_arrives, p);
}

/* ---- writing ---- */

static enum err outcome_unknown(struct op *op, enum sim_call call, const char *key)
{
    enum err e = call == SIM_CREATE ? ERR_UNKNOWN : ERR_IO;
    return op_fail(op, e, "no answer about %s", key);
}

/* Waits for the answer, at most until op's deadline; false when that passed first. */
static bool wait_for_answer(const struct op *op, int64_t us)
{
    int64_t until_ms = clock_ms() + (us + 999) / 1000;
    if (op->deadline_ms < until_ms) {
        task_sleep_ms(op->deadline_ms - clock_ms());
        return false;
    }
    sleep_us(us);
    return true;
}

static enum err answer_of(struct op *op, const struct parcel *p)
{
    assert(p->arrived);
    return p->err ? op_fail(op, p->err, "%s", p->keys[0]) : ERR_OK;
}

static void send_as(struct parcel *p, enum sim_fault fault, int64_t travel_us)
{
    int64_t late_us = p->net->options.late_ms_max * 1000;
    if (fault == SIM_LATE || fault == SIM_DUPLICATE)
        parcel_send(p, travel_us + (int64_t)sim_random((uint64_t)late_us + 1));
    if (fault == SIM_OK || fault == SIM_SLOW || fault == SIM_LOSE ||
        fault == SIM_DUPLICATE || fault == SIM_TORN)
        parcel_send(p, travel_us);
    if (fault == SIM_TORN && p->key_count > 1) {
        size_t kept = 1 + sim_random(p->key_count - 1);
        while (p->key_count > kept)
            mem_free(p->keys[--p->key_count]);
    }
}

/* Takes p over. */
static enum err deliver(struct op *op, struct parcel *p)
{
    enum sim_call call = p->call;
    const char *key = p->keys[0];
    enum sim_fault fault = draw_fault(p->net, call, key, p->key_count);
    int64_t there_us = draw_latency_us(p->net, fault);
    int64_t back_us = draw_latency_us(p->net, SIM_OK);
    enum err e;

    send_as(p, fault, there_us);
    bool in_time = wait_for_answer(op, there_us + back_us);
    if (fault == SIM_FAIL)
        e = op_fail(op, ERR_IO, "%s", key);
    else if (fault == SIM_FULL)
        e = op_fail(op, ERR_FULL, "%s", key);
    else if (!in_time || fault == SIM_DROP || fault == SIM_LOSE || fault == SIM_LATE)
        e = outcome_unknown(op, call, key);
    else if (fault == SIM_TORN)
        e = op_fail(op, ERR_IO, "%s was deleted, others were not", key);
    else
        e = answer_of(op, p);
    note(call, fault, key, e);
    parcel_unref(p);
    return e;
}

static struct store_net *net_of(struct store *s)
{
    return ((struct store_sim *)s)->net;
}

static enum err sim_create(struct op *op, struct store *s, const char *key,
                           struct slice data)
{
    return deliver(op, parcel_new(net_of(s), SIM_CREATE, &key, 1, &data, 1));
}

static enum err sim_put(struct op *op, struct store *s, const char *key,
                        const struct slice *parts, size_t n)
{
    return deliver(op, parcel_new(net_of(s), SIM_PUT, &key, 1, parts, n));
}

static enum err sim_delete(struct op *op, struct store *s, const char *const *keys,
                           size_t n)
{
    return deliver(op, parcel_new(net_of(s), SIM_DELETE, keys, n, NULL, 0));
}

/* ---- reading ---- */

static enum err no_answer(struct op *op, enum sim_fault fault, bool in_time,
                          const char *key)
{
    if (fault == SIM_FAIL || fault == SIM_DROP || fault == SIM_LOSE)
        return op_fail(op, ERR_IO, "%s", key);
    return in_time ? ERR_OK : op_fail(op, ERR_TIMEOUT, "%s", key);
}

static enum err sim_get(struct op *op, struct store *s, const char *key,
                        size_t size_max, struct buf *out)
{
    struct store_net *net = net_of(s);
    enum sim_fault fault = draw_fault(net, SIM_GET, key, 1);
    size_t before = out->size;

    bool in_time = wait_for_answer(op, draw_latency_us(net, fault));
    enum err e = no_answer(op, fault, in_time, key);
    if (!e) {
        sim_hold();
        e = store_get(op, net->inner, key, size_max, out);
        sim_unhold();
        if (!wait_for_answer(op, draw_latency_us(net, SIM_OK))) {
            out->size = before;
            e = op_fail(op, ERR_TIMEOUT, "%s", key);
        }
    }
    note(SIM_GET, fault, key, e);
    return e;
}

/* Ranges arrive one after the other, so that what they are read from may go between. */
static enum err sim_read(struct op *op, struct store *s, struct store_range *ranges,
                         size_t n)
{
    struct store_net *net = net_of(s);
    enum sim_fault fault = draw_fault(net, SIM_READ, ranges[0].key, n);
    size_t torn_at = fault == SIM_TORN ? 1 + sim_random(n - 1) : n;

    bool in_time = wait_for_answer(op, draw_latency_us(net, fault));
    enum err first = no_answer(op, fault, in_time, ranges[0].key);
    for (size_t i = 0; i < n; i++) {
        if (first || i >= torn_at) {
            ranges[i].err = first ? first : ERR_IO;
            continue;
        }
        sim_hold();
        (void)store_read(op, net->inner, &ranges[i], 1);
        sim_unhold();
        sim_yield();
    }
    for (size_t i = 0; i < n && !first; i++)
        first = ranges[i].err;
    if (first == ERR_IO) (void)op_fail(op, first, "%s", ranges[0].key);
    note(SIM_READ, fault, ranges[0].key, first);
    return first;
}

/* One page at a time: what changes between two pages is seen or not, as it happens. */
static enum err list_pages(struct op *op, struct store_net *net, size_t page_max,
                           const char *prefix, const char *after, char delimiter,
                           const char **keys, size_t *n)
{
    size_t found = 0, page;
    do {
        page = *n - found < page_max ? *n - found : page_max;
        size_t asked = page;
        sim_hold();
        enum err e = store_list(op, net->inner, prefix, found ? keys[found - 1] : after,
                                delimiter, keys + found, &page);
        sim_unhold();
        if (e) return e;
        found += page;
        if (page < asked) break;
        if (!wait_for_answer(op, draw_latency_us(net, SIM_OK)))
            return op_fail(op, ERR_TIMEOUT, "%s", prefix);
    } while (found < *n);
    *n = found;
    return ERR_OK;
}

static enum err sim_list(struct op *op, struct store *s, const char *prefix,
                         const char *after, char delimiter, const char **keys,
                         size_t *n)
{
    struct store_net *net = net_of(s);
    enum sim_fault fault = draw_fault(net, SIM_LIST, prefix, *n);
    size_t page_max = fault == SIM_TORN ? 1 + sim_random(PAGE_MAX) : 1000;

    bool in_time = wait_for_answer(op, draw_latency_us(net, fault));
    enum err e = no_answer(op, fault, in_time, prefix);
    if (!e) e = list_pages(op, net, page_max, prefix, after, delimiter, keys, n);
    note(SIM_LIST, fault, prefix, e);
    return e;
}

/* ---- life ---- */

static void sim_free(struct store *s)
{
    mem_free(s);
}

static const struct store_ops sim_ops = {
    .name = "sim",
    .read = sim_read,
    .get = sim_get,
    .create = sim_create,
    .put = sim_put,
    .list = sim_list,
    .delete = sim_delete,
    .free = sim_free,
};

struct store *store_sim_new(struct store_net *net)
{
    struct store_sim *s = mem_new(struct store_sim);
    s->base.ops = &sim_ops;
    s->net = net;
    return &s->base;
}

struct store_net *store_net_new(struct store *inner,
                                const struct store_net_options *options,
                                struct store_net_hits *hits)
{
    struct store_net *net = mem_new(struct store_net);
    net->inner = inner;
    net->options = *options;
    net->hits = hits;
    return net;
}

void store_net_calm(struct store_net *net)
{
    net->calm = true;
}

void store_net_free(struct store_net *net)
{
    while (net->parcels) {
        net->parcels->refs = 1;
        parcel_unref(net->parcels);
    }
    mem_free(net);
}
