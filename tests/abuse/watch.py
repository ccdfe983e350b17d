"""watch.py PORT: asks for /health until its input ends, on one kept connection and on fresh ones; then prints what took how long.

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


def main():
    port = int(sys.argv[1])
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times, wrong = [], []
    stopped = False
    while not stopped:
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for connection in (kept, fresh):
            try:
                took, status = ask(connection)
                times.append(took)
                if status != 200:
                    wrong.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                wrong.append(repr(error))
                connection.close()
        fresh.close()
        if len(times) + len(wrong) == 2:
            print("ready", flush=True)
        stopped = select.select([sys.stdin], [], [], 0.01)[0]
    print(json.dumps({"times": times, "wrong": wrong}), flush=True)


main()
