/*
 * fuzz.h - everything that reads untrusted bytes, as one function per reader.
 *
 * A target takes any bytes. It must not crash, leak, read out of bounds or hang, and
 * what it accepts must hold together: targets abort (REQUIRE) when a decoded thing does
 * not survive being encoded and decoded again, or breaks what its header promises.
 * Targets of bytes that are guarded by checksums repair these first, so that the
 * decoders behind are reached.
 *
 * run_fuzz replays seeds, and mutations of them, in every flavour (make test); make
 * fuzz T=name lets libFuzzer look for inputs.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "doc/schema.h"

typedef void fuzz_emit(void *context, struct slice seed);

struct fuzz_target {
    const char *name;
    bool (*run)(struct slice input);               /* was it accepted? */
    void (*seeds)(fuzz_emit *emit, void *context); /* inputs worth starting from */
};

/* Ends with a NULL name. */
extern const struct fuzz_target fuzz_requests[]; /* JSON, paths, tokens, values */
extern const struct fuzz_target fuzz_objects[];  /* values, log, manifests, tables */
extern const struct fuzz_target fuzz_segments[]; /* segments, columns, text indexes */
extern const struct fuzz_target fuzz_texts[];    /* analysis, XML, configuration */
extern const struct fuzz_target fuzz_http[];     /* HTTP/1.1 */
extern const struct fuzz_target fuzz_files[];    /* caches, credentials, gzip, keys */

#define REQUIRE(truth)                                                                 \
    do {                                                                               \
        if (!(truth)) {                                                                \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #truth);  \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* An attribute of every type, scalar and array, a full-text one and a vector of 3;
 * unref it. */
struct schema *fuzz_schema(void);

/* The first bytes of an input steer the target; the rest is what is decoded. */
static inline struct slice fuzz_rest(struct slice input, size_t used)
{
    /* Nothing is left: the input's end then, as where stored bytes end, and not NULL.
     */
    if (used > input.size) used = input.size;
    return slice_of(input.data + used, input.size - used);
}

static inline unsigned fuzz_byte(struct slice input, size_t at)
{
    return at < input.size ? input.data[at] : 0;
}

#endif
