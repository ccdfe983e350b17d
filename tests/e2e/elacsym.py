"""A server process and a client for it, as the black-box tests use them."""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.parse

import buckets

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30


class Answer:
    """Status, headers and body of an answer; the body parsed where it is JSON."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.content = response.read()
        kind = response.headers.get("Content-Type", "")
        self.json = json.loads(self.content) if kind == "application/json" and self.content else None

    @property
    def error(self):
        return self.json["error"]

    def __repr__(self):
        return f"{self.status} {self.content[:500]!r}"


class Client:
    """One kept-alive connection."""

    def __init__(self, port, host="127.0.0.1"):
        self.port = port
        self.connection = http.client.HTTPConnection(host, port, timeout=60)

    def close(self):
        self.connection.close()

    def ask(self, method, path, body=None, headers=None):
        """body: bytes are sent as they are, everything else as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            self.connection.request(method, path, body, sent)
            return Answer(self.connection.getresponse())
        except (http.client.HTTPException, OSError):
            self.connection.close()
            raise

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def namespace(self, name):
        return Namespace(self, name)


class Namespace:
    """The requests about one namespace. The verbs in lower case expect a 200 and return its body; ask() returns any answer."""

    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.path = "/v1/namespaces/" + urllib.parse.quote(name, safe="")

    def ask(self, method, tail="", body=None, headers=None):
        return self.client.ask(method, self.path + tail, body, headers)

    def _ok(self, answer):
        assert answer.status == 200, answer
        return answer.json

    def create(self, **schema):
        return self._ok(self.ask("PUT", body=schema))

    def info(self):
        return self._ok(self.ask("GET"))

    def drop(self):
        return self._ok(self.ask("DELETE"))

    def compact(self):
        """A request may end before its compaction does, which goes on."""
        answer = self.ask("POST", "/compact")
        while answer.status == 504 and "the compaction goes on" in answer.error:
            answer = self.ask("POST", "/compact")
        return self._ok(answer)

    def upsert(self, *documents):
        return self._ok(self.ask("POST", "/upsert", {"documents": documents}))["upserted"]

    def delete(self, **what):
        return self._ok(self.ask("POST", "/delete", what))["deleted"]

    def document(self, id):
        return self._ok(self.ask("GET", "/documents/" + urllib.parse.quote(str(id), safe="")))

    def query(self, **query):
        return self._ok(self.ask("POST", "/query", query))

    def results(self, **query):
        return self.query(**query)["results"]

    def ids(self, **query):
        return [result["id"] for result in self.results(**query)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process on a free port, with its own root folder; its objects lie there, or in a bucket of its own where an S3 server is named."""

    def __init__(self, root, binary=None, **environment):
        self.root = pathlib.Path(root)
        self.binary = binary or os.environ.get("ELACSYM_BINARY", REPOSITORY / "build/release/elacsym")
        self.environment = environment
        self.process = None
        self.broken_off = False  # some process of it did not end in good order
        self.port = None
        self.bucket = None

    def _storage(self):
        if not buckets.ENDPOINT or "ELACSYM_STORAGE_BACKEND" in self.environment:
            return {"ELACSYM_STORAGE_BACKEND": "local", "ELACSYM_STORAGE_LOCAL_ROOT_PATH": str(self.root / "data")}
        self.bucket = self.bucket or buckets.make()
        return buckets.environment(self.bucket)

    def launch(self):
        """Starts the process and does not wait for it."""
        self.broken_off |= self.process is not None and self.process.poll() != 0
        self.port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
        environment.update(
            ELACSYM_SERVER_HOST="127.0.0.1",
            ELACSYM_SERVER_PORT=str(self.port),
            ELACSYM_CACHE_DISK_PATH=str(self.root / "cache"),
            ELACSYM_SERVER_DRAIN_WAIT_SECS="0",
        )
        environment.update(self._storage())
        environment.update(self.environment)
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "log", "ab") as log:
            self.process = subprocess.Popen([str(self.binary)], env=environment, stderr=log, stdout=log, cwd=self.root)

    def start(self):
        self.launch()
        self._wait_until_ready()
        return self

    def _wait_until_ready(self):
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            assert self.process.poll() is None, "the server ended: " + self.log()[-2000:]
            try:
                client = self.client()
                ready = client.get("/ready").status == 200
                client.close()
                if ready:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("not ready: " + self.log()[-2000:])

    def client(self):
        return Client(self.port)

    def log(self):
        return (self.root / "log").read_text(errors="replace")

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def kill(self):
        """As a power cut would: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)
