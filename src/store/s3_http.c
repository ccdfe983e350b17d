/*
 * A job is one exchange; its first flight is the request itself, its second the hedge.
 * Callers queue jobs and wake the I/O thread; from then on only that thread touches
 * them, until it has taken their flights out of libcurl and counted them off their
 * round. So a caller's buffers are never written to after s3_http_run returned.
 */
#include "store/s3_http.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "store/s3_flight.h"

enum {
    POLL_MAX_MS = 1000,
    OP_LOOK_MS = 50, /* how often a waiting caller looks at its op */
    HEDGE_MIN_MS = 20,
    HEDGE_UNKNOWN_MS = 500, /* before enough answers were timed */
    HEDGE_EVERY = 20,       /* one extra request in so many */
    HEDGE_SAVED_MAX = 20,
    SAMPLES = 256,
    SAMPLES_MIN = 32
};

struct round {
    size_t left;
    bool abandoned;
    struct cond done;
};

struct s3_job {
    struct s3_load load;
    struct round *round;
    struct s3_flight flights[2]; /* the request itself, the hedge */
    bool hedged;
    struct s3_job *next, **link; /* of the queue, then of the active ones */
};

struct s3_http {
    struct s3_wire wire;
    struct thread *thread;
    struct mutex lock; /* guards queue, stopping, rounds */
    struct s3_job *queue, **queue_end;
    bool stopping, abandoned;

    /* the I/O thread's own */
    struct s3_job *active;
    int64_t samples[SAMPLES]; /* ms to the first byte of recent hedgeable GETs */
    size_t sample_count;
    int64_t hedge_after_ms;
    uint64_t hedge_credit; /* in parts of HEDGE_EVERY */
    struct metric *seconds;
};

/* ---- how long answers take ---- */

static int compare_ms(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void sample(struct s3_http *h, int64_t ms)
{
    int64_t sorted[SAMPLES];
    h->samples[h->sample_count++ % SAMPLES] = ms;
    if (h->sample_count % SAMPLES_MIN) return;

    size_t count = h->sample_count < SAMPLES ? h->sample_count : SAMPLES;
    memcpy(sorted, h->samples, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_ms);
    int64_t p95 = sorted[count * 95 / 100];
    h->hedge_after_ms = p95 > HEDGE_MIN_MS ? p95 : HEDGE_MIN_MS;
}

/* ---- jobs ---- */

static void link_job(struct s3_http *h, struct s3_job *job)
{
    job->next = h->active;
    job->link = &h->active;
    if (job->next) job->next->link = &job->next;
    h->active = job;
}

static void end_job(struct s3_http *h, struct s3_job *job, struct s3_flight *winner)
{
    struct s3_exchange *x = job->load.x;
    struct s3_answer *a = &winner->answer;
    int64_t now_ms = clock_ms();

    metric_observe(h->seconds, (double)(now_ms - job->flights[0].started_ms) / 1000);
    if (x->hedge && a->end == S3_END_ANSWERED)
        sample(h, s3_flight_waited_ms(&job->flights[0], now_ms));
    s3_flight_land(&job->flights[0]);
    s3_flight_land(&job->flights[1]);
    if (winner->hedge && x->room && a->status == 206 && a->body.size) {
        memcpy(x->room, a->body.data, a->body.size);
        buf_release(&a->body);
    }
    x->answer = *a;
    x->answer.sent = job->flights[0].answer.sent + job->flights[1].answer.sent;
    a->body = BUF_INIT;
    buf_release(&job->flights[0].answer.body);
    buf_release(&job->flights[1].answer.body);

    *job->link = job->next;
    if (job->next) job->next->link = job->link;
    if (a->end == S3_END_ANSWERED && !h->active) s3_wire_calm(&h->wire);
    mutex_lock(&h->lock);
    if (--job->round->left == 0) cond_signal(&job->round->done);
    mutex_unlock(&h->lock);
}

/* The flight is over; so is the job, unless its twin may still do better. */
static void end_flight(struct s3_http *h, struct s3_flight *f)
{
    struct s3_job *job = f->job;
    struct s3_flight *twin = &job->flights[f == &job->flights[0]];
    bool good = f->answer.end == S3_END_ANSWERED && f->answer.status < 500;

    if (twin->easy && !good)
        s3_flight_land(f);
    else
        end_job(h, job, f);
}

static void fail_flight(struct s3_http *h, struct s3_flight *f, const char *words)
{
    s3_flight_fail(f, words);
    end_flight(h, f);
}

static void collect(struct s3_http *h)
{
    struct s3_flight *f;
    while ((f = s3_wire_next(&h->wire))) {
        if (!f->stale) {
            end_flight(h, f);
            continue;
        }
        /* Nothing was sent on that connection and it is gone: try the next. */
        s3_flight_land(f);
        s3_flight_start(f, f->started_ms);
    }
}

static bool out_of_time(const struct s3_flight *f, int64_t now_ms)
{
    return f->easy && f->sent_ms && !f->answer.status &&
           now_ms - f->sent_ms >= f->load->x->first_byte_ms;
}

static bool wants_hedge(const struct s3_http *h, const struct s3_job *job,
                        int64_t now_ms)
{
    const struct s3_flight *f = &job->flights[0];
    return job->load.x->hedge && f->easy && f->sent_ms && !f->answer.status &&
           !job->hedged && h->hedge_credit >= HEDGE_EVERY &&
           now_ms - f->sent_ms >= h->hedge_after_ms;
}

static void watch_job(struct s3_http *h, struct s3_job *job, int64_t now_ms)
{
    s3_flight_look(&job->flights[0], now_ms);
    s3_flight_look(&job->flights[1], now_ms);
    for (int i = 0; i < 2; i++) {
        struct s3_flight *f = &job->flights[i];
        if (!out_of_time(f, now_ms)) continue;
        char words[S3_ERROR_MAX];
        (void)snprintf(words, sizeof words, "no answer within %lld ms",
                       (long long)job->load.x->first_byte_ms);
        bool last = !job->flights[!i].easy;
        fail_flight(h, f, words);
        if (last) return;
    }
    if (wants_hedge(h, job, now_ms)) {
        h->hedge_credit -= HEDGE_EVERY;
        job->hedged = true;
        s3_flight_start(&job->flights[1], now_ms);
    }
}

/* When the next look at the jobs is due. */
static int poll_ms(const struct s3_http *h, int64_t now_ms)
{
    int64_t until_ms = POLL_MAX_MS;
    for (const struct s3_job *job = h->active; job; job = job->next)
        for (int i = 0; i < 2; i++) {
            const struct s3_flight *f = &job->flights[i];
            if (!f->easy || f->answer.status) continue;
            int64_t since_ms = f->sent_ms ? f->sent_ms : now_ms;
            int64_t left_ms = since_ms + job->load.x->first_byte_ms - now_ms;
            if (i == 0 && job->load.x->hedge && !job->hedged &&
                h->hedge_credit >= HEDGE_EVERY)
                left_ms = since_ms + h->hedge_after_ms - now_ms;
            if (left_ms < until_ms) until_ms = left_ms;
        }
    return until_ms > 1 ? (int)until_ms : 1;
}

static void abandon(struct s3_http *h)
{
    struct s3_job *next;
    for (struct s3_job *job = h->active; job; job = next) {
        next = job->next;
        mutex_lock(&h->lock);
        bool abandoned = job->round->abandoned;
        mutex_unlock(&h->lock);
        if (!abandoned) continue;
        struct s3_flight *f = &job->flights[0];
        f->answer.end = S3_END_BROKEN;
        end_job(h, job, f);
    }
}

/* Takes what callers left. False: stop. */
static bool take_orders(struct s3_http *h)
{
    mutex_lock(&h->lock);
    struct s3_job *queue = h->queue;
    bool stopping = h->stopping, abandoned = h->abandoned;
    h->queue = NULL;
    h->queue_end = &h->queue;
    h->abandoned = false;
    mutex_unlock(&h->lock);

    int64_t now_ms = clock_ms();
    while (queue) {
        struct s3_job *job = queue;
        queue = job->next;
        link_job(h, job);
        if (job->load.x->hedge && h->hedge_credit < HEDGE_SAVED_MAX * HEDGE_EVERY)
            h->hedge_credit++;
        s3_flight_start(&job->flights[0], now_ms);
    }
    if (abandoned) abandon(h);
    return !stopping;
}

static void run(void *arg)
{
    struct s3_http *h = arg;
    while (take_orders(h)) {
        int running;
        struct s3_job *next;
        (void)curl_multi_perform(h->wire.multi, &running);
        collect(h);
        int64_t now_ms = clock_ms();
        for (struct s3_job *job = h->active; job; job = next) {
            next = job->next;
            watch_job(h, job, now_ms);
        }
        (void)curl_multi_poll(h->wire.multi, NULL, 0, poll_ms(h, now_ms), NULL);
    }
}

/* ---- the callers' side ---- */

static void prepare(struct s3_http *h, struct s3_job *job, struct s3_exchange *x,
                    struct round *round)
{
    x->answer = (struct s3_answer){.size = -1};
    job->round = round;
    s3_load_init(&job->load, x);
    for (int i = 0; i < 2; i++)
        job->flights[i] = (struct s3_flight){.wire = &h->wire,
                                             .load = &job->load,
                                             .job = job,
                                             .hedge = i == 1};
}

/* Sleeps until the round is over, or op says stop. Lock held. */
static enum err wait_for(struct op *op, struct s3_http *h, struct round *round,
                         bool heed_op)
{
    while (round->left > 0) {
        enum err e = heed_op ? op_check(op) : ERR_OK;
        if (e) return e;
        int64_t until_ms = heed_op ? clock_ms() + OP_LOOK_MS : INT64_MAX;
        if (heed_op && op->deadline_ms < until_ms) until_ms = op->deadline_ms;
        (void)cond_wait(&round->done, &h->lock, until_ms);
    }
    return ERR_OK;
}

enum err s3_http_run(struct op *op, struct s3_http *h, struct s3_exchange *exchanges,
                     size_t n, bool heed_op)
{
    struct round round = {.left = n};
    struct s3_job *jobs = mem_new_array(struct s3_job, n);

    cond_init(&round.done);
    for (size_t i = 0; i < n; i++)
        prepare(h, &jobs[i], &exchanges[i], &round);

    mutex_lock(&h->lock);
    assert(!h->stopping);
    for (size_t i = 0; i < n; i++) {
        *h->queue_end = &jobs[i];
        h->queue_end = &jobs[i].next;
    }
    (void)curl_multi_wakeup(h->wire.multi);
    enum err e = wait_for(op, h, &round, heed_op);
    if (e) {
        round.abandoned = h->abandoned = true;
        (void)curl_multi_wakeup(h->wire.multi);
        (void)wait_for(op, h, &round, false);
    }
    mutex_unlock(&h->lock);

    for (size_t i = 0; i < n; i++)
        s3_load_release(&jobs[i].load);
    cond_release(&round.done);
    mem_free(jobs);
    return e;
}

void s3_answer_release(struct s3_answer *a)
{
    buf_release(&a->body);
}

int64_t s3_http_silent_ms(struct s3_http *h)
{
    return s3_wire_silent_ms(&h->wire);
}

enum err s3_http_new(struct op *op, const struct s3_http_options *options,
                     struct s3_http **out)
{
    struct s3_http *h = mem_new(struct s3_http);
    enum err e = s3_wire_init(op, &h->wire, options);
    if (e) {
        mem_free(h);
        return e;
    }
    h->queue_end = &h->queue;
    h->hedge_after_ms = HEDGE_UNKNOWN_MS;
    h->seconds = metric_histogram("elacsym_s3_request_seconds",
                                  "from handing a request over to its end", NULL,
                                  metric_seconds, metric_seconds_count);
    mutex_init(&h->lock);
    h->thread = thread_start("s3 io", run, h);
    *out = h;
    return ERR_OK;
}

void s3_http_free(struct s3_http *h)
{
    if (!h) return;
    mutex_lock(&h->lock);
    h->stopping = true;
    mutex_unlock(&h->lock);
    (void)curl_multi_wakeup(h->wire.multi);
    thread_join(h->thread);
    assert(!h->active && !h->queue);
    s3_wire_release(&h->wire);
    mutex_release(&h->lock);
    mem_free(h);
}
