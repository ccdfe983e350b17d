#include "store/s3_credentials.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/s3_http.h"
#include "store/s3_process.h"
#include "store/s3_xml.h"

enum {
    DOCUMENT_MAX = 256 << 10,
    MEMORY_MAX = 4 << 20,
    RENEW_MS = 70000, /* more than any source takes */
    ANSWER_MAX = 64 << 10,
    FETCH_MS = 10000,
    IMDS_MS = 1000,
    PROCESS_MS = 60000,
    RETRY_MS = 10000, /* after a refresh failed while the old ones are good */
    BEFORE_END_MS = 300000,
    WORD_MAX = 16384
};

struct secret {
    struct s3_secret base;
    atomic_uint refs;
};

struct s3_credentials {
    struct s3_http *http;
    const char *const *environment;
    char *region;
    struct mutex lock; /* guards the rest */
    struct cond fetched;
    const struct s3_secret *current; /* NULL: none yet */
    int64_t due_ms;                  /* when to fetch new ones, of clock_wall_ms */
    bool fetching;
};

/* What a source gives; strings on the op's arena. */
struct found {
    const char *access_key, *secret_key, *token, *expiration;
};

const char *s3_environment(const char *const *environment, const char *name)
{
    size_t size = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, size) == 0 && (*environment)[size] == '=')
            return (*environment)[size + 1] ? *environment + size + 1 : NULL;
    return NULL;
}

static const char *env(const struct s3_credentials *c, const char *name)
{
    return s3_environment(c->environment, name);
}

/* ---- documents ---- */

/* A copy that json_open accepts. */
static struct slice padded(struct op *op, struct slice text)
{
    uint8_t *copy = op_alloc(op, text.size + JSON_PADDING);
    if (copy && text.size) memcpy(copy, text.data, text.size);
    return slice_of(copy, text.size);
}

static enum err take_string(struct op *op, struct json_value *v, const char **out)
{
    struct slice text;
    enum json_kind kind;
    enum err e = json_kind_of(op, v, &kind);
    if (e || kind == JSON_NULL) return e;
    e = json_string(op, v, &text);
    if (!e) *out = (const char *)op_copy(op, text).data;
    return e;
}

static const char **field_of(struct found *found, struct slice key)
{
    if (slice_equal(key, slice_str("AccessKeyId"))) return &found->access_key;
    if (slice_equal(key, slice_str("SecretAccessKey"))) return &found->secret_key;
    if (slice_equal(key, slice_str("SessionToken"))) return &found->token;
    if (slice_equal(key, slice_str("Token"))) return &found->token;
    if (slice_equal(key, slice_str("Expiration"))) return &found->expiration;
    return NULL;
}

/* What containers, instances and credential processes answer. */
static enum err read_json(struct op *op, struct slice text, struct found *found)
{
    struct json *json = NULL;
    struct json_value root, value;
    struct json_walk walk;
    struct slice key;
    bool more = true;

    enum err e = json_open(op, padded(op, text), &json, &root);
    if (!e) e = json_object(op, &root, &walk);
    while (!e) {
        e = json_next(op, &walk, &more, &key, &value);
        if (e || !more) break;
        const char **field = field_of(found, key);
        if (field) e = take_string(op, &value, field);
    }
    json_close(json);
    if (!e) return ERR_OK;
    op_clear_error(op); /* the words may quote the text, and that holds the secret */
    return op_fail(op, ERR_DENIED, "its answer is not the JSON expected");
}

struct sts {
    struct op *op;
    struct found *found;
};

static bool sts_element(void *context, const char *path, const char *text)
{
    static const char within[] = "AssumeRoleWithWebIdentityResult/Credentials/";
    struct sts *sts = context;
    if (strncmp(path, within, sizeof within - 1) != 0) return true;
    const char **field = field_of(sts->found, slice_str(path + sizeof within - 1));
    if (field) *field = (const char *)op_copy(sts->op, slice_str(text)).data;
    return true;
}

static int64_t wall_ms_of(const char *iso)
{
    struct tm utc = {0};
    if (!iso || !strptime(iso, "%Y-%m-%dT%H:%M:%S", &utc)) return INT64_MAX;
    return (int64_t)timegm(&utc) * 1000;
}

/* It goes into a header, so a control character would let it write others. */
static bool printable(const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if (text[i] < ' ' || text[i] > '~') return false;
    return size <= WORD_MAX;
}

static enum err accept(struct op *op, const struct found *found,
                       const struct s3_secret **out)
{
    const char *token = found->token ? found->token : "";
    if (!found->access_key || !found->secret_key || !*found->access_key ||
        !*found->secret_key)
        return op_fail(op, ERR_DENIED, "there is no key in it, or only half of one");
    if (!printable(found->access_key) || !printable(found->secret_key) ||
        !printable(token))
        return op_fail(op, ERR_DENIED, "a key holds what no key can hold");

    struct secret *s = mem_new(struct secret);
    s->base.access_key = mem_strdup(found->access_key);
    s->base.secret_key = mem_strdup(found->secret_key);
    s->base.token = mem_strdup(token);
    s->base.expires_ms = wall_ms_of(found->expiration);
    atomic_init(&s->refs, 1);
    *out = &s->base;
    return ERR_OK;
}

/* ---- files ---- */

static enum err read_file(struct op *op, const char *path, struct slice *out)
{
    FILE *file = fopen(path, "re");
    if (!file) return op_fail(op, ERR_NOT_FOUND, "%s cannot be read", path);
    char *room = op_alloc(op, DOCUMENT_MAX);
    size_t size = room ? fread(room, 1, DOCUMENT_MAX, file) : 0;
    bool bad = !room || ferror(file) || size == DOCUMENT_MAX;
    (void)fclose(file);
    if (bad) return op_fail(op, ERR_DENIED, "%s cannot be read", path);
    *out = slice_of(room, size);
    return ERR_OK;
}

static struct slice trimmed(struct slice s)
{
    while (s.size && (*s.data == ' ' || *s.data == '\t'))
        s = slice_of(s.data + 1, s.size - 1);
    while (s.size && strchr(" \t\r", s.data[s.size - 1]))
        s.size--;
    return s;
}

static bool next_line(struct slice *text, struct slice *line)
{
    if (text->size == 0) return false;
    const uint8_t *end = memchr(text->data, '\n', text->size);
    size_t size = end ? (size_t)(end - text->data) : text->size;
    *line = slice_of(text->data, size);
    size_t taken = end ? size + 1 : size;
    *text = slice_of(text->data + taken, text->size - taken);
    return true;
}

/* The value of key in [section] of an INI file, NULL when it is not there. Indented
 * lines belong to the nested settings of AWS's tools and mean nothing to us. */
static const char *ini_value(struct op *op, struct slice text, const char *section,
                             const char *key)
{
    struct slice line;
    bool inside = false;
    while (next_line(&text, &line)) {
        bool indented = line.size && (*line.data == ' ' || *line.data == '\t');
        line = trimmed(line);
        if (!line.size || *line.data == '#' || *line.data == ';') continue;
        if (*line.data == '[') {
            struct slice name = trimmed(slice_of(line.data + 1, line.size - 1));
            if (name.size && name.data[name.size - 1] == ']') name.size--;
            inside = slice_equal(trimmed(name), slice_str(section));
            continue;
        }
        const uint8_t *equals = memchr(line.data, '=', line.size);
        if (!inside || indented || !equals) continue;
        size_t size = (size_t)(equals - line.data);
        if (!slice_equal(trimmed(slice_of(line.data, size)), slice_str(key))) continue;
        struct slice value = slice_of(equals + 1, line.size - size - 1);
        return (const char *)op_copy(op, trimmed(value)).data;
    }
    return NULL;
}

/* ---- HTTP ---- */

static enum err ask(struct op *op, struct s3_credentials *c, struct s3_exchange *x,
                    int64_t limit_ms, struct slice *answer)
{
    x->body_max = ANSWER_MAX;
    x->first_byte_ms = x->whole_ms = limit_ms;
    x->direct = strncmp(x->url, "http:", 5) == 0;
    enum err e = s3_http_run(op, c->http, x, 1, true);
    if (!e && x->answer.end != S3_END_ANSWERED)
        e = op_fail(op, ERR_DENIED, "%s", x->answer.error);
    else if (!e && x->answer.status != 200)
        e = op_fail(op, ERR_DENIED, "it answered with status %d", x->answer.status);
    if (!e) *answer = op_copy(op, buf_slice(&x->answer.body));
    if (x->answer.body.data) explicit_bzero(x->answer.body.data, x->answer.body.size);
    s3_answer_release(&x->answer);
    return e;
}

/* ---- the sources, in order; ERR_NOT_FOUND: this one is not set up ---- */

static enum err from_environment(struct op *op, struct s3_credentials *c,
                                 struct found *found)
{
    found->access_key = env(c, "AWS_ACCESS_KEY_ID");
    found->secret_key = env(c, "AWS_SECRET_ACCESS_KEY");
    found->token = env(c, "AWS_SESSION_TOKEN");
    if (!found->access_key && !found->secret_key) return ERR_NOT_FOUND;
    if (!found->access_key || !found->secret_key)
        return op_fail(
            op, ERR_DENIED,
            "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set");
    return ERR_OK;
}

/* The first line of a file, without spaces around the text. */
static enum err read_line(struct op *op, const char *file, const char **out)
{
    struct slice text, line = SLICE_EMPTY;
    enum err e = read_file(op, file, &text);
    if (e) return e;
    (void)next_line(&text, &line);
    *out = (const char *)op_copy(op, trimmed(line)).data;
    return *out ? ERR_OK : ERR_LIMIT;
}

/* Sends the form to url; what it answers is op's. */
static enum err post_form(struct op *op, struct s3_credentials *c, const char *url,
                          const struct s3_field *form, size_t n, struct slice *answer)
{
    const struct s3_field type = {"content-type", "application/x-www-form-urlencoded"};
    struct buf body = BUF_INIT;
    s3_sign_target("", form, n, &body);
    struct slice part = slice_of(body.data + 1, body.size - 1); /* without its '?' */
    struct s3_exchange x = {.method = "POST",
                            .url = url,
                            .headers = &type,
                            .header_count = 1,
                            .parts = &part,
                            .part_count = 1};
    enum err e = ask(op, c, &x, FETCH_MS, answer);
    buf_release(&body);
    return e;
}

static enum err from_web_identity(struct op *op, struct s3_credentials *c,
                                  struct found *found)
{
    const char *file = env(c, "AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = env(c, "AWS_ROLE_ARN");
    const char *session = env(c, "AWS_ROLE_SESSION_NAME");
    const char *url = env(c, "AWS_ENDPOINT_URL_STS");
    const char *token;
    struct slice answer;
    if (!file || !role) return ERR_NOT_FOUND;

    enum err e = read_line(op, file, &token);
    if (e == ERR_LIMIT) return e;
    if (e) return op_fail(op, ERR_DENIED, "AWS_WEB_IDENTITY_TOKEN_FILE");
    if (!url) url = op_printf(op, "https://sts.%s.amazonaws.com/", c->region);
    if (!url) return ERR_LIMIT;

    const struct s3_field form[] = {{"Action", "AssumeRoleWithWebIdentity"},
                                    {"Version", "2011-06-15"},
                                    {"RoleArn", role},
                                    {"RoleSessionName", session ? session : "elacsym"},
                                    {"WebIdentityToken", token}};
    e = post_form(op, c, url, form, sizeof form / sizeof *form, &answer);
    struct sts sts = {op, found};
    if (!e &&
        !s3_xml_read(answer, "AssumeRoleWithWebIdentityResponse", sts_element, &sts))
        e = op_fail(op, ERR_DENIED, "its answer is not the XML expected");
    return e ? op_fail(op, e, "web identity: STS at %s", url) : ERR_OK;
}

static const char *shared_path(struct op *op, const struct s3_credentials *c,
                               const char *variable, const char *name)
{
    const char *path = env(c, variable), *home = env(c, "HOME");
    if (path) return path;
    return home ? op_printf(op, "%s/.aws/%s", home, name) : NULL;
}

static enum err from_process(struct op *op, const char *command, struct found *found)
{
    struct buf out = BUF_INIT;
    enum err e = s3_process_output(op, command, PROCESS_MS, ANSWER_MAX, &out);
    if (!e) e = read_json(op, buf_slice(&out), found);
    if (out.data) explicit_bzero(out.data, out.size);
    buf_release(&out);
    return e ? op_fail(op, ERR_DENIED, "credential_process") : ERR_OK;
}

static enum err from_section(struct op *op, const char *path, const char *section,
                             struct found *found)
{
    struct slice text;
    if (!path || read_file(op, path, &text)) {
        op_clear_error(op);
        return ERR_NOT_FOUND;
    }
    found->access_key = ini_value(op, text, section, "aws_access_key_id");
    found->secret_key = ini_value(op, text, section, "aws_secret_access_key");
    found->token = ini_value(op, text, section, "aws_session_token");
    if (found->access_key || found->secret_key) return ERR_OK;
    const char *command = ini_value(op, text, section, "credential_process");
    return command ? from_process(op, command, found) : ERR_NOT_FOUND;
}

static enum err from_files(struct op *op, struct s3_credentials *c, struct found *found)
{
    const char *named = env(c, "AWS_PROFILE");
    const char *profile = named ? named : "default";
    const char *keys = shared_path(op, c, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    const char *config = shared_path(op, c, "AWS_CONFIG_FILE", "config");
    const char *section =
        strcmp(profile, "default") ? op_printf(op, "profile %s", profile) : profile;

    enum err e = from_section(op, keys, profile, found);
    if (e == ERR_NOT_FOUND) e = from_section(op, config, section, found);
    if (e == ERR_NOT_FOUND && named)
        e = op_fail(op, ERR_DENIED,
                    "neither %s nor %s has keys or a credential_process for it",
                    keys ? keys : "~/.aws/credentials",
                    config ? config : "~/.aws/config");
    return e && e != ERR_NOT_FOUND ? op_fail(op, e, "profile %s", profile) : e;
}

/* A token sent in the clear must stay on this machine, or go to AWS's own addresses. */
static bool may_carry_token(const char *url)
{
    static const char *const hosts[] = {"127.0.0.1",      "localhost",
                                        "[::1]",          "169.254.170.2",
                                        "169.254.170.23", "[fd00:ec2::23]"};
    if (strncmp(url, "https://", 8) == 0) return true;
    if (strncmp(url, "http://", 7) != 0) return false;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t size = strlen(hosts[i]);
        if (strncmp(url + 7, hosts[i], size) == 0 &&
            (url[7 + size] == '\0' || strchr(":/?", url[7 + size])))
            return true;
    }
    return false;
}

static enum err container_token(struct op *op, struct s3_credentials *c,
                                const char **token)
{
    const char *file = env(c, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    struct slice text;
    *token = env(c, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (!file) return ERR_OK;
    enum err e = read_file(op, file, &text);
    if (e) return op_fail(op, ERR_DENIED, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    struct slice line = SLICE_EMPTY;
    (void)next_line(&text, &line);
    *token = (const char *)op_copy(op, trimmed(line)).data;
    return *token ? ERR_OK : ERR_LIMIT;
}

static enum err from_container(struct op *op, struct s3_credentials *c,
                               struct found *found)
{
    const char *relative = env(c, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *url = env(c, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    struct s3_field header = {"authorization", NULL};
    struct slice answer;
    if (!relative && !url) return ERR_NOT_FOUND;
    if (relative) url = op_printf(op, "http://169.254.170.2%s", relative);
    if (!url) return ERR_LIMIT;
    if (!may_carry_token(url))
        return op_fail(op, ERR_DENIED,
                       "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on "
                       "this machine");
    enum err e = container_token(op, c, &header.value);
    if (!e && header.value && !printable(header.value))
        e = op_fail(op, ERR_DENIED, "the container's authorization token is not text");
    if (e) return e;
    struct s3_exchange x = {.method = "GET",
                            .url = url,
                            .headers = &header,
                            .header_count = header.value ? 1 : 0};
    e = ask(op, c, &x, FETCH_MS, &answer);
    if (!e) e = read_json(op, answer, found);
    return e ? op_fail(op, e, "container credentials at %s", url) : ERR_OK;
}

static enum err ask_metadata(struct op *op, struct s3_credentials *c,
                             const char *method, const char *url,
                             const struct s3_field *header, const char **text)
{
    struct slice answer;
    struct s3_exchange x = {.method = method,
                            .url = url,
                            .headers = header,
                            .header_count = 1};
    enum err e = url ? ask(op, c, &x, IMDS_MS, &answer) : ERR_LIMIT;
    if (!e) *text = (const char *)answer.data;
    if (!e && !printable(*text)) *text = NULL;
    return e;
}

static enum err from_instance(struct op *op, struct s3_credentials *c,
                              struct found *found)
{
    static const char path[] = "/latest/meta-data/iam/security-credentials/";
    static const struct s3_field life = {"x-aws-ec2-metadata-token-ttl-seconds",
                                         "21600"};
    struct s3_field pass = {"x-aws-ec2-metadata-token", NULL};
    const char *disabled = env(c, "AWS_EC2_METADATA_DISABLED");
    const char *base = env(c, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *role = NULL;
    struct slice answer;
    if (disabled && strcmp(disabled, "true") == 0) return ERR_NOT_FOUND;
    if (!base) base = "http://169.254.169.254";

    enum err e = ask_metadata(op, c, "PUT", op_printf(op, "%s/latest/api/token", base),
                              &life, &pass.value);
    if (!e && pass.value)
        e = ask_metadata(op, c, "GET", op_printf(op, "%s%s", base, path), &pass, &role);
    if (!e && !role) e = op_fail(op, ERR_DENIED, "its answer is not text");
    if (!e) {
        const char *url = op_printf(op, "%s%s%s", base, path, role);
        struct s3_exchange x = {.method = "GET",
                                .url = url,
                                .headers = &pass,
                                .header_count = 1};
        e = url ? ask(op, c, &x, IMDS_MS, &answer) : ERR_LIMIT;
    }
    if (!e) e = read_json(op, answer, found);
    return e ? op_fail(op, e, "instance metadata at %s", base) : ERR_OK;
}

static enum err fetch(struct op *op, struct s3_credentials *c,
                      const struct s3_secret **out)
{
    static enum err (*const sources[])(struct op *, struct s3_credentials *,
                                       struct found *) = {from_environment,
                                                          from_web_identity, from_files,
                                                          from_container,
                                                          from_instance};
    struct found found = {NULL, NULL, NULL, NULL};
    enum err e = ERR_NOT_FOUND;

    for (size_t i = 0; i < sizeof sources / sizeof *sources && e == ERR_NOT_FOUND; i++)
        e = sources[i](op, c, &found);
    if (e == ERR_NOT_FOUND)
        e = op_fail(op, ERR_DENIED,
                    "none are set: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "AWS_PROFILE, or a role of this machine");
    if (!e) e = accept(op, &found, out);
    return e ? op_fail(op, e, "AWS credentials") : ERR_OK;
}

/* ---- when ---- */

static int64_t due_after(const struct s3_secret *s, int64_t now_ms)
{
    assert(s);
    if (s->expires_ms == INT64_MAX) return INT64_MAX;
    int64_t life_ms = s->expires_ms - now_ms, due_ms = now_ms + life_ms / 4 * 3;
    int64_t early_ms = s->expires_ms - BEFORE_END_MS;
    return early_ms > now_ms && early_ms < due_ms ? early_ms : due_ms;
}

static const struct s3_secret *ref(const struct s3_secret *s)
{
    struct secret *own = (struct secret *)(uintptr_t)s;
    (void)atomic_fetch_add(&own->refs, 1);
    return s;
}

static void wipe(char *text)
{
    explicit_bzero(text, strlen(text));
    mem_free(text);
}

void s3_secret_unref(const struct s3_secret *s)
{
    struct secret *own = (struct secret *)(uintptr_t)s;
    if (!own || atomic_fetch_sub(&own->refs, 1) > 1) return;
    wipe(own->base.access_key);
    wipe(own->base.secret_key);
    wipe(own->base.token);
    mem_free(own);
}

static bool good(const struct s3_credentials *c, int64_t now_ms)
{
    return c->current && now_ms < c->current->expires_ms;
}

/* Fetches while others go on, with memory and time of its own: op may have little of
 * both. Lock held; given back while fetching. */
static enum err renew(struct op *op, struct s3_credentials *c)
{
    const struct s3_secret *fresh = NULL;
    struct op own;

    op_init(&own, clock_ms() + RENEW_MS, MEMORY_MAX);
    c->fetching = true;
    mutex_unlock(&c->lock);
    enum err e = fetch(&own, c, &fresh);
    mutex_lock(&c->lock);
    c->fetching = false;
    cond_broadcast(&c->fetched);

    int64_t now_ms = clock_wall_ms();
    if (e && good(c, now_ms)) {
        log_warn(op, "credentials not renewed, the old ones are still good", "error=%s",
                 own.error);
        c->due_ms = now_ms + RETRY_MS;
        e = ERR_OK;
    } else if (e) {
        e = op_fail(op, ERR_DENIED, "%s", own.error);
    } else {
        assert(fresh);
        s3_secret_unref(c->current);
        c->current = fresh;
        c->due_ms = due_after(fresh, now_ms);
    }
    op_release(&own);
    return e;
}

enum err s3_credentials_get(struct op *op, struct s3_credentials *c, bool heed_op,
                            const struct s3_secret **out)
{
    enum err e = ERR_OK;
    mutex_lock(&c->lock);
    while (c->fetching && !good(c, clock_wall_ms())) {
        if (heed_op) e = op_check(op);
        if (e) goto done;
        (void)cond_wait(&c->fetched, &c->lock, heed_op ? op->deadline_ms : INT64_MAX);
    }
    if (!c->fetching && (!good(c, clock_wall_ms()) || clock_wall_ms() >= c->due_ms))
        e = renew(op, c);
    if (!e) *out = ref(c->current);
done:
    mutex_unlock(&c->lock);
    return e;
}

void s3_credentials_expired(struct s3_credentials *c, const struct s3_secret *s)
{
    mutex_lock(&c->lock);
    if (c->current == s) c->due_ms = 0;
    mutex_unlock(&c->lock);
}

struct s3_credentials *s3_credentials_new(const struct s3_credentials_options *options)
{
    struct s3_credentials *c = mem_new(struct s3_credentials);
    c->http = options->http;
    c->environment = options->environment;
    c->region = mem_strdup(options->region);
    mutex_init(&c->lock);
    cond_init(&c->fetched);
    return c;
}

void s3_credentials_free(struct s3_credentials *c)
{
    if (!c) return;
    s3_secret_unref(c->current);
    cond_release(&c->fetched);
    mutex_release(&c->lock);
    mem_free(c->region);
    mem_free(c);
}
