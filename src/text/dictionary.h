/*
 * dictionary.h - the sorted terms of an index, each with a few bytes of its own.
 *
 * Made for reading from an object store: pages of about 16 KiB, and beside them a small
 * index of the pages' first terms, so a look-up needs one page. Within a page terms
 * stand in runs of 16, each run's first one whole, so a look-up in memory halves its
 * way to a run and walks at most 16 terms.
 *
 *   page    u16 runs, then u16 per run: where it begins in the page; then entries:
 *           u8 bytes shared with the term before (0 at a run's start), u8 more bytes,
 *           u8 size of the body, the more bytes, the body
 *   index   u32 per page, and one for the end: where it begins in the pages;
 *           u32 per page, and one for the end: where its first term begins, counted
 * from behind these numbers; then these terms
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
    struct buf pages;
    struct buf page_offsets, key_offsets, keys; /* of the index */
    struct buf entries;                         /* of the page being filled */
    struct buf runs;
    struct buf last; /* the term before */
    uint32_t in_run;
    uint32_t page_count;
};
#define DICTIONARY_WRITER_INIT ((struct dictionary_writer){0})

/* Terms come in ascending order (asserted), each of 1 to DICTIONARY_TERM_MAX bytes. */
void dictionary_put(struct dictionary_writer *w, struct slice term, struct slice body);
/* Appends pages and index to two buffers and releases the writer; an empty buffer takes
 * the pages over. */
void dictionary_finish(struct dictionary_writer *w, struct buf *pages,
                       struct buf *index, uint32_t *page_count);

/* Releases a writer that is not to be finished; harmless on an empty one. */
void dictionary_writer_release(struct dictionary_writer *w);

/* ---- reading ---- */

struct dictionary {
    struct slice pages, index; /* borrowed, any bytes */
    uint32_t page_count;
};

/* False unless the index has room for page_count pages. */
bool dictionary_open(struct slice pages, struct slice index, uint32_t page_count,
                     struct dictionary *out);
enum dictionary_found { DICTIONARY_ABSENT, DICTIONARY_FOUND, DICTIONARY_DAMAGED };
/* The body of a term. */
enum dictionary_found dictionary_find(const struct dictionary *d, struct slice term,
                                      struct slice *body);

/* A walk over the terms in ascending order. */
struct dictionary_walk {
    const struct dictionary *dictionary;
    struct slice page; /* the one at hand */
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
