#!/usr/bin/env python3
"""A whole cluster as local processes: an S3 store, indexers, query nodes, nginx.

    tests/cluster/cluster.py [--indexers 3] [--queries 2] [--port 8080]

run as a program (make cluster) it prints the URLs and serves until it is interrupted.
The tests use the classes. The store is MinIO where its program is (build/tools/minio,
which tools/s3_server.sh installs), else the simulator of tests/s3sim. nginx is Debian's,
with examples/distributed/nginx.conf in which only the addresses are changed.
"""
import argparse
import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/e2e"))
import buckets  # noqa: E402
from elacsym import Client, free_port  # noqa: E402

MINIO = REPOSITORY / "build/tools/minio"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
START_TIMEOUT_S = 60


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("ELACSYM_", "AWS_", "MINIO_"))}


def wait_for(what, tries_s, found):
    """Until found() is true; OSErrors count as not yet."""
    end = time.monotonic() + tries_s
    while True:
        try:
            if found():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not after {tries_s} s")
        time.sleep(0.02)


class Process:
    """A child with a log. Its end is noticed by whoever waits for it."""

    host = "127.0.0.1"  # where it listens
    prefix = []  # of its command

    def __init__(self, folder, name):
        self.folder, self.name, self.process = pathlib.Path(folder), name, None
        self.folder.mkdir(parents=True, exist_ok=True)
        atexit.register(lambda: self.running and self.kill())  # whatever failed before

    def launch(self, command, environment, **more):
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [str(c) for c in [*self.prefix, *command]], env=environment, stdout=more.pop("stdout", log), stderr=log, **more
            )

    def log(self):
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """Gently; returns the exit status."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


class Minio(Process):
    kind = "minio"
    key, secret, bucket = "minioadmin", "minioadmin", "elacsym-data"

    def __init__(self, folder):
        super().__init__(folder, "minio")
        self.port = free_port()

    def start(self):
        environment = {
            **clean_environment(),
            "MINIO_ROOT_USER": self.key,
            "MINIO_ROOT_PASSWORD": self.secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "CI": "true",
        }
        data = self.folder / "minio-data"
        self.launch([MINIO, "server", "--quiet", "--address", f"{self.host}:{self.port}", data], environment)
        wait_for("MinIO", START_TIMEOUT_S, self._has_bucket)
        return self

    def _has_bucket(self):
        assert self.running, self.log()[-2000:]
        signed = ["--user", f"{self.key}:{self.secret}", "--aws-sigv4", "aws:amz:us-east-1:s3"]
        made = subprocess.run(
            ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-X", "PUT", *signed, f"{self.url}/{self.bucket}"],
            capture_output=True,
            text=True,
        )
        return made.stdout in ("200", "409")

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"


class Simulator(Process):
    """tests/s3sim: a store in memory. Pausing it is all that can happen to it."""

    kind = "s3sim"
    key, secret, bucket = "test-key", "test-secret", "elacsym-data"

    def start(self):
        program = REPOSITORY / "tests/s3sim/s3sim.py"
        self.launch(
            [sys.executable, program, "--bucket", self.bucket],
            clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())
        self.command({"do": "set", "keep_checks": False})  # CRC32C takes Python long
        return self

    def command(self, command):
        """As s3sim.py says; returns its answer."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        return answer if answer == "ok" else json.loads(answer)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"


class Given(Process):
    """The store that tools/s3_server.sh started. Pausing it is all that can happen to it."""

    def __init__(self, folder):
        super().__init__(folder, "store")
        self.kind, self.url_given = os.environ["S3_TEST_SERVER"], os.environ["S3_TEST_ENDPOINT"]
        self.key, self.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.given = {k: v for k, v in os.environ.items() if k.startswith("ELACSYM_STORAGE_S3_")}
        self.pid = int((REPOSITORY / f"build/s3/{self.kind}.pid").read_text())

    def start(self):
        self.bucket = buckets.make()
        return self

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    @property
    def url(self):
        return self.url_given


def make_store(folder, kind=None):
    kind = kind or ("minio" if MINIO.exists() else "s3sim")
    if kind == "given":
        return Given(folder)
    return Minio(folder) if kind == "minio" else Simulator(folder, "s3sim")


class Node(Process):
    def __init__(self, folder, name, role, store, port=None, **environment):
        super().__init__(folder, name)
        self.role, self.store, self.environment = role, store, environment
        self.port = port or free_port()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def start(self, indexers, wait=True):
        """indexers: the list this node is told, as nodes or {id: url}."""
        table = indexers if isinstance(indexers, dict) else {n.name: n.url for n in indexers}
        usual = os.environ.get("ELACSYM_BINARY", REPOSITORY / "build/release/elacsym")
        binary = self.environment.get("ELACSYM_BINARY", usual)
        environment = {
            **clean_environment(),
            "AWS_ACCESS_KEY_ID": self.store.key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret,
            "ELACSYM_SERVER_HOST": self.host,
            "ELACSYM_SERVER_PORT": str(self.port),
            "ELACSYM_SERVER_DRAIN_WAIT_SECS": "0",
            "ELACSYM_STORAGE_BACKEND": "s3",
            "ELACSYM_STORAGE_S3_BUCKET": self.store.bucket,
            "ELACSYM_STORAGE_S3_REGION": "us-east-1",
            "ELACSYM_STORAGE_S3_ENDPOINT": self.store.url,
            "ELACSYM_CACHE_DISK_PATH": str(self.folder / f"{self.name}-cache"),
            "ELACSYM_CACHE_MEMORY_SIZE": str(256 << 20),
            "ELACSYM_CACHE_DISK_SIZE": str(256 << 20),
            "ELACSYM_COMPACTION_ENABLED": "true" if self.role == "indexer" else "false",
            "ELACSYM_DISTRIBUTED_ENABLED": "true",
            "ELACSYM_NODE_ID": self.name,
            "ELACSYM_NODE_ROLE": self.role,
            "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_NODES": ",".join(table),
            "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_ADDRESSES": ",".join(f"{i}={u}" for i, u in table.items()),
            **getattr(self.store, "given", {}),
            **{k: v for k, v in self.environment.items() if k != "ELACSYM_BINARY"},
        }
        self.launch([binary], environment, cwd=self.folder)
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self):
        def ready():
            assert self.running, f"{self.name} ended: " + self.log()[-2000:]
            client = self.client(timeout=5)
            try:
                return client.get("/ready").status == 200
            finally:
                client.close()

        wait_for(f"{self.name} is ready", START_TIMEOUT_S, ready)

    def client(self, timeout=60):
        client = Client(self.port, self.host)
        client.connection.timeout = timeout
        return client

    @property
    def address(self):
        """For workload.ask."""
        return self.host, self.port

    def events(self, event):
        found = []
        for line in self.log().splitlines():
            if f'"event":"{event}"' in line:
                found.append(json.loads(line))
        return found


class Nginx(Process):
    def __init__(self, folder, indexers, queries, port=None):
        super().__init__(folder, "nginx")
        self.port = port or free_port()
        text = (REPOSITORY / "examples/distributed/nginx.conf").read_text()
        text = re.sub(r"listen 80;", f"listen 127.0.0.1:{self.port};", text)
        for name, nodes in (("indexers", indexers), ("query_nodes", queries)):
            servers = "".join(f"        server 127.0.0.1:{n.port} \\g<2>;\n" for n in nodes)
            text, count = re.subn(rf"(upstream {name} {{\n)(?:\s+server \S+ ([^;]*);\n)+", rf"\g<1>{servers}", text)
            assert count == 1, name
        self.file = self.folder / "nginx.conf"
        self.file.write_text(text)

    def command(self, *more):
        own = f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx-error.log;"
        return [NGINX, "-p", self.folder, "-c", self.file, "-g", own, *more]

    def start(self):
        self.launch(self.command(), clean_environment())

        def answers():
            assert self.running, self.log() + (self.folder / "nginx-error.log").read_text()
            client = self.client()
            try:
                return client.get("/health").status == 200
            finally:
                client.close()

        wait_for("nginx", START_TIMEOUT_S, answers)
        return self

    def client(self, timeout=60):
        client = Client(self.port)
        client.connection.timeout = timeout
        return client


class Cluster:
    """Everything together. Use it in a with statement."""

    def __init__(self, folder, indexers=3, queries=2, store=None, port=None, **environment):
        self.folder = pathlib.Path(folder)
        self.store = make_store(self.folder, store)
        self.environment = environment
        self.indexers = [self.node(f"indexer-{i + 1}", "indexer") for i in range(indexers)]
        self.queries = [self.node(f"query-{i + 1}", "query") for i in range(queries)]
        self.port, self.nginx = port, None

    def node(self, name, role, **environment):
        return Node(self.folder, name, role, self.store, **{**self.environment, **environment})

    @property
    def nodes(self):
        return [*self.indexers, *self.queries]

    def start(self):
        self.store.start()
        for node in self.nodes:
            node.start(self.indexers, wait=False)
        for node in self.nodes:
            node.wait_until_ready()
        if NGINX:
            self.nginx = Nginx(self.folder, self.indexers, self.queries, self.port).start()
        return self

    def stop(self):
        """Returns the nodes' exit statuses."""
        if self.nginx and self.nginx.running:
            self.nginx.stop()
        for node in self.nodes:
            if node.running:
                node.resume()
                node.process.send_signal(signal.SIGTERM)
        statuses = {n.name: n.process.wait(timeout=60) for n in self.nodes if n.process}
        self.kill()
        return statuses

    def kill(self):
        for process in (self.nginx, *self.nodes, self.store):
            if process and process.running:
                process.kill()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, error, trace):
        self.kill()

    def by_name(self, name):
        return next(n for n in self.nodes if n.name == name)

    def owner(self, namespace):
        """Asks a query node, which names the owner in its refusal of a write."""
        client = self.queries[0].client()
        try:
            answer = client.ask("DELETE", f"/v1/namespaces/{namespace}")
            assert answer.status == 403, answer
            return self.by_name(answer.json["owner"]["node_id"])
        finally:
            client.close()

    def name_owned_by(self, node, stem="ns"):
        """A namespace name that belongs to node."""
        return next(n for n in (f"{stem}-{i}" for i in range(1000)) if self.owner(n) is node)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--indexers", type=int, default=3)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--port", type=int, default=8080, help="of nginx")
    parser.add_argument("--store", choices=["minio", "s3sim"])
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="elacsym-cluster-"))
    with Cluster(folder, arguments.indexers, arguments.queries, arguments.store, arguments.port) as cluster:
        print(f"{cluster.store.kind:10} {cluster.store.url}")
        for node in cluster.nodes:
            print(f"{node.name:10} {node.url}")
        print(f"{'nginx':10} http://127.0.0.1:{cluster.nginx.port}" if cluster.nginx else "nginx: not installed")
        print(f"logs and data are in {folder}; Ctrl-C ends everything and removes them", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass
        cluster.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
