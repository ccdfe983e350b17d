#include "node/peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "http/http_client.h"

enum { HEALTH_ANSWER_MAX = 64 << 10 };

struct peer {
    char *id, *url, *health_url;
    struct http_client *client;
    struct metric *up;
    struct mutex lock; /* guards what follows */
    bool down, cut_off, looking;
    int64_t retry_ms; /* while down or cut off: not before */
    unsigned slow;    /* in a row */
};

struct peer *peer_new(const char *id, const char *url, struct http_client *client)
{
    struct buf text = BUF_INIT;
    struct peer *p = mem_new(struct peer);
    p->id = mem_strdup(id);
    p->url = mem_strdup(url);
    p->client = client;
    buf_printf(&text, "%s/health", url);
    buf_append_byte(&text, '\0');
    p->health_url = mem_strdup((const char *)text.data);
    buf_clear(&text);
    buf_printf(&text, "node=\"%s\"", id);
    buf_append_byte(&text, '\0');
    p->up = metric_gauge("elacsym_peer_up",
                         "1 while the indexer answers this node, as far as is known.",
                         (const char *)text.data);
    metric_set(p->up, 1);
    mutex_init(&p->lock);
    buf_release(&text);
    return p;
}

void peer_free(struct peer *p)
{
    if (!p) return;
    mutex_release(&p->lock);
    mem_free(p->id);
    mem_free(p->url);
    mem_free(p->health_url);
    mem_free(p);
}

const char *peer_id(const struct peer *p)
{
    return p->id;
}

const char *peer_url(const struct peer *p)
{
    return p->url;
}

enum peer_look peer_look(struct peer *p)
{
    struct op look;
    struct http_client_wanted silent = {.name = PEER_STORE_HEADER};
    struct http_client_exchange x = {.method = "GET",
                                     .url = p->health_url,
                                     .repeatable = true,
                                     .wanted = &silent,
                                     .wanted_count = 1,
                                     .answer_max = HEALTH_ANSWER_MAX};
    op_init(&look, clock_ms() + PEER_LOOK_MS, 0);
    bool alive = !http_client_run(&look, p->client, &x) && x.status == 200;
    buf_release(&x.answer);
    op_release(&look);
    if (!alive) return PEER_DEAD;
    bool cut_off = strtoll(silent.value, NULL, 10) >= PEER_STORE_SILENT_MS;
    return cut_off ? PEER_CUT_OFF : PEER_WELL;
}

static void go_down(struct peer *p, int64_t pause_ms, const char *why)
{
    if (!p->down)
        log_warn(NULL, "node does not answer", "node=%s address=%s why=%s", p->id,
                 p->url, why);
    p->down = true;
    p->retry_ms = clock_ms() + pause_ms;
    metric_set(p->up, 0);
}

static void come_up(struct peer *p)
{
    if (p->down)
        log_info(NULL, "node answers again", "node=%s address=%s", p->id, p->url);
    p->down = false;
    metric_set(p->up, 1);
}

static void note_cut_off(struct peer *p, bool cut_off, int64_t pause_ms)
{
    if (cut_off && !p->cut_off)
        log_warn(NULL, "node has lost its store", "node=%s address=%s", p->id, p->url);
    if (!cut_off && p->cut_off)
        log_info(NULL, "node has its store again", "node=%s address=%s", p->id, p->url);
    p->cut_off = cut_off;
    if (cut_off) p->retry_ms = clock_ms() + pause_ms;
}

bool peer_spared(struct peer *p)
{
    mutex_lock(&p->lock);
    bool spared = p->down || p->cut_off;
    mutex_unlock(&p->lock);
    return spared;
}

static void note_look(struct peer *p, enum peer_look seen, int64_t took_ms)
{
    int64_t pause_ms = PEER_PAUSE_TIMES * took_ms;
    if (pause_ms < PEER_PAUSE_MS) pause_ms = PEER_PAUSE_MS;
    if (seen == PEER_DEAD) {
        go_down(p, pause_ms, "");
    } else {
        come_up(p);
        note_cut_off(p, seen == PEER_CUT_OFF, pause_ms);
    }
}

bool peer_usable(struct peer *p, bool write)
{
    mutex_lock(&p->lock);
    bool spared = p->down || (p->cut_off && !write);
    bool look = spared && !p->looking && clock_ms() >= p->retry_ms;
    if (look) p->looking = true;
    mutex_unlock(&p->lock);
    if (!look) return !spared;

    int64_t began_ms = clock_ms();
    enum peer_look seen = peer_look(p);
    mutex_lock(&p->lock);
    p->looking = false;
    note_look(p, seen, clock_ms() - began_ms);
    mutex_unlock(&p->lock);
    return seen == PEER_WELL || (seen == PEER_CUT_OFF && write);
}

void peer_answered(struct peer *p)
{
    mutex_lock(&p->lock);
    p->slow = 0;
    come_up(p);
    mutex_unlock(&p->lock);
}

void peer_failed(struct peer *p, const char *why)
{
    mutex_lock(&p->lock);
    if (!p->down) go_down(p, PEER_PAUSE_MS, why);
    mutex_unlock(&p->lock);
}

void peer_cut_off(struct peer *p)
{
    mutex_lock(&p->lock);
    note_cut_off(p, true, PEER_PAUSE_MS);
    mutex_unlock(&p->lock);
}

void peer_slow(struct peer *p)
{
    mutex_lock(&p->lock);
    if (++p->slow >= PEER_SLOW_MAX && !p->down) {
        go_down(p, PEER_SLOW_PAUSE_MS, "it is alive but answers too slowly");
        p->slow = PEER_SLOW_MAX - 1; /* once more is enough, until it answers in time */
    }
    mutex_unlock(&p->lock);
}
