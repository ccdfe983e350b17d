"""A store whose file system is full: writes are refused with 507 in words, reads go on, nothing acknowledged is lost, and room is noticed."""
import os
import random
import subprocess
import time

import pytest

from elacsym import Server

MIB = 1 << 20
pytestmark = pytest.mark.folder


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "none", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs is not permitted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def document(chance, id):
    # not to be compressed
    return {"id": id, "attributes": {"t": "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=200_000))}}


def test_a_full_store_says_507_and_takes_writes_again_when_there_is_room(small_disk, tmp_path):
    chance = random.Random(5)
    (small_disk / "filler").write_bytes(os.urandom(4 * MIB))
    server = Server(tmp_path, ELACSYM_STORAGE_LOCAL_ROOT_PATH=str(small_disk / "data")).start()
    client = server.client()
    films = client.namespace("films")
    films.create(attributes={"t": "string"})
    written, refused = [], None
    for id in range(100):
        answer = films.ask("POST", "/upsert", {"documents": [document(chance, id)]})
        if answer.status != 200:
            refused = answer
            break
        written.append(id)
    assert len(written) > 10 and refused.status == 507, refused
    assert "No space left" in refused.error or "refused until" in refused.error
    again = films.ask("POST", "/upsert", {"documents": [document(chance, 100)]})
    assert again.status == 507 and "refused until 5 %" in again.error
    assert films.ids(order_by={"field": "id"}, top_k=1000) == written
    assert client.get("/health").status == 200
    assert '"store is full"' in server.log()

    server.kill()
    client.close()
    server.start()
    client = server.client()
    films = client.namespace("films")
    assert films.ids(order_by={"field": "id"}, top_k=1000) == written

    (small_disk / "filler").unlink()
    end = time.monotonic() + 30
    while films.ask("POST", "/upsert", {"documents": [document(chance, 200)]}).status == 507:
        assert time.monotonic() < end, "there is room and nobody notices"
        time.sleep(0.1)
    assert films.ids(order_by={"field": "id"}, top_k=1000) == written + [200]
    client.close()
    assert server.stop() == 0
