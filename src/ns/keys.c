#include "ns/keys.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/task.h"

enum { DIGITS = 20 };

static struct key key_format(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static struct key key_format(const char *format, ...)
{
    struct key key;
    va_list args;
    va_start(args, format);
    int size = vsnprintf(key.text, sizeof key.text, format, args);
    va_end(args);
    assert(size > 0 && (size_t)size < sizeof key.text);
    return key;
}

void keys_init(struct keys *k, const char *wal_prefix, const char *name,
               const uint8_t incarnation[INCARNATION_SIZE])
{
    char hex[2 * INCARNATION_SIZE + 1];
    const char *slash = wal_prefix[0] ? "/" : "";

    assert(strlen(name) <= NAMESPACE_NAME_MAX && strlen(wal_prefix) <= WAL_PREFIX_MAX);
    hex_encode(incarnation, INCARNATION_SIZE, hex);
    memset(k, 0, sizeof *k);
    memcpy(k->name, name, strlen(name) + 1);
    memcpy(k->incarnation, incarnation, INCARNATION_SIZE);
    (void)snprintf(k->wal, sizeof k->wal, "%s%swal/%s/%s/", wal_prefix, slash, name,
                   hex);
    (void)snprintf(k->manifest, sizeof k->manifest, "ns/%s/%s/manifest/", name, hex);
    (void)snprintf(k->segment, sizeof k->segment, "ns/%s/%s/segment/", name, hex);
}

struct key key_wal(const struct keys *k, uint64_t slot)
{
    return key_format("%s%020" PRIu64 ".wal", k->wal, slot);
}

struct key key_manifest(const struct keys *k, uint64_t version)
{
    return key_format("%s%020" PRIu64, k->manifest, UINT64_MAX - version);
}

struct key key_segment_new(const struct keys *k, uint64_t epoch, const char *kind)
{
    uint8_t unique[16];
    char hex[33];
    random_bytes(unique, sizeof unique);
    hex_encode(unique, sizeof unique, hex);
    return key_format("%s%020" PRIu64 "-%s.%s", k->segment, epoch, hex, kind);
}

struct key key_catalog_dir(const char *name)
{
    return key_format("ns/%s/catalog/", name);
}

struct key key_catalog(const char *name, uint64_t n)
{
    return key_format("ns/%s/catalog/%020" PRIu64, name, UINT64_MAX - n);
}

/* The 20 digits behind dir, followed by exactly `rest`. */
static bool number_behind(const char *dir, const char *key, const char *rest,
                          uint64_t *number)
{
    size_t size = strlen(dir);
    uint64_t n = 0;

    if (strncmp(key, dir, size) != 0) return false;
    key += size;
    for (int i = 0; i < DIGITS; i++) {
        if (key[i] < '0' || key[i] > '9') return false;
        uint64_t digit = (uint64_t)(key[i] - '0');
        if (n > (UINT64_MAX - digit) / 10) return false;
        n = n * 10 + digit;
    }
    *number = n;
    return rest ? strcmp(key + DIGITS, rest) == 0 : key[DIGITS] == '-';
}

bool key_wal_slot(const struct keys *k, const char *key, uint64_t *slot)
{
    return number_behind(k->wal, key, ".wal", slot);
}

static bool reversed_behind(const char *dir, const char *key, uint64_t *number)
{
    if (!number_behind(dir, key, "", number)) return false;
    *number = UINT64_MAX - *number;
    return true;
}

bool key_manifest_version(const struct keys *k, const char *key, uint64_t *version)
{
    return reversed_behind(k->manifest, key, version);
}

bool key_catalog_number(const char *name, const char *key, uint64_t *n)
{
    struct key dir = key_catalog_dir(name);
    return reversed_behind(dir.text, key, n);
}

bool key_segment_epoch(const struct keys *k, const char *key, uint64_t *epoch)
{
    return number_behind(k->segment, key, NULL, epoch);
}
