/*
 * recall.h - how many of the true neighbours vector search finds, measured on live
 * data.
 *
 * Some live documents serve as queries: each is searched for as queries are, and by an
 * exact scan, and does not count as its own neighbour.
 */
#ifndef QUERY_RECALL_H
#define QUERY_RECALL_H

#include "query/query.h"

enum { RECALL_QUERIES_MAX = 100, RECALL_TOP_K_MAX = 100 };

struct recall_options {
    uint32_t queries;            /* wanted, 1 to RECALL_QUERIES_MAX */
    uint32_t top_k;              /* 1 to RECALL_TOP_K_MAX */
    float recall;                /* wanted of the index; 0: the default of queries */
    const struct filter *filter; /* of the neighbours; NULL: all */
};

struct recall_result {
    uint32_t queries;         /* documents that were searched for */
    uint32_t neighbours;      /* the true ones of all of them */
    uint32_t found;           /* neighbours as near as the last true one */
    struct segment_work work; /* of all searches by index */
    uint64_t index_us, exact_us;
};

/*
 * Fewer queries than wanted where fewer documents have vectors, or hardly any document
 * is alive. Errors of query_run; ERR_INVALID: the namespace has no vectors.
 */
enum err recall_measure(struct op *op, struct snapshot *snapshot,
                        const struct recall_options *options,
                        struct recall_result *result);

#endif
