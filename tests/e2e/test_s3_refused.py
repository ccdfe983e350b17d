"""A real store that ignores If-None-Match (tools/s3_server.sh s3rver): a node does not start on it."""
import buckets
from elacsym import Server


def test_a_store_that_ignores_the_condition_is_refused(tmp_path):
    server = Server(tmp_path)
    server.launch()
    assert server.process.wait(timeout=30) == 1
    assert "does not honour If-None-Match" in server.log()
    assert not [key for key in buckets.keys(server.bucket) if not key.startswith("probe/")]
