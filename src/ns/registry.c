#include "ns/registry.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/admission.h"
#include "ns/background.h"
#include "ns/namespace.h"
#include "ns/ns_metrics.h"
#include "ns/open_table.h"
#include "ns/orders.h"
#include "store/store.h"

enum {
    CREATE_TRIES = 16,
    LIST_PAGE = 1000,
    COMPACT_NICE = 5 /* somebody waits for it, but queries come first */
};

struct registry {
    struct registry_options options;
    char *node_id, *wal_prefix, *scratch;
    struct opener *opener;
    struct open_table *table;
    struct background *background; /* NULL: registry_maintain does its work */
    struct orders orders;
    atomic_uint_fast64_t count; /* namespaces as last counted */
    atomic_uint_fast64_t tails_held;
};

struct registry_options registry_options_default(void)
{
    return (struct registry_options){
        .node_id = "node",
        .wal_prefix = "",
        .commit_bytes_max = (uint64_t)16 << 20,
        .request_bytes_max = WAL_BATCH_SIZE_MAX,
        .tail_bytes_max = (uint64_t)1 << 30,
        .tail_index_bytes = (uint64_t)64 << 20,
        .tail_index_rows = 50000,
        .tail_index_idle_ms = 60000,
        .compaction = true,
        .interval_ms = 3600000,
        .segments_max = 100,
        .segment_docs_max = 1000000,
        .gc_grace_ms = 600000,
        .staleness_max_ms = 10000,
        .open_max = 16384,
        .idle_close_ms = 900000,
        .open_threads = 8,
        .spool_from = (uint64_t)64 << 20,
        .background = true,
    };
}

enum err namespace_name_check(struct op *op, struct slice name)
{
    bool good =
        name.size >= 1 && name.size <= NAMESPACE_NAME_MAX && name.data[0] != '.';
    for (size_t i = 0; good && i < name.size; i++) {
        uint8_t c = name.data[i];
        good = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
               (c >= 'a' && c <= 'z') || c == '_' || c == '.' || c == '-';
    }
    if (good) return ERR_OK;
    return op_fail(
        op, ERR_INVALID,
        "namespace name must be 1 to %d of A-Z a-z 0-9 _ . - and must not start "
        "with a dot",
        NAMESPACE_NAME_MAX);
}

/* ---- creating, dropping, listing ---- */

/* It is there: is it the same, or can it be widened? */
static enum err create_existing(struct op *op, struct registry *r, const char *name,
                                const struct schema *wanted, struct commit_token *token)
{
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct namespace *ns = NULL;
    struct snapshot *s = NULL;
    struct schema *wider = NULL;
    bool same;

    enum err e = open_table_find(op, r->table, name, &ns);
    if (!e) e = namespace_snapshot(op, ns, &strong, &s);
    if (!e) e = schema_extend(op, s->schema, wanted, &same, &wider);
    if (!e && !same && wider == s->schema)
        e = op_fail(
            op, ERR_CONFLICT,
            "namespace \"%s\" has %u attributes, the request declares only %u of "
            "them, and attributes cannot be taken away",
            name, s->schema->attr_count, wanted->attr_count);
    if (!e && same) {
        *token = (struct commit_token){.epoch = s->epoch, .slot = s->slot};
        memcpy(token->incarnation, s->incarnation, sizeof token->incarnation);
    } else if (!e) {
        e = namespace_widen(op, ns, s->schema, wider, token);
    }
    schema_unref(wider);
    snapshot_unref(s);
    if (ns) namespace_unref(ns);
    return e;
}

/* Writes the catalog record. *outcome TAKEN: somebody was faster. */
static enum err create_new(struct op *op, struct registry *r, const char *name,
                           uint64_t n, const struct schema *schema,
                           enum settled *outcome, struct commit_token *token)
{
    uint8_t incarnation[INCARNATION_SIZE];
    struct namespace *ns = NULL;

    random_bytes(incarnation, sizeof incarnation);
    enum err e = catalog_append(op, r->options.store, name, n, incarnation,
                                r->wal_prefix, r->node_id, schema, outcome);
    if (e || *outcome != SETTLED_APPLIED) return e;
    atomic_fetch_add(&r->count, 1);
    log_info(op, "namespace created", "namespace=%s", name);

    /* It exists from here on. Opening it now only spares the first write the wait. */
    *token = (struct commit_token){0};
    memcpy(token->incarnation, incarnation, sizeof incarnation);
    if (!open_table_find(op, r->table, name, &ns)) {
        (void)namespace_open(op, ns, token);
        namespace_unref(ns);
    }
    op_clear_error(op);
    return ERR_OK;
}

/* One attempt. *again: the catalog changed under our hands, or may have. */
static enum err create_once(struct op *op, struct registry *r, const char *name,
                            const struct schema *schema, bool *created, bool *again,
                            struct commit_token *token)
{
    struct catalog_record newest = {0};
    enum settled outcome = SETTLED_TAKEN;

    *again = false;
    enum err e = catalog_newest(op, r->options.store, name, &newest);
    bool absent = e == ERR_NOT_FOUND || (!e && newest.deleted);
    if (e && !absent) return e;
    uint64_t n = e == ERR_NOT_FOUND ? 0 : newest.n + 1;
    if (e == ERR_NOT_FOUND) op_clear_error(op);
    catalog_release(&newest);

    if (absent) {
        e = create_new(op, r, name, n, schema, &outcome, token);
        *created = !e && outcome == SETTLED_APPLIED;
        *again = !e && !*created;
    } else {
        e = create_existing(op, r, name, schema, token);
        *again = e == ERR_NOT_FOUND || e == ERR_CONFLICT;
    }
    return e;
}

enum err registry_create(struct op *op, struct registry *r, const char *name,
                         const struct schema *schema, bool *created,
                         struct commit_token *token)
{
    enum err e = namespace_name_check(op, slice_str(name));
    if (e) return e;
    if (r->options.read_only)
        return op_fail(op, ERR_DENIED, "this node does not take writes");

    *created = false;
    for (int i = 0; i < CREATE_TRIES; i++) {
        bool again;
        e = create_once(op, r, name, schema, created, &again, token);
        if (!again) return e;
        /* A difference that widening cannot mend stays; a lost race does not. */
        if (e == ERR_CONFLICT && i > 0) return e;
        op_clear_error(op);
    }
    return op_fail(op, ERR_CONFLICT,
                   "namespace \"%s\" is created and dropped by others at "
                   "the same time",
                   name);
}

/* The name in "ns/<name>/", in op's arena; NULL when the key is none. ERR_LIMIT. */
static enum err name_of(struct op *op, const char *key, const char **name)
{
    size_t size = strlen(key);
    *name = NULL;
    if (size < 5 || strncmp(key, "ns/", 3) != 0 || key[size - 1] != '/') return ERR_OK;
    *name = (const char *)op_copy(op, slice_of(key + 3, size - 4)).data;
    return *name ? ERR_OK : ERR_LIMIT;
}

/* The name, if a namespace of that name exists now; else NULL. */
static enum err living_name(struct op *op, struct registry *r, const char *key,
                            const char **out)
{
    struct catalog_record record;
    const char *name;

    *out = NULL;
    enum err e = name_of(op, key, &name);
    if (e || !name) return e;
    e = catalog_newest(op, r->options.store, name, &record);
    if (e == ERR_NOT_FOUND) {
        op_clear_error(op);
        return ERR_OK;
    }
    if (e) return e;
    if (!record.deleted) *out = name;
    catalog_release(&record);
    return ERR_OK;
}

enum err registry_list(struct op *op, struct registry *r, const char *prefix,
                       const char *after, const char **names, size_t *n)
{
    size_t wanted = *n, found = 0, page_size = LIST_PAGE;
    char *from = op_printf(op, "ns/%s", prefix);
    const char *behind = after[0] ? op_printf(op, "ns/%s/", after) : "";

    if (!from || !behind) return ERR_LIMIT;
    while (found < wanted && page_size == LIST_PAGE) {
        const char *page[LIST_PAGE];
        enum err e =
            store_list(op, r->options.store, from, behind, '/', page, &page_size);
        if (e) return op_fail(op, e, "list namespaces");
        for (size_t i = 0; i < page_size && found < wanted; i++) {
            e = living_name(op, r, page[i], &names[found]);
            if (e) return e;
            found += names[found] != NULL;
        }
        if (page_size) behind = page[page_size - 1];
    }
    *n = found;
    return ERR_OK;
}

uint64_t registry_count(struct registry *r)
{
    return atomic_load(&r->count);
}

/* ---- reading and writing ---- */

/* What is done with one namespace; request is the call's own. */
typedef enum err (*namespace_call)(struct op *op, struct namespace *ns, void *request);

/* Makes the call on the namespace of that name. One that turns out to be dropped under
 * our hands may be there again, as another one: then the call is made on that. */
static enum err on_namespace(struct op *op, struct registry *r, const char *name,
                             namespace_call call, void *request)
{
    for (bool again = true;; again = false) {
        struct namespace *ns = NULL;
        enum err e = open_table_find(op, r->table, name, &ns);
        if (e) return e;
        e = call(op, ns, request);
        again = again && e == ERR_NOT_FOUND && namespace_dropped(ns);
        namespace_unref(ns);
        if (!again) return e;
        op_clear_error(op);
    }
}

struct write_call {
    const struct write_request *request;
    struct write_result *result;
};

static enum err call_write(struct op *op, struct namespace *ns, void *request)
{
    struct write_call *call = request;
    return namespace_write(op, ns, call->request, call->result);
}

enum err registry_write(struct op *op, struct registry *r, const char *name,
                        const struct write_request *request,
                        struct write_result *result)
{
    struct write_call call = {request, result};
    return on_namespace(op, r, name, call_write, &call);
}

struct snapshot_call {
    const struct read_options *options;
    struct snapshot **out;
};

static enum err call_snapshot(struct op *op, struct namespace *ns, void *request)
{
    struct snapshot_call *call = request;
    return namespace_snapshot(op, ns, call->options, call->out);
}

enum err registry_snapshot(struct op *op, struct registry *r, const char *name,
                           const struct read_options *options, struct snapshot **out)
{
    struct snapshot_call call = {options, out};
    return on_namespace(op, r, name, call_snapshot, &call);
}

enum err registry_query_begin(struct op *op, struct registry *r, const char *name)
{
    return admission_enter(op, r->options.queries, name);
}

void registry_query_end(struct registry *r, const char *name)
{
    admission_leave(r->options.queries, name);
}

enum err registry_schema(struct op *op, struct registry *r, const char *name,
                         struct schema **schema)
{
    /* A write is checked against the newest schema again when it is committed, so this
     * may be as old as memory has it. */
    struct read_options eventual = {.consistency = CONSISTENCY_EVENTUAL};
    struct snapshot *s = NULL;

    enum err e = registry_snapshot(op, r, name, &eventual, &s);
    if (e) return e;
    *schema = schema_ref(s->schema);
    snapshot_unref(s);
    return ERR_OK;
}

static enum err call_info(struct op *op, struct namespace *ns, void *request)
{
    return namespace_info(op, ns, request);
}

enum err registry_info(struct op *op, struct registry *r, const char *name,
                       struct namespace_info *out)
{
    return on_namespace(op, r, name, call_info, out);
}

static enum err call_drop(struct op *op, struct namespace *ns, void *request)
{
    struct registry *r = request;
    struct op purge;

    enum err e = namespace_drop(op, ns);
    if (e) return e;
    if (atomic_load(&r->count)) atomic_fetch_sub(&r->count, 1);
    log_info(op, "namespace dropped", "namespace=%s", ns->keys.name);
    op_init(&purge, op->deadline_ms, 0);
    (void)gc_purge(&purge, &r->options, &ns->keys); /* or at the next survey */
    op_release(&purge);
    return ERR_OK;
}

enum err registry_drop(struct op *op, struct registry *r, const char *name)
{
    return on_namespace(op, r, name, call_drop, r);
}

/* ---- background ---- */

/* On a thread of its own: one that yields to others stays so. */
static enum err compact_now(struct op *op, void *context, const char *name)
{
    struct registry *r = context;
    thread_yield_to_others(COMPACT_NICE);
    op->deadline_ms = clock_ms() + MERGE_TIMEOUT_MS;
    return background_work(op, r->table, name, WORK_COMPACT);
}

enum err registry_maintain(struct op *op, struct registry *r, const char *name,
                           bool force)
{
    if (force && r->options.background) return orders_carry_out(op, &r->orders, name);
    return background_work(op, r->table, name, force ? WORK_COMPACT : WORK_IF_DUE);
}

/* ---- life ---- */

struct registry *registry_new(const struct registry_options *options)
{
    assert(options->request_bytes_max > 0 &&
           options->request_bytes_max <= WAL_BATCH_SIZE_MAX);
    struct registry *r = mem_new(struct registry);
    r->options = *options;
    r->options.node_id = r->node_id = mem_strdup(options->node_id);
    r->options.wal_prefix = r->wal_prefix = mem_strdup(options->wal_prefix);
    if (options->scratch)
        r->options.scratch = r->scratch = mem_strdup(options->scratch);
    orders_init(&r->orders, compact_now, r);
    atomic_init(&r->count, 0);
    atomic_init(&r->tails_held, 0);
    r->options.tails_held = &r->tails_held;
    ns_metrics_init();
    r->options.queries = admission_new(REGISTRY_QUERIES_MAX);
    r->opener = opener_new(options->open_threads, options->open_max);
    r->table = open_table_new(&r->options, r->opener);
    if (options->background)
        r->background = background_start(&r->options, r->table, &r->count);
    return r;
}

static void settle_all(struct registry *r, int64_t deadline_ms)
{
    struct walk walk = {0};
    struct namespace *ns;
    struct op op;

    op_init(&op, deadline_ms, 0);
    while ((ns = open_table_next(r->table, &walk))) {
        if (namespace_settle(&op, ns))
            log_warn(&op, "a write was not settled before the end",
                     "namespace=%s error=%s", ns->keys.name, op.error);
        op_clear_error(&op);
        namespace_unref(ns);
    }
    op_release(&op);
}

void registry_free(struct registry *r, int64_t deadline_ms)
{
    if (!r) return;
    background_cancel(r->background);
    orders_cancel(&r->orders);
    opener_cancel(r->opener);
    orders_release(&r->orders);
    background_free(r->background);
    opener_free(r->opener);
    admission_free(r->options.queries);
    settle_all(r, deadline_ms);

    open_table_free(r->table);
    mem_free(r->node_id);
    mem_free(r->wal_prefix);
    mem_free(r->scratch);
    mem_free(r);
}
