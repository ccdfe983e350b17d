#!/usr/bin/env python3
"""A node on S3: what a write, a load and a cold query cost on MinIO.

    bench/bench_s3_node.py [--pairs 150] [--documents 20000] [--cold 7] [--added-ms 20]
                           [--data DIR] [--program build/release/elacsym]

Starts MinIO by tools/s3_server.sh, unless S3_TEST_ENDPOINT names a server. Prints
  writes   an upsert of one document against a plain PUT of as many bytes, turn by turn,
           behind a pause longer than commit.interval_ms (100 on S3); then what many clients at once get, and how many requests they share
  reads    requests that a warm query makes, strong and eventual
  load     768-d documents with three attributes as JSON, until acknowledged (and so
           searchable) and until indexed
  cold     the first query of a fresh process without any cache, each request to the
           store delayed by --added-ms on its way back; over the collections of --data
Requests and bytes are the node's own counts.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIMS, BATCH, COMMIT_INTERVAL_S = 768, 1000, 0.11
COLLECTIONS = ("fashion", "packages")


@contextlib.contextmanager
def server():
    """The environment of an S3 server."""
    if "S3_TEST_ENDPOINT" in os.environ:
        yield
        return
    done = subprocess.run([ROOT / "tools/s3_server.sh", "minio"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("not run: " + done.stderr.strip())
    words = [w for line in done.stdout.splitlines() for w in shlex.split(line)]
    os.environ.update(w.split("=", 1) for w in words if "=" in w)
    try:
        yield
    finally:
        subprocess.run([ROOT / "tools/s3_server.sh", "stop"], check=True)


class Delay(threading.Thread):
    """A proxy in front of the store; every byte of an answer arrives so much later."""

    def __init__(self, endpoint, ms):
        super().__init__(daemon=True)
        parts = urllib.parse.urlsplit(endpoint)
        self.target, self.seconds = (parts.hostname, parts.port), ms / 1000
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.seen = []  # when, and the first line and the range of each request
        self.bytes = 0  # of answers
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            store = socket.create_connection(self.target)
            for end in (client, store):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.forward, args=(client, store), daemon=True).start()
            threading.Thread(target=self.hold_back, args=(store, client), daemon=True).start()

    def forward(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if line := re.match(rb"(?:GET|PUT|POST|HEAD|DELETE) \S+", data):
                    span = re.search(rb"\r\nrange: *(\S+)", data, re.I)
                    self.seen.append((time.monotonic(), b" ".join([line[0], span[1] if span else b""]).decode()))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def hold_back(self, source, target):
        waiting, more = [], threading.Condition()

        def send():
            with contextlib.suppress(OSError):
                while True:
                    with more:
                        while not waiting:
                            more.wait()
                        due, data = waiting.pop(0)
                    time.sleep(max(0, due - time.monotonic()))
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)

        threading.Thread(target=send, daemon=True).start()
        data = b"more"
        while data:
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            self.bytes += len(data)
            with more:
                waiting.append((time.monotonic() + self.seconds, data))
                more.notify()


class Node:
    def __init__(self, program, folder, bucket, endpoint=None):
        self.program, self.folder, self.bucket = program, folder, bucket
        self.endpoint = endpoint or os.environ["S3_TEST_ENDPOINT"]

    def __enter__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        environment = {
            **os.environ,
            "ELACSYM_SERVER_HOST": "127.0.0.1",
            "ELACSYM_SERVER_PORT": str(self.port),
            "ELACSYM_SERVER_DRAIN_WAIT_SECS": "0",
            "ELACSYM_STORAGE_BACKEND": "s3",
            "ELACSYM_STORAGE_S3_BUCKET": self.bucket,
            "ELACSYM_STORAGE_S3_ENDPOINT": self.endpoint,
            "ELACSYM_CACHE_DISK_PATH": str(self.folder / "cache"),
            "ELACSYM_LOGGING_LEVEL": "error",
        }
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self.process = subprocess.Popen([self.program], env=environment)
        for _ in range(3000):
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ready")[0] == 200:
                    return self
            time.sleep(0.01)
        raise SystemExit("the node did not become ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, method, path, body=None, connection=None):
        own = connection or self.connect()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        own.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = own.getresponse()
        content = answer.read()
        if not connection:
            own.close()
        return answer.status, content

    def good(self, method, path, body=None, connection=None):
        """The answer; asked again while the node has no room for it."""
        while (answer := self.ask(method, path, body, connection))[0] == 429:
            time.sleep(0.1)
        status, content = answer
        assert status == 200, content
        return json.loads(content)

    def requests(self):
        """Requests that it sent to the store so far."""
        metrics = self.good_text("/metrics")
        return int(float(re.search(r"^elacsym_s3_requests_total (\S+)", metrics, re.M)[1]))

    def good_text(self, path):
        return self.ask("GET", path)[1].decode()


def create(node, name, **schema):
    node.good("PUT", f"/v1/namespaces/{name}", schema)


def p50(values):
    return statistics.median(values)


def p99(values):
    return sorted(values)[len(values) * 99 // 100]


def timed_ms(work):
    before = time.perf_counter()
    work()
    return (time.perf_counter() - before) * 1000


# ---- writes ----


def plain_puts(bucket, count, size):
    """Functions that each PUT an object over one kept connection, signed beforehand."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", endpoint_url=os.environ["S3_TEST_ENDPOINT"],
                          config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
    parts = urllib.parse.urlsplit(os.environ["S3_TEST_ENDPOINT"])
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    body = os.urandom(size)

    def put(target):
        connection.request("PUT", target, body, {"Content-Length": str(size)})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    for i in range(count):
        url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": f"plain/{i:06}"})
        target = url.split(parts.netloc, 1)[1]
        yield lambda target=target: put(target)


def one_document(i):
    chance = random.Random(i)
    return json.dumps({"documents": [{"id": i, "vector": [round(chance.random(), 4) for _ in range(DIMS)]}]})


def bench_writes(node, pairs):
    create(node, "writes", vector_dim=DIMS)
    connection, size = node.connect(), 4096 + 256
    puts = list(plain_puts(node.bucket, pairs, size))
    plain, upsert = [], []
    for i in range(pairs):
        body = one_document(i)
        time.sleep(COMMIT_INTERVAL_S)
        plain.append(timed_ms(puts[i]))
        upsert.append(timed_ms(lambda: node.good("POST", "/v1/namespaces/writes/upsert", body, connection)))
    print(f"\nwrites: one {DIMS}-d document, {pairs} pairs")
    print(f"  plain PUT of {size} bytes   p50 {p50(plain):6.2f} ms   p99 {p99(plain):6.2f} ms")
    print(f"  upsert                  p50 {p50(upsert):6.2f} ms   p99 {p99(upsert):6.2f} ms")
    print(f"  an upsert costs beyond the PUT   {p50(upsert) - p50(plain):+.2f} ms")
    for clients in (1, 8, 32):
        bench_crowd(node, clients)


def bench_crowd(node, clients, seconds=3):
    counts, stop = [0] * clients, threading.Event()
    bodies = [one_document(10**6 + n) for n in range(clients)]

    def client(n):
        connection = node.connect()
        while not stop.is_set():
            node.good("POST", "/v1/namespaces/writes/upsert", bodies[n], connection)
            counts[n] += 1

    before = node.requests()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    requests = node.requests() - before
    print(f"  {clients:3} clients: {sum(counts) / seconds:6.0f} acknowledged a second, "
          f"{requests / sum(counts):.2f} requests to the store for each")


# ---- reads ----


def bench_reads(node):
    connection = node.connect()
    print("\nreads: warm, one client, 200 queries")
    for consistency in ("strong", "eventual"):
        body = json.dumps({"vector": [0.5] * DIMS, "top_k": 10, "consistency": consistency})
        before, times = node.requests(), []
        for _ in range(200):
            times.append(timed_ms(lambda: node.good("POST", "/v1/namespaces/writes/query", body, connection)))
        requests = node.requests() - before
        print(f"  {consistency:9} {requests / 200:.2f} requests to the store for each   p50 {p50(times):.2f} ms")


# ---- load ----


def bench_load(node, documents):
    create(node, "load", vector_dim=DIMS, attributes={"a": "int", "b": "string", "c": "float"})
    chance, bodies = random.Random(1), []
    numbers = [f"{chance.gauss(0, 1):.6f}" for _ in range(DIMS * 97 + DIMS)]
    for start in range(0, documents, BATCH):
        rows = []
        for i in range(start, start + BATCH):
            at = chance.randrange(DIMS * 97)
            vector = ",".join(numbers[at:at + DIMS])
            rows.append(f'{{"id":{i},"vector":[{vector}],"attributes":{{"a":{i % 100},"b":"word{i % 13}","c":{i / 7:.3f}}}}}')
        bodies.append(('{"documents":[' + ",".join(rows) + "]}").encode())
    before, connection = node.requests(), node.connect()
    began = time.perf_counter()
    for body in bodies:
        node.good("POST", "/v1/namespaces/load/upsert", body, connection)
    acknowledged = time.perf_counter() - began
    requests = node.requests() - before
    node.good("POST", "/v1/namespaces/load/compact")
    indexed = time.perf_counter() - began
    size = sum(map(len, bodies))
    print(f"\nload: {documents} documents of {DIMS} numbers and three attributes, {size / 1e6:.0f} MB of JSON, batches of {BATCH}, one client")
    print(f"  searchable {documents / acknowledged:7.0f} documents/s ({size / 1e6 / acknowledged:.0f} MB/s), {requests} requests for {len(bodies)} batches")
    print(f"  indexed    {documents / indexed:7.0f} documents/s")


# ---- cold ----


def first_query(program, folder, bucket, endpoint, name, query):
    """Milliseconds, requests and explain of the first query that a fresh process answers."""
    with Node(program, folder, bucket, endpoint) as node:
        connection = node.connect()
        node.ask("GET", "/health", None, connection)
        before = node.requests()
        began = time.perf_counter()
        answer = node.good("POST", f"/v1/namespaces/{name}/query", {**query, "explain": True}, connection)
        took = (time.perf_counter() - began) * 1000
        requests = node.requests() - before
        began = time.perf_counter()
        again = node.good("POST", f"/v1/namespaces/{name}/query", {**query, "explain": True}, connection)
        warm = (time.perf_counter() - began) * 1000
        assert answer["results"] == again["results"]
        return took, warm, requests, answer["explain"]


def bench_cold(program, folder, data, times, added_ms, bucket):
    with Node(program, folder, bucket) as node:
        url = f"http://127.0.0.1:{node.port}"
        subprocess.run([sys.executable, ROOT / "examples/load.py", "--url", url, "--data", data, *COLLECTIONS],
                       check=True, stdout=subprocess.DEVNULL)
        for name in COLLECTIONS:
            node.good("POST", f"/v1/namespaces/{name}/compact")
    import numpy

    image = numpy.load(data / "fashion-query.u8.npy")[7].astype(float).tolist()
    queries = [
        ("fashion", "60k x 784 vectors", {"vector": image, "top_k": 10, "include_attributes": False}),
        ("packages", "200k texts", {"full_text": {"field": "text", "query": "parser for json"}, "top_k": 10}),
        ("packages", "a listing by filter", {"filter": {"field": "registry", "op": "eq", "value": "npm"},
                                             "order_by": {"field": "rank"}, "top_k": 10}),
    ]
    delay = Delay(os.environ["S3_TEST_ENDPOINT"], added_ms)
    print(f"\ncold: first query of a fresh process, {added_ms} ms added to each request, {times} times; then the same again")
    print(f"  {'':22}{'p50 ms':>8}{'warm ms':>9}{'requests':>10}{'rounds':>8}{'of the query':>14}{'MB':>8}")
    for name, title, query in queries:
        runs = [first_query(program, folder, bucket, delay.endpoint, name, query) for _ in range(times)]
        took, warm, requests, explain = zip(*runs)
        last = explain[-1]
        print(f"  {title:22}{p50(took):8.0f}{p50(warm):9.1f}{p50(requests):10.0f}{last['rounds']:8}"
              f"{last['store_requests']:14}{last['store_bytes'] / 1e6:8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--documents", type=int, default=20000)
    parser.add_argument("--cold", type=int, default=7)
    parser.add_argument("--added-ms", type=float, default=20)
    parser.add_argument("--data", type=pathlib.Path,
                        default=os.environ.get("ELACSYM_DATA") or ROOT.parent / "shared/data")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/elacsym")
    a = parser.parse_args()
    with server(), tempfile.TemporaryDirectory(prefix="bench-s3-") as name:
        folder, bucket = pathlib.Path(name), os.environ["S3_TEST_BUCKET"]
        with Node(a.program.resolve(), folder, bucket) as node:
            bench_writes(node, a.pairs)
            bench_reads(node)
            bench_load(node, a.documents)
        if (a.data / "fashion-base.u8.npy").exists():
            bench_cold(a.program.resolve(), folder, a.data, a.cold, a.added_ms, bucket)
        else:
            print(f"\ncold: not run, no collections in {a.data}")


if __name__ == "__main__":
    main()
