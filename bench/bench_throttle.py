#!/usr/bin/env python3
"""Query times while segments merge, beside those of the idle node, in one run.

    bench/bench_throttle.py [--count 60000] [--seconds 15] [--clients 1,4] [--rate 0]

A node of its own with so many documents (768-d vectors, a text of 40 words, attributes, as
bench_ingest.py has them) in one segment. Clients ask in turn for vectors, words, both, and vectors
under a filter, each as quickly as it is answered, or `rate` times a second. Idle and merging take
turns, three times each: while it merges, a few documents join the large segment again and again, so that
the merger has no pause. ELACSYM_BINARY picks the program.
"""
import argparse
import json
import multiprocessing
import pathlib
import shutil
import tempfile
import threading
import time

from bench_ingest import BATCH, SCHEMA, Documents, elacsym, quantile

PATH = "/v1/namespaces/load/query"
ROUNDS = 3


def ask(port, number, rate, seconds, times):
    """A process: a client. Puts its list of milliseconds into times."""
    client = elacsym.Client(port)
    documents = Documents(3 + number)
    bodies = [json.dumps(documents.query(i)[1]).encode() for i in range(400)]
    taken, asked, due, end = [], number * 100, time.time(), time.time() + seconds
    while time.time() < end:
        began = time.perf_counter()
        answer = client.ask("POST", PATH, bodies[asked % len(bodies)])
        if answer.status == 200:
            taken.append((time.perf_counter() - began) * 1000)
        asked += 1
        if rate:
            due += 1 / rate
            time.sleep(max(0, due - time.time()))
    times.put(taken)


def asked(port, clients, rate, seconds):
    times = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=ask, args=(port, i, rate, seconds, times)) for i in range(clients)]
    for process in processes:
        process.start()
    taken = [ms for _ in processes for ms in times.get()]
    for process in processes:
        process.join()
    return taken


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


def compare(server, clients, rate, seconds):
    taken, merges, busy = {"idle": [], "merging": []}, 0, 0
    for _ in range(ROUNDS):
        taken["idle"] += asked(server.port, clients, rate, seconds / ROUNDS)
        with Merging(server) as merging:
            taken["merging"] += asked(server.port, clients, rate, seconds / ROUNDS)
        merges, busy = merges + merging.count, busy + merging.seconds
        wait_until_settled(server)
    row = [f"{clients} clients" + (f", {rate}/s" if rate else "")]
    for q in (.5, .99):
        a, b = (quantile(taken[phase], q) for phase in ("idle", "merging"))
        row += [f"{a:.2f}", f"{b:.2f}", f"{b / a:.1f}"]
    print(("{:<18}" + "{:>10}" * 6 + "{:>16}{:>12}").format(*row, f"{len(taken['idle'])}, {len(taken['merging'])}", f"{merges:.0f}, {busy:.0f} s"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", default="1,4")
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--memory-mib", type=int, default=1024)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="throttle-", dir=options.folder)).resolve()
    server = elacsym.Server(folder, ELACSYM_CACHE_MEMORY_SIZE=str(options.memory_mib << 20), ELACSYM_TAIL_INDEX_IDLE_SECS="1")
    try:
        server.start()
        load(server, options.count)
        asked(server.port, 1, 0, 3)
        print(("{:<18}" + "{:>10}" * 6 + "{:>16}{:>12}").format("", "p50 idle", "merging", "ratio", "p99 idle", "merging", "ratio", "queries", "merges"))
        for clients in options.clients.split(","):
            compare(server, int(clients), options.rate, options.seconds)
    finally:
        server.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
