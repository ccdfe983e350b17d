/*
 * segment_format.h - the bytes of a segment, version 1. Private to segment/.
 *
 * Everything is little endian; offsets count from the start of the object.
 *
 *   header | section | section | … | directory | footer
 *
 * Header, 64 bytes, always the same: 0 "elacsegm", 8 u32 version, 12 zeros.
 *
 * Sections lie in the order of the directory (that of the table below, then by field),
 * each at a multiple of 64, the gap filled with zeros that belong to the section
 * before. A section is checked in blocks of block_size bytes (the last one with its
 * gap): CRC32C of each in the directory. Documents and records of the vector index are
 * checked by sums of their own.
 *
 *   kind             field      content
 *    1 vectors       0          f32[dim] of each row that has a vector, in row order;
 *                               block_size is a multiple of the vector's size
 *    2 documents     0          blocks of records, block_size 0
 *    3 column        attribute  attr/column.c; only where a value is not null
 *    4 text          attribute  text/text_index.c; of full_text attributes that have a
 *                               column
 *    5 norms         0          cosine only: f32 per vector, 1 / length, or 0 where the
 *                               length is 0 or not within 1e-30 to 1e30 (such a vector
 *                               is scored in double precision)
 *   10 slots         0          of the vector index (vec/ivf_format.h)
 *   11 records       0          of the vector index, block_size 0: the index holds the
 *                               CRC32C of each
 *    6 presence      0          u64[(rows + 63) / 64], bit row % 64 of word row / 64:
 *                               the row has a vector; only if some have and some do not
 *    7 document index 0         per block of documents: u32 first row, u32 size of the
 *                               records, u32 size as stored (smaller: one zstd frame),
 *                               u32 CRC32C of the stored bytes (of the last block with
 *                               the section's gap)
 *    8 ids           0          u64[rows], or for strings u32 end[rows] and the bytes;
 *                               strictly ascending
 *   13 packed ids    0          the same, as segment_ids.h has it
 *   14 terms         attribute  head of a large text (text/text_index.h)
 *    9 index         0          head of the vector index
 *   12 positions     attribute  text/positions.h, of a text, behind the texts
 *
 * The three sections of the vector index are all there or none. Positions are there
 * where they are not empty, terms where the text is large, and neither is in segments
 * from before there were any. There are ids or packed ids. Of all others the counts
 * decide.
 *
 * A block of documents is a run of records, one a row: varint size, then varint count
 * of values that are not null and for each, by ascending attribute: varint attribute,
 * value (docs/formats.md "value"). Documents and their index are there when any value
 * is.
 *
 * Directory: u32 rows, u32 vectors, u32 dim, u8 metric, u8 kind of ids, u16 attributes;
 * per attribute u8 type, u8 flags (1 array, 2 full text), u32 values that are not null;
 * u32 sections; per section u16 kind, u16 field, u32 block_size, u64 offset, u64 size,
 * u32 CRC32C per block.
 *
 * Footer, 64 bytes: 0 u64 resident offset (where the first of the sections 6 to 9
 * or 13 starts: from here on a reader keeps everything), 8 u64 directory offset, 16 u64
 * size of the object, 24 XXH3-128 of the directory, 40 u32 version, 44 u64 zero, 52 u32
 * CRC32C of footer[0, 52), 56 "elacsend".
 *
 * So every byte is checked by something that is checked: section and gap by directory,
 * document index or vector index, directory by footer, footer by itself, header by
 * being constant. The last bytes of an object stand for all of them.
 */
#ifndef SEGMENT_SEGMENT_FORMAT_H
#define SEGMENT_SEGMENT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/schema.h"
#include "doc/value.h"

struct op;

enum {
    SEGMENT_VERSION = 1,
    SEGMENT_HEADER_SIZE = 64,
    SEGMENT_FOOTER_SIZE = 64,
    SECTION_ALIGNMENT = 64,
    CHECK_BLOCK_SIZE = 64 << 10,
    CHECK_BLOCK_MAX = 1 << 20,
    TEXT_BLOCK_SIZE = 16 << 10,   /* texts are read by small ranges … */
    VECTOR_BLOCK_SIZE = 16 << 10, /* … and vectors one by one */
    DOCUMENT_BLOCK_MAX = 1 << 30,
    SEGMENT_ROWS_MAX = 1 << 26 /* string ids of 64 bytes still fit 32 bits of offset */
};

enum section_kind {
    SECTION_VECTORS = 1,
    SECTION_DOCUMENTS,
    SECTION_COLUMN,
    SECTION_TEXT,
    SECTION_NORMS,
    SECTION_PRESENCE,
    SECTION_DOCUMENT_INDEX,
    SECTION_IDS,
    SECTION_INDEX,
    SECTION_SLOTS,
    SECTION_RECORDS,
    SECTION_POSITIONS,
    SECTION_PACKED_IDS,
    SECTION_TERMS,
    SECTION_KINDS
};

/* Is the section among those that a reader keeps? */
static inline bool section_is_resident(enum section_kind kind)
{
    return (kind >= SECTION_PRESENCE && kind <= SECTION_INDEX) ||
           kind == SECTION_PACKED_IDS || kind == SECTION_TERMS;
}

enum { INDEX_SECTIONS = 3 };

struct section {
    enum section_kind kind;
    uint32_t field;
    uint32_t block_size;   /* 0: documents and records, which have their own */
    uint64_t offset, size; /* without the gap behind it */
    struct slice checks;   /* u32 per block */
};

struct segment_attr {
    enum attr_type type;
    bool array, full_text;
    uint32_t value_count;
};

struct segment_layout {
    uint32_t row_count, vector_count, vector_dim;
    enum metric_kind metric;
    enum id_kind id_kind;
    uint32_t attr_count, section_count;
    struct segment_attr *attrs; /* one allocation with sections */
    struct section *sections;
    bool any_value; /* of any attribute of any row */
    bool indexed;   /* there is a vector index */
    uint64_t resident_offset;
};

struct segment_footer {
    uint64_t resident_offset, directory_offset;
    uint8_t digest[16];
};

/* Where the section's gap ends and the next section, or the directory, starts. */
static inline uint64_t section_end(const struct section *s)
{
    return (s->offset + s->size + SECTION_ALIGNMENT - 1) &
           ~(uint64_t)(SECTION_ALIGNMENT - 1);
}

/* The section, or NULL. */
const struct section *layout_section(const struct segment_layout *l,
                                     enum section_kind kind, uint32_t field);
/* The section in whose bytes or gap offset lies; NULL if there is none. */
const struct section *layout_section_at(const struct segment_layout *l,
                                        uint64_t offset);

/* Bytes of a check block of vectors: whole vectors, about VECTOR_BLOCK_SIZE. */
uint32_t vector_block_size(uint32_t dim);

/* ---- writing: out's bytes from start on are the object ---- */

void segment_header_encode(struct buf *out);
/* How many checks a section has. */
uint64_t section_block_count(const struct section *s);
/* Fills the gap behind the section, then appends the sums of its blocks to checks. op
 * rests meanwhile. */
void section_seal(struct op *op, struct section *s, size_t start, struct buf *out,
                  struct buf *checks);
/* Appends directory and footer. */
void segment_directory_encode(const struct segment_layout *l, size_t start,
                              struct buf *out);

/* ---- reading: any bytes are answered by ERR_OK or ERR_CORRUPT ---- */

/* tail: the last SEGMENT_FOOTER_SIZE bytes of an object of `size` bytes. */
enum err segment_footer_decode(struct op *op, struct slice tail, uint64_t size,
                               struct segment_footer *out);
enum err segment_header_check(struct op *op, struct slice header);
/*
 * Borrows the checks from directory. Afterwards the sections lie one behind the other
 * from header to directory, are those that the counts call for, and have the sizes that
 * follow from the counts.
 */
enum err segment_directory_decode(struct op *op, struct slice directory,
                                  const struct segment_footer *footer,
                                  struct segment_layout *out);
void segment_layout_release(struct segment_layout *l);

/*
 * Compares data, which lies at offset and starts and ends with blocks of the section
 * (or ends with its gap), with the section's checks. ERR_CORRUPT names the block.
 */
enum err section_check(struct op *op, const struct section *s, uint64_t offset,
                       struct slice data);
const char *section_kind_name(enum section_kind kind);

/* ---- the blocks of documents ---- */

struct document_block {
    uint32_t first_row, raw_size, stored_size, check;
    uint64_t offset; /* from the section's start */
};

void document_block_encode(const struct document_block *b, struct buf *index);
/* Appends struct document_block to blocks. documents is the section they lie in. */
enum err document_index_decode(struct op *op, struct slice index,
                               const struct section *documents, uint32_t row_count,
                               struct buf *blocks);

/* ---- records ---- */

/* One document's values as they are stored. */
void record_encode(const struct schema *schema, const struct value *values,
                   struct buf *out);
/*
 * values has attr_count entries, all null before; attributes from attr_count on are
 * passed over. Strings borrow from record, arrays are op's. ERR_CORRUPT, ERR_LIMIT.
 */
enum err record_decode(struct op *op, const struct segment_layout *l,
                       struct slice record, struct value *values, uint32_t attr_count);

#endif
