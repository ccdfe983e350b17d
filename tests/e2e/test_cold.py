"""What the first query of a node without caches reads of a bucket: rounds, requests, bytes.

On the simulator, and by tools/s3_test.py on real servers; bench/bench_s3_cold.py measures a million rows."""
import random
import re

import pytest

from s3 import S3

DIM, ROWS = 64, 6000
LETTERS, UNIQUE = 3000, 60  # texts, and words of each that no other has
# Two end with the manifest and four more with the fence; then come the fences of the openings before, one, two, four at
# once. The survey of a process indexes past them, but yields to all others: on a busy machine each process here is killed
# before that, and the last question finds four.
OPENING_ROUNDS = 6 + 3
NEAR = [round(random.Random(8).gauss(0, 1), 3) for _ in range(DIM)]  # the first vectors lie around it
WORDS = [f"{stem}{i}" for stem in ("sea", "ship", "storm", "anchor") for i in range(250)]
# The catalog is one LIST and one GET; the manifest the same, and beside it the catalog's LIST again.
MANIFEST_ROUNDS, MANIFEST_REQUESTS = 4, 5
# The query does not wait for the namespace to be opened for writing but follows its log: a LIST and a
# GET beside the segments' ends, and the fences of the openings before, one, two, four at once.
# A node that began to open the namespace by itself, before the query came, has it look at the log once more.
LOG_ROUNDS, LOG_REQUESTS = 3 + 1, 2 + 6 + 1
QUERIES = {
    # name: query, rounds and requests behind the manifest but for the log, bytes of all. A vector index
    # is another round in each namespace: nearly always it is asked once.
    "text": ({"full_text": {"field": "body", "query": "storm7 sea9 ship3"}}, 3, 6, 2 << 20),
    "text and filter": ({"full_text": {"field": "body", "query": "storm7 sea9 ship3"},
                         "filter": {"field": "year", "op": "gte", "value": 1910}}, 3, 6, 2 << 20),
    "vector": ({"vector": NEAR}, 3, 8, 4 << 20),
    "vector and filter": ({"vector": NEAR, "filter": {"field": "year", "op": "gte", "value": 1960}}, 6, 12, 4 << 20),
    "listing": ({"filter": {"field": "year", "op": "eq", "value": 1950}, "order_by": {"field": "rank"}}, 3, 6, 2 << 20),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    s3 = S3()
    server = s3.server(tmp_path_factory.mktemp("cold"), ELACSYM_CACHE_DISK_SIZE="0", ELACSYM_TAIL_INDEX_ROWS="1000000")
    server.start()
    client = server.client()
    sea = client.namespace("sea")
    sea.create(vector_dim=DIM, attributes={"body": {"type": "string", "full_text": True}, "year": "int", "rank": "int"})
    chance = random.Random(3)
    centres = [NEAR] + [[chance.gauss(0, 1) for _ in range(DIM)] for _ in range(29)]
    for at in range(0, ROWS, 1000):
        sea.upsert(*({"id": i, "vector": [round(x + chance.gauss(0, 0.3), 3) for x in centres[i % 30]],
                      "attributes": {"body": " ".join(chance.choices(WORDS, k=30)), "year": 1900 + i % 100, "rank": i * 7 % ROWS}}
                     for i in range(at, at + 1000)))
    sea.compact()
    letters = client.namespace("letters")
    letters.create(attributes={"body": {"type": "string", "full_text": True}})
    for at in range(0, LETTERS, 1000):
        letters.upsert(*({"id": i, "attributes": {"body": " ".join(
            [f"{chance.choice('abcdefgh')}{i * UNIQUE + k:07}" for k in range(UNIQUE)] + chance.choices(WORDS, k=10))}}
            for i in range(at, at + 1000)))
    letters.compact()
    client.close()
    yield server
    if server.process.poll() is None:
        server.stop()
    s3.stop()


def first_answer(server, query, namespace="sea"):
    """explain of the first query of a fresh process, and what it logged of the opening beside it."""
    server.kill()
    (server.root / "log").unlink()
    server.start()
    client = server.client()
    sea = client.namespace(namespace)
    asked = {**query, "top_k": 10, "include_attributes": True}
    first = sea.query(**asked, explain=True)
    assert first["results"] and first["results"] == sea.results(**asked)
    sea.info()  # which waits for the opening
    client.close()
    opened = re.search(r"namespace opened.*?rounds\W+(\d+)", server.log())
    return first["explain"], int(opened[1])


@pytest.mark.parametrize("name", QUERIES)
def test_a_cold_query_takes_few_rounds_requests_and_bytes(loaded, name):
    query, rounds, requests, size = QUERIES[name]
    explain, opening = first_answer(loaded, query)
    assert explain["rounds"] <= MANIFEST_ROUNDS + LOG_ROUNDS + rounds
    assert explain["store_requests"] <= MANIFEST_REQUESTS + LOG_REQUESTS + requests
    assert 0 < explain["store_bytes"] <= size
    assert opening <= OPENING_ROUNDS


def test_a_cold_text_query_reads_the_ranges_of_its_words(loaded):
    # The index has 180,000 words of 8 letters and more: 2 MB. Some KB a word are read, and the lengths; gaps between
    # them count up to 256 KB each.
    ranged, _ = first_answer(loaded, {"full_text": {"field": "body", "query": "storm7 sea9"}}, "letters")
    whole, _ = first_answer(loaded, {"full_text": {"field": "body", "query": "storm7 sea9", "fuzzy": 1}}, "letters")
    assert ranged["rounds"] <= MANIFEST_ROUNDS + LOG_ROUNDS + 2
    assert ranged["store_bytes"] < 1 << 20 and ranged["store_bytes"] < whole["store_bytes"] - (1 << 20)
    assert ranged["store_requests"] <= MANIFEST_REQUESTS + LOG_REQUESTS + 13
