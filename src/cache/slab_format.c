#include "cache/slab_format.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"

static const char FILE_MAGIC[8] = "elacslab";

enum {
    REGION_MAGIC = 0x47455245, /* "EREG" */
    RECORD_MAGIC = 0x43455245, /* "EREC" */
    TRAILER_MAGIC = 0x444e4545 /* "EEND" */
};

static void store_u16(uint8_t *at, uint16_t v)
{
    memcpy(at, &v, sizeof v);
}

static void store_u32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof v);
}

static void store_u64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, sizeof v);
}

/* Magic at 0, the checksum of what follows it at 4: all small pieces begin so. */
static void sign(uint8_t *piece, uint32_t magic, size_t size)
{
    store_u32(piece, magic);
    store_u32(piece + 4, crc32c(0, piece + 8, size - 8));
}

static bool signed_well(const uint8_t *piece, uint32_t magic, size_t size)
{
    return load_u32(piece) == magic &&
           load_u32(piece + 4) == crc32c(0, piece + 8, size - 8);
}

uint64_t slab_tag(const struct slab_id *id)
{
    uint8_t bytes[STORE_KEY_MAX + 12];
    size_t key_size = strlen(id->key);
    assert(key_size <= STORE_KEY_MAX);
    store_u64(bytes, id->offset);
    store_u32(bytes + 8, id->size);
    memcpy(bytes + 12, id->key, key_size);
    uint64_t tag = xxh3_64(bytes, 12 + key_size);
    return tag ? tag : 1;
}

/* ---- file ---- */

void slab_header_encode(uint64_t region_size, uint8_t out[SLAB_HEADER_SIZE])
{
    memset(out, 0, SLAB_HEADER_SIZE);
    memcpy(out, FILE_MAGIC, sizeof FILE_MAGIC);
    store_u32(out + 8, SLAB_VERSION);
    store_u64(out + 16, region_size);
    store_u32(out + 24, crc32c(0, out, 24));
}

bool slab_header_decode(const uint8_t in[SLAB_HEADER_SIZE], uint64_t *region_size)
{
    if (memcmp(in, FILE_MAGIC, sizeof FILE_MAGIC) != 0) return false;
    if (load_u32(in + 8) != SLAB_VERSION) return false;
    if (load_u32(in + 24) != crc32c(0, in, 24)) return false;
    *region_size = load_u64(in + 16);
    return *region_size >= SLAB_REGION_MIN && *region_size % SLAB_HEADER_SIZE == 0 &&
           *region_size / SLAB_UNIT <= INT32_MAX;
}

/* ---- region ---- */

void slab_head_encode(uint32_t sequence, uint8_t out[SLAB_HEAD_SIZE])
{
    memset(out, 0, SLAB_HEAD_SIZE);
    store_u32(out + 8, sequence);
    sign(out, REGION_MAGIC, SLAB_HEAD_SIZE);
}

bool slab_head_decode(const uint8_t in[SLAB_HEAD_SIZE], uint32_t *sequence)
{
    if (!signed_well(in, REGION_MAGIC, SLAB_HEAD_SIZE)) return false;
    *sequence = load_u32(in + 8);
    return *sequence > 0;
}

void slab_trailer_encode(const struct slab_trailer *t, uint8_t out[SLAB_TRAILER_SIZE])
{
    memset(out, 0, SLAB_TRAILER_SIZE);
    store_u32(out + 8, t->sequence);
    store_u32(out + 12, t->count);
    store_u32(out + 16, t->end);
    store_u32(out + 20, t->table_crc);
    sign(out, TRAILER_MAGIC, SLAB_TRAILER_SIZE);
}

bool slab_trailer_decode(const uint8_t in[SLAB_TRAILER_SIZE], struct slab_trailer *t)
{
    if (!signed_well(in, TRAILER_MAGIC, SLAB_TRAILER_SIZE)) return false;
    *t = (struct slab_trailer){.sequence = load_u32(in + 8),
                               .count = load_u32(in + 12),
                               .end = load_u32(in + 16),
                               .table_crc = load_u32(in + 20)};
    return true;
}

void slab_table_encode(const struct slab_table_entry *entry,
                       uint8_t out[SLAB_TABLE_ENTRY_SIZE])
{
    store_u64(out, entry->tag);
    store_u32(out + 8, entry->unit);
    store_u32(out + 12, 0);
}

struct slab_table_entry slab_table_decode(const uint8_t in[SLAB_TABLE_ENTRY_SIZE])
{
    return (struct slab_table_entry){.tag = load_u64(in), .unit = load_u32(in + 8)};
}

/* ---- record ---- */

size_t slab_record_encode(const struct slab_record *r,
                          uint8_t out[SLAB_RECORD_FRONT_MAX])
{
    size_t key_size = strlen(r->id.key), size = SLAB_RECORD_HEAD_SIZE + key_size;
    assert(key_size > 0 && key_size <= STORE_KEY_MAX);
    memset(out, 0, SLAB_RECORD_HEAD_SIZE);
    store_u32(out + 8, r->sequence);
    store_u32(out + 12, r->id.size);
    store_u64(out + 16, r->id.offset);
    store_u64(out + 24, r->data_hash);
    store_u16(out + 32, (uint16_t)key_size);
    memcpy(out + SLAB_RECORD_HEAD_SIZE, r->id.key, key_size);
    sign(out, RECORD_MAGIC, size);
    return size;
}

bool slab_record_decode(const uint8_t *in, size_t size, struct slab_record *r)
{
    uint16_t key_size;

    if (size < SLAB_RECORD_HEAD_SIZE) return false;
    memcpy(&key_size, in + 32, sizeof key_size);
    if (key_size == 0 || key_size > STORE_KEY_MAX ||
        key_size > size - SLAB_RECORD_HEAD_SIZE)
        return false;
    if (!signed_well(in, RECORD_MAGIC, SLAB_RECORD_HEAD_SIZE + (size_t)key_size))
        return false;
    r->sequence = load_u32(in + 8);
    r->id.size = load_u32(in + 12);
    r->id.offset = load_u64(in + 16);
    r->data_hash = load_u64(in + 24);
    memcpy(r->key, in + SLAB_RECORD_HEAD_SIZE, key_size);
    r->key[key_size] = '\0';
    r->id.key = r->key;
    return r->id.size > 0 && r->id.size <= SLAB_PIECE_MAX &&
           memchr(r->key, '\0', key_size) == NULL;
}

uint64_t slab_record_size(const struct slab_id *id)
{
    uint64_t size = SLAB_RECORD_HEAD_SIZE + strlen(id->key) + id->size;
    return (size + SLAB_UNIT - 1) / SLAB_UNIT * SLAB_UNIT;
}
