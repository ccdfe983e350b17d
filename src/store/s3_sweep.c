/*
 * MinIO knows the uploads of one whole key or those of the whole bucket, and shows none
 * for a prefix in between (seen with the head of 2026-02). So the whole bucket is asked
 * for, of any store, and what is not ours passed over here.
 */
#include "store/s3_sweep.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/s3_xml.h"
#include "store/store.h"

enum {
    PAGE_BYTES_MAX = 16 << 20,
    ID_MAX = 2048,
    OLD_MAX = 1000, /* of one page; the next sweep ends more */
    ENDED_AT_ONCE = 16
};

struct upload {
    char *key, *id;
};

struct page {
    const char *prefix;
    int64_t age_ms, now_ms;
    struct upload old[OLD_MAX];
    size_t old_count;
    bool truncated, told_truncated;
    char next_key[S3_XML_TEXT_MAX + 1], next_id[ID_MAX];
    /* of the upload that is being read */
    char key[STORE_KEY_MAX + 1], id[ID_MAX];
    int64_t began_ms; /* 0: not told */
};

static int64_t moment_ms(const char *text)
{
    struct tm utc = {0};
    if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &utc)) return 0;
    return (int64_t)timegm(&utc) * 1000;
}

/* Cut means empty: a name that does not fit is none of ours. */
static void take(const char *text, char *out, size_t room)
{
    size_t size = strlen(text);
    if (size >= room) size = 0;
    memcpy(out, text, size);
    out[size] = '\0';
}

static void take_upload(struct page *p)
{
    bool ours = strncmp(p->key, p->prefix, strlen(p->prefix)) == 0 &&
                store_key_valid(p->key) && *p->id;
    bool old = p->began_ms && p->now_ms - p->began_ms >= p->age_ms;
    if (ours && old && p->old_count < OLD_MAX)
        p->old[p->old_count++] = (struct upload){mem_strdup(p->key), mem_strdup(p->id)};
    p->key[0] = p->id[0] = '\0';
    p->began_ms = 0;
}

static bool element(void *context, const char *path, const char *text)
{
    struct page *p = context;
    if (strcmp(path, "Upload/Key") == 0)
        take(text, p->key, sizeof p->key);
    else if (strcmp(path, "Upload/UploadId") == 0)
        take(text, p->id, sizeof p->id);
    else if (strcmp(path, "Upload/Initiated") == 0)
        p->began_ms = moment_ms(text);
    else if (strcmp(path, "Upload") == 0)
        take_upload(p);
    else if (strcmp(path, "NextKeyMarker") == 0)
        take(text, p->next_key, sizeof p->next_key);
    else if (strcmp(path, "NextUploadIdMarker") == 0)
        take(text, p->next_id, sizeof p->next_id);
    else if (strcmp(path, "IsTruncated") == 0) {
        p->told_truncated = true;
        p->truncated = strcmp(text, "true") == 0;
    }
    return true;
}

static void page_clear(struct page *p)
{
    for (size_t i = 0; i < p->old_count; i++) {
        mem_free(p->old[i].key);
        mem_free(p->old[i].id);
    }
    p->old_count = 0;
    p->truncated = p->told_truncated = false;
    p->next_key[0] = p->next_id[0] = '\0';
}

static bool page_good(const struct s3_request *r, void *context)
{
    struct page *p = context;
    page_clear(p);
    p->now_ms = s3_answer_ms(&r->answer);
    if (!p->now_ms) p->now_ms = clock_wall_ms();
    return s3_xml_read(buf_slice(&r->answer.body), "ListMultipartUploadsResult",
                       element, p) &&
           p->told_truncated && (!p->truncated || *p->next_key);
}

static enum err ask(struct op *op, struct s3_client *client, struct page *p)
{
    char *key = mem_strdup(p->next_key), *id = mem_strdup(p->next_id);
    struct s3_request r = {.kind = S3_READ,
                           .method = "GET",
                           .key = "",
                           .query = {{"uploads", ""}, {"max-uploads", "1000"}},
                           .query_count = 2,
                           .body_max = PAGE_BYTES_MAX,
                           .check = page_good,
                           .context = p};
    if (*key) r.query[r.query_count++] = (struct s3_field){"key-marker", key};
    if (*id) r.query[r.query_count++] = (struct s3_field){"upload-id-marker", id};
    enum err e = s3_client_run(op, client, &r, 1);
    if (!e) e = s3_client_result(op, client, &r);
    if (e == ERR_NOT_FOUND) e = ERR_IO;
    s3_request_release(&r);
    mem_free(key);
    mem_free(id);
    return e;
}

/* One that is gone meanwhile was ended by somebody else. */
static enum err end_some(struct op *op, struct s3_client *client,
                         const struct upload *uploads, size_t n, uint64_t *ended)
{
    struct s3_request requests[ENDED_AT_ONCE];
    for (size_t i = 0; i < n; i++)
        requests[i] = (struct s3_request){.kind = S3_WRITE,
                                          .method = "DELETE",
                                          .key = uploads[i].key,
                                          .query = {{"uploadId", uploads[i].id}},
                                          .query_count = 1};
    enum err first = s3_client_run(op, client, requests, n);
    for (size_t i = 0; i < n; i++) {
        enum err e = first ? first : s3_client_result(op, client, &requests[i]);
        if (e == ERR_NOT_FOUND)
            op_clear_error(op);
        else if (e)
            first = e;
        else
            ++*ended;
        s3_request_release(&requests[i]);
    }
    op->counters.store_requests += n;
    return first;
}

static enum err end_old(struct op *op, struct s3_client *client, const struct page *p,
                        uint64_t *ended)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < p->old_count && !e; i += ENDED_AT_ONCE) {
        size_t left = p->old_count - i;
        e = end_some(op, client, p->old + i,
                     left < ENDED_AT_ONCE ? left : ENDED_AT_ONCE, ended);
    }
    return e;
}

enum err s3_sweep_run(struct op *op, struct s3_client *client, const char *prefix,
                      int64_t age_ms, uint64_t *ended)
{
    struct page *p = mem_new(struct page);
    enum err e = ERR_OK;
    p->prefix = prefix;
    p->age_ms = age_ms;
    *ended = 0;
    for (bool more = true; more && !e;) {
        e = ask(op, client, p);
        more = p->truncated;
        if (!e) e = end_old(op, client, p, ended);
    }
    page_clear(p);
    mem_free(p);
    return e;
}
