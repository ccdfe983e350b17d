/*
 * tenure.h - becoming and being the writer of a namespace (PROTOCOL: OPEN).
 *
 * A tenure is one process's time as the writer: it begins with a manifest of a new
 * epoch and a fence in the log, which makes every write of an older epoch fail, and
 * ends when another fence or manifest shows up. Nothing here is locked; the lock of the
 * namespace (namespace.h) guards it.
 */
#ifndef NS_TENURE_H
#define NS_TENURE_H

#include "ns/idempotency.h"
#include "ns/keys.h"
#include "ns/manifest.h"
#include "ns/snapshot.h"

struct op;
struct registry_options;

struct tenure {
    uint64_t epoch;
    uint64_t next;       /* the slot to be written next */
    struct put_id last;  /* put-id of slot next - 1 */
    uint64_t fence_slot; /* our fence */
    struct manifest *manifest;
    struct snapshot *snapshot; /* the effect of the log below next, … */
    struct snapshot *base;     /* … and below manifest->wm */
    struct idempotency *table;
    uint64_t table_stored;         /* idempotency_version of what the manifest stores */
    struct manifest_fence *fences; /* fences in slots >= manifest->wm, ascending */
    uint32_t fence_count;
};

/*
 * Opens the namespace for writing. schema: of its catalog record, for the very first
 * manifest. next_record: as catalog_is_current takes it. old (or NULL): a snapshot
 * whose open segments may be shared. Six to eight rounds, and a few more for a log with
 * many entries.
 *   ERR_FENCED     another process is opening or has opened it; words name it.
 *   ERR_NOT_FOUND  its log ends with a DROP.
 *   ERR_CORRUPT    an object named by manifest or log is damaged or missing.
 */
enum err tenure_open(struct op *op, const struct registry_options *env,
                     const struct keys *keys, struct schema *schema,
                     uint64_t next_record, const struct snapshot *old,
                     struct tenure *out);
void tenure_release(struct tenure *t); /* harmless on zeros */

/* What the two questions below need to know of a tenure; owns nothing. */
static inline struct tenure tenure_mark(const struct tenure *t)
{
    return (struct tenure){.epoch = t->epoch};
}

/* Is the newest manifest still of our epoch, so that nobody has opened the namespace
 * since? ERR_FENCED if not. */
enum err tenure_validate(struct op *op, const struct registry_options *env,
                         const struct keys *keys, const struct tenure *t);

/* An object that the manifest of t names is not there (ERR_NOT_FOUND): ERR_FENCED if a
 * newer owner removed it, else ERR_CORRUPT. Keeps op's words. */
enum err tenure_missing(struct op *op, const struct registry_options *env,
                        const struct keys *keys, const struct tenure *t);

/*
 * The bytes of an object that is not ours are in the slot that our next entry would
 * take. ERR_NOT_FOUND: the namespace was dropped. ERR_FENCED: another holds it, who and
 * by which list of indexers as far as the bytes tell. words are for operators; op is
 * left without an error.
 */
enum { TENURE_WORDS_MAX = 384 };
enum err tenure_lost_to(struct op *op, const struct registry_options *env,
                        const struct keys *keys, uint64_t slot, struct slice bytes,
                        char words[TENURE_WORDS_MAX]);

#endif
