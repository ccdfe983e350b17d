/*
 * s3_sum.h - private to store_s3: checksums of bodies, as headers carry them.
 *
 * Pure functions. Threads: any.
 */
#ifndef STORE_S3_SUM_H
#define STORE_S3_SUM_H

#include <stddef.h>

#include "base/buf.h"

enum { S3_CRC_SIZE = 16, S3_MD5_SIZE = 32 };

/* x-amz-checksum-crc32c of the parts in order: base64 of its four bytes, the highest
 * first. */
void s3_sum_crc32c(const struct slice *parts, size_t n, char out[S3_CRC_SIZE]);

/* Their Content-MD5. */
void s3_sum_md5(const struct slice *parts, size_t n, char out[S3_MD5_SIZE]);

#endif
