/*
 * How well BM25 ranks: nDCG@10 on public collections with judged queries. The gates are
 * what Lucene and Anserini reach with the same kind of analysis, less nothing.
 */
#include <math.h>

#include "unit/collection.h"
#include "unit/test.h"

enum { DEPTH = 10 };

struct judgement {
    size_t query, row;
    double gain;
};

static size_t id_find(const struct collection *c, struct slice id)
{
    for (size_t i = 0; i < c->count; i++)
        if (slice_equal(collection_id(c, i), id)) return i;
    return SIZE_MAX;
}

static size_t judgements_read(const char *folder, const struct collection *docs,
                              const struct collection *queries, struct judgement **out)
{
    char path[256];
    struct buf bytes = BUF_INIT;
    struct slice line, rest;
    size_t count = 0;

    (void)snprintf(path, sizeof path, "%s/qrels.tsv", folder);
    assert_true(data_read(path, &bytes));
    *out = mem_new_array(struct judgement, bytes.size / 4 + 1);
    rest = buf_slice(&bytes);
    (void)data_line(&rest, &line); /* the names of the columns */
    while (data_line(&rest, &line)) {
        size_t query = id_find(queries, data_cell(&line));
        size_t row = id_find(docs, data_cell(&line));
        double gain = line.size ? line.data[0] - '0' : 0;
        assert_true(query != SIZE_MAX && row != SIZE_MAX);
        if (gain > 0) (*out)[count++] = (struct judgement){query, row, gain};
    }
    buf_release(&bytes);
    return count;
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static double discounted(const double *gains, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count && i < DEPTH; i++)
        sum += gains[i] / log2((double)i + 2);
    return sum;
}

/* nDCG@10 of one query; negative if nothing is judged relevant to it. */
static double query_ndcg(const struct judgement *judged, size_t count, size_t query,
                         const struct hit *hits, size_t hit_count)
{
    double ideal[4096], got[DEPTH] = {0};
    size_t relevant = 0;
    for (size_t j = 0; j < count; j++) {
        if (judged[j].query != query) continue;
        assert_true(relevant < COUNT_OF(ideal));
        ideal[relevant++] = judged[j].gain;
        for (size_t i = 0; i < hit_count; i++)
            if (hits[i].row == judged[j].row) got[i] = judged[j].gain;
    }
    if (relevant == 0) return -1;
    qsort(ideal, relevant, sizeof *ideal, falling);
    return discounted(got, hit_count) / discounted(ideal, relevant);
}

static double collection_ndcg(const char *folder, const struct analysis *analysis)
{
    struct collection docs, queries;
    struct judgement *judged;
    struct text_query *q = mem_new(struct text_query);
    struct text_index *t;
    struct buf bytes = BUF_INIT, positions = BUF_INIT;
    struct op op;
    char path[256];
    float inverse[256];
    double sum = 0;
    size_t asked = 0;

    op_init(&op, OP_NO_DEADLINE, 0);
    (void)snprintf(path, sizeof path, "%s/docs.jsonl", folder);
    if (!collection_read(path, &docs)) {
        mem_free(q);
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/queries.jsonl", folder);
    assert_true(collection_read(path, &queries));
    size_t count = judgements_read(folder, &docs, &queries, &judged);
    collection_index(&docs, analysis, &bytes, &positions);
    buf_release(&positions);
    uint32_t rows = (uint32_t)docs.count;
    assert_int_equal(text_index_open(&op, buf_slice(&bytes), rows, &t), ERR_OK);
    bm25_norms((double)text_index_total_length(t) /
                   (double)text_index_document_count(t),
               inverse);

    for (size_t i = 0; i < queries.count; i++) {
        struct hit hits[DEPTH];
        struct topk best;
        uint64_t scored = 0;
        text_query_make(q, analysis, t, inverse, collection_text(&queries, i));
        struct text_search search = {.clauses = q->clauses,
                                     .clause_count = q->count,
                                     .group_count = (uint32_t)q->count,
                                     .row_count = rows};
        topk_init(&best, hits, DEPTH, collection_by_row, NULL);
        assert_int_equal(text_index_search(&op, &search, &best, &scored), ERR_OK);
        topk_finish(&best);
        double ndcg = query_ndcg(judged, count, i, hits, best.count);
        if (ndcg < 0) continue;
        sum += ndcg;
        asked++;
    }
    text_index_close(t);
    buf_release(&bytes);
    buf_release(&q->terms);
    mem_free(q);
    mem_free(judged);
    collection_release(&docs);
    collection_release(&queries);
    op_release(&op);
    return sum / (double)asked;
}

static void check(const char *folder, enum language language, double gate)
{
    static const struct {
        const char *name;
        bool stemming, stop;
    } variants[] = {{"stems, stop words out", true, true},
                    {"stems", true, false},
                    {"stop words out", false, true},
                    {"neither", false, false}};
    for (size_t i = 0; i < COUNT_OF(variants); i++) {
        struct analysis a = {language, variants[i].stemming, variants[i].stop, false,
                             false};
        double ndcg = collection_ndcg(folder, &a);
        if (ndcg < 0) return;
        print_message("%-12s %.4f  %s\n", folder, ndcg, variants[i].name);
        if (i == 0 && ndcg < gate) fail_msg("below its gate of %.4f", gate);
    }
}

static void cranfield_is_ranked_as_lucene_ranks_it(void **state)
{
    (void)state;
    check("ir-cranfield", LANG_ENGLISH, 0.37);
}

static void npl_is_ranked_as_lucene_ranks_it(void **state)
{
    (void)state;
    check("ir-npl", LANG_ENGLISH, 0.43);
}

static void questions_in_four_languages_find_their_paragraph(void **state)
{
    (void)state;
    check("ir-xquad-en", LANG_ENGLISH, 0.968);
    check("ir-xquad-de", LANG_GERMAN, 0.945);
    check("ir-xquad-es", LANG_SPANISH, 0.966);
    check("ir-xquad-ru", LANG_RUSSIAN, 0.953);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cranfield_is_ranked_as_lucene_ranks_it),
        cmocka_unit_test(npl_is_ranked_as_lucene_ranks_it),
        cmocka_unit_test(questions_in_four_languages_find_their_paragraph),
    };
    return cmocka_run_group_tests_name("relevance", tests, NULL, NULL);
}
