#include "text/dictionary.h"

#include <assert.h>

#include "base/codec.h"

enum { PAGE_SIZE = 16 * 1024, RUN_TERMS = 16, ENTRY_HEAD = 3 };

/* ---- writing ---- */

static void page_finish(struct dictionary_writer *w)
{
    if (w->runs.size == 0) return;
    uint16_t runs = (uint16_t)(w->runs.size / 2);
    uint16_t head = (uint16_t)(2 + w->runs.size);

    size_t begin = w->pages.size;
    put_u64(&w->chunk_begins, w->chunk);
    put_u16(&w->pages, runs);
    for (size_t i = 0; i < runs; i++) {
        uint16_t offset;
        memcpy(&offset, w->runs.data + 2 * i, sizeof offset);
        put_u16(&w->pages, (uint16_t)(head + offset));
    }
    buf_append_slice(&w->pages, buf_slice(&w->entries));
    put_u32(&w->page_sizes, (uint32_t)(w->pages.size - begin));
    w->chunk = w->pages.size;
    w->page_count++;
    buf_clear(&w->entries);
    buf_clear(&w->runs);
    w->in_run = 0;
}

struct buf *dictionary_lists(struct dictionary_writer *w, size_t *begin)
{
    if (w->entries.size >= PAGE_SIZE) page_finish(w);
    *begin = w->pages.size - w->chunk;
    return &w->pages;
}

void dictionary_put(struct dictionary_writer *w, struct slice term, struct slice body)
{
    assert(term.size > 0 && term.size <= DICTIONARY_TERM_MAX);
    assert(body.size <= DICTIONARY_BODY_MAX);
    assert(slice_compare(buf_slice(&w->last), term) < 0);

    if (w->entries.size >= PAGE_SIZE) page_finish(w);
    if (w->runs.size == 0) {
        put_u32(&w->key_offsets, (uint32_t)w->keys.size);
        buf_append_slice(&w->keys, term);
    }
    bool run_start = w->in_run == 0;
    size_t shared = run_start ? 0 : slice_shared(buf_slice(&w->last), term);
    if (run_start) put_u16(&w->runs, (uint16_t)w->entries.size);
    w->in_run = (w->in_run + 1) % RUN_TERMS;

    put_u8(&w->entries, (uint8_t)shared);
    put_u8(&w->entries, (uint8_t)(term.size - shared));
    put_u8(&w->entries, (uint8_t)body.size);
    buf_append(&w->entries, term.data + shared, term.size - shared);
    buf_append_slice(&w->entries, body);

    buf_clear(&w->last);
    buf_append_slice(&w->last, term);
}

void dictionary_finish(struct dictionary_writer *w, struct buf *pages,
                       struct buf *index, uint32_t *page_count)
{
    page_finish(w);
    put_u64(&w->chunk_begins, w->pages.size);
    put_u32(&w->key_offsets, (uint32_t)w->keys.size);

    if (pages->data) {
        buf_append_slice(pages, buf_slice(&w->pages));
    } else {
        *pages = w->pages;
        w->pages = BUF_INIT;
    }
    buf_append_slice(index, buf_slice(&w->chunk_begins));
    buf_append_slice(index, buf_slice(&w->key_offsets));
    buf_append_slice(index, buf_slice(&w->page_sizes));
    buf_append_slice(index, buf_slice(&w->keys));
    *page_count = w->page_count;
    dictionary_writer_release(w);
}

void dictionary_writer_release(struct dictionary_writer *w)
{
    buf_release(&w->pages);
    buf_release(&w->chunk_begins);
    buf_release(&w->page_sizes);
    buf_release(&w->key_offsets);
    buf_release(&w->keys);
    buf_release(&w->entries);
    buf_release(&w->runs);
    buf_release(&w->last);
}

/* ---- reading ---- */

/* Bytes of the tables in front of the keys: one offset a page more than there are. */
static uint64_t tables_size(uint32_t page_count, bool chunked)
{
    uint64_t offsets = (uint64_t)page_count + 1;
    return chunked ? 12 * offsets + 4 * (uint64_t)page_count : 8 * offsets;
}

bool dictionary_open(struct slice pages, struct slice index, uint32_t page_count,
                     bool chunked, struct dictionary *out)
{
    if (index.size < tables_size(page_count, chunked)) return false;
    *out = (struct dictionary){.pages = pages,
                               .index = index,
                               .pages_size = pages.size,
                               .page_count = page_count,
                               .chunked = chunked};
    return true;
}

/* Bytes between two neighbouring offsets of a table of the index. */
static bool between(struct slice whole, const uint8_t *table, uint32_t i,
                    struct slice *out)
{
    size_t begin = load_u32(table + 4 * (size_t)i);
    size_t end = load_u32(table + 4 * (size_t)i + 4);
    if (begin > end || end > whole.size) return false;
    *out = slice_of(whole.data + begin, end - begin);
    return true;
}

static bool page_key(const struct dictionary *d, uint32_t page, struct slice *out)
{
    size_t tables = (size_t)tables_size(d->page_count, d->chunked);
    size_t offsets = ((size_t)d->page_count + 1) * (d->chunked ? 8 : 4);
    struct slice keys = slice_of(d->index.data + tables, d->index.size - tables);
    return between(keys, d->index.data + offsets, page, out);
}

static bool chunk_range(const struct dictionary *d, uint32_t page, uint64_t *offset,
                        uint64_t *size)
{
    const uint8_t *table = d->index.data + 8 * (size_t)page;
    uint64_t begin = load_u64(table), end = load_u64(table + 8);
    if (begin > end || end > d->pages_size) return false;
    *offset = begin;
    *size = end - begin;
    return true;
}

static bool chunk_bytes(const struct dictionary *d, uint32_t page, struct slice *out)
{
    uint64_t offset, size;
    if (d->pages.data) {
        if (!chunk_range(d, page, &offset, &size)) return false;
        *out = slice_of(d->pages.data + offset, (size_t)size);
        return true;
    }
    for (size_t i = 0; i < d->chunk_count; i++) {
        if (d->chunks[i].page != page) continue;
        *out = d->chunks[i].bytes;
        return true;
    }
    return false;
}

/* The page and its lists; these are empty where they lie elsewhere. */
static bool page_read(const struct dictionary *d, uint32_t page, struct slice *out,
                      struct slice *lists)
{
    struct slice chunk;
    *lists = SLICE_EMPTY;
    if (!d->chunked) return between(d->pages, d->index.data, page, out);
    if (!chunk_bytes(d, page, &chunk)) return false;
    size_t sizes = 12 * ((size_t)d->page_count + 1);
    size_t size = load_u32(d->index.data + sizes + 4 * (size_t)page);
    if (size > chunk.size) return false;
    *lists = slice_of(chunk.data, chunk.size - size);
    *out = slice_of(chunk.data + lists->size, size);
    return true;
}

/* One entry of a page. */
struct entry {
    size_t shared;
    struct slice more, body;
};

/* Reads the entry at *at and moves behind it. */
static bool entry_read(struct slice page, size_t *at, struct entry *out)
{
    if (*at > page.size || page.size - *at < ENTRY_HEAD) return false;
    const uint8_t *p = page.data + *at;
    size_t more = p[1], body = p[2];
    if (page.size - *at - ENTRY_HEAD < more + body) return false;

    out->shared = p[0];
    out->more = slice_of(p + ENTRY_HEAD, more);
    out->body = slice_of(p + ENTRY_HEAD + more, body);
    *at += ENTRY_HEAD + more + body;
    return true;
}

static size_t run_offset(struct slice page, uint32_t run)
{
    uint16_t offset;
    memcpy(&offset, page.data + 2 + 2 * (size_t)run, sizeof offset);
    return offset;
}

/*
 * Walks a run. `matched` is how many bytes the term shares with the entry before, which
 * sorts before it: an entry that shares more than that with its neighbour sorts before
 * the term too, one that shares less sorts behind.
 */
static enum dictionary_found run_find(struct slice page, size_t at, struct slice term,
                                      struct slice *body)
{
    size_t matched = 0;
    struct entry e;

    for (size_t i = 0; i < RUN_TERMS && at < page.size; i++) {
        if (!entry_read(page, &at, &e)) return DICTIONARY_DAMAGED;
        if (e.shared > matched) continue;
        if (e.shared < matched) return DICTIONARY_ABSENT;

        struct slice rest = slice_of(term.data + matched, term.size - matched);
        if (slice_equal(rest, e.more)) {
            *body = e.body;
            return DICTIONARY_FOUND;
        }
        if (slice_compare(rest, e.more) < 0) return DICTIONARY_ABSENT;
        matched += slice_shared(rest, e.more);
    }
    return DICTIONARY_ABSENT;
}

/* The run that the term is in, if it is in the page; false if the page is damaged. */
static bool page_run(struct slice page, struct slice term, size_t *at)
{
    if (page.size < 2) return false;
    uint16_t runs;
    memcpy(&runs, page.data, sizeof runs);
    if (runs == 0 || page.size < 2 + 2 * (size_t)runs) return false;

    uint32_t low = 0, high = runs; /* the run is at or behind low, before high */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        struct entry e;
        *at = run_offset(page, middle);
        if (!entry_read(page, at, &e)) return false;
        if (slice_compare(e.more, term) <= 0)
            low = middle;
        else
            high = middle;
    }
    *at = run_offset(page, low);
    return true;
}

/* The page that the term is in, if it is in any of at least one; false: damaged. */
static bool term_page(const struct dictionary *d, struct slice term, uint32_t *out)
{
    uint32_t low = 0, high = d->page_count;
    struct slice key;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (!page_key(d, middle, &key)) return false;
        if (slice_compare(key, term) <= 0)
            low = middle;
        else
            high = middle;
    }
    *out = low;
    return true;
}

bool dictionary_chunk_of(const struct dictionary *d, struct slice term, uint32_t *page,
                         uint64_t *offset, uint64_t *size)
{
    assert(d->chunked);
    return d->page_count > 0 && term_page(d, term, page) &&
           chunk_range(d, *page, offset, size);
}

enum dictionary_found dictionary_find(const struct dictionary *d, struct slice term,
                                      struct dictionary_entry *out)
{
    struct slice bytes;
    uint32_t page;
    size_t at;

    if (d->page_count == 0) return DICTIONARY_ABSENT;
    if (!term_page(d, term, &page) || !page_read(d, page, &bytes, &out->lists) ||
        !page_run(bytes, term, &at))
        return DICTIONARY_DAMAGED;
    return run_find(bytes, at, term, &out->body);
}

/* ---- walking ---- */

void dictionary_walk_seek(const struct dictionary *d, struct slice from,
                          struct dictionary_walk *w)
{
    uint32_t page;

    *w = (struct dictionary_walk){.dictionary = d};
    if (d->page_count == 0) return;
    w->damaged = !term_page(d, from, &page) ||
                 !page_read(d, page, &w->page, &w->lists) ||
                 !page_run(w->page, from, &w->at);
    if (w->damaged) return;
    w->next_page = page + 1;

    /* To the entry before the one wanted, by a walk that is then taken back. */
    struct dictionary_walk before = *w;
    while (dictionary_walk_next(w) &&
           slice_compare(slice_of(w->term, w->size), from) < 0)
        before = *w;
    if (!w->damaged) *w = before;
}

static bool walk_page(struct dictionary_walk *w)
{
    const struct dictionary *d = w->dictionary;
    if (w->next_page == d->page_count) return false;
    w->damaged = !page_read(d, w->next_page, &w->page, &w->lists) ||
                 !page_run(w->page, SLICE_EMPTY, &w->at);
    w->next_page++;
    w->in_run = 0;
    return !w->damaged;
}

bool dictionary_walk_next(struct dictionary_walk *w)
{
    struct entry e;

    if (w->damaged) return false;
    if (w->at == w->page.size && !walk_page(w)) return false;
    w->damaged = !entry_read(w->page, &w->at, &e);
    if (w->damaged) return false;

    size_t size = e.shared + e.more.size;
    w->damaged =
        size > DICTIONARY_TERM_MAX || e.shared > (w->in_run == 0 ? 0 : w->size) ||
        slice_compare(e.more, slice_of(w->term + e.shared, w->size - e.shared)) <= 0;
    if (w->damaged) return false;
    w->in_run = (w->in_run + 1) % RUN_TERMS;
    if (e.more.size) memcpy(w->term + e.shared, e.more.data, e.more.size);
    w->size = size;
    w->body = e.body;
    return true;
}
