#include <math.h>
#include <string.h>

#include "api/api_route.h"
#include "api/api_token.h"
#include "api/api_v1_namespace.h"
#include "api/api_v1_query_bind.h"
#include "api/api_v1_query_cursor.h"
#include "api/api_v1_write.h"
#include "base/codec.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/utf8.h"
#include "fuzz/fuzz.h"
#include "ns/registry.h"
#include "ns/snapshot.h"

enum { OP_MEMORY = 16 << 20 };

struct schema *fuzz_schema(void)
{
    static const char *const names[] = {"string", "int",   "uint",    "float", "bool",
                                        "date",   "uuid",  "strings", "ints",  "uints",
                                        "floats", "bools", "dates",   "uuids"};
    struct attr attrs[15] = {0};
    for (unsigned i = 0; i < 14; i++)
        attrs[i] = (struct attr){.name = names[i],
                                 .type = (enum attr_type)(1 + i % 7),
                                 .array = i >= 7,
                                 .indexed = i % 2};
    attrs[14] = (struct attr){.name = "text",
                              .type = ATTR_STRING,
                              .full_text = true,
                              .analysis = ANALYSIS_DEFAULT};
    return schema_new(3, METRIC_L2, attrs, 15);
}

static bool is_utf8(struct slice s)
{
    for (size_t at = 0, step; at < s.size; at += step)
        if ((step = utf8_step(s.data + at, s.size - at)) == 0) return false;
    return true;
}

/* Runs body over the input as JSON text, which needs readable bytes behind it. */
typedef enum err json_body(struct op *op, struct json_value *root,
                           struct schema *schema);

static bool run_json(struct slice input, json_body *body)
{
    struct op op;
    struct json *json = NULL;
    struct json_value root;
    struct schema *schema = fuzz_schema();
    uint8_t *text = mem_alloc(input.size + JSON_PADDING);

    if (input.size) memcpy(text, input.data, input.size);
    memset(text + input.size, ' ', JSON_PADDING);
    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = json_open(&op, slice_of(text, input.size), &json, &root);
    if (!e) e = body(&op, &root, schema);
    if (!e) e = json_end(&op, json);
    REQUIRE(!e || op.error[0]);
    json_close(json);
    op_release(&op);
    schema_unref(schema);
    mem_free(text);
    return !e;
}

/* ---- any JSON ---- */

static enum err walk(struct op *op, struct json_value *v);

static enum err walk_items(struct op *op, struct json_value *v, bool object)
{
    struct json_walk w;
    struct json_value item;
    struct slice key;
    bool more = true;
    enum err e = object ? json_object(op, v, &w) : json_array(op, v, &w);
    while (!e) {
        e = object ? json_next(op, &w, &more, &key, &item)
                   : json_item(op, &w, &more, &item);
        if (e || !more) return e;
        /* Some values are skipped: the cursor must find their end itself. */
        if (w.index % 3 != 2) e = walk(op, &item);
    }
    return e;
}

static enum err walk(struct op *op, struct json_value *v)
{
    enum json_kind kind;
    struct slice s;
    double f = 0;
    bool b;
    enum err e = json_kind_of(op, v, &kind);
    if (e) return e;
    switch (kind) {
    case JSON_STRING:
        e = json_string(op, v, &s);
        if (!e) REQUIRE(is_utf8(s));
        return e;
    case JSON_NUMBER:
        e = json_f64(op, v, &f);
        REQUIRE(e || isfinite(f));
        return e;
    case JSON_BOOL: return json_bool(op, v, &b);
    case JSON_NULL: return ERR_OK;
    default: return walk_items(op, v, kind == JSON_OBJECT);
    }
}

static enum err body_any(struct op *op, struct json_value *root, struct schema *schema)
{
    (void)schema;
    return walk(op, root);
}

static bool run_any(struct slice input)
{
    return run_json(input, body_any);
}

static void emit_texts(fuzz_emit *emit, void *context, const char *const *texts)
{
    for (; *texts; texts++)
        emit(context, slice_str(*texts));
}

static void seeds_any(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {
        "{\"a\":[1,2.5,-3e-7,true,false,null,\"x\\u00e9\\ud83d\\ude00\\n\"],\"b\":{}}",
        "[[[[[[]]]]],{\"k\":18446744073709551615,\"l\":-9223372036854775808}]",
        "\"\\\\\\\"\\/\\b\"",
        "1e308",
        "-0.0",
        NULL};
    emit_texts(emit, context, texts);
}

/* ---- requests ---- */

static enum err body_schema(struct op *op, struct json_value *root,
                            struct schema *schema)
{
    struct schema *parsed = NULL;
    (void)schema;
    enum err e = v1_schema_parse(op, root, &parsed);
    if (!e) {
        struct buf bytes = BUF_INIT;
        struct schema *again = NULL;
        schema_encode(parsed, &bytes);
        struct reader r = reader_of(buf_slice(&bytes));
        REQUIRE(schema_decode(op, &r, &again) == ERR_OK);
        REQUIRE(reader_done(&r) && schema_equal(parsed, again));
        schema_unref(again);
        buf_release(&bytes);
    }
    schema_unref(parsed);
    return e;
}

static bool run_schema_body(struct slice input)
{
    return run_json(input, body_schema);
}

static void seeds_schema_body(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {
        "{\"vector_dim\":3,\"vector_metric\":\"cosine\",\"attributes\":{\"title\":{"
        "\"type\":"
        "\"string\",\"full_text\":{\"language\":\"german\",\"stemming\":false}},"
        "\"year\":"
        "{\"type\":\"int\",\"indexed\":true},\"tags\":\"array_string\"}}",
        "{\"schema\":{\"attributes\":{\"a\":\"uuid\"}}}", NULL};
    emit_texts(emit, context, texts);
}

static enum err body_upsert(struct op *op, struct json_value *root,
                            struct schema *schema)
{
    struct batch batch;
    size_t failed;
    enum err e = v1_upsert_parse(op, root, schema, &batch, &failed);
    if (!e) e = batch_unique(op, &batch);
    for (size_t i = 0; !e && i < batch.doc_count; i++)
        REQUIRE(batch.docs[i].id.kind != ID_NONE && batch.docs[i].values);
    return e;
}

static bool run_upsert_body(struct slice input)
{
    return run_json(input, body_upsert);
}

static void seeds_upsert_body(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {
        "{\"documents\":[{\"id\":1,\"vector\":[1,2,3],\"attributes\":{\"string\":\"x\","
        "\"int\":"
        "-5,\"uint\":5,\"float\":1.5,\"bool\":true,\"date\":\"2026-11-22T10:00:00Z\","
        "\"uuid\":"
        "\"00112233-4455-6677-8899-aabbccddeeff\",\"strings\":[\"a\",\"b\"],\"ints\":[]"
        ","
        "\"text\":null}},{\"id\":2,\"vector\":\"AACAPwAAAEAAAEBA\"}]}",
        "{\"documents\":[{\"id\":\"a\"},{\"id\":\"b\",\"attributes\":{\"dates\":["
        "\"1999-12-31"
        "T23:59:59+01:00\"]}}]}",
        NULL};
    emit_texts(emit, context, texts);
}

static enum err body_delete(struct op *op, struct json_value *root,
                            struct schema *schema)
{
    struct batch batch;
    struct v1_filter *parsed = NULL;
    struct filter *filter = NULL;
    enum err e = v1_delete_parse(op, root, &batch, &parsed);
    if (!e && parsed) e = v1_filter_bind(op, parsed, schema, ID_U64, &filter);
    return e;
}

static bool run_delete_body(struct slice input)
{
    return run_json(input, body_delete);
}

static void seeds_delete_body(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {"{\"ids\":[1,2,18446744073709551615]}",
                                        "{\"ids\":[\"a\"],\"filter\":{\"type\":\"and\","
                                        "\"conditions\":[{\"field\":\"int\",\"op\":"
                                        "\"gte\",\"value\":3},{\"type\":\"not\","
                                        "\"conditions\":[{\"field\":\"string\",\"op\":"
                                        "\"glob\",\"value\":\"a*[b-d]?\"}]},{\"field\":"
                                        "\"ints\",\"op\":\"contains_any\",\"value\":"
                                        "[1,2]},{\"field\":\"id\",\"op\":\"in\","
                                        "\"value\":[1]},{\"field\":\"bool\",\"op\":"
                                        "\"exists\",\"value\":true}]}}",
                                        NULL};
    emit_texts(emit, context, texts);
}

static enum err body_query(struct op *op, struct json_value *root,
                           struct schema *schema)
{
    struct v1_query parsed;
    struct query query;
    struct v1_picks picks;
    struct snapshot snapshot = {.schema = schema, .id_kind = ID_U64};
    enum err e = v1_query_parse(op, root, &parsed);
    if (!e) e = v1_query_bind(op, &parsed, &snapshot, &query, &picks);
    return e;
}

static bool run_query_body(struct slice input)
{
    return run_json(input, body_query);
}

static void seeds_query_body(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {
        "{\"vector\":[1,2,3],\"full_text\":{\"field\":\"text\",\"query\":\"a "
        "b\",\"operator\":"
        "\"and\"},\"filter\":{\"field\":\"int\",\"op\":\"eq\",\"value\":1},\"top_k\":5,"
        "\"include_vector\":true,\"include_attributes\":[\"int\"],\"fusion\":{"
        "\"method\":\"rrf\","
        "\"k\":60,\"weights\":{\"vector\":1,\"full_text\":2}},\"explain\":true}",
        "{\"filter\":{\"field\":\"string\",\"op\":\"prefix\",\"value\":\"a\"},\"order_"
        "by\":"
        "{\"field\":\"int\",\"direction\":\"desc\"},\"consistency\":\"eventual\"}",
        "{\"filter\":{\"field\":\"bool\",\"op\":\"eq\",\"value\":true},\"count\":true,"
        "\"aggregate\":"
        "{\"count\":true,\"sum\":[\"int\",\"float\"],\"min\":\"date\",\"max\":["
        "\"uint\"],\"group_by\":"
        "\"string\"}}",
        NULL};
    emit_texts(emit, context, texts);
}

/* ---- words in requests ---- */

static void check_datetime(struct slice text)
{
    int64_t at, again;
    char back[40];
    if (!datetime_parse(text, &at)) return;
    size_t size = datetime_text(at, back);
    REQUIRE(datetime_parse(slice_of(back, size), &again) && at == again);
}

static void check_uuid(struct slice text)
{
    uint8_t uuid[16], again[16];
    char back[37];
    if (!uuid_parse(text, uuid)) return;
    uuid_text(uuid, back);
    REQUIRE(uuid_parse(slice_str(back), again) && memcmp(uuid, again, 16) == 0);
}

static void check_base64(struct slice text)
{
    uint8_t out[64];
    size_t size = 0;
    if (base64_decode(text, out, sizeof out, &size)) REQUIRE(size <= sizeof out);
}

static void check_path(struct op *op, const char *text)
{
    static const char *const names[] = {"prefix", "cursor"};
    struct slice parts[ROUTE_PARTS_MAX] = {SLICE_EMPTY, SLICE_EMPTY}, decoded,
                 values[2];
    struct commit_token token;
    char again[TOKEN_TEXT_SIZE];

    if (route_match("/v1/namespaces/{}/documents/{}", text, parts)) {
        if (!route_decode(op, parts[0], &decoded)) {
            REQUIRE(is_utf8(decoded));
            REQUIRE(strlen((const char *)decoded.data) <= decoded.size);
        }
    }
    (void)route_params(op, text, names, 2, values);
    if (token_parse(op, text, &token) == ERR_OK) {
        token_text(&token, again);
        REQUIRE(strlen(again) == strlen(text));
    }
}

static bool run_words(struct slice input)
{
    struct op op;
    struct slice half = slice_of(input.data, input.size / 2);
    struct buf text = BUF_INIT;

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    check_datetime(input);
    check_uuid(input);
    check_base64(input);
    if (!glob_check(half)) (void)glob_match(half, fuzz_rest(input, half.size));
    buf_append_slice(&text, input);
    buf_append_byte(&text, 0);
    check_path(&op, (const char *)text.data);
    buf_release(&text);
    op_release(&op);
    return true;
}

static void seeds_words(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {"2026-11-22T10:00:00.123456+05:30",
                                        "0000-01-01T00:00:00Z",
                                        "00112233-4455-6677-8899-aabbccddeeff",
                                        "AACAPwAAAEAAAEBA",
                                        "/v1/namespaces/a%2fb/documents/%C3%A9",
                                        "prefix=a%20b&cursor=x",
                                        "a*[!b-d]?\\*abcd*x?",
                                        NULL};
    struct commit_token token = {.epoch = 3, .slot = 7};
    char text[TOKEN_TEXT_SIZE];
    token_text(&token, text);
    emit_texts(emit, context, texts);
    emit(context, slice_str(text));
}

/* ---- cursors ---- */

static struct snapshot *cursor_snapshot(void)
{
    struct snapshot *s = mem_new(struct snapshot);
    s->schema = fuzz_schema();
    s->id_kind = ID_U64;
    return s;
}

/* The first byte is what the query is ordered by; checksums are made right again. */
static bool run_cursor(struct slice input)
{
    struct op op;
    struct snapshot *s = cursor_snapshot();
    struct query_place place;
    struct buf raw = BUF_INIT, text = BUF_INIT, again = BUF_INIT;
    unsigned by = fuzz_byte(input, 0) % (s->schema->attr_count + 1);
    struct query query = {.ordered = by > 0, .order_attr = (int)by - 1};

    op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
    enum err e = v1_cursor_parse(&op, input, s, &query, &place);
    REQUIRE(!e || e == ERR_INVALID || e == ERR_LIMIT);
    buf_append_slice(&raw, fuzz_rest(input, 1));
    put_u32(&raw, crc32c(0, raw.data, raw.size));
    buf_reserve(&text, 2 * raw.size + 1);
    hex_encode(raw.data, raw.size, (char *)text.data);
    text.size = 2 * raw.size;
    e = v1_cursor_parse(&op, buf_slice(&text), s, &query, &place);
    REQUIRE(!e || e == ERR_INVALID || e == ERR_LIMIT);
    if (!e && !v1_cursor_text(&op, s, &query, &place, &again))
        REQUIRE(v1_cursor_parse(&op, buf_slice(&again), s, &query, &place) == ERR_OK);
    buf_release(&raw);
    buf_release(&text);
    buf_release(&again);
    op_release(&op);
    schema_unref(s->schema);
    mem_free(s);
    return !e;
}

static void seeds_cursor(fuzz_emit *emit, void *context)
{
    struct snapshot *s = cursor_snapshot();
    struct query_place place = {.value = {.null = true},
                                .id = {.kind = ID_U64, .u64 = 77}};
    for (unsigned by = 0; by < s->schema->attr_count; by += 3) {
        struct op op;
        struct query query = {.ordered = by > 0, .order_attr = (int)by - 1};
        struct buf text = BUF_INIT, seed = BUF_INIT;
        op_init(&op, OP_NO_DEADLINE, OP_MEMORY);
        REQUIRE(v1_cursor_text(&op, s, &query, &place, &text) == ERR_OK);
        buf_append_byte(&seed, (uint8_t)by);
        buf_reserve(&seed, text.size / 2);
        REQUIRE(hex_decode(buf_slice(&text), seed.data + 1, text.size / 2));
        seed.size += text.size / 2 - sizeof(uint32_t);
        emit(context, buf_slice(&seed));
        buf_release(&text);
        buf_release(&seed);
        op_release(&op);
    }
    schema_unref(s->schema);
    mem_free(s);
}

const struct fuzz_target fuzz_requests[] = {
    {"json", run_any, seeds_any},
    {"schema_body", run_schema_body, seeds_schema_body},
    {"upsert_body", run_upsert_body, seeds_upsert_body},
    {"delete_body", run_delete_body, seeds_delete_body},
    {"query_body", run_query_body, seeds_query_body},
    {"words", run_words, seeds_words},
    {"cursor", run_cursor, seeds_cursor},
    {NULL, NULL, NULL}};
