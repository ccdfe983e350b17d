/*
 * metric_value.h - one number of what /metrics says.
 */
#ifndef TESTS_UNIT_METRIC_VALUE_H
#define TESTS_UNIT_METRIC_VALUE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/metrics.h"

/* Of the metric of that name, with its labels if it has any; absent: there is none. */
static inline double metric_value(const char *name, double absent)
{
    struct buf text = BUF_INIT;
    char line[96];
    (void)snprintf(line, sizeof line, "\n%s ", name);
    metrics_write(&text);
    buf_append_byte(&text, 0);
    const char *at = strstr((const char *)text.data, line);
    double value = at ? strtod(at + strlen(line), NULL) : absent;
    buf_release(&text);
    return value;
}

#endif
