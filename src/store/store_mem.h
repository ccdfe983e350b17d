/*
 * store_mem.h - objects in memory, for tests and the simulator.
 *
 * A create is atomic; list and get see it at once. Nothing survives store_free.
 */
#ifndef STORE_STORE_MEM_H
#define STORE_STORE_MEM_H

#include <stdbool.h>

#include "store/store.h"

struct store *store_mem_new(void);

/* For tests: overwrite an object as damage would; false if there is none. */
bool store_mem_overwrite(struct store *mem, const char *key, struct slice data);

#endif
