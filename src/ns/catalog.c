#include "ns/catalog.h"

#include "base/codec.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/object.h"

enum { VERSION = 1, RECORD_SIZE_MAX = 16 << 20 };

void catalog_release(struct catalog_record *record)
{
    schema_unref(record->schema);
    record->schema = NULL;
}

static enum err decode(struct op *op, const char *key, const struct object *o,
                       struct catalog_record *record)
{
    struct reader r = reader_of(o->payload);
    struct schema *schema = NULL;

    uint8_t version = get_u8(&r);
    uint8_t deleted = get_u8(&r);
    struct slice prefix = get_sized(&r);
    (void)get_sized(&r); /* node id */
    (void)get_u64(&r);   /* when */
    if (r.failed || version != VERSION || deleted > 1 || prefix.size > WAL_PREFIX_MAX)
        return op_fail(op, ERR_CORRUPT, "catalog record %s cannot be read", key);
    if (!deleted) {
        enum err e = schema_decode(op, &r, &schema);
        if (e) return op_fail(op, e, "catalog record %s", key);
    }
    if (!reader_done(&r)) {
        schema_unref(schema);
        return op_fail(op, ERR_CORRUPT, "catalog record %s has bytes to spare", key);
    }
    record->n = o->number;
    record->deleted = deleted;
    memcpy(record->incarnation, o->incarnation, INCARNATION_SIZE);
    record->wal_prefix = (const char *)op_copy(op, prefix).data;
    record->schema = schema;
    return ERR_OK;
}

enum err catalog_newest(struct op *op, struct store *store, const char *name,
                        struct catalog_record *out)
{
    struct key dir = key_catalog_dir(name);
    const char *newest = NULL;
    size_t n = 1;
    uint64_t number;
    struct buf bytes = BUF_INIT;
    struct object object;
    uint8_t incarnation[INCARNATION_SIZE] = {0};

    enum err e = store_list(op, store, dir.text, "", 0, &newest, &n);
    if (e) return op_fail(op, e, "look up namespace %s", name);
    if (n == 0) return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", name);
    if (!key_catalog_number(name, newest, &number))
        return op_fail(op, ERR_CORRUPT, "%s is no name of a catalog record", newest);

    e = store_get(op, store, newest, RECORD_SIZE_MAX, &bytes);
    if (e) goto done;
    /* The incarnation is what we came to learn: take it from the object itself. */
    if (bytes.size >= OBJECT_HEADER_SIZE)
        memcpy(incarnation, bytes.data + 16, sizeof incarnation);
    e = object_decode(op, newest, buf_slice(&bytes), incarnation, number, &object);
    if (!e && object.kind != OBJECT_CATALOG)
        e = op_fail(op, ERR_CORRUPT, "object %s is not a catalog record", newest);
    if (!e) e = decode(op, newest, &object, out);
done:
    buf_release(&bytes);
    return e ? op_fail(op, e, "look up namespace %s", name) : ERR_OK;
}

enum err catalog_append(struct op *op, struct store *store, const char *name,
                        uint64_t n, const uint8_t incarnation[INCARNATION_SIZE],
                        const char *wal_prefix, const char *node_id,
                        const struct schema *schema, enum settled *outcome)
{
    struct key key = key_catalog(name, n);
    struct buf payload = BUF_INIT, bytes = BUF_INIT;

    put_u8(&payload, VERSION);
    put_u8(&payload, schema ? 0 : 1);
    put_sized(&payload, slice_str(wal_prefix));
    put_sized(&payload, slice_str(node_id));
    put_u64(&payload, (uint64_t)clock_wall_ms());
    if (schema) schema_encode(schema, &payload);

    struct object object = {.kind = OBJECT_CATALOG,
                            .number = n,
                            .put_id = put_id_new(),
                            .payload = buf_slice(&payload)};
    memcpy(object.incarnation, incarnation, INCARNATION_SIZE);
    object_encode(&object, &bytes);

    struct settle settle = {.key = key.text, .bytes = buf_slice(&bytes)};
    enum err e = settle_create(op, store, &settle, outcome, NULL);
    buf_release(&payload);
    buf_release(&bytes);
    return e ? op_fail(op, e, "record namespace %s", name) : ERR_OK;
}
