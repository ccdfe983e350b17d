/*
 * words.h - where words begin and end: UAX #29 (Unicode Text Segmentation).
 *
 * Runs of ASCII take a short cut; every other run goes through the rules with ICU's
 * word break property. The rules are the default ones but for these:
 *   - underscores (and the other connectors: ExtendNumLet) separate words, so that
 *     snake_case holds the word case; WB13a and WB13b are left out
 *   - as in ICU, a colon joins letters in Finnish and Swedish only
 *   - no word begins with a space or sign that a joiner ties to an emoji (WB3c)
 * Unlike ICU, @ is no letter, Hangul is like other letters, and there are no
 * dictionaries: ideographs, hiragana and the letters of Thai, Lao, Khmer and Burmese
 * are words of one character (with the marks that follow it).
 */
#ifndef TEXT_WORDS_H
#define TEXT_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct words {
    struct slice text; /* borrowed */
    size_t offset;
    bool colon_joins; /* letters on both sides of a colon are one word */
};

static inline struct words words_of(struct slice text, bool colon_joins)
{
    return (struct words){text, 0, colon_joins};
}

/*
 * The next word: bytes start to end of the text, holding at least one letter, number,
 * ideograph or emoji; what holds none is passed over. False at the end. Bytes that are
 * not UTF-8 separate words and belong to none.
 */
bool words_next(struct words *w, size_t *start, size_t *end);

#endif
