"""examples/monitoring against a real node: Prometheus scrapes it and is asked everything the dashboard and the alerts ask."""
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from elacsym import REPOSITORY, free_port
from s3 import S3

EXAMPLE = REPOSITORY / "examples/monitoring"
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's prometheus is not installed")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node that has every metric: on S3, with a disk cache, one of two indexers."""
    s3 = S3()
    server = s3.server(
        tmp_path_factory.mktemp("node"),
        ELACSYM_DISTRIBUTED_ENABLED="true",
        ELACSYM_DISTRIBUTED_NODE_ID="a",
        ELACSYM_DISTRIBUTED_ROLE="indexer",
        ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_NODES="a,b",
        ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_ADDRESSES=f"b=http://127.0.0.1:{free_port()}",
    ).start()
    work(server)
    yield server
    server.stop()
    s3.stop()


def work(server):
    """Something of everything."""
    client = server.client()
    for i in range(20):
        namespace = client.namespace(f"things-{i}")
        if namespace.ask("PUT", body={"vector_dim": 2, "attributes": {"t": {"type": "string", "full_text": True}}}).status != 200:
            continue
        namespace.upsert(*({"id": k, "vector": [k, 1], "attributes": {"t": f"word{k} and"}} for k in range(50)))
        namespace.compact()
        namespace.query(vector=[1, 1], full_text={"fields": ["t"], "query": "word3"}, filter={"field": "id", "op": "gt", "value": 2})
        namespace.query(order_by={"field": "id"}, count=True)
        namespace.ask("POST", "/query", b"{")
    client.close()


def metrics(server):
    client = server.client()
    text = client.get("/metrics").content.decode()
    client.close()
    return text


def run(*command, **more):
    return subprocess.run(command, text=True, capture_output=True, timeout=60, **more)


def test_promtool_finds_nothing_to_say_about_our_metrics(node):
    result = run("promtool", "check", "metrics", input=metrics(node))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_promtool_takes_the_configuration_and_the_rules():
    result = run("promtool", "check", "config", str(EXAMPLE / "prometheus.yml"))
    assert result.returncode == 0, result.stdout + result.stderr


class Prometheus:
    def __init__(self, folder, target):
        self.port = free_port()
        text = (EXAMPLE / "prometheus.yml").read_text()
        assert '"127.0.0.1:3000"' in text
        text = text.replace("127.0.0.1:3000", f"127.0.0.1:{target}").replace("interval: 15s", "interval: 1s")
        (folder / "prometheus.yml").write_text(text)
        shutil.copy(EXAMPLE / "elacsym.rules.yml", folder)
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{self.port}",
                 "--storage.tsdb.path=data"], cwd=folder, stdout=log, stderr=log)

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def wait_for(self, expression):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                found = self.query(expression)
                if found:
                    return found
            except OSError:
                assert self.process.poll() is None, "Prometheus ended"
            time.sleep(0.2)
        raise AssertionError(f"nothing for {expression}")


@pytest.fixture(scope="module")
def prometheus(node, tmp_path_factory):
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), node.port)
    prometheus.wait_for('count_over_time(up{job="elacsym"}[1m]) >= 3')
    yield prometheus
    prometheus.process.terminate()
    prometheus.process.wait()


def expressions():
    board = json.loads((EXAMPLE / "dashboard.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(found) > 50
    return found


def filled_in(expression):
    return expression.replace("$job", "elacsym").replace("$instance", ".*").replace("$__rate_interval", "1m")


def names_in(expression):
    return set(re.findall(r"\b(?:elacsym|process)_[a-z0-9_]+", expression))


def test_every_expression_of_the_dashboard_has_an_answer(prometheus):
    known = set(prometheus.ask("label/__name__/values"))
    empty = []
    for title, expression in expressions():
        assert names_in(expression) <= known, (title, names_in(expression) - known)
        if not prometheus.query(filled_in(expression)):
            empty.append((title, expression))
    assert not empty


def test_the_dashboard_shows_what_happened(prometheus):
    assert float(prometheus.query('sum(elacsym_requests_total{job="elacsym",route="upsert",status="2xx"})')[0]["value"][1]) > 0
    assert float(prometheus.query('sum(elacsym_query_stage_seconds_count{stage="full_text"})')[0]["value"][1]) > 0
    assert float(prometheus.query('sum(elacsym_index_seconds_count{from="tail"})')[0]["value"][1]) > 0


def test_the_variables_of_the_dashboard_find_the_node(prometheus):
    found = prometheus.query("elacsym_build_info")
    assert [one["metric"]["job"] for one in found] == ["elacsym"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", found[0]["metric"]["version"])


def test_every_alert_is_evaluated_and_names_metrics_that_exist(prometheus):
    known = set(prometheus.ask("label/__name__/values"))
    end = time.monotonic() + PATIENCE_S
    while True:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] == "ok" for rule in rules) or time.monotonic() > end:
            break
        time.sleep(0.5)
    assert len(rules) == 8
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert names_in(rule["query"]) <= known, rule["name"]
        assert rule["annotations"]["action"]


def test_every_metric_of_the_example_is_shown_or_left_out_on_purpose(node):
    """So that a new metric is not forgotten."""
    exposed = set(re.findall(r"^# TYPE ((?:elacsym|process)_\S+)", metrics(node), re.M))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for _, expression in expressions() for name in names_in(expression)}
    assert exposed - shown == set()
