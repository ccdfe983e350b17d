#include "text/analyze.h"

#include <assert.h>
#include <libstemmer.h>
#include <unistd.h>
#include <zlib.h>

#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/task.h"
#include "text/stopwords.h"
#include "text/words.h"
#include "unit/data.h"
#include "unit/test.h"

static const struct analysis bare = {LANG_ENGLISH, false, false, false, false};

/* Terms with a bar between two. */
static void terms_of(const struct analysis *analysis, struct slice text,
                     struct buf *out)
{
    struct analyzer *a = analyzer_get(analysis);
    struct token token;

    buf_clear(out);
    analyzer_start(a, text);
    while (analyzer_next(a, &token)) {
        if (out->size) buf_append_byte(out, '|');
        buf_append_slice(out, token.term);
    }
}

static void check(const struct analysis *analysis, const char *text, const char *wanted)
{
    struct buf got = BUF_INIT;
    for (int again = 0; again < 2; again++) { /* the second time out of the memo */
        terms_of(analysis, slice_str(text), &got);
        buf_append_byte(&got, '\0');
        assert_string_equal((const char *)got.data, wanted);
    }
    buf_release(&got);
}

/* ---- words ---- */

static void words_are_those_of_uax_29(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"", ""},
        {"one", "one"},
        {" one  two. ", "one|two"},
        {"don't stop", "don't|stop"},
        {"'quoted' words''", "quoted|words"},
        {"example.com a.b. c", "example.com|a.b|c"},
        {"3.14 1,000.5 1;2 3:4 1'000", "3.14|1,000.5|1;2|3|4|1'000"},
        {"a,b a;b", "a|b|a|b"},
        {"3a a3 3.a a.3", "3a|a3|3|a|a|3"},
        {"snake_case _x_ __ _", "snake|case|x"},
        {"key:value", "key|value"},
        {"@types/node a@b.c", "types|node|a|b.c"},
        {"mot\u202f! 10\u202f000", "mot|10|000"},
        {"c++ c# .net -5", "c|c|net|5"},
        {"e-mail", "e|mail"},
        {"caf\u00e9 na\u00efve", "caf\u00e9|na\u00efve"},
        {"a\u2019b", "a'b"},
        {"\u6c49\u5b57 \u3072\u3089", "\u6c49|\u5b57|\u3072|\u3089"},
        {"\u30ab\u30bf\u30ab\u30ca", "\u30ab\u30bf\u30ab\u30ca"},
        {"\ud55c\uad6d\uc5b4", "\ud55c\uad6d\uc5b4"},
        {"x\u6c49y", "x|\u6c49|y"},
        {"\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
         "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd"}, /* Tamil */
        {"\U0001F600\U0001F680", "\U0001F600|\U0001F680"},
        {"\u2764\ufe0f", "\u2764"}, /* a variation selector is no difference */
        {"\U0001F469\u200d\U0001F4BB", "\U0001F469\U0001F4BB"},
        {". \u200d\U0001F600", "\U0001F600"},
        {"\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7",
         "\U0001F1E9\U0001F1EA|\U0001F1EB\U0001F1F7"}, /* two flags */
        {"\u00a9 2024 Foo\u2122 \u2192", "2024|foo"},
        {"6\u00bd", "6|\u00bd"},
        {"\u05d0\u05d1\"\u05d2 \u05d0'", "\u05d0\u05d1\"\u05d2|\u05d0'"}, /* Hebrew */
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        check(&bare, table[i][0], table[i][1]);
}

static void a_colon_joins_letters_in_finnish_and_swedish_only(void **state)
{
    (void)state;
    struct analysis a = bare;
    for (int l = LANG_ARABIC; l <= LANG_LAST; l++) {
        a.language = (enum language)l;
        bool joins = l == LANG_FINNISH || l == LANG_SWEDISH;
        check(&a, "eu:n 3:4", joins ? "eu:n|3|4" : "eu|n|3|4");
        check(&a, "\u00e9u:n", joins ? "\u00e9u:n" : "\u00e9u|n");
    }
}

static void marks_without_a_base_and_direction_marks_make_no_words(void **state)
{
    (void)state;
    check(&bare, "\u0308 \u0bcd\u0308 \u202e\u202c \u200f \u200d", "");
    check(&bare, "a\u0308b", "\u00e4b");
    check(&bare, "\u202eabc\u202c def", "abc|def");
    check(&bare, "ab\u00adcd", "abcd"); /* a soft hyphen */
    check(&bare, "\u115f\u3164", "");   /* letters that are invisible */
}

static void bytes_that_are_not_utf_8_separate_words(void **state)
{
    (void)state;
    check(&bare,
          "ab\xff"
          "cd",
          "ab|cd");
    check(&bare, "\xc3", "");
    check(&bare, "a\xc3", "a");
    check(&bare, "\xed\xa0\x80x", "x");     /* a surrogate */
    check(&bare, "\xf4\x90\x80\x80y", "y"); /* beyond U+10FFFF */
    check(&bare, "\xc0\xafz", "z");         /* overlong */
    check(&bare, "\xe6\xb1 q", "q");        /* cut off */
    check(&bare,
          "a\xff\u0308"
          "b",
          "a|b");
}

static void words_longer_than_a_term_are_dropped_and_counted(void **state)
{
    (void)state;
    struct buf text = BUF_INIT, got = BUF_INIT;
    struct token token;
    buf_append_str(&text, "first ");
    for (size_t i = 0; i < 65536; i++)
        buf_append_byte(&text, 'x');
    buf_append_str(&text, " ");
    for (size_t i = 0; i < 65536 / 2; i++)
        buf_append_str(&text, "\u00e9");
    buf_append_str(&text, " last ");
    for (size_t i = 0; i < TERM_SIZE_MAX; i++)
        buf_append_byte(&text, 'y');
    buf_append_str(&text, " ");
    for (size_t i = 0; i < TERM_SIZE_MAX + 1; i++)
        buf_append_byte(&text, 'z');

    struct analyzer *a = analyzer_get(&bare);
    analyzer_start(a, buf_slice(&text));
    assert_true(analyzer_next(a, &token));
    assert_int_equal(token.position, 0);
    assert_true(analyzer_next(a, &token));
    assert_int_equal(token.position, 3);
    assert_int_equal(token.end - token.start, 4);
    assert_memory_equal(text.data + token.start, "last", 4);
    assert_true(analyzer_next(a, &token));
    assert_int_equal(token.term.size, TERM_SIZE_MAX);
    assert_false(analyzer_next(a, &token));
    assert_false(analyzer_next(a, &token));

    /* Folding makes each of these letters three: too long only afterwards. */
    buf_clear(&text);
    for (size_t i = 0; i < TERM_SIZE_MAX / 2; i++)
        buf_append_str(&text, "\u0390");
    terms_of(&bare, buf_slice(&text), &got);
    assert_true(got.size <= TERM_SIZE_MAX);
    buf_release(&text);
    buf_release(&got);
}

/* ---- folding, stop words, stems ---- */

static void case_is_folded_by_language(void **state)
{
    (void)state;
    struct analysis a = bare;
    check(&a, "\u00c9COLE Stra\u00dfe \u0391\u03a3 \u03bf\u03b4\u03bf\u03c2 \ufb01nd",
          "\u00e9cole|strasse|\u03b1\u03c3|\u03bf\u03b4\u03bf\u03c3|find");
    check(&a, "e\u0301cole", "\u00e9cole"); /* decomposed */
    check(&a, "ISTANBUL", "istanbul");
    a.language = LANG_TURKISH;
    check(&a, "ISPARTA \u0130zmir I\u0307zmir D\u0130L",
          "\u0131sparta|izmir|izmir|dil");
}

static void case_sensitive_text_is_not_folded(void **state)
{
    (void)state;
    struct analysis a = {LANG_ENGLISH, false, true, true, false};
    check(&a, "The Cat and the \u00c9COLE", "The|Cat|\u00c9COLE");
}

static void each_language_has_its_stop_words_and_stems(void **state)
{
    (void)state;
    static const struct {
        enum language language;
        const char *text, *terms;
    } table[] = {
        {LANG_ARABIC, "\u0627\u0644\u0643\u062a\u0627\u0628 \u0641\u064a",
         "\u0643\u062a\u0627\u0628"},
        {LANG_DANISH, "Husene og bilerne", "hus|bil"},
        {LANG_DUTCH, "De huizen van het meisje", "huiz|meisj"},
        {LANG_ENGLISH, "The Running of the dogs' houses", "run|dog|hous"},
        {LANG_FINNISH, "Talossa ja autoilla", "talo|auto"},
        {LANG_FRENCH, "L\u2019avion et les maisons qu'elle", "avion|maison"},
        {LANG_GERMAN, "Die H\u00e4user da\u00df der Stra\u00dfen", "haus|strass"},
        {LANG_GREEK,
         "\u03bf\u03b9 \u039f\u03b4\u03bf\u03af \u03ba\u03b1\u03b9 "
         "\u03bf\u03b4\u03cc\u03c2",
         "\u03bf\u03b4|\u03bf\u03b4"},
        {LANG_HUNGARIAN, "A h\u00e1zak \u00e9s az aut\u00f3ban", "h\u00e1z|aut\u00f3"},
        {LANG_ITALIAN, "Dell'universit\u00e0 le case", "univers|cas"},
        {LANG_NORWEGIAN, "Husene og bilene", "hus|bil"},
        {LANG_PORTUGUESE, "As casas dos meninos", "cas|menin"},
        {LANG_ROMANIAN, "Casele \u0219i b\u0103ie\u021bii", "cas|b\u0103ie\u021b"},
        {LANG_RUSSIAN, "\u041a\u043d\u0438\u0433\u0438 \u0438 \u0434\u043e\u043c\u0430",
         "\u043a\u043d\u0438\u0433|\u0434\u043e\u043c"},
        {LANG_SPANISH, "Las casas de los ni\u00f1os", "cas|ni\u00f1"},
        {LANG_SWEDISH, "Husen och bilarna", "hus|bil"},
        {LANG_TAMIL, "\u0b92\u0bb0\u0bc1 \u0bae\u0bb0\u0b99\u0bcd\u0b95\u0bb3\u0bcd",
         "\u0bae\u0bb0\u0b99\u0bcd"},
        {LANG_TURKISH, "Evler ve \u0130stanbul'da \u0130\u00c7\u0130N", "ev|istanbul"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct analysis a = {table[i].language, true, true, false, false};
        check(&a, table[i].text, table[i].terms);
    }
}

static void every_listed_stop_word_is_left_out(void **state)
{
    (void)state;
    for (int l = LANG_ARABIC; l <= LANG_LAST; l++) {
        struct analysis a = {(enum language)l, true, true, false, false};
        check(&a, stopwords_of(a.language), "");
        a.case_sensitive = true;
        check(&a, stopwords_of(a.language), "");
        a.remove_stopwords = false;
        struct buf got = BUF_INIT;
        terms_of(&a, slice_str(stopwords_of(a.language)), &got);
        assert_true(got.size > 0);
        buf_release(&got);
    }
}

static void tokens_name_their_place_in_the_text(void **state)
{
    (void)state;
    struct analysis a = ANALYSIS_DEFAULT;
    struct analyzer *analyzer = analyzer_get(&a);
    struct token token;
    analyzer_start(analyzer, SLICE_LITERAL("The caf\xc3\xa9s, the END"));
    assert_true(analyzer_next(analyzer, &token));
    assert_int_equal(token.position, 1);
    assert_int_equal(token.start, 4);
    assert_int_equal(token.end, 10);
    assert_true(analyzer_next(analyzer, &token));
    assert_int_equal(token.position, 3);
    assert_int_equal(token.start, 16);
    assert_int_equal(token.end, 19);
    assert_false(analyzer_next(analyzer, &token));
}

/* ---- against ICU ---- */

static const char *const locales[LANG_LAST + 1] = {
    [LANG_ARABIC] = "ar",   [LANG_DANISH] = "da",    [LANG_DUTCH] = "nl",
    [LANG_ENGLISH] = "en",  [LANG_FINNISH] = "fi",   [LANG_FRENCH] = "fr",
    [LANG_GERMAN] = "de",   [LANG_GREEK] = "el",     [LANG_HUNGARIAN] = "hu",
    [LANG_ITALIAN] = "it",  [LANG_NORWEGIAN] = "nb", [LANG_PORTUGUESE] = "pt",
    [LANG_ROMANIAN] = "ro", [LANG_RUSSIAN] = "ru",   [LANG_SPANISH] = "es",
    [LANG_SWEDISH] = "sv",  [LANG_TAMIL] = "ta",     [LANG_TURKISH] = "tr"};

struct icu_words {
    UBreakIterator *iterator;
    UChar *units;
    UChar32 *chars; /* the character of each unit */
    int32_t *bytes; /* where each unit's character begins in the UTF-8 text */
    int32_t count;
};

static bool holds_word(const UChar32 *chars, int32_t start, int32_t end)
{
    for (int32_t i = start; i < end; i++) {
        UChar32 c = chars[i];
        int wb = u_getIntPropertyValue(c, UCHAR_WORD_BREAK);
        bool letter = (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_N_MASK)) ||
                      wb == U_WB_ALETTER || wb == U_WB_NUMERIC || wb == U_WB_KATAKANA;
        bool emoji = c >= 0x2300 && u_hasBinaryProperty(c, UCHAR_EXTENDED_PICTOGRAPHIC);
        if (letter || emoji || wb == U_WB_REGIONAL_INDICATOR) return true;
    }
    return false;
}

/* We begin a word at the emoji where a joiner ties it to spaces or signs before it. */
static int32_t behind_stray_joiner(const UChar32 *chars, int32_t start, int32_t end)
{
    for (int32_t i = start; i < end && !holds_word(chars, i, i + 1); i++)
        if (chars[i] == 0x200d &&
            u_hasBinaryProperty(chars[i + 1], UCHAR_EXTENDED_PICTOGRAPHIC))
            start = i + 1;
    return start;
}

/* Our rules take connectors and @ for signs like any other. */
static UChar32 as_sign(UChar32 c)
{
    bool connector = u_getIntPropertyValue(c, UCHAR_WORD_BREAK) == U_WB_EXTENDNUMLET;
    return connector || c == '@' ? '#' : c;
}

static UChar32 next_char(struct slice text, size_t *at)
{
    UChar32 c;
    U8_NEXT(text.data, *at, text.size, c);
    assert_true(c >= 0);
    return c;
}

static void icu_start(struct icu_words *w, struct slice text)
{
    UErrorCode code = U_ZERO_ERROR;
    w->count = 0;
    w->units = mem_realloc(w->units, (text.size + 1) * sizeof *w->units);
    w->chars = mem_realloc(w->chars, (text.size + 1) * sizeof *w->chars);
    w->bytes = mem_realloc(w->bytes, (text.size + 1) * sizeof *w->bytes);
    for (size_t i = 0; i < text.size;) {
        int32_t at = (int32_t)i, end = w->count;
        UChar32 c = as_sign(next_char(text, &i));
        U16_APPEND_UNSAFE(w->units, end, c);
        for (; w->count < end; w->count++) {
            w->bytes[w->count] = at;
            w->chars[w->count] = c;
        }
    }
    w->bytes[w->count] = (int32_t)text.size;
    ubrk_setText(w->iterator, w->units, w->count, &code);
    assert_true(U_SUCCESS(code));
    (void)ubrk_first(w->iterator);
}

static bool icu_next(struct icu_words *w, size_t *start, size_t *end)
{
    int32_t from = ubrk_current(w->iterator), to;
    while ((to = ubrk_next(w->iterator)) != UBRK_DONE) {
        if (holds_word(w->chars, from, to)) {
            from = behind_stray_joiner(w->chars, from, to);
            *start = (size_t)w->bytes[from];
            *end = (size_t)w->bytes[to];
            return true;
        }
        from = to;
    }
    return false;
}

static void words_equal_icu(struct icu_words *icu, struct slice text, bool colon)
{
    struct words ours = words_of(text, colon);
    size_t start = 0, end = 0, icu_start_at = 0, icu_end = 0;

    icu_start(icu, text);
    for (;;) {
        bool more = words_next(&ours, &start, &end);
        bool icu_more = icu_next(icu, &icu_start_at, &icu_end);
        if (more != icu_more || (more && (start != icu_start_at || end != icu_end)))
            fail_msg("[%.*s]: %d %zu-%zu, ICU %d %zu-%zu", (int)text.size,
                     (const char *)text.data, more, start, end, icu_more, icu_start_at,
                     icu_end);
        if (!more) return;
    }
}

static struct icu_words icu_open(enum language language)
{
    UErrorCode code = U_ZERO_ERROR;
    struct icu_words w = {0};
    w.iterator = ubrk_open(UBRK_WORD, locales[language], NULL, 0, &code);
    assert_true(U_SUCCESS(code));
    return w;
}

static void icu_close(struct icu_words *w)
{
    ubrk_close(w->iterator);
    mem_free(w->units);
    mem_free(w->chars);
    mem_free(w->bytes);
}

/* Characters of all classes that ICU treats by the rules of UAX #29: no scripts of its
 * dictionaries, no Hangul (kept apart from other letters). */
static UChar32 random_char(uint64_t *seed)
{
    static const UChar32 edge[] = {'a',     'Z',     '5',     '_',    '\'',   '"',
                                   '.',     ',',     ':',     ';',    ' ',    '\r',
                                   '\n',    '\t',    0x85,    0xa0,   0xad,   0xb7,
                                   0xe9,    0x300,   0x308,   0x387,  0x2019, 0x2024,
                                   0x200d,  0x200c,  0x200e,  0x202e, 0x2028, 0x3000,
                                   0x5d0,   0x5d1,   0x5f4,   0x661,  0x66b,  0x66c,
                                   0xff11,  0x1f600, 0x1f469, 0x2764, 0xfe0f, 0x1f3fb,
                                   0x1f1e9, 0x1f1ea, 0x24c2,  0x2003, 0x203f, 0xbcd,
                                   0xba4,   0x416};
    static const UChar32 first[] = {0x20,  0xa0,  0x370, 0x400,
                                    0x590, 0x600, 0xb80, 0x2000};
    static const UChar32 past[] = {0x7f,  0x250, 0x400, 0x530,
                                   0x600, 0x700, 0xc00, 0x2070};

    if (test_random(seed) % 2) return edge[test_random(seed) % COUNT_OF(edge)];
    size_t r = test_random(seed) % COUNT_OF(first);
    return first[r] + (UChar32)(test_random(seed) % (uint64_t)(past[r] - first[r]));
}

static void random_text(uint64_t *seed, bool ascii, struct buf *out)
{
    size_t count = 1 + test_random(seed) % 24;
    buf_clear(out);
    while (count-- > 0) {
        uint8_t bytes[4];
        int32_t size = 0;
        UChar32 c = ascii ? (UChar32)(1 + test_random(seed) % 127) : random_char(seed);
        if (ascii && test_random(seed) % 3 == 0)
            c = (uint8_t) "ab1.':,;_ "[test_random(seed) % 10];
        U8_APPEND_UNSAFE(bytes, size, (uint32_t)c);
        buf_append(out, bytes, (size_t)size);
    }
}

static void words_of_random_text_equal_icu(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct buf text = BUF_INIT;
    static const enum language languages[] = {LANG_ENGLISH, LANG_SWEDISH};
    for (size_t l = 0; l < 2; l++) {
        struct icu_words icu = icu_open(languages[l]);
        for (size_t i = 0; i < 200000; i++) {
            random_text(&seed, i % 2, &text);
            words_equal_icu(&icu, buf_slice(&text), languages[l] == LANG_SWEDISH);
        }
        icu_close(&icu);
    }
    buf_release(&text);
}

/* With a letter beyond ASCII behind each word's end the short cut is not taken. */
static void the_short_cut_for_ascii_equals_the_rules(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct buf text = BUF_INIT, marked = BUF_INIT;
    for (size_t i = 0; i < 100000; i++) {
        size_t start, end, marked_start, marked_end;
        random_text(&seed, true, &text);
        buf_clear(&marked);
        for (size_t at = 0; at < text.size; at++) {
            buf_append_byte(&marked, text.data[at]);
            buf_append_str(&marked, "\u2060"); /* a format character: changes nothing */
        }
        struct words a = words_of(buf_slice(&text), i % 2);
        struct words b = words_of(buf_slice(&marked), i % 2);
        while (words_next(&a, &start, &end)) {
            assert_true(words_next(&b, &marked_start, &marked_end));
            assert_int_equal(marked_start, 4 * start);
            assert_int_equal(marked_end, 4 * end);
        }
        assert_false(words_next(&b, &marked_start, &marked_end));
    }
    buf_release(&text);
    buf_release(&marked);
}

/* Does ICU go its own way with this text: dictionaries, Hangul? */
static bool icu_differs(struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        UChar32 c = next_char(text, &i);
        int lb = u_getIntPropertyValue(c, UCHAR_LINE_BREAK);
        int wb = u_getIntPropertyValue(c, UCHAR_WORD_BREAK);
        bool dictionary = lb == U_LB_COMPLEX_CONTEXT || lb == U_LB_IDEOGRAPHIC ||
                          lb == U_LB_H2 || lb == U_LB_H3 || wb == U_WB_KATAKANA;
        if (dictionary) return true;
    }
    return false;
}

static void words_of_real_sentences_equal_icu(void **state)
{
    (void)state;
    static const struct {
        enum language language;
        const char *file;
    } files[] = {{LANG_ENGLISH, "ir-xquad-en/docs.jsonl"},
                 {LANG_GERMAN, "ir-xquad-de/docs.jsonl"},
                 {LANG_SPANISH, "ir-xquad-es/docs.jsonl"},
                 {LANG_RUSSIAN, "ir-xquad-ru/docs.jsonl"},
                 {LANG_FINNISH, "ud-sentences/docs.jsonl"},
                 {LANG_TAMIL, "ud-sentences/docs.jsonl"},
                 {LANG_FRENCH, "ud-sentences/docs.jsonl"}};
    size_t equal = 0, skipped = 0;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct buf bytes = BUF_INIT;
        if (!data_read(files[i].file, &bytes)) continue;
        /* As it stands: JSON's own marks are text like any other, except that its
         * escapes hide nothing that these files hold. */
        struct icu_words icu = icu_open(files[i].language);
        struct slice line, rest = buf_slice(&bytes);
        while (data_line(&rest, &line)) {
            bool differs = icu_differs(line);
            skipped += differs;
            if (differs) continue;
            words_equal_icu(&icu, line, files[i].language == LANG_FINNISH);
            equal++;
        }
        icu_close(&icu);
        buf_release(&bytes);
    }
    print_message("%zu lines, %zu left out\n", equal, skipped);
    assert_true(skipped <= equal / 20);
}

/* ---- stems ---- */

static void stems_equal_libstemmers(void **state)
{
    (void)state;
    struct buf bytes = BUF_INIT, got = BUF_INIT;
    struct slice line, rest;
    size_t words = 0;

    if (!data_read("ud-sentences/lemmas.tsv", &bytes)) return;
    for (int round = 0; round < 2; round++) {
        rest = buf_slice(&bytes);
        (void)data_line(&rest, &line); /* the names of the columns */
        while (data_line(&rest, &line)) {
            struct slice name = data_cell(&line), form = data_cell(&line);
            struct analysis a = {.stemming = true, .case_sensitive = true};
            if (!language_parse(name, &a.language)) continue;
            if (memchr(form.data, '\'', form.size)) continue; /* cut before stemming */
            terms_of(&bare, form, &got);
            if (!slice_equal(buf_slice(&got), form))
                continue; /* not folded, or two words */

            struct sb_stemmer *stemmer =
                sb_stemmer_new(language_name(a.language), NULL);
            const sb_symbol *stem = sb_stemmer_stem(stemmer, form.data, (int)form.size);
            struct slice wanted = slice_of(stem, (size_t)sb_stemmer_length(stemmer));
            terms_of(&a, form, &got);
            assert_true(slice_equal(buf_slice(&got), wanted));
            sb_stemmer_delete(stemmer);
            words++;
        }
    }
    print_message("%zu words\n", words);
    assert_true(words > 50000);
    buf_release(&bytes);
    buf_release(&got);
}

/* Lines of one of the Snowball project's lists; false if it is not installed. */
static bool snowball_read(enum language language, const char *name, struct buf *out)
{
    char path[256];
    const char *folder = "/usr/share/snowball/data";
    (void)snprintf(path, sizeof path, "%s/%s/%s.gz", folder, language_name(language),
                   name);
    if (access(path, R_OK) != 0) path[strlen(path) - 3] = 0;
    gzFile f = gzopen(path, "rb"); /* reads what is not compressed too */
    if (!f) return false;
    for (int got = 1; got > 0; out->size += (size_t)got) {
        buf_reserve(out, 1 << 20);
        got = gzread(f, out->data + out->size, 1 << 20);
        assert_true(got >= 0);
    }
    assert_int_equal(gzclose(f), Z_OK);
    return true;
}

struct snowball {
    size_t compared, left_out;
};

/* Every step-th word of a list. What has an apostrophe or is several words to us does
 * not come to the stemmer as it is, and is left out. */
static void snowball_compare(enum language language, struct slice words,
                             struct slice stems, size_t step, struct snowball *counts)
{
    const struct analysis whole = {language, false, false, true, false};
    const struct analysis stemmed = {language, true, false, true, false};
    struct slice word, wanted;
    struct buf got = BUF_INIT;
    for (size_t i = 0; data_line(&words, &word) && data_line(&stems, &wanted); i++) {
        if (i % step) continue;
        terms_of(&whole, word, &got);
        if (!slice_equal(buf_slice(&got), word) || memchr(word.data, '\'', word.size)) {
            counts->left_out++;
            continue;
        }
        terms_of(&stemmed, word, &got);
        if (!slice_equal(buf_slice(&got), wanted))
            fail_msg("%s: %.*s becomes %.*s instead of %.*s", language_name(language),
                     (int)word.size, (const char *)word.data, (int)got.size,
                     (const char *)got.data, (int)wanted.size,
                     (const char *)wanted.data);
        counts->compared++;
    }
    buf_release(&got);
}

/* ELACSYM_ALL_WORDS=1: all ten million; else some thousands of each language. */
static void stems_are_those_of_the_snowball_projects_lists(void **state)
{
    (void)state;
    for (int l = LANG_ARABIC; l <= LANG_LAST; l++) {
        struct buf words = BUF_INIT, stems = BUF_INIT;
        struct snowball counts = {0, 0};
        if (!snowball_read((enum language)l, "voc.txt", &words) ||
            !snowball_read((enum language)l, "output.txt", &stems)) {
            print_message("SKIPPED: %s stems are not compared; install snowball-data\n",
                          language_name((enum language)l));
            buf_release(&words);
            continue;
        }
        size_t step = getenv("ELACSYM_ALL_WORDS") ? 1 : 1 + words.size / 50000;
        snowball_compare((enum language)l, buf_slice(&words), buf_slice(&stems), step,
                         &counts);
        print_message("%s: %zu words, %zu left out\n", language_name((enum language)l),
                      counts.compared, counts.left_out);
        assert_true(counts.compared > 5 * counts.left_out);
        buf_release(&words);
        buf_release(&stems);
    }
}

/* ---- folded accents ---- */

static void accents_of_latin_letters_go_and_others_stay(void **state)
{
    (void)state;
    static const struct {
        const char *text, *terms;
    } table[] = {
        {"Caf\xc3\xa9 cafe\xcc\x81 CAFE", "cafe|cafe|cafe"},
        {"\xc3\x86sir \xc5\x92uvre \xc3\x9eor", "aesir|oeuvre|thor"},
        {"\xc5\x81\xc3\xb3"
         "d\xc5\xba \xc4\x90uro S\xc3\xb8ren",
         "lodz|duro|soren"},
        {"Stra\xc3\x9f"
         "e \xe1\xba\x9e \xef\xac\x81n",
         "strasse|ss|fin"},
        /* Greek with tonos, Cyrillic short i, Arabic with a mark, Hangul: as they were
         */
        {"\xce\xac \xd0\xb9 \xd8\xa8\xd9\x8e \xed\x95\x9c", NULL},
    };
    struct analysis folding = {LANG_ENGLISH, false, false, false, true};
    struct buf got = BUF_INIT, plain = BUF_INIT;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        terms_of(&folding, slice_str(table[i].text), &got);
        terms_of(&bare, slice_str(table[i].text), &plain);
        struct slice wanted =
            table[i].terms ? slice_str(table[i].terms) : buf_slice(&plain);
        if (!slice_equal(buf_slice(&got), wanted))
            fail_msg("%s becomes %.*s", table[i].text, (int)got.size,
                     (const char *)got.data);
    }
    buf_release(&got);
    buf_release(&plain);
}

/* ---- threads ---- */

static void analyze_in_thread(void *arg)
{
    (void)arg;
    for (int l = LANG_ARABIC; l <= LANG_LAST; l++) {
        struct analysis a = {(enum language)l, true, true, false, false};
        struct buf got = BUF_INIT;
        terms_of(&a,
                 SLICE_LITERAL("Houses \xc3\x89"
                               "COLES \xd0\xba\xd0\xbd\xd0\xb8\xd0\xb3\xd0\xb8"),
                 &got);
        assert(got.size > 0);
        buf_release(&got);
    }
}

static void threads_have_their_own_analyzers_and_free_them(void **state)
{
    (void)state;
    struct thread *threads[3];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        threads[i] = thread_start("analyze", analyze_in_thread, NULL);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        thread_join(threads[i]);
    struct analysis a = ANALYSIS_DEFAULT;
    assert_ptr_equal(analyzer_get(&a), analyzer_get(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_uax_29),
        cmocka_unit_test(a_colon_joins_letters_in_finnish_and_swedish_only),
        cmocka_unit_test(marks_without_a_base_and_direction_marks_make_no_words),
        cmocka_unit_test(bytes_that_are_not_utf_8_separate_words),
        cmocka_unit_test(words_longer_than_a_term_are_dropped_and_counted),
        cmocka_unit_test(case_is_folded_by_language),
        cmocka_unit_test(case_sensitive_text_is_not_folded),
        cmocka_unit_test(each_language_has_its_stop_words_and_stems),
        cmocka_unit_test(every_listed_stop_word_is_left_out),
        cmocka_unit_test(tokens_name_their_place_in_the_text),
        cmocka_unit_test(words_of_random_text_equal_icu),
        cmocka_unit_test(the_short_cut_for_ascii_equals_the_rules),
        cmocka_unit_test(words_of_real_sentences_equal_icu),
        cmocka_unit_test(stems_equal_libstemmers),
        cmocka_unit_test(stems_are_those_of_the_snowball_projects_lists),
        cmocka_unit_test(accents_of_latin_letters_go_and_others_stay),
        cmocka_unit_test(threads_have_their_own_analyzers_and_free_them),
    };
    return cmocka_run_group_tests_name("analyze", tests, NULL, NULL);
}
