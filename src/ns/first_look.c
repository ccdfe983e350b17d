#include "ns/first_look.h"

#include "base/op.h"
#include "ns/catalog.h"
#include "ns/registry.h"
#include "ns/round.h"

enum err fail_dropped(struct op *op, const struct keys *keys)
{
    return op_fail(op, ERR_NOT_FOUND, "there is no namespace \"%s\"", keys->name);
}

enum err check_not_dropped(struct op *op, const struct registry_options *env,
                           const struct keys *keys, uint64_t *next_record)
{
    uint64_t unknown = 0;
    bool current;
    enum err e = catalog_is_current(op, env->store, keys->name, keys->incarnation,
                                    next_record ? next_record : &unknown, &current);
    return !e && !current ? fail_dropped(op, keys) : e;
}

struct look {
    const struct registry_options *env;
    const struct keys *keys;
    uint64_t *next_record;
    struct manifest *newest;
};

static enum err look_at_catalog(struct op *op, void *arg)
{
    struct look *l = arg;
    return check_not_dropped(op, l->env, l->keys, l->next_record);
}

static enum err look_at_manifest(struct op *op, void *arg)
{
    struct look *l = arg;
    return manifest_newest(op, l->env->store, l->keys, &l->newest);
}

enum err
first_look(struct op *op, const struct registry_options *env,
           /* NOLINTNEXTLINE(readability-non-const-parameter): calls write it */
           const struct keys *keys, uint64_t *next_record, struct manifest **newest)
{
    struct look look = {.env = env, .keys = keys, .next_record = next_record};
    struct round_call calls[] = {{.run = look_at_catalog, .arg = &look},
                                 {.run = look_at_manifest, .arg = &look}};

    enum err e = round_run(op, calls, sizeof calls / sizeof calls[0]);
    if (e)
        manifest_unref(look.newest);
    else
        *newest = look.newest;
    return e;
}
