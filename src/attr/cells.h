/*
 * cells.h - a row of unsigned numbers in blocks with their least and greatest.
 *
 * What a column is made of: its values as keys that are ordered as the values are, the
 * starts of its arrays, the starts of its strings. A block holds CELL_BLOCK numbers as
 * differences from its least one, in as few whole bytes as they need, so a number is
 * found by one multiplication and most blocks of a scan are decided by their bounds.
 * Layout at the head of cells.c.
 *
 * An open struct cells borrows its bytes and is a value. Opening looks at the blocks'
 * heads only; a number that damage put outside its block's bounds reads as the
 * greatest, so what cells_open promised about the numbers always holds.
 */
#ifndef ATTR_CELLS_H
#define ATTR_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct reader;

enum { CELL_BLOCK = 4096, CELL_WORDS = CELL_BLOCK / 64 };

struct cells {
    const uint8_t *heads;
    const uint8_t *payload;
    uint64_t count;
};

/*
 * Appends count cells. skip (or NULL) has a bit for each: those that are set do not
 * matter; they widen no block and read back as any number of their block, or as they
 * are where a block has no others.
 */
void cells_encode(const uint64_t *keys, uint64_t count, const uint64_t *skip,
                  struct buf *out);

/* Opens count cells whose numbers all lie in [least, most]. False if the bytes are not
 * that; r stands behind them otherwise. */
bool cells_open(struct reader *r, uint64_t count, uint64_t least, uint64_t most,
                struct cells *out);

uint64_t cells_get(const struct cells *c, uint64_t index); /* below count, unchecked */

/* count of them from `first` on. */
void cells_read(const struct cells *c, uint64_t first, size_t count, uint64_t *out);

/* The bounds of a block that has a cell; what cells_get returns lies within. */
void cells_bounds(const struct cells *c, uint64_t block, uint64_t *least,
                  uint64_t *most);

static inline uint64_t cells_block_count(const struct cells *c)
{
    return c->count / CELL_BLOCK + (c->count % CELL_BLOCK != 0);
}

/* The cells in a block: CELL_BLOCK but for the last. */
static inline size_t cells_in_block(const struct cells *c, uint64_t block)
{
    uint64_t left = c->count - block * CELL_BLOCK;
    return left < CELL_BLOCK ? (size_t)left : CELL_BLOCK;
}

/*
 * Numbers to look for: none when empty; otherwise those in [low, high] and, where bits
 * or keys is set, among them only these (where both are, they say the same).
 */
struct key_set {
    bool empty;
    uint64_t low, high;
    const uint64_t *bits; /* bit key - low */
    const uint64_t *keys; /* key_count of them, ascending */
    size_t key_count;
    const struct key_table *table; /* of keys, or NULL */
};

/* A hash table of listed keys, for scans that look up many cells. */
struct key_table {
    uint64_t *slots; /* free ones hold `none` */
    unsigned shift;  /* of the hash: 64 - log2 of their number */
    uint64_t factor; /* odd, nobody can know it: values are the users' */
    uint64_t none;   /* a number that is not listed */
};
/* keys are ascending and leave a number between the least and the greatest out. The
 * slots are the caller's to free. */
void key_table_make(const uint64_t *keys, size_t count, struct key_table *out);

enum match { MATCH_NONE, MATCH_SOME, MATCH_ALL };

/* Which cells of a block are in the set; only MATCH_SOME fills in bits, all CELL_WORDS
 * of them, zero behind the last cell. */
enum match cells_match(const struct cells *c, uint64_t block, const struct key_set *set,
                       uint64_t bits[CELL_WORDS]);

#endif
