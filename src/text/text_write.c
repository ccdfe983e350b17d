/*
 * What the builder and the merge write alike: a term with its list and positions, and
 * the index around them. So equal documents make equal bytes, whichever way they came.
 */
#include <assert.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "text/analyze.h"
#include "text/text_layout.h"

void text_term_reserve(struct text_term_rooms *rooms, size_t postings, size_t numbers)
{
    if (postings > rooms->posting_room) {
        rooms->posting_room = 2 * postings;
        rooms->postings =
            mem_realloc(rooms->postings, rooms->posting_room * sizeof *rooms->postings);
    }
    if (numbers > rooms->number_room) {
        rooms->number_room = 2 * numbers;
        rooms->numbers =
            mem_realloc(rooms->numbers, rooms->number_room * sizeof *rooms->numbers);
    }
}

void text_term_release(struct text_term_rooms *rooms)
{
    mem_free(rooms->postings);
    mem_free(rooms->numbers);
    buf_release(&rooms->body);
}

void text_term_write(struct text_term_rooms *rooms, struct slice term, uint32_t count,
                     size_t numbers, const uint8_t *lengths, struct buf *positions,
                     struct dictionary_writer *dictionary)
{
    bool small = count <= POSTINGS_SMALL;
    int64_t before = -1;

    assert(count > 0 && numbers >= count);
    buf_clear(&rooms->body);
    put_varint(&rooms->body, count);
    for (uint32_t i = 0; small && i < count; i++) {
        postings_put(&rooms->body, before, rooms->postings[i]);
        before = rooms->postings[i].row;
    }
    if (!small) {
        size_t begin;
        struct buf *lists = dictionary_lists(dictionary, &begin);
        size_t before_list = lists->size;
        postings_encode(rooms->postings, count, lengths, lists);
        put_varint(&rooms->body, begin);
        put_varint(&rooms->body, lists->size - before_list);
    }
    if (small && numbers <= POSITIONS_INLINE) {
        for (size_t i = 0; i < numbers; i++)
            put_varint(&rooms->body, rooms->numbers[i]);
    } else {
        put_varint(&rooms->body, positions->size);
        positions_encode(rooms->postings, count, rooms->numbers, positions);
    }
    dictionary_put(dictionary, term, buf_slice(&rooms->body));
}

void text_layout_write(const struct analysis *analysis,
                       const struct text_totals *totals, const uint8_t *lengths,
                       struct dictionary_writer *dictionary, struct buf *out)
{
    struct buf pages = BUF_INIT, index = BUF_INIT;
    uint32_t page_count;

    dictionary_finish(dictionary, &pages, &index, &page_count);
    put_u32(out, TEXT_MAGIC);
    put_u16(out, TEXT_VERSION);
    put_u16(out, ANALYSIS_VERSION);
    put_u8(out, (uint8_t)analysis->language);
    put_u8(out, analysis->stemming);
    put_u8(out, analysis->remove_stopwords);
    put_u8(out, (uint8_t)((analysis->case_sensitive ? TEXT_CASE_SENSITIVE : 0) |
                          (analysis->ascii_folding ? TEXT_ASCII_FOLDING : 0)));
    put_u32(out, totals->row_count);
    put_u32(out, totals->document_count);
    put_u32(out, totals->term_count);
    put_u64(out, totals->total_length);
    put_u64(out, 0);
    put_u64(out, pages.size);
    put_u64(out, index.size);
    put_u32(out, page_count);
    put_u32(out, 0);
    buf_append(out, lengths, totals->row_count);
    buf_append_slice(out, buf_slice(&pages));
    buf_append_slice(out, buf_slice(&index));
    buf_release(&pages);
    buf_release(&index);
}
