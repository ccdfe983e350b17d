/*
 * registry_fixture.h - namespaces on a store in memory, for the tests of ns/registry.
 *
 * A test finds an empty store that can be told to fail, to fall silent or to wait, and
 * no node. It starts those it wants: a node is one process on that store. What it
 * leaves running is stopped behind it, however it ended.
 */
#ifndef TESTS_UNIT_REGISTRY_FIXTURE_H
#define TESTS_UNIT_REGISTRY_FIXTURE_H

#include "base/op.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/registry.h"
#include "store/store_fault.h"
#include "store/store_mem.h"
#include "unit/metric_value.h"
#include "unit/test.h"

/* ---- a store that does as it is told; its calls are counted once, by op ---- */

struct deaf_store {
    struct store store;
    struct store *inner;
    atomic_bool deaf, denied; /* creates are not answered, or refused … */
    atomic_int refusals;      /* … so many times */
    atomic_bool catalog_denied;
    atomic_int hold;                /* the put that makes this 0 waits … */
    atomic_bool holding;            /* … while this is true */
    atomic_int calls;               /* of all kinds */
    atomic_bool hold_get, get_held; /* the next get waits until the first is false */
    atomic_bool log_held;           /* entries of the log wait while this is true … */
    atomic_int log_waiting;         /* … so many */
    atomic_int answer_hold;  /* the log's entry that makes this 0 lands and … */
    atomic_bool answer_held; /* … is not answered while this is true */
};

static inline struct deaf_store *deaf(struct store *s)
{
    return (struct deaf_store *)s;
}

static inline enum err deaf_read(struct op *op, struct store *s,
                                 struct store_range *ranges, size_t n)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    return deaf(s)->inner->ops->read(op, deaf(s)->inner, ranges, n);
}

static inline enum err deaf_get(struct op *op, struct store *s, const char *key,
                                size_t size_max, struct buf *out)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    while (atomic_load(&deaf(s)->hold_get)) {
        atomic_store(&deaf(s)->get_held, true);
        task_sleep_ms(1);
    }
    return deaf(s)->inner->ops->get(op, deaf(s)->inner, key, size_max, out);
}

static inline enum err deaf_create(struct op *op, struct store *s, const char *key,
                                   struct slice data)
{
    if (atomic_load(&deaf(s)->deaf)) return op_fail(op, ERR_UNKNOWN, "no answer");
    if (atomic_load(&deaf(s)->denied)) {
        atomic_fetch_add(&deaf(s)->refusals, 1);
        return op_fail(op, ERR_DENIED, "access denied");
    }
    if (atomic_load(&deaf(s)->catalog_denied) && strstr(key, "/catalog/"))
        return op_fail(op, ERR_DENIED, "access denied");
    bool log = strstr(key, "wal/") != NULL;
    atomic_fetch_add(&deaf(s)->log_waiting, log);
    while (log && atomic_load(&deaf(s)->log_held))
        task_sleep_ms(1);
    atomic_fetch_sub(&deaf(s)->log_waiting, log);
    enum err e = deaf(s)->inner->ops->create(op, deaf(s)->inner, key, data);
    if (log && atomic_load(&deaf(s)->answer_hold) &&
        atomic_fetch_sub(&deaf(s)->answer_hold, 1) == 1) {
        atomic_store(&deaf(s)->answer_held, true);
        while (atomic_load(&deaf(s)->answer_held))
            task_sleep_ms(1);
    }
    return e;
}

static inline enum err deaf_put(struct op *op, struct store *s, const char *key,
                                const struct slice *parts, size_t n)
{
    if (atomic_load(&deaf(s)->hold) && atomic_fetch_sub(&deaf(s)->hold, 1) == 1) {
        atomic_store(&deaf(s)->holding, true);
        while (atomic_load(&deaf(s)->holding))
            task_sleep_ms(1);
    }
    return deaf(s)->inner->ops->put(op, deaf(s)->inner, key, parts, n);
}

static inline enum err deaf_list(struct op *op, struct store *s, const char *prefix,
                                 const char *after, char delimiter, const char **keys,
                                 size_t *n)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    return deaf(s)->inner->ops->list(op, deaf(s)->inner, prefix, after, delimiter, keys,
                                     n);
}

static inline enum err deaf_delete(struct op *op, struct store *s,
                                   const char *const *keys, size_t n)
{
    return deaf(s)->inner->ops->delete (op, deaf(s)->inner, keys, n);
}

static inline void deaf_free(struct store *s)
{
    store_free(deaf(s)->inner);
    mem_free(deaf(s));
}

static inline struct deaf_store *deaf_new(struct store *inner)
{
    static const struct store_ops ops = {.name = "deaf",
                                         .read = deaf_read,
                                         .get = deaf_get,
                                         .create = deaf_create,
                                         .put = deaf_put,
                                         .list = deaf_list,
                                         .delete = deaf_delete,
                                         .free = deaf_free};
    struct deaf_store *d = mem_new(struct deaf_store);
    d->store.ops = &ops;
    d->inner = inner;
    return d;
}

/* ---- the fixture ---- */

/* One process on a store that others share. */
struct node {
    struct registry_options options; /* those of its next start */
    uint64_t memory;
    bool far; /* from its store */
    struct cache *cache;
    struct registry *registry; /* NULL: it does not run */
};

enum { NODES_MAX = 4, NODE_MEMORY = 64 << 20 };

struct fixture {
    struct op op;            /* for the test's own calls */
    struct deaf_store *deaf; /* over … */
    struct store *faults;    /* … one that fails as planned, over one in memory */
    struct store *store;     /* what the nodes see of these: the outermost */
    struct node nodes[NODES_MAX];
    size_t node_count;
};

static inline void init_op(struct op *op)
{
    op_init(op, clock_ms() + 60000, 0); /* sanitizers are slow */
}

static inline void fixture_begin(struct fixture *f)
{
    struct fault_plan calm = {0};
    *f = (struct fixture){.faults = store_fault_new(store_mem_new(), &calm)};
    f->deaf = deaf_new(f->faults);
    f->store = &f->deaf->store;
    op_init(&f->op, clock_ms() + 600000, 0);
}

static inline void node_stop(struct node *n)
{
    if (!n->registry) return;
    registry_free(n->registry, clock_ms() + 1000);
    cache_free(n->cache);
    n->registry = NULL;
    n->cache = NULL;
}

static inline void fixture_end(struct fixture *f)
{
    atomic_bool *waits[] = {&f->deaf->holding, &f->deaf->hold_get, &f->deaf->log_held,
                            &f->deaf->answer_held};
    for (size_t i = 0; i < COUNT_OF(waits); i++)
        atomic_store(waits[i], false); /* nobody who waits for a failed test */
    for (size_t i = 0; i < f->node_count; i++)
        node_stop(&f->nodes[i]);
    op_release(&f->op);
    store_free(f->store);
}

/* Another store and no nodes, for tests that are made many times over. */
static inline void fixture_renew(struct fixture *f)
{
    fixture_end(f);
    fixture_begin(f);
}

static inline int fixture_setup(void **state)
{
    static struct fixture fixture;
    fixture_begin(&fixture);
    *state = &fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    fixture_end(*state);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

/* ---- nodes ---- */

static inline struct registry_options options_of(const char *id)
{
    struct registry_options o = registry_options_default();
    o.node_id = id;
    o.background = false;
    o.gc_grace_ms = 0;
    return o;
}

static inline void node_run(struct node *n)
{
    n->cache = cache_new(n->options.store, n->memory);
    if (n->far) cache_gather(n->cache);
    n->options.cache = n->cache;
    n->registry = registry_new(&n->options);
}

static inline struct node *node_with(struct fixture *f, uint64_t memory,
                                     struct registry_options o)
{
    assert_true(f->node_count < NODES_MAX);
    struct node *n = &f->nodes[f->node_count++];
    o.store = f->store;
    *n = (struct node){.options = o, .memory = memory};
    node_run(n);
    return n;
}

static inline struct node *node_start(struct fixture *f, const char *id)
{
    return node_with(f, NODE_MEMORY, options_of(id));
}

static inline void node_restart(struct node *n)
{
    node_stop(n);
    node_run(n);
}

static inline struct schema *schema_with(uint32_t attrs)
{
    static const struct attr all[] = {
        {.name = "n", .type = ATTR_INT, .indexed = true},
        {.name = "text",
         .type = ATTR_STRING,
         .full_text = true,
         .analysis = {LANG_ENGLISH, true, true, false, false}},
    };
    return schema_new(2, METRIC_L2, all, attrs);
}

static inline enum err create_as(struct op *op, struct node *n, const char *name,
                                 const struct schema *schema)
{
    struct commit_token token;
    bool created;
    return registry_create(op, n->registry, name, schema, &created, &token);
}

static inline void create(struct node *n, const char *name)
{
    struct op op;
    struct schema *schema = schema_with(1);
    init_op(&op);
    if (create_as(&op, n, name, schema)) fail_msg("create: %s", op.error);
    schema_unref(schema);
    op_release(&op);
}

/* A node with these options, and namespace "x" that it has created. */
static inline struct node *owner_with(struct fixture *f, struct registry_options o)
{
    struct node *n = node_with(f, NODE_MEMORY, o);
    create(n, "x");
    return n;
}

static inline struct node *owner(struct fixture *f)
{
    return owner_with(f, options_of("a"));
}

/* Each look at it makes a segment of its tail. */
static inline struct node *owner_that_indexes(struct fixture *f)
{
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    return owner_with(f, o);
}

/* One that never owns a namespace. */
static inline struct node *reader_with(struct fixture *f, uint64_t memory)
{
    struct registry_options o = options_of("q");
    o.read_only = true;
    return node_with(f, memory, o);
}

static inline struct node *reader(struct fixture *f)
{
    return reader_with(f, NODE_MEMORY);
}

/* ---- writing ---- */

struct write {
    uint64_t first, count; /* ids first .. first + count - 1 … */
    int64_t value;         /* … get this value of n, or, with … */
    bool remove;           /* … remove, are deleted */
    bool bare;             /* without vectors, whose index takes time */
    const char *key;       /* idempotency key */
    int64_t timeout_ms;
};

static inline void write_batch(struct op *op, const struct write *w,
                               const struct schema *schema, struct batch *batch)
{
    batch->docs = op_new_array(op, struct doc, w->count);
    batch->deletes = op_new_array(op, struct doc_id, w->count);
    for (uint64_t i = 0; i < w->count; i++) {
        struct doc_id id = {.kind = ID_U64, .u64 = w->first + i};
        float vector[2] = {(float)w->value, (float)i};
        struct value *values = op_new_array(op, struct value, schema->attr_count);
        for (uint32_t k = 0; k < schema->attr_count; k++)
            values[k] = VALUE_NULL;
        values[0] = (struct value){.one.i = w->value};
        if (w->remove) {
            batch->deletes[batch->delete_count++] = id;
            continue;
        }
        struct slice copy = op_copy(op, slice_of(vector, sizeof vector));
        const float *own = (const void *)copy.data;
        batch->docs[batch->doc_count++] =
            (struct doc){id, w->bare ? NULL : own, values};
    }
}

static inline enum err write_try(struct node *n, const char *name, struct write w,
                                 struct write_result *result)
{
    struct op op;
    struct batch batch = {0};
    struct write_request request = {.batch = &batch};
    init_op(&op);
    if (w.timeout_ms) op.deadline_ms = clock_ms() + w.timeout_ms;

    enum err e = registry_schema(&op, n->registry, name, &request.schema);
    if (!e) {
        write_batch(&op, &w, request.schema, &batch);
        if (w.key) request.idempotency_key = slice_str(w.key);
        request.digest[0] = (uint8_t)w.value;
        e = registry_write(&op, n->registry, name, &request, result);
    }
    schema_unref(request.schema);
    op_release(&op);
    return e;
}

static inline struct write_result write_ok(struct node *n, const char *name,
                                           struct write w)
{
    struct write_result result = {0};
    enum err e = write_try(n, name, w, &result);
    if (e) fail_msg("write: %s", err_name(e));
    return result;
}

/* Deletes the documents of "x" whose n compares so with value, and those of the ids. */
static inline enum err delete_where(struct op *op, struct node *n,
                                    enum filter_op compare, int64_t value,
                                    struct batch *ids, struct write_result *result)
{
    union scalar scalar = {.i = value};
    struct filter filter = {.op = compare,
                            .type = ATTR_INT,
                            .values = &scalar,
                            .value_count = 1};
    struct batch none = {0};
    struct write_request request = {.batch = ids ? ids : &none,
                                    .delete_filter = &filter};
    enum err e = registry_schema(op, n->registry, "x", &request.schema);
    if (!e) e = registry_write(op, n->registry, "x", &request, result);
    schema_unref(request.schema);
    return e;
}

/* ---- reading ---- */

static inline struct snapshot *read_strong(struct node *n, const char *name)
{
    struct op op;
    struct read_options options = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    init_op(&op);
    enum err e = registry_snapshot(&op, n->registry, name, &options, &s);
    if (e) fail_msg("snapshot: %s", op.error);
    op_release(&op);
    return s;
}

/* The value of n of a document, -1 if it is not there. */
static inline int64_t value_in(struct snapshot *s, uint64_t id)
{
    struct op op;
    struct doc_id wanted = {.kind = ID_U64, .u64 = id};
    struct location at;
    struct doc doc;
    int64_t value = -1;
    init_op(&op);
    assert_int_equal(snapshot_find(&op, s, &wanted, 1, &at), ERR_OK);
    if (at.source != UINT32_MAX) {
        struct segment_fetch what = {.attributes = true, .vector = true};
        enum err e = segment_fetch(&op, s->sources[at.source].segment, s->schema,
                                   &at.row, 1, what, &doc);
        if (e) fail_msg("fetch: %s", op.error);
        assert_true(doc.id.u64 == id);
        assert_non_null(doc.vector);
        value = doc.values[0].one.i;
        assert_true(doc.vector[0] == (float)value);
    }
    op_release(&op);
    return value;
}

static inline int64_t value_of(struct node *n, const char *name, uint64_t id)
{
    struct snapshot *s = read_strong(n, name);
    int64_t value = value_in(s, id);
    snapshot_unref(s);
    return value;
}

static inline uint64_t count_of(struct node *n, const char *name)
{
    struct snapshot *s = read_strong(n, name);
    uint64_t count = s->row_count;
    snapshot_unref(s);
    return count;
}

static inline enum err read_one(struct node *n, enum consistency consistency)
{
    struct op op;
    struct read_options options = {.consistency = consistency};
    struct snapshot *s = NULL;
    init_op(&op);
    enum err e = registry_snapshot(&op, n->registry, "x", &options, &s);
    snapshot_unref(s);
    op_release(&op);
    return e;
}

static inline struct namespace_info info_of(struct node *n, const char *name)
{
    struct op op;
    struct namespace_info info;
    init_op(&op);
    enum err e = registry_info(&op, n->registry, name, &info);
    if (e) fail_msg("info: %s", op.error);
    schema_unref(info.schema);
    info.schema = NULL;
    op_release(&op);
    return info;
}

/* ---- background work ---- */

/* All that can be done, now. */
static inline enum err maintain(struct node *n, const char *name)
{
    struct op op;
    init_op(&op);
    enum err e = registry_maintain(&op, n->registry, name, true);
    if (e) print_message("maintain: %s\n", op.error);
    op_release(&op);
    return e;
}

/* One round of what the maintenance thread does. */
static inline void tick(struct node *n, const char *name)
{
    struct op op;
    init_op(&op);
    enum err e = registry_maintain(&op, n->registry, name, false);
    if (e) fail_msg("maintain: %s", op.error);
    op_release(&op);
}

/* ---- what lies in the store ---- */

/* Of all keys with the prefix, those that have the part. */
static inline size_t objects_with(struct fixture *f, const char *prefix,
                                  const char *part)
{
    enum { PAGE = 1000 };
    size_t found = 0;
    const char *after = "";
    struct op op;
    init_op(&op);
    for (size_t n = PAGE; n == PAGE;) {
        const char *keys[PAGE];
        assert_int_equal(store_list(&op, f->store, prefix, after, 0, keys, &n), ERR_OK);
        for (size_t i = 0; i < n; i++)
            found += strstr(keys[i], part) != NULL;
        if (n) after = keys[n - 1];
    }
    op_release(&op);
    return found;
}

static inline size_t objects_under(struct fixture *f, const char *prefix)
{
    return objects_with(f, prefix, "");
}

static inline size_t segment_objects(struct fixture *f)
{
    return objects_with(f, "ns/", "/segment/");
}

#endif
