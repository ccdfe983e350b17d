#!/usr/bin/env python3
"""Programs that were broken on purpose, and whether their histories give them away.

    tests/history/broken.py [--seed N] [--turns 2] [--only NAME]

Each rule of BROKEN replaces a few words of one source file; the file is compiled anew and
linked before the library, into build/release/broken. The program then runs as two indexers
that both believe to own a namespace, over the simulator of tests/s3sim, with a query node
that always reads the store. They take the namespace from each other, write at the same time
and are killed, while clients write and read the same documents. What these recorded must be
explained for the whole program and must not be for a broken one: it plays again, each time
twice as long, until its history is not, at most four times.

The last line is "N passed, N failed".
"""
import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/cluster"))
import cluster  # noqa: E402
import history  # noqa: E402
from workload import Workload, ask  # noqa: E402

Rule = collections.namedtuple("Rule", "name file old new")
BROKEN = [
    Rule(
        "a strong read of the owner does not look at the log",
        "src/ns/namespace_read.c",
        "bool look = strong ||",
        "bool look = !strong &&",
    ),
    Rule(
        "a strong read of others does not look at the log",
        "src/ns/namespace_read.c",
        "    bool fresh =\n        ns->followed &&",
        "    strong = strong && !ns->followed;\n    bool fresh =\n        ns->followed ||",
    ),
    Rule(
        "a slot that another took counts as ours",
        "src/ns/commit.c",
        "if (outcome == SETTLED_TAKEN && !doubtful) {",
        "if (outcome == SETTLED_TAKEN && !doubtful && !ours) {",
    ),
    Rule(
        "a repeated Idempotency-Key is not recognized",
        "src/ns/commit.c",
        "    if (!known) return false;\n",
        "    if (known || !known) return false;\n",
    ),
    Rule(
        "keys of entries that are replayed are forgotten",
        "src/ns/state.c",
        "if (e || request->idempotency_key.size == 0) continue;",
        "if (e || n > 0) continue;",
    ),
    Rule(
        "the last request of an entry is not replayed",
        "src/ns/state.c",
        "e = state_apply(op, base, prepared, n, entry->slot,",
        "e = state_apply(op, base, prepared, n > 1 ? n - 1 : n, entry->slot,",
    ),
    Rule(
        "requests of an entry are applied in another order than they are stored",
        "src/ns/commit.c",
        "prepared[i++] = p->prepared; /* borrowed */",
        "prepared[g->count - ++i] = p->prepared;",
    ),
    Rule(
        "deletions are not replayed",
        "src/ns/state.c",
        "        schema_unref(batch.schema);\n        if (e)\n            return op_fail(op, e, \"request",
        "        schema_unref(batch.schema);\n        if (!e) prepared[i].delete_count = 0;\n"
        "        if (e)\n            return op_fail(op, e, \"request",
    ),
]

# Indexing and collection all the time; requests gather, so that entries hold several.
SMALL = {
    "ELACSYM_TAIL_INDEX_ROWS": "100",
    "ELACSYM_TAIL_INDEX_IDLE_SECS": "1",
    "ELACSYM_GC_GRACE_SECS": "1",
    "ELACSYM_COMMIT_INTERVAL_MS": "20",
}
NOWHERE = "http://127.0.0.1:1"
NAMESPACE = "h"


def build(rule):
    """The program with that rule broken."""
    text = (REPOSITORY / rule.file).read_text()
    if text.count(rule.old) != 1:
        raise SystemExit(f"{rule.file} has changed: {rule.old!r} is there {text.count(rule.old)} times")
    name = "-".join(rule.name.replace(",", "").split())
    source = REPOSITORY / f"build/release/broken/{name}.c"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text.replace(rule.old, rule.new))
    target = str(source.relative_to(REPOSITORY).with_suffix(""))
    subprocess.run(["make", "-s", target], cwd=REPOSITORY, check=True)
    return REPOSITORY / target


def play(program, folder, seed, turns):
    """One history."""
    store = cluster.make_store(folder, "s3sim").start()
    make = lambda name, role: cluster.Node(folder, name, role, store, ELACSYM_BINARY=str(program), **SMALL)  # noqa: E731
    first, second, reader = make("one", "indexer"), make("two", "indexer"), make("reader", "query")
    alone = {first: {"one": NOWHERE}, second: {"two": NOWHERE}, reader: {"one": NOWHERE}}
    writers, readers = [first], [first, reader]
    try:
        for node, table in alone.items():
            node.start(table)
        schema = {"vector_dim": 2, "vector_metric": "l2", "attributes": {"value": "int"}}
        assert ask(first.port, "PUT", f"/v1/namespaces/{NAMESPACE}", schema)[0] == 200
        load = Workload(
            [NAMESPACE],
            lambda: [n.port for n in writers],
            lambda: [n.port for n in readers],
            seed,
            readers=2,
            contenders_each=6,
            patience_s=8,
        )
        with load:
            for _ in range(turns):
                time.sleep(0.7)
                writers, readers = [second], [first, second, reader]  # the first one is not told
                time.sleep(0.7)
                writers = [first, second]
                time.sleep(1.0)
                writers = [second]
                time.sleep(0.5)
                first.kill()  # with writes under way: they are repeated at the other
                readers = [second, reader]
                first.start(alone[first])
                time.sleep(0.3)
                second.kill()
                writers, readers = [first], [first, reader]
                second.start(alone[second])
        load.look([reader.port])
        return load
    finally:
        for node in alone:
            if node.running:
                node.kill()
        store.kill()


def judge(program, seed, turns, keep):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="elacsym-history-"))
    load = play(program, folder, seed, turns)
    wrong = history.check(load.recorder.ops)
    if keep:
        load.recorder.save(keep)
    shutil.rmtree(folder)
    return load, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", help="file for the history of the whole program")
    parser.add_argument("--whole", type=int, default=8, help="turns of the whole program")
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed} repeats the choices, not the timing", flush=True)
    passed = failed = 0
    if not arguments.only:
        load, wrong = judge(REPOSITORY / "build/release/elacsym", arguments.seed, arguments.whole, arguments.keep)
        good = not wrong and load.acknowledged > 100 and load.reads > 100
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok' if good else 'FAILED'}: the whole program: {load}", flush=True)
        print("\n".join(wrong[:10]), end="\n" if wrong else "", flush=True)
    for rule in BROKEN:
        if arguments.only not in rule.name:
            continue
        program = build(rule)
        for attempt in range(4):  # what it takes may not have happened in so few turns
            load, wrong = judge(program, arguments.seed + attempt, arguments.turns << attempt, None)
            if wrong:
                break
        passed, failed = passed + bool(wrong), failed + (not wrong)
        told = f"caught, {len(wrong)} documents" if wrong else "NOT CAUGHT"
        print(f"{told}: {rule.name} ({len(load.recorder.ops)} operations)", flush=True)
        if wrong:
            print(f"    {wrong[0][:300]}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
