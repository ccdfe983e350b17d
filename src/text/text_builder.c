/*
 * Building: each term has a slot in a hash table, its bytes in one buffer, and its
 * postings as varints in a buffer of its own. The posting of the row at hand waits in
 * the slot until a later row has the term, so the three terms in four that occur in one
 * row only never allocate anything. Nothing but finish looks at terms in order.
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
    struct buf postings; /* all but the last one */
    size_t key;          /* in the builder's keys */
    uint32_t hash;
    uint32_t count;      /* postings, the last one too */
    int64_t before;      /* last row in postings, -1: none */
    struct posting last; /* grows while its row is being added */
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

void text_builder_free(struct text_builder *b)
{
    if (!b) return;
    for (uint32_t i = 0; i < b->term_count; i++)
        buf_release(&b->terms[i].postings);
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

static void term_count_in(struct text_builder *b, struct slice key, uint32_t row)
{
    struct term *t = term_get(b, key);
    if (t->count && t->last.row == row) {
        if (t->last.frequency < UINT32_MAX) t->last.frequency++;
        return;
    }
    if (t->count) term_flush(t);
    t->count++;
    t->last = (struct posting){row, 1};
}

static uint64_t text_add(struct text_builder *b, uint32_t row, struct slice text)
{
    struct analyzer *analyzer = analyzer_get(&b->analysis);
    struct token token;
    uint64_t length = 0;

    analyzer_start(analyzer, text);
    for (; analyzer_next(analyzer, &token); length++)
        term_count_in(b, token.term, row);
    return length;
}

void text_builder_add(struct text_builder *b, uint32_t row, bool array,
                      const struct value *v)
{
    uint64_t length = 0;

    assert(row >= b->lengths.size);
    if (v->null) return;
    if (array)
        for (uint32_t i = 0; i < v->count; i++)
            length += text_add(b, row, v->items[i].s);
    else
        length = text_add(b, row, v->one.s);
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

/* Reads back our own varints. */
static void postings_collect(const struct term *t, struct posting *out)
{
    struct reader r = reader_of(buf_slice(&t->postings));
    int64_t before = -1;

    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t gap = get_varint(&r);
        out[i].row = (uint32_t)(before + 1 + (int64_t)(gap >> 1));
        out[i].frequency = gap & 1 ? 1 : (uint32_t)get_varint(&r) + 2;
        before = out[i].row;
    }
    assert(reader_done(&r));
}

/* Rooms that are used again for each term. */
struct finish_rooms {
    struct posting *postings;
    uint32_t postings_room;
    struct buf body;
};

static void term_write(struct text_builder *b, struct term *t,
                       struct finish_rooms *rooms, struct buf *lists,
                       struct dictionary_writer *dictionary)
{
    term_flush(t);
    buf_clear(&rooms->body);
    put_varint(&rooms->body, t->count);
    if (t->count <= POSTINGS_SMALL) {
        buf_append_slice(&rooms->body, buf_slice(&t->postings));
    } else {
        if (t->count > rooms->postings_room) {
            rooms->postings_room = t->count > UINT32_MAX / 2 ? t->count : t->count * 2;
            rooms->postings = mem_realloc(rooms->postings, rooms->postings_room *
                                                               sizeof *rooms->postings);
        }
        size_t begin = lists->size;
        postings_collect(t, rooms->postings);
        postings_encode(rooms->postings, t->count, b->lengths.data, lists);
        put_varint(&rooms->body, begin);
        put_varint(&rooms->body, lists->size - begin);
    }
    dictionary_put(dictionary, term_key(b, t), buf_slice(&rooms->body));
    buf_release(&t->postings);
}

void text_builder_finish(struct text_builder *b, uint32_t row_count, struct buf *out)
{
    struct dictionary_writer dictionary = DICTIONARY_WRITER_INIT;
    struct finish_rooms rooms = {0};
    struct buf lists = BUF_INIT, pages = BUF_INIT, index = BUF_INIT;
    uint32_t page_count;

    assert(row_count >= b->lengths.size);
    buf_append_zeros(&b->lengths, row_count - b->lengths.size);
    struct sort_key *keys = terms_sort(b);
    for (uint32_t i = 0; i < b->term_count; i++)
        term_write(b, &b->terms[keys[i].term], &rooms, &lists, &dictionary);
    dictionary_finish(&dictionary, &pages, &index, &page_count);

    put_u32(out, TEXT_MAGIC);
    put_u16(out, TEXT_VERSION);
    put_u16(out, ANALYSIS_VERSION);
    put_u8(out, (uint8_t)b->analysis.language);
    put_u8(out, b->analysis.stemming);
    put_u8(out, b->analysis.remove_stopwords);
    put_u8(out, b->analysis.case_sensitive);
    put_u32(out, row_count);
    put_u32(out, b->document_count);
    put_u32(out, b->term_count);
    put_u64(out, b->total_length);
    put_u64(out, lists.size);
    put_u64(out, pages.size);
    put_u64(out, index.size);
    put_u32(out, page_count);
    put_u32(out, 0);
    buf_append_slice(out, buf_slice(&b->lengths));
    buf_append_slice(out, buf_slice(&lists));
    buf_append_slice(out, buf_slice(&pages));
    buf_append_slice(out, buf_slice(&index));

    mem_free(keys);
    mem_free(rooms.postings);
    buf_release(&rooms.body);
    buf_release(&lists);
    buf_release(&pages);
    buf_release(&index);
    text_builder_free(b);
}
