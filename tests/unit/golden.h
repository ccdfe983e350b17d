/*
 * golden.h - stored objects of each format version, kept for ever in tests/golden.
 *
 * A golden test makes an object from fixed values, compares it byte for byte with the
 * committed file and decodes the file. A format that changes gets a new version and a
 * new file; the old file must still decode. ELACSYM_GOLDEN_WRITE=1 writes a file that
 * does not exist yet, never one that does.
 */
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H

#include "base/buf.h"
#include "unit/test.h"

static inline struct buf golden_read(const char *name)
{
    char path[256];
    struct buf out = BUF_INIT;
    (void)snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *file = fopen(path, "rb");
    if (!file) return out;
    uint8_t chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, file)) > 0;)
        buf_append(&out, chunk, n);
    (void)fclose(file);
    return out;
}

static inline void golden_write(const char *name, struct slice bytes)
{
    char path[256];
    (void)snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *file = fopen(path, "wbx");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
    assert_int_equal(fclose(file), 0);
}

/* The committed file, which must hold exactly these bytes. The caller releases it. */
static inline struct buf golden_expect(const char *name, struct slice bytes)
{
    struct buf file = golden_read(name);
    if (file.size == 0 && getenv("ELACSYM_GOLDEN_WRITE")) {
        golden_write(name, bytes);
        file = golden_read(name);
    }
    if (!slice_equal(buf_slice(&file), bytes))
        fail_msg("tests/golden/%s differs from what is written now", name);
    return file;
}

#endif
