"""examples/distributed: every file is valid, and every configuration in it starts a node."""
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from cluster import NGINX, REPOSITORY, Nginx, Node, clean_environment
from test_guide import BINARY
from workload import ask

HERE = REPOSITORY / "examples/distributed"
MANIFESTS = {
    (d["kind"], d["metadata"]["name"]): d for f in sorted((HERE / "k8s").glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())
}
COMPOSE = yaml.safe_load((HERE / "docker-compose.yml").read_text())


def workloads():
    return [d for (kind, _), d in MANIFESTS.items() if kind in ("StatefulSet", "Deployment")]


def check_config(file, environment):
    run = subprocess.run(
        [BINARY, "--config", str(file), "--check-config"], env={**clean_environment(), **environment}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def start(tmp_path, simulator, file, node_id, environment):
    """A real start with the file; only the store's address, the port and the cache's folder are the test's."""
    local = {
        "ELACSYM_CACHE_DISK_PATH": str(tmp_path / "cache"),
        "ELACSYM_STORAGE_S3_ENDPOINT": simulator.url,
        "ELACSYM_SERVER_HOST": "127.0.0.1",
        "ELACSYM_SERVER_DRAIN_WAIT_SECS": "0",
    }
    node = Node(tmp_path, node_id, "indexer", simulator)
    secrets = {"AWS_ACCESS_KEY_ID": simulator.key, "AWS_SECRET_ACCESS_KEY": simulator.secret}
    environment = {**clean_environment(), **environment, **local, **secrets, "ELACSYM_SERVER_PORT": str(node.port)}
    node.launch([BINARY, "--config", str(file)], environment, cwd=tmp_path)
    node.wait_until_ready()
    return node


# ---- the two configuration files ----


@pytest.mark.parametrize("role, node_id", [("indexer", "indexer-1"), ("query", "query-1")])
def test_the_configuration_files_are_valid_and_start_a_node(tmp_path, simulator, role, node_id):
    file = HERE / f"config-{role}.toml"
    check_config(file, {})
    check_config(file, {"ELACSYM_NODE_ID": node_id, "ELACSYM_NODE_ROLE": role})
    node = start(tmp_path, simulator, file, node_id, {})
    health = ask(node.port, "GET", "/health")[2]
    assert (health["node_id"], health["role"]) == (node_id, role)
    assert node.stop() == 0


def test_both_files_have_the_same_list_bucket_and_prefix():
    texts = [(HERE / f"config-{role}.toml").read_text() for role in ("indexer", "query")]
    for name in (r"nodes = \[[^]]*\]", "bucket = .*", "wal_prefix = .*", "endpoint = .*"):
        first, second = (re.search(name, text).group() for text in texts)
        assert first == second


# ---- nginx ----


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_nginx_finds_nothing_wrong_with_its_configuration(tmp_path):
    node = Node(tmp_path, "n", "indexer", None)
    nginx = Nginx(tmp_path, [node], [node])
    run = subprocess.run(nginx.command("-t"), capture_output=True, text=True)
    assert run.returncode == 0 and "test is successful" in run.stderr, run.stderr
    assert "warn" not in run.stderr, run.stderr


# ---- Compose ----


def settings(value):
    """A Compose value with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def test_compose_has_the_guides_services_and_each_node_starts_with_its_settings():
    services = COMPOSE["services"]
    assert set(services) == {"minio", "minio-init", "indexer-1", "indexer-2", "indexer-3", "query-1", "nginx"}
    for name, service in services.items():
        if service.get("image") != "elacsym:latest":
            continue
        environment = {k: settings(v) for k, v in service["environment"].items()}
        assert environment["ELACSYM_NODE_ID"] == name
        (file,) = [v.split(":")[0] for v in service["volumes"] if v.split(":")[1] == "/etc/elacsym/config.toml"]
        out = check_config(HERE / file, environment)
        assert re.search(rf'node_id = "{name}"', out) and 'disk_path = "/var/cache/elacsym"' in out
        assert [v for v in service["volumes"] if v.split(":")[1] == "/var/cache/elacsym"]
        assert settings(service["ports"][0]).endswith(":3000")
        assert int(service["stop_grace_period"].rstrip("s")) > int(re.search(r"shutdown_timeout_secs = (\d+)", out).group(1))


def test_the_example_environment_names_what_compose_reads_with_the_same_defaults():
    text = (HERE / "docker-compose.yml").read_text()
    read = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert read == dict(re.findall(r"^(\w+)=(.*)$", (HERE / ".env.example").read_text(), re.M))


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_docker_compose_finds_nothing_wrong_with_the_file():
    run = subprocess.run(["docker-compose", "-f", str(HERE / "docker-compose.yml"), "config", "-q"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_image_copies_only_what_the_build_context_holds():
    text = (HERE / "Dockerfile").read_text()
    taken = [p for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for p in line.split()[:-1]]
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {p.rstrip("/") for p in taken} <= {p if p in taken else p.split("/")[0] for p in kept} | kept
    assert all((REPOSITORY / p).exists() for p in taken)
    assert re.search(r"^USER 10001$", text, re.M) and "HEALTHCHECK" in text


# ---- Kubernetes ----


@pytest.mark.parametrize("name", sorted(f"{kind}/{name}" for kind, name in MANIFESTS))
def test_each_manifest_fits_the_published_schema(name):
    kubernetes_validate.validate(MANIFESTS[tuple(name.split("/"))], "1.29", strict=True)


def test_the_manifests_hold_what_the_guide_promises():
    kinds = [kind for kind, _ in MANIFESTS]
    for kind in ("StatefulSet", "Deployment", "Service", "Ingress", "PodDisruptionBudget", "ConfigMap", "Secret"):
        assert kind in kinds
    assert MANIFESTS["Service", "elacsym-indexer"]["spec"]["clusterIP"] == "None"


def test_selectors_find_their_pods_and_services_their_ports():
    pods = [w["spec"]["template"] for w in workloads()]
    for w in workloads():
        assert w["spec"]["selector"]["matchLabels"].items() <= w["spec"]["template"]["metadata"]["labels"].items()
    for (kind, _), d in MANIFESTS.items():
        if kind in ("Service", "PodDisruptionBudget"):
            wanted = d["spec"]["selector"]
            wanted = wanted.get("matchLabels", wanted)
            (pod,) = [p for p in pods if wanted.items() <= p["metadata"]["labels"].items()]
            ports = {p["name"] for p in pod["spec"]["containers"][0]["ports"]}
            assert {p["targetPort"] for p in d["spec"].get("ports", [])} <= ports
    (rule,) = MANIFESTS["Ingress", "elacsym"]["spec"]["rules"]
    for path in rule["http"]["paths"]:
        service = path["backend"]["service"]
        assert service["port"]["name"] in {p["name"] for p in MANIFESTS["Service", service["name"]]["spec"]["ports"]}


def pod_environment(pod, name):
    """What Kubernetes would set for a pod of that name."""
    assert pod["spec"]["enableServiceLinks"] is False, "ELACSYM_QUERY_SERVICE_HOST would stop the start"
    (container,) = pod["spec"]["containers"]
    environment = {}
    for source in container["envFrom"]:
        environment.update(MANIFESTS["Secret", source["secretRef"]["name"]]["stringData"])
    for variable in container["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        environment[variable["name"]] = variable.get("value", name)
    return environment


@pytest.mark.parametrize(
    "kind, name, pods",
    [("StatefulSet", "elacsym-indexer", ["elacsym-indexer-0", "elacsym-indexer-1", "elacsym-indexer-2"]), ("Deployment", "elacsym-query", ["elacsym-query-7d9f-x2x"])],
)
def test_what_the_manifests_mount_starts_a_node(tmp_path, simulator, kind, name, pods):
    workload = MANIFESTS[kind, name]
    pod = workload["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "config"]
    config = MANIFESTS["ConfigMap", volumes["config"]["configMap"]["name"]]["data"]
    folder = tmp_path / "etc"
    folder.mkdir()
    for file, text in config.items():
        (folder / file).write_text(text)
    file = folder / container["args"][1].removeprefix(mount["mountPath"] + "/")
    if kind == "StatefulSet":
        assert workload["spec"]["replicas"] == len(pods)
        assert workload["spec"]["serviceName"] == "elacsym-indexer"
    for pod_name in pods:
        out = check_config(file, pod_environment(pod, pod_name))
        assert 'disk_path = "/var/cache/elacsym"' in out
        seconds = int(re.search(r"shutdown_timeout_secs = (\d+)", out).group(1))
        assert pod["spec"]["terminationGracePeriodSeconds"] > seconds
    node = start(tmp_path, simulator, file, pods[0], pod_environment(pod, pods[0]))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert ask(node.port, "GET", container[probe]["httpGet"]["path"])[0] == 200
    assert ask(node.port, "GET", "/health")[2]["node_id"] == pods[0]
    assert ask(node.port, "GET", pod["metadata"]["annotations"]["prometheus.io/path"])[0] == 200
    assert node.stop() == 0
