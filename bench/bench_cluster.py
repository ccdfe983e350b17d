#!/usr/bin/env python3
"""What forwarding costs, and what a query node does without the owner, on loopback.

    bench/bench_cluster.py [--pairs 1000]

The same query in turn at the owner, at another indexer and at a query node, over one
kept-alive connection each: medians, the difference to the owner's, and the ratio. Then
the owner is killed, and a query node that knows nothing is asked: its first answer, and
the median of the following ones. The store is MinIO where it is installed.
"""
import argparse
import json
import pathlib
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/cluster"))
from cluster import Cluster  # noqa: E402

DIM, DOCUMENTS, TOP_K = 64, 5000, 10


class Line:
    """A kept-alive connection that costs the client next to nothing."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request):
        """Milliseconds, status and the node that answered."""
        began = time.perf_counter()
        self.socket.sendall(request)
        got = self.socket.recv(65536)
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        fields = {name.lower(): value for name, value in fields.items()}
        while len(body) < int(fields["content-length"]):
            body += self.socket.recv(65536)
        return (time.perf_counter() - began) * 1e3, int(head[9:12]), fields["x-elacsym-node"]


def query(name, consistency):
    vector = [random.Random(name).random() for _ in range(DIM)]
    body = json.dumps({"vector": vector, "top_k": TOP_K, "consistency": consistency}).encode()
    return (
        f"POST /v1/namespaces/{name}/query HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def fill(cluster, name):
    owner = cluster.owner(name)
    ns = owner.client().namespace(name)
    ns.create(vector_dim=DIM, vector_metric="l2")
    chance = random.Random(1)
    for first in range(0, DOCUMENTS, 1000):
        ns.upsert(*({"id": first + i, "vector": [chance.random() for _ in range(DIM)]} for i in range(1000)))
    ns.compact()
    return owner


def forwarding(cluster, name, owner, pairs):
    other = next(n for n in cluster.indexers if n is not owner)
    lines = {"owner": Line(owner.port), "indexer": Line(other.port), "query node": Line(cluster.queries[0].port)}
    for consistency in ("eventual", "strong"):
        times = {who: [] for who in lines}
        request = query(name, consistency)
        for i in range(pairs + 50):
            for who, line in lines.items():
                ms, status, node = line.ask(request)
                assert (status, node) == (200, owner.name)
                if i >= 50:
                    times[who].append(ms)
        direct = statistics.median(times["owner"])
        print(f"{consistency}: owner p50 {direct:.3f} ms", end="")
        for who in ("indexer", "query node"):
            extra = statistics.median(b - a for a, b in zip(times["owner"], times[who]))
            print(f"; by {who} +{extra:.3f} ms ({statistics.median(times[who]) / direct:.2f} x)", end="")
        print()


def without_owner(cluster, name, owner, pairs):
    owner.kill()
    for consistency in ("strong", "eventual"):
        cold = []
        for _ in range(5):
            node = cluster.queries[0]
            node.stop()
            shutil.rmtree(node.folder / f"{node.name}-cache", ignore_errors=True)
            node.start(cluster.indexers)
            line = Line(node.port)
            ms, status, by = line.ask(query(name, consistency))
            assert (status, by) == (200, node.name)
            cold.append(ms)
        warm = [line.ask(query(name, consistency))[0] for _ in range(pairs)]
        print(
            f"owner dead, {consistency}: query node cold {statistics.median(cold):.1f} ms (of 5), "
            f"warm p50 {statistics.median(warm):.2f} ms"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=1000)
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="elacsym-bench-"))
    with Cluster(folder, indexers=3, queries=1) as cluster:
        print(f"store {cluster.store.kind}, {DOCUMENTS} documents of {DIM} dimensions")
        owner = fill(cluster, "bench")
        forwarding(cluster, "bench", owner, arguments.pairs)
        without_owner(cluster, "bench", owner, arguments.pairs // 4)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
