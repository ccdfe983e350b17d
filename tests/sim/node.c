#include "sim/node.h"

#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "base/task.h"
#include "cache/cache.h"
#include "doc/filter.h"
#include "ns/snapshot.h"
#include "sim/sim.h"

enum { CACHE_SIZE = 16 << 20, READ_TRIES = 3 };

void node_open(struct node *n, struct ledger *ledger, const char *name,
               struct store *store, const struct registry_options *options)
{
    struct registry_options o = *options;
    *n = (struct node){.ledger = ledger, .name = name, .store = store};
    n->cache = cache_new(store, CACHE_SIZE);
    o.store = store;
    o.cache = n->cache;
    n->registry = registry_new(&o);
}

void node_close(struct node *n, int64_t deadline_ms)
{
    registry_free(n->registry, deadline_ms);
    cache_free(n->cache);
    n->registry = NULL;
    n->cache = NULL;
}

/* Nothing in the tests damages bytes or sends what could be invalid. */
static void check_kind(struct node *n, const char *call, enum err e,
                       const struct op *op)
{
    bool strange = e == ERR_CORRUPT || e == ERR_INVALID || e == ERR_LIMIT ||
                   e == ERR_REUSED || e == ERR_CANCELED;
    if (strange) ledger_complain(n->ledger, "%s fails: %s", call, op->error);
    sim_note("%s: %s %s", call, err_name(e), e ? op->error : "");
}

enum err node_create(struct node *n, int64_t deadline_ms)
{
    struct schema *schema = ledger_schema();
    struct commit_token token;
    struct op op;
    bool created;

    op_init(&op, deadline_ms, 0);
    enum err e = registry_create(&op, n->registry, n->name, schema, &created, &token);
    if (!e) ledger_created(n->ledger, &token);
    check_kind(n, "create", e, &op);
    op_release(&op);
    schema_unref(schema);
    return e;
}

enum err node_drop(struct node *n, int64_t deadline_ms)
{
    struct ledger_mark begun = ledger_begin(n->ledger);
    struct op op;

    op_init(&op, deadline_ms, 0);
    enum err e = registry_drop(&op, n->registry, n->name);
    if (!e) ledger_dropped(n->ledger, &begun);
    if (e == ERR_NOT_FOUND) ledger_not_found(n->ledger, &begun, "drop", true);
    check_kind(n, "drop", e, &op);
    op_release(&op);
    return e;
}

/* ---- writing ---- */

static void fill_batch(struct op *op, const struct intent *intent,
                       const struct schema *schema, struct batch *batch)
{
    batch->docs = op_new_array(op, struct doc, LEDGER_IDS);
    batch->deletes = op_new_array(op, struct doc_id, LEDGER_IDS);
    for (unsigned i = 0; i < LEDGER_IDS; i++) {
        struct doc_id id = {.kind = ID_U64, .u64 = i};
        if (!(intent->ids & 1u << i) || intent->kind == INTENT_DELETE_BELOW) continue;
        if (intent->kind == INTENT_DELETE) {
            batch->deletes[batch->delete_count++] = id;
            continue;
        }
        float *vector = op_new_array(op, float, 2);
        struct value *values = op_new_array(op, struct value, schema->attr_count);
        vector[0] = (float)i;
        vector[1] = (float)intent->number;
        values[0].one.i = intent->number;
        batch->docs[batch->doc_count++] =
            (struct doc){.id = id, .vector = vector, .values = values};
    }
}

static enum err write_under(struct op *op, struct node *n, const struct intent *intent,
                            struct schema *schema, struct write_result *result)
{
    struct batch batch = {0};
    union scalar below = {.i = intent->below};
    struct filter filter = {.op = FILTER_LT,
                            .type = ATTR_INT,
                            .values = &below,
                            .value_count = 1};
    struct write_request request = {.batch = &batch, .schema = schema};

    fill_batch(op, intent, schema, &batch);
    if (intent->kind == INTENT_DELETE_BELOW) request.delete_filter = &filter;
    if (intent->keyed)
        request.idempotency_key = slice_str(op_printf(op, "key-%u", intent->number));
    memcpy(request.digest, &intent->number, sizeof intent->number);
    return registry_write(op, n->registry, n->name, &request, result);
}

enum err node_write(struct node *n, uint32_t number, int64_t deadline_ms,
                    struct write_result *result)
{
    /* A copy: the ledger may move while we wait. */
    const struct intent intent = *ledger_intent(n->ledger, number);
    struct ledger_mark begun = ledger_begin(n->ledger);
    struct schema *schema = NULL;
    struct op op;

    op_init(&op, deadline_ms, 0);
    ledger_attempt(n->ledger, number);
    sim_note("write %u begins", number);
    enum err e = registry_schema(&op, n->registry, n->name, &schema);
    if (!e) e = write_under(&op, n, &intent, schema, result);
    ledger_answer(n->ledger, number, e, result);
    if (e == ERR_NOT_FOUND) ledger_not_found(n->ledger, &begun, "write", true);
    check_kind(n, "write", e, &op);
    op_release(&op);
    schema_unref(schema);
    return e;
}

/* ---- reading ---- */

static enum err read_document(struct op *op, struct snapshot *s, unsigned i,
                              struct ledger_content *content)
{
    struct doc_id id = {.kind = ID_U64, .u64 = i};
    struct segment_fetch what = {.attributes = true, .vector = true};
    struct location at;
    struct doc doc;

    enum err e = snapshot_find(op, s, &id, 1, &at);
    if (e || at.source == UINT32_MAX) return e;
    e = segment_fetch(op, s->sources[at.source].segment, s->schema, &at.row, 1, what,
                      &doc);
    if (e) return e;
    content->n[i] = (uint64_t)doc.values[0].one.i;
    bool whole = doc.vector && doc.vector[0] == (float)i &&
                 doc.vector[1] == (float)content->n[i];
    return whole ? ERR_OK : op_fail(op, ERR_CORRUPT, "document %u is of two writes", i);
}

static enum err read_content(struct op *op, struct snapshot *s,
                             struct ledger_content *content)
{
    *content = (struct ledger_content){.row_count = s->row_count};
    enum err e = ERR_OK;
    for (unsigned i = 0; i < LEDGER_IDS && !e; i++)
        e = read_document(op, s, i, content);
    return e;
}

/* *stale: an object was collected under the snapshot; a query would begin again. */
static enum err read_once(struct op *op, struct node *n,
                          const struct read_options *options,
                          const struct ledger_mark *begun, struct commit_token *token,
                          bool *stale)
{
    bool strong = options->consistency == CONSISTENCY_STRONG;
    struct ledger_content content;
    struct snapshot *s = NULL;

    *stale = false;
    enum err e = registry_snapshot(op, n->registry, n->name, options, &s);
    if (e == ERR_NOT_FOUND) ledger_not_found(n->ledger, begun, "read", strong);
    if (e) return e;
    e = read_content(op, s, &content);
    *stale = e == ERR_NOT_FOUND;
    if (!e) {
        sim_note("read slot %lld", (long long)s->slot);
        ledger_read_answer(n->ledger, begun, s, &content, strong, options->min_commit);
    }
    if (!e && token) {
        *token = (struct commit_token){.epoch = s->epoch, .slot = s->slot};
        memcpy(token->incarnation, s->incarnation, sizeof token->incarnation);
    }
    snapshot_unref(s);
    return e;
}

enum err node_read(struct node *n, bool strong, const struct commit_token *min_commit,
                   int64_t deadline_ms, struct commit_token *token)
{
    struct ledger_mark begun = ledger_begin(n->ledger);
    struct read_options options = {
        .consistency = strong ? CONSISTENCY_STRONG : CONSISTENCY_EVENTUAL,
        .min_commit = min_commit,
    };
    struct op op;
    bool stale = true;
    enum err e = ERR_OK;

    op_init(&op, deadline_ms, 0);
    for (int i = 0; i < READ_TRIES && stale; i++)
        e = read_once(&op, n, &options, &begun, token, &stale);
    check_kind(n, strong ? "strong read" : "eventual read", e, &op);
    op_release(&op);
    return stale ? ERR_IO : e;
}

enum err node_maintain(struct node *n, bool force, int64_t deadline_ms)
{
    struct op op;
    op_init(&op, deadline_ms, 0);
    enum err e = registry_maintain(&op, n->registry, n->name, force);
    check_kind(n, "maintain", e, &op);
    op_release(&op);
    return e;
}
