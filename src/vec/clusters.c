#include "vec/clusters.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/at_most.h"
#include "base/mem.h"
#include "base/op.h"
#include "vec/distance.h"
#include "vec/kmeans.h"
#include "vec/vec_random.h"

enum {
    SAMPLE_PER_CLUSTER = 128,
    SAMPLE_BYTES_MAX = 512 << 20,
    KNOWN_BYTES = 64 << 20, /* rows of clusters that are split, means */
    ROUNDS = 10,
    READ_ROWS = 256, /* rows read at once */
    HALVE_SAMPLE = 512,
    HALVE_ROUNDS = 6,
    NEAR_SPLIT = 16 /* clusters whose rows may move to one that a split has made */
};

/* Times the mean squared distance from the mean of a cluster, beyond which a row is
 * far. Of rows that follow any usual law hardly one in a million is. */
static const double FAR = 16;

/* ---- training ---- */

static uint32_t sample_size(const struct row_source *s, uint32_t clusters)
{
    uint64_t wanted = (uint64_t)clusters * SAMPLE_PER_CLUSTER;
    uint64_t fits = SAMPLE_BYTES_MAX / (s->dim * sizeof(float));
    wanted = wanted < fits ? wanted : fits;
    wanted = wanted > clusters ? wanted : clusters;
    return (uint32_t)(wanted < s->count ? wanted : s->count);
}

/* One row out of each of `count` equal stretches: order in the source plays no part. */
static float *read_sample(const struct row_source *s, uint32_t count, uint64_t *seed)
{
    float *sample = mem_new_array(float, count * s->dim);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = (uint32_t)((uint64_t)s->count * i / count);
        uint32_t end = (uint32_t)((uint64_t)s->count * (i + 1) / count);
        uint32_t row = first + vec_random_below(seed, end - first);
        s->read(s->context, row, 1, sample + i * s->dim);
    }
    return sample;
}

static struct kmeans *train(const struct row_source *s, uint32_t clusters,
                            uint64_t *seed)
{
    uint32_t count = sample_size(s, clusters);
    float *sample = read_sample(s, count, seed);
    struct kmeans *m =
        kmeans_train(s->op, sample, count, s->dim, clusters, ROUNDS, seed);
    mem_free(sample);
    return m;
}

static void assign_all(const struct row_source *s, const struct kmeans *m,
                       uint32_t *of_row)
{
    float *rows = mem_new_array(float, READ_ROWS * s->dim);
    for (uint32_t first = 0; first < s->count; first += READ_ROWS) {
        uint32_t count = at_most(s->count - first, READ_ROWS);
        s->read(s->context, first, count, rows);
        kmeans_nearest(s->op, m, rows, count, of_row + first);
    }
    mem_free(rows);
}

static uint32_t *sizes_of(const uint32_t *of_row, uint32_t rows, size_t clusters)
{
    uint32_t *sizes = mem_new_array(uint32_t, clusters);
    for (uint32_t i = 0; i < rows; i++)
        sizes[of_row[i]]++;
    return sizes;
}

/* Assigns rows that are in no cluster yet. */
static void assign_unknown(const struct row_source *s, const struct kmeans *m,
                           uint32_t *of_row)
{
    float *rows = mem_new_array(float, READ_ROWS * s->dim);
    uint32_t which[READ_ROWS], nearest[READ_ROWS];
    for (uint32_t i = 0, count = 0; i < s->count; i++) {
        if (of_row[i] == CLUSTER_UNKNOWN) {
            s->read(s->context, i, 1, rows + count * s->dim);
            which[count++] = i;
        }
        if (count < READ_ROWS && i + 1 < s->count) continue;
        kmeans_nearest(s->op, m, rows, count, nearest);
        for (uint32_t j = 0; j < count; j++)
            of_row[which[j]] = nearest[j];
        count = 0;
    }
    mem_free(rows);
}

/* ---- small clusters go ---- */

/* The centroids of clusters that are large enough; numbers[c] is where c went. */
static struct kmeans *keep_large(struct op *op, const struct kmeans *m,
                                 const uint32_t *sizes, uint32_t size_min,
                                 uint32_t *numbers)
{
    float *kept = mem_new_array(float, m->count * m->dim);
    uint32_t count = 0, largest = 0;
    for (uint32_t c = 1; c < m->count; c++)
        if (sizes[c] > sizes[largest]) largest = c;
    for (uint32_t c = 0; c < m->count; c++) {
        numbers[c] = UINT32_MAX;
        if (sizes[c] < size_min && c != largest) continue;
        memcpy(kept + count * m->dim, m->centroids + c * m->dim, m->dim * sizeof *kept);
        numbers[c] = count++;
    }
    return kmeans_of(op, kept, count, m->dim);
}

/* Gives the rows of dropped clusters to the nearest that remain. */
static struct kmeans *drop_small(const struct row_source *s, struct kmeans *m,
                                 uint32_t size_min, uint32_t *of_row)
{
    uint32_t *sizes = sizes_of(of_row, s->count, m->count);
    uint32_t *numbers = mem_new_array(uint32_t, m->count);
    struct kmeans *kept = keep_large(s->op, m, sizes, size_min, numbers);
    for (uint32_t i = 0; i < s->count; i++)
        of_row[i] = numbers[of_row[i]]; /* UINT32_MAX is CLUSTER_UNKNOWN */
    assign_unknown(s, kept, of_row);
    kmeans_free(m);
    mem_free(sizes);
    mem_free(numbers);
    return kept;
}

/* ---- large clusters are halved ---- */

struct placed {
    float place; /* along the line between the two halves */
    uint32_t row;
};

static int compare_placed(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->place < y->place) return -1;
    if (x->place > y->place) return 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* The difference of two centroids trained on a sample of the rows; returns the place
 * half way between them. */
static float find_line(const struct row_source *s, const struct placed *rows,
                       uint32_t count, uint64_t *seed, float *line)
{
    uint32_t picked = at_most(count, HALVE_SAMPLE);
    float *sample = mem_new_array(float, picked * s->dim);
    for (uint32_t i = 0; i < picked; i++)
        s->read(s->context, rows[(uint64_t)count * i / picked].row, 1,
                sample + i * s->dim);
    struct kmeans *two =
        kmeans_train(s->op, sample, picked, s->dim, 2, HALVE_ROUNDS, seed);
    for (size_t d = 0; d < s->dim; d++)
        line[d] = two->centroids[s->dim + d] - two->centroids[d];
    float middle = (two->norms[1] - two->norms[0]) / 2;
    kmeans_free(two);
    mem_free(sample);
    return middle;
}

/* Sorts the rows along the line and returns how many form the first half: those up to
 * the middle, but between a third and two thirds. */
static uint32_t halve(const struct row_source *s, struct placed *rows, uint32_t count,
                      uint64_t *seed)
{
    float *line = mem_new_array(float, 2 * s->dim), *row = line + s->dim;
    float middle = find_line(s, rows, count, seed, line);
    for (uint32_t i = 0; i < count; i++) {
        s->read(s->context, rows[i].row, 1, row);
        rows[i].place = distance_dot(row, line, s->dim);
    }
    mem_free(line);
    qsort(rows, count, sizeof *rows, compare_placed);
    uint32_t cut = count / 3;
    while (cut < count - count / 3 && rows[cut].place <= middle)
        cut++;
    return cut;
}

struct splitting {
    const struct row_source *source;
    uint32_t size_max;
    uint64_t seed;
    uint32_t *of_row;
    uint32_t clusters; /* numbers given so far */
};

/* Depth is at most log(rows) / log(3 / 2): each half has at most two thirds. */
static void split(struct splitting *s, struct placed *rows, uint32_t count,
                  uint32_t number)
{
    if (count <= s->size_max) {
        for (uint32_t i = 0; i < count; i++)
            s->of_row[rows[i].row] = number;
        return;
    }
    uint32_t cut = halve(s->source, rows, count, &s->seed);
    split(s, rows, cut, number);
    split(s, rows + cut, count - cut, s->clusters++);
}

/* The number of clusters afterwards. */
static uint32_t split_large(const struct row_source *source, uint32_t clusters,
                            uint32_t size_max, uint64_t seed, uint32_t *of_row)
{
    uint32_t *sizes = sizes_of(of_row, source->count, clusters);
    struct splitting s = {source, size_max, seed, of_row, clusters};
    for (uint32_t c = 0; c < clusters; c++) {
        if (sizes[c] <= size_max) continue;
        op_rest(source->op);
        struct placed *rows = mem_new_array(struct placed, sizes[c]);
        uint32_t count = 0;
        for (uint32_t i = 0; i < source->count; i++)
            if (of_row[i] == c && count < sizes[c]) rows[count++].row = i;
        split(&s, rows, count, c);
        mem_free(rows);
    }
    mem_free(sizes);
    return s.clusters;
}

/* ---- */

/* Does something with each row: its number, its floats. */
typedef void visit(void *context, uint32_t row, const float *values);

static void visit_rows(const struct row_source *s, visit *each, void *context)
{
    float *rows = mem_new_array(float, READ_ROWS * s->dim);
    for (uint32_t first = 0; first < s->count; first += READ_ROWS) {
        uint32_t count = at_most(s->count - first, READ_ROWS);
        s->read(s->context, first, count, rows);
        for (uint32_t i = 0; i < count; i++)
            each(context, first + i, rows + i * s->dim);
    }
    mem_free(rows);
}

struct means {
    struct clusters *clusters;
    size_t dim;
    bool *left_out;   /* rows that have no part */
    uint32_t *counts; /* rows that have, of each cluster */
    double *squares;  /* sums of their squared distances from the mean */
};

static void add_to_mean(void *context, uint32_t row, const float *values)
{
    struct means *m = context;
    uint32_t cluster = m->clusters->of_row[row];
    float *sum = m->clusters->centroids + cluster * m->dim;
    if (m->left_out[row]) return;
    for (size_t d = 0; d < m->dim; d++)
        sum[d] += values[d];
    m->counts[cluster]++;
}

static double distance_from_mean(const struct means *m, uint32_t row,
                                 const float *values)
{
    const float *mean = m->clusters->centroids + m->clusters->of_row[row] * m->dim;
    return (double)distance_l2(values, mean, m->dim);
}

static void add_square(void *context, uint32_t row, const float *values)
{
    struct means *m = context;
    m->squares[m->clusters->of_row[row]] += distance_from_mean(m, row, values);
}

static void mark_far(void *context, uint32_t row, const float *values)
{
    struct means *m = context;
    uint32_t cluster = m->clusters->of_row[row];
    double usual = m->squares[cluster] / m->clusters->sizes[cluster];
    m->clusters->far[row] = distance_from_mean(m, row, values) > FAR * usual;
}

/* Means of the rows that are not left out; of all rows where none would remain. */
static void average(const struct row_source *s, struct means *m)
{
    struct clusters *c = m->clusters;
    memset(m->counts, 0, c->count * sizeof *m->counts);
    for (uint32_t i = 0; i < s->count; i++)
        m->counts[c->of_row[i]] += !m->left_out[i];
    for (uint32_t i = 0; i < s->count; i++)
        if (m->counts[c->of_row[i]] == 0) m->left_out[i] = false;
    memset(m->counts, 0, c->count * sizeof *m->counts);
    memset(c->centroids, 0, c->count * s->dim * sizeof *c->centroids);
    visit_rows(s, add_to_mean, m);
    for (uint32_t k = 0; k < c->count; k++)
        for (size_t d = 0; d < s->dim; d++)
            c->centroids[k * s->dim + d] /= (float)m->counts[k];
}

/*
 * A row far from all others lies in some cluster, whose mean it draws away so far that
 * the others cannot be coded well: it has no part in the mean.
 */
static void compute_means(const struct row_source *s,
                          const struct clusters_options *options, struct clusters *c)
{
    struct means m = {.clusters = c,
                      .dim = s->dim,
                      .left_out = mem_new_array(bool, s->count),
                      .counts = mem_new_array(uint32_t, c->count),
                      .squares = mem_new_array(double, c->count)};
    bool any = false;
    c->centroids = mem_new_array(float, c->count * s->dim);
    c->far = mem_new_array(bool, s->count);
    for (uint32_t i = 0; i < options->held_out_count; i++)
        m.left_out[options->held_out[i]] = true;
    average(s, &m);
    visit_rows(s, add_square, &m);
    visit_rows(s, mark_far, &m);
    for (uint32_t i = 0; i < s->count; i++) {
        any |= c->far[i];
        m.left_out[i] |= c->far[i];
    }
    if (any) average(s, &m);
    mem_free(m.left_out);
    mem_free(m.counts);
    mem_free(m.squares);
}

/* ---- clusters that are taken over ---- */

struct sums {
    const uint32_t *of_row;
    float *centroids;
    uint32_t *sizes;
    size_t dim;
};

static void add_to_sum(void *context, uint32_t row, const float *values)
{
    struct sums *s = context;
    uint32_t cluster = s->of_row[row];
    if (cluster == CLUSTER_UNKNOWN) return;
    s->sizes[cluster]++;
    for (size_t d = 0; d < s->dim; d++)
        s->centroids[cluster * s->dim + d] += values[d];
}

/* Means of the rows that lie in clusters; clusters without rows go, and the others are
 * numbered anew. */
static struct kmeans *means_of(const struct row_source *source, uint32_t count,
                               uint32_t *of_row)
{
    struct sums s = {.of_row = of_row,
                     .centroids = mem_new_array(float, count * source->dim),
                     .sizes = mem_new_array(uint32_t, count),
                     .dim = source->dim};
    uint32_t *numbers = mem_new_array(uint32_t, count), kept = 0;
    visit_rows(source, add_to_sum, &s);
    for (uint32_t c = 0; c < count; c++) {
        if (s.sizes[c] == 0) continue;
        for (size_t d = 0; d < s.dim; d++)
            s.centroids[kept * s.dim + d] =
                s.centroids[c * s.dim + d] / (float)s.sizes[c];
        numbers[c] = kept++;
    }
    for (uint32_t i = 0; i < source->count; i++)
        if (of_row[i] != CLUSTER_UNKNOWN) of_row[i] = numbers[of_row[i]];
    assert(kept > 0);
    mem_free(s.sizes);
    mem_free(numbers);
    return kmeans_of(source->op, s.centroids, kept, source->dim);
}

/* Marks what is nearest to a cluster, itself included. */
static void mark_near(const struct kmeans *m, uint32_t cluster, bool *marks)
{
    float best[NEAR_SPLIT];
    uint32_t near[NEAR_SPLIT];
    size_t kept = 0;
    for (uint32_t c = 0; c < m->count; c++) {
        float distance = distance_l2(m->centroids + cluster * m->dim,
                                     m->centroids + c * m->dim, m->dim);
        if (kept == NEAR_SPLIT && distance >= best[kept - 1]) continue;
        size_t at = kept < NEAR_SPLIT ? kept++ : kept - 1;
        for (; at > 0 && best[at - 1] > distance; at--) {
            best[at] = best[at - 1];
            near[at] = near[at - 1];
        }
        best[at] = distance;
        near[at] = c;
    }
    for (size_t i = 0; i < kept; i++)
        marks[near[i]] = true;
}

/* Rows of clusters near to those that a split has changed move to the nearest of all
 * clusters. changed: m->count of them. */
static void reassign(const struct row_source *source, const struct kmeans *m,
                     const bool *changed, uint32_t *of_row)
{
    bool *marks = mem_new_array(bool, m->count);
    for (uint32_t c = 0; c < m->count; c++) {
        op_rest(source->op);
        if (changed[c]) mark_near(m, c, marks);
    }
    for (uint32_t i = 0; i < source->count; i++)
        if (marks[of_row[i]]) of_row[i] = CLUSTER_UNKNOWN;
    assign_unknown(source, m, of_row);
    mem_free(marks);
}

/* Halves what is too large and lets rows move. Returns the clusters afterwards. */
static struct kmeans *split_and_move(const struct row_source *source, struct kmeans *m,
                                     const struct clusters_options *options,
                                     uint32_t *of_row)
{
    uint32_t before = (uint32_t)m->count, split_from = options->size * 3 / 2;
    uint32_t *sizes = sizes_of(of_row, source->count, before);
    if (split_from > options->size_max || split_from < 3)
        split_from = options->size_max;
    uint32_t count = split_large(source, before, split_from, options->seed, of_row);
    if (count > before) {
        bool *changed = mem_new_array(bool, count);
        for (uint32_t c = 0; c < count; c++)
            changed[c] = c >= before || sizes[c] > split_from;
        kmeans_free(m);
        m = means_of(source, count, of_row);
        reassign(source, m, changed, of_row);
        mem_free(changed);
    }
    mem_free(sizes);
    return m;
}

static struct kmeans *take_over(const struct row_source *source,
                                const struct clusters_options *options,
                                uint32_t *of_row)
{
    memcpy(of_row, options->known, source->count * sizeof *of_row);
    struct kmeans *m = means_of(source, options->known_count, of_row);
    assign_unknown(source, m, of_row);
    return split_and_move(source, m, options, of_row);
}

static struct kmeans *start_anew(const struct row_source *source,
                                 const struct clusters_options *options, uint64_t *seed,
                                 uint32_t *of_row)
{
    uint32_t wanted = (source->count + options->size / 2) / options->size;
    struct kmeans *m = train(source, wanted ? wanted : 1, seed);
    assign_all(source, m, of_row);
    return m;
}

/* ---- rows held in memory ---- */

struct held {
    float *rows;
    size_t dim;
    struct op *op;
};

/* struct row_source's read. */
static void read_held(const void *context, uint32_t first, uint32_t count, float *out)
{
    const struct held *h = context;
    op_rest(h->op);
    memcpy(out, h->rows + first * h->dim, count * h->dim * sizeof *out);
}

static bool fits_sample(const struct row_source *s)
{
    return (uint64_t)s->count * s->dim * sizeof(float) <= SAMPLE_BYTES_MAX;
}

/* ---- */

static void find(const struct row_source *source,
                 const struct clusters_options *options, struct clusters *out)
{
    uint64_t seed = options->seed;
    *out = (struct clusters){.of_row = mem_new_array(uint32_t, source->count)};
    struct kmeans *m = options->known ? take_over(source, options, out->of_row)
                                      : start_anew(source, options, &seed, out->of_row);
    m = drop_small(source, m, options->size_min, out->of_row);
    out->count =
        split_large(source, (uint32_t)m->count, options->size_max, seed, out->of_row);
    kmeans_free(m);
    out->sizes = sizes_of(out->of_row, source->count, out->count);
    compute_means(source, options, out);
}

void clusters_find(const struct row_source *source,
                   const struct clusters_options *options, struct clusters *out)
{
    assert(source->count > 0 && options->size_max >= 3);
    if (!options->known || !fits_sample(source)) {
        find(source, options, out);
        return;
    }
    /* Nothing is trained: in the memory of a sample lie all rows, which are read many
     * times. */
    struct held held = {mem_new_array(float, source->count * source->dim), source->dim,
                        source->op};
    struct row_source rows = {read_held, &held, source->count, source->dim, source->op};
    source->read(source->context, 0, source->count, held.rows);
    find(&rows, options, out);
    mem_free(held.rows);
}

void clusters_release(struct clusters *c)
{
    mem_free(c->centroids);
    mem_free(c->of_row);
    mem_free(c->sizes);
    mem_free(c->far);
    *c = (struct clusters){0};
}

uint64_t clusters_memory(size_t dim, uint64_t count, bool known)
{
    uint64_t all = count * dim * sizeof(float);
    if (all <= SAMPLE_BYTES_MAX) return all;
    return known ? KNOWN_BYTES : SAMPLE_BYTES_MAX;
}
