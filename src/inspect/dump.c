#include "inspect/dump.h"

#include <inttypes.h>

#include "api/api_v1_namespace.h"
#include "api/api_v1_value.h"
#include "base/codec.h"
#include "base/json_write.h"
#include "base/op.h"
#include "base/rowset.h"
#include "doc/batch.h"
#include "inspect/stored_key.h"
#include "ns/catalog.h"
#include "ns/idempotency.h"
#include "ns/manifest.h"
#include "ns/wal.h"
#include "segment/segment.h"
#include "segment/segment_stats.h"
#include "store/store.h"

/* Nothing larger is put into memory to be looked at. */
#define SEGMENT_BYTES_MAX ((size_t)8 << 30)

/* ---- words ---- */

static void put_hex(struct buf *out, const char *label, const void *bytes, size_t size)
{
    char hex[65];
    hex_encode(bytes, size, hex);
    buf_printf(out, "%-13s %s\n", label, hex);
}

static void put_number(struct buf *out, const char *label, uint64_t n)
{
    buf_printf(out, "%-13s %" PRIu64 "\n", label, n);
}

static void put_time(struct buf *out, const char *label, uint64_t wall_ms)
{
    char text[40];
    uint64_t last_ms = DATETIME_MAX / 1000;
    (void)datetime_text((int64_t)(wall_ms < last_ms ? wall_ms : last_ms) * 1000, text);
    buf_printf(out, "%-13s %s\n", label, text);
}

static void put_schema(struct buf *out, const struct schema *schema)
{
    struct json_writer w;
    buf_append_str(out, "schema        ");
    json_writer_init(&w, out);
    v1_schema_write(&w, schema);
    buf_append_byte(out, '\n');
}

static void put_envelope(struct buf *out, const char *kind, const struct object *o)
{
    buf_printf(out, "%-13s %s\n", "kind", kind);
    put_hex(out, "incarnation", o->incarnation, sizeof o->incarnation);
    put_number(out, "epoch", o->epoch);
    put_hex(out, "put-id", o->put_id.bytes, sizeof o->put_id.bytes);
    put_number(out, "payload bytes", o->payload.size);
}

/* ---- the log ---- */

static void put_document(struct buf *out, const struct schema *schema,
                         const struct doc *doc)
{
    struct json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_key(&w, "id");
    v1_id_write(&w, &doc->id);
    if (doc->vector) {
        json_key(&w, "vector");
        json_put_floats(&w, doc->vector, schema->vector_dim);
    }
    json_key(&w, "attributes");
    json_begin_object(&w);
    for (uint32_t i = 0; i < schema->attr_count; i++) {
        if (doc->values[i].null) continue;
        json_key(&w, schema->attrs[i].name);
        v1_value_write(&w, &schema->attrs[i], &doc->values[i]);
    }
    json_end_object(&w);
    json_end_object(&w);
    buf_append_byte(out, '\n');
}

static void put_deletes(struct buf *out, const struct batch *batch)
{
    struct json_writer w;
    if (batch->delete_count == 0) return;
    buf_append_str(out, "deletes       ");
    json_writer_init(&w, out);
    json_begin_array(&w);
    for (size_t i = 0; i < batch->delete_count; i++)
        v1_id_write(&w, &batch->deletes[i]);
    json_end_array(&w);
    buf_append_byte(out, '\n');
}

static enum err put_batch(struct op *op, struct buf *out, struct slice bytes,
                          struct schema *schema)
{
    struct batch batch;
    struct schema *wider = NULL;
    bool same;

    enum err e = batch_decode(op, bytes, schema, &batch);
    if (e) return e;
    if (batch.schema) {
        put_schema(out, batch.schema);
        e = schema_extend(op, schema, batch.schema, &same, &wider);
    }
    if (!e) put_number(out, "documents", batch.doc_count);
    for (size_t i = 0; i < batch.doc_count && !e; i++)
        put_document(out, wider ? wider : schema, &batch.docs[i]);
    if (!e) put_deletes(out, &batch);
    schema_unref(batch.schema);
    schema_unref(wider);
    return e;
}

/* The schema now: it reads entries written under every earlier one. */
static enum err newest_schema(struct op *op, struct store *store,
                              const struct stored_key *at, struct schema **out)
{
    struct manifest *m = NULL;
    struct catalog_record record;

    enum err e = manifest_newest(op, store, &at->keys, &m);
    if (e) return e;
    if (m) {
        *out = schema_ref(m->schema);
        manifest_unref(m);
        return ERR_OK;
    }
    e = catalog_newest(op, store, at->name, &record);
    if (e) return e;
    bool ours = !record.deleted &&
                memcmp(record.incarnation, at->incarnation, INCARNATION_SIZE) == 0;
    *out = ours ? schema_ref(record.schema) : NULL;
    catalog_release(&record);
    return ours ? ERR_OK
                : op_fail(op, ERR_NOT_FOUND,
                          "the namespace was dropped, and its schema with it");
}

static enum err put_requests(struct op *op, struct store *store,
                             const struct stored_key *at, const struct wal_entry *entry,
                             struct buf *out)
{
    struct schema *schema = NULL;
    enum err e = newest_schema(op, store, at, &schema);
    for (size_t i = 0; i < entry->request_count && !e; i++) {
        const struct wal_request *r = &entry->requests[i];
        buf_printf(out, "request       %zu of %zu\n", i + 1, entry->request_count);
        if (r->idempotency_key.size)
            buf_printf(out, "idempotency   %.*s\n", (int)r->idempotency_key.size,
                       (const char *)r->idempotency_key.data);
        e = put_batch(op, out, r->batch, schema);
    }
    schema_unref(schema);
    return e;
}

static enum err dump_log_entry(struct op *op, struct store *store,
                               const struct stored_key *at, const struct object *object,
                               struct slice bytes, struct buf *out)
{
    static const char *const kinds[] = {[OBJECT_DATA] = "log entry: writes",
                                        [OBJECT_FENCE] = "log entry: a new owner",
                                        [OBJECT_DROP] = "log entry: the end"};
    struct wal_entry entry;

    enum err e = wal_entry_decode(op, &at->keys, at->number, bytes, &entry);
    if (e) return e;
    put_envelope(out, kinds[entry.kind], object);
    put_number(out, "slot", entry.slot);
    put_hex(out, "previous", entry.prev.bytes, sizeof entry.prev.bytes);
    put_time(out, "written", entry.wall_ms);
    if (entry.kind == OBJECT_DATA) return put_requests(op, store, at, &entry, out);
    buf_printf(out, "node          %.*s\nconfiguration %016" PRIx64 "\n",
               (int)entry.node_id.size, (const char *)entry.node_id.data,
               entry.fingerprint);
    return ERR_OK;
}

/* ---- manifests, catalog, side tables ---- */

static void put_segments(const struct manifest *m, struct buf *out)
{
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *s = &m->segments[i];
        buf_printf(out, "segment       %s, %" PRIu64 " bytes, %u rows", s->key, s->size,
                   s->row_count);
        if (s->dead_count)
            buf_printf(out, ", %u of them deleted (%s)", s->dead_count, s->deletes_key);
        buf_append_byte(out, '\n');
        if (s->stats) segment_stats_describe(s->stats, m->schema, out);
    }
}

static void put_manifest(const struct manifest *m, struct buf *out)
{
    static const char *const id_kinds[] = {"none yet", "numbers", "strings"};

    put_number(out, "version", m->version);
    buf_printf(out, "holder        %s\nconfiguration %016" PRIx64 "\n", m->holder_node,
               m->holder_fingerprint);
    put_number(out, "wm", m->wm);
    put_number(out, "floor", m->floor);
    put_hex(out, "anchor", m->anchor.bytes, sizeof m->anchor.bytes);
    buf_printf(out, "ids           %s\n", id_kinds[m->id_kind]);
    put_schema(out, m->schema);
    put_segments(m, out);
    for (uint32_t i = 0; i < m->fence_count; i++)
        put_number(out, "fence in slot", m->fences[i].slot);
    for (uint32_t i = 0; i < m->removed_count; i++)
        buf_printf(out, "removed       %s by version %" PRIu64 "\n", m->removed[i].key,
                   m->removed[i].version);
    if (m->idempotency_key)
        buf_printf(out, "idempotency   %s, %" PRIu64 " bytes\n", m->idempotency_key,
                   m->idempotency_size);
}

static enum err dump_manifest(struct op *op, const char *key,
                              const struct object *object, struct buf *out)
{
    struct manifest *m = NULL;
    enum err e = manifest_decode(op, key, object, &m);
    if (e) return e;
    put_envelope(out, "manifest", object);
    put_manifest(m, out);
    manifest_unref(m);
    return ERR_OK;
}

static enum err dump_catalog(struct op *op, struct store *store, const char *key,
                             const struct stored_key *at, const struct object *object,
                             struct buf *out)
{
    struct catalog_record record;
    enum err e = catalog_read(op, store, at->name, key, &record);
    if (e) return e;
    put_envelope(out,
                 record.deleted ? "catalog record: dropped" : "catalog record: created",
                 object);
    put_number(out, "number", record.n);
    buf_printf(out, "WAL prefix    %s\n",
               *record.wal_prefix ? record.wal_prefix : "none");
    if (record.schema) put_schema(out, record.schema);
    catalog_release(&record);
    return ERR_OK;
}

static enum err dump_deletes(struct op *op, const struct object *object,
                             struct buf *out)
{
    enum { PAGE = 1024 };
    struct rowset *dead = NULL;
    uint32_t rows[PAGE], from = 0;
    size_t n = PAGE;

    enum err e = rowset_decode(op, object->payload, UINT32_MAX, &dead);
    if (e) return e;
    put_envelope(out, "deleted rows of a segment", object);
    put_number(out, "rows", rowset_count(dead));
    while (n == PAGE) {
        n = rowset_read(dead, from, rows, PAGE);
        for (size_t i = 0; i < n; i++)
            buf_printf(out, "row           %u\n", rows[i]);
        if (n) from = rows[n - 1] + 1;
    }
    rowset_unref(dead);
    return ERR_OK;
}

static void put_key(void *context, const struct idempotency_entry *entry)
{
    struct buf *out = context;
    buf_printf(out,
               "key           %.*s: slot %" PRIu64 ", %" PRIu64 " upserted, %" PRIu64
               " deleted\n",
               (int)entry->key.size, (const char *)entry->key.data, entry->slot,
               entry->upserted, entry->deleted);
}

static enum err dump_idempotency(struct op *op, const struct object *object,
                                 struct buf *out)
{
    struct idempotency *table = NULL;
    enum err e = idempotency_decode(op, object->payload, &table);
    if (e) return e;
    put_envelope(out, "keys of writes that were applied", object);
    put_number(out, "keys", idempotency_count(table));
    idempotency_each(table, put_key, out);
    idempotency_free(table);
    return ERR_OK;
}

static enum err dump_enveloped(struct op *op, struct store *store, const char *key,
                               const struct stored_key *at, struct slice bytes,
                               struct buf *out)
{
    bool side = at->kind == STORED_DELETES || at->kind == STORED_IDEMPOTENCY;
    struct object object;
    uint8_t incarnation[INCARNATION_SIZE];

    memcpy(incarnation, at->incarnation, sizeof incarnation);
    if (at->kind == STORED_CATALOG_RECORD && bytes.size >= OBJECT_HEADER_SIZE)
        memcpy(incarnation, bytes.data + OBJECT_INCARNATION_OFFSET, sizeof incarnation);
    enum err e =
        object_decode(op, key, bytes, incarnation, side ? 0 : at->number, &object);
    if (e) return e;
    switch (at->kind) {
    case STORED_CATALOG_RECORD: return dump_catalog(op, store, key, at, &object, out);
    case STORED_MANIFEST: return dump_manifest(op, key, &object, out);
    case STORED_DELETES: return dump_deletes(op, &object, out);
    case STORED_IDEMPOTENCY: return dump_idempotency(op, &object, out);
    default: return dump_log_entry(op, store, at, &object, bytes, out);
    }
}

static enum err dump_segment(struct op *op, struct buf *bytes, struct buf *out)
{
    struct segment *s = NULL;
    uint64_t size = bytes->size;
    enum err e = segment_open_memory(op, bytes, &s);
    if (e) return e;
    buf_append_str(out, "kind          segment\n");
    put_number(out, "bytes", size);
    segment_describe(s, out);
    segment_unref(s);
    return ERR_OK;
}

enum err dump_object(struct op *op, struct store *store, const char *key,
                     struct buf *out)
{
    struct stored_key at;
    struct buf bytes = BUF_INIT;

    if (!stored_key_parse(key, &at))
        return op_fail(op, ERR_INVALID,
                       "%s is no key of an object of ours: expected "
                       "[prefix/]wal/NAMESPACE/INCARNATION/SLOT.wal, "
                       "ns/NAMESPACE/catalog/NUMBER or "
                       "ns/NAMESPACE/INCARNATION/{manifest,segment}/NAME",
                       key);
    bool segment = at.kind == STORED_SEGMENT;
    enum err e = store_get(op, store, key,
                           segment ? SEGMENT_BYTES_MAX : OBJECT_SIZE_MAX, &bytes);
    if (!e) {
        buf_printf(out, "key           %s\nnamespace     %s\n", key, at.name);
        e = segment ? dump_segment(op, &bytes, out)
                    : dump_enveloped(op, store, key, &at, buf_slice(&bytes), out);
    }
    buf_release(&bytes);
    return e ? op_fail(op, e, "dump %s", key) : ERR_OK;
}
