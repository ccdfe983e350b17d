/*
 * Building: each term has a slot in a hash table, its bytes in one buffer, and its
 * postings and positions as varints in buffers of its own. The posting of the row at
 * hand waits in the slot until a later row has the term, and the last position until
 * there is another one, so the three terms in four that occur once never allocate
 * anything. Nothing but finish looks at terms in order.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/text_index.h"
#include "text/text_layout.h"

struct term {
    struct buf postings;  /* all but the last one */
    struct buf positions; /* numbers as positions_encode wants them, but the last */
    size_t key;           /* in the builder's keys */
    uint32_t hash;
    uint32_t count;      /* postings, the last one too */
    int64_t before;      /* last row in postings, -1: none */
    struct posting last; /* grows while its row is being added */
    uint32_t position;   /* the last one */
    uint32_t number;     /* what it will be stored as */
    uint8_t key_size;
};

struct text_builder {
    struct analysis analysis;
    struct buf keys;
    struct buf lengths; /* a byte per row so far */
    struct term *terms;
    uint32_t term_count, term_room;
    uint32_t *slots;     /* number of a term plus one, 0: free */
    uint32_t slot_count; /* a power of two, at least twice term_count */
    uint32_t document_count;
    uint64_t total_length;
};

enum { FIRST_SLOTS = 1024 };

struct text_builder *text_builder_new(const struct analysis *analysis)
{
    struct text_builder *b = mem_new(struct text_builder);
    b->analysis = *analysis;
    b->slot_count = FIRST_SLOTS;
    b->slots = mem_new_array(uint32_t, b->slot_count);
    return b;
}

static void term_release(struct term *t)
{
    buf_release(&t->postings);
    buf_release(&t->positions);
}

void text_builder_free(struct text_builder *b)
{
    if (!b) return;
    for (uint32_t i = 0; i < b->term_count; i++)
        term_release(&b->terms[i]);
    buf_release(&b->keys);
    buf_release(&b->lengths);
    mem_free(b->terms);
    mem_free(b->slots);
    mem_free(b);
}

static void slots_grow(struct text_builder *b)
{
    mem_free(b->slots);
    b->slot_count *= 2;
    b->slots = mem_new_array(uint32_t, b->slot_count);
    for (uint32_t i = 0; i < b->term_count; i++) {
        uint32_t slot = b->terms[i].hash & (b->slot_count - 1);
        while (b->slots[slot])
            slot = (slot + 1) & (b->slot_count - 1);
        b->slots[slot] = i + 1;
    }
}

static struct slice term_key(const struct text_builder *b, const struct term *t)
{
    return slice_of(b->keys.data + t->key, t->key_size);
}

static struct term *term_add(struct text_builder *b, struct slice key, uint32_t hash)
{
    if (b->term_count == b->term_room) {
        b->term_room = b->term_room ? b->term_room * 2 : FIRST_SLOTS / 2;
        b->terms = mem_realloc(b->terms, b->term_room * sizeof *b->terms);
    }
    struct term *t = &b->terms[b->term_count++];
    *t = (struct term){.key = b->keys.size,
                       .hash = hash,
                       .before = -1,
                       .key_size = (uint8_t)key.size};
    buf_append_slice(&b->keys, key);
    return t;
}

static struct term *term_get(struct text_builder *b, struct slice key)
{
    uint32_t hash = (uint32_t)xxh3_64(key.data, key.size);
    uint32_t slot = hash & (b->slot_count - 1);

    for (; b->slots[slot]; slot = (slot + 1) & (b->slot_count - 1)) {
        struct term *t = &b->terms[b->slots[slot] - 1];
        if (t->hash == hash && slice_equal(term_key(b, t), key)) return t;
    }
    struct term *t = term_add(b, key, hash);
    b->slots[slot] = b->term_count;
    if (b->term_count > b->slot_count / 2) slots_grow(b);
    return t;
}

/* Moves the waiting posting to the others. */
static void term_flush(struct term *t)
{
    postings_put(&t->postings, t->before, t->last);
    t->before = t->last.row;
}

static void term_count_in(struct text_builder *b, struct slice key, uint32_t row,
                          uint32_t position)
{
    struct term *t = term_get(b, key);
    bool again = t->count && t->last.row == row;

    if (t->count) put_varint(&t->positions, t->number);
    t->number = again ? position - t->position - 1 : position;
    t->position = position;
    if (again) {
        t->last.frequency++;
        return;
    }
    if (t->count) term_flush(t);
    t->count++;
    t->last = (struct posting){row, 1};
}

/* Adds the words of one text; *position is that of its first word, and afterwards of
 * the first word of another text of the row. */
static uint64_t text_add(struct text_builder *b, uint32_t row, struct slice text,
                         uint32_t *position)
{
    struct analyzer *analyzer = analyzer_get(&b->analysis);
    struct token token;
    uint32_t first = *position;
    uint64_t length = 0;

    analyzer_start(analyzer, text);
    for (; analyzer_next(analyzer, &token); length++) {
        term_count_in(b, token.term, row, first + token.position);
        *position = first + token.position + POSITION_GAP;
    }
    return length;
}

void text_builder_add(struct text_builder *b, uint32_t row, bool array,
                      const struct value *v)
{
    uint64_t length = 0;
    uint32_t position = 0;

    assert(row >= b->lengths.size);
    if (v->null) return;
    if (array)
        for (uint32_t i = 0; i < v->count; i++)
            length += text_add(b, row, v->items[i].s, &position);
    else
        length = text_add(b, row, v->one.s, &position);
    if (length == 0) return;

    buf_append_zeros(&b->lengths, row - b->lengths.size);
    put_u8(&b->lengths,
           bm25_length_encode(length < UINT32_MAX ? (uint32_t)length : UINT32_MAX));
    b->document_count++;
    b->total_length += length;
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
        struct slice key = term_key(b, &b->terms[i]);
        keys[i] = (struct sort_key){front_of(key), key, i};
    }
    qsort(keys, b->term_count, sizeof *keys, sort_compare);
    return keys;
}

/* Reads back our own varints; how many positions there are. */
static size_t term_collect(const struct term *t, struct text_term_rooms *rooms)
{
    struct reader r = reader_of(buf_slice(&t->postings));
    int64_t before = -1;
    size_t numbers = 0;

    text_term_reserve(rooms, t->count, 0);
    for (uint32_t i = 0; i < t->count; i++) {
        struct posting *p = &rooms->postings[i];
        uint64_t gap = get_varint(&r);
        p->row = (uint32_t)(before + 1 + (int64_t)(gap >> 1));
        p->frequency = gap & 1 ? 1 : (uint32_t)get_varint(&r) + 2;
        before = p->row;
        numbers += p->frequency;
    }
    assert(reader_done(&r));

    text_term_reserve(rooms, 0, numbers);
    r = reader_of(buf_slice(&t->positions));
    for (size_t i = 0; i < numbers; i++)
        rooms->numbers[i] = (uint32_t)get_varint(&r);
    assert(reader_done(&r));
    return numbers;
}

void text_builder_finish(struct text_builder *b, uint32_t row_count, struct buf *out,
                         struct buf *positions)
{
    struct dictionary_writer dictionary = DICTIONARY_WRITER_INIT;
    struct text_term_rooms rooms = {0};
    struct buf lists = BUF_INIT;

    assert(row_count >= b->lengths.size);
    buf_append_zeros(&b->lengths, row_count - b->lengths.size);
    struct sort_key *keys = terms_sort(b);
    for (uint32_t i = 0; i < b->term_count; i++) {
        struct term *t = &b->terms[keys[i].term];
        term_flush(t);
        put_varint(&t->positions, t->number);
        size_t numbers = term_collect(t, &rooms);
        text_term_write(&rooms, term_key(b, t), t->count, numbers, b->lengths.data,
                        &lists, positions, &dictionary);
        term_release(t);
    }
    struct text_totals totals = {.row_count = row_count,
                                 .document_count = b->document_count,
                                 .term_count = b->term_count,
                                 .total_length = b->total_length};
    text_layout_write(&b->analysis, &totals, b->lengths.data, &lists, &dictionary, out);
    mem_free(keys);
    text_term_release(&rooms);
    buf_release(&lists);
    text_builder_free(b);
}
