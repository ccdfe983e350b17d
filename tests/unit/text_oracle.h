/*
 * text_oracle.h - full-text queries answered by looking at every word of every
 * document: what the index must say, from the definitions in docs/api.md.
 *
 * A corpus has two full-text fields, words as they are, a number to filter by, several
 * segments and dead rows, and is asked through query_run. Nothing is shared with the
 * index but the analysis, the length byte and the choice of words to ask for.
 */
#ifndef TESTS_UNIT_TEXT_ORACLE_H
#define TESTS_UNIT_TEXT_ORACLE_H

#include <math.h>

#include "base/buf.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "ns/snapshot.h"
#include "query/query.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/words.h"
#include "unit/test.h"

enum { ORACLE_FIELDS = 2, ORACLE_CLAUSES = 4096, ORACLE_ITEMS = 16, ORACLE_WORDS = 4 };

struct oracle_token {
    uint32_t term, position;
};

/* The words of one field of one document. */
struct oracle_text {
    size_t first, count; /* in tokens */
};

struct oracle_vocabulary {
    struct buf bytes;
    struct slice *terms; /* valid once all terms are in */
    size_t *starts;
    uint32_t *sizes;
    uint32_t count, room;
    uint32_t *slots, slot_count;
    uint32_t *frequency; /* documents with the term */
};

struct oracle_field {
    struct oracle_vocabulary v;
    struct oracle_token *tokens;
    size_t token_count, token_room;
    struct oracle_text *texts;
    uint64_t documents, total_length;
};

struct oracle {
    struct op op;
    struct schema *schema;
    struct snapshot *snapshot;
    uint32_t count;
    struct oracle_field fields[ORACLE_FIELDS];
    int64_t *numbers;
    bool *dead;
    /* of the query at hand */
    double *scores;
    bool *matches;
};

static inline struct schema *oracle_schema(void)
{
    struct analysis plain = {LANG_ENGLISH, false, false, false, false};
    struct attr attrs[] = {
        {.name = "a", .type = ATTR_STRING, .full_text = true, .analysis = plain},
        {.name = "b",
         .type = ATTR_STRING,
         .array = true,
         .full_text = true,
         .analysis = plain},
        {.name = "n", .type = ATTR_INT},
    };
    return schema_new(0, METRIC_COSINE, attrs, COUNT_OF(attrs));
}

/* ---- words ---- */

static inline uint32_t oracle_term(struct oracle_vocabulary *v, struct slice term)
{
    if (2 * v->count >= v->slot_count) {
        v->slot_count = v->slot_count ? 2 * v->slot_count : 1024;
        mem_free(v->slots);
        v->slots = mem_new_array(uint32_t, v->slot_count);
        for (uint32_t i = 0; i < v->count; i++) {
            uint64_t hash = xxh3_64(v->bytes.data + v->starts[i], v->sizes[i]);
            while (v->slots[hash % v->slot_count])
                hash++;
            v->slots[hash % v->slot_count] = i + 1;
        }
    }
    uint64_t hash = xxh3_64(term.data, term.size);
    for (; v->slots[hash % v->slot_count]; hash++) {
        uint32_t i = v->slots[hash % v->slot_count] - 1;
        if (slice_equal(slice_of(v->bytes.data + v->starts[i], v->sizes[i]), term))
            return i;
    }
    if (v->count == v->room) {
        v->room = v->room ? 2 * v->room : 1024;
        v->starts = mem_realloc(v->starts, v->room * sizeof *v->starts);
        v->sizes = mem_realloc(v->sizes, v->room * sizeof *v->sizes);
    }
    v->starts[v->count] = v->bytes.size;
    v->sizes[v->count] = (uint32_t)term.size;
    buf_append_slice(&v->bytes, term);
    v->slots[hash % v->slot_count] = ++v->count;
    return v->count - 1;
}

/* Adds one text of a document; *next: position of its first word. */
static inline void oracle_words(struct oracle_field *f, uint32_t doc, struct slice text,
                                uint32_t *next)
{
    struct analysis plain = {LANG_ENGLISH, false, false, false, false};
    struct analyzer *a = analyzer_get(&plain);
    struct token token;
    uint32_t first = *next;
    analyzer_start(a, text);
    while (analyzer_next(a, &token)) {
        if (f->token_count == f->token_room) {
            f->token_room = f->token_room ? 2 * f->token_room : 1024;
            f->tokens = mem_realloc(f->tokens, f->token_room * sizeof *f->tokens);
        }
        f->tokens[f->token_count++] =
            (struct oracle_token){oracle_term(&f->v, token.term),
                                  first + token.position};
        f->texts[doc].count++;
        *next = first + token.position + 1000; /* far away from another item */
    }
}

static inline void oracle_count(struct oracle_field *f, uint32_t docs)
{
    f->v.frequency = mem_new_array(uint32_t, f->v.count + 1);
    f->v.terms = mem_new_array(struct slice, f->v.count + 1);
    uint32_t *last = mem_new_array(uint32_t, f->v.count + 1);
    for (uint32_t i = 0; i < f->v.count; i++)
        f->v.terms[i] = slice_of(f->v.bytes.data + f->v.starts[i], f->v.sizes[i]);
    for (uint32_t doc = 0; doc < docs; doc++) {
        const struct oracle_text *t = &f->texts[doc];
        f->documents += t->count > 0;
        f->total_length += t->count;
        for (size_t i = t->first; i < t->first + t->count; i++) {
            uint32_t term = f->tokens[i].term;
            if (last[term] != doc + 1) f->v.frequency[term]++;
            last[term] = doc + 1;
        }
    }
    mem_free(last);
}

/* ---- a corpus ---- */

/* Text of document i: a for the first field, b as items of the second one. */
typedef void oracle_source(void *context, uint32_t i, struct value *a, struct value *b,
                           uint64_t *seed);

static inline struct segment *oracle_segment(struct oracle *o, uint32_t first,
                                             uint32_t end, oracle_source *source,
                                             void *context, uint64_t *seed)
{
    struct segment_options options = {.zstd_level = 0};
    struct segment_builder *b = segment_builder_new(o->schema, &options);
    struct buf bytes = BUF_INIT;
    struct segment *s;
    for (uint32_t i = first; i < end; i++) {
        struct value values[3] = {VALUE_NULL, VALUE_NULL, {.one.i = o->numbers[i]}};
        uint32_t next = 0;
        source(context, i, &values[0], &values[1], seed);
        for (size_t f = 0; f < ORACLE_FIELDS; f++)
            o->fields[f].texts[i].first = o->fields[f].token_count;
        if (!values[0].null) oracle_words(&o->fields[0], i, values[0].one.s, &next);
        next = 0;
        for (uint32_t k = 0; !values[1].null && k < values[1].count; k++)
            oracle_words(&o->fields[1], i, values[1].items[k].s, &next);
        struct doc d = {.id = {.kind = ID_U64, .u64 = i}, .values = values};
        segment_builder_add(b, &d);
    }
    assert_int_equal(segment_builder_finish(&o->op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(&o->op, &bytes, &s), ERR_OK);
    return s;
}

/* Documents 0 to count - 1 in several segments; one in dead_every is dead. */
static inline void oracle_make(struct oracle *o, uint32_t count, uint32_t segments,
                               uint32_t dead_every, oracle_source *source,
                               void *context, uint64_t *seed)
{
    *o = (struct oracle){.count = count};
    op_init(&o->op, OP_NO_DEADLINE, 0);
    o->schema = oracle_schema();
    o->numbers = mem_new_array(int64_t, count);
    o->dead = mem_new_array(bool, count);
    o->scores = mem_new_array(double, count);
    o->matches = mem_new_array(bool, count);
    for (size_t f = 0; f < ORACLE_FIELDS; f++)
        o->fields[f].texts = mem_new_array(struct oracle_text, count);
    for (uint32_t i = 0; i < count; i++)
        o->numbers[i] = (int64_t)(test_random(seed) % 1000);
    o->snapshot = mem_calloc(1, sizeof *o->snapshot + segments * sizeof(struct source));
    atomic_init(&o->snapshot->refs, 1);
    o->snapshot->schema = schema_ref(o->schema);
    o->snapshot->id_kind = ID_U64;
    for (uint32_t i = 0; i < segments; i++) {
        uint32_t first = (uint32_t)((uint64_t)count * i / segments);
        uint32_t end = (uint32_t)((uint64_t)count * (i + 1) / segments);
        if (first == end) continue;
        struct source *s = &o->snapshot->sources[o->snapshot->source_count++];
        s->segment = oracle_segment(o, first, end, source, context, seed);
        for (uint32_t row = 0; dead_every && row < end - first; row++) {
            if (test_random(seed) % dead_every) continue;
            if (!s->dead) s->dead = rowset_new();
            rowset_add(s->dead, row);
            s->dead_count++;
            o->dead[first + row] = true;
        }
    }
    for (size_t f = 0; f < ORACLE_FIELDS; f++)
        oracle_count(&o->fields[f], count);
}

static inline void oracle_release(struct oracle *o)
{
    for (size_t f = 0; f < ORACLE_FIELDS; f++) {
        struct oracle_vocabulary *v = &o->fields[f].v;
        buf_release(&v->bytes);
        mem_free(v->terms);
        mem_free(v->starts);
        mem_free(v->sizes);
        mem_free(v->slots);
        mem_free(v->frequency);
        mem_free(o->fields[f].tokens);
        mem_free(o->fields[f].texts);
    }
    mem_free(o->numbers);
    mem_free(o->dead);
    mem_free(o->scores);
    mem_free(o->matches);
    snapshot_unref(o->snapshot);
    schema_unref(o->schema);
    op_release(&o->op);
}

/* ---- a query ---- */

/* A word, or several in double quotes; the last word may be the start of one. */
struct oracle_item {
    struct slice words[ORACLE_WORDS];
    size_t count;
    bool phrase;
};

struct oracle_query {
    struct oracle_item items[ORACLE_ITEMS];
    size_t item_count;
    struct rank_field fields[ORACLE_FIELDS];
    size_t field_count;
    bool all, prefix;
    uint8_t fuzzy;
    int64_t below; /* the number; 1000: all */
    uint32_t top_k;
};

/* Terms of a field that count as one of a query's clauses. */
struct oracle_clause {
    uint32_t item;
    float weight;
    uint32_t *terms; /* one, or those that a beginning stands for */
    uint32_t term_count;
};

static inline uint32_t oracle_characters(struct slice s, uint32_t *out)
{
    uint32_t count = 0;
    for (size_t i = 0; i < s.size; i++) {
        if ((s.data[i] & 0xc0) != 0x80) out[count++] = 0;
        if (count == 0) out[count++] = 0;
        out[count - 1] = out[count - 1] << 8 | s.data[i];
    }
    return count;
}

/* Edits from a to b, exchanged neighbours being one; the whole table. */
static inline uint32_t oracle_distance(struct slice a, struct slice b, uint32_t *length)
{
    static uint32_t x[256], y[256], d[257][257];
    uint32_t n = oracle_characters(a, x), m = oracle_characters(b, y);
    for (uint32_t i = 0; i <= n; i++)
        for (uint32_t j = 0; j <= m; j++) {
            d[i][j] = i == 0 ? j : j == 0 ? i : UINT32_MAX;
            if (i == 0 || j == 0) continue;
            uint32_t replace = d[i - 1][j - 1] + (x[i - 1] != y[j - 1]);
            uint32_t more = d[i - 1][j] + 1, less = d[i][j - 1] + 1;
            d[i][j] = replace < more ? replace : more;
            if (less < d[i][j]) d[i][j] = less;
            if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1] &&
                d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    *length = n < m ? n : m;
    return d[n][m];
}

struct oracle_near {
    uint32_t term, edits, length, frequency;
    struct slice bytes;
};

static inline int oracle_near_compare(const void *a, const void *b)
{
    const struct oracle_near *x = a, *y = b;
    if (x->edits != y->edits) return x->edits < y->edits ? -1 : 1;
    if (x->frequency != y->frequency) return x->frequency > y->frequency ? -1 : 1;
    return slice_compare(x->bytes, y->bytes);
}

/* The terms that a word stands for, the best `max` of them. */
static inline struct oracle_near *oracle_expand(const struct oracle_field *f,
                                                struct slice word, bool prefix,
                                                uint8_t fuzzy, size_t max,
                                                size_t *count)
{
    struct oracle_near *near = mem_new_array(struct oracle_near, f->v.count + 1);
    *count = 0;
    for (uint32_t i = 0; i < f->v.count; i++) {
        struct oracle_near n = {.term = i,
                                .frequency = f->v.frequency[i],
                                .bytes = f->v.terms[i]};
        if (prefix) {
            if (!slice_starts_with(n.bytes, word)) continue;
        } else {
            size_t longer = word.size > n.bytes.size ? word.size - n.bytes.size
                                                     : n.bytes.size - word.size;
            if (longer > 8) continue; /* two characters are at most eight bytes */
            n.edits = oracle_distance(word, n.bytes, &n.length);
            if (n.edits > fuzzy || n.edits >= n.length) continue;
        }
        near[(*count)++] = n;
    }
    qsort(near, *count, sizeof *near, oracle_near_compare);
    if (*count > max) *count = max;
    return near;
}

static inline float oracle_idf(const struct oracle_field *f, uint64_t frequency)
{
    double n = (double)frequency, without = (double)f->documents - n;
    return (float)log(1 + (without + 0.5) / (n + 0.5));
}

static inline uint32_t oracle_find(const struct oracle_field *f, struct slice term)
{
    for (uint64_t hash = xxh3_64(term.data, term.size);; hash++) {
        uint32_t slot = f->v.slot_count ? f->v.slots[hash % f->v.slot_count] : 0;
        if (slot == 0) return UINT32_MAX;
        if (slice_equal(f->v.terms[slot - 1], term)) return slot - 1;
    }
}

/* Clauses of a single word in a field, appended to c. */
static inline size_t oracle_word(const struct oracle_field *f, float weight,
                                 const struct oracle_query *q, uint32_t item,
                                 struct slice word, struct oracle_clause *c)
{
    bool prefix = q->prefix && item + 1 == q->item_count;
    if (!prefix && q->fuzzy == 0) {
        uint32_t term = oracle_find(f, word);
        if (term == UINT32_MAX) return 0;
        c->item = item;
        c->weight = weight * oracle_idf(f, f->v.frequency[term]);
        c->terms = mem_dup(&term, sizeof term);
        c->term_count = 1;
        return 1;
    }
    size_t count, made = 0;
    struct oracle_near *near =
        oracle_expand(f, word, prefix, q->fuzzy, prefix ? 1024 : 50, &count);
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++)
        if (near[i].frequency > most) most = near[i].frequency;
    float idf = oracle_idf(f, most);
    if (prefix && count > 0) {
        c->item = item;
        c->weight = weight * idf;
        c->terms = mem_new_array(uint32_t, count);
        for (size_t i = 0; i < count; i++)
            c->terms[i] = near[i].term;
        c->term_count = (uint32_t)count;
        made = 1;
    }
    for (size_t i = 0; !prefix && i < count; i++)
        c[made++] = (struct oracle_clause){
            item, weight * idf * (1 - (float)near[i].edits / (float)near[i].length),
            mem_dup(&near[i].term, sizeof near[i].term), 1};
    mem_free(near);
    return made;
}

static inline double oracle_bm25(const struct oracle_field *f, uint32_t doc,
                                 double weight, uint32_t frequency)
{
    double length =
        bm25_length_decode(bm25_length_encode((uint32_t)f->texts[doc].count));
    double average = (double)f->total_length / (double)f->documents;
    return weight * frequency / (frequency + 1.2 * (0.25 + 0.75 * length / average));
}

/* How often a phrase stands in a document. */
static inline uint32_t oracle_phrase(const struct oracle_field *f, uint32_t doc,
                                     const uint32_t *terms, size_t count)
{
    const struct oracle_token *t = f->tokens + f->texts[doc].first;
    size_t size = f->texts[doc].count;
    uint32_t found = 0;
    for (size_t i = 0; i + count <= size; i++) {
        size_t k = 0;
        while (k < count && t[i + k].term == terms[k] &&
               t[i + k].position == t[i].position + k)
            k++;
        found += k == count;
    }
    return found;
}

static inline void oracle_add_phrase(struct oracle *o, const struct oracle_field *f,
                                     float weight, const struct oracle_item *item,
                                     uint64_t bit, uint64_t *met)
{
    uint32_t terms[ORACLE_WORDS];
    double idf = 0;
    for (size_t i = 0; i < item->count; i++) {
        terms[i] = oracle_find(f, item->words[i]);
        if (terms[i] == UINT32_MAX) return;
        idf += (double)oracle_idf(f, f->v.frequency[terms[i]]);
    }
    for (uint32_t doc = 0; doc < o->count; doc++) {
        uint32_t frequency = oracle_phrase(f, doc, terms, item->count);
        if (frequency == 0) continue;
        o->scores[doc] += oracle_bm25(f, doc, (double)weight * idf, frequency);
        met[doc] |= bit;
    }
}

/* Adds the clauses of single words of one field to every document. */
static inline void oracle_add_clauses(struct oracle *o, const struct oracle_field *f,
                                      const struct oracle_clause *clauses, size_t count,
                                      uint64_t *met)
{
    /* By term the clauses that it counts for, as a list. */
    uint32_t links = 0, room = 1;
    for (size_t i = 0; i < count; i++)
        room += clauses[i].term_count;
    struct {
        uint32_t clause, next;
    } *link = mem_calloc(room, sizeof *link);
    uint32_t *heads = mem_new_array(uint32_t, f->v.count + 1);
    uint32_t *frequencies = mem_new_array(uint32_t, count + 1);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < clauses[i].term_count; k++) {
            uint32_t term = clauses[i].terms[k];
            link[++links].clause = i;
            link[links].next = heads[term];
            heads[term] = links;
        }
    for (uint32_t doc = 0; doc < o->count; doc++) {
        const struct oracle_text *t = &f->texts[doc];
        bool any = false;
        for (size_t i = t->first; i < t->first + t->count; i++)
            for (uint32_t l = heads[f->tokens[i].term]; l; l = link[l].next) {
                frequencies[link[l].clause]++;
                any = true;
            }
        for (size_t i = 0; any && i < count; i++) {
            if (frequencies[i] == 0) continue;
            o->scores[doc] +=
                oracle_bm25(f, doc, (double)clauses[i].weight, frequencies[i]);
            met[doc] |= 1ull << clauses[i].item;
            frequencies[i] = 0;
        }
    }
    mem_free(link);
    mem_free(heads);
    mem_free(frequencies);
}

/* Fills in o->scores and o->matches. */
static inline void oracle_score(struct oracle *o, const struct oracle_query *q)
{
    uint64_t *met = mem_new_array(uint64_t, o->count + 1);
    struct oracle_clause *clauses = mem_new_array(struct oracle_clause, ORACLE_CLAUSES);

    memset(o->scores, 0, o->count * sizeof *o->scores);
    for (size_t i = 0; i < q->field_count; i++) {
        const struct oracle_field *f = &o->fields[q->fields[i].attr];
        size_t count = 0;
        if (f->documents == 0) continue;
        for (uint32_t k = 0; k < q->item_count; k++) {
            const struct oracle_item *item = &q->items[k];
            float weight = q->fields[i].weight;
            if (item->phrase && item->count > 1)
                oracle_add_phrase(o, f, weight, item, 1ull << k, met);
            else
                count += oracle_word(f, weight, q, k, item->words[0], clauses + count);
        }
        oracle_add_clauses(o, f, clauses, count, met);
        for (size_t k = 0; k < count; k++)
            mem_free(clauses[k].terms);
    }
    for (uint32_t doc = 0; doc < o->count; doc++)
        o->matches[doc] = !o->dead[doc] && o->numbers[doc] < q->below && met[doc] &&
                          (!q->all || met[doc] == (1ull << q->item_count) - 1);
    mem_free(met);
    mem_free(clauses);
}

/* The query as a user writes it. */
static inline void oracle_text(const struct oracle_query *q, struct buf *out)
{
    for (size_t i = 0; i < q->item_count; i++) {
        const struct oracle_item *item = &q->items[i];
        if (i) buf_append_byte(out, ' ');
        if (item->phrase) buf_append_byte(out, '"');
        for (size_t k = 0; k < item->count; k++) {
            if (k) buf_append_byte(out, ' ');
            buf_append_slice(out, item->words[k]);
        }
        if (item->phrase) buf_append_byte(out, '"');
    }
}

static inline int oracle_descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The scores of the hits are the best ones, each that of its document; ties by id. */
static inline void oracle_compare(const struct oracle *o, const struct oracle_query *q,
                                  const struct query_result *r, const char *text)
{
    double *sorted = mem_new_array(double, o->count + 1);
    size_t n = 0;
    for (uint32_t doc = 0; doc < o->count; doc++)
        if (o->matches[doc]) sorted[n++] = o->scores[doc];
    qsort(sorted, n, sizeof *sorted, oracle_descending);

    size_t wanted = n < q->top_k ? n : q->top_k;
    if (r->count != wanted)
        fail_msg("%s: %zu results instead of %zu", text, r->count, wanted);
    for (size_t i = 0; i < wanted; i++) {
        const struct query_hit *hit = &r->hits[i];
        double tolerance = 1e-4 * (1 + sorted[i]);
        uint64_t id = hit->doc.id.u64;
        if (fabs(hit->score - sorted[i]) > tolerance)
            fail_msg("%s: place %zu has score %g instead of %g", text, i, hit->score,
                     sorted[i]);
        if (!o->matches[id] || fabs(hit->score - o->scores[id]) > tolerance)
            fail_msg("%s: place %zu has document %llu of score %g instead of %g", text,
                     i, (unsigned long long)id, o->scores[id], hit->score);
        bool ordered = i == 0 || hit[-1].score > hit->score ||
                       (!(hit[-1].score < hit->score) && hit[-1].doc.id.u64 < id);
        if (!ordered) fail_msg("%s: places %zu and %zu are exchanged", text, i - 1, i);
    }
    mem_free(sorted);
}

static inline void oracle_check(struct oracle *o, const struct oracle_query *q)
{
    struct buf text = BUF_INIT;
    struct op op;
    struct query_result result;
    union scalar below = {.i = q->below};
    struct filter filter = {.op = FILTER_LT,
                            .attr = 2,
                            .type = ATTR_INT,
                            .values = &below,
                            .value_count = 1};
    oracle_text(q, &text);
    struct rank rank = {.kind = RANK_TEXT,
                        .text = buf_slice(&text),
                        .fields = q->fields,
                        .field_count = q->field_count,
                        .all_words = q->all,
                        .prefix = q->prefix,
                        .fuzzy = q->fuzzy};
    struct query query = {.ranks = &rank, .rank_count = 1, .top_k = q->top_k};
    if (q->below < 1000) query.filter = &filter;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (query_run(&op, o->snapshot, &query, &result)) fail_msg("query: %s", op.error);
    oracle_score(o, q);
    buf_append_byte(&text, 0);
    oracle_compare(o, q, &result, (const char *)text.data);
    buf_release(&text);
    op_release(&op);
}

/* ---- random queries ---- */

/* A word of a random document of the field; false if that is empty. Sometimes cut, or
 * with a character changed. */
static inline bool oracle_draw(const struct oracle *o, uint64_t *seed, int attr,
                               struct oracle_item *item, size_t count)
{
    const struct oracle_field *f = &o->fields[attr];
    const struct oracle_text *t = &f->texts[test_random(seed) % o->count];
    if (t->count < count) return false;
    size_t at = t->first + test_random(seed) % (t->count - count + 1);
    for (size_t i = 0; i < count; i++)
        item->words[i] = f->v.terms[f->tokens[at + i].term];
    item->count = count;
    return true;
}

/* Are these bytes one word, as a query has it? A word cut behind a joiner is not. */
static inline bool oracle_is_word(struct slice bytes)
{
    struct words w = words_of(bytes, false);
    size_t begin, end;
    return words_next(&w, &begin, &end) && begin == 0 && end == bytes.size;
}

static inline void oracle_query_make(const struct oracle *o, uint64_t *seed,
                                     struct oracle_query *q)
{
    static const uint32_t ks[] = {1, 3, 10, 100, 1000};
    size_t items = 1 + test_random(seed) % 5;
    *q = (struct oracle_query){.field_count = 1 + test_random(seed) % 2,
                               .all = test_random(seed) % 3 == 0,
                               .prefix = test_random(seed) % 6 == 0,
                               .fuzzy = test_random(seed) % 8 ? 0 : 1,
                               .below = test_random(seed) % 3
                                            ? 1000
                                            : (int64_t)(test_random(seed) % 400),
                               .top_k = ks[test_random(seed) % COUNT_OF(ks)]};
    if (q->fuzzy && test_random(seed) % 3 == 0) q->fuzzy = 2;
    if (test_random(seed) % 4 == 0) q->below = 1 + (int64_t)(test_random(seed) % 10);
    int first = (int)(test_random(seed) % 2);
    q->fields[0] = (struct rank_field){first, 1.0F};
    q->fields[1] = (struct rank_field){1 - first, 2.5F};
    for (size_t tries = 0; q->item_count < items && tries < 100; tries++) {
        struct oracle_item *item = &q->items[q->item_count];
        int attr = q->fields[test_random(seed) % q->field_count].attr;
        item->phrase = test_random(seed) % 4 == 0;
        size_t words = item->phrase ? 1 + test_random(seed) % ORACLE_WORDS : 1;
        q->item_count += oracle_draw(o, seed, attr, item, words);
    }
    struct oracle_item *last = &q->items[q->item_count ? q->item_count - 1 : 0];
    if (q->item_count == 0 || last->phrase) {
        q->prefix = false;
    } else if (q->prefix) {
        size_t cut = 1 + test_random(seed) % last->words[0].size;
        while (cut < last->words[0].size && (last->words[0].data[cut] & 0xc0) == 0x80)
            cut++;
        struct slice begin = slice_of(last->words[0].data, cut);
        if (oracle_is_word(begin)) last->words[0] = begin;
    }
}

static inline void oracle_run(struct oracle *o, uint64_t *seed, size_t queries)
{
    for (size_t i = 0; i < queries; i++) {
        struct oracle_query q;
        oracle_query_make(o, seed, &q);
        oracle_check(o, &q);
    }
}

#endif
