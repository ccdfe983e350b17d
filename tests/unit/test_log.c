#include "base/log.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "unit/test.h"

static int real_stderr;
static FILE *captured;

static void capture(void)
{
    captured = tmpfile();
    assert_non_null(captured);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(captured), STDERR_FILENO) >= 0);
}

/* What was written to standard error since capture, terminated. */
static struct buf captured_text(void)
{
    struct buf text = BUF_INIT;
    char block[4096];
    size_t n;
    (void)dup2(real_stderr, STDERR_FILENO);
    (void)close(real_stderr);
    rewind(captured);
    while ((n = fread(block, 1, sizeof block, captured)) > 0)
        buf_append(&text, block, n);
    (void)fclose(captured);
    buf_append_byte(&text, '\0');
    return text;
}

/* The line without its time, which must look like one. */
static const char *after_time(const struct buf *text, const char *before)
{
    const char *line = (const char *)text->data;
    size_t size = strlen(before);
    assert_memory_equal(line, before, size);
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        char c = line[size + i];
        if (shape[i] == 'd')
            assert_true(c >= '0' && c <= '9');
        else
            assert_int_equal(c, shape[i]);
    }
    return line + size + sizeof shape - 1;
}

static void assert_json_line(struct buf *text, const char *wanted)
{
    assert_string_equal(after_time(text, "{\"time\":\""), wanted);
    buf_release(text);
}

static void assert_text_line(struct buf *text, const char *wanted)
{
    assert_string_equal(after_time(text, ""), wanted);
    buf_release(text);
}

static void json_line_quotes_text_and_leaves_numbers_bare(void **state)
{
    (void)state;
    log_init(LOG_INFO, LOG_JSON);
    capture();
    log_info(NULL, "segment opened",
             "key=%s rows=%u at=%s:%u seconds=%.3f hex=%x id=%02d mode=plain n=%zd "
             "max=%" PRIu64 " min=%" PRId64 " nan=%f none=%s",
             "a b", 42u, "host", 80u, 1.5, 255u, 7, (ssize_t)-5, UINT64_MAX, INT64_MIN,
             __builtin_nan(""), "");
    struct buf text = captured_text();
    assert_json_line(
        &text, "\",\"level\":\"info\",\"event\":\"segment opened\",\"key\":\"a "
               "b\",\"rows\":42,"
               "\"at\":\"host:80\",\"seconds\":1.500,\"hex\":\"ff\",\"id\":\"07\","
               "\"mode\":\"plain\",\"n\":-5,\"max\":18446744073709551615,"
               "\"min\":-9223372036854775808,\"nan\":\"nan\",\"none\":\"\"}\n");
}

static void text_line_quotes_only_what_needs_it(void **state)
{
    (void)state;
    log_init(LOG_INFO, LOG_TEXT);
    capture();
    log_warn(NULL, "slow query", "ns=%s ms=%d why=%s empty=%s eq=%s", "a.b", 7, "x y",
             "", "k=v");
    struct buf text = captured_text();
    assert_text_line(
        &text, " warn  slow query ns=a.b ms=7 why=\"x y\" empty=\"\" eq=\"k=v\"\n");
}

static void event_may_have_no_fields_and_carries_the_request_id(void **state)
{
    (void)state;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    log_init(LOG_INFO, LOG_JSON);
    capture();
    log_error(&op, "stopped", "");
    struct buf text = captured_text();
    assert_json_line(&text, "\",\"level\":\"error\",\"event\":\"stopped\"}\n");
    strcpy(op.request_id, "r-1");
    capture();
    log_error(&op, "stopped", "why=%.*s", 3, "abcdef");
    text = captured_text();
    assert_json_line(&text,
                     "\",\"level\":\"error\",\"event\":\"stopped\",\"why\":\"abc\","
                     "\"request_id\":\"r-1\"}\n");
    op_release(&op);
}

static void hostile_values_stay_inside_their_line(void **state)
{
    (void)state;
    static const char hostile[] = "\x1b[2J\r\n\"\\\x7f\xc2\x9b\xff\xc3\xa9";
    log_init(LOG_INFO, LOG_JSON);
    capture();
    log_info(NULL, "e", "v=%s", hostile);
    struct buf text = captured_text();
    assert_json_line(&text,
                     "\",\"level\":\"info\",\"event\":\"e\",\"v\":\"\\u001b[2J"
                     "\\u000d\\u000a\\\"\\\\\\u007f\\u009b\xef\xbf\xbd\xc3\xa9\"}\n");
    log_init(LOG_INFO, LOG_TEXT);
    capture();
    log_info(NULL, "e", "v=%s", hostile);
    text = captured_text();
    assert_text_line(&text,
                     " info  e v=\"\\u001b[2J\\u000d\\u000a\\\"\\\\\\u007f\\u009b"
                     "\xef\xbf\xbd\xc3\xa9\"\n");
}

static void long_values_are_cut_at_a_character(void **state)
{
    (void)state;
    struct buf value = BUF_INIT, wanted = BUF_INIT;
    log_init(LOG_INFO, LOG_TEXT);
    buf_append_str(&value, "x");
    for (int i = 0; i < 10000; i++)
        buf_append_str(&value, "\xc3\xa9");
    buf_append_byte(&value, '\0');
    buf_append_str(&wanted, " info  e v=");
    buf_append(&wanted, value.data, 1023); /* 1 + 2 * 511; 1024 would split the next */
    buf_append_str(&wanted, " w=1\n");
    buf_append_byte(&wanted, '\0');
    capture();
    log_info(NULL, "e", "v=%s w=%d", (const char *)value.data, 1);
    struct buf text = captured_text();
    assert_text_line(&text, (const char *)wanted.data);
    buf_release(&value);
    buf_release(&wanted);
}

static void lower_levels_are_not_written(void **state)
{
    (void)state;
    log_init(LOG_WARN, LOG_JSON);
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARN));
    capture();
    log_debug(NULL, "no", "");
    log_info(NULL, "no", "a=%d", 1);
    struct buf text = captured_text();
    assert_int_equal(text.size, 1);
    buf_release(&text);
}

static void write_lines(void *arg)
{
    char value[900];
    memset(value, *(const char *)arg, sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < 300; i++)
        log_info(NULL, "e", "v=%s", value);
}

static void lines_of_several_threads_do_not_mix(void **state)
{
    (void)state;
    char letters[] = "abc";
    struct thread *threads[3];
    log_init(LOG_INFO, LOG_TEXT);
    capture();
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start("writer", write_lines, &letters[i]);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    struct buf text = captured_text();
    char *rest = (char *)text.data, *line;
    int lines = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        const char *value = strstr(line, " info  e v=");
        assert_non_null(value);
        value += strlen(" info  e v=");
        assert_int_equal(strlen(value), 899);
        assert_int_equal(strspn(value, (const char[]){*value, '\0'}), 899);
        lines++;
    }
    assert_int_equal(lines, 900);
    buf_release(&text);
}

static void every_line_is_valid_json(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    log_init(LOG_INFO, LOG_JSON);
    for (int round = 0; round < 300; round++) {
        char value[300];
        size_t size = test_random(&seed) % (sizeof value - 1);
        for (size_t i = 0; i < size; i++)
            value[i] = (char)(1 + test_random(&seed) % 255);
        value[size] = '\0';
        capture();
        log_info(NULL, "e", "v=%s f=%g", value, (double)(int64_t)test_random(&seed));
        struct buf text = captured_text();
        text.size--;
        buf_reserve(&text, JSON_PADDING);
        struct op op;
        struct json *json = NULL;
        struct json_value root;
        op_init(&op, OP_NO_DEADLINE, 0);
        assert_int_equal(json_open(&op, buf_slice(&text), &json, &root), ERR_OK);
        assert_int_equal(json_end(&op, json), ERR_OK);
        json_close(json);
        op_release(&op);
        buf_release(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_line_quotes_text_and_leaves_numbers_bare),
        cmocka_unit_test(text_line_quotes_only_what_needs_it),
        cmocka_unit_test(event_may_have_no_fields_and_carries_the_request_id),
        cmocka_unit_test(hostile_values_stay_inside_their_line),
        cmocka_unit_test(long_values_are_cut_at_a_character),
        cmocka_unit_test(lower_levels_are_not_written),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
        cmocka_unit_test(every_line_is_valid_json),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
