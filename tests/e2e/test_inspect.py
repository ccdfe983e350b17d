"""elacsym verify and elacsym dump: a store looked at from outside."""
import os
import random
import re
import subprocess

import pytest

SCHEMA = {
    "vector_dim": 4,
    "vector_metric": "l2",
    "attributes": {"title": {"type": "string", "full_text": True}, "year": {"type": "int", "indexed": True}},
}


def command(server, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
    environment["ELACSYM_STORAGE_LOCAL_ROOT_PATH"] = str(server.root / "data")
    return subprocess.run([str(server.binary), *arguments], env=environment, cwd=server.root, text=True, capture_output=True, timeout=120)


def fill(server, name, documents=50):
    client = server.client()
    namespace = client.namespace(name)
    namespace.create(**SCHEMA)
    namespace.upsert(
        *({"id": i, "vector": [i, 1, 2, 3], "attributes": {"title": f"the film {i}", "year": 1900 + i}} for i in range(documents))
    )
    namespace.compact()
    namespace.delete(ids=[1, 2, 3])
    namespace.compact()
    answer = namespace.ask("POST", "/upsert", {"documents": [{"id": 7, "attributes": {"title": "seven again"}}]}, {"Idempotency-Key": "once"})
    assert answer.status == 200
    client.close()


def keys(server, pattern):
    root = server.root / "data"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and re.search(pattern, str(p.relative_to(root))))


@pytest.fixture
def filled(own_server):
    fill(own_server, "films")
    return own_server


def test_a_whole_store_is_verified_beside_the_running_node(filled):
    fill(filled, "others", 3000)
    result = command(filled, "verify")
    assert result.returncode == 0, result
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:-1]}
    assert rows["films"][1:4] == ["ok", "47", "1"]
    assert rows["others"][1:3] == ["ok", "2997"]
    assert " 0 problems in 0 namespaces" in result.stdout.splitlines()[-1]


def test_one_namespace_can_be_verified_alone(filled):
    fill(filled, "others")
    result = command(filled, "verify", "--namespace", "others")
    assert result.returncode == 0
    assert "films" not in result.stdout


def test_verifying_a_namespace_that_never_was_says_so(filled):
    result = command(filled, "verify", "--namespace", "nothing")
    assert result.returncode == 2
    assert 'no namespace "nothing"' in result.stderr


def test_a_dropped_namespace_is_listed_as_dropped(filled):
    client = filled.client()
    client.namespace("films").drop()
    client.close()
    result = command(filled, "verify")
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[1].split()[:2] == ["films", "dropped"]


@pytest.mark.parametrize("kind", [r"\.seg$", r"\.del$", r"\.wal$", "/manifest/", "/catalog/"])
def test_a_flipped_bit_anywhere_in_an_object_is_found_and_named(filled, kind):
    filled.kill()
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    found = keys(filled, kind)
    if not found and kind == r"\.del$":
        pytest.fail("the deletes were not stored beside a segment")
    # Of manifests and log entries the newest: older ones may not be needed any more.
    key = found[0] if kind in ("/manifest/", "/catalog/") else found[-1]
    path = filled.root / "data" / key
    whole = path.read_bytes()
    for at in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(12))}:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << chance.randrange(8)
        path.chmod(0o644)
        path.write_bytes(bytes(damaged))
        result = command(filled, "verify")
        assert result.returncode == 1, (key, at, result)
        assert "DAMAGED" in result.stdout and key in result.stdout, (key, at, result)
    path.write_bytes(whole)
    assert command(filled, "verify").returncode == 0


@pytest.mark.damages
def test_a_missing_segment_and_a_gap_in_the_log_are_found(filled):
    client = filled.client()
    for i in range(3):
        client.namespace("films").upsert({"id": 100 + i})
    client.close()
    filled.kill()
    assert command(filled, "verify").returncode == 0
    log = keys(filled, r"\.wal$")
    (filled.root / "data" / log[-2]).unlink()
    result = command(filled, "verify")
    assert result.returncode == 1
    assert "the log has slot" in result.stdout
    segment = keys(filled, r"\.seg$")[0]
    (filled.root / "data" / segment).unlink()
    result = command(filled, "verify")
    assert segment in result.stdout and "2 problems" in result.stdout


def test_objects_that_nobody_names_are_counted_and_are_no_damage(filled):
    filled.kill()
    segment = filled.root / "data" / keys(filled, r"\.seg$")[0]
    stray = segment.with_name(segment.name.replace("-", "-f", 1)[:-5] + ".seg")
    stray.write_bytes(b"never finished")
    result = command(filled, "verify")
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].split()[-1] == "1"


def test_dump_says_what_each_kind_of_object_holds(filled):
    filled.kill()
    wanted = {
        r"\.seg$": ["kind          segment", "rows          50, ids are numbers", "vectors       50 of 4 numbers, l2", "full text"],
        r"\.wal$": ["log entry: writes", '{"id":7,"attributes":{"title":"seven again"}}', "idempotency   once"],
        "/manifest/0*": ["manifest", "wm ", "segment       ns/films/", '"vector_dim":4'],
        "/catalog/": ["catalog record: created", '"year"'],
    }
    for kind, words in wanted.items():
        found = keys(filled, kind)
        result = command(filled, "dump", found[0] if "/" in kind else found[-1])
        assert result.returncode == 0, result
        for word in words:
            assert word in result.stdout, (kind, word, result.stdout)


def test_dump_of_every_object_of_a_store_works(filled):
    filled.kill()
    for key in keys(filled, "^(ns|wal)/"):
        result = command(filled, "dump", key)
        assert result.returncode == 0, (key, result)
        assert result.stdout.startswith(f"key           {key}\nnamespace     films\nkind ")


def test_dump_refuses_what_is_no_key_of_ours_and_says_what_one_looks_like(filled):
    for key in ("x", "../etc/passwd", "ns/films/manifest", "wal/films/00/1.wal"):
        result = command(filled, "dump", key)
        assert result.returncode == 2
        assert "is no key of an object of ours" in result.stderr and "SLOT.wal" in result.stderr


@pytest.mark.damages
def test_dump_of_damage_says_what_is_wrong(filled):
    filled.kill()
    key = keys(filled, r"\.wal$")[-1]
    path = filled.root / "data" / key
    path.write_bytes(path.read_bytes()[:-1])
    result = command(filled, "dump", key)
    assert result.returncode == 1
    assert key in result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["dump"], "needs the key"),
        (["dump", "a", "b"], "unexpected argument b"),
        (["verify", "x"], "unexpected argument x"),
        (["--namespace", "x"], "--namespace is for elacsym verify"),
        (["verify", "--check-config"], "--check-config stands alone"),
    ],
)
def test_a_wrong_command_line_is_refused_with_status_2(own_server, arguments, words):
    result = command(own_server, *arguments)
    assert result.returncode == 2
    assert words in result.stderr


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(own_server, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ELACSYM_")}
    environment["ELACSYM_STORAGE_LOCAL_ROOT_PATH"] = str(tmp_path / "nowhere")
    result = subprocess.run([str(own_server.binary), "verify"], env=environment, cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert not (tmp_path / "nowhere").exists()
