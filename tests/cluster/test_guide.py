"""docs/deployment.md: its commands are executed and its troubleshooting is provoked."""
import json
import os
import re
import subprocess
import time

import pytest

from cluster import REPOSITORY, Node, Simulator, clean_environment, free_port, wait_for
from workload import ask

PAGE = (REPOSITORY / "docs/deployment.md").read_text()
BINARY = str(os.environ.get("ELACSYM_BINARY", REPOSITORY / "build/release/elacsym"))


def block(name):
    (text,) = re.findall(rf"<!-- run: {name} -->\n```sh\n(.*?)```", PAGE, re.S)
    return text


def shell(text, **more):
    return subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, **more)


def refused(*arguments, **environment):
    """One line of a start that is refused."""
    run = subprocess.run(
        [BINARY, *arguments], env={**clean_environment(), **environment}, capture_output=True, text=True, timeout=20
    )
    assert run.returncode == 1, run
    (line,) = run.stderr.splitlines()
    return line


def test_every_block_says_how_it_was_executed():
    lines = PAGE.splitlines()
    blocks = [i for i, line in enumerate(lines) if line.strip() == "```sh"]
    assert len(blocks) >= 9
    assert [lines[i - 1] for i in blocks if not re.match(r"<!-- (run|by hand)", lines[i - 1])] == []


def serve(text, folder, program, check):
    """Runs a block whose last command serves."""
    port = free_port()
    text = text.replace("build/release/elacsym", f"exec {program}")
    environment = {
        **clean_environment(),
        "ELACSYM_SERVER_PORT": str(port),
        "ELACSYM_SERVER_HOST": "127.0.0.1",
        "ELACSYM_SERVER_DRAIN_WAIT_SECS": "0",
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["bash", "-euc", text], env=environment, stderr=log, stdout=log, cwd=folder)
    try:
        wait_for("the block serves", 60, lambda: process.poll() is not None or _healthy(port))
        assert process.poll() is None, (folder / "log").read_text()
        check(port)
        process.terminate()
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()


def _healthy(port):
    try:
        return ask(port, "GET", "/ready")[0] == 200
    except Exception:  # noqa: BLE001  not yet
        return False


def test_the_local_quick_start_serves(tmp_path):
    text = block("local").replace("make\n", "", 1).replace("/var/", f"{tmp_path}/var/")

    def check(port):
        assert ask(port, "PUT", "/v1/namespaces/a", {})[0] == 200
        assert (tmp_path / "var/lib/elacsym/ns/a").is_dir()

    serve(text, tmp_path, BINARY, check)


def test_the_s3_quick_start_serves(tmp_path, simulator):
    text = block("s3").replace("your_access_key", simulator.key).replace("your_secret_key", simulator.secret)
    text = text.replace("elacsym-production", simulator.bucket).replace("us-west-2", "us-east-1")
    text = f"export ELACSYM_STORAGE_S3_ENDPOINT={simulator.url}\n" + text
    serve(text, tmp_path, BINARY, lambda port: ask(port, "PUT", "/v1/namespaces/a", {})[0] == 200)


def test_the_environment_beats_the_file():
    run = shell(block("environment").replace("build/release/elacsym", BINARY), cwd=REPOSITORY, env=clean_environment())
    assert run.returncode == 0, run.stderr
    assert re.search(r'bucket = "my-bucket" +# ELACSYM_STORAGE_S3_BUCKET', run.stdout)
    assert re.search(r'node_id = "indexer-1" +# ELACSYM_NODE_ID', run.stdout)


def test_the_walk_passes_through_nginx(cluster):
    text = block("walk")
    for port, node in ((3001, "indexer-1"), (3002, "indexer-2"), (3003, "indexer-3"), (3000, "query-1")):
        text = text.replace(f"http://localhost:{port}/", cluster.by_name(node).url + "/")
    door = cluster.nginx.port if cluster.nginx else cluster.indexers[0].port
    text = text.replace("http://localhost/", f"http://127.0.0.1:{door}/")
    text = re.sub(r"^curl -sS", "echo; curl -sS", text, flags=re.M)
    run = shell(text)
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines() if line]
    ids = [(a["status"], a["node_id"], a["role"]) for a in answers[:4]]
    assert ids == [("healthy", f"indexer-{i}", "indexer") for i in (1, 2, 3)] + [("healthy", "query-1", "query")]
    assert answers[4] == {"namespace": "my-docs", "created": True}
    assert answers[5] == {"upserted": 1}
    (result,) = answers[6]["results"]
    assert result["id"] == 1 and result["score"] == pytest.approx(1) and result["attributes"] == {"title": "Hello World"}


def test_any_node_answers_any_read_and_any_indexer_takes_any_write(cluster):
    for number, indexer in enumerate(cluster.indexers):
        name = cluster.name_owned_by(indexer, f"any-{number}")
        path = f"/v1/namespaces/{name}"
        schema = {"attributes": {"n": "int"}}
        assert ask(cluster.indexers[number - 1].port, "PUT", path, schema)[2] == {"namespace": name, "created": True}
        for n, node in enumerate(cluster.indexers):
            status, headers, answer = ask(node.port, "POST", path + "/upsert", {"documents": [{"id": n, "attributes": {"n": n}}]})
            assert (status, answer, headers["X-Elacsym-Node"]) == (200, {"upserted": 1}, indexer.name)
            for reader in cluster.nodes:
                status, headers, answer = ask(reader.port, "GET", f"{path}/documents/{n}", headers={"X-Request-Id": "guide-1"})
                assert (status, answer["id"], headers["X-Elacsym-Node"]) == (200, n, indexer.name)
                assert headers["X-Request-Id"] == "guide-1"
        for reader in cluster.nodes:
            assert ask(reader.port, "POST", path + "/query", {"order_by": {"field": "id"}})[2]["results"][2]["id"] == 2
            assert ask(reader.port, "GET", path)[2]["document_count"] == 3
            listed = ask(reader.port, "GET", f"/v1/namespaces?prefix={name}")[2]["namespaces"]
            assert listed == [{"name": name}]
            assert ask(reader.port, "GET", path + "/documents/77")[0] == 404
        other = cluster.indexers[number - 2]
        assert ask(other.port, "POST", path + "/delete", {"ids": [0]})[2] == {"deleted": 1}
        assert ask(other.port, "POST", path + "/compact")[0] == 200
        assert ask(other.port, "DELETE", path)[0] == 200
        for reader in cluster.nodes:
            assert ask(reader.port, "GET", path)[0] == 404


def test_a_query_node_refuses_writes_with_the_owners_address(cluster):
    query = cluster.queries[0]
    for method, tail, body in (("PUT", "", {}), ("DELETE", "", None), ("POST", "/upsert", {"documents": []}), ("POST", "/delete", {"ids": []}), ("POST", "/compact", None)):
        status, headers, answer = ask(query.port, method, "/v1/namespaces/my-docs" + tail, body)
        owner = answer["owner"]
        assert (status, headers["X-Elacsym-Node"]) == (403, query.name)
        assert cluster.by_name(owner["node_id"]).url == owner["address"]
        assert owner["node_id"] in answer["error"] and owner["address"] in answer["error"]


def test_a_query_node_that_forwards_writes_does(cluster):
    node = cluster.node("query-w", "query", ELACSYM_DISTRIBUTED_FORWARD_WRITES="true").start(cluster.indexers)
    try:
        assert ask(node.port, "PUT", "/v1/namespaces/through", {})[2]["created"]
        assert ask(node.port, "POST", "/v1/namespaces/through/upsert", {"documents": [{"id": 1}]})[2] == {"upserted": 1}
        assert ask(cluster.queries[0].port, "GET", "/v1/namespaces/through")[2]["document_count"] == 1
    finally:
        assert node.stop() == 0


def test_a_large_request_and_a_large_answer_pass(cluster):
    name = cluster.name_owned_by(cluster.indexers[0], "large")
    asked = cluster.indexers[1].port
    assert ask(asked, "PUT", f"/v1/namespaces/{name}", {"vector_dim": 1024, "vector_metric": "l2"})[0] == 200
    documents = [{"id": i, "vector": [i + k / 1024 for k in range(1024)]} for i in range(600)]
    status, _, answer = ask(asked, "POST", f"/v1/namespaces/{name}/upsert", {"documents": documents}, timeout=60)
    assert (status, answer) == (200, {"upserted": 600})
    query = {"order_by": {"field": "id"}, "top_k": 600, "include_vector": True}
    status, headers, answer = ask(cluster.queries[0].port, "POST", f"/v1/namespaces/{name}/query", query, timeout=60)
    assert (status, headers["X-Elacsym-Node"], len(answer["results"])) == (200, cluster.indexers[0].name, 600)
    assert answer["results"][599]["vector"] == pytest.approx(documents[599]["vector"])


# ---- forged and wrong ----


def test_a_forged_hop_changes_nothing_but_ones_own_request(cluster):
    owner = cluster.owner("my-docs")
    query = {"order_by": {"field": "id"}}
    path = "/v1/namespaces/my-docs/query"
    for node in cluster.nodes:
        for hop in ("1", "0", "99", "no number", "-1"):
            status, headers, answer = ask(node.port, "POST", path, query, {"X-Elacsym-Hop": hop})
            assert headers["X-Elacsym-Node"] == node.name
            if node is owner:
                assert status == 200
            else:
                assert (status, answer["code"]) == (508, "forward_loop")
                assert owner.name in answer["error"]
        assert ask(node.port, "POST", path, query)[0] == 200
    forged = {"X-Elacsym-Hop": "1", "X-Elacsym-Nodes": "0123456789abcdef; me; a,b", "X-Elacsym-Deadline-Ms": "0"}
    assert ask(owner.port, "POST", path, query, forged)[0] == 409
    if cluster.nginx:
        assert ask(cluster.nginx.port, "POST", path, query, forged)[0] == 200


def test_headers_that_only_nodes_send_are_nothing_without_a_hop(cluster):
    headers = {"X-Elacsym-Nodes": "0123456789abcdef; me; a,b", "X-Elacsym-Deadline-Ms": "0"}
    for node in cluster.nodes:
        assert ask(node.port, "POST", "/v1/namespaces/my-docs/query", {"order_by": {"field": "id"}}, headers)[0] == 200


def test_a_wrong_address_is_a_loop_that_is_refused_and_not_followed(cluster):
    """Every id leads to one and the same indexer, and the asking node's to itself."""
    other, owner = cluster.indexers[1], cluster.indexers[0]
    name = cluster.name_owned_by(owner, "loop")
    assert ask(owner.port, "PUT", f"/v1/namespaces/{name}", {})[0] == 200
    node = cluster.node("query-loop", "query")
    for url in (other.url, node.url):
        node.start({n.name: url for n in cluster.indexers})
        status, _, answer = ask(node.port, "POST", f"/v1/namespaces/{name}/query", {"order_by": {"field": "id"}})
        assert (status, answer["code"]) == (508, "forward_loop"), answer
        assert node.stop() == 0


def test_a_stranger_at_the_owners_address_acknowledges_nothing(cluster):
    """The store itself stands where the owner should be."""
    name = cluster.name_owned_by(cluster.indexers[1], "stranger")
    assert ask(cluster.indexers[1].port, "PUT", f"/v1/namespaces/{name}", {})[0] == 200
    node = cluster.node("query-stranger", "query", ELACSYM_DISTRIBUTED_FORWARD_WRITES="true")
    node.start({n.name: cluster.store.url for n in cluster.indexers})
    status, _, _ = ask(node.port, "POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 1}]})
    assert status == 503
    status, headers, _ = ask(node.port, "POST", f"/v1/namespaces/{name}/query", {"order_by": {"field": "id"}})
    assert (status, headers["X-Elacsym-Node"]) == (200, node.name)
    assert node.stop() == 0


def test_the_store_never_gets_a_write_from_a_query_node(tmp_path):
    simulator = Simulator(tmp_path, "s3sim").start()
    try:
        indexer = Node(tmp_path, "indexer-1", "indexer", simulator).start([type("N", (), {"name": "indexer-1", "url": "http://127.0.0.1:1"})()])
        assert ask(indexer.port, "PUT", "/v1/namespaces/a", {"attributes": {"n": "int"}})[0] == 200
        documents = [{"id": i, "attributes": {"n": i}} for i in range(200)]
        assert ask(indexer.port, "POST", "/v1/namespaces/a/upsert", {"documents": documents})[0] == 200
        indexer.kill()
        before = simulator.command({"do": "counts"})
        query = Node(tmp_path, "query-1", "query", simulator, ELACSYM_TAIL_INDEX_ROWS="100", ELACSYM_TAIL_INDEX_IDLE_SECS="1")
        query.start([indexer])
        for _ in range(5):
            status, _, answer = ask(query.port, "POST", "/v1/namespaces/a/query", {"order_by": {"field": "id"}, "top_k": 200})
            assert (status, len(answer["results"])) == (200, 200)
            time.sleep(0.5)
        assert query.stop() == 0
        after = simulator.command({"do": "counts"})
        writing = ("create", "put", "delete", "deletes", "begin", "part", "complete", "abort")
        assert {w: after.get(w, 0) for w in writing} == {w: before.get(w, 0) for w in writing}
    finally:
        simulator.kill()


# ---- troubleshooting ----

INDEXER = str(REPOSITORY / "examples/distributed/config-indexer.toml")
QUERY = str(REPOSITORY / "examples/distributed/config-query.toml")


def test_trouble_node_id_not_found():
    line = refused("--config", INDEXER, ELACSYM_NODE_ID="indexer-9")
    assert line.startswith("elacsym: node_id not found in indexer_cluster.nodes: indexer-9 (ELACSYM_NODE_ID)")
    run = shell(block("node-id").replace("/etc/elacsym/config.toml", INDEXER), env={**clean_environment(), "ELACSYM_NODE_ID": "indexer-9"})
    assert "indexer-9" in run.stdout and "nodes = [" in run.stdout


def test_trouble_role_mismatch():
    line = refused("--config", QUERY, ELACSYM_NODE_ROLE="indexer")
    assert line.startswith("elacsym: Role mismatch: node configured as Query but processing as Indexer")
    line = refused("--config", INDEXER, ELACSYM_NODE_ROLE="query")
    assert line.startswith("elacsym: Role mismatch: node configured as Indexer but processing as Query")


@pytest.mark.parametrize(
    "nodes, words",
    [("", "indexer_cluster.nodes"), ("indexer-1,indexer-2,indexer-1", "twice"), ("indexer-1,query-1", "role is query")],
)
def test_trouble_lists_that_cannot_be(nodes, words):
    line = refused("--config", QUERY, ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_NODES=nodes)
    assert words in line


def test_trouble_wal_files_are_not_cleaned_up(tmp_path):
    """A store that refuses deletions; then one that does not."""
    simulator = Simulator(tmp_path, "s3sim").start()
    node = Node(tmp_path, "indexer-1", "indexer", simulator, ELACSYM_GC_GRACE_SECS="0", ELACSYM_STORAGE_S3_WAL_PREFIX="production")
    try:
        node.start([node])
        path = "/v1/namespaces/a"
        assert ask(node.port, "PUT", path, {})[0] == 200
        for rule in ({"op": "deletes"}, {"op": "delete"}):
            simulator.command({"do": "fault", "fault": "status", "status": 403, "code": "AccessDenied", "times": 100000, **rule})
        for i in range(3):
            assert ask(node.port, "POST", path + "/upsert", {"documents": [{"id": i}]})[0] == 200
            ask(node.port, "POST", path + "/compact")
        wait_for("the failure is logged", 20, lambda: node.events("obsolete objects were not deleted, will try again"))
        assert _metric(node, "elacsym_gc_failures_total") > 0
        assert "AccessDenied" in node.events("obsolete objects were not deleted, will try again")[0]["error"]
        # An indexer that may not delete from the beginning does not start at all.
        never = Node(tmp_path, "never", "indexer", simulator).start({"never": "http://127.0.0.1:1"}, wait=False)
        assert never.process.wait(timeout=30) == 1
        assert "DELETE" in never.events("start failed")[0]["error"]

        # Another prefix than the namespace was made with is refused by name.
        other = Node(tmp_path, "other", "query", simulator, ELACSYM_STORAGE_S3_WAL_PREFIX="staging").start({"indexer-1": "http://127.0.0.1:1"})
        status, _, answer = ask(other.port, "GET", path)
        assert status == 403 and '"production"' in answer["error"] and '"staging"' in answer["error"]
        assert other.stop() == 0
        node.stop()
    finally:
        simulator.kill()


def _metric(node, name):
    client = node.client()
    (value,) = re.findall(rf"^{name} (\S+)$", client.get("/metrics").content.decode(), re.M)
    client.close()
    return float(value)


def test_trouble_namespace_routing_errors(cluster, tmp_path):
    """A node with another list: 409 with both, at the client that asked."""
    names = ["indexer-1", "indexer-3", "indexer-2"]
    wrong = cluster.node("query-wrong", "query")
    wrong.start({name: cluster.by_name(name).url for name in names})
    status, headers, answer = ask(wrong.port, "POST", "/v1/namespaces/my-docs/query", {"order_by": {"field": "id"}})
    assert (status, answer["code"]) == (409, "indexer_list_mismatch"), answer
    assert answer["error"].startswith("namespace routing error")
    lists = {entry["node"]: entry["nodes"] for entry in answer["lists"]}
    assert lists["query-wrong"] == names
    assert lists[headers["X-Elacsym-Node"]] == ["indexer-1", "indexer-2", "indexer-3"]
    answering = cluster.by_name(headers["X-Elacsym-Node"])
    assert answering.events("indexer lists differ")[-1]["ours"] == "indexer-1,indexer-2,indexer-3"
    assert _metric(answering, "elacsym_indexer_list_mismatch_total") >= 1
    assert wrong.stop() == 0
    for number, text in enumerate((INDEXER, QUERY)):
        (tmp_path / f"config{number}.toml").write_text(open(text).read())
    assert shell(block("lists").replace("/etc/elacsym/config", f"{tmp_path}/config")).stdout.count('"indexer-3"') == 2


def test_trouble_ownership_conflict_names_the_holder(cluster):
    """An indexer with another list writes what belongs to another one."""
    name = cluster.name_owned_by(cluster.indexers[1], "conflict")
    owner = cluster.indexers[1]
    assert ask(owner.port, "PUT", f"/v1/namespaces/{name}", {})[0] == 200
    rogue = cluster.node("rogue", "indexer").start({"rogue": "http://127.0.0.1:1"})
    try:
        assert ask(rogue.port, "POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 1}]})[0] == 200
        status, headers, answer = ask(owner.port, "POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 2}]})
        assert (status, answer["code"]) == (503, "ownership_conflict"), answer
        assert re.search(r'held by node "rogue" \(its list of indexers is [0-9a-f]{16}, ours [0-9a-f]{16}\)', answer["error"]), answer
        assert owner.events("another node took the namespace")
        words = owner.events("another node took the namespace")[-1]["words"]
        assert answer["error"].endswith(words) or "rogue" in words
        # Reads are right all the same, at the fenced owner and at a query node.
        for node in (owner, cluster.queries[0]):
            assert ask(node.port, "GET", f"/v1/namespaces/{name}/documents/1")[0] == 200
    finally:
        rogue.stop()


def test_trouble_an_owner_that_cannot_be_reached(cluster):
    """It is away, or its name does not resolve where the asking node runs."""
    owner, other = cluster.indexers[2], cluster.indexers[0]
    name = cluster.name_owned_by(owner, "away")
    nowhere = {n.name: "http://nowhere.invalid:3000" if n is owner else n.url for n in cluster.indexers}
    lost = cluster.node("query-lost", "query", ELACSYM_DISTRIBUTED_FORWARD_WRITES="true").start(nowhere)
    upsert = ("POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 1}]})
    assert ask(owner.port, "PUT", f"/v1/namespaces/{name}", {})[0] == 200
    owner.kill()
    try:
        for node, address in ((other, owner.url), (lost, "http://nowhere.invalid:3000")):
            status, headers, answer = ask(node.port, *upsert)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert f'belongs to node "{owner.name}" at {address}, which cannot be reached' in answer["error"]
            assert "nothing was applied" in answer["error"]
            down = node.events("node does not answer")[-1]
            assert down["address"] == address and down["why"]
        assert "nowhere.invalid" in lost.events("node does not answer")[-1]["why"]
    finally:
        owner.start(cluster.indexers)
    wait_for("the owner is asked again", 20, lambda: ask(other.port, *upsert)[0] == 200)
    assert ask(lost.port, "GET", f"/v1/namespaces/{name}/documents/1")[1]["X-Elacsym-Node"] == lost.name
    assert lost.stop() == 0


def test_trouble_two_processes_under_one_id(cluster):
    name = cluster.name_owned_by(cluster.indexers[0], "twin")
    owner = cluster.indexers[0]
    assert ask(owner.port, "PUT", f"/v1/namespaces/{name}", {})[0] == 200
    twin = cluster.node("twin", "indexer", ELACSYM_NODE_ID=owner.name).start(cluster.indexers)
    try:
        assert ask(twin.port, "POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 1}]})[0] == 200
        status, _, answer = ask(owner.port, "POST", f"/v1/namespaces/{name}/upsert", {"documents": [{"id": 2}]})
        assert (status, answer["code"]) == (503, "ownership_conflict"), answer
        assert f'another process with this node\'s id, "{owner.name}"' in answer["error"]
    finally:
        twin.stop()


def test_a_query_node_tells_when_another_than_the_owner_opens_a_namespace(cluster):
    """Two processes that take turns at a namespace while a query node follows its log."""
    name, owner = cluster.name_owned_by(cluster.indexers[2], "seen"), cluster.indexers[2]
    path, query = f"/v1/namespaces/{name}", cluster.queries[0]
    told = "namespace is opened by another node than its owner"
    assert ask(owner.port, "PUT", path, {})[0] == 200
    assert ask(owner.port, "POST", path + "/upsert", {"documents": [{"id": 1}]})[0] == 200
    owner.kill()
    try:
        assert ask(query.port, "GET", path + "/documents/1")[0] == 200
        before = _metric(query, "elacsym_ownership_conflicts_total")
        rogue = cluster.node("rogue-2", "indexer").start({"rogue-2": "http://127.0.0.1:1"})
        assert ask(rogue.port, "POST", path + "/upsert", {"documents": [{"id": 2}]})[0] == 200
        assert ask(query.port, "GET", path + "/documents/2")[0] == 200
        assert _metric(query, "elacsym_ownership_conflicts_total") == before + 1
        event = query.events(told)[-1]
        assert (event["namespace"], event["node"], event["owner"]) == (name, "rogue-2", owner.name)
        assert event["theirs"] != event["ours"]
        rogue.stop()
    finally:
        owner.start(cluster.indexers)
    # Its owner's return is nothing to tell.
    wait_for("the owner is asked again", 20, lambda: ask(query.port, "GET", path + "/documents/2")[1]["X-Elacsym-Node"] == owner.name)
    assert _metric(query, "elacsym_ownership_conflicts_total") == before + 1
