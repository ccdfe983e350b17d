/*
 * text_list.h - lists that a query makes: the rows of a phrase, and of several terms
 * that count as one.
 *
 * Such a list has the form of a stored one, its bounds included, so it is searched like
 * a term's, pruned and filtered. Making it costs a walk through the postings of its
 * terms, those of deleted and filtered rows too. The op is checked once a block.
 */
#ifndef TEXT_TEXT_LIST_H
#define TEXT_TEXT_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct text_index;

struct text_list {
    struct buf bytes; /* postings.h */
    uint32_t count;   /* postings in it; 0: no bytes */
};

struct phrase_term {
    struct slice term;
    uint32_t offset; /* words behind the phrase's first one; ascending */
};

/*
 * The rows in which all terms stand at their offsets, and how often they do. Needs the
 * positions attached. ERR_CORRUPT; ERR_INVALID for an index without positions.
 */
enum err text_list_phrase(struct op *op, const struct text_index *t,
                          const struct phrase_term *terms, size_t count,
                          struct text_list *out);
/* The rows that hold any of the terms (all different), with the sum of their
 * frequencies. ERR_CORRUPT. */
enum err text_list_union(struct op *op, const struct text_index *t,
                         const struct slice *terms, size_t count,
                         struct text_list *out);
void text_list_release(struct text_list *l);

#endif
