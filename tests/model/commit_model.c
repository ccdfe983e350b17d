#include "model/commit_model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "model/explore.h"

/*
 * Put-ids. A log entry: 1 + number of the write, or for a fence (process + 1) << 4 |
 * epoch; a process claims an epoch once, so that is unique at its slot. A manifest:
 * process << 4 | number of the open, unique at its version, since versions only grow
 * within one open. 0: nothing there.
 */
struct entry {
    uint8_t id, epoch, prev;
};

enum { ID_FENCE = 16, BY_NOBODY = 0xf0 /* version 0, there from the start */ };

/* fences: bit per slot. ops: bit per write that the segments hold. */
struct manifest {
    uint8_t by, epoch, wm, floor, anchor, fences, ops;
};

enum phase {
    CLOSED,
    OPEN_MANIFEST, /* epoch manifest sent */
    OPEN_MANIFEST_TAKEN,
    OPEN_CHECK,
    OPEN_LOG,
    OPEN_FENCE, /* fence sent */
    OPEN_FENCE_TAKEN,
    OPEN_VALIDATE,
    OPEN_REPLAY,
    READY
};

enum put {
    PUT_NONE,
    PUT_SENT,
    PUT_TAKEN,   /* 412, not looked yet */
    PUT_FOREIGN, /* another's entry is there: fenced, outcome not judged yet */
    PUT_DONE     /* a manifest is there, not post-checked yet */
};

struct process {
    struct manifest manifest;   /* the one it acts on */
    struct manifest publishing; /* the one it wants to be next */
    uint8_t version;            /* of manifest */
    uint8_t phase, log_put, index_put;
    uint8_t opens, writes; /* so far; the last write is the one on its way */
    uint8_t next, prev;    /* slot it puts next, put-id before it */
    uint8_t ops, fences;   /* its memory: effect of all slots below next */
    /* A read beside its put has found the first of two slots empty; seen, back then. */
    uint8_t looking, must_see;
};

enum request_kind { REQUEST_NONE, PUT_LOG, PUT_MANIFEST, DELETE_LOG, DELETE_MANIFEST };

struct request {
    uint8_t kind, index; /* slot or version */
    struct entry entry;
    struct manifest manifest;
};

/* Bytes only, so that equal states have equal bytes. */
struct state {
    struct entry log[MODEL_SLOTS + 1];   /* the last one stays empty */
    uint8_t manifests[MODEL_VERSIONS];   /* put-id at each version */
    struct request net[MODEL_IN_FLIGHT]; /* sorted */
    struct process processes[MODEL_PROCESSES];
    /* History, for the checks: C of PROTOCOL.md section 3, and what every version held
     * when it was the newest. */
    struct entry committed[MODEL_SLOTS];
    struct manifest newest_ever[MODEL_VERSIONS];
    uint8_t seen;    /* writes acknowledged or read by anybody */
    uint8_t refused; /* writes whose client was told "not applied" */
};

static_assert(sizeof(struct state) <= MODEL_STATE_SIZE_MAX, "state is larger");

enum step {
    STEP_OPEN,
    STEP_OPEN_ON, /* index: the phase it leaves */
    STEP_WRITE,
    STEP_WRITE_TAKEN,
    STEP_JUDGE,
    STEP_PROBE,
    STEP_LOOK,
    STEP_GIVE_UP,
    STEP_INDEX,
    STEP_INDEX_TAKEN,
    STEP_INDEX_CHECK,
    STEP_RESEND,
    STEP_RESEND_INDEX,
    STEP_COLLECT_SLOT,
    STEP_COLLECT_MANIFEST,
    STEP_DELIVER,
    STEP_DELIVER_UNANSWERED,
    STEP_LOSE
};

struct walk {
    const struct commit_model *model;
    struct explorer *explorer;
    struct state s;    /* being changed */
    const char *wrong; /* noticed in this step */
};

/* --- small answers about a state ------------------------------------------------- */

static uint8_t bit(unsigned i)
{
    return (uint8_t)(1u << i);
}

static bool is_fence(struct entry e)
{
    return e.id >= ID_FENCE;
}

static uint8_t op_of(struct entry e)
{
    return e.id && !is_fence(e) ? bit(e.id - 1u) : 0;
}

static unsigned newest(const struct state *s)
{
    unsigned v = MODEL_VERSIONS - 1;
    while (!s->newest_ever[v].by)
        v--;
    return v;
}

static unsigned log_end(const struct state *s)
{
    unsigned end = MODEL_SLOTS;
    while (end && !s->log[end - 1].id)
        end--;
    return end;
}

static bool kept(const struct walk *w, enum broken_rule rule)
{
    return w->model->broken != rule;
}

static uint8_t write_id(const struct walk *w, unsigned p)
{
    unsigned before = 0;
    for (unsigned i = 0; i < p; i++)
        before += w->model->bounds.writes[i];
    return (uint8_t)(before + w->s.processes[p].writes);
}

static uint8_t fence_id(const struct walk *w, unsigned p)
{
    return (uint8_t)((p + 1) << 4 | w->s.processes[p].manifest.epoch);
}

static void must(struct walk *w, bool holds, const char *wrong)
{
    if (w->model->inner_checks && !holds && !w->wrong) w->wrong = wrong;
}

/* --- the network ----------------------------------------------------------------- */

static int compare_requests(const struct request *a, const struct request *b)
{
    return memcmp(a, b, sizeof *a);
}

static bool on_its_way(const struct state *s, const struct request *r)
{
    for (unsigned i = 0; i < MODEL_IN_FLIGHT; i++)
        if (compare_requests(&s->net[i], r) == 0) return true;
    return false;
}

static bool send(struct walk *w, struct request r)
{
    struct request *net = w->s.net;
    unsigned n = 0;
    while (n < MODEL_IN_FLIGHT && net[n].kind)
        n++;
    if (n == w->model->bounds.in_flight) return false;
    for (; n && compare_requests(&net[n - 1], &r) > 0; n--)
        net[n] = net[n - 1];
    net[n] = r;
    return true;
}

static struct request take(struct state *s, unsigned i)
{
    struct request r = s->net[i];
    for (; i + 1 < MODEL_IN_FLIGHT; i++)
        s->net[i] = s->net[i + 1];
    s->net[i] = (struct request){0};
    return r;
}

static bool send_manifest(struct walk *w, unsigned version, struct manifest m)
{
    if (version >= w->model->bounds.versions) return false;
    return send(w, (struct request){.kind = PUT_MANIFEST,
                                    .index = (uint8_t)version,
                                    .manifest = m});
}

static bool send_entry(struct walk *w, unsigned p, uint8_t id)
{
    const struct process *q = &w->s.processes[p];
    if (q->next >= w->model->bounds.slots) return false;
    struct entry e = {id, q->manifest.epoch, q->prev};
    return send(w, (struct request){.kind = PUT_LOG, .index = q->next, .entry = e});
}

/* --- OPEN ------------------------------------------------------------------------ */

static bool close_process(struct process *q)
{
    *q = (struct process){.opens = q->opens, .writes = q->writes};
    return true;
}

/* OPEN 1 and 2. */
static bool create_epoch(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    unsigned version = newest(&w->s);
    q->manifest = w->s.newest_ever[version];
    q->manifest.by = (uint8_t)(p << 4 | q->opens);
    q->manifest.epoch++;
    q->version = (uint8_t)(version + 1);
    q->phase = OPEN_MANIFEST;
    return send_manifest(w, q->version, q->manifest);
}

/* A start, or a restart at any point: what was in memory is gone. */
static bool open_process(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->opens == w->model->bounds.opens[p]) return false;
    (void)close_process(q);
    q->opens++;
    return create_epoch(w, p);
}

static bool newest_is(const struct state *s, unsigned version, struct manifest m)
{
    return newest(s) == version && s->manifests[version] == m.by;
}

static uint8_t after_epoch(const struct walk *w)
{
    return kept(w, RULE_POST_CHECK) ? OPEN_CHECK : OPEN_LOG;
}

static uint8_t after_fence(const struct walk *w)
{
    return kept(w, RULE_VALIDATE) ? OPEN_VALIDATE : OPEN_REPLAY;
}

static bool epoch_taken(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (w->s.manifests[q->version] != q->manifest.by) return create_epoch(w, p);
    q->phase = after_epoch(w);
    return true;
}

static bool put_fence(struct walk *w, unsigned p)
{
    w->s.processes[p].phase = OPEN_FENCE;
    return send_entry(w, p, fence_id(w, p));
}

/* OPEN 4 and 5. */
static bool list_and_fence(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    unsigned end = log_end(&w->s);
    bool listed = end > 0 && end >= q->manifest.wm;
    q->next = listed ? (uint8_t)end : q->manifest.wm;
    q->prev = listed ? w->s.log[end - 1].id : q->manifest.anchor;
    if (kept(w, RULE_FENCE)) return put_fence(w, p);
    q->phase = OPEN_REPLAY;
    return true;
}

static bool fence_taken(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    struct entry there = w->s.log[q->next];
    uint8_t own = fence_id(w, p);

    if (!there.id || there.id == own) {
        q->phase = there.id ? after_fence(w) : OPEN_LOG;
        return true;
    }
    if (there.epoch > q->manifest.epoch) return close_process(q);
    must(w, there.epoch < q->manifest.epoch, "two processes hold one epoch");
    q->prev = there.id;
    q->next++;
    return put_fence(w, p);
}

/* OPEN 6. */
static bool validate(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    unsigned version = newest(&w->s);
    struct manifest m = w->s.newest_ever[version];
    if (m.epoch != q->manifest.epoch || m.floor > q->next) return close_process(q);
    q->manifest = m;
    q->version = (uint8_t)version;
    q->phase = OPEN_REPLAY;
    return true;
}

/*
 * The effect of slots m->wm to end - 1 on top of m, if the log holds them as one chain.
 * Missing or foreign entries: false.
 */
static bool replay(const struct walk *w, const struct manifest *m, unsigned end,
                   struct process *memory)
{
    memory->prev = m->anchor;
    memory->ops = m->ops;
    memory->fences = m->fences;
    if (m->wm > end) return false;
    for (unsigned i = m->wm; i < end; i++) {
        struct entry e = w->s.log[i];
        if (!e.id || (e.prev != memory->prev && kept(w, RULE_CHAIN))) return false;
        memory->prev = e.id;
        memory->ops |= op_of(e);
        if (is_fence(e)) memory->fences |= bit(i);
    }
    return true;
}

/* OPEN 7. */
static bool replay_and_serve(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    unsigned end = q->next + (kept(w, RULE_FENCE) ? 1u : 0u);
    if (!replay(w, &q->manifest, end, q)) return close_process(q);
    q->next = (uint8_t)end;
    q->phase = READY;
    return true;
}

static bool open_on(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    switch ((enum phase)q->phase) {
    case OPEN_MANIFEST_TAKEN: return epoch_taken(w, p);
    case OPEN_CHECK:
        if (!newest_is(&w->s, q->version, q->manifest)) return close_process(q);
        q->phase = OPEN_LOG;
        return true;
    case OPEN_LOG: return list_and_fence(w, p);
    case OPEN_FENCE_TAKEN: return fence_taken(w, p);
    case OPEN_VALIDATE: return validate(w, p);
    case OPEN_REPLAY: return replay_and_serve(w, p);
    case CLOSED:
    case OPEN_MANIFEST:
    case OPEN_FENCE:
    case READY: break;
    }
    return false;
}

/* --- WRITE ----------------------------------------------------------------------- */

static bool write_next(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->phase != READY || q->log_put != PUT_NONE) return false;
    if (q->index_put != PUT_NONE && !w->model->bounds.beside) return false;
    if (q->writes == w->model->bounds.writes[p]) return false;
    q->writes++;
    q->log_put = PUT_SENT;
    return send_entry(w, p, write_id(w, p));
}

static bool acknowledge(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    q->prev = write_id(w, p);
    q->ops |= bit(q->prev - 1u);
    q->next++;
    q->log_put = PUT_NONE;
    w->s.seen |= bit(q->prev - 1u);
    return true;
}

static bool write_taken(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->log_put != PUT_TAKEN) return false;
    struct entry there = w->s.log[q->next];
    uint8_t own = write_id(w, p);

    if (there.id == own) return acknowledge(w, p);
    if (!there.id) return close_process(q); /* fenced; the client hears "unknown" */
    if (kept(w, RULE_412_FENCES)) {
        q->log_put = PUT_FOREIGN;
        return true;
    }
    q->prev = there.id;
    q->next++;
    q->log_put = PUT_SENT;
    return send_entry(w, p, own);
}

/*
 * Another's entry at our slot is what was committed there only while the floor has not
 * passed it: later it may be a late duplicate at the deleted name of our own entry.
 */
static bool judge_foreign(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->log_put != PUT_FOREIGN) return false;
    bool proven = w->s.newest_ever[newest(&w->s)].floor <= q->next;
    if (proven || !kept(w, RULE_FOREIGN_BELOW_FLOOR))
        w->s.refused |= bit(write_id(w, p) - 1u);
    return close_process(q);
}

/* A read's probe meets our own entry: the put is settled without its answer. */
static bool probe_own(struct walk *w, unsigned p)
{
    const struct process *q = &w->s.processes[p];
    if (q->log_put != PUT_SENT || w->s.log[q->next].id != write_id(w, p)) return false;
    return acknowledge(w, p);
}

/* The slots that a read looks at while a put is out: the put's own, then the next. */
static unsigned look_slot(const struct walk *w, unsigned p, bool second)
{
    bool behind = kept(w, RULE_LOOK_ORDER) ? second : !second;
    return w->s.processes[p].next + behind;
}

static bool look(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->phase != READY || q->log_put == PUT_NONE || q->looking) return false;
    if (w->s.log[look_slot(w, p, false)].id) return false;
    q->looking = true;
    q->must_see = w->s.seen;
    return true;
}

/* A put that is settled, or a tenure that is over, leaves the reads to begin anew. */
static void look_no_more(struct state *s, const struct state *before)
{
    for (unsigned p = 0; p < MODEL_PROCESSES; p++) {
        struct process *q = &s->processes[p];
        if (q->phase == READY && q->log_put && q->next == before->processes[p].next)
            continue;
        q->looking = q->must_see = 0;
    }
}

static bool give_up(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (kept(w, RULE_RESEND_SETTLES)) return false;
    if (q->log_put != PUT_SENT || w->s.log[q->next].id) return false;
    w->s.refused |= bit(write_id(w, p) - 1u);
    q->log_put = PUT_NONE;
    return true;
}

/* --- INDEX ----------------------------------------------------------------------- */

static bool index_log(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (!(w->model->bounds.indexers & bit(p))) return false;
    if (q->phase != READY || q->index_put != PUT_NONE) return false;
    if (q->log_put != PUT_NONE && !w->model->bounds.beside) return false;
    if (q->manifest.wm == q->next) return false;
    q->publishing = (struct manifest){
        .by = q->manifest.by,
        .epoch = q->manifest.epoch,
        .wm = q->next,
        .floor = (uint8_t)(q->next - (kept(w, RULE_ANCHOR) ? 1 : 0)),
        .anchor = q->prev,
        .fences = q->fences,
        .ops = q->ops,
    };
    q->index_put = PUT_SENT;
    return send_manifest(w, q->version + 1u, q->publishing);
}

static bool act_on_published(struct process *q)
{
    q->manifest = q->publishing;
    q->version++;
    q->publishing = (struct manifest){0};
    q->index_put = PUT_NONE;
    return true;
}

static bool published(const struct walk *w, struct process *q)
{
    if (!kept(w, RULE_POST_CHECK)) return act_on_published(q);
    q->index_put = PUT_DONE;
    return true;
}

static bool index_taken(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->index_put != PUT_TAKEN) return false;
    if (w->s.manifests[q->version + 1] != q->publishing.by) return close_process(q);
    return published(w, q);
}

static bool index_check(struct walk *w, unsigned p)
{
    struct process *q = &w->s.processes[p];
    if (q->index_put != PUT_DONE) return false;
    if (!newest_is(&w->s, q->version + 1u, q->publishing)) return close_process(q);
    return act_on_published(q);
}

/* --- resends, GC ----------------------------------------------------------------- */

static bool resend(struct walk *w, unsigned p)
{
    const struct process *q = &w->s.processes[p];
    if (!w->model->bounds.loss) return false;
    if (q->phase == OPEN_MANIFEST) return send_manifest(w, q->version, q->manifest);
    if (q->phase == OPEN_FENCE) return send_entry(w, p, fence_id(w, p));
    return q->log_put == PUT_SENT && send_entry(w, p, write_id(w, p));
}

static bool resend_index(struct walk *w, unsigned p)
{
    const struct process *q = &w->s.processes[p];
    return w->model->bounds.loss && q->index_put == PUT_SENT &&
           send_manifest(w, q->version + 1u, q->publishing);
}

static bool may_collect(const struct walk *w, unsigned p)
{
    return w->s.processes[p].phase == READY && w->model->bounds.collectors & bit(p);
}

static bool collect_slot(struct walk *w, unsigned p, unsigned slot)
{
    const struct process *q = &w->s.processes[p];
    struct request r = {.kind = DELETE_LOG, .index = (uint8_t)slot};
    if (!may_collect(w, p) || slot >= q->manifest.floor) return false;
    if (q->manifest.fences & bit(slot) && kept(w, RULE_FENCES_RETAINED)) return false;
    if (!w->s.log[slot].id || on_its_way(&w->s, &r)) return false;
    must(w, slot < w->s.newest_ever[newest(&w->s)].floor, "I6: slot deleted too early");
    must(w, !is_fence(w->s.committed[slot]), "I6: a fence is deleted");
    return send(w, r);
}

static bool collect_manifest(struct walk *w, unsigned p, unsigned version)
{
    const struct process *q = &w->s.processes[p];
    struct request r = {.kind = DELETE_MANIFEST, .index = (uint8_t)version};
    if (!may_collect(w, p) || version >= q->version) return false;
    if (!w->s.manifests[version] || on_its_way(&w->s, &r)) return false;
    must(w, version != newest(&w->s), "I6: the newest manifest is deleted");
    return send(w, r);
}

/* --- the store applies a request ---------------------------------------------------
 */

static void commit_entry(struct walk *w, unsigned slot, struct entry e)
{
    struct entry *c = w->s.committed;
    if (slot < w->s.newest_ever[newest(&w->s)].floor) return; /* a late duplicate */
    if (c[slot].id) {
        must(w, memcmp(&c[slot], &e, sizeof e) == 0, "I1: a slot held two values");
        return;
    }
    c[slot] = e;
    must(w, slot == 0 || c[slot - 1].id, "I2: a gap in the log");
    must(w, e.prev == (slot ? c[slot - 1].id : 0), "I2: the chain is broken");
    for (unsigned i = 0; i < slot && !is_fence(e); i++)
        must(w, !is_fence(c[i]) || c[i].epoch <= e.epoch, "I4: a fence was passed");
}

static uint8_t committed_ops(const struct state *s, unsigned end)
{
    uint8_t ops = 0;
    for (unsigned i = 0; i < end; i++)
        ops |= op_of(s->committed[i]);
    return ops;
}

static void commit_manifest(struct walk *w, unsigned version, struct manifest m)
{
    struct state *s = &w->s;
    unsigned before = newest(s);
    if (version <= before) return; /* a late one at a deleted name */
    struct manifest old = s->newest_ever[before];
    s->newest_ever[version] = m;

    must(w, version == before + 1, "I5: a version was left out");
    must(w, m.epoch >= old.epoch && m.wm >= old.wm && m.floor >= old.floor,
         "I5: a manifest goes back");
    must(w, m.wm ? m.floor < m.wm : m.floor == 0, "I5: the floor reaches the anchor");
    must(w, m.ops == committed_ops(s, m.wm), "I5: segments differ from the log");
    if (m.wm) must(w, m.anchor == s->committed[m.wm - 1].id, "I5: wrong anchor");
    for (unsigned i = 0; i < m.wm; i++)
        must(w, !is_fence(s->committed[i]) || m.fences & bit(i),
             "I5: a fence is missing");
}

/* Who waits for the answer of r? MODEL_PROCESSES: nobody any more. */
static unsigned waiting_for(const struct walk *w, const struct request *r)
{
    for (unsigned p = 0; p < w->model->bounds.processes; p++) {
        const struct process *q = &w->s.processes[p];
        if (r->kind == PUT_LOG && r->index == q->next) {
            if (q->phase == OPEN_FENCE && r->entry.id == fence_id(w, p)) return p;
            if (q->log_put == PUT_SENT && r->entry.id == write_id(w, p)) return p;
        }
        if (r->kind == PUT_MANIFEST && r->manifest.by == q->manifest.by) {
            if (q->phase == OPEN_MANIFEST && r->index == q->version) return p;
            if (q->index_put == PUT_SENT && r->index == q->version + 1) return p;
        }
    }
    return MODEL_PROCESSES;
}

static void answer(struct walk *w, unsigned p, const struct request *r, bool applied)
{
    struct process *q = &w->s.processes[p];
    if (q->phase == OPEN_MANIFEST)
        q->phase = applied ? after_epoch(w) : OPEN_MANIFEST_TAKEN;
    else if (q->phase == OPEN_FENCE)
        q->phase = applied ? after_fence(w) : OPEN_FENCE_TAKEN;
    else if (r->kind == PUT_LOG && applied)
        (void)acknowledge(w, p);
    else if (r->kind == PUT_LOG)
        q->log_put = PUT_TAKEN;
    else if (applied)
        (void)published(w, q);
    else
        q->index_put = PUT_TAKEN;
}

static bool deliver(struct walk *w, unsigned i, bool answered)
{
    struct state *s = &w->s;
    struct request r = take(s, i);
    unsigned p = waiting_for(w, &r);
    bool applied = true;

    if (!answered && (p == MODEL_PROCESSES || !w->model->bounds.loss)) return false;
    switch ((enum request_kind)r.kind) {
    case DELETE_LOG: s->log[r.index] = (struct entry){0}; break;
    case DELETE_MANIFEST: s->manifests[r.index] = 0; break;
    case PUT_LOG:
        applied = !s->log[r.index].id;
        if (!applied) break;
        s->log[r.index] = r.entry;
        commit_entry(w, r.index, r.entry);
        break;
    case PUT_MANIFEST:
        applied = !s->manifests[r.index];
        if (!applied) break;
        s->manifests[r.index] = r.manifest.by;
        commit_manifest(w, r.index, r.manifest);
        break;
    case REQUEST_NONE: break;
    }
    if (answered && p != MODEL_PROCESSES) answer(w, p, &r, applied);
    return true;
}

/* --- every possible reader reads ----------------------------------------------------
 */

/* PROTOCOL "at any other node". False: it sees a gap or a foreign chain and reloads. */
static bool list_read(const struct walk *w, const struct manifest *m, uint8_t *ops)
{
    const struct state *s = &w->s;
    struct process memory;
    unsigned end = log_end(s);

    if (m->wm && kept(w, RULE_ANCHOR)) {
        uint8_t there = s->log[m->wm - 1].id;
        if (!there || (there != m->anchor && kept(w, RULE_CHAIN))) return false;
    }
    if (!replay(w, m, end > m->wm ? end : m->wm, &memory)) return false;
    *ops = memory.ops;
    return true;
}

/*
 * PROTOCOL "at the owner". False: it is not ready, finds it is fenced, or waits: while
 * a put of ours is out, our entry may be there (then only a probe of the slot behind it
 * tells), or have been there and been collected already.
 */
static bool owner_read(const struct walk *w, unsigned p, uint8_t *ops)
{
    const struct process *q = &w->s.processes[p];
    uint8_t there = w->s.log[q->next].id;

    if (q->phase != READY) return false;
    *ops = q->ops;
    if (q->log_put == PUT_NONE) return !there;
    if (!there) return !kept(w, RULE_WEDGED_404);
    if (there != write_id(w, p)) return false;
    *ops |= op_of(w->s.log[q->next]);
    return !kept(w, RULE_WEDGED_OWN);
}

/* The same while a put is out, with what memory holds without it. What others wrote or
 * read behind the first look may be missing: the read was before it. */
static bool owner_read_beside(const struct walk *w, unsigned p, uint8_t *ops)
{
    const struct process *q = &w->s.processes[p];
    *ops = q->ops;
    return q->looking && !w->s.log[look_slot(w, p, true)].id;
}

static const char *wrong_read(const struct walk *w, uint8_t ops, uint8_t current,
                              const char *stale)
{
    if (ops & w->s.refused) return "a write refused as not applied is there";
    return ops == current ? NULL : stale;
}

static uint8_t stored_ops(const struct state *s)
{
    uint8_t ops = s->newest_ever[newest(s)].ops;
    for (unsigned i = 0; i < MODEL_SLOTS; i++)
        ops |= op_of(s->log[i]);
    return ops;
}

static const char *read_everywhere(struct walk *w)
{
    static const char lost[] = "an acknowledged write is lost";
    struct state *s = &w->s;
    const char *wrong = NULL;
    uint8_t current = 0, ops;
    unsigned last = newest(s);

    if (!list_read(w, &s->newest_ever[last], &current))
        return s->seen & ~stored_ops(s) ? lost
                                        : "the newest manifest and log do not fit";
    if (s->seen & ~current) return lost;
    for (unsigned v = 0; v <= last && !wrong; v++)
        if (s->newest_ever[v].by && list_read(w, &s->newest_ever[v], &ops))
            wrong =
                wrong_read(w, ops, current, "a reader with an old manifest is stale");
    for (unsigned p = 0; p < w->model->bounds.processes && !wrong; p++)
        if (owner_read(w, p, &ops)) {
            wrong = wrong_read(w, ops, current, "an owner's read is stale");
            must(w, ops == committed_ops(s, s->processes[p].next), "I7: not a prefix");
        }
    for (unsigned p = 0; p < w->model->bounds.processes && !wrong; p++)
        if (owner_read_beside(w, p, &ops)) {
            if (s->processes[p].must_see & ~ops)
                wrong = "an owner's read beside its put is stale";
            must(w, ops == committed_ops(s, s->processes[p].next), "I7: not a prefix");
        }
    s->seen |= current;
    return wrong;
}

/* --- exploring ------------------------------------------------------------------- */

static bool apply(struct walk *w, enum step step, unsigned p, unsigned index)
{
    switch (step) {
    case STEP_OPEN: return open_process(w, p);
    case STEP_OPEN_ON: return open_on(w, p);
    case STEP_WRITE: return write_next(w, p);
    case STEP_WRITE_TAKEN: return write_taken(w, p);
    case STEP_JUDGE: return judge_foreign(w, p);
    case STEP_PROBE: return probe_own(w, p);
    case STEP_LOOK: return look(w, p);
    case STEP_GIVE_UP: return give_up(w, p);
    case STEP_INDEX: return index_log(w, p);
    case STEP_INDEX_TAKEN: return index_taken(w, p);
    case STEP_INDEX_CHECK: return index_check(w, p);
    case STEP_RESEND: return resend(w, p);
    case STEP_RESEND_INDEX: return resend_index(w, p);
    case STEP_COLLECT_SLOT: return collect_slot(w, p, index);
    case STEP_COLLECT_MANIFEST: return collect_manifest(w, p, index);
    case STEP_DELIVER:
    case STEP_DELIVER_UNANSWERED: return deliver(w, index, step == STEP_DELIVER);
    case STEP_LOSE: (void)take(&w->s, index); return w->model->bounds.loss;
    }
    return false;
}

/* An action names its step, the process or request kind, and the slot or version. */
static uint32_t action_of(const struct state *from, enum step step, unsigned p,
                          unsigned index)
{
    if (step == STEP_OPEN_ON) index = from->processes[p].phase;
    if (step >= STEP_DELIVER) {
        p = from->net[index].kind;
        index = from->net[index].index;
    }
    return (uint32_t)step << 16 | p << 8 | index;
}

static void attempt(struct walk *w, const struct state *from, enum step step,
                    unsigned p, unsigned index)
{
    w->s = *from;
    w->wrong = NULL;
    if (!apply(w, step, p, index)) return;
    look_no_more(&w->s, from);
    const char *wrong = read_everywhere(w);
    explore_offer(w->explorer, &w->s, action_of(from, step, p, index),
                  wrong ? wrong : w->wrong);
}

void commit_model_expand(void *context, const void *state, struct explorer *x)
{
    const struct state *from = state;
    struct walk w = {.model = context, .explorer = x};

    for (unsigned p = 0; p < w.model->bounds.processes; p++) {
        for (enum step step = STEP_OPEN; step < STEP_COLLECT_SLOT; step++)
            attempt(&w, from, step, p, 0);
        for (unsigned i = 0; i < from->processes[p].manifest.floor; i++)
            attempt(&w, from, STEP_COLLECT_SLOT, p, i);
        for (unsigned i = 0; i < from->processes[p].version; i++)
            attempt(&w, from, STEP_COLLECT_MANIFEST, p, i);
    }
    for (unsigned i = 0; i < MODEL_IN_FLIGHT && from->net[i].kind; i++)
        for (enum step step = STEP_DELIVER; step <= STEP_LOSE; step++)
            attempt(&w, from, step, 0, i);
}

void commit_model_first(const struct commit_model *m, void *state)
{
    struct state *s = state;
    unsigned writes = 0;
    assert(m->bounds.processes <= MODEL_PROCESSES);
    assert(m->bounds.slots <= MODEL_SLOTS);
    assert(m->bounds.versions <= MODEL_VERSIONS);
    assert(m->bounds.in_flight <= MODEL_IN_FLIGHT);
    for (unsigned p = 0; p < m->bounds.processes; p++)
        writes += m->bounds.writes[p];
    assert(writes <= MODEL_WRITES);

    *s = (struct state){.manifests = {BY_NOBODY}};
    s->newest_ever[0].by = BY_NOBODY;
}

size_t commit_model_state_size(void)
{
    return sizeof(struct state);
}

void commit_model_describe(uint32_t action, char *text, size_t size)
{
    static const char *const steps[] = {
        [STEP_OPEN] = "opens: reads the newest manifest, sends the next with its epoch",
        [STEP_WRITE] = "sends a log entry at its next slot",
        [STEP_WRITE_TAKEN] = "reads the slot that answered 412",
        [STEP_JUDGE] = "is fenced; the newest manifest's floor tells the outcome",
        [STEP_PROBE] = "finds its own entry by a probe and acknowledges it",
        [STEP_LOOK] = "reads beside its put: finds the first slot empty",
        [STEP_GIVE_UP] = "finds 404 after a timeout and calls the write not applied",
        [STEP_INDEX] = "indexes: sends a manifest that covers all slots below next",
        [STEP_INDEX_TAKEN] = "reads the manifest that answered 412",
        [STEP_INDEX_CHECK] = "post-checks its manifest",
        [STEP_RESEND] = "sends the same bytes again",
        [STEP_RESEND_INDEX] = "sends the same manifest again",
        [STEP_COLLECT_SLOT] = "collects: sends a delete of slot",
        [STEP_COLLECT_MANIFEST] = "collects: sends a delete of manifest",
    };
    static const char *const phases[] = {
        [OPEN_MANIFEST_TAKEN] = "reads the manifest that answered 412",
        [OPEN_CHECK] = "post-checks its epoch manifest",
        [OPEN_LOG] = "lists the log and sends its fence",
        [OPEN_FENCE_TAKEN] = "reads the slot where its fence met 412",
        [OPEN_VALIDATE] = "validates: reads the newest manifest again",
        [OPEN_REPLAY] = "replays the log, is ready unless it does not fit",
        [READY] = NULL,
    };
    static const char *const requests[] = {
        [PUT_LOG] = "put of slot",
        [PUT_MANIFEST] = "put of manifest",
        [DELETE_LOG] = "delete of slot",
        [DELETE_MANIFEST] = "delete of manifest",
    };
    enum step step = (enum step)(action >> 16);
    unsigned p = action >> 8 & 255, index = action & 255;

    if (step >= STEP_DELIVER)
        (void)snprintf(text, size, "   %s %u %s", requests[p], index,
                       step == STEP_DELIVER              ? "arrives"
                       : step == STEP_DELIVER_UNANSWERED ? "arrives, its answer is lost"
                                                         : "is lost");
    else if (step == STEP_OPEN_ON)
        (void)snprintf(text, size, "P%u %s", p, phases[index]);
    else if (step >= STEP_COLLECT_SLOT)
        (void)snprintf(text, size, "P%u %s %u", p, steps[step], index);
    else
        (void)snprintf(text, size, "P%u %s", p, steps[step]);
}
