#include "bench_json_dom.h"

#include <simdjson.h>

bool bench_json_dom(const uint8_t *text, size_t size)
{
    static simdjson::dom::parser parser;
    return parser.parse(text, size, false).error() == simdjson::SUCCESS;
}
