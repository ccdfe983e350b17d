/*
 * expand.h - the terms of an index that a word may stand for: those that begin with it,
 * and those that are few edits away.
 *
 * A fuzzy match is at most `edits` changes from the word, each of which inserts, leaves
 * out or replaces a character or exchanges two neighbours (Lucene's automaton accepts
 * the same); as in Lucene the changes must be fewer than the characters of either, so
 * that nothing matches a word with which it shares no character.
 */
#ifndef TEXT_EXPAND_H
#define TEXT_EXPAND_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct text_index;

enum { FUZZY_EDITS_MAX = 2 };

struct expansion {
    size_t term, term_size; /* in bytes of struct expansions */
    uint32_t frequency;     /* rows of the index that hold it */
    uint8_t edits;
    uint8_t length; /* characters of the shorter one of word and term */
};

/* Terms in ascending order. Starts as all zeros. */
struct expansions {
    struct buf items; /* struct expansion */
    struct buf bytes;
};
void expansions_release(struct expansions *e);

/* Appends the terms that begin with the prefix (not empty). ERR_CORRUPT. */
enum err expand_prefix(struct op *op, const struct text_index *t, struct slice prefix,
                       struct expansions *out);
/* Appends the terms within `edits` of the word, itself too. ERR_CORRUPT. */
enum err expand_fuzzy(struct op *op, const struct text_index *t, struct slice word,
                      uint8_t edits, struct expansions *out);

#endif
