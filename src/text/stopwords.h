/*
 * stopwords.h - the function words of a language, which tell documents apart so little
 * that they are left out of the index.
 */
#ifndef TEXT_STOPWORDS_H
#define TEXT_STOPWORDS_H

#include "doc/schema.h"

/* Lower-case words in NFC with a space between two; never NULL. The lists are part of
 * ANALYSIS_VERSION: a changed list is a new version. */
const char *stopwords_of(enum language language);

#endif
