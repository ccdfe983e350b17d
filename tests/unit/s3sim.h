/*
 * s3sim.h - starts tests/s3sim/s3sim.py, tells it what to do, ends it.
 */
#ifndef TESTS_UNIT_S3SIM_H
#define TESTS_UNIT_S3SIM_H

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <sys/wait.h>

#include "unit/test.h"

enum { S3SIM_LINE_MAX = 4096 };

struct s3sim {
    pid_t pid;
    FILE *orders, *answers;
    char endpoint[64];
    char line[S3SIM_LINE_MAX]; /* the last answer */
};

/* What every client of it has in its environment. */
static const char *const s3sim_environment[] = {"AWS_ACCESS_KEY_ID=test-key",
                                                "AWS_SECRET_ACCESS_KEY=test-secret",
                                                NULL};

static inline void s3sim_read(struct s3sim *sim)
{
    if (!fgets(sim->line, sizeof sim->line, sim->answers)) {
        fprintf(stderr, "the S3 simulator ended\n");
        abort();
    }
    sim->line[strcspn(sim->line, "\n")] = '\0';
}

static inline void s3sim_start(struct s3sim *sim)
{
    char python[] = "/usr/bin/python3", script[] = "tests/s3sim/s3sim.py";
    char *const arguments[] = {python, script, NULL};
    int in[2], out[2];
    posix_spawn_file_actions_t actions;

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    assert_int_equal(posix_spawn(&sim->pid, python, &actions, NULL, arguments, environ),
                     0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    sim->orders = fdopen(in[1], "w");
    sim->answers = fdopen(out[0], "r");
    s3sim_read(sim);
    snprintf(sim->endpoint, sizeof sim->endpoint, "http://127.0.0.1:%.5s", sim->line);
}

/* One order; its answer is in sim->line. */
static inline void s3sim_do(struct s3sim *sim, const char *order)
{
    fprintf(sim->orders, "%s\n", order);
    fflush(sim->orders);
    s3sim_read(sim);
}

static inline void s3sim_stop(struct s3sim *sim)
{
    fclose(sim->orders);
    fclose(sim->answers);
    waitpid(sim->pid, NULL, 0);
}

#endif
