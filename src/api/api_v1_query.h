/*
 * api_v1_query.h - queries and documents: a request's JSON is parsed, bound to the
 * schema of a snapshot and run on it, and the hits become JSON.
 */
#ifndef API_API_V1_QUERY_H
#define API_API_V1_QUERY_H

#include "api/api_call.h"
#include "ns/registry.h"

/* What is read on a snapshot. ERR_NOT_FOUND: an object that it names is not there. */
typedef enum err v1_snapshot_reader(struct op *op, struct snapshot *snapshot,
                                    void *context);
/*
 * Reads on a snapshot as fresh as the request wants it, whose token goes into the
 * answer; *used is the caller's reference even on failure. Compaction may have replaced
 * an object of the snapshot, and collected it since: then it is read again on a fresh
 * one. What a fresh one names and the store does not have is lost.
 */
enum err v1_on_snapshot(struct op *op, struct api_call *call,
                        enum consistency consistency, v1_snapshot_reader *reader,
                        void *context, struct snapshot **used);

enum err v1_query(struct op *op, struct api_call *call);
enum err v1_document(struct op *op, struct api_call *call);

#endif
