/*
 * text_layout.h - the bytes of a text index, for the files that write and read them.
 *
 *    0  u32  magic "ETXT"
 *    4  u16  version of this layout, 4; up to 3 the lists are not in the dictionary's
 *            chunks, up to 2 the rows of dense blocks are gaps too, in 1 terms have no
 *            positions
 *    6  u16  version of the analysis that made the terms (ANALYSIS_VERSION)
 *    8  u8   language; u8 stemming; u8 remove_stopwords; u8 flags: 1 case_sensitive, 2
 *            ascii_folding
 *   12  u32  rows
 *   16  u32  rows with at least one term (documents)
 *   20  u32  different terms
 *   24  u64  terms of all documents together, repeats counted
 *   32  u64  size of the postings; 0 from version 4 on
 *   40  u64  size of the dictionary's chunks (up to version 3: pages)
 *   48  u64  size of the dictionary's index
 *   56  u32  pages of the dictionary
 *   60  u32  zero
 *   64       a byte per row: its length (bm25_length_encode), 0 without terms
 *            up to version 3, the lists of more than POSTINGS_SMALL rows (postings.h)
 *            dictionary chunks with these lists, dictionary index (dictionary.h)
 *
 * The body of a term in the dictionary: varint number of rows; then, for up to
 * POSTINGS_SMALL rows, the list itself, else varints of where it begins in the lists of
 * its chunk (up to version 3: in all postings) and its size; then its positions
 * (positions.h): a small list's, if they are at most POSITIONS_INLINE, as varints, else
 * a varint of where they begin in the bytes of all positions. Those are a string of
 * their own, as only phrases need them.
 *
 * Positions count the words of a text from 0, left-out ones too; an item of an array
 * goes on POSITION_GAP behind the last term of the item before.
 *
 * There is no checksum in here: the segment checks the bytes it is stored in, and a
 * reader takes whatever comes.
 */
#ifndef TEXT_TEXT_LAYOUT_H
#define TEXT_TEXT_LAYOUT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/schema.h"
#include "text/bm25.h"
#include "text/dictionary.h"
#include "text/positions.h"
#include "text/postings.h"

#define TEXT_MAGIC 0x54585445u /* "ETXT" */
enum { TEXT_VERSION = 4, TEXT_HEADER_SIZE = 64 };

struct op;

/* What versions added. */
enum { TEXT_VERSION_POSITIONS = 2, TEXT_VERSION_CHUNKS = 4 };
enum { TEXT_CASE_SENSITIVE = 1, TEXT_ASCII_FOLDING = 2 };

struct text_index {
    struct analysis analysis;
    uint32_t row_count;
    uint32_t document_count;
    uint32_t term_count;
    uint64_t total_length;
    const uint8_t *lengths; /* of row_count rows */
    struct slice postings;  /* of all terms; empty where they are in chunks */
    struct slice positions; /* empty until they are attached */
    bool has_positions;     /* the terms know theirs */
    struct dictionary dictionary;
    struct dictionary_chunk *chunks; /* its own; NULL: all bytes are at hand */
};

/* The list of a term. *found is false when no row holds it. ERR_CORRUPT. */
enum err text_index_list(struct op *op, const struct text_index *t, struct slice term,
                         bool *found, struct postings *out);
/* List and positions in a term's body; positions are not looked up where out_positions
 * is NULL. False if it is damaged, or the positions are not attached. */
bool text_body_open(const struct text_index *t, const struct dictionary_entry *entry,
                    struct postings *out, struct positions *out_positions);

/* Can the row hold a term so often, by what is known of its length? */
static inline bool text_frequency_fits(const struct text_index *t, uint32_t row,
                                       uint32_t frequency)
{
    uint8_t byte = t->lengths[row];
    return frequency <= t->total_length &&
           (byte == UINT8_MAX || frequency < bm25_length_decode((uint8_t)(byte + 1)));
}

/* The numbers of a header; the rest of it is the layout's. */
struct text_totals {
    uint32_t row_count, document_count, term_count;
    uint64_t total_length;
};
/* Appends the index: header, lengths (a byte a row), dictionary, which it releases. */
void text_layout_write(const struct analysis *analysis,
                       const struct text_totals *totals, const uint8_t *lengths,
                       struct dictionary_writer *dictionary, struct buf *out);

/* One term being written; clear it between two. */
struct text_term_rooms {
    struct posting *postings;
    uint32_t *numbers; /* of positions, as positions_encode wants them */
    size_t posting_room, number_room;
    struct buf body;
};
/* Room for so many; what is in it stays. */
void text_term_reserve(struct text_term_rooms *rooms, size_t postings, size_t numbers);
void text_term_release(struct text_term_rooms *rooms);
/* Writes the list and positions that rooms holds, and the term into the dictionary. */
void text_term_write(struct text_term_rooms *rooms, struct slice term, uint32_t count,
                     size_t numbers, const uint8_t *lengths, struct buf *positions,
                     struct dictionary_writer *dictionary);

#endif
