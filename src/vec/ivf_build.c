/*
 * ivf_build.c - float vectors in, the three strings of an index out.
 *
 * Passes over the vectors: lengths and mean; a sample for the centroids; assignment;
 * means of clusters; encoding, each row straight to its place. The mean of the data is
 * subtracted before coding: one table of a query serves all clusters, and its rounding
 * is relative to the query's length.
 *
 * Dot products have no triangle inequality: rows are clustered with one more coordinate
 * that gives all of them the same length, so that near means large product; they are
 * coded without it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "vec/centre.h"
#include "vec/clusters.h"
#include "vec/distance.h"
#include "vec/ivf.h"
#include "vec/ivf_calibrate.h"
#include "vec/ivf_format.h"
#include "vec/kmeans.h"
#include "vec/rotate.h"
#include "vec/vec_random.h"

enum {
    CLUSTER_SIZE = 256,
    CLUSTER_SIZE_MIN = 64,
    SUPER_SIZE = 64,
    SUPERS_FROM = 512, /* clusters, below which all are compared */
    SUPER_ROUNDS = 8,
    READ_ROWS = 32,
    AUGMENT = 16,            /* floats that make room for one coordinate */
    WINDOW_BYTES = 16 << 20, /* of records, encoded before others … */
    WINDOWS_MAX = 8,         /* … unless they were more than so many */
    CALIBRATION_QUERIES = 1024,
    CALIBRATION_PART = 64, /* of the vectors at most, but a few */
    CALIBRATION_FEW = 256,
    CLUSTER_END_SIZE = sizeof(float) + sizeof(uint32_t) /* at the end of the head */
};

struct build {
    const struct ivf_source *source;
    struct ivf ivf; /* what can be said before encoding */
    struct clusters clusters;
    uint32_t *numbers; /* of clusters, as found: their place in the index */
    uint32_t *firsts;  /* first slot of each place, and the end */
    double norm_max;
    float *raw, *scratch; /* READ_ROWS x dim, coded_dim */
    uint32_t query_count; /* vectors that serve as queries of the calibration */
    uint32_t queries[CALIBRATION_QUERIES];
    struct buf_room *room;
    struct ivf_bytes *out;
};

/* ---- lengths and mean ---- */

struct survey {
    struct centre *centre;
    double norm_max;
    bool zeros; /* some vector has length 0 */
};

static enum err survey_vector(struct op *op, const struct build *b, const float *vector,
                              struct survey *s)
{
    double norm = distance_norm(vector, b->source->dim), scale = 1;
    if (!(norm <= IVF_LENGTH_MAX))
        return op_fail(op, ERR_LIMIT, "a vector too long for the index");
    if (b->ivf.metric == IVF_COSINE) scale = norm > 0 ? 1 / norm : 0;
    s->zeros |= !(norm > 0);
    s->norm_max = fmax(s->norm_max, norm);
    centre_add(s->centre, vector, scale);
    return ERR_OK;
}

static enum err survey(struct op *op, struct build *b, struct survey *s)
{
    const struct ivf_source *source = b->source;
    enum err e = ERR_OK;
    for (uint32_t first = 0; first < source->count && !e; first += READ_ROWS) {
        uint32_t left = source->count - first;
        uint32_t count = left < READ_ROWS ? left : READ_ROWS;
        source->read(source->context, first, count, b->raw);
        for (uint32_t i = 0; i < count && !e; i++)
            e = survey_vector(op, b, b->raw + (size_t)i * source->dim, s);
        if (!e) e = op_check(op);
    }
    return e;
}

/* Of vectors that cosine makes equally long none is far off. */
static struct centre *centre_of(const struct build *b)
{
    const struct ivf_source *source = b->source;
    uint32_t count = source->count < CENTRE_SAMPLE ? source->count : CENTRE_SAMPLE;
    if (b->ivf.metric == IVF_COSINE) return centre_new(NULL, 0, source->dim);
    float *sample = mem_new_array(float, (size_t)count * source->dim);
    for (uint32_t i = 0; i < count; i++)
        source->read(source->context, (uint32_t)((uint64_t)source->count * i / count),
                     1, sample + (size_t)i * source->dim);
    struct centre *centre = centre_new(sample, count, source->dim);
    mem_free(sample);
    return centre;
}

/* Settles how vectors are coded: coordinates, rotation, mean. */
static enum err plan_coding(struct op *op, struct build *b)
{
    struct ivf *ivf = &b->ivf;
    struct survey s = {.centre = centre_of(b)};
    float *mean = mem_new_array(float, ivf->dim + 1);
    enum err e = survey(op, b, &s);
    ivf->coded_dim = ivf->dim + (ivf->metric == IVF_COSINE && s.zeros ? 1 : 0);
    ivf->padded = (uint32_t)rotation_padded(ivf->coded_dim);
    ivf->rotation = rotation_new(ivf->coded_dim, ivf->seed);
    ivf->mean = mem_new_array(float, ivf->padded);
    if (!e) centre_get(s.centre, mean);
    rotation_apply(ivf->rotation, mean, ivf->mean);
    b->norm_max = s.norm_max;
    b->scratch = mem_new_array(float, ivf->coded_dim);
    centre_free(s.centre);
    mem_free(mean);
    return e;
}

/* ---- rows as they are coded ---- */

/* Rotated and centred rows, stride floats apart; b->raw keeps the user's vectors. */
static void read_rows(const struct build *b, uint32_t first, uint32_t count,
                      size_t stride, float *out)
{
    const struct ivf *ivf = &b->ivf;
    assert(count <= READ_ROWS);
    b->source->read(b->source->context, first, count, b->raw);
    for (uint32_t i = 0; i < count; i++) {
        float *row = out + i * stride;
        ivf_transform(ivf, b->raw + (size_t)i * ivf->dim, b->scratch, row);
        for (size_t d = 0; d < ivf->padded; d++)
            row[d] -= ivf->mean[d];
    }
}

static size_t clustered_dim(const struct build *b)
{
    return b->ivf.padded + (b->ivf.metric == IVF_DOT ? AUGMENT : 0);
}

/* struct row_source's read. */
static void read_clustered(const void *context, uint32_t first, uint32_t count,
                           float *out)
{
    const struct build *b = context;
    size_t stride = clustered_dim(b);
    for (uint32_t done = 0; done < count;) {
        uint32_t now = count - done < READ_ROWS ? count - done : READ_ROWS;
        float *rows = out + done * stride;
        read_rows(b, first + done, now, stride, rows);
        for (uint32_t i = 0; i < now && stride > b->ivf.padded; i++) {
            double norm = distance_norm(b->raw + (size_t)i * b->ivf.dim, b->ivf.dim);
            float *more = rows + i * stride + b->ivf.padded;
            memset(more, 0, AUGMENT * sizeof *more);
            more[0] = (float)sqrt(fmax(b->norm_max * b->norm_max - norm * norm, 0));
        }
        done += now;
    }
}

/* ---- the order of clusters ---- */

static const float *centroid_of(const struct build *b, uint32_t found)
{
    return b->clusters.centroids + found * clustered_dim(b);
}

/* Puts the clusters of one super cluster next to their neighbours: a chain that starts
 * anywhere and goes on with the nearest left. */
static void chain(struct op *op, const struct build *b, uint32_t *clusters,
                  uint32_t count)
{
    for (uint32_t i = 0; i + 1 < count; i++) {
        uint32_t nearest = i + 1;
        float best = INFINITY;
        op_rest(op);
        for (uint32_t j = i + 1; j < count; j++) {
            float distance = distance_l2(centroid_of(b, clusters[i]),
                                         centroid_of(b, clusters[j]), b->ivf.padded);
            if (distance >= best) continue;
            best = distance;
            nearest = j;
        }
        uint32_t swapped = clusters[i + 1];
        clusters[i + 1] = clusters[nearest];
        clusters[nearest] = swapped;
    }
}

struct supers {
    uint32_t count;
    uint32_t *sizes;
    float *centroids; /* count x padded */
};

/* Order of the clusters: order[place] is a cluster as found. */
static void order_all(struct op *op, const struct build *b, uint32_t *order,
                      struct supers *supers)
{
    uint32_t clusters = b->clusters.count, end = 0;
    uint64_t seed = b->ivf.seed;
    *supers = (struct supers){0, NULL, NULL};
    for (uint32_t c = 0; c < clusters; c++)
        order[c] = c;
    if (clusters < SUPERS_FROM) {
        chain(op, b, order, clusters);
        return;
    }
    size_t dim = clustered_dim(b);
    struct kmeans *m = kmeans_train(op, b->clusters.centroids, clusters, dim,
                                    clusters / SUPER_SIZE, SUPER_ROUNDS, &seed);
    uint32_t *nearest = mem_new_array(uint32_t, clusters);
    kmeans_nearest(op, m, b->clusters.centroids, clusters, nearest);
    supers->sizes = mem_new_array(uint32_t, m->count);
    supers->centroids = mem_new_array(float, m->count * b->ivf.padded);
    for (uint32_t s = 0; s < m->count; s++) {
        uint32_t first = end;
        for (uint32_t c = 0; c < clusters; c++)
            if (nearest[c] == s) order[end++] = c;
        if (end == first) continue;
        chain(op, b, order + first, end - first);
        memcpy(supers->centroids + supers->count * b->ivf.padded,
               m->centroids + s * dim, b->ivf.padded * sizeof(float));
        supers->sizes[supers->count++] = end - first;
    }
    mem_free(nearest);
    kmeans_free(m);
}

/* ---- the head ---- */

static void put_code(struct buf *out, const float *centroid, size_t dim, float scale)
{
    for (size_t d = 0; d < dim; d++) {
        int x = (int)(centroid[d] / scale + (float)IVF_CENTROID_ZERO + 0.5f);
        buf_append_byte(out, (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x));
    }
}

static float scale_of(const float *centroid, size_t dim)
{
    float largest = 0;
    for (size_t d = 0; d < dim; d++)
        largest = fmaxf(largest, fabsf(centroid[d]));
    return largest > 0 ? largest / 127 : 1;
}

static void put_entry(struct buf *out, const float *centroid, size_t dim,
                      uint32_t first, uint32_t count)
{
    put_f32(out, scale_of(centroid, dim));
    put_f32(out, distance_dot(centroid, centroid, dim));
    put_u32(out, first);
    put_u32(out, count);
}

static void put_fixed(struct buf *out, const struct ivf *ivf)
{
    buf_append(out, ivf_magic, sizeof ivf_magic);
    put_u32(out, (uint32_t)ivf->metric);
    put_u32(out, ivf->dim);
    put_u32(out, ivf->coded_dim);
    put_u32(out, ivf->padded);
    put_u64(out, ivf->seed);
    put_u32(out, ivf->count);
    put_u32(out, ivf->row_count);
    put_u32(out, ivf->supers.count);
    put_u32(out, ivf->clusters.count);
    put_u64(out, ivf->records_size);
    buf_append_zeros(out, IVF_HEAD_FIXED - out->size);
    buf_append(out, ivf->mean, ivf->padded * sizeof(float));
}

static void put_head(const struct build *b, const uint32_t *order,
                     const struct supers *supers, struct buf *out)
{
    const struct ivf *ivf = &b->ivf;
    uint32_t first = 0;
    put_fixed(out, ivf);
    for (uint32_t s = 0; s < supers->count; s++) {
        const float *centroid = supers->centroids + (size_t)s * ivf->padded;
        put_code(out, centroid, ivf->padded, scale_of(centroid, ivf->padded));
    }
    for (uint32_t s = 0; s < supers->count; first += supers->sizes[s++])
        put_entry(out, supers->centroids + (size_t)s * ivf->padded, ivf->padded, first,
                  supers->sizes[s]);
    for (uint32_t c = 0; c < ivf->clusters.count; c++) {
        const float *centroid = centroid_of(b, order[c]);
        put_code(out, centroid, ivf->padded, scale_of(centroid, ivf->padded));
    }
    for (uint32_t c = 0; c < ivf->clusters.count; c++)
        put_entry(out, centroid_of(b, order[c]), ivf->padded, b->firsts[c],
                  b->clusters.sizes[order[c]]);
    buf_append_zeros(out, ivf->clusters.count * (size_t)CLUSTER_END_SIZE);
}

/* Radii and checksums of the records, the end of the head. offsets: of the records. */
static void finish_head(struct build *b, const uint64_t *offsets, const double *squares,
                        const uint32_t *counted)
{
    struct buf *head = &b->out->head;
    const uint8_t *records = b->out->records.data;
    uint32_t clusters = b->clusters.count;
    uint8_t *radii = head->data + head->size - clusters * (size_t)CLUSTER_END_SIZE;
    uint8_t *checks = radii + clusters * sizeof(float);
    for (uint32_t place = 0; place < clusters; place++) {
        uint32_t rows = b->firsts[place + 1] - b->firsts[place];
        float radius =
            (float)sqrt(squares[place] / (counted[place] ? counted[place] : 1));
        uint32_t check =
            crc32c(0, records + offsets[place], ivf_record_size(b->ivf.padded, rows));
        memcpy(radii + place * sizeof radius, &radius, sizeof radius);
        memcpy(checks + place * sizeof check, &check, sizeof check);
    }
}

static void put_table(const struct ivf_table *table, struct buf *out)
{
    for (uint32_t i = 0; i < IVF_CALIBRATION_MAX; i++) {
        const struct ivf_calibration *c = &table->entries[i];
        put_f32(out, c->cut);
        put_f32(out, c->recall);
        put_f32(out, c->recall_reranked);
        put_u32(out, c->clusters);
    }
}

/* Writes the calibrations and the checksum into a head. */
static void seal(struct buf *head, const struct ivf *ivf)
{
    struct buf fixed = BUF_INIT;
    put_u16(&fixed, (uint16_t)ivf->deep.count);
    put_u16(&fixed, (uint16_t)ivf->shallow.count);
    put_u32(&fixed, 0); /* the checksum, below */
    put_table(&ivf->deep, &fixed);
    put_table(&ivf->shallow, &fixed);
    put_table(&ivf->capped, &fixed);
    memcpy(head->data + IVF_HEAD_FIXED - fixed.size, fixed.data, fixed.size);
    uint32_t crc = crc32c(0, head->data, head->size);
    memcpy(head->data + IVF_CRC_OFFSET, &crc, sizeof crc);
    buf_release(&fixed);
}

static void find_places(struct build *b, const uint32_t *order)
{
    uint32_t clusters = b->clusters.count, slot = 0;
    b->numbers = mem_new_array(uint32_t, clusters);
    b->firsts = mem_new_array(uint32_t, clusters + 1);
    b->ivf.records_size = 0;
    for (uint32_t place = 0; place < clusters; place++) {
        uint32_t size = b->clusters.sizes[order[place]];
        b->numbers[order[place]] = place;
        b->firsts[place] = slot;
        slot += size;
        b->ivf.records_size += ivf_record_size(b->ivf.padded, size);
    }
    b->firsts[clusters] = slot;
}

static void write_head(struct op *op, struct build *b)
{
    struct supers supers;
    uint32_t *order = mem_new_array(uint32_t, b->clusters.count);
    order_all(op, b, order, &supers);
    find_places(b, order);
    b->ivf.supers.count = supers.count;
    b->ivf.clusters.count = b->clusters.count;
    put_head(b, order, &supers, &b->out->head);
    mem_free(order);
    mem_free(supers.sizes);
    mem_free(supers.centroids);
}

/* ---- slots and records ---- */

/* Where memory is touched first, it takes its time. */
static void append_zeros(struct op *op, struct buf *b, size_t size)
{
    enum { STEP = 256 << 10 };
    for (size_t done = 0; done < size; done += STEP) {
        op_rest(op);
        buf_append_zeros(b, size - done < STEP ? size - done : STEP);
    }
}

/* Offsets of the records; their centroids are written. */
static uint64_t *start_records(struct op *op, struct build *b)
{
    uint32_t clusters = b->clusters.count, padded = b->ivf.padded;
    uint64_t *offsets = mem_new_array(uint64_t, clusters);
    uint64_t offset = 0;
    b->out->records = buf_cut(b->room, b->ivf.records_size);
    append_zeros(op, &b->out->records, b->ivf.records_size);
    for (uint32_t place = 0; place < clusters; place++) {
        offsets[place] = offset;
        offset += ivf_record_size(padded, b->firsts[place + 1] - b->firsts[place]);
    }
    for (uint32_t c = 0; c < clusters; c++)
        memcpy(b->out->records.data + offsets[b->numbers[c]], centroid_of(b, c),
               padded * sizeof(float));
    return offsets;
}

/* Encodes a row as the index-th of its cluster; returns its squared distance from the
 * centroid. residual: room for padded floats. */
static double encode_row(struct build *b, const float *row, uint32_t vector,
                         uint32_t index, uint8_t *record, float *residual)
{
    uint32_t padded = b->ivf.padded, found = b->clusters.of_row[vector];
    uint32_t size = b->clusters.sizes[found];
    uint32_t number = b->source->rows ? b->source->rows[vector] : vector;
    const float *centroid = centroid_of(b, found);
    enum rabitq_kind kind = ivf_kind(b->ivf.metric);
    for (size_t d = 0; d < padded; d++)
        residual[d] = row[d] - centroid[d];
    rabitq_encode1(kind, residual, centroid, padded, number, index % BLOCK_CODES,
                   record + ivf_blocks_offset(padded) +
                       index / BLOCK_CODES * rabitq_block_size(padded));
    rabitq_encode8(kind, residual, centroid, padded,
                   record + ivf_codes8_offset(padded, size) + (size_t)index * padded,
                   record + ivf_factors8_offset(padded, size) +
                       (size_t)index * RABITQ_FACTORS8_SIZE);
    uint32_t slot = b->firsts[b->numbers[found]] + index;
    memcpy(b->out->slots.data + (size_t)number * sizeof slot, &slot, sizeof slot);
    return (double)distance_dot(residual, residual, padded);
}

struct encoding {
    uint64_t *offsets; /* of the records */
    uint32_t *filled;  /* rows encoded, by cluster as found */
    /* By place: of rows that are not far, their squared distances from the centroid. */
    double *squares;
    uint32_t *counted;
    float *row, *residual;
};

static void encode_vector(struct build *b, struct encoding *c, uint32_t vector)
{
    uint32_t found = b->clusters.of_row[vector], place = b->numbers[found];
    bool far = b->clusters.far[vector];
    read_rows(b, vector, 1, b->ivf.padded, c->row);
    double square = encode_row(b, c->row, vector, c->filled[found]++,
                               b->out->records.data + c->offsets[place], c->residual);
    c->squares[place] += far ? 0 : square;
    c->counted[place] += !far;
}

/* Encodes the vectors of the clusters at places [first, end). */
static enum err encode_places(struct op *op, struct build *b, struct encoding *c,
                              uint32_t first, uint32_t end)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0, encoded = 0; i < b->source->count && !e; i++) {
        uint32_t place = b->numbers[b->clusters.of_row[i]];
        if (place < first || place >= end) continue;
        encode_vector(b, c, i);
        if (++encoded % READ_ROWS == 0) e = op_check(op);
    }
    return e;
}

/* Rows come in an order that has nothing to do with the clusters'. Where records are
 * pages of a file, each of them would be let go of and come back many times; so the
 * rows of as many records as fit a window are encoded before those of others. */
static enum err encode_all(struct op *op, struct build *b, struct encoding *c)
{
    uint32_t clusters = b->clusters.count, end;
    uint64_t window = b->ivf.records_size / WINDOWS_MAX;
    enum err e = ERR_OK;
    if (window < WINDOW_BYTES) window = WINDOW_BYTES;
    for (uint32_t first = 0; first < clusters && !e; first = end) {
        end = first + 1;
        while (end < clusters && c->offsets[end] - c->offsets[first] < window)
            end++;
        e = encode_places(op, b, c, first, end);
    }
    return e;
}

static enum err encode(struct op *op, struct build *b)
{
    uint32_t clusters = b->clusters.count, padded = b->ivf.padded;
    struct encoding c = {.offsets = start_records(op, b),
                         .filled = mem_new_array(uint32_t, clusters),
                         .squares = mem_new_array(double, clusters),
                         .counted = mem_new_array(uint32_t, clusters),
                         .row = mem_new_array(float, 2 * (size_t)padded)};
    c.residual = c.row + padded;
    b->out->slots = buf_cut(b->room, b->source->row_count * sizeof(uint32_t));
    append_zeros(op, &b->out->slots, b->source->row_count * sizeof(uint32_t));
    memset(b->out->slots.data, 0xff, b->out->slots.size);
    enum err e = encode_all(op, b, &c);
    if (!e) finish_head(b, c.offsets, c.squares, c.counted);
    mem_free(c.offsets);
    mem_free(c.filled);
    mem_free(c.squares);
    mem_free(c.counted);
    mem_free(c.row);
    return e;
}

/* ---- calibration ---- */

/* Evenly spread over the source. Products are taken with queries that were not
 * centred. raw: count x dim, coded: count x padded. */
static void read_queries(const struct build *b, float *raw, float *coded)
{
    const struct ivf *ivf = &b->ivf;
    for (uint32_t i = 0; i < b->query_count; i++, coded += ivf->padded) {
        read_rows(b, b->queries[i], 1, ivf->padded, coded);
        memcpy(raw + (size_t)i * ivf->dim, b->raw, ivf->dim * sizeof *raw);
        for (size_t d = 0; d < ivf->padded && ivf->metric == IVF_DOT; d++)
            coded[d] += ivf->mean[d];
    }
}

static enum err calibrate(struct op *op, struct build *b)
{
    float *raw = mem_new_array(float, (size_t)b->query_count * b->ivf.dim);
    float *coded = mem_new_array(float, (size_t)b->query_count * b->ivf.padded);
    struct calibration_queries queries = {.source = b->source,
                                          .vectors = b->queries,
                                          .count = b->query_count,
                                          .raw = raw,
                                          .coded = coded};
    struct ivf *finished = NULL;
    read_queries(b, raw, coded);
    enum err e = ivf_open(op, buf_slice(&b->out->head), &finished);
    if (!e)
        e = calibration_measure(op, &queries, finished, buf_slice(&b->out->records),
                                buf_slice(&b->out->slots));
    if (!e) seal(&b->out->head, finished);
    ivf_close(finished);
    mem_free(raw);
    mem_free(coded);
    return e;
}

/* ---- */

/* Evenly spread over the source. */
static void choose_queries(struct build *b)
{
    uint32_t count = b->source->count, wished = count / CALIBRATION_PART;
    if (wished < CALIBRATION_FEW) wished = CALIBRATION_FEW;
    if (wished > CALIBRATION_QUERIES) wished = CALIBRATION_QUERIES;
    b->query_count = count < wished ? count : wished;
    for (uint32_t i = 0; i < b->query_count; i++)
        b->queries[i] = (uint32_t)((uint64_t)count * i / b->query_count);
}

static void find_clusters(struct op *op, struct build *b, uint32_t wanted)
{
    struct row_source rows = {.read = read_clustered,
                              .context = b,
                              .count = b->source->count,
                              .dim = clustered_dim(b),
                              .op = op};
    struct clusters_options options = {.size = wanted ? wanted : CLUSTER_SIZE,
                                       .size_min = CLUSTER_SIZE_MIN,
                                       .size_max = IVF_CLUSTER_ROWS_MAX,
                                       .seed = b->ivf.seed,
                                       .held_out = b->queries,
                                       .held_out_count = b->query_count,
                                       .known = b->source->clusters,
                                       .known_count = b->source->cluster_count};
    if (options.size_min > options.size / 4) options.size_min = options.size / 4;
    clusters_find(&rows, &options, &b->clusters);
}

/* Runs of rows, with the mean of all as their centroid, which rows are coded without.
 */
static void take_runs(struct build *b)
{
    uint32_t count = b->source->count;
    uint32_t runs = (count + IVF_CLUSTER_ROWS_MAX - 1) / IVF_CLUSTER_ROWS_MAX;
    b->clusters = (struct clusters){.count = runs,
                                    .centroids = mem_calloc(runs * clustered_dim(b),
                                                            sizeof(float)),
                                    .far = mem_calloc(count, sizeof(bool)),
                                    .of_row = mem_new_array(uint32_t, count),
                                    .sizes = mem_calloc(runs, sizeof(uint32_t))};
    for (uint32_t i = 0; i < count; i++) {
        b->clusters.of_row[i] = (uint32_t)((uint64_t)i * runs / count);
        b->clusters.sizes[b->clusters.of_row[i]]++;
    }
}

enum err ivf_build(struct op *op, const struct ivf_source *source,
                   const struct ivf_build_options *options, struct ivf_bytes *out)
{
    assert(source->count > 0 && source->count <= source->row_count);
    assert(source->dim > 0 && source->dim < IVF_DIM_MAX);
    *out = (struct ivf_bytes){BUF_INIT, BUF_INIT, BUF_INIT};
    struct build b = {.source = source,
                      .ivf = {.metric = options->metric,
                              .dim = source->dim,
                              .count = source->count,
                              .row_count = source->row_count,
                              .seed = options->seed},
                      .raw = mem_new_array(float, READ_ROWS *(size_t)source->dim),
                      .room = options->room,
                      .out = out};
    enum err e = plan_coding(op, &b);
    if (!e) {
        if (options->flat) {
            take_runs(&b);
        } else {
            choose_queries(&b);
            find_clusters(op, &b, options->cluster_size);
        }
        write_head(op, &b);
        e = encode(op, &b);
    }
    if (!e) seal(&out->head, &b.ivf);
    if (!e && b.query_count) e = calibrate(op, &b);
    if (e) ivf_bytes_release(out);
    rotation_free(b.ivf.rotation);
    clusters_release(&b.clusters);
    mem_free(b.ivf.mean);
    mem_free(b.numbers);
    mem_free(b.firsts);
    mem_free(b.raw);
    mem_free(b.scratch);
    return e ? op_fail(op, e, "build a vector index") : ERR_OK;
}

void ivf_bytes_release(struct ivf_bytes *b)
{
    buf_release(&b->head);
    buf_release(&b->slots);
    buf_release(&b->records);
}

uint64_t ivf_bytes_per_vector(uint32_t dim)
{
    uint64_t padded = rotation_padded(dim + 1);
    uint64_t block = rabitq_block_size(padded) / BLOCK_CODES;
    /* Clusters have a centroid and its code, and half a block on average is empty. */
    uint64_t shared = (5 * padded + 64 + rabitq_block_size(padded)) / CLUSTER_SIZE_MIN;
    return block + padded + RABITQ_FACTORS8_SIZE + sizeof(uint32_t) + shared;
}

uint64_t ivf_build_memory(uint32_t dim, uint64_t count, bool known)
{
    enum { BOOKKEEPING = 24 }; /* a row */
    return clusters_memory(rotation_padded(dim + 1) + AUGMENT, count, known) +
           count * BOOKKEEPING;
}
