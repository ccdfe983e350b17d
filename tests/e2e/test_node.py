"""Health, readiness, metrics, and what every answer has in common."""
import gzip
import json

import pytest


def test_health_tells_version_namespaces_and_role(client, ns):
    before = client.get("/health").json
    ns.create()
    after = client.get("/health").json
    assert after["status"] == "healthy"
    assert after["version"]
    assert after["namespaces"] == before["namespaces"] + 1
    assert after["node_id"] is None and after["role"] is None


def test_ready_is_200_once_the_server_serves(client):
    assert client.get("/ready").status == 200


def test_metrics_are_prometheus_text_and_count_requests(client, ns):
    ns.create(vector_dim=2)
    ns.ask("POST", "/query", {"vector": [1]})
    answer = client.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.content.decode().splitlines()
    counted = [line for line in lines if line.startswith('elacsym_requests_total{route="query",status="4xx"}')]
    assert counted and float(counted[0].split()[-1]) >= 1


def test_every_answer_has_a_request_id_and_a_client_may_choose_it(client):
    first = client.get("/health").headers["X-Request-Id"]
    second = client.get("/health").headers["X-Request-Id"]
    assert first and second and first != second
    assert client.get("/nothing", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"


def test_head_is_get_without_a_body(client):
    answer = client.ask("HEAD", "/health")
    assert answer.status == 200
    assert answer.content == b""


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/namespaces", "/v1/namespaces/x/search", "/v1/namespaces/x/upsert/"])
def test_an_unknown_path_is_404(client, path):
    answer = client.get(path)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("POST", "/health", {"GET", "HEAD"}),
        ("PATCH", "/v1/namespaces/x", {"PUT", "GET", "HEAD", "DELETE"}),
        ("GET", "/v1/namespaces/x/query", {"POST"}),
    ],
)
def test_another_method_is_405_and_allow_lists_the_right_ones(client, method, path, allow):
    answer = client.ask(method, path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == allow


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_body_of_another_type_is_415(ns, kind):
    ns.create()
    answer = ns.ask("POST", "/upsert", b'{"documents":[]}', {"Content-Type": kind})
    assert answer.status == 415
    assert "application/json" in answer.error


def test_a_gzip_body_is_understood(ns):
    ns.create()
    body = gzip.compress(json.dumps({"documents": [{"id": i} for i in range(1000)]}).encode())
    answer = ns.ask("POST", "/upsert", body, {"Content-Encoding": "gzip"})
    assert answer.status == 200
    assert answer.json == {"upserted": 1000}


def test_a_gzip_answer_is_given_when_asked_for(ns):
    ns.create(attributes={"t": "string"})
    ns.upsert(*({"id": i, "attributes": {"t": "the same text again and again"}} for i in range(200)))
    query = {"filter": {"field": "t", "op": "exists", "value": True}, "top_k": 200}
    plain = ns.ask("POST", "/query", query)
    # json.loads needs the plain text; Answer does not unzip, so take the type away.
    connection = ns.client.connection
    connection.request("POST", ns.path + "/query", json.dumps(query),
                       {"Content-Type": "application/json", "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.headers["Content-Encoding"] == "gzip"
    zipped = response.read()
    assert len(zipped) < len(plain.content) / 4
    assert json.loads(gzip.decompress(zipped))["results"] == plain.json["results"]


def test_a_query_parameter_that_nobody_asked_for_is_refused(client):
    answer = client.get("/health?verbose=1")
    assert answer.status == 400
    assert "verbose" in answer.error
