"""What was acknowledged survives; what was damaged is noticed."""
import concurrent.futures
import http.client
import random
import threading

import pytest


def test_acknowledged_writes_survive_kill_and_restart(own_server):
    ns = own_server.client().namespace("kept")
    ns.create(vector_dim=2, attributes={"a": "int", "t": {"type": "string", "full_text": True}})
    ns.upsert(*({"id": i, "vector": [i + 1, 1], "attributes": {"a": i, "t": f"word{i}"}} for i in range(50)))
    ns.compact()
    ns.upsert({"id": 3, "attributes": {"a": -3}})
    ns.delete(ids=[4], filter={"field": "a", "op": "gte", "value": 40})
    before = ns.query(order_by={"field": "id"}, top_k=100, include_vector=True)["results"]
    for _ in range(2):
        own_server.kill()
        own_server.start()
        ns = own_server.client().namespace("kept")
        assert ns.query(order_by={"field": "id"}, top_k=100, include_vector=True)["results"] == before
        assert ns.ids(full_text={"field": "t", "query": "word7"}) == [7]
        assert ns.info()["document_count"] == len(before) == 39


def test_a_stop_is_clean_and_a_start_after_it_finds_everything(own_server):
    ns = own_server.client().namespace("kept")
    ns.create()
    ns.upsert({"id": 1})
    assert own_server.stop() == 0
    own_server.start()
    assert own_server.client().namespace("kept").document(1) == {"id": 1, "attributes": {}}


def test_a_repeated_key_is_known_after_a_restart(own_server):
    ns = own_server.client().namespace("keys")
    ns.create()
    body, key = {"documents": [{"id": 1}, {"id": 2}]}, {"Idempotency-Key": "k"}
    first = ns.ask("POST", "/upsert", body, key)
    ns.delete(ids=[1])
    own_server.kill()
    own_server.start()
    ns = own_server.client().namespace("keys")
    again = ns.ask("POST", "/upsert", body, key)
    assert again.json == first.json
    assert ns.ids(order_by={"field": "id"}) == [2]
    assert ns.ask("POST", "/upsert", {"documents": []}, key).status == 422


def test_killed_amid_writes_every_acknowledged_one_is_there_and_none_in_part(own_server):
    """Each request writes a pair; after the kill every acknowledged pair is whole, every other whole or absent."""
    own_server.client().namespace("pairs").create(attributes={"a": "int"})
    acknowledged, lock, stop = set(), threading.Lock(), threading.Event()

    def write(worker):
        ns = own_server.client().namespace("pairs")
        for i in range(10**6):
            if stop.is_set():
                return
            pair = worker * 10**6 + i
            try:
                ns.upsert({"id": 2 * pair}, {"id": 2 * pair + 1})
            except (http.client.HTTPException, OSError):
                return
            with lock:
                acknowledged.add(pair)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(write, worker) for worker in range(4)]
        stop.wait(0.7)
        own_server.kill()
        stop.set()
        for task in tasks:
            task.result()
    assert acknowledged
    own_server.start()
    ns = own_server.client().namespace("pairs")
    found = set(ns.ids(order_by={"field": "id"}, top_k=10000))
    assert len(found) < 10000
    for pair in acknowledged:
        assert 2 * pair in found and 2 * pair + 1 in found
    assert all(id ^ 1 in found for id in found)


def test_a_write_is_seen_by_the_next_query_whoever_asks(own_server):
    own_server.client().namespace("fresh").create()

    def write_and_read(worker):
        writer, reader = own_server.client().namespace("fresh"), own_server.client().namespace("fresh")
        for i in range(30):
            id = worker * 1000 + i
            writer.upsert({"id": id})
            assert reader.ids(filter={"field": "id", "op": "eq", "value": id}) == [id]
            assert reader.document(id)["id"] == id

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for result in pool.map(write_and_read, range(8)):
            assert result is None
    assert own_server.client().namespace("fresh").info()["document_count"] == 240


def test_readers_never_see_part_of_a_request(own_server):
    """A writer moves ten documents from one value to the next in one request; no query sees two values."""
    client = own_server.client()
    client.namespace("whole").create(attributes={"v": "int"})
    stop = threading.Event()

    def write():
        ns = own_server.client().namespace("whole")
        value = 0
        while not stop.is_set():
            value += 1
            ns.upsert(*({"id": i, "attributes": {"v": value}} for i in range(10)))
            if value % 20 == 0:
                ns.compact()
        return value

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        ns, seen = client.namespace("whole"), 0
        for _ in range(300):
            values = {result["attributes"]["v"] for result in ns.results(order_by={"field": "id"})}
            assert len(values) <= 1
            if values:
                assert min(values) >= seen
                seen = min(values)
        stop.set()
        assert writer.result() >= seen


@pytest.mark.folder
@pytest.mark.damages
def test_a_changed_byte_in_a_segment_is_an_error_that_names_it_and_never_a_wrong_result(own_server):
    """Whatever byte of the segment is changed: the right results, or 500 with the object's name."""
    ns = own_server.client().namespace("damaged")
    ns.create(vector_dim=4, attributes={"t": {"type": "string", "full_text": True}, "a": {"type": "int", "indexed": True}})
    generator = random.Random(5)
    ns.upsert(*({"id": i, "vector": [generator.gauss(0, 1) for _ in range(4)], "attributes": {"t": f"common word{i % 7}", "a": i % 5}}
                for i in range(200)))
    ns.compact()
    queries = [
        {"vector": [1, 0, 0, 0], "include_vector": True},
        {"full_text": {"field": "t", "query": "word3"}},
        {"filter": {"field": "a", "op": "eq", "value": 3}, "order_by": {"field": "a"}, "top_k": 1000},
    ]
    right = [ns.results(**query) for query in queries]
    own_server.stop()
    segments = [path for path in (own_server.root / "data").rglob("*") if path.is_file() and "/segment/" in str(path)]
    assert len(segments) == 1
    whole = segments[0].read_bytes()
    errors = 0
    for position in sorted(generator.sample(range(len(whole)), 12)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << generator.randrange(8)
        segments[0].chmod(0o644)
        segments[0].write_bytes(damaged)
        own_server.start()
        ns = own_server.client().namespace("damaged")
        for query, results in zip(queries, right):
            answer = ns.ask("POST", "/query", query)
            if answer.status == 200:
                assert answer.json["results"] == results, position
            else:
                assert answer.status == 500, (position, answer)
                assert segments[0].name in answer.error
                errors += 1
        own_server.stop()
    assert errors > 0


@pytest.mark.folder
def test_a_second_server_on_the_same_folder_refuses_to_start(own_server):
    with pytest.raises(AssertionError, match="the server ended"):
        type(own_server)(own_server.root).start()
