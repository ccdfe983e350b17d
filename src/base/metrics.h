/*
 * metrics.h - counters, gauges and histograms, printed as Prometheus text.
 *
 * A metric is looked up (or made) by name and labels and then kept in a static or a
 * struct field by its user; metrics live as long as the process. Updating one is a few
 * relaxed atomics, from any thread. Format: Prometheus exposition format 0.0.4.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct metric;

/* labels: inside the braces, e.g. "op=\"put\",store=\"dir\"", or NULL. One name has one
 * kind and one help text (asserted). At most 4096 metrics (asserted). */
struct metric *metric_counter(const char *name, const char *help, const char *labels);
struct metric *metric_gauge(const char *name, const char *help, const char *labels);
/* bounds: count ascending upper bounds, without +Inf; copied. */
struct metric *metric_histogram(const char *name, const char *help, const char *labels,
                                const double *bounds, size_t count);
/* Bounds for seconds, from 100 us to 60 s. */
extern const double metric_seconds[];
extern const size_t metric_seconds_count;

void metric_add(struct metric *m, uint64_t n);       /* counter */
void metric_set(struct metric *m, double value);     /* gauge */
void metric_change(struct metric *m, double by);     /* gauge */
void metric_observe(struct metric *m, double value); /* histogram */

/* Appends all metrics, sorted by name, then labels. */
void metrics_write(struct buf *out);

#endif
