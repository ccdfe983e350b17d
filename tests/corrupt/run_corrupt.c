/*
 * run_corrupt.c - damage to every stored file, and what is answered then.
 *
 *   run_corrupt [--stride N] [--seed S] [--only KIND] [--verbose]
 *
 * A small store is made, with two namespaces in which every kind of object occurs, and
 * its answers to a list of questions are noted. Then, one at a time: every bit of every
 * object flipped, every object cut at every length and lengthened, pieces of 64 bytes
 * swapped within it, its 4 KiB pages zeroed, its bytes replaced by those of every other
 * object (older versions and earlier incarnations of the same name among them). After
 * each of these
 *
 *   - a fresh reader answers every question as before, or with an error that names the
 *     object; never otherwise;
 *   - elacsym verify finds it and names the object, unless that is left over from a
 *     namespace that was dropped;
 *   - now and then, a fresh owner opens the namespace and writes: once the damage is
 *     taken back, everything is there, what was acknowledged meanwhile too.
 *
 * And the disk cache's file is damaged in the same ways, over a whole store: every
 * answer is as before, and after it the cache holds good bytes again.
 *
 * --stride N does every Nth of them, beginning at one of chance: make test's slice.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "cache/slab.h"
#include "engine/engine.h"
#include "engine/folder.h"
#include "engine/sweep.h"
#include "inspect/stored_key.h"
#include "inspect/verify.h"
#include "store/store_dir.h"

enum {
    FILES_MAX = 64,
    QUESTIONS_MAX = 24,
    PATH_SIZE = 1024,
    PIECE = 64,
    PAGE = 4096,
    OWNER_EVERY = 64,  /* of the cases that were detected or not */
    ENGINE_EVERY = 32, /* of the cases of the disk cache */
    FAILURES_SHOWN = 10,
    VERIFY_MEMORY = 16 << 20,
    INDEX_SIZE = 1 << 20
};

/* ---- the store and its files ---- */

struct file {
    char key[STORE_KEY_MAX + 1];
    struct buf bytes;
    enum stored_kind kind;
    uint8_t incarnation[INCARNATION_SIZE];
    bool left_over; /* of a namespace that was dropped: nobody's any more */
};

static struct {
    char root[256], cache[300], slab[320];
    struct store *store;
    struct file files[FILES_MAX];
    size_t file_count;
    struct buf slab_bytes;
} world;

static struct sweep_options options;
static uint64_t chance;

static struct tally {
    uint64_t cases, refused, harmless, healed, owners, engines;
} tally[16], all;

static unsigned failures;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (failures++ < FAILURES_SHOWN) {
        (void)printf("FAILED: ");
        (void)vprintf(format, args);
        (void)printf("\n");
        (void)fflush(stdout);
    }
    va_end(args);
}

static _Noreturn void stop(const char *what)
{
    (void)printf("run_corrupt: %s\n1 failed\n", what);
    exit(1);
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(void)
{
    uint64_t z = chance += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void path_of(const char *key, char path[PATH_SIZE])
{
    (void)snprintf(path, PATH_SIZE, "%s/data/%s", world.root, key);
}

static void write_file(const char *path, struct slice bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes.data, bytes.size) != (ssize_t)bytes.size)
        stop("a file cannot be written");
    (void)close(fd);
}

static void read_file(const char *path, struct buf *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) stop("a file cannot be read");
    buf_clear(out);
    buf_reserve(out, (size_t)about.st_size + 1);
    if (read(fd, out->data, (size_t)about.st_size) != about.st_size)
        stop("a file cannot be read");
    out->size = (size_t)about.st_size;
    (void)close(fd);
}

static const char *key_of_path(const char *path)
{
    const char *key = path + strlen(world.root) + sizeof "/data/" - 1;
    return *key == '.' ? NULL : key; /* .tmp, .lock */
}

static int note_file(const char *path, const struct stat *about, int kind,
                     struct FTW *place)
{
    (void)about;
    (void)place;
    const char *key = kind == FTW_F ? key_of_path(path) : NULL;
    struct stored_key at;
    if (!key) return 0;
    if (!stored_key_parse(key, &at) || world.file_count == FILES_MAX)
        stop("an object that is not expected");
    struct file *f = &world.files[world.file_count++];
    (void)snprintf(f->key, sizeof f->key, "%s", key);
    f->kind = at.kind;
    memcpy(f->incarnation, at.incarnation, sizeof f->incarnation);
    read_file(path, &f->bytes);
    return 0;
}

static const struct file *find_file(const char *key)
{
    for (size_t i = 0; i < world.file_count; i++)
        if (strcmp(world.files[i].key, key) == 0) return &world.files[i];
    return NULL;
}

/* An incarnation lives as long as it has a manifest. */
static void note_leftovers(void)
{
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *f = &world.files[i];
        f->left_over = f->kind != STORED_CATALOG_RECORD;
        for (size_t k = 0; k < world.file_count && f->left_over; k++)
            f->left_over = world.files[k].kind != STORED_MANIFEST ||
                           memcmp(world.files[k].incarnation, f->incarnation,
                                  sizeof f->incarnation) != 0;
    }
}

static int remove_stranger(const char *path, const struct stat *about, int kind,
                           struct FTW *place)
{
    (void)about;
    (void)place;
    const char *key = kind == FTW_F ? key_of_path(path) : NULL;
    if (key && !find_file(key)) (void)unlink(path);
    return 0;
}

static void walk(int (*each)(const char *, const struct stat *, int, struct FTW *))
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/data", world.root);
    (void)nftw(path, each, 16, FTW_PHYS);
}

static void put_back(const struct file *f)
{
    char path[PATH_SIZE];
    path_of(f->key, path);
    write_file(path, buf_slice(&f->bytes));
}

/* ---- questions ---- */

struct question {
    const char *method, *path, *body;
};

#define NS "/v1/namespaces/films"
static const struct question questions[] = {
    {"GET", NS "/documents/7", NULL},
    {"GET", NS "/documents/2", NULL},
    {"GET", NS "/documents/1000", NULL},
    {"POST", NS "/query",
     "{\"order_by\":{\"field\":\"id\"},\"top_k\":100,\"include_vector\":true}"},
    {"POST", NS "/query", "{\"vector\":[3,1,4,1],\"top_k\":5}"},
    {"POST", NS "/query",
     "{\"full_text\":{\"fields\":[\"title\"],\"query\":\"film seven\"},\"top_k\":5}"},
    {"POST", NS "/query",
     "{\"filter\":{\"field\":\"year\",\"op\":\"gte\",\"value\":1905},\"top_k\":50,"
     "\"count\":true}"},
};
enum { QUESTIONS = sizeof questions / sizeof questions[0] };

static struct buf right[QUESTIONS];

/* Without what differs from time to time. */
static void strip_times(struct buf *answer)
{
    static const char label[] = "\"took_ms\":";
    uint8_t *at = memmem(answer->data, answer->size, label, sizeof label - 1);
    if (!at) return;
    uint8_t *end = at + sizeof label - 1;
    while (end < answer->data + answer->size && *end != ',' && *end != '}')
        end++;
    memmove(at, end, (size_t)(answer->data + answer->size - end));
    answer->size -= (size_t)(end - at);
}

static int ask(struct engine *e, const struct question *q, struct buf *answer)
{
    buf_clear(answer);
    int status = engine_ask(e, q->method, q->path, q->body, NULL, answer);
    strip_times(answer);
    return status;
}

static void must(struct engine *e, const char *method, const char *path,
                 const char *body, const char *key)
{
    struct buf answer = BUF_INIT;
    int status = engine_ask(e, method, path, body, key, &answer);
    if (status != 200) {
        (void)printf("%s %s: %d %.*s\n", method, path, status, (int)answer.size,
                     (const char *)answer.data);
        stop("the store cannot be made");
    }
    buf_release(&answer);
}

static const char SCHEMA[] =
    "{\"vector_dim\":4,\"vector_metric\":\"l2\",\"attributes\":{\"title\":{\"type\":"
    "\"string\",\"full_text\":true},\"year\":{\"type\":\"int\",\"indexed\":true}}}";

static void upsert(struct engine *e, const char *path, unsigned from, unsigned count,
                   const char *key)
{
    struct buf body = BUF_INIT;
    buf_append_str(&body, "{\"documents\":[");
    for (unsigned i = from; i < from + count; i++)
        buf_printf(
            &body,
            "%s{\"id\":%u,\"vector\":[%u,1,2,%u],\"attributes\":{\"title\":\"the "
            "film %u %s\",\"year\":%u}}",
            i > from ? "," : "", i, i, i % 5, i, i % 7 ? "old" : "seven", 1900 + i);
    buf_append(&body, "]}", 3);
    must(e, "POST", path, (const char *)body.data, key);
    buf_release(&body);
}

/* The second of its name, with a segment, deleted rows, idempotency keys and a tail. */
static void fill(struct engine *e, const char *name)
{
    char path[64], part[96];
    (void)snprintf(path, sizeof path, "/v1/namespaces/%s", name);
    (void)snprintf(part, sizeof part, "%s/upsert", path);
    must(e, "PUT", path, SCHEMA, NULL);
    upsert(e, part, 0, 3, NULL);
    must(e, "DELETE", path, NULL, NULL);
    must(e, "PUT", path, SCHEMA, NULL);
    upsert(e, part, 0, 24, "first");
    (void)snprintf(part, sizeof part, "%s/compact", path);
    must(e, "POST", part, NULL, NULL);
    (void)snprintf(part, sizeof part, "%s/delete", path);
    must(e, "POST", part, "{\"ids\":[1,2,3]}", "second");
    (void)snprintf(part, sizeof part, "%s/compact", path);
    must(e, "POST", part, NULL, NULL);
    (void)snprintf(part, sizeof part, "%s/upsert", path);
    upsert(e, part, 7, 1, "third");
    upsert(e, part, 30, 2, NULL);
}

static struct engine *node(bool read_only, const char *cache)
{
    const struct engine_options o = {.store = world.store,
                                     .cache_folder = cache,
                                     .read_only = read_only};
    return engine_new(&o);
}

static void make_world(void)
{
    char data[PATH_SIZE];
    struct op op;
    (void)snprintf(world.root, sizeof world.root, "%s/elacsym-corrupt-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(world.root)) stop("no folder");
    (void)snprintf(data, sizeof data, "%s/data", world.root);
    (void)snprintf(world.cache, sizeof world.cache, "%s/cache", world.root);
    (void)snprintf(world.slab, sizeof world.slab, "%s/ranges.slab", world.cache);
    const struct store_dir_options o = {.root = data, .shared = true};
    op_init(&op, OP_NO_DEADLINE, 0);
    if (store_dir_open(&op, &o, &world.store)) stop(op.error);
    op_release(&op);

    struct engine *e = node(false, NULL);
    fill(e, "films");
    fill(e, "others");
    engine_free(e);
    walk(note_file);
    note_leftovers();

    e = node(true, world.cache);
    for (size_t q = 0; q < QUESTIONS; q++)
        if (ask(e, &questions[q], &right[q]) == 400) stop("a question is no question");
    engine_free(e);
    read_file(world.slab, &world.slab_bytes);
}

static void end_world(void)
{
    store_free(world.store);
    folder_remove(world.root);
    for (size_t i = 0; i < world.file_count; i++)
        buf_release(&world.files[i].bytes);
    for (size_t q = 0; q < QUESTIONS; q++)
        buf_release(&right[q]);
    buf_release(&world.slab_bytes);
}

/* ---- one case of damage to an object ---- */

/* What was done, for the one who reads of a failure. */
static char how[320];

static bool same(const struct buf *a, const struct buf *b)
{
    return slice_equal(buf_slice(a), buf_slice(b));
}

static bool holds(const struct buf *text, const char *word)
{
    return memmem(text->data, text->size, word, strlen(word)) != NULL;
}

/* True if an answer was refused; the others were right. */
static bool check_reader(const struct file *f)
{
    struct engine *e = node(true, NULL);
    struct buf answer = BUF_INIT;
    bool refused = false;
    for (size_t q = 0; q < QUESTIONS; q++) {
        int status = ask(e, &questions[q], &answer);
        if (same(&answer, &right[q])) continue;
        bool named = status == 500 && holds(&answer, f->key);
        if (!named)
            fail("%s of %s: question %zu is answered %d %.*s", how, f->key, q, status,
                 (int)answer.size, (const char *)answer.data);
        refused = true;
    }
    buf_release(&answer);
    engine_free(e);
    return refused;
}

static void check_verify(const struct file *f)
{
    struct verify_totals totals;
    char *text = NULL;
    size_t size = 0;
    struct op op;
    FILE *out = open_memstream(&text, &size);
    const struct verify_options o = {.out = out, .memory = VERIFY_MEMORY};

    op_init(&op, OP_NO_DEADLINE, 0);
    if (!out) stop("no memory");
    enum err e = verify_store(&op, world.store, &o, &totals);
    (void)fclose(out);
    if (e)
        fail("%s of %s: verify ends with %s", how, f->key, op.error);
    else if (totals.problems == 0 || !strstr(text, f->key))
        fail("%s of %s is not found by verify: %" PRIu64 " problems\n%s", how, f->key,
             totals.problems, text);
    free(text);
    op_release(&op);
}

/* An owner may refuse to work on what is damaged; it must not make it worse. */
static void check_owner(const struct file *f)
{
    static const struct question written = {"GET", NS "/documents/99", NULL};
    struct buf answer = BUF_INIT;
    struct engine *e = node(false, NULL);
    int status = engine_ask(e, "POST", NS "/upsert",
                            "{\"documents\":[{\"id\":99,\"attributes\":{\"year\":1}}]}",
                            NULL, &answer);
    bool acknowledged = status == 200;
    if (status != 200 && status != 500 && status != 503)
        fail("%s of %s: a write is answered %d %.*s", how, f->key, status,
             (int)answer.size, (const char *)answer.data);
    (void)engine_ask(e, "POST", NS "/compact", NULL, NULL, &answer);
    engine_free(e);
    put_back(f);

    e = node(true, NULL);
    if (acknowledged && ask(e, &written, &answer) != 200)
        fail("%s of %s: an acknowledged write is lost: %.*s", how, f->key,
             (int)answer.size, (const char *)answer.data);
    for (size_t q = 0; q < 3; q++)
        if (ask(e, &questions[q], &answer), !same(&answer, &right[q]))
            fail("%s of %s: after an owner and its repair, question %zu: %.*s", how,
                 f->key, q, (int)answer.size, (const char *)answer.data);
    engine_free(e);
    buf_release(&answer);
    walk(remove_stranger);
    for (size_t i = 0; i < world.file_count; i++)
        put_back(&world.files[i]);
}

static bool ours(const struct file *f)
{
    return strstr(f->key, "/films/") != NULL;
}

static void try_object(const struct file *f, struct slice damaged)
{
    char path[PATH_SIZE];
    struct tally *t = &tally[f->kind];
    if (slice_equal(damaged, buf_slice(&f->bytes))) return;
    path_of(f->key, path);
    write_file(path, damaged);
    t->cases++;
    if (check_reader(f))
        t->refused++;
    else
        t->harmless++;
    if (!f->left_over) check_verify(f);
    if (t->cases % OWNER_EVERY == 1) {
        t->owners++;
        check_owner(f);
    }
    write_file(path, buf_slice(&f->bytes));
}

/* ---- all cases ---- */

/* Every one, or every stride-th from one of chance. */
static size_t first(void)
{
    return (size_t)(next_random() % options.stride);
}

typedef void try(const void *about, struct slice damaged);

static void try_file(const void *about, struct slice damaged)
{
    try_object(about, damaged);
}

static void flip_bits(try *each, const void *about, struct buf *bytes, size_t end)
{
    for (size_t bit = first(); bit < 8 * end; bit += options.stride) {
        (void)snprintf(how, sizeof how, "bit %zu", bit);
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        each(about, buf_slice(bytes));
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void cut(try *each, const void *about, struct buf *bytes, size_t end)
{
    for (size_t size = first(); size < end; size += options.stride) {
        (void)snprintf(how, sizeof how, "cut to %zu", size);
        each(about, slice_of(bytes->data, size));
    }
}

static void lengthen(try *each, const void *about, struct buf *bytes)
{
    for (unsigned byte = 0; byte < 256; byte += 255) {
        (void)snprintf(how, sizeof how, "one byte %u more", byte);
        buf_append_byte(bytes, (uint8_t)byte);
        each(about, buf_slice(bytes));
        bytes->size--;
    }
}

static void swap(uint8_t *a, uint8_t *b)
{
    uint8_t kept[PIECE];
    memcpy(kept, a, PIECE);
    memcpy(a, b, PIECE);
    memcpy(b, kept, PIECE);
}

static void swap_pieces(try *each, const void *about, struct buf *bytes, size_t end)
{
    size_t pieces = end / PIECE, number = 0, from = first();
    for (size_t i = 0; i < pieces; i++) {
        for (size_t k = i + 1; k < pieces; k++) {
            if (number++ % options.stride != from) continue;
            (void)snprintf(how, sizeof how, "swap of pieces %zu and %zu", i, k);
            swap(bytes->data + i * PIECE, bytes->data + k * PIECE);
            each(about, buf_slice(bytes));
            swap(bytes->data + i * PIECE, bytes->data + k * PIECE);
        }
    }
}

static void zero_pages(try *each, const void *about, const struct buf *bytes,
                       size_t end)
{
    struct buf copy = BUF_INIT;
    for (size_t at = 0; at < end; at += PAGE) {
        buf_clear(&copy);
        buf_append_slice(&copy, buf_slice(bytes));
        memset(copy.data + at, 0, copy.size - at < PAGE ? copy.size - at : PAGE);
        (void)snprintf(how, sizeof how, "zeros from %zu", at);
        each(about, buf_slice(&copy));
    }
    buf_release(&copy);
}

static void damage_object(const struct file *f)
{
    struct buf copy = BUF_INIT;
    buf_append_slice(&copy, buf_slice(&f->bytes));
    flip_bits(try_file, f, &copy, copy.size);
    cut(try_file, f, &copy, copy.size);
    lengthen(try_file, f, &copy);
    swap_pieces(try_file, f, &copy, copy.size);
    zero_pages(try_file, f, &copy, copy.size);
    for (size_t i = 0; i < world.file_count; i++) {
        (void)snprintf(how, sizeof how, "the bytes of %.200s in place",
                       world.files[i].key);
        try_object(f, buf_slice(&world.files[i].bytes));
    }
    buf_release(&copy);
}

/* ---- the disk cache ---- */

enum { CACHE_KIND = STORED_IDEMPOTENCY + 1, PIECES_MAX = 512 };

/* The pieces that the good file holds. */
static struct {
    struct slab_record records[PIECES_MAX];
    struct slice data[PIECES_MAX];
    size_t count, end;
} pieces;

static void note_pieces(void)
{
    const struct buf *b = &world.slab_bytes;
    for (size_t at = SLAB_HEADER_SIZE; at + PIECE <= b->size; at += PIECE) {
        struct slab_record *r = &pieces.records[pieces.count];
        if (!slab_record_decode(b->data + at, b->size - at, r)) continue;
        size_t front = SLAB_RECORD_HEAD_SIZE + strlen(r->key);
        pieces.data[pieces.count++] = slice_of(b->data + at + front, r->id.size);
        pieces.end = at + (size_t)slab_record_size(&r->id);
        if (pieces.count == PIECES_MAX) stop("too many pieces");
    }
    for (size_t i = 0; i < pieces.count; i++)
        pieces.records[i].id.key = pieces.records[i].key;
    if (pieces.count == 0) stop("the disk cache is empty");
}

static struct slab *open_slab(void)
{
    struct slab *s = NULL;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    if (slab_open(&op, world.cache, ENGINE_DISK_SIZE, INDEX_SIZE, &s))
        fail("%s: the disk cache does not open: %s", how, op.error);
    op_release(&op);
    return s;
}

/* What is found is what was written; what is not is written again and found then. */
static bool check_pieces(void)
{
    uint8_t room[SLAB_PIECE_MAX];
    struct op op;
    bool whole = true;
    struct slab *s = open_slab();

    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t i = 0; i < pieces.count && s; i++) {
        const struct slab_id *id = &pieces.records[i].id;
        struct slice wanted = pieces.data[i];
        if (slab_read(s, id, room) == SLAB_HIT) {
            if (memcmp(room, wanted.data, wanted.size) != 0)
                fail("%s of the disk cache: piece %zu is another", how, i);
            continue;
        }
        whole = false;
        if (slab_append(&op, s, id, wanted.data) || slab_read(s, id, room) != SLAB_HIT)
            fail("%s of the disk cache: piece %zu is not written again: %s", how, i,
                 op.error);
    }
    slab_unref(s);
    op_release(&op);
    return whole;
}

static void check_engine(void)
{
    struct engine *e = node(true, world.cache);
    struct buf answer = BUF_INIT;
    for (size_t q = 0; q < QUESTIONS; q++)
        if (ask(e, &questions[q], &answer), !same(&answer, &right[q]))
            fail("%s of the disk cache: question %zu: %.*s", how, q, (int)answer.size,
                 (const char *)answer.data);
    engine_free(e);
    buf_release(&answer);
}

static void try_slab(const void *about, struct slice damaged)
{
    struct tally *t = &tally[CACHE_KIND];
    (void)about;
    if (slice_equal(damaged, buf_slice(&world.slab_bytes))) return;
    write_file(world.slab, damaged);
    t->cases++;
    if (t->cases % ENGINE_EVERY == 1) {
        t->engines++;
        check_engine();
        check_engine();
        write_file(world.slab, damaged);
    }
    if (check_pieces())
        t->harmless++;
    else
        t->healed++;
}

/* Of the file the part in use, and the table and trailer of its region at its end. */
static void damage_slab(void)
{
    struct buf copy = BUF_INIT;
    size_t size = world.slab_bytes.size;
    buf_append_slice(&copy, buf_slice(&world.slab_bytes));
    flip_bits(try_slab, NULL, &copy, pieces.end);
    cut(try_slab, NULL, &copy, pieces.end);
    swap_pieces(try_slab, NULL, &copy,
                pieces.end < 32 * PIECE + SLAB_HEADER_SIZE
                    ? pieces.end
                    : 32 * PIECE + SLAB_HEADER_SIZE);
    zero_pages(try_slab, NULL, &copy, size);
    for (size_t at = size - PAGE; at < size; at += 1 + first()) {
        (void)snprintf(how, sizeof how, "byte %zu", at);
        copy.data[at] ^= 0x55;
        try_slab(NULL, buf_slice(&copy));
        copy.data[at] ^= 0x55;
    }
    for (size_t i = 0; i < world.file_count; i++) {
        (void)snprintf(how, sizeof how, "the bytes of %.200s in place",
                       world.files[i].key);
        try_slab(NULL, buf_slice(&world.files[i].bytes));
    }
    buf_release(&copy);
}

/* ---- all of it ---- */

static const char *const names[] = {
    [STORED_LOG_ENTRY] = "log",     [STORED_CATALOG_RECORD] = "catalog",
    [STORED_MANIFEST] = "manifest", [STORED_SEGMENT] = "segment",
    [STORED_DELETES] = "deletes",   [STORED_IDEMPOTENCY] = "keys",
    [CACHE_KIND] = "cache"};

static bool wanted(size_t kind)
{
    return !options.only || strcmp(options.only, names[kind]) == 0;
}

static void report(size_t kind)
{
    const struct tally *t = &tally[kind];
    if (t->cases == 0) return;
    (void)printf("%-9s %8" PRIu64 " cases: ", names[kind], t->cases);
    if (kind == CACHE_KIND)
        (void)printf("%" PRIu64 " healed, %" PRIu64
                     " touched nothing that is read; %" PRIu64 " through a node\n",
                     t->healed, t->harmless, t->engines);
    else
        (void)printf("%" PRIu64 " refused by name, %" PRIu64
                     " not needed for the answers; all found by verify; %" PRIu64
                     " owners\n",
                     t->refused, t->harmless, t->owners);
    (void)fflush(stdout);
    all.cases += t->cases;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"stride", required_argument, NULL, 't'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"only", required_argument, NULL, 'o'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    options = sweep_begin(argc, argv, known);
    chance = options.seed;
    if (!options.verbose && !freopen("/dev/null", "w", stderr)) stop("no /dev/null");
    make_world();
    note_pieces();
    for (size_t kind = 0; kind < CACHE_KIND; kind++) {
        size_t objects = 0;
        for (size_t i = 0; i < world.file_count && wanted(kind); i++) {
            if (world.files[i].kind != kind || !ours(&world.files[i])) continue;
            objects++;
            damage_object(&world.files[i]);
        }
        if (wanted(kind) && objects == 0)
            fail("there is no object of kind %s", names[kind]);
        report(kind);
    }
    if (wanted(CACHE_KIND)) damage_slab();
    report(CACHE_KIND);
    end_world();
    (void)printf("%" PRIu64 " cases of damage, %u answers wrong\n", all.cases,
                 failures);
    return sweep_end(failures);
}
