#include "ns/background.h"

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/namespace.h"
#include "ns/ns_metrics.h"
#include "ns/open_table.h"
#include "ns/survey.h"

enum {
    TICK_MS = 200,
    MERGER_TICK_MS = 1000,
    /* Queries come first where all want the processor, but not before tails are
     * indexed: the longer these are, the more of it each query takes. */
    MAINTENANCE_NICE = 0,
    MERGER_NICE = 10,
    MAINTAIN_TIMEOUT_MS = 600000,
    SURVEY_PAUSE_MIN_MS = 1000,
    SURVEY_AGAIN_MS = 60000, /* after one that failed, in whole or in part */
    TOTALS_PAUSE_MS = 5000
};

struct worker {
    struct thread *thread;
    struct op *working; /* what it is at, or NULL */
};

struct background {
    const struct registry_options *env;
    struct open_table *table;
    atomic_uint_fast64_t *count;
    struct worker maintenance, merger, surveyor;
    bool survey_failed; /* of the surveyor: something is left to be done */
    int64_t totals_ms;  /* of maintenance: when the gauges are due */
    struct mutex lock;  /* guards what follows, and what the workers are at */
    struct cond wake;
    bool stopping;
};

enum err background_work(struct op *op, struct open_table *table, const char *name,
                         enum work work)
{
    struct namespace *ns = NULL;
    enum err e = open_table_find(op, table, name, &ns);
    if (e) return e;
    e = upkeep_run(op, ns, work);
    namespace_unref(ns);
    return e;
}

/* A background thread starts on op, which background_cancel may cancel. False: stop. */
static bool work_begin(struct background *b, struct worker *w, struct op *op)
{
    op_init(op, clock_ms() + (w == &b->merger ? MERGE_TIMEOUT_MS : MAINTAIN_TIMEOUT_MS),
            0);
    mutex_lock(&b->lock);
    bool stopping = b->stopping;
    w->working = op;
    mutex_unlock(&b->lock);
    return !stopping;
}

static void work_end(struct background *b, struct worker *w, struct op *op)
{
    mutex_lock(&b->lock);
    w->working = NULL;
    mutex_unlock(&b->lock);
    op_release(op);
}

static void maintain_in_background(struct background *b, struct worker *w,
                                   struct namespace *ns)
{
    if (w == &b->maintenance ? !upkeep_maintenance_due(ns) : !upkeep_merge_due(ns))
        return;
    struct op op;
    bool go_on = work_begin(b, w, &op);

    /* What fails is counted and logged there. */
    if (go_on && w == &b->maintenance) (void)upkeep_maintain(&op, ns, WORK_IF_DUE);
    if (go_on && w == &b->merger) (void)upkeep_merge(&op, ns, WORK_IF_DUE);
    work_end(b, w, &op);
}

static void maintain_all(struct background *b, struct worker *w)
{
    struct walk walk = {0};
    struct namespace *ns;

    while ((ns = open_table_next(b->table, &walk))) {
        maintain_in_background(b, w, ns);
        namespace_unref(ns);
    }
}

static bool stop_after(struct background *b, int64_t ms)
{
    int64_t until_ms = clock_ms() + ms;
    mutex_lock(&b->lock);
    while (!b->stopping && cond_wait(&b->wake, &b->lock, until_ms))
        ;
    bool stopping = b->stopping;
    mutex_unlock(&b->lock);
    return stopping;
}

/* What the open namespaces have, all together, for /metrics. */
static void add_totals(struct namespace *ns, struct ns_totals *t)
{
    mutex_lock(&ns->lock);
    if (ns->state == NS_READY) {
        const struct snapshot *s = ns->tenure.snapshot;
        t->segments += ns->tenure.base->source_count;
        t->tail_bytes += s->tail_bytes;
        t->tail_rows += s->tail_rows;
        t->wal_objects += ns->tenure.next - ns->tenure.manifest->floor;
    }
    t->namespaces++;
    mutex_unlock(&ns->lock);
}

static void publish_totals(struct background *b)
{
    struct walk walk = {0};
    struct ns_totals t = {0};
    struct namespace *ns;

    if (clock_ms() < b->totals_ms) return;
    b->totals_ms = clock_ms() + TOTALS_PAUSE_MS;
    while ((ns = open_table_next(b->table, &walk))) {
        add_totals(ns, &t);
        namespace_unref(ns);
    }
    ns_metrics_set(&t);
}

static void maintenance_main(void *arg)
{
    struct background *b = arg;
    thread_yield_to_others(MAINTENANCE_NICE);
    do {
        maintain_all(b, &b->maintenance);
        open_table_close_idle(b->table);
        publish_totals(b);
    } while (!stop_after(b, TICK_MS));
}

static void merger_main(void *arg)
{
    struct background *b = arg;
    thread_yield_to_others(MERGER_NICE);
    do {
        maintain_all(b, &b->merger);
    } while (!stop_after(b, MERGER_TICK_MS));
}

/* What the surveyor is at from now on; op is canceled when all is to stop. */
static struct op *surveyor_turn_to(struct background *b, struct op *op)
{
    mutex_lock(&b->lock);
    struct op *before = b->surveyor.working;
    b->surveyor.working = op;
    if (b->stopping) op_cancel(op);
    mutex_unlock(&b->lock);
    return before;
}

/* The survey found that this namespace has work: opens it and does it at once, so that
 * the tails of many namespaces never wait in memory together. */
static void work_on(void *context, const char *name)
{
    struct background *b = context;
    struct op op;

    op_init(&op, clock_ms() + MERGE_TIMEOUT_MS, 0);
    struct op *survey = surveyor_turn_to(b, &op);
    enum err e = background_work(&op, b->table, name,
                                 b->env->compaction ? WORK_COMPACT : WORK_INDEX);
    if (e && e != ERR_CANCELED)
        log_warn(&op, "an idle namespace was not indexed, will try again",
                 "namespace=%s error=%s", name, op.error);
    b->survey_failed |= e != ERR_OK;
    (void)surveyor_turn_to(b, survey);
    op_release(&op);
}

static void survey(struct background *b, struct survey *s)
{
    struct op op;
    uint64_t count;
    bool all = false;

    op_init(&op, OP_NO_DEADLINE, 0);
    (void)surveyor_turn_to(b, &op);
    enum err e = survey_run(&op, s, work_on, b, &count, &all);
    if (!e) atomic_store(b->count, count);
    b->survey_failed |= !all;
    if (e && e != ERR_CANCELED)
        log_warn(&op, "namespaces were not counted", "error=%s", op.error);
    work_end(b, &b->surveyor, &op);
}

static void surveyor_main(void *arg)
{
    struct background *b = arg;
    struct survey *s = survey_new(b->env);
    thread_yield_to_others(MERGER_NICE);
    int64_t pause_ms = b->env->interval_ms;

    if (pause_ms < SURVEY_PAUSE_MIN_MS) pause_ms = SURVEY_PAUSE_MIN_MS;
    int64_t again_ms = pause_ms < SURVEY_AGAIN_MS ? pause_ms : SURVEY_AGAIN_MS;
    do {
        b->survey_failed = false;
        survey(b, s);
    } while (!stop_after(b, b->survey_failed ? again_ms : pause_ms));
    survey_free(s);
}

/* ---- life ---- */

struct background *background_start(const struct registry_options *env,
                                    struct open_table *table,
                                    atomic_uint_fast64_t *count)
{
    struct background *b = mem_new(struct background);
    b->env = env;
    b->table = table;
    b->count = count;
    mutex_init(&b->lock);
    cond_init(&b->wake);
    b->maintenance.thread = thread_start("maintenance", maintenance_main, b);
    b->merger.thread = thread_start("merger", merger_main, b);
    b->surveyor.thread = thread_start("surveyor", surveyor_main, b);
    return b;
}

void background_cancel(struct background *b)
{
    if (!b) return;
    struct worker *workers[] = {&b->maintenance, &b->merger, &b->surveyor};
    mutex_lock(&b->lock);
    b->stopping = true;
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++)
        if (workers[i]->working) op_cancel(workers[i]->working);
    cond_broadcast(&b->wake);
    mutex_unlock(&b->lock);
}

void background_free(struct background *b)
{
    if (!b) return;
    thread_join(b->maintenance.thread);
    thread_join(b->merger.thread);
    thread_join(b->surveyor.thread);
    cond_release(&b->wake);
    mutex_release(&b->lock);
    mem_free(b);
}
