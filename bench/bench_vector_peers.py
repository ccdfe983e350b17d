#!/usr/bin/env python3
"""bench_vector_peers.py [queries [plot.svg]] - six libraries beside us on three collections.

fashion    Fashion-MNIST, 60,000 x 784, l2
words      340,000 x 100, cosine: package descriptions, their words and pairs of words by
           latent semantic analysis, as GloVe has words; vectors of length 1
synthetic  1,000,000 x 128, l2: around 3334 centres, as tests/recall has them

The same queries, measure and clock as bench_vector, which runs first so that both stand
in one table of one machine: recall@10 by true distance, queries a second of CPU time of
one thread (all queries in one call, so Python costs nothing; LanceDB has no such call
and is asked fewer times). Each library has a process of its own; all build and warm up
first, one after the other, then they are measured in turns, so that a quiet machine is
needed for a minute or two only. Memory is what that has
more after the build than with the vectors alone, a vector, and at most. Wants numpy,
hnswlib, faiss-cpu, rabitqlib, usearch, scann and lancedb from PyPI, for the words scipy
and zstandard; what is not installed is left out. The curves go into plot.svg.
ELACSYM_DATA names the folder of the data, BENCH_VECTOR our program
(build/release/bench/bench_vector), COLLECTIONS those wanted (all), PEERS the libraries, as
"faiss,scann" (all), ROWS a file in which rows are kept: those of earlier runs, of other
libraries, then stand in the table too; GO a file without which nothing is measured.
"""

import io
import json
import multiprocessing
import os
import pathlib
import queue
import re
import subprocess
import sys
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

K = 10
PASSES = 3
LANCEDB_QUERIES = 100
HIT_SLACK = 1e-5
BUILT = "built"
ENOUGH = 0.997  # recall from which on a curve is not followed
FOLDER = pathlib.Path(os.environ.get("ELACSYM_DATA", "../shared/data"))


class Collection:
    """Vectors, queries, and how far each query's tenth neighbour is, squared."""

    def __init__(self, name, base, queries):
        self.name, self.base, self.queries = name, base, queries
        self.count, self.dim = base.shape
        norms = (base**2).sum(axis=1)
        self.kth = np.empty(len(queries), dtype=np.float32)
        for first in range(0, len(queries), 50):
            some = queries[first : first + 50]
            about = norms[None, :] - 2 * some @ base.T
            near = np.argpartition(about, 2 * K, axis=1)[:, : 2 * K]
            exact = ((base[near] - some[:, None, :]) ** 2).sum(axis=2)
            self.kth[first : first + 50] = np.sort(exact, axis=1)[:, K - 1]

    def recall(self, found):
        """Part of the found ids that are as near as the true k-th, ties included."""
        near = self.base[np.asarray(found, dtype=np.int64)]
        distances = ((near - self.queries[: len(near), None, :]) ** 2).sum(axis=2)
        limit = self.kth[: len(near), None] * (1 + HIT_SLACK) + 1e-6
        return float((distances <= limit).sum()) / found.size

    def write(self, folder):
        for name in ("base", "queries", "kth"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def read(cls, name, folder):
        self = cls.__new__(cls)
        self.name = name
        for part in ("base", "queries", "kth"):
            setattr(self, part, np.load(folder / f"{part}.npy"))
        self.count, self.dim = self.base.shape
        return self


def fashion(queries):
    def load(name):
        return np.load(FOLDER / name).reshape(-1, 784).astype(np.float32)

    return Collection("fashion", load("fashion-base.u8.npy"), load("fashion-query.u8.npy")[:queries])


def terms_of(text):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return words + [f"{a} {b}" for a, b in zip(words, words[1:])]


def words(queries, count=340_000, dim=100):
    import scipy.sparse
    import zstandard

    with open(FOLDER / "pkg200k/docs.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        texts = [" ".join(v for v in json.loads(line).values() if isinstance(v, str)) for line in lines]
    known, terms, ends = {}, [], [0]
    for text in texts:
        terms += [known.setdefault(term, len(known)) for term in set(terms_of(text))]
        ends.append(len(terms))
    terms = np.array(terms)
    often = np.bincount(terms, minlength=len(known))
    kept = np.argsort(-often, kind="stable")[: count - len(texts) + 3 * queries + 60_000]
    weight = np.zeros(len(known), dtype=np.float32)
    weight[kept] = np.log(len(texts) / often[kept])
    matrix = scipy.sparse.csr_matrix((weight[terms], terms, ends), shape=(len(texts), len(known)))[:, kept]
    basis = np.random.default_rng(1).standard_normal((len(kept), dim), dtype=np.float32)
    for _ in range(3):  # subspace iteration: the largest singular vectors
        documents = np.linalg.qr(matrix @ basis)[0].astype(np.float32)
        basis = (matrix.T @ documents).astype(np.float32)
    rows = np.concatenate([matrix @ np.linalg.qr(basis)[0].astype(np.float32), basis])
    lengths = np.linalg.norm(rows, axis=1)
    rows = np.unique((rows[lengths > 1e-4] / lengths[lengths > 1e-4, None]).astype(np.float32), axis=0)
    np.random.default_rng(2).shuffle(rows)
    return Collection("words", rows[queries : queries + count].copy(), rows[:queries].copy())


def synthetic(queries, count=1_000_000, dim=128):
    chance = np.random.default_rng(3)
    centres = chance.standard_normal((count // 300 + 1, dim), dtype=np.float32)

    def some(n):
        around = centres[chance.integers(0, len(centres), n)]
        return around + np.float32(0.7) * chance.standard_normal((n, dim), dtype=np.float32)

    return Collection("synthetic", some(count), some(queries))


COLLECTIONS = {"fashion": fashion, "words": words, "synthetic": synthetic}


def measure(data, search):
    """(recall, queries a second of CPU time), best of several passes."""
    best, found = float("inf"), None
    for _ in range(PASSES):
        start = time.process_time()
        found = search(data.queries)
        best = min(best, time.process_time() - start)
    return data.recall(np.asarray(found)), len(found) / best


def memory_mb(which):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+)", status)[1]) * 1024 / 1e6


class Cost:
    """CPU seconds of a build; memory that was more after it, and at most."""

    def __init__(self, seconds, memory, peak):
        self.seconds, self.memory, self.peak = seconds, memory, peak


def build(make):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    memory, start = memory_mb("VmRSS"), time.process_time()
    made = make()
    seconds = time.process_time() - start
    return made, Cost(seconds, memory_mb("VmRSS") - memory, memory_mb("VmHWM") - memory)


# What each library takes for a collection of that size.
TUNED = {
    "fashion": {"lists": 256, "faiss": "IVF256,PQ196x4fs,RFlat", "again": 5, "bits": (5, 7), "leaves": 250, "rounds": 25},
    "words": {"lists": 1024, "faiss": "IVF1024,PQ50x4fs,RFlat", "again": 10, "bits": (8,), "leaves": 600, "rounds": 25},
    "synthetic": {"lists": 2048, "faiss": "IVF2048,PQ64x4fs,RFlat", "again": 10, "bits": (7,), "leaves": 1000, "rounds": 10},
}
PROBES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192)


def hnswlib_runs(data):
    import hnswlib

    def make():
        index = hnswlib.Index(space="l2", dim=data.dim)
        index.init_index(max_elements=len(data.base), M=16, ef_construction=200)
        index.set_num_threads(1)
        index.add_items(data.base, num_threads=1)
        return index

    index, seconds = build(make)
    for ef in (10, 14, 20, 28, 40, 60, 80, 120, 160, 240, 400, 800):
        index.set_ef(ef)
        yield "hnswlib M16 efc200", f"ef {ef}", seconds, lambda q: index.knn_query(
            q, k=K, num_threads=1
        )[0]


def faiss_runs(data):
    import faiss

    tuned = TUNED[data.name]
    faiss.omp_set_num_threads(1)

    def make():
        index = faiss.index_factory(data.dim, tuned["faiss"])
        faiss.extract_index_ivf(index).cp.niter = tuned["rounds"]
        index.train(data.base)
        index.add(data.base)
        return index

    index, seconds = build(make)
    index.k_factor = tuned["again"]
    for probes in PROBES:
        faiss.extract_index_ivf(index).nprobe = probes
        yield f"faiss {tuned['faiss']}", f"nprobe {probes}", seconds, (
            lambda q: index.search(q, K)[1]
        )


def rabitq_runs(data):
    import faiss
    import rabitqlib

    tuned = TUNED[data.name]
    lists = tuned["lists"]
    faiss.omp_set_num_threads(1)

    def make(bits):
        means = faiss.Kmeans(data.dim, lists, niter=12, seed=1)
        means.train(data.base)
        _, nearest = means.index.search(data.base, 1)
        index = rabitqlib.IvfIndex(data.dim, data.count, lists, bits)
        index.build(
            data.base,
            np.ascontiguousarray(means.centroids.reshape(lists, data.dim)),
            nearest.ravel().astype(np.uint32),
            num_threads=1,
        )
        return index

    built = [(bits, *build(lambda bits=bits: make(bits))) for bits in tuned["bits"]]
    for bits, index, seconds in built:
        for accurate in (False, True):
            for probes in PROBES:
                name = f"rabitqlib IVF{lists} {bits} bit" + (" accurate" if accurate else "")

                def search(q):
                    answer = index.search(
                        q, K, probes, high_accuracy=accurate, num_threads=1
                    )
                    ids = [a for a in answer if np.asarray(a).dtype.kind in "ui"]
                    return np.asarray(ids[0]).reshape(len(q), K)

                yield name, f"nprobe {probes}", seconds, search


def usearch_runs(data):
    from usearch.index import Index

    keys = np.arange(len(data.base))

    def make():
        index = Index(ndim=data.dim, metric="l2sq", dtype="f32", connectivity=16, expansion_add=200)
        index.add(keys, data.base, threads=1)
        return index

    index, seconds = build(make)
    for expansion in (10, 20, 40, 80, 160, 320, 640):
        index.expansion_search = expansion
        yield "usearch f32 M16", f"ef {expansion}", seconds, (
            lambda q: index.search(q, K, threads=1).keys
        )


def scann_runs(data):
    import scann

    leaf_count = TUNED[data.name]["leaves"]

    def make():
        # Leaves about the root of the rows, anisotropic quantisation of 2 dimensions a
        # code, as its docs say; the best are scored again.
        return (
            scann.scann_ops_pybind.builder(data.base, K, "squared_l2")
            .set_n_training_threads(1)
            .tree(num_leaves=leaf_count, num_leaves_to_search=10, training_sample_size=250_000)
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .build()
        )

    index, seconds = build(make)
    for leaves in PROBES:
        for again in (30, 100):
            yield f"scann {leaf_count} leaves, AH 2", f"{leaves} leaves, {again}", seconds, (
                lambda q: index.search_batched(
                    q, leaves_to_search=leaves, pre_reorder_num_neighbors=again
                )[0]
            )


def lancedb_runs(data):
    # With one thread each it waits for itself for ever; the clock counts all threads.
    os.environ["LANCE_CPU_THREADS"] = "2"
    os.environ["LANCE_IO_THREADS"] = "2"
    import lancedb
    import pyarrow as pa

    few = data.queries[:LANCEDB_QUERIES]
    lists = TUNED[data.name]["lists"]
    with tempfile.TemporaryDirectory() as folder:

        def make():
            vectors = pa.FixedSizeListArray.from_arrays(data.base.ravel(), data.dim)
            table = lancedb.connect(folder).create_table(
                "t", pa.table({"id": np.arange(len(data.base)), "vector": vectors})
            )
            table.create_index(metric="l2", index_type="IVF_RQ", num_partitions=lists)
            return table

        table, seconds = build(make)

        def search(probes, again):
            return lambda q: [
                table.search(v)
                .metric("l2")
                .nprobes(probes)
                .refine_factor(again)
                .limit(K)
                .select(["id"])
                .to_arrow()["id"]
                .to_numpy()
                for v in few
            ]

        for probes in (4, 8, 16, 32, 64):
            yield f"lancedb IVF_RQ {lists}, refine 10", f"nprobes {probes}", seconds, search(probes, 10)


def ours(name, folder, queries):
    program = os.environ.get("BENCH_VECTOR", "build/release/bench/bench_vector")
    command = [program, str(queries), "" if name == "fashion" else str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(text, flush=True)
    built = re.search(r"built in ([\d.]+) CPU s.*resident (\d+) MB more, at most (\d+)", text)
    if not built:
        sys.exit(text)
    cost = Cost(*map(float, built.groups()))
    for line in text.splitlines():
        row = re.match(r"(\d+|wants [\d.]+)(\+\d+)? +recall ([\d.]+) +(\d+) q/s", line)
        if row:
            setting, exact, recall, rate = row.groups()
            name = "elacsym" + (" + 15 exact" if exact else "")
            if setting.isdigit():
                setting = f"probes {setting}"
            yield name, setting, cost, float(recall), float(rate)


PEERS = {
    "faiss": faiss_runs,
    "rabitqlib": rabitq_runs,
    "hnswlib": hnswlib_runs,
    "usearch": usearch_runs,
    "scann": scann_runs,
    "lancedb": lancedb_runs,
}


def rate_at(points, recall):
    """The best rate at a recall, interpolated on the front."""
    best = front(points)
    for (r0, q0), (r1, q1) in zip(best, best[1:]):
        if r0 <= recall <= r1:
            return q0 + (q1 - q0) * (recall - r0) / (r1 - r0)
    return best[0][1] if best and best[0][0] >= recall else None


def show(row):
    name, setting, _, recall, rate = row
    print(f"{name:32} {setting:12} recall {recall:.4f} {rate:9.0f} q/s", flush=True)


def wait_for_go():
    """Until the file of that name is there, if there is a name."""
    while "GO" in os.environ and not pathlib.Path(os.environ["GO"]).exists():
        time.sleep(0.1)


def run_peer(name, folder, peer, turn, rows):
    reached, data = {}, Collection.read(name, folder)
    try:
        for name, setting, cost, search in PEERS[peer](data):
            if not turn.is_set():
                search(data.queries)  # warms it
                rows.put(BUILT)
                turn.wait()
            if reached.get(name, 0) < ENOUGH:
                wait_for_go()
                recall, rate = measure(data, search)
                reached[name] = recall
                rows.put((name, setting, cost, recall, rate))
    except ImportError as error:
        print(f"left out: {error}")
    rows.put(None)


class Peer:
    """A library in a fresh process, which builds its indexes and waits for its turn."""

    def __init__(self, name, folder, peer):
        context = multiprocessing.get_context("spawn")
        self.turn, self.queue = context.Event(), context.Queue()
        arguments = (name, folder, peer, self.turn, self.queue)
        self.process = context.Process(target=run_peer, args=arguments)
        self.process.start()
        list(self.until(lambda row: row == BUILT))

    def until(self, is_last):
        while self.process.is_alive() or not self.queue.empty():
            try:
                row = self.queue.get(timeout=1)
            except queue.Empty:
                continue
            if is_last(row) or row is None:
                break
            yield row

    def rows(self):
        self.turn.set()
        yield from self.until(lambda row: row is None)
        self.process.join()


# ---- the plot ----

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 20, 190, 45
COLOURS = ("#d62728", "#ff7f0e", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#7f7f7f", "#bcbd22", "#e377c2", "#000000")


def front(points):
    """Those that no other point beats in both recall and rate, by recall."""
    best = []
    for recall, rate in sorted(points, key=lambda p: (-p[0], -p[1])):
        if not best or rate > best[-1][1]:
            best.append((recall, rate))
    return best[::-1]


def plot(curves):
    """An SVG of name -> points (recall, rate): recall from 0.8 to 1, rates by powers of ten."""
    rates = [rate for points in curves.values() for _, rate in points]
    low, high = np.floor(np.log10(min(rates))), np.ceil(np.log10(max(rates)))

    def place(recall, rate):
        x = LEFT + (recall - 0.8) / 0.2 * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (np.log10(rate) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f}", f"{y:.1f}"

    def text(x, y, words, more=""):
        return f'<text x="{x}" y="{y}" font-size="12" font-family="sans-serif" {more}>{words}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">', '<rect width="100%" height="100%" fill="white"/>']
    for recall in (0.8, 0.85, 0.9, 0.95, 1.0):
        (x, bottom), (_, top) = place(recall, 10**low), place(recall, 10**high)
        out.append(f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{top}" stroke="#ddd"/>')
        out.append(text(x, HEIGHT - BOTTOM + 18, f"{recall:.2f}", 'text-anchor="middle"'))
    for power in range(int(low), int(high) + 1):
        for step in (1, 2, 5) if power < high else (1,):
            (left, y), (right, _) = place(0.8, step * 10.0**power), place(1.0, step * 10.0**power)
            out.append(f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#ddd"/>')
            out.append(text(LEFT - 6, y, f"{step * 10**power:g}", 'text-anchor="end" dominant-baseline="middle"'))
    out.append(text(LEFT, HEIGHT - 8, "recall@10; queries per second of CPU time of one thread"))
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        shown = [place(*p) for p in front(points) if p[0] >= 0.8]
        line = " ".join(",".join(p) for p in shown)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in shown]
        out.append(text(WIDTH - RIGHT + 12, TOP + 14 + 18 * i, name, f'fill="{colour}"'))
    return "\n".join(out + ["</svg>", ""])


def kept_rows(path, name):
    """Of earlier runs on the collection."""
    if not path or not pathlib.Path(path).exists():
        return []
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return [(row[1], row[2], Cost(*row[3]), *row[4:]) for row in lines if row[0] == name]


def keep(path, name, row):
    if path:
        with open(path, "a") as file:
            cost = (row[2].seconds, row[2].memory, row[2].peak)
            file.write(json.dumps([name, *row[:2], cost, *row[3:]]) + "\n")


def table(data, rows):
    print(f"\n{data.name} {data.count} x {data.dim}")
    print(f"{'':34} {'q/s at 0.90':>12} {'0.95':>9} {'0.99':>9}  build CPU s  bytes a vector  peak MB")
    for name in dict.fromkeys(row[0] for row in rows):
        points = [row[3:] for row in rows if row[0] == name]
        cells = [rate_at(points, r) for r in (0.90, 0.95, 0.99)]
        shown = " ".join(f"{'-' if c is None else round(c):>9}" for c in cells)
        cost = next(row[2] for row in rows if row[0] == name)
        print(f"{name:34}    {shown}  {cost.seconds:11.1f} {cost.memory * 1e6 / data.count:15.0f} {cost.peak:8.0f}")


def main():
    queries = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    path = os.environ.get("ROWS")
    chosen = [peer for peer in os.environ.get("PEERS", ",".join(PEERS)).split(",") if peer]
    for name in os.environ.get("COLLECTIONS", ",".join(COLLECTIONS)).split(","):
        try:
            data = COLLECTIONS[name](queries)
        except ImportError as error:
            print(f"left out: {name}: {error}")
            continue
        rows = kept_rows(path, name)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            data.write(folder)
            peers = [Peer(name, folder, peer) for peer in chosen]
            print(f"{name}: all is built", flush=True)
            for some in [ours(name, folder, queries)] + [peer.rows() for peer in peers]:
                wait_for_go()
                for row in some:
                    rows = [old for old in rows if old[:2] != row[:2]] + [row]
                    keep(path, name, row)
                    show(row)
        table(data, rows)
        if len(sys.argv) > 2 and name == "fashion":
            names = dict.fromkeys(row[0] for row in rows)
            curves = {name: [row[3:] for row in rows if row[0] == name] for name in names}
            pathlib.Path(sys.argv[2]).write_text(plot(curves))


if __name__ == "__main__":
    main()
