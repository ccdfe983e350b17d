/*
 * column_walk.c - the rows of a column in the order of their values, by its index.
 */
#include "attr/column_format.h"
#include "base/rowset.h"

/* It equals 0, but its rows lie apart from those of 0. */
static bool has_minus_zero(const struct column *c)
{
    const union scalar minus_zero = {.f = -0.0};
    if (c->type != ATTR_FLOAT) return false;
    uint64_t key = column_key(ATTR_FLOAT, &minus_zero);
    uint32_t number = column_index_number(&c->index, key);
    return number < c->index.key_count && cells_get(&c->index.keys, number) == key;
}

bool column_walk_begin(const struct column *c, bool descending, uint64_t key,
                       struct column_walk *out)
{
    const struct column_index *x = &c->index;
    if (!c->indexed || c->array || has_minus_zero(c)) return false;
    uint32_t first = column_index_number(x, key), end = first;
    if (key == UINT64_MAX)
        end = x->key_count;
    else if (descending)
        end = column_index_number(x, key + 1);
    *out = (struct column_walk){.column = c, .descending = descending};
    out->count = descending ? end : x->key_count - first;
    out->number = descending ? end - 1 : first;
    return true;
}

static enum err open_value(struct op *op, struct column_walk *w)
{
    const struct column_index *x = &w->column->index;
    w->at = cells_get(&x->starts, w->number);
    w->end = cells_get(&x->starts, (uint64_t)w->number + 1);
    w->from = 0;
    w->open = true;
    return column_index_set(op, x, w->number, &w->set);
}

static void close_value(struct column_walk *w)
{
    rowset_unref(w->set);
    w->set = NULL;
    w->open = false;
    w->count--;
    w->number += w->descending ? UINT32_MAX : 1;
}

static size_t rows_of_set(struct column_walk *w, uint32_t *rows, size_t max)
{
    size_t n = rowset_read(w->set, w->from, rows, max);
    if (n > 0) w->from = rows[n - 1] + 1;
    return n;
}

static size_t rows_of_list(struct column_walk *w, uint32_t *rows, size_t max)
{
    size_t n = 0;
    while (n < max && w->at < w->end)
        rows[n++] = (uint32_t)cells_get(&w->column->index.rows, w->at++);
    return n;
}

enum err column_walk_next(struct op *op, struct column_walk *w, uint32_t *rows,
                          size_t max, size_t *n, uint64_t *key)
{
    const struct column_index *x = &w->column->index;
    for (*n = 0; *n == 0 && (w->open || w->count > 0);) {
        enum err e = w->open ? ERR_OK : open_value(op, w);
        if (e) return e;
        *n = w->set ? rows_of_set(w, rows, max) : rows_of_list(w, rows, max);
        if (*n == 0)
            close_value(w);
        else
            *key = x->numbered ? w->number : cells_get(&x->keys, w->number);
    }
    return ERR_OK;
}

void column_walk_end(struct column_walk *w)
{
    rowset_unref(w->set);
    w->set = NULL;
}
