#include "inspect/verify_ids.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/rowset.h"
#include "segment/segment.h"

struct live_ids {
    uint64_t *values;
    size_t count, capacity;
};

struct live_ids *live_ids_new(void)
{
    return mem_new(struct live_ids);
}

void live_ids_free(struct live_ids *ids)
{
    mem_free(ids->values);
    mem_free(ids);
}

void live_ids_add(struct live_ids *ids, const struct segment *segment,
                  const struct rowset *dead)
{
    uint32_t row_count = segment_row_count(segment);
    if (ids->count + row_count > ids->capacity) {
        ids->capacity = 2 * ids->capacity + row_count;
        ids->values = mem_realloc(ids->values, ids->capacity * sizeof *ids->values);
    }
    for (uint32_t row = 0; row < row_count; row++) {
        if (dead && rowset_has(dead, row)) continue;
        struct doc_id id = segment_id(segment, row);
        ids->values[ids->count++] =
            id.kind == ID_U64 ? id.u64 : xxh3_64(id.string.data, id.string.size);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint64_t live_ids_repeated(struct live_ids *ids)
{
    uint64_t repeated = 0;
    if (ids->count == 0) return 0;
    qsort(ids->values, ids->count, sizeof *ids->values, compare);
    for (size_t i = 1; i < ids->count; i++)
        repeated += ids->values[i] == ids->values[i - 1];
    return repeated;
}
