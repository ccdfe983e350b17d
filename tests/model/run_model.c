/*
 * run_model.c - explores the commit protocol, whole and with each rule left out.
 *
 *   run_model               the default: exhaustive within its bounds, and every broken
 *                           variant must be caught where the whole protocol is not
 *   run_model --full        larger bounds
 *   run_model --trace       prints the steps into every violation
 *   run_model --explore ... one run with bounds of your own, see usage below
 *
 * A broken variant counts as caught when clients see the harm (a lost, stale or ghost
 * write) and the whole protocol, explored to the end in the same bounds, shows none.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/commit_model.h"
#include "model/explore.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static bool print_traces;

struct totals {
    unsigned passed, failed;
};

struct case_of_rule {
    const char *name;
    enum broken_rule rule;
    struct bounds bounds;
};

struct whole {
    const char *name;
    struct bounds bounds;
};

/* clang-format off */
/* The whole protocol; every process may do everything. */
static const struct whole everyday[] = {
    {"2 processes, lossy network",
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {2, 2}, .indexers = 3, .collectors = 3, .loss = true}},
    {"3 processes, delays",
     {.processes = 3, .slots = 5, .versions = 5, .in_flight = 2, .writes = {1, 1, 1},
      .opens = {1, 1, 1}, .indexers = 7, .collectors = 7}},
};

static const struct whole larger[] = {
    {"manifest puts beside log puts",
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {2, 2}, .indexers = 3, .collectors = 3, .loss = true, .beside = true}},
    {"3 requests on their way, delays",
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 3, .writes = {1, 1},
      .opens = {2, 2}, .indexers = 3, .collectors = 3, .beside = true}},
    {"longer log, delays",
     {.processes = 2, .slots = 5, .versions = 5, .in_flight = 2, .writes = {1, 1},
      .opens = {2, 2}, .indexers = 3, .collectors = 3, .beside = true}},
};

/* Who does what is cut to what the harm needs, so that the whole protocol can be
 * explored to the end in the same bounds. */
static const struct case_of_rule cases[] = {
    {"412 taken as slot used", RULE_412_FENCES,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}}},
    {"no fence record", RULE_FENCE,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {2, 1},
      .opens = {1, 1}, .indexers = 1, .collectors = 1}},
    {"fences deleted by GC", RULE_FENCES_RETAINED,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}, .indexers = 2, .collectors = 2}},
    {"no validation after the fence", RULE_VALIDATE,
     {.processes = 2, .slots = 5, .versions = 5, .in_flight = 2, .writes = {2, 0},
      .opens = {2, 1}, .indexers = 1, .collectors = 1}},
    {"no post-check of manifests", RULE_POST_CHECK,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {2, 0},
      .opens = {1, 2}, .indexers = 1, .collectors = 3}},
    {"anchor slot not retained", RULE_ANCHOR,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}, .indexers = 1, .collectors = 1}},
    {"no hash chain", RULE_CHAIN,
     {.processes = 2, .slots = 4, .versions = 5, .in_flight = 2, .writes = {1, 0},
      .opens = {2, 1}, .indexers = 1, .collectors = 1}},
    {"timeout + 404 = not applied", RULE_RESEND_SETTLES,
     {.processes = 2, .slots = 5, .versions = 4, .in_flight = 2, .writes = {2, 1},
      .opens = {1, 1}, .indexers = 2, .collectors = 2}},
    {"404 believed while a put is out", RULE_WEDGED_404,
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}, .indexers = 2, .collectors = 2, .loss = true}},
    {"own entry believed to be the last", RULE_WEDGED_OWN,
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}, .loss = true}},
    {"foreign entry = not applied", RULE_FOREIGN_BELOW_FLOOR,
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 0},
      .opens = {1, 1}, .indexers = 2, .collectors = 2, .loss = true}},
    {"looks in the other order", RULE_LOOK_ORDER,
     {.processes = 2, .slots = 4, .versions = 4, .in_flight = 2, .writes = {1, 1},
      .opens = {1, 1}, .indexers = 2, .collectors = 2, .loss = true}},
};
/* clang-format on */

static void print_trace(const struct explore_result *r)
{
    char text[128];
    for (uint32_t i = 0; i < r->trace_count; i++) {
        commit_model_describe(r->trace[i], text, sizeof text);
        (void)printf("    %3u  %s\n", i + 1, text);
    }
}

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Explores and prints a line; the caller frees *result. */
static void run(const char *name, const struct bounds *b, enum broken_rule broken,
                uint64_t states_max, struct explore_result *result)
{
    struct commit_model m = {.bounds = *b,
                             .broken = broken,
                             .inner_checks = broken == RULE_ALL_KEPT};
    struct explore_model model = {.state_size = commit_model_state_size(),
                                  .expand = commit_model_expand,
                                  .context = &m,
                                  .states_max = states_max};
    uint8_t first[MODEL_STATE_SIZE_MAX] = {0};
    double start = seconds_now();

    commit_model_first(&m, first);
    explore(&model, first, result);
    (void)printf("%-34s %9llu states %10llu transitions  depth %2u  %d violations  "
                 "%s  %.1f s\n",
                 name, (unsigned long long)result->states,
                 (unsigned long long)result->transitions, result->depth,
                 result->violation ? 1 : 0,
                 result->exhaustive ? "exhaustive" : "stopped   ",
                 seconds_now() - start);
    if (result->violation)
        (void)printf("  %s, after %u steps\n", result->violation, result->trace_count);
    if (result->violation && (print_traces || broken == RULE_ALL_KEPT))
        print_trace(result);
    (void)fflush(stdout);
}

static void count(struct totals *t, bool passed)
{
    if (passed)
        t->passed++;
    else
        t->failed++;
}

static bool whole_protocol_holds(const char *name, const struct bounds *b)
{
    struct explore_result r;
    run(name, b, RULE_ALL_KEPT, UINT32_MAX - 1, &r);
    bool holds = r.exhaustive && !r.violation;
    explore_free(&r);
    return holds;
}

static bool variant_is_caught(const struct case_of_rule *c)
{
    struct explore_result r;
    run(c->name, &c->bounds, c->rule, UINT32_MAX - 1, &r);
    bool caught = r.violation != NULL;
    explore_free(&r);
    return whole_protocol_holds("  all rules kept, same bounds", &c->bounds) && caught;
}

static void count_whole(struct totals *t, const struct whole *runs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        count(t, whole_protocol_holds(runs[i].name, &runs[i].bounds));
}

static int run_suite(bool run_larger)
{
    struct totals t = {0, 0};
    (void)printf("The whole protocol:\n");
    count_whole(&t, everyday, COUNT_OF(everyday));
    if (run_larger) count_whole(&t, larger, COUNT_OF(larger));
    (void)printf("One rule left out, to be caught:\n");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        count(&t, variant_is_caught(&cases[i]));
    (void)printf("%u passed, %u failed\n", t.passed, t.failed);
    return t.failed ? 1 : 0;
}

static int usage(void)
{
    (void)fprintf(
        stderr,
        "usage: run_model [--trace] [--full]\n"
        "       run_model [--trace] --explore [--slots N] [--versions N]\n"
        "         [--in-flight N] [--writes N,N,N] [--opens N,N,N] [--indexers MASK]\n"
        "         [--collectors MASK] [--loss] [--beside] [--broken RULE]\n"
        "         [--states-max N]\n"
        "There are as many processes as --opens has numbers. RULE counts from 1 in "
        "the\n"
        "order of enum broken_rule.\n");
    return 2;
}

static unsigned parse_list(const char *text, unsigned *numbers)
{
    unsigned n = 0;
    char *end;
    for (; *text && n < MODEL_PROCESSES; text = *end ? end + 1 : end) {
        numbers[n++] = (unsigned)strtoul(text, &end, 10);
        if (end == text) break;
    }
    return n;
}

struct arguments {
    bool explore, full;
    struct bounds bounds;
    enum broken_rule broken;
    uint64_t states_max;
};

static bool parse_arguments(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {{"explore", no_argument, NULL, 'e'},
                                            {"full", no_argument, NULL, 'f'},
                                            {"trace", no_argument, NULL, 't'},
                                            {"slots", required_argument, NULL, 's'},
                                            {"versions", required_argument, NULL, 'v'},
                                            {"in-flight", required_argument, NULL, 'n'},
                                            {"writes", required_argument, NULL, 'w'},
                                            {"opens", required_argument, NULL, 'o'},
                                            {"indexers", required_argument, NULL, 'i'},
                                            {"collectors", required_argument, NULL,
                                             'c'},
                                            {"loss", no_argument, NULL, 'l'},
                                            {"beside", no_argument, NULL, 'b'},
                                            {"broken", required_argument, NULL, 'r'},
                                            {"states-max", required_argument, NULL,
                                             'm'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        unsigned n = optarg ? (unsigned)strtoul(optarg, NULL, 0) : 0;
        if (c == 'e')
            a->explore = true;
        else if (c == 'f')
            a->full = true;
        else if (c == 't')
            print_traces = true;
        else if (c == 's')
            a->bounds.slots = n;
        else if (c == 'v')
            a->bounds.versions = n;
        else if (c == 'n')
            a->bounds.in_flight = n;
        else if (c == 'w')
            (void)parse_list(optarg, a->bounds.writes);
        else if (c == 'o')
            a->bounds.processes = parse_list(optarg, a->bounds.opens);
        else if (c == 'i')
            a->bounds.indexers = n;
        else if (c == 'c')
            a->bounds.collectors = n;
        else if (c == 'l')
            a->bounds.loss = true;
        else if (c == 'b')
            a->bounds.beside = true;
        else if (c == 'r')
            a->broken = (enum broken_rule)n;
        else if (c == 'm')
            a->states_max = strtoull(optarg, NULL, 10);
        else
            return false;
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct arguments a = {.bounds = everyday[0].bounds, .states_max = UINT32_MAX - 1};
    struct explore_result r;

    a.bounds.loss = false;
    if (!parse_arguments(argc, argv, &a)) return usage();
    if (!a.explore) return run_suite(a.full);
    run("explore", &a.bounds, a.broken, a.states_max, &r);
    explore_free(&r);
    return 0;
}
