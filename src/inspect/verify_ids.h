/*
 * verify_ids.h - does an id live in two segments? Private to inspect/.
 *
 * Keeps 8 bytes per live document, sorted once at the end: a number itself, of a string
 * its hash, so that among 10^8 strings the chance of a false alarm is below one in
 * 3000.
 */
#ifndef INSPECT_VERIFY_IDS_H
#define INSPECT_VERIFY_IDS_H

#include <stdint.h>

struct live_ids;
struct rowset;
struct segment;

struct live_ids *live_ids_new(void);
void live_ids_free(struct live_ids *ids);
/* dead: rows that do not count, or NULL. */
void live_ids_add(struct live_ids *ids, const struct segment *segment,
                  const struct rowset *dead);
/* How many occurrences of an id follow its first one. */
uint64_t live_ids_repeated(struct live_ids *ids);

#endif
