/*
 * background.h - who does the upkeep of a node's namespaces (upkeep.h) while nobody
 * asks for it: three threads.
 *
 *   maintenance goes round the open namespaces: settles, indexes tails, collects,
 *   closes those that are idle, sets the gauges.
 *
 *   merger goes round them too. A merge may take minutes, in which no tail may wait: so
 *   it has a thread to itself.
 *
 *   surveyor looks through the store for namespaces that need work although nobody
 *   touches them (survey.h), and counts them.
 *
 * Threads  its own lock guards what these are at, and that they are to stop; it is
 * taken alone.
 */
#ifndef NS_BACKGROUND_H
#define NS_BACKGROUND_H

#include <stdatomic.h>

#include "base/err.h"
#include "ns/upkeep.h"

struct background;
struct op;
struct open_table;
struct registry_options;

/* Starts them. All is borrowed; count: the namespaces of the store, set by each survey.
 */
struct background *background_start(const struct registry_options *env,
                                    struct open_table *table,
                                    atomic_uint_fast64_t *count);
/* What they are at ends soon. NULL is fine, here and below. */
void background_cancel(struct background *b);
/* Waits for their end. */
void background_free(struct background *b);

/* The upkeep of the namespace of that name, on the caller's thread. Errors of
 * open_table_find and upkeep_run. */
enum err background_work(struct op *op, struct open_table *table, const char *name,
                         enum work work);

#endif
