"""Phrases, beginnings of words, misspellings, accents and highlights; before and after compaction. Scores of the log, the tail and segments."""
import random

import pytest

from bm25 import Bm25

TITLES = {
    1: "The lord of the rings",
    2: "Ringing in a lord",
    3: "Quick brown foxes & <b>quick</b> dogs",
    4: "Brown, then quick",
    5: "Café au lait",
    6: "New York",
}


@pytest.fixture(params=["log", "segments"])
def titles(ns, request):
    full_text = {"language": "english", "ascii_folding": True}
    ns.create(attributes={"title": {"type": "string", "full_text": full_text},
                          "tags": {"type": "array_string", "full_text": True}})
    ns.upsert(*({"id": id, "attributes": {"title": title}} for id, title in TITLES.items() if id < 4))
    if request.param == "segments":
        ns.compact()
    ns.upsert(*({"id": id, "attributes": {"title": title}} for id, title in TITLES.items() if id >= 4))
    ns.upsert({"id": 7, "attributes": {"tags": ["quick brown", "fox hunt"]}}, {"id": 8, "attributes": {"tags": ["quick", "brown"]}})
    if request.param == "segments":
        ns.compact()
    return ns


def found(ns, query, **options):
    return sorted(ns.ids(full_text={"fields": ["title", "tags"], "query": query, **options}))


def test_phrases_are_exact_and_stay_inside_an_item(titles):
    assert found(titles, '"quick brown"') == [3, 7]
    assert found(titles, '"brown fox"') == [3]
    assert found(titles, '"lord of the rings"') == [1]
    assert found(titles, '"rings lord"') == []
    assert found(titles, '"quick brown" york') == [3, 6, 7]
    assert found(titles, '"quick brown" fox', operator="and") == [3, 7]
    assert found(titles, 'quick "brown foxes"', operator="and") == [3]


def test_the_last_word_may_be_the_start_of_one(titles):
    assert found(titles, "new yo", prefix=True, operator="and") == [6]
    assert found(titles, "yo") == []
    assert found(titles, "ri", prefix=True) == [1, 2]


def test_misspelt_words_are_found(titles):
    assert found(titles, "qiuck") == []
    assert found(titles, "qiuck", fuzzy=1) == [3, 4, 7, 8]
    assert found(titles, "brwn qick", fuzzy=1, operator="and") == [3, 4, 7, 8]
    assert found(titles, "borken", fuzzy=2) == []


def test_accents_do_not_count_where_the_field_says_so(titles):
    assert found(titles, "cafe") == [5]
    assert found(titles, "CAFÉ") == [5]
    assert titles.info()["schema"]["attributes"]["title"]["full_text"]["ascii_folding"] is True
    assert titles.info()["schema"]["attributes"]["tags"]["full_text"]["ascii_folding"] is False


def test_highlights_are_safe_html(titles):
    text = {"fields": ["title", "tags"], "query": "quick \"brown fox\"", "highlight": ["title", "tags"]}
    results = {result["id"]: result for result in titles.results(full_text=text)}
    assert results[3]["highlights"] == {
        "title": ["<em>Quick</em> <em>brown</em> <em>foxes</em> &amp; &lt;b&gt;<em>quick</em>&lt;/b&gt; dogs"]}
    assert results[4]["highlights"] == {"title": ["Brown, then <em>quick</em>"]}
    assert results[7]["highlights"] == {"tags": ["<em>quick</em> brown"]}
    assert results[3]["attributes"] == {"title": TITLES[3]}
    bare = titles.results(full_text=text, include_attributes=False)
    assert all("attributes" not in result and result["highlights"] for result in bare)


def test_highlights_come_with_hybrid_queries_too(ns):
    ns.create(vector_dim=2, attributes={"title": {"type": "string", "full_text": True}})
    ns.upsert({"id": 1, "vector": [1, 0], "attributes": {"title": "one boat"}}, {"id": 2, "vector": [0, 1], "attributes": {"title": "two"}})
    results = ns.results(vector=[0, 1], full_text={"field": "title", "query": "boats", "highlight": ["title"]})
    assert {result["id"]: result["highlights"] for result in results} == {1: {"title": ["one <em>boat</em>"]}, 2: {}}


def test_a_changed_analysis_is_a_conflict(ns):
    ns.create(attributes={"title": {"type": "string", "full_text": True}})
    answer = ns.ask("PUT", "", {"attributes": {"title": {"type": "string", "full_text": {"ascii_folding": True}}}})
    assert answer.status == 409 and "full_text.ascii_folding" in answer.error


WORDS = "red green blue boat boats sailing sailor harbour light lighthouse the and storm".split()
ASKED = [{"query": "red boat"}, {"query": "sail light storm", "operator": "and"}, {"query": '"red boat" harbour'}, {"query": "storm li", "prefix": True},
         {"query": "harbor strom", "fuzzy": 2}, {"query": "green blue red boat storm the sailor"}]


def sentences(count):
    generator = random.Random(7)
    return [" ".join(generator.choices(WORDS, k=generator.randrange(1, 60))) for _ in range(count)]


def scored(ns):
    """Ids and scores, to the last bit, of each kind of query over a string and an array."""
    return [[(r["id"], r["score"]) for r in ns.results(full_text={"fields": ["t", "tags"], **asked}, top_k=50)] for asked in ASKED]


def test_the_log_the_tail_and_segments_score_alike(own_server):
    ns = own_server.client().namespace("alike")
    ns.create(attributes={"t": {"type": "string", "full_text": True}, "tags": {"type": "array_string", "full_text": True}})
    texts = sentences(120)
    documents = [{"id": i, "attributes": {"t": texts[i], "tags": texts[-i].split()[:4]}} for i in range(120)]
    ns.upsert(*documents[:50])
    ns.compact()  # one segment and several batches of a log
    for begin in range(50, 120, 7):
        ns.upsert(*documents[begin:begin + 7])
    before = scored(ns)
    assert all(before)
    own_server.kill()
    own_server.start()
    ns = own_server.client().namespace("alike")
    assert scored(ns) == before
    ns.compact()
    assert scored(ns) == before


def agree(ns, texts, query):
    """Does the query score as the definition has it over just these texts?"""
    wanted = Bm25(texts, [query]).scores(query)
    return all(r["score"] == pytest.approx(wanted[r["id"]], rel=1e-5) for r in ns.results(full_text={"field": "t", "query": query}, top_k=1000))


def test_deleted_and_replaced_documents_count_until_they_are_merged_away(ns):
    ns.create(attributes={"t": {"type": "string", "full_text": True}})
    texts = dict(enumerate(sentences(60)))
    ns.upsert(*({"id": id, "attributes": {"t": text}} for id, text in texts.items()))
    ns.compact()
    assert agree(ns, texts, "red boat storm")
    ns.delete(ids=list(range(20)))
    ns.upsert({"id": 30, "attributes": {"t": "red"}})
    live = {id: text for id, text in texts.items() if id >= 20} | {30: "red"}
    counted = texts | {30: "red", "replaced": texts[30]}
    assert agree(ns, counted, "red boat storm") and not agree(ns, live, "red boat storm")
    ns.compact()
    assert agree(ns, live, "red boat storm") and not agree(ns, counted, "red boat storm")


@pytest.mark.parametrize("options, place", [
    ({"prefix": "yes"}, "full_text.prefix:"), ({"fuzzy": 3}, "full_text.fuzzy:"), ({"fuzzy": True}, "full_text.fuzzy:"),
    ({"highlight": "title"}, "full_text.highlight:"), ({"highlight": ["body"]}, "full_text.highlight[0]:"),
    ({"query": '"' + "word " * 129 + '"'}, "full_text.query: a phrase has at most 128 words"),
    ({"query": " ".join(f"w{i}" for i in range(65)), "fuzzy": 1}, "full_text.fuzzy: at most 64 words"),
])
def test_wrong_options_are_refused_by_name(titles, options, place):
    answer = titles.ask("POST", "/query", {"full_text": {"field": "title", "query": "x", **options}})
    assert answer.status == 400
    assert answer.error.startswith(place)


def test_a_query_of_ten_megabytes_is_refused(titles):
    answer = titles.ask("POST", "/query", {"full_text": {"field": "title", "query": "word " * 2_000_000}})
    assert answer.status == 413 and "bytes, at most" in answer.error


def test_a_query_of_too_many_words_is_refused(titles):
    answer = titles.ask("POST", "/query", {"full_text": {"field": "title", "query": " ".join(f"w{i}" for i in range(1100))}})
    assert answer.status == 400 and answer.error.startswith("full_text.query: more than 1024 words")


HOSTILE = {
    1: " ".join(f"t{i:x}" for i in range(1_000_000)),
    2: "alpha " + "x" * 65536 + " omega",
    3: "\u0301\u0302" * 50_000 + " e" + "\u0301" * 5000 + " \u202eebrew\u202c \u2066isolate",
    4: "tame " * 500_000,
    5: "\u0301 \u202e \u2069 \u200d \ufe0f",
}


def test_hostile_texts_are_stored_found_and_marked_in_bounded_memory(own_server):
    ns = own_server.client().namespace("hostile")
    ns.create(attributes={"t": {"type": "string", "full_text": True}})
    before = own_server.resident_bytes()
    ns.upsert(*({"id": id, "attributes": {"t": text}} for id, text in HOSTILE.items()))
    for _ in range(2):  # in the log, then in a segment
        for query, options, wanted in (
            ("tf423f", {}, [1]), ("t", {"prefix": True}, [1]), ("t12345x", {"fuzzy": 1}, [1]), ('"t1000 t1001 t1002"', {}, [1]),
            ("omega alpha", {"operator": "and"}, [2]), ("x" * 65536, {}, []), ("alpha " + "x" * 65000, {}, [2]),
            ("ebrew isolate", {"operator": "and"}, [3]), (HOSTILE[3][-5100:], {}, [3]), ("\u202e \u0301\u0301", {}, []), ('"tame tame tame"', {}, [4]),
        ):
            text = {"field": "t", "query": query, "highlight": ["t"], **options}
            answer = ns.ask("POST", "/query", {"full_text": text, "include_attributes": False})
            assert answer.status == 200, answer
            assert sorted(r["id"] for r in answer.json["results"]) == wanted, query[:40]
        assert ns.ids(top_k=10, filter={"field": "id", "op": "gte", "value": 0}) == list(HOSTILE)
        ns.compact()
    assert own_server.resident_bytes() < before + (2 << 30)


def test_bytes_that_are_no_utf8_are_refused_wherever_they_stand(titles):
    for body in (b'{"full_text": {"field": "title", "query": "quick \xff"}}', b'{"full_text": {"field": "ti\xc0\xaftle", "query": "quick"}}',
                 b'{"full_text": {"field": "title", "query": "\xed\xa0\x80"}}', b'{"full_text": {"field": "title", "query": "\\ud800"}}'):
        answer = titles.ask("POST", "/query", body)
        assert answer.status == 400 and answer.error
    for text in (b"\xff", b"a\xe2\x82", b"\xf5\x80\x80\x80", b"\\udc00"):
        body = b'{"documents": [{"id": 99, "attributes": {"title": "' + text + b'"}}]}'
        assert titles.ask("POST", "/upsert", body).status == 400
    assert titles.ask("GET", "/documents/99").status == 404
