/*
 * bm25.h - BM25 as Lucene 8 and later compute it (Robertson and Zaragoza 2009;
 * Lucene's BM25Similarity): idf = ln(1 + (N - n + 0.5) / (n + 0.5)),
 * score = weight * idf * f / (f + k1 * (1 - b + b * length / average)), k1 1.2, b 0.75,
 * with the length rounded down to one byte (Lucene's SmallFloat int-to-byte-4).
 */
#ifndef TEXT_BM25_H
#define TEXT_BM25_H

#include <stdint.h>

#define BM25_K1 1.2f
#define BM25_B  0.75f

uint8_t bm25_length_encode(uint32_t length);
uint32_t bm25_length_decode(uint8_t byte);

/* N documents with the field, n of them with the term. */
float bm25_idf(uint64_t document_count, uint64_t document_frequency);

/* inverse[byte] = 1 / (k1 * (1 - b + b * length / average)). */
void bm25_norms(double average_length, float inverse[256]);

/* weight: boost * idf. Computed as w - w / (1 + f * inverse), monotone in floats. */
static inline float bm25_score(float weight, uint32_t frequency, float inverse)
{
    return weight - weight / (1.0f + (float)frequency * inverse);
}

#endif
