#include "inspect/verify.h"

#include <inttypes.h>
#include <string.h>

#include "base/op.h"
#include "base/rowset.h"
#include "cache/cache.h"
#include "inspect/stored_key.h"
#include "inspect/verify_ids.h"
#include "ns/catalog.h"
#include "ns/manifest.h"
#include "ns/state.h"
#include "ns/wal.h"
#include "segment/segment_stats.h"
#include "store/store.h"

enum { PAGE = 1000, TRIES_MAX = 4, PROBLEMS_SHOWN_MAX = 20 };

/* One look at one namespace. */
struct look {
    struct store *store;
    struct cache *cache;
    const char *name;
    struct keys keys;
    struct manifest *manifest; /* NULL: nothing was indexed yet */
    struct schema *schema;     /* as of the log entry read last */
    bool dropped;
    bool missing; /* a named object was not there: damage, or collected meanwhile */
    uint64_t rows, log_entries, orphans, objects, bytes, problems;
    struct buf words; /* of the problems, a line each */
};

static void problem(struct look *l, struct op *op, enum err e)
{
    l->problems++;
    l->missing |= e == ERR_NOT_FOUND;
    if (l->problems <= PROBLEMS_SHOWN_MAX)
        buf_printf(&l->words, "  %s: %s\n", err_name(e), op->error);
    if (l->problems == PROBLEMS_SHOWN_MAX + 1)
        buf_append_str(&l->words, "  more of them are counted only\n");
    op_clear_error(op);
}

/* Damage is noted and the look goes on; without the store it cannot. */
static bool is_damage(enum err e)
{
    return e == ERR_CORRUPT || e == ERR_NOT_FOUND;
}

static enum err note(struct look *l, struct op *op, enum err e)
{
    if (!is_damage(e)) return e;
    problem(l, op, e);
    return ERR_OK;
}

/* ---- every key below a folder ---- */

typedef enum err visit_key(struct op *op, struct look *l, const char *key);

static enum err each_key(struct op *op, struct look *l, const char *dir,
                         visit_key *visit)
{
    char after[STORE_KEY_MAX] = "";

    for (size_t n = PAGE; n == PAGE;) {
        const char *page[PAGE];
        struct op step;
        op_init(&step, op->deadline_ms, 0);
        enum err e = store_list(&step, l->store, dir, after, 0, page, &n);
        for (size_t i = 0; i < n && !e; i++)
            e = visit(&step, l, page[i]);
        if (!e && n) memcpy(after, page[n - 1], strlen(page[n - 1]) + 1);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- catalog and manifests ---- */

static enum err visit_catalog(struct op *op, struct look *l, const char *key)
{
    struct catalog_record record;
    enum err e = catalog_read(op, l->store, l->name, key, &record);
    l->objects++;
    if (e) return note(l, op, e);
    catalog_release(&record);
    return ERR_OK;
}

static enum err visit_manifest(struct op *op, struct look *l, const char *key)
{
    struct buf bytes = BUF_INIT;
    struct object object;
    struct manifest *m = NULL;
    uint64_t version;

    enum err e = key_manifest_version(&l->keys, key, &version)
                     ? ERR_OK
                     : op_fail(op, ERR_CORRUPT, "%s is no name of a manifest", key);
    if (!e) e = store_get(op, l->store, key, OBJECT_SIZE_MAX, &bytes);
    if (!e)
        e = object_decode(op, key, buf_slice(&bytes), l->keys.incarnation, version,
                          &object);
    if (!e) e = manifest_decode(op, key, &object, &m);
    l->objects++;
    l->bytes += bytes.size;
    manifest_unref(m);
    buf_release(&bytes);
    /* An old one may be collected while we look. */
    if (e == ERR_NOT_FOUND && l->manifest && version < l->manifest->version) {
        op_clear_error(op);
        return ERR_OK;
    }
    return note(l, op, e);
}

/* ---- segments ---- */

/* Nothing reads behind the size that the manifest gives, so nobody would notice. A NULL
 * key is no object. */
static enum err check_end(struct op *op, struct look *l, const char *key, uint64_t size)
{
    uint8_t byte;
    struct store_range behind = {.key = key,
                                 .offset = size,
                                 .size = sizeof byte,
                                 .data = &byte};
    if (!key) return ERR_OK;
    enum err e = store_read(op, l->store, &behind, 1);
    if (!e)
        return op_fail(op, ERR_CORRUPT, "object %s is longer than its manifest says",
                       key);
    if (e != ERR_CORRUPT) return e;
    op_clear_error(op);
    return ERR_OK;
}

static enum err look_at_segment(struct op *op, struct look *l,
                                const struct manifest_segment *ms, struct live_ids *ids)
{
    struct segment *segment = NULL;
    struct rowset *dead = NULL;

    enum err e = state_load_segment(op, l->cache, &l->keys, l->manifest->schema, ms,
                                    NULL, &segment, &dead);
    if (!e) e = segment_verify(op, segment);
    if (!e) e = segment_verify_counts(op, segment, l->manifest->schema);
    if (!e) e = check_end(op, l, ms->key, ms->size);
    if (!e) e = check_end(op, l, ms->deletes_key, ms->deletes_size);
    if (!e) e = segment_stats_verify(op, segment);
    if (!e) live_ids_add(ids, segment, dead);
    l->objects += ms->dead_count ? 2 : 1;
    l->bytes += ms->size + ms->deletes_size;
    l->rows += ms->row_count - ms->dead_count;
    segment_unref(segment);
    rowset_unref(dead);
    return note(l, op, e);
}

static enum err look_at_table(struct op *op, struct look *l)
{
    struct idempotency *table = NULL;
    enum err e = state_load_table(op, l->cache, &l->keys, l->manifest, &table);
    if (!e)
        e = check_end(op, l, l->manifest->idempotency_key,
                      l->manifest->idempotency_size);
    if (l->manifest->idempotency_key) l->objects++;
    l->bytes += l->manifest->idempotency_size;
    idempotency_free(table);
    return note(l, op, e);
}

static enum err look_at_segments(struct op *op, struct look *l)
{
    struct live_ids *ids = live_ids_new();
    uint64_t twice = 0;
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < l->manifest->segment_count && !e; i++) {
        struct op step;
        op_init(&step, op->deadline_ms, 0);
        e = look_at_segment(&step, l, &l->manifest->segments[i], ids);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
    }
    if (!e) e = look_at_table(op, l);
    if (!e) twice = live_ids_repeated(ids);
    if (twice) {
        e = op_fail(op, ERR_CORRUPT, "%" PRIu64 " ids live in two segments", twice);
        e = note(l, op, e);
    }
    live_ids_free(ids);
    return e;
}

/* ---- the log ---- */

/* The batches of an entry, under the schema before it, which they may widen. */
static enum err look_at_requests(struct op *op, struct look *l,
                                 const struct wal_entry *entry)
{
    for (size_t i = 0; i < entry->request_count; i++) {
        struct batch batch;
        struct schema *wider = NULL;
        bool same;
        enum err e = batch_decode(op, entry->requests[i].batch, l->schema, &batch);
        if (e) return op_fail(op, e, "request %zu of slot %" PRIu64, i, entry->slot);
        if (!batch.schema) continue;
        e = schema_extend(op, l->schema, batch.schema, &same, &wider);
        schema_unref(batch.schema);
        if (e) return ERR_CORRUPT;
        schema_unref(l->schema);
        l->schema = wider;
    }
    return ERR_OK;
}

/* What the entry of slot must follow: the anchor, or the entry before it. */
struct chain {
    uint64_t next;
    struct put_id previous;
    bool known; /* previous is */
};

static enum err look_at_entry(struct op *op, struct look *l, uint64_t slot,
                              struct chain *chain)
{
    struct buf bytes = BUF_INIT;
    struct wal_entry entry;
    bool replayed = !l->manifest || slot >= l->manifest->wm;

    enum err e = wal_read(op, l->store, &l->keys, slot, &bytes, &entry);
    l->objects++;
    l->bytes += bytes.size;
    if (!e && replayed && slot != chain->next)
        e = op_fail(op, ERR_CORRUPT, "the log has slot %" PRIu64 " but not %" PRIu64,
                    slot, chain->next);
    if (!e && slot == chain->next && chain->known &&
        !put_id_equal(&entry.prev, &chain->previous))
        e = op_fail(op, ERR_CORRUPT, "slot %" PRIu64 " does not follow the one before",
                    slot);
    if (!e && replayed) e = look_at_requests(op, l, &entry);
    if (!e) {
        chain->next = slot + 1;
        chain->previous = entry.put_id;
        chain->known = true;
    }
    buf_release(&bytes);
    return e;
}

static enum err look_at_log(struct op *op, struct look *l)
{
    uint64_t wm = l->manifest ? l->manifest->wm : 0;
    struct chain chain = {.next = wm, .known = wm > 0};
    uint64_t *slots = NULL;
    size_t count = 0;

    if (l->manifest) chain.previous = l->manifest->anchor;
    enum err e = wal_list(op, l->store, &l->keys, 0, &slots, &count);
    for (size_t i = 0; i < count && !e; i++) {
        struct chain replaced = {.next = slots[i]};
        struct op step;
        bool tail = slots[i] >= wm;
        op_init(&step, op->deadline_ms, 0);
        e = look_at_entry(&step, l, slots[i], tail ? &chain : &replaced);
        l->log_entries += tail;
        /* What segments have replaced may be collected while we look. */
        if (e == ERR_NOT_FOUND && !tail) e = ERR_OK;
        e = note(l, &step, e);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
    }
    return e;
}

/* ---- what nobody names ---- */

static enum err visit_side(struct op *op, struct look *l, const char *key)
{
    (void)op;
    if (!l->manifest || !manifest_mentions(l->manifest, key)) l->orphans++;
    return ERR_OK;
}

/* Objects of other incarnations, which were dropped. */
static enum err visit_any(struct op *op, struct look *l, const char *key)
{
    struct stored_key at;
    if (!stored_key_parse(key, &at)) {
        (void)op_fail(op, ERR_CORRUPT, "%s is no object of ours", key);
        return note(l, op, ERR_CORRUPT);
    }
    if (at.kind == STORED_CATALOG_RECORD) return ERR_OK;
    bool ours = !l->dropped &&
                memcmp(at.incarnation, l->keys.incarnation, sizeof at.incarnation) == 0;
    if (!ours) l->orphans++;
    return ERR_OK;
}

/* ---- one namespace ---- */

static enum err look_at_incarnation(struct op *op, struct look *l,
                                    const struct catalog_record *record)
{
    keys_init(&l->keys, record->wal_prefix, l->name, record->incarnation);
    enum err e = manifest_newest(op, l->store, &l->keys, &l->manifest);
    if (e) return note(l, op, e);
    l->schema = schema_ref(l->manifest ? l->manifest->schema : record->schema);
    e = each_key(op, l, l->keys.manifest, visit_manifest);
    if (!e && l->manifest) e = look_at_segments(op, l);
    if (!e) e = look_at_log(op, l);
    if (!e) e = each_key(op, l, l->keys.segment, visit_side);
    return e;
}

static enum err look_once(struct op *op, struct look *l)
{
    struct key catalog = key_catalog_dir(l->name);
    char all[STORE_KEY_MAX];
    struct catalog_record record;

    enum err e = each_key(op, l, catalog.text, visit_catalog);
    if (!e) e = catalog_newest(op, l->store, l->name, &record);
    if (e == ERR_CORRUPT) {
        op_clear_error(op); /* visit_catalog has said it */
        return ERR_OK;
    }
    if (e) return e;
    l->dropped = record.deleted;
    if (!l->dropped) e = look_at_incarnation(op, l, &record);
    (void)snprintf(all, sizeof all, "ns/%s/", l->name);
    if (!e) e = each_key(op, l, all, visit_any);
    if (!e && *record.wal_prefix)
        (void)snprintf(all, sizeof all, "%s/wal/%s/", record.wal_prefix, l->name);
    else
        (void)snprintf(all, sizeof all, "wal/%s/", l->name);
    if (!e) e = each_key(op, l, all, visit_any);
    catalog_release(&record);
    return e;
}

static void look_end(struct look *l)
{
    manifest_unref(l->manifest);
    schema_unref(l->schema);
    buf_release(&l->words);
}

/* Was it dropped, or a newer manifest published, since the look began? */
static bool overtaken(struct op *op, const struct look *l)
{
    struct manifest *m = NULL;
    uint64_t next_record = 0;
    bool current = true;
    enum err e = catalog_is_current(op, l->store, l->name, l->keys.incarnation,
                                    &next_record, &current);
    if (!e && current) e = manifest_newest(op, l->store, &l->keys, &m);
    bool newer = m && (!l->manifest || m->version > l->manifest->version);
    manifest_unref(m);
    op_clear_error(op);
    return !e && (!current || newer);
}

static enum err look_at(struct op *op, const struct look *start, struct look *l)
{
    for (int i = 0;; i++) {
        *l = *start;
        enum err e = look_once(op, l);
        bool again = !e && l->missing && i + 1 < TRIES_MAX && overtaken(op, l);
        if (!again) return e;
        look_end(l);
    }
}

/* ---- the store ---- */

static void print_row(FILE *out, const struct look *l)
{
    const char *state = l->problems ? "DAMAGED" : l->dropped ? "dropped" : "ok";
    uint32_t segments = l->manifest ? l->manifest->segment_count : 0;
    (void)fprintf(out,
                  "%-32s %-8s %10" PRIu64 " %8u %8" PRIu64 " %8" PRIu64 " %14" PRIu64
                  " %8" PRIu64 "\n%.*s",
                  l->name, state, l->rows, segments, l->log_entries, l->objects,
                  l->bytes, l->orphans, (int)l->words.size,
                  l->words.size ? (const char *)l->words.data : "");
}

static enum err verify_one(struct op *op, const struct verify_options *options,
                           const struct look *start, struct verify_totals *totals)
{
    struct look l;
    if (options->progress) {
        (void)fprintf(options->progress, "\r\033[K%" PRIu64 " namespaces read, now %s",
                      totals->namespaces, start->name);
        (void)fflush(options->progress);
    }
    enum err e = look_at(op, start, &l);
    if (options->progress) (void)fputs("\r\033[K", options->progress);
    if (!e) {
        print_row(options->out, &l);
        totals->namespaces++;
        totals->damaged += l.problems > 0;
        totals->objects += l.objects;
        totals->bytes += l.bytes;
        totals->problems += l.problems;
    }
    look_end(&l);
    return e;
}

/* "ns/<name>/" to the name; false if it is none of ours. */
static bool name_of(const char *folder, char name[NAMESPACE_NAME_MAX + 1])
{
    size_t size = strlen(folder);
    if (size < 5 || size - 4 > NAMESPACE_NAME_MAX) return false;
    memcpy(name, folder + 3, size - 4);
    name[size - 4] = '\0';
    return true;
}

static enum err verify_all(struct op *op, const struct verify_options *options,
                           const struct look *start, struct verify_totals *totals)
{
    struct look one = *start;
    char after[STORE_KEY_MAX] = "", name[NAMESPACE_NAME_MAX + 1];

    for (size_t n = PAGE; n == PAGE;) {
        const char *page[PAGE];
        struct op step;
        op_init(&step, op->deadline_ms, 0);
        enum err e = store_list(&step, start->store, "ns/", after, '/', page, &n);
        for (size_t i = 0; i < n && !e; i++) {
            if (!name_of(page[i], name)) continue;
            one.name = name;
            e = verify_one(&step, options, &one, totals);
        }
        if (!e && n) memcpy(after, page[n - 1], strlen(page[n - 1]) + 1);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
        if (e) return e;
    }
    return ERR_OK;
}

enum err verify_store(struct op *op, struct store *store,
                      const struct verify_options *options,
                      struct verify_totals *totals)
{
    struct look start = {.store = store,
                         .cache = cache_new(store, options->memory),
                         .name = options->name};
    enum err e;

    *totals = (struct verify_totals){0};
    (void)fprintf(options->out, "%-32s %-8s %10s %8s %8s %8s %14s %8s\n", "NAMESPACE",
                  "STATE", "DOCUMENTS", "SEGMENTS", "LOG", "OBJECTS", "BYTES",
                  "ORPHANS");
    e = options->name ? verify_one(op, options, &start, totals)
                      : verify_all(op, options, &start, totals);
    cache_free(start.cache);
    return e;
}
