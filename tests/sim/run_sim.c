/*
 * run_sim.c - whole clusters under simulation, one seed at a time.
 *
 *   run_sim [--seeds N] [--seed FIRST]     N runs from FIRST on
 *   run_sim --replay SEED [--verbose]      one run, twice: both hashes must be equal
 *
 * A run: one to three nodes with the real engine, each a process of clients as fibers,
 * over one store behind a network (store_sim.h). The seed decides how many nodes, who
 * thinks to own the namespace (rightly, wrongly, several at once), the weather of the
 * network, who crashes, pauses and restarts when, and what the clients do. The ledger
 * (ledger.h) holds every answer against the truth. At the end the weather calms, all
 * that is late lands, and a fresh node must read, settle and write everything.
 *
 * Runs happen in child processes, a chunk each, since a killed node's memory is never
 * freed, and since an assertion of the engine must not end the other seeds.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "sim/node.h"
#include "sim/sim.h"
#include "store/store_mem.h"

enum {
    NODES_MAX = 3,
    CLIENTS_MAX = 3,
    CHUNK = 50,
    REPLAY_EVERY = 50,
    FAILURES_SHOWN = 10,
    STEPS_MAX = 20000000,
    PATIENCE_MS = 300000 /* how long the healed cluster may take for one request */
};

static const char NAMESPACE[] = "things";

struct world;

struct member {
    struct world *world;
    struct node node;
    struct store *link;
    char id[16];
    unsigned process, index;
    bool up, owns, read_only, draining;
    struct thread *clients[CLIENTS_MAX];
    unsigned client_count;
};

struct world {
    struct store *mem;
    struct store_net *net;
    struct store_net_options weather;
    struct store_net_hits *hits;
    struct ledger *ledger;
    struct registry_options options;
    struct member members[NODES_MAX];
    unsigned member_count;
    uint32_t budget;     /* client calls left */
    unsigned drop_every; /* a client's call in so many drops the namespace; 0: none */
    uint64_t acknowledged, reads; /* how much was checked */
    struct commit_token token;    /* of the last acknowledged write */
    bool has_token;
};

/* ---- drawing a world ---- */

static int64_t draw_ms(int64_t low, int64_t high)
{
    return low + (int64_t)sim_random((uint64_t)(high - low) + 1);
}

static void draw_weather(struct store_net_options *o)
{
    *o = (struct store_net_options){.latency_us_min = draw_ms(0, 500),
                                    .latency_us_max = draw_ms(1000, 50000),
                                    .late_ms_max = draw_ms(100, 1200000),
                                    .slow_ms_max = draw_ms(1000, 60000)};
    if (sim_chance(6)) return; /* crashes only */
    for (enum sim_fault f = SIM_FAIL; f < SIM_FAULTS; f++)
        if (sim_chance(2)) o->weather[f] = (unsigned)sim_random(300);
}

static bool member_owns(void *context, const char *name)
{
    (void)name;
    return ((struct member *)context)->owns;
}

static struct registry_options draw_options(void)
{
    static const int64_t graces_ms[] = {0, 1000, 60000};
    struct registry_options o = registry_options_default();
    o.commit_interval_ms = sim_chance(2) ? 0 : 100;
    o.commit_bytes_max = sim_chance(3) ? 512 : 1 << 20;
    o.tail_bytes_max = sim_chance(8) ? 20000 : 1 << 20;
    o.tail_index_rows = 1 + sim_random(40);
    o.tail_index_idle_ms = draw_ms(1000, 60000);
    o.interval_ms = draw_ms(10000, 600000);
    o.segments_max = 1 + (uint32_t)sim_random(4);
    o.gc_grace_ms = graces_ms[sim_random(3)];
    o.background = sim_chance(4);
    o.owns = member_owns;
    return o;
}

static void draw_world(struct world *w)
{
    draw_weather(&w->weather);
    w->options = draw_options();
    w->member_count = 1 + (unsigned)sim_random(NODES_MAX);
    w->budget = 40 + (uint32_t)sim_random(sim_chance(20) ? 1500 : 120);
    w->drop_every = sim_chance(3) ? 30 + (unsigned)sim_random(60) : 0;
    for (unsigned i = 0; i < w->member_count; i++) {
        struct member *m = &w->members[i];
        m->world = w;
        m->index = i;
        m->owns = i == 0 || sim_chance(2);
        m->read_only = i > 0 && sim_chance(4);
        (void)snprintf(m->id, sizeof m->id, "node-%u", i);
    }
}

/* ---- clients ---- */

static struct intent draw_intent(struct ledger *l)
{
    struct intent intent = {.keyed = true};
    uint64_t kind = sim_random(10);
    intent.kind = kind < 7   ? INTENT_PUT
                  : kind < 9 ? INTENT_DELETE
                             : INTENT_DELETE_BELOW;
    if (intent.kind == INTENT_PUT) intent.keyed = sim_chance(2);
    for (uint64_t n = 1 + sim_random(5); n; n--)
        intent.ids |= 1u << sim_random(LEDGER_IDS);
    if (intent.kind == INTENT_DELETE_BELOW) {
        uint32_t count = ledger_intent_count(l);
        intent.below = count > 10 ? count - (uint32_t)sim_random(10) : 1;
    }
    return intent;
}

/* A write whose outcome is open, to be tried again here, or a new one. */
static uint32_t choose_write(struct world *w)
{
    uint32_t count = ledger_intent_count(w->ledger);
    for (int i = 0; i < 4 && count && !sim_chance(3); i++) {
        uint32_t number = 1 + (uint32_t)sim_random(count);
        if (ledger_open_ended(w->ledger, number)) return number;
    }
    return ledger_intend(w->ledger, draw_intent(w->ledger));
}

static enum err write_something(struct member *m, uint32_t number, int64_t deadline_ms)
{
    struct write_result result;
    enum err e = node_write(&m->node, number, deadline_ms, &result);
    if (e == ERR_OK) {
        m->world->acknowledged++;
        m->world->token = result.token;
        m->world->has_token = true;
    }
    return e;
}

static void read_something(struct member *m, bool strong, int64_t deadline_ms)
{
    struct world *w = m->world;
    struct commit_token wanted = w->token;
    bool with_token = !strong && w->has_token && sim_chance(2);
    enum err e =
        node_read(&m->node, strong, with_token ? &wanted : NULL, deadline_ms, NULL);
    w->reads += e == ERR_OK;
}

static void call_something(struct member *m)
{
    struct world *w = m->world;
    int64_t deadline_ms =
        clock_ms() + (sim_chance(4) ? draw_ms(1, 300) : draw_ms(1000, 30000));
    uint64_t dice = sim_random(100);

    if (sim_chance(w->drop_every))
        (void)node_drop(&m->node, deadline_ms);
    else if (dice < 50 &&
             write_something(m, choose_write(w), deadline_ms) == ERR_NOT_FOUND)
        (void)node_create(&m->node, deadline_ms);
    else if (dice >= 50 && dice < 75)
        read_something(m, true, deadline_ms);
    else if (dice >= 75 && dice < 87)
        read_something(m, false, deadline_ms);
    else if (dice >= 87)
        (void)node_maintain(&m->node, dice < 95, deadline_ms);
}

static void client_main(void *arg)
{
    struct member *m = arg;
    struct world *w = m->world;
    while (w->budget && !m->draining && !ledger_wrong(w->ledger)) {
        w->budget--;
        call_something(m);
        task_sleep_ms(sim_chance(2) ? draw_ms(0, 20) : draw_ms(0, 2000));
    }
}

/* ---- nodes ---- */

static void member_boot(void *arg)
{
    struct member *m = arg;
    struct registry_options o = m->world->options;

    o.node_id = m->id;
    o.context = m;
    o.config_fingerprint = m->owns;
    o.read_only = m->read_only;
    m->link = store_sim_new(m->world->net);
    node_open(&m->node, m->world->ledger, NAMESPACE, m->link, &o);
    for (unsigned i = 0; i < m->client_count; i++)
        m->clients[i] = thread_start("client", client_main, m);
}

static void member_start(struct member *m, unsigned clients)
{
    m->process = sim_process_new();
    m->client_count = clients;
    m->draining = false;
    m->up = true;
    sim_note("node %u starts", m->index);
    thread_join(sim_spawn(m->process, "boot", member_boot, m));
}

static void member_kill(struct member *m)
{
    if (m->up) sim_kill(m->process);
    m->up = false;
}

static void member_shut(void *arg)
{
    struct member *m = arg;
    for (unsigned i = 0; i < m->client_count; i++)
        thread_join(m->clients[i]);
    node_close(&m->node, clock_ms() + 30000);
    store_free(m->link);
}

/* In good order: clients end, what is in flight settles, memory is freed. */
static void member_stop(struct member *m)
{
    if (!m->up) return;
    m->draining = true;
    sim_note("node %u stops", m->index);
    thread_join(sim_spawn(m->process, "shut", member_shut, m));
    member_kill(m);
}

/* ---- what goes wrong ---- */

static void disturb(struct world *w)
{
    struct member *m = &w->members[sim_random(w->member_count)];
    uint64_t dice = sim_random(100);

    if (dice < 35) {
        member_kill(m);
    } else if (dice < 45) {
        member_stop(m);
    } else if (dice < 60 && m->up) {
        sim_pause(m->process, draw_ms(1000, 90000));
    } else if (dice < 80) {
        m->owns = !m->owns;
        sim_note("node %u %s", m->index, m->owns ? "owns" : "does not own");
    }
    for (unsigned i = 0; i < w->member_count; i++)
        if (!w->members[i].up && (w->member_count == 1 || sim_chance(2)))
            member_start(&w->members[i], 1 + (unsigned)sim_random(CLIENTS_MAX));
}

/* ---- the end: the cluster heals ---- */

static bool at_rest(enum err e)
{
    return e == ERR_OK || e == ERR_NOT_FOUND;
}

static void need(struct world *w, enum err e, bool fine, const char *what)
{
    if (!fine)
        ledger_complain(w->ledger, "after all faults ended, %s still fails: %s", what,
                        err_name(e));
}

static enum err read_patiently(struct world *w, struct member *m)
{
    int64_t until_ms = clock_ms() + PATIENCE_MS;
    enum err e;
    while (!at_rest(e = node_read(&m->node, true, NULL, clock_ms() + 30000, NULL)) &&
           clock_ms() < until_ms)
        task_sleep_ms(500);
    need(w, e, at_rest(e), "a strong read");
    return e;
}

static enum err write_patiently(struct world *w, struct member *m, uint32_t number)
{
    int64_t until_ms = clock_ms() + PATIENCE_MS;
    enum err e;
    while (!at_rest(e = write_something(m, number, clock_ms() + 30000)) &&
           clock_ms() < until_ms)
        task_sleep_ms(500);
    need(w, e, at_rest(e), "a write");
    return e;
}

static void create_patiently(struct world *w, struct member *m)
{
    int64_t until_ms = clock_ms() + PATIENCE_MS;
    enum err e;
    while ((e = node_create(&m->node, clock_ms() + 30000)) && clock_ms() < until_ms)
        task_sleep_ms(500);
    need(w, e, e == ERR_OK, "a create");
}

/* Keyed writes are sent once more: answered before or not, they count once. */
static void repeat_writes(struct world *w, struct member *m)
{
    uint32_t count = ledger_intent_count(w->ledger);
    for (uint32_t i = 1; i <= count; i++)
        if (ledger_intent(w->ledger, i)->keyed && sim_chance(4))
            (void)write_patiently(w, m, i);
}

static void judge(struct world *w)
{
    struct member *owner = &w->members[0], *reader = &w->members[1];

    store_net_calm(w->net);
    for (unsigned i = 0; i < w->member_count; i++)
        member_kill(&w->members[i]);
    task_sleep_ms(w->weather.late_ms_max + w->weather.slow_ms_max + 1000);

    *reader =
        (struct member){.world = w, .index = 1, .read_only = true, .id = "reader"};
    owner->owns = true;
    w->options.background = false;
    member_start(owner, 0);
    member_start(reader, 0);
    if (read_patiently(w, owner) == ERR_NOT_FOUND) create_patiently(w, owner);
    repeat_writes(w, owner);
    (void)write_patiently(w, owner, ledger_intend(w->ledger, draw_intent(w->ledger)));
    (void)read_patiently(w, owner);
    enum err e = node_maintain(&owner->node, true, clock_ms() + 30000);
    need(w, e, e == ERR_OK, "indexing");
    (void)read_patiently(w, owner);
    (void)read_patiently(w, reader);
    ledger_check_objects(w->ledger, w->mem);
    member_stop(owner);
    member_stop(reader);
}

static void scenario(void *arg)
{
    struct world *w = arg;

    draw_world(w);
    w->ledger = ledger_new(NAMESPACE, w->options.staleness_max_ms);
    w->weather.witness = ledger_witness(w->ledger);
    w->net = store_net_new(w->mem, &w->weather, w->hits);
    for (unsigned i = 0; i < w->member_count; i++)
        member_start(&w->members[i], 1 + (unsigned)sim_random(CLIENTS_MAX));
    while (w->budget && !ledger_wrong(w->ledger)) {
        task_sleep_ms(draw_ms(10, sim_chance(2) ? 2000 : 30000));
        disturb(w);
    }
    if (!ledger_wrong(w->ledger)) judge(w);
}

/* ---- one seed ---- */

/* Shared with the parent. */
struct tally {
    uint64_t seed; /* being run */
    uint64_t done, acknowledged, reads, entries, virtual_ms, replays;
    struct store_net_hits hits;
    char wrong[2560];
};

static uint64_t run_seed(uint64_t seed, bool verbose, struct tally *t)
{
    struct world w = {.hits = &t->hits};
    struct sim_options options = {
        .seed = seed,
        .steps_max = STEPS_MAX,
        .stickiness = (unsigned)(seed % 3) * 100,
        .verbose = verbose,
    };
    struct sim_result r;

    t->seed = seed;
    w.mem = store_mem_new();
    sim_run(&options, scenario, &w, &r);
    if (ledger_wrong(w.ledger))
        (void)snprintf(t->wrong, sizeof t->wrong, "%s", ledger_wrong(w.ledger));
    else if (r.end == SIM_DEADLOCKED)
        (void)snprintf(t->wrong, sizeof t->wrong, "deadlock: %s", r.words);
    else if (r.end == SIM_TOO_LONG)
        (void)snprintf(t->wrong, sizeof t->wrong, "no end after %d steps", STEPS_MAX);
    t->acknowledged += w.acknowledged;
    t->reads += w.reads;
    t->entries += ledger_entries(w.ledger);
    t->virtual_ms += (uint64_t)r.virtual_ms;
    ledger_free(w.ledger);
    store_net_free(w.net);
    store_free(w.mem);
    return r.trace_hash;
}

/* Twice the same? Counts do not matter then. */
static void run_twice(uint64_t seed, bool verbose, struct tally *t)
{
    uint64_t first = run_seed(seed, verbose, t);
    uint64_t second = run_seed(seed, false, t);
    t->replays++;
    if (verbose)
        (void)printf("trace %016llx\ntrace %016llx\n", (unsigned long long)first,
                     (unsigned long long)second);
    if (first != second && !t->wrong[0])
        (void)snprintf(t->wrong, sizeof t->wrong, "two runs of one seed differ");
}

/* ---- many seeds ---- */

static void child(uint64_t from, uint64_t to, bool verbose, struct tally *t)
{
    for (uint64_t seed = from; seed < to && !t->wrong[0]; seed++) {
        if (verbose || seed % REPLAY_EVERY == 0)
            run_twice(seed, verbose, t);
        else
            (void)run_seed(seed, false, t);
        t->done += !t->wrong[0];
    }
}

/* Runs seeds from on until one fails or all are done; the first not run. */
static uint64_t run_chunk(uint64_t from, uint64_t to, bool verbose, struct tally *t)
{
    int status;

    t->wrong[0] = '\0';
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        child(from, to, verbose, t);
        (void)fflush(stdout);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid) exit(2);
    if (!t->wrong[0] && WIFSIGNALED(status))
        (void)snprintf(t->wrong, sizeof t->wrong, "the process died by signal %d",
                       WTERMSIG(status));
    else if (!t->wrong[0] && WEXITSTATUS(status))
        (void)snprintf(t->wrong, sizeof t->wrong, "the process ended with %d",
                       WEXITSTATUS(status));
    return t->wrong[0] ? t->seed + 1 : to;
}

static unsigned count_places(const struct store_net_hits *hits)
{
    unsigned places = 0;
    for (enum sim_fault f = SIM_FAIL; f < SIM_FAULTS; f++)
        for (enum sim_call c = SIM_READ; c < SIM_CALLS; c++)
            for (enum sim_place p = SIM_WAL; p < SIM_PLACES; p++)
                places += hits->hits[f][c][p] > 0;
    return places;
}

static int run_seeds(uint64_t first, uint64_t count, bool verbose)
{
    struct tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED) return 2;
    uint64_t failed = 0, end = first + count;

    for (uint64_t seed = first; seed < end;) {
        uint64_t to = seed + CHUNK < end ? seed + CHUNK : end;
        seed = run_chunk(seed, to, verbose, t);
        if (!t->wrong[0]) continue;
        if (failed++ < FAILURES_SHOWN)
            (void)printf("seed %llu: %s\n", (unsigned long long)t->seed, t->wrong);
    }
    (void)
        printf("%llu store calls, %llu entries, %llu acknowledged writes, %llu reads, "
               "%llu h of virtual time, %u faults x places, %llu replays\n",
               (unsigned long long)t->hits.calls, (unsigned long long)t->entries,
               (unsigned long long)t->acknowledged, (unsigned long long)t->reads,
               (unsigned long long)(t->virtual_ms / 3600000), count_places(&t->hits),
               (unsigned long long)t->replays);
    (void)printf("%llu passed, %llu failed\n", (unsigned long long)t->done,
                 (unsigned long long)failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"replay", required_argument, NULL, 'r'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    uint64_t first = 1, count = 300;
    bool verbose = false;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'n')
            count = strtoull(optarg, NULL, 10);
        else if (c == 's')
            first = strtoull(optarg, NULL, 10);
        else if (c == 'r') {
            first = strtoull(optarg, NULL, 10);
            count = 1;
        } else if (c == 'v')
            verbose = true;
        else
            return 2;
    }
    log_init(verbose ? LOG_DEBUG : LOG_ERROR, LOG_TEXT);
    return run_seeds(first, count, verbose);
}
