/* Namespaces on a store in memory: writing, reading, restarting, taking over, dropping.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/rowset.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/catalog.h"
#include "ns/registry.h"
#include "ns/tenure.h"
#include "store/store_fault.h"
#include "store/store_mem.h"
#include "unit/test.h"

/* One process on a store that others may share. */
struct node {
    struct store *store;
    struct cache *cache;
    struct registry *registry;
};

static struct registry_options options_of(const char *id)
{
    struct registry_options o = registry_options_default();
    o.node_id = id;
    o.background = false;
    o.gc_grace_ms = 0;
    return o;
}

static struct node node_with(struct store *store, uint64_t cache_bytes,
                             struct registry_options o)
{
    struct node n = {.store = store, .cache = cache_new(store, cache_bytes)};
    o.store = store;
    o.cache = n.cache;
    n.registry = registry_new(&o);
    return n;
}

static struct node node_start(struct store *store, const char *id, bool read_only)
{
    struct registry_options o = options_of(id);
    o.read_only = read_only;
    return node_with(store, 64 << 20, o);
}

static void node_stop(struct node *n)
{
    registry_free(n->registry, clock_ms() + 1000);
    cache_free(n->cache);
    *n = (struct node){0};
}

static struct schema *schema_with(uint32_t attrs)
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

static void init_op(struct op *op)
{
    op_init(op, clock_ms() + 60000, 0); /* sanitizers are slow */
}

static void create(struct node *n, const char *name)
{
    struct op op;
    struct schema *schema = schema_with(1);
    struct commit_token token;
    bool created;
    init_op(&op);
    enum err e = registry_create(&op, n->registry, name, schema, &created, &token);
    if (e) fail_msg("create: %s", op.error);
    schema_unref(schema);
    op_release(&op);
}

struct write {
    uint64_t first, count; /* ids first .. first + count - 1 … */
    int64_t value;         /* … get this value of n, or, with … */
    bool remove;           /* … remove, are deleted */
    bool bare;             /* without vectors, whose index takes time */
    const char *key;       /* idempotency key */
    int64_t timeout_ms;
};

static enum err write_try(struct node *n, const char *name, struct write w,
                          struct write_result *result)
{
    struct op op;
    struct schema *schema = NULL;
    struct batch batch = {0};
    struct write_request request = {.batch = &batch};
    init_op(&op);
    if (w.timeout_ms) op.deadline_ms = clock_ms() + w.timeout_ms;

    enum err e = registry_schema(&op, n->registry, name, &schema);
    if (e) goto done;
    batch.docs = op_new_array(&op, struct doc, w.count);
    batch.deletes = op_new_array(&op, struct doc_id, w.count);
    for (uint64_t i = 0; i < w.count; i++) {
        struct doc_id id = {.kind = ID_U64, .u64 = w.first + i};
        float vector[2] = {(float)w.value, (float)i};
        struct value *values = op_new_array(&op, struct value, schema->attr_count);
        for (uint32_t k = 0; k < schema->attr_count; k++)
            values[k] = VALUE_NULL;
        values[0] = (struct value){.one.i = w.value};
        if (w.remove) {
            batch.deletes[batch.delete_count++] = id;
            continue;
        }
        struct slice copy = op_copy(&op, slice_of(vector, sizeof vector));
        const float *own = (const void *)copy.data;
        batch.docs[batch.doc_count++] = (struct doc){id, w.bare ? NULL : own, values};
    }
    request.schema = schema;
    if (w.key) request.idempotency_key = slice_str(w.key);
    request.digest[0] = (uint8_t)w.value;
    e = registry_write(&op, n->registry, name, &request, result);
done:
    schema_unref(schema);
    op_release(&op);
    return e;
}

static struct write_result write_ok(struct node *n, const char *name, struct write w)
{
    struct write_result result = {0};
    enum err e = write_try(n, name, w, &result);
    if (e) fail_msg("write: %s", err_name(e));
    return result;
}

static struct snapshot *read_strong(struct node *n, const char *name)
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
static int64_t value_in(struct snapshot *s, uint64_t id)
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

static int64_t value_of(struct node *n, const char *name, uint64_t id)
{
    struct snapshot *s = read_strong(n, name);
    int64_t value = value_in(s, id);
    snapshot_unref(s);
    return value;
}

static uint64_t count_of(struct node *n, const char *name)
{
    struct snapshot *s = read_strong(n, name);
    uint64_t count = s->row_count;
    snapshot_unref(s);
    return count;
}

static enum err maintain(struct node *n, const char *name)
{
    struct op op;
    init_op(&op);
    enum err e = registry_maintain(&op, n->registry, name, true);
    if (e) print_message("maintain: %s\n", op.error);
    op_release(&op);
    return e;
}

static size_t objects_under(struct store *store, const char *prefix)
{
    struct op op;
    const char *keys[1000];
    size_t n = 1000;
    init_op(&op);
    assert_int_equal(store_list(&op, store, prefix, "", 0, keys, &n), ERR_OK);
    op_release(&op);
    return n;
}

static struct namespace_info info_of(struct node *n, const char *name)
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

/* One round of what the maintenance thread does. */
static void tick(struct node *n, const char *name)
{
    struct op op;
    init_op(&op);
    enum err e = registry_maintain(&op, n->registry, name, false);
    if (e) fail_msg("maintain: %s", op.error);
    op_release(&op);
}

static size_t segment_objects(struct store *store)
{
    enum { PAGE = 1000 };
    size_t found = 0;
    const char *after = "";
    struct op op;
    init_op(&op);
    for (size_t n = PAGE; n == PAGE;) {
        const char *keys[PAGE];
        assert_int_equal(store_list(&op, store, "ns/", after, 0, keys, &n), ERR_OK);
        for (size_t i = 0; i < n; i++)
            found += strstr(keys[i], "/segment/") != NULL;
        if (n) after = keys[n - 1];
    }
    op_release(&op);
    return found;
}

/* ---- tests ---- */

static void creating_twice_creates_once(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct schema *schema = schema_with(1), *wider = schema_with(2);
    struct schema *other = schema_new(3, METRIC_L2, NULL, 0);
    struct commit_token token;
    struct op op;
    bool created;
    init_op(&op);
    assert_int_equal(registry_create(&op, n.registry, "x", schema, &created, &token),
                     0);
    assert_true(created);
    assert_int_equal(registry_create(&op, n.registry, "x", schema, &created, &token),
                     0);
    assert_false(created);
    assert_int_equal(registry_create(&op, n.registry, "x", other, &created, &token),
                     ERR_CONFLICT);
    op_clear_error(&op);
    assert_int_equal(registry_create(&op, n.registry, "x", wider, &created, &token), 0);
    assert_false(created);
    struct snapshot *s = read_strong(&n, "x");
    assert_int_equal(s->schema->attr_count, 2);
    snapshot_unref(s);
    assert_int_equal(registry_count(n.registry), 1);
    schema_unref(schema);
    schema_unref(wider);
    schema_unref(other);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void writes_are_visible_and_replace_older_versions(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    struct write_result r =
        write_ok(&n, "x", (struct write){.first = 1, .count = 10, .value = 5});
    assert_int_equal(r.upserted, 10);
    (void)write_ok(&n, "x", (struct write){.first = 3, .count = 2, .value = 6});
    assert_int_equal(count_of(&n, "x"), 10);
    assert_int_equal(value_of(&n, "x", 3), 6);
    assert_int_equal(value_of(&n, "x", 5), 5);
    r = write_ok(&n, "x", (struct write){.first = 4, .count = 20, .remove = true});
    assert_int_equal(r.deleted, 7);
    assert_int_equal(count_of(&n, "x"), 3);
    assert_int_equal(value_of(&n, "x", 4), -1);
    node_stop(&n);
    store_free(store);
}

static void a_restarted_node_finds_everything(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    for (uint64_t i = 0; i < 50; i++)
        (void)write_ok(&n, "x",
                       (struct write){.first = i * 3, .count = 5, .value = (int64_t)i});
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 10, .remove = true});
    (void)write_ok(&n, "x", (struct write){.first = 5, .count = 1, .value = 777});
    uint64_t count = count_of(&n, "x");
    node_stop(&n);

    n = node_start(store, "a", false);
    assert_int_equal(count_of(&n, "x"), count);
    assert_int_equal(value_of(&n, "x", 5), 777);
    assert_int_equal(value_of(&n, "x", 4), -1);
    assert_int_equal(value_of(&n, "x", 151), 49);
    node_stop(&n);
    store_free(store);
}

static void a_fenced_writer_applies_nothing_and_reads_go_on(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node a = node_start(store, "a", false), b = node_start(store, "b", false);
    struct write_result r;
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 1, .count = 1, .value = 1});
    (void)write_ok(&b, "x", (struct write){.first = 2, .count = 1, .value = 2});
    assert_int_equal(write_try(&a, "x",
                               (struct write){.first = 3, .count = 1, .value = 3}, &r),
                     ERR_FENCED);
    assert_int_equal(count_of(&b, "x"), 2);
    assert_int_equal(count_of(&a, "x"), 2); /* as a follower */
    (void)write_ok(&b, "x", (struct write){.first = 4, .count = 1, .value = 4});
    assert_int_equal(value_of(&a, "x", 4), 4);
    node_stop(&a);
    node_stop(&b);
    store_free(store);
}

static void an_owner_that_was_replaced_notices_at_its_next_strong_read(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node a = node_start(store, "a", false), b = node_start(store, "b", false);
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 1, .count = 1, .value = 1});
    (void)write_ok(&b, "x", (struct write){.first = 1, .count = 1, .value = 2});
    assert_int_equal(value_of(&a, "x", 1), 2);
    node_stop(&a);
    node_stop(&b);
    store_free(store);
}

static void a_reader_sees_every_acknowledged_write(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node a = node_start(store, "a", false), q = node_start(store, "q", true);
    create(&a, "x");
    assert_int_equal(count_of(&q, "x"), 0);
    for (uint64_t i = 0; i < 60; i++) {
        (void)write_ok(&a, "x",
                       (struct write){.first = i, .count = 3, .value = (int64_t)i});
        assert_int_equal(value_of(&q, "x", i + 2), (int64_t)i);
        if (i % 13 == 0) assert_int_equal(maintain(&a, "x"), ERR_OK);
        assert_int_equal(count_of(&q, "x"), i + 3);
    }
    struct write_result r;
    assert_int_equal(write_try(&q, "x",
                               (struct write){.first = 3, .count = 1, .value = 3}, &r),
                     ERR_DENIED);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void an_idempotency_key_applies_once_for_ever(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct write w = {.first = 1, .count = 4, .value = 9, .key = "k1"};
    struct write_result r;
    create(&n, "x");
    assert_false(write_ok(&n, "x", w).repeated);
    (void)write_ok(&n, "x", (struct write){.first = 1, .count = 2, .remove = true});
    r = write_ok(&n, "x", w);
    assert_true(r.repeated);
    assert_int_equal(r.upserted, 4);
    assert_int_equal(count_of(&n, "x"), 2);
    w.value = 10;
    assert_int_equal(write_try(&n, "x", w, &r), ERR_REUSED);
    w.value = 9;
    node_stop(&n);

    struct write second = {.first = 9, .count = 1, .value = 3, .key = "k2"};
    n = node_start(store, "a", false); /* from the log */
    assert_true(write_ok(&n, "x", w).repeated);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_false(write_ok(&n, "x", second).repeated);
    node_stop(&n);

    n = node_start(store, "a", false); /* one key from each */
    assert_true(write_ok(&n, "x", second).repeated);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    node_stop(&n);

    n = node_start(store, "a", false); /* from the manifest's table */
    assert_true(write_ok(&n, "x", w).repeated);
    assert_true(write_ok(&n, "x", second).repeated);
    assert_int_equal(count_of(&n, "x"), 3);
    node_stop(&n);
    store_free(store);
}

static void a_lost_answer_is_settled_without_the_client_noticing(void **state)
{
    (void)state;
    struct fault_plan calm = {0};
    struct store *mem = store_mem_new();
    struct store *store = store_fault_new(mem, &calm);
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 1, .count = 1, .value = 1});
    struct fault_plan lost = {.at_call = store_fault_calls(store) + 1,
                              .at_fault = FAULT_LOST_ANSWER};
    store_fault_plan(store, &lost);
    struct write_result r =
        write_ok(&n, "x", (struct write){.first = 2, .count = 1, .value = 2});
    assert_int_equal(r.upserted, 1);
    assert_int_equal(count_of(&n, "x"), 2);
    assert_int_equal(store_fault_hits(store, FAULT_LOST_ANSWER, CALL_CREATE), 1);
    node_stop(&n);
    store_free(store);
}

static void a_write_whose_outcome_is_unknown_is_settled_by_the_next(void **state)
{
    (void)state;
    struct fault_plan calm = {0};
    struct store *mem = store_mem_new();
    struct store *store = store_fault_new(mem, &calm);
    struct node n = node_start(store, "a", false);
    struct write w = {.first = 1, .count = 1, .value = 1, .key = "k", .timeout_ms = 60};
    struct write_result r;
    create(&n, "x");
    struct fault_plan deaf = {.seed = 1};
    deaf.probability[FAULT_LOST_ANSWER] = 1;
    store_fault_plan(store, &deaf);
    assert_int_equal(write_try(&n, "x", w, &r), ERR_UNKNOWN);
    store_fault_plan(store, &calm);
    w.timeout_ms = 0;
    r = write_ok(&n, "x", w);
    assert_true(r.repeated);
    assert_int_equal(count_of(&n, "x"), 1);
    node_stop(&n);
    store_free(store);
}

static void a_write_that_surely_failed_leaves_nothing(void **state)
{
    (void)state;
    struct fault_plan calm = {0};
    struct store *mem = store_mem_new();
    struct store *store = store_fault_new(mem, &calm);
    struct node n = node_start(store, "a", false);
    struct write_result r;
    create(&n, "x");
    struct fault_plan full = {.at_call = store_fault_calls(store) + 1,
                              .at_fault = FAULT_FULL};
    store_fault_plan(store, &full);
    assert_int_equal(write_try(&n, "x",
                               (struct write){.first = 1, .count = 1, .value = 1}, &r),
                     ERR_FULL);
    store_fault_plan(store, &calm);
    assert_int_equal(count_of(&n, "x"), 0);
    (void)write_ok(&n, "x", (struct write){.first = 1, .count = 1, .value = 2});
    assert_int_equal(value_of(&n, "x", 1), 2);
    node_stop(&n);
    store_free(store);
}

static void a_dropped_namespace_is_gone_and_its_name_free(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node a = node_start(store, "a", false), q = node_start(store, "q", true);
    struct op op;
    struct snapshot *s;
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 1, .count = 5, .value = 1});
    assert_int_equal(maintain(&a, "x"), ERR_OK);
    assert_int_equal(count_of(&q, "x"), 5);
    init_op(&op);
    assert_int_equal(registry_drop(&op, a.registry, "x"), ERR_OK);
    assert_int_equal(registry_snapshot(&op, a.registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(registry_drop(&op, a.registry, "x"), ERR_NOT_FOUND);
    assert_int_equal(objects_under(store, "ns/x/"), 2); /* the catalog */
    create(&a, "x");
    assert_int_equal(count_of(&a, "x"), 0);
    assert_int_equal(count_of(&q, "x"), 0);
    op_release(&op);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void indexing_trims_the_log_and_keeps_segments_few(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    for (uint64_t i = 0; i < 200; i++) {
        (void)write_ok(
            &n, "x", (struct write){.first = i * 10, .count = 10, .value = (int64_t)i});
        if (i % 10 == 9) assert_int_equal(maintain(&n, "x"), ERR_OK);
    }
    assert_int_equal(count_of(&n, "x"), 2000);
    struct snapshot *s = read_strong(&n, "x");
    assert_in_range(s->source_count, 1, 12);
    snapshot_unref(s);
    assert_in_range(objects_under(store, "wal/x/"), 1, 3);
    /* Removed objects go one round after the manifest that removed them. */
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_in_range(objects_under(store, "ns/x/"), 2, 12 + 32 + 16);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(value_of(&n, "x", i * 10 + i % 10), (int64_t)i);
    node_stop(&n);
    store_free(store);
}

static void a_thousand_small_writes_are_reason_enough_to_index(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct op op;
    create(&n, "x");
    for (uint64_t i = 0; i < 1100; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i, .count = 1, .value = 1});
        if (i % 100 != 99) continue;
        init_op(&op);
        assert_int_equal(registry_maintain(&op, n.registry, "x", false), ERR_OK);
        op_release(&op);
    }
    assert_in_range(objects_under(store, "wal/x/"), 1, 202);
    assert_int_equal(count_of(&n, "x"), 1100);
    node_stop(&n);
    store_free(store);
}

static void ids_of_another_kind_are_refused(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct op op;
    struct schema *schema = NULL;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 1, .count = 1, .value = 1});
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    struct value values[1] = {VALUE_NULL};
    struct doc doc = {.id = {.kind = ID_STRING, .string = SLICE_LITERAL("a")},
                      .values = values};
    struct batch batch = {.docs = &doc, .doc_count = 1};
    struct write_request request = {.batch = &batch, .schema = schema};
    struct write_result r;
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_INVALID);
    assert_non_null(strstr(op.error, "integer ids"));
    assert_int_equal(count_of(&n, "x"), 1);
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void deleting_by_filter_and_ids_deletes_what_matches_now_and_those(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct op op;
    struct schema *schema = NULL;
    create(&n, "x");
    for (int64_t v = 0; v < 10; v++)
        (void)write_ok(&n, "x",
                       (struct write){.first = (uint64_t)v * 10,
                                      .count = 10,
                                      .value = v});
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    (void)write_ok(&n, "x", (struct write){.first = 50, .count = 5, .value = 100});
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    union scalar five = {.i = 5};
    struct filter filter = {.op = FILTER_GTE,
                            .attr = 0,
                            .type = ATTR_INT,
                            .values = &five,
                            .value_count = 1};
    /* One that matches too, one that does not, one that is not there. */
    struct doc_id ids[] = {{.kind = ID_U64, .u64 = 99},
                           {.kind = ID_U64, .u64 = 1},
                           {.kind = ID_U64, .u64 = 12345}};
    struct batch given = {.deletes = ids, .delete_count = COUNT_OF(ids)};
    struct write_request request = {.batch = &given,
                                    .schema = schema,
                                    .delete_filter = &filter};
    struct write_result r;
    enum err e = registry_write(&op, n.registry, "x", &request, &r);
    if (e) fail_msg("%s", op.error);
    assert_int_equal(r.deleted, 51);
    assert_int_equal(count_of(&n, "x"), 49);
    assert_int_equal(value_of(&n, "x", 1), -1);
    assert_int_equal(value_of(&n, "x", 50), -1);
    assert_int_equal(value_of(&n, "x", 49), 4);
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void
a_write_parsed_for_a_dropped_namespace_is_not_made_to_its_successor(void **state)
{
    static const struct attr attr = {.name = "n", .type = ATTR_STRING};
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct schema *old = NULL, *different = schema_new(3, METRIC_L2, &attr, 1);
    struct commit_token token;
    struct op op;
    bool created;
    create(&n, "x");
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &old), ERR_OK);
    assert_int_equal(registry_drop(&op, n.registry, "x"), ERR_OK);
    assert_int_equal(registry_create(&op, n.registry, "x", different, &created, &token),
                     ERR_OK);

    float vector[2] = {1, 2};
    struct value value = {.one.i = 7};
    struct doc doc = {{.kind = ID_U64, .u64 = 1}, vector, &value};
    struct batch batch = {.docs = &doc, .doc_count = 1};
    struct write_request request = {.batch = &batch, .schema = old};
    struct write_result r;
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_CONFLICT);

    union scalar seven = {.i = 7};
    struct filter filter = {.op = FILTER_EQ,
                            .type = ATTR_INT,
                            .values = &seven,
                            .value_count = 1};
    batch.doc_count = 0;
    request.delete_filter = &filter;
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_CONFLICT);
    node_stop(&n);
    n = node_start(store, "a", false);
    assert_int_equal(count_of(&n, "x"), 0);
    schema_unref(old);
    schema_unref(different);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void a_delete_by_filter_deletes_the_ids_beside_it_too(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct op op;
    struct schema *schema = NULL;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 10, .value = 1});
    (void)write_ok(&n, "x", (struct write){.first = 10, .count = 10, .value = 2});
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    union scalar two = {.i = 2};
    struct filter filter = {.op = FILTER_EQ,
                            .type = ATTR_INT,
                            .values = &two,
                            .value_count = 1};
    struct doc_id ids[] = {{.kind = ID_U64, .u64 = 3},   /* only named, …  */
                           {.kind = ID_U64, .u64 = 15},  /* … matched too, … */
                           {.kind = ID_U64, .u64 = 99}}; /* … not there */
    struct batch batch = {.deletes = ids, .delete_count = 3};
    struct write_request request = {.batch = &batch,
                                    .schema = schema,
                                    .delete_filter = &filter};
    struct write_result r;
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_OK);
    assert_int_equal(r.deleted, 11);
    assert_int_equal(value_of(&n, "x", 3), -1);

    struct doc_id word = {.kind = ID_STRING, .string = SLICE_LITERAL("w")};
    batch = (struct batch){.deletes = &word, .delete_count = 1};
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_INVALID);
    node_stop(&n);
    n = node_start(store, "a", false);
    assert_int_equal(count_of(&n, "x"), 9);
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void what_the_log_could_not_give_back_is_refused(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.request_bytes_max = 4096;
    struct node n = node_with(store, 64 << 20, o);
    struct op op;
    struct schema *schema = NULL;
    struct write_result r;
    create(&n, "x");
    assert_int_equal(write_try(&n, "x",
                               (struct write){.first = 0, .count = 500, .value = 1},
                               &r),
                     ERR_LIMIT);
    for (uint64_t i = 0; i < 5; i++)
        (void)write_ok(&n, "x",
                       (struct write){.first = i * 100, .count = 100, .value = 1});
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    union scalar one = {.i = 1};
    struct filter filter = {.op = FILTER_EQ,
                            .type = ATTR_INT,
                            .values = &one,
                            .value_count = 1};
    struct batch none = {0};
    struct write_request request = {.batch = &none,
                                    .schema = schema,
                                    .delete_filter = &filter};
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_LIMIT);
    assert_int_equal(count_of(&n, "x"), 500);
    for (uint64_t i = 1; i < 5; i++)
        (void)write_ok(&n, "x",
                       (struct write){.first = i * 100, .count = 100, .value = 2});
    (void)write_ok(&n, "x", (struct write){.first = 5, .count = 95, .value = 2});
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_OK);
    assert_int_equal(r.deleted, 5);
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void however_many_objects_were_removed_all_are_deleted(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.gc_grace_ms = 3600000;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    for (uint64_t i = 0; i % 100 || segment_objects(store) < 2200; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i % 7, .count = 1, .value = 1});
        assert_int_equal(maintain(&n, "x"), ERR_OK);
    }
    node_stop(&n);
    n = node_start(store, "a", false);
    for (int i = 0; i < 2; i++) {
        (void)write_ok(&n, "x", (struct write){.first = 0, .count = 1, .value = 2});
        assert_int_equal(maintain(&n, "x"), ERR_OK);
    }
    assert_in_range(segment_objects(store), 1, 10);
    node_stop(&n);
    store_free(store);
}

static void a_token_of_a_later_incarnation_is_reached_by_looking_again(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node a = node_start(store, "a", false), q = node_start(store, "q", true);
    struct read_options eventual = {.consistency = CONSISTENCY_EVENTUAL};
    struct snapshot *s = NULL;
    struct op op;
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 0, .count = 5, .value = 1});
    assert_int_equal(count_of(&q, "x"), 5);
    init_op(&op);
    assert_int_equal(registry_drop(&op, a.registry, "x"), ERR_OK);
    create(&a, "x");
    struct write_result r =
        write_ok(&a, "x", (struct write){.first = 7, .count = 1, .value = 3});
    eventual.min_commit = &r.token;
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &eventual, &s), ERR_OK);
    assert_int_equal(value_in(s, 7), 3);
    assert_int_equal(s->row_count, 1);
    snapshot_unref(s);
    op_release(&op);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

/* Segments of 8 rows of which no two fit together. */
static struct node node_with_large_segments(struct store *store, uint32_t count,
                                            uint32_t segments_max)
{
    struct registry_options o = options_of("a");
    o.segment_docs_max = 12;
    o.segments_max = segments_max;
    o.interval_ms = 0;
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    for (uint64_t i = 0; i < count; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i * 8, .count = 8, .value = 1});
        tick(&n, "x");
    }
    return n;
}

static void segments_that_do_not_fit_together_are_left_alone(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_with_large_segments(store, 3, 100);
    uint64_t version = info_of(&n, "x").manifest_version;
    assert_int_equal(info_of(&n, "x").segments, 3);
    for (int i = 0; i < 3; i++)
        tick(&n, "x");
    assert_int_equal(info_of(&n, "x").manifest_version, version);
    node_stop(&n);
    store_free(store);
}

static void too_many_segments_become_fewer_even_if_they_do_not_fit(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_with_large_segments(store, 5, 3);
    for (int i = 0; i < 3; i++)
        tick(&n, "x");
    uint64_t version = info_of(&n, "x").manifest_version;
    assert_in_range(info_of(&n, "x").segments, 1, 3);
    assert_int_equal(count_of(&n, "x"), 40);
    tick(&n, "x");
    assert_int_equal(info_of(&n, "x").manifest_version, version);
    node_stop(&n);
    store_free(store);
}

static void a_reader_whose_segments_were_collected_reads_on(void **state)
{
    (void)state;
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.compaction = false;
    struct node a = node_with(store, 64 << 20, o), q = node_start(store, "q", true);
    struct segment_fetch what = {.attributes = true};
    struct op op;
    uint32_t row = 0;
    struct doc doc;
    create(&a, "x");
    for (uint64_t i = 0; i < 2; i++) {
        (void)write_ok(&a, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(&a, "x");
    }
    struct snapshot *old = read_strong(&q, "x");
    assert_int_equal(old->source_count, 2);
    /* One segment instead of two; the log is as it was. */
    assert_int_equal(maintain(&a, "x"), ERR_OK);
    init_op(&op);
    assert_int_equal(segment_fetch(&op, old->sources[0].segment, old->schema, &row, 1,
                                   what, &doc),
                     ERR_NOT_FOUND);
    struct read_options options = {.consistency = CONSISTENCY_EVENTUAL, .gone = old};
    struct snapshot *s = NULL;
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &options, &s), ERR_OK);
    assert_int_equal(s->source_count, 1);
    assert_int_equal(value_in(s, 3), 1);
    snapshot_unref(s);
    snapshot_unref(old);
    op_release(&op);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void a_lost_segment_is_damage_not_an_absent_namespace(void **state)
{
    (void)state;
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct op op;
    struct schema *schema = NULL;
    const char *keys[1000];
    size_t count = 1000;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    node_stop(&n);
    n = node_start(store, "a", false);
    assert_int_equal(count_of(&n, "x"), ROWS);
    init_op(&op);
    assert_int_equal(store_list(&op, store, "ns/", "", 0, keys, &count), ERR_OK);
    for (size_t i = 0; i < count; i++)
        if (strstr(keys[i], "/segment/"))
            assert_int_equal(store_delete(&op, store, &keys[i], 1), ERR_OK);

    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    union scalar one = {.i = 1};
    struct filter filter = {.op = FILTER_EQ,
                            .type = ATTR_INT,
                            .values = &one,
                            .value_count = 1};
    struct batch none = {0};
    struct write_request request = {.batch = &none,
                                    .schema = schema,
                                    .delete_filter = &filter};
    struct write_result r;
    assert_int_equal(registry_write(&op, n.registry, "x", &request, &r), ERR_CORRUPT);
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = ROWS / 2, .value = 2});
    op_clear_error(&op);
    assert_int_equal(registry_maintain(&op, n.registry, "x", true), ERR_CORRUPT);
    assert_int_equal(count_of(&n, "x"), ROWS); /* what is not lost goes on */
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void a_read_never_has_an_unknown_outcome(void **state)
{
    (void)state;
    struct fault_plan calm = {0};
    struct store *store = store_fault_new(store_mem_new(), &calm);
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    node_stop(&n);
    for (uint64_t call = 1; call <= 16; call++) {
        struct read_options strong = {.consistency = CONSISTENCY_STRONG};
        struct snapshot *s = NULL;
        struct op op;
        n = node_start(store, "a", false);
        struct fault_plan unknown = {.at_call = store_fault_calls(store) + call,
                                     .at_fault = FAULT_UNKNOWN};
        store_fault_plan(store, &unknown);
        op_init(&op, clock_ms() + 20, 0); /* no time to settle it */
        enum err e = registry_snapshot(&op, n.registry, "x", &strong, &s);
        if (e && e != ERR_IO && e != ERR_TIMEOUT)
            fail_msg("call %llu: %s %s", (unsigned long long)call, err_name(e),
                     op.error);
        snapshot_unref(s);
        store_fault_plan(store, &calm);
        op_release(&op);
        node_stop(&n);
    }
    store_free(store);
}

/* ---- a store that does not answer creates while it is deaf ---- */

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
    atomic_bool log_held;           /* entries of the log wait while this is true */
};

static struct deaf_store *deaf(struct store *s)
{
    return (struct deaf_store *)s;
}

static enum err deaf_read(struct op *op, struct store *s, struct store_range *ranges,
                          size_t n)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    return store_read(op, deaf(s)->inner, ranges, n);
}

static enum err deaf_get(struct op *op, struct store *s, const char *key,
                         size_t size_max, struct buf *out)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    while (atomic_load(&deaf(s)->hold_get)) {
        atomic_store(&deaf(s)->get_held, true);
        task_sleep_ms(1);
    }
    return store_get(op, deaf(s)->inner, key, size_max, out);
}

static enum err deaf_create(struct op *op, struct store *s, const char *key,
                            struct slice data)
{
    if (atomic_load(&deaf(s)->deaf)) return op_fail(op, ERR_UNKNOWN, "no answer");
    if (atomic_load(&deaf(s)->denied)) {
        atomic_fetch_add(&deaf(s)->refusals, 1);
        return op_fail(op, ERR_DENIED, "access denied");
    }
    if (atomic_load(&deaf(s)->catalog_denied) && strstr(key, "/catalog/"))
        return op_fail(op, ERR_DENIED, "access denied");
    while (atomic_load(&deaf(s)->log_held) && strstr(key, "wal/"))
        task_sleep_ms(1);
    return store_create(op, deaf(s)->inner, key, data);
}

static enum err deaf_put(struct op *op, struct store *s, const char *key,
                         const struct slice *parts, size_t n)
{
    if (atomic_load(&deaf(s)->hold) && atomic_fetch_sub(&deaf(s)->hold, 1) == 1) {
        atomic_store(&deaf(s)->holding, true);
        while (atomic_load(&deaf(s)->holding))
            task_sleep_ms(1);
    }
    return store_put(op, deaf(s)->inner, key, parts, n);
}

static enum err deaf_list(struct op *op, struct store *s, const char *prefix,
                          const char *after, char delimiter, const char **keys,
                          size_t *n)
{
    atomic_fetch_add(&deaf(s)->calls, 1);
    return store_list(op, deaf(s)->inner, prefix, after, delimiter, keys, n);
}

static enum err deaf_delete(struct op *op, struct store *s, const char *const *keys,
                            size_t n)
{
    return store_delete(op, deaf(s)->inner, keys, n);
}

static void deaf_free(struct store *s)
{
    store_free(deaf(s)->inner);
    mem_free(deaf(s));
}

static struct store *deaf_new(struct store *inner)
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
    return &d->store;
}

static enum err read_one(struct node *n, enum consistency consistency)
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

static void a_strong_read_of_an_owner_is_one_call_an_eventual_none(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    atomic_store(&deaf(store)->calls, 0);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(read_one(&n, CONSISTENCY_STRONG), ERR_OK);
        assert_int_equal(atomic_load(&deaf(store)->calls), i);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(read_one(&n, CONSISTENCY_EVENTUAL), ERR_OK);
    assert_int_equal(atomic_load(&deaf(store)->calls), 5);
    node_stop(&n);
    store_free(store);
}

struct reader {
    struct node *node;
    atomic_int *begun;
    enum err err;
};

static void read_in_thread(void *arg)
{
    struct reader *r = arg;
    atomic_fetch_add(r->begun, 1);
    r->err = read_one(r->node, CONSISTENCY_STRONG);
}

/* One is on its way when the others arrive: it began too early for them. */
static void all_strong_reads_that_wait_share_one_call(void **state)
{
    enum { READERS = 12, ARRIVAL_MS = 500 };
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_start(store, "a", false);
    struct reader readers[READERS];
    struct thread *threads[READERS];
    atomic_int begun = 0;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 9, .value = 1});

    atomic_store(&deaf(store)->calls, 0);
    atomic_store(&deaf(store)->hold_get, true);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.node = &n, .begun = &begun};
        threads[i] = thread_start("reader", read_in_thread, &readers[i]);
        while (i == 0 && !atomic_load(&deaf(store)->get_held))
            task_sleep_ms(1);
    }
    while (atomic_load(&begun) < READERS)
        task_sleep_ms(1);
    task_sleep_ms(ARRIVAL_MS);
    assert_int_equal(atomic_load(&deaf(store)->calls), 1);
    atomic_store(&deaf(store)->hold_get, false);
    for (int i = 0; i < READERS; i++) {
        thread_join(threads[i]);
        assert_int_equal(readers[i].err, ERR_OK);
    }
    assert_int_equal(atomic_load(&deaf(store)->calls), 2);
    node_stop(&n);
    store_free(store);
}

static void the_reader_that_opens_a_namespace_needs_no_other_look(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_start(store, "a", false);
    int calls[2];
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    for (int strong = 0; strong < 2; strong++) {
        node_stop(&n);
        n = node_start(store, "a", false);
        atomic_store(&deaf(store)->calls, 0);
        assert_int_equal(read_one(&n,
                                  strong ? CONSISTENCY_STRONG : CONSISTENCY_EVENTUAL),
                         ERR_OK);
        calls[strong] = atomic_load(&deaf(store)->calls);
    }
    assert_int_equal(count_of(&n, "x"), 9);
    /* A fence more to be read the second time. */
    assert_int_equal(calls[1], calls[0] + 1);
    node_stop(&n);
    store_free(store);
}

/* Waits for the store, one behind the other, until the first strong answer. */
static uint64_t rounds_of_first_read(struct store *store)
{
    struct node q = node_start(store, "q", true);
    struct op op;
    struct read_options options = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    init_op(&op);
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &options, &s), ERR_OK);
    uint64_t rounds = op.counters.rounds;
    snapshot_unref(s);
    op_release(&op);
    node_stop(&q);
    return rounds;
}

static void a_reader_asks_for_what_it_can_at_once(void **state)
{
    enum { CATALOG = 2, MANIFEST = 2, SEGMENTS_AND_LOG = 1, FENCE = 1 };
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    for (uint64_t i = 0; i < 4; i++) {
        (void)write_ok(&n, "x", (struct write){.first = 50 * i, .count = 50});
        assert_int_equal(maintain(&n, "x"), ERR_OK);
    }
    (void)write_ok(&n, "x", (struct write){.first = 7, .count = 1, .remove = true});
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    uint64_t indexed = rounds_of_first_read(store);
    assert_in_range(indexed, 1, CATALOG + MANIFEST + SEGMENTS_AND_LOG + FENCE);

    /* 1, 2, 4, 8 and 5 entries at a time. */
    for (uint64_t i = 0; i < 20; i++)
        (void)write_ok(&n, "x", (struct write){.first = i, .count = 1, .value = 2});
    assert_in_range(rounds_of_first_read(store), indexed, indexed + 5);
    node_stop(&n);
    store_free(store);
}

static void a_node_stops_in_time_though_the_store_is_silent(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.background = true;
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    create(&n, "y");
    (void)write_ok(&n, "y", (struct write){.first = 0, .count = 1, .value = 1});
    atomic_store(&deaf(store)->deaf, true);
    struct write w = {.first = 0, .count = 1, .value = 1, .timeout_ms = 50};
    struct write_result r;
    assert_int_equal(write_try(&n, "x", w, &r), ERR_UNKNOWN);
    task_sleep_ms(600); /* the maintenance thread meets both */
    int64_t began_ms = clock_ms();
    node_stop(&n); /* within a second */
    assert_in_range(clock_ms() - began_ms, 0, 4000);
    store_free(store);
}

/* A write of a document of some MiB by a thread of its own. */
struct large_write {
    struct node *n;
    uint64_t id;
    atomic_int result; /* -1: not yet */
    int64_t retry_after_ms;
    char words[OP_ERROR_MAX];
};

static void write_large(void *arg)
{
    enum { TEXT = 5 << 20 };
    struct large_write *w = arg;
    struct op op;
    struct schema *schema = NULL;
    struct write_result result;
    init_op(&op);
    enum err e = registry_schema(&op, w->n->registry, "x", &schema);
    if (!e) {
        char *text = op_alloc(&op, TEXT);
        memset(text, 'a' + (int)w->id, TEXT);
        struct value values[] = {VALUE_NULL, {.one.s = slice_of(text, TEXT)}};
        struct doc doc = {.id = {.kind = ID_U64, .u64 = w->id}, .values = values};
        struct batch batch = {.docs = &doc, .doc_count = 1};
        const struct write_request request = {.batch = &batch, .schema = schema};
        e = registry_write(&op, w->n->registry, "x", &request, &result);
    }
    w->retry_after_ms = op.retry_after_ms;
    (void)snprintf(w->words, sizeof w->words, "%s", op.error);
    schema_unref(schema);
    op_release(&op);
    atomic_store(&w->result, (int)e);
}

static void create_with_string(struct node *n)
{
    const struct attr attrs[] = {{.name = "n", .type = ATTR_INT},
                                 {.name = "s", .type = ATTR_STRING}};
    struct schema *schema = schema_new(0, METRIC_L2, attrs, COUNT_OF(attrs));
    struct commit_token token;
    struct op op;
    bool created;
    init_op(&op);
    assert_int_equal(registry_create(&op, n->registry, "x", schema, &created, &token),
                     ERR_OK);
    schema_unref(schema);
    op_release(&op);
}

static void too_many_writes_that_wait_are_refused_and_the_others_done(void **state)
{
    enum { WRITES = 10 }; /* 50 MiB of documents; 32 MiB may wait */
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_with(store, 1 << 30, options_of("a"));
    struct large_write writes[WRITES];
    struct thread *threads[WRITES];
    uint64_t refused = 0;
    create_with_string(&n);
    (void)write_ok(&n, "x", (struct write){.first = 1000, .count = 1, .bare = true});

    atomic_store(&deaf(store)->log_held, true);
    for (uint64_t i = 0; i < WRITES; i++) {
        writes[i] = (struct large_write){.n = &n, .id = i + 1};
        atomic_init(&writes[i].result, -1);
        threads[i] = thread_start("large", write_large, &writes[i]);
    }
    while (refused == 0) {
        task_sleep_ms(1);
        for (uint64_t i = 0; i < WRITES; i++)
            refused += atomic_load(&writes[i].result) >= 0; /* the others wait */
    }
    atomic_store(&deaf(store)->log_held, false);
    refused = 0;
    for (uint64_t i = 0; i < WRITES; i++) {
        thread_join(threads[i]);
        int e = atomic_load(&writes[i].result);
        if (e == ERR_OK) continue;
        if (e != ERR_BUSY) print_message("%s\n", writes[i].words);
        assert_int_equal(e, ERR_BUSY);
        assert_non_null(strstr(writes[i].words, "too many writes to namespace \"x\""));
        assert_true(writes[i].retry_after_ms > 0);
        refused++;
    }
    assert_in_range(refused, 1, WRITES - 1);
    assert_int_equal(count_of(&n, "x"), 1 + WRITES - refused);
    node_stop(&n);
    store_free(store);
}

static void an_open_goes_on_when_the_requests_that_wait_give_up(void **state)
{
    enum { TRIES = 5 };
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_start(store, "a", false);
    struct write w = {.first = 0, .count = 1, .value = 1};
    create(&n, "x");
    (void)write_ok(&n, "x", w);
    node_stop(&n);

    n = node_start(store, "a", false);
    atomic_store(&deaf(store)->deaf, true);
    for (int i = 0; i < TRIES; i++) {
        struct commit_token token;
        struct schema *schema = schema_with(2);
        struct op op;
        bool created;
        op_init(&op, clock_ms() + 30, 0);
        /* Widening is a write too, and needs no read before it. */
        enum err e = registry_create(&op, n.registry, "x", schema, &created, &token);
        assert_true(e == ERR_IO || e == ERR_TIMEOUT);
        op_release(&op);
        op_init(&op, clock_ms() + 30, 0);
        e = registry_maintain(&op, n.registry, "x", true);
        assert_int_equal(e, ERR_IO);
        assert_non_null(strstr(op.error, "is being opened"));
        assert_true(op.retry_after_ms > 0);
        op_release(&op);
        schema_unref(schema);
    }
    atomic_store(&deaf(store)->deaf, false);
    w.value = 2;
    (void)write_ok(&n, "x", w);
    assert_int_equal(info_of(&n, "x").epoch, 2); /* one OPEN, whoever waited for it */
    assert_int_equal(value_of(&n, "x", 0), 2);
    node_stop(&n);
    store_free(store);
}

static void an_owner_whose_store_refuses_writes_still_reads(void **state)
{
    enum { READS = 200 };
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node n = node_start(store, "a", false);
    struct write w = {.first = 0, .count = 7, .value = 1};
    struct write_result r;
    create(&n, "x");
    (void)write_ok(&n, "x", w);
    node_stop(&n);

    n = node_start(store, "a", false);
    atomic_store(&deaf(store)->denied, true);
    for (int i = 0; i < READS; i++)
        assert_int_equal(count_of(&n, "x"), 7);
    /* OPEN is tried again less and less often, not with every read. */
    assert_in_range(atomic_load(&deaf(store)->refusals), 1, 40);
    assert_int_equal(write_try(&n, "x", w, &r), ERR_DENIED);
    atomic_store(&deaf(store)->denied, false);
    for (int i = 0; i < 5000 && write_try(&n, "x", w, &r) == ERR_DENIED; i++)
        task_sleep_ms(10);
    assert_int_equal(write_try(&n, "x", w, &r), ERR_OK);
    node_stop(&n);
    store_free(store);
}

static void an_index_job_that_fails_waits_and_leaves_nothing_behind(void **state)
{
    enum { TICKS = 200 };
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    struct op op;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    atomic_store(&deaf(store)->denied, true); /* the segment is put, no manifest */
    for (int i = 0; i < TICKS; i++) {
        init_op(&op);
        (void)registry_maintain(&op, n.registry, "x", false);
        op_release(&op);
    }
    assert_in_range(atomic_load(&deaf(store)->refusals), 1, TICKS / 4);
    assert_int_equal(segment_objects(store), 0);
    assert_int_equal(maintain(&n, "x"), ERR_DENIED); /* who asks is told at once */
    atomic_store(&deaf(store)->denied, false);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_int_equal(segment_objects(store), 1);
    assert_int_equal(count_of(&n, "x"), 9);
    node_stop(&n);
    store_free(store);
}

static void a_reader_that_meets_a_drop_tells_the_catalog(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct node a = node_start(store, "a", false), q;
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    struct op op;
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 0, .count = 1, .value = 1});
    atomic_store(&deaf(store)->catalog_denied, true);
    init_op(&op);
    assert_int_equal(registry_drop(&op, a.registry, "x"), ERR_OK);
    atomic_store(&deaf(store)->catalog_denied, false);
    node_stop(&a);
    assert_int_equal(objects_under(store, "ns/x/catalog/"), 1);
    q = node_start(store, "q", true);
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(objects_under(store, "ns/x/catalog/"), 2);
    op_release(&op);
    node_stop(&q);
    store_free(store);
}

/* What an OPEN waits for the store, one wait after the other. */
static uint64_t rounds_to_open(struct store *store)
{
    struct registry_options o = options_of("a");
    struct cache *cache = cache_new(store, 64 << 20);
    struct schema *schema = schema_with(1);
    struct catalog_record record;
    struct tenure t = {0};
    struct keys keys;
    struct op op;
    o.store = store;
    o.cache = cache;
    init_op(&op);
    assert_int_equal(catalog_newest(&op, store, "x", &record), ERR_OK);
    keys_init(&keys, "", "x", record.incarnation);
    op.counters.rounds = 0;
    enum err e = tenure_open(&op, &o, &keys, schema, record.n + 1, NULL, &t);
    if (e) fail_msg("open: %s", op.error);
    uint64_t rounds = op.counters.rounds;
    catalog_release(&record);
    tenure_release(&t);
    schema_unref(schema);
    op_release(&op);
    cache_free(cache);
    return rounds;
}

static void opening_takes_few_rounds(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    for (uint64_t i = 0; i < 5; i++)
        (void)write_ok(&n, "x", (struct write){.first = i, .count = 9, .value = 1});
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    node_stop(&n);
    /* LIST, GET; manifest; LIST and GET behind it; fence; LIST. */
    assert_in_range(rounds_to_open(store), 1, 7);
    n = node_start(store, "a", false);
    for (uint64_t i = 0; i < 100; i++)
        (void)write_ok(&n, "x", (struct write){.first = i, .count = 1, .value = 1});
    node_stop(&n);
    assert_in_range(rounds_to_open(store), 1, 7 + 4 + 7); /* 1, 2, 4, 8, 16, … */
    store_free(store);
}

static void a_hole_in_the_log_is_damage_not_a_conflict(void **state)
{
    enum { WRITES = 9 };
    (void)state;
    /* Slot 0 is the fence; the anchor of a manifest; one in the middle. */
    for (int hole = 0; hole < WRITES; hole++) {
        struct store *store = store_mem_new();
        struct node n = node_start(store, "a", false);
        struct read_options strong = {.consistency = CONSISTENCY_STRONG};
        const char *keys[1000];
        size_t count = 1000;
        struct op op;
        create(&n, "x");
        for (uint64_t i = 0; i < WRITES; i++) {
            (void)write_ok(&n, "x", (struct write){.first = i, .count = 1, .value = 1});
            if (i == 4) assert_int_equal(maintain(&n, "x"), ERR_OK);
        }
        node_stop(&n);
        init_op(&op);
        assert_int_equal(store_list(&op, store, "wal/x/", "", 0, keys, &count), ERR_OK);
        /* The fence in slot 0 is kept for late writers and misses nobody here; the last
         * entry's loss cannot be told from its never having been. */
        size_t lost = 1 + (size_t)hole % (count - 2);
        assert_int_equal(store_delete(&op, store, &keys[lost], 1), ERR_OK);
        for (int reader = 0; reader < 2; reader++) {
            struct snapshot *s = NULL;
            n = node_start(store, "a", reader);
            enum err e = registry_snapshot(&op, n.registry, "x", &strong, &s);
            assert_int_equal(e, ERR_CORRUPT);
            assert_non_null(strstr(op.error, keys[lost]));
            op_clear_error(&op);
            node_stop(&n);
        }
        op_release(&op);
        store_free(store);
    }
}

static void a_reader_with_a_long_tail_does_not_read_it_again(void **state)
{
    enum { ROWS = 20000, WRITES = 11 }; /* more rows than are kept without a question */
    (void)state;
    struct fault_plan calm = {0};
    struct store *store = store_fault_new(store_mem_new(), &calm);
    struct registry_options o = options_of("q");
    o.read_only = true;
    struct node a = node_with(store, 1 << 30, options_of("a"));
    struct node q = node_with(store, 1 << 30, o);
    create(&a, "x");
    for (uint64_t i = 0; i < WRITES; i++)
        (void)write_ok(
            &a, "x",
            (struct write){.first = i * ROWS, .count = ROWS, .value = 1, .bare = true});
    assert_int_equal(count_of(&q, "x"), WRITES * ROWS);
    uint64_t before = store_fault_calls(store);
    for (int i = 0; i < 3; i++)
        assert_int_equal(count_of(&q, "x"), WRITES * ROWS);
    /* A listing of the catalog, one of the log, now and then one of the manifests. */
    assert_in_range(store_fault_calls(store) - before, 6, 9);
    assert_int_equal(maintain(&a, "x"), ERR_OK);
    task_sleep_ms(1100);
    struct snapshot *s = read_strong(&q, "x");
    assert_int_equal(s->tail_rows, 0); /* it has found the segment */
    snapshot_unref(s);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void maintain_thread(void *arg)
{
    struct node *n = arg;
    assert_int_equal(maintain(n, "x"), ERR_OK);
}

struct merge_call {
    struct node *node;
    struct op *op;
    enum err err;
};

static void merge_thread(void *arg)
{
    struct merge_call *call = arg;
    call->err = registry_maintain(call->op, call->node->registry, "x", true);
}

static void a_compaction_outlives_the_request_that_asked_for_it(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.background = true;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 10, .value = 1});
    atomic_store(&deaf(store)->hold, 1); /* the segment */
    struct op op;
    op_init(&op, clock_ms() + 50, 0);
    assert_int_equal(registry_maintain(&op, n.registry, "x", true), ERR_TIMEOUT);
    op_release(&op);

    while (!atomic_load(&deaf(store)->holding))
        task_sleep_ms(1);
    assert_int_equal(info_of(&n, "x").segments, 0);
    atomic_store(&deaf(store)->holding, false);
    while (info_of(&n, "x").segments == 0)
        task_sleep_ms(1);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_int_equal(count_of(&n, "x"), 10);
    node_stop(&n);
    store_free(store);
}

static void writes_are_indexed_while_segments_merge(void **state)
{
    enum { FIRST = 3, ROWS = 100 };
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o), q = node_start(store, "q", true);
    create(&n, "x");
    for (uint64_t i = 0; i < FIRST; i++) {
        (void)write_ok(&n, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(&n, "x");
    }
    assert_int_equal(info_of(&n, "x").segments, FIRST);
    atomic_store(&deaf(store)->hold, 1); /* the merge's segment */
    struct thread *merge = thread_start("merge", maintain_thread, &n);
    while (!atomic_load(&deaf(store)->holding))
        task_sleep_ms(1);

    /* Replaces, deletes and adds, in two manifests, while the merge has its rows. */
    uint64_t version = info_of(&n, "x").manifest_version;
    (void)write_ok(&n, "x", (struct write){.first = 50, .count = ROWS, .value = 2});
    tick(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 200, .count = 7, .remove = true});
    (void)write_ok(&n, "x", (struct write){.first = 900, .count = 2, .value = 3});
    tick(&n, "x");
    assert_int_equal(info_of(&n, "x").manifest_version, version + 2);
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 1, .value = 4});
    atomic_store(&deaf(store)->holding, false);
    thread_join(merge);

    for (int reader = 0; reader < 3; reader++) {
        struct node *at = reader == 1 ? &q : &n;
        if (reader == 2) {
            node_stop(&n);
            n = node_start(store, "a", false);
        }
        assert_int_equal(count_of(at, "x"), FIRST * ROWS - 7 + 2);
        assert_int_equal(value_of(at, "x", 0), 4);
        assert_int_equal(value_of(at, "x", 49), 1);
        assert_int_equal(value_of(at, "x", 50), 2);
        assert_int_equal(value_of(at, "x", 149), 2);
        assert_int_equal(value_of(at, "x", 150), 1);
        assert_int_equal(value_of(at, "x", 203), -1);
        assert_int_equal(value_of(at, "x", 901), 3);
    }
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_int_equal(info_of(&n, "x").segments, 1);
    assert_int_equal(segment_objects(store), 1);
    node_stop(&n);
    node_stop(&q);
    store_free(store);
}

static void a_namespace_dropped_during_its_merge_leaves_nothing(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    struct op op, drop;
    create(&n, "x");
    for (uint64_t i = 0; i < 3; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i * 10, .count = 10});
        tick(&n, "x");
    }
    atomic_store(&deaf(store)->hold, 1); /* the merge's segment */
    init_op(&op);
    struct merge_call call = {&n, &op, ERR_OK};
    struct thread *merge = thread_start("merge", merge_thread, &call);
    while (!atomic_load(&deaf(store)->holding))
        task_sleep_ms(1);
    init_op(&drop);
    assert_int_equal(registry_drop(&drop, n.registry, "x"), ERR_OK);
    op_release(&drop);
    create(&n, "x"); /* another one of that name, at once */
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 4, .value = 5});
    atomic_store(&deaf(store)->holding, false);
    thread_join(merge);

    assert_int_not_equal(call.err, ERR_OK);
    assert_int_equal(segment_objects(store), 0);
    assert_int_equal(count_of(&n, "x"), 4);
    assert_int_equal(value_of(&n, "x", 3), 5);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_int_equal(segment_objects(store), 1);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

/* Injects a fault at each call of indexing, merging and collecting in turn. */
static void the_store_may_be_full_or_fail_at_every_call_of_a_merge(void **state)
{
    static const enum fault faults[] = {FAULT_FULL, FAULT_FAIL, FAULT_UNKNOWN,
                                        FAULT_LOST_ANSWER};
    (void)state;
    for (size_t f = 0; f < COUNT_OF(faults); f++) {
        bool met = true;
        for (uint64_t at = 1; met; at++) {
            struct fault_plan plan = {0};
            struct store *store = store_fault_new(store_mem_new(), &plan);
            struct registry_options o = options_of("a");
            o.tail_index_rows = 1;
            struct node n = node_with(store, 64 << 20, o);
            create(&n, "x");
            for (uint64_t i = 0; i < 3; i++) {
                (void)write_ok(
                    &n, "x", (struct write){.first = i * 10, .count = 15, .value = 1});
                tick(&n, "x");
            }
            (void)write_ok(&n, "x",
                           (struct write){.first = 5, .count = 10, .remove = true});
            uint64_t before = store_fault_calls(store);
            plan.at_call = before + at;
            plan.at_fault = faults[f];
            store_fault_plan(store, &plan);
            struct op op;
            init_op(&op);
            (void)registry_maintain(&op, n.registry, "x", true);
            op_release(&op);
            met = store_fault_calls(store) >= plan.at_call;
            plan.at_call = 0;
            store_fault_plan(store, &plan);
            assert_int_equal(count_of(&n, "x"), 25);
            assert_int_equal(maintain(&n, "x"), ERR_OK);
            assert_int_equal(info_of(&n, "x").segments, 1);
            assert_int_equal(count_of(&n, "x"), 25);
            assert_int_equal(value_of(&n, "x", 34), 1);
            node_stop(&n);
            n = node_start(store, "a", false); /* a new epoch collects orphans */
            assert_int_equal(maintain(&n, "x"), ERR_OK);
            assert_int_equal(segment_objects(store), 1);
            assert_int_equal(count_of(&n, "x"), 25);
            node_stop(&n);
            store_free(store);
        }
    }
}

/* The value of a counter, 0 if there is none. */
static double metric_value(const char *name)
{
    struct buf text = BUF_INIT;
    metrics_write(&text);
    buf_append_byte(&text, 0);
    const char *at = strstr((const char *)text.data, name);
    double value = at ? strtod(at + strlen(name), NULL) : 0;
    buf_release(&text);
    return value;
}

static void a_row_is_written_a_logarithmic_number_of_times(void **state)
{
    enum { TAILS = 256, ROWS = 16 };
    static const char tail[] = "elacsym_index_bytes_total{from=\"tail\"} ";
    static const char segments[] = "elacsym_index_bytes_total{from=\"segments\"} ";
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    double first = metric_value(tail), again = metric_value(segments);
    uint64_t most = 0;
    for (uint64_t i = 0; i < TAILS; i++) {
        (void)write_ok(&n, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(&n, "x");
        if (i % 8 == 7 && info_of(&n, "x").segments > most)
            most = info_of(&n, "x").segments;
    }
    first = metric_value(tail) - first;
    again = metric_value(segments) - again;
    print_message("write amplification %.2f, at most %llu segments\n",
                  (first + again) / first, (unsigned long long)most);
    assert_true(first > 0 && again > 0);
    assert_true(first + again <= first * (1 + 4)); /* log4(256) */
    assert_in_range(most, 1, 3 * 4 + 1);
    assert_int_equal(count_of(&n, "x"), TAILS * ROWS);
    node_stop(&n);
    store_free(store);
}

static void a_damaged_segment_is_named_and_the_others_merge(void **state)
{
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    const char *keys[1000], *damaged = NULL;
    size_t count = 1000;
    struct buf bytes = BUF_INIT;
    struct op op;
    create(&n, "x");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    tick(&n, "x");
    node_stop(&n);
    init_op(&op);
    assert_int_equal(store_list(&op, store, "ns/x/", "", 0, keys, &count), ERR_OK);
    for (size_t i = 0; i < count; i++)
        if (strstr(keys[i], "/segment/")) damaged = keys[i];
    assert_non_null(damaged);
    assert_int_equal(store_get(&op, store, damaged, 1 << 30, &bytes), ERR_OK);
    bytes.data[1000] ^= 4;
    assert_int_equal(store_delete(&op, store, &damaged, 1), ERR_OK);
    assert_int_equal(store_create(&op, store, damaged, buf_slice(&bytes)), ERR_OK);

    n = node_with(store, 64 << 20, o);
    for (uint64_t i = 0; i < 8; i++) {
        (void)write_ok(
            &n, "x", (struct write){.first = (i + 1) * ROWS, .count = 100, .value = 2});
        tick(&n, "x");
    }
    assert_int_equal(registry_maintain(&op, n.registry, "x", true), ERR_CORRUPT);
    assert_non_null(strstr(op.error, damaged));
    assert_int_equal(maintain(&n, "x"), ERR_OK); /* the others */
    assert_int_equal(info_of(&n, "x").segments, 2);
    assert_int_equal(count_of(&n, "x"), ROWS + 800);
    buf_release(&bytes);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

/* The three knobs of a namespace; the fourth, how often it is looked at, needs hours
 * (test_registry_time). */
static void without_compaction_segments_stay_until_it_is_asked_for(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.segments_max = 3;
    o.compaction = false;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    for (uint64_t i = 0; i < 20; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i * 10, .count = 10});
        tick(&n, "x");
    }
    assert_int_equal(info_of(&n, "x").segments, 20);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_int_equal(info_of(&n, "x").segments, 1);
    node_stop(&n);
    store_free(store);
}

static void a_merge_makes_no_segment_above_the_largest_allowed(void **state)
{
    enum { DOCS_MAX = 100, ROWS = 10, WRITES = 64 };
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.segment_docs_max = DOCS_MAX;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    for (uint64_t i = 0; i < WRITES; i++) {
        (void)write_ok(&n, "x", (struct write){.first = i * ROWS, .count = ROWS});
        tick(&n, "x");
        struct snapshot *s = read_strong(&n, "x");
        for (uint32_t k = 0; k < s->source_count; k++)
            assert_in_range(segment_row_count(s->sources[k].segment), 1, DOCS_MAX);
        snapshot_unref(s);
    }
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_in_range(info_of(&n, "x").segments, WRITES * ROWS / DOCS_MAX,
                    2 * WRITES * ROWS / DOCS_MAX);
    node_stop(&n);
    store_free(store);
}

static void deletions_that_fail_are_counted_and_tried_again(void **state)
{
    (void)state;
    struct fault_plan plan = {0};
    struct store *store = store_fault_new(store_mem_new(), &plan);
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    struct node n = node_with(store, 64 << 20, o);
    create(&n, "x");
    for (int i = 0; i < 10; i++)
        (void)write_ok(&n, "x", (struct write){.first = 0, .count = 10});
    double failures = metric_value("\nelacsym_gc_failures_total ");
    size_t logs = objects_under(store, "wal/");
    uint64_t deletes = 0;
    for (uint64_t at = 1; deletes == 0 && at < 20; at++) {
        struct op op;
        plan.at_call = store_fault_calls(store) + at;
        plan.at_fault = FAULT_FAIL;
        store_fault_plan(store, &plan);
        init_op(&op);
        (void)registry_maintain(&op, n.registry, "x", true);
        op_release(&op);
        deletes = store_fault_hits(store, FAULT_FAIL, CALL_DELETE);
        if (deletes == 0)
            (void)write_ok(&n, "x", (struct write){.first = 0, .count = 10});
    }
    assert_int_equal(deletes, 1);
    assert_true(metric_value("\nelacsym_gc_failures_total ") > failures);
    plan.at_call = 0;
    store_fault_plan(store, &plan);
    assert_int_equal(maintain(&n, "x"), ERR_OK);
    assert_true(objects_under(store, "wal/") < logs);
    assert_int_equal(segment_objects(store), 1);
    node_stop(&n);
    store_free(store);
}

static void a_large_merge_goes_through_a_file_and_without_one_stays_small(void **state)
{
    enum { ROWS = BY_FLAVOUR(20000, 2000) };
    static const char *const folders[] = {"/tmp", "/no/such/folder"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        struct store *store = store_mem_new();
        struct registry_options o = options_of("a");
        o.scratch = folders[i];
        o.spool_from = 1;
        struct node n = node_with(store, 64 << 20, o);
        create(&n, "x");
        for (uint64_t k = 0; k < 3; k++) {
            (void)write_ok(&n, "x",
                           (struct write){.first = k * ROWS / 2,
                                          .count = ROWS,
                                          .value = 1});
            enum err e = maintain(&n, "x");
            if (e) e = maintain(&n, "x"); /* now in memory */
            assert_int_equal(e, ERR_OK);
        }
        assert_int_equal(info_of(&n, "x").segments, 1);
        assert_int_equal(count_of(&n, "x"), 2 * ROWS);
        /* What is left is the ids of the one segment, not what merges took. */
        assert_in_range(cache_usage(n.cache).reserved_bytes,
                        2 * ROWS * sizeof(uint64_t), 4 * ROWS * sizeof(uint64_t));
        node_stop(&n);
        n = node_start(store, "a", false);
        assert_int_equal(count_of(&n, "x"), 2 * ROWS);
        assert_int_equal(value_of(&n, "x", 2 * ROWS - 1), 1);
        node_stop(&n);
        store_free(store);
    }
}

static void tails_stay_inside_the_budget_and_indexing_makes_room(void **state)
{
    enum { BUDGET = BY_FLAVOUR(4 << 20, 1 << 20), ROWS = 500 };
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_with(store, BUDGET, options_of("a"));
    struct write_result r;
    uint64_t written = 0;
    enum err e = ERR_OK;
    create(&n, "x");
    create(&n, "y");
    for (; !e && written < 1000; written++)
        e = write_try(&n, written % 2 ? "x" : "y",
                      (struct write){.first = written * ROWS, .count = ROWS}, &r);
    assert_int_equal(e, ERR_BUSY);
    struct snapshot *x = read_strong(&n, "x"), *y = read_strong(&n, "y");
    assert_in_range(x->tail_bytes + y->tail_bytes, BUDGET / 4, BUDGET / 2);
    snapshot_unref(x);
    snapshot_unref(y);
    tick(&n, "x"); /* full is reason enough */
    tick(&n, "y");
    (void)write_ok(&n, "x", (struct write){.first = 0, .count = 1, .value = 1});
    (void)write_ok(&n, "y", (struct write){.first = 0, .count = 1, .value = 1});
    node_stop(&n);
    store_free(store);
}

static void
a_tail_as_large_as_it_may_be_refuses_writes_until_it_is_indexed(void **state)
{
    enum { TAIL = 256 << 10, ROWS = 500 };
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.tail_bytes_max = TAIL;
    struct node n = node_with(store, 64 << 20, o);
    struct write_result r;
    uint64_t written = 0;
    create(&n, "x");
    create(&n, "y");
    while (
        !write_try(&n, "x", (struct write){.first = written * ROWS, .count = ROWS}, &r))
        assert_true(++written < 1000);
    assert_int_equal(count_of(&n, "x"), written * ROWS); /* nothing of the last */
    assert_int_equal(write_try(&n, "x",
                               (struct write){.first = written * ROWS, .count = ROWS},
                               &r),
                     ERR_BUSY);
    (void)write_ok(&n, "y", (struct write){.first = 0, .count = 1}); /* is its own */
    struct snapshot *x = read_strong(&n, "x");
    assert_in_range(x->tail_bytes, TAIL / 2, TAIL);
    snapshot_unref(x);
    tick(&n, "x"); /* full is reason enough */
    (void)write_ok(&n, "x", (struct write){.first = written * ROWS, .count = ROWS});
    node_stop(&n);
    store_free(store);
}

static void a_reader_refuses_a_tail_beyond_its_budget_and_recovers(void **state)
{
    enum { BUDGET = 1 << 20, ROWS = 500 };
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("q");
    o.read_only = true;
    struct node a = node_start(store, "a", false), q = node_with(store, BUDGET, o);
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    struct op op;
    create(&a, "x");
    (void)write_ok(&a, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    assert_int_equal(count_of(&q, "x"), ROWS);
    assert_true(cache_usage(q.cache).reserved_bytes > 0);
    for (uint64_t i = 1; i < 100; i++)
        (void)write_ok(
            &a, "x",
            (struct write){.first = i * ROWS, .count = ROWS, .value = 1, .bare = true});
    init_op(&op);
    assert_int_equal(registry_snapshot(&op, q.registry, "x", &strong, &s), ERR_BUSY);
    assert_int_equal(cache_usage(q.cache).reserved_bytes, 0);
    assert_int_equal(maintain(&a, "x"), ERR_OK);
    task_sleep_ms(1100);
    assert_int_equal(count_of(&q, "x"), 100 * ROWS);
    op_release(&op);
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void idle_namespaces_make_room_for_others(void **state)
{
    enum { OPEN_MAX = 8, NAMES = 30 };
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("a");
    o.open_max = OPEN_MAX;
    struct node n = node_with(store, 64 << 20, o);
    char name[16];
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < NAMES; i++) {
            (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
            if (round == 0) create(&n, name);
            (void)write_ok(&n, name,
                           (struct write){.first = (uint64_t)round,
                                          .count = 1,
                                          .value = (int64_t)i});
        }
    }
    for (uint64_t i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
        assert_int_equal(count_of(&n, name), 2);
        assert_int_equal(value_of(&n, name, 1), (int64_t)i);
    }
    node_stop(&n);
    store_free(store);
}

static void namespaces_that_fill_the_memory_make_room_for_each_other(void **state)
{
    enum { BUDGET = 1 << 20, NAMES = 30, ROWS = 5000 };
    (void)state;
    struct store *store = store_mem_new();
    struct registry_options o = options_of("q");
    o.read_only = true;
    struct node a = node_start(store, "a", false), q = node_with(store, BUDGET, o);
    uint64_t all = 0;
    char name[16];
    for (uint64_t i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i);
        create(&a, name);
        (void)write_ok(&a, name, (struct write){.count = ROWS, .bare = true});
        assert_int_equal(maintain(&a, name), ERR_OK);
        struct snapshot *s = read_strong(&a, name);
        all += segment_memory(s->sources[0].segment);
        snapshot_unref(s);
    }
    assert_true(all > BUDGET);
    for (uint64_t i = 0; i < 3 * (uint64_t)NAMES; i++) {
        (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)i % NAMES);
        assert_int_equal(count_of(&q, name), ROWS);
        struct cache_usage usage = cache_usage(q.cache);
        assert_true(usage.reserved_bytes + usage.bytes <= BUDGET);
    }
    node_stop(&a);
    node_stop(&q);
    store_free(store);
}

static void writes_go_on_while_a_merge_has_most_of_the_memory(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_with(store, 1 << 20, options_of("a"));
    create(&n, "x");
    uint64_t merge = cache_usage(n.cache).memory_max / 4 * 3;
    assert_true(cache_reserve(n.cache, merge));
    (void)write_ok(&n, "x", (struct write){.count = 5});
    cache_unreserve(n.cache, merge);
    node_stop(&n);
    store_free(store);
}

/* A namespace that was just opened is let go by the thread that did it a moment after
 * those who waited go on. */
static void write_when_not_busy(struct node *n, const char *name, struct write w)
{
    struct write_result r;
    enum err e = write_try(n, name, w, &r);
    for (int i = 0; e == ERR_BUSY && i < 5000; i++) {
        task_sleep_ms(1);
        e = write_try(n, name, w, &r);
    }
    assert_int_equal(e, ERR_OK);
}

static void a_namespace_with_an_unsettled_put_is_kept_open(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct registry_options o = options_of("a");
    o.open_max = 1;
    struct node n = node_with(store, 64 << 20, o);
    struct write w = {.first = 0, .count = 1, .value = 1, .key = "k", .timeout_ms = 50};
    struct write_result r;
    create(&n, "x");
    atomic_store(&deaf(store)->deaf, true);
    assert_int_equal(write_try(&n, "x", w, &r), ERR_UNKNOWN);
    atomic_store(&deaf(store)->deaf, false);
    assert_int_equal(write_try(&n, "y", w, &r), ERR_NOT_FOUND);
    struct schema *schema = schema_with(1);
    struct commit_token token;
    struct op op;
    bool created;
    init_op(&op);
    assert_int_equal(registry_create(&op, n.registry, "y", schema, &created, &token),
                     ERR_OK);
    op_release(&op);
    assert_int_equal(write_try(&n, "y", w, &r), ERR_BUSY);
    tick(&n, "x"); /* settles it */
    w.timeout_ms = 0;
    write_when_not_busy(&n, "y", w);
    write_when_not_busy(&n, "x", w);
    assert_int_equal(count_of(&n, "x"), 1);
    schema_unref(schema);
    node_stop(&n);
    store_free(store);
}

static void a_request_without_memory_left_says_so(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    char name[16];
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "n%02d", i);
        create(&n, name);
        (void)write_ok(&n, name, (struct write){.first = 1, .count = 1, .value = 1});
    }
    node_stop(&n);
    for (size_t memory = 64; memory < 40000; memory += memory / 8) {
        const char *names[32];
        size_t count = 32;
        struct schema *schema = NULL;
        struct op op;
        n = node_start(store, "a", false);
        op_init(&op, clock_ms() + 5000, memory);
        enum err e = registry_list(&op, n.registry, "n", "", names, &count);
        assert_true(e == ERR_LIMIT || (!e && count == 20));
        op_clear_error(&op);
        e = registry_schema(&op, n.registry, "n07", &schema);
        assert_true(!e || e == ERR_LIMIT);
        schema_unref(schema);
        op_clear_error(&op);
        e = registry_maintain(&op, n.registry, "n07", true);
        assert_true(!e || e == ERR_LIMIT);
        op_release(&op);
        node_stop(&n);
    }
    store_free(store);
}

/* ---- the random test ---- */

enum { MODEL_IDS = 200 };

static void check_model(struct node *n, const int64_t *model)
{
    struct snapshot *s = read_strong(n, "x");
    uint64_t count = 0;
    for (uint64_t id = 0; id < MODEL_IDS; id++) {
        count += model[id] >= 0;
        if (value_in(s, id) != model[id])
            fail_msg("id %llu: %lld instead of %lld", (unsigned long long)id,
                     (long long)value_in(s, id), (long long)model[id]);
    }
    assert_int_equal(s->row_count, count);
    snapshot_unref(s);
}

static void random_writes_restarts_and_maintenance_equal_an_array(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (int round = 0; round < 20; round++) {
        struct store *store = store_mem_new();
        struct node n = node_start(store, "a", false), q = node_start(store, "q", true);
        int64_t model[MODEL_IDS];
        memset(model, -1, sizeof model);
        create(&n, "x");
        for (int64_t step = 0; step < 80; step++) {
            uint64_t dice = test_random(&random) % 20;
            struct write w = {.first = test_random(&random) % (MODEL_IDS - 20),
                              .count = test_random(&random) % 20,
                              .value = step,
                              .remove = dice < 5};
            (void)write_ok(&n, "x", w);
            for (uint64_t i = 0; i < w.count; i++)
                model[w.first + i] = w.remove ? -1 : step;
            if (dice == 19) {
                node_stop(&n);
                n = node_start(store, "a", false);
            }
            if (dice > 16) assert_int_equal(maintain(&n, "x"), ERR_OK);
            if (dice == 10) check_model(&q, model);
            if (dice == 11) check_model(&n, model);
        }
        check_model(&n, model);
        check_model(&q, model);
        node_stop(&n);
        node_stop(&q);
        store_free(store);
    }
}

/* ---- threads ---- */

struct racer {
    struct node *node;
    uint64_t first;
};

static void race(void *arg)
{
    struct racer *r = arg;
    for (uint64_t i = 0; i < 100; i++) {
        (void)write_ok(r->node, "x",
                       (struct write){.first = r->first + i,
                                      .count = 1,
                                      .value = (int64_t)i});
        assert_int_equal(value_of(r->node, "x", r->first + i), (int64_t)i);
        if (i % 25 == 24) (void)maintain(r->node, "x");
    }
}

static void many_threads_share_commits_and_lose_nothing(void **state)
{
    (void)state;
    enum { THREADS = 6 };
    struct store *store = store_mem_new();
    struct node n = node_start(store, "a", false);
    struct racer racers[THREADS];
    struct thread *threads[THREADS];
    create(&n, "x");
    for (uint64_t i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){&n, i * 1000};
        threads[i] = thread_start("racer", race, &racers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    assert_int_equal(count_of(&n, "x"), THREADS * 100);
    node_stop(&n);
    n = node_start(store, "a", false);
    assert_int_equal(count_of(&n, "x"), THREADS * 100);
    node_stop(&n);
    store_free(store);
}

/* ---- reading before the namespace is open for writing ---- */

/* As a query reads, from far away or not; documents. */
static uint64_t count_early(struct node *n, const char *name)
{
    struct op op;
    struct read_options options = {.early = true};
    struct snapshot *s = NULL;
    init_op(&op);
    enum err e = registry_snapshot(&op, n->registry, name, &options, &s);
    if (e) fail_msg("snapshot: %s", op.error);
    uint64_t count = s->row_count;
    snapshot_unref(s);
    op_release(&op);
    return count;
}

static struct node node_far(struct store *store, const char *id)
{
    struct registry_options o = options_of(id);
    struct node n = {.store = store, .cache = cache_new(store, 64 << 20)};
    cache_gather(n.cache);
    o.store = store;
    o.cache = n.cache;
    n.registry = registry_new(&o);
    return n;
}

static void write_some(struct store *store, uint64_t entries)
{
    struct node n = node_start(store, "a", false);
    create(&n, "x");
    for (uint64_t i = 0; i < entries; i++)
        (void)write_ok(&n, "x", (struct write){.first = i, .count = 1, .value = 1});
    node_stop(&n);
}

static void a_query_of_a_distant_store_does_not_wait_for_the_open(void **state)
{
    (void)state;
    struct store *store = deaf_new(store_mem_new());
    struct write_result r;
    write_some(store, 5);
    atomic_store(&deaf(store)->log_held, true); /* so the OPEN's fence waits */
    struct node n = node_far(store, "b");
    assert_int_equal(count_early(&n, "x"), 5);
    assert_int_equal(count_early(&n, "x"), 5);
    atomic_store(&deaf(store)->log_held, false);
    struct namespace_info info = info_of(&n, "x"); /* which waits */
    assert_string_equal(info.state, "ready");
    assert_int_equal(info.epoch, 2);
    assert_int_equal(info.documents, 5);
    r = write_ok(&n, "x", (struct write){.first = 7, .count = 1, .value = 1});
    assert_int_equal(r.token.epoch, 2);
    assert_int_equal(count_early(&n, "x"), 6);
    /* The tail is held once: what was followed meanwhile is gone. */
    assert_int_equal(cache_usage(n.cache).reserved_bytes, info_of(&n, "x").tail_bytes);
    node_stop(&n);
    store_free(store);
}

static void a_query_waits_for_the_open_where_the_log_is_long(void **state)
{
    (void)state;
    struct store *store = store_mem_new();
    write_some(store, 40);
    struct node n = node_far(store, "b");
    assert_int_equal(count_early(&n, "x"), 40);
    struct op op; /* had it not waited, the OPEN would go on without us */
    struct schema *schema;
    init_op(&op);
    assert_int_equal(registry_schema(&op, n.registry, "x", &schema), ERR_OK);
    assert_string_equal(info_of(&n, "x").state, "ready");
    assert_int_equal(cache_usage(n.cache).reserved_bytes, info_of(&n, "x").tail_bytes);
    schema_unref(schema);
    op_release(&op);
    node_stop(&n);
    store_free(store);
}

static void early_race(void *arg)
{
    struct racer *r = arg;
    for (int i = 0; i < 5; i++)
        assert_int_equal(count_early(r->node, "x"), r->first);
}

static void queries_that_race_with_an_open_all_see_every_write(void **state)
{
    (void)state;
    enum { THREADS = 6 };
    for (uint64_t round = 0; round < 20; round++) {
        struct store *store = deaf_new(store_mem_new());
        uint64_t entries = round * 2 % 24;
        struct racer racers[THREADS];
        struct thread *threads[THREADS];
        write_some(store, entries);
        struct node n = node_far(store, "b");
        for (uint64_t i = 0; i < THREADS; i++) {
            racers[i] = (struct racer){&n, entries};
            threads[i] = thread_start("racer", early_race, &racers[i]);
        }
        for (int i = 0; i < THREADS; i++)
            thread_join(threads[i]);
        assert_string_equal(info_of(&n, "x").state, "ready");
        node_stop(&n);
        store_free(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creating_twice_creates_once),
        cmocka_unit_test(writes_are_visible_and_replace_older_versions),
        cmocka_unit_test(a_restarted_node_finds_everything),
        cmocka_unit_test(a_fenced_writer_applies_nothing_and_reads_go_on),
        cmocka_unit_test(an_owner_that_was_replaced_notices_at_its_next_strong_read),
        cmocka_unit_test(a_reader_sees_every_acknowledged_write),
        cmocka_unit_test(an_idempotency_key_applies_once_for_ever),
        cmocka_unit_test(a_lost_answer_is_settled_without_the_client_noticing),
        cmocka_unit_test(a_write_whose_outcome_is_unknown_is_settled_by_the_next),
        cmocka_unit_test(a_write_that_surely_failed_leaves_nothing),
        cmocka_unit_test(a_dropped_namespace_is_gone_and_its_name_free),
        cmocka_unit_test(indexing_trims_the_log_and_keeps_segments_few),
        cmocka_unit_test(a_thousand_small_writes_are_reason_enough_to_index),
        cmocka_unit_test(ids_of_another_kind_are_refused),
        cmocka_unit_test(deleting_by_filter_and_ids_deletes_what_matches_now_and_those),
        cmocka_unit_test(
            a_write_parsed_for_a_dropped_namespace_is_not_made_to_its_successor),
        cmocka_unit_test(a_delete_by_filter_deletes_the_ids_beside_it_too),
        cmocka_unit_test(what_the_log_could_not_give_back_is_refused),
        cmocka_unit_test(however_many_objects_were_removed_all_are_deleted),
        cmocka_unit_test(a_token_of_a_later_incarnation_is_reached_by_looking_again),
        cmocka_unit_test(segments_that_do_not_fit_together_are_left_alone),
        cmocka_unit_test(too_many_segments_become_fewer_even_if_they_do_not_fit),
        cmocka_unit_test(a_reader_whose_segments_were_collected_reads_on),
        cmocka_unit_test(a_lost_segment_is_damage_not_an_absent_namespace),
        cmocka_unit_test(a_read_never_has_an_unknown_outcome),
        cmocka_unit_test(a_node_stops_in_time_though_the_store_is_silent),
        cmocka_unit_test(too_many_writes_that_wait_are_refused_and_the_others_done),
        cmocka_unit_test(an_open_goes_on_when_the_requests_that_wait_give_up),
        cmocka_unit_test(a_query_of_a_distant_store_does_not_wait_for_the_open),
        cmocka_unit_test(a_query_waits_for_the_open_where_the_log_is_long),
        cmocka_unit_test(queries_that_race_with_an_open_all_see_every_write),
        cmocka_unit_test(an_owner_whose_store_refuses_writes_still_reads),
        cmocka_unit_test(an_index_job_that_fails_waits_and_leaves_nothing_behind),
        cmocka_unit_test(a_reader_that_meets_a_drop_tells_the_catalog),
        cmocka_unit_test(opening_takes_few_rounds),
        cmocka_unit_test(a_hole_in_the_log_is_damage_not_a_conflict),
        cmocka_unit_test(a_reader_with_a_long_tail_does_not_read_it_again),
        cmocka_unit_test(a_compaction_outlives_the_request_that_asked_for_it),
        cmocka_unit_test(writes_are_indexed_while_segments_merge),
        cmocka_unit_test(a_row_is_written_a_logarithmic_number_of_times),
        cmocka_unit_test(a_namespace_dropped_during_its_merge_leaves_nothing),
        cmocka_unit_test(the_store_may_be_full_or_fail_at_every_call_of_a_merge),
        cmocka_unit_test(without_compaction_segments_stay_until_it_is_asked_for),
        cmocka_unit_test(a_merge_makes_no_segment_above_the_largest_allowed),
        cmocka_unit_test(deletions_that_fail_are_counted_and_tried_again),
        cmocka_unit_test(a_damaged_segment_is_named_and_the_others_merge),
        cmocka_unit_test(a_large_merge_goes_through_a_file_and_without_one_stays_small),
        cmocka_unit_test(tails_stay_inside_the_budget_and_indexing_makes_room),
        cmocka_unit_test(
            a_tail_as_large_as_it_may_be_refuses_writes_until_it_is_indexed),
        cmocka_unit_test(a_reader_refuses_a_tail_beyond_its_budget_and_recovers),
        cmocka_unit_test(idle_namespaces_make_room_for_others),
        cmocka_unit_test(writes_go_on_while_a_merge_has_most_of_the_memory),
        cmocka_unit_test(namespaces_that_fill_the_memory_make_room_for_each_other),
        cmocka_unit_test(a_namespace_with_an_unsettled_put_is_kept_open),
        cmocka_unit_test(a_request_without_memory_left_says_so),
        cmocka_unit_test(random_writes_restarts_and_maintenance_equal_an_array),
        cmocka_unit_test(many_threads_share_commits_and_lose_nothing),
        cmocka_unit_test(a_strong_read_of_an_owner_is_one_call_an_eventual_none),
        cmocka_unit_test(all_strong_reads_that_wait_share_one_call),
        cmocka_unit_test(the_reader_that_opens_a_namespace_needs_no_other_look),
        cmocka_unit_test(a_reader_asks_for_what_it_can_at_once),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
