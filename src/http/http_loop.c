/*
 * A turn: events, then messages, then those who asked to be called again, then time.
 * A client that goes may still stand in a later event only if something else than its
 * own event made it go, and nothing else does until all events of the turn are through.
 */
#include "http/http_loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/mem.h"
#include "base/task.h"

enum { EVENTS_MAX = 128 };

struct loop {
    const char *name;
    struct thread *thread;
    int epoll;
    int wake;
    int64_t now_ms; /* what follows is the thread's alone */
    struct loop_link waiting[LOOP_WAITS];
    struct loop_link again;
    _Atomic int64_t waits_ms[LOOP_WAITS];
    struct mutex lock; /* guards what follows */
    struct loop_message *first, *last;
    bool asleep; /* in epoll_wait, or about to be: must be woken */
    bool stopping;
};

/* ---- lists ---- */

static void link_init(struct loop_link *link)
{
    link->prev = link->next = link;
}

static bool linked(const struct loop_link *link)
{
    return link->next != link;
}

static void unlink_from(struct loop_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link_init(link);
}

static void link_last(struct loop_link *list, struct loop_link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static struct loop_client *waiting_client(struct loop_link *link)
{
    return (struct loop_client *)(void *)((char *)link -
                                          offsetof(struct loop_client, waiting));
}

static struct loop_client *again_client(struct loop_link *link)
{
    return (struct loop_client *)(void *)((char *)link -
                                          offsetof(struct loop_client, again));
}

/* ---- clients ---- */

void loop_client_init(struct loop_client *c, struct loop *l, int fd,
                      const struct loop_calls *calls)
{
    c->calls = calls;
    c->loop = l;
    c->fd = fd;
    link_init(&c->waiting);
    link_init(&c->again);
}

bool loop_watch(struct loop_client *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    return epoll_ctl(c->loop->epoll, EPOLL_CTL_ADD, c->fd, &event) == 0;
}

void loop_unwatch(struct loop_client *c)
{
    int failed = epoll_ctl(c->loop->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    assert(!failed);
}

void loop_wait(struct loop_client *c, enum loop_wait queue)
{
    c->since_ms = c->loop->now_ms;
    unlink_from(&c->waiting);
    link_last(&c->loop->waiting[queue], &c->waiting);
}

void loop_again(struct loop_client *c)
{
    if (!linked(&c->again)) link_last(&c->loop->again, &c->again);
}

void loop_remove(struct loop_client *c)
{
    unlink_from(&c->waiting);
    unlink_from(&c->again);
}

int64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

/* ---- messages ---- */

static void ring(struct loop *l)
{
    uint64_t one = 1;
    ssize_t written = write(l->wake, &one, sizeof one);
    assert(written == sizeof one || errno == EAGAIN);
}

/* With the lock held. A loop that is awake looks at everything before it sleeps. */
static bool must_ring(struct loop *l)
{
    bool asleep = l->asleep;
    l->asleep = false;
    return asleep;
}

void loop_post(struct loop *l, struct loop_message *m)
{
    m->next = NULL;
    mutex_lock(&l->lock);
    if (l->last)
        l->last->next = m;
    else
        l->first = m;
    l->last = m;
    bool asleep = must_ring(l);
    mutex_unlock(&l->lock);
    if (asleep) ring(l);
}

static void loop_wake(struct loop *l)
{
    mutex_lock(&l->lock);
    bool asleep = must_ring(l);
    mutex_unlock(&l->lock);
    if (asleep) ring(l);
}

void loop_set_wait(struct loop *l, enum loop_wait queue, int64_t ms)
{
    if (atomic_exchange(&l->waits_ms[queue], ms) != ms) loop_wake(l);
}

static void run_messages(struct loop *l)
{
    mutex_lock(&l->lock);
    l->asleep = false;
    struct loop_message *m = l->first;
    l->first = l->last = NULL;
    mutex_unlock(&l->lock);
    while (m) {
        struct loop_message *next = m->next;
        m->arrived(m);
        m = next;
    }
}

/* ---- the thread ---- */

static int64_t deadline_ms(struct loop *l, int queue)
{
    if (!linked(&l->waiting[queue]) || queue == LOOP_HELD) return INT64_MAX;
    return waiting_client(l->waiting[queue].next)->since_ms +
           atomic_load(&l->waits_ms[queue]);
}

static void run_again(struct loop *l)
{
    struct loop_link *last =
        l->again.prev; /* those who ask now wait for the next turn */
    for (bool more = linked(&l->again); more;) {
        struct loop_link *link = l->again.next;
        more = link != last;
        unlink_from(link);
        struct loop_client *c = again_client(link);
        c->calls->ready(c, 0);
    }
}

static void run_timers(struct loop *l)
{
    for (int queue = 0; queue < LOOP_WAITS; queue++) {
        struct loop_link *last = l->waiting[queue].prev;
        while (deadline_ms(l, queue) <= l->now_ms) {
            struct loop_client *c = waiting_client(l->waiting[queue].next);
            bool more =
                &c->waiting != last; /* a wait of 0 ms must not go on for ever */
            loop_wait(c, (enum loop_wait)queue);
            c->calls->expired(c);
            if (!more) break;
        }
    }
}

/* In milliseconds, as epoll_wait has it. */
static int sleep_ms(struct loop *l)
{
    int64_t next_ms = INT64_MAX;
    if (linked(&l->again)) return 0;
    for (int queue = 0; queue < LOOP_WAITS; queue++) {
        int64_t at_ms = deadline_ms(l, queue);
        if (at_ms < next_ms) next_ms = at_ms;
    }
    if (next_ms == INT64_MAX) return -1;
    int64_t ms = next_ms - clock_ms();
    return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* False: the loop has ended. */
static bool fall_asleep(struct loop *l, bool *messages)
{
    mutex_lock(&l->lock);
    bool held = linked(&l->waiting[LOOP_HELD]) || linked(&l->waiting[LOOP_FLOW]);
    bool ended = l->stopping && !l->first && !held;
    *messages = l->first != NULL;
    l->asleep = !ended && !*messages;
    mutex_unlock(&l->lock);
    return !ended;
}

static bool is_stopping(struct loop *l)
{
    mutex_lock(&l->lock);
    bool stopping = l->stopping;
    mutex_unlock(&l->lock);
    return stopping;
}

static void run_events(struct loop *l, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(l->epoll, events, EVENTS_MAX, timeout_ms);
    assert(n >= 0 || errno == EINTR);
    l->now_ms = clock_ms();
    for (int i = 0; i < n; i++) {
        struct loop_client *c = events[i].data.ptr;
        uint64_t count;
        if (c)
            c->calls->ready(c, events[i].events);
        else
            (void)!read(l->wake, &count, sizeof count);
    }
}

static void stop_queue(struct loop *l, int queue)
{
    while (linked(&l->waiting[queue])) {
        struct loop_client *c = waiting_client(l->waiting[queue].next);
        c->calls->stopped(c);
    }
}

static void stop_clients(struct loop *l)
{
    for (int queue = 0; queue < LOOP_WAITS; queue++)
        stop_queue(l, queue);
}

static void run(void *arg)
{
    struct loop *l = arg;
    bool messages;
    thread_take_short_turns();
    while (fall_asleep(l, &messages)) {
        run_events(l, messages ? 0 : sleep_ms(l));
        run_messages(l);
        run_again(l);
        run_timers(l);
        if (is_stopping(l)) stop_queue(l, LOOP_FLOW);
    }
    stop_clients(l);
}

/* ---- start and end ---- */

struct loop *loop_new(const char *name, const int64_t waits_ms[LOOP_WAITS])
{
    struct loop *l = mem_new(struct loop);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    l->name = name;
    l->now_ms = clock_ms();
    for (int queue = 0; queue < LOOP_WAITS; queue++) {
        link_init(&l->waiting[queue]);
        atomic_init(&l->waits_ms[queue], waits_ms[queue]);
    }
    link_init(&l->again);
    mutex_init(&l->lock);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failed = epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &event);
    assert(!failed);
    return l;
}

void loop_start(struct loop *l)
{
    l->thread = thread_start(l->name, run, l);
}

void loop_stop(struct loop *l)
{
    mutex_lock(&l->lock);
    l->stopping = true;
    bool asleep = must_ring(l);
    mutex_unlock(&l->lock);
    if (asleep) ring(l);
}

void loop_join(struct loop *l)
{
    thread_join(l->thread);
}

void loop_free(struct loop *l)
{
    (void)close(l->wake);
    (void)close(l->epoll);
    mutex_release(&l->lock);
    mem_free(l);
}
