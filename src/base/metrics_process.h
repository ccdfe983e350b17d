/*
 * metrics_process.h - the process itself as Prometheus text: the metrics that every
 * exporter has under these names (process_cpu_seconds_total and so on), read from
 * proc(5) when asked. What cannot be read is left out.
 *
 * Threads  any.
 */
#ifndef BASE_METRICS_PROCESS_H
#define BASE_METRICS_PROCESS_H

#include "base/buf.h"

/* Appends them. */
void metrics_write_process(struct buf *out);

#endif
