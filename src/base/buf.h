/*
 * buf.h - bytes: a slice is borrowed, a buf is owned.
 *
 * A slice points at bytes somebody else keeps alive; it is a value and is passed by
 * value. A buf grows by appending and is released by buf_release. Neither is thread
 * safe. Growth that memory cannot serve ends the process (mem.h).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct slice {
    const uint8_t *data;
    size_t size;
};

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool lent; /* the memory is somebody else's: buf_lent */
};

#define BUF_INIT    ((struct buf){NULL, 0, 0, false})
#define SLICE_EMPTY ((struct slice){NULL, 0})
/* The bytes of a string literal, without its terminator. */
#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){(const uint8_t *)data, size};
}

static inline struct slice slice_str(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->data, b->size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Byte order, shorter first when one is a prefix: <0, 0, >0 like memcmp. */
int slice_compare(struct slice a, struct slice b);

bool slice_starts_with(struct slice s, struct slice prefix);

/* Bytes that are the same at the front of both, up to the first that differs. */
static inline size_t slice_shared(struct slice a, struct slice b)
{
    size_t n = 0;
    while (n < a.size && n < b.size && a.data[n] == b.data[n])
        n++;
    return n;
}

/* An empty buf in memory that stays its owner's. Growing beyond it moves the bytes to
 * the heap. */
static inline struct buf buf_lent(void *memory, size_t capacity)
{
    return (struct buf){(uint8_t *)memory, 0, capacity, true};
}

/* Memory that bufs are cut from, one behind the other; somebody else's. To give back
 * what was cut since, put used back to what it was. */
struct buf_room {
    uint8_t *data;
    size_t size, used;
};

/* An empty buf of capacity bytes of the room; on the heap where room is NULL or has not
 * so much left. */
struct buf buf_cut(struct buf_room *room, size_t capacity);

/* Room for size more bytes after b->size; b->size is unchanged. */
void buf_reserve(struct buf *b, size_t size);
void buf_append(struct buf *b, const void *data, size_t size);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *text);
void buf_append_byte(struct buf *b, uint8_t byte);
void buf_append_zeros(struct buf *b, size_t size);
void buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* Empties b but keeps its memory. */
void buf_clear(struct buf *b);
/* Frees the memory; b is BUF_INIT again. Harmless on an empty one. */
void buf_release(struct buf *b);

#ifdef __cplusplus
}
#endif

#endif
