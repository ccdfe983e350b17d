/*
 * batch.c - write requests: ids made unique, and the stored form.
 *
 * Stored form (docs/formats.md "batch"), little endian, varints as in codec.h:
 *
 *    0  u8   version, 1
 *    1  u8   flags: 1 a schema is present
 *    2  u16  0
 *    4  u32  doc_count
 *    8  u32  delete_count
 *   12  u32  attr_count: values per document
 *   16  u32  vector_dim
 *   20  u32  vector_count: documents that have a vector
 *   24  vector_count * vector_dim floats, in the order of their documents
 *       with flag 1: the schema (schema.c)
 *       doc_count documents: id (value.c), u8 1 if it has a vector or 0, attr_count
 *         values (value.c)
 *       delete_count ids
 *
 * The vectors come first, at a multiple of 8, so that a reader whose bytes are aligned
 * borrows them. attr_count may be smaller than what the schema has by the time of
 * reading: attributes are only added, and the later ones are null.
 */
#include "doc/batch.h"

#include <assert.h>

#include "base/codec.h"
#include "base/op.h"
#include "base/task.h"

enum { BATCH_VERSION = 1, FLAG_SCHEMA = 1 };

/* ---- unique ids ---- */

/*
 * The ids seen so far: open addressing over an array that others own. Clients choose
 * the ids, so the hash has a seed they do not know.
 */
struct id_set {
    const struct doc_id **slots; /* mask + 1 of them, at most half are taken */
    size_t mask;
    uint64_t seed;
};

static enum err id_set_init(struct op *op, size_t count, struct id_set *set)
{
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    set->slots = op_alloc_array(op, slots, sizeof(struct doc_id *));
    if (!set->slots) return ERR_LIMIT;
    set->mask = slots - 1;
    set->seed = random_u64();
    return ERR_OK;
}

static uint64_t id_hash(uint64_t seed, const struct doc_id *id)
{
    uint8_t bytes[1 + sizeof seed + ID_STRING_MAX];
    struct slice s = id->kind == ID_STRING ? id->string : slice_of(&id->u64, 8);

    assert(s.size <= ID_STRING_MAX);
    bytes[0] = (uint8_t)id->kind;
    memcpy(bytes + 1, &seed, sizeof seed);
    memcpy(bytes + 1 + sizeof seed, s.data, s.size);
    return xxh3_64(bytes, 1 + sizeof seed + s.size);
}

static bool id_equal(const struct doc_id *a, const struct doc_id *b)
{
    return a->kind == b->kind && doc_id_compare(a, b) == 0;
}

/* False if an equal id is in the set already; otherwise id is added, by address. */
static bool id_set_add(struct id_set *set, const struct doc_id *id)
{
    size_t slot = id_hash(set->seed, id) & set->mask;
    for (; set->slots[slot]; slot = (slot + 1) & set->mask)
        if (id_equal(set->slots[slot], id)) return false;
    set->slots[slot] = id;
    return true;
}

enum err batch_unique(struct op *op, struct batch *b)
{
    struct id_set set;
    size_t count = b->doc_count + b->delete_count;
    bool *keep = op_new_array(op, bool, count);
    bool *keep_delete = keep ? keep + b->doc_count : NULL;
    enum err e = keep ? id_set_init(op, count, &set) : ERR_LIMIT;
    if (e) return op_fail(op, e, "batch of %zu ids", count);

    /* From the back, so that the last of several is met first; documents go before
     * deletes, so that they win. Nothing moves while the set points at it. */
    for (size_t i = b->doc_count; i-- > 0;)
        keep[i] = id_set_add(&set, &b->docs[i].id);
    for (size_t i = b->delete_count; i-- > 0;)
        keep_delete[i] = id_set_add(&set, &b->deletes[i]);

    size_t kept = 0;
    for (size_t i = 0; i < b->doc_count; i++)
        if (keep[i]) b->docs[kept++] = b->docs[i];
    b->doc_count = kept;
    kept = 0;
    for (size_t i = 0; i < b->delete_count; i++)
        if (keep_delete[i]) b->deletes[kept++] = b->deletes[i];
    b->delete_count = kept;
    return ERR_OK;
}

/* ERR_CORRUPT if an id stands twice in a stored batch. */
static enum err check_unique(struct op *op, const struct batch *b)
{
    struct id_set set;
    enum err e = id_set_init(op, b->doc_count + b->delete_count, &set);
    if (e) return e;
    bool unique = true;
    for (size_t i = 0; i < b->doc_count; i++)
        unique &= id_set_add(&set, &b->docs[i].id);
    for (size_t i = 0; i < b->delete_count; i++)
        unique &= id_set_add(&set, &b->deletes[i]);
    return unique ? ERR_OK : op_fail(op, ERR_CORRUPT, "an id occurs twice");
}

/* ---- one kind of ids ---- */

static const struct doc_id *batch_id(const struct batch *b, size_t i)
{
    return i < b->doc_count ? &b->docs[i].id : &b->deletes[i - b->doc_count];
}

enum err batch_id_kind(struct op *op, const struct batch *b, enum id_kind *kind)
{
    enum id_kind first = ID_NONE;
    size_t count = b->doc_count + b->delete_count;

    for (size_t i = 0; i < count; i++) {
        const struct doc_id *id = batch_id(b, i);
        if (first == ID_NONE) first = id->kind;
        if (id->kind == first) continue;
        char text[80];
        return op_fail(op, ERR_INVALID,
                       "%s %zu has the id %s, a %s, but the ids before it are %s: one "
                       "kind of ids is allowed",
                       i < b->doc_count ? "document" : "delete",
                       i < b->doc_count ? i : i - b->doc_count, doc_id_text(id, text),
                       id->kind == ID_U64 ? "number" : "string",
                       first == ID_U64 ? "numbers" : "strings");
    }
    *kind = first;
    return ERR_OK;
}

/* ---- stored form ---- */

static void put_values(const struct doc *d, const struct schema *schema,
                       struct buf *out)
{
    for (uint32_t i = 0; i < schema->attr_count; i++)
        value_encode(schema->attrs[i].type, schema->attrs[i].array, &d->values[i], out);
}

void batch_encode(const struct batch *b, const struct schema *schema, struct buf *out)
{
    uint32_t vector_count = 0;
    for (size_t i = 0; i < b->doc_count; i++)
        vector_count += b->docs[i].vector != NULL;

    assert(b->doc_count <= UINT32_MAX && b->delete_count <= UINT32_MAX);
    assert(vector_count == 0 || schema->vector_dim > 0);
    put_u8(out, BATCH_VERSION);
    put_u8(out, b->schema ? FLAG_SCHEMA : 0);
    put_u16(out, 0);
    put_u32(out, (uint32_t)b->doc_count);
    put_u32(out, (uint32_t)b->delete_count);
    put_u32(out, schema->attr_count);
    put_u32(out, schema->vector_dim);
    put_u32(out, vector_count);
    for (size_t i = 0; i < b->doc_count; i++)
        if (b->docs[i].vector)
            buf_append(out, b->docs[i].vector, schema->vector_dim * sizeof(float));
    if (b->schema) schema_encode(b->schema, out);
    for (size_t i = 0; i < b->doc_count; i++) {
        doc_id_encode(&b->docs[i].id, out);
        put_u8(out, b->docs[i].vector != NULL);
        put_values(&b->docs[i], schema, out);
    }
    for (size_t i = 0; i < b->delete_count; i++)
        doc_id_encode(&b->deletes[i], out);
}

struct batch_head {
    uint8_t flags;
    uint32_t doc_count, delete_count, attr_count, vector_dim, vector_count;
};

/* A document takes three bytes at least and a delete two, so a head that passes bounds
 * what is allocated by the size of the bytes. */
static enum err get_head(struct op *op, struct reader *r, struct batch_head *head)
{
    if (get_u8(r) != BATCH_VERSION)
        return op_fail(op, ERR_CORRUPT, "not a batch of version %d", BATCH_VERSION);
    head->flags = get_u8(r);
    uint16_t zero = get_u16(r);
    head->doc_count = get_u32(r);
    head->delete_count = get_u32(r);
    head->attr_count = get_u32(r);
    head->vector_dim = get_u32(r);
    head->vector_count = get_u32(r);

    uint64_t size_min =
        3 * (uint64_t)head->doc_count + 2 * (uint64_t)head->delete_count;
    if (r->failed || (head->flags & ~FLAG_SCHEMA) || zero ||
        size_min > reader_left(r) || head->vector_count > head->doc_count)
        return op_fail(op, ERR_CORRUPT, "damaged head");
    return ERR_OK;
}

static bool floats_are_finite(const float *v, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t exponent = load_u32(v + i) & 0x7f800000u;
        bad |= exponent == 0x7f800000u;
    }
    return !bad;
}

/* The batch's vectors one after the other: borrowed where floats may lie, or copied. */
static enum err get_vectors(struct op *op, struct reader *r,
                            const struct batch_head *head, const float **out)
{
    size_t count = (size_t)head->vector_count * head->vector_dim;
    struct slice bytes = get_bytes(r, count * sizeof(float));

    *out = NULL;
    if (r->failed) return op_fail(op, ERR_CORRUPT, "vectors are cut off");
    if (count == 0) return ERR_OK;
    const void *floats = bytes.data;
    if ((uintptr_t)floats % _Alignof(float) != 0) floats = op_copy(op, bytes).data;
    if (!floats) return ERR_LIMIT;
    if (!floats_are_finite(floats, count))
        return op_fail(op, ERR_CORRUPT, "a vector holds what is not a number");
    *out = floats;
    return ERR_OK;
}

/* The schema that the values follow: what the namespace has, widened by the batch. */
static enum err get_schema(struct op *op, struct reader *r,
                           const struct batch_head *head, struct schema *schema,
                           struct schema **own, struct schema **wide)
{
    if (!(head->flags & FLAG_SCHEMA)) {
        *wide = schema_ref(schema);
        return ERR_OK;
    }
    bool same;
    enum err e = schema_decode(op, r, own);
    if (!e) e = schema_extend(op, schema, *own, &same, wide);
    if (e == ERR_CONFLICT || e == ERR_INVALID) e = ERR_CORRUPT;
    return e;
}

static enum err get_doc(struct op *op, struct reader *r, const struct batch_head *head,
                        const struct schema *wide, struct doc *doc, bool *has_vector)
{
    enum err e = doc_id_decode(op, r, &doc->id);
    if (e) return e;
    uint8_t byte = get_u8(r);
    if (byte > 1) return op_fail(op, ERR_CORRUPT, "damaged document");
    *has_vector = byte == 1;

    struct value *values = op_new_array(op, struct value, wide->attr_count);
    if (!values) return ERR_LIMIT;
    for (uint32_t i = 0; i < wide->attr_count; i++) {
        values[i] = VALUE_NULL;
        if (i >= head->attr_count) continue;
        const struct attr *a = &wide->attrs[i];
        e = value_decode(op, a->type, a->array, r, &values[i]);
        if (e) return op_fail(op, e, "attribute \"%s\"", a->name);
    }
    doc->values = values;
    return ERR_OK;
}

static enum err get_docs(struct op *op, struct reader *r, const struct batch_head *head,
                         const struct schema *wide, const float *vectors,
                         struct batch *out)
{
    size_t used = 0;
    for (size_t i = 0; i < out->doc_count; i++) {
        bool has_vector = false;
        enum err e = get_doc(op, r, head, wide, &out->docs[i], &has_vector);
        if (e) return op_fail(op, e, "document %zu", i);
        if (!has_vector) continue;
        if (used == head->vector_count)
            return op_fail(op, ERR_CORRUPT,
                           "more documents with a vector than vectors");
        out->docs[i].vector = vectors + used++ * head->vector_dim;
    }
    if (used != head->vector_count)
        return op_fail(op, ERR_CORRUPT, "more vectors than documents with one");
    return ERR_OK;
}

/* What every batch keeps: one kind of ids, and each id once. */
static enum err check_ids(struct op *op, const struct batch *b)
{
    enum id_kind kind;
    if (batch_id_kind(op, b, &kind)) return ERR_CORRUPT;
    return check_unique(op, b);
}

static enum err decode(struct op *op, struct reader *r, struct schema *schema,
                       struct batch *b, struct schema **wide)
{
    struct batch_head head = {.flags = 0};
    const float *vectors;

    enum err e = get_head(op, r, &head);
    if (e) return e;
    e = get_vectors(op, r, &head, &vectors);
    if (e) return e;
    e = get_schema(op, r, &head, schema, &b->schema, wide);
    if (e) return e;
    if (head.attr_count > (*wide)->attr_count ||
        (head.vector_count > 0 && head.vector_dim != (*wide)->vector_dim))
        return op_fail(op, ERR_CORRUPT, "%u attributes and %u dimensions do not fit",
                       head.attr_count, head.vector_dim);

    b->docs = op_new_array(op, struct doc, head.doc_count);
    b->deletes = op_new_array(op, struct doc_id, head.delete_count);
    if (!b->docs || !b->deletes) return ERR_LIMIT;
    b->doc_count = head.doc_count;
    b->delete_count = head.delete_count;
    e = get_docs(op, r, &head, *wide, vectors, b);
    if (e) return e;
    for (size_t i = 0; i < b->delete_count; i++) {
        e = doc_id_decode(op, r, &b->deletes[i]);
        if (e) return op_fail(op, e, "delete %zu", i);
    }
    if (!reader_done(r)) return op_fail(op, ERR_CORRUPT, "bytes behind the last id");
    return check_ids(op, b);
}

enum err batch_decode(struct op *op, struct slice bytes, struct schema *schema,
                      struct batch *out)
{
    struct reader r = reader_of(bytes);
    struct batch b = {.docs = NULL};
    struct schema *wide = NULL;

    enum err e = decode(op, &r, schema, &b, &wide);
    schema_unref(wide);
    if (e) {
        schema_unref(b.schema);
        return op_fail(op, e, "batch");
    }
    *out = b;
    return ERR_OK;
}
