#include "http/http_head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool token(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!token_char(text[i])) return false;
    return size > 0;
}

/* Visible characters, spaces, tabs and bytes above ASCII: no control characters. */
static bool value_clean(const char *value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (value[i] != '\t' && ((unsigned char)value[i] < 0x20 || value[i] == 0x7f))
            return false;
    return true;
}

static bool target_clean(const char *target, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)target[i] <= 0x20 || (unsigned char)target[i] >= 0x7f)
            return false;
    return true;
}

static bool named(const struct http_field *f, const char *name)
{
    return f->name_size == strlen(name) &&
           strncasecmp(f->name, name, f->name_size) == 0;
}

/* The first field of that name, and how many there are. */
static const struct http_field *find(const struct http_head *head, const char *name,
                                     size_t *count)
{
    const struct http_field *first = NULL;
    *count = 0;
    for (size_t i = 0; i < head->field_count; i++) {
        if (!named(&head->fields[i], name)) continue;
        if (!first) first = &head->fields[i];
        ++*count;
    }
    return first;
}

static bool value_is(const struct http_field *f, const char *word)
{
    size_t size = f->value_size;
    while (size && (f->value[size - 1] == ' ' || f->value[size - 1] == '\t'))
        size--;
    return size == strlen(word) && strncasecmp(f->value, word, size) == 0;
}

static int refuse(int status, const char **why, const char *words)
{
    *why = words;
    return status;
}

static int check_request_line(const struct http_head *head, const char **why)
{
    size_t method_size = strlen(head->method);
    if (method_size + head->target_size + strlen("  HTTP/1.1") > HTTP_REQUEST_LINE_MAX)
        return refuse(414, why, "the request line is longer than 8192 bytes");
    if (!token(head->method, method_size))
        return refuse(400, why, "the method is not a token");
    if (strcmp(head->version, "HTTP/1.1") != 0 &&
        strcmp(head->version, "HTTP/1.0") != 0)
        return refuse(505, why, "the protocol must be HTTP/1.1 or HTTP/1.0");
    if (head->target[0] != '/')
        return refuse(400, why,
                      "the request target must be a path that starts with '/'");
    if (!target_clean(head->target, head->target_size))
        return refuse(400, why,
                      "the request target holds a character that must be "
                      "percent-encoded");
    return 0;
}

static int check_fields(const struct http_head *head, const char **why)
{
    size_t hosts;
    if (head->field_count > HTTP_FIELDS_MAX)
        return refuse(431, why, "the request has more than 100 header fields");
    if (head->size > HTTP_HEAD_BYTES_MAX)
        return refuse(431, why, "the head of the request is larger than 16384 bytes");
    for (size_t i = 0; i < head->field_count; i++) {
        const struct http_field *f = &head->fields[i];
        if (!token(f->name, f->name_size))
            return refuse(400, why, "a header field's name is not a token");
        if (!value_clean(f->value, f->value_size))
            return refuse(400, why, "a header field's value holds a control character");
    }
    (void)find(head, "host", &hosts);
    if (hosts > 1) return refuse(400, why, "the request has more than one Host");
    if (hosts == 0 && strcmp(head->version, "HTTP/1.1") == 0)
        return refuse(400, why, "an HTTP/1.1 request needs a Host");
    return 0;
}

/* Digits only; false on overflow too. */
static bool parse_length(const struct http_field *f, uint64_t *size)
{
    *size = 0;
    for (size_t i = 0; i < f->value_size; i++) {
        char c = f->value[i];
        if (c < '0' || c > '9' || *size > (UINT64_MAX - 9) / 10) return false;
        *size = *size * 10 + (uint64_t)(c - '0');
    }
    return f->value_size > 0;
}

static int check_length(const struct http_head *head, struct http_framing *framing,
                        const char **why)
{
    size_t lengths, codings;
    const struct http_field *length = find(head, "content-length", &lengths);
    const struct http_field *coding = find(head, "transfer-encoding", &codings);

    framing->body_size = 0;
    if (codings > 0 && lengths > 0)
        return refuse(400, why,
                      "the request has both Content-Length and Transfer-Encoding");
    if (codings > 1 || (codings == 1 && !value_is(coding, "chunked")))
        return refuse(501, why, "the only Transfer-Encoding we take is chunked");
    if (codings == 1 && strcmp(head->version, "HTTP/1.0") == 0)
        return refuse(400, why, "HTTP/1.0 has no Transfer-Encoding");
    if (lengths > 1)
        return refuse(400, why, "the request has more than one Content-Length");
    if (codings == 1)
        framing->body_size = HTTP_BODY_UNKNOWN;
    else if (length && !parse_length(length, &framing->body_size))
        return refuse(400, why, "Content-Length must be a number of bytes");
    return 0;
}

static int check_content(const struct http_head *head, struct http_framing *framing,
                         const char **why)
{
    size_t count;
    const struct http_field *f = find(head, "expect", &count);
    if (count > 1 || (f && !value_is(f, "100-continue")))
        return refuse(417, why, "the only Expect we know is 100-continue");
    framing->expects_continue = f && framing->body_size > 0;

    f = find(head, "content-encoding", &count);
    bool gzip = f && (value_is(f, "gzip") || value_is(f, "x-gzip"));
    if (count > 1 || (f && !gzip && !value_is(f, "identity")))
        return refuse(415, why, "the only Content-Encoding we take is gzip");
    framing->gzip_body = gzip;
    return 0;
}

static void skip_spaces(const char **p, const char *end)
{
    while (*p < end && (**p == ' ' || **p == '\t'))
        ++*p;
}

/* q=0, q=0.0 and so on: listed in order to be refused. */
static bool weight_is_zero(const char *p, const char *end)
{
    skip_spaces(&p, end);
    if (p == end || *p++ != ';') return false;
    skip_spaces(&p, end);
    if (end - p < 3 || tolower((unsigned char)p[0]) != 'q' || p[1] != '=') return false;
    for (p += 2; p < end; p++)
        if (*p >= '1' && *p <= '9') return false;
    return true;
}

/* Does one member of an Accept-Encoding list ask for gzip? */
static bool accepts_gzip(const char *p, const char *end)
{
    skip_spaces(&p, end);
    const char *word = p;
    while (p < end && token_char(*p))
        p++;
    size_t size = (size_t)(p - word);
    bool gzip = size == 4 && strncasecmp(word, "gzip", 4) == 0;
    return gzip && !weight_is_zero(p, end);
}

static bool takes_gzip(const struct http_head *head)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const struct http_field *f = &head->fields[i];
        if (!named(f, "accept-encoding")) continue;
        const char *end = f->value + f->value_size;
        for (const char *p = f->value; p < end;) {
            const char *comma = memchr(p, ',', (size_t)(end - p));
            const char *stop = comma ? comma : end;
            if (accepts_gzip(p, stop)) return true;
            p = comma ? comma + 1 : end;
        }
    }
    return false;
}

int http_head_check(const struct http_head *head, struct http_framing *framing,
                    const char **why)
{
    *framing = (struct http_framing){0};
    int status = check_request_line(head, why);
    if (!status) status = check_fields(head, why);
    if (!status) status = check_length(head, framing, why);
    if (!status) status = check_content(head, framing, why);
    if (!status) framing->gzip_answer = takes_gzip(head);
    return status;
}

static bool only_spaces(const char *from, const char *to)
{
    for (; from < to; from++)
        if (*from != ' ' && *from != '\t') return false;
    return true;
}

/*
 * A bare LF leaves one NUL where CRLF leaves two, so the next line lies one byte
 * nearer; a folded line moves its name elsewhere; a NUL in a value cuts it short.
 */
bool http_head_layout_strict(const struct http_head *head)
{
    const char *end = head->method + head->size;
    const char *next = head->method + strlen(head->method) + 1;
    if (head->target != next) return false;
    next += head->target_size + 1;
    if (head->version != next) return false;
    next += strlen(head->version) + 2;

    for (size_t i = 0; i < head->field_count && i < HTTP_FIELDS_MAX; i++) {
        const struct http_field *f = &head->fields[i];
        const char *colon = f->name + f->name_size;
        if (f->name != next || f->value <= colon || f->value > end) return false;
        if (!only_spaces(colon + 1, f->value)) return false;
        next = f->value + f->value_size + 2;
        if (next > end) return false;
    }
    return next + 2 == end;
}

bool http_request_id_sane(const char *id)
{
    size_t size = strlen(id);
    if (size == 0 || size > HTTP_REQUEST_ID_MAX) return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)id[i]) && !strchr("._-", id[i])) return false;
    return true;
}
