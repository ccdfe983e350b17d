/*
 * keys.h - the names of a namespace's objects in the store (PROTOCOL section 2).
 *
 *   [wal_prefix/]wal/<ns>/<incarnation>/<slot:020>.wal
 *   ns/<ns>/catalog/<u64max - n:020>
 *   ns/<ns>/<incarnation>/manifest/<u64max - version:020>
 *   ns/<ns>/<incarnation>/segment/<epoch:020>-<random128>.<kind>
 *
 * Reversed numbers make a LIST of one key answer the newest. The catalog lies outside
 * the WAL prefix, so that a node with another prefix finds the record and refuses.
 */
#ifndef NS_KEYS_H
#define NS_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

struct op;

enum { NAMESPACE_NAME_MAX = 128, WAL_PREFIX_MAX = 64, INCARNATION_SIZE = 16 };

/* Where one incarnation of a namespace keeps its objects; a value. */
struct keys {
    char name[NAMESPACE_NAME_MAX + 1];
    uint8_t incarnation[INCARNATION_SIZE];
    char wal[STORE_KEY_MAX];      /* directory of the log, ends with '/' */
    char manifest[STORE_KEY_MAX]; /* directory of the manifests */
    char segment[STORE_KEY_MAX];  /* directory of the segments */
};

struct key {
    char text[STORE_KEY_MAX];
};

void keys_init(struct keys *k, const char *wal_prefix, const char *name,
               const uint8_t incarnation[INCARNATION_SIZE]);

struct key key_wal(const struct keys *k, uint64_t slot);
struct key key_manifest(const struct keys *k, uint64_t version);
/* A new name nobody else can use. kind: "seg", "del" or "idem". */
struct key key_segment_new(const struct keys *k, uint64_t epoch, const char *kind);
struct key key_catalog(const char *name, uint64_t n);
struct key key_catalog_dir(const char *name);

/* Numbers back from keys; false when the key is not of that form. */
bool key_wal_slot(const struct keys *k, const char *key, uint64_t *slot);
bool key_manifest_version(const struct keys *k, const char *key, uint64_t *version);
bool key_catalog_number(const char *name, const char *key, uint64_t *n);
bool key_segment_epoch(const struct keys *k, const char *key, uint64_t *epoch);

#endif
