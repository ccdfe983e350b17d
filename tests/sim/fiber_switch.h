/*
 * fiber_switch.h - tells the sanitizers and valgrind that a switch of stacks is meant.
 *
 * Without them every function here is empty. fiber_switch_leave is called just before
 * the switch, fiber_switch_enter first thing behind it, on the other stack.
 */
#ifndef TESTS_SIM_FIBER_SWITCH_H
#define TESTS_SIM_FIBER_SWITCH_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

struct fiber_switch {
    void *fake_stack;
    const void *bottom;
    size_t size;
};

static inline void fiber_switch_init(struct fiber_switch *f, const void *bottom,
                                     size_t size)
{
    *f = (struct fiber_switch){NULL, bottom, size};
}

/* The outside learns its own stack from the first switch away from it. */
static struct fiber_switch *fiber_switch_learner;

static inline void fiber_switch_outside(struct fiber_switch *f)
{
    *f = (struct fiber_switch){NULL, NULL, 0};
    fiber_switch_learner = f;
}

static inline void fiber_switch_leave(struct fiber_switch *from,
                                      const struct fiber_switch *to, bool for_ever)
{
    __sanitizer_start_switch_fiber(for_ever ? NULL : &from->fake_stack, to->bottom,
                                   to->size);
}

static inline void fiber_switch_enter(struct fiber_switch *f)
{
    struct fiber_switch *learner = fiber_switch_learner;
    __sanitizer_finish_switch_fiber(f->fake_stack, learner ? &learner->bottom : NULL,
                                    learner ? &learner->size : NULL);
    fiber_switch_learner = NULL;
}

/* Frames that were left for good may have marked the stack they stood on. */
static inline void fiber_switch_forget(struct fiber_switch *f)
{
    __asan_unpoison_memory_region(f->bottom, f->size);
}

#elif defined(__SANITIZE_THREAD__)

#include <sanitizer/tsan_interface.h>

struct fiber_switch {
    void *fiber;
};

static inline void fiber_switch_init(struct fiber_switch *f, const void *bottom,
                                     size_t size)
{
    (void)bottom;
    (void)size;
    f->fiber = __tsan_create_fiber(0);
}

static inline void fiber_switch_outside(struct fiber_switch *f)
{
    f->fiber = __tsan_get_current_fiber();
}

static inline void fiber_switch_leave(struct fiber_switch *from,
                                      const struct fiber_switch *to, bool for_ever)
{
    (void)from;
    (void)for_ever;
    __tsan_switch_to_fiber(to->fiber, 0);
}

static inline void fiber_switch_enter(struct fiber_switch *f)
{
    (void)f;
}

static inline void fiber_switch_forget(struct fiber_switch *f)
{
    __tsan_destroy_fiber(f->fiber);
}

#else

#ifdef UNDER_VALGRIND
#include <valgrind/valgrind.h>
#define STACK_BEGINS(start, end) VALGRIND_STACK_REGISTER(start, end)
#define STACK_ENDS(stack)        VALGRIND_STACK_DEREGISTER(stack)
#else
#define STACK_BEGINS(start, end) ((void)(start), (void)(end), 0U)
#define STACK_ENDS(stack)        ((void)(stack))
#endif

struct fiber_switch {
    unsigned stack;
};

static inline void fiber_switch_init(struct fiber_switch *f, const void *bottom,
                                     size_t size)
{
    const char *start = bottom;
    f->stack = STACK_BEGINS(start, start + size - 1);
}

static inline void fiber_switch_outside(struct fiber_switch *f)
{
    (void)f;
}

static inline void fiber_switch_leave(struct fiber_switch *from,
                                      const struct fiber_switch *to, bool for_ever)
{
    (void)from;
    (void)to;
    (void)for_ever;
}

static inline void fiber_switch_enter(struct fiber_switch *f)
{
    (void)f;
}

static inline void fiber_switch_forget(struct fiber_switch *f)
{
    STACK_ENDS(f->stack);
}

#undef STACK_BEGINS
#undef STACK_ENDS

#endif

#endif
