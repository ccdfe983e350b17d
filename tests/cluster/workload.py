"""Writers and readers that keep a cluster busy and remember what they were told.

Each writer owns a range of ids of one namespace. A batch writes its number to a run of
these ids, or deletes them, under an Idempotency-Key; what has no clear answer is sent
again, with its key and to another node, until it is acknowledged. So at any time one
batch of a writer is in doubt, and every id must hold the number of the last acknowledged
batch that touched it, or of that one.

Readers read strongly, at every kind of node. What they check:
  content  an id is never older than what was acknowledged before the read began;
  order    every acknowledgement and every strong read carries its place in the log
           (X-Elacsym-Commit). Whatever began after another had ended is not behind it.

Contenders write and read a few documents that all of them share. All that anybody did and
was told is recorded, and at the end checked once more, document by document, by a checker
that knows nothing but these records (tests/history). ELACSYM_HISTORY names a folder where
they are kept.
"""
import http.client
import json
import os
import pathlib
import random
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "history"))
import history  # noqa: E402

IDS = 100
SHARED_FIRST, SHARED = 10**6, 6
RUN_MAX = 8
TIMEOUT_S = 8


class NoAnswer(Exception):
    pass


def ask(port, method, path, body=None, headers=None, timeout=TIMEOUT_S):
    """Status, headers and JSON of the answer; NoAnswer when there was none. port: also a pair, with the host."""
    host, port = port if isinstance(port, tuple) else ("127.0.0.1", port)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        text = None if body is None else json.dumps(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, text, {**kind, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, answer.headers, json.loads(content) if is_json and content else {}
    except (http.client.HTTPException, OSError) as broken:
        raise NoAnswer(repr(broken)) from broken
    finally:
        connection.close()


def query_of(ids):
    """A strong read of these documents, a range, in one step."""
    bounds = [{"field": "id", "op": "gte", "value": ids.start}, {"field": "id", "op": "lt", "value": ids.stop}]
    return {"filter": {"type": "and", "conditions": bounds}, "top_k": 2 * len(ids), "include_attributes": ["value"]}


def place(headers):
    """(incarnation, slot) of a commit token, or None."""
    token = headers.get("X-Elacsym-Commit")
    if not token:
        return None
    raw = bytes.fromhex(token)
    epoch, slot = struct.unpack_from("<QQ", raw, 17)
    return raw[1:17], -1 if slot == 2**64 - 1 else slot


class History:
    """Places in the log with the time at which they were asked for and told."""

    def __init__(self):
        self.events, self.lock = [], threading.Lock()

    def add(self, what, began, ended, at):
        if at:
            with self.lock:
                self.events.append((began, ended, at[1], what, at[0]))

    def anomalies(self):
        """Sentences about events that began after another had ended and lie before it."""
        found = []
        with self.lock:
            events = list(self.events)
        for incarnation in {e[4] for e in events}:
            mine = [e for e in events if e[4] == incarnation]
            by_end = sorted(mine, key=lambda e: e[1])
            newest, index = None, 0
            for event in sorted(mine):
                while index < len(by_end) and by_end[index][1] < event[0]:
                    if newest is None or by_end[index][2] > newest[2]:
                        newest = by_end[index]
                    index += 1
                if newest and event[2] < newest[2]:
                    found.append(f"{event[3]} at slot {event[2]}, after {newest[3]} at {newest[2]} had ended")
        return found


class Writer(threading.Thread):
    def __init__(self, load, number, namespace):
        super().__init__(daemon=True)
        self.load, self.number, self.namespace = load, number, namespace
        self.random = random.Random(f"{load.seed}-{number}")
        self.first = number * IDS
        self.batches = self.repeats = 0
        self.lock = threading.Lock()  # guards what follows
        self.acked = {}  # id -> number of the batch, negative: it deletes
        self.open = None  # the batch in doubt
        self.deleted = {}  # id -> number of the last batch sent that deletes it

    def make(self):
        self.batches += 1
        start = self.first + self.random.randrange(IDS - RUN_MAX)
        ids = list(range(start, start + self.random.randint(1, RUN_MAX)))
        sign = -1 if self.random.random() < 0.15 else 1
        return {"key": f"{self.load.seed}-{self.number}-{self.batches}", "ids": ids, "value": sign * self.batches}

    def send(self, batch):
        """True: acknowledged."""
        if batch["value"] < 0:
            path, body = "delete", {"ids": batch["ids"]}
        else:
            value = batch["value"]
            path, body = "upsert", {
                "documents": [
                    {"id": i, "vector": [float(value), float(i)], "attributes": {"value": value}} for i in batch["ids"]
                ]
            }
        port = self.random.choice(self.load.write_ports())
        status, headers, answer = ask(
            port, "POST", f"/v1/namespaces/{self.namespace}/{path}", body, {"Idempotency-Key": batch["key"]}
        )
        self.load.count("write", status)
        if status == 200:
            # What is repeated with its key is answered with the place of its first time.
            self.load.history.add(f"write {batch['key']}", batch["began"], time.monotonic(), place(headers))
            return True
        if status not in self.load.bearable:
            self.load.complain(f"batch {batch['key']}: {status} {answer}")
        return False

    def run(self):
        while not self.load.stopping.is_set():
            batch = {**self.make(), "began": time.monotonic()}
            with self.lock:
                self.open = batch
                if batch["value"] < 0:
                    self.deleted.update({i: self.batches for i in batch["ids"]})
            if not self.settle():
                return

    def settle(self):
        """Until the open batch is acknowledged; False when time is up."""
        while self.open:
            try:
                done = self.send(self.open)
            except NoAnswer:
                self.load.count("write", 0)
                done = False
            if done:
                with self.lock:
                    self.acked.update({i: self.open["value"] for i in self.open["ids"]})
                    batch, self.open = self.open, None
                self.record(batch, time.monotonic())
                return True
            self.repeats += 1
            if self.load.given_up():
                self.record(self.open)
                return False
            time.sleep(self.random.uniform(0.01, 0.1))
        return True

    def record(self, batch, *answer):
        value = batch["value"] if batch["value"] > 0 else None
        keys = [(self.namespace, i) for i in batch["ids"]]
        self.load.recorder.write(f"writer-{self.number}", keys, value, batch["began"], *answer)

    def may_hold(self, i, value, known):
        """Could id i hold value (None: absent) after batch `known` was acknowledged? Numbers only grow."""
        with self.lock:
            if value is None:
                return self.deleted.get(i, 0) >= abs(known)
            return abs(known) <= value <= self.batches


class Reader(threading.Thread):
    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.random = load, random.Random(f"{load.seed}-reader-{number}")

    def run(self):
        while not self.load.stopping.is_set():
            w = self.random.choice(self.load.writers)
            with w.lock:
                known = dict(w.acked)
            if not known:
                time.sleep(0.01)
                continue
            first = self.random.choice(list(known))
            ids = range(first, min(first + RUN_MAX, w.first + IDS))
            port = self.random.choice(self.load.read_ports())
            began = time.monotonic()
            try:
                status, headers, answer = ask(port, "POST", f"/v1/namespaces/{w.namespace}/query", query_of(ids))
            except NoAnswer:
                self.load.count("read", 0)
                continue
            self.load.count("read", status)
            if status == 200:
                self.load.history.add(f"read of {w.namespace}", began, time.monotonic(), place(headers))
                found = self.load.record_documents(self.name, w.namespace, ids, answer, began)
                for i in known.keys() & ids:
                    if not w.may_hold(i, found.get(i), known[i]):
                        self.load.complain(f"stale: id {i} is {found.get(i)} after {known[i]}, at {headers.get('X-Elacsym-Node')}")
            elif status not in self.load.bearable:
                self.load.complain(f"read of ids from {first}: {status} {answer}")


class Contender(threading.Thread):
    """Writes documents that others write too, and reads them, wherever it may."""

    def __init__(self, load, number, namespace):
        super().__init__(daemon=True)
        self.load, self.number, self.namespace = load, number, namespace
        self.random = random.Random(f"{load.seed}-contender-{number}")
        self.client = f"contender-{number}"

    def run(self):
        turn = 0
        while not self.load.stopping.is_set():
            turn += 1
            self.write(turn)
            for _ in range(self.random.randrange(3)):
                self.read()

    def path(self, what):
        return f"/v1/namespaces/{self.namespace}/{what}"

    def write(self, turn):
        """
        Every value is written by one operation only, which is repeated until it is acknowledged. One answer in
        five is as good as lost, and the operation repeated a little later: it must not happen again.
        """
        i = SHARED_FIRST + self.random.randrange(SHARED)
        value = (turn * 1000 + self.number) * 1000 + i % 1000
        body = {"documents": [{"id": i, "attributes": {"value": value}}]}
        key = {"Idempotency-Key": f"{self.load.seed}-{self.client}-{turn}"}
        began = time.monotonic()
        while True:
            try:
                status, headers, answer = ask(self.random.choice(self.load.write_ports()), "POST", self.path("upsert"), body, key)
            except NoAnswer:
                status, answer = 0, {}
            self.load.count("write", status)
            if status == 200 and self.random.random() < 0.8:
                self.load.recorder.write(self.client, [(self.namespace, i)], value, began, time.monotonic())
                return
            if status not in (0, 200, *self.load.bearable):
                self.load.complain(f"{self.client}: {status} {answer}")
            if self.load.given_up() or self.load.stopping.is_set():
                self.load.recorder.write(self.client, [(self.namespace, i)], value, began)
                return
            time.sleep(self.random.uniform(0.01, 0.3))

    def read(self):
        ids = range(SHARED_FIRST, SHARED_FIRST + SHARED)
        began = time.monotonic()
        try:
            status, _, answer = ask(self.random.choice(self.load.read_ports()), "POST", self.path("query"), query_of(ids))
        except NoAnswer:
            status = 0
        self.load.count("read", status)
        if status == 200:
            self.load.record_documents(self.client, self.namespace, ids, answer, began)
        elif status not in (0, *self.load.bearable):
            self.load.complain(f"{self.client}: {status} {answer}")


class Workload:
    """Use it in a with statement; check() afterwards."""

    bearable = (409, 429, 502, 503, 504)  # a client repeats these
    explained = 0  # operations on documents that went to the checker, of all workloads

    def __init__(self, namespaces, write_ports, read_ports, seed, writers_each=2, readers=3, contenders_each=1, patience_s=60):
        """*_ports are called for each request: the ports of nodes that may be asked now."""
        self.namespaces, self.seed = namespaces, seed
        self.write_ports, self.read_ports, self.patience_s = write_ports, read_ports, patience_s
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.wrong, self.counts, self.stopped = [], {}, None
        self.history, self.recorder = History(), history.Recorder()
        names = [n for n in namespaces for _ in range(writers_each)]
        self.writers = [Writer(self, number, name) for number, name in enumerate(names)]
        self.readers = [Reader(self, number) for number in range(readers)]
        names = [n for n in namespaces for _ in range(contenders_each)]
        self.contenders = [Contender(self, number, name) for number, name in enumerate(names)]

    def complain(self, sentence):
        with self.lock:
            if len(self.wrong) < 50:
                self.wrong.append(sentence)

    def count(self, kind, status):
        with self.lock:
            self.counts[kind, status] = self.counts.get((kind, status), 0) + 1

    def given_up(self):
        return self.stopped is not None and time.monotonic() - self.stopped > self.patience_s

    def record_documents(self, client, namespace, ids, answer, began):
        """What a strong query says about these ids."""
        found = {}
        for result in answer["results"]:
            if result["id"] in found:
                self.complain(f"id {result['id']} of {namespace} is there twice")
            found[result["id"]] = result["attributes"]["value"]
        for i in ids:
            self.recorder.read(client, (namespace, i), found.get(i), began)
        return found

    def __enter__(self):
        for thread in (*self.writers, *self.readers, *self.contenders):
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped = time.monotonic()
        self.stopping.set()
        for thread in (*self.writers, *self.readers, *self.contenders):
            thread.join()

    @property
    def acknowledged(self):
        return self.counts.get(("write", 200), 0)

    @property
    def reads(self):
        return self.counts.get(("read", 200), 0)

    def look(self, ports):
        """Everything as acknowledged, at every one of these ports? Returns what is not, as sentences."""
        return [sentence for port in ports for name in self.namespaces for sentence in self._check_content(port, name)]

    def check(self, ports):
        """Returns all that is wrong, as sentences."""
        wrong = [f"batch {w.open['key']} was never acknowledged" for w in self.writers if w.open] + self.look(ports)
        Workload.explained += len(self.recorder.ops)
        folder = os.environ.get("ELACSYM_HISTORY")
        if folder:
            self.recorder.save(pathlib.Path(folder) / f"cluster-{self.namespaces[0]}-{self.seed}.jsonl")
        return list(self.wrong) + self.history.anomalies() + wrong + history.check(self.recorder.ops)

    def _check_content(self, port, namespace):
        query = {"order_by": {"field": "id"}, "top_k": 10000, "include_attributes": ["value"]}
        end = time.monotonic() + self.patience_s
        while True:
            began = time.monotonic()
            try:
                status, _, answer = ask(port, "POST", f"/v1/namespaces/{namespace}/query", query)
            except NoAnswer as no:
                status, answer = 0, str(no)
            if status == 200:
                break
            if time.monotonic() > end:
                return [f"the last listing of {namespace}: {status} {answer}"]
            time.sleep(0.1)
        writers = [w for w in self.writers if w.namespace == namespace]
        ids = [*range(SHARED_FIRST, SHARED_FIRST + SHARED), *(i for w in writers for i in range(w.first, w.first + IDS))]
        found = self.record_documents(f"last look at {port}", namespace, ids, answer, began)
        wrong = []
        for w in writers:
            for i in range(w.first, w.first + IDS):
                expected = w.acked.get(i, 0)
                if found.get(i) != (expected if expected > 0 else None):
                    wrong.append(f"lost: id {i} of {namespace} is {found.get(i)} instead of {expected}")
        return wrong

    def __str__(self):
        told = ", ".join(f"{n} {kind}s {status or 'unanswered'}" for (kind, status), n in sorted(self.counts.items()))
        return f"seed {self.seed}: {told}; {len(self.history.events)} places in the log, {len(self.recorder.ops)} operations on documents"
