/*
 * first_look.h - where an incarnation stands: does it exist, and what is its newest
 * manifest? The first thing that its writer and its readers ask.
 */
#ifndef NS_FIRST_LOOK_H
#define NS_FIRST_LOOK_H

#include <stdint.h>

#include "ns/keys.h"
#include "ns/manifest.h"

struct op;
struct registry_options;

/* ERR_NOT_FOUND, in the words that a user reads. */
enum err fail_dropped(struct op *op, const struct keys *keys);

/* ERR_NOT_FOUND: the incarnation is not the one that the catalog has now. *next_record:
 * in and out as catalog_is_current has it; NULL: nothing is known of it. */
enum err check_not_dropped(struct op *op, const struct registry_options *env,
                           const struct keys *keys, uint64_t *next_record);

/* That, and the newest manifest, the caller's (NULL: there is none yet), in one
 * round. */
enum err first_look(struct op *op, const struct registry_options *env,
                    const struct keys *keys, uint64_t *next_record,
                    struct manifest **newest);

#endif
