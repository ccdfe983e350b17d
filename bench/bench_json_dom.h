/*
 * bench_json_dom.h - simdjson's DOM parse, for comparison.
 */
#ifndef BENCH_BENCH_JSON_DOM_H
#define BENCH_BENCH_JSON_DOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Parses size bytes with padding behind them; the parser is kept for the next call. */
bool bench_json_dom(const uint8_t *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
