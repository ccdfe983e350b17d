#!/usr/bin/env python3
"""Vector search through HTTP on loopback: how long an answer takes, how many a second.

    bench/bench_vector_http.py [--queries 2000] [--folder KEPT] [--program build/release/elacsym]
                               [--client build/release/bench/bench_vector_http]

A node is started on a folder of its own and loaded with Fashion-MNIST, pixels divided by
255, as a user would: base64, 1000 documents a request, then compacted. The client in C
asks it (bench_vector_http.c says how). Beside it, the node's CPU time for a query of all
threads. With --folder what was loaded stays there, and is used again the next time.
ELACSYM_DATA names the folder of the data.
"""
import argparse
import base64
import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

import numpy

BATCH = 1000
NAME = "fashion255"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    def __init__(self, program, folder):
        self.port = free_port()
        environment = {
            **os.environ,
            "ELACSYM_SERVER_HOST": "127.0.0.1",
            "ELACSYM_SERVER_PORT": str(self.port),
            "ELACSYM_STORAGE_LOCAL_ROOT_PATH": str(folder / "data"),
        }
        self.process = subprocess.Popen([program], env=environment, stderr=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        for _ in range(500):
            try:
                if self.ask("GET", "/ready")[0] == 200:
                    return
            except OSError:
                self.connection.close()
                time.sleep(0.02)
        raise SystemExit("the node did not become ready")

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def must(self, *request):
        status, answer = self.ask(*request)
        if status != 200:
            raise SystemExit(f"{request[:2]}: {status} {answer}")

    def load(self, rows):
        if self.ask("GET", f"/v1/namespaces/{NAME}")[0] == 200:
            return
        self.must("PUT", f"/v1/namespaces/{NAME}", {"vector_dim": 784, "vector_metric": "l2"})
        for first in range(0, len(rows), BATCH):
            documents = [
                {"id": i, "vector": base64.b64encode(rows[i].tobytes()).decode()}
                for i in range(first, min(first + BATCH, len(rows)))]
            self.must("POST", f"/v1/namespaces/{NAME}/upsert", {"documents": documents})
        self.must("POST", f"/v1/namespaces/{NAME}/compact", {})

    def cpu_seconds(self):
        """Of each thread by name."""
        total = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            total[name] = total.get(name, 0) + int((task / "schedstat").read_text().split()[0]) / 1e9
        return total

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--program", default="build/release/elacsym")
    parser.add_argument("--client", default="build/release/bench/bench_vector_http")
    options = parser.parse_args()
    data = pathlib.Path(os.environ.get("ELACSYM_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as own:
        node = Node(options.program, options.folder or pathlib.Path(own))
        try:
            node.load(numpy.load(data / "fashion-base.u8.npy").reshape(-1, 784).astype("<f4") / numpy.float32(255))
            before = node.cpu_seconds()
            start = time.perf_counter()
            client = [options.client, str(node.port), NAME, str(options.queries)]
            subprocess.run(client, check=True)
            print(f"{time.perf_counter() - start:.1f} s; CPU seconds of the node's threads:", ", ".join(
                f"{name} {seconds - before.get(name, 0):.2f}" for name, seconds in node.cpu_seconds().items()
                if seconds - before.get(name, 0) > 0.01))
        finally:
            node.stop()


if __name__ == "__main__":
    main()
