#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "cache/slab.h"
#include "fuzz/fuzz.h"
#include "http/http_gzip.h"
#include "inspect/stored_key.h"
#include "store/s3_credentials.h"

enum { OP_MEMORY = 32 << 20 };

/* ---- the disk cache's file ---- */

enum { SLAB_SIZE = 1 << 20, INDEX_SIZE = 1 << 20, PIECES = 24, PIECE_SIZE_MAX = 6000 };

static struct {
    char folder[64], path[96];
    struct buf whole; /* the file, as it should be */
} slab;

static void slab_clean(void)
{
    (void)unlink(slab.path);
    (void)rmdir(slab.folder);
}

static struct slab_id piece_of(unsigned i)
{
    static const char *const keys[] = {"ns/films/00/segment/a.seg", "b"};
    return (struct slab_id){.key = keys[i % 2],
                            .offset = (uint64_t)i << 12,
                            .size = 1 + i * 997 % PIECE_SIZE_MAX};
}

static void piece_fill(const struct slab_id *id, uint8_t *out)
{
    for (uint32_t i = 0; i < id->size; i++)
        out[i] = (uint8_t)(id->offset / 4096 * 31 + i * 7);
}

static struct slab *slab_of(struct op *op)
{
    struct slab *s = NULL;
    enum err e = slab_open(op, slab.folder, SLAB_SIZE, INDEX_SIZE, &s);
    REQUIRE(!e);
    return s;
}

static void put_piece(struct op *op, struct slab *s, unsigned i)
{
    uint8_t data[PIECE_SIZE_MAX];
    struct slab_id id = piece_of(i);
    piece_fill(&id, data);
    REQUIRE(slab_append(op, s, &id, data) == ERR_OK);
}

static enum slab_found get_piece(struct slab *s, unsigned i, bool honest)
{
    uint8_t data[PIECE_SIZE_MAX], wanted[PIECE_SIZE_MAX];
    struct slab_id id = piece_of(i);
    enum slab_found found = slab_read(s, &id, data);
    piece_fill(&id, wanted);
    if (found == SLAB_HIT && honest) REQUIRE(memcmp(data, wanted, id.size) == 0);
    return found;
}

static void read_whole(const char *path, struct buf *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &about) == 0);
    buf_reserve(out, (size_t)about.st_size);
    REQUIRE(read(fd, out->data, (size_t)about.st_size) == about.st_size);
    out->size = (size_t)about.st_size;
    (void)close(fd);
}

/* Two regions, one with its table and one that was never finished. */
static void slab_make(void)
{
    struct op op;
    if (slab.whole.size) return;
    (void)snprintf(slab.folder, sizeof slab.folder, "%s/elacsym-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    REQUIRE(mkdtemp(slab.folder));
    (void)snprintf(slab.path, sizeof slab.path, "%s/ranges.slab", slab.folder);
    (void)atexit(slab_clean);
    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    struct slab *s = slab_of(&op);
    for (unsigned i = 0; i < PIECES; i++)
        put_piece(&op, s, i);
    slab_unref(s);
    read_whole(slab.path, &slab.whole);
    op_release(&op);
}

/* Makes right the checksums of all heads, records and trailers: magic at 0, CRC32C of
 * what follows at 4, at every unit of the file. */
static void slab_repair(uint8_t *bytes, size_t size)
{
    for (size_t at = SLAB_HEADER_SIZE; at + SLAB_UNIT <= size; at += SLAB_UNIT) {
        uint8_t *piece = bytes + at;
        size_t length = SLAB_UNIT;
        if (memcmp(piece, "EREC", 4) == 0) {
            uint16_t key_size;
            memcpy(&key_size, piece + 32, sizeof key_size);
            length = SLAB_RECORD_HEAD_SIZE + (size_t)key_size;
        } else if (memcmp(piece, "EREG", 4) != 0 && memcmp(piece, "EEND", 4) != 0) {
            continue;
        }
        if (length > size - at) continue;
        uint32_t check = crc32c(0, piece + 8, length - 8);
        memcpy(piece + 4, &check, sizeof check);
    }
}

/* How: bit 0, checksums are repaired; bit 1, the file is cut behind the last change.
 * Then changes of the good file: where (3 bytes), how many bytes (1), these bytes. */
static void slab_damage(struct slice input, struct buf *file)
{
    unsigned how = fuzz_byte(input, 0);
    size_t at = 0;
    buf_append_slice(file, buf_slice(&slab.whole));
    for (size_t i = 1; i + 4 <= input.size;) {
        const uint8_t *p = input.data + i;
        at = ((size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16) % file->size;
        size_t n = p[3];
        if (n > input.size - i - 4) n = input.size - i - 4;
        if (n > file->size - at) n = file->size - at;
        memcpy(file->data + at, p + 4, n);
        i += 4 + n;
    }
    if (how & 1) slab_repair(file->data, file->size);
    if (how & 2) file->size = at;
}

/* Whatever the file holds: what is found in it is what was written, and it goes on
 * being a cache. */
static bool run_slab(struct slice input)
{
    struct op op;
    struct buf file = BUF_INIT;
    bool honest = !(fuzz_byte(input, 0) & 1);
    unsigned hits = 0;

    slab_make();
    slab_damage(input, &file);
    int fd = open(slab.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, file.data, file.size) == (ssize_t)file.size);
    (void)close(fd);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    struct slab *s = slab_of(&op);
    for (unsigned i = 0; i < PIECES; i++)
        hits += get_piece(s, i, honest) == SLAB_HIT;
    put_piece(&op, s, PIECES);
    REQUIRE(get_piece(s, PIECES, true) == SLAB_HIT);
    slab_finish(s);
    slab_unref(s);
    s = slab_of(&op);
    for (unsigned i = 0; i < PIECES; i++)
        (void)get_piece(s, i, honest);
    slab_unref(s);
    op_release(&op);
    buf_release(&file);
    return hits > 0;
}

static void seeds_slab(fuzz_emit *emit, void *context)
{
    static const uint8_t none[] = {0};
    static const uint8_t head[] = {1, 0, 16, 0, 12, 'E', 'R', 'E', 'G',
                                   0, 0, 0,  0, 9,  0,   0,   0};
    static const uint8_t record[] = {1, 64, 16, 0, 12, 'E', 'R', 'E', 'C',
                                     0, 0,  0,  0, 9,  0,   0,   0};
    emit(context, slice_of(none, sizeof none));
    emit(context, slice_of(head, sizeof head));
    emit(context, slice_of(record, sizeof record));
}

/* ---- the files with credentials ---- */

static void printable_word(const char *word)
{
    for (; *word; word++)
        REQUIRE(*word >= ' ' && *word <= '~');
}

/* Never one that names a command: it would be run. */
static bool run_credentials(struct slice input)
{
    static const char command[] = "credential_process";
    char path[64], file[128], config[128];
    const char *environment[] = {file, config, "AWS_PROFILE=films",
                                 "AWS_EC2_METADATA_DISABLED=true", NULL};
    const struct s3_secret *secret = NULL;
    struct op op;

    if (memmem(input.data, input.size, command, sizeof command - 1)) return false;
    int fd = memfd_create("credentials", 0);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, input.data, input.size) == (ssize_t)input.size);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    (void)snprintf(file, sizeof file, "AWS_SHARED_CREDENTIALS_FILE=%s", path);
    (void)snprintf(config, sizeof config, "AWS_CONFIG_FILE=%s", path);

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    const struct s3_credentials_options options = {.environment = environment,
                                                   .region = "eu-west-1"};
    struct s3_credentials *c = s3_credentials_new(&options);
    enum err e = s3_credentials_get(&op, c, true, &secret);
    REQUIRE(!e || (e == ERR_DENIED && op.error[0]));
    if (!e) {
        REQUIRE(*secret->access_key && *secret->secret_key);
        printable_word(secret->access_key);
        printable_word(secret->secret_key);
        printable_word(secret->token);
    }
    s3_secret_unref(secret);
    s3_credentials_free(c);
    op_release(&op);
    (void)close(fd);
    return !e;
}

static void seeds_credentials(fuzz_emit *emit, void *context)
{
    emit(context,
         SLICE_LITERAL("[default]\naws_access_key_id=A\naws_secret_access_key=B\n\n"
                       "# ours\r\n[films]\r\n aws_session_token = nested\n"
                       "aws_access_key_id = AKIA\naws_secret_access_key\t=\tx/y+z=\n"
                       "aws_session_token = t\n[profile films]\nregion=eu\n"));
    emit(context, SLICE_LITERAL("[ profile films ]\naws_access_key_id=AKIA;\n"
                                "aws_secret_access_key=s\nregion = eu-west-1"));
}

/* ---- compressed bodies ---- */

static bool grant(void *context, size_t bytes)
{
    size_t *granted = context;
    *granted += bytes;
    return true;
}

static bool run_gzip(struct slice input)
{
    enum { SIZE_MAX_OF_BODY = 1 << 20 };
    struct op op;
    struct buf out = BUF_INIT, packed = BUF_INIT, again = BUF_INIT;
    size_t granted = 0;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = http_gunzip(&op, input, SIZE_MAX_OF_BODY, grant, &granted, &out);
    REQUIRE(!e || e == ERR_LIMIT || e == ERR_INVALID);
    REQUIRE(out.size <= SIZE_MAX_OF_BODY && out.capacity <= granted);
    if (!e) {
        http_gzip(buf_slice(&out), &packed);
        REQUIRE(http_gunzip(&op, buf_slice(&packed), SIZE_MAX_OF_BODY, grant, &granted,
                            &again) == ERR_OK);
        REQUIRE(slice_equal(buf_slice(&out), buf_slice(&again)));
    }
    buf_release(&out);
    buf_release(&packed);
    buf_release(&again);
    op_release(&op);
    return !e;
}

static void seeds_gzip(fuzz_emit *emit, void *context)
{
    struct buf packed = BUF_INIT;
    http_gzip(SLICE_LITERAL("{\"top_k\":10,\"vector\":[1,2,3,1,2,3,1,2,3]}"), &packed);
    emit(context, buf_slice(&packed));
    http_gzip(SLICE_EMPTY, &packed); /* two members */
    emit(context, buf_slice(&packed));
    buf_release(&packed);
}

/* ---- keys of objects, as a listing or a person gives them ---- */

static bool run_stored_key(struct slice input)
{
    struct buf key = BUF_INIT;
    struct stored_key at;
    buf_append_slice(&key, input);
    buf_append_byte(&key, 0);
    bool ours = stored_key_parse((const char *)key.data, &at);
    if (ours) REQUIRE(store_key_valid((const char *)key.data) && *at.name);
    buf_release(&key);
    return ours;
}

static void seeds_stored_key(fuzz_emit *emit, void *context)
{
    static const uint8_t incarnation[INCARNATION_SIZE] = {1, 2, 0xfe};
    struct keys keys;
    keys_init(&keys, "a/b", "films", incarnation);
    struct key made[] = {key_wal(&keys, 7), key_manifest(&keys, 3),
                         key_segment_new(&keys, 5, "seg"),
                         key_segment_new(&keys, 5, "idem"), key_catalog("films", 1)};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        emit(context, slice_str(made[i].text));
}

const struct fuzz_target fuzz_files[] = {{"slab", run_slab, seeds_slab},
                                         {"credentials", run_credentials,
                                          seeds_credentials},
                                         {"gzip", run_gzip, seeds_gzip},
                                         {"stored_key", run_stored_key,
                                          seeds_stored_key},
                                         {NULL, NULL, NULL}};
