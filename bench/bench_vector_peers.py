#!/usr/bin/env python3
"""bench_vector_peers.py [queries [plot.svg]] - six libraries on Fashion-MNIST beside us.

The same queries, measure and clock as bench_vector, which runs first so that both stand
in one table of one machine: recall@10 by true distance, queries a second of CPU time of
one thread (all queries in one call, so Python costs nothing; LanceDB has no such call
and is asked fewer times). Memory is what the process has more after the build. Wants
numpy, hnswlib, faiss-cpu, rabitqlib, usearch, scann and lancedb from PyPI; what is not
installed is left out. The curves go into plot.svg.
ELACSYM_DATA names the folder of the data, BENCH_VECTOR our program
(build/release/bench/bench_vector), PEERS those to run, as "faiss,scann" (all).
"""

import os
import pathlib
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


class Fashion:
    def __init__(self, folder, queries):
        def load(name):
            return np.load(folder / name)

        self.base = load("fashion-base.u8.npy").reshape(-1, 784).astype(np.float32)
        self.queries = (
            load("fashion-query.u8.npy").reshape(-1, 784)[:queries].astype(np.float32)
        )
        self.kth = load("fashion-gt100-dist.f32.npy")[:queries, K - 1]

    def recall(self, found):
        """Part of the found ids that are as near as the true k-th, ties included."""
        near = self.base[np.asarray(found, dtype=np.int64)]
        distances = ((near - self.queries[: len(near), None, :]) ** 2).sum(axis=2)
        limit = self.kth[: len(near), None] * (1 + HIT_SLACK) + 1e-6
        return float((distances <= limit).sum()) / found.size


def measure(data, search):
    """(recall, queries a second of CPU time), best of several passes."""
    best, found = float("inf"), None
    for _ in range(PASSES):
        start = time.process_time()
        found = search(data.queries)
        best = min(best, time.process_time() - start)
    return data.recall(np.asarray(found)), len(found) / best


def resident_mb():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Cost(float):
    """CPU seconds of a build, with the memory that was more after it."""

    memory_mb = float("nan")


def build(make):
    memory, start = resident_mb(), time.process_time()
    made = make()
    cost = Cost(time.process_time() - start)
    cost.memory_mb = resident_mb() - memory
    return made, cost


def hnswlib_runs(data):
    import hnswlib

    def make():
        index = hnswlib.Index(space="l2", dim=784)
        index.init_index(max_elements=len(data.base), M=16, ef_construction=200)
        index.set_num_threads(1)
        index.add_items(data.base, num_threads=1)
        return index

    index, seconds = build(make)
    for ef in (10, 14, 20, 28, 40, 60, 80, 120, 160):
        index.set_ef(ef)
        yield "hnswlib M16 efc200", f"ef {ef}", seconds, lambda q: index.knn_query(
            q, k=K, num_threads=1
        )[0]


def faiss_runs(data):
    import faiss

    faiss.omp_set_num_threads(1)

    def make():
        index = faiss.index_factory(784, "IVF256,PQ196x4fs,RFlat")
        index.train(data.base)
        index.add(data.base)
        return index

    index, seconds = build(make)
    index.k_factor = 5
    for probes in (2, 3, 4, 6, 8, 12, 16, 24, 32):
        faiss.extract_index_ivf(index).nprobe = probes
        yield "faiss IVF256,PQ196x4fs,RFlat", f"nprobe {probes}", seconds, (
            lambda q: index.search(q, K)[1]
        )


def rabitq_runs(data):
    import faiss
    import rabitqlib

    faiss.omp_set_num_threads(1)
    for bits in (5, 7):

        def make():
            means = faiss.Kmeans(784, 256, niter=12, seed=1)
            means.train(data.base)
            _, nearest = means.index.search(data.base, 1)
            index = rabitqlib.IvfIndex(784, len(data.base), 256, bits)
            index.build(
                data.base,
                np.ascontiguousarray(means.centroids.reshape(256, 784)),
                nearest.ravel().astype(np.uint32),
                num_threads=1,
            )
            return index

        index, seconds = build(make)
        for accurate in (False, True):
            for probes in (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32):
                name = f"rabitqlib IVF256 {bits} bit" + (" accurate" if accurate else "")

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
        index = Index(ndim=784, metric="l2sq", dtype="f32", connectivity=16, expansion_add=200)
        index.add(keys, data.base, threads=1)
        return index

    index, seconds = build(make)
    for expansion in (10, 20, 40, 80, 160):
        index.expansion_search = expansion
        yield "usearch f32 M16", f"ef {expansion}", seconds, (
            lambda q: index.search(q, K, threads=1).keys
        )


def scann_runs(data):
    import scann

    def make():
        # Leaves about the root of the rows, anisotropic quantisation of 2 dimensions a
        # code, as its docs say; the best are scored again.
        return (
            scann.scann_ops_pybind.builder(data.base, K, "squared_l2")
            .set_n_training_threads(1)
            .tree(num_leaves=250, num_leaves_to_search=10, training_sample_size=60000)
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .build()
        )

    index, seconds = build(make)
    for leaves in (2, 3, 4, 6, 8, 12, 16, 24, 32):
        for again in (30, 100):
            yield "scann 250 leaves, AH 2", f"{leaves} leaves, {again}", seconds, (
                lambda q: index.search_batched(
                    q, leaves_to_search=leaves, pre_reorder_num_neighbors=again
                )[0]
            )


def lancedb_runs(data):
    os.environ["LANCE_CPU_THREADS"] = "1"
    os.environ["LANCE_IO_THREADS"] = "1"
    import lancedb
    import pyarrow as pa

    few = data.queries[:LANCEDB_QUERIES]
    with tempfile.TemporaryDirectory() as folder:

        def make():
            vectors = pa.FixedSizeListArray.from_arrays(data.base.ravel(), 784)
            table = lancedb.connect(folder).create_table(
                "t", pa.table({"id": np.arange(len(data.base)), "vector": vectors})
            )
            table.create_index(metric="l2", index_type="IVF_RQ", num_partitions=256)
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

        for probes in (4, 8, 16, 32):
            yield "lancedb IVF_RQ 256, refine 10", f"nprobes {probes}", seconds, search(probes, 10)


def ours(queries):
    program = os.environ.get("BENCH_VECTOR", "build/release/bench/bench_vector")
    text = subprocess.run(
        [program, str(queries)], check=True, capture_output=True, text=True
    ).stdout
    print(text, flush=True)
    built = re.search(r"built in ([\d.]+) CPU s", text)
    if not built:
        sys.exit(text)
    cost = Cost(built[1])
    cost.memory_mb = sum(int(n) for n in re.search(r"head (\d+) records (\d+)", text).groups()) / 1e6
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


# ---- the plot ----

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 20, 190, 45
COLOURS = ("#d62728", "#ff7f0e", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#7f7f7f", "#bcbd22")


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


def main():
    queries = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    folder = pathlib.Path(os.environ.get("ELACSYM_DATA", "../shared/data"))
    data = Fashion(folder, queries)
    rows = list(ours(queries))
    for row in rows:
        show(row)
    chosen = os.environ.get("PEERS", ",".join(PEERS)).split(",")
    for runs in (PEERS[name] for name in chosen):
        try:
            for name, setting, seconds, search in runs(data):
                rows.append((name, setting, seconds, *measure(data, search)))
                show(rows[-1])
        except ImportError as error:
            print(f"left out: {error}")
    if len(sys.argv) > 2:
        names = dict.fromkeys(row[0] for row in rows)
        curves = {name: [row[3:] for row in rows if row[0] == name] for name in names}
        pathlib.Path(sys.argv[2]).write_text(plot(curves))
    print(f"\n{'':32} {'q/s at 0.90':>12} {'0.95':>9} {'0.99':>9}  build CPU s     MB")
    for name in dict.fromkeys(row[0] for row in rows):
        points = [row[3:] for row in rows if row[0] == name]
        cells = [rate_at(points, r) for r in (0.90, 0.95, 0.99)]
        shown = " ".join(f"{'-' if c is None else round(c):>9}" for c in cells)
        seconds = next(row[2] for row in rows if row[0] == name)
        print(f"{name:32}    {shown}  {seconds:11.1f} {seconds.memory_mb:6.0f}")


if __name__ == "__main__":
    main()
