#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include "base/log.h"
#include "base/op.h"
#include "base/simd.h"
#include "base/task.h"
#include "inspect/dump.h"
#include "inspect/verify.h"
#include "node/config.h"
#include "node/node.h"
#include "node/node_store.h"
#include "node/version.h"
#include "store/store.h"

enum { EXIT_USAGE = 2, VERIFY_MEMORY = 256 << 20 };

static const char help[] =
    "usage: elacsym [--config FILE] [--check-config] [--version] [--help]\n"
    "       elacsym verify [--config FILE] [--namespace NAME]\n"
    "       elacsym dump [--config FILE] KEY\n"
    "\n"
    "Serves a search database for vectors, text and attributes.\n"
    "\n"
    "  --config FILE     read FILE, not $ELACSYM_CONFIG, ./config.toml or\n"
    "                    /etc/elacsym/config.toml\n"
    "  --check-config    check the configuration, print what is in effect, and exit\n"
    "  --version         print the version and exit\n"
    "  --help            print this and exit\n"
    "\n"
    "verify reads everything in the store and prints a table of the namespaces and "
    "what\n"
    "is wrong with them; its status is 0 if nothing is, 1 if something is damaged, 2 "
    "if\n"
    "the store could not be read. dump prints one stored object in words. Both write\n"
    "nothing, and may run beside a node.\n"
    "\n"
    "  --namespace NAME  verify this namespace only\n"
    "\n"
    "Every key of the configuration has a variable: server.port is "
    "ELACSYM_SERVER_PORT.\n";

enum command { COMMAND_SERVE, COMMAND_VERIFY, COMMAND_DUMP };

struct arguments {
    enum command command;
    const char *config;
    const char *name; /* of a namespace, or NULL */
    const char *key;
    bool check;
};

static _Noreturn void usage(const char *what, const char *which)
{
    (void)fprintf(stderr, "elacsym: %s%s\ntry elacsym --help\n", what, which);
    exit(EXIT_USAGE);
}

static enum command read_command(int *argc, char ***argv)
{
    enum command command = COMMAND_SERVE;
    if (*argc < 2) return command;
    if (strcmp((*argv)[1], "verify") == 0) command = COMMAND_VERIFY;
    if (strcmp((*argv)[1], "dump") == 0) command = COMMAND_DUMP;
    if (command == COMMAND_SERVE) return command;
    (*argc)--;
    (*argv)++;
    return command;
}

/* Exits for --help, --version and what is wrong. */
static struct arguments read_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check-config", no_argument, NULL, 'k'},
                                            {"namespace", required_argument, NULL, 'n'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct arguments arguments = {.command = read_command(&argc, &argv)};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c': arguments.config = optarg; break;
        case 'k': arguments.check = true; break;
        case 'n': arguments.name = optarg; break;
        case 'v': (void)puts("elacsym " ELACSYM_VERSION); exit(EXIT_SUCCESS);
        case 'h': (void)fputs(help, stdout); exit(EXIT_SUCCESS);
        default: (void)fputs("try elacsym --help\n", stderr); exit(EXIT_USAGE);
        }
    }
    if (arguments.command == COMMAND_DUMP) {
        if (optind == argc) usage("dump needs the key of an object", "");
        arguments.key = argv[optind++];
    }
    if (optind < argc) usage("unexpected argument ", argv[optind]);
    if (arguments.check && arguments.command != COMMAND_SERVE)
        usage("--check-config stands alone", "");
    if (arguments.name && arguments.command != COMMAND_VERIFY)
        usage("--namespace is for elacsym verify", "");
    return arguments;
}

static bool print(const struct buf *text)
{
    if (text->size == 0) return true;
    return fwrite(text->data, 1, text->size, stdout) == text->size &&
           fflush(stdout) == 0;
}

static int print_config(const struct config *c)
{
    struct buf text = BUF_INIT;
    config_print(c, &text);
    bool written = print(&text);
    buf_release(&text);
    return written ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* No core file: it would hold documents. As many files as we may have. */
static void set_limits(void)
{
    struct rlimit none = {0, 0}, files;
    (void)setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

/* Before any thread starts: they all inherit the mask, so only serve, which waits for
 * these, sees them. */
static sigset_t block_signals(void)
{
    sigset_t set;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ,
                 SIG_IGN); /* a file that may not grow is an error like others */
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    return set;
}

/* From here on a signal ends the process at once, as it would any program. */
static void unblock_signals(const sigset_t *set)
{
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

static int serve(struct op *op, const struct config *c)
{
    sigset_t signals = block_signals();
    struct node *node;
    int signal_number = 0;

    set_limits();
    log_init((enum log_level)c->logging.level, (enum log_format)c->logging.format);
    enum err e = simd_init(op);
    if (!e) e = node_start(op, c, &node);
    if (e) {
        log_error(op, "start failed", "error=%s", op->error);
        return EXIT_FAILURE;
    }
    (void)sigwait(&signals, &signal_number);
    int64_t deadline_ms = clock_ms() + c->server.shutdown_timeout_secs * 1000;
    unblock_signals(&signals);

    log_info(op, "stopping", "signal=%s",
             signal_number == SIGINT ? "SIGINT" : "SIGTERM");
    node_drain(node);
    /* Ctrl-C comes from a person who waits, SIGTERM from what runs us and balances. */
    if (signal_number == SIGTERM) task_sleep_ms(c->server.drain_wait_secs * 1000);
    bool settled = node_stop(node, deadline_ms);
    if (settled)
        log_info(op, "stopped", "settled=%s", "true");
    else
        log_error(op, "stopped", "settled=%s why=%s", "false",
                  "requests were still running at the deadline");
    if (!settled) _exit(EXIT_FAILURE);
    return EXIT_SUCCESS;
}

/* ---- looking into a store ---- */

static enum err verify(struct op *op, struct store *store,
                       const struct arguments *arguments, bool *whole)
{
    struct verify_options options = {.name = arguments->name,
                                     .out = stdout,
                                     .progress = isatty(STDERR_FILENO) ? stderr : NULL,
                                     .memory = VERIFY_MEMORY};
    struct verify_totals totals;
    enum err e = verify_store(op, store, &options, &totals);
    if (e) return e;
    (void)printf("%" PRIu64 " namespaces, %" PRIu64 " objects and %" PRIu64
                 " bytes read: %" PRIu64 " problems in %" PRIu64 " namespaces\n",
                 totals.namespaces, totals.objects, totals.bytes, totals.problems,
                 totals.damaged);
    *whole = totals.problems == 0;
    return fflush(stdout) == 0 ? ERR_OK : op_fail(op, ERR_IO, "write the table");
}

static enum err dump(struct op *op, struct store *store,
                     const struct arguments *arguments)
{
    struct buf text = BUF_INIT;
    enum err e = dump_object(op, store, arguments->key, &text);
    if (!print(&text) && !e) e = op_fail(op, ERR_IO, "write the object");
    buf_release(&text);
    return e;
}

static int inspect(struct op *op, const struct config *c,
                   const struct arguments *arguments)
{
    struct store *store = NULL;
    bool whole = true;

    log_init(LOG_WARN, LOG_TEXT);
    enum err e = node_store_open(op, c, STORE_INSPECT, &store);
    if (!e)
        e = arguments->command == COMMAND_VERIFY ? verify(op, store, arguments, &whole)
                                                 : dump(op, store, arguments);
    store_free(store);
    if (e) (void)fprintf(stderr, "elacsym: %s\n", op->error);
    if (e == ERR_CORRUPT) return EXIT_FAILURE;
    if (e) return EXIT_USAGE;
    return whole ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Read by jemalloc: what was freed goes back to the system within a second, large
 * pieces like small ones. Loading frees some hundred MiB a second, and a page that
 * comes anew takes longer than most of the work on it. */
const char *malloc_conf =
    "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,oversize_threshold:0";

int main(int argc, char **argv)
{
    struct arguments arguments = read_arguments(argc, argv);
    struct config *c;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (config_load(&op, arguments.config, (const char *const *)environ, &c)) {
        (void)fprintf(stderr, "elacsym: %s\n", op.error);
        op_release(&op);
        return EXIT_FAILURE;
    }
    int status;
    if (arguments.command != COMMAND_SERVE)
        status = inspect(&op, c, &arguments);
    else
        status = arguments.check ? print_config(c) : serve(&op, c);
    config_free(c);
    op_release(&op);
    return status;
}
