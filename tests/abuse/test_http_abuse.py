"""Clients that are no clients, many at once: what one of them gets is in tests/e2e/test_http.py."""
import gzip
import json
import random
import re
import resource
import select
import socket
import threading
import time

import pytest

from conftest import BODY_MEMORY, MIB

PATH = "/v1/namespaces/nobody"
PLAIN = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
HIDDEN = b"PUT /v1/namespaces/smuggled HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
JSON = "Content-Type: application/json\r\n"


def connect(server, timeout=60):
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


def post(fields, body=b"", tail="/query"):
    return f"POST {PATH}{tail} HTTP/1.1\r\nHost: h\r\n{JSON}{fields}\r\n".encode() + body


def statuses(data):
    return [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def read_to_the_end(s):
    data = b""
    try:
        while more := s.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def in_parallel(count, work):
    found, threads = [], []
    for i in range(count):
        threads.append(threading.Thread(target=lambda i=i: found.append(work(i))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture(scope="module", autouse=True)
def files():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def test_ten_thousand_idle_connections_keep_nobody_from_an_answer(server, long, files):
    count = min(10000 if long else 500, files - 500)
    idle = [connect(server) for _ in range(count)]
    client = server.client()
    connections = re.search(r"^elacsym_http_connections (\d+)$", client.get("/metrics").content.decode(), re.M)
    assert int(connections.group(1)) >= count
    for s in idle[::max(1, count // 50)]:
        s.sendall(PLAIN)
        assert statuses(s.recv(65536)) == [200]
    client.close()
    for s in idle:
        s.close()
    print(f"{count} connections", end="")


CHUNKED = "Transfer-Encoding: chunked\r\n"
LENGTHS = ["+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5.0", "٥", "", " ", "5;", "18446744073709551617", "00000000000000000000000000000000018446744073709551617"]
CODINGS = ["chunked, chunked", "gzip, chunked", "chunked, identity", "xchunked", "chunked;q=1", "\"chunked\"", "\x0bchunked", "identity", "chunk ed", ""]
SIZES = [b"+5\r\nhello", b"-5\r\nhello", b" 5\r\nhello", b"5 \r\nhello", b"0x5\r\nhello", b"5\nhello", b"5\r\r\nhello", b"5;\x00\r\nhello",
         b"5;a=\"\n\"\r\nhello", b"5\r\nhello\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"\r\n", b"g\r\n", b"10000000000000000\r\n",
         b"fffffffffffffffff\r\n", b"0\n\r\n", b"0\r\nA b: c\r\n\r\n", b"0\r\n a: b\r\n\r\n", b"0\r\na: b\n\r\n"]
HEADS = ["X: y\r\n Z: folded\r\n", "X: y\r\n\tfolded\r\n", "X : y\r\n", "X\t: y\r\n", " X: y\r\n", ": y\r\n", "X\r\n", "X: a\rb\r\n", "X: a\nY: b\r\n",
         "X: a\0b\r\n", "Host: i\r\n", "X\x80: y\r\n", "X(: y\r\n"]
LINES = [b"GET  /health HTTP/1.1\r\n", b"GET /health  HTTP/1.1\r\n", b"GET\t/health HTTP/1.1\r\n", b"GET /health\r\n", b"GET /health HTTP/1.1\n",
         b" GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1 \r\n", b"GET /hea\x00lth HTTP/1.1\r\n", b"GET /h\xc3\xa9alth HTTP/1.1\r\n",
         b"GET health HTTP/1.1\r\n", b"GET //user@h HTTP/0.9\r\n", b"GET http://u@h/health HTTP/1.1\r\n", b"CONNECT h:80 HTTP/1.1\r\n", b"GET * HTTP/1.1\r\n",
         b"\r\n\r\nGET /health HTTP/1.1\r\n", b"GET /health HTTP/1.10\r\n", b"GET /health HTTP/2.0\r\n", b"get\x0b/health HTTP/1.1\r\n"]


def smuggling():
    """Requests with another hidden behind them, which nobody may find."""
    for value in LENGTHS:
        yield f"length {value!r}", post(f"Content-Length: {value}\r\n", b"hello" + HIDDEN)
    for pair in (("5", "5"), ("5", "6"), ("0", str(len(HIDDEN)))):
        yield f"lengths {pair}", post("".join(f"Content-Length: {v}\r\n" for v in pair), b"hello" + HIDDEN)
    for value in CODINGS:
        yield f"coding {value!r}", post(f"Transfer-Encoding: {value}\r\n", b"0\r\n\r\n" + HIDDEN)
    for fields in (CHUNKED + "Content-Length: 5\r\n", "Content-Length: 5\r\n" + CHUNKED, CHUNKED + CHUNKED, "transfer-ENCODING:chunked\r\ncontent-length:5\r\n"):
        yield f"framings {fields!r}", post(fields, b"0\r\n\r\n" + HIDDEN)
    for size in SIZES:
        yield f"chunk {size!r}", post(CHUNKED, size + HIDDEN)
    for fields in HEADS:
        yield f"head {fields!r}", f"GET /health HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1") + HIDDEN
    for line in LINES:
        yield f"line {line!r}", line + b"Host: h\r\n\r\n" + HIDDEN


def test_no_request_is_smuggled_behind_another(server):
    tried = 0
    for name, request in smuggling():
        for cut in {0, 1, len(request) // 2, len(request) - len(HIDDEN)}:
            with connect(server) as s:
                s.sendall(request[:cut])
                s.sendall(request[cut:])
                answers = statuses(read_to_the_end(s))
            assert len(answers) == 1 and answers[0] in (400, 413, 431, 501, 505), (name, answers)
            tried += 1
    client = server.client()
    assert client.get("/v1/namespaces/smuggled").status == 404
    client.close()
    print(f"{tried} attempts", end="")


def test_heads_that_are_too_large_are_431_and_lines_that_are_414(server):
    cases = {
        b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n": 414,
        b"GET /health HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 100: 431,
        b"GET /health HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 17000: 431,
    }
    for request, status in cases.items():
        answers = in_parallel(20, lambda _: one_answer(server, request))
        assert answers == [[status]] * 20


def one_answer(server, request):
    with connect(server) as s:
        s.sendall(request)
        return statuses(read_to_the_end(s))


def test_bodies_beyond_all_bounds_are_413_before_they_are_sent(server):
    for size in (16 * MIB + 1, 1 << 30, 1 << 62):
        with connect(server) as s:
            s.sendall(post(f"Content-Length: {size}\r\n", tail="/upsert"))
            assert statuses(read_to_the_end(s)) == [413]


def test_bodies_that_do_not_fit_together_are_429_and_memory_holds(server, long):
    """Each announces 12 MiB and keeps the last of them back; five fit into 64 MiB."""
    count = 60 if long else 16
    waiting = [connect(server) for _ in range(count)]
    head = post(f"Content-Length: {12 * MIB}\r\nConnection: close\r\n", tail="/upsert")

    def send(i):
        try:
            waiting[i].sendall(head + b"[" + b" " * (12 * MIB - 2))
        except (BrokenPipeError, ConnectionResetError):
            pass
    in_parallel(count, send)
    refused = []
    end = time.monotonic() + 60
    while len(refused) < count - 5 and time.monotonic() < end:
        for s in select.select([s for s in waiting if s not in refused], [], [], 0.1)[0]:
            refused.append(s)
            assert statuses(read_to_the_end(s)) in ([429], []), "a reset may overtake the answer"
    assert len(refused) >= count - 5
    for s in waiting:
        if s not in refused:
            s.sendall(b"]")
            assert statuses(read_to_the_end(s)) == [404]
        s.close()
    print(f"{len(refused)} of {count} refused; {BODY_MEMORY // MIB} MiB for all", end="")


def test_gzip_bombs_are_413(server, long):
    bomb = gzip.compress(b" " * (200 * MIB), 9)
    request = post(f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\nConnection: close\r\n", bomb, "/upsert")
    answers = in_parallel(40 if long else 8, lambda _: one_answer(server, request))
    assert {status for found in answers for status in found} <= {413, 429}
    assert [413] in answers


def test_a_thousand_requests_in_one_write_are_answered_in_order(server):
    with connect(server) as s:
        requests = b"".join(f"GET /health HTTP/1.1\r\nHost: h\r\nX-Request-Id: p-{i}\r\n\r\n".encode() for i in range(1000))
        sender = threading.Thread(target=s.sendall, args=(requests,))
        sender.start()
        data = b""
        while data.count(b"\r\n\r\n{") < 1000:
            data += s.recv(65536)
        sender.join()
    assert [int(n) for n in re.findall(rb"[Xx]-[Rr]equest-[Ii]d: p-(\d+)", data)] == list(range(1000))


def test_clients_that_leave_at_any_moment_leave_nothing_behind(server, long):
    request = post("Content-Length: 12\r\n", b'{"top_k": 1}')
    for i in range(3000 if long else 300):
        with connect(server) as s:
            s.sendall(request[:i % len(request)])
            if i % 3 == 0:  # RST, not FIN
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client = server.client()
    for _ in range(200):
        if "\nelacsym_http_in_flight 1\n" in client.get("/metrics").content.decode():
            break
        time.sleep(0.05)
    else:
        pytest.fail("requests are still in flight")
    client.close()


def test_noise_is_refused_or_answered_and_never_more(server, seed, long):
    chance = random.Random(seed)
    good = [PLAIN, post("Content-Length: 2\r\n", b"{}"), post(CHUNKED, b"2\r\n{}\r\n0\r\n\r\n")]
    for _ in range(5000 if long else 500):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at:at + chance.randrange(3)] = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
            data = data or bytearray(b"\n")
        with connect(server) as s:
            s.sendall(bytes(data))
            s.shutdown(socket.SHUT_WR)
            for status in statuses(read_to_the_end(s)):
                assert status < 500 or status in (501, 505), bytes(data)


def test_a_flood_of_requests_is_answered_or_told_to_come_back(server, long):
    client = server.client()
    flood = client.namespace("flood")
    flood.create(vector_dim=32, attributes={"t": {"type": "string", "full_text": True}})
    flood.upsert(*({"id": i, "vector": [i % 13 + 1] * 32, "attributes": {"t": f"word{i % 9} in all"}} for i in range(3000)))
    body = json.dumps({"vector": [1] * 32, "full_text": {"fields": ["t"], "query": "word1 in all"}, "top_k": 500}).encode()
    end = time.monotonic() + (10 if long else 2)

    def ask(_):
        own, seen = server.client(), {}
        while time.monotonic() < end:
            answer = own.ask("POST", "/v1/namespaces/flood/query", body)
            assert answer.status == 200 or answer.headers["Retry-After"], answer
            seen[answer.status] = seen.get(answer.status, 0) + 1
        own.close()
        return seen
    found = in_parallel(64, ask)
    total = {status: sum(seen.get(status, 0) for seen in found) for status in {s for seen in found for s in seen}}
    assert set(total) <= {200, 429} and total[200] > 0
    flood.drop()
    client.close()
    print(total, end="")


def drip(server, sockets, text, seconds):
    """One byte of text to each every second, for ever; the statuses that come back."""
    got, at, end = {}, 0, time.monotonic() + seconds
    open_sockets = set(sockets)
    while open_sockets and time.monotonic() < end:
        for s in list(open_sockets):
            try:
                s.send(text[at % len(text):at % len(text) + 1])
            except OSError:
                pass
        at += 1
        readable, _, _ = select.select(list(open_sockets), [], [], 1.0)
        for s in readable:
            data = read_to_the_end(s)
            for status in statuses(data) or [0]:
                got[status] = got.get(status, 0) + 1
            open_sockets.discard(s)
        time.sleep(max(0, 0.5))
    assert not open_sockets, f"{len(open_sockets)} are still open"
    return got


def test_heads_and_bodies_that_drip_are_408(server, long):
    if not long:
        pytest.skip("a head has ten seconds (make http-abuse)")
    heads = [connect(server) for _ in range(300)]
    assert drip(server, heads, b"GET /health HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 10, 40) == {408: 300}
    bodies = [connect(server) for _ in range(300)]
    for s in bodies:
        s.sendall(post("Content-Length: 100000\r\n"))
    assert drip(server, bodies, b" ", 60) == {408: 300}


def test_clients_that_do_not_read_their_answers_are_let_go(server, long):
    if not long:
        pytest.skip("an answer has ten seconds for 100 KiB (make http-abuse)")
    client = server.client()
    big = client.namespace("big")
    big.create(attributes={"t": "string"})
    big.upsert(*({"id": i, "attributes": {"t": "x" * 4000}} for i in range(1000)))
    body = b'{"order_by":{"field":"id"},"top_k":1000}'
    deaf = []
    for _ in range(8):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"POST /v1/namespaces/big/query HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        deaf.append(s)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if "\nelacsym_http_in_flight 1\n" in client.get("/metrics").content.decode():
            break
        time.sleep(0.2)
    else:
        pytest.fail("they are still served")
    for s in deaf:
        s.close()
    big.drop()
    client.close()
