/*
 * version.h - which elacsym this is.
 */
#ifndef NODE_VERSION_H
#define NODE_VERSION_H

#define ELACSYM_VERSION "0.1.0"

#endif
