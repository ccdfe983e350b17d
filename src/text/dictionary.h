/*
 * dictionary.h - the sorted terms of an index, each with a few bytes of its own.
 *
 * Made for reading from an object store: pages of about 16 KiB, each right behind the
 * lists of its terms (a chunk), and beside them a small index of the pages' first
 * terms, so that a look-up needs one chunk, and one request gets it. Within a page
 * terms stand in runs of 16, each run's first one whole, so a look-up in memory halves
 * its way to a run and walks at most 16 terms.
 *
 *   chunk   lists of the page's terms, one behind the other; the page
 *   page    u16 runs, then u16 per run: where it begins in the page; then entries:
 *           u8 bytes shared with the term before (0 at a run's start), u8 more bytes,
 *           u8 size of the body, the more bytes, the body
 *   index   u64 per page, and one for the end: where its chunk begins; u32 per page,
 *           and one for the end: where its first term begins, counted from behind these
 *           numbers; u32 per page: its size; then these terms
 *
 * Before there were chunks the lists were elsewhere. The index was: u32 per page, and
 * one for the end, where it begins; where its first term begins; these terms.
 */
#ifndef TEXT_DICTIONARY_H
#define TEXT_DICTIONARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { DICTIONARY_BODY_MAX = 255, DICTIONARY_TERM_MAX = 255 };

/* ---- writing ---- */

struct dictionary_writer {
    struct buf pages; /* chunks */
    size_t chunk;     /* where the one being filled begins */
    struct buf chunk_begins, key_offsets, page_sizes, keys; /* of the index */
    struct buf entries; /* of the page being filled */
    struct buf runs;
    struct buf last; /* the term before */
    uint32_t in_run;
    uint32_t page_count;
};
#define DICTIONARY_WRITER_INIT ((struct dictionary_writer){0})

/* Where the lists of the chunk are that the next term will be in: its list is to be
 * appended. *begin: where it will begin among the chunk's lists. */
struct buf *dictionary_lists(struct dictionary_writer *w, size_t *begin);
/* Terms come in ascending order (asserted), each of 1 to DICTIONARY_TERM_MAX bytes. */
void dictionary_put(struct dictionary_writer *w, struct slice term, struct slice body);
/* Appends pages and index to two buffers and releases the writer; an empty buffer takes
 * the pages over. */
void dictionary_finish(struct dictionary_writer *w, struct buf *pages,
                       struct buf *index, uint32_t *page_count);

/* Releases a writer that is not to be finished; harmless on an empty one. */
void dictionary_writer_release(struct dictionary_writer *w);

/* ---- reading ---- */

/* A chunk at hand. */
struct dictionary_chunk {
    uint32_t page;
    struct slice bytes;
};

struct dictionary {
    struct slice pages, index; /* borrowed, any bytes */
    uint64_t pages_size;
    uint32_t page_count;
    bool chunked; /* pages lie behind their lists */
    /* Where pages has no data, only these are at hand; borrowed. */
    const struct dictionary_chunk *chunks;
    size_t chunk_count;
};

/* False unless the index has room for page_count pages. */
bool dictionary_open(struct slice pages, struct slice index, uint32_t page_count,
                     bool chunked, struct dictionary *out);
enum dictionary_found { DICTIONARY_ABSENT, DICTIONARY_FOUND, DICTIONARY_DAMAGED };
/* What there is of a term. */
struct dictionary_entry {
    struct slice body;
    struct slice lists; /* of its chunk */
};
/* A term whose chunk is not at hand is DICTIONARY_DAMAGED. */
enum dictionary_found dictionary_find(const struct dictionary *d, struct slice term,
                                      struct dictionary_entry *out);
/* Of the chunk that a term is in, if it is anywhere: its page, where it lies among the
 * chunks, its size. False if there are no chunks, or the index is damaged. */
bool dictionary_chunk_of(const struct dictionary *d, struct slice term, uint32_t *page,
                         uint64_t *offset, uint64_t *size);

/* A walk over the terms in ascending order. */
struct dictionary_walk {
    const struct dictionary *dictionary;
    struct slice page, lists; /* at hand */
    uint32_t next_page;
    size_t at; /* in the page, of the next entry */
    uint32_t in_run;
    bool damaged;
    struct slice body; /* of the term at hand */
    size_t size;
    uint8_t term[DICTIONARY_TERM_MAX];
};

/* The next term comes to be the first one that is at least `from`. */
void dictionary_walk_seek(const struct dictionary *d, struct slice from,
                          struct dictionary_walk *w);
/* False at the end, or where bytes are damaged. */
bool dictionary_walk_next(struct dictionary_walk *w);

#endif
