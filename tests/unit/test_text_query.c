/*
 * Full-text queries through query_run: against a loop over all words of all documents,
 * and what users rely on of phrases, beginnings, misspellings and highlights.
 */
#include "unit/collection.h"
#include "unit/text_oracle.h"

/* Short words of few letters, so that many begin alike and are near each other. */
static void random_text(uint64_t *seed, uint32_t words, uint32_t letters,
                        struct buf *out)
{
    for (uint32_t i = 0; i < words; i++) {
        uint32_t size = 1 + (uint32_t)(test_random(seed) % 4);
        if (i) buf_append_byte(out, ' ');
        for (uint32_t k = 0; k < size; k++) {
            uint64_t letter = test_random(seed) % (test_random(seed) % letters + 1);
            if (letter == 2)
                buf_append_str(out, "é");
            else
                buf_append_byte(out, (uint8_t)('a' + letter));
        }
    }
}

struct generator {
    uint32_t words_max, letters;
    struct buf bytes;
    union scalar items[4];
};

static void generate(void *context, uint32_t i, struct value *a, struct value *b,
                     uint64_t *seed)
{
    struct generator *g = context;
    (void)i;
    size_t ends[5];
    buf_clear(&g->bytes);
    for (size_t k = 0; k < 5; k++) {
        random_text(seed, (uint32_t)(test_random(seed) % g->words_max), g->letters,
                    &g->bytes);
        ends[k] = g->bytes.size;
    }
    if (test_random(seed) % 8)
        *a = (struct value){.one.s = slice_of(g->bytes.data, ends[0])};
    for (size_t k = 0; k < 4; k++)
        g->items[k].s = slice_of(g->bytes.data + ends[k], ends[k + 1] - ends[k]);
    if (test_random(seed) % 8)
        *b = (struct value){.count = (uint32_t)(test_random(seed) % 5),
                            .items = g->items};
}

static void random_corpus(uint32_t docs, uint32_t segments, uint32_t words_max,
                          uint32_t letters, size_t queries)
{
    uint64_t seed = test_seed();
    struct generator g = {.words_max = words_max, .letters = letters};
    struct oracle o;
    oracle_make(&o, docs, segments, 7, generate, &g, &seed);
    oracle_run(&o, &seed, queries);
    oracle_release(&o);
    buf_release(&g.bytes);
}

static void random_queries_equal_a_loop_over_all_words(void **state)
{
    (void)state;
    random_corpus(1, 1, 4, 2, 100);
    random_corpus(60, 3, 6, 2, 300);
    random_corpus(500, 5, 30, 3, 300);
    random_corpus(3000, 2, 12, 12, 200);
    random_corpus(20000, 3, 8, 5, 60);
}

/* ---- collections ---- */

/* A collection's text whole, and again as its sentences. */
static void from_collection(void *context, uint32_t i, struct value *a, struct value *b,
                            uint64_t *seed)
{
    static union scalar items[4096];
    struct slice text = collection_text(context, i);
    (void)seed;
    *a = (struct value){.one.s = text};
    *b = (struct value){.items = items};
    for (size_t at = 0; at < text.size && b->count < COUNT_OF(items);) {
        const uint8_t *dot = memchr(text.data + at, '.', text.size - at);
        size_t end = dot ? (size_t)(dot - text.data) + 1 : text.size;
        items[b->count++].s = slice_of(text.data + at, end - at);
        at = end;
    }
}

/* ELACSYM_TEXT_QUERIES: how many of each collection; make text-random asks many. */
static void random_queries_on_collections_equal_a_loop(void **state)
{
    static const char *const files[] = {"ir-cranfield/docs.jsonl", "ir-npl/docs.jsonl",
                                        "movies/docs.jsonl.zst",
                                        "pkg200k/docs.jsonl.zst"};
    const char *given = getenv("ELACSYM_TEXT_QUERIES");
    size_t queries = given ? strtoull(given, NULL, 10) : 0;
    uint64_t seed = test_seed();
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct collection docs;
        struct oracle o;
        bool large = i >= 2;
        if (!given && large) break; /* some minutes under a sanitizer */
        if (!collection_read(files[i], &docs)) continue;
        oracle_make(&o, (uint32_t)docs.count, 4, 11, from_collection, &docs, &seed);
        oracle_run(&o, &seed, given ? queries : 40);
        print_message("%s: %zu queries\n", files[i], given ? queries : 40);
        oracle_release(&o);
        collection_release(&docs);
    }
}

/* ---- small cases ---- */

enum { FIELD_TITLE, FIELD_TAGS };

struct shelf {
    struct op op;
    struct snapshot *snapshot;
};

/* Documents 0, 1, …: a title each, and the tags, separated by '|'. */
static void shelf_make(struct shelf *s, const struct analysis *analysis,
                       const char *const (*docs)[2], size_t count)
{
    struct attr attrs[] = {
        {.name = "title",
         .type = ATTR_STRING,
         .full_text = true,
         .analysis = *analysis},
        {.name = "tags",
         .type = ATTR_STRING,
         .array = true,
         .full_text = true,
         .analysis = *analysis},
    };
    struct segment_options options = {.zstd_level = 0};
    struct buf bytes = BUF_INIT;
    op_init(&s->op, OP_NO_DEADLINE, 0);
    s->snapshot = mem_calloc(1, sizeof *s->snapshot + sizeof(struct source));
    atomic_init(&s->snapshot->refs, 1);
    s->snapshot->schema = schema_new(0, METRIC_COSINE, attrs, COUNT_OF(attrs));
    s->snapshot->id_kind = ID_U64;
    struct segment_builder *b = segment_builder_new(s->snapshot->schema, &options);
    for (size_t i = 0; i < count; i++) {
        union scalar items[8];
        struct value values[2] = {VALUE_NULL, {.items = items}};
        if (docs[i][0]) values[0] = (struct value){.one.s = slice_str(docs[i][0])};
        for (const char *at = docs[i][1]; at; at = strchr(at, '|')) {
            at += *at == '|';
            items[values[1].count++].s = slice_of(at, strcspn(at, "|"));
        }
        struct doc d = {.id = {.kind = ID_U64, .u64 = i}, .values = values};
        segment_builder_add(b, &d);
    }
    assert_int_equal(segment_builder_finish(&s->op, b, &bytes), ERR_OK);
    assert_int_equal(segment_open_memory(&s->op, &bytes,
                                         &s->snapshot->sources[0].segment),
                     ERR_OK);
    s->snapshot->source_count = 1;
}

static void shelf_release(struct shelf *s)
{
    snapshot_unref(s->snapshot);
    op_release(&s->op);
}

static enum err shelf_run(struct shelf *s, const struct rank *options,
                          const char *query, struct query_result *r)
{
    static const struct rank_field both[] = {{FIELD_TITLE, 1.0F}, {FIELD_TAGS, 1.0F}};
    struct rank rank = *options;
    rank.kind = RANK_TEXT;
    rank.text = slice_str(query);
    rank.fields = both;
    rank.field_count = COUNT_OF(both);
    struct query q = {.ranks = &rank, .rank_count = 1, .top_k = 10};
    op_clear_error(&s->op);
    return query_run(&s->op, s->snapshot, &q, r);
}

/* wanted: the ids found, ascending, as digits. */
static void expect_found(struct shelf *s, const struct rank *options, const char *query,
                         const char *wanted)
{
    struct query_result r;
    char found[16] = "";
    if (shelf_run(s, options, query, &r)) fail_msg("%s: %s", query, s->op.error);
    for (uint64_t id = 0; id < 10; id++)
        for (size_t i = 0; i < r.count; i++)
            if (r.hits[i].doc.id.u64 == id)
                (void)sprintf(found + strlen(found), "%llu", (unsigned long long)id);
    if (strcmp(found, wanted) != 0)
        fail_msg("%s finds \"%s\" instead of \"%s\"", query, found, wanted);
}

static const struct rank plain_or = {.all_words = false};
static const struct rank plain_and = {.all_words = true};

static void a_phrase_is_its_words_in_this_order_and_nothing_between(void **state)
{
    (void)state;
    static const char *const docs[][2] = {
        {"the quick brown fox", NULL},
        {"brown quick fox", NULL},
        {"a quick fox, brown", NULL},
        {"quick brown quick brown", NULL},
        {"quick", "brown"},
        {NULL, "quick brown|fox"},
        {NULL, "quick|brown"},
    };
    struct shelf s;
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "\"quick brown\"", "035");
    expect_found(&s, &plain_or, "\"Quick BROWN foxes\"", "0");
    expect_found(&s, &plain_or, "\"brown fox\"", "0");
    expect_found(&s, &plain_or, "\"quick brown\" lazy", "035");
    expect_found(&s, &plain_and, "\"quick brown\" fox", "05");
    expect_found(&s, &plain_and, "fox \"quick brown\" \"brown fox\"", "0");
    expect_found(&s, &plain_or, "\"fox\"", "0125");
    expect_found(&s, &plain_or, "\"quick brown", "0123456");
    expect_found(&s, &plain_or, "\"\"", "");
    expect_found(&s, &plain_or, "\"", "");
    expect_found(&s, &plain_or, "\"quick zebra\"", "");
    expect_found(&s, &plain_and, "quick \"zebra crossing\"", "");
    shelf_release(&s);
}

/* What is left out leaves a gap, and the gap has to fit. */
static void stop_words_keep_their_place_in_a_phrase(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"the lord of the rings", NULL},
                                          {"lord rings", NULL},
                                          {"lord in a ring", NULL},
                                          {"who is the lord of rings", NULL}};
    struct shelf s;
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "\"lord of the rings\"", "02");
    expect_found(&s, &plain_or, "\"lord of rings\"", "3");
    expect_found(&s, &plain_or, "\"lord rings\"", "1");
    expect_found(&s, &plain_or, "\"the who\"", "");
    expect_found(&s, &plain_or, "\"the lord\"", "0123");
    shelf_release(&s);
}

static void a_phrase_that_no_item_could_hold_is_refused(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"a", NULL}};
    const struct analysis all = {LANG_ENGLISH, false, false, false, false};
    struct buf query = BUF_INIT;
    struct query_result r;
    struct shelf s;
    shelf_make(&s, &all, docs, COUNT_OF(docs));
    buf_append_byte(&query, '"');
    for (size_t i = 0; i < 128; i++)
        buf_append_str(&query, "a ");
    size_t fits = query.size;
    buf_append_str(&query, "\"");
    buf_append_byte(&query, 0);
    expect_found(&s, &plain_or, (const char *)query.data, "");
    query.size = fits;
    buf_append_str(&query, "a\"");
    buf_append_byte(&query, 0);
    assert_int_equal(shelf_run(&s, &plain_or, (const char *)query.data, &r),
                     ERR_INVALID);
    assert_string_equal(s.op.error, "full_text.query: a phrase has at most 128 words");
    buf_release(&query);
    shelf_release(&s);
}

static void a_phrase_does_not_reach_from_one_item_into_the_next(void **state)
{
    (void)state;
    struct buf item = BUF_INIT;
    struct shelf s;
    const struct analysis all = {LANG_ENGLISH, false, false, false, false};
    for (size_t i = 0; i < 200; i++)
        buf_append_str(&item, "x ");
    buf_append_str(&item, "last|first|");
    for (size_t i = 0; i < 200; i++)
        buf_append_str(&item, "y ");
    buf_append_byte(&item, 0);
    const char *const docs[][2] = {{NULL, (const char *)item.data}};
    shelf_make(&s, &all, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "\"last first\"", "");
    expect_found(&s, &plain_or, "\"x last\"", "0");
    expect_found(&s, &plain_or, "\"first y\"", "");
    expect_found(&s, &plain_or, "\"y y y y\"", "0");
    buf_release(&item);
    shelf_release(&s);
}

static void the_last_word_stands_for_all_that_begins_with_it(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"new york", NULL},
                                          {"new yorkshire terrier", NULL},
                                          {"running shoes", NULL},
                                          {"the theory of everything", NULL},
                                          {"old yoghurt", "New Yo"},
                                          {"Übermut", NULL}};
    const struct rank begins = {.prefix = true};
    const struct rank begins_all = {.prefix = true, .all_words = true};
    struct shelf s;
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_found(&s, &begins, "yo", "014");
    expect_found(&s, &begins, "york", "01");
    expect_found(&s, &begins_all, "new yo", "014");
    expect_found(&s, &begins_all, "new york ", "01");
    expect_found(&s, &begins_all, "york ne", "0");
    expect_found(&s, &begins, "runni", "");
    expect_found(&s, &begins, "running", "2");
    expect_found(&s, &begins, "ru", "2");
    expect_found(&s, &begins, "the", "3");
    expect_found(&s, &begins, "über", "5");
    expect_found(&s, &begins, "ÜB", "5");
    expect_found(&s, &begins, "zz", "");
    expect_found(&s, &begins, "", "");
    expect_found(&s, &begins, "...", "");
    expect_found(&s, &begins, "yo \"new york\"", "04");
    expect_found(&s, &plain_or, "yo", "4");
    shelf_release(&s);
}

static void misspelt_words_are_found_within_the_edits_allowed(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"search engine", NULL},
                                          {"serach engines", NULL},
                                          {"saerhc", NULL},
                                          {"cat", NULL},
                                          {"at", NULL},
                                          {"größe", NULL},
                                          {"dog", NULL}};
    const struct rank one = {.fuzzy = 1}, two = {.fuzzy = 2};
    const struct rank two_all = {.fuzzy = 2, .all_words = true};
    struct shelf s;
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_found(&s, &one, "search", "01");
    expect_found(&s, &two, "search", "012");
    expect_found(&s, &one, "saerch", "02");
    expect_found(&s, &one, "cta", "3");
    expect_found(&s, &one, "ca", "3"); /* one edit is less than two characters */
    expect_found(&s, &two, "c", "");   /* nothing is less than one but equality */
    expect_found(&s, &one, "grösse", "5");
    expect_found(&s, &two, "grosse", "5"); /* gross and grösse */
    expect_found(&s, &two_all, "serch enginne", "01");
    expect_found(&s, &one, "\"serach engine\"", "1"); /* a phrase is exact */
    expect_found(&s, &one, "zzzzzz", "");
    struct query_result r;
    assert_int_equal(shelf_run(&s, &one, "search", &r), ERR_OK);
    assert_int_equal(r.hits[0].doc.id.u64, 0);
    assert_true(r.hits[0].score > r.hits[1].score);
    shelf_release(&s);
}

static void too_many_misspelt_words_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"a", NULL}};
    const struct analysis all = {LANG_ENGLISH, false, false, false, false};
    const struct rank one = {.fuzzy = 1};
    struct buf query = BUF_INIT;
    struct query_result r;
    struct shelf s;
    shelf_make(&s, &all, docs, COUNT_OF(docs));
    for (size_t i = 0; i < 33; i++)
        buf_printf(&query, "w%zu ", i);
    assert_int_equal(shelf_run(&s, &one, (const char *)query.data, &r), ERR_INVALID);
    assert_string_equal(s.op.error,
                        "full_text.fuzzy: at most 64 words, counted once per field");
    buf_release(&query);
    shelf_release(&s);
}

static void accents_do_not_count_with_ascii_folding(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"café olé", NULL},
                                          {"cafe ole", NULL},
                                          {"Łódź straße", NULL},
                                          {"Ελλάδα", NULL}};
    struct analysis folding = {LANG_FRENCH, true, true, false, true};
    struct shelf s;
    shelf_make(&s, &folding, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "cafe", "01");
    expect_found(&s, &plain_or, "café", "01");
    expect_found(&s, &plain_or, "\"CAFÉ OLE\"", "01");
    expect_found(&s, &plain_or, "lodz", "2");
    expect_found(&s, &plain_or, "strasse", "2");
    expect_found(&s, &plain_or, "Ελλάδα", "3");
    shelf_release(&s);
    folding.ascii_folding = false;
    shelf_make(&s, &folding, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "lodz", "");
    shelf_release(&s);
}

/* ---- highlights ---- */

static void expect_marked(struct shelf *s, const struct rank *options,
                          const char *query, uint64_t id, int attr,
                          const char *const *wanted, size_t count)
{
    static const int attrs[] = {FIELD_TITLE, FIELD_TAGS};
    struct rank rank = *options;
    struct query_result r;
    rank.highlights = attrs;
    rank.highlight_count = COUNT_OF(attrs);
    if (shelf_run(s, &rank, query, &r)) fail_msg("%s: %s", query, s->op.error);
    for (size_t i = 0; i < r.count; i++) {
        if (r.hits[i].doc.id.u64 != id) continue;
        const struct query_highlight *h = NULL;
        for (size_t k = 0; k < r.hits[i].highlight_count; k++)
            if (r.hits[i].highlights[k].attr == attr) h = &r.hits[i].highlights[k];
        assert_int_equal(h ? h->fragment_count : 0, count);
        for (size_t k = 0; k < count; k++)
            assert_string_equal((const char *)h->fragments[k].data, wanted[k]);
        return;
    }
    fail_msg("%s does not find document %llu", query, (unsigned long long)id);
}

static void expect_title(struct shelf *s, const struct rank *options, const char *query,
                         uint64_t id, const char *wanted)
{
    expect_marked(s, options, query, id, FIELD_TITLE, &wanted, wanted ? 1 : 0);
}

static void what_was_found_is_marked_and_everything_else_is_text(void **state)
{
    (void)state;
    static const char *const docs[][2] = {{"Sailing boats & <b>boating</b>",
                                           "a boat|no bo'at|two boats"},
                                          {"quick brown fox, quick red fox", NULL},
                                          {"New York, new yorkers", NULL}};
    const struct rank begins = {.prefix = true}, near = {.fuzzy = 1};
    static const char *const tags[] = {"a <em>boat</em>", "two <em>boats</em>"};
    struct shelf s;
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_title(&s, &plain_or, "boat", 0,
                 "Sailing <em>boats</em> &amp; &lt;b&gt;<em>boating</em>&lt;/b&gt;");
    expect_marked(&s, &plain_or, "boat", 0, FIELD_TAGS, tags, 2);
    expect_title(&s, &plain_or, "\"quick red\"", 1,
                 "quick brown fox, <em>quick</em> <em>red</em> fox");
    expect_title(&s, &plain_or, "\"quick red\" fox", 1,
                 "quick brown <em>fox</em>, <em>quick</em> <em>red</em> <em>fox</em>");
    expect_title(&s, &begins, "yor", 2, "New <em>York</em>, new <em>yorkers</em>");
    expect_title(&s, &near, "bown", 1, "quick <em>brown</em> fox, quick red fox");
    shelf_release(&s);
}

static void long_texts_are_cut_into_the_best_fragments(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    const struct analysis all = {LANG_ENGLISH, false, false, false, false};
    static const char *const wanted[] = {
        "w97 w98 w99 <em>red</em> w100 <em>green</em> w101 w102 w103",
        "w197 w198 w199 <em>red</em> w200 w201 w202",
        "w397 w398 w399 <em>red</em> w400 <em>red</em> w401 w402"};
    struct shelf s;
    for (size_t i = 0; i < 500; i++) {
        buf_printf(&text, "w%zu ", i);
        if (i == 99 || i == 199 || i == 299 || i == 399 || i == 400)
            buf_append_str(&text, "red ");
        if (i == 100) buf_append_str(&text, "green ");
    }
    buf_append_byte(&text, 0);
    const char *const docs[][2] = {{(const char *)text.data, NULL}};
    shelf_make(&s, &all, docs, COUNT_OF(docs));
    struct query_result r;
    static const int title = FIELD_TITLE;
    struct rank rank = {.highlights = &title, .highlight_count = 1};
    assert_int_equal(shelf_run(&s, &rank, "red green", &r), ERR_OK);
    assert_int_equal(r.hits[0].highlight_count, 1);
    const struct query_highlight *h = &r.hits[0].highlights[0];
    assert_int_equal(h->fragment_count, 3);
    for (size_t i = 0; i < 3; i++) {
        const char *got = (const char *)h->fragments[i].data;
        const char *part = strstr(wanted[i], "<em>");
        if (!strstr(got, "<em>") || strncmp(strstr(got, "<em>"), part, 12) != 0)
            fail_msg("fragment %zu: %s", i, got);
        assert_true(strlen(got) < 120 + 2 * 40 + 60);
        assert_true(got[0] == 'w');
    }
    assert_non_null(strstr((const char *)h->fragments[0].data, "<em>green</em>"));
    assert_non_null(strstr((const char *)h->fragments[2].data, "w400"));
    buf_release(&text);
    shelf_release(&s);
}

/* ---- hostile texts ---- */

/* A million different terms, a word of 64 KiB, marks without a base, directions, bytes
 * of no text: each is indexed, found by what can be found in it, and marked. */
static void hostile_texts_are_indexed_and_asked(void **state)
{
    (void)state;
    struct buf million = BUF_INIT, long_word = BUF_INIT, marks = BUF_INIT;
    struct buf same = BUF_INIT, phrases = BUF_INIT;
    struct shelf s;
    for (uint32_t i = 0; i < 1000000; i++)
        buf_printf(&million, "t%x ", i);
    buf_append_str(&long_word, "alpha ");
    for (uint32_t i = 0; i < 65536; i++)
        buf_append_byte(&long_word, 'x');
    buf_append_str(&long_word, " omega");
    for (uint32_t i = 0; i < 100000; i++)
        buf_append_str(&marks, "\u0301\u202e\u200d");
    buf_append_str(&marks, " e");
    for (uint32_t i = 0; i < 5000; i++)
        buf_append_str(&marks, "\u0301");
    buf_append_str(&marks, " \u202ehebrew\u202c");
    for (uint32_t i = 0; i < 500000; i++)
        buf_append_str(&same, "aa ");
    for (uint32_t i = 0; i < 100; i++)
        buf_append_str(&phrases, "\"aa aa aa\" ");
    struct buf *all[] = {&million, &long_word, &marks, &same, &phrases};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_append_byte(all[i], 0);
    const char *const docs[][2] = {
        {(const char *)million.data, NULL},
        {(const char *)long_word.data, NULL},
        {(const char *)marks.data, NULL},
        {(const char *)same.data, NULL},
        {"\x01\x02 \x7f", NULL},
    };
    const struct rank begins = {.prefix = true}, near = {.fuzzy = 2};
    shelf_make(&s, &ANALYSIS_DEFAULT, docs, COUNT_OF(docs));
    expect_found(&s, &plain_or, "tf423f", "0");
    expect_found(&s, &begins, "t", "0");
    expect_found(&s, &near, "t12345", "0");
    expect_found(&s, &plain_or, "\"t1000 t1001 t1002\"", "0");
    expect_found(&s, &plain_and, "alpha omega", "1");
    expect_found(&s, &plain_or, "\"alpha omega\"", "");
    expect_found(&s, &plain_or, "hebrew", "2");
    expect_found(&s, &plain_or, (const char *)phrases.data, "3");
    expect_found(&s, &plain_or, (const char *)long_word.data, "1");
    expect_found(&s, &near, (const char *)marks.data, "2");
    static const int title = FIELD_TITLE;
    struct rank rank = {.highlights = &title, .highlight_count = 1};
    struct query_result r;
    assert_int_equal(shelf_run(&s, &rank, "aa t1 hebrew alpha", &r), ERR_OK);
    assert_int_equal(r.count, 4);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_release(all[i]);
    shelf_release(&s);
}

/* No writer lets them in. Whoever meets them in a segment, its checksums right or not
 * asked, says that it is damaged, and a search takes them for breaks. */
static void bytes_that_are_no_utf8_are_found_in_a_segment(void **state)
{
    (void)state;
    struct attr attr = {.name = "t",
                        .type = ATTR_STRING,
                        .full_text = true,
                        .analysis = ANALYSIS_DEFAULT};
    struct segment_options options = {.zstd_level = 0};
    struct schema *schema = schema_new(0, METRIC_COSINE, &attr, 1);
    struct segment_fetch what = {.attributes = true};
    struct buf bytes = BUF_INIT;
    struct segment *segment;
    struct doc got;
    struct op op;
    uint32_t row = 0;

    op_init(&op, OP_NO_DEADLINE, 0);
    for (size_t damaged = 0; damaged < 2; damaged++) {
        struct segment_builder *b = segment_builder_new(schema, &options);
        struct value v = {.one.s = slice_str("Zanzibar zanzibar")};
        struct doc d = {.id = {.kind = ID_U64, .u64 = 1}, .values = &v};
        segment_builder_add(b, &d);
        assert_int_equal(segment_builder_finish(&op, b, &bytes), ERR_OK);
        for (size_t i = 0; damaged && i + 8 < bytes.size; i++)
            if (memcmp(bytes.data + i, "Zanzibar", 8) == 0) bytes.data[i + 3] = 0xff;
        enum err e = segment_open_memory(&op, &bytes, &segment);
        if (!e) {
            e = segment_fetch(&op, segment, schema, &row, 1, what, &got);
            segment_unref(segment);
        }
        assert_int_equal(e, damaged ? ERR_CORRUPT : ERR_OK);
        buf_clear(&bytes);
    }
    buf_release(&bytes);
    schema_unref(schema);
    op_release(&op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_phrase_is_its_words_in_this_order_and_nothing_between),
        cmocka_unit_test(stop_words_keep_their_place_in_a_phrase),
        cmocka_unit_test(a_phrase_that_no_item_could_hold_is_refused),
        cmocka_unit_test(a_phrase_does_not_reach_from_one_item_into_the_next),
        cmocka_unit_test(the_last_word_stands_for_all_that_begins_with_it),
        cmocka_unit_test(misspelt_words_are_found_within_the_edits_allowed),
        cmocka_unit_test(too_many_misspelt_words_are_refused_by_name),
        cmocka_unit_test(accents_do_not_count_with_ascii_folding),
        cmocka_unit_test(what_was_found_is_marked_and_everything_else_is_text),
        cmocka_unit_test(long_texts_are_cut_into_the_best_fragments),
        cmocka_unit_test(hostile_texts_are_indexed_and_asked),
        cmocka_unit_test(bytes_that_are_no_utf8_are_found_in_a_segment),
        cmocka_unit_test(random_queries_equal_a_loop_over_all_words),
        cmocka_unit_test(random_queries_on_collections_equal_a_loop),
    };
    return cmocka_run_group_tests_name("text query", tests, NULL, NULL);
}
