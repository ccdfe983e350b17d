"""Upserts, deletes and reads of single documents."""
import base64
import math
import struct

import pytest

EVERYTHING = {
    "s": "string", "i": "int", "u": "uint", "f": "float", "b": "bool", "d": "datetime", "k": "uuid",
    "as": "array_string", "ai": "array_int", "au": "array_uint", "af": "array_float", "ab": "array_bool", "ad": "array_datetime",
    "ak": "array_uuid",
}
KEY = "67e55044-10b1-426f-9247-bb680e5fe0c8"


def base64_floats(*numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_a_document_with_every_type_comes_back_as_it_was(ns):
    ns.create(vector_dim=2, attributes=EVERYTHING)
    attributes = {
        "s": "naïve 😀 \u0000 \" \\ \n", "i": -2**63, "u": 2**64 - 1, "f": 0.1, "b": False, "d": "2026-11-22T10:00:00.123456Z", "k": KEY,
        "as": ["", "b", "b"], "ai": [2**63 - 1, 0, -1], "au": [2**53 + 1], "af": [1e-300, -1.5], "ab": [True, False],
        "ad": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"], "ak": [KEY],
    }
    document = {"id": 2**64 - 1, "vector": [0.25, -3], "attributes": attributes}
    ns.upsert(document)
    assert ns.document(2**64 - 1) == document
    ns.compact()
    assert ns.document(2**64 - 1) == document


def test_values_are_answered_in_one_form(ns):
    ns.create(attributes=EVERYTHING)
    ns.upsert({"id": 1, "attributes": {"d": "2026-11-22T12:00:00.5+02:00", "k": KEY.upper(), "f": 3, "as": []}})
    assert ns.document(1)["attributes"] == {"d": "2026-11-22T10:00:00.5Z", "k": KEY, "f": 3, "as": []}


def test_null_and_absent_are_the_same(ns):
    ns.create(vector_dim=2, attributes={"a": "int", "b": "int"})
    ns.upsert({"id": 1, "vector": None, "attributes": {"a": None}}, {"id": 2}, {"id": 3, "attributes": None})
    for id in (1, 2, 3):
        assert ns.document(id) == {"id": id, "attributes": {}}


def test_upsert_replaces_the_whole_document(ns):
    ns.create(vector_dim=2, attributes={"a": "int", "b": "int"})
    ns.upsert({"id": 1, "vector": [1, 0], "attributes": {"a": 1, "b": 2}})
    ns.upsert({"id": 1, "attributes": {"b": 3}})
    assert ns.document(1) == {"id": 1, "attributes": {"b": 3}}
    assert ns.info()["document_count"] == 1
    assert ns.ids(vector=[1, 0]) == []


def test_the_last_of_several_with_one_id_wins_and_counts_once(ns):
    ns.create(attributes={"a": "int"})
    assert ns.upsert({"id": 1, "attributes": {"a": 1}}, {"id": 2}, {"id": 1, "attributes": {"a": 3}}) == 2
    assert ns.document(1)["attributes"] == {"a": 3}


def test_an_empty_upsert_is_fine(ns):
    ns.create()
    assert ns.upsert() == 0
    assert ns.delete(ids=[]) == 0


def test_base64_vectors_are_the_numbers_they_encode(ns):
    ns.create(vector_dim=3, vector_metric="l2")
    ns.upsert({"id": 1, "vector": base64_floats(1.5, -2, 0.1)})
    assert ns.document(1)["vector"] == [1.5, -2, 0.1]
    assert ns.results(vector=base64_floats(1.5, -2, 0.1))[0]["score"] == 0


def test_string_ids_work_like_numbers(ns):
    ns.create(attributes={"a": "int"})
    ids = ["a/b", "ü%20 ?#&", "x" * 64, "0", "😀"]
    ns.upsert(*({"id": id, "attributes": {"a": i}} for i, id in enumerate(ids)))
    for i, id in enumerate(ids):
        assert ns.document(id) == {"id": id, "attributes": {"a": i}}
    assert ns.ids(order_by={"field": "id"}) == sorted(ids, key=lambda id: id.encode())
    assert ns.delete(ids=["a/b", "nobody"]) == 1
    assert ns.ask("GET", "/documents/a%2Fb").status == 404


def test_the_first_write_fixes_the_kind_of_ids(ns):
    ns.create()
    ns.upsert({"id": 1})
    answer = ns.ask("POST", "/upsert", {"documents": [{"id": "a"}]})
    assert answer.status == 400
    assert ns.ask("GET", "/documents/a").status == 400
    ns.delete(ids=[1])
    assert ns.ask("POST", "/upsert", {"documents": [{"id": "a"}]}).status == 400


def test_mixed_ids_in_one_request_are_refused(ns):
    ns.create()
    assert ns.ask("POST", "/upsert", {"documents": [{"id": 1}, {"id": "a"}]}).status == 400
    assert ns.ask("POST", "/delete", {"ids": [1, "a"]}).status == 400
    assert ns.info()["document_count"] == 0


@pytest.mark.parametrize("vector, words", [
    (base64_floats(1, math.nan), "NaN"), (base64_floats(math.inf, 1), "infinite"), ([1], "expected 2 numbers"),
    ([1, 2, 3], "expected 2 numbers"), ([], "expected 2 numbers"), ([0, 0], "zero vector"), ([1, "2"], "number"), ([1, 1e39], "float"),
    ([1e-30, 0], "cosine"), ("AAAA", "float"), ("????????", "base64"), ({"0": 1}, "array"),
])
def test_upsert_with_a_wrong_vector_is_refused_and_names_the_document(ns, vector, words):
    ns.create(vector_dim=2)
    answer = ns.ask("POST", "/upsert", {"documents": [{"id": 5, "vector": [1, 0]}, {"vector": vector, "id": 77}]})
    assert answer.status == 400
    assert "77" in answer.error and "documents[1].vector" in answer.error and words in answer.error
    assert ns.info()["document_count"] == 0


def test_upsert_with_nan_is_refused_and_names_the_document(ns):
    ns.create(vector_dim=2)
    answer = ns.ask("POST", "/upsert", b'{"documents":[{"id":77,"vector":[1,NaN]}]}')
    assert answer.status == 400
    assert "77" in answer.error and "documents[0].vector[1]" in answer.error


def test_a_zero_vector_is_fine_where_it_has_a_meaning(ns):
    ns.create(vector_dim=2, vector_metric="l2")
    ns.upsert({"id": 1, "vector": [0, 0]})
    assert ns.results(vector=[0, 3])[0]["score"] == -9


def test_numbers_at_the_edge_of_float_give_finite_scores(client, ns):
    edge = 7e17
    for metric in ("cosine", "l2", "dot"):
        space = client.namespace(f"{ns.name}-{metric}")
        space.create(vector_dim=2, vector_metric=metric)
        try:
            space.upsert({"id": 1, "vector": [edge, edge]}, {"id": 2, "vector": [-edge, edge]}, {"id": 3, "vector": [1e-18, 1e-18]})
            scores = [result["score"] for result in space.results(vector=[edge, -edge])]
            assert len(scores) == 3 and all(math.isfinite(score) for score in scores)
            assert scores == sorted(scores, reverse=True)
            answer = space.ask("POST", "/upsert", {"documents": [{"id": 1, "vector": [3e38, 3e38]}]})
            assert answer.status == 400
        finally:
            space.drop()


@pytest.mark.parametrize("attributes, place", [
    ({"nobody": 1}, "nobody"), ({"s": 1}, "s"), ({"i": 1.0}, "i"), ({"i": 2**63}, "i"), ({"u": -1}, "u"), ({"u": 2**64}, "u"),
    ({"f": "1"}, "f"), ({"b": 1}, "b"), ({"d": "2026-02-30T00:00:00Z"}, "d"), ({"d": "yesterday"}, "d"), ({"k": "123"}, "k"),
    ({"as": "a"}, "as"), ({"as": ["a", None]}, "as[1]"), ({"ai": [1, 1.5]}, "ai[1]"), ({"s": ["a"]}, "s"), ({"s": {}}, "s"), ([], ""),
])
def test_a_wrong_attribute_is_refused_and_its_place_is_named(ns, attributes, place):
    ns.create(attributes=EVERYTHING)
    answer = ns.ask("POST", "/upsert", {"documents": [{"id": 9}, {"id": 8, "attributes": attributes}]})
    assert answer.status == 400
    assert ("documents[1].attributes." + place).rstrip(".") in answer.error
    assert "document 8" in answer.error
    assert ns.ask("GET", "/documents/9").status == 404


def test_nothing_of_a_refused_request_is_applied(ns):
    ns.create(attributes={"a": "int"})
    documents = [{"id": i, "attributes": {"a": i}} for i in range(1000)]
    documents[999]["attributes"]["a"] = "wrong"
    assert ns.ask("POST", "/upsert", {"documents": documents}).status == 400
    assert ns.info()["document_count"] == 0


def test_delete_by_ids_counts_those_that_were_there(ns):
    ns.create()
    ns.upsert(*({"id": i} for i in range(5)))
    assert ns.delete(ids=[1, 2, 2, 99]) == 2
    assert ns.delete(ids=[1, 2]) == 0
    assert ns.ids(order_by={"field": "id"}) == [0, 3, 4]


def test_delete_by_filter_takes_what_matches(ns):
    ns.create(attributes={"a": "int"})
    ns.upsert(*({"id": i, "attributes": {"a": i % 3}} for i in range(9)))
    ns.compact()
    ns.upsert({"id": 9, "attributes": {"a": 0}})
    assert ns.delete(filter={"field": "a", "op": "eq", "value": 0}) == 4
    assert ns.ids(order_by={"field": "id"}) == [1, 2, 4, 5, 7, 8]
    assert ns.delete(filter={"field": "id", "op": "lt", "value": 3}, ids=[8]) == 3
    assert ns.ids(order_by={"field": "id"}) == [4, 5, 7]


@pytest.mark.parametrize("body", [{}, {"ids": None}, {"filter": {}}, {"id": [1]}, {"ids": [-1]}, {"ids": "1"},
                                  {"filter": {"field": "nobody", "op": "eq", "value": 1}},
                                  {"filter": {"field": "id", "op": "ne", "value": "1"}}])
def test_a_wrong_delete_is_refused_and_deletes_nothing(ns, body):
    ns.create()
    ns.upsert({"id": 1})
    assert ns.ask("POST", "/delete", body).status == 400
    assert ns.info()["document_count"] == 1


def test_a_deleted_document_can_be_written_again(ns):
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1, "attributes": {"a": 1}})
    ns.compact()
    ns.delete(ids=[1])
    assert ns.ask("GET", "/documents/1").status == 404
    ns.upsert({"id": 1, "attributes": {"a": 2}})
    ns.compact()
    assert ns.document(1)["attributes"] == {"a": 2}
    assert ns.info()["document_count"] == 1


def test_a_missing_document_is_404(ns):
    ns.create()
    assert ns.ask("GET", "/documents/1").status == 404
    ns.upsert({"id": 1})
    answer = ns.ask("GET", "/documents/2")
    assert answer.status == 404
    assert "2" in answer.error


def test_a_repeated_request_with_its_key_is_applied_once(ns):
    ns.create(attributes={"a": "int"})
    body = {"documents": [{"id": 1, "attributes": {"a": 1}}]}
    first = ns.ask("POST", "/upsert", body, {"Idempotency-Key": "k1"})
    ns.upsert({"id": 1, "attributes": {"a": 2}})
    again = ns.ask("POST", "/upsert", body, {"Idempotency-Key": "k1"})
    assert again.status == first.status == 200
    assert again.json == first.json
    assert again.headers["X-Elacsym-Commit"] == first.headers["X-Elacsym-Commit"]
    assert ns.document(1)["attributes"] == {"a": 2}


def test_a_key_that_comes_with_another_request_is_422(ns):
    ns.create()
    headers = {"Idempotency-Key": "k2"}
    assert ns.ask("POST", "/upsert", {"documents": [{"id": 1}]}, headers).status == 200
    assert ns.ask("POST", "/upsert", {"documents": [{"id": 2}]}, headers).status == 422
    assert ns.ask("POST", "/delete", {"ids": [1]}, headers).status == 422
    assert ns.ids(order_by={"field": "id"}) == [1]


def test_a_repeated_delete_gives_the_first_count_again(ns):
    ns.create()
    ns.upsert({"id": 1}, {"id": 2})
    for _ in range(2):
        answer = ns.ask("POST", "/delete", {"ids": [1, 2, 3]}, {"Idempotency-Key": "k3"})
        assert answer.json == {"deleted": 2}


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_key_that_is_not_visible_ascii_is_refused(ns, key):
    ns.create()
    answer = ns.ask("POST", "/upsert", {"documents": []}, {"Idempotency-Key": key})
    assert answer.status == 400
    assert "Idempotency-Key" in answer.error


def test_writes_and_reads_carry_tokens_that_queries_take(ns):
    ns.create(vector_dim=2)
    write = ns.ask("POST", "/upsert", {"documents": [{"id": 1, "vector": [1, 0]}]})
    token = write.headers["X-Elacsym-Commit"]
    for consistency in ("strong", "eventual"):
        query = ns.ask("POST", "/query", {"vector": [1, 0], "consistency": consistency}, {"X-Elacsym-Min-Commit": token})
        assert query.status == 200
        assert query.headers["X-Elacsym-Commit"]
        assert [result["id"] for result in query.json["results"]] == [1]
    bad = ns.ask("POST", "/query", {"vector": [1, 0]}, {"X-Elacsym-Min-Commit": token[:-1] + ("0" if token[-1] != "0" else "1")})
    assert bad.status == 400
    assert "X-Elacsym-Min-Commit" in bad.error
