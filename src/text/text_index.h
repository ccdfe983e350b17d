/*
 * text_index.h - the inverted index of one full-text field of a segment.
 *
 * Bytes in, bytes out; no I/O, no threads. Layout at the head of text_index.c. An open
 * index borrows its bytes, is immutable and may be searched by many threads.
 */
#ifndef TEXT_TEXT_INDEX_H
#define TEXT_TEXT_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/topk.h"
#include "doc/schema.h"
#include "doc/value.h"

struct op;
struct rowset;
struct text_list;
struct text_builder;
struct text_index;

struct text_builder *text_builder_new(const struct analysis *analysis);
/* Rows come in ascending order; a row without text may be left out. v is a string or an
 * array of strings (searched as one text with a position gap between items). */
void text_builder_add(struct text_builder *b, uint32_t row, bool array,
                      const struct value *v);
/* Appends the index's bytes, and those of its positions to a buffer of their own, and
 * frees the builder. */
void text_builder_finish(struct text_builder *b, uint32_t row_count, struct buf *out,
                         struct buf *positions);
void text_builder_free(struct text_builder *b); /* NULL is fine */

/* ERR_CORRUPT unless the bytes are an index of row_count rows; afterwards no read goes
 * out of bounds. */
enum err text_index_open(struct op *op, struct slice bytes, uint32_t row_count,
                         struct text_index **out);
void text_index_close(struct text_index *t); /* NULL is fine */

/*
 * An index far away is read by ranges of its bytes: its head, which is small, is kept;
 * for a search come the lengths, and for each term the chunk of the dictionary that it
 * would be in, which holds its list too (dictionary.h).
 */

/* Appends the head of an index just written. */
void text_index_head(struct slice bytes, struct buf *out);
/* An index of `size` bytes of which nothing but the head is at hand, which is borrowed:
 * to ask for ranges. ERR_CORRUPT. */
enum err text_index_open_head(struct op *op, struct slice head, uint32_t row_count,
                              uint64_t size, struct text_index **out);

struct text_chunk {
    uint32_t page;
    uint64_t offset, size; /* in the bytes of the index */
    struct slice bytes;
};
/* Where the lengths end, which lie behind what the header takes. */
uint64_t text_index_lengths_end(const struct text_index *t);
/* All of the chunk that the term would be in but its bytes. False if there are no
 * terms, or the head is damaged. */
bool text_index_chunk(const struct text_index *head, struct slice term,
                      struct text_chunk *out);
/*
 * The index with its bytes up to the lengths' end, and n chunks; all are borrowed, as
 * the head's are. It can be asked for the terms of these chunks and for its counts;
 * other terms are ERR_CORRUPT, or 0 rows. It has no positions.
 */
struct text_index *text_index_of_chunks(const struct text_index *head,
                                        struct slice begin,
                                        const struct text_chunk *chunks, size_t n);
/* Lends the index its positions, any bytes; phrases need them. */
void text_index_attach(struct text_index *t, struct slice positions);

/* Of this index alone; the caller sums over all segments before scoring. Rows that were
 * deleted since stay counted until they are merged away. */
uint64_t text_index_document_count(const struct text_index *t); /* with >= 1 term */
uint64_t text_index_total_length(const struct text_index *t);   /* terms, repeats too */
uint64_t text_index_frequency(const struct text_index *t, struct slice term);

/* One term of a query in one field, or a list made for it. */
struct text_clause {
    const struct text_index *index; /* NULL: this segment lacks the field */
    struct slice term;
    const struct text_list *made; /* of this index, instead of the term; or NULL */
    uint32_t group; /* words of the query; for `and` each group must match */
    float weight;   /* field weight * repeats * idf over all segments; finite, >= 0 */
    const float *inverse; /* bm25_norms of the field over all segments */
};

struct text_search {
    const struct text_clause *clauses;
    size_t clause_count;
    uint32_t group_count;
    bool all_groups;              /* operator and */
    const struct rowset *allowed; /* filter and live rows; NULL: all rows */
    uint32_t source;              /* goes into the hits */
    uint32_t row_count;
};

/*
 * Scores the rows that hold any clause (or one of every group) and pushes them. A row's
 * score is the float sum of its clauses' scores in clause order. Of two rows of the
 * source with equal scores best must prefer the lower one (rows ascend by id). *scored
 * counts postings looked at. op is checked once a block.
 */
enum err text_index_search(struct op *op, const struct text_search *search,
                           struct topk *best, uint64_t *scored);

#endif
