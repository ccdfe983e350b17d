#include "sim/ledger.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/keys.h"
#include "ns/manifest.h"
#include "ns/object.h"
#include "ns/wal.h"
#include "sim/sim.h"

/* The content after an entry. */
struct content {
    uint64_t n[LEDGER_IDS];
};

struct committed {
    enum object_kind kind;
    uint64_t epoch, hash;
    struct put_id put_id;
    struct content after;
};

/* One incarnation. */
struct era {
    struct keys keys;
    uint64_t catalog_number;
    struct committed *log;
    size_t log_count;
    uint64_t fence_epoch;      /* the highest of a fence */
    struct manifest *manifest; /* newest; NULL before the first */
    bool dropped;              /* its log ends with DROP */
    bool recorded;             /* and the catalog says so */
};

/* Where a write landed, and what it did there. */
struct landing {
    size_t era;
    uint64_t slot;
    uint64_t upserted, deleted;
};

struct write {
    struct intent intent;
    struct landing *landings;
    size_t landing_count;
    unsigned open; /* attempts without an answer (for ever, if the process died) */
    bool unknown;  /* some attempt may land whenever it likes */
    bool acknowledged, refused;
};

/* What was acknowledged by when, for bounded staleness. */
struct progress {
    int64_t ms, era, slot;
};

struct ledger {
    char name[NAMESPACE_NAME_MAX + 1];
    int64_t staleness_max_ms;
    struct schema *schema;
    struct era *eras;
    size_t era_count;
    struct write *writes;
    uint32_t write_count;
    uint32_t drops;
    int64_t seen_era, seen_slot;
    bool seen_gone;
    struct progress *progress;
    size_t progress_count;
    char wrong[512];
};

/* ---- life ---- */

struct schema *ledger_schema(void)
{
    static const struct attr n = {.name = "n", .type = ATTR_INT, .indexed = true};
    return schema_new(2, METRIC_L2, &n, 1);
}

struct ledger *ledger_new(const char *name, int64_t staleness_max_ms)
{
    struct ledger *l = mem_new(struct ledger);
    (void)snprintf(l->name, sizeof l->name, "%s", name);
    l->staleness_max_ms = staleness_max_ms;
    l->schema = ledger_schema();
    l->seen_era = l->seen_slot = -1;
    return l;
}

void ledger_free(struct ledger *l)
{
    for (size_t i = 0; i < l->era_count; i++) {
        manifest_unref(l->eras[i].manifest);
        mem_free(l->eras[i].log);
    }
    for (uint32_t i = 0; i < l->write_count; i++)
        mem_free(l->writes[i].landings);
    mem_free(l->eras);
    mem_free(l->writes);
    mem_free(l->progress);
    schema_unref(l->schema);
    mem_free(l);
}

const char *ledger_wrong(const struct ledger *l)
{
    return l->wrong[0] ? l->wrong : NULL;
}

void ledger_complain(struct ledger *l, const char *format, ...)
{
    va_list args;
    if (l->wrong[0]) return;
    va_start(args, format);
    (void)vsnprintf(l->wrong, sizeof l->wrong, format, args);
    va_end(args);
    sim_note("wrong: %s", l->wrong);
}

static unsigned long long ull(uint64_t x)
{
    return (unsigned long long)x;
}

/* ---- the log, as it appears ---- */

static struct write *write_of(struct ledger *l, uint64_t number)
{
    return number >= 1 && number <= l->write_count ? &l->writes[number - 1] : NULL;
}

static void note_landing(struct ledger *l, struct write *w, struct landing landing)
{
    for (size_t i = 0; i < w->landing_count; i++)
        if (w->landings[i].era == landing.era)
            ledger_complain(l, "I9: write %u is in slots %llu and %llu",
                            w->intent.number, ull(w->landings[i].slot),
                            ull(landing.slot));
    if (w->refused)
        ledger_complain(l,
                        "I8: write %u was refused as not applied, yet it lands in "
                        "slot %llu",
                        w->intent.number, ull(landing.slot));
    w->landings =
        mem_realloc(w->landings, (w->landing_count + 1) * sizeof *w->landings);
    w->landings[w->landing_count++] = landing;
}

/* Which documents the write should delete, given the content before it. */
static uint32_t deletes_meant(const struct intent *intent, const struct content *before)
{
    uint32_t ids = 0;
    if (intent->kind == INTENT_DELETE) return intent->ids;
    for (unsigned i = 0; i < LEDGER_IDS; i++)
        if (before->n[i] && before->n[i] < intent->below) ids |= 1u << i;
    return intent->kind == INTENT_DELETE_BELOW ? ids : 0;
}

static bool known_id(const struct doc_id *id)
{
    return id->kind == ID_U64 && id->u64 < LEDGER_IDS;
}

/* A request's number: in its digest if it has a key, else in its documents. */
static uint32_t number_of(const struct wal_request *request, const struct batch *batch)
{
    uint32_t number = 0;
    if (request->idempotency_key.size)
        memcpy(&number, request->digest, sizeof number);
    else if (batch->doc_count)
        number = (uint32_t)batch->docs[0].values[0].one.i;
    return number;
}

/* Applies one request of an entry to content. */
static void apply_request(struct ledger *l, size_t era, uint64_t slot,
                          const struct wal_request *request, struct content *content)
{
    struct op op;
    struct batch batch = {0};
    uint32_t puts = 0, deletes = 0;
    struct landing landing = {.era = era, .slot = slot};

    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = batch_decode(&op, request->batch, l->schema, &batch);
    if (e) ledger_complain(l, "slot %llu does not decode: %s", ull(slot), op.error);
    uint32_t number = e ? 0 : number_of(request, &batch);
    struct write *w = write_of(l, number);
    if (!w) {
        ledger_complain(l, "I8: slot %llu holds a write nobody submitted", ull(slot));
        op_release(&op);
        return;
    }
    uint32_t meant = deletes_meant(&w->intent, content);
    for (size_t i = 0; i < batch.delete_count; i++) {
        if (!known_id(&batch.deletes[i])) continue;
        uint64_t id = batch.deletes[i].u64;
        landing.deleted += content->n[id] != 0;
        content->n[id] = 0;
        deletes |= 1u << id;
    }
    for (size_t i = 0; i < batch.doc_count; i++) {
        if (!known_id(&batch.docs[i].id)) continue;
        if (batch.docs[i].values[0].one.i == (int64_t)number)
            puts |= 1u << batch.docs[i].id.u64;
        content->n[batch.docs[i].id.u64] = number;
        landing.upserted++;
    }
    if (puts != (w->intent.kind == INTENT_PUT ? w->intent.ids : 0) || deletes != meant)
        ledger_complain(l,
                        "write %u lands in slot %llu as another: puts %x, deletes %x",
                        number, ull(slot), puts, deletes);
    op_release(&op);
    note_landing(l, w, landing);
}

static void commit_entry(struct ledger *l, size_t era_index, struct slice bytes,
                         const struct wal_entry *entry)
{
    struct era *era = &l->eras[era_index];
    struct committed c = {.kind = entry->kind,
                          .epoch = entry->epoch,
                          .hash = xxh3_64(bytes.data, bytes.size),
                          .put_id = entry->put_id};
    uint64_t slot = entry->slot;
    const struct committed *last = era->log_count ? &era->log[slot - 1] : NULL;
    struct put_id none = {{0}};

    if (last) c.after = last->after;
    if (!put_id_equal(&entry->prev, last ? &last->put_id : &none))
        ledger_complain(l, "I2: slot %llu does not chain", ull(slot));
    if (era->dropped) ledger_complain(l, "slot %llu lies behind the DROP", ull(slot));
    /* A fence may: its writer came too late, sees that next, and stops. */
    if (entry->kind != OBJECT_FENCE && entry->epoch < era->fence_epoch)
        ledger_complain(l, "I4: slot %llu of epoch %llu lies behind a fence of %llu",
                        ull(slot), ull(entry->epoch), ull(era->fence_epoch));
    if (entry->kind == OBJECT_FENCE && entry->epoch > era->fence_epoch)
        era->fence_epoch = entry->epoch;
    if (entry->kind == OBJECT_DROP) {
        era->dropped = true;
        l->drops++;
    }
    for (size_t i = 0; i < entry->request_count; i++)
        apply_request(l, era_index, slot, &entry->requests[i], &c.after);

    era->log = mem_realloc(era->log, (era->log_count + 1) * sizeof *era->log);
    era->log[era->log_count++] = c;
}

static void entry_stored(struct ledger *l, size_t era_index, uint64_t slot,
                         struct slice bytes)
{
    struct era *era = &l->eras[era_index];
    struct wal_entry entry;
    struct op op;

    if (slot < era->log_count) {
        /* A late duplicate at a collected name; whoever reads it knows by the chain. */
        bool same = era->log[slot].hash == xxh3_64(bytes.data, bytes.size);
        bool collected = era->dropped || (era->manifest && slot < era->manifest->floor);
        if (!same && !collected)
            ledger_complain(l, "I1: slot %llu held two values", ull(slot));
        return;
    }
    if (slot > era->log_count) {
        ledger_complain(l, "I2: slot %llu follows slot %lld", ull(slot),
                        (long long)era->log_count - 1);
        return;
    }
    op_init(&op, OP_NO_DEADLINE, 0);
    if (wal_entry_decode(&op, &era->keys, slot, bytes, &entry))
        ledger_complain(l, "slot %llu does not decode: %s", ull(slot), op.error);
    else
        commit_entry(l, era_index, bytes, &entry);
    op_release(&op);
}

/* ---- manifests and the catalog, as they appear ---- */

static bool manifest_names(const struct manifest *m, const char *key)
{
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const char *deletes = m->segments[i].deletes_key;
        if (strcmp(m->segments[i].key, key) == 0) return true;
        if (deletes && strcmp(deletes, key) == 0) return true;
    }
    return m->idempotency_key && strcmp(m->idempotency_key, key) == 0;
}

static bool manifest_fences(const struct manifest *m, uint64_t slot)
{
    for (uint32_t i = 0; i < m->fence_count; i++)
        if (m->fences[i].slot == slot) return true;
    return false;
}

static void check_manifest(struct ledger *l, const struct era *era,
                           const struct manifest *m)
{
    const struct manifest *old = era->manifest;
    uint64_t floor_max = m->wm ? m->wm - 1 : 0;

    if (old ? m->version != old->version + 1 : m->version != 0)
        ledger_complain(l, "I5: manifest %llu does not follow", ull(m->version));
    if (old && (m->epoch < old->epoch || m->wm < old->wm || m->floor < old->floor))
        ledger_complain(l, "I5: manifest %llu goes back", ull(m->version));
    if (m->floor > floor_max || m->wm > era->log_count)
        ledger_complain(l, "I5: manifest %llu has floor %llu, wm %llu", ull(m->version),
                        ull(m->floor), ull(m->wm));
    else if (m->wm && !put_id_equal(&m->anchor, &era->log[m->wm - 1].put_id))
        ledger_complain(l, "I5: manifest %llu has another anchor", ull(m->version));
    for (uint64_t slot = 0; slot < m->wm && slot < era->log_count; slot++)
        if (era->log[slot].kind == OBJECT_FENCE && !manifest_fences(m, slot))
            ledger_complain(l, "manifest %llu forgot the fence in slot %llu",
                            ull(m->version), ull(slot));
}

static void manifest_stored(struct ledger *l, struct era *era, uint64_t version,
                            const char *key, struct slice bytes)
{
    struct object object;
    struct manifest *m = NULL;
    struct op op;

    /* At the name of a collected one it is never the newest; once the catalog knows of
     * the end it is nothing to anybody. */
    if (era->recorded || (era->manifest && version <= era->manifest->version)) return;
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e =
        object_decode(&op, key, bytes, era->keys.incarnation, version, &object);
    if (!e) e = manifest_decode(&op, key, &object, &m);
    if (e) {
        ledger_complain(l, "manifest %llu does not decode: %s", ull(version), op.error);
    } else {
        check_manifest(l, era, m);
        manifest_unref(era->manifest);
        era->manifest = m;
    }
    op_release(&op);
}

static void catalog_stored(struct ledger *l, uint64_t number, struct slice bytes)
{
    enum { INCARNATION_OFFSET = 16, DELETED_OFFSET = OBJECT_HEADER_SIZE + 1 };
    const uint8_t *incarnation = bytes.data + INCARNATION_OFFSET;
    struct era *last = l->era_count ? &l->eras[l->era_count - 1] : NULL;

    if (bytes.size <= DELETED_OFFSET) {
        ledger_complain(l, "catalog record %llu is short", ull(number));
        return;
    }
    if (bytes.data[DELETED_OFFSET]) {
        if (!last || !last->dropped)
            ledger_complain(l, "the catalog deletes what was not dropped");
        else
            last->recorded = true;
        return;
    }
    if (last && !last->recorded)
        ledger_complain(l, "I10: incarnation created over one that was not deleted");
    l->eras = mem_realloc(l->eras, (l->era_count + 1) * sizeof *l->eras);
    struct era *era = &l->eras[l->era_count++];
    *era = (struct era){.catalog_number = number};
    keys_init(&era->keys, "", l->name, incarnation);
}

static void stored(void *context, const char *key, struct slice bytes)
{
    struct ledger *l = context;
    uint64_t number;

    if (key_catalog_number(l->name, key, &number)) {
        catalog_stored(l, number, bytes);
        return;
    }
    for (size_t i = 0; i < l->era_count; i++) {
        struct era *era = &l->eras[i];
        if (key_wal_slot(&era->keys, key, &number))
            entry_stored(l, i, number, bytes);
        else if (key_manifest_version(&era->keys, key, &number))
            manifest_stored(l, era, number, key, bytes);
    }
}

/* ---- deletes, as they happen: I6 ---- */

static void check_slot_delete(struct ledger *l, const struct era *era, uint64_t slot)
{
    uint64_t floor = era->manifest ? era->manifest->floor : 0;

    if (slot >= era->log_count) {
        ledger_complain(l, "I6: slot %llu is deleted before it is there", ull(slot));
    } else if (era->log[slot].kind != OBJECT_DATA) {
        ledger_complain(l, "I6: the fence or DROP in slot %llu is deleted", ull(slot));
    } else if (!era->recorded && slot >= floor) {
        ledger_complain(l, "I6: slot %llu is deleted, the floor is %llu", ull(slot),
                        ull(floor));
    }
}

static void deleting(void *context, const char *key)
{
    struct ledger *l = context;
    uint64_t number;

    if (key_catalog_number(l->name, key, &number))
        ledger_complain(l, "catalog record %llu is deleted", ull(number));
    for (size_t i = 0; i < l->era_count; i++) {
        const struct era *era = &l->eras[i];
        const struct manifest *m = era->manifest;
        if (key_wal_slot(&era->keys, key, &number)) check_slot_delete(l, era, number);
        if (era->recorded || !m) continue;
        if (key_manifest_version(&era->keys, key, &number) && number == m->version)
            ledger_complain(l, "I6: the newest manifest %llu is deleted", ull(number));
        if (manifest_names(m, key))
            ledger_complain(l, "I6: %s is deleted, manifest %llu names it", key,
                            ull(m->version));
    }
}

struct store_witness ledger_witness(struct ledger *l)
{
    return (struct store_witness){stored, deleting, l};
}

/* ---- what somebody saw ---- */

static bool absent(const struct ledger *l)
{
    return l->era_count == 0 || l->eras[l->era_count - 1].dropped;
}

bool ledger_exists(const struct ledger *l)
{
    return !absent(l);
}

struct ledger_mark ledger_begin(const struct ledger *l)
{
    return (struct ledger_mark){.ms = clock_ms(),
                                .era = l->seen_era,
                                .slot = l->seen_slot,
                                .gone = l->seen_gone,
                                .absent = absent(l),
                                .drops = l->drops};
}

static void saw(struct ledger *l, int64_t era, int64_t slot)
{
    if (era > l->seen_era) {
        l->seen_era = era;
        l->seen_slot = slot;
        l->seen_gone = false;
    } else if (era == l->seen_era && slot > l->seen_slot) {
        l->seen_slot = slot;
    }
}

static void saw_gone(struct ledger *l)
{
    for (size_t i = l->era_count; i-- > 0;)
        if (l->eras[i].dropped) {
            if ((int64_t)i < l->seen_era) return;
            saw(l, (int64_t)i, l->seen_slot);
            l->seen_gone = true;
            return;
        }
}

static void acknowledged(struct ledger *l, int64_t era, int64_t slot)
{
    saw(l, era, slot);
    l->progress =
        mem_realloc(l->progress, (l->progress_count + 1) * sizeof *l->progress);
    l->progress[l->progress_count++] = (struct progress){clock_ms(), era, slot};
}

/* The era of an incarnation, -1 if there never was such a one. */
static int64_t era_of(const struct ledger *l, const uint8_t *incarnation)
{
    for (size_t i = 0; i < l->era_count; i++)
        if (memcmp(l->eras[i].keys.incarnation, incarnation, INCARNATION_SIZE) == 0)
            return (int64_t)i;
    return -1;
}

/* ---- writes ---- */

uint32_t ledger_intend(struct ledger *l, struct intent intent)
{
    l->writes = mem_realloc(l->writes, (l->write_count + 1) * sizeof *l->writes);
    intent.number = ++l->write_count;
    l->writes[intent.number - 1] = (struct write){.intent = intent};
    return intent.number;
}

const struct intent *ledger_intent(const struct ledger *l, uint32_t number)
{
    assert(number >= 1 && number <= l->write_count);
    return &l->writes[number - 1].intent;
}

uint32_t ledger_intent_count(const struct ledger *l)
{
    return l->write_count;
}

bool ledger_open_ended(const struct ledger *l, uint32_t number)
{
    const struct write *w = &l->writes[number - 1];
    return w->intent.keyed && !w->acknowledged;
}

void ledger_attempt(struct ledger *l, uint32_t number)
{
    assert(number >= 1 && number <= l->write_count);
    struct write *w = &l->writes[number - 1];
    w->open++;
    w->refused = false;
}

static void check_acknowledged(struct ledger *l, struct write *w,
                               const struct write_result *result)
{
    int64_t era = era_of(l, result->token.incarnation);
    const struct landing *at = NULL;

    for (size_t i = 0; i < w->landing_count; i++)
        if ((int64_t)w->landings[i].era == era &&
            w->landings[i].slot == result->token.slot)
            at = &w->landings[i];
    if (!at) {
        ledger_complain(l,
                        "I3: write %u was acknowledged in slot %llu, but is not there",
                        w->intent.number, ull(result->token.slot));
        return;
    }
    if (at->upserted != result->upserted || at->deleted != result->deleted)
        ledger_complain(l, "write %u did %llu + %llu, but its answer says %llu + %llu",
                        w->intent.number, ull(at->upserted), ull(at->deleted),
                        ull(result->upserted), ull(result->deleted));
    w->acknowledged = true;
    acknowledged(l, era, (int64_t)result->token.slot);
}

void ledger_answer(struct ledger *l, uint32_t number, enum err e,
                   const struct write_result *result)
{
    assert(number >= 1 && number <= l->write_count);
    struct write *w = &l->writes[number - 1];

    w->open--;
    if (e == ERR_OK) {
        check_acknowledged(l, w, result);
    } else if (e == ERR_UNKNOWN) {
        w->unknown = true;
    } else if (w->open == 0 && !w->unknown && !w->acknowledged) {
        w->refused = true;
        if (w->landing_count)
            ledger_complain(l, "I8: write %u was refused (%s), but is in slot %llu",
                            number, err_name(e), ull(w->landings[0].slot));
    }
}

/* ---- reads ---- */

static void check_content(struct ledger *l, const struct era *era,
                          const struct snapshot *s,
                          const struct ledger_content *content)
{
    static const struct content nothing;
    const struct content *truth = &nothing;
    uint64_t rows = 0;

    if (s->slot != UINT64_MAX) truth = &era->log[s->slot].after;
    for (unsigned i = 0; i < LEDGER_IDS; i++) {
        rows += truth->n[i] != 0;
        if (content->n[i] != truth->n[i])
            ledger_complain(l,
                            "I7: at slot %llu document %u is of write %llu, not %llu",
                            ull(s->slot), i, ull(content->n[i]), ull(truth->n[i]));
    }
    if (rows != content->row_count)
        ledger_complain(l, "I7: at slot %llu there are %llu documents, not %llu",
                        ull(s->slot), ull(rows), ull(content->row_count));
}

static void check_fresh(struct ledger *l, const struct ledger_mark *begun, int64_t era,
                        int64_t slot)
{
    if (era < begun->era || (era == begun->era && begun->gone))
        ledger_complain(l, "a strong read shows era %lld, but %lld was seen%s",
                        (long long)era, (long long)begun->era,
                        begun->gone ? " to be dropped" : "");
    else if (era == begun->era && slot < begun->slot)
        ledger_complain(l, "I7: a strong read ends at slot %lld, but %lld was seen",
                        (long long)slot, (long long)begun->slot);
}

/* Everything acknowledged staleness_max_ms before the read began must be there. */
static void check_not_too_stale(struct ledger *l, const struct ledger_mark *begun,
                                int64_t era, int64_t slot)
{
    for (size_t i = l->progress_count; i-- > 0;) {
        const struct progress *p = &l->progress[i];
        if (p->ms > begun->ms - l->staleness_max_ms) continue;
        if (p->era > era || (p->era == era && p->slot > slot))
            ledger_complain(l,
                            "an eventual read ends at slot %lld, but %lld was "
                            "acknowledged %lld ms before",
                            (long long)slot, (long long)p->slot,
                            (long long)(begun->ms - p->ms));
    }
}

void ledger_read_answer(struct ledger *l, const struct ledger_mark *begun,
                        const struct snapshot *s, const struct ledger_content *content,
                        bool strong, const struct commit_token *min_commit)
{
    int64_t era = era_of(l, s->incarnation);
    int64_t slot = s->slot == UINT64_MAX ? -1 : (int64_t)s->slot;

    if (era < 0) {
        ledger_complain(l, "I10: a read shows an incarnation that never was");
        return;
    }
    if (slot >= (int64_t)l->eras[era].log_count) {
        ledger_complain(l, "a read shows slot %lld, which is not there",
                        (long long)slot);
        return;
    }
    check_content(l, &l->eras[era], s, content);
    if (strong) {
        check_fresh(l, begun, era, slot);
        saw(l, era, slot);
    } else {
        check_not_too_stale(l, begun, era, slot);
    }
    if (min_commit && era == era_of(l, min_commit->incarnation) &&
        slot < (int64_t)min_commit->slot)
        ledger_complain(l, "a read after slot %llu ends at slot %lld",
                        ull(min_commit->slot), (long long)slot);
}

void ledger_not_found(struct ledger *l, const struct ledger_mark *begun,
                      const char *call, bool strong)
{
    if (begun->absent || l->drops != begun->drops) {
        if (strong) saw_gone(l);
        return;
    }
    ledger_complain(l, "%s says \"not found\", but the namespace is there", call);
}

void ledger_created(struct ledger *l, const struct commit_token *token)
{
    int64_t era = era_of(l, token->incarnation);
    if (era < 0)
        ledger_complain(l, "created an incarnation that is not in the catalog");
    else
        saw(l, era, -1);
}

void ledger_dropped(struct ledger *l, const struct ledger_mark *begun)
{
    if (l->drops == begun->drops)
        ledger_complain(l, "dropped, but no log ends with a DROP");
    saw_gone(l);
}

/* ---- the end ---- */

static void check_object(struct ledger *l, struct op *op, struct store *store,
                         const char *key)
{
    struct buf bytes = BUF_INIT;
    if (key && store_get(op, store, key, OBJECT_SIZE_MAX, &bytes))
        ledger_complain(l, "%s is named by the newest manifest, but is not there", key);
    buf_release(&bytes);
}

void ledger_check_objects(struct ledger *l, struct store *store)
{
    struct op op;
    if (absent(l)) return;
    const struct manifest *m = l->eras[l->era_count - 1].manifest;

    op_init(&op, OP_NO_DEADLINE, 0);
    for (uint32_t i = 0; m && i < m->segment_count; i++) {
        check_object(l, &op, store, m->segments[i].key);
        check_object(l, &op, store, m->segments[i].deletes_key);
    }
    if (m) check_object(l, &op, store, m->idempotency_key);
    op_release(&op);
}

static void check_empty(struct ledger *l, struct op *op, struct store *store,
                        const char *dir)
{
    const char *key;
    size_t n = 1;
    if (store_list(op, store, dir, "", 0, &key, &n) || n)
        ledger_complain(l, "%s of a deleted incarnation was not purged", n ? key : dir);
}

static void check_log_purged(struct ledger *l, struct op *op, struct store *store,
                             const struct era *era)
{
    const char *keys[1000];
    size_t n = 1000;
    uint64_t slot;

    if (store_list(op, store, era->keys.wal, "", 0, keys, &n)) n = 0;
    for (size_t i = 0; i < n; i++)
        if (!key_wal_slot(&era->keys, keys[i], &slot) || slot >= era->log_count ||
            era->log[slot].kind == OBJECT_DATA)
            ledger_complain(l, "%s of a deleted incarnation was not purged", keys[i]);
}

void ledger_check_purged(struct ledger *l, struct store *store)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < l->era_count; i++) {
        if (!l->eras[i].recorded) continue;
        check_empty(l, &op, store, l->eras[i].keys.manifest);
        check_empty(l, &op, store, l->eras[i].keys.segment);
        check_log_purged(l, &op, store, &l->eras[i]);
    }
    op_release(&op);
}

uint64_t ledger_entries(const struct ledger *l)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->era_count; i++)
        n += l->eras[i].log_count;
    return n;
}
