/*
 * A job is one exchange; its first flight is the request itself, its second the hedge.
 * Callers queue jobs and wake the I/O thread; from then on only that thread touches
 * them, until it has taken their flights out of libcurl and counted them off their
 * round. So a caller's buffers are never written to after s3_http_run returned.
 */
#include "store/s3_http.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"

enum {
    POLL_MAX_MS = 1000,
    OP_LOOK_MS = 50, /* how often a waiting caller looks at its op */
    ERROR_BODY_MAX = 64 << 10,
    TRANSFER_BUFFER = 256 << 10,
    EXPECT_FROM = 1 << 20, /* larger bodies wait for 100 Continue */
    EXPECT_MS = 1000,
    EASY_SPARE_MAX = 64,
    HEDGE_MIN_MS = 20,
    HEDGE_UNKNOWN_MS = 500, /* before enough answers were timed */
    HEDGE_EVERY = 20,       /* one extra request in so many */
    HEDGE_SAVED_MAX = 20,
    SAMPLES = 256,
    SAMPLES_MIN = 32,
    /* More of a request cannot be on its way while nobody takes it. */
    UNREAD_MAX = 8 << 20
};

struct job;

struct flight {
    struct job *job;
    CURL *easy; /* NULL: not in the air */
    struct s3_answer answer;
    size_t part, part_offset; /* of the body: what is sent next */
    size_t given;             /* of the body, to libcurl */
    int64_t started_ms;
    int64_t sent_ms; /* the whole request is out; 0: not yet */
    bool writes_room;
    bool stale;      /* its connection had something to say before it was asked */
    bool head_whole; /* its blank line was there; libcurl does without */
    char error[CURL_ERROR_SIZE];
};

struct round {
    size_t left;
    bool abandoned;
    struct cond done;
};

struct job {
    struct s3_http *http;
    struct s3_exchange *x;
    struct round *round;
    struct curl_slist *headers;
    uint64_t body_size;
    struct flight flights[2];
    struct job *next, **link; /* of the queue, then of the active ones */
};

struct s3_http {
    struct s3_http_options options;
    char *ca_file;
    CURLM *multi;
    struct thread *thread;
    struct mutex lock; /* guards queue, stopping, rounds */
    struct job *queue, **queue_end;
    bool stopping, abandoned;
    atomic_int_least64_t silent_since_ms; /* 0: nothing is waited for */

    /* the I/O thread's own */
    struct job *active;
    int *sockets; /* of all connections */
    size_t socket_count, socket_room;
    CURL *spare[EASY_SPARE_MAX];
    size_t spare_count;
    int64_t samples[SAMPLES]; /* ms to the first byte of recent hedgeable GETs */
    size_t sample_count;
    int64_t hedge_after_ms;
    uint64_t hedge_credit; /* in parts of HEDGE_EVERY */
    struct metric *requests, *hedges, *seconds, *bytes_sent, *bytes_received;
};

static void count_bytes(struct s3_http *h, size_t sent, size_t received)
{
    metric_add(h->bytes_sent, sent);
    metric_add(h->bytes_received, received);
}

static void sign_of_life(struct s3_http *h)
{
    atomic_store(&h->silent_since_ms, clock_ms());
}

/* ---- libcurl's callbacks: they see one flight ---- */

static size_t send_body(char *out, size_t one, size_t room, void *data)
{
    struct flight *f = data;
    const struct s3_exchange *x = f->job->x;
    size_t given = 0;
    (void)one;

    while (given < room && f->part < x->part_count) {
        struct slice part = x->parts[f->part];
        size_t left = part.size - f->part_offset;
        size_t size = left < room - given ? left : room - given;
        if (size) memcpy(out + given, part.data + f->part_offset, size);
        given += size;
        f->part_offset += size;
        if (f->part_offset < part.size) break;
        f->part++;
        f->part_offset = 0;
    }
    f->given += given;
    if (f->given > UNREAD_MAX) sign_of_life(f->job->http);
    count_bytes(f->job->http, given, 0);
    return given;
}

static int rewind_body(void *data, curl_off_t offset, int origin)
{
    struct flight *f = data;
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
    f->part = f->part_offset = 0;
    return CURL_SEEKFUNC_OK;
}

/* A request goes out. Not for the first time where libcurl found an idle connection
 * dead and sends everything again; the store may have seen it all the same. */
static void note_sending(struct flight *f)
{
    struct s3_http *h = f->job->http;
    bool hedge = f == &f->job->flights[1] && f->answer.sent == 0;
    f->answer.sent++;
    f->sent_ms = 0;
    metric_add(h->requests, 1);
    if (hedge) metric_add(h->hedges, 1);
}

static bool named(struct slice line, const char *name, struct slice *value)
{
    size_t size = strlen(name);
    if (line.size <= size || line.data[size] != ':' ||
        strncasecmp((const char *)line.data, name, size) != 0)
        return false;
    const uint8_t *from = line.data + size + 1, *to = line.data + line.size;
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (to > from && (to[-1] == '\r' || to[-1] == '\n' || to[-1] == ' '))
        to--;
    *value = slice_of(from, (size_t)(to - from));
    return true;
}

static void keep(struct slice value, char out[S3_WORD_MAX])
{
    size_t size = value.size < S3_WORD_MAX ? value.size : 0; /* too long: as absent */
    if (size) memcpy(out, value.data, size);
    out[size] = '\0';
}

static void begin_answer(struct flight *f, struct slice line)
{
    struct s3_answer *a = &f->answer;
    unsigned sent = a->sent;
    const uint8_t *blank = memchr(line.data, ' ', line.size);
    size_t at = blank ? (size_t)(blank - line.data) + 1 : line.size;

    f->head_whole = false;
    buf_release(&a->body);
    *a = (struct s3_answer){.sent = sent, .size = -1};
    if (line.size >= at + 3) {
        char digits[4] = {(char)line.data[at], (char)line.data[at + 1],
                          (char)line.data[at + 2], '\0'};
        a->status = (int)strtol(digits, NULL, 10);
    }
    if (a->status < 200) a->status = 0; /* 100 Continue is no answer */
    a->early = a->status && f->part < f->job->x->part_count;
    /* A refusal while the body is on its way, or one that a server sends twice: what
     * follows on this connection would be taken for the next answer. */
    if (a->status >= 400 && strcmp(f->job->x->method, "PUT") == 0)
        (void)curl_easy_setopt(f->easy, CURLOPT_FORBID_REUSE, 1L);
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    struct flight *f = context;
    struct s3_answer *a = &f->answer;
    struct slice line = slice_of(data, one * size), value;

    sign_of_life(f->job->http);
    if (line.size > 5 && memcmp(line.data, "HTTP/", 5) == 0)
        begin_answer(f, line);
    else if (line.size <= 2)
        f->head_whole = true;
    else if (named(line, "etag", &value))
        keep(value, a->etag);
    else if (named(line, "content-range", &value))
        keep(value, a->content_range);
    else if (named(line, "x-amz-checksum-crc32c", &value))
        keep(value, a->crc32c);
    else if (named(line, "x-amz-bucket-region", &value))
        keep(value, a->region);
    else if (named(line, "date", &value))
        keep(value, a->date);
    else if (named(line, "server", &value))
        keep(value, a->server);
    else if (named(line, "retry-after", &value))
        keep(value, a->retry_after);
    else if (named(line, "content-length", &value)) {
        char digits[S3_WORD_MAX];
        keep(value, digits);
        a->size = strtoll(digits, NULL, 10);
    }
    return line.size;
}

static size_t take_body(char *data, size_t one, size_t size, void *context)
{
    struct flight *f = context;
    const struct s3_exchange *x = f->job->x;
    struct s3_answer *a = &f->answer;
    size *= one;
    bool to_room = x->room && a->status == 206;
    /* Nobody asked for the body of another status, or of a write; it is kept for its
     * words. */
    bool wanted = a->status / 100 == 2 && strcmp(x->method, "GET") == 0;
    uint64_t max = to_room                                  ? x->room_size
                   : wanted || x->body_max > ERROR_BODY_MAX ? x->body_max
                                                            : ERROR_BODY_MAX;
    uint64_t offset = a->received;
    a->received += size;
    sign_of_life(f->job->http);
    count_bytes(f->job->http, 0, size);
    if (a->received > max || (a->size >= 0 && (uint64_t)a->size > max)) {
        a->received = max + 1;
        return 0;
    }
    if (to_room && f->writes_room)
        memcpy(x->room + offset, data, size);
    else
        buf_append(&a->body, data, size);
    return size;
}

/*
 * ---- connections ----
 *
 * Some stores send an answer twice (PROTOCOL section 13). The second copy waits on the
 * kept connection and would be taken for the answer to the next request: a write that
 * never was would count as applied. libcurl reuses such a connection, so each is looked
 * at before a request goes out on it. Not under TLS, where tickets arrive unasked.
 * The same moment counts the request: libcurl comes by for each sending, also for those
 * that it repeats by itself.
 */

static curl_socket_t open_socket(void *context, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    struct s3_http *h = context;
    (void)purpose;
    int fd =
        socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) return CURL_SOCKET_BAD;
    if (h->socket_count == h->socket_room) {
        h->socket_room = h->socket_room ? 2 * h->socket_room : 64;
        h->sockets = mem_realloc(h->sockets, h->socket_room * sizeof *h->sockets);
    }
    h->sockets[h->socket_count++] = fd;
    return fd;
}

static int close_socket(void *context, curl_socket_t fd)
{
    struct s3_http *h = context;
    for (size_t i = 0; i < h->socket_count; i++)
        if (h->sockets[i] == fd) {
            h->sockets[i] = h->sockets[--h->socket_count];
            break;
        }
    return close(fd);
}

static int local_port(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) return -1;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return -1;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is libcurl's. */
static int before_request(void *context, char *server, char *own, int server_port,
                          int own_port)
{
    struct flight *f = context;
    const struct s3_http *h = f->job->http;
    char byte;
    (void)server;
    (void)own;
    (void)server_port;
    bool plain = strncmp(f->job->x->url, "http:", 5) == 0;
    for (size_t i = 0; plain && i < h->socket_count && !f->stale; i++)
        if (local_port(h->sockets[i]) == own_port)
            f->stale = recv(h->sockets[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    if (f->stale) return CURL_PREREQFUNC_ABORT;
    note_sending(f);
    return CURL_PREREQFUNC_OK;
}

static void watch_connection(struct s3_http *h, struct flight *f)
{
    (void)curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETDATA, h);
    (void)curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    (void)curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETDATA, h);
    (void)curl_easy_setopt(f->easy, CURLOPT_PREREQFUNCTION, before_request);
    (void)curl_easy_setopt(f->easy, CURLOPT_PREREQDATA, f);
}

/* ---- flights ---- */

static void set_body(struct flight *f)
{
    const struct job *job = f->job;
    curl_off_t size = (curl_off_t)job->body_size;
    bool put = strcmp(job->x->method, "PUT") == 0;

    (void)curl_easy_setopt(f->easy, put ? CURLOPT_UPLOAD : CURLOPT_POST, 1L);
    (void)curl_easy_setopt(f->easy,
                           put ? CURLOPT_INFILESIZE_LARGE : CURLOPT_POSTFIELDSIZE_LARGE,
                           size);
    (void)curl_easy_setopt(f->easy, CURLOPT_READFUNCTION, send_body);
    (void)curl_easy_setopt(f->easy, CURLOPT_READDATA, f);
    (void)curl_easy_setopt(f->easy, CURLOPT_SEEKFUNCTION, rewind_body);
    (void)curl_easy_setopt(f->easy, CURLOPT_SEEKDATA, f);
    (void)curl_easy_setopt(f->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)TRANSFER_BUFFER);
    (void)curl_easy_setopt(f->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)EXPECT_MS);
}

static void set_options(struct s3_http *h, struct flight *f)
{
    const struct s3_exchange *x = f->job->x;
    CURL *easy = f->easy;

    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
    (void)curl_easy_setopt(easy, CURLOPT_URL, x->url);
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (h->ca_file) (void)curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)TRANSFER_BUFFER);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)h->options.connect_ms);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)x->whole_ms);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->job->headers);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->error);
    watch_connection(h, f);
    if (x->direct) (void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (strcmp(x->method, "HEAD") == 0)
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(x->method, "DELETE") == 0)
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
    else if (strcmp(x->method, "GET") != 0)
        set_body(f);
}

static CURL *take_easy(struct s3_http *h)
{
    CURL *easy = h->spare_count ? h->spare[--h->spare_count] : curl_easy_init();
    if (!easy) abort(); /* out of memory, as in mem.h */
    return easy;
}

static void give_easy(struct s3_http *h, CURL *easy)
{
    curl_easy_reset(easy);
    if (h->spare_count < EASY_SPARE_MAX)
        h->spare[h->spare_count++] = easy;
    else
        curl_easy_cleanup(easy);
}

/* Also once more, after a stale connection: what was sent before that stays known. */
static void take_off(struct s3_http *h, struct job *job, int which, int64_t now_ms)
{
    struct flight *f = &job->flights[which];
    f->job = job;
    f->easy = take_easy(h);
    f->answer = (struct s3_answer){.sent = f->answer.sent, .size = -1};
    f->part = f->part_offset = f->given = 0;
    f->sent_ms = 0;
    f->writes_room = which == 0;
    f->started_ms = now_ms;
    set_options(h, f);
    if (!atomic_load(&h->silent_since_ms)) atomic_store(&h->silent_since_ms, now_ms);
    if (curl_multi_add_handle(h->multi, f->easy) != CURLM_OK) abort();
}

static void land(struct s3_http *h, struct flight *f)
{
    if (!f->easy) return;
    (void)curl_multi_remove_handle(h->multi, f->easy);
    give_easy(h, f->easy);
    f->easy = NULL;
}

/* ---- how long answers take ---- */

static int compare_ms(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Milliseconds to the first byte; to now when there was none. */
static int64_t waited_ms(const struct flight *f, int64_t now_ms)
{
    curl_off_t before_us = 0, after_us = 0;
    if (!f->easy || !f->answer.status) return now_ms - f->started_ms;
    (void)curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &before_us);
    (void)curl_easy_getinfo(f->easy, CURLINFO_STARTTRANSFER_TIME_T, &after_us);
    return (after_us - before_us) / 1000;
}

static void sample(struct s3_http *h, int64_t ms)
{
    int64_t sorted[SAMPLES];
    h->samples[h->sample_count++ % SAMPLES] = ms;
    if (h->sample_count % SAMPLES_MIN) return;

    size_t count = h->sample_count < SAMPLES ? h->sample_count : SAMPLES;
    memcpy(sorted, h->samples, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_ms);
    int64_t p95 = sorted[count * 95 / 100];
    h->hedge_after_ms = p95 > HEDGE_MIN_MS ? p95 : HEDGE_MIN_MS;
}

/* ---- jobs ---- */

static void link_job(struct s3_http *h, struct job *job)
{
    job->next = h->active;
    job->link = &h->active;
    if (job->next) job->next->link = &job->next;
    h->active = job;
}

static void end_job(struct s3_http *h, struct job *job, struct flight *winner)
{
    struct s3_exchange *x = job->x;
    struct s3_answer *a = &winner->answer;
    int64_t now_ms = clock_ms();

    metric_observe(h->seconds, (double)(now_ms - job->flights[0].started_ms) / 1000);
    if (x->hedge && a->end == S3_END_ANSWERED)
        sample(h, waited_ms(&job->flights[0], now_ms));
    land(h, &job->flights[0]);
    land(h, &job->flights[1]);
    if (!winner->writes_room && x->room && a->status == 206 && a->body.size) {
        memcpy(x->room, a->body.data, a->body.size);
        buf_release(&a->body);
    }
    x->answer = *a;
    x->answer.sent = job->flights[0].answer.sent + job->flights[1].answer.sent;
    a->body = BUF_INIT;
    buf_release(&job->flights[0].answer.body);
    buf_release(&job->flights[1].answer.body);

    *job->link = job->next;
    if (job->next) job->next->link = job->link;
    if (a->end == S3_END_ANSWERED && !h->active) atomic_store(&h->silent_since_ms, 0);
    mutex_lock(&h->lock);
    if (--job->round->left == 0) cond_signal(&job->round->done);
    mutex_unlock(&h->lock);
}

/* The flight is over; so is the job, unless its twin may still do better. */
static void end_flight(struct s3_http *h, struct flight *f)
{
    struct job *job = f->job;
    struct flight *twin = &job->flights[f == &job->flights[0]];
    bool good = f->answer.end == S3_END_ANSWERED && f->answer.status < 500;

    if (twin->easy && !good)
        land(h, f);
    else
        end_job(h, job, f);
}

static void fail_flight(struct s3_http *h, struct flight *f, const char *words)
{
    long request_size = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &request_size);
    bool unsent = request_size == 0 && f->answer.sent <= 1 && !f->answer.status;
    f->answer.end = unsent ? S3_END_UNSENT : S3_END_BROKEN;
    (void)snprintf(f->answer.error, S3_ERROR_MAX, "%s", words);
    end_flight(h, f);
}

static void flight_done(struct s3_http *h, struct flight *f, CURLcode code)
{
    if (code == CURLE_ABORTED_BY_CALLBACK && f->stale) {
        /* Nothing was sent on that connection and it is gone: try the next. */
        land(h, f);
        f->stale = false;
        take_off(h, f->job, f != &f->job->flights[0], f->started_ms);
        return;
    }
    if (code == CURLE_OK && f->answer.status && f->head_whole) {
        f->answer.end = S3_END_ANSWERED;
        end_flight(h, f);
        return;
    }
    if (code == CURLE_OK)
        fail_flight(h, f, "the answer ended within its head");
    else
        fail_flight(h, f, *f->error ? f->error : curl_easy_strerror(code));
}

static void collect(struct s3_http *h)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(h->multi, &left))) {
        char *data = NULL;
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &data);
        flight_done(h, (struct flight *)(void *)data, code);
    }
}

/* Notes when the request is out. */
static void look_at(struct flight *f, int64_t now_ms)
{
    if (!f->easy || f->sent_ms) return;
    if (f->job->body_size && f->part < f->job->x->part_count) return;
    long size = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &size);
    if (size) f->sent_ms = now_ms;
}

static bool out_of_time(const struct flight *f, int64_t now_ms)
{
    return f->easy && f->sent_ms && !f->answer.status &&
           now_ms - f->sent_ms >= f->job->x->first_byte_ms;
}

static bool wants_hedge(const struct s3_http *h, const struct job *job, int64_t now_ms)
{
    const struct flight *f = &job->flights[0];
    return job->x->hedge && f->easy && f->sent_ms && !f->answer.status &&
           !job->flights[1].job && h->hedge_credit >= HEDGE_EVERY &&
           now_ms - f->sent_ms >= h->hedge_after_ms;
}

static void watch_job(struct s3_http *h, struct job *job, int64_t now_ms)
{
    look_at(&job->flights[0], now_ms);
    look_at(&job->flights[1], now_ms);
    for (int i = 0; i < 2; i++) {
        struct flight *f = &job->flights[i];
        if (!out_of_time(f, now_ms)) continue;
        char words[S3_ERROR_MAX];
        (void)snprintf(words, sizeof words, "no answer within %lld ms",
                       (long long)job->x->first_byte_ms);
        bool last = !job->flights[!i].easy;
        fail_flight(h, f, words);
        if (last) return;
    }
    if (wants_hedge(h, job, now_ms)) {
        h->hedge_credit -= HEDGE_EVERY;
        take_off(h, job, 1, now_ms);
    }
}

/* When the next look at the jobs is due. */
static int poll_ms(const struct s3_http *h, int64_t now_ms)
{
    int64_t until_ms = POLL_MAX_MS;
    for (const struct job *job = h->active; job; job = job->next)
        for (int i = 0; i < 2; i++) {
            const struct flight *f = &job->flights[i];
            if (!f->easy || f->answer.status) continue;
            int64_t since_ms = f->sent_ms ? f->sent_ms : now_ms;
            int64_t left_ms = since_ms + job->x->first_byte_ms - now_ms;
            if (i == 0 && job->x->hedge && !job->flights[1].job &&
                h->hedge_credit >= HEDGE_EVERY)
                left_ms = since_ms + h->hedge_after_ms - now_ms;
            if (left_ms < until_ms) until_ms = left_ms;
        }
    return until_ms > 1 ? (int)until_ms : 1;
}

static void abandon(struct s3_http *h)
{
    struct job *next;
    for (struct job *job = h->active; job; job = next) {
        next = job->next;
        mutex_lock(&h->lock);
        bool abandoned = job->round->abandoned;
        mutex_unlock(&h->lock);
        if (!abandoned) continue;
        struct flight *f = &job->flights[0];
        f->answer.end = S3_END_BROKEN;
        end_job(h, job, f);
    }
}

/* Takes what callers left. False: stop. */
static bool take_orders(struct s3_http *h)
{
    mutex_lock(&h->lock);
    struct job *queue = h->queue;
    bool stopping = h->stopping, abandoned = h->abandoned;
    h->queue = NULL;
    h->queue_end = &h->queue;
    h->abandoned = false;
    mutex_unlock(&h->lock);

    int64_t now_ms = clock_ms();
    while (queue) {
        struct job *job = queue;
        queue = job->next;
        link_job(h, job);
        if (job->x->hedge && h->hedge_credit < HEDGE_SAVED_MAX * HEDGE_EVERY)
            h->hedge_credit++;
        take_off(h, job, 0, now_ms);
    }
    if (abandoned) abandon(h);
    return !stopping;
}

static void run(void *arg)
{
    struct s3_http *h = arg;
    while (take_orders(h)) {
        int running;
        struct job *next;
        (void)curl_multi_perform(h->multi, &running);
        collect(h);
        int64_t now_ms = clock_ms();
        for (struct job *job = h->active; job; job = next) {
            next = job->next;
            watch_job(h, job, now_ms);
        }
        (void)curl_multi_poll(h->multi, NULL, 0, poll_ms(h, now_ms), NULL);
    }
}

/* ---- the callers' side ---- */

static struct curl_slist *add_header(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);
    if (!longer) abort();
    return longer;
}

static void prepare(struct s3_http *h, struct job *job, struct s3_exchange *x,
                    struct round *round)
{
    struct buf line = BUF_INIT;
    job->http = h;
    job->x = x;
    job->round = round;
    x->answer = (struct s3_answer){.size = -1};
    for (size_t i = 0; i < x->part_count; i++)
        job->body_size += x->parts[i].size;
    for (size_t i = 0; i < x->header_count; i++) {
        buf_clear(&line);
        buf_printf(&line, "%s: %s", x->headers[i].name, x->headers[i].value);
        buf_append_byte(&line, '\0');
        job->headers = add_header(job->headers, (const char *)line.data);
    }
    if (job->body_size < EXPECT_FROM)
        job->headers = add_header(job->headers, "Expect:");
    buf_release(&line);
}

/* Sleeps until the round is over, or op says stop. Lock held. */
static enum err wait_for(struct op *op, struct s3_http *h, struct round *round,
                         bool heed_op)
{
    while (round->left > 0) {
        enum err e = heed_op ? op_check(op) : ERR_OK;
        if (e) return e;
        int64_t until_ms = heed_op ? clock_ms() + OP_LOOK_MS : INT64_MAX;
        if (heed_op && op->deadline_ms < until_ms) until_ms = op->deadline_ms;
        (void)cond_wait(&round->done, &h->lock, until_ms);
    }
    return ERR_OK;
}

enum err s3_http_run(struct op *op, struct s3_http *h, struct s3_exchange *exchanges,
                     size_t n, bool heed_op)
{
    struct round round = {.left = n};
    struct job *jobs = mem_new_array(struct job, n);

    cond_init(&round.done);
    for (size_t i = 0; i < n; i++)
        prepare(h, &jobs[i], &exchanges[i], &round);

    mutex_lock(&h->lock);
    assert(!h->stopping);
    for (size_t i = 0; i < n; i++) {
        *h->queue_end = &jobs[i];
        h->queue_end = &jobs[i].next;
    }
    (void)curl_multi_wakeup(h->multi);
    enum err e = wait_for(op, h, &round, heed_op);
    if (e) {
        round.abandoned = h->abandoned = true;
        (void)curl_multi_wakeup(h->multi);
        (void)wait_for(op, h, &round, false);
    }
    mutex_unlock(&h->lock);

    for (size_t i = 0; i < n; i++)
        curl_slist_free_all(jobs[i].headers);
    cond_release(&round.done);
    mem_free(jobs);
    return e;
}

void s3_answer_release(struct s3_answer *a)
{
    buf_release(&a->body);
}

int64_t s3_http_silent_ms(struct s3_http *h)
{
    int64_t since_ms = atomic_load(&h->silent_since_ms);
    int64_t silent_ms = since_ms ? clock_ms() - since_ms : 0;
    return silent_ms > 0 ? silent_ms : 0;
}

static void setup_libcurl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) abort();
}

enum err s3_http_new(struct op *op, const struct s3_http_options *options,
                     struct s3_http **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, setup_libcurl);
    CURLM *multi = curl_multi_init();
    if (!multi) return op_fail(op, ERR_IO, "libcurl cannot be set up");

    struct s3_http *h = mem_new(struct s3_http);
    h->options = *options;
    h->ca_file = options->ca_file ? mem_strdup(options->ca_file) : NULL;
    h->multi = multi;
    h->queue_end = &h->queue;
    h->hedge_after_ms = HEDGE_UNKNOWN_MS;
    h->requests =
        metric_counter("elacsym_s3_requests_total",
                       "requests sent to the S3 store, repeated ones and hedges too",
                       NULL);
    h->hedges = metric_counter("elacsym_s3_hedges_total",
                               "second requests for a slow read", NULL);
    h->bytes_sent = metric_counter("elacsym_s3_sent_bytes_total",
                                   "bytes of the bodies of these requests", NULL);
    h->bytes_received = metric_counter("elacsym_s3_received_bytes_total",
                                       "bytes of the bodies of their answers", NULL);
    h->seconds = metric_histogram("elacsym_s3_request_seconds",
                                  "from handing a request over to its end", NULL,
                                  metric_seconds, metric_seconds_count);
    mutex_init(&h->lock);
    (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
                            (long)options->connections_max);
    (void)curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                            (long)options->connections_max);
    h->thread = thread_start("s3 io", run, h);
    *out = h;
    return ERR_OK;
}

void s3_http_free(struct s3_http *h)
{
    if (!h) return;
    mutex_lock(&h->lock);
    h->stopping = true;
    mutex_unlock(&h->lock);
    (void)curl_multi_wakeup(h->multi);
    thread_join(h->thread);
    assert(!h->active && !h->queue);
    for (size_t i = 0; i < h->spare_count; i++)
        curl_easy_cleanup(h->spare[i]);
    (void)curl_multi_cleanup(h->multi);
    mutex_release(&h->lock);
    mem_free(h->sockets);
    mem_free(h->ca_file);
    mem_free(h);
}
