#include "cache/slab_index.h"

#include <assert.h>
#include <stddef.h>

#include "base/mem.h"
#include "cache/slab_format.h"

enum { WAYS = 8, BUCKETS_MIN = 64 };

struct slot {
    uint64_t tag;      /* 0: empty */
    uint32_t sequence; /* 0: a ghost */
    uint32_t unit : 31;
    uint32_t touched : 1;
};

struct slab_index {
    const uint32_t *current;
    uint64_t buckets; /* a power of two */
    struct slot *slots;
};

struct slab_index *slab_index_new(uint64_t bytes_max, const uint32_t *current)
{
    struct slab_index *index = mem_new(struct slab_index);
    index->current = current;
    index->buckets = BUCKETS_MIN;
    while (index->buckets * 2 * WAYS * sizeof(struct slot) <= bytes_max)
        index->buckets *= 2;
    index->slots = mem_new_array(struct slot, index->buckets * WAYS);
    return index;
}

void slab_index_free(struct slab_index *index)
{
    if (!index) return;
    mem_free(index->slots);
    mem_free(index);
}

uint64_t slab_index_bytes(const struct slab_index *index)
{
    return index->buckets * WAYS * sizeof(struct slot);
}

static struct slot *bucket_of(const struct slab_index *index, uint64_t tag)
{
    return &index->slots[(tag & (index->buckets - 1)) * WAYS];
}

static bool alive(const struct slab_index *index, const struct slot *slot)
{
    return slot->sequence &&
           index->current[slot->sequence % SLAB_REGIONS_MAX] == slot->sequence;
}

static struct slot *slot_find(const struct slab_index *index, uint64_t tag)
{
    struct slot *bucket = bucket_of(index, tag);
    assert(tag);
    for (size_t i = 0; i < WAYS; i++)
        if (bucket[i].tag == tag) return &bucket[i];
    return NULL;
}

static struct slot *place_find(const struct slab_index *index, uint64_t tag)
{
    struct slot *slot = slot_find(index, tag);
    return slot && alive(index, slot) ? slot : NULL;
}

bool slab_index_find(const struct slab_index *index, uint64_t tag,
                     struct slab_place *place)
{
    const struct slot *slot = place_find(index, tag);
    if (!slot) return false;
    *place = (struct slab_place){.sequence = slot->sequence, .unit = slot->unit};
    return true;
}

/* The slot a new tag takes: an empty or dead one, else a ghost's, else that of the
 * oldest place. Which ghost's depends on the tag, or some would stay for ever. */
static struct slot *slot_take(const struct slab_index *index, uint64_t tag)
{
    struct slot *bucket = bucket_of(index, tag);
    struct slot *oldest = &bucket[(tag >> 32) % WAYS];
    for (size_t i = 0; i < WAYS; i++) {
        struct slot *slot = &bucket[i];
        if (slot->tag == 0 || (slot->sequence && !alive(index, slot))) return slot;
        if (slot->sequence < oldest->sequence) oldest = slot;
    }
    return oldest;
}

void slab_index_put(struct slab_index *index, uint64_t tag, struct slab_place place)
{
    struct slot *slot = slot_find(index, tag);
    if (slot && alive(index, slot) &&
        (slot->sequence > place.sequence ||
         (slot->sequence == place.sequence && slot->unit > place.unit)))
        return;
    if (!slot) slot = slot_take(index, tag);
    assert(place.sequence && place.unit <= INT32_MAX);
    *slot = (struct slot){.tag = tag,
                          .sequence = place.sequence,
                          .unit = place.unit & INT32_MAX};
}

void slab_index_remove(struct slab_index *index, uint64_t tag)
{
    struct slot *slot = slot_find(index, tag);
    if (slot) *slot = (struct slot){0};
}

bool slab_index_touch(struct slab_index *index, uint64_t tag)
{
    struct slot *slot = place_find(index, tag);
    if (slot) slot->touched = 1;
    return slot;
}

bool slab_index_touched(const struct slab_index *index, uint64_t tag,
                        struct slab_place place)
{
    const struct slot *slot = place_find(index, tag);
    return slot && slot->sequence == place.sequence && slot->unit == place.unit &&
           slot->touched;
}

bool slab_index_remember(struct slab_index *index, uint64_t tag)
{
    struct slot *slot = slot_find(index, tag);
    if (slot && slot->sequence == 0) return true;
    if (!slot) slot = slot_take(index, tag);
    /* A ghost never takes the place of what is there. */
    if (slot->tag != tag && alive(index, slot)) return false;
    *slot = (struct slot){.tag = tag};
    return false;
}
