#include "ns/pace.h"

#include "base/at_most.h"
#include "base/task.h"
#include "ns/admission.h"

enum {
    PIECE_US = 1000, /* less is not worth a look */
    WAIT_MAX_US = 100000
};

struct pace pace_start(struct admission *queries, unsigned patience)
{
    return (struct pace){queries, patience, clock_us(), clock_thread_us()};
}

void pace_rest(struct pace *p)
{
    int64_t now_us = clock_us();
    if (now_us - p->resumed_us < PIECE_US || admission_count(p->queries) == 0) return;
    int64_t worked_us = clock_thread_us() - p->worked_us;
    if (worked_us < PIECE_US) return;

    /* What others had of the time since then is a part of the wait. */
    int64_t wait_us = worked_us * (1 + (int64_t)p->patience) - (now_us - p->resumed_us);
    int64_t due_us = now_us + at_most_i64(wait_us, WAIT_MAX_US);
    if (due_us > now_us) admission_await_none(p->queries, due_us / 1000);
    /* So is the time for which they keep us from going on when it is over. */
    now_us = clock_us();
    int64_t late_us = at_most_i64(now_us - due_us, WAIT_MAX_US);
    p->resumed_us = now_us - (late_us > 0 ? late_us : 0);
    p->worked_us = clock_thread_us();
}
