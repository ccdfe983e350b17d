/*
 * filter.h - a condition on attributes, bound to a schema.
 *
 * Three-valued logic, two answers. A comparison with a null (or absent) attribute is
 * unknown; `not` of unknown is unknown; and/or follow Kleene; a document matches when
 * the whole filter is true. So {not: {eq: x}} does not match null; `ne` is the
 * exception users expect from search databases: ne and not_in match null too (they are
 * defined as "is not equal", two-valued). `exists` (value true or false) tests for null
 * itself, and eq null / ne null mean the same. Details and examples: docs/api.md
 * "Filters".
 *
 *   op            attribute types                     value
 *   eq ne         all scalars; null                   scalar or null
 *   gt gte lt lte all scalars but bool                scalar
 *   in not_in     all scalars                         array of scalars (may hold null)
 *   contains      arrays; string (as substring)       scalar
 *   contains_any contains_all   arrays                array of scalars
 *   prefix glob   string, array_string (any item)     string; glob: * ? [a-z] [!a-z] \x
 *   exists        all                                 bool
 * eq/ne/in on an array attribute are refused (use contains).
 * The field "id" is allowed with eq ne in not_in gt gte lt lte prefix (string ids).
 */
#ifndef DOC_FILTER_H
#define DOC_FILTER_H

#include "doc/batch.h"
#include "doc/schema.h"
#include "doc/value.h"

enum filter_op {
    FILTER_AND = 1,
    FILTER_OR,
    FILTER_NOT,
    FILTER_EQ,
    FILTER_NE,
    FILTER_GT,
    FILTER_GTE,
    FILTER_LT,
    FILTER_LTE,
    FILTER_IN,
    FILTER_NOT_IN,
    FILTER_CONTAINS,
    FILTER_CONTAINS_ANY,
    FILTER_CONTAINS_ALL,
    FILTER_PREFIX,
    FILTER_GLOB,
    FILTER_EXISTS
};

enum {
    FILTER_DEPTH_MAX = 64,
    FILTER_VALUES_MAX = 65536,
    FILTER_NODES_MAX = 65536,
    FILTER_ATTR_ID = -1
};

struct filter {
    enum filter_op op;
    /* and, or (any number: empty and is true, empty or is false), not (exactly one) */
    struct filter **children;
    size_t child_count;
    /* conditions */
    int attr; /* index into the schema, or FILTER_ATTR_ID */
    enum attr_type type;
    bool array;
    bool with_null;             /* eq/ne null; in/not_in lists that hold null */
    bool exists;                /* FILTER_EXISTS: the wanted answer */
    const union scalar *values; /* sorted and unique for in-lists; one for the rest */
    size_t value_count;
    const struct doc_id *ids; /* FILTER_ATTR_ID: sorted by doc_id_compare */
    size_t id_count;
};

const char *filter_op_name(enum filter_op op);
bool filter_op_parse(struct slice name, enum filter_op *op);
/* Does this op make sense on this type, and does it take a list? */
bool filter_op_allowed(enum filter_op op, enum attr_type type, bool array);
bool filter_op_takes_list(enum filter_op op);

/* The plain truth, for one document: what every faster evaluation must equal. */
bool filter_matches(const struct filter *f, const struct schema *schema,
                    const struct doc *d);

/* Does text match the pattern? Time at most text.size * pattern.size. A pattern that
 * ends inside [ or \ matches nothing; glob_check says so beforehand. Bytes, except that
 * ? and [...] take a whole UTF-8 character. */
bool glob_match(struct slice pattern, struct slice text);
/* NULL, or what is wrong with the pattern. */
const char *glob_check(struct slice pattern);

enum truth { TRUTH_FALSE, TRUTH_UNKNOWN, TRUTH_TRUE };
/* What a single condition (not and/or/not, not on the id) says of a null. */
enum truth filter_null(const struct filter *f);
/* What a single condition, not on the id, says of a value. */
enum truth filter_value(const struct filter *f, const struct value *v);
/*
 * Does a scalar, or one item of an array, meet a single condition? Not for
 * contains_all, which is about several items.
 */
bool filter_scalar(const struct filter *f, const union scalar *v);
/* Does the id meet a single condition on it? Ids of another kind than the filter's are
 * unequal to them and in no order with them. */
bool filter_id(const struct filter *f, const struct doc_id *id);

#endif
