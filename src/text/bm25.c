#include "text/bm25.h"

#include <assert.h>
#include <math.h>

/*
 * The byte of a length: 0 to 39 exactly (24 codes of their own, then 16 small floats),
 * above that three bits of mantissa behind a leading one, rounded down. The largest
 * length that has a byte is 2^31 - 1, as in Lucene.
 */
enum { EXACT_CODES = 24, LENGTH_MAX = INT32_MAX };

static uint32_t bit_length(uint32_t v)
{
    return v ? 32u - (uint32_t)__builtin_clz(v) : 0;
}

uint8_t bm25_length_encode(uint32_t length)
{
    if (length > LENGTH_MAX) length = LENGTH_MAX;
    if (length < EXACT_CODES) return (uint8_t)length;

    uint32_t v = length - EXACT_CODES;
    if (v < 8) return (uint8_t)length;
    uint32_t shift = bit_length(v) - 4;
    return (uint8_t)(EXACT_CODES + ((v >> shift & 7) | (shift + 1) << 3));
}

uint32_t bm25_length_decode(uint8_t byte)
{
    if (byte < EXACT_CODES) return byte;

    uint32_t code = (uint32_t)byte - EXACT_CODES;
    if (code < 8) return byte;
    return EXACT_CODES + ((code & 7) | 8) * (1u << ((code >> 3) - 1));
}

float bm25_idf(uint64_t document_count, uint64_t document_frequency)
{
    assert(document_frequency <= document_count);
    double with = (double)document_frequency;
    double without = (double)(document_count - document_frequency);
    return (float)log(1.0 + (without + 0.5) / (with + 0.5));
}

void bm25_norms(double average_length, float inverse[256])
{
    /* No document has the field: any table will do, as nothing is scored with it. */
    float average = average_length > 0 ? (float)average_length : 1.0f;

    for (uint32_t byte = 0; byte < 256; byte++) {
        float length = (float)bm25_length_decode((uint8_t)byte);
        inverse[byte] =
            1.0f / (BM25_K1 * ((1.0f - BM25_B) + BM25_B * length / average));
    }
}
