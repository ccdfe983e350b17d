import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cluster import Cluster, Simulator  # noqa: E402
from workload import Workload  # noqa: E402

# Small limits, so that indexing and collection happen all the time.
BUSY = {
    "ELACSYM_TAIL_INDEX_ROWS": "300",
    "ELACSYM_TAIL_INDEX_IDLE_SECS": "1",
    "ELACSYM_GC_GRACE_SECS": "1",
    "ELACSYM_COMMIT_INTERVAL_MS": "20",
}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="faults for as long as docs/testing.md says")
    parser.addoption("--store", choices=["minio", "s3sim", "given"], help="MinIO where it is installed, else the simulator; given: as tools/s3_server.sh says")
    parser.addoption("--seed", type=int, default=random.randrange(2**32))


def pytest_terminal_summary(terminalreporter):
    if Workload.explained:
        terminalreporter.write_line(f"{Workload.explained} operations on documents went to the checker of histories")


@pytest.fixture
def long(request):
    return request.config.getoption("--long")


@pytest.fixture
def seed(request):
    seed = request.config.getoption("--seed")
    print(f"--seed {seed} repeats the choices")
    return seed


@pytest.fixture(scope="session")
def store_kind(request):
    return request.config.getoption("--store")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    simulator = Simulator(tmp_path_factory.mktemp("s3sim"), "s3sim").start()
    yield simulator
    simulator.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, store_kind):
    """Three indexers, two query nodes, nginx; the tests of a module share them and leave them as they found them."""
    with Cluster(tmp_path_factory.mktemp("cluster"), store=store_kind, **BUSY) as cluster:
        yield cluster
        statuses = cluster.stop()
        assert set(statuses.values()) == {0}, statuses
