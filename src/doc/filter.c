#include "doc/filter.h"

#include <assert.h>

#include "doc/utf8_text.h"

/* ---- operators ---- */

static const struct {
    enum filter_op op;
    const char *name;
} op_names[] = {
    {FILTER_AND, "and"},
    {FILTER_OR, "or"},
    {FILTER_NOT, "not"},
    {FILTER_EQ, "eq"},
    {FILTER_NE, "ne"},
    {FILTER_GT, "gt"},
    {FILTER_GTE, "gte"},
    {FILTER_LT, "lt"},
    {FILTER_LTE, "lte"},
    {FILTER_IN, "in"},
    {FILTER_NOT_IN, "not_in"},
    {FILTER_CONTAINS, "contains"},
    {FILTER_CONTAINS_ANY, "contains_any"},
    {FILTER_CONTAINS_ALL, "contains_all"},
    {FILTER_PREFIX, "prefix"},
    {FILTER_GLOB, "glob"},
    {FILTER_EXISTS, "exists"},
};
enum { OP_COUNT = sizeof op_names / sizeof op_names[0] };

const char *filter_op_name(enum filter_op op)
{
    for (size_t i = 0; i < OP_COUNT; i++)
        if (op_names[i].op == op) return op_names[i].name;
    return NULL;
}

bool filter_op_parse(struct slice name, enum filter_op *op)
{
    for (size_t i = 0; i < OP_COUNT; i++) {
        if (!slice_equal(name, slice_str(op_names[i].name))) continue;
        *op = op_names[i].op;
        return true;
    }
    return false;
}

bool filter_op_allowed(enum filter_op op, enum attr_type type, bool array)
{
    switch (op) {
    case FILTER_AND:
    case FILTER_OR:
    case FILTER_NOT: return false;
    case FILTER_EQ:
    case FILTER_NE:
    case FILTER_IN:
    case FILTER_NOT_IN: return !array;
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE: return !array && type != ATTR_BOOL;
    case FILTER_CONTAINS: return array || type == ATTR_STRING;
    case FILTER_CONTAINS_ANY:
    case FILTER_CONTAINS_ALL: return array;
    case FILTER_PREFIX:
    case FILTER_GLOB: return type == ATTR_STRING;
    case FILTER_EXISTS: return true;
    }
    return false;
}

bool filter_op_takes_list(enum filter_op op)
{
    return op == FILTER_IN || op == FILTER_NOT_IN || op == FILTER_CONTAINS_ANY ||
           op == FILTER_CONTAINS_ALL;
}

/* ---- glob ---- */

/* What can be wrong with a pattern. */
static const char *const cut_set = "a [ without its ]";
static const char *const cut_escape = "nothing behind the last \\";
static const char *const empty_set = "an empty []";
static const char *const empty_range = "a range whose end is before its start";

/* A member of a set, unescaped. NULL or what is wrong. */
static const char *set_member(struct slice pattern, size_t *offset, uint32_t *member)
{
    if (*offset == pattern.size) return cut_set;
    if (pattern.data[*offset] == '\\' && ++*offset == pattern.size) return cut_escape;
    *member = utf8_text_next(pattern, offset);
    return NULL;
}

/* *offset stands behind the [ and moves behind the ]. */
static const char *set_step(struct slice pattern, size_t *offset, uint32_t c, bool *hit)
{
    bool negated = *offset < pattern.size && pattern.data[*offset] == '!';
    bool found = false;

    if (negated) ++*offset;
    if (*offset < pattern.size && pattern.data[*offset] == ']') return empty_set;
    while (*offset == pattern.size || pattern.data[*offset] != ']') {
        uint32_t first = 0, last = 0;
        const char *wrong = set_member(pattern, offset, &first);
        if (wrong) return wrong;
        last = first;
        /* A - just before the ] stands for itself. */
        if (pattern.size - *offset >= 2 && pattern.data[*offset] == '-' &&
            pattern.data[*offset + 1] != ']') {
            ++*offset;
            wrong = set_member(pattern, offset, &last);
            if (wrong) return wrong;
        }
        if (last < first) return empty_range;
        found |= c >= first && c <= last;
    }
    ++*offset;
    *hit = found != negated;
    return NULL;
}

/*
 * One step of the pattern that is not a star: does it take the character c? *offset
 * moves behind it. NULL, or what is wrong with the pattern.
 */
static const char *glob_step(struct slice pattern, size_t *offset, uint32_t c,
                             bool *hit)
{
    uint8_t first = pattern.data[*offset];

    if (first == '[') {
        ++*offset;
        return set_step(pattern, offset, c, hit);
    }
    if (first == '?') {
        ++*offset;
        *hit = true;
        return NULL;
    }
    if (first == '\\' && ++*offset == pattern.size) return cut_escape;
    *hit = utf8_text_next(pattern, offset) == c;
    return NULL;
}

const char *glob_check(struct slice pattern)
{
    for (size_t offset = 0; offset < pattern.size;) {
        bool hit;
        if (pattern.data[offset] == '*') {
            offset++;
            continue;
        }
        const char *wrong = glob_step(pattern, &offset, 0, &hit);
        if (wrong) return wrong;
    }
    return NULL;
}

/*
 * Stars are greedy from the left: what stands before the last star met is matched for
 * good, because any later place for it would leave less text for the rest. So one place
 * to return to is enough, and each place in the text is tried once per star.
 */
bool glob_match(struct slice pattern, struct slice text)
{
    size_t p = 0, t = 0;
    size_t star_p = SIZE_MAX, star_t = 0; /* behind the last star; the text it left */

    while (t < text.size || p < pattern.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star_p = ++p;
            star_t = t;
            continue;
        }
        /* Each step takes a character; a later place for the star would leave fewer. */
        if (t == text.size) return false;
        if (p < pattern.size) {
            bool hit = false;
            uint32_t c = utf8_text_next(text, &t);
            if (glob_step(pattern, &p, c, &hit)) return false;
            if (hit) continue;
        }
        if (star_p == SIZE_MAX) return false;
        (void)utf8_text_next(text, &star_t);
        t = star_t;
        p = star_p;
    }
    return true;
}

/* ---- conditions ---- */

static bool in_values(const struct filter *f, const union scalar *v)
{
    size_t low = 0, high = f->value_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = scalar_compare(f->type, v, &f->values[middle]);
        if (order == 0) return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static bool has_substring(struct slice text, struct slice part)
{
    if (part.size == 0) return true;
    return text.size > 0 && memmem(text.data, text.size, part.data, part.size) != NULL;
}

/* Does an order (<0, 0, >0) meet the operator? */
static bool order_meets(enum filter_op op, int order)
{
    switch (op) {
    case FILTER_GT: return order > 0;
    case FILTER_GTE: return order >= 0;
    case FILTER_LT: return order < 0;
    default: assert(op == FILTER_LTE); return order <= 0;
    }
}

bool filter_scalar(const struct filter *f, const union scalar *v)
{
    switch (f->op) {
    case FILTER_EQ:
    case FILTER_IN:
    case FILTER_CONTAINS_ANY: return in_values(f, v);
    case FILTER_NE:
    case FILTER_NOT_IN: return !in_values(f, v);
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        return order_meets(f->op, scalar_compare(f->type, v, &f->values[0]));
    case FILTER_CONTAINS:
        return f->array ? in_values(f, v) : has_substring(v->s, f->values[0].s);
    case FILTER_PREFIX: return slice_starts_with(v->s, f->values[0].s);
    case FILTER_GLOB: return glob_match(f->values[0].s, v->s);
    case FILTER_EXISTS: return f->exists;
    default: assert(!"a single condition on a scalar"); return false;
    }
}

enum truth filter_null(const struct filter *f)
{
    switch (f->op) {
    case FILTER_EQ:
    case FILTER_IN: return f->with_null ? TRUTH_TRUE : TRUTH_UNKNOWN;
    case FILTER_NE:
    case FILTER_NOT_IN: return f->with_null ? TRUTH_FALSE : TRUTH_TRUE;
    case FILTER_EXISTS: return f->exists ? TRUTH_FALSE : TRUTH_TRUE;
    default: return TRUTH_UNKNOWN;
    }
}

static bool has_item(const struct value *v, enum attr_type type,
                     const union scalar *item)
{
    for (uint32_t i = 0; i < v->count; i++)
        if (scalar_compare(type, &v->items[i], item) == 0) return true;
    return false;
}

static bool array_meets(const struct filter *f, const struct value *v)
{
    /* Only these three are asked of the array itself, eq and ne about null alone. */
    if (f->op == FILTER_EXISTS) return f->exists;
    if (f->op == FILTER_EQ || f->op == FILTER_NE) {
        assert(f->value_count == 0);
        return f->op == FILTER_NE;
    }
    if (f->op == FILTER_CONTAINS_ALL) {
        for (size_t i = 0; i < f->value_count; i++)
            if (!has_item(v, f->type, &f->values[i])) return false;
        return true;
    }
    for (uint32_t i = 0; i < v->count; i++)
        if (filter_scalar(f, &v->items[i])) return true;
    return false;
}

enum truth filter_value(const struct filter *f, const struct value *v)
{
    if (v->null) return filter_null(f);
    bool meets = f->array ? array_meets(f, v) : filter_scalar(f, &v->one);
    return meets ? TRUTH_TRUE : TRUTH_FALSE;
}

static bool in_ids(const struct filter *f, const struct doc_id *id)
{
    size_t low = 0, high = f->id_count;
    if (high > 0 && f->ids[0].kind != id->kind) return false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = doc_id_compare(id, &f->ids[middle]);
        if (order == 0) return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

bool filter_id(const struct filter *f, const struct doc_id *id)
{
    switch (f->op) {
    case FILTER_EQ:
    case FILTER_IN: return in_ids(f, id);
    case FILTER_NE:
    case FILTER_NOT_IN: return !in_ids(f, id);
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        return f->ids[0].kind == id->kind &&
               order_meets(f->op, doc_id_compare(id, &f->ids[0]));
    case FILTER_PREFIX:
        return f->ids[0].kind == ID_STRING && id->kind == ID_STRING &&
               slice_starts_with(id->string, f->ids[0].string);
    default: assert(!"an operator that is allowed on ids"); return false;
    }
}

/* ---- whole filters ---- */

static enum truth truth_of(const struct filter *f, const struct schema *schema,
                           const struct doc *d);

/* Kleene: `and` is the least of its children, `or` the greatest. */
static enum truth fold(const struct filter *f, const struct schema *schema,
                       const struct doc *d, bool least)
{
    enum truth all = least ? TRUTH_TRUE : TRUTH_FALSE;
    for (size_t i = 0; i < f->child_count; i++) {
        enum truth one = truth_of(f->children[i], schema, d);
        if (least ? one < all : one > all) all = one;
    }
    return all;
}

static enum truth truth_of(const struct filter *f, const struct schema *schema,
                           const struct doc *d)
{
    switch (f->op) {
    case FILTER_AND: return fold(f, schema, d, true);
    case FILTER_OR: return fold(f, schema, d, false);
    case FILTER_NOT:
        assert(f->child_count == 1);
        return (enum truth)(TRUTH_TRUE - truth_of(f->children[0], schema, d));
    default:
        if (f->attr == FILTER_ATTR_ID)
            return filter_id(f, &d->id) ? TRUTH_TRUE : TRUTH_FALSE;
        assert(f->attr >= 0 && f->attr < (int)schema->attr_count);
        return filter_value(f, &d->values[f->attr]);
    }
}

bool filter_matches(const struct filter *f, const struct schema *schema,
                    const struct doc *d)
{
    return truth_of(f, schema, d) == TRUTH_TRUE;
}
