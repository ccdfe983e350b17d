/*
 * api_v1_query_cursor.h - the place where a listing goes on, as text: next_cursor.
 *
 * Hex of version (1 byte, 1), the namespace's incarnation (16), what the listing is
 * ordered by (u16: attribute + 1, 0 is the id; u8: 1 descending), "value" of the last
 * document and its id (docs/formats.md), CRC32C of all that (4). So the next page
 * begins behind that value and id whatever was written meanwhile: documents that did
 * not change come exactly once. Opaque to clients.
 */
#ifndef API_API_V1_QUERY_CURSOR_H
#define API_API_V1_QUERY_CURSOR_H

#include "base/buf.h"
#include "query/query.h"

/* The value of a cursor is at most this long, so that a query's body can hold it. */
enum { CURSOR_VALUE_MAX = 1 << 20 };

/* The cursor of result.last as text without terminator. ERR_LIMIT above
 * CURSOR_VALUE_MAX. */
enum err v1_cursor_text(struct op *op, const struct snapshot *snapshot,
                        const struct query *query, const struct query_place *place,
                        struct buf *text);
/* ERR_INVALID unless the text came from v1_cursor_text for a query in this order on
 * this namespace. *out is op's. */
enum err v1_cursor_parse(struct op *op, struct slice text,
                         const struct snapshot *snapshot, const struct query *query,
                         struct query_place *out);

#endif
