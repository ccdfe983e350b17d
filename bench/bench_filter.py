#!/usr/bin/env python3
"""Filters over a million rows, alone and under a search, beside SQLite and LanceDB.

    bench/bench_filter.py [--rows 1000000] [--rounds 30] [--questions order vector]
                          [--program build/release/elacsym] [--lance-probes 60]
                          [--segment-rows 1000000] [--only-elacsym]

One set of rows goes into all three: an int from 0 to 9999 that is indexed and one that is
not, a tag, a text of 4 to 12 words, and a vector of 32 numbers near one of 5000 places. Then
every question is asked at several selectivities, the systems taking turns within a round,
each time with other words and another vector. Printed are medians of the CPU time in
milliseconds that all threads of a system took: of elacsym's process, HTTP and JSON included
(GET /health stands beside it), and of this one for the others; elacsym's time as a multiple
of the same question without a filter; and for searches, as a multiple of the larger of that
and of an exact scan of what matches, which is what a filter may cost at most.

SQLite has an index on each indexed attribute and FTS5 on the text; LanceDB (skipped where it
is not installed) has BTREE and BITMAP indexes, its own FTS, and IVF_PQ on the vectors with
as many probes and as much refinement as its recall needs. elacsym's vectors have its index,
asked for its default recall. Recall@10 of both is printed, by numpy.
"""
import argparse
import base64
import http.client
import json
import os
import pathlib
import random
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time
import warnings

import numpy

os.environ.setdefault("LANCE_LOG", "error")
try:
    import lancedb
    import pyarrow
except ImportError:
    lancedb = None

DIM, BATCH, VOCABULARY, SPAN, PLACES = 32, 10000, 20000, 10000, 5000
QUESTIONS = ("count", "order", "text", "vector")
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001, 0.0001)


class Rows:
    """Column-wise, from one seed."""

    def __init__(self, count):
        chance = numpy.random.default_rng(7)
        self.count = count
        self.indexed = chance.integers(0, SPAN, count)
        self.plain = chance.integers(0, SPAN, count)
        self.tag = chance.integers(0, 100, count)
        self.places = chance.standard_normal((PLACES, DIM), dtype=numpy.float32)
        self.vectors = self.places[chance.integers(0, PLACES, count)]
        self.vectors += chance.standard_normal((count, DIM), dtype=numpy.float32) / 2
        ranks = numpy.minimum(chance.zipf(1.2, count * 12), VOCABULARY).astype(numpy.int32)
        lengths = chance.integers(4, 13, count)
        words = [f"word{n}" for n in range(VOCABULARY + 1)]
        self.texts = [" ".join(words[n] for n in ranks[12 * i : 12 * i + lengths[i]]) for i in range(count)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Elacsym:
    name = "elacsym"

    def __init__(self, program, folder, rows, segment_rows):
        self.rows = rows
        port = free_port()
        environment = {
            **os.environ,
            "ELACSYM_SERVER_HOST": "127.0.0.1",
            "ELACSYM_SERVER_PORT": str(port),
            "ELACSYM_STORAGE_LOCAL_ROOT_PATH": str(folder / "data"),
            "ELACSYM_CACHE_DISK_PATH": str(folder / "cache"),
            "ELACSYM_COMPACTION_MAX_TOTAL_DOCS": str(segment_rows),
        }
        self.process = subprocess.Popen([program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.start(port, rows)
        except BaseException:
            self.close()
            raise

    def start(self, port, rows):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for _ in range(500):
            try:
                if self.ask("GET", "/ready", None)[0] == 200:
                    break
            except OSError:
                self.connection.close()
                time.sleep(0.02)
        self.load(rows)

    def ask(self, method, path, body):
        data = None if body is None else json.dumps(body)
        for attempt in range(2):
            try:
                self.connection.request(method, path, data, {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                return answer.status, json.loads(answer.read())
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.connection.close()  # it was idle for too long while the others loaded
        raise SystemExit("the server went away")

    def load(self, rows):
        attributes = {
            "n": {"type": "int", "indexed": True}, "m": "int", "tag": {"type": "string", "indexed": True},
            "text": {"type": "string", "full_text": {"stemming": False, "remove_stopwords": False}}}
        self.ask("PUT", "/v1/namespaces/b", {"vector_dim": DIM, "vector_metric": "l2", "attributes": attributes})
        for first in range(0, rows.count, BATCH):
            documents = [
                {"id": i, "vector": base64.b64encode(rows.vectors[i].tobytes()).decode(),
                 "attributes": {"n": int(rows.indexed[i]), "m": int(rows.plain[i]), "tag": f"tag{rows.tag[i]}", "text": rows.texts[i]}}
                for i in range(first, min(first + BATCH, rows.count))]
            while True:
                status, answer = self.ask("POST", "/v1/namespaces/b/upsert", {"documents": documents})
                if status == 200:
                    break
                if status != 429:
                    raise SystemExit(f"upsert: {status} {answer}")
                time.sleep(0.2)

    def settle(self):
        """Waits until all rows are indexed and nothing goes on in the background."""
        busy_ms = 1000
        while busy_ms > 50 or self.ask("GET", "/v1/namespaces/b", None)[1]["index"]["unindexed_rows"]:
            before = self.cpu_ms()
            time.sleep(1)
            busy_ms = self.cpu_ms() - before

    def cpu_ms(self):
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e6

    def query(self, **what):
        status, answer = self.ask("POST", "/v1/namespaces/b/query", {"include_attributes": False, "consistency": "eventual", **what})
        if status != 200:
            raise SystemExit(f"query: {status} {answer}")
        return answer

    def nothing(self):
        self.ask("GET", "/health", None)

    @staticmethod
    def below(field, limit):
        return {} if limit is None else {"filter": {"field": field, "op": "lt", "value": limit}}

    def count(self, field, limit, _):
        return self.query(count=True, top_k=1, **self.below(field, limit))["count"]

    def order(self, field, limit, _):
        return len(self.query(order_by={"field": "m" if field == "n" else "n"}, top_k=10, **self.below(field, limit))["results"])

    def text(self, field, limit, chance):
        return len(self.query(full_text={"field": "text", "query": " ".join(words_of(chance))}, top_k=10, **self.below(field, limit))["results"])

    def nearest(self, field, limit, chance, **more):
        vector = [float(x) for x in vector_of(self.rows, chance)]
        return [result["id"] for result in self.query(vector=vector, top_k=10, **self.below(field, limit), **more)["results"]]

    def vector(self, field, limit, chance):
        return len(self.nearest(field, limit, chance))

    def exact(self, field, limit, chance):
        return len(self.nearest(field, limit, chance, search={"exact": True}))

    def plan(self, question, field, limit, chance):
        ask = {"text": {"full_text": {"field": "text", "query": " ".join(words_of(chance))}},
               "vector": {"vector": [float(x) for x in vector_of(self.rows, chance)]},
               "order": {"order_by": {"field": "m" if field == "n" else "n"}}, "count": {"count": True}}[question]
        found = self.query(explain=True, **ask, **self.below(field, limit))["explain"]["filter"]
        return ", ".join(f"{plan['plan']} (of {plan['rows']} rows {plan.get('estimate', '?')} by {plan['estimated_by']})" for plan in found["plans"])

    def close(self):
        self.process.terminate()
        self.process.wait()


class InProcess:
    def cpu_ms(self):
        return time.process_time_ns() / 1e6


class Sqlite(InProcess):
    name = "SQLite"
    vector = exact = None

    def __init__(self, folder, rows):
        self.db = sqlite3.connect(folder / "rows.sqlite")
        self.db.execute("create table d (id integer primary key, n integer, m integer, tag text)")
        self.db.execute("create virtual table t using fts5(text, content='')")
        self.db.executemany("insert into d values (?, ?, ?, ?)", (
            (i, int(rows.indexed[i]), int(rows.plain[i]), f"tag{rows.tag[i]}") for i in range(rows.count)))
        self.db.executemany("insert into t(rowid, text) values (?, ?)", ((i, rows.texts[i]) for i in range(rows.count)))
        self.db.execute("create index d_n on d(n)")
        self.db.execute("create index d_tag on d(tag)")
        self.db.execute("analyze")
        self.db.commit()

    @staticmethod
    def where(field, limit, word="where"):
        return "" if limit is None else f" {word} {field} < {limit}"

    def count(self, field, limit, _):
        return self.db.execute("select count(*) from d" + self.where(field, limit)).fetchone()[0]

    def order(self, field, limit, _):
        other = "m" if field == "n" else "n"
        return len(self.db.execute(f"select id from d{self.where(field, limit)} order by {other}, id limit 10").fetchall())

    def text(self, field, limit, chance):
        ask = "select t.rowid from t join d on d.id = t.rowid where t match ?" if limit is not None else "select rowid from t where t match ?"
        ask += self.where(field, limit, "and") + " order by bm25(t) limit 10"
        return len(self.db.execute(ask, (" OR ".join(words_of(chance)),)).fetchall())

    def close(self):
        self.db.close()


class Lance(InProcess):
    name = "LanceDB"

    def __init__(self, folder, rows, probes):
        self.rows, self.probes = rows, probes
        db = lancedb.connect(str(folder / "lance"))
        flat = pyarrow.array(rows.vectors.reshape(-1))
        table = pyarrow.table({
            "id": pyarrow.array(range(rows.count)), "n": pyarrow.array(rows.indexed), "m": pyarrow.array(rows.plain),
            "tag": pyarrow.array([f"tag{n}" for n in rows.tag]), "text": pyarrow.array(rows.texts),
            "vector": pyarrow.FixedSizeListArray.from_arrays(flat, DIM)})
        self.table = db.create_table("d", table)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.table.create_scalar_index("n", index_type="BTREE")
            self.table.create_scalar_index("tag", index_type="BITMAP")
            self.table.create_index(metric="l2", vector_column_name="vector", index_type="IVF_PQ", num_partitions=1000, num_sub_vectors=16)
            self.table.create_fts_index("text", use_tantivy=False, stem=False, remove_stop_words=False)
        self.table.optimize()

    @staticmethod
    def below(query, field, limit):
        return query if limit is None else query.where(f"{field} < {limit}", prefilter=True)

    def count(self, field, limit, _):
        return self.table.count_rows(None if limit is None else f"{field} < {limit}")

    order = exact = None

    def text(self, field, limit, chance):
        query = self.table.search(" ".join(words_of(chance)), query_type="fts", fts_columns="text")
        return self.below(query, field, limit).select(["id", "_score"]).limit(10).to_arrow().num_rows

    def nearest(self, field, limit, chance):
        query = self.table.search(vector_of(self.rows, chance), vector_column_name="vector").nprobes(self.probes).refine_factor(10)
        return self.below(query, field, limit).select(["id", "_distance"]).limit(10).to_arrow()["id"].to_pylist()

    def vector(self, field, limit, chance):
        return len(self.nearest(field, limit, chance))

    def close(self):
        pass


def words_of(chance):
    return [f"word{chance.randrange(5, 400)}" for _ in range(3)]


def vector_of(rows, chance):
    place = rows.places[chance.randrange(PLACES)]
    return numpy.array([x + chance.gauss(0, 1) / 2 for x in place], dtype=numpy.float32)


def recall(systems, rows, field, limit, rounds):
    """Of the ten nearest that match, the part that each system finds."""
    ids = numpy.arange(rows.count) if limit is None else numpy.flatnonzero((rows.indexed if field == "n" else rows.plain) < limit)
    found = {system.name: 0 for system in systems if system.vector}
    for number in range(rounds):
        distances = ((rows.vectors[ids] - vector_of(rows, random.Random(number))) ** 2).sum(axis=1)
        last = min(10, len(ids)) - 1
        bound = numpy.partition(distances, last)[last] * (1 + 1e-5)
        near = set(ids[distances <= bound].tolist())
        for system in systems:
            if system.vector:
                found[system.name] += len(near & set(system.nearest(field, limit, random.Random(number)))) / (last + 1) / rounds
    return found


def measure(systems, question, field, limit, rounds):
    """Medians in ms by system, and what they answered, which has to agree where it can."""
    times = {system.name: [] for system in systems}
    answers = {}
    for number in range(rounds):
        for system in systems:
            ask = getattr(system, question)
            if ask is None:
                continue
            chance = random.Random(number)
            start = system.cpu_ms()
            answers[system.name] = ask(field, limit, chance)
            times[system.name].append(system.cpu_ms() - start)
    assert len(set(answers.values())) == 1, (question, field, limit, answers)
    return {name: statistics.median(values) for name, values in times.items() if values}


def report(systems, rows, question, field, kind, rounds):
    names = [system.name for system in systems]
    print(f"\n{question}, filter on an attribute that is {kind}: ms of CPU time")
    print(f"{'selectivity':>12} " + " ".join(f"{name:>9}" for name in names) + "   filtered / unfiltered" +
          ("   exact scan   filtered / larger of both   recall" if question == "vector" else ""))
    whole = measure(systems, question, field, None, rounds)
    for part in (None, *SELECTIVITIES):
        limit = None if part is None else int(SPAN * part)
        found = whole if part is None else measure(systems, question, field, limit, rounds)
        cells = " ".join(f"{found[name]:9.2f}" if name in found else f"{'-':>9}" for name in names)
        share = "no filter" if part is None else f"{100 * part:g} %"
        line = f"{share:>12} {cells}   {found['elacsym'] / whole['elacsym']:.2f}"
        if question == "vector":
            scan = measure(systems[:1], "exact", field, limit, rounds)["elacsym"]
            shares = recall(systems, rows, field, limit, rounds)
            line += f"   {scan:9.2f}   {found['elacsym'] / max(whole['elacsym'], scan):.2f}   "
            line += ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
        print(line, flush=True)
    for part in SELECTIVITIES:
        print(f"plan at {100 * part:g} %:", systems[0].plan(question, field, int(SPAN * part), random.Random(1)))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=1000000)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--questions", nargs="+", choices=QUESTIONS, default=QUESTIONS)
    options.add_argument("--program", default="build/release/elacsym")
    options.add_argument("--lance-probes", type=int, default=60)
    options.add_argument("--segment-rows", type=int, default=1000000, help="up to which segments are merged")
    options.add_argument("--only-elacsym", action="store_true")
    options = options.parse_args()
    rows = Rows(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        systems = []
        for make in (lambda: Elacsym(options.program, folder, rows, options.segment_rows), lambda: None if options.only_elacsym else Sqlite(folder, rows),
                     lambda: Lance(folder, rows, options.lance_probes) if lancedb and not options.only_elacsym else None):
            start = time.perf_counter()
            system = make()
            if system:
                systems.append(system)
                print(f"{system.name}: loaded {rows.count} rows in {time.perf_counter() - start:.0f} s", flush=True)
        if not lancedb:
            print("LanceDB is not installed: left out", flush=True)
        start = time.perf_counter()
        systems[0].settle()
        print(f"{systems[0].name}: indexed after {time.perf_counter() - start:.0f} s more", flush=True)
        try:
            trips = []
            for _ in range(200):
                start = systems[0].cpu_ms()
                systems[0].nothing()
                trips.append(systems[0].cpu_ms() - start)
            print(f"GET /health: {statistics.median(trips):.3f} ms of CPU time")
            for question in options.questions:
                for field, kind in (("n", "indexed"), ("m", "not indexed")):
                    report(systems, rows, question, field, kind, options.rounds)
        finally:
            for system in systems:
                system.close()


if __name__ == "__main__":
    main()
