/*
 * s3_xml.h - reading the small XML documents that S3 answers with, by expat.
 *
 * Any input is fine: what is not well-formed, has another root, a DOCTYPE, more than
 * S3_XML_DEPTH_MAX levels or a text above S3_XML_TEXT_MAX bytes is refused.
 */
#ifndef STORE_S3_XML_H
#define STORE_S3_XML_H

#include <stdbool.h>

#include "base/buf.h"

enum { S3_XML_DEPTH_MAX = 8, S3_XML_TEXT_MAX = 16384 };

/* An element ended. path is below the root, "Contents/Key"; text is what stood directly
 * in it. Both live until the function returns. False: it cannot be; stop. */
typedef bool (*s3_xml_end)(void *context, const char *path, const char *text);

/* True when all of xml is one well-formed document with this root and no end objected.
 */
bool s3_xml_read(struct slice xml, const char *root, s3_xml_end end, void *context);

/* Appends text with & < > " escaped. */
void s3_xml_escape(const char *text, struct buf *out);

#endif
