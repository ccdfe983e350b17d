#include "query/recall.h"

#include "base/op.h"
#include "base/rowset.h"
#include "base/task.h"

enum {
    TRIES = 200,           /* rows looked at for each query wanted */
    CHILD_BYTES = 64 << 20 /* of memory for one search */
};

/* ---- documents that serve as queries ---- */

/* Walks over all rows of the snapshot, each once, in an order of its own. */
struct walk {
    const struct snapshot *snapshot;
    uint64_t rows, next, step, left;
};

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static struct walk walk_begin(const struct snapshot *s)
{
    struct walk w = {.snapshot = s};
    for (uint32_t i = 0; i < s->source_count; i++)
        w.rows += segment_row_count(s->sources[i].segment);
    if (w.rows == 0) return w;
    w.left = w.rows;
    w.next = random_below(w.rows);
    do {
        w.step = 1 + random_below(w.rows);
    } while (common_divisor(w.step, w.rows) != 1);
    return w;
}

static struct location walk_next(struct walk *w)
{
    uint64_t row = w->next;
    uint32_t source = 0;
    for (;; source++) {
        uint32_t rows = segment_row_count(w->snapshot->sources[source].segment);
        if (row < rows) break;
        row -= rows;
    }
    w->next = (w->next + w->step) % w->rows;
    w->left--;
    return (struct location){source, (uint32_t)row};
}

/* *vector is NULL where the row is dead or has none. */
static enum err read_vector(struct op *op, const struct snapshot *s, struct location at,
                            const float **vector)
{
    const struct source *source = &s->sources[at.source];
    struct doc doc;
    *vector = NULL;
    if (source->dead && rowset_has(source->dead, at.row)) return ERR_OK;
    if (segment_vector_count(source->segment) == 0) return ERR_OK;
    enum err e = segment_fetch(op, source->segment, s->schema, &at.row, 1,
                               (struct segment_fetch){.vector = true}, &doc);
    if (!e) *vector = doc.vector;
    return e;
}

/* ---- one of them ---- */

/* The neighbours' scores, best first, without the document itself. */
static size_t scores_of(const struct snapshot *s, struct location self,
                        const struct query_result *r, uint32_t top_k, double *scores)
{
    struct doc_id id = segment_id(s->sources[self.source].segment, self.row);
    size_t count = 0;
    for (size_t i = 0; i < r->count && count < top_k; i++)
        if (doc_id_compare(&r->hits[i].doc.id, &id) != 0)
            scores[count++] = r->hits[i].score;
    return count;
}

static enum err compare(struct op *op, struct snapshot *s, struct location self,
                        const float *vector, const struct recall_options *options,
                        struct recall_result *out)
{
    struct rank rank = {.kind = RANK_VECTOR, .vector = vector};
    struct query query = {.ranks = &rank,
                          .rank_count = 1,
                          .filter = options->filter,
                          .top_k = options->top_k + 1,
                          .recall = options->recall};
    double found[RECALL_TOP_K_MAX + 1], truth[RECALL_TOP_K_MAX + 1];
    struct query_result by_index, exact;
    enum err e = query_run(op, s, &query, &by_index);
    query.recall = 1;
    if (!e) e = query_run(op, s, &query, &exact);
    if (e) return e;
    size_t n = scores_of(s, self, &by_index, options->top_k, found);
    size_t wanted = scores_of(s, self, &exact, options->top_k, truth);
    for (size_t i = 0; i < n && wanted; i++)
        out->found += found[i] >= truth[wanted - 1];
    out->neighbours += (uint32_t)wanted;
    out->queries++;
    out->index_us += by_index.explain.total_us;
    out->exact_us += exact.explain.total_us;
    out->work.indexed += by_index.explain.vectors.indexed;
    out->work.clusters += by_index.explain.vectors.clusters;
    out->work.bytes += by_index.explain.vectors.bytes;
    out->work.codes += by_index.explain.vectors.codes;
    out->work.rows += by_index.explain.vectors.rows;
    out->work.exact += by_index.explain.vectors.exact;
    return ERR_OK;
}

/* In an op of its own, whose memory goes before the next. */
static enum err try_row(struct op *op, struct snapshot *s, struct location at,
                        const struct recall_options *options, struct recall_result *out)
{
    const float *vector;
    struct op child;
    op_init(&child, op->deadline_ms, CHILD_BYTES);
    enum err e = read_vector(&child, s, at, &vector);
    if (!e && vector) e = compare(&child, s, at, vector, options, out);
    if (e) (void)op_fail(op, e, "%s", child.error);
    op->counters.rounds += child.counters.rounds;
    op->counters.store_requests += child.counters.store_requests;
    op->counters.store_bytes += child.counters.store_bytes;
    op_release(&child);
    return e ? e : op_check(op);
}

enum err recall_measure(struct op *op, struct snapshot *snapshot,
                        const struct recall_options *options,
                        struct recall_result *result)
{
    struct recall_result r = {0};
    struct walk w = walk_begin(snapshot);
    uint64_t tries = (uint64_t)options->queries * TRIES;
    enum err e = ERR_OK;
    if (snapshot->schema->vector_dim == 0)
        return op_fail(op, ERR_INVALID, "recall: this namespace has no vectors");
    while (!e && w.left > 0 && r.queries < options->queries && tries-- > 0)
        e = try_row(op, snapshot, walk_next(&w), options, &r);
    if (!e) *result = r;
    return e;
}
