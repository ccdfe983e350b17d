#include "store/s3_sign.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/codec.h"

enum { DIGEST_SIZE = 32, DAY_SIZE = 8 };

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

static void encode(const char *text, bool keep_slash, struct buf *out)
{
    for (; *text; text++) {
        if (unreserved(*text) || (keep_slash && *text == '/'))
            buf_append_byte(out, (uint8_t)*text);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Each argument is encoded to name=value first: '=' sorts below every byte that an
 * encoded name may hold except '-', '.', '%' and the digits, so names are compared with
 * a byte below all of them in its place. */
static void append_query(const struct s3_field *query, size_t count, struct buf *out)
{
    enum { PARTED = 1 };
    struct buf all = BUF_INIT;
    size_t starts[S3_FIELDS_MAX];
    char *texts[S3_FIELDS_MAX];

    assert(count <= S3_FIELDS_MAX);
    for (size_t i = 0; i < count; i++) {
        starts[i] = all.size;
        encode(query[i].name, false, &all);
        buf_append_byte(&all, PARTED);
        encode(query[i].value, false, &all);
        buf_append_byte(&all, '\0');
    }
    for (size_t i = 0; i < count; i++)
        texts[i] = (char *)all.data + starts[i];
    qsort(texts, count, sizeof *texts, compare_texts);
    for (size_t i = 0; i < count; i++) {
        *strchr(texts[i], PARTED) = '=';
        buf_printf(out, "%s%s", i ? "&" : "", texts[i]);
    }
    buf_release(&all);
}

void s3_sign_target(const char *path, const struct s3_field *query, size_t query_count,
                    struct buf *out)
{
    encode(path, true, out);
    if (query_count == 0) return;
    buf_append_byte(out, '?');
    append_query(query, query_count, out);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct s3_field *)a)->name,
                  ((const struct s3_field *)b)->name);
}

/* Without blanks at both ends, runs of them inside as one. */
static void append_trimmed(const char *value, struct buf *out)
{
    bool blank = false;
    size_t before = out->size;
    for (; *value; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = true;
            continue;
        }
        if (blank && out->size > before) buf_append_byte(out, ' ');
        blank = false;
        buf_append_byte(out, (uint8_t)*value);
    }
}

static void sorted_headers(const struct s3_signing *s, struct s3_field *headers)
{
    assert(s->header_count <= S3_FIELDS_MAX);
    memcpy(headers, s->headers, s->header_count * sizeof *headers);
    qsort(headers, s->header_count, sizeof *headers, compare_names);
}

static void append_names(const struct s3_field *headers, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s", i ? ";" : "", headers[i].name);
}

void s3_sign_canonical(const struct s3_signing *s, struct buf *out)
{
    struct s3_field headers[S3_FIELDS_MAX];
    sorted_headers(s, headers);

    buf_printf(out, "%s\n", s->method);
    encode(s->path, true, out);
    buf_append_byte(out, '\n');
    append_query(s->query, s->query_count, out);
    buf_append_byte(out, '\n');
    for (size_t i = 0; i < s->header_count; i++) {
        buf_printf(out, "%s:", headers[i].name);
        append_trimmed(headers[i].value, out);
        buf_append_byte(out, '\n');
    }
    buf_append_byte(out, '\n');
    append_names(headers, s->header_count, out);
    buf_printf(out, "\n%s", s->payload_hash);
}

static void hmac(const void *key, size_t key_size, const void *data, size_t size,
                 uint8_t out[DIGEST_SIZE])
{
    unsigned written = 0;
    const uint8_t *done =
        HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &written);
    assert(done && written == DIGEST_SIZE);
    (void)done;
}

static void hmac_text(uint8_t key[DIGEST_SIZE], const char *text)
{
    uint8_t next[DIGEST_SIZE];
    hmac(key, DIGEST_SIZE, text, strlen(text), next);
    memcpy(key, next, DIGEST_SIZE);
}

void s3_sign_key(const struct s3_signing *s, uint8_t key[S3_KEY_SIZE])
{
    struct buf secret = BUF_INIT;
    buf_printf(&secret, "AWS4%s", s->secret_key);
    hmac(secret.data, secret.size, s->date, DAY_SIZE, key);
    explicit_bzero(secret.data, secret.size);
    buf_release(&secret);
    hmac_text(key, s->region);
    hmac_text(key, s->service);
    hmac_text(key, "aws4_request");
}

void s3_sign(const struct s3_signing *s, struct buf *authorization)
{
    struct s3_field headers[S3_FIELDS_MAX];
    struct buf text = BUF_INIT;
    uint8_t key[DIGEST_SIZE], signature[DIGEST_SIZE];
    char hash[S3_HASH_SIZE], hex[S3_HASH_SIZE];

    sorted_headers(s, headers);
    s3_sign_canonical(s, &text);
    struct slice canonical = buf_slice(&text);
    s3_sign_hash(&canonical, 1, hash);
    buf_clear(&text);
    buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", s->date,
               s->date, s->region, s->service, hash);
    if (s->key)
        memcpy(key, s->key, sizeof key);
    else
        s3_sign_key(s, key);
    hmac(key, DIGEST_SIZE, text.data, text.size, signature);
    explicit_bzero(key, sizeof key);
    buf_release(&text);

    hex_encode(signature, sizeof signature, hex);
    buf_printf(authorization,
               "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=",
               s->access_key, s->date, s->region, s->service);
    append_names(headers, s->header_count, authorization);
    buf_printf(authorization, ",Signature=%s", hex);
}

void s3_sign_date(int64_t wall_ms, char out[S3_DATE_SIZE])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t written = strftime(out, S3_DATE_SIZE, "%Y%m%dT%H%M%SZ", &utc);
    assert(written == S3_DATE_SIZE - 1);
    (void)written;
}

void s3_sign_hash(const struct slice *parts, size_t n, char out[S3_HASH_SIZE])
{
    uint8_t digest[DIGEST_SIZE];
    unsigned written = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    for (size_t i = 0; i < n; i++)
        good = good && EVP_DigestUpdate(context, parts[i].data, parts[i].size);
    good = good && EVP_DigestFinal_ex(context, digest, &written);
    assert(good && written == DIGEST_SIZE);
    (void)good;
    EVP_MD_CTX_free(context);
    hex_encode(digest, sizeof digest, out);
}
