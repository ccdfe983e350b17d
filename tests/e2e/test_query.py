"""Nearest neighbours, full text, hybrid search, listings, and what comes back."""
import math
import random

import pytest


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


SCORES = {
    "cosine": cosine,
    "l2": lambda a, b: -sum((x - y) ** 2 for x, y in zip(a, b)),
    "dot": lambda a, b: sum(x * y for x, y in zip(a, b)),
}


@pytest.mark.parametrize("metric", SCORES)
def test_nearest_neighbours_are_exact_for_every_metric(ns, metric):
    dim = 17
    generator = random.Random(metric)
    vectors = {id: [generator.gauss(0, 1) for _ in range(dim)] for id in range(600)}
    ns.create(vector_dim=dim, vector_metric=metric, attributes={"third": "bool"})

    def put(ids):
        ns.upsert(*({"id": id, "vector": vectors[id], "attributes": {"third": id % 3 == 0}} for id in ids))

    put(range(300))
    ns.compact()
    put(range(250, 600))
    for _ in range(5):
        query = [generator.gauss(0, 1) for _ in range(dim)]
        for filter, wanted in ((None, vectors), ({"field": "third", "op": "eq", "value": True},
                                                 {id: v for id, v in vectors.items() if id % 3 == 0})):
            found = ns.results(vector=query, top_k=20, filter=filter, include_attributes=False)
            scores = {id: SCORES[metric](query, vector) for id, vector in wanted.items()}
            best = sorted(scores, key=lambda id: -scores[id])[:20]
            assert [result["id"] for result in found] == best
            assert [result["score"] for result in found] == pytest.approx([scores[id] for id in best], rel=1e-4, abs=1e-5)


def test_documents_without_a_vector_are_no_neighbours(ns):
    ns.create(vector_dim=2)
    ns.upsert({"id": 1}, {"id": 2, "vector": [1, 0]})
    assert ns.ids(vector=[1, 0]) == [2]


def test_equal_scores_are_ordered_by_id(ns):
    ns.create(vector_dim=2)
    ns.upsert(*({"id": id, "vector": [1, 1]} for id in (9, 3, 7)))
    ns.compact()
    ns.upsert(*({"id": id, "vector": [1, 1]} for id in (5, 1)))
    assert ns.ids(vector=[2, 2]) == [1, 3, 5, 7, 9]
    assert ns.ids(vector=[2, 2], top_k=3) == [1, 3, 5]


def test_a_filtered_query_returns_top_k_when_so_many_match(ns):
    ns.create(vector_dim=2, attributes={"rare": "bool"})
    ns.upsert(*({"id": i, "vector": [math.cos(i / 1000), math.sin(i / 1000)], "attributes": {"rare": i % 100 == 99}} for i in range(1000)))
    found = ns.ids(vector=[1, 0], top_k=10, filter={"field": "rare", "op": "eq", "value": True})
    assert found == [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]


ARTICLES = [
    ("The boat", "A small boat sails the sea"),
    ("Fishing", "Boats and boats and many boats at sea"),
    ("Mountains", "Snow lies on the high mountains"),
    ("Sea and snow", "The sea is cold"),
]


@pytest.fixture(params=["in the log", "in a segment"])
def articles(ns, request):
    full_text = {"type": "string", "full_text": True}
    ns.create(vector_dim=2, attributes={"title": full_text, "body": full_text, "year": "int"})
    ns.upsert(*({"id": id, "vector": [id, 1], "attributes": {"title": title, "body": body, "year": 2000 + id}}
                for id, (title, body) in enumerate(ARTICLES, 1)))
    if request.param == "in a segment":
        ns.compact()
    return ns


def test_words_are_found_by_their_stems(articles):
    assert set(articles.ids(full_text={"field": "body", "query": "boat"})) == {1, 2}
    assert articles.ids(full_text={"field": "body", "query": "sailing"}) == [1]
    assert articles.ids(full_text={"field": "body", "query": "MOUNTAIN"}) == [3]


def test_stop_words_alone_find_nothing(articles):
    assert articles.ids(full_text={"field": "body", "query": "the and"}) == []
    assert articles.ids(full_text={"field": "body", "query": ""}) == []


def test_bm25_is_what_the_formula_says(articles):
    """One field, one term: idf * tf / (tf + k1 * (1 - b + b * length / average))."""
    lengths = [4, 5, 4, 2]  # words of the bodies without stop words
    frequencies = [1, 3, 0, 0]
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    average = sum(lengths) / 4

    def score(i):
        tf, length = frequencies[i], lengths[i]
        return pytest.approx(idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * length / average)), rel=1e-4)

    found = articles.results(full_text={"field": "body", "query": "boats"}, include_attributes=False)
    assert found == [{"id": 2, "score": score(1)}, {"id": 1, "score": score(0)}]


def test_and_needs_every_word_in_any_of_the_fields(articles):
    fields = {"fields": ["title", "body"], "query": "sea snow"}
    assert set(articles.ids(full_text=fields)) == {1, 2, 3, 4}
    assert articles.ids(full_text=dict(fields, operator="and")) == [4]
    assert articles.ids(full_text={"field": "body", "query": "sea snow", "operator": "and"}) == []


def test_weights_multiply_the_scores_of_fields(articles):
    plain = articles.results(full_text={"field": "title", "query": "fishing"})
    heavy = articles.results(full_text={"field": "title", "query": "fishing", "weights": {"title": 3}})
    assert heavy[0]["score"] == pytest.approx(3 * plain[0]["score"], rel=1e-5)


def test_hybrid_is_the_sum_of_reciprocal_ranks(articles):
    text = {"field": "body", "query": "sea"}
    by_vector, by_text = articles.ids(vector=[1, 0]), articles.ids(full_text=text)
    for k, weight in ((60, 1), (1, 2.5), (0, 0)):
        scores = {}
        for id in by_vector:
            scores[id] = 1 / (k + by_vector.index(id) + 1)
        for id in by_text:
            scores[id] = scores.get(id, 0) + weight / (k + by_text.index(id) + 1)
        found = articles.results(vector=[1, 0], full_text=text, fusion={"k": k, "weights": {"full_text": weight}})
        assert {result["id"]: pytest.approx(result["score"]) for result in found} == scores
        assert [result["score"] for result in found] == sorted((result["score"] for result in found), reverse=True)


def test_a_filter_restricts_text_and_hybrid_queries(articles):
    late = {"field": "year", "op": "gte", "value": 2002}
    assert set(articles.ids(full_text={"field": "body", "query": "sea"}, filter=late)) == {2, 4}
    assert set(articles.ids(full_text={"field": "body", "query": "sea"}, vector=[1, 0], filter=late)) == {2, 3, 4}


def test_a_listing_is_ordered_by_an_attribute_then_id_with_nulls_last(ns):
    ns.create(attributes={"a": "int", "s": "string"})
    ns.upsert({"id": 1, "attributes": {"a": 2, "s": "b"}}, {"id": 2}, {"id": 3, "attributes": {"a": -1, "s": "a"}})
    ns.compact()
    ns.upsert({"id": 4, "attributes": {"a": 2, "s": "a"}}, {"id": 5})
    assert ns.ids(order_by={"field": "a"}) == [3, 1, 4, 2, 5]
    assert ns.ids(order_by={"field": "a", "direction": "desc"}) == [1, 4, 3, 2, 5]
    assert ns.ids(order_by={"field": "s", "direction": "asc"}) == [3, 4, 1, 2, 5]
    assert ns.ids(order_by={"field": "id", "direction": "desc"}) == [5, 4, 3, 2, 1]
    assert ns.ids(order_by={"field": "a"}, filter={"field": "a", "op": "gt", "value": 0}, top_k=1) == [1]
    assert all(result["score"] == 0 for result in ns.results(order_by={"field": "a"}))


def test_results_hold_what_was_asked_for(articles):
    def first(**more):
        return articles.results(vector=[1, 1], top_k=1, **more)[0]

    everything = {"title": "The boat", "body": "A small boat sails the sea", "year": 2001}
    assert first() == {"id": 1, "score": pytest.approx(1), "attributes": everything}
    assert first(include_attributes=True)["attributes"] == everything
    assert first(include_attributes=["year", "title"])["attributes"] == {"title": "The boat", "year": 2001}
    assert first(include_attributes=[]).get("attributes", {}) == {}
    assert "attributes" not in first(include_attributes=False)
    assert first(include_vector=True)["vector"] == [1, 1]
    assert "vector" not in first()


def test_top_k_has_a_default_of_10_and_a_limit_of_10000(ns):
    ns.create(vector_dim=2)
    ns.upsert(*({"id": i, "vector": [1, i + 1]} for i in range(10050)))
    assert len(ns.ids(vector=[1, 1])) == 10
    assert len(ns.ids(vector=[1, 1], top_k=10000)) == 10000


def test_an_answer_tells_its_time_and_explain_its_cost(articles):
    answer = articles.query(vector=[1, 0])
    assert answer["took_ms"] >= 0 and "explain" not in answer
    explained = articles.query(vector=[1, 0], full_text={"field": "body", "query": "sea"}, explain=True)["explain"]
    assert explained["plan"] == "hybrid"
    assert explained["segments"] + explained["tail_segments"] == 1
    assert explained["live_rows"] == 4
    assert explained["stages_ms"]["total"] >= explained["stages_ms"]["vector"]


def test_search_quality_and_consistency_are_accepted(articles):
    for more in ({"search": {"recall": 0.95}}, {"search": {"exact": True}}, {"consistency": "eventual"}, {"consistency": "strong"}):
        assert articles.ids(vector=[4, 1], top_k=1, **more) == [4]


@pytest.mark.parametrize("query, place", [
    ({}, "a query needs"), ({"vector": [1]}, "vector:"), ({"vector": [0, 0]}, "vector:"), ({"vector": [1, "a"]}, "vector[1]:"),
    ({"vector": [1, 2], "top_k": 0}, "top_k:"), ({"vector": [1, 2], "top_k": 10**9}, "top_k:"), ({"vector": [1, 2], "top_k": 1.5}, "top_k:"),
    ({"vector": [1, 2], "topk": 5}, "topk:"), ({"vector": [1, 2], "include_attributes": ["nobody"]}, "include_attributes:"),
    ({"vector": [1, 2], "consistency": "maybe"}, "consistency:"), ({"vector": [1, 2], "search": {"recall": 2}}, "search.recall:"),
    ({"vector": [1, 2], "order_by": {"field": "year"}}, "order_by:"), ({"vector": [1, 2], "fusion": {}}, "fusion:"),
    ({"order_by": {"field": "nobody"}}, "order_by.field:"), ({"order_by": {"field": "year", "direction": "up"}}, "order_by.direction:"),
    ({"full_text": {"field": "year", "query": "x"}}, "full_text:"), ({"full_text": {"field": "nobody", "query": "x"}}, "full_text:"),
    ({"full_text": {"field": "title"}}, "full_text:"), ({"full_text": {"query": "x"}}, "full_text:"),
    ({"full_text": {"field": "title", "query": "x", "operator": "xor"}}, "full_text.operator:"),
    ({"full_text": {"field": "title", "query": "x", "weights": {"body": 2}}}, "full_text:"),
    ({"full_text": {"field": "title", "query": "x", "weights": {"title": -1}}}, "full_text.weights.title:"),
    ({"vector": [1, 2], "full_text": {"field": "title", "query": "x"}, "fusion": {"method": "max"}}, "fusion.method:"),
])
def test_a_wrong_query_is_refused_and_its_place_is_named(articles, query, place):
    answer = articles.ask("POST", "/query", query)
    assert answer.status == 400
    assert answer.error.startswith(place)


def test_a_vector_query_where_there_are_no_vectors_is_refused(ns):
    ns.create()
    answer = ns.ask("POST", "/query", {"vector": [1]})
    assert answer.status == 400
    assert "no vectors" in answer.error


def test_queries_of_an_empty_namespace_find_nothing(ns):
    ns.create(vector_dim=2, attributes={"t": {"type": "string", "full_text": True}})
    assert ns.ids(vector=[1, 0]) == []
    assert ns.ids(full_text={"field": "t", "query": "x"}) == []
    assert ns.ids(vector=[1, 0], full_text={"field": "t", "query": "x"}) == []
    assert ns.ids(order_by={"field": "t"}) == []
