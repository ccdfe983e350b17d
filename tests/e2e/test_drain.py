"""A stop: what a node still does after a signal, what it refuses, and how it ends."""
import concurrent.futures
import http.client
import json
import signal
import threading
import time

import pytest

from elacsym import Server

LIMIT_S = 60
IDS = 1250  # a writer's; those of eight fit into one answer
# A wait that outlasts every test: only another signal ends it.
LONG_WAIT = {"ELACSYM_SERVER_DRAIN_WAIT_SECS": "600", "ELACSYM_SERVER_SHUTDOWN_TIMEOUT_SECS": "3600"}


@pytest.fixture
def serve(tmp_path):
    """Starts the test's server with these variables; killed at the end if it still runs."""
    servers = []

    def start(**environment):
        servers.append(Server(tmp_path, **environment).start())
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.kill()


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def signal_and_wait_for_drain(server, number=signal.SIGTERM):
    server.process.send_signal(number)
    client = server.client()
    wait_until(lambda: client.get("/ready").status == 503, "/ready never said no")
    return client


def refuses_connections(server):
    assert server.process.poll() is None, "the server ended: " + server.log()[-2000:]
    try:
        server.client().get("/health")
    except ConnectionRefusedError:
        return True
    except (http.client.HTTPException, OSError):
        pass  # taken just before
    return False


def signal_and_wait_for_refusals(server, number=signal.SIGTERM):
    server.process.send_signal(number)
    wait_until(lambda: refuses_connections(server), "connections are still taken")


def ended(server):
    return server.process.wait(timeout=LIMIT_S)


def in_flight(observer):
    """Requests not yet answered, this one among them."""
    text = observer.get("/metrics").content.decode()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("elacsym_http_in_flight "))


class SlowUpsert:
    """An upsert of which the node has the head and half of the body."""

    def __init__(self, server, name, id):
        body = json.dumps({"documents": [{"id": id}]}).encode()
        self.rest = body[len(body) // 2:]
        observer = server.client()
        wait_until(lambda: in_flight(observer) == 1, "earlier requests never ended")
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
        self.connection.putrequest("POST", f"/v1/namespaces/{name}/upsert")
        self.connection.putheader("Content-Type", "application/json")
        self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body[:-len(self.rest)])
        wait_until(lambda: in_flight(observer) == 2, "the upsert never arrived")
        observer.close()

    def finish(self):
        """The answer's status, Connection field and body."""
        self.connection.send(self.rest)
        response = self.connection.getresponse()
        return response.status, response.headers["Connection"], json.loads(response.read())


def test_during_the_wait_ready_says_no_with_the_reason(serve):
    client = signal_and_wait_for_drain(serve(**LONG_WAIT))
    answer = client.get("/ready")
    assert answer.status == 503
    assert "shutting down" in answer.content.decode()


def test_during_the_wait_health_says_yes(serve):
    assert signal_and_wait_for_drain(serve(**LONG_WAIT)).get("/health").status == 200


def test_during_the_wait_new_connections_are_taken_and_every_request_is_answered(serve):
    server = serve(**LONG_WAIT)
    signal_and_wait_for_drain(server)
    ns = server.client().namespace("late")
    ns.create()
    ns.upsert({"id": 1})
    assert server.client().namespace("late").ids(order_by={"field": "id"}) == [1]


def test_after_the_wait_new_connections_are_refused_while_a_request_still_runs(serve):
    server = serve(ELACSYM_SERVER_DRAIN_WAIT_SECS="1")
    server.client().namespace("held").create()
    upsert = SlowUpsert(server, "held", 1)
    signal_and_wait_for_refusals(server)
    assert server.process.poll() is None
    upsert.connection.close()


def test_an_upsert_whose_body_ends_after_the_wait_is_acknowledged_and_kept(serve):
    server = serve(ELACSYM_SERVER_DRAIN_WAIT_SECS="1")
    server.client().namespace("held").create()
    upsert = SlowUpsert(server, "held", 1)
    signal_and_wait_for_refusals(server)
    assert upsert.finish() == (200, "close", {"upserted": 1})
    assert ended(server) == 0
    server.start()
    assert server.client().namespace("held").ids(order_by={"field": "id"}) == [1]


def test_a_kept_idle_connection_is_ended_without_a_word_after_the_wait(serve):
    server = serve(ELACSYM_SERVER_DRAIN_WAIT_SECS="1")
    kept = server.client()
    kept.namespace("held").create()
    upsert = SlowUpsert(server, "held", 1)
    signal_and_wait_for_refusals(server)
    assert kept.connection.sock.recv(1) == b""
    upsert.connection.close()


def test_an_idle_connection_does_not_hold_up_a_stop(serve):
    server = serve()
    idle = server.client()
    assert idle.get("/health").status == 200
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == 0
    idle.close()


@pytest.mark.parametrize("wait", ["0", "1"])
def test_stopped_amid_writers_what_is_refused_is_refused_cleanly_and_everything_acknowledged_is_kept(serve, wait):
    server = serve(ELACSYM_SERVER_DRAIN_WAIT_SECS=wait)
    server.client().namespace("busy").create()
    acknowledged = [[] for _ in range(8)]
    stop = threading.Event()

    def write(worker):
        """Until the node turns it away: by a 503 or by the connection's end."""
        client = server.client()
        for id in range(worker * IDS, (worker + 1) * IDS):
            if stop.is_set():
                return None
            try:
                answer = client.ask("POST", "/v1/namespaces/busy/upsert", {"documents": [{"id": id}]})
            except (http.client.HTTPException, OSError):
                return None
            if answer.status != 200:
                return answer
            assert answer.json == {"upserted": 1}
            acknowledged[worker].append(id)
        return None

    with concurrent.futures.ThreadPoolExecutor(len(acknowledged)) as pool:
        writers = [pool.submit(write, worker) for worker in range(len(acknowledged))]
        try:
            wait_until(lambda: all(acknowledged), "a writer was never answered")
            server.process.send_signal(signal.SIGTERM)
            assert ended(server) == 0
        finally:
            stop.set()
        last = [writer.result() for writer in writers]
    assert {answer.status for answer in last if answer} <= {503}
    server.start()
    found = set(server.client().namespace("busy").ids(order_by={"field": "id"}, top_k=10000))
    assert found >= {id for ids in acknowledged for id in ids}


def test_sigint_stops_cleanly_without_the_wait(serve):
    server = serve(**LONG_WAIT)
    server.process.send_signal(signal.SIGINT)
    assert ended(server) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_during_the_wait_ends_the_process_by_that_signal(serve, second):
    server = serve(**LONG_WAIT)
    signal_and_wait_for_drain(server)
    server.process.send_signal(second)
    assert ended(server) == -second


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_while_a_request_holds_it_up(serve, second):
    server = serve(**LONG_WAIT)
    server.client().namespace("held").create()
    upsert = SlowUpsert(server, "held", 1)
    signal_and_wait_for_refusals(server, signal.SIGINT)
    server.process.send_signal(second)
    assert ended(server) == -second
    upsert.connection.close()


def test_what_was_acknowledged_is_kept_when_a_second_signal_ends_the_process(serve):
    server = serve(**LONG_WAIT)
    ns = signal_and_wait_for_drain(server).namespace("kept")
    ns.create()
    ns.upsert({"id": 1}, {"id": 2})
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == -signal.SIGTERM
    server.start()
    assert server.client().namespace("kept").ids(order_by={"field": "id"}) == [1, 2]


def test_a_request_that_outlasts_the_time_to_stop_makes_the_status_1_and_the_log_says_why(serve):
    server = serve(ELACSYM_SERVER_SHUTDOWN_TIMEOUT_SECS="1")
    server.client().namespace("held").create()
    upsert = SlowUpsert(server, "held", 1)
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == 1
    assert "requests were still running at the deadline" in server.log()
    upsert.connection.close()


def test_what_was_acknowledged_is_kept_when_the_time_to_stop_runs_out(serve):
    server = serve(ELACSYM_SERVER_SHUTDOWN_TIMEOUT_SECS="1")
    ns = server.client().namespace("held")
    ns.create()
    ns.upsert({"id": 1})
    upsert = SlowUpsert(server, "held", 2)
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == 1
    upsert.connection.close()
    server.start()
    assert server.client().namespace("held").ids(order_by={"field": "id"}) == [1]
