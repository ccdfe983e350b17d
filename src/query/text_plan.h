/*
 * text_plan.h - what a full-text query asks of each field: words, phrases, beginnings
 * of words, words spelt otherwise; and how rare each of them is over all sources.
 *
 * A query is text with phrases in double quotes; a quote without a partner is none. The
 * parts of a plan that stem from one word or one phrase, whatever the field, are one
 * unit: `and` asks for each unit in at least one field. A plan lives in op's arena.
 */
#ifndef QUERY_TEXT_PLAN_H
#define QUERY_TEXT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "query/exec.h"
#include "text/text_list.h"

enum {
    PREFIX_TERMS_MAX = 1024, /* that one beginning stands for: the most frequent ones */
    FUZZY_WORDS_MAX = 64,    /* of a query, counted once per field */
    FUZZY_TERMS_MAX = 50     /* that one word stands for: the nearest ones */
};

enum text_part_kind { PART_TERM, PART_PHRASE, PART_PREFIX };

struct text_part {
    enum text_part_kind kind;
    size_t field;  /* index into rank->fields */
    size_t at;     /* where the word or phrase begins in the query */
    uint32_t unit; /* numbered densely */
    uint32_t repeats;
    float boost; /* of a word spelt otherwise; else 1 */
    float idf;
    bool found;                 /* its terms occur somewhere */
    struct slice term;          /* PART_TERM; PART_PREFIX: how the terms begin */
    struct phrase_term *phrase; /* PART_PHRASE: at least two */
    struct slice *terms;        /* PART_PREFIX */
    size_t term_count;          /* of phrase or terms */
};

/* A field's texts over all sources. */
struct text_field {
    uint64_t document_count;
    uint64_t total_length;
    float inverse[256]; /* bm25_norms */
};

struct text_plan {
    struct text_part *parts;
    size_t part_count;
    struct text_field *fields;
    uint32_t unit_count;
    bool hopeless; /* with `and`: some unit occurs nowhere */
};

/* ERR_INVALID for a query beyond the limits, in words of the request. */
enum err text_plan_make(struct op *op, const struct exec *x, const struct rank *rank,
                        struct text_plan *out);
/* The terms that ranks look up in one text. */
struct text_terms {
    struct slice *items; /* in op's arena */
    size_t count, room;
    bool any; /* not only these: what a word begins, or is near to */
};
/* Adds those of a field of a rank; a term may be added again. ERR_INVALID as of
 * text_plan_make. */
enum err text_plan_terms(struct op *op, const struct exec *x, const struct rank *rank,
                         size_t field, struct text_terms *terms);
/* Does the query hold a phrase? Then positions are needed. */
bool text_plan_has_phrase(struct slice query);
/* The field's index in a source; NULL where it has none. */
const struct text_index *text_plan_index(const struct exec *x, uint32_t source,
                                         int attr);

#endif
