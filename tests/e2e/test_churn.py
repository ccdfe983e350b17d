"""The same ids written and deleted over and over, in short; `make churn` is the long form."""
import pathlib
import sys

import pytest

from elacsym import Server

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "soak"))
import churn  # noqa: E402

IDS, ROUNDS, DIM, SEED = 3000, 4, 32, 7


@pytest.mark.folder
def test_ids_written_over_and_over_leave_no_more_than_those_written_once(tmp_path):
    server = Server(tmp_path, **churn.settings(IDS)).start()
    try:
        found = churn.run(server, IDS, ROUNDS, DIM, SEED)
    finally:
        if server.process.poll() is None:
            server.kill()
    assert not found.failures
