#include "base/codec.h"

#include <assert.h>
#include <pthread.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/op.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "stored bytes are little endian");

static const uint8_t *take(struct reader *r, size_t size)
{
    if (r->failed || r->size - r->offset < size) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->offset;
    r->offset += size;
    return p;
}

#define DEFINE_GET(name, type)                                                         \
    type name(struct reader *r)                                                        \
    {                                                                                  \
        type v = 0;                                                                    \
        const uint8_t *p = take(r, sizeof v);                                          \
        if (p) memcpy(&v, p, sizeof v);                                                \
        return v;                                                                      \
    }
DEFINE_GET(get_u8, uint8_t)
DEFINE_GET(get_u16, uint16_t)
DEFINE_GET(get_u32, uint32_t)
DEFINE_GET(get_u64, uint64_t)
DEFINE_GET(get_f32, float)
DEFINE_GET(get_f64, double)

uint64_t get_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = get_u8(r);
        if (r->failed) return 0;
        uint64_t bits = byte & 0x7f;
        bool overflow = shift == 63 && bits > 1;
        bool overlong = byte == 0 && shift > 0;
        if (overflow || overlong) break;
        v |= bits << shift;
        if (!(byte & 0x80)) return v;
    }
    r->failed = true;
    return 0;
}

uint64_t get_varint_max(struct reader *r, uint64_t max)
{
    uint64_t v = get_varint(r);
    if (v <= max) return v;
    r->failed = true;
    return 0;
}

struct slice get_bytes(struct reader *r, size_t size)
{
    const uint8_t *p = take(r, size);
    return p ? slice_of(p, size) : SLICE_EMPTY;
}

struct slice get_sized(struct reader *r)
{
    return get_bytes(r, get_varint_max(r, reader_left(r)));
}

bool reader_done(const struct reader *r)
{
    return !r->failed && r->offset == r->size;
}

void put_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, sizeof v);
}

void put_u16(struct buf *b, uint16_t v)
{
    buf_append(b, &v, sizeof v);
}

void put_u32(struct buf *b, uint32_t v)
{
    buf_append(b, &v, sizeof v);
}

void put_u64(struct buf *b, uint64_t v)
{
    buf_append(b, &v, sizeof v);
}

void put_f32(struct buf *b, float v)
{
    buf_append(b, &v, sizeof v);
}

void put_f64(struct buf *b, double v)
{
    buf_append(b, &v, sizeof v);
}

void put_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    buf_append(b, bytes, n);
}

void put_sized(struct buf *b, struct slice s)
{
    put_varint(b, s.size);
    buf_append_slice(b, s);
}

static uint32_t crc_table[8][256];

__attribute__((constructor)) static void crc_table_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] =
                crc_table[0][crc_table[t - 1][i] & 0xff] ^ (crc_table[t - 1][i] >> 8);
}

/* Slicing by eight (Kounavis and Berry, 2005). */
static uint32_t crc32c_plain(uint32_t crc, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t v = load_u64(p) ^ crc;
        crc = crc_table[7][v & 0xff] ^ crc_table[6][v >> 8 & 0xff] ^
              crc_table[5][v >> 16 & 0xff] ^ crc_table[4][v >> 24 & 0xff] ^
              crc_table[3][v >> 32 & 0xff] ^ crc_table[2][v >> 40 & 0xff] ^
              crc_table[1][v >> 48 & 0xff] ^ crc_table[0][v >> 56];
    }
    for (; size; p++, size--)
        crc = crc_table[0][(crc ^ *p) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse(uint32_t crc, const uint8_t *p, size_t size)
{
    uint64_t c = crc;
    for (; size >= 8; p += 8, size -= 8)
        c = __builtin_ia32_crc32di(c, load_u64(p));
    for (; size; p++, size--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    return (uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~crc32c_sse(~crc, data, size);
#endif
    return ~crc32c_plain(~crc, data, size);
}

uint64_t xxh3_64(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t xxh3_64_seeded(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

void xxh3_128(const void *data, size_t size, uint8_t out[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
    memcpy(out, canonical.digest, 16);
}

void hex_encode(const void *data, size_t size, char *out)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) {
        *out++ = "0123456789abcdef"[p[i] >> 4];
        *out++ = "0123456789abcdef"[p[i] & 15];
    }
    *out = '\0';
}

int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool hex_decode(struct slice text, void *out, size_t size)
{
    uint8_t *p = out;
    if (text.size != 2 * size) return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text.data[2 * i]);
        int low = hex_digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        p[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* A decompression context costs as much as a small frame to make: one a thread. */
static pthread_key_t expander_key;
static pthread_once_t expander_once = PTHREAD_ONCE_INIT;

static void expander_free(void *context)
{
    (void)ZSTD_freeDCtx(context);
}

static void expander_init(void)
{
    int failed = pthread_key_create(&expander_key, expander_free);
    assert(!failed);
}

static ZSTD_DCtx *expander(void)
{
    (void)pthread_once(&expander_once, expander_init);
    ZSTD_DCtx *context = pthread_getspecific(expander_key);
    if (context) return context;
    context = ZSTD_createDCtx();
    assert(context);
    int failed = pthread_setspecific(expander_key, context);
    assert(!failed);
    return context;
}

void zstd_append(struct buf *out, struct slice data, int level)
{
    size_t bound = ZSTD_compressBound(data.size);
    buf_reserve(out, bound);
    size_t size =
        ZSTD_compress(out->data + out->size, bound, data.data, data.size, level);
    assert(!ZSTD_isError(size));
    out->size += size;
}

enum err zstd_expand(struct op *op, struct slice frame, size_t size_max,
                     struct buf *out)
{
    unsigned long long size = ZSTD_getFrameContentSize(frame.data, frame.size);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR)
        return op_fail(op, ERR_CORRUPT, "not a zstd frame with its content size");
    if (size > size_max)
        return op_fail(op, ERR_CORRUPT, "zstd frame of %llu bytes, at most %zu allowed",
                       size, size_max);

    buf_reserve(out, (size_t)size);
    size_t got = ZSTD_decompressDCtx(expander(), out->data + out->size, (size_t)size,
                                     frame.data, frame.size);
    if (ZSTD_isError(got) || got != size)
        return op_fail(op, ERR_CORRUPT, "damaged zstd frame");
    out->size += got;
    return ERR_OK;
}
