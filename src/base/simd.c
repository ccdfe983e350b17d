#include "base/simd.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/op.h"

enum { UNDECIDED = -1, LEVELS = SIMD_AVX512_VNNI + 1 };

static atomic_int level_in_force = UNDECIDED;

const char *simd_name(enum simd_level level)
{
    switch (level) {
    case SIMD_PLAIN: return "plain";
    case SIMD_NEON: return "neon";
    case SIMD_AVX2: return "avx2";
    case SIMD_AVX512: return "avx512";
    case SIMD_AVX512_VNNI: return "avx512_vnni";
    }
    return "?";
}

enum simd_level simd_detect(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return SIMD_PLAIN;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return SIMD_AVX2;
    if (!__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512vnni"))
        return SIMD_AVX512;
    return SIMD_AVX512_VNNI;
#elif defined(__aarch64__)
    return SIMD_NEON;
#else
    return SIMD_PLAIN;
#endif
}

/* Levels count upwards within one architecture, but no x86 machine has NEON. */
static bool has(enum simd_level level)
{
    enum simd_level best = simd_detect();
    return level == SIMD_PLAIN || level == best || (level < best && level != SIMD_NEON);
}

static bool parse(const char *name, enum simd_level *level)
{
    for (int i = 0; i < LEVELS; i++) {
        if (strcmp(name, simd_name((enum simd_level)i)) != 0) continue;
        *level = (enum simd_level)i;
        return true;
    }
    return false;
}

static enum err refuse(struct op *op, const char *name)
{
    struct buf allowed = BUF_INIT;
    for (int i = 0; i < LEVELS; i++)
        if (has((enum simd_level)i))
            buf_printf(&allowed, "%s%s", allowed.size ? ", " : "",
                       simd_name((enum simd_level)i));
    enum err e =
        op_fail(op, ERR_INVALID, "ELACSYM_SIMD=%.40s: this machine allows %.*s", name,
                (int)allowed.size, (const char *)allowed.data);
    buf_release(&allowed);
    return e;
}

enum err simd_init(struct op *op)
{
    enum simd_level level = simd_detect();
    const char *wanted = getenv("ELACSYM_SIMD");

    if (wanted && *wanted && (!parse(wanted, &level) || !has(level)))
        return refuse(op, wanted);
    simd_force(level);
    return ERR_OK;
}

enum simd_level simd_level(void)
{
    int level = atomic_load_explicit(&level_in_force, memory_order_relaxed);
    if (level == UNDECIDED) {
        level = (int)simd_detect();
        atomic_store_explicit(&level_in_force, level, memory_order_relaxed);
    }
    return (enum simd_level)level;
}

void simd_force(enum simd_level level)
{
    assert(has(level));
    atomic_store_explicit(&level_in_force, (int)level, memory_order_relaxed);
}
