#include "text/text_index.h"

#include <assert.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "text/analyze.h"
#include "text/text_layout.h"

/* The header's numbers, as they stand in the bytes. */
struct header {
    uint32_t magic;
    uint16_t version, analysis_version;
    uint8_t language, stemming, remove_stopwords, flags;
    uint32_t row_count, document_count, term_count;
    uint64_t total_length, postings_size, pages_size, index_size;
    uint32_t page_count, zero;
};

static struct header header_get(struct reader *r)
{
    struct header h;
    h.magic = get_u32(r);
    h.version = get_u16(r);
    h.analysis_version = get_u16(r);
    h.language = get_u8(r);
    h.stemming = get_u8(r);
    h.remove_stopwords = get_u8(r);
    h.flags = get_u8(r);
    h.row_count = get_u32(r);
    h.document_count = get_u32(r);
    h.term_count = get_u32(r);
    h.total_length = get_u64(r);
    h.postings_size = get_u64(r);
    h.pages_size = get_u64(r);
    h.index_size = get_u64(r);
    h.page_count = get_u32(r);
    h.zero = get_u32(r);
    return h;
}

static const char *header_fault(const struct header *h, uint32_t row_count)
{
    if (h->magic != TEXT_MAGIC) return "it does not begin like one";
    if (h->version < 1 || h->version > TEXT_VERSION)
        return "its layout is of a version unknown here";
    if (h->analysis_version != ANALYSIS_VERSION)
        return "its terms were made by a version of the analysis unknown here";
    if (h->language < LANG_ARABIC || h->language > LANG_LAST)
        return "its language is unknown here";
    if ((h->stemming | h->remove_stopwords) > 1 || h->zero ||
        h->flags > (TEXT_CASE_SENSITIVE | TEXT_ASCII_FOLDING))
        return "its header is damaged";
    if (h->row_count != row_count) return "it has another number of rows";
    if (h->document_count > h->row_count || h->total_length < h->document_count)
        return "its counts contradict each other";
    return NULL;
}

static bool is_chunked(const struct header *h)
{
    return h->version >= TEXT_VERSION_CHUNKS;
}

/* What the header says. */
static enum err header_open(struct op *op, struct reader *r, uint32_t row_count,
                            struct header *h, struct text_index *t)
{
    *h = header_get(r);
    if (r->failed)
        return op_fail(op, ERR_CORRUPT, "text index: shorter than its header");
    const char *fault = header_fault(h, row_count);
    if (fault) return op_fail(op, ERR_CORRUPT, "text index: %s", fault);

    *t = (struct text_index){.analysis = {.language = (enum language)h->language,
                                          .stemming = h->stemming,
                                          .remove_stopwords = h->remove_stopwords,
                                          .case_sensitive =
                                              h->flags & TEXT_CASE_SENSITIVE,
                                          .ascii_folding =
                                              h->flags & TEXT_ASCII_FOLDING},
                             .has_positions = h->version >= TEXT_VERSION_POSITIONS,
                             .row_count = h->row_count,
                             .document_count = h->document_count,
                             .term_count = h->term_count,
                             .total_length = h->total_length};
    return ERR_OK;
}

static enum err not_filled(struct op *op, uint64_t size)
{
    return op_fail(op, ERR_CORRUPT,
                   "text index: its sections do not fill its %llu bytes",
                   (unsigned long long)size);
}

enum err text_index_open(struct op *op, struct slice bytes, uint32_t row_count,
                         struct text_index **out)
{
    struct reader r = reader_of(bytes);
    struct text_index t;
    struct dictionary dictionary;
    struct header h;

    *out = NULL;
    enum err e = header_open(op, &r, row_count, &h, &t);
    if (e) return e;
    t.lengths = get_bytes(&r, h.row_count).data;
    t.postings = get_bytes(&r, h.postings_size);
    struct slice pages = get_bytes(&r, h.pages_size);
    struct slice index = get_bytes(&r, h.index_size);
    if (!reader_done(&r) ||
        !dictionary_open(pages, index, h.page_count, is_chunked(&h), &dictionary))
        return not_filled(op, bytes.size);
    t.dictionary = dictionary;
    *out = mem_dup(&t, sizeof t);
    return ERR_OK;
}

void text_index_close(struct text_index *t)
{
    if (!t) return;
    mem_free(t->chunks);
    mem_free(t);
}

/* ---- by ranges ---- */

void text_index_head(struct slice bytes, struct buf *out)
{
    struct reader r = reader_of(bytes);
    struct header h = header_get(&r);
    assert(!r.failed && is_chunked(&h) && h.index_size <= reader_left(&r));
    buf_append(out, bytes.data, TEXT_HEADER_SIZE);
    buf_append(out, bytes.data + bytes.size - h.index_size, (size_t)h.index_size);
}

enum err text_index_open_head(struct op *op, struct slice head, uint32_t row_count,
                              uint64_t size, struct text_index **out)
{
    struct reader r = reader_of(head);
    struct text_index t;
    struct dictionary dictionary;
    struct header h;

    *out = NULL;
    enum err e = header_open(op, &r, row_count, &h, &t);
    if (e) return e;
    struct slice index = get_bytes(&r, h.index_size);
    uint64_t rest = size - TEXT_HEADER_SIZE - h.index_size;
    bool fits = reader_done(&r) && is_chunked(&h) && h.postings_size == 0 &&
                size >= head.size && rest >= row_count &&
                h.pages_size == rest - row_count;
    if (!fits || !dictionary_open(SLICE_EMPTY, index, h.page_count, true, &dictionary))
        return not_filled(op, size);
    t.dictionary = dictionary;
    t.dictionary.pages_size = h.pages_size;
    *out = mem_dup(&t, sizeof t);
    return ERR_OK;
}

uint64_t text_index_lengths_end(const struct text_index *t)
{
    return TEXT_HEADER_SIZE + (uint64_t)t->row_count;
}

bool text_index_chunk(const struct text_index *head, struct slice term,
                      struct text_chunk *out)
{
    *out = (struct text_chunk){.page = 0};
    if (!dictionary_chunk_of(&head->dictionary, term, &out->page, &out->offset,
                             &out->size))
        return false;
    out->offset += text_index_lengths_end(head);
    return true;
}

struct text_index *text_index_of_chunks(const struct text_index *head,
                                        struct slice begin,
                                        const struct text_chunk *chunks, size_t n)
{
    struct text_index *t = mem_dup(head, sizeof *head);

    assert(begin.size >= text_index_lengths_end(head));
    t->lengths = begin.data + TEXT_HEADER_SIZE;
    t->chunks = mem_new_array(struct dictionary_chunk, n);
    for (size_t i = 0; i < n; i++) {
        assert(chunks[i].bytes.size == chunks[i].size);
        t->chunks[i] = (struct dictionary_chunk){chunks[i].page, chunks[i].bytes};
    }
    t->dictionary.chunks = t->chunks;
    t->dictionary.chunk_count = n;
    return t;
}

uint64_t text_index_document_count(const struct text_index *t)
{
    return t->document_count;
}

uint64_t text_index_total_length(const struct text_index *t)
{
    return t->total_length;
}

void text_index_attach(struct text_index *t, struct slice positions)
{
    t->positions = positions;
}

/* What stands in a body behind the list. */
static bool positions_open(const struct text_index *t, struct reader *r,
                           const struct postings *list, uint64_t frequencies,
                           struct positions *out)
{
    *out = (struct positions){.block_count = list->block_count, .small = list->small};
    if (!t->has_positions) return false;
    if (list->small && frequencies <= POSITIONS_INLINE) {
        out->in_dictionary = true;
        out->bytes = get_bytes(r, reader_left(r));
        return true;
    }
    uint64_t begin = get_varint_max(r, t->positions.size);
    if (!reader_done(r)) return false;
    out->bytes = slice_of(t->positions.data + begin, t->positions.size - begin);
    return out->bytes.size > 0;
}

bool text_body_open(const struct text_index *t, const struct dictionary_entry *entry,
                    struct postings *out, struct positions *out_positions)
{
    struct reader r = reader_of(entry->body);
    struct slice list;
    uint64_t frequencies = 0;
    uint32_t count = (uint32_t)get_varint_max(&r, t->document_count);

    if (r.failed) return false;
    if (count <= POSTINGS_SMALL) {
        struct slice rest = slice_of(r.data + r.offset, reader_left(&r));
        size_t size;
        if (!postings_small_size(rest, count, &size, &frequencies)) return false;
        list = get_bytes(&r, size);
    } else {
        struct slice lists = t->dictionary.chunked ? entry->lists : t->postings;
        uint64_t begin = get_varint_max(&r, lists.size);
        uint64_t size = get_varint_max(&r, lists.size - begin);
        if (r.failed) return false;
        list = slice_of(lists.data + begin, size);
    }
    if (!postings_open(list, count, t->row_count, out)) return false;
    return !out_positions || positions_open(t, &r, out, frequencies, out_positions);
}

enum err text_index_list(struct op *op, const struct text_index *t, struct slice term,
                         bool *found, struct postings *out)
{
    struct dictionary_entry entry;
    enum dictionary_found in = dictionary_find(&t->dictionary, term, &entry);

    *found = in == DICTIONARY_FOUND;
    if (in == DICTIONARY_DAMAGED || (*found && !text_body_open(t, &entry, out, NULL)))
        return op_fail(op, ERR_CORRUPT, "text index: damaged dictionary at \"%.*s\"",
                       (int)term.size, (const char *)term.data);
    return ERR_OK;
}

uint64_t text_index_frequency(const struct text_index *t, struct slice term)
{
    struct dictionary_entry entry;

    /* Damage is reported by the search, which comes next and meets the same bytes. */
    if (dictionary_find(&t->dictionary, term, &entry) != DICTIONARY_FOUND) return 0;
    struct reader r = reader_of(entry.body);
    return get_varint_max(&r, t->document_count);
}
