/*
 * One function per state; it takes what it can of the bytes it is shown. A part with a
 * ceiling (request line, fields, extensions, trailer) is shown no more bytes than its
 * allowance, so where the input was cut makes no difference.
 *
 * text holds the head without its punctuation: a NUL ends each part where a space, a
 * colon or CRLF stood.
 */
#include "http/http_parse.h"

#include <string.h>
#include <strings.h>

enum state {
    STATE_START,
    STATE_START_LF,
    STATE_METHOD,
    STATE_TARGET,
    STATE_VERSION,
    STATE_LINE_LF,
    STATE_FIELD,
    STATE_NAME,
    STATE_VALUE_SPACE,
    STATE_VALUE,
    STATE_VALUE_LF,
    STATE_HEAD_LF,
    STATE_BODY,
    STATE_CHUNK_SIZE,
    STATE_CHUNK_EXTENSION,
    STATE_CHUNK_SIZE_LF,
    STATE_CHUNK_DATA,
    STATE_CHUNK_CR,
    STATE_CHUNK_LF,
    STATE_TRAILER,
    STATE_TRAILER_NAME,
    STATE_TRAILER_VALUE,
    STATE_TRAILER_VALUE_LF,
    STATE_TRAILER_LF,
    STATE_END,
    STATE_BAD
};

enum { CRLF = 2, CHUNK_DIGITS_MAX = 16 };

static const char VERSION[] = "HTTP/";
static const char version_why[] =
    "the request line must end in HTTP/1.1 or HTTP/1.0 and CRLF";
static const char target_why[] =
    "the request target must be a path that starts with '/', "
    "alone or behind http://host";

/* ---- sets of bytes ---- */

struct set {
    uint64_t words[4];
};

#define BIT(c)            (UINT64_C(1) << ((c)&63))
#define RANGE(first, end) (BIT(end) - BIT(first)) /* both in one word; without end */

/* RFC 9110 5.6.2. */
static const struct set token_set = {
    {BIT('!') | RANGE('#', '\'' + 1) | BIT('*') | BIT('+') | BIT('-') | BIT('.') |
         RANGE('0', '9' + 1),
     RANGE('A', 'Z' + 1) | RANGE('^', 'z' + 1) | BIT('|') | BIT('~'), 0, 0}};
/* Visible ASCII: everything else must be percent-encoded. */
static const struct set target_set = {{~(BIT('!') - 1), ~BIT(0x7f), 0, 0}};
/* Visible characters, spaces, tabs and bytes above ASCII: no control characters. */
static const struct set value_set = {
    {~(BIT(' ') - 1) | BIT('\t'), ~BIT(0x7f), UINT64_MAX, UINT64_MAX}};
/* A host and a port, RFC 3986; userinfo is none of it. */
static const struct set host_set = {
    {BIT('!') | RANGE('$', ',' + 1) | RANGE('-', '/') | RANGE('0', ';' + 1) | BIT('='),
     RANGE('A', '[' + 1) | BIT(']') | BIT('_') | RANGE('a', 'z' + 1) | BIT('~'), 0, 0}};

static bool in_set(const struct set *set, uint8_t c)
{
    return set->words[c >> 6] & BIT(c);
}

/* How many of the first bytes belong to the set. */
static size_t run(struct slice in, const struct set *set)
{
    size_t size = 0;
    while (size < in.size && in_set(set, in.data[size]))
        size++;
    return size;
}

/* ---- small steps ---- */

static enum http_event bad(struct http_parse *p, int status, const char *why)
{
    p->state = STATE_BAD;
    p->status = status;
    p->why = why;
    return HTTP_BAD;
}

static enum http_event go(struct http_parse *p, enum state state)
{
    p->state = (int)state;
    return HTTP_MORE;
}

static void skip(struct slice *in, size_t size)
{
    *in = slice_of(in->data + size, in->size - size);
}

static void keep(struct http_parse *p, struct slice *in, size_t size)
{
    buf_append(&p->text, in->data, size);
    skip(in, size);
}

static enum http_event expect(struct http_parse *p, struct slice *in, uint8_t byte,
                              enum state state, const char *why)
{
    if (in->data[0] != byte) return bad(p, 400, why);
    skip(in, 1);
    return go(p, state);
}

/* ---- the request line ---- */

/* One empty line before a request is forgiven, RFC 9112 2.2. */
static enum http_event at_start(struct http_parse *p, struct slice *in)
{
    if (in->data[0] != '\r') return go(p, STATE_METHOD);
    skip(in, 1);
    return go(p, STATE_START_LF);
}

static enum http_event at_start_lf(struct http_parse *p, struct slice *in)
{
    return expect(p, in, '\n', STATE_METHOD, "the request begins with a bare CR");
}

static enum http_event in_method(struct http_parse *p, struct slice *in)
{
    keep(p, in, run(*in, &token_set));
    if (in->size == 0) return HTTP_MORE;
    if (in->data[0] != ' ' || p->text.size == 0)
        return bad(p, 400, "the request does not begin with a method and one space");
    skip(in, 1);
    buf_append_byte(&p->text, '\0');
    p->target = p->text.size;
    return go(p, STATE_TARGET);
}

/* The size of "http://host:port" before the path of an absolute target; 0: it is none.
 */
static size_t origin_size(struct slice target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t scheme = strlen(schemes[i]);
        if (target.size < scheme ||
            strncasecmp((const char *)target.data, schemes[i], scheme) != 0)
            continue;
        struct slice rest = slice_of(target.data + scheme, target.size - scheme);
        size_t host = run(rest, &host_set);
        bool ends =
            host == rest.size || rest.data[host] == '/' || rest.data[host] == '?';
        return host > 0 && rest.data[0] != ':' && ends ? scheme + host : 0;
    }
    return 0;
}

/*
 * A path stays as it is; of an absolute target the path is left, RFC 9112 3.2.2. Which
 * host was meant makes no difference here: every name that leads to us is ours.
 */
static bool reduce_to_path(struct http_parse *p)
{
    uint8_t *target = p->text.data + p->target;
    struct slice whole = slice_of(target, p->text.size - p->target);
    if (whole.size && whole.data[0] == '/') return true;
    size_t origin = origin_size(whole);
    if (origin == 0) return false;
    /* What follows starts with '/', or gets one. */
    if (origin == whole.size || target[origin] == '?') target[--origin] = '/';
    memmove(target, target + origin, whole.size - origin);
    p->text.size -= origin;
    return true;
}

static enum http_event in_target(struct http_parse *p, struct slice *in)
{
    if (p->text.size == p->target && in->data[0] != '/' && (in->data[0] | 0x20) != 'h')
        return bad(p, 400, target_why);
    keep(p, in, run(*in, &target_set));
    if (in->size == 0) return HTTP_MORE;
    if (in->data[0] == '\r' || in->data[0] == '\n') return bad(p, 400, version_why);
    if (in->data[0] != ' ')
        return bad(p, 400,
                   "the request target holds a character that must be percent-encoded");
    skip(in, 1);
    if (!reduce_to_path(p)) return bad(p, 400, target_why);
    p->target_size = p->text.size - p->target;
    buf_append_byte(&p->text, '\0');
    p->digits = 0;
    return go(p, STATE_VERSION);
}

static bool digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* HTTP/D.D and CR; digits counts the characters so far, minor notes that both are ours.
 */
static enum http_event in_version(struct http_parse *p, struct slice *in)
{
    enum { MAJOR = sizeof VERSION - 1, DOT, MINOR, CR };
    uint8_t c = in->data[0];
    size_t i = p->digits++;
    skip(in, 1);
    if (i < MAJOR)
        return c == (uint8_t)VERSION[i] ? HTTP_MORE : bad(p, 400, version_why);
    switch (i) {
    case MAJOR:
        p->minor = c == '1' ? 0 : -1;
        return digit(c) ? HTTP_MORE : bad(p, 400, version_why);
    case DOT: return c == '.' ? HTTP_MORE : bad(p, 400, version_why);
    case MINOR:
        if (!digit(c)) return bad(p, 400, version_why);
        p->minor = p->minor == 0 && c <= '1' ? c - '0' : -1;
        return HTTP_MORE;
    default: break;
    }
    if (c != '\r') return bad(p, 400, version_why);
    if (p->minor < 0) return bad(p, 505, "the protocol must be HTTP/1.1 or HTTP/1.0");
    return go(p, STATE_LINE_LF);
}

/* What the line left over is the fields' as well. */
static enum http_event at_line_lf(struct http_parse *p, struct slice *in)
{
    p->allowance += HTTP_HEAD_BYTES_MAX - (HTTP_REQUEST_LINE_MAX + CRLF);
    return expect(p, in, '\n', STATE_FIELD, version_why);
}

/* ---- fields ---- */

static const char fold_why[] = "a line of the head is folded";
static const char name_why[] =
    "a header field must be a name, a colon without space before it, and a value";
static const char value_why[] = "a header field's value holds a control character";
static const char line_why[] = "a line must end in CRLF";

static enum http_event at_field(struct http_parse *p, struct slice *in)
{
    uint8_t c = in->data[0];
    if (c == '\r') {
        skip(in, 1);
        return go(p, STATE_HEAD_LF);
    }
    if (c == ' ' || c == '\t') return bad(p, 400, fold_why);
    if (p->field_count == HTTP_FIELDS_MAX)
        return bad(p, 431, "the request has more than 100 header fields");
    p->fields[p->field_count].name = (uint16_t)p->text.size;
    return go(p, STATE_NAME);
}

static enum http_event in_name(struct http_parse *p, struct slice *in)
{
    struct http_field *f = &p->fields[p->field_count];
    keep(p, in, run(*in, &token_set));
    if (in->size == 0) return HTTP_MORE;
    if (in->data[0] != ':' || p->text.size == f->name) return bad(p, 400, name_why);
    skip(in, 1);
    buf_append_byte(&p->text, '\0');
    f->value = (uint16_t)p->text.size;
    return go(p, STATE_VALUE_SPACE);
}

static bool space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static enum http_event at_value_space(struct http_parse *p, struct slice *in)
{
    while (in->size && space(in->data[0]))
        skip(in, 1);
    return in->size ? go(p, STATE_VALUE) : HTTP_MORE;
}

static enum http_event in_value(struct http_parse *p, struct slice *in)
{
    keep(p, in, run(*in, &value_set));
    if (in->size == 0) return HTTP_MORE;
    if (in->data[0] != '\r')
        return bad(p, 400, in->data[0] == '\n' ? line_why : value_why);
    skip(in, 1);
    return go(p, STATE_VALUE_LF);
}

static enum http_event at_value_lf(struct http_parse *p, struct slice *in)
{
    size_t start = p->fields[p->field_count].value;
    if (in->data[0] != '\n') return bad(p, 400, line_why);
    skip(in, 1);
    while (p->text.size > start && space(p->text.data[p->text.size - 1]))
        p->text.size--;
    buf_append_byte(&p->text, '\0');
    p->field_count++;
    return go(p, STATE_FIELD);
}

/* ---- what the head says about the body ---- */

static bool host_clean(const char *host)
{
    struct slice s = slice_str(host);
    return run(s, &host_set) == s.size;
}

static bool check_host(struct http_parse *p)
{
    size_t count;
    const char *host = http_parse_find(p, "Host", &count);
    const char *why = NULL;
    if (count > 1) why = "the request has more than one Host";
    if (count == 0 && p->minor == 1) why = "an HTTP/1.1 request needs a Host";
    if (host && !host_clean(host)) why = "Host must be a name or address and a port";
    if (why) (void)bad(p, 400, why);
    return !why;
}

/* Digits only; false on overflow too. */
static bool parse_length(const char *text, uint64_t *size)
{
    const char *c = text;
    *size = 0;
    for (; *c; c++) {
        if (!digit((uint8_t)*c) || *size > (UINT64_MAX - 9) / 10) return false;
        *size = *size * 10 + (uint64_t)(*c - '0');
    }
    return c > text;
}

static bool check_length(struct http_parse *p)
{
    size_t lengths, codings;
    const char *length = http_parse_find(p, "Content-Length", &lengths);
    const char *coding = http_parse_find(p, "Transfer-Encoding", &codings);
    int status = 400;
    const char *why = NULL;

    p->body_size = 0;
    if (codings && lengths) {
        why = "the request has both Content-Length and Transfer-Encoding";
    } else if (codings > 1 || (coding && strcasecmp(coding, "chunked") != 0)) {
        status = 501;
        why = "the only Transfer-Encoding we take is chunked";
    } else if (coding && p->minor == 0) {
        why = "HTTP/1.0 has no Transfer-Encoding";
    } else if (lengths > 1) {
        why = "the request has more than one Content-Length";
    } else if (coding) {
        p->body_size = HTTP_BODY_UNKNOWN;
    } else if (length && !parse_length(length, &p->body_size)) {
        why = "Content-Length must be a number of bytes";
    }
    if (why) (void)bad(p, status, why);
    return !why;
}

static enum http_event at_head_lf(struct http_parse *p, struct slice *in)
{
    if (in->data[0] != '\n') return bad(p, 400, line_why);
    skip(in, 1);
    if (!check_host(p) || !check_length(p)) return HTTP_BAD;
    p->left = p->body_size;
    p->digits = 0;
    p->extensions = HTTP_CHUNK_EXTENSIONS_MAX;
    (void)go(p, p->body_size == HTTP_BODY_UNKNOWN ? STATE_CHUNK_SIZE
                : p->left                         ? STATE_BODY
                                                  : STATE_END);
    return HTTP_HEAD;
}

/* ---- bodies ---- */

static struct slice take(struct http_parse *p, struct slice *in)
{
    size_t size = in->size < p->left ? in->size : (size_t)p->left;
    struct slice piece = slice_of(in->data, size);
    skip(in, size);
    p->left -= size;
    return piece;
}

static const char chunk_why[] = "the chunks of the body are malformed";

static int hex_value(uint8_t c)
{
    if (digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum http_event in_chunk_size(struct http_parse *p, struct slice *in)
{
    uint8_t c = in->data[0];
    int value = hex_value(c);
    if (p->digits == 0) p->left = 0;
    if (value >= 0) {
        if (p->digits == CHUNK_DIGITS_MAX) return bad(p, 400, chunk_why);
        p->digits++;
        p->left = p->left << 4 | (uint64_t)value;
        skip(in, 1);
        return HTTP_MORE;
    }
    if (p->digits == 0 || (c != '\r' && c != ';')) return bad(p, 400, chunk_why);
    skip(in, 1);
    p->allowance = p->extensions;
    return go(p, c == ';' ? STATE_CHUNK_EXTENSION : STATE_CHUNK_SIZE_LF);
}

static enum http_event in_chunk_extension(struct http_parse *p, struct slice *in)
{
    skip(in, run(*in, &value_set));
    if (in->size == 0) return HTTP_MORE;
    return expect(p, in, '\r', STATE_CHUNK_SIZE_LF, chunk_why);
}

static enum http_event at_chunk_size_lf(struct http_parse *p, struct slice *in)
{
    p->extensions = p->allowance;
    p->digits = 0;
    if (p->left) return expect(p, in, '\n', STATE_CHUNK_DATA, chunk_why);
    p->allowance = HTTP_TRAILER_BYTES_MAX;
    return expect(p, in, '\n', STATE_TRAILER, chunk_why);
}

static enum http_event at_chunk_cr(struct http_parse *p, struct slice *in)
{
    return expect(p, in, '\r', STATE_CHUNK_LF, chunk_why);
}

static enum http_event at_chunk_lf(struct http_parse *p, struct slice *in)
{
    return expect(p, in, '\n', STATE_CHUNK_SIZE, chunk_why);
}

/* ---- the trailer: checked like fields, and dropped ---- */

static enum http_event at_trailer(struct http_parse *p, struct slice *in)
{
    if (in->data[0] == '\r') {
        skip(in, 1);
        return go(p, STATE_TRAILER_LF);
    }
    if (p->trailers++ == HTTP_FIELDS_MAX)
        return bad(p, 431, "the request has more than 100 trailer fields");
    if (!in_set(&token_set, in->data[0])) return bad(p, 400, name_why);
    return go(p, STATE_TRAILER_NAME);
}

static enum http_event in_trailer_name(struct http_parse *p, struct slice *in)
{
    skip(in, run(*in, &token_set));
    if (in->size == 0) return HTTP_MORE;
    return expect(p, in, ':', STATE_TRAILER_VALUE, name_why);
}

static enum http_event in_trailer_value(struct http_parse *p, struct slice *in)
{
    skip(in, run(*in, &value_set));
    if (in->size == 0) return HTTP_MORE;
    return expect(p, in, '\r', STATE_TRAILER_VALUE_LF,
                  in->data[0] == '\n' ? line_why : value_why);
}

static enum http_event at_trailer_value_lf(struct http_parse *p, struct slice *in)
{
    return expect(p, in, '\n', STATE_TRAILER, line_why);
}

static enum http_event at_trailer_lf(struct http_parse *p, struct slice *in)
{
    return expect(p, in, '\n', STATE_END, line_why);
}

/* ---- the machine ---- */

typedef enum http_event step(struct http_parse *p, struct slice *in);

static step *const steps[] = {
    [STATE_START] = at_start,
    [STATE_START_LF] = at_start_lf,
    [STATE_METHOD] = in_method,
    [STATE_TARGET] = in_target,
    [STATE_VERSION] = in_version,
    [STATE_LINE_LF] = at_line_lf,
    [STATE_FIELD] = at_field,
    [STATE_NAME] = in_name,
    [STATE_VALUE_SPACE] = at_value_space,
    [STATE_VALUE] = in_value,
    [STATE_VALUE_LF] = at_value_lf,
    [STATE_HEAD_LF] = at_head_lf,
    [STATE_CHUNK_SIZE] = in_chunk_size,
    [STATE_CHUNK_EXTENSION] = in_chunk_extension,
    [STATE_CHUNK_SIZE_LF] = at_chunk_size_lf,
    [STATE_CHUNK_CR] = at_chunk_cr,
    [STATE_CHUNK_LF] = at_chunk_lf,
    [STATE_TRAILER] = at_trailer,
    [STATE_TRAILER_NAME] = in_trailer_name,
    [STATE_TRAILER_VALUE] = in_trailer_value,
    [STATE_TRAILER_VALUE_LF] = at_trailer_value_lf,
    [STATE_TRAILER_LF] = at_trailer_lf,
};

/* Which parts have a ceiling, and what one that is reached means. */
static bool bounded(int state)
{
    return (state >= STATE_METHOD && state <= STATE_HEAD_LF) ||
           state == STATE_CHUNK_EXTENSION ||
           (state >= STATE_TRAILER && state <= STATE_TRAILER_LF);
}

static enum http_event too_long(struct http_parse *p)
{
    if (p->state <= STATE_LINE_LF)
        return bad(p, 414, "the request line is longer than 8192 bytes");
    if (p->state <= STATE_HEAD_LF)
        return bad(p, 431, "the head of the request is larger than 16384 bytes");
    if (p->state == STATE_CHUNK_EXTENSION)
        return bad(p, 400, "the chunk extensions are larger than 4096 bytes");
    return bad(p, 431, "the trailer is larger than 4096 bytes");
}

static enum http_event bounded_step(struct http_parse *p, struct slice *in)
{
    struct slice shown = *in;
    if (shown.size > p->allowance) shown.size = p->allowance;
    if (shown.size == 0) return too_long(p);
    const uint8_t *start = shown.data;
    enum http_event event = steps[p->state](p, &shown);
    size_t taken = (size_t)(shown.data - start);
    p->allowance -= taken;
    skip(in, taken);
    return event;
}

static enum http_event body_step(struct http_parse *p, struct slice *in,
                                 struct slice *piece)
{
    *piece = take(p, in);
    if (p->left == 0)
        (void)go(p, p->state == STATE_CHUNK_DATA ? STATE_CHUNK_CR : STATE_END);
    return HTTP_BODY;
}

enum http_event http_parse(struct http_parse *p, struct slice *in, struct slice *piece)
{
    enum http_event event = HTTP_MORE;
    while (event == HTTP_MORE) {
        if (p->state == STATE_END) return HTTP_END;
        if (p->state == STATE_BAD) return HTTP_BAD;
        if (in->size == 0) return HTTP_MORE;
        if (p->state == STATE_BODY || p->state == STATE_CHUNK_DATA)
            event = body_step(p, in, piece);
        else
            event = bounded(p->state) ? bounded_step(p, in) : steps[p->state](p, in);
    }
    return event;
}

void http_parse_init(struct http_parse *p)
{
    *p = (struct http_parse){.state = STATE_START,
                             .allowance = HTTP_REQUEST_LINE_MAX + CRLF};
}

void http_parse_release(struct http_parse *p)
{
    buf_release(&p->text);
}

static const char *text_at(const struct http_parse *p, size_t offset)
{
    return (const char *)p->text.data + offset;
}

bool http_parse_begun(const struct http_parse *p)
{
    return p->text.size > 0;
}

const char *http_parse_method(const struct http_parse *p)
{
    return text_at(p, 0);
}

char *http_parse_target(struct http_parse *p)
{
    return (char *)p->text.data + p->target;
}

const char *http_parse_find(const struct http_parse *p, const char *name, size_t *count)
{
    const char *first = NULL;
    size_t found = 0;
    for (size_t i = 0; i < p->field_count; i++) {
        if (strcasecmp(text_at(p, p->fields[i].name), name) != 0) continue;
        if (!first) first = text_at(p, p->fields[i].value);
        found++;
    }
    if (count) *count = found;
    return first;
}
