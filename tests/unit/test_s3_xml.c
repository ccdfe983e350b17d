/*
 * Documents as S3 stores send them, whole and damaged: cut at every length, every bit
 * flipped, pieces repeated. A reader says no or gives what a well-formed document says.
 */
#include "store/s3_xml.h"

#include "base/mem.h"
#include "unit/test.h"

static const struct {
    const char *root, *xml;
} documents[] = {
    {"ListBucketResult",
     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
     "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
     "<IsTruncated>true</IsTruncated><Contents><Key>wal/a%20b/1.wal</Key>"
     "<Size>0</Size></Contents><CommonPrefixes><Prefix>ns/&amp;x/</Prefix>"
     "</CommonPrefixes><NextContinuationToken>t&lt;1</NextContinuationToken>"
     "<EncodingType>url</EncodingType></ListBucketResult>"},
    {"Error", "<Error><Code>NoSuchKey</Code><Message>no &#x41;</Message></Error>"},
    {"DeleteResult", "<DeleteResult><Error><Key>k</Key><Code>InternalError</Code>"
                     "<Message><![CDATA[a < b]]></Message></Error></DeleteResult>"},
    {"InitiateMultipartUploadResult",
     "<InitiateMultipartUploadResult><UploadId>u-1</UploadId>"
     "</InitiateMultipartUploadResult>"},
};

struct seen {
    struct buf text; /* "path=text;" of each element that ended */
    unsigned ends, stop_at;
};

static bool note(void *context, const char *path, const char *text)
{
    struct seen *seen = context;
    assert_true(strlen(text) <= S3_XML_TEXT_MAX);
    buf_printf(&seen->text, "%s=%s;", path, text);
    return ++seen->ends != seen->stop_at;
}

static bool read_bytes(const void *bytes, size_t size, const char *root,
                       struct seen *seen)
{
    /* A copy of just this size, so that a sanitizer sees what is read behind it. */
    uint8_t *copy = mem_alloc(size ? size : 1);
    if (size) memcpy(copy, bytes, size);
    bool good = s3_xml_read(slice_of(copy, size), root, note, seen);
    mem_free(copy);
    return good;
}

static bool reads(const void *bytes, size_t size, const char *root)
{
    struct seen seen = {.ends = 0};
    bool good = read_bytes(bytes, size, root, &seen);
    buf_release(&seen.text);
    return good;
}

static void assert_seen(const char *root, const char *xml, const char *expected)
{
    struct seen seen = {.ends = 0};
    assert_true(read_bytes(xml, strlen(xml), root, &seen));
    buf_append_byte(&seen.text, '\0');
    assert_string_equal((const char *)seen.text.data, expected);
    buf_release(&seen.text);
}

static void elements_come_with_their_path_and_their_own_text(void **state)
{
    (void)state;
    assert_seen("ListBucketResult", documents[0].xml,
                "Name=b;IsTruncated=true;Contents/Key=wal/a%20b/1.wal;Contents/Size=0;"
                "Contents=;CommonPrefixes/Prefix=ns/&x/;CommonPrefixes=;"
                "NextContinuationToken=t<1;EncodingType=url;");
    assert_seen("Error", documents[1].xml, "Code=NoSuchKey;Message=no A;");
    assert_seen("DeleteResult", documents[2].xml,
                "Error/Key=k;Error/Code=InternalError;Error/Message=a < b;Error=;");
}

static void another_root_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(documents); i++)
        for (size_t k = 0; k < COUNT_OF(documents); k++)
            assert_int_equal(reads(documents[i].xml, strlen(documents[i].xml),
                                   documents[k].root),
                             i == k);
}

static void a_document_cut_at_any_length_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(documents); i++)
        for (size_t size = 0; size < strlen(documents[i].xml); size++)
            assert_false(reads(documents[i].xml, size, documents[i].root));
}

static void any_flipped_bit_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(documents); i++) {
        size_t size = strlen(documents[i].xml), refused = 0;
        uint8_t *bytes = mem_alloc(size);
        memcpy(bytes, documents[i].xml, size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            refused += !reads(bytes, size, documents[i].root);
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        assert_true(refused > size); /* not everything goes through */
        mem_free(bytes);
    }
}

static void random_pieces_of_documents_are_survived(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (size_t i = 0; i < 20000; i++) {
        struct buf mix = BUF_INIT;
        for (uint64_t n = test_random(&random) % 5 + 1; n > 0; n--) {
            const char *xml = documents[test_random(&random) % COUNT_OF(documents)].xml;
            size_t from = test_random(&random) % strlen(xml);
            size_t size = test_random(&random) % (strlen(xml) - from) + 1;
            buf_append(&mix, xml + from, size);
        }
        (void)reads(mix.data, mix.size, documents[i % COUNT_OF(documents)].root);
        buf_release(&mix);
    }
}

static void a_document_type_is_refused(void **state)
{
    (void)state;
    static const char bomb[] =
        "<!DOCTYPE Error [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>"
        "<Error><Code>&b;</Code></Error>";
    assert_false(reads(bomb, sizeof bomb - 1, "Error"));
}

static void depth_and_length_of_text_have_ceilings(void **state)
{
    (void)state;
    for (int deep = 0; deep < 2; deep++) {
        struct buf xml = BUF_INIT;
        int levels = S3_XML_DEPTH_MAX - 1 + deep;
        buf_append_str(&xml, "<Error>");
        for (int i = 0; i < levels; i++)
            buf_append_str(&xml, "<a>");
        for (int i = 0; i < levels; i++)
            buf_append_str(&xml, "</a>");
        buf_append_str(&xml, "</Error>");
        assert_int_equal(reads(xml.data, xml.size, "Error"), !deep);
        buf_release(&xml);
    }
    for (int more = 0; more < 2; more++) {
        struct buf xml = BUF_INIT;
        buf_append_str(&xml, "<Error><Code>");
        for (int i = 0; i < S3_XML_TEXT_MAX + more; i++)
            buf_append_byte(&xml, 'x');
        buf_append_str(&xml, "</Code></Error>");
        assert_int_equal(reads(xml.data, xml.size, "Error"), !more);
        buf_release(&xml);
    }
}

static void an_end_that_objects_stops_the_reading(void **state)
{
    (void)state;
    struct seen seen = {.stop_at = 2};
    assert_false(read_bytes(documents[0].xml, strlen(documents[0].xml),
                            documents[0].root, &seen));
    assert_int_equal(seen.ends, 2);
    buf_release(&seen.text);
}

static void what_was_escaped_is_read_back(void **state)
{
    (void)state;
    static const char text[] = "a&b<c>d\"e'f]]>";
    struct buf xml = BUF_INIT;
    struct seen seen = {.ends = 0};
    buf_append_str(&xml, "<Error><Code>");
    s3_xml_escape(text, &xml);
    buf_append_str(&xml, "</Code></Error>");
    assert_true(read_bytes(xml.data, xml.size, "Error", &seen));
    buf_append_byte(&seen.text, '\0');
    assert_string_equal((const char *)seen.text.data, "Code=a&b<c>d\"e'f]]>;");
    buf_release(&seen.text);
    buf_release(&xml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_with_their_path_and_their_own_text),
        cmocka_unit_test(another_root_is_refused),
        cmocka_unit_test(a_document_cut_at_any_length_is_refused),
        cmocka_unit_test(any_flipped_bit_is_survived),
        cmocka_unit_test(random_pieces_of_documents_are_survived),
        cmocka_unit_test(a_document_type_is_refused),
        cmocka_unit_test(depth_and_length_of_text_have_ceilings),
        cmocka_unit_test(an_end_that_objects_stops_the_reading),
        cmocka_unit_test(what_was_escaped_is_read_back),
    };
    return cmocka_run_group_tests_name("XML of S3", tests, NULL, NULL);
}
