#include "store/s3_sum.h"

#include <assert.h>
#include <stdbool.h>

#include <openssl/evp.h>

#include "base/codec.h"

void s3_sum_crc32c(const struct slice *parts, size_t n, char out[S3_CRC_SIZE])
{
    uint32_t crc = 0;
    for (size_t i = 0; i < n; i++)
        crc = crc32c(crc, parts[i].data, parts[i].size);
    const uint8_t big_endian[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16),
                                   (uint8_t)(crc >> 8), (uint8_t)crc};
    (void)EVP_EncodeBlock((unsigned char *)out, big_endian, sizeof big_endian);
}

void s3_sum_md5(const struct slice *parts, size_t n, char out[S3_MD5_SIZE])
{
    EVP_MD_CTX *md5 = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool good = md5 && EVP_DigestInit_ex(md5, EVP_md5(), NULL);
    for (size_t i = 0; i < n; i++)
        good = good && EVP_DigestUpdate(md5, parts[i].data, parts[i].size);
    good = good && EVP_DigestFinal_ex(md5, digest, &size);
    assert(good && size == 16);
    (void)EVP_EncodeBlock((unsigned char *)out, digest, (int)size);
    EVP_MD_CTX_free(md5);
}
