#!/usr/bin/env python3
"""Mixed load on one node for long, with kills: what must stay flat stays flat.

    tests/soak/soak.py [--minutes 30] [--no-kills] [--seed N] [--program build/release/elacsym]

Three writers replace and delete the same documents, two readers ask for neighbours, words,
filters and listings, and namespaces are made and dropped. Every half minute the node is killed
with SIGKILL and started again. Every few seconds are noted: the process's resident memory, its
open files, the objects of the namespace that stays. In the end everything is compacted and collected, and
`elacsym verify` compares what is in the store with what the manifests name.

Passed: each of the three is in the last third of the run no more than in the second by a
margin, no request was answered by what is not one of the documented statuses, the node never
ended by itself, the store is whole, and it holds nothing that no manifest names. The last line
is "N passed, N failed".
"""
import argparse
import http.client
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from elacsym import Server  # noqa: E402

DIM = 64
IDS = 4000
WORDS = [f"word{i}" for i in range(2000)]
SCHEMA = {
    "vector_dim": DIM,
    "vector_metric": "l2",
    "attributes": {"text": {"type": "string", "full_text": True}, "n": {"type": "int", "indexed": True}},
}
KILL_EVERY_S = 30
SAMPLE_EVERY_S = 2
# Small limits, so that indexing, merging and collection happen all the time.
SETTINGS = {
    "ELACSYM_TAIL_INDEX_ROWS": "1000",
    "ELACSYM_TAIL_INDEX_IDLE_SECS": "1",
    "ELACSYM_GC_GRACE_SECS": "1",
    "ELACSYM_CACHE_MEMORY_SIZE": str(64 << 20),
}
EXPECTED = {200, 404, 409, 429, 503}


class Worker(threading.Thread):
    """Does one thing over and over, whatever becomes of the node meanwhile."""

    def __init__(self, soak, step, seed):
        super().__init__(daemon=True)
        self.soak, self.step, self.random = soak, step, random.Random(seed)
        self.answers, self.strange = 0, []

    def run(self):
        while not self.soak.over.is_set():
            try:
                client = self.soak.server.client()
                while not self.soak.over.is_set():
                    answer = self.step(client, self.random)
                    self.answers += 1
                    if answer.status not in EXPECTED:
                        self.strange.append(repr(answer))
                    if answer.status != 200:
                        time.sleep(0.05)
            except (OSError, http.client.HTTPException, TypeError):
                time.sleep(0.05)  # it was killed


def document(chance, number):
    words = " ".join(chance.choice(WORDS) for _ in range(12))
    return {"id": number, "vector": [round(chance.uniform(-1, 1), 4) for _ in range(DIM)], "attributes": {"text": words, "n": number % 100}}


def write(client, chance):
    first = chance.randrange(IDS)
    if chance.random() < 0.15:
        return client.namespace("soak").ask("POST", "/delete", {"ids": [(first + i) % IDS for i in range(50)]})
    documents = [document(chance, (first + i) % IDS) for i in range(chance.choice([1, 10, 100]))]
    return client.namespace("soak").ask("POST", "/upsert", {"documents": documents})


def read(client, chance):
    query = chance.choice([
        {"vector": document(chance, 0)["vector"], "top_k": 10},
        {"full_text": {"field": "text", "query": chance.choice(WORDS)}, "top_k": 10},
        {"filter": {"field": "n", "op": "lt", "value": chance.randrange(100)}, "top_k": 100},
        {"vector": document(chance, 0)["vector"], "filter": {"field": "n", "op": "eq", "value": chance.randrange(100)}, "top_k": 10},
    ])
    return client.namespace("soak").ask("POST", "/query", query)


def make_and_drop(client, chance):
    namespace = client.namespace(f"passing-{chance.randrange(8)}")
    time.sleep(0.2)
    if chance.random() < 0.4:
        return namespace.ask("DELETE")
    answer = namespace.ask("PUT", body=SCHEMA)
    if answer.status != 200:
        return answer
    return namespace.ask("POST", "/upsert", {"documents": [document(chance, i) for i in range(20)]})


class Soak:
    def __init__(self, server, options):
        self.server, self.options = server, options
        self.over = threading.Event()
        self.samples = []  # (seconds since the beginning, age of the process, RSS MiB, files, objects)
        self.failures, self.checks, self.kills = [], 0, 0
        chance = random.Random(options.seed)
        steps = [write] * 3 + [read] * 2 + [make_and_drop]
        self.workers = [Worker(self, step, chance.random()) for step in steps]

    def check(self, fine, words):
        self.checks += 1
        if not fine:
            self.failures.append(words)

    def sample(self, began, started):
        pid = self.server.process.pid
        files = len(os.listdir(f"/proc/{pid}/fd"))
        # Namespaces that come and go leave records that are kept for a month, or for ever.
        objects = sum(len(names) for top in ("wal", "ns") for _, _, names in os.walk(self.server.root / "data" / top / "soak"))
        self.samples.append((time.monotonic() - began, time.monotonic() - started, self.server.resident_bytes() / (1 << 20), files, objects))

    def run(self):
        began = started = time.monotonic()
        end = began + self.options.minutes * 60
        client = self.server.client()
        client.namespace("soak").create(**SCHEMA)
        client.close()
        for worker in self.workers:
            worker.start()
        while time.monotonic() < end:
            time.sleep(SAMPLE_EVERY_S)
            if self.server.process.poll() is not None:
                self.check(False, f"the node ended by itself: {self.server.log()[-500:]}")
                return
            self.sample(began, started)
            if not self.options.no_kills and time.monotonic() - started > KILL_EVERY_S:
                self.server.kill()
                self.server.start()
                started = time.monotonic()
                self.kills += 1
        self.over.set()
        for worker in self.workers:
            worker.join(60)

    def judge(self):
        end = self.options.minutes * 60
        for column, name, share, margin in ((2, "resident MiB", 1.1, 16), (3, "open files", 1.1, 16), (4, "objects", 1.2, 100)):
            # Where there are kills, processes of about one age are compared.
            old = [s for s in self.samples if self.options.no_kills or s[1] > KILL_EVERY_S / 2]
            second = [s[column] for s in old if end / 3 <= s[0] < 2 * end / 3]
            third = [s[column] for s in old if s[0] >= 2 * end / 3]
            before, after = statistics.median(second or [0]), statistics.median(third or [0])
            print(f"{name}: {before:.0f} in the second third, {after:.0f} in the last, at most {max(s[column] for s in self.samples):.0f}")
            self.check(bool(second) and bool(third) and after <= before * share + margin, f"{name} grow from {before:.0f} to {after:.0f}")
        strange = [s for worker in self.workers for s in worker.strange]
        self.check(not strange, f"unexpected answers: {strange[:3]}")
        for worker in self.workers:
            self.check(worker.answers > 10, f"{worker.step.__name__} was answered {worker.answers} times")

    def settle(self):
        """Compacts all, waits for what is removed to be collected, and takes inventory."""
        self.server.stop()  # the next epoch collects what kills left
        self.server.start()
        client = self.server.client()
        names = [n["name"] if isinstance(n, dict) else n for n in client.get("/v1/namespaces?page_size=100").json["namespaces"]]
        for _ in range(2):
            for name in names:
                client.namespace(name).ask("POST", "/compact")
            time.sleep(4)
        client.close()
        self.check(self.server.stop() == 0, "the node did not stop as asked")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
        environment["ELACSYM_STORAGE_LOCAL_ROOT_PATH"] = str(self.server.root / "data")
        found = subprocess.run([str(self.server.binary), "verify"], env=environment, cwd=self.server.root, text=True, capture_output=True, check=False)
        print(found.stdout.strip())
        self.check(found.returncode == 0, f"the store is not whole: {found.stdout[-1000:]} {found.stderr[-500:]}")
        orphans = [line for line in found.stdout.splitlines() if re.match(r"soak +ok .* 0$", line)]
        self.check(bool(orphans), "there are objects that no manifest names")
        for name in {path.parent.parent.parent.name for path in (self.server.root / "data" / "ns").glob("passing-*/*/*/*")}:
            living = [path for path in (self.server.root / "data" / "ns" / name).glob("*/manifest") if any(path.iterdir())]
            self.check(len(living) <= 1, f"{name} has {len(living)} incarnations with a manifest")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--folder", default=None, help="where the data goes; a temporary folder by default")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-", dir=options.folder)).resolve()
    server = Server(folder, binary=options.program and options.program.resolve(), **SETTINGS)
    try:
        server.start()
        soak = Soak(server, options)
        soak.run()
        if not soak.failures:
            soak.settle()
        soak.judge()
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
    for words in soak.failures:
        print("FAILED", words)
    print(f"{options.minutes:g} minutes, {soak.kills} kills, {sum(w.answers for w in soak.workers)} answers")
    if soak.failures:
        print(f"data and log are kept in {folder}")
    else:
        shutil.rmtree(folder)
    print(f"{soak.checks - len(soak.failures)} passed, {len(soak.failures)} failed")
    return bool(soak.failures)


if __name__ == "__main__":
    sys.exit(main())
