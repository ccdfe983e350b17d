#include "api/api_token.h"

#include "base/codec.h"
#include "base/op.h"
#include "ns/registry.h"

enum { TOKEN_VERSION = 1 };

void token_text(const struct commit_token *token, char out[TOKEN_TEXT_SIZE])
{
    struct buf b = BUF_INIT;
    put_u8(&b, TOKEN_VERSION);
    buf_append(&b, token->incarnation, sizeof token->incarnation);
    put_u64(&b, token->epoch);
    put_u64(&b, token->slot);
    put_u32(&b, crc32c(0, b.data, b.size));
    hex_encode(b.data, b.size, out);
    buf_release(&b);
}

enum err token_parse(struct op *op, const char *text, struct commit_token *out)
{
    uint8_t bytes[TOKEN_BYTES];
    bool sound = hex_decode(slice_str(text), bytes, sizeof bytes) &&
                 bytes[0] == TOKEN_VERSION &&
                 load_u32(bytes + TOKEN_BYTES - 4) == crc32c(0, bytes, TOKEN_BYTES - 4);
    if (!sound)
        return op_fail(op, ERR_INVALID,
                       "X-Elacsym-Min-Commit is not a token of this service: send the "
                       "X-Elacsym-Commit of an earlier answer unchanged");
    memcpy(out->incarnation, bytes + 1, sizeof out->incarnation);
    out->epoch = load_u64(bytes + 17);
    out->slot = load_u64(bytes + 25);
    return ERR_OK;
}
