/*
 * bench_vector_http - vector search through HTTP, asked by a client that costs little.
 *
 * Wants a node at PORT of the loopback that holds Fashion-MNIST with pixels divided by
 * 255, ids being rows (bench_vector_http.py starts one). The queries are written down
 * before the clock starts, as base64 and as JSON numbers of up to nine digits. One
 * kept-alive connection tells how long an answer takes, several connections, each with
 * one query on its way, how many a second there are; all answers count for recall@10 by
 * true distance.
 *   bench_vector_http PORT NAMESPACE [queries [connections]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>

#include "base/mem.h"
#include "unit/fashion.h"

enum {
    K = 10,
    CONNECTIONS_MAX = 64,
    ANSWER_MAX = 64 << 10,
    WARM = 300,
    ROUNDS = 5 /* of all queries, in the rates */
};

static const double HIT_SLACK = 1e-5;

struct line {
    int fd;
    uint32_t query;
    size_t size; /* of the answer so far */
    uint8_t answer[ANSWER_MAX];
};

struct run {
    const struct fashion *data;
    struct buf *requests;
    uint32_t query_count;
    uint64_t found, wanted;
};

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "bench_vector_http: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- requests ---- */

static void append_text(struct buf *out, const char *text)
{
    buf_append(out, text, strlen(text));
}

static void append_base64(struct buf *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)bytes[i] << 16;
        if (i + 1 < size) three |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < size) three |= bytes[i + 2];
        for (size_t j = 0; j < 4; j++)
            buf_append_byte(out, i + j > size
                                     ? (uint8_t)'='
                                     : (uint8_t)digits[three >> (18 - 6 * j) & 63]);
    }
}

static void append_vector(struct buf *out, const float *pixels, bool base64)
{
    float vector[FASHION_DIM];
    char number[32];
    for (size_t d = 0; d < FASHION_DIM; d++)
        vector[d] = pixels[d] / 255;
    append_text(out, base64 ? "\"" : "[");
    if (base64) append_base64(out, (const uint8_t *)vector, sizeof vector);
    for (size_t d = 0; d < FASHION_DIM && !base64; d++) {
        (void)snprintf(number, sizeof number, "%s%.9g", d ? "," : "",
                       (double)vector[d]);
        append_text(out, number);
    }
    append_text(out, base64 ? "\"" : "]");
}

static struct buf request_of(const char *name, const float *pixels, bool base64)
{
    struct buf body = BUF_INIT, out = BUF_INIT;
    char head[512];
    append_text(&body, "{\"vector\":");
    append_vector(&body, pixels, base64);
    append_text(&body, ",\"top_k\":10,\"include_attributes\":false}");
    (void)snprintf(head, sizeof head,
                   "POST /v1/namespaces/%s/query HTTP/1.1\r\nHost: bench\r\n"
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                   name, body.size);
    append_text(&out, head);
    buf_append_slice(&out, buf_slice(&body));
    buf_release(&body);
    return out;
}

/* ---- lines ---- */

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        give_up("connect");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void ask(struct line *l, const struct run *r, uint32_t query)
{
    const struct buf *request = &r->requests[query];
    l->query = query;
    l->size = 0;
    for (size_t sent = 0; sent < request->size;) {
        ssize_t n =
            send(l->fd, request->data + sent, request->size - sent, MSG_NOSIGNAL);
        if (n < 0) give_up("send");
        sent += (size_t)n;
    }
}

/* The body of a whole answer in l, or NULL. */
static const char *whole_answer(struct line *l)
{
    l->answer[l->size] = '\0';
    const char *head = (const char *)l->answer;
    const char *body = strstr(head, "\r\n\r\n");
    if (!body) return NULL;
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) {
        (void)fprintf(stderr, "%s\n", head);
        exit(1);
    }
    const char *size = strcasestr(head, "content-length:");
    if (!size || size > body) give_up("an answer without a length");
    size_t whole = (size_t)(body + 4 - head) + strtoul(size + 15, NULL, 10);
    return l->size >= whole ? body + 4 : NULL;
}

static const char *receive(struct line *l)
{
    ssize_t n = recv(l->fd, l->answer + l->size, ANSWER_MAX - 1 - l->size, 0);
    if (n <= 0) give_up("receive");
    l->size += (size_t)n;
    return whole_answer(l);
}

static void count_found(struct run *r, uint32_t query, const char *body)
{
    const struct fashion *f = r->data;
    double limit = (double)fashion_kth(f, query, K) * (1 + HIT_SLACK);
    for (const char *id = strstr(body, "\"id\":"); id; id = strstr(id + 5, "\"id\":")) {
        const float *a = f->base + strtoul(id + 5, NULL, 10) * FASHION_DIM;
        const float *b = fashion_query(f, query);
        double distance = 0;
        for (size_t d = 0; d < FASHION_DIM; d++)
            distance += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
        r->found += distance <= limit;
    }
    r->wanted += K;
}

/* ---- measuring ---- */

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void measure_one(struct run *r, uint16_t port, const char *form)
{
    static double took[FASHION_QUERIES_MAX];
    struct line *l = mem_new(struct line);
    l->fd = dial(port);
    r->found = r->wanted = 0;
    for (uint32_t i = 0; i < WARM + r->query_count; i++) {
        const char *body;
        double start = seconds();
        ask(l, r, i % r->query_count);
        while (!(body = receive(l)))
            ;
        double end = seconds();
        if (i < WARM) continue;
        took[i - WARM] = end - start;
        count_found(r, l->query, body);
    }
    qsort(took, r->query_count, sizeof took[0], by_size);
    (void)printf("%-7s  1 connection   p50 %.3f  p90 %.3f  p99 %.3f ms  recall %.4f\n",
                 form, took[r->query_count / 2] * 1e3,
                 took[r->query_count * 9 / 10] * 1e3,
                 took[r->query_count * 99 / 100] * 1e3,
                 (double)r->found / (double)r->wanted);
    (void)close(l->fd);
    mem_free(l);
}

static void measure_many(struct run *r, uint16_t port, const char *form, uint32_t count)
{
    struct line *lines = mem_new_array(struct line, count);
    struct pollfd polls[CONNECTIONS_MAX];
    uint64_t wanted = (uint64_t)r->query_count * ROUNDS, asked = 0, answered = 0;
    r->found = r->wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        lines[i].fd = dial(port);
        polls[i] = (struct pollfd){.fd = lines[i].fd, .events = POLLIN};
    }
    double start = seconds();
    for (uint32_t i = 0; i < count; i++)
        ask(&lines[i], r, (uint32_t)(asked++ % r->query_count));
    while (answered < wanted) {
        if (poll(polls, count, -1) < 0 && errno != EINTR) give_up("poll");
        for (uint32_t i = 0; i < count; i++) {
            const char *body;
            if (!polls[i].revents || !(body = receive(&lines[i]))) continue;
            answered++;
            if (asked <= r->query_count + count) count_found(r, lines[i].query, body);
            if (asked < wanted) ask(&lines[i], r, (uint32_t)(asked++ % r->query_count));
        }
    }
    double took = seconds() - start;
    (void)printf("%-7s %2u connections  %.0f a second  recall %.4f\n", form, count,
                 (double)wanted / took, (double)r->found / (double)r->wanted);
    for (uint32_t i = 0; i < count; i++)
        (void)close(lines[i].fd);
    mem_free(lines);
}

int main(int argc, char **argv)
{
    static struct buf requests[FASHION_QUERIES_MAX];
    static struct fashion data;
    uint32_t queries = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 2000;
    uint32_t connections = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    if (argc < 3) {
        (void)printf("asks a node: see bench/bench_vector_http.py\n");
        return 0;
    }
    if (queries == 0 || queries > FASHION_QUERIES_MAX ||
        connections > CONNECTIONS_MAX) {
        (void)fprintf(stderr, "usage: bench_vector_http PORT NAMESPACE [queries "
                              "[connections]]\n");
        return 2;
    }
    if (!fashion_load(&data, queries)) return 0;
    uint16_t port = (uint16_t)strtoul(argv[1], NULL, 10);
    for (int base64 = 1; base64 >= 0; base64--) {
        static const uint32_t several[] = {2, 4, 8, 16};
        const char *form = base64 ? "base64" : "numbers";
        struct run r = {&data, requests, queries, 0, 0};
        for (uint32_t q = 0; q < queries; q++)
            requests[q] = request_of(argv[2], fashion_query(&data, q), base64);
        measure_one(&r, port, form);
        for (size_t i = 0; i < sizeof several / sizeof *several && !connections; i++)
            measure_many(&r, port, form, several[i]);
        if (connections) measure_many(&r, port, form, connections);
        (void)fflush(stdout);
        for (uint32_t q = 0; q < queries; q++)
            buf_release(&requests[q]);
    }
    fashion_release(&data);
    return 0;
}
