/*
 * Building: words are numbered through a hash table in the order in which they first
 * occur, and every occurrence goes to the end of a log as number and position.
 * Finishing counts the log's terms and deals its occurrences out to them, which keeps
 * their order; then the terms are written in theirs. So adding touches two places of
 * memory a word, and 16 bytes a word are held at the most.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/text_index.h"
#include "text/text_layout.h"

/* A term's bytes stand in the builder's keys behind its number and size. */
enum { KEY_HEAD = 5, FIRST_SLOTS = 1024 };

struct slot {
    uint32_t hash;
    uint32_t key; /* offset in keys plus one, 0: free */
};

struct occurrence {
    uint32_t term, position;
};

/* A row with terms: that many occurrences of the log, behind those of the row before.
 */
struct row {
    uint32_t row, occurrences;
};

struct text_builder {
    struct analysis analysis;
    struct buf keys;
    struct buf key_offsets; /* u32 a term */
    struct buf log;         /* struct occurrence */
    struct buf rows;        /* struct row */
    struct buf lengths;     /* a byte per row so far */
    struct slot *slots;
    uint32_t slot_count; /* a power of two, at least twice term_count */
    uint32_t term_count;
};

/* Zeros that are written, not the system's, of which a page that is read before it is
 * written costs two faults and an interrupt of the other processors. */
static struct slot *slots_new(uint32_t count)
{
    struct slot *slots = mem_alloc(count * sizeof *slots);
    memset(slots, 0, count * sizeof *slots);
    return slots;
}

struct text_builder *text_builder_new(const struct analysis *analysis)
{
    struct text_builder *b = mem_new(struct text_builder);
    b->analysis = *analysis;
    b->slot_count = FIRST_SLOTS;
    b->slots = slots_new(b->slot_count);
    return b;
}

void text_builder_free(struct text_builder *b)
{
    if (!b) return;
    buf_release(&b->keys);
    buf_release(&b->key_offsets);
    buf_release(&b->log);
    buf_release(&b->rows);
    buf_release(&b->lengths);
    mem_free(b->slots);
    mem_free(b);
}

static void slots_grow(struct text_builder *b)
{
    struct slot *old = b->slots;
    uint32_t old_count = b->slot_count;

    b->slot_count *= 2;
    b->slots = slots_new(b->slot_count);
    for (uint32_t i = 0; i < old_count; i++) {
        if (!old[i].key) continue;
        uint32_t at = old[i].hash & (b->slot_count - 1);
        while (b->slots[at].key)
            at = (at + 1) & (b->slot_count - 1);
        b->slots[at] = old[i];
    }
    mem_free(old);
}

static uint32_t term_add(struct text_builder *b, struct slice key)
{
    assert(b->keys.size < UINT32_MAX - KEY_HEAD - DICTIONARY_TERM_MAX);
    put_u32(&b->key_offsets, (uint32_t)b->keys.size);
    put_u32(&b->keys, b->term_count);
    put_u8(&b->keys, (uint8_t)key.size);
    buf_append_slice(&b->keys, key);
    return b->term_count++;
}

static struct slice key_at(const struct text_builder *b, size_t offset)
{
    const uint8_t *head = b->keys.data + offset;
    return slice_of(head + KEY_HEAD, head[KEY_HEAD - 1]);
}

static uint32_t term_number(struct text_builder *b, struct slice key)
{
    uint32_t hash = (uint32_t)xxh3_64(key.data, key.size);
    uint32_t at = hash & (b->slot_count - 1);

    for (; b->slots[at].key; at = (at + 1) & (b->slot_count - 1)) {
        size_t offset = b->slots[at].key - 1;
        if (b->slots[at].hash == hash && slice_equal(key_at(b, offset), key))
            return load_u32(b->keys.data + offset);
    }
    b->slots[at] = (struct slot){hash, (uint32_t)b->keys.size + 1};
    uint32_t number = term_add(b, key);
    if (b->term_count > b->slot_count / 2) slots_grow(b);
    return number;
}

/* Adds the words of one text; *position is that of its first word, and afterwards of
 * the first word of another text of the row. */
static void text_add(struct text_builder *b, struct slice text, uint32_t *position)
{
    struct analyzer *analyzer = analyzer_get(&b->analysis);
    struct token token;
    uint32_t first = *position;

    analyzer_start(analyzer, text);
    while (analyzer_next(analyzer, &token)) {
        struct occurrence o = {term_number(b, token.term), first + token.position};
        buf_append(&b->log, &o, sizeof o);
        *position = o.position + POSITION_GAP;
    }
}

void text_builder_add(struct text_builder *b, uint32_t row, bool array,
                      const struct value *v)
{
    size_t before = b->log.size;
    uint32_t position = 0;

    assert(row >= b->lengths.size);
    if (v->null) return;
    if (array)
        for (uint32_t i = 0; i < v->count; i++)
            text_add(b, v->items[i].s, &position);
    else
        text_add(b, v->one.s, &position);
    size_t length = (b->log.size - before) / sizeof(struct occurrence);
    if (length == 0) return;

    assert(length <= UINT32_MAX);
    struct row added = {row, (uint32_t)length};
    buf_append(&b->rows, &added, sizeof added);
    buf_append_zeros(&b->lengths, row - b->lengths.size);
    put_u8(&b->lengths, bm25_length_encode((uint32_t)length));
}

/* ---- finish ---- */

/* For sorting: the first eight bytes decide nearly always. */
struct sort_key {
    uint64_t front;
    struct slice key;
    uint32_t term;
};

static int sort_compare(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    if (x->front != y->front) return x->front < y->front ? -1 : 1;
    return slice_compare(x->key, y->key);
}

static uint64_t front_of(struct slice key)
{
    uint8_t bytes[8] = {0};
    memcpy(bytes, key.data, key.size < 8 ? key.size : 8);
    return __builtin_bswap64(load_u64(bytes));
}

static struct sort_key *terms_sort(const struct text_builder *b)
{
    struct sort_key *keys = mem_new_array(struct sort_key, b->term_count);
    for (uint32_t i = 0; i < b->term_count; i++) {
        uint32_t offset = load_u32(b->key_offsets.data + i * sizeof offset);
        struct slice key = key_at(b, offset);
        keys[i] = (struct sort_key){front_of(key), key, i};
    }
    qsort(keys, b->term_count, sizeof *keys, sort_compare);
    return keys;
}

/* Where a term occurs. */
struct place {
    uint32_t row, position;
};

/* The log's occurrences by term; those of term i end with ends[i], and begin where the
 * term before ends. Both are the caller's. */
static struct place *places_deal(const struct text_builder *b, size_t **out_ends)
{
    const struct occurrence *log = (const void *)b->log.data;
    const struct row *rows = (const void *)b->rows.data;
    size_t count = b->log.size / sizeof *log;
    struct place *places = mem_alloc((count + 1) * sizeof *places);
    size_t *ends = mem_new_array(size_t, (size_t)b->term_count + 1);

    for (size_t i = 0; i < count; i++)
        ends[log[i].term + 1]++;
    for (uint32_t i = 0; i < b->term_count; i++)
        ends[i + 1] += ends[i];
    /* ends[i] is where term i begins, and moves to its end while it is dealt to. */
    for (size_t i = 0; i < b->rows.size / sizeof *rows; i++)
        for (uint32_t left = rows[i].occurrences; left > 0; left--, log++)
            places[ends[log->term]++] = (struct place){rows[i].row, log->position};
    *out_ends = ends;
    return places;
}

/* Makes postings and position numbers of a term's places; how many postings. */
static uint32_t term_collect(const struct place *places, size_t count,
                             struct text_term_rooms *rooms)
{
    uint32_t postings = 0;

    text_term_reserve(rooms, count, count);
    for (size_t i = 0; i < count; i++) {
        bool again = i > 0 && places[i].row == places[i - 1].row;
        rooms->numbers[i] = again ? places[i].position - places[i - 1].position - 1
                                  : places[i].position;
        if (again)
            rooms->postings[postings - 1].frequency++;
        else
            rooms->postings[postings++] = (struct posting){places[i].row, 1};
    }
    return postings;
}

void text_builder_finish(struct text_builder *b, uint32_t row_count, struct buf *out,
                         struct buf *positions)
{
    struct dictionary_writer dictionary = DICTIONARY_WRITER_INIT;
    struct text_term_rooms rooms = {0};
    size_t *ends;

    assert(row_count >= b->lengths.size);
    buf_append_zeros(&b->lengths, row_count - b->lengths.size);
    struct text_totals totals = {.row_count = row_count,
                                 .document_count =
                                     (uint32_t)(b->rows.size / sizeof(struct row)),
                                 .term_count = b->term_count,
                                 .total_length =
                                     b->log.size / sizeof(struct occurrence)};
    struct place *places = places_deal(b, &ends);
    buf_release(&b->log);
    struct sort_key *keys = terms_sort(b);
    for (uint32_t i = 0; i < b->term_count; i++) {
        uint32_t term = keys[i].term;
        size_t begin = term ? ends[term - 1] : 0, count = ends[term] - begin;
        uint32_t postings = term_collect(places + begin, count, &rooms);
        text_term_write(&rooms, keys[i].key, postings, count, b->lengths.data,
                        positions, &dictionary);
    }
    text_layout_write(&b->analysis, &totals, b->lengths.data, &dictionary, out);
    mem_free(places);
    mem_free(ends);
    mem_free(keys);
    text_term_release(&rooms);
    text_builder_free(b);
}
