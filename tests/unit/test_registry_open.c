/* Opening a namespace, for writing or to read as any node can: how many calls it takes,
 * who waits for whom, and what damage and a failing store mean to it. */
#include "base/log.h"
#include "ns/catalog.h"
#include "ns/tenure.h"
#include "unit/registry_fixture.h"

static void a_reader_whose_segments_were_collected_reads_on(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    struct registry_options o = options_of("a");
    o.tail_index_rows = 1;
    o.compaction = false;
    struct node *a = owner_with(f, o), *q = reader(f);
    struct segment_fetch what = {.attributes = true};
    uint32_t row = 0;
    struct doc doc;
    for (uint64_t i = 0; i < 2; i++) {
        (void)write_ok(a, "x",
                       (struct write){.first = i * ROWS, .count = ROWS, .value = 1});
        tick(a, "x");
    }
    struct snapshot *old = read_strong(q, "x");
    assert_int_equal(old->source_count, 2);
    /* One segment instead of two; the log is as it was. */
    assert_int_equal(maintain(a, "x"), ERR_OK);
    assert_int_equal(segment_fetch(&f->op, old->sources[0].segment, old->schema, &row,
                                   1, what, &doc),
                     ERR_NOT_FOUND);
    struct read_options options = {.consistency = CONSISTENCY_EVENTUAL, .gone = old};
    struct snapshot *s = NULL;
    assert_int_equal(registry_snapshot(&f->op, q->registry, "x", &options, &s), ERR_OK);
    assert_int_equal(s->source_count, 1);
    assert_int_equal(value_in(s, 3), 1);
    snapshot_unref(s);
    snapshot_unref(old);
}

static void a_lost_segment_is_damage_not_an_absent_namespace(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = BY_FLAVOUR(20000, 5000) }; /* opening does not read all of it */
    struct node *n = owner(f);
    const char *keys[1000];
    size_t count = 1000;
    (void)write_ok(n, "x", (struct write){.first = 0, .count = ROWS, .value = 1});
    assert_int_equal(maintain(n, "x"), ERR_OK);
    node_restart(n);
    assert_int_equal(count_of(n, "x"), ROWS);
    assert_int_equal(store_list(&f->op, f->store, "ns/", "", 0, keys, &count), ERR_OK);
    for (size_t i = 0; i < count; i++)
        if (strstr(keys[i], "/segment/"))
            assert_int_equal(store_delete(&f->op, f->store, &keys[i], 1), ERR_OK);

    struct write_result r;
    assert_int_equal(delete_where(&f->op, n, FILTER_EQ, 1, NULL, &r), ERR_CORRUPT);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = ROWS / 2, .value = 2});
    op_clear_error(&f->op);
    assert_int_equal(registry_maintain(&f->op, n->registry, "x", true), ERR_CORRUPT);
    assert_int_equal(count_of(n, "x"), ROWS); /* what is not lost goes on */
}

static void a_read_never_has_an_unknown_outcome(void **state)
{
    struct fixture *f = *state;
    struct fault_plan calm = {0};
    struct node *n = owner(f);
    for (uint64_t call = 1; call <= 16; call++) {
        struct read_options strong = {.consistency = CONSISTENCY_STRONG};
        struct snapshot *s = NULL;
        struct op op;
        node_restart(n);
        struct fault_plan unknown = {.at_call = store_fault_calls(f->faults) + call,
                                     .at_fault = FAULT_UNKNOWN};
        store_fault_plan(f->faults, &unknown);
        op_init(&op, clock_ms() + 20, 0); /* no time to settle it */
        enum err e = registry_snapshot(&op, n->registry, "x", &strong, &s);
        if (e && e != ERR_IO && e != ERR_TIMEOUT)
            fail_msg("call %llu: %s %s", (unsigned long long)call, err_name(e),
                     op.error);
        snapshot_unref(s);
        store_fault_plan(f->faults, &calm);
        op_release(&op);
    }
}

static void a_strong_read_of_an_owner_is_one_call_an_eventual_none(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    atomic_store(&f->deaf->calls, 0);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(read_one(n, CONSISTENCY_STRONG), ERR_OK);
        assert_int_equal(atomic_load(&f->deaf->calls), i);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(read_one(n, CONSISTENCY_EVENTUAL), ERR_OK);
    assert_int_equal(atomic_load(&f->deaf->calls), 5);
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
    struct fixture *f = *state;
    enum { READERS = 12, ARRIVAL_MS = 500 };
    struct node *n = owner(f);
    struct reader readers[READERS];
    struct thread *threads[READERS];
    atomic_int begun = 0;
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});

    atomic_store(&f->deaf->calls, 0);
    atomic_store(&f->deaf->hold_get, true);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.node = n, .begun = &begun};
        threads[i] = thread_start("reader", read_in_thread, &readers[i]);
        while (i == 0 && !atomic_load(&f->deaf->get_held))
            task_sleep_ms(1);
    }
    while (atomic_load(&begun) < READERS)
        task_sleep_ms(1);
    task_sleep_ms(ARRIVAL_MS);
    assert_int_equal(atomic_load(&f->deaf->calls), 1);
    atomic_store(&f->deaf->hold_get, false);
    for (int i = 0; i < READERS; i++) {
        thread_join(threads[i]);
        assert_int_equal(readers[i].err, ERR_OK);
    }
    assert_int_equal(atomic_load(&f->deaf->calls), 2);
}

/* ---- strong reads beside a put that is out ---- */

struct writer {
    struct node *node;
    struct write write;
};

static void write_in_thread(void *arg)
{
    struct writer *w = arg;
    (void)write_ok(w->node, "x", w->write);
}

struct counter {
    struct node *node;
    uint64_t documents;
    atomic_bool done;
};

static void count_in_thread(void *arg)
{
    struct counter *c = arg;
    c->documents = count_of(c->node, "x");
    atomic_store(&c->done, true);
}

static void a_strong_read_does_not_wait_for_a_put_that_has_not_landed(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    struct writer writer = {n, {.first = 9, .count = 1, .value = 1}};
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    atomic_store(&f->deaf->log_held, true);
    struct thread *thread = thread_start("writer", write_in_thread, &writer);
    while (atomic_load(&f->deaf->log_waiting) == 0)
        task_sleep_ms(1);

    atomic_store(&f->deaf->calls, 0);
    assert_int_equal(count_of(n, "x"), 9);
    assert_int_equal(atomic_load(&f->deaf->calls), 2);
    atomic_store(&f->deaf->log_held, false);
    thread_join(thread);
    assert_int_equal(count_of(n, "x"), 10);
}

/* Writes document 9 so that it lands and is not answered. */
static struct thread *land(struct fixture *f, struct writer *writer)
{
    atomic_store(&f->deaf->answer_hold, 1);
    struct thread *thread = thread_start("writer", write_in_thread, writer);
    while (!atomic_load(&f->deaf->answer_held))
        task_sleep_ms(1);
    return thread;
}

/* How many documents a read at n finds, which waits until the put is answered. */
static uint64_t count_once_answered(struct fixture *f, struct node *n)
{
    enum { WAIT_MS = 100 };
    struct counter counter = {.node = n};
    struct thread *thread = thread_start("reader", count_in_thread, &counter);
    task_sleep_ms(WAIT_MS);
    assert_false(atomic_load(&counter.done));
    atomic_store(&f->deaf->answer_held, false);
    thread_join(thread);
    return counter.documents;
}

/* Other nodes may have read it already. */
static void a_strong_read_waits_for_a_put_that_has_landed(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    struct writer writer = {n, {.first = 9, .count = 1, .value = 1}};
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    struct thread *thread = land(f, &writer);
    assert_int_equal(count_once_answered(f, n), 10);
    thread_join(thread);
}

static void a_strong_read_sees_who_stepped_over_the_put_and_collected_it(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f), *b = node_start(f, "b");
    struct writer writer = {a, {.first = 9, .count = 1, .value = 1}};
    (void)write_ok(a, "x", (struct write){.first = 0, .count = 9, .value = 1});
    struct thread *thread = land(f, &writer);
    (void)write_ok(b, "x", (struct write){.first = 10, .count = 1, .value = 1});
    assert_int_equal(maintain(b, "x"), ERR_OK);
    assert_int_equal(count_once_answered(f, a), 11);
    thread_join(thread);
}

static void the_reader_that_opens_a_namespace_needs_no_other_look(void **state)
{
    struct fixture *f = *state;
    struct node *n = owner(f);
    int calls[2];
    (void)write_ok(n, "x", (struct write){.first = 0, .count = 9, .value = 1});
    for (int strong = 0; strong < 2; strong++) {
        node_restart(n);
        atomic_store(&f->deaf->calls, 0);
        assert_int_equal(read_one(n,
                                  strong ? CONSISTENCY_STRONG : CONSISTENCY_EVENTUAL),
                         ERR_OK);
        calls[strong] = atomic_load(&f->deaf->calls);
    }
    assert_int_equal(count_of(n, "x"), 9);
    /* A fence more to be read the second time. */
    assert_int_equal(calls[1], calls[0] + 1);
}

/* Waits for the store, one behind the other, until the first strong answer. */
static uint64_t rounds_of_first_read(struct fixture *f)
{
    struct node *q = reader(f);
    struct op op;
    struct read_options options = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    init_op(&op);
    assert_int_equal(registry_snapshot(&op, q->registry, "x", &options, &s), ERR_OK);
    uint64_t rounds = op.counters.rounds;
    snapshot_unref(s);
    op_release(&op);
    return rounds;
}

static void a_reader_asks_for_what_it_can_at_once(void **state)
{
    struct fixture *f = *state;
    enum { CATALOG = 2, MANIFEST = 2, SEGMENTS_AND_LOG = 1, FENCE = 1 };
    struct node *n = owner(f);
    for (uint64_t i = 0; i < 4; i++) {
        (void)write_ok(n, "x", (struct write){.first = 50 * i, .count = 50});
        assert_int_equal(maintain(n, "x"), ERR_OK);
    }
    (void)write_ok(n, "x", (struct write){.first = 7, .count = 1, .remove = true});
    assert_int_equal(maintain(n, "x"), ERR_OK);
    uint64_t indexed = rounds_of_first_read(f);
    assert_in_range(indexed, 1, CATALOG + MANIFEST + SEGMENTS_AND_LOG + FENCE);

    /* 1, 2, 4, 8 and 5 entries at a time. */
    for (uint64_t i = 0; i < 20; i++)
        (void)write_ok(n, "x", (struct write){.first = i, .count = 1, .value = 2});
    assert_in_range(rounds_of_first_read(f), indexed, indexed + 5);
}

static void a_node_stops_in_time_though_the_store_is_silent(void **state)
{
    struct fixture *f = *state;
    struct registry_options o = options_of("a");
    o.background = true;
    o.tail_index_rows = 1;
    struct node *n = owner_with(f, o);
    create(n, "y");
    (void)write_ok(n, "y", (struct write){.first = 0, .count = 1, .value = 1});
    atomic_store(&f->deaf->deaf, true);
    struct write w = {.first = 0, .count = 1, .value = 1, .timeout_ms = 50};
    struct write_result r;
    assert_int_equal(write_try(n, "x", w, &r), ERR_UNKNOWN);
    task_sleep_ms(600); /* the maintenance thread meets both */
    int64_t began_ms = clock_ms();
    node_stop(n); /* within a second */
    assert_in_range(clock_ms() - began_ms, 0, 4000);
}

static void an_open_goes_on_when_the_requests_that_wait_give_up(void **state)
{
    struct fixture *f = *state;
    enum { TRIES = 5 };
    struct node *n = owner(f);
    struct write w = {.first = 0, .count = 1, .value = 1};
    (void)write_ok(n, "x", w);
    node_restart(n);
    atomic_store(&f->deaf->deaf, true);
    for (int i = 0; i < TRIES; i++) {
        struct schema *schema = schema_with(2);
        struct op op;
        op_init(&op, clock_ms() + 30, 0);
        /* Widening is a write too, and needs no read before it. */
        enum err e = create_as(&op, n, "x", schema);
        assert_true(e == ERR_IO || e == ERR_TIMEOUT);
        op_release(&op);
        op_init(&op, clock_ms() + 30, 0);
        e = registry_maintain(&op, n->registry, "x", true);
        assert_int_equal(e, ERR_IO);
        assert_non_null(strstr(op.error, "is being opened"));
        assert_true(op.retry_after_ms > 0);
        op_release(&op);
        schema_unref(schema);
    }
    atomic_store(&f->deaf->deaf, false);
    w.value = 2;
    (void)write_ok(n, "x", w);
    assert_int_equal(info_of(n, "x").epoch, 2); /* one OPEN, whoever waited for it */
    assert_int_equal(value_of(n, "x", 0), 2);
}

static void an_owner_whose_store_refuses_writes_still_reads(void **state)
{
    struct fixture *f = *state;
    enum { READS = 200 };
    struct node *n = owner(f);
    struct write w = {.first = 0, .count = 7, .value = 1};
    struct write_result r;
    (void)write_ok(n, "x", w);
    node_restart(n);
    atomic_store(&f->deaf->denied, true);
    for (int i = 0; i < READS; i++)
        assert_int_equal(count_of(n, "x"), 7);
    /* OPEN is tried again less and less often, not with every read. */
    assert_in_range(atomic_load(&f->deaf->refusals), 1, 40);
    assert_int_equal(write_try(n, "x", w, &r), ERR_DENIED);
    atomic_store(&f->deaf->denied, false);
    for (int i = 0; i < 5000 && write_try(n, "x", w, &r) == ERR_DENIED; i++)
        task_sleep_ms(10);
    assert_int_equal(write_try(n, "x", w, &r), ERR_OK);
}

static void a_reader_that_meets_a_drop_tells_the_catalog(void **state)
{
    struct fixture *f = *state;
    struct node *a = owner(f);
    struct read_options strong = {.consistency = CONSISTENCY_STRONG};
    struct snapshot *s = NULL;
    (void)write_ok(a, "x", (struct write){.first = 0, .count = 1, .value = 1});
    atomic_store(&f->deaf->catalog_denied, true);
    assert_int_equal(registry_drop(&f->op, a->registry, "x"), ERR_OK);
    atomic_store(&f->deaf->catalog_denied, false);
    node_stop(a);
    assert_int_equal(objects_under(f, "ns/x/catalog/"), 1);
    struct node *q = reader(f);
    assert_int_equal(registry_snapshot(&f->op, q->registry, "x", &strong, &s),
                     ERR_NOT_FOUND);
    assert_int_equal(objects_under(f, "ns/x/catalog/"), 2);
}

/* What an OPEN waits for the store, one wait after the other. */
static uint64_t rounds_to_open(struct fixture *f)
{
    struct registry_options o = options_of("a");
    struct cache *cache = cache_new(f->store, NODE_MEMORY);
    struct schema *schema = schema_with(1);
    struct catalog_record record;
    struct tenure t = {0};
    struct keys keys;
    struct op op;
    o.store = f->store;
    o.cache = cache;
    init_op(&op);
    assert_int_equal(catalog_newest(&op, f->store, "x", &record), ERR_OK);
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
    struct fixture *f = *state;
    struct node *n = owner(f);
    for (uint64_t i = 0; i < 5; i++)
        (void)write_ok(n, "x", (struct write){.first = i, .count = 9, .value = 1});
    assert_int_equal(maintain(n, "x"), ERR_OK);
    node_stop(n);
    /* LIST, GET; manifest; LIST and GET behind it; fence; LIST. */
    assert_in_range(rounds_to_open(f), 1, 7);
    node_restart(n);
    for (uint64_t i = 0; i < 100; i++)
        (void)write_ok(n, "x", (struct write){.first = i, .count = 1, .value = 1});
    node_stop(n);
    assert_in_range(rounds_to_open(f), 1, 7 + 4 + 7); /* 1, 2, 4, 8, 16, … */
}

static void a_hole_in_the_log_is_damage_not_a_conflict(void **state)
{
    struct fixture *f = *state;
    enum { WRITES = 9 };
    /* Slot 0 is the fence; the anchor of a manifest; one in the middle. */
    for (int hole = 0; hole < WRITES; hole++) {
        struct node *n = owner(f);
        struct read_options strong = {.consistency = CONSISTENCY_STRONG};
        const char *keys[1000];
        size_t count = 1000;
        for (uint64_t i = 0; i < WRITES; i++) {
            (void)write_ok(n, "x", (struct write){.first = i, .count = 1, .value = 1});
            if (i == 4) assert_int_equal(maintain(n, "x"), ERR_OK);
        }
        node_stop(n);
        assert_int_equal(store_list(&f->op, f->store, "wal/x/", "", 0, keys, &count),
                         ERR_OK);
        /* The fence in slot 0 is kept for late writers and misses nobody here; the last
         * entry's loss cannot be told from its never having been. */
        size_t lost = 1 + (size_t)hole % (count - 2);
        assert_int_equal(store_delete(&f->op, f->store, &keys[lost], 1), ERR_OK);
        for (int reader = 0; reader < 2; reader++) {
            struct snapshot *s = NULL;
            n->options.read_only = reader;
            node_restart(n);
            enum err e = registry_snapshot(&f->op, n->registry, "x", &strong, &s);
            assert_int_equal(e, ERR_CORRUPT);
            assert_non_null(strstr(f->op.error, keys[lost]));
            op_clear_error(&f->op);
        }
        fixture_renew(f);
    }
}

static void a_reader_with_a_long_tail_does_not_read_it_again(void **state)
{
    struct fixture *f = *state;
    enum { ROWS = 20000, WRITES = 11 }; /* more rows than are kept without a question */
    struct node *a = node_with(f, 1 << 30, options_of("a"));
    struct node *q = reader_with(f, 1 << 30);
    create(a, "x");
    for (uint64_t i = 0; i < WRITES; i++)
        (void)write_ok(
            a, "x",
            (struct write){.first = i * ROWS, .count = ROWS, .value = 1, .bare = true});
    assert_int_equal(count_of(q, "x"), WRITES * ROWS);
    uint64_t before = store_fault_calls(f->faults);
    for (int i = 0; i < 3; i++)
        assert_int_equal(count_of(q, "x"), WRITES * ROWS);
    /* A listing of the catalog, one of the log, now and then one of the manifests. */
    assert_in_range(store_fault_calls(f->faults) - before, 6, 9);
    assert_int_equal(maintain(a, "x"), ERR_OK);
    task_sleep_ms(1100);
    struct snapshot *s = read_strong(q, "x");
    assert_int_equal(s->tail_rows, 0); /* it has found the segment */
    snapshot_unref(s);
}

/* Who was seen to open a namespace. */
struct openings {
    unsigned count;
    char node[16]; /* the last */
    uint64_t fingerprint;
};

static void note_opening(void *context, const char *name, struct slice node_id,
                         uint64_t fingerprint)
{
    struct openings *o = context;
    assert_string_equal(name, "x");
    o->count++;
    o->fingerprint = fingerprint;
    (void)snprintf(o->node, sizeof o->node, "%.*s", (int)node_id.size,
                   (const char *)node_id.data);
}

static struct node *follower_of_x(struct fixture *f, struct openings *seen)
{
    struct registry_options o = options_of("q");
    o.read_only = true;
    o.opened_by = note_opening;
    o.context = seen;
    return node_with(f, NODE_MEMORY, o);
}

static struct node *rogue(struct fixture *f)
{
    struct registry_options o = options_of("c");
    o.config_fingerprint = 7;
    return node_with(f, NODE_MEMORY, o);
}

static void whoever_opens_what_we_follow_is_told_of_once(void **state)
{
    struct fixture *f = *state;
    for (int collected = 0; collected < 2; collected++, fixture_renew(f)) {
        struct openings seen = {0};
        struct node *a = owner(f), *q = follower_of_x(f, &seen);
        (void)write_ok(a, "x", (struct write){.first = 0, .count = 1, .value = 1});
        assert_int_equal(count_of(q, "x"), 1);
        assert_int_equal(seen.count, 0); /* that was before */
        node_stop(a);

        struct node *c = rogue(f);
        (void)write_ok(c, "x", (struct write){.first = 1, .count = 1, .value = 1});
        /* Now its fence is nowhere but in what the manifest says of it. */
        if (collected) assert_int_equal(maintain(c, "x"), ERR_OK);
        for (uint64_t i = 2; i < 5; i++) {
            assert_int_equal(count_of(q, "x"), i);
            assert_int_equal(seen.count, 1);
            (void)write_ok(c, "x", (struct write){.first = i, .count = 1, .value = 1});
            if (collected) assert_int_equal(maintain(c, "x"), ERR_OK);
        }
        assert_string_equal(seen.node, "c");
        assert_int_equal(seen.fingerprint, 7);
        node_stop(c);
        node_run(a);
        assert_int_equal(count_of(a, "x"), 5);
        if (collected) assert_int_equal(maintain(a, "x"), ERR_OK);
        assert_int_equal(count_of(q, "x"), 5);
        assert_int_equal(seen.count, 2);
        assert_string_equal(seen.node, "a");
    }
}

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

/* A node far from its store; before it another one has written so many entries. */
static struct node *node_far(struct fixture *f, uint64_t entries)
{
    struct node *before = owner(f);
    for (uint64_t i = 0; i < entries; i++)
        (void)write_ok(before, "x", (struct write){.first = i, .count = 1, .value = 1});
    node_stop(before);
    struct node *n = node_start(f, "b");
    n->far = true;
    node_restart(n);
    return n;
}

static void a_query_of_a_distant_store_does_not_wait_for_the_open(void **state)
{
    struct fixture *f = *state;
    struct write_result r;
    struct node *n = node_far(f, 5);
    atomic_store(&f->deaf->log_held, true); /* so the OPEN's fence waits */
    assert_int_equal(count_early(n, "x"), 5);
    assert_int_equal(count_early(n, "x"), 5);
    atomic_store(&f->deaf->log_held, false);
    struct namespace_info info = info_of(n, "x"); /* which waits */
    assert_string_equal(info.state, "ready");
    assert_int_equal(info.epoch, 2);
    assert_int_equal(info.documents, 5);
    r = write_ok(n, "x", (struct write){.first = 7, .count = 1, .value = 1});
    assert_int_equal(r.token.epoch, 2);
    assert_int_equal(count_early(n, "x"), 6);
    /* The tail is held once: what was followed meanwhile is gone. */
    assert_int_equal(cache_usage(n->cache).reserved_bytes, info_of(n, "x").tail_bytes);
}

static void a_query_waits_for_the_open_where_the_log_is_long(void **state)
{
    struct fixture *f = *state;
    struct node *n = node_far(f, 40);
    assert_int_equal(count_early(n, "x"), 40);
    struct schema *schema; /* had it not waited, the OPEN would go on without us */
    assert_int_equal(registry_schema(&f->op, n->registry, "x", &schema), ERR_OK);
    assert_string_equal(info_of(n, "x").state, "ready");
    assert_int_equal(cache_usage(n->cache).reserved_bytes, info_of(n, "x").tail_bytes);
    schema_unref(schema);
}

struct early_reader {
    struct node *node;
    uint64_t documents;
};

static void read_early(void *arg)
{
    struct early_reader *r = arg;
    for (int i = 0; i < 5; i++)
        assert_int_equal(count_early(r->node, "x"), r->documents);
}

static void queries_that_race_with_an_open_all_see_every_write(void **state)
{
    struct fixture *f = *state;
    enum { THREADS = 6 };
    for (uint64_t round = 0; round < 20; round++) {
        struct thread *threads[THREADS];
        uint64_t entries = round * 2 % 24;
        struct node *n = node_far(f, entries);
        struct early_reader reader = {n, entries};
        for (int i = 0; i < THREADS; i++)
            threads[i] = thread_start("reader", read_early, &reader);
        for (int i = 0; i < THREADS; i++)
            thread_join(threads[i]);
        assert_string_equal(info_of(n, "x").state, "ready");
        fixture_renew(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reader_whose_segments_were_collected_reads_on),
        TEST(a_lost_segment_is_damage_not_an_absent_namespace),
        TEST(a_read_never_has_an_unknown_outcome),
        TEST(a_node_stops_in_time_though_the_store_is_silent),
        TEST(an_open_goes_on_when_the_requests_that_wait_give_up),
        TEST(a_query_of_a_distant_store_does_not_wait_for_the_open),
        TEST(a_query_waits_for_the_open_where_the_log_is_long),
        TEST(queries_that_race_with_an_open_all_see_every_write),
        TEST(an_owner_whose_store_refuses_writes_still_reads),
        TEST(a_reader_that_meets_a_drop_tells_the_catalog),
        TEST(opening_takes_few_rounds),
        TEST(a_hole_in_the_log_is_damage_not_a_conflict),
        TEST(a_reader_with_a_long_tail_does_not_read_it_again),
        TEST(whoever_opens_what_we_follow_is_told_of_once),
        TEST(a_strong_read_of_an_owner_is_one_call_an_eventual_none),
        TEST(all_strong_reads_that_wait_share_one_call),
        TEST(a_strong_read_does_not_wait_for_a_put_that_has_not_landed),
        TEST(a_strong_read_waits_for_a_put_that_has_landed),
        TEST(a_strong_read_sees_who_stepped_over_the_put_and_collected_it),
        TEST(the_reader_that_opens_a_namespace_needs_no_other_look),
        TEST(a_reader_asks_for_what_it_can_at_once),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("registry open", tests, NULL, NULL);
}
