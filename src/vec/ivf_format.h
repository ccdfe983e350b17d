/*
 * ivf_format.h - the stored bytes of a vector index. Private to vec/.
 *
 * Little endian. D: the padded dimension, a multiple of 64. C clusters, S super
 * clusters (0 where there are few clusters), n vectors.
 *
 * head
 *     0  8   magic "elacivf2"
 *     8  u32 metric (enum ivf_metric)      12 u32 dim, the user's
 *    16  u32 coded dim: dim, or dim + 1 where cosine vectors of length 0 are told apart
 *    20  u32 D                             24 u64 seed of the rotation
 *    32  u32 n                             36 u32 row_count
 *    40  u32 S                             44 u32 C
 *    48  u64 size of records               56 u16 x 2 measurements of each depth
 *    60  u32 crc32c of the head with these 4 bytes 0
 *    64      calibration for the 10 nearest, {f32, f32, f32, u32} x 16: cut, recall,
 *            recall with exact rerank, clusters that 19 of 20 queries took; cuts ascend
 *   320      the same for the 2 nearest
 *   576      the 10 nearest again, with the most clusters that a query looks at;
 *            neither cuts nor clusters descend, unused ones are 0; not in "elacivf1"
 *   832      mean of the data, rotated: f32 x D (dot: subtracted from rows alone)
 *            super clusters: codes u8 x D each, then
 *                {f32 scale, f32 squared length, u32 first cluster, u32 clusters} each
 *            clusters: codes u8 x D each, then
 *                {f32 scale, f32 squared length, u32 first slot, u32 rows} each
 *            radii of the clusters: f32 each, the root of the mean squared distance
 *                of their rows, but for some that are far off, from the centroid
 *            CRC32C of the clusters' records: u32 each
 * A code x stands for the coordinate scale * (x - 128).
 * Clusters lie in the order of their super clusters, neighbours next to each other.
 *
 * slots: u32 x row_count: the slot of each row, 0xffffffff without a vector. Slots are
 *   numbered along the records.
 *
 * records: one a cluster, in order
 *     f32 x D centroid, exact
 *     blocks of 32 1-bit codes with factors and rows (rabitq.h), the last padded by 0
 *     8-bit codes u8 x D each, padding none
 *     their factors {f32, f32} each, up to a multiple of 64 bytes
 */
#ifndef VEC_IVF_FORMAT_H
#define VEC_IVF_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vec/ivf.h"
#include "vec/rabitq.h"

struct rotation;

enum {
    IVF_HEAD_FIXED = 832,
    IVF_HEAD_FIXED_1 = 576, /* of version 1, without the last table */
    IVF_CRC_OFFSET = 60,
    IVF_CALIBRATION_MAX = 16,
    IVF_DEEP = 10, /* neighbours that calibrations are about */
    IVF_SHALLOW = 2,
    IVF_CLUSTER_ROWS_MAX = 512,
    IVF_DIM_MAX = 1 << 16,
    IVF_CENTROID_ZERO = 128
};

#define IVF_NO_SLOT UINT32_MAX
/* A cut that leaves nothing out: no cosine is above it. */
#define CUT_ALL 2.0

extern const char ivf_magic[8]; /* as it is written now */

/* What was measured at a cut; recalls are lower bounds of confidence. clusters: as many
 * as nearly all queries took, or the most that any may take. */
struct ivf_calibration {
    float cut, recall, recall_reranked;
    uint32_t clusters;
};

/* What stands behind the code of a centroid. */
struct ivf_entry {
    float scale, norm; /* norm: squared length */
    uint32_t first, count;
};

struct ivf_table {
    uint32_t count;
    struct ivf_calibration entries[IVF_CALIBRATION_MAX];
};

/* Centroids as they lie in the head. */
struct ivf_centroids {
    uint32_t count;
    const uint8_t *codes, *entries;
};

struct ivf {
    enum ivf_metric metric;
    uint32_t dim, coded_dim, padded;
    uint32_t count, row_count;
    uint64_t seed, records_size;
    uint32_t largest;
    struct ivf_table deep, shallow; /* cuts alone */
    struct ivf_table capped;        /* cuts and a number of clusters; deep too */
    float *mean;
    float *scales, *norms, *radii; /* of the clusters */
    float radius_max;
    const uint8_t *checks; /* u32 each */
    uint64_t *offsets;     /* of the records, clusters + 1 */
    struct ivf_centroids supers, clusters;
    struct rotation *rotation;
};

struct ivf_entry ivf_entry_at(const struct ivf_centroids *c, uint32_t index);
size_t ivf_record_size(uint32_t padded, uint32_t rows);
/* Where in a record of so many rows: the blocks, the 8-bit codes, their factors. */
size_t ivf_blocks_offset(uint32_t padded);
size_t ivf_codes8_offset(uint32_t padded, uint32_t rows);
size_t ivf_factors8_offset(uint32_t padded, uint32_t rows);

static inline uint32_t ivf_blocks(uint32_t rows)
{
    return (rows + BLOCK_CODES - 1) / BLOCK_CODES;
}

static inline enum rabitq_kind ivf_kind(enum ivf_metric metric)
{
    return metric == IVF_DOT ? RABITQ_PRODUCT : RABITQ_L2;
}

/*
 * What a recall takes, for so many neighbours out of this index: the rarer neighbours
 * are, the more they leave their clusters' centroids, measured in cosines. The first
 * measurement that is enough; every cluster for a recall above all that were measured.
 */
struct ivf_calibration ivf_calibrated(const struct ivf *ivf, float wanted,
                                      double neighbours, bool reranked);
/* The same where all rows may be found: with the most clusters that a query may look
 * at, which is less work. False: no such recall was measured. */
bool ivf_capped(const struct ivf *ivf, float wanted, double neighbours, bool reranked,
                struct ivf_calibration *out);

/*
 * How far a cluster lies beyond the k-th distance: the cosine that a row of it, of the
 * usual distance from the centroid, needs with the direction to the query to be as near
 * as limit. distance: of the centroid, squared or minus the product.
 */
double ivf_required_cosine(enum rabitq_kind kind, double distance, double radius,
                           double limit, double query_norm);

/* The user's vector as it is coded: of length 1 for cosine, one coordinate longer
 * where there are vectors of length 0, rotated. scratch: coded_dim floats; out: padded
 * floats. */
void ivf_transform(const struct ivf *ivf, const float *vector, float *scratch,
                   float *out);

#endif
