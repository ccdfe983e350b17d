#include "store/store_s3.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"
#include "store/s3_client.h"
#include "store/s3_list.h"
#include "store/s3_quirks.h"
#include "store/s3_read.h"
#include "store/s3_sum.h"
#include "store/s3_sweep.h"
#include "store/s3_upload.h"
#include "store/s3_watch.h"
#include "store/s3_xml.h"

enum {
    DELETES_MAX = 1000,
    SINGLE_DELETES_MAX = 64, /* at once, where many in one request are not understood */
    DELETE_ANSWER_MAX = 2 << 20
};

struct store_s3 {
    struct store base;
    struct s3_client *client;
    bool content_md5;
    atomic_bool single_deletes; /* the store knows no DeleteObjects */
    atomic_bool lists_by_folder;
    struct s3_watch *watch; /* NULL: nobody asked for it */
};

static struct store_s3 *s3_of(struct store *s)
{
    return (struct store_s3 *)s;
}

/* ---- read and get ---- */

static enum err store_s3_read(struct op *op, struct store *base,
                              struct store_range *ranges, size_t n)
{
    return s3_read_ranges(op, s3_of(base)->client, S3_READ, ranges, n);
}

static enum err store_s3_get(struct op *op, struct store *base, const char *key,
                             size_t size_max, struct buf *out)
{
    return s3_read_whole(op, s3_of(base)->client, key, size_max, out);
}

/* ---- create and put ---- */

static enum err store_s3_create(struct op *op, struct store *base, const char *key,
                                struct slice data)
{
    struct store_s3 *s = s3_of(base);
    struct s3_upload upload = {.client = s->client,
                               .content_md5 = s->content_md5,
                               .key = key,
                               .parts = &data,
                               .part_count = 1};
    return s3_upload_create(op, &upload, S3_CREATE);
}

static enum err store_s3_put(struct op *op, struct store *base, const char *key,
                             const struct slice *parts, size_t n)
{
    struct store_s3 *s = s3_of(base);
    struct s3_upload upload = {.client = s->client,
                               .content_md5 = s->content_md5,
                               .key = key,
                               .parts = parts,
                               .part_count = n};
    return s3_upload_put(op, &upload);
}

/* ---- list ---- */

static enum err store_s3_list(struct op *op, struct store *base, const char *prefix,
                              const char *after, char delimiter, const char **keys,
                              size_t *n)
{
    struct s3_list list = {.client = s3_of(base)->client,
                           .by_folder = &s3_of(base)->lists_by_folder,
                           .prefix = prefix,
                           .after = after,
                           .delimiter = delimiter,
                           .keys = keys,
                           .room = *n};
    enum err e = s3_list_run(op, &list);
    if (!e) *n = list.count;
    return e;
}

/* ---- delete ---- */

static bool no_body(const struct s3_request *r, void *context)
{
    (void)context;
    return r->answer.body.size == 0;
}

static enum err delete_each(struct op *op, struct store_s3 *s, const char *const *keys,
                            size_t n)
{
    struct s3_request *requests = mem_new_array(struct s3_request, n);
    enum err first;

    for (size_t i = 0; i < n; i++)
        requests[i] = (struct s3_request){.kind = S3_WRITE,
                                          .method = "DELETE",
                                          .key = keys[i],
                                          .check = no_body};
    first = s3_client_run(op, s->client, requests, n);
    for (size_t i = 0; i < n && !first; i++) {
        enum err e = s3_client_result(op, s->client, &requests[i]);
        if (e == ERR_NOT_FOUND)
            op_clear_error(op);
        else
            first = e;
    }
    for (size_t i = 0; i < n; i++)
        s3_request_release(&requests[i]);
    mem_free(requests);
    return first;
}

static enum err delete_singly(struct op *op, struct store_s3 *s,
                              const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i += SINGLE_DELETES_MAX) {
        size_t left = n - i;
        enum err e = delete_each(op, s, keys + i,
                                 left < SINGLE_DELETES_MAX ? left : SINGLE_DELETES_MAX);
        if (e) return e;
    }
    return ERR_OK;
}

/* The errors in a DeleteResult; a key that was not there is none. */
struct delete_walk {
    char key[STORE_KEY_MAX + 1], code[S3_WORD_MAX], message[S3_WORD_MAX];
    size_t failed;
    char words[STORE_KEY_MAX + 3 * S3_WORD_MAX]; /* about the first one */
};

static bool delete_element(void *context, const char *path, const char *text)
{
    struct delete_walk *w = context;
    if (strcmp(path, "Error/Key") == 0)
        (void)snprintf(w->key, sizeof w->key, "%s", text);
    else if (strcmp(path, "Error/Code") == 0)
        (void)snprintf(w->code, sizeof w->code, "%s", text);
    else if (strcmp(path, "Error/Message") == 0)
        (void)snprintf(w->message, sizeof w->message, "%s", text);
    if (strcmp(path, "Error") != 0) return true;
    if (strcmp(w->code, "NoSuchKey") != 0 && w->failed++ == 0)
        (void)snprintf(w->words, sizeof w->words, "%s: %s, %s", w->key, w->code,
                       w->message);
    w->key[0] = w->code[0] = w->message[0] = '\0';
    return true;
}

static bool delete_good(const struct s3_request *r, void *context)
{
    struct delete_walk *w = context;
    w->failed = 0;
    if (!s3_xml_read(buf_slice(&r->answer.body), "DeleteResult", delete_element, w))
        return false;
    return w->failed == 0; /* what failed is worth another attempt */
}

static void delete_write(const char *const *keys, size_t n, struct buf *body)
{
    buf_append_str(body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                         "<Quiet>true</Quiet>");
    for (size_t i = 0; i < n; i++) {
        buf_append_str(body, "<Object><Key>");
        s3_xml_escape(keys[i], body);
        buf_append_str(body, "</Key></Object>");
    }
    buf_append_str(body, "</Delete>");
}

static enum err delete_many(struct op *op, struct store_s3 *s, const char *const *keys,
                            size_t n)
{
    struct buf body = BUF_INIT;
    struct delete_walk walk = {.failed = 0};
    char md5[S3_MD5_SIZE];

    delete_write(keys, n, &body);
    struct slice part = buf_slice(&body);
    s3_sum_md5(&part, 1, md5);
    struct s3_request r = {.kind = S3_WRITE,
                           .method = "POST",
                           .key = "",
                           .query = {{"delete", ""}},
                           .query_count = 1,
                           .headers = {{"content-md5", md5},
                                       {"content-type", "application/xml"}},
                           .header_count = 2,
                           .parts = &part,
                           .part_count = 1,
                           .body_max = DELETE_ANSWER_MAX,
                           .check = delete_good,
                           .context = &walk};
    enum err e = s3_client_run(op, s->client, &r, 1);
    bool unknown_call = !e && r.class == S3_NOT_APPLIED &&
                        (r.answer.status == 405 || r.answer.status == 501);
    if (unknown_call) atomic_store(&s->single_deletes, true);
    if (!e && !unknown_call) {
        e = s3_client_result(op, s->client, &r);
        if (e && walk.failed)
            e = op_fail(op, e, "%zu of %zu deletes failed, %s", walk.failed, n,
                        walk.words);
    }
    s3_request_release(&r);
    buf_release(&body);
    return unknown_call ? delete_singly(op, s, keys, n) : e;
}

static enum err store_s3_delete(struct op *op, struct store *base,
                                const char *const *keys, size_t n)
{
    struct store_s3 *s = s3_of(base);
    if (n == 1 || atomic_load(&s->single_deletes)) return delete_singly(op, s, keys, n);
    for (size_t i = 0; i < n; i += DELETES_MAX) {
        size_t left = n - i;
        enum err e =
            delete_many(op, s, keys + i, left < DELETES_MAX ? left : DELETES_MAX);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- what is left of the dead ---- */

static enum err store_s3_sweep(struct op *op, struct store *base, const char *prefix,
                               int64_t age_ms, uint64_t *ended)
{
    return s3_sweep_run(op, s3_of(base)->client, prefix, age_ms, ended);
}

/* ---- the table ---- */

static void store_s3_free(struct store *base)
{
    struct store_s3 *s = s3_of(base);
    s3_watch_stop(s->watch);
    s3_client_free(s->client);
    mem_free(s);
}

static const struct store_ops s3_ops = {
    .name = "s3",
    .read = store_s3_read,
    .get = store_s3_get,
    .create = store_s3_create,
    .put = store_s3_put,
    .list = store_s3_list,
    .delete = store_s3_delete,
    .sweep = store_s3_sweep,
    .free = store_s3_free,
};

/* ---- quirks ---- */

static const char *known_word(enum s3_known known)
{
    return known == S3_YES ? "yes" : known == S3_NO ? "no" : "unknown";
}

static void record(struct op *op, const struct store_s3 *s,
                   const struct store_s3_quirks *q)
{
    const struct {
        const char *labels;
        enum s3_known known;
    } quirks[] = {{"quirk=\"checks_crc32c\"", q->checks_crc32c},
                  {"quirk=\"echoes_crc32c\"", q->echoes_crc32c},
                  {"quirk=\"tells_crc32c\"", q->tells_crc32c},
                  {"quirk=\"checks_md5\"", q->checks_md5},
                  {"quirk=\"refuses_early\"", q->refuses_early}};
    for (size_t i = 0; i < sizeof quirks / sizeof *quirks; i++)
        metric_set(metric_gauge("elacsym_s3_quirk",
                                "What the S3 store does: 1 yes, 0 no, -1 not known.",
                                quirks[i].labels),
                   quirks[i].known == S3_NOT_KNOWN ? -1 : quirks[i].known == S3_YES);
    log_info(op, "the store's quirks",
             "server=%s checks_crc32c=%s echoes_crc32c=%s tells_crc32c=%s "
             "checks_md5=%s refuses_early=%s",
             q->server, known_word(q->checks_crc32c), known_word(q->echoes_crc32c),
             known_word(q->tells_crc32c), known_word(q->checks_md5),
             known_word(q->refuses_early));
    /* Without TLS the signature covers the body; large ones over TLS have the checksum
     * alone. */
    if (q->checks_crc32c == S3_NO && q->checks_md5 == S3_YES && !s->content_md5 &&
        s3_client_tls(s->client))
        log_warn(op, "the store ignores CRC32C: set storage.s3.content_md5 = true",
                 "server=%s", q->server);
}

static void forget(struct op *op, struct store *base, const char *folder)
{
    const char *keys[8];
    size_t n = sizeof keys / sizeof *keys;
    enum err e = store_list(op, base, folder, "", 0, keys, &n);
    if (!e) e = store_delete(op, base, keys, n);
    if (e) log_warn(op, "objects of a probe are left", "error=%s", op->error);
}

void store_s3_learn(struct op *op, struct store *base, struct store_s3_quirks *out)
{
    struct store_s3 *s = s3_of(base);
    uint8_t id[8];
    char hex[2 * sizeof id + 1], folder[64];

    assert(base->ops == &s3_ops);
    random_bytes(id, sizeof id);
    hex_encode(id, sizeof id, hex);
    (void)snprintf(folder, sizeof folder, "probe/%s/", hex);
    enum err e = s3_quirks_find(op, s->client, folder, out);
    if (e) log_warn(op, "the store's quirks are not known", "error=%s", op->error);
    op_clear_error(op);
    record(op, s, out);
    forget(op, base, folder);
    op_clear_error(op);
}

/* ---- all of it ---- */

enum err store_s3_open(struct op *op, const struct store_s3_options *options,
                       struct store **out)
{
    const struct s3_client_options client = {.endpoint = options->endpoint,
                                             .bucket = options->bucket,
                                             .region = options->region,
                                             .environment = options->environment};
    struct store_s3 *s = mem_new(struct store_s3);
    s->base.ops = &s3_ops;
    s->content_md5 = options->content_md5;
    enum err e = s3_client_new(op, &client, &s->client);
    if (e) {
        mem_free(s);
        return e;
    }
    *out = &s->base;
    return ERR_OK;
}

void store_s3_watch(struct store *s, void (*broken)(void *context, const char *why),
                    void *context)
{
    struct store_s3 *s3 = s3_of(s);
    assert(s->ops == &s3_ops && !s3->watch);
    s3->watch = s3_watch_start(s, broken, context);
}

int64_t store_s3_silent_ms(void *context)
{
    struct store *s = context;
    assert(s->ops == &s3_ops);
    return s3_client_silent_ms(s3_of(s)->client);
}
