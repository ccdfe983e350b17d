#include "ns/pace.h"

#include "base/task.h"
#include "ns/admission.h"

enum {
    PIECE_US = 1000, /* less is not worth a look */
    WAIT_MAX_MS = 100
};

struct pace pace_start(struct admission *queries, unsigned patience)
{
    return (struct pace){queries, patience, clock_us()};
}

void pace_rest(struct pace *p)
{
    int64_t now_us = clock_us(), worked_us = now_us - p->resumed_us;
    if (worked_us < PIECE_US || admission_count(p->queries) == 0) return;

    int64_t wait_ms = worked_us * p->patience / 1000;
    if (wait_ms > WAIT_MAX_MS) wait_ms = WAIT_MAX_MS;
    admission_await_none(p->queries, now_us / 1000 + wait_ms);
    p->resumed_us = clock_us();
}
