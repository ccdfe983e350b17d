#!/usr/bin/env python3
"""Loads the three example collections into a running elacsym.

    examples/load.py [--url http://127.0.0.1:3000] [--data DIR] [fashion] [movies] [packages]

fashion    60,000 images of clothes as 784-d vectors with a label (l2)
movies     34,530 film articles: two text fields, arrays of genres and cast, year
packages   200,000 package descriptions with registry, month, rank, downloads; the
           20,000 that have an embedding carry it as a 512-d vector (cosine)

Needs numpy and zstandard. DIR holds the collections as described in its README.
"""
import argparse
import base64
import http.client
import io
import json
import os
import pathlib
import sys
import time
import urllib.parse

BATCH = 1000


class Client:
    """One kept-alive connection."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port or 80)

    def call(self, method, path, body=None):
        text = None if body is None else json.dumps(body, separators=(",", ":"))
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.connection.request(method, path, text, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {content.decode()}")
        return json.loads(content)


def vector_base64(row):
    import numpy

    return base64.b64encode(numpy.asarray(row, "<f4").tobytes()).decode()


def read_jsonl_zst(path):
    import zstandard

    with open(path, "rb") as file:
        with zstandard.ZstdDecompressor().stream_reader(file) as stream:
            for line in io.TextIOWrapper(stream, "utf-8"):
                yield json.loads(line)


def fashion(data):
    import numpy

    images = numpy.load(data / "fashion-base.u8.npy")
    labels = numpy.load(data / "fashion-base-label.u8.npy")
    schema = {
        "vector_dim": 784,
        "vector_metric": "l2",
        "attributes": {"label": {"type": "int", "indexed": True}},
    }
    documents = (
        {"id": i, "vector": vector_base64(images[i]), "attributes": {"label": int(labels[i])}}
        for i in range(len(images))
    )
    return schema, documents


def movies(data):
    schema = {
        "attributes": {
            "title": {"type": "string", "full_text": True},
            "text": {"type": "string", "full_text": True},
            "year": {"type": "int", "indexed": True},
            "genres": {"type": "array_string", "indexed": True},
            "cast": {"type": "array_string", "indexed": True},
            "slug": {"type": "string"},
        }
    }
    documents = (
        {"id": row.pop("id"), "attributes": row}
        for row in read_jsonl_zst(data / "movies" / "docs.jsonl.zst")
    )
    return schema, documents


def packages(data):
    import numpy

    vectors = numpy.load(data / "pkg200k" / "every10th.use512.f16.npy")
    schema = {
        "vector_dim": 512,
        "vector_metric": "cosine",
        "attributes": {
            "registry": {"type": "string", "indexed": True},
            "name": {"type": "string", "indexed": True},
            "version": {"type": "string"},
            "text": {"type": "string", "full_text": True},
            "month": {"type": "int", "indexed": True},
            "rank": {"type": "int", "indexed": True},
            "downloads": {"type": "int", "indexed": True},
        },
    }

    def documents():
        for row in read_jsonl_zst(data / "pkg200k" / "docs.jsonl.zst"):
            document = {"id": row.pop("id"), "attributes": row}
            if document["id"] % 10 == 0:
                document["vector"] = vector_base64(vectors[document["id"] // 10])
            yield document

    return schema, documents()


COLLECTIONS = {"fashion": fashion, "movies": movies, "packages": packages}


def load(client, name, data):
    schema, documents = COLLECTIONS[name](data)
    client.call("PUT", f"/v1/namespaces/{name}", schema)
    began, count, batch = time.monotonic(), 0, []

    def send():
        nonlocal count
        client.call("POST", f"/v1/namespaces/{name}/upsert", {"documents": batch})
        count += len(batch)
        batch.clear()

    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            send()
    if batch:
        send()
    seconds = time.monotonic() - began
    print(f"{name}: {count} documents in {seconds:.1f} s, {count / seconds:.0f} a second")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    default = os.environ.get("ELACSYM_DATA") or pathlib.Path(__file__).parents[2] / "shared/data"
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(default))
    parser.add_argument("names", nargs="*", choices=[*COLLECTIONS, []], default=[])
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no folder {arguments.data}: say where the collections are with --data")
    client = Client(arguments.url)
    for name in arguments.names or COLLECTIONS:
        load(client, name, arguments.data)


if __name__ == "__main__":
    main()
