#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/resource.h>

#include "base/log.h"
#include "base/op.h"
#include "base/simd.h"
#include "base/task.h"
#include "node/config.h"
#include "node/node.h"
#include "node/version.h"

enum { EXIT_USAGE = 2 };

static const char help[] =
    "usage: elacsym [--config FILE] [--check-config] [--version] [--help]\n"
    "\n"
    "Serves a search database for vectors, text and attributes.\n"
    "\n"
    "  --config FILE    read FILE, not $ELACSYM_CONFIG, ./config.toml or\n"
    "                   /etc/elacsym/config.toml\n"
    "  --check-config   check the configuration, print what is in effect, and exit\n"
    "  --version        print the version and exit\n"
    "  --help           print this and exit\n"
    "\n"
    "Every key of the configuration has a variable: server.port is "
    "ELACSYM_SERVER_PORT.\n";

struct arguments {
    const char *config;
    bool check;
};

/* Exits for --help, --version and what is wrong. */
static struct arguments read_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check-config", no_argument, NULL, 'k'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct arguments arguments = {NULL, false};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c': arguments.config = optarg; break;
        case 'k': arguments.check = true; break;
        case 'v': (void)puts("elacsym " ELACSYM_VERSION); exit(EXIT_SUCCESS);
        case 'h': (void)fputs(help, stdout); exit(EXIT_SUCCESS);
        default: (void)fputs("try elacsym --help\n", stderr); exit(EXIT_USAGE);
        }
    }
    if (optind == argc) return arguments;
    (void)fprintf(stderr, "elacsym: unexpected argument %s\ntry elacsym --help\n",
                  argv[optind]);
    exit(EXIT_USAGE);
}

static int print_config(const struct config *c)
{
    struct buf text = BUF_INIT;
    config_print(c, &text);
    bool written =
        fwrite(text.data, 1, text.size, stdout) == text.size && fflush(stdout) == 0;
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

/* Before any thread starts: they all inherit the mask, so only wait_for_signal sees
 * these. */
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

int main(int argc, char **argv)
{
    struct arguments arguments = read_arguments(argc, argv);
    struct config *c;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (config_load(&op, arguments.config, (const char *const *)environ, &c)) {
        (void)fprintf(stderr, "elacsym: %s\n", op.error);
        return EXIT_FAILURE;
    }
    int status = arguments.check ? print_config(c) : serve(&op, c);
    config_free(c);
    op_release(&op);
    return status;
}
