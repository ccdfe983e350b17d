/*
 * One array of objects sorted by key, under one mutex. A list is a walk from a binary
 * search; the insert's memmove is nothing beside what tests and the simulator do with
 * it.
 */
#include "store/store_mem.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"

struct object {
    char *key;
    uint8_t *data;
    size_t size;
};

struct store_mem {
    struct store base;
    struct mutex lock; /* guards everything below */
    struct object *objects;
    size_t count, room;
};

static struct store_mem *mem_of(struct store *s)
{
    return (struct store_mem *)s;
}

/* The index of the first object whose key is not below key. */
static size_t lower_bound(const struct store_mem *m, const char *key)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(m->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *find(const struct store_mem *m, const char *key)
{
    size_t index = lower_bound(m, key);
    if (index == m->count || strcmp(m->objects[index].key, key) != 0) return NULL;
    return &m->objects[index];
}

static void insert(struct store_mem *m, const char *key, const struct slice *parts,
                   size_t n)
{
    size_t index = lower_bound(m, key);
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 64;
        m->objects = mem_realloc(m->objects, m->room * sizeof *m->objects);
    }
    memmove(m->objects + index + 1, m->objects + index,
            (m->count - index) * sizeof *m->objects);
    m->count++;

    struct buf bytes = BUF_INIT;
    for (size_t i = 0; i < n; i++)
        buf_append_slice(&bytes, parts[i]);
    m->objects[index] = (struct object){mem_strdup(key), bytes.data, bytes.size};
}

static bool holds(const struct object *object, const struct slice *parts, size_t n)
{
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].size > object->size - offset) return false;
        if (!slice_equal(parts[i], slice_of(object->data + offset, parts[i].size)))
            return false;
        offset += parts[i].size;
    }
    return offset == object->size;
}

static enum err read_range(struct op *op, const struct store_mem *m,
                           const struct store_range *r)
{
    const struct object *object = find(m, r->key);
    if (!object) return op_fail(op, ERR_NOT_FOUND, "read %s", r->key);
    if (r->offset > object->size || r->size > object->size - r->offset)
        return op_fail(op, ERR_CORRUPT, "read %s: shorter than expected", r->key);
    if (r->size) memcpy(r->data, object->data + r->offset, r->size);
    return ERR_OK;
}

static enum err store_mem_read(struct op *op, struct store *s,
                               struct store_range *ranges, size_t n)
{
    struct store_mem *m = mem_of(s);
    enum err first = ERR_OK;

    mutex_lock(&m->lock);
    for (size_t i = 0; i < n; i++) {
        ranges[i].err = read_range(op, m, &ranges[i]);
        if (!first) first = ranges[i].err;
    }
    mutex_unlock(&m->lock);
    return first;
}

static enum err store_mem_get(struct op *op, struct store *s, const char *key,
                              size_t size_max, struct buf *out)
{
    struct store_mem *m = mem_of(s);
    enum err e = ERR_OK;

    mutex_lock(&m->lock);
    const struct object *object = find(m, key);
    if (!object)
        e = op_fail(op, ERR_NOT_FOUND, "get %s", key);
    else if (object->size > size_max)
        e = op_fail(op, ERR_LIMIT, "get %s: %zu bytes, at most %zu expected", key,
                    object->size, size_max);
    else
        buf_append(out, object->data, object->size);
    mutex_unlock(&m->lock);
    return e;
}

static enum err store_mem_create(struct op *op, struct store *s, const char *key,
                                 struct slice data)
{
    struct store_mem *m = mem_of(s);
    enum err e = ERR_OK;

    mutex_lock(&m->lock);
    if (find(m, key))
        e = op_fail(op, ERR_CONFLICT, "create %s", key);
    else
        insert(m, key, &data, 1);
    mutex_unlock(&m->lock);
    return e;
}

static enum err store_mem_put(struct op *op, struct store *s, const char *key,
                              const struct slice *parts, size_t n)
{
    struct store_mem *m = mem_of(s);
    enum err e = ERR_OK;

    mutex_lock(&m->lock);
    const struct object *object = find(m, key);
    if (!object)
        insert(m, key, parts, n);
    else if (!holds(object, parts, n))
        e = op_fail(op, ERR_CONFLICT, "put %s: other bytes are there", key);
    mutex_unlock(&m->lock);
    return e;
}

/* The size of the folded name of key, with its '/'; 0 when it is not folded. */
static size_t folded_size(const char *key, size_t prefix_size, char delimiter)
{
    const char *slash = delimiter ? strchr(key + prefix_size, delimiter) : NULL;
    return slash ? (size_t)(slash - key) + 1 : 0;
}

static enum err store_mem_list(struct op *op, struct store *s, const char *prefix,
                               const char *after, char delimiter, const char **keys,
                               size_t *n)
{
    struct store_mem *m = mem_of(s);
    size_t prefix_size = strlen(prefix), count = 0;
    const char *last = after;
    enum err e = ERR_OK;

    mutex_lock(&m->lock);
    for (size_t i = lower_bound(m, strcmp(after, prefix) > 0 ? after : prefix);
         i < m->count && count < *n; i++) {
        const char *key = m->objects[i].key;
        if (strncmp(key, prefix, prefix_size) != 0) break;

        size_t folded = folded_size(key, prefix_size, delimiter);
        struct slice name = slice_of(key, folded ? folded : strlen(key));
        if (slice_compare(name, slice_str(last)) <= 0) continue;

        keys[count] = (const char *)op_copy(op, name).data;
        if (!keys[count]) {
            e = ERR_LIMIT;
            break;
        }
        last = keys[count++];
    }
    mutex_unlock(&m->lock);
    if (!e) *n = count;
    return e;
}

static void forget(struct store_mem *m, struct object *object)
{
    size_t index = (size_t)(object - m->objects);
    mem_free(object->key);
    mem_free(object->data);
    m->count--;
    memmove(object, object + 1, (m->count - index) * sizeof *object);
}

static enum err store_mem_delete(struct op *op, struct store *s,
                                 const char *const *keys, size_t n)
{
    struct store_mem *m = mem_of(s);
    (void)op;

    mutex_lock(&m->lock);
    for (size_t i = 0; i < n; i++) {
        struct object *object = find(m, keys[i]);
        if (object) forget(m, object);
    }
    mutex_unlock(&m->lock);
    return ERR_OK;
}

static void store_mem_free(struct store *s)
{
    struct store_mem *m = mem_of(s);
    for (size_t i = 0; i < m->count; i++) {
        mem_free(m->objects[i].key);
        mem_free(m->objects[i].data);
    }
    mem_free(m->objects);
    mutex_release(&m->lock);
    mem_free(m);
}

static const struct store_ops mem_ops = {
    .name = "mem",
    .read = store_mem_read,
    .get = store_mem_get,
    .create = store_mem_create,
    .put = store_mem_put,
    .list = store_mem_list,
    .delete = store_mem_delete,
    .free = store_mem_free,
};

struct store *store_mem_new(void)
{
    struct store_mem *m = mem_new(struct store_mem);
    m->base.ops = &mem_ops;
    mutex_init(&m->lock);
    return &m->base;
}

bool store_mem_overwrite(struct store *mem, const char *key, struct slice data)
{
    struct store_mem *m = mem_of(mem);
    assert(mem->ops == &mem_ops);

    mutex_lock(&m->lock);
    struct object *object = find(m, key);
    if (object) {
        mem_free(object->data);
        object->data = mem_dup(data.data, data.size);
        object->size = data.size;
    }
    mutex_unlock(&m->lock);
    return object != NULL;
}
