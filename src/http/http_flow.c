#include "http/http_flow.h"

#include <assert.h>
#include <string.h>

#include "base/at_most.h"
#include "base/mem.h"
#include "base/task.h"

struct flow {
    size_t capacity;
    void (*tell)(void *context);
    void *context;
    uint8_t *ring;
    struct mutex lock; /* guards what follows, and the ring outside [first, count) */
    struct cond wake;  /* for the worker */
    size_t first, count;
    bool ended;
    bool wanted; /* the loop found nothing to do */
};

struct flow *flow_new(size_t capacity, void (*tell)(void *context), void *context)
{
    struct flow *f = mem_new(struct flow);
    assert(capacity > 1);
    f->capacity = capacity;
    f->tell = tell;
    f->context = context;
    f->ring = mem_new_array(uint8_t, capacity);
    mutex_init(&f->lock);
    cond_init(&f->wake);
    return f;
}

void flow_free(struct flow *f)
{
    if (!f) return;
    cond_release(&f->wake);
    mutex_release(&f->lock);
    mem_free(f->ring);
    mem_free(f);
}

/* ---- with the lock held ---- */

static void append(struct flow *f, struct slice bytes)
{
    size_t at = (f->first + f->count) % f->capacity;
    size_t straight = at_most_size(bytes.size, f->capacity - at);
    if (bytes.size == 0) return;
    memcpy(f->ring + at, bytes.data, straight);
    memcpy(f->ring, bytes.data + straight, bytes.size - straight);
    f->count += bytes.size;
}

static void drop(struct flow *f, size_t size)
{
    f->first = (f->first + size) % f->capacity;
    f->count -= size;
}

static bool take_wish(struct flow *f, bool fulfilled)
{
    bool tell = f->wanted && fulfilled;
    if (tell) f->wanted = false;
    return tell;
}

/* ---- the loop's end ---- */

size_t flow_room(struct flow *f)
{
    mutex_lock(&f->lock);
    size_t room = f->capacity - f->count;
    f->wanted = room == 0;
    mutex_unlock(&f->lock);
    return room;
}

void flow_put(struct flow *f, struct slice bytes)
{
    mutex_lock(&f->lock);
    assert(bytes.size <= f->capacity - f->count);
    append(f, bytes);
    mutex_unlock(&f->lock);
    cond_signal(&f->wake);
}

void flow_end(struct flow *f)
{
    mutex_lock(&f->lock);
    f->ended = true;
    mutex_unlock(&f->lock);
    cond_signal(&f->wake);
}

struct slice flow_look(struct flow *f)
{
    mutex_lock(&f->lock);
    struct slice bytes =
        slice_of(f->ring + f->first, at_most_size(f->count, f->capacity - f->first));
    f->wanted = f->count == 0;
    mutex_unlock(&f->lock);
    return bytes;
}

void flow_skip(struct flow *f, size_t size)
{
    mutex_lock(&f->lock);
    assert(size <= f->count);
    drop(f, size);
    mutex_unlock(&f->lock);
    cond_signal(&f->wake);
}

/* ---- the worker's end ---- */

bool flow_wait(struct flow *f, int64_t deadline_ms)
{
    mutex_lock(&f->lock);
    while (f->count == 0 && !f->ended && cond_wait(&f->wake, &f->lock, deadline_ms))
        ;
    bool there = f->count > 0 || f->ended;
    mutex_unlock(&f->lock);
    return there;
}

size_t flow_take(struct flow *f, void *into, size_t room, bool *ended)
{
    mutex_lock(&f->lock);
    size_t size = at_most_size(room, f->count);
    size_t straight = at_most_size(size, f->capacity - f->first);
    if (size) {
        memcpy(into, f->ring + f->first, straight);
        memcpy((uint8_t *)into + straight, f->ring, size - straight);
    }
    drop(f, size);
    *ended = f->ended && f->count == 0;
    bool tell = take_wish(f, f->capacity - f->count >= f->capacity / 2);
    mutex_unlock(&f->lock);
    if (tell) f->tell(f->context);
    return size;
}

bool flow_is_ended(struct flow *f)
{
    mutex_lock(&f->lock);
    bool ended = f->ended;
    mutex_unlock(&f->lock);
    return ended;
}

size_t flow_write(struct flow *f, struct slice bytes, int64_t deadline_ms)
{
    mutex_lock(&f->lock);
    while (f->count == f->capacity && cond_wait(&f->wake, &f->lock, deadline_ms))
        ;
    bytes.size = at_most_size(bytes.size, f->capacity - f->count);
    append(f, bytes);
    bool tell = take_wish(f, f->count > 0);
    mutex_unlock(&f->lock);
    if (tell) f->tell(f->context);
    return bytes.size;
}
