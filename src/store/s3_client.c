#include "store/s3_client.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/s3_credentials.h"
#include "store/s3_xml.h"

enum {
    CONNECTIONS_MAX = 128,
    CONNECT_MS = 1000,
    READ_FIRST_BYTE_MS = 5000,
    WRITE_FIRST_BYTE_MS = 10000,
    WHOLE_MS = 30000, /* and a second for each MiB */
    ATTEMPTS_MAX = 3,
    PAUSE_MS = 50,
    PAUSE_THROTTLED_MS = 1000,
    PAUSE_MAX_MS = 5000,
    PAUSE_PIECE_MS = 50, /* how often a sleeper looks at its op */
    SLOW_MS = 1000,
    TOKENS_MAX = 500,
    TOKENS_TRANSIENT = 14,
    TOKENS_THROTTLED = 5,
    FOLDER_ATTEMPTS_MAX = 6,
    FOLDER_PAUSE_MS = 20,
    /* A create without an answer is settled by sending it again, so it pays to give up
     * early, and later the slower the store shows itself to be. */
    PATIENCE_MIN_MS = 2000,
    PATIENCE_BYTES_MAX = 512 << 10,
    PATIENCE_LEAST_MS = 500, /* however near op's deadline is */
    REGION_MAX = 64,
    MOVES_MAX = 16, /* a store that names ever other regions is not believed */
    RETRY_AFTER_MAX_MS = 5000,
    DAY_SIZE = sizeof "20130524" - 1
};

/* Repairs of one request, each tried once. */
enum { REPAIR_CREDENTIALS = 1, REPAIR_CLOCK = 2, REPAIR_REGION = 4 };

/* Where the bucket is and by which region requests are signed. Never changes. */
struct place {
    struct place *older;
    char *origin; /* "https://host:port" */
    char *host;
    char *bucket_path; /* "" or "/bucket" */
    char region[REGION_MAX];
};

struct s3_client {
    struct place *_Atomic place; /* the newest; older ones stay, requests borrow them */
    char *endpoint, *bucket;
    struct s3_http *http;
    struct s3_credentials *credentials;
    atomic_int_least64_t skew_ms; /* the store's clock minus ours */
    atomic_int_least64_t slow_until_ms;
    atomic_int_least64_t patience_ms;
    struct mutex lock; /* guards the rest */
    int tokens;
    unsigned moves; /* how often the place changed */
    struct signing_key {
        char day[DAY_SIZE + 1], region[REGION_MAX];
        char *secret_key; /* NULL: there is none yet */
        uint8_t key[S3_KEY_SIZE];
    } signing_key; /* the one used last */
};

/* ---- where the bucket is ---- */

static char *joined(const char *format, const char *a, const char *b)
{
    struct buf out = BUF_INIT;
    for (; *format; format++) {
        if (*format == '1') buf_append_str(&out, a);
        if (*format == '2') buf_append_str(&out, b);
        if (*format != '1' && *format != '2') buf_append_byte(&out, (uint8_t)*format);
    }
    buf_append_byte(&out, '\0');
    return (char *)out.data;
}

/* AWS: the bucket's own host name in its region. */
static void locate_at_aws(const struct s3_client *c, struct place *p)
{
    const char *tail =
        strncmp(p->region, "cn-", 3) ? ".amazonaws.com" : ".amazonaws.com.cn";
    char *service = joined("s3.12", p->region, tail);
    bool dots = strchr(c->bucket, '.') != NULL; /* no certificate covers those */
    p->host = dots ? mem_strdup(service) : joined("1.2", c->bucket, service);
    p->bucket_path = dots ? joined("/1", c->bucket, "") : mem_strdup("");
    p->origin = joined("https://1", p->host, "");
    mem_free(service);
}

static void place_free(struct place *p)
{
    if (!p) return;
    mem_free(p->origin);
    mem_free(p->host);
    mem_free(p->bucket_path);
    mem_free(p);
}

/* NULL: the endpoint is none. */
static struct place *place_new(const struct s3_client *c, const char *region)
{
    struct place *p = mem_new(struct place);
    (void)snprintf(p->region, sizeof p->region, "%s", region);
    if (!*c->endpoint) {
        locate_at_aws(c, p);
        return p;
    }
    const char *host = strstr(c->endpoint, "://");
    bool known = host && (strncmp(c->endpoint, "http://", 7) == 0 ||
                          strncmp(c->endpoint, "https://", 8) == 0);
    size_t size = known ? strcspn(host + 3, "/?#@") : 0;
    if (size == 0 || (host[3 + size] && strcmp(host + 3 + size, "/") != 0)) {
        place_free(p);
        return NULL;
    }
    p->host = mem_strdup(host + 3);
    p->host[size] = '\0';
    p->origin = mem_strdup(c->endpoint);
    p->origin[(size_t)(host - c->endpoint) + 3 + size] = '\0';
    p->bucket_path = joined("/1", c->bucket, "");
    return p;
}

static const char *first_region(const struct s3_client_options *o)
{
    const char *region = *o->region ? o->region : NULL;
    if (!region) region = s3_environment(o->environment, "AWS_REGION");
    if (!region) region = s3_environment(o->environment, "AWS_DEFAULT_REGION");
    return region ? region : "us-east-1";
}

static enum err locate(struct op *op, struct s3_client *c,
                       const struct s3_client_options *o)
{
    c->endpoint = mem_strdup(o->endpoint);
    c->bucket = mem_strdup(o->bucket);
    struct place *p = place_new(c, first_region(o));
    if (!p)
        return op_fail(op, ERR_INVALID,
                       "S3 endpoint %s: expected http(s)://host[:port]", o->endpoint);
    atomic_store(&c->place, p);
    return ERR_OK;
}

static const struct place *place_of(const struct s3_client *c)
{
    return atomic_load(&c->place);
}

static void forget_key(struct signing_key *k)
{
    if (!k->secret_key) return;
    explicit_bzero(k->secret_key, strlen(k->secret_key));
    mem_free(k->secret_key);
    explicit_bzero(k, sizeof *k);
}

enum err s3_client_new(struct op *op, const struct s3_client_options *options,
                       struct s3_client **out)
{
    const struct s3_http_options http = {.ca_file = s3_environment(options->environment,
                                                                   "AWS_CA_BUNDLE"),
                                         .connections_max = CONNECTIONS_MAX,
                                         .connect_ms = CONNECT_MS};
    struct s3_client *c = mem_new(struct s3_client);
    struct s3_credentials_options credentials = {.environment = options->environment};
    mutex_init(&c->lock);
    c->tokens = TOKENS_MAX;
    atomic_store(&c->patience_ms, PATIENCE_MIN_MS);
    enum err e = locate(op, c, options);
    if (!e) e = s3_http_new(op, &http, &c->http);
    if (e) goto done;
    credentials.http = c->http;
    credentials.region = place_of(c)->region;
    c->credentials = s3_credentials_new(&credentials);
    *out = c;
    c = NULL;
done:
    s3_client_free(c);
    return e;
}

void s3_client_free(struct s3_client *c)
{
    if (!c) return;
    s3_credentials_free(c->credentials);
    s3_http_free(c->http);
    mutex_release(&c->lock);
    forget_key(&c->signing_key);
    for (struct place *p = atomic_load(&c->place), *older; p; p = older) {
        older = p->older;
        place_free(p);
    }
    mem_free(c->endpoint);
    mem_free(c->bucket);
    mem_free(c);
}

bool s3_client_tls(const struct s3_client *c)
{
    return strncmp(place_of(c)->origin, "https:", 6) == 0;
}

int64_t s3_client_silent_ms(struct s3_client *c)
{
    return s3_http_silent_ms(c->http);
}

/* ---- one attempt ---- */

/* What an attempt needs beside the request; lives until the round is over. */
struct attempt {
    struct buf path, url, authorization;
    char date[S3_DATE_SIZE];
    const struct place *place;
    struct s3_field headers[S3_HEADERS_MAX + 6];
    size_t header_count;
};

static void add_header(struct attempt *a, const char *name, const char *value)
{
    a->headers[a->header_count++] = (struct s3_field){name, value};
}

/* The key for s; derived at most once a day as long as nothing else changes. */
static void take_key(struct s3_client *c, const struct s3_signing *s,
                     uint8_t out[S3_KEY_SIZE])
{
    struct signing_key *k = &c->signing_key;
    mutex_lock(&c->lock);
    if (!k->secret_key || strncmp(k->day, s->date, DAY_SIZE) != 0 ||
        strcmp(k->region, s->region) != 0 ||
        strcmp(k->secret_key, s->secret_key) != 0) {
        forget_key(k);
        memcpy(k->day, s->date, DAY_SIZE);
        (void)snprintf(k->region, sizeof k->region, "%s", s->region);
        k->secret_key = mem_strdup(s->secret_key);
        s3_sign_key(s, k->key);
    }
    memcpy(out, k->key, S3_KEY_SIZE);
    mutex_unlock(&c->lock);
}

static void sign(struct s3_client *c, const struct s3_request *r,
                 const struct s3_secret *secret, struct attempt *a)
{
    s3_sign_date(clock_wall_ms() + atomic_load(&c->skew_ms), a->date);
    add_header(a, "host", a->place->host);
    add_header(a, "x-amz-content-sha256", r->hash);
    add_header(a, "x-amz-date", a->date);
    if (*secret->token) add_header(a, "x-amz-security-token", secret->token);
    for (size_t i = 0; i < r->header_count; i++)
        a->headers[a->header_count++] = r->headers[i];

    uint8_t key[S3_KEY_SIZE];
    struct s3_signing signing = {.method = r->method,
                                 .path = (const char *)a->path.data,
                                 .query = r->query,
                                 .query_count = r->query_count,
                                 .headers = a->headers,
                                 .header_count = a->header_count,
                                 .payload_hash = r->hash,
                                 .date = a->date,
                                 .region = a->place->region,
                                 .service = "s3",
                                 .access_key = secret->access_key,
                                 .secret_key = secret->secret_key};
    take_key(c, &signing, key);
    signing.key = key;
    s3_sign(&signing, &a->authorization);
    explicit_bzero(key, sizeof key);
    buf_append_byte(&a->authorization, '\0');
    add_header(a, "authorization", (const char *)a->authorization.data);
}

static uint64_t body_size(const struct s3_request *r)
{
    uint64_t size = 0;
    for (size_t i = 0; i < r->part_count; i++)
        size += r->parts[i].size;
    return size;
}

/* Behind op's deadline nobody waits for a create: its outcome is unknown then. */
static int64_t create_first_byte_ms(const struct op *op, struct s3_client *c,
                                    const struct s3_request *r)
{
    int64_t wait_ms = body_size(r) < PATIENCE_BYTES_MAX ? atomic_load(&c->patience_ms)
                                                        : WRITE_FIRST_BYTE_MS;
    if (op->deadline_ms == OP_NO_DEADLINE) return wait_ms;
    int64_t left_ms = op->deadline_ms - clock_ms();
    if (left_ms < PATIENCE_LEAST_MS) left_ms = PATIENCE_LEAST_MS;
    return left_ms < wait_ms ? left_ms : wait_ms;
}

static int64_t first_byte_ms(const struct op *op, struct s3_client *c,
                             const struct s3_request *r)
{
    if (r->kind == S3_READ) return READ_FIRST_BYTE_MS;
    if (r->kind == S3_CREATE) return create_first_byte_ms(op, c, r);
    return WRITE_FIRST_BYTE_MS;
}

static struct s3_exchange prepare(const struct op *op, struct s3_client *c,
                                  struct s3_request *r, const struct s3_secret *secret,
                                  struct attempt *a)
{
    uint64_t bytes = body_size(r) + (r->room ? r->room_size : r->body_max);
    if (!*r->hash && r->unsigned_payload && s3_client_tls(c))
        (void)snprintf(r->hash, sizeof r->hash, "UNSIGNED-PAYLOAD");
    if (!*r->hash) s3_sign_hash(r->parts, r->part_count, r->hash);
    a->place = place_of(c);
    buf_printf(&a->path, "%s/%s", a->place->bucket_path, r->key);
    buf_append_byte(&a->path, '\0');
    buf_append_str(&a->url, a->place->origin);
    s3_sign_target((const char *)a->path.data, r->query, r->query_count, &a->url);
    buf_append_byte(&a->url, '\0');
    sign(c, r, secret, a);
    return (struct s3_exchange){.method = r->method,
                                .url = (const char *)a->url.data,
                                .headers = a->headers,
                                .header_count = a->header_count,
                                .parts = r->parts,
                                .part_count = r->part_count,
                                .room = r->room,
                                .room_size = r->room_size,
                                .body_max = r->body_max,
                                .first_byte_ms = first_byte_ms(op, c, r),
                                .whole_ms = WHOLE_MS + (int64_t)(bytes >> 20) * 1000,
                                .hedge = r->hedge};
}

static void attempt_release(struct attempt *a)
{
    buf_release(&a->path);
    buf_release(&a->url);
    buf_release(&a->authorization);
}

/* ---- what an answer means ---- */

struct error_walk {
    struct s3_request *r;
    char region[S3_WORD_MAX];
};

static bool error_element(void *context, const char *path, const char *text)
{
    struct error_walk *w = context;
    if (strcmp(path, "Code") == 0)
        (void)snprintf(w->r->code, S3_WORD_MAX, "%s", text);
    else if (strcmp(path, "Message") == 0)
        (void)snprintf(w->r->message, S3_WORD_MAX, "%s", text);
    else if (strcmp(path, "Region") == 0)
        (void)snprintf(w->region, S3_WORD_MAX, "%s", text);
    return true;
}

static void read_error(struct s3_request *r)
{
    struct error_walk walk = {.r = r};
    r->code[0] = r->message[0] = '\0';
    if (r->answer.end != S3_END_ANSWERED || r->answer.status < 300) return;
    if (!s3_xml_read(buf_slice(&r->answer.body), "Error", error_element, &walk))
        r->code[0] = r->message[0] = '\0';
    else if (!*r->answer.region)
        memcpy(r->answer.region, walk.region, S3_WORD_MAX);
}

static bool damaged_on_the_way(const struct s3_request *r)
{
    static const char *const codes[] = {"RequestTimeout", "BadDigest", "IncompleteBody",
                                        "XAmzContentSHA256Mismatch",
                                        "XAmzContentChecksumMismatch"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(r->code, codes[i]) == 0) return true;
    /* The answer to HEAD has no room for a code. */
    return r->answer.status == 400 && strcmp(r->method, "HEAD") == 0;
}

/* The table of PROTOCOL.md section 7. good: the body of a success is well formed. */
static enum s3_class classify(const struct s3_request *r, bool good)
{
    bool ambiguous = r->kind != S3_READ && r->ambiguous;
    if (r->too_large) return S3_NOT_APPLIED;
    if (r->answer.end == S3_END_UNSENT) return ambiguous ? S3_UNKNOWN : S3_RETRY_SAFE;
    if (r->answer.end == S3_END_BROKEN) return S3_UNKNOWN;
    switch (r->answer.status) {
    case 412: return S3_NOT_APPLIED;
    case 404: /* one that says nothing may be anybody's; HEAD cannot say anything */
        if (!*r->code && strcmp(r->method, "HEAD") != 0) return S3_UNKNOWN;
        if (strcmp(r->code, "NoSuchKey") == 0 && strcmp(r->method, "PUT") == 0)
            return S3_UNKNOWN; /* a folder went away under it */
        return ambiguous && r->kind == S3_CREATE ? S3_UNKNOWN : S3_NOT_APPLIED;
    case 301:
    case 307:
    case 400:
    case 401:
    case 403:
    case 405:
    case 411:
    case 413:
    case 416:
    case 501:
        if (damaged_on_the_way(r)) return S3_UNKNOWN;
        return ambiguous ? S3_UNKNOWN : S3_NOT_APPLIED;
    default: return r->answer.status / 100 == 2 && good ? S3_APPLIED : S3_UNKNOWN;
    }
}

static bool throttled(const struct s3_request *r)
{
    return r->answer.end == S3_END_ANSWERED &&
           (r->answer.status == 503 || r->answer.status == 429);
}

/* What the store asks for, in seconds; 0: nothing, or a date, which few send. */
static int64_t retry_after_ms(const struct s3_request *r)
{
    long seconds = strtol(r->answer.retry_after, NULL, 10);
    if (seconds <= 0) return 0;
    return seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
}

static void judge(struct s3_client *c, struct s3_request *r)
{
    const struct s3_answer *a = &r->answer;
    read_error(r);
    if (a->sent > 1) r->ambiguous = true;
    r->too_large = !r->room && strcmp(r->method, "GET") == 0 &&
                   a->end == S3_END_BROKEN && a->status / 100 == 2 &&
                   a->received > r->body_max;
    bool good = a->end == S3_END_ANSWERED && a->status / 100 == 2 &&
                (!r->check || r->check(r, r->context));
    r->class = classify(r, good);
    if (r->class == S3_UNKNOWN) r->ambiguous = true;
    if (!throttled(r)) return;
    int64_t slow_ms = SLOW_MS / 2 + (int64_t)random_below(SLOW_MS / 2);
    if (slow_ms < retry_after_ms(r)) slow_ms = retry_after_ms(r);
    atomic_store(&c->slow_until_ms, clock_ms() + slow_ms);
}

/* ---- again? ---- */

int64_t s3_answer_ms(const struct s3_answer *a)
{
    struct tm utc = {0};
    if (!strptime(a->date, "%a, %d %b %Y %H:%M:%S", &utc)) return 0;
    return (int64_t)timegm(&utc) * 1000;
}

static bool set_clock(struct op *op, struct s3_client *c, const struct s3_answer *a)
{
    int64_t theirs_ms = s3_answer_ms(a);
    if (!theirs_ms) return false;
    int64_t skew_ms = theirs_ms - clock_wall_ms();
    atomic_store(&c->skew_ms, skew_ms);
    log_warn(op, "this machine's clock is off, requests are signed with the store's",
             "offset_ms=%lld", (long long)skew_ms);
    return true;
}

/* It becomes part of a host's name, and comes from the network. */
static bool region_valid(const char *region)
{
    size_t size = strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return size > 0 && size < REGION_MAX && region[size] == '\0';
}

/* Another request may have been faster: then it is right already. */
static bool set_region(struct op *op, struct s3_client *c, const char *region)
{
    if (!region_valid(region)) return false;
    mutex_lock(&c->lock);
    bool other = strcmp(place_of(c)->region, region) != 0;
    bool moves = other && c->moves < MOVES_MAX;
    if (moves) {
        struct place *p = place_new(c, region);
        p->older = atomic_load(&c->place);
        atomic_store(&c->place, p);
        c->moves++;
    }
    mutex_unlock(&c->lock);
    if (moves)
        log_warn(op, "the bucket is in another region than configured", "region=%s",
                 region);
    return moves || !other;
}

static bool repair(struct op *op, struct s3_client *c, struct s3_request *r,
                   const struct s3_secret *secret)
{
    const char *code = r->code;
    unsigned kind = 0;
    if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "TokenRefreshRequired") == 0)
        kind = REPAIR_CREDENTIALS;
    else if (strcmp(code, "RequestTimeTooSkewed") == 0)
        kind = REPAIR_CLOCK;
    else if (strcmp(code, "AuthorizationHeaderMalformed") == 0 ||
             r->answer.status == 301 || r->answer.status == 307)
        kind = REPAIR_REGION;
    if (!kind || r->repairs & kind) return false;
    r->repairs |= kind;
    if (kind == REPAIR_CREDENTIALS) {
        s3_credentials_expired(c->credentials, secret);
        return true;
    }
    if (kind == REPAIR_CLOCK) return set_clock(op, c, &r->answer);
    return set_region(op, c, r->answer.region);
}

static bool pay(struct s3_client *c, int tokens)
{
    mutex_lock(&c->lock);
    bool enough = c->tokens >= tokens;
    if (enough) c->tokens -= tokens;
    if (c->tokens > TOKENS_MAX) c->tokens = TOKENS_MAX;
    mutex_unlock(&c->lock);
    return enough;
}

/*
 * MinIO keeps keys as folders and removes the empty ones. A PUT whose folder is removed
 * under it is refused, as if the key were missing or its folder forbidden, and nothing
 * of it is stored. Who really may not write hears the same each time, a second later.
 */
static bool folder_vanished(const struct s3_request *r)
{
    if (r->answer.end != S3_END_ANSWERED || strcmp(r->method, "PUT") != 0) return false;
    if (r->answer.status == 404) return strcmp(r->code, "NoSuchKey") == 0;
    return r->answer.status == 403 && strcmp(r->code, "AccessDenied") == 0;
}

static void lengthen(int64_t *pause_ms, int64_t most_ms)
{
    int64_t wait_ms = (int64_t)random_below((uint64_t)most_ms + 1);
    if (wait_ms > *pause_ms) *pause_ms = wait_ms;
}

/* Whether to send it again, and after how long at least. */
static bool again(struct op *op, struct s3_client *c, struct s3_request *r,
                  const struct s3_secret *secret, int64_t *pause_ms)
{
    if (r->class == S3_APPLIED) {
        (void)pay(c, -1);
        return false;
    }
    if (folder_vanished(r) && ++r->folder_attempts < FOLDER_ATTEMPTS_MAX) {
        lengthen(pause_ms, (int64_t)FOLDER_PAUSE_MS << r->folder_attempts);
        return true;
    }
    if (r->class == S3_NOT_APPLIED) return repair(op, c, r, secret);
    r->attempts++;
    if (r->kind == S3_CREATE || r->attempts >= ATTEMPTS_MAX) return false;
    r->starved = !pay(c, throttled(r) ? TOKENS_THROTTLED : TOKENS_TRANSIENT);
    if (r->starved) return false;
    int64_t most_ms = (throttled(r) ? PAUSE_THROTTLED_MS : PAUSE_MS)
                      << (r->attempts - 1);
    if (most_ms > PAUSE_MAX_MS) most_ms = PAUSE_MAX_MS;
    lengthen(pause_ms, most_ms);
    if (throttled(r) && *pause_ms < retry_after_ms(r)) *pause_ms = retry_after_ms(r);
    return true;
}

static enum err sleep_until(struct op *op, int64_t until_ms, bool heed_op)
{
    for (;;) {
        enum err e = heed_op ? op_check(op) : ERR_OK;
        int64_t left_ms = until_ms - clock_ms();
        if (e || left_ms <= 0) return e;
        task_sleep_ms(left_ms < PAUSE_PIECE_MS ? left_ms : PAUSE_PIECE_MS);
    }
}

/* ---- rounds ---- */

static void note_patience(struct s3_client *c, const struct s3_request *r,
                          int64_t took_ms)
{
    int64_t patience_ms = atomic_load(&c->patience_ms), next_ms = patience_ms;
    if (r->kind != S3_CREATE) return;
    if (r->answer.end == S3_END_BROKEN && took_ms >= patience_ms)
        next_ms = 2 * patience_ms;
    else if (r->answer.end == S3_END_ANSWERED && took_ms < patience_ms / 4)
        next_ms = patience_ms / 2;
    if (next_ms > WRITE_FIRST_BYTE_MS) next_ms = WRITE_FIRST_BYTE_MS;
    if (next_ms < PATIENCE_MIN_MS) next_ms = PATIENCE_MIN_MS;
    atomic_store(&c->patience_ms, next_ms);
}

/* Sends all n once and judges their answers. */
static enum err attempt(struct op *op, struct s3_client *c,
                        struct s3_request **requests, size_t n,
                        const struct s3_secret *secret)
{
    struct attempt *attempts = mem_new_array(struct attempt, n);
    struct s3_exchange *exchanges = mem_new_array(struct s3_exchange, n);
    int64_t started_ms = clock_ms();

    for (size_t i = 0; i < n; i++)
        exchanges[i] = prepare(op, c, requests[i], secret, &attempts[i]);
    enum err e = s3_http_run(op, c->http, exchanges, n, requests[0]->kind == S3_READ);
    if (e)
        e = op_fail(op, e, "no answer yet from the store at %s", place_of(c)->origin);
    for (size_t i = 0; i < n; i++) {
        unsigned sent = exchanges[i].answer.sent;
        if (sent > 1) op->counters.store_requests += sent - 1;
        s3_request_release(requests[i]);
        requests[i]->answer = exchanges[i].answer;
        if (!e) judge(c, requests[i]);
        if (!e) note_patience(c, requests[i], clock_ms() - started_ms);
        attempt_release(&attempts[i]);
    }
    mem_free(exchanges);
    mem_free(attempts);
    return e;
}

/* One attempt of all pending ones; what must be sent again is moved to their front. */
static enum err play_round(struct op *op, struct s3_client *c,
                           struct s3_request **pending, size_t *n, int64_t *pause_ms)
{
    const struct s3_secret *secret = NULL;
    bool heed_op = pending[0]->kind == S3_READ;
    size_t left = 0;

    enum err e = s3_credentials_get(op, c->credentials, heed_op, &secret);
    if (e == ERR_DENIED)
        e = op_fail(op, ERR_IO, "credentials for %s", place_of(c)->origin);
    if (!e) e = attempt(op, c, pending, *n, secret);
    for (size_t i = 0; i < *n && !e; i++)
        if (again(op, c, pending[i], secret, pause_ms)) pending[left++] = pending[i];
    *n = left;
    s3_secret_unref(secret);
    return e;
}

enum err s3_client_run(struct op *op, struct s3_client *c, struct s3_request *requests,
                       size_t n)
{
    struct s3_request **pending = mem_new_array(struct s3_request *, n);
    bool heed_op = requests[0].kind == S3_READ;
    int64_t slow_ms = atomic_load(&c->slow_until_ms);
    enum err e = ERR_OK;

    for (size_t i = 0; i < n; i++)
        pending[i] = &requests[i];
    if (requests[0].kind != S3_CREATE) e = sleep_until(op, slow_ms, heed_op);
    while (!e && n > 0) {
        int64_t pause_ms = 0;
        e = play_round(op, c, pending, &n, &pause_ms);
        if (e || n == 0) break;
        op->counters.store_requests += n;
        e = sleep_until(op, clock_ms() + pause_ms, heed_op);
    }
    mem_free(pending);
    return e;
}

void s3_request_release(struct s3_request *r)
{
    s3_answer_release(&r->answer);
}

/* ---- words ---- */

/* What the store denies is mended by whoever runs the node, not by its client, and
 * succeeds then: ERR_IO and not ERR_DENIED. */
static enum err refusal(const struct s3_request *r)
{
    if (r->too_large) return ERR_LIMIT;
    switch (r->answer.status) {
    case 412: return ERR_CONFLICT;
    case 413: return ERR_LIMIT;
    case 416: return ERR_CORRUPT;
    case 404: return strcmp(r->code, "NoSuchBucket") == 0 ? ERR_IO : ERR_NOT_FOUND;
    default: return ERR_IO;
    }
}

static const char WRONG_REGION[] = ": set storage.s3.region to the bucket's";

/* What the credentials lack, for a request that was denied. */
static const char *missing_right(const struct s3_request *r)
{
    const char *about = r->query_count ? r->query[0].name : "";
    bool deletes = strcmp(about, "delete") == 0;
    if (strcmp(about, "uploads") == 0 && strcmp(r->method, "GET") == 0)
        return ": allow s3:ListBucketMultipartUploads to these credentials";
    if (strcmp(about, "uploadId") == 0 && strcmp(r->method, "DELETE") == 0)
        return ": allow s3:AbortMultipartUpload to these credentials";
    if (deletes || strcmp(r->method, "DELETE") == 0)
        return ": allow s3:DeleteObject to these credentials";
    if (strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0)
        return ": allow s3:PutObject to these credentials";
    return *r->key ? ": allow s3:GetObject to these credentials"
                   : ": allow s3:ListBucket to these credentials";
}

static const char *advice(struct op *op, const struct s3_request *r)
{
    static const struct {
        const char *code, *words;
    } known[] = {
        {"NoSuchBucket", ": create the bucket or change storage.s3.bucket"},
        {"InvalidAccessKeyId", ": the store does not know this access key"},
        {"SignatureDoesNotMatch", ": the secret key is not the access key's"},
        {"AuthorizationHeaderMalformed", WRONG_REGION},
        {"PermanentRedirect", WRONG_REGION},
        {"RequestTimeTooSkewed", ": set this machine's clock"},
        {"ExpiredToken", ": get new credentials"},
        {"InvalidToken", ": AWS_SESSION_TOKEN does not belong to these keys"},
    };
    if (strcmp(r->code, "AccessDenied") == 0) return missing_right(r);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(r->code, known[i].code) != 0) continue;
        if (known[i].words != WRONG_REGION || !*r->answer.region) return known[i].words;
        const char *words = op_printf(op, "%s, %s", WRONG_REGION, r->answer.region);
        return words ? words : WRONG_REGION;
    }
    return "";
}

/* For what is no answer at all. */
static const char *advice_unanswered(const struct s3_answer *a)
{
    if (a->end == S3_END_ANSWERED)
        return ": is storage.s3.endpoint that of an S3 store?";
    if (a->end == S3_END_BROKEN) return "";
    return strstr(a->error, "SSL") || strstr(a->error, "certificate")
               ? ": the store's certificate must be for the host in "
                 "storage.s3.endpoint, "
                 "from an authority that this machine or AWS_CA_BUNDLE knows"
               : ": correct storage.s3.endpoint or the network on the way to it";
}

enum err s3_client_result(struct op *op, struct s3_client *c,
                          const struct s3_request *r)
{
    const struct s3_answer *a = &r->answer;
    const char *origin = place_of(c)->origin;
    const char *tired =
        r->starved ? "; not tried again, for too much has failed of late" : "";
    if (r->class == S3_APPLIED) return ERR_OK;
    enum err e = ERR_IO;
    if (r->class == S3_NOT_APPLIED) e = refusal(r);
    if (r->class == S3_UNKNOWN && r->kind == S3_CREATE) e = ERR_UNKNOWN;

    if (a->end == S3_END_ANSWERED && a->status >= 300)
        return op_fail(op, e, "%s %s/%s at %s: %d %s%s%s%s%s", r->method, c->bucket,
                       r->key, origin, a->status,
                       *r->code ? r->code : "without a reason", *r->message ? ", " : "",
                       r->message, advice(op, r), tired);
    if (r->too_large)
        return op_fail(op, e, "%s %s/%s: larger than %zu bytes", r->method, c->bucket,
                       r->key, r->body_max);
    return op_fail(op, e, "%s %s/%s at %s: %s%s%s", r->method, c->bucket, r->key,
                   origin,
                   a->end == S3_END_ANSWERED ? "the answer is garbled" : a->error,
                   advice_unanswered(a), tired);
}
