/*
 * segment_ids.h - the ids of a segment, packed for reading from afar. Private to
 * segment/.
 *
 * Opening a segment reads all of its ids, so what they take is what a first query waits
 * for. Packed, numbers one behind the other take next to nothing, random ones a few
 * bits less than 64; of strings what they share with the one before is left out, and
 * the rest is compressed.
 *
 * Numbers: blocks of 1024 rows, the last one shorter:
 *   0  u64  the block's first id
 *   8  u8   bits of a gap, 0 to 64
 *   9       for each further id the gap to the one before it, less 1, packed one behind
 *           the other from the lowest bit on; filled up with zeros to a whole byte
 * Strings: one zstd frame of, per id: u8 bytes shared with the one before, u8 further
 * bytes, these bytes.
 */
#ifndef SEGMENT_SEGMENT_IDS_H
#define SEGMENT_SEGMENT_IDS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/value.h"

struct op;

/* Appends row_count ids, which stand in the form of section "ids": numbers, or the ends
 * of strings and in `bytes` the strings. */
void ids_pack(enum id_kind kind, uint32_t row_count, struct slice ids,
              struct slice bytes, int zstd_level, struct buf *out);
/*
 * The same ids in the form of section "ids", in an empty buf. Numbers ascend; of
 * strings nothing but their sizes is known. ERR_CORRUPT.
 */
enum err ids_unpack(struct op *op, enum id_kind kind, uint32_t row_count,
                    struct slice packed, struct buf *out);

#endif
