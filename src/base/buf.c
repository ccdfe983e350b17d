#include "base/buf.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

int slice_compare(struct slice a, struct slice b)
{
    size_t shared = a.size < b.size ? a.size : b.size;
    int order = shared ? memcmp(a.data, b.data, shared) : 0;

    if (order) return order;
    return (a.size > b.size) - (a.size < b.size);
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.size >= prefix.size &&
           (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

struct buf buf_cut(struct buf_room *room, size_t capacity)
{
    enum { ALIGNMENT = 64 };
    size_t start = room ? (room->used + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : 0;

    if (!room || start > room->size || capacity > room->size - start) return BUF_INIT;
    room->used = start + capacity;
    return buf_lent(room->data + start, capacity);
}

void buf_reserve(struct buf *b, size_t size)
{
    assert(size <= SIZE_MAX - b->size);
    size_t needed = b->size + size;
    if (needed <= b->capacity) return;

    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    if (b->lent) {
        uint8_t *own = mem_alloc(capacity);
        if (b->size) memcpy(own, b->data, b->size);
        b->data = own;
        b->lent = false;
    } else {
        b->data = mem_realloc(b->data, capacity);
    }
    b->capacity = capacity;
}

void buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0) return;
    buf_reserve(b, size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void buf_append_slice(struct buf *b, struct slice s)
{
    buf_append(b, s.data, s.size);
}

void buf_append_str(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_append_byte(struct buf *b, uint8_t byte)
{
    buf_append(b, &byte, 1);
}

void buf_append_zeros(struct buf *b, size_t size)
{
    if (size == 0) return;
    buf_reserve(b, size);
    memset(b->data + b->size, 0, size);
    b->size += size;
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);

    assert(size >= 0);
    buf_reserve(b, (size_t)size + 1);
    (void)vsnprintf((char *)b->data + b->size, (size_t)size + 1, format, args);
    b->size += (size_t)size;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_clear(struct buf *b)
{
    b->size = 0;
}

void buf_release(struct buf *b)
{
    if (!b->lent) mem_free(b->data);
    *b = BUF_INIT;
}
