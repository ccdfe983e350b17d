/*
 * s3_process.h - runs the command that a profile names as its credential_process.
 */
#ifndef STORE_S3_PROCESS_H
#define STORE_S3_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;

/* Appends what command writes to standard output, run by /bin/sh; what it writes to
 * standard error is dropped. ERR_DENIED: it cannot be run, failed, wrote more than
 * size_max bytes or had not ended after limit_ms; then it is killed. Blocks; any
 * thread. */
enum err s3_process_output(struct op *op, const char *command, int64_t limit_ms,
                           size_t size_max, struct buf *out);

#endif
