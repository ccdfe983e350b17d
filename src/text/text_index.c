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
    uint8_t language, flags[3];
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
    for (size_t i = 0; i < 3; i++)
        h.flags[i] = get_u8(r);
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
    if (h->version != TEXT_VERSION) return "its layout is of a version unknown here";
    if (h->analysis_version != ANALYSIS_VERSION)
        return "its terms were made by a version of the analysis unknown here";
    if (h->language < LANG_ARABIC || h->language > LANG_LAST)
        return "its language is unknown here";
    if ((h->flags[0] | h->flags[1] | h->flags[2]) > 1 || h->zero)
        return "its header is damaged";
    if (h->row_count != row_count) return "it has another number of rows";
    if (h->document_count > h->row_count || h->total_length < h->document_count)
        return "its counts contradict each other";
    return NULL;
}

enum err text_index_open(struct op *op, struct slice bytes, uint32_t row_count,
                         struct text_index **out)
{
    struct reader r = reader_of(bytes);
    struct text_index t = {0};
    struct dictionary dictionary;

    *out = NULL;
    struct header h = header_get(&r);
    if (r.failed)
        return op_fail(op, ERR_CORRUPT, "text index: shorter than its header");
    const char *fault = header_fault(&h, row_count);
    if (fault) return op_fail(op, ERR_CORRUPT, "text index: %s", fault);

    t.row_count = h.row_count;
    t.document_count = h.document_count;
    t.total_length = h.total_length;
    t.lengths = get_bytes(&r, h.row_count).data;
    t.postings = get_bytes(&r, h.postings_size);
    struct slice pages = get_bytes(&r, h.pages_size);
    struct slice index = get_bytes(&r, h.index_size);
    if (!reader_done(&r) || !dictionary_open(pages, index, h.page_count, &dictionary))
        return op_fail(op, ERR_CORRUPT,
                       "text index: its sections do not fill its %zu bytes",
                       bytes.size);
    t.dictionary = dictionary;
    *out = mem_dup(&t, sizeof t);
    return ERR_OK;
}

void text_index_close(struct text_index *t)
{
    mem_free(t);
}

uint64_t text_index_document_count(const struct text_index *t)
{
    return t->document_count;
}

uint64_t text_index_total_length(const struct text_index *t)
{
    return t->total_length;
}

/* The list in a term's body; false if it is none. */
static bool list_open(const struct text_index *t, struct slice body,
                      struct postings *out)
{
    struct reader r = reader_of(body);
    uint32_t count = (uint32_t)get_varint_max(&r, t->document_count);
    if (count <= POSTINGS_SMALL)
        return !r.failed &&
               postings_open(get_bytes(&r, reader_left(&r)), count, t->row_count, out);

    uint64_t begin = get_varint_max(&r, t->postings.size);
    uint64_t size = get_varint_max(&r, t->postings.size - begin);
    if (!reader_done(&r)) return false;
    struct slice list = slice_of(t->postings.data + begin, size);
    return postings_open(list, count, t->row_count, out);
}

enum err text_index_list(struct op *op, const struct text_index *t, struct slice term,
                         bool *found, struct postings *out)
{
    struct slice body;
    enum dictionary_found in = dictionary_find(&t->dictionary, term, &body);

    *found = in == DICTIONARY_FOUND;
    if (in == DICTIONARY_DAMAGED || (*found && !list_open(t, body, out)))
        return op_fail(op, ERR_CORRUPT, "text index: damaged dictionary at \"%.*s\"",
                       (int)term.size, (const char *)term.data);
    return ERR_OK;
}

uint64_t text_index_frequency(const struct text_index *t, struct slice term)
{
    struct slice body;
    struct postings list;

    /* Damage is reported by the search, which comes next and meets the same bytes. */
    if (dictionary_find(&t->dictionary, term, &body) != DICTIONARY_FOUND) return 0;
    return list_open(t, body, &list) ? list.count : 0;
}
