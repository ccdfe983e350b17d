#include "http/http_watch.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <linux/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"

enum {
    EVENTS_MAX = 64,
    ACCEPTS_MAX = 64, /* at once, before others get their turn */
    TICK_MIN_MS = 10,
    TICK_MAX_MS = 1000,
    FULL_IDLE_MS = 1000, /* idle time-out while the table is full */
    WARN_EVERY_MS = 10000,
    STOP_MS = 2000,
    LINGERS_MAX = 256,
    LINGER_MS = 2000,
    LINGER_READ_MAX = 256 << 10
};

enum phase {
    PHASE_FREE,
    PHASE_HEAD, /* idle, or a head is coming in */
    PHASE_BODY,
    PHASE_WORK,
    PHASE_SEND
};

struct watched {
    struct mutex lock; /* guards all below; may be taken while no other lock is held */
    struct watch *watch;
    struct op *op;         /* PHASE_WORK: to cancel */
    int64_t since_ms;      /* the phase, or its present window, began */
    int64_t head_since_ms; /* PHASE_HEAD: the head's first byte was seen; 0: not yet */
    uint64_t mark;         /* bytes that had moved at since_ms */
    uint64_t body_bytes;
    enum phase phase;
    int fd;
    uint32_t generation; /* of this place in the table: tells late events apart */
    uint32_t index;
    uint32_t next_free;
    bool marked; /* PHASE_HEAD: mark is known */
    bool doomed; /* waits for the library to close it */
    bool told;   /* answered past the library */
    bool gone;
    bool linger;
};

struct farewell {
    int fd; /* -1: unused */
    int64_t until_ms;
};

struct watch {
    struct watch_options options;
    struct watched *table;
    struct thread *thread;
    int epoll;
    int wake;
    int64_t tick_ms;
    int64_t quiet_until_ms; /* only the thread looks at it */
    struct mutex lock;      /* guards what follows */
    uint32_t used;          /* places of the table that were ever taken */
    uint32_t free;          /* first of the freed ones, UINT32_MAX at the end */
    size_t count;           /* connections, from accept to watch_remove */
    bool listening;         /* the listening socket is in epoll */
    bool draining;
    bool stopping;
    struct farewell lingers[LINGERS_MAX];
};

/* What an epoll event is about: kind in the top byte, then generation, then index. */
enum event_kind { EVENT_WAKE, EVENT_LISTEN, EVENT_CONNECTION, EVENT_LINGER };

static uint64_t event_data(enum event_kind kind, uint32_t generation, uint32_t index)
{
    return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffff) << 32 | index;
}

static void epoll_add(struct watch *w, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    int failed = epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event);
    assert(!failed);
}

static void wake(struct watch *w)
{
    uint64_t one = 1;
    ssize_t written = write(w->wake, &one, sizeof one);
    assert(written == sizeof one || errno == EAGAIN);
}

/* ---- connections: called by the library's threads and the workers ---- */

static struct watched *take_place(struct watch *w)
{
    struct watched *c;
    mutex_lock(&w->lock);
    if (w->free != UINT32_MAX) {
        c = &w->table[w->free];
        w->free = c->next_free;
    } else {
        assert(w->used < w->options.connections_max);
        c = &w->table[w->used];
        mutex_init(&c->lock);
        c->watch = w;
        c->index = w->used++;
    }
    mutex_unlock(&w->lock);
    return c;
}

static void give_place_back(struct watch *w, struct watched *c)
{
    mutex_lock(&w->lock);
    c->next_free = w->free;
    w->free = c->index;
    w->count--;
    bool wanted = !w->listening && !w->draining;
    mutex_unlock(&w->lock);
    if (wanted) wake(w);
}

struct watched *watch_add(struct watch *w, int fd)
{
    struct watched *c = take_place(w);
    mutex_lock(&c->lock);
    c->phase = PHASE_HEAD;
    c->fd = fd;
    c->since_ms = clock_ms();
    c->head_since_ms = 0;
    c->mark = 0;
    c->marked = true;
    c->op = NULL;
    c->doomed = c->told = c->gone = c->linger = false;
    epoll_add(w, fd, EPOLLRDHUP | EPOLLET,
              event_data(EVENT_CONNECTION, c->generation, c->index));
    mutex_unlock(&c->lock);
    return c;
}

/* The library closes its own descriptor at once; this copy keeps the connection, else a
 * client that is still sending would get a reset instead of our answer. */
static void start_linger(struct watch *w, int fd)
{
    int copy = dup(fd);
    if (copy < 0) return;
    (void)shutdown(copy, SHUT_WR);

    mutex_lock(&w->lock);
    uint32_t i = 0;
    while (i < LINGERS_MAX && w->lingers[i].fd >= 0)
        i++;
    bool room = i < LINGERS_MAX && !w->stopping;
    if (room) {
        w->lingers[i] = (struct farewell){copy, clock_ms() + LINGER_MS};
        epoll_add(w, copy, EPOLLIN | EPOLLRDHUP, event_data(EVENT_LINGER, 0, i));
    }
    mutex_unlock(&w->lock);
    if (!room) (void)close(copy);
}

void watch_remove(struct watched *c)
{
    struct watch *w = c->watch;
    mutex_lock(&c->lock);
    assert(c->phase != PHASE_FREE && !c->op);
    int failed = epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    assert(!failed);
    bool linger = c->linger;
    int fd = c->fd;
    c->phase = PHASE_FREE;
    c->generation++;
    c->fd = -1;
    mutex_unlock(&c->lock);
    if (linger) start_linger(w, fd);
    give_place_back(w, c);
}

static void enter(struct watched *c, enum phase phase)
{
    c->phase = phase;
    c->since_ms = clock_ms();
    c->mark = 0;
}

void watch_head_begins(struct watched *c)
{
    mutex_lock(&c->lock);
    if (c->phase == PHASE_HEAD && !c->head_since_ms) c->head_since_ms = clock_ms();
    mutex_unlock(&c->lock);
}

bool watch_body_begins(struct watched *c)
{
    mutex_lock(&c->lock);
    bool alive = !c->doomed;
    enter(c, PHASE_BODY);
    c->body_bytes = 0;
    mutex_unlock(&c->lock);
    return alive;
}

void watch_body_bytes(struct watched *c, size_t bytes)
{
    mutex_lock(&c->lock);
    c->body_bytes += bytes;
    mutex_unlock(&c->lock);
}

void watch_work_begins(struct watched *c, struct op *op)
{
    mutex_lock(&c->lock);
    enter(c, PHASE_WORK);
    c->op = op;
    if (c->gone) op_cancel(op);
    mutex_unlock(&c->lock);
}

/* Bytes of the connection so far; 0 where the kernel does not count them. */
static void count_bytes(int fd, uint64_t *received, uint64_t *acked)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        info = (struct tcp_info){0};
    *received = info.tcpi_bytes_received;
    *acked = info.tcpi_bytes_acked;
}

void watch_answer_begins(struct watched *c)
{
    mutex_lock(&c->lock);
    enter(c, PHASE_SEND);
    c->marked = false;
    c->op = NULL;
    mutex_unlock(&c->lock);
}

bool watch_request_ends(struct watched *c)
{
    mutex_lock(&c->lock);
    bool told = c->told;
    enter(c, PHASE_HEAD);
    c->head_since_ms = 0;
    c->marked = false;
    mutex_unlock(&c->lock);
    return told;
}

/* A few hundred bytes on a connection that has sent nothing yet: they fit into the
 * kernel's buffer, or the client reads nothing anyway. */
static void answer_locked(struct watched *c, struct slice answer)
{
    if (c->doomed) return;
    (void)send(c->fd, answer.data, answer.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(c->fd, SHUT_WR);
    c->told = c->doomed = true;
    c->since_ms = clock_ms();
}

void watch_answer(struct watched *c, struct slice answer)
{
    mutex_lock(&c->lock);
    answer_locked(c, answer);
    c->linger = true;
    mutex_unlock(&c->lock);
}

void watch_linger(struct watched *c)
{
    mutex_lock(&c->lock);
    c->linger = true;
    mutex_unlock(&c->lock);
}

/* ---- the thread ---- */

static void doom(struct watched *c)
{
    c->doomed = true;
    (void)shutdown(c->fd, SHUT_RDWR);
}

static void refuse_slow(struct watched *c, const char *why)
{
    struct watch *w = c->watch;
    struct buf answer = BUF_INIT;
    w->options.refuse(w->options.context, 408, why, &answer);
    answer_locked(c, buf_slice(&answer));
    buf_release(&answer);
    doom(c);
}

static void check_head(struct watched *c, int64_t now_ms, int64_t idle_ms)
{
    const struct watch_options *o = &c->watch->options;
    uint64_t received, acked;
    if (!c->head_since_ms) {
        count_bytes(c->fd, &received, &acked);
        if (!c->marked) {
            c->mark = received;
            c->marked = true;
        }
        if (received > c->mark) c->head_since_ms = now_ms;
    }
    if (c->head_since_ms) {
        if (now_ms - c->head_since_ms >= o->head_timeout_ms)
            refuse_slow(c, "the head of the request took too long");
    } else if (now_ms - c->since_ms >= idle_ms) {
        doom(c);
    }
}

/* Closes a window; false when fewer bytes moved in it than must. */
static bool fast_enough(struct watched *c, int64_t now_ms, uint64_t bytes)
{
    const struct watch_options *o = &c->watch->options;
    int64_t elapsed_ms = now_ms - c->since_ms;
    if (elapsed_ms < o->window_ms) return true;
    bool enough = bytes - c->mark >= o->rate_min * (uint64_t)elapsed_ms / 1000;
    c->mark = bytes;
    c->since_ms = now_ms;
    return enough;
}

static void check_answer(struct watched *c, int64_t now_ms)
{
    uint64_t received, acked;
    count_bytes(c->fd, &received, &acked);
    if (!c->marked) {
        c->mark = acked;
        c->marked = true;
    }
    if (!fast_enough(c, now_ms, acked)) doom(c);
}

static void close_now(struct watched *c)
{
    mutex_lock(&c->lock);
    if (c->phase != PHASE_FREE) doom(c);
    mutex_unlock(&c->lock);
}

static void check(struct watched *c, int64_t now_ms, int64_t idle_ms)
{
    mutex_lock(&c->lock);
    if (c->doomed) {
        if (now_ms - c->since_ms >= LINGER_MS) doom(c);
    } else {
        switch (c->phase) {
        case PHASE_FREE:
        case PHASE_WORK: break;
        case PHASE_HEAD: check_head(c, now_ms, idle_ms); break;
        case PHASE_BODY:
            if (!fast_enough(c, now_ms, c->body_bytes))
                refuse_slow(c, "the body of the request came too slowly");
            break;
        case PHASE_SEND: check_answer(c, now_ms); break;
        }
    }
    mutex_unlock(&c->lock);
}

static void end_linger(struct watch *w, uint32_t index)
{
    mutex_lock(&w->lock);
    int fd = w->lingers[index].fd;
    w->lingers[index].fd = -1;
    mutex_unlock(&w->lock);
    if (fd < 0) return;
    (void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
    (void)close(fd);
}

static int linger_fd(struct watch *w, uint32_t index, int64_t *until_ms)
{
    mutex_lock(&w->lock);
    int fd = w->lingers[index].fd;
    *until_ms = w->lingers[index].until_ms;
    mutex_unlock(&w->lock);
    return fd;
}

static void sweep(struct watch *w)
{
    int64_t now_ms = clock_ms();
    int64_t idle_ms = w->options.idle_timeout_ms;
    mutex_lock(&w->lock);
    uint32_t used = w->used;
    if (w->count >= w->options.connections_max && idle_ms > FULL_IDLE_MS)
        idle_ms = FULL_IDLE_MS;
    if (w->draining) idle_ms = 0;
    mutex_unlock(&w->lock);

    for (uint32_t i = 0; i < used; i++)
        check(&w->table[i], now_ms, idle_ms);
    for (uint32_t i = 0; i < LINGERS_MAX; i++) {
        int64_t until_ms;
        if (linger_fd(w, i, &until_ms) >= 0 && now_ms >= until_ms) end_linger(w, i);
    }
}

static void read_off(struct watch *w, uint32_t index)
{
    int64_t until_ms;
    int fd = linger_fd(w, index, &until_ms);
    if (fd < 0) return;
    /* TCP with MSG_TRUNC throws the bytes away without copying them. */
    ssize_t n = recv(fd, NULL, LINGER_READ_MAX, MSG_DONTWAIT | MSG_TRUNC);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) end_linger(w, index);
}

static void client_gone(struct watch *w, uint32_t generation, uint32_t index)
{
    struct watched *c = &w->table[index];
    mutex_lock(&c->lock);
    if (c->phase != PHASE_FREE && (c->generation & 0xffffff) == generation) {
        c->gone = true;
        if (c->op) op_cancel(c->op);
    }
    mutex_unlock(&c->lock);
}

static void pause_accepting(struct watch *w)
{
    mutex_lock(&w->lock);
    if (w->listening) {
        (void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->options.listen_fd, NULL);
        w->listening = false;
    }
    mutex_unlock(&w->lock);
}

/* After a pause; the tick comes here too, in case the pause was for descriptors. */
static void resume_accepting(struct watch *w)
{
    mutex_lock(&w->lock);
    if (!w->listening && !w->draining && w->count < w->options.connections_max) {
        epoll_add(w, w->options.listen_fd, EPOLLIN, event_data(EVENT_LISTEN, 0, 0));
        w->listening = true;
    }
    mutex_unlock(&w->lock);
}

/* At most one line in WARN_EVERY_MS, or a full table would fill the log as well. */
static void warn(struct watch *w, const char *event, const char *why)
{
    int64_t now_ms = clock_ms();
    if (now_ms < w->quiet_until_ms) return;
    w->quiet_until_ms = now_ms + WARN_EVERY_MS;
    log_warn(NULL, event, "why=%s connections_max=%zu", why,
             w->options.connections_max);
}

static bool reserve_place(struct watch *w)
{
    mutex_lock(&w->lock);
    bool full = w->count >= w->options.connections_max;
    bool room = !full && !w->draining;
    if (room) w->count++;
    mutex_unlock(&w->lock);
    if (full) warn(w, "http connections full", "no free place");
    return room;
}

static void unreserve_place(struct watch *w)
{
    mutex_lock(&w->lock);
    w->count--;
    mutex_unlock(&w->lock);
}

static bool passing_error(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EPROTO ||
           error == ENETDOWN || error == EHOSTUNREACH || error == ENETUNREACH;
}

/* False: nothing more to accept, or no room for it. */
static bool accept_one(struct watch *w)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (!reserve_place(w)) {
        pause_accepting(w);
        return false;
    }
    int fd = accept4(w->options.listen_fd, (struct sockaddr *)&address, &size,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    int error = errno;
    if (fd >= 0 &&
        w->options.accepted(w->options.context, fd, (struct sockaddr *)&address, size))
        return true;
    unreserve_place(w);
    if (fd >= 0 || passing_error(error)) return true;
    if (error != EAGAIN) {
        warn(w, "http accept failed", strerror(error));
        pause_accepting(w);
    }
    return false;
}

static void accept_some(struct watch *w)
{
    for (int i = 0; i < ACCEPTS_MAX && accept_one(w); i++)
        ;
}

static void handle(struct watch *w, uint64_t data)
{
    uint32_t index = (uint32_t)data;
    uint64_t count;
    switch ((enum event_kind)(data >> 56)) {
    case EVENT_WAKE: (void)!read(w->wake, &count, sizeof count); break;
    case EVENT_LISTEN: accept_some(w); break;
    case EVENT_CONNECTION:
        client_gone(w, (uint32_t)(data >> 32) & 0xffffff, index);
        break;
    case EVENT_LINGER: read_off(w, index); break;
    }
}

static bool stop_wanted(struct watch *w)
{
    mutex_lock(&w->lock);
    bool stopping = w->stopping;
    mutex_unlock(&w->lock);
    return stopping;
}

/* Only this thread uses the listening socket, so only it closes it. True once. */
static bool close_listener(struct watch *w)
{
    mutex_lock(&w->lock);
    bool draining = w->draining;
    mutex_unlock(&w->lock);
    if (!draining || w->options.listen_fd < 0) return false;
    pause_accepting(w);
    (void)close(w->options.listen_fd);
    w->options.listen_fd = -1;
    return true;
}

static void run(void *arg)
{
    struct watch *w = arg;
    int64_t next_sweep_ms = clock_ms() + w->tick_ms;
    while (!stop_wanted(w)) {
        struct epoll_event events[EVENTS_MAX];
        int64_t wait_ms = next_sweep_ms - clock_ms();
        int n =
            epoll_wait(w->epoll, events, EVENTS_MAX, wait_ms > 0 ? (int)wait_ms : 0);
        for (int i = 0; i < n; i++)
            handle(w, events[i].data.u64);
        resume_accepting(w);
        if (!close_listener(w) && clock_ms() < next_sweep_ms) continue;
        sweep(w);
        next_sweep_ms = clock_ms() + w->tick_ms;
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct watch *watch_new(const struct watch_options *options)
{
    struct watch *w = mem_new(struct watch);
    w->options = *options;
    w->table = mem_new_array(struct watched, options->connections_max);
    w->free = UINT32_MAX;
    for (size_t i = 0; i < LINGERS_MAX; i++)
        w->lingers[i].fd = -1;
    mutex_init(&w->lock);
    int64_t shortest_ms =
        least(least(options->idle_timeout_ms, options->head_timeout_ms),
              options->window_ms);
    w->tick_ms = least(shortest_ms / 4, TICK_MAX_MS);
    if (w->tick_ms < TICK_MIN_MS) w->tick_ms = TICK_MIN_MS;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(w->epoll >= 0 && w->wake >= 0);
    epoll_add(w, w->wake, EPOLLIN, event_data(EVENT_WAKE, 0, 0));
    resume_accepting(w);
    return w;
}

void watch_start(struct watch *w)
{
    w->thread = thread_start("http-watch", run, w);
}

void watch_drain(struct watch *w)
{
    mutex_lock(&w->lock);
    w->draining = true;
    mutex_unlock(&w->lock);
    wake(w);
}

static size_t close_all(struct watch *w)
{
    mutex_lock(&w->lock);
    uint32_t used = w->used;
    size_t count = w->count;
    mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < used; i++)
        close_now(&w->table[i]);
    return count;
}

void watch_stop(struct watch *w)
{
    mutex_lock(&w->lock);
    w->stopping = true;
    mutex_unlock(&w->lock);
    wake(w);
    thread_join(w->thread);
    for (int64_t until_ms = clock_ms() + STOP_MS;
         close_all(w) && clock_ms() < until_ms;)
        task_sleep_ms(1);
    for (uint32_t i = 0; i < LINGERS_MAX; i++)
        end_linger(w, i);
}

void watch_free(struct watch *w)
{
    for (uint32_t i = 0; i < w->used; i++)
        mutex_release(&w->table[i].lock);
    if (w->options.listen_fd >= 0) (void)close(w->options.listen_fd);
    (void)close(w->wake);
    (void)close(w->epoll);
    mutex_release(&w->lock);
    mem_free(w->table);
    mem_free(w);
}
