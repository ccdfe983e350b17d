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
#include <stdatomic.h>
#include <string.h>

#include <sys/uio.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/slab_file.h"
#include "cache/slab_index.h"
#include "cache/slab_region.h"

enum {
    PAGE = 4096,
    PIECES_PER_REGION = 4, /* at least */
    NO_REGION = SLAB_REGIONS_MAX,
    SURVIVORS_SHARE = 2 /* at most half of a region is moved on to the next */
};

struct slab {
    atomic_uint refs;
    struct slab_file file;
    uint64_t size_max;

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

/* ---- opening ---- */

static void index_recovered(struct slab *s, const struct slab_region *r)
{
    s->current[r->region] = r->sequence;
    for (size_t i = 0; i < slab_table_count(&r->table); i++) {
        struct slab_table_entry entry = slab_table_at(&r->table, i);
        struct slab_place place = {.sequence = r->sequence, .unit = entry.unit};
        if (entry.tag && entry.unit < r->end / SLAB_UNIT)
            slab_index_put(s->index, entry.tag, place);
    }
    s->recovered += slab_table_count(&r->table);
}

/* The newest region goes on where it ended. Without its trailer it is walked again,
 * should this process be killed. */
static enum err resume(struct op *op, struct slab *s, struct slab_region *newest)
{
    static const uint8_t nothing[SLAB_TRAILER_SIZE];
    s->active = newest->region;
    s->position = newest->end;
    s->table = newest->table;
    newest->table = BUF_INIT;
    return slab_file_write(op, &s->file,
                           slab_region_offset(&s->file, s->active) +
                               s->file.region_size - SLAB_TRAILER_SIZE,
                           nothing, sizeof nothing);
}

static enum err recover_all(struct op *op, struct slab *s)
{
    struct slab_region newest = {.table = BUF_INIT};

    slab_regions_expect(&s->file, s->regions);
    for (uint32_t region = 0; region < s->regions; region++) {
        struct slab_region r;
        slab_region_read(&s->file, region, &r);
        if (r.end) index_recovered(s, &r);
        if (r.end && r.sequence > newest.sequence) {
            struct slab_region older = newest;
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
    atomic_init(&s->refs, 1);
    s->size_max = size_max;
    s->active = s->spare = NO_REGION;
    mutex_init(&s->lock);
    s->index = slab_index_new(index_max, s->current);

    enum err e = slab_file_open(op, folder, size_max, &s->file, &s->regions);
    if (!e) e = recover_all(op, s);
    s->growing = s->regions < s->file.regions_max;
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
    slab_file_close(&s->file);
    slab_index_free(s->index);
    mutex_release(&s->lock);
    buf_release(&s->table);
    mem_free(s);
}

uint32_t slab_piece_max(const struct slab *s)
{
    uint64_t share = s->file.region_size / PIECES_PER_REGION / PAGE * PAGE;
    return share < SLAB_PIECE_MAX ? (uint32_t)share : SLAB_PIECE_MAX;
}

bool slab_intact(const struct slab *s)
{
    return slab_file_intact(&s->file, s->regions);
}

struct slab_usage slab_usage(struct slab *s)
{
    mutex_lock(&s->lock);
    struct slab_usage usage = {.size_max = s->size_max,
                               .bytes = slab_region_offset(&s->file, s->regions),
                               .region_size = s->file.region_size,
                               .index_bytes = slab_index_bytes(s->index),
                               .regions = s->regions,
                               .regions_max = s->file.regions_max,
                               .recovered = s->recovered};
    mutex_unlock(&s->lock);
    return usage;
}

/* ---- reading ---- */

static uint64_t place_offset(const struct slab *s, struct slab_place place)
{
    return slab_region_offset(&s->file, place.sequence % SLAB_REGIONS_MAX) +
           (uint64_t)place.unit * SLAB_UNIT;
}

bool slab_has(struct slab *s, const struct slab_id *id, bool read_ahead)
{
    struct slab_place place;
    mutex_lock(&s->lock);
    bool found = slab_index_find(s->index, slab_tag(id), &place);
    mutex_unlock(&s->lock);
    if (found && read_ahead)
        slab_file_expect(&s->file, place_offset(s, place), slab_record_size(id));
    return found;
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
    uint8_t front[SLAB_RECORD_FRONT_MAX];
    struct slab_record record;
    struct slab_place place;
    uint64_t tag = slab_tag(id);
    size_t front_size = SLAB_RECORD_HEAD_SIZE + strlen(id->key);

    mutex_lock(&s->lock);
    bool found = slab_index_find(s->index, tag, &place);
    if (found) (void)slab_index_touch(s->index, tag);
    mutex_unlock(&s->lock);
    if (!found) return SLAB_MISS;

    if (slab_file_read_two(&s->file, place_offset(s, place), front, front_size, data,
                           id->size) &&
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

/* Adds a region to the file; NO_REGION if it may not grow. */
static uint32_t grow(struct slab *s)
{
    uint32_t region = s->regions;
    if (!slab_file_grow(&s->file, region)) return NO_REGION;
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
        return op_fail(op, ERR_IO, "%s is worn out, delete it", s->file.path);
    set_current(s, region, 0);
    slab_head_encode((uint32_t)sequence, head);
    enum err e = slab_file_write(op, &s->file, slab_region_offset(&s->file, region),
                                 head, sizeof head);
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
    uint64_t end = slab_region_offset(&s->file, s->active) + s->file.region_size;
    struct slab_trailer trailer = {.sequence = s->current[s->active],
                                   .count = (uint32_t)slab_table_count(&s->table),
                                   .end = (uint32_t)(s->position / SLAB_UNIT),
                                   .table_crc =
                                       crc32c(0, s->table.data, s->table.size)};
    struct buf bytes = BUF_INIT;

    buf_append_slice(&bytes, buf_slice(&s->table));
    buf_reserve(&bytes, SLAB_TRAILER_SIZE);
    slab_trailer_encode(&trailer, bytes.data + bytes.size);
    bytes.size += SLAB_TRAILER_SIZE;
    enum err e =
        slab_file_write(op, &s->file, end - bytes.size, bytes.data, bytes.size);
    buf_release(&bytes);
    return e ? e : slab_file_sync(op, &s->file);
}

/* Whether the active region has room for so many records of that size in all. */
static bool have_room(const struct slab *s, size_t records, uint64_t size)
{
    uint64_t table_size = s->table.size + records * SLAB_TABLE_ENTRY_SIZE;
    return s->active != NO_REGION &&
           s->position + size <= slab_region_room(&s->file, table_size);
}

static bool fits(const struct slab *s, uint64_t record_size)
{
    return have_room(s, 1, record_size);
}

/* What moves on must not take the room of the piece that the region was begun for. */
static bool survivor_fits(const struct slab *s, uint64_t record_size)
{
    uint64_t largest = SLAB_RECORD_FRONT_MAX + slab_piece_max(s) + SLAB_UNIT;
    return have_room(s, 2, record_size + largest);
}

static enum err put_record(struct op *op, struct slab *s, const struct slab_id *id,
                           const uint8_t *data)
{
    static const uint8_t zeros[SLAB_UNIT];
    uint8_t front[SLAB_RECORD_FRONT_MAX];
    uint64_t size = slab_record_size(id), tag = slab_tag(id);
    struct slab_record record = {.sequence = s->current[s->active],
                                 .id = *id,
                                 .data_hash = xxh3_64(data, id->size)};
    uint64_t offset = slab_region_offset(&s->file, s->active) + s->position;

    assert(fits(s, size));
    size_t front_size = slab_record_encode(&record, front);
    size_t padding = (size_t)(size - front_size - id->size);
    struct iovec parts[3] = {{.iov_base = front, .iov_len = front_size},
                             {.iov_base = (void *)(uintptr_t)data, .iov_len = id->size},
                             {.iov_base = (void *)(uintptr_t)zeros,
                              .iov_len = padding}};
    enum err e = slab_file_write_parts(op, &s->file, offset, parts, 3);
    if (e) return e;
    struct slab_place place = {.sequence = record.sequence,
                               .unit = (uint32_t)(s->position / SLAB_UNIT)};
    slab_table_add(&s->table, tag, s->position);
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
    uint8_t front[SLAB_RECORD_FRONT_MAX];
    struct slab_record record;
    uint64_t offset = place_offset(s, place);

    uint64_t left = slab_region_offset(&s->file, place.sequence % SLAB_REGIONS_MAX) +
                    s->file.region_size - offset;
    size_t size = left < sizeof front ? (size_t)left : sizeof front;
    if (!slab_file_read(&s->file, offset, front, size) ||
        !slab_record_decode(front, size, &record) || record.sequence != place.sequence)
        return ERR_OK;
    size_t front_size = SLAB_RECORD_HEAD_SIZE + strlen(record.key);
    if (slab_record_size(&record.id) > left ||
        !slab_file_read(&s->file, offset + front_size, room, record.id.size) ||
        xxh3_64(room, record.id.size) != record.data_hash ||
        !survivor_fits(s, slab_record_size(&record.id)))
        return ERR_OK;
    return put_record(op, s, &record.id, room);
}

/* Moves on what was asked for since it was written, as far as there is room. */
static enum err empty_region(struct op *op, struct slab *s, uint32_t region)
{
    struct slab_region r;
    uint8_t *room = mem_alloc(SLAB_PIECE_MAX);
    enum err e = ERR_OK;

    slab_region_read(&s->file, region, &r);
    for (size_t i = 0; i < slab_table_count(&r.table) && !e; i++) {
        struct slab_table_entry entry = slab_table_at(&r.table, i);
        struct slab_place place = {.sequence = r.sequence, .unit = entry.unit};
        if (s->position > s->file.region_size / SURVIVORS_SHARE) break;
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
    bool growing = region != NO_REGION && s->regions < s->file.regions_max;
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
                       (unsigned long long)s->file.region_size, s->file.path);
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
