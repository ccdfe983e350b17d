/*
 * admission.h - how many queries of one name run at once, and whether any do.
 *
 * Without a limit, the clients of one namespace could take every thread and all memory
 * of pinned ranges from those of the others. A name is known here only while queries of
 * it run, whether or not there is such a namespace.
 *
 * Threads  any. Memory: one small record a name in use.
 */
#ifndef NS_ADMISSION_H
#define NS_ADMISSION_H

#include <stdint.h>

#include "base/err.h"

struct admission;
struct op;

struct admission *admission_new(unsigned each_max);
void admission_free(struct admission *a); /* nobody may be in; NULL is fine */

/* ERR_BUSY: each_max of that name are in already. Otherwise ends with leave. */
enum err admission_enter(struct op *op, struct admission *a, const char *name);
void admission_leave(struct admission *a, const char *name);
/* How many are in, of all names; a look without a lock. */
unsigned admission_count(const struct admission *a);
/* Waits until a moment when nobody is in, at most until until_ms of clock_ms. */
void admission_await_none(struct admission *a, int64_t until_ms);

#endif
