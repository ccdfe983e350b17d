#include "api/api_v1_recall.h"

#include "api/api_v1_filter.h"
#include "api/api_v1_query.h"
#include "api/api_v1_query_parse.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/op.h"
#include "query/recall.h"

struct request {
    struct recall_options options;
    struct v1_filter *filter; /* NULL: none */
    struct recall_result result;
};

static enum err read_count(struct op *op, struct json_value *v, uint64_t max,
                           uint32_t *out)
{
    uint64_t count;
    enum err e = json_u64_range(op, v, 1, max, &count);
    if (!e) *out = (uint32_t)count;
    return e;
}

enum { NAME_NUM, NAME_TOP_K, NAME_FILTER, NAME_SEARCH, NAMES };
static const char *const names[NAMES] = {"num", "top_k", "filter", "search"};

static enum err read_member(struct op *op, int name, struct json_value *v,
                            struct request *r)
{
    struct recall_options *o = &r->options;
    switch (name) {
    case NAME_NUM: return read_count(op, v, RECALL_QUERIES_MAX, &o->queries);
    case NAME_TOP_K: return read_count(op, v, RECALL_TOP_K_MAX, &o->top_k);
    case NAME_FILTER: return v1_filter_parse(op, v, &r->filter);
    default: return v1_search_parse(op, v, &o->recall);
    }
}

static enum err parse(struct op *op, struct json_value *root, struct request *r)
{
    struct json_walk walk;
    struct json_value member;
    bool present = false;
    int name = 0;

    enum err e = json_object(op, root, &walk);
    while (!e && !(e = json_field(op, &walk, names, NAMES, &name, &member)) &&
           name >= 0) {
        e = v1_present(op, &member, &present);
        if (!e && present) e = read_member(op, name, &member, r);
    }
    return e;
}

static enum err measure(struct op *op, struct snapshot *snapshot, void *context)
{
    struct request *r = context;
    struct filter *filter = NULL;
    enum err e = r->filter ? v1_filter_bind(op, r->filter, snapshot->schema,
                                            snapshot->id_kind, &filter)
                           : ERR_OK;
    r->options.filter = filter;
    return e ? e : recall_measure(op, snapshot, &r->options, &r->result);
}

static void put(struct json_writer *w, const char *key, double value)
{
    json_key(w, key);
    json_put_f64(w, value);
}

static void answer(struct buf *body, const struct request *r)
{
    const struct recall_result *x = &r->result;
    double queries = x->queries ? x->queries : 1;
    struct json_writer w;
    json_writer_init(&w, body);
    json_begin_object(&w);
    put(&w, "recall", x->neighbours ? (double)x->found / x->neighbours : 1);
    put(&w, "queries", x->queries);
    put(&w, "top_k", r->options.top_k);
    json_key(&w, "per_query");
    json_begin_object(&w);
    put(&w, "neighbours", x->neighbours / queries);
    put(&w, "clusters", (double)x->work.clusters / queries);
    put(&w, "bytes", (double)x->work.bytes / queries);
    put(&w, "codes_1bit", (double)x->work.codes / queries);
    put(&w, "codes_8bit", (double)x->work.rows / queries);
    put(&w, "exact", (double)x->work.exact / queries);
    put(&w, "took_ms", (double)x->index_us / 1000 / queries);
    put(&w, "exact_took_ms", (double)x->exact_us / 1000 / queries);
    json_end_object(&w);
    json_end_object(&w);
}

enum err v1_recall(struct op *op, struct api_call *call)
{
    struct request r = {
        .options = {.queries = RECALL_QUERIES_DEFAULT, .top_k = TOP_K_DEFAULT}};
    struct snapshot *snapshot = NULL;
    struct json *json = NULL;
    struct json_value root;

    enum err e = api_call_json(op, call, &json, &root);
    if (!e) e = parse(op, &root, &r);
    if (!e) e = json_end(op, json);
    if (!e) e = v1_on_snapshot(op, call, CONSISTENCY_STRONG, measure, &r, &snapshot);
    if (!e) answer(&call->response->body, &r);
    snapshot_unref(snapshot);
    json_close(json);
    return e;
}
