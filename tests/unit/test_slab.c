#include "cache/slab.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/slab_index.h"
#include "unit/golden.h"
#include "unit/scratch.h"
#include "unit/test.h"

/* Regions of 64 KiB: a file of one MiB has fourteen. */
enum { SMALL = 1 << 20, INDEX = 1 << 20, SIZE_MAX_OF_TEST = 16 << 10 };

struct world {
    struct scratch scratch;
    char file[300];
    struct op op;
    struct slab *slab;
    uint64_t size_max;
    uint8_t bytes[SIZE_MAX_OF_TEST];
};

static void world_open(struct world *w)
{
    enum err e = slab_open(&w->op, w->scratch.path, w->size_max, INDEX, &w->slab);
    if (e) print_message("%s\n", w->op.error);
    assert_int_equal(e, ERR_OK);
}

static void world_close(struct world *w)
{
    if (w->slab) slab_finish(w->slab);
    slab_unref(w->slab);
    w->slab = NULL;
}

static void world_init(struct world *w, uint64_t size_max)
{
    memset(w, 0, sizeof *w);
    scratch_make_roomy(&w->scratch);
    (void)snprintf(w->file, sizeof w->file, "%s/ranges.slab", w->scratch.path);
    op_init(&w->op, OP_NO_DEADLINE, 0);
    w->size_max = size_max;
    world_open(w);
}

static void world_release(struct world *w)
{
    world_close(w);
    op_release(&w->op);
    scratch_remove(&w->scratch);
}

/* The bytes of a piece are a function of what it is. */
static void fill(const struct slab_id *id, uint8_t *out)
{
    uint64_t state = slab_tag(id);
    for (uint32_t i = 0; i < id->size; i++)
        out[i] = (uint8_t)(test_random(&state) >> 56);
}

static struct slab_id piece(const char *key, uint64_t offset, uint32_t size)
{
    return (struct slab_id){.key = key, .offset = offset, .size = size};
}

static enum err put(struct world *w, struct slab_id id)
{
    fill(&id, w->bytes);
    return slab_append(&w->op, w->slab, &id, w->bytes);
}

/* A hit is always right. */
static enum slab_found get(struct world *w, struct slab_id id)
{
    uint8_t want[SIZE_MAX_OF_TEST];
    memset(w->bytes, 0xee, sizeof w->bytes);
    enum slab_found found = slab_read(w->slab, &id, w->bytes);
    fill(&id, want);
    if (found == SLAB_HIT) assert_memory_equal(w->bytes, want, id.size);
    return found;
}

static uint64_t blocks_of(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 ? (uint64_t)about.st_blocks * 512 : 0;
}

/* What du says of the folder. */
static uint64_t disk_use(const struct world *w)
{
    return blocks_of(w->scratch.path) + blocks_of(w->file);
}

static void what_was_written_is_read_and_nothing_else(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    assert_int_equal(put(&w, piece("a", 0, 5000)), ERR_OK);
    assert_int_equal(put(&w, piece("a", 5000, 1)), ERR_OK);
    assert_int_equal(put(&w, piece("b/c", UINT64_MAX, 16384)), ERR_OK);
    assert_int_equal(get(&w, piece("a", 0, 5000)), SLAB_HIT);
    assert_int_equal(get(&w, piece("a", 5000, 1)), SLAB_HIT);
    assert_int_equal(get(&w, piece("b/c", UINT64_MAX, 16384)), SLAB_HIT);
    assert_int_equal(get(&w, piece("a", 0, 4999)), SLAB_MISS);
    assert_int_equal(get(&w, piece("a", 1, 5000)), SLAB_MISS);
    assert_int_equal(get(&w, piece("b", 0, 5000)), SLAB_MISS);
    struct slab_id gone = piece("a", 0, 5000);
    slab_forget(w.slab, &gone);
    assert_int_equal(get(&w, gone), SLAB_MISS);
    world_release(&w);
}

static void keys_of_every_length_come_back(void **state)
{
    (void)state;
    struct world w;
    char key[STORE_KEY_MAX + 1];
    world_init(&w, SMALL);
    for (size_t size = 1; size <= STORE_KEY_MAX; size += 7) {
        memset(key, 'k', size);
        key[size] = '\0';
        assert_int_equal(put(&w, piece(key, size, 100)), ERR_OK);
        assert_int_equal(get(&w, piece(key, size, 100)), SLAB_HIT);
    }
    world_close(&w);
    world_open(&w);
    assert_int_equal(strlen(key), STORE_KEY_MAX);
    assert_int_equal(get(&w, piece(key, STORE_KEY_MAX, 100)), SLAB_HIT);
    world_release(&w);
}

static void a_restart_finds_everything_again(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    for (int times = 0; times < 3; times++) {
        for (uint64_t i = 0; i < 20; i++)
            assert_int_equal(put(&w, piece("k", (uint64_t)times << 32 | i, 3000)),
                             ERR_OK);
        world_close(&w);
        world_open(&w);
    }
    assert_int_equal(slab_usage(w.slab).recovered, 60);
    for (uint64_t times = 0; times < 3; times++)
        for (uint64_t i = 0; i < 20; i++)
            assert_int_equal(get(&w, piece("k", times << 32 | i, 3000)), SLAB_HIT);
    /* Restarts go on in the region they find, they do not use up a new one each. */
    assert_int_equal(slab_usage(w.slab).regions, 3);
    world_release(&w);
}

static void a_restart_without_a_farewell_finds_everything_too(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(put(&w, piece("k", i, 2000)), ERR_OK);
    slab_unref(w.slab);
    world_open(&w);
    assert_int_equal(slab_usage(w.slab).recovered, 100);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(get(&w, piece("k", i, 2000)), SLAB_HIT);
    world_release(&w);
}

static void a_scan_of_ten_times_the_size_stays_inside_it(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    uint64_t last = 0;
    for (uint64_t written = 0; written < 10 * (uint64_t)SMALL; written += 9000) {
        assert_int_equal(put(&w, piece("scan", last++, 9000)), ERR_OK);
        assert_true(disk_use(&w) <= SMALL);
        assert_true(slab_usage(w.slab).bytes <= SMALL);
    }
    /* And most of it is used: the newest pieces are there. */
    uint64_t there = 0;
    while (get(&w, piece("scan", last - 1 - there, 9000)) == SLAB_HIT)
        there++;
    assert_in_range(there * 9000, SMALL / 2, SMALL);
    world_release(&w);
}

static void what_is_asked_for_moves_on_and_the_rest_makes_way(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(put(&w, piece("hot", i, 3000)), ERR_OK);
    assert_int_equal(put(&w, piece("cold", 0, 3000)), ERR_OK);
    for (uint64_t i = 0; i < 3000; i++) {
        assert_int_equal(put(&w, piece("scan", i, 3000)), ERR_OK);
        for (uint64_t h = 0; h < 10 && i % 50 == 0; h++)
            assert_int_equal(get(&w, piece("hot", h, 3000)), SLAB_HIT);
    }
    assert_int_equal(get(&w, piece("cold", 0, 3000)), SLAB_MISS);
    world_release(&w);
}

/* The largest pieces, and what is left of a range that was split into such. */
static struct slab_id split_piece(struct world *w, uint64_t at)
{
    static const char key[] =
        "namespaces/of-the-test/segments/0123456789abcdef0123.seg";
    static const uint32_t less[] = {0, 600, 0, 400, 0, 5000, 300};
    uint32_t most = slab_piece_max(w->slab);
    return piece(key, at, most - less[at % (sizeof less / sizeof *less)]);
}

static void what_moves_on_leaves_room_for_the_largest_piece(void **state)
{
    (void)state;
    struct world w;
    enum { PIECES = BY_FLAVOUR(400, 150) }; /* 50 fit */
    world_init(&w, SMALL);
    assert_int_equal(slab_piece_max(w.slab), SIZE_MAX_OF_TEST);
    for (uint64_t i = 0; i < PIECES; i++) {
        assert_int_equal(put(&w, split_piece(&w, i)), ERR_OK);
        assert_int_equal(get(&w, split_piece(&w, i)), SLAB_HIT);
        /* All that is there is asked for, so all would move on. */
        for (uint64_t k = 0; k < i; k++)
            assert_int_not_equal(get(&w, split_piece(&w, k)), SLAB_DAMAGED);
    }
    /* The oldest goes first, each time. */
    assert_int_equal(get(&w, split_piece(&w, 0)), SLAB_HIT);
    world_release(&w);
}

static void once_it_is_full_only_the_second_asking_counts(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    struct slab_id early = piece("early", 0, 9000), late = piece("late", 0, 9000);
    assert_int_equal(slab_interest(w.slab, &early, true), SLAB_WANTS);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(put(&w, piece("scan", i, 9000)), ERR_OK);
    assert_int_equal(slab_interest(w.slab, &early, true), SLAB_NOT_YET);
    assert_int_equal(slab_interest(w.slab, &early, true), SLAB_WANTS);
    assert_int_equal(slab_interest(w.slab, &late, false), SLAB_WANTS);
    assert_int_equal(put(&w, late), ERR_OK);
    assert_int_equal(slab_interest(w.slab, &late, true), SLAB_HAS);
    assert_int_equal(slab_interest(w.slab, &late, false), SLAB_HAS);
    world_release(&w);
}

static void another_budget_keeps_what_fits_into_it(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, 2 * SMALL);
    for (uint64_t i = 0; i < 190; i++)
        assert_int_equal(put(&w, piece("k", i, 9000)), ERR_OK);
    world_close(&w);
    w.size_max = SMALL;
    world_open(&w);
    assert_true(disk_use(&w) <= SMALL);
    int there = 0;
    for (uint64_t i = 0; i < 190; i++)
        there += get(&w, piece("k", i, 9000)) == SLAB_HIT;
    assert_in_range(there, 50, 120);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(put(&w, piece("more", i, 9000)), ERR_OK);
    assert_true(disk_use(&w) <= SMALL);
    world_close(&w);
    w.size_max = 100 * (uint64_t)SMALL;
    world_open(&w);
    assert_int_equal(get(&w, piece("more", 299, 9000)), SLAB_HIT);
    world_release(&w);
}

static void a_second_process_is_told_that_it_is_in_use(void **state)
{
    (void)state;
    struct world w;
    struct slab *other;
    world_init(&w, SMALL);
    assert_int_equal(slab_open(&w.op, w.scratch.path, SMALL, INDEX, &other), ERR_BUSY);
    assert_non_null(strstr(w.op.error, "in use by another process"));
    assert_null(other);
    world_close(&w);
    world_open(&w);
    world_release(&w);
}

static void what_cannot_be_is_refused_with_words(void **state)
{
    (void)state;
    struct world w;
    struct slab *none;
    char path[400];
    world_init(&w, SMALL);
    assert_int_equal(slab_open(&w.op, w.scratch.path, SLAB_SIZE_MIN - 1, INDEX, &none),
                     ERR_LIMIT);
    (void)snprintf(path, sizeof path, "%s/folder", w.file);
    op_clear_error(&w.op);
    assert_int_equal(slab_open(&w.op, path, SMALL, INDEX, &none), ERR_IO);
    assert_non_null(strstr(w.op.error, "ranges.slab"));
    op_clear_error(&w.op);
    assert_int_not_equal(slab_open(&w.op, "/proc/elacsym", SMALL, INDEX, &none),
                         ERR_OK);
    (void)snprintf(path, sizeof path, "%s/x/ranges.slab", w.scratch.path);
    world_close(&w);
    assert_int_equal(unlink(w.file), 0);
    assert_int_equal(symlink("/dev/null", w.file), 0);
    op_clear_error(&w.op);
    assert_int_not_equal(slab_open(&w.op, w.scratch.path, SMALL, INDEX, &none), ERR_OK);
    world_release(&w);
}

static void a_file_that_is_gone_or_cut_is_noticed(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, SMALL);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(put(&w, piece("k", i, 9000)), ERR_OK);
    assert_true(slab_intact(w.slab));
    assert_int_equal(truncate(w.file, 100000), 0);
    assert_false(slab_intact(w.slab));
    int damaged = 0;
    for (uint64_t i = 0; i < 40; i++)
        damaged += get(&w, piece("k", i, 9000)) == SLAB_DAMAGED;
    assert_true(damaged > 20);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_not_equal(get(&w, piece("k", i, 9000)), SLAB_DAMAGED);
    world_close(&w);
    world_open(&w);
    assert_true(slab_intact(w.slab));
    assert_int_equal(unlink(w.file), 0);
    assert_false(slab_intact(w.slab));
    assert_int_equal(put(&w, piece("k", 100, 9000)), ERR_OK);
    world_release(&w);
}

/* ---- damage ---- */

static uint8_t *slurp(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat about;
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &about), 0);
    *size = (size_t)about.st_size;
    uint8_t *bytes = mem_alloc(*size);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void spill(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* How many of the pieces written by damage_init are still found, each of them right. */
enum { DAMAGED_PIECES = 24 };

static int found_after(struct world *w)
{
    int found = 0;
    world_open(w);
    for (uint64_t i = 0; i < DAMAGED_PIECES; i++)
        found += get(w, piece("piece", i, 1000 + (uint32_t)i * 97)) == SLAB_HIT;
    /* It can be written too. */
    assert_int_equal(put(w, piece("new", 0, 5000)), ERR_OK);
    assert_int_equal(get(w, piece("new", 0, 5000)), SLAB_HIT);
    world_close(w);
    return found;
}

static uint8_t *damage_init(struct world *w, bool farewell, size_t *size)
{
    world_init(w, SMALL);
    for (uint64_t i = 0; i < DAMAGED_PIECES; i++)
        assert_int_equal(put(w, piece("piece", i, 1000 + (uint32_t)i * 97)), ERR_OK);
    if (farewell) slab_finish(w->slab);
    slab_unref(w->slab);
    w->slab = NULL;
    return slurp(w->file, size);
}

static void flipped_bytes_are_misses_and_never_answers(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (int farewell = 0; farewell < 2; farewell++) {
        struct world w;
        size_t size;
        uint8_t *bytes = damage_init(&w, farewell, &size);
        int least = DAMAGED_PIECES;
        /* Every byte of the head of file, region and first record; then anywhere. */
        for (size_t i = 0; i < 1500; i++) {
            size_t at = i < 32    ? i
                        : i < 250 ? SLAB_HEADER_SIZE + i - 32
                                  : (size_t)(test_random(&random) % size);
            uint8_t bit = (uint8_t)(1u << test_random(&random) % 8);
            bytes[at] ^= bit;
            spill(w.file, bytes, size);
            bytes[at] ^= bit;
            int found = found_after(&w);
            if (i >= 32 && found < least) least = found;
            bytes[at] ^= bit; /* several at once now and then */
            if (i % 5) bytes[at] ^= bit;
        }
        assert_in_range(least, 0, DAMAGED_PIECES - 1);
        mem_free(bytes);
        world_release(&w);
    }
}

static void a_cut_anywhere_is_a_miss(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct world w;
    size_t size;
    uint8_t *bytes = damage_init(&w, true, &size);
    for (size_t i = 0; i < 300; i++) {
        size_t cut = i < 100 ? i * 64 : (size_t)(test_random(&random) % size);
        spill(w.file, bytes, cut);
        (void)found_after(&w);
    }
    spill(w.file, bytes, size);
    assert_int_equal(found_after(&w), DAMAGED_PIECES);
    mem_free(bytes);
    world_release(&w);
}

static void pieces_of_the_file_in_the_wrong_place_are_misses(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    struct world w;
    size_t size;
    uint8_t *bytes = damage_init(&w, true, &size);
    uint8_t *mixed = mem_alloc(size);
    for (size_t i = 0; i < 300; i++) {
        size_t from = test_random(&random) % size / 64 * 64;
        size_t to = test_random(&random) % size / 64 * 64;
        size_t length = test_random(&random) % 20000 / 64 * 64;
        if (from + length > size || to + length > size) continue;
        memcpy(mixed, bytes, size);
        if (i % 3)
            memcpy(mixed + to, bytes + from, length);
        else
            memset(mixed + to, i % 2 ? 0 : 0xff, length);
        spill(w.file, mixed, size);
        (void)found_after(&w);
    }
    mem_free(mixed);
    mem_free(bytes);
    world_release(&w);
}

/* A record of another piece at the place of ours, whole and with a good checksum. */
static void a_whole_record_of_something_else_is_a_miss(void **state)
{
    (void)state;
    struct world w;
    size_t size, first = SLAB_HEADER_SIZE + SLAB_HEAD_SIZE;
    world_init(&w, SMALL);
    assert_int_equal(put(&w, piece("one", 0, 1000)), ERR_OK);
    assert_int_equal(put(&w, piece("two", 0, 1000)), ERR_OK);
    uint8_t *bytes = slurp(w.file, &size);
    struct slab_id one = piece("one", 0, 1000);
    size_t record = (size_t)slab_record_size(&one);
    int fd = open(w.file, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes + first + record, record, (off_t)first), record);
    close(fd);
    assert_int_equal(get(&w, piece("one", 0, 1000)), SLAB_DAMAGED);
    assert_int_equal(get(&w, piece("one", 0, 1000)), SLAB_MISS);
    assert_int_equal(get(&w, piece("two", 0, 1000)), SLAB_HIT);
    mem_free(bytes);
    world_release(&w);
}

static void decoders_take_any_bytes(void **state)
{
    (void)state;
    uint64_t random = test_seed(), region_size;
    uint8_t bytes[SLAB_HEADER_SIZE];
    struct slab_trailer trailer;
    struct slab_record record;
    uint32_t sequence;
    for (int i = 0; i < 20000; i++) {
        for (size_t k = 0; k < 1024; k++)
            bytes[k] = (uint8_t)(test_random(&random) >> 40);
        struct slab_record real = {.sequence = 5, .id = piece("key", 1, 2)};
        if (i % 2) (void)slab_record_encode(&real, bytes);
        if (i % 2) bytes[test_random(&random) % 51] ^= 1;
        assert_false(slab_record_decode(bytes, test_random(&random) % 600, &record));
        assert_false(slab_trailer_decode(bytes, &trailer));
        assert_false(slab_head_decode(bytes, &sequence));
        assert_false(slab_header_decode(bytes, &region_size));
    }
}

static void version_1_stays_as_it_is(void **state)
{
    (void)state;
    uint8_t bytes[SLAB_HEADER_SIZE], data[5] = {1, 2, 3, 4, 5};
    struct slab_record record = {.sequence = SLAB_REGIONS_MAX + 7,
                                 .id = piece("ns/a/segment/b.seg", 1 << 20, 5),
                                 .data_hash = xxh3_64(data, sizeof data)};
    struct slab_table_entry entry = {.tag = slab_tag(&record.id), .unit = 1};
    struct slab_trailer trailer = {.sequence = record.sequence,
                                   .count = 1,
                                   .end = 3,
                                   .table_crc = 9};
    struct buf all = BUF_INIT;
    struct slab_record back;
    uint64_t region_size;

    slab_header_encode(1 << 20, bytes);
    buf_append(&all, bytes, SLAB_HEADER_SIZE);
    slab_head_encode(record.sequence, bytes);
    buf_append(&all, bytes, SLAB_HEAD_SIZE);
    buf_append(&all, bytes, slab_record_encode(&record, bytes));
    slab_table_encode(&entry, bytes);
    buf_append(&all, bytes, SLAB_TABLE_ENTRY_SIZE);
    slab_trailer_encode(&trailer, bytes);
    buf_append(&all, bytes, SLAB_TRAILER_SIZE);

    struct buf file = golden_expect("slab-v1.bin", buf_slice(&all));
    assert_true(slab_header_decode(file.data, &region_size));
    assert_int_equal(region_size, 1 << 20);
    assert_true(
        slab_record_decode(file.data + SLAB_HEADER_SIZE + SLAB_HEAD_SIZE, 100, &back));
    assert_string_equal(back.id.key, record.id.key);
    assert_int_equal(back.id.offset, record.id.offset);
    buf_release(&file);
    buf_release(&all);
}

/* ---- faults ---- */

static void a_limit_on_file_sizes_stops_the_growth_only(void **state)
{
    (void)state;
    struct world w;
    struct rlimit old, limit = {.rlim_cur = 300000};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit.rlim_max = old.rlim_max;
    world_init(&w, SMALL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(put(&w, piece("k", i, 9000)), ERR_OK);
    assert_in_range(slab_usage(w.slab).bytes, 200000, 300000);
    assert_int_equal(get(&w, piece("k", 199, 9000)), SLAB_HIT);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    world_release(&w);
}

static void a_disk_without_room_for_a_region_is_said_to_be_full(void **state)
{
    (void)state;
    struct world w;
    struct rlimit old, limit = {.rlim_cur = 50000};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit.rlim_max = old.rlim_max;
    world_init(&w, SMALL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(put(&w, piece("k", 0, 9000)), ERR_FULL);
    assert_int_equal(get(&w, piece("k", 0, 9000)), SLAB_MISS);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(put(&w, piece("k", 0, 9000)), ERR_OK);
    assert_int_equal(get(&w, piece("k", 0, 9000)), SLAB_HIT);
    world_release(&w);
}

/* Writes for ever, says so byte by byte, is killed by its parent. */
static void write_until_killed(const char *folder, uint64_t seed, int out)
{
    struct op op;
    struct slab *slab;
    uint8_t bytes[SIZE_MAX_OF_TEST];
    op_init(&op, OP_NO_DEADLINE, 0);
    if (slab_open(&op, folder, SMALL, INDEX, &slab)) _exit(1);
    for (;;) {
        struct slab_id id = piece("k", test_random(&seed) % 400, 5000);
        fill(&id, bytes);
        if (slab_append(&op, slab, &id, bytes)) _exit(2);
        (void)slab_read(slab, &id, bytes);
        if (write(out, "x", 1) != 1) _exit(3);
    }
}

static void a_process_killed_while_writing_leaves_only_what_is_right(void **state)
{
    (void)state;
    struct world w;
    uint64_t random = test_seed(), recovered = 0;
    world_init(&w, SMALL);
    for (int kills = 0; kills < 25; kills++) {
        int pipe_ends[2];
        char byte;
        world_close(&w);
        assert_int_equal(pipe(pipe_ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) write_until_killed(w.scratch.path, random, pipe_ends[1]);
        close(pipe_ends[1]);
        for (uint64_t n = test_random(&random) % 400; n > 0; n--)
            assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(pipe_ends[0]);
        world_open(&w);
        recovered += slab_usage(w.slab).recovered;
        for (uint64_t i = 0; i < 400; i++)
            assert_int_not_equal(get(&w, piece("k", i, 5000)), SLAB_DAMAGED);
    }
    assert_true(recovered > 25 * 20);
    world_release(&w);
}

/* ---- against a model ---- */

enum { MODEL_PIECES = 500, MODEL_STEPS = 30000 };

static void random_use_agrees_with_a_model(void **state)
{
    (void)state;
    struct world w;
    uint64_t random = test_seed();
    bool written[MODEL_PIECES] = {false};
    int hits = 0, restarts = 0;
    world_init(&w, SMALL);
    for (int step = 0; step < MODEL_STEPS; step++) {
        uint64_t at = test_random(&random) % MODEL_PIECES;
        struct slab_id id =
            piece(at % 3 ? "some/key" : "k", at, 1 + (uint32_t)(at * 31 % 12000));
        switch (test_random(&random) % 40) {
        case 0: slab_forget(w.slab, &id); break;
        case 1:
            if (test_random(&random) % 20) break;
            if (test_random(&random) % 2) slab_finish(w.slab);
            slab_unref(w.slab);
            world_open(&w);
            restarts++;
            break;
        default:
            if (test_random(&random) % 2) {
                assert_int_equal(put(&w, id), ERR_OK);
                written[at] = true;
                assert_int_equal(get(&w, id), SLAB_HIT); /* the newest is there */
            } else {
                enum slab_found found = get(&w, id);
                assert_int_not_equal(found, SLAB_DAMAGED);
                assert_true(found == SLAB_MISS || written[at]);
                hits += found == SLAB_HIT;
            }
        }
    }
    assert_true(hits > 1000 && restarts > 5);
    assert_true(disk_use(&w) <= SMALL);
    world_release(&w);
}

/* ---- many threads ---- */

enum { READERS = 4, READS = 3000 };

struct reader_thread {
    struct slab *slab;
    uint64_t seed;
    int wrong, hits;
};

static void read_much(void *arg)
{
    struct reader_thread *r = arg;
    uint8_t bytes[SIZE_MAX_OF_TEST], want[SIZE_MAX_OF_TEST];
    for (int i = 0; i < READS; i++) {
        struct slab_id id = piece("k", test_random(&r->seed) % 300, 3000);
        (void)slab_has(r->slab, &id, true);
        (void)slab_interest(r->slab, &id, true);
        enum slab_found found = slab_read(r->slab, &id, bytes);
        fill(&id, want);
        r->hits += found == SLAB_HIT;
        r->wrong += found == SLAB_DAMAGED;
        r->wrong += found == SLAB_HIT && memcmp(bytes, want, id.size) != 0;
    }
}

static void readers_never_see_a_region_change_under_them(void **state)
{
    (void)state;
    struct world w;
    struct reader_thread readers[READERS];
    struct thread *threads[READERS];
    uint64_t random = test_seed();
    int hits = 0;
    world_init(&w, SMALL);
    for (int i = 0; i < READERS; i++) {
        readers[i] =
            (struct reader_thread){.slab = w.slab, .seed = random + (uint64_t)i};
        threads[i] = thread_start("reader", read_much, &readers[i]);
    }
    for (int i = 0; i < 6000; i++)
        assert_int_equal(put(&w, piece("k", test_random(&random) % 3000, 3000)),
                         ERR_OK);
    for (int i = 0; i < READERS; i++) {
        thread_join(threads[i]);
        assert_int_equal(readers[i].wrong, 0);
        hits += readers[i].hits;
    }
    assert_true(hits > 0);
    world_release(&w);
}

/* ---- the index alone ---- */

static void an_index_forgets_before_it_grows(void **state)
{
    (void)state;
    static uint32_t current[SLAB_REGIONS_MAX];
    uint64_t random = test_seed();
    current[3] = SLAB_REGIONS_MAX + 3;
    struct slab_index *index = slab_index_new(8192, current);
    struct slab_place place = {.sequence = SLAB_REGIONS_MAX + 3}, found;
    assert_int_equal(slab_index_bytes(index), 8192);
    for (uint32_t i = 0; i < 5000; i++) {
        place.unit = i;
        uint64_t tag = test_random(&random);
        slab_index_put(index, tag, place);
        assert_true(slab_index_find(index, tag, &found));
        assert_int_equal(found.unit, i);
        assert_false(slab_index_touched(index, tag, place));
        assert_true(slab_index_touch(index, tag));
        assert_true(slab_index_touched(index, tag, place));
    }
    uint64_t tag = 42;
    place.unit = 7;
    slab_index_put(index, tag, place);
    current[3] += SLAB_REGIONS_MAX;
    assert_false(slab_index_find(index, tag, &found));
    assert_false(slab_index_touch(index, tag));
    assert_false(slab_index_remember(index, tag));
    assert_true(slab_index_remember(index, tag));
    slab_index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_and_nothing_else),
        cmocka_unit_test(keys_of_every_length_come_back),
        cmocka_unit_test(a_restart_finds_everything_again),
        cmocka_unit_test(a_restart_without_a_farewell_finds_everything_too),
        cmocka_unit_test(a_scan_of_ten_times_the_size_stays_inside_it),
        cmocka_unit_test(what_is_asked_for_moves_on_and_the_rest_makes_way),
        cmocka_unit_test(what_moves_on_leaves_room_for_the_largest_piece),
        cmocka_unit_test(once_it_is_full_only_the_second_asking_counts),
        cmocka_unit_test(another_budget_keeps_what_fits_into_it),
        cmocka_unit_test(a_second_process_is_told_that_it_is_in_use),
        cmocka_unit_test(what_cannot_be_is_refused_with_words),
        cmocka_unit_test(a_file_that_is_gone_or_cut_is_noticed),
        cmocka_unit_test(flipped_bytes_are_misses_and_never_answers),
        cmocka_unit_test(a_cut_anywhere_is_a_miss),
        cmocka_unit_test(pieces_of_the_file_in_the_wrong_place_are_misses),
        cmocka_unit_test(a_whole_record_of_something_else_is_a_miss),
        cmocka_unit_test(decoders_take_any_bytes),
        cmocka_unit_test(version_1_stays_as_it_is),
        cmocka_unit_test(a_limit_on_file_sizes_stops_the_growth_only),
        cmocka_unit_test(a_disk_without_room_for_a_region_is_said_to_be_full),
        cmocka_unit_test(a_process_killed_while_writing_leaves_only_what_is_right),
        cmocka_unit_test(random_use_agrees_with_a_model),
        cmocka_unit_test(readers_never_see_a_region_change_under_them),
        cmocka_unit_test(an_index_forgets_before_it_grows),
    };
    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
