/*
 * A line is one libcurl multi handle with one easy handle in it, and so at most one
 * connection. The pool keeps idle lines, the one used last in front: those at the end
 * grow old and are closed when others need their place.
 */
#include "http/http_client.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/at_most.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"

enum {
    OP_LOOK_MS = 50, /* how often a waiting exchange looks at its op */
    ORIGIN_MAX = 512,
    AT_ONCE_MAX = 60 << 10, /* libcurl sends less than 64 KiB along with the head */
    TRANSFER_BUFFER = 128 << 10
};

struct line {
    struct line *next;
    CURLM *multi;
    CURL *easy;
    char origin[ORIGIN_MAX];
};

struct http_client {
    struct http_client_options options;
    struct mutex lock; /* guards what follows */
    struct line *idle;
    size_t idle_count, running;
};

/* One exchange under way. */
struct call {
    struct http_client_exchange *x;
    CURL *easy;
    size_t body_offset;
    bool whole;  /* libcurl has had all of the body, at least once */
    bool paused; /* until source has more */
    bool moved;  /* bytes of the answer came since wait_on was last asked */
    bool asked;  /* whether sink takes the answer */
    bool too_large;
    enum err sink_error;
    char error[CURL_ERROR_SIZE];
};

/* ---- libcurl's callbacks ---- */

static size_t send_body(char *out, size_t one, size_t room, void *data)
{
    struct call *call = data;
    struct slice body = call->x->body;
    size_t left = body.size - call->body_offset;
    size_t size = left < room * one ? left : room * one;
    if (size) memcpy(out, body.data + call->body_offset, size);
    call->body_offset += size;
    if (call->body_offset == body.size) call->whole = true;
    return size;
}

static size_t send_source(char *out, size_t one, size_t room, void *data)
{
    struct call *call = data;
    const struct http_client_source *source = call->x->source;
    if (call->whole) return 0;
    size_t size = source->read(source->context, out, room * one, &call->whole);
    call->paused = size == 0 && !call->whole;
    return call->paused ? CURL_READFUNC_PAUSE : size;
}

/* libcurl wants to send everything again on a fresh connection. */
static int rewind_body(void *data, curl_off_t offset, int origin)
{
    struct call *call = data;
    if (!call->x->repeatable || offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_FAIL;
    call->body_offset = 0;
    return CURL_SEEKFUNC_OK;
}

static void keep_value(struct http_client_wanted *wanted, const char *from, size_t size)
{
    while (size && (*from == ' ' || *from == '\t')) {
        from++;
        size--;
    }
    while (size && strchr("\r\n \t", from[size - 1]))
        size--;
    if (size >= sizeof wanted->value) return;
    memcpy(wanted->value, from, size);
    wanted->value[size] = '\0';
}

static void begin_answer(struct call *call)
{
    for (size_t i = 0; i < call->x->wanted_count; i++)
        call->x->wanted[i].value[0] = '\0';
    buf_clear(&call->x->answer);
}

static size_t take_header(char *data, size_t one, size_t size, void *context)
{
    struct call *call = context;
    call->moved = true;
    size *= one;
    if (size > 5 && memcmp(data, "HTTP/", 5) == 0) begin_answer(call);
    for (size_t i = 0; i < call->x->wanted_count; i++) {
        struct http_client_wanted *wanted = &call->x->wanted[i];
        size_t name_size = strlen(wanted->name);
        if (size > name_size && data[name_size] == ':' &&
            strncasecmp(data, wanted->name, name_size) == 0)
            keep_value(wanted, data + name_size + 1, size - name_size - 1);
    }
    return size;
}

/* The first bytes of a body have come. */
static void ask_sink(struct call *call)
{
    struct http_client_exchange *x = call->x;
    curl_off_t size = -1;
    long status = 0;
    call->asked = true;
    if (!x->sink) return;
    (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(call->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    x->status = (int)status;
    x->begun = x->sink->begin(x->sink->context,
                              size < 0 ? HTTP_CLIENT_UNKNOWN : (uint64_t)size);
}

static size_t take_body(char *data, size_t one, size_t size, void *context)
{
    struct call *call = context;
    struct http_client_exchange *x = call->x;
    call->moved = true;
    size *= one;
    if (!call->asked) ask_sink(call);
    if (x->begun) {
        call->sink_error = x->sink->write(x->sink->context, slice_of(data, size));
        return call->sink_error ? 0 : size;
    }
    call->too_large = size > x->answer_max - x->answer.size;
    if (call->too_large) return 0;
    buf_append(&x->answer, data, size);
    return size;
}

/* ---- lines ---- */

/* "http://host:port" of a URL; false when it is too long to be one. */
static bool origin_of(const char *url, char out[ORIGIN_MAX])
{
    const char *host = strstr(url, "://");
    if (!host) return false;
    size_t size = (size_t)(host - url) + 3 + strcspn(host + 3, "/?");
    if (size >= ORIGIN_MAX) return false;
    memcpy(out, url, size);
    out[size] = '\0';
    return true;
}

static struct line *line_new(const char *origin)
{
    struct line *line = mem_new(struct line);
    line->multi = curl_multi_init();
    line->easy = curl_easy_init();
    if (!line->multi || !line->easy) abort(); /* out of memory, as in mem.h */
    (void)curl_multi_setopt(line->multi, CURLMOPT_MAXCONNECTS, 1L);
    (void)snprintf(line->origin, sizeof line->origin, "%s", origin);
    return line;
}

static void line_free(struct line *line)
{
    if (!line) return;
    curl_easy_cleanup(line->easy);
    (void)curl_multi_cleanup(line->multi);
    mem_free(line);
}

/* An idle line to origin, or NULL; *busy: there are too many exchanges already. */
static struct line *take_idle(struct http_client *c, const char *origin, bool *busy)
{
    struct line *found = NULL;

    mutex_lock(&c->lock);
    *busy = c->running == c->options.exchanges_max;
    if (!*busy) c->running++;
    for (struct line **at = &c->idle; !*busy && *at; at = &(*at)->next) {
        if (strcmp((*at)->origin, origin) != 0) continue;
        found = *at;
        *at = found->next;
        c->idle_count--;
        break;
    }
    mutex_unlock(&c->lock);
    return found;
}

static void give_back(struct http_client *c, struct line *line)
{
    struct line *oldest = NULL;

    mutex_lock(&c->lock);
    c->running--;
    line->next = c->idle;
    c->idle = line;
    c->idle_count++;
    if (c->idle_count > c->options.idle_max) {
        struct line **at = &c->idle;
        while ((*at)->next)
            at = &(*at)->next;
        oldest = *at;
        *at = NULL;
        c->idle_count--;
    }
    mutex_unlock(&c->lock);
    line_free(oldest);
}

/* ---- an exchange ---- */

static void set_source(struct call *call, CURL *easy)
{
    const struct http_client_source *source = call->x->source;
    bool known = source->size != HTTP_CLIENT_UNKNOWN;
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->x->method);
    (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                           known ? (curl_off_t)source->size : (curl_off_t)-1);
    (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, send_source);
    (void)curl_easy_setopt(easy, CURLOPT_READDATA, call);
}

/* A small body goes out with the head, in one packet; the peer wakes up once. Only what
 * may be repeated: libcurl would, and would not ask. */
static bool goes_at_once(const struct http_client_exchange *x)
{
    return x->repeatable && x->body.size > 0 && x->body.size <= AT_ONCE_MAX;
}

static void set_body(struct call *call, CURL *easy)
{
    const struct http_client_exchange *x = call->x;
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body.size);
    if (goes_at_once(x)) {
        call->whole = true;
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)x->body.data);
        return;
    }
    (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, send_body);
    (void)curl_easy_setopt(easy, CURLOPT_READDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
    (void)curl_easy_setopt(easy, CURLOPT_SEEKDATA, call);
}

static void set_method(struct call *call, CURL *easy)
{
    const struct http_client_exchange *x = call->x;
    bool get = strcmp(x->method, "GET") == 0;
    call->whole = !x->source && x->body.size == 0;
    if (x->source) set_source(call, easy);
    if (x->source || (get && x->body.size == 0)) return;
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, x->method);
    /* Without a body there is nothing to rewind, so libcurl would send it again on a
     * fresh connection and tell nobody. */
    if (!x->repeatable && x->body.size == 0)
        (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    if (x->body.size == 0 && strcmp(x->method, "DELETE") == 0) return;
    set_body(call, easy);
}

static void set_options(const struct http_client *c, struct call *call, CURL *easy,
                        struct curl_slist *fields)
{
    (void)curl_easy_setopt(easy, CURLOPT_URL, call->x->url);
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)TRANSFER_BUFFER);
    (void)curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)TRANSFER_BUFFER);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)c->options.connect_ms);
    (void)curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)c->options.idle_secs);
    /* A peer that was moved keeps its name: each connection asks for the address. */
    (void)curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    set_method(call, easy);
}

static void add_field(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (!longer) abort();
    *list = longer;
}

static struct curl_slist *make_fields(const struct http_client_exchange *x)
{
    struct curl_slist *list = NULL;
    struct buf line = BUF_INIT;

    for (size_t i = 0; i < x->field_count; i++) {
        assert(!strpbrk(x->fields[i].name, "\r\n:"));
        assert(!strpbrk(x->fields[i].value, "\r\n"));
        buf_clear(&line);
        buf_printf(&line, "%s: %s", x->fields[i].name, x->fields[i].value);
        buf_append_byte(&line, '\0');
        add_field(&list, (const char *)line.data);
    }
    add_field(&list, "Expect:"); /* peers answer faster than they ask */
    if (x->source && x->source->size == HTTP_CLIENT_UNKNOWN)
        add_field(&list, "Transfer-Encoding: chunked");
    buf_release(&line);
    return list;
}

static bool is_done(CURLM *multi, CURLcode *code)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        *code = message->data.result;
        return true;
    }
    return false;
}

static int poll_ms(const struct op *op, const struct http_client_exchange *x,
                   int64_t look_ms)
{
    int64_t now_ms = clock_ms();
    int64_t until_ms = at_most_i64(now_ms + OP_LOOK_MS, op->deadline_ms);
    if (x->wait_on) until_ms = at_most_i64(until_ms, look_ms);
    return until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
}

/* Waits for the source, but for a short while only: an answer may come before the end
 * of the body. That the peer has gone, libcurl tells when there is more to send. */
static void wait_for_source(struct call *call)
{
    const struct http_client_source *source = call->x->source;
    call->moved = true; /* nobody can answer yet */
    source->wait(source->context, OP_LOOK_MS);
    call->paused = false;
    (void)curl_easy_pause(call->easy, CURLPAUSE_CONT);
}

static enum err broken_off(struct op *op, const struct call *call, CURLcode code)
{
    if (call->too_large)
        return op_fail(op, ERR_LIMIT, "the answer is larger than %zu bytes",
                       call->x->answer_max);
    if (call->sink_error) return call->sink_error;
    return op_fail(op, ERR_IO, "%s",
                   *call->error ? call->error : curl_easy_strerror(code));
}

/* Until libcurl is through with it, or op or wait_on says stop. */
static enum err perform(struct op *op, struct call *call, struct line *line)
{
    const struct http_client_exchange *x = call->x;
    int64_t began_ms = clock_ms(), look_ms = began_ms + x->wait_step_ms;
    CURLcode code = CURLE_OK;
    int running;

    for (;;) {
        if (curl_multi_perform(line->multi, &running) != CURLM_OK) abort();
        if (is_done(line->multi, &code)) break;
        enum err e = op_check(op);
        if (e) return e;
        if (x->wait_on && clock_ms() >= look_ms) {
            if (!call->moved && !x->wait_on(x->context, clock_ms() - began_ms))
                return op_fail(op, ERR_IO, "no answer within %lld ms",
                               (long long)(clock_ms() - began_ms));
            call->moved = false;
            look_ms = clock_ms() + x->wait_step_ms;
        }
        if (call->paused)
            wait_for_source(call);
        else
            (void)curl_multi_poll(line->multi, NULL, 0, poll_ms(op, x, look_ms), NULL);
    }
    return code == CURLE_OK ? ERR_OK : broken_off(op, call, code);
}

static enum err run_on(struct op *op, struct http_client *c, struct line *line,
                       struct http_client_exchange *x)
{
    struct call call = {.x = x, .easy = line->easy};
    struct curl_slist *fields = make_fields(x);
    long size = 0, status = 0;

    set_options(c, &call, line->easy, fields);
    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK) abort();
    op_clear_error(op);
    enum err e = perform(op, &call, line);
    (void)curl_easy_getinfo(line->easy, CURLINFO_REQUEST_SIZE, &size);
    (void)curl_easy_getinfo(line->easy, CURLINFO_RESPONSE_CODE, &status);
    x->sent = size > 0 && call.whole;
    x->status = e ? 0 : (int)status;
    if (e)
        (void)snprintf(x->words, sizeof x->words, "%.*s", HTTP_CLIENT_WORDS_MAX - 1,
                       op->error);

    /* Taken out amid an exchange, its connection is closed. */
    (void)curl_multi_remove_handle(line->multi, line->easy);
    curl_easy_reset(line->easy);
    curl_slist_free_all(fields);
    return e;
}

enum err http_client_run(struct op *op, struct http_client *c,
                         struct http_client_exchange *x)
{
    char origin[ORIGIN_MAX];
    bool busy = false;

    x->status = 0;
    x->sent = x->begun = false;
    x->words[0] = '\0';
    if (!origin_of(x->url, origin))
        return op_fail(op, ERR_INVALID, "not an address: %.100s", x->url);
    enum err e = op_check(op);
    if (e) return e;
    struct line *line = take_idle(c, origin, &busy);
    if (busy)
        return op_fail(op, ERR_BUSY, "%zu requests to other nodes are under way",
                       c->options.exchanges_max);
    if (!line) line = line_new(origin);
    e = run_on(op, c, line, x);
    give_back(c, line);
    return e;
}

/* ---- life ---- */

static void setup_libcurl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) abort();
}

struct http_client *http_client_new(const struct http_client_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, setup_libcurl);
    struct http_client *c = mem_new(struct http_client);
    assert(options->exchanges_max > 0);
    c->options = *options;
    mutex_init(&c->lock);
    return c;
}

void http_client_free(struct http_client *c)
{
    if (!c) return;
    assert(c->running == 0);
    while (c->idle) {
        struct line *line = c->idle;
        c->idle = line->next;
        line_free(line);
    }
    mutex_release(&c->lock);
    mem_free(c);
}
