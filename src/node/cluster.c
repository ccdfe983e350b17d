#include "node/cluster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "http/http_client.h"
#include "http/http_stream.h"
#include "node/peer.h"

enum {
    CONNECT_MS = 500,
    IDLE_SECS = 30, /* less than a node keeps an idle connection */
    STEP_MS = 250,  /* without an answer for so long: is it alive at all? */
    SLOW_MS = 3000, /* a read is answered here then, even if the owner is alive */
    WRITE_MISSES_MAX = 4,
    MARGIN_MS = 100, /* an owner gives up so much earlier, so that its words arrive */
    RETRY_AFTER_MS = 1000,
    STALL_MS = 10000, /* an answer that streams must not pause for longer */
    ANSWER_HELD_MAX =
        1 << 20,           /* a smaller one can be replaced by our own till its end */
    LIST_SHOWN_MAX = 4096, /* bytes of a list of nodes in a header */
    LOG_EVERY_MS = 1000
};

static const char HOP[] = "X-Elacsym-Hop";
static const char DEADLINE[] = "X-Elacsym-Deadline-Ms";
static const char NODES[] = "X-Elacsym-Nodes"; /* fingerprint; sender; id,id,… */
static const char NODE[] = "X-Elacsym-Node";   /* of an answer: who gave it */

/* What a client, or a wrong configuration, can cause at any rate. */
enum complaint { COMPLAINT_LISTS, COMPLAINT_LOOP, COMPLAINT_CONFLICT, COMPLAINTS };

struct cluster {
    char *node_id;
    bool query_node, forward_writes;
    int64_t (*store_silent_ms)(void *store);
    void *store;
    size_t answer_max;
    char **ids;
    struct ring ring;
    size_t self; /* index in the ring; SIZE_MAX: a query node */
    uint64_t fingerprint;
    char *list;  /* the ring as text */
    char *nodes; /* what we send as X-Elacsym-Nodes */
    struct peer **peers;
    struct http_client *client;
    struct metric *forwarded, *failed, *instead, *mismatches, *loops, *conflicts,
        *seconds;
    struct mutex lock; /* guards logged_ms */
    int64_t logged_ms[COMPLAINTS];
};

/* ---- life ---- */

char *cluster_address(const char *address_template, const char *node_id, uint16_t port)
{
    struct buf out = BUF_INIT;
    for (const char *p = address_template; *p;) {
        if (strncmp(p, "{node_id}", 9) == 0) {
            buf_append_str(&out, node_id);
            p += 9;
        } else if (strncmp(p, "{port}", 6) == 0) {
            buf_printf(&out, "%u", port);
            p += 6;
        } else {
            buf_append_byte(&out, (uint8_t)*p++);
        }
    }
    while (out.size && out.data[out.size - 1] == '/')
        out.size--;
    buf_append_byte(&out, '\0');
    return (char *)out.data;
}

static char *terminated(struct buf *text)
{
    buf_append_byte(text, '\0');
    return (char *)text->data;
}

static void copy_ring(struct cluster *c, const struct cluster_options *options)
{
    struct buf list = BUF_INIT, nodes = BUF_INIT;
    size_t count = options->ring.count;
    c->ids = mem_new_array(char *, count);
    c->peers = mem_new_array(struct peer *, count);
    for (size_t i = 0; i < count; i++) {
        c->ids[i] = mem_strdup(options->ring.ids[i]);
        c->peers[i] = peer_new(c->ids[i], options->urls[i], c->client);
    }
    c->ring = (struct ring){(const char *const *)c->ids, count};
    c->self = ring_find(&c->ring, c->node_id);
    assert(c->query_node == (c->self == SIZE_MAX));
    c->fingerprint = ring_fingerprint(&c->ring);
    ring_print(&c->ring, &list);
    c->list = terminated(&list);
    buf_printf(&nodes, "%016" PRIx64 "; %s; %s", c->fingerprint, c->node_id,
               strlen(c->list) <= LIST_SHOWN_MAX ? c->list : "");
    c->nodes = terminated(&nodes);
}

static void make_metrics(struct cluster *c)
{
    c->forwarded = metric_counter("elacsym_forwarded_total",
                                  "Requests that another node answered.", NULL);
    c->failed = metric_counter("elacsym_forward_failures_total",
                               "Requests whose owner gave no answer.", NULL);
    c->instead =
        metric_counter("elacsym_reads_instead_total",
                       "Reads answered here, from the store, in place of their owner.",
                       NULL);
    c->mismatches = metric_counter(
        "elacsym_indexer_list_mismatch_total",
        "Requests refused since two nodes have different lists of indexers.", NULL);
    c->loops =
        metric_counter("elacsym_forward_loops_total",
                       "Requests refused since they were passed on already.", NULL);
    c->conflicts = metric_counter(
        "elacsym_ownership_conflicts_total",
        "Times a node was seen to open a namespace that is another's by our list.",
        NULL);
    c->seconds = metric_histogram("elacsym_forward_seconds",
                                  "Time that another node took to answer.", NULL,
                                  metric_seconds, metric_seconds_count);
}

struct cluster *cluster_new(const struct cluster_options *options)
{
    /* Looks at a node's health ride beside the requests that wait for it. */
    const struct http_client_options client = {.exchanges_max =
                                                   2 * options->forwards_max,
                                               .idle_max = options->forwards_max,
                                               .idle_secs = IDLE_SECS,
                                               .connect_ms = CONNECT_MS};
    struct cluster *c = mem_new(struct cluster);
    c->node_id = mem_strdup(options->node_id);
    c->query_node = options->query_node;
    c->forward_writes = options->forward_writes;
    c->answer_max = options->answer_max;
    c->store_silent_ms = options->store_silent_ms;
    c->store = options->store;
    c->client = http_client_new(&client);
    for (int i = 0; i < COMPLAINTS; i++)
        c->logged_ms[i] = -LOG_EVERY_MS;
    mutex_init(&c->lock);
    copy_ring(c, options);
    make_metrics(c);
    return c;
}

void cluster_free(struct cluster *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->ring.count; i++) {
        peer_free(c->peers[i]);
        mem_free(c->ids[i]);
    }
    http_client_free(c->client);
    mutex_release(&c->lock);
    mem_free(c->peers);
    mem_free(c->ids);
    mem_free(c->list);
    mem_free(c->nodes);
    mem_free(c->node_id);
    mem_free(c);
}

/* ---- who ---- */

static bool ours(const struct cluster *c, const char *name)
{
    return !c->query_node && ring_owner(&c->ring, name) == c->self;
}

bool cluster_owns(void *context, const char *name)
{
    return ours(context, name);
}

static bool was_forwarded(const struct router_request *request)
{
    return http_header(request->http, HOP) != NULL;
}

static bool elsewhere(void *context, const struct router_request *request)
{
    struct cluster *c = context;
    if (was_forwarded(request) || ours(c, request->name)) return false;
    if (request->write) return !c->query_node || c->forward_writes;
    return !peer_spared(c->peers[ring_owner(&c->ring, request->name)]);
}

/* ---- refusals ---- */

static void begin_refusal(struct json_writer *w, struct http_response *response,
                          int status, const char *code, const char *words)
{
    response->status = status;
    response->content_type = "application/json";
    json_writer_init(w, &response->body);
    json_begin_object(w);
    json_key(w, "error");
    json_put_str(w, words);
    json_key(w, "code");
    json_put_str(w, code);
}

/* What comes from a header need not be UTF-8. */
static void put_ascii(struct json_writer *w, const char *text, size_t size)
{
    struct buf clean = BUF_INIT;
    for (size_t i = 0; i < size; i++)
        buf_append_byte(&clean,
                        (uint8_t)(text[i] > ' ' && text[i] < 0x7f ? text[i] : '?'));
    json_put_string(w, buf_slice(&clean));
    buf_release(&clean);
}

/* {"<id>": ["a", "b"]} of "a,b". */
static void put_list(struct json_writer *w, const char *id, size_t id_size,
                     const char *list)
{
    json_begin_object(w);
    json_key(w, "node");
    put_ascii(w, id, id_size);
    json_key(w, "nodes");
    json_begin_array(w);
    while (*list) {
        size_t size = strcspn(list, ",");
        put_ascii(w, list, size);
        list += size;
        if (*list == ',') list++;
    }
    json_end_array(w);
    json_end_object(w);
}

/* Once a second is enough to be noticed. */
static bool worth_logging(struct cluster *c, enum complaint what)
{
    int64_t now_ms = clock_ms();
    mutex_lock(&c->lock);
    bool worth = now_ms - c->logged_ms[what] >= LOG_EVERY_MS;
    if (worth) c->logged_ms[what] = now_ms;
    mutex_unlock(&c->lock);
    return worth;
}

void cluster_opened_by(void *context, const char *name, struct slice node_id,
                       uint64_t fingerprint)
{
    struct cluster *c = context;
    const char *owner = c->ring.ids[ring_owner(&c->ring, name)];
    if (slice_equal(node_id, slice_str(owner)) && fingerprint == c->fingerprint) return;
    metric_add(c->conflicts, 1);
    if (worth_logging(c, COMPLAINT_CONFLICT))
        log_warn(NULL, "namespace is opened by another node than its owner",
                 "namespace=%s node=%.*s owner=%s theirs=%016" PRIx64
                 " ours=%016" PRIx64,
                 name, (int)node_id.size, (const char *)node_id.data, owner,
                 fingerprint, c->fingerprint);
}

/* theirs: the sender's X-Elacsym-Nodes. */
static void refuse_lists(struct cluster *c, struct op *op,
                         const struct router_request *request, const char *theirs,
                         struct http_response *response)
{
    struct json_writer w;
    struct buf words = BUF_INIT;
    const char *id = theirs + strcspn(theirs, ";");
    id += strspn(id, "; ");
    size_t id_size = strcspn(id, ";");
    const char *list = id + id_size;
    list += strspn(list, "; ");

    metric_add(c->mismatches, 1);
    if (worth_logging(c, COMPLAINT_LISTS))
        log_warn(op, "indexer lists differ",
                 "sender=%.64s theirs=%s ours=%s namespace=%s", id, theirs, c->list,
                 request->name);
    buf_printf(&words,
               "namespace routing error: the nodes' lists of indexers differ, so they "
               "disagree on who owns namespace \"%s\": let "
               "distributed.indexer_cluster.nodes be the same, in the same order, on "
               "every node",
               request->name);
    begin_refusal(&w, response, 409, "indexer_list_mismatch", terminated(&words));
    json_key(&w, "lists");
    json_begin_array(&w);
    put_list(&w, c->node_id, strlen(c->node_id), c->list);
    put_list(&w, id, id_size, list);
    json_end_array(&w);
    json_end_object(&w);
    buf_release(&words);
}

static void refuse_loop(struct cluster *c, struct op *op,
                        const struct router_request *request, const struct peer *owner,
                        struct http_response *response)
{
    struct json_writer w;
    struct buf words = BUF_INIT;
    metric_add(c->loops, 1);
    if (worth_logging(c, COMPLAINT_LOOP))
        log_warn(op, "a forwarded request is not ours", "namespace=%s owner=%s",
                 request->name, peer_id(owner));
    buf_printf(&words,
               "forward loop: this request was passed on to node \"%s\", but namespace "
               "\"%s\" belongs to \"%s\": the address that led here is another node's",
               c->node_id, request->name, peer_id(owner));
    begin_refusal(&w, response, 508, "forward_loop", terminated(&words));
    json_end_object(&w);
    buf_release(&words);
}

static void refuse_write(const struct cluster *c, const struct router_request *request,
                         const struct peer *owner, struct http_response *response)
{
    struct json_writer w;
    struct buf words = BUF_INIT;
    buf_printf(&words,
               "node \"%s\" is a query node and takes no writes: send them to "
               "\"%s\" at %s, which owns namespace \"%s\", or to any indexer "
               "(distributed.forward_writes = true lets a query node pass them on)",
               c->node_id, peer_id(owner), peer_url(owner), request->name);
    begin_refusal(&w, response, 403, "not_an_indexer", terminated(&words));
    json_key(&w, "owner");
    json_begin_object(&w);
    json_key(&w, "node_id");
    json_put_str(&w, peer_id(owner));
    json_key(&w, "address");
    json_put_str(&w, peer_url(owner));
    json_end_object(&w);
    json_end_object(&w);
    buf_release(&words);
}

/* ---- a request that another node passed on to us ---- */

/* The sender waits no longer than this. Nonsense is no deadline. */
static void adopt_deadline(struct op *op, const struct router_request *request)
{
    const char *text = http_header(request->http, DEADLINE);
    char *end;
    if (!text || *text < '0' || *text > '9') return;
    long long left_ms = strtoll(text, &end, 10);
    if (*end) return;
    int64_t now_ms = clock_ms();
    if (left_ms < op->deadline_ms - now_ms) op->deadline_ms = now_ms + left_ms;
}

/* False: refused. */
static bool take_forwarded(struct cluster *c, struct op *op,
                           const struct router_request *request,
                           const struct peer *owner, struct http_response *response)
{
    char fingerprint[17];
    const char *theirs = http_header(request->http, NODES);
    (void)snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, c->fingerprint);
    if (theirs && strncmp(theirs, fingerprint, 16) != 0) {
        refuse_lists(c, op, request, theirs, response);
        return false;
    }
    if (!ours(c, request->name)) {
        refuse_loop(c, op, request, owner, response);
        return false;
    }
    adopt_deadline(op, request);
    return true;
}

/* ---- passing on ---- */

enum { CONTENT_TYPE, CONTENT_ENCODING, COMMIT, RETRY_AFTER, ANSWERED_BY, WANTED };
enum { FIELDS_MAX = 10 };

enum verdict {
    VERDICT_NONE,
    VERDICT_SPARED,  /* another request has found that it is worth no waiting */
    VERDICT_DEAD,    /* it does not even answer GET /health */
    VERDICT_CUT_OFF, /* it does, but waits for the store */
    VERDICT_SLOW     /* it does, but takes too long for this request */
};

struct forward {
    struct cluster *cluster;
    struct peer *peer;
    struct op *op;
    const struct http_request *http;
    struct http_response *response;
    bool write;
    enum verdict verdict; /* on its owner, by wait_on */
    unsigned misses;
    struct http_client_wanted wanted[WANTED];
    struct http_client_field fields[FIELDS_MAX];
    size_t field_count;
    char deadline[24];
    struct http_client_source source;
    struct http_client_sink sink;
    struct http_client_exchange x;
};

/* A read can be answered here. */
static enum verdict judge_read(const struct forward *f, int64_t waited_ms)
{
    if (peer_spared(f->peer)) return VERDICT_SPARED;
    enum peer_look seen = peer_look(f->peer);
    if (seen == PEER_DEAD) return VERDICT_DEAD;
    if (seen == PEER_CUT_OFF) return VERDICT_CUT_OFF;
    return waited_ms >= SLOW_MS ? VERDICT_SLOW : VERDICT_NONE;
}

/* A write may have been applied already, and whether it was is worth some patience. */
static enum verdict judge_write(struct forward *f)
{
    f->misses = peer_look(f->peer) == PEER_DEAD ? f->misses + 1 : 0;
    return f->misses >= WRITE_MISSES_MAX ? VERDICT_DEAD : VERDICT_NONE;
}

/* No answer for a while: http_client asks whether to wait on. */
static bool wait_on(void *context, int64_t waited_ms)
{
    struct forward *f = context;
    f->verdict = f->write ? judge_write(f) : judge_read(f, waited_ms);
    return f->verdict == VERDICT_NONE;
}

static void add_field(struct forward *f, const char *name, const char *value)
{
    if (!value) return;
    assert(f->field_count < FIELDS_MAX);
    f->fields[f->field_count++] = (struct http_client_field){name, value};
}

static void pass_field(struct forward *f, const struct http_request *from,
                       const char *name)
{
    add_field(f, name, http_header(from, name));
}

/* libcurl would take '#' for the end of the path; other odd bytes it refuses. */
static char *make_url(struct op *op, const struct peer *peer,
                      const struct http_request *http)
{
    struct buf out = BUF_INIT;
    const char *parts[] = {http->path, *http->query_string ? "?" : "",
                           http->query_string};
    buf_append_str(&out, peer_url(peer));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const char *p = parts[i]; *p; p++)
            if (*p <= ' ' || *p >= 0x7f || *p == '#')
                buf_printf(&out, "%%%02X", (unsigned char)*p);
            else
                buf_append_byte(&out, (uint8_t)*p);
    char *url = op_printf(op, "%.*s", (int)out.size, (const char *)out.data);
    buf_release(&out);
    return url;
}

/* The owner counts from the end of the body, too. */
static int64_t time_left_ms(const struct forward *f)
{
    int64_t left_ms = f->http->streams ? http_stream_timeout_ms(f->http)
                                       : f->op->deadline_ms - clock_ms();
    return left_ms > 2 * MARGIN_MS ? left_ms - MARGIN_MS : left_ms;
}

/* Only what a handler reads is passed on, and nothing that belongs to a connection. */
static void add_fields(struct forward *f)
{
    const struct http_request *http = f->http;
    const char *id = f->op->request_id;
    bool body = http->streams || http->body.size;

    (void)snprintf(f->deadline, sizeof f->deadline, "%" PRId64, time_left_ms(f));
    add_field(f, HOP, "1");
    add_field(f, NODES, f->cluster->nodes);
    add_field(f, DEADLINE, f->deadline);
    add_field(f, "X-Request-Id", *id ? id : NULL);
    add_field(f, "Content-Type", body ? "application/json" : NULL);
    if (http->streams) pass_field(f, http, "Content-Encoding");
    pass_field(f, http, "Accept-Encoding");
    pass_field(f, http, "Idempotency-Key");
    pass_field(f, http, "X-Elacsym-Min-Commit");
}

static bool is_json(const char *content_type)
{
    return strncasecmp(content_type, "application/json", 16) == 0;
}

/*
 * Is it the node's own answer? Whatever else listens at that address must not make a
 * write look acknowledged.
 */
static bool credible(const struct forward *f)
{
    if (!is_json(f->wanted[CONTENT_TYPE].value)) return false;
    return f->x.status >= 300 ||
           strcmp(f->wanted[ANSWERED_BY].value, peer_id(f->peer)) == 0;
}

static void answer_head(struct forward *f)
{
    static const int passed[] = {CONTENT_ENCODING, COMMIT, RETRY_AFTER};
    struct http_response *response = f->response;
    response->status = f->x.status;
    response->content_type = "application/json";
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        const struct http_client_wanted *w = &f->wanted[passed[i]];
        if (*w->value) http_response_header(response, w->name, "%s", w->value);
    }
    http_response_header(response, NODE, "%s", peer_id(f->peer));
}

/* ---- bodies that stream, both ways ---- */

static size_t read_body(void *context, void *into, size_t room, bool *ended)
{
    struct forward *f = context;
    return http_stream_read(f->op, f->http, into, room, ended);
}

static void wait_for_body(void *context, int64_t wait_ms)
{
    struct forward *f = context;
    (void)http_stream_wait(f->http, wait_ms);
}

static bool begin_answer(void *context, uint64_t size)
{
    struct forward *f = context;
    bool large = size != HTTP_CLIENT_UNKNOWN && size > ANSWER_HELD_MAX;
    if (!large || f->x.status != 200 || !credible(f)) return false;
    answer_head(f);
    if (http_stream_begin(f->http, f->response, size)) return true;
    f->response->header_count = 0;
    return false;
}

/* It is in time now, as long as it keeps coming; how fast is the client's affair. */
static enum err pass_piece(void *context, struct slice piece)
{
    struct forward *f = context;
    enum err e = http_stream_write(f->op, f->http, piece);
    f->op->deadline_ms = clock_ms() + STALL_MS;
    return e;
}

/* ---- the exchange ---- */

static enum err prepare(struct forward *f)
{
    const struct http_request *http = f->http;
    bool named = http_header(http, "Idempotency-Key") != NULL;

    add_fields(f);
    f->wanted[CONTENT_TYPE].name = "Content-Type";
    f->wanted[CONTENT_ENCODING].name = "Content-Encoding";
    f->wanted[COMMIT].name = "X-Elacsym-Commit";
    f->wanted[RETRY_AFTER].name = "Retry-After";
    f->wanted[ANSWERED_BY].name = NODE;
    f->sink = (struct http_client_sink){f, begin_answer, pass_piece};
    f->x = (struct http_client_exchange){.method = http->method,
                                         .url = make_url(f->op, f->peer, http),
                                         .fields = f->fields,
                                         .field_count = f->field_count,
                                         .body = http->body,
                                         .repeatable = !f->write || named,
                                         .answer_max = f->cluster->answer_max,
                                         .sink = f->write ? NULL : &f->sink,
                                         .wait_on = wait_on,
                                         .context = f,
                                         .wait_step_ms = STEP_MS,
                                         .wanted = f->wanted,
                                         .wanted_count = WANTED};
    if (http->streams) {
        f->source = (struct http_client_source){f, http_stream_size(http), read_body,
                                                wait_for_body};
        f->x.source = &f->source;
    }
    return f->x.url ? ERR_OK : ERR_LIMIT;
}

/* Its owner gave no answer, which the next requests need not find out again. */
static void note_failure(struct forward *f, enum err e)
{
    switch (f->verdict) {
    case VERDICT_SPARED: break;
    case VERDICT_DEAD: peer_failed(f->peer, f->op->error); break;
    case VERDICT_CUT_OFF: peer_cut_off(f->peer); break;
    case VERDICT_SLOW: peer_slow(f->peer); break;
    case VERDICT_NONE:
        if (e == ERR_TIMEOUT) peer_slow(f->peer);
        if (e == ERR_IO && peer_look(f->peer) == PEER_DEAD)
            peer_failed(f->peer, f->op->error);
        break;
    }
}

/* ERR_OK: f->x has the owner's answer, or the client has got it. */
static enum err ask_owner(struct forward *f)
{
    struct cluster *c = f->cluster;
    struct op *op = f->op;
    enum err e = prepare(f);
    if (e) return e;

    int64_t began_us = clock_us();
    e = http_client_run(op, c->client, &f->x);
    if (!e && !credible(f)) {
        e = op_fail(op, ERR_IO, "what answers there is not this node");
        f->verdict = VERDICT_DEAD;
    }
    if (!e) {
        peer_answered(f->peer);
        metric_add(c->forwarded, 1);
        metric_observe(c->seconds, (double)(clock_us() - began_us) / 1e6);
        return ERR_OK;
    }
    if (e == ERR_CANCELED) return e;
    metric_add(c->failed, 1);
    note_failure(f, e);
    return e;
}

static void take_answer(struct forward *f)
{
    if (f->x.begun) return;
    buf_release(&f->response->body);
    f->response->body = f->x.answer;
    f->x.answer = BUF_INIT;
    answer_head(f);
}

/* The owner has no room or no storage: somebody else may. */
static bool better_here(int status)
{
    return status == 429 || (status >= 502 && status <= 504);
}

static struct forward forward_of(struct cluster *c, struct op *op,
                                 const struct router_request *request,
                                 struct peer *owner, struct http_response *response)
{
    return (struct forward){.cluster = c,
                            .peer = owner,
                            .op = op,
                            .http = request->http,
                            .response = response,
                            .write = request->write};
}

static enum err forward_read(struct cluster *c, struct op *op,
                             const struct router_request *request, struct peer *owner,
                             struct http_response *response, bool *answered)
{
    struct forward f = forward_of(c, op, request, owner, response);
    enum err e = ERR_OK;

    if (peer_usable(owner, false)) {
        e = ask_owner(&f);
        *answered = !e && !better_here(f.x.status);
    }
    if (*answered) take_answer(&f);
    buf_release(&f.x.answer);
    bool over = e == ERR_CANCELED || e == ERR_TIMEOUT || e == ERR_LIMIT || f.x.begun;
    if (*answered || over) return e;
    if (e)
        log_debug(op, "read instead of the owner", "namespace=%s owner=%s why=%s",
                  request->name, peer_id(owner), op->error);
    op_clear_error(op);
    metric_add(c->instead, 1);
    return ERR_OK;
}

static enum err unreachable(struct op *op, enum err e, const struct peer *owner,
                            const char *name)
{
    op->retry_after_ms = RETRY_AFTER_MS;
    return op_fail(op, e, "namespace \"%s\" belongs to node \"%s\" at %s, which %s",
                   name, peer_id(owner), peer_url(owner),
                   e == ERR_UNKNOWN ? "gave no answer and may or may not have done this"
                                    : "cannot be reached; nothing was applied");
}

static enum err forward_write(struct cluster *c, struct op *op,
                              const struct router_request *request, struct peer *owner,
                              struct http_response *response, bool *answered)
{
    struct forward f = forward_of(c, op, request, owner, response);

    if (!peer_usable(owner, true)) return unreachable(op, ERR_IO, owner, request->name);
    enum err e = ask_owner(&f);
    if (!e) take_answer(&f);
    buf_release(&f.x.answer);
    *answered = !e;
    if (!e || e == ERR_CANCELED || e == ERR_BUSY) return e;
    return unreachable(op, f.x.sent ? ERR_UNKNOWN : ERR_IO, owner, request->name);
}

static enum err pass(void *context, struct op *op, const struct router_request *request,
                     struct http_response *response, bool *answered)
{
    struct cluster *c = context;
    struct peer *owner = c->peers[ring_owner(&c->ring, request->name)];
    bool forwarded = was_forwarded(request);
    enum err e = ERR_OK;

    *answered = false;
    if (forwarded && !take_forwarded(c, op, request, owner, response)) {
        *answered = true;
    } else if (forwarded || ours(c, request->name)) {
        /* it is for us */
    } else if (!request->write) {
        e = forward_read(c, op, request, owner, response, answered);
    } else if (c->query_node && !c->forward_writes) {
        refuse_write(c, request, owner, response);
        *answered = true;
    } else {
        e = forward_write(c, op, request, owner, response, answered);
    }
    if (response->header_count == 0) /* else the owner's */
        http_response_header(response, NODE, "%s", c->node_id);
    return e;
}

static void health(void *context, struct http_response *response)
{
    struct cluster *c = context;
    int64_t silent_ms = c->store_silent_ms ? c->store_silent_ms(c->store) : 0;
    http_response_header(response, PEER_STORE_HEADER, "%" PRId64, silent_ms);
}

struct router cluster_router(struct cluster *c)
{
    return (struct router){.context = c,
                           .elsewhere = elsewhere,
                           .pass = pass,
                           .health = health};
}
