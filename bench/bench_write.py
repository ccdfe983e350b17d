#!/usr/bin/env python3
"""One acknowledged write against one fsync, pair by pair, on the same file system.

    bench/bench_write.py [--pairs 500] [--program build/release/elacsym]

Three things take turns: a plain append and fsync of 4 KiB to a file in the data
directory, the least that durability can cost there; making a durable file the way a
create must (write, fsync, link, fsync of the directory); and an upsert of one 768-d
document over a kept-alive connection. Prints medians, and what the upsert costs beyond
the others. Then 1, 8 and 32 clients at once: acknowledged writes a second, which group
commit lets grow with the number of clients.
"""
import argparse
import base64
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time


def start(program, folder):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {
        **os.environ,
        "ELACSYM_SERVER_HOST": "127.0.0.1",
        "ELACSYM_SERVER_PORT": str(port),
        "ELACSYM_STORAGE_LOCAL_ROOT_PATH": str(folder / "data"),
        "ELACSYM_CACHE_DISK_PATH": str(folder / "cache"),
    }
    process = subprocess.Popen([program], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(500):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            time.sleep(0.01)
    raise SystemExit("the server did not become ready")


def document(number):
    chance = random.Random(number)
    vector = struct.pack("<768f", *(chance.random() for _ in range(768)))
    return json.dumps(
        {"documents": [{"id": number, "vector": base64.b64encode(vector).decode()}]}
    )


def upsert(connection, body):
    connection.request(
        "POST", "/v1/namespaces/bench/upsert", body, {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content


def plain_fsync(file):
    os.pwrite(file, os.urandom(4096), 0)
    os.fsync(file)


def durable_create(folder, directory, number):
    name = folder / f"durable-{number}"
    file = os.open(name.with_suffix(".tmp"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(file, os.urandom(4096))
    os.fsync(file)
    os.close(file)
    os.link(name.with_suffix(".tmp"), name)
    os.unlink(name.with_suffix(".tmp"))
    os.fsync(directory)


def timed(work, *arguments):
    began = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - began) * 1000


def crowd(port, clients, seconds=3):
    """Acknowledged writes a second of so many clients."""
    counts, stop = [0] * clients, threading.Event()

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not stop.is_set():
            upsert(connection, document(number * 100000 + counts[number]))
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--program", type=pathlib.Path, default="build/release/elacsym")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-write-", dir="build") as name:
        folder = pathlib.Path(name).resolve()
        process, port = start(arguments.program.resolve(), folder)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(
            "PUT",
            "/v1/namespaces/bench",
            '{"vector_dim":768,"vector_metric":"cosine"}',
            {"Content-Type": "application/json"},
        )
        connection.getresponse().read()
        file = os.open(folder / "plain", os.O_RDWR | os.O_CREAT)
        directory = os.open(folder, os.O_RDONLY)
        plain, create, write = [], [], []
        for pair in range(arguments.pairs):
            plain.append(timed(plain_fsync, file))
            create.append(timed(durable_create, folder, directory, pair))
            write.append(timed(upsert, connection, document(pair)))
        p, c, w = (statistics.median(times) for times in (plain, create, write))
        print(f"{'':34}{'p50 ms':>8}{'upsert costs':>16}")
        print(f"{'append 4 KiB + fsync':34}{p:8.2f}{w - p:+13.2f} ms")
        print(f"{'durable create of a 4 KiB file':34}{c:8.2f}{w - c:+13.2f} ms")
        print(f"{'upsert of one 768-d document':34}{w:8.2f}")
        for clients in (1, 8, 32):
            print(f"{clients:3} clients: {crowd(port, clients):7.0f} acknowledged writes a second")
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
