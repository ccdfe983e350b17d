#include "http/http_shared.h"

#include <assert.h>
#include <stdio.h>

#include "base/metrics.h"

enum {
    DEFAULT_WINDOW_MS = 10000,
    DEFAULT_HEAD_TIMEOUT_MS = 10000,
    DEFAULT_RATE_MIN = 10 << 10,
    DEFAULT_DELAY_MAX_MS = 100
};

static const char *const lane_names[LANE_NAMES] = {[HTTP_LANE_ADMIN] = "admin",
                                                   [HTTP_LANE_WRITE] = "write",
                                                   [HTTP_LANE_QUERY] = "query",
                                                   [HTTP_LANE_FORWARD] = "forward",
                                                   [LANE_NONE] = "none"};

static void make_lane_metrics(struct http_shared *s, int lane)
{
    char labels[32];
    (void)snprintf(labels, sizeof labels, "lane=\"%s\"", lane_names[lane]);
    s->metrics.seconds[lane] =
        metric_histogram("elacsym_http_request_seconds",
                         "From a request's whole head to its last answered byte.",
                         labels, metric_seconds, metric_seconds_count);
    if (lane < HTTP_LANES)
        s->metrics.shed[lane] = metric_counter(
            "elacsym_http_shed_total",
            "Requests answered 429 because they waited too long in a standing queue.",
            labels);
}

static void make_metrics(struct http_shared *s)
{
    for (int lane = 0; lane < LANE_NAMES; lane++)
        make_lane_metrics(s, lane);
    s->metrics.in_flight =
        metric_gauge("elacsym_http_in_flight", "Requests not yet answered.", NULL);
    s->metrics.connections =
        metric_gauge("elacsym_http_connections", "Open connections.", NULL);
    s->metrics.bytes_in = metric_counter("elacsym_http_received_bytes_total",
                                         "Bytes of request bodies, as sent.", NULL);
    s->metrics.bytes_out = metric_counter("elacsym_http_sent_bytes_total",
                                          "Bytes of answer bodies, as sent.", NULL);
    s->metrics.body_memory =
        metric_gauge("elacsym_http_body_memory_bytes",
                     "Memory of the bodies of requests and answers.", NULL);
    metric_set(metric_gauge("elacsym_http_body_memory_limit_bytes",
                            "What these may have together.", NULL),
               (double)s->options.body_memory_max);
    metric_set(metric_gauge("elacsym_http_connections_limit",
                            "Connections that are taken at once.", NULL),
               (double)s->options.connections_max);
    s->metrics.canceled =
        metric_counter("elacsym_http_canceled_total",
                       "Requests whose client went away while a worker had them.",
                       NULL);
}

void shared_init(struct http_shared *s, const struct http_server_options *options)
{
    struct http_server_options *o = &s->options;
    *o = *options;
    if (o->head_timeout_ms == 0) o->head_timeout_ms = DEFAULT_HEAD_TIMEOUT_MS;
    if (o->rate_window_ms == 0) o->rate_window_ms = DEFAULT_WINDOW_MS;
    if (o->rate_min == 0) o->rate_min = DEFAULT_RATE_MIN;
    for (int lane = 0; lane < HTTP_LANES; lane++)
        if (o->lane_delay_max_ms[lane] == 0)
            o->lane_delay_max_ms[lane] = DEFAULT_DELAY_MAX_MS;
    make_metrics(s);
}

/* A metric is looked up once: the same one, should two threads do it. */
void shared_count_request(struct http_shared *s, int lane, int status)
{
    assert(status >= 100 && status < STATUS_MAX);
    struct metric *m = atomic_load(&s->metrics.requests[lane][status]);
    if (!m) {
        char labels[64];
        (void)snprintf(labels, sizeof labels, "lane=\"%s\",status=\"%d\"",
                       lane_names[lane], status);
        m = metric_counter("elacsym_http_requests_total", "Requests answered.", labels);
        atomic_store(&s->metrics.requests[lane][status], m);
    }
    metric_add(m, 1);
}

bool shared_take_stream(struct http_shared *s, int lane)
{
    size_t used = atomic_load(&s->streams[lane]);
    do {
        if (used >= s->options.lane_threads[lane] / 2) return false;
    } while (!atomic_compare_exchange_weak(&s->streams[lane], &used, used + 1));
    return true;
}

void shared_give_stream(struct http_shared *s, int lane)
{
    atomic_fetch_sub(&s->streams[lane], 1);
}

bool shared_reserve(struct http_shared *s, size_t bytes)
{
    uint_fast64_t used = atomic_load(&s->body_memory);
    do {
        if (used + bytes > s->options.body_memory_max) return false;
    } while (!atomic_compare_exchange_weak(&s->body_memory, &used, used + bytes));
    metric_change(s->metrics.body_memory, (double)bytes);
    return true;
}

void shared_reserve_anyway(struct http_shared *s, size_t bytes)
{
    atomic_fetch_add(&s->body_memory, bytes);
    metric_change(s->metrics.body_memory, (double)bytes);
}

void shared_unreserve(struct http_shared *s, size_t bytes)
{
    atomic_fetch_sub(&s->body_memory, bytes);
    metric_change(s->metrics.body_memory, -(double)bytes);
}
