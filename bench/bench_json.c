/*
 * bench_json.c - how fast the body of an upsert is read, beside simdjson's own DOM.
 *
 * A batch of 1000 documents with 768 floats each, once with 8 to 9 digits (what a
 * client that knows float32 sends) and once with 16 to 17 (Python: float32 widened to
 * double). Both parsers read the same bytes in turns; the best of the rounds counts,
 * since everything slower is the machine's doing. Ours ends with floats in memory, the
 * DOM parse with its tape, so the DOM's time is flattered.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "bench_json_dom.h"

enum { DOCS = 1000, DIM = 768, ROUNDS = 30 };

static uint64_t state = 1;

/* Uniform in [-1, 1); splitmix64. */
static double next_component(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(int64_t)z / 9223372036854775808.0;
}

static void generate(struct buf *out, int digits)
{
    buf_append_str(out, "{\"documents\":[");
    for (int doc = 0; doc < DOCS; doc++) {
        buf_printf(out, "%s{\"id\":%d,\"vector\":[", doc ? "," : "", doc);
        for (int i = 0; i < DIM; i++)
            buf_printf(out, "%s%.*g", i ? "," : "", digits,
                       (double)(float)next_component());
        buf_append_str(out, "]}");
    }
    buf_append_str(out, "]}");
    buf_reserve(out, JSON_PADDING);
}

static enum err read_doc(struct op *op, struct json_value *doc, float *vector)
{
    static const char *const names[] = {"id", "vector"};
    struct json_walk walk;
    struct json_value field;
    uint64_t id;
    size_t count;
    int name = 0;

    enum err e = json_object(op, doc, &walk);
    while (!e && name >= 0) {
        e = json_field(op, &walk, names, 2, &name, &field);
        if (!e && name == 0) e = json_u64_range(op, &field, 0, DOCS, &id);
        if (!e && name == 1) e = json_floats(op, &field, vector, DIM, &count);
    }
    return e;
}

static enum err read_body(struct op *op, struct slice text, float *vectors)
{
    static const char *const names[] = {"documents"};
    struct json *json;
    struct json_value root, field, doc;
    struct json_walk body, list;
    size_t docs = 0;
    int name;
    bool more = true;

    enum err e = json_open(op, text, &json, &root);
    if (!e) e = json_object(op, &root, &body);
    if (!e) e = json_field(op, &body, names, 1, &name, &field);
    if (!e) e = json_array(op, &field, &list);
    while (!e && more) {
        e = json_item(op, &list, &more, &doc);
        if (!e && more) e = read_doc(op, &doc, vectors + docs++ * DIM);
    }
    if (!e) e = json_field(op, &body, names, 1, &name, &field);
    if (!e) e = json_end(op, json);
    json_close(json);
    return e;
}

static double ours_seconds(struct slice text, float *vectors)
{
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    int64_t start = clock_us();
    enum err e = read_body(&op, text, vectors);
    int64_t end = clock_us();
    if (e) {
        (void)fprintf(stderr, "%s\n", op.error);
        exit(1);
    }
    op_release(&op);
    return (double)(end - start) / 1e6;
}

static double dom_seconds(struct slice text)
{
    int64_t start = clock_us();
    if (!bench_json_dom(text.data, text.size)) exit(1);
    return (double)(clock_us() - start) / 1e6;
}

static void compare(int digits)
{
    struct buf text = BUF_INIT;
    float *vectors = mem_new_array(float, (size_t)DOCS *DIM);
    double ours = 1e9, dom = 1e9;
    generate(&text, digits);
    for (int round = 0; round < ROUNDS; round++) {
        double a = ours_seconds(buf_slice(&text), vectors);
        double b = dom_seconds(buf_slice(&text));
        if (a < ours) ours = a;
        if (b < dom) dom = b;
    }
    double megabytes = (double)text.size / 1e6;
    printf("%2d digits, %5.1f MB: json_floats %5.0f MB/s, simdjson DOM %5.0f MB/s, "
           "ratio %.2f\n",
           digits, megabytes, megabytes / ours, megabytes / dom, dom / ours);
    mem_free(vectors);
    buf_release(&text);
}

int main(void)
{
    compare(9);
    compare(17);
    return 0;
}
