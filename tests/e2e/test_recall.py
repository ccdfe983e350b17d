"""POST .../recall: what it measures, and what it refuses. How good searches are is measured in test_collections.py."""
import base64

import numpy
import pytest

ROWS, DIM = 6000, 16


@pytest.fixture(scope="module")
def crowd(server):
    """6000 vectors around 100 centres, indexed; the even ids have the mark 1."""
    random = numpy.random.default_rng(5)
    centres = random.normal(size=(100, DIM))
    vectors = (centres[random.integers(100, size=ROWS)] + 0.3 * random.normal(size=(ROWS, DIM))).astype("<f4")
    client = server.client()
    namespace = client.namespace("recall-crowd")
    namespace.create(vector_dim=DIM, vector_metric="cosine", attributes={"mark": {"type": "int", "indexed": True}})
    for first in range(0, ROWS, 1000):
        documents = [{"id": id, "vector": base64.b64encode(vectors[id].tobytes()).decode(), "attributes": {"mark": int(id % 2 == 0)}}
                     for id in range(first, first + 1000)]
        assert namespace.ask("POST", "/upsert", {"documents": documents}).status == 200
    namespace.compact()
    yield namespace
    namespace.ask("DELETE")
    client.close()


def test_searches_by_index_are_compared_with_exact_ones(crowd):
    answer = crowd.ask("POST", "/recall", {}).json
    assert answer["queries"] == 25 and answer["top_k"] == 10
    # 25 queries of chance at 0.97 expected: 0.7 is far out of reach for anything but a broken index.
    assert 0.7 <= answer["recall"] <= 1
    assert answer["per_query"]["clusters"] >= 1 and answer["per_query"]["exact"] >= 11


def test_an_exact_search_has_a_recall_of_one(crowd):
    answer = crowd.ask("POST", "/recall", {"num": 5, "search": {"exact": True}}).json
    assert answer["recall"] == 1 and answer["per_query"]["clusters"] == 0


def test_a_filter_restricts_the_neighbours(crowd):
    answer = crowd.ask("POST", "/recall", {"num": 10, "top_k": 100, "filter": {"field": "id", "op": "lt", "value": 40}}).json
    assert 39 <= answer["per_query"]["neighbours"] <= 40
    assert answer["recall"] == 1


@pytest.mark.parametrize("body, words", [
    ({"num": 0}, "num"),
    ({"num": 101}, "num"),
    ({"top_k": 101}, "top_k"),
    ({"top_k": "ten"}, "top_k"),
    ({"queries": 5}, "queries"),
    ({"filter": {"field": "colour", "op": "eq", "value": 1}}, "colour"),
    ({"search": {"recall": 2}}, "recall"),
])
def test_what_makes_no_sense_is_refused_by_name(crowd, body, words):
    answer = crowd.ask("POST", "/recall", body)
    assert answer.status == 400 and words in answer.error


def test_a_namespace_without_vectors_has_no_recall(ns):
    assert ns.ask("POST", "/recall", {}).status == 404
    ns.create(attributes={"title": {"type": "string"}})
    answer = ns.ask("POST", "/recall", {})
    assert answer.status == 400 and "no vectors" in answer.error


def test_an_empty_namespace_misses_nothing(ns):
    ns.create(vector_dim=3, vector_metric="l2")
    answer = ns.ask("POST", "/recall", {}).json
    assert answer["recall"] == 1 and answer["queries"] == 0
