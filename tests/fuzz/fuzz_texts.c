#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#include "base/mem.h"
#include "base/op.h"
#include "fuzz/fuzz.h"
#include "node/config.h"
#include "store/s3_xml.h"
#include "text/analyze.h"

/* ---- analysis ---- */

/* Any bytes, in every language; places and order are as promised. */
static bool run_analysis(struct slice input)
{
    unsigned how = fuzz_byte(input, 0), language = fuzz_byte(input, 1) % LANG_LAST;
    struct analysis analysis = {.language = (enum language)(1 + language),
                                .stemming = how & 1,
                                .remove_stopwords = how & 2,
                                .case_sensitive = how & 4,
                                .ascii_folding = how & 8};
    struct slice text = fuzz_rest(input, 2);
    struct analyzer *a = analyzer_get(&analysis);
    struct token token;
    uint32_t end = 0, position = 0;
    bool first = true;

    analyzer_start(a, text);
    while (analyzer_next(a, &token)) {
        REQUIRE(token.term.size >= 1 && token.term.size <= TERM_SIZE_MAX);
        REQUIRE(token.start < token.end && token.end <= text.size);
        REQUIRE(first || token.position > position || token.start >= end);
        first = false;
        end = token.end;
        position = token.position;
    }
    return true;
}

static void seeds_analysis(fuzz_emit *emit, void *context)
{
    static const char *const texts[] = {
        "\x03\x03the quick brown foxes' jumping, U.S.A. 3.14 don't re-enter",
        "\x01\x06"
        "Die Stra\xc3\x9f"
        "enbahnen f\xc3\xbchren \xc3\x9c"
        "bergr\xc3\xb6\xc3\x9f"
        "en",
        "\x02\x05l'\xc3\xa9l\xc3\xa8ve d'aujourd\xe2\x80\x99hui",
        "\x03\x0d\xd0\xba\xd0\xbd\xd0\xb8\xd0\xb3\xd0\xb0\xd0\xbc\xd0\xb8 "
        "\xd1\x87\xd0\xb8\xd1\x82\xd0\xb0\xd0\xbb",
        "\x03\x10\xe0\xae\xa4\xe0\xae\xae\xe0\xae\xbf\xe0\xae\xb4\xe0\xaf\x8d",
        "\x01\x01\xd8\xa7\xd9\x84\xd9\x83\xd8\xaa\xd8\xa7\xd8\xa8\xd9\x8f",
        "\x03\x11\xc4\xb0stanbul'da \xf0\x9f\x98\x80 e\xcc\x81\xcc\x82 "
        "\xe2\x80\xae"
        "abc",
        NULL};
    for (size_t i = 0; texts[i]; i++)
        emit(context, slice_str(texts[i]));
}

/* ---- what S3 answers ---- */

static bool see_element(void *context, const char *path, const char *text)
{
    size_t *seen = context;
    REQUIRE(strlen(text) <= S3_XML_TEXT_MAX);
    *seen += strlen(path);
    return *seen < 1 << 20;
}

static bool run_xml(struct slice input)
{
    size_t seen = 0;
    return s3_xml_read(input, "ListBucketResult", see_element, &seen);
}

static void seeds_xml(fuzz_emit *emit, void *context)
{
    emit(context,
         SLICE_LITERAL(
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns="
             "\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>true"
             "</IsTruncated><NextContinuationToken>x&amp;y</NextContinuationToken>"
             "<Contents><Key>ns/a&#x2F;b</Key><Size>5</Size></Contents>"
             "<CommonPrefixes><Prefix>ns/</Prefix></CommonPrefixes>"
             "</ListBucketResult>"));
    emit(context,
         SLICE_LITERAL("<ListBucketResult><a><b/>&#65;</a></ListBucketResult>"));
}

/* ---- the configuration file ---- */

static bool run_config(struct slice input)
{
    struct op op;
    struct config *c = NULL;
    char path[64];
    const char *const no_environment[] = {NULL};
    int fd = memfd_create("config", 0);

    REQUIRE(fd >= 0);
    REQUIRE(write(fd, input.data, input.size) == (ssize_t)input.size);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    op_init(&op, OP_NO_DEADLINE, 0);
    enum err e = config_load(&op, path, no_environment, &c);
    REQUIRE(!e || (op.error[0] && !strchr(op.error, '\n')));
    if (!e) {
        struct buf text = BUF_INIT;
        config_print(c, &text);
        REQUIRE(text.size > 0);
        buf_release(&text);
        config_free(c);
    }
    op_release(&op);
    (void)close(fd);
    return !e;
}

static void seeds_config(fuzz_emit *emit, void *context)
{
    emit(context,
         SLICE_LITERAL("[server]\nport = 3000\nhost = \"127.0.0.1\"\n[storage]\n"
                       "backend = \"s3\"\n[storage.s3]\nbucket = \"films\"\nregion = "
                       "'eu-west-1'\n"));
    emit(context,
         SLICE_LITERAL(
             "storage = { backend = \"s3\", s3 = { bucket = \"films\" } "
             "}\n[distributed]\nenabled = true\nnode_id = \"a\"\nrole = \"indexer\"\n"
             "[distributed.indexer_cluster]\nnodes = [\"a\", \"b\"]\n"
             "[distributed.indexer_cluster.addresses]\na = \"http://x:1\"\n"));
    emit(context,
         SLICE_LITERAL("cache.memory_size = 4_294_967_296\nserver.port = 0x10\n"));
}

const struct fuzz_target fuzz_texts[] = {{"analysis", run_analysis, seeds_analysis},
                                         {"xml", run_xml, seeds_xml},
                                         {"config", run_config, seeds_config},
                                         {NULL, NULL, NULL}};
