/*
 * highlight.h - the places of a text that a query found, marked up for people.
 *
 * A text is analysed again as it was for its index; what became one of the terms, or
 * takes part in one of the phrases, is a mark. Marks that are close to each other make
 * a fragment; of all fragments those with the most different terms are chosen, and come
 * back in the order of the text. A fragment is a piece of HTML: marks stand between
 * <em> and </em>, and every & < > " and ' of the text is an entity, so that it can be
 * put on a page as it is.
 */
#ifndef TEXT_HIGHLIGHT_H
#define TEXT_HIGHLIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/schema.h"
#include "doc/value.h"
#include "text/text_list.h"

struct op;

enum {
    HIGHLIGHT_FRAGMENTS_MAX = 3,
    HIGHLIGHT_SPAN = 120,        /* bytes from a fragment's first mark to its last */
    HIGHLIGHT_AROUND = 40,       /* bytes that may stand before and behind */
    HIGHLIGHT_TEXT_MAX = 1 << 18 /* bytes of a text that are looked at */
};

struct highlight_phrase {
    const struct phrase_term *terms;
    size_t count;
};

/* What to mark in a field; all of it is borrowed. */
struct highlight_query {
    const struct analysis *analysis;
    const struct slice *terms; /* ascending, no two equal */
    size_t term_count;
    const struct highlight_phrase *phrases;
    size_t phrase_count;
};

/*
 * The fragments of a value, in op's arena; *count is 0 where nothing is marked. v is a
 * string or an array of strings, each a text of its own. ERR_LIMIT.
 */
enum err highlight_value(struct op *op, const struct highlight_query *q, bool array,
                         const struct value *v, struct slice **fragments,
                         size_t *count);

#endif
