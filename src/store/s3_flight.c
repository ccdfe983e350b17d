#include "store/s3_flight.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/op.h"
#include "base/task.h"

enum {
    ERROR_BODY_MAX = 64 << 10,
    TRANSFER_BUFFER = 256 << 10,
    EXPECT_FROM = 1 << 20, /* larger bodies wait for 100 Continue */
    EXPECT_MS = 1000,
    /* More of a request cannot be on its way while nobody takes it. */
    UNREAD_MAX = 8 << 20
};

static void count_bytes(struct s3_wire *w, size_t sent, size_t received)
{
    metric_add(w->bytes_sent, sent);
    metric_add(w->bytes_received, received);
}

static void sign_of_life(struct s3_wire *w)
{
    atomic_store(&w->silent_since_ms, clock_ms());
}

/* ---- libcurl's callbacks: they see one flight ---- */

static size_t send_body(char *out, size_t one, size_t room, void *data)
{
    struct s3_flight *f = data;
    const struct s3_exchange *x = f->load->x;
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
    if (f->given > UNREAD_MAX) sign_of_life(f->wire);
    count_bytes(f->wire, given, 0);
    return given;
}

static int rewind_body(void *data, curl_off_t offset, int origin)
{
    struct s3_flight *f = data;
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
    f->part = f->part_offset = 0;
    return CURL_SEEKFUNC_OK;
}

/* A request goes out. Not for the first time where libcurl found an idle connection
 * dead and sends everything again; the store may have seen it all the same. */
static void note_sending(struct s3_flight *f)
{
    struct s3_wire *w = f->wire;
    bool first_hedge = f->hedge && f->answer.sent == 0;
    f->answer.sent++;
    f->sent_ms = 0;
    metric_add(w->requests, 1);
    if (first_hedge) metric_add(w->hedges, 1);
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

static void begin_answer(struct s3_flight *f, struct slice line)
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
    a->early = a->status && f->part < f->load->x->part_count;
    /* A refusal while the body is on its way, or one that a server sends twice: what
     * follows on this connection would be taken for the next answer. */
    if (a->status >= 400 && strcmp(f->load->x->method, "PUT") == 0)
        (void)curl_easy_setopt(f->easy, CURLOPT_FORBID_REUSE, 1L);
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    struct s3_flight *f = context;
    struct s3_answer *a = &f->answer;
    struct slice line = slice_of(data, one * size), value;

    sign_of_life(f->wire);
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
    struct s3_flight *f = context;
    const struct s3_exchange *x = f->load->x;
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
    sign_of_life(f->wire);
    count_bytes(f->wire, 0, size);
    if (a->received > max || (a->size >= 0 && (uint64_t)a->size > max)) {
        a->received = max + 1;
        return 0;
    }
    if (to_room && !f->hedge)
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
    struct s3_wire *w = context;
    (void)purpose;
    int fd =
        socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) return CURL_SOCKET_BAD;
    if (w->socket_count == w->socket_room) {
        w->socket_room = w->socket_room ? 2 * w->socket_room : 64;
        w->sockets = mem_realloc(w->sockets, w->socket_room * sizeof *w->sockets);
    }
    w->sockets[w->socket_count++] = fd;
    return fd;
}

static int close_socket(void *context, curl_socket_t fd)
{
    struct s3_wire *w = context;
    for (size_t i = 0; i < w->socket_count; i++)
        if (w->sockets[i] == fd) {
            w->sockets[i] = w->sockets[--w->socket_count];
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
    struct s3_flight *f = context;
    const struct s3_wire *w = f->wire;
    char byte;
    (void)server;
    (void)own;
    (void)server_port;
    bool plain = strncmp(f->load->x->url, "http:", 5) == 0;
    for (size_t i = 0; plain && i < w->socket_count && !f->stale; i++)
        if (local_port(w->sockets[i]) == own_port)
            f->stale = recv(w->sockets[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    if (f->stale) return CURL_PREREQFUNC_ABORT;
    note_sending(f);
    return CURL_PREREQFUNC_OK;
}

static void watch_connection(struct s3_wire *w, struct s3_flight *f)
{
    (void)curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETDATA, w);
    (void)curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    (void)curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETDATA, w);
    (void)curl_easy_setopt(f->easy, CURLOPT_PREREQFUNCTION, before_request);
    (void)curl_easy_setopt(f->easy, CURLOPT_PREREQDATA, f);
}

/* ---- flights ---- */

static void set_body(struct s3_flight *f)
{
    const struct s3_load *load = f->load;
    curl_off_t size = (curl_off_t)load->body_size;
    bool put = strcmp(load->x->method, "PUT") == 0;

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

static void set_options(struct s3_wire *w, struct s3_flight *f)
{
    const struct s3_exchange *x = f->load->x;
    CURL *easy = f->easy;

    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
    (void)curl_easy_setopt(easy, CURLOPT_URL, x->url);
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (w->ca_file) (void)curl_easy_setopt(easy, CURLOPT_CAINFO, w->ca_file);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)TRANSFER_BUFFER);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)w->connect_ms);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)x->whole_ms);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->load->headers);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->error);
    watch_connection(w, f);
    if (x->direct) (void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (strcmp(x->method, "HEAD") == 0)
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(x->method, "DELETE") == 0)
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
    else if (strcmp(x->method, "GET") != 0)
        set_body(f);
}

static CURL *take_easy(struct s3_wire *w)
{
    CURL *easy = w->spare_count ? w->spare[--w->spare_count] : curl_easy_init();
    if (!easy) abort(); /* out of memory, as in mem.h */
    return easy;
}

static void give_easy(struct s3_wire *w, CURL *easy)
{
    curl_easy_reset(easy);
    if (w->spare_count < S3_WIRE_SPARES_MAX)
        w->spare[w->spare_count++] = easy;
    else
        curl_easy_cleanup(easy);
}

/* ---- a flight ---- */

void s3_flight_start(struct s3_flight *f, int64_t now_ms)
{
    struct s3_wire *w = f->wire;
    f->easy = take_easy(w);
    f->answer = (struct s3_answer){.sent = f->answer.sent, .size = -1};
    f->part = f->part_offset = f->given = 0;
    f->sent_ms = 0;
    f->stale = false;
    f->started_ms = now_ms;
    set_options(w, f);
    if (!atomic_load(&w->silent_since_ms)) atomic_store(&w->silent_since_ms, now_ms);
    if (curl_multi_add_handle(w->multi, f->easy) != CURLM_OK) abort();
}

void s3_flight_land(struct s3_flight *f)
{
    if (!f->easy) return;
    (void)curl_multi_remove_handle(f->wire->multi, f->easy);
    give_easy(f->wire, f->easy);
    f->easy = NULL;
}

void s3_flight_look(struct s3_flight *f, int64_t now_ms)
{
    if (!f->easy || f->sent_ms) return;
    if (f->load->body_size && f->part < f->load->x->part_count) return;
    long size = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &size);
    if (size) f->sent_ms = now_ms;
}

int64_t s3_flight_waited_ms(const struct s3_flight *f, int64_t now_ms)
{
    curl_off_t before_us = 0, after_us = 0;
    if (!f->easy || !f->answer.status) return now_ms - f->started_ms;
    (void)curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &before_us);
    (void)curl_easy_getinfo(f->easy, CURLINFO_STARTTRANSFER_TIME_T, &after_us);
    return (after_us - before_us) / 1000;
}

void s3_flight_fail(struct s3_flight *f, const char *words)
{
    long request_size = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &request_size);
    bool unsent = request_size == 0 && f->answer.sent <= 1 && !f->answer.status;
    f->answer.end = unsent ? S3_END_UNSENT : S3_END_BROKEN;
    (void)snprintf(f->answer.error, S3_ERROR_MAX, "%s", words);
}

static void judge(struct s3_flight *f, CURLcode code)
{
    f->stale = f->stale && code == CURLE_ABORTED_BY_CALLBACK;
    if (f->stale) return;
    if (code == CURLE_OK && f->answer.status && f->head_whole)
        f->answer.end = S3_END_ANSWERED;
    else if (code == CURLE_OK)
        s3_flight_fail(f, "the answer ended within its head");
    else
        s3_flight_fail(f, *f->error ? f->error : curl_easy_strerror(code));
}

struct s3_flight *s3_wire_next(struct s3_wire *w)
{
    CURLMsg *message;
    int left;
    do
        message = curl_multi_info_read(w->multi, &left);
    while (message && message->msg != CURLMSG_DONE);
    if (!message) return NULL;

    char *data = NULL;
    CURLcode code = message->data.result;
    (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &data);
    struct s3_flight *f = (struct s3_flight *)(void *)data;
    judge(f, code);
    return f;
}

/* ---- what is sent ---- */

static struct curl_slist *add_header(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);
    if (!longer) abort();
    return longer;
}

void s3_load_init(struct s3_load *l, struct s3_exchange *x)
{
    struct buf line = BUF_INIT;
    *l = (struct s3_load){.x = x};
    for (size_t i = 0; i < x->part_count; i++)
        l->body_size += x->parts[i].size;
    for (size_t i = 0; i < x->header_count; i++) {
        buf_clear(&line);
        buf_printf(&line, "%s: %s", x->headers[i].name, x->headers[i].value);
        buf_append_byte(&line, '\0');
        l->headers = add_header(l->headers, (const char *)line.data);
    }
    if (l->body_size < EXPECT_FROM) l->headers = add_header(l->headers, "Expect:");
    buf_release(&line);
}

void s3_load_release(struct s3_load *l)
{
    curl_slist_free_all(l->headers);
}

/* ---- the wire ---- */

static void setup_libcurl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) abort();
}

enum err s3_wire_init(struct op *op, struct s3_wire *w,
                      const struct s3_http_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, setup_libcurl);
    CURLM *multi = curl_multi_init();
    if (!multi) return op_fail(op, ERR_IO, "libcurl cannot be set up");

    *w = (struct s3_wire){.multi = multi, .connect_ms = options->connect_ms};
    w->ca_file = options->ca_file ? mem_strdup(options->ca_file) : NULL;
    w->requests =
        metric_counter("elacsym_s3_requests_total",
                       "requests sent to the S3 store, repeated ones and hedges too",
                       NULL);
    w->hedges = metric_counter("elacsym_s3_hedges_total",
                               "second requests for a slow read", NULL);
    w->bytes_sent = metric_counter("elacsym_s3_sent_bytes_total",
                                   "bytes of the bodies of these requests", NULL);
    w->bytes_received = metric_counter("elacsym_s3_received_bytes_total",
                                       "bytes of the bodies of their answers", NULL);
    (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
                            (long)options->connections_max);
    (void)curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                            (long)options->connections_max);
    return ERR_OK;
}

void s3_wire_release(struct s3_wire *w)
{
    for (size_t i = 0; i < w->spare_count; i++)
        curl_easy_cleanup(w->spare[i]);
    (void)curl_multi_cleanup(w->multi);
    mem_free(w->sockets);
    mem_free(w->ca_file);
}

int64_t s3_wire_silent_ms(struct s3_wire *w)
{
    int64_t since_ms = atomic_load(&w->silent_since_ms);
    int64_t silent_ms = since_ms ? clock_ms() - since_ms : 0;
    return silent_ms > 0 ? silent_ms : 0;
}

void s3_wire_calm(struct s3_wire *w)
{
    atomic_store(&w->silent_since_ms, 0);
}
