/*
 * Power failures of the folder store, replayed at every point of a recorded run.
 *
 * The run is made of creates, deletes, reads, restarts and deaths between link and
 * fsync. Its system calls are recorded through dir_calls. After each of them the power
 * may fail: then a name survives for sure only if its folder was fsynced afterwards,
 * and a file's bytes only if the file was; everything later may be lost, kept, or kept
 * in part, name by name. Checked in every such state: what was acknowledged is there
 * and whole; what a reader was shown is there; what was acknowledged as deleted is
 * gone; whatever is visible is whole. That the checker can fail is shown by ignoring
 * one kind of fsync at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/dir_calls.h"
#include "store/store_dir.h"
#include "unit/scratch.h"
#include "unit/test.h"

enum {
    STEPS = 260,
    EVENTS_MAX = 8000,
    THINGS_MAX = 2000,
    NAME_SIZE = 96,
    NEVER = 1 << 30
};

enum event_kind {
    SET,       /* entry now names target (NONE: nothing), in the kernel's memory */
    WRITE,     /* to file target */
    SYNC_FILE, /* target */
    SYNC_DIR,  /* folder target */
    CREATING,  /* of key target … */
    CREATED,   /* … and its acknowledgement */
    DELETING,
    DELETED,
    SEEN /* key target was handed to a reader */
};

enum { NONE = -1 };

struct event {
    enum event_kind kind;
    int entry, target;
    int durable_at; /* SET: the event that makes it durable, or NEVER */
};

/* A name in a folder; folders that are made again are new folders. */
struct entry {
    int folder;
    char name[NAME_SIZE];
};

/* A file or a folder. */
struct thing {
    bool is_folder, alive;
    char path[NAME_SIZE]; /* of a folder, or of the temporary a file was written as */
    struct buf bytes;
    int whole_at; /* the event that made all its bytes durable */
};

static struct {
    char root[256];
    bool on;
    bool fail_next_folder_sync;
    struct event events[EVENTS_MAX];
    int event_count;
    struct entry entries[THINGS_MAX];
    int entry_count;
    struct thing things[THINGS_MAX]; /* 0 is the root */
    int thing_count;
    char keys[STEPS][NAME_SIZE];
    int key_count;
} tape;

static int note(enum event_kind kind, int entry, int target)
{
    assert_true(tape.event_count < EVENTS_MAX);
    tape.events[tape.event_count] = (struct event){kind, entry, target, NEVER};
    return tape.event_count++;
}

static int new_thing(const char *path, bool is_folder)
{
    assert_true(tape.thing_count < THINGS_MAX);
    struct thing *thing = &tape.things[tape.thing_count];
    thing->is_folder = is_folder;
    thing->alive = true;
    thing->whole_at = NEVER;
    snprintf(thing->path, sizeof thing->path, "%s", path);
    return tape.thing_count++;
}

static int find_thing(const char *path)
{
    for (int i = tape.thing_count - 1; i >= 0; i--)
        if (tape.things[i].alive && strcmp(tape.things[i].path, path) == 0) return i;
    return NONE;
}

static int entry_of(int folder, const char *name)
{
    for (int i = 0; i < tape.entry_count; i++)
        if (tape.entries[i].folder == folder && strcmp(tape.entries[i].name, name) == 0)
            return i;
    assert_true(tape.entry_count < THINGS_MAX);
    struct entry *entry = &tape.entries[tape.entry_count];
    entry->folder = folder;
    snprintf(entry->name, sizeof entry->name, "%s", name);
    return tape.entry_count++;
}

/* The path below root of an open file, "" for root. */
static void path_of(int fd, char *path, size_t size)
{
    char link[64], target[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, target, sizeof target - 1);
    assert_true(got > 0);
    target[got] = '\0';
    size_t root = strlen(tape.root);
    assert_memory_equal(target, tape.root, root);
    snprintf(path, size, "%s", target[root] == '/' ? target + root + 1 : "");
}

static void child_path(int folder, const char *name, char *path, size_t size)
{
    char parent[NAME_SIZE];
    path_of(folder, parent, sizeof parent);
    int whole = snprintf(path, size, "%s%s%s", parent, *parent ? "/" : "", name);
    assert_true(whole > 0 && (size_t)whole < size);
}

static bool is_temporary(const char *path)
{
    return strncmp(path, ".tmp", 4) == 0;
}

static ssize_t taped_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    char path[NAME_SIZE];
    ssize_t wrote = pwrite(fd, data, size, offset);
    if (!tape.on || wrote <= 0) return wrote;
    path_of(fd, path, sizeof path);
    int file = find_thing(path);
    if (file == NONE) file = new_thing(path, false);
    assert_int_equal(tape.things[file].bytes.size, offset);
    buf_append(&tape.things[file].bytes, data, (size_t)wrote);
    (void)note(WRITE, NONE, file);
    return wrote;
}

static int taped_fsync(int fd)
{
    char path[NAME_SIZE];
    struct stat about;
    if (!tape.on) return 0; /* the disk is never asked: this test decides */
    assert_int_equal(fstat(fd, &about), 0);
    path_of(fd, path, sizeof path);
    bool folder = S_ISDIR(about.st_mode);
    if (folder && tape.fail_next_folder_sync && !is_temporary(path)) {
        tape.fail_next_folder_sync = false;
        errno = EIO;
        return -1;
    }
    int thing = find_thing(path);
    if (thing != NONE) (void)note(folder ? SYNC_DIR : SYNC_FILE, NONE, thing);
    return 0;
}

static int taped_linkat(int from, const char *old_name, int to, const char *name,
                        int flags)
{
    char source[NAME_SIZE], folder[NAME_SIZE];
    int failed = linkat(from, old_name, to, name, flags);
    if (!tape.on || failed) return failed;
    path_of(to, folder, sizeof folder);
    if (is_temporary(folder)) return 0;
    child_path(from, old_name, source, sizeof source);
    (void)note(SET, entry_of(find_thing(folder), name), find_thing(source));
    return 0;
}

static int taped_unlinkat(int at, const char *name, int flags)
{
    char folder[NAME_SIZE], path[NAME_SIZE];
    int failed = unlinkat(at, name, flags);
    if (!tape.on || failed) return failed;
    path_of(at, folder, sizeof folder);
    if (is_temporary(folder)) return 0;
    child_path(at, name, path, sizeof path);
    if (flags & AT_REMOVEDIR) tape.things[find_thing(path)].alive = false;
    (void)note(SET, entry_of(find_thing(folder), name), NONE);
    return 0;
}

static int taped_mkdirat(int at, const char *name, mode_t mode)
{
    char folder[NAME_SIZE], path[NAME_SIZE];
    int failed = mkdirat(at, name, mode);
    if (!tape.on || failed) return failed;
    path_of(at, folder, sizeof folder);
    child_path(at, name, path, sizeof path);
    (void)note(SET, entry_of(find_thing(folder), name), new_thing(path, true));
    return 0;
}

static int plain_open(int root, const char *path, int flags)
{
    return dir_calls_libc.open_beneath(root, path, flags);
}

/* The run. */

static void ignore_poison(void *context, const char *why)
{
    (void)context;
    (void)why;
}

static struct store *open_store(struct op *op, const char *root)
{
    const struct store_dir_options options = {.root = root,
                                              .allow_unsafe_fs = true,
                                              .on_poison = ignore_poison};
    struct store *store = NULL;
    assert_int_equal(store_dir_open(op, &options, &store), ERR_OK);
    return store;
}

static int new_key(uint64_t *random)
{
    assert_true(tape.key_count < STEPS);
    snprintf(tape.keys[tape.key_count], NAME_SIZE, "n%d/%s/%03d",
             (int)(test_random(random) % 6), test_random(random) % 2 ? "wal" : "m/v",
             tape.key_count);
    return tape.key_count++;
}

static void step_create(struct op *op, struct store *store, int key, uint64_t *random)
{
    char bytes[2000];
    int size = snprintf(bytes, sizeof bytes, "%s %0*d", tape.keys[key],
                        (int)(test_random(random) % 1500), key);
    (void)note(CREATING, NONE, key);
    enum err e = store_create(op, store, tape.keys[key], slice_of(bytes, (size_t)size));
    if (!e) (void)note(CREATED, NONE, key);
}

static void step_delete(struct op *op, struct store *store, int key)
{
    const char *keys[1] = {tape.keys[key]};
    (void)note(DELETING, NONE, key);
    if (!store_delete(op, store, keys, 1)) (void)note(DELETED, NONE, key);
}

static void step_get(struct op *op, struct store *store, int key)
{
    struct buf out = BUF_INIT;
    if (!store_get(op, store, tape.keys[key], 4000, &out)) (void)note(SEEN, NONE, key);
    buf_release(&out);
}

/* For every change the event that made it durable. */
static void find_durability(bool ignore_files, bool ignore_leaves, bool ignore_parents)
{
    for (int i = 0; i < tape.thing_count; i++)
        tape.things[i].whole_at = NEVER;
    for (int i = 0; i < tape.event_count; i++) {
        struct event *event = &tape.events[i];
        event->durable_at = NEVER;
        if (event->kind == WRITE) tape.things[event->target].whole_at = NEVER;
        if (event->kind == SYNC_FILE && !ignore_files)
            tape.things[event->target].whole_at = i;
        if (event->kind != SYNC_DIR) continue;
        bool parent = strchr(tape.things[event->target].path, '/') == NULL;
        if (parent ? ignore_parents : ignore_leaves) continue;
        for (int k = 0; k < i; k++) {
            struct event *earlier = &tape.events[k];
            if (earlier->kind == SET && earlier->durable_at == NEVER &&
                tape.entries[earlier->entry].folder == event->target)
                earlier->durable_at = i;
        }
    }
}

static const struct dir_calls taped_calls = {taped_pwrite,   taped_fsync,
                                             taped_linkat,   taped_unlinkat,
                                             taped_mkdirat,  plain_open,
                                             sync_file_range};

static void record(uint64_t seed)
{
    struct scratch scratch;
    struct op op;
    uint64_t random = seed;

    scratch_make(&scratch);
    op_init(&op, OP_NO_DEADLINE, 0);
    memset(&tape, 0, sizeof tape);
    snprintf(tape.root, sizeof tape.root, "%s", scratch.path);
    struct store *store = open_store(&op, tape.root);
    (void)new_thing("", true);
    tape.on = true;

    for (int step = 0; step < STEPS; step++) {
        uint64_t choice = test_random(&random) % 20;
        int old = tape.key_count
                      ? (int)(test_random(&random) % (uint64_t)tape.key_count)
                      : NONE;
        if (choice < 10 || old == NONE) {
            step_create(&op, store, new_key(&random), &random);
        } else if (choice < 14) {
            step_delete(&op, store, old);
        } else if (choice < 17) {
            step_get(&op, store, old);
        } else if (choice < 18) {
            step_create(&op, store, old, &random);
        } else {
            /* The process dies, often between a link and its fsync. */
            tape.fail_next_folder_sync = choice == 19;
            int key = new_key(&random);
            step_create(&op, store, key, &random);
            tape.fail_next_folder_sync = false;
            store_free(store);
            store = open_store(&op, tape.root);
            step_get(&op, store, key);
        }
    }
    tape.on = false;
    store_free(store);
    op_release(&op);
    scratch_remove(&scratch);
}

static void forget_tape(void)
{
    for (int i = 0; i < tape.thing_count; i++)
        buf_release(&tape.things[i].bytes);
}

/* The failure. */

enum fate { LOSE_ALL, KEEP_ALL, KEEP_SOME, FATES };

/* What each entry names after a failure just before event `at`. */
static void fail_at(int at, enum fate fate, uint64_t *random, int named[THINGS_MAX])
{
    for (int i = 0; i < tape.entry_count; i++)
        named[i] = NONE;
    for (int i = 0; i < at; i++) {
        const struct event *event = &tape.events[i];
        if (event->kind != SET) continue;
        bool kept = event->durable_at < at || fate == KEEP_ALL ||
                    (fate == KEEP_SOME && test_random(random) % 2);
        if (kept) named[event->entry] = event->target;
    }
}

static int look_up(const int named[THINGS_MAX], int folder, const char *name)
{
    for (int i = 0; i < tape.entry_count; i++)
        if (tape.entries[i].folder == folder && strcmp(tape.entries[i].name, name) == 0)
            return named[i];
    return NONE;
}

static int resolve(const int named[THINGS_MAX], const char *key)
{
    char path[NAME_SIZE], *rest = path;
    int at = 0;
    snprintf(path, sizeof path, "%s", key);
    for (char *name; at != NONE && (name = strsep(&rest, "/"));)
        at = look_up(named, at, name);
    return at;
}

/* What the last words about a key before `at` demand. */
enum demand { FREE, PRESENT, ABSENT };

static enum demand demand_of(int key, int at)
{
    enum demand demand = ABSENT; /* nobody ever wrote it */
    for (int i = 0; i < at; i++) {
        if (tape.events[i].target != key) continue;
        switch (tape.events[i].kind) {
        case CREATED:
        case SEEN: demand = PRESENT; break;
        case DELETED: demand = ABSENT; break;
        case CREATING:
            if (demand == ABSENT) demand = FREE;
            break;
        case DELETING: demand = FREE; break;
        default: break;
        }
    }
    return demand;
}

/* How many rules are broken in one state. */
static int violations(const int named[THINGS_MAX], int at, const enum demand *demands)
{
    int broken = 0;
    for (int key = 0; key < tape.key_count; key++) {
        int file = resolve(named, tape.keys[key]);
        if (demands[key] == PRESENT && file == NONE) broken++;
        if (demands[key] == ABSENT && file != NONE) broken++;
        if (file != NONE && tape.things[file].whole_at >= at) broken++;
    }
    return broken;
}

static int check_every_point(uint64_t seed)
{
    static int named[THINGS_MAX];
    static enum demand demands[STEPS];
    uint64_t random = seed;
    int broken = 0;

    for (int at = 0; at <= tape.event_count; at++) {
        for (int key = 0; key < tape.key_count; key++)
            demands[key] = demand_of(key, at);
        for (int fate = 0; fate < FATES; fate++) {
            fail_at(at, (enum fate)fate, &random, named);
            broken += violations(named, at, demands);
        }
    }
    return broken;
}

static void no_power_failure_breaks_a_promise(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    record(seed);
    find_durability(false, false, false);
    print_message("%d system calls and answers, %d states\n", tape.event_count,
                  (tape.event_count + 1) * FATES);
    assert_true(tape.event_count > 1000);
    assert_int_equal(check_every_point(seed), 0);
    forget_tape();
}

static void a_store_that_skips_a_kind_of_fsync_is_caught(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    record(seed);
    find_durability(true, false, false);
    assert_true(check_every_point(seed) > 0);
    find_durability(false, true, false);
    assert_true(check_every_point(seed) > 0);
    find_durability(false, false, true);
    assert_true(check_every_point(seed) > 0);
    forget_tape();
}

/* Builds the state below a real folder. */
static void build(const char *root, const int named[THINGS_MAX], int folder)
{
    for (int i = 0; i < tape.entry_count; i++) {
        char path[512];
        if (tape.entries[i].folder != folder || named[i] == NONE) continue;
        const struct thing *thing = &tape.things[named[i]];
        snprintf(path, sizeof path, "%s/%s", root, tape.entries[i].name);
        if (thing->is_folder) {
            assert_int_equal(mkdir(path, 0700), 0);
            build(path, named, named[i]);
            continue;
        }
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, thing->bytes.data, thing->bytes.size),
                         thing->bytes.size);
        assert_int_equal(close(fd), 0);
    }
}

static void a_store_opens_on_what_a_power_failure_left(void **state)
{
    (void)state;
    static int named[THINGS_MAX];
    uint64_t seed = test_seed(), random = seed;

    record(seed);
    find_durability(false, false, false);
    for (int round = 0; round < 30; round++) {
        struct scratch scratch;
        struct op op;
        int at = (int)(test_random(&random) % (uint64_t)(tape.event_count + 1));
        scratch_make(&scratch);
        op_init(&op, OP_NO_DEADLINE, 0);
        fail_at(at, (enum fate)(round % FATES), &random, named);
        build(scratch.path, named, 0);
        struct store *store = open_store(&op, scratch.path);
        for (int key = 0; key < tape.key_count; key++) {
            struct buf out = BUF_INIT;
            enum demand demand = demand_of(key, at);
            enum err e = store_get(&op, store, tape.keys[key], 4000, &out);
            assert_true(e == ERR_OK || e == ERR_NOT_FOUND);
            if (demand != FREE) assert_int_equal(e == ERR_OK, demand == PRESENT);
            if (!e)
                assert_memory_equal(out.data, tape.keys[key], strlen(tape.keys[key]));
            enum err again =
                store_create(&op, store, tape.keys[key], SLICE_LITERAL("x"));
            assert_int_equal(again, e ? ERR_OK : ERR_CONFLICT);
            buf_release(&out);
        }
        store_free(store);
        op_release(&op);
        scratch_remove(&scratch);
    }
    forget_tape();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_power_failure_breaks_a_promise),
        cmocka_unit_test(a_store_that_skips_a_kind_of_fsync_is_caught),
        cmocka_unit_test(a_store_opens_on_what_a_power_failure_left),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    dir_calls = &taped_calls;
    /* No disk is needed, and one that others keep busy would cost a minute. */
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests_name("powerfail", tests, NULL, NULL);
}
