import itertools
import re

import pytest

import buckets
from elacsym import Server

numbers = itertools.count()

# tools/s3_test.py runs these where there is an S3 server.
collect_ignore = [] if buckets.ENDPOINT else ["test_s3.py", "test_s3_refused.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "folder: about objects in a folder, not in a bucket")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that leave it as they found it."""
    server = Server(tmp_path_factory.mktemp("elacsym")).start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def own_server(tmp_path):
    """A server of the test's own, which it may kill, damage and restart."""
    server = Server(tmp_path).start()
    yield server
    if server.process.poll() is None:
        server.stop()


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
