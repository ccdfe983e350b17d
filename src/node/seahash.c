#include "node/seahash.h"

/* A multiplication carries upwards only; the shift, by a distance that the value itself
 * chooses, brings the upper bits down before the next one. */
static uint64_t diffuse(uint64_t x)
{
    const uint64_t p = UINT64_C(0x6eed0e9da4d94a4f);
    x *= p;
    x ^= (x >> 32) >> (x >> 60);
    return x * p;
}

/* Little endian whatever the machine; fewer than eight bytes count as low ones. */
static uint64_t read_word(const uint8_t *bytes, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

uint64_t seahash(struct slice bytes)
{
    uint64_t lanes[4] = {UINT64_C(0x16f11fe89b0d677c), UINT64_C(0xb480a793d8e6c86c),
                         UINT64_C(0x6fe2e5aaf078ebc9), UINT64_C(0x14f994a4c5259381)};
    size_t lane = 0;

    for (size_t at = 0; at < bytes.size; at += 8, lane = (lane + 1) % 4) {
        size_t size = bytes.size - at < 8 ? bytes.size - at : 8;
        lanes[lane] = diffuse(lanes[lane] ^ read_word(bytes.data + at, size));
    }
    return diffuse(lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3] ^ bytes.size);
}
