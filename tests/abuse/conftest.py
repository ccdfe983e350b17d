"""A node under attack: somebody asks for its health all the while, and its memory is looked at.

Short by default (part of make test): bounds on time are only looked at in the long form (--long, make http-abuse and make api-abuse), on a
machine that is not busy with something else."""
import json
import pathlib
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from elacsym import Server  # noqa: E402

MIB = 1 << 20
BODY_MEMORY = 64 * MIB
# Program, caches at their smallest, bodies twice (as sent, and unpacked or answered), a worker's memory here and there.
RESIDENT_MAX = 320 * MIB
HEALTH_MAX_S = 0.1


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="all of it, with bounds on time")
    parser.addoption("--seed", type=int, default=time.time_ns() % 2**32)


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def seed(request):
    return request.config.getoption("--seed")


@pytest.fixture(scope="session")
def server(tmp_path_factory, seed):
    print(f"seed {seed} (SEED={seed} repeats)")
    server = Server(
        tmp_path_factory.mktemp("abused"),
        ELACSYM_SERVER_MAX_BODY_MEMORY=str(BODY_MEMORY),
        ELACSYM_SERVER_MAX_BODY_BYTES=str(16 * MIB),
        ELACSYM_CACHE_MEMORY_SIZE=str(64 * MIB),
    ).start()
    yield server
    assert server.stop() == 0


class Watch:
    def __init__(self, server):
        script = pathlib.Path(__file__).with_name("watch.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        seen = json.loads(self.process.communicate(timeout=120)[0])
        return sorted(seen["times"]), seen["wrong"]


@pytest.fixture(autouse=True)
def watched(server, long, request):
    """Around every test: health is answered, in time, and memory stays below its cap."""
    watch = Watch(server)
    yield
    times, wrong = watch.stop()
    late = sum(t > HEALTH_MAX_S for t in times)
    resident = server.resident_bytes()
    print(f"\n{request.node.name}: {len(times)} looks at /health, median {times[len(times) // 2] * 1000:.1f} ms, longest "
          f"{times[-1] * 1000:.1f} ms, {late} above {HEALTH_MAX_S * 1000:.0f} ms; {resident // MIB} MiB resident")
    assert not wrong and times
    assert server.process.poll() is None
    if "build/release" in str(server.binary):  # sanitizers have memory of their own
        assert resident < RESIDENT_MAX
    # One look in a hundred may meet a moment at which the machine itself was elsewhere.
    if long:
        assert late <= len(times) / 100
