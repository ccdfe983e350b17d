/*
 * log.h - one event, one line, on standard error.
 *
 * log_info(op, "segment opened", "key=%s rows=%u", key, rows) writes in JSON
 * {"time":"2026-11-22T10:00:00.123Z","level":"info","event":"segment opened",
 *  "key":"…","rows":42,"request_id":"…"} or the same as text. The format is a list of
 * name=conversion pairs separated by single spaces; values are printed, escaped and
 * cut at 1 KiB each; control characters never reach the terminal. A value printed by
 * %s may hold spaces. op may be NULL; its request id is added when it has one.
 *
 * error: somebody must act. warn: we coped. info: state changed. debug: for us.
 * Lines of several threads never mix. Secrets, vectors and documents are never passed.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

struct op;

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_JSON, LOG_TEXT };

void log_init(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
/* Use the macros. */
void log_write(struct op *op, enum log_level level, const char *event,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

#define log_at(op, level, event, ...)                                                  \
    do {                                                                               \
        if (log_enabled(level)) log_write(op, level, event, __VA_ARGS__);              \
    } while (0)
#define log_error(op, event, ...) log_at(op, LOG_ERROR, event, __VA_ARGS__)
#define log_warn(op, event, ...)  log_at(op, LOG_WARN, event, __VA_ARGS__)
#define log_info(op, event, ...)  log_at(op, LOG_INFO, event, __VA_ARGS__)
#define log_debug(op, event, ...) log_at(op, LOG_DEBUG, event, __VA_ARGS__)

#endif
