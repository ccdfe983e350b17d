#!/usr/bin/env python3
"""Kills a real server with SIGKILL, again and again, while clients write and read.

    tests/crash/crash_kill.py [--kills 30] [--seed N] [--program build/release/elacsym]
                              [--s3 [--pauses 5]] [--history FILE]

Each writer owns a range of ids and knows what it did: every batch writes one value to a
run of ids (or deletes it) under an Idempotency-Key. After each kill the server starts
again on the same directory and must hold, for every id, the value of the last batch that
was acknowledged, or of one that was sent later and not answered; and a batch is there
whole or not at all. A reader checks all along that a strong read never misses a write
that was acknowledged before it began. Batches without an answer are then repeated with
their key and must be applied exactly once.

With --s3 the objects lie in a bucket of the server that S3_TEST_ENDPOINT names
(tools/s3_server.sh), and there are pauses too: the node is stopped with SIGSTOP under
load, a second one takes over the bucket under load of its own, the first goes on with
SIGCONT, and for a while both believe that the namespace is theirs. The same must hold of
what either acknowledged, wherever it is read.

All that clients did and were told is recorded too, and checked at the end by a checker that
knows nothing else (tests/history); FILE keeps the record.

The last line is "N passed, N failed": one check a kill or pause, and two at the end. A run
without any acknowledged batch or any strong read fails.
"""
import argparse
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "history"))
import buckets  # noqa: E402
import history  # noqa: E402

RECORDER = history.Recorder()

WRITERS = 4
IDS_PER_WRITER = 200
RUN_MAX = 12


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, program, folder, storage):
        self.program, self.folder, self.port = program, folder, free_port()
        self.storage = storage
        self.process = None

    def start(self):
        environment = {
            **os.environ,
            "ELACSYM_SERVER_HOST": "127.0.0.1",
            "ELACSYM_SERVER_PORT": str(self.port),
            **self.storage,
            "ELACSYM_CACHE_DISK_PATH": str(self.folder / "cache"),
            # Small limits, so that indexing and collection happen all the time.
            "ELACSYM_TAIL_INDEX_ROWS": "300",
            "ELACSYM_TAIL_INDEX_IDLE_SECS": "1",
            "ELACSYM_GC_GRACE_SECS": "1",
        }
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [self.program], env=environment, stdout=log, stderr=log, cwd=self.folder
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the server stopped: see {self.folder}/log")
            try:
                if self.call("GET", "/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise SystemExit("the server did not become ready in 20 s")

    def beside(self):
        """Another process on the same objects."""
        folder = self.folder / "beside"
        folder.mkdir(exist_ok=True)
        other = Server(self.program, folder, self.storage)
        other.start()
        return other

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=40)

    def call(self, method, path, body=None, headers=None, timeout=20):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, text, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except http.client.HTTPException as broken:
            raise OSError(str(broken)) from broken
        finally:
            connection.close()


class Writer(threading.Thread):
    """Writes runs of its own ids; remembers what was acknowledged and what is unknown."""

    def __init__(self, server, number, seed, stop):
        super().__init__(daemon=True)
        self.server, self.number, self.stop = server, number, stop
        self.random = random.Random(seed)
        self.first = number * IDS_PER_WRITER
        self.acked = {}  # id -> value (None: deleted), as last acknowledged
        self.last = {}  # id -> (number of the batch, value), of the same
        self.unknown = []  # batches without an answer since the last settling
        self.batches = 0  # made
        self.acks = 0
        self.deletes = {}  # id -> number of the last batch sent that deletes it
        self.wrong = []  # sentences
        self.lock = threading.Lock()  # guards acked and last

    def make(self):
        self.batches += 1
        start = self.first + self.random.randrange(IDS_PER_WRITER - RUN_MAX)
        ids = list(range(start, start + self.random.randint(1, RUN_MAX)))
        value = None if self.random.random() < 0.15 else self.batches
        key = f"{self.number}-{self.batches}"
        began = time.monotonic()
        return {"key": key, "number": self.batches, "ids": ids, "value": value, "began": began}

    def send(self, batch):
        """Status of the answer; OSError when there was none."""
        if batch["value"] is None:
            path, body = "delete", {"ids": batch["ids"]}
            self.deletes.update({i: batch["number"] for i in batch["ids"]})
        else:
            documents = [
                {
                    "id": i,
                    "vector": [float(batch["value"]), float(i)],
                    "attributes": {"value": batch["value"], "text": f"batch {batch['value']}"},
                }
                for i in batch["ids"]
            ]
            path, body = "upsert", {"documents": documents}
        return self.server.call(
            "POST", f"/v1/namespaces/crash/{path}", body, {"Idempotency-Key": batch["key"]}
        )

    def acknowledge(self, batch):
        self.acks += 1
        RECORDER.write(
            f"writer-{self.number}", batch["ids"], batch["value"], batch["began"], time.monotonic()
        )
        with self.lock:
            for i in batch["ids"]:
                self.acked[i] = batch["value"]
                self.last[i] = batch["number"], batch["value"]

    def run(self):
        while not self.stop.is_set():
            batch = self.make()
            try:
                status, answer = self.send(batch)
            except OSError:
                self.unknown.append(batch)
                return  # the server died under us
            if status == 200:
                self.acknowledge(batch)
            elif status == 503 and answer.get("outcome") == "unknown":
                self.unknown.append(batch)
                return
            elif status not in (429, 503):
                self.wrong.append(f"{batch['key']} was answered with {status} {answer}")
                return

    def settle(self):
        """Repeats what had no answer, in order; each must now be acknowledged."""
        for batch in self.unknown:
            status, answer = self.send(batch)
            if status != 200:
                raise SystemExit(f"repeating {batch['key']}: {status} {answer}")
            self.acknowledge(batch)
        self.unknown = []


def read_all(server):
    """Every document: id -> value, by one strong listing."""
    began = time.monotonic()
    status, answer = server.call(
        "POST",
        "/v1/namespaces/crash/query",
        {
            "filter": {"field": "value", "op": "exists", "value": True},
            "top_k": 10000,
            "include_attributes": ["value"],
        },
    )
    if status != 200:
        raise SystemExit(f"listing: {status} {answer}")
    found = {r["id"]: r["attributes"]["value"] for r in answer["results"]}
    for i in range(WRITERS * IDS_PER_WRITER):
        RECORDER.read("listing", i, found.get(i), began)
    return found


def check(writers, found):
    """What is wrong with the documents found, as sentences."""
    wrong = []
    for w in writers:
        expected = dict(w.acked)
        open_batches = w.unknown
        assert len(open_batches) <= 1
        batch = open_batches[0] if open_batches else None
        if batch:
            there = [found.get(i) == batch["value"] for i in batch["ids"]]
            before = [found.get(i) == expected.get(i) for i in batch["ids"]]
            if not all(there) and not all(before):
                wrong.append(f"batch {batch['key']} is there in part")
            if all(there):
                expected.update({i: batch["value"] for i in batch["ids"]})
        for i in range(w.first, w.first + IDS_PER_WRITER):
            if found.get(i) != expected.get(i):
                wrong.append(f"id {i}: {found.get(i)} instead of {expected.get(i)}")
    return wrong


class Reader(threading.Thread):
    """Strong reads see what was acknowledged before they began, or something later."""

    def __init__(self, server, writers, seed, stop):
        super().__init__(daemon=True)
        self.server, self.writers, self.stop = server, writers, stop
        self.random = random.Random(seed)
        self.stale, self.reads = [], 0

    def run(self):
        while not self.stop.is_set():
            w = self.random.choice(self.writers)
            with w.lock:
                known = dict(w.last)
            if not known:
                time.sleep(0.01)
                continue
            i = self.random.choice(list(known))
            number, value = known[i]
            began = time.monotonic()
            try:
                status, answer = self.server.call("GET", f"/v1/namespaces/crash/documents/{i}")
            except OSError:
                return
            self.reads += status in (200, 404)
            if status in (200, 404):
                found = answer["attributes"]["value"] if status == 200 else None
                RECORDER.read(self.name, i, found, began)
            # A value is the number of the batch that wrote it: later ones are greater.
            if status == 200 and answer["attributes"]["value"] < number:
                self.stale.append(f"id {i}: {answer['attributes']} after batch {number}")
            elif status == 404 and value is not None and w.deletes.get(i, 0) < number:
                self.stale.append(f"id {i}: not there after batch {number}")
            elif status not in (200, 404, 429, 503):
                self.stale.append(f"id {i}: {status} {answer}")


class Load:
    """Writers and readers at work; the writers go on from what those before them knew."""

    def __init__(self, chance):
        self.chance, self.stop = chance, threading.Event()
        self.writers, self.readers = [], []

    def start(self, server, state):
        """Writers for these, and a reader of what all writers wrote, at this server."""
        writers = []
        for old in state:
            w = Writer(server, old.number, self.chance.random(), self.stop)
            w.acked, w.last = old.acked, old.last
            w.batches, w.deletes = old.batches, old.deletes
            writers.append(w)
        self.writers += writers
        reader = Reader(server, list(self.writers), self.chance.random(), self.stop)
        self.readers.append(reader)
        for thread in [*writers, reader]:
            thread.start()

    def end(self):
        self.stop.set()
        for thread in [*self.writers, *self.readers]:
            thread.join()

    def wrong(self):
        """What they saw that must not be, as sentences."""
        return [sentence for r in self.readers for sentence in r.stale] + [
            sentence for w in self.writers for sentence in w.wrong
        ]

    def reads(self):
        return sum(r.reads for r in self.readers)


def kill_round(server, state, chance):
    load = Load(chance)
    load.start(server, state)
    time.sleep(chance.uniform(0.05, 1.2))
    server.kill()
    load.end()
    server.start()
    wrong = check(load.writers, read_all(server)) + load.wrong()
    for w in load.writers:
        w.settle()
    wrong += check(load.writers, read_all(server))
    return load, wrong


def pause_round(server, state, chance):
    """Half of the writers stay with the paused node, the others go to the one beside it."""
    load, half = Load(chance), len(state) // 2
    load.start(server, state[:half])
    time.sleep(chance.uniform(0.05, 1.2))
    server.pause()
    other = server.beside()
    load.start(other, state[half:])
    time.sleep(chance.uniform(0.5, 3))
    server.resume()
    time.sleep(chance.uniform(0.5, 3))
    load.end()
    wrong = load.wrong()
    for w in load.writers:
        w.settle()
    for node in (server, other):
        wrong += check(load.writers, read_all(node))
    if other.stop() != 0:
        wrong.append("the second node did not stop cleanly")
    return load, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pauses", type=int, default=5)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--history", help="keep what clients did and were told in this file")
    parser.add_argument("--program", type=pathlib.Path, default="build/release/elacsym")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed} (--seed {arguments.seed} repeats the choices)")
    chance = random.Random(arguments.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="crash-kill-"))
    storage = {"ELACSYM_STORAGE_LOCAL_ROOT_PATH": str(folder / "data")}
    if arguments.s3:
        storage = buckets.environment(buckets.make())
    server = Server(arguments.program.resolve(), folder, storage)
    server.start()
    status, answer = server.call(
        "PUT",
        "/v1/namespaces/crash",
        {
            "vector_dim": 2,
            "vector_metric": "l2",
            "attributes": {"value": "int", "text": {"type": "string", "full_text": True}},
        },
    )
    assert status == 200, answer

    rounds = [kill_round] * arguments.kills
    if arguments.s3:
        rounds += [pause_round] * arguments.pauses
        chance.shuffle(rounds)
    passed, failed, acks, reads = 0, 0, 0, 0
    state = [Writer(server, n, chance.random(), None) for n in range(WRITERS)]
    for number, play in enumerate(rounds):
        load, wrong = play(server, state, chance)
        reads += load.reads()
        acks += sum(w.acks for w in load.writers)
        failed, passed = (failed + 1, passed) if wrong else (failed, passed + 1)
        for sentence in wrong[:10]:
            print(f"{play.__name__} {number}: {sentence}")
        state = load.writers

    code = server.stop()
    if code == 0:
        passed += 1
    else:
        failed += 1
        print(f"the last, gentle stop ended with {code}")
    wrong = history.check(RECORDER.ops)
    failed, passed = (failed + 1, passed) if wrong else (failed, passed + 1)
    for sentence in wrong[:10]:
        print(sentence)
    if arguments.history:
        RECORDER.save(arguments.history)
    print(f"{len(RECORDER.ops)} operations on documents, {len(wrong)} anomalies")
    pauses = rounds.count(pause_round)
    print(f"{arguments.kills} kills, {pauses} pauses, {acks} acknowledged batches, {reads} strong reads")
    if rounds and not (acks and reads):
        failed += 1
        print("nothing was checked: without acknowledged batches and reads this proves nothing")
    if failed:
        print(f"the logs are in {folder}, the objects in {storage}")
    else:
        shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
