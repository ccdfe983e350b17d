/*
 * api_v1_recall.h - POST /v1/namespaces/{ns}/recall: how well vector search does here.
 */
#ifndef API_API_V1_RECALL_H
#define API_API_V1_RECALL_H

#include "api/api_call.h"

enum { RECALL_QUERIES_DEFAULT = 25 };

enum err v1_recall(struct op *op, struct api_call *call);

#endif
