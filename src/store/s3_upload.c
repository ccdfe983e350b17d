/*
 * The parts of a large object are cut from the caller's slices without copying them.
 * Names are unique, so a large object is not written conditionally (few stores can);
 * one look beforehand tells apart the repetition of an earlier call.
 */
#include "store/s3_upload.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/s3_read.h"
#include "store/s3_sum.h"
#include "store/s3_xml.h"

enum {
    WHOLE_MAX = 16 << 20,
    PART_SIZE = 16 << 20,
    PARTS_MAX = 10000,
    PARTS_AT_ONCE = 4,
    ANSWER_MAX = 64 << 10,
    COMPARED_SIZE = 1 << 20, /* read back at once, in so many ranges: */
    COMPARED_AT_ONCE = 4,
    UPLOAD_ID_MAX = 2048
};

/* Checksums of some bytes as headers want them. */
struct sums {
    char crc[S3_CRC_SIZE];
    char md5[S3_MD5_SIZE];
};

/*
 * A store answers with an ETag and no body; a page with status 200 comes from somebody
 * in between. It may say which checksum it kept; then it must be ours: the other one is
 * an earlier answer sent twice, as some stores do.
 */
static bool answered(const struct s3_answer *a, const struct sums *sums)
{
    return *a->etag && a->body.size == 0 &&
           (!*a->crc32c || strcmp(a->crc32c, sums->crc) == 0);
}

static bool stored_as_sent(const struct s3_request *r, void *context)
{
    return answered(&r->answer, context);
}

static void carry(struct s3_request *r, const struct s3_upload *u, struct sums *sums)
{
    s3_sum_crc32c(r->parts, r->part_count, sums->crc);
    r->headers[r->header_count++] =
        (struct s3_field){"x-amz-checksum-crc32c", sums->crc};
    if (u->content_md5) {
        s3_sum_md5(r->parts, r->part_count, sums->md5);
        r->headers[r->header_count++] = (struct s3_field){"content-md5", sums->md5};
    }
    r->check = stored_as_sent;
    r->context = sums;
}

enum err s3_upload_create(struct op *op, const struct s3_upload *u, enum s3_kind kind)
{
    struct sums sums;
    struct s3_request r = {.kind = kind,
                           .method = "PUT",
                           .key = u->key,
                           .headers = {{"if-none-match", "*"}},
                           .header_count = 1,
                           .parts = u->parts,
                           .part_count = u->part_count};
    carry(&r, u, &sums);
    enum err e = s3_client_run(op, u->client, &r, 1);
    if (!e) e = s3_client_result(op, u->client, &r);
    s3_request_release(&r);
    return e;
}

/* ---- is it there already? ---- */

static uint64_t total_size(const struct s3_upload *u)
{
    uint64_t size = 0;
    for (size_t i = 0; i < u->part_count; i++)
        size += u->parts[i].size;
    return size;
}

/* A place in the bytes to be stored. */
struct place {
    const struct s3_upload *upload;
    size_t part, offset;
};

/* Are the next bytes at p these? Goes on behind them. */
static bool next_are(struct place *p, struct slice bytes)
{
    size_t done = 0;
    while (done < bytes.size) {
        struct slice part = p->upload->parts[p->part];
        size_t left = part.size - p->offset;
        size_t size = left < bytes.size - done ? left : bytes.size - done;
        if (!slice_equal(slice_of(part.data + p->offset, size),
                         slice_of(bytes.data + done, size)))
            return false;
        done += size;
        p->offset += size;
        if (p->offset == part.size) {
            p->part++;
            p->offset = 0;
        }
    }
    return true;
}

/* Compares size bytes from offset on, which are at p. ERR_CONFLICT without words. */
static enum err compare_some(struct op *op, struct place *p, uint64_t offset,
                             size_t size, uint8_t *room)
{
    const struct s3_upload *u = p->upload;
    struct store_range ranges[COMPARED_AT_ONCE];
    size_t n = 0;

    for (size_t from = 0; from < size; from += COMPARED_SIZE, n++)
        ranges[n] =
            (struct store_range){.key = u->key,
                                 .offset = offset + from,
                                 .size = size - from < COMPARED_SIZE ? size - from
                                                                     : COMPARED_SIZE,
                                 .data = room + from};
    enum err e = s3_read_ranges(op, u->client, S3_WRITE, ranges, n);
    if (!e && !next_are(p, slice_of(room, size))) e = ERR_CONFLICT;
    return e;
}

/* Something of the right size has the name. ERR_OK: it is the same bytes; else
 * ERR_CONFLICT. A few MiB are in memory at a time, however large it is. */
static enum err compare(struct op *op, const struct s3_upload *u)
{
    uint64_t total = total_size(u);
    size_t at_once = (size_t)COMPARED_AT_ONCE * COMPARED_SIZE;
    uint8_t *room = mem_alloc(total < at_once ? (size_t)total + 1 : at_once);
    struct place p = {.upload = u};
    enum err e = ERR_OK;

    for (uint64_t offset = 0; offset < total && !e; offset += at_once) {
        uint64_t left = total - offset;
        e = compare_some(op, &p, offset, left < at_once ? (size_t)left : at_once, room);
    }
    mem_free(room);
    return e;
}

static bool sized(const struct s3_request *r, void *context)
{
    (void)context;
    return r->answer.size >= 0 && *r->answer.etag;
}

/* ERR_OK: it is there with our bytes. ERR_NOT_FOUND, ERR_CONFLICT, or a failure. */
static enum err look(struct op *op, const struct s3_upload *u)
{
    struct s3_request r = {.kind = S3_WRITE, /* like the put, it does not heed op */
                           .method = "HEAD",
                           .key = u->key,
                           .check = sized};
    enum err e = s3_client_run(op, u->client, &r, 1);
    if (!e) e = s3_client_result(op, u->client, &r);
    int64_t size = r.answer.size;
    s3_request_release(&r);
    if (e) return e;
    if ((uint64_t)size != total_size(u))
        return op_fail(op, ERR_CONFLICT, "put %s: %lld other bytes are there", u->key,
                       (long long)size);
    e = compare(op, u);
    if (e == ERR_CONFLICT)
        return op_fail(op, e, "put %s: other bytes are there", u->key);
    return e;
}

/* After a conflict, so something was there: not to find it is a failure. */
static enum err look_again(struct op *op, const struct s3_upload *u)
{
    enum err e = look(op, u);
    return e == ERR_NOT_FOUND
               ? op_fail(op, ERR_IO, "put %s: an object came and went", u->key)
               : e;
}

/* ---- in parts ---- */

struct piece {
    struct slice *slices;
    size_t slice_count;
    struct sums sums;
    char number[24];
    char etag[S3_WORD_MAX];
};

struct multipart {
    const struct s3_upload *upload;
    char id[UPLOAD_ID_MAX];
    struct piece *pieces;
    size_t piece_count;
    size_t slice, offset; /* where the next piece begins */
};

static void cut(struct multipart *m, uint64_t size, struct piece *piece)
{
    const struct s3_upload *u = m->upload;
    piece->slices = mem_new_array(struct slice, u->part_count - m->slice);
    while (size > 0 && m->slice < u->part_count) {
        struct slice s = u->parts[m->slice];
        size_t left = s.size - m->offset;
        size_t taken = left < size ? left : (size_t)size;
        if (taken)
            piece->slices[piece->slice_count++] = slice_of(s.data + m->offset, taken);
        size -= taken;
        m->offset += taken;
        if (m->offset < s.size) break;
        m->slice++;
        m->offset = 0;
    }
}

static void cut_all(struct multipart *m)
{
    uint64_t total = total_size(m->upload), size = PART_SIZE;
    while (size * PARTS_MAX < total)
        size += PART_SIZE;
    m->piece_count = (size_t)((total + size - 1) / size);
    m->pieces = mem_new_array(struct piece, m->piece_count);
    for (size_t i = 0; i < m->piece_count; i++) {
        cut(m, size, &m->pieces[i]);
        (void)snprintf(m->pieces[i].number, sizeof m->pieces[i].number, "%zu", i + 1);
    }
}

static bool take_id(void *context, const char *path, const char *text)
{
    struct multipart *m = context;
    if (strcmp(path, "UploadId") != 0) return true;
    int size = snprintf(m->id, sizeof m->id, "%s", text);
    return size > 0 && (size_t)size < sizeof m->id;
}

static bool begun(const struct s3_request *r, void *context)
{
    struct multipart *m = context;
    m->id[0] = '\0';
    return s3_xml_read(buf_slice(&r->answer.body), "InitiateMultipartUploadResult",
                       take_id, m) &&
           *m->id;
}

static enum err begin(struct op *op, struct multipart *m)
{
    const struct s3_upload *u = m->upload;
    struct s3_request r = {.kind = S3_WRITE,
                           .method = "POST",
                           .key = u->key,
                           .query = {{"uploads", ""}},
                           .query_count = 1,
                           .headers = {{"x-amz-checksum-algorithm", "CRC32C"},
                                       {"content-type", "application/octet-stream"}},
                           .header_count = 2,
                           .body_max = ANSWER_MAX,
                           .check = begun,
                           .context = m};
    enum err e = s3_client_run(op, u->client, &r, 1);
    if (!e) e = s3_client_result(op, u->client, &r);
    s3_request_release(&r);
    return e;
}

static bool piece_stored(const struct s3_request *r, void *context)
{
    struct piece *piece = context;
    memcpy(piece->etag, r->answer.etag, sizeof piece->etag);
    return *piece->etag &&
           (!*r->answer.crc32c || strcmp(r->answer.crc32c, piece->sums.crc) == 0);
}

static enum err send_pieces(struct op *op, struct multipart *m, struct piece *pieces,
                            size_t n)
{
    struct s3_request requests[PARTS_AT_ONCE];
    enum err first;
    for (size_t i = 0; i < n; i++) {
        struct s3_request *r = &requests[i];
        *r = (struct s3_request){.kind = S3_WRITE,
                                 .method = "PUT",
                                 .key = m->upload->key,
                                 .query = {{"partNumber", pieces[i].number},
                                           {"uploadId", m->id}},
                                 .query_count = 2,
                                 .parts = pieces[i].slices,
                                 .part_count = pieces[i].slice_count,
                                 .unsigned_payload = true};
        carry(r, m->upload, &pieces[i].sums);
        r->check = piece_stored;
        r->context = &pieces[i];
    }
    first = s3_client_run(op, m->upload->client, requests, n);
    for (size_t i = 0; i < n; i++) {
        if (!first) first = s3_client_result(op, m->upload->client, &requests[i]);
        s3_request_release(&requests[i]);
    }
    return first;
}

static bool any_element(void *context, const char *path, const char *text)
{
    (void)context;
    (void)path;
    (void)text;
    return true;
}

/* A completion may fail after its 200 went out: then the body is an Error. */
static bool completed(const struct s3_request *r, void *context)
{
    (void)context;
    return s3_xml_read(buf_slice(&r->answer.body), "CompleteMultipartUploadResult",
                       any_element, NULL);
}

static void completion_write(const struct multipart *m, struct buf *body)
{
    buf_append_str(body, "<CompleteMultipartUpload "
                         "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < m->piece_count; i++) {
        const struct piece *piece = &m->pieces[i];
        buf_append_str(body, "<Part><ETag>");
        s3_xml_escape(piece->etag, body);
        buf_printf(body,
                   "</ETag><ChecksumCRC32C>%s</ChecksumCRC32C>"
                   "<PartNumber>%s</PartNumber></Part>",
                   piece->sums.crc, piece->number);
    }
    buf_append_str(body, "</CompleteMultipartUpload>");
}

static enum err complete(struct op *op, struct multipart *m)
{
    struct buf body = BUF_INIT;
    completion_write(m, &body);
    struct slice part = buf_slice(&body);
    struct s3_request r = {.kind = S3_WRITE,
                           .method = "POST",
                           .key = m->upload->key,
                           .query = {{"uploadId", m->id}},
                           .query_count = 1,
                           .headers = {{"content-type", "application/xml"}},
                           .header_count = 1,
                           .parts = &part,
                           .part_count = 1,
                           .body_max = ANSWER_MAX,
                           .check = completed};
    enum err e = s3_client_run(op, m->upload->client, &r, 1);
    if (!e) e = s3_client_result(op, m->upload->client, &r);
    bool ambiguous = r.ambiguous;
    s3_request_release(&r);
    buf_release(&body);
    if (e && ambiguous && look(op, m->upload) == ERR_OK) {
        op_clear_error(op); /* an attempt whose answer was lost had done it */
        return ERR_OK;
    }
    return e == ERR_NOT_FOUND ? ERR_IO : e;
}

static void give_up(struct op *op, struct multipart *m)
{
    struct op own; /* the words that op has say why */
    struct s3_request r = {.kind = S3_WRITE,
                           .method = "DELETE",
                           .key = m->upload->key,
                           .query = {{"uploadId", m->id}},
                           .query_count = 1};
    op_init(&own, OP_NO_DEADLINE, 0);
    enum err e = s3_client_run(&own, m->upload->client, &r, 1);
    if (!e) e = s3_client_result(&own, m->upload->client, &r);
    if (e && e != ERR_NOT_FOUND)
        log_warn(op, "parts of a failed upload are left in the bucket",
                 "key=%s error=%s", m->upload->key, own.error);
    s3_request_release(&r);
    op_release(&own);
}

static enum err put_in_parts(struct op *op, const struct s3_upload *u)
{
    struct multipart m = {.upload = u};
    enum err e = begin(op, &m);
    if (e) return e == ERR_NOT_FOUND ? ERR_IO : e;
    cut_all(&m);
    for (size_t i = 0; i < m.piece_count && !e; i += PARTS_AT_ONCE) {
        op_rest(op);
        size_t left = m.piece_count - i;
        e = send_pieces(op, &m, m.pieces + i,
                        left < PARTS_AT_ONCE ? left : PARTS_AT_ONCE);
    }
    if (!e) e = complete(op, &m);
    if (e) give_up(op, &m);
    for (size_t i = 0; i < m.piece_count; i++)
        mem_free(m.pieces[i].slices);
    mem_free(m.pieces);
    return e == ERR_NOT_FOUND ? ERR_IO : e;
}

enum err s3_upload_put(struct op *op, const struct s3_upload *u)
{
    enum err e;
    if (total_size(u) <= WHOLE_MAX) {
        e = s3_upload_create(op, u, S3_WRITE);
        if (e != ERR_CONFLICT) return e;
        op_clear_error(op);
        return look_again(op, u);
    }
    e = look(op, u);
    if (e != ERR_NOT_FOUND) return e;
    op_clear_error(op);
    return put_in_parts(op, u);
}
