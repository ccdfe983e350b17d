/*
 * A word becomes a term in six steps: marks that only steer rendering go, canonical
 * composition (NFC), full case folding, apostrophes (a French or Italian elided article
 * is cut off, a Turkish suffix too), stop words, stem, and if asked for the accents of
 * Latin letters go (after the stem, which needs them). All of it depends on nothing but
 * the word and the analysis, so each thread remembers the outcome for 16384 words in a
 * direct-mapped table: running text hits it nine times of ten, and a hit costs one hash
 * and one comparison, whatever the language.
 */
#include "text/analyze.h"

#include <assert.h>
#include <libstemmer.h>
#include <pthread.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#include "base/codec.h"
#include "base/mem.h"
#include "text/stopwords.h"
#include "text/words.h"

enum {
    MEMO_COUNT = 16384, /* a power of two; 1 MiB a thread */
    MEMO_BYTES = 59,    /* words that do not fit are worked out each time */
    STOP_SLOTS = 1024,  /* a power of two, above twice the longest list */
    ANALYSES = (LANG_LAST + 1) * 16,
    /* A word is at most TERM_SIZE_MAX UTF-16 units; full folding makes at most three of
     * one, composition never more than three either. */
    UNITS_MAX = 9 * TERM_SIZE_MAX,
    FOLDED_MAX = 3 * UNITS_MAX
};

/* What became of a word: its first `keep` bytes and then `tail_size` bytes that follow
 * the word in `bytes`. Nothing of either: the word is left out. */
struct memo {
    uint16_t analysis; /* number of the analysis, 0: empty */
    uint8_t word_size;
    uint8_t keep;
    uint8_t tail_size;
    uint8_t bytes[MEMO_BYTES];
};

/* The stop words of one analysis after folding, as an open hash table of slices. */
struct stop_set {
    struct buf bytes;
    uint16_t offsets[STOP_SLOTS]; /* into bytes, plus one; 0: free */
    uint8_t sizes[STOP_SLOTS];
};

struct analyzer {
    struct analysis analysis;
    uint16_t number; /* of the analysis, from 1 */
    struct thread_state *thread;
    struct sb_stemmer *stemmer; /* the thread's, NULL without stemming */
    struct stop_set *stop;      /* NULL when stop words stay */
    struct words words;
    uint32_t position;
    size_t folded_size;
    uint8_t folded[FOLDED_MAX];
};

/* Everything that one thread keeps; freed by the key's destructor when it ends. */
struct thread_state {
    struct memo *memos;
    struct sb_stemmer *stemmers[LANG_LAST + 1];
    struct analyzer *analyzers[ANALYSES];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t state_key;
static const UNormalizer2 *nfc, *nfkd;

static void analyzer_free(struct analyzer *a)
{
    if (!a) return;
    if (a->stop) buf_release(&a->stop->bytes);
    mem_free(a->stop);
    mem_free(a);
}

static void state_free(void *p)
{
    struct thread_state *state = p;
    for (size_t i = 0; i < ANALYSES; i++)
        analyzer_free(state->analyzers[i]);
    for (size_t i = 0; i <= LANG_LAST; i++)
        sb_stemmer_delete(state->stemmers[i]);
    mem_free(state->memos);
    mem_free(state);
}

static void analyze_init(void)
{
    UErrorCode code = U_ZERO_ERROR;
    nfc = unorm2_getNFCInstance(&code);
    nfkd = unorm2_getNFKDInstance(&code);
    assert(U_SUCCESS(code)); /* ICU's data is part of its library */
    int failed = pthread_key_create(&state_key, state_free);
    assert(!failed);
}

static struct thread_state *state_get(void)
{
    (void)pthread_once(&once, analyze_init);
    struct thread_state *state = pthread_getspecific(state_key);
    if (state) return state;

    state = mem_new(struct thread_state);
    state->memos = mem_aligned(64, MEMO_COUNT * sizeof(struct memo));
    memset(state->memos, 0, MEMO_COUNT * sizeof(struct memo));
    int failed = pthread_setspecific(state_key, state);
    assert(!failed);
    return state;
}

/* ---- folding ---- */

static bool ascii_fold(struct analyzer *a, struct slice word)
{
    bool fold = !a->analysis.case_sensitive;
    bool turkish = a->analysis.language == LANG_TURKISH;

    for (size_t i = 0; i < word.size; i++) {
        uint8_t c = word.data[i];
        if (c >= 0x80 || (fold && turkish && c == 'I')) return false;
        a->folded[i] = fold && c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
    }
    a->folded_size = word.size;
    return true;
}

/* UTF-16 of the word; words hold no damaged bytes. */
static int32_t decode(struct slice word, UChar *out)
{
    UErrorCode code = U_ZERO_ERROR;
    int32_t count = 0;
    u_strFromUTF8(out, UNITS_MAX, &count, (const char *)word.data, (int32_t)word.size,
                  &code);
    assert(U_SUCCESS(code));
    return count;
}

/* Takes out what is invisible: joiners, soft hyphens, direction marks, variation
 * selectors. A typographic apostrophe becomes the plain one. */
static int32_t keep_visible(UChar *units, int32_t count)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < count;) {
        int32_t start = i;
        UChar unit = units[i++];
        UChar32 c = unit;
        if (U16_IS_LEAD(unit)) c = U16_GET_SUPPLEMENTARY(unit, units[i++]);
        if (u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT)) continue;
        bool apostrophe = c == 0x2019 || c == 0xff07;
        for (; start < i; start++)
            units[kept++] = apostrophe ? '\'' : units[start];
    }
    return kept;
}

static int32_t compose(const UChar *in, int32_t count, UChar *out)
{
    UErrorCode code = U_ZERO_ERROR;
    int32_t size = unorm2_normalize(nfc, in, count, out, UNITS_MAX, &code);
    assert(U_SUCCESS(code));
    return size;
}

static void unicode_fold(struct analyzer *a, struct slice word)
{
    UChar one[UNITS_MAX], two[UNITS_MAX];
    UErrorCode code = U_ZERO_ERROR;
    int32_t count = compose(one, keep_visible(one, decode(word, one)), two);
    UChar *units = two;

    if (!a->analysis.case_sensitive) {
        uint32_t option = a->analysis.language == LANG_TURKISH
                              ? U_FOLD_CASE_EXCLUDE_SPECIAL_I
                              : U_FOLD_CASE_DEFAULT;
        count = u_strFoldCase(one, UNITS_MAX, two, count, option, &code);
        count = compose(one, count, two);
    }
    int32_t size = 0;
    u_strToUTF8((char *)a->folded, FOLDED_MAX, &size, units, count, &code);
    assert(U_SUCCESS(code));
    a->folded_size = (size_t)size;
}

/* ---- apostrophes ---- */

/* Articles, pronouns and conjunctions that lose their vowel before another one. */
static const char *const french_elisions[] = {"l",      "d",      "qu", "n", "s",
                                              "j",      "m",      "t",  "c", "jusqu",
                                              "lorsqu", "puisqu", NULL};
static const char *const italian_elisions[] = {"l",    "d",    "un",   "c",    "m",
                                               "t",    "s",    "v",    "gl",   "all",
                                               "dall", "dell", "nell", "sull", "coll",
                                               "pell", "agl",  "dagl", "degl", "negl",
                                               "sugl", NULL};

static bool same_letters(const uint8_t *word, const char *lower, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((word[i] | 0x20) != lower[i]) return false;
    return true;
}

static void cut_front(struct analyzer *a, size_t size)
{
    memmove(a->folded, a->folded + size, a->folded_size - size);
    a->folded_size -= size;
}

static void cut_apostrophe(struct analyzer *a)
{
    const char *const *elisions = a->analysis.language == LANG_FRENCH ? french_elisions
                                  : a->analysis.language == LANG_ITALIAN
                                      ? italian_elisions
                                      : NULL;
    bool suffixes = a->analysis.language == LANG_TURKISH;
    if (!elisions && !suffixes) return;

    const uint8_t *at = memchr(a->folded, '\'', a->folded_size);
    if (!at) return;
    size_t front = (size_t)(at - a->folded);
    if (suffixes) {
        if (front) a->folded_size = front;
        return;
    }
    for (; *elisions; elisions++)
        if (strlen(*elisions) == front && same_letters(a->folded, *elisions, front)) {
            cut_front(a, front + 1);
            return;
        }
}

static void fold(struct analyzer *a, struct slice word)
{
    if (!ascii_fold(a, word)) unicode_fold(a, word);
    cut_apostrophe(a);
}

/* ---- accents ---- */

/* Latin letters that are one letter to Unicode and not one of ASCII with an accent. */
static const struct {
    UChar letter;
    char ascii[3];
} latin_letters[] = {
    {0xc6, "AE"},  {0xd0, "D"},  {0xd8, "O"},  {0xde, "TH"}, {0xdf, "ss"},
    {0xe6, "ae"},  {0xf0, "d"},  {0xf8, "o"},  {0xfe, "th"}, {0x110, "D"},
    {0x111, "d"},  {0x126, "H"}, {0x127, "h"}, {0x131, "i"}, {0x138, "k"},
    {0x141, "L"},  {0x142, "l"}, {0x14a, "N"}, {0x14b, "n"}, {0x152, "OE"},
    {0x153, "oe"}, {0x166, "T"}, {0x167, "t"}, {0x17f, "s"}, {0x1e9e, "SS"},
};

static const char *latin_ascii(UChar c)
{
    for (size_t i = 0; i < sizeof latin_letters / sizeof *latin_letters; i++)
        if (latin_letters[i].letter == c) return latin_letters[i].ascii;
    return NULL;
}

/* In place, on decomposed text: marks behind ASCII letters go. */
static int32_t drop_marks(UChar *units, int32_t count)
{
    int32_t kept = 0;
    bool after_ascii = false;
    for (int32_t i = 0; i < count; i++) {
        bool mark = u_getCombiningClass(units[i]) != 0;
        if (mark && after_ascii) continue;
        if (!mark) after_ascii = units[i] < 0x80;
        units[kept++] = units[i];
    }
    return kept;
}

/* Latin letters become those of ASCII; everything else stays. */
static struct slice fold_accents(struct analyzer *a, struct slice term)
{
    UChar units[UNITS_MAX], split[2 * UNITS_MAX];
    UErrorCode code = U_ZERO_ERROR;
    int32_t count = 0, size = 0;

    size_t ascii = 0;
    while (ascii < term.size && term.data[ascii] < 0x80)
        ascii++;
    if (ascii == term.size) return term;
    u_strFromUTF8WithSub(units, UNITS_MAX, &count, (const char *)term.data,
                         (int32_t)term.size, 0xfffd, NULL, &code);
    count = unorm2_normalize(nfkd, units, count, split, 2 * UNITS_MAX, &code);
    if (U_FAILURE(code)) return term; /* grows beyond any word of a language */

    count = drop_marks(split, count);
    int32_t out = 0;
    for (int32_t i = 0; i < count; i++) {
        const char *letters = latin_ascii(split[i]);
        if (!letters) units[out++] = split[i];
        for (; letters && *letters; letters++)
            units[out++] = (UChar)*letters;
        if (out > UNITS_MAX - 3) return term;
    }
    count = unorm2_normalize(nfc, units, out, split, 2 * UNITS_MAX, &code);
    if (U_FAILURE(code) || count > UNITS_MAX) return term;
    u_strToUTF8((char *)a->folded, FOLDED_MAX, &size, split, count, &code);
    assert(U_SUCCESS(code));
    a->folded_size = (size_t)size;
    return slice_of(a->folded, a->folded_size);
}

/* ---- stop words ---- */

static size_t stop_slot(const struct stop_set *set, struct slice word)
{
    size_t slot = xxh3_64(word.data, word.size) % STOP_SLOTS;
    while (set->offsets[slot]) {
        const uint8_t *listed = set->bytes.data + set->offsets[slot] - 1;
        if (slice_equal(slice_of(listed, set->sizes[slot]), word)) break;
        slot = (slot + 1) % STOP_SLOTS;
    }
    return slot;
}

static void stop_add(struct stop_set *set, struct slice word)
{
    size_t slot = stop_slot(set, word);
    if (set->offsets[slot]) return; /* two listed words fold to one */
    assert(set->bytes.size < UINT16_MAX && word.size <= UINT8_MAX);
    set->offsets[slot] = (uint16_t)(set->bytes.size + 1);
    set->sizes[slot] = (uint8_t)word.size;
    buf_append_slice(&set->bytes, word);
}

/* Folds the list as texts are folded, so that what a text holds can be found in it. */
static struct stop_set *stop_new(struct analyzer *a)
{
    struct stop_set *set = mem_new(struct stop_set);
    const char *list = stopwords_of(a->analysis.language);

    while (*list) {
        size_t size = strcspn(list, " ");
        fold(a, slice_of(list, size));
        stop_add(set, slice_of(a->folded, a->folded_size));
        list += size;
        list += strspn(list, " ");
    }
    return set;
}

static bool stop_has(const struct stop_set *set, struct slice word)
{
    return set && set->offsets[stop_slot(set, word)];
}

/* ---- analyzers ---- */

static struct sb_stemmer *stemmer_get(struct thread_state *state,
                                      enum language language)
{
    if (!state->stemmers[language])
        state->stemmers[language] = sb_stemmer_new(language_name(language), NULL);
    assert(state->stemmers[language]); /* libstemmer has all our languages */
    return state->stemmers[language];
}

static struct analyzer *analyzer_new(struct thread_state *state, uint16_t number,
                                     const struct analysis *analysis)
{
    struct analyzer *a = mem_new(struct analyzer);
    a->analysis = *analysis;
    a->number = number;
    a->thread = state;
    if (analysis->stemming) a->stemmer = stemmer_get(state, analysis->language);
    if (analysis->remove_stopwords) a->stop = stop_new(a);
    return a;
}

struct analyzer *analyzer_get(const struct analysis *analysis)
{
    assert(analysis->language >= LANG_ARABIC && analysis->language <= LANG_LAST);
    struct thread_state *state = state_get();
    unsigned number = (unsigned)analysis->language * 16 + analysis->stemming * 8u +
                      analysis->remove_stopwords * 4u + analysis->case_sensitive * 2u +
                      analysis->ascii_folding;

    if (!state->analyzers[number])
        state->analyzers[number] = analyzer_new(state, (uint16_t)number, analysis);
    return state->analyzers[number];
}

void analyzer_start(struct analyzer *a, struct slice text)
{
    enum language language = a->analysis.language;
    a->words = words_of(text, language == LANG_FINNISH || language == LANG_SWEDISH);
    a->position = 0;
}

static struct slice stem(struct analyzer *a, struct slice word)
{
    const sb_symbol *out = sb_stemmer_stem(a->stemmer, word.data, (int)word.size);
    return slice_of(out, (size_t)sb_stemmer_length(a->stemmer));
}

/* The term of a word, in memory of the analyzer or the stemmer; empty: left out. */
static struct slice term_compute(struct analyzer *a, struct slice word)
{
    fold(a, word);
    struct slice term = slice_of(a->folded, a->folded_size);
    if (term.size == 0 || term.size > TERM_SIZE_MAX) return SLICE_EMPTY;
    if (stop_has(a->stop, term)) return SLICE_EMPTY;
    if (a->stemmer) term = stem(a, term);
    if (a->analysis.ascii_folding) term = fold_accents(a, term);
    return term.size <= TERM_SIZE_MAX ? term : SLICE_EMPTY;
}

static bool memo_is(const struct memo *m, uint16_t analysis, struct slice word)
{
    return m->analysis == analysis && m->word_size == word.size &&
           memcmp(m->bytes, word.data, word.size) == 0;
}

static void memo_store(struct memo *m, uint16_t analysis, struct slice word,
                       struct slice term)
{
    size_t keep = 0;
    while (keep < word.size && keep < term.size && word.data[keep] == term.data[keep])
        keep++;
    size_t tail = term.size - keep;
    if (word.size + tail > MEMO_BYTES) return;

    m->analysis = analysis;
    m->word_size = (uint8_t)word.size;
    m->keep = (uint8_t)keep;
    m->tail_size = (uint8_t)tail;
    memcpy(m->bytes, word.data, word.size);
    if (tail) memcpy(m->bytes + word.size, term.data + keep, tail);
}

static struct slice memo_term(struct analyzer *a, const struct memo *m,
                              struct slice word)
{
    if (m->tail_size == 0) return slice_of(word.data, m->keep);
    memcpy(a->folded, word.data, m->keep);
    memcpy(a->folded + m->keep, m->bytes + word.size, m->tail_size);
    return slice_of(a->folded, (size_t)m->keep + m->tail_size);
}

static struct slice term_of(struct analyzer *a, struct slice word)
{
    if (word.size > TERM_SIZE_MAX) return SLICE_EMPTY;
    if (word.size > MEMO_BYTES) return term_compute(a, word);

    uint64_t hash = xxh3_64(word.data, word.size) + a->number;
    struct memo *m = &a->thread->memos[hash % MEMO_COUNT];
    if (memo_is(m, a->number, word)) return memo_term(a, m, word);

    struct slice term = term_compute(a, word);
    memo_store(m, a->number, word, term);
    return term;
}

bool analyzer_next(struct analyzer *a, struct token *token)
{
    size_t start, end;
    while (words_next(&a->words, &start, &end)) {
        uint32_t position = a->position++;
        struct slice term =
            term_of(a, slice_of(a->words.text.data + start, end - start));
        if (term.size == 0) continue;
        *token = (struct token){term, position, (uint32_t)start, (uint32_t)end};
        return true;
    }
    return false;
}

bool analyzer_last(struct analyzer *a, struct slice text, struct token *token)
{
    size_t start = 0, end = 0;

    analyzer_start(a, text);
    while (words_next(&a->words, &start, &end))
        a->position++;
    if (end == 0 || end - start > TERM_SIZE_MAX) return false;
    fold(a, slice_of(text.data + start, end - start));
    struct slice term = slice_of(a->folded, a->folded_size);
    if (a->analysis.ascii_folding) term = fold_accents(a, term);
    if (term.size == 0 || term.size > TERM_SIZE_MAX) return false;
    *token = (struct token){term, a->position - 1, (uint32_t)start, (uint32_t)end};
    return true;
}
