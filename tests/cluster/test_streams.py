"""What is passed on between nodes flows: large bodies both ways, and no node but the owner holds them."""
import gzip
import hashlib
import http.client
import json
import re
import socket
import threading
import time

import pytest

from cluster import Cluster, wait_for
from workload import ask

MIB = 1 << 20
GROWTH_MAX = 12 * MIB  # rings, curl's and the kernel's; a body alone has 60


def memory(node, what):
    text = open(f"/proc/{node.process.pid}/status").read()
    return int(re.search(rf"^{what}:\s+(\d+) kB", text, re.M).group(1)) << 10


class Growth:
    """How far the memory of a node rose above where it was."""

    def __init__(self, node):
        self.node = node

    def __enter__(self):
        with open(f"/proc/{self.node.process.pid}/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        self.before = memory(self.node, "VmRSS")
        return self

    def __exit__(self, *_):
        self.bytes = memory(self.node, "VmHWM") - self.before


def documents(count, size):
    return [{"id": i, "attributes": {"text": hashlib.sha256(b"%d" % i).hexdigest() * (size // 64)}} for i in range(count)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, store_kind):
    """With the limits that hold by default."""
    roomy = {"ELACSYM_CACHE_MEMORY_SIZE": str(2 << 30)}  # a budget, of which the owner uses some
    with Cluster(tmp_path_factory.mktemp("streams"), indexers=2, queries=1, store=store_kind, **roomy) as cluster:
        yield cluster
        statuses = cluster.stop()
        assert set(statuses.values()) == {0}, statuses


@pytest.fixture(scope="module")
def large(cluster):
    """A namespace of the first indexer with 57 MiB in it, which the second one passed on."""
    name = cluster.name_owned_by(cluster.indexers[0], "stream")
    path = f"/v1/namespaces/{name}"
    # Both have been used: threads, arenas and connections are there.
    for node in cluster.nodes:
        assert ask(cluster.indexers[1].port, "PUT", path, {"attributes": {"text": {"type": "string", "indexed": False}}})[0] == 200
        assert ask(node.port, "GET", path)[0] == 200
    batch = documents(3000, 20000)
    assert len(json.dumps({"documents": batch})) > 57 * MIB
    return path, batch


def test_a_batch_of_57_mib_flows_through_the_node_that_passes_it_on(cluster, large):
    path, batch = large
    with Growth(cluster.indexers[1]) as growth:
        status, headers, answer = ask(
            cluster.indexers[1].port, "POST", path + "/upsert", {"documents": batch}, {"X-Request-Id": "a-stream"}, timeout=120
        )
    assert status == 200, answer
    assert (answer, headers["X-Elacsym-Node"]) == ({"upserted": 3000}, cluster.indexers[0].name)
    assert headers["X-Request-Id"] == "a-stream"
    print(f"the node that passed it on grew by {growth.bytes / MIB:.1f} MiB")
    assert growth.bytes < GROWTH_MAX


def test_an_answer_of_57_mib_flows_through_too(cluster, large):
    path, batch = large
    query = {"order_by": {"field": "id"}, "top_k": 3000, "include_attributes": ["text"]}
    node = cluster.queries[0]
    with Growth(node) as growth:
        status, headers, answer = ask(node.port, "POST", path + "/query", query, timeout=120)
    assert (status, headers["X-Elacsym-Node"]) == (200, cluster.indexers[0].name)
    assert [(r["id"], r["attributes"]) for r in answer["results"]] == [(d["id"], d["attributes"]) for d in batch]
    print(f"{node.name} grew by {growth.bytes / MIB:.1f} MiB")
    assert growth.bytes < GROWTH_MAX


def test_an_answer_is_packed_once_by_its_owner(cluster, large):
    path, _ = large
    query = json.dumps({"order_by": {"field": "id"}, "top_k": 1000, "include_attributes": ["text"]})
    connection = http.client.HTTPConnection("127.0.0.1", cluster.queries[0].port, timeout=120)
    connection.request("POST", path + "/query", query, {"Content-Type": "application/json", "Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    packed = answer.read()
    assert (answer.status, answer.headers.get_all("Content-Encoding"), answer.headers.get_all("Vary")) == (200, ["gzip"], ["Accept-Encoding"])
    assert len(json.loads(gzip.decompress(packed))["results"]) == 1000
    connection.close()


def large_answer(node, path):
    """A connection on which an answer of 57 MiB has begun, and who gives it."""
    query = json.dumps({"order_by": {"field": "id"}, "top_k": 3000, "include_attributes": ["text"]}).encode()
    slow = socket.create_connection(("127.0.0.1", node.port))
    slow.sendall(b"POST %s/query HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(query), query))
    head = b""
    while b"\r\n\r\n" not in head:
        head += slow.recv(1024)
    return slow, re.search(rb"X-Elacsym-Node: (\S+)", head)[1].decode()


def test_a_client_that_reads_slowly_holds_up_the_answer_and_nobody_else(cluster, large):
    path, _ = large
    node = cluster.queries[0]
    for _ in range(5):  # of an owner that is slow to begin, the node answers itself
        with Growth(node) as growth:
            slow, answerer = large_answer(node, path)
            got, end = 0, time.monotonic() + 1.5
            while time.monotonic() < end:
                got += len(slow.recv(64 << 10))
                assert ask(node.port, "GET", path + "/documents/7")[0] == 200
                time.sleep(0.02)
            assert 0 < got < 50 * MIB
            slow.close()
        if answerer == cluster.indexers[0].name:
            break
    assert answerer == cluster.indexers[0].name
    assert growth.bytes < GROWTH_MAX


def test_an_owner_that_dies_amid_a_large_batch_has_applied_nothing(cluster, large):
    """Half of the body is there when it dies: 503, which says that nothing was applied."""
    path, batch = large
    owner, asked = cluster.indexers[0], cluster.indexers[1]
    body = json.dumps({"documents": [{**d, "attributes": {"text": "new"}} for d in batch] + documents(2500, 20000)}).encode()
    status = []

    def send():
        connection = socket.create_connection(("127.0.0.1", asked.port))
        connection.settimeout(30)
        try:
            connection.sendall(b"POST %s/upsert HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)))
            connection.sendall(body[: len(body) // 2])
            dead.wait()
            connection.sendall(body[len(body) // 2 :])
        except OSError:
            pass  # it need not take the rest
        status.append(connection.recv(1 << 16))
        connection.close()

    dead = threading.Event()
    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(1)
    owner.kill()
    dead.set()
    thread.join()
    try:
        assert b" 503 " in status[0].split(b"\r\n")[0] and b"nothing was applied" in status[0], status
    finally:
        owner.start(cluster.indexers)
    wait_for("the owner is asked again", 20, lambda: ask(asked.port, "GET", path + "/documents/1")[1]["X-Elacsym-Node"] == owner.name)
    assert ask(asked.port, "GET", path + "/documents/1")[2]["attributes"] == batch[1]["attributes"]


def test_an_owner_that_dies_amid_a_large_answer_cuts_it_short(cluster, large):
    """The client sees fewer bytes than Content-Length says, and never a whole answer that is wrong."""
    path, _ = large
    owner, node = cluster.indexers[0], cluster.queries[0]
    query = json.dumps({"order_by": {"field": "id"}, "top_k": 3000, "include_attributes": ["text"]})
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    connection.request("POST", path + "/query", query, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.length > 50 * MIB
    answer.read(MIB)
    owner.kill()
    try:
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
        # Asked again, this node answers from the store.
        status, headers, again = ask(node.port, "POST", path + "/query", json.loads(query), timeout=60)
        assert (status, headers["X-Elacsym-Node"], len(again["results"])) == (200, node.name, 3000)
    finally:
        owner.start(cluster.indexers)


def test_a_hanging_owner_does_not_hold_up_a_large_batch_for_ever(cluster, large):
    path, batch = large
    owner, asked = cluster.indexers[0], cluster.indexers[1]
    wait_for("the owner is asked again", 20, lambda: ask(asked.port, "GET", path + "/documents/1")[1]["X-Elacsym-Node"] == owner.name)
    owner.pause()
    try:
        began = time.monotonic()
        status, _, answer = ask(asked.port, "POST", path + "/upsert", {"documents": batch}, timeout=30)
        assert status == 503 and "nothing was applied" in answer["error"], answer
        assert time.monotonic() - began < 15
    finally:
        owner.resume()
