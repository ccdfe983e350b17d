/*
 * The rules of UAX #29 (WB3 to WB999) look at most one character back and, for the Mid
 * classes, one ahead, not counting marks and format characters (WB4). So a word is
 * found in one pass: `left` is the class of the last character that counts, and join()
 * says whether the next one continues the word.
 */
#include "text/words.h"

#include <pthread.h>
#include <stdint.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

/* A class byte: ICU's word break value, and two flags. */
enum {
    CLASS_MASK = 0x1f,
    KEPT = 0x20,            /* a word that holds it is handed out */
    PICT = 0x40,            /* Extended_Pictographic: joined by ZWJ (WB3c) */
    DAMAGED = U_WB_NEWLINE, /* not UTF-8: separates like a line end */
    AT_END = U_WB_NEWLINE
};

/* What an ASCII byte is, for the short cut. */
enum { LETTER = 1, DIGIT = 2 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint8_t bmp_classes[0x10000]; /* written once, then only read */

static const uint8_t ascii_kind[128] = {
    ['0'] = DIGIT,  ['1'] = DIGIT,  ['2'] = DIGIT,  ['3'] = DIGIT,  ['4'] = DIGIT,
    ['5'] = DIGIT,  ['6'] = DIGIT,  ['7'] = DIGIT,  ['8'] = DIGIT,  ['9'] = DIGIT,
    ['A'] = LETTER, ['B'] = LETTER, ['C'] = LETTER, ['D'] = LETTER, ['E'] = LETTER,
    ['F'] = LETTER, ['G'] = LETTER, ['H'] = LETTER, ['I'] = LETTER, ['J'] = LETTER,
    ['K'] = LETTER, ['L'] = LETTER, ['M'] = LETTER, ['N'] = LETTER, ['O'] = LETTER,
    ['P'] = LETTER, ['Q'] = LETTER, ['R'] = LETTER, ['S'] = LETTER, ['T'] = LETTER,
    ['U'] = LETTER, ['V'] = LETTER, ['W'] = LETTER, ['X'] = LETTER, ['Y'] = LETTER,
    ['Z'] = LETTER, ['a'] = LETTER, ['b'] = LETTER, ['c'] = LETTER, ['d'] = LETTER,
    ['e'] = LETTER, ['f'] = LETTER, ['g'] = LETTER, ['h'] = LETTER, ['i'] = LETTER,
    ['j'] = LETTER, ['k'] = LETTER, ['l'] = LETTER, ['m'] = LETTER, ['n'] = LETTER,
    ['o'] = LETTER, ['p'] = LETTER, ['q'] = LETTER, ['r'] = LETTER, ['s'] = LETTER,
    ['t'] = LETTER, ['u'] = LETTER, ['v'] = LETTER, ['w'] = LETTER, ['x'] = LETTER,
    ['y'] = LETTER, ['z'] = LETTER,
};

/* What must stand on both sides of an ASCII byte for it to join them. */
static uint8_t ascii_joins(const struct words *w, uint8_t byte)
{
    switch (byte) {
    case '\'':
    case '.': return LETTER | DIGIT;
    case ',':
    case ';': return DIGIT;
    case ':': return w->colon_joins ? LETTER : 0;
    default: return 0;
    }
}

static uint8_t class_compute(UChar32 c)
{
    int wb = u_getIntPropertyValue(c, UCHAR_WORD_BREAK);
    bool pict = u_hasBinaryProperty(c, UCHAR_EXTENDED_PICTOGRAPHIC);
    bool fullwidth_digit = c >= 0xff10 && c <= 0xff19; /* a number, as ICU has it */
    if (fullwidth_digit) wb = U_WB_NUMERIC;

    bool word = wb == U_WB_ALETTER || wb == U_WB_HEBREW_LETTER || wb == U_WB_NUMERIC ||
                wb == U_WB_KATAKANA || wb == U_WB_REGIONAL_INDICATOR ||
                (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
    /* Below U+2300 the pictographs are signs of ordinary text: (c), (R), TM, arrows. */
    bool emoji = pict && c >= 0x2300;
    return (uint8_t)(wb | (word || emoji ? KEPT : 0) | (pict ? PICT : 0));
}

static void classes_init(void)
{
    for (UChar32 c = 0; c < 0x10000; c++)
        bmp_classes[c] = class_compute(c);
}

/* The class of the character at offset; *next is where the one after it begins. */
static uint8_t class_at(const struct words *w, size_t offset, size_t *next)
{
    if (offset >= w->text.size) {
        *next = offset;
        return AT_END;
    }
    UChar32 c;
    U8_NEXT(w->text.data, offset, w->text.size, c);
    *next = offset;
    if (c < 0) return DAMAGED;
    if (c >= 0x10000) return class_compute(c);
    bool colon = c == ':' || c == 0xfe55 || c == 0xff1a;
    return colon && !w->colon_joins ? U_WB_OTHER : bmp_classes[c];
}

static bool is_transparent(int wb)
{
    return wb == U_WB_EXTEND || wb == U_WB_FORMAT || wb == U_WB_ZWJ;
}

static bool is_letter(int wb)
{
    return wb == U_WB_ALETTER || wb == U_WB_HEBREW_LETTER;
}

/* The first class after a Mid character that counts. */
static int class_behind(const struct words *w, size_t offset)
{
    size_t next;
    int wb = class_at(w, offset, &next) & CLASS_MASK;
    while (is_transparent(wb) && offset < w->text.size) {
        offset = next;
        wb = class_at(w, offset, &next) & CLASS_MASK;
    }
    return wb;
}

/* Does `mid` join what stands before it to what stands at `behind`? WB6, 7, 7b, 7c, 11,
 * 12 */
static bool mid_joins(const struct words *w, int left, int mid, size_t behind)
{
    bool any = mid == U_WB_MIDNUMLET || mid == U_WB_SINGLE_QUOTE;

    if (is_letter(left) && (any || mid == U_WB_MIDLETTER))
        return is_letter(class_behind(w, behind));
    if (left == U_WB_NUMERIC && (any || mid == U_WB_MIDNUM))
        return class_behind(w, behind) == U_WB_NUMERIC;
    if (left == U_WB_HEBREW_LETTER && mid == U_WB_DOUBLE_QUOTE)
        return class_behind(w, behind) == U_WB_HEBREW_LETTER;
    return false;
}

/* Two neighbours that are one word whatever follows. WB5, 8 to 10, 13 */
static bool pair_joins(int left, int right)
{
    if (is_letter(left) || left == U_WB_NUMERIC)
        return is_letter(right) || right == U_WB_NUMERIC;
    return left == U_WB_KATAKANA && right == U_WB_KATAKANA;
}

/* The end of the segment that begins at start; *kept if it is a word. */
static size_t segment_end(const struct words *w, size_t start, bool *kept)
{
    size_t end, next;
    uint8_t class = class_at(w, start, &end);
    int left = class & CLASS_MASK;
    *kept = class & KEPT;

    if (left == U_WB_CR || left == U_WB_LF || left == U_WB_NEWLINE) return end;
    bool after_zwj = left == U_WB_ZWJ;
    for (;;) {
        class = class_at(w, end, &next);
        int right = class & CLASS_MASK;
        if (next == end) return end;

        if (is_transparent(right)) {
            after_zwj = right == U_WB_ZWJ;
            /* WB3d joins bare spaces only. */
            if (left == U_WB_WSEGSPACE) left = U_WB_OTHER;
        } else if (after_zwj && (class & PICT) && *kept) {
            /* WB3c, but not after a space or a dot, which no term should begin with. */
            after_zwj = false;
            left = right;
        } else if (pair_joins(left, right) ||
                   (left == U_WB_WSEGSPACE && right == U_WB_WSEGSPACE)) {
            after_zwj = false;
            left = right;
        } else if (left == U_WB_REGIONAL_INDICATOR &&
                   right == U_WB_REGIONAL_INDICATOR) {
            after_zwj = false;
            left = U_WB_OTHER; /* a flag is two of them */
        } else if (mid_joins(w, left, right, next)) {
            after_zwj = false;
            /* What stands behind is of left's kind and joins it in the next turn. */
        } else if (left == U_WB_HEBREW_LETTER && right == U_WB_SINGLE_QUOTE) {
            after_zwj = false;
            left = right; /* WB7a */
        } else {
            return end;
        }
        *kept |= (class & KEPT) != 0;
        end = next;
    }
}

/* The end of the ASCII word at start; 0 where a byte beyond ASCII may belong to it. */
static size_t ascii_end(const struct words *w, size_t start)
{
    const uint8_t *text = w->text.data;
    size_t size = w->text.size;
    size_t end = start;

    for (;;) {
        while (end < size && text[end] < 0x80 && ascii_kind[text[end]])
            end++;
        if (end == size) return end;
        if (text[end] >= 0x80) return 0;

        uint8_t wanted = ascii_joins(w, text[end]) & ascii_kind[text[end - 1]];
        if (!wanted || end + 1 == size) return end;
        if (text[end + 1] >= 0x80) return 0;
        if (!(ascii_kind[text[end + 1]] & wanted)) return end;
        end++;
    }
}

bool words_next(struct words *w, size_t *start, size_t *end)
{
    const uint8_t *text = w->text.data;
    size_t size = w->text.size;
    size_t at = w->offset;

    (void)pthread_once(&once, classes_init);
    while (at < size) {
        bool ascii = text[at] < 0x80;
        bool ascii_follows = at + 1 == size || text[at + 1] < 0x80;
        if (ascii && !ascii_kind[text[at]] && ascii_follows) {
            at++;
            continue;
        }

        size_t stop = ascii && ascii_kind[text[at]] ? ascii_end(w, at) : 0;
        bool kept = stop > 0;
        if (!kept) stop = segment_end(w, at, &kept);
        if (kept) {
            *start = at;
            *end = w->offset = stop;
            return true;
        }
        at = stop;
    }
    w->offset = at;
    return false;
}
