/*
 * data.h - the shared collections that some tests and benchmarks read, and their lines.
 *
 * They are no part of the repository: $ELACSYM_DATA names their folder, else it is
 * ../shared/data beside the working directory. A test without its data prints why it
 * does nothing.
 */
#ifndef TESTS_UNIT_DATA_H
#define TESTS_UNIT_DATA_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static inline bool data_read(const char *name, struct buf *out)
{
    const char *folder = getenv("ELACSYM_DATA");
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder ? folder : "../shared/data",
                   name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        (void)printf("skipped: no %s (ELACSYM_DATA names the folder)\n", path);
        return false;
    }
    for (size_t got = 1; got > 0; out->size += got) {
        buf_reserve(out, 1 << 20);
        got = fread(out->data + out->size, 1, 1 << 20, f);
    }
    (void)fclose(f);
    return true;
}

/* The numbers of a .npy file of version 1. */
static inline const uint8_t *npy_data(const struct buf *file)
{
    return file->data + 10 + (file->data[8] | file->data[9] << 8);
}

/* Takes the next line off rest, without its end; false when nothing is left. */
static inline bool data_line(struct slice *rest, struct slice *line)
{
    if (rest->size == 0) return false;
    const uint8_t *end = memchr(rest->data, '\n', rest->size);
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    *line = slice_of(rest->data, size);
    size_t taken = size + (end ? 1 : 0);
    *rest = slice_of(rest->data + taken, rest->size - taken);
    return true;
}

/* Takes the next cell off a line of tab-separated values. */
static inline struct slice data_cell(struct slice *line)
{
    const uint8_t *end = line->size ? memchr(line->data, '\t', line->size) : NULL;
    size_t size = end ? (size_t)(end - line->data) : line->size;
    struct slice cell = slice_of(line->data, size);
    size_t taken = size + (end ? 1 : 0);
    *line = slice_of(line->data + taken, line->size - taken);
    return cell;
}

#endif
