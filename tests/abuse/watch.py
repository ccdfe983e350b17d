"""watch.py PORT...: asks each for /health in turn until its input ends, on one kept connection and on fresh ones; then prints what took how long.

A process of its own, so that what a test does to its own threads is not taken for the server's slowness."""
import http.client
import json
import select
import sys
import time


def ask(connection):
    began = time.monotonic()
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    return time.monotonic() - began, answer.status


class Node:
    def __init__(self, port):
        self.port = int(port)
        self.kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.times, self.wrong = [], []

    def look(self):
        fresh = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for connection in (self.kept, fresh):
            try:
                took, status = ask(connection)
                self.times.append(took)
                if status != 200:
                    self.wrong.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection.close()
        fresh.close()


def main():
    nodes = [Node(port) for port in sys.argv[1:]]
    for node in nodes:
        node.look()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        for node in nodes:
            node.look()
    print(json.dumps([{"times": node.times, "wrong": node.wrong} for node in nodes]), flush=True)


main()
