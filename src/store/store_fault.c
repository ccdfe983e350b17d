/*
 * What happens to a call is decided in one place (decide), under the lock, from exactly
 * three draws per call; so the fate of call n depends on the seed and n, never on what
 * earlier calls were. The call itself runs without the lock.
 */
#include "store/store_fault.h"

#include <assert.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"

/* The arguments of one call, of whichever kind; later also of one in flight. */
struct call {
    enum store_call kind;
    struct store_range *ranges; /* read */
    size_t n;                   /* ranges, parts or keys */
    const char *key;            /* get, create, put */
    size_t size_max;            /* get */
    struct buf *out;
    const struct slice *parts;  /* create (one), put */
    const char *prefix, *after; /* list */
    char delimiter;
    const char **keys_out;
    size_t *n_out;
    const char *const *keys; /* delete */
};

/* A write that was answered and has not been applied. Owns copies of its arguments. */
struct late {
    struct late *next;
    uint64_t lands_at; /* before this call */
    enum store_call kind;
    char **keys; /* n of them; one for create and put */
    size_t n;
    struct buf bytes;
};

struct store_fault {
    struct store base;
    struct store *inner;
    struct mutex lock; /* guards everything below */
    struct fault_plan plan;
    uint64_t random;
    uint64_t calls;
    uint64_t hits[FAULT_COUNT][CALL_KINDS];
    struct late *late; /* oldest first */
    bool doomed;       /* death comes before the next call */
    bool dead;
};

/* What decide found for one call. */
struct fate {
    enum fault fault;
    uint64_t number;
    uint64_t late_calls;
    int64_t delay_ms;
    bool doomed, dead;
};

static struct store_fault *fault_of(struct store *s)
{
    return (struct store_fault *)s;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(struct store_fault *f)
{
    uint64_t z = f->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static enum fault weather(const struct fault_plan *plan, uint64_t drawn)
{
    double left = (double)(drawn >> 11) * 0x1p-53;
    for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        if (left < plan->probability[fault]) return (enum fault)fault;
        left -= plan->probability[fault];
    }
    return FAULT_NONE;
}

static struct fate decide(struct store_fault *f, enum store_call kind)
{
    struct fate fate = {0};

    mutex_lock(&f->lock);
    fate.dead = f->dead;
    if (!f->dead) {
        const struct fault_plan *plan = &f->plan;
        uint64_t drawn[3] = {draw(f), draw(f), draw(f)};
        uint64_t late_max = plan->late_calls_max ? plan->late_calls_max : 1;

        fate.number = ++f->calls;
        fate.fault =
            fate.number == plan->at_call ? plan->at_fault : weather(plan, drawn[0]);
        fate.late_calls = 1 + drawn[1] % late_max;
        if (plan->delay_ms_max > 0)
            fate.delay_ms = (int64_t)(drawn[2] % ((uint64_t)plan->delay_ms_max + 1));
        fate.doomed = f->dead = f->doomed;
        if (!f->doomed) f->hits[fate.fault][kind]++;
        if (fate.fault == FAULT_DIE_AFTER) f->doomed = true;
    }
    mutex_unlock(&f->lock);
    return fate;
}

static void late_free(struct late *late)
{
    for (size_t i = 0; i < late->n; i++)
        mem_free(late->keys[i]);
    mem_free(late->keys);
    buf_release(&late->bytes);
    mem_free(late);
}

static void postpone(struct store_fault *f, const struct call *call, uint64_t lands_at)
{
    struct late *late = mem_new(struct late);
    late->lands_at = lands_at;
    late->kind = call->kind;
    if (call->kind == CALL_DELETE) {
        late->n = call->n;
        late->keys = mem_new_array(char *, call->n);
        for (size_t i = 0; i < call->n; i++)
            late->keys[i] = mem_strdup(call->keys[i]);
    } else {
        late->n = 1;
        late->keys = mem_new_array(char *, 1);
        late->keys[0] = mem_strdup(call->key);
        for (size_t i = 0; i < call->n; i++)
            buf_append_slice(&late->bytes, call->parts[i]);
    }

    mutex_lock(&f->lock);
    struct late **end = &f->late;
    while (*end)
        end = &(*end)->next;
    *end = late;
    mutex_unlock(&f->lock);
}

/* The oldest write that lands before call number `number`, now the caller's; or NULL.
 */
static struct late *take_due(struct store_fault *f, uint64_t number)
{
    struct late *due = NULL;

    mutex_lock(&f->lock);
    for (struct late **at = &f->late; *at; at = &(*at)->next) {
        if ((*at)->lands_at > number) continue;
        due = *at;
        *at = due->next;
        break;
    }
    mutex_unlock(&f->lock);
    return due;
}

static enum err forward(struct op *op, struct store *inner, const struct call *c)
{
    switch (c->kind) {
    case CALL_READ: return inner->ops->read(op, inner, c->ranges, c->n);
    case CALL_GET: return inner->ops->get(op, inner, c->key, c->size_max, c->out);
    case CALL_CREATE: return inner->ops->create(op, inner, c->key, c->parts[0]);
    case CALL_PUT: return inner->ops->put(op, inner, c->key, c->parts, c->n);
    case CALL_LIST:
        return inner->ops->list(op, inner, c->prefix, c->after, c->delimiter,
                                c->keys_out, c->n_out);
    case CALL_DELETE: return inner->ops->delete (op, inner, c->keys, c->n);
    case CALL_KINDS: break;
    }
    assert(!"a call of no kind");
    return ERR_INVALID;
}

/* Nobody waits for the answer any more, so there is none to give. */
static void land(struct store_fault *f, struct late *late)
{
    struct op op;
    struct slice bytes = buf_slice(&late->bytes);
    struct call call = {.kind = late->kind,
                        .key = late->keys[0],
                        .keys = (const char *const *)late->keys,
                        .parts = &bytes,
                        .n = late->n};

    op_init(&op, OP_NO_DEADLINE, 0);
    (void)forward(&op, f->inner, &call);
    op_release(&op);
    late_free(late);
}

static void land_due(struct store_fault *f, uint64_t number)
{
    struct late *late;
    while ((late = take_due(f, number)))
        land(f, late);
}

static bool writes(enum store_call kind)
{
    return kind == CALL_CREATE || kind == CALL_PUT || kind == CALL_DELETE;
}

static enum err answer(struct op *op, const struct call *call, enum err e,
                       const struct fate *fate)
{
    if (call->kind == CALL_READ)
        for (size_t i = 0; i < call->n; i++)
            call->ranges[i].err = e;
    return op_fail(op, e, "injected fault %d at store call %llu", (int)fate->fault,
                   (unsigned long long)fate->number);
}

static enum err answer_unknown(struct op *op, const struct call *call,
                               const struct fate *fate)
{
    return answer(op, call, call->kind == CALL_CREATE ? ERR_UNKNOWN : ERR_IO, fate);
}

/* No lock is held here: on_death may jump out. */
static void die(struct store_fault *f)
{
    mutex_lock(&f->lock);
    f->dead = true;
    struct fault_plan plan = f->plan;
    mutex_unlock(&f->lock);
    if (plan.on_death) plan.on_death(plan.context);
}

static enum err suffer_write(struct op *op, struct store_fault *f,
                             const struct call *call, const struct fate *fate)
{
    switch (fate->fault) {
    case FAULT_FAIL: return answer(op, call, ERR_IO, fate);
    case FAULT_FULL: return answer(op, call, ERR_FULL, fate);
    case FAULT_LATE: postpone(f, call, fate->number + fate->late_calls); break;
    case FAULT_LOST_ANSWER:
        (void)forward(op, f->inner, call);
        op_clear_error(op);
        break;
    default: break;
    }
    return answer_unknown(op, call, fate);
}

static enum err suffer(struct op *op, struct store_fault *f, const struct call *call)
{
    struct fate fate = decide(f, call->kind);
    if (fate.dead) return answer(op, call, ERR_IO, &fate);

    land_due(f, fate.number);
    if (fate.doomed) {
        die(f);
        return answer(op, call, ERR_IO, &fate);
    }
    if (fate.delay_ms) task_sleep_ms(fate.delay_ms);

    switch (fate.fault) {
    case FAULT_NONE:
    case FAULT_DIE_AFTER: return forward(op, f->inner, call);
    case FAULT_DIE_LOST:
        if (writes(call->kind)) (void)forward(op, f->inner, call);
        op_clear_error(op);
        die(f);
        return answer_unknown(op, call, &fate);
    case FAULT_DIE_BEFORE: die(f); return answer_unknown(op, call, &fate);
    default: break;
    }
    if (!writes(call->kind)) return answer(op, call, ERR_IO, &fate);
    return suffer_write(op, f, call, &fate);
}

static enum err store_fault_read(struct op *op, struct store *s,
                                 struct store_range *ranges, size_t n)
{
    struct call call = {.kind = CALL_READ, .ranges = ranges, .n = n};
    return suffer(op, fault_of(s), &call);
}

static enum err store_fault_get(struct op *op, struct store *s, const char *key,
                                size_t size_max, struct buf *out)
{
    struct call call = {.kind = CALL_GET, .key = key, .size_max = size_max, .out = out};
    return suffer(op, fault_of(s), &call);
}

static enum err store_fault_create(struct op *op, struct store *s, const char *key,
                                   struct slice data)
{
    struct call call = {.kind = CALL_CREATE, .key = key, .parts = &data, .n = 1};
    return suffer(op, fault_of(s), &call);
}

static enum err store_fault_put(struct op *op, struct store *s, const char *key,
                                const struct slice *parts, size_t n)
{
    struct call call = {.kind = CALL_PUT, .key = key, .parts = parts, .n = n};
    return suffer(op, fault_of(s), &call);
}

static enum err
store_fault_list(struct op *op, struct store *s, const char *prefix, const char *after,
                 char delimiter, const char **keys,
                 size_t *n) /* NOLINT(readability-non-const-parameter) */
{
    struct call call = {.kind = CALL_LIST,
                        .prefix = prefix,
                        .after = after,
                        .delimiter = delimiter,
                        .keys_out = keys,
                        .n_out = n};
    return suffer(op, fault_of(s), &call);
}

static enum err store_fault_delete(struct op *op, struct store *s,
                                   const char *const *keys, size_t n)
{
    struct call call = {.kind = CALL_DELETE, .keys = keys, .n = n};
    return suffer(op, fault_of(s), &call);
}

static void store_fault_free(struct store *s)
{
    struct store_fault *f = fault_of(s);
    while (f->late) {
        struct late *next = f->late->next;
        late_free(f->late);
        f->late = next;
    }
    store_free(f->inner);
    mutex_release(&f->lock);
    mem_free(f);
}

/* Never fails: what it leaves for the next time does no harm. */
static enum err store_fault_sweep(struct op *op, struct store *s, const char *prefix,
                                  int64_t age_ms, uint64_t *ended)
{
    return store_sweep(op, fault_of(s)->inner, prefix, age_ms, ended);
}

static const struct store_ops fault_ops = {
    .name = "fault",
    .read = store_fault_read,
    .get = store_fault_get,
    .create = store_fault_create,
    .put = store_fault_put,
    .list = store_fault_list,
    .delete = store_fault_delete,
    .sweep = store_fault_sweep,
    .free = store_fault_free,
};

struct store *store_fault_new(struct store *inner, const struct fault_plan *plan)
{
    struct store_fault *f = mem_new(struct store_fault);
    f->base.ops = &fault_ops;
    f->inner = inner;
    mutex_init(&f->lock);
    store_fault_plan(&f->base, plan);
    return &f->base;
}

void store_fault_plan(struct store *fault, const struct fault_plan *plan)
{
    struct store_fault *f = fault_of(fault);
    assert(fault->ops == &fault_ops);

    mutex_lock(&f->lock);
    f->plan = *plan;
    f->random = plan->seed;
    f->doomed = f->dead = false;
    mutex_unlock(&f->lock);
}

uint64_t store_fault_calls(struct store *fault)
{
    struct store_fault *f = fault_of(fault);
    assert(fault->ops == &fault_ops);

    mutex_lock(&f->lock);
    uint64_t calls = f->calls;
    mutex_unlock(&f->lock);
    return calls;
}

uint64_t store_fault_hits(struct store *fault, enum fault kind, enum store_call call)
{
    struct store_fault *f = fault_of(fault);
    assert(fault->ops == &fault_ops);
    assert(kind < FAULT_COUNT && call < CALL_KINDS);

    mutex_lock(&f->lock);
    uint64_t hits = f->hits[kind][call];
    mutex_unlock(&f->lock);
    return hits;
}

void store_fault_flush(struct store *fault)
{
    assert(fault->ops == &fault_ops);
    land_due(fault_of(fault), UINT64_MAX);
}
