/*
 * positions.h - where in its texts a term stands, as stored bytes.
 *
 * The positions of a posting are as many ascending numbers as its frequency says; the
 * ones of a list follow its postings. Stored is the first number, then each less the
 * one before, less 1. A long list is cut where its postings are: positions of a block
 * of 128 postings are one block, behind a table that says for each block where it
 * begins (u32, counted from the end of the table). A small list is one block, without a
 * table. A block: u8 bits of a number, then the numbers, packed one behind the other
 * from the lowest bit on.
 *
 * Tiny sets (POSITIONS_INLINE numbers) are varints beside the list in the dictionary.
 * Readers take any bytes: what is no list ends early and says so.
 */
#ifndef TEXT_POSITIONS_H
#define TEXT_POSITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "text/postings.h"

enum {
    POSITIONS_INLINE = 16, /* numbers of a small list that stay in the dictionary */
    POSITION_GAP = 128     /* between two items of an array: no phrase is as long */
};

/* ---- writing ---- */

/* Appends the positions of count postings; numbers: as stored, before packing. */
void positions_encode(const struct posting *postings, size_t count,
                      const uint32_t *numbers, struct buf *out);

/* ---- reading ---- */

/* The positions of one list. */
struct positions {
    struct slice bytes; /* borrowed: from where they begin, with what follows them */
    uint32_t block_count;
    bool small;
    bool in_dictionary; /* varints */
};

/* The positions of one posting, ascending. */
struct position_walk {
    struct slice bytes;
    uint64_t offset; /* in bits; of varints in bytes */
    uint64_t next;   /* least that the next position can be */
    uint32_t left;
    uint8_t bits;
    bool varints;
    bool damaged; /* the bytes ended, or a position does not fit 32 bits */
};

/* Starts on the at-th posting of the block that rows holds. */
void positions_walk(const struct positions *p, uint32_t block,
                    const struct postings_block *rows, uint32_t at,
                    struct position_walk *out);
/* The next position; false at the end, or where bytes are damaged. */
bool position_next(struct position_walk *w, uint32_t *position);

#endif
