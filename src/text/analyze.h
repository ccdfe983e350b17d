/*
 * analyze.h - text into terms: words, lower case, stop words, stems.
 *
 * Order: words (words.h), invisible characters out and NFC, case folding unless
 * case_sensitive, elided articles, stop words, Snowball stem, accents off Latin letters
 * with ascii_folding; why, and why so, stands
 * in docs/decisions/0003-text-analysis.md. Words longer than TERM_SIZE_MAX bytes are
 * dropped. Invalid UTF-8 is treated as breaks, never a crash. An analyzer is not shared
 * between threads; analyzer_get hands out one per thread and analysis, kept until the
 * thread ends.
 */
#ifndef TEXT_ANALYZE_H
#define TEXT_ANALYZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "doc/schema.h"

enum { TERM_SIZE_MAX = 254, ANALYSIS_VERSION = 1 };

struct analyzer;

struct analyzer *analyzer_get(const struct analysis *analysis);

struct token {
    struct slice term;   /* valid until the next token */
    uint32_t position;   /* number of the word in the text, stop words counted */
    uint32_t start, end; /* bytes of the word in the text */
};

/* Starts on a text, which is borrowed until the last token was taken. */
void analyzer_start(struct analyzer *a, struct slice text);
/* False at the end. */
bool analyzer_next(struct analyzer *a, struct token *token);

/* The last word of a text as a term may begin with it: neither left out nor stemmed.
 * False if there is none, or it is too long. The term is valid until the next token. */
bool analyzer_last(struct analyzer *a, struct slice text, struct token *token);

#endif
