/*
 * peer.h - another node: where it is, and whether it is worth asking now.
 *
 * One that did not answer is down: nobody asks it for a pause, so its death costs the
 * requests that met it and no others. After the pause one request looks (GET /health,
 * at most PEER_LOOK_MS) while the others go on without; the node is up again when it
 * answers, else the pause begins anew.
 *
 * One that answers but waits for its store (PEER_STORE_HEADER) is cut off: it alone can
 * do the writes that are its own, but reads it would only hold up. It is looked at in
 * the same way.
 *
 * Threads  any.
 */
#ifndef NODE_PEER_H
#define NODE_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct http_client;
struct peer;

enum {
    PEER_LOOK_MS = 200,
    PEER_PAUSE_MS = 20, /* at least */
    PEER_PAUSE_TIMES = 5,
    PEER_SLOW_PAUSE_MS = 5000,
    PEER_STORE_SILENT_MS = 400, /* its store has said nothing for so long: cut off */
    PEER_SLOW_MAX = 3           /* requests in a row that it was too slow for */
};

/* Of the answer to GET /health: for how many milliseconds that node's store has said
 * nothing to what it was asked. */
#define PEER_STORE_HEADER "X-Elacsym-Store-Silent-Ms"

enum peer_look { PEER_DEAD, PEER_CUT_OFF, PEER_WELL };

/* Strings are copied; client is borrowed. */
struct peer *peer_new(const char *id, const char *url, struct http_client *client);
void peer_free(struct peer *p); /* NULL is fine */

const char *peer_id(const struct peer *p);
const char *peer_url(const struct peer *p);

/* May it be asked? Looks once a pause, which takes up to PEER_LOOK_MS. */
bool peer_usable(struct peer *p, bool write);
/* Are reads kept from it, as far as is known? Never blocks. */
bool peer_spared(struct peer *p);
/* What does it answer to GET /health now? Takes up to PEER_LOOK_MS. */
enum peer_look peer_look(struct peer *p);

/* What a request met. Slow: it is alive, but the answer took too long. */
void peer_answered(struct peer *p);
void peer_failed(struct peer *p, const char *why);
void peer_cut_off(struct peer *p);
void peer_slow(struct peer *p);

#endif
