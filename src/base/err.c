#include "base/err.h"

const char *err_name(enum err e)
{
    switch (e) {
    case ERR_OK: return "ok";
    case ERR_INVALID: return "invalid";
    case ERR_DENIED: return "denied";
    case ERR_NOT_FOUND: return "not_found";
    case ERR_CONFLICT: return "conflict";
    case ERR_LIMIT: return "limit";
    case ERR_REUSED: return "reused";
    case ERR_BUSY: return "busy";
    case ERR_CORRUPT: return "corrupt";
    case ERR_IO: return "io";
    case ERR_UNKNOWN: return "unknown";
    case ERR_FENCED: return "fenced";
    case ERR_TIMEOUT: return "timeout";
    case ERR_CANCELED: return "canceled";
    case ERR_FULL: return "full";
    }
    return "?";
}
