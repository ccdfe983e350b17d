/*
 * text_layout.h - the bytes of a text index, for the files that write and read them.
 *
 *    0  u32  magic "ETXT"
 *    4  u16  version of this layout, 1
 *    6  u16  version of the analysis that made the terms (ANALYSIS_VERSION)
 *    8  u8   language; u8 stemming; u8 remove_stopwords; u8 case_sensitive
 *   12  u32  rows
 *   16  u32  rows with at least one term (documents)
 *   20  u32  different terms
 *   24  u64  terms of all documents together, repeats counted
 *   32  u64  size of the postings
 *   40  u64  size of the dictionary's pages
 *   48  u64  size of the dictionary's index
 *   56  u32  pages of the dictionary
 *   60  u32  zero
 *   64       a byte per row: its length (bm25_length_encode), 0 without terms
 *            postings: the lists of more than POSTINGS_SMALL rows (postings.h)
 *            dictionary pages, dictionary index (dictionary.h)
 *
 * The body of a term in the dictionary: varint number of rows; then, for up to
 * POSTINGS_SMALL rows, the list itself, else varints of where it begins in the postings
 * and its size. There is no checksum in here: the segment checks the bytes it is stored
 * in, and a reader takes whatever comes.
 */
#ifndef TEXT_TEXT_LAYOUT_H
#define TEXT_TEXT_LAYOUT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/dictionary.h"
#include "text/postings.h"

#define TEXT_MAGIC 0x54585445u /* "ETXT" */
enum { TEXT_VERSION = 1, TEXT_HEADER_SIZE = 64 };

struct op;

struct text_index {
    uint32_t row_count;
    uint32_t document_count;
    uint64_t total_length;
    const uint8_t *lengths; /* of row_count rows */
    struct slice postings;
    struct dictionary dictionary;
};

/* The list of a term. *found is false when no row holds it. ERR_CORRUPT. */
enum err text_index_list(struct op *op, const struct text_index *t, struct slice term,
                         bool *found, struct postings *out);

#endif
