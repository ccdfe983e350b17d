#include "doc/utf8_text.h"

#include <assert.h>

#include "base/codec.h"
#include "base/utf8.h"

enum { NOT_A_CHARACTER = 0x110000 };

uint32_t utf8_text_next(struct slice s, size_t *offset)
{
    assert(*offset < s.size);
    const uint8_t *p = s.data + *offset;
    size_t size = utf8_step(p, s.size - *offset);

    *offset += size ? size : 1;
    if (size == 0) return NOT_A_CHARACTER + (uint32_t)p[0];
    if (size == 1) return p[0];
    uint32_t c = p[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++)
        c = c << 6 | (p[i] & 0x3fu);
    return c;
}

bool utf8_text_valid(struct slice s)
{
    size_t offset = 0;
    while (offset < s.size) {
        bool ascii_word = s.size - offset >= 8 &&
                          (load_u64(s.data + offset) & 0x8080808080808080u) == 0;
        size_t size = ascii_word ? 8 : utf8_step(s.data + offset, s.size - offset);
        if (size == 0) return false;
        offset += size;
    }
    return true;
}
