"""Full-text search in process: ours, Lucene, tantivy and LanceDB on the same terms of the same documents, in one run.

    make bench-text            or: build/venv/bin/python bench/bench_text_peers.py [queries per class] [copies of the collection]

bench_text makes documents and queries from the shared collection of package descriptions and writes their terms as they are; every
engine indexes and asks these. Top 10 by BM25, one thread, one segment, warm; per query the least of three runs counts. Peers are tuned
as their documentation says: Lucene with a 512 MB buffer, merged to one segment, no query cache, counting no more hits than are
returned; tantivy with one writer thread, merged, no count; LanceDB's FTS index without positions. A peer that is not installed
(liblucene8-java with java; tantivy and lancedb from PyPI, in any environment named by PEERS_PYTHON) is left out, and the table says so.
Last come the same queries through HTTP, one client on a kept connection, Python's share of the time included.
"""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
JARS = [pathlib.Path("/usr/share/java") / name for name in ("lucene-core-8.7.0.jar", "lucene-analyzers-common-8.7.0.jar")]
CLASSES = ["or1", "or2", "or4", "or8", "or12", "and2", "and4"]
TARGETS = {"or1": 25, "or2": 205, "or4": 345, "or8": 850, "or12": 1400, "and2": 170, "and4": 95}
TOP, RUNS, LANCE_QUERIES, BATCH = 10, 3, 30, 5000


def cpu_s(children=False):
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def read_queries(folder):
    for line in (folder / "queries.txt").read_text().splitlines():
        kind, terms = line.split("\t")
        yield kind, terms.split(" ")


def size_of(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def ours(folder, queries, copies):
    program = REPOSITORY / "build/release/bench/bench_text"
    done = subprocess.run([program, "--dump", folder, str(queries), str(copies)], check=True, capture_output=True, text=True)
    if not (folder / "ours.json").exists():
        sys.exit(done.stdout)
    print(done.stdout)
    return json.loads((folder / "ours.json").read_text())


def lucene(folder):
    if not shutil.which("java") or not all(jar.exists() for jar in JARS):
        return None
    jars = ":".join(map(str, JARS))
    done = subprocess.run(["java", "-Xmx3g", "-cp", jars, REPOSITORY / "tests/lucene/LuceneAsk.java", folder / "docs.txt",
                           folder / "queries.txt", str(TOP), str(RUNS + 2), "none"], check=True, capture_output=True, text=True)
    first, *lines = done.stdout.splitlines()
    words = first.split()
    return {"build_s": float(words[2]), "bytes": int(words[4]), "us": [float(line.split(" ", 1)[0]) for line in lines]}


def timed(ask):
    least = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        ask()
        least = min(least, time.perf_counter() - start)
    return least * 1e6


def tantivy(folder):
    import tantivy as t
    builder = t.SchemaBuilder()
    builder.add_text_field("t", stored=False, tokenizer_name="terms", index_option="freq")
    schema = builder.build()
    place = folder / "tantivy"
    place.mkdir()
    index = t.Index(schema, path=str(place))
    index.register_tokenizer("terms", t.TextAnalyzerBuilder(t.Tokenizer.whitespace()).build())
    start = cpu_s()
    writer = index.writer(heap_size=512 << 20, num_threads=1)
    for line in (folder / "docs.txt").open():
        document = t.Document()
        document.add_text("t", line.rstrip("\n"))
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    build_s = cpu_s() - start
    index.reload()
    searcher = index.searcher()

    def query(kind, terms):
        occur = t.Occur.Must if kind == "and" else t.Occur.Should
        return t.Query.boolean_query([(occur, t.Query.term_query(schema, "t", term, "freq")) for term in terms])

    asked = [query(kind, terms) for kind, terms in read_queries(folder)]
    us = [timed(lambda: searcher.search(q, TOP, count=False)) for q in asked]
    return {"build_s": build_s, "bytes": size_of(place), "us": us, "segments": searcher.num_segments}


def lancedb(folder):
    import lancedb as l
    import pyarrow
    table = l.connect(str(folder / "lance")).create_table(
        "t", pyarrow.table({"t": [line.rstrip("\n") for line in (folder / "docs.txt").open()]}))
    before, start = size_of(folder / "lance"), cpu_s()
    table.create_fts_index("t", with_position=False, base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False,
                           ascii_folding=False, max_token_length=None, replace=True)
    build_s, size = cpu_s() - start, size_of(folder / "lance") - before
    from lancedb.query import MatchQuery
    us, per_class = [], len(list(read_queries(folder))) // len(CLASSES)
    for i, (kind, terms) in enumerate(read_queries(folder)):
        if i % per_class >= LANCE_QUERIES:
            us.append(None)
            continue
        asked = MatchQuery(" ".join(terms), "t", operator=kind.upper())
        us.append(timed(lambda: table.search(asked).select(["_score"]).limit(TOP).to_arrow()))
    return {"build_s": build_s, "bytes": size, "us": us}


def elsewhere(name, folder):
    """A peer of the environment PEERS_PYTHON, or of this one."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    done = subprocess.run([python, __file__, "--peer", name, folder], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: not measured: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'}")
    return None


def through_http(folder):
    """Our server on the loopback, loaded through it: microseconds of each query on one kept connection, the last of RUNS rounds."""
    sys.path.insert(0, str(REPOSITORY / "tests/e2e"))
    from elacsym import Server
    server = Server(folder / "server").start()
    try:
        ns = server.client().namespace("texts")
        ns.create(attributes={"t": {"type": "string", "full_text": {"stemming": False, "remove_stopwords": False}}})
        documents = []
        for i, line in enumerate((folder / "docs.txt").open()):
            documents.append({"id": i, "attributes": {"t": line.rstrip("\n")}})
            if len(documents) == BATCH:
                ns.upsert(*documents)
                documents = []
        if documents:
            ns.upsert(*documents)
        ns.compact()
        bodies = [{"full_text": {"field": "t", "query": " ".join(terms), "operator": kind}, "top_k": TOP, "include_attributes": False}
                  for kind, terms in read_queries(folder)]
        bodies = [json.dumps(body).encode() for body in bodies]
        us = []
        for _ in range(RUNS):
            us = []
            for body in bodies:
                start = time.perf_counter()
                answer = ns.ask("POST", "/query", body)
                us.append((time.perf_counter() - start) * 1e6)
                assert answer.status == 200, answer
        return us
    finally:
        server.stop()


def http_table(us, per_class):
    print("| through HTTP, us | " + " | ".join(CLASSES) + " |")
    print("|---" * (len(CLASSES) + 1) + "|")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        cells = [sorted(us[i * per_class:(i + 1) * per_class])[int(share * (per_class - 1))] for i in range(len(CLASSES))]
        print(f"| {name} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


def mean(us, i, per_class):
    found = [x for x in us[i * per_class:(i + 1) * per_class] if x is not None]
    return sum(found) / len(found)


def table(rows, per_class, targets):
    print("| mean us | " + " | ".join(CLASSES) + " | build CPU s | size MB |")
    print("|---" * (len(CLASSES) + 3) + "|")
    for name, row in rows:
        cells = [f"{mean(row['us'], i, per_class):.0f}" for i in range(len(CLASSES))]
        print(f"| {name} | " + " | ".join(cells) + f" | {row['build_s']:.1f} | {row['bytes'] / 1e6:.1f} |")
    mine = rows[0][1]
    for name, row in rows[1:]:
        cells = [f"{mean(row['us'], i, per_class) / mean(mine['us'], i, per_class):.1f}x" for i in range(len(CLASSES))]
        print(f"| {name} / ours | " + " | ".join(cells) + f" | {row['build_s'] / mine['build_s']:.1f}x | {row['bytes'] / mine['bytes']:.1f}x |")
    print("| target | " + " | ".join(str(targets[name]) for name in CLASSES) + " | 2 | 26 |")


def main():
    queries = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    copies = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        mine = ours(folder, queries, copies)
        rows = [("ours", mine)]
        for name, row in (("Lucene 8.7", lucene(folder)), ("tantivy", elsewhere("tantivy", folder)), ("LanceDB", elsewhere("lancedb", folder))):
            if row:
                rows.append((name, row))
            elif name.startswith("Lucene"):
                print("Lucene: not measured: install default-jre-headless and liblucene8-java")
        print(f"{mine['documents']} documents, {mine['terms']} terms, top {TOP}, {queries} queries a class "
              f"(LanceDB {min(LANCE_QUERIES, queries)}), load {os.getloadavg()[0]:.1f}")
        table(rows, queries, TARGETS)
        http_table(through_http(folder), queries)
        print(f"ours with positions: {(mine['bytes'] + mine['position_bytes']) / 1e6:.1f} MB; full analysis: {mine['full_build_s']:.1f} CPU s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        print(json.dumps({"tantivy": tantivy, "lancedb": lancedb}[sys.argv[2]](pathlib.Path(sys.argv[3]))))
    else:
        main()
