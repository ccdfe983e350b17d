/*
 * PROTOCOL.md section 12, over the six calls: what passes here is what the rest uses.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/store_s3.h"

enum { RACERS = 8, TEXT_MAX = 64, FOLDER_MAX = 64, KEY_MAX = 96, OBJECTS_MAX = 8 };
enum { CLEAN_MS = 2000 }; /* for the look at what a failed probe left behind */

struct probe {
    struct op *op;
    struct store *store;
    char folder[FOLDER_MAX]; /* "probe/<random>/" */
};

static void name(const struct probe *p, const char *leaf, char out[KEY_MAX])
{
    (void)snprintf(out, KEY_MAX, "%s%s", p->folder, leaf);
}

static enum err create(struct probe *p, const char *leaf, const char *text)
{
    char key[KEY_MAX];
    name(p, leaf, key);
    enum err e = store_create(p->op, p->store, key, slice_str(text));
    if (e == ERR_CONFLICT) op_clear_error(p->op);
    return e;
}

/* Nothing was there before, so after an unknown outcome a conflict is with ourselves.
 */
static enum err create_fresh(struct probe *p, const char *leaf, const char *text)
{
    enum err e = create(p, leaf, text);
    if (e == ERR_UNKNOWN) {
        op_clear_error(p->op);
        e = create(p, leaf, text);
        if (e == ERR_CONFLICT) return ERR_OK;
    }
    if (e == ERR_CONFLICT)
        return op_fail(p->op, ERR_DENIED,
                       "the store says that something is where nothing was");
    return e == ERR_UNKNOWN ? ERR_IO : e;
}

static enum err holds(struct probe *p, const char *leaf, const char *text,
                      const char *otherwise)
{
    char key[KEY_MAX];
    struct buf out = BUF_INIT;
    name(p, leaf, key);
    enum err e = store_get(p->op, p->store, key, TEXT_MAX, &out);
    if (!e && !slice_equal(buf_slice(&out), slice_str(text)))
        e = op_fail(p->op, ERR_DENIED, "%s", otherwise);
    buf_release(&out);
    return e;
}

static enum err second_create_loses(struct probe *p)
{
    static const char words[] = "the store does not honour If-None-Match (a second "
                                "create replaced the first): writes would be lost";
    enum err e = create_fresh(p, "once", "first");
    if (e) return e;
    e = create(p, "once", "second");
    if (e == ERR_OK) return op_fail(p->op, ERR_DENIED, "%s", words);
    if (e == ERR_UNKNOWN) op_clear_error(p->op);
    if (e != ERR_CONFLICT && e != ERR_UNKNOWN) return e;
    return holds(p, "once", "first", words);
}

struct racer {
    struct probe *probe;
    int number;
    enum err e;
};

static void race(void *arg)
{
    struct racer *r = arg;
    struct op op;
    char text[TEXT_MAX];
    op_init(&op, r->probe->op->deadline_ms, 0);
    struct probe own = *r->probe;
    own.op = &op;
    (void)snprintf(text, sizeof text, "racer %d", r->number);
    r->e = create(&own, "race", text);
    op_release(&op);
}

static enum err one_of_many_wins(struct probe *p)
{
    struct racer racers[RACERS];
    struct thread *threads[RACERS];
    char text[TEXT_MAX] = "";
    int winners = 0, unclear = 0;

    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){p, i, ERR_OK};
        threads[i] = thread_start("probe", race, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        thread_join(threads[i]);
        if (racers[i].e == ERR_OK) {
            winners++;
            (void)snprintf(text, sizeof text, "racer %d", i);
        } else if (racers[i].e != ERR_CONFLICT) {
            unclear++;
        }
    }
    if (winners > 1)
        return op_fail(p->op, ERR_DENIED,
                       "the store lets %d of %d simultaneous creates win: its "
                       "If-None-Match is not atomic, writes would be lost",
                       winners, RACERS);
    if (winners == 0 && unclear == 0)
        return op_fail(p->op, ERR_DENIED, "none of %d simultaneous creates won",
                       RACERS);
    return winners ? holds(p, "race", text,
                           "of simultaneous creates another was stored than won: the "
                           "store's If-None-Match is not atomic")
                   : ERR_OK;
}

static enum err expect_list(struct probe *p, const char *prefix, const char *after,
                            const char *const *leaves, size_t count)
{
    const char *keys[OBJECTS_MAX];
    char from[KEY_MAX], start[KEY_MAX], key[KEY_MAX];
    size_t n = OBJECTS_MAX;

    name(p, prefix, from);
    name(p, after, start);
    enum err e = store_list(p->op, p->store, from, *after ? start : "", 0, keys, &n);
    if (e) return e;
    for (size_t i = 0; i < count && i < n; i++) {
        name(p, leaves[i], key);
        if (strcmp(keys[i], key) != 0) n = OBJECTS_MAX + 1;
    }
    if (n == count) return ERR_OK;
    return op_fail(p->op, ERR_DENIED,
                   "the store does not list what was just written, all of it and in "
                   "byte order");
}

static enum err lists_are_whole_and_ordered(struct probe *p)
{
    static const char *const leaves[] = {"list/0-0", "list/0.0", "list/0/0",
                                         "list/00",  "list/A",   "list/a"};
    enum { COUNT = sizeof leaves / sizeof *leaves };
    for (size_t i = COUNT; i > 0; i--) {
        enum err e = create_fresh(p, leaves[i - 1], "x");
        if (e) return e;
    }
    enum err e = expect_list(p, "list/", "", leaves, COUNT);
    if (!e) e = expect_list(p, "list/", leaves[2], leaves + 3, COUNT - 3);
    return e;
}

static enum err ranges_are_exact(struct probe *p)
{
    char key[KEY_MAX];
    uint8_t room[4];
    struct store_range range = {.key = key, .offset = 3, .size = 4, .data = room};
    enum err e = create_fresh(p, "range", "0123456789");
    name(p, "range", key);
    if (!e) e = store_read(p->op, p->store, &range, 1);
    if (e || memcmp(room, "3456", 4) == 0) return e;
    return op_fail(p->op, ERR_DENIED, "the store answers a range with other bytes");
}

static enum err deletes_are_seen(struct probe *p)
{
    char key[KEY_MAX];
    const char *keys[] = {key};
    struct buf out = BUF_INIT;
    name(p, "range", key);
    enum err e = store_delete(p->op, p->store, keys, 1);
    if (e) return e;
    e = store_get(p->op, p->store, key, TEXT_MAX, &out);
    buf_release(&out);
    if (e == ERR_OK)
        return op_fail(p->op, ERR_DENIED, "the store still gives what was deleted");
    if (e == ERR_NOT_FOUND) op_clear_error(p->op);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err clean(struct probe *p)
{
    const char *keys[2 * OBJECTS_MAX];
    size_t n = 2 * OBJECTS_MAX;
    enum err e = store_list(p->op, p->store, p->folder, "", 0, keys, &n);
    return e ? e : store_delete(p->op, p->store, keys, n);
}

static void choose_folder(struct probe *p)
{
    uint8_t id[8];
    char hex[2 * sizeof id + 1];
    random_bytes(id, sizeof id);
    hex_encode(id, sizeof id, hex);
    (void)snprintf(p->folder, sizeof p->folder, "probe/%s/", hex);
}

/* What failed matters more than what is left behind. */
static void try_to_clean(struct probe *p)
{
    struct op own;
    struct probe mine = *p;
    op_init(&own, clock_ms() + CLEAN_MS, 0);
    mine.op = &own;
    (void)clean(&mine);
    op_release(&own);
}

enum err store_s3_probe(struct op *op, struct store *s)
{
    static enum err (*const steps[])(
        struct probe *) = {second_create_loses, one_of_many_wins,
                           lists_are_whole_and_ordered, ranges_are_exact,
                           deletes_are_seen};
    struct probe p = {.op = op, .store = s};
    enum err e = ERR_OK;

    choose_folder(&p);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !e; i++)
        e = steps[i](&p);
    if (!e) return clean(&p);
    try_to_clean(&p);
    return op_fail(op, e, "probe of the store");
}

enum err store_s3_probe_again(struct op *op, struct store *s)
{
    struct probe p = {.op = op, .store = s};
    choose_folder(&p);
    enum err e = second_create_loses(&p);
    try_to_clean(&p);
    return e ? op_fail(op, e, "repeated probe of the store") : ERR_OK;
}
