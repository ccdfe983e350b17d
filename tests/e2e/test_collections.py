"""Three real collections, loaded with examples/load.py as a user would: the answers are those of brute force over the same rows, as
loaded, after a kill -9, and after compaction.

Skipped where the collections are not there: $ELACSYM_DATA names their folder, else it is ../shared/data.
"""
import fnmatch
import functools
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy
import pytest
import zstandard

from bm25 import Bm25, terms
from elacsym import REPOSITORY, Server
from shell_page import check_page

DATA = pathlib.Path(os.environ.get("ELACSYM_DATA") or REPOSITORY.parent / "shared/data")
pytestmark = pytest.mark.skipif(not (DATA / "fashion-base.u8.npy").exists(), reason=f"no collections in {DATA} ($ELACSYM_DATA names the folder)")

STAGES = ["as loaded", "after kill -9", "after compaction"]
TOP_K_MAX = 10000


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("collections")).start()
    subprocess.run([sys.executable, REPOSITORY / "examples/load.py", "--url", f"http://127.0.0.1:{server.port}", "--data", DATA], check=True)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module", params=STAGES)
def stage(node, request):
    """A connection to the node in that stage. Stages follow one another: pytest runs all tests of one before the next."""
    if request.param == "after kill -9":
        node.kill()
        node.start()
    client = node.client()
    if request.param == "after compaction":
        for name in ("fashion", "movies", "packages"):
            client.namespace(name).compact()
            assert client.namespace(name).info()["index"]["unindexed_rows"] == 0
    yield client
    client.close()


@pytest.fixture
def fashion(stage):
    return stage.namespace("fashion")


@pytest.fixture
def movies(stage):
    return stage.namespace("movies")


@pytest.fixture
def packages(stage):
    return stage.namespace("packages")


# ---- the same rows, read without the server ----


@functools.cache
def rows_of(name):
    """id -> attributes."""
    with open(DATA / name / "docs.jsonl.zst", "rb") as file:
        with zstandard.ZstdDecompressor().stream_reader(file) as stream:
            rows = [json.loads(line) for line in io.TextIOWrapper(stream, "utf-8")]
    return {row.pop("id"): row for row in rows}


@functools.cache
def images():
    return numpy.load(DATA / "fashion-base.u8.npy").astype(numpy.float32), numpy.load(DATA / "fashion-base-label.u8.npy")


@functools.cache
def image_queries():
    return numpy.load(DATA / "fashion-query.u8.npy").astype(numpy.float32)


@functools.cache
def package_vectors():
    """Row i belongs to package 10 * i."""
    return numpy.load(DATA / "pkg200k" / "every10th.use512.f16.npy").astype(numpy.float32)


@functools.cache
def squared_distances(number):
    """Of all images from the query of that number; exact, since pixels are small integers."""
    base, _ = images()
    return ((base - image_queries()[number]) ** 2).sum(axis=1, dtype=float)


@functools.cache
def distances_of_every_100th():
    """Row i: the squared distances of all images from query 100 * i."""
    base, queries = images()[0].astype(float), image_queries()[::100].astype(float)
    return (base**2).sum(axis=1) - 2 * queries @ base.T + (queries**2).sum(axis=1)[:, None]


def cosines(query):
    vectors, query = package_vectors().astype(float), query.astype(float)
    scores = vectors @ query / numpy.linalg.norm(vectors, axis=1) / numpy.linalg.norm(query)
    return {10 * row: score for row, score in enumerate(scores)}


# ---- what is checked ----


def check_ranking(results, scores, top_k, tolerance):
    """The results are the best top_k of scores (id -> score), best first, equal scores by id; which of several within the tolerance is taken is left open."""
    found = [(result["id"], result["score"]) for result in results]
    best = sorted(scores.values(), reverse=True)[:top_k]
    assert len(found) == len(best)
    assert len({id for id, _ in found}) == len(found)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    wrong = [(id, score, scores.get(id)) for id, score in found if score != pytest.approx(scores.get(id, -1e9), rel=tolerance, abs=1e-6)]
    assert not wrong
    assert [score for _, score in found] == pytest.approx(best, rel=tolerance, abs=1e-6)


def check_listing(namespace, name, filter, predicate, order_by=None, top_k=TOP_K_MAX):
    """The documents are exactly those of the rows for which the predicate holds, in order, with all their attributes."""
    rows = rows_of(name)
    wanted = [id for id, row in rows.items() if predicate(row)]
    assert wanted, "a filter that matches nothing shows nothing"
    if order_by:
        field, descending = order_by["field"], order_by.get("direction") == "desc"
        key = {id: id if field == "id" else rows[id].get(field) for id in wanted}
        having = [id for id in wanted if key[id] is not None]
        having.sort(key=key.get, reverse=descending)  # stable, so ties stay in the order of ids
        wanted = having + [id for id in wanted if key[id] is None]
    found = namespace.results(filter=filter, order_by=order_by, top_k=top_k)
    assert [result["id"] for result in found] == wanted[:top_k]
    for result in found[:200]:
        assert result["attributes"] == rows[result["id"]]


def condition(field, op, value):
    return {"field": field, "op": op, "value": value}


def both(*conditions):
    return {"type": "and", "conditions": list(conditions)}


# ---- all is there ----


def test_every_document_is_counted(stage):
    for name, rows in (("fashion", 60000), ("movies", len(rows_of("movies"))), ("packages", len(rows_of("pkg200k")))):
        assert stage.namespace(name).info()["document_count"] == rows


def test_the_commands_of_the_examples_page_answer_as_printed(stage):
    assert check_page("examples/README.md", stage.port) == 5


def test_a_document_reads_as_it_was_written(fashion, movies, packages):
    for id in (0, 4711, 59999):
        base, labels = images()
        assert fashion.document(id) == {"id": id, "vector": base[id].tolist(), "attributes": {"label": int(labels[id])}}
    for id in (0, 17777, 34529):
        assert movies.document(id) == {"id": id, "attributes": rows_of("movies")[id]}
    for id in (0, 123450, 199999):
        document = packages.document(id)
        assert document["attributes"] == rows_of("pkg200k")[id]
        if id % 10 == 0:
            assert (numpy.float32(document["vector"]) == package_vectors()[id // 10]).all()
        else:
            assert "vector" not in document


# ---- vectors ----


@functools.cache
def ground_truth():
    """Row i: the distances of the 100 images nearest to query i."""
    return numpy.load(DATA / "fashion-gt100-dist.f32.npy").astype(float)


def share_of_hits(results, number, top_k):
    """By the ground truth's own rule, ties being fair. The scores must be minus the true distances."""
    ids = [result["id"] for result in results]
    assert len(set(ids)) == top_k
    distances = ((images()[0][ids] - image_queries()[number]) ** 2).sum(axis=1, dtype=float)
    assert [-result["score"] for result in results] == pytest.approx(distances.tolist(), rel=1e-5)
    bound = ground_truth()[number][top_k - 1] * (1 + 1e-5) + 1e-6
    return (distances <= bound).sum() / top_k


def nearest(fashion, number, **more):
    return fashion.results(vector=image_queries()[number].tolist(), include_attributes=False, **more)


def test_exact_search_finds_the_100_nearest_images_of_the_ground_truth(fashion):
    for number in range(0, 10000, 1000):
        assert share_of_hits(nearest(fashion, number, top_k=100, search={"exact": True}), number, 100) == 1


def test_search_finds_at_least_95_percent_of_the_10_nearest_images_unasked(fashion):
    # 500 fixed queries; the namespace's own rotation makes their mean differ by about 0.001 from run to run. It is about 0.97.
    shares = [share_of_hits(nearest(fashion, number, top_k=10), number, 10) for number in range(0, 10000, 20)]
    assert numpy.mean(shares) >= 0.95


@pytest.mark.parametrize("filter, predicate", [
    (condition("label", "eq", 3), lambda id, label: label == 3),
    (condition("label", "ne", 9), lambda id, label: label != 9),
    (condition("label", "lt", 5), lambda id, label: label < 5),
    (condition("id", "lt", 30000), lambda id, label: id < 30000),
    (condition("id", "lt", 6000), lambda id, label: id < 6000),
    (condition("id", "lt", 600), lambda id, label: id < 600),
    (condition("id", "lt", 60), lambda id, label: id < 60),
], ids=["one label", "all labels but one", "half of the labels", "50 %", "10 %", "1 %", "0.1 %"])
def test_a_filter_costs_no_recall(fashion, filter, predicate):
    _, labels = images()
    ids = numpy.flatnonzero(predicate(numpy.arange(60000), labels))
    found = 0
    for i, distances in enumerate(distances_of_every_100th()):
        bound = numpy.partition(distances[ids], 9)[9]
        results = nearest(fashion, 100 * i, filter=filter)
        assert len(results) == 10
        found += sum(-result["score"] <= bound * (1 + 1e-6) for result in results)
    assert found / 1000 >= 0.95


def test_more_recall_is_found_when_it_is_asked_for(fashion):
    shares = [share_of_hits(nearest(fashion, number, top_k=10, search={"recall": 0.99}), number, 10) for number in range(0, 10000, 40)]
    assert numpy.mean(shares) >= 0.99


def test_the_recall_endpoint_measures_what_searches_find(fashion):
    # Its 100 queries are chosen by chance: 0.97 expected, and 0.85 is more than ten deviations of their mean away.
    measured = fashion.ask("POST", "/recall", {"num": 100, "top_k": 10}).json
    assert measured["queries"] == 100 and measured["per_query"]["neighbours"] == 10
    assert 0.85 <= measured["recall"] <= 1
    label = {"num": 20, "filter": condition("label", "eq", 3), "search": {"exact": True}}
    assert fashion.ask("POST", "/recall", label).json["recall"] == 1


@pytest.mark.parametrize("filter, predicate", [
    (condition("label", "eq", 7), lambda id, label: label == 7),
    (condition("label", "in", [0, 9]), lambda id, label: (label == 0) | (label == 9)),
    (both(condition("label", "gte", 8), condition("id", "lt", 700)), lambda id, label: (label >= 8) & (id < 700)),
], ids=["one label", "two labels", "one row in five hundred"])
def test_neighbours_among_the_images_of_a_label_are_those_of_numpy(fashion, filter, predicate):
    _, labels = images()
    ids = numpy.flatnonzero(predicate(numpy.arange(60000), labels))
    for number in (500, 1000):
        distances = squared_distances(number)
        check_ranking(nearest(fashion, number, top_k=50, filter=filter, search={"exact": True}), {int(id): -distances[id] for id in ids}, 50, 1e-5)


def test_neighbours_by_cosine_among_some_packages_are_those_of_numpy(packages):
    rows = rows_of("pkg200k")
    cases = [
        (None, lambda row: True),
        (condition("registry", "eq", "npm"), lambda row: row["registry"] == "npm"),
        (both(condition("month", "gte", 202401), condition("month", "lt", 202501)), lambda row: 202401 <= row.get("month", 0) < 202501),
        (condition("rank", "exists", True), lambda row: "rank" in row),
    ]
    for number, (filter, predicate) in enumerate(cases):
        query = package_vectors()[1234 + 4321 * number]
        scores = {id: score for id, score in cosines(query).items() if predicate(rows[id])}
        found = packages.results(vector=query.tolist(), top_k=20, filter=filter, search={"exact": True}, include_attributes=False)
        check_ranking(found, scores, 20, 1e-5)


def package_rows():
    """Of every package with a vector: month (0 without one), registry, and its number."""
    rows = rows_of("pkg200k")
    numbers = numpy.arange(len(package_vectors()))
    months = numpy.array([rows[10 * i].get("month", 0) for i in numbers])
    return numbers, months, numpy.array([rows[10 * i]["registry"] for i in numbers])


@functools.cache
def package_filters():
    """name -> (filter, does it match each row): by chance (ids), by label, and against the query: far from it in meaning.

    Half of the rows, a tenth, a hundredth and a thousandth of them each."""
    numbers, months, registries = package_rows()
    cases = {"one registry": (condition("registry", "eq", "npm"), registries == "npm")}
    for part in (2, 10, 100, 1000):
        last = 10 * len(numbers) // part
        cases[f"ids, 1 in {part}"] = (condition("id", "lt", last), 10 * numbers < last)
        month = int(numpy.sort(months)[-max(1, len(months) // part)])
        cases[f"latest, 1 in {part}"] = (condition("month", "gte", month), months >= month)
    return cases


@functools.cache
def package_directions():
    """The vectors with a length of 1. Those of the file are up to 5e-5 longer or shorter: ranked by product, 2 % of the neighbours are others."""
    vectors = package_vectors().astype(float)
    return vectors / numpy.linalg.norm(vectors, axis=1)[:, None]


def found_share(packages, query, filter, matching, scores, top_k=10):
    results = packages.results(vector=query.tolist(), top_k=top_k, filter=filter, include_attributes=False)
    wanted = min(top_k, int(matching.sum()))
    assert len(results) == wanted
    bound = numpy.partition(scores[matching], -wanted)[-wanted]
    return sum(result["score"] >= bound - 1e-6 for result in results) / wanted


@pytest.mark.parametrize("name", ["one registry"] + [f"{kind}, 1 in {part}" for part in (2, 10, 100, 1000) for kind in ("ids", "latest")])
def test_a_filter_costs_no_recall_among_packages(packages, name):
    filter, matching = package_filters()[name]
    shares = []
    for number in range(0, 20000, 200):
        scores = package_directions() @ package_directions()[number]
        shares.append(found_share(packages, package_vectors()[number], filter, matching, scores))
    assert numpy.mean(shares) >= 0.95


@pytest.mark.parametrize("part", [2, 10, 100, 1000])
def test_a_filter_against_the_query_costs_no_recall(packages, part):
    """What matches are the rows farthest from the query: an index that looks near it first finds nothing there."""
    shares = []
    for number in range(150, 20000, 1000):
        scores = package_directions() @ package_directions()[number]
        far = numpy.argsort(scores)[: len(scores) // part]
        matching = numpy.zeros(len(scores), bool)
        matching[far] = True
        filter = condition("id", "in", [int(10 * i) for i in far])
        shares.append(found_share(packages, package_vectors()[number], filter, matching, scores))
    assert numpy.mean(shares) >= 0.95


# ---- text ----

FILM_WORDS = ["train robbery", "a silent film about the moon", "vampire castle", "Hitchcock's murder thriller", "love", "jazz singers in new york"]
PACKAGE_WORDS = ["http client", "machine learning models", "parse yaml files quickly", "react component", "tensorflow"]


@functools.cache
def films():
    rows = rows_of("movies")
    return {field: Bm25({id: row[field] for id, row in rows.items()}, FILM_WORDS) for field in ("title", "text")}


@functools.cache
def package_texts():
    return Bm25({id: row["text"] for id, row in rows_of("pkg200k").items()}, PACKAGE_WORDS)


def film_scores(query, weights, operator="or"):
    scores = {}
    for field, weight in weights.items():
        for id, score in films()[field].scores(query).items():
            scores[id] = scores.get(id, 0) + weight * score
    if operator == "and":
        having = [set().union(*(films()[field].having(term) for field in weights)) for term in terms(query)]
        scores = {id: scores[id] for id in set.intersection(*having)}
    return scores


@pytest.mark.parametrize("query", FILM_WORDS)
def test_films_are_scored_as_bm25_says(movies, query):
    for field in ("title", "text"):
        found = movies.results(full_text={"field": field, "query": query}, top_k=300, include_attributes=False)
        check_ranking(found, film_scores(query, {field: 1}), 300, 1e-3)


@pytest.mark.parametrize("operator", ["or", "and"])
def test_a_search_in_two_fields_adds_their_weighted_scores(movies, operator):
    for query in FILM_WORDS[:4]:
        full_text = {"fields": ["title", "text"], "weights": {"title": 2.5}, "query": query, "operator": operator}
        found = movies.results(full_text=full_text, top_k=300, include_attributes=False)
        check_ranking(found, film_scores(query, {"title": 2.5, "text": 1}, operator), 300, 1e-3)


def test_a_filter_leaves_the_scores_of_films_as_they_are(movies):
    rows = rows_of("movies")
    filter = both(condition("year", "lt", 1940), condition("genres", "contains", "Silent"))
    scores = {id: score for id, score in film_scores("love", {"text": 1}).items() if rows[id]["year"] < 1940 and "Silent" in rows[id]["genres"]}
    found = movies.results(full_text={"field": "text", "query": "love"}, filter=filter, top_k=100, include_attributes=False)
    check_ranking(found, scores, 100, 1e-3)


@pytest.mark.parametrize("query", PACKAGE_WORDS)
def test_packages_are_scored_as_bm25_says(packages, query):
    found = packages.results(full_text={"field": "text", "query": query}, top_k=1000, include_attributes=False)
    check_ranking(found, package_texts().scores(query), 1000, 1e-3)


# ---- filters and listings ----


@pytest.mark.parametrize("filter, predicate, order_by", [
    (both(condition("year", "gte", 1925), condition("year", "lt", 1930)), lambda r: 1925 <= r["year"] < 1930, {"field": "year"}),
    (condition("genres", "contains", "Western"), lambda r: "Western" in r["genres"], {"field": "year", "direction": "desc"}),
    (condition("genres", "contains_all", ["Comedy", "Musical"]), lambda r: {"Comedy", "Musical"} <= set(r["genres"]), {"field": "title"}),
    (condition("cast", "contains_any", ["Buster Keaton", "Charlie Chaplin"]), lambda r: {"Buster Keaton", "Charlie Chaplin"} & set(r["cast"]), None),
    (condition("title", "contains", "Moon"), lambda r: "Moon" in r["title"], {"field": "id", "direction": "desc"}),
    ({"type": "or", "conditions": [condition("year", "in", [1900, 2023]), {"type": "not", "conditions": [condition("slug", "gte", "A")]}]},
     lambda r: r["year"] in (1900, 2023) or r["slug"].encode() < b"A", {"field": "slug", "direction": "desc"}),
], ids=["range of years", "genre", "two genres", "cast", "part of a title", "or and not"])
def test_a_listing_of_films_is_that_of_a_loop(movies, filter, predicate, order_by):
    check_listing(movies, "movies", filter, predicate, order_by)


@pytest.mark.parametrize("filter, predicate, order_by", [
    (condition("rank", "exists", True), lambda r: "rank" in r, {"field": "rank"}),
    (both(condition("month", "exists", False), condition("downloads", "eq", None)), lambda r: "month" not in r and "downloads" not in r, None),
    (both(condition("name", "prefix", "py"), condition("rank", "lte", 5000)), lambda r: r["name"].startswith("py") and r.get("rank", 9e9) <= 5000,
     {"field": "rank", "direction": "desc"}),
    (condition("name", "glob", "react-*-[a-d]???"), lambda r: fnmatch.fnmatchcase(r["name"], "react-*-[a-d]???"), {"field": "name"}),
    (condition("downloads", "gt", 5_000_000), lambda r: r.get("downloads", 0) > 5_000_000, {"field": "downloads", "direction": "desc"}),
    (both(condition("month", "ne", 202611), condition("name", "prefix", "@types/")), lambda r: r.get("month") != 202611 and r["name"].startswith("@types/"),
     {"field": "month"}),
], ids=["has a rank", "neither month nor downloads", "prefix and rank", "glob", "downloads", "not equal matches null"])
def test_a_listing_of_packages_is_that_of_a_loop(packages, filter, predicate, order_by):
    check_listing(packages, "pkg200k", filter, predicate, order_by)


def test_nulls_come_last_in_a_listing_whatever_its_direction(packages):
    for direction in ("asc", "desc"):
        check_listing(packages, "pkg200k", condition("name", "prefix", "num"), lambda row: row["name"].startswith("num"), {"field": "rank", "direction": direction})


def test_the_head_of_a_listing_of_everything_is_right(packages):
    check_listing(packages, "pkg200k", {"type": "and", "conditions": []}, lambda row: True, {"field": "downloads", "direction": "desc"}, top_k=500)


# ---- both ----


def test_hybrid_search_is_the_fusion_of_the_two_rankings(packages):
    top_k, k, weights = 20, 60, {"vector": 1, "full_text": 0.5}
    depth = max(10 * top_k, 100)
    query = {"vector": package_vectors()[777].tolist()}
    words = {"full_text": {"field": "text", "query": "machine learning models"}}
    common = {"filter": condition("registry", "eq", "pypi"), "search": {"exact": True}, "include_attributes": False}
    wanted = {}
    for kind, single in (("vector", query), ("full_text", words)):
        for rank, id in enumerate(packages.ids(top_k=depth, **single, **common), 1):
            wanted[id] = wanted.get(id, 0) + weights[kind] / (k + rank)
    found = packages.results(top_k=top_k, fusion={"method": "rrf", "k": k, "weights": weights}, **query, **words, **common)
    check_ranking(found, wanted, top_k, 1e-9)
