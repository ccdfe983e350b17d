/*
 * slab_format.h - the bytes of the disk cache's one file, "ranges.slab".
 *
 *   file     header (4096), then regions of one size
 *   region   head (64), records without gaps, ..., table, trailer (64) at its very end
 *   record   head (48), key, data, zeros up to a multiple of 64
 *   table    16 bytes a record, ending where the trailer begins
 *
 * All little endian; offsets are stored in units of 64 bytes from the region's start.
 * A region's sequence is drawn anew whenever it is written from its start, stands in
 * its head, in each of its records and in its trailer, and is congruent to its number
 * modulo SLAB_REGIONS_MAX: what an earlier life of the region left behind is told from
 * what this one wrote. A region without a matching trailer (the process died) is walked
 * record by record. docs/formats.md has the layout by offset.
 *
 * Decoders accept any bytes and say false to what they did not write.
 */
#ifndef CACHE_SLAB_FORMAT_H
#define CACHE_SLAB_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

enum {
    SLAB_VERSION = 1,
    SLAB_HEADER_SIZE = 4096,
    SLAB_UNIT = 64,
    SLAB_HEAD_SIZE = 64, /* of a region */
    SLAB_TRAILER_SIZE = 64,
    SLAB_RECORD_HEAD_SIZE = 48,
    SLAB_TABLE_ENTRY_SIZE = 16,
    SLAB_REGIONS_MAX = 8192,
    SLAB_REGION_MIN = 64 << 10, /* bytes; a multiple of 4096 as every region's */
    SLAB_PIECE_MAX = 256 << 10  /* data of one record */
};

/* What a record holds: size bytes of object `key` from offset on. */
struct slab_id {
    const char *key;
    uint64_t offset;
    uint32_t size; /* 1 to SLAB_PIECE_MAX */
};

/* A hash of id, never 0; stands in tables, so it is part of the format. */
uint64_t slab_tag(const struct slab_id *id);

void slab_header_encode(uint64_t region_size, uint8_t out[SLAB_HEADER_SIZE]);
bool slab_header_decode(const uint8_t in[SLAB_HEADER_SIZE], uint64_t *region_size);

void slab_head_encode(uint32_t sequence, uint8_t out[SLAB_HEAD_SIZE]);
bool slab_head_decode(const uint8_t in[SLAB_HEAD_SIZE], uint32_t *sequence);

struct slab_trailer {
    uint32_t sequence;
    uint32_t count; /* of table entries */
    uint32_t end;   /* unit behind the last record */
    uint32_t table_crc;
};
void slab_trailer_encode(const struct slab_trailer *t, uint8_t out[SLAB_TRAILER_SIZE]);
bool slab_trailer_decode(const uint8_t in[SLAB_TRAILER_SIZE], struct slab_trailer *t);

struct slab_table_entry {
    uint64_t tag;
    uint32_t unit;
};
void slab_table_encode(const struct slab_table_entry *entry,
                       uint8_t out[SLAB_TABLE_ENTRY_SIZE]);
struct slab_table_entry slab_table_decode(const uint8_t in[SLAB_TABLE_ENTRY_SIZE]);

/* A record's head, and its key where it is in the same bytes. */
struct slab_record {
    uint32_t sequence;
    struct slab_id id;
    uint64_t data_hash;
    char key[STORE_KEY_MAX + 1]; /* what id.key points at after decoding */
};
enum { SLAB_RECORD_FRONT_MAX = SLAB_RECORD_HEAD_SIZE + STORE_KEY_MAX };

/* Head and key; returns their size. */
size_t slab_record_encode(const struct slab_record *r,
                          uint8_t out[SLAB_RECORD_FRONT_MAX]);
/* True if in, of which size bytes are there, starts with the head and key of a record.
 */
bool slab_record_decode(const uint8_t *in, size_t size, struct slab_record *r);
/* In the file, with the zeros behind it. */
uint64_t slab_record_size(const struct slab_id *id);

#endif
