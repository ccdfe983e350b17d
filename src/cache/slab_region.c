#include "cache/slab_region.h"

#include <string.h>

#include "base/codec.h"
#include "base/mem.h"

enum { TABLE_GUESS = 32 << 10 }; /* of 2000 pieces */

void slab_table_add(struct buf *table, uint64_t tag, uint64_t offset)
{
    uint8_t bytes[SLAB_TABLE_ENTRY_SIZE];
    struct slab_table_entry entry = {.tag = tag,
                                     .unit = (uint32_t)(offset / SLAB_UNIT)};
    slab_table_encode(&entry, bytes);
    buf_append(table, bytes, sizeof bytes);
}

struct slab_table_entry slab_table_at(const struct buf *table, size_t index)
{
    return slab_table_decode(table->data + index * SLAB_TABLE_ENTRY_SIZE);
}

size_t slab_table_count(const struct buf *table)
{
    return table->size / SLAB_TABLE_ENTRY_SIZE;
}

uint64_t slab_region_room(const struct slab_file *f, uint64_t table_size)
{
    return f->region_size - SLAB_TRAILER_SIZE - table_size;
}

static bool read_sealed(const struct slab_file *f, struct slab_region *r)
{
    uint8_t bytes[SLAB_TRAILER_SIZE];
    uint64_t start = slab_region_offset(f, r->region);
    uint64_t trailer_offset = f->region_size - SLAB_TRAILER_SIZE;
    struct slab_trailer trailer;

    if (!slab_file_read(f, start + trailer_offset, bytes, sizeof bytes) ||
        !slab_trailer_decode(bytes, &trailer) || trailer.sequence != r->sequence)
        return false;
    uint64_t size = (uint64_t)trailer.count * SLAB_TABLE_ENTRY_SIZE;
    uint64_t end = (uint64_t)trailer.end * SLAB_UNIT;
    if (size > trailer_offset || end < SLAB_HEAD_SIZE ||
        end > slab_region_room(f, size))
        return false;
    buf_reserve(&r->table, size);
    if (!slab_file_read(f, start + trailer_offset - size, r->table.data, size))
        return false;
    if (crc32c(0, r->table.data, size) != trailer.table_crc) return false;
    r->table.size = size;
    r->end = end;
    return true;
}

/* The record at `at` with all that may come before `end`; false if there is none of
 * this life of the region. */
static bool walk_step(const struct slab_file *f, const struct slab_region *r,
                      uint64_t at, uint64_t end, struct slab_record *record)
{
    uint8_t front[SLAB_RECORD_FRONT_MAX];
    if (at + SLAB_RECORD_HEAD_SIZE >= end) return false;
    size_t size = end - at < sizeof front ? (size_t)(end - at) : sizeof front;
    return slab_file_read(f, slab_region_offset(f, r->region) + at, front, size) &&
           slab_record_decode(front, size, record) && record->sequence == r->sequence &&
           slab_record_size(&record->id) <= end - at;
}

static bool data_whole(const struct slab_file *f, uint64_t offset,
                       const struct slab_record *record)
{
    uint8_t *data = mem_alloc(record->id.size);
    offset += SLAB_RECORD_HEAD_SIZE + strlen(record->key);
    bool whole = slab_file_read(f, offset, data, record->id.size) &&
                 xxh3_64(data, record->id.size) == record->data_hash;
    mem_free(data);
    return whole;
}

/* Record by record. The last one may have been cut off while it was written. */
static void walk(const struct slab_file *f, struct slab_region *r)
{
    struct slab_record record, last = {.sequence = 0};
    uint64_t at = SLAB_HEAD_SIZE, last_at = at;

    buf_clear(&r->table);
    while (walk_step(f, r, at,
                     slab_region_room(f, r->table.size + SLAB_TABLE_ENTRY_SIZE),
                     &record)) {
        slab_table_add(&r->table, slab_tag(&record.id), at);
        last = record;
        last.id.key = last.key;
        last_at = at;
        at += slab_record_size(&record.id);
    }
    r->end = at;
    if (last.sequence == 0 ||
        data_whole(f, slab_region_offset(f, r->region) + last_at, &last))
        return;
    r->table.size -= SLAB_TABLE_ENTRY_SIZE;
    r->end = last_at;
}

void slab_region_read(const struct slab_file *f, uint32_t region, struct slab_region *r)
{
    uint8_t head[SLAB_HEAD_SIZE];
    *r = (struct slab_region){.region = region, .table = BUF_INIT};
    if (!slab_file_read(f, slab_region_offset(f, region), head, sizeof head) ||
        !slab_head_decode(head, &r->sequence) ||
        r->sequence % SLAB_REGIONS_MAX != region)
        return;
    if (!read_sealed(f, r)) walk(f, r);
}

void slab_regions_expect(const struct slab_file *f, uint32_t count)
{
    for (uint32_t region = 0; region < count; region++) {
        uint64_t start = slab_region_offset(f, region), end = start + f->region_size;
        slab_file_expect(f, start, SLAB_HEAD_SIZE);
        slab_file_expect(f, end - TABLE_GUESS, TABLE_GUESS);
    }
}
