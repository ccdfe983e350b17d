/*
 * bench_text.c - building and asking a text index, on real short texts.
 *
 *     bench_text [docs.jsonl[.zst] in $ELACSYM_DATA] [queries per class] [copies]
 * [class] bench_text --dump FOLDER [queries per class] [copies]
 *
 * With --dump the terms of documents and queries, and our results, go to files for
 * bench_text_peers.py.
 *
 * Copies make a corpus larger without making it a heap of ties: each but the first
 * leaves out one word in eight at random.
 *
 * Each class asks the top 10 for terms of a random document that at least 20 rows hold:
 * orN and andN N different ones, or8 and or12 neighbouring words, function words too.
 * Per query the least of three runs counts. The exhaustive column decodes, scores and
 * adds every posting of the same index, then picks the best: what pruning has to beat.
 * The same rows in PARTS segments, with the statistics of all and one threshold, must
 * find the same.
 */
#include <assert.h>
#include <math.h>
#include <sys/resource.h>

#include "measure.h"

#include "base/rowset.h"
#include "base/task.h"
#include "text/postings.h"
#include "text/text_layout.h"
#include "text/words.h"
#include "unit/collection.h"

enum { TOP = 10, RUNS = 3, TERM_ROWS_MIN = 20, TERMS_MAX = 12, PARTS = 8 };

static const struct analysis plain = {LANG_ENGLISH, false, false, false, false};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The collection's texts again, without some of their words. */
static void add_copy(struct collection *docs, size_t originals, uint64_t *random)
{
    docs->room = docs->count + originals;
    docs->items = mem_realloc(docs->items, docs->room * sizeof *docs->items);
    for (size_t i = 0; i < originals; i++) {
        struct slice text = collection_text(docs, i);
        bool keep = true;
        buf_reserve(&docs->bytes, text.size);
        text = collection_text(docs, i); /* the bytes may have moved */
        size_t begin = docs->bytes.size;
        for (size_t at = 0; at < text.size; at++) {
            if (text.data[at] == ' ') keep = next_random(random) % 8 > 0;
            if (keep) buf_append_byte(&docs->bytes, text.data[at]);
        }
        docs->items[docs->count] = docs->items[i];
        docs->items[docs->count].text = begin;
        docs->items[docs->count++].text_size = docs->bytes.size - begin;
    }
}

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec * 1e-6;
}

struct class
{
    const char *name;
    size_t terms;
    bool all, neighbours;
};

/* Terms of a random document into q; false if it has too few. */
static bool draw(struct text_query *q, const struct class *class,
                 const struct collection *docs, const struct text_index *t,
                 const float *inverse, uint64_t *random)
{
    struct analyzer *a = analyzer_get(&plain);
    struct token token;

    assert(docs->count > 0);
    size_t doc = next_random(random) % docs->count;

    q->count = 0;
    buf_clear(&q->terms);
    size_t skip = class->neighbours ? 0 : next_random(random) % 4;
    analyzer_start(a, collection_text(docs, doc));
    while (q->count < class->terms && analyzer_next(a, &token)) {
        if (skip > 0) {
            skip--;
            continue;
        }
        if (text_index_frequency(t, token.term) >= TERM_ROWS_MIN)
            text_query_add(q, token.term);
        if (!class->neighbours) skip = next_random(random) % 2;
    }
    text_query_weigh(q, t, inverse);
    return q->count == class->terms;
}

/* Files for the peers; none without --dump. */
struct dump {
    const char *folder; /* NULL: none */
    FILE *queries;
    struct buf us; /* a line of JSON numbers */
};

static FILE *dump_open(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static void dump_close(FILE *f)
{
    if (fclose(f)) {
        perror("close");
        exit(1);
    }
}

static void dump_docs(const char *folder, const struct collection *docs)
{
    FILE *f = dump_open(folder, "docs.txt");
    struct analyzer *a = analyzer_get(&plain);
    struct token token;
    for (size_t i = 0; i < docs->count; i++) {
        analyzer_start(a, collection_text(docs, i));
        while (analyzer_next(a, &token))
            (void)fprintf(f, "%.*s ", (int)token.term.size,
                          (const char *)token.term.data);
        (void)fputc('\n', f);
    }
    dump_close(f);
}

static void dump_query(struct dump *d, const struct class *class,
                       const struct text_query *q, double us)
{
    if (!d->folder) return;
    (void)fprintf(d->queries, "%s\t", class->all ? "and" : "or");
    for (size_t i = 0; i < q->count; i++)
        (void)fprintf(d->queries, "%s%.*s", i ? " " : "", (int)q->clauses[i].term.size,
                      (const char *)q->clauses[i].term.data);
    (void)fputc('\n', d->queries);
    buf_printf(&d->us, "%s%.2f", d->us.size ? ", " : "", us);
}

/* The rows in segments of their own, one behind the other. */
struct parts {
    struct buf bytes[PARTS];
    struct text_index *indexes[PARTS];
    uint32_t starts[PARTS + 1];
};

static void parts_make(struct op *op, const struct collection *docs, struct parts *p)
{
    for (size_t i = 0; i <= PARTS; i++)
        p->starts[i] = (uint32_t)(docs->count * i / PARTS);
    for (size_t i = 0; i < PARTS; i++) {
        struct collection part = *docs;
        struct buf positions = BUF_INIT;
        part.items += p->starts[i];
        part.count = p->starts[i + 1] - p->starts[i];
        p->bytes[i] = BUF_INIT;
        collection_index(&part, &plain, &p->bytes[i], &positions);
        if (text_index_open(op, buf_slice(&p->bytes[i]), (uint32_t)part.count,
                            &p->indexes[i]))
            abort();
        buf_release(&positions);
    }
}

static void parts_release(struct parts *p)
{
    for (size_t i = 0; i < PARTS; i++) {
        text_index_close(p->indexes[i]);
        buf_release(&p->bytes[i]);
    }
}

static int by_place(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

struct scorer {
    struct op *op;
    float *scores;
    uint32_t *matched;
    uint32_t row_count;
};

/* Every posting of every clause; the definition, made as fast as plain code is. */
static void exhaustive(struct scorer *s, const struct text_search *search,
                       struct topk *best)
{
    memset(s->scores, 0, s->row_count * sizeof *s->scores);
    memset(s->matched, 0, s->row_count * sizeof *s->matched);
    for (size_t i = 0; i < search->clause_count; i++) {
        const struct text_clause *c = &search->clauses[i];
        struct postings list;
        struct postings_block block;
        bool found;
        if (text_index_list(s->op, c->index, c->term, &found, &list) || !found) abort();
        for (uint32_t b = 0; b < list.block_count; b++) {
            if (!postings_decode(&list, b, &block)) abort();
            for (uint32_t p = 0; p < block.count; p++) {
                uint32_t row = block.rows[p];
                float norm = c->inverse[c->index->lengths[row]];
                s->scores[row] += bm25_score(c->weight, block.frequencies[p], norm);
                s->matched[row]++;
            }
        }
    }
    uint32_t needed = search->all_groups ? search->group_count : 1;
    for (uint32_t row = 0; row < s->row_count; row++)
        if (s->matched[row] >= needed && s->scores[row] >= topk_floor(best))
            topk_push(best, (struct hit){s->scores[row], 0, row});
}

static double timed(struct scorer *s, const struct text_search *search, bool pruned,
                    struct hit *hits, size_t *count, uint64_t *scored)
{
    double least = INFINITY;
    for (size_t run = 0; run < RUNS; run++) {
        struct topk best;
        *scored = 0;
        topk_init(&best, hits, TOP, collection_by_row, NULL);
        double start = now_us();
        if (!pruned)
            exhaustive(s, search, &best);
        else if (text_index_search(s->op, search, &best, scored))
            abort();
        double took = now_us() - start;
        if (took < least) least = took;
        topk_finish(&best);
        *count = best.count;
    }
    return least;
}

/* The same query in all parts, each pushing into one heap. */
static double timed_parts(struct scorer *s, const struct parts *p,
                          const struct text_search *search, struct hit *hits,
                          size_t *count)
{
    struct text_clause clauses[TEXT_CLAUSES_MAX];
    double least = INFINITY;

    memcpy(clauses, search->clauses, search->clause_count * sizeof *clauses);
    for (size_t run = 0; run < RUNS; run++) {
        struct topk best;
        uint64_t scored = 0;
        topk_init(&best, hits, TOP, by_place, NULL);
        double start = now_us();
        for (uint32_t part = 0; part < PARTS; part++) {
            struct text_search one = *search;
            one.clauses = clauses;
            one.source = part;
            one.row_count = p->starts[part + 1] - p->starts[part];
            for (size_t i = 0; i < search->clause_count; i++)
                clauses[i].index = p->indexes[part];
            if (text_index_search(s->op, &one, &best, &scored)) abort();
        }
        double took = now_us() - start;
        if (took < least) least = took;
        topk_finish(&best);
        *count = best.count;
    }
    for (size_t i = 0; i < *count; i++)
        hits[i].row += p->starts[hits[i].source];
    return least;
}

static bool same_hits(const struct hit *a, const struct hit *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].row != b[i].row || a[i].score > b[i].score || a[i].score < b[i].score)
            return false;
    return true;
}

static void run_class(struct scorer *s, const struct parts *parts,
                      const struct class *class, const struct collection *docs,
                      const struct text_index *t, const float *inverse, size_t queries,
                      struct dump *dump)
{
    struct text_query *q = mem_new(struct text_query);
    uint64_t random = 42;
    double pruned_us = 0, exhaustive_us = 0, parts_us = 0;
    uint64_t scored_sum = 0, posting_sum = 0;

    for (size_t done = 0; done < queries;) {
        struct hit pruned[TOP], wanted[TOP], together[TOP];
        size_t count, wanted_count, together_count;
        uint64_t scored, none;
        if (!draw(q, class, docs, t, inverse, &random)) continue;
        struct text_search search = {.clauses = q->clauses,
                                     .clause_count = q->count,
                                     .group_count = (uint32_t)q->count,
                                     .all_groups = class->all,
                                     .row_count = s->row_count};
        double us = timed(s, &search, true, pruned, &count, &scored);
        pruned_us += us;
        dump_query(dump, class, q, us);
        exhaustive_us += timed(s, &search, false, wanted, &wanted_count, &none);
        scored_sum += scored;
        for (size_t i = 0; i < q->count; i++)
            posting_sum += text_index_frequency(t, q->clauses[i].term);
        parts_us += timed_parts(s, parts, &search, together, &together_count);
        if (count != wanted_count || count != together_count ||
            !same_hits(pruned, wanted, count) || !same_hits(together, wanted, count)) {
            (void)fprintf(stderr, "%s: query %zu differs\n", class->name, done);
            abort();
        }
        done++;
    }
    double n = (double)queries;
    (void)printf("%-6s %10.1f %10.1f %12.1f %8.1fx %12.0f %5.1f %%\n", class->name,
                 pruned_us / n, parts_us / n, exhaustive_us / n,
                 exhaustive_us / pruned_us, (double)posting_sum / n,
                 100.0 * (double)scored_sum / (double)posting_sum);
    buf_release(&q->terms);
    mem_free(q);
}

/* MB/s of a stage: everything up to it. */
static void stage(const struct collection *docs, const char *name,
                  const struct analysis *analysis)
{
    size_t bytes = 0, words = 0;
    double start = cpu_seconds();

    for (size_t i = 0; i < docs->count; i++) {
        struct slice text = collection_text(docs, i);
        struct words w = words_of(text, false);
        struct token token;
        size_t from, to;
        bytes += text.size;
        if (!analysis) {
            while (words_next(&w, &from, &to))
                words++;
            continue;
        }
        struct analyzer *a = analyzer_get(analysis);
        analyzer_start(a, text);
        while (analyzer_next(a, &token))
            words++;
    }
    double took = cpu_seconds() - start;
    (void)printf("analysis, %-19s %6.2f CPU s  %6.1f MB/s  %zu terms\n", name, took,
                 (double)bytes / took / 1e6, words);
}

static void stages(const struct collection *docs)
{
    static const struct analysis kinds[] = {{LANG_ENGLISH, false, false, true, false},
                                            {LANG_ENGLISH, false, false, false, false},
                                            {LANG_ENGLISH, false, true, false, false},
                                            {LANG_ENGLISH, true, true, false, false},
                                            {LANG_ENGLISH, true, true, false, true}};
    static const char *const names[] = {"+ NFC:", "+ lower case:", "+ stop words:",
                                        "+ stems:", "+ accents off:"};
    stage(docs, "words:", NULL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        stage(docs, names[i], &kinds[i]);
}

/* Returns the CPU seconds. */
static double build(const struct collection *docs, const struct analysis *analysis,
                    const char *name, struct buf *out, struct buf *positions)
{
    size_t bytes = 0;
    for (size_t i = 0; i < docs->count; i++)
        bytes += docs->items[i].text_size;
    buf_clear(out);
    buf_clear(positions);
    double start = cpu_seconds();
    collection_index(docs, analysis, out, positions);
    double took = cpu_seconds() - start;
    (void)printf("build, %-22s %6.2f CPU s  %6.1f MB/s  %8.0f docs/s  index %.1f MB, "
                 "positions %.1f MB\n",
                 name, took, (double)bytes / took / 1e6, (double)docs->count / took,
                 (double)out->size / 1e6, (double)positions->size / 1e6);
    return took;
}

int main(int argc, char **argv)
{
    static const struct class classes[] = {
        {"or1", 1, false, false}, {"or2", 2, false, false},  {"or4", 4, false, false},
        {"or8", 8, false, true},  {"or12", 12, false, true}, {"and2", 2, true, false},
        {"and4", 4, true, false}};
    const struct analysis full = ANALYSIS_DEFAULT;
    struct collection docs;
    struct buf bytes = BUF_INIT, positions = BUF_INIT;
    struct dump dump = {.folder = NULL};
    struct text_index *t;
    struct op op;
    float inverse[256];

    if (argc > 2 && strcmp(argv[1], "--dump") == 0) {
        dump.folder = argv[2];
        argv++;
        argc--;
    }
    const char *only = argc > 4 ? argv[4] : NULL;
    size_t queries = argc > 2 ? strtoull(argv[2], NULL, 10) : 300;
    bool named = argc > 1 && !dump.folder;
    if (!collection_read(named ? argv[1] : "pkg200k/docs.jsonl.zst", &docs)) return 0;
    size_t originals = docs.count, copies = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    for (uint64_t random = 1; docs.count < originals * copies;)
        add_copy(&docs, originals, &random);
    op_init(&op, OP_NO_DEADLINE, 0);
    stages(&docs);
    double full_s = build(&docs, &full, "stems, stop words out:", &bytes, &positions);
    double plain_s = build(&docs, &plain, "words as they are:", &bytes, &positions);
    uint32_t rows = (uint32_t)docs.count;
    if (text_index_open(&op, buf_slice(&bytes), rows, &t)) abort();
    uint64_t terms = text_index_total_length(t);
    bm25_norms((double)terms / (double)text_index_document_count(t), inverse);
    struct parts parts;
    parts_make(&op, &docs, &parts);
    struct scorer s = {&op, mem_new_array(float, rows), mem_new_array(uint32_t, rows),
                       rows};

    if (dump.folder) {
        dump_docs(dump.folder, &docs);
        dump.queries = dump_open(dump.folder, "queries.txt");
    }
    (void)printf("%u documents, %llu terms in all, top %d, mean us of %zu queries\n",
                 rows, (unsigned long long)terms, TOP, queries);
    (void)printf("%-6s %10s %10s %12s %9s %12s %7s\n", "class", "pruned", "8 segments",
                 "exhaustive", "ratio", "postings", "scored");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!only || strcmp(classes[i].name, only) == 0)
            run_class(&s, &parts, &classes[i], &docs, t, inverse, queries, &dump);
    if (dump.folder) {
        FILE *f = dump_open(dump.folder, "ours.json");
        (void)fprintf(f,
                      "{\"documents\": %u, \"terms\": %llu, \"build_s\": %.2f, "
                      "\"full_build_s\": %.2f, \"bytes\": %zu, "
                      "\"position_bytes\": %zu, \"us\": [%.*s]}\n",
                      rows, (unsigned long long)terms, plain_s, full_s, bytes.size,
                      positions.size, (int)dump.us.size, (const char *)dump.us.data);
        dump_close(f);
        dump_close(dump.queries);
    }

    buf_release(&dump.us);
    mem_free(s.scores);
    mem_free(s.matched);
    text_index_close(t);
    parts_release(&parts);
    buf_release(&bytes);
    buf_release(&positions);
    collection_release(&docs);
    op_release(&op);
    return 0;
}
