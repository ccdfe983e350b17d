/*
 * utf8_text.h - walking and checking UTF-8, one character after the other.
 *
 * Valid means RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF; what
 * one character is, base/utf8.h knows.
 */
#ifndef DOC_UTF8_TEXT_H
#define DOC_UTF8_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

bool utf8_text_valid(struct slice s);
/*
 * The character at *offset (below s.size, asserted); *offset moves behind it. A byte
 * that begins no valid character stands for itself, as 0x110000 + byte, so that a walk
 * over any bytes ends and invalid ones equal no character.
 */
uint32_t utf8_text_next(struct slice s, size_t *offset);

#endif
