#include "api/api_route.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/op.h"
#include "base/utf8.h"

/* The part of a path up to the next slash or the end. */
static struct slice part_at(const char *path)
{
    return slice_of(path, strcspn(path, "/"));
}

bool route_match(const char *pattern, const char *path,
                 struct slice parts[ROUTE_PARTS_MAX])
{
    size_t taken = 0;
    for (size_t i = 0; i < ROUTE_PARTS_MAX; i++)
        parts[i] = SLICE_EMPTY;
    while (*pattern == '/' && *path == '/') {
        struct slice want = part_at(++pattern);
        struct slice have = part_at(++path);
        if (slice_equal(want, SLICE_LITERAL("{}"))) {
            assert(taken < ROUTE_PARTS_MAX);
            parts[taken++] = have;
        } else if (!slice_equal(want, have)) {
            return false;
        }
        pattern += want.size;
        path += have.size;
    }
    return *pattern == '\0' && *path == '\0';
}

static bool is_utf8(struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        size_t step = utf8_step(text.data + i, text.size - i);
        if (step == 0) return false;
        i += step;
    }
    return true;
}

enum err route_decode(struct op *op, struct slice text, struct slice *out)
{
    uint8_t *bytes = op_alloc(op, text.size + 1);
    if (!bytes) return ERR_LIMIT;

    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '%') {
            bytes[size++] = text.data[i];
            continue;
        }
        int high = text.size - i > 2 ? hex_digit(text.data[i + 1]) : -1;
        int low = text.size - i > 2 ? hex_digit(text.data[i + 2]) : -1;
        if (high < 0 || low < 0)
            return op_fail(op, ERR_INVALID, "%% must be followed by two hex digits");
        bytes[size++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    struct slice decoded = slice_of(bytes, size);
    if (!is_utf8(decoded)) return op_fail(op, ERR_INVALID, "this is not UTF-8");
    *out = decoded;
    return ERR_OK;
}

static enum err unknown_param(struct op *op, struct slice name,
                              const char *const *names, size_t count)
{
    if (count == 0)
        return op_fail(op, ERR_INVALID,
                       "query parameter \"%.*s\": none is allowed here", (int)name.size,
                       (const char *)name.data);
    struct buf allowed = BUF_INIT;
    for (size_t i = 0; i < count; i++)
        buf_printf(&allowed, "%s%s", i ? ", " : "", names[i]);
    enum err e = op_fail(op, ERR_INVALID, "query parameter \"%.*s\": allowed are %.*s",
                         (int)name.size, (const char *)name.data, (int)allowed.size,
                         (const char *)allowed.data);
    buf_release(&allowed);
    return e;
}

static enum err one_param(struct op *op, struct slice param, const char *const *names,
                          size_t count, struct slice *values)
{
    const uint8_t *equals = memchr(param.data, '=', param.size);
    size_t name_size = equals ? (size_t)(equals - param.data) : param.size;
    struct slice raw =
        equals ? slice_of(equals + 1, param.size - name_size - 1) : slice_of("", 0);
    struct slice name = SLICE_EMPTY;
    enum err e = route_decode(op, slice_of(param.data, name_size), &name);
    if (e) return op_fail(op, e, "query string");

    for (size_t i = 0; i < count; i++) {
        if (!slice_equal(name, slice_str(names[i]))) continue;
        if (values[i].data)
            return op_fail(op, ERR_INVALID, "query parameter \"%s\" is given twice",
                           names[i]);
        e = route_decode(op, raw, &values[i]);
        return e ? op_fail(op, e, "query parameter \"%s\"", names[i]) : ERR_OK;
    }
    return unknown_param(op, name, names, count);
}

enum err route_params(struct op *op, const char *query_string, const char *const *names,
                      size_t count, struct slice *values)
{
    for (size_t i = 0; i < count; i++)
        values[i] = SLICE_EMPTY;
    const char *at = query_string;
    while (*at) {
        size_t size = strcspn(at, "&");
        enum err e =
            size ? one_param(op, slice_of(at, size), names, count, values) : ERR_OK;
        if (e) return e;
        at += size;
        if (*at == '&') at++;
    }
    return ERR_OK;
}

bool route_u64(struct slice text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 20) return false;
    if (text.size > 1 && text.data[0] == '0') return false;
    for (size_t i = 0; i < text.size; i++) {
        uint64_t digit = (uint64_t)(text.data[i] - '0');
        if (text.data[i] < '0' || digit > 9) return false;
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}
