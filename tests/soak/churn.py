#!/usr/bin/env python3
"""The same ids written and deleted over and over through HTTP: what must stay flat stays flat.

    tests/soak/churn.py [--ids 50000] [--rounds 20] [--dim 64] [--seed N] [--program build/release/elacsym]

Each round writes all ids anew, with new vectors, words and numbers, in batches of 500 in random order,
deletes a tenth of them, waits until all is indexed, and asks. Indexing, merging and collecting go on beside it, with limits small
enough that each happens many times a round. Noted after each round: bytes and objects of the namespace in
the store, segments, resident memory, recall of the ten nearest against all vectors that live now, work
and time of a query. In the end everything is compacted and collected, and the same documents are loaded into a
namespace of their own, as if they had never been written before.

Passed: documents are exactly those that live; in the last third of nine rounds or more size, objects,
segments and memory are at most a fourth above those of the second third, a query's work is at most
twice that, and recall is not lower by 0.02; compacted, the namespace is as large as the fresh one within
a tenth, and `elacsym verify` finds nothing that no manifest names. Times are only told. The last line is "N passed, N failed".
"""
import argparse
import base64
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from elacsym import Server  # noqa: E402

BATCH = 500
QUERIES = 100
SETTLE_S = 60
CENTRES = 200
WORDS = [f"word{i}" for i in range(5000)]
COLUMNS = ["seconds", "documents", "segments", "MiB", "objects", "resident", "recall", "scored", "p50 ms", "p99 ms"]


def settings(ids):
    return {
        "ELACSYM_TAIL_INDEX_ROWS": str(max(ids // 10, 1)),
        "ELACSYM_TAIL_INDEX_IDLE_SECS": "1",
        "ELACSYM_GC_GRACE_SECS": "1",
        "ELACSYM_CACHE_MEMORY_SIZE": str(256 << 20),
    }


class Churn:
    def __init__(self, server, ids, dim, seed):
        self.server, self.ids, self.dim = server, ids, dim
        self.random = numpy.random.default_rng(seed)
        self.centres = self.random.normal(size=(CENTRES, dim))
        self.vectors = numpy.zeros((ids, dim), "f4")
        self.words, self.living = numpy.zeros((ids, 12), int), numpy.zeros(ids, bool)
        self.client = server.client()
        self.namespace = self.make("churn")
        self.failures, self.checks = [], 0

    def check(self, fine, words):
        self.checks += 1
        if not fine:
            self.failures.append(words)

    def make(self, name):
        namespace = self.client.namespace(name)
        namespace.create(vector_dim=self.dim, vector_metric="l2", attributes={
            "text": {"type": "string", "full_text": True}, "n": {"type": "int", "indexed": True}})
        return namespace

    def document(self, id):
        return {"id": int(id), "vector": base64.b64encode(self.vectors[id].tobytes()).decode(),
                "attributes": {"text": " ".join(WORDS[n] for n in self.words[id]), "n": int(self.words[id][0])}}

    def post(self, namespace, tail, body):
        while (answer := namespace.ask("POST", tail, body)).status == 429:
            time.sleep(0.1)
        assert answer.status == 200, answer

    def send(self, namespace, ids):
        self.post(namespace, "/upsert", {"documents": [self.document(id) for id in ids]})

    def settle(self):
        """Until all is indexed; merges may go on."""
        end = time.monotonic() + SETTLE_S
        while self.namespace.info()["index"]["unindexed_rows"] > 0 and time.monotonic() < end:
            time.sleep(0.1)

    def round(self):
        """Writes all, deletes some; the row of the table."""
        began = time.monotonic()
        firsts = self.random.permutation(range(0, self.ids, BATCH))
        for first in firsts:
            ids = range(first, min(first + BATCH, self.ids))
            spread = self.random.normal(size=(len(ids), self.dim))
            self.vectors[ids] = self.centres[self.random.integers(CENTRES, size=len(ids))] + 0.5 * spread
            self.words[ids] = self.random.integers(len(WORDS), size=(len(ids), 12))
            self.send(self.namespace, ids)
        self.living[:] = True
        for gone in numpy.array_split(self.random.permutation(self.ids)[:self.ids // 10], self.ids // 10 // BATCH + 1):
            self.post(self.namespace, "/delete", {"ids": [int(id) for id in gone]})
            self.living[gone] = False
        took = time.monotonic() - began
        self.settle()
        return [took, *self.stored(self.namespace), self.server.resident_bytes() / 2**20, *self.asked()]

    def stored(self, namespace):
        """Documents, segments, MiB and objects in the store."""
        info = namespace.info()
        sizes = [path.stat().st_size for top in ("wal", "ns") for path in (self.server.root / "data" / top / namespace.name).rglob("*") if path.is_file()]
        return [info["document_count"], info["index"]["segments"], sum(sizes) / 2**20, len(sizes)]

    def asked(self):
        """Mean recall, vectors and postings that a query scored, p50 and p99 in ms."""
        living = numpy.flatnonzero(self.living)
        vectors = self.vectors[living]
        squares = (vectors * vectors).sum(1)
        recalls, scored, ms = [], [], []
        for _ in range(QUERIES):
            query = (self.centres[self.random.integers(CENTRES)] + 0.5 * self.random.normal(size=self.dim)).astype("f4")
            nearest = living[numpy.argpartition(squares - 2 * vectors @ query, 10)[:10]]
            began = time.perf_counter()
            answer = self.namespace.query(vector=base64.b64encode(query.tobytes()).decode(), top_k=10, explain=True, include_attributes=False)
            ms.append((time.perf_counter() - began) * 1000)
            recalls.append(len({result["id"] for result in answer["results"]} & set(nearest.tolist())) / 10)
            scored.append(answer["explain"]["rows_scored"])
        return [statistics.mean(recalls), statistics.mean(scored), numpy.quantile(ms, .5), numpy.quantile(ms, .99)]

    def judge_documents(self, rows):
        for row in rows:
            self.check(row[1] == self.ids - self.ids // 10, f"{row[1]} documents, {self.ids - self.ids // 10} live")

    def judge_rounds(self, rows):
        third = len(rows) // 3
        for name, share, margin in (("segments", 1.25, 2), ("MiB", 1.25, 1), ("objects", 1.25, 20), ("resident", 1.25, 16), ("scored", 2, 0)):
            column = COLUMNS.index(name)
            before = statistics.mean(row[column] for row in rows[third:-third])
            after = statistics.mean(row[column] for row in rows[-third:])
            self.check(after <= share * before + margin, f"{name} grow from {before:.1f} to {after:.1f}")
        recall = COLUMNS.index("recall")
        before, after = (statistics.mean(row[recall] for row in part) for part in (rows[third:-third], rows[-third:]))
        self.check(after >= before - 0.02, f"recall falls from {before:.3f} to {after:.3f}")

    def judge_end(self):
        """Compacted, it is what the same documents are that were written once."""
        fresh = self.make("fresh")
        living = numpy.flatnonzero(self.living)
        for part in numpy.array_split(living, len(living) // BATCH + 1):
            self.send(fresh, part)
        for _ in range(2):
            for namespace in (self.namespace, fresh):
                namespace.compact()
            time.sleep(1.5)  # what was removed has to be a second old
        (documents, segments, size, _), (others, _, other_size, _) = self.stored(self.namespace), self.stored(fresh)
        print(f"compacted: {documents} documents, {segments} segments, {size:.2f} MiB; the same loaded once: {other_size:.2f} MiB")
        self.check(documents == others == len(living), f"{documents} documents, loaded once {others}, {len(living)} live")
        self.check(segments == 1, f"{segments} segments after compaction")
        self.check(size <= 1.1 * other_size + 0.1, f"{size:.2f} MiB where {other_size:.2f} suffice")
        recall = self.asked()[0]
        self.check(recall >= 0.85, f"recall {recall:.3f} after compaction")

    def inventory(self):
        self.client.close()
        self.check(self.server.stop() == 0, "the node did not stop as asked")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
        environment["ELACSYM_STORAGE_LOCAL_ROOT_PATH"] = str(self.server.root / "data")
        found = subprocess.run([str(self.server.binary), "verify"], env=environment, cwd=self.server.root, text=True, capture_output=True, check=False)
        self.check(found.returncode == 0, f"the store is not whole: {found.stdout[-1000:]} {found.stderr[-500:]}")
        self.check(bool(re.search(r"^churn +ok .* 0$", found.stdout, re.M)), f"objects that no manifest names:\n{found.stdout}")


def run(server, ids, rounds, dim, seed):
    churn = Churn(server, ids, dim, seed)
    print(("{:>6}" + "{:>11}" * len(COLUMNS)).format("round", *COLUMNS))
    rows = []
    for number in range(1, rounds + 1):
        rows.append(churn.round())
        print(("{:>6}{:>11.1f}{:>11}{:>11}{:>11.1f}{:>11}{:>11.0f}{:>11.3f}{:>11.0f}" + "{:>11.2f}" * 2).format(number, *rows[-1]), flush=True)
    churn.judge_documents(rows)
    if rounds >= 9:
        churn.judge_rounds(rows)
    churn.judge_end()
    churn.inventory()
    return churn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=50000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=numpy.random.SeedSequence().entropy % (1 << 32))
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--folder", default=None, help="where the data goes; a temporary folder by default")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="churn-", dir=options.folder)).resolve()
    server = Server(folder, binary=options.program and options.program.resolve(), **settings(options.ids))
    try:
        churn = run(server.start(), options.ids, options.rounds, options.dim, options.seed)
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder)
    for words in churn.failures:
        print("FAILED", words)
    print(f"{churn.checks - len(churn.failures)} passed, {len(churn.failures)} failed")
    return bool(churn.failures)


if __name__ == "__main__":
    sys.exit(main())
