"""Nearest neighbours, full text, hybrid search, listings, and what comes back."""
import math
import random
import threading

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


def test_sum_fusion_adds_scores_brought_to_0_to_1(articles):
    text = {"field": "body", "query": "sea"}
    shares = []
    for rank in ({"vector": [1, 0]}, {"full_text": text}):
        scores = {result["id"]: result["score"] for result in articles.results(**rank)}
        least, most = min(scores.values()), max(scores.values())
        shares.append({id: (score - least) / (most - least) if most > least else 1 for id, score in scores.items()})
    for weights in ({}, {"vector": 0.25}, {"full_text": 3, "vector": 0}):
        scores = {id: weights.get("vector", 1) * shares[0].get(id, 0) + weights.get("full_text", 1) * shares[1].get(id, 0)
                  for id in shares[0].keys() | shares[1].keys()}
        found = articles.results(vector=[1, 0], full_text=text, fusion={"method": "sum", "normalize": "minmax", "weights": weights})
        assert {result["id"]: pytest.approx(result["score"], abs=1e-6) for result in found} == scores
        assert [result["score"] for result in found] == sorted((result["score"] for result in found), reverse=True)
        assert articles.ids(vector=[1, 0], full_text=text, fusion={"method": "sum", "weights": weights}) == [r["id"] for r in found]


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


def pages(ns, **query):
    """The ids of all pages of a listing."""
    cursor, found = None, []
    while True:
        answer = ns.query(cursor=cursor, **query)
        found.append([result["id"] for result in answer["results"]])
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("order", [{"field": "a"}, {"field": "a", "direction": "desc"}, {"field": "s"}, {"field": "s", "direction": "desc"},
                                   {"field": "id", "direction": "desc"}, None])
def test_pages_of_a_listing_follow_each_other_over_segments_and_log(ns, order):
    ns.create(attributes={"a": "int", "s": "string"})
    documents = [{"id": i, "attributes": {"a": i * 7 % 5 if i % 4 else None, "s": "xyzx"[i % 4] * (i % 3)}} for i in range(23)]
    ns.upsert(*documents[:11])
    ns.compact()
    ns.upsert(*documents[11:])
    query = {"order_by": order, "filter": {"field": "id", "op": "ne", "value": 5}}
    whole = ns.ids(top_k=100, **query)
    assert len(whole) == 22
    for size in (1, 4, 11, 22, 23):
        found = pages(ns, top_k=size, **query)
        assert sum(found, []) == whole
        assert all(len(page) == size for page in found[:-1]) and found[-1]


def test_paging_is_stable_under_writes(ns):
    ns.create(attributes={"a": "int"})
    ns.upsert(*({"id": i, "attributes": {"a": i // 3}} for i in range(100)))
    order, cursor, met = {"field": "a", "direction": "desc"}, None, []
    for page in range(1000):
        answer = ns.query(order_by=order, top_k=7, cursor=cursor)
        met += [result["id"] for result in answer["results"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        ns.upsert({"id": 1000 + page, "attributes": {"a": 50}}, {"id": 2000 + page, "attributes": {"a": page % 33}})
        ns.delete(ids=[1000 + page - 1])
        if page % 3 == 0:
            ns.compact()
    old = [id for id in met if id < 100]
    assert old == sorted(range(100), key=lambda i: (-(i // 3), i))


@pytest.mark.parametrize("indexed", [False, True])
def test_pages_meet_every_document_that_stays_while_others_are_written(server, ns, indexed):
    """A writer adds, deletes and writes again (the same document, so it moves from segment to segment) all the time, the indexer merges;
    each walk over all pages meets each of 5000 documents that stay once, in order."""
    ns.create(attributes={"a": {"type": "int", "indexed": indexed}})
    stays = {id: {"id": id, "attributes": {"a": id * 7919 % 500}} for id in range(5000)}
    ns.upsert(*stays.values())
    ns.compact()
    over = threading.Event()

    def write():
        chance, client = random.Random(5), server.client()
        space, round = client.namespace(ns.name), 0
        while not over.is_set():
            round += 1
            space.upsert(*({"id": 10000 + chance.randrange(3000), "attributes": {"a": chance.randrange(500)}} for _ in range(100)))
            space.upsert(*(stays[id] for id in {chance.randrange(5000) for _ in range(100)}))
            space.delete(ids=[10000 + chance.randrange(3000) for _ in range(50)])
            if round % 10 == 0:
                space.compact()
        client.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for direction, sign in (("asc", 1), ("desc", -1)):
            found = sum(pages(ns, order_by={"field": "a", "direction": direction}, top_k=100), [])
            assert [id for id in found if id < 5000] == sorted(stays, key=lambda id: (sign * stays[id]["attributes"]["a"], id))
    finally:
        over.set()
        writer.join()


def test_a_cursor_of_another_order_or_namespace_is_refused(client, ns):
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1}, {"id": 2})
    cursor = ns.query(order_by={"field": "a"}, top_k=1)["next_cursor"]
    for order in ({"field": "id"}, {"field": "a", "direction": "desc"}):
        answer = ns.ask("POST", "/query", {"order_by": order, "cursor": cursor})
        assert answer.status == 400 and answer.error.startswith("cursor: ")
    other = client.namespace(ns.name + "-other")
    other.create(attributes={"a": "int"})
    assert other.ask("POST", "/query", {"order_by": {"field": "a"}, "cursor": cursor}).status == 400
    assert ns.ids(order_by={"field": "a"}, cursor=cursor) == [2]


def test_count_is_exact_whatever_ranks(articles):
    late = {"field": "year", "op": "gte", "value": 2002}
    text = {"field": "body", "query": "sea"}
    everything = articles.query(count=True)["count"]
    assert everything == 4
    for rank in ({}, {"vector": [1, 0]}, {"full_text": text}, {"vector": [1, 0], "full_text": text}):
        answer = articles.query(count=True, filter=late, top_k=1, **rank)
        assert answer["count"] == 3 and len(answer["results"]) == 1
    assert "count" not in articles.query(filter=late)


def test_aggregates_add_up_over_segments_and_log_and_leave_deleted_documents_out(ns):
    ns.create(attributes={"color": {"type": "string", "indexed": True}, "n": "int", "f": "float", "u": "uint", "when": "datetime"})
    ns.upsert({"id": 1, "attributes": {"color": "red", "n": 2**62, "f": 0.5, "u": 2**64 - 1, "when": "2020-01-01T00:00:00Z"}},
              {"id": 2, "attributes": {"color": "red", "n": 2**62, "when": "2021-01-01T00:00:00Z"}},
              {"id": 3, "attributes": {"color": "blue", "n": -1, "f": 0.25}}, {"id": 4, "attributes": {"n": 9}}, {"id": 5, "attributes": {"n": 99}})
    ns.compact()
    ns.delete(ids=[5])
    ns.upsert({"id": 3, "attributes": {"color": "blue", "n": -2, "f": 0.25}})
    got = ns.query(aggregate={"count": True, "sum": ["n", "f", "u"], "min": ["when", "n", "color"], "max": ["when", "n"]}, top_k=1)
    assert got["aggregate"] == {
        "count": 4, "sum": {"n": 2**63 + 7, "f": 0.75, "u": 2**64 - 1}, "min": {"when": "2020-01-01T00:00:00Z", "n": -2, "color": "blue"},
        "max": {"when": "2021-01-01T00:00:00Z", "n": 2**62}}
    got = ns.query(aggregate={"count": True, "sum": "n", "max": "f", "group_by": "color"}, top_k=1)
    assert got["aggregate"] == {"groups": [
        {"key": "blue", "count": 1, "sum": {"n": -2}, "max": {"f": 0.25}},
        {"key": "red", "count": 2, "sum": {"n": 2**63}, "max": {"f": 0.5}},
        {"key": None, "count": 1, "sum": {"n": 9}, "max": {"f": None}}]}
    nothing = ns.query(filter={"field": "n", "op": "eq", "value": 123}, aggregate={"count": True, "sum": "f", "min": "n"})
    assert nothing["results"] == [] and nothing["aggregate"] == {"count": 0, "sum": {"f": 0}, "min": {"n": None}}


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


def test_many_long_vectors_that_are_not_indexed_yet_are_compared_by_codes_and_few_exactly(ns):
    count, dim = 1200, 1024
    generator = random.Random(5)
    vectors = [[round(generator.gauss(0, 1), 2) for _ in range(dim)] for _ in range(count)]
    ns.create(vector_dim=dim, vector_metric="l2")
    ns.upsert(*({"id": id, "vector": vector} for id, vector in enumerate(vectors)))
    for id in range(0, count, 100):
        near = [x + 0.5 for x in vectors[id]]
        answer = ns.query(vector=near, explain=True)
        assert answer["results"][0]["id"] == id
        assert answer["explain"]["vector_index"]["codes_1bit"] >= count
        assert 0 < answer["explain"]["vector_index"]["exact"] < 100


def test_search_quality_and_consistency_are_accepted(articles):
    for more in ({"search": {"recall": 0.95}}, {"search": {"exact": True}}, {"consistency": "eventual"}, {"consistency": "strong"}):
        assert articles.ids(vector=[4, 1], top_k=1, **more) == [4]


@pytest.mark.parametrize("query, place", [
    ({}, "a query needs"), ({"vector": [1]}, "vector:"), ({"vector": [0, 0]}, "vector:"), ({"vector": [1, "a"]}, "vector[1]:"),
    ({"vector": [1, 2], "top_k": 0}, "top_k:"), ({"vector": [1, 2], "top_k": 10**9}, "top_k:"), ({"vector": [1, 2], "top_k": 1.5}, "top_k:"),
    ({"vector": [1, 2], "topk": 5}, "topk:"), ({"vector": [1, 2], "include_attributes": ["nobody"]}, "include_attributes[0]:"),
    ({"vector": [1, 2], "consistency": "maybe"}, "consistency:"), ({"vector": [1, 2], "search": {"recall": 2}}, "search.recall:"),
    ({"vector": [1, 2], "order_by": {"field": "year"}}, "order_by:"), ({"vector": [1, 2], "fusion": {}}, "fusion:"),
    ({"order_by": {"field": "nobody"}}, "order_by.field:"), ({"order_by": {"field": "year", "direction": "up"}}, "order_by.direction:"),
    ({"full_text": {"field": "year", "query": "x"}}, "full_text.field:"), ({"full_text": {"fields": ["title", "nobody"], "query": "x"}}, "full_text.fields[1]:"),
    ({"full_text": {"field": "title"}}, "full_text:"), ({"full_text": {"query": "x"}}, "full_text:"),
    ({"full_text": {"field": "title", "query": "x", "operator": "xor"}}, "full_text.operator:"),
    ({"full_text": {"field": "title", "query": "x", "weights": {"body": 2}}}, "full_text.weights:"),
    ({"full_text": {"field": "title", "query": "x", "weights": {"title": -1}}}, "full_text.weights.title:"),
    ({"vector": [1, 2], "full_text": {"field": "title", "query": "x"}, "fusion": {"method": "max"}}, "fusion.method:"),
    ({"fusion": {"method": "sum", "k": 1}}, "fusion.k:"), ({"fusion": {"method": "sum", "normalize": "z"}}, "fusion.normalize:"),
    ({"vector": [1, 2], "cursor": "00"}, "cursor:"), ({"order_by": {"field": "year"}, "cursor": "00"}, "cursor:"),
    ({"count": 1}, "count:"), ({"aggregate": {"count": True, "group_by": "nobody"}}, "aggregate.group_by:"),
    ({"aggregate": {"sum": "title"}}, "aggregate.sum:"), ({"aggregate": {"avg": "year"}}, "aggregate.avg:"),
    ({"filter": {"field": "nobody", "op": "eq", "value": 1}}, "filter.field:"), ({"filter": {"field": "year", "op": "like", "value": 1}}, "filter.op:"),
    ({"filter": {"field": "year", "op": "eq", "value": "x"}}, "filter.value:"), ({"filter": {"field": "year", "op": "in", "value": [1, "x"]}}, "filter.value[1]:"),
    ({"filter": {"field": "id", "op": "in", "value": [1, "x"]}}, "filter.value[1]:"),
    ({"filter": {"type": "and", "conditions": [{"field": "id", "op": "eq", "value": "x"}]}}, "filter.conditions[0].value:"),
])
def test_a_wrong_query_is_refused_and_its_place_is_named(articles, query, place):
    answer = articles.ask("POST", "/query", query)
    assert answer.status == 400
    assert answer.error.startswith(place)


@pytest.mark.parametrize("query, place", [
    ({"order_by": {"field": "tags"}}, "order_by.field:"),
    ({"aggregate": {"min": ["year", "tags"]}}, "aggregate.min[1]:"),
    ({"aggregate": {"count": True, "group_by": "tags"}}, "aggregate.group_by:"),
    ({"filter": {"field": "tags", "op": "eq", "value": "a"}}, "filter.op:"),
])
def test_arrays_are_neither_ordered_nor_aggregated_nor_equal_to_something(ns, query, place):
    ns.create(attributes={"tags": "array_string", "year": "int"})
    answer = ns.ask("POST", "/query", query)
    assert answer.status == 400
    assert answer.error.startswith(place) and "tags" in answer.error


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
