#include "api/api_v1_query_cursor.h"

#include <string.h>

#include "base/codec.h"
#include "base/op.h"

enum { CURSOR_VERSION = 1, CHECK_SIZE = 4, INCARNATION_SIZE = 16 };

/* 0 for the id, else attribute + 1. */
static uint16_t order_number(const struct query *query)
{
    bool by_attr = query->ordered && query->order_attr != FILTER_ATTR_ID;
    return by_attr ? (uint16_t)(query->order_attr + 1) : 0;
}

static enum attr_type order_type(const struct snapshot *snapshot,
                                 const struct query *query)
{
    uint16_t number = order_number(query);
    return number ? snapshot->schema->attrs[number - 1].type : ATTR_BOOL;
}

enum err v1_cursor_text(struct op *op, const struct snapshot *snapshot,
                        const struct query *query, const struct query_place *place,
                        struct buf *text)
{
    enum attr_type type = order_type(snapshot, query);
    struct buf b = BUF_INIT;

    if (type == ATTR_STRING && !place->value.null &&
        place->value.one.s.size > CURSOR_VALUE_MAX)
        return op_fail(
            op, ERR_LIMIT,
            "order_by: a value of \"%s\" has more than %d bytes, too many for "
            "a next_cursor",
            snapshot->schema->attrs[query->order_attr].name, CURSOR_VALUE_MAX);
    put_u8(&b, CURSOR_VERSION);
    buf_append(&b, snapshot->incarnation, INCARNATION_SIZE);
    put_u16(&b, order_number(query));
    put_u8(&b, query->descending);
    value_encode(type, false, &place->value, &b);
    doc_id_encode(&place->id, &b);
    put_u32(&b, crc32c(0, b.data, b.size));
    buf_reserve(text, 2 * b.size + 1);
    hex_encode(b.data, b.size, (char *)text->data + text->size);
    text->size += 2 * b.size;
    buf_release(&b);
    return ERR_OK;
}

static enum err refuse(struct op *op, const char *words)
{
    op_clear_error(op);
    return op_fail(op, ERR_INVALID, "cursor: %s", words);
}

static bool is_sound(struct slice bytes)
{
    if (bytes.size < 1 + INCARNATION_SIZE + 3 + CHECK_SIZE) return false;
    size_t size = bytes.size - CHECK_SIZE;
    return bytes.data[0] == CURSOR_VERSION &&
           load_u32(bytes.data + size) == crc32c(0, bytes.data, size);
}

enum err v1_cursor_parse(struct op *op, struct slice text,
                         const struct snapshot *snapshot, const struct query *query,
                         struct query_place *out)
{
    size_t size = text.size / 2;
    uint8_t *bytes = op_alloc(op, size + 1);
    if (!bytes) return ERR_LIMIT;
    bool sound = hex_decode(text, bytes, size) && is_sound(slice_of(bytes, size));
    if (!sound)
        return refuse(op, "not a cursor of this service: send the next_cursor of an "
                          "earlier answer unchanged");

    struct reader r = reader_of(slice_of(bytes + 1, size - 1 - CHECK_SIZE));
    if (memcmp(get_bytes(&r, INCARNATION_SIZE).data, snapshot->incarnation,
               INCARNATION_SIZE) != 0)
        return refuse(op, "it comes from another namespace");
    bool same_order = get_u16(&r) == order_number(query);
    bool same_direction = get_u8(&r) == (uint8_t)query->descending;
    if (!same_order || !same_direction)
        return refuse(op, "it comes from a query with another order_by");
    enum err e = value_decode(op, order_type(snapshot, query), false, &r, &out->value);
    if (!e) e = doc_id_decode(op, &r, &out->id);
    if (e == ERR_LIMIT) return e;
    if (e || !reader_done(&r) || out->id.kind != snapshot->id_kind)
        return refuse(op, "it does not fit this namespace");
    return ERR_OK;
}
