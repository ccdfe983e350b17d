/*
 * run_fuzz.c - replays the fuzz targets' seeds and mutations of them; or, compiled with
 * FUZZ_LIBFUZZER, gives libFuzzer one target, named by $FUZZ_TARGET.
 *
 *   run_fuzz [--rounds N] [--seed S] [--target NAME]
 *   run_fuzz --list
 *   run_fuzz --target NAME --write DIR    seeds as files, to start libFuzzer with
 *   run_fuzz --target NAME FILE...        these inputs only
 *   run_fuzz --pack OUT FILE...           the shortest of these, as a corpus
 *
 * Beside the seeds it replays, and mutates, what libFuzzer found worth keeping: the
 * corpus of a target is tests/fuzz/corpus/NAME, u32 size and bytes of each input.
 */
#include <getopt.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/codec.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

static const struct fuzz_target *const groups[] = {fuzz_requests, fuzz_objects,
                                                   fuzz_segments, fuzz_texts,
                                                   fuzz_http,     fuzz_files};
enum { GROUPS = sizeof groups / sizeof groups[0] };

static const struct fuzz_target *find_target(const char *name)
{
    for (size_t g = 0; g < GROUPS; g++)
        for (const struct fuzz_target *t = groups[g]; t->name; t++)
            if (strcmp(t->name, name) == 0) return t;
    (void)fprintf(stderr, "run_fuzz: no target %s (see run_fuzz --list)\n", name);
    exit(2);
}

#ifdef FUZZ_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_target *target;
    const char *name = getenv("FUZZ_TARGET");
    if (!target) target = find_target(name ? name : "");
    (void)target->run(size ? slice_of(data, size) : SLICE_LITERAL(""));
    return 0;
}

#else

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t end)
{
    return end ? (size_t)(next_random(state) % end) : 0;
}

struct seeds {
    struct buf *items;
    size_t count;
};

static void keep_seed(void *context, struct slice seed)
{
    struct seeds *seeds = context;
    seeds->items = mem_realloc(seeds->items, (seeds->count + 1) * sizeof *seeds->items);
    seeds->items[seeds->count] = BUF_INIT;
    buf_append_slice(&seeds->items[seeds->count++], seed);
}

static void seeds_release(struct seeds *seeds)
{
    for (size_t i = 0; i < seeds->count; i++)
        buf_release(&seeds->items[i]);
    mem_free(seeds->items);
}

/* Numbers at whose edges decoders err. */
static uint64_t odd_number(uint64_t *state)
{
    static const uint64_t odd[] = {0,          1,          0x7f,       0x80,
                                   0xff,       0x100,      0x7fff,     0xffff,
                                   0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX};
    return odd[below(state, sizeof odd / sizeof odd[0])];
}

static void mutate_once(struct buf *input, const struct seeds *seeds, uint64_t *state)
{
    size_t at = below(state, input->size);
    uint64_t number;
    switch (below(state, 6)) {
    case 0:
        if (input->size) input->data[at] ^= (uint8_t)(1u << below(state, 8));
        return;
    case 1:
        if (input->size) input->data[at] = (uint8_t)next_random(state);
        return;
    case 2: input->size = at; return;
    case 3: /* an odd number in place */
        number = odd_number(state);
        for (size_t i = 0, n = (size_t)1 << below(state, 4); i < n; i++)
            if (at + i < input->size) input->data[at + i] = (uint8_t)(number >> 8 * i);
        return;
    case 4: { /* a piece of another seed over what is here */
        const struct buf *other = &seeds->items[below(state, seeds->count)];
        size_t from = below(state, other->size), n = below(state, 64);
        for (size_t i = 0; i < n && at + i < input->size && from + i < other->size; i++)
            input->data[at + i] = other->data[from + i];
        return;
    }
    default: /* a few bytes more */
        for (size_t i = 0, n = below(state, 9); i < n; i++)
            buf_append_byte(input, (uint8_t)next_random(state));
    }
}

/* ---- what was found earlier ---- */

enum { CORPUS_MAX = 32 << 10, INPUTS_MAX = 4096 };

static void read_file(const char *path, struct buf *out)
{
    uint8_t block[4096];
    FILE *file = fopen(path, "rb");
    if (!file) return;
    for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;)
        buf_append(out, block, n);
    (void)fclose(file);
}

/* Adds the target's corpus to its seeds. Where it is not there, as in another folder,
 * there is none. */
static void keep_corpus(const struct fuzz_target *t, struct seeds *seeds)
{
    char path[256];
    struct buf bytes = BUF_INIT;
    (void)snprintf(path, sizeof path, "tests/fuzz/corpus/%s", t->name);
    read_file(path, &bytes);
    struct reader r = reader_of(buf_slice(&bytes));
    while (!r.failed && !reader_done(&r)) {
        uint32_t size = get_u32(&r);
        struct slice input = get_bytes(&r, size);
        if (!r.failed) keep_seed(seeds, input);
    }
    buf_release(&bytes);
}

static int by_size(const void *a, const void *b)
{
    const struct buf *x = a, *y = b;
    return (x->size > y->size) - (x->size < y->size);
}

static int pack(const char *path, char **files, int count)
{
    struct buf inputs[INPUTS_MAX], out = BUF_INIT;
    int n = count < INPUTS_MAX ? count : INPUTS_MAX;
    for (int i = 0; i < n; i++) {
        inputs[i] = BUF_INIT;
        read_file(files[i], &inputs[i]);
    }
    qsort(inputs, (size_t)n, sizeof *inputs, by_size);
    for (int i = 0; i < n; i++) {
        if (out.size + sizeof(uint32_t) + inputs[i].size <= CORPUS_MAX) {
            put_u32(&out, (uint32_t)inputs[i].size);
            buf_append_slice(&out, buf_slice(&inputs[i]));
        }
        buf_release(&inputs[i]);
    }
    FILE *file = fopen(path, "wb");
    bool written = file && fwrite(out.data, 1, out.size, file) == out.size;
    if (file && fclose(file) != 0) written = false;
    buf_release(&out);
    if (!written) perror(path);
    return written ? 0 : 1;
}

static void run_target(const struct fuzz_target *t, uint64_t rounds, uint64_t seed)
{
    struct seeds seeds = {.items = NULL};
    struct buf input = BUF_INIT;
    uint64_t state = seed, accepted = 0;

    (void)t->run(SLICE_EMPTY);
    t->seeds(keep_seed, &seeds);
    for (size_t i = 0; i < seeds.count; i++)
        REQUIRE(t->run(buf_slice(&seeds.items[i])));
    size_t own = seeds.count;
    keep_corpus(t, &seeds);
    for (size_t i = own; i < seeds.count; i++)
        accepted += t->run(buf_slice(&seeds.items[i]));
    for (uint64_t i = 0; i < rounds && seeds.count; i++) {
        buf_clear(&input);
        /* Seeds are right, so that what comes of them goes far; half the time. */
        size_t among = i % 2 ? seeds.count : own;
        buf_append_slice(&input, buf_slice(&seeds.items[below(&state, among)]));
        for (size_t n = 1 + below(&state, 4); n > 0; n--)
            mutate_once(&input, &seeds, &state);
        /* Exactly as large as it is, so that ASan sees the first byte too many. */
        uint8_t *exact = mem_dup(input.data, input.size);
        accepted += t->run(slice_of(exact, input.size));
        mem_free(exact);
    }
    (void)printf("%s: %zu seeds, %zu of the corpus, %llu mutations, %llu accepted\n",
                 t->name, own, seeds.count - own, (unsigned long long)rounds,
                 (unsigned long long)accepted);
    (void)fflush(stdout);
    seeds_release(&seeds);
    buf_release(&input);
}

static void write_seeds(const struct fuzz_target *t, const char *dir)
{
    struct seeds seeds = {.items = NULL};
    t->seeds(keep_seed, &seeds);
    for (size_t i = 0; i < seeds.count; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/seed-%zu", dir, i);
        FILE *file = fopen(path, "wb");
        const struct buf *b = &seeds.items[i];
        if (!file || fwrite(b->data, 1, b->size, file) != b->size ||
            fclose(file) != 0) {
            perror(path);
            exit(1);
        }
    }
    seeds_release(&seeds);
}

static void run_file(const struct fuzz_target *t, const char *path)
{
    struct buf bytes = BUF_INIT;
    read_file(path, &bytes);
    uint8_t *exact = mem_dup(bytes.data, bytes.size);
    (void)t->run(slice_of(exact, bytes.size));
    mem_free(exact);
    buf_release(&bytes);
}

static unsigned for_all(void (*each)(const struct fuzz_target *, uint64_t, uint64_t),
                        uint64_t rounds, uint64_t seed)
{
    unsigned count = 0;
    for (size_t g = 0; g < GROUPS; g++)
        for (const struct fuzz_target *t = groups[g]; t->name; t++, count++)
            each(t, rounds, seed);
    return count;
}

static void print_name(const struct fuzz_target *t, uint64_t rounds, uint64_t seed)
{
    (void)rounds;
    (void)seed;
    (void)puts(t->name);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"rounds", required_argument, NULL, 'r'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"target", required_argument, NULL, 't'},
                                            {"write", required_argument, NULL, 'w'},
                                            {"pack", required_argument, NULL, 'p'},
                                            {"list", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    const struct fuzz_target *target = NULL;
    const char *dir = NULL;
    uint64_t rounds = 2000, seed = (uint64_t)time(NULL);
    unsigned count = 1;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'r': rounds = strtoull(optarg, NULL, 10); break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 't': target = find_target(optarg); break;
        case 'w': dir = optarg; break;
        case 'p': return pack(optarg, argv + optind, argc - optind);
        case 'l': (void)for_all(print_name, 0, 0); return 0;
        default: return 2;
        }
    }
    if (target && dir) {
        write_seeds(target, dir);
        return 0;
    }
    if (target && optind < argc) {
        for (int i = optind; i < argc; i++)
            run_file(target, argv[i]);
        return 0;
    }
    (void)printf("seed %llu (--seed %llu repeats)\n", (unsigned long long)seed,
                 (unsigned long long)seed);
    (void)fflush(stdout);
    if (target)
        run_target(target, rounds, seed);
    else
        count = for_all(run_target, rounds, seed);
    (void)printf("%u passed, 0 failed\n", count); /* a failure aborts */
    return 0;
}

#endif
