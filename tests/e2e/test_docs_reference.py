"""The pages name all there is, and nothing that is not: metrics, endpoints, statuses, codes, lines of the log, options. (Keys of the
configuration: tests/unit/test_config.c.)"""
import json
import re
import subprocess

import pytest

from elacsym import REPOSITORY
from test_monitoring import metrics, node  # noqa: F401 (a fixture)

DOCS = REPOSITORY / "docs"


def page(name):
    return (DOCS / name).read_text()


def sources(*folders):
    return "\n".join(p.read_text() for f in folders or ["*"] for p in sorted(REPOSITORY.glob(f"src/{f}/*.c*"))) + (REPOSITORY / "src/main.c").read_text()


def test_every_metric_is_documented_and_every_documented_one_exists(node):  # noqa: F811
    exposed = set(re.findall(r"^# TYPE (\S+) ", metrics(node), re.M))
    named = set(re.findall(r"`((?:elacsym|process)_[a-z0-9_]+)(?:\{[a-z,]*\})?`", page("operations.md") + page("deployment.md")))
    assert named == exposed


def test_every_metric_has_a_help_text_that_is_a_sentence(node):  # noqa: F811
    text = metrics(node)
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    assert set(helps) == set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    for name, words in helps.items():
        assert len(words) > 10, name


def routes():
    found = re.findall(r'\{"(GET|PUT|POST|DELETE)", "(/[^"]*)"', (REPOSITORY / "src/api/api.c").read_text())
    assert len(found) >= 13
    return found


def test_every_endpoint_is_in_an_example_and_every_example_has_an_endpoint():
    examples = re.findall(r"^`?(GET|PUT|POST|DELETE) (/[^ ?`\n]*)", page("api.md"), re.M)
    patterns = {route: re.compile(route[0] + " " + re.sub(r"\\\{\\\}", "[^/]+", re.escape(route[1])) + "$") for route in routes()}
    for route, pattern in patterns.items():
        assert any(pattern.match(" ".join(example)) for example in examples), route
    for example in examples:
        assert any(pattern.match(" ".join(example)) for pattern in patterns.values()), example


def test_every_status_is_documented_and_no_other():
    text = sources("api", "http", "node")
    sent = {int(n) for n in re.findall(r"(?:bad\(p, |return |\brefuse\w*\([^;\"]*?|answer_error\([^;\"]*?|status = |_status\([^;\"]*?)\b([45]\d\d)\b", text)}
    documented = {int(n) for n in re.findall(r"^\| (\d{3}) \|", page("api.md"), re.M)}
    documented |= {int(n) for n in re.findall(r"\b[45]\d\d\b", re.search(r"The HTTP server itself.*", page("api.md")).group())}
    documented.add(499)  # only counted: the client is gone (operations.md)
    assert "499" in page("operations.md")
    assert sent - documented == set()
    assert {400, 404, 408, 413, 414, 429, 431, 501, 505, 507} <= documented & sent


def test_every_error_code_is_documented():
    codes = set(re.findall(r'json_key\(&?w, "code"\);\s+json_put_str\(&?w, "(\w+)"', sources("api", "node")))
    codes |= set(re.findall(r'"(ownership_conflict|indexer_list_mismatch|forward_loop)"', sources("api", "node")))
    documented = set(re.findall(r'"code":"(\w+)"', page("api.md")))
    assert codes and codes == documented


def test_every_line_of_the_log_that_asks_for_attention_says_what_to_do_in_the_manual():
    text = sources()
    events = set(re.findall(r'log_(?:warn|error)\(\s*[^",]+,\s*"([^"]+)"', text))
    assert len(events) > 35
    manual = page("operations.md")
    tables = "\n".join(line for line in manual.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([^`]+)`", "\n".join(line.split(" | ")[0] for line in tables.splitlines())))
    assert events - named == set()
    logged = {name for name in named if " " in name and not re.search(r"[=_.{]", name)}
    assert logged - events == set()


def test_every_option_of_the_program_is_in_its_manual_page_and_its_completion(server):
    words = subprocess.run([str(server.binary), "--help"], text=True, capture_output=True).stdout
    options = set(re.findall(r"--[a-z-]+", words))
    assert len(options) >= 5
    manual = (REPOSITORY / "packaging/elacsym.1").read_text().replace("\\-", "-")
    completion = (REPOSITORY / "packaging/elacsym.bash").read_text()
    for option in options:
        assert option in manual and option in completion, option
    for command in ("verify", "dump"):
        assert command in manual and command in completion


def test_a_slow_query_is_logged_with_the_id_that_its_client_chose(tmp_path):
    from elacsym import Server
    server = Server(tmp_path, ELACSYM_QUERY_SLOW_MS="1").start()
    client = server.client()
    slow = client.namespace("slow")
    slow.create(vector_dim=64, attributes={"t": {"type": "string", "full_text": True}})
    slow.upsert(*({"id": i, "vector": [i % 7 + 1] * 64, "attributes": {"t": f"word{i % 50} and more words"}} for i in range(4000)))
    for i in range(50):
        answer = slow.ask("POST", "/query", {"vector": [1] * 64, "full_text": {"fields": ["t"], "query": "and more words"}, "top_k": 1000,
                                             "include_vector": True, "explain": True}, {"X-Request-Id": f"slow-{i}"})
        assert answer.status == 200 and answer.headers["X-Request-Id"] == f"slow-{i}"
        lines = [json.loads(line) for line in server.log().splitlines() if '"slow query"' in line]
        if lines:
            break
    assert server.stop() == 0
    assert lines[0]["level"] == "warn" and lines[0]["request_id"] == f"slow-{i}"
    assert lines[0]["namespace"] == "slow" and lines[0]["plan"] == "hybrid" and float(lines[0]["took_ms"]) >= 1
    explain = answer.json["explain"]
    assert explain["plan"] == "hybrid" and explain["live_rows"] == 4000
    assert set(explain["stages_ms"]) >= {"filter", "vector", "full_text", "fuse", "fetch", "total"}


@pytest.mark.damages
def test_a_line_about_a_refused_answer_has_its_request_id_and_names_the_object(own_server):
    client = own_server.client()
    ns = client.namespace("n")
    ns.create()
    ns.upsert({"id": 1})
    client.close()
    own_server.kill()
    entry = sorted(own_server.root.glob("data/wal/n/*/*.wal"))[-1]
    entry.write_bytes(entry.read_bytes()[:-1])
    own_server.start()
    client = own_server.client()
    answer = client.ask("GET", "/v1/namespaces/n/documents/1", headers={"X-Request-Id": "damage-1"})
    client.close()
    assert answer.status == 500 and entry.name in answer.error
    line = next(json.loads(line) for line in own_server.log().splitlines() if '"request failed"' in line)
    assert line["request_id"] == "damage-1" and line["level"] == "error" and entry.name in line["error"]
