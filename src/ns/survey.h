/*
 * survey.h - which namespaces of the store need work although nobody touches them.
 *
 * After a restart a namespace's tail may wait to be indexed, or a purge to be finished,
 * and no request may ever come by to open it. A survey finds those: it lists the logs
 * of all namespaces (1000 keys a request) and looks closer, with a few requests each
 * and 16 side by side, only at those whose log is not as the last survey left it. So
 * thousands of idle
 * namespaces cost some listings, once per interval. Once a day it looks at all again,
 * for what time alone brings about, and ends uploads that died processes left.
 *
 * Threads  one at a time. Memory: 24 bytes a namespace.
 */
#ifndef NS_SURVEY_H
#define NS_SURVEY_H

#include <stdint.h>

#include "base/err.h"

struct op;
struct registry_options;
struct survey;

struct survey *survey_new(const struct registry_options *env); /* borrowed */
void survey_free(struct survey *s);

/*
 * Counts the namespaces that exist, finishes what purges of dropped ones left, and
 * calls work for each that this node owns and that has unindexed writes or segments
 * that could be fewer. What goes wrong with one namespace is logged, and it is looked
 * at again the next time. An error is that of a listing, or of op.
 */
enum err survey_run(struct op *op, struct survey *s,
                    void (*work)(void *context, const char *name), void *context,
                    uint64_t *count);

#endif
