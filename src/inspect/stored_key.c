#include "inspect/stored_key.h"

#include <string.h>

#include "base/codec.h"

enum { PARTS_MAX = 64 };

struct parts {
    struct slice items[PARTS_MAX];
    size_t count;
};

static bool split(const char *key, struct parts *out)
{
    out->count = 0;
    for (;;) {
        size_t size = strcspn(key, "/");
        if (size == 0 || out->count == PARTS_MAX) return false;
        out->items[out->count++] = slice_of(key, size);
        if (key[size] == '\0') return true;
        key += size + 1;
    }
}

static bool is(struct slice part, const char *word)
{
    return slice_equal(part, slice_str(word));
}

static bool take_name(struct slice part, struct stored_key *out)
{
    if (part.size > NAMESPACE_NAME_MAX) return false;
    memcpy(out->name, part.data, part.size);
    out->name[part.size] = '\0';
    return true;
}

static bool take_owner(struct slice name, struct slice incarnation, const char *prefix,
                       struct stored_key *out)
{
    if (!take_name(name, out)) return false;
    if (!hex_decode(incarnation, out->incarnation, INCARNATION_SIZE)) return false;
    keys_init(&out->keys, prefix, out->name, out->incarnation);
    return true;
}

/* [prefix/]wal/<ns>/<incarnation>/<slot>.wal */
static bool parse_log(const char *key, const struct parts *p, struct stored_key *out)
{
    const struct slice *last = &p->items[p->count - 1];
    char prefix[WAL_PREFIX_MAX + 1] = "";

    if (p->count < 4 || !is(last[-3], "wal")) return false;
    size_t size = (size_t)((const char *)last[-3].data - key);
    if (size > sizeof prefix) return false;
    if (size > 0) memcpy(prefix, key, size - 1); /* without its '/' */
    if (!take_owner(last[-2], last[-1], prefix, out)) return false;
    out->kind = STORED_LOG_ENTRY;
    return key_wal_slot(&out->keys, key, &out->number);
}

static bool ends_with(struct slice s, const char *end)
{
    size_t size = strlen(end);
    return s.size >= size && memcmp(s.data + s.size - size, end, size) == 0;
}

static bool parse_side(const char *key, struct slice file, struct stored_key *out)
{
    if (ends_with(file, ".seg"))
        out->kind = STORED_SEGMENT;
    else if (ends_with(file, ".del"))
        out->kind = STORED_DELETES;
    else if (ends_with(file, ".idem"))
        out->kind = STORED_IDEMPOTENCY;
    else
        return false;
    return key_segment_epoch(&out->keys, key, &out->number);
}

/* ns/<ns>/<incarnation>/manifest/…, ns/<ns>/<incarnation>/segment/… */
static bool parse_owned(const char *key, const struct parts *p, struct stored_key *out)
{
    if (p->count != 5 || !is(p->items[0], "ns")) return false;
    if (!take_owner(p->items[1], p->items[2], "", out)) return false;
    if (is(p->items[3], "segment")) return parse_side(key, p->items[4], out);
    out->kind = STORED_MANIFEST;
    return key_manifest_version(&out->keys, key, &out->number);
}

static bool parse_catalog(const char *key, const struct parts *p,
                          struct stored_key *out)
{
    if (p->count != 4 || !is(p->items[0], "ns") || !is(p->items[2], "catalog"))
        return false;
    if (!take_name(p->items[1], out)) return false;
    out->kind = STORED_CATALOG_RECORD;
    return key_catalog_number(out->name, key, &out->number);
}

bool stored_key_parse(const char *key, struct stored_key *out)
{
    struct parts parts;
    *out = (struct stored_key){.number = 0};
    return store_key_valid(key) && split(key, &parts) &&
           (parse_catalog(key, &parts, out) || parse_owned(key, &parts, out) ||
            parse_log(key, &parts, out));
}
