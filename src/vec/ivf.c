#include "vec/ivf.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "vec/distance.h"
#include "vec/ivf_format.h"
#include "vec/rotate.h"

enum { ENTRY_SIZE = 16, RECORD_ALIGN = 64, PROVED_FROM = 2000 /* vectors */ };

/* A recall that only an index with precise codes is seen to have. */
static const float PRECISE = 0.985f;
/* The bound of the 1-bit codes loses a few neighbours in a thousand. */
static const float FLAT_RECALL = 0.99f;

const char ivf_magic[8] = {'e', 'l', 'a', 'c', 'i', 'v', 'f', '2'};
static const char magic_1[8] = {'e', 'l', 'a', 'c', 'i', 'v', 'f', '1'};

struct ivf_entry ivf_entry_at(const struct ivf_centroids *c, uint32_t index)
{
    struct ivf_entry entry;
    const uint8_t *p = c->entries + (size_t)index * ENTRY_SIZE;
    memcpy(&entry.scale, p, sizeof entry.scale);
    memcpy(&entry.norm, p + 4, sizeof entry.norm);
    entry.first = load_u32(p + 8);
    entry.count = load_u32(p + 12);
    return entry;
}

size_t ivf_blocks_offset(uint32_t padded)
{
    return padded * sizeof(float);
}

size_t ivf_codes8_offset(uint32_t padded, uint32_t rows)
{
    return ivf_blocks_offset(padded) + ivf_blocks(rows) * rabitq_block_size(padded);
}

size_t ivf_factors8_offset(uint32_t padded, uint32_t rows)
{
    return ivf_codes8_offset(padded, rows) + (size_t)rows * padded;
}

size_t ivf_record_size(uint32_t padded, uint32_t rows)
{
    size_t end =
        ivf_factors8_offset(padded, rows) + (size_t)rows * RABITQ_FACTORS8_SIZE;
    return (end + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

void ivf_transform(const struct ivf *ivf, const float *vector, float *scratch,
                   float *out)
{
    if (ivf->metric == IVF_COSINE) {
        double norm = distance_norm(vector, ivf->dim);
        double inverse = norm > 0 ? 1 / norm : 0;
        for (size_t d = 0; d < ivf->dim; d++)
            scratch[d] = (float)((double)vector[d] * inverse);
        if (ivf->coded_dim > ivf->dim) scratch[ivf->dim] = norm > 0 ? 0 : 1;
        vector = scratch;
    }
    rotation_apply(ivf->rotation, vector, out);
}

/* ---- opening ---- */

static void read_table(struct reader *r, struct ivf_table *table)
{
    for (uint32_t i = 0; i < IVF_CALIBRATION_MAX; i++) {
        struct ivf_calibration *c = table->entries + i;
        c->cut = get_f32(r);
        c->recall = get_f32(r);
        c->recall_reranked = get_f32(r);
        c->clusters = get_u32(r);
    }
}

/* Its entries say by themselves which of them are in use. */
static void read_capped(struct reader *r, struct ivf_table *table)
{
    read_table(r, table);
    while (table->count < IVF_CALIBRATION_MAX && table->entries[table->count].clusters)
        table->count++;
}

static void read_centroids(struct reader *r, uint32_t padded, struct ivf_centroids *c)
{
    c->codes = get_bytes(r, (size_t)c->count * padded).data;
    c->entries = get_bytes(r, (size_t)c->count * ENTRY_SIZE).data;
}

static bool read_fixed(struct reader *r, struct ivf *ivf)
{
    struct slice magic = get_bytes(r, sizeof ivf_magic);
    if (r->failed) return false;
    bool first = memcmp(magic.data, magic_1, sizeof magic_1) == 0;
    if (!first && memcmp(magic.data, ivf_magic, sizeof ivf_magic) != 0) return false;
    uint32_t metric = get_u32(r);
    ivf->metric = (enum ivf_metric)metric;
    ivf->dim = get_u32(r);
    ivf->coded_dim = get_u32(r);
    ivf->padded = get_u32(r);
    ivf->seed = get_u64(r);
    ivf->count = get_u32(r);
    ivf->row_count = get_u32(r);
    ivf->supers.count = get_u32(r);
    ivf->clusters.count = get_u32(r);
    ivf->records_size = get_u64(r);
    ivf->deep.count = get_u16(r);
    ivf->shallow.count = get_u16(r);
    (void)get_u32(r); /* the checksum */
    read_table(r, &ivf->deep);
    read_table(r, &ivf->shallow);
    if (!first) read_capped(r, &ivf->capped);
    return !r->failed && metric <= IVF_DOT && ivf->dim > 0 && ivf->dim <= IVF_DIM_MAX &&
           (ivf->coded_dim == ivf->dim ||
            (ivf->coded_dim == ivf->dim + 1 && metric == IVF_COSINE)) &&
           ivf->padded == rotation_padded(ivf->coded_dim) && ivf->count > 0 &&
           ivf->count <= ivf->row_count && ivf->clusters.count > 0 &&
           ivf->clusters.count <= ivf->count &&
           ivf->supers.count <= ivf->clusters.count &&
           ivf->deep.count <= IVF_CALIBRATION_MAX &&
           ivf->shallow.count <= IVF_CALIBRATION_MAX;
}

/* Entries count on without gaps from 0 to end, each of 1 to max. */
static bool is_partition(const struct ivf_centroids *c, uint32_t end, uint32_t max)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        struct ivf_entry e = ivf_entry_at(c, i);
        if (e.first != next || e.count == 0 || e.count > max || e.count > end - next)
            return false;
        next += e.count;
    }
    return next == end;
}

static bool is_rising(const struct ivf_table *table, uint32_t clusters)
{
    float before = -INFINITY;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct ivf_calibration *c = table->entries + i;
        if (!(c->cut > before) || !isfinite(c->cut) || !isfinite(c->recall) ||
            !isfinite(c->recall_reranked) || c->clusters == 0 || c->clusters > clusters)
            return false;
        before = c->cut;
    }
    return true;
}

static bool is_rising_capped(const struct ivf_table *table)
{
    struct ivf_calibration before = {.cut = 0};
    for (uint32_t i = 0; i < table->count; i++) {
        struct ivf_calibration c = table->entries[i];
        if (!(c.cut >= before.cut) || !isfinite(c.cut) || !isfinite(c.recall) ||
            !isfinite(c.recall_reranked) || c.clusters < before.clusters)
            return false;
        before = c;
    }
    return true;
}

static bool lay_out_records(struct ivf *ivf)
{
    uint64_t offset = 0;
    ivf->offsets = mem_new_array(uint64_t, ivf->clusters.count + 1);
    ivf->scales = mem_new_array(float, ivf->clusters.count);
    ivf->norms = mem_new_array(float, ivf->clusters.count);
    for (uint32_t i = 0; i < ivf->clusters.count; i++) {
        struct ivf_entry e = ivf_entry_at(&ivf->clusters, i);
        ivf->offsets[i] = offset;
        ivf->scales[i] = e.scale;
        ivf->norms[i] = e.norm;
        offset += ivf_record_size(ivf->padded, e.count);
        ivf->radius_max = fmaxf(ivf->radius_max, ivf->radii[i]);
        if (e.count > ivf->largest) ivf->largest = e.count;
        if (!isfinite(e.scale) || !isfinite(e.norm) || !isfinite(ivf->radii[i]))
            return false;
    }
    ivf->offsets[ivf->clusters.count] = offset;
    return offset == ivf->records_size;
}

static bool checksum_holds(struct slice head)
{
    const uint32_t zero = 0;
    if (head.size < IVF_HEAD_FIXED_1) return false;
    uint32_t crc = crc32c(0, head.data, IVF_CRC_OFFSET);
    crc = crc32c(crc, &zero, sizeof zero);
    crc = crc32c(crc, head.data + IVF_CRC_OFFSET + 4, head.size - IVF_CRC_OFFSET - 4);
    return crc == load_u32(head.data + IVF_CRC_OFFSET);
}

static bool decode(struct slice head, struct ivf *ivf)
{
    struct reader r = reader_of(head);
    if (!checksum_holds(head) || !read_fixed(&r, ivf)) return false;
    struct slice mean = get_bytes(&r, ivf->padded * sizeof(float));
    read_centroids(&r, ivf->padded, &ivf->supers);
    read_centroids(&r, ivf->padded, &ivf->clusters);
    struct slice radii = get_bytes(&r, ivf->clusters.count * sizeof(float));
    ivf->checks = get_bytes(&r, ivf->clusters.count * sizeof(uint32_t)).data;
    if (!reader_done(&r)) return false;
    if (!is_partition(&ivf->clusters, ivf->count, IVF_CLUSTER_ROWS_MAX)) return false;
    if (ivf->supers.count &&
        !is_partition(&ivf->supers, ivf->clusters.count, ivf->clusters.count))
        return false;
    if (!is_rising(&ivf->deep, ivf->clusters.count) ||
        !is_rising(&ivf->shallow, ivf->clusters.count) ||
        !is_rising_capped(&ivf->capped))
        return false;
    ivf->mean = mem_dup(mean.data, mean.size);
    ivf->radii = mem_dup(radii.data, radii.size);
    ivf->rotation = rotation_new(ivf->coded_dim, ivf->seed);
    return lay_out_records(ivf);
}

enum err ivf_open(struct op *op, struct slice head, struct ivf **out)
{
    struct ivf *ivf = mem_new(struct ivf);
    *out = NULL;
    if (!decode(head, ivf)) {
        ivf_close(ivf);
        return op_fail(op, ERR_CORRUPT, "head of a vector index");
    }
    *out = ivf;
    return ERR_OK;
}

void ivf_close(struct ivf *ivf)
{
    if (!ivf) return;
    rotation_free(ivf->rotation);
    mem_free(ivf->mean);
    mem_free(ivf->scales);
    mem_free(ivf->norms);
    mem_free(ivf->radii);
    mem_free(ivf->offsets);
    mem_free(ivf);
}

uint32_t ivf_count(const struct ivf *ivf)
{
    return ivf->count;
}

uint32_t ivf_clusters(const struct ivf *ivf)
{
    return ivf->clusters.count;
}

uint32_t ivf_largest_cluster(const struct ivf *ivf)
{
    return ivf->largest;
}

uint64_t ivf_slots_size(const struct ivf *ivf)
{
    return (uint64_t)ivf->row_count * sizeof(uint32_t);
}

uint64_t ivf_records_size(const struct ivf *ivf)
{
    return ivf->records_size;
}

uint64_t ivf_memory(const struct ivf *ivf)
{
    return sizeof *ivf + ivf->padded * 5 * sizeof(float) +
           ivf->clusters.count * (3 * sizeof(float) + sizeof(uint64_t));
}

bool ivf_fits(const struct ivf *ivf, enum ivf_metric metric, uint32_t dim,
              uint32_t count, uint32_t row_count)
{
    return ivf->metric == metric && ivf->dim == dim && ivf->count == count &&
           ivf->row_count == row_count;
}

struct ivf_record ivf_record_of(const struct ivf *ivf, uint32_t cluster)
{
    uint64_t offset = ivf->offsets[cluster];
    return (struct ivf_record){.cluster = cluster,
                               .offset = offset,
                               .size = (size_t)(ivf->offsets[cluster + 1] - offset)};
}

enum err ivf_record_check(struct op *op, const struct ivf *ivf, uint64_t offset,
                          struct slice bytes)
{
    uint32_t low = 0, high = ivf->clusters.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ivf->offsets[middle] < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < ivf->clusters.count && ivf->offsets[low] == offset &&
        ivf->offsets[low + 1] - offset == bytes.size &&
        crc32c(0, bytes.data, bytes.size) ==
            load_u32(ivf->checks + (size_t)low * sizeof(uint32_t)))
        return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "checksum of record %u of a vector index", low);
}

/* ---- which clusters ---- */

double ivf_required_cosine(enum rabitq_kind kind, double distance, double radius,
                           double limit, double query_norm)
{
    double beyond, reach;
    if (kind == RABITQ_PRODUCT) {
        beyond = distance - limit;
        reach = query_norm * radius;
    } else {
        distance = fmax(distance, 0);
        beyond = distance + radius * radius - limit;
        reach = 2 * sqrt(distance) * radius;
    }
    return beyond <= 0 ? -1 : beyond < reach * CUT_ALL ? beyond / reach : CUT_ALL;
}

/*
 * The first measurement that is enough. A cut between two would promise a recall that
 * nobody measured: where many neighbours require the same cosine, recall jumps.
 */
static struct ivf_calibration look_up(const struct ivf *ivf,
                                      const struct ivf_table *table, float wanted,
                                      bool reranked)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct ivf_calibration *c = &table->entries[i];
        if ((reranked ? c->recall_reranked : c->recall) >= wanted) return *c;
    }
    return (struct ivf_calibration){.cut = (float)CUT_ALL,
                                    .clusters = ivf->clusters.count};
}

struct ivf_calibration ivf_calibrated(const struct ivf *ivf, float wanted,
                                      double neighbours, bool reranked)
{
    struct ivf_calibration c = look_up(ivf, &ivf->deep, wanted, reranked);
    if (neighbours >= IVF_DEEP) return c;
    struct ivf_calibration few = look_up(ivf, &ivf->shallow, wanted, reranked);
    double part = log(fmax(neighbours, IVF_SHALLOW) / IVF_SHALLOW) /
                  log((double)IVF_DEEP / IVF_SHALLOW);
    if (few.cut <= c.cut) return c;
    c.cut = few.cut + (float)part * (c.cut - few.cut);
    if (few.clusters > c.clusters) c.clusters = few.clusters;
    return c;
}

/* Rounded up, and more than the lower. */
static uint32_t between(uint32_t low, uint32_t high, float part)
{
    uint32_t more = (uint32_t)ceilf(part * (float)(high - low));
    return low + (more ? more : 1);
}

/* With fewer clusters where a step in their number is several: each further one adds
 * less than the one before. */
static bool look_up_capped(const struct ivf *ivf, float wanted, bool reranked,
                           struct ivf_calibration *out)
{
    struct ivf_calibration before = {.cut = 0};
    for (uint32_t i = 0; i < ivf->capped.count; i++) {
        struct ivf_calibration c = ivf->capped.entries[i];
        float low = reranked ? before.recall_reranked : before.recall;
        float high = reranked ? c.recall_reranked : c.recall;
        if (high >= wanted) {
            float part = i && high > low ? (wanted - low) / (high - low) : 1;
            *out = c;
            if (c.clusters > before.clusters)
                out->clusters = between(before.clusters, c.clusters, part);
            return true;
        }
        before = c;
    }
    return false;
}

bool ivf_capped(const struct ivf *ivf, float wanted, double neighbours, bool reranked,
                struct ivf_calibration *out)
{
    if (!look_up_capped(ivf, wanted, reranked, out)) return false;
    /* The farther down the nearest ones reach, the more clusters hold them: at most in
     * proportion. */
    double clusters = out->clusters * fmax(neighbours / IVF_DEEP, 1);
    double all = ivf->clusters.count;
    out->clusters = (uint32_t)fmin(ceil(clusters), all);
    if (neighbours >= IVF_DEEP) return true;
    /* Fewer lie in fewer clusters, but require more of them. A good half of what may be
     * missed is missed by the cut. */
    float cut = ivf_calibrated(ivf, (1 + wanted) / 2, neighbours, reranked).cut;
    out->cut = fmaxf(out->cut, cut);
    return true;
}

uint32_t ivf_probes(const struct ivf *ivf, float recall, bool reranked)
{
    struct ivf_calibration c;
    if (ivf_capped(ivf, recall, IVF_DEEP, reranked, &c)) return c.clusters;
    return ivf_calibrated(ivf, recall, IVF_DEEP, reranked).clusters;
}

static float best_measured(const struct ivf_table *table, float best)
{
    for (uint32_t i = 0; i < table->count; i++)
        best = fmaxf(best, table->entries[i].recall_reranked);
    return best;
}

bool ivf_is_flat(const struct ivf *ivf)
{
    return ivf->deep.count == 0;
}

bool ivf_reaches(const struct ivf *ivf, float recall)
{
    if (ivf_is_flat(ivf)) return recall <= FLAT_RECALL;
    float best = best_measured(&ivf->capped, best_measured(&ivf->deep, 0));
    /* What is kept are lower bounds, which few queries, or a wish for all but
     * everything, leave below what the index can do. */
    if (ivf->count < PROVED_FROM) return true;
    return best >= recall || best >= PRECISE;
}

bool ivf_decides(const struct ivf *ivf, float recall)
{
    struct ivf_calibration alone, helped;
    return ivf_capped(ivf, recall, IVF_DEEP, false, &alone) &&
           ivf_capped(ivf, recall, IVF_DEEP, true, &helped) &&
           alone.clusters <= helped.clusters + helped.clusters / 4 + 1;
}

uint32_t ivf_row_cluster(const struct ivf *ivf, struct slice slots, uint32_t row)
{
    assert(row < ivf->row_count && slots.size == ivf_slots_size(ivf));
    uint32_t slot = load_u32(slots.data + (size_t)row * sizeof slot);
    uint32_t low = 0, high = ivf->clusters.count - 1;
    while (low < high) { /* the last cluster whose first slot is not behind */
        uint32_t middle = low + (high - low + 1) / 2;
        if (ivf_entry_at(&ivf->clusters, middle).first <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
