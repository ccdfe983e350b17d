/*
 * schema.h - what a namespace's documents look like.
 *
 * A schema is immutable once shared and reference counted. Attributes are only ever
 * added, at the end, so an attribute's index is its number for ever; a document or
 * segment written under a shorter schema has null in the later ones.
 */
#ifndef DOC_SCHEMA_H
#define DOC_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/value.h"

struct op;
struct reader;

enum { SCHEMA_ATTRS_MAX = 256, ATTR_NAME_MAX = 128, VECTOR_DIM_MAX = 10752 };

enum metric_kind { METRIC_COSINE = 1, METRIC_L2, METRIC_DOT };

enum language {
    LANG_ARABIC = 1,
    LANG_DANISH,
    LANG_DUTCH,
    LANG_ENGLISH,
    LANG_FINNISH,
    LANG_FRENCH,
    LANG_GERMAN,
    LANG_GREEK,
    LANG_HUNGARIAN,
    LANG_ITALIAN,
    LANG_NORWEGIAN,
    LANG_PORTUGUESE,
    LANG_ROMANIAN,
    LANG_RUSSIAN,
    LANG_SPANISH,
    LANG_SWEDISH,
    LANG_TAMIL,
    LANG_TURKISH,
    LANG_LAST = LANG_TURKISH
};

/* How a full-text field is turned into terms. Fixed when the attribute is declared. */
struct analysis {
    enum language language;
    bool stemming;
    bool remove_stopwords;
    bool case_sensitive;
    bool ascii_folding; /* accents do not count */
};
#define ANALYSIS_DEFAULT ((struct analysis){LANG_ENGLISH, true, true, false, false})

struct attr {
    const char *name; /* 1 to ATTR_NAME_MAX bytes of UTF-8 without control characters,
                         no NUL; not "id" or "vector" */
    enum attr_type type;
    bool array;
    bool indexed;
    bool full_text; /* string and array of string only */
    struct analysis analysis;
};

struct schema {
    uint32_t refs;       /* atomic; schema_ref, schema_unref */
    uint32_t vector_dim; /* 0: documents have no vectors */
    enum metric_kind metric;
    uint32_t attr_count;
    struct attr attrs[]; /* sorted by declaration, names unique */
};

/* A schema that owns copies of everything. Checks nothing (schema_check does). */
struct schema *schema_new(uint32_t vector_dim, enum metric_kind metric,
                          const struct attr *attrs, uint32_t attr_count);
struct schema *schema_ref(struct schema *s); /* s itself */
void schema_unref(struct schema *s);         /* NULL is fine */

/* ERR_INVALID names the field and what is allowed. */
enum err schema_check(struct op *op, const struct schema *s);
/* Index of the attribute, -1 if it is not declared. */
int schema_find(const struct schema *s, struct slice name);
/* Same attributes in the same order; the metric counts only where there are vectors. */
bool schema_equal(const struct schema *a, const struct schema *b);
/* Has s all of earlier's attributes as its first ones? So is a schema that grew; what
 * was decoded under the earlier one can then be stored under s. */
bool schema_continues(const struct schema *s, const struct schema *earlier);
/*
 * The schema that a PUT of `wanted` leaves behind: `current` itself when wanted
 * declares nothing new, a longer one when it adds attributes; *out is a reference of
 * the caller's either way. *same: wanted declares exactly what current does, in any
 * order; false with *out == current means that wanted lacks some of current's
 * attributes. ERR_CONFLICT names what differs, ERR_INVALID the attribute that is one
 * too many.
 */
enum err schema_extend(struct op *op, struct schema *current,
                       const struct schema *wanted, bool *same, struct schema **out);

const char *attr_type_name(enum attr_type type, bool array); /* "array_string" */
bool attr_type_parse(struct slice name, enum attr_type *type, bool *array);
const char *metric_kind_name(enum metric_kind metric); /* "cosine" */
bool metric_kind_parse(struct slice name, enum metric_kind *metric);
const char *language_name(enum language language);
bool language_parse(struct slice name, enum language *language);

void schema_encode(const struct schema *s, struct buf *out);
/* *out is a reference of the caller's. ERR_CORRUPT, also for what schema_check would
 * refuse. */
enum err schema_decode(struct op *op, struct reader *r, struct schema **out);

#endif
