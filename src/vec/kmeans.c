#include "vec/kmeans.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/at_most.h"
#include "base/mem.h"
#include "base/op.h"
#include "vec/distance.h"
#include "vec/vec_kernels.h"
#include "vec/vec_random.h"

enum {
    BATCH = 512,            /* points looked at together */
    CENTROIDS_AT_ONCE = 64, /* centroids that stay in the second-level cache */
    GROUP_SIZE = 64,
    GROUPS_SEARCHED = 8,
    GROUP_ROUNDS = 6,
    CANDIDATES = 8 /* looked at for each first centroid */
};

/* What a batch of points has found so far. */
struct found {
    float best[BATCH]; /* squared distance without the point's own length */
    uint32_t nearest[BATCH];
};

/* Points and centroids to compare; picks[i] tells where point i is in struct found. */
struct contest {
    const float *points[BATCH];
    uint32_t picks[BATCH];
    size_t count;
};

/* Four points against four centroids; the last stand in for missing ones. */
static void compare_tile(const struct kmeans *m, const struct contest *c, size_t point,
                         const uint32_t *centroids, size_t count, struct found *found)
{
    const float *a[TILE], *b[TILE];
    float dots[TILE * TILE];
    size_t points = at_most_size(c->count - point, TILE);
    for (size_t i = 0; i < TILE; i++) {
        a[i] = c->points[point + at_most_size(i, points - 1)];
        b[i] = m->centroids + centroids[at_most_size(i, count - 1)] * m->dim;
    }
    vec_kernels()->tile(a, b, m->dim, dots);
    for (size_t i = 0; i < points; i++)
        for (size_t j = 0; j < count; j++) {
            float distance = m->norms[centroids[j]] - 2 * dots[TILE * i + j];
            uint32_t pick = c->picks[point + i];
            if (distance >= found->best[pick]) continue;
            found->best[pick] = distance;
            found->nearest[pick] = centroids[j];
        }
}

static void compare(struct op *op, const struct kmeans *m, const struct contest *c,
                    const uint32_t *centroids, size_t count, struct found *found)
{
    for (size_t first = 0; first < count; first += CENTROIDS_AT_ONCE) {
        size_t end = at_most_size(first + CENTROIDS_AT_ONCE, count);
        op_rest(op);
        for (size_t point = 0; point < c->count; point += TILE)
            for (size_t j = first; j < end; j += TILE)
                compare_tile(m, c, point, centroids + j, at_most_size(end - j, TILE),
                             found);
    }
}

/* The groups nearest to a point, by one exact look at each. */
static void nearest_groups(const struct kmeans *groups, const float *point,
                           uint32_t *out, size_t count)
{
    float best[GROUPS_SEARCHED];
    size_t kept = 0;
    assert(count > 0 && count <= GROUPS_SEARCHED);
    for (uint32_t g = 0; g < groups->count; g++) {
        const float *centroid = groups->centroids + g * groups->dim;
        float distance =
            groups->norms[g] - 2 * distance_dot(point, centroid, groups->dim);
        if (kept == count && distance >= best[count - 1]) continue;
        size_t at = kept < count ? kept++ : count - 1;
        for (; at > 0 && best[at - 1] > distance; at--) {
            best[at] = best[at - 1];
            out[at] = out[at - 1];
        }
        best[at] = distance;
        out[at] = g;
    }
}

static void nearest_in_groups(struct op *op, const struct kmeans *m,
                              const float *points, size_t n, struct found *found)
{
    uint32_t groups[BATCH][GROUPS_SEARCHED];
    size_t searched = at_most_size(GROUPS_SEARCHED, m->groups->count);
    struct contest c;
    for (size_t i = 0; i < n; i++)
        nearest_groups(m->groups, points + i * m->dim, groups[i], searched);
    for (uint32_t g = 0; g < m->groups->count; g++) {
        c.count = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < searched; j++)
                if (groups[i][j] == g) {
                    c.points[c.count] = points + i * m->dim;
                    c.picks[c.count++] = (uint32_t)i;
                }
        compare(op, m, &c, m->members + m->group_first[g],
                m->group_first[g + 1] - m->group_first[g], found);
    }
}

void kmeans_nearest(struct op *op, const struct kmeans *m, const float *points,
                    size_t n, uint32_t *nearest)
{
    struct found *found = mem_new(struct found);
    for (size_t first = 0; first < n; first += BATCH) {
        size_t count = at_most_size(n - first, BATCH);
        struct contest c = {.count = count};
        for (size_t i = 0; i < count; i++) {
            c.points[i] = points + (first + i) * m->dim;
            c.picks[i] = (uint32_t)i;
            found->best[i] = INFINITY;
            found->nearest[i] = 0; /* where every distance is NaN or infinite */
        }
        if (m->groups)
            nearest_in_groups(op, m, points + first * m->dim, count, found);
        else
            compare(op, m, &c, m->members, m->count, found);
        memcpy(nearest + first, found->nearest, count * sizeof *nearest);
    }
    mem_free(found);
}

static void measure(struct kmeans *m)
{
    for (size_t c = 0; c < m->count; c++) {
        const float *centroid = m->centroids + c * m->dim;
        m->norms[c] = distance_dot(centroid, centroid, m->dim);
    }
}

/* Without groups: members are simply all centroids. */
static struct kmeans *flat_of(float *centroids, size_t count, size_t dim)
{
    struct kmeans *m = mem_new(struct kmeans);
    m->dim = dim;
    m->count = count;
    m->centroids = centroids;
    m->norms = mem_new_array(float, count);
    m->members = mem_new_array(uint32_t, count);
    for (uint32_t c = 0; c < count; c++)
        m->members[c] = c;
    measure(m);
    return m;
}

/* Sorts 0 .. n - 1 by label into members; first gets labels + 1 offsets. */
static void sort_by_label(const uint32_t *label, size_t n, size_t labels,
                          uint32_t *first, uint32_t *members)
{
    memset(first, 0, (labels + 1) * sizeof *first);
    for (size_t i = 0; i < n; i++)
        first[label[i]]++;
    uint32_t end = 0;
    for (size_t l = 0; l <= labels; l++) {
        end += first[l];
        first[l] = end;
    }
    for (size_t i = n; i > 0; i--)
        members[--first[label[i - 1]]] = (uint32_t)(i - 1);
}

static struct kmeans *train_flat(struct op *op, const float *points, size_t n,
                                 size_t dim, size_t count, unsigned rounds,
                                 uint64_t *seed);

struct kmeans *kmeans_of(struct op *op, float *centroids, size_t count, size_t dim)
{
    struct kmeans *m = flat_of(centroids, count, dim);
    if (count <= KMEANS_FLAT_MAX) return m;
    uint64_t seed = count;
    uint32_t *group = mem_new_array(uint32_t, count);
    m->groups =
        train_flat(op, centroids, count, dim, count / GROUP_SIZE, GROUP_ROUNDS, &seed);
    m->group_first = mem_new_array(uint32_t, m->groups->count + 1);
    kmeans_nearest(op, m->groups, centroids, count, group);
    sort_by_label(group, count, m->groups->count, m->group_first, m->members);
    mem_free(group);
    return m;
}

void kmeans_free(struct kmeans *m)
{
    if (!m) return;
    kmeans_free(m->groups);
    mem_free(m->group_first);
    mem_free(m->members);
    mem_free(m->centroids);
    mem_free(m->norms);
    mem_free(m);
}

/* The first `count` of a random order of the points. */
static uint32_t *pick_some(size_t n, size_t count, uint64_t *seed)
{
    uint32_t *order = mem_new_array(uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t i = 0; i < count; i++) {
        size_t other = i + vec_random_below(seed, (uint32_t)(n - i));
        uint32_t pick = order[other];
        order[other] = order[i];
        order[i] = pick;
    }
    return order;
}

/* One of the candidates, each as likely as its square is large; the first that has not
 * been chosen (its square is negative) where all squares are zero or not finite. */
static size_t draw(const double *squares, size_t count, uint64_t *seed)
{
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < count; i++)
        sum += squares[i] > 0 ? squares[i] : 0;
    double left = sum * (double)vec_random_below(seed, UINT32_MAX) / UINT32_MAX;
    while (squares[last] < 0)
        last++;
    for (size_t i = 0; i < count && isfinite(sum); i++) {
        if (!(squares[i] > 0)) continue;
        last = i;
        left -= squares[i];
        if (left < 0) break;
    }
    return last;
}

/*
 * Different points as first centroids, each drawn by its squared distance from those
 * drawn before (k-means++: Arthur and Vassilvitskii, SODA 2007), so that groups far
 * from each other all get one. Drawn among a few candidates for each: looking at every
 * point would cost as much as all rounds together.
 */
static float *choose(struct op *op, const float *points, size_t n, size_t dim,
                     size_t count, uint64_t *seed)
{
    size_t candidates = at_most_size(n, count * CANDIDATES);
    uint32_t *some = pick_some(n, candidates, seed);
    double *squares = mem_new_array(double, candidates);
    float *chosen = mem_new_array(float, count *dim);
    size_t next = 0;
    for (size_t i = 0; i < candidates; i++)
        squares[i] = DBL_MAX;
    for (size_t i = 0; i < count; i++) {
        const float *point = points + some[next] * dim;
        op_rest(op);
        memcpy(chosen + i * dim, point, dim * sizeof *chosen);
        squares[next] = -1;
        for (size_t j = 0; j < candidates; j++) {
            double square = (double)distance_l2(points + some[j] * dim, point, dim);
            if (square < squares[j]) squares[j] = square;
        }
        if (i + 1 < count) next = draw(squares, candidates, seed);
    }
    mem_free(squares);
    mem_free(some);
    return chosen;
}

/* A centroid that nobody is near takes a point of the largest cluster. */
static void repair(struct kmeans *m, size_t empty, const float *points, size_t n,
                   const uint32_t *nearest, uint32_t *sizes, uint64_t *seed)
{
    size_t largest = 0;
    for (size_t c = 1; c < m->count; c++)
        if (sizes[c] > sizes[largest]) largest = c;
    uint32_t which = vec_random_below(seed, sizes[largest]);
    for (size_t i = 0; i < n; i++) {
        if (nearest[i] != largest || which-- > 0) continue;
        memcpy(m->centroids + empty * m->dim, points + i * m->dim,
               m->dim * sizeof *points);
        break;
    }
    sizes[empty] = sizes[largest] / 2; /* as far as the next repair is concerned */
    sizes[largest] -= sizes[empty];
}

static void move_to_means(struct op *op, struct kmeans *m, const float *points,
                          size_t n, const uint32_t *nearest, uint64_t *seed)
{
    uint32_t *sizes = mem_new_array(uint32_t, m->count);
    memset(m->centroids, 0, m->count * m->dim * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float *sum = m->centroids + nearest[i] * m->dim;
        const float *point = points + i * m->dim;
        if (i % BATCH == 0) op_rest(op);
        sizes[nearest[i]]++;
        for (size_t d = 0; d < m->dim; d++)
            sum[d] += point[d];
    }
    for (size_t c = 0; c < m->count; c++)
        for (size_t d = 0; d < m->dim && sizes[c] > 0; d++)
            m->centroids[c * m->dim + d] /= (float)sizes[c];
    for (size_t c = 0; c < m->count; c++)
        if (sizes[c] == 0) repair(m, c, points, n, nearest, sizes, seed);
    mem_free(sizes);
    measure(m);
}

static struct kmeans *train_flat(struct op *op, const float *points, size_t n,
                                 size_t dim, size_t count, unsigned rounds,
                                 uint64_t *seed)
{
    struct kmeans *m = flat_of(choose(op, points, n, dim, count, seed), count, dim);
    uint32_t *nearest = mem_new_array(uint32_t, n);
    for (unsigned round = 0; round < rounds; round++) {
        kmeans_nearest(op, m, points, n, nearest);
        move_to_means(op, m, points, n, nearest, seed);
    }
    mem_free(nearest);
    return m;
}

/* The points of one branch, copied together and trained on their own. */
static struct kmeans *train_branch(struct op *op, const float *points,
                                   const uint32_t *members, size_t n, size_t dim,
                                   size_t count, unsigned rounds, uint64_t *seed)
{
    float *branch = mem_new_array(float, n *dim);
    for (size_t i = 0; i < n; i++)
        memcpy(branch + i * dim, points + members[i] * dim, dim * sizeof *branch);
    struct kmeans *m = kmeans_train(op, branch, n, dim, count, rounds, seed);
    mem_free(branch);
    return m;
}

static struct kmeans *train_tree(struct op *op, const float *points, size_t n,
                                 size_t dim, size_t count, unsigned rounds,
                                 uint64_t *seed)
{
    size_t branches = (size_t)ceil(sqrt((double)count));
    struct kmeans *top = kmeans_train(op, points, n, dim, branches, rounds, seed);
    uint32_t *branch = mem_new_array(uint32_t, n),
             *members = mem_new_array(uint32_t, n);
    uint32_t *first = mem_new_array(uint32_t, top->count + 1);
    float *all = NULL;
    size_t total = 0;
    kmeans_nearest(op, top, points, n, branch);
    sort_by_label(branch, n, top->count, first, members);
    for (size_t b = 0; b < top->count; b++) {
        size_t size = first[b + 1] - first[b];
        size_t share = (size_t)((double)count * (double)size / (double)n + 0.5);
        if (size == 0) continue;
        struct kmeans *part = train_branch(op, points, members + first[b], size, dim,
                                           share ? share : 1, rounds, seed);
        all = mem_realloc(all, (total + part->count) * dim * sizeof *all);
        memcpy(all + total * dim, part->centroids, part->count * dim * sizeof *all);
        total += part->count;
        kmeans_free(part);
    }
    kmeans_free(top);
    mem_free(branch);
    mem_free(members);
    mem_free(first);
    return kmeans_of(op, all, total, dim);
}

struct kmeans *kmeans_train(struct op *op, const float *points, size_t n, size_t dim,
                            size_t count, unsigned rounds, uint64_t *seed)
{
    assert(n > 0 && count > 0);
    count = at_most_size(count, n);
    if (count > KMEANS_FLAT_MAX)
        return train_tree(op, points, n, dim, count, rounds, seed);
    return train_flat(op, points, n, dim, count, rounds, seed);
}
