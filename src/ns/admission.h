/*
 * admission.h - how many queries of one name run at once.
 *
 * Without a limit, the clients of one namespace could take every thread and all memory
 * of pinned ranges from those of the others. A name is known here only while queries of
 * it run, whether or not there is such a namespace.
 *
 * Threads  any. Memory: one small record a name in use.
 */
#ifndef NS_ADMISSION_H
#define NS_ADMISSION_H

#include "base/err.h"

struct admission;
struct op;

struct admission *admission_new(unsigned each_max);
void admission_free(struct admission *a); /* nobody may be in; NULL is fine */

/* ERR_BUSY: each_max of that name are in already. Otherwise ends with leave. */
enum err admission_enter(struct op *op, struct admission *a, const char *name);
void admission_leave(struct admission *a, const char *name);

#endif
