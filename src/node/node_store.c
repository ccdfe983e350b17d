#include "node/node_store.h"

#include <unistd.h>

#include "base/log.h"
#include "base/op.h"
#include "node/config.h"
#include "store/store.h"
#include "store/store_dir.h"
#include "store/store_s3.h"

/* The kernel may have dropped pages that we believed to be written, or the bucket has
 * begun to replace objects: what is in memory may be ahead of the store for good. Only
 * a restart reads what is really there. */
static void store_poisoned(void *context, const char *why)
{
    (void)context;
    log_error(NULL, "store failed, the process ends", "why=%s", why);
    _exit(1);
}

static enum err open_s3(struct op *op, const struct config *c, enum store_use use,
                        struct store **out)
{
    const struct store_s3_options options = {.endpoint = c->storage.s3_endpoint,
                                             .bucket = c->storage.s3_bucket,
                                             .region = c->storage.s3_region,
                                             .content_md5 = c->storage.s3_content_md5,
                                             .environment =
                                                 (const char *const *)environ};
    struct store *store = NULL;
    enum err e = store_s3_open(op, &options, &store);
    if (!e && use == STORE_WRITE) e = store_s3_probe(op, store);
    if (e) {
        store_free(store);
        return op_fail(op, e, "storage.backend = s3");
    }
    if (use == STORE_WRITE) {
        struct store_s3_quirks quirks;
        store_s3_learn(op, store, &quirks);
        store_s3_watch(store, store_poisoned, NULL);
    }
    *out = store;
    return ERR_OK;
}

enum err node_store_open(struct op *op, const struct config *c, enum store_use use,
                         struct store **out)
{
    store_metrics_init();
    if (c->storage.backend == STORAGE_S3) return open_s3(op, c, use, out);
    struct store_dir_options options = {.root = c->storage.local_root_path,
                                        .allow_unsafe_fs =
                                            c->storage.local_allow_unsafe_fs,
                                        .read_only = use == STORE_INSPECT,
                                        .on_poison = store_poisoned};
    return store_dir_open(op, &options, out);
}
