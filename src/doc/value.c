/*
 * value.c - ids and attribute values, their text and their stored form.
 *
 * Stored form (docs/formats.md "value", "document id"); varints as in codec.h:
 *
 *   value, scalar attribute    0 for null, or 1 and the scalar
 *   value, array attribute     varint 0 for null, or 1 + count, then count scalars
 *   scalar   string            varint size, bytes
 *            int, datetime     zigzag varint
 *            uint              varint
 *            float             8 bytes, IEEE 754
 *            bool              1 byte, 0 or 1
 *            uuid              16 bytes
 *   id                         1 and varint, or 2, varint size, bytes
 *
 * These bytes carry no version of their own: whatever holds them does.
 *
 * Calendar arithmetic is days_from_civil and civil_from_days of Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms": the proleptic Gregorian calendar in
 * eras of 400 years whose years begin in March. libc's depends on locale and time zone.
 */
#include "doc/value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/op.h"
#include "doc/utf8_text.h"

/* ---- ids ---- */

int doc_id_compare(const struct doc_id *a, const struct doc_id *b)
{
    assert(a->kind == b->kind);
    if (a->kind == ID_STRING) return slice_compare(a->string, b->string);
    return (a->u64 > b->u64) - (a->u64 < b->u64);
}

const char *doc_id_text(const struct doc_id *id, char out[80])
{
    if (id->kind == ID_STRING) {
        assert(id->string.size <= ID_STRING_MAX);
        (void)snprintf(out, 80, "\"%.*s\"", (int)id->string.size,
                       (const char *)id->string.data);
    } else {
        (void)snprintf(out, 80, "%llu", (unsigned long long)id->u64);
    }
    return out;
}

void doc_id_encode(const struct doc_id *id, struct buf *out)
{
    assert(id->kind == ID_U64 || id->kind == ID_STRING);
    put_u8(out, (uint8_t)id->kind);
    if (id->kind == ID_U64)
        put_varint(out, id->u64);
    else
        put_sized(out, id->string);
}

enum err doc_id_decode(struct op *op, struct reader *r, struct doc_id *out)
{
    struct doc_id id = {.kind = ID_NONE};

    switch (get_u8(r)) {
    case ID_U64:
        id.kind = ID_U64;
        id.u64 = get_varint(r);
        break;
    case ID_STRING:
        id.kind = ID_STRING;
        id.string = get_sized(r);
        if (id.string.size == 0 || id.string.size > ID_STRING_MAX ||
            !utf8_text_valid(id.string))
            r->failed = true;
        break;
    default: r->failed = true;
    }
    if (r->failed) return op_fail(op, ERR_CORRUPT, "damaged document id");
    *out = id;
    return ERR_OK;
}

/* ---- order ---- */

int scalar_compare(enum attr_type type, const union scalar *a, const union scalar *b)
{
    switch (type) {
    case ATTR_STRING: return slice_compare(a->s, b->s);
    case ATTR_INT:
    case ATTR_DATETIME: return (a->i > b->i) - (a->i < b->i);
    case ATTR_UINT: return (a->u > b->u) - (a->u < b->u);
    case ATTR_FLOAT: return (a->f > b->f) - (a->f < b->f);
    case ATTR_BOOL: return a->b - b->b;
    case ATTR_UUID: return memcmp(a->uuid, b->uuid, sizeof a->uuid);
    }
    assert(!"a scalar has one of the seven types");
    return 0;
}

/* ---- datetime ---- */

enum { SECONDS_PER_DAY = 86400, MICROSECONDS = 1000000 };

struct civil {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
};

/* Days since 1970-01-01. */
static int64_t days_from_civil(struct civil c)
{
    int64_t year = c.month <= 2 ? c.year - 1 : c.year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t month_from_march = (c.month + 9) % 12;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + c.day - 1;
    int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static struct civil civil_from_days(int64_t days)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) /
        365;
    int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    struct civil c = {
        .year = year_of_era + era * 400,
        .month =
            (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9),
        .day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1),
    };
    if (c.month <= 2) c.year++;
    return c;
}

static bool civil_exists(struct civil c)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c.month < 1 || c.month > 12) return false;
    bool leap = c.year % 4 == 0 && (c.year % 100 != 0 || c.year % 400 == 0);
    int last = days[c.month - 1] + (c.month == 2 && leap);
    return c.day >= 1 && c.day <= last;
}

/* Exactly count digits as a number; a failure sticks in r. */
static int get_digits(struct reader *r, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        uint8_t c = get_u8(r);
        if (c < '0' || c > '9') r->failed = true;
        n = n * 10 + (c - '0');
    }
    return r->failed ? 0 : n;
}

static void get_one_of(struct reader *r, const char *allowed)
{
    uint8_t c = get_u8(r);
    if (c == 0 || !strchr(allowed, c)) r->failed = true;
}

/* "", or a point and 1 to 9 digits, of which the first 6 count. */
static int64_t get_fraction(struct reader *r)
{
    if (reader_left(r) == 0 || r->data[r->offset] != '.') return 0;
    (void)get_u8(r);

    int64_t microseconds = 0;
    int digits = 0;
    for (; reader_left(r) > 0; digits++) {
        uint8_t c = r->data[r->offset];
        if (c < '0' || c > '9') break;
        (void)get_u8(r);
        if (digits < 6) microseconds = microseconds * 10 + (c - '0');
    }
    if (digits < 1 || digits > 9) r->failed = true;
    for (int i = digits; i < 6; i++)
        microseconds *= 10;
    return microseconds;
}

/* "Z" or "+hh:mm" or "-hh:mm", in seconds. */
static int64_t get_offset(struct reader *r)
{
    uint8_t sign = get_u8(r);
    if (sign == 'Z' || sign == 'z') return 0;
    if (sign != '+' && sign != '-') r->failed = true;
    int hour = get_digits(r, 2);
    get_one_of(r, ":");
    int minute = get_digits(r, 2);
    if (hour > 23 || minute > 59) r->failed = true;
    int seconds = (hour * 60 + minute) * 60;
    return sign == '-' ? -seconds : seconds;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Leap seconds come at the end of a month of UTC, so the next second begins one. */
static bool begins_month(int64_t seconds)
{
    int64_t days = floor_div(seconds, SECONDS_PER_DAY);
    return days * SECONDS_PER_DAY == seconds && civil_from_days(days).day == 1;
}

bool datetime_parse(struct slice text, int64_t *microseconds)
{
    struct reader r = reader_of(text);
    struct civil date;

    date.year = get_digits(&r, 4);
    get_one_of(&r, "-");
    date.month = get_digits(&r, 2);
    get_one_of(&r, "-");
    date.day = get_digits(&r, 2);
    get_one_of(&r, "Tt ");
    int hour = get_digits(&r, 2);
    get_one_of(&r, ":");
    int minute = get_digits(&r, 2);
    get_one_of(&r, ":");
    int second = get_digits(&r, 2);
    int64_t fraction = get_fraction(&r);
    int64_t offset = get_offset(&r);
    if (!reader_done(&r) || !civil_exists(date)) return false;
    if (hour > 23 || minute > 59 || second > 60) return false;

    int in_day = (hour * 60 + minute) * 60 + second;
    int64_t seconds = days_from_civil(date) * SECONDS_PER_DAY + in_day - offset;
    if (second == 60 && !begins_month(seconds)) return false;
    int64_t instant = seconds * MICROSECONDS + fraction;
    if (instant < DATETIME_MIN || instant > DATETIME_MAX) return false;
    *microseconds = instant;
    return true;
}

size_t datetime_text(int64_t microseconds, char out[40])
{
    int64_t seconds = floor_div(microseconds, MICROSECONDS);
    int64_t fraction = microseconds % MICROSECONDS;
    if (fraction < 0) fraction += MICROSECONDS;
    int64_t days = floor_div(seconds, SECONDS_PER_DAY);
    int in_day = (int)(seconds - days * SECONDS_PER_DAY);
    struct civil date = civil_from_days(days);

    int size =
        snprintf(out, 40, "%04lld-%02d-%02dT%02d:%02d:%02d", (long long)date.year,
                 date.month, date.day, in_day / 3600, in_day / 60 % 60, in_day % 60);
    if (fraction) {
        size += snprintf(out + size, 40 - (size_t)size, ".%06lld", (long long)fraction);
        while (out[size - 1] == '0')
            size--;
    }
    out[size++] = 'Z';
    out[size] = '\0';
    return (size_t)size;
}

/* ---- uuid ---- */

/* Where the five groups of digits begin in the text, and how many bytes each holds. */
static const struct {
    size_t offset, bytes;
} uuid_groups[] = {{0, 4}, {9, 2}, {14, 2}, {19, 2}, {24, 6}};

enum { UUID_GROUPS = 5, UUID_TEXT_SIZE = 36 };

bool uuid_parse(struct slice text, uint8_t uuid[16])
{
    uint8_t bytes[16];
    uint8_t *next = bytes;

    if (text.size != UUID_TEXT_SIZE) return false;
    for (size_t i = 0; i < UUID_GROUPS; i++) {
        size_t offset = uuid_groups[i].offset, size = uuid_groups[i].bytes;
        if (offset && text.data[offset - 1] != '-') return false;
        if (!hex_decode(slice_of(text.data + offset, 2 * size), next, size))
            return false;
        next += size;
    }
    memcpy(uuid, bytes, sizeof bytes);
    return true;
}

void uuid_text(const uint8_t uuid[16], char out[37])
{
    for (size_t i = 0; i < UUID_GROUPS; i++) {
        size_t offset = uuid_groups[i].offset, size = uuid_groups[i].bytes;
        if (offset) out[offset - 1] = '-';
        hex_encode(uuid, size, out + offset);
        uuid += size;
    }
}

/* ---- stored values ---- */

/* Small numbers of either sign become small unsigned ones: 0 -1 1 -2 2 ... */
static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
}

static bool datetime_in_range(int64_t microseconds)
{
    return microseconds >= DATETIME_MIN && microseconds <= DATETIME_MAX;
}

static void scalar_encode(enum attr_type type, const union scalar *v, struct buf *out)
{
    switch (type) {
    case ATTR_STRING: put_sized(out, v->s); break;
    case ATTR_DATETIME:
        assert(datetime_in_range(v->i));
        put_varint(out, zigzag(v->i));
        break;
    case ATTR_INT: put_varint(out, zigzag(v->i)); break;
    case ATTR_UINT: put_varint(out, v->u); break;
    case ATTR_FLOAT:
        assert(isfinite(v->f));
        put_f64(out, v->f);
        break;
    case ATTR_BOOL: put_u8(out, v->b); break;
    case ATTR_UUID: buf_append(out, v->uuid, sizeof v->uuid); break;
    }
}

/* Whatever is not a scalar of that type makes r fail. */
static union scalar scalar_decode(enum attr_type type, struct reader *r)
{
    union scalar v = {.u = 0};
    switch (type) {
    case ATTR_STRING:
        v.s = get_sized(r);
        if (v.s.size > STRING_SIZE_MAX || !utf8_text_valid(v.s)) r->failed = true;
        break;
    case ATTR_DATETIME:
        v.i = unzigzag(get_varint(r));
        if (!datetime_in_range(v.i)) r->failed = true;
        break;
    case ATTR_INT: v.i = unzigzag(get_varint(r)); break;
    case ATTR_UINT: v.u = get_varint(r); break;
    case ATTR_FLOAT:
        v.f = get_f64(r);
        if (!isfinite(v.f)) r->failed = true;
        break;
    case ATTR_BOOL: {
        uint8_t byte = get_u8(r);
        if (byte > 1) r->failed = true;
        v.b = byte == 1;
        break;
    }
    case ATTR_UUID: {
        struct slice bytes = get_bytes(r, sizeof v.uuid);
        if (bytes.data) memcpy(v.uuid, bytes.data, sizeof v.uuid);
        break;
    }
    }
    return v;
}

void value_encode(enum attr_type type, bool array, const struct value *v,
                  struct buf *out)
{
    if (v->null) {
        put_varint(out, 0);
        return;
    }
    if (!array) {
        put_varint(out, 1);
        scalar_encode(type, &v->one, out);
        return;
    }
    put_varint(out, (uint64_t)v->count + 1);
    for (uint32_t i = 0; i < v->count; i++)
        scalar_encode(type, &v->items[i], out);
}

enum err value_decode(struct op *op, enum attr_type type, bool array, struct reader *r,
                      struct value *out)
{
    struct value v = VALUE_NULL;
    uint64_t head = get_varint(r);

    /* An item takes a byte at least, so what is left bounds what we allocate. */
    if (head > (array ? (uint64_t)reader_left(r) + 1 : 1) || head > UINT32_MAX)
        r->failed = true;
    if (!r->failed && head > 0) {
        v.null = false;
        if (array) {
            v.count = (uint32_t)(head - 1);
            union scalar *items = op_new_array(op, union scalar, v.count);
            if (!items) return ERR_LIMIT;
            for (uint32_t i = 0; i < v.count && !r->failed; i++)
                items[i] = scalar_decode(type, r);
            v.items = items;
        } else {
            v.one = scalar_decode(type, r);
        }
    }
    if (r->failed) return op_fail(op, ERR_CORRUPT, "damaged value");
    *out = v;
    return ERR_OK;
}
