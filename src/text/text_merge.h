/*
 * text_merge.h - several indexes of one field as one, from their lists: no text is
 * analysed again. The bytes are those that a builder makes of the rows that stay.
 */
#ifndef TEXT_TEXT_MERGE_H
#define TEXT_TEXT_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "doc/schema.h"

struct op;
struct text_index;

enum { TEXT_ROW_GONE = UINT32_MAX };

struct text_merge_input {
    const struct text_index *index; /* with its positions attached */
    const uint32_t *rows;           /* by row of the index: the new one, ascending, or
                                       TEXT_ROW_GONE */
};

/* Can the index be merged into one of this analysis? Not without positions. */
bool text_merge_takes(const struct text_index *t, const struct analysis *analysis);

/*
 * Appends the index of row_count rows and its positions. Each new row comes from one
 * input at most. What grows with the inputs meanwhile is cut from room, or on the heap.
 * ERR_CORRUPT, and then parts may have been appended.
 */
enum err text_merge(struct op *op, const struct analysis *analysis,
                    const struct text_merge_input *inputs, size_t count,
                    uint32_t row_count, struct buf_room *room, struct buf *out,
                    struct buf *positions);
/* How much of a room that is, for inputs of so many bytes. */
uint64_t text_merge_room(uint64_t input_bytes);

#endif
