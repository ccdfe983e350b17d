#include "base/log.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "base/buf.h"
#include "base/op.h"
#include "base/task.h"
#include "base/utf8.h"

enum { VALUE_SIZE_MAX = 1024, CONVERSION_SIZE_MAX = 32 };

/* Set once at start, before threads exist. */
static enum log_level lowest = LOG_INFO;
static enum log_format line_format = LOG_JSON;

void log_init(enum log_level level, enum log_format format)
{
    lowest = level;
    line_format = format;
}

bool log_enabled(enum log_level level)
{
    return level >= lowest;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_TRACE: return "trace";
    case LOG_DEBUG: return "debug";
    case LOG_INFO: return "info";
    case LOG_WARN: return "warn";
    case LOG_ERROR: return "error";
    }
    return "?";
}

/* One %-conversion of a format: its text and what it takes from the arguments. */
struct conversion {
    char text[CONVERSION_SIZE_MAX];
    size_t size;
    bool precision_follows; /* .* */
    char length;            /* h, l, z, j, t; H for hh, L for ll; 0 for none */
    char type;
};

static char length_modifier(const char *at, size_t *size)
{
    *size = 0;
    if (!strchr("hlzjt", *at)) return 0;
    *size = at[1] == at[0] ? 2 : 1;
    if (*size == 1) return at[0];
    return at[0] == 'h' ? 'H' : 'L';
}

/* at stands on '%'. The compiler has checked the format (attribute format). */
static struct conversion parse_conversion(const char *at)
{
    struct conversion c = {.size = 1};
    c.size += strspn(at + c.size, "-+ #0123456789.");
    if (at[c.size] == '*') {
        c.precision_follows = true;
        c.size++;
    }
    size_t modifier_size;
    c.length = length_modifier(at + c.size, &modifier_size);
    c.size += modifier_size;
    c.type = at[c.size++];
    assert(c.type && c.size < sizeof c.text);
    assert(!c.precision_follows || c.type == 's');
    memcpy(c.text, at, c.size);
    return c;
}

/* va_list may be an array type, so it travels inside a struct. */
struct arguments {
    va_list list;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#define PRINT_NEXT(type) buf_printf(out, c->text, va_arg(from->list, type))

static void print_signed(struct buf *out, const struct conversion *c,
                         struct arguments *from)
{
    switch (c->length) {
    case 'l': PRINT_NEXT(long); break;
    case 'L': PRINT_NEXT(long long); break;
    case 'z': PRINT_NEXT(ssize_t); break;
    case 'j': PRINT_NEXT(intmax_t); break;
    case 't': PRINT_NEXT(ptrdiff_t); break;
    default: PRINT_NEXT(int);
    }
}

static void print_unsigned(struct buf *out, const struct conversion *c,
                           struct arguments *from)
{
    switch (c->length) {
    case 'l': PRINT_NEXT(unsigned long); break;
    case 'L': PRINT_NEXT(unsigned long long); break;
    case 'z': PRINT_NEXT(size_t); break;
    case 'j': PRINT_NEXT(uintmax_t); break;
    case 't': PRINT_NEXT(size_t); break;
    default: PRINT_NEXT(unsigned);
    }
}

static void print_string(struct buf *out, const struct conversion *c,
                         struct arguments *from)
{
    int size_max = c->precision_follows ? va_arg(from->list, int) : VALUE_SIZE_MAX + 1;
    const char *text = va_arg(from->list, const char *);
    if (!text) text = "(null)";
    if (c->precision_follows || strcmp(c->text, "%s") == 0)
        buf_append(out, text,
                   strnlen(text, size_max < 0 ? SIZE_MAX : (size_t)size_max));
    else
        buf_printf(out, c->text, text);
}

static void print_conversion(struct buf *out, const struct conversion *c,
                             struct arguments *from)
{
    switch (c->type) {
    case '%': buf_append_byte(out, '%'); break;
    case 'd':
    case 'i': print_signed(out, c, from); break;
    case 'u':
    case 'x':
    case 'X':
    case 'o': print_unsigned(out, c, from); break;
    case 'c': PRINT_NEXT(int); break;
    case 'p': PRINT_NEXT(void *); break;
    case 's': print_string(out, c, from); break;
    default: assert(strchr("aAeEfFgG", c->type)); PRINT_NEXT(double);
    }
}
#pragma GCC diagnostic pop

static size_t digits(struct slice s, size_t from)
{
    size_t i = from;
    while (i < s.size && s.data[i] >= '0' && s.data[i] <= '9')
        i++;
    return i - from;
}

/* A number as JSON writes it: no plus sign, no leading zeros, no inf or nan. */
static bool is_number(struct slice s)
{
    size_t i = s.size && s.data[0] == '-';
    size_t whole = digits(s, i);
    if (!whole || (whole > 1 && s.data[i] == '0')) return false;
    i += whole;
    if (i < s.size && s.data[i] == '.') {
        size_t fraction = digits(s, i + 1);
        if (!fraction) return false;
        i += 1 + fraction;
    }
    if (i < s.size && (s.data[i] == 'e' || s.data[i] == 'E')) {
        i++;
        if (i < s.size && (s.data[i] == '+' || s.data[i] == '-')) i++;
        size_t exponent = digits(s, i);
        if (!exponent) return false;
        i += exponent;
    }
    return i == s.size;
}

/* Prints one pair's value, up to the space or the end of the format. Returns where it
 * stopped. bare: the value is one number and needs no quotes. */
static const char *print_value(struct buf *out, const char *at, struct arguments *from,
                               bool *bare)
{
    struct conversion c = {0};
    const char *start = at;
    while (*at && *at != ' ') {
        if (*at != '%') {
            buf_append_byte(out, (uint8_t)*at++);
            continue;
        }
        c = parse_conversion(at);
        print_conversion(out, &c, from);
        at += c.size;
    }
    bool alone = start + c.size == at;
    *bare = alone && c.type && strchr("diufFeEgG", c.type) && is_number(buf_slice(out));
    return at;
}

/* Bytes of a character that is safe on a terminal, 0 if it has to be escaped. */
static size_t safe_step(const uint8_t *p, size_t size)
{
    size_t step = utf8_step(p, size);
    bool c0 = p[0] < 0x20 || p[0] == 0x7f;
    bool c1 = step == 2 && p[0] == 0xc2 && p[1] < 0xa0;
    bool quote = p[0] == '"' || p[0] == '\\';
    return c0 || c1 || quote ? 0 : step;
}

/* Appends s as a JSON string. What is no UTF-8 becomes U+FFFD. */
static void append_quoted(struct buf *out, struct slice s)
{
    buf_append_byte(out, '"');
    for (size_t i = 0; i < s.size;) {
        const uint8_t *p = s.data + i;
        size_t step = utf8_step(p, s.size - i);
        size_t safe = safe_step(p, s.size - i);
        if (safe)
            buf_append(out, p, safe);
        else if (step == 0)
            buf_append_str(out, "\xef\xbf\xbd");
        else if (*p == '"' || *p == '\\')
            buf_printf(out, "\\%c", *p);
        else
            buf_printf(out, "\\u%04x", step == 2 ? p[1] : p[0]);
        i += step ? step : 1;
    }
    buf_append_byte(out, '"');
}

static bool needs_quotes(struct slice s)
{
    for (size_t i = 0; i < s.size;) {
        size_t safe = safe_step(s.data + i, s.size - i);
        if (!safe || s.data[i] == ' ' || s.data[i] == '=') return true;
        i += safe;
    }
    return s.size == 0;
}

/* At most VALUE_SIZE_MAX bytes, without half a character at the end. */
static struct slice cut(struct slice s)
{
    if (s.size <= VALUE_SIZE_MAX) return s;
    size_t size = VALUE_SIZE_MAX;
    while (size > VALUE_SIZE_MAX - 3 && (s.data[size] & 0xc0) == 0x80)
        size--;
    return slice_of(s.data, size);
}

static void append_field(struct buf *line, struct slice name, struct slice value,
                         bool bare)
{
    value = cut(value);
    if (line_format == LOG_JSON) {
        buf_append_byte(line, ',');
        append_quoted(line, name);
        buf_append_byte(line, ':');
    } else {
        buf_append_byte(line, ' ');
        buf_append_slice(line, name);
        buf_append_byte(line, '=');
        bare = bare || !needs_quotes(value);
    }
    if (bare)
        buf_append_slice(line, value);
    else
        append_quoted(line, value);
}

static void append_head(struct buf *line, enum log_level level, const char *event)
{
    int64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    char date[32];
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);

    unsigned ms = (unsigned)(now_ms % 1000);
    if (line_format == LOG_TEXT) {
        buf_printf(line, "%s.%03uZ %-5s %s", date, ms, level_name(level), event);
        return;
    }
    buf_printf(line, "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"event\":", date, ms,
               level_name(level));
    append_quoted(line, slice_str(event));
}

static void append_fields(struct buf *line, const char *at, struct arguments *from)
{
    struct buf value = BUF_INIT;
    while (*at) {
        const char *equals = strchr(at, '=');
        assert(equals); /* name=conversion pairs, one space between them */
        bool bare;
        buf_clear(&value);
        struct slice name = slice_of(at, (size_t)(equals - at));
        at = print_value(&value, equals + 1, from, &bare);
        append_field(line, name, buf_slice(&value), bare);
        if (*at) at++;
    }
    buf_release(&value);
}

void log_write(struct op *op, enum log_level level, const char *event,
               const char *format, ...)
{
    struct buf line = BUF_INIT;
    struct arguments from;

    append_head(&line, level, event);
    va_start(from.list, format);
    append_fields(&line, format, &from);
    va_end(from.list);
    if (op && op->request_id[0])
        append_field(&line, SLICE_LITERAL("request_id"), slice_str(op->request_id),
                     false);
    buf_append_str(&line, line_format == LOG_JSON ? "}\n" : "\n");

    /* stderr is unbuffered and locks itself: one call, one line. */
    (void)fwrite(line.data, 1, line.size, stderr);
    buf_release(&line);
}
