"""Packets are lost between nodes, each in a network namespace of its own, while clients write and read."""
import time

import pytest

import wires
from cluster import MINIO, Minio, Node, wait_for
from conftest import BUSY
from test_faults import SCHEMA, Watch
from workload import NoAnswer, Workload, ask

REASON = wires.why_not() or (None if MINIO.exists() else "MinIO is not installed, and the simulator listens on loopback only")
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class Apart:
    """MinIO here; two indexers and two query nodes, each behind a wire."""

    def __init__(self, folder, net):
        self.store = Minio(folder)
        self.store.host = net.here
        self.store.start()
        make = lambda name, role: Node(folder, name, role, self.store, **BUSY)  # noqa: E731
        self.indexers = [make("indexer-1", "indexer"), make("indexer-2", "indexer")]
        self.queries = [make("query-1", "query"), make("query-2", "query")]
        self.nodes = [*self.indexers, *self.queries]
        for node in self.nodes:
            net.attach(node)
        for node in self.nodes:
            node.start(self.indexers)

    def end(self):
        statuses = [node.stop() for node in self.nodes]
        self.store.kill()
        return statuses

    def kill(self):
        for process in (*self.nodes, self.store):
            if process.running:
                process.kill()

    def name_owned_by(self, node, stem):
        for i in range(100):
            answer = ask(self.queries[0].address, "DELETE", f"/v1/namespaces/{stem}-{i}")[2]
            if answer["owner"]["node_id"] == node.name:
                return f"{stem}-{i}"
        raise AssertionError(node.name)


@pytest.fixture(scope="module")
def net():
    with wires.Wires() as net:
        yield net


@pytest.fixture(scope="module")
def apart(tmp_path_factory, net):
    apart = Apart(tmp_path_factory.mktemp("wires"), net)
    try:
        yield apart
        assert apart.end() == [0, 0, 0, 0]
    finally:
        apart.kill()


def lose(net, apart, how):
    """Between the first indexer, which owns one of the namespaces, and another node."""
    owner, query, other = apart.indexers[0], apart.queries[0], apart.indexers[1]
    if how in ("everything", "requests"):
        net.drop(query, owner)
    if how in ("everything", "answers"):
        net.drop(owner, query)
    if how == "three in ten":
        for a, b in ((query, owner), (owner, query), (other, owner), (owner, other)):
            net.drop(a, b, 0.3)
    if how == "the store":
        net.drop(None, owner)  # answers of the store, and whatever is asked from here


HOW = ["everything", "requests", "answers", "three in ten", "the store"]


def pytest_generate_tests(metafunc):
    if "how" in metafunc.fixturenames:
        metafunc.parametrize("how", HOW if metafunc.config.getoption("--long") else HOW[:1])


def test_packets_between_two_nodes_are_lost(net, apart, seed, long, how):
    names = [apart.name_owned_by(node, how.replace(" ", "-")) for node in apart.indexers]
    for name in names:
        ask(apart.indexers[1].address, "PUT", f"/v1/namespaces/{name}", SCHEMA)
    # Who is cut off from here takes no requests from here.
    asked = [n for n in apart.nodes if how != "the store" or n is not apart.indexers[0]]
    load = Workload(
        names,
        lambda: [n.address for n in asked if n.role == "indexer"],
        lambda: [n.address for n in asked],
        seed,
        patience_s=90,
    )
    watch = Watch(apart.queries[0].address, names[0])
    with load:
        watch.start()
        for _ in range(8 if long else 1):
            time.sleep(1)
            lose(net, apart, how)
            time.sleep(3)
            net.mend()
            time.sleep(2 if long else 1)
        gap = watch.end()
    wait_for("everybody is well", 60, lambda: all(well(n, names) for n in apart.nodes))
    wrong = load.check([n.address for n in apart.nodes])
    print(load, "longest gap in s:", round(gap, 3))
    assert not wrong, "\n".join(wrong[:20])
    assert load.acknowledged > 20 and load.reads > 20, str(load)
    assert watch.reads > 5
    if how == "the store":
        assert gap < 2.5


def well(node, names):
    try:
        return all(ask(node.address, "GET", f"/v1/namespaces/{name}")[0] == 200 for name in names)
    except NoAnswer:
        return False
