/*
 * json_write.cpp - C++ only for std::to_chars, which prints the shortest digits.
 */
#include "base/json_write.h"

#include <cassert>
#include <charconv>
#include <cmath>

namespace
{

constexpr uint32_t depth_max = 64;
constexpr size_t number_size_max = 32; /* "-2.2250738585072014e-308" has 24 */

void append_char(struct buf *out, char c)
{
    buf_append_byte(out, static_cast<uint8_t>(c));
}

uint64_t level_bit(const struct json_writer *w)
{
    return UINT64_C(1) << (w->depth - 1);
}

void separate_items(struct json_writer *w)
{
    if (w->has_items & level_bit(w)) append_char(w->out, ',');
    w->has_items |= level_bit(w);
}

/* Puts the comma that a value needs in front of it. */
void separate(struct json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0) return;
    assert(!(w->objects & level_bit(w))); /* a field needs its key first */
    separate_items(w);
}

void begin(struct json_writer *w, bool object)
{
    separate(w);
    append_char(w->out, object ? '{' : '[');
    assert(w->depth < depth_max);
    w->depth++;
    w->has_items &= ~level_bit(w);
    w->objects = object ? w->objects | level_bit(w) : w->objects & ~level_bit(w);
}

void end(struct json_writer *w, bool object)
{
    assert(w->depth > 0 && !w->after_key);
    assert(object == ((w->objects & level_bit(w)) != 0));
    w->depth--;
    append_char(w->out, object ? '}' : ']');
}

void append_escape(struct buf *out, uint8_t c)
{
    switch (c) {
    case '"': buf_append_str(out, "\\\""); break;
    case '\\': buf_append_str(out, "\\\\"); break;
    case '\n': buf_append_str(out, "\\n"); break;
    case '\r': buf_append_str(out, "\\r"); break;
    case '\t': buf_append_str(out, "\\t"); break;
    default: buf_printf(out, "\\u%04x", c);
    }
}

void append_quoted(struct buf *out, struct slice s)
{
    append_char(out, '"');
    size_t plain = 0; /* start of the stretch that needs no escape */
    for (size_t i = 0; i < s.size; i++) {
        uint8_t c = s.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_append(out, s.data + plain, i - plain);
        append_escape(out, c);
        plain = i + 1;
    }
    buf_append(out, s.data + plain, s.size - plain);
    append_char(out, '"');
}

/* Appends a number's digits; room for them was reserved. */
template <typename Number> void append_reserved(struct buf *out, Number v)
{
    char *at = reinterpret_cast<char *>(out->data + out->size);
    auto done = std::to_chars(at, at + number_size_max, v);
    assert(done.ec == std::errc());
    out->size += static_cast<size_t>(done.ptr - at);
}

template <typename Number> void put_number(struct json_writer *w, Number v)
{
    separate(w);
    buf_reserve(w->out, number_size_max);
    append_reserved(w->out, v);
}

} // namespace

void json_writer_init(struct json_writer *w, struct buf *out)
{
    *w = {};
    w->out = out;
}

void json_begin_object(struct json_writer *w)
{
    begin(w, true);
}

void json_end_object(struct json_writer *w)
{
    end(w, true);
}

void json_begin_array(struct json_writer *w)
{
    begin(w, false);
}

void json_end_array(struct json_writer *w)
{
    end(w, false);
}

void json_key(struct json_writer *w, const char *key)
{
    assert(w->depth > 0 && !w->after_key && (w->objects & level_bit(w)));
    separate_items(w);
    append_quoted(w->out, slice_str(key));
    append_char(w->out, ':');
    w->after_key = true;
}

void json_put_string(struct json_writer *w, struct slice s)
{
    separate(w);
    append_quoted(w->out, s);
}

void json_put_str(struct json_writer *w, const char *s)
{
    json_put_string(w, slice_str(s));
}

void json_put_bool(struct json_writer *w, bool v)
{
    separate(w);
    buf_append_str(w->out, v ? "true" : "false");
}

void json_put_null(struct json_writer *w)
{
    separate(w);
    buf_append_str(w->out, "null");
}

void json_put_i64(struct json_writer *w, int64_t v)
{
    put_number(w, v);
}

void json_put_u64(struct json_writer *w, uint64_t v)
{
    put_number(w, v);
}

void json_put_f32(struct json_writer *w, float v)
{
    assert(std::isfinite(v));
    put_number(w, v);
}

void json_put_f64(struct json_writer *w, double v)
{
    assert(std::isfinite(v));
    put_number(w, v);
}

void json_member_u64(struct json_writer *w, const char *key, uint64_t v)
{
    json_key(w, key);
    json_put_u64(w, v);
}

void json_member_f64(struct json_writer *w, const char *key, double v)
{
    json_key(w, key);
    json_put_f64(w, v);
}

void json_put_floats(struct json_writer *w, const float *v, size_t count)
{
    json_begin_array(w);
    buf_reserve(w->out, count * (number_size_max + 1));
    for (size_t i = 0; i < count; i++) {
        assert(std::isfinite(v[i]));
        if (i > 0) append_char(w->out, ',');
        append_reserved(w->out, v[i]);
    }
    json_end_array(w);
}
