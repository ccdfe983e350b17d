#!/usr/bin/env python3
"""Query times while segments merge, beside those of the idle node, in one run.

    bench/bench_throttle.py [--count 60000] [--seconds 15] [--clients 1,4] [--rate 0] [--loaded DIR]

A node of its own with so many documents (768-d vectors, a text of 40 words, attributes, as
bench_ingest.py has them) in one segment. Clients ask in turn for vectors, words, both, and vectors
under a filter, each as quickly as it is answered, or `rate` times a second. Idle and merging take
turns: while it merges, a few documents join the large segment again and again, so that
the merger has no pause. With --loaded the documents are loaded once, into that folder, and found there
the next time. ELACSYM_BINARY picks the program.

A line for all queries and one for each kind; below them, of the slowest hundredth of each phase, mean
milliseconds by stage (as explain has them) and outside of all stages.
"""
import argparse
import json
import multiprocessing
import pathlib
import shutil
import tempfile
import threading
import time

from bench_ingest import BATCH, KINDS, SCHEMA, Documents, elacsym, quantile

PATH = "/v1/namespaces/load/query"
BACKGROUND = {"merger", "maintenance", "compaction", "surveyor"}


def ask(port, number, rate, seconds, times):
    """A process: a client. Puts its list of (milliseconds, kind, milliseconds by stage or None) into times."""
    client = elacsym.Client(port)
    documents = Documents(3 + number)
    queries = [documents.query(i) for i in range(400)]
    bodies = [(kind, json.dumps({**query, "explain": True}).encode()) for kind, query in queries]
    taken, asked, due, end = [], number * 100, time.time(), time.time() + seconds
    while time.time() < end:
        kind, body = bodies[asked % len(bodies)]
        began = time.perf_counter()
        answer = client.ask("POST", PATH, body)
        if answer.status == 200:
            taken.append(((time.perf_counter() - began) * 1000, kind, answer.json))
        asked += 1
        if rate:
            due += 1 / rate
            time.sleep(max(0, due - time.time()))
    slow = quantile([ms for ms, _, _ in taken], .97)
    times.put([(ms, kind, found["explain"]["stages_ms"] if ms >= slow else None) for ms, kind, found in taken])


def asked(port, clients, rate, seconds):
    times = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=ask, args=(port, i, rate, seconds, times)) for i in range(clients)]
    for process in processes:
        process.start()
    taken = [one for _ in processes for one in times.get()]
    for process in processes:
        process.join()
    return taken


def waited(server):
    """Milliseconds that the threads behind queries were ready to run and had no processor."""
    total = 0
    for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        if (task / "comm").read_text().strip() not in BACKGROUND:
            total += int((task / "schedstat").read_text().split()[1]) / 1e6
    return total


class Merging:
    """A few documents join the others, and again, for as long as the block lasts."""

    def __init__(self, server):
        self.server, self.stop = server, threading.Event()
        self.documents = Documents(9)

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.before = self.merged()
        self.thread.start()
        time.sleep(1)
        return self

    def run(self):
        client = self.server.client()
        while not self.stop.is_set():
            client.ask("POST", "/v1/namespaces/load/upsert", self.documents.batch(0, 20))
            client.namespace("load").compact()

    def merged(self):
        text = self.server.client().get("/metrics").content.decode()
        return [float(line.rsplit(" ", 1)[1]) for kind in ("sum", "count") for line in text.splitlines()
                if line.startswith(f'elacsym_index_seconds_{kind}{{from="segments"')]

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.seconds, self.count = (b - a for a, b in zip(self.before, self.merged()))


def wait_until_settled(server):
    since, before = time.time(), None
    while time.time() - since < 1:
        info = server.client().namespace("load").info()["index"]
        now = (info["unindexed_rows"], info["segments"])
        if now != before or info["unindexed_rows"]:
            before, since = now, time.time()
        time.sleep(0.5)


def load(server, count):
    client = server.client()
    documents = Documents(2)
    client.namespace("load").create(**SCHEMA)
    for first in range(0, count, BATCH):
        while client.ask("POST", "/v1/namespaces/load/upsert", documents.batch(first, BATCH)).status == 429:
            time.sleep(0.1)
    client.namespace("load").compact()
    wait_until_settled(server)


LINE = "{:<18}" + "{:>10}" * 6 + "{:>16}"


def compared(name, taken):
    row, ms = [name], {phase: [t[0] for t in taken[phase]] for phase in taken}
    for q in (.5, .99):
        a, b = (quantile(ms[phase], q) for phase in ("idle", "merging"))
        row += [f"{a:.2f}", f"{b:.2f}", f"{b / a:.1f}"]
    print(LINE.format(*row, f"{len(ms['idle'])}, {len(ms['merging'])}"), flush=True)


def slowest(phase, taken):
    last = sorted((t for t in taken if t[2]), key=lambda t: -t[0])[:max(len(taken) // 100, 1)]
    mean = {stage: sum(t[2][stage] for t in last) / len(last) for stage in last[0][2]}
    inside = mean.pop("total")
    parts = [f"{stage} {ms:.2f}" for stage, ms in mean.items() if ms >= 0.01]
    kinds = [f"{kind} {sum(t[1] == kind for t in last)}" for kind in KINDS]
    print(f"  slowest, {phase}: mean {sum(t[0] for t in last) / len(last):.2f}, of it outside the query "
          f"{sum(t[0] for t in last) / len(last) - inside:.2f}, {', '.join(parts)}; {', '.join(kinds)}", flush=True)


def compare(server, clients, rate, seconds, rounds):
    taken, merges, busy = {"idle": [], "merging": []}, 0, 0
    waits = {"idle": 0, "merging": 0}

    def measure(phase):
        before = waited(server)
        taken[phase] += asked(server.port, clients, rate, seconds / rounds)
        waits[phase] += waited(server) - before

    for _ in range(rounds):
        measure("idle")
        with Merging(server) as merging:
            measure("merging")
        merges, busy = merges + merging.count, busy + merging.seconds
        wait_until_settled(server)
    compared(f"{clients} clients" + (f", {rate}/s" if rate else ""), taken)
    for kind in KINDS:
        compared("  " + kind, {phase: [t for t in taken[phase] if t[1] == kind] for phase in taken})
    for phase in taken:
        slowest(phase, taken[phase])
        print(f"  threads behind queries waited for a processor, {phase}: {waits[phase] / len(taken[phase]) * 1000:.0f} us a query")
    print(f"  {merges:.0f} merges, {busy:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", default="1,4")
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loaded", type=pathlib.Path)
    options = parser.parse_args()
    folder = options.loaded or pathlib.Path(tempfile.mkdtemp(prefix="throttle-", dir=options.folder))
    folder = folder.resolve()
    found = (folder / "data").exists()
    folder.mkdir(exist_ok=True)
    server = elacsym.Server(folder, ELACSYM_CACHE_MEMORY_SIZE=str(options.memory_mib << 20), ELACSYM_TAIL_INDEX_IDLE_SECS="1")
    try:
        server.start()
        if not found:
            load(server, options.count)
        asked(server.port, 1, 0, 3)
        print(LINE.format("", "p50 idle", "merging", "ratio", "p99 idle", "merging", "ratio", "queries"))
        for clients in options.clients.split(","):
            compare(server, int(clients), options.rate, options.seconds, options.rounds)
    finally:
        server.kill()
        if not options.loaded:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
