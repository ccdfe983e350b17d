#include "ns/slowdown.h"

#include "base/op.h"
#include "base/task.h"
#include "ns/namespace.h"
#include "ns/ns_metrics.h"
#include "ns/registry.h"
#include "ns/snapshot.h"

enum { BEHIND = 2, WAIT_MAX_MS = 1000, WAITING_MAX = 16 };
enum { MANY_SEGMENTS = 12, STRETCH = 2, MEMORY_PART = 8 };

/* While stored segments are many, if an eighth of tail.max_bytes is enough for it. */
static unsigned stretch(const struct registry_options *env, const struct snapshot *s)
{
    uint32_t stored = 0;
    while (stored < s->source_count && s->sources[stored].stored)
        stored++;
    bool room = env->tail_index_bytes <= env->tail_bytes_max / (STRETCH * MEMORY_PART);
    return stored >= MANY_SEGMENTS && room ? STRETCH : 1;
}

static bool is_long(const struct registry_options *env, const struct snapshot *s,
                    unsigned segments)
{
    unsigned times = segments * stretch(env, s);
    return s->tail_rows / times >= env->tail_index_rows ||
           s->tail_bytes / times >= env->tail_index_bytes;
}

bool tail_long(const struct registry_options *env, const struct snapshot *s)
{
    return is_long(env, s, 1);
}

bool tail_behind(const struct registry_options *env, const struct snapshot *s)
{
    return is_long(env, s, BEHIND);
}

void slowdown_learn(struct slowdown *s, uint64_t rows, int64_t took_us)
{
    s->row_ns = took_us * 1000 / (int64_t)rows;
}

static bool behind(const struct namespace *ns)
{
    return ns->state == NS_READY && tail_behind(ns->env, ns->tenure.snapshot);
}

/* Until when a write of so many rows waits; lock held. */
static int64_t wait_until_ms(const struct op *op, struct slowdown *s, uint64_t rows)
{
    int64_t now_us = clock_us();
    int64_t half_ms = (op->deadline_ms - now_us / 1000) / 2;
    int64_t latest_us = now_us + (half_ms < WAIT_MAX_MS ? half_ms : WAIT_MAX_MS) * 1000;

    if (s->indexed_us < now_us) s->indexed_us = now_us;
    s->indexed_us += (int64_t)rows * s->row_ns / 1000;
    if (s->indexed_us > latest_us) s->indexed_us = latest_us;
    return s->indexed_us / 1000;
}

void slowdown_wait(const struct op *op, struct namespace *ns, uint64_t rows)
{
    mutex_lock(&ns->lock);
    struct slowdown *s = &ns->slowdown;
    if (rows && s->row_ns && s->waiting < WAITING_MAX && behind(ns)) {
        int64_t until_ms = wait_until_ms(op, s, rows);
        ns_count(NS_WRITES_SLOWED);
        s->waiting++;
        while (behind(ns) && clock_ms() < until_ms)
            (void)cond_wait(&ns->changed, &ns->lock, until_ms);
        s->waiting--;
    }
    mutex_unlock(&ns->lock);
}
