#include "http/http_queue.h"

void queue_init(struct http_queue *q, size_t count_max, int64_t delay_max_ms)
{
    *q = (struct http_queue){.count_max = count_max, .delay_max_ms = delay_max_ms};
}

bool queue_push(struct http_queue *q, struct queued *item, int64_t now_ms)
{
    if (q->count >= q->count_max) return false;
    *item = (struct queued){.since_ms = now_ms};
    if (q->last)
        q->last->next = item;
    else
        q->first = item;
    q->last = item;
    q->count++;
    return true;
}

static bool late(const struct http_queue *q, const struct queued *item, int64_t now_ms)
{
    return item && now_ms - item->since_ms > q->delay_max_ms;
}

static void look(struct http_queue *q, int64_t now_ms)
{
    if (q->standing) return;
    if (!late(q, q->first, now_ms))
        q->late_since_ms = 0;
    else if (q->late_since_ms == 0)
        q->late_since_ms = now_ms;
    else
        q->standing =
            now_ms - q->late_since_ms >= HTTP_QUEUE_INTERVALS * q->delay_max_ms;
}

struct queued *queue_shed(struct http_queue *q, int64_t now_ms)
{
    struct queued *shed = NULL;
    struct queued **end = &shed;
    look(q, now_ms);
    while (q->standing && late(q, q->first, now_ms)) {
        *end = queue_pop(q);
        end = &(*end)->next;
    }
    return shed;
}

struct queued *queue_pop(struct http_queue *q)
{
    struct queued *item = q->first;
    if (!item) {
        q->standing = false;
        q->late_since_ms = 0;
        return NULL;
    }
    q->first = item->next;
    if (!q->first) q->last = NULL;
    q->count--;
    item->next = NULL;
    return item;
}
