#include "store/s3_quirks.h"

#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "store/s3_sum.h"

enum {
    LARGE_SIZE = 1 << 20, /* from here on a body waits for 100 Continue */
    ANSWER_MAX = 64 << 10
};

static const char stored[] = "what is stored", other[] = "something else";

static char *key_of(const char *folder, const char *leaf)
{
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s%s", folder, leaf);
    buf_append_byte(&key, '\0');
    return (char *)key.data;
}

/* One attempt each: a refusal is an answer here. */
static struct s3_request create(const char *key, const struct slice *body)
{
    return (struct s3_request){.kind = S3_CREATE,
                               .method = "PUT",
                               .key = key,
                               .headers = {{"if-none-match", "*"}},
                               .header_count = 1,
                               .parts = body,
                               .part_count = 1};
}

static void add_header(struct s3_request *r, const char *name, const char *value)
{
    r->headers[r->header_count++] = (struct s3_field){name, value};
}

/* Of a body whose checksum is that of another. */
static enum s3_known refused(const struct s3_request *r)
{
    if (r->answer.end != S3_END_ANSWERED) return S3_NOT_KNOWN;
    if (r->answer.status == 400) return S3_YES;
    return r->answer.status / 100 == 2 ? S3_NO : S3_NOT_KNOWN;
}

static enum s3_known told(const struct s3_request *r, const char *crc)
{
    if (r->answer.end != S3_END_ANSWERED || r->answer.status / 100 != 2)
        return S3_NOT_KNOWN;
    return strcmp(r->answer.crc32c, crc) == 0 ? S3_YES : S3_NO;
}

static enum err ask_about_sums(struct op *op, struct s3_client *client, char **keys,
                               const char *right, struct store_s3_quirks *out)
{
    const struct slice body = slice_str(stored), another = slice_str(other);
    char wrong[S3_CRC_SIZE], wrong_md5[S3_MD5_SIZE];
    struct s3_request requests[] = {create(keys[0], &body), create(keys[1], &body),
                                    create(keys[2], &body)};
    enum { COUNT = sizeof requests / sizeof *requests };

    s3_sum_crc32c(&another, 1, wrong);
    s3_sum_md5(&another, 1, wrong_md5);
    add_header(&requests[0], "x-amz-checksum-crc32c", right);
    add_header(&requests[1], "x-amz-checksum-crc32c", wrong);
    add_header(&requests[2], "content-md5", wrong_md5);
    enum err e = s3_client_run(op, client, requests, COUNT);
    if (!e) {
        memcpy(out->server, requests[0].answer.server, sizeof out->server);
        out->echoes_crc32c = told(&requests[0], right);
        out->checks_crc32c = refused(&requests[1]);
        out->checks_md5 = refused(&requests[2]);
    }
    for (size_t i = 0; i < COUNT; i++)
        s3_request_release(&requests[i]);
    return e;
}

static enum err ask_for_sum(struct op *op, struct s3_client *client, const char *key,
                            const char *right, struct store_s3_quirks *out)
{
    struct s3_request r = {.kind = S3_READ,
                           .method = "GET",
                           .key = key,
                           .headers = {{"x-amz-checksum-mode", "ENABLED"}},
                           .header_count = 1,
                           .body_max = ANSWER_MAX};
    enum err e = s3_client_run(op, client, &r, 1);
    if (!e) out->tells_crc32c = told(&r, right);
    s3_request_release(&r);
    return e;
}

/* A large body for a name that is taken: is it refused before it was sent? */
static enum err ask_for_early_refusal(struct op *op, struct s3_client *client,
                                      const char *key, struct store_s3_quirks *out)
{
    struct slice body = slice_of(mem_calloc(1, LARGE_SIZE), LARGE_SIZE);
    struct s3_request r = create(key, &body);
    enum err e = s3_client_run(op, client, &r, 1);
    if (!e && r.answer.end == S3_END_ANSWERED && r.answer.status == 412)
        out->refuses_early = r.answer.early ? S3_YES : S3_NO;
    s3_request_release(&r);
    mem_free((void *)(uintptr_t)body.data);
    return e;
}

enum err s3_quirks_find(struct op *op, struct s3_client *client, const char *folder,
                        struct store_s3_quirks *out)
{
    char *keys[] = {key_of(folder, "stored"), key_of(folder, "crc32c"),
                    key_of(folder, "md5")};
    const struct slice body = slice_str(stored);
    char right[S3_CRC_SIZE];

    *out = (struct store_s3_quirks){.echoes_crc32c = S3_NOT_KNOWN};
    s3_sum_crc32c(&body, 1, right);
    enum err e = ask_about_sums(op, client, keys, right, out);
    if (!e) e = ask_for_sum(op, client, keys[0], right, out);
    if (!e) e = ask_for_early_refusal(op, client, keys[0], out);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        mem_free(keys[i]);
    return e;
}
