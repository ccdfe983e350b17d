/*
 * ivf_search.c - one query against one index.
 *
 * Clusters are scanned a chunk at a time. Of a chunk all estimates and lower bounds are
 * computed first; the rows with the best estimates then set the k-th distance by their
 * 8-bit codes, and only rows whose lower bound is below it follow. Seeding by estimates
 * halves the number of 8-bit codes looked at, compared with taking rows as they come.
 * Before each cluster the k-th distance so far says whether it is needed
 * (ivf_required_cosine).
 *
 * In few dimensions the bounds of 1-bit codes are too wide to leave out much, and 8-bit
 * codes are short: there these are compared at once.
 *
 * A filter that allows few rows is not worth walking the clusters for: the allowed rows
 * are looked up by slot and all compared by their 8-bit codes. Otherwise it is a mask
 * on each block.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/at_most.h"
#include "base/codec.h"
#include "base/op.h"
#include "base/rowset.h"
#include "vec/ivf.h"
#include "vec/ivf_format.h"

enum {
    CHUNK_BLOCKS = 64,
    CHUNK_CODES = CHUNK_BLOCKS * BLOCK_CODES,
    RECORDS_AT_ONCE = 64,
    FIRST_SETTLED = 2,    /* clusters, before the k-th distance is looked at */
    MORE_SETTLED = 3,     /* after that */
    MORE_AT_ONCE = 4,     /* clusters asked for, at least */
    WALK_ROWS_MAX = 4000, /* allowed rows, up to which all are compared … */
    WALK_PART = 32,       /* … if no more than one in so many rows */
    CALIBRATED_K = 10,
    ASKING_COST = 6,    /* asking a set for a row, in rows written as bits */
    PLAIN_DIM_MAX = 64, /* padded, up to which 1-bit codes do not pay */
    LINE_BYTES = 64,
    CENTROIDS_AT_ONCE = 1 << 20, /* bytes, up to which all clusters are measured */
    SUPERS_PART = 3,             /* one in so many clusters is measured, at least */
    AHEAD = 4                    /* rows whose 8-bit codes are on their way */
};

static const float EPS = 1.9f;
static const double ROUNDING = 0.58; /* 2 / sqrt(12) */

/* A cluster that a chunk has blocks of. */
struct open_cluster {
    const uint8_t *codes8, *factors8;
    float add;
};

struct open_block {
    const uint8_t *rows;
    uint32_t cluster; /* in the chunk */
    uint32_t first;   /* row of the cluster */
};

struct chunk {
    float estimates[CHUNK_CODES], lowers[CHUNK_CODES];
    uint32_t codes[CHUNK_CODES]; /* sums, then codes to look at */
    struct open_block blocks[CHUNK_BLOCKS];
    struct open_cluster clusters[CHUNK_BLOCKS];
    uint32_t block_count, cluster_count;
};

struct ivf_search {
    const struct ivf *ivf;
    struct ivf_options options;
    struct rabitq_query query;
    double mean_product; /* dot: <mean, query> */
    float *distances;    /* of the clusters: of all if measured */
    int32_t *dots;       /* room for those of all clusters */
    bool measured;
    struct hit *order; /* clusters, nearest first */
    uint32_t ordered, next;
    uint32_t first;    /* clusters that the first answer names */
    bool capped;       /* and there are no others */
    double cut;        /* required cosine above which a cluster is left out */
    bool filtered;     /* not all rows are allowed */
    uint64_t *allowed; /* a bit a row, or NULL: ask the set */
    uint64_t matches;  /* allowed rows */
    uint64_t *taken;   /* a bit for each cluster that was asked for or left out */
    uint64_t *walk;    /* a bit a slot, when allowed rows are looked up */
    struct topk near;  /* by minus distance; the source of those shared is 1 */
    struct topk wide;  /* these and the spare, where some are wanted */
    struct hit *seeds;
    struct chunk *chunk;
    struct ivf_counters counters;
};

/* ---- scores and distances ---- */

static float score_of(const struct ivf_search *s, float distance)
{
    switch (s->ivf->metric) {
    case IVF_COSINE: return fminf(fmaxf(1 - distance / 2, -1), 1);
    case IVF_L2: return distance > 0 ? -distance : 0;
    case IVF_DOT: return (float)(s->mean_product - (double)distance);
    }
    return 0;
}

static float distance_of(const struct ivf_search *s, float score)
{
    switch (s->ivf->metric) {
    case IVF_COSINE: return 2 - 2 * score;
    case IVF_L2: return -score;
    case IVF_DOT: return (float)(s->mean_product - (double)score);
    }
    return 0;
}

static float limit_of(const struct ivf_search *s, const struct topk *best)
{
    float limit = -topk_floor(&s->near);
    if (!best || best->count < best->k) return limit;
    float shared = distance_of(s, topk_floor(best));
    return shared < limit ? shared : limit;
}

static int by_row(const void *context, const struct hit *a, const struct hit *b)
{
    (void)context;
    return (a->row > b->row) - (a->row < b->row);
}

/* ---- the order of clusters ---- */

/* Distances of the query to count centroids from first on, up to what all share. */
static void measure(const struct ivf_search *s, const struct ivf_centroids *c,
                    uint32_t first, uint32_t count, int32_t *dots, float *distances)
{
    const struct ivf *ivf = s->ivf;
    const struct rabitq_query *q = &s->query;
    float zero = q->offset8 * ((float)IVF_CENTROID_ZERO / 127.5f);
    bool product = ivf_kind(ivf->metric) == RABITQ_PRODUCT;
    vec_kernels()->dot8(c->codes + (size_t)first * ivf->padded, count, q->codes,
                        ivf->padded, dots);
    for (uint32_t i = 0; i < count; i++) {
        float dot = q->step8 * (float)dots[i] + zero;
        float scale, norm;
        if (c == &ivf->clusters) {
            scale = ivf->scales[first + i];
            norm = ivf->norms[first + i];
        } else {
            struct ivf_entry e = ivf_entry_at(c, first + i);
            scale = e.scale;
            norm = e.norm;
        }
        distances[i] = (product ? 0 : norm) - 2 * scale * dot;
    }
}

static void push_nearest(struct topk *nearest, const float *distances, uint32_t first,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (-distances[i] >= topk_floor(nearest))
            topk_push(nearest, (struct hit){-distances[i], 0, first + i});
}

/* Measures the clusters of the super clusters nearest to the query, until they are
 * several times as many as wanted, and a good part of all: where clusters lie in no
 * groups, as those of words, the nearest are spread over many super clusters. */
static enum err order_by_supers(struct op *op, struct ivf_search *s, uint32_t wanted,
                                struct topk *nearest)
{
    const struct ivf_centroids *supers = &s->ivf->supers;
    float *distances = op_new_array(op, float, supers->count);
    struct hit *hits = op_new_array(op, struct hit, supers->count);
    struct topk order;
    if (!distances || !hits) return ERR_LIMIT;
    measure(s, supers, 0, supers->count, s->dots, distances);
    topk_init(&order, hits, supers->count, by_row, NULL);
    push_nearest(&order, distances, 0, supers->count);
    topk_finish(&order);
    uint64_t enough = (uint64_t)wanted * 4 + 256, measured = 0;
    uint64_t part = s->ivf->clusters.count / SUPERS_PART;
    if (enough < part) enough = part;
    for (size_t i = 0; i < order.count && measured < enough; i++) {
        struct ivf_entry e = ivf_entry_at(supers, hits[i].row);
        measure(s, &s->ivf->clusters, e.first, e.count, s->dots,
                s->distances + e.first);
        push_nearest(nearest, s->distances + e.first, e.first, e.count);
        measured += e.count;
    }
    return ERR_OK;
}

/* Puts the wanted nearest clusters in order, in place of fewer before. */
static enum err order_clusters(struct op *op, struct ivf_search *s, uint32_t wanted)
{
    uint32_t clusters = s->ivf->clusters.count;
    struct topk nearest;
    wanted = at_most(wanted, clusters);
    s->order = op_new_array(op, struct hit, wanted);
    if (!s->distances) s->distances = op_new_array(op, float, clusters);
    if (!s->dots) s->dots = op_new_array(op, int32_t, clusters);
    if (!s->order || !s->distances || !s->dots) return ERR_LIMIT;
    topk_init(&nearest, s->order, wanted, by_row, NULL);
    bool large = (uint64_t)clusters * s->ivf->padded > CENTROIDS_AT_ONCE;
    if (large && s->ivf->supers.count && wanted < clusters / 8) {
        enum err e = order_by_supers(op, s, wanted, &nearest);
        if (e) return e;
    } else {
        if (!s->measured)
            measure(s, &s->ivf->clusters, 0, clusters, s->dots, s->distances);
        s->measured = true;
        push_nearest(&nearest, s->distances, 0, clusters);
    }
    topk_finish(&nearest);
    s->ordered = (uint32_t)nearest.count;
    s->next = 0;
    return ERR_OK;
}

/* ---- beginning ---- */

static enum err prepare_query(struct op *op, struct ivf_search *s, const float *query)
{
    const struct ivf *ivf = s->ivf;
    float *values = op_new_array(op, float, ivf->padded);
    float *scratch = op_new_array(op, float, ivf->coded_dim);
    uint8_t *table = op_alloc_array(op, ivf->padded, TABLE_ENTRIES / TABLE_GROUP);
    int8_t *codes = op_alloc_array(op, ivf->padded, sizeof *codes);
    if (!values || !scratch || !table || !codes) return ERR_LIMIT;
    ivf_transform(ivf, query, scratch, values);
    for (size_t d = 0; d < ivf->padded; d++)
        if (ivf->metric == IVF_DOT)
            s->mean_product += (double)values[d] * (double)ivf->mean[d];
        else
            values[d] -= ivf->mean[d];
    s->query = (struct rabitq_query){.values = values, .table = table, .codes = codes};
    rabitq_query_prepare(&s->query, ivf->padded);
    return isfinite(s->query.norm)
               ? ERR_OK
               : op_fail(op, ERR_LIMIT, "a query too long for the vector index");
}

/*
 * How many clusters will probably be needed. More results, and fewer rows to find them
 * among, both mean that neighbours lie farther out: at rank k / selectivity among all
 * rows. Ranks grow much faster than the clusters that hold them.
 */
static uint32_t probes_of(const struct ivf_search *s, uint32_t calibrated)
{
    const struct ivf *ivf = s->ivf;
    double rank = (double)s->options.k;
    if (s->filtered) rank *= (double)ivf->count / (double)s->matches;
    double grown = (double)calibrated * sqrt(fmax(rank / CALIBRATED_K, 1));
    return grown < (double)ivf->clusters.count ? (uint32_t)grown : ivf->clusters.count;
}

static enum err plan_walk(struct op *op, struct ivf_search *s)
{
    const struct ivf *ivf = s->ivf;
    uint32_t rows[256], from = 0;
    size_t got;
    if (s->options.slots.size != ivf_slots_size(ivf))
        return op_fail(op, ERR_CORRUPT, "slots of a vector index");
    s->walk = op_new_array(op, uint64_t, (size_t)ivf->count / 64 + 1);
    if (!s->walk) return ERR_LIMIT;
    while ((got = rowset_read(s->options.allowed, from, rows, 256)) > 0) {
        for (size_t i = 0; i < got && rows[i] < ivf->row_count; i++) {
            uint32_t slot = load_u32(s->options.slots.data + (size_t)rows[i] * 4);
            if (slot == IVF_NO_SLOT) continue;
            if (slot >= ivf->count)
                return op_fail(op, ERR_CORRUPT, "slot of row %u", rows[i]);
            s->walk[slot / 64] |= UINT64_C(1) << slot % 64;
        }
        if (rows[got - 1] == UINT32_MAX) break;
        from = rows[got - 1] + 1;
    }
    return ERR_OK;
}

/* The set as bits, a bit a row, where making them costs less than asking the set for
 * each row that will be scanned. */
static enum err plan_bits(struct op *op, struct ivf_search *s, uint32_t probes)
{
    const struct ivf *ivf = s->ivf;
    double scanned = (double)probes * ivf->count / ivf->clusters.count;
    if ((double)s->matches > scanned * ASKING_COST) return ERR_OK;
    size_t words = (size_t)ivf->row_count / 64 + 1;
    s->allowed = op_new_array(op, uint64_t, words);
    if (!s->allowed) return ERR_LIMIT;
    rowset_bits(s->options.allowed, 0, s->allowed, words);
    return ERR_OK;
}

bool ivf_walks(const struct ivf *ivf, uint64_t allowed)
{
    return allowed > 0 && allowed <= at_most(WALK_ROWS_MAX, ivf->row_count / WALK_PART);
}

static enum err plan_filter(struct op *op, struct ivf_search *s)
{
    s->matches = rowset_count_range(s->options.allowed, 0, s->ivf->row_count);
    s->filtered = s->matches < s->ivf->row_count;
    bool walks = ivf_walks(s->ivf, s->matches) && s->options.slots.size > 0;
    return walks ? plan_walk(op, s) : ERR_OK;
}

/* Settles the cut, or a number of clusters; returns how many will be needed. */
static uint32_t plan_probes(struct ivf_search *s)
{
    const struct ivf_options *o = &s->options;
    double neighbours = (double)o->k * (double)(o->share > 0 ? o->share : 1);
    bool reranked = o->rerank > o->k;
    struct ivf_calibration c;
    s->capped = true;
    if (o->probes > 0) {
        s->cut = o->cut > 0 ? (double)o->cut : CUT_ALL;
        return at_most(o->probes, s->ivf->clusters.count);
    }
    if (!s->filtered && !(o->cut > 0) &&
        ivf_capped(s->ivf, o->recall, neighbours, reranked, &c)) {
        s->cut = (double)c.cut;
        return at_most(c.clusters, s->ivf->clusters.count);
    }
    s->capped = false;
    c = ivf_calibrated(s->ivf, o->recall, neighbours, reranked);
    s->cut = (double)(o->cut > 0 ? o->cut : c.cut);
    return probes_of(s, c.clusters);
}

static enum err plan(struct op *op, struct ivf_search *s)
{
    enum err e = s->options.allowed ? plan_filter(op, s) : ERR_OK;
    if (e || s->walk || (s->filtered && s->matches == 0)) return e;
    s->taken = op_new_array(op, uint64_t, s->ivf->clusters.count / 64 + 1);
    if (!s->taken) return ERR_LIMIT;
    s->first = plan_probes(s);
    if (s->filtered) e = plan_bits(op, s, s->first);
    return e ? e : order_clusters(op, s, s->first);
}

enum err ivf_search_begin(struct op *op, const struct ivf *ivf, const float *query,
                          const struct ivf_options *options, struct ivf_search **out)
{
    assert(options->k > 0);
    *out = NULL;
    struct ivf_search *s = op_new(op, struct ivf_search);
    if (!s) return ERR_LIMIT;
    s->ivf = ivf;
    s->options = *options;
    if (!(s->options.eps > 0)) s->options.eps = EPS;
    uint32_t keep = options->k > options->rerank ? options->k : options->rerank;
    if (options->keep > keep) keep = options->keep;
    keep = at_most(keep, ivf->count);
    struct hit *hits = op_new_array(op, struct hit, keep);
    s->seeds = op_new_array(op, struct hit, keep);
    s->chunk = options->beside ? options->beside->chunk : op_new(op, struct chunk);
    if (!hits || !s->seeds || !s->chunk) return ERR_LIMIT;
    topk_init(&s->near, hits, keep, by_row, NULL);
    if (options->spare) {
        uint32_t wide = at_most(keep + options->spare, ivf->count);
        struct hit *room = op_new_array(op, struct hit, wide);
        if (!room) return ERR_LIMIT;
        topk_init(&s->wide, room, wide, by_row, NULL);
    }
    enum err e = prepare_query(op, s, query);
    if (!e) e = plan(op, s);
    if (!e) *out = s;
    return e;
}

/* ---- which records ---- */

/* The first slot from `slot` on that is to be walked, or end. */
static uint32_t next_slot(const uint64_t *walk, uint32_t slot, uint32_t end)
{
    while (slot < end) {
        uint64_t word = walk[slot / 64] >> slot % 64;
        if (word) {
            slot += (uint32_t)__builtin_ctzll(word);
            return slot < end ? slot : end;
        }
        slot += 64 - slot % 64;
    }
    return end;
}

static size_t next_walked(struct ivf_search *s, struct ivf_record *records, size_t max)
{
    size_t n = 0;
    for (; n < max && s->next < s->ivf->clusters.count; s->next++) {
        struct ivf_entry e = ivf_entry_at(&s->ivf->clusters, s->next);
        uint32_t end = e.first + e.count;
        if (next_slot(s->walk, e.first, end) < end)
            records[n++] = ivf_record_of(s->ivf, s->next);
    }
    return n;
}

/* How wrong the distance of a centroid is that came from two rounded vectors: about two
 * standard deviations of what rounding does to their product. */
static double rounding(const struct ivf_search *s, uint32_t cluster)
{
    const struct ivf *ivf = s->ivf;
    double centroid = sqrt(fmax((double)ivf->norms[cluster], 0));
    return ROUNDING * ((double)s->query.norm * (double)ivf->scales[cluster] +
                       centroid * (double)s->query.step8);
}

/* The distance of a centroid as rows have it: squared, or minus the product. */
static double centroid_distance(const struct ivf_search *s, float measured)
{
    if (ivf_kind(s->ivf->metric) == RABITQ_PRODUCT) return (double)measured / 2;
    return (double)measured + (double)s->query.norm * (double)s->query.norm;
}

/* May the cluster hold a row that is nearer than the limit? The first are always looked
 * at: so it was when the cut was measured, and a limit that others have brought down
 * must not take them away. */
static bool is_needed(const struct ivf_search *s, uint32_t cluster, float limit)
{
    enum rabitq_kind kind = ivf_kind(s->ivf->metric);
    if (s->cut >= CUT_ALL || s->counters.clusters < FIRST_SETTLED) return true;
    double distance = centroid_distance(s, s->distances[cluster]);
    double slack = rounding(s, cluster) * (kind == RABITQ_PRODUCT ? 1 : 2);
    return ivf_required_cosine(kind, distance - slack, (double)s->ivf->radii[cluster],
                               (double)limit, (double)s->query.norm) <= s->cut;
}

/* May a cluster that is not in order yet be needed? The one of the radius that suits it
 * best, at the distance of the last that is. */
static bool others_are_needed(const struct ivf_search *s, float limit)
{
    enum rabitq_kind kind = ivf_kind(s->ivf->metric);
    uint32_t last = s->order[s->ordered - 1].row;
    double distance = centroid_distance(s, s->distances[last]);
    double radius = (double)s->ivf->radius_max;
    if (kind == RABITQ_L2) radius = fmin(radius, s->cut * sqrt(fmax(distance, 0)));
    return s->cut >= 1 || ivf_required_cosine(kind, distance, radius, (double)limit,
                                              (double)s->query.norm) <= s->cut;
}

/* Puts more clusters in order; those that were taken or left out stay so. */
static enum err order_more(struct op *op, struct ivf_search *s)
{
    return order_clusters(op, s, s->ordered * 4);
}

static bool take(struct ivf_search *s, uint32_t cluster)
{
    uint64_t bit = UINT64_C(1) << cluster % 64;
    if (s->taken[cluster / 64] & bit) return false;
    s->taken[cluster / 64] |= bit;
    return true;
}

/* Adds needed clusters that are in order. */
static size_t next_ordered(struct ivf_search *s, float limit,
                           struct ivf_record *records, size_t max)
{
    size_t n = 0;
    for (; n < max && s->next < s->ordered; s->next++) {
        uint32_t cluster = s->order[s->next].row;
        if (take(s, cluster) && is_needed(s, cluster, limit))
            records[n++] = ivf_record_of(s->ivf, cluster);
    }
    return n;
}

enum err ivf_search_next(struct op *op, struct ivf_search *s, const struct topk *best,
                         struct ivf_record *records, size_t max, size_t *n)
{
    float limit = limit_of(s, best);
    size_t wish = s->counters.clusters ? s->first / 4 + MORE_AT_ONCE : s->first;
    *n = 0;
    if (s->walk) {
        *n = next_walked(s, records, max);
        return ERR_OK;
    }
    if (max > wish) max = wish;
    while (s->ordered > 0) {
        *n += next_ordered(s, limit, records + *n, max - *n);
        if (*n == max || s->ordered == s->ivf->clusters.count || s->capped ||
            !others_are_needed(s, limit))
            break;
        enum err e = order_more(op, s);
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- 8-bit codes ---- */

static enum err corrupt_row(struct op *op)
{
    return op_fail(op, ERR_CORRUPT, "row of a vector index");
}

static enum err keep_row(struct op *op, struct ivf_search *s, uint32_t row,
                         float distance)
{
    if (row >= s->ivf->row_count || distance != distance) return corrupt_row(op);
    struct hit hit = {-distance, 0, row};
    if (hit.score >= topk_floor(&s->near)) topk_push(&s->near, hit);
    if (s->wide.k && hit.score >= topk_floor(&s->wide)) topk_push(&s->wide, hit);
    return ERR_OK;
}

static const uint8_t *code8_at(const struct ivf_search *s, const struct chunk *c,
                               uint32_t code)
{
    const struct open_block *block = c->blocks + code / BLOCK_CODES;
    const struct open_cluster *cluster = c->clusters + block->cluster;
    return cluster->codes8 +
           (size_t)(block->first + code % BLOCK_CODES) * s->ivf->padded;
}

static void prefetch_row(const uint8_t *code8, size_t padded)
{
    for (size_t i = 0; i < padded; i += LINE_BYTES)
        __builtin_prefetch(code8 + i);
}

static void prefetch_code8(const struct ivf_search *s, const struct chunk *c,
                           uint32_t code)
{
    const struct open_block *block = c->blocks + code / BLOCK_CODES;
    const uint8_t *p = code8_at(s, c, code);
    __builtin_prefetch(c->clusters[block->cluster].factors8 +
                       (size_t)(block->first + code % BLOCK_CODES) *
                           RABITQ_FACTORS8_SIZE);
    prefetch_row(p, s->ivf->padded);
}

static enum err look_closer(struct op *op, struct ivf_search *s, const struct chunk *c,
                            uint32_t code)
{
    const struct open_block *block = c->blocks + code / BLOCK_CODES;
    const struct open_cluster *cluster = c->clusters + block->cluster;
    uint32_t row = load_u32(block->rows + code % BLOCK_CODES * sizeof row);
    int32_t dot;
    s->counters.rows++;
    vec_kernels()->dot8(code8_at(s, c, code), 1, s->query.codes, s->ivf->padded, &dot);
    float distance = rabitq_distance8(&s->query, dot,
                                      cluster->factors8 +
                                          (size_t)(block->first + code % BLOCK_CODES) *
                                              RABITQ_FACTORS8_SIZE,
                                      cluster->add);
    return keep_row(op, s, row, distance);
}

/* ---- a chunk of 1-bit codes ---- */

/* The rows with the best estimates, as many as are kept, if below the limit. */
static size_t find_seeds(struct ivf_search *s, struct chunk *c, float limit)
{
    struct topk seeds;
    topk_init(&seeds, s->seeds, s->near.k, by_row, NULL);
    for (uint32_t b = 0; b < c->block_count; b++) {
        const float *estimates = c->estimates + b * BLOCK_CODES;
        float worst = fminf(limit, -topk_floor(&seeds));
        uint32_t mask = vec_kernels()->below(estimates, worst);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            topk_push(&seeds, (struct hit){-estimates[i], 0, b * BLOCK_CODES + i});
        }
    }
    return seeds.count;
}

static enum err look_at_seeds(struct op *op, struct ivf_search *s, struct chunk *c,
                              size_t count)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < count; i++)
        prefetch_code8(s, c, s->seeds[i].row);
    for (size_t i = 0; i < count && !e; i++) {
        c->lowers[s->seeds[i].row] = INFINITY; /* seen */
        e = look_closer(op, s, c, s->seeds[i].row);
    }
    return e;
}

/* Rows that the bound cannot exclude. */
static size_t find_survivors(struct ivf_search *s, struct chunk *c, float limit)
{
    size_t count = 0;
    for (uint32_t b = 0; b < c->block_count; b++) {
        uint32_t mask = vec_kernels()->below(c->lowers + b * BLOCK_CODES, limit);
        for (; mask; mask &= mask - 1) {
            uint32_t code = b * BLOCK_CODES + (uint32_t)__builtin_ctz(mask);
            if (count < AHEAD) prefetch_code8(s, c, code);
            c->codes[count++] = code;
        }
    }
    return count;
}

/* Adds the rows found since the last time to best. */
static void share(struct ivf_search *s, struct topk *best)
{
    for (size_t i = 0; s->options.shares && i < s->near.count; i++) {
        struct hit *hit = &s->near.hits[i];
        if (hit->source) continue;
        hit->source = 1;
        topk_push(best,
                  (struct hit){score_of(s, -hit->score), s->options.source, hit->row});
    }
}

static enum err settle(struct op *op, struct ivf_search *s, struct topk *best)
{
    struct chunk *c = s->chunk;
    enum err e = look_at_seeds(op, s, c, find_seeds(s, c, limit_of(s, best)));
    float limit = limit_of(s, best);
    size_t count = e ? 0 : find_survivors(s, c, limit);
    for (size_t i = 0; i < count && !e; i++) {
        if (i + AHEAD < count) prefetch_code8(s, c, c->codes[i + AHEAD]);
        if (c->lowers[c->codes[i]] < limit) e = look_closer(op, s, c, c->codes[i]);
        limit = limit_of(s, best);
    }
    c->block_count = c->cluster_count = 0;
    share(s, best);
    return e ? e : op_check(op);
}

static bool is_allowed(const struct ivf_search *s, uint32_t row)
{
    return s->allowed ? s->allowed[row / 64] >> row % 64 & 1
                      : rowset_has(s->options.allowed, row);
}

static uint32_t allowed_mask(const struct ivf_search *s, const uint8_t *rows)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < BLOCK_CODES; i++) {
        uint32_t row = load_u32(rows + i * sizeof row);
        if (row >= s->ivf->row_count) continue; /* damage */
        mask |= (uint32_t)is_allowed(s, row) << i;
    }
    return mask;
}

/* Adds the run of count blocks that starts with block `first` of a record. */
static void add_blocks(struct ivf_search *s, const uint8_t *blocks, uint32_t first,
                       uint32_t count, const struct bound_terms *terms)
{
    struct chunk *c = s->chunk;
    uint32_t padded = s->ivf->padded;
    size_t size = rabitq_block_size(padded);
    const uint8_t *block = blocks + first * size;
    const struct vec_kernels *kernels = vec_kernels();
    kernels->scan(block, count, size, s->query.table, padded, c->codes);
    for (uint32_t b = 0; b < count; b++, block += size) {
        uint32_t at = c->block_count * BLOCK_CODES;
        kernels->bounds(block + rabitq_factors_offset(padded),
                        c->codes + b * BLOCK_CODES, terms, c->estimates + at,
                        c->lowers + at);
        c->blocks[c->block_count++] =
            (struct open_block){.rows = block + rabitq_rows_offset(padded),
                                .cluster = c->cluster_count,
                                .first = (first + b) * BLOCK_CODES};
    }
    s->counters.codes += (uint64_t)count * BLOCK_CODES;
}

/* Takes the codes of the last block whose bit is not set out of the search. */
static void mask_last_block(struct chunk *c, uint32_t mask)
{
    uint32_t at = (c->block_count - 1) * BLOCK_CODES;
    for (uint32_t i = 0; i < BLOCK_CODES; i++)
        if (!(mask >> i & 1)) c->estimates[at + i] = c->lowers[at + i] = INFINITY;
}

static void add_cluster(struct ivf_search *s, const uint8_t *blocks, uint32_t rows,
                        const struct bound_terms *terms)
{
    uint32_t padded = s->ivf->padded, count = ivf_blocks(rows);
    size_t size = rabitq_block_size(padded);
    uint32_t last_mask = UINT32_MAX >> (count * BLOCK_CODES - rows);
    if (!s->filtered) {
        add_blocks(s, blocks, 0, count, terms);
        mask_last_block(s->chunk, last_mask);
        return;
    }
    for (uint32_t b = 0; b < count; b++) {
        uint32_t mask = allowed_mask(s, blocks + b * size + rabitq_rows_offset(padded));
        if (b == count - 1) mask &= last_mask;
        if (!mask) continue;
        add_blocks(s, blocks, b, 1, terms);
        mask_last_block(s->chunk, mask);
    }
}

/* ---- records ---- */

/* Distances of a cluster's rows by their 8-bit codes, up to a whole block. */
static void measure_rows(struct ivf_search *s, struct ivf_entry entry,
                         const uint8_t *record, float add, float *distances)
{
    uint32_t padded = s->ivf->padded;
    const uint8_t *factors8 = record + ivf_factors8_offset(padded, entry.count);
    int32_t dots[IVF_CLUSTER_ROWS_MAX];
    vec_kernels()->dot8(record + ivf_codes8_offset(padded, entry.count), entry.count,
                        s->query.codes, padded, dots);
    for (uint32_t i = 0; i < entry.count; i++)
        distances[i] = rabitq_distance8(&s->query, dots[i],
                                        factors8 + i * RABITQ_FACTORS8_SIZE, add);
    for (uint32_t i = entry.count; i % BLOCK_CODES; i++)
        distances[i] = INFINITY;
}

/* Up to which distance a row is kept once it has been compared. */
static float kept_limit(const struct ivf_search *s, const struct topk *best)
{
    return s->wide.k ? -topk_floor(&s->wide) : limit_of(s, best);
}

/* Compares all rows of a cluster by their 8-bit codes. */
static enum err compare_record(struct op *op, struct ivf_search *s,
                               struct ivf_entry entry, const uint8_t *record, float add,
                               struct topk *best)
{
    float distances[IVF_CLUSTER_ROWS_MAX];
    size_t size = rabitq_block_size(s->ivf->padded);
    const uint8_t *rows =
        record + ivf_blocks_offset(s->ivf->padded) + rabitq_rows_offset(s->ivf->padded);
    measure_rows(s, entry, record, add, distances);
    s->counters.rows += entry.count;
    for (uint32_t b = 0; b < ivf_blocks(entry.count); b++) {
        /* Rows as near as the last one too: equal ones are told apart by number. */
        float limit = nextafterf(kept_limit(s, best), INFINITY);
        uint32_t mask = vec_kernels()->below(distances + b * BLOCK_CODES, limit);
        for (; mask; mask &= mask - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(mask);
            uint32_t row = load_u32(rows + b * size + i * sizeof row);
            if (row >= s->ivf->row_count) return corrupt_row(op);
            if (s->filtered && !is_allowed(s, row)) continue;
            enum err e = keep_row(op, s, row, distances[b * BLOCK_CODES + i]);
            if (e) return e;
        }
    }
    share(s, best);
    return op_check(op);
}

static enum err walk_record(struct op *op, struct ivf_search *s, struct ivf_entry entry,
                            const uint8_t *record, float add)
{
    uint32_t padded = s->ivf->padded;
    const uint8_t *blocks = record + ivf_blocks_offset(padded);
    const uint8_t *codes8 = record + ivf_codes8_offset(padded, entry.count);
    const uint8_t *factors8 = record + ivf_factors8_offset(padded, entry.count);
    uint32_t end = entry.first + entry.count;
    uint32_t slot = next_slot(s->walk, entry.first, end), next;
    for (; slot < end; slot = next) {
        uint32_t i = slot - entry.first;
        next = next_slot(s->walk, slot + 1, end);
        if (next < end)
            prefetch_row(codes8 + (size_t)(next - entry.first) * padded, padded);
        const uint8_t *block = blocks + i / BLOCK_CODES * rabitq_block_size(padded);
        uint32_t row =
            load_u32(block + rabitq_rows_offset(padded) + i % BLOCK_CODES * sizeof row);
        int32_t dot;
        s->counters.rows++;
        vec_kernels()->dot8(codes8 + (size_t)i * padded, 1, s->query.codes, padded,
                            &dot);
        enum err e =
            keep_row(op, s, row,
                     rabitq_distance8(&s->query, dot,
                                      factors8 + i * RABITQ_FACTORS8_SIZE, add));
        if (e) return e;
    }
    return ERR_OK;
}

static void prefetch_record(const struct ivf_record *record)
{
    for (size_t i = 0; i < 32 && i * LINE_BYTES < record->bytes.size; i++)
        __builtin_prefetch(record->bytes.data + i * LINE_BYTES);
}

static enum err scan_record(struct op *op, struct ivf_search *s,
                            const struct ivf_record *r, struct topk *best)
{
    const struct ivf *ivf = s->ivf;
    struct ivf_entry entry = ivf_entry_at(&ivf->clusters, r->cluster);
    struct chunk *c = s->chunk;
    enum err e = ERR_OK;
    if (r->bytes.size != ivf_record_size(ivf->padded, entry.count))
        return op_fail(op, ERR_CORRUPT, "record %u of a vector index", r->cluster);
    const void *centroid = r->bytes.data;
    uint32_t settled =
        s->counters.clusters > MORE_SETTLED ? MORE_SETTLED : FIRST_SETTLED;
    if (!s->walk && (c->cluster_count >= settled ||
                     c->block_count + ivf_blocks(entry.count) > CHUNK_BLOCKS))
        e = settle(op, s, best);
    if (e || (!s->walk && !is_needed(s, r->cluster, limit_of(s, best)))) return e;
    struct bound_terms terms = rabitq_terms(ivf_kind(ivf->metric), &s->query, centroid,
                                            ivf->padded, s->options.eps);
    s->counters.clusters++;
    if (s->walk) return walk_record(op, s, entry, r->bytes.data, terms.add);
    if (ivf->padded <= PLAIN_DIM_MAX)
        return compare_record(op, s, entry, r->bytes.data, terms.add, best);
    c->clusters[c->cluster_count] = (struct open_cluster){
        .codes8 = r->bytes.data + ivf_codes8_offset(ivf->padded, entry.count),
        .factors8 = r->bytes.data + ivf_factors8_offset(ivf->padded, entry.count),
        .add = terms.add};
    add_cluster(s, r->bytes.data + ivf_blocks_offset(ivf->padded), entry.count, &terms);
    c->cluster_count++;
    return ERR_OK;
}

enum err ivf_search_scan(struct op *op, struct ivf_search *s,
                         const struct ivf_record *records, size_t n, struct topk *best)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i++) {
        if (i + 1 < n) prefetch_record(records + i + 1);
        e = scan_record(op, s, records + i, best);
    }
    return e ? e : settle(op, s, best);
}

void ivf_search_found(struct ivf_search *s, struct hit **hits, size_t *count)
{
    struct topk *found = s->wide.k ? &s->wide : &s->near;
    topk_finish(found);
    for (size_t i = 0; i < found->count; i++)
        found->hits[i].score = score_of(s, -found->hits[i].score);
    *hits = found->hits;
    *count = found->count;
}

struct ivf_counters ivf_search_counters(const struct ivf_search *s)
{
    return s->counters;
}

/* ---- all in memory ---- */

static void push_found(struct ivf_search *s, ivf_exact exact, const void *context,
                       uint32_t source, struct topk *best)
{
    struct hit *hits;
    size_t count;
    ivf_search_found(s, &hits, &count);
    size_t reranked = exact ? at_most(s->options.rerank, (uint32_t)count) : 0;
    for (size_t i = 0; i < count; i++) {
        struct hit hit = {hits[i].score, source, hits[i].row};
        if (i < reranked) hit.score = exact(context, hit.row);
        topk_push(best, hit);
    }
    s->counters.exact += reranked;
}

enum err ivf_search(struct op *op, const struct ivf *ivf, struct slice records,
                    const float *query, const struct ivf_options *options,
                    ivf_exact exact, const void *context, uint32_t source,
                    struct topk *best, struct ivf_counters *counters)
{
    struct ivf_record batch[RECORDS_AT_ONCE];
    struct ivf_search *s;
    size_t n;
    if (records.size != ivf->records_size)
        return op_fail(op, ERR_CORRUPT, "records of a vector index");
    enum err e = ivf_search_begin(op, ivf, query, options, &s);
    while (!e) {
        e = ivf_search_next(op, s, best, batch, RECORDS_AT_ONCE, &n);
        if (e || n == 0) break;
        for (size_t i = 0; i < n; i++)
            batch[i].bytes = slice_of(records.data + batch[i].offset, batch[i].size);
        e = ivf_search_scan(op, s, batch, n, best);
    }
    if (e) return e;
    push_found(s, exact, context, source, best);
    if (counters) *counters = s->counters;
    return ERR_OK;
}
