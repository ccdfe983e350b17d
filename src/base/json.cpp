/*
 * json.cpp - a cursor over the tokens that simdjson found.
 *
 * simdjson's first stage (Langdale, Lemire: Parsing Gigabytes of JSON per Second, 2019)
 * goes over the whole text with vector instructions chosen at run time: it checks the
 * UTF-8 and the quoting and lists where each token starts: { } [ ] : , and the first
 * byte of every string, number and literal. We walk that list and nothing else, so what
 * a caller does not read can be checked by the same code, and a value is just the index
 * of its token. simdjson's own On-Demand walker would sit on the same list, but it
 * checks only what is read and is compiled for the lowest instruction set.
 *
 * Levels: level 0 holds the root, level n the children of the n-th open array or
 * object. Each level remembers the value it handed out last: the path of an error is
 * read off these, and a value that its reader left in the middle is found again and
 * skipped, with all checks, from its start.
 */
#include "base/json.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <simdjson.h>

#include "base/json_write.h"
#include "base/op.h"
#include "base/utf8.h"

namespace
{

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING, "stage 1 may read that far");

using parser_ptr = std::unique_ptr<simdjson::internal::dom_parser_implementation>;

constexpr size_t text_size_max = UINT32_MAX - JSON_PADDING; /* tokens are 32 bits */
constexpr size_t capacity_min = 1 << 16;
constexpr size_t capacity_kept_max = 1 << 20; /* of a parser kept for the next text */
constexpr size_t path_size_max = 480;
constexpr size_t key_shown_max = 64;
constexpr int number_shown_max = 40;

struct level {
    struct json_value last; /* handed out last */
    size_t keys_size;       /* of json.keys when the level was opened */
};

} // namespace

struct json {
    parser_ptr parser;
    struct slice text;
    const uint32_t *tokens;
    uint32_t token_count;
    uint32_t next; /* the first token that was not read */
    uint32_t depth;
    struct level levels[JSON_DEPTH_MAX + 1];
    struct buf keys; /* names seen by json_next in the open objects: struct slices */

    ~json()
    {
        buf_release(&keys);
    }
};

namespace
{

struct spare_parser {
    struct json *json;
    ~spare_parser()
    {
        delete json;
    }
};
thread_local struct spare_parser spare;

/* ---- errors and paths ---- */

bool is_plain_name(struct slice key)
{
    if (key.size == 0 || key.size > key_shown_max) return false;
    for (size_t i = 0; i < key.size; i++) {
        uint8_t c = key.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && c != '_' && c != '-') return false;
    }
    return true;
}

/* The first size_max bytes at most, without half a character at the end. */
struct slice cut(struct slice s, size_t size_max)
{
    if (s.size <= size_max) return s;
    while (size_max > 0 && (s.data[size_max] & 0xc0) == 0x80)
        size_max--;
    return slice_of(s.data, size_max);
}

void append_step(struct buf *path, const struct json_value *v)
{
    if (!v->key.data) {
        buf_printf(path, "[%u]", v->index);
    } else if (is_plain_name(v->key)) {
        if (path->size) buf_append_byte(path, '.');
        buf_append_slice(path, v->key);
    } else {
        struct json_writer w;
        buf_append_byte(path, '[');
        json_writer_init(&w, path);
        json_put_string(&w, cut(v->key, key_shown_max));
        buf_append_byte(path, ']');
    }
}

/* Of a very long path the end is shown, where the trouble is. */
void shorten(struct buf *path)
{
    if (path->size <= path_size_max) return;
    size_t from = path->size - path_size_max;
    while ((path->data[from] & 0xc0) == 0x80)
        from++;
    path->size -= from;
    memmove(path->data, path->data + from, path->size);
    memcpy(path->data, "...", 3);
}

/* Fails with the path through `depth` levels, then v's own step if there is one. */
enum err fail(struct op *op, enum err e, const struct json *json, uint32_t depth,
              const struct json_value *v, const char *words)
{
    struct buf path = {};
    for (uint32_t i = 1; i < depth; i++)
        append_step(&path, &json->levels[i].last);
    if (v && v->depth > 0) append_step(&path, v);
    shorten(&path);
    (void)op_fail(op, e, "%.*s%s%s", static_cast<int>(path.size),
                  reinterpret_cast<const char *>(path.data), path.size ? ": " : "",
                  words);
    buf_release(&path);
    return e;
}

enum err too_deep(struct op *op, const struct json_value *v)
{
    char words[OP_ERROR_MAX];
    (void)snprintf(words, sizeof words, "more than %d levels", JSON_DEPTH_MAX);
    return fail(op, ERR_LIMIT, v->json, v->depth, v, words);
}

size_t token_offset(const struct json *json, uint32_t token)
{
    return token < json->token_count ? json->tokens[token] : json->text.size;
}

/* The byte at the next token, 0 at the end of the text. */
uint8_t peek(const struct json *json)
{
    return json->next < json->token_count ? json->text.data[json->tokens[json->next]]
                                          : 0;
}

/* The walk expected something else at the next token. */
enum err syntax(struct op *op, const struct json_walk *w, const char *expected)
{
    const struct json *json = w->json;
    if (json->next >= json->token_count)
        return json_walk_fail(op, w, "the text ends where %s is expected", expected);
    return json_walk_fail(op, w, "expected %s at byte %zu", expected,
                          token_offset(json, json->next));
}

/* ---- scalars ---- */

struct slice rest_from(const struct json *json, uint32_t token)
{
    size_t offset = token_offset(json, token);
    return slice_of(json->text.data + offset, json->text.size - offset);
}

bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* May a number or literal end in front of c? */
bool ends_scalar(uint8_t c)
{
    return is_space(c) || c == ',' || c == ']' || c == '}' || c == ':';
}

bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

size_t count_digits(struct slice s, size_t from)
{
    size_t i = from;
    while (i < s.size && is_digit(s.data[i]))
        i++;
    return i - from;
}

/* The number at the front of rest, by RFC 8259's grammar; size 0 if there is none or
 * something else sticks to it. */
struct slice scan_number(struct slice rest, bool *integer)
{
    size_t i = rest.size && rest.data[0] == '-';
    size_t whole = count_digits(rest, i);
    if (whole == 0 || (whole > 1 && rest.data[i] == '0')) return {};
    i += whole;
    *integer = true;
    if (i < rest.size && rest.data[i] == '.') {
        size_t fraction = count_digits(rest, i + 1);
        if (fraction == 0) return {};
        i += 1 + fraction;
        *integer = false;
    }
    if (i < rest.size && (rest.data[i] | 0x20) == 'e') {
        i++;
        if (i < rest.size && (rest.data[i] == '+' || rest.data[i] == '-')) i++;
        size_t exponent = count_digits(rest, i);
        if (exponent == 0) return {};
        i += exponent;
        *integer = false;
    }
    if (i < rest.size && !ends_scalar(rest.data[i])) return {};
    return slice_of(rest.data, i);
}

const char *as_chars(const uint8_t *p)
{
    return reinterpret_cast<const char *>(p);
}

float strto(const char *text, float)
{
    return strtof(text, nullptr);
}

double strto(const char *text, double)
{
    return strtod(text, nullptr);
}

/* Correctly rounded; false when it is beyond the type's range. Too small becomes 0. */
template <typename Float> bool number_value(struct slice number, Float *out)
{
    const char *first = as_chars(number.data);
    auto done = std::from_chars(first, first + number.size, *out);
    if (done.ec == std::errc()) return std::isfinite(*out);

    /* Out of range; from_chars does not say at which end. */
    struct buf text = {};
    buf_append_slice(&text, number);
    buf_append_byte(&text, 0);
    *out = strto(as_chars(text.data), Float{});
    buf_release(&text);
    return std::isfinite(*out);
}

/* A number as it stands in the text, for messages. */
struct shown {
    int size;
    const char *text;
    const char *more;
};

struct shown show(struct slice number)
{
    bool whole = number.size <= number_shown_max;
    return {whole ? static_cast<int>(number.size) : number_shown_max,
            as_chars(number.data), whole ? "" : "..."};
}

/* Stands at v again, whatever of it was read. */
void rewind_to(const struct json_value *v)
{
    struct json *json = v->json;
    assert(v->depth <= json->depth);
    assert(json->levels[v->depth].last.token == v->token);
    if (json->depth > v->depth) json->keys.size = json->levels[v->depth + 1].keys_size;
    json->depth = v->depth;
    json->next = v->token;
}

enum err expect(struct op *op, struct json_value *v, enum json_kind wanted)
{
    enum json_kind kind = JSON_NULL;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    if (kind != wanted)
        return json_fail(op, v, "expected %s, got %s", json_kind_name(wanted),
                         json_kind_name(kind));
    rewind_to(v);
    return ERR_OK;
}

enum err take_literal(struct op *op, struct json_value *v, struct slice word)
{
    struct slice rest = rest_from(v->json, v->token);
    if (!slice_starts_with(rest, word) ||
        (rest.size > word.size && !ends_scalar(rest.data[word.size])))
        return json_fail(op, v, "no JSON value at byte %zu",
                         token_offset(v->json, v->token));
    v->json->next = v->token + 1;
    return ERR_OK;
}

enum err take_number(struct op *op, struct json_value *v, struct slice *number,
                     bool *integer)
{
    enum err e = expect(op, v, JSON_NUMBER);
    if (e) return e;
    *number = scan_number(rest_from(v->json, v->token), integer);
    if (number->size == 0)
        return json_fail(op, v, "no JSON number at byte %zu",
                         token_offset(v->json, v->token));
    v->json->next = v->token + 1;
    return ERR_OK;
}

/* A number without fraction and exponent. */
enum err take_integer(struct op *op, struct json_value *v, struct slice *number)
{
    bool integer = false;
    enum err e = take_number(op, v, number, &integer);
    if (e) return e;
    if (integer) return ERR_OK;
    struct shown got = show(*number);
    return json_fail(op, v, "expected an integer, got %.*s%s", got.size, got.text,
                     got.more);
}

/* What stands between the quotes of the string at token. Stage 1 has paired them, and
 * between the closing one and the next token there is only white space. */
struct slice raw_string(const struct json *json, uint32_t token)
{
    size_t first = token_offset(json, token) + 1;
    size_t end = token_offset(json, token + 1);
    while (end > first && json->text.data[end - 1] != '"')
        end--;
    assert(end > first);
    return slice_of(json->text.data + first, end - 1 - first);
}

/* False for a bad escape: ERR_LIMIT has been said, or *e is ERR_OK and nothing has. */
bool unescape(struct op *op, const struct json *json, struct slice raw,
              struct slice *out, enum err *e)
{
    *e = ERR_OK;
    *out = raw;
    if (raw.size == 0 || !memchr(raw.data, '\\', raw.size)) return true;

    auto *text =
        static_cast<uint8_t *>(op_alloc(op, raw.size + simdjson::SIMDJSON_PADDING));
    if (!text) {
        *e = ERR_LIMIT;
        return false;
    }
    uint8_t *end = json->parser->parse_string(raw.data, text);
    if (!end) return false;
    *out = slice_of(text, static_cast<size_t>(end - text));
    return simdjson::validate_utf8(as_chars(text), out->size);
}

/* ---- walking ---- */

enum err skip(struct op *op, struct json_value *v);

/* Stands behind the value that was handed out last at depth. */
enum err leave_last(struct op *op, struct json *json, uint32_t depth)
{
    struct json_value *last = &json->levels[depth].last;
    bool read = json->depth == depth && json->next > last->token;
    return read ? ERR_OK : skip(op, last);
}

enum err open_level(struct op *op, struct json_value *v, enum json_kind kind,
                    struct json_walk *w)
{
    enum err e = expect(op, v, kind);
    if (e) return e;
    struct json *json = v->json;
    if (json->depth == JSON_DEPTH_MAX) return too_deep(op, v);
    json->depth++;
    json->next++;
    json->levels[json->depth].keys_size = json->keys.size;
    *w = {json, json->depth, 0, 0};
    return ERR_OK;
}

/* Steps over a comma to the next field or item, or over the closing bracket. */
enum err step(struct op *op, struct json_walk *w, uint8_t close, bool *more)
{
    struct json *json = w->json;
    assert(w->depth <= json->depth);
    enum err e = w->index ? leave_last(op, json, w->depth) : ERR_OK;
    if (e) return e;

    uint8_t c = peek(json);
    *more = c != close;
    if (!*more) json->depth--;
    if (*more && w->index == 0) return ERR_OK;
    if (*more && c != ',')
        return syntax(op, w, close == '}' ? "',' or '}'" : "',' or ']'");
    json->next++;
    return ERR_OK;
}

void hand_out(struct json_walk *w, struct slice key, struct json_value *value)
{
    struct json *json = w->json;
    *value = {json, key, w->index++, w->depth, json->next};
    json->levels[w->depth].last = *value;
}

/* The name and the colon of a field; the cursor then stands at its value. */
enum err take_key(struct op *op, struct json_walk *w, struct json_value *value)
{
    struct json *json = w->json;
    struct slice key;
    enum err e;
    if (peek(json) != '"') return syntax(op, w, "a field's name");
    if (!unescape(op, json, raw_string(json, json->next), &key, &e))
        return e ? e
                 : json_walk_fail(op, w, "bad escape in the field's name at byte %zu",
                                  token_offset(json, json->next));
    json->next++;
    if (peek(json) != ':') return syntax(op, w, "':'");
    json->next++;
    hand_out(w, key, value);
    return ERR_OK;
}

bool key_before(struct slice a, struct slice b)
{
    return a.size != b.size ? a.size < b.size : slice_compare(a, b) < 0;
}

/* At the end of an object: refuses a repeated name and forgets the object's names. */
enum err check_names(struct op *op, struct json_walk *w)
{
    struct json *json = w->json;
    size_t keys_size = json->levels[w->depth].keys_size;
    if (json->keys.size == keys_size) return ERR_OK;

    void *names = json->keys.data + keys_size;
    auto *first = static_cast<struct slice *>(names);
    auto *end = first + (json->keys.size - keys_size) / sizeof *first;
    std::sort(first, end, key_before);
    auto *twice = std::adjacent_find(first, end, slice_equal);
    json->keys.size = keys_size;
    if (twice == end) return ERR_OK;
    struct json_value field = {json, *twice, 0, w->depth, 0};
    return json_fail(op, &field, "the field occurs twice");
}

/* Checks a value that nobody reads, as strictly as if it were read. */
enum err skip(struct op *op, struct json_value *v)
{
    struct json_value at = *v;
    struct json_value child;
    struct json_walk walk = {};
    struct slice text;
    enum json_kind kind;
    bool more = true, truth;
    double number;

    enum err e = json_kind_of(op, &at, &kind);
    if (e) return e;
    switch (kind) {
    case JSON_NULL: rewind_to(&at); return take_literal(op, &at, slice_str("null"));
    case JSON_BOOL: return json_bool(op, &at, &truth);
    case JSON_NUMBER: return json_f64(op, &at, &number);
    case JSON_STRING: return json_string(op, &at, &text);
    case JSON_ARRAY:
        e = json_array(op, &at, &walk);
        while (!e && more)
            e = json_item(op, &walk, &more, &child);
        return e;
    case JSON_OBJECT:
        e = json_object(op, &at, &walk);
        while (!e && more)
            e = json_next(op, &walk, &more, &text, &child);
        return e;
    }
    return ERR_OK;
}

enum err unknown_field(struct op *op, const struct json_value *field,
                       const char *const *names, size_t count)
{
    struct buf allowed = {};
    for (size_t i = 0; i < count; i++)
        buf_printf(&allowed, "%s%s", i ? ", " : "", names[i]);
    enum err e = json_fail(op, field, "unknown field; allowed: %.*s",
                           static_cast<int>(allowed.size), as_chars(allowed.data));
    buf_release(&allowed);
    return e;
}

/* ---- floats ---- */

/* Are these eight bytes eight digits? Digits are 0x30 to 0x39: the high half of each is
 * 3, and stays 3 when 6 is added. */
bool eight_digits(uint64_t v)
{
    constexpr uint64_t high = 0xf0f0f0f0f0f0f0f0;
    uint64_t raised = v + 0x0606060606060606;
    return ((v & high) | (raised & high) >> 4) == 0x3333333333333333;
}

/* Their value: neighbours are joined to pairs, pairs to fours, fours to all eight. The
 * first digit is the lowest byte. */
uint64_t eight_digits_value(uint64_t v)
{
    v &= 0x0f0f0f0f0f0f0f0f;
    v = (v * 10 + (v >> 8)) & 0x00ff00ff00ff00ff;
    v = (v * 100 + (v >> 16)) & 0x0000ffff0000ffff;
    return (v * 10000 + (v >> 32)) & 0xffffffff;
}

constexpr double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr int64_t exact_power_max =
    22; /* 10^22 is the last that a double holds exactly */
constexpr ptrdiff_t fast_digits_max = 19; /* fit 64 bits */

/* digits * 10^exponent, correctly rounded, where that can be told cheaply. */
bool fast_value(uint64_t digits, int64_t exponent, float *out)
{
    if (exponent < -exact_power_max || exponent > exact_power_max) return false;

    /* Two roundings (to double, and in the quotient or product) leave the double at
     * most two steps from the exact value. So both round to the same float, unless a
     * midpoint between two floats, where the 29 bits that float lacks are 100...0, is
     * that near. No result but zero is small enough to be subnormal. */
    auto value = static_cast<double>(digits);
    if (exponent < 0)
        value /= powers_of_ten[-exponent];
    else
        value *= powers_of_ten[exponent];
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t from_midpoint = (bits & 0x1fffffff) - (0x10000000 - 4);
    if (from_midpoint <= 8 || value > 3.4e38) return false;
    *out = static_cast<float>(value);
    return true;
}

/* Adds the exponent at p, if there is one; NULL if it has no digits. */
const uint8_t *fast_exponent(const uint8_t *p, int64_t *exponent)
{
    if ((*p | 0x20) != 'e') return p;
    bool minus = p[1] == '-';
    p += p[1] == '-' || p[1] == '+' ? 2 : 1;
    if (!is_digit(*p)) return nullptr;
    int64_t power = *p++ - '0';
    if (is_digit(*p)) power = power * 10 + (*p++ - '0');
    *exponent += minus ? -power : power;
    return p;
}

/*
 * Reads the number at p if it is one of the usual kind: at most 19 digits and a small
 * exponent. Returns where it stopped, NULL for anything else, correct or not. May look
 * at the JSON_PADDING bytes behind the text, but looks no farther than that.
 */
const uint8_t *fast_number(const uint8_t *p, float *out)
{
    bool negative = *p == '-';
    p += negative;

    const uint8_t *first = p;
    uint64_t digits = 0;
    while (is_digit(*p) && p - first < fast_digits_max)
        digits = digits * 10 + static_cast<uint64_t>(*p++ - '0');
    ptrdiff_t whole = p - first;
    if (whole == 0 || (whole > 1 && *first == '0')) return nullptr;

    int64_t exponent = 0;
    if (*p == '.') {
        const uint8_t *fraction = ++p;
        ptrdiff_t room = fast_digits_max - whole;
        uint64_t eight;
        memcpy(&eight, p, sizeof eight);
        while (room >= 8 && eight_digits(eight)) {
            digits = digits * 100000000 + eight_digits_value(eight);
            p += 8;
            room -= 8;
            memcpy(&eight, p, sizeof eight);
        }
        while (is_digit(*p) && room-- > 0)
            digits = digits * 10 + static_cast<uint64_t>(*p++ - '0');
        if (p == fraction) return nullptr;
        exponent = fraction - p;
    }
    p = fast_exponent(p, &exponent);
    if (!p) return nullptr;
    if (is_digit(*p) || !fast_value(digits, exponent, out)) return nullptr;
    if (negative) *out = -*out;
    return p;
}

/* The last `count` (0 to 8) of the eight bytes before end, behind zeros as digits. */
uint64_t last_digits(const uint8_t *end, size_t count)
{
    constexpr uint64_t zeros = 0x3030303030303030;
    uint64_t v;
    memcpy(&v, end - 8, sizeof v);
    /* shifted in two halves: by 64 bits at once is undefined */
    uint64_t others = ~UINT64_C(0) >> 4 * count >> 4 * count;
    return (v & ~others) | (zeros & others);
}

constexpr uint32_t fraction_max = 24; /* bytes that fast_fraction looks at before end */

/*
 * The same for the commonest kind, 0.ddd with its end known beforehand, without a
 * branch that depends on the number's sign or length: those cannot be predicted and
 * cost more than all the rest. Only above 16 digits there is one; a client sends these
 * all the time or never. Looks at fraction_max bytes before end.
 */
bool fast_fraction(const uint8_t *p, const uint8_t *end, float *out)
{
    bool negative = *p == '-';
    p += negative;
    auto size = static_cast<size_t>(end - p - 2);
    if (p[0] != '0' || p[1] != '.' || size - 1 >= fast_digits_max) return false;

    size_t in_high = size < 8 ? size : 8;
    size_t in_low = size < 16 ? size - in_high : 8;
    uint64_t high = last_digits(end, in_high);
    uint64_t low = last_digits(end - 8, in_low);
    if (!(eight_digits(high) & eight_digits(low))) return false;
    uint64_t digits = eight_digits_value(low) * 100000000 + eight_digits_value(high);
    if (size > 16) {
        uint64_t top = last_digits(end - 16, size - 16);
        if (!eight_digits(top)) return false;
        digits += eight_digits_value(top) * 10000000000000000;
    }
    if (!fast_value(digits, -static_cast<int64_t>(size), out)) return false;
    *out = std::copysign(*out, negative ? -1.0f : 1.0f);
    return true;
}

enum err slow_float(struct op *op, struct json_value *item, float *out)
{
    enum json_kind kind = JSON_NULL;
    bool integer = false;
    enum err e = json_kind_of(op, item, &kind);
    if (e) return e;
    if (kind != JSON_NUMBER)
        return json_fail(op, item, "expected a number, got %s", json_kind_name(kind));
    struct slice number = scan_number(rest_from(item->json, item->token), &integer);
    if (number.size == 0)
        return json_fail(op, item, "no JSON number at byte %zu",
                         token_offset(item->json, item->token));
    if (number_value(number, out)) return ERR_OK;
    struct shown got = show(number);
    return json_fail(op, item, "%.*s%s is beyond the range of a 32-bit float", got.size,
                     got.text, got.more);
}

/* The item at the next token; only its path needs v. */
enum err take_float(struct op *op, const struct json_value *v, uint32_t index,
                    float *out)
{
    struct json *json = v->json;
    if (json->next + 1 < json->token_count) {
        const uint8_t *first = json->text.data + json->tokens[json->next];
        const uint8_t *following = json->text.data + json->tokens[json->next + 1];
        if (json->tokens[json->next] >= fraction_max &&
            fast_fraction(first, following, out)) {
            json->next++;
            return ERR_OK;
        }
        const uint8_t *stop = fast_number(first, out);
        if (stop == following || (stop && stop < following && is_space(*stop))) {
            json->next++;
            return ERR_OK;
        }
    }
    struct json_value item = {json, {}, index, v->depth + 1, json->next};
    enum err e = slow_float(op, &item, out);
    if (!e) json->next++;
    return e;
}

/* ---- opening ---- */

/* Where stage 1 found bytes that are not UTF-8. */
size_t bad_utf8_offset(struct slice text)
{
    size_t i = 0;
    while (i < text.size) {
        size_t size = utf8_step(text.data + i, text.size - i);
        if (size == 0) break;
        i += size;
    }
    return i;
}

/* Where a string starts that has no end, or the first bare control character stands. */
size_t bad_string_offset(struct slice text)
{
    size_t start = 0;
    bool inside = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (inside && c < 0x20) return i;
        if (inside && c == '\\' && i + 1 < text.size && text.data[i + 1] >= 0x20) i++;
        if (c != '"') continue;
        inside = !inside;
        start = i;
    }
    return start;
}

enum err stage1_fail(struct op *op, simdjson::error_code code, struct slice text)
{
    switch (code) {
    case simdjson::EMPTY: return op_fail(op, ERR_INVALID, "no JSON value: empty");
    case simdjson::UTF8_ERROR:
        return op_fail(op, ERR_INVALID, "not UTF-8 at byte %zu", bad_utf8_offset(text));
    case simdjson::UNCLOSED_STRING:
        return op_fail(op, ERR_INVALID, "the string at byte %zu has no end",
                       bad_string_offset(text));
    case simdjson::UNESCAPED_CHARS:
        return op_fail(op, ERR_INVALID,
                       "a control character in a string must be escaped, at byte %zu",
                       bad_string_offset(text));
    default:
        return op_fail(op, ERR_INVALID, "not JSON: %s", simdjson::error_message(code));
    }
}

/* Room for text; grows in powers of two so that a kept parser rarely grows again. */
void ensure_capacity(struct json *json, size_t size)
{
    if (json->parser && json->parser->capacity() >= size) return;
    size_t capacity = capacity_min;
    while (capacity < size)
        capacity *= 2;
    capacity = std::min(capacity, text_size_max);
    simdjson::error_code code =
        simdjson::get_active_implementation()->create_dom_parser_implementation(
            capacity, JSON_DEPTH_MAX, json->parser);
    if (code) { /* no memory (see mem.h), or no kernel for this machine */
        (void)fprintf(stderr, "simdjson: %s\n", simdjson::error_message(code));
        abort();
    }
}

} // namespace

enum err json_open(struct op *op, struct slice text, struct json **out,
                   struct json_value *root)
{
    *out = nullptr;
    if (text.size == 0) return stage1_fail(op, simdjson::EMPTY, text);
    if (text.size > text_size_max)
        return op_fail(op, ERR_LIMIT, "JSON of %zu bytes, at most %zu", text.size,
                       text_size_max);

    struct json *json = spare.json ? spare.json : new struct json();
    spare.json = nullptr;
    ensure_capacity(json, text.size);
    simdjson::error_code code =
        json->parser->stage1(text.data, text.size, simdjson::stage1_mode::regular);
    if (code) {
        json_close(json);
        return stage1_fail(op, code, text);
    }
    json->text = text;
    json->tokens = json->parser->structural_indexes.get();
    json->token_count = json->parser->n_structural_indexes;
    json->next = 0;
    json->depth = 0;
    json->keys.size = 0;
    *root = {json, {}, 0, 0, 0};
    json->levels[0] = {*root, 0};
    *out = json;
    return ERR_OK;
}

enum err json_end(struct op *op, struct json *json)
{
    enum err e = leave_last(op, json, 0);
    if (e || json->next == json->token_count) return e;
    return op_fail(op, ERR_INVALID, "the text goes on behind its value, at byte %zu",
                   token_offset(json, json->next));
}

void json_close(struct json *json)
{
    if (!json) return;
    bool keep = !spare.json && json->parser->capacity() <= capacity_kept_max &&
                json->keys.capacity <= capacity_kept_max;
    if (keep)
        spare.json = json;
    else
        delete json;
}

enum err json_kind_of(struct op *op, struct json_value *v, enum json_kind *kind)
{
    const struct json *json = v->json;
    if (v->token >= json->token_count)
        return json_fail(op, v, "the text ends where a value is expected");
    switch (json->text.data[json->tokens[v->token]]) {
    case 'n': *kind = JSON_NULL; return ERR_OK;
    case 't':
    case 'f': *kind = JSON_BOOL; return ERR_OK;
    case '"': *kind = JSON_STRING; return ERR_OK;
    case '[': *kind = JSON_ARRAY; return ERR_OK;
    case '{': *kind = JSON_OBJECT; return ERR_OK;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': *kind = JSON_NUMBER; return ERR_OK;
    default:
        return json_fail(op, v, "no JSON value at byte %zu",
                         token_offset(json, v->token));
    }
}

const char *json_kind_name(enum json_kind kind)
{
    switch (kind) {
    case JSON_NULL: return "null";
    case JSON_BOOL: return "a boolean";
    case JSON_NUMBER: return "a number";
    case JSON_STRING: return "a string";
    case JSON_ARRAY: return "an array";
    case JSON_OBJECT: return "an object";
    }
    return "?";
}

enum err(json_fail)(struct op *op, const struct json_value *v, const char *format, ...)
{
    char words[OP_ERROR_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return fail(op, ERR_INVALID, v->json, v->depth, v, words);
}

enum err(json_walk_fail)(struct op *op, const struct json_walk *w, const char *format,
                         ...)
{
    char words[OP_ERROR_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return fail(op, ERR_INVALID, w->json, w->depth, nullptr, words);
}

enum err json_object(struct op *op, struct json_value *v, struct json_walk *w)
{
    return open_level(op, v, JSON_OBJECT, w);
}

enum err json_array(struct op *op, struct json_value *v, struct json_walk *w)
{
    return open_level(op, v, JSON_ARRAY, w);
}

enum err json_next(struct op *op, struct json_walk *w, bool *more, struct slice *key,
                   struct json_value *value)
{
    enum err e = step(op, w, '}', more);
    if (e) return e;
    if (!*more) return check_names(op, w);
    e = take_key(op, w, value);
    if (e) return e;
    *key = value->key;
    buf_append(&w->json->keys, key, sizeof *key);
    return ERR_OK;
}

enum err json_field(struct op *op, struct json_walk *w, const char *const *names,
                    size_t count, int *name, struct json_value *value)
{
    assert(count <= 64);
    bool more;
    enum err e = step(op, w, '}', &more);
    if (e) return e;
    *name = -1;
    if (!more) return ERR_OK;
    e = take_key(op, w, value);
    if (e) return e;

    size_t found = 0;
    while (found < count && !slice_equal(value->key, slice_str(names[found])))
        found++;
    if (found == count) return unknown_field(op, value, names, count);
    uint64_t bit = UINT64_C(1) << found;
    if (w->seen & bit) return json_fail(op, value, "the field occurs twice");
    w->seen |= bit;
    *name = static_cast<int>(found);
    return ERR_OK;
}

enum err json_item(struct op *op, struct json_walk *w, bool *more,
                   struct json_value *value)
{
    enum err e = step(op, w, ']', more);
    if (!e && *more) hand_out(w, {}, value);
    return e;
}

enum err json_string(struct op *op, struct json_value *v, struct slice *out)
{
    enum err e = expect(op, v, JSON_STRING);
    if (e) return e;
    struct json *json = v->json;
    if (!unescape(op, json, raw_string(json, v->token), out, &e))
        return e ? e : json_fail(op, v, "bad escape or lone surrogate in the string");
    json->next++;
    return ERR_OK;
}

enum err json_bool(struct op *op, struct json_value *v, bool *out)
{
    enum err e = expect(op, v, JSON_BOOL);
    if (e) return e;
    *out = peek(v->json) == 't';
    return take_literal(op, v, slice_str(*out ? "true" : "false"));
}

enum err json_f64(struct op *op, struct json_value *v, double *out)
{
    struct slice number;
    bool integer;
    enum err e = take_number(op, v, &number, &integer);
    if (e || number_value(number, out)) return e;
    struct shown got = show(number);
    return json_fail(op, v, "%.*s%s is beyond the range of a double", got.size,
                     got.text, got.more);
}

enum err json_number_of(struct op *op, struct json_value *v, struct json_number *out)
{
    struct slice number;
    bool integer;
    enum err e = take_number(op, v, &number, &integer);
    if (e) return e;
    const char *first = as_chars(number.data), *end = first + number.size;
    if (slice_equal(number, slice_str("-0"))) {
        *out = {JSON_UNSIGNED, {0}};
        return ERR_OK;
    }
    out->kind = *first == '-' ? JSON_SIGNED : JSON_UNSIGNED;
    auto done = *first == '-' ? std::from_chars(first, end, out->i64)
                              : std::from_chars(first, end, out->u64);
    if (integer && done.ec == std::errc()) return ERR_OK;
    out->kind = JSON_FLOATING;
    if (number_value(number, &out->f64)) return ERR_OK;
    struct shown got = show(number);
    return json_fail(op, v, "%.*s%s is beyond the range of a double", got.size,
                     got.text, got.more);
}

enum err json_u64_range(struct op *op, struct json_value *v, uint64_t min, uint64_t max,
                        uint64_t *out)
{
    struct slice number;
    uint64_t value = 0;
    enum err e = take_integer(op, v, &number);
    if (e) return e;
    const char *first = as_chars(number.data);
    bool fits = slice_equal(number, slice_str("-0")) ||
                std::from_chars(first, first + number.size, value).ec == std::errc();
    if (fits && value >= min && value <= max) {
        *out = value;
        return ERR_OK;
    }
    struct shown got = show(number);
    return json_fail(op, v, "must be between %llu and %llu, got %.*s%s",
                     static_cast<unsigned long long>(min),
                     static_cast<unsigned long long>(max), got.size, got.text,
                     got.more);
}

enum err json_floats(struct op *op, struct json_value *v, float *out, size_t max,
                     size_t *count)
{
    struct json_walk walk = {};
    size_t n = 0;
    enum err e = json_array(op, v, &walk);
    if (e) return e;
    struct json *json = v->json;
    bool more = peek(json) != ']';
    while (more && n < max) {
        e = take_float(op, v, static_cast<uint32_t>(n), &out[n]);
        if (e) return e;
        n++;
        more = peek(json) == ',';
        json->next += more;
    }
    *count = more ? max + 1 : n;
    if (more) return skip(op, v);
    if (peek(json) != ']') return syntax(op, &walk, "',' or ']'");
    json->next++;
    json->depth--;
    return ERR_OK;
}
