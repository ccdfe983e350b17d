/*
 * run_fault.c - death at every call to the store.
 *
 *   run_fault [--pairs N] [--point CALL,MODE[,CALL,MODE] [--verbose]]
 *
 * One node runs a fixed workload (create, 80 writes with deletes, indexing, compaction,
 * collection, drop, create again) and dies at call 1, 2, … of it: before the call is
 * applied, after it is applied but before its answer, and after its answer. A fresh
 * process then opens the same store and must find all that was acknowledged, finish
 * what was begun, and go on: read, repeat, write, index, collect, purge. Then pairs:
 * the process that recovers dies too, at a call drawn from the seed, and another
 * recovers. The ledger (sim/ledger.h) holds every object, delete and answer against
 * PROTOCOL.md section 3.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "sim/node.h"
#include "sim/sim.h"
#include "store/store_fault.h"
#include "store/store_mem.h"

enum { WRITES = 80, CALL_TIMEOUT_MS = 30000, FAILURES_SHOWN = 10, CHUNK = 40 };

static const char NAMESPACE[] = "things";
static const enum fault modes[] = {FAULT_DIE_BEFORE, FAULT_DIE_LOST, FAULT_DIE_AFTER};
#define MODES (sizeof modes / sizeof modes[0])
static const char *const mode_names[MODES] = {"before", "lost", "after"};

/* Where a process dies; call 0: nowhere. */
struct point {
    uint64_t call;
    unsigned mode;
};

struct script {
    struct point first, second;
};

/* Of the run in progress; shared with the parent. */
struct tally {
    uint64_t index; /* of the script being run */
    uint64_t done, deaths, acknowledged;
    uint64_t calls[2]; /* of the workload and of the recovery, if they lived on */
    struct store_net_hits hits;
    char wrong[2560];
};

struct world {
    struct script script;
    struct tally *tally;
    struct store *mem;
    struct store_net *net;
    struct ledger *ledger;
};

/* One process: runs, and perhaps dies on the way. */
struct life {
    struct world *world;
    struct store *store; /* a store_fault over a link */
    const char *node_id;
    void (*run)(struct life *life);
    unsigned process;
};

/* ---- calls that must succeed while nobody dies ---- */

static int64_t soon(void)
{
    return clock_ms() + CALL_TIMEOUT_MS;
}

static void expect(struct world *w, enum err e, const char *call)
{
    if (e) ledger_complain(w->ledger, "%s fails: %s", call, err_name(e));
}

static void write_number(struct world *w, struct node *n, uint32_t number)
{
    struct write_result result;
    enum err e = node_write(n, number, soon(), &result);
    expect(w, e, "a write");
    w->tally->acknowledged += !e;
}

/* The i-th write of the workload: mostly puts, every fourth a delete, now and then of
 * all old documents at once; every other put without a key. */
static void write_planned(struct world *w, struct node *n, uint32_t i)
{
    struct intent intent = {.kind = INTENT_PUT, .keyed = i % 2 == 0};
    for (uint32_t k = 0; k <= i % 4; k++)
        intent.ids |= 1u << (i * 7 + k * 5) % LEDGER_IDS;
    if (i % 4 == 3) intent.kind = INTENT_DELETE;
    if (i % 20 == 18) intent.kind = INTENT_DELETE_BELOW;
    intent.keyed |= intent.kind != INTENT_PUT;
    intent.below = i > 12 ? i - 12 : 1;
    write_number(w, n, ledger_intend(w->ledger, intent));
}

static struct registry_options options_of(const struct life *life)
{
    struct registry_options o = registry_options_default();
    o.node_id = life->node_id;
    o.segments_max = 2;
    o.gc_grace_ms = 0;
    o.background = false;
    return o;
}

static void read_strong(struct world *w, struct node *n)
{
    expect(w, node_read(n, true, NULL, soon(), NULL), "a strong read");
}

/* ---- the workload ---- */

static void write_and_index(struct world *w, struct node *n, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        write_planned(w, n, i);
        if (i % 2 == 1) expect(w, node_maintain(n, true, soon()), "indexing");
        if (i % 10 == 9) read_strong(w, n);
    }
}

static void workload(struct life *life)
{
    struct world *w = life->world;
    struct registry_options o = options_of(life);
    struct node n;

    node_open(&n, w->ledger, NAMESPACE, life->store, &o);
    expect(w, node_create(&n, soon()), "create");
    write_and_index(w, &n, 0, WRITES / 2);
    node_close(&n, soon());

    /* A restart in good order: another epoch, whose collection finds orphans. */
    node_open(&n, w->ledger, NAMESPACE, life->store, &o);
    write_and_index(w, &n, WRITES / 2, WRITES);
    expect(w, node_drop(&n, soon()), "drop");
    expect(w, node_create(&n, soon()), "create again");
    write_and_index(w, &n, 0, 8);
    read_strong(w, &n);
    node_close(&n, soon());
}

/* ---- recovery ---- */

static enum err read_or_absent(struct world *w, struct node *n)
{
    enum err e = node_read(n, true, NULL, soon(), NULL);
    if (e != ERR_NOT_FOUND) expect(w, e, "a strong read after the crash");
    return e;
}

static void repeat_keyed_writes(struct world *w, struct node *n)
{
    uint32_t count = ledger_intent_count(w->ledger);
    for (uint32_t i = 1; i <= count; i++)
        if (ledger_intent(w->ledger, i)->keyed &&
            (ledger_open_ended(w->ledger, i) || i + 3 > count))
            write_number(w, n, i);
}

/* A background thread purges what a dead process dropped. */
static void finish_purges(struct life *life)
{
    struct registry_options o = options_of(life);
    struct node n;
    o.background = true;
    node_open(&n, life->world->ledger, NAMESPACE, life->store, &o);
    task_sleep_ms(2000);
    node_close(&n, soon());
    ledger_check_purged(life->world->ledger, life->world->mem);
}

static void recovery(struct life *life)
{
    struct world *w = life->world;
    struct registry_options o = options_of(life), read_only = o;
    struct node n, reader;

    read_only.read_only = true;
    node_open(&reader, w->ledger, NAMESPACE, life->store, &read_only);
    (void)read_or_absent(w, &reader);
    finish_purges(life);

    node_open(&n, w->ledger, NAMESPACE, life->store, &o);
    if (read_or_absent(w, &n) == ERR_NOT_FOUND)
        expect(w, node_create(&n, soon()), "create after the crash");
    repeat_keyed_writes(w, &n);
    write_planned(w, &n, 2);
    expect(w, node_maintain(&n, true, soon()), "indexing after the crash");
    write_planned(w, &n, 3);
    read_strong(w, &n);
    read_strong(w, &reader);
    ledger_check_objects(w->ledger, w->mem);
    node_close(&n, soon());
    node_close(&reader, soon());
}

/* ---- lives ---- */

static void die(void *context)
{
    struct life *life = context;
    life->world->tally->deaths++;
    sim_kill(life->process);
}

static void live(void *arg)
{
    struct life *life = arg;
    life->run(life);
}

/* Runs one life to its end. True: it did not die. */
static bool run_life(struct world *w, void (*run)(struct life *), const char *node_id,
                     struct point death, uint64_t *calls)
{
    struct life life = {.world = w, .run = run, .node_id = node_id};
    struct fault_plan plan = {.at_call = death.call,
                              .at_fault = modes[death.mode],
                              .on_death = die,
                              .context = &life};

    life.process = sim_process_new();
    life.store = store_fault_new(store_sim_new(w->net), &plan);
    thread_join(sim_spawn(life.process, node_id, live, &life));
    if (!sim_alive(life.process)) return false;
    if (calls) *calls = store_fault_calls(life.store);
    store_free(life.store);
    return true;
}

static void scenario(void *arg)
{
    struct world *w = arg;
    struct store_net_options options = {.witness = ledger_witness(w->ledger)};
    const struct point nowhere = {0, 0};
    bool other = w->script.first.call % 2;

    w->net = store_net_new(w->mem, &options, &w->tally->hits);
    (void)run_life(w, workload, "one", w->script.first, &w->tally->calls[0]);
    (void)run_life(w, recovery, other ? "two" : "one", w->script.second,
                   &w->tally->calls[1]);
    if (w->script.second.call)
        (void)run_life(w, recovery, other ? "one" : "two", nowhere, NULL);
}

static void run_script(const struct script *script, bool verbose, struct tally *t)
{
    struct world w = {.script = *script, .tally = t};
    struct sim_options options = {.seed = 1,
                                  .steps_max = 10000000,
                                  .stickiness = 200,
                                  .verbose = verbose};
    struct sim_result r;

    w.mem = store_mem_new();
    w.ledger = ledger_new(NAMESPACE, 10000);
    sim_run(&options, scenario, &w, &r);
    if (ledger_wrong(w.ledger))
        (void)snprintf(t->wrong, sizeof t->wrong, "%s", ledger_wrong(w.ledger));
    else if (r.end != SIM_FINISHED)
        (void)snprintf(t->wrong, sizeof t->wrong, "no end: %s", r.words);
    store_net_free(w.net);
    ledger_free(w.ledger);
    store_free(w.mem);
}

/* ---- all of them ---- */

/* Runs scripts in a child, which leaks what dead processes held, until one fails. */
static uint64_t run_chunk(const struct script *scripts, uint64_t from, uint64_t to,
                          bool verbose, struct tally *t)
{
    int status;

    t->wrong[0] = '\0';
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) exit(2);
    if (pid == 0) {
        for (uint64_t i = from; i < to && !t->wrong[0]; i++) {
            t->index = i;
            run_script(&scripts[i], verbose, t);
            t->done += !t->wrong[0];
        }
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid) exit(2);
    if (!t->wrong[0] && (WIFSIGNALED(status) || WEXITSTATUS(status)))
        (void)snprintf(t->wrong, sizeof t->wrong, "the process ended with status %d",
                       status);
    return t->wrong[0] ? t->index + 1 : to;
}

static void print_failure(const struct script *s, const char *wrong)
{
    (void)printf("--point %llu,%s", (unsigned long long)s->first.call,
                 mode_names[s->first.mode]);
    if (s->second.call)
        (void)printf(",%llu,%s", (unsigned long long)s->second.call,
                     mode_names[s->second.mode]);
    (void)printf(": %s\n", wrong);
}

static uint64_t run_scripts(const struct script *scripts, uint64_t n, bool verbose,
                            struct tally *t)
{
    uint64_t failed = 0;
    for (uint64_t i = 0; i < n;) {
        i = run_chunk(scripts, i, i + CHUNK < n ? i + CHUNK : n, verbose, t);
        if (t->wrong[0] && failed++ < FAILURES_SHOWN)
            print_failure(&scripts[t->index], t->wrong);
    }
    return failed;
}

/* xorshift64 (Marsaglia 2003): spreads the pairs, nothing more. */
static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

static int sweep(uint64_t pairs, struct tally *t)
{
    const struct script whole = {{0, 0}, {0, 0}};
    uint64_t failed = run_scripts(&whole, 1, false, t), random = 88172645463325252u;
    if (failed) return 1;
    uint64_t calls = t->calls[0], recovery_calls = t->calls[1];
    uint64_t n = calls * MODES + pairs;
    struct script *scripts = calloc(n, sizeof *scripts);
    if (!scripts) return 2;

    for (uint64_t i = 0; i < calls * MODES; i++)
        scripts[i].first = (struct point){1 + i / MODES, (unsigned)(i % MODES)};
    for (uint64_t i = calls * MODES; i < n; i++) {
        scripts[i].first =
            (struct point){1 + draw(&random, calls), (unsigned)draw(&random, MODES)};
        scripts[i].second = (struct point){1 + draw(&random, recovery_calls),
                                           (unsigned)draw(&random, MODES)};
    }
    failed = run_scripts(scripts, n, false, t);
    free(scripts);
    (void)printf("%llu calls, %llu points of death, %llu pairs, %llu deaths, "
                 "%llu acknowledged writes\n",
                 (unsigned long long)calls, (unsigned long long)(calls * MODES),
                 (unsigned long long)pairs, (unsigned long long)t->deaths,
                 (unsigned long long)t->acknowledged);
    (void)printf("%llu passed, %llu failed\n", (unsigned long long)t->done,
                 (unsigned long long)failed);
    return failed ? 1 : 0;
}

static unsigned parse_mode(const char *text)
{
    for (unsigned i = 0; i < MODES; i++)
        if (strncmp(text, mode_names[i], strlen(mode_names[i])) == 0) return i;
    (void)fprintf(stderr, "a mode is before, lost or after\n");
    exit(2);
}

/* "CALL,MODE", and what follows it. */
static const char *parse_point(const char *text, struct point *p)
{
    char *end;
    p->call = strtoull(text, &end, 10);
    if (*end++ != ',') exit(2);
    p->mode = parse_mode(end);
    const char *comma = strchr(end, ',');
    return comma ? comma + 1 : NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"pairs", required_argument, NULL, 'n'},
                                            {"point", required_argument, NULL, 'p'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    struct tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct script one = {{0, 0}, {0, 0}};
    uint64_t pairs = 2000;
    bool verbose = false, single = false;
    int c;

    if (t == MAP_FAILED) return 2;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'n') {
            pairs = strtoull(optarg, NULL, 10);
        } else if (c == 'p') {
            single = true;
            const char *rest = parse_point(optarg, &one.first);
            if (rest) (void)parse_point(rest, &one.second);
        } else if (c == 'v') {
            verbose = true;
        } else {
            return 2;
        }
    }
    log_init(verbose ? LOG_DEBUG : LOG_ERROR, LOG_TEXT);
    return single ? (int)run_scripts(&one, 1, verbose, t) : sweep(pairs, t);
}
