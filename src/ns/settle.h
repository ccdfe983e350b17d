/*
 * settle.h - a create whose outcome is known, whatever became of the answers.
 *
 * The one rule (PROTOCOL section 1): a create that timed out may still land; only a
 * second create of the same bytes under the same name settles it. So an unknown answer
 * is followed by the same request again, with growing pauses, until the store says
 * applied or taken; taken by an object with our own put-id means applied.
 */
#ifndef NS_SETTLE_H
#define NS_SETTLE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct store;

enum settled {
    SETTLED_APPLIED, /* the object is there, and it is ours */
    SETTLED_TAKEN,   /* another's object is there; ours never will be */
    SETTLED_VANISHED /* whether what was there is ours cannot be known: it is gone, for
                        we have been overtaken, or it is damaged */
};

/* One create that is to be settled; start with {.key, .bytes}. */
struct settle {
    const char *key;
    struct slice bytes; /* an encoded object, with its put-id */
    bool ambiguous;     /* an attempt may have been applied, or may be yet */
};

/*
 * other gets the bytes that are there when taken (it may be NULL). ERR_UNKNOWN: op's
 * deadline passed first, or it was canceled; call again with the same struct to go on.
 * Any other error: surely not applied.
 */
enum err settle_create(struct op *op, struct store *store, struct settle *s,
                       enum settled *outcome, struct buf *other);

#endif
