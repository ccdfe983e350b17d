#include "base/mem.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "out of memory: %zu bytes\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

void *mem_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

void *mem_realloc(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

void *mem_aligned(size_t alignment, size_t size)
{
    void *p = NULL;
    if (posix_memalign(&p, alignment, size ? size : 1) != 0) out_of_memory(size);
    return p;
}

char *mem_strdup(const char *text)
{
    return mem_dup(text, strlen(text) + 1);
}

void *mem_dup(const void *data, size_t size)
{
    void *p = mem_alloc(size);
    if (size) memcpy(p, data, size);
    return p;
}

void mem_free(void *p)
{
    free(p);
}

/* jemalloc's; sanitizers bring an allocator of their own. */
extern size_t nallocx(size_t size, int flags) __attribute__((weak));

size_t mem_footprint(size_t alignment, size_t size)
{
    enum { LARGE_FROM = 14 << 10, PAGE = 4096, HEADER = 16 };
    size_t taken = nallocx ? nallocx(size ? size : 1, __builtin_ctzll(alignment))
                           : ((size + alignment - 1) & ~(alignment - 1)) + HEADER;
    /* Large ones begin anywhere in a page more, for the sake of the caches. */
    return size > LARGE_FROM ? taken + PAGE : taken;
}

/* Blocks form a stack; the newest is filled from the front. */
struct arena_block {
    struct arena_block *next;
    size_t size;
    size_t used;
    _Alignas(16) unsigned char data[];
};

enum { ARENA_BLOCK_SIZE = 16 * 1024, ARENA_ALIGNMENT = 16 };

void arena_init(struct arena *a, size_t size_max)
{
    *a = (struct arena){.size_max = size_max};
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + ARENA_ALIGNMENT - 1) & ~(size_t)(ARENA_ALIGNMENT - 1);

    struct arena_block *block = a->head;
    if (!block || block->size - block->used < size) {
        size_t block_size = size > ARENA_BLOCK_SIZE ? size : ARENA_BLOCK_SIZE;
        if (a->size_max &&
            (a->used > a->size_max || block_size > a->size_max - a->used))
            return NULL;
        block = mem_alloc(sizeof(struct arena_block) + block_size);
        block->size = block_size;
        block->used = 0;
        block->next = a->head;
        a->head = block;
        a->used += block_size;
    }
    void *p = block->data + block->used;
    block->used += size;
    memset(p, 0, size);
    return p;
}

void arena_release(struct arena *a)
{
    while (a->head) {
        struct arena_block *next = a->head->next;
        mem_free(a->head);
        a->head = next;
    }
    a->used = 0;
}
