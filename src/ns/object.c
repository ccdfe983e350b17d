#include "ns/object.h"

#include <string.h>

#include "base/codec.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store.h"

enum { VERSION = 1, BLOCK_SIZE = 64 << 10, MAGIC_SIZE = 8, CRC_OFFSET = 92 };
enum { IDENTIFY_TRIES = 3 };

static const char magic[MAGIC_SIZE + 1] = "elacsym1";

struct put_id put_id_new(void)
{
    struct put_id id;
    random_bytes(id.bytes, sizeof id.bytes);
    return id;
}

bool put_id_equal(const struct put_id *a, const struct put_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static size_t block_count(size_t size)
{
    return (size + BLOCK_SIZE - 1) / BLOCK_SIZE;
}

static uint32_t block_crc(struct slice payload, size_t block)
{
    size_t offset = block * BLOCK_SIZE;
    size_t left = payload.size - offset;
    return crc32c(0, payload.data + offset, left < BLOCK_SIZE ? left : BLOCK_SIZE);
}

void object_encode(const struct object *o, struct buf *out)
{
    size_t start = out->size;
    uint8_t hash[16];

    buf_reserve(out, OBJECT_HEADER_SIZE + o->payload.size +
                         4 * block_count(o->payload.size) + sizeof hash + MAGIC_SIZE);
    buf_append(out, magic, MAGIC_SIZE);
    put_u16(out, VERSION);
    put_u16(out, (uint16_t)o->kind);
    put_u32(out, OBJECT_HEADER_SIZE);
    buf_append(out, o->incarnation, sizeof o->incarnation);
    put_u64(out, o->number);
    put_u64(out, o->epoch);
    buf_append(out, o->put_id.bytes, sizeof o->put_id.bytes);
    put_u64(out, o->payload.size);
    buf_append_zeros(out, start + CRC_OFFSET - out->size);
    put_u32(out, crc32c(0, out->data + start, CRC_OFFSET));

    buf_append_slice(out, o->payload);
    for (size_t i = 0; i < block_count(o->payload.size); i++)
        put_u32(out, block_crc(o->payload, i));
    xxh3_128(o->payload.data, o->payload.size, hash);
    buf_append(out, hash, sizeof hash);
    buf_append(out, magic, MAGIC_SIZE);
}

/* Reads the header; what is wrong with it, or NULL. */
static const char *decode_header(struct slice bytes, struct object *o, size_t *size)
{
    static const uint8_t zeros[CRC_OFFSET - 72];
    struct reader r = reader_of(bytes);

    if (bytes.size < OBJECT_HEADER_SIZE + 16 + MAGIC_SIZE) return "it is cut short";
    if (memcmp(get_bytes(&r, MAGIC_SIZE).data, magic, MAGIC_SIZE) != 0)
        return "it does not start with the magic number";
    if (crc32c(0, bytes.data, CRC_OFFSET) != load_u32(bytes.data + CRC_OFFSET))
        return "the checksum of its header does not match";
    if (get_u16(&r) != VERSION) return "its format version is newer than this program";
    o->kind = (enum object_kind)get_u16(&r);
    if (get_u32(&r) != OBJECT_HEADER_SIZE) return "its header has another size";
    if (o->kind < OBJECT_DATA || o->kind > OBJECT_KIND_LAST)
        return "its kind is unknown";
    memcpy(o->incarnation, get_bytes(&r, 16).data, 16);
    o->number = get_u64(&r);
    o->epoch = get_u64(&r);
    memcpy(o->put_id.bytes, get_bytes(&r, 16).data, 16);
    uint64_t payload_size = get_u64(&r);
    if (memcmp(bytes.data + 72, zeros, sizeof zeros) != 0)
        return "its header has bytes that should be zero";
    if (payload_size > bytes.size) return "it is cut short";
    *size = (size_t)payload_size;
    return NULL;
}

/* Checks what follows the header; what is wrong with it, or NULL. */
static const char *check_payload(struct slice bytes, struct slice payload)
{
    size_t blocks = block_count(payload.size);
    uint8_t hash[16];

    if (bytes.size !=
        OBJECT_HEADER_SIZE + payload.size + 4 * blocks + sizeof hash + MAGIC_SIZE)
        return "it has another size than its header says";
    const uint8_t *p = payload.data + payload.size;
    for (size_t i = 0; i < blocks; i++, p += 4)
        if (load_u32(p) != block_crc(payload, i))
            return "the checksum of a block does not match";
    xxh3_128(payload.data, payload.size, hash);
    if (memcmp(p, hash, sizeof hash) != 0) return "its checksum does not match";
    if (memcmp(p + sizeof hash, magic, MAGIC_SIZE) != 0)
        return "it does not end with the magic number";
    return NULL;
}

enum err object_decode(struct op *op, const char *key, struct slice bytes,
                       const uint8_t incarnation[16], uint64_t number,
                       struct object *out)
{
    struct object o;
    size_t size = 0;
    const char *wrong = decode_header(bytes, &o, &size);

    if (!wrong) {
        o.payload = slice_of(bytes.data + OBJECT_HEADER_SIZE, size);
        wrong = check_payload(bytes, o.payload);
    }
    if (!wrong && memcmp(o.incarnation, incarnation, sizeof o.incarnation) != 0)
        wrong = "it belongs to another incarnation";
    if (!wrong && o.number != number) wrong = "it carries another number than its name";
    if (wrong) return op_fail(op, ERR_CORRUPT, "object %s is damaged: %s", key, wrong);
    *out = o;
    return ERR_OK;
}

bool object_put_id(struct slice bytes, struct put_id *out)
{
    struct object o;
    size_t size;
    if (decode_header(bytes, &o, &size)) return false;
    *out = o.put_id;
    return true;
}

enum err object_identify(struct op *op, struct store *store, const char *key,
                         size_t size_max, struct buf *out, struct put_id *id)
{
    size_t before = out->size;
    for (int i = 0; i < IDENTIFY_TRIES; i++) {
        enum err e = store_get(op, store, key, size_max, out);
        if (e) return e;
        if (object_put_id(slice_of(out->data + before, out->size - before), id))
            return ERR_OK;
        out->size = before;
    }
    return op_fail(op, ERR_CORRUPT, "object %s is damaged: its header is not whole",
                   key);
}
