#include "store/s3_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <sys/wait.h>

#include "base/op.h"
#include "base/task.h"

enum { PIECE = 4096, LOOK_MS = 5 };

static const char TOO_LONG[] = "took too long";

static bool start(const char *command, int output, pid_t *child)
{
    char shell[] = "/bin/sh", option[] = "-c";
    char *const arguments[] = {shell, option, (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions) != 0) return false;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return false;
    }
    /* Its own group, so that killing it also ends what it started. */
    bool good =
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP) == 0 &&
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
        posix_spawn_file_actions_adddup2(&actions, output, 1) == 0 &&
        /* It may complain in words that hold secrets: not into the log. */
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0 &&
        posix_spawn(child, shell, &actions, &attributes, arguments, environ) == 0;
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return good;
}

/* Until the end of the output; NULL, or what went wrong. */
static const char *collect(int input, int64_t deadline_ms, size_t size_max,
                           struct buf *out)
{
    for (;;) {
        int64_t left_ms = deadline_ms - clock_ms();
        struct pollfd wait = {.fd = input, .events = POLLIN};
        if (left_ms <= 0) return TOO_LONG;
        if (poll(&wait, 1, (int)left_ms) <= 0) continue;
        buf_reserve(out, PIECE);
        ssize_t size = read(input, out->data + out->size, PIECE);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return "its output cannot be read";
        if (size == 0) return NULL;
        out->size += (size_t)size;
        if (out->size > size_max) return "wrote too much";
    }
}

/* The child's status, once it has ended. False: it lives beyond the deadline. */
static bool reap(pid_t child, int64_t deadline_ms, int *status)
{
    *status = -1;
    for (;;) {
        pid_t ended = waitpid(child, status, WNOHANG);
        if (ended > 0 || (ended < 0 && errno != EINTR)) return true;
        if (clock_ms() >= deadline_ms) return false;
        task_sleep_ms(LOOK_MS);
    }
}

static void kill_group(pid_t child)
{
    (void)kill(-child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

enum err s3_process_output(struct op *op, const char *command, int64_t limit_ms,
                           size_t size_max, struct buf *out)
{
    int ends[2];
    int status = -1;
    pid_t child;
    int64_t deadline_ms = clock_ms() + limit_ms;
    if (pipe2(ends, O_CLOEXEC) != 0) return op_fail(op, ERR_DENIED, "no pipe for it");
    bool started = start(command, ends[1], &child);
    (void)close(ends[1]);
    if (!started) {
        (void)close(ends[0]);
        return op_fail(op, ERR_DENIED, "it cannot be run");
    }
    const char *wrong = collect(ends[0], deadline_ms, size_max, out);
    (void)close(ends[0]);
    if (!wrong && !reap(child, deadline_ms, &status)) wrong = TOO_LONG;
    if (wrong) {
        kill_group(child);
        return op_fail(op, ERR_DENIED, "it %s", wrong);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return op_fail(op, ERR_DENIED, "it failed with status %d",
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return ERR_OK;
}
