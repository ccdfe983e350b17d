/*
 * schema.c - declared attributes: checked, found, widened, stored.
 *
 * Stored form (docs/formats.md "schema"); varints as in codec.h:
 *
 *   0   u8      version, 1
 *   1   u8      metric: 1 cosine, 2 l2, 3 dot
 *   2   varint  vector_dim, 0 for none
 *       varint  attr_count
 *       then per attribute
 *         varint size, bytes of the name
 *         u8    type: 1 string, 2 int, 3 uint, 4 float, 5 bool, 6 datetime, 7 uuid
 *         u8    flags: 1 array, 2 indexed, 4 full_text
 *         with full_text only
 *           u8  language, as in schema.h
 *           u8  flags: 1 stemming, 2 remove_stopwords, 4 case_sensitive,
 *               8 ascii_folding
 */
#include "doc/schema.h"

#include <assert.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "doc/utf8_text.h"

enum { SCHEMA_VERSION = 1 };

enum { FLAG_ARRAY = 1, FLAG_INDEXED = 2, FLAG_FULL_TEXT = 4, FLAGS_ATTR = 7 };
enum {
    FLAG_STEMMING = 1,
    FLAG_STOPWORDS = 2,
    FLAG_CASE = 4,
    FLAG_ASCII = 8,
    FLAGS_ANALYSIS = 15
};

/* ---- names of things ---- */

struct name {
    int value;
    const char *text;
};

static const struct name type_names[] = {
    {ATTR_STRING, "string"}, {ATTR_INT, "int"},   {ATTR_UINT, "uint"},
    {ATTR_FLOAT, "float"},   {ATTR_BOOL, "bool"}, {ATTR_DATETIME, "datetime"},
    {ATTR_UUID, "uuid"},
};
/* The same, in the same order. */
static const struct name array_names[] = {
    {ATTR_STRING, "array_string"}, {ATTR_INT, "array_int"},
    {ATTR_UINT, "array_uint"},     {ATTR_FLOAT, "array_float"},
    {ATTR_BOOL, "array_bool"},     {ATTR_DATETIME, "array_datetime"},
    {ATTR_UUID, "array_uuid"},
};
static const struct name metric_names[] = {{METRIC_COSINE, "cosine"},
                                           {METRIC_L2, "l2"},
                                           {METRIC_DOT, "dot"}};
static const struct name language_names[] = {
    {LANG_ARABIC, "arabic"},       {LANG_DANISH, "danish"},
    {LANG_DUTCH, "dutch"},         {LANG_ENGLISH, "english"},
    {LANG_FINNISH, "finnish"},     {LANG_FRENCH, "french"},
    {LANG_GERMAN, "german"},       {LANG_GREEK, "greek"},
    {LANG_HUNGARIAN, "hungarian"}, {LANG_ITALIAN, "italian"},
    {LANG_NORWEGIAN, "norwegian"}, {LANG_PORTUGUESE, "portuguese"},
    {LANG_ROMANIAN, "romanian"},   {LANG_RUSSIAN, "russian"},
    {LANG_SPANISH, "spanish"},     {LANG_SWEDISH, "swedish"},
    {LANG_TAMIL, "tamil"},         {LANG_TURKISH, "turkish"},
};
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* NULL if the table has no such value. */
static const char *name_of(const struct name *table, size_t count, int value)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].value == value) return table[i].text;
    return NULL;
}

/* 0 if the table has no such name; no table has the value 0. */
static int value_of(const struct name *table, size_t count, struct slice text)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(text, slice_str(table[i].text))) return table[i].value;
    return 0;
}

const char *attr_type_name(enum attr_type type, bool array)
{
    return array ? name_of(array_names, COUNT(array_names), (int)type)
                 : name_of(type_names, COUNT(type_names), (int)type);
}

bool attr_type_parse(struct slice name, enum attr_type *type, bool *array)
{
    int one = value_of(type_names, COUNT(type_names), name);
    int many = value_of(array_names, COUNT(array_names), name);
    if (!one && !many) return false;
    *type = (enum attr_type)(one ? one : many);
    *array = many != 0;
    return true;
}

const char *metric_kind_name(enum metric_kind metric)
{
    return name_of(metric_names, COUNT(metric_names), (int)metric);
}

bool metric_kind_parse(struct slice name, enum metric_kind *metric)
{
    int value = value_of(metric_names, COUNT(metric_names), name);
    if (value) *metric = (enum metric_kind)value;
    return value != 0;
}

const char *language_name(enum language language)
{
    return name_of(language_names, COUNT(language_names), (int)language);
}

bool language_parse(struct slice name, enum language *language)
{
    int value = value_of(language_names, COUNT(language_names), name);
    if (value) *language = (enum language)value;
    return value != 0;
}

/* ---- life ---- */

struct schema *schema_new(uint32_t vector_dim, enum metric_kind metric,
                          const struct attr *attrs, uint32_t attr_count)
{
    size_t names_size = 0;
    for (uint32_t i = 0; i < attr_count; i++)
        names_size += strlen(attrs[i].name) + 1;

    /* The names lie behind the attributes, in the same piece of memory. */
    size_t head_size = sizeof(struct schema) + attr_count * sizeof(struct attr);
    struct schema *s = mem_calloc(1, head_size + names_size);
    char *name = (char *)s + head_size;
    s->refs = 1;
    s->vector_dim = vector_dim;
    s->metric = metric;
    s->attr_count = attr_count;
    for (uint32_t i = 0; i < attr_count; i++) {
        size_t size = strlen(attrs[i].name) + 1;
        s->attrs[i] = attrs[i];
        s->attrs[i].name = memcpy(name, attrs[i].name, size);
        name += size;
    }
    return s;
}

struct schema *schema_ref(struct schema *s)
{
    (void)__atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void schema_unref(struct schema *s)
{
    if (s && __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) == 0) mem_free(s);
}

/* ---- checking and finding ---- */

int schema_find(const struct schema *s, struct slice name)
{
    for (uint32_t i = 0; i < s->attr_count; i++)
        if (slice_equal(name, slice_str(s->attrs[i].name))) return (int)i;
    return -1;
}

static bool has_control_character(struct slice name)
{
    for (size_t offset = 0; offset < name.size;) {
        uint32_t c = utf8_text_next(name, &offset);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return true;
    }
    return false;
}

static enum err check_name(struct op *op, struct slice name)
{
    if (name.size == 0 || name.size > ATTR_NAME_MAX)
        return op_fail(op, ERR_INVALID,
                       "attribute name of %zu bytes: 1 to %d are allowed", name.size,
                       ATTR_NAME_MAX);
    if (!utf8_text_valid(name) || has_control_character(name))
        return op_fail(op, ERR_INVALID,
                       "an attribute name must be UTF-8 without control characters");
    if (slice_equal(name, SLICE_LITERAL("id")) ||
        slice_equal(name, SLICE_LITERAL("vector")))
        return op_fail(op, ERR_INVALID,
                       "attribute name \"%.*s\": \"id\" and \"vector\" are reserved",
                       (int)name.size, (const char *)name.data);
    return ERR_OK;
}

static enum err check_attr(struct op *op, const struct attr *a)
{
    enum err e = check_name(op, slice_str(a->name));
    if (e) return e;
    const char *type = attr_type_name(a->type, a->array);
    if (!type)
        return op_fail(op, ERR_INVALID,
                       "attribute \"%s\": its type must be string, int, uint, float, "
                       "bool, datetime, uuid or array_ and one of them",
                       a->name);
    if (!a->full_text) return ERR_OK;
    if (a->type != ATTR_STRING)
        return op_fail(op, ERR_INVALID,
                       "attribute \"%s\": full_text is allowed on string and "
                       "array_string, not on %s",
                       a->name, type);
    if (!language_name(a->analysis.language))
        return op_fail(op, ERR_INVALID,
                       "attribute \"%s\": full_text needs one of the languages arabic, "
                       "danish, dutch, english, finnish, french, german, greek, "
                       "hungarian, italian, norwegian, portuguese, romanian, russian, "
                       "spanish, swedish, tamil, turkish",
                       a->name);
    return ERR_OK;
}

enum err schema_check(struct op *op, const struct schema *s)
{
    if (s->vector_dim > VECTOR_DIM_MAX)
        return op_fail(op, ERR_INVALID, "vector_dim %u: 1 to %d are allowed",
                       s->vector_dim, VECTOR_DIM_MAX);
    if (!metric_kind_name(s->metric))
        return op_fail(op, ERR_INVALID, "vector_metric must be cosine, l2 or dot");
    if (s->attr_count > SCHEMA_ATTRS_MAX)
        return op_fail(op, ERR_INVALID, "%u attributes: at most %d are allowed",
                       s->attr_count, SCHEMA_ATTRS_MAX);
    for (uint32_t i = 0; i < s->attr_count; i++) {
        enum err e = check_attr(op, &s->attrs[i]);
        if (e) return e;
        if (schema_find(s, slice_str(s->attrs[i].name)) != (int)i)
            return op_fail(op, ERR_INVALID,
                           "attribute \"%s\" is declared twice: once is allowed",
                           s->attrs[i].name);
    }
    return ERR_OK;
}

/* ---- equality and growth ---- */

/* What differs, in the words of a request, or NULL. Names are not looked at. */
static const char *attr_difference(const struct attr *a, const struct attr *b)
{
    if (a->type != b->type || a->array != b->array) return "type";
    if (a->indexed != b->indexed) return "indexed";
    if (a->full_text != b->full_text) return "full_text";
    if (!a->full_text) return NULL;
    if (a->analysis.language != b->analysis.language) return "full_text.language";
    if (a->analysis.stemming != b->analysis.stemming) return "full_text.stemming";
    if (a->analysis.remove_stopwords != b->analysis.remove_stopwords)
        return "full_text.remove_stopwords";
    if (a->analysis.case_sensitive != b->analysis.case_sensitive)
        return "full_text.case_sensitive";
    if (a->analysis.ascii_folding != b->analysis.ascii_folding)
        return "full_text.ascii_folding";
    return NULL;
}

/* Without vectors there is nothing to measure, so the metric does not matter. */
static bool same_metric(const struct schema *a, const struct schema *b)
{
    return a->vector_dim == 0 || a->metric == b->metric;
}

bool schema_continues(const struct schema *s, const struct schema *earlier)
{
    if (s == earlier) return true;
    if (s->vector_dim != earlier->vector_dim || !same_metric(s, earlier)) return false;
    if (s->attr_count < earlier->attr_count) return false;
    for (uint32_t i = 0; i < earlier->attr_count; i++)
        if (strcmp(s->attrs[i].name, earlier->attrs[i].name) != 0 ||
            attr_difference(&s->attrs[i], &earlier->attrs[i]))
            return false;
    return true;
}

bool schema_equal(const struct schema *a, const struct schema *b)
{
    return a->attr_count == b->attr_count && schema_continues(a, b);
}

static enum err check_extension(struct op *op, const struct schema *current,
                                const struct schema *wanted)
{
    if (wanted->vector_dim != current->vector_dim)
        return op_fail(op, ERR_CONFLICT,
                       "vector_dim is %u, not %u: it cannot be changed",
                       current->vector_dim, wanted->vector_dim);
    if (!same_metric(current, wanted))
        return op_fail(op, ERR_CONFLICT,
                       "vector_metric is %s, not %s: it cannot be changed",
                       metric_kind_name(current->metric),
                       metric_kind_name(wanted->metric));
    for (uint32_t i = 0; i < wanted->attr_count; i++) {
        const struct attr *a = &wanted->attrs[i];
        int found = schema_find(current, slice_str(a->name));
        if (found < 0) continue;
        const char *what = attr_difference(&current->attrs[found], a);
        if (what)
            return op_fail(op, ERR_CONFLICT,
                           "attribute \"%s\" (%s) is declared with another %s, which "
                           "cannot be changed",
                           a->name,
                           attr_type_name(current->attrs[found].type,
                                          current->attrs[found].array),
                           what);
    }
    return ERR_OK;
}

enum err schema_extend(struct op *op, struct schema *current,
                       const struct schema *wanted, bool *same, struct schema **out)
{
    struct attr attrs[SCHEMA_ATTRS_MAX];
    uint32_t count = current->attr_count;

    enum err e = check_extension(op, current, wanted);
    if (e) return e;

    assert(count <= SCHEMA_ATTRS_MAX);
    for (uint32_t i = 0; i < count; i++)
        attrs[i] = current->attrs[i];
    for (uint32_t i = 0; i < wanted->attr_count; i++) {
        const struct attr *a = &wanted->attrs[i];
        if (schema_find(current, slice_str(a->name)) >= 0) continue;
        if (count == SCHEMA_ATTRS_MAX)
            return op_fail(op, ERR_INVALID,
                           "attribute \"%s\": a namespace has at most %d attributes",
                           a->name, SCHEMA_ATTRS_MAX);
        attrs[count++] = *a;
    }
    bool grows = count > current->attr_count;
    *same = !grows && wanted->attr_count == count;
    *out = grows ? schema_new(current->vector_dim, current->metric, attrs, count)
                 : schema_ref(current);
    return ERR_OK;
}

/* ---- stored form ---- */

void schema_encode(const struct schema *s, struct buf *out)
{
    put_u8(out, SCHEMA_VERSION);
    put_u8(out, (uint8_t)s->metric);
    put_varint(out, s->vector_dim);
    put_varint(out, s->attr_count);
    for (uint32_t i = 0; i < s->attr_count; i++) {
        const struct attr *a = &s->attrs[i];
        put_sized(out, slice_str(a->name));
        put_u8(out, (uint8_t)a->type);
        put_u8(out,
               (uint8_t)((a->array ? FLAG_ARRAY : 0) | (a->indexed ? FLAG_INDEXED : 0) |
                         (a->full_text ? FLAG_FULL_TEXT : 0)));
        if (!a->full_text) continue;
        put_u8(out, (uint8_t)a->analysis.language);
        put_u8(out, (uint8_t)((a->analysis.stemming ? FLAG_STEMMING : 0) |
                              (a->analysis.remove_stopwords ? FLAG_STOPWORDS : 0) |
                              (a->analysis.case_sensitive ? FLAG_CASE : 0) |
                              (a->analysis.ascii_folding ? FLAG_ASCII : 0)));
    }
}

static uint8_t get_flags(struct reader *r, uint8_t allowed)
{
    uint8_t flags = get_u8(r);
    if (flags & ~allowed) r->failed = true;
    return flags;
}

/* The name is copied: it needs the terminator that the stored bytes lack. */
static enum err attr_decode(struct op *op, struct reader *r, struct attr *a)
{
    struct slice name = get_sized(r);
    *a = (struct attr){.name = ""};
    a->type = (enum attr_type)get_u8(r);
    uint8_t flags = get_flags(r, FLAGS_ATTR);
    a->array = flags & FLAG_ARRAY;
    a->indexed = flags & FLAG_INDEXED;
    a->full_text = flags & FLAG_FULL_TEXT;
    a->analysis = ANALYSIS_DEFAULT;
    if (a->full_text) {
        a->analysis.language = (enum language)get_u8(r);
        uint8_t how = get_flags(r, FLAGS_ANALYSIS);
        a->analysis.stemming = how & FLAG_STEMMING;
        a->analysis.remove_stopwords = how & FLAG_STOPWORDS;
        a->analysis.case_sensitive = how & FLAG_CASE;
        a->analysis.ascii_folding = how & FLAG_ASCII;
    }
    bool has_nul = name.size > 0 && memchr(name.data, 0, name.size);
    if (r->failed || has_nul || name.size > ATTR_NAME_MAX)
        return op_fail(op, ERR_CORRUPT, "damaged attribute");
    struct slice copy = op_copy(op, name);
    if (!copy.data) return ERR_LIMIT;
    a->name = (const char *)copy.data;
    return ERR_OK;
}

enum err schema_decode(struct op *op, struct reader *r, struct schema **out)
{
    struct attr attrs[SCHEMA_ATTRS_MAX];

    if (get_u8(r) != SCHEMA_VERSION)
        return op_fail(op, ERR_CORRUPT, "not a schema of version %d", SCHEMA_VERSION);
    enum metric_kind metric = (enum metric_kind)get_u8(r);
    uint32_t vector_dim = (uint32_t)get_varint_max(r, VECTOR_DIM_MAX);
    uint32_t count = (uint32_t)get_varint_max(r, SCHEMA_ATTRS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        enum err e = attr_decode(op, r, &attrs[i]);
        if (e) return op_fail(op, e, "schema");
    }
    if (r->failed) return op_fail(op, ERR_CORRUPT, "damaged schema");

    struct schema *s = schema_new(vector_dim, metric, attrs, count);
    if (schema_check(op, s)) {
        schema_unref(s);
        return op_fail(op, ERR_CORRUPT, "stored schema");
    }
    *out = s;
    return ERR_OK;
}
