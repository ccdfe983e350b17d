#!/usr/bin/env python3
"""Documents loaded through HTTP for long, with queries beside it: documents a second, query times
and memory over time.

    bench/bench_ingest.py [--count 1000000] [--memory-mib 2048] [--svg FILE] [--peers N]

A node of its own in a folder of its own. Each document has a 768-d vector, a text of 40 words,
an indexed string, an indexed number and a price. One client writes batches of 500, as quickly as
it is answered; another asks 20 queries a second, in turn of vectors, words, both, and vectors
under a filter. What is measured comes in this order:

  loading   until the last document is acknowledged; queries of its first third are told apart (warming)
  settling  until all is indexed and merges are over
  warm-up   the queries go on for 20 s, not counted
  idle      and for 30 s more
  log       a minute after the last write: objects of the log that segments have replaced

With --peers 100000 so many of the same documents are loaded by LanceDB and qdrant-edge (PyPI: lancedb,
qdrant-edge-py) in this process, and they are asked for vectors between the batches and once indexed.
"""
import argparse
import base64
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
import elacsym  # noqa: E402

DIM = 768
BATCH = 500
WORDS = [f"w{i}" for i in range(50000)]
QUERIES_A_SECOND = 20
KINDS = ["vector", "text", "both", "filtered"]
SCHEMA = {
    "vector_dim": DIM,
    "vector_metric": "cosine",
    "attributes": {
        "text": {"type": "string", "full_text": True},
        "source": {"type": "string", "indexed": True},
        "year": {"type": "int", "indexed": True},
        "price": {"type": "float"},
    },
}


class Documents:
    """Vectors around 1000 centers; words of which few are frequent."""

    def __init__(self, seed):
        self.random = numpy.random.default_rng(seed)
        self.centers = numpy.random.default_rng(1).standard_normal((1000, DIM), dtype="f4")

    def vectors(self, count):
        spread = self.random.standard_normal((count, DIM), dtype="f4")
        return self.centers[self.random.integers(0, 1000, count)] + spread

    def texts(self, count, words=40):
        numbers = (self.random.random((count, words)) ** 3 * len(WORDS)).astype(int)
        return [" ".join([WORDS[n] for n in row]) for row in numbers]

    def batch(self, first, count):
        years = self.random.integers(1900, 2025, count)
        return {
            "documents": [
                {
                    "id": first + i,
                    "vector": base64.b64encode(vector.tobytes()).decode(),
                    "attributes": {
                        "text": text,
                        "source": f"source-{(first + i) % 5000}",
                        "year": int(years[i]),
                        "price": float(years[i]) / 100,
                    },
                }
                for i, (vector, text) in enumerate(zip(self.vectors(count), self.texts(count)))
            ]
        }

    def query(self, number):
        kind = KINDS[number % len(KINDS)]
        query = {"top_k": 10}
        if kind != "text":
            query["vector"] = base64.b64encode(self.vectors(1)[0].tobytes()).decode()
        if kind in ("text", "both"):
            query["full_text"] = {"field": "text", "query": self.texts(1, 3)[0]}
        if kind == "filtered":
            query["filter"] = {"field": "year", "op": "lt", "value": 1925}
        return kind, query


def write_all(port, count, progress):
    """A process: the writer. progress holds the number of documents acknowledged. It makes its documents
    with the processor that others leave: a client on a machine of its own would take none of this one's."""
    os.nice(10)
    client = elacsym.Client(port)
    documents = Documents(2)
    first = 0
    while first < count:
        body = json.dumps(documents.batch(first, min(BATCH, count - first)), separators=(",", ":")).encode()
        while True:
            answer = client.ask("POST", "/v1/namespaces/load/upsert", body, {"Content-Type": "application/json"})
            if answer.status == 200:
                break
            if answer.status != 429:
                raise SystemExit(f"upsert: {answer}")
            progress[1] += 1
            time.sleep(0.1)
        first = min(first + BATCH, count)
        progress[0] = first


def ask_all(port, stop, times):
    """A process: the reader. Puts (when, kind, seconds, status) into times. As root it gets the processor
    before others: a client on a machine of its own would not wait for this one's."""
    if os.geteuid() == 0:
        os.nice(-10)
    client = elacsym.Client(port)
    documents = Documents(3)
    number = 0
    due = time.time()
    while not stop.is_set():
        kind, query = documents.query(number)
        body = json.dumps(query).encode()
        began = time.perf_counter()
        status = client.ask("POST", "/v1/namespaces/load/query", body, {"Content-Type": "application/json"}).status
        times.put((time.time(), kind, time.perf_counter() - began, status))
        number += 1
        due = max(due + 1 / QUERIES_A_SECOND, time.time() - 1)
        time.sleep(max(0, due - time.time()))


def metric(client, name):
    total = 0.0
    for line in client.get("/metrics").content.decode().splitlines():
        if line.startswith(name) and line[len(name)] in " {":
            total += float(line.rsplit(" ", 1)[1])
    return total


def memory_of(pid):
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))] if values else float("nan")


class Run:
    def __init__(self, server, count):
        self.server, self.count = server, count
        self.client = server.client()
        self.samples = []  # (seconds, phase, acknowledged, segments, tail rows, RSS, heap)
        self.times = []  # (seconds, phase, kind, seconds, status)
        self.phase = "loading"
        self.used = []  # (when, processor seconds of the server)
        self.queue = multiprocessing.Queue()
        self.stop = multiprocessing.Event()
        self.progress = multiprocessing.Array("q", 2)
        self.began = time.time()

    def watch(self):
        """A sample, and the answers since the last one."""
        while not self.queue.empty():
            when, kind, seconds, status = self.queue.get()
            self.times.append((when - self.began, self.phase, kind, seconds, status))
        rss, heap = memory_of(self.server.process.pid)
        self.samples.append((time.time() - self.began, self.phase, self.progress[0], metric(self.client, "elacsym_segments"),
                             metric(self.client, "elacsym_unindexed_rows"), rss, heap))

    def go(self, phase, over, step=0.5):
        self.phase = phase
        began = time.time()
        while not over(time.time() - began):
            time.sleep(step)
            self.watch()

    def settled(self):
        """All is indexed, and for 10 s the server took less than half a processor: no merge runs any more."""
        now, used = time.time(), processor_seconds(self.server.process.pid)
        self.used.append((now, used))
        waiting = self.client.namespace("load").info()["index"]["unindexed_rows"]
        before = [u for when, u in self.used if now - 12 < when < now - 10]
        return not waiting and bool(before) and used - before[0] < 5

    def all(self):
        self.client.namespace("load").create(**SCHEMA)
        writer = multiprocessing.Process(target=write_all, args=(self.server.port, self.count, self.progress))
        reader = multiprocessing.Process(target=ask_all, args=(self.server.port, self.stop, self.queue))
        writer.start()
        reader.start()
        self.go("loading", lambda s: not writer.is_alive())
        self.loaded = time.time() - self.began
        if writer.exitcode:
            raise SystemExit("the writer failed: " + self.server.log()[-1000:])
        self.go("settling", lambda s: self.settled())
        self.go("warm-up", lambda s: s > 20)
        self.go("idle", lambda s: s > 30)
        self.stop.set()
        self.go("rest", lambda s: not reader.is_alive())


def line_of(name, values):
    return f"{name:<10}" + "".join(f"{value:>12}" for value in values)


def phase_of(run, answered):
    """Of loading, the first third is the caches' warm-up."""
    return "warming" if answered[1] == "loading" and answered[0] < run.loaded / 3 else answered[1]


def report(run, memory_mib):
    loaded = [s for s in run.samples if s[1] == "loading"]
    print(f"{run.count} documents acknowledged in {run.loaded:.0f} s: {run.count / run.loaded:.0f} a second; "
          f"{run.progress[1]} answers of 429")
    print(line_of("loaded", ["docs/s", "p50 ms", "p99 ms", "queries", "segments", "tail rows", "RSS MiB", "heap MiB"]))
    for part in range(10):
        low, high = run.loaded * part / 10, run.loaded * (part + 1) / 10
        inside = [s for s in loaded if low <= s[0] < high]
        times = [t[3] * 1000 for t in run.times if low <= t[0] < high]
        if not inside:
            continue
        print(line_of(f"{part * 10}%", [f"{(inside[-1][2] - inside[0][2]) / max(inside[-1][0] - inside[0][0], 1e-9):.0f}",
                                        f"{quantile(times, .5):.1f}", f"{quantile(times, .99):.1f}", len(times), f"{inside[-1][3]:.0f}",
                                        f"{inside[-1][4]:.0f}", f"{max(s[5] for s in inside):.0f}", f"{max(s[6] for s in inside):.0f}"]))
    print(line_of("phase", ["kind", "p50 ms", "p99 ms", "queries", "not 200"]))
    for phase in ("warming", "loading", "settling", "idle"):
        for kind in [*KINDS, "all"]:
            times = [t for t in run.times if phase_of(run, t) == phase and kind in (t[2], "all")]
            ms = [t[3] * 1000 for t in times]
            print(line_of(phase, [kind, f"{quantile(ms, .5):.1f}", f"{quantile(ms, .99):.1f}", len(ms), sum(t[4] != 200 for t in times)]))
    tail, merged = (metric(run.client, f'elacsym_index_bytes_total{{from="{kind}"}}') for kind in ("tail", "segments"))
    for kind, size in (("tail", tail), ("segments", merged)):
        seconds, jobs = (metric(run.client, f'elacsym_index_seconds_{what}{{from="{kind}"}}') for what in ("sum", "count"))
        print(f"from {kind}: {jobs:.0f} jobs, {size / 2**20:.0f} MiB written in {seconds:.0f} s, {size / 2**20 / max(seconds, 1e-9):.0f} MiB a second")
    print(f"write amplification of segments {(tail + merged) / max(tail, 1):.2f}; largest heap {max(s[6] for s in run.samples):.0f} MiB, "
          f"resident {max(s[5] for s in run.samples):.0f} MiB, cache.memory_size {memory_mib} MiB")


def log_objects(server):
    return sum(1 for _ in (server.root / "data" / "wal").rglob("*.wal"))


# ---- the plot ----

COLORS = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df"]


def polyline(points, box, top, right, color):
    x, y, width, height = box
    coordinates = " ".join(f"{x + p[0] / right * width:.1f},{y + height - min(p[1], top) / top * height:.1f}" for p in points)
    return f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{coordinates}"/>'


def panel(title, unit, curves, box, right):
    x, y, width, height = box
    top = max([p[1] for _, points in curves for p in points] + [1e-9]) * 1.05
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
             f'<text x="{x}" y="{y - 6}">{title}</text>',
             f'<text x="{x - 6}" y="{y + 10}" text-anchor="end">{top:.0f} {unit}</text>']
    for i, (name, points) in enumerate(curves):
        parts.append(polyline(points, box, top, right, COLORS[i % len(COLORS)]))
        parts.append(f'<text x="{x + width - 4}" y="{y + 14 + 14 * i}" text-anchor="end" fill="{COLORS[i % len(COLORS)]}">{name}</text>')
    return parts


def plot(run, path):
    step = max(run.samples[-1][0] / 120, 1)
    right = run.samples[-1][0]
    slots = [(i * step, (i + 1) * step) for i in range(int(right / step))]
    rates, quantiles = [], {.5: [], .99: []}
    for low, high in slots:
        inside = [s for s in run.samples if low <= s[0] < high]
        if len(inside) > 1:
            rates.append((low, (inside[-1][2] - inside[0][2]) / (inside[-1][0] - inside[0][0])))
        times = [t[3] * 1000 for t in run.times if low - 2 * step <= t[0] < high + 2 * step]
        for q in quantiles:
            if times:
                quantiles[q].append((low, quantile(times, q)))
    memory = [(s[0], s[5]) for s in run.samples], [(s[0], s[6]) for s in run.samples]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="900" height="640" font-family="sans-serif" font-size="12">',
             '<rect width="900" height="640" fill="white"/>']
    parts += panel("documents a second", "", [("acknowledged", rates)], (90, 30, 780, 160), right)
    parts += panel("queries, ms", "ms", [("p50", quantiles[.5]), ("p99", quantiles[.99])], (90, 230, 780, 160), right)
    parts += panel("memory, MiB", "MiB", [("resident", memory[0]), ("of it heap", memory[1])], (90, 430, 780, 160), right)
    parts.append(f'<text x="90" y="615">{right:.0f} s; loading ends at {run.loaded:.0f} s</text></svg>')
    path.write_text("\n".join(parts))


# ---- peers ----

def rows_of(documents, first, count):
    """Vectors, texts, sources, years, as a batch has them."""
    return (documents.vectors(count), documents.texts(count), [f"source-{(first + i) % 5000}" for i in range(count)],
            documents.random.integers(1900, 2025, count))


def peer(name, count, add, finish, ask):
    """Loads documents, with five queries for vectors behind each batch, builds the index, and asks 500 more."""
    documents, spent, asked = Documents(2), 0, {"loading": [], "indexed": []}

    def timed(call, *arguments):
        began = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - began

    for first in range(0, count, 5 * BATCH):
        rows = rows_of(documents, first, min(5 * BATCH, count - first))
        spent += timed(add, first, *rows)
        asked["loading"] += [timed(ask, vector) * 1000 for vector in documents.vectors(5)]
    built = timed(finish)
    asked["indexed"] = [timed(ask, vector) * 1000 for vector in documents.vectors(500)]
    print(f"{name}: {count / spent:.0f} documents a second in process, then {built:.0f} s for its indexes; "
          + "; ".join(f"queries {when} p50 {quantile(ms, .5):.1f} ms, p99 {quantile(ms, .99):.1f} ms" for when, ms in asked.items()), flush=True)


def lance(count, folder):
    import lancedb
    import pyarrow

    state = {}

    def add(first, vectors, texts, sources, years):
        items = pyarrow.array(vectors.reshape(-1))
        rows = pyarrow.table({"id": pyarrow.array(range(first, first + len(vectors))),
                              "vector": pyarrow.FixedSizeListArray.from_arrays(items, DIM),
                              "text": texts, "source": sources, "year": pyarrow.array(years)})
        if "table" in state:
            state["table"].add(rows)
        else:
            state["table"] = lancedb.connect(folder).create_table("load", rows)

    def finish():
        state["table"].create_index(metric="cosine", vector_column_name="vector", index_type="IVF_RQ")
        state["table"].create_fts_index("text")
        state["table"].create_scalar_index("year")

    peer("LanceDB " + lancedb.__version__, count, add, finish,
         lambda v: state["table"].search(v).distance_type("cosine").select(["id", "text", "source", "year", "_distance"]).limit(10).to_list())


def qdrant(count, folder):
    import importlib.metadata

    import qdrant_edge as q

    pathlib.Path(folder).mkdir()
    shard = q.EdgeShard.create(folder, q.EdgeConfig(vectors=q.EdgeVectorParams(size=DIM, distance=q.Distance.Cosine)))

    def add(first, vectors, texts, sources, years):
        points = [q.Point(first + i, vector, {"text": text, "source": source, "year": int(year)})
                  for i, (vector, text, source, year) in enumerate(zip(vectors.tolist(), texts, sources, years))]
        shard.update(q.UpdateOperation.upsert_points(points))

    peer("qdrant-edge " + importlib.metadata.version("qdrant-edge-py"), count, add, shard.optimize,
         lambda v: shard.search(q.SearchRequest(query=q.Query.Nearest(v.tolist()), limit=10, with_payload=True)))
    shard.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--peers", type=int, default=0)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ingest-", dir=options.folder)).resolve()
    server = elacsym.Server(folder, ELACSYM_CACHE_MEMORY_SIZE=str(options.memory_mib << 20), ELACSYM_TAIL_INDEX_IDLE_SECS="5")
    try:
        server.start()
        run = Run(server, options.count)
        run.all()
        report(run, options.memory_mib)
        if options.svg:
            plot(run, options.svg)
        time.sleep(max(0, run.began + run.loaded + 60 - time.time()))
        print(f"a minute later: {metric(run.client, 'elacsym_wal_objects'):.0f} log objects that no segment has replaced, "
              f"{log_objects(server)} log objects in the store (fences stay), {metric(run.client, 'elacsym_gc_failures_total'):.0f} "
              f"deletions failed, {run.client.namespace('load').info()['document_count']} documents")
        server.stop()
        if options.peers:
            lance(options.peers, str(folder / "lance"))
            qdrant(options.peers, str(folder / "qdrant"))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
