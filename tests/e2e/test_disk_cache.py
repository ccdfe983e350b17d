"""The disk cache of a node on S3: what a restart finds, and what damage does not do.

On the simulator, and by tools/s3_test.py on real servers."""
import random
import re
import shutil
import subprocess
import threading
import time

import pytest

from s3 import S3

DIM = 256
ROWS = 1500
PATIENCE_S = 30
WORDS = "sea ship sail harbour storm anchor rope deck mast crew".split()


def documents():
    chance = random.Random(7)
    return [{
        "id": i,
        "vector": [round(chance.uniform(-1, 1), 3) for _ in range(DIM)],
        "attributes": {"body": " ".join(chance.choice(WORDS) for _ in range(30)) + f" unique{i}",
                       "year": 1900 + i % 120},
    } for i in range(ROWS)]


def questions():
    chance = random.Random(11)
    asked = [{"vector": [round(chance.uniform(-1, 1), 3) for _ in range(DIM)], "top_k": 10,
              "include_attributes": True} for _ in range(3)]
    asked += [{"full_text": {"fields": ["body"], "query": f"storm unique{chance.randrange(ROWS)}"},
               "top_k": 10, "include_attributes": True} for _ in range(3)]
    asked.append({"filter": {"field": "year", "op": "gte", "value": 2015}, "top_k": 20,
                  "include_attributes": True})
    return asked


def answers(client):
    sea = client.namespace("sea")
    return [sea.results(**question) for question in questions()]


@pytest.fixture
def s3():
    s3 = S3()
    yield s3
    s3.stop()


@pytest.fixture
def loaded(s3, tmp_path):
    """A server whose documents are all in one segment of the store."""
    server = s3.server(tmp_path)
    server.start()
    client = server.client()
    sea = client.namespace("sea")
    sea.create(vector_dim=DIM, vector_metric="cosine",
               attributes={"body": {"type": "string", "full_text": True}, "year": {"type": "int"}})
    rows = documents()
    for at in range(0, ROWS, 500):
        sea.upsert(*rows[at:at + 500])
    sea.compact()
    client.close()
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0


def restart(server, kill=False):
    if kill:
        server.kill()
    else:
        assert server.stop() == 0
    server.start()
    return server.client()


def slab(server):
    return server.root / "cache" / "ranges.slab"


def wait_for(what):
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def metric(client, name):
    for line in client.get("/metrics").content.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def written(client):
    """Waits until the disk cache writes no more."""
    last = [-1.0]

    def still():
        now = metric(client, "elacsym_cache_disk_written_bytes_total")
        same, last[0] = now == last[0], now
        time.sleep(0.2)
        return same
    wait_for(still)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_answers_warm_queries_without_reading_a_segment(s3, loaded, kill):
    client = restart(loaded)
    before = answers(client)
    written(client)
    client.close()
    client = restart(loaded, kill)
    reads = s3.segment_reads()
    assert answers(client) == before
    assert s3.segment_reads() == reads
    explained = client.namespace("sea").query(**questions()[0], explain=True)["explain"]
    assert explained["cache_misses"] == 0
    client.close()
    client = restart(loaded, kill)
    explained = client.namespace("sea").query(**questions()[0], explain=True)["explain"]
    assert explained["disk_hits"] > 0 and explained["disk_bytes"] > DIM * 4 * ROWS / 2
    assert metric(client, 'elacsym_cache_ranges_total{tier="disk"}') > 0
    client.close()


def test_without_its_caches_a_node_answers_from_the_bucket(s3, loaded):
    client = restart(loaded)
    before = answers(client)
    client.close()
    loaded.kill()
    shutil.rmtree(loaded.root / "cache")
    loaded.start()
    client = loaded.client()
    reads = s3.segment_reads()
    assert answers(client) == before
    assert s3.segment_reads() > reads
    client.close()


def test_kills_while_the_cache_is_written_change_no_answer(loaded):
    """Each life begins with an empty cache half of the time, fills it, and ends amid that."""
    client = restart(loaded)
    before = answers(client)
    client.close()
    chance = random.Random(5)
    written_in_all = 0
    for life in range(60):  # a slow one may end before it wrote anything: the next may last longer
        if life >= 6 and written_in_all:
            break
        loaded.kill()
        if life % 2:
            slab(loaded).unlink(missing_ok=True)
        loaded.start()
        client = loaded.client()
        dying = threading.Timer(chance.uniform(0, 0.15 + 0.02 * life), loaded.process.kill)
        dying.start()
        try:
            for question in questions():
                client.namespace("sea").results(**question)
                written_in_all += metric(client, "elacsym_cache_disk_written_bytes_total") > 0
        except OSError:
            pass
        dying.join()
        client.close()
    assert written_in_all > 0
    loaded.kill()
    loaded.start()
    client = loaded.client()
    assert answers(client) == before
    client.close()


def test_a_full_file_system_changes_no_answer(s3, loaded):
    """The cache may take 1 GiB, its file system has 2 MiB."""
    client = restart(loaded)
    before = answers(client)
    client.close()
    assert loaded.stop() == 0
    folder = loaded.root / "cache"
    shutil.rmtree(folder)
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True).returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        loaded.environment["ELACSYM_CACHE_DISK_SIZE"] = str(1 << 30)
        loaded.start()
        client = loaded.client()
        assert answers(client) == before
        (folder / "hog").write_bytes(bytes(shutil.disk_usage(folder).free))
        for _ in range(3):
            assert answers(client) == before
        client.close()
        assert loaded.stop() == 0
        loaded.start()
        client = loaded.client()
        assert answers(client) == before
        client.close()
        assert loaded.stop() == 0
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_deleted_under_a_running_node_changes_no_answer(loaded):
    client = restart(loaded)
    before = answers(client)
    written(client)
    shutil.rmtree(loaded.root / "cache")
    assert answers(client) == before
    wait_for(lambda: slab(loaded).exists())
    assert answers(client) == before
    assert "disk cache vanished" in loaded.log()
    client.close()


def test_flipped_bytes_change_no_answer(s3, loaded):
    client = restart(loaded)
    before = answers(client)
    written(client)
    client.close()
    chance = random.Random(3)
    for flips in (1, 5, 100, 5000):
        assert loaded.stop() == 0
        size = slab(loaded).stat().st_size
        with open(slab(loaded), "r+b") as file:
            for _ in range(flips):
                file.seek(chance.randrange(min(size, 3 << 20)))
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))
        loaded.start()
        client = loaded.client()
        assert answers(client) == before
        assert answers(client) == before
        client.close()


def test_bytes_flipped_under_a_running_node_change_no_answer(loaded):
    client = restart(loaded)
    before = answers(client)
    written(client)
    client.close()
    client = restart(loaded)
    with open(slab(loaded), "r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (2 << 20))
    assert answers(client) == before
    assert metric(client, "elacsym_cache_disk_damaged_total") > 0
    client.close()


def test_a_cache_that_cannot_be_made_is_a_line_in_the_log(s3, loaded):
    assert loaded.stop() == 0
    shutil.rmtree(loaded.root / "cache")
    (loaded.root / "cache").write_text("not a folder")
    loaded.start()
    client = loaded.client()
    assert len(answers(client)) == len(questions())
    assert "no disk cache for now" in loaded.log()
    client.close()


def test_two_nodes_on_one_folder_both_serve(s3, loaded, tmp_path_factory):
    client = restart(loaded)
    before = answers(client)
    second = s3.server(tmp_path_factory.mktemp("second"),
                       ELACSYM_CACHE_DISK_PATH=str(loaded.root / "cache"))
    second.start()
    other = second.client()
    assert answers(other) == before
    assert "in use by another process" in second.log()
    other.close()
    client.close()
    assert second.stop() == 0


def test_the_budget_holds(s3, loaded):
    assert loaded.stop() == 0
    loaded.environment["ELACSYM_CACHE_DISK_SIZE"] = str(1 << 20)
    loaded.start()
    client = loaded.client()
    before = answers(client)
    for _ in range(5):
        assert answers(client) == before
    written(client)
    used = sum(path.stat().st_blocks * 512 for path in [slab(loaded), slab(loaded).parent])
    assert 0 < used <= 1 << 20
    client.close()


def test_a_scan_of_ten_times_the_budget_stays_inside_it(s3, tmp_path):
    """1 MiB of disk under 11 MiB of vectors, looked at while they are read."""
    dim, rows, budget = 1024, 2800, 1 << 20
    server = s3.server(tmp_path, ELACSYM_CACHE_DISK_SIZE=str(budget))
    server.start()
    client = server.client()
    sea = client.namespace("sea")
    sea.create(vector_dim=dim)
    chance = random.Random(1)
    for at in range(0, rows, 400):
        sea.upsert(*({"id": i, "vector": [chance.randrange(-9, 9) / 4 for _ in range(dim)]} for i in range(at, at + 400)))
    sea.compact()
    client.close()
    server.kill()
    server.environment["ELACSYM_CACHE_MEMORY_SIZE"] = str(16 << 20)
    server.start()
    client, most, scanned = server.client(), [0], threading.Event()

    def watch():
        while not scanned.is_set():
            used = sum(path.stat().st_blocks * 512 for path in [slab(server), slab(server).parent] if path.exists())
            most[0] = max(most[0], used)
            time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    for turn in range(4):
        query = {"vector": [1.0] * dim, "top_k": 3, "search": {"exact": True}, "include_attributes": False}
        client.namespace("sea").results(**query)
        assert metric(client, "elacsym_cache_memory_bytes") <= 16 << 20
        if turn == 0:
            assert s3.segment_reads() > 0
    written(client)
    scanned.set()
    watching.join()
    assert 0 < most[0] <= budget
    client.close()
    assert server.stop() == 0


def test_rounds_do_not_grow_with_the_number_of_segments(s3, tmp_path):
    """Columns of a filter and text indexes, then documents: of all segments at once. So are their ends and deletes when they are opened."""
    segments, rows = 5, 1000
    server = s3.server(tmp_path, ELACSYM_TAIL_INDEX_ROWS=str(rows), ELACSYM_CACHE_DISK_SIZE="0",
                       ELACSYM_COMPACTION_MAX_TOTAL_DOCS=str(rows))
    server.start()
    client = server.client()
    sea = client.namespace("sea")
    sea.create(attributes={"body": {"type": "string", "full_text": True}, "year": {"type": "int"}})
    words = [f"{word}{i}" for word in WORDS for i in range(300)]
    chance = random.Random(5)
    for segment in range(segments):
        sea.upsert(*({"id": segment * rows + i,
                      "attributes": {"body": " ".join(chance.choices(words, k=60)), "year": i}}
                     for i in range(rows)))
        wait_for(lambda: sea.info()["segments"] == segment + 1)
    sea.delete(ids=[segment * rows + 5 for segment in range(segments)])
    sea.compact()
    assert sea.info()["segments"] == segments
    client.close()
    (server.root / "log").write_text("")
    server.kill()
    server.start()
    client = server.client()
    sea = client.namespace("sea")
    sea.info()  # opens it and waits for that, as a query does not
    explained = sea.query(full_text={"fields": ["body"], "query": "storm1 sea2 rope3"},
                          filter={"field": "year", "op": "gte", "value": 10},
                          top_k=50, include_attributes=True, explain=True)["explain"]
    assert explained["segments"] == segments
    assert explained["rounds"] <= 1 + 2  # the log's end comes first
    assert int(re.search(r"namespace opened.*?rounds\W+(\d+)", server.log())[1]) <= 7
    client.close()
    assert server.stop() == 0
