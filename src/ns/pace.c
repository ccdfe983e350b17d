#include "ns/pace.h"

#include "base/at_most.h"
#include "base/task.h"
#include "ns/admission.h"

enum {
    PIECE_US = 250, /* less is not worth a look */
    WAIT_MAX_US = 100000
};

struct pace pace_start(struct admission *queries, unsigned patience, int64_t credit_us)
{
    return (struct pace){.queries = queries,
                         .patience = patience,
                         .credit_us = credit_us,
                         .resumed_us = clock_us(),
                         .worked_us = clock_thread_us()};
}

static void let_in(struct pace *p, int64_t now_us)
{
    if (now_us - p->let_in_us < PIECE_US) return;
    thread_yield();
    p->let_in_us = clock_us();
}

void pace_rest(struct pace *p)
{
    int64_t now_us = clock_us();
    if (now_us - p->resumed_us < PIECE_US) return;
    if (admission_count(p->queries) == 0) {
        let_in(p, now_us);
        return;
    }
    int64_t worked_us = clock_thread_us() - p->worked_us;
    if (worked_us < PIECE_US) return;

    /* What others had of the time since then is a part of the wait. */
    int64_t earned_us =
        worked_us * (1 + (int64_t)p->patience) - (now_us - p->resumed_us);
    int64_t due_us = now_us + at_most_i64(earned_us, WAIT_MAX_US);
    int64_t credit_from_us = due_us > now_us ? due_us : now_us;
    int64_t until_us = at_most_i64(credit_from_us + p->credit_us, now_us + WAIT_MAX_US);
    if (until_us > now_us) admission_await_none(p->queries, (until_us + 999) / 1000);
    now_us = clock_us();
    int64_t lent_us = at_most_i64(now_us, until_us) - credit_from_us;
    if (lent_us < 0) lent_us = 0;
    p->credit_us -= lent_us;
    /* So is the time for which they keep us from going on when it is over. */
    int64_t late_us = at_most_i64(now_us - lent_us - due_us, WAIT_MAX_US);
    p->resumed_us = now_us - (late_us > 0 ? late_us : 0);
    p->worked_us = clock_thread_us();
}
