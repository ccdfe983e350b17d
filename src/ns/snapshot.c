#include "ns/snapshot.h"

#include "base/op.h"
#include "base/rowset.h"

struct snapshot *snapshot_ref(struct snapshot *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    for (uint32_t i = 0; i < s->source_count; i++) {
        segment_unref(s->sources[i].segment);
        rowset_unref(s->sources[i].dead);
    }
    schema_unref(s->schema);
    mem_free(s);
}

enum err snapshot_find(struct op *op, const struct snapshot *s,
                       const struct doc_id *ids, size_t n, struct location *out)
{
    uint32_t *rows = op_new_array(op, uint32_t, n);
    if (!rows) return ERR_LIMIT;

    for (size_t i = 0; i < n; i++)
        out[i] = (struct location){UINT32_MAX, UINT32_MAX};
    for (uint32_t source = 0; source < s->source_count; source++) {
        const struct source *from = &s->sources[source];
        segment_find(from->segment, ids, n, rows);
        for (size_t i = 0; i < n; i++) {
            if (rows[i] == UINT32_MAX) continue;
            if (from->dead && rowset_has(from->dead, rows[i])) continue;
            out[i] = (struct location){source, rows[i]};
        }
    }
    return ERR_OK;
}
