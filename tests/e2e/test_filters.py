"""Every operator, on documents in segments and in the log alike."""
import pytest

DOCUMENTS = {
    1: {"s": "apple", "i": -5, "f": 0.5, "b": True, "d": "2020-01-01T00:00:00Z", "as": ["red", "green"], "ai": [1, 2, 3]},
    2: {"s": "banana", "i": 0, "f": -1.5, "b": False, "d": "2021-06-01T00:00:00Z", "as": ["yellow"], "ai": []},
    3: {"s": "Apple pie", "i": 7, "f": 1e10, "b": True, "d": "2021-06-01T02:00:00+02:00", "as": [], "ai": [3]},
    4: {"s": "", "i": 7, "as": ["red"]},
    5: {},
}
SCHEMA = {"s": "string", "i": "int", "f": "float", "b": "bool", "d": "datetime", "as": "array_string", "ai": "array_int"}

CASES = [
    (("s", "eq", "apple"), [1]),
    (("s", "eq", ""), [4]),
    (("s", "eq", None), [5]),
    (("s", "ne", "apple"), [2, 3, 4, 5]),
    (("s", "ne", None), [1, 2, 3, 4]),
    (("i", "gt", 0), [3, 4]),
    (("i", "gte", 0), [2, 3, 4]),
    (("i", "lt", 0), [1]),
    (("i", "lte", 0), [1, 2]),
    (("f", "gt", 0), [1, 3]),
    (("f", "lt", 0.5), [2]),
    (("b", "eq", True), [1, 3]),
    (("b", "ne", True), [2, 4, 5]),
    (("d", "eq", "2021-06-01T00:00:00Z"), [2, 3]),
    (("d", "gt", "2020-01-01T00:00:00Z"), [2, 3]),
    (("s", "gt", "a"), [1, 2]),
    (("s", "lt", "a"), [3, 4]),
    (("i", "in", [7, -5, 99]), [1, 3, 4]),
    (("i", "in", [None, 0]), [2, 5]),
    (("i", "in", []), []),
    (("i", "not_in", [7]), [1, 2, 5]),
    (("i", "not_in", [7, None]), [1, 2]),
    (("i", "not_in", []), [1, 2, 3, 4, 5]),
    (("as", "contains", "red"), [1, 4]),
    (("ai", "contains", 3), [1, 3]),
    (("s", "contains", "app"), [1]),
    (("s", "contains", "pp"), [1, 3]),
    (("as", "contains_any", ["green", "yellow"]), [1, 2]),
    (("as", "contains_all", ["red", "green"]), [1]),
    (("ai", "contains_any", []), []),
    (("s", "prefix", "ap"), [1]),
    (("as", "prefix", "ye"), [2]),
    (("s", "glob", "*pple*"), [1, 3]),
    (("s", "glob", "[aA]pple"), [1]),
    (("s", "glob", "?anana"), [2]),
    (("s", "glob", "[!a]*"), [2, 3]),
    (("as", "glob", "gr*"), [1]),
    (("i", "exists", True), [1, 2, 3, 4]),
    (("i", "exists", False), [5]),
    (("as", "exists", True), [1, 2, 3, 4]),
    (("id", "eq", 3), [3]),
    (("id", "ne", 3), [1, 2, 4, 5]),
    (("id", "in", [5, 1, 77]), [1, 5]),
    (("id", "not_in", [5, 1]), [2, 3, 4]),
    (("id", "gt", 3), [4, 5]),
    (("id", "lte", 2), [1, 2]),
]


def condition(field, op, value):
    return {"field": field, "op": op, "value": value}


def group(kind, *conditions):
    return {"type": kind, "conditions": list(conditions)}


@pytest.fixture(scope="module", params=["in the log", "in a segment", "in both", "indexed in a segment"])
def fruit(server, request):
    client = server.client()
    ns = client.namespace("filters-" + request.param.replace(" ", "-"))
    schema = {name: {"type": kind, "indexed": True} for name, kind in SCHEMA.items()} if "indexed" in request.param else SCHEMA
    ns.create(attributes=schema)
    documents = [{"id": id, "attributes": attributes} for id, attributes in DOCUMENTS.items()]
    half = 2 if "both" in request.param else 5
    ns.upsert(*documents[:half])
    if "log" not in request.param:
        ns.compact()
    ns.upsert(*documents[half:])
    yield ns
    ns.drop()
    client.close()


@pytest.mark.parametrize("filter, ids", CASES, ids=lambda value: str(value))
def test_a_condition_finds_what_it_says(fruit, filter, ids):
    assert fruit.ids(filter=condition(*filter)) == ids


@pytest.mark.parametrize("filter, ids", [case for case in CASES if case[0][1] != "exists"], ids=lambda value: str(value))
def test_not_finds_neither_what_matches_nor_what_is_unknown(fruit, filter, ids):
    field, op, _ = filter
    null = {5} if field == "s" or field == "i" else {4, 5} if field in "fbdai" and field != "as" else {5}
    two_valued = op in ("ne", "not_in") or field == "id" or (op == "eq" and filter[2] is None) or (op == "in" and None in filter[2])
    unknown = set() if two_valued else null
    expected = [id for id in DOCUMENTS if id not in ids and id not in unknown]
    assert fruit.ids(filter=group("not", condition(*filter))) == expected


def test_groups_combine(fruit):
    red, seven = condition("as", "contains", "red"), condition("i", "eq", 7)
    assert fruit.ids(filter=group("and", red, seven)) == [4]
    assert fruit.ids(filter=group("or", red, seven)) == [1, 3, 4]
    assert fruit.ids(filter=group("and")) == [1, 2, 3, 4, 5]
    assert fruit.ids(filter=group("or")) == []
    assert fruit.ids(filter=group("and", group("or", red, seven), group("not", seven))) == [1]
    assert fruit.ids(filter=group("not", group("or", red, seven))) == [2]


def test_fields_of_a_condition_come_in_any_order(fruit):
    for text in (b'{"filter":{"value":[7,0],"op":"in","field":"i"}}', b'{"filter":{"op":"in","field":"i","value":[7,0]}}',
                 b'{"filter":{"conditions":[{"value":[7,0],"field":"i","op":"in"}],"type":"or"}}'):
        answer = fruit.ask("POST", "/query", text)
        assert [result["id"] for result in answer.json["results"]] == [2, 3, 4]


@pytest.mark.parametrize("filter, place", [
    ({}, "filter"), ([], "filter"), (condition("nobody", "eq", 1), "filter.field"), (condition("i", "regex", 1), "filter.op"),
    (condition("i", "eq", "1"), "filter.value"), (condition("i", "eq", 1.5), "filter.value"), (condition("as", "eq", "a"), "filter.op"),
    (condition("i", "in", 1), "filter.value"), (condition("i", "eq", [1]), "filter.value"), (condition("i", "in", [1, "2"]), "filter.value[1]"),
    (condition("b", "gt", True), "filter.op"), (condition("s", "glob", "["), "filter.value"), (condition("i", "exists", 1), "filter.value"),
    (condition("id", "eq", "1"), "filter.value"), (condition("id", "glob", "1"), "filter.op"), (condition("i", "gt", None), "filter.value"),
    (group("xor"), "filter.type"), (group("not"), "filter"), (group("and", condition("i", "eq", 1), {}), "filter.conditions[1]"),
    (group("or", group("not", condition("i", "eq", "x"))), "filter.conditions[0].conditions[0].value"),
    (dict(condition("i", "eq", 1), boost=2), "filter.boost"),
])
def test_a_wrong_filter_is_refused_and_its_place_is_named(fruit, filter, place):
    answer = fruit.ask("POST", "/query", {"filter": filter})
    assert answer.status == 400
    assert answer.error.startswith(place + ":")


# ---- null, for every operator on every type ----

TYPES = {"string": "a", "int": -1, "uint": 1, "float": 1.5, "bool": True, "datetime": "2020-01-01T00:00:00Z",
         "uuid": "12345678-1234-1234-1234-123456789abc"}


def every_condition():
    """(attribute, op, value, whether null makes it true, false or unknown (None))."""
    for kind, value in TYPES.items():
        ordered = [] if kind == "bool" else ["gt", "gte", "lt", "lte"]
        texts = ["prefix", "glob"] if kind == "string" else []
        for op in ["eq", *ordered, *texts, *(["contains"] if texts else [])]:
            yield kind, op, value, None
        yield kind, "ne", value, True
        yield kind, "in", [value], None
        yield kind, "in", [], None
        yield kind, "in", [value, None], True
        yield kind, "not_in", [value], True
        yield kind, "not_in", [], True
        yield kind, "not_in", [value, None], False
        for op in ["contains", *texts]:
            yield "array_" + kind, op, value, None
        for op in ["contains_any", "contains_all"]:
            yield "array_" + kind, op, [value], None
            yield "array_" + kind, op, [], None
        for attribute in (kind, "array_" + kind):
            yield attribute, "exists", True, False
            yield attribute, "exists", False, True
        yield kind, "eq", None, True
        yield kind, "ne", None, False


@pytest.mark.parametrize("where", ["log", "segment", "index"])
def test_null_is_what_the_two_rules_say_for_every_operator_on_every_type(ns, where):
    kinds = [prefix + kind for kind in TYPES for prefix in ("", "array_")]
    ns.create(attributes={kind: {"type": kind, "indexed": where == "index"} for kind in kinds})
    ns.upsert({"id": 1}, {"id": 2, "attributes": {kind: [TYPES[kind[6:]]] if kind.startswith("array_") else TYPES[kind] for kind in kinds}})
    if where != "log":
        ns.compact()
    conditions = list(every_condition())
    assert len(conditions) > 140
    for field, op, value, of_null in conditions:
        met = 1 in ns.ids(filter=condition(field, op, value))
        opposite = 1 in ns.ids(filter=group("not", condition(field, op, value)))
        assert (met, opposite) == (of_null is True, of_null is False), (field, op, value)
        # A document that has the attribute is never unknown.
        met = 2 in ns.ids(filter=condition(field, op, value))
        assert met != (2 in ns.ids(filter=group("not", condition(field, op, value)))), (field, op, value)
