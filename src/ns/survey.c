#include "ns/survey.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/op.h"
#include "base/task.h"
#include "ns/catalog.h"
#include "ns/manifest.h"
#include "ns/namespace.h"
#include "ns/round.h"
#include "store/store.h"

enum { PAGE = 1000, FULL_MS = 24 * 3600 * 1000 };
/* The parts of an upload that is as old as this are nobody's: no segment takes a day.
 */
enum { UPLOAD_AGE_MS = 24 * 3600 * 1000 };

/* A namespace as the listings show it. */
struct sight {
    uint64_t name; /* hash */
    uint64_t log;  /* hash of the names of all its log objects; 0: it has none */
    bool deleted;  /* known after a closer look */
};

struct sights {
    struct sight *items; /* ascending by name once sorted */
    size_t count, capacity;
};

struct survey {
    const struct registry_options *env;
    struct sights known; /* what needs no closer look while its log stays as it is */
    int64_t full_ms;     /* when all were looked at; INT64_MIN: never */
};

/* A namespace that is looked at closely, side by side with others. */
struct glance {
    struct round *round;
    char name[NAMESPACE_NAME_MAX + 1];
    struct sight now;
    bool absent, settled, work; /* out */
};

/* One run. */
struct round {
    struct survey *survey;
    struct sights logs, next;
    struct glance glances[ROUND_CALLS_MAX]; /* to come */
    size_t glance_count;
    void (*work)(void *context, const char *name);
    void *context;
    uint64_t count;
};

struct survey *survey_new(const struct registry_options *env)
{
    struct survey *s = mem_new(struct survey);
    s->env = env;
    s->full_ms = INT64_MIN;
    return s;
}

void survey_free(struct survey *s)
{
    if (!s) return;
    mem_free(s->known.items);
    mem_free(s);
}

static void sights_add(struct sights *s, struct sight sight)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 256;
        s->items = mem_realloc(s->items, s->capacity * sizeof *s->items);
    }
    s->items[s->count++] = sight;
}

static int by_name(const void *a, const void *b)
{
    const struct sight *x = a, *y = b;
    return (x->name > y->name) - (x->name < y->name);
}

static void sights_sort(struct sights *s)
{
    if (s->count) qsort(s->items, s->count, sizeof *s->items, by_name);
}

static const struct sight *sights_find(const struct sights *s, uint64_t name)
{
    struct sight wanted = {.name = name};
    if (s->count == 0) return NULL;
    return bsearch(&wanted, s->items, s->count, sizeof wanted, by_name);
}

/* ---- listing ---- */

static void wal_folder(const struct registry_options *env, char out[STORE_KEY_MAX])
{
    bool prefixed = env->wal_prefix[0] != 0;
    (void)snprintf(out, STORE_KEY_MAX, "%s%swal/", env->wal_prefix,
                   prefixed ? "/" : "");
}

/* Adds one object of a log to what is seen of its namespace; they come in order. */
static void note_log(struct sights *logs, const char *key, size_t folder_size)
{
    const char *name = key + folder_size;
    size_t size = strcspn(name, "/");
    uint64_t hash = xxh3_64(name, size);
    struct sight *last = logs->count ? &logs->items[logs->count - 1] : NULL;

    if (!last || last->name != hash) {
        sights_add(logs, (struct sight){.name = hash});
        last = &logs->items[logs->count - 1];
    }
    last->log = last->log * 31 + xxh3_64(name, strlen(name));
    if (last->log == 0) last->log = 1;
}

/* Calls each(context, op, key) for every key with prefix; op lives for one page. */
static enum err
each_key(struct op *op, struct store *store, const char *prefix, char delimiter,
         enum err (*each)(void *context, struct op *op, const char *key), void *context)
{
    char behind[STORE_KEY_MAX] = "";
    enum err e = ERR_OK;

    for (size_t n = PAGE; !e && n == PAGE;) {
        const char *page[PAGE];
        struct op step;
        op_init(&step, op->deadline_ms, 0);
        e = op_check(op);
        if (!e) e = store_list(&step, store, prefix, behind, delimiter, page, &n);
        for (size_t i = 0; !e && i < n; i++) {
            e = op_check(op);
            if (!e) e = each(context, &step, page[i]);
        }
        if (e)
            (void)op_fail(op, e, "%s", step.error);
        else if (n)
            memcpy(behind, page[n - 1], strlen(page[n - 1]) + 1);
        op_release(&step);
    }
    return e;
}

struct log_listing {
    struct sights *logs;
    size_t folder_size;
};

static enum err each_log(void *context, struct op *op, const char *key)
{
    const struct log_listing *l = context;
    (void)op;
    note_log(l->logs, key, l->folder_size);
    return ERR_OK;
}

static enum err list_logs(struct op *op, struct survey *s, struct sights *logs)
{
    char folder[STORE_KEY_MAX];
    wal_folder(s->env, folder);
    struct log_listing l = {logs, strlen(folder)};
    enum err e = each_key(op, s->env->store, folder, 0, each_log, &l);
    sights_sort(logs);
    return e;
}

/* ---- a closer look ---- */

struct sweep {
    const struct registry_options *env;
    const char *name;
    const struct catalog_record *newest;
    size_t folder_size;
};

/* key: the folder of the log of an incarnation. */
static enum err each_incarnation(void *context, struct op *op, const char *key)
{
    const struct sweep *sweep = context;
    uint8_t incarnation[INCARNATION_SIZE];
    struct slice hex = slice_str(key + sweep->folder_size);
    struct keys keys;

    if (hex.size == 0 ||
        !hex_decode(slice_of(hex.data, hex.size - 1), incarnation, sizeof incarnation))
        return ERR_OK;
    bool current =
        !sweep->newest->deleted &&
        memcmp(incarnation, sweep->newest->incarnation, sizeof incarnation) == 0;
    if (current) return ERR_OK;
    keys_init(&keys, sweep->env->wal_prefix, sweep->name, incarnation);
    return gc_purge(op, sweep->env, &keys);
}

/* Finishes purges of a name's incarnations that a crash cut short, or that time makes
 * possible: whatever lies under another incarnation than the current one and is
 * recorded as deleted. Its log is the last to go. */
static enum err sweep(struct op *op, const struct registry_options *env,
                      const char *name, const struct catalog_record *newest)
{
    char folder[STORE_KEY_MAX];
    struct sweep s = {.env = env, .name = name, .newest = newest};

    if (env->read_only || strcmp(newest->wal_prefix, env->wal_prefix) != 0)
        return ERR_OK;
    wal_folder(env, folder);
    size_t size = strlen(folder);
    (void)snprintf(folder + size, sizeof folder - size, "%s/", name);
    s.folder_size = strlen(folder);
    return each_key(op, env->store, folder, '/', each_incarnation, &s);
}

/* Could the segments that a manifest names be fewer? */
static bool joinable(const struct registry_options *env, const struct manifest *m)
{
    uint64_t smallest = UINT64_MAX, second = UINT64_MAX;

    if (!env->compaction) return false;
    for (uint32_t i = 0; i < m->segment_count; i++) {
        uint64_t rows = m->segments[i].row_count - m->segments[i].dead_count;
        if (rows < smallest) {
            second = smallest;
            smallest = rows;
        } else if (rows < second) {
            second = rows;
        }
    }
    return m->segment_count > env->segments_max ||
           (m->segment_count >= 2 && smallest + second <= env->segment_docs_max);
}

static enum err has_work(struct op *op, const struct registry_options *env,
                         const struct keys *keys, bool *work)
{
    struct manifest *m = NULL;
    struct key after = {""};
    const char *key;
    size_t n = 1;

    enum err e = manifest_newest(op, env->store, keys, &m);
    if (e) return e;
    *work = m && joinable(env, m);
    if (m && m->wm) after = key_wal(keys, m->wm - 1);
    manifest_unref(m);
    if (*work) return ERR_OK;
    e = store_list(op, env->store, keys->wal, after.text, 0, &key, &n);
    *work = !e && n > 0;
    return e;
}

static bool owns(const struct registry_options *env, const char *name)
{
    return !env->read_only && (!env->owns || env->owns(env->context, name));
}

static enum err look(struct op *op, const struct registry_options *env,
                     struct glance *g)
{
    struct catalog_record record;

    enum err e = catalog_newest(op, env->store, g->name, &record);
    if (e) return e;
    g->now.deleted = record.deleted;
    e = owns(env, g->name) ? sweep(op, env, g->name, &record) : ERR_OK;
    bool ours = !e && !record.deleted && owns(env, g->name) &&
                strcmp(record.wal_prefix, env->wal_prefix) == 0;
    if (ours) {
        struct keys keys;
        keys_init(&keys, env->wal_prefix, g->name, record.incarnation);
        e = has_work(op, env, &keys, &g->work);
    }
    catalog_release(&record);
    return e;
}

/* Only what ends the whole survey is an error here. */
static enum err look_beside_others(struct op *op, void *arg)
{
    struct glance *g = arg;
    enum err e = look(op, g->round->survey->env, g);
    g->absent = e == ERR_NOT_FOUND; /* a folder without a catalog */
    g->settled = !e && !g->work;
    if (e == ERR_CANCELED || e == ERR_TIMEOUT) return e;
    if (e && !g->absent)
        log_warn(op, "a namespace was not looked at, will try again",
                 "namespace=%s error=%s", g->name, op->error);
    return ERR_OK;
}

static void note(struct round *r, struct sight now, bool settled)
{
    r->count += !now.deleted;
    if (settled) sights_add(&r->next, now);
}

/* All that wait for a closer look, at once; then the work that was found, one after
 * the other. */
static enum err look_at_all(struct op *op, struct round *r)
{
    struct round_call calls[ROUND_CALLS_MAX];
    size_t n = r->glance_count;

    r->glance_count = 0;
    for (size_t i = 0; i < n; i++)
        calls[i] =
            (struct round_call){.run = look_beside_others, .arg = &r->glances[i]};
    enum err e = round_run(op, calls, n);
    for (size_t i = 0; i < n && !e; i++) {
        const struct glance *g = &r->glances[i];
        if (!g->absent) note(r, g->now, g->settled);
        if (g->work) r->work(r->context, g->name);
        e = op_check(op);
    }
    return e;
}

/* key: "ns/<name>/". */
static enum err each_namespace(void *context, struct op *op, const char *key)
{
    struct round *r = context;
    struct slice name = slice_of(key + 3, strlen(key) - 4);
    uint64_t hash = xxh3_64(name.data, name.size);
    const struct sight *log = sights_find(&r->logs, hash);
    const struct sight *known = sights_find(&r->survey->known, hash);
    struct sight now = {.name = hash, .log = log ? log->log : 0};

    if (known && known->log == now.log) {
        now.deleted = known->deleted;
        note(r, now, true);
        return ERR_OK;
    }
    if (name.size > NAMESPACE_NAME_MAX) return ERR_OK; /* none of ours */
    struct glance *g = &r->glances[r->glance_count++];
    *g = (struct glance){.round = r, .now = now};
    memcpy(g->name, name.data, name.size);
    return r->glance_count == ROUND_CALLS_MAX ? look_at_all(op, r) : ERR_OK;
}

/* What processes that died in the middle of an upload left in the bucket. It costs
 * space only, so a failure waits for the next day. */
static void end_uploads(struct op *op, const struct registry_options *env)
{
    uint64_t ended;
    if (env->read_only) return;
    enum err e = store_sweep(op, env->store, "ns/", UPLOAD_AGE_MS, &ended);
    if (e && e != ERR_CANCELED)
        log_warn(op, "abandoned uploads were not ended", "error=%s", op->error);
    if (ended)
        log_info(op, "abandoned uploads ended", "uploads=%llu",
                 (unsigned long long)ended);
    op_clear_error(op);
}

enum err survey_run(struct op *op, struct survey *s,
                    void (*work)(void *context, const char *name), void *context,
                    uint64_t *count)
{
    struct round r = {.survey = s, .work = work, .context = context};
    int64_t began_ms = clock_ms();

    if (s->full_ms == INT64_MIN || began_ms - s->full_ms >= FULL_MS) {
        s->known.count = 0;
        s->full_ms = began_ms;
        end_uploads(op, s->env);
    }
    enum err e = list_logs(op, s, &r.logs);
    if (!e) e = each_key(op, s->env->store, "ns/", '/', each_namespace, &r);
    if (!e) e = look_at_all(op, &r);
    if (!e) {
        sights_sort(&r.next);
        struct sights old = s->known;
        s->known = r.next;
        r.next = old;
        *count = r.count;
    }
    mem_free(r.logs.items);
    mem_free(r.next.items);
    return e ? op_fail(op, e, "survey the namespaces") : ERR_OK;
}
