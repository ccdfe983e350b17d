/*
 * s3_sweep.h - private to store_s3: ending uploads in parts that nobody will end.
 *
 * A process that dies within an upload leaves its parts in the bucket, where they are
 * paid for and no listing shows them.
 */
#ifndef STORE_S3_SWEEP_H
#define STORE_S3_SWEEP_H

#include "store/s3_client.h"

/* As store_sweep says. Age is measured by the store's own clock. */
enum err s3_sweep_run(struct op *op, struct s3_client *client, const char *prefix,
                      int64_t age_ms, uint64_t *ended);

#endif
