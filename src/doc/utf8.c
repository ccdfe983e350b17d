#include "doc/utf8.h"

#include <assert.h>
#include <unicode/utf8.h>

#include "base/codec.h"

enum { NOT_A_CHARACTER = 0x110000 };

uint32_t utf8_next(struct slice s, size_t *offset)
{
    assert(*offset < s.size);
    size_t next = *offset;
    UChar32 c = 0;
    U8_NEXT(s.data, next, s.size, c);
    if (c < 0) return NOT_A_CHARACTER + (uint32_t)s.data[(*offset)++];
    *offset = next;
    return (uint32_t)c;
}

bool utf8_valid(struct slice s)
{
    size_t offset = 0;
    while (offset < s.size) {
        bool ascii_word = s.size - offset >= 8 &&
                          (load_u64(s.data + offset) & 0x8080808080808080u) == 0;
        if (ascii_word)
            offset += 8;
        else if (utf8_next(s, &offset) >= NOT_A_CHARACTER)
            return false;
    }
    return true;
}
