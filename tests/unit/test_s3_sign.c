/*
 * The published examples of "Signature Calculations for the Authorization Header" and
 * one case for each class of byte that clients get wrong.
 */
#include "store/s3_sign.h"

#include "unit/test.h"

static const char EMPTY[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char EXAMPLE_DATE[] = "20130524T000000Z";

static const struct s3_field HOST = {"host", "examplebucket.s3.amazonaws.com"};
static const struct s3_field DATE = {"x-amz-date", EXAMPLE_DATE};
static const struct s3_field HASH = {"x-amz-content-sha256", EMPTY};

static void assert_signed(struct s3_signing s, const char *headers,
                          const char *signature)
{
    struct buf out = BUF_INIT, expected = BUF_INIT;
    s.date = EXAMPLE_DATE;
    s.region = "us-east-1";
    s.service = "s3";
    s.access_key = "AKIAIOSFODNN7EXAMPLE";
    s.secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    s3_sign(&s, &out);
    uint8_t key[S3_KEY_SIZE];
    s3_sign_key(&s, key);
    s.key = key;
    struct buf again = BUF_INIT;
    s3_sign(&s, &again);
    assert_true(slice_equal(buf_slice(&out), buf_slice(&again)));
    buf_release(&again);
    buf_append_byte(&out, '\0');
    buf_printf(&expected,
               "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
               "aws4_request,SignedHeaders=%s,Signature=%s",
               headers, signature);
    buf_append_byte(&expected, '\0');
    assert_string_equal((char *)out.data, (char *)expected.data);
    buf_release(&out);
    buf_release(&expected);
}

static void the_published_get_of_a_range_is_signed_the_same(void **state)
{
    (void)state;
    const struct s3_field headers[] = {DATE, {"range", "bytes=0-9"}, HASH, HOST};
    assert_signed((struct s3_signing){.method = "GET",
                                      .path = "/test.txt",
                                      .headers = headers,
                                      .header_count = COUNT_OF(headers),
                                      .payload_hash = EMPTY},
                  "host;range;x-amz-content-sha256;x-amz-date",
                  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void the_published_put_is_signed_the_same(void **state)
{
    (void)state;
    char hash[S3_HASH_SIZE];
    const struct slice body[] = {SLICE_LITERAL("Welcome to "), SLICE_EMPTY,
                                 SLICE_LITERAL("Amazon S3.")};
    s3_sign_hash(body, COUNT_OF(body), hash);
    assert_string_equal(
        hash, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");

    const struct s3_field headers[] = {HOST,
                                       {"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                       {"x-amz-content-sha256", hash},
                                       DATE,
                                       {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    assert_signed((struct s3_signing){.method = "PUT",
                                      .path = "/test$file.text",
                                      .headers = headers,
                                      .header_count = COUNT_OF(headers),
                                      .payload_hash = hash},
                  "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void the_published_get_of_a_lifecycle_is_signed_the_same(void **state)
{
    (void)state;
    const struct s3_field headers[] = {HOST, HASH, DATE};
    const struct s3_field query[] = {{"lifecycle", ""}};
    assert_signed((struct s3_signing){.method = "GET",
                                      .path = "/",
                                      .query = query,
                                      .query_count = 1,
                                      .headers = headers,
                                      .header_count = COUNT_OF(headers),
                                      .payload_hash = EMPTY},
                  "host;x-amz-content-sha256;x-amz-date",
                  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void the_published_list_is_signed_the_same_in_any_order(void **state)
{
    (void)state;
    const struct s3_field headers[] = {HOST, HASH, DATE};
    const struct s3_field query[] = {{"prefix", "J"}, {"max-keys", "2"}};
    assert_signed((struct s3_signing){.method = "GET",
                                      .path = "/",
                                      .query = query,
                                      .query_count = 2,
                                      .headers = headers,
                                      .header_count = COUNT_OF(headers),
                                      .payload_hash = EMPTY},
                  "host;x-amz-content-sha256;x-amz-date",
                  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void a_path_is_encoded_once_and_never_normalised(void **state)
{
    (void)state;
    static const struct {
        const char *path, *wire;
    } cases[] = {
        {"/a b", "/a%20b"},
        {"/a+b", "/a%2Bb"},
        {"/a%20b", "/a%2520b"},
        {"/a:b", "/a%3Ab"},
        {"/caf\xc3\xa9", "/caf%C3%A9"},
        {"/~user", "/~user"},
        {"/(x)", "/%28x%29"},
        {"/a*", "/a%2A"},
        {"/it's", "/it%27s"},
        {"/a//b", "/a//b"},
        {"/a/../b/./", "/a/../b/./"},
        {"/A-Z_0.9", "/A-Z_0.9"},
        {"/\x7f", "/%7F"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out = BUF_INIT;
        s3_sign_target(cases[i].path, NULL, 0, &out);
        buf_append_byte(&out, '\0');
        assert_string_equal((char *)out.data, cases[i].wire);
        buf_release(&out);
    }
}

static void arguments_are_sorted_by_name_then_value_and_keep_their_equals(void **state)
{
    (void)state;
    const struct s3_field query[] = {{"b", "2/ +"}, {"a-b", "1"}, {"uploads", ""},
                                     {"a", "z"},    {"a", "b"},   {"a1", "="}};
    struct buf out = BUF_INIT;
    s3_sign_target("/", query, COUNT_OF(query), &out);
    buf_append_byte(&out, '\0');
    assert_string_equal((char *)out.data,
                        "/?a=b&a=z&a-b=1&a1=%3D&b=2%2F%20%2B&uploads=");
    buf_release(&out);
}

static void header_values_are_trimmed_and_their_blanks_collapsed(void **state)
{
    (void)state;
    const struct s3_field headers[] = {{"x-b", "  one   two\t three "}, {"x-a", ""}};
    struct s3_signing s = {.method = "GET",
                           .path = "/",
                           .headers = headers,
                           .header_count = 2,
                           .payload_hash = "UNSIGNED-PAYLOAD"};
    struct buf out = BUF_INIT;
    s3_sign_canonical(&s, &out);
    buf_append_byte(&out, '\0');
    assert_string_equal((char *)out.data,
                        "GET\n/\n\nx-a:\nx-b:one two three\n\nx-a;x-b\n"
                        "UNSIGNED-PAYLOAD");
    buf_release(&out);
}

static void a_date_is_written_in_utc(void **state)
{
    (void)state;
    char date[S3_DATE_SIZE];
    s3_sign_date(1369353600999, date);
    assert_string_equal(date, EXAMPLE_DATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_get_of_a_range_is_signed_the_same),
        cmocka_unit_test(the_published_put_is_signed_the_same),
        cmocka_unit_test(the_published_get_of_a_lifecycle_is_signed_the_same),
        cmocka_unit_test(the_published_list_is_signed_the_same_in_any_order),
        cmocka_unit_test(a_path_is_encoded_once_and_never_normalised),
        cmocka_unit_test(arguments_are_sorted_by_name_then_value_and_keep_their_equals),
        cmocka_unit_test(header_values_are_trimmed_and_their_blanks_collapsed),
        cmocka_unit_test(a_date_is_written_in_utc),
    };
    return cmocka_run_group_tests_name("S3 signatures", tests, NULL, NULL);
}
