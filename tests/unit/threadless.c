/*
 * threadless.c - linked in place of pthread_create into the test programs that the
 * Makefile calls THREADLESS, which are not run under the thread sanitizer.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *arg)
{
    (void)thread;
    (void)attributes;
    (void)run;
    (void)arg;
    (void)fputs("this program starts a thread: take it off THREADLESS in the Makefile, "
                "so that the thread sanitizer sees it\n",
                stderr);
    abort();
}
