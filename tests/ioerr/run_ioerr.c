/*
 * run_ioerr.c - every system call and every allocation fails, one after the other.
 *
 *   run_ioerr [--memory] [--only CALL] [--stride N] [--seed S] [--verbose]
 *   run_ioerr --case CALL,N,once|ever,ERRNO --verbose
 *
 * SQLite's way: a process works on a store in a folder (create, writes, deletes,
 * indexing, queries, a drop, a restart) while the first read fails, another while the
 * second one does, and so on until one meets no failure; then the same with that call
 * and all behind it failing; for each kind of call and each error that it may plausibly
 * give, and with transfers cut to one byte. --memory does so with malloc.
 *
 * The process may end in three ways: to its end, with errors in words as answers; with
 * status 1 where the store cannot be opened or an fsync failed (operations.md); and, of
 * memory, by abort() behind the words "out of memory" (base/mem.h), or by a signal if
 * it was a library that got none (CRoaring and ICU do not all look). Whatever it did, a
 * fresh process must then find all that was acknowledged, nothing that was never asked
 * for, every batch whole or not at all, a store that verifies, and room for more.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/op.h"
#include "engine/engine.h"
#include "engine/folder.h"
#include "engine/sweep.h"
#include "inspect/verify.h"
#include "ioerr/failing.h"
#include "store/store_dir.h"

enum {
    WRITES = 12,
    BATCH = 3, /* documents of a write: ids BATCH * i and the next */
    REQUEST_MS = 1500,
    CHILD_SECONDS = 60,
    FAILURES_SHOWN = 10,
    WORDS_MAX = 600,
    VERIFY_MEMORY = 16 << 20,
    ERRORS_MAX = 4
};

enum fate { NEVER_ASKED, ASKED, ACKNOWLEDGED };

/* What the child tells; survives it. */
struct ledger {
    enum fate written[WRITES], deleted[WRITES], created;
    bool opened, poisoned, finished;
    uint64_t seen, hits;
    char wrong[WORDS_MAX];
};

static struct ledger *ledger;
static char root[256];

static struct sweep_options options;

static unsigned failures;
static uint64_t cases, ended_early, in_libraries;

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
    va_list args;
    if (ledger->wrong[0]) return;
    va_start(args, format);
    (void)vsnprintf(ledger->wrong, sizeof ledger->wrong, format, args);
    va_end(args);
}

/* ---- what must be true of a listing of everything ---- */

static bool has(const struct buf *answer, unsigned id)
{
    char needle[32];
    int size = snprintf(needle, sizeof needle, "\"id\":%u,", id);
    return memmem(answer->data, answer->size, needle, (size_t)size) != NULL;
}

static void check_listing(const struct buf *answer, const char *when)
{
    for (unsigned i = 0; i < WRITES; i++) {
        unsigned there = 0;
        for (unsigned k = 0; k < BATCH; k++)
            there += has(answer, BATCH * i + k);
        bool must =
            ledger->written[i] == ACKNOWLEDGED && ledger->deleted[i] == NEVER_ASKED;
        bool must_not =
            ledger->written[i] == NEVER_ASKED || ledger->deleted[i] == ACKNOWLEDGED;
        if (there != 0 && there != BATCH)
            complain("%s: %u of the %d documents of write %u are there", when, there,
                     BATCH, i);
        if (must && !there) complain("%s: acknowledged write %u is lost", when, i);
        if (must_not && there)
            complain("%s: write %u is there and should not be", when, i);
    }
}

/* ---- the workload ---- */

#define NS "/v1/namespaces/films"

static const char SCHEMA[] =
    "{\"vector_dim\":4,\"attributes\":{\"title\":{\"type\":\"string\",\"full_text\":"
    "true},\"year\":{\"type\":\"int\",\"indexed\":true}}}";

/* Refusals while something fails: what a client is told to do about it. */
static bool sensible(int status)
{
    return status == 200 || status == 403 || status == 404 || status == 429 ||
           status == 503 || status == 504 || status == 507;
}

static int ask(struct engine *e, const char *method, const char *path, const char *body,
               struct buf *answer)
{
    buf_clear(answer);
    int status = engine_ask(e, method, path, body, NULL, answer);
    if (options.verbose)
        (void)fprintf(stderr, "%s %s: %d %.*s\n", method, path, status,
                      (int)answer->size, (const char *)answer->data);
    if (!sensible(status) ||
        (status != 200 && !memmem(answer->data, answer->size, "{\"error\":\"", 10)))
        complain("%s %s is answered %d %.*s", method, path, status, (int)answer->size,
                 (const char *)answer->data);
    return status;
}

static void write_batch(struct engine *e, unsigned i)
{
    struct buf body = BUF_INIT, answer = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[");
    for (unsigned k = 0; k < BATCH; k++)
        buf_printf(
            &body,
            "%s{\"id\":%u,\"vector\":[%u,1,2,%u],\"attributes\":{\"title\":\"the "
            "film %u\",\"year\":%u}}",
            k ? "," : "", BATCH * i + k, i + 1, k, i, 1900 + i);
    buf_append(&body, "]}", 3);
    ledger->written[i] = ASKED;
    if (ask(e, "POST", NS "/upsert", (const char *)body.data, &answer) == 200)
        ledger->written[i] = ACKNOWLEDGED;
    buf_release(&body);
    buf_release(&answer);
}

static void delete_batch(struct engine *e, unsigned i)
{
    char body[64];
    struct buf answer = BUF_INIT;
    (void)snprintf(body, sizeof body, "{\"ids\":[%u,%u,%u]}", BATCH * i, BATCH * i + 1,
                   BATCH * i + 2);
    ledger->deleted[i] = ASKED;
    if (ask(e, "POST", NS "/delete", body, &answer) == 200)
        ledger->deleted[i] = ACKNOWLEDGED;
    buf_release(&answer);
}

static void look(struct engine *e, const char *when)
{
    static const char everything[] =
        "{\"order_by\":{\"field\":\"id\"},\"top_k\":1000,\"include_vector\":true}";
    static const char words[] =
        "{\"vector\":[1,1,2,0],\"full_text\":{\"fields\":[\"title\"],\"query\":"
        "\"film\"},"
        "\"filter\":{\"field\":\"year\",\"op\":\"gte\",\"value\":1900},\"top_k\":5}";
    struct buf answer = BUF_INIT;
    if (ask(e, "POST", NS "/query", everything, &answer) == 200)
        check_listing(&answer, when);
    (void)ask(e, "POST", NS "/query", words, &answer);
    (void)ask(e, "GET", NS "/documents/0", NULL, &answer);
    buf_release(&answer);
}

static void call(struct engine *e, const char *method, const char *path,
                 const char *body)
{
    struct buf answer = BUF_INIT;
    (void)ask(e, method, path, body, &answer);
    buf_release(&answer);
}

static void first_half(struct engine *e)
{
    struct buf answer = BUF_INIT;
    ledger->created = ASKED;
    if (ask(e, "PUT", NS, SCHEMA, &answer) == 200) ledger->created = ACKNOWLEDGED;
    buf_release(&answer);
    for (unsigned i = 0; i < 4; i++)
        write_batch(e, i);
    call(e, "POST", NS "/compact", NULL);
    look(e, "as indexed");
    for (unsigned i = 4; i < 7; i++)
        write_batch(e, i);
    delete_batch(e, 1);
    call(e, "POST", NS "/compact", NULL);
    write_batch(e, 7);
    call(e, "PUT", "/v1/namespaces/others", SCHEMA);
    call(e, "POST", "/v1/namespaces/others/upsert", "{\"documents\":[{\"id\":1}]}");
    call(e, "DELETE", "/v1/namespaces/others", NULL);
    look(e, "before the restart");
}

static void second_half(struct engine *e)
{
    look(e, "after the restart");
    write_batch(e, 8);
    delete_batch(e, 4);
    call(e, "POST", NS "/compact", NULL);
    write_batch(e, 9);
    look(e, "at the end");
}

static void poisoned(void *context, const char *why)
{
    (void)context;
    (void)why;
    ledger->poisoned = true;
    _exit(1);
}

static void open_store(struct store **store)
{
    char path[300];
    struct op op;
    (void)snprintf(path, sizeof path, "%s/data", root);
    const struct store_dir_options o = {.root = path, .on_poison = poisoned};
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = store_dir_open(&op, &o, store);
    if (e && options.verbose) (void)fprintf(stderr, "%s\n", op.error);
    if (e && !op.error[0]) complain("the store does not open and says nothing");
    op_release(&op);
    if (e) exit(1);
    ledger->opened = true;
}

static void with_engine(struct store *store, void (*work)(struct engine *))
{
    char path[300];
    (void)snprintf(path, sizeof path, "%s/cache", root);
    const struct engine_options o = {.store = store,
                                     .cache_folder = path,
                                     .request_ms = REQUEST_MS};
    struct engine *e = engine_new(&o);
    work(e);
    engine_free(e);
}

static void child_works(const struct failing_plan *plan)
{
    struct store *store = NULL;
    failing_arm(plan);
    open_store(&store);
    with_engine(store, first_half);
    with_engine(store, second_half);
    store_free(store);
    failing_disarm();
    ledger->finished = true;
}

/* ---- the fresh process ---- */

static void verify(struct store *store)
{
    struct verify_totals totals = {0};
    char *text = NULL;
    size_t size = 0;
    struct op op;
    FILE *out = open_memstream(&text, &size);
    const struct verify_options o = {.out = out, .memory = VERIFY_MEMORY};
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = verify_store(&op, store, &o, &totals);
    (void)fclose(out);
    if (e || totals.problems)
        complain("verify: %s %s", e ? op.error : "", text ? text : "");
    free(text);
    op_release(&op);
}

static void check_again(struct engine *e)
{
    struct buf answer = BUF_INIT;
    int status = ask(e, "PUT", NS, SCHEMA, &answer);
    if (status != 200)
        complain("the namespace cannot be used again: %d %.*s", status,
                 (int)answer.size, (const char *)answer.data);
    look(e, "for a fresh process");
    write_batch(e, 11);
    if (ledger->written[11] != ACKNOWLEDGED) complain("a fresh process cannot write");
    look(e, "after another write");
    buf_release(&answer);
}

static void child_checks(const struct failing_plan *plan)
{
    struct store *store = NULL;
    (void)plan;
    open_store(&store);
    verify(store);
    with_engine(store, check_again);
    verify(store);
    store_free(store);
}

/* ---- cases ---- */

/* The wait status; what it says on standard error goes to words. */
static int run(void (*work)(const struct failing_plan *),
               const struct failing_plan *plan, char *words)
{
    int fd = memfd_create("stderr", MFD_CLOEXEC), status = 0;
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        if (!options.verbose) (void)dup2(fd, STDERR_FILENO);
        (void)alarm(CHILD_SECONDS);
        work(plan);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("run_ioerr: fork");
        exit(2);
    }
    off_t size = lseek(fd, 0, SEEK_END), from = size > WORDS_MAX ? size - WORDS_MAX : 0;
    ssize_t n = pread(fd, words, WORDS_MAX - 1, from);
    words[n > 0 ? n : 0] = '\0';
    (void)close(fd);
    return status;
}

static void fail(const struct failing_plan *plan, const char *what, const char *words)
{
    if (failures++ >= FAILURES_SHOWN) return;
    (void)printf("FAILED: --case %s,%" PRIu64 ",%s,%d: %s\n%s\n",
                 failing_names[plan->call], plan->n, plan->for_ever ? "ever" : "once",
                 plan->error, what, words);
}

/* May a process that met this failure end so? */
static const char *judge_end(const struct failing_plan *plan, int status,
                             const char *words)
{
    static char text[64];
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1 &&
        (!ledger->opened || (ledger->poisoned && plan->call == FAILING_FSYNC)))
        return NULL;
    bool out_of_memory = plan->call == FAILING_MEMORY || plan->call == FAILING_THREAD;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && out_of_memory &&
        (strstr(words, "out of memory") || strstr(words, "cannot start thread")))
        return NULL;
    /* A library that is refused memory ends the process in its own way. */
    if (WIFSIGNALED(status) && *failing_library()) {
        in_libraries++;
        return NULL;
    }
    (void)snprintf(text, sizeof text, "it ended by %s %d",
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return text;
}

/* False once there was no n-th call. */
static bool run_case(const struct failing_plan *plan)
{
    char words[WORDS_MAX];
    memset(ledger, 0, sizeof *ledger);
    if (!mkdtemp(root)) {
        perror(root);
        exit(2);
    }
    int status = run(child_works, plan, words);
    const char *wrong = judge_end(plan, status, words);
    bool hit = failing_hits() > 0;
    if (!wrong && ledger->wrong[0]) wrong = ledger->wrong;
    if (wrong) {
        fail(plan, wrong, words);
    } else {
        const struct failing_plan none = {.call = plan->call};
        ended_early += !ledger->finished;
        status = run(child_checks, &none, words);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail(plan, "the fresh process ended badly", words);
        else if (ledger->wrong[0])
            fail(plan, ledger->wrong, words);
    }
    folder_remove(root);
    memcpy(root + strlen(root) - 6, "XXXXXX", 6);
    cases += hit;
    return hit;
}

/* ---- all of them ---- */

/* Errors that the call may give; 0 is a transfer of one byte. */
static const int errors_of[FAILING_CALLS][ERRORS_MAX] = {
    [FAILING_OPEN] = {EIO, EMFILE, EACCES},
    [FAILING_READ] = {EIO, EINTR, 0},
    [FAILING_WRITE] = {EIO, ENOSPC, 0},
    [FAILING_FSYNC] = {EIO, ENOSPC},
    [FAILING_LINK] = {EIO, ENOSPC},
    [FAILING_UNLINK] = {EIO},
    [FAILING_MKDIR] = {EIO, ENOSPC},
    [FAILING_STAT] = {EIO},
    [FAILING_SPACE] = {EIO, ENOSPC},
    [FAILING_MMAP] = {ENOMEM},
    [FAILING_LIST] = {EIO},
    [FAILING_THREAD] = {EAGAIN},
    [FAILING_MEMORY] = {ENOMEM}};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void sweep(struct failing_plan plan, uint64_t *chance)
{
    uint64_t before = cases;
    /* An interrupted call is repeated for ever by whoever may not give up. */
    if (plan.for_ever && (plan.error == EINTR)) return;
    plan.n = 1 + next_random(chance) % options.stride;
    while (run_case(&plan) && failures < FAILURES_SHOWN)
        plan.n += options.stride;
    (void)printf("%-7s %-5s error %3d: %6" PRIu64 " cases\n", failing_names[plan.call],
                 plan.for_ever ? "ever" : "once", plan.error, cases - before);
    (void)fflush(stdout);
}

static void sweep_call(enum failing_call call, uint64_t *chance)
{
    const int *errors = errors_of[call];
    for (int i = 0; i < ERRORS_MAX && (i == 0 || errors[i] || errors[i - 1]); i++) {
        bool transfer = call == FAILING_READ || call == FAILING_WRITE;
        if (!errors[i] && !(transfer && i == 2)) break;
        for (int ever = 0; ever < 2; ever++)
            sweep((struct failing_plan){.call = call,
                                        .for_ever = ever,
                                        .error = errors[i]},
                  chance);
    }
}

static bool chosen(enum failing_call call)
{
    if (!failing_can(call)) return false;
    if (options.only) return strcmp(options.only, failing_names[call]) == 0;
    return (call == FAILING_MEMORY) == options.memory;
}

static void run_one(void)
{
    char name[16] = "", mode[8] = "";
    struct failing_plan plan = {.n = 0};
    int fields = sscanf(options.one, "%15[^,],%" SCNu64 ",%7[^,],%d", name, &plan.n,
                        mode, &plan.error);
    plan.for_ever = strcmp(mode, "ever") == 0;
    for (int i = 0; i < FAILING_CALLS && fields == 4; i++) {
        if (strcmp(name, failing_names[i]) != 0) continue;
        plan.call = (enum failing_call)i;
        (void)run_case(&plan);
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"memory", no_argument, NULL, 'm'},
                                          {"only", required_argument, NULL, 'o'},
                                          {"stride", required_argument, NULL, 't'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"case", required_argument, NULL, 'c'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    options = sweep_begin(argc, argv, known);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ledger == MAP_FAILED || !failing_start()) return 2;
    (void)snprintf(root, sizeof root, "%s/elacsym-ioerr-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    uint64_t chance = options.seed;
    if (options.one)
        run_one();
    else
        for (int c = 0; c < FAILING_CALLS; c++)
            if (chosen((enum failing_call)c)) sweep_call((enum failing_call)c, &chance);
    (void)printf("%" PRIu64 " failures injected, %" PRIu64
                 " ended the process as stated (%" PRIu64 " in a library), %u wrong\n",
                 cases, ended_early, in_libraries, failures);
    return sweep_end(failures);
}
