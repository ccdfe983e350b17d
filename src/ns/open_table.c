#include "ns/open_table.h"

#include "base/codec.h"
#include "base/task.h"
#include "cache/cache.h"
#include "ns/namespace.h"
#include "ns/upkeep.h"

enum {
    BUCKETS = 4096,
    CLOSE_BUCKETS = 32 /* looked at in one go; divides their number */
};

struct slot {
    struct slot *next;
    struct namespace *ns;
    bool used;       /* since the hand last passed */
    int64_t used_ms; /* when it was asked for last */
};

struct open_table {
    const struct registry_options *env;
    struct opener *opener;
    size_t close_hand; /* bucket at which the next open_table_close_idle begins */
    struct mutex lock; /* guards what follows; taken before that of a namespace */
    struct slot *buckets[BUCKETS];
    size_t count;
    size_t clock_hand; /* bucket at which the next search for an idle one begins */
};

struct open_table *open_table_new(const struct registry_options *env,
                                  struct opener *opener)
{
    struct open_table *t = mem_new(struct open_table);
    t->env = env;
    t->opener = opener;
    mutex_init(&t->lock);
    return t;
}

void open_table_free(struct open_table *t)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (t->buckets[i]) {
            struct slot *slot = t->buckets[i];
            t->buckets[i] = slot->next;
            namespace_unref(slot->ns);
            mem_free(slot);
        }
    }
    mutex_release(&t->lock);
    mem_free(t);
}

static struct slot **bucket_of(struct open_table *t, const char *name)
{
    return &t->buckets[xxh3_64(name, strlen(name)) % BUCKETS];
}

/* The open namespace of that name, a reference, or NULL. A dropped one is taken out. */
static struct namespace *get(struct open_table *t, const char *name)
{
    struct namespace *found = NULL, *dead = NULL;

    mutex_lock(&t->lock);
    for (struct slot **at = bucket_of(t, name); *at; at = &(*at)->next) {
        struct slot *slot = *at;
        if (strcmp(slot->ns->keys.name, name) != 0) continue;
        if (namespace_dropped(slot->ns)) {
            *at = slot->next;
            dead = slot->ns;
            mem_free(slot);
            t->count--;
        } else {
            found = namespace_ref(slot->ns);
            slot->used = true;
            slot->used_ms = clock_ms();
        }
        break;
    }
    mutex_unlock(&t->lock);
    if (dead) namespace_unref(dead);
    return found;
}

/* Adds ns unless its name is there; the one that is in the table, a reference. Takes
 * ns over. */
static struct namespace *put(struct open_table *t, struct namespace *ns)
{
    mutex_lock(&t->lock);
    struct slot **bucket = bucket_of(t, ns->keys.name);
    for (struct slot *slot = *bucket; slot; slot = slot->next) {
        if (strcmp(slot->ns->keys.name, ns->keys.name) != 0) continue;
        struct namespace *there = namespace_ref(slot->ns);
        mutex_unlock(&t->lock);
        namespace_unref(ns);
        return there;
    }
    struct slot *slot = mem_new(struct slot);
    slot->ns = ns;
    slot->used = true;
    slot->used_ms = clock_ms();
    slot->next = *bucket;
    *bucket = slot;
    t->count++;
    mutex_unlock(&t->lock);
    return namespace_ref(ns);
}

/* Takes the first namespace out of the bucket that nobody uses or has used since the
 * hand came by. */
static struct namespace *bucket_evict(struct open_table *t, struct slot **bucket)
{
    for (struct slot **at = bucket; *at; at = &(*at)->next) {
        struct slot *slot = *at;
        bool used = slot->used;
        slot->used = false;
        if (used || !namespace_idle(slot->ns)) continue;
        struct namespace *ns = slot->ns;
        *at = slot->next;
        mem_free(slot);
        t->count--;
        return ns;
    }
    return NULL;
}

/* What is held by open namespaces leaves little of the memory to ranges. */
static bool memory_pressed(struct open_table *t)
{
    struct cache_usage usage = cache_usage(t->env->cache);
    return usage.reserved_bytes > usage.memory_max / 4 * 3;
}

/*
 * Closes an idle namespace if as many are open as may be, or if they fill the memory;
 * true if there is room for another one then. The hand goes round twice: in the first
 * round it takes what was not used since it last came by (the clock algorithm).
 */
static bool make_room(struct open_table *t)
{
    struct namespace *idle = NULL;
    bool pressed = memory_pressed(t);

    mutex_lock(&t->lock);
    bool full = t->count >= t->env->open_max;
    for (size_t i = 0; (full || pressed) && !idle && i < 2 * (size_t)BUCKETS; i++) {
        idle = bucket_evict(t, &t->buckets[t->clock_hand]);
        if (!idle) t->clock_hand = (t->clock_hand + 1) % BUCKETS;
    }
    mutex_unlock(&t->lock);
    if (idle) namespace_unref(idle);
    return !full || idle;
}

struct namespace *open_table_next(struct open_table *t, struct walk *w)
{
    struct slot *slot = NULL;

    mutex_lock(&t->lock);
    for (; w->bucket < BUCKETS; w->bucket++, w->index = 0) {
        slot = t->buckets[w->bucket];
        for (size_t i = 0; slot && i < w->index; i++)
            slot = slot->next;
        if (slot) break;
    }
    w->index++;
    struct namespace *ns = slot ? namespace_ref(slot->ns) : NULL;
    mutex_unlock(&t->lock);
    return ns;
}

static enum err check_prefix(struct op *op, struct open_table *t, const char *name,
                             const struct catalog_record *record)
{
    if (strcmp(record->wal_prefix, t->env->wal_prefix) == 0) return ERR_OK;
    return op_fail(
        op, ERR_DENIED,
        "namespace \"%s\" was created with storage.s3.wal_prefix \"%s\", but "
        "this node has \"%s\"",
        name, record->wal_prefix, t->env->wal_prefix);
}

enum err open_table_find(struct op *op, struct open_table *t, const char *name,
                         struct namespace **out)
{
    struct catalog_record record;

    enum err e = namespace_name_check(op, slice_str(name));
    if (e) return e;
    *out = get(t, name);
    if (*out) return ERR_OK;

    e = catalog_newest(op, t->env->store, name, &record);
    if (e) return e;
    if (record.deleted)
        e = op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", name);
    if (!e) e = check_prefix(op, t, name, &record);
    if (!e && !make_room(t)) {
        op->retry_after_ms = 1000;
        e = op_fail(op, ERR_BUSY, "%u namespaces are busy on this node",
                    t->env->open_max);
    }
    if (!e) *out = put(t, namespace_new(t->env, t->opener, name, &record));
    catalog_release(&record);
    return e;
}

/* Nobody has asked for it for long, and all that it needed was done. */
static bool slumbers(const struct open_table *t, const struct slot *slot)
{
    return clock_ms() - slot->used_ms >= t->env->idle_close_ms &&
           namespace_idle(slot->ns) && upkeep_at_rest(slot->ns);
}

/* Takes idle namespaces out of a bucket; a list of their slots. */
static struct slot *bucket_take_idle(struct open_table *t, struct slot **bucket)
{
    struct slot *taken = NULL;
    for (struct slot **at = bucket; *at;) {
        struct slot *slot = *at;
        if (!slumbers(t, slot)) {
            at = &slot->next;
            continue;
        }
        *at = slot->next;
        slot->next = taken;
        taken = slot;
        t->count--;
    }
    return taken;
}

/* Looks at some of the table, so that its lock is held for a moment only. */
void open_table_close_idle(struct open_table *t)
{
    struct slot *slots[CLOSE_BUCKETS];

    mutex_lock(&t->lock);
    for (size_t i = 0; i < CLOSE_BUCKETS; i++)
        slots[i] = bucket_take_idle(t, &t->buckets[t->close_hand + i]);
    mutex_unlock(&t->lock);
    t->close_hand = (t->close_hand + CLOSE_BUCKETS) % BUCKETS;
    for (size_t i = 0; i < CLOSE_BUCKETS; i++) {
        for (struct slot *slot = slots[i], *next; slot; slot = next) {
            next = slot->next;
            namespace_unref(slot->ns);
            mem_free(slot);
        }
    }
}
