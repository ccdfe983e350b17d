#include "ns/settle.h"

#include <assert.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/object.h"
#include "store/store.h"

enum { PAUSE_FIRST_MS = 50, PAUSE_MAX_MS = 8000, NAP_MS = 250 };

/* Sleeps before another attempt, growing; false when the deadline would pass or op is
 * canceled. */
static bool pause_before_retry(struct op *op, int64_t *pause_ms)
{
    int64_t wait_ms =
        *pause_ms / 2 + (int64_t)random_below((uint64_t)*pause_ms / 2 + 1);
    if (op->deadline_ms != OP_NO_DEADLINE && clock_ms() + wait_ms >= op->deadline_ms)
        return false;
    for (; wait_ms > 0; wait_ms -= NAP_MS) {
        if (op_check(op)) {
            op_clear_error(op);
            return false;
        }
        task_sleep_ms(wait_ms < NAP_MS ? wait_ms : NAP_MS);
    }
    *pause_ms = *pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : *pause_ms * 2;
    return true;
}

/* Something is there: whose is it? ERR_OK and the outcome, or the error of the read. */
static enum err identify(struct op *op, struct store *store, const struct settle *s,
                         enum settled *outcome, struct buf *other)
{
    struct buf found = BUF_INIT;
    struct put_id ours, theirs;
    bool own;

    bool encoded = object_put_id(s->bytes, &ours);
    assert(encoded);
    enum err e = object_identify(op, store, s->key, OBJECT_SIZE_MAX, &found, &theirs);
    if (e == ERR_NOT_FOUND || e == ERR_CORRUPT) {
        if (e == ERR_CORRUPT)
            log_error(op, "what is stored cannot be read", "error=%s", op->error);
        op_clear_error(op);
        *outcome = SETTLED_VANISHED;
        return ERR_OK;
    }
    if (e) goto done;

    own = put_id_equal(&ours, &theirs);
    *outcome = own ? SETTLED_APPLIED : SETTLED_TAKEN;
    if (!own && other) {
        buf_release(other);
        *other = found;
        found = BUF_INIT;
    }
done:
    buf_release(&found);
    return e;
}

enum err settle_create(struct op *op, struct store *store, struct settle *s,
                       enum settled *outcome, struct buf *other)
{
    int64_t pause_ms = PAUSE_FIRST_MS;

    for (;;) {
        enum err e = store_create(op, store, s->key, s->bytes);
        if (e == ERR_OK) {
            *outcome = SETTLED_APPLIED;
            return ERR_OK;
        }
        if (e == ERR_CONFLICT) {
            op_clear_error(op);
            e = identify(op, store, s, outcome, other);
            if (!e) return ERR_OK;
            s->ambiguous = true;
        } else if (e == ERR_UNKNOWN || e == ERR_TIMEOUT || e == ERR_CANCELED) {
            s->ambiguous = true;
        }
        if (!s->ambiguous) return e;

        log_debug(op, "outcome of a create unknown, sending it again",
                  "key=%s error=%s", s->key, op->error);
        op_clear_error(op);
        if (!pause_before_retry(op, &pause_ms))
            return op_fail(op, ERR_UNKNOWN,
                           "the store did not say whether %s was stored", s->key);
    }
}
