#include "node/ring.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "node/seahash.h"

size_t ring_owner(const struct ring *r, const char *name)
{
    assert(r->count > 0);
    return (size_t)(seahash(slice_str(name)) % r->count);
}

uint64_t ring_fingerprint(const struct ring *r)
{
    struct buf all = BUF_INIT;
    for (size_t i = 0; i < r->count; i++)
        buf_append(&all, r->ids[i], strlen(r->ids[i]) + 1);
    uint64_t hash = all.size ? xxh3_64(all.data, all.size) : 0;
    buf_release(&all);
    return hash;
}

size_t ring_find(const struct ring *r, const char *id)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->ids[i], id) == 0) return i;
    return SIZE_MAX;
}

void ring_print(const struct ring *r, struct buf *out)
{
    for (size_t i = 0; i < r->count; i++)
        buf_printf(out, "%s%s", i ? "," : "", r->ids[i]);
}
