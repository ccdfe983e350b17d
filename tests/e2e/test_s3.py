"""What a user of a real S3 store relies on: the guide's quick start, what lies in the bucket, and that the bucket alone is enough.

Run by tools/s3_test.py, which names the server."""
import base64
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import boto3
import pytest
from botocore.config import Config

import buckets
from bm25 import Bm25
from elacsym import REPOSITORY, Client, Server, free_port

assert buckets.ENDPOINT, "tools/s3_test.py runs this"
FOLDERS = {"wal", "ns"}


COUNT, DELETED, ASKED = 60, (0, 59), "common word3"
TEXTS = {i: f"common word{i % 7}" for i in range(COUNT)}


def fill(ns):
    """Documents with everything; half of them indexed, half in the log."""
    generator = random.Random(3)
    ns.create(vector_dim=4, attributes={"t": {"type": "string", "full_text": True}, "a": {"type": "int", "indexed": True}})
    documents = [
        {"id": i, "vector": [generator.gauss(0, 1) for _ in range(4)], "attributes": {"t": TEXTS[i], "a": i % 5}}
        for i in range(COUNT)
    ]
    ns.upsert(*documents[: COUNT // 2])
    ns.compact()
    ns.upsert(*documents[COUNT // 2 :])
    ns.delete(ids=list(DELETED))


def by_words(ns):
    """Ids by descending score; the scores must be BM25's over the living and some of the dead, as these count until they are merged away and
    a restart merges."""
    results = ns.results(full_text={"field": "t", "query": ASKED}, top_k=COUNT)
    for dead in ((), DELETED[:1], DELETED[1:], DELETED):
        counted = {id: text for id, text in TEXTS.items() if id not in DELETED or id in dead}
        wanted = Bm25(counted, [ASKED]).scores(ASKED)
        if all(r["score"] == pytest.approx(wanted[r["id"]], rel=1e-5) for r in results):
            return [r["id"] for r in results]
    raise AssertionError(f"no statistics explain the scores {results}")


def everything(ns):
    """The answers to one query of each kind."""
    return [
        ns.results(vector=[1, 0, 0, 0], include_vector=True, top_k=20),
        by_words(ns),
        ns.results(vector=[0, 1, 0, 0], full_text={"field": "t", "query": "common word5"}, top_k=5),
        ns.results(filter={"field": "a", "op": "eq", "value": 3}, order_by={"field": "a"}, top_k=1000),
        ns.document(7),
        ns.info()["document_count"],
    ]


def quick_start():
    """The commands of the guide's S3 quick start."""
    page = (REPOSITORY / "docs/deployment.md").read_text()
    (block,) = re.findall(r"<!-- run: s3 -->\n```sh\n(.*?)```", page, re.S)
    return block


class QuickStart:
    """The quick start as written, but for the values that the reader is to replace, and where its own port and cache are."""

    def __init__(self, folder, bucket):
        self.folder, self.port = folder, free_port()
        self.commands = quick_start()
        for written, here in (
            ("your_access_key", os.environ["AWS_ACCESS_KEY_ID"]),
            ("your_secret_key", os.environ["AWS_SECRET_ACCESS_KEY"]),
            ("elacsym-production", bucket),
            ("build/release/elacsym", str(os.environ.get("ELACSYM_BINARY", REPOSITORY / "build/release/elacsym"))),
        ):
            assert written in self.commands
            self.commands = self.commands.replace(written, here)

    def start(self):
        environment = {"ELACSYM_STORAGE_S3_ENDPOINT": buckets.ENDPOINT, "PATH": os.environ["PATH"], "HOME": str(self.folder),
                       "ELACSYM_SERVER_PORT": str(self.port), "ELACSYM_SERVER_HOST": "127.0.0.1",
                       "ELACSYM_SERVER_DRAIN_WAIT_SECS": "0", "ELACSYM_CACHE_DISK_PATH": str(self.folder / "cache")}
        self.process = subprocess.Popen(["bash", "-c", self.commands], env=environment, cwd=self.folder, stderr=subprocess.PIPE,
                                        text=True, start_new_session=True)
        assert any('"serving"' in line for line in iter(self.process.stderr.readline, ""))
        return Client(self.port)

    def end(self, number):
        os.killpg(self.process.pid, number)
        self.process.wait(timeout=40)
        self.process.stderr.close()


def test_the_guide_s_quick_start_keeps_everything_in_the_bucket_through_a_kill_without_any_cache(tmp_path):
    """With the environment alone; the log shows as the guide says; what memory held dies with the process, and its disk cache is deleted."""
    bucket = buckets.make()
    node = QuickStart(tmp_path, bucket)
    ns = node.start().namespace("quick")
    try:
        fill(ns)
        before = everything(ns)
        assert len(before[0]) == 20
        assert buckets.folders(bucket, "wal/") == ["wal/quick/"]
        assert all(re.fullmatch(r"wal/quick/[0-9a-f]{32}/[0-9]{20}\.wal", key) for key in buckets.keys(bucket, "wal/"))
        assert (tmp_path / "cache").is_dir()
    finally:
        node.end(signal.SIGKILL)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    ns = node.start().namespace("quick")
    try:
        assert everything(ns) == before
        ns.upsert({"id": 1000})
        assert ns.info()["document_count"] == before[-1] + 1
    finally:
        node.end(signal.SIGTERM)
    assert node.process.returncode in (0, -signal.SIGTERM)


def test_a_listing_of_wal_shows_the_log_of_each_namespace(own_server):
    """What the guide looks at with `aws s3 ls s3://BUCKET/wal/`."""
    client = own_server.client()
    for name in ("one", "two.b", "two-a"):
        ns = client.namespace(name)
        ns.create()
        ns.upsert({"id": 1})
    assert set(buckets.folders(own_server.bucket, "wal/")) == {"wal/one/", "wal/two.b/", "wal/two-a/"}
    for key in buckets.keys(own_server.bucket, "wal/"):
        assert re.fullmatch(r"wal/(one|two\.b|two-a)/[0-9a-f]{32}/[0-9]{20}\.wal", key)
    assert {key.split("/")[0] for key in buckets.keys(own_server.bucket)} <= FOLDERS


def test_log_objects_go_when_a_segment_has_replaced_them(tmp_path):
    server = Server(tmp_path, ELACSYM_GC_GRACE_SECS="0", ELACSYM_COMPACTION_INTERVAL_SECS="1").start()
    ns = server.client().namespace("short")
    ns.create()
    for i in range(30):
        ns.upsert({"id": i})
    assert max(buckets.keys(server.bucket, "wal/short/"))[-24:] >= f"{30:020}.wal"
    ns.compact()
    end = time.monotonic() + 20
    while len(buckets.keys(server.bucket, "wal/short/")) > 3 and time.monotonic() < end:
        time.sleep(0.2)
    assert len(buckets.keys(server.bucket, "wal/short/")) <= 3
    assert ns.info()["document_count"] == 30
    assert server.stop() == 0


def test_after_a_kill_and_without_any_cache_the_bucket_answers_everything(own_server):
    ns = own_server.client().namespace("kept")
    fill(ns)
    before = everything(ns)
    assert before[-1] == 58
    for _ in range(2):
        own_server.kill()
        shutil.rmtree(own_server.root / "cache", ignore_errors=True)
        assert not (own_server.root / "data").exists()
        own_server.start()
        assert everything(own_server.client().namespace("kept")) == before


def test_a_node_on_another_machine_finds_everything_in_the_bucket(own_server, tmp_path):
    ns = own_server.client().namespace("moved")
    fill(ns)
    before = everything(ns)
    own_server.kill()
    other = Server(tmp_path / "elsewhere")
    other.bucket = own_server.bucket
    other.start()
    assert everything(other.client().namespace("moved")) == before
    assert other.stop() == 0


def test_a_wal_prefix_is_in_front_of_the_log(tmp_path):
    server = Server(tmp_path, ELACSYM_STORAGE_S3_WAL_PREFIX="production/eu").start()
    fill(server.client().namespace("prefixed"))
    assert buckets.folders(server.bucket, "production/eu/wal/") == ["production/eu/wal/prefixed/"]
    assert not buckets.keys(server.bucket, "wal/")
    assert {key.split("/")[0] for key in buckets.keys(server.bucket)} == {"production", "ns"}
    assert server.stop() == 0


def test_a_node_with_another_wal_prefix_refuses_the_namespace_and_names_both(tmp_path):
    server = Server(tmp_path / "a", ELACSYM_STORAGE_S3_WAL_PREFIX="production").start()
    fill(server.client().namespace("prefixed"))
    before = everything(server.client().namespace("prefixed"))
    for prefix in ("", "staging"):
        other = Server(tmp_path / ("b" + prefix), ELACSYM_STORAGE_S3_WAL_PREFIX=prefix)
        other.bucket = server.bucket
        other.start()
        ns = other.client().namespace("prefixed")
        for answer in (
            ns.ask("POST", "/query", {"vector": [1, 0, 0, 0]}),
            ns.ask("POST", "/upsert", {"documents": [{"id": 1}]}),
            ns.ask("PUT", body={}),
            ns.ask("DELETE"),
        ):
            assert answer.status in (403, 409), answer
            assert '"production"' in answer.error and f'"{prefix}"' in answer.error, answer
        assert other.stop() == 0
    assert everything(server.client().namespace("prefixed")) == before
    assert server.stop() == 0


def test_a_changed_byte_in_the_bucket_is_an_error_that_names_the_object(own_server):
    ns = own_server.client().namespace("damaged")
    fill(ns)
    right = ns.results(vector=[1, 0, 0, 0], include_vector=True, search={"exact": True}, top_k=100)
    own_server.stop()
    shutil.rmtree(own_server.root / "cache", ignore_errors=True)
    objects = {key: buckets.s3().get_object(Bucket=own_server.bucket, Key=key)["Body"].read()
               for key in buckets.keys(own_server.bucket, "ns/damaged/") if "/segment/" in key}
    segment, whole = max(objects.items(), key=lambda item: len(item[1]))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 4
    buckets.s3().put_object(Bucket=own_server.bucket, Key=segment, Body=bytes(damaged))
    own_server.start()
    ns = own_server.client().namespace("damaged")
    answer = ns.ask("POST", "/query", {"vector": [1, 0, 0, 0], "include_vector": True, "search": {"exact": True}, "top_k": 100})
    if answer.status == 200:
        assert answer.json["results"] == right
    else:
        assert answer.status == 500 and segment.rsplit("/", 1)[-1] in answer.error, answer


def test_a_segment_above_the_size_of_a_part_is_uploaded_in_parts_and_searched(own_server):
    dims, count = 768, 6000
    generator = random.Random(1)
    ns = own_server.client().namespace("large")
    ns.create(vector_dim=dims)
    for start in range(0, count, 1000):
        ns.upsert(*({"id": i, "vector": base64.b64encode(generator.randbytes(4 * dims)[: 4 * dims].translate(SMALL)).decode()}
                    for i in range(start, start + 1000)))
    ns.compact()
    heads = [buckets.s3().head_object(Bucket=own_server.bucket, Key=key) for key in buckets.keys(own_server.bucket) if "/segment/" in key]
    assert any(head["ContentLength"] > 16 << 20 and re.search(r'-\d+"$', head["ETag"]) for head in heads)
    wanted = ns.ask("GET", "/documents/77").json["vector"]
    own_server.kill()
    own_server.start()
    ns = own_server.client().namespace("large")
    assert ns.results(vector=wanted, top_k=1)[0]["id"] == 77
    assert ns.info()["document_count"] == count


# ---- what is wrong with a real one ----

on_minio = pytest.mark.skipif(os.environ.get("S3_TEST_SERVER") != "minio", reason="asks MinIO for it")


def refusal(tmp_path, bucket, **environment):
    """The one sentence of a node that does not start; its log has no secret."""
    server = Server(tmp_path, **environment, ELACSYM_LOGGING_LEVEL="trace")
    server.bucket = bucket
    server.launch()
    try:
        assert server.process.wait(timeout=30) == 1
    finally:
        server.kill()
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert lines[-1]["event"] == "start failed" and "\n" not in lines[-1]["error"]
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], environment.get("AWS_SECRET_ACCESS_KEY"), environment.get("AWS_SESSION_TOKEN")):
        assert not secret or secret not in server.log()
    return lines[-1]["error"]


def test_a_real_store_s_no_to_a_wrong_secret_key_says_what_to_change(tmp_path):
    error = refusal(tmp_path, buckets.make(), AWS_SECRET_ACCESS_KEY="not-the-one-at-all")
    assert "SignatureDoesNotMatch" in error and "secret key" in error


def test_a_real_store_s_no_to_an_unknown_access_key_says_what_to_change(tmp_path):
    error = refusal(tmp_path, buckets.make(), AWS_ACCESS_KEY_ID="nobody-at-all")
    assert "InvalidAccessKeyId" in error and "access key" in error


@pytest.mark.skipif(os.environ.get("S3_TEST_SERVER") == "seaweedfs", reason="SeaweedFS makes a bucket that is missing")
def test_a_real_store_s_no_to_a_missing_bucket_says_what_to_change(tmp_path):
    error = refusal(tmp_path, "e2e-there-is-none")
    assert "NoSuchBucket" in error and "create the bucket or change storage.s3.bucket" in error


@on_minio
def test_keys_that_may_only_read_a_real_bucket_are_refused_with_the_right_that_is_missing(tmp_path):
    """Temporary keys, so the token of a session works too."""
    policy = {"Version": "2012-10-17",
              "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::*"]}]}
    sts = boto3.client("sts", endpoint_url=buckets.ENDPOINT, region_name="us-east-1")
    keys = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/reader", RoleSessionName="reader", Policy=json.dumps(policy))["Credentials"]
    error = refusal(tmp_path, buckets.make(), AWS_ACCESS_KEY_ID=keys["AccessKeyId"], AWS_SECRET_ACCESS_KEY=keys["SecretAccessKey"],
                    AWS_SESSION_TOKEN=keys["SessionToken"])
    assert "AccessDenied" in error and "allow s3:PutObject" in error


@pytest.fixture
def far_minio(tmp_path):
    """MinIO in another region than everybody's default; its endpoint, once it answers."""
    port, region = free_port(), "eu-central-1"
    environment = {**os.environ, "MINIO_REGION": region, "MINIO_ROOT_USER": os.environ["AWS_ACCESS_KEY_ID"],
                   "MINIO_ROOT_PASSWORD": os.environ["AWS_SECRET_ACCESS_KEY"], "CI": "true", "MINIO_UPDATE": "off"}
    process = subprocess.Popen([REPOSITORY / "build/tools/minio", "server", "--quiet", "--address", f"127.0.0.1:{port}", tmp_path / "minio"],
                               env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=Config(retries={"max_attempts": 10}))
    s3.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": region})
    yield endpoint
    process.kill()
    process.wait()


@on_minio
def test_a_wrong_region_is_corrected_from_what_a_real_store_says(far_minio, tmp_path):
    server = Server(tmp_path / "node", **buckets.environment("far", far_minio), ELACSYM_STORAGE_S3_REGION="us-west-2").start()
    ns = server.client().namespace("far")
    fill(ns)
    assert everything(ns)[-1] == 58
    assert server.stop() == 0
    assert '"the bucket is in another region than configured","region":"eu-central-1"' in server.log()


# Random bytes as the bytes of finite numbers: no exponent of all ones.
SMALL = bytes(b & 0x3F for b in range(256))
