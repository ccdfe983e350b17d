#!/usr/bin/env python3
"""The first query of a fresh node without any cache, over a million rows on MinIO.

    bench/bench_s3_cold.py [--rows 1000000] [--dims 768] [--times 7] [--added-ms 20]
                           [--only texts|vectors] [--trace] [--data DIR] [--program FILE]

Loads two collections over HTTP into a bucket of its own and compacts them: the package
descriptions as often as it takes, with words left out at random, and vectors around
random centres. Then asks each of them by fresh processes, each request to the store
delayed by --added-ms on its way back, and prints for each query milliseconds, and what
opening the namespace and the query itself took of rounds, requests and bytes, as the
node counts them, and how many requests were for segments, which is all behind the
manifest but the log. --trace shows every request of the last run as the proxy saw it.
With S3_COLD_BUCKET=NAME the collections are kept there, and found again."""
import argparse
import base64
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from bench_s3_node import ROOT, Delay, Node, create, p50, server

BATCH, CENTRES = 2000, 1000


def texts(data, rows):
    """Descriptions; from the second time on one word in eight is left out."""
    import zstandard

    with open(data / "pkg200k/docs.jsonl.zst", "rb") as file:
        lines = zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()
    documents = [json.loads(line) for line in lines]
    chance = random.Random(1)
    for i in range(rows):
        text = documents[i % len(documents)]["text"]
        if i >= len(documents):
            text = " ".join(word for word in text.split(" ") if chance.random() > 1 / 8)
        yield {"id": i, "attributes": {"text": text, "registry": documents[i % len(documents)]["registry"]}}


def vectors(rows, dims, seed=1):
    """Rows of numbers as base64, a batch at a time."""
    import numpy

    chance = numpy.random.default_rng(seed)
    centres = numpy.random.default_rng(0).normal(size=(CENTRES, dims))
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        near = centres[chance.integers(0, CENTRES, count)]
        batch = (near + 0.6 * chance.standard_normal(size=(count, dims), dtype="f4")).astype("<f4")
        yield [base64.b64encode(row).decode() for row in batch]


def upsert(node, name, documents, connection):
    node.good("POST", f"/v1/namespaces/{name}/upsert", json.dumps({"documents": documents}), connection)


def load_texts(node, data, rows):
    create(node, "texts", attributes={"text": {"type": "string", "full_text": True}, "registry": "string"})
    connection, batch = node.connect(), []
    for document in texts(data, rows):
        batch.append(document)
        if len(batch) == BATCH:
            upsert(node, "texts", batch, connection)
            batch = []
    if batch:
        upsert(node, "texts", batch, connection)


def load_vectors(node, rows, dims):
    create(node, "vectors", vector_dim=dims, attributes={"group": "int"})
    connection, at = node.connect(), 0
    for batch in vectors(rows, dims):
        upsert(node, "vectors", [{"id": at + i, "vector": v, "attributes": {"group": (at + i) % 50}}
                                 for i, v in enumerate(batch)], connection)
        at += len(batch)


def load(node, name, fill):
    began = time.monotonic()
    if node.ask("GET", f"/v1/namespaces/{name}")[0] != 200:
        fill()
    while node.ask("POST", f"/v1/namespaces/{name}/compact")[0] != 200:
        time.sleep(1)  # it takes longer than a request may
    print(f"loaded {name} in {time.monotonic() - began:.0f} s: {node.good('GET', f'/v1/namespaces/{name}')}", file=sys.stderr, flush=True)


def queries(dims, only):
    vector = next(vectors(1, dims, seed=9))[0]
    asked = {
        "texts": [
            ("text, 3 words", {"full_text": {"field": "text", "query": "parser for json"}, "top_k": 10}),
            ("text, 2 words and a filter", {"full_text": {"field": "text", "query": "image viewer"}, "top_k": 10,
                                            "filter": {"field": "registry", "op": "eq", "value": "npm"}}),
        ],
        "vectors": [
            ("vectors", {"vector": vector, "top_k": 10, "include_attributes": True}),
            ("vectors and a filter", {"vector": vector, "top_k": 10, "include_attributes": True,
                                      "filter": {"field": "group", "op": "eq", "value": 7}}),
        ],
    }
    return [(name, *query) for name in asked if only in (None, name) for query in asked[name]]


def first_query(program, folder, bucket, delay, name, query):
    with Node(program, folder, bucket, delay.endpoint) as node:
        connection = node.connect()
        node.ask("GET", "/health", None, connection)
        del delay.seen[:]
        bytes_before, requests_before, began = delay.bytes, node.requests(), time.perf_counter()
        answer = node.good("POST", f"/v1/namespaces/{name}/query", {**query, "explain": True}, connection)
        took = (time.perf_counter() - began) * 1000
        total, seen = (node.requests() - requests_before, delay.bytes - bytes_before), list(delay.seen)
        again = node.good("POST", f"/v1/namespaces/{name}/query", {**query, "explain": True}, connection)
        assert answer["results"] == again["results"]
        return took, total, answer["explain"], seen


def of_segments(seen):
    return sum("/segment/" in line for _, line in seen)


def ask(program, folder, bucket, times, added_ms, wanted, trace):
    delay = Delay(os.environ["S3_TEST_ENDPOINT"], added_ms)
    print(f"cold: first query of a fresh process, {added_ms} ms added to each request, {times} times")
    print(f"{'':28}{'p50 ms':>8}{'requests':>10}{'segments':>10}{'MB':>8}   of the query: {'rounds':>7}{'requests':>10}{'MB':>8}")
    for name, title, query in wanted:
        runs = [first_query(program, folder, bucket, delay, name, query) for _ in range(times)]
        took, totals, explain, seen = zip(*runs)
        last = explain[-1]
        print(f"{title:28}{p50(took):8.0f}{totals[-1][0]:10}{of_segments(seen[-1]):10}{totals[-1][1] / 1e6:8.2f}   {'':13} {last['rounds']:7}"
              f"{last['store_requests']:10}{last['store_bytes'] / 1e6:8.2f}", flush=True)
        if trace:
            start = seen[-1][0][0]
            for at, line in seen[-1]:
                print(f"    {1000 * (at - start):7.1f} ms  {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--added-ms", type=float, default=20)
    parser.add_argument("--only", choices=("texts", "vectors"))
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--data", type=pathlib.Path,
                        default=os.environ.get("ELACSYM_DATA") or ROOT.parent / "shared/data")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/elacsym")
    a = parser.parse_args()
    with server(), tempfile.TemporaryDirectory(prefix="bench-s3-") as name:
        folder, bucket = pathlib.Path(name), os.environ.get("S3_COLD_BUCKET", os.environ["S3_TEST_BUCKET"])
        with Node(a.program.resolve(), folder, bucket) as node:
            if a.only != "vectors":
                load(node, "texts", lambda: load_texts(node, a.data, a.rows))
            if a.only != "texts":
                load(node, "vectors", lambda: load_vectors(node, a.rows, a.dims))
        ask(a.program.resolve(), folder, bucket, a.times, a.added_ms, queries(a.dims, a.only), a.trace)


if __name__ == "__main__":
    main()
