#include "cache/disk_cache.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "cache/slab.h"

enum {
    RETRY_MS = 10000,
    LOG_EVERY_MS = 10000,
    OPEN_WAIT_MS = 5000,
    STOP_WAIT_MS = 1000,
    QUEUE_SHARE = 2,          /* of memory_max; the rest is the index */
    JOB_OVERHEAD = 64,        /* of an allocation */
    DISK_PER_INDEX_BYTE = 512 /* a slot of 16 bytes for 8 KiB is more than enough */
};
static const uint64_t QUEUE_MAX = 64 << 20;

/* A piece waiting to be written; the key, then the data stand behind it. */
struct job {
    struct job *next;
    struct slab_id id;
    size_t bytes; /* of the queue's */
    uint8_t *data;
    char key[];
};

/* A kind of line that would otherwise come once for each range. */
struct quiet {
    int64_t until_ms;
    uint64_t swallowed;
};

struct disk_cache {
    char *folder;
    struct disk_cache_options options;
    uint64_t queue_max;
    struct thread *thread;
    struct metric *written, *dropped, *damaged, *failures, *size;

    struct mutex lock; /* guards what follows */
    struct cond work;  /* for the thread */
    struct cond idle;  /* for those who wait for it */
    struct slab *slab; /* NULL while there is none */
    bool tried;        /* to open it */
    bool stopping;
    bool writing;
    struct job *first, *last;
    struct disk_cache_usage usage; /* the counters of it */
    struct quiet quiet_damage;
    int64_t next_look_ms;

    /* The thread's. */
    int64_t write_again_ms; /* what comes before it is dropped */
    bool complained;        /* about not being able to open it */
};

/* ---- slab and log ---- */

/* A reference, or NULL. */
static struct slab *slab_get(struct disk_cache *d)
{
    mutex_lock(&d->lock);
    struct slab *s = d->slab ? slab_ref(d->slab) : NULL;
    mutex_unlock(&d->lock);
    return s;
}

/* True if a line may be written now; *swallowed says how many were not before it. */
static bool speak(struct quiet *quiet, uint64_t *swallowed)
{
    int64_t now_ms = clock_ms();
    if (now_ms < quiet->until_ms) {
        quiet->swallowed++;
        return false;
    }
    *swallowed = quiet->swallowed;
    *quiet = (struct quiet){.until_ms = now_ms + LOG_EVERY_MS};
    return true;
}

static void count_damage(struct disk_cache *d, const struct slab_id *id)
{
    uint64_t swallowed = 0;
    metric_add(d->damaged, 1);
    mutex_lock(&d->lock);
    d->usage.damaged++;
    bool say = speak(&d->quiet_damage, &swallowed);
    d->next_look_ms = 0; /* perhaps the whole file is gone */
    cond_signal(&d->work);
    mutex_unlock(&d->lock);
    if (!say) return;
    log_warn(NULL, "cached range damaged, read from the store instead",
             "folder=%s key=%s offset=%llu size=%u others=%llu", d->folder, id->key,
             (unsigned long long)id->offset, id->size, (unsigned long long)swallowed);
}

static void count_failure(struct disk_cache *d)
{
    metric_add(d->failures, 1);
    mutex_lock(&d->lock);
    d->usage.failures++;
    mutex_unlock(&d->lock);
}

/* ---- pieces ---- */

/* Walks over a range in pieces as they are stored. */
struct pieces {
    uint32_t max;
    uint64_t left;
    struct slab_id id;
};

static struct pieces pieces_of(const struct slab *s, const char *key, uint64_t offset,
                               uint64_t size)
{
    return (struct pieces){.max = slab_piece_max(s),
                           .left = size,
                           .id = {.key = key, .offset = offset}};
}

static bool pieces_next(struct pieces *p)
{
    p->id.offset += p->id.size;
    p->id.size = p->left < p->max ? (uint32_t)p->left : p->max;
    p->left -= p->id.size;
    return p->id.size > 0;
}

static bool has_all(struct slab *s, const struct disk_range *r, bool read_ahead)
{
    struct pieces p = pieces_of(s, r->key, r->offset, r->size);
    while (pieces_next(&p))
        if (!slab_has(s, &p.id, read_ahead)) return false;
    return r->size > 0;
}

static bool read_all(struct disk_cache *d, struct slab *s, const struct disk_range *r)
{
    struct pieces p = pieces_of(s, r->key, r->offset, r->size);
    while (pieces_next(&p)) {
        enum slab_found found =
            slab_read(s, &p.id, r->data + (p.id.offset - r->offset));
        if (found == SLAB_DAMAGED) count_damage(d, &p.id);
        if (found != SLAB_HIT) return false;
    }
    return true;
}

void disk_cache_read(struct disk_cache *d, struct disk_range *ranges, size_t n)
{
    struct slab *s = slab_get(d);

    /* The kernel fetches all of them at once while we copy the first. */
    for (size_t i = 0; i < n; i++)
        ranges[i].found =
            s && has_all(s, &ranges[i], n > 1 || ranges[i].size > SLAB_PIECE_MAX);
    for (size_t i = 0; i < n; i++)
        if (ranges[i].found) ranges[i].found = read_all(d, s, &ranges[i]);
    slab_unref(s);
}

bool disk_cache_has(struct disk_cache *d, const char *key, uint64_t offset, size_t size)
{
    const struct disk_range range = {.key = key, .offset = offset, .size = size};
    struct slab *s = slab_get(d);
    bool there = s && has_all(s, &range, false);
    slab_unref(s);
    return there;
}

void disk_cache_forget(struct disk_cache *d, const char *key, uint64_t offset,
                       size_t size)
{
    struct slab *s = slab_get(d);
    if (!s) return;
    struct pieces p = pieces_of(s, key, offset, size);
    while (pieces_next(&p))
        slab_forget(s, &p.id);
    slab_unref(s);
}

/* ---- offering ---- */

/* Takes room in the queue; false when it is full. */
static bool queue_reserve(struct disk_cache *d, size_t bytes)
{
    mutex_lock(&d->lock);
    bool fits = !d->stopping && bytes <= d->queue_max - d->usage.queued_bytes;
    if (fits)
        d->usage.queued_bytes += bytes;
    else
        d->usage.dropped_bytes += bytes;
    mutex_unlock(&d->lock);
    if (!fits) metric_add(d->dropped, bytes);
    return fits;
}

static bool enqueue(struct disk_cache *d, const struct slab_id *id, const uint8_t *data)
{
    size_t key_size = strlen(id->key) + 1;
    size_t bytes = sizeof(struct job) + key_size + id->size + JOB_OVERHEAD;
    if (!queue_reserve(d, bytes)) return false;

    struct job *job = mem_alloc(sizeof *job + key_size + id->size);
    *job = (struct job){.id = *id, .bytes = bytes};
    memcpy(job->key, id->key, key_size);
    job->id.key = job->key;
    job->data = (uint8_t *)job->key + key_size;
    memcpy(job->data, data, id->size);

    mutex_lock(&d->lock);
    if (d->last)
        d->last->next = job;
    else
        d->first = job;
    d->last = job;
    cond_signal(&d->work);
    mutex_unlock(&d->lock);
    return true;
}

void disk_cache_offer(struct disk_cache *d, const char *key, uint64_t offset,
                      struct slice data, bool again)
{
    struct slab *s = slab_get(d);
    if (!s) return;
    struct pieces p = pieces_of(s, key, offset, data.size);
    while (pieces_next(&p)) {
        if (slab_interest(s, &p.id, !again) != SLAB_WANTS) continue;
        if (!enqueue(d, &p.id, data.data + (p.id.offset - offset))) break;
    }
    slab_unref(s);
}

/* ---- the thread ---- */

static void slab_set(struct disk_cache *d, struct slab *s)
{
    mutex_lock(&d->lock);
    struct slab *old = d->slab;
    d->slab = s;
    d->tried = true;
    cond_broadcast(&d->idle);
    mutex_unlock(&d->lock);
    slab_unref(old);
    metric_set(d->size, s ? (double)slab_usage(s).bytes : 0);
}

static void log_opened(struct disk_cache *d, struct slab *s, int64_t took_ms)
{
    struct slab_usage usage = slab_usage(s);
    log_info(NULL, "disk cache open",
             "folder=%s size_max=%llu bytes=%llu region_bytes=%llu ranges=%llu "
             "index_bytes=%llu took_ms=%lld",
             d->folder, (unsigned long long)usage.size_max,
             (unsigned long long)usage.bytes, (unsigned long long)usage.region_size,
             (unsigned long long)usage.recovered, (unsigned long long)usage.index_bytes,
             (long long)took_ms);
}

/* Says once why there is no disk cache, and not again until there was one. */
static void try_open(struct disk_cache *d)
{
    struct slab *s = NULL;
    struct op op;
    int64_t began_ms = clock_ms();

    op_init(&op, OP_NO_DEADLINE, 0);
    uint64_t index_max = d->options.memory_max - d->queue_max;
    if (index_max > d->options.size_max / DISK_PER_INDEX_BYTE)
        index_max = d->options.size_max / DISK_PER_INDEX_BYTE;
    enum err e = slab_open(&op, d->folder, d->options.size_max, index_max, &s);
    if (e) {
        count_failure(d);
        if (!d->complained)
            log_warn(&op, "no disk cache for now", "folder=%s why=%s", d->folder,
                     op.error);
    } else {
        log_opened(d, s, clock_ms() - began_ms);
    }
    d->complained = e != ERR_OK;
    slab_set(d, s);
    op_release(&op);
}

/* Opens what is not open, and lets go of what is no longer there. */
static void look(struct disk_cache *d)
{
    mutex_lock(&d->lock);
    bool due = clock_ms() >= d->next_look_ms;
    if (due) d->next_look_ms = clock_ms() + d->options.retry_ms;
    mutex_unlock(&d->lock);
    if (!due) return;

    if (d->slab && !slab_intact(d->slab)) {
        count_failure(d);
        log_warn(NULL, "disk cache vanished or was cut, starting anew", "folder=%s",
                 d->folder);
        slab_set(d, NULL);
    }
    if (!d->slab) try_open(d);
}

/* A full disk can still be read; a file that failed otherwise is let go. */
static void write_failed(struct disk_cache *d, struct op *op, enum err e)
{
    int64_t again_ms = clock_ms() + d->options.retry_ms;
    count_failure(d);
    log_warn(op, "disk cache not written for now", "folder=%s why=%s retry_ms=%lld",
             d->folder, op->error, (long long)d->options.retry_ms);
    d->write_again_ms = again_ms;
    if (e == ERR_FULL) return;
    slab_set(d, NULL);
    mutex_lock(&d->lock);
    d->next_look_ms = again_ms;
    mutex_unlock(&d->lock);
}

static void write_job(struct disk_cache *d, const struct job *job)
{
    struct op op;
    if (!d->slab || job->id.size > slab_piece_max(d->slab)) return;
    if (clock_ms() < d->write_again_ms) return;
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = slab_append(&op, d->slab, &job->id, job->data);
    if (e) {
        write_failed(d, &op, e);
    } else {
        metric_add(d->written, job->id.size);
        metric_set(d->size, (double)slab_usage(d->slab).bytes);
        mutex_lock(&d->lock);
        d->usage.written_bytes += job->id.size;
        mutex_unlock(&d->lock);
    }
    op_release(&op);
}

/* The next job, after a wait; NULL when it is time to look or to stop. */
static struct job *dequeue(struct disk_cache *d)
{
    mutex_lock(&d->lock);
    if (!d->first && !d->stopping && clock_ms() < d->next_look_ms)
        (void)cond_wait(&d->work, &d->lock, d->next_look_ms);
    struct job *job = d->first;
    if (job) d->first = job->next;
    if (!d->first) d->last = NULL;
    d->writing = job;
    mutex_unlock(&d->lock);
    return job;
}

static void job_done(struct disk_cache *d, struct job *job)
{
    mutex_lock(&d->lock);
    d->usage.queued_bytes -= job->bytes;
    d->writing = false;
    if (!d->first) cond_broadcast(&d->idle);
    mutex_unlock(&d->lock);
    mem_free(job);
}

static bool stopped(struct disk_cache *d)
{
    mutex_lock(&d->lock);
    bool yes = d->stopping && !d->first;
    mutex_unlock(&d->lock);
    return yes;
}

static void run(void *arg)
{
    struct disk_cache *d = arg;
    while (!stopped(d)) {
        look(d);
        struct job *job = dequeue(d);
        if (!job) continue;
        write_job(d, job);
        job_done(d, job);
    }
    if (d->slab) slab_finish(d->slab);
}

/* ---- life ---- */

struct disk_cache *disk_cache_new(const struct disk_cache_options *options)
{
    struct disk_cache *d = mem_new(struct disk_cache);
    d->folder = mem_strdup(options->folder);
    d->options = *options;
    if (d->options.retry_ms == 0) d->options.retry_ms = RETRY_MS;
    d->queue_max = options->memory_max / QUEUE_SHARE;
    if (d->queue_max > QUEUE_MAX) d->queue_max = QUEUE_MAX;
    d->written = metric_counter("elacsym_cache_disk_written_bytes_total",
                                "Bytes written to the disk cache.", NULL);
    d->dropped = metric_counter("elacsym_cache_disk_dropped_bytes_total",
                                "Bytes not written because the queue was full.", NULL);
    d->damaged =
        metric_counter("elacsym_cache_disk_damaged_total",
                       "Ranges found damaged or unreadable in the disk cache.", NULL);
    d->failures =
        metric_counter("elacsym_cache_disk_failures_total",
                       "Times the disk cache could not be opened or written.", NULL);
    d->size =
        metric_gauge("elacsym_cache_disk_file_bytes",
                     "Size of the disk cache's file, 0 while there is none.", NULL);
    mutex_init(&d->lock);
    cond_init(&d->work);
    cond_init(&d->idle);
    d->thread = thread_start("disk cache", run, d);

    int64_t deadline_ms = clock_ms() + OPEN_WAIT_MS;
    mutex_lock(&d->lock);
    while (!d->tried && cond_wait(&d->idle, &d->lock, deadline_ms))
        ;
    mutex_unlock(&d->lock);
    return d;
}

static void drop_queue(struct disk_cache *d)
{
    struct job *next;
    mutex_lock(&d->lock);
    struct job *job = d->first;
    d->first = d->last = NULL;
    for (struct job *at = job; at; at = at->next)
        d->usage.queued_bytes -= at->bytes;
    mutex_unlock(&d->lock);
    for (; job; job = next) {
        next = job->next;
        mem_free(job);
    }
}

void disk_cache_free(struct disk_cache *d)
{
    if (!d) return;
    (void)disk_cache_settle(d, clock_ms() + STOP_WAIT_MS);
    drop_queue(d);
    mutex_lock(&d->lock);
    d->stopping = true;
    cond_signal(&d->work);
    mutex_unlock(&d->lock);
    thread_join(d->thread);
    slab_set(d, NULL);
    cond_release(&d->work);
    cond_release(&d->idle);
    mutex_release(&d->lock);
    mem_free(d->folder);
    mem_free(d);
}

bool disk_cache_settle(struct disk_cache *d, int64_t deadline_ms)
{
    bool in_time = true;
    mutex_lock(&d->lock);
    while ((d->first || d->writing) && in_time)
        in_time = cond_wait(&d->idle, &d->lock, deadline_ms);
    bool settled = !d->first && !d->writing;
    mutex_unlock(&d->lock);
    return settled;
}

struct disk_cache_usage disk_cache_usage(struct disk_cache *d)
{
    struct slab *s = slab_get(d);
    struct slab_usage slab = s ? slab_usage(s) : (struct slab_usage){0};
    mutex_lock(&d->lock);
    struct disk_cache_usage usage = d->usage;
    mutex_unlock(&d->lock);
    usage.open = s;
    usage.size_max = slab.size_max;
    usage.bytes = slab.bytes;
    usage.index_bytes = slab.index_bytes;
    usage.recovered = slab.recovered;
    slab_unref(s);
    return usage;
}
