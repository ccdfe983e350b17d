/* Namespaces as their clients see them: creating, writing, reading, taking over,
 * dropping. */
#include "base/log.h"
#include "unit/registry_fixture.h"

static void creating_twice_creates_once(void **state)
{
    struct fixture *f = *state;
    struct node *n = node_start(f, "a");
    struct schema *schema = schema_with(1), *wider = schema_with(2);
    struct schema *other = schema_new(3, METRIC_L2, NULL, 0);
    struct commit_token token;
    bool created;
    assert_int_equal(registry_create(&f->op, n->registry, "x", schema, &created,
                                     &token),
                     0);
    assert_true(created);
    assert_int_equal(registry_create(&f->op, n->registry, "x", schema, &created,
                                     &token),
                     0);
    assert_false(created);
    assert_int_equal(registry_create(&f->op, n->registry, "x", other, &created, &token),
                     ERR_CONFLICT);
    op_clear_error(&f->op);
    assert_int_equal(registry_create(&f->op, n->registry, "x", wider, &created, &token),
                     0);
    assert_false(created);
    struct snapshot *s = read_strong(n, "x");
    assert_int_equal(s->schema->attr_count, 2);
    snapshot_unref(s);
    assert_int_equal(registry_count(n->registry), 1);
    schema_unref(schema);
    schema_unref(wider);
    schema_unref(other);
}

static void writes_are_visible_and_replace_older_versions(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    struct write_result r =
        write_ok(n, "x", (struct write){.first = 1, .count = 10, .value = 5});
    assert_int_equal(r.upserted, 10);
    (void)write_ok(n, "x", (struct write){.first = 3, .count = 2, .value = 6});
    assert_int_equal(count_of(n, "x"), 10);
    assert_int_equal(value_of(n, "x", 3), 6);
    assert_int_equal(value_of(n, "x", 5), 5);
    r = write_ok(n, "x", (struct write){.first = 4, .count = 20, .remove = true});
    assert_int_equal(r.deleted, 7);
    assert_int_equal(count_of(n, "x"), 3);
    assert_int_equal(value_of(n, "x", 4), -1);
}

static void a_restarted_node_finds_everything(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    for (uint64_t i = 0; i < 50; i++)
        (void)write_ok(n, "x",
                       (struct write){.first = i * 3, .count = 5, .value = (int64_t)i});
    assert_int_equal(maintain(n, "x"), ERR_OK);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 10, .remove = true});
    (void)write_ok(n, "x", (struct write){.first = 5, .count = 1, .value = 777});
    uint64_t count = count_of(n, "x");
    node_restart(n);
    assert_int_equal(count_of(n, "x"), count);
    assert_int_equal(value_of(n, "x", 5), 777);
    assert_int_equal(value_of(n, "x", 4), -1);
    assert_int_equal(value_of(n, "x", 151), 49);
}

static void a_fenced_writer_applies_nothing_and_reads_go_on(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *b = node_start(f, "b");
    struct write_result r;
    (void)write_ok(a, "x", (struct write){.first = 1, .count = 1, .value = 1});
    (void)write_ok(b, "x", (struct write){.first = 2, .count = 1, .value = 2});
    assert_int_equal(write_try(a, "x",
                               (struct write){.first = 3, .count = 1, .value = 3}, &r),
                     ERR_FENCED);
    assert_int_equal(count_of(b, "x"), 2);
    assert_int_equal(count_of(a, "x"), 2); /* as a follower */
    (void)write_ok(b, "x", (struct write){.first = 4, .count = 1, .value = 4});
    assert_int_equal(value_of(a, "x", 4), 4);
}

static void an_owner_that_was_replaced_notices_at_its_next_strong_read(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *b = node_start(f, "b");
    (void)write_ok(a, "x", (struct write){.first = 1, .count = 1, .value = 1});
    (void)write_ok(b, "x", (struct write){.first = 1, .count = 1, .value = 2});
    assert_int_equal(value_of(a, "x", 1), 2);
}

static void a_reader_sees_every_acknowledged_write(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *q = reader(f);
    assert_int_equal(count_of(q, "x"), 0);
    for (uint64_t i = 0; i < 60; i++) {
        (void)write_ok(a, "x",
                       (struct write){.first = i, .count = 3, .value = (int64_t)i});
        assert_int_equal(value_of(q, "x", i + 2), (int64_t)i);
        if (i % 13 == 0) assert_int_equal(maintain(a, "x"), ERR_OK);
        assert_int_equal(count_of(q, "x"), i + 3);
    }
    struct write_result r;
    assert_int_equal(write_try(q, "x",
                               (struct write){.first = 3, .count = 1, .value = 3}, &r),
                     ERR_DENIED);
}

static void an_idempotency_key_applies_once_for_ever(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    struct write w = {.first = 1, .count = 4, .value = 9, .key = "k1"};
    struct write_result r;
    assert_false(write_ok(n, "x", w).repeated);
    (void)write_ok(n, "x", (struct write){.first = 1, .count = 2, .remove = true});
    r = write_ok(n, "x", w);
    assert_true(r.repeated);
    assert_int_equal(r.upserted, 4);
    assert_int_equal(count_of(n, "x"), 2);
    w.value = 10;
    assert_int_equal(write_try(n, "x", w, &r), ERR_REUSED);
    w.value = 9;

    struct write second = {.first = 9, .count = 1, .value = 3, .key = "k2"};
    node_restart(n); /* from the log */
    assert_true(write_ok(n, "x", w).repeated);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    assert_false(write_ok(n, "x", second).repeated);
    node_restart(n); /* one key from each */
    assert_true(write_ok(n, "x", second).repeated);
    assert_int_equal(maintain(n, "x"), ERR_OK);
    node_restart(n); /* from the manifest's table */
    assert_true(write_ok(n, "x", w).repeated);
    assert_true(write_ok(n, "x", second).repeated);
    assert_int_equal(count_of(n, "x"), 3);
}

static void a_lost_answer_is_settled_without_the_client_noticing(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    (void)write_ok(n, "x", (struct write){.first = 1, .count = 1, .value = 1});
    struct fault_plan lost = {.at_call = store_fault_calls(f->faults) + 1,
                              .at_fault = FAULT_LOST_ANSWER};
    store_fault_plan(f->faults, &lost);
    struct write_result r =
        write_ok(n, "x", (struct write){.first = 2, .count = 1, .value = 2});
    assert_int_equal(r.upserted, 1);
    assert_int_equal(count_of(n, "x"), 2);
    assert_int_equal(store_fault_hits(f->faults, FAULT_LOST_ANSWER, CALL_CREATE), 1);
}

static void a_write_whose_outcome_is_unknown_is_settled_by_the_next(void **state)
{
    struct fixture *f = *state;
    struct fault_plan calm = {0};
    struct node *n = owner(f);
    struct write w = {.first = 1, .count = 1, .value = 1, .key = "k", .timeout_ms = 60};
    struct write_result r;
    struct fault_plan deaf = {.seed = 1};
    deaf.probability[FAULT_LOST_ANSWER] = 1;
    store_fault_plan(f->faults, &deaf);
    assert_int_equal(write_try(n, "x", w, &r), ERR_UNKNOWN);
    store_fault_plan(f->faults, &calm);
    w.timeout_ms = 0;
    r = write_ok(n, "x", w);
    assert_true(r.repeated);
    assert_int_equal(count_of(n, "x"), 1);
}

static void a_write_that_surely_failed_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct fault_plan calm = {0};
    struct node *n = owner(f);
    struct write_result r;
    struct fault_plan full = {.at_call = store_fault_calls(f->faults) + 1,
                              .at_fault = FAULT_FULL};
    store_fault_plan(f->faults, &full);
    assert_int_equal(write_try(n, "x",
                               (struct write){.first = 1, .count = 1, .value = 1}, &r),
                     ERR_FULL);
    store_fault_plan(f->faults, &calm);
    assert_int_equal(count_of(n, "x"), 0);
    (void)write_ok(n, "x", (struct write){.first = 1, .count = 1, .value = 2});
    assert_int_equal(value_of(n, "x", 1), 2);
}

static void a_dropped_namespace_is_gone_and_its_name_free(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *q = reader(f);
    struct snapshot *s;
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    (void)write_ok(a, "x", (struct write){.first = 1, .count = 5, .value = 1});
    assert_int_equal(maintain(a, "x"), ERR_OK);
    assert_int_equal(count_of(q, "x"), 5);
    assert_int_equal(registry_drop(&f->op, a->registry, "x"), ERR_OK);
    assert_int_equal(registry_snapshot(&f->op, a->registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(registry_snapshot(&f->op, q->registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(registry_drop(&f->op, a->registry, "x"), ERR_NOT_FOUND);
    assert_int_equal(objects_under(f, "ns/x/"), 2); /* the catalog */
    create(a, "x");
    assert_int_equal(count_of(a, "x"), 0);
    assert_int_equal(count_of(q, "x"), 0);
}

static void ids_of_another_kind_are_refused(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    struct schema *schema = NULL;
    (void)write_ok(n, "x", (struct write){.first = 1, .count = 1, .value = 1});
    assert_int_equal(registry_schema(&f->op, n->registry, "x", &schema), ERR_OK);
    struct value values[1] = {VALUE_NULL};
    struct doc doc = {.id = {.kind = ID_STRING, .string = SLICE_LITERAL("a")},
                      .values = values};
    struct batch batch = {.docs = &doc, .doc_count = 1};
    struct write_request request = {.batch = &batch, .schema = schema};
    struct write_result r;
    assert_int_equal(registry_write(&f->op, n->registry, "x", &request, &r),
                     ERR_INVALID);
    assert_non_null(strstr(f->op.error, "integer ids"));
    assert_int_equal(count_of(n, "x"), 1);
    schema_unref(schema);
}

static void deleting_by_filter_and_ids_deletes_what_matches_now_and_those(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    for (int64_t v = 0; v < 10; v++)
        (void)write_ok(
            n, "x", (struct write){.first = (uint64_t)v * 10, .count = 10, .value = v});
    assert_int_equal(maintain(n, "x"), ERR_OK);
    (void)write_ok(n, "x", (struct write){.first = 50, .count = 5, .value = 100});
    /* One that matches too, one that does not, one that is not there. */
    struct doc_id ids[] = {{.kind = ID_U64, .u64 = 99},
                           {.kind = ID_U64, .u64 = 1},
                           {.kind = ID_U64, .u64 = 12345}};
    struct batch given = {.deletes = ids, .delete_count = COUNT_OF(ids)};
    struct write_result r = {0};
    enum err e = delete_where(&f->op, n, FILTER_GTE, 5, &given, &r);
    if (e) fail_msg("%s", f->op.error);
    assert_int_equal(r.deleted, 51);
    assert_int_equal(count_of(n, "x"), 49);
    assert_int_equal(value_of(n, "x", 1), -1);
    assert_int_equal(value_of(n, "x", 50), -1);
    assert_int_equal(value_of(n, "x", 49), 4);
}

static void
a_write_parsed_for_a_dropped_namespace_is_not_made_to_its_successor(void **state)
{
    struct fixture *f = *state;
    static const struct attr attr = {.name = "n", .type = ATTR_STRING};
    struct node *n = owner(f);
    struct schema *old = NULL, *different = schema_new(3, METRIC_L2, &attr, 1);
    assert_int_equal(registry_schema(&f->op, n->registry, "x", &old), ERR_OK);
    assert_int_equal(registry_drop(&f->op, n->registry, "x"), ERR_OK);
    assert_int_equal(create_as(&f->op, n, "x", different), ERR_OK);

    float vector[2] = {1, 2};
    struct value value = {.one.i = 7};
    struct doc doc = {{.kind = ID_U64, .u64 = 1}, vector, &value};
    struct batch batch = {.docs = &doc, .doc_count = 1};
    struct write_request request = {.batch = &batch, .schema = old};
    struct write_result r;
    assert_int_equal(registry_write(&f->op, n->registry, "x", &request, &r),
                     ERR_CONFLICT);

    union scalar seven = {.i = 7};
    struct filter filter = {.op = FILTER_EQ,
                            .type = ATTR_INT,
                            .values = &seven,
                            .value_count = 1};
    batch.doc_count = 0;
    request.delete_filter = &filter;
    assert_int_equal(registry_write(&f->op, n->registry, "x", &request, &r),
                     ERR_CONFLICT);
    node_restart(n);
    assert_int_equal(count_of(n, "x"), 0);
    schema_unref(old);
    schema_unref(different);
}

static void a_delete_by_filter_deletes_the_ids_beside_it_too(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 10, .value = 1});
    (void)write_ok(n, "x", (struct write){.first = 10, .count = 10, .value = 2});
    struct doc_id ids[] = {{.kind = ID_U64, .u64 = 3},   /* only named, …  */
                           {.kind = ID_U64, .u64 = 15},  /* … matched too, … */
                           {.kind = ID_U64, .u64 = 99}}; /* … not there */
    struct batch batch = {.deletes = ids, .delete_count = 3};
    struct write_result r = {0};
    assert_int_equal(delete_where(&f->op, n, FILTER_EQ, 2, &batch, &r), ERR_OK);
    assert_int_equal(r.deleted, 11);
    assert_int_equal(value_of(n, "x", 3), -1);

    struct doc_id word = {.kind = ID_STRING, .string = SLICE_LITERAL("w")};
    batch = (struct batch){.deletes = &word, .delete_count = 1};
    assert_int_equal(delete_where(&f->op, n, FILTER_EQ, 2, &batch, &r), ERR_INVALID);
    node_restart(n);
    assert_int_equal(count_of(n, "x"), 9);
}

static void what_the_log_could_not_give_back_is_refused(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.request_bytes_max = 4096;
    struct node *n = owner_with(f, o);
    struct write_result r;
    assert_int_equal(write_try(n, "x",
                               (struct write){.first = 0, .count = 500, .value = 1},
                               &r),
                     ERR_LIMIT);
    for (uint64_t i = 0; i < 5; i++)
        (void)write_ok(n, "x",
                       (struct write){.first = i * 100, .count = 100, .value = 1});
    assert_int_equal(delete_where(&f->op, n, FILTER_EQ, 1, NULL, &r), ERR_LIMIT);
    assert_int_equal(count_of(n, "x"), 500);
    for (uint64_t i = 1; i < 5; i++)
        (void)write_ok(n, "x",
                       (struct write){.first = i * 100, .count = 100, .value = 2});
    (void)write_ok(n, "x", (struct write){.first = 5, .count = 95, .value = 2});
    assert_int_equal(delete_where(&f->op, n, FILTER_EQ, 1, NULL, &r), ERR_OK);
    assert_int_equal(r.deleted, 5);
}

static void a_token_of_a_later_incarnation_is_reached_by_looking_again(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *q = reader(f);
    struct read_options eventual = {.consistency = CONSISTENCY_EVENTUAL};
    struct snapshot *s = NULL;
    (void)write_ok(a, "x", (struct write){.first = 0, .count = 5, .value = 1});
    assert_int_equal(count_of(q, "x"), 5);
    assert_int_equal(registry_drop(&f->op, a->registry, "x"), ERR_OK);
    create(a, "x");
    struct write_result r =
        write_ok(a, "x", (struct write){.first = 7, .count = 1, .value = 3});
    eventual.min_commit = &r.token;
    assert_int_equal(registry_snapshot(&f->op, q->registry, "x", &eventual, &s),
                     ERR_OK);
    assert_int_equal(value_in(s, 7), 3);
    assert_int_equal(s->row_count, 1);
    snapshot_unref(s);
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
    struct op op;
    init_op(&op);
    assert_int_equal(create_as(&op, n, "x", schema), ERR_OK);
    schema_unref(schema);
    op_release(&op);
}

static void too_many_writes_that_wait_are_refused_and_the_others_done(void **state)
{
    struct fixture *f = *state;
    enum { WRITES = 10 }; /* 50 MiB of documents; 32 MiB may wait */
    struct node *n = node_with(f, 1 << 30, options_of("a"));
    struct large_write writes[WRITES];
    struct thread *threads[WRITES];
    uint64_t refused = 0;
    create_with_string(n);
    (void)write_ok(n, "x", (struct write){.first = 1000, .count = 1, .bare = true});

    atomic_store(&f->deaf->log_held, true);
    for (uint64_t i = 0; i < WRITES; i++) {
        writes[i] = (struct large_write){.n = n, .id = i + 1};
        atomic_init(&writes[i].result, -1);
        threads[i] = thread_start("large", write_large, &writes[i]);
    }
    while (refused == 0) {
        task_sleep_ms(1);
        for (uint64_t i = 0; i < WRITES; i++)
            refused += atomic_load(&writes[i].result) >= 0; /* the others wait */
    }
    atomic_store(&f->deaf->log_held, false);
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
    assert_int_equal(count_of(n, "x"), 1 + WRITES - refused);
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
    struct fixture *f = *state;
    uint64_t random = test_seed();
    for (int round = 0; round < 20; round++) {
        struct node *n = owner(f), *q = reader(f);
        int64_t model[MODEL_IDS];
        memset(model, -1, sizeof model);
        for (int64_t step = 0; step < 80; step++) {
            uint64_t dice = test_random(&random) % 20;
            struct write w = {.first = test_random(&random) % (MODEL_IDS - 20),
                              .count = test_random(&random) % 20,
                              .value = step,
                              .remove = dice < 5};
            (void)write_ok(n, "x", w);
            for (uint64_t i = 0; i < w.count; i++)
                model[w.first + i] = w.remove ? -1 : step;
            if (dice == 19) node_restart(n);
            if (dice > 16) assert_int_equal(maintain(n, "x"), ERR_OK);
            if (dice == 10) check_model(q, model);
            if (dice == 11) check_model(n, model);
        }
        check_model(n, model);
        check_model(q, model);
        fixture_renew(f);
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
    struct fixture *f = *state;
    enum { THREADS = 6 };
    struct node *n = owner(f);
    struct racer racers[THREADS];
    struct thread *threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){n, i * 1000};
        threads[i] = thread_start("racer", race, &racers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    assert_int_equal(count_of(n, "x"), THREADS * 100);
    node_restart(n);
    assert_int_equal(count_of(n, "x"), THREADS * 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creating_twice_creates_once),
        TEST(writes_are_visible_and_replace_older_versions),
        TEST(a_restarted_node_finds_everything),
        TEST(a_fenced_writer_applies_nothing_and_reads_go_on),
        TEST(an_owner_that_was_replaced_notices_at_its_next_strong_read),
        TEST(a_reader_sees_every_acknowledged_write),
        TEST(an_idempotency_key_applies_once_for_ever),
        TEST(a_lost_answer_is_settled_without_the_client_noticing),
        TEST(a_write_whose_outcome_is_unknown_is_settled_by_the_next),
        TEST(a_write_that_surely_failed_leaves_nothing),
        TEST(a_dropped_namespace_is_gone_and_its_name_free),
        TEST(ids_of_another_kind_are_refused),
        TEST(deleting_by_filter_and_ids_deletes_what_matches_now_and_those),
        TEST(a_write_parsed_for_a_dropped_namespace_is_not_made_to_its_successor),
        TEST(a_delete_by_filter_deletes_the_ids_beside_it_too),
        TEST(what_the_log_could_not_give_back_is_refused),
        TEST(a_token_of_a_later_incarnation_is_reached_by_looking_again),
        TEST(too_many_writes_that_wait_are_refused_and_the_others_done),
        TEST(random_writes_restarts_and_maintenance_equal_an_array),
        TEST(many_threads_share_commits_and_lose_nothing),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
