/*
 * s3_quirks.h - private to store_s3: what a store makes of what it may do either way
 * (PROTOCOL.md section 12).
 *
 * Nothing here decides whether a store is safe; that is the probe's business.
 */
#ifndef STORE_S3_QUIRKS_H
#define STORE_S3_QUIRKS_H

#include "store/s3_client.h"
#include "store/store_s3.h"

/* Asks, with objects below folder (ends with '/'), which are left there. What the store
 * gives no clear answer to stays S3_NOT_KNOWN. Errors are those of s3_client_run. */
enum err s3_quirks_find(struct op *op, struct s3_client *client, const char *folder,
                        struct store_s3_quirks *out);

#endif
