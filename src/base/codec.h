/*
 * codec.h - numbers, checksums and compression in stored bytes.
 *
 * Everything on disk is little endian. Encoders append to a buf. A reader walks over
 * bytes that may be damaged: each get checks what is left, the first failure sticks
 * (reader.failed), later gets return zero, so a decoder may read a whole record and
 * look at reader.failed once. Varints are LEB128, at most 10 bytes, shortest form
 * only. CRC32C is RFC 3720's; xxh3_128 is XXH3 with seed 0; compression is zstd.
 */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;

struct reader {
    const uint8_t *data;
    size_t size;
    size_t offset;
    bool failed;
};

static inline struct reader reader_of(struct slice s)
{
    return (struct reader){s.data, s.size, 0, false};
}

/* Bytes left, 0 after a failure. */
static inline size_t reader_left(const struct reader *r)
{
    return r->failed ? 0 : r->size - r->offset;
}

uint8_t get_u8(struct reader *r);
uint16_t get_u16(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
float get_f32(struct reader *r);
double get_f64(struct reader *r);
uint64_t get_varint(struct reader *r);
/* A varint that must not exceed max; more is a failure. */
uint64_t get_varint_max(struct reader *r, uint64_t max);
/* The next size bytes, borrowed from the reader's bytes. */
struct slice get_bytes(struct reader *r, size_t size);
/* A varint size and that many bytes. */
struct slice get_sized(struct reader *r);
/* True when everything was read and nothing failed. */
bool reader_done(const struct reader *r);

void put_u8(struct buf *b, uint8_t v);
void put_u16(struct buf *b, uint16_t v);
void put_u32(struct buf *b, uint32_t v);
void put_u64(struct buf *b, uint64_t v);
void put_f32(struct buf *b, float v);
void put_f64(struct buf *b, double v);
void put_varint(struct buf *b, uint64_t v);
void put_sized(struct buf *b, struct slice s);

/* Unchecked access to bytes known to be there. */
static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t load_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size); /* start with 0 */
uint64_t xxh3_64(const void *data, size_t size);
/* For tables of keys that users choose, with a seed that they cannot know. */
uint64_t xxh3_64_seeded(const void *data, size_t size, uint64_t seed);
void xxh3_128(const void *data, size_t size, uint8_t out[16]); /* canonical form */

/* What the digit is worth, of either case; -1: none. */
int hex_digit(uint8_t c);
/* Lower-case hex; out has 2 * size + 1 bytes. */
void hex_encode(const void *data, size_t size, char *out);
/* False unless text is exactly 2 * size hex digits. */
bool hex_decode(struct slice text, void *out, size_t size);

/* Appends one zstd frame that holds its content size. */
void zstd_append(struct buf *out, struct slice data, int level);
/* Appends the content of the frame. ERR_CORRUPT if it is none or larger than size_max.
 */
enum err zstd_expand(struct op *op, struct slice frame, size_t size_max,
                     struct buf *out);

#endif
