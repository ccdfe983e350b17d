/*
 * vec_random.h - repeatable random numbers: the same seed, the same index.
 */
#ifndef VEC_VEC_RANDOM_H
#define VEC_VEC_RANDOM_H

#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood 2014): one word of state. */
static inline uint64_t vec_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A number below end, which is far below 2^32. */
static inline uint32_t vec_random_below(uint64_t *state, uint32_t end)
{
    return (uint32_t)((vec_random(state) >> 32) * end >> 32);
}

#endif
