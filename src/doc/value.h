/*
 * value.h - document ids and attribute values.
 *
 * An attribute has one type, known from the schema, so a value carries none: it is null
 * or holds one scalar or, for an array attribute, count scalars. Values are plain
 * structs; the bytes of strings and arrays are borrowed, usually from an op's arena.
 *
 *   string    UTF-8, up to 8 MiB          int/uint  64 bits
 *   float     finite double                bool
 *   datetime  microseconds since 1970-01-01T00:00:00Z, years 0000 to 9999 (RFC 3339)
 *   uuid      16 bytes, in the order they are written (RFC 9562)
 */
#ifndef DOC_VALUE_H
#define DOC_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct reader;

enum attr_type {
    ATTR_STRING = 1,
    ATTR_INT,
    ATTR_UINT,
    ATTR_FLOAT,
    ATTR_BOOL,
    ATTR_DATETIME,
    ATTR_UUID
};

union scalar {
    int64_t i; /* int, datetime */
    uint64_t u;
    double f;
    bool b;
    struct slice s;
    uint8_t uuid[16];
};

struct value {
    bool null;
    uint32_t count;            /* arrays: number of items, 0 is an empty array */
    union scalar one;          /* scalar attributes */
    const union scalar *items; /* array attributes */
};
#define VALUE_NULL ((struct value){.null = true})

/* The first and the last microsecond of the years 0000 to 9999. */
#define DATETIME_MIN (-62167219200000000LL)
#define DATETIME_MAX 253402300799999999LL

enum { ID_STRING_MAX = 64, STRING_SIZE_MAX = 8 << 20 };

/* A namespace's ids are of one kind, fixed by its first write. */
enum id_kind { ID_NONE = 0, ID_U64 = 1, ID_STRING = 2 };

struct doc_id {
    enum id_kind kind;
    uint64_t u64;
    struct slice string; /* 1 to ID_STRING_MAX bytes of UTF-8 */
};

/* Numbers by value, strings by bytes: <0, 0, >0. Ids of one kind only (asserted). */
int doc_id_compare(const struct doc_id *a, const struct doc_id *b);
/* "42" or "\"abc\"", for messages; a static buffer is never used: out has 80 bytes. */
const char *doc_id_text(const struct doc_id *id, char out[80]);

/* Total order of scalars of one type (floats by value, -0 equals 0). */
int scalar_compare(enum attr_type type, const union scalar *a, const union scalar *b);

/* RFC 3339 (with any offset, up to 9 digits of fraction, cut to 6); false if it is not.
 */
bool datetime_parse(struct slice text, int64_t *microseconds);
/* "2026-11-22T10:00:00Z", with a fraction only where there is one; out has 40 bytes. */
size_t datetime_text(int64_t microseconds, char out[40]);
bool uuid_parse(struct slice text, uint8_t uuid[16]); /* 8-4-4-4-12 hex digits */
void uuid_text(const uint8_t uuid[16], char out[37]);

/* Stored form: docs/formats.md "value". Decoding borrows strings from the reader's
 * bytes and takes arrays from op's arena. ERR_CORRUPT. */
void value_encode(enum attr_type type, bool array, const struct value *v,
                  struct buf *out);
enum err value_decode(struct op *op, enum attr_type type, bool array, struct reader *r,
                      struct value *out);
void doc_id_encode(const struct doc_id *id, struct buf *out);
enum err doc_id_decode(struct op *op, struct reader *r, struct doc_id *out);

#endif
