/*
 * A region's life: begin (its sequence is drawn, so all places in it die; its head is
 * written), append, seal (table and trailer). A reader takes no part in this: it reads
 * without a lock, and if the region began anew meanwhile the record it finds has
 * another sequence or a checksum that does not fit, which is a miss.
 *
 * Moving survivors needs somewhere to move them to, so once the file has its size one
 * region is always spare: what is used next. The oldest region is emptied into the
 * newest right after that one began, and becomes the spare one.
 */
#include "cache/slab.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/slab_index.h"

static const char FILE_NAME[] = "ranges.slab";

enum {
    PAGE = 4096,
    REGION_MAX = 64 << 20, /* unless that makes too many regions */
    REGIONS_WANTED = 64,
    REGIONS_MIN = 4,
    PIECES_PER_REGION = 4,  /* at least */
    TABLE_GUESS = 32 << 10, /* of 2000 pieces */
    NO_REGION = SLAB_REGIONS_MAX,
    SURVIVORS_SHARE = 2, /* at most half of a region is moved on to the next */
    FREE_SHARE = 20,     /* a twentieth of the file system stays free */
    RECORD_FRONT = SLAB_RECORD_FRONT_MAX
};
static const uint64_t FREE_MAX = (uint64_t)16 << 30;
/* Beside the regions: the folder, and how the file system keeps track of the file. */
static const uint64_t SLACK_MIN = 64 << 10;
enum { SLACK_SHARE = 1024 };

struct slab {
    atomic_uint refs;
    char *path;
    int fd;
    uint64_t size_max, region_size;
    uint32_t regions_max;

    struct mutex lock; /* guards the rest up to the next comment */
    struct slab_index *index;
    uint32_t current[SLAB_REGIONS_MAX]; /* sequence by region; 0: nothing in it */
    uint32_t regions;                   /* that the file has */
    uint64_t recovered;
    bool growing; /* there is room that nobody needs to make way for */

    /* The writer's. */
    uint32_t active, spare; /* NO_REGION: none */
    uint64_t position;      /* in the active region, of the next record */
    uint32_t last_sequence;
    struct buf table; /* of the active region */
};

/* ---- files ---- */

static uint64_t region_offset(const struct slab *s, uint32_t region)
{
    return SLAB_HEADER_SIZE + region * s->region_size;
}

/* True if all of it was there. */
static bool read_at(const struct slab *s, uint64_t offset, void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = pread(s->fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

static enum err fail_errno(struct op *op, const char *what, const char *path)
{
    enum err e = errno == ENOSPC || errno == EDQUOT || errno == EFBIG  ? ERR_FULL
                 : errno == EACCES || errno == EPERM || errno == EROFS ? ERR_DENIED
                                                                       : ERR_IO;
    return op_fail(op, e, "%s %s: %s", what, path, strerror(errno));
}

static enum err write_at(struct op *op, const struct slab *s, uint64_t offset,
                         const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t n = pwrite(s->fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(op, "write", s->path);
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return ERR_OK;
}

/* ---- opening ---- */

static enum err make_folders(struct op *op, const char *folder)
{
    char *path = op_printf(op, "%s", folder);
    if (!path) return ERR_LIMIT;
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return fail_errno(op, "make folder", path);
        *at = '/';
    }
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return fail_errno(op, "make folder", path);
    return ERR_OK;
}

/* Whether the open file is what stands at the path. */
static bool same_file(const struct slab *s, struct stat *open_file)
{
    struct stat there;
    return fstat(s->fd, open_file) == 0 && stat(s->path, &there) == 0 &&
           open_file->st_ino == there.st_ino && open_file->st_dev == there.st_dev;
}

static enum err open_file(struct op *op, struct slab *s)
{
    struct stat about;

    s->fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->fd < 0) return fail_errno(op, "open", s->path);
    if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return op_fail(op, ERR_BUSY, "%s is in use by another process", s->path);
        return fail_errno(op, "lock", s->path);
    }
    if (!same_file(s, &about))
        return op_fail(op, ERR_IO, "%s was replaced while it was opened", s->path);
    return ERR_OK;
}

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static uint64_t room_for_regions(uint64_t size_max)
{
    uint64_t slack = SLACK_MIN + size_max / SLACK_SHARE;
    return size_max - SLAB_HEADER_SIZE - slack;
}

static uint64_t region_size_for(uint64_t size_max)
{
    uint64_t room = room_for_regions(size_max);
    uint64_t size = room / REGIONS_WANTED / PAGE * PAGE;
    if (size < SLAB_REGION_MIN) size = SLAB_REGION_MIN;
    if (size > REGION_MAX) size = REGION_MAX;
    uint64_t least = round_up(room / SLAB_REGIONS_MAX + 1, PAGE);
    return size < least ? least : size;
}

static bool region_count_fits(uint64_t count)
{
    return count >= REGIONS_MIN && count <= SLAB_REGIONS_MAX;
}

static enum err start_empty(struct op *op, struct slab *s)
{
    uint8_t header[SLAB_HEADER_SIZE];

    s->region_size = region_size_for(s->size_max);
    s->regions_max = (uint32_t)(room_for_regions(s->size_max) / s->region_size);
    s->regions = 0;
    if (ftruncate(s->fd, 0) != 0) return fail_errno(op, "cut", s->path);
    slab_header_encode(s->region_size, header);
    return write_at(op, s, 0, header, sizeof header);
}

/* The size of regions stays what it is in the file while it gives a fair number of
 * them, so that a change of the budget does not empty the cache. */
static enum err open_header(struct op *op, struct slab *s)
{
    uint8_t header[SLAB_HEADER_SIZE];
    uint64_t room = room_for_regions(s->size_max);
    struct stat about;

    if (fstat(s->fd, &about) != 0) return fail_errno(op, "look at", s->path);
    bool known = read_at(s, 0, header, sizeof header) &&
                 slab_header_decode(header, &s->region_size) &&
                 region_count_fits(room / s->region_size);
    if (!known) return start_empty(op, s);

    s->regions_max = (uint32_t)(room / s->region_size);
    uint64_t there = ((uint64_t)about.st_size - SLAB_HEADER_SIZE) / s->region_size;
    s->regions = there < s->regions_max ? (uint32_t)there : s->regions_max;
    if (ftruncate(s->fd, (off_t)region_offset(s, s->regions)) != 0)
        return fail_errno(op, "cut", s->path);
    return ERR_OK;
}

/* ---- recovering ---- */

struct recovered {
    uint32_t region, sequence;
    uint64_t end; /* behind the last record; 0: nothing there */
    struct buf table;
};

static void table_add(struct buf *table, uint64_t tag, uint64_t offset)
{
    uint8_t bytes[SLAB_TABLE_ENTRY_SIZE];
    struct slab_table_entry entry = {.tag = tag,
                                     .unit = (uint32_t)(offset / SLAB_UNIT)};
    slab_table_encode(&entry, bytes);
    buf_append(table, bytes, sizeof bytes);
}

/* Where the region may hold records up to, with so many bytes of table. */
static uint64_t records_max(const struct slab *s, uint64_t table_size)
{
    return s->region_size - SLAB_TRAILER_SIZE - table_size;
}

static bool recover_sealed(const struct slab *s, struct recovered *r)
{
    uint8_t bytes[SLAB_TRAILER_SIZE];
    uint64_t start = region_offset(s, r->region);
    uint64_t trailer_offset = s->region_size - SLAB_TRAILER_SIZE;
    struct slab_trailer trailer;

    if (!read_at(s, start + trailer_offset, bytes, sizeof bytes) ||
        !slab_trailer_decode(bytes, &trailer) || trailer.sequence != r->sequence)
        return false;
    uint64_t size = (uint64_t)trailer.count * SLAB_TABLE_ENTRY_SIZE;
    uint64_t end = (uint64_t)trailer.end * SLAB_UNIT;
    if (size > trailer_offset || end < SLAB_HEAD_SIZE || end > records_max(s, size))
        return false;
    buf_reserve(&r->table, size);
    if (!read_at(s, start + trailer_offset - size, r->table.data, size)) return false;
    if (crc32c(0, r->table.data, size) != trailer.table_crc) return false;
    r->table.size = size;
    r->end = end;
    return true;
}

/* The record at `at` with all that may come before `end`; false if there is none of
 * this life of the region. */
static bool walk_step(const struct slab *s, const struct recovered *r, uint64_t at,
                      uint64_t end, struct slab_record *record)
{
    uint8_t front[RECORD_FRONT];
    if (at + SLAB_RECORD_HEAD_SIZE >= end) return false;
    size_t size = end - at < sizeof front ? (size_t)(end - at) : sizeof front;
    return read_at(s, region_offset(s, r->region) + at, front, size) &&
           slab_record_decode(front, size, record) && record->sequence == r->sequence &&
           slab_record_size(&record->id) <= end - at;
}

static bool data_whole(const struct slab *s, uint64_t offset,
                       const struct slab_record *record)
{
    uint8_t *data = mem_alloc(record->id.size);
    offset += SLAB_RECORD_HEAD_SIZE + strlen(record->key);
    bool whole = read_at(s, offset, data, record->id.size) &&
                 xxh3_64(data, record->id.size) == record->data_hash;
    mem_free(data);
    return whole;
}

/* Record by record. The last one may have been cut off while it was written. */
static void recover_walking(const struct slab *s, struct recovered *r)
{
    struct slab_record record, last = {.sequence = 0};
    uint64_t at = SLAB_HEAD_SIZE, last_at = at;

    buf_clear(&r->table);
    while (walk_step(s, r, at, records_max(s, r->table.size + SLAB_TABLE_ENTRY_SIZE),
                     &record)) {
        table_add(&r->table, slab_tag(&record.id), at);
        last = record;
        last.id.key = last.key;
        last_at = at;
        at += slab_record_size(&record.id);
    }
    r->end = at;
    if (last.sequence == 0 ||
        data_whole(s, region_offset(s, r->region) + last_at, &last))
        return;
    r->table.size -= SLAB_TABLE_ENTRY_SIZE;
    r->end = last_at;
}

/* Fills in what the region holds; end stays 0 if it holds nothing of ours. */
static void recover(const struct slab *s, struct recovered *r)
{
    uint8_t head[SLAB_HEAD_SIZE];
    if (!read_at(s, region_offset(s, r->region), head, sizeof head) ||
        !slab_head_decode(head, &r->sequence) ||
        r->sequence % SLAB_REGIONS_MAX != r->region)
        return;
    if (!recover_sealed(s, r)) recover_walking(s, r);
}

static struct slab_table_entry table_entry(const struct buf *table, size_t index)
{
    return slab_table_decode(table->data + index * SLAB_TABLE_ENTRY_SIZE);
}

static size_t table_count(const struct buf *table)
{
    return table->size / SLAB_TABLE_ENTRY_SIZE;
}

static void index_recovered(struct slab *s, const struct recovered *r)
{
    s->current[r->region] = r->sequence;
    for (size_t i = 0; i < table_count(&r->table); i++) {
        struct slab_table_entry entry = table_entry(&r->table, i);
        struct slab_place place = {.sequence = r->sequence, .unit = entry.unit};
        if (entry.tag && entry.unit < r->end / SLAB_UNIT)
            slab_index_put(s->index, entry.tag, place);
    }
    s->recovered += table_count(&r->table);
}

/* The newest region goes on where it ended. Without its trailer it is walked again,
 * should this process be killed. */
static enum err resume(struct op *op, struct slab *s, struct recovered *newest)
{
    static const uint8_t nothing[SLAB_TRAILER_SIZE];
    s->active = newest->region;
    s->position = newest->end;
    s->table = newest->table;
    newest->table = BUF_INIT;
    return write_at(op, s,
                    region_offset(s, s->active) + s->region_size - SLAB_TRAILER_SIZE,
                    nothing, sizeof nothing);
}

/* Lets the kernel fetch heads and tables of all regions at once. */
static void expect_tables(const struct slab *s)
{
    for (uint32_t region = 0; region < s->regions; region++) {
        uint64_t start = region_offset(s, region), end = start + s->region_size;
        (void)posix_fadvise(s->fd, (off_t)start, PAGE, POSIX_FADV_WILLNEED);
        (void)posix_fadvise(s->fd, (off_t)(end - TABLE_GUESS), TABLE_GUESS,
                            POSIX_FADV_WILLNEED);
    }
}

static enum err recover_all(struct op *op, struct slab *s)
{
    struct recovered newest = {.table = BUF_INIT};

    expect_tables(s);
    for (uint32_t region = 0; region < s->regions; region++) {
        struct recovered r = {.region = region, .table = BUF_INIT};
        recover(s, &r);
        if (r.end) index_recovered(s, &r);
        if (r.end && r.sequence > newest.sequence) {
            struct recovered older = newest;
            newest = r;
            r = older;
        }
        buf_release(&r.table);
    }
    s->last_sequence = newest.sequence;
    enum err e = newest.end ? resume(op, s, &newest) : ERR_OK;
    buf_release(&newest.table);
    return e;
}

enum err slab_open(struct op *op, const char *folder, uint64_t size_max,
                   uint64_t index_max, struct slab **out)
{
    *out = NULL;
    if (size_max < SLAB_SIZE_MIN)
        return op_fail(op, ERR_LIMIT, "a disk cache of %llu bytes: less than %d",
                       (unsigned long long)size_max, (int)SLAB_SIZE_MIN);

    struct slab *s = mem_new(struct slab);
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/%s", folder, FILE_NAME);
    buf_append_byte(&path, 0);
    s->path = mem_strdup((const char *)path.data);
    buf_release(&path);
    atomic_init(&s->refs, 1);
    s->fd = -1;
    s->size_max = size_max;
    s->active = s->spare = NO_REGION;
    mutex_init(&s->lock);
    s->index = slab_index_new(index_max, s->current);

    enum err e = make_folders(op, folder);
    if (!e) e = open_file(op, s);
    if (!e) e = open_header(op, s);
    if (!e) e = recover_all(op, s);
    s->growing = s->regions < s->regions_max;
    if (e) {
        slab_unref(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

struct slab *slab_ref(struct slab *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void slab_unref(struct slab *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1) return;
    if (s->fd >= 0) (void)close(s->fd);
    slab_index_free(s->index);
    mutex_release(&s->lock);
    buf_release(&s->table);
    mem_free(s->path);
    mem_free(s);
}

uint32_t slab_piece_max(const struct slab *s)
{
    uint64_t share = s->region_size / PIECES_PER_REGION / PAGE * PAGE;
    return share < SLAB_PIECE_MAX ? (uint32_t)share : SLAB_PIECE_MAX;
}

bool slab_intact(const struct slab *s)
{
    struct stat about;
    return same_file(s, &about) &&
           (uint64_t)about.st_size >= region_offset(s, s->regions);
}

struct slab_usage slab_usage(struct slab *s)
{
    mutex_lock(&s->lock);
    struct slab_usage usage = {.size_max = s->size_max,
                               .bytes = region_offset(s, s->regions),
                               .region_size = s->region_size,
                               .index_bytes = slab_index_bytes(s->index),
                               .regions = s->regions,
                               .regions_max = s->regions_max,
                               .recovered = s->recovered};
    mutex_unlock(&s->lock);
    return usage;
}

/* ---- reading ---- */

static uint64_t place_offset(const struct slab *s, struct slab_place place)
{
    return region_offset(s, place.sequence % SLAB_REGIONS_MAX) +
           (uint64_t)place.unit * SLAB_UNIT;
}

bool slab_has(struct slab *s, const struct slab_id *id, bool read_ahead)
{
    struct slab_place place;
    mutex_lock(&s->lock);
    bool found = slab_index_find(s->index, slab_tag(id), &place);
    mutex_unlock(&s->lock);
    if (found && read_ahead)
        (void)posix_fadvise(s->fd, (off_t)place_offset(s, place),
                            (off_t)slab_record_size(id), POSIX_FADV_WILLNEED);
    return found;
}

/* Head and key of a record and, straight to where it belongs, its data. */
static bool read_record(const struct slab *s, uint64_t offset, uint8_t *front,
                        size_t front_size, uint8_t *data, size_t size)
{
    struct iovec parts[2] = {{.iov_base = front, .iov_len = front_size},
                             {.iov_base = data, .iov_len = size}};
    ssize_t n;
    do
        n = preadv(s->fd, parts, 2, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) return false;

    size_t got = (size_t)n;
    if (got < front_size && !read_at(s, offset + got, front + got, front_size - got))
        return false;
    if (got < front_size) got = front_size;
    return read_at(s, offset + got, data + (got - front_size), front_size + size - got);
}

/* Whether the record is the piece wanted, as it was written. */
static bool record_is(const struct slab_record *record, const struct slab_id *id,
                      uint32_t sequence, const uint8_t *data)
{
    return record->sequence == sequence && record->id.offset == id->offset &&
           record->id.size == id->size && strcmp(record->id.key, id->key) == 0 &&
           record->data_hash == xxh3_64(data, id->size);
}

/* What was read at a place is not what the index said. If the region began anew
 * meanwhile that is as it should be. */
static enum slab_found forget_place(struct slab *s, uint64_t tag,
                                    struct slab_place place)
{
    struct slab_place now;
    mutex_lock(&s->lock);
    bool same = slab_index_find(s->index, tag, &now) &&
                now.sequence == place.sequence && now.unit == place.unit;
    if (same) slab_index_remove(s->index, tag);
    mutex_unlock(&s->lock);
    return same ? SLAB_DAMAGED : SLAB_MISS;
}

enum slab_found slab_read(struct slab *s, const struct slab_id *id, uint8_t *data)
{
    uint8_t front[RECORD_FRONT];
    struct slab_record record;
    struct slab_place place;
    uint64_t tag = slab_tag(id);
    size_t front_size = SLAB_RECORD_HEAD_SIZE + strlen(id->key);

    mutex_lock(&s->lock);
    bool found = slab_index_find(s->index, tag, &place);
    if (found) (void)slab_index_touch(s->index, tag);
    mutex_unlock(&s->lock);
    if (!found) return SLAB_MISS;

    if (read_record(s, place_offset(s, place), front, front_size, data, id->size) &&
        slab_record_decode(front, front_size, &record) &&
        record_is(&record, id, place.sequence, data))
        return SLAB_HIT;
    return forget_place(s, tag, place);
}

void slab_forget(struct slab *s, const struct slab_id *id)
{
    mutex_lock(&s->lock);
    slab_index_remove(s->index, slab_tag(id));
    mutex_unlock(&s->lock);
}

enum slab_interest slab_interest(struct slab *s, const struct slab_id *id, bool once)
{
    uint64_t tag = slab_tag(id);
    enum slab_interest interest = SLAB_WANTS;

    mutex_lock(&s->lock);
    if (slab_index_touch(s->index, tag))
        interest = SLAB_HAS;
    else if (once && !s->growing && !slab_index_remember(s->index, tag))
        interest = SLAB_NOT_YET;
    mutex_unlock(&s->lock);
    return interest;
}

/* ---- writing ---- */

/* What the file system must keep free for others. */
static bool file_system_bears(const struct slab *s)
{
    struct statvfs fs;
    if (fstatvfs(s->fd, &fs) != 0) return false;
    uint64_t reserve = (uint64_t)fs.f_blocks * fs.f_frsize / FREE_SHARE;
    if (reserve > FREE_MAX) reserve = FREE_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= reserve + s->region_size;
}

/* Adds a region to the file, its space allocated; NO_REGION if it may not grow. */
static uint32_t grow(struct slab *s)
{
    uint32_t region = s->regions;
    if (region >= s->regions_max || !file_system_bears(s)) return NO_REGION;
    int failed =
        fallocate(s->fd, 0, (off_t)region_offset(s, region), (off_t)s->region_size);
    bool cannot = failed && errno == EOPNOTSUPP;
    if (cannot) failed = ftruncate(s->fd, (off_t)region_offset(s, region + 1));
    if (failed) return NO_REGION;
    mutex_lock(&s->lock);
    s->regions++;
    mutex_unlock(&s->lock);
    return region;
}

static uint32_t oldest_region(const struct slab *s)
{
    uint32_t oldest = NO_REGION;
    for (uint32_t i = 0; i < s->regions; i++) {
        if (i == s->active || i == s->spare) continue;
        if (oldest == NO_REGION || s->current[i] < s->current[oldest]) oldest = i;
    }
    return oldest;
}

static void set_current(struct slab *s, uint32_t region, uint32_t sequence)
{
    mutex_lock(&s->lock);
    s->current[region] = sequence;
    mutex_unlock(&s->lock);
}

/* The next number above the last that is the region's. */
static uint64_t sequence_for(const struct slab *s, uint32_t region)
{
    uint64_t round = s->last_sequence / SLAB_REGIONS_MAX;
    uint64_t sequence = round * SLAB_REGIONS_MAX + region;
    return sequence > s->last_sequence ? sequence : sequence + SLAB_REGIONS_MAX;
}

static enum err begin(struct op *op, struct slab *s, uint32_t region)
{
    uint8_t head[SLAB_HEAD_SIZE];
    uint64_t sequence = sequence_for(s, region);

    if (sequence > UINT32_MAX) /* after 2^19 times its size */
        return op_fail(op, ERR_IO, "%s is worn out, delete it", s->path);
    set_current(s, region, 0);
    slab_head_encode((uint32_t)sequence, head);
    enum err e = write_at(op, s, region_offset(s, region), head, sizeof head);
    if (e) return e;
    set_current(s, region, (uint32_t)sequence);
    s->last_sequence = (uint32_t)sequence;
    s->active = region;
    s->position = SLAB_HEAD_SIZE;
    buf_clear(&s->table);
    return ERR_OK;
}

/* Table and trailer of the active region. */
static enum err seal(struct op *op, struct slab *s)
{
    uint64_t end = region_offset(s, s->active) + s->region_size;
    struct slab_trailer trailer = {.sequence = s->current[s->active],
                                   .count = (uint32_t)table_count(&s->table),
                                   .end = (uint32_t)(s->position / SLAB_UNIT),
                                   .table_crc =
                                       crc32c(0, s->table.data, s->table.size)};
    struct buf bytes = BUF_INIT;

    buf_append_slice(&bytes, buf_slice(&s->table));
    buf_reserve(&bytes, SLAB_TRAILER_SIZE);
    slab_trailer_encode(&trailer, bytes.data + bytes.size);
    bytes.size += SLAB_TRAILER_SIZE;
    enum err e = write_at(op, s, end - bytes.size, bytes.data, bytes.size);
    buf_release(&bytes);
    /* Not for safety, which checksums see to: for errors of the disk to show, and so
     * that no more than a region waits to be written. */
    if (!e && fdatasync(s->fd) != 0) e = fail_errno(op, "sync", s->path);
    return e;
}

/* Whether the active region has room for so many records of that size in all. */
static bool have_room(const struct slab *s, size_t records, uint64_t size)
{
    uint64_t table_size = s->table.size + records * SLAB_TABLE_ENTRY_SIZE;
    return s->active != NO_REGION && s->position + size <= records_max(s, table_size);
}

static bool fits(const struct slab *s, uint64_t record_size)
{
    return have_room(s, 1, record_size);
}

/* What moves on must not take the room of the piece that the region was begun for. */
static bool survivor_fits(const struct slab *s, uint64_t record_size)
{
    uint64_t largest = round_up(RECORD_FRONT + slab_piece_max(s), SLAB_UNIT);
    return have_room(s, 2, record_size + largest);
}

static enum err put_record(struct op *op, struct slab *s, const struct slab_id *id,
                           const uint8_t *data)
{
    static const uint8_t zeros[SLAB_UNIT];
    uint8_t front[RECORD_FRONT];
    uint64_t size = slab_record_size(id), tag = slab_tag(id);
    struct slab_record record = {.sequence = s->current[s->active],
                                 .id = *id,
                                 .data_hash = xxh3_64(data, id->size)};
    uint64_t offset = region_offset(s, s->active) + s->position;

    assert(fits(s, size));
    size_t front_size = slab_record_encode(&record, front);
    size_t padding = (size_t)(size - front_size - id->size);
    struct iovec parts[3] = {{.iov_base = front, .iov_len = front_size},
                             {.iov_base = (void *)(uintptr_t)data, .iov_len = id->size},
                             {.iov_base = (void *)(uintptr_t)zeros,
                              .iov_len = padding}};
    ssize_t n;
    do
        n = pwritev(s->fd, parts, 3, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(op, "write", s->path);
    if ((uint64_t)n != size) {
        errno = ENOSPC; /* what a short write to a file means */
        return fail_errno(op, "write", s->path);
    }
    struct slab_place place = {.sequence = record.sequence,
                               .unit = (uint32_t)(s->position / SLAB_UNIT)};
    table_add(&s->table, tag, s->position);
    s->position += size;
    mutex_lock(&s->lock);
    slab_index_put(s->index, tag, place);
    mutex_unlock(&s->lock);
    return ERR_OK;
}

static bool touched(struct slab *s, uint64_t tag, struct slab_place place)
{
    mutex_lock(&s->lock);
    bool yes = slab_index_touched(s->index, tag, place);
    mutex_unlock(&s->lock);
    return yes;
}

/* Copies one record to the active region, if it is still what it was. */
static enum err move_record(struct op *op, struct slab *s, struct slab_place place,
                            uint8_t *room)
{
    uint8_t front[RECORD_FRONT];
    struct slab_record record;
    uint64_t offset = place_offset(s, place);

    uint64_t left =
        region_offset(s, place.sequence % SLAB_REGIONS_MAX) + s->region_size - offset;
    size_t size = left < sizeof front ? (size_t)left : sizeof front;
    if (!read_at(s, offset, front, size) || !slab_record_decode(front, size, &record) ||
        record.sequence != place.sequence)
        return ERR_OK;
    size_t front_size = SLAB_RECORD_HEAD_SIZE + strlen(record.key);
    if (slab_record_size(&record.id) > left ||
        !read_at(s, offset + front_size, room, record.id.size) ||
        xxh3_64(room, record.id.size) != record.data_hash ||
        !survivor_fits(s, slab_record_size(&record.id)))
        return ERR_OK;
    return put_record(op, s, &record.id, room);
}

/* Moves on what was asked for since it was written, as far as there is room. */
static enum err empty_region(struct op *op, struct slab *s, uint32_t region)
{
    struct recovered r = {.region = region, .table = BUF_INIT};
    uint8_t *room = mem_alloc(SLAB_PIECE_MAX);
    enum err e = ERR_OK;

    recover(s, &r);
    for (size_t i = 0; i < table_count(&r.table) && !e; i++) {
        struct slab_table_entry entry = table_entry(&r.table, i);
        struct slab_place place = {.sequence = r.sequence, .unit = entry.unit};
        if (s->position > s->region_size / SURVIVORS_SHARE) break;
        if (entry.tag && entry.unit < r.end / SLAB_UNIT && touched(s, entry.tag, place))
            e = move_record(op, s, place, room);
    }
    set_current(s, region, 0);
    mem_free(room);
    buf_release(&r.table);
    return e;
}

/* Makes a region active that has room. */
static enum err advance(struct op *op, struct slab *s)
{
    enum err e = s->active == NO_REGION ? ERR_OK : seal(op, s);
    if (e) return e;

    uint32_t region = grow(s);
    bool growing = region != NO_REGION && s->regions < s->regions_max;
    mutex_lock(&s->lock);
    s->growing = growing;
    mutex_unlock(&s->lock);
    if (region == NO_REGION) {
        region = s->spare;
        s->spare = NO_REGION;
    }
    if (region == NO_REGION) region = oldest_region(s);
    if (region == NO_REGION)
        return op_fail(op, ERR_FULL, "no room for two regions of %llu bytes in %s",
                       (unsigned long long)s->region_size, s->path);
    e = begin(op, s, region);
    if (e || growing) return e;

    uint32_t oldest = oldest_region(s);
    if (oldest == NO_REGION) return ERR_OK;
    e = empty_region(op, s, oldest);
    if (!e) s->spare = oldest;
    return e;
}

/* The active region ends here, without a table. */
static void give_up(struct slab *s)
{
    s->active = NO_REGION;
    buf_clear(&s->table);
}

enum err slab_append(struct op *op, struct slab *s, const struct slab_id *id,
                     const uint8_t *data)
{
    enum err e = ERR_OK;

    assert(id->size > 0 && id->size <= slab_piece_max(s));
    if (slab_has(s, id, false)) return ERR_OK;
    if (!fits(s, slab_record_size(id))) e = advance(op, s);
    if (!e) e = put_record(op, s, id, data);
    if (e) give_up(s);
    return e;
}

void slab_finish(struct slab *s)
{
    struct op op;
    if (s->active == NO_REGION) return;
    op_init(&op, OP_NO_DEADLINE, 0);
    (void)seal(&op, s); /* else it is walked */
    op_release(&op);
    give_up(s);
}
