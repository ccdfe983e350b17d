#include "api/api_v1_query.h"

#include "api/api.h"
#include "api/api_route.h"
#include "api/api_token.h"
#include "api/api_v1_query_bind.h"
#include "api/api_v1_query_cursor.h"
#include "api/api_v1_query_explain.h"
#include "base/log.h"
#include "base/op.h"
#include "base/task.h"

/* ---- answers ---- */

/* A score that was a float is printed with a float's digits: 0.9, not 0.8999999762. */
static void score_write(struct json_writer *w, double score)
{
    if ((double)(float)score == score)
        json_put_f32(w, (float)score);
    else
        json_put_f64(w, score);
}

/* A document's fields, without the braces: id, score (NULL: none), vector, attributes.
 * Null attributes are left out. */
static void document_write(struct json_writer *w, const struct schema *schema,
                           const struct doc *doc, const double *score,
                           const struct v1_picks *picks, bool attributes)
{
    json_key(w, "id");
    v1_id_write(w, &doc->id);
    if (score) {
        json_key(w, "score");
        score_write(w, *score);
    }
    if (doc->vector) {
        json_key(w, "vector");
        json_put_floats(w, doc->vector, schema->vector_dim);
    }
    if (!attributes) return;
    json_key(w, "attributes");
    json_begin_object(w);
    for (size_t i = 0; i < picks->count; i++) {
        const struct value *value = &doc->values[picks->attrs[i]];
        if (value->null) continue;
        json_key(w, schema->attrs[picks->attrs[i]].name);
        v1_value_write(w, &schema->attrs[picks->attrs[i]], value);
    }
    json_end_object(w);
}

/* An object of the fields in which something is marked. */
static void highlights_write(struct json_writer *w, const struct schema *schema,
                             const struct query_hit *hit)
{
    json_key(w, "highlights");
    json_begin_object(w);
    for (size_t i = 0; i < hit->highlight_count; i++) {
        const struct query_highlight *h = &hit->highlights[i];
        json_key(w, schema->attrs[h->attr].name);
        json_begin_array(w);
        for (size_t j = 0; j < h->fragment_count; j++)
            json_put_string(w, h->fragments[j]);
        json_end_array(w);
    }
    json_end_object(w);
}

/* All that was decided about one query, from its text to its hits. */
struct run {
    struct v1_query parsed;
    struct snapshot *snapshot;
    struct query query;
    struct v1_picks picks;
    struct query_result result;
    struct buf next_cursor; /* empty: the listing ends here */
};

static void survey_write(struct json_writer *w, const struct run *run)
{
    if (run->query.rank_count == 0) {
        json_key(w, "next_cursor");
        if (run->result.more)
            json_put_string(w, buf_slice(&run->next_cursor));
        else
            json_put_null(w);
    }
    if (run->query.count) json_member_u64(w, "count", run->result.match_count);
    if (run->query.aggregate)
        v1_aggregate_write(w, run->parsed.aggregate, run->query.aggregate,
                           run->snapshot->schema, &run->result);
}

static void results_write(struct buf *body, const struct op *op, const struct run *run,
                          uint64_t took_us)
{
    struct json_writer w;
    json_writer_init(&w, body);
    json_begin_object(&w);
    json_key(&w, "results");
    json_begin_array(&w);
    for (size_t i = 0; i < run->result.count; i++) {
        const struct query_hit *hit = &run->result.hits[i];
        json_begin_object(&w);
        document_write(&w, run->snapshot->schema, &hit->doc, &hit->score, &run->picks,
                       run->query.include_attributes);
        if (run->parsed.highlight_count > 0)
            highlights_write(&w, run->snapshot->schema, hit);
        json_end_object(&w);
    }
    json_end_array(&w);
    survey_write(&w, run);
    json_member_f64(&w, "took_ms", (double)took_us / 1000);
    if (run->query.explain) v1_explain_write(&w, &op->counters, &run->result.explain);
    json_end_object(&w);
}

static void put_token(struct api_call *call, const struct snapshot *snapshot)
{
    struct commit_token seen = {.epoch = snapshot->epoch, .slot = snapshot->slot};
    char text[TOKEN_TEXT_SIZE];

    memcpy(seen.incarnation, snapshot->incarnation, sizeof seen.incarnation);
    token_text(&seen, text);
    http_response_header(call->response, "X-Elacsym-Commit", "%s", text);
}

enum { RERUNS_MAX = 3 };

enum err v1_on_snapshot(struct op *op, struct api_call *call,
                        enum consistency consistency, v1_snapshot_reader *reader,
                        void *context, struct snapshot **used)
{
    struct commit_token minimum;
    struct read_options options = {.consistency = consistency, .early = true};

    const char *header = http_header(call->request, "X-Elacsym-Min-Commit");
    enum err e = header ? token_parse(op, header, &minimum) : ERR_OK;
    if (e) return e;
    if (header) options.min_commit = &minimum;
    for (int i = 0; i <= RERUNS_MAX; i++) {
        struct snapshot *fresh = NULL;
        op_clear_error(op);
        options.gone = *used;
        e = registry_snapshot(op, call->registry, call->name, &options, &fresh);
        if (e) return e;
        snapshot_unref(*used);
        *used = fresh;
        e = reader(op, fresh, context);
        if (!e) put_token(call, fresh);
        if (e != ERR_NOT_FOUND) return e;
    }
    return op_fail(op, ERR_CORRUPT, "an object of namespace \"%s\" is missing",
                   call->name);
}

static void log_slow(struct op *op, const struct api_call *call, const struct run *run,
                     uint64_t took_us)
{
    int64_t slow_ms = call->options->slow_query_ms;
    if (slow_ms <= 0 || took_us / 1000 <= (uint64_t)slow_ms) return;
    log_warn(op, "slow query",
             "namespace=%s took_ms=%llu plan=%s top_k=%u results=%zu segments=%llu "
             "rows_scored=%llu rounds=%llu store_requests=%llu store_bytes=%llu",
             call->name, (unsigned long long)(took_us / 1000), run->result.explain.plan,
             run->query.top_k, run->result.count,
             (unsigned long long)run->result.explain.sources,
             (unsigned long long)op->counters.rows_scored,
             (unsigned long long)op->counters.rounds,
             (unsigned long long)op->counters.store_requests,
             (unsigned long long)op->counters.store_bytes);
}

static enum err read_query(struct op *op, struct snapshot *snapshot, void *context)
{
    struct run *run = context;
    enum err e = v1_query_bind(op, &run->parsed, snapshot, &run->query, &run->picks);
    if (!e) e = query_run(op, snapshot, &run->query, &run->result);
    if (e || !run->result.more) return e;
    buf_clear(&run->next_cursor);
    return v1_cursor_text(op, snapshot, &run->query, &run->result.last,
                          &run->next_cursor);
}

static enum err run_query(struct op *op, struct api_call *call, struct json_value *root,
                          struct json *json, struct run *run)
{
    enum err e = v1_query_parse(op, root, &run->parsed);
    if (!e) e = json_end(op, json);
    return e ? e
             : v1_on_snapshot(op, call, run->parsed.consistency, read_query, run,
                              &run->snapshot);
}

enum err v1_query(struct op *op, struct api_call *call)
{
    struct run run = {.next_cursor = BUF_INIT};
    struct json *json = NULL;
    struct json_value root;

    int64_t start_us = clock_us();
    enum err e = registry_query_begin(op, call->registry, call->name);
    if (e) return e;
    e = api_call_json(op, call, &json, &root);
    if (!e) e = run_query(op, call, &root, json, &run);
    if (!e) {
        uint64_t took_us = (uint64_t)(clock_us() - start_us);
        results_write(&call->response->body, op, &run, took_us);
        v1_explain_count(&run.result.explain);
        log_slow(op, call, &run, took_us);
    }
    snapshot_unref(run.snapshot);
    buf_release(&run.next_cursor);
    json_close(json);
    registry_query_end(call->registry, call->name);
    return e;
}

/* ---- one document ---- */

/* One document by the id of the path. */
struct look_up {
    struct slice path_id;
    struct doc_id id;
    bool found;
    struct doc doc;
};

/* The id of the path, as one of the namespace's kind. */
static enum err path_id(struct op *op, struct slice text, enum id_kind kind,
                        struct doc_id *out)
{
    *out = (struct doc_id){.kind = ID_STRING, .string = text};
    if (kind == ID_U64) {
        out->kind = ID_U64;
        if (route_u64(text, &out->u64)) return ERR_OK;
        return op_fail(op, ERR_INVALID,
                       "the ids of this namespace are unsigned integers");
    }
    if (text.size == 0 || text.size > ID_STRING_MAX)
        return op_fail(op, ERR_INVALID, "a document's id has 1 to %d bytes",
                       ID_STRING_MAX);
    return ERR_OK;
}

static enum err read_document(struct op *op, struct snapshot *snapshot, void *context)
{
    struct look_up *l = context;
    struct location at = {UINT32_MAX, 0};
    struct segment_fetch what = {.vector = true, .attributes = true};

    enum err e = path_id(op, l->path_id, snapshot->id_kind, &l->id);
    if (!e && snapshot->id_kind == l->id.kind)
        e = snapshot_find(op, snapshot, &l->id, 1, &at);
    l->found = at.source != UINT32_MAX;
    if (e || !l->found) return e;
    return segment_fetch(op, snapshot->sources[at.source].segment, snapshot->schema,
                         &at.row, 1, what, &l->doc);
}

static enum err write_document(struct op *op, struct buf *body,
                               const struct schema *schema, const struct doc *doc)
{
    struct v1_include everything = {.all = true};
    struct v1_picks picks;
    struct json_writer w;
    enum err e = v1_include_bind(op, &everything, schema, &picks);
    if (e) return e;
    json_writer_init(&w, body);
    json_begin_object(&w);
    document_write(&w, schema, doc, NULL, &picks, true);
    json_end_object(&w);
    return ERR_OK;
}

enum err v1_document(struct op *op, struct api_call *call)
{
    struct look_up l = {.path_id = call->document};
    struct snapshot *snapshot = NULL;
    char text[80];

    enum err e =
        v1_on_snapshot(op, call, CONSISTENCY_STRONG, read_document, &l, &snapshot);
    if (!e && !l.found)
        e = op_fail(op, ERR_NOT_FOUND, "there is no document %s",
                    doc_id_text(&l.id, text));
    if (!e) e = write_document(op, &call->response->body, snapshot->schema, &l.doc);
    snapshot_unref(snapshot);
    return e;
}
