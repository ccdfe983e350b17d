/*
 * The parts of a large object are cut from the caller's slices without copying them.
 * Names are unique, so a large object is not written conditionally (few stores can);
 * one look beforehand tells apart the repetition of an earlier call.
 */
#include "store/s3_upload.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/s3_xml.h"

enum {
    WHOLE_MAX = 16 << 20,
    PART_SIZE = 16 << 20,
    PARTS_MAX = 10000,
    PARTS_AT_ONCE = 4,
    ANSWER_MAX = 64 << 10,
    MD5_SIZE = 32,
    CRC_SIZE = 16,
    UPLOAD_ID_MAX = 2048
};

/* Checksums of some bytes as headers want them. */
struct sums {
    char crc[CRC_SIZE];
    char md5[MD5_SIZE];
};

static void sum(const struct slice *parts, size_t n, bool with_md5, struct sums *out)
{
    EVP_MD_CTX *md5 = with_md5 ? EVP_MD_CTX_new() : NULL;
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint32_t crc = 0;
    int good = !with_md5 || (md5 && EVP_DigestInit_ex(md5, EVP_md5(), NULL));
    for (size_t i = 0; i < n; i++) {
        crc = crc32c(crc, parts[i].data, parts[i].size);
        if (with_md5)
            good = good && EVP_DigestUpdate(md5, parts[i].data, parts[i].size);
    }
    if (with_md5) good = good && EVP_DigestFinal_ex(md5, digest, NULL);
    assert(good);
    (void)good;
    if (with_md5) (void)EVP_EncodeBlock((unsigned char *)out->md5, digest, 16);
    const uint8_t big_endian[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16),
                                   (uint8_t)(crc >> 8), (uint8_t)crc};
    (void)EVP_EncodeBlock((unsigned char *)out->crc, big_endian, sizeof big_endian);
    EVP_MD_CTX_free(md5);
}

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
    sum(r->parts, r->part_count, u->content_md5, sums);
    r->headers[r->header_count++] =
        (struct s3_field){"x-amz-checksum-crc32c", sums->crc};
    if (u->content_md5)
        r->headers[r->header_count++] = (struct s3_field){"content-md5", sums->md5};
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

static bool holds(struct slice object, const struct s3_upload *u)
{
    size_t offset = 0;
    for (size_t i = 0; i < u->part_count; i++) {
        struct slice part = u->parts[i];
        if (part.size > object.size - offset) return false;
        if (!slice_equal(part, slice_of(object.data + offset, part.size))) return false;
        offset += part.size;
    }
    return offset == object.size;
}

/* Something has the name. ERR_OK: it is the same bytes; else ERR_CONFLICT. */
static enum err compare(struct op *op, const struct s3_upload *u)
{
    struct s3_request r = {.kind = S3_WRITE, /* like the put, it does not heed op */
                           .method = "GET",
                           .key = u->key,
                           .body_max = (size_t)total_size(u)};
    enum err e = s3_client_run(op, u->client, &r, 1);
    if (!e) e = s3_client_result(op, u->client, &r);
    if (e == ERR_LIMIT || (!e && !holds(buf_slice(&r.answer.body), u)))
        e = op_fail(op, ERR_CONFLICT, "put %s: other bytes are there", u->key);
    else if (e == ERR_NOT_FOUND)
        e = op_fail(op, ERR_IO, "put %s: an object came and went", u->key);
    s3_request_release(&r);
    return e;
}

/* ERR_OK: it is there with our bytes. ERR_NOT_FOUND, ERR_CONFLICT, or a failure. */
static enum err look(struct op *op, const struct s3_upload *u)
{
    struct s3_request r = {.kind = S3_WRITE, .method = "HEAD", .key = u->key};
    enum err e = s3_client_run(op, u->client, &r, 1);
    if (!e) e = s3_client_result(op, u->client, &r);
    int64_t size = r.answer.size;
    s3_request_release(&r);
    if (e) return e;
    if ((uint64_t)size != total_size(u))
        return op_fail(op, ERR_CONFLICT, "put %s: %lld other bytes are there", u->key,
                       (long long)size);
    return compare(op, u);
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

static enum err complete(struct op *op, struct multipart *m)
{
    struct buf body = BUF_INIT;
    buf_append_str(&body, "<CompleteMultipartUpload "
                          "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < m->piece_count; i++) {
        const struct piece *piece = &m->pieces[i];
        buf_append_str(&body, "<Part><ETag>");
        s3_xml_escape(piece->etag, &body);
        buf_printf(&body,
                   "</ETag><ChecksumCRC32C>%s</ChecksumCRC32C>"
                   "<PartNumber>%s</PartNumber></Part>",
                   piece->sums.crc, piece->number);
    }
    buf_append_str(&body, "</CompleteMultipartUpload>");
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
        return compare(op, u);
    }
    e = look(op, u);
    if (e != ERR_NOT_FOUND) return e;
    op_clear_error(op);
    return put_in_parts(op, u);
}
