/*
 * run_lucene - our scores beside Lucene's, on real collections.
 *
 * Each collection is analysed by us, and the terms are given to Lucene as they are, so
 * that what differs is scoring and searching: the best 20 of each query must have the
 * same scores to 1e-3, and each of our documents Lucene's score where Lucene has it.
 * Words as they are for phrases (no gaps), with stems and without stop words for the
 * rest.
 *
 * Needs java and Debian's liblucene8-java, and the collections (tests/unit/data.h);
 * what is missing is said aloud and skipped.
 */
#include <assert.h>
#include <math.h>
#include <unistd.h>

#include "text/positions.h"
#include "text/text_list.h"
#include "unit/collection.h"

enum { TOP = 20, TERMS_MAX = 12 };

#define JARS                                                                           \
    "/usr/share/java/lucene-core-8.7.0.jar:"                                           \
    "/usr/share/java/lucene-analyzers-common-8.7.0.jar"

static unsigned passed, failed, skipped;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

enum kind { KIND_OR, KIND_AND, KIND_PHRASE };

struct query {
    enum kind kind;
    size_t count;
    struct slice terms[64]; /* in the comparison's bytes */
};

struct comparison {
    const char *name;
    struct collection docs;
    struct analysis analysis;
    struct buf bytes, positions;
    struct text_index *index;
    float inverse[256];
    struct op op;
    struct query *queries;
    size_t query_count;
};

/* ---- queries ---- */

static bool draw(struct comparison *c, uint64_t *random, struct query *q)
{
    struct analyzer *a = analyzer_get(&c->analysis);
    struct token token;
    struct slice text = collection_text(&c->docs, next_random(random) % c->docs.count);
    bool phrase = q->kind == KIND_PHRASE;
    size_t wanted =
        phrase ? 2 + next_random(random) % 2 : 1 + next_random(random) % TERMS_MAX;
    size_t skip = next_random(random) % 8;

    q->count = 0;
    analyzer_start(a, text);
    while (q->count < wanted && analyzer_next(a, &token)) {
        if (skip-- > 0) continue;
        q->terms[q->count] = op_copy(&c->op, token.term);
        assert(q->terms[q->count].data);
        q->count++;
        skip = phrase ? 0 : next_random(random) % 3;
    }
    return q->count >= (phrase ? 2 : 1);
}

static void draw_all(struct comparison *c, size_t count, bool phrases)
{
    uint64_t random = 42;
    c->queries = mem_new_array(struct query, count);
    for (c->query_count = 0; c->query_count < count;) {
        struct query *q = &c->queries[c->query_count];
        q->kind = phrases ? KIND_PHRASE : next_random(&random) % 3 ? KIND_OR : KIND_AND;
        c->query_count += draw(c, &random, q);
    }
}

/* ---- ours ---- */

static void add_phrase(struct comparison *c, const struct query *q,
                       struct text_list *list, struct text_clause *clause)
{
    struct phrase_term terms[64];
    double idf = 0;
    uint64_t documents = text_index_document_count(c->index);

    for (size_t i = 0; i < q->count; i++) {
        terms[i] = (struct phrase_term){q->terms[i], (uint32_t)i};
        idf += (double)bm25_idf(documents, text_index_frequency(c->index, q->terms[i]));
    }
    if (text_list_phrase(&c->op, c->index, terms, q->count, list)) abort();
    *clause = (struct text_clause){.index = c->index,
                                   .made = list,
                                   .weight = (float)idf,
                                   .inverse = c->inverse};
}

static size_t ask(struct comparison *c, const struct query *q, struct hit *hits)
{
    struct text_query *terms = mem_new(struct text_query);
    struct text_list list = {.count = 0};
    struct text_clause phrase;
    struct text_search search = {.clauses = terms->clauses,
                                 .row_count = (uint32_t)c->docs.count};
    struct topk best;
    uint64_t scored = 0;

    if (q->kind == KIND_PHRASE) {
        add_phrase(c, q, &list, &phrase);
        search.clauses = &phrase;
        search.clause_count = search.group_count = 1;
    } else {
        for (size_t i = 0; i < q->count; i++)
            text_query_add(terms, q->terms[i]);
        text_query_weigh(terms, c->index, c->inverse);
        search.clause_count = terms->count;
        search.group_count = (uint32_t)terms->count;
        search.all_groups = q->kind == KIND_AND;
    }
    topk_init(&best, hits, TOP, collection_by_row, NULL);
    if (text_index_search(&c->op, &search, &best, &scored)) abort();
    topk_finish(&best);
    buf_release(&terms->terms);
    text_list_release(&list);
    mem_free(terms);
    return best.count;
}

/* ---- Lucene's ---- */

static FILE *file_open(const char *folder, const char *name, const char *how)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, how);
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static void file_close(FILE *f)
{
    if (fclose(f)) {
        perror("close");
        exit(1);
    }
}

static void docs_write(const struct comparison *c, const char *folder)
{
    FILE *f = file_open(folder, "docs.txt", "w");
    struct analyzer *a = analyzer_get(&c->analysis);
    struct token token;
    for (size_t i = 0; i < c->docs.count; i++) {
        analyzer_start(a, collection_text(&c->docs, i));
        while (analyzer_next(a, &token))
            (void)fprintf(f, "%.*s ", (int)token.term.size,
                          (const char *)token.term.data);
        (void)fputc('\n', f);
    }
    file_close(f);
}

static void queries_write(const struct comparison *c, const char *folder)
{
    static const char *const kinds[] = {"or", "and", "phrase"};
    FILE *f = file_open(folder, "queries.txt", "w");
    for (size_t i = 0; i < c->query_count; i++) {
        const struct query *q = &c->queries[i];
        (void)fprintf(f, "%s\t", kinds[q->kind]);
        for (size_t k = 0; k < q->count; k++)
            (void)fprintf(f, "%s%.*s", k ? " " : "", (int)q->terms[k].size,
                          (const char *)q->terms[k].data);
        (void)fputc('\n', f);
    }
    file_close(f);
}

static bool lucene_run(const char *folder, bool positions)
{
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "java -cp " JARS " tests/lucene/LuceneAsk.java %s/docs.txt "
                   "%s/queries.txt %d 1 %s > %s/found.txt",
                   folder, folder, TOP, positions ? "positions" : "none", folder);
    return system(command) == 0; /* NOLINT(cert-env33-c): fixed words */
}

/* The hits of one line of Lucene's answer. */
static size_t lucene_hits(char *line, struct hit *hits)
{
    size_t count = 0;
    char *save = NULL;
    (void)strtok_r(line, " \n", &save); /* the time */
    for (char *word; count < TOP && (word = strtok_r(NULL, " \n", &save));) {
        char *colon;
        hits[count].row = (uint32_t)strtoul(word, &colon, 10);
        hits[count++].score = strtof(colon + 1, NULL);
    }
    return count;
}

static bool same(const struct hit *ours, size_t count, const struct hit *theirs,
                 size_t their_count, double *worst)
{
    if (count != their_count) return false;
    for (size_t i = 0; i < count; i++) {
        double apart = fabs((double)ours[i].score - (double)theirs[i].score);
        if (apart > *worst) *worst = apart;
        for (size_t k = 0; k < count; k++) {
            if (theirs[k].row != ours[i].row) continue;
            apart = fabs((double)ours[i].score - (double)theirs[k].score);
            if (apart > *worst) *worst = apart;
        }
    }
    return *worst <= 1e-3;
}

static void compare(struct comparison *c, const char *folder, const char *what)
{
    FILE *f = file_open(folder, "found.txt", "r");
    char line[4096];
    double worst = 0;
    unsigned wrong = 0;

    if (!fgets(line, sizeof line, f)) abort(); /* about the index */
    for (size_t i = 0; i < c->query_count; i++) {
        struct hit ours[TOP], theirs[TOP];
        if (!fgets(line, sizeof line, f)) abort();
        size_t their_count = lucene_hits(line, theirs);
        size_t count = ask(c, &c->queries[i], ours);
        bool good = same(ours, count, theirs, their_count, &worst);
        wrong += !good;
        passed += good;
    }
    failed += wrong;
    (void)printf("%-14s %-8s %5zu queries, %u differ, largest difference %.2g\n",
                 c->name, what, c->query_count, wrong, worst);
    file_close(f);
}

/* ---- a collection ---- */

static void compare_kind(struct comparison *c, const char *folder, size_t queries,
                         bool phrases)
{
    struct text_builder *b;

    c->analysis = ANALYSIS_DEFAULT;
    if (phrases) c->analysis.stemming = c->analysis.remove_stopwords = false;
    op_init(&c->op, OP_NO_DEADLINE, 0);
    b = text_builder_new(&c->analysis);
    for (size_t i = 0; i < c->docs.count; i++) {
        struct value v = {.one.s = collection_text(&c->docs, i)};
        text_builder_add(b, (uint32_t)i, false, &v);
    }
    text_builder_finish(b, (uint32_t)c->docs.count, &c->bytes, &c->positions);
    if (text_index_open(&c->op, buf_slice(&c->bytes), (uint32_t)c->docs.count,
                        &c->index))
        abort();
    text_index_attach(c->index, buf_slice(&c->positions));
    bm25_norms((double)text_index_total_length(c->index) /
                   (double)text_index_document_count(c->index),
               c->inverse);
    draw_all(c, queries, phrases);
    docs_write(c, folder);
    queries_write(c, folder);
    if (lucene_run(folder, phrases))
        compare(c, folder, phrases ? "phrases" : "words");
    else
        failed++;
    mem_free(c->queries);
    text_index_close(c->index);
    buf_release(&c->bytes);
    buf_release(&c->positions);
    op_release(&c->op);
}

static void folder_remove(const char *folder)
{
    static const char *const names[] = {"docs.txt", "queries.txt", "found.txt"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name, *file;
    } collections[] = {
        {"Cranfield", "ir-cranfield/docs.jsonl"},
        {"NPL", "ir-npl/docs.jsonl"},
        {"movies", "movies/docs.jsonl.zst"},
        {"pkg200k", "pkg200k/docs.jsonl.zst"},
    };
    size_t queries = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    char folder[] = "/tmp/run_lucene.XXXXXX";

    if (system("java -version 2>/dev/null") != 0 || /* NOLINT(cert-env33-c) */
        access("/usr/share/java/lucene-core-8.7.0.jar", R_OK) != 0) {
        (void)printf("SKIPPED: scores are not compared with Lucene's; install "
                     "default-jre-headless and liblucene8-java\n"
                     "0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    if (!mkdtemp(folder)) abort();
    for (size_t i = 0; i < sizeof collections / sizeof *collections; i++) {
        struct comparison c = {.name = collections[i].name};
        if (!collection_read(collections[i].file, &c.docs)) {
            skipped++;
            continue;
        }
        compare_kind(&c, folder, queries, false);
        compare_kind(&c, folder, queries / 2, true);
        collection_release(&c.docs);
    }
    folder_remove(folder);
    (void)printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed > 0;
}
