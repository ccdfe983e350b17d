#include "base/op.h"

#include <assert.h>
#include <stdio.h>

#include "base/task.h"

void op_init(struct op *op, int64_t deadline_ms, size_t arena_max)
{
    memset(op, 0, sizeof *op);
    arena_init(&op->arena, arena_max);
    op->deadline_ms = deadline_ms;
    atomic_init(&op->canceled, false);
}

void op_release(struct op *op)
{
    arena_release(&op->arena);
}

/* In brackets because op.h has a macro of that name for clang-tidy. */
enum err(op_fail)(struct op *op, enum err e, const char *format, ...)
{
    char words[OP_ERROR_MAX];
    va_list args;

    assert(e != ERR_OK);
    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);

    size_t size = strlen(words);
    size_t old = strlen(op->error);
    const char *glue = old ? ": " : "";
    size_t front = size + strlen(glue);
    if (front >= sizeof op->error) front = sizeof op->error - 1;
    if (old > sizeof op->error - 1 - front) old = sizeof op->error - 1 - front;
    memmove(op->error + front, op->error, old);
    op->error[front + old] = '\0';
    memcpy(op->error, words, size < front ? size : front);
    if (front > size) memcpy(op->error + size, glue, front - size);
    return e;
}

void op_clear_error(struct op *op)
{
    op->error[0] = '\0';
    op->retry_after_ms = 0;
}

void op_rest(struct op *op)
{
    if (op->rest) op->rest(op->rest_context);
}

enum err op_check(struct op *op)
{
    op_rest(op);
    return op_check_now(op);
}

enum err op_check_now(struct op *op)
{
    if (atomic_load_explicit(&op->canceled, memory_order_relaxed))
        return op_fail(op, ERR_CANCELED, "the client closed the connection");
    if (op->deadline_ms != OP_NO_DEADLINE && clock_ms() >= op->deadline_ms)
        return op_fail(op, ERR_TIMEOUT, "the deadline of this request has passed");
    return ERR_OK;
}

void op_cancel(struct op *op)
{
    atomic_store_explicit(&op->canceled, true, memory_order_relaxed);
}

void *op_alloc(struct op *op, size_t size)
{
    void *p = arena_alloc(&op->arena, size);
    if (!p)
        (void)op_fail(op, ERR_LIMIT, "request needs more than its %zu bytes of memory",
                      op->arena.size_max);
    return p;
}

void *op_alloc_array(struct op *op, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size) {
        (void)op_fail(op, ERR_LIMIT, "request needs %zu items of %zu bytes", count,
                      size);
        return NULL;
    }
    return op_alloc(op, count * size);
}

struct slice op_copy(struct op *op, struct slice s)
{
    char *p = op_alloc(op, s.size + 1);
    if (!p) return SLICE_EMPTY;
    if (s.size) memcpy(p, s.data, s.size);
    return slice_of(p, s.size);
}

char *op_printf(struct op *op, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(size >= 0);

    char *p = op_alloc(op, (size_t)size + 1);
    if (!p) return NULL;
    va_start(args, format);
    (void)vsnprintf(p, (size_t)size + 1, format, args);
    va_end(args);
    return p;
}
