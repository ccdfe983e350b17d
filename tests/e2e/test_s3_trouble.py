"""A node whose bucket, keys, clock or network are not as they should be: it starts all the same, or says in one sentence what to change."""
import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from elacsym import Server
from simulator import BUCKET, KEY, SECRET, Simulator

START_MAX_S = 30


@pytest.fixture(scope="module")
def simulators():
    """One simulator for tests that leave it as new."""
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture
def s3(simulators):
    simulators.do("reset")
    yield simulators
    simulators.do("reset")


def refusal(tmp_path, environment):
    """What a node says that does not start. It holds no secret, nor does anything else in the log."""
    server = Server(tmp_path, **environment, ELACSYM_LOGGING_LEVEL="trace")
    before = time.monotonic()
    server.launch()
    assert server.process.wait(timeout=START_MAX_S) == 1
    assert time.monotonic() - before < START_MAX_S
    lines = [json.loads(line) for line in server.log().splitlines()]
    failed = [line for line in lines if line["event"] == "start failed"]
    assert len(failed) == 1 and lines[-1] == failed[0]
    assert SECRET not in server.log()
    assert "\n" not in failed[0]["error"]
    return failed[0]["error"]


def starts(tmp_path, environment):
    """A node that starts, as a client of it; its log has no secret."""
    server = Server(tmp_path, **environment, ELACSYM_LOGGING_LEVEL="trace").start()
    ns = server.client().namespace("works")
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1, "attributes": {"a": 1}})
    ns.compact()
    assert ns.document(1)["attributes"] == {"a": 1}
    ns.drop()
    assert server.stop() == 0
    assert SECRET not in server.log()
    return server.log()


def test_a_node_starts_where_all_is_well_and_records_the_store_s_quirks(s3, tmp_path):
    log = starts(tmp_path, s3.environment())
    (quirks,) = (line for line in map(json.loads, log.splitlines()) if line["event"] == "the store's quirks")
    assert quirks["server"] == "s3sim" and quirks["checks_crc32c"] == quirks["checks_md5"] == "yes" and quirks["refuses_early"] == "no"


def test_a_wrong_secret_key_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(AWS_SECRET_ACCESS_KEY="not-the-one-at-all"))
    assert "SignatureDoesNotMatch" in error and "secret key" in error
    assert "not-the-one-at-all" not in error


def test_an_unknown_access_key_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(AWS_ACCESS_KEY_ID="nobody"))
    assert "InvalidAccessKeyId" in error and "access key" in error


def test_no_credentials_at_all_are_named_with_every_place_that_was_looked_at(s3, tmp_path):
    environment = s3.environment(HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true")
    environment.update(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    error = refusal(tmp_path, environment)
    assert "AWS_ACCESS_KEY_ID" in error


def test_half_of_a_key_pair_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(AWS_ACCESS_KEY_ID=""))
    assert "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error


def test_a_wrong_region_is_corrected_where_the_store_names_the_right_one(s3, tmp_path):
    log = starts(tmp_path, s3.environment(ELACSYM_STORAGE_S3_REGION="eu-west-1"))
    assert '"region":"us-east-1"' in log


def test_a_wrong_region_is_refused_where_the_store_does_not_name_the_right_one(s3, tmp_path):
    s3.do("set", tells_region=False)
    error = refusal(tmp_path, s3.environment(ELACSYM_STORAGE_S3_REGION="eu-west-1"))
    assert "set storage.s3.region" in error


def test_a_missing_bucket_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(ELACSYM_STORAGE_S3_BUCKET="absent"))
    assert "NoSuchBucket" in error and "absent" in error and "create the bucket or change storage.s3.bucket" in error


def test_keys_that_may_only_read_are_refused_with_the_permission_that_is_missing(s3, tmp_path):
    s3.do("set", read_only=True)
    error = refusal(tmp_path, s3.environment())
    assert "AccessDenied" in error and "s3:PutObject" in error


def test_a_clock_that_is_off_is_corrected_from_the_store(s3, tmp_path):
    s3.do("set", skew_s=7200)
    log = starts(tmp_path, s3.environment())
    assert "clock is off" in log


def test_a_clock_that_is_off_is_refused_where_the_store_does_not_tell_the_time(s3, tmp_path):
    s3.do("set", skew_s=7200, tells_date=False)
    error = refusal(tmp_path, s3.environment())
    assert "RequestTimeTooSkewed" in error and "set this machine's clock" in error


@pytest.mark.parametrize("setting, words", [
    ("ignore_condition", "does not honour If-None-Match"),
    ("racy_condition", "not atomic"),
    ("unordered", "byte order"),
])
def test_a_store_that_would_lose_writes_is_refused(s3, tmp_path, setting, words):
    s3.do("set", **{setting: True})
    assert words in refusal(tmp_path, s3.environment())


# ---- a running node ----


@pytest.fixture
def node(s3, tmp_path):
    """A node with one document; it gives a request a second."""
    server = Server(tmp_path, **s3.environment(ELACSYM_QUERY_TIMEOUT_SECS="1", ELACSYM_LOGGING_LEVEL="trace")).start()
    ns = server.client().namespace("a")
    ns.create(attributes={"a": "int"})
    ns.upsert({"id": 1})
    yield ns
    s3.do("reset")
    server.kill()
    assert SECRET not in server.log()


def each_kind_of_request(ns):
    """Answers to one request of each kind; none takes much longer than it may."""
    for ask in (
        lambda: ns.ask("POST", "/query", {"order_by": {"field": "id"}}),
        lambda: ns.ask("GET", "/documents/1"),
        lambda: ns.client.namespace("other").ask("PUT", body={}),
        lambda: ns.ask("POST", "/upsert", {"documents": [{"id": 2}]}),
    ):
        before = time.monotonic()
        yield ask()
        assert time.monotonic() - before < 4


def once_it_works_again(s3, ns):
    """The store is well: within seconds so is the node."""
    s3.do("set", rules=[])
    end = time.monotonic() + 15
    while (answer := ns.ask("POST", "/upsert", {"documents": [{"id": 3}]})).status != 200:
        assert answer.status in (503, 504) and time.monotonic() < end, answer
        time.sleep(0.1)
    return ns.ids(order_by={"field": "id"})


@pytest.mark.parametrize("status, code, words", [
    (403, "InvalidAccessKeyId", "does not know this access key"),
    (403, "SignatureDoesNotMatch", "secret key"),
    (403, "AccessDenied", "allow s3:"),
    (404, "NoSuchBucket", "create the bucket or change storage.s3.bucket"),
    (400, "AuthorizationHeaderMalformed", "set storage.s3.region"),
    (301, "PermanentRedirect", "set storage.s3.region"),
    (403, "RequestTimeTooSkewed", "set this machine's clock"),
    (400, "ExpiredToken", "get new credentials"),
])
def test_what_goes_wrong_under_a_running_node_is_503_with_what_to_change(s3, node, status, code, words):
    """Not 403: the client did nothing wrong."""
    s3.do("fault", fault="status", status=status, code=code, times=10000)
    for answer in each_kind_of_request(node):
        assert answer.status == 503 and code in answer.error and words in answer.error, answer
        assert answer.json.get("outcome") != "unknown"
    assert once_it_works_again(s3, node) == [1, 3]


def test_a_store_that_stops_answering_fails_requests_at_their_deadline(s3, node):
    s3.do("fault", fault="hang", times=10000)
    *reads, write = each_kind_of_request(node)
    for answer in reads:
        assert answer.status == 504 and s3.endpoint in answer.error, answer
    assert write.status == 503 and write.json["outcome"] == "unknown", write
    assert once_it_works_again(s3, node) == [1, 2, 3]


@pytest.mark.parametrize("rule", [
    {"fault": "status", "status": 500},
    {"fault": "status", "status": 503, "code": "SlowDown"},
    {"fault": "reset_before"},
    {"fault": "garble"},
], ids=lambda rule: "-".join(map(str, rule.values())))
def test_a_failing_store_is_503_or_504_and_never_a_wrong_answer(s3, node, rule):
    s3.do("fault", times=10000, **rule)
    for answer in each_kind_of_request(node):
        assert answer.status in (503, 504), answer
    assert once_it_works_again(s3, node) in ([1, 3], [1, 2, 3])


@pytest.mark.parametrize("skip", range(3))
def test_an_answer_that_is_garbled_never_makes_our_own_write_another_s(s3, node, skip):
    """Where the store tells no checksums: the write had landed, its answer got lost, and what was read back about it was garbled."""
    s3.do("set", echoes=False)
    node.upsert({"id": 2})
    s3.do("fault", fault="reset_after", op="create")
    s3.do("fault", fault="garble", op="get", times=1 + skip)
    answer = node.ask("POST", "/upsert", {"documents": [{"id": 3}]})
    s3.do("set", rules=[], echoes=True)
    if skip < 2:
        assert answer.status == 200, answer
    else:
        assert answer.status == 503 and answer.json["outcome"] == "unknown", answer
    once_it_works_again(s3, node)


@pytest.mark.parametrize("fault", ["garble", "page", "torn"])
@pytest.mark.parametrize("skip", range(5))
def test_an_answer_that_is_garbled_while_a_namespace_is_opened_is_asked_for_again(s3, tmp_path, fault, skip):
    """Each object that is read on the way to the first write, in turn."""
    server = Server(tmp_path, **s3.environment()).start()
    ns = server.client().namespace("fresh")
    ns.create()
    s3.do("fault", fault=fault, op="get", skip=skip)
    assert ns.upsert({"id": 1}) == 1
    assert server.stop() == 0


def test_uploads_that_a_killed_process_left_are_ended_and_no_others(s3, tmp_path):
    day_s = 24 * 3600
    s3.do("upload", key="ns/gone/segment/1", age_s=2 * day_s)
    s3.do("upload", key="ns/busy/segment/1", age_s=day_s // 2)
    s3.do("upload", key="photos/2026.jpg", age_s=9 * day_s)
    server = Server(tmp_path, **s3.environment()).start()
    end = time.monotonic() + 20
    while "ns/gone/segment/1" in s3.do("uploads") and time.monotonic() < end:
        time.sleep(0.1)
    assert s3.do("uploads") == ["ns/busy/segment/1", "photos/2026.jpg"]
    assert server.stop() == 0
    assert '"abandoned uploads ended","uploads":1' in server.log()


def test_a_node_whose_keys_may_not_end_uploads_works_and_says_so(s3, tmp_path):
    s3.do("fault", fault="status", status=403, code="AccessDenied", op="uploads", times=999)
    assert "s3:ListBucketMultipartUploads" in starts(tmp_path, s3.environment())


# ---- the network ----


def test_a_port_where_nobody_listens_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(ELACSYM_STORAGE_S3_ENDPOINT="http://127.0.0.1:1"))
    assert "127.0.0.1:1" in error and "storage.s3.endpoint" in error


def test_a_host_without_an_address_is_named(s3, tmp_path):
    error = refusal(tmp_path, s3.environment(ELACSYM_STORAGE_S3_ENDPOINT="http://nowhere.invalid:9000"))
    assert "nowhere.invalid" in error and "storage.s3.endpoint" in error


def test_a_host_without_a_route_is_named(s3, tmp_path):
    """An address for documentation (RFC 5737): packets to it get lost, or are refused on the way."""
    error = refusal(tmp_path, s3.environment(ELACSYM_STORAGE_S3_ENDPOINT="http://192.0.2.1:9000"))
    assert "192.0.2.1" in error and "storage.s3.endpoint" in error


def test_a_store_that_takes_requests_and_never_answers_is_given_up(s3, tmp_path):
    s3.do("fault", fault="hang", times=100)
    error = refusal(tmp_path, s3.environment())
    assert "no answer within" in error


def test_the_port_of_another_program_is_no_store(s3, tmp_path):
    s3.do("fault", fault="garble", times=100)
    error = refusal(tmp_path, s3.environment())
    assert "garbled" in error and "127.0.0.1" in error


# ---- TLS ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A function that makes a certificate for a name, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")

    def make(name, kind="DNS", also=None):
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        names = f"{kind}:{name}" + (f",{kind}:{also}" if also else "")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=test", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
        return str(certificate), str(key)

    return make


@contextlib.contextmanager
def over_tls(certificate, key, *arguments):
    simulator = Simulator("--certificate", certificate, "--private-key", key, *arguments)
    yield simulator
    simulator.stop()


def test_a_store_behind_tls_works_when_its_certificate_is_known(certificates, tmp_path):
    certificate, key = certificates("127.0.0.1", "IP")
    with over_tls(certificate, key) as s3:
        starts(tmp_path, s3.environment(AWS_CA_BUNDLE=certificate))


def test_a_certificate_for_another_name_is_refused(certificates, tmp_path):
    certificate, key = certificates("other.example")
    with over_tls(certificate, key) as s3:
        error = refusal(tmp_path, s3.environment(AWS_CA_BUNDLE=certificate))
        assert "127.0.0.1" in error and "certificate" in error and "storage.s3.endpoint" in error
        assert s3.do("counts") == {"uploads": 0, "total": 0}


def test_a_certificate_that_nobody_vouches_for_is_refused(certificates, tmp_path):
    certificate, key = certificates("127.0.0.1", "IP")
    with over_tls(certificate, key) as s3:
        error = refusal(tmp_path, s3.environment(AWS_CA_BUNDLE="/etc/ssl/certs/ca-certificates.crt"))
        assert "certificate" in error and "AWS_CA_BUNDLE" in error


class Tunnel(threading.Thread):
    """An HTTP proxy that takes every CONNECT to one port, whatever host is asked for."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.asked = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split()[1].decode())
        store = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=self.copy, args=(store, client), daemon=True).start()
        self.copy(client, store)

    @staticmethod
    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("region", ["eu-west-1", "us-west-2"])
def test_aws_itself_is_addressed_by_the_bucket_s_host_name_in_its_region(certificates, tmp_path, region):
    """Without an endpoint: BUCKET.s3.REGION.amazonaws.com, over TLS, through the proxy that the environment names. A region that is
    not the bucket's is left for the one that the store names, with its host."""
    certificate, key = certificates(f"*.s3.{region}.amazonaws.com", also=f"*.s3.eu-west-1.amazonaws.com")
    with over_tls(certificate, key, "--region", "eu-west-1") as s3:
        tunnel = Tunnel(s3.port)
        tunnel.start()
        environment = s3.environment(AWS_CA_BUNDLE=certificate, HTTPS_PROXY=tunnel.address, https_proxy=tunnel.address,
                                     NO_PROXY="", no_proxy="", ELACSYM_STORAGE_S3_REGION=region)
        del environment["ELACSYM_STORAGE_S3_ENDPOINT"]
        starts(tmp_path, environment)
        tunnel.listener.close()
        assert set(tunnel.asked) == {f"{BUCKET}.s3.{name}.amazonaws.com:443" for name in (region, "eu-west-1")}
