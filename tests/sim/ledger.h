/*
 * ledger.h - the truth about one namespace, and what nodes claimed about it.
 *
 * The ledger watches the store itself: from the objects as they appear it keeps the
 * catalog's incarnations, the committed entries of each log and the content after each
 * of them, by an array and a loop. Every answer of a node is then compared: a write
 * that was acknowledged is at the slot it names, with the counts it reported; one that
 * was refused is nowhere; a read shows exactly the content of its slot, which is not
 * before anything acknowledged or read earlier. Objects and deletes are held against
 * the invariants of PROTOCOL.md section 3 when they happen.
 *
 * The first thing found wrong is kept in words; nothing after it matters.
 * Documents have u64 ids below LEDGER_IDS and an attribute n: the number of the write.
 */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "ns/registry.h"
#include "sim/store_sim.h"

struct ledger;

enum { LEDGER_IDS = 16, LEDGER_KEY_MAX = 32 };

/* now_ms tells the time of events, for bounded staleness. */
struct ledger *ledger_new(const char *name, int64_t staleness_max_ms);
void ledger_free(struct ledger *l);
struct store_witness ledger_witness(struct ledger *l);
/* NULL as long as all is well. */
const char *ledger_wrong(const struct ledger *l);
/* As a finding of its own. */
void ledger_complain(struct ledger *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The one schema that namespaces of a ledger have; a reference for the caller. */
struct schema *ledger_schema(void);

/* ---- writes ---- */

enum intent_kind { INTENT_PUT, INTENT_DELETE, INTENT_DELETE_BELOW };
struct intent {
    uint32_t number; /* of the write, from 1; also its idempotency key, if it has one */
    enum intent_kind kind;
    uint32_t ids;   /* bit i: document i is put or deleted */
    uint32_t below; /* INTENT_DELETE_BELOW: documents with n < below */
    bool keyed;     /* deletes must be: nothing else in them tells whose they are */
};
/* Notes a new write; fill in all but number before. It returns the number. */
uint32_t ledger_intend(struct ledger *l, struct intent intent);
const struct intent *ledger_intent(const struct ledger *l, uint32_t number);
uint32_t ledger_intent_count(const struct ledger *l);
/* Is it a keyed write that nobody got a final answer about? Worth another try. */
bool ledger_open_ended(const struct ledger *l, uint32_t number);
/* Around each attempt. An attempt whose process dies has no answer. */
void ledger_attempt(struct ledger *l, uint32_t number);
void ledger_answer(struct ledger *l, uint32_t number, enum err e,
                   const struct write_result *result);

/* ---- reads, drops, creates: what was known when the call began ---- */

struct ledger_mark {
    int64_t ms;
    int64_t era, slot; /* newest that anybody saw; -1: none */
    bool gone;         /* and that era was seen to be over */
    bool absent;       /* in truth, no such namespace */
    uint32_t drops;    /* in truth, until then */
};
struct ledger_mark ledger_begin(const struct ledger *l);

/* What a snapshot holds: n of each document, 0 where it is absent. */
struct ledger_content {
    uint64_t n[LEDGER_IDS];
    uint64_t row_count;
};
void ledger_read_answer(struct ledger *l, const struct ledger_mark *begun,
                        const struct snapshot *s, const struct ledger_content *content,
                        bool strong, const struct commit_token *min_commit);
/* Any call said ERR_NOT_FOUND for the namespace. */
void ledger_not_found(struct ledger *l, const struct ledger_mark *begun,
                      const char *call, bool strong);
void ledger_created(struct ledger *l, const struct commit_token *token);
void ledger_dropped(struct ledger *l, const struct ledger_mark *begun);

/* The newest manifest of the current era, and whether the namespace exists. */
bool ledger_exists(const struct ledger *l);
/* Every object that the newest manifest names is in the store. */
void ledger_check_objects(struct ledger *l, struct store *store);
/* Of incarnations that the catalog calls deleted, only fences and DROP are left. */
void ledger_check_purged(struct ledger *l, struct store *store);
/* How many entries were committed, of all eras. */
uint64_t ledger_entries(const struct ledger *l);

#endif
