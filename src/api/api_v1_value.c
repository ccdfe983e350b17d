#include "api/api_v1_value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/op.h"

/* Between these norms every score (cosine, dot, squared distance) is a finite float. */
#define NORM_MIN 1e-18
#define NORM_MAX 1e18

void *v1_grow(struct op *op, void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    size_t room = *capacity ? *capacity * 2 : 8;
    void *more = op_alloc_array(op, room, size);
    if (!more) return NULL;
    if (count) memcpy(more, items, count * size);
    *capacity = room;
    return more;
}

enum err v1_items_begin(struct op *op, struct json_value *v, struct v1_items *out)
{
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    *out = (struct v1_items){.array = kind == JSON_ARRAY, .only = *v};
    return out->array ? json_array(op, v, &out->walk) : ERR_OK;
}

enum err v1_items_next(struct op *op, struct v1_items *items, bool *more,
                       struct json_value *item)
{
    if (items->array) return json_item(op, &items->walk, more, item);
    *more = !items->taken;
    items->taken = true;
    *item = items->only;
    return ERR_OK;
}

struct v1_path v1_item_path(const char *list, bool listed, size_t index)
{
    struct v1_path path;
    if (listed)
        (void)snprintf(path.text, sizeof path.text, "%s[%zu]", list, index);
    else
        (void)snprintf(path.text, sizeof path.text, "%s", list);
    return path;
}

int v1_find_attr(struct op *op, const struct schema *schema, struct slice name,
                 const char *path)
{
    int attr = schema_find(schema, name);
    if (attr < 0)
        (void)op_fail(op, ERR_INVALID, "%s: no attribute \"%.*s\" is declared", path,
                      v1_shown_size(name), (const char *)name.data);
    return attr;
}

static bool complain(struct v1_complaint *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool complain(struct v1_complaint *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return false;
}

enum err v1_literal_read(struct op *op, struct json_value *v, struct v1_literal *out)
{
    enum err e = json_kind_of(op, v, &out->kind);
    if (e) return e;
    switch (out->kind) {
    case JSON_NULL: return ERR_OK;
    case JSON_BOOL: return json_bool(op, v, &out->boolean);
    case JSON_NUMBER: return json_number_of(op, v, &out->number);
    case JSON_STRING: return json_string(op, v, &out->string);
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    return json_fail(op, v, "expected a single value, got %s",
                     json_kind_name(out->kind));
}

static bool scalar_string(const struct v1_literal *l, union scalar *out,
                          struct v1_complaint *why)
{
    if (l->string.size > STRING_SIZE_MAX)
        return complain(why, "a string has at most %d bytes, this one %zu",
                        STRING_SIZE_MAX, l->string.size);
    out->s = l->string;
    return true;
}

static bool scalar_int(const struct v1_literal *l, union scalar *out,
                       struct v1_complaint *why)
{
    if (l->number.kind == JSON_FLOATING)
        return complain(why, "expected an int, which has no fraction and no exponent");
    if (l->number.kind == JSON_UNSIGNED && l->number.u64 > INT64_MAX)
        return complain(why, "an int is from -9223372036854775808 to "
                             "9223372036854775807");
    out->i = l->number.kind == JSON_SIGNED ? l->number.i64 : (int64_t)l->number.u64;
    return true;
}

static bool scalar_uint(const struct v1_literal *l, union scalar *out,
                        struct v1_complaint *why)
{
    if (l->number.kind == JSON_FLOATING)
        return complain(why, "expected a uint, which has no fraction and no exponent");
    if (l->number.kind == JSON_SIGNED)
        return complain(why, "a uint is from 0 to 18446744073709551615");
    out->u = l->number.u64;
    return true;
}

static double number_f64(const struct json_number *n)
{
    switch (n->kind) {
    case JSON_SIGNED: return (double)n->i64;
    case JSON_UNSIGNED: return (double)n->u64;
    case JSON_FLOATING: break;
    }
    return n->f64;
}

static bool scalar_datetime(const struct v1_literal *l, union scalar *out,
                            struct v1_complaint *why)
{
    if (datetime_parse(l->string, &out->i)) return true;
    return complain(why, "expected an RFC 3339 datetime like "
                         "\"2026-11-22T10:00:00Z\"");
}

static bool scalar_uuid(const struct v1_literal *l, union scalar *out,
                        struct v1_complaint *why)
{
    if (uuid_parse(l->string, out->uuid)) return true;
    return complain(why, "expected a uuid like "
                         "\"67e55044-10b1-426f-9247-bb680e5fe0c8\"");
}

static enum json_kind json_kind_for(enum attr_type type)
{
    switch (type) {
    case ATTR_STRING:
    case ATTR_DATETIME:
    case ATTR_UUID: return JSON_STRING;
    case ATTR_INT:
    case ATTR_UINT:
    case ATTR_FLOAT: return JSON_NUMBER;
    case ATTR_BOOL: return JSON_BOOL;
    }
    return JSON_NULL;
}

bool v1_scalar(const struct v1_literal *literal, enum attr_type type, union scalar *out,
               struct v1_complaint *why)
{
    enum json_kind wanted = json_kind_for(type);
    if (literal->kind != wanted)
        return complain(why, "expected %s (%s), got %s", attr_type_name(type, false),
                        json_kind_name(wanted), json_kind_name(literal->kind));
    switch (type) {
    case ATTR_STRING: return scalar_string(literal, out, why);
    case ATTR_INT: return scalar_int(literal, out, why);
    case ATTR_UINT: return scalar_uint(literal, out, why);
    case ATTR_FLOAT: out->f = number_f64(&literal->number); return true;
    case ATTR_BOOL: out->b = literal->boolean; return true;
    case ATTR_DATETIME: return scalar_datetime(literal, out, why);
    case ATTR_UUID: return scalar_uuid(literal, out, why);
    }
    return complain(why, "unknown type");
}

bool v1_id(const struct v1_literal *literal, struct doc_id *out,
           struct v1_complaint *why)
{
    if (literal->kind == JSON_NUMBER && literal->number.kind == JSON_UNSIGNED) {
        *out = (struct doc_id){.kind = ID_U64, .u64 = literal->number.u64};
        return true;
    }
    if (literal->kind == JSON_NUMBER)
        return complain(why, "a number as id is an integer from 0 to "
                             "18446744073709551615");
    if (literal->kind != JSON_STRING)
        return complain(why, "an id is an unsigned integer or a string, not %s",
                        json_kind_name(literal->kind));
    if (literal->string.size == 0 || literal->string.size > ID_STRING_MAX)
        return complain(why, "a string as id has 1 to %d bytes, this one has %zu",
                        ID_STRING_MAX, literal->string.size);
    *out = (struct doc_id){.kind = ID_STRING, .string = literal->string};
    return true;
}

enum err v1_id_read(struct op *op, struct json_value *v, struct doc_id *out)
{
    struct v1_literal literal;
    struct v1_complaint why;
    enum err e = v1_literal_read(op, v, &literal);
    if (e) return e;
    return v1_id(&literal, out, &why) ? ERR_OK : json_fail(op, v, "%s", why.text);
}

static size_t scalar_bytes(enum attr_type type, const union scalar *s)
{
    return type == ATTR_STRING ? s->s.size : sizeof *s;
}

static enum err array_read(struct op *op, struct json_value *v, const struct attr *attr,
                           struct value *out, size_t *bytes)
{
    struct json_walk walk;
    struct json_value item;
    struct v1_literal literal;
    struct v1_complaint why;
    union scalar *items = NULL;
    size_t count = 0, capacity = 0;
    bool more;

    enum err e = json_array(op, v, &walk);
    while (!e && !(e = json_item(op, &walk, &more, &item)) && more) {
        items = v1_grow(op, items, count, &capacity, sizeof *items);
        if (!items) return ERR_LIMIT;
        e = v1_literal_read(op, &item, &literal);
        if (e) return e;
        if (!v1_scalar(&literal, attr->type, &items[count], &why))
            return json_fail(op, &item, "%s", why.text);
        *bytes += scalar_bytes(attr->type, &items[count]);
        count++;
    }
    if (e) return e;
    if (count > UINT32_MAX) return json_fail(op, v, "too many items");
    *out = (struct value){.count = (uint32_t)count, .items = items};
    return ERR_OK;
}

enum err v1_value_read(struct op *op, struct json_value *v, const struct attr *attr,
                       struct value *out, size_t *bytes)
{
    struct v1_literal literal;
    struct v1_complaint why;
    enum json_kind kind;

    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind == JSON_ARRAY && attr->array) return array_read(op, v, attr, out, bytes);
    if (kind == JSON_ARRAY || kind == JSON_OBJECT || (attr->array && kind != JSON_NULL))
        return json_fail(op, v, "expected %s, got %s",
                         attr_type_name(attr->type, attr->array), json_kind_name(kind));
    e = v1_literal_read(op, v, &literal);
    if (e) return e;
    *out = VALUE_NULL;
    if (kind == JSON_NULL) return ERR_OK;
    if (!v1_scalar(&literal, attr->type, &out->one, &why))
        return json_fail(op, v, "%s", why.text);
    out->null = false;
    *bytes += scalar_bytes(attr->type, &out->one);
    return ERR_OK;
}

/* A digit's value plus one; 0: no digit. */
static const uint8_t base64_digits[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,
    ['H'] = 8,  ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14,
    ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21,
    ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28,
    ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32, ['g'] = 33, ['h'] = 34, ['i'] = 35,
    ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40, ['o'] = 41, ['p'] = 42,
    ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49,
    ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63,
    ['/'] = 64,
};

/* Four digits into 24 bits; false if one of them is none. */
static bool base64_group(const uint8_t digits[4], uint32_t *bits)
{
    uint32_t a = base64_digits[digits[0]], b = base64_digits[digits[1]];
    uint32_t c = base64_digits[digits[2]], d = base64_digits[digits[3]];
    if (!a || !b || !c || !d) return false;
    *bits = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
    return true;
}

bool base64_decode(struct slice text, uint8_t *out, size_t size_max, size_t *size)
{
    if (text.size % 4) return false;
    size_t padding = 0;
    if (text.size && text.data[text.size - 1] == '=') padding = 1;
    if (padding && text.data[text.size - 2] == '=') padding = 2;
    *size = text.size / 4 * 3 - padding;
    if (*size > size_max) return false;

    uint32_t bits;
    size_t whole = padding ? text.size - 4 : text.size;
    for (size_t i = 0; i < whole; i += 4) {
        if (!base64_group(text.data + i, &bits)) return false;
        *out++ = (uint8_t)(bits >> 16);
        *out++ = (uint8_t)(bits >> 8);
        *out++ = (uint8_t)bits;
    }
    if (!padding) return true;

    uint8_t last[4];
    memcpy(last, text.data + whole, sizeof last);
    memset(last + 4 - padding, 'A', padding);
    if (!base64_group(last, &bits)) return false;
    /* The bits that the padding cuts off must be zero, or two texts mean the same. */
    if (bits & (padding == 2 ? 0xffff : 0xff)) return false;
    *out++ = (uint8_t)(bits >> 16);
    if (padding == 1) *out = (uint8_t)(bits >> 8);
    return true;
}

static enum err vector_base64(struct op *op, struct json_value *v, float *out,
                              size_t max, size_t *count)
{
    struct slice text;
    size_t size = 0;
    enum err e = json_string(op, v, &text);
    if (e) return e;
    if (!base64_decode(text, (uint8_t *)out, max * sizeof *out, &size)) {
        *count = max + 1;
        if (size > max * sizeof *out) return ERR_OK;
        return json_fail(op, v,
                         "a vector as a string is base64 (RFC 4648, with "
                         "padding) of little-endian 32-bit floats");
    }
    if (size % sizeof *out)
        return json_fail(op, v,
                         "%zu bytes of base64 are not a whole number of 32-bit "
                         "floats",
                         size);
    *count = size / sizeof *out;
    return ERR_OK;
}

enum err v1_vector_read(struct op *op, struct json_value *v, float *out, size_t max,
                        size_t *count)
{
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind == JSON_ARRAY) return json_floats(op, v, out, max, count);
    if (kind == JSON_STRING) return vector_base64(op, v, out, max, count);
    return json_fail(op, v, "a vector is an array of numbers or base64, not %s",
                     json_kind_name(kind));
}

/* Four sums at once, in double: neither rounding nor overflow spoils a float's square.
 */
static double squared_norm(const float *v, size_t n)
{
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] += (double)v[i + j] * (double)v[i + j];
    for (; i < n; i++)
        sum[0] += (double)v[i] * (double)v[i];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static bool complain_not_finite(const float *v, size_t n, struct v1_complaint *why)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return complain(why, "number %zu is %s", i,
                            isnan(v[i]) ? "NaN" : "infinite");
    assert(false); /* squares of finite floats have a finite sum in double */
    return false;
}

bool v1_vector_check(const float *vector, size_t count, uint32_t dim,
                     enum metric_kind metric, struct v1_complaint *why)
{
    if (dim == 0) return complain(why, "this namespace has no vectors");
    if (count > dim) return complain(why, "expected %u numbers, got more", dim);
    if (count < dim) return complain(why, "expected %u numbers, got %zu", dim, count);

    double norm = sqrt(squared_norm(vector, count));
    if (!isfinite(norm)) return complain_not_finite(vector, count, why);
    if (norm > NORM_MAX)
        return complain(why, "its length (norm) is %.3g, at most 1e18 can be scored",
                        norm);
    if (metric == METRIC_COSINE && norm == 0.0)
        return complain(why, "a zero vector has no direction, which cosine needs");
    if (metric == METRIC_COSINE && norm < NORM_MIN)
        return complain(why, "its length (norm) is %.3g, cosine needs at least 1e-18",
                        norm);
    return true;
}

enum err v1_present(struct op *op, struct json_value *v, bool *present)
{
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    *present = kind != JSON_NULL;
    return ERR_OK;
}

void v1_id_write(struct json_writer *w, const struct doc_id *id)
{
    if (id->kind == ID_U64)
        json_put_u64(w, id->u64);
    else
        json_put_string(w, id->string);
}

static void scalar_write(struct json_writer *w, enum attr_type type,
                         const union scalar *s)
{
    char text[40];
    switch (type) {
    case ATTR_STRING: json_put_string(w, s->s); break;
    case ATTR_INT: json_put_i64(w, s->i); break;
    case ATTR_UINT: json_put_u64(w, s->u); break;
    case ATTR_FLOAT: json_put_f64(w, s->f); break;
    case ATTR_BOOL: json_put_bool(w, s->b); break;
    case ATTR_DATETIME:
        (void)datetime_text(s->i, text);
        json_put_str(w, text);
        break;
    case ATTR_UUID:
        uuid_text(s->uuid, text);
        json_put_str(w, text);
        break;
    }
}

void v1_value_write(struct json_writer *w, const struct attr *attr,
                    const struct value *v)
{
    if (v->null) {
        json_put_null(w);
    } else if (!attr->array) {
        scalar_write(w, attr->type, &v->one);
    } else {
        json_begin_array(w);
        for (uint32_t i = 0; i < v->count; i++)
            scalar_write(w, attr->type, &v->items[i]);
        json_end_array(w);
    }
}
