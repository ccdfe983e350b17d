#include "store/store_s3.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/s3_client.h"
#include "store/s3_list.h"
#include "store/s3_upload.h"
#include "store/s3_watch.h"
#include "store/s3_xml.h"

enum {
    READS_MAX = 128, /* ranges asked for at once */
    DELETES_MAX = 1000,
    SINGLE_DELETES_MAX = 64, /* at once, where many in one request are not understood */
    DELETE_ANSWER_MAX = 2 << 20,
    RANGE_MAX = 64
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

/* ---- read ---- */

struct range {
    const struct store_range *range;
    bool outside; /* the object ends before the range does */
    char header[RANGE_MAX];
};

/* The number that *text begins with, and the byte that must follow it. */
static bool take_number(const char **text, char then, uint64_t *out)
{
    char *end;
    if (**text < '0' || **text > '9') return false;
    errno = 0;
    *out = strtoull(*text, &end, 10);
    if (errno || *end != then) return false;
    *text = end + 1;
    return true;
}

/* bytes=5-9 is answered by "bytes 5-9/SIZE", or "bytes 5-7/8" where the object ends. */
static bool range_good(const struct s3_request *r, void *context)
{
    static const char unit[] = "bytes ";
    struct range *range = context;
    const char *text = r->answer.content_range + sizeof unit - 1;
    uint64_t first, last, size;
    uint64_t from = range->range->offset, to = from + range->range->size - 1;
    if (r->answer.status != 206) return false;
    if (strncmp(r->answer.content_range, unit, sizeof unit - 1) != 0) return false;
    if (!take_number(&text, '-', &first) || !take_number(&text, '/', &last) ||
        !take_number(&text, '\0', &size))
        return false;
    if (first != from || last < first || r->answer.received != last - first + 1)
        return false;
    range->outside = last < to && size == last + 1;
    return last == to || range->outside;
}

/* An empty range: only whether it lies in the object. */
static bool head_good(const struct s3_request *r, void *context)
{
    struct range *range = context;
    if (r->answer.size < 0) return false;
    uint64_t size = (uint64_t)r->answer.size, offset = range->range->offset;
    range->outside = offset > size || range->range->size > size - offset;
    return true;
}

static struct s3_request range_request(struct range *range)
{
    const struct store_range *wanted = range->range;
    struct s3_request r = {.kind = S3_READ,
                           .method = "HEAD",
                           .key = wanted->key,
                           .context = range};
    if (wanted->size == 0 || wanted->offset > (uint64_t)INT64_MAX - wanted->size) {
        r.check = head_good;
        return r;
    }
    (void)snprintf(range->header, RANGE_MAX, "bytes=%" PRIu64 "-%" PRIu64,
                   wanted->offset, wanted->offset + wanted->size - 1);
    r.method = "GET";
    r.headers[r.header_count++] = (struct s3_field){"range", range->header};
    r.room = wanted->data;
    r.room_size = wanted->size;
    r.hedge = true;
    r.check = range_good;
    return r;
}

static enum err range_result(struct op *op, struct store_s3 *s,
                             const struct s3_request *r, const struct range *range)
{
    enum err e = s3_client_result(op, s->client, r);
    if (!e && range->outside)
        e = op_fail(op, ERR_CORRUPT, "%s is shorter than expected", r->key);
    return e;
}

static enum err read_some(struct op *op, struct store_s3 *s, struct store_range *ranges,
                          size_t n)
{
    struct s3_request *requests = mem_new_array(struct s3_request, n);
    struct range *about = mem_new_array(struct range, n);
    enum err first = ERR_OK;

    for (size_t i = 0; i < n; i++) {
        about[i].range = &ranges[i];
        requests[i] = range_request(&about[i]);
    }
    enum err e = s3_client_run(op, s->client, requests, n);
    for (size_t i = 0; i < n; i++) {
        ranges[i].err = e ? e : range_result(op, s, &requests[i], &about[i]);
        if (!first) first = ranges[i].err;
        s3_request_release(&requests[i]);
    }
    mem_free(about);
    mem_free(requests);
    return first;
}

static enum err store_s3_read(struct op *op, struct store *base,
                              struct store_range *ranges, size_t n)
{
    enum err first = ERR_OK;
    for (size_t i = 0; i < n; i += READS_MAX) {
        size_t count = n - i < READS_MAX ? n - i : READS_MAX;
        enum err e = read_some(op, s3_of(base), ranges + i, count);
        if (!first) first = e;
    }
    return first;
}

/* ---- get ---- */

static bool whole(const struct s3_request *r, void *context)
{
    (void)context;
    return r->answer.status == 200 && r->answer.size >= 0 &&
           (uint64_t)r->answer.size == r->answer.received;
}

static enum err store_s3_get(struct op *op, struct store *base, const char *key,
                             size_t size_max, struct buf *out)
{
    struct store_s3 *s = s3_of(base);
    struct s3_request r = {.kind = S3_READ,
                           .method = "GET",
                           .key = key,
                           .body_max = size_max,
                           .hedge = true,
                           .check = whole};
    enum err e = s3_client_run(op, s->client, &r, 1);
    if (!e) e = s3_client_result(op, s->client, &r);
    if (!e) buf_append_slice(out, buf_slice(&r.answer.body));
    s3_request_release(&r);
    return e;
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

static void base64_md5(struct slice data, char out[32])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int good = EVP_Digest(data.data, data.size, digest, &size, EVP_md5(), NULL);
    assert(good && size == 16);
    (void)good;
    (void)EVP_EncodeBlock((unsigned char *)out, digest, (int)size);
}

static enum err delete_many(struct op *op, struct store_s3 *s, const char *const *keys,
                            size_t n)
{
    struct buf body = BUF_INIT;
    struct delete_walk walk = {.failed = 0};
    char md5[32];

    buf_append_str(&body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                          "<Quiet>true</Quiet>");
    for (size_t i = 0; i < n; i++) {
        buf_append_str(&body, "<Object><Key>");
        s3_xml_escape(keys[i], &body);
        buf_append_str(&body, "</Key></Object>");
    }
    buf_append_str(&body, "</Delete>");
    base64_md5(buf_slice(&body), md5);
    struct slice part = buf_slice(&body);
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

/* ---- all of it ---- */

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
    .free = store_s3_free,
};

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
