#include "store/store.h"

#include <assert.h>

#include "base/op.h"

static bool key_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '.' || c == '-';
}

bool store_key_valid(const char *key)
{
    size_t segment = 0, size = 0;

    for (; key[size]; size++) {
        if (size == STORE_KEY_MAX) return false;
        if (key[size] == '/') {
            if (segment == 0) return false;
            segment = 0;
            continue;
        }
        if (!key_byte(key[size])) return false;
        if (segment == 0 && key[size] == '.') return false;
        if (++segment > STORE_SEGMENT_MAX) return false;
    }
    return segment > 0;
}

/* Reads, gets and lists stop at the deadline before they begin. Writes do not ask: what
 * a caller may conclude from their answer must not depend on the clock. */
static enum err begin(struct op *op, uint64_t requests)
{
    enum err e = op_check(op);
    if (e) return e;
    op->counters.rounds++;
    op->counters.store_requests += requests;
    return ERR_OK;
}

static void begin_write(struct op *op, uint64_t bytes)
{
    op->counters.rounds++;
    op->counters.store_requests++;
    op->counters.store_bytes += bytes;
}

enum err store_read(struct op *op, struct store *s, struct store_range *ranges,
                    size_t n)
{
    if (n == 0) return ERR_OK;
    for (size_t i = 0; i < n; i++) {
        assert(store_key_valid(ranges[i].key));
        assert(ranges[i].data || ranges[i].size == 0);
    }

    enum err e = begin(op, n);
    if (e) {
        for (size_t i = 0; i < n; i++)
            ranges[i].err = e;
        return e;
    }
    e = s->ops->read(op, s, ranges, n);
    for (size_t i = 0; i < n; i++)
        if (!ranges[i].err) op->counters.store_bytes += ranges[i].size;
    return e;
}

enum err store_get(struct op *op, struct store *s, const char *key, size_t size_max,
                   struct buf *out)
{
    assert(store_key_valid(key));
    size_t before = out->size;

    enum err e = begin(op, 1);
    if (e) return e;
    e = s->ops->get(op, s, key, size_max, out);
    assert(!e || out->size == before);
    op->counters.store_bytes += out->size - before;
    return e;
}

enum err store_create(struct op *op, struct store *s, const char *key,
                      struct slice data)
{
    assert(store_key_valid(key));
    begin_write(op, data.size);
    return s->ops->create(op, s, key, data);
}

enum err store_put(struct op *op, struct store *s, const char *key,
                   const struct slice *parts, size_t n)
{
    assert(store_key_valid(key));
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    begin_write(op, size);
    return s->ops->put(op, s, key, parts, n);
}

enum err store_list(struct op *op, struct store *s, const char *prefix,
                    const char *after, char delimiter, const char **keys, size_t *n)
{
    assert(prefix && after);
    assert(delimiter == '/' || delimiter == 0);
    if (*n == 0) return ERR_OK;

    enum err e = begin(op, 1);
    if (e) return e;
    return s->ops->list(op, s, prefix, after, delimiter, keys, n);
}

enum err store_delete(struct op *op, struct store *s, const char *const *keys, size_t n)
{
    if (n == 0) return ERR_OK;
    for (size_t i = 0; i < n; i++)
        assert(store_key_valid(keys[i]));
    begin_write(op, 0);
    return s->ops->delete (op, s, keys, n);
}

void store_free(struct store *s)
{
    if (s) s->ops->free(s);
}
