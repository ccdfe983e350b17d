import itertools
import os
import re
import subprocess

import pytest

import buckets
from elacsym import Server

numbers = itertools.count()

# tools/s3_test.py runs these where there is an S3 server.
collect_ignore = [] if buckets.ENDPOINT else ["test_s3.py", "test_s3_refused.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "folder: about objects in a folder, not in a bucket")
    config.addinivalue_line("markers", "damages: leaves a store that is not whole")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that leave it as they found it."""
    server = Server(tmp_path_factory.mktemp("elacsym")).start()
    yield server
    assert server.stop() == 0
    verify(server)


def verify(server):
    """What is in its store is what its manifests and logs say, and, where it always ended in good order, nothing else."""
    if not buckets.ENDPOINT:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
        environment["ELACSYM_STORAGE_LOCAL_ROOT_PATH"] = str(server.root / "data")
        found = subprocess.run([str(server.binary), "verify"], env=environment, cwd=server.root, text=True, capture_output=True, timeout=300, check=False)
        assert found.returncode == 0, found
        rows = [line.split() for line in found.stdout.splitlines() if re.match(r"\S+ +ok ", line)]
        orphans = [row for row in rows if row[-1] != "0"]
        assert server.broken_off or server.process.poll() != 0 or not orphans, orphans


@pytest.fixture
def own_server(tmp_path, request):
    """A server of the test's own, which it may kill and restart; and damage, if it is marked so."""
    server = Server(tmp_path).start()
    yield server
    if server.process.poll() is None:
        server.stop()
    if not request.node.get_closest_marker("damages"):
        verify(server)


@pytest.fixture
def client(server):
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def ns(client, request):
    """A name that nobody else uses; dropped at the end if it was created."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:100]
    namespace = client.namespace(f"{stem}-{next(numbers)}")
    yield namespace
    namespace.client = type(client)(client.port)
    namespace.ask("DELETE")
    namespace.client.close()
