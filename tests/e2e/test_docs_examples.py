"""Every example of docs/api.md is executed, in its order, against a fresh server; the answers are those on the page."""
import json
import re

import pytest

from elacsym import REPOSITORY

# What differs from run to run: only the type is compared.
VOLATILE = {"took_ms", "exact_took_ms", "version", "bytes", "unindexed_bytes", "first_slot", "next_slot", "manifest_version", "epoch",
            "rounds", "store_requests", "store_bytes", "cache_hits", "cache_misses",
            "cache_bytes", "disk_hits", "disk_bytes"}
CURSOR = "01..."  # stands for any cursor


def examples():
    page = (REPOSITORY / "docs/api.md").read_text()
    return re.findall(r"```http\n(.*?)```\n```json\n(.*?)```", page, re.S)


def parse(request):
    head, _, body = request.partition("\n\n")
    first, *lines = head.strip().split("\n")
    method, path = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    return method, path, headers, body.strip().encode() or None


def check(got, wanted, place="answer"):
    if isinstance(wanted, dict):
        assert isinstance(got, dict) and list(got) == list(wanted), (place, got)
        for name in wanted:
            inside = f"{place}.{name}"
            if name in VOLATILE or place.endswith("stages_ms"):
                assert isinstance(got[name], str if isinstance(wanted[name], str) else (int, float)), inside
            else:
                check(got[name], wanted[name], inside)
    elif isinstance(wanted, list):
        assert isinstance(got, list) and len(got) == len(wanted), (place, got)
        for i, (a, b) in enumerate(zip(got, wanted)):
            check(a, b, f"{place}[{i}]")
    elif isinstance(wanted, float) or isinstance(got, float):
        assert got == pytest.approx(wanted, rel=1e-3), place
    elif wanted == CURSOR:
        assert re.fullmatch("01[0-9a-f]+", got), place
    else:
        assert got == wanted, place


def test_every_example_of_the_api_page_answers_as_printed(own_server):
    client = own_server.client()
    found = examples()
    assert len(found) >= 15
    for request, wanted in found:
        method, path, headers, body = parse(request)
        answer = client.ask(method, path, body, headers)
        assert answer.status == 200, (method, path, answer)
        check(answer.json, json.loads(wanted), f"{method} {path}")


def test_every_example_is_a_pair_of_request_and_answer():
    page = (REPOSITORY / "docs/api.md").read_text()
    assert page.count("```http\n") == len(examples())


def filters():
    """The filters of the page: one in a block, or one a line."""
    page = (REPOSITORY / "docs/api.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", page[page.index("## Filters"):], re.S)
    for block in blocks:
        try:
            yield json.loads(block)
        except json.JSONDecodeError:
            yield from (json.loads(line) for line in block.strip().split("\n"))


@pytest.fixture
def shop(ns):
    """Of every example filter something matches, and something does not."""
    ns.create(attributes={
        "year": "int", "color": "string", "price": "float", "released": "datetime", "stock": "int", "tags": "array_string", "path": "string",
        "file": "string", "owner": "string", "genres": "array_string"})
    ns.upsert({"id": 1, "attributes": {"year": 1994, "color": "blue", "price": 20, "released": "1999-05-01T00:00:00Z", "stock": 3, "tags": ["sale", "new"],
                                       "path": "/home/me", "file": "a.c", "owner": "me", "genres": ["drama"]}},
              {"id": 17, "attributes": {"year": 1980, "color": "red", "price": 4, "released": "2010-05-01T00:00:00Z", "stock": 50, "tags": ["sold"],
                                        "path": "/etc", "file": "b.py", "genres": []}},
              {"id": 30})
    return ns


def test_every_filter_of_the_api_page_finds_something_and_leaves_something_out(shop):
    assert len(list(filters())) >= 19
    for filter in filters():
        assert 0 < len(shop.ids(filter=filter)) < 3, filter


OPERATORS = {"eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "contains_any", "contains_all", "prefix", "glob", "exists"}


def requests():
    """The bodies of the page's examples."""
    return [json.loads(body) for _, _, _, body in (parse(request) for request, _ in examples()) if body]


def allowed_words(answer):
    """Of a refusal: what it says is allowed."""
    assert answer.status == 400
    allowed = answer.error.split("expected")[1]
    return set(re.findall('"([a-z_]+)"', allowed) or re.findall("[a-z_]+", allowed.removeprefix(" one of")))


def words_in(value, key):
    if isinstance(value, dict):
        yield from ([value[key]] if key in value else [])
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for item in value:
            yield from words_in(item, key)


def test_every_operator_that_the_server_takes_has_an_example(shop):
    """The server itself says what there is: whoever adds an operator adds an example."""
    found = list(filters())
    operators = allowed_words(shop.ask("POST", "/query", {"filter": {"field": "year", "op": "?", "value": 1}}))
    groups = allowed_words(shop.ask("POST", "/query", {"filter": {"type": "?", "conditions": []}}))
    assert operators == OPERATORS and groups == {"and", "or", "not"}
    assert operators == set(words_in(found, "op")) and groups == set(words_in(found, "type"))
    answer = shop.ask("POST", "/query", {"full_text": {"field": "owner", "query": "me", "operator": "?"}})
    shown = [request["full_text"] for request in requests() if "full_text" in request]
    assert allowed_words(answer) == {"or", "and"} == {text.get("operator", "or") for text in shown}


def test_every_fusion_and_aggregate_that_the_server_takes_has_an_example(shop):
    hybrid = {"vector": [1], "full_text": {"field": "owner", "query": "me"}}
    methods = allowed_words(shop.ask("POST", "/query", {**hybrid, "fusion": {"method": "?"}}))
    scales = allowed_words(shop.ask("POST", "/query", {**hybrid, "fusion": {"method": "sum", "normalize": "?"}}))
    shown = [request["fusion"] for request in requests() if "fusion" in request]
    assert methods == {"rrf", "sum"} and scales == {"minmax"}
    assert methods == {fusion["method"] for fusion in shown} and scales == set(words_in(shown, "normalize"))
    answer = shop.ask("POST", "/query", {"aggregate": {"?": 1}})
    aggregates = set(re.findall("[a-z_]+", answer.error.split("allowed")[1]))
    assert {"count", "sum", "min", "max", "group_by"} <= aggregates
    shown = [request["aggregate"] for request in requests() if "aggregate" in request]
    for word in ("count", "sum", "min", "max", "group_by"):
        assert any(word in aggregate for aggregate in shown), word


def patterns():
    page = (REPOSITORY / "docs/api.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \| (`[^|]*`) \|$", page[page.index("### Patterns"):], re.M)
    return [[re.findall(r"`([^`]*)`", cell) for cell in row] for row in rows]


def test_every_pattern_of_the_api_page_matches_what_it_says(ns):
    ns.create(attributes={"s": "string"})
    assert len(patterns()) >= 5
    for (pattern,), matching, others in patterns():
        ns.delete(filter={"type": "and", "conditions": []})
        ns.upsert(*({"id": i, "attributes": {"s": text}} for i, text in enumerate(matching + others)))
        assert ns.ids(filter={"field": "s", "op": "glob", "value": pattern}) == list(range(len(matching))), pattern
