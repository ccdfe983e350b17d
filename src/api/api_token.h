/*
 * api_token.h - commit tokens as text: the X-Elacsym-Commit header.
 *
 * Hex of version (1 byte, 1), incarnation (16), epoch and slot (8 each, little endian),
 * CRC32C of all that (4). Opaque to clients; the checksum tells a cut or mistyped token
 * from a foreign one. Versioned because clients may keep a token for long.
 */
#ifndef API_API_TOKEN_H
#define API_API_TOKEN_H

#include "base/err.h"

struct commit_token;
struct op;

enum { TOKEN_BYTES = 1 + 16 + 8 + 8 + 4, TOKEN_TEXT_SIZE = 2 * TOKEN_BYTES + 1 };

void token_text(const struct commit_token *token, char out[TOKEN_TEXT_SIZE]);
/* ERR_INVALID unless text came from token_text. */
enum err token_parse(struct op *op, const char *text, struct commit_token *out);

#endif
