/*
 * A page gives keys and folded names apart, each in order; they are merged here. What a
 * store makes of start-after differs where it lies outside the prefix or in a folded
 * folder, so it is only used where all agree: inside the prefix, and for a folder that
 * was seen, behind everything in it.
 */
#include "store/s3_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "store/s3_xml.h"
#include "store/store.h"

enum { PAGE_MAX = 1000, PAGE_BYTES_MAX = 16 << 20, TOKEN_MAX = S3_XML_TEXT_MAX };
enum { EXTRA = 16, GATHERED_MAX = 1000000 }; /* for stores that walk folders, below */

struct page {
    struct buf keys, prefixes; /* names, each with its terminator */
    size_t key_count, prefix_count;
    bool encoded, truncated, told_truncated;
    char token[TOKEN_MAX + 1];
    char server[S3_WORD_MAX];
};

static int hex_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void append_decoded(const char *text, bool encoded, struct buf *out)
{
    for (; *text; text++) {
        int high = encoded && *text == '%' ? hex_of(text[1]) : -1;
        int low = high >= 0 ? hex_of(text[2]) : -1;
        if (low >= 0) {
            buf_append_byte(out, (uint8_t)(16 * high + low));
            text += 2;
        } else {
            buf_append_byte(out, (uint8_t)(encoded && *text == '+' ? ' ' : *text));
        }
    }
    buf_append_byte(out, '\0');
}

static bool element(void *context, const char *path, const char *text)
{
    struct page *p = context;
    if (strcmp(path, "Contents/Key") == 0) {
        append_decoded(text, p->encoded, &p->keys);
        p->key_count++;
    } else if (strcmp(path, "CommonPrefixes/Prefix") == 0) {
        append_decoded(text, p->encoded, &p->prefixes);
        p->prefix_count++;
    } else if (strcmp(path, "IsTruncated") == 0) {
        p->told_truncated = true;
        p->truncated = strcmp(text, "true") == 0;
        return p->truncated || strcmp(text, "false") == 0;
    } else if (strcmp(path, "NextContinuationToken") == 0) {
        (void)snprintf(p->token, sizeof p->token, "%s", text);
    }
    return p->key_count + p->prefix_count <= 2 * PAGE_MAX;
}

static bool encoding(void *context, const char *path, const char *text)
{
    struct page *p = context;
    if (strcmp(path, "EncodingType") == 0) p->encoded = strcmp(text, "url") == 0;
    return true;
}

static void page_clear(struct page *p)
{
    buf_clear(&p->keys);
    buf_clear(&p->prefixes);
    p->key_count = p->prefix_count = 0;
    p->encoded = p->truncated = p->told_truncated = false;
    p->token[0] = '\0';
}

/* EncodingType may stand behind the keys, so it is looked for first. */
static bool page_good(const struct s3_request *r, void *context)
{
    struct page *p = context;
    struct slice xml = buf_slice(&r->answer.body);
    page_clear(p);
    memcpy(p->server, r->answer.server, sizeof p->server);
    return s3_xml_read(xml, "ListBucketResult", encoding, p) &&
           s3_xml_read(xml, "ListBucketResult", element, p) && p->told_truncated &&
           (!p->truncated || *p->token);
}

/* ---- merging ---- */

struct names {
    const char *at;
    size_t left;
    const char *previous;
};

static void step(struct names *n)
{
    n->previous = n->at;
    n->at += strlen(n->at) + 1;
    n->left--;
}

static bool in_order(const struct names *n)
{
    return !n->left || !n->previous || strcmp(n->previous, n->at) < 0;
}

/* Names that users put there, beside ours. */
static bool ours(const char *name)
{
    char plain[STORE_KEY_MAX + 2];
    size_t size = strlen(name);
    if (size == 0 || size > STORE_KEY_MAX + 1) return false;
    memcpy(plain, name, size + 1);
    if (plain[size - 1] == '/') plain[size - 1] = '\0';
    return store_key_valid(plain);
}

static enum err take_page(struct op *op, struct s3_list *list, const struct page *p,
                          const char **last)
{
    struct names keys = {(const char *)p->keys.data, p->key_count, NULL};
    struct names folded = {(const char *)p->prefixes.data, p->prefix_count, NULL};

    while ((keys.left || folded.left) && list->count < list->room) {
        bool key = !folded.left || (keys.left && strcmp(keys.at, folded.at) < 0);
        struct names *from = key ? &keys : &folded;
        const char *name = from->at;
        if (!in_order(from))
            return op_fail(op, ERR_CORRUPT,
                           "the store does not list keys in byte order, at %s", name);
        step(from);
        if (strcmp(name, *last) <= 0 || !ours(name)) continue;
        const char *copy = (const char *)op_copy(op, slice_str(name)).data;
        if (!copy) return ERR_LIMIT;
        list->keys[list->count++] = copy;
        *last = copy;
    }
    return ERR_OK;
}

/* ---- asking ---- */

/*
 * MinIO stops walking after so many entries and only then drops those that are not
 * behind start-after; walking folder by folder it meets "a-b/" behind "a", though
 * "a-b/" sorts before "a/". So where start-after lies in a folder below the prefix, its
 * pages can end early and call themselves the last (seen with the head of 2026-02).
 * Such an end is not believed: the list is walked again from the prefix, which it gets
 * right. Of any store, for a proxy in front of MinIO hides its name.
 */
static bool may_end_early(const struct s3_list *list, const struct page *p,
                          const char *start)
{
    if (!*start || p->truncated) return false;
    return strchr(start + strlen(list->prefix), '/') != NULL;
}

static bool walks_folders(const struct page *p)
{
    return strstr(p->server, "SeaweedFS");
}

/* Where to start: "" from the prefix; NULL: nothing can follow. */
static const char *start_after(struct op *op, const struct s3_list *list)
{
    size_t size = strlen(list->prefix);
    if (strncmp(list->after, list->prefix, size) != 0)
        return strcmp(list->after, list->prefix) < 0 ? "" : NULL;
    const char *slash =
        list->delimiter ? strchr(list->after + size, list->delimiter) : NULL;
    if (!slash) return list->after;
    /* All of the folder folds into a name that is not behind after. '~' is above every
     * byte of our keys. */
    return op_printf(op, "%.*s~", (int)(slash + 1 - list->after), list->after);
}

static enum err ask(struct op *op, struct s3_list *list, const char *start, size_t left,
                    struct page *p)
{
    char max[16];
    char *token = *p->token ? mem_strdup(p->token) : NULL;
    (void)snprintf(max, sizeof max, "%zu", left < PAGE_MAX ? left : (size_t)PAGE_MAX);
    struct s3_request r = {.kind = S3_READ,
                           .method = "GET",
                           .key = "",
                           .query = {{"list-type", "2"},
                                     {"encoding-type", "url"},
                                     {"max-keys", max}},
                           .query_count = 3,
                           .body_max = PAGE_BYTES_MAX,
                           .check = page_good,
                           .context = p};
    if (*list->prefix)
        r.query[r.query_count++] = (struct s3_field){"prefix", list->prefix};
    if (list->delimiter && !atomic_load(list->by_folder))
        r.query[r.query_count++] = (struct s3_field){"delimiter", "/"};
    if (token)
        r.query[r.query_count++] = (struct s3_field){"continuation-token", token};
    else if (*start)
        r.query[r.query_count++] = (struct s3_field){"start-after", start};

    if (list->pages++) op->counters.store_requests++; /* store_list counted the first */
    enum err e = s3_client_run(op, list->client, &r, 1);
    if (!e) e = s3_client_result(op, list->client, &r);
    if (e == ERR_NOT_FOUND) e = op_fail(op, ERR_IO, "list");
    s3_request_release(&r);
    mem_free(token);
    return e;
}

static enum err list_in_order(struct op *op, struct s3_list *list, struct page *p)
{
    const char *start = start_after(op, list), *last = list->after;
    enum err e = ERR_OK;
    if (!start) return ERR_OK;
    for (bool more = true; more && !e;) {
        e = ask(op, list, start, list->room - list->count, p);
        if (!e && walks_folders(p)) return ERR_OK;
        if (!e) e = take_page(op, list, p, &last);
        more = p->truncated;
        if (!e && may_end_early(list, p, start)) {
            start = "";
            more = true;
        }
        if (list->count == list->room) more = false;
    }
    return e;
}

/*
 * ---- stores that walk folders ----
 *
 * SeaweedFS (seen with 4.48) lists folder by folder: as if '/' were below every other
 * byte. So what is in "a/" comes before "a-b" and "a.b", which byte order puts first;
 * nothing else is out of place, for all other bytes of our keys are above '/'. And a
 * start-after that is a folder's name passes over the folder, and a delimiter shows
 * folders whose objects are gone. So names are folded here, and gathered until nothing
 * that is still to come can belong in front of those asked for.
 */

struct gathered {
    const char **names;
    size_t count, room;
    const char *reached; /* the furthest name that the walk came to */
};

static int compare_by_folder(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    int x = *a == '/' ? 1 : (uint8_t)*a, y = *b == '/' ? 1 : (uint8_t)*b;
    return x - y;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Cut in front of the first byte whose place is in doubt, and one more, lest it be a
 * folder's name: nothing behind after lies before that. */
static const char *start_by_folder(struct op *op, const struct s3_list *list)
{
    size_t size = strlen(list->prefix);
    if (strncmp(list->after, list->prefix, size) != 0)
        return strcmp(list->after, list->prefix) < 0 ? "" : NULL;
    const char *rest = list->after + size;
    size_t sure = strcspn(rest, "-./");
    if (sure < 2 || rest[sure] == '/') return "";
    return op_printf(op, "%.*s", (int)(size + sure - 1), list->after);
}

static enum err gather(struct op *op, const struct s3_list *list, struct gathered *g,
                       const struct page *p)
{
    const char *next = (const char *)p->keys.data;
    for (size_t i = 0; i < p->key_count; i++) {
        const char *name = next, *folder = NULL;
        next += strlen(next) + 1;
        if (!ours(name)) continue;
        if (list->delimiter) folder = strchr(name + strlen(list->prefix), '/');
        size_t size = folder ? (size_t)(folder + 1 - name) : strlen(name);
        if (g->count == GATHERED_MAX)
            return op_fail(op, ERR_LIMIT,
                           "more than %d names below %s are out of order", GATHERED_MAX,
                           list->prefix);
        if (g->count == g->room) {
            g->room = g->room ? 2 * g->room : PAGE_MAX;
            g->names = mem_realloc(g->names, g->room * sizeof *g->names);
        }
        const char *copy = (const char *)op_copy(op, slice_of(name, size)).data;
        if (!copy) return ERR_LIMIT;
        if (!g->reached || compare_by_folder(copy, g->reached) > 0) g->reached = copy;
        bool again = g->count && strcmp(copy, g->names[g->count - 1]) == 0;
        if (strcmp(copy, list->after) > 0 && !again) g->names[g->count++] = copy;
    }
    return ERR_OK;
}

static void sort_and_join(struct gathered *g)
{
    size_t kept = 0;
    if (g->count) qsort(g->names, g->count, sizeof *g->names, compare_names);
    for (size_t i = 0; i < g->count; i++)
        if (i == 0 || strcmp(g->names[i], g->names[kept - 1]) != 0)
            g->names[kept++] = g->names[i];
    g->count = kept;
}

/* Whether all before name is known: the walk has left each folder that name is in, and
 * the names that begin like that folder and go on with '-' or '.'. */
static bool settled(const struct s3_list *list, const struct gathered *g,
                    const char *name)
{
    const char *reached = g->reached;
    for (size_t i = strlen(list->prefix); name[i]; i++)
        if (name[i] == '/' && strncmp(name, reached, i) == 0 && reached[i] &&
            strchr("-./", reached[i]))
            return false;
    return true;
}

/* How many of the names asked for are known by now. */
static size_t settled_count(const struct s3_list *list, const struct gathered *g)
{
    size_t n = 0;
    while (n < g->count && n < list->room && settled(list, g, g->names[n]))
        n++;
    return n;
}

static enum err list_by_folder(struct op *op, struct s3_list *list, struct page *p)
{
    struct gathered g = {.count = 0};
    const char *start = start_by_folder(op, list);
    enum err e = ERR_OK;
    if (!start) return ERR_OK;
    page_clear(p);
    for (bool more = true; more && !e;) {
        e = ask(op, list, start, list->delimiter ? PAGE_MAX : list->room + EXTRA, p);
        if (!e) e = gather(op, list, &g, p);
        sort_and_join(&g);
        more = p->truncated && settled_count(list, &g) < list->room;
    }
    list->count = g.count < list->room ? g.count : list->room;
    if (!e && list->count)
        memcpy(list->keys, g.names, list->count * sizeof *list->keys);
    mem_free(g.names);
    return e;
}

enum err s3_list_run(struct op *op, struct s3_list *list)
{
    struct page *p = mem_new(struct page);
    enum err e = ERR_OK;
    list->count = list->pages = 0;
    if (!atomic_load(list->by_folder)) {
        e = list_in_order(op, list, p);
        if (!e && walks_folders(p)) atomic_store(list->by_folder, true);
    }
    if (!e && atomic_load(list->by_folder)) e = list_by_folder(op, list, p);
    buf_release(&p->keys);
    buf_release(&p->prefixes);
    mem_free(p);
    return e;
}
