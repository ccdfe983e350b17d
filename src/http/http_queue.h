/*
 * http_queue.h - requests that wait for a worker, and when to give up on them.
 *
 * First come, first served, as long as waiting is short. A queue is there to even out
 * bursts; one that never gets short again only makes every answer late. So when the
 * oldest request has waited longer than delay_max_ms at every look for INTERVALS times
 * that long (the least delay of the interval was above it, as in CoDel, RFC 8289), the
 * queue is standing: from then on whatever waits longer is shed, until the queue was
 * empty when a worker asked. A burst that is worked off before that loses nothing.
 *
 * Pure: times are arguments; not thread-safe.
 */
#ifndef HTTP_HTTP_QUEUE_H
#define HTTP_HTTP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_QUEUE_INTERVALS = 10 };

/* Embedded in what waits. */
struct queued {
    struct queued *next;
    int64_t since_ms;
};

struct http_queue {
    struct queued *first, *last;
    size_t count;
    size_t count_max;
    int64_t delay_max_ms;
    int64_t late_since_ms; /* all looks since then found the oldest late; 0: none */
    bool standing;
};

void queue_init(struct http_queue *q, size_t count_max, int64_t delay_max_ms);
/* False when it is full. */
bool queue_push(struct http_queue *q, struct queued *item, int64_t now_ms);
/* Looks at the delay; the shed ones, linked by next, oldest first. Before every push
 * and pop. */
struct queued *queue_shed(struct http_queue *q, int64_t now_ms);
/* The oldest; NULL: a worker found nothing to do. */
struct queued *queue_pop(struct http_queue *q);

#endif
