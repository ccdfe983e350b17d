/*
 * op.h - what travels with one request or job: memory, deadline, words, counters.
 *
 * Every function that may block, fail or allocate takes an op first. The op's arena
 * frees what dies with the request; the error text grows on the way up, innermost
 * last: op_fail(op, e, "open segment %s", key) turns "checksum of block 3" into
 * "open segment k: checksum of block 3". It is read once, where it is answered.
 *
 * Threads  one thread at a time works on an op; op_cancel may come from any thread.
 */
#ifndef BASE_OP_H
#define BASE_OP_H

#ifdef __cplusplus /* C++17 has the same type under another header */
#include <atomic>
using std::atomic_bool;
#else
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    OP_ERROR_MAX = 1024,
    OP_REQUEST_ID_MAX = 65 /* 64 characters and a terminator */
};

#define OP_NO_DEADLINE INT64_MAX

/* What one op has cost; explain, the slow-query log and the metrics read it. */
struct op_counters {
    uint64_t rounds;         /* sequential waits for the store */
    uint64_t store_requests; /* requests to the store */
    uint64_t store_bytes;    /* bytes moved to or from the store */
    uint64_t cache_hits;     /* ranges served from memory, and their bytes */
    uint64_t cache_bytes;
    uint64_t disk_hits; /* from the disk cache */
    uint64_t disk_bytes;
    uint64_t cache_misses; /* from the store */
    uint64_t segments;     /* sources searched */
    uint64_t rows_scored;  /* vectors and postings scored */
};

struct op {
    struct arena arena;
    int64_t deadline_ms; /* of clock_ms() (task.h) */
    atomic_bool canceled;
    /* What background work does between two steps, or NULL; op_rest calls it. */
    void (*rest)(void *context);
    void *rest_context;
    bool reads_once;        /* what it reads nobody will want again for its sake */
    int64_t retry_after_ms; /* with ERR_BUSY, ERR_IO, ERR_FENCED; 0: say nothing */
    struct op_counters counters;
    char request_id[OP_REQUEST_ID_MAX];
    char error[OP_ERROR_MAX];
};

/* arena_max: ceiling of the op's memory in bytes, 0 for none. */
void op_init(struct op *op, int64_t deadline_ms, size_t arena_max);
void op_release(struct op *op);

/* Puts words in front of the error text and returns e. The first call starts it. */
enum err op_fail(struct op *op, enum err e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* it cannot know that a failure is never ERR_OK */
#define op_fail(op, e, ...) ((void)(op_fail)(op, e, __VA_ARGS__), (e))
#endif
/* Forgets the error text: the failure was handled. */
void op_clear_error(struct op *op);

/* Between two steps of long work: lets go of what others need, or waits for them, where
 * that was asked for. Never with a lock held. */
void op_rest(struct op *op);

/* ERR_TIMEOUT or ERR_CANCELED when the op should stop; long loops ask once a block.
 * Rests, too. */
enum err op_check(struct op *op);
/* The same without a rest, for who holds a lock. */
enum err op_check_now(struct op *op);
void op_cancel(struct op *op);

/* Zeroed memory that lives as long as the op. ERR_LIMIT text and NULL above its
 * ceiling. */
void *op_alloc(struct op *op, size_t size);
#define op_new(op, T)              ((T *)op_alloc((op), sizeof(T)))
#define op_new_array(op, T, count) ((T *)op_alloc_array((op), (count), sizeof(T)))
void *op_alloc_array(struct op *op, size_t count, size_t size);
/* A copy in the arena, with a terminator after its last byte; .data NULL on ERR_LIMIT.
 */
struct slice op_copy(struct op *op, struct slice s);
char *op_printf(struct op *op, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
