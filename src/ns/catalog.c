#include "ns/catalog.h"

#include "base/codec.h"
#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/object.h"

enum { VERSION = 2, VERSION_NAMELESS = 1, RECORD_SIZE_MAX = 16 << 20 };

void catalog_release(struct catalog_record *record)
{
    schema_unref(record->schema);
    record->schema = NULL;
}

/* Records of version 1 do not say whose they are. */
static enum err check_name(struct op *op, struct reader *r, uint8_t version,
                           const char *name, const char *key)
{
    if (version == VERSION_NAMELESS) return ERR_OK;
    if (slice_equal(get_sized(r), slice_str(name))) return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "catalog record %s is another namespace's", key);
}

static enum err decode(struct op *op, const char *name, const char *key,
                       const struct object *o, struct catalog_record *record)
{
    struct reader r = reader_of(o->payload);
    struct schema *schema = NULL;

    uint8_t version = get_u8(&r);
    uint8_t deleted = get_u8(&r);
    enum err e = check_name(op, &r, version, name, key);
    if (e) return e;
    struct slice prefix = get_sized(&r);
    (void)get_sized(&r); /* node id */
    uint64_t wall_ms = get_u64(&r);
    bool known = version == VERSION || version == VERSION_NAMELESS;
    if (r.failed || !known || deleted > 1 || prefix.size > WAL_PREFIX_MAX)
        return op_fail(op, ERR_CORRUPT, "catalog record %s cannot be read", key);
    if (!deleted) {
        e = schema_decode(op, &r, &schema);
        if (e) return op_fail(op, e, "catalog record %s", key);
    }
    if (!reader_done(&r)) {
        schema_unref(schema);
        return op_fail(op, ERR_CORRUPT, "catalog record %s has bytes to spare", key);
    }
    record->n = o->number;
    record->deleted = deleted;
    record->wall_ms = wall_ms;
    memcpy(record->incarnation, o->incarnation, INCARNATION_SIZE);
    record->wal_prefix = (const char *)op_copy(op, prefix).data;
    if (!record->wal_prefix) {
        schema_unref(schema);
        return ERR_LIMIT;
    }
    record->schema = schema;
    return ERR_OK;
}

enum err catalog_decode(struct op *op, const char *name, const char *key,
                        struct slice bytes, struct catalog_record *out)
{
    struct object object;
    uint8_t incarnation[INCARNATION_SIZE] = {0};
    uint64_t number;

    if (!key_catalog_number(name, key, &number))
        return op_fail(op, ERR_CORRUPT, "%s is no name of a catalog record", key);
    /* The incarnation is what we came to learn: take it from the object itself. */
    if (bytes.size >= OBJECT_HEADER_SIZE)
        memcpy(incarnation, bytes.data + OBJECT_INCARNATION_OFFSET, sizeof incarnation);
    enum err e = object_decode(op, key, bytes, incarnation, number, &object);
    if (!e && object.kind != OBJECT_CATALOG)
        e = op_fail(op, ERR_CORRUPT, "object %s is not a catalog record", key);
    return e ? e : decode(op, name, key, &object, out);
}

void catalog_encode(const char *name, const struct catalog_record *record,
                    const struct schema *schema, const char *node_id,
                    struct put_id put_id, struct buf *out)
{
    struct buf payload = BUF_INIT;

    put_u8(&payload, VERSION);
    put_u8(&payload, schema ? 0 : 1);
    put_sized(&payload, slice_str(name));
    put_sized(&payload, slice_str(record->wal_prefix));
    put_sized(&payload, slice_str(node_id));
    put_u64(&payload, record->wall_ms);
    if (schema) schema_encode(schema, &payload);

    struct object object = {.kind = OBJECT_CATALOG,
                            .number = record->n,
                            .put_id = put_id,
                            .payload = buf_slice(&payload)};
    memcpy(object.incarnation, record->incarnation, INCARNATION_SIZE);
    object_encode(&object, out);
    buf_release(&payload);
}

enum err catalog_read(struct op *op, struct store *store, const char *name,
                      const char *key, struct catalog_record *out)
{
    struct buf bytes = BUF_INIT;
    enum err e = store_get(op, store, key, RECORD_SIZE_MAX, &bytes);
    if (!e) e = catalog_decode(op, name, key, buf_slice(&bytes), out);
    buf_release(&bytes);
    return e;
}

enum err catalog_newest(struct op *op, struct store *store, const char *name,
                        struct catalog_record *out)
{
    struct key dir = key_catalog_dir(name);
    const char *newest = NULL;
    size_t n = 1;

    enum err e = store_list(op, store, dir.text, "", 0, &newest, &n);
    if (!e && n == 0)
        return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", name);
    if (!e) e = catalog_read(op, store, name, newest, out);
    return e ? op_fail(op, e, "look up namespace %s", name) : ERR_OK;
}

enum err catalog_is_current(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], uint64_t *next,
                            bool *current)
{
    struct key dir = key_catalog_dir(name);
    struct catalog_record record;
    const char *newest = NULL;
    size_t n = 1;
    uint64_t number;

    *current = false;
    enum err e = store_list(op, store, dir.text, "", 0, &newest, &n);
    if (e || n == 0) return e;
    *current = key_catalog_number(name, newest, &number) && number + 1 == *next;
    if (*current) return ERR_OK;

    e = catalog_read(op, store, name, newest, &record);
    if (e) return op_fail(op, e, "look up namespace %s", name);
    *current = !record.deleted &&
               memcmp(record.incarnation, incarnation, INCARNATION_SIZE) == 0;
    *next = *current ? record.n + 1 : 0;
    catalog_release(&record);
    return ERR_OK;
}

enum err catalog_help_drop(struct op *op, struct store *store, const struct keys *keys,
                           const char *wal_prefix, const char *node_id)
{
    enum settled outcome;
    uint64_t next = 0;
    bool current;

    enum err e =
        catalog_is_current(op, store, keys->name, keys->incarnation, &next, &current);
    if (!e && current)
        e = catalog_append(op, store, keys->name, next, keys->incarnation, wal_prefix,
                           node_id, NULL, &outcome);
    if (e)
        log_warn(op, "the catalog does not know of the drop yet",
                 "namespace=%s error=%s", keys->name, op->error);
    return e;
}

enum err catalog_is_deleted(struct op *op, struct store *store, const char *name,
                            const uint8_t incarnation[INCARNATION_SIZE], bool *deleted,
                            uint64_t *wall_ms)
{
    enum { PAGE = 64 };
    struct key dir = key_catalog_dir(name);
    const char *after = "";

    *deleted = false;
    for (size_t n = PAGE; n == PAGE;) {
        const char *page[PAGE];
        enum err e = store_list(op, store, dir.text, after, 0, page, &n);
        for (size_t i = 0; !e && i < n; i++) {
            struct catalog_record record;
            e = catalog_read(op, store, name, page[i], &record);
            if (e) break;
            bool same = memcmp(record.incarnation, incarnation, INCARNATION_SIZE) == 0;
            *deleted = same && record.deleted;
            *wall_ms = record.wall_ms;
            catalog_release(&record);
            if (same) return ERR_OK; /* its newest record decides */
        }
        if (e) return op_fail(op, e, "look up namespace %s", name);
        if (n) after = page[n - 1];
    }
    return ERR_OK;
}

enum err catalog_append(struct op *op, struct store *store, const char *name,
                        uint64_t n, const uint8_t incarnation[INCARNATION_SIZE],
                        const char *wal_prefix, const char *node_id,
                        const struct schema *schema, enum settled *outcome)
{
    struct catalog_record record = {.n = n,
                                    .wal_prefix = wal_prefix,
                                    .wall_ms = (uint64_t)clock_wall_ms()};
    struct key key = key_catalog(name, n);
    struct buf bytes = BUF_INIT;

    memcpy(record.incarnation, incarnation, INCARNATION_SIZE);
    catalog_encode(name, &record, schema, node_id, put_id_new(), &bytes);
    struct settle settle = {.key = key.text, .bytes = buf_slice(&bytes)};
    enum err e = settle_create(op, store, &settle, outcome, NULL);
    buf_release(&bytes);
    return e ? op_fail(op, e, "record namespace %s", name) : ERR_OK;
}
