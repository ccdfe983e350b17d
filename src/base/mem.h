/*
 * mem.h - heap memory that cannot fail, and arenas.
 *
 * Running out of memory ends the process: bodies, queues, caches and arenas have
 * ceilings, so memory runs out by decision, long before malloc says no.
 *
 * An arena hands out memory that is freed all at once. It has a ceiling; above it
 * arena_alloc returns NULL and the caller answers ERR_LIMIT (op_alloc does that).
 * An arena belongs to one thread at a time.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *mem_alloc(size_t size);
void *mem_calloc(size_t count, size_t size);
void *mem_realloc(void *old, size_t size);
/* alignment is a power of two; free with mem_free. */
void *mem_aligned(size_t alignment, size_t size);
char *mem_strdup(const char *text);
void *mem_dup(const void *data, size_t size);
void mem_free(void *p); /* NULL is fine */
/* What an allocation of so many bytes takes of the memory, for who keeps a budget: the
 * allocator's size classes are up to a fifth apart. */
size_t mem_footprint(size_t alignment, size_t size);

/* A zeroed T on the heap. */
#define mem_new(T)              ((T *)mem_calloc(1, sizeof(T)))
#define mem_new_array(T, count) ((T *)mem_calloc((count), sizeof(T)))

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used;     /* bytes held, counted against size_max */
    size_t size_max; /* 0: no ceiling */
};

void arena_init(struct arena *a, size_t size_max);
/* Zeroed, aligned to 16 bytes; NULL when the ceiling would be passed. */
void *arena_alloc(struct arena *a, size_t size);
void arena_release(struct arena *a);

#ifdef __cplusplus
}
#endif

#endif
