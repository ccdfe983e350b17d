#include "http/http_head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static int refuse(int status, const char **why, const char *words)
{
    *why = words;
    return status;
}

/* ---- lists, RFC 9110 5.6.1: members between commas, each with parameters ---- */

static void skip_spaces(const char **p)
{
    while (**p == ' ' || **p == '\t')
        ++*p;
}

/* The next member of a list: its first word. False at the end. */
static bool next_member(const char **rest, struct slice *word)
{
    while (**rest && strchr(",; \t", **rest))
        ++*rest;
    size_t size = strcspn(*rest, " \t,;");
    *word = slice_of(*rest, size);
    *rest += size;
    return size > 0;
}

static void skip_member(const char **rest)
{
    *rest += strcspn(*rest, ",");
}

static bool word_is(struct slice word, const char *text)
{
    return word.size == strlen(text) &&
           strncasecmp((const char *)word.data, text, word.size) == 0;
}

/* q=0, q=0.0 and so on: listed in order to be refused. p stands behind the word. */
static bool weight_is_zero(const char *p)
{
    skip_spaces(&p);
    if (*p++ != ';') return false;
    skip_spaces(&p);
    if (tolower((unsigned char)p[0]) != 'q' || p[1] != '=') return false;
    size_t size = strcspn(p + 2, ",");
    return size > 0 && strcspn(p + 2, "123456789") >= size;
}

/* Is the word in one of the lists of that name, and not with a weight of zero? */
static bool listed(const struct http_parse *head, const char *name, const char *text)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const char *field = (const char *)head->text.data + head->fields[i].name;
        const char *rest = (const char *)head->text.data + head->fields[i].value;
        struct slice word;
        if (strcasecmp(field, name) != 0) continue;
        for (; next_member(&rest, &word); skip_member(&rest))
            if (word_is(word, text) && !weight_is_zero(rest)) return true;
    }
    return false;
}

/* ---- the terms ---- */

static size_t query_parts(const char *target)
{
    size_t parts = 1;
    for (; *target; target++)
        parts += *target == '&';
    return parts;
}

/* RFC 9112 9.3. */
static bool keeps_alive(const struct http_parse *head)
{
    if (listed(head, "Connection", "close")) return false;
    return head->minor == 1 || listed(head, "Connection", "keep-alive");
}

static bool gzip_coding(const char *coding)
{
    return strcasecmp(coding, "gzip") == 0 || strcasecmp(coding, "x-gzip") == 0;
}

int http_head_terms(struct http_parse *head, struct http_terms *terms, const char **why)
{
    size_t expects, codings;
    const char *expect = http_parse_find(head, "Expect", &expects);
    const char *coding = http_parse_find(head, "Content-Encoding", &codings);
    *terms = (struct http_terms){.keep_alive = keeps_alive(head)};

    if (query_parts(http_parse_target(head)) > HTTP_QUERY_PARTS_MAX)
        return refuse(414, why, "the query string has more than 64 parts");
    if (expects > 1 || (expect && strcasecmp(expect, "100-continue") != 0))
        return refuse(417, why, "the only Expect we know is 100-continue");
    terms->gzip_body = coding && gzip_coding(coding);
    if (codings > 1 ||
        (coding && !terms->gzip_body && strcasecmp(coding, "identity") != 0))
        return refuse(415, why, "the only Content-Encoding we take is gzip");
    /* RFC 9110 10.1.1: from an HTTP/1.0 client it means nothing. */
    terms->expects_continue = expect && head->minor == 1 && head->body_size > 0;
    terms->gzip_answer = listed(head, "Accept-Encoding", "gzip");
    return 0;
}

const char *http_head_id(const struct http_parse *head)
{
    const char *id = http_parse_find(head, "X-Request-Id", NULL);
    if (!id) return NULL;
    size_t size = strlen(id);
    if (size == 0 || size > HTTP_REQUEST_ID_MAX) return NULL;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)id[i]) && !strchr("._-", id[i])) return NULL;
    return id;
}
