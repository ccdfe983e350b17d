#include "store/s3_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "store/s3_sum.h"

enum {
    READS_MAX = 128, /* ranges asked for at once */
    RANGE_MAX = 64
};

/* ---- ranges ---- */

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
    if (r->answer.status != 206 || !*r->answer.etag) return false;
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
    if (r->answer.size < 0 || !*r->answer.etag) return false;
    uint64_t size = (uint64_t)r->answer.size, offset = range->range->offset;
    range->outside = offset > size || range->range->size > size - offset;
    return true;
}

static struct s3_request range_request(enum s3_kind kind, struct range *range)
{
    const struct store_range *wanted = range->range;
    struct s3_request r = {.kind = kind,
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
    r.hedge = kind == S3_READ;
    r.check = range_good;
    return r;
}

static enum err range_result(struct op *op, struct s3_client *client,
                             const struct s3_request *r, const struct range *range)
{
    enum err e = s3_client_result(op, client, r);
    if (!e && range->outside)
        e = op_fail(op, ERR_CORRUPT, "%s is shorter than expected", r->key);
    return e;
}

static enum err read_some(struct op *op, struct s3_client *client, enum s3_kind kind,
                          struct store_range *ranges, size_t n)
{
    struct s3_request *requests = mem_new_array(struct s3_request, n);
    struct range *about = mem_new_array(struct range, n);
    enum err first = ERR_OK;

    for (size_t i = 0; i < n; i++) {
        about[i].range = &ranges[i];
        requests[i] = range_request(kind, &about[i]);
    }
    enum err e = s3_client_run(op, client, requests, n);
    for (size_t i = 0; i < n; i++) {
        ranges[i].err = e ? e : range_result(op, client, &requests[i], &about[i]);
        if (!first) first = ranges[i].err;
        s3_request_release(&requests[i]);
    }
    mem_free(about);
    mem_free(requests);
    return first;
}

enum err s3_read_ranges(struct op *op, struct s3_client *client, enum s3_kind kind,
                        struct store_range *ranges, size_t n)
{
    enum err first = ERR_OK;
    for (size_t i = 0; i < n; i += READS_MAX) {
        size_t count = n - i < READS_MAX ? n - i : READS_MAX;
        enum err e = read_some(op, client, kind, ranges + i, count);
        if (!first) first = e;
    }
    return first;
}

/* ---- whole objects ---- */

/* The store tells the checksum of an object that was put with one. That of an upload in
 * parts is of another kind, with a '-'; other tools use other sums and tell none. */
static bool whole(const struct s3_request *r, void *context)
{
    const struct s3_answer *a = &r->answer;
    struct slice body = buf_slice(&a->body);
    char crc[S3_CRC_SIZE];
    (void)context;
    if (a->status != 200 || !*a->etag) return false;
    if (a->size < 0 || (uint64_t)a->size != a->received) return false;
    if (!*a->crc32c || strchr(a->crc32c, '-')) return true;
    s3_sum_crc32c(&body, 1, crc);
    return strcmp(a->crc32c, crc) == 0;
}

enum err s3_read_whole(struct op *op, struct s3_client *client, const char *key,
                       size_t size_max, struct buf *out)
{
    struct s3_request r = {.kind = S3_READ,
                           .method = "GET",
                           .key = key,
                           .headers = {{"x-amz-checksum-mode", "ENABLED"}},
                           .header_count = 1,
                           .body_max = size_max,
                           .hedge = true,
                           .check = whole};
    enum err e = s3_client_run(op, client, &r, 1);
    if (!e) e = s3_client_result(op, client, &r);
    if (!e) buf_append_slice(out, buf_slice(&r.answer.body));
    s3_request_release(&r);
    return e;
}
