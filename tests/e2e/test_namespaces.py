"""Creating, widening, listing, looking at and dropping namespaces."""
import pytest

FULL_TEXT = {"language": "english", "stemming": True, "remove_stopwords": True, "case_sensitive": False,
             "ascii_folding": False}


def test_create_answers_created_once(ns):
    schema = {"vector_dim": 4, "vector_metric": "l2", "attributes": {"a": "int"}}
    assert ns.create(**schema) == {"namespace": ns.name, "created": True}
    assert ns.create(**schema) == {"namespace": ns.name, "created": False}
    assert ns.create(schema=schema) == {"namespace": ns.name, "created": False}


def test_the_schema_comes_back_with_its_defaults(ns):
    ns.create(vector_dim=4, attributes={
        "title": {"type": "string", "full_text": True},
        "tags": {"type": "array_string", "indexed": True, "full_text": {"language": "german", "stemming": False}},
        "at": "datetime",
    })
    assert ns.info()["schema"] == {
        "vector_dim": 4,
        "vector_metric": "cosine",
        "attributes": {
            "title": {"type": "string", "indexed": False, "full_text": FULL_TEXT},
            "tags": {"type": "array_string", "indexed": True,
                     "full_text": dict(FULL_TEXT, language="german", stemming=False)},
            "at": {"type": "datetime", "indexed": False, "full_text": False},
        },
    }


def test_the_schema_that_comes_back_is_one_that_goes_in(ns):
    ns.create(vector_dim=3, attributes={"a": {"type": "string", "full_text": True}, "b": "array_uuid"})
    assert ns.create(**ns.info()["schema"])["created"] is False


def test_attributes_may_be_added_and_are_null_in_older_documents(ns):
    ns.create(vector_dim=2, attributes={"a": "int"})
    ns.upsert({"id": 1, "vector": [1, 0], "attributes": {"a": 1}})
    assert ns.create(vector_dim=2, attributes={"a": "int", "b": "string"})["created"] is False
    ns.upsert({"id": 2, "vector": [0, 1], "attributes": {"a": 2, "b": "x"}})
    assert ns.document(1)["attributes"] == {"a": 1}
    assert ns.ids(filter={"field": "b", "op": "exists", "value": False}) == [1]
    assert ns.ids(filter={"field": "b", "op": "eq", "value": "x"}) == [2]


def test_an_attribute_may_be_added_with_full_text_after_indexing(ns):
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1, "attributes": {"a": 1}})
    ns.compact()
    ns.create(attributes={"a": "int", "t": {"type": "string", "full_text": True}})
    assert ns.ids(full_text={"field": "t", "query": "hello"}) == []
    ns.upsert({"id": 2, "attributes": {"t": "hello there"}})
    assert ns.ids(full_text={"field": "t", "query": "hello"}) == [2]


@pytest.mark.parametrize("other, named", [
    ({"vector_dim": 3, "attributes": {"a": "int"}}, "vector_dim"),
    ({"vector_dim": 2, "vector_metric": "dot", "attributes": {"a": "int"}}, "metric"),
    ({"vector_dim": 2, "attributes": {"a": "uint"}}, "a"),
    ({"vector_dim": 2, "attributes": {"a": {"type": "int", "indexed": True}}}, "a"),
    ({"attributes": {"a": "int"}}, "vector_dim"),
])
def test_another_schema_is_409_and_names_the_difference(ns, other, named):
    ns.create(vector_dim=2, attributes={"a": "int"})
    before = ns.info()["schema"]
    answer = ns.ask("PUT", body=other)
    assert answer.status == 409
    assert named in answer.error
    assert ns.info()["schema"] == before


def test_a_new_namespace_is_empty_and_up_to_date(ns):
    ns.create(vector_dim=2)
    info = ns.info()
    assert info["namespace"] == ns.name
    assert info["document_count"] == 0
    assert info["segments"] == 0
    assert info["index"] == {"status": "up-to-date", "unindexed_rows": 0, "segments": 0}
    assert info["wal"]["state"] == "ready"


def test_info_counts_documents_and_compaction_indexes_them(ns):
    ns.create(vector_dim=2)
    ns.upsert(*({"id": i, "vector": [i, 1]} for i in range(10)))
    ns.delete(ids=[3, 4])
    info = ns.info()
    assert info["document_count"] == 8
    assert info["index"]["status"] == "indexing"
    assert info["index"]["unindexed_rows"] > 0
    assert info["bytes"] > 0
    assert ns.compact() == {"namespace": ns.name, "compacted": True}
    info = ns.info()
    assert info["document_count"] == 8
    assert info["segments"] == 1
    assert info["index"] == {"status": "up-to-date", "unindexed_rows": 0, "segments": 1}


def test_compacting_twice_and_compacting_nothing_is_fine(ns):
    ns.create()
    ns.compact()
    ns.upsert({"id": 1})
    ns.compact()
    ns.compact()
    assert ns.info()["segments"] == 1
    ns.delete(ids=[1])
    ns.compact()
    assert ns.info()["document_count"] == 0
    assert ns.ids(order_by={"field": "id"}) == []


def test_drop_takes_everything_and_a_new_namespace_starts_empty(ns):
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1, "attributes": {"a": 1}})
    assert ns.drop() == {"namespace": ns.name, "dropped": True}
    for method, tail, body in [("GET", "", None), ("DELETE", "", None), ("POST", "/upsert", {"documents": []}),
                               ("POST", "/delete", {"ids": []}), ("POST", "/query", {"order_by": {"field": "id"}}),
                               ("GET", "/documents/1", None), ("POST", "/compact", None)]:
        answer = ns.ask(method, tail, body)
        assert answer.status == 404, (method, tail, answer)
        assert ns.name in answer.error
    assert ns.create(vector_dim=2)["created"] is True
    assert ns.info()["document_count"] == 0
    assert ns.upsert({"id": "now a string", "vector": [1, 0]}) == 1


def test_a_list_goes_on_from_page_to_page_in_order(client, ns):
    names = [f"{ns.name[:80]}-page-{i:02}" for i in range(7)]
    spaces = [client.namespace(name) for name in names]
    for space in reversed(spaces):
        space.create()
    try:
        found, cursor, pages = [], "", 0
        while cursor is not None:
            page = client.get(f"/v1/namespaces?prefix={names[0][:-2]}&page_size=3&cursor={cursor}").json
            found += [namespace["name"] for namespace in page["namespaces"]]
            cursor = page["next_cursor"]
            pages += 1
        assert found == names
        assert pages == 3
        spaces[3].drop()
        everything = client.get(f"/v1/namespaces?prefix={names[0][:-2]}&page_size=1000").json
        assert [namespace["name"] for namespace in everything["namespaces"]] == names[:3] + names[4:]
        assert everything["next_cursor"] is None
    finally:
        for space in spaces:
            space.ask("DELETE")


@pytest.mark.parametrize("query", ["page_size=0", "page_size=1001", "page_size=x", "page_size=", "prefix=../", "prefix=%2e%2e%2f",
                                   "cursor=%00", "limit=3", "prefix=a&prefix=b"])
def test_a_wrong_list_parameter_is_refused_by_name(client, query):
    answer = client.get("/v1/namespaces?" + query)
    assert answer.status == 400
    assert query.split("=")[0] in answer.error


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "-", "_", "0", "x" * 128])
def test_names_that_are_allowed_work(client, name):
    namespace = client.namespace(name)
    try:
        assert namespace.create()["created"] is True
        assert namespace.upsert({"id": 1}) == 1
        assert namespace.info()["namespace"] == name
    finally:
        namespace.ask("DELETE")


@pytest.mark.parametrize("schema", [
    {"vector_dim": 0}, {"vector_dim": 10753}, {"vector_dim": 16385}, {"vector_dim": -1}, {"vector_dim": 1.5}, {"vector_dim": "3"},
    {"vector_dim": 3, "vector_metric": "euclid"}, {"vector_metric": "l2"}, {"dimension": 3}, {"attributes": ["a"]},
    {"attributes": {"a": "text"}}, {"attributes": {"a": {}}}, {"attributes": {"id": "int"}}, {"attributes": {"": "int"}},
    {"attributes": {"a": {"type": "int", "full_text": True}}}, {"attributes": {"n" * 129: "int"}},
    {"attributes": {"a": {"type": "string", "full_text": {"language": "klingon"}}}},
    {"attributes": {f"a{i}": "int" for i in range(257)}},
    {"vector_dim": 2, "schema": {}},
])
def test_a_wrong_schema_is_refused_and_nothing_is_created(ns, schema):
    assert ns.ask("PUT", body=schema).status == 400
    assert ns.ask("GET").status == 404


def test_the_largest_schema_works(ns):
    ns.create(vector_dim=10752, attributes={f"attribute-{i:03}".ljust(128, "x"): "int" for i in range(256)})
    name = "attribute-255".ljust(128, "x")
    vector = [0.5] * 10752
    ns.upsert({"id": 1, "vector": vector, "attributes": {name: 7}})
    assert ns.document(1) == {"id": 1, "vector": vector, "attributes": {name: 7}}
    assert ns.results(vector=vector)[0]["score"] == pytest.approx(1, abs=1e-5)
