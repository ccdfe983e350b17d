#include "http/http_answer.h"

#include <inttypes.h>
#include <time.h>

#include "http/http_server.h"

#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
const struct slice http_continue = {(const uint8_t *)CONTINUE, sizeof CONTINUE - 1};

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *words;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
        {508, "Loop Detected"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status) return reasons[i].words;
    return "";
}

/* IMF-fixdate, RFC 9110 5.6.7; strftime would ask the locale. */
static void append_date(int64_t wall_ms, struct buf *out)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm t;
    if (!gmtime_r(&seconds, &t)) return;
    buf_printf(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[t.tm_wday],
               t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min,
               t.tm_sec);
}

bool http_answer_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static const char *connection_line(const struct http_answer_options *o)
{
    if (!o->keep_alive) return "Connection: close\r\n";
    return o->old_client ? "Connection: keep-alive\r\n" : "";
}

void http_answer_head(const struct http_response *a,
                      const struct http_answer_options *options, struct buf *out)
{
    buf_reserve(out, 512);
    buf_printf(out, "HTTP/1.1 %d %s\r\n", a->status, reason(a->status));
    append_date(options->wall_ms, out);
    if (http_answer_has_body(a->status)) {
        if (options->body_size)
            buf_printf(out, "Content-Type: %s\r\n", a->content_type);
        buf_printf(out, "Content-Length: %" PRIu64 "\r\n", options->body_size);
    }
    buf_append_str(out, connection_line(options));
    buf_printf(out, "X-Request-Id: %s\r\n", options->request_id);
    for (size_t i = 0; i < a->header_count; i++)
        buf_printf(out, "%s: %s\r\n", a->headers[i].name, a->headers[i].value);
    buf_append_str(out, "\r\n");
}
